// What can be chosen above the map.

import { useEffect, useState } from "preact/hooks";
import { thresholdShare } from "./classify";
import type { Explored } from "./data";
import { MOST_LETTERS, relationNames, type View } from "./state";

interface ControlsProps {
  explored: Explored;
  view: View;
  /** How many rows the query has, shown next to its label. */
  found: number;
  update: (given: Partial<View>) => void;
  /** Open the head that was typed, or the strongest match. */
  enter: () => void;
}

export function Controls({ explored, view, found, update, enter }: ControlsProps) {
  const noChance = !explored.atlases.every((each) => each.canCalibrate(view.side));
  const measured = explored.atlases.every((each) => each.facts.reading !== null);
  const noReading = !measured || view.compare === "difference";
  const noSuppression = !explored.atlases.every((each) => each.has("suppression"));
  const [typed, setTyped] = useState(view.query);
  useEffect(() => setTyped(view.query), [view.query]);
  const byCategory = new Map<string, { name: string; text: string; measured: boolean }[]>();
  const add = (category: string, name: string, text: string, measured: boolean) =>
    byCategory.set(category, [...(byCategory.get(category) ?? []), { name, text, measured }]);
  const names = new Set(relationNames(explored));
  const once = <T extends { name: string }>(all: T[]) => [...new Map(all.map((each) => [each.name, each])).values()];
  for (const { name, category } of once(explored.atlases.flatMap(({ facts }) => facts.relations)))
    add(category, name, name, true);
  for (const { name, category, pairs } of once(explored.atlases.flatMap(({ facts }) => facts.notMeasured)))
    if (!names.has(name))
      add(category, name, `${name} (not measurable${pairs === null ? "" : `: ${pairs} pairs`})`, false);
  return (
    <form class="ha-controls" role="search" onSubmit={(event) => event.preventDefault()}>
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
      <label>
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
      <label>
        <span>
          Threshold <output>{view.threshold}</output>
        </span>
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
      <Choice
        name="Heads by"
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
      <Choice
        name="Heads that"
        value={view.side}
        options={[
          ["score", "promote"],
          ["suppression", "suppress"],
        ]}
        disabled={noSuppression ? "suppression" : ""}
        why="suppression was not measured"
        onPick={(side) => update({ side } as Partial<View>)}
      />
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
      {explored.atlases.length > 1 && (
        <Choice
          name="Atlases"
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
    </form>
  );
}

interface ChoiceProps {
  name: string;
  value: string;
  options: [string, string][];
  /** The options that cannot be chosen, a space between them, and why. */
  disabled?: string;
  why?: string;
  onPick: (value: string) => void;
}

export function Choice({ name, value, options, disabled = "", why = "", onPick }: ChoiceProps) {
  return (
    <fieldset class="ha-choice" aria-label={name}>
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
