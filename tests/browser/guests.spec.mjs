// The other guests in the page, each up to the point where it can be used. The quick ones run always; those that boot
// a kernel for minutes run when TAB86_ALL_GUESTS=1 is set.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch, openPage, screenshot } from "./lib/browser.mjs";
import { debianShell } from "./lib/debian.mjs";
import { serveSite } from "./lib/server.mjs";

const GUESTS = path.resolve(import.meta.dirname, "../../build/site/guests");
const QUICK_MS = 120_000;
const LONG_MS = 1_200_000;
const ANSWER_MS = 60_000;
const ALL = process.env.TAB86_ALL_GUESTS === "1";

let browser, server;
before(async () => {
  browser = await launch();
  server = await serveSite();
});
after(async () => {
  await browser.close();
  await server.close();
});

/** Why a guest's test cannot run now, or false. */
function reasonToSkip(name, long) {
  if (long && !ALL) return "takes minutes: set TAB86_ALL_GUESTS=1";
  const list = path.join(GUESTS, "guests.json");
  if (!fs.existsSync(list)) return "no guests: run `cargo xtask guests`";
  const guest = JSON.parse(fs.readFileSync(list, "utf8")).guests.find((each) => each.name === name);
  if (!guest) return `the site has no guest ${name}`;
  const missing = Object.values(guest.files).find((file) => !fs.existsSync(path.join(GUESTS, file)));
  return missing ? `${missing} is missing` : false;
}

/** A test of one guest: `use` gets the page once the machine runs. */
function guest(name, what, use, { long = false } = {}) {
  test(`${name}: ${what}`, { skip: reasonToSkip(name, long) }, async () => {
    const page = await openPage(browser, `${server.origin}/?guest=${name}`, { viewport: { width: 1280, height: 800 } });
    try {
      await page.waitForFunction(() => window.vm?.state === "running", null, { timeout: ANSWER_MS });
      await page.locator("#screen").focus();
      await use(page);
      assert.deepEqual(page.problems, []);
    } catch (error) {
      error.message += `\nThe screen at the end:\n${await page.evaluate(() => window.vm?.screenText()).catch(() => "")}`;
      throw error;
    } finally {
      await screenshot(page, name).catch(() => {});
      await page.context().close();
    }
  });
}

/** The screen's text once it matches. */
const shows = (page, pattern, ms) => page.evaluate(([pattern, ms]) => window.vm.waitForScreen(pattern, ms), [pattern, ms]);

/** Keys on the canvas, no faster than a person: a boot loader polls the keyboard. */
const type = (page, text) => page.keyboard.type(text, { delay: 60 });

/** GRUB's command line, from its menu if it shows one, lists the disk it came from. */
const grub = (disk) => async (page) => {
  if (!/^grub>/m.test(await shows(page, /GNU GRUB[^]*(^grub>|Use the .* keys)/m, QUICK_MS))) await type(page, "c");
  await shows(page, /^grub>/m, ANSWER_MS);
  await type(page, "ls\n");
  assert.match(await shows(page, disk, ANSWER_MS), /grub> ls/);
};

guest("memtest", "tests the memory", async (page) => {
  await shows(page, /Memtest86\+[^]*Pass/, QUICK_MS);
  // Its clock counts: the test runs.
  await shows(page, /Time: +0:00:0[2-9]|Time: +0:00:[1-5]/, QUICK_MS);
});

guest("grub-floppy", "its command line lists the disks", grub(/\(fd0\)/));

guest("grub-cd", "its command line lists the disks", grub(/\((cd0?|hd\d)[,)]/));

guest("isolinux", "shows its menu", async (page) => {
  const text = await shows(page, /Restart/, QUICK_MS);
  assert.match(text, /tab86: a CD with a boot menu/);
  assert.match(text, /Memory test \(memtest86\+\)/);
});

guest("ipxe", "starts and has a command line", async (page) => {
  await shows(page, /iPXE initialising devices/, QUICK_MS);
  await shows(page, /Ctrl-B/, QUICK_MS);
  await page.keyboard.press("Control+KeyB");
  await shows(page, /iPXE>/, ANSWER_MS);
});

guest("debian-pae", "boots to a shell", async (page) => {
  await debianShell(page, LONG_MS);
  await type(page, "uname -r\n");
  await shows(page, /uname -r\s+\S+-686-pae/, ANSWER_MS);
}, { long: true });

guest("d-i-text", "shows its first dialog", async (page) => {
  assert.match(await shows(page, /Select a language/, LONG_MS), /English/);
}, { long: true });

/** A number that changes with the picture, and how many pixels are not black. */
const picture = (page) => page.evaluate(() => {
  const canvas = document.querySelector("#screen");
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  let [hash, lit] = [0, 0];
  for (const pixel of pixels) {
    hash = (Math.imul(hash, 31) + pixel) | 0;
    if (pixel & 0xffffff) lit++;
  }
  return { hash, lit: lit / pixels.length, width: canvas.width, height: canvas.height };
});

guest("d-i-gtk", "shows its first screen, and the mouse moves on it", async (page) => {
  // The dialog is mostly bright; what the kernel and the console show before is mostly black.
  await page.waitForFunction(() => {
    const canvas = document.querySelector("#screen");
    if (window.vm.screenText() || canvas.width < 640) return false;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let lit = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at] + data[at + 1] + data[at + 2] > 3 * 128) lit++;
    return lit > data.length / 4 / 3;
  }, null, { timeout: LONG_MS, polling: 1000 });
  const still = await settled(page);
  assert.ok(still.lit > 0.5, `${still.lit} of the picture is not black`);
  await page.click("#mouse");
  await page.waitForFunction(() => document.pointerLockElement?.id === "screen");
  for (let step = 1; step <= 10; step++) await page.mouse.move(640 + 10 * step, 400 + 6 * step);
  const deadline = Date.now() + ANSWER_MS;
  let moved;
  do {
    await page.waitForTimeout(500);
    moved = await picture(page);
  } while (moved.hash === still.hash && Date.now() < deadline);
  assert.notEqual(moved.hash, still.hash, "the pointer moved");
}, { long: true });

/** The picture once it stays as it is. */
async function settled(page) {
  const deadline = Date.now() + LONG_MS;
  let [last, same] = [await picture(page), 0];
  while (same < 10 && Date.now() < deadline) {
    await page.waitForTimeout(500);
    const now = await picture(page);
    same = now.hash === last.hash ? same + 1 : 0;
    last = now;
  }
  assert.ok(same >= 10, "the picture came to rest");
  return last;
}
