// The card column while no card is open: the strongest heads of the view, each as a small card that can be read.

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { type Classified, categoriesAt } from "./classify";
import type { AtlasData, Explored } from "./data";
import { example, pairCounts } from "./examples";
import type { Side } from "./message";
import { shown, spoken, topic } from "./names";
import { atlasName } from "./panels";
import type { View } from "./state";

const MOST_TILES = 12;
const MOST_OPPOSITE = 3;
const MOST_READERS = 2;

/** A head, the relation that it does best, its share, and all relations that it implements. */
export interface Best {
  place: number;
  relation: number;
  share: number;
  relations: number[];
}

/** The heads of a classification, the strongest first; those that are sure, and of other relations, come before the rest. */
export function bestHeads(atlas: AtlasData, side: Side, found: Classified, sure: Classified | null): Best[] {
  const share = atlas.shares(side);
  const isSure = (relation: number, place: number) => Number(!sure || sure.implements[relation * atlas.size + place]);
  const { relations } = atlas.facts;
  const all: (Best & { sure: number })[] = [];
  for (let place = 0; place < atlas.size; place++) {
    if (!found.counts[place]) continue;
    const own = relations.flatMap((_, number) => (found.implements[number * atlas.size + place] ? [number] : []));
    own.sort(
      (one, other) =>
        isSure(other, place) - isSure(one, place) ||
        Number(relations[one].copying) - Number(relations[other].copying) ||
        share(other, place) - share(one, place),
    );
    all.push({ place, relation: own[0], share: share(own[0], place), relations: own, sure: isSure(own[0], place) });
  }
  all.sort((one, other) => other.sure - one.sure || other.share - one.share || one.place - other.place);
  const seen = new Set<number>();
  const first = all.filter(({ relation }) => !seen.has(relation) && seen.add(relation));
  return [...first, ...all.filter((each) => !first.includes(each))];
}

interface StrongestProps {
  explored: Explored;
  which: number;
  atlas: AtlasData;
  view: View;
  classified: Classified;
  sure: Classified | null;
  opposite: Classified | null;
  colours: Map<string, string>;
  choice: ComponentChildren;
  select: (head: string) => void;
  onHint: (place: number | undefined) => void;
}

export function Strongest(props: StrongestProps) {
  const { explored, which, atlas, view, classified, sure, opposite, choice } = props;
  const other: Side = view.side === "score" ? "suppression" : "score";
  const best = useMemo(
    () => (view.relation ? ofRelation(atlas, view, classified) : bestHeads(atlas, view.side, classified, sure)),
    [atlas, classified, sure, view.relation, view.side],
  );
  const against = useMemo(() => (opposite ? bestHeads(atlas, other, opposite, null) : []), [atlas, opposite, other]);
  const verb = (side: Side) => (side === "score" ? "promote" : "suppress");
  const none = view.relation && !best.some((each) => each.relations.length);
  return (
    <section class="ha-strongest" aria-label="Strongest heads">
      <header>
        <h2>{view.what === "reading" ? "Where heads look" : "Strongest heads"}</h2>
        {choice}
      </header>
      {explored.atlases.length > 1 && <p class="ha-quiet">{atlasName(explored, which)}</p>}
      {view.what === "reading" ? (
        <Readers {...props} />
      ) : (
        <>
          <p class="ha-quiet">
            {view.relation
              ? `What ${verb(view.side)}s ${spoken(view.relation)} most${none && best.length ? `; no head is above ${view.threshold}` : ""}.`
              : `What they ${verb(view.side)} most, with the share of its pairs.`}
          </p>
          {!best.length && (
            <p>{view.relation ? "No head hits a pair of it." : `No head is above ${view.threshold}.`}</p>
          )}
          <Tiles {...props} side={view.side} best={best.slice(0, MOST_TILES)} />
          {!view.relation && against.length > 0 && (
            <>
              <h3>Heads that {verb(other)}</h3>
              <Tiles {...props} side={other} best={against.slice(0, MOST_OPPOSITE)} />
            </>
          )}
        </>
      )}
    </section>
  );
}

