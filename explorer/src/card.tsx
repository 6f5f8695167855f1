// The card of one head: what it does, how sure that is, and where to go from it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Classified, categoriesAt, thresholdShare, wilson } from "./classify";
import { type AtlasData, alike, type Edge, type Explored, NOTHING, type Removed } from "./data";
import { example, pairCounts } from "./examples";
import type { Side } from "./message";
import { shown, spoken, topic } from "./names";
import { atlasName } from "./panels";
import { PromptOfHead } from "./prompt";
import { PROPORTIONS } from "./proportions";
import type { View } from "./state";

const NOT_MEASURED = "not measured";
const MOST_BARS = 8;
const MOST_GIST = 3;
const FEW_BARS = 3;
const MOST_RELATIONS = 4;
const MOST_MISSED = 6;
const MOST_TOKENS = 8;
const MOST_EXAMPLES = 12;
/** Edges of each kind before all are asked for. */
const FEW_EDGES = 3;
const MOST_OTHERS = 5;

interface CardProps {
  explored: Explored;
  which: number;
  atlas: AtlasData;
  classified: Classified;
  /** What heads do the other way: suppress, if the view is about what they promote. */
  opposite: Classified | null;
  /** Replaces the identifiers of relations in a text. */
  speak: (text: string) => string;
  view: View;
  place: number;
  colours: Map<string, string>;
  /** Whether the view has the settings that the description was written for. */
  own: boolean;
  /** Between the atlases of a page of two. */
  choice: ComponentChildren;
  onSelect: (head: string) => void;
  /** Mark another head in the map, or none. */
  onHint: (place: number | undefined) => void;
  onRelation: (name: string) => void;
  onClose: () => void;
  /** Open the card of a head of the other atlas. */
  onOther: (place: number) => void;
}

