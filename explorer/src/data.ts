// The payload that `headatlas/explorer/payload.py` packs, read back: words from its header, numbers as typed arrays.

import type { AtlasFacts, Functions, Header, Palette, Side } from "./message";

export const NOTHING = 0xffffffff;

type Numbers = Uint8Array | Uint32Array | Float32Array | Float64Array;
const TYPES: Record<string, new (buffer: ArrayBuffer, offset: number, length: number) => Numbers> = {
  uint8: Uint8Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
};

export interface Explored {
  atlases: AtlasData[];
  /** By side: two atlases by what their heads do; null if there is one atlas, or heads correspond. */
  functions: Record<string, Functions> | null;
  palettes: Record<string, Palette>;
  readingPalettes: Record<string, Palette>;
  maxQ: number;
  minExcess: number;
  minUncopied: number;
  version: string;
  link: string;
}

/** One atlas: its facts, and its arrays by name. A place is `layer * heads + head`. */
export class AtlasData {
  readonly size: number;
  constructor(
    readonly facts: AtlasFacts,
    readonly words: string[],
    private readonly arrays: Map<string, Numbers>,
  ) {
    this.size = facts.layers * facts.heads;
  }

  get(name: string): Numbers | undefined {
    return this.arrays.get(this.facts.prefix + name);
  }

  word(number: number): string {
    return this.words[number] ?? "";
  }

  has(side: Side): boolean {
    return this.get(`${side}.hits`) !== undefined || this.get(`${side}.share`) !== undefined;
  }

  hasChance(side: Side): boolean {
    return this.get(`${side}.q`) !== undefined;
  }

  /** Whether heads can be classified by the rule `calibrated`. */
  canCalibrate(side: Side): boolean {
    return this.hasChance(side) && this.get("copied") !== undefined;
  }

  /** Hits among the pairs that copying misses, and the number of these pairs; undefined if not measured. */
  uncopied(side: Side, relation: number, place: number): { hits: number; pairs: number; q: number } | undefined {
    const [copied, hits] = [this.get("copied"), this.get(`${side}.uncopied.hits`)];
    if (!copied || !hits) return undefined;
    const at = relation * this.size + place;
    const layer = Math.floor(place / this.facts.heads);
    const pairs = this.facts.relations[relation].pairs - copied[relation * this.facts.layers + layer];
    return { hits: hits[at], pairs, q: this.get(`${side}.uncopied.q`)![at] };
  }

  /** The number of hits if it is known, else undefined. */
  hits(side: Side, relation: number, place: number): number | undefined {
    return this.get(`${side}.hits`)?.[relation * this.size + place];
  }

  /** The share by relation and place, for many at once. */
  shares(side: Side): (relation: number, place: number) => number {
    const { relations } = this.facts;
    const [hits, shares] = [this.get(`${side}.hits`), this.get(`${side}.share`)];
    return (relation, place) => {
      const at = relation * this.size + place;
      return hits ? hits[at] / relations[relation].pairs : (shares?.[at] ?? 0);
    };
  }

  /** The number of a relation; -1 if it was not measured. */
  relation(name: string): number {
    return this.facts.relations.findIndex((each) => each.name === name);
  }

  share(side: Side, relation: number, place: number): number {
    return this.shares(side)(relation, place);
  }

  chance(side: Side, relation: number, place: number): { level: number; q: number; exact: boolean } | undefined {
    const at = relation * this.size + place;
    const level = this.get(`${side}.chance`);
    if (!level) return undefined;
    return { level: level[at], q: this.get(`${side}.q`)![at], exact: this.get(`${side}.exact`)![at] === 1 };
  }

  hasHeads(place: number): boolean {
    return this.facts.hasHeads[Math.floor(place / this.facts.heads)];
  }

  name(place: number): string {
    return `L${Math.floor(place / this.facts.heads)}H${place % this.facts.heads}`;
  }

  /** The place of a name such as `L23H4`, whatever its case; undefined if there is no such head. */
  place(name: string): number | undefined {
    const found = /^\s*l?(\d+)\s*[h.,\s]\s*(\d+)\s*$/i.exec(name);
    if (!found) return undefined;
    const [layer, head] = [Number(found[1]), Number(found[2])];
    return layer < this.facts.layers && head < this.facts.heads ? layer * this.facts.heads + head : undefined;
  }

  /** The share of a head's attention that a way of reading takes; NaN if it was not measured. */
  reading(behaviour: number, place: number): number {
    return this.get("reading.value")?.[behaviour * this.size + place] ?? NaN;
  }

