// "Which heads write Paris?": a query is a head, a layer, a category, a relation, a way of reading, a pair, or a word among hits and salient operations.

import type { Classified } from "./classify";
import { type AtlasData, type Explored, NOTHING } from "./data";
import type { Side } from "./message";
import { spoken } from "./names";
import { atlasesListed, atlasesShown, type View } from "./state";

/** A head that matches a query in one atlas. */
interface Match {
  place: number;
  /** Number of the relation that the row is about, or SALIENT, or SOUGHT, or FIRST_READING - n for the n-th way of reading. */
  relation: number;
  why: string;
}

/** A row of the table: a head and a relation, with a share for each atlas that is shown. */
export interface Row extends Match {
  shares: number[];
  /** If two atlases are shown: how the head changes from A to B, for this relation. */
  change: "" | "kept" | "gained" | "lost";
}

export interface Found {
  rows: Row[];
  summary: string;
  /** By atlas of the page: places that match; null without a query. */
  matches: (Uint8Array | null)[];
}

/** In the place of a relation's number: the row is about salient operations, words that the head looks for, or the first way of reading. */
const [SALIENT, SOUGHT, FIRST_READING] = [-1, -2, -3];

/** The number of the way of reading that a row is about; undefined if it is about none. */
export const behaviourOf = (relation: number): number | undefined =>
  relation <= FIRST_READING ? FIRST_READING - relation : undefined;

/** What a row is about, in words. */
export function aboutOf(atlas: AtlasData, relation: number): string {
  const behaviour = behaviourOf(relation);
  if (behaviour !== undefined) return `looks at: ${atlas.facts.reading![behaviour].title.toLowerCase()}`;
  if (relation === SOUGHT) return "words that it looks for";
  const named = atlas.facts.relations[relation];
  return named ? spoken(named.name) : "salient operations";
}

/** The rows of a view. */
export function search(explored: Explored, classified: Classified[], view: View): Found {
  const asked = view.query.trim() !== "";
  const searched = (which: number) => searchOne(explored.atlases[which], classified[which], view);
  const shownOnes = atlasesListed(explored, view);
  const each = shownOnes.map(searched);
  const found = each.length === 1 ? each[0].found : joined(each[0].found, each[1].found);
  const share = shownOnes.map((which) => {
    const [atlas, of] = [explored.atlases[which], explored.atlases[which].shares(view.side)];
    return (relation: number, place: number) =>
      relation <= FIRST_READING
        ? atlas.reading(behaviourOf(relation)!, place)
        : relation < 0
          ? NaN
          : of(relation, place);
  });
  const does = (which: number, { place, relation }: Match) =>
    relation <= FIRST_READING
      ? explored.atlases[which].reads(behaviourOf(relation)!, place)
      : relation >= 0 && classified[which].implements[relation * explored.atlases[which].size + place] === 1;
  const changeOf = (match: Match): Row["change"] => {
    const [before, after] = [does(0, match), does(1, match)];
    return before && after ? "kept" : after ? "gained" : before ? "lost" : "";
  };
  let rows = found.map((match): Row => {
    const { place, relation, why } = match;
    return {
      place,
      relation,
      why,
      shares: share.map((of) => of(relation, place)),
      change: shownOnes.length > 1 ? changeOf(match) : "",
    };
  });
  let { summary } = each[0];
  if (view.compare === "difference" && !asked) {
    rows = view.relation
      ? rows.filter(({ shares }) => shares[0] !== shares[1])
      : rows.filter(({ change }) => change === "gained" || change === "lost");
    summary = view.relation
      ? `heads whose ${view.side} of ${spoken(view.relation)} differs`
      : "heads that gain or lose a relation";
  }
  const matches = explored.atlases.map((atlas, which) => {
    const at = shownOnes.indexOf(which);
    if (!asked || !atlasesShown(view).includes(which)) return null;
    const set = new Uint8Array(atlas.size);
    // In the difference, A and B are one map.
    for (const { found } of view.compare === "difference" ? each : [at < 0 ? searched(which) : each[at]])
      for (const { place } of found) set[place] = 1;
    return set;
  });
  return { rows, summary, matches };
}

