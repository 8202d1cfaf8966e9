// Figures of the worker pool with Debian guests in Chromium: shares, latency, scaling, idle cost, memory, clones.
//   node tests/bench/pool.mjs [share|scale|idle|memory|clone]…     needs build/site (`cargo xtask build`)
// A machine with other work on it gives other figures: run it alone.
import fs from "node:fs";
import { launch, openPage } from "../browser/lib/browser.mjs";
import { serveSite } from "../browser/lib/server.mjs";

const WORKERS = 2;
const MIB = 2 ** 20;
const wanted = process.argv.slice(2);
const site = await serveSite();
const browser = await launch();

/** All processes of the browser. */
function processes() {
  const children = new Map();
  for (const pid of fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const parent = fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1).split(" ")[1];
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    } catch { /* it ended */ }
  }
  const all = [];
  const visit = (pid) => (children.get(pid) ?? []).forEach((child) => { all.push(child); visit(child); });
  visit(String(process.pid));
  return all;
}

/** Seconds of processor time that the browser has used. */
function cpuSeconds() {
  let ns = 0;
  for (const pid of processes()) {
    try {
      for (const thread of fs.readdirSync(`/proc/${pid}/task`)) ns += Number(fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
    } catch { /* it ended */ }
  }
  return ns / 1e9;
}

/** Memory of the browser in MiB (proportional set size). */
function memoryMiB() {
  let kib = 0;
  for (const pid of processes()) {
    try {
      kib += Number(/^Pss:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1] ?? 0);
    } catch { /* it ended */ }
  }
  return kib / 1024;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const list = (numbers, digits = 1) => numbers.map((n) => n.toFixed(digits)).join(" ");
const quantile = (numbers, q) => [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(q * numbers.length))];

/** A page with a pool and a short way to boot Debian. */
async function withPage(use) {
  const page = await openPage(browser, `${site.origin}/pkg/package.json`);
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
    window.run = async (vms, ms) => {
      const begin = vms.map((vm) => vm.stats().instructions);
      const at = performance.now();
      await new Promise((resolve) => setTimeout(resolve, ms));
      const span = performance.now() - at;
      return vms.map((vm, i) => Number(vm.stats().instructions - begin[i]) / span / 1000);
    };
    window.busy = (vm) => vm.sendSerial("while :; do :; done &\n");
  }, WORKERS);
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
      console.log(`share: 8 Debian guests at the shell on ${WORKERS} workers after ${((Date.now() - began) / 1000).toFixed(1)} s`);
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
      const figures = await page.evaluate(async () => {
        const vms = [await debian(), await debian()];
        await Promise.all(vms.map((vm) => vm.waitForSerial("READY", 600_000)));
        await new Promise((resolve) => setTimeout(resolve, 3000));
        busy(vms[0]);
        busy(vms[1]);
        await new Promise((resolve) => setTimeout(resolve, 2000));
        const rounds = [];
        for (let i = 0; i < 3; i++) {
          await vms[1].pause();
          const [one] = await run([vms[0]], 5000);
          await vms[1].start();
          const both = await run(vms, 5000);
          rounds.push([one, both[0] + both[1]]);
        }
        return rounds;
      });
      for (const [one, both] of figures) console.log(`scale: one busy VM ${one.toFixed(1)} MIPS, two ${both.toFixed(1)} MIPS: ${(both / one).toFixed(2)}x`);
    });
  },

  async idle() {
    await withPage(async (page) => {
      const measure = async (what) => {
        await sleep(8000);
        const [cpu, at] = [cpuSeconds(), Date.now()];
        await sleep(20_000);
        console.log(`idle: ${what}: ${((100 * (cpuSeconds() - cpu)) / ((Date.now() - at) / 1000)).toFixed(2)} % of a core (whole browser)`);
      };
      await measure("no machine");
      await page.evaluate(async () => {
        window.vms = [await debian({ canvas: document.createElement("canvas") })];
        await vms[0].waitForSerial("READY", 600_000);
      });
      await measure("1 idle Debian, visible");
      await page.evaluate(async () => {
        for (let i = 0; i < 7; i++) vms.push(await debian());
        await Promise.all(vms.map((vm) => vm.waitForSerial("READY", 600_000)));
      });
      await measure("8 idle Debians, one visible");
    });
  },

  async memory() {
    await withPage(async (page) => {
      await sleep(2000);
      const begin = memoryMiB();
      let most = 0;
      const began = Date.now();
      for (let i = 0; i < 50; i++) {
        await page.evaluate(async () => {
          const vm = await debian();
          await vm.waitForScreen(/Linux version|Booting|Decompress|Debian/i, 60_000).catch(() => {});
          await vm.close();
        });
        if (i % 5 === 0) most = Math.max(most, memoryMiB());
      }
      const took = (Date.now() - began) / 1000;
      const closed = memoryMiB();
      const workers = await page.evaluate(() => pool.workers);
      for (let i = 0; i < 60 && memoryMiB() > begin + 64; i++) await sleep(1000);
      const left = await page.evaluate(() => pool.workers);
      console.log(`memory: 50 machines of 256 MiB opened and closed in ${took.toFixed(0)} s: ${begin.toFixed(0)} MiB before, at most ${most.toFixed(0)}, ${closed.toFixed(0)} after the last close (${workers} workers), ${memoryMiB().toFixed(0)} later (${left} workers)`);
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
  for (const [name, part] of Object.entries(PARTS)) if (wanted.length === 0 || wanted.includes(name)) await part();
} finally {
  await browser.close();
  await site.close();
}
