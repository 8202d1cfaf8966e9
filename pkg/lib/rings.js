// The single-producer single-consumer rings of web/src/rings.rs, which documents the records, seen from JavaScript;
// and the header around them. Runs on the page (shared memory) or in the worker (private memory).
import { COUNTER, COUNTERS_AT, MAGIC, VERSION, WORD } from "./layout.js";
import { Tab86Error } from "./errors.js";

/** Kinds of input records. */
export const INPUT = Object.freeze({ KEY: 1, MOUSE: 2, SERIAL: 3, CHUNK: 4, NET_IN: 5, NET_LINK: 6 });
/** Kinds of output records. */
export const OUTPUT = Object.freeze({ SERIAL: 1, FIRMWARE_LOG: 2, CHUNK_TAKEN: 3, CHUNK_WANTED: 4, NET_OUT: 5 });
/** Largest payload of a record. */
export const MAX_PAYLOAD = 1 << 14;

/** Bytes of a chunk of a streamed image, and of a slot of the mailbox, as in web/src/blocks.rs. */
export const CHUNK = 256 << 10;
/** The length in a chunk's record that means an error. */
const FAILED = 0xffffffff;

const HEADER_OF_RECORD = 4;

/**
 * Where a ring's bytes lie; they stay there for the machine's life. Positions count on for ever, modulo 2^32.
 * @typedef {{ base: number, length: number }} RingBytes
 */

/** Copies into a ring, in two pieces where it wraps. @param {Uint8Array} memory @param {RingBytes} ring @param {number} position @param {Uint8Array} source */
function writeRing(memory, { base, length }, position, source) {
  const at = position & (length - 1);
  const first = Math.min(source.length, length - at);
  memory.set(first === source.length ? source : source.subarray(0, first), base + at);
  if (first < source.length) memory.set(source.subarray(first), base);
}

/** Copies out of a ring. @param {Uint8Array} memory @param {RingBytes} ring @param {number} position @param {number} size @returns {Uint8Array<ArrayBuffer>} */
function readRing(memory, { base, length }, position, size) {
  const at = position & (length - 1);
  const first = Math.min(size, length - at);
  const target = new Uint8Array(size);
  target.set(memory.subarray(base + at, base + at + first));
  if (first < size) target.set(memory.subarray(base, base + size - first), first);
  return target;
}

/** A VM's memory with the header at a known address. */
export class VmMemory {
  #memory;
  #pointer;
  /** @type {ArrayBufferLike | null} */ #buffer = null;
  #words = new Int32Array(0);
  #counters = new BigInt64Array(0);
  #bytes = new Uint8Array(0);
  /** @type {RingBytes} */ #input;
  /** @type {RingBytes} */ #output;
  /** A picture of which pieces were taken. @type {{ seq: number, all: boolean, next: number, left: number } | null} */ #begun = null;

  /** @param {WebAssembly.Memory} memory @param {number} pointer address of the header */
  constructor(memory, pointer) {
    this.#memory = memory;
    this.#pointer = pointer;
    if (this.get(WORD.MAGIC) !== MAGIC || this.get(WORD.VERSION) !== VERSION) {
      throw new Tab86Error("internal", "The wasm file and the scripts of tab86 are of different versions: reload the page.");
    }
    this.#input = { base: this.get(WORD.INPUT_PTR), length: this.get(WORD.INPUT_LEN) };
    this.#output = { base: this.get(WORD.OUTPUT_PTR), length: this.get(WORD.OUTPUT_LEN) };
  }

