// The main job: the default guest boots in the page, and a command typed on the keyboard answers on the canvas.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, screenshot } from "./lib/browser.mjs";
import { debianShell, idle } from "./lib/debian.mjs";
import { serveSite } from "./lib/server.mjs";

const BOOT_MS = 600_000;
const ANSWER_MS = 60_000;

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** Boots Debian in a page of its own, which `use` gets. */
async function withDebian(isolated, use) {
  const server = await serveSite({ isolated });
  try {
    const page = await openPage(browser, `${server.origin}/?guest=debian`, { viewport: { width: 1280, height: 800 } });
    await page.waitForFunction(() => window.vm);
    assert.equal(await page.evaluate(() => crossOriginIsolated), isolated);
    await debianShell(page, BOOT_MS);
    try {
      await use(page);
    } catch (error) {
      error.message += `\nThe screen at the end:\n${await page.evaluate(() => window.vm.screenText())}`;
      throw error;
    }
    assert.deepEqual(page.problems, []);
    await page.context().close();
  } finally {
    await server.close();
  }
}

async function typesUname(page) {
  await page.keyboard.type("clear\n", { delay: 20 });
  await page.waitForFunction(() => /^\s*~ # ?\s*$/.test(window.vm.screenText()), null, { timeout: ANSWER_MS });
  await idle(page, ANSWER_MS);
  await page.keyboard.type("uname -a", { delay: 60 });
  await page.keyboard.press("Enter");
  // The answer is longer than a line of the screen, and the prompt follows it.
  const text = await page.evaluate((ms) => window.vm.waitForScreen(/^Linux [^]*^~ # ?$/m, ms), ANSWER_MS);
  assert.match(text.replaceAll("\n", ""), /# uname -a\s*Linux \S+ .*i686 GNU\/Linux/);
  assert.ok(await page.evaluate(() => window.vm.stats().instructions > 100_000_000n));
}

// A boot is the dear part: what can be looked at afterwards shares one.
test("Debian boots to a shell and answers the keyboard and the serial port (shared memory)", async () => {
  await withDebian(true, async (page) => {
    await typesUname(page);
    await pictures(page);
    await page.click("#tab-serial");
    await page.locator("#serial-panel .xterm-helper-textarea").focus();
    await page.keyboard.type("echo $((6*7))-from-serial\n");
    assert.match(await page.evaluate((ms) => window.vm.waitForSerial("42-from-serial", ms), ANSWER_MS), /READY[^]*42-from-serial/);
    await page.locator("#serial-panel .xterm-rows", { hasText: "42-from-serial" }).waitFor();
    await screenshot(page, "debian-serial");
  });
});

test("Debian boots to a shell and answers the keyboard (messages)", async () => {
  await withDebian(false, async (page) => {
    await typesUname(page);
    await screenshot(page, "debian-messages");
  });
});

/** The shell with Debian at a desk, light and dark, and on a phone's screen. */
async function pictures(page) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await screenshot(page, `debian-desktop-${colorScheme}`);
  }
  await page.setViewportSize({ width: 390, height: 844 });
  await screenshot(page, "debian-phone");
  await page.setViewportSize({ width: 1280, height: 800 });
}
