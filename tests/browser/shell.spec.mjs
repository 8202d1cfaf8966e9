// The shell, at a desk and on a phone, light and dark; and what it says of machines that come to an end.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, screenshot } from "./lib/browser.mjs";
import { bootFloppy, THEN } from "./lib/boot-sector.mjs";
import { serveSite } from "./lib/server.mjs";

const SIZES = {
  desktop: { viewport: { width: 1280, height: 860 } },
  phone: { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
};

let browser, server;
before(async () => {
  browser = await launch();
  server = await serveSite();
});
after(async () => {
  await browser.close();
  await server.close();
});

/** Boots a floppy by the file picker. */
async function bootImage(page, image) {
  await page.setInputFiles("#files", { name: "test.img", mimeType: "application/octet-stream", buffer: image });
  await page.locator("#own-form .primary").click();
  await page.locator("#screen-panel").waitFor();
}

const waitForText = (page, text) => page.evaluate((text) => window.vm.waitForScreen(text, 60_000), text);
const outside = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

for (const [device, size] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    test(`home and machine on a ${device}, ${colorScheme}`, async () => {
      const page = await openPage(browser, server.origin, { ...size, colorScheme });
      await page.locator(".guest, #guests li").first().waitFor();
      assert.ok(await outside(page) <= 0, "nothing sticks out");
      await screenshot(page, `home-${device}-${colorScheme}`);
      await bootImage(page, bootFloppy("tab86 says hello\r\n", THEN.echoKeys));
      await waitForText(page, "tab86 says hello");
      assert.ok(await outside(page) <= 0, "nothing sticks out");
      const box = await page.locator("#screen").boundingBox();
      assert.ok(Math.abs(box.width / box.height - 4 / 3) < 0.02, `text fills a 4:3 picture: ${box.width} by ${box.height}`);
      assert.ok(box.x >= 0 && box.x + box.width <= size.viewport.width && box.y + box.height <= size.viewport.height);
      const dark = await page.evaluate(() => {
        const [red] = getComputedStyle(document.body).backgroundColor.match(/\d+/g);
        return Number(red) < 128;
      });
      assert.equal(dark, colorScheme === "dark");
      await screenshot(page, `machine-${device}-${colorScheme}`);
      assert.deepEqual(page.problems, []);
      await page.context().close();
    });
  }
}

test("keys, pause, reset and power off work without a mouse", async () => {
  const page = await openPage(browser, server.origin, SIZES.desktop);
  await bootImage(page, bootFloppy("ready>", THEN.echoKeys));
  await waitForText(page, "ready>");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "screen", "the screen has the keyboard");
  await page.keyboard.type("hello, world", { delay: 30 });
  await waitForText(page, "ready>hello, world");

  await page.keyboard.press("Control+Alt+KeyG");
  assert.equal(await page.evaluate(() => document.activeElement?.role), "tab", "Ctrl+Alt+G leaves the screen");
  await page.locator("#run").press("Enter");
  await page.locator("#state", { hasText: "Paused" }).waitFor();
  const stopped = await page.evaluate(() => window.vm.stats().instructions);
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.vm.stats().instructions), stopped, "a paused machine does nothing");
  await page.keyboard.press("Enter");
  await page.locator("#state", { hasText: "Running" }).waitFor();

  await page.locator("#reset").press("Enter");
  await page.waitForFunction(() => /ready>\s*$/.test(window.vm.screenText()), null, { timeout: 60_000 });

  await page.locator("#power").press("Enter");
  await page.locator("#off-panel").waitFor();
  assert.equal(await page.evaluate(() => window.vm.state), "closed");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "start-again");
  assert.deepEqual(page.problems, []);
});

test("an idle machine sleeps", async () => {
  const page = await openPage(browser, server.origin);
  // The BIOS waits for a key with HLT.
  await bootImage(page, bootFloppy("idle>", THEN.echoKeys));
  await waitForText(page, "idle>");
  await page.waitForFunction(() => window.vm.stats().idle > 0.9, null, { timeout: 20_000 });
});

test("pasted text is typed, capitals and signs too", async () => {
  const page = await openPage(browser, server.origin);
  await bootImage(page, bootFloppy(">", THEN.echoKeys));
  await waitForText(page, ">");
  await page.click("#paste");
  await page.fill("#paste-text", "A{b}|C~\"d\" 100% #!");
  await page.click("#paste-dialog .primary");
  await waitForText(page, ">A{b}|C~\"d\" 100% #!");
});

const ENDS = [
  ["halts with interrupts off", THEN.haltForEver, /halted/],
  ["triple-faults", THEN.tripleFault, /triple fault/],
];
for (const [what, then, message] of ENDS) {
  test(`a guest that ${what} is reported, and reset works`, async () => {
    const page = await openPage(browser, server.origin);
    await bootImage(page, bootFloppy("the end", then));
    await page.locator("#message-text", { hasText: message }).waitFor({ timeout: 60_000 });
    const before = await page.evaluate(() => window.vm.stats().instructions);
    await page.click("#reset");
    await page.locator("#message-text", { hasText: message }).waitFor({ timeout: 60_000 });
    assert.notEqual(await page.evaluate(() => window.vm.stats().instructions), before);
    assert.deepEqual(page.problems, []);
  });
}

test("an unknown guest is said to be unknown", async () => {
  const page = await openPage(browser, `${server.origin}/?guest=nonesuch`);
  await page.locator("#message-text", { hasText: "nonesuch" }).waitFor();
  assert.equal(await page.locator("#home").isVisible(), true);
});

test("the theme button goes through system, light and dark and is remembered", async () => {
  const page = await openPage(browser, server.origin, { colorScheme: "dark" });
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  assert.equal(await theme(), "system");
  await page.click("#theme");
  assert.equal(await theme(), "light");
  await page.click("#theme");
  await page.reload();
  assert.equal(await theme(), "dark");
});
