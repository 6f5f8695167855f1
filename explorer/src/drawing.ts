// Panels as lists of rectangles and texts: the screen, SVG and PNG are all painted from them.

import type { AtlasData } from "./data";
import { type Ink, mixed } from "./inks";
import { type Legend, type Panel, tally } from "./panels";
import { lineBetween, ticks } from "./proportions";

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

export function draw(panel: Panel, box: Geometry, ink: Ink, dimmed: Uint8Array | null): Drawing {
  const { layers, heads, kvHeads, hasHeads, validity } = panel.atlas.facts;
  const { cell, left, top, text } = box;
  const size = (points: number) => Math.round(points * text * 10) / 10;
  const shapes: Shape[] = [];
  const gap = lineBetween(cell);
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
  const [across, down] = ticks(layers, heads, Math.ceil((24 * text) / cell), Math.ceil((13 * text) / cell));
  for (const layer of across)
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
  for (const head of down)
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