const fold = (text: string) => text.trim().toLocaleLowerCase();
const LINKS = new Set(["to", "of", "the", "a", "and", "which", "heads", "head"]);
const ARROW = /\s*(?:->|=>|→)\s*/;

/** One form for a word and its plural. */
const stem = (word: string) => (word.length > 3 ? word.replace(/ies$/, "y").replace(/s$/, "") : word);
const wordsOf = (text: string) => text.split(/[\s_]+/).filter(Boolean);
const partsOf = (name: string) => wordsOf(fold(name)).map(stem);

function searchOne(atlas: AtlasData, classified: Classified, view: View): { found: Match[]; summary: string } {
  const { relations, notMeasured } = atlas.facts;
  const { side } = view;
  const typed = view.query.trim();
  const wanted = fold(typed);
  const chosen = atlas.relation(view.relation);
  if (view.relation && chosen < 0) return { found: [], summary: `${spoken(view.relation)} was not measured here` };
  if (!wanted) {
    if (view.what === "reading") return { found: looking(atlas, () => true), summary: "heads and where they look" };
    if (view.what === "both" && chosen < 0)
      return {
        found: [...implementing(atlas, classified, () => true), ...looking(atlas, () => true)],
        summary: "heads, the relations they implement, and where they look",
      };
    if (chosen < 0)
      return { found: implementing(atlas, classified, () => true), summary: "heads and the relations they implement" };
    const found = places(atlas).filter((place) => atlas.share(side, chosen, place) > 0);
    return {
      found: found.map((place) => ({ place, relation: chosen, why: "" })),
      summary: `heads with any hit of ${spoken(view.relation)}`,
    };
  }
  const within = ({ found, summary }: { found: Match[]; summary: string }) =>
    chosen < 0
      ? { found, summary }
      : {
          found: found.filter(({ relation }) => relation === chosen),
          summary: `${summary}; of ${spoken(view.relation)} alone`,
        };

  const place = atlas.place(typed);
  if (place !== undefined)
    return within({ found: hitting(atlas, side, [place]), summary: `${atlas.name(place)}: its relations` });
  const { layers, heads } = atlas.facts;
  if (/^l\d+\s*h\s*\d+$/i.test(typed))
    return { found: [], summary: `no head ${typed}: layers are 0 to ${layers - 1}, heads 0 to ${heads - 1}` };
  const inLayer = /^(?:l|layer\s*)(\d+)$/i.exec(typed);
  if (inLayer) {
    const layer = Number(inLayer[1]);
    if (layer >= layers) return { found: [], summary: `no layer ${layer}: layers are 0 to ${layers - 1}` };
    return within({
      found: hitting(
        atlas,
        side,
        places(atlas).filter((each) => Math.floor(each / heads) === layer),
      ),
      summary: `heads of layer ${layer}, and their relations`,
    });
  }
  if (wanted === "unclassified")
    return within({
      found: hitting(
        atlas,
        side,
        places(atlas).filter((each) => !classified.counts[each]),
      ),
      summary: "heads without a category, and the relations that they hit",
    });
  const category =
    classified.categories.find((name) => fold(name) === wanted) ??
    classified.categories.find((name) => wanted.length > 2 && fold(name).startsWith(wanted));
  if (category)
    return within({
      found: implementing(atlas, classified, (number) => relations[number].category === category),
      summary: `heads of the category ${category}`,
    });

  const asName = wanted.split(ARROW).join(" to ");
  const named = relations.flatMap((each, number) => (isNamed(each.name, asName) ? [number] : []));
  if (ARROW.test(wanted) && named.length)
    return within({
      found: implementing(atlas, classified, (number) => named.includes(number)),
      summary: `heads of ${named.map((number) => spoken(relations[number].name)).join(", ")}`,
    });
  const [source, target] = typed.split(ARROW).map(fold);
  if (target !== undefined && source && target) {
    const [from, to] = [numbersOf(atlas, source), numbersOf(atlas, target)];
    const found = hitPairs(atlas, side, (one, other) => from.has(one) && to.has(other));
    return within({
      found: [
        ...joined(
          found,
          operating(atlas, side, (one, other) => from.has(one) && to.has(other)),
        ),
        ...seeking(atlas, (asking, sought) => from.has(asking) && to.has(sought)),
      ],
      summary: `heads that map “${source}” to “${target}”${atlas.facts.readingWords ? `, or look from “${source}” for “${target}”` : ""}`,
    });
  }

  const meant = naming(
    relations.map((each) => each.name),
    wanted,
  );
  const numbers = numbersOf(atlas, wanted);
  const said = joined(
    joined(
      hitPairs(atlas, side, (one, other) => numbers.has(one) || numbers.has(other)),
      operating(atlas, side, (one, other, best) => numbers.has(other) || (best && numbers.has(one))),
    ),
    seeking(atlas, (asking, sought) => numbers.has(asking) || numbers.has(sought)),
  );
  const behaviours = atlas.facts.reading ?? [];
  const ways = behaviours
    .map((each, number) => [fold(each.title), fold(each.name), number] as const)
    .filter((each) => wanted.length > 2 && each.slice(0, 2).some((name) => String(name).startsWith(wanted)))
    .map((each) => each[2]);
  if (ways.length)
    return within({
      found: joined(
        looking(atlas, (behaviour) => ways.includes(behaviour)),
        said,
      ),
      summary:
        `heads that look at: ${ways.map((number) => behaviours[number].title.toLowerCase()).join(", ")}` +
        (said.length ? ", or with the word itself" : ""),
    });
  const missing = naming(
    notMeasured.map((each) => each.name),
    wanted,
  ).map((number) => notMeasured[number]);
  const unmeasured = missing
    .map(
      ({ name, pairs }) =>
        `${spoken(name)} was not measurable${pairs === null ? "" : `: ${pairs} pairs of single tokens`}`,
    )
    .join("; ");
  if (meant.length) {
    const summary = `heads of ${meant.length > 3 ? `${meant.length} relations named like “${typed}”` : meant.map((number) => spoken(relations[number].name)).join(", ")}`;
    const found = implementing(atlas, classified, (number) => meant.includes(number));
    return within({
      found: joined(found, said),
      summary: [summary + (said.length ? ", or with the word itself" : ""), unmeasured].filter(Boolean).join("; "),
    });
  }
  if (said.length || unmeasured)
    return within({
      found: said,
      summary: [
        said.length
          ? `heads that ${side === "score" ? "write" : "suppress"} or read the word “${typed}”${atlas.facts.readingWords ? ", or look for it" : ""}`
          : "",
        unmeasured,
      ]
        .filter(Boolean)
        .join("; "),
    });

  // "capital of France": some words name relations, the others are words of their pairs.
  const words = wordsOf(wanted).filter((word) => !LINKS.has(word));
  const namers = words.filter(
    (word) =>
      naming(
        relations.map((each) => each.name),
        word,
      ).length > 0,
  );
  const others = numbersOf(atlas, words.filter((word) => !namers.includes(word)).join(" "));
  if (namers.length && others.size) {
    const among = naming(
      relations.map((each) => each.name),
      namers.join(" "),
    );
    const found = hitPairs(
      atlas,
      side,
      (one, other, relation) => among.includes(relation) && (others.has(one) || others.has(other)),
    );
    if (found.length)
      return within({
        found,
        summary: `heads that hit such a pair of ${among.map((number) => spoken(relations[number].name)).join(", ")}`,
      });
  }
  const described = relations
    .map((each, number) => [fold(each.description), number] as const)
    .filter(([text]) => wanted.length > 3 && text.includes(wanted))
    .map(([, number]) => number);
  if (described.length)
    return within({
      found: implementing(atlas, classified, (number) => described.includes(number)),
      summary: `heads of relations whose description says “${typed}”`,
    });
  const example = relations[0]?.name;
  return {
    found: [],
    summary: `nothing matches “${typed}”. Try a head (L0H0), a category (${classified.categories.join(", ") || "none here"})${example ? `, a relation (${spoken(example)})` : ""}, a pair (France -> Paris) or one word`,
  };
}

