// A worker of the pool: runs slices of any machine, as the run queue in shared memory says (pool/src/queue.rs). It sleeps
// on its bell in that memory, so messages to it must ring the bell too (threads.js).
import { poolClock } from "./clock.js";
import { packError, Tab86Error } from "./errors.js";
import { WORD } from "./layout.js";
import { Machine } from "./machine.js";
import { AFTER, FROM_WORKER, REQUEST } from "./protocol.js";

/** How long to wait at once for a machine that another worker runs: a little more than a slice. */
const HOLD_WAIT_MS = 10;
/** Wasm pages copied at once. */
const COPY_PAGES = 16;
/** Bytes cleared between two looks at the clock. */
const BLOCK = 1 << 16;
/** How long a chore may keep the machines waiting. */
const CHORE_MS = 3;
/** For how long a worker rests at once while the page needs its processor. */
const REST_MS = 1;
/** Stack of the run queue's instance. */
const QUEUE_STACK = 1 << 16;

/**
 * @typedef {object} Place a machine that this worker may run
 * @property {number} generation
 * @property {WebAssembly.Memory} memory
 * @property {Machine | null} machine made when it is first needed
 */

/** @type {Map<number, Place>} */
const places = new Map();
/** @type {{ step: () => boolean, done: () => void }[]} work that is done in small steps between slices */
const chores = [];
const channel = new MessageChannel();
/** @type {any} */ let queue;
/** @type {Int32Array} */ let words;
/** @type {Int32Array} */ let board;
/** @type {WebAssembly.Module} */ let module;
/** @type {() => any} */ let createGlue;
/** @type {() => number} */ let clock;
let me = 0;
/** So many workers run beside a page that shows an answer. */
let most = 0;
/** Messages that were dealt with. */
let received = 0;

/** @param {object} message @param {Transferable[]} [transfer] */
const post = (message, transfer = []) => self.postMessage(message, { transfer });

/** @param {import("./protocol.js").PoolSetup} setup */
async function join(setup) {
  ({ module, worker: me, most } = setup);
  ({ createGlue } = await import(setup.glue));
  queue = createGlue();
  queue.initSync({ module, memory: setup.memory, thread_stack_size: QUEUE_STACK });
  words = new Int32Array(setup.memory.buffer);
  board = new Int32Array(setup.board);
  clock = poolClock(setup.epoch);
  void loop();
}

/** @param {number} worker as the queue's functions return it */
function notify(worker) {
  if (worker >= 0) Atomics.notify(words, queue.queue_bell(worker) >> 2);
}

async function loop() {
  const bell = queue.queue_bell(me) >> 2;
  for (;;) {
    if (Atomics.load(board, 2 * me) !== received) {
      await turn();
      continue;
    }
    if (queue.queue_rests(most, clock())) {
      Atomics.wait(words, bell, Atomics.load(words, bell), REST_MS);
      continue;
    }
    const place = queue.queue_next(me, clock());
    if (place >= 0) slice(place);
    if (chores.length) await chore();
    else if (place < 0) {
      const until = queue.queue_sleep(me, clock());
      // A message that was sent after this look changed the bell.
      if (until >= 0 && Atomics.load(board, 2 * me) === received) {
        Atomics.wait(words, bell, queue.queue_sleep_bell(), Math.max(0, until - clock()));
      }
      queue.queue_awake(me);
    }
  }
}

/** Lets messages in. */
function turn() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(0);
  });
}

/** Marks this worker as busy: one that is for too long is taken for dead. @template T @param {() => T} work @returns {T} */
function busily(work) {
  Atomics.add(board, 2 * me + 1, 1);
  try {
    return work();
  } finally {
    Atomics.add(board, 2 * me + 1, 1);
  }
}

/** @param {number} number of the place */
function slice(number) {
  const place = places.get(number);
  if (!place || place.generation !== queue.queue_generation(number)) {
    // A machine that got the place of a closed one; its memory is on the way to this worker.
    queue.queue_detach(me, number);
    queue.queue_done_ready(number, 0);
    return;
  }
  const began = clock();
  /** @type {number} */
  let next = AFTER.STOPPED;
  try {
    next = busily(() => runSlice(number, place));
  } catch (error) {
    crashed(number, place, error);
  }
  const used = clock() - began;
  let held;
  if (next === AFTER.READY) held = queue.queue_done_ready(number, used);
  else if (next === AFTER.PARKED) held = queue.queue_done_parked(number, used, place.machine?.glue.wake_at() ?? Infinity);
  else held = queue.queue_done_stopped(number, used);
  if (held) Atomics.notify(words, queue.queue_word(number) >> 2);
  notify(queue.queue_share(clock()));
}

/** @param {number} number @param {Place} place */
function runSlice(number, place) {
  const { generation } = place;
  const machine = open(place);
  const next = machine.slice(clock, {
    state: (state, code) => post({ type: FROM_WORKER.STATE, place: number, generation, state, code }),
    drew: () => post({ type: FROM_WORKER.FRAME_READY, place: number, generation }),
  });
  const { view } = machine;
  if (view.hasOutput && view.swap(WORD.WAKE_PAGE, 0)) post({ type: FROM_WORKER.OUTPUT_READY, place: number, generation });
  return next;
}

/** @param {Place} place */
function open(place) {
  return (place.machine ??= new Machine(createGlue(), module, place.memory));
}

