// Panels as lists of rectangles and texts: the screen, SVG and PNG are all painted from them.

import type { Classified } from "./classify";
import type { AtlasData, Explored } from "./data";
import type { Palette } from "./message";
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
  line: string;
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
    line: "#ffffff",
  },
  dark: {
    background: "#15181c",
    text: "#f0f0f0",
    quiet: "#a9b0b8",
    bar: "#7d858f",
    unclassified: "#363c44",
    notApplicable: "#1d2126",
    hatch: "#3b424b",
    line: "#15181c",
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
  counted: Uint8Array | null;
  bar: string;
}

export interface Legend {
  swatches: [string, string][];
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

const SIDE = { left: 40, top: 52, right: 34, bottom: 36, bars: 22 };
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

export function panels(
  explored: Explored,
  classified: Classified[],
  view: View,
  dark: boolean,
): { panels: Panel[]; legend: Legend } {
  const palette = explored.palettes[view.palette];
  const ink = INKS[dark ? "dark" : "light"];
  // Nothing lies near the ground's brightness in both themes.
  const scale = dark ? [...palette.scale].reverse() : palette.scale;
  if (view.compare === "difference" && explored.atlases.length > 1)
    return differences(explored, classified, view, palette, ink, dark);
  const shownOnes = atlasesShown(view).filter((which) => which < explored.atlases.length);
  // Two models by function: their maps side by side leave room for the tables; each has its panels alone.
  const firstOnly = explored.functions !== null && shownOnes.length > 1;
  const some = (all: Panel[]) => (firstOnly ? all.slice(0, 1) : all);
  const writes = view.what !== "reading";
  const made: Panel[] = [];
  const swatches: [string, string][] = [];
  if (writes)
    for (const which of shownOnes)
      made.push(
        ...(view.relation
          ? [scalePanel(explored, view, scale, ink, which)]
          : some(groupPanels(explored, classified[which], palette, ink, which, WRITING))),
      );
  if (writes && !view.relation) swatches.push(...swatchesOf(palette, WRITING, palette.counts.length));
  if (view.what !== "writing") {
    const chosen = explored.readingPalettes[view.palette];
    const colours = dark ? { ...chosen, counts: DARK_COUNTS } : chosen;
    const readings = shownOnes.map((which) => readingSet(explored.atlases[which]));
    for (const [at, which] of shownOnes.entries())
      made.push(...some(groupPanels(explored, readings[at], colours, ink, which, READING)));
    // Few heads look in many ways: only numbers that occur are named.
    const most = readings.reduce((largest, each) => each.counts.reduce((a, b) => Math.max(a, b), largest), 0);
    swatches.push(...swatchesOf(colours, READING, most - 1));
  }
  const grey: [string, string][] = swatches.length ? [["Unclassified", ink.unclassified]] : [];
  return {
    panels: made,
    legend: {
      swatches: [...swatches, ...grey, ...noHeads(explored, ink)],
      note: "",
      scale: writes && view.relation ? { colours: scale, from: "0", to: "1" } : null,
    },
  };
}

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

/** The heads of each set by place, and how many sets each has. */
type Sets = Pick<Classified, "has" | "counts">;

/** The heads of each way of reading. */
export function readingSet(atlas: AtlasData): Sets {
  const has = (atlas.facts.reading ?? []).map((_, behaviour) =>
    Uint8Array.from({ length: atlas.size }, (_, place) => Number(atlas.reads(behaviour, place))),
  );
  const counts = new Uint16Array(atlas.size);
  for (const each of has) for (let place = 0; place < atlas.size; place++) counts[place] += each[place];
  return { has, counts };
}

function swatchesOf(palette: Palette, group: Group, counts: number): [string, string][] {
  const names = palette.categories.map(([name, colour]) => [name, colour] as [string, string]);
  const numbers = palette.counts
    .slice(0, Math.max(0, Math.min(counts, names.length - 1)))
    .map((colour, number) => [`${number + 2} ${group.several}`, colour] as [string, string]);
  return [...numbers.reverse(), ...names.reverse()];
}

function noHeads(explored: Explored, ink: Ink): [string, string][] {
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
): Panel[] {
  const atlas = explored.atlases[which];
  const two = explored.atlases.length > 1;
  const composite = rest(atlas, ink);
  for (let place = 0; place < atlas.size; place++) {
    const count = found.counts[place];
    if (count === 1) composite[place] = palette.categories[found.has.findIndex((each) => each[place])][1];
    else if (count > 1) composite[place] = palette.counts[Math.min(count - 2, palette.counts.length - 1)];
  }
  const made: Panel[] = [
    {
      key: `${which}${group.key}:all`,
      which,
      title: two ? atlasName(explored, which) : group.title,
      atlas,
      colours: composite,
      counted: Uint8Array.from(found.counts, (count) => (count ? 1 : 0)),
      bar: ink.bar,
    },
  ];
  palette.categories.forEach(([name, colour], index) => {
    const colours = rest(atlas, ink);
    const counted = new Uint8Array(atlas.size);
    for (let place = 0; place < atlas.size; place++)
      if (found.has[index][place]) {
        colours[place] = colour;
        counted[place] = 1;
      }
    made.push({
      key: `${which}${group.key}:${name}`,
      which,
      title: two ? `${"AB"[which]}: ${name}` : name,
      atlas,
      colours,
      counted,
      bar: colour,
    });
  });
  return made;
}

function scalePanel(explored: Explored, view: View, scale: string[], ink: Ink, which: number): Panel {
  const atlas = explored.atlases[which];
  const relation = atlas.relation(view.relation);
  const about = relation < 0 ? `${view.relation}, not measured` : view.relation;
  const colours = rest(atlas, ink).map((colour, place) =>
    atlas.hasHeads(place) && relation >= 0 ? scale[Math.round(atlas.share(view.side, relation, place) * 255)] : colour,
  );
  return {
    key: `${which}:${view.relation}`,
    which,
    title: explored.atlases.length > 1 ? `${about} · ${atlasName(explored, which)}` : about,
    atlas,
    colours,
    counted: null,
    bar: ink.bar,
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
          title: `${view.relation}: B − A`,
          atlas: second,
          colours,
          counted: null,
          bar: ink.bar,
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
      return { key: `difference:${name}`, which: 1, title: name, atlas: second, colours, counted, bar: ink.bar };
    },
  );
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
  const perLayer = new Array<number>(layers).fill(0);
  const perHead = new Array<number>(heads).fill(0);
  for (let layer = 0; layer < layers; layer++)
    for (let head = 0; head < heads; head++) {
      const place = layer * heads + head;
      if (panel.counted?.[place]) {
        perLayer[layer]++;
        perHead[head]++;
      }
      const colour =
        dimmed && !dimmed[place] && hasHeads[layer]
          ? mixed(panel.colours[place], ink.background, 0.25)
          : panel.colours[place];
      const [x, y] = [left + layer * cell, top + head * cell];
      shapes.push({ x, y, width: cell - gap, height: cell - gap, colour });
      if (dimmed?.[place] && cell >= 6)
        shapes.push(
          { x, y, width: cell - gap, height: 1, colour: ink.text },
          { x, y: y + cell - gap - 1, width: cell - gap, height: 1, colour: ink.text },
          { x, y, width: 1, height: cell - gap, colour: ink.text },
          { x: x + cell - gap - 1, y, width: 1, height: cell - gap, colour: ink.text },
        );
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
    const most = Math.max(1, ...perLayer);
    perLayer.forEach((count, layer) => {
      const height = Math.round((count / most) * SIDE.bars * text);
      if (height)
        shapes.push({
          x: left + layer * cell,
          y: top - 3 - height,
          width: Math.max(1, cell - gap),
          height,
          colour: panel.bar,
        });
    });
    const widest = Math.max(1, ...perHead);
    perHead.forEach((count, head) => {
      const width = Math.round((count / widest) * SIDE.bars * text);
      if (width)
        shapes.push({
          x: left + layers * cell + 3,
          y: top + head * cell,
          width,
          height: Math.max(1, cell - gap),
          colour: panel.bar,
        });
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
  for (const [name, colour] of legend.swatches) {
    if (at + 30 + name.length * 7.2 > Math.max(width, 480)) [at, y] = [12, y + 20];
    shapes.push(
      { x: at, y: y - 10, width: 12, height: 12, colour },
      { x: at + 18, y, size: 12, anchor: "start", colour: ink.text, text: name },
    );
    at += 36 + name.length * 7.2;
  }
  if (legend.scale) {
    shapes.push({ x: 12, y, size: 12, anchor: "start", colour: ink.text, text: legend.scale.from });
    for (const [step, colour] of legend.scale.colours.entries())
      shapes.push({ x: 34 + step, y: y - 10, width: 1, height: 12, colour });
    shapes.push({ x: 298, y, size: 12, anchor: "start", colour: ink.text, text: legend.scale.to });
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
