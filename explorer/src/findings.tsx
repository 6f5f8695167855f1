// The finding of a view in words and small pictures: in the headline, and in front of the statistics.

import type { ComponentChildren } from "preact";
import type { Classified } from "./classify";
import type { AtlasData, Explored } from "./data";
import type { Side } from "./message";
import { spoken, topic } from "./names";
import { atlasName, counted } from "./panels";
import type { View } from "./state";
import { bestHeads } from "./strongest";

const MOST_BARS = 6;

/** The shortest run of layers with three quarters of the heads; undefined if it is no news. */
export function span(
  atlas: AtlasData,
  counts: ArrayLike<number>,
): { from: number; to: number; heads: number } | undefined {
  const perLayer = layersOf(atlas, counts);
  const all = perLayer.reduce((sum, count) => sum + count, 0);
  for (let length = 1; all > 3 && length <= 0.6 * perLayer.length; length++)
    for (let from = 0; from + length <= perLayer.length; from++) {
      const heads = perLayer.slice(from, from + length).reduce((sum, count) => sum + count, 0);
      if (4 * heads >= 3 * all) return { from, to: from + length - 1, heads };
    }
  return undefined;
}

function layersOf({ facts, size }: AtlasData, counts: ArrayLike<number>): number[] {
  const perLayer = new Array<number>(facts.layers).fill(0);
  for (let place = 0; place < size; place++) perLayer[Math.floor(place / facts.heads)] += Number(counts[place] > 0);
  return perLayer;
}

/** What the counted heads of a view do. */
function does(view: View): string {
  if (view.what === "reading") return "have a way of reading with a name";
  const verb = view.side === "score" ? "implement" : "suppress";
  const writes = view.relation
    ? `${verb} ${spoken(view.relation)}`
    : view.side === "score"
      ? "have a function with a name"
      : "suppress words of a relation";
  return view.what === "both" ? `${writes} or a way of reading` : writes;
}

/** "In X, 46 of 270 attention heads have a function with a name; 36 of them are in layers 20 to 29." */
export function Headline({
  explored,
  classified,
  view,
  shownOnes,
  counts,
  children,
}: {
  explored: Explored;
  classified: Classified[];
  view: View;
  shownOnes: number[];
  /** Heads that the view counts, by atlas. */
  counts: number[];
  children?: ComponentChildren;
}) {
  const [only] = shownOnes;
  const found =
    shownOnes.length === 1 && view.what === "writing" && !view.relation
      ? span(explored.atlases[only], classified[only].counts)
      : undefined;
  return (
    <h1>
      {shownOnes.map((which, at) => (
        <span key={which}>
          {at ? "; " : ""}
          {at ? "" : "In "}
          {atlasName(explored, which)}, <strong class="ha-count">{counts[which]}</strong> of {classified[which].nHeads}
          {at ? "" : ` attention heads ${does(view)}`}
        </span>
      ))}
      {found &&
        `, ${found.heads === counts[only] ? "all" : found.heads} of them in ${found.from === found.to ? `layer ${found.from}` : `layers ${found.from} to ${found.to}`}`}
      {children}.
    </h1>
  );
}

interface FindingsProps {
  atlas: AtlasData;
  view: View;
  classified: Classified;
  sure: Classified | null;
  colours: Map<string, string>;
  select: (head: string) => void;
}

