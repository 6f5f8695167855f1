// Panels as lists of rectangles and texts: the screen, SVG and PNG are all painted from them.

import { type Classified, thresholdShare } from "./classify";
import type { AtlasData, Explored } from "./data";
import type { Palette } from "./message";
import { spoken } from "./names";
import { atlasesShown, type View } from "./state";

export type Shape =
  | { x: number; y: number; width: number; height: number; colour: string }
  | {
      x: number;
      y: number;
      size: number;
      anchor: "start" | "middle" | "end";
      colour: string;
      text: string;
      turned?: boolean;
    };

export interface Drawing {
  title: string;
  width: number;
  height: number;
  background: string;
  shapes: Shape[];
}

export interface Ink {
  background: string;
  text: string;
  quiet: string;
  bar: string;
  unclassified: string;
  notApplicable: string;
  hatch: string;
  axis: string;
}

export const INKS: Record<"light" | "dark", Ink> = {
  light: {
    background: "#ffffff",
    text: "#1a1a1a",
    quiet: "#595959",
    bar: "#8c8c8c",
    unclassified: "#d9d9d9",
    notApplicable: "#f4f4f4",
    hatch: "#c4c4c4",
    axis: "#c4c4c4",
  },
  dark: {
    background: "#15181c",
    text: "#f0f0f0",
    quiet: "#a9b0b8",
    bar: "#7d858f",
    unclassified: "#363c44",
    notApplicable: "#1d2126",
    hatch: "#3b424b",
    axis: "#4a525c",
  },
};

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

export interface Geometry {
  cell: number;
  /** Size of texts, 1 as usual. */
  text: number;
  left: number;
  top: number;
  width: number;
  height: number;
}

const SIDE = { left: 40, top: 61, right: 48, bottom: 36, bars: 22, gap: 6 };
/** So that a title fits above a small map. */
const LEAST_WIDTH = 190;
export const LOST = { light: "#262626", dark: "#f2f2f2" };
/** Heads that are in any category; no category's colour, and none of their number. */
const ANY = { light: "#0b7285", dark: "#3bc9db" };
const DIFFERENCE = { light: ["#2166ac", "#f2f2f2", "#b2182b"], dark: ["#6fb1f0", "#2b3038", "#ff8a80"] };

export function geometry(atlas: AtlasData, width: number, text = 1, most = 28): Geometry {
  const { layers, heads } = atlas.facts;
  const [left, right, top, bottom] = [SIDE.left, SIDE.right, SIDE.top, SIDE.bottom].map((room) =>
    Math.round(room * text),
  );
  const cell = Math.max(2, Math.min(most, Math.floor((width - left - right) / layers)));
  return {
    cell,
    text,
    left,
    top,
    width: Math.max(layers * cell + left + right, Math.round(LEAST_WIDTH * text)),
    height: heads * cell + top + bottom,
  };
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
    const most = shownOnes.reduce((number, which) => Math.max(number, largestOf(classified[which].counts)), 0);
    swatches.push(...swatchesOf(palette, WRITING, strong ? 0 : most - 1, occurring));
    const absent = palette.categories.filter((_, at) => !occurring.has(at)).map(([name]) => name);
    if (absent.length && occurring.size) notes.push(`No head: ${absent.join(", ")}.`);
    if (strong && most > 1) notes.push("Stripes: several categories.");
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
    // Few heads look in many ways: only numbers that occur are named.
    const most = readings.reduce((number, each) => Math.max(number, largestOf(each.counts)), 0);
    swatches.push(...swatchesOf(colours, READING, strong ? 0 : most - 1, occurring));
  }
  const longest = Math.max(1, ...made.filter((panel) => panel.counted).map((panel) => largestOf(tally(panel).flat())));
  for (const panel of made) panel.most = longest;
  const grey: Swatch[] = swatches.length ? [["Unclassified", ink.unclassified]] : [];
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

/** The colours of a relation's scores, the lowest near those of `ground`; none is as bright as the page in either theme. */
function scaleOf(palette: Palette, dark: boolean, ground: string | null): string[] {
  const scale = dark ? onDark(palette) : palette.scale;
  return ground ? scale.map((colour, step) => mixed(colour, ground, Math.min(1, 0.2 + step / 64))) : scale;
}

