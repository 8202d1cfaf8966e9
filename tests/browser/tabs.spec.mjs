// Several machines as tabs of one page: opening, switching, naming, ordering, closing, reloading, the overview.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch, openPage, screenshot } from "./lib/browser.mjs";
import { bootFloppy, THEN } from "./lib/boot-sector.mjs";
import { serveSite } from "./lib/server.mjs";

const BOOT_MS = 30_000;
const DESKTOP = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
/** What a finger hits, in CSS pixels. */
const FINGER = 44;

const LIST = path.resolve(import.meta.dirname, "../../build/site/guests/guests.json");
const offered = fs.existsSync(LIST) ? JSON.parse(fs.readFileSync(LIST, "utf8")).guests.map(({ name }) => name) : [];
const missing = ["hello", "mode13", "protected"].filter((name) => !offered.includes(name));
const skip = missing.length ? `the site has no guest ${missing.join(", ")}: run \`cargo xtask guests\`` : false;

let browser, server, plain;
before(async () => {
  browser = await launch();
  server = await serveSite();
  plain = await serveSite({ isolated: false });
});
after(async () => {
  await browser.close();
  await server.close();
  await plain.close();
});

/** A test with a page of its own, cross-origin isolated unless told. */
function spec(what, query, use, { isolated = true, ...options } = DESKTOP) {
  test(what, { skip }, async () => {
    const page = await openPage(browser, `${(isolated ? server : plain).origin}/${query}`, options);
    try {
      await use(page);
      assert.deepEqual(page.problems, []);
    } finally {
      await page.context().close();
    }
  });
}

const tabs = (page) => page.locator("#tab-strip [role=tab]");
const tab = (page, name) => tabs(page).filter({ has: page.locator(".tab-name", { hasText: new RegExp(`^${name}$`) }) });
/** Waits for the tabs to have these names, and says which they have if they don't. */
async function named(page, expected, message) {
  const strip = () => [...document.querySelectorAll("#tab-strip .tab-name")].map(({ textContent }) => textContent);
  await page.waitForFunction(`String((${strip})()) === ${JSON.stringify(String(expected))}`, null, { timeout: 5_000 }).catch(() => {});
  assert.deepEqual(await page.evaluate(strip), expected, message);
}
const selected = (page) => page.locator("#tab-strip [aria-selected=true] .tab-name").allTextContents();
const focused = (page) => page.evaluate(() => document.activeElement?.querySelector(".tab-name")?.textContent ?? document.activeElement?.id);
async function shows(page, text) {
  // The other tabs may run before the shown one has its machine.
  await page.waitForFunction(() => window.vm);
  return page.evaluate(([text, ms]) => window.vm.waitForScreen(text, ms), [text, BOOT_MS]);
}
const state = (page, name, word) => page.getByRole("tab", { name: `${name}, ${word}` }).waitFor({ timeout: BOOT_MS });
const outside = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

/** Opens another guest from the list. */
async function openGuest(page, guest) {
  if (await page.locator("#new-tab").isVisible()) await page.click("#new-tab");
  const count = await tabs(page).count();
  await page.click(`[data-guest=${guest}]`);
  await tabs(page).nth(count).waitFor();
  await page.locator("#screen-panel").waitFor();
}

/** Opens a floppy of the visitor in a new tab. */
async function openFloppy(page, name, image) {
  const count = await tabs(page).count();
  await page.setInputFiles("#files", { name, mimeType: "application/octet-stream", buffer: image });
  await page.locator("#own-form .primary").click();
  await tabs(page).nth(count).waitFor();
  await page.locator("#screen-panel").waitFor();
}

