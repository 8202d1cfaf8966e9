// The main job: the default guest boots in the page, and a command typed on the keyboard answers on the canvas.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, screenshot } from "./lib/browser.mjs";
import { serveSite } from "./lib/server.mjs";

const BOOT_MS = 180_000;

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

for (const isolated of [true, false]) {
  test(`Debian boots to a shell and answers the keyboard (${isolated ? "shared memory" : "messages"})`, async () => {
    const server = await serveSite({ isolated });
    try {
      const page = await openPage(browser, `${server.origin}/?guest=debian`, { viewport: { width: 1280, height: 860 } });
      await page.waitForFunction(() => window.vm);
      assert.equal(await page.evaluate(() => crossOriginIsolated), isolated);
      await page.evaluate((ms) => window.vm.waitForScreen(/READY[^]*# $/m, ms), BOOT_MS);
      await page.locator("#screen").focus();
      await page.keyboard.type("uname -a", { delay: 20 });
      await page.keyboard.press("Enter");
      const text = await page.evaluate(() => window.vm.waitForScreen(/^Linux \S+ .*i686 GNU\/Linux/m, 20_000));
      assert.match(text, /# uname -a\s+Linux/);
      assert.ok(await page.evaluate(() => window.vm.stats().instructions > 100_000_000n));
      await screenshot(page, `debian-${isolated ? "shared" : "messages"}`);
      assert.deepEqual(page.problems, []);
    } finally {
      await server.close();
    }
  });
}

test("the serial console and the screen are the same machine", async () => {
  const server = await serveSite();
  try {
    const page = await openPage(browser, `${server.origin}/?guest=debian`);
    await page.waitForFunction(() => window.vm);
    await page.evaluate((ms) => window.vm.waitForSerial(/READY[^]*# $/, ms), BOOT_MS);
    await page.click("#tab-serial");
    await page.locator("#serial-panel .xterm-helper-textarea").focus();
    await page.keyboard.type("echo $((6*7))-from-serial\n");
    assert.match(await page.evaluate(() => window.vm.waitForSerial("42-from-serial", 20_000)), /42-from-serial/);
    await page.locator("#serial-panel .xterm-rows", { hasText: "42-from-serial" }).waitFor();
    await screenshot(page, "debian-serial");
    assert.deepEqual(page.problems, []);
  } finally {
    await server.close();
  }
});
