// Shares to categories, exactly as `headatlas.analysis.categories.classify` does it; fast enough for every step of a slider.

import type { AtlasData, Explored } from "./data";
import type { Rule, Side } from "./message";

/** A threshold as a fraction: "0.15" is 15 / 100, so that 3 of 20 is not above it; "1/3" is itself. */
export function parseThreshold(text: string): { over: bigint; under: bigint } | undefined {
  const ratio = /^(\d{1,40})\/(\d{1,40})$/.exec(text);
  if (ratio) {
    const [over, under] = [BigInt(ratio[1]), BigInt(ratio[2])];
    return over < under ? { over, under } : undefined;
  }
  const found = /^0?(?:\.(\d{1,15}))?$|^0$/.exec(text.trim());
  if (!found || !text.trim()) return undefined;
  const digits = found[1] ?? "0";
  return { over: BigInt(digits), under: 10n ** BigInt(digits.length) };
}

/** A threshold as a number from 0 to 1, for drawing. */
export function thresholdShare(text: string): number {
  const limit = parseThreshold(text)!;
  return Number(limit.over) / Number(limit.under);
}

export interface Classified {
  categories: string[];
  /** For each category, by place: 1 if the head has it. */
  has: Uint8Array[];
  /** For each category, by place: the highest share of a relation of it that the head implements. */
  best: Float32Array[];
  /** By relation and place: 1 if the head implements the relation. */
  implements: Uint8Array;
  counts: Uint16Array;
  nHeads: number;
  nClassified: number;
}

/** The names of a head's categories. */
export function categoriesAt(found: Classified, place: number): string[] {
  return found.categories.filter((_, number) => found.has[number][place]);
}

export function classify(explored: Explored, atlas: AtlasData, side: Side, rule: Rule, threshold: string): Classified {
  const { relations } = atlas.facts;
  const categories = explored.palettes.paper.categories.map(([name]) => name);
  const limit = parseThreshold(threshold) ?? parseThreshold(atlas.facts.threshold)!;
  const hits = atlas.get(`${side}.hits`);
  const shares = atlas.get(`${side}.share`);
  const [chance, q] = [atlas.get(`${side}.chance`), atlas.get(`${side}.q`)];
  const strict = rule === "calibrated" && atlas.canCalibrate(side);
  const has = categories.map(() => new Uint8Array(atlas.size));
  const best = categories.map(() => new Float32Array(atlas.size));
  const does = new Uint8Array(relations.length * atlas.size);
  for (let relation = 0; relation < relations.length; relation++) {
    const { pairs, category } = relations[relation];
    const number = categories.indexOf(category);
    const [ofCategory, bestOfCategory] = [has[number], best[number]];
    // Whole hits: more than this many are above the threshold.
    const most = Number((limit.over * BigInt(pairs)) / limit.under);
    const share = Number(limit.over) / Number(limit.under);
    for (let place = 0; place < atlas.size; place++) {
      const at = relation * atlas.size + place;
      let above = hits ? hits[at] > most : shares ? shares[at] > share : false;
      if (above && strict) {
        const value = hits ? hits[at] / pairs : shares![at];
        above = q![at] < explored.maxQ && value - chance![at] > explored.minExcess;
        if (above && !relations[relation].copying) {
          const rest = atlas.uncopied(side, relation, place)!;
          const level = atlas.get(`${side}.uncopied.chance`)![at];
          above =
            rest.pairs >= explored.minUncopied &&
            BigInt(rest.hits) * limit.under > BigInt(rest.pairs) * limit.over &&
            rest.q < explored.maxQ &&
            rest.hits / rest.pairs - level > explored.minExcess;
        }
      }
      if (above && atlas.hasHeads(place)) {
        does[at] = 1;
        ofCategory[place] = 1;
        const value = hits ? hits[at] / pairs : shares![at];
        if (value > bestOfCategory[place]) bestOfCategory[place] = value;
      }
    }
  }
  const counts = new Uint16Array(atlas.size);
  for (const each of has) for (let place = 0; place < atlas.size; place++) counts[place] += each[place];
  let [nHeads, nClassified] = [0, 0];
  for (let place = 0; place < atlas.size; place++) {
    if (atlas.hasHeads(place)) nHeads++;
    if (counts[place]) nClassified++;
  }
  return { categories, has, best, implements: does, counts, nHeads, nClassified };
}

/** Wilson's 95 % interval of a share. */
export function wilson(hits: number, pairs: number): [number, number] {
  const z2 = 1.959963984540054 ** 2;
  const share = hits / pairs;
  const middle = (share + z2 / (2 * pairs)) / (1 + z2 / pairs);
  const half = (Math.sqrt(z2) / (1 + z2 / pairs)) * Math.sqrt((share * (1 - share)) / pairs + z2 / (4 * pairs * pairs));
  return [middle - half, middle + half];
}
