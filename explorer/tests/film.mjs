// Uses the page of a film as a person does, in a real browser. Argument: a JSON file that names the browser, the page
// and what Python found in the same atlases. Prints {problems: what was wrong}.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const given = JSON.parse(readFileSync(process.argv[2], "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: given.browser,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});
const problems = [];

async function opened(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, ...options });
  await context.setOffline(true);
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("console", (message) => problems.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on("request", (request) => /^(file|data):/.test(request.url()) || problems.push(`request: ${request.url()}`));
  await page.goto(`file://${given.page}`);
  await page.waitForSelector(".hf canvas");
  return page;
}

const step = (page) => page.locator("output").innerText();
const sentence = (page) => page.locator(".hf-sentence").innerText();
const picture = (page, number) =>
  page
    .locator("canvas")
    .nth(number)
    .evaluate((canvas) => canvas.toDataURL());

async function use(page) {
  // The slider, by its arrow keys.
  const seen = new Set();
  await page.getByRole("slider").focus();
  for (const [at, heads] of given.heads.entries()) {
    if (at) await page.keyboard.press("ArrowRight");
    await page.waitForFunction(
      (wanted) => document.querySelector("output").textContent === wanted,
      at ? `${at},000` : "0",
    );
    assert.match(await sentence(page), new RegExp(`: ${heads} of 35 heads have a relation, \\d+ a way of reading`));
    seen.add(await picture(page, 0));
  }
  assert.equal(seen.size, given.heads.length, "another picture at each step");
  assert.ok(await page.getByRole("button", { name: "Next step" }).isDisabled());
  await page.keyboard.press("Home");
  // It plays to the end, and stops.
  await page.getByRole("button", { name: "Play" }).click();
  await page.waitForFunction(() => document.querySelector("output").textContent === "3,000");
  await page.getByRole("button", { name: "Play" }).waitFor();
  await page.getByRole("button", { name: "Step before" }).click();
  assert.equal(await step(page), "2,000");
  // A function: its sentence, its scores as a third map, its head by keyboard.
  assert.equal(await page.locator("canvas").count(), 2);
  await page.getByRole("button", { name: given.function, exact: true }).click();
  assert.equal(await sentence(page), `${given.function}: ${given.sentence}`);
  assert.equal(await page.locator("canvas").count(), 3);
  await page.locator("canvas").nth(2).focus();
  await page.keyboard.press("ArrowRight");
  const line = await page.locator(".hf-tip").innerText();
  assert.ok(line.startsWith(`L0H0 at step 2,000: ${given.function} ${given.scores[2].toFixed(2)}`), line);
  await page.keyboard.press("ArrowDown");
  assert.match(await page.locator(".hf-tip").innerText(), /^L0H1 at step 2,000: /);
  // Names are texts.
  assert.equal(await page.locator("tbody tr").count(), given.appearing);
  assert.equal(await page.getByRole("button", { name: given.hostile, exact: true }).count(), 1);
  assert.equal(await page.locator(".hf b:not(.hf-legend b)").count(), 0);
  assert.ok((await page.locator("tbody").innerText()).includes(given.behaviour));
}

try {
  const page = await opened({});
  await use(page);
  await page.setViewportSize({ width: 380, height: 720 });
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `a narrow window scrolls sideways: ${wide} of ${room}`);
  await page.context().close();
  for (const colorScheme of ["light", "dark"]) {
    const page = await opened({ colorScheme, bypassCSP: true });
    await page.locator(`.hf.${colorScheme}`).waitFor();
    await page.getByRole("button", { name: given.function, exact: true }).click();
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() =>
      globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }),
    );
    for (const each of violations)
      problems.push(`${colorScheme}: ${each.id}: ${each.help}: ${each.nodes[0].html.slice(0, 160)}`);
    await page.context().close();
  }
} catch (error) {
  problems.push(`${error.message}\n${error.stack?.split("\n").find((line) => line.includes("film.mjs")) ?? ""}`);
}
console.log(JSON.stringify({ problems }));
await browser.close();