spec("two guests as tabs: keys go to the one that is shown, the other stays as it is", "", async (page) => {
  await openGuest(page, "hello");
  await shows(page, "hello: ready");
  await openFloppy(page, "echo.img", bootFloppy("echo>", THEN.echoKeys));
  await shows(page, "echo>");
  await named(page, ["Hello", "echo.img"]);
  assert.equal(await focused(page), "screen", "a new machine has the keyboard");
  await page.keyboard.type("only here", { delay: 20 });
  await shows(page, "echo>only here");

  await tab(page, "Hello").click();
  assert.deepEqual(await selected(page), ["Hello"]);
  assert.equal(await page.title(), "Hello - tab86");
  assert.doesNotMatch(await shows(page, "hello: ready"), /only here/);
  await page.keyboard.type("and this there", { delay: 20 });
  await shows(page, "and this there");
  await tab(page, "echo.img").click();
  assert.doesNotMatch(await shows(page, "echo>only here"), /and this there/);
  await page.locator("#total", { hasText: "2 machines on" }).waitFor();
  assert.match(await page.locator("#total").textContent(), /MIPS · 272 MiB · \d workers?/);
});

spec("the keyboard alone: switch, name, move, close, take back", "?guest=hello&guest=mode13&guest=protected", async (page) => {
  await state(page, "Hello", "running");
  await state(page, "Mode 13h", "running");
  await state(page, "Protected mode", "running");
  assert.deepEqual(await selected(page), ["Hello"], "the first guest of the address is shown");
  await page.waitForFunction(() => document.activeElement?.id === "screen");
  await shows(page, "hello: ready");
  const text = await page.evaluate(() => window.vm.screenText());

  await page.keyboard.press("Control+Alt+KeyG");
  assert.equal(await focused(page), "Hello", "the host chord goes to the tabs");
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
    return focused(page);
  };
  assert.equal(await press("ArrowRight"), "Mode 13h");
  assert.deepEqual(await selected(page), ["Mode 13h"]);
  assert.equal(await press("ArrowRight", "ArrowRight"), "Hello", "around the end");
  assert.equal(await press("End"), "Protected mode");
  assert.equal(await press("Home"), "Hello");
  assert.equal(await press("2"), "Mode 13h");
  const stops = await page.locator("#tab-strip [tabindex='0']").count();
  assert.equal(stops, 1, "the strip is one tab stop");

  assert.equal(await press("Shift+ArrowLeft"), "Mode 13h", "a tab that moves keeps the focus");
  await named(page, ["Mode 13h", "Hello", "Protected mode"]);
  await press("Shift+End");
  await named(page, ["Hello", "Protected mode", "Mode 13h"]);

  await press("F2");
  await page.keyboard.type("Plasma");
  assert.equal(await press("Enter"), "Plasma");
  await press("F2");
  await page.keyboard.type("not this");
  assert.equal(await press("Escape"), "Plasma");

  await press("Delete");
  assert.equal(await page.locator("#close-dialog").isVisible(), true, "the first running machine is asked about");
  await press("Escape");
  await named(page, ["Hello", "Protected mode", "Plasma"]);
  await tab(page, "Plasma").focus();
  await press("Delete", "Enter");
  await named(page, ["Hello", "Protected mode"]);
  assert.equal(await focused(page), "Protected mode", "the focus goes to the neighbour");
  assert.equal(await press("Control+z"), "Plasma");
  await named(page, ["Hello", "Protected mode", "Plasma"]);
  await press("Delete");
  await named(page, ["Hello", "Protected mode"], "only the first is asked about");

  await press("Home", "Control+Alt+KeyG");
  assert.equal(await focused(page), "screen", "the same chord goes back");
  assert.equal(await page.evaluate(() => window.vm.screenText()), text, "nothing of all that reached the guest");
});

