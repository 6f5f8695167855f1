// The header of the payload: `src/headatlas/explorer/message.py` has the same types with the same keys.

export type Side = "score" | "suppression";
export type Rule = "plain" | "calibrated";

export interface Relation {
  name: string;
  category: string;
  k: number;
  pairs: number;
  description: string;
  copying: boolean;
}

/** A relation that was not measurable. */
export interface Unmeasured {
  name: string;
  category: string;
  pairs: number | null;
}

/** How far the circuits of some layers are exact, and why not. */
export interface Validity {
  kind: string;
  why: string;
  layers: number[];
}

/** Sizes of the arrays of salient operations: tokens by head, and tokens that each is mapped to. */
export interface Salient {
  tokens: number;
  mapped: number;
}

/** Sizes of the arrays of words that heads look for: whoever asks; queries, and words for each. Above the agreement `certain` they are not called uncertain. */
export interface ReadingWords {
  keys: number;
  queries: number;
  ofQuery: number;
  certain: number;
}

/** A way of reading; a head is named for it above the limit. */
export interface Behaviour {
  name: string;
  title: string;
  limit: number;
}

/** Which heads feed which: how many edges were tried, and the number of those that are named, which arrays hold. */
export interface Composition {
  tried: number;
  edges: number;
  kinds: string[];
  about: string[];
}

/** Sentences by a language model: which one, and the score that guessing has; arrays hold sentences and scores. */
export interface Written {
  model: string;
  chance: number;
}

/** Whether a head does at the prompt what its card says; null if the prompt does not show it. */
export interface PromptCheck {
  title: string;
  agrees: boolean | null;
}

/** What a head does at the prompt: adds to the token's logit (on the controls, from low to high), looks at each token,
 * and raises words, or lowers them; `rank` of the token among them. */
export interface PromptHead {
  place: number;
  adds: number;
  low: number | null;
  high: number | null;
  attention: number[];
  rank: number;
  lowers: boolean;
  words: string[];
  checks: PromptCheck[];
}

/** What the heads do at one prompt for one next token; the heads that stand out most first. */
export interface Prompt {
  text: string;
  token: string;
  tokens: string[];
  rule: string;
  controls: number;
  sentences: string[];
  heads: PromptHead[];
}

/** Right answers by the number of heads removed, for heads in one order. */
export interface Curve {
  relation: string;
  task: string;
  order: string;
  random: boolean;
  removed: number[];
  correct: number[];
  prompts: number[];
}

/** A part of a line of text. */
export interface Piece {
  style: "plain" | "code" | "strong";
  text: string;
}

export interface TextBlock {
  type: "title" | "heading" | "paragraph";
  text: Piece[];
}

export interface ListBlock {
  type: "list";
  items: Piece[][];
}

/** A table; `right` are the numbers of the columns aligned to the right. */
export interface TableBlock {
  type: "table";
  header: Piece[][];
  rows: Piece[][][];
  right: number[];
}

export interface CodeBlock {
  type: "code";
  text: string;
}

export type Block = TextBlock | ListBlock | TableBlock | CodeBlock;

/** One atlas; its arrays have names that begin with `prefix`. */
export interface AtlasFacts {
  prefix: string;
  name: string;
  measure: string;
  label: string;
  threshold: string;
  rule: Rule;
  layers: number;
  heads: number;
  kvHeads: number | null;
  note: string;
  warning: string;
  validity: string[];
  validityGroups: Validity[];
  hasHeads: boolean[];
  relations: Relation[];
  notMeasured: Unmeasured[];
  hasCounts: boolean;
  pairs: boolean;
  salient: Salient | null;
  similar: number;
  descriptions: boolean;
  written: Written | null;
  prompt: Prompt | null;
  validation: boolean;
  ablation: Curve[] | null;
  reading: Behaviour[] | null;
  readingWords: ReadingWords | null;
  composition: Composition | null;
  report: Block[];
}

/** The head with the most hits on the shared pairs of a relation; `place` is null if no head has any. */
export interface Strongest {
  place: number | null;
  score: number;
  chance: number | null;
  copying: number | null;
}

/** A relation that both atlases measured. */
export interface SharedRelation {
  name: string;
  category: string;
  pairs: number;
  first: Strongest;
  second: Strongest;
}

/** Places of a head of the first atlas and the most similar one of the second, beyond chance. */
export interface Matched {
  first: number;
  second: number;
  similarity: number;
  q: number;
  common: number;
  expected: number;
}

/** Two atlases by function, for one side; `tried` heads of the first had enough hits to be matched. */
export interface Functions {
  relations: SharedRelation[];
  onlyFirst: string[];
  onlySecond: string[];
  matched: Matched[];
  tried: number;
  fewestHits: number;
  byChance: number | null;
}

/** Colours of categories by name, of two and more categories, and 256 colours of a continuous scale. */
export interface Palette {
  categories: [string, string][];
  counts: string[];
  unclassified: string;
  notApplicable: string;
  scale: string[];
}

/** Where an array lies in the bytes after the header. */
export interface Stored {
  type: string;
  shape: number[];
  offset: number;
}

/** `functions` by side, if the heads of two atlases do not correspond; `version` of the tool; `link` to the scores. */
export interface Header {
  format: number;
  atlases: AtlasFacts[];
  functions: Record<string, Functions> | null;
  words: string[];
  palettes: Record<string, Palette>;
  readingPalettes: Record<string, Palette>;
  maxQ: number;
  minExcess: number;
  minUncopied: number;
  version: string;
  link: string;
  arrays: Record<string, Stored>;
}
