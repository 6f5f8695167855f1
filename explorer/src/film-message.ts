// What the page of a film is given; `headatlas.explorer.film_message` has the same types with the same keys.

export interface Moment {
  strongest: string;
  layer: number | null;
  score: number;
  chance: number | null;
  level: number | null;
  heads: number[];
}

export interface FilmFunction {
  name: string;
  title: string;
  category: string;
  colour: string;
  reading: boolean;
  sentence: string;
  moments: (Moment | null)[];
}

export interface Scene {
  name: string;
  step: number;
  layers: number;
  heads: number;
  hasHeads: boolean[];
  scores: string;
}

export interface FilmData {
  title: string;
  note: string;
  categories: [string, string][];
  counts: string[];
  ways: [string, string][];
  wayCounts: string[];
  scale: string[];
  scenes: Scene[];
  functions: FilmFunction[];
}
