// One run in the browser and one of the native command: with the deterministic clock they retire the same instructions
// and leave the same memory behind. Native comes first, so that a missing program is told before minutes of work.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { launch, openPage } from "./lib/browser.mjs";
import { serveSite } from "./lib/server.mjs";

const root = new URL("../../", import.meta.url).pathname;
const INSTRUCTIONS = 2_700_000_000;
const MEMORY = 64 << 20;
const CMDLINE = "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests";
const kernel = path.join(root, "build/guests/debian-vmlinuz");
const initrd = path.join(root, "build/guests/debian-initrd.gz");
const programs = ["target/release/tab86", "target/debug/tab86", "target/debug/tab86-under-test"].map((p) => path.join(root, p));
const program = programs.find(existsSync);

let missing = false;
if (!program) missing = "no native program: `cargo build -p tab86` makes it";
else if (!process.env.TAB86_ALL_GUESTS) missing = "takes minutes: set TAB86_ALL_GUESTS=1";
else if (!existsSync(kernel) || !existsSync(initrd)) missing = "no Debian guest: `cargo xtask guests` makes it";

/** Runs natively to the instruction; the figures of `--stats`. */
async function native() {
  const folder = await mkdtemp(path.join(os.tmpdir(), "tab86-determinism-"));
  const stats = path.join(folder, "stats.json");
  const firmware = path.join(root, "build/firmware");
  try {
    await promisify(execFile)(program, [
      "run", "--bios", path.join(firmware, "bios-256k.bin"), "--vga-bios", path.join(firmware, "vgabios-stdvga.bin"),
      "--kernel", kernel, "--initrd", initrd, "--append", CMDLINE, "--memory", String(MEMORY >> 20),
      "--clock", "deterministic", "--serial", "none", "--max-instructions", String(INSTRUCTIONS), "--stats", stats,
    ]);
    const { instructions, ram_hash } = JSON.parse(await readFile(stats, "utf8"));
    return { instructions, hash: ram_hash };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The same in a worker of a page, on the module itself; runs in the page. */
function inPage({ instructions, memory, cmdline, origin }) {
  const source = `
    import { createGlue } from "${origin}/pkg/wasm/plain/tab86.js";
    import { COUNTER, COUNTERS_AT } from "${origin}/pkg/lib/layout.js";
    onmessage = async ({ data: { instructions, memory, cmdline, origin } }) => {
      const bytes = async (path) => new Uint8Array(await (await fetch(origin + path)).arrayBuffer());
      const glue = createGlue();
      const module = await WebAssembly.compileStreaming(fetch(origin + "/pkg/wasm/plain/tab86_bg.wasm"));
      const exports = glue.initSync({ module });
      const header = glue.create({
        memory, cmdline, clock: "deterministic", startTime: 0,
        bios: await bytes("/firmware/bios-256k.bin"), vgaBios: await bytes("/firmware/vgabios-stdvga.bin"),
        kernel: await bytes("/guests/debian-vmlinuz"), initrd: await bytes("/guests/debian-initrd.gz"),
      });
      const done = () => Number(new BigUint64Array(exports.memory.buffer, header + COUNTERS_AT, 8)[COUNTER.INSTRUCTIONS]);
      // Odd slices on purpose: how the host cuts the time must not show.
      while (done() < instructions) glue.run_exactly(Math.min(1_234_567, instructions - done()));
      postMessage({ instructions: done(), hash: glue.ram_hash() });
    };`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage({ instructions, memory, cmdline, origin });
  });
}

test("a browser run equals a native run to the instruction and the byte", { skip: missing }, async () => {
  const expected = await native();
  assert.equal(expected.instructions, INSTRUCTIONS);
  const server = await serveSite({ isolated: false });
  const browser = await launch();
  try {
    const page = await openPage(browser, `${server.origin}/`);
    const args = { instructions: INSTRUCTIONS, memory: MEMORY, cmdline: CMDLINE, origin: server.origin };
    assert.deepEqual(await page.evaluate(inPage, args), expected);
  } finally {
    await browser.close();
    await server.close();
  }
});
