// The whole explorer: controls, map, table, report, card. Knows one view; tells whoever mounted it of each new one.

import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Card, formatted, level, shown } from "./card";
import { categoriesAt, classify, thresholdShare } from "./classify";
import type { Explored } from "./data";
import { compose, draw, geometry, INKS, panels as panelsOf, type Panel } from "./drawing";
import { csv, png, save, svg } from "./exports";
import { HeadMap } from "./map";
import { search, type Row } from "./search";
import { changed, selected, type Sides, type View } from "./state";

export interface Mounted {
  set: (given: Partial<View>) => void;
  unmount: () => void;
}

/** Put the explorer into an element; `onChange` is told of every view that the user reaches. */
export function mount(root: HTMLElement, explored: Explored, first: View, onChange: (view: View) => void): Mounted {
  let set: (given: Partial<View>) => void = () => {};
  root.textContent = "";
  render(<App explored={explored} first={first} onChange={onChange} bind={(setter) => (set = setter)} />, root);
  return { set: (given) => set(given), unmount: () => render(null, root) };
}

interface AppProps {
  explored: Explored;
  first: View;
  onChange: (view: View) => void;
  bind: (setter: (given: Partial<View>) => void) => void;
}

function prefersDark(): boolean {
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function App({ explored, first, onChange, bind }: AppProps) {
  const [view, setView] = useState(first);
  const [system, setSystem] = useState(prefersDark());
  const root = useRef<HTMLDivElement>(null);
  const update = (given: Partial<View>) => setView((now) => changed(explored, now, given));
  bind(update);
  const told = useRef(onChange);
  told.current = onChange;
  useEffect(() => told.current(view), [view]);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const listen = () => setSystem(query.matches);
    query.addEventListener("change", listen);
    return () => query.removeEventListener("change", listen);
  }, []);
  const dark = view.theme === "dark" || (view.theme === "auto" && system);
  const ink = INKS[dark ? "dark" : "light"];
  const classified = useMemo(
    () => explored.atlases.map((atlas) => classify(explored, atlas, view.kind, view.profile, view.threshold)),
    [explored, view.kind, view.profile, view.threshold],
  );
  const shownAtlas = view.sides === "b" || view.sides === "difference" ? explored.atlases.length - 1 : 0;
  const [atlas, found] = [explored.atlases[shownAtlas], classified[shownAtlas]];
  const { panels, legend } = useMemo(() => panelsOf(explored, classified, view, dark), [explored, classified, view.relation, view.sides, view.palette, view.kind, dark]);
  const result = useMemo(() => search(atlas, found, view.kind, view.query, view.relation), [atlas, found, view.kind, view.query, view.relation]);
  const matches = useMemo(() => {
    if (!view.query.trim()) return null;
    const set = new Uint8Array(atlas.size);
    for (const row of result.rows) set[row.place] = 1;
    return set;
  }, [result, view.query, atlas]);
  const colours = useMemo(() => new Map(explored.palettes[view.palette].categories), [explored, view.palette]);
  const place = selected(atlas, view);
  const opener = useRef<HTMLElement | null>(null);
  const select = (head: string) => {
    opener.current ??= document.activeElement as HTMLElement | null;
    update({ head });
  };
  const close = () => {
    update({ head: "" });
    opener.current?.focus?.();
    opener.current = null;
  };
  useEffect(() => {
    if (view.head) root.current?.querySelector<HTMLElement>("#ha-card-name")?.focus({ preventScroll: true });
  }, [view.head]);

  const tooltip = (panel: Panel, at: number): string[] => {
    const { atlas: of } = panel;
    const its = classified[explored.atlases.indexOf(of)];
    const layer = Math.floor(at / of.told.heads);
    const title = `${of.name(at)}${explored.atlases.length > 1 ? ` · ${of.told.name}` : ""}`;
    if (!of.hasHeads(at)) return [title, `no attention heads: ${of.told.validityTold.find((each) => each.layers.includes(layer))?.why || "not applicable"}`];
    const categories = categoriesAt(its, at);
    const best = of.told.relations
      .map((relation, number) => ({ name: relation.name, number, share: of.share(view.kind, number, at) }))
      .filter((each) => (view.relation ? each.name === view.relation : each.share > 0))
      .sort((one, other) => other.share - one.share)
      .slice(0, 3)
      .map(({ name, number, share }) => {
        const chance = of.chance(view.kind, number, at);
        return `${name} ${share.toFixed(2)}${chance ? ` (chance ${chance.level.toFixed(2)})` : ""}`;
      });
    const validity = of.told.validity[layer];
    return [title, categories.join(", ") || "Unclassified", ...best, ...(validity === "exact" ? [] : [`circuit: ${validity}`])];
  };
  const caption = `${explored.atlases.map((each) => each.told.name).join(" and ")} · ${view.kind}${view.relation ? ` of ${view.relation}` : ` above ${view.threshold}`} · profile ${view.profile} · headatlas`;
  const drawing = () => {
    const big = panels.map((panel) => draw(panel, geometry(panel.atlas, Math.max(430, panel.atlas.told.layers * 8 + 80), 14), ink, matches));
    return compose(big, legend, caption, ink);
  };
  const legendView = (
    <div class="ha-legend" aria-label="Legend">
      {legend.swatches.map(([name, colour]) => <span key={name}><i style={{ background: colour }} />{name}</span>)}
      {legend.scale && <span>{legend.scale.from} <i class="scale">{legend.scale.colours.filter((_, at) => at % 8 === 0).map((colour) => <b key={colour} style={{ background: colour }} />)}</i> {legend.scale.to}</span>}
      {explored.palettes.paper.categories.length === 0 && <span>No relation was measurable.</span>}
    </div>
  );
  const file = `${atlas.told.name} ${view.relation || view.kind}`;

  return (
    <div ref={root} class={`ha ${dark ? "dark" : "light"} ${place === undefined ? "" : "with-card"}`}>
      <header class="ha-top">
        <div>
          <h1>{explored.atlases.map((each) => each.told.name).join(" ⇄ ")}</h1>
          <p class="ha-quiet">
            {atlas.told.layers} layers × {atlas.told.heads} heads{atlas.told.kvHeads && atlas.told.kvHeads < atlas.told.heads ? ` in ${atlas.told.kvHeads} key-value groups` : ""} ·{" "}
            {view.relation ? <>relation <strong>{view.relation}</strong></> : <><strong>{found.nClassified}</strong> of {found.nHeads} heads have a category</>} · {atlas.told.measure}, {atlas.told.label}
            {atlas.told.note ? ` · ${atlas.told.note}` : ""}
          </p>
        </div>
        <div class="ha-exports" role="group" aria-label="Save this view">
          <button type="button" onClick={() => save(`${file}.svg`, svg(drawing()), "image/svg+xml")}>SVG</button>
          <button type="button" onClick={() => void png(drawing()).then((blob) => save(`${file}.png`, blob))}>PNG</button>
          <button type="button" onClick={() => save(`${file}.csv`, csv(tableOf(atlas, view, result.rows)), "text/csv")}>CSV</button>
        </div>
      </header>
      <Controls {...{ explored, view, update }} />
      <div class="ha-body">
        <main>
          <HeadMap panels={panels} ink={ink} matches={matches} selected={place} tooltip={tooltip} onPick={(at) => select(atlas.name(at))} onClose={close} legend={legendView} />
          <div class="ha-tabs" role="tablist" aria-label="Below the map">
            {(["heads", "report"] as const).map((tab) => (
              <button key={tab} type="button" role="tab" id={`ha-tab-${tab}`} aria-selected={view.tab === tab} aria-controls="ha-below" onClick={() => update({ tab })}>{tab === "heads" ? "Heads" : "What the map shows"}</button>
            ))}
          </div>
          <div id="ha-below" role="tabpanel" aria-labelledby={`ha-tab-${view.tab}`}>
            {view.tab === "heads" ? <Heads {...{ atlas, view, rows: result.rows, said: result.said, colours, update, select }} /> : <Report blocks={atlas.told.report} />}
          </div>
        </main>
        {place !== undefined && (
          <aside onKeyDown={(event) => event.key === "Escape" && close()}>
            <Card {...{ atlas, classified: found, view, place, colours }} onSelect={select} onRelation={(relation) => update({ relation })} onClose={close} />
          </aside>
        )}
      </div>
    </div>
  );
}

