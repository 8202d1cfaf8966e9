// What a tab holds while the page lives: its machine from a start to its end and to the next start, its terminal, what
// is to be said about it.
import { SerialTerminal } from "../serial-terminal.js";
import { isAlive } from "./figures.js";

/**
 * @typedef {import("/pkg/tab86.js").Vm} Vm
 * @typedef {import("/pkg/tab86.js").VmOptions} VmOptions
 * @typedef {import("/pkg/tab86.js").Pool} Pool
 * @typedef {import("./figures.js").TabState} TabState
 * @typedef {{ width: number, height: number, aspect: number, text: boolean }} Mode a video mode
 * @typedef {{ text: string, kind: "error" | "note" }} Notice
 *
 * @typedef {Vm & {
 *   clone?: (options?: { canvas?: HTMLCanvasElement | null }) => Promise<Vm>,
 *   priority?: "visible" | "audible" | "background",
 *   memory?: number,
 * }} LiveVm a machine, with what not every build of the package has
 */

/** What is said when a machine comes to an end. @type {Partial<Record<TabState, string>>} */
const ENDS = {
  halted: "The guest halted with interrupts off: it does nothing any more. Reset starts it again.",
  shutdown: "The guest crashed (a triple fault shut the processor down). Reset starts it again.",
  off: "The guest switched the machine off. Reset starts it again.",
};

const DEFAULT_MEMORY = 256 * 2 ** 20;

/** The machine of one tab. */
export class Machine {
  /** @type {LiveVm | null} */ vm = null;
  /** The visitor's files, which only this page has. @type {VmOptions | null} */ files = null;
  /** @type {Notice | null} */ notice = null;
  /** Which side of the machine its tab shows. @type {"screen" | "serial"} */ side = "screen";
  /** @type {Mode | null} */ mode = null;
  /** Did the machine run on this page before? */
  ran = false;
  /** Lights; no network light for a machine without a card. */
  lights = { disk: false, network: /** @type {boolean | null} */ (null) };
  serial = new SerialTerminal(() => this.vm);
  /** @type {{ mips: number, idle: number } | null} the last figures of a machine that has any */ stats = null;
  #changed;
  /** @type {Promise<void> | null} one start at a time */ #starting = null;
  #memory = DEFAULT_MEMORY;
  #accesses = 0;
  #frames = 0;
  /** What was said about a relay that is away. @type {Notice | null} */ #away = null;
  /** Should it stand still while nobody looks? */ #still = false;
  /** It does, and not because somebody asked for it. */ #pausedByPage = false;
  #following = false;

  /** @param {() => void} changed called when anything but figures changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** @returns {TabState} */
  get state() {
    if (this.vm) return this.vm.state;
    return this.#starting ? "loading" : "off";
  }

