// The page's end of the shared-memory pool: its workers, its run queue, and the memories of its machines.
import { poolClock, poolEpoch } from "./clock.js";
import { Tab86Error, unpackError } from "./errors.js";
import { FROM_WORKER, REQUEST } from "./protocol.js";
import { startWorker } from "./start-worker.js";

/**
 * @typedef {object} Build the wasm build to run
 * @property {WebAssembly.Module} module
 * @property {string} glue address of its JavaScript
 * @property {URL} folder where the workers' scripts lie
 *
 * @typedef {object} Tenant a machine as its page half wants to hear of it
 * @property {() => void} outputReady @property {() => void} frameReady
 * @property {(state: import("./protocol.js").State, code?: number) => void} state
 * @property {(error: Tab86Error) => void} error
 *
 * @typedef {object} Place
 * @property {number} number @property {number} generation @property {WebAssembly.Memory} memory @property {Tenant} tenant
 * @property {boolean} lost a worker died in it, which may go on writing for a moment: its memory is for nobody else
 *
 * @typedef {object} Thread
 * @property {Worker} worker
 * @property {Map<number, { place?: number, resolve: (value: any) => void, reject: (error: Error) => void }>} waiting
 * @property {{ count: number, since: number }} busy what the watchdog saw last
 * @property {boolean} ended it failed and is about to be replaced
 */

/** The run queue's own memory: its module's data and a small stack for each worker. */
const QUEUE_PAGES = 256;
const QUEUE_STACK = 1 << 16;
const PAGE = 65536;
const MIB = 2 ** 20;
/** Memories are made in these steps, so that one fits another machine. */
const STEP = 64 * MIB;
const MAX_PAGES = 65536;
/** More than what the module itself asks for: its stack and data. */
const INITIAL_PAGES = 256;
/** A worker that is in one slice for so long is taken for dead: slices take 6 ms. */
const DEAD_MS = 30_000;
const WATCH_MS = 2_000;
/** How long a worker may go on after it was ended: to the end of its slice, or, when it hangs, until the browser uses force. */
const ENDING_MS = 250;
const FORCED_MS = 2_500;
/** How long workers and memories are kept when there is no machine. */
const LINGER_MS = 3_000;

/** Workers that share machines. */
export class Threads {
  #build;
  #limit;
  #epoch = poolEpoch();
  #clock = poolClock(this.#epoch);
  #queue;
  #queueMemory;
  #words;
  #board;
  /** @type {Thread[]} */ #threads = [];
  /** @type {Map<number, Place>} */ #places = new Map();
  /** @type {WebAssembly.Memory[]} zeroed, for the next machines */ #free = [];
  /** @type {Set<Promise<unknown>>} */ #leaving = new Set();
  #next = 1;
  #watchdog = 0;
  #linger = 0;

  /** @param {Build} build @param {any} createGlue @param {number} limit most workers */
  constructor(build, createGlue, limit) {
    this.#build = build;
    this.#queue = createGlue();
    this.#queueMemory = new WebAssembly.Memory({ initial: QUEUE_PAGES, maximum: 2 * QUEUE_PAGES, shared: true });
    this.#queue.initSync({ module: build.module, memory: this.#queueMemory, thread_stack_size: QUEUE_STACK });
    this.#words = new Int32Array(this.#queueMemory.buffer);
    this.#limit = Math.min(limit, this.#queue.queue_workers());
    this.#board = new SharedArrayBuffer(8 * this.#limit);
  }

  /** Workers that run now. */
  get count() {
    return this.#threads.length;
  }

  /** Places in the run queue. */
  get capacity() {
    return this.#queue.queue_vms();
  }

  /** Milliseconds of the pool's clock. */
  now() {
    return this.#clock();
  }

