// Entry of the page that stands alone: data from the document, view from the address.

import { mount } from "./app";
import { fromBase64, open } from "./data";
import { fromHash, toHash, type View } from "./state";

const root = document.getElementById("headatlas")!;

async function start(): Promise<void> {
  const element = document.getElementById("headatlas-data")!;
  const explored = await open(fromBase64(element.textContent!.trim()));
  element.textContent = "";
  let written = location.hash.replace(/^#/, "");
  const mounted = mount(root, explored, fromHash(explored, location.hash), (view: View) => {
    const hash = toHash(explored, view);
    if (hash === written) return;
    written = hash;
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  });
  addEventListener("hashchange", () => {
    written = location.hash.replace(/^#/, "");
    mounted.set(fromHash(explored, location.hash));
  });
}

start().catch((error: unknown) => {
  root.textContent = `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
});
