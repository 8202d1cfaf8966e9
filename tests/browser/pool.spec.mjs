// Several machines on a few workers: they share, stay apart, come and go, and are copied. With shared memory, and (where
// it makes sense) with messages.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bootFloppy, fillerFloppy, flatSwitcherFloppy, painterFloppy, THEN } from "./lib/boot-sector.mjs";
import { launch, openPage } from "./lib/browser.mjs";
import { serveSite } from "./lib/server.mjs";
import { memoryMiB } from "../bench/lib/processes.mjs";

const FILES = {
  "/files/echo.img": bootFloppy("echo here\r\n", THEN.echoKeys),
  "/files/spin.img": bootFloppy("spinning\r\n", THEN.spin),
  "/files/stuck.img": bootFloppy("stuck\r\n", THEN.spinForEver),
  "/files/triple.img": bootFloppy("falling\r\n", THEN.tripleFault),
  "/files/filler.img": fillerFloppy(),
  "/files/big-filler.img": fillerFloppy(240),
  "/files/painter.img": painterFloppy(2560, 1600),
  "/files/switcher.img": bootFloppy("switching\r\n", THEN.switcher),
  "/files/flat-switcher.img": flatSwitcherFloppy(),
};
/** What runs in the page before anything else: the workers that tab86 starts, and short ways to make machines. */
const PRELUDE = `
  window.workers = [];
  window.Worker = class extends Worker {
    constructor(...options) { super(...options); window.workers.push(this); }
  };
  window.open86 = async (options) => {
    const { createPool } = await import("/pkg/tab86.js");
    return (window.pool = await createPool(options));
  };
  window.boot86 = async (name, options) => {
    const vm = await pool.createVm({ memory: 16 << 20, fda: "/files/" + name + ".img", ...options });
    vm.problems = [];
    vm.addEventListener("error", ({ message }) => vm.problems.push(message));
    await vm.start();
    return vm;
  };
  window.instructions86 = async (vms, ms) => {
    const begin = vms.map((vm) => vm.stats().instructions);
    await new Promise((resolve) => setTimeout(resolve, ms));
    return vms.map((vm, i) => Number(vm.stats().instructions - begin[i]));
  };
`;

let browser;
/** @type {Record<string, Awaited<ReturnType<typeof serveSite>>>} */
const sites = {};
before(async () => {
  browser = await launch();
  sites.shared = await serveSite({ files: FILES });
  sites.messages = await serveSite({ files: FILES, isolated: false });
});
after(async () => {
  await browser.close();
  for (const site of Object.values(sites)) await site.close();
});

/** A page with a pool. */
async function withPool(kind, options, use) {
  const page = await openPage(browser, `${sites[kind].origin}/pkg/package.json`);
  await page.evaluate(PRELUDE);
  await page.evaluate((options) => open86(options), options);
  try {
    await use(page);
  } finally {
    await page.context().close();
  }
  assert.deepEqual(page.problems, []);
}

/** A test with shared memory and with messages. */
function both(name, options, use, skip = false) {
  for (const kind of ["shared", "messages"]) test(`${name} (${kind})`, { skip }, () => withPool(kind, options, use));
}

/** A test with shared memory only. */
function shared(name, options, use) {
  test(name, () => withPool("shared", options, use));
}

shared("busy machines share two workers evenly, whoever looks at them", { workers: 2 }, async (page) => {
  const counts = await page.evaluate(async () => {
    const vms = await Promise.all(Array.from({ length: 5 }, () => boot86("spin")));
    vms[0].priority = "visible";
    await Promise.all(vms.map((vm) => vm.waitForScreen("spinning")));
    const slices = vms.map((vm) => vm.stats().slices);
    await instructions86(vms, 4000);
    return { counts: vms.map((vm, i) => vm.stats().slices - slices[i]), workers: pool.workers };
  });
  assert.equal(counts.workers, 2);
  const mean = counts.counts.reduce((a, b) => a + b) / 5;
  // Slices last equally long where nothing else runs; elsewhere only roughly. The simulation in pool/ is exact.
  for (const count of counts.counts) assert.ok(count > mean / 2 && count < mean * 2, `slices ${counts.counts}`);
});

