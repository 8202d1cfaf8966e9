// The fast tier with many hot regions, in Chromium:
//   node tests/bench/regions.mjs growth [--rounds N] [--sizes N,…] [--svg FILE]   instructions a second with 10 to 10,000 of them, beside v86
//   node tests/bench/regions.mjs soak [--minutes N]                 thousands that live side by side: does memory grow?
//   node tests/bench/regions.mjs overwrite [--minutes N]            the same with code that is overwritten as soon as it was hot
// needs build/site (`cargo xtask build`). What instructions there are is known from the program; the guest tells by a byte on its
// serial port how far it is.
import fs from "node:fs";
import { parseArgs } from "node:util";
import { launch, openPage } from "../browser/lib/browser.mjs";
import { serveSite } from "../browser/lib/server.mjs";
import { serveBoth, withFresh } from "./lib/beside.mjs";
import { plot } from "./lib/plot.mjs";
import { memoryMiB } from "./lib/processes.mjs";
import { instructionsOf, memoryOf, regions } from "./lib/regions.mjs";

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "3" }, sizes: { type: "string", default: "10,100,1000,10000" }, svg: { type: "string" }, minutes: { type: "string", default: "30" } },
});
const SIZES = values.sizes.split(",").map(Number);
const LOOPS = 8;
/** Calls for a byte. */
const CALLS = 50_000;
/** A window of measuring. */
const WINDOW_MS = 3000;
/** Windows at least, and at most: what is hot is compiled meanwhile, for 10,000 functions during a billion instructions. */
const [LEAST_WINDOWS, MOST_WINDOWS] = [8, 30];
/** The speed is steady when it changed by less than this from one window to the next, three times in a row. */
const STEADY = 0.05;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
const growing = (functions) => ({ functions, stride: 1024, loops: LOOPS, calls: CALLS });

/** Starts the image in a page of tab86's own, with `window.vm` and `window.bytes`. */
const startTab86 = (page, image, memory) => page.evaluate(async ([image, memory]) => {
  const { createPool } = await import("/pkg/tab86.js");
  window.pool = await createPool({ workers: 1 });
  window.vm = await pool.createVm({ memory, multiboot: image, canvas: document.createElement("canvas") });
  window.bytes = 0;
  vm.addEventListener("serial", ({ data }) => (window.bytes += data.length));
  await vm.start();
}, [image, memory]);

/** Bytes a millisecond, between two bytes about a window apart. */
const speedNow = (page) => page.evaluate(async (ms) => {
  const next = async () => {
    const { bytes } = window;
    while (window.bytes === bytes) await new Promise((resolve) => setTimeout(resolve, 1));
    return [window.bytes, performance.now()];
  };
  const [from, begin] = await next();
  await new Promise((resolve) => setTimeout(resolve, ms));
  const [to, end] = await next();
  return (to - from) / (end - begin);
}, WINDOW_MS);

/** The same once it is steady. */
async function speed(page, what) {
  const all = [];
  let steady = 0;
  while (all.length < MOST_WINDOWS && (all.length < LEAST_WINDOWS || steady < 3)) {
    const now = await speedNow(page);
    steady = Math.abs(now / all.at(-1) - 1) < STEADY ? steady + 1 : 0;
    all.push(now);
  }
  if (steady < 3) console.log(`growth: ${what}: not steady after ${all.length} windows`);
  return median(all.slice(-4));
}

/** Runs a guest whose hot code changes, and looks at the browser's memory. @param {Parameters<typeof regions>[0] & { rewrite: number }} options */
async function soak(options) {
  const site = await serveSite({ files: { "/files/soak.bin": regions(options) } });
  const browser = await launch();
  const page = await openPage(browser, `${site.origin}/pkg/package.json`);
  await startTab86(page, "/files/soak.bin", memoryOf(options));
  const began = Date.now();
  // performance.measureUserAgentSpecificMemory waits for every worker's event loop, to which a busy pool's seldom return.
  for (let at = 0; at <= Number(values.minutes) * 60; at += 30) {
    while (Date.now() < began + at * 1000) await sleep(100);
    const seen = await page.evaluate(() => ({ bytes: window.bytes, regions: vm.stats().jitBlocks, wasm: vm.wasmMemory.buffer.byteLength / 2 ** 20, state: vm.state }));
    const areas = Math.floor(seen.bytes / options.rewrite);
    console.log(`soak: ${at} s: ${seen.state}, ${areas * options.functions} times a function was hot, ${seen.regions} regions; the browser ${memoryMiB().toFixed(0)} MiB, of it the machine's memory ${seen.wasm.toFixed(0)} MiB`);
    if (seen.state !== "running") break;
  }
  await browser.close();
  await site.close();
}

const PARTS = {
  async growth() {
    const files = Object.fromEntries(SIZES.map((size) => [`/files/${size}.bin`, regions(growing(size))]));
    const site = await serveBoth(files);
    /** @type {Record<string, number[][]>} */ const all = { v86: SIZES.map(() => []), tab86: SIZES.map(() => []) };
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [i, size] of SIZES.entries()) {
        const [image, memory] = [`/files/${size}.bin`, memoryOf(growing(size))];
        for (const name of /** @type {const} */ (["v86", "tab86"])) {
          const bytes = await withFresh(name, site.origin, name === "v86" ? `multiboot=${image}&memory=${memory}` : "none", async (page) => {
            if (name === "tab86") {
              await page.goto(`${site.origin}/pkg/package.json`);
              await startTab86(page, image, memory);
            }
            await page.waitForFunction(() => window.bytes > 0, null, { timeout: 120_000 });
            return speed(page, `${name}, ${size} regions`);
          });
          all[name][i].push((bytes * CALLS * instructionsOf(LOOPS)) / 1000);
        }
      }
    }
    await site.close();
    const lines = Object.entries(all).map(([name, sizes]) => ({ name, values: sizes.map(median) }));
    for (const line of lines) console.log(`growth: ${line.name}: ${SIZES.map((size, i) => `${size} regions ${line.values[i].toFixed(0)} MIPS`).join(", ")}`);
    if (values.svg) fs.writeFileSync(values.svg, plot({ title: "Million instructions a second by hot functions", x: SIZES, lines }));
  },

  /** As in a long compilation: 12,000 functions on pages of their own, 1,500 of them called at a time; now and then all are other ones. */
  soak: () => soak({ functions: 1500, stride: 4096, loops: 400, calls: 45_000, rewrite: 4, places: 8, every: 20 }),

  /** 1,500 functions in one after another of eight areas: each is hot for a while and then overwritten. */
  overwrite: () => soak({ functions: 1500, stride: 4096, loops: 400, calls: 15_000, rewrite: 2, places: 8 }),
};

for (const [name, part] of Object.entries(PARTS)) if (wanted.length ? wanted.includes(name) : name === "growth") await part();
