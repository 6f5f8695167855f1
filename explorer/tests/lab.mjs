// Drives a notebook in JupyterLab that shows the explorer: node lab.mjs BROWSER URL. Prints JSON of what was seen.
import { chromium } from "playwright-core";

const [executablePath, url] = process.argv.slice(2);
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args });
const seen = { elsewhere: [], errors: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  page.on("request", (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") seen.elsewhere.push(request.url());
  });
  page.on("pageerror", (error) => seen.errors.push(error.message));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  const cells = page.locator(".jp-Notebook .jp-CodeCell");
  await cells.nth(2).waitFor({ timeout: 60_000 });
  const kernel = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']");
  await kernel.waitFor({ timeout: 60_000 });
  // While JupyterLab is still loading, it may swallow a key: the prompt shows whether the cell was run.
  const run = async (number) => {
    const waiting = cells.nth(number).locator(".jp-InputPrompt", { hasText: "[ ]:" });
    for (let tries = 0; tries < 20 && (await waiting.count()) > 0; tries++) {
      await cells.nth(number).locator(".cm-content").click();
      await page.keyboard.press("Shift+Enter");
      await waiting.waitFor({ state: "detached", timeout: 3_000 }).catch(() => {});
    }
  };
  await run(0);
  const canvas = page.locator(".ha-panel canvas").first();
  await canvas.waitFor({ timeout: 60_000 });
  await canvas.click({ position: { x: 120, y: 90 } });
  const name = page.locator("#ha-card-name");
  await name.waitFor({ timeout: 60_000 });
  seen.clicked = await name.textContent();
  await run(1);
  const output = cells.nth(1).locator(".jp-OutputArea-output");
  await output.waitFor({ timeout: 60_000 });
  seen.read = (await output.textContent()).trim();
  await run(2);
  await page.waitForFunction(
    (before) => document.querySelector("#ha-card-name")?.textContent !== before,
    seen.clicked,
    { timeout: 60_000 },
  );
  seen.set = await name.textContent();
  await canvas.focus();
  for (const key of ["ArrowLeft", "ArrowLeft"]) await page.keyboard.press(key);
  await page.keyboard.press("Enter");
  await page.waitForFunction((before) => document.querySelector("#ha-card-name")?.textContent !== before, seen.set, {
    timeout: 60_000,
  });
  seen.byKeyboard = await name.textContent();
} catch (error) {
  seen.failed = String(error);
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
