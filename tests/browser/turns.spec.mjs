// Machines that take turns (pkg/lib/turns.js), in a simulated page: who runs, who waits, and that nobody waits for ever.
// Needs build/wasm (`cargo xtask build`).
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test as nodeTest } from "node:test";

const skip = existsSync(new URL("../../build/wasm/plain/tab86_bg.wasm", import.meta.url)) ? false : "no wasm module: `cargo xtask build` makes it";
const { DELAY, World } = skip ? /** @type {any} */ ({}) : await import("./lib/turns-world.mjs");
const test = (name, work) => nodeTest(name, { skip }, work);

const VISIBLE = 2;
const total = (numbers) => numbers.reduce((a, b) => a + b, 0);
const times = (count, make) => Array.from({ length: count }, (_, i) => make(i));

/** Asserts that all are within `part` of the mean. */
function assertEven(shares, part) {
  const mean = total(shares) / shares.length;
  for (const share of shares) assert.ok(Math.abs(share / mean - 1) <= part, `shares in ms: ${shares.map(Math.round)}`);
}

test("as many machines as may run at a time are free: nobody asks", async () => {
  const world = new World(2);
  times(2, () => world.boot());
  await world.pass(1000);
  const states = world.messages;
  await world.pass(5000);
  assert.equal(world.messages, states);
  assert.ok(world.vms.every(({ ran }) => ran >= 5990), `${world.vms.map(({ ran }) => ran)}`);
});

test("busy machines get equal shares, so many at a time as may, and waste little", async () => {
  const world = new World(2);
  times(8, () => world.boot());
  await world.pass(1000);
  let most = 0;
  const look = () => {
    most = Math.max(most, world.running);
    world.later(look, 0.5);
  };
  look();
  const shares = await world.shares(10_000);
  assert.equal(most, 2);
  assertEven(shares, 0.03);
  assert.ok(total(shares) > 0.95 * 2 * 10_000, `${total(shares)}`);
});

test("who is looked at gets no more than the others", async () => {
  const world = new World(2);
  const vms = times(6, () => world.boot());
  vms[0].look(VISIBLE);
  await world.pass(1000);
  assertEven(await world.shares(10_000), 0.05);
});

for (const seen of [true, false]) test(`input of a busy machine ${seen ? "on the screen ends another's turn" : "that nobody looks at waits for its turn"}`, async () => {
  const world = new World(2);
  const vms = times(8, () => world.boot());
  if (seen) vms[0].look(VISIBLE);
  await world.pass(2000);
  const waits = [];
  for (let i = 0; i < 60; i++) {
    const { now } = world;
    const slices = vms[0].begun.length;
    vms[0].key();
    while (vms[0].begun.length === slices) await world.pass(0.5);
    // The slice that ran when the key came does not count.
    waits.push(vms[0].begun.at(-1) - now);
    await world.pass(90 + (i % 7) * 3);
  }
  const most = Math.max(...waits);
  if (seen) assert.ok(most <= 6 + 4 * DELAY, `${most}`);
  else assert.ok(most > 18, `${most}`);
});

test("beside an answer to input a processor is left to the page", async () => {
  const world = new World(2);
  const vms = times(6, () => world.boot());
  vms[0].look(VISIBLE);
  await world.pass(2000);
  const slices = vms[0].begun.length;
  vms[0].key();
  // The slice that answers may begin beside one that is not over yet.
  while (vms[0].begun.length === slices) await world.pass(0.5);
  await world.pass(6);
  let alone = 0;
  for (let i = 0; i < 10; i++) {
    await world.pass(0.5);
    if (world.running < 2) alone++;
  }
  assert.ok(alone >= 9, `${alone}`);
  await world.pass(60);
  assert.equal(world.running, 2);
});

test("input without end slows the others down a little only", async () => {
  const world = new World(2);
  const vms = times(8, () => world.boot());
  vms[0].look(VISIBLE);
  const again = () => {
    vms[0].key();
    world.later(again, 16);
  };
  again();
  await world.pass(1000);
  const shares = await world.shares(8000);
  assertEven(shares, 0.05);
  assert.ok(total(shares) > 0.75 * 2 * 8000, `${total(shares)}`);
});

test("a machine on the screen that used less than its share does not wait for the end of others' turns", async () => {
  const world = new World(2);
  times(4, () => world.boot());
  const seen = world.boot({ work: 12, pause: 60 });
  seen.look(VISIBLE);
  await world.pass(2000);
  seen.delays.length = 0;
  await world.pass(5000);
  assert.ok(seen.delays.length > 50 && Math.max(...seen.delays) <= 6 + 5 * DELAY, `${seen.delays.length}, ${Math.max(...seen.delays)}`);
});

test("an idle guest's ticks need no turn, and begin at once while others are busy", async () => {
  const world = new World(2);
  times(3, () => world.boot());
  const idle = world.boot({ work: 0.5, pause: 50 });
  await world.pass(1000);
  const before = world.messages;
  const alone = new World(2);
  times(3, () => alone.boot());
  await alone.pass(1000);
  const busy = alone.messages;
  idle.delays.length = 0;
  await Promise.all([world.pass(5000), alone.pass(5000)]);
  assert.ok(idle.delays.length > 90 && Math.max(...idle.delays) === 0, `${idle.delays.length}, ${Math.max(...idle.delays)}`);
  assert.ok(world.messages - before <= alone.messages - busy + 4, `${world.messages - before}, ${alone.messages - busy}`);
});

