// Opens a page and measures it; prints JSON. Called by explorer.py.
import { chromium } from "playwright-core";

const [executablePath, file] = process.argv.slice(2);
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
await page.goto(`file://${file}`);
await page.waitForSelector(".ha-panel canvas");
const opened = await page.evaluate(
  () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())))),
);
const times = await page.evaluate(async () => {
  const slider = document.querySelector('input[type="range"]');
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  const found = [];
  for (let step = 0; step < 20; step++) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    const started = performance.now();
    set.call(slider, String(0.1 + step / 50));
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    // The work is done when a frame that began after it has been painted: a message goes behind the paint.
    await new Promise((resolve) =>
      requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = resolve;
        port2.postMessage(0);
      }),
    );
    found.push(performance.now() - started);
  }
  return found.sort((one, other) => one - other);
});
const heap = await page.evaluate(() => performance.memory.usedJSHeapSize);
console.log(
  JSON.stringify({ opened, median: times[10], slowest: times[19], heap, browser: `Chromium ${browser.version()}` }),
);
await browser.close();
