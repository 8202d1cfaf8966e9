// Small programs for the fast tier beside the interpreter, and how the two are compared.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";

export const root = new URL("../../", import.meta.url).pathname;
/** Why there is nothing to run, or false. */
export const missing = existsSync(`${root}build/wasm/plain/tab86_bg.wasm`) ? false : "no wasm module: `cargo xtask build` makes it";
export const { built, debian, difference, machine } = missing ? /** @type {any} */ ({}) : await import("./machine.mjs");

export const LOAD = 0x100000;
export const DATA = 0x200000;
export const OTHER = 0x300000;

/** A Multiboot image that is loaded whole at LOAD and starts behind its header. @param {number[]} code */
export function image(code) {
  const head = new Uint32Array(8);
  const flags = 1 << 16;
  head.set([0x1badb002, flags, -(0x1badb002 + flags), LOAD, LOAD, LOAD + 32 + code.length, LOAD + 0x80000, LOAD + 32]);
  return new Uint8Array([...new Uint8Array(head.buffer), ...code]);
}

export const le = (/** @type {number} */ v) => [v & 255, (v >> 8) & 255, (v >> 16) & 255, (v >>> 24) & 255];

/** Numbers below `n`, reproducible (mulberry32). @param {number} seed */
export function numbers(seed) {
  return (/** @type {number} */ n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
  };
}

/** Sets up stack and registers: EBX and ESI point into data, EBP counts rounds. @param {number} rounds */
export const start = (rounds) => [
  0xbc, ...le(DATA + 0x8000), 0xbb, ...le(DATA + 0x1000), 0xbe, ...le(DATA + 0x2ffc), 0xbf, ...le(DATA + 0x4000), 0xbd, ...le(rounds),
  0xb8, ...le(0x12345678), 0xb9, ...le(0x9abcdef0), 0xba, ...le(0x0f1e2d3c),
];

/** Whether an image runs there. */
const inside = (/** @type {number} */ rip) => (rip >= LOAD && rip < LOAD + 0x80000) || rip >> 16 === OTHER >> 16;

/** Runs the firmware until the image has begun; its instructions. @param {any} vm */
export function boot(vm) {
  for (let n = 0; n < 200_000_000; n += 20_000) {
    if (inside(Number(vm.state()[1]))) return n;
    vm.run(20_000);
  }
  throw new Error("the image did not begin");
}

/** Runs with and without, and compares after random numbers of instructions. */
export function compare(/** @type {object} */ setup, /** @type {object} */ jit, total, most, seed) {
  const a = machine({ ...setup, jit: false });
  const b = machine({ ...setup, jit: true, ...jit });
  const pick = numbers(seed);
  if (setup.multiboot) b.run(boot(a));
  for (let done = 0; done < total; ) {
    const n = 1 + pick(most);
    a.run(n);
    b.run(n);
    const [x, y] = [a.state(), b.state()];
    assert.equal(difference(x, y), "", `after ${x[0]} instructions (from ${done}), seed ${seed}`);
    done += n;
  }
  assert.equal(b.hash(), a.hash(), `memory, seed ${seed}`);
  const rip = Number(a.state()[1]);
  assert.ok(!setup.multiboot || inside(rip), `at ${rip.toString(16)}: the program lost its way, seed ${seed}`);
  return { ...b.figures(), state: a.state() };
}
