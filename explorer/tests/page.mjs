// Uses the explorer's pages as a person does, in a real browser. Argument: a JSON file that names the browser, the pages
// and what Python found in the same atlases. Prints {name of the check: "" or what was wrong}.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const given = JSON.parse(readFileSync(process.argv[2], "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: given.browser,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const SIZE = { width: 1280, height: 720 };
const PRESSED = '[aria-pressed="true"]';

/** A page that is open without a network, and all that it logged or asked for. */
async function opened(name, hash = "", options = {}) {
  const context = await browser.newContext({ viewport: SIZE, acceptDownloads: true, ...options });
  await context.setOffline(true);
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.heard = [];
  page.on("console", (message) => page.heard.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => page.heard.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    page.heard.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on(
    "request",
    (request) => /^(file|blob|data):/.test(request.url()) || page.heard.push(`request: ${request.url()}`),
  );
  await page.goto(`file://${given.pages[name]}${hash}`);
  await page.waitForSelector(".ha-panel canvas");
  return page;
}

/** After what a change of the page or of its size has started: a moment, and two frames however slow the machine is. */
async function settled(page) {
  await page.waitForTimeout(100);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

const opens = async (page) => {
  const toggle = page.getByRole("button", { name: "Options" });
  if ((await toggle.getAttribute("aria-expanded")) === "false") await toggle.click();
};
const choose = async (page, group, option) => {
  const choice = page.getByRole("group", { name: group, exact: true });
  if (!(await choice.isVisible())) await opens(page);
  await choice.getByRole("button", { name: option, exact: true }).click();
};
const spoken = (name) => name.replace("_to_", " → ").replaceAll("_", " ");
const search = async (page, words) => {
  await page.getByRole("searchbox").fill(words);
  await page.waitForFunction(
    (text) => new URLSearchParams(location.hash.slice(1)).get("query") === (text || null),
    words,
  );
};
const rows = (page) =>
  page
    .locator(".ha-heads tbody tr")
    .evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
const hashOf = (page) => page.evaluate(() => Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
const picture = (page) =>
  page
    .locator(".ha-panel canvas")
    .first()
    .evaluate((canvas) => canvas.toDataURL());
const counted = async (page) => Number(await page.locator(".ha-count").first().innerText());
const cardName = (page) => page.locator("#ha-card-name").innerText();
const download = async (page, name) => {
  await opens(page);
  const [saved] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name, exact: true }).click(),
  ]);
  return { name: saved.suggestedFilename(), bytes: readFileSync(await saved.path()) };
};

