// Figures of the worker pool with Debian guests in Chromium: shares, latency, scaling, idle cost, memory, clones.
//   node tests/bench/pool.mjs [--isolated false] [--verbose] [share|scale|frames|slices|idle|memory|clone]…
// needs build/site (`cargo xtask build`). `--isolated false`: on pages without cross-origin isolation, where each machine has
// a worker of its own and the operating system shares out the processor; but `slices`, which is about one worker for several.
// A machine with other work on it gives other figures: run it alone.
import { parseArgs } from "node:util";
import { bootFloppy, fillerFloppy, flatSwitcherFloppy, painterFloppy, THEN } from "../browser/lib/boot-sector.mjs";
import { launch, openPage } from "../browser/lib/browser.mjs";
import { serveSite } from "../browser/lib/server.mjs";
import { IDEAL } from "./lib/ideal.mjs";
import { isWorker, memoryMiB, threads, usedSince } from "./lib/processes.mjs";

const WORKERS = 2;
/** Pairs of measurements of `scale`. */
const ROUNDS = 7;
const { values: { verbose, isolated }, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { verbose: { type: "boolean", default: false }, isolated: { type: "string", default: "true" } },
});
const FILES = {
  "/files/spin.img": bootFloppy("spinning\r\n", THEN.spin),
  "/files/stuck.img": bootFloppy("stuck\r\n", THEN.spinForEver),
  "/files/triple.img": bootFloppy("falling\r\n", THEN.tripleFault),
  "/files/filler.img": fillerFloppy(),
  "/files/painter.img": painterFloppy(1024, 768),
  "/files/big-painter.img": painterFloppy(2560, 1600),
  "/files/switcher.img": bootFloppy("switching\r\n", THEN.switcher),
  "/files/flat-switcher.img": flatSwitcherFloppy(),
};
const whole = await serveSite({ files: FILES });
/** Without cross-origin isolation: a worker for each machine, and messages. */
const plain = await serveSite({ files: FILES, isolated: false });
const site = isolated === "false" ? plain : whole;
/** Where the machines run, for the reader. */
const on = site === whole ? `${WORKERS} workers` : "a worker each, without shared memory";
const browser = await launch();

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const list = (numbers, digits = 1) => numbers.map((n) => n.toFixed(digits)).join(" ");
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const median = (numbers) => quantile(numbers, 0.5);
const quantile = (numbers, q) => [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(q * numbers.length))];

/** A page with a pool and a short way to boot Debian. */
async function withPage(use, workers = WORKERS, from = site) {
  const page = await openPage(browser, `${from.origin}/pkg/package.json`);
  await page.evaluate(async (workers) => {
    const { createPool } = await import("/pkg/tab86.js");
    window.pool = await createPool({ workers, maxMemory: 2 ** 34 });
    const { guests } = await (await fetch("/guests/guests.json")).json();
    const debian = guests.find(({ name }) => name === "debian");
    window.debian = async (options = {}) => {
      const files = Object.fromEntries(Object.entries(debian.files).map(([name, file]) => [name, `/guests/${file}`]));
      const vm = await pool.createVm({ ...files, memory: debian.memory, cmdline: debian.cmdline, ...options });
      await vm.start();
      return vm;
    };
    // Without shared memory the count is told five times a second: it is read when it changes.
    window.count = async (vm) => {
      const [{ instructions: old }, end] = [vm.stats(), performance.now() + 1000];
      while (vm.stats().instructions === old && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 1));
      return { instructions: vm.stats().instructions, at: performance.now() };
    };
    window.run = async (vms, ms) => {
      const begin = await Promise.all(vms.map(count));
      await new Promise((resolve) => setTimeout(resolve, ms));
      const end = await Promise.all(vms.map(count));
      return end.map(({ instructions, at }, i) => Number(instructions - begin[i].instructions) / (at - begin[i].at) / 1000);
    };
    window.boot = async (name, options) => {
      const vm = await pool.createVm({ memory: 16 << 20, fda: `/files/${name}.img`, ...options });
      await vm.start();
      return vm;
    };
    window.canvas = () => document.body.appendChild(document.createElement("canvas"));
    // Times between animation frames, as the browser dates them and as the page gets to run them.
    window.frames = (ms) => new Promise((resolve) => {
      const [dated, run, end] = [[], [], performance.now() + ms];
      let last = null;
      requestAnimationFrame(function tick(now) {
        const at = performance.now();
        if (last) {
          dated.push(now - last.now);
          run.push(at - last.at);
        }
        last = { now, at };
        if (at < end) requestAnimationFrame(tick);
        else resolve({ dated, run });
      });
    });
    window.busy = (vm) => vm.sendSerial("while :; do :; done &\n");
  }, workers);
  try {
    await use(page);
  } finally {
    await page.context().close();
  }
}

