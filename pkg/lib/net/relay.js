// A cable to a relay: a WebSocket that carries one Ethernet frame in each binary message, as v86, JSLinux and
// websockproxy do it. When the relay goes away the cable looks for it, less and less often.
import { Tab86Error } from "../errors.js";
import { isFrame } from "./frames.js";

/** The first wait before it connects again; each is twice as long as the last one. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** A connection that lasted so long was a good one: the waits begin anew. */
const GOOD_MS = 5_000;
/** A server that takes so long to answer is given up. */
const CONNECT_MS = 15_000;
/** Bytes that may wait for the network; what the guest sends beyond them is lost. */
const MAX_BUFFERED = 256 << 10;

/**
 * @typedef {import("./cable.js").Cable} Cable
 *
 * @typedef {object} Surroundings what tests replace
 * @property {(url: string) => WebSocket} connect
 * @property {() => number} now milliseconds
 * @property {() => number} random 0 to 1
 * @property {(work: () => void, ms: number) => number} later @property {(timer: number) => void} never
 */

/** @type {Surroundings} */
const BROWSER = {
  connect: (url) => new WebSocket(url),
  now: () => performance.now(),
  random: Math.random,
  later: (work, ms) => globalThis.setTimeout(work, ms),
  never: (timer) => globalThis.clearTimeout(timer),
};

/** @param {unknown} address @returns {string} */
export function checkRelay(address) {
  const url = typeof address === "string" && URL.canParse(address) ? new URL(address) : null;
  if (!url || (url.protocol !== "ws:" && url.protocol !== "wss:")) {
    throw new Tab86Error("bad-options", "`network.relay` is the address of a relay: it begins with ws:// or wss://.");
  }
  // A WebSocket's address has none.
  url.hash = "";
  return url.href;
}

/** A cable to a relay. @implements {Cable} */
export class RelayCable {
  #url;
  #host;
  #receive;
  #tell;
  #env;
  /** @type {WebSocket | null} */ #socket = null;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #openedAt = -Infinity;
  #closed = false;
  /** Frames that were lost here, and messages that were none. */
  dropped = 0;

  /**
   * @param {string} url as `checkRelay` returns it @param {(frame: Uint8Array) => void} receive
   * @param {(state: import("./cable.js").LinkState, message: string) => void} tell
   * @param {Partial<Surroundings>} [surroundings]
   */
  constructor(url, receive, tell, surroundings = {}) {
    this.#url = url;
    this.#host = new URL(url).host;
    this.#receive = receive;
    this.#tell = tell;
    this.#env = { ...BROWSER, ...surroundings };
    this.#connect(`Connecting to the relay at ${this.#host}.`);
  }

  /** @param {string} message */
  #connect(message) {
    this.#tell("connecting", message);
    if (this.#closed) return;
    let socket;
    try {
      socket = this.#env.connect(this.#url);
    } catch (error) {
      // The page's own rules forbid it: that stays so.
      const why = error instanceof Error ? error.message : String(error);
      return this.#tell("down", `This page may not connect to the relay at ${this.#host}: ${why}`);
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#timer = this.#env.later(() => this.#lost(socket, "did not answer"), CONNECT_MS);
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#env.never(this.#timer);
      this.#openedAt = this.#env.now();
      this.#tell("up", `Connected to the relay at ${this.#host}.`);
    };
    socket.onmessage = ({ data }) => this.#socket === socket && this.#take(data);
    socket.onclose = ({ code, reason }) => {
      const opened = this.#openedAt > -Infinity;
      this.#lost(socket, opened ? `closed the connection (${reason || code})` : "cannot be reached");
    };
  }

  /** @param {unknown} data */
  #take(data) {
    // Text is for relays' own purposes.
    if (!(data instanceof ArrayBuffer)) return;
    const frame = new Uint8Array(data);
    if (isFrame(frame)) this.#receive(frame);
    else this.dropped++;
  }

  /** @param {WebSocket} socket @param {string} how */
  #lost(socket, how) {
    if (this.#socket !== socket) return;
    this.#forget(socket);
    if (this.#env.now() - this.#openedAt >= GOOD_MS && this.#openedAt > -Infinity) this.#wait = FIRST_WAIT_MS;
    this.#openedAt = -Infinity;
    // Half of it by chance: the clients of a relay that restarts do not come all at once.
    const wait = this.#wait * (0.5 + 0.5 * this.#env.random());
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
    this.#timer = this.#env.later(() => this.#connect(`Connecting to the relay at ${this.#host} again.`), wait);
    this.#tell("down", `The relay at ${this.#host} ${how}. Next try in ${Math.max(1, Math.round(wait / 1000))} s.`);
  }

  /** @param {WebSocket} socket */
  #forget(socket) {
    this.#env.never(this.#timer);
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** @param {Uint8Array} frame */
  send(frame) {
    const socket = this.#socket;
    if (socket?.readyState === 1 && socket.bufferedAmount + frame.length <= MAX_BUFFERED) {
      socket.send(/** @type {Uint8Array<ArrayBuffer>} */ (frame));
    } else this.dropped++;
  }

  close() {
    this.#closed = true;
    this.#env.never(this.#timer);
    if (this.#socket) this.#forget(this.#socket);
  }
}
