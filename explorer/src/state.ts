// A view, and how the address holds it, so that a link shows the same view.

import { parseThreshold } from "./classify";
import type { AtlasData, Explored } from "./data";
import type { Rule, Side } from "./message";

export type Tab = "functions" | "prompt" | "heads" | "report";
export type What = "writing" | "reading" | "both";
export type Compare = "a" | "b" | "both" | "difference";
export const SORTED_BY = [
  "head",
  "relation",
  "category",
  "share",
  "hits",
  "chance",
  "q",
  "match",
  "a",
  "b",
  "difference",
  "change",
] as const;

/** Longest query. */
export const MOST_LETTERS = 200;

export interface View {
  what: What;
  side: Side;
  rule: Rule;
  threshold: string;
  relation: string;
  /** Cells by the strength of what the head does, or as in the paper by the number of its categories. */
  look: "strength" | "paper";
  palette: string;
  theme: "auto" | "light" | "dark";
  head: string;
  query: string;
  tab: Tab;
  compare: Compare;
  /** If two atlases are seen at once: the one whose card and report are shown. */
  card: "a" | "b";
  sort: string;
}

/** The tabs below the map, the first of them open. */
export function tabsOf({ functions, atlases }: Explored): Tab[] {
  return [
    ...(functions ? (["functions"] as const) : []),
    ...(atlases[0].facts.prompt ? (["prompt"] as const) : []),
    "heads",
    "report",
  ];
}

export function firstView(explored: Explored): View {
  const { facts } = explored.atlases[0];
  return {
    what: "writing",
    side: "score",
    rule: explored.atlases.every((each) => each.canCalibrate("score")) ? facts.rule : "plain",
    threshold: facts.threshold,
    relation: "",
    look: "strength",
    palette: "paper",
    theme: "auto",
    head: "",
    query: "",
    tab: tabsOf(explored)[0],
    compare: explored.atlases.length > 1 ? "both" : "a",
    card: "a",
    sort: "",
  };
}

/** A view with those values of `given` that are valid for these atlases; everything else is kept. */
export function changed(explored: Explored, view: View, given: Partial<Record<keyof View, unknown>>): View {
  const next = { ...view };
  const text = (name: keyof View) => (typeof given[name] === "string" ? (given[name] as string) : undefined);
  const oneOf = <T extends string>(name: keyof View, known: readonly T[]) => {
    const value = text(name);
    return known.includes(value as T) ? (value as T) : undefined;
  };
  next.side =
    oneOf("side", explored.atlases.every((each) => each.has("suppression")) ? ["score", "suppression"] : ["score"]) ??
    next.side;
  next.rule = oneOf("rule", ["plain", "calibrated"] as const) ?? next.rule;
  if (next.rule === "calibrated" && !explored.atlases.every((each) => each.canCalibrate(next.side)))
    next.rule = "plain";
  const threshold = text("threshold");
  if (threshold !== undefined && parseThreshold(threshold)) next.threshold = threshold;
  next.relation = oneOf("relation", ["", ...relationNames(explored)]) ?? next.relation;
  next.look = oneOf("look", ["strength", "paper"] as const) ?? next.look;
  next.palette = oneOf("palette", Object.keys(explored.palettes)) ?? next.palette;
  next.theme = oneOf("theme", ["auto", "light", "dark"] as const) ?? next.theme;
  next.tab = oneOf("tab", tabsOf(explored)) ?? next.tab;
  const compared: Compare[] = ["a", "b", "both", ...(explored.functions ? [] : (["difference"] as const))];
  next.compare = explored.atlases.length > 1 ? (oneOf("compare", compared) ?? next.compare) : "a";
  const measured = explored.atlases.every((each) => each.facts.reading !== null) && next.compare !== "difference";
  next.what = measured ? (oneOf("what", ["writing", "reading", "both"] as const) ?? next.what) : "writing";
  next.card =
    next.compare === "a" || next.compare === "b" ? next.compare : (oneOf("card", ["a", "b"] as const) ?? next.card);
  next.query = text("query")?.slice(0, MOST_LETTERS) ?? next.query;
  next.sort = oneOf("sort", ["", ...SORTED_BY.flatMap((column) => [column, `-${column}`])]) ?? next.sort;
  if (!next.query.trim() && next.sort.endsWith("match")) next.sort = "";
  // Where heads do not correspond, a name means another head in the other atlas.
  const head = text("head") ?? (explored.functions && next.card !== view.card ? "" : undefined);
  if (head !== undefined) {
    const atlas = explored.atlases[next.card === "b" ? 1 : 0];
    const place = atlas.place(head);
    next.head = place === undefined ? "" : atlas.name(place);
  }
  return next;
}

export function toHash(explored: Explored, view: View): string {
  const first = firstView(explored);
  const parts = new URLSearchParams();
  for (const name of Object.keys(first) as (keyof View)[])
    if (view[name] !== first[name] && !(name === "card" && view.card === view.compare)) parts.set(name, view[name]);
  return parts.toString();
}

export function fromHash(explored: Explored, hash: string): View {
  return changed(explored, firstView(explored), Object.fromEntries(new URLSearchParams(hash.replace(/^#/, ""))));
}

/** The relations that any atlas measured. */
export function relationNames(explored: Explored): string[] {
  return [...new Set(explored.atlases.flatMap(({ facts }) => facts.relations.map((each) => each.name)))];
}

/** Numbers of the atlases that the table lists: both only where their heads correspond. */
export function atlasesListed(explored: Explored, view: View): number[] {
  return explored.functions ? [view.card === "b" ? 1 : 0] : atlasesShown(view);
}

/** Numbers of the atlases that the map shows. */
export function atlasesShown(view: View): number[] {
  return view.compare === "a" ? [0] : view.compare === "b" ? [1] : [0, 1];
}

/** Whether going from one view to the other is a step that the browser's "back" should undo. */
export function isStep(from: View, to: View): boolean {
  return (["head", "relation", "tab", "compare", "what"] as const).some((name) => from[name] !== to[name]);
}

export function selected(atlas: AtlasData, view: View): number | undefined {
  return view.head ? atlas.place(view.head) : undefined;
}
