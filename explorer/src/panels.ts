// What each panel shows: the colours of its cells, what its bars count, and the legend of all panels.

import { type Classified, thresholdShare } from "./classify";
import type { AtlasData, Explored } from "./data";
import { ANY, DARK_COUNTS, diverging, INKS, type Ink, LOST, mixed, ramp, STEPS, scaleOf } from "./inks";
import type { Palette } from "./message";
import { spoken } from "./names";
import { ordered, PROPORTIONS } from "./proportions";
import { atlasesShown, type View } from "./state";

/** What one panel shows: the colour of every place, and which places its bars count. */
export interface Panel {
  key: string;
  /** Number of its atlas in the page; of a difference, the second. */
  which: number;
  title: string;
  atlas: AtlasData;
  colours: string[];
  /** By place: stripes in place of the one colour. */
  stripes?: (string[] | undefined)[];
  /** By place: 1 if what the head does is not beyond chance, or not beyond copying. */
  unsure?: Uint8Array;
  /** By place: the colour of a frame, for a head that does the opposite. */
  frames?: (string | undefined)[];
  counted: Uint8Array | null;
  bar: string;
  /** The count of the longest bar; the same for all panels, so that their bars can be compared. */
  most: number;
}

/** A name, its colour, and how its cells are drawn. */
export type Swatch = [string, string, ("unsure" | "frame")?];

export interface Legend {
  swatches: Swatch[];
  /** What the bars count, where that is not heads. */
  note: string;
  scale: { colours: string[]; from: string; to: string } | null;
}

export const counted = (count: number, name: string) =>
  `${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`;

/** The name of an atlas, after its letter if there are two. */
export function atlasName(explored: Explored, which: number): string {
  const { name } = explored.atlases[which].facts;
  return explored.atlases.length > 1 ? `${"AB"[which]}: ${name}` : name;
}

/** What cells show beside the categories themselves, by atlas; null where it was not measured. */
export interface Extras {
  /** Heads by the rule that asks for more than chance and copying. */
  sure: (Classified | null)[];
  /** Heads of the other side: what they suppress, if the view is about what they promote. */
  opposite: (Classified | null)[];
}

export function panels(
  explored: Explored,
  classified: Classified[],
  view: View,
  dark: boolean,
  extras: Extras,
): { panels: Panel[]; legend: Legend } {
  const palette = explored.palettes[view.palette];
  const ink = INKS[dark ? "dark" : "light"];
  if (view.compare === "difference" && explored.atlases.length > 1)
    return differences(explored, classified, view, palette, ink, dark);
  const shownOnes = atlasesShown(view).filter((which) => which < explored.atlases.length);
  // Two models by function: their maps side by side leave room for the tables; each has its panels alone.
  const firstOnly = explored.functions !== null && shownOnes.length > 1;
  const some = (all: Panel[]) => (firstOnly ? all.slice(0, 1) : all);
  const writes = view.what !== "reading";
  const made: Panel[] = [];
  const swatches: Swatch[] = [];
  const notes: string[] = [];
  let scale: Legend["scale"] = null;
  const strong = view.look === "strength";
  const low = thresholdShare(view.threshold);
  if (writes && view.relation) {
    const largest = Math.max(...shownOnes.map((which) => strongest(explored.atlases[which], view)));
    const colours = scaleOf(palette, dark, strong ? ink.unclassified : null);
    for (const which of shownOnes) made.push(scalePanel(explored, view, colours, largest, ink, which, extras, palette));
    scale = { colours, from: "0", to: largest.toFixed(2) };
  } else if (writes) {
    const high = Math.max(low + 0.05, ...shownOnes.flatMap((which) => classified[which].best.map(largestOf)));
    const occurring = new Set(shownOnes.flatMap((which) => indicesOf(classified[which])));
    for (const which of shownOnes)
      made.push(
        ...some(
          groupPanels(
            explored,
            classified[which],
            palette,
            ink,
            which,
            WRITING,
            occurring,
            strong ? { low, high } : null,
            {
              sure: extras.sure[which],
              opposite: extras.opposite[which],
            },
          ),
        ),
      );
    const several = new Set(shownOnes.flatMap((which) => [...classified[which].counts]));
    swatches.push(...swatchesOf(palette, WRITING, strong, occurring, several));
    const absent = palette.categories.filter((_, at) => !occurring.has(at)).map(([name]) => name);
    if (absent.length && occurring.size) notes.push(`No head: ${absent.join(", ")}.`);
    if (strong && Math.max(...several) > 1) notes.push("Stripes: several categories.");
    if (strong && occurring.size)
      scale = { colours: ramp(ink.text, ink.unclassified), from: `score ${low.toFixed(2)}`, to: high.toFixed(2) };
  }
  if (view.what !== "writing") {
    const chosen = explored.readingPalettes[view.palette];
    const colours = dark ? { ...chosen, counts: DARK_COUNTS } : chosen;
    const readings = shownOnes.map((which) => readingSet(explored.atlases[which]));
    const occurring = new Set(readings.flatMap(indicesOf));
    for (const [at, which] of shownOnes.entries())
      made.push(
        ...some(
          groupPanels(
            explored,
            readings[at],
            colours,
            ink,
            which,
            READING,
            occurring,
            strong ? { low: 0, high: 1 } : null,
          ),
        ),
      );
    const several = new Set(readings.flatMap((each) => [...each.counts]));
    swatches.push(...swatchesOf(colours, READING, strong, occurring, several));
  }
  const longest = Math.max(1, ...made.filter((panel) => panel.counted).map((panel) => largestOf(tally(panel).flat())));
  for (const panel of made) panel.most = longest;
  const grey: Swatch[] = swatches.length ? [[PROPORTIONS.rest, ink.unclassified]] : [];
  const marks: Swatch[] = [];
  const any = (of: (panel: Panel) => boolean | undefined) => made.some(of);
  if (any((panel) => panel.unsure?.some(Boolean))) marks.push(["not beyond chance or copying", ink.bar, "unsure"]);
  if (any((panel) => panel.frames?.some(Boolean)))
    marks.push([view.side === "score" ? "suppresses" : "promotes", ink.text, "frame"]);
  return {
    panels: made,
    legend: { swatches: [...swatches, ...grey, ...marks, ...noHeads(explored, ink)], note: notes.join(" "), scale },
  };
}