function onDark(palette: Palette): string[] {
  const turned = [...palette.scale].reverse();
  const first = turned.findIndex((colour) => brightness(colour) > 0.23);
  return turned.map((_, step) => turned[Math.round(first + (step / 255) * (255 - first))]);
}

const brightness = (colour: string) => {
  const [red, green, blue] = channels(colour);
  return (0.3 * red + 0.59 * green + 0.11 * blue) / 255;
};

const STEPS = 24;
/** From the paler form of a colour, for the lowest score that counts, to the colour itself; most scores are low. */
const ramp = (colour: string, ground: string) =>
  Array.from({ length: STEPS + 1 }, (_, step) => mixed(colour, ground, PALE + (1 - PALE) * (step / STEPS) ** 0.6));
const PALE = 0.38;

/** On a dark ground: heads that look in 2, 3 and more ways, whose own colours are nearly black. */
const DARK_COUNTS = ["#f5f5f5", "#a5f3ef", "#ffc9c9"];

/** What a group of panels is about: the end of its keys, the title of its first panel, and what its colours count. */
interface Group {
  key: string;
  title: string;
  several: string;
}

const WRITING: Group = { key: "", title: "All Categories", several: "categories" };
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

/** Swatches of the sets that occur and of the first `counts` numbers of them. */
function swatchesOf(palette: Palette, group: Group, counts: number, occurring: Set<number>): Swatch[] {
  const names = palette.categories
    .filter((_, at) => occurring.has(at))
    .map(([name, colour]) => [name, colour] as [string, string]);
  const numbers = palette.counts
    .slice(0, Math.max(0, Math.min(counts, palette.categories.length - 1)))
    .map((colour, number) => [`${number + 2} ${group.several}`, colour] as [string, string]);
  return [...numbers.reverse(), ...names.reverse()];
}

