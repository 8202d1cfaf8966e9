// The page's end of a machine in shared memory: it writes input to the machine's rings, and reads output, frames and
// statistics from its memory. Requests go to a worker of the pool (threads.js).
import { Tab86Error } from "./errors.js";
import { WORD } from "./layout.js";
import { REQUEST } from "./protocol.js";
import { INPUT, OUTPUT, VmMemory } from "./rings.js";
import { ChunkFetcher } from "./streams.js";
import { streamsOf, transferOf } from "./setup.js";

/**
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 * @typedef {import("./threads.js").Threads} Threads
 * @typedef {import("./threads.js").Place} Place
 *
 * @typedef {object} LinkEvents
 * @property {(kind: number, payload: Uint8Array) => void} output
 * @property {(state: import("./protocol.js").State, code?: number) => void} state
 * @property {(error: Tab86Error) => void} error
 * @property {() => void} frame there is a new picture
 */

/** Video memory, code caches, rings, and copies of images while they are loaded. */
const OVERHEAD = 256 << 20;
/** Tries for a text that the machine is writing. */
const TRIES = 100;
/** How soon to look again when the machine's ring is full. */
const RETRY_MS = 20;
/** Records that wait for room in the ring before frames from the network are lost. */
const MAX_WAITING = 256;

/** A link to a machine of the pool. */
export class SharedLink {
  #threads;
  #events;
  #need = 0;
  /** @type {Place} */ #place;
  /** @type {VmMemory | null} */ #memory = null;
  /** @type {ChunkFetcher} */ #fetcher;
  /** @type {(() => boolean)[]} input that did not fit the ring */ #backlog = [];
  #retry = 0;
  #text = "";

  /**
   * @param {Threads} threads @param {MachineSetup} setup @param {LinkEvents} events
   */
  static async create(threads, setup, events) {
    const images = [setup.kernel, setup.initrd, setup.multiboot, setup.fda, setup.fdb, setup.hda, setup.hdb, setup.cdrom];
    const bytes = images.map((i) => (i instanceof Uint8Array ? i.length : i && "data" in i ? i.data.length : 0));
    const need = setup.memory + 2 * bytes.reduce((sum, length) => sum + length, 0) + OVERHEAD;
    const sources = streamsOf(setup);
    return new SharedLink(threads, events, sources).#settle(need, (place) =>
      threads.request(place.number, REQUEST.CREATE, { setup }, transferOf(setup)),
    );
  }

  /** @param {Threads} threads @param {LinkEvents} events @param {import("./protocol.js").StreamedImage[]} sources @private */
  constructor(threads, events, sources) {
    this.#threads = threads;
    this.#events = events;
    this.#fetcher = new ChunkFetcher(sources, (chunk) => this.#send((memory) => memory.pushChunk(chunk), false));
    // `#settle` sets it before the link is given out.
    this.#place = /** @type {any} */ (null);
  }

  /** @param {number} need bytes @param {(place: Place) => Promise<{ header: number }>} begin */
  async #settle(need, begin) {
    this.#need = need;
    this.#place = await this.#threads.admit(need, {
      outputReady: () => this.#drain(),
      frameReady: this.#events.frame,
      state: this.#events.state,
      error: this.#events.error,
    });
    try {
      const { header } = await begin(this.#place);
      this.#memory = new VmMemory(this.#place.memory, header);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#memory.set(WORD.WAKE_PAGE, 1);
    this.#memory.set(WORD.FRAME_WANTED, 1);
    return this;
  }

  /**
   * A copy of the machine at this moment, in a memory of its own. @param {LinkEvents} events
   */
  async clone(events) {
    return new SharedLink(this.#threads, events, this.#fetcher.sources).#settle(this.#need, async (place) => {
      await this.request(REQUEST.COPY, { target: place.memory });
      return this.#threads.request(place.number, REQUEST.ADOPT);
    });
  }

  /** @param {string} type a REQUEST @param {object} [values] @returns {Promise<any>} */
  request(type, values = {}) {
    return this.#threads.request(this.#place.number, type, values);
  }

  /** The machine's whole memory, while it is open. */
  get memory() {
    return this.#memory ? this.#place.memory : null;
  }

  #drain() {
    const memory = this.#memory;
    if (!memory) return;
    do {
      for (let record = memory.popOutput(); record; record = memory.popOutput()) this.#output(record.kind, record.payload);
      memory.set(WORD.WAKE_PAGE, 1);
      // What came between the last look and the request to be woken has no message.
    } while (memory.hasOutput);
  }

  /** @param {number} kind @param {Uint8Array} payload */
  #output(kind, payload) {
    if (kind === OUTPUT.CHUNK_TAKEN) this.#fetcher.taken(payload[0]);
    else if (kind === OUTPUT.CHUNK_WANTED) this.#fetcher.want(payload[0], new DataView(payload.buffer).getUint32(1, true));
    else this.#events.output(kind, payload);
  }

  /** @param {number} kind @param {Uint8Array} payload */
  sendInput(kind, payload) {
    this.#send((memory) => memory.pushInput(kind, payload), true);
  }

  /** A frame for the network card. @param {Uint8Array} frame @returns {boolean} false if it is lost */
  sendFrame(frame) {
    if (this.#backlog.length >= MAX_WAITING) return false;
    this.#send((memory) => memory.pushInput(INPUT.NET_IN, frame), false);
    return true;
  }

  /** @param {(memory: VmMemory) => boolean} push @param {boolean} interactive */
  #send(push, interactive) {
    this.#backlog.push(() => this.#memory === null || push(this.#memory));
    this.flushInput(interactive);
  }

  /** Sends what waits for room in the ring. @param {boolean} [interactive] @returns {boolean} whether all is sent */
  flushInput(interactive = false) {
    while (this.#backlog.length && this.#backlog[0]()) this.#backlog.shift();
    if (this.#memory) this.#threads.wake(this.#place, interactive);
    // Somebody must look again when the machine has taken some.
    if (this.#backlog.length && !this.#retry) {
      this.#retry = window.setTimeout(() => {
        this.#retry = 0;
        this.flushInput();
      }, RETRY_MS);
    }
    return this.#backlog.length === 0;
  }

  /** @param {number} priority a value of PRIORITIES */
  setPriority(priority) {
    this.#memory?.set(WORD.PRIORITY, priority);
    this.#threads.setPriority(this.#place, priority);
    // A machine that sleeps for long draws again when somebody looks.
    this.#threads.wake(this.#place, false);
  }

  /** @param {boolean} whole @param {number} most pixels at once @returns {import("./protocol.js").Frame | null} */
  takeFrame(whole, most) {
    const frame = this.#memory?.takeFrame(whole, most) ?? null;
    // While pieces are left, the machine draws nothing new.
    if (!frame?.more) this.#memory?.set(WORD.FRAME_WANTED, 1);
    return frame;
  }

  /** The page reads text from memory: nobody needs frames of a machine without a canvas. */
  get readsScreen() {
    return true;
  }

  screenText() {
    for (let tries = 0; tries < TRIES; tries++) {
      const text = this.#memory?.screenText() ?? null;
      if (text !== null) return (this.#text = text);
    }
    return this.#text;
  }

  statistics() {
    if (!this.#memory) throw new Tab86Error("closed", "The machine was closed.");
    return this.#memory.statistics();
  }

  /** @returns {Promise<void>} resolves when the memory is given back */
  close() {
    this.#memory = null;
    this.#backlog = [];
    this.#fetcher.close();
    return this.#threads.dismiss(this.#place);
  }
}