const largestOf = (values: ArrayLike<number>) =>
  Array.prototype.reduce.call(values, (a, b) => Math.max(Number(a), Number(b)), 0) as number;

/** Numbers of the sets that any head has. */
const indicesOf = (found: Sets) => found.has.flatMap((each, at) => (each.includes(1) ? [at] : []));

/** The highest share of the relation that the view shows, rounded up, so that a sparse map shows its strongest heads. */
function strongest(atlas: AtlasData, view: View): number {
  const [relation, share] = [atlas.relation(view.relation), atlas.shares(view.side)];
  let largest = 0;
  if (relation >= 0)
    for (let place = 0; place < atlas.size; place++) largest = Math.max(largest, share(relation, place));
  return largest ? Math.min(1, Math.ceil(largest * 20) / 20) : 1;
}

/** What a group of panels is about: the end of its keys, the title of its first panel, and what its colours count. */
interface Group {
  key: string;
  title: string;
  several: string;
}

const WRITING: Group = { key: "", title: PROPORTIONS.composite, several: "categories" };
const READING: Group = { key: "r", title: "All Ways of Reading", several: "ways of reading" };

/** The heads of each set by place, how strongly, and how many sets each has. */
type Sets = Pick<Classified, "has" | "counts" | "best">;

/** The heads of each way of reading. */
export function readingSet(atlas: AtlasData): Sets {
  const has = (atlas.facts.reading ?? []).map((_, behaviour) =>
    Uint8Array.from({ length: atlas.size }, (_, place) => Number(atlas.reads(behaviour, place))),
  );
  const counts = new Uint16Array(atlas.size);
  for (const each of has) for (let place = 0; place < atlas.size; place++) counts[place] += each[place];
  const best = has.map((each, behaviour) =>
    Float32Array.from(each, (one, place) => one && atlas.reading(behaviour, place)),
  );
  return { has, counts, best };
}

/** Swatches of the sets that occur and, where cells have no stripes, of the numbers of sets that a head is in. */
function swatchesOf(
  palette: Palette,
  group: Group,
  striped: boolean,
  occurring: Set<number>,
  several: Set<number>,
): Swatch[] {
  const sets = palette.categories.filter((_, at) => occurring.has(at));
  return ordered(sets, striped ? [] : palette.counts, several, group.several);
}

