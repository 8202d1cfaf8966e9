// The worker's source of chunks for streamed images (web/src/blocks.rs): HTTP Range or slices of a Blob.

/** Bytes of a chunk, as in web/src/blocks.rs. */
export const CHUNK = 256 << 10;
/** Chunks fetched at once, all images together. */
const PARALLEL = 4;
const ATTEMPTS = 3;
const RETRY_MS = 400;

/**
 * @typedef {object} ChunkUser what takes the chunks (WasmVm)
 * @property {() => Uint32Array} take_wanted pairs of stream and chunk
 * @property {(stream: number, chunk: number, data: Uint8Array) => void} provide
 * @property {(stream: number, message: string) => void} provide_error
 */

/** Brings the chunks that a VM wants. */
export class ChunkFetcher {
  #sources;
  #user;
  #arrived;
  /** @type {{ stream: number, chunk: number }[]} */ #queue = [];
  #active = 0;

  /**
   * @param {import("./protocol.js").StreamedImage[]} sources in the order of the VM's streams
   * @param {ChunkUser} user
   * @param {() => void} arrived called after each chunk
   */
  constructor(sources, user, arrived) {
    this.#sources = sources;
    this.#user = user;
    this.#arrived = arrived;
  }

  /** Starts to fetch what the guest waits for. */
  poll() {
    if (this.#sources.length === 0) return;
    const wanted = this.#user.take_wanted();
    for (let i = 0; i < wanted.length; i += 2) this.#queue.push({ stream: wanted[i], chunk: wanted[i + 1] });
    while (this.#active < PARALLEL) {
      const next = this.#queue.shift();
      if (!next) break;
      this.#active++;
      this.#bring(next.stream, next.chunk).finally(() => {
        this.#active--;
        this.#arrived();
        this.poll();
      });
    }
  }

  /** @param {number} stream @param {number} chunk */
  async #bring(stream, chunk) {
    try {
      this.#user.provide(stream, chunk, await readChunk(this.#sources[stream], chunk));
    } catch (error) {
      this.#user.provide_error(stream, error instanceof Error ? error.message : String(error));
    }
  }
}

/** @param {import("./protocol.js").StreamedImage} source @param {number} chunk */
async function readChunk(source, chunk) {
  const start = chunk * CHUNK;
  const end = Math.min(start + CHUNK, source.size);
  if (source.blob) return new Uint8Array(await source.blob.slice(start, end).arrayBuffer());
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await fetch(/** @type {string} */ (source.url), { headers: { Range: `bytes=${start}-${end - 1}` } });
      if (response.status !== 206) throw new Error(`the server answered ${response.status} to a Range request`);
      return new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * attempt));
    }
  }
}