spec("a mouse: drag to reorder, double click to rename, the cross closes, Undo goes on where it was", "?guest=hello&guest=mode13&guest=protected", async (page) => {
  await state(page, "Protected mode", "running");
  const middle = async (name) => {
    const box = await tab(page, name).boundingBox();
    return [box.x + box.width / 3, box.y + box.height / 2];
  };
  await page.mouse.move(...await middle("Protected mode"));
  await page.mouse.down();
  const [x, y] = await middle("Hello");
  await page.mouse.move(x + 20, y, { steps: 8 });
  await page.mouse.move(x - 10, y, { steps: 3 });
  await page.mouse.up();
  await named(page, ["Protected mode", "Hello", "Mode 13h"]);
  assert.deepEqual(await selected(page), ["Hello"], "a drag selects nothing");

  await tab(page, "Hello").dblclick();
  await page.locator(".tab-edit").fill("My <b>hello</b>");
  await page.locator("#state").click();
  await named(page, ["Protected mode", "My <b>hello</b>", "Mode 13h"], "and leaving the field keeps the name");

  await page.locator("#screen").click();
  await shows(page, "hello: ready");
  await page.keyboard.type("still here", { delay: 20 });
  await shows(page, "still here");
  const cross = page.locator(".tab", { hasText: "My <b>" }).locator(".tab-close");
  await cross.click();
  await page.click("#close-dialog .primary");
  await named(page, ["Protected mode", "Mode 13h"]);
  await page.click("#undo");
  await named(page, ["Protected mode", "My <b>hello</b>", "Mode 13h"]);
  assert.match(await shows(page, "still here"), /hello: ready/);
  assert.equal(await focused(page), "screen");
  await page.keyboard.type(" and on", { delay: 20 });
  await shows(page, "still here and on");

  await tab(page, "Mode 13h").click({ button: "right" });
  await page.locator("#tab-menu").waitFor();
  assert.equal(await page.locator("#tab-menu-title").textContent(), "Mode 13h");
  await page.click("#menu-left");
  await named(page, ["Protected mode", "Mode 13h", "My <b>hello</b>"]);
});

spec("a reload brings the tabs back, switched off; what the address names boots again", "", async (page) => {
  await openGuest(page, "hello");
  await openGuest(page, "protected");
  await openFloppy(page, "mine.img", bootFloppy("from a file", THEN.echoKeys));
  await shows(page, "from a file");
  await tab(page, "Hello").click();
  await page.keyboard.press("Control+Alt+KeyG");
  await page.keyboard.press("F2");
  await page.keyboard.type("First of all");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Shift+End");
  await page.reload();
  await named(page, ["Protected mode", "mine.img", "First of all"]);
  assert.deepEqual(await selected(page), ["First of all"]);
  await state(page, "First of all", "off");
  assert.equal(await page.evaluate(() => window.vm), undefined, "nothing runs");
  await page.click("#start-again");
  await page.locator("#screen-panel").waitFor();
  await shows(page, "hello: ready");

  await tab(page, "mine.img").click();
  assert.match(await page.locator("#off-text").textContent(), /not kept: choose mine\.img again/);
  assert.equal(await page.locator("#start-again").isVisible(), false);
  const chooser = page.waitForEvent("filechooser");
  await page.click("#choose-again");
  await (await chooser).setFiles({ name: "mine.img", mimeType: "application/octet-stream", buffer: bootFloppy("from a file", THEN.echoKeys) });
  await page.locator("#own-form .primary").click();
  await page.locator("#screen-panel").waitFor();
  await shows(page, "from a file");
  assert.equal(await tabs(page).count(), 3, "it starts in its own tab");

  await page.click("#power");
  await state(page, "mine.img", "off");
  assert.equal(await page.evaluate(() => window.vm.state), "closed");
  await page.click("#start-again");
  await state(page, "mine.img", "running");

  await page.goto(`${server.origin}/?guest=protected&guest=mode13`);
  await named(page, ["Protected mode", "mine.img", "First of all", "Mode 13h"]);
  await state(page, "Protected mode", "running");
  await state(page, "Mode 13h", "running");
  await state(page, "First of all", "off");
  assert.deepEqual(await selected(page), ["Protected mode"]);
  await tab(page, "Mode 13h").click();
  await page.reload();
  await state(page, "Mode 13h", "running");
  assert.deepEqual(await selected(page), ["Mode 13h"]);
  assert.equal(await tabs(page).count(), 4);
  await tab(page, "Mode 13h").focus();
  await page.keyboard.press("Delete");
  await page.keyboard.press("Enter");
  await named(page, ["Protected mode", "mine.img", "First of all"]);
  assert.equal(new URL(page.url()).search, "?guest=protected", "the address forgets a closed guest");
});

