// The whole explorer: controls, map, table, report, card. Holds one view, and calls `onChange` with each new one.

import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Card, level } from "./card";
import { categoriesAt, classify } from "./classify";
import { Choice, Controls } from "./controls";
import { type AtlasData, alike, type Explored } from "./data";
import { compose, draw, geometry } from "./drawing";
import { csv, png, save, svg } from "./exports";
import { Findings, Headline } from "./findings";
import { Functions } from "./functions";
import { INKS } from "./inks";
import { HeadMap } from "./map";
import type { AtlasFacts } from "./message";
import { speaking, spoken } from "./names";
import { atlasName, counted, type Panel, panels as panelsOf } from "./panels";
import { AtPrompt } from "./prompt";
import { PROPORTIONS } from "./proportions";
import { Report } from "./report";
import { search } from "./search";
import { atlasesShown, changed, selected, type Tab, tabsOf, type View } from "./state";
import { bestHeads, Strongest } from "./strongest";
import { Heads, Matches, sorted, tableOf } from "./table";

export interface Mounted {
  set: (given: Partial<View>) => void;
  unmount: () => void;
}

/** Put the explorer into an element; `onChange` receives every view that the user reaches. */
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

const TABS: Record<Tab, string> = {
  functions: "Both models",
  prompt: "At the prompt",
  heads: "Heads",
  report: "What the map shows",
};