function Controls({ explored, view, update }: { explored: Explored; view: View; update: (given: Partial<View>) => void }) {
  const atlas = explored.atlases[0];
  const noChance = !explored.atlases.every((each) => each.hasChance(view.kind));
  const noSuppression = !explored.atlases.every((each) => each.has("suppression"));
  const [typed, setTyped] = useState(view.query);
  useEffect(() => setTyped(view.query), [view.query]);
  const byCategory = new Map<string, string[]>();
  for (const { name, category } of atlas.told.relations) byCategory.set(category, [...(byCategory.get(category) ?? []), name]);
  return (
    <form class="ha-controls" role="search" onSubmit={(event) => event.preventDefault()}>
      <label class="grow">
        Search
        <input type="search" value={typed} placeholder="Paris, L23H4, capital, Knowledge…" spellcheck={false} aria-label="Search for a head, a word, a relation or a category"
          onInput={(event) => {
            setTyped(event.currentTarget.value);
            update({ query: event.currentTarget.value, tab: "heads" });
          }}
          onKeyDown={(event) => {
            const place = atlas.place(typed);
            if (event.key === "Enter" && place !== undefined) update({ head: atlas.name(place), query: "" });
            if (event.key === "Escape") update({ query: "" });
          }} />
      </label>
      <label>
        Show
        <select value={view.relation} aria-label="Categories or one relation" onChange={(event) => update({ relation: event.currentTarget.value })}>
          <option value="">all categories</option>
          {[...byCategory].map(([category, names]) => (
            <optgroup key={category} label={category}>{names.map((name) => <option key={name} value={name}>{name}</option>)}</optgroup>
          ))}
        </select>
      </label>
      <label>
        <span>Threshold <output>{view.threshold}</output></span>
        <input type="range" min="0" max="0.95" step="0.01" value={thresholdShare(view.threshold)} aria-label="Threshold" aria-valuetext={view.threshold}
          onInput={(event) => update({ threshold: String(Number(event.currentTarget.value)) })} />
      </label>
      <Choice name="Heads that" value={view.kind} options={[["score", "promote"], ["suppression", "suppress"]]} disabled={noSuppression ? "suppression" : ""} why="suppression was not measured" onPick={(kind) => update({ kind } as Partial<View>)} />
      <Choice name="Profile" value={view.profile} options={[["maps", "maps"], ["calibrated", "calibrated"]]} disabled={noChance ? "calibrated" : ""} why="chance levels were not measured" onPick={(profile) => update({ profile } as Partial<View>)} />
      {explored.atlases.length > 1 && (
        <Choice name="Atlases" value={view.sides} options={[["both", "both"], ["a", "A"], ["b", "B"], ["difference", "difference"]]} disabled="" why="" onPick={(sides) => update({ sides: sides as Sides })} />
      )}
      <Choice name="Colours" value={view.palette} options={Object.keys(explored.palettes).map((name) => [name, name])} disabled="" why="" onPick={(palette) => update({ palette })} />
      <Choice name="Theme" value={view.theme} options={[["auto", "auto"], ["light", "light"], ["dark", "dark"]]} disabled="" why="" onPick={(theme) => update({ theme } as Partial<View>)} />
    </form>
  );
}