/** The machine's state is unknown: nothing of it is called any more. @param {number} number @param {Place} place @param {unknown} error */
function crashed(number, place, error) {
  const { generation } = place;
  post({ type: FROM_WORKER.ERROR, place: number, generation, error: place.machine?.explain(error) ?? packError(error) });
  post({ type: FROM_WORKER.STATE, place: number, generation, state: "crashed" });
  place.machine = null;
}

/** Has a machine for itself, between two slices. @template T @param {number} number @param {(machine: Machine, place: Place) => T} work @returns {T} */
function alone(number, work) {
  const place = places.get(number);
  if (!place || place.generation !== queue.queue_generation(number)) throw new Tab86Error("closed", "The machine was closed.");
  const word = hold(number);
  try {
    return busily(() => work(open(place), place));
  } catch (error) {
    throw place.machine && error instanceof WebAssembly.RuntimeError ? Object.assign(new Error(), place.machine.explain(error)) : error;
  } finally {
    notify(queue.queue_release(number));
    Atomics.notify(words, word);
  }
}

/** Changes what a machine does and tells the page. @param {any} message @param {(machine: Machine) => void} change */
function command({ place: number }, change) {
  return alone(number, (machine, { generation }) => {
    change(machine);
    const state = machine.reportState();
    if (state === "running" || state === "halted") notify(queue.queue_resume(number));
    else queue.queue_stop(number);
    post({ type: FROM_WORKER.STATE, place: number, generation, state });
  });
}

/** @param {{ type: string } & any} message @returns {any} */
function answer(message) {
  const { place: number, generation, memory } = message;
  switch (message.type) {
    case REQUEST.ATTACH:
      places.set(number, { generation, memory, machine: null });
      return queue.queue_attach(me, number);
    case REQUEST.DETACH:
      if (places.get(number)?.generation === generation) places.delete(number);
      return undefined;
    case REQUEST.CREATE:
      return alone(number, ({ glue }) => ({ header: glue.create(message.setup) }));
    case REQUEST.ADOPT:
      return alone(number, ({ glue }) => {
        glue.become_clone();
        return { header: glue.header() };
      });
    case REQUEST.START:
      return command(message, ({ glue }) => glue.start(clock()));
    case REQUEST.PAUSE:
      return command(message, ({ glue }) => glue.pause(clock()));
    case REQUEST.RESET:
      return command(message, ({ glue }) => glue.reset(clock()));
    case REQUEST.READ_MEMORY:
      return alone(number, ({ glue }) => glue.read_memory(message.address, message.length));
    case REQUEST.RAM_HASH:
      return alone(number, ({ glue }) => glue.ram_hash());
    case REQUEST.COPY:
      return alone(number, (machine) => copy(machine, message.target));
    case REQUEST.REMOVE:
      return remove(number);
    case REQUEST.CLEAR:
      return clear(memory);
    default:
      throw new Tab86Error("internal", `Unknown request ${message.type}.`);
  }
}

/** Also for a machine that crashed, or was never made. @param {number} number */
function remove(number) {
  hold(number);
  queue.queue_remove(number);
}

/** Waits until the machine is this worker's alone. @param {number} number @returns {number} the place of its word */
function hold(number) {
  const word = queue.queue_word(number) >> 2;
  while (!queue.queue_hold(number)) {
    if (!queue.queue_exists(number)) throw new Tab86Error("closed", "The machine was closed.");
    Atomics.wait(words, word, Atomics.load(words, word), 1);
  }
  while (queue.queue_running(number)) Atomics.wait(words, word, Atomics.load(words, word), HOLD_WAIT_MS);
  return word;
}

/** Copies what is not zero into a fresh memory. @param {Machine} machine @param {WebAssembly.Memory} target */
function copy(machine, target) {
  const from = machine.memory.buffer;
  const missing = from.byteLength - target.buffer.byteLength;
  if (missing > 0) target.grow(missing / BLOCK);
  const to = new Uint8Array(target.buffer);
  for (const [begin, end] of machine.used(COPY_PAGES)) to.set(new Uint8Array(from, begin, end - begin), begin);
}

/** Whether a block of memory is all zero. @param {Int32Array} block */
function isZero(block) {
  for (let i = 0; i < block.length; i++) if (block[i] !== 0) return false;
  return true;
}

/** Zeroes a memory in small steps. @param {WebAssembly.Memory} memory @returns {Promise<void>} */
function clear(memory) {
  const { buffer } = memory;
  let at = 0;
  const step = () => {
    for (const end = clock() + CHORE_MS; at < buffer.byteLength && clock() < end; at += BLOCK) {
      const block = new Int32Array(buffer, at, BLOCK / 4);
      if (!isZero(block)) block.fill(0);
    }
    return at >= buffer.byteLength;
  };
  return new Promise((done) => chores.push({ step, done: () => done() }));
}

async function chore() {
  if (!chores[0].step()) return;
  chores.shift()?.done();
  // The answer to the page is sent from a task of its own.
  await turn();
}

/** @type {Promise<void> | null} */ let joined = null;

/** @param {number} id @param {() => any} work */
async function reply(id, work) {
  try {
    post({ type: FROM_WORKER.REPLY, id, value: await work() });
  } catch (error) {
    post({ type: FROM_WORKER.REPLY, id, error: packError(error) });
  }
}

self.onmessage = async ({ data: message }) => {
  if (message.type === REQUEST.JOIN) joined = join(message);
  try {
    await joined;
  } finally {
    // A chore is answered when it is done; the loop, which does it, must not wait for that.
    const answered = reply(message.id, () => (message.type === REQUEST.JOIN ? joined : answer(message)));
    if (message.type !== REQUEST.CLEAR) await answered;
    received++;
  }
};