test("a guest that pauses often gets no more than its share", async () => {
  const world = new World(2);
  const vms = [...times(4, () => world.boot()), world.boot({ work: 5, pause: 0.5 })];
  await world.pass(1000);
  const shares = await world.shares(10_000);
  assert.ok(shares[4] < 1.15 * (total(shares) / 5), `${shares}`);
  assert.ok(shares[4] > 0.3 * (total(shares) / 5), `${shares}`);
  assertEven(shares.slice(0, 4), 0.05);
  assert.equal(vms.length, 5);
});

test("when enough have paused the others are free, and take turns again after", async () => {
  const world = new World(2);
  const vms = times(5, () => world.boot());
  await world.pass(500);
  for (const vm of vms.slice(2)) vm.pause();
  await world.pass(100);
  const before = world.messages;
  const shares = await world.shares(2000);
  assert.equal(world.messages, before);
  assert.deepEqual(shares.slice(2), [0, 0, 0]);
  assert.ok(shares.slice(0, 2).every((ms) => ms >= 1990), `${shares}`);
  for (const vm of vms.slice(2)) vm.start();
  await world.pass(500);
  assertEven(await world.shares(5000), 0.05);
});

test("a worker that dies or is closed, at work or waiting, takes nobody's turn along", async () => {
  const world = new World(2);
  const vms = times(9, () => world.boot());
  await world.pass(503);
  const atWork = vms.filter((vm) => vm.works);
  const waiting = vms.filter((vm) => !vm.works).slice(0, 3);
  assert.equal(atWork.length, 2);
  for (const vm of [...atWork, ...waiting]) vm.close();
  const left = vms.filter((vm) => !atWork.includes(vm) && !waiting.includes(vm));
  await world.pass(50);
  assert.ok(total(await world.shares(1000, left)) > 0.93 * 2 * 1000);
  assertEven(await world.shares(5000, left), 0.05);
});

test("workers that hang in their turn keep it only for a while", async () => {
  const world = new World(2);
  const vms = times(6, () => world.boot());
  await world.pass(500);
  vms[0].hangs = vms[1].hangs = true;
  await world.pass(4000);
  const shares = await world.shares(5000, vms.slice(2));
  assertEven(shares, 0.1);
  assert.ok(total(shares) > 0.9 * 2 * 5000 && total(shares) < 1.02 * 2 * 5000, `${shares}`);
  assert.equal(total(await world.shares(100, vms.slice(0, 2))), 0);
});

test("while the page hangs the machines go on, and take turns again after", async () => {
  const world = new World(2);
  times(6, () => world.boot());
  await world.pass(500);
  world.hang(true);
  await world.pass(2500);
  const meanwhile = await world.shares(2000);
  assert.ok(meanwhile.every((ms) => ms > 1900), `${meanwhile}`);
  world.hang(false);
  await world.pass(1000);
  let most = 0;
  for (let i = 0; i < 2000; i++) {
    await world.pass(1);
    most = Math.max(most, world.running);
  }
  assert.equal(most, 2);
  assertEven(await world.shares(5000), 0.05);
});

for (const seed of [1, 2, 3, 4, 5, 6]) test(`whatever comes, everybody who wants to run does in the end (seed ${seed})`, async () => {
  let random = seed;
  const below = (n) => {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    return Math.floor((random / 2 ** 32) * n);
  };
  const world = new World(1 + below(3));
  const limit = world.limit;
  const paused = new Set();
  let vms = [];
  const kinds = [undefined, undefined, { work: 0.3, pause: 20 }, { work: 30, pause: 10 }];
  for (let step = 0; step < 1500; step++) {
    const vm = vms[below(vms.length || 1)];
    const what = below(12);
    if (!vm || (what === 0 && vms.length < 9)) vms.push(world.boot(kinds[below(4)]));
    else if (what === 1 && vms.length > 3) {
      vm.close();
      vms = vms.filter((other) => other !== vm);
    } else if (what === 2) {
      vm.pause();
      paused.add(vm);
    } else if (what === 3) {
      vm.start();
      paused.delete(vm);
    } else if (what === 4) {
      // A short pause.
      vm.pause();
      vm.start();
      paused.delete(vm);
    } else if (what < 7) vm.look(below(3));
    else if (what < 10) vm.key();
    await world.pass(below(20));
  }
  while (vms.length < 8) vms.push(world.boot());
  for (const vm of vms) {
    vm.look(0);
    vm.start();
  }
  await world.pass(3000);
  const busy = vms.filter((vm) => vm.busy);
  const shares = await world.shares(8000, busy);
  assertEven(shares, 0.06);
  const all = await world.shares(4000, vms);
  assert.ok(busy.length <= limit || total(all) > 0.93 * limit * 4000, `${all.map(Math.round)} on ${limit}`);
  for (const [i, ms] of all.entries()) assert.ok(ms > 0, `machine ${i} stood still`);
});