interface ChoiceProps {
  name: string;
  value: string;
  options: [string, string][];
  disabled: string;
  why: string;
  onPick: (value: string) => void;
}

function Choice({ name, value, options, disabled, why, onPick }: ChoiceProps) {
  return (
    <fieldset class="ha-choice">
      <legend>{name}</legend>
      {options.map(([option, text]) => (
        <button key={option} type="button" aria-pressed={value === option} disabled={option === disabled} title={option === disabled ? why : undefined} onClick={() => onPick(option)}>{text}</button>
      ))}
      {disabled && <span class="ha-unseen">{why}</span>}
    </fieldset>
  );
}

const COLUMNS = ["head", "relation", "category", "share", "hits", "chance", "q", "match"] as const;

function cells(atlas: Explored["atlases"][0], view: View, row: Row): string[] {
  const relation = atlas.told.relations[row.relation];
  const name = atlas.name(row.place);
  if (!relation) return [name, "salient operations", "", "", "", "", "", row.why];
  const hits = atlas.hits(view.kind, row.relation, row.place);
  const chance = atlas.chance(view.kind, row.relation, row.place);
  return [
    name, relation.name, relation.category, row.share.toFixed(3), hits === undefined ? "not known" : `${hits} of ${relation.pairs}`,
    chance ? level(chance) : "not measured", chance ? formatted(chance.q) : "not measured", row.why,
  ];
}

function tableOf(atlas: Explored["atlases"][0], view: View, rows: Row[]): string[][] {
  return [[...COLUMNS], ...sorted(atlas, view, rows).map((row) => cells(atlas, view, row))];
}

