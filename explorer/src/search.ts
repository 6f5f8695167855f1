// "Which heads write Paris?": a query is a head's name, a category, a relation, or a word among hits and operations.

import type { Classified } from "./classify";
import { NOTHING, type AtlasData, type Kind } from "./data";

export interface Row {
  place: number;
  /** Number of the relation that the row is about; -1 where it is about none. */
  relation: number;
  share: number;
  why: string;
}

export interface Found {
  rows: Row[];
  said: string;
}

const fold = (text: string) => text.trim().toLocaleLowerCase();

export function search(atlas: AtlasData, classified: Classified, kind: Kind, query: string, relation: string): Found {
  const { relations } = atlas.told;
  const wanted = fold(query);
  const place = atlas.place(query);
  if (place !== undefined) {
    const rows = relations.map((each, number) => ({ place, relation: number, share: atlas.share(kind, number, place), why: "" }));
    return { rows: rows.filter((row) => row.share > 0), said: `${atlas.name(place)}: its relations` };
  }
  const implemented = (chosen: (number: number) => boolean) => {
    const rows: Row[] = [];
    for (let number = 0; number < relations.length; number++)
      if (chosen(number))
        for (let at = 0; at < atlas.size; at++)
          if (classified.implements[number * atlas.size + at])
            rows.push({ place: at, relation: number, share: atlas.share(kind, number, at), why: "" });
    return rows;
  };
  if (!wanted) {
    if (!relation) return { rows: implemented(() => true), said: "heads and the relations they implement" };
    const number = relations.findIndex((each) => each.name === relation);
    const rows: Row[] = [];
    for (let at = 0; at < atlas.size; at++) {
      const share = atlas.share(kind, number, at);
      if (share > 0) rows.push({ place: at, relation: number, share, why: "" });
    }
    return { rows, said: `heads with any hit of ${relation}` };
  }
  const category = classified.categories.find((name) => fold(name) === wanted);
  if (category) return { rows: implemented((number) => relations[number].category === category), said: `heads of the category ${category}` };
  const named = relations.map((each, number) => [fold(each.name), number] as const).filter(([name]) => name === wanted || name.replaceAll("_", " ") === wanted || (wanted.length > 2 && name.includes(wanted.replaceAll(" ", "_"))));
  const rows = named.length ? implemented((number) => named.some(([, other]) => other === number)) : [];
  rows.push(...written(atlas, kind, wanted));
  const said = named.length ? `relations named like “${query.trim()}”, and the word itself` : `heads that write or read the word “${query.trim()}”`;
  return { rows, said };
}

/** Heads that hit a pair with the word, or have it among their salient operations. */
function written(atlas: AtlasData, kind: Kind, wanted: string): Row[] {
  const rows: Row[] = [];
  const numbers = new Set<number>();
  atlas.words.forEach((word, number) => fold(word) === wanted && numbers.add(number));
  if (!numbers.size) return rows;
  const seen = new Map<string, Row>();
  const places = atlas.get("hit.place");
  if (places) {
    const [pairs, kinds] = [atlas.get("hit.pair")!, atlas.get("hit.kind")!];
    const [sources, targets] = [atlas.get("pair.source")!, atlas.get("pair.target")!];
    for (let at = 0; at < places.length; at++) {
      const pair = pairs[at];
      if ((kinds[at] === 0) !== (kind === "score")) continue;
      const [reads, writes] = [numbers.has(sources[pair]), numbers.has(targets[pair])];
      if (!reads && !writes) continue;
      const { relation, source, target } = atlas.pair(pair);
      const key = `${places[at]}:${relation}`;
      const why = `${source} → ${target}`;
      const row = seen.get(key);
      if (row) row.why += `, ${why}`;
      else seen.set(key, { place: places[at], relation, share: atlas.share(kind, relation, places[at]), why });
    }
  }
  rows.push(...seen.values());
  const operations = atlas.told.operations;
  if (operations) {
    const [tokens, mapped] = [atlas.get("op.token")!, atlas.get("op.mapped")!];
    const side = kind === "score" ? 0 : 1;
    for (let place = 0; place < atlas.size; place++) {
      let why = "";
      for (let rank = 0; rank < operations.tokens; rank++) {
        const token = tokens[place * operations.tokens + rank];
        if (token === NOTHING) continue;
        for (let to = 0; to < operations.mapped; to++) {
          const other = mapped[((place * operations.tokens + rank) * 2 + side) * operations.mapped + to];
          if (other !== NOTHING && (numbers.has(other) || (to === 0 && numbers.has(token)))) {
            why ||= `salient: ${atlas.word(token).trim()} → ${atlas.word(other).trim()}`;
            break;
          }
        }
      }
      if (why) rows.push({ place, relation: -1, share: NaN, why });
    }
  }
  return rows;
}
