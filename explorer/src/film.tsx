// The page of a film: models in the order of their steps, a slider, the map of heads at each step, and when each
// function appears. Data comes from the document; every text is shown as text.

import { render } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { FilmData, FilmFunction, Scene } from "./film-message";
import { DARK_COUNTS, INKS } from "./inks";
import { lineBetween, ordered, PROPORTIONS, ticks } from "./proportions";

/** Scores are bytes: this is 1, and 255 is not known. */
const ONE = 250;
const TICK = 900;
const MOST_LABELS = 5;

const decoded = (text: string) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const place = (scene: Scene, at: number) => `L${Math.floor(at / scene.heads)}H${at % scene.heads}`;
const stepOf = (scene: Scene) => scene.step.toLocaleString("en");

interface Shown {
  film: FilmData;
  at: number;
  chosen: FilmFunction | undefined;
  dark: boolean;
}

function Film({ film }: { film: FilmData }) {
  const [at, setAt] = useState(0);
  const [name, setName] = useState("");
  const [theme, setTheme] = useState("auto");
  const [system, setSystem] = useState(matchMedia("(prefers-color-scheme: dark)").matches);
  const [playing, setPlaying] = useState(false);
  const last = film.scenes.length - 1;
  const dark = theme === "dark" || (theme === "auto" && system);
  const keyOf = (each: FilmFunction) => `${each.category}/${each.name}`;
  const chosen = film.functions.find((each) => keyOf(each) === name);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const listen = () => setSystem(query.matches);
    query.addEventListener("change", listen);
    return () => query.removeEventListener("change", listen);
  }, []);
  useEffect(() => {
    if (!playing) return;
    const timer = setTimeout(() => (at < last ? setAt(at + 1) : setPlaying(false)), TICK);
    return () => clearTimeout(timer);
  }, [playing, at]);
  const go = (to: number) => {
    setPlaying(false);
    setAt(Math.max(0, Math.min(last, to)));
  };
  const scene = film.scenes[at];
  const shown = { film, at, chosen, dark };
  const appearing = film.functions.filter((each) => each.moments.some((moment) => moment?.heads.length));
  const never = film.functions.filter((each) => !appearing.includes(each));
  const groups = [...film.categories.map(([category]) => category), ...(film.ways.length ? [""] : [])];
  return (
    <div class={`hf ${dark ? "dark" : "light"}`}>
      <header>
        <h1>{film.title}</h1>
        <p class="hf-quiet">{film.note}</p>
      </header>
      <section class="hf-controls" aria-label="Controls">
        <button type="button" onClick={() => go(at - 1)} disabled={at === 0} aria-label="Step before">
          ◀
        </button>
        <button
          type="button"
          class="hf-play"
          onClick={() => {
            if (!playing && at === last) setAt(0);
            setPlaying(!playing);
          }}
        >
          {playing ? "Pause" : "Play"}
        </button>
        <button type="button" onClick={() => go(at + 1)} disabled={at === last} aria-label="Next step">
          ▶
        </button>
        <label class="grow">
          <span>
            Step <output>{stepOf(scene)}</output>{" "}
            <span class="hf-quiet">
              {scene.name}, {at + 1} of {last + 1}
            </span>
          </span>
          <input
            type="range"
            min="0"
            max={last}
            step="1"
            value={at}
            aria-label="Step"
            aria-valuetext={`step ${stepOf(scene)}, ${scene.name}`}
            onInput={(event) => go(Number(event.currentTarget.value))}
          />
        </label>
        <label>
          <span>Function</span>
          <select value={name} onChange={(event) => setName(event.currentTarget.value)}>
            <option value="">all</option>
            {groups.map((group) => (
              <optgroup key={group} label={group || "Where heads look"}>
                {film.functions
                  .filter((each) => (group ? !each.reading && each.category === group : each.reading))
                  .map((each) => (
                    <option key={keyOf(each)} value={keyOf(each)}>
                      {each.title}
                    </option>
                  ))}
              </optgroup>
            ))}
          </select>
        </label>
        <label>
          <span>Theme</span>
          <select value={theme} onChange={(event) => setTheme(event.currentTarget.value)}>
            {["auto", "light", "dark"].map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
      </section>
      <main>
        <Maps {...shown} />
        <p class="hf-sentence" aria-live="polite">
          {chosen ? (
            <>
              <strong>{chosen.title}</strong>: {chosen.sentence}
            </>
          ) : (
            `Step ${stepOf(scene)}: ${summary(film, at)}.`
          )}
        </p>
        <h2>When each function appears</h2>
        <div class="hf-scroll" tabIndex={0} role="region" aria-label="When each function appears">
          <table>
            <thead>
              <tr>
                <th scope="col">function</th>
                <th scope="col">layers of its heads, step by step</th>
                <th scope="col">in words</th>
              </tr>
            </thead>
            <tbody>
              {appearing.map((each) => (
                <tr key={keyOf(each)} class={each === chosen ? "picked" : ""}>
                  <th scope="row">
                    <i style={{ background: each.colour }} />
                    <button
                      type="button"
                      aria-pressed={each === chosen}
                      onClick={() => setName(each === chosen ? "" : keyOf(each))}
                    >
                      {each.title}
                    </button>
                  </th>
                  <td>
                    <Strip film={film} of={each} at={at} onPick={go} />
                  </td>
                  <td>{each.sentence}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {!appearing.length && <p>No function appears at any step.</p>}
        {never.length > 0 && (
          <details>
            <summary>
              {never.length} more {never.length === 1 ? "function does" : "functions do"} not appear
            </summary>
            <p>{never.map((each) => each.title).join(", ")}</p>
          </details>
        )}
        <h2>Score of the strongest head</h2>
        <p class="hf-quiet">
          A line for each function; a filled mark where a head has it. Grey: up to the highest level of chance of any
          head and function. Steps are evenly spaced.
        </p>
        <div class="hf-charts">
          {groups.map((group) => (
            <Chart key={group} {...shown} group={group} />
          ))}
        </div>
      </main>
    </div>
  );
}

/** Heads with a function at a step, in words. */
function summary(film: FilmData, at: number): string {
  const count = (reading: boolean) => {
    const heads = film.functions
      .filter((each) => each.reading === reading)
      .flatMap((each) => each.moments[at]?.heads ?? []);
    return new Set(heads).size;
  };
  const scene = film.scenes[at];
  const all = scene.hasHeads.filter(Boolean).length * scene.heads;
  const ways = film.ways.length ? `, ${count(true)} a way of reading` : "";
  return `${count(false)} of ${all} heads have a relation${ways}`;
}

interface Panel {
  title: string;
  colours: string[];
}

function panelsOf({ film, at, chosen, dark }: Shown): Panel[] {
  const scene = film.scenes[at];
  const ink = INKS[dark ? "dark" : "light"];
  const size = scene.layers * scene.heads;
  const rest = () =>
    Array.from({ length: size }, (_, head) =>
      scene.hasHeads[Math.floor(head / scene.heads)] ? ink.unclassified : ink.notApplicable,
    );
  const grouped = (title: string, reading: boolean, counts: string[]): Panel => {
    const sets = Array.from({ length: size }, () => new Map<string, string>());
    for (const each of film.functions)
      if (each.reading === reading)
        for (const head of each.moments[at]?.heads ?? [])
          sets[head]?.set(reading ? each.name : each.category, each.colour);
    const colours = rest();
    for (const [head, set] of sets.entries()) {
      if (set.size === 1) colours[head] = [...set.values()][0];
      if (set.size > 1) colours[head] = counts[Math.min(set.size - 2, counts.length - 1)];
    }
    return { title, colours };
  };
  const panels = [grouped("Relations", false, film.counts)];
  if (film.ways.length) panels.push(grouped("Where heads look", true, dark ? DARK_COUNTS : film.wayCounts));
  if (chosen) {
    const scale = scaleOf(film, dark);
    const scores = decoded(scene.scores).subarray(film.functions.indexOf(chosen) * size);
    const colours = rest().map((other, head) =>
      scores[head] > ONE ? other : scale[Math.min(scale.length - 1, Math.floor((scores[head] / ONE) * scale.length))],
    );
    panels.push({ title: `Score of ${chosen.title}`, colours });
  }
  return panels;
}

const scaleOf = (film: FilmData, dark: boolean) => (dark ? [...film.scale].reverse() : film.scale);

function Maps(shown: Shown) {
  const { film, at, chosen, dark } = shown;
  const panels = useMemo(() => panelsOf(shown), [film, at, chosen, dark]);
  const [pointer, setPointer] = useState<{ title: string; head: number } | null>(null);
  const scene = film.scenes[at];
  const cell = Math.max(3, Math.min(30, Math.floor(380 / Math.max(scene.layers, 6)), Math.floor(420 / scene.heads)));
  const head = pointer && pointer.head < scene.layers * scene.heads ? pointer.head : null;
  return (
    <>
      <div class="hf-maps">
        {panels.map((panel) => (
          <MapPanel
            key={panel.title}
            {...{ panel, scene, cell, dark }}
            marked={head}
            onMove={(to) => setPointer(to === null ? null : { title: panel.title, head: to })}
          />
        ))}
      </div>
      <p class="hf-tip" aria-live="polite">
        {head === null ? "Point at a head, or move to it with the arrow keys." : headLine(film, at, head, chosen)}
      </p>
      <Legend {...shown} />
    </>
  );
}

function headLine(film: FilmData, at: number, head: number, chosen: FilmFunction | undefined): string {
  const scene = film.scenes[at];
  if (!scene.hasHeads[Math.floor(head / scene.heads)]) return `${place(scene, head)}: this layer has no heads.`;
  const scores = decoded(scene.scores);
  const size = scene.layers * scene.heads;
  const score = (each: FilmFunction) => scores[film.functions.indexOf(each) * size + head] / ONE;
  const does = film.functions.filter((each) => each.moments[at]?.heads.includes(head));
  const named = [...new Set([...(chosen?.moments[at] ? [chosen] : []), ...does])];
  const parts = named.map((each) => `${each.title} ${score(each) > 1 ? "not known" : score(each).toFixed(2)}`);
  return `${place(scene, head)} at step ${stepOf(scene)}: ${parts.join(", ") || "no function"}`;
}

interface MapProps {
  panel: Panel;
  scene: Scene;
  cell: number;
  dark: boolean;
  marked: number | null;
  onMove: (head: number | null) => void;
}

function MapPanel({ panel, scene, cell, dark, marked, onMove }: MapProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [left, bottom] = [26, 22];
  const width = left + scene.layers * cell + 2;
  const height = scene.heads * cell + bottom;
  const ink = INKS[dark ? "dark" : "light"];
  useLayoutEffect(() => {
    const ratio = window.devicePixelRatio || 1;
    const element = canvas.current!;
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
    const context = element.getContext("2d")!;
    context.scale(ratio, ratio);
    const gap = lineBetween(cell);
    for (const [head, colour] of panel.colours.entries()) {
      context.fillStyle = colour;
      const x = left + Math.floor(head / scene.heads) * cell;
      context.fillRect(x, (head % scene.heads) * cell, cell - gap, cell - gap);
    }
    context.fillStyle = ink.quiet;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const [across, down] = ticks(scene.layers, scene.heads, Math.ceil(20 / cell), Math.ceil(16 / cell));
    context.textAlign = "right";
    for (const head of down) context.fillText(String(head), left - 5, (head + 0.5) * cell);
    context.textAlign = "center";
    for (const layer of across) context.fillText(String(layer), left + (layer + 0.5) * cell, scene.heads * cell + 10);
    if (marked !== null) {
      context.strokeStyle = ink.text;
      context.lineWidth = 2;
      const x = left + Math.floor(marked / scene.heads) * cell;
      context.strokeRect(x, (marked % scene.heads) * cell + 1, cell - 1, cell - 2);
    }
  }, [panel, scene, cell, dark, marked]);
  const at = (event: MouseEvent): number | null => {
    const frame = canvas.current!.getBoundingClientRect();
    const layer = Math.floor((event.clientX - frame.left - left) / cell);
    const head = Math.floor((event.clientY - frame.top) / cell);
    return layer >= 0 && layer < scene.layers && head >= 0 && head < scene.heads ? layer * scene.heads + head : null;
  };
  const onKey = (event: KeyboardEvent) => {
    const steps: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      Home: [-scene.layers, 0],
      End: [scene.layers, 0],
    };
    if (event.key === "Escape") onMove(null);
    if (!steps[event.key]) return;
    event.preventDefault();
    const [across, down] = marked === null ? [0, 0] : steps[event.key];
    const now = marked ?? 0;
    const layer = Math.max(0, Math.min(scene.layers - 1, Math.floor(now / scene.heads) + across));
    onMove(layer * scene.heads + Math.max(0, Math.min(scene.heads - 1, (now % scene.heads) + down)));
  };
  return (
    <figure>
      <figcaption>{panel.title}</figcaption>
      <canvas
        ref={canvas}
        style={{ width: `${width}px`, height: `${height}px` }}
        tabIndex={0}
        role="application"
        aria-roledescription="map of heads"
        aria-label={`${panel.title}: ${scene.layers} layers from left to right, ${scene.heads} heads from top to bottom. Arrow keys move; the line below says what a head has.`}
        onPointerMove={(event) => onMove(at(event))}
        onPointerLeave={() => onMove(null)}
        onKeyDown={onKey}
      />
      <div class="hf-axis">layer</div>
    </figure>
  );
}

function Legend({ film, at, chosen, dark }: Shown) {
  const ink = INKS[dark ? "dark" : "light"];
  const wayCounts = dark ? DARK_COUNTS : film.wayCounts;
  const numbers = (reading: boolean) => {
    const sets = new Map<number, Set<string>>();
    for (const each of film.functions)
      if (each.reading === reading)
        for (const head of each.moments[at]?.heads ?? [])
          sets.set(head, (sets.get(head) ?? new Set()).add(reading ? each.name : each.category));
    return new Set([...sets.values()].map((set) => set.size));
  };
  const swatches = [
    ...ordered(film.categories, film.counts, numbers(false), "categories"),
    ...ordered(film.ways, wayCounts, numbers(true), "ways of reading"),
    [PROPORTIONS.rest, ink.unclassified],
  ];
  const scale = scaleOf(film, dark);
  return (
    <div class="hf-legend">
      {swatches.map(([name, colour]) => (
        <span key={name}>
          <i style={{ background: colour }} />
          {name}
        </span>
      ))}
      {chosen && (
        <span>
          0
          <b style={{ background: `linear-gradient(to right, ${scale.join(", ")})` }} />1
        </span>
      )}
    </div>
  );
}

function Strip(props: { film: FilmData; of: FilmFunction; at: number; onPick: (at: number) => void }) {
  const { film, of, at, onPick } = props;
  const n = film.scenes.length;
  const width = Math.max(5, Math.min(26, Math.floor(300 / n)));
  const layersOf = (number: number): number[] => {
    const { heads } = film.scenes[number];
    return [...new Set((of.moments[number]?.heads ?? []).map((head) => Math.floor(head / heads)))].sort(
      (one, other) => one - other,
    );
  };
  const texts = film.scenes.map((scene, number) => `${stepOf(scene)}: ${layersOf(number).join(" and ") || "none"}`);
  return (
    <svg width={n * width} height="22" role="img" aria-label={`Layers at step ${texts.join("; ")}`}>
      {film.scenes.map((scene, number) => {
        const moment = of.moments[number];
        const layers = layersOf(number);
        return (
          <g key={scene.step} class="hf-cell" onClick={() => onPick(number)}>
            <title>{`step ${texts[number]}`}</title>
            <rect
              x={number * width + 0.5}
              y="1.5"
              width={width - 1.5}
              height="19"
              rx="2"
              fill={layers.length ? of.colour : "transparent"}
              fill-opacity={layers.length ? 0.3 + 0.7 * (moment?.score ?? 0) : 0}
              class={number === at ? "now" : ""}
            />
            {width >= 14 && layers.length > 0 && (
              <text x={(number + 0.5) * width - 0.5} y="15">
                {layers.length > 2 ? `${layers[0]}–${layers[layers.length - 1]}` : layers.join(" ")}
              </text>
            )}
          </g>
        );
      })}
    </svg>
  );
}

const BOX = { width: 560, height: 250, left: 34, right: 130, top: 24, bottom: 40 };

function Chart({ film, at, chosen, group }: Shown & { group: string }) {
  const lines = film.functions.filter((each) => (group ? !each.reading && each.category === group : each.reading));
  const n = film.scenes.length;
  const x = (number: number) => BOX.left + ((number + 0.5) / n) * (BOX.width - BOX.left - BOX.right);
  const y = (score: number) => BOX.height - BOX.bottom - score * (BOX.height - BOX.top - BOX.bottom);
  const level = film.scenes.map((_, number) => Math.max(0, ...lines.map((each) => each.moments[number]?.level ?? 0)));
  const points = (each: FilmFunction) =>
    each.moments
      .map((moment, number) => (moment ? `${x(number)},${y(moment.score)}` : ""))
      .filter(Boolean)
      .join(" ");
  const last = (each: FilmFunction) => each.moments.filter((moment) => moment !== null).at(-1)?.score ?? 0;
  const best = (each: FilmFunction) => Math.max(...each.moments.map((moment) => moment?.score ?? 0));
  const strongest = [...lines].sort((one, other) => best(other) - best(one)).slice(0, MOST_LABELS);
  const labelled = lines
    .filter((each) => each === chosen || strongest.includes(each))
    .sort((one, other) => last(other) - last(one))
    .map((each) => ({ each, y: y(last(each)) + 4 }));
  for (const [number, label] of labelled.entries())
    if (number) label.y = Math.max(label.y, labelled[number - 1].y + 13);
  const over = Math.max(0, (labelled.at(-1)?.y ?? 0) - (BOX.height - 14));
  const every = Math.ceil((n * 46) / (BOX.width - BOX.left - BOX.right));
  const title = group || "Where heads look";
  const area = level.map((each, number) => `${x(number)},${y(each)}`);
  return (
    <svg
      class="hf-chart"
      viewBox={`0 0 ${BOX.width} ${BOX.height}`}
      role="img"
      aria-label={`${title}: score of the strongest head by step. The table above says the same in words.`}
    >
      <text x={BOX.left} y="14" class="title">
        {title}
      </text>
      <polygon class="chance" points={`${x(0)},${y(0)} ${area.join(" ")} ${x(n - 1)},${y(0)}`} />
      {[0, 0.5, 1].map((score) => (
        <g key={score}>
          <line class="grid" x1={BOX.left} x2={BOX.width - BOX.right} y1={y(score)} y2={y(score)} />
          <text x={BOX.left - 6} y={y(score) + 4} text-anchor="end">
            {score}
          </text>
        </g>
      ))}
      <line class="now" x1={x(at)} x2={x(at)} y1={y(1)} y2={y(0)} />
      {film.scenes.map(
        (scene, number) =>
          number % every === 0 && (
            <text key={scene.step} x={x(number)} y={BOX.height - BOX.bottom + 16} text-anchor="middle">
              {stepOf(scene)}
            </text>
          ),
      )}
      <text x={(BOX.left + BOX.width - BOX.right) / 2} y={BOX.height - 6} text-anchor="middle">
        step
      </text>
      {lines.map((each) => {
        const faint = chosen && each !== chosen && lines.includes(chosen);
        return (
          <g key={each.name} opacity={faint ? 0.3 : 1} stroke={each.colour} fill={each.colour}>
            <polyline points={points(each)} fill="none" stroke-width={each === chosen ? 3 : 1.6} />
            {each.moments.map(
              (moment, number) =>
                moment && (
                  <circle
                    key={number}
                    cx={x(number)}
                    cy={y(moment.score)}
                    r={each === chosen ? 4.5 : 3}
                    class={moment.heads.length ? "" : "without"}
                  />
                ),
            )}
          </g>
        );
      })}
      {labelled.map(({ each, y: below }) => (
        <text key={each.name} class="label" x={BOX.width - BOX.right + 2} y={below - over}>
          {each.title.length > 20 ? `${each.title.slice(0, 19)}…` : each.title}
        </text>
      ))}
    </svg>
  );
}

const root = document.getElementById("headatlas")!;
try {
  const element = document.getElementById("headatlas-data")!;
  const film = JSON.parse(new TextDecoder().decode(decoded(element.textContent!.trim()))) as FilmData;
  element.textContent = "";
  root.textContent = "";
  render(<Film film={film} />, root);
} catch (error) {
  root.textContent = `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
}