function sorted(atlas: Explored["atlases"][0], view: View, rows: Row[]): Row[] {
  const [column, order] = [view.sort.replace(/^-/, ""), view.sort.startsWith("-") ? -1 : 1];
  const value = (row: Row): number | string => {
    const relation = atlas.told.relations[row.relation];
    if (column === "head") return row.place;
    if (column === "relation" || column === "category") return relation?.[column === "relation" ? "name" : "category"] ?? "";
    if (column === "hits") return atlas.hits(view.kind, row.relation, row.place) ?? -1;
    if (column === "chance" || column === "q") return atlas.chance(view.kind, row.relation, row.place)?.[column === "q" ? "q" : "level"] ?? 2;
    if (column === "match") return row.why;
    return Number.isNaN(row.share) ? -1 : row.share;
  };
  const direction = view.sort ? order : -1;
  return [...rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    return (a < b ? -1 : a > b ? 1 : 0) * direction || one.place - other.place || one.relation - other.relation;
  });
}

const MOST_ROWS = 100;

interface HeadsProps {
  atlas: Explored["atlases"][0];
  view: View;
  rows: Row[];
  said: string;
  colours: Map<string, string>;
  update: (given: Partial<View>) => void;
  select: (head: string) => void;
}

function Heads({ atlas, view, rows, said, colours, update, select }: HeadsProps) {
  const [most, setMost] = useState(MOST_ROWS);
  const ordered = useMemo(() => sorted(atlas, view, rows), [atlas, view.kind, view.sort, rows]);
  useEffect(() => setMost(MOST_ROWS), [rows]);
  const now = view.sort || "-share";
  const matched = rows.some((row) => row.why);
  const columns = COLUMNS.filter((column) => column !== "match" || matched);
  return (
    <>
      <p class="ha-quiet" role="status">{rows.length.toLocaleString("en")} {rows.length === 1 ? "row" : "rows"}: {said}</p>
      <div class="ha-scroll" tabIndex={0} role="region" aria-label="Table of heads">
        <table class="ha-heads">
          <thead>
            <tr>{columns.map((column) => {
              const [name, down] = [now.replace(/^-/, ""), now.startsWith("-")];
              const numeric = ["share", "hits", "chance", "q"].includes(column);
              const next = name === column ? (down ? column : `-${column}`) : column === "share" || column === "hits" ? `-${column}` : column;
              return (
                <th key={column} scope="col" class={numeric ? "right" : ""} aria-sort={name === column ? (down ? "descending" : "ascending") : "none"}>
                  <button type="button" onClick={() => update({ sort: next })}>{column === "share" ? view.kind : column}{name === column ? (down ? " ▾" : " ▴") : ""}</button>
                </th>
              );
            })}</tr>
          </thead>
          <tbody>
            {ordered.slice(0, most).map((row) => {
              const [name, relation, category, ...rest] = cells(atlas, view, row);
              return (
                <tr key={`${row.place}:${row.relation}`} class={view.head === name ? "picked" : ""}>
                  <th scope="row"><button type="button" class="ha-link" onClick={() => select(name)}>{name}</button></th>
                  <td>{relation}</td>
                  <td>{category && <i class="ha-dot" style={{ background: colours.get(category) }} />}{category}</td>
                  {rest.slice(0, 4).map((text, at) => <td key={at} class="right">{text}</td>)}
                  {matched && <td class="ha-match"><bdi>{shown(rest[4])}</bdi></td>}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {ordered.length > most && <button type="button" class="ha-more" onClick={() => setMost(most + 500)}>show more of {ordered.length.toLocaleString("en")}</button>}
    </>
  );
}

function Report({ blocks }: { blocks: Explored["atlases"][0]["told"]["report"] }) {
  const tables = blocks.filter((block) => block.type === "table");
  return (
    <article class="ha-report">
      {blocks.map((block, number) => {
        const text = block.rows[0]?.[0] ?? "";
        if (block.type === "title") return <h2 key={number}>{text}</h2>;
        if (block.type === "heading") return <h3 key={number}>{text}</h3>;
        if (block.type === "code") return <pre key={number} tabIndex={0}>{text}</pre>;
        if (block.type === "list") return <ul key={number}>{block.rows.map(([item], at) => <li key={at}>{item}</li>)}</ul>;
        if (block.type === "table")
          return (
            <div key={number} class="ha-scroll" tabIndex={0} role="region" aria-label={`Table ${tables.indexOf(block) + 1} of the report`}>
              <table>
                <thead><tr>{block.rows[0].map((cell, at) => <th key={at} scope="col">{cell}</th>)}</tr></thead>
                <tbody>{block.rows.slice(1).map((row, at) => <tr key={at}>{row.map((cell, column) => <td key={column}>{cell}</td>)}</tr>)}</tbody>
              </table>
            </div>
          );
        return <p key={number}>{text}</p>;
      })}
    </article>
  );
}