both("machines that loop, fault and fill their memory leave the others and the page alone", { workers: 2 }, async (page) => {
  const seen = await page.evaluate(async () => {
    const [echo, stuck, triple, filler] = await Promise.all(["echo", "stuck", "triple", "filler"].map((name) => boot86(name)));
    echo.priority = "visible";
    let faults = 0;
    triple.addEventListener("state", ({ state }) => {
      if (state === "shutdown") {
        faults++;
        void triple.reset();
      }
    });
    await echo.waitForScreen("echo here");
    await stuck.waitForScreen("stuck");
    const frames = [];
    let last = performance.now();
    let measuring = true;
    requestAnimationFrame(function tick(now) {
      frames.push(now - last);
      last = now;
      if (measuring) requestAnimationFrame(tick);
    });
    const [stuckCount, fillerCount] = await instructions86([stuck, filler], 3000);
    measuring = false;
    frames.sort((a, b) => a - b);
    const typed = performance.now();
    await echo.typeText("still here");
    await echo.waitForScreen("still here");
    return { faults, stuckCount, fillerCount, typing: performance.now() - typed, frames: [0.5, 0.95, 0.99].map((q) => frames[Math.floor(q * frames.length)]),
      problems: [echo, stuck, triple, filler].flatMap((vm) => vm.problems) };
  });
  console.log(`# frame times in ms, p50 p95 p99: ${seen.frames.map((t) => t.toFixed(1)).join(" ")}; ten keys echoed in ${seen.typing.toFixed(0)} ms`);
  assert.ok(seen.faults > 3 && seen.stuckCount > 1e6 && seen.fillerCount > 10, JSON.stringify(seen));
  assert.deepEqual(seen.problems, []);
});

both("a picture that is too big for one animation frame comes whole although the guest never stops drawing", { workers: 2 }, async (page) => {
  const seen = await page.evaluate(async () => {
    const canvas = document.createElement("canvas");
    const vm = await boot86("painter", { memory: 32 << 20, canvas });
    let pictures = 0;
    await new Promise((resolve) => vm.addEventListener("screen", ({ width }) => width === 2560 && ++pictures === 10 && resolve(undefined)));
    await vm.pause();
    // Where the colour changes, from left to right and top to bottom: where the guest was when this picture was taken.
    const changes = () => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, 2560, 1600);
      const pixels = new Uint32Array(data.buffer);
      const at = [];
      for (let i = 1; i < pixels.length; i++) if (pixels[i] !== pixels[i - 1]) at.push(i);
      return at;
    };
    let last = null;
    for (let round = 0; round < 100; round++) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const now = changes();
      if (now.length <= 1 && last === String(now)) return { size: [canvas.width, canvas.height], problems: vm.problems };
      last = String(now);
    }
    return { last, problems: vm.problems };
  });
  assert.deepEqual(seen, { size: [2560, 1600], problems: [] });
});

for (const name of ["switcher", "flat-switcher"]) shared(`a guest that is fast and then as slow as can be does not keep a worker: ${name}`, { workers: 1 }, async (page) => {
  const seen = await page.evaluate(async (name) => {
    const [echo, switcher] = [await boot86("echo"), await boot86(name)];
    await echo.waitForScreen("echo here");
    // It is at work when it has done more than the firmware does.
    while (switcher.stats().instructions < 100_000_000n) await new Promise((resolve) => setTimeout(resolve, 50));
    const begin = switcher.stats();
    for (const word of ["one", "two", "three", "four"]) {
      await echo.typeText(word);
      await echo.waitForScreen(word);
    }
    const { slices, instructions } = switcher.stats();
    return { slices: slices - begin.slices, ran: instructions > begin.instructions, problems: [...echo.problems, ...switcher.problems] };
  }, name);
  assert.ok(seen.ran && seen.slices > 8, JSON.stringify(seen, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
  assert.deepEqual(seen.problems, []);
});

shared("a machine whose memory is scribbled over cannot reach another", { workers: 2 }, async (page) => {
  const result = await page.evaluate(async () => {
    const [victim, other, running] = [await boot86("spin"), await boot86("echo"), await boot86("echo")];
    await Promise.all([other, running].map((vm) => vm.waitForScreen("echo here")));
    await victim.waitForScreen("spinning");
    await other.pause();
    const before = await other.ramHash();
    const ended = new Promise((resolve) => victim.addEventListener("state", ({ state }) => state === "crashed" && resolve(state)));
    let random = 12345;
    const scribble = setInterval(() => {
      const bytes = new Uint32Array(victim.wasmMemory.buffer);
      for (let i = 0; i < 200_000; i++) {
        random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
        bytes[random % bytes.length] = random;
      }
    }, 1);
    // Most often it traps; what was written may as well put it to sleep for ever.
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 4000))]);
    clearInterval(scribble);
    const after = await other.ramHash();
    await running.typeText("alive");
    await running.waitForScreen("alive");
    await other.start();
    await other.typeText("alive too");
    await other.waitForScreen("alive too");
    const [said, state] = [victim.problems[0], victim.state];
    await victim.close();
    const fresh = await boot86("echo");
    await fresh.waitForScreen("echo here");
    return { before, after, said, state, problems: [...other.problems, ...running.problems, ...fresh.problems] };
  });
  assert.equal(result.after, result.before);
  if (result.state === "crashed") assert.match(result.said, /cannot go on|failed/);
  else assert.equal(result.said, undefined, result.state);
  assert.deepEqual(result.problems, []);
});

