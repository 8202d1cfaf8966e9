// The realtime clock of a machine that has to wait for its turn again and again, as one of many on a worker does. Runs in Node, on
// the wasm module itself.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { OUTPUT, VmMemory } from "../../pkg/lib/rings.js";
import { built, debian } from "../jit/machine.mjs";

const folder = new URL("../../build/wasm/plain/", import.meta.url).pathname;

/** What Debian's kernel takes the TSC for when the machine waits so long after each slice, in MHz. @param {number} waitMs */
async function calibrated(waitMs) {
  const { createGlue } = await import(path.join(folder, "tab86.js"));
  const glue = createGlue();
  const { memory } = glue.initSync({ module: new WebAssembly.Module(readFileSync(path.join(folder, "tab86_bg.wasm"))) });
  glue.create({
    clock: "realtime", startTime: Date.now(), memory: 64 << 20,
    bios: built("firmware/bios-256k.bin"), vgaBios: built("firmware/vgabios-stdvga.bin"), ...debian(),
  });
  const view = new VmMemory(memory, glue.header());
  const began = performance.now();
  let waited = 0;
  const now = () => performance.now() - began + waited;
  let said = "";
  glue.start(now());
  while (!/tsc: Detected ([\d.]+) MHz/.test(said)) {
    assert.ok(now() - waited < 120_000, `no calibration: ${said.slice(-500)}`);
    glue.run(now());
    glue.settle(now());
    for (let record; (record = view.popOutput()); ) if (record.kind === OUTPUT.SERIAL) said += new TextDecoder().decode(record.payload);
    waited += waitMs;
  }
  return Number(/tsc: Detected ([\d.]+) MHz/.exec(said)?.[1]);
}

test("a guest that waits for its turn measures its clocks right", async () => {
  for (const waitMs of [30, 90, 90]) {
    const mhz = await calibrated(waitMs);
    assert.ok(Math.abs(mhz - 1000) < 10, `a TSC of 1000 MHz is taken for ${mhz} where it waits ${waitMs} ms after each slice`);
  }
});
