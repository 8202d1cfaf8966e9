// From the navigation to the guest, beside v86, each time in a browser with a profile of its own (cold cache):
//   node tests/bench/start.mjs [--rounds N] [--only tab86|v86] [prompt|installer]…
// prompt: Debian's prompt. installer: the first screen of Debian's graphical installer, and how long the pointer takes to be
// seen elsewhere, while the guest idles and while a process of it computes. Needs build/site and its guests.
import { parseArgs } from "node:util";
import { serveBoth, withFresh } from "./lib/beside.mjs";

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "3" }, only: { type: "string" } },
});
const NAMES = /** @type {("tab86" | "v86")[]} */ (values.only ? [values.only] : ["v86", "tab86"]);
const LONG_MS = 900_000;
/** Moves of the pointer that are measured. */
const MOVES = 40;
/** Scan codes. */
const [CTRL, ALT, F2, F5, ENTER] = [0x1d, 0x38, 0x3c, 0x3f, 0x1c];

const quantile = (numbers, q) => [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(q * numbers.length))];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const site = await serveBoth();

/**
 * Waits for a dialog of the installer: more than a third of the picture is bright, as no console is, and below its banner is dark text,
 * many times what the pointer has. When that was, from the navigation.
 */
const dialog = (page) => page.evaluate((timeout) => new Promise((resolve, reject) => {
  const look = () => {
    const canvas = window.machine?.canvas();
    const at = performance.now();
    if (at > timeout) return reject(new Error("no dialog came"));
    if (canvas?.width >= 640 && canvas.height >= 480) {
      const { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, height / 4, width, height / 2);
      let [bright, dark] = [0, 0];
      for (let i = 0; i < data.length; i += 4) {
        const light = data[i] + data[i + 1] + data[i + 2];
        if (light > 3 * 128) bright++;
        else if (light < 3 * 80) dark++;
      }
      if (bright > data.length / 4 / 3 && dark > 1500) return resolve(at);
    }
    setTimeout(look, 250);
  };
  look();
}), LONG_MS);

/** Milliseconds from each move until an animation frame finds another picture on the canvas. */
const moves = (page) => page.evaluate(async (count) => {
  const frame = () => new Promise(requestAnimationFrame);
  const picture = () => {
    const canvas = window.machine.canvas();
    const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    let hash = 0;
    for (let i = 0; i < pixels.length; i++) hash = (Math.imul(hash, 31) + pixels[i]) | 0;
    return hash;
  };
  const times = [];
  for (let i = 0; i < count; i++) {
    const before = picture();
    const at = performance.now();
    window.machine.move(i % 2 ? -24 : 24, i % 2 ? -16 : 16);
    do await frame(); while (picture() === before && performance.now() - at < 5000);
    times.push(performance.now() - at);
    await new Promise((resolve) => setTimeout(resolve, 150 + 37 * (i % 5)));
  }
  return times;
}, MOVES);

const PARTS = {
  async prompt() {
    const times = { v86: [], tab86: [] };
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const name of NAMES) {
        times[name].push(await withFresh(name, site.origin, "guest=debian", async (page) => {
          const handle = await page.waitForFunction(() => window.readyAt, null, { timeout: LONG_MS, polling: 100 });
          return (await handle.jsonValue()) / 1000;
        }));
      }
    }
    for (const name of NAMES) console.log(`prompt: ${name} ${times[name].map((t) => t.toFixed(2)).join(" ")} s, median ${quantile(times[name], 0.5).toFixed(2)}`);
    if (NAMES.length === 2) console.log(`prompt: ${(quantile(times.v86, 0.5) / quantile(times.tab86, 0.5)).toFixed(2)}x`);
  },

  async installer() {
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const name of NAMES) {
        await withFresh(name, site.origin, "guest=d-i-gtk", async (page) => {
          const first = (await dialog(page)) / 1000;
          await sleep(10_000);
          const idle = await moves(page);
          // A shell on the second console computes without end; the installer is on the fifth.
          await page.evaluate(([...chord]) => window.machine.chord(chord), [CTRL, ALT, F2]);
          await sleep(3000);
          await page.evaluate((enter) => window.machine.chord([enter]), ENTER);
          await sleep(3000);
          await page.evaluate(() => window.machine.type("while :; do :; done &\n"));
          await sleep(3000);
          await page.evaluate(([...chord]) => window.machine.chord(chord), [CTRL, ALT, F5]);
          await sleep(1000);
          await dialog(page);
          await sleep(5000);
          const before = await page.evaluate(async () => [window.machine.instructions(), performance.now()]);
          const busy = await moves(page);
          const after = await page.evaluate(async () => [window.machine.instructions(), performance.now()]);
          const line = (times) => `p50 ${quantile(times, 0.5).toFixed(0)} p95 ${quantile(times, 0.95).toFixed(0)} most ${Math.max(...times).toFixed(0)} ms`;
          const mips = (after[0] - before[0]) / (after[1] - before[1]) / 1000;
          console.log(`installer: ${name}: first screen after ${first.toFixed(1)} s; pointer seen elsewhere: idle ${line(idle)}, busy (${mips.toFixed(0)} MIPS) ${line(busy)}`);
        });
      }
    }
  },
};

try {
  for (const [name, part] of Object.entries(PARTS)) if (!wanted.length || wanted.includes(name)) await part();
} finally {
  await site.close();
}
