// Pairs of words that show what a head does.

import type { AtlasData } from "./data";
import type { Side } from "./message";

/** By pair: how many heads hit it, so that an example is one that the model knows well. */
export function pairCounts(atlas: AtlasData, side: Side): Uint32Array {
  const counts = new Uint32Array(atlas.get("pair.relation")?.length ?? 0);
  const sides = atlas.get("hit.side");
  atlas.get("hit.pair")?.forEach((pair, at) => {
    if (sides![at] === (side === "score" ? 0 : 1)) counts[pair]++;
  });
  return counts;
}

/** The pair of a relation that a head hits and most heads hit, if possible not one of two similar words; undefined if pairs were not kept. */
export function example(atlas: AtlasData, side: Side, place: number, relation: number, counts: Uint32Array) {
  const letters = (word: string) => word.trim().slice(0, 3).toLowerCase();
  return atlas
    .hitsOf(place, side)
    .map((number) => ({ ...atlas.pair(number), count: counts[number] }))
    .filter((pair) => pair.relation === relation)
    .map((pair) => ({
      ...pair,
      worth: pair.count + (letters(pair.source) === letters(pair.target) ? 0 : counts.length),
    }))
    .sort((one, other) => other.worth - one.worth)[0] as { source: string; target: string } | undefined;
}
