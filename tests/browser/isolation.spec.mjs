// A static host that sends no headers: the service worker isolates the page. And an element that nobody sees.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bootFloppy, THEN } from "./lib/boot-sector.mjs";
import { launch, openPage } from "./lib/browser.mjs";
import { serveSite } from "./lib/server.mjs";

const ELEMENT = `<!doctype html><title>element</title><script type="module" src="/pkg/tab86.js"></script>
  <tab86-vm autostart pause-hidden memory="16" fda="/files/spin.img"></tab86-vm><div style="height: 300vh"></div><p id="end">end</p>`;
const FILES = {
  "/files/spin.img": bootFloppy("spinning\r\n", THEN.spin),
  "/files/element.html": Buffer.from(ELEMENT),
};

let browser, server;
before(async () => {
  browser = await launch();
  server = await serveSite({ isolated: false, files: FILES });
});
after(async () => {
  await browser.close();
  await server.close();
});

test("without headers the service worker isolates the page, and images stream through it", async () => {
  const page = await openPage(browser, `${server.origin}/`, { serviceWorkers: "allow" });
  await page.waitForFunction(() => crossOriginIsolated, null, { timeout: 30_000 });
  await page.goto(`${server.origin}/?guest=grub-cd`);
  await page.waitForFunction(() => window.vm);
  assert.equal(await page.evaluate(() => crossOriginIsolated && window.vm.wasmMemory !== null), true);
  await page.evaluate(() => window.vm.waitForScreen("GNU GRUB", 60_000));
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test("a page without service workers is not loaded again and again, and works by messages", async () => {
  const page = await openPage(browser, `${server.origin}/?guest=hello`);
  await page.waitForFunction(() => window.vm);
  await page.evaluate(() => window.vm.waitForScreen("Hello from a boot sector", 60_000));
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  await page.context().close();
});

test("an element with pause-hidden stands still while it is scrolled out of sight", async () => {
  const page = await openPage(browser, `${server.origin}/files/element.html`);
  await page.waitForFunction(() => document.querySelector("tab86-vm").vm?.state === "running");
  await page.evaluate(() => document.querySelector("tab86-vm").vm.waitForScreen("spinning"));
  const state = (wanted) => page.waitForFunction((wanted) => document.querySelector("tab86-vm").vm.state === wanted, wanted, { timeout: 10_000 });
  await page.locator("#end").scrollIntoViewIfNeeded();
  await state("paused");
  assert.equal(await page.evaluate(() => document.querySelector("tab86-vm").vm.priority), "background");
  await page.locator("tab86-vm").scrollIntoViewIfNeeded();
  await state("running");
  assert.equal(await page.evaluate(() => document.querySelector("tab86-vm").vm.priority), "visible");
  assert.deepEqual(page.problems, []);
  await page.context().close();
});
