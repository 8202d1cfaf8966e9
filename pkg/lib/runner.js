// The worker's loop: runs one VM in slices, sleeps when it is idle, and draws when the page can show it.
import { COUNTER, WORD } from "./layout.js";
import { SLICE } from "./protocol.js";

/** Milliseconds that a slice should take: short enough for smooth input and screen, long enough to cost nothing. */
const SLICE_MS = 6;
const MIN_BUDGET = 20_000;
const MAX_BUDGET = 50_000_000;
/** No two drawings within this time. */
const DRAW_MS = 15;
/** How often the screen is drawn although nobody asks, so that waiting for a text works in a hidden tab. */
const DRAW_UNASKED_MS = 250;
/** The longest sleep: a text cursor blinks every 267 ms. */
const MAX_SLEEP_MS = 120;
/** Up to here a sleep blocks the thread: a timer of the event loop would be too coarse. */
const SHORT_SLEEP_MS = 1;
/** Messages are looked at least this often. */
const YIELD_MS = 8;
/** The window of the load figures. */
const LOAD_MS = 500;

/**
 * @typedef {object} SlicedVm the part of WasmVm that the loop uses
 * @property {(budget: number, nowMs: number) => number} run_slice
 * @property {() => number} sleep_ms
 * @property {() => number} exit_code
 * @property {() => boolean} render
 * @property {(kips: number, idle: number) => void} set_load
 *
 * @typedef {object} Hooks
 * @property {() => void} afterSlice output, chunks
 * @property {() => void} drawn a new frame lies in memory
 * @property {(state: import("./protocol.js").State, code?: number) => void} state
 * @property {(error: unknown) => void} crashed
 */

/** Runs a VM. */
export class Runner {
  #vm;
  #memory;
  #shared;
  #hooks;
  /** @type {import("./protocol.js").State} */ #state = "stopped";
  #looping = false;
  #budget = 500_000;
  /** The host's time that the guest hasn't seen: it was paused. */
  #clockOffset = 0;
  #pausedAt = 0;
  #drawnAt = -Infinity;
  #ranSinceDrawing = true;
  #yieldedAt = 0;
  #load = { since: performance.now(), slept: 0, instructions: 0n };
  #channel = new MessageChannel();
  /** @type {(() => void) | null} */ #resume = null;
  /** @type {(() => void) | null} */ #wakeUp = null;

  /** @param {SlicedVm} vm @param {import("./rings.js").VmMemory} memory @param {boolean} shared @param {Hooks} hooks */
  constructor(vm, memory, shared, hooks) {
    this.#vm = vm;
    this.#memory = memory;
    this.#shared = shared;
    this.#hooks = hooks;
    this.#pausedAt = performance.now();
    this.#clockOffset = this.#pausedAt;
    this.#channel.port1.onmessage = () => this.#resume?.();
  }