/** A number that changes with the picture of each card. */
const pictures = (page) => page.evaluate(() => [...document.querySelectorAll("#cards canvas")].map((canvas) => {
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.reduce((hash, pixel) => (Math.imul(hash, 31) + pixel) | 0, canvas.width);
}));

/** Waits until every card has a picture. */
const drawn = (page) => page.waitForFunction(() => [...document.querySelectorAll("#cards canvas")].every((canvas) =>
  canvas.width >= 320 && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => value && i % 4 < 3)));

/** Waits until a card's picture changes. */
async function moves(page, index) {
  const before = (await pictures(page))[index];
  for (const end = Date.now() + BOOT_MS; Date.now() < end; await page.waitForTimeout(100)) {
    if ((await pictures(page))[index] !== before) return;
  }
  assert.fail("the picture never changed");
}

spec("the overview has live pictures, and draws nothing once it is left", "?guest=hello&guest=mode13", async (page) => {
  await state(page, "Hello", "running");
  await shows(page, "hello: ready");
  await tab(page, "Mode 13h").click();
  await page.waitForFunction(() => document.querySelector("#mode").textContent === "320×200", null, { timeout: BOOT_MS });
  await page.click("#overview-button");
  const cards = page.locator("#cards .card-open");
  assert.equal(await cards.count(), 2);
  assert.match(await page.locator("#overview-total").textContent(), /^2 machines on · [\d.]+ MIPS · 32 MiB · \d workers?$/);
  await drawn(page);
  await moves(page, 1);

  await page.getByRole("button", { name: "Mode 13h, running", exact: true }).focus();
  await page.keyboard.press("ArrowLeft");
  assert.equal(await page.evaluate(() => document.activeElement.querySelector("strong")?.textContent), "Hello");
  await page.keyboard.press("Enter");
  assert.deepEqual(await selected(page), ["Hello"]);
  assert.equal(await focused(page), "screen");
  assert.equal(await page.evaluate(() => window.vm.canvas.id), "screen");
  await page.waitForTimeout(300);
  const still = await pictures(page);
  await page.waitForTimeout(1000);
  assert.deepEqual(await pictures(page), still, "nobody draws thumbnails that nobody sees");
});

spec("without shared memory: tabs, keys and pictures all the same", "?guest=hello&guest=mode13", async (page) => {
  await state(page, "Hello", "running");
  await state(page, "Mode 13h", "running");
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  await shows(page, "hello: ready");
  await page.keyboard.type("typed", { delay: 20 });
  await shows(page, "typed");
  await tab(page, "Mode 13h").click();
  await page.waitForFunction(() => document.querySelector("#mode").textContent === "320×200", null, { timeout: BOOT_MS });
  await tab(page, "Hello").click();
  await shows(page, "typed");
  await page.click("#overview-button");
  await drawn(page);
  await moves(page, 1);
}, { ...DESKTOP, isolated: false });

spec("each tab has its serial port and keeps which side it shows", "?guest=hello&guest=protected", async (page) => {
  await state(page, "Hello", "running");
  await shows(page, "hello: ready");
  await page.click("#tab-serial");
  await page.locator("#serial-panel .xterm-rows", { hasText: "hello: ready" }).waitFor();
  await page.waitForFunction(() => document.activeElement?.closest("#serial-panel"));
  await page.keyboard.press("Control+Alt+KeyG");
  assert.equal(await focused(page), "Hello", "the host chord works in the terminal");
  await page.keyboard.press("ArrowRight");
  await page.locator("#screen-panel").waitFor();
  await shows(page, "protected: ready");
  await page.click("#tab-serial");
  await page.locator("#serial-panel .xterm-rows", { hasText: "protected: ready" }).waitFor();
  assert.equal(await page.locator("#serial-panel .xterm-rows", { hasText: "hello" }).count(), 0);
  await tab(page, "Hello").click();
  await page.locator("#serial-panel .xterm-rows", { hasText: "hello: ready" }).waitFor();
});

