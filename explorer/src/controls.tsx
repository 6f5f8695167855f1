// What can be chosen above the map.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { thresholdShare } from "./classify";
import type { Explored } from "./data";
import { spoken } from "./names";
import { atlasesShown, MOST_LETTERS, relationNames, type View } from "./state";

interface ControlsProps {
  explored: Explored;
  view: View;
  /** How many rows the query has, shown next to its label. */
  found: number;
  update: (given: Partial<View>) => void;
  /** Open the head that was typed, or the strongest match. */
  enter: () => void;
  /** Under the other options: the files of the view. */
  save: ComponentChildren;
}

export function Controls({ explored, view, found, update, enter, save }: ControlsProps) {
  const noChance = !explored.atlases.every((each) => each.canCalibrate(view.side));
  const measured = explored.atlases.every((each) => each.facts.reading !== null);
  const noReading = !measured || view.compare === "difference";
  const noSuppression = !explored.atlases.every((each) => each.has("suppression"));
  const [typed, setTyped] = useState(view.query);
  useEffect(() => setTyped(view.query), [view.query]);
  const [open, setOpen] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const toggle = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    const away = (event: Event) => {
      // In a narrow window the options are a part of the page, which nothing else closes.
      if (innerWidth > 1000 && !form.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", away);
    return () => document.removeEventListener("pointerdown", away);
  }, [open]);
  const byCategory = new Map<string, { name: string; text: string; measured: boolean }[]>();
  const add = (category: string, name: string, text: string, measured: boolean) =>
    byCategory.set(category, [...(byCategory.get(category) ?? []), { name, text, measured }]);
  const names = new Set(relationNames(explored));
  const once = <T extends { name: string }>(all: T[]) => [...new Map(all.map((each) => [each.name, each])).values()];
  for (const { name, category } of once(explored.atlases.flatMap(({ facts }) => facts.relations)))
    add(category, name, spoken(name), true);
  for (const { name, category, pairs } of once(explored.atlases.flatMap(({ facts }) => facts.notMeasured)))
    if (!names.has(name))
      add(category, name, `${spoken(name)} (not measurable${pairs === null ? "" : `: ${pairs} pairs`})`, false);
  const by = (
    <Choice
      name="Heads by"
      class={measured ? "ha-second" : ""}
      value={view.what}
      options={[
        ["writing", "writing"],
        ["reading", "reading"],
        ["both", "both"],
      ]}
      disabled={noReading ? "reading both" : ""}
      why={measured ? "not in the difference" : "where they look was not measured"}
      onPick={(what) => update({ what } as Partial<View>)}
    />
  );
  return (
    <form
      ref={form}
      class={`ha-controls ${open ? "open" : ""}`}
      role="search"
      onSubmit={(event) => event.preventDefault()}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !open) return;
        event.stopPropagation();
        setOpen(false);
        toggle.current?.focus();
      }}
    >
      <label class="grow">
        <span>Search {view.query.trim() && <output>{found.toLocaleString("en")} found</output>}</span>
        <input
          type="search"
          value={typed}
          maxLength={MOST_LETTERS}
          placeholder="Paris, capital…"
          spellcheck={false}
          aria-label="Search for a head, a word, a pair, a relation or a category"
          onInput={(event) => {
            setTyped(event.currentTarget.value);
            update({ query: event.currentTarget.value, tab: "heads" });
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter") enter();
            if (event.key === "Escape" && typed) {
              update({ query: "" });
              event.stopPropagation();
            }
          }}
        />
      </label>
      <label class="ha-second">
        <span>Show</span>
        <select
          value={view.relation}
          aria-label="Categories or one relation"
          onChange={(event) => update({ relation: event.currentTarget.value })}
        >
          <option value="">all categories</option>
          {[...byCategory].map(([category, names]) => (
            <optgroup key={category} label={category}>
              {names.map(({ name, text, measured }) => (
                <option key={name} value={name} disabled={!measured}>
                  {text}
                </option>
              ))}
            </optgroup>
          ))}
        </select>
      </label>
      <label class="ha-second ha-threshold">
        <span>
          Threshold <output>{view.threshold}</output>
        </span>
        <Histogram {...{ explored, view }} />
        <input
          type="range"
          min="0"
          max="0.95"
          step="0.01"
          value={thresholdShare(view.threshold)}
          aria-label="Threshold"
          aria-valuetext={view.threshold}
          onInput={(event) => update({ threshold: String(Number(event.currentTarget.value)) })}
        />
      </label>
      {measured && by}
      <Choice
        name="Heads that"
        class="ha-second"
        value={view.side}
        options={[
          ["score", "promote"],
          ["suppression", "suppress"],
        ]}
        disabled={noSuppression ? "suppression" : ""}
        why="suppression was not measured"
        onPick={(side) => update({ side } as Partial<View>)}
      />
      {explored.atlases.length > 1 && (
        <Choice
          name="Atlases"
          class="ha-second"
          value={view.compare}
          options={[
            ["both", "both"],
            ["a", "A"],
            ["b", "B"],
            ...(explored.functions ? [] : [["difference", "difference"] as [string, string]]),
          ]}
          onPick={(compare) => update({ compare } as Partial<View>)}
        />
      )}
      <button
        ref={toggle}
        type="button"
        class="ha-toggle"
        aria-expanded={open}
        aria-controls="ha-options"
        onClick={() => setOpen(!open)}
      >
        Options
      </button>
      <div id="ha-options" class="ha-options" hidden={!open}>
        {!measured && by}
        <Choice
          name="Rule"
          value={view.rule}
          options={[
            ["plain", "plain"],
            ["calibrated", "calibrated"],
          ]}
          disabled={noChance ? "calibrated" : ""}
          why="chance and copying were not measured"
          onPick={(rule) => update({ rule } as Partial<View>)}
        />
        <Choice
          name="Cells"
          value={view.look}
          options={[
            ["strength", "by strength"],
            ["paper", "as in the paper"],
          ]}
          onPick={(look) => update({ look } as Partial<View>)}
        />
        <Choice
          name="Colours"
          value={view.palette}
          options={Object.keys(explored.palettes).map((name) => [name, name])}
          onPick={(palette) => update({ palette })}
        />
        <Choice
          name="Theme"
          value={view.theme}
          options={[
            ["auto", "auto"],
            ["light", "light"],
            ["dark", "dark"],
          ]}
          onPick={(theme) => update({ theme } as Partial<View>)}
        />
        {save}
      </div>
    </form>
  );
}