const PARTS = {
  async share() {
    await withPage(async (page) => {
      const began = Date.now();
      await page.evaluate(async () => {
        window.vms = await Promise.all(Array.from({ length: 8 }, (_, i) => debian({ canvas: i ? null : document.createElement("canvas") })));
        await Promise.all(vms.map((vm) => vm.waitForSerial("READY", 600_000)));
        await new Promise((resolve) => setTimeout(resolve, 5000));
      });
      console.log(`share: 8 Debian guests at the shell (${on}) after ${((Date.now() - began) / 1000).toFixed(1)} s`);
      const figures = await page.evaluate(async () => {
        vms.forEach(busy);
        await new Promise((resolve) => setTimeout(resolve, 3000));
        const mips = await run(vms, 20_000);
        const keys = [];
        for (let i = 0; i < 60; i++) {
          const before = vms[0].screenText();
          const at = performance.now();
          vms[0].sendKeys([i % 20 === 19 ? "Enter" : "KeyX"]);
          while (vms[0].screenText() === before && performance.now() - at < 2000) await new Promise((resolve) => { const c = new MessageChannel(); c.port1.onmessage = resolve; c.port2.postMessage(0); });
          keys.push(performance.now() - at);
          await new Promise((resolve) => setTimeout(resolve, 60 + Math.random() * 60));
        }
        return { mips, keys };
      });
      const mean = figures.mips.reduce((a, b) => a + b) / 8;
      const off = Math.max(...figures.mips.map((m) => Math.abs(m / mean - 1)));
      console.log(`share: MIPS each ${list(figures.mips)}; largest deviation from the mean ${(100 * off).toFixed(1)} %`);
      console.log(`share: key to picture in the visible tab while all 8 are busy: p50 ${quantile(figures.keys, 0.5).toFixed(1)} ms, p95 ${quantile(figures.keys, 0.95).toFixed(1)} ms, most ${Math.max(...figures.keys).toFixed(1)} ms`);
    });
  },

  async scale() {
    await withPage(async (page) => {
      await page.evaluate(IDEAL);
      const ratios = [];
      for (let i = 0; i < 5; i++) ratios.push(await page.evaluate(async () => (await ideal(2, 2000)) / (await ideal(1, 2000))));
      console.log(`scale: two plain workers with a loop in wasm do ${list(ratios, 2)} times as much as one, median ${median(ratios).toFixed(2)}`);
    }, WORKERS, whole);
    await withPage(async (page) => {
      await page.evaluate(async () => {
        window.vms = [await debian(), await debian()];
        await Promise.all(vms.map((vm) => vm.waitForSerial("READY", 600_000)));
        await new Promise((resolve) => setTimeout(resolve, 3000));
        vms.forEach(busy);
        await new Promise((resolve) => setTimeout(resolve, 3000));
      });
      // Two guests are not equally fast: each is measured alone, too.
      const runs = { "the first": [0], "the second": [1], both: [0, 1] };
      /** @type {Record<keyof typeof runs, { mips: number, workers: number, others: number, used: ReturnType<typeof usedSince> }>[]} */ const rounds = [];
      for (let i = 0; i < ROUNDS; i++) {
        const round = /** @type {typeof rounds[number]} */ ({});
        for (const [what, which] of /** @type {[keyof typeof runs, number[]][]} */ (Object.entries(runs))) {
          await page.evaluate((which) => Promise.all(vms.map((vm, i) => (which.includes(i) ? vm.start() : vm.pause()))), which);
          await sleep(300);
          const before = threads();
          const mips = await page.evaluate((which) => run(which.map((i) => vms[i]), 4000), which);
          const used = usedSince(before);
          const cores = (/** @type {(thread: typeof used[number]) => boolean} */ which) => sum(used.filter(which).map(({ cpu }) => cpu)) / 4;
          round[what] = { mips: sum(mips), workers: cores(isWorker), others: cores((thread) => !isWorker(thread)), used };
        }
        rounds.push(round);
        const [first, second, both] = Object.values(round).map(({ mips }) => mips);
        console.log(`scale: one busy VM ${first.toFixed(1)} or ${second.toFixed(1)} MIPS, two ${both.toFixed(1)}: ${((2 * both) / (first + second)).toFixed(2)}x`);
      }
      const scaled = (/** @type {typeof rounds[number]} */ round) => (2 * round.both.mips) / (round["the first"].mips + round["the second"].mips);
      console.log(`scale: two busy VMs do ${median(rounds.map(scaled)).toFixed(2)} times as much as one (median of ${ROUNDS})`);
      for (const what of /** @type {(keyof typeof runs)[]} */ (Object.keys(runs))) {
        const all = rounds.map((round) => round[what]);
        const speed = all.map(({ mips, workers }) => mips / workers);
        console.log(`scale: ${what}: workers used ${median(all.map(({ workers }) => workers)).toFixed(3)} cores at ${median(speed).toFixed(1)} MIPS for each, the rest of the browser ${median(all.map(({ others }) => others)).toFixed(3)}`);
        if (verbose) for (const { name, cpu, waited, turns } of all.at(-1).used.slice(0, 14)) console.log(`  ${name}: ${(cpu / 4).toFixed(4)} cores, waited ${(waited / 4).toFixed(4)}, ${(turns / 4).toFixed(0)} turns/s`);
      }
    });
  },

  async frames() {
    const SPAN = 6000;
    /** @param {string} what @param {string[]} names of guests without a screen @param {string} seen the guest on the screen */
    const measure = (what, names, seen, from = site) => withPage(async (page) => {
      const figures = await page.evaluate(async ({ names, seen, span }) => {
        const vms = [];
        if (seen) vms.push(await boot(seen, { canvas: canvas() }));
        for (const name of names) vms.push(await boot(name));
        vms.forEach((vm, i) => {
          if (names[i - 1] === "triple") vm.addEventListener("state", ({ state }) => state === "shutdown" && void vm.reset());
        });
        await new Promise((resolve) => setTimeout(resolve, 4000));
        let pictures = 0;
        vms[0]?.addEventListener("screen", () => pictures++);
        const [times, mips] = await Promise.all([frames(span), run(vms, span)]);
        return { times, mips, pictures };
      }, { names, seen, span: SPAN });
      const { times: { dated, run }, mips, pictures } = figures;
      const line = (times) => `p50 ${quantile(times, 0.5).toFixed(1)} p95 ${quantile(times, 0.95).toFixed(1)} p99 ${quantile(times, 0.99).toFixed(1)} most ${Math.max(...times).toFixed(1)} ms, ${times.filter((time) => time > 25).length} over 25`;
      console.log(`frames: ${what}: ${dated.length} frames in ${SPAN / 1000} s, ${line(dated)}; begun after ${line(run)}; ${pictures} pictures${mips.length ? `; MIPS ${list(mips, 0)}` : ""}`);
    }, WORKERS, from);
    await measure("no machine", [], "");
    await measure("four that spin", ["spin", "spin", "spin"], "spin");
    await measure("one that spins beside one with interrupts off, one that triple-faults in a loop, one that fills its RAM", ["stuck", "triple", "filler"], "spin");
    if (site === whole) await measure("the same with messages", ["stuck", "triple", "filler"], "spin", plain);
    await measure("1024x768 filled without end", [], "painter");
    await measure("2560x1600 filled without end", [], "big-painter");
    await measure("2560x1600 filled without end, beside the other three", ["stuck", "triple", "filler"], "big-painter");
  },

  async slices() {
    for (const name of ["spin", "stuck", "filler", "painter", "switcher", "flat-switcher"]) {
      await withPage(async (page) => {
        const { gaps, slices } = await page.evaluate(async (name) => {
          const [watched, other] = [await boot("spin"), await boot(name)];
          await new Promise((resolve) => setTimeout(resolve, 5000));
          const { port1, port2 } = new MessageChannel();
          const turn = () => new Promise((resolve) => {
            port1.onmessage = resolve;
            port2.postMessage(0);
          });
          const [gaps, end, begin] = [[], performance.now() + 8000, other.stats().slices];
          let [last, at] = [watched.stats().slices, performance.now()];
          while (performance.now() < end) {
            await turn();
            const { slices } = watched.stats();
            if (slices === last) continue;
            const now = performance.now();
            gaps.push(now - at);
            [last, at] = [slices, now];
          }
          return { gaps, slices: other.stats().slices - begin };
        }, name);
        console.log(`slices: one worker, a machine that spins beside "${name}": from slice to slice p50 ${quantile(gaps, 0.5).toFixed(1)} p99 ${quantile(gaps, 0.99).toFixed(1)} most ${Math.max(...gaps).toFixed(1)} ms (${gaps.length} slices; the other ${slices})`);
      }, 1);
    }
  },

  async idle() {
    /** @param {string} what @param {import("playwright-core").Page} page @param {number} machines that idle in it */
    const measure = async (what, page, machines) => {
      const slices = () => page.evaluate(() => (window.vms ?? (window.vm ? [window.vm] : [])).map((vm) => vm.stats().slices));
      await sleep(8000);
      const parts = [];
      const begun = await slices();
      for (let i = 0; i < 4; i++) {
        const [before, at] = [threads(), Date.now()];
        await sleep(10_000);
        const span = (Date.now() - at) / 1000;
        parts.push(usedSince(before).map(({ name, cpu, turns }) => ({ name, percent: (100 * cpu) / span, turns: turns / span })));
      }
      const totals = parts.map((used) => sum(used.map(({ percent }) => percent)));
      const workers = parts.map((used) => used.filter(isWorker));
      // Idle guests have timers; one that takes no slice stands still, and what it costs then says nothing.
      const ran = (await slices()).map((count, i) => (count - begun[i]) / 40);
      if (ran.length !== machines || ran.some((rate) => rate === 0)) throw new Error(`idle: ${what}: slices a second ${list(ran)}: not every machine ran, so this measures nothing`);
      if (totals.some((total) => total === 0)) throw new Error(`idle: ${what}: the browser's threads used no time at all, which cannot be: their processes were not found`);
      if (machines) console.log(`idle: ${what}: slices a second ${list(ran)}`);
      console.log(`idle: ${what}: ${list(totals, 2)} % of a core, median ${median(totals).toFixed(2)} (whole browser); workers ${median(workers.map((used) => sum(used.map(({ percent }) => percent)))).toFixed(2)} % with ${median(workers.map((used) => sum(used.map(({ turns }) => turns)))).toFixed(0)} wake-ups a second`);
      if (verbose) for (const { name, percent, turns } of parts.at(-1).slice(0, 14)) console.log(`  ${name}: ${percent.toFixed(3)} %, ${turns.toFixed(1)} turns/s`);
    };
    await withPage(async (page) => {
      await measure("no machine", page, 0);
      await page.evaluate(async () => {
        window.vms = [await debian({ canvas: canvas() })];
        await vms[0].waitForSerial("READY", 600_000);
      });
      await measure("1 idle Debian, visible", page, 1);
      await page.evaluate(async () => {
        for (let i = 0; i < 7; i++) vms.push(await debian());
        await Promise.all(vms.map((vm) => vm.waitForSerial("READY", 600_000)));
      });
      await measure("8 idle Debians, one visible", page, 8);
    });
    const page = await openPage(browser, `${site.origin}/?guest=debian`);
    await page.waitForFunction(() => window.vm?.state === "running", null, { timeout: 60_000 });
    await page.evaluate(() => window.vm.waitForSerial("READY", 600_000));
    await measure("the page with one idle Debian", page, 1);
    await page.context().close();
  },

  async memory() {
    await withPage(async (page) => {
      // Loaded once: the browser's debugger, which drives it here, keeps up to 200 MB of what pages fetch.
      await page.evaluate(async () => {
        const get = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
        window.images = {
          kernel: await get("/guests/debian-vmlinuz"), initrd: await get("/guests/debian-initrd.gz"),
          bios: await get("/firmware/bios.bin"), vgaBios: await get("/firmware/vgabios-stdvga.bin"),
        };
      });
      await sleep(2000);
      const begin = memoryMiB();
      let most = 0;
      const began = Date.now();
      for (let i = 0; i < 50; i++) {
        await page.evaluate(async () => {
          const vm = await debian(images);
          await vm.waitForScreen(/Linux version|Booting|Decompress|Debian/i, 60_000).catch(() => {});
          await vm.close();
        });
        if (i % 5 === 0) most = Math.max(most, memoryMiB());
      }
      const took = (Date.now() - began) / 1000;
      const closed = memoryMiB();
      const workers = await page.evaluate(() => pool.workers);
      await sleep(15_000);
      const [waited, left] = [memoryMiB(), await page.evaluate(() => pool.workers)];
      // What the browser has not collected yet is not lost.
      const session = await page.context().newCDPSession(page);
      await session.send("HeapProfiler.collectGarbage");
      await sleep(3000);
      console.log(`memory: 50 machines of 256 MiB opened and closed in ${took.toFixed(0)} s: ${begin.toFixed(0)} MiB before, at most ${most.toFixed(0)}, ${closed.toFixed(0)} after the last close (${workers} workers), ${waited.toFixed(0)} 15 s later (${left} workers), ${memoryMiB().toFixed(0)} once the browser has collected its garbage`);
    });
  },

  async clone() {
    await withPage(async (page) => {
      const figures = await page.evaluate(async () => {
        const vm = await debian();
        await vm.waitForSerial("READY", 600_000);
        await new Promise((resolve) => setTimeout(resolve, 2000));
        const times = [];
        for (let i = 0; i < 5; i++) {
          const at = performance.now();
          const clone = await vm.clone();
          times.push(performance.now() - at);
          const said = new Promise((resolve) => {
            let text = "";
            clone.addEventListener("serial", ({ data }) => {
              text += new TextDecoder().decode(data);
              if (text.includes(`clone ${i} 42`)) resolve(undefined);
            });
          });
          clone.sendSerial(`echo clone ${i} $((6*7))\n`);
          vm.sendSerial(`echo original ${i} $((6*7))\n`);
          await said;
          await vm.waitForSerial(`original ${i} 42`, 30_000);
          await clone.close();
        }
        return times;
      });
      console.log(`clone: a running Debian of 256 MiB in ${list(figures, 0)} ms; both answered after each`);
    });
  },
};

try {
  for (const [name, part] of Object.entries(PARTS)) if (wanted.length ? wanted.includes(name) : name !== "slices" || site === whole) await part();
} finally {
  await browser.close();
  await whole.close();
  await plain.close();
}
