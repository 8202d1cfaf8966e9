// A simulated page whose machines take turns: the real turns.js with the real run queue, the real turn-taker.js, and workers,
// messages and time that are made up.
import { readFileSync } from "node:fs";
import { TurnTaker } from "../../../pkg/lib/turn-taker.js";
import { Seat, Turns } from "../../../pkg/lib/turns.js";

const folder = new URL("../../../build/wasm/plain/", import.meta.url);
const { createGlue } = await import(new URL("tab86.js", folder).href);
const module = new WebAssembly.Module(readFileSync(new URL("tab86_bg.wasm", folder)));

/** How long a message takes, in ms. */
export const DELAY = 0.2;
const SLICE = 6;

/** A page, and the time in it. */
export class World {
  now = 0;
  /** @type {{ at: number, work: () => void, stopped: boolean }[]} */ #events = [];
  /** What the page is to hear once it hangs no more. @type {(() => void)[] | null} */ #unheard = null;
  /** Messages about turns. */
  messages = 0;
  /** Machines that run a slice now. */
  running = 0;
  /** @type {SimulatedVm[]} */ vms = [];

  /** @param {number} limit machines that run at a time */
  constructor(limit) {
    this.limit = limit;
    const open = () => {
      const glue = createGlue();
      glue.initSync({ module });
      return glue;
    };
    this.turns = new Turns(limit, open, () => this.now);
  }

  /** @param {() => void} work @param {number} ms @returns {() => void} stops it */
  later = (work, ms) => {
    const event = { at: this.now + ms, work, stopped: false };
    const next = this.#events.findIndex(({ at }) => at > event.at);
    this.#events.splice(next < 0 ? this.#events.length : next, 0, event);
    return () => void (event.stopped = true);
  };

  /** @param {number} ms @returns {Promise<void>} */
  sleep = (ms) => new Promise((resolve) => this.later(resolve, ms));

  /** A message to the page. @param {() => void} heard */
  toPage(heard) {
    this.messages++;
    this.later(() => (this.#unheard ? this.#unheard.push(heard) : heard()), DELAY);
  }

  /** The page hangs, or goes on and hears what came meanwhile. */
  hang(hangs) {
    const heard = this.#unheard ?? [];
    this.#unheard = hangs ? [] : null;
    for (const work of heard) work();
  }

  /** Lets time pass. @param {number} ms */
  async pass(ms) {
    const end = this.now + ms;
    while (this.#events.length && this.#events[0].at <= end) {
      const { at, work, stopped } = this.#events.shift();
      if (stopped) continue;
      this.now = at;
      work();
      // What was waited for goes on.
      await new Promise(setImmediate);
    }
    this.now = end;
  }

  /** @param {Behaviour} [behaviour] */
  boot(behaviour) {
    const vm = new SimulatedVm(this, behaviour);
    this.vms.push(vm);
    vm.start();
    return vm;
  }

  /** What each of these machines ran within so many milliseconds. @param {number} ms @param {SimulatedVm[]} [vms] */
  async shares(ms, vms = this.vms) {
    const before = vms.map(({ ran }) => ran);
    await this.pass(ms);
    return vms.map(({ ran }, i) => ran - before[i]);
  }
}

/**
 * @typedef {object} Behaviour
 * @property {number} [work] milliseconds in one go @property {number} [pause] between two of them; without it: always busy
 */

/** A machine in a worker as vm-worker.js has it, and its link. */
export class SimulatedVm {
  #world;
  #behaviour;
  #runs = false;
  #looping = false;
  #dead = false;
  #wake = () => {};
  /** The next slice never ends. */
  hangs = false;
  /** It is in a slice. */
  works = false;
  /** Milliseconds in slices. */
  ran = 0;
  /** When slices began. @type {number[]} */ begun = [];
  /** When its guest last woke by itself, and how long that took to begin. @type {number[]} */ delays = [];
  input = 0;

  /** @param {World} world @param {Behaviour} [behaviour] */
  constructor(world, behaviour = {}) {
    this.#world = world;
    this.#behaviour = behaviour;
    this.seat = new Seat((type, values) => {
      world.messages++;
      world.later(() => !this.#dead && this.#hear(type, values), DELAY);
    });
    this.taker = new TurnTaker(() => world.now, (report) => world.toPage(() => world.turns.hear(this.seat, report)), world.later);
  }

  get busy() {
    return this.#behaviour.work === undefined;
  }

  /** Tells the page of a state. @param {boolean} runs */
  #state(runs) {
    this.#world.toPage(() => !this.#dead && this.#world.turns.setRunning(this.seat, runs));
  }

  start() {
    this.#world.later(() => {
      if (this.#dead) return;
      this.#runs = true;
      this.#state(true);
      if (!this.#looping) void this.#loop();
      this.#wake();
    }, DELAY);
  }

  pause() {
    this.#world.later(() => {
      if (this.#dead) return;
      this.#runs = false;
      this.#state(false);
      this.taker.cancel();
      this.#wake();
    }, DELAY);
  }

  /** The page ends its worker, or hears that it died. */
  close() {
    this.#dead = true;
    this.#runs = false;
    this.#world.turns.setRunning(this.seat, false);
  }

  /** @param {number} priority */
  look(priority) {
    this.#world.turns.setPriority(this.seat, priority);
  }

  key() {
    this.#world.later(() => {
      this.input++;
      this.#wake();
    }, DELAY);
    this.#world.turns.wake(this.seat, true);
  }

  #hear(type, values) {
    if (type === "turn") {
      this.taker.give(values);
      if (this.#looping) this.#wake();
      else this.taker.rest();
    } else if (type === "yield") this.taker.yields();
    else this.taker.free();
  }

  async #loop() {
    const world = this.#world;
    const { work = Infinity, pause = 0 } = this.#behaviour;
    this.#looping = true;
    let left = work;
    let woken = world.now;
    while (this.#runs) {
      await this.taker.wait();
      if (!this.#runs) break;
      if (left === work) this.delays.push(world.now - woken);
      const ms = Math.min(SLICE, left);
      this.begun.push(world.now);
      world.running++;
      this.works = true;
      if (this.hangs) await new Promise(() => {});
      await world.sleep(ms);
      world.running--;
      this.works = false;
      this.taker.ran(ms);
      this.ran += ms;
      left -= ms;
      if (left > 0) {
        if (this.taker.asks) await world.sleep(0.02);
        continue;
      }
      this.taker.rest();
      left = work;
      await new Promise((resolve) => {
        const stop = world.later(resolve, pause);
        this.#wake = () => {
          stop();
          resolve(undefined);
        };
      });
      woken = world.now;
      this.#wake = () => {};
    }
    this.taker.rest();
    this.#looping = false;
  }
}
