// Classifies and searches as the page does: a payload's path as argument, views as JSON on standard input, answers as JSON.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const built = await build({
  stdin: {
    contents: ["classify", "data", "drawing", "exports", "inks", "panels", "proportions", "search", "state", "table"]
      .map((name) => `export * from "./${name}";`)
      .join(" "),
    resolveDir: fileURLToPath(new URL("../src", import.meta.url)),
    loader: "ts",
  },
  bundle: true,
  format: "esm",
  write: false,
});
const core = await import(`data:text/javascript;base64,${Buffer.from(built.outputFiles[0].text).toString("base64")}`);
const explored = await core.open(readFileSync(process.argv[2]));
const views = JSON.parse(readFileSync(0, "utf8"));
const answers = views.map((given) => {
  if ("given" in given) return core.changed(explored, core.firstView(explored), given.given);
  if ("ticks" in given) return given.ticks.map((each) => core.ticks(...each));
  if ("cell" in given) {
    const view = { ...core.firstView(explored), look: "paper" };
    const classified = explored.atlases.map((atlas) =>
      core.classify(explored, atlas, view.side, view.rule, view.threshold),
    );
    const { panels, legend } = core.panels(explored, classified, view, false, { sure: [null], opposite: [null] });
    const box = core.geometry(explored.atlases[0], 1e6, 1, given.cell);
    const drawings = panels.map((panel) => core.draw(panel, box, core.INKS.light, null));
    return { box, drawings, legend: legend.swatches };
  }
  if ("alike" in given) {
    const [own, other] = [explored.atlases[given.which], explored.atlases[1 - given.which]];
    return core
      .alike(explored, "score", given.which, own.place(given.alike))
      .map(({ place, similarity, q, common, expected }) => [other.name(place), similarity, q, common, expected]);
  }
  if ("edges" in given) {
    const [atlas] = explored.atlases;
    const of = (end) =>
      atlas
        .edgesOf(atlas.place(given.edges), end)
        .map(({ sender, receiver, kind, strength, chance, q }) => [
          atlas.name(sender),
          atlas.name(receiver),
          kind,
          strength,
          chance,
          q,
        ]);
    return { fed_by: of("receiver"), feeds: of("sender") };
  }
  const view = { ...core.firstView(explored), ...given };
  if ("query" in given) {
    const classified = explored.atlases.map((atlas) =>
      core.classify(explored, atlas, view.side, view.rule, view.threshold),
    );
    const { rows, summary } = core.search(explored, classified, view);
    return { summary, table: core.tableOf(explored, classified, view, rows) };
  }
  const { side, rule, threshold } = given;
  const found = core.classify(
    explored,
    explored.atlases[0],
    side,
    rule,
    threshold ?? core.firstView(explored).threshold,
  );
  return {
    categories: found.categories,
    has: found.has.map((each) => [...each]),
    implements: [...found.implements],
    heads: found.nHeads,
  };
});
const cells = ["=1+1", "+1", "-1", "-1.5", "-1+1", "@sum", "\t=1", "\r=1", 'a"b', "a,b", "a\nb", "plain"].map(
  core.csvCell,
);
console.log(JSON.stringify({ answers, cells }));