const BINS = 20;

/** How many heads have which highest score, behind the slider. */
function Histogram({ explored, view }: { explored: Explored; view: View }) {
  const shownOnes = atlasesShown(view);
  const counts = useMemo(() => {
    const bins = new Array<number>(BINS).fill(0);
    for (const which of shownOnes) {
      const atlas = explored.atlases[which];
      const share = atlas.shares(view.side);
      const chosen = view.relation ? atlas.relation(view.relation) : undefined;
      for (let place = 0; place < atlas.size; place++) {
        if (!atlas.hasHeads(place) || chosen === -1) continue;
        let best = 0;
        if (chosen === undefined)
          for (let relation = 0; relation < atlas.facts.relations.length; relation++)
            best = Math.max(best, share(relation, place));
        else best = share(chosen, place);
        bins[Math.min(BINS - 1, Math.floor(best * BINS))]++;
      }
    }
    return bins;
  }, [explored, view.side, view.relation, view.compare]);
  const most = Math.sqrt(Math.max(1, ...counts));
  const limit = thresholdShare(view.threshold);
  return (
    <span class="ha-histogram" aria-hidden="true" title="How many heads have which highest score">
      {counts.map((count, bin) => (
        <i
          key={bin}
          class={(bin + 1) / BINS > limit ? "above" : ""}
          style={{ height: `${(Math.sqrt(count) / most) * 100}%` }}
        />
      ))}
    </span>
  );
}

interface ChoiceProps {
  name: string;
  class?: string;
  value: string;
  options: [string, string][];
  /** The options that cannot be chosen, a space between them, and why. */
  disabled?: string;
  why?: string;
  onPick: (value: string) => void;
}

export function Choice({ name, class: kind = "", value, options, disabled = "", why = "", onPick }: ChoiceProps) {
  return (
    <fieldset class={`ha-choice ${kind}`} aria-label={name}>
      <legend>
        {name}
        {disabled && ` · ${why}`}
      </legend>
      {options.map(([option, text]) => (
        <button
          key={option}
          type="button"
          aria-pressed={value === option}
          disabled={disabled.split(" ").includes(option)}
          onClick={() => onPick(option)}
        >
          {text}
        </button>
      ))}
    </fieldset>
  );
}