const checks = {
  async "opens with a panel per category"(page) {
    assert.equal(await page.locator(".ha-panel canvas").count(), 1 + given.categories.length);
    assert.match(await page.locator("h1").innerText(), /demo-135M/);
  },
  async "recounts the heads at each threshold, side and rule"(page) {
    for (const { side, rule, threshold, heads } of given.views) {
      await choose(page, "Heads that", side === "score" ? "promote" : "suppress");
      await choose(page, "Rule", rule);
      await page.getByRole("slider").fill(threshold);
      await page.waitForFunction(
        (wanted) => document.querySelector(".ha-controls output").textContent === wanted,
        String(Number(threshold)),
      );
      assert.equal(await counted(page), heads, `${side} ${rule} ${threshold}`);
    }
  },
  async "palette and theme change the picture"(page) {
    const seen = new Set([await picture(page)]);
    await choose(
      page,
      "Colours",
      given.palettes.find((name) => name !== "paper"),
    );
    seen.add(await picture(page));
    await choose(page, "Theme", "dark");
    await page.waitForSelector(".ha.dark");
    await settled(page);
    seen.add(await picture(page));
    assert.equal(seen.size, 3);
  },
  async "shows one relation as a scale"(page) {
    await page.getByRole("combobox").selectOption(given.relation);
    await page.waitForSelector(".ha-legend .scale");
    assert.equal(await page.locator(".ha-panel canvas").count(), 1);
    assert.ok((await rows(page)).every(([, relation]) => relation === spoken(given.relation)));
    // The strongest head has the end of the scale, whatever its score.
    const scale = await page.locator(".ha-legend .scale").evaluate((element) => element.parentElement.textContent);
    const strongest = Number((await rows(page))[0][3]);
    assert.ok(Number(scale.trim().split(/\s+/).at(-1)) - strongest < 0.05, scale);
    const tile = page.locator(".ha-tiles button").first();
    assert.ok((await tile.innerText()).startsWith((await rows(page))[0][0]));
  },
  async "where heads look: switch, card, search"(page) {
    const behaviours = given.behaviours.length;
    const writing = await picture(page);
    await choose(page, "Heads by", "reading");
    await settled(page);
    assert.equal(await page.locator(".ha-panel canvas").count(), 1 + behaviours);
    assert.notEqual(await picture(page), writing);
    assert.match(await page.locator("h1").innerText(), new RegExp(`${given.reading} of \\d+ attention heads`));
    assert.ok((await rows(page)).every(([, about]) => about.startsWith("looks at: ")));
    await choose(page, "Heads by", "both");
    await settled(page);
    assert.equal(await page.locator(".ha-panel canvas").count(), 2 + behaviours + given.categories.length);
    await choose(page, "Heads by", "writing");
    await search(page, "induction");
    const found = (await rows(page)).filter(([, about]) => about === "looks at: induction").map(([head]) => head);
    assert.deepEqual(found.sort(), [...given.induction].sort());
    await search(page, "");
    await page.getByRole("searchbox").fill(given.induction[0]);
    await page.keyboard.press("Enter");
    assert.match(await page.locator(".ha-card").innerText(), /Looks at .*\(induction, \d\.\d\d of its attention\)/);
    const bare = await opened("bare", "#what=reading&head=L1H1");
    await opens(bare);
    const reading = bare.getByRole("button", { name: "reading", exact: true });
    assert.ok(await reading.isDisabled());
    assert.match(await bare.getByRole("group", { name: "Heads by" }).locator("legend").innerText(), /not measured/);
    await bare.context().close();
  },
  async "search: head, relation, category, word, nothing"(page) {
    await search(page, given.head.toLowerCase());
    assert.ok((await rows(page)).every(([head]) => head === given.head));
    await search(page, given.relation);
    assert.deepEqual(new Set((await rows(page)).map((row) => row[1])), new Set([spoken(given.relation)]));
    assert.equal((await rows(page)).length, given.implementing);
    await search(page, spoken(given.relation).replace("→", "->"));
    assert.equal((await rows(page)).length, given.implementing);
    await search(page, given.categories[0].toLowerCase());
    assert.deepEqual(new Set((await rows(page)).map((row) => row[2])), new Set([given.categories[0]]));
    const bright = await picture(page);
    await search(page, given.word);
    const matched = (await rows(page)).filter(([, relation]) => relation === spoken(given.relation));
    assert.deepEqual(matched.map(([head]) => head).sort(), [...given.writers].sort());
    assert.notEqual(await picture(page), bright);
    await search(page, "no such word anywhere");
    assert.equal((await rows(page)).length, 0);
    await search(page, "");
    await page.getByRole("searchbox").fill(given.head);
    await page.keyboard.press("Enter");
    assert.equal(await cardName(page), given.head);
  },
  async "sorts the table by any column"(page) {
    for (const [column, at] of [
      ["score", 3],
      ["q", 6],
      ["relation", 1],
    ]) {
      const header = page.getByRole("columnheader", { name: new RegExp(`^${column}`) });
      await header.getByRole("button").click();
      const order = await header.getAttribute("aria-sort");
      const values = (await rows(page)).map((row) => (column === "relation" ? row[at] : Number(row[at])));
      const sorted = [...values].sort((one, other) => (one < other ? -1 : one > other ? 1 : 0));
      assert.deepEqual(values, order === "descending" ? sorted.reverse() : sorted, `${column} ${order}`);
    }
  },
  async "the report is in a tab"(page) {
    await page.getByRole("tab", { name: "What the map shows" }).click();
    assert.ok((await page.locator(".ha-report h3").count()) > 2);
    assert.equal(await page.locator(".ha-findings section").count(), 3);
    assert.doesNotMatch(await page.locator("#ha-below").innerText(), /[a-z]_relation/);
  },
  async "saves SVG, PNG and CSV"(page) {
    const drawn = await download(page, "SVG");
    const wrong = await page.evaluate(
      (text) => new DOMParser().parseFromString(text, "image/svg+xml").querySelector("parsererror")?.textContent ?? "",
      drawn.bytes.toString(),
    );
    assert.equal(wrong, "");
    assert.ok(drawn.bytes.toString().split("<rect").length > given.size);
    const { bytes } = await download(page, "PNG");
    assert.equal(bytes.subarray(1, 4).toString(), "PNG");
    assert.ok(bytes.readUInt32BE(16) > 800 && bytes.readUInt32BE(20) > 400);
    await search(page, given.formula);
    const saved = await download(page, "CSV");
    assert.match(saved.name, /\.csv$/);
    const text = saved.bytes.toString();
    assert.ok(text.includes(`'${given.formula}`), text.slice(0, 400));
    assert.doesNotMatch(text, /(^|,)"?[=+@]/m);
  },
  async "the map by keyboard: arrows, Enter, Escape"(page) {
    const map = page.getByRole("application").first();
    await map.focus();
    for (const key of ["ArrowRight", "ArrowRight", "ArrowDown"]) await page.keyboard.press(key);
    assert.match(await page.locator('[aria-live="polite"]').first().innerText(), /^L2H1/);
    assert.equal(await page.locator(".ha-panel .ha-cross").count(), 2 * (1 + given.categories.length));
    await page.keyboard.press("Enter");
    assert.equal(await cardName(page), "L2H1");
    assert.equal(await page.evaluate(() => document.activeElement.id), "ha-card-name");
    await page.keyboard.press("Escape");
    await page.waitForSelector(".ha-card", { state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "CANVAS");
  },
  async "pointer and click: tooltip, mark in every panel, card"(page) {
    const canvas = page.locator(".ha-panel canvas").first();
    const box = await canvas.boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    const name = await page.locator(".ha-tip strong").innerText();
    assert.equal(await page.locator("#ha-card-name").count(), 0);
    assert.ok((await page.locator(".ha-tiles li").count()) > 3, "the column has the strongest heads");
    assert.match(name, /^L\d+H\d+$/);
    assert.equal(await page.locator(".ha-panel .ha-spot").count(), 1 + given.categories.length);
    await page.mouse.down();
    await page.mouse.up();
    assert.equal(await cardName(page), name);
    assert.deepEqual(await canvas.boundingBox(), box, "a click moves nothing under the pointer");
  },
  async "a card shows its evidence and links to other heads"(page) {
    await page.evaluate((head) => (location.hash = `head=${head}`), given.head);
    const card = page.locator(".ha-card");
    const text = await card.innerText();
    for (const heading of ["Promotes", "Suppresses", "Examples", "Salient operations", "Similar heads", "Position"])
      assert.ok(text.toLowerCase().includes(heading.toLowerCase()), heading);
    assert.ok(!text.includes("not measured"), "all evidence is there");
    const link = page.locator(".ha-similar .ha-link").first();
    const next = await link.innerText();
    await link.click();
    assert.equal(await cardName(page), next);
    await page.evaluate((layer) => (location.hash = `head=L${layer}H0`), given.without);
    await page.waitForFunction(() => document.querySelector(".ha-card")?.innerText.includes("linear attention"));
  },
  async "which heads feed a head: named, marked in the map, links"(page) {
    await page.evaluate((head) => (location.hash = `head=${head}`), given.fed);
    const edge = page.getByRole("list", { name: "Fed by" }).locator("li").first();
    assert.match(await edge.innerText(), new RegExp(`^${given.feeder}\\s+through its keys \\(previous token\\)`));
    assert.match(await edge.innerText(), /chance 0\.00 · q 0\.001\s+removed: .*random edges up to 0\.125/);
    assert.equal(await page.locator(".ha-spot.hint").count(), 0);
    await edge.hover();
    assert.equal(await page.locator(".ha-spot.hint").count(), 1 + given.categories.length);
    await page.locator("#ha-card-name").hover();
    assert.equal(await page.locator(".ha-spot.hint").count(), 0);
    await edge.getByRole("button").focus();
    assert.equal(await page.locator(".ha-spot.hint").count(), 1 + given.categories.length);
    await page.keyboard.press("Enter");
    assert.equal(await cardName(page), given.feeder);
    assert.equal(await page.locator(".ha-spot.hint").count(), 0);
    await page.getByRole("list", { name: "Feeds" }).getByRole("button", { name: given.fed }).click();
    assert.equal(await cardName(page), given.fed);
  },
  async "the address holds the view"(page) {
    await choose(page, "Heads that", "suppress");
    await choose(page, "Theme", "dark");
    await page.getByRole("slider").fill("0.25");
    await search(page, given.word);
    await page.evaluate(() => 0);
    const hash = await page.evaluate(() => location.hash);
    assert.deepEqual(await hashOf(page), { side: "suppression", theme: "dark", threshold: "0.25", query: given.word });
    const other = await opened("single", hash);
    assert.equal(await counted(other), await counted(page));
    assert.equal(await other.getByRole("searchbox").inputValue(), given.word);
    assert.deepEqual(other.heard, []);
    await other.context().close();
    await page.evaluate(() => (location.hash = "threshold=0.4&head=L1H1&compare=difference&side=nonsense"));
    await page.waitForSelector(".ha-card");
    assert.deepEqual([await cardName(page), await page.getByRole("slider").inputValue()], ["L1H1", "0.4"]);
    assert.equal(await page.locator(`.ha-choice button${PRESSED}`, { hasText: "promote" }).count(), 1);
  },
  async "hostile tokens are text"(page) {
    await page.evaluate((head) => (location.hash = `head=${head}`), given.head);
    await page.waitForSelector(".ha-card");
    for (const token of given.hostile) {
      await search(page, token.trim());
      assert.ok((await rows(page)).length > 0, JSON.stringify(token));
    }
    const body = await page.locator(".ha").innerText();
    assert.doesNotMatch(body, /[\u0000-\u0008\u000e-\u001f\u202a-\u202e]/);
    assert.equal(await page.locator("bdi b, .ha-match b").count(), 0);
  },
  async "a narrow window: no sideways scrolling, head and card seen together"(page) {
    for (const width of [320, 390, 800]) {
      await page.setViewportSize({ width, height: 800 });
      await settled(page);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `wider than ${width}`);
    }
    const canvas = page.locator(".ha-panel canvas").nth(2);
    await canvas.scrollIntoViewIfNeeded();
    const box = await canvas.boundingBox();
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForSelector(".ha-card");
    const card = await page.locator(".ha aside").boundingBox();
    assert.ok(card.y > 0 && card.y + 40 < 800 && card.y + card.height <= 801, JSON.stringify(card));
    const kept = await page.locator(".ha-panel .kept").nth(2).boundingBox();
    assert.ok(kept.y > 0 && kept.y + kept.height <= card.y, JSON.stringify([kept, card]));
  },
  async "nothing covers the card's name and its cross"(page) {
    for (const width of [1010, 1200, 1440]) {
      await page.setViewportSize({ width, height: 700 });
      await page.evaluate((head) => (location.hash = `head=${head}`), given.head);
      await page.waitForSelector(".ha-card");
      await page.evaluate(() => scrollTo(0, 500));
      await settled(page);
      const covered = await page.evaluate(() =>
        [".ha-close", "#ha-card-name"].filter((each) => {
          const element = document.querySelector(each);
          const { left, top, width, height } = element.getBoundingClientRect();
          return document.elementFromPoint(left + width / 2, top + height / 2) !== element;
        }),
      );
      assert.deepEqual(covered, [], `at ${width}`);
    }
    await page.locator(".ha-close").click();
    await page.waitForSelector(".ha-card", { state: "detached" });
  },
  async "what the keyboard reaches is not under the controls"(page) {
    await page.setViewportSize({ width: 1100, height: 500 });
    await page.locator(".ha-heads tbody button").last().focus();
    for (let step = 0; step < 30; step++) {
      await page.keyboard.press("Shift+Tab");
      const hidden = await page.evaluate(() => {
        const element = document.activeElement;
        if (element.closest(".ha-controls, .ha-top") || element.matches(".ha-scroll, canvas")) return "";
        const { left, top, width, height } = element.getBoundingClientRect();
        return element.contains(document.elementFromPoint(left + width / 2, top + height / 2))
          ? ""
          : element.textContent;
      });
      assert.equal(hidden, "");
    }
  },
  async "back undoes a step, not each tick of the slider"(page) {
    await page.evaluate((head) => (location.hash = `head=${head}`), given.head);
    await page.waitForSelector(".ha-card");
    await page.locator(".ha-similar .ha-link").first().click();
    await page.waitForFunction((head) => document.querySelector("#ha-card-name").textContent !== head, given.head);
    for (const threshold of ["0.3", "0.4", "0.5"]) await page.getByRole("slider").fill(threshold);
    await page.waitForFunction(() => location.hash.includes("0.5"));
    await page.goBack();
    await page.waitForFunction((head) => document.querySelector("#ha-card-name").textContent === head, given.head);
    await page.goBack();
    await page.waitForSelector(".ha-card", { state: "detached" });
  },
  async "a tooltip stays in the window"(page) {
    await page.setViewportSize({ width: 700, height: 520 });
    for (const number of [0, 1, 2]) {
      const canvas = page.locator(".ha-panel canvas").nth(number);
      await canvas.evaluate((element) => element.scrollIntoView({ block: "end" }));
      const box = await canvas.boundingBox();
      for (const [across, down] of [
        [0.25, 0.6],
        [0.8, 0.6],
        [0.5, 0.75],
      ]) {
        await page.mouse.move(box.x + box.width * across, box.y + box.height * down);
        const tip = await page.locator(".ha-tip").boundingBox();
        assert.ok(
          tip.x >= 0 && tip.y >= 0 && tip.x + tip.width <= 700 && tip.y + tip.height <= 520,
          JSON.stringify(tip),
        );
      }
    }
  },
  async "a search shows its strongest matches next to the map; Enter opens the first"(page) {
    await search(page, given.relation);
    const listed = page.locator(".ha-matches li");
    assert.ok(await listed.first().isVisible());
    const { y } = await listed.first().boundingBox();
    assert.ok(y < SIZE.height - 40, `at ${y}`);
    const [first] = await rows(page);
    await page.getByRole("searchbox").press("Enter");
    assert.equal(await cardName(page), first[0]);
    const shown = await page.locator(".ha-examples strong").allInnerTexts();
    assert.ok(shown.length > 0);
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement.type), "search");
  },
};