  /** Bytes that it takes now. */
  get memory() {
    return this.vm ? (this.vm.memory ?? this.#memory) : 0;
  }

  get canClone() {
    return typeof this.vm?.clone === "function" && this.state !== "crashed";
  }

  /** Makes the machine and starts it. @param {Pool} pool @param {VmOptions} options */
  async start(pool, options) {
    if (this.vm || this.#starting) return;
    const starting = this.#make(pool, options);
    this.#starting = starting;
    this.notice = null;
    this.#changed();
    try {
      await starting;
    } finally {
      if (this.#starting === starting) this.#starting = null;
      this.#changed();
    }
  }

  /** @param {Pool} pool @param {VmOptions} options */
  async #make(pool, options) {
    // Not before `start` knows this promise.
    await null;
    const mine = this.#starting;
    const vm = await pool.createVm({ ...options, canvas: null });
    // Closed while it was loading.
    if (this.#starting !== mine) return vm.close();
    this.#memory = options.memory ?? DEFAULT_MEMORY;
    this.adopt(vm);
    await vm.start();
  }

  /** Takes over a machine that is there. @param {Vm} vm */
  adopt(vm) {
    this.vm = vm;
    this.#starting = null;
    this.ran = true;
    this.mode = null;
    this.#accesses = 0;
    this.#frames = 0;
    this.#away = null;
    this.#pausedByPage = false;
    this.lights = { disk: false, network: null };
    this.serial.clear();
    const mine = () => this.vm === vm;
    vm.addEventListener("serial", ({ port, data }) => port === 0 && mine() && this.serial.receive(data));
    vm.addEventListener("screen", ({ resized, width, height, aspect, text }) => {
      const last = this.mode;
      const same = last?.width === width && last.height === height && last.aspect === aspect && last.text === text;
      if (!mine() || !resized || same) return;
      this.mode = { width, height, aspect, text };
      this.#changed();
    });
    vm.addEventListener("state", ({ state }) => {
      if (!mine()) return;
      const end = ENDS[state];
      if (end) this.notice = { text: end, kind: "note" };
      this.#changed();
    });
    vm.addEventListener("error", ({ error }) => mine() && this.fail(error));
    vm.addEventListener("network", ({ state, message }) => mine() && this.#tellNetwork(state, message));
    this.#changed();
  }

  /** @param {import("/pkg/tab86.js").NetworkState} state @param {string} message */
  #tellNetwork(state, message) {
    const shown = this.#away !== null && this.notice === this.#away;
    if (state === "down" && this.vm?.network?.relay) {
      // One that the visitor closed stays closed until the relay was back.
      if (this.#away && !shown) return;
      this.notice = this.#away = { text: message, kind: "note" };
    } else if (state !== "connecting") {
      if (shown) this.notice = null;
      this.#away = null;
    }
    this.#changed();
  }

  /** Keeps what went wrong for the tab to say. @param {Error} error */
  fail(error) {
    this.notice = { text: error.message, kind: "error" };
    this.#changed();
  }

  /** A machine of its own that goes on from this one's state. @returns {Promise<Vm>} */
  async clone() {
    if (!this.vm?.clone) throw new Error("This build of tab86 cannot clone machines.");
    return this.vm.clone({ canvas: null });
  }

  /** @param {Machine} original */
  inherit(original) {
    this.#memory = original.#memory;
    this.files = original.files;
  }

  /** Reads figures and lights. */
  tick() {
    if (!this.vm || this.vm.state === "closed") return void (this.stats = null);
    const { mips, idle, diskReads, diskWrites } = this.vm.stats();
    this.stats = { mips, idle };
    const accesses = diskReads + diskWrites;
    const counters = this.vm.network?.counters;
    const frames = counters ? counters.framesIn + counters.framesOut : 0;
    this.lights = { disk: accesses !== this.#accesses, network: counters ? frames !== this.#frames : null };
    this.#accesses = accesses;
    this.#frames = frames;
  }

  /** Pauses a running machine until it is told otherwise; one that was paused before is left alone. @param {boolean} still */
  async standStill(still) {
    this.#still = still;
    // One request at a time: the wish may change while the last one is on its way.
    if (this.#following) return;
    this.#following = true;
    try {
      while (this.vm && this.#still !== this.#pausedByPage) {
        if (this.#still && this.vm.state !== "running") return;
        this.#pausedByPage = this.#still;
        await (this.#still ? this.vm.pause() : this.vm.start());
      }
    } finally {
      this.#following = false;
    }
  }

  get isAlive() {
    return this.vm !== null && isAlive(this.vm.state);
  }

  /** Gives the machine's memory back; it can start again. */
  async powerOff() {
    const { vm } = this;
    this.vm = null;
    this.#starting = null;
    this.stats = null;
    this.notice = null;
    this.lights = { disk: false, network: null };
    this.serial.clear();
    await vm?.close();
    this.#changed();
  }

  async dispose() {
    await this.powerOff();
    this.serial.dispose();
  }
}
