// Two models by function: the strongest heads of each relation in both, and the heads that hit the same words.

import { useState } from "preact/hooks";
import { brief } from "./card";
import type { Classified } from "./classify";
import type { Explored } from "./data";
import type { Strongest } from "./message";
import { spoken } from "./names";
import { atlasName, counted } from "./panels";
import type { View } from "./state";

const MOST_MATCHED = 15;

interface FunctionsProps {
  explored: Explored;
  classified: Classified[];
  view: View;
  colours: Map<string, string>;
  /** Open the card of a head of atlas `which`. */
  select: (which: number, place: number) => void;
  /** Mark a place of each atlas in the maps, or none. */
  onHint: (places: (number | null | undefined)[]) => void;
  onRelation: (name: string) => void;
}

const share = (value: number | null) => (value === null ? "–" : value.toFixed(2));

export function Functions({ explored, classified, view, colours, select, onHint, onRelation }: FunctionsProps) {
  const [all, setAll] = useState(false);
  const found = explored.functions![view.side];
  const isOpen = (which: number, place: number | null) =>
    place !== null && view.head === explored.atlases[which].name(place) && which === (view.card === "b" ? 1 : 0);
  const head = (which: number, place: number | null) =>
    place === null ? (
      "none"
    ) : (
      <button
        type="button"
        class="ha-link"
        aria-label={`${explored.atlases[which].name(place)} of ${"AB"[which]}`}
        aria-current={isOpen(which, place) ? "true" : undefined}
        onClick={() => select(which, place)}
      >
        {explored.atlases[which].name(place)}
      </button>
    );
  const heads = (which: number, name: string) => {
    const atlas = explored.atlases[which];
    const relation = atlas.relation(name);
    const does = classified[which].implements.subarray(relation * atlas.size, (relation + 1) * atlas.size);
    return does.reduce((sum, one) => sum + one, 0);
  };
  const cells = (which: number, name: string, best: Strongest) => {
    const { layers, heads: inLayer } = explored.atlases[which].facts;
    return (
      <>
        <td class="ha-first">{head(which, best.place)}</td>
        <td class="right">
          {best.place === null ? "" : (Math.floor(best.place / inLayer) / Math.max(1, layers - 1)).toFixed(2)}
        </td>
        <td class="right">
          <strong>{best.score.toFixed(2)}</strong>
        </td>
        <td class="right">{share(best.chance)}</td>
        <td class="right">{share(best.copying)}</td>
        <td class="right">{heads(which, name)}</td>
      </>
    );
  };
  const hints = (first: number | null, second: number | null) => ({
    onPointerEnter: () => onHint([first, second]),
    onFocusIn: () => onHint([first, second]),
  });
  const none = { onPointerLeave: () => onHint([]), onFocusOut: () => onHint([]) };
  const shown = all ? found.matched : found.matched.slice(0, MOST_MATCHED);
  const only = [found.onlyFirst, found.onlySecond];
  return (
    <div class="ha-functions">
      <section aria-label="Relations">
        <h2>The strongest heads of each relation</h2>
        <p class="ha-quiet">
          By the pairs of words that both models know. chance: the same if all pairs of the atlas were shuffled;
          copying: a head that only copies its word; depth: 0 is the first layer, 1 the last; heads: {view.side} above{" "}
          {view.threshold}, rule {view.rule}, on all pairs. –: not measured.
        </p>
        <div class="ha-scroll" tabIndex={0} role="region" aria-label="Relations in both models">
          <table {...none}>
            <thead>
              <tr>
                <td colSpan={2} />
                {[0, 1].map((which) => (
                  <th key={which} scope="colgroup" colSpan={6} class="ha-first">
                    {atlasName(explored, which)}
                  </th>
                ))}
              </tr>
              <tr>
                <th scope="col">relation</th>
                <th scope="col" class="right">
                  pairs
                </th>
                {[0, 1].flatMap((which) =>
                  ["head", "depth", view.side, "chance", "copying", "heads"].map((name, at) => (
                    <th key={`${which} ${name}`} scope="col" class={at ? "right" : "ha-first"}>
                      {name}
                    </th>
                  )),
                )}
              </tr>
            </thead>
            <tbody>
              {found.relations.map(({ name, category, pairs, first, second }) => (
                <tr key={name} {...hints(first.place, second.place)} class={view.relation === name ? "picked" : ""}>
                  <th scope="row">
                    <i class="ha-dot" title={category} style={{ background: colours.get(category) }} />
                    <button type="button" class="ha-link" onClick={() => onRelation(name)}>
                      {spoken(name)}
                    </button>
                  </th>
                  <td class="right">{pairs}</td>
                  {cells(0, name, first)}
                  {cells(1, name, second)}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {only.map(
          (names, which) =>
            names.length > 0 && (
              <p key={which} class="ha-quiet">
                Only in {"AB"[which]}, or without a pair of words that both know: {names.map(spoken).join(", ")}.
              </p>
            ),
        )}
      </section>
      <section aria-label="Heads that do the same">
        <h2>Heads that do the same</h2>
        {found.tried === 0 || found.byChance === null ? (
          <p>Heads are not matched: no head has enough hits on these pairs.</p>
        ) : (
          <p class="ha-quiet">
            Of {counted(found.tried, "head")} of A with at least {found.fewestHits} hits,{" "}
            {found.matched.length || "none"} {found.matched.length === 1 ? "has" : "have"} one in B that shares more
            pairs with them than chance explains (q &lt; {explored.maxQ})
            {found.matched.length > 0 &&
              `; these are ${counted(new Set(found.matched.map((each) => each.second)).size, "head")} of B`}
            . The mean similarity of the most similar head by chance is {found.byChance.toFixed(2)}. by chance: pairs of
            both if each hit other pairs of the same relations.
          </p>
        )}
        {shown.length > 0 && (
          <div class="ha-scroll" tabIndex={0} role="region" aria-label="Matched heads">
            <table {...none}>
              <thead>
                <tr>
                  <th scope="col">A</th>
                  <th scope="col">B</th>
                  {["similarity", "q", "pairs of both", "by chance"].map((name) => (
                    <th key={name} scope="col" class="right">
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {shown.map(({ first, second, similarity, q, common, expected }) => (
                  <tr
                    key={first}
                    {...hints(first, second)}
                    class={isOpen(0, first) || isOpen(1, second) ? "picked" : ""}
                  >
                    <th scope="row">{head(0, first)}</th>
                    <td>{head(1, second)}</td>
                    <td class="right">{similarity.toFixed(2)}</td>
                    <td class="right">{brief(q)}</td>
                    <td class="right">{common.toLocaleString("en")}</td>
                    <td class="right">{expected.toFixed(1)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {found.matched.length > MOST_MATCHED && (
          <button type="button" class="ha-more" aria-expanded={all} onClick={() => setAll(!all)}>
            {all ? "fewer" : `all ${found.matched.length} matched heads`}
          </button>
        )}
      </section>
    </div>
  );
}