both("a clone goes on from the same state, and apart", { workers: 2 }, async (page) => {
  const result = await page.evaluate(async () => {
    const vm = await boot86("echo");
    await vm.waitForScreen("echo here");
    await vm.typeText("both ");
    await vm.waitForScreen("both");
    await vm.pause();
    const still = await vm.clone();
    const hashes = [await vm.ramHash(), await still.ramHash()];
    await vm.start();
    const began = performance.now();
    const clone = await vm.clone();
    const took = performance.now() - began;
    await Promise.all([vm.typeText("one"), clone.typeText("two"), still.start()]);
    await still.typeText("three");
    const texts = await Promise.all([vm.waitForScreen("both one"), clone.waitForScreen("both two"), still.waitForScreen("both three")]);
    const states = [vm.state, clone.state, still.state];
    await vm.close();
    await clone.typeText("!");
    await clone.waitForScreen("two!");
    return { hashes, texts, states, took, count: pool.vms.length };
  });
  console.log(`# clone of a 16 MiB machine: ${result.took.toFixed(0)} ms`);
  assert.equal(result.hashes[0], result.hashes[1]);
  assert.ok(!result.texts[0].includes("two") && !result.texts[1].includes("one") && !result.texts[2].includes("one"));
  assert.deepEqual(result.states, ["running", "running", "running"]);
  assert.equal(result.count, 2);
});