export function Card({
  explored,
  which,
  atlas,
  classified,
  opposite,
  speak,
  view,
  place,
  colours,
  own,
  choice,
  onSelect,
  onHint,
  onRelation,
  onClose,
  onOther,
}: CardProps) {
  const { facts } = atlas;
  const [layer, head] = [Math.floor(place / facts.heads), place % facts.heads];
  const name = atlas.name(place);
  const words = (array: string) => {
    const number = atlas.get(array)?.[place];
    return number === undefined || number === NOTHING ? "" : atlas.word(number);
  };
  if (!atlas.hasHeads(place)) {
    const why = facts.validityGroups.find((each) => each.layers.includes(layer));
    return (
      <section class="ha-card" aria-label={`Card of ${name}`}>
        <CardHead {...{ name, choice, onClose }} />
        <p>
          Layer {layer} has no attention heads{why?.why ? `: ${why.why}` : ""}.
        </p>
      </section>
    );
  }
  const categories = categoriesAt(classified, place);
  const group = facts.kvHeads && facts.kvHeads < facts.heads ? facts.heads / facts.kvHeads : 1;
  const first = Math.floor(head / group) * group;
  const siblings = Array.from({ length: group }, (_, at) => first + at).filter((other) => other !== head);
  const inLayer = Array.from({ length: facts.heads }, (_, at) => layer * facts.heads + at).filter(
    (at) => classified.counts[at],
  ).length;
  const confidence = atlas.get("confidence")?.[place] ?? 0;
  /** Not where it only repeats the other one. */
  const isShown = (array: "sentence" | "description") => atlas.get(`${array}.shown`)?.[place] !== 0;
  const against = opposite ? categoriesAt(opposite, place) : [];
  const missing = missingOf(atlas, view.side);
  return (
    <section class="ha-card" aria-label={`Card of ${name}`}>
      <CardHead {...{ name, choice, onClose }} />
      <p class="ha-chips">
        {categories.map((category) => (
          <span class="ha-chip" key={category}>
            <i style={{ background: colours.get(category) }} />
            {category}
          </span>
        ))}
        {against.map((category) => (
          <span class="ha-chip" key={category}>
            <i class="frame" style={{ borderColor: colours.get(category) }} />
            {view.side === "score" ? "Suppresses" : "Promotes"}: {category}
          </span>
        ))}
        {!categories.length && !against.length && <span class="ha-chip quiet">{PROPORTIONS.rest}</span>}
        <span class="ha-quiet">{atlasName(explored, which)}</span>
      </p>
      <Gist {...{ atlas, classified, view, place }} />
      {isShown("sentence") && (
        <>
          <h3>In a sentence</h3>
          <p>
            {shown(speak(words("sentence"))) || NOT_MEASURED}
            {!own && (
              <span class="ha-note">
                {" "}
                Written for scores above {facts.threshold}, rule {facts.rule}.
              </span>
            )}
          </p>
        </>
      )}
      {facts.descriptions && isShown("description") && (
        <>
          <h3>What it does most</h3>
          <p>
            {shown(speak(words("description"))) || NOT_MEASURED}{" "}
            {words("rule") && words("rule") !== "unclear" && (
              <span class="ha-quiet">
                ({speak(words("rule"))}, confidence {confidence.toFixed(2)})
              </span>
            )}
          </p>
        </>
      )}
      {facts.written && <Sentence {...{ atlas, place }} />}
      {facts.prompt && <PromptOfHead {...{ atlas, place }} />}
      {explored.functions && <Others {...{ explored, view, which, place, onOther }} />}
      <Bars {...{ explored, atlas, classified, view, place, colours, onRelation }} />
      {facts.pairs && <Examples {...{ atlas, view, place }} />}
      {facts.reading && (
        <>
          <h3>Where it looks</h3>
          <Looks {...{ explored, atlas, view, place }} />
        </>
      )}
      {facts.composition && <Composed {...{ explored, atlas, place, onSelect, onHint }} />}
      {facts.readingWords && <LookedFor {...{ atlas, place }} />}
      {facts.salient && <Operations {...{ atlas, place }} />}
      {(facts.validation || facts.ablation) && (
        <>
          <h3>Evidence from the running model</h3>
          {facts.validation && <Validation {...{ atlas, view, place, classified }} />}
          {facts.ablation && <Ablation {...{ atlas, classified, place }} />}
        </>
      )}
      {facts.similar > 0 && (
        <>
          <h3>Similar heads</h3>
          <Similar {...{ atlas, place, onSelect, classified, colours }} />
        </>
      )}
      <h3>Position</h3>
      <p>
        {facts.kvHeads === null ? (
          "Whether other heads share its values is not known. "
        ) : siblings.length ? (
          <>
            It shares its values with{" "}
            {siblings.map((other, at) => (
              <span key={other}>
                {at ? ", " : ""}
                <button type="button" class="ha-link" onClick={() => onSelect(`L${layer}H${other}`)}>
                  L{layer}H{other}
                </button>
              </span>
            ))}
            .{" "}
          </>
        ) : (
          "It has values of its own. "
        )}
        Of the {facts.heads} heads of layer {layer}, {inLayer} {inLayer === 1 ? "has" : "have"} a category. Circuit:{" "}
        {facts.validity[layer]}.
      </p>
      {missing.length > 0 && (
        <>
          <h3>Not measured</h3>
          <ul class="ha-quiet ha-missing">
            {missing.map(([what, command]) => (
              <li key={what}>
                {what}: not measured
                {command && (
                  <>
                    {" "}
                    (<code>headatlas {command}</code>)
                  </>
                )}
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

/** What the head is about, with a pair of each of its strongest relations: "countries · France → Paris, ...". */
function Gist({ atlas, classified, view, place }: Pick<CardProps, "atlas" | "classified" | "view" | "place">) {
  const { relations } = atlas.facts;
  const own = relations.flatMap((_, number) => (classified.implements[number * atlas.size + place] ? [number] : []));
  if (!own.length) return null;
  const share = atlas.shares(view.side);
  own.sort(
    (one, other) =>
      Number(relations[one].copying) - Number(relations[other].copying) || share(other, place) - share(one, place),
  );
  const counts = pairCounts(atlas, view.side);
  const pairs = own.slice(0, MOST_GIST).flatMap((number) => example(atlas, view.side, place, number, counts) ?? []);
  return (
    <p class="ha-gist">
      <strong>{topic(own.map((number) => relations[number].name)) || spoken(relations[own[0]].name)}</strong>
      {pairs.map(({ source, target }, at) => (
        <span key={`${source} ${target}`}>
          {at ? ", " : " · "}
          <span class="ha-pair">
            <bdi>{shown(source.trim())}</bdi> → <bdi>{shown(target.trim())}</bdi>
          </span>
        </span>
      ))}
    </p>
  );
}

/** What a language model wrote, and how often it, and the rules' sentence, led to the head's held-out mappings. */
function Sentence({ atlas, place }: { atlas: AtlasData; place: number }) {
  const number = atlas.get("written.sentence")![place];
  if (number === NOTHING) return null;
  const [right, byRules, questions] = atlas.get("written.right")!.subarray(3 * place, 3 * place + 3);
  const { model, chance } = atlas.facts.written!;
  return (
    <>
      <h3>By a language model</h3>
      <p>
        {shown(atlas.word(number))}{" "}
        <span class="ha-quiet">
          ({shown(model)}; right {right} of {questions}, the rules’ sentence {byRules} of {questions};{" "}
          {chance.toFixed(2)} by chance)
        </span>
      </p>
    </>
  );
}

/** What the atlas does not hold, and the command that measures it. */
function missingOf(atlas: AtlasData, side: Side): [string, string][] {
  const { facts } = atlas;
  const all: [boolean, string, string][] = [
    [facts.reading !== null, "Where it looks", "attention"],
    [facts.readingWords !== null, "Words that it looks for", "attention"],
    [facts.composition !== null, "Which heads feed it", "composition"],
    [facts.validation, "Agreement with the running model", "validate"],
    [facts.ablation !== null, "Removal of heads", "ablate"],
    [atlas.hasChance(side), "Chance", ""],
    [facts.pairs, "Examples", ""],
    [facts.salient !== null, "Salient operations", ""],
    [facts.descriptions, "Description", ""],
    [facts.similar > 0, "Similar heads", ""],
  ];
  return all.flatMap(([known, what, command]) => (known ? [] : [[what, command]]));
}

function CardHead({ name, choice, onClose }: { name: string; choice: ComponentChildren; onClose: () => void }) {
  return (
    <header>
      <h2 tabIndex={-1} id="ha-card-name">
        {name}
      </h2>
      {choice}
      <button type="button" class="ha-close" aria-label={`Close the card of ${name}`} onClick={onClose}>
        ✕
      </button>
    </header>
  );
}

/** The heads of the other model that hit the same pairs. */
function Others({
  explored,
  view,
  which,
  place,
  onOther,
}: Pick<CardProps, "explored" | "view" | "which" | "place" | "onOther">) {
  const other = explored.atlases[1 - which];
  const found = alike(explored, view.side, which, place);
  return (
    <>
      <h3>In {atlasName(explored, 1 - which)}</h3>
      {found.length ? (
        <ul class="ha-edges">
          {found.slice(0, MOST_OTHERS).map(({ place, similarity, q, common, expected }) => (
            <li key={place}>
              <button type="button" class="ha-link" onClick={() => onOther(place)}>
                {other.name(place)}
              </button>
              <span>does the same</span>
              <span class="ha-number">{similarity.toFixed(2)}</span>
              <small>
                {common.toLocaleString("en")} pairs of both (by chance {expected.toFixed(1)}) · q {brief(q)}
              </small>
            </li>
          ))}
        </ul>
      ) : (
        <p class="ha-quiet">No head shares more pairs of words with it than chance explains, or it has too few hits.</p>
      )}
    </>
  );
}

/** Where the head looks: the shares of its attention that are named or near their limits. */
function Looks({ explored, atlas, view, place }: Pick<CardProps, "explored" | "atlas" | "view" | "place">) {
  const { reading } = atlas.facts;
  if (!reading) return null;
  const colours = new Map(explored.readingPalettes[view.palette].categories);
  const rows = reading
    .map((each, number) => ({ ...each, share: atlas.reading(number, place), named: atlas.reads(number, place) }))
    .filter(({ share }) => !Number.isNaN(share))
    .sort((one, other) => other.share - one.share)
    .filter(({ named }, rank) => named || rank < FEW_BARS);
  return (
    <ul class="ha-bars">
      {rows.map(({ title, limit, share, named }) => (
        <li key={title}>
          <span>{title}</span>
          <span class="ha-number">{share.toFixed(2)}</span>
          <div
            class="ha-bar"
            role="img"
            aria-label={`${title}: ${share.toFixed(2)} of its attention, named above ${limit}`}
          >
            <i
              class="fill"
              style={{ width: `${share * 100}%`, background: colours.get(title), opacity: named ? 1 : 0.45 }}
            />
            <i class="threshold" style={{ left: `${limit * 100}%` }} />
          </div>
        </li>
      ))}
    </ul>
  );
}

/** Which heads feed this one and which it feeds, each with what random heads of the same layers give. */
function Composed({
  explored,
  atlas,
  place,
  onSelect,
  onHint,
}: Pick<CardProps, "explored" | "atlas" | "place" | "onSelect" | "onHint">) {
  const { composition } = atlas.facts;
  if (!composition) return null;
  const of = (name: string) => atlas.get(`composed.${name}`)![place];
  const value = (name: string) => (Number.isNaN(of(name)) ? NOT_MEASURED : of(name).toFixed(2));
  const [into, outOf] = [atlas.edgesOf(place, "receiver"), atlas.edgesOf(place, "sender")];
  return (
    <>
      <h3>Which heads feed it</h3>
      {into.length || outOf.length ? (
        <>
          <Edges {...{ atlas, edges: into, end: "sender", title: "Fed by", onSelect, onHint }} />
          <Edges {...{ atlas, edges: outOf, end: "receiver", title: "Feeds", onSelect, onHint }} />
        </>
      ) : (
        <p>No edge to or from another head is beyond random pairs.</p>
      )}
      <p class="ha-quiet ha-small-print">
        {into.length + outOf.length > 0 &&
          "Strength, from the weights: nats of the score of queries and keys, a ratio of norms for values; chance: the mean of random pairs of the same layers. "}
        {!Number.isNaN(of("share")) &&
          `On induction places it has ${value("share")} of its attention by the weights (random senders ${value("chance")}, q ${formatted(of("q"))}; measured ${value("measured")}), on the previous token ${value("previous")}. `}
        In the model {composition.edges.toLocaleString("en")} of {composition.tried.toLocaleString("en")} edges are
        named (q &lt; {explored.maxQ}).
      </p>
    </>
  );
}

const THROUGH: Record<string, string> = { key: "keys", query: "queries", value: "values" };

function Edges({
  atlas,
  edges,
  end,
  title,
  onSelect,
  onHint,
}: Pick<CardProps, "atlas" | "onSelect" | "onHint"> & {
  edges: Edge[];
  /** The other head. */
  end: "sender" | "receiver";
  title: string;
}) {
  const [all, setAll] = useState(false);
  if (!edges.length) return null;
  const few = edges.filter(({ kind }, at) => edges.findIndex((each) => each.kind === kind) + FEW_EDGES > at);
  return (
    <>
      <h4>{title}</h4>
      <ul class="ha-edges" aria-label={title} onPointerLeave={() => onHint(undefined)}>
        {(all ? edges : few).map((edge) => (
          <li key={`${edge[end]} ${edge.kind} ${edge.about}`} onPointerEnter={() => onHint(edge[end])}>
            <button
              type="button"
              class="ha-link"
              onFocus={() => onHint(edge[end])}
              onBlur={() => onHint(undefined)}
              onClick={() => onSelect(atlas.name(edge[end]))}
            >
              {atlas.name(edge[end])}
            </button>
            <span>
              through its {THROUGH[edge.kind] ?? edge.kind} <span class="ha-quiet">({edge.about})</span>
            </span>
            <span class="ha-number">{edge.strength.toFixed(2)}</span>
            <small>
              chance {edge.chance.toFixed(2)} · q {formatted(edge.q)}
              {edge.removed && <Without name={atlas.name(edge.receiver)} removed={edge.removed} />}
            </small>
          </li>
        ))}
      </ul>
      {few.length < edges.length && (
        <button type="button" class="ha-link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "fewer" : `all ${edges.length} edges`}
        </button>
      )}
    </>
  );
}

const signed = (value: number, digits: number) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

function Without({ name, removed }: { name: string; removed: Removed }) {
  const { share, change, low, high, random, copying, randomCopying } = removed;
  const ofRandom = (value: number, digits: number) =>
    Number.isNaN(value) ? "no random edge" : `random edges up to ${value.toFixed(digits)}`;
  return (
    <>
      <br />
      removed: {name}’s {share.toFixed(2)} on induction places by {signed(change, 3)} ({signed(low, 3)} to{" "}
      {signed(high, 3)}; {ofRandom(random, 3)}), copying by {signed(copying, 4)} ({ofRandom(randomCopying, 4)})
    </>
  );
}

/** The words that the head looks for by its weights, and how far that agrees with its attention on text. */
function LookedFor({ atlas, place }: { atlas: AtlasData; place: number }) {
  const sizes = atlas.facts.readingWords;
  if (!sizes) return null;
  const list = (kind: string, from: number, n: number) =>
    Array.from({ length: n }, (_, rank) => ({
      word: atlas.get(`words.${kind}.key`)![from + rank],
      score: atlas.get(`words.${kind}.score`)![from + rank],
    })).filter(({ word }) => word !== NOTHING);
  const queries = Array.from({ length: sizes.queries }, (_, rank) => place * sizes.queries + rank)
    .map((at) => ({
      query: atlas.get("words.pair.query")![at],
      found: list("pair", at * sizes.ofQuery, sizes.ofQuery),
    }))
    .filter(({ found }) => found.length);
  const agreement = ["whoever asks", "of each word"].map((of, kind) => {
    const at = kind * atlas.size + place;
    const [value, control] = [atlas.get("words.agreement")![at], atlas.get("words.control")![at]];
    if (Number.isNaN(value) || Number.isNaN(control)) return `${of} not known`;
    const uncertain = value > sizes.certain ? "" : ", so these are uncertain";
    return `${of} ${value.toFixed(2)} (other words: ${control.toFixed(2)}${uncertain})`;
  });
  return (
    <>
      <h3>Words that it looks for</h3>
      <table class="ha-operations">
        <thead>
          <tr>
            <th scope="col">word</th>
            <th scope="col">looks for</th>
          </tr>
        </thead>
        <tbody>
          <tr>
            <th scope="row">whoever asks</th>
            <Sought atlas={atlas} found={list("any", place * sizes.keys, sizes.keys)} />
          </tr>
          {queries.map(({ query, found }) => (
            <tr key={query}>
              <th scope="row">
                <bdi>{shown(atlas.word(query))}</bdi>
              </th>
              <Sought {...{ atlas, found }} />
            </tr>
          ))}
        </tbody>
      </table>
      <p class="ha-quiet">
        From the weights; ×: times as much attention as other words get. Correlation with its attention on text:{" "}
        {agreement.join("; ")}.
      </p>
    </>
  );
}

/** Words with their factors. */
function Sought({ atlas, found }: { atlas: AtlasData; found: { word: number; score: number }[] }) {
  const times = (score: number) => (Math.exp(score) >= 9.5 ? Math.exp(score).toFixed(0) : Math.exp(score).toFixed(1));
  return (
    <td>
      {!found.length && "none"}
      {found.map(({ word, score }) => (
        <bdi key={word} class="ha-token" title={`${times(score)} times as much`}>
          {shown(atlas.word(word))} ×{times(score)}
        </bdi>
      ))}
    </td>
  );
}

/** What copying says about a score, in a few words. */
function copying(explored: Explored, atlas: AtlasData, side: Side, relation: number, place: number): string {
  if (atlas.facts.relations[relation].copying) return "copying itself";
  const rest = atlas.uncopied(side, relation, place);
  if (!rest) return `copying ${NOT_MEASURED}`;
  if (rest.pairs < explored.minUncopied) return `copying misses ${rest.pairs} pairs, too few to tell`;
  return `${rest.hits} of ${rest.pairs} pairs that copying misses, q ${formatted(rest.q)}`;
}

function Bars({
  explored,
  atlas,
  classified,
  view,
  place,
  colours,
  onRelation,
}: Pick<CardProps, "explored" | "atlas" | "classified" | "view" | "place" | "colours" | "onRelation">) {
  const [all, setAll] = useState(false);
  const sides: Side[] = atlas.has("suppression") ? ["score", "suppression"] : ["score"];
  return (
    <>
      {sides.map((side) => {
        const rows = atlas.facts.relations
          .map((relation, number) => ({ relation, number, share: atlas.share(side, number, place) }))
          .filter((row) => row.share > 0)
          .sort((one, other) => other.share - one.share);
        const few = all ? rows : rows.slice(0, side === view.side ? MOST_BARS : FEW_BARS);
        const threshold = thresholdShare(view.threshold);
        return (
          <div key={side}>
            <h3>{side === "score" ? "Promotes" : "Suppresses"}</h3>
            {!rows.length && (
              <p class="ha-quiet">
                No target of any relation is among its {side === "score" ? "highest" : "lowest"} logits.
              </p>
            )}
            <ul class="ha-bars">
              {few.map(({ relation, number, share }) => {
                const chance = atlas.chance(side, number, place);
                const hits = atlas.hits(side, number, place);
                const between = hits === undefined ? null : wilson(hits, relation.pairs);
                const does = side === view.side && classified.implements[number * atlas.size + place] === 1;
                const details = [
                  hits === undefined ? `${side} ${share.toFixed(2)}` : `${hits} of ${relation.pairs} pairs`,
                  between ? `${between[0].toFixed(2)} to ${between[1].toFixed(2)}` : "interval not known",
                  chance ? `chance ${level(chance)}` : `chance ${NOT_MEASURED}`,
                  ...(chance ? [`q ${formatted(chance.q)}`] : []),
                  copying(explored, atlas, side, number, place),
                ].join(" · ");
                return (
                  <li key={relation.name}>
                    <button
                      type="button"
                      class="ha-link"
                      title={relation.description}
                      onClick={() => onRelation(relation.name)}
                    >
                      {spoken(relation.name)}
                    </button>
                    <span class="ha-number">{share.toFixed(2)}</span>
                    <div
                      class="ha-bar"
                      role="img"
                      aria-label={`${spoken(relation.name)}: ${share.toFixed(2)}, ${details}`}
                    >
                      <i
                        class="fill"
                        style={{
                          width: `${share * 100}%`,
                          background: colours.get(relation.category),
                          opacity: does ? 1 : 0.45,
                        }}
                      />
                      {between && (
                        <i
                          class="interval"
                          style={{ left: `${between[0] * 100}%`, width: `${(between[1] - between[0]) * 100}%` }}
                        />
                      )}
                      <i class="threshold" style={{ left: `${threshold * 100}%` }} />
                      {chance && <i class="chance" style={{ left: `${chance.level * 100}%` }} />}
                    </div>
                    <small>{details}</small>
                  </li>
                );
              })}
            </ul>
            {rows.length > (side === view.side ? MOST_BARS : FEW_BARS) && (
              <button type="button" class="ha-link" aria-expanded={all} onClick={() => setAll(!all)}>
                {all ? "fewer" : `all ${rows.length} relations`}
              </button>
            )}
          </div>
        );
      })}
      <p class="ha-quiet ha-key">
        <i class="threshold" /> threshold
        {atlas.hasChance(view.side) && (
          <>
            {" "}
            <i class="chance" /> chance
          </>
        )}
        {atlas.facts.hasCounts && (
          <>
            {" "}
            <i class="interval" /> 95 % interval
          </>
        )}
      </p>
    </>
  );
}

/** A chance level; from re-pairings it is an estimate. */
export function level({ level, exact }: { level: number; exact: boolean }, digits = 3): string {
  return exact ? level.toFixed(digits) : `≈ ${level.toFixed(digits)}`;
}

/** A q-value where its size below the limit says nothing. */
export const brief = (q: number) => (q < 0.001 ? "<0.001" : q.toFixed(3));

export function formatted(q: number): string {
  return q === 0 ? "0" : q < 0.001 ? q.toExponential(0) : q.toFixed(3);
}

function Examples({ atlas, view, place }: { atlas: AtlasData; view: View; place: number }) {
  const hit = atlas.hitsOf(place, view.side);
  const byRelation = new Map<number, number[]>();
  for (const pair of hit) {
    const { relation } = atlas.pair(pair);
    byRelation.set(relation, [...(byRelation.get(relation) ?? []), pair]);
  }
  // The relation that is looked at comes first, then the strongest.
  const asked = (relation: number) => Number(atlas.facts.relations[relation].name === view.relation);
  const strongest = [...byRelation]
    .sort(
      ([one], [other]) =>
        asked(other) - asked(one) || atlas.share(view.side, other, place) - atlas.share(view.side, one, place),
    )
    .slice(0, MOST_RELATIONS);
  const relationOf = atlas.get("pair.relation")!;
  return (
    <>
      <h3>Examples</h3>
      {!strongest.length && <p class="ha-quiet">No hits.</p>}
      {strongest.map(([relation, pairs]) => {
        const hits = new Set(pairs);
        const missed: number[] = [];
        for (let pair = 0; pair < relationOf.length && missed.length < MOST_MISSED; pair++)
          if (relationOf[pair] === relation && !hits.has(pair)) missed.push(pair);
        return (
          <div key={relation} class="ha-examples">
            <strong>{spoken(atlas.facts.relations[relation].name)}</strong>
            <p>
              <Pairs {...{ atlas, pairs: pairs.slice(0, MOST_EXAMPLES) }} />
              {pairs.length > MOST_EXAMPLES && `and ${pairs.length - MOST_EXAMPLES} more`}
            </p>
            <Missed {...{ atlas, missed }} count={atlas.facts.relations[relation].pairs - pairs.length} />
          </div>
        );
      })}
    </>
  );
}

function Pairs({ atlas, pairs }: { atlas: AtlasData; pairs: number[] }) {
  return (
    <>
      {pairs.map((pair, at) => {
        const { source, target } = atlas.pair(pair);
        return (
          <span key={pair}>
            <span class="ha-pair">
              <bdi>{shown(source)}</bdi> → <bdi>{shown(target)}</bdi>
              {at < pairs.length - 1 ? "," : ""}
            </span>{" "}
          </span>
        );
      })}
    </>
  );
}

/** An atlas holds the words of pairs that some head hits, so that of the missed ones not all can be shown. */
function Missed({ atlas, missed, count }: { atlas: AtlasData; missed: number[]; count: number }) {
  if (count <= 0) return <p class="ha-quiet">misses none</p>;
  if (!missed.length)
    return <p class="ha-quiet">misses {count}, which no head of the model hits; the atlas does not keep their words</p>;
  return (
    <p class="ha-quiet">
      misses {count}
      {missed.length < count ? ", such as " : ": "}
      <Pairs {...{ atlas, pairs: missed }} />
    </p>
  );
}

function Operations({ atlas, place }: { atlas: AtlasData; place: number }) {
  const sizes = atlas.facts.salient;
  const [all, setAll] = useState(false);
  if (!sizes) return null;
  const [tokens, amplification, mapped] = [
    atlas.get("salient.token")!,
    atlas.get("salient.amplification")!,
    atlas.get("salient.mapped")!,
  ];
  const list = (rank: number, side: number) =>
    Array.from(
      { length: sizes.mapped },
      (_, to) => mapped[((place * sizes.tokens + rank) * 2 + side) * sizes.mapped + to],
    ).filter((word) => word !== NOTHING);
  const rows = Array.from({ length: sizes.tokens }, (_, rank) => rank).filter(
    (rank) => tokens[place * sizes.tokens + rank] !== NOTHING,
  );
  return (
    <>
      <h3>Salient operations</h3>
      <table class="ha-operations">
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col" class="right">
              amplified
            </th>
            <th scope="col">promotes</th>
            <th scope="col">suppresses</th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, all ? rows.length : MOST_TOKENS).map((rank) => (
            <tr key={rank}>
              <th scope="row">
                <bdi>{shown(atlas.word(tokens[place * sizes.tokens + rank]))}</bdi>
              </th>
              <td class="right">{amplification[place * sizes.tokens + rank].toFixed(2)}</td>
              {[0, 1].map((side) => (
                <td key={side}>
                  {list(rank, side).map((word, at) => (
                    <bdi key={at} class="ha-token">
                      {shown(atlas.word(word))}
                    </bdi>
                  ))}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > MOST_TOKENS && (
        <button type="button" class="ha-link" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "fewer" : `all ${rows.length} tokens`}
        </button>
      )}
    </>
  );
}

function Validation({
  atlas,
  view,
  place,
  classified,
}: {
  atlas: AtlasData;
  view: View;
  place: number;
  classified: Classified;
}) {
  const values = atlas.get(`validation.${view.side}`);
  if (!values) return null;
  const { relations } = atlas.facts;
  const rows = relations
    .map((relation, number) => ({ relation, number, share: atlas.share(view.side, number, place) }))
    .filter(({ number, share }) => share > 0 && (classified.implements[number * atlas.size + place] || share > 0.05))
    .sort((one, other) => other.share - one.share)
    .slice(0, 5);
  const value = (number: number, condition: number) => values[((number * 2 + condition) * 2 + 0) * atlas.size + place];
  const cell = (share: number) => (Number.isNaN(share) ? NOT_MEASURED : share.toFixed(2));
  if (!rows.length) return <p class="ha-quiet">No relation to compare.</p>;
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">relation</th>
          <th scope="col" class="right">
            weights
          </th>
          <th scope="col" class="right">
            attention fixed
          </th>
          <th scope="col" class="right">
            in context
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ relation, number, share }) => (
          <tr key={relation.name}>
            <th scope="row">{spoken(relation.name)}</th>
            <td class="right">{share.toFixed(2)}</td>
            <td class="right">{cell(value(number, 0))}</td>
            <td class="right">{cell(value(number, 1))}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Ablation({ atlas, classified, place }: { atlas: AtlasData; classified: Classified; place: number }) {
  const curves = atlas.facts.ablation;
  if (!curves) return null;
  const relations = atlas.facts.relations
    .filter((_, number) => classified.implements[number * atlas.size + place])
    .map((each) => each.name);
  const mine = curves.filter(
    (curve) => !curve.random && curve.task === curve.relation && relations.includes(curve.relation),
  );
  if (!mine.length) return <p class="ha-quiet">Removal of heads: {NOT_MEASURED} for its relations.</p>;
  return (
    <ul>
      {mine.map((curve) => {
        const accuracy = (at: number, of = curve) => of.correct[at] / of.prompts[at];
        const last = curve.removed.length - 1;
        const random = curves.filter(
          (other) => other.relation === curve.relation && other.task === curve.task && other.random,
        );
        const mean = random.length
          ? random.reduce((sum, other) => sum + accuracy(other.removed.length - 1, other), 0) / random.length
          : NaN;
        return (
          <li key={curve.relation}>
            Without the {curve.removed[last]} heads of {spoken(curve.relation)}, accuracy goes from{" "}
            {accuracy(0).toFixed(2)} to {accuracy(last).toFixed(2)}
            {random.length ? `; without as many random heads, to ${mean.toFixed(2)}` : ""}.
          </li>
        );
      })}
    </ul>
  );
}

function Similar({
  atlas,
  place,
  onSelect,
  classified,
  colours,
}: Pick<CardProps, "atlas" | "place" | "onSelect" | "classified" | "colours">) {
  const [others, values] = [atlas.get("similar.place")!, atlas.get("similar.value")!];
  const numbers = Array.from({ length: atlas.facts.similar }, (_, rank) => place * atlas.facts.similar + rank).filter(
    (at) => others[at] !== NOTHING,
  );
  return (
    <ul class="ha-similar">
      {numbers.map((at) => {
        const name = atlas.name(others[at]);
        const categories = categoriesAt(classified, others[at]);
        return (
          <li key={at}>
            <button type="button" class="ha-link" onClick={() => onSelect(name)}>
              {name}
            </button>{" "}
            <span class="ha-quiet">{values[at].toFixed(2)}</span>{" "}
            {categories.map((category) => (
              <i key={category} class="ha-dot" title={category} style={{ background: colours.get(category) }} />
            ))}
          </li>
        );
      })}
    </ul>
  );
}