  /** Starts, or goes on after a pause. A machine that ended must be reset first. */
  start() {
    if (this.#state !== "stopped" && this.#state !== "paused") return;
    if (this.#state === "paused") this.#clockOffset += performance.now() - this.#pausedAt;
    else this.#clockOffset = performance.now();
    this.#setState("running");
    this.#startWindow();
    // A loop that a short pause did not end yet just goes on.
    if (!this.#looping) this.#loop().catch((error) => this.#crash(error));
  }

  /** Stops after the running slice. */
  pause() {
    if (this.#state !== "running" && this.#state !== "halted") return;
    this.#pausedAt = performance.now();
    this.#setState("paused");
    this.wake();
  }

  /** After the machine's reset: runs again if it had ended. */
  restarted() {
    if (this.#state === "halted") this.#setState("running");
    else if (this.#state === "shutdown" || this.#state === "off") {
      // The time since then is as lost as in a pause.
      this.#state = "paused";
      this.start();
    }
    this.wake();
  }

  /** Ends a sleep. */
  wake() {
    this.#memory.ring();
    this.#wakeUp?.();
  }

  async #loop() {
    this.#looping = true;
    while (this.#state === "running" || this.#state === "halted") {
      // Read before the slice takes the input: what comes later rings again and is not slept over.
      const bell = Atomics.load(this.#memory.words, WORD.DOORBELL);
      const began = performance.now();
      const status = this.#vm.run_slice(this.#budget, began - this.#clockOffset);
      const took = performance.now() - began;
      this.#ranSinceDrawing = true;
      if (status === SLICE.BUDGET) this.#adapt(took);
      this.#hooks.afterSlice();
      this.#draw(false);
      if (!(await this.#next(status, bell))) break;
    }
    this.#looping = false;
  }

  /** What follows a slice; resolves to false at the end of the run. @param {number} status @param {number} bell */
  async #next(status, bell) {
    if (status === SLICE.BUDGET) {
      if (this.#state === "halted") this.#setState("running");
      await this.#yield();
    } else if (status === SLICE.HALTED || status === SLICE.BLOCKED || status === SLICE.DEAD) {
      // A pause that came during the slice stays.
      if (this.#state !== "paused") this.#setState(status === SLICE.DEAD ? "halted" : "running");
      await this.#sleep(status === SLICE.HALTED ? this.#vm.sleep_ms() : MAX_SLEEP_MS, bell);
    } else {
      this.#pausedAt = performance.now();
      this.#draw(true);
      const ended = status === SLICE.POWER_OFF || status === SLICE.DEBUG_EXIT ? "off" : "shutdown";
      this.#setState(ended, status === SLICE.DEBUG_EXIT ? this.#vm.exit_code() : undefined);
      return false;
    }
    this.#measure();
    return true;
  }

  /** @param {number} took milliseconds of a slice that used its budget up */
  #adapt(took) {
    const ideal = (this.#budget * SLICE_MS) / Math.max(took, 0.05);
    const next = Math.min(ideal, this.#budget * 2);
    this.#budget = Math.round(Math.min(MAX_BUDGET, Math.max(MIN_BUDGET, (this.#budget + next) / 2)));
  }

  /** @param {boolean} anyway */
  #draw(anyway) {
    const now = performance.now();
    const age = now - this.#drawnAt;
    const due = this.#memory.get(WORD.FRAME_WANTED) ? age >= DRAW_MS : age >= DRAW_UNASKED_MS;
    if (!due && !anyway) return;
    this.#drawnAt = now;
    this.#ranSinceDrawing = false;
    if (this.#vm.render()) {
      this.#memory.set(WORD.FRAME_WANTED, 0);
      this.#hooks.drawn();
    }
  }

  /** @param {number} ms @param {number} bell */
  async #sleep(ms, bell) {
    const began = performance.now();
    // What the guest drew in its last slice appears although it sleeps for long.
    const drawing = this.#ranSinceDrawing ? Math.max(1, this.#drawnAt + DRAW_MS - began) : Infinity;
    const time = Math.min(ms, MAX_SLEEP_MS, drawing);
    if (this.#shared && time <= SHORT_SLEEP_MS) {
      Atomics.wait(this.#memory.words, WORD.DOORBELL, bell, Math.max(time, 0));
      this.#load.slept += performance.now() - began;
      if (performance.now() - this.#yieldedAt > YIELD_MS) await this.#yield();
      return;
    }
    if (this.#shared && "waitAsync" in Atomics) {
      const wait = Atomics.waitAsync(this.#memory.words, WORD.DOORBELL, bell, time);
      if (wait.async) await wait.value;
      else await this.#yield();
    } else if (Atomics.load(this.#memory.words, WORD.DOORBELL) === bell) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, time);
        this.#wakeUp = () => {
          clearTimeout(timer);
          resolve(undefined);
        };
      });
      this.#wakeUp = null;
    } else {
      await this.#yield();
    }
    this.#yieldedAt = performance.now();
    this.#load.slept += this.#yieldedAt - began;
  }

  /** Lets messages in. */
  #yield() {
    this.#yieldedAt = performance.now();
    return /** @type {Promise<void>} */ (
      new Promise((resolve) => {
        this.#resume = resolve;
        this.#channel.port2.postMessage(0);
      })
    );
  }

  #startWindow() {
    this.#load = { since: performance.now(), slept: 0, instructions: this.#memory.count(COUNTER.INSTRUCTIONS) };
  }

  #measure() {
    const span = performance.now() - this.#load.since;
    if (span < LOAD_MS) return;
    const instructions = Number(this.#memory.count(COUNTER.INSTRUCTIONS) - this.#load.instructions);
    // A reset counts from zero again.
    this.#vm.set_load(Math.max(0, Math.round(instructions / span)), Math.round((1000 * this.#load.slept) / span));
    this.#startWindow();
  }

  /** @param {import("./protocol.js").State} state @param {number} [code] */
  #setState(state, code) {
    if (state === this.#state) return;
    this.#state = state;
    if (state !== "running" && state !== "halted") this.#vm.set_load(0, 0);
    this.#hooks.state(state, code);
  }

  /** @param {unknown} error */
  #crash(error) {
    // The instance's state is unknown after a trap: nothing of it is called any more.
    this.#state = "crashed";
    this.#hooks.crashed(error);
    this.#hooks.state("crashed");
  }
}
