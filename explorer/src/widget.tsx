// Entry of the notebook widget: data and view from the Python side, and every new view back to it.

import { mount } from "./app";
import { open } from "./data";
import { changed, firstView, type View } from "./state";

interface Model {
  get(name: "payload"): DataView;
  get(name: "view"): Partial<View>;
  set(name: "view", value: Partial<View>): void;
  on(event: string, listener: () => void): void;
  off(event: string, listener: () => void): void;
  save_changes(): void;
}

async function render({ model, el }: { model: Model; el: HTMLElement }): Promise<() => void> {
  const root = document.createElement("div");
  root.className = "headatlas in-notebook";
  // JupyterLab takes arrows and Enter for its cells unless the event stops here.
  root.dataset.lmSuppressShortcuts = "true";
  el.appendChild(root);
  const payload = model.get("payload");
  const explored = await open(new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength));
  const mounted = mount(root, explored, changed(explored, firstView(explored), model.get("view")), (view) => {
    if (JSON.stringify(view) === JSON.stringify(model.get("view"))) return;
    model.set("view", view);
    model.save_changes();
  });
  const listen = () => mounted.set(model.get("view"));
  model.on("change:view", listen);
  return () => {
    model.off("change:view", listen);
    mounted.unmount();
  };
}

export default { render };