  /**
   * Takes a place in the run queue and a memory for a machine, and tells the workers.
   * @param {number} bytes that the memory may need @param {Tenant} tenant
   * @returns {Promise<Place>}
   */
  async admit(bytes, tenant) {
    // What just closed is about to give its memory back.
    await Promise.all(this.#leaving);
    window.clearTimeout(this.#linger);
    const number = this.#queue.queue_add();
    if (number < 0) throw new Tab86Error("too-many-vms", `A pool has room for ${this.capacity} machines: close one first.`);
    try {
      const place = { number, generation: this.#queue.queue_generation(number), memory: this.#takeMemory(bytes), tenant, lost: false };
      this.#places.set(number, place);
      const before = this.#threads.length;
      if (before < Math.min(this.#limit, this.#places.size)) this.#addThread(before);
      const others = this.#threads.slice(0, before).map((_, worker) => this.#attach(worker, place));
      await Promise.all([...others, before < this.#threads.length && this.#attachAll(before)]);
      return place;
    } catch (error) {
      this.#places.delete(number);
      if (this.#queue.queue_hold(number)) this.#queue.queue_remove(number);
      throw error;
    }
  }

  /** @param {number} bytes */
  #takeMemory(bytes) {
    const maximum = Math.min(MAX_PAGES, (Math.ceil(bytes / STEP) * STEP) / PAGE);
    const at = this.#free.findIndex((memory) => memoryMaximum.get(memory) === maximum);
    if (at >= 0) return this.#free.splice(at, 1)[0];
    // Another size helps nobody, and its pages are wanted now.
    this.#free = [];
    try {
      const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true });
      memoryMaximum.set(memory, maximum);
      return memory;
    } catch {
      throw new Tab86Error("out-of-memory", `The browser has no ${Math.ceil((maximum * PAGE) / MIB)} MiB for another machine: close one, or give it less memory.`);
    }
  }

  /**
   * The machine is closed: nobody runs it any more, and its memory is for the next one.
   * @param {Place} place
   */
  dismiss(place) {
    const gone = this.#dismiss(place).catch(() => {});
    this.#leaving.add(gone);
    return gone.finally(() => {
      this.#leaving.delete(gone);
      if (this.#places.size === 0) this.#lingerOn();
    });
  }

  /** @param {Place} place */
  async #dismiss(place) {
    const { number, generation, memory } = place;
    await this.request(number, REQUEST.REMOVE);
    this.#places.delete(number);
    await Promise.all(this.#threads.map((_, worker) => this.#ask(worker, { type: REQUEST.DETACH, place: number, generation })));
    if (place.lost) return;
    await this.#ask(number % this.#threads.length, { type: REQUEST.CLEAR, memory });
    if (this.#threads.length) this.#free.push(memory);
  }

  /** Without machines, workers and memories go after a while. */
  #lingerOn() {
    window.clearTimeout(this.#linger);
    this.#linger = window.setTimeout(() => {
      if (this.#places.size === 0) this.#stop();
    }, LINGER_MS);
  }

  #stop() {
    for (const [worker, { worker: thread }] of this.#threads.entries()) {
      thread.terminate();
      this.#queue.queue_abandon(worker);
    }
    this.#threads = [];
    this.#free = [];
    window.clearInterval(this.#watchdog);
    this.#watchdog = 0;
  }

  async close() {
    await Promise.all(this.#leaving);
    window.clearTimeout(this.#linger);
    this.#stop();
  }

  /**
   * Asks a worker for something about a machine.
   * @param {number} place @param {string} type a REQUEST @param {object} [values] @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  request(place, type, values = {}, transfer = []) {
    // Spread over the workers: each waits for the machine, if another runs it, no longer than a slice.
    return this.#ask(place % this.#threads.length, { type, place, ...values }, transfer);
  }

  /** @param {number} worker @param {{ type: string, place?: number, [name: string]: unknown }} message @param {Transferable[]} [transfer] @returns {Promise<any>} */
  #ask(worker, message, transfer = []) {
    const thread = this.#threads[worker];
    if (!thread) return Promise.reject(new Tab86Error("closed", "The pool was closed."));
    if (thread.ended) return this.#later(worker, message, transfer);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      thread.waiting.set(id, { place: message.place, resolve, reject });
      const board = new Int32Array(this.#board);
      Atomics.add(board, 2 * worker, 1);
      thread.worker.postMessage({ ...message, id }, transfer);
      this.#queue.queue_ring(worker);
      this.#notify(worker);
    });
  }

  /** Asks the worker that takes the place of one that is ending. @param {number} worker @param {any} message @param {Transferable[]} transfer */
  async #later(worker, message, transfer) {
    await new Promise((resolve) => setTimeout(resolve, 2 * ENDING_MS));
    return this.#ask(worker, message, transfer);
  }

  /** @param {number} worker */
  #notify(worker) {
    if (worker >= 0) Atomics.notify(this.#words, this.#queue.queue_bell(worker) >> 2);
  }

  /** A machine has input. @param {Place} place @param {boolean} interactive */
  wake(place, interactive) {
    if (this.#current(place)) this.#notify(this.#queue.queue_wake(place.number, this.#clock(), interactive));
  }

  /** @param {Place} place @param {number} priority a value of PRIORITIES */
  setPriority(place, priority) {
    if (this.#current(place)) this.#queue.queue_set_priority(place.number, priority);
  }

  /** @param {Place} place */
  #current(place) {
    return this.#places.get(place.number) === place;
  }

  /** @param {number} worker @param {Place} place */
  #attach(worker, { number, generation, memory }) {
    return this.#ask(worker, { type: REQUEST.ATTACH, place: number, generation, memory });
  }

  /** @param {number} worker a new one */
  #attachAll(worker) {
    return Promise.all([...this.#places.values()].map((place) => this.#attach(worker, place)));
  }

  /** @param {number} number of the worker */
  #addThread(number) {
    const worker = startWorker(new URL("pool-worker.js", this.#build.folder), `tab86 worker ${number}`);
    /** @type {Thread} */
    const thread = { worker, waiting: new Map(), busy: { count: 0, since: 0 }, ended: false };
    this.#threads[number] = thread;
    new Int32Array(this.#board).fill(0, 2 * number, 2 * number + 2);
    worker.onmessage = ({ data }) => this.#receive(thread, data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#replace(number, thread, event.message || "its script could not be loaded");
    };
    const { module, glue } = this.#build;
    // With fewer workers than processors there is always one for the page.
    const most = Math.min(this.#limit, (navigator.hardwareConcurrency || 1) - 1);
    const setup = { module, glue, memory: this.#queueMemory, board: this.#board, worker: number, most, epoch: this.#epoch };
    void this.#ask(number, { type: REQUEST.JOIN, ...setup }).catch((error) => this.#replace(number, thread, error.message));
    this.#watchdog ||= window.setInterval(() => this.#watch(), WATCH_MS);
  }

  /** @param {Thread} thread @param {any} message */
  #receive(thread, message) {
    if (message.type === FROM_WORKER.REPLY) {
      const waiting = thread.waiting.get(message.id);
      thread.waiting.delete(message.id);
      if (message.error) waiting?.reject(unpackError(message.error));
      else waiting?.resolve(message.value);
      return;
    }
    const place = this.#places.get(message.place);
    // A message of a machine that was closed meanwhile.
    if (!place || place.generation !== message.generation) return;
    if (message.type === FROM_WORKER.OUTPUT_READY) place.tenant.outputReady();
    else if (message.type === FROM_WORKER.FRAME_READY) place.tenant.frameReady();
    else if (message.type === FROM_WORKER.STATE) place.tenant.state(message.state, message.code);
    else if (message.type === FROM_WORKER.ERROR) place.tenant.error(unpackError(message.error));
  }

  #watch() {
    const board = new Int32Array(this.#board);
    const now = this.#clock();
    for (const [number, thread] of this.#threads.entries()) {
      const { busy } = thread;
      const count = Atomics.load(board, 2 * number + 1);
      // Even: it does nothing. A page that itself slept has not watched.
      const slept = now - busy.since > DEAD_MS + 2 * WATCH_MS;
      if (count !== busy.count || count % 2 === 0 || slept) Object.assign(busy, { count, since: now });
      else if (now - busy.since > DEAD_MS) this.#replace(number, thread, "it hung", FORCED_MS);
    }
  }

  /**
   * A worker died: what it had in hand is lost, all else goes on with a new one.
   * @param {number} number @param {Thread} thread @param {string} why @param {number} [ending] how long it may go on
   */
  #replace(number, thread, why, ending = ENDING_MS) {
    if (this.#threads[number] !== thread || thread.ended) return;
    thread.ended = true;
    for (const place of this.#places.keys()) this.#queue.queue_detach(number, place);
    thread.worker.terminate();
    const error = new Tab86Error("internal", `A worker of the emulator failed: ${why}.`);
    // Requests that it may have died of, or in the middle of.
    const lost = [...thread.waiting.values()].map(({ place, reject }) => {
      reject(error);
      return place ?? -1;
    });
    // A thread may go on for a moment after `terminate`: until then its machine may come back whole.
    window.setTimeout(() => this.#bury(number, thread, lost, error), ending);
  }

  /** @param {number} number @param {Thread} thread @param {number[]} lost places @param {Tab86Error} error */
  #bury(number, thread, lost, error) {
    if (this.#threads[number] !== thread) return;
    const worked = new Int32Array(this.#board)[2 * number + 1] !== 0;
    const all = worked ? [...lost, this.#queue.queue_abandon(number)] : [...this.#places.keys()];
    for (const place of new Set(all)) this.#lose(place, error);
    for (const worker of this.#threads.keys()) this.#notify(worker);
    // One that never worked would fail again at once.
    if (!worked) return this.#stop();
    this.#addThread(number);
    void this.#attachAll(number).catch(() => {});
  }

  /** @param {number} place @param {Tab86Error} error */
  #lose(place, error) {
    const lost = this.#places.get(place);
    if (!lost) return;
    const { tenant } = lost;
    lost.lost = true;
    this.#queue.queue_stop(place);
    this.#notify(this.#queue.queue_release(place));
    Atomics.notify(this.#words, this.#queue.queue_word(place) >> 2);
    tenant.error(error);
    tenant.state("crashed");
  }
}

/** What each memory may grow to, in pages: JavaScript can't ask it. @type {WeakMap<WebAssembly.Memory, number>} */
const memoryMaximum = new WeakMap();
