// A clone's network address. Its guest knows the original's and cannot be told of another while it runs, so the clone's end
// of the cable translates, as bridges on wireless networks do that may use one address only (VirtualBox, VMware): on the
// network the clone has an address of its own, and to its guest the original seems to have that one. Ethernet's header, ARP
// (RFC 826), DHCP (RFC 2131, RFC 2132 section 9.14) and IPv6 neighbour discovery (RFC 4861, section 4) are translated.
import { addressAt, MIN_FRAME } from "./frames.js";

const TYPE_AT = 12;
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const ARP = 0x0806;
/** In ARP for Ethernet and IPv4: hardware addresses of sender and target. */
const ARP_LENGTH = 28;
const ARP_ADDRESSES = [8, 18];
const UDP = 17;
const ICMPV6 = 58;
const IPV6_HEADER = 40;
/** Bytes before the options, by message type: router solicitation and advertisement, neighbour's, redirect. @type {Record<number, number | undefined>} */
const DISCOVERY = { 133: 8, 134: 16, 135: 24, 136: 24, 137: 40 };
/** Options with the link-layer address of source and target. */
const LINK_ADDRESS = [1, 2];
/** UDP ports of DHCP's server and client. */
const DHCP_PORTS = [67, 68];
const UDP_HEADER = 8;
/** In DHCP: the client's hardware address, and behind a magic number the options. */
const CLIENT_ADDRESS = 28;
const OPTIONS = 240;
const MAGIC = 0x63825363;
const PAD = 0;
const END = 255;
const CLIENT_IDENTIFIER = 61;
/** A client identifier that is an Ethernet address: its type, and the length with it. */
const ETHERNET = 1;
const IDENTIFIER_LENGTH = 7;

/** Swaps two addresses in what passes between a guest and its network. */
export class CloneAddress {
  #guest;
  #own;
  /** The guest may take its own address, or quite another: then there is nothing to translate. */
  #needed = true;

  /** @param {number[]} guest the address that the guest knows @param {number[]} own the clone's on the network */
  constructor(guest, own) {
    this.#guest = Uint8Array.from(guest);
    this.#own = Uint8Array.from(own);
  }

  /** @param {Uint8Array} frame from the guest @returns {Uint8Array} for the network */
  out(frame) {
    if (frame.length < MIN_FRAME) return frame;
    const from = addressAt(frame, 6);
    if (from === addressAt(this.#guest, 0)) this.#needed = true;
    else if (from === addressAt(this.#own, 0)) this.#needed = false;
    return this.in(frame);
  }

  /** @param {Uint8Array} frame from the network @returns {Uint8Array} for the guest; others may have the same array */
  in(frame) {
    if (!this.#needed || frame.length < MIN_FRAME) return frame;
    const copy = frame.slice();
    this.#swap(copy, 0);
    this.#swap(copy, 6);
    const type = (copy[TYPE_AT] << 8) | copy[TYPE_AT + 1];
    if (type === ARP && copy.length >= MIN_FRAME + ARP_LENGTH) ARP_ADDRESSES.forEach((at) => this.#swap(copy, MIN_FRAME + at));
    else if (type === IPV4) this.#swapInDhcp(copy);
    else if (type === IPV6) this.#swapInDiscovery(copy);
    return copy;
  }

  /** @param {Uint8Array} frame @param {number} at @returns {boolean} whether it was one of the two */
  #swap(frame, at) {
    const address = addressAt(frame, at);
    const [guest, own] = [addressAt(this.#guest, 0), addressAt(this.#own, 0)];
    if (address === guest) frame.set(this.#own, at);
    else if (address === own) frame.set(this.#guest, at);
    return address === guest || address === own;
  }

  /** @param {Uint8Array} frame of IPv4 */
  #swapInDhcp(frame) {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const udp = MIN_FRAME + (frame[MIN_FRAME] & 15) * 4;
    const dhcp = udp + UDP_HEADER;
    // Only the first fragment has a header, and a piece of a message has no whole options.
    const fragment = frame.length > MIN_FRAME + 20 && (view.getUint16(MIN_FRAME + 6) & 0x3fff) !== 0;
    if (frame.length < dhcp + OPTIONS || frame[MIN_FRAME + 9] !== UDP || fragment) return;
    if (!DHCP_PORTS.includes(view.getUint16(udp)) || !DHCP_PORTS.includes(view.getUint16(udp + 2))) return;
    let changed = this.#swap(frame, dhcp + CLIENT_ADDRESS);
    if (view.getUint32(dhcp + OPTIONS - 4) === MAGIC) {
      for (let at = dhcp + OPTIONS; at + 1 < frame.length && frame[at] !== END; at += frame[at] === PAD ? 1 : 2 + frame[at + 1]) {
        const named = frame[at] === CLIENT_IDENTIFIER && frame[at + 1] === IDENTIFIER_LENGTH && frame[at + 2] === ETHERNET;
        if (named && at + 2 + IDENTIFIER_LENGTH <= frame.length) changed = this.#swap(frame, at + 3) || changed;
      }
    }
    // None: IPv4 allows that.
    if (changed) view.setUint16(udp + 6, 0);
  }

  /** @param {Uint8Array} frame of IPv6, without extension headers if it is neighbour discovery */
  #swapInDiscovery(frame) {
    const message = MIN_FRAME + IPV6_HEADER;
    const options = DISCOVERY[frame[message]];
    if (frame.length <= message || frame[MIN_FRAME + 6] !== ICMPV6 || options === undefined) return;
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const end = Math.min(frame.length, message + view.getUint16(MIN_FRAME + 4));
    for (let at = message + options; at + 8 <= end && frame[at + 1] !== 0; at += frame[at + 1] * 8) {
      if (!LINK_ADDRESS.includes(frame[at])) continue;
      const words = () => [2, 4, 6].map((word) => view.getUint16(at + word));
      const before = words();
      if (!this.#swap(frame, at + 2)) continue;
      // The checksum, changed by what changed (RFC 1624).
      let sum = ~view.getUint16(message + 2) & 0xffff;
      words().forEach((word, i) => (sum += word + (~before[i] & 0xffff)));
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
      view.setUint16(message + 2, ~sum & 0xffff);
    }
  }
}