spec("a finger: a long press drags a tab, a swipe scrolls the strip", "?guest=hello&guest=mode13&guest=protected", async (page) => {
  await state(page, "Protected mode", "running");
  const touch = await page.context().newCDPSession(page);
  const send = (type, x, y) => touch.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x, y }] });
  const box = await tab(page, "Mode 13h").boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await send("touchStart", x, y);
  await page.locator(".tab.dragged").waitFor();
  for (let step = 1; step <= 6; step++) await send("touchMove", x - 25 * step, y);
  await send("touchEnd");
  await named(page, ["Mode 13h", "Hello", "Protected mode"]);
  assert.deepEqual(await selected(page), ["Hello"]);

  await page.locator("#tab-strip").evaluate((strip) => (strip.scrollLeft = 0));
  await send("touchStart", 200, y);
  for (let step = 1; step <= 6; step++) await send("touchMove", 200 - 25 * step, y);
  await send("touchEnd");
  await page.waitForFunction(() => document.querySelector("#tab-strip").scrollLeft > 0);
  await named(page, ["Mode 13h", "Hello", "Protected mode"], "a swipe moves no tab");
}, PHONE);

spec("a machine that crashes in a hidden tab shows it there", "?guest=hello", async (page) => {
  await openFloppy(page, "crash.img", bootFloppy("the end", THEN.tripleFault));
  await tab(page, "Hello").click();
  await state(page, "crash.img", "crashed");
  await shows(page, "hello: ready");
  assert.equal(await page.locator("#message").isVisible(), false, "it is not this tab's message");
  await tab(page, "crash.img").click();
  await page.locator("#message-text", { hasText: "triple fault" }).waitFor();
  await tab(page, "Hello").click();
  assert.equal(await page.locator("#message").isVisible(), false);
  await tab(page, "crash.img").focus();
  await page.keyboard.press("Delete");
  await named(page, ["Hello"], "a crashed machine is not asked about");
});

spec("pause when hidden: the machine stands still until its tab is shown", "?guest=hello&guest=protected", async (page) => {
  await state(page, "Hello", "running");
  await state(page, "Protected mode", "running");
  await tab(page, "Protected mode").click();
  await shows(page, "protected: ready");
  await page.click("#tab-menu-button");
  await page.click("#menu-pause");
  await page.evaluate(() => (window.counting = window.vm));
  await tab(page, "Hello").click();
  await state(page, "Protected mode", "paused");
  const count = () => page.evaluate(() => String(window.counting.stats().instructions));
  const before = await count();
  await page.waitForTimeout(500);
  assert.equal(await count(), before);
  await tab(page, "Protected mode").click();
  await state(page, "Protected mode", "running");
  await page.waitForFunction((before) => String(window.counting.stats().instructions) !== before, before);
});

spec("a clone goes on from the same state, on its own", "?guest=hello", async (page) => {
  await state(page, "Hello", "running");
  await shows(page, "hello: ready");
  if (!(await page.evaluate(() => typeof window.vm.clone === "function"))) {
    await page.click("#tab-menu-button");
    assert.equal(await page.locator("#menu-clone").isDisabled(), true, "without clone() the menu does not offer it");
    return;
  }
  await page.keyboard.type("before ", { delay: 20 });
  await shows(page, "before");
  await page.keyboard.press("Control+Alt+KeyG");
  await page.keyboard.press("c");
  await state(page, "Hello 2", "running");
  assert.deepEqual(await selected(page), ["Hello 2"]);
  await shows(page, "before");
  await page.keyboard.type("after", { delay: 20 });
  await shows(page, "before after");
  await tab(page, "Hello").click();
  assert.doesNotMatch(await shows(page, "before"), /after/);
});

