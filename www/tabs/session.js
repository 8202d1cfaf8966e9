// The machines of all tabs over one pool: opening, starting, cloning, closing (and taking that back), and who is seen.
import { Machine } from "./machine.js";
import { total } from "./figures.js";

/**
 * @typedef {import("./machine.js").Pool} Pool
 * @typedef {import("./machine.js").Vm} Vm
 * @typedef {import("./machine.js").VmOptions} VmOptions
 * @typedef {import("./tab-list.js").Tab} Tab
 * @typedef {import("./tab-list.js").TabList} TabList
 *
 * @typedef {object} Host what the session needs of the page
 * @property {() => Promise<Pool>} createPool
 * @property {(tab: Tab, files: VmOptions | null) => VmOptions} optionsOf throws a sentence when the tab cannot start
 * @property {HTMLCanvasElement} canvas shows the machine of the tab that is seen
 */

/** Codes of a pool that has no room. */
const NO_ROOM = ["too-many-vms", "out-of-memory"];

/** The machines of the page. */
export class Session {
  #list;
  #host;
  /** @type {Map<string, Machine>} */ #machines = new Map();
  /** @type {Promise<Pool> | null} */ #pool = null;
  /** @type {Pool | null} the pool once it is loaded */ #loaded = null;
  /** @type {string | null} */ #seen = null;
  /** @type {{ tab: Tab, index: number, machine: Machine, active: boolean, resume: boolean } | null} */ #closed = null;
  /** @type {Set<(id: string) => void>} */ #listeners = new Set();

  /** @param {TabList} list @param {Host} host */
  constructor(list, host) {
    this.#list = list;
    this.#host = host;
    document.addEventListener("visibilitychange", () => this.#settleAll());
  }

  /** @param {(id: string) => void} listener called when a tab's machine changed in anything but figures */
  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** The machine of a tab of the list. @param {string} id @returns {Machine} */
  machine(id) {
    let machine = this.#machines.get(id);
    if (!machine) {
      machine = new Machine(() => this.#changed(id));
      this.#machines.set(id, machine);
    }
    return machine;
  }

  /** Removes a tab for good. @param {string} id */
  drop(id) {
    const machine = this.#machines.get(id);
    this.#machines.delete(id);
    this.#list.remove(id);
    void machine?.dispose();
  }

  /** Starts the machine of a tab that is off. @param {string} id */
  async start(id) {
    const tab = this.#list.get(id);
    if (!tab) return;
    const machine = this.machine(id);
    const options = this.#host.optionsOf(tab, machine.files);
    try {
      await this.#withRoom(async () => machine.start(await this.#getPool(), options));
    } catch (error) {
      // Nobody waits for a tab that was closed meanwhile.
      if (this.#machines.get(id) === machine) throw error;
    }
    this.settle(id);
  }

  /** A second machine that goes on from the state of a tab's, in a new tab behind it. @param {string} id */
  async clone(id) {
    const tab = this.#list.get(id);
    if (!tab) return;
    const original = this.machine(id);
    const vm = await this.#withRoom(() => original.clone());
    const { id: copy } = this.#list.add(tab, this.#list.indexOf(id) + 1);
    const machine = this.machine(copy);
    machine.inherit(original);
    machine.adopt(vm);
    this.#list.activate(copy);
    // A clone of a paused machine starts as one.
    if (vm.state === "stopped" && original.state !== "paused") await vm.start();
    this.settle(copy);
  }

  /** Closes a tab; its machine stands still until `undoClose` or `finishClose`. @param {string} id */
  close(id) {
    const active = this.#list.active === id;
    const machine = this.machine(id);
    const removed = this.#list.remove(id);
    if (!removed) return;
    this.#machines.delete(id);
    this.finishClose();
    if (machine.vm?.canvas === this.#host.canvas) machine.vm.canvas = null;
    const resume = machine.state === "running";
    if (resume) machine.vm?.pause().catch(() => {});
    // A machine that is still loading is not kept.
    if (machine.state === "loading") void machine.powerOff();
    this.#closed = { ...removed, machine, active, resume };
  }

  get canUndo() {
    return this.#closed !== null;
  }

  /** The last close can no longer be taken back. */
  finishClose() {
    if (!this.#closed) return;
    void this.#closed.machine.dispose();
    this.#closed = null;
  }

  /** Puts the tab that was closed last back where it was; tells which, if that is still possible. @returns {string | null} */
  undoClose() {
    const closed = this.#closed;
    if (!closed) return null;
    const { tab, index, machine, active, resume } = closed;
    this.#closed = null;
    this.#machines.set(tab.id, machine);
    this.#list.putBack(tab, index);
    if (active) this.#list.activate(tab.id);
    if (resume) machine.vm?.start().catch((error) => machine.fail(error));
    this.settle(tab.id);
    return tab.id;
  }

  /** Says which tab's screen is seen; null when none is (guest list, overview). @param {string | null} id */
  see(id) {
    if (this.#seen === id) return;
    this.#seen = id;
    // An old picture would belong to another machine.
    this.#host.canvas.width = this.#host.canvas.width;
    this.#settleAll();
  }

  /** Reads all figures. */
  tick() {
    for (const machine of this.#machines.values()) machine.tick();
  }

  /** The page's own total. */
  total() {
    const on = [...this.#machines.values(), ...(this.#closed ? [this.#closed.machine] : [])].filter((machine) => machine.vm);
    const workers = /** @type {{ workers?: number } | null} */ (this.#loaded)?.workers;
    // Without a pool of workers each machine has its own.
    return total(on.map((machine) => ({ mips: machine.stats?.mips ?? 0, memory: machine.memory })), workers ?? on.length);
  }

  /** @param {string} id */
  #changed(id) {
    this.settle(id);
    this.#listeners.forEach((listener) => listener(id));
  }

  #settleAll() {
    for (const id of this.#machines.keys()) this.settle(id);
  }

  /** Gives a machine the canvas, the priority and the rest that fit to its tab: seen or not. @param {string} id */
  settle(id) {
    const machine = this.#machines.get(id);
    const vm = machine?.vm;
    if (!machine || !vm || vm.state === "closed") return;
    const seen = id === this.#seen;
    const { canvas } = this.#host;
    if (seen && vm.canvas !== canvas) vm.canvas = canvas;
    else if (!seen && vm.canvas === canvas) vm.canvas = null;
    const priority = seen ? "visible" : "background";
    if ("priority" in vm && vm.priority !== priority) vm.priority = priority;
    const stand = this.#list.get(id)?.pauseHidden === true && (!seen || document.hidden);
    // It may end at the same moment.
    machine.standStill(stand).catch(() => {});
  }

  /** @returns {Promise<Pool>} */
  async #getPool() {
    this.#pool ??= this.#host.createPool();
    try {
      return (this.#loaded = await this.#pool);
    } catch (error) {
      // What is loaded once is asked for again: the server may be back.
      this.#pool = null;
      throw error;
    }
  }

  /** Tries again without the closed tab that is only kept to be taken back. @template T @param {() => Promise<T>} make @returns {Promise<T>} */
  async #withRoom(make) {
    try {
      return await make();
    } catch (error) {
      if (!this.#closed || !NO_ROOM.includes(/** @type {{ code?: string }} */ (error).code ?? "")) throw error;
      this.finishClose();
      return make();
    }
  }
}
