// One machine as the page sees it: the `Vm` of the public API.
import { Display } from "./display.js";
import { Tab86Error } from "./errors.js";
import { keysOf } from "./keyboard.js";
import { VmNetwork } from "./net/vm-network.js";
import { PRIORITIES, REQUEST } from "./protocol.js";
import { INPUT, MAX_PAYLOAD, OUTPUT } from "./rings.js";

/**
 * @typedef {import("./protocol.js").State} State
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 */

/** Serial output kept for waitForSerial. */
const SERIAL_KEPT = 1 << 20;
/** How often waitForScreen looks. */
const LOOK_MS = 50;
const WAIT_MS = 60_000;
/** Between two characters of typeText: a keyboard controller holds 16 bytes. */
const TYPING_MS = 12;
const MAX_MOVE = 32767;
/** Of one readMemory, whose copy lies in the VM's own memory for a moment. */
const MAX_READ = 64 << 20;

const latin1 = new TextDecoder("latin1");

/** @param {string | RegExp} pattern @param {string} text */
function find(pattern, text) {
  if (typeof pattern === "string") return text.includes(pattern) ? text : null;
  // A global or sticky pattern would remember where it stopped.
  return new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, "")).test(text) ? text : null;
}

/** @param {number} ms */
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** An event with properties. @param {string} type @param {object} values */
const eventWith = (type, values) => Object.assign(new Event(type), values);

/**
 * @typedef {import("./shared-link.js").SharedLink | import("./message-link.js").MessageLink} VmLink
 * @typedef {import("./shared-link.js").LinkEvents} LinkEvents
 *
 * @typedef {{ memory: number, network: import("./net/vm-network.js").NetworkSetup | null }} Parts bytes of memory; a card
 *
 * @typedef {object} VmOwner the pool
 * @property {(vm: Vm) => void} closed
 * @property {(vm: Vm, options: { canvas?: HTMLCanvasElement | null }) => Promise<Vm>} clone
 */

/** A machine. */
export class Vm extends EventTarget {
  /** @type {VmLink} */ #link;
  /** @type {Display} */ #display;
  /** @type {State} */ #state = "stopped";
  /** @type {string[]} received from each port */ #serial = [];
  /** @type {Set<() => void>} */ #serialWaiters = new Set();
  /** @type {VmNetwork | null} */ #network = null;
  #owner;
  #bytes;
  /** @type {keyof typeof PRIORITIES} */ #priority = "background";
  #finalText = "";
  /** @type {import("./protocol.js").Statistics | null} */ #finalStatistics = null;

