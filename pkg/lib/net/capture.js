// Recorded frames as a pcapng file, for Wireshark and tcpdump (draft-ietf-opsawg-pcapng: a section header, one interface,
// an enhanced packet block for each frame; little-endian).

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const ETHERNET = 1;
const SNAP_LENGTH = 65535;
/** Options: name of the interface; its address; name of the program that wrote the file; flags of a packet. */
const OPTION = { IF_NAME: 2, IF_MAC: 6, SHB_PROGRAM: 4, EPB_FLAGS: 2 };
/** Ways of a packet, as seen by the machine. */
const FLAGS = { in: 1, out: 2 };
/** A capture that somebody forgot ends here. */
const MAX_BYTES = 64 << 20;

/** @typedef {"in" | "out"} Direction to the guest, from the guest */

const text = (/** @type {string} */ value) => new TextEncoder().encode(value);
const words = (/** @type {number[]} */ ...values) => new Uint8Array(Uint32Array.from(values).buffer);

/** Bytes, filled up to whole words. @param {Uint8Array[]} parts */
function join(...parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const all = new Uint8Array((length + 3) & ~3);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** @param {number} code @param {Uint8Array} value */
const option = (code, value) => join(words(code | (value.length << 16)), value);
const END_OF_OPTIONS = words(0);

/** @param {number} type @param {Uint8Array[]} body each of whole words @returns {Uint8Array<ArrayBuffer>} */
function block(type, ...body) {
  const length = 12 + body.reduce((sum, part) => sum + part.length, 0);
  return join(words(type, length), ...body, words(length));
}

/** A capture in progress. */
export class Capture {
  /** @type {Uint8Array<ArrayBuffer>[]} */ #blocks;
  #now;
  #ended;
  #bytes = 0;
  /** Frames recorded. */
  frames = 0;
  /** Frames that came when the capture was full. */
  missed = 0;

  /**
   * @param {number[]} mac of the machine @param {(capture: Capture) => void} ended called by `stop`
   * @param {() => number} [now] milliseconds since 1970 UTC
   */
  constructor(mac, ended, now = () => performance.timeOrigin + performance.now()) {
    this.#ended = ended;
    this.#now = now;
    const version = words(1);
    const unknownLength = words(0xffffffff, 0xffffffff);
    this.#blocks = [
      block(SECTION, words(BYTE_ORDER), version, unknownLength, option(OPTION.SHB_PROGRAM, text("tab86")), END_OF_OPTIONS),
      block(INTERFACE, words(ETHERNET, SNAP_LENGTH), option(OPTION.IF_NAME, text("card")), option(OPTION.IF_MAC, Uint8Array.from(mac)), END_OF_OPTIONS),
    ];
  }

  /** Bytes recorded. */
  get bytes() {
    return this.#bytes;
  }

  /** @param {Direction} direction @param {Uint8Array} frame */
  record(direction, frame) {
    if (this.#bytes + frame.length > MAX_BYTES) {
      this.missed++;
      return;
    }
    // Microseconds, the resolution unless an option says another.
    const time = Math.round(this.#now() * 1000);
    const head = words(0, Math.floor(time / 2 ** 32), time >>> 0, frame.length, frame.length);
    this.#blocks.push(block(PACKET, head, join(frame), option(OPTION.EPB_FLAGS, words(FLAGS[direction])), END_OF_OPTIONS));
    this.#bytes += frame.length;
    this.frames++;
  }

  /** Ends the capture. @returns {Blob} the file */
  stop() {
    this.#ended(this);
    return new Blob(this.#blocks, { type: "application/x-pcapng" });
  }
}
