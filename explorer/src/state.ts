// A view, and how the address holds it, so that a link shows the same view.

import { parseThreshold } from "./classify";
import type { AtlasData, Explored } from "./data";
import type { Rule, Side } from "./message";

export type Tab = "heads" | "report";
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

export function firstView(explored: Explored): View {
  const { facts } = explored.atlases[0];
  return {
    what: "writing",
    side: "score",
    rule: facts.rule,
    threshold: facts.threshold,
    relation: "",
    palette: "paper",
    theme: "auto",
    head: "",
    query: "",
    tab: "heads",
    compare: explored.atlases.length > 1 ? "both" : "a",
    card: "a",
    sort: "",
  };
}

/** A view with those values of `given` that are valid for these atlases; everything else is kept. */
export function changed(explored: Explored, view: View, given: Partial<Record<keyof View, unknown>>): View {
  const atlas = explored.atlases[0];
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
  next.relation = oneOf("relation", ["", ...atlas.facts.relations.map((each) => each.name)]) ?? next.relation;
  next.palette = oneOf("palette", Object.keys(explored.palettes)) ?? next.palette;
  next.theme = oneOf("theme", ["auto", "light", "dark"] as const) ?? next.theme;
  next.tab = oneOf("tab", ["heads", "report"] as const) ?? next.tab;
  next.compare =
    explored.atlases.length > 1 ? (oneOf("compare", ["a", "b", "both", "difference"] as const) ?? next.compare) : "a";
  const measured = explored.atlases.every((each) => each.facts.reading !== null) && next.compare !== "difference";
  next.what = measured ? (oneOf("what", ["writing", "reading", "both"] as const) ?? next.what) : "writing";
  next.card =
    next.compare === "a" || next.compare === "b" ? next.compare : (oneOf("card", ["a", "b"] as const) ?? next.card);
  next.query = text("query")?.slice(0, MOST_LETTERS) ?? next.query;
  next.sort = oneOf("sort", ["", ...SORTED_BY.flatMap((column) => [column, `-${column}`])]) ?? next.sort;
  if (!next.query.trim() && next.sort.endsWith("match")) next.sort = "";
  const head = text("head");
  if (head !== undefined) {
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