spec("a pool without room says so, and the tab is not opened", "?guest=hello", async (page) => {
  await state(page, "Hello", "running");
  await page.evaluate(() => {
    // The page has no memory for more.
    WebAssembly.Memory = function () {
      throw new RangeError("no memory");
    };
  });
  await page.click("#new-tab");
  await page.click("[data-guest=mode13]");
  await page.locator("#message-text", { hasText: /memory|machines/ }).waitFor();
  await named(page, ["Hello"]);
  assert.equal(await page.locator("#home").isVisible(), true);
  await tab(page, "Hello").click();
  await shows(page, "hello: ready");
});

spec("with more tabs than fit, the one that is shown is in sight", "", async (page) => {
  await page.evaluate(() => {
    const tabs = Array.from({ length: 9 }, (_, i) => ({ name: `disk ${i}`, source: { kind: "guest", guest: "hello" }, settings: {}, pauseHidden: false }));
    sessionStorage.setItem("tab86-tabs", JSON.stringify({ version: 1, active: 8, tabs }));
  });
  await page.reload();
  const inSight = async (name) => {
    const sight = ([name]) => {
      const strip = document.querySelector("#tab-strip").getBoundingClientRect();
      const tab = [...document.querySelectorAll(".tab")].find((each) => each.textContent.includes(name)).getBoundingClientRect();
      return tab.left >= strip.left - 1 && tab.right <= strip.right + 1;
    };
    await page.waitForFunction(sight, [name], { timeout: 5_000 });
  };
  await inSight("disk 8");
  await page.click("#new-tab");
  await page.keyboard.press("Escape");
  await inSight("disk 8");
  await tab(page, "disk 8").focus();
  await page.keyboard.press("Home");
  await inSight("disk 0");
  await page.keyboard.press("ArrowLeft");
  await inSight("disk 8");
});

for (const [device, options] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
  spec(`tabs and overview on a ${device}, light and dark`, "?guest=hello&guest=mode13&guest=protected", async (page) => {
    await state(page, "Mode 13h", "running");
    await state(page, "Protected mode", "running");
    await shows(page, "hello: ready");
    await page.locator("[data-tone=idle]").first().waitFor();
    const both = async (name) => {
      assert.ok(await outside(page) <= 0, `nothing sticks out (${name})`);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        // Colours change within a moment.
        await page.waitForTimeout(300);
        await screenshot(page, `${name}-${device}-${colorScheme}`);
      }
    };
    await both("tabs");
    const small = await page.evaluate((finger) => [...document.querySelectorAll(".top button, .top [role=tab]")]
      .filter((each) => each.checkVisibility() && Math.min(each.offsetWidth, each.offsetHeight) < finger)
      .map((each) => `${each.id || each.className} ${each.offsetWidth}×${each.offsetHeight}`), FINGER);
    if (device === "phone") assert.deepEqual(small, [], "everything is large enough for a finger");
    await page.locator("#overview-button").click();
    await drawn(page);
    await both("overview");
    const last = page.locator("#cards .card-open", { hasText: "Protected mode" });
    if (device === "phone") await last.tap();
    else await last.click();
    assert.deepEqual(await selected(page), ["Protected mode"]);
    await shows(page, "protected: ready");
    const box = await tab(page, "Protected mode").boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= options.viewport.width, `the tab that is shown is in sight: ${JSON.stringify(box)}`);
    await page.locator("#tab-menu-button").click();
    await both("tab-menu");
    await page.keyboard.press("Escape");
    await page.locator("#power").click();
    await both("tab-off");
  }, options);
}
