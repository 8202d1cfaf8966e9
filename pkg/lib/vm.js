// One machine as the page sees it: the `Vm` of the public API.
import { Display } from "./display.js";
import { Tab86Error } from "./errors.js";
import { keysOf } from "./keyboard.js";
import { openLink } from "./link.js";
import { REQUEST } from "./protocol.js";
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

/** A machine. */
export class Vm extends EventTarget {
  /** @type {import("./link.js").VmLink} */ #link;
  /** @type {Display} */ #display;
  /** @type {State} */ #state = "stopped";
  /** @type {string[]} received from each port */ #serial = [];
  /** @type {Set<() => void>} */ #serialWaiters = new Set();
  /** @type {(vm: Vm) => void} */ #onClose;
  #finalText = "";
  /** @type {import("./protocol.js").Statistics | null} */ #finalStatistics = null;

  /**
   * @param {import("./link.js").Build} build @param {boolean} shared @param {MachineSetup} setup
   * @param {HTMLCanvasElement | null} canvas @param {(vm: Vm) => void} onClose
   */
  static async create(build, shared, setup, canvas, onClose) {
    const vm = new Vm(onClose);
    vm.#link = await openLink(build, shared, setup, {
      output: (kind, payload) => vm.#output(kind, payload),
      state: (state, code) => vm.#changeState(state, code),
      error: (error) => vm.dispatchEvent(eventWith("error", { error, code: error.code, message: error.message })),
    });
    vm.#display = new Display(vm.#link, (screen) => vm.dispatchEvent(eventWith("screen", screen)));
    vm.#display.attach(canvas);
    return vm;
  }

  /** @param {(vm: Vm) => void} onClose @private */
  constructor(onClose) {
    super();
    this.#onClose = onClose;
    // Both are set before `create` gives the machine out.
    this.#link = /** @type {any} */ (null);
    this.#display = /** @type {any} */ (null);
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
    this.#link.close();
    this.#changeState("closed");
    this.#onClose(this);
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

  /** @param {number} kind @param {Uint8Array} payload */
  #output(kind, payload) {
    if (kind === OUTPUT.FIRMWARE_LOG) {
      this.dispatchEvent(eventWith("firmware-log", { data: payload }));
      return;
    }
    const [port, data] = [payload[0], payload.subarray(1)];
    this.#serial[port] = ((this.#serial[port] ?? "") + latin1.decode(data)).slice(-SERIAL_KEPT);
    this.dispatchEvent(eventWith("serial", { port, data }));
    if (port === 0) [...this.#serialWaiters].forEach((look) => look());
  }

  /** @param {State} state @param {number} [code] */
  #changeState(state, code) {
    this.#state = state;
    this.dispatchEvent(eventWith("state", { state }));
    if (state === "off" || state === "shutdown" || state === "crashed") {
      const reason = state === "off" ? (code === undefined ? "power-off" : "debug-exit") : state;
      this.dispatchEvent(eventWith("exit", { reason, code }));
    }
  }
}
