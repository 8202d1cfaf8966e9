// A learning switch (IEEE 802.1D without spanning tree): a frame goes where its destination was seen last, or everywhere
// when nobody knows, and never back to where it came from.
import { addressAt, isFrame, isFromGroup, isToGroup } from "./frames.js";

/** An address that is silent for so long is forgotten (802.1D's default). */
const AGE_MS = 300_000;
/** Most addresses: whoever invents more makes the switch forget the oldest ones. */
const MAX_ADDRESSES = 1024;

/**
 * @typedef {{ receive: (frame: Uint8Array) => void }} SwitchPort what the switch calls with frames that leave it there;
 *   all ports get the same array, so none may change it
 */

/** A switch of any number of ports. */
export class Switch {
  /** @type {Set<SwitchPort>} */ #ports = new Set();
  /** Oldest first. @type {Map<number, { port: SwitchPort, seen: number }>} */ #table = new Map();
  #now;
  /** Frames that were none: too short or too long. */
  refused = 0;

  /** @param {() => number} [now] milliseconds */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /** Ports that are plugged in. */
  get size() {
    return this.#ports.size;
  }

  /** Addresses that it knows, old ones included. */
  get addresses() {
    return this.#table.size;
  }

  /** @param {SwitchPort} port */
  plug(port) {
    this.#ports.add(port);
  }

  /** @param {SwitchPort} port */
  unplug(port) {
    this.#ports.delete(port);
    for (const [address, entry] of this.#table) if (entry.port === port) this.#table.delete(address);
  }

  /** A frame comes in at a port. @param {SwitchPort} from @param {Uint8Array} frame */
  send(from, frame) {
    if (!this.#ports.has(from)) return;
    if (!isFrame(frame) || isFromGroup(frame)) {
      this.refused++;
      return;
    }
    const now = this.#now();
    this.#learn(addressAt(frame, 6), from, now);
    const to = isToGroup(frame) ? null : this.#find(addressAt(frame, 0), now);
    if (to === null) for (const port of [...this.#ports]) port !== from && port.receive(frame);
    else if (to !== from) to.receive(frame);
  }

  /** @param {number} address @param {SwitchPort} port @param {number} now */
  #learn(address, port, now) {
    // Anew at the end, as the youngest.
    this.#table.delete(address);
    this.#table.set(address, { port, seen: now });
    if (this.#table.size > MAX_ADDRESSES) this.#table.delete(/** @type {number} */ (this.#table.keys().next().value));
  }

  /** @param {number} address @param {number} now @returns {SwitchPort | null} */
  #find(address, now) {
    const entry = this.#table.get(address);
    if (!entry) return null;
    if (now - entry.seen <= AGE_MS) return entry.port;
    this.#table.delete(address);
    return null;
  }
}
