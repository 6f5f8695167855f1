// Colours of the page in both themes, and mixtures of them.

import type { Palette } from "./message";

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

export const LOST = { light: "#262626", dark: "#f2f2f2" };
/** Heads that are in any category; no category's colour, and none of their number. */
export const ANY = { light: "#0b7285", dark: "#3bc9db" };
const DIFFERENCE = { light: ["#2166ac", "#f2f2f2", "#b2182b"], dark: ["#6fb1f0", "#2b3038", "#ff8a80"] };

/** On a dark ground: heads that look in 2, 3 and more ways, whose own colours are nearly black. */
export const DARK_COUNTS = ["#f5f5f5", "#a5f3ef", "#ffc9c9"];

/** The colours of a relation's scores, the lowest near those of `ground`; none is as bright as the page in either theme. */
export function scaleOf(palette: Palette, dark: boolean, ground: string | null): string[] {
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

export const STEPS = 24;
/** From the paler form of a colour, for the lowest score that counts, to the colour itself; most scores are low. */
export const ramp = (colour: string, ground: string) =>
  Array.from({ length: STEPS + 1 }, (_, step) => mixed(colour, ground, PALE + (1 - PALE) * (step / STEPS) ** 0.6));
const PALE = 0.38;

const channels = (colour: string) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const hex = (parts: number[]) => `#${parts.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;

export function mixed(colour: string, ground: string, share = 0.45): string {
  const [over, under] = [channels(colour), channels(ground)];
  return hex(over.map((part, at) => share * part + (1 - share) * under[at]));
}

export function diverging(value: number, theme: "light" | "dark"): string {
  const [low, middle, high] = DIFFERENCE[theme].map(channels);
  const end = value < 0 ? low : high;
  const share = Math.sqrt(Math.min(1, Math.abs(value)));
  return hex(middle.map((part, at) => part + (end[at] - part) * share));
}