  /** Makes the views anew when the memory has grown. */
  #refresh() {
    const buffer = this.#memory.buffer;
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer, this.#pointer, COUNTERS_AT / 4);
    this.#counters = new BigInt64Array(buffer, this.#pointer + COUNTERS_AT, 12);
    this.#bytes = new Uint8Array(buffer);
  }

  /** All words. */
  get words() {
    this.#refresh();
    return this.#words;
  }

  /** The whole memory. */
  get bytes() {
    this.#refresh();
    return this.#bytes;
  }

  /** @param {number} word a number of WORD */
  get(word) {
    return Atomics.load(this.words, word) >>> 0;
  }

  /** @param {number} word @param {number} value */
  set(word, value) {
    Atomics.store(this.words, word, value | 0);
  }

  /** @param {number} word @param {number} value @returns {number} the old value */
  swap(word, value) {
    return Atomics.exchange(this.words, word, value | 0) >>> 0;
  }

  /** @param {number} counter a number of COUNTER */
  count(counter) {
    this.#refresh();
    return Atomics.load(this.#counters, counter);
  }

  /**
   * Appends an input record. Whoever runs the machine must be woken.
   * @param {number} kind @param {Uint8Array} payload
   * @returns {boolean} false when the ring is full: try again later
   */
  pushInput(kind, payload) {
    const tail = this.get(WORD.INPUT_TAIL);
    const used = (tail - this.get(WORD.INPUT_HEAD)) >>> 0;
    const size = payload.length;
    if (used + HEADER_OF_RECORD + size > this.#input.length) return false;
    const head = Uint8Array.of(kind, size & 255, (size >> 8) & 255, size >> 16);
    writeRing(this.bytes, this.#input, tail, head);
    writeRing(this.bytes, this.#input, tail + HEADER_OF_RECORD, payload);
    this.set(WORD.INPUT_TAIL, tail + HEADER_OF_RECORD + size);
    return true;
  }

  /**
   * Puts a chunk of a streamed image into its slot of the mailbox, and the record that tells of it into the ring.
   * @param {import("./protocol.js").Chunk} chunk
   * @returns {boolean} false when the ring is full: try again later
   */
  pushChunk({ slot, stream, chunk, data, error }) {
    const text = data ? new Uint8Array(0) : new TextEncoder().encode(error).subarray(0, 1000);
    const record = new DataView(new ArrayBuffer(10));
    record.setUint8(0, slot);
    record.setUint8(1, stream);
    record.setUint32(2, chunk, true);
    record.setUint32(6, data ? data.length : FAILED, true);
    // What does not fit a slot is told by its length and refused by the machine.
    if (data) this.bytes.set(data.subarray(0, CHUNK), this.get(WORD.MAILBOX_PTR) + slot * CHUNK);
    return this.pushInput(INPUT.CHUNK, new Uint8Array([...new Uint8Array(record.buffer), ...text]));
  }

  /** Takes the oldest output record. @returns {{ kind: number, payload: Uint8Array } | null} */
  popOutput() {
    const head = this.get(WORD.OUTPUT_HEAD);
    const available = this.#available;
    if (available === 0) return null;
    const [kind, l0, l1, l2] = readRing(this.bytes, this.#output, head, HEADER_OF_RECORD);
    const size = l0 | (l1 << 8) | (l2 << 16);
    if (size > available - HEADER_OF_RECORD) {
      // No machine that works writes this.
      this.set(WORD.OUTPUT_HEAD, head + available);
      return null;
    }
    const payload = readRing(this.bytes, this.#output, head + HEADER_OF_RECORD, size);
    this.set(WORD.OUTPUT_HEAD, head + HEADER_OF_RECORD + size);
    return { kind, payload };
  }

  /** Bytes of output that wait; positions that cannot be count as none. */
  get #available() {
    const available = (this.get(WORD.OUTPUT_TAIL) - this.get(WORD.OUTPUT_HEAD)) >>> 0;
    return available >= HEADER_OF_RECORD && available <= this.#output.length ? available : 0;
  }

  /** Whether output waits. */
  get hasOutput() {
    return this.#available > 0;
  }

  /**
   * Copies what changed on the screen since the last call that succeeded, or a piece of it.
   * @param {boolean} whole the whole screen instead, from its beginning
   * @param {number} [most] pixels, but at least a row; what is left comes with the next calls
   * @returns {import("./protocol.js").Frame | null} null when nothing changed, or the VM was drawing (try again)
   */
  takeFrame(whole, most = Infinity) {
    const seq = this.get(WORD.FRAME_SEQ);
    const begun = whole ? null : this.#begun;
    if (seq & 1 || seq === 0 || (!whole && !begun && seq === this.get(WORD.DRAWN_SEQ))) return null;
    const [width, height, stride] = [WORD.FRAME_WIDTH, WORD.FRAME_HEIGHT, WORD.FRAME_STRIDE].map((w) => this.get(w));
    let [x, y, w, h] = [WORD.DIRTY_X, WORD.DIRTY_Y, WORD.DIRTY_W, WORD.DIRTY_H].map((word) => this.get(word));
    const all = whole || begun?.all === true;
    if (all) [x, y, w, h] = [0, 0, width, height];
    const pointer = this.get(WORD.FRAME_PTR);
    // A rectangle read while the VM wrote it can be anything: nothing outside the memory is touched.
    if (x + w > width || y + h > height || width > stride || pointer + stride * height * 4 > this.bytes.length) return null;
    // A picture that changes while it is taken goes on from here, so that its end has its turn too.
    const from = begun && begun.next >= y && begun.next < y + h ? begun.next : y;
    const left = begun?.seq === seq ? begun.left : h;
    const rows = Math.min(left, y + h - from, Math.max(1, Math.floor(most / w)));
    const pixels = new Uint8ClampedArray(w * rows * 4);
    for (let row = 0; row < rows; row++) {
      const at = pointer + ((from + row) * stride + x) * 4;
      pixels.set(this.bytes.subarray(at, at + w * 4), row * w * 4);
    }
    const text = this.get(WORD.TEXT_MODE) === 1;
    const aspect = this.get(WORD.ASPECT);
    if (this.get(WORD.FRAME_SEQ) !== seq) return null;
    const more = left > rows;
    const next = from + rows < y + h ? from + rows : y;
    this.#begun = more ? { seq, all, next, left: left - rows } : null;
    if (!more) this.set(WORD.DRAWN_SEQ, seq);
    return { seq, width, height, x, y: from, w, h: rows, text, aspect: (aspect >>> 16) / (aspect & 0xffff), pixels, more };
  }

  /** @returns {import("./protocol.js").Statistics} */
  statistics() {
    return {
      instructions: this.count(COUNTER.INSTRUCTIONS),
      virtualNs: this.count(COUNTER.VIRTUAL_NS),
      slices: this.count(COUNTER.SLICES),
      diskReads: this.count(COUNTER.DISK_READS),
      diskWrites: this.count(COUNTER.DISK_WRITES),
      jitBlocks: this.count(COUNTER.JIT_BLOCKS),
      netInFrames: this.count(COUNTER.NET_IN_FRAMES),
      netInBytes: this.count(COUNTER.NET_IN_BYTES),
      netOutFrames: this.count(COUNTER.NET_OUT_FRAMES),
      netOutBytes: this.count(COUNTER.NET_OUT_BYTES),
      netDropped: this.count(COUNTER.NET_DROPPED),
      kips: this.get(WORD.KIPS),
      idle: this.get(WORD.IDLE),
    };
  }

  /** The text on the screen, or null when the VM was writing it. */
  screenText() {
    const seq = this.get(WORD.FRAME_SEQ);
    if (seq & 1) return null;
    const pointer = this.get(WORD.TEXT_PTR);
    const length = this.get(WORD.TEXT_LEN);
    if (pointer + length > this.bytes.length) return null;
    // TextDecoder refuses views of shared memory: decode a copy.
    const copy = this.bytes.slice(pointer, pointer + length);
    return this.get(WORD.FRAME_SEQ) === seq ? new TextDecoder().decode(copy) : null;
  }
}