/** The heads with the most hits of the relation that is shown, above the threshold or not. */
function ofRelation(atlas: AtlasData, view: View, found: Classified): Best[] {
  const relation = atlas.relation(view.relation);
  if (relation < 0) return [];
  const share = atlas.shares(view.side);
  return Array.from({ length: atlas.size }, (_, place) => ({
    place,
    relation,
    share: share(relation, place),
    relations: found.implements[relation * atlas.size + place] ? [relation] : [],
  }))
    .filter((each) => each.share > 0)
    .sort((one, other) => other.share - one.share || one.place - other.place);
}

function Tiles({ atlas, colours, select, onHint, side, best, view }: StrongestProps & { side: Side; best: Best[] }) {
  const counts = useMemo(() => pairCounts(atlas, side), [atlas, side]);
  const { relations } = atlas.facts;
  return (
    <ul class="ha-tiles" onPointerLeave={() => onHint(undefined)}>
      {best.map(({ place, relation, share, relations: own }) => {
        const pair = example(atlas, side, place, relation, counts);
        const about = view.relation ? "" : topic(own.map((number) => relations[number].name));
        const categories = [...new Set(own.map((number) => relations[number].category))];
        const more = own.length - 1;
        const name = spoken(relations[relation].name);
        const words = pair && (
          <span>
            <bdi>{shown(pair.source.trim())}</bdi> → <bdi>{shown(pair.target.trim())}</bdi>
          </span>
        );
        return (
          <li key={place}>
            <button
              type="button"
              onClick={() => select(atlas.name(place))}
              onPointerEnter={() => onHint(place)}
              onFocus={() => onHint(place)}
              onBlur={() => onHint(undefined)}
            >
              <span class="ha-tile-top">
                <strong>{atlas.name(place)}</strong>
                <span>{view.relation ? words : about || name}</span>
                <span class="ha-dots">
                  {categories.map((category) => (
                    <i key={category} class="ha-dot" title={category} style={{ background: colours.get(category) }} />
                  ))}
                </span>
                <span class="ha-number">{share.toFixed(2)}</span>
              </span>
              {!view.relation && (
                <span class="ha-tile-pair">
                  {words}
                  <small>
                    {about && name}
                    {more > 0 && `${about ? " " : ""}and ${more} more`}
                  </small>
                </span>
              )}
            </button>
          </li>
        );
      })}
    </ul>
  );
}

/** The heads that spend most of their attention in each way of reading. */
function Readers({ explored, atlas, view, classified, colours, select }: StrongestProps) {
  const palette = new Map(explored.readingPalettes[view.palette].categories);
  return (
    <ul class="ha-tiles">
      {(atlas.facts.reading ?? []).flatMap(({ title }, behaviour) =>
        Array.from({ length: atlas.size }, (_, place) => place)
          .filter((place) => atlas.reads(behaviour, place))
          .sort((one, other) => atlas.reading(behaviour, other) - atlas.reading(behaviour, one))
          .slice(0, MOST_READERS)
          .map((place) => (
            <li key={`${behaviour} ${place}`}>
              <button type="button" onClick={() => select(atlas.name(place))}>
                <span class="ha-tile-top">
                  <strong>{atlas.name(place)}</strong>
                  <span>{title}</span>
                  <span class="ha-dots">
                    <i class="ha-dot" style={{ background: palette.get(title) }} />
                    {categoriesAt(classified, place).map((category) => (
                      <i key={category} class="ha-dot" title={category} style={{ background: colours.get(category) }} />
                    ))}
                  </span>
                  <span class="ha-number">{atlas.reading(behaviour, place).toFixed(2)}</span>
                </span>
                <span class="ha-tile-pair">
                  <small>of its attention</small>
                </span>
              </button>
            </li>
          )),
      )}
    </ul>
  );
}
