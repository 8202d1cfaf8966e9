// Machines on the wasm module itself, without a page: for tests that compare the fast tier with the interpreter.
import { readFileSync } from "node:fs";
import path from "node:path";

const root = new URL("../../", import.meta.url).pathname;
const folder = path.join(root, "build/wasm/plain");
const { createGlue } = await import(path.join(folder, "tab86.js"));
const module = new WebAssembly.Module(readFileSync(path.join(folder, "tab86_bg.wasm")));

/** A file of build/. @param {string} name */
export const built = (name) => new Uint8Array(readFileSync(path.join(root, "build", name)));

/** Names of `registers()`, in order. */
const NAMES = [
  "icount", "rip", "eflags", "cpl", "mxcsr", "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi",
  ...["es", "cs", "ss", "ds", "fs", "gs"].flatMap((s) => [s, `${s}.base`, `${s}.limit`, `${s}.rights`]),
  "cr0", "cr2", "cr3", "cr4", ...Array.from({ length: 32 }, (_, i) => `xmm${i >> 1}${i & 1 ? "h" : "l"}`),
];
const FIGURES = ["regions", "translated", "modules", "bytes", "entered", "instructions", "lookup", "fuel", "step", "known", "other", "older", "refused"];

/** A machine. @param {object} setup what `create` takes beyond the firmware and the deterministic clock */
export function machine(setup) {
  const glue = createGlue();
  const { memory } = glue.initSync({ module });
  glue.create({
    clock: "deterministic", startTime: 0, memory: 64 << 20,
    bios: built("firmware/bios-256k.bin"), vgaBios: built("firmware/vgabios-stdvga.bin"), ...setup,
  });
  return {
    glue,
    memory,
    run: (n) => glue.run_exactly(n),
    state: () => glue.registers(),
    icount: () => Number(glue.registers()[0]),
    hash: () => glue.ram_hash(),
    figures: () => Object.fromEntries([...glue.jit_counters()].map((v, i) => [FIGURES[i], Number(v)])),
  };
}

/** What differs between two states, for people. @param {BigUint64Array} a @param {BigUint64Array} b */
export function difference(a, b) {
  const lines = [];
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) lines.push(`${NAMES[i] ?? `x87[${i - NAMES.length}]`}: ${a[i].toString(16)} / ${b[i].toString(16)}`);
  }
  return lines.join("\n");
}

/** The settings of Debian's guest. */
export const debian = () => ({
  kernel: built("guests/debian-vmlinuz"), initrd: built("guests/debian-initrd.gz"),
  cmdline: "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests",
});