/** Three findings that need no statistics, each with a small picture. */
export function Findings({ atlas, view, classified, sure, colours, select }: FindingsProps) {
  const all = classified.nClassified;
  if (!all) return <p>No head is above {view.threshold}.</p>;
  const run = span(atlas, classified.counts);
  const perLayer = layersOf(atlas, classified.counts);
  const empty = perLayer.filter((count) => !count).length;
  const categories = classified.categories
    .map((name, at) => ({ name, heads: classified.has[at].reduce((sum, one) => sum + one, 0) }))
    .filter(({ heads }) => heads)
    .sort((one, other) => other.heads - one.heads);
  const several = classified.counts.reduce((sum, count) => sum + Number(count > 1), 0);
  const [best] = specialists(atlas, view.side, classified, sure);
  const share = atlas.shares(view.side);
  const about = topic(best.relations.map((number) => atlas.facts.relations[number].name));
  const verb = view.side === "score" ? "implements" : "suppresses";
  const most = Math.max(...perLayer);
  return (
    <div class="ha-findings">
      <section>
        <h2>
          {run
            ? `Most are in ${run.from === run.to ? `layer ${run.from}` : `layers ${run.from} to ${run.to}`}`
            : "They are spread over the layers"}
        </h2>
        <div class="ha-columns" role="img" aria-label={`Heads per layer: ${perLayer.join(", ")}`}>
          {perLayer.map((count, layer) => (
            <i
              key={layer}
              class={run && layer >= run.from && layer <= run.to ? "run" : ""}
              style={{ height: `${(count / most) * 100}%` }}
            />
          ))}
        </div>
        <p class="ha-ends ha-quiet" aria-hidden="true">
          <span>layer 0</span>
          <span>{atlas.facts.layers - 1}</span>
        </p>
        <p>
          {run ? `${run.heads} of the ${counted(all, "head")} with a function are there; ` : ""}
          {empty ? `${counted(empty, "layer")} of ${atlas.facts.layers} have none.` : "every layer has some."}
        </p>
      </section>
      <section>
        <h2>{categories.length > 1 ? `${categories[0].name} comes first` : `All are ${categories[0].name}`}</h2>
        <Rows
          rows={categories.map(({ name, heads }) => ({
            name,
            value: heads,
            text: String(heads),
            colour: colours.get(name),
          }))}
        />
        <p>
          {several
            ? `${counted(several, "head")} ${several === 1 ? "has" : "have"} several categories. `
            : "No head has several categories. "}
          {sure &&
            `${sure.nClassified} of the ${all} do more than chance and than copying the word explain; the others are hatched.`}
        </p>
      </section>
      <section>
        <h2>
          <button type="button" class="ha-link" onClick={() => select(atlas.name(best.place))}>
            {atlas.name(best.place)}
          </button>{" "}
          {about ? `is about ${about}` : "does most"}
        </h2>
        <Rows
          rows={[...best.relations]
            .sort((one, other) => share(other, best.place) - share(one, best.place))
            .slice(0, MOST_BARS)
            .map((number) => ({
              name: spoken(atlas.facts.relations[number].name),
              value: share(number, best.place),
              text: share(number, best.place).toFixed(2),
              colour: colours.get(atlas.facts.relations[number].category),
            }))}
        />
        <p>
          It {verb} {counted(best.relations.length, "relation")}.
        </p>
      </section>
    </div>
  );
}

/** Heads with a topic of several relations first, then the strongest. */
function specialists(atlas: AtlasData, side: Side, found: Classified, sure: Classified | null) {
  const share = atlas.shares(side);
  const all = bestHeads(atlas, side, found, sure);
  const weight = ({ relations, place }: (typeof all)[0]) =>
    topic(relations.map((number) => atlas.facts.relations[number].name))
      ? relations.reduce((sum, number) => sum + share(number, place), 0) / Math.sqrt(relations.length)
      : 0;
  return all.map((each) => ({ ...each, weight: weight(each) })).sort((one, other) => other.weight - one.weight);
}

function Rows({ rows }: { rows: { name: string; value: number; text: string; colour: string | undefined }[] }) {
  const most = Math.max(...rows.map(({ value }) => value));
  return (
    <ul class="ha-rows">
      {rows.map(({ name, value, text, colour }) => (
        <li key={name}>
          <span>{name}</span>
          <span class="ha-bar">
            <i class="fill" style={{ width: `${(value / most) * 100}%`, background: colour }} />
          </span>
          <span class="ha-number">{text}</span>
        </li>
      ))}
    </ul>
  );
}