  /** Whether a head is named for a way of reading. */
  reads(behaviour: number, place: number): boolean {
    return this.get("reading.has")?.[behaviour * this.size + place] === 1;
  }

  /** The ways of reading that a head is named for: numbers into the facts, the largest share first. */
  readingsOf(place: number): number[] {
    return (this.facts.reading ?? [])
      .map((_, behaviour) => behaviour)
      .filter((behaviour) => this.reads(behaviour, place))
      .sort((one, other) => this.reading(other, place) - this.reading(one, place));
  }

  /** The named edges into a head or out of it, the strongest of each kind first. */
  edgesOf(place: number, end: "sender" | "receiver"): Edge[] {
    const { composition } = this.facts;
    if (!composition) return [];
    const of = (name: string, edge: number) => this.get(`edge.${name}`)![edge];
    return Array.from({ length: composition.edges }, (_, edge) => edge)
      .filter((edge) => of(end, edge) === place)
      .map((edge) => {
        const [share, change, low, high, random, copying, randomCopying] = this.get("edge.removed")!.subarray(
          7 * edge,
          7 * edge + 7,
        );
        return {
          sender: of("sender", edge),
          receiver: of("receiver", edge),
          kind: composition.kinds[of("kind", edge)],
          about: composition.about[of("about", edge)],
          strength: of("strength", edge),
          chance: of("chance", edge),
          q: of("q", edge),
          removed: Number.isNaN(share) ? undefined : { share, change, low, high, random, copying, randomCopying },
        };
      });
  }

  /** Pairs that a head hits: numbers into `pair.*`. */
  hitsOf(place: number, side: Side): number[] {
    const places = this.get("hit.place");
    if (!places) return [];
    const [pairs, sides] = [this.get("hit.pair")!, this.get("hit.side")!];
    const wanted = side === "score" ? 0 : 1;
    const found: number[] = [];
    for (let at = lowerBound(places, place); at < places.length && places[at] === place; at++)
      if (sides[at] === wanted) found.push(pairs[at]);
    return found;
  }

  pair(number: number): { relation: number; source: string; target: string } {
    return {
      relation: this.get("pair.relation")![number],
      source: this.word(this.get("pair.source")![number]),
      target: this.word(this.get("pair.target")![number]),
    };
  }
}

/** A head of the other atlas that does the same. */
export interface Alike {
  place: number;
  similarity: number;
  q: number;
  common: number;
  expected: number;
}

/** The heads of the other atlas that are matched with one of atlas `which`, the most similar first. */
export function alike(explored: Explored, side: Side, which: number, place: number): Alike[] {
  const [own, other] = which ? (["second", "first"] as const) : (["first", "second"] as const);
  return (explored.functions?.[side]?.matched ?? [])
    .filter((each) => each[own] === place)
    .map((each) => ({ ...each, place: each[other] }))
    .sort((one, two) => two.similarity - one.similarity);
}

/** What the running model does if the later head does not read what the sender writes; NaN where there is nothing. */
export interface Removed {
  share: number;
  change: number;
  low: number;
  high: number;
  random: number;
  copying: number;
  randomCopying: number;
}

/** A head that feeds a later one. */
export interface Edge {
  sender: number;
  receiver: number;
  /** What of the later head reads it: `key`, `query`, `value`. */
  kind: string;
  /** What the sender writes about. */
  about: string;
  strength: number;
  chance: number;
  q: number;
  removed: Removed | undefined;
}

function lowerBound(sorted: Numbers, value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export async function open(compressed: Uint8Array): Promise<Explored> {
  const stream = new Blob([compressed as BlobPart]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header: Header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  if (header.format !== 1) throw new Error(`Expected data of format 1, found ${header.format}.`);
  const arrays = new Map<string, Numbers>();
  for (const [name, { type, shape, offset }] of Object.entries(header.arrays)) {
    const count = shape.reduce((product, size) => product * size, 1);
    arrays.set(name, new TYPES[type](buffer, 4 + length + offset, count));
  }
  return {
    functions: header.functions,
    atlases: header.atlases.map((facts) => new AtlasData(facts, header.words, arrays)),
    palettes: header.palettes,
    readingPalettes: header.readingPalettes,
    maxQ: header.maxQ,
    minExcess: header.minExcess,
    minUncopied: header.minUncopied,
    version: header.version,
    link: header.link,
  };
}

/** The bytes of base64 text, which may be long. */
export function fromBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