/** Whether these words are a relation's name, as it is stored or as people say it. */
const isNamed = (name: string, words: string) =>
  [name.replaceAll("_", " "), spoken(name).replace(ARROW, " to ")].some((each) => fold(each) === words);

/** Numbers of the names that a query means: the name itself, or names with all its words, or with words that begin with them. */
function naming(names: string[], wanted: string): number[] {
  const numbered = names.map((name, number) => ({ name: fold(name), parts: partsOf(name), number }));
  const chosen = (test: (each: (typeof numbered)[0]) => boolean) => numbered.filter(test).map((each) => each.number);
  const exact = chosen((each) => each.name === wanted || each.name.replaceAll("_", " ") === wanted);
  if (exact.length) return exact;
  const words = wordsOf(wanted)
    .filter((word) => !LINKS.has(word))
    .map(stem);
  if (!words.length) return [];
  const whole = chosen(({ parts }) => words.every((word) => parts.includes(word)));
  if (whole.length) return whole;
  return words.every((word) => word.length > 2)
    ? chosen(({ parts }) => words.every((word) => parts.some((part) => part.startsWith(word))))
    : [];
}

const places = (atlas: AtlasData) =>
  Array.from({ length: atlas.size }, (_, place) => place).filter((place) => atlas.hasHeads(place));