  /**
   * @param {(events: LinkEvents) => Promise<VmLink>} open @param {Parts} parts
   * @param {HTMLCanvasElement | null} canvas @param {VmOwner} owner
   */
  static async create(open, { memory, network }, canvas, owner) {
    const vm = new Vm(memory, owner);
    vm.#link = await open({
      output: (kind, payload) => vm.#output(kind, payload),
      state: (state, code) => vm.#changeState(state, code),
      // The first may come before there is a display.
      frame: () => vm.#display?.request(),
      error: (error) => vm.dispatchEvent(eventWith("error", { error, code: error.code, message: error.message })),
    });
    vm.#display = new Display(vm.#link, (screen) => vm.dispatchEvent(eventWith("screen", screen)));
    vm.#display.attach(canvas);
    vm.priority = canvas ? "visible" : "background";
    if (network) vm.#plugIn(network);
    return vm;
  }

  /** @param {number} bytes @param {VmOwner} owner @private */
  constructor(bytes, owner) {
    super();
    this.#bytes = bytes;
    this.#owner = owner;
    // Both are set before `create` gives the machine out.
    this.#link = /** @type {any} */ (null);
    this.#display = /** @type {any} */ (null);
  }

  /** @param {import("./net/vm-network.js").NetworkSetup} setup */
  #plugIn({ mac, guestMac, ...place }) {
    this.#network = new VmNetwork({ mac, guestMac }, {
      // A machine that stands still misses what is sent to it, as one that is off.
      receive: (frame) => this.#state === "running" && this.#link.sendFrame(frame),
      plug: (up) => this.#state === "closed" || this.#input(INPUT.NET_LINK, [up ? 1 : 0]),
      changed: (state, message) => this.dispatchEvent(eventWith("network", { state, message })),
    });
    // A clone's is as the original's was: its guest sees the cable go out and in, and may ask for an address.
    this.#input(INPUT.NET_LINK, [0]);
    this.#network.connect(place);
  }

  /** A machine that goes on from this one's present state. @param {{ canvas?: HTMLCanvasElement | null }} [options] @returns {Promise<Vm>} */
  async clone(options = {}) {
    this.#requireOpen();
    if (this.#state === "crashed") throw new Tab86Error("crashed", "The machine failed and cannot be cloned.");
    return this.#owner.clone(this, options);
  }

  /** For the pool: the copy of this machine. @param {HTMLCanvasElement | null} canvas */
  async copy(canvas) {
    const parts = { memory: this.#bytes, network: this.#network?.cloned ?? null };
    const copy = await Vm.create((events) => this.#link.clone(events), parts, canvas, this.#owner);
    copy.#serial = [...this.#serial];
    if (this.#state === "running" || this.#state === "halted") await copy.#ask(REQUEST.START);
    else copy.#state = this.#state;
    return copy;
  }

  /** Bytes of the machine's memory. */
  get memory() {
    return this.#bytes;
  }

  /** The wasm memory with the machine's whole state; null when it is private to its worker, or closed. */
  get wasmMemory() {
    return this.#link.memory;
  }

  /** The network card; null without one. */
  get network() {
    if (!this.#network) return null;
    const all = this.#finalStatistics ?? this.#link.statistics();
    const counters = {
      framesIn: Number(all.netInFrames),
      bytesIn: Number(all.netInBytes),
      framesOut: Number(all.netOutFrames),
      bytesOut: Number(all.netOutBytes),
      dropped: Number(all.netDropped) + this.#network.dropped,
    };
    return { ...this.#network.info, counters };
  }

  /** Plugs the network cable in somewhere else, or out. @param {{ lan?: string, relay?: string } | null} where */
  setNetwork(where) {
    this.#requireOpen();
    this.#card().connect(where);
  }

  /** Records what passes the network card. */
  capture() {
    return this.#card().capture();
  }

  #card() {
    if (!this.#network) throw new Tab86Error("no-network-card", "The machine has no network card: make it with the option `network`.");
    return this.#network;
  }

  /** Who looks at the machine. */
  get priority() {
    return this.#priority;
  }

  set priority(priority) {
    if (!Object.hasOwn(PRIORITIES, priority)) {
      throw new Tab86Error("bad-options", `A machine's priority is one of ${Object.keys(PRIORITIES).join(", ")}.`);
    }
    this.#priority = priority;
    this.applyPriority();
  }

  /** For the pool: in a hidden page nobody sees anything. */
  applyPriority() {
    if (this.#state === "closed") return;
    const seen = document.hidden && this.#priority === "visible" ? "background" : this.#priority;
    this.#link.setPriority(PRIORITIES[seen]);
  }

  get state() {
    return this.#state;
  }

  get canvas() {
    return this.#display.canvas;
  }

  set canvas(canvas) {
    this.#display.attach(canvas);
  }

  async start() {
    await this.#ask(REQUEST.START);
  }

  async pause() {
    await this.#ask(REQUEST.PAUSE);
  }

  async reset() {
    await this.#ask(REQUEST.RESET);
  }

  async close() {
    if (this.#state === "closed") return;
    this.#finalText = this.#link.screenText();
    this.#finalStatistics = this.#link.statistics();
    this.#display.close();
    this.#network?.close();
    const gone = this.#link.close();
    this.#changeState("closed");
    this.#owner.closed(this);
    await gone;
  }

  /** @param {string | Uint8Array} text @param {number} [port] */
  sendSerial(text, port = 0) {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    for (let at = 0; at < bytes.length; at += MAX_PAYLOAD - 1) {
      this.#input(INPUT.SERIAL, [port, ...bytes.subarray(at, at + MAX_PAYLOAD - 1)]);
    }
  }

  /** @param {string} code a KeyboardEvent.code @param {boolean} pressed */
  sendKey(code, pressed) {
    this.#input(INPUT.KEY, [pressed ? 1 : 0, ...new TextEncoder().encode(code)]);
  }

  /** @param {string[]} keys */
  sendKeys(keys) {
    keys.forEach((key) => this.sendKey(key, true));
    [...keys].reverse().forEach((key) => this.sendKey(key, false));
  }

  /** @param {string} text */
  async typeText(text) {
    for (const keys of keysOf(text)) {
      this.#requireOpen();
      this.sendKeys(keys);
      await after(TYPING_MS);
      while (!this.#link.flushInput()) await after(TYPING_MS);
    }
  }

  /** @param {{ dx?: number, dy?: number, wheel?: number, buttons?: number }} event */
  mouse({ dx = 0, dy = 0, wheel = 0, buttons = 0 }) {
    const record = new DataView(new ArrayBuffer(7));
    [dx, dy, wheel].forEach((value, i) => record.setInt16(2 * i, Math.max(-MAX_MOVE, Math.min(MAX_MOVE, Math.round(value))), true));
    record.setUint8(6, buttons);
    this.#input(INPUT.MOUSE, new Uint8Array(record.buffer));
  }

  screenText() {
    return this.#state === "closed" ? this.#finalText : this.#link.screenText();
  }

  /** @param {string} [type] @returns {Promise<Blob>} */
  async screenshot(type = "image/png") {
    this.#requireOpen();
    const canvas = this.#display.canvas;
    if (!canvas) throw new Tab86Error("no-canvas", "The machine has no canvas to take a screenshot of: set `canvas` first.");
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Tab86Error("internal", `The browser cannot write ${type}.`))), type);
    });
  }

  /** @returns {Promise<Blob>} */
  async saveState() {
    throw new Tab86Error("not-supported", "Saving a machine's state is not supported yet.");
  }

  stats() {
    const all = this.#finalStatistics ?? this.#link.statistics();
    return {
      instructions: all.instructions,
      mips: all.kips / 1000,
      idle: all.idle / 1000,
      jitBlocks: Number(all.jitBlocks),
      slices: Number(all.slices),
      virtualTime: Number(all.virtualNs) / 1e9,
      diskReads: Number(all.diskReads),
      diskWrites: Number(all.diskWrites),
    };
  }

  /** @param {number} physical @param {number} length @returns {Promise<Uint8Array>} */
  async readMemory(physical, length) {
    if (!Number.isSafeInteger(physical) || physical < 0) throw new Tab86Error("bad-options", "The address to read from is a whole number, 0 or more.");
    if (!Number.isInteger(length) || length < 0 || length > MAX_READ) {
      throw new Tab86Error("bad-options", `The length to read is a whole number of bytes, up to ${MAX_READ >> 20} MiB: read more in pieces.`);
    }
    return this.#ask(REQUEST.READ_MEMORY, { address: physical, length });
  }

  /** A hash of all of the machine's RAM, to compare two machines. @returns {Promise<string>} */
  async ramHash() {
    return this.#ask(REQUEST.RAM_HASH);
  }

  /** @param {string | RegExp} pattern @param {number} [timeoutMs] */
  waitForSerial(pattern, timeoutMs = WAIT_MS) {
    return this.#wait(`the serial port to say ${pattern}`, timeoutMs, () => find(pattern, this.#serial[0] ?? ""), (look) => {
      this.#serialWaiters.add(look);
      return () => this.#serialWaiters.delete(look);
    });
  }

  /** @param {string | RegExp} pattern @param {number} [timeoutMs] */
  waitForScreen(pattern, timeoutMs = WAIT_MS) {
    return this.#wait(`the screen to show ${pattern}`, timeoutMs, () => find(pattern, this.screenText()), (look) => {
      const timer = setInterval(look, LOOK_MS);
      return () => clearInterval(timer);
    });
  }

  /**
   * @param {string} what @param {number} timeoutMs @param {() => string | null} look
   * @param {(look: () => void) => () => void} watch calls its argument when it is worth to look; returns how to stop
   * @returns {Promise<string>}
   */
  #wait(what, timeoutMs, look, watch) {
    return new Promise((resolve, reject) => {
      const finish = () => {
        stop();
        clearTimeout(timer);
        this.removeEventListener("state", check);
      };
      const check = () => {
        const text = look();
        if (text !== null) {
          finish();
          resolve(text);
        } else if (this.#state === "closed" || this.#state === "crashed") {
          finish();
          reject(new Tab86Error("closed", `The machine ended while waiting for ${what}.`));
        }
      };
      const timer = setTimeout(() => {
        finish();
        reject(new Tab86Error("timeout", `Waited ${timeoutMs / 1000} s in vain for ${what}.`));
      }, timeoutMs);
      const stop = watch(check);
      this.addEventListener("state", check);
      check();
    });
  }

  /** @param {string} type @param {object} [values] */
  async #ask(type, values) {
    this.#requireOpen();
    return this.#link.request(type, values);
  }

  #requireOpen() {
    if (this.#state === "closed") throw new Tab86Error("closed", "The machine was closed.");
  }

  /** @param {number} kind @param {ArrayLike<number>} payload */
  #input(kind, payload) {
    this.#requireOpen();
    this.#link.sendInput(kind, Uint8Array.from(payload));
  }

  /** @param {number} kind @param {Uint8Array} payload @returns {void} */
  #output(kind, payload) {
    if (kind === OUTPUT.FIRMWARE_LOG) {
      this.dispatchEvent(eventWith("firmware-log", { data: payload }));
      return;
    }
    if (kind === OUTPUT.NET_OUT) return this.#network?.transmit(payload);
    const [port, data] = [payload[0], payload.subarray(1)];
    this.#serial[port] = ((this.#serial[port] ?? "") + latin1.decode(data)).slice(-SERIAL_KEPT);
    this.dispatchEvent(eventWith("serial", { port, data }));
    if (port === 0) [...this.#serialWaiters].forEach((look) => look());
  }

  /** @param {State} state @param {number} [code] */
  #changeState(state, code) {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    if (state === "crashed") this.#network?.close();
    this.dispatchEvent(eventWith("state", { state }));
    if (state === "off" || state === "shutdown" || state === "crashed") {
      const reason = state === "off" ? (code === undefined ? "power-off" : "debug-exit") : state;
      this.dispatchEvent(eventWith("exit", { reason, code }));
    }
  }
}