const others = {
  async "what was not measured says so"() {
    const page = await opened("bare", "#head=L1H1&rule=calibrated&side=suppression");
    const card = await page.locator(".ha-card").innerText();
    assert.ok((card.match(/not measured/g) ?? []).length >= 5, card);
    await opens(page);
    const calibrated = page.getByRole("button", { name: "calibrated", exact: true });
    assert.ok(await calibrated.isDisabled());
    assert.match(
      await page.getByRole("group", { name: "Rule", exact: true }).locator("legend").innerText(),
      /not measured/,
    );
    const option = page.locator("option[disabled]");
    assert.match(await option.innerText(), /^geometry words \(not measurable: 3 pairs\)/);
    assert.ok(card.includes("Whether other heads share its values is not known."), card);
    return page;
  },
  async "two atlases: each, both and their difference"() {
    const page = await opened("double");
    const panels = 1 + given.categories.length;
    const seen = new Set();
    for (const [choice, count] of [
      ["both", 2 * panels],
      ["A", panels],
      ["B", panels],
      ["difference", null],
    ]) {
      await choose(page, "Atlases", choice);
      await settled(page);
      if (count) assert.equal(await page.locator(".ha-panel canvas").count(), count, choice);
      assert.ok((await page.locator("h1").innerText()).includes("attention heads"));
      seen.add(await picture(page));
    }
    assert.equal(seen.size, 3, "both and A begin with the same panel, B and difference do not");
    await choose(page, "Atlases", "B");
    assert.equal(await counted(page), given.second);
    return page;
  },
  async "two models by function: tables, partners in the other map, cards"() {
    const page = await opened("others");
    const { first, second, similarity } = given.match;
    assert.equal(await page.locator(".ha-panel canvas").count(), 2);
    const relations = page.getByRole("region", { name: "Relations in both models" }).locator("tbody tr");
    assert.equal(await relations.count(), given.shared);
    const [row] = await page.getByRole("region", { name: "Matched heads" }).locator("tbody tr").all();
    assert.match(await row.innerText(), new RegExp(`^${first}\\s+${second}\\s+${similarity.toFixed(2)}\\s+<0\\.001`));
    await row.hover();
    assert.equal(await page.locator(".ha-spot.hint").count(), 2);
    await row.getByRole("button", { name: `${first} of A` }).press("Enter");
    assert.equal(await cardName(page), first);
    assert.deepEqual(
      await page
        .locator(".ha-panel")
        .evaluateAll((all) =>
          all.map((panel) => [".kept", ".partner"].map((mark) => panel.querySelectorAll(mark).length)),
        ),
      [
        [1, 0],
        [0, 1],
      ],
    );
    await page.locator(".ha-card").getByRole("button", { name: second, exact: true }).click();
    assert.equal(await cardName(page), second);
    assert.deepEqual(await hashOf(page), { head: second, card: "b" });
    await page.locator(".ha-card").getByRole("button", { name: "A", exact: true }).click();
    assert.equal(await cardName(page), first);
    await page.keyboard.press("Escape");
    await page.locator(".ha-panel canvas").nth(1).click();
    assert.equal((await hashOf(page)).card, "b");
    await page.setViewportSize({ width: 390, height: 800 });
    await settled(page);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    assert.equal(await page.locator("h1 b").count(), 0);
    return page;
  },
  async "a prompt: sentences, a map, tokens, checks, and the card of its heads"() {
    const page = await opened("prompt");
    const panel = page.locator(".ha-prompt");
    assert.equal(await page.getByRole("tab", { selected: true }).innerText(), "At the prompt");
    const { prompt } = given;
    const text = await panel.innerText();
    for (const part of [...prompt.sentences, "✓ country → capital", "✗ induction"])
      assert.ok(text.includes(part), part);
    assert.equal(await panel.locator("rect").count(), prompt.heads);
    assert.equal(await panel.locator(".ha-tokens span").count(), prompt.tokens);
    assert.doesNotMatch(text, /[\u0000-\u0008\u000e-\u001f\u202a-\u202e]/);
    assert.equal(await panel.locator("b, img, script").count(), 0);
    const share = await panel.locator(".ha-tokens small").allInnerTexts();
    assert.deepEqual(share, prompt.attention);
    await panel.locator("tbody button").first().click();
    const card = page.locator(".ha-card");
    await card.waitFor();
    assert.equal(await card.locator("h2").innerText(), prompt.first);
    assert.match(
      await card.innerText(),
      /At the prompt.*It adds \+1\.50 to the token’s logit \(controls −0\.25 to \+0\.50\)/is,
    );
    assert.match(
      await card.innerText(),
      /By a language model\s+It names capitals\. \(a <b>model<\/b>; right 2 of 3, the rules’ sentence 1 of 3; 0\.20 by chance\)/i,
    );
    assert.equal(await panel.locator("rect.kept").count(), 1);
    await panel.locator("rect").last().click();
    await page.waitForFunction((first) => document.querySelector(".ha-card h2").innerText !== first, prompt.first);
    return page;
  },
  async "two atlases: a click opens the card of the atlas that was clicked"() {
    const page = await opened("double");
    const panels = 1 + given.categories.length;
    for (const [number, letter] of [
      [0, "A"],
      [panels, "B"],
    ]) {
      await page.locator(".ha-panel canvas").nth(number).click();
      const card = page.locator(".ha-card");
      await page.waitForFunction(
        (wanted) => document.querySelector(".ha-card")?.innerText.includes(wanted),
        `${letter}: `,
      );
      assert.equal(
        await card.locator(".ha-operations").count(),
        letter === "A" ? 2 : 0,
        `only A has words that it looks for and salient operations: ${letter}`,
      );
    }
    await page.locator(".ha-card").getByRole("button", { name: "A", exact: true }).click();
    await page.waitForFunction(() => document.querySelector(".ha-card").innerText.includes("A: "));
    const hash = await page.evaluate(() => location.hash);
    assert.ok(!hash.includes("card="), hash);
    return page;
  },
};
for (const theme of ["light", "dark"])
  others[`no violation that axe finds, ${theme}`] = async () => {
    const found = [];
    for (const [name, hash] of [
      ["single", `head=${given.head}`],
      ["single", "tab=report"],
      ["single", `query=${given.word}`],
      ["single", `relation=${given.relation}`],
      ["double", "compare=difference"],
      ["others", "card=b&head=L5H0"],
      ["prompt", `head=${given.head}`],
    ]) {
      const page = await opened(name, `#theme=${theme}&${hash}`, { bypassCSP: true });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() =>
        globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }),
      );
      for (const each of violations)
        found.push(
          `${hash}: ${each.id}: ${each.help}: ${each.nodes
            .slice(0, 2)
            .map((node) => node.html.slice(0, 160))
            .join(" | ")}`,
        );
      await page.context().close();
    }
    assert.deepEqual(found, []);
  };

const problems = {};
for (const [name, check] of [...Object.entries(checks), ...Object.entries(others)]) {
  let page;
  try {
    if (name in checks) {
      page = await opened("single");
      await check(page);
    } else page = await check();
    problems[name] = page?.heard.length ? page.heard.slice(0, 5).join("; ") : "";
  } catch (error) {
    problems[name] =
      `${error.message}\n${error.stack?.split("\n").find((line) => line.includes("page.mjs")) ?? ""}\n${page?.heard.slice(0, 5).join("; ") ?? ""}`;
  }
  await page?.context().close();
}
console.log(JSON.stringify({ version: browser.version(), problems }));
await browser.close();
