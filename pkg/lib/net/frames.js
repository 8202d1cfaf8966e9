// Ethernet frames and addresses: destination (6 bytes), source (6), type (2), data; no frame check sequence.
import { Tab86Error } from "../errors.js";

/** Shortest frame: no data at all. */
export const MIN_FRAME = 14;
/** Longest frame, with a VLAN tag (emulator-core/src/devices/ne2000). */
export const MAX_FRAME = 1518;

/** @param {Uint8Array} frame */
export const isFrame = (frame) => frame.length >= MIN_FRAME && frame.length <= MAX_FRAME;

/** The address at an offset of a frame, as a number. @param {Uint8Array} frame @param {number} at */
export function addressAt(frame, at) {
  const high = (frame[at] << 8) | frame[at + 1];
  const low = ((frame[at + 2] << 24) | (frame[at + 3] << 16) | (frame[at + 4] << 8) | frame[at + 5]) >>> 0;
  return high * 2 ** 32 + low;
}

/** Does a frame go to a group (multicast, broadcast)? @param {Uint8Array} frame */
export const isToGroup = (frame) => (frame[0] & 1) !== 0;

/** Does a frame say that it comes from a group, which no card is? @param {Uint8Array} frame */
export const isFromGroup = (frame) => (frame[6] & 1) !== 0;

/** A random address of those that are not given to manufacturers (locally administered, IEEE 802 section 8). */
export function randomMac() {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac[0] = (mac[0] & 0xfc) | 2;
  return [...mac];
}

/** @param {unknown} text as in "02:00:5e:10:00:01" @returns {number[]} */
export function parseMac(text) {
  const fits = typeof text === "string" && /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text);
  if (!fits) throw new Tab86Error("bad-options", "`network.mac` is a network address of six bytes, such as 02:00:5e:10:00:01.");
  const mac = text.split(/[:-]/).map((byte) => parseInt(byte, 16));
  if (mac[0] & 1) throw new Tab86Error("bad-options", `\`network.mac\` must be the address of one card; ${text} is that of a group (its first byte is odd).`);
  if (mac.every((byte) => byte === 0)) throw new Tab86Error("bad-options", "`network.mac` must not be all zero.");
  return mac;
}

/** @param {number[]} mac */
export const formatMac = (mac) => mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