function noHeads(explored: Explored, ink: Ink): Swatch[] {
  return explored.atlases.every(({ facts }) => facts.hasHeads.every(Boolean))
    ? []
    : [[PROPORTIONS.no_heads, ink.notApplicable]];
}

function rest(atlas: AtlasData, ink: Ink): string[] {
  return Array.from({ length: atlas.size }, (_, place) =>
    atlas.hasHeads(place) ? ink.unclassified : ink.notApplicable,
  );
}

function groupPanels(
  explored: Explored,
  found: Sets,
  palette: Palette,
  ink: Ink,
  which: number,
  group: Group,
  occurring: Set<number>,
  /** The scores of the palest and of the full colour; null for the paper's look. */
  strength: { low: number; high: number } | null,
  { sure, opposite }: { sure: Sets | null; opposite: Sets | null } = { sure: null, opposite: null },
): Panel[] {
  const atlas = explored.atlases[which];
  const two = explored.atlases.length > 1;
  const ramps = palette.categories.map(([, colour]) => ramp(colour, ink.unclassified));
  const shade = (index: number, place: number) => {
    if (!strength) return palette.categories[index][1];
    if (sure && !sure.has[index][place]) return ramps[index][0];
    const { low, high } = strength;
    const part = Math.min(1, Math.max(0, (found.best[index][place] - low) / (high - low)));
    return ramps[index][Math.round(part * STEPS)];
  };
  const isUnsure = (index: number, place: number) => Number(strength && sure && !sure.has[index][place]);
  const framed = (index: number, place: number) =>
    strength && opposite?.has[index][place] ? palette.categories[index][1] : undefined;
  const composite = rest(atlas, ink);
  const stripes: Panel["stripes"] = [];
  const unsure = new Uint8Array(atlas.size);
  const frames: Panel["frames"] = [];
  for (let place = 0; place < atlas.size; place++) {
    const count = found.counts[place];
    const has = count ? found.has.flatMap((each, index) => (each[place] ? [index] : [])) : [];
    if (count === 1) composite[place] = shade(has[0], place);
    else if (count > 1 && !strength) composite[place] = palette.counts[Math.min(count - 2, palette.counts.length - 1)];
    else if (count > 1) {
      has.sort((one, other) => found.best[other][place] - found.best[one][place]);
      composite[place] = shade(has[0], place);
      stripes[place] = has.map((index) => shade(index, place));
    }
    unsure[place] = Number(count > 0 && has.every((index) => isUnsure(index, place)));
    if (strength && opposite?.counts[place])
      frames[place] = framed(
        opposite.has.findIndex((each) => each[place]),
        place,
      );
  }
  const made: Panel[] = [
    {
      key: `${which}${group.key}:all`,
      which,
      title: two ? atlasName(explored, which) : group.title,
      atlas,
      colours: composite,
      stripes,
      unsure,
      frames,
      counted: Uint8Array.from(found.counts, (count) => (count ? 1 : 0)),
      bar: ink.bar,
      most: 1,
    },
  ];
  palette.categories.forEach(([name, colour], index) => {
    if (!occurring.has(index)) return;
    const colours = rest(atlas, ink);
    const counted = new Uint8Array(atlas.size);
    const unsure = new Uint8Array(atlas.size);
    for (let place = 0; place < atlas.size; place++)
      if (found.has[index][place]) {
        colours[place] = shade(index, place);
        unsure[place] = isUnsure(index, place);
        counted[place] = 1;
      }
    made.push({
      key: `${which}${group.key}:${name}`,
      which,
      title: two ? `${"AB"[which]}: ${name}` : name,
      atlas,
      colours,
      unsure,
      frames: Array.from({ length: opposite && strength ? atlas.size : 0 }, (_, place) => framed(index, place)),
      counted,
      bar: colour,
      most: 1,
    });
  });
  return made;
}

