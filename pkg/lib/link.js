// The page's end of a VM: requests to its worker, input, output, frames and statistics. `SharedLink` reads and writes
// the VM's memory itself, `MessageLink` gets the same in messages; both look the same to `Vm`.
import { COUNTER, WORD } from "./layout.js";
import { FROM_WORKER, REQUEST, TELL } from "./protocol.js";
import { Tab86Error, unpackError } from "./errors.js";
import { VmMemory } from "./rings.js";

/**
 * @typedef {import("./protocol.js").Frame} Frame
 * @typedef {import("./protocol.js").State} State
 * @typedef {import("./protocol.js").Statistics} Statistics
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 *
 * @typedef {object} LinkEvents
 * @property {(kind: number, payload: Uint8Array) => void} output
 * @property {(state: State, code?: number) => void} state
 * @property {(error: Tab86Error) => void} error
 *
 * @typedef {object} Build the wasm build to run
 * @property {WebAssembly.Module} module
 * @property {string} glue address of its JavaScript
 * @property {URL} worker address of vm-worker.js
 */

const PAGE = 65536;
const MIB = 2 ** 20;
/** More than what the module itself asks for: its stack and data. */
const INITIAL_PAGES = 256;
const MAX_PAGES = 65536;
/** Video memory, code caches, rings, and copies of images while they are loaded. */
const OVERHEAD = 256 << 20;

/** What both links do by messages. */
class Link {
  #next = 1;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */ #waiting = new Map();
  /** @protected */ worker;
  /** @protected */ events;

  /** @param {Build} build @param {LinkEvents} events */
  constructor(build, events) {
    this.worker = startWorker(build.worker);
    this.events = events;
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      const error = new Tab86Error("internal", `The machine's worker failed: ${event.message || "its script could not be loaded"}.`);
      this.#rejectAll(error);
      events.error(error);
    };
  }

  /** @param {any} message @protected */
  receive(message) {
    if (message.type === FROM_WORKER.REPLY) {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error) waiting?.reject(unpackError(message.error));
      else waiting?.resolve(message.value);
    } else if (message.type === FROM_WORKER.STATE) this.events.state(message.state, message.code);
    else if (message.type === FROM_WORKER.ERROR) this.events.error(unpackError(message.error));
  }

  /** @param {string} type a REQUEST @param {object} [values] @param {Transferable[]} [transfer] @returns {Promise<any>} */
  request(type, values = {}, transfer = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.worker.postMessage({ type, id, ...values }, transfer);
    });
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /** Ends the worker; what it held is free. */
  close() {
    this.worker.terminate();
    this.#rejectAll(new Tab86Error("closed", "The machine was closed."));
  }
}

/** The link of a cross-origin isolated page. */
class SharedLink extends Link {
  /** @type {VmMemory | null} */ #memory = null;
  /** @type {[number, Uint8Array][]} input that did not fit the ring */ #backlog = [];
  #text = "";
  /** Without Atomics.waitAsync (the page has it when its workers do) the doorbell is a message. */
  #bellByMessage = !("waitAsync" in Atomics);