function shapeOf({ facts }: AtlasData): string {
  const grouped = facts.kvHeads && facts.kvHeads < facts.heads;
  return `${counted(facts.layers, "layer")} × ${counted(facts.heads, "head")}${grouped ? ` in ${counted(facts.kvHeads!, "key-value group")}` : ""}`;
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
  const listener = useRef(onChange);
  listener.current = onChange;
  useEffect(() => listener.current(view), [view]);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const listen = () => setSystem(query.matches);
    query.addEventListener("change", listen);
    return () => query.removeEventListener("change", listen);
  }, []);
  const dark = view.theme === "dark" || (view.theme === "auto" && system);
  const ink = INKS[dark ? "dark" : "light"];
  const classified = useMemo(
    () => explored.atlases.map((atlas) => classify(explored, atlas, view.side, view.rule, view.threshold)),
    [explored, view.side, view.rule, view.threshold],
  );
  const extras = useMemo(() => {
    const other = view.side === "score" ? "suppression" : "score";
    const { rule, threshold } = view;
    return {
      sure: explored.atlases.map((atlas, which) =>
        !atlas.canCalibrate(view.side)
          ? null
          : rule === "calibrated"
            ? classified[which]
            : classify(explored, atlas, view.side, "calibrated", threshold),
      ),
      opposite: explored.atlases.map((atlas) =>
        atlas.has(other) ? classify(explored, atlas, other, rule, threshold) : null,
      ),
    };
  }, [explored, classified]);
  const two = explored.atlases.length > 1;
  const shownOnes = atlasesShown(view);
  const which = view.card === "b" ? 1 : 0;
  const [atlas, found] = [explored.atlases[which], classified[which]];
  const { panels, legend } = useMemo(
    () => panelsOf(explored, classified, view, dark, extras),
    [explored, extras, view.relation, view.compare, view.palette, view.look, view.side, view.what, dark],
  );
  const { rows, summary, matches } = useMemo(
    () => search(explored, classified, view),
    [explored, classified, view.side, view.query, view.relation, view.compare, view.card, view.what],
  );
  const speak = useMemo(
    () =>
      explored.atlases.map(({ facts }) => speaking([...facts.relations, ...facts.notMeasured].map(({ name }) => name))),
    [explored],
  );
  const colours = useMemo(() => new Map(explored.palettes[view.palette].categories), [explored, view.palette]);
  const place = selected(atlas, view);
  /** By atlas: a place that something outside of the map names. */
  const [hints, setHints] = useState<(number | null | undefined)[]>([]);
  const opener = useRef<HTMLElement | null>(null);
  const picked = useRef<Element | null>(null);
  const select = (head: string, given: Partial<View> = {}) => {
    opener.current ??= document.activeElement as HTMLElement | null;
    picked.current = document.activeElement?.closest(".ha-panel") ?? null;
    setHints([]);
    update({ head, ...given });
  };
  const close = () => {
    update({ head: "" });
    setHints([]);
    const back =
      opener.current?.isConnected && opener.current !== document.body
        ? opener.current
        : root.current?.querySelector("canvas");
    back?.focus({ preventScroll: true });
    opener.current = null;
  };
  const enter = () => {
    const typed = atlas.place(view.query);
    if (typed !== undefined) select(atlas.name(typed), { query: "" });
    else if (rows.length) select(atlas.name(sorted(explored, { ...view, sort: "" }, rows, 1)[0].place));
  };
  useEffect(() => {
    if (!view.head) return;
    root.current?.querySelector<HTMLElement>("#ha-card-name")?.focus({ preventScroll: true });
    // In a narrow window the card lies over the map's lower part.
    picked.current?.querySelector(".kept")?.scrollIntoView({ block: "nearest" });
    picked.current = null;
  }, [view.head]);

  useEffect(() => {
    // What is sticky must not cover what the keyboard reaches, or the card.
    const element = root.current!;
    const observer = new ResizeObserver(() =>
      element.style.setProperty("--controls", `${element.querySelector<HTMLElement>(".ha-controls")!.offsetHeight}px`),
    );
    observer.observe(element.querySelector(".ha-controls")!);
    return () => observer.disconnect();
  }, []);

  /** The categories of a head, or what it does the other way, or that it has none. */
  const doing = (which: number, its: (typeof classified)[0], at: number): string => {
    const [own, other] = [its, extras.opposite[which]].map((each) => (each ? categoriesAt(each, at).join(", ") : ""));
    return own || (other ? `${view.side === "score" ? "Suppresses" : "Promotes"}: ${other}` : PROPORTIONS.rest);
  };
  const differing = (at: number): string[] => {
    const [first, second] = explored.atlases;
    const categories = classified.map((its, number) => `${"AB"[number]}: ${doing(number, its, at)}`);
    const changes = first.facts.relations
      .map(({ name }, number) => ({
        name,
        from: first.share(view.side, number, at),
        to: second.share(view.side, number, at),
      }))
      .filter((each) => (view.relation ? each.name === view.relation : each.from !== each.to))
      .sort((one, other) => Math.abs(other.to - other.from) - Math.abs(one.to - one.from))
      .slice(0, 3);
    return [
      first.name(at),
      ...categories,
      ...changes.map(({ name, from, to }) => `${spoken(name)} ${from.toFixed(2)} → ${to.toFixed(2)}`),
    ];
  };
  const tooltip = (panel: Panel, at: number): string[] => {
    const { atlas: of } = panel;
    const its = classified[panel.which];
    const layer = Math.floor(at / of.facts.heads);
    if (view.compare === "difference" && of.hasHeads(at)) return differing(at);
    const title = two ? `${of.name(at)} · ${atlasName(explored, panel.which)}` : of.name(at);
    if (!of.hasHeads(at))
      return [
        title,
        `no attention heads: ${of.facts.validityGroups.find((each) => each.layers.includes(layer))?.why || "not applicable"}`,
      ];
    const best = of.facts.relations
      .map((relation, number) => ({ name: relation.name, number, share: of.share(view.side, number, at) }))
      .filter((each) => (view.relation ? each.name === view.relation : each.share > 0))
      .sort((one, other) => other.share - one.share)
      .slice(0, 3)
      .map(({ name, number, share }) => {
        const chance = of.chance(view.side, number, at);
        return `${spoken(name)} ${share.toFixed(2)}${chance ? ` (chance ${level(chance, 2)})` : ""}`;
      });
    const others = alike(explored, view.side, panel.which, at).slice(0, 3);
    const like = others.map(
      (each) =>
        `like ${explored.atlases[1 - panel.which].name(each.place)} of ${"AB"[1 - panel.which]} (${each.similarity.toFixed(2)})`,
    );
    const validity = of.facts.validity[layer];
    const ways = of
      .readingsOf(at)
      .map((number) => `${of.facts.reading![number].title} ${of.reading(number, at).toFixed(2)}`);
    const looks = of.facts.reading ? [`looks at: ${ways.join(", ") || "nothing that has a name"}`] : [];
    const sentence = of.facts.reading ? [speak[panel.which](of.word(of.get("sentence")![at]))] : [];
    if (view.what === "reading") return [title, ...looks, ...sentence];
    return [
      title,
      doing(panel.which, its, at),
      ...like,
      ...looks,
      ...best,
      ...sentence,
      ...(validity === "exact" ? [] : [`circuit: ${validity}`]),
    ];
  };
  /** By atlas: the head itself, and where heads do not correspond those that do the same. */
  const counterparts = (of: number, at: number): number[][] =>
    explored.atlases.map((_, number) =>
      number === of || !explored.functions ? [at] : alike(explored, view.side, of, at).map((each) => each.place),
    );
  const selectIn = (number: number, at: number) =>
    select(explored.atlases[number].name(at), {
      card: number ? "b" : "a",
      ...(atlasesShown(view).includes(number) ? {} : { compare: "both" as const }),
    });
  const tabs = tabsOf(explored);
  const names = shownOnes.map((number) => atlasName(explored, number));
  const caption = [
    view.compare === "difference" ? `difference B − A; ${names.join(", ")}` : names.join(", "),
    ...(view.what === "writing" ? [] : ["where heads look"]),
    ...(view.what === "reading"
      ? []
      : [
          view.relation
            ? `${view.side} of ${spoken(view.relation)}`
            : `${view.side} above ${view.threshold}, rule ${view.rule}`,
        ]),
    ...(view.query.trim() ? [`framed: ${view.query.trim()}`] : []),
    "headatlas",
  ].join(" · ");
  const drawing = () => {
    const big = panels.map((panel) => ({
      ...draw(
        panel,
        geometry(panel.atlas, Math.max(430, panel.atlas.facts.layers * 8 + 80)),
        ink,
        matches[panel.which],
      ),
      which: panel.which,
    }));
    return compose(big, legend, caption, ink);
  };
  const legendView = (
    <div class="ha-legend" role="group" aria-label="Legend">
      {legend.swatches.map(([name, colour, kind]) => (
        <span key={name}>
          <i class={kind} style={kind === "frame" ? { borderColor: colour } : { backgroundColor: colour }} />
          {name}
        </span>
      ))}
      {legend.scale && (
        <span>
          {legend.scale.from}{" "}
          <i class="scale">
            {legend.scale.colours
              .filter((_, at, all) => all.length < 64 || at % 8 === 0)
              .map((colour) => (
                <b key={colour} style={{ background: colour }} />
              ))}
          </i>{" "}
          {legend.scale.to}
        </span>
      )}
      {legend.note && <span class="ha-quiet">{legend.note}</span>}
      {explored.palettes.paper.categories.length === 0 && <span>No relation was measurable.</span>}
    </div>
  );
  const exports = (
    <div class="ha-exports" role="group" aria-label="Save this view">
      <button type="button" onClick={() => save(`${file}.svg`, svg(drawing()), "image/svg+xml")}>
        SVG
      </button>
      <button type="button" onClick={() => void png(drawing()).then((blob) => save(`${file}.png`, blob))}>
        PNG
      </button>
      <button
        type="button"
        onClick={() => save(`${file}.csv`, csv(tableOf(explored, classified, view, rows)), "text/csv")}
      >
        CSV
      </button>
    </div>
  );
  const file = [
    names.join(" "),
    ...(view.compare === "difference" ? ["difference"] : []),
    ...(view.what === "writing" ? [] : [view.what]),
    ...(view.what === "reading"
      ? []
      : [view.side, ...(view.relation ? [view.relation] : [`above ${view.threshold} ${view.rule}`])]),
    view.query.trim(),
  ]
    .filter(Boolean)
    .join(" ");
  const implementing = (number: number) => {
    const { implements: does } = classified[number];
    const { size } = explored.atlases[number];
    const relation = explored.atlases[number].relation(view.relation);
    if (view.relation && relation < 0) return 0;
    if (view.what !== "writing") {
      const of = explored.atlases[number];
      const writes = (at: number) =>
        view.what === "both" && (relation < 0 ? classified[number].counts[at] : does[relation * of.size + at]) > 0;
      return Array.from({ length: of.size }, (_, at) => writes(at) || of.readingsOf(at).length > 0).filter(Boolean)
        .length;
    }
    return relation < 0
      ? classified[number].nClassified
      : does.subarray(relation * size, (relation + 1) * size).reduce((sum, one) => sum + one, 0);
  };
  const became = (from: number, to: number) =>
    Array.from(classified[from].counts).filter((count, at) => count > 0 && classified[to].counts[at] === 0).length;
  const pickSide = (card: "a" | "b") => {
    const found = explored.functions && place !== undefined ? alike(explored, view.side, which, place) : [];
    const [best] = found;
    update({ card, ...(best && card !== view.card ? { head: explored.atlases[1 - which].name(best.place) } : {}) });
  };
  const sideChoice = two && atlasesShown(view).length > 1 && (
    <Choice
      name="Atlas"
      value={view.card}
      options={[
        ["a", "A"],
        ["b", "B"],
      ]}
      onPick={(picked) => pickSide(picked as "a" | "b")}
    />
  );
  /** A fact of the atlases that are shown, once if it is the same. */
  const same = (fact: (facts: AtlasFacts) => string) => {
    const all = (explored.functions ? shownOnes : [which]).map(
      (number) => [number, fact(explored.atlases[number].facts)] as const,
    );
    if (all.every(([, text]) => text === all[0][1])) return all[0][1];
    return all
      .map(([number, text]) => text && `${text} (${"AB"[number]})`)
      .filter(Boolean)
      .join(", ");
  };
  /** What a relation is, by one that a head implements. */
  const exampleRelation = useMemo(() => {
    const found = classify(explored, atlas, "score", atlas.facts.rule, atlas.facts.threshold);
    const names = bestHeads(atlas, "score", found, null).flatMap(({ relations }) =>
      relations.map((number) => atlas.facts.relations[number].name),
    );
    return names.find((name) => name === "country_to_capital") ?? names.find((name) => name.includes("_to_"));
  }, [explored, atlas]);
  const own = view.side === "score" && view.threshold === atlas.facts.threshold && view.rule === atlas.facts.rule;

  return (
    <div
      ref={root}
      class={`ha ${dark ? "dark" : "light"} ${place === undefined && !view.query.trim() ? "" : "with-sheet"}`}
      onKeyDown={(event) => event.key === "Escape" && view.head && close()}
    >
      <header class="ha-top">
        <div>
          <Headline {...{ explored, classified, view, shownOnes }} counts={classified.map((_, at) => implementing(at))}>
            {view.compare === "difference" && !view.relation && (
              <>
                ; {became(1, 0)} gain their first, {became(0, 1)} lose all
              </>
            )}
          </Headline>
          <p class="ha-lead">
            An attention head reads words and writes what follows from them
            {exampleRelation && `, such as ${spoken(exampleRelation)}`}; a category holds relations of one kind. Point
            at a cell, click it for the head’s card, or search for a word.
          </p>
          {shownOnes
            .filter((number) => explored.atlases[number].facts.warning)
            .map((number) => (
              <p class="ha-note" key={number}>
                {shownOnes.length > 1 && `${"AB"[number]}: `}
                {explored.atlases[number].facts.warning}
              </p>
            ))}
        </div>
      </header>
      <Controls {...{ explored, view, update, enter }} found={rows.length} save={exports} />
      <div class="ha-body">
        <main>
          <div class="ha-above">
            <HeadMap
              panels={panels}
              ink={ink}
              matches={matches}
              marks={explored.atlases.map((_, number) => [
                ...(place === undefined ? [] : counterparts(which, place)[number]).map((at) => ({
                  place: at,
                  kind: number === which || !explored.functions ? ("kept" as const) : ("partner" as const),
                })),
                ...[hints[number]].flatMap((at) =>
                  at === undefined || at === null ? [] : [{ place: at, kind: "hint" as const }],
                ),
              ])}
              follow={counterparts}
              tooltip={tooltip}
              onPick={(panel, at) =>
                select(panel.atlas.name(at), view.compare === "both" ? { card: panel.which ? "b" : "a" } : {})
              }
              legend={legendView}
            />
            <p class="ha-quiet ha-facts">
              {(explored.functions ? shownOnes : [which]).map((number, at) => (
                <span key={number}>
                  {at ? "; " : ""}
                  {explored.functions && shownOnes.length > 1 && `${"AB"[number]}: `}
                  {shapeOf(explored.atlases[number])}
                </span>
              ))}{" "}
              · {same((facts) => facts.measure)}, profile: {same((facts) => facts.label)}, rule: {view.rule}
              {same((facts) => facts.note) ? ` · ${same((facts) => facts.note)}` : ""}
            </p>
          </div>
          <div class="ha-under">
            <div class="ha-tabs" role="tablist" aria-label="Below the map">
              {tabs.map((tab, at) => (
                <button
                  key={tab}
                  type="button"
                  role="tab"
                  id={`ha-tab-${tab}`}
                  aria-selected={view.tab === tab}
                  aria-controls="ha-below"
                  tabIndex={view.tab === tab ? 0 : -1}
                  onClick={() => update({ tab })}
                  onKeyDown={(event) => {
                    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
                    const step = event.key === "ArrowLeft" ? tabs.length - 1 : 1;
                    const other = tabs[(at + step) % tabs.length];
                    update({ tab: other });
                    root.current?.querySelector<HTMLElement>(`#ha-tab-${other}`)?.focus();
                  }}
                >
                  {TABS[tab]}
                </button>
              ))}
            </div>
            <div id="ha-below" role="tabpanel" aria-labelledby={`ha-tab-${view.tab}`}>
              {view.tab === "functions" ? (
                <Functions
                  {...{ explored, classified, view, colours }}
                  select={selectIn}
                  onHint={setHints}
                  onRelation={(name) => update({ relation: name === view.relation ? "" : name })}
                />
              ) : view.tab === "prompt" ? (
                <AtPrompt
                  atlas={explored.atlases[0]}
                  place={which ? undefined : place}
                  dark={dark}
                  select={(head) => select(head, two ? { card: "a" } : {})}
                  onHint={(place) => setHints([place])}
                />
              ) : view.tab === "heads" ? (
                <>
                  {explored.functions && sideChoice}
                  <Heads {...{ explored, view, rows, summary, colours, update, select }} />
                </>
              ) : (
                <>
                  {sideChoice}
                  {!own && (
                    <p class="ha-note">
                      This report is for scores above {atlas.facts.threshold} and the rule {atlas.facts.rule}, whatever
                      is chosen above. <code>headatlas report</code> writes it for other choices.
                    </p>
                  )}
                  {view.what !== "reading" && (
                    <Findings {...{ atlas, view, colours, select }} classified={found} sure={extras.sure[which]} />
                  )}
                  <Report blocks={atlas.facts.report} speak={speak[which]} />
                </>
              )}
            </div>
          </div>
        </main>
        <aside aria-label={place !== undefined ? "Card" : view.query.trim() ? "Search" : "Strongest heads"}>
          {place !== undefined ? (
            <Card
              key={`${which} ${place}`}
              {...{ explored, which, atlas, classified: found, view, place, colours, own }}
              opposite={extras.opposite[which]}
              speak={speak[which]}
              onSelect={select}
              onHint={(place) => setHints(which ? [undefined, place] : [place])}
              onRelation={(name) => update({ relation: name })}
              onClose={close}
              onOther={(at) => selectIn(1 - which, at)}
              choice={sideChoice}
            />
          ) : view.query.trim() ? (
            <>
              {explored.functions && sideChoice}
              <Matches {...{ explored, view, rows, summary, colours, select }} />
            </>
          ) : (
            <Strongest
              {...{ explored, which, atlas, view, colours, select }}
              classified={found}
              sure={extras.sure[which]}
              opposite={extras.opposite[which]}
              onHint={(place) => setHints(which ? [undefined, place] : [place])}
              choice={sideChoice}
            />
          )}
        </aside>
      </div>
      <footer class="ha-about ha-quiet">
        headatlas {explored.version} · scores as in MAPS (Elhelo &amp; Geva, ACL 2025) ·{" "}
        <a href={explored.link} target="_blank" rel="noopener noreferrer">
          what the scores mean
        </a>
      </footer>
    </div>
  );
}