both("a clone's clock goes on from the original's", { workers: 2 }, async (page) => {
  const seen = await page.evaluate(async () => {
    const vm = await boot86("spin");
    await vm.waitForScreen("spinning");
    // Old enough that a clock which began anew with the clone would stand still for a while.
    while (vm.stats().virtualTime < 3) await new Promise((resolve) => setTimeout(resolve, 50));
    const clone = await vm.clone();
    while (clone.stats().slices === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    const [slices, time, at] = [clone.stats().slices, clone.stats().virtualTime, performance.now()];
    while (clone.stats().slices < slices + 100) await new Promise((resolve) => setTimeout(resolve, 10));
    return { time, guest: clone.stats().virtualTime - time, host: (performance.now() - at) / 1000 };
  });
  assert.ok(seen.time >= 3 && seen.guest > seen.host / 2, JSON.stringify(seen));
});

both("machines come and go without leaving workers behind", { workers: 2 }, async (page) => {
  const left = await page.evaluate(async () => {
    for (let i = 0; i < 12; i++) {
      const vm = await boot86(i % 2 ? "echo" : "spin");
      await vm.waitForScreen(i % 2 ? "echo here" : "spinning");
      if (vm.screenText().includes(i % 2 ? "spinning" : "echo here")) throw new Error("it sees the last machine's screen");
      if (i % 3) await vm.close();
      else void vm.close();
    }
    await Promise.all(pool.vms.map((vm) => vm.close()));
    const most = window.workers.length;
    for (let i = 0; i < 100 && pool.workers > 0; i++) await new Promise((resolve) => setTimeout(resolve, 100));
    return { vms: pool.vms.length, workers: pool.workers, most };
  });
  assert.deepEqual([left.vms, left.workers], [0, 0]);
  assert.ok(left.most <= 12, `${left.most} workers were started`);
});

both("fifty machines of 256 MB come and go, and so does the browser's memory", { workers: 2 }, async (page) => {
  const before = memoryMiB();
  let most = 0;
  for (let i = 0; i < 50; i++) {
    await page.evaluate(async () => {
      const vm = await boot86("big-filler", { memory: 256 << 20 });
      // Its RAM is in use to the end.
      while (!(await vm.readMemory((240 << 20) - 4, 4)).some(Boolean)) await new Promise((resolve) => setTimeout(resolve, 5));
      await vm.close();
    });
    if (i % 10 === 9) most = Math.max(most, memoryMiB());
  }
  let [after, left] = [Infinity, Infinity];
  // The browser is in no hurry: memory of ended workers comes back after seconds. One machine's would stay if one leaked.
  for (let i = 0; i < 120 && (after > before + 200 || left > 0); i++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    [after, left] = [memoryMiB(), await page.evaluate(() => pool.workers)];
  }
  console.log(`# memory of the browser: ${before.toFixed(0)} MiB before, ${most.toFixed(0)} at most, ${after.toFixed(0)} in the end`);
  assert.ok(left === 0 && after < before + 200, `${after} MiB and ${left} workers stay of ${before} MiB and none`);
}, process.platform === "linux" ? false : "the browser's memory is read from Linux's /proc");

both("a pool refuses more machines and more memory than its limits", { workers: 1, maxVms: 2, maxMemory: 64 << 20 }, async (page) => {
  const result = await page.evaluate(async () => {
    const code = (promise) => promise.then(() => "made", (error) => `${error.code}: ${error.message}`);
    const vm = await boot86("echo");
    const big = await code(boot86("echo", { memory: 50 << 20 }));
    await boot86("echo");
    const third = await code(boot86("echo"));
    const clone = await code(vm.clone());
    await vm.close();
    const again = await code(boot86("echo"));
    return { big, third, clone, again, limits: pool.limits };
  });
  assert.match(result.big, /^out-of-memory: .*50 MiB.*64 MiB/);
  assert.match(result.third, /^too-many-vms: .*2 machines/);
  assert.match(result.clone, /^too-many-vms/);
  assert.equal(result.again, "made");
  assert.deepEqual(result.limits, { vms: 2, memory: 64 << 20 });
});

shared("a worker that dies takes at most its own machine along and is replaced", { workers: 2 }, async (page) => {
  const result = await page.evaluate(async () => {
    const vms = [await boot86("spin"), await boot86("spin"), await boot86("spin"), await boot86("echo")];
    await Promise.all(vms.slice(0, 3).map((vm) => vm.waitForScreen("spinning")));
    await vms[3].waitForScreen("echo here");
    const before = window.workers.length;
    window.workers[0].dispatchEvent(new ErrorEvent("error", { message: "out of memory", cancelable: true }));
    await new Promise((resolve) => setTimeout(resolve, 600));
    const alive = vms.slice(0, 3).filter((vm) => vm.state === "running");
    const counts = await instructions86(alive, 1000);
    await vms[3].typeText("alive");
    await vms[3].waitForScreen("alive");
    const crashed = vms.filter((vm) => vm.state === "crashed");
    const text = crashed[0]?.screenText() ?? "spinning";
    await Promise.all(crashed.map((vm) => vm.close()));
    return { crashed: crashed.length, said: crashed[0]?.problems[0], text, counts, workers: pool.workers, started: window.workers.length - before };
  });
  assert.ok(result.crashed <= 1, `${result.crashed} machines crashed`);
  if (result.crashed) assert.match(result.said, /worker .* failed: out of memory/);
  assert.match(result.text, /spinning/, "the last picture stays");
  assert.ok(result.counts.every((count) => count > 1e6), `${result.counts}`);
  assert.deepEqual([result.workers, result.started], [2, 1]);
});

both("pause, start and reset act on the machine they are meant for", { workers: 1 }, async (page) => {
  const result = await page.evaluate(async () => {
    const vms = [await boot86("spin"), await boot86("spin")];
    await Promise.all(vms.map((vm) => vm.waitForScreen("spinning")));
    await vms[0].pause();
    const paused = await instructions86(vms, 700);
    await vms[0].start();
    const started = await instructions86(vms, 700);
    await Promise.all([vms[0].pause(), vms[0].start(), vms[1].pause(), vms[1].reset()]);
    const states = vms.map((vm) => vm.state);
    const last = await instructions86(vms, 700);
    return { paused, started, states, last };
  });
  assert.equal(result.paused[0], 0);
  assert.ok(result.paused[1] > 1e5 && result.started.every((count) => count > 1e5), JSON.stringify(result));
  assert.deepEqual(result.states, ["running", "paused"]);
  assert.ok(result.last[0] > 1e5 && result.last[1] <= 0, JSON.stringify(result));
});

both("closing in the middle of everything breaks nothing", { workers: 2 }, async (page) => {
  const outcome = await page.evaluate(async () => {
    const settle = (promises) => Promise.allSettled(promises);
    for (let round = 0; round < 4; round++) {
      const vms = await Promise.all(["spin", "echo", "stuck"].map((name) => boot86(name)));
      const work = vms.flatMap((vm) => [vm.pause(), vm.start(), vm.ramHash(), vm.clone(), vm.readMemory(0, 4096)]);
      const closing = vms.map((vm) => vm.close());
      await settle([...work, ...closing]);
      await Promise.all(pool.vms.map((vm) => vm.close()));
    }
    const vm = await boot86("echo");
    return vm.waitForScreen("echo here");
  });
  assert.match(outcome, /echo here/);
});
