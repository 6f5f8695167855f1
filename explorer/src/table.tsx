// The table behind the map: heads and relations, sorted by any column, and the same as a file.

import { useEffect, useMemo, useState } from "preact/hooks";
import { formatted, level } from "./card";
import type { Classified } from "./classify";
import type { AtlasData, Explored } from "./data";
import { shown, spoken } from "./names";
import { aboutOf, behaviourOf, type Row } from "./search";
import { atlasesListed, type SORTED_BY, type View } from "./state";

const MOST_ROWS = 100;

interface Column {
  key: (typeof SORTED_BY)[number];
  name: string;
  text: (row: Row) => string;
  /** What rows are sorted by; rows without a value come last, and a difference counts by its size. */
  value: (row: Row) => number | string | undefined;
  numeric: boolean;
  /** Whether the first click sorts from the largest. */
  largestFirst: boolean;
}

const number = (value: number) => (Number.isNaN(value) ? "" : value.toFixed(3));
const signed = (value: number) => (Number.isNaN(value) ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`);
const real = (value: number) => (Number.isNaN(value) ? undefined : value);

function columnsOf(explored: Explored, view: View, rows: Row[]): Column[] {
  const shownOnes = atlasesListed(explored, view);
  const atlas = explored.atlases[shownOnes[0]];
  const relation = (row: Row) => atlas.facts.relations[row.relation];
  const chance = (row: Row) => chanceOf(atlas, view, row);
  const known = (row: Row) => relation(row) || behaviourOf(row.relation) !== undefined;
  const hits = (row: Row) => atlas.hits(view.side, row.relation, row.place);
  const words = (key: Column["key"], text: (row: Row) => string, value: Column["value"] = text): Column => ({
    key,
    name: key,
    text,
    value,
    numeric: false,
    largestFirst: false,
  });
  const numbers = (
    key: Column["key"],
    name: string,
    text: (row: Row) => string,
    value: Column["value"],
    largestFirst = true,
  ): Column => ({ key, name, text, value, numeric: true, largestFirst });
  const all: Column[] = [
    words(
      "head",
      (row) => atlas.name(row.place),
      (row) => row.place,
    ),
    words("relation", (row) => aboutOf(atlas, row.relation)),
    words("category", (row) => relation(row)?.category ?? ""),
  ];
  if (shownOnes.length > 1) {
    all.push(
      numbers(
        "a",
        `A: ${view.side}`,
        (row) => number(row.shares[0]),
        (row) => real(row.shares[0]),
      ),
      numbers(
        "b",
        `B: ${view.side}`,
        (row) => number(row.shares[1]),
        (row) => real(row.shares[1]),
      ),
      numbers(
        "difference",
        "B − A",
        (row) => signed(row.shares[1] - row.shares[0]),
        (row) => real(Math.abs(row.shares[1] - row.shares[0])),
      ),
      words("change", (row) => row.change),
    );
  } else {
    all.push(
      numbers(
        "share",
        view.what === "writing" ? view.side : view.what === "reading" ? "share of attention" : "share",
        (row) => number(row.shares[0]),
        (row) => real(row.shares[0]),
      ),
      numbers(
        "hits",
        "hits",
        (row) =>
          relation(row) ? (hits(row) === undefined ? "not known" : `${hits(row)} of ${relation(row).pairs}`) : "",
        (row) => (relation(row) ? hits(row) : undefined),
      ),
      numbers(
        "chance",
        "chance",
        (row) => (known(row) ? (chance(row) ? level(chance(row)!) : "not measured") : ""),
        (row) => (known(row) ? chance(row)?.level : undefined),
        false,
      ),
      numbers(
        "q",
        "q",
        (row) => (known(row) ? (chance(row) ? formatted(chance(row)!.q) : "not measured") : ""),
        (row) => (known(row) ? chance(row)?.q : undefined),
        false,
      ),
    );
  }
  return rows.some((row) => row.why) ? [...all, words("match", (row) => row.why)] : all;
}

/** The chance level of a row's share; undefined if it was not measured. */
function chanceOf(atlas: AtlasData, view: View, row: Row): { level: number; q: number; exact: boolean } | undefined {
  const behaviour = behaviourOf(row.relation);
  if (behaviour === undefined) return row.relation < 0 ? undefined : atlas.chance(view.side, row.relation, row.place);
  const at = behaviour * atlas.size + row.place;
  return { level: atlas.get("reading.chance")![at], q: atlas.get("reading.q")![at], exact: true };
}

/** The column that rows are sorted by, and whether from the largest. */
function order(view: View, columns: Column[]): { column: Column; down: boolean } {
  const chosen = columns.find(({ key }) => key === view.sort.replace(/^-/, ""));
  if (chosen) return { column: chosen, down: view.sort.startsWith("-") };
  const first = view.compare === "difference" ? "difference" : "share";
  return { column: columns.find(({ key }) => key === first || (first === "share" && key === "a"))!, down: true };
}

/** The first rows of a view in its order; the strongest, or the largest change, first unless another order was chosen. */
export function sorted(explored: Explored, view: View, rows: Row[], most = Infinity): Row[] {
  const { column, down } = order(view, columnsOf(explored, view, rows));
  let valued = rows.map((row) => ({ row, value: column.value(row) }));
  if (rows.length > 20 * most && column.numeric) {
    // Only those that are not behind the last wanted one: sorting all takes longer than a slider may.
    const ascending = ({ value }: (typeof valued)[0]) => (typeof value !== "number" ? Infinity : down ? -value : value);
    const last = Float64Array.from(valued, ascending).sort()[most - 1];
    valued = valued.filter((each) => ascending(each) <= last);
  }
  const ordered = valued.sort(({ row: one, value: a }, { row: other, value: b }) => {
    if (a === undefined || b === undefined)
      return Number(a === undefined) - Number(b === undefined) || one.place - other.place;
    return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1) || one.place - other.place || one.relation - other.relation;
  });
  return ordered.slice(0, most).map(({ row }) => row);
}

/** The table as a file: whole numbers and full precision, a column for each fact. */
export function tableOf(explored: Explored, classified: Classified[], view: View, rows: Row[]): string[][] {
  const shownOnes = atlasesListed(explored, view);
  const atlas = explored.atlases[shownOnes[0]];
  const { heads } = atlas.facts;
  const text = (value: number | undefined) => (value === undefined || Number.isNaN(value) ? "" : String(value));
  const one = ["score", "hits", "pairs", "chance", "chance_is", "q", "implements"].map((name) =>
    name === "score" ? view.side : name,
  );
  const two = [`a_${view.side}`, `b_${view.side}`, "difference", "change"];
  const lines = sorted(explored, view, rows).map((row) => {
    const relation = atlas.facts.relations[row.relation];
    const start = [
      atlas.name(row.place),
      String(Math.floor(row.place / heads)),
      String(row.place % heads),
      relation?.name ?? aboutOf(atlas, row.relation),
      relation?.category ?? "",
    ];
    if (shownOnes.length > 1)
      return [...start, ...row.shares.map(text), text(row.shares[1] - row.shares[0]), row.change, row.why];
    const chance = chanceOf(atlas, view, row);
    const behaviour = behaviourOf(row.relation);
    const does = relation
      ? String(classified[shownOnes[0]].implements[row.relation * atlas.size + row.place] === 1)
      : behaviour === undefined
        ? ""
        : String(atlas.reads(behaviour, row.place));
    const hits = relation && atlas.hits(view.side, row.relation, row.place);
    return [
      ...start,
      text(row.shares[0]),
      text(hits),
      hits === undefined ? "" : String(relation.pairs),
      text(chance?.level),
      chance ? (chance.exact ? "exact" : "estimate") : "",
      text(chance?.q),
      does,
      row.why,
    ];
  });
  return [
    ["head", "layer", "head_index", "relation", "category", ...(shownOnes.length > 1 ? two : one), "match"],
    ...lines,
  ];
}

interface HeadsProps {
  explored: Explored;
  view: View;
  rows: Row[];
  summary: string;
  colours: Map<string, string>;
  update: (given: Partial<View>) => void;
  select: (head: string) => void;
}

export function Heads({ explored, view, rows, summary, colours, update, select }: HeadsProps) {
  const [most, setMost] = useState(MOST_ROWS);
  const ordered = useMemo(
    () => sorted(explored, view, rows, most),
    [explored, view.side, view.sort, view.compare, view.card, view.what, rows, most],
  );
  useEffect(() => setMost(MOST_ROWS), [rows]);
  const columns = columnsOf(explored, view, rows);
  const { column: by, down } = order(view, columns);
  const next = (column: Column) =>
    column === by ? (down ? column.key : `-${column.key}`) : column.largestFirst ? `-${column.key}` : column.key;
  return (
    <>
      <p class="ha-quiet" role="status">
        {rowCount(rows)}: {summary}
      </p>
      <div class="ha-scroll" tabIndex={0} role="region" aria-label="Table of heads">
        <table class="ha-heads">
          <thead>
            <tr>
              {columns.map((column) => (
                <th
                  key={column.key}
                  scope="col"
                  class={`${column.numeric ? "right" : ""} of-${column.key}`}
                  aria-sort={column === by ? (down ? "descending" : "ascending") : "none"}
                >
                  <button type="button" onClick={() => update({ sort: next(column) })}>
                    {column.name}
                    {column === by ? (down ? " ▾" : " ▴") : ""}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {ordered.map((row) => {
              const name = columns[0].text(row);
              return (
                <tr key={`${row.place}:${row.relation}`} class={view.head === name ? "picked" : ""}>
                  <th scope="row">
                    <button type="button" class="ha-link" onClick={() => select(name)}>
                      {name}
                    </button>
                  </th>
                  {columns.slice(1).map((column) => {
                    const text = column.text(row);
                    if (column.key === "match")
                      return (
                        <td key="match" class="ha-match">
                          <bdi>{shown(text)}</bdi>
                        </td>
                      );
                    return (
                      <td key={column.key} class={`${column.numeric ? "right" : ""} of-${column.key}`}>
                        {column.key === "category" && text && (
                          <i class="ha-dot" style={{ background: colours.get(text) }} />
                        )}
                        {text}
                      </td>
                    );
                  })}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {rows.length > most && (
        <button type="button" class="ha-more" onClick={() => setMost(most + 500)}>
          show more of {rows.length.toLocaleString("en")}
        </button>
      )}
    </>
  );
}

const rowCount = (rows: Row[]) => `${rows.length.toLocaleString("en")} ${rows.length === 1 ? "row" : "rows"}`;

const MOST_MATCHES = 12;

interface MatchesProps {
  explored: Explored;
  view: View;
  rows: Row[];
  summary: string;
  colours: Map<string, string>;
  select: (head: string) => void;
}

/** The strongest rows of a search, next to the map, where they are seen without scrolling. */
export function Matches({ explored, view, rows, summary, colours, select }: MatchesProps) {
  const first: AtlasData = explored.atlases[atlasesListed(explored, view)[0]];
  const best = useMemo(
    () => sorted(explored, { ...view, sort: "" }, rows, MOST_MATCHES),
    [explored, view.side, view.compare, view.card, rows],
  );
  return (
    <section class="ha-matches" aria-label="Matches">
      <h2>
        {rowCount(rows)} <span class="ha-quiet">found</span>
      </h2>
      <p class="ha-quiet">{summary}</p>
      <ul>
        {best.map((row) => {
          const relation = first.facts.relations[row.relation];
          return (
            <li key={`${row.place}:${row.relation}`}>
              <button type="button" class="ha-link" onClick={() => select(first.name(row.place))}>
                {first.name(row.place)}
              </button>
              <span>
                {relation ? (
                  <>
                    <i class="ha-dot" style={{ background: colours.get(relation.category) }} />
                    {spoken(relation.name)}
                  </>
                ) : (
                  aboutOf(first, row.relation)
                )}
              </span>
              <span class="ha-number">
                {!Number.isNaN(row.shares[0]) && row.shares.map((share) => share.toFixed(2)).join(" · ")}
              </span>
              {row.why && (
                <small>
                  <bdi>{shown(row.why)}</bdi>
                </small>
              )}
            </li>
          );
        })}
      </ul>
      {rows.length > best.length && (
        <p class="ha-quiet">The table below the map has all {rows.length.toLocaleString("en")}.</p>
      )}
    </section>
  );
}
