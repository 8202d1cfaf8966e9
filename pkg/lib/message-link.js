// The page's end of a machine in a worker of its own, for pages without cross-origin isolation: everything is a message.
import { poolEpoch } from "./clock.js";
import { Tab86Error, unpackError } from "./errors.js";
import { FROM_WORKER, REQUEST, TELL } from "./protocol.js";
import { INPUT, OUTPUT } from "./rings.js";
import { startWorker } from "./start-worker.js";
import { ChunkFetcher } from "./streams.js";
import { streamsOf, transferOf } from "./setup.js";
import { Seat } from "./turns.js";

/**
 * @typedef {import("./protocol.js").Frame} Frame
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 * @typedef {import("./shared-link.js").LinkEvents} LinkEvents
 * @typedef {import("./threads.js").Build} Build
 * @typedef {import("./turns.js").Turns} Turns
 */

/** A link to a worker with one machine. */
export class MessageLink {
  #build;
  #turns;
  /** Of its machine among those that take turns. */
  #seat;
  #events;
  /** Of the machine's clock, which a clone's goes on with. */
  #epoch;
  #worker;
  #fetcher;
  #next = 1;
  #closed = false;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */ #waiting = new Map();
  /** @type {Frame[]} */ #frames = [];
  #text = "";
  /** A whole screen is on its way: partial ones before it are of no use. */
  #awaitsWhole = false;
  /** Frames were dropped while the page was hidden. */
  #stale = false;
  /** @type {import("./protocol.js").Statistics} */
  #statistics = {
    instructions: 0n, virtualNs: 0n, slices: 0n, diskReads: 0n, diskWrites: 0n, jitBlocks: 0n,
    netInFrames: 0n, netInBytes: 0n, netOutFrames: 0n, netOutBytes: 0n, netDropped: 0n, kips: 0, idle: 0,
  };

  /** @param {Build} build @param {Turns} turns @param {MachineSetup} setup @param {LinkEvents} events */
  static create(build, turns, setup, events) {
    return new MessageLink(build, turns, events, streamsOf(setup), poolEpoch()).#begin({ setup }, transferOf(setup));
  }

  /**
   * @param {Build} build @param {Turns} turns @param {LinkEvents} events
   * @param {import("./protocol.js").StreamedImage[]} sources @param {number} epoch @private
   */
  constructor(build, turns, events, sources, epoch) {
    this.#build = build;
    this.#turns = turns;
    this.#seat = new Seat((type, values) => this.#tell(type, values));
    this.#events = events;
    this.#epoch = epoch;
    this.#fetcher = new ChunkFetcher(sources, (chunk) => this.#tell(TELL.CHUNK, chunk, chunk.data ? [chunk.data.buffer] : []));
    this.#worker = startWorker(new URL("vm-worker.js", build.folder), "tab86 machine");
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Tab86Error("internal", `The machine's worker failed: ${event.message || "its script could not be loaded"}.`);
      this.#rejectAll(error);
      events.error(error);
      this.#changeState("crashed");
    };
  }

  /** @param {{ setup: MachineSetup } | { copy: MessagePort }} what @param {Transferable[]} transfer */
  async #begin(what, transfer) {
    const { module, glue } = this.#build;
    try {
      await this.request(REQUEST.CREATE, { module, glue, epoch: this.#epoch, ...what }, transfer);
    } catch (error) {
      void this.close();
      throw error;
    }
    this.#tell(TELL.DRAWN, { seq: 0 });
    return this;
  }

  /** A copy of the machine at this moment, in a worker of its own. @param {LinkEvents} events */
  async clone(events) {
    // The memory goes from worker to worker, and the new one comes up meanwhile.
    const { port1, port2 } = new MessageChannel();
    const copied = this.request(REQUEST.COPY, { to: port1 }, [port1]);
    const clone = new MessageLink(this.#build, this.#turns, events, this.#fetcher.sources, this.#epoch);
    const begun = clone.#begin({ copy: port2 }, [port2]);
    // Without the rest of the copy it would wait for ever.
    copied.catch(() => clone.close());
    const [made] = await Promise.all([begun, copied]);
    return made;
  }

  /** @param {any} message */
  #receive(message) {
    switch (message.type) {
      case FROM_WORKER.REPLY: {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        if (message.error) waiting?.reject(unpackError(message.error));
        else waiting?.resolve(message.value);
        return;
      }
      case FROM_WORKER.STATE:
        return this.#changeState(message.state, message.code);
      case FROM_WORKER.TURN_OVER:
        return this.#turns.hear(this.#seat, message);
      case FROM_WORKER.ERROR:
        return this.#events.error(unpackError(message.error));
      case FROM_WORKER.OUTPUT:
        return this.#output(message.kind, message.payload);
      case FROM_WORKER.FRAME:
        this.#text = message.screenText;
        this.#keep(message.frame);
        return this.#events.frame();
      case FROM_WORKER.STATISTICS:
        this.#statistics = message;
    }
  }

  /** @param {import("./protocol.js").State} state @param {number} [code] */
  #changeState(state, code) {
    this.#turns.setRunning(this.#seat, !this.#closed && (state === "running" || state === "halted"));
    this.#events.state(state, code);
  }

  /** @param {number} kind @param {Uint8Array} payload */
  #output(kind, payload) {
    if (kind === OUTPUT.CHUNK_TAKEN) this.#fetcher.taken(payload[0]);
    else if (kind === OUTPUT.CHUNK_WANTED) this.#fetcher.want(payload[0], new DataView(payload.buffer).getUint32(1, true));
    else this.#events.output(kind, payload);
  }

  /** @param {string} type a REQUEST @param {object} [values] @param {Transferable[]} [transfer] @returns {Promise<any>} */
  request(type, values = {}, transfer = []) {
    if (this.#closed) return Promise.reject(new Tab86Error("closed", "The machine was closed."));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ type, id, ...values }, transfer);
    });
  }

  /** @param {string} type a TELL @param {object} values @param {Transferable[]} [transfer] */
  #tell(type, values, transfer = []) {
    this.#worker.postMessage({ type, ...values }, transfer);
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /** The memory is the worker's own. */
  get memory() {
    return null;
  }

  /** @param {Frame} frame */
  #keep(frame) {
    const whole = isWhole(frame);
    // Nobody draws in a hidden page, which still has to know the text.
    if (document.hidden) this.#stale = true;
    if (document.hidden || (this.#awaitsWhole && !whole)) this.#acknowledge(frame.seq);
    else this.#frames.push(frame);
    if (whole) this.#awaitsWhole = false;
  }

  /** @param {number} seq */
  #acknowledge(seq) {
    this.#tell(TELL.DRAWN, { seq });
  }

  /** @param {number} kind @param {Uint8Array} payload */
  sendInput(kind, payload) {
    this.#tell(TELL.INPUT, { kind, payload });
    this.#turns.wake(this.#seat, true);
  }

  /** A frame for the network card. @param {Uint8Array} frame */
  sendFrame(frame) {
    // Others may hold the same array: it is copied.
    this.#tell(TELL.INPUT, { kind: INPUT.NET_IN, payload: frame });
    this.#turns.wake(this.#seat, false);
    return true;
  }

  flushInput() {
    return true;
  }

  /** @param {number} priority a value of PRIORITIES */
  setPriority(priority) {
    this.#tell(TELL.PRIORITY, { priority });
    this.#turns.setPriority(this.#seat, priority);
  }

  /** @param {boolean} whole @param {number} _most frames are as they came @returns {Frame | null} */
  takeFrame(whole, _most) {
    if (whole || this.#stale) {
      const at = this.#frames.findIndex(isWhole);
      if (at < 0) return this.#askForWhole();
      this.#frames.splice(0, at);
      this.#stale = false;
    }
    const frame = this.#frames.shift();
    if (!frame) return null;
    if (this.#frames.length === 0) this.#acknowledge(frame.seq);
    return frame;
  }

  /** What is here is of no use without the rest of the screen. */
  #askForWhole() {
    const last = this.#frames.at(-1);
    this.#frames = [];
    if (last) this.#acknowledge(last.seq);
    if (!this.#awaitsWhole) {
      this.#awaitsWhole = true;
      this.#tell(TELL.WHOLE, {});
    }
    return null;
  }

  /** There is nothing to do for a screen without a canvas: its text comes with the frames all the same. */
  get readsScreen() {
    return false;
  }

  screenText() {
    return this.#text;
  }

  statistics() {
    return this.#statistics;
  }

  /** Ends the worker; what it held is free. */
  async close() {
    this.#closed = true;
    this.#turns.setRunning(this.#seat, false);
    this.#fetcher.close();
    this.#worker.terminate();
    this.#rejectAll(new Tab86Error("closed", "The machine was closed."));
  }
}

/** @param {Frame} frame */
function isWhole(frame) {
  return frame.w === frame.width && frame.h === frame.height;
}