function noHeads(explored: Explored, ink: Ink): Swatch[] {
  return explored.atlases.every(({ facts }) => facts.hasHeads.every(Boolean))
    ? []
    : [["No attention heads", ink.notApplicable]];
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

const channels = (colour: string) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const hex = (parts: number[]) => `#${parts.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;

function mixed(colour: string, ground: string, share = 0.45): string {
  const [over, under] = [channels(colour), channels(ground)];
  return hex(over.map((part, at) => share * part + (1 - share) * under[at]));
}

function diverging(value: number, theme: "light" | "dark"): string {
  const [low, middle, high] = DIFFERENCE[theme].map(channels);
  const end = value < 0 ? low : high;
  const share = Math.sqrt(Math.min(1, Math.abs(value)));
  return hex(middle.map((part, at) => part + (end[at] - part) * share));
}

/** Distance between ticks: round numbers, with room for their text. */
export function tickStep(count: number, cell: number, room: number): number {
  const steps = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];
  return steps.find((step) => step * cell >= room && count / step <= 8) ?? steps[steps.length - 1];
}

/** How many counted heads each layer has, and each number of a head. */
function tally(panel: Panel): [number[], number[]] {
  const { layers, heads } = panel.atlas.facts;
  const [perLayer, perHead] = [new Array<number>(layers).fill(0), new Array<number>(heads).fill(0)];
  panel.counted?.forEach((one, place) => {
    perLayer[Math.floor(place / heads)] += one;
    perHead[place % heads] += one;
  });
  return [perLayer, perHead];
}

export function draw(panel: Panel, box: Geometry, ink: Ink, dimmed: Uint8Array | null): Drawing {
  const { layers, heads, kvHeads, hasHeads, validity } = panel.atlas.facts;
  const { cell, left, top, text } = box;
  const size = (points: number) => Math.round(points * text * 10) / 10;
  const shapes: Shape[] = [];
  const gap = cell >= 8 ? 1 : 0;
  shapes.push({
    x: left,
    y: size(16),
    size: size(14),
    anchor: "start",
    colour: ink.text,
    text: fitted(panel.title, (box.width - left) / size(7.6)),
  });
  const side = cell - gap;
  const frame = (x: number, y: number, width: number, colour: string) =>
    shapes.push(
      { x, y, width: side, height: width, colour },
      { x, y: y + side - width, width: side, height: width, colour },
      { x, y, width, height: side, colour },
      { x: x + side - width, y, width, height: side, colour },
    );
  for (let layer = 0; layer < layers; layer++)
    for (let head = 0; head < heads; head++) {
      const place = layer * heads + head;
      const faded = (colour: string) =>
        dimmed && !dimmed[place] && hasHeads[layer] ? mixed(colour, ink.background, 0.25) : colour;
      const [x, y] = [left + layer * cell, top + head * cell];
      const parts = panel.stripes?.[place]?.slice(0, Math.max(1, Math.floor(side / 2)));
      if (parts && parts.length > 1)
        parts.forEach((colour, at) => {
          const [from, to] = [at, at + 1].map((part) => Math.round((part * side) / parts.length));
          shapes.push({ x: x + from, y, width: to - from, height: side, colour: faded(colour) });
        });
      else shapes.push({ x, y, width: side, height: side, colour: faded(panel.colours[place]) });
      if (panel.unsure?.[place] && cell >= 5) {
        const line = Math.max(1, Math.round(side / 11));
        for (let down = line + 1; down < side; down += 2 * line + (line > 1 ? 0 : 1))
          shapes.push({ x, y: y + down, width: side, height: Math.min(line, side - down), colour: ink.background });
      }
      const framed = panel.frames?.[place];
      if (framed) frame(x, y, Math.max(1, Math.round(side * 0.16)), faded(framed));
      if (dimmed?.[place] && cell >= 6) frame(x, y, 1, ink.text);
    }
  for (let layer = 0; layer < layers; layer++) {
    const x = left + layer * cell;
    if (!hasHeads[layer])
      for (let y = top; y < top + heads * cell; y += 6)
        shapes.push({ x, y, width: cell - gap, height: 1, colour: ink.hatch });
    else if (validity[layer] !== "exact" && validity[layer] !== "not known")
      shapes.push({ x, y: top + heads * cell + 1, width: cell - gap, height: 3, colour: ink.quiet });
  }
  if (kvHeads && kvHeads < heads && heads % kvHeads === 0 && cell >= 4)
    for (let head = heads / kvHeads; head < heads; head += heads / kvHeads)
      shapes.push({
        x: left - 5,
        y: top + head * cell - 1,
        width: layers * cell + 5,
        height: gap || 1,
        colour: ink.quiet,
      });
  if (panel.counted) {
    const [perLayer, perHead] = tally(panel);
    const space = size(SIDE.gap);
    const thick = Math.max(1, Math.round(side * (cell < 6 ? 0.8 : 0.5)));
    const inset = Math.floor((side - thick) / 2);
    const long = (count: number) => (count ? Math.max(1, Math.round((count / panel.most) * SIDE.bars * text)) : 0);
    // Each bar has its number where there is room, else the first of the longest.
    const numbered = (counts: number[], at: number) =>
      counts[at] > 0 &&
      (cell >= (Math.max(...counts) < 10 ? 13 : 18) * text || at === counts.indexOf(Math.max(...counts)));
    const number = (count: number, x: number, y: number, anchor: "middle" | "start") =>
      shapes.push({ x, y, size: size(9.5), anchor, colour: ink.quiet, text: String(count) });
    shapes.push({ x: left, y: top - space, width: layers * cell - gap, height: 1, colour: ink.axis });
    perLayer.forEach((count, layer) => {
      const [x, height] = [left + layer * cell, long(count)];
      if (height) shapes.push({ x: x + inset, y: top - space - height, width: thick, height, colour: panel.bar });
      if (numbered(perLayer, layer)) number(count, x + side / 2, top - space - height - 3, "middle");
    });
    const right = left + layers * cell + space - gap;
    shapes.push({ x: right - 1, y: top, width: 1, height: heads * cell - gap, colour: ink.axis });
    perHead.forEach((count, head) => {
      const [y, width] = [top + head * cell, long(count)];
      if (width) shapes.push({ x: right, y: y + inset, width, height: thick, colour: panel.bar });
      if (numbered(perHead, head)) number(count, right + width + 3, y + side / 2 + size(3.5), "start");
    });
  }
  const below = top + heads * cell;
  const step = tickStep(layers, cell, 24 * text);
  for (let layer = 0; layer < layers; layer += step)
    shapes.push({
      x: left + (layer + 0.5) * cell,
      y: below + size(15),
      size: size(11),
      anchor: "middle",
      colour: ink.quiet,
      text: String(layer),
    });
  shapes.push({
    x: left + (layers * cell) / 2,
    y: below + size(30),
    size: size(12),
    anchor: "middle",
    colour: ink.text,
    text: "layer",
  });
  const down = tickStep(heads, cell, 13 * text);
  for (let head = 0; head < heads; head += down)
    shapes.push({
      x: left - 8,
      y: top + (head + 0.5) * cell + size(4),
      size: size(11),
      anchor: "end",
      colour: ink.quiet,
      text: String(head),
    });
  shapes.push({
    x: size(12),
    y: top + (heads * cell) / 2,
    size: size(12),
    anchor: "middle",
    colour: ink.text,
    text: "head",
    turned: true,
  });
  return { title: panel.title, width: box.width, height: box.height, background: ink.background, shapes };
}

/** A text shortened to a number of letters: its middle is left out, as similar names often differ at their end. */
function fitted(text: string, most: number): string {
  if (text.length <= most) return text;
  const kept = Math.max(2, Math.floor(most) - 1);
  return `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(text.length - Math.floor(kept / 2))}`;
}

/** All panels of a view as one drawing, with the legend, for export; each atlas begins a row. */
export function compose(drawings: (Drawing & { which: number })[], legend: Legend, caption: string, ink: Ink): Drawing {
  const shapes: Shape[] = [];
  let [x, y, row, width, which] = [0, 8, 0, 0, drawings[0]?.which];
  const most = Math.max(900, drawings[0]?.width ?? 0);
  for (const drawing of drawings) {
    if (x > 0 && (x + drawing.width > most || drawing.which !== which)) [x, y, row] = [0, y + row + 12, 0];
    which = drawing.which;
    for (const shape of drawing.shapes) shapes.push({ ...shape, x: shape.x + x, y: shape.y + y });
    x += drawing.width + 12;
    row = Math.max(row, drawing.height);
    width = Math.max(width, x);
  }
  y += row + 18;
  let at = 12;
  for (const [name, colour, kind] of legend.swatches) {
    if (at + 30 + name.length * 7.2 > Math.max(width, 480)) [at, y] = [12, y + 20];
    shapes.push({ x: at, y: y - 10, width: 12, height: 12, colour });
    if (kind === "frame") shapes.push({ x: at + 2, y: y - 8, width: 8, height: 8, colour: ink.unclassified });
    if (kind === "unsure")
      for (const down of [2, 5, 8])
        shapes.push({ x: at, y: y - 10 + down, width: 12, height: 1, colour: ink.background });
    shapes.push({ x: at + 18, y, size: 12, anchor: "start", colour: ink.text, text: name });
    at += 36 + name.length * 7.2;
  }
  if (legend.scale) {
    const { colours, from, to } = legend.scale;
    if (legend.swatches.length) y += 20;
    shapes.push({ x: 12, y, size: 12, anchor: "start", colour: ink.text, text: from });
    const first = Math.round(20 + from.length * 7.2);
    const edge = (step: number) => first + Math.round((step * 256) / colours.length);
    for (const [step, colour] of colours.entries())
      shapes.push({ x: edge(step), y: y - 10, width: edge(step + 1) - edge(step), height: 12, colour });
    shapes.push({ x: first + 264, y, size: 12, anchor: "start", colour: ink.text, text: to });
  }
  if (legend.note) {
    y += 20;
    shapes.push({ x: 12, y, size: 11, anchor: "start", colour: ink.quiet, text: legend.note });
  }
  shapes.push({ x: 12, y: y + 24, size: 11, anchor: "start", colour: ink.quiet, text: caption });
  return {
    title: caption,
    width: Math.max(width, 480, Math.max(caption.length, legend.note.length) * 6.2),
    height: y + 36,
    background: ink.background,
    shapes,
  };
}
