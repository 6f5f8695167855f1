// The panels on screen: canvases that are drawn again when what they show changes, a pointer that all of them share.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { AtlasData } from "./data";
import { draw, type Geometry, geometry } from "./drawing";
import { paint } from "./exports";
import type { Ink } from "./inks";
import { counted, type Panel } from "./panels";

/** A head that is marked in each panel of its atlas: its card is open, or something outside of the map names it. */
export interface Mark {
  place: number;
  kind: "kept" | "partner" | "hint";
}

interface MapProps {
  panels: Panel[];
  ink: Ink;
  /** By atlas of the page: places that match a query; null without one. */
  matches: (Uint8Array | null)[];
  /** By atlas of the page. */
  marks: Mark[][];
  /** By atlas of the page: the places that are marked with one of atlas `which`. */
  follow: (which: number, place: number) => number[][];
  tooltip: (panel: Panel, place: number) => string[];
  onPick: (panel: Panel, place: number) => void;
  /** Shown at the side of the first panel if the map is flat, else below. */
  legend: ComponentChildren;
}

export function HeadMap({ panels, ink, matches, marks, follow, tooltip, onPick, legend }: MapProps) {
  const area = useRef<HTMLDivElement>(null);
  const [{ width, text }, setSize] = useState({ width: 0, text: 1 });
  // Where the keyboard was last, so that one head can be followed through the panels.
  const last = useRef<number | undefined>(undefined);
  const [pointer, setPointer] = useState<{ key: string; place: number; keyboard: boolean } | null>(null);
  useLayoutEffect(() => {
    const element = area.current!;
    const measure = () =>
      setSize({ width: element.clientWidth, text: parseFloat(getComputedStyle(element).fontSize) / 15 });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  // Panels of one atlas are shown together; the first of them is the large one.
  const groups = useMemo(
    () => [...new Set(panels.map(groupOf))].map((group) => panels.filter((panel) => groupOf(panel) === group)),
    [panels],
  );
  const flat = groups.length === 1 && isFlat(panels[0].atlas);
  const sizes = useMemo(() => {
    // Single panels stay side by side when a card takes room from them.
    const single = groups.length > 1 && groups.every((group) => group.length === 1);
    const sideBySide = groups.length > 1 && width > (single ? 600 : 1000);
    const room = sideBySide ? width / 2 - 16 : width;
    const wide = room > 700;
    const legendAtSide = flat && wide;
    // On a very large screen the cells grow with it, but the first panel leaves room for the others.
    const most = Math.max(28, Math.floor(room / (single ? 40 : 64)));
    const boxes = groups.map(([{ atlas }]) => {
      const flat = isFlat(atlas);
      const columns = flat ? (room > 1500 ? 4 : room > 620 ? 2 : 1) : 2;
      const large = legendAtSide ? room - 190 * text : flat || !wide ? room : room * 0.5;
      const small = flat ? room / columns - 14 : wide ? room * 0.25 - 14 : room / columns - 14;
      return { large: geometry(atlas, large, text, most), small: geometry(atlas, small, text, most) };
    });
    return { room, legendAtSide, boxes };
  }, [width, text, groups, flat]);
  const focused = pointer && panels.find((panel) => panel.key === pointer.key);
  const followed = pointer && focused ? follow(focused.which, pointer.place) : [];
  const move = (panel: Panel, place: number) => {
    last.current = place;
    setPointer({ key: panel.key, place, keyboard: true });
  };
  const keptOf = (panel: Panel) => marks[panel.which].find(({ kind }) => kind === "kept")?.place;
  /** Where the keyboard begins in a panel, whose atlas may be smaller than the one where it was last. */
  const startOf = (panel: Panel, now?: number) =>
    [now, last.current, keptOf(panel)].find((place) => place !== undefined && place < panel.atlas.size) ?? 0;
  const onKey = (panel: Panel) => (event: KeyboardEvent) => {
    const now = startOf(panel, pointer?.place);
    const { layers, heads } = panel.atlas.facts;
    const [layer, head] = [Math.floor(now / heads), now % heads];
    const steps: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      Home: [-layers, 0],
      End: [layers, 0],
      PageUp: [0, -heads],
      PageDown: [0, heads],
    };
    if (event.key === "Enter" || event.key === " ") onPick(panel, now);
    else if (event.key === "Escape") return setPointer(null);
    else if (steps[event.key]) {
      const [across, down] = steps[event.key];
      const to = [Math.min(layers - 1, Math.max(0, layer + across)), Math.min(heads - 1, Math.max(0, head + down))];
      move(panel, pointer ? to[0] * heads + to[1] : now);
    } else return;
    event.preventDefault();
  };

  const view = (panel: Panel, box: Geometry) => (
    <PanelView
      key={panel.key}
      panel={panel}
      box={box}
      ink={ink}
      matches={matches[panel.which]}
      marked={followed[panel.which] ?? []}
      marks={marks[panel.which]}
      onMove={(place) => setPointer(place === undefined ? null : { key: panel.key, place, keyboard: false })}
      onPick={(place) => onPick(panel, place)}
      onKey={onKey(panel)}
      onFocus={() => move(panel, startOf(panel))}
      onBlur={() => setPointer((now) => (now?.keyboard ? null : now))}
      tip={pointer?.key === panel.key ? tooltip(panel, pointer.place) : null}
    />
  );

  return (
    <div class={`ha-map ${flat ? "flat" : ""} ${sizes.legendAtSide ? "" : "several"}`} ref={area}>
      {width > 0 &&
        groups.map((group, number) => (
          <div
            key={groupOf(group[0])}
            class={`ha-group ${isFlat(group[0].atlas) ? "" : "tall"}`}
            style={{ width: `${sizes.room}px` }}
          >
            {view(group[0], sizes.boxes[number].large)}
            {flat && legend}
            {group.length > 1 && (
              <div class="ha-small">{group.slice(1).map((panel) => view(panel, sizes.boxes[number].small))}</div>
            )}
          </div>
        ))}
      {!flat && legend}
      <div class="ha-unseen" aria-live="polite">
        {focused && pointer?.keyboard ? tooltip(focused, pointer.place).join(". ") : ""}
      </div>
    </div>
  );
}

/** Whether the small panels of an atlas stand below the large one. */
const isFlat = (atlas: AtlasData) => atlas.facts.heads / atlas.facts.layers < 0.6;

function groupOf(panel: Panel): string {
  return panel.key.slice(0, panel.key.indexOf(":"));
}

/** Farther from the head a tooltip is not put. */
const FAR = 260;

interface PanelProps {
  panel: Panel;
  box: Geometry;
  ink: Ink;
  matches: Uint8Array | null;
  /** Places that the pointer marks, here or in another panel. */
  marked: number[];
  marks: Mark[];
  tip: string[] | null;
  onMove: (place: number | undefined) => void;
  onPick: (place: number) => void;
  onKey: (event: KeyboardEvent) => void;
  onFocus: () => void;
  onBlur: () => void;
}

function PanelView({
  panel,
  box,
  ink,
  matches,
  marked,
  marks,
  tip,
  onMove,
  onPick,
  onKey,
  onFocus,
  onBlur,
}: PanelProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const tooltip = useRef<HTMLDivElement>(null);
  const { layers, heads } = panel.atlas.facts;
  const drawing = useMemo(() => draw(panel, box, ink, matches), [panel, box, ink, matches]);
  useLayoutEffect(() => {
    const ratio = window.devicePixelRatio || 1;
    const element = canvas.current!;
    element.width = Math.round(drawing.width * ratio);
    element.height = Math.round(drawing.height * ratio);
    element.style.width = `${drawing.width}px`;
    element.style.height = `${drawing.height}px`;
    const context = element.getContext("2d")!;
    context.scale(ratio, ratio);
    context.clearRect(0, 0, drawing.width, drawing.height);
    paint(context, drawing);
  }, [drawing]);
  const at = (event: MouseEvent): number | undefined => {
    const frame = canvas.current!.getBoundingClientRect();
    const layer = Math.floor((event.clientX - frame.left - box.left) / box.cell);
    const head = Math.floor((event.clientY - frame.top - box.top) / box.cell);
    return layer >= 0 && layer < layers && head >= 0 && head < heads ? layer * heads + head : undefined;
  };
  const spot = (place: number) => ({
    x: box.left + Math.floor(place / heads) * box.cell,
    y: box.top + (place % heads) * box.cell,
  });
  // Several are heads that are like the one under the pointer.
  const cross = marked.length === 1 ? spot(marked[0]) : null;
  const size = Math.max(4, box.cell);
  useLayoutEffect(() => {
    // Below or above the cells, so that no neighbour is covered; at the side of the head where that is too far away.
    const element = tooltip.current;
    if (!element || !cross) return;
    const frame = canvas.current!.getBoundingClientRect();
    const { width, height } = element.getBoundingClientRect();
    const inWindow = (top: number) => frame.top + top >= 4 && frame.top + top + height <= window.innerHeight - 4;
    const [start, end] = [box.top, box.top + heads * box.cell];
    const outside = [
      ...(end - cross.y < FAR ? [end + 6] : []),
      ...(cross.y - start < FAR ? [start - 8 - height] : []),
    ].find(inWindow);
    const near = [cross.y + 2 * size + 8, cross.y - size - 8 - height, 4 - frame.top].find(inWindow);
    const top = outside ?? near ?? 0;
    const beside = cross.x > box.width * 0.55 ? cross.x - size - 10 - width : cross.x + 2 * size + 10;
    const left = outside === undefined ? beside : cross.x + (size - width) / 2;
    const most = document.documentElement.clientWidth - 4 - width;
    element.style.left = `${Math.max(4, Math.min(most, frame.left + left)) - frame.left}px`;
    element.style.top = `${top}px`;
  });
  return (
    <div class="ha-panel" style={{ width: `${box.width}px`, height: `${box.height}px` }}>
      <canvas
        ref={canvas}
        tabIndex={0}
        role="application"
        aria-roledescription="map of heads"
        aria-label={`${panel.title}: ${counted(layers, "layer")} by ${counted(heads, "head")}. Arrow keys, Home, End, Page Up and Page Down move, Enter opens the head's card, Escape closes it. The table below holds the same.`}
        onPointerMove={(event) => event.pointerType !== "touch" && onMove(at(event))}
        onPointerLeave={() => onMove(undefined)}
        onClick={(event) => {
          const place = at(event);
          if (place !== undefined) onPick(place);
        }}
        onKeyDown={onKey}
        onFocus={(event) => event.currentTarget.matches(":focus-visible") && onFocus()}
        onBlur={onBlur}
      />
      {cross && (
        <>
          <div
            class="ha-cross"
            style={{ left: `${cross.x}px`, top: `${box.top}px`, width: `${size}px`, height: `${heads * box.cell}px` }}
          />
          <div
            class="ha-cross"
            style={{ left: `${box.left}px`, top: `${cross.y}px`, width: `${layers * box.cell}px`, height: `${size}px` }}
          />
        </>
      )}
      {[...marked.map((place) => ({ place, kind: "" })), ...marks].map(({ place, kind }) => (
        <div
          key={`${kind} ${place}`}
          class={`ha-spot ${kind}`}
          style={{
            left: `${spot(place).x - 2}px`,
            top: `${spot(place).y - 2}px`,
            width: `${size + 3}px`,
            height: `${size + 3}px`,
          }}
        />
      ))}
      {cross && tip && (
        <div ref={tooltip} class="ha-tip">
          {tip.map((line, number) => (number ? <div key={line}>{line}</div> : <strong key={line}>{line}</strong>))}
        </div>
      )}
    </div>
  );
}