function implementing(atlas: AtlasData, classified: Classified, chosen: (relation: number) => boolean): Match[] {
  const found: Match[] = [];
  for (let relation = 0; relation < atlas.facts.relations.length; relation++)
    if (chosen(relation))
      for (let place = 0; place < atlas.size; place++)
        if (classified.implements[relation * atlas.size + place]) found.push({ place, relation, why: "" });
  return found;
}

/** The heads that are named for some ways of reading. */
function looking(atlas: AtlasData, chosen: (behaviour: number) => boolean): Match[] {
  return (atlas.facts.reading ?? []).flatMap((_, behaviour) =>
    chosen(behaviour)
      ? places(atlas)
          .filter((place) => atlas.reads(behaviour, place))
          .map((place) => ({ place, relation: FIRST_READING - behaviour, why: "" }))
      : [],
  );
}

/** Each relation that these heads hit at least once. */
function hitting(atlas: AtlasData, side: Side, of: number[]): Match[] {
  return of
    .flatMap((place) => atlas.facts.relations.map((_, relation) => ({ place, relation, why: "" })))
    .filter(({ place, relation }) => atlas.share(side, relation, place) > 0);
}

function numbersOf(atlas: AtlasData, wanted: string): Set<number> {
  const numbers = new Set<number>();
  if (!wanted) return numbers;
  for (const [number, word] of atlas.words.entries()) if (fold(word) === wanted) numbers.add(number);
  return numbers;
}

const MOST_RELATIONS = 2 ** 20;

/** Two lists as one, with one row for each head and relation and every reason why it matches. */
function joined(first: Match[], second: Match[]): Match[] {
  const rows = new Map<number, Match>();
  for (const match of [...first, ...second]) {
    const key = match.place * MOST_RELATIONS + match.relation;
    const known = rows.get(key);
    if (!known) rows.set(key, match);
    else if (match.why && known.why !== match.why)
      rows.set(key, { ...known, why: [known.why, match.why].filter(Boolean).join("; ") });
  }
  return [...rows.values()];
}