  /** @param {Build} build @param {MachineSetup} setup */
  async create(build, setup) {
    const images = [setup.kernel, setup.initrd, setup.multiboot, setup.fda, setup.fdb, setup.hda, setup.hdb, setup.cdrom];
    const bytes = images.map((i) => (i instanceof Uint8Array ? i.length : i && "data" in i ? i.data.length : 0));
    const most = setup.memory + 2 * bytes.reduce((sum, length) => sum + length, 0) + OVERHEAD;
    const maximum = Math.min(MAX_PAGES, Math.ceil(most / PAGE));
    let memory;
    try {
      memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true });
    } catch {
      throw new Tab86Error("out-of-memory", `The browser has no ${Math.floor(setup.memory / MIB)} MiB for another machine: close one, or give it less memory.`);
    }
    const { header } = await this.request(REQUEST.CREATE, { module: build.module, memory, glue: build.glue, setup }, transferOf(setup));
    this.#memory = new VmMemory(memory, header);
    this.#memory.set(WORD.WAKE_PAGE, 1);
    this.#memory.set(WORD.FRAME_WANTED, 1);
  }

  /** @param {any} message @protected @override */
  receive(message) {
    if (message.type === FROM_WORKER.OUTPUT_READY) this.#drain();
    else super.receive(message);
  }

  #drain() {
    const memory = this.#memory;
    if (!memory) return;
    do {
      for (let record = memory.popOutput(); record; record = memory.popOutput()) {
        this.events.output(record.kind, record.payload);
      }
      memory.set(WORD.WAKE_PAGE, 1);
      // What came between the last look and the request to be woken has no message.
    } while (memory.hasOutput);
  }

  /** @param {number} kind @param {Uint8Array} payload */
  sendInput(kind, payload) {
    this.#backlog.push([kind, payload]);
    this.flushInput();
  }

  /** Sends what waits for room in the ring. @returns {boolean} whether all is sent */
  flushInput() {
    while (this.#backlog.length && this.#memory?.pushInput(...this.#backlog[0])) this.#backlog.shift();
    if (this.#bellByMessage) this.worker.postMessage({ type: TELL.WAKE });
    return this.#backlog.length === 0;
  }

  /** @param {boolean} whole @returns {Frame | null} */
  takeFrame(whole) {
    const frame = this.#memory?.takeFrame(whole) ?? null;
    this.#memory?.set(WORD.FRAME_WANTED, 1);
    return frame;
  }

  screenText() {
    for (let tries = 0; tries < 100; tries++) {
      const text = this.#memory?.screenText() ?? null;
      if (text !== null) return (this.#text = text);
    }
    return this.#text;
  }

  /** @returns {Statistics} */
  statistics() {
    const count = (/** @type {number} */ counter) => this.#memory?.count(counter) ?? 0n;
    return {
      instructions: count(COUNTER.INSTRUCTIONS),
      virtualNs: count(COUNTER.VIRTUAL_NS),
      slices: count(COUNTER.SLICES),
      diskReads: count(COUNTER.DISK_READS),
      diskWrites: count(COUNTER.DISK_WRITES),
      jitBlocks: count(COUNTER.JIT_BLOCKS),
      kips: this.#memory?.get(WORD.KIPS) ?? 0,
      idle: this.#memory?.get(WORD.IDLE) ?? 0,
    };
  }

  /** @override */
  close() {
    super.close();
    this.#memory = null;
  }
}

/** The link of a page without cross-origin isolation. */
class MessageLink extends Link {
  /** @type {Frame[]} */ #frames = [];
  #text = "";
  /** A whole screen is on its way: partial ones before it are of no use. */
  #awaitsWhole = false;
  /** Frames were dropped while the page was hidden. */
  #stale = false;
  /** @type {Statistics} */
  #statistics = { instructions: 0n, virtualNs: 0n, slices: 0n, diskReads: 0n, diskWrites: 0n, jitBlocks: 0n, kips: 0, idle: 0 };

  /** @param {Build} build @param {MachineSetup} setup */
  async create(build, setup) {
    await this.request(REQUEST.CREATE, { module: build.module, memory: null, glue: build.glue, setup }, transferOf(setup));
    this.worker.postMessage({ type: TELL.DRAWN, seq: 0 });
  }

  /** @param {any} message @protected @override */
  receive(message) {
    if (message.type === FROM_WORKER.OUTPUT) this.events.output(message.kind, message.payload);
    else if (message.type === FROM_WORKER.FRAME) {
      this.#text = message.screenText;
      this.#keep(message.frame);
    } else if (message.type === FROM_WORKER.STATISTICS) this.#statistics = message;
    else super.receive(message);
  }

  /** @param {Frame} frame */
  #keep(frame) {
    const whole = frame.w === frame.width && frame.h === frame.height;
    // Nobody draws in a hidden page, which still has to know the text.
    if (document.hidden) this.#stale = true;
    if (document.hidden || (this.#awaitsWhole && !whole)) this.#acknowledge(frame.seq);
    else this.#frames.push(frame);
    if (whole) this.#awaitsWhole = false;
  }

  /** @param {number} seq */
  #acknowledge(seq) {
    this.worker.postMessage({ type: TELL.DRAWN, seq });
  }

  /** @param {number} kind @param {Uint8Array} payload */
  sendInput(kind, payload) {
    this.worker.postMessage({ type: TELL.INPUT, kind, payload });
  }

  flushInput() {
    return true;
  }

  /** @param {boolean} whole @returns {Frame | null} */
  takeFrame(whole) {
    if ((whole || this.#stale) && !this.#awaitsWhole && this.#frames.length === 0) {
      this.#awaitsWhole = true;
      this.#stale = false;
      this.worker.postMessage({ type: TELL.WHOLE });
    }
    const frame = this.#frames.shift();
    if (!frame) return null;
    if (this.#frames.length === 0) this.#acknowledge(frame.seq);
    return frame;
  }

  screenText() {
    return this.#text;
  }

  statistics() {
    return this.#statistics;
  }
}

/** @typedef {SharedLink | MessageLink} VmLink */

/**
 * Starts a worker with a VM in it.
 * @param {Build} build @param {boolean} shared @param {MachineSetup} setup @param {LinkEvents} events
 * @returns {Promise<VmLink>}
 */
export async function openLink(build, shared, setup, events) {
  const link = shared ? new SharedLink(build, events) : new MessageLink(build, events);
  try {
    await link.create(build, setup);
  } catch (error) {
    link.close();
    throw error;
  }
  return link;
}

/** The buffers that move to the worker instead of being copied. @param {MachineSetup} setup @returns {Transferable[]} */
function transferOf(setup) {
  const values = Object.values(setup).map((value) => (value && typeof value === "object" && "data" in value ? value.data : value));
  const buffers = values.filter((value) => value instanceof Uint8Array).map((value) => value.buffer);
  return [...new Set(buffers)];
}

/** @param {URL} address */
function startWorker(address) {
  if (address.origin === location.origin) return new Worker(address, { type: "module", name: "tab86" });
  // A page may not start another origin's script as a worker, but its worker may import it.
  const text = `import ${JSON.stringify(address.href)};`;
  const local = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(local, { type: "module", name: "tab86" });
  worker.addEventListener("message", () => URL.revokeObjectURL(local), { once: true });
  return worker;
}
