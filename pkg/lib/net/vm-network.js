// The network of one machine: what its card is plugged into, and who listens in.
import { Tab86Error } from "../errors.js";
import { Capture } from "./capture.js";
import { CloneAddress } from "./clone-address.js";
import { formatMac, parseMac, randomMac } from "./frames.js";
import { checkLanName, joinLan } from "./lan.js";
import { checkRelay, RelayCable } from "./relay.js";

/**
 * @typedef {import("./cable.js").Cable} Cable
 * @typedef {import("./cable.js").LinkState} LinkState
 * @typedef {{ lan: string | null, relay: string | null }} Place where the cable leads; both null: nowhere
 * @typedef {Place & { mac: number[], guestMac?: number[] }} NetworkSetup the address on the network, and the one that the
 *   guest knows if it is another: a clone's
 *
 * @typedef {object} Card the machine's end
 * @property {(frame: Uint8Array) => boolean} receive a frame for the guest; false if it is lost
 * @property {(up: boolean) => void} plug cable in or out
 * @property {(state: LinkState, message: string) => void} changed
 */

const OUT = "The network cable is out.";

/** @param {{ lan?: string, relay?: string } | null | undefined} options @returns {Place} */
function checkPlace(options) {
  if (options == null) return { lan: null, relay: null };
  if (typeof options !== "object") throw new Tab86Error("bad-options", "`network` is an object such as { lan: \"name\" }, or null.");
  const { lan, relay } = options;
  if (lan != null && relay != null) throw new Tab86Error("bad-options", "A network card has one cable: give `network.lan` or `network.relay`, not both.");
  return { lan: lan == null ? null : checkLanName(lan), relay: relay == null ? null : checkRelay(relay) };
}

/** @param {import("../../tab86.js").VmOptions["network"]} options @returns {NetworkSetup | null} null without a card */
export function checkNetwork(options) {
  if (options == null) return null;
  const place = checkPlace(options);
  return { ...place, mac: options.mac == null ? randomMac() : parseMac(options.mac) };
}

/** The network of a machine that has a card. */
export class VmNetwork {
  #mac;
  #guestMac;
  /** @type {CloneAddress | null} */ #translation;
  #card;
  /** @type {Place} */ #place = { lan: null, relay: null };
  /** @type {Cable | null} */ #cable = null;
  /** @type {object | null} marks the present cable */ #mine = null;
  /** @type {LinkState} */ #state = "down";
  #message = OUT;
  /** Frames lost between card and cable, and in cables that are gone. */
  #dropped = 0;
  /** @type {Set<Capture>} */ #captures = new Set();

  /** @param {{ mac: number[], guestMac?: number[] }} addresses @param {Card} card */
  constructor({ mac, guestMac = mac }, card) {
    this.#mac = mac;
    this.#guestMac = guestMac;
    this.#translation = guestMac === mac ? null : new CloneAddress(guestMac, mac);
    this.#card = card;
  }

  /** For a clone: the same card on the same network, which has an address of its own there. @returns {NetworkSetup} */
  get cloned() {
    return { ...this.#place, mac: randomMac(), guestMac: this.#guestMac };
  }

  get info() {
    return { ...this.#place, mac: formatMac(this.#mac), state: this.#state, message: this.#message };
  }

  /** Frames lost on this side of the machine. */
  get dropped() {
    return this.#dropped + (this.#cable?.dropped ?? 0);
  }

  /** Plugs the cable in somewhere else. @param {{ lan?: string | null, relay?: string | null } | null} where */
  connect(where) {
    const place = checkPlace(/** @type {any} */ (where));
    this.close();
    this.#place = place;
    const { lan, relay } = place;
    // A cable that was replaced says and brings nothing any more.
    const mine = {};
    this.#mine = mine;
    const receive = (/** @type {Uint8Array} */ frame) => this.#mine === mine && this.#receive(frame);
    if (lan !== null) {
      this.#cable = joinLan(lan, receive);
      this.#tell("up", `On the network ${lan}.`);
    } else if (relay !== null) {
      this.#cable = new RelayCable(relay, receive, (state, message) => this.#mine === mine && this.#tell(state, message));
    }
  }

  /** A frame from the guest. @param {Uint8Array} frame */
  transmit(frame) {
    this.#record("out", frame);
    if (this.#cable && this.#state === "up") this.#cable.send(this.#translation?.out(frame) ?? frame);
    else this.#dropped++;
  }

  /** @param {Uint8Array} received */
  #receive(received) {
    const frame = this.#translation?.in(received) ?? received;
    if (this.#card.receive(frame)) this.#record("in", frame);
    else this.#dropped++;
  }

  /** @param {import("./capture.js").Direction} direction @param {Uint8Array} frame */
  #record(direction, frame) {
    for (const capture of this.#captures) capture.record(direction, frame);
  }

  /** @param {LinkState} state @param {string} message */
  #tell(state, message) {
    if ((state === "up") !== (this.#state === "up")) this.#card.plug(state === "up");
    this.#state = state;
    this.#message = message;
    this.#card.changed(state, message);
  }

  /** Records what passes from now on. */
  capture() {
    const capture = new Capture(this.#guestMac, (ended) => this.#captures.delete(ended));
    this.#captures.add(capture);
    return capture;
  }

  /** Pulls the cable out. */
  close() {
    this.#mine = null;
    if (!this.#cable && this.#state === "down" && this.#message === OUT) return;
    this.#dropped += this.#cable?.dropped ?? 0;
    this.#cable?.close();
    this.#cable = null;
    this.#place = { lan: null, relay: null };
    this.#tell("down", OUT);
  }
}