/** Heads that hit one of the wanted pairs; `wanted` receives numbers of words and of the relation. */
function hitPairs(
  atlas: AtlasData,
  side: Side,
  wanted: (source: number, target: number, relation: number) => boolean,
): Match[] {
  const at = atlas.get("hit.place");
  if (!at) return [];
  const [pairs, sides] = [atlas.get("hit.pair")!, atlas.get("hit.side")!];
  const [sources, targets, relations] = [
    atlas.get("pair.source")!,
    atlas.get("pair.target")!,
    atlas.get("pair.relation")!,
  ];
  const good = Uint8Array.from(sources, (source, pair) => (wanted(source, targets[pair], relations[pair]) ? 1 : 0));
  const seen = new Map<string, Match>();
  for (let hit = 0; hit < at.length; hit++) {
    if (!good[pairs[hit]] || (sides[hit] === 0) !== (side === "score")) continue;
    const { relation, source, target } = atlas.pair(pairs[hit]);
    const key = `${at[hit]}:${relation}`;
    const why = `${source} → ${target}`;
    const row = seen.get(key);
    if (row) row.why += `, ${why}`;
    else seen.set(key, { place: at[hit], relation, why });
  }
  return [...seen.values()];
}

/** Heads with a wanted salient operation; `wanted` also receives whether the mapped token is the first. */
function operating(
  atlas: AtlasData,
  side: Side,
  wanted: (token: number, mapped: number, first: boolean) => boolean,
): Match[] {
  const { salient } = atlas.facts;
  if (!salient) return [];
  const [tokens, mapped] = [atlas.get("salient.token")!, atlas.get("salient.mapped")!];
  const lowest = side === "score" ? 0 : 1;
  const found: Match[] = [];
  for (let place = 0; place < atlas.size; place++)
    ranks: for (let rank = 0; rank < salient.tokens; rank++) {
      const token = tokens[place * salient.tokens + rank];
      if (token === NOTHING) continue;
      for (let to = 0; to < salient.mapped; to++) {
        const other = mapped[((place * salient.tokens + rank) * 2 + lowest) * salient.mapped + to];
        if (other === NOTHING || !wanted(token, other, to === 0)) continue;
        found.push({
          place,
          relation: SALIENT,
          why: `salient: ${atlas.word(token).trim()} → ${atlas.word(other).trim()}`,
        });
        break ranks;
      }
    }
  return found;
}

/** Heads that look for a wanted word by their weights; `wanted` receives the word that looks, NOTHING if it is any, and the one looked for. */
function seeking(atlas: AtlasData, wanted: (asking: number, sought: number) => boolean): Match[] {
  const sizes = atlas.facts.readingWords;
  if (!sizes) return [];
  const [any, queries, ofQuery] = ["any.key", "pair.query", "pair.key"].map((name) => atlas.get(`words.${name}`)!);
  const found: Match[] = [];
  for (let place = 0; place < atlas.size; place++) {
    const seen: string[] = [];
    for (let rank = 0; rank < sizes.keys; rank++) {
      const word = any[place * sizes.keys + rank];
      if (word !== NOTHING && wanted(NOTHING, word)) seen.push(`looks for ${atlas.word(word).trim()}`);
    }
    for (let rank = 0; rank < sizes.queries; rank++) {
      const at = place * sizes.queries + rank;
      for (let to = 0; to < sizes.ofQuery; to++) {
        const word = ofQuery[at * sizes.ofQuery + to];
        if (word === NOTHING || !wanted(queries[at], word)) continue;
        seen.push(`${atlas.word(queries[at]).trim()} looks for ${atlas.word(word).trim()}`);
        break;
      }
    }
    if (seen.length) found.push({ place, relation: SOUGHT, why: seen.join(", ") });
  }
  return found;
}
