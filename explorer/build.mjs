// Bundles the front end into the Python package. `--check` compares instead, and fails where they differ.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const target = fileURLToPath(new URL("../src/headatlas/explorer/static/", import.meta.url));

const FIRST_LINE =
  "/* Built by `make explorer` from explorer/src; do not edit. `make types` proves that it is up to date. */";

async function bundle(entry, format) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format,
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    banner: { js: FIRST_LINE, css: FIRST_LINE },
    write: false,
    jsx: "automatic",
    jsxImportSource: "preact",
  });
  return result.outputFiles[0].text;
}

const files = {
  "page.js": await bundle("src/page.tsx", "iife"),
  "widget.js": await bundle("src/widget.tsx", "esm"),
  "explorer.css": await bundle("src/explorer.css"),
  "film.js": await bundle("src/film.tsx", "iife"),
  "film.css": await bundle("src/film.css"),
};
let stale = 0;
for (const [name, text] of Object.entries(files)) {
  if (!process.argv.includes("--check")) writeFileSync(target + name, text);
  else if (readFileSync(target + name, "utf8") !== text) {
    console.error(`src/headatlas/explorer/static/${name} is not what explorer/src becomes: run "make explorer".`);
    stale = 1;
  }
}
process.exit(stale);