function scalePanel(
  explored: Explored,
  view: View,
  scale: string[],
  largest: number,
  ink: Ink,
  which: number,
  { sure, opposite }: Extras,
  palette: Palette,
): Panel {
  const atlas = explored.atlases[which];
  const relation = atlas.relation(view.relation);
  const about = relation < 0 ? `${spoken(view.relation)}, not measured` : spoken(view.relation);
  const share = atlas.shares(view.side);
  const limit = thresholdShare(view.threshold);
  const strong = view.look === "strength";
  const [certain, other] = strong && relation >= 0 ? [sure[which], opposite[which]] : [null, null];
  const at = (place: number) => relation * atlas.size + place;
  const colours = rest(atlas, ink).map((colour, place) => {
    const value = atlas.hasHeads(place) && relation >= 0 ? share(relation, place) : -1;
    return value > 0 || (value === 0 && !strong) ? scale[Math.round(Math.min(1, value / largest) * 255)] : colour;
  });
  const own = palette.categories.find(([name]) => name === atlas.facts.relations[relation]?.category);
  return {
    key: `${which}:${view.relation}`,
    which,
    title: explored.atlases.length > 1 ? `${about} · ${atlasName(explored, which)}` : about,
    atlas,
    colours,
    unsure: Uint8Array.from({ length: certain ? atlas.size : 0 }, (_, place) =>
      Number(share(relation, place) > limit && !certain!.implements[at(place)]),
    ),
    frames: Array.from({ length: other ? atlas.size : 0 }, (_, place) =>
      other!.implements[at(place)] ? own?.[1] : undefined,
    ),
    counted: null,
    bar: ink.bar,
    most: 1,
  };
}

function differences(
  explored: Explored,
  classified: Classified[],
  view: View,
  palette: Palette,
  ink: Ink,
  dark: boolean,
): { panels: Panel[]; legend: Legend } {
  const [first, second] = explored.atlases;
  const theme = dark ? "dark" : "light";
  if (view.relation) {
    const relation = first.facts.relations.findIndex((each) => each.name === view.relation);
    const colours = rest(first, ink).map((colour, place) =>
      first.hasHeads(place)
        ? diverging(second.share(view.side, relation, place) - first.share(view.side, relation, place), theme)
        : colour,
    );
    const scale = Array.from({ length: 256 }, (_, step) => diverging(step / 127.5 - 1, theme));
    return {
      panels: [
        {
          key: "difference:",
          which: 1,
          title: `${spoken(view.relation)}: B − A`,
          atlas: second,
          colours,
          counted: null,
          bar: ink.bar,
          most: 1,
        },
      ],
      legend: { swatches: noHeads(explored, ink), note: "", scale: { colours: scale, from: "−1", to: "+1" } },
    };
  }
  const [lost, any] = [LOST[theme], ANY[theme]];
  const made = [["Any category: B − A", any] as [string, string], ...palette.categories].map(
    ([name, colour], index) => {
      const colours = rest(first, ink);
      const counted = new Uint8Array(first.size);
      for (let place = 0; place < first.size; place++) {
        const has = classified.map((found) =>
          index === 0 ? found.counts[place] > 0 : found.has[index - 1][place] > 0,
        );
        if (has[0] && has[1]) colours[place] = mixed(colour, ink.background);
        else if (has[1]) colours[place] = colour;
        else if (has[0]) colours[place] = lost;
        if (has[0] !== has[1]) counted[place] = 1;
      }
      return {
        key: `difference:${name}`,
        which: 1,
        title: name,
        atlas: second,
        colours,
        counted,
        bar: ink.bar,
        most: 1,
      };
    },
  );
  const longest = Math.max(1, ...made.map((panel) => largestOf(tally(panel).flat())));
  for (const panel of made) panel.most = longest;
  return {
    panels: made,
    legend: {
      note: "Bars count changed heads; in the panel of a category, gained and kept have its colour.",
      swatches: [
        ["kept", mixed(any, ink.background)],
        ["gained", any],
        ["lost", lost],
        ["in neither", ink.unclassified],
        ...noHeads(explored, ink),
      ],
      scale: null,
    },
  };
}

/** How many counted heads each layer has, and each number of a head. */
export function tally(panel: Panel): [number[], number[]] {
  const { layers, heads } = panel.atlas.facts;
  const [perLayer, perHead] = [new Array<number>(layers).fill(0), new Array<number>(heads).fill(0)];
  panel.counted?.forEach((one, place) => {
    perLayer[Math.floor(place / heads)] += one;
    perHead[place % heads] += one;
  });
  return [perLayer, perHead];
}
