// Brings the chunks of streamed images (web/src/blocks.rs) that a machine wants: by HTTP Range or from a Blob.
import { CHUNK } from "./rings.js";

/** Chunks on their way at once, as many as the machine's mailbox has slots (web/src/blocks.rs). */
const SLOTS = 4;
const ATTEMPTS = 3;
const RETRY_MS = 400;

/** Brings the chunks that a machine wants. */
export class ChunkFetcher {
  #sources;
  #deliver;
  /** @type {{ stream: number, chunk: number }[]} */ #queue = [];
  #free = Array.from({ length: SLOTS }, (_, slot) => slot);
  #closed = new AbortController();

  /**
   * @param {import("./protocol.js").StreamedImage[]} sources in the order of the machine's streams
   * @param {(chunk: import("./protocol.js").Chunk) => void} deliver
   */
  constructor(sources, deliver) {
    this.#sources = sources;
    this.#deliver = deliver;
  }

  /** The same sources for a clone of the machine. */
  get sources() {
    return this.#sources;
  }

  /** The machine waits for a chunk. @param {number} stream @param {number} chunk */
  want(stream, chunk) {
    this.#queue.push({ stream, chunk });
    this.#next();
  }

  /** The machine has taken what lay in a slot. @param {number} slot */
  taken(slot) {
    this.#free.push(slot);
    this.#next();
  }

  #next() {
    while (this.#free.length && this.#queue.length) {
      const slot = /** @type {number} */ (this.#free.pop());
      void this.#bring(slot, /** @type {{ stream: number, chunk: number }} */ (this.#queue.shift()));
    }
  }

  /** @param {number} slot @param {{ stream: number, chunk: number }} wanted */
  async #bring(slot, { stream, chunk }) {
    /** @type {{ data: Uint8Array } | { error: string }} */
    let result;
    try {
      result = { data: await readChunk(this.#sources[stream], chunk, this.#closed.signal) };
    } catch (error) {
      result = { error: error instanceof Error ? error.message : String(error) };
    }
    if (!this.#closed.signal.aborted) this.#deliver({ slot, stream, chunk, ...result });
  }

  close() {
    this.#queue = [];
    this.#closed.abort();
  }
}

/** @param {import("./protocol.js").StreamedImage} source @param {number} chunk @param {AbortSignal} signal */
async function readChunk(source, chunk, signal) {
  const start = chunk * CHUNK;
  const end = Math.min(start + CHUNK, source.size);
  if (source.blob) return new Uint8Array(await source.blob.slice(start, end).arrayBuffer());
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await fetch(/** @type {string} */ (source.url), { headers: { Range: `bytes=${start}-${end - 1}` }, signal });
      if (response.status !== 206) throw new Error(`the server answered ${response.status} to a Range request`);
      return new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      if (attempt === ATTEMPTS || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * attempt));
    }
  }
}
