// Bad input: each gets one sentence and a code, and the page goes on.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage } from "./lib/browser.mjs";
import { bootFloppy, THEN } from "./lib/boot-sector.mjs";
import { serveSite } from "./lib/server.mjs";

const SECTOR = 512;
/** An ISO 9660 image that says it has 1000 sectors and has 20. */
function truncatedIso() {
  const iso = Buffer.alloc(20 * 2048);
  iso.write("\x01CD001", 16 * 2048, "latin1");
  iso.writeUInt32LE(1000, 16 * 2048 + 80);
  return iso;
}

/** A disk that is larger than what is loaded whole, each sector with its own number. */
function numberedDisk(sectors) {
  const disk = Buffer.alloc(sectors * SECTOR);
  for (let n = 0; n < sectors; n++) disk.writeUInt32LE(n, n * SECTOR);
  bootFloppy("disk starts", THEN.haltForEver).copy(disk, 0, 0, SECTOR);
  return disk;
}

const files = {
  "/files/empty.img": Buffer.alloc(0),
  "/files/text.txt": Buffer.from("This is no kernel.\n".repeat(200)),
  "/files/odd.img": Buffer.alloc(1000),
  "/files/initrd": Buffer.alloc(60 << 20),
  "/files/truncated.iso": truncatedIso(),
  "/files/disk.img": numberedDisk(16 * 2048),
  "/no-range/disk.img": numberedDisk(16 * 2048),
};

let browser, server, page;
before(async () => {
  browser = await launch();
  server = await serveSite({ files });
  page = await openPage(browser, server.origin);
  await page.evaluate(async () => {
    const { createPool } = await import("/pkg/tab86.js");
    window.pool = await createPool();
  });
});
after(async () => {
  await browser.close();
  await server.close();
});

/** The error of createVm with these options; `kernel: "@name"` and the like are files of the site. */
const failure = (options) => page.evaluate(async (options) => {
  try {
    const vm = await window.pool.createVm(options);
    await vm.close();
    return null;
  } catch (error) {
    return { code: error.code, message: error.message, isError: error instanceof Error };
  }
}, options);

const KERNEL = "/guests/debian-vmlinuz";
const CASES = [
  ["a missing file", { hda: "/files/nothing.img" }, "not-found", /hard disk .*nothing\.img.* does not exist/],
  ["a missing kernel", { kernel: "/files/nothing" }, "not-found", /kernel/],
  ["a server that is not there", { hda: "http://127.0.0.1:9/disk.img" }, "network", /could not be loaded/],
  ["an empty file", { cdrom: "/files/empty.img" }, "empty-image", /is empty/],
  ["a kernel that is no kernel", { kernel: "/files/text.txt" }, "bad-kernel", /kernel/i],
  ["an initrd larger than memory", { kernel: KERNEL, initrd: "/files/initrd", memory: 48 << 20 }, "initrd-too-large", /initrd|RAM disk/],
  ["a truncated ISO", { cdrom: "/files/truncated.iso" }, "truncated", /truncated/],
  ["an image of odd size", { hda: "/files/odd.img" }, "bad-image-size", /1000 bytes/],
  ["no memory", { memory: 0 }, "bad-memory-size", /memory/],
  ["64 GiB of memory", { memory: 64 * 2 ** 30 }, "bad-memory-size", /64 GiB/],
  ["an unknown CPU", { cpu: "z80" }, "bad-cpu", /z80/],
  ["an unknown boot device", { bootOrder: "x" }, "bad-boot-order", /x/],
  ["something that is no source", { hda: 7 }, "bad-options", /hard disk/],
];

for (const [what, options, code, message] of CASES) {
  test(`${what} is refused in one sentence`, async () => {
    const error = await failure(options);
    assert.ok(error?.isError, "createVm rejects with an Error");
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.match(error.message, /^[A-Z0-9`].*[.?!]$/, "a sentence");
    assert.ok(!error.message.includes("\n"));
  });
}

test("after all that the same pool boots a machine", async () => {
  assert.equal(await page.evaluate(() => window.pool.vms.length), 0);
  const image = [...bootFloppy("still here", THEN.echoKeys)];
  const text = await page.evaluate(async (bytes) => {
    const vm = await window.pool.createVm({ fda: new Uint8Array(bytes), bootOrder: "a", memory: 16 << 20 });
    await vm.start();
    const text = await vm.waitForScreen("still here", 60_000);
    await vm.close();
    return text;
  }, image);
  assert.match(text, /still here/);
  assert.deepEqual(page.problems, []);
});

for (const folder of ["/files", "/no-range"]) {
  test(`a disk of 16 MiB boots from ${folder === "/files" ? "a server with Range" : "a server without"}`, async () => {
    const text = await page.evaluate(async (hda) => {
      const vm = await window.pool.createVm({ hda, bootOrder: "c", memory: 16 << 20 });
      await vm.start();
      const text = await vm.waitForScreen("disk starts", 60_000);
      await vm.close();
      return text;
    }, `${folder}/disk.img`);
    assert.match(text, /disk starts/);
  });
}

test("the shell says what is wrong with a file and boots the next one", async () => {
  const shell = await openPage(browser, server.origin);
  const choose = async (name, buffer) => {
    await shell.setInputFiles("#files", { name, mimeType: "application/octet-stream", buffer });
    await shell.locator("#own-form .primary").click();
  };
  await choose("bad.img", Buffer.alloc(1000));
  await shell.locator("#message-text", { hasText: "1000 bytes" }).waitFor();
  assert.equal(await shell.locator("#home").isVisible(), true);
  await choose("good.img", bootFloppy("the next one", THEN.echoKeys));
  await shell.waitForFunction(() => window.vm?.screenText().includes("the next one"), null, { timeout: 60_000 });
  assert.equal(await shell.locator("#message").isVisible(), false);
  assert.deepEqual(shell.problems, []);
});
