// Entry of the standalone page: data from the document, view from the address.

import { mount } from "./app";
import { fromBase64, open } from "./data";
import { fromHash, isStep, toHash, type View } from "./state";

const root = document.getElementById("headatlas")!;
root.textContent = "Opening the atlas…";

async function start(): Promise<void> {
  const element = document.getElementById("headatlas-data")!;
  const explored = await open(fromBase64(element.textContent!.trim()));
  element.textContent = "";
  let written = location.hash.replace(/^#/, "");
  let last = fromHash(explored, location.hash);
  const title = document.title;
  const named = (view: View) => (document.title = view.head ? `${view.head} · ${title}` : title);
  named(last);
  const mounted = mount(root, explored, last, (view: View) => {
    const [hash, step] = [toHash(explored, view), isStep(last, view)];
    last = view;
    named(view);
    if (hash === written) return;
    written = hash;
    history[step ? "pushState" : "replaceState"](null, "", hash ? `#${hash}` : location.pathname + location.search);
  });
  addEventListener("hashchange", () => {
    written = location.hash.replace(/^#/, "");
    last = fromHash(explored, location.hash);
    mounted.set(last);
  });
}

start().catch((error: unknown) => {
  root.textContent = `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
});
