// Every message between the page and the workers: its name and its shape. With shared memory a few workers (pool-worker.js)
// run all machines; messages about a machine carry its `place` in the run queue. Without it each machine has a worker
// of its own (vm-worker.js), and input, output, frames and statistics are the messages marked "plain".

/**
 * @typedef {{ data: Uint8Array, readOnly?: boolean }} DataImage an image in memory
 * @typedef {{ size: number, url?: string, blob?: Blob, readOnly?: boolean }} StreamedImage
 *   an image that stays outside: `url` is read by HTTP Range, `blob` by slices
 * @typedef {DataImage | StreamedImage} ImageSetup
 *
 * @typedef {object} MachineSetup what `create` of the wasm module takes
 * @property {number} memory bytes
 * @property {string} [cpu] @property {number} [cpus] @property {string} [cmdline] @property {string} [bootOrder]
 * @property {"realtime" | "deterministic"} clock @property {number} startTime seconds since 1970 UTC
 * @property {boolean} jit
 * @property {Uint8Array} [bios] @property {Uint8Array} [vgaBios]
 * @property {Uint8Array} [kernel] @property {Uint8Array} [initrd] @property {Uint8Array} [multiboot]
 * @property {ImageSetup} [fda] @property {ImageSetup} [fdb]
 * @property {ImageSetup} [hda] @property {ImageSetup} [hdb] @property {ImageSetup} [cdrom]
 * @property {{ mac: number[] }} [network] a network card, with the cable out
 *
 * @typedef {object} Frame what changed on the screen
 * @property {number} seq sequence number
 * @property {number} width @property {number} height of the whole screen
 * @property {number} x @property {number} y @property {number} w @property {number} h the changed rectangle
 * @property {boolean} text a text mode
 * @property {number} aspect width to height of the whole picture as a monitor shows it
 * @property {Uint8ClampedArray<ArrayBuffer>} pixels RGBA of the rectangle
 * @property {boolean} more it is a piece: the others have not been taken yet
 *
 * @typedef {"stopped" | "running" | "paused" | "halted" | "shutdown" | "off" | "crashed" | "closed"} State
 *   halted: with interrupts off, for ever; shutdown: after a triple fault; off: powered off by the guest
 *
 * @typedef {object} Statistics
 * @property {bigint} instructions @property {bigint} virtualNs @property {bigint} slices
 * @property {bigint} diskReads @property {bigint} diskWrites @property {bigint} jitBlocks
 * @property {bigint} netInFrames @property {bigint} netInBytes to the guest
 * @property {bigint} netOutFrames @property {bigint} netOutBytes from the guest @property {bigint} netDropped
 * @property {number} kips @property {number} idle 1/1000
 *
 * @typedef {object} Chunk of a streamed image, on its way into a slot of the machine's mailbox
 * @property {number} slot @property {number} stream @property {number} chunk
 * @property {Uint8Array} [data] @property {string} [error] one of the two
 *
 * @typedef {{ bytes: number, references: number }} CopyBegin the size of a memory that is copied from worker to worker, and
 *   places for JavaScript values; it comes first
 * @typedef {{ at: number, data: ArrayBuffer }} CopyPiece a piece of that memory; what does not come is zero. null ends it
 *
 * @typedef {object} TurnReport what a machine's worker tells of turns
 * @property {number} turn the number of the one that is over; 0: none
 * @property {number} used milliseconds, since the last report @property {boolean} wants another
 *
 * @typedef {object} PoolSetup
 * @property {WebAssembly.Module} module @property {string} glue address of its JavaScript
 * @property {WebAssembly.Memory} memory the run queue's
 * @property {SharedArrayBuffer} board two words for each worker: messages sent to it; odd while it works
 * @property {number} worker its number @property {number} epoch of the pool's clock
 * @property {number} most workers that run beside a page that shows an answer to input
 */

/** What the page asks; each is `{ type, id, ...arguments }` and is answered by a `reply` with the same `id`. */
export const REQUEST = Object.freeze({
  /** pool: PoolSetup */
  JOIN: "join",
  /** pool: { place, generation, memory: WebAssembly.Memory }: a machine that the worker may run from now on */
  ATTACH: "attach",
  /** pool: { place, generation }: forget it */
  DETACH: "detach",
  /** { place, setup: MachineSetup } → { header }; plain also { module, glue, epoch }, and `copy: MessagePort` instead
   * of `setup` for a clone, whose memory comes from there (CopyBegin, CopyPiece) */
  CREATE: "create",
  /** { place } */
  START: "start",
  /** { place } */
  PAUSE: "pause",
  /** { place } */
  RESET: "reset",
  /** { place, address: number, length: number } → Uint8Array */
  READ_MEMORY: "read-memory",
  /** { place } → string */
  RAM_HASH: "ram-hash",
  /** pool: { place, target: WebAssembly.Memory } → nothing: copies the memory; plain: { to: MessagePort } */
  COPY: "copy",
  /** { place } → { header }: the machine in this memory is a copy that begins its own life */
  ADOPT: "adopt",
  /** pool: { place }: takes the machine out of the run queue */
  REMOVE: "remove",
  /** pool: { memory: WebAssembly.Memory }: zeroes it, between other work */
  CLEAR: "clear",
});

/** What the page tells without an answer. */
export const TELL = Object.freeze({
  /** plain: { kind: number, payload: Uint8Array }: an input record */
  INPUT: "input",
  /** plain: Chunk */
  CHUNK: "chunk",
  /** plain: { priority: number } */
  PRIORITY: "priority",
  /** plain: { seq: number }: the page drew this frame and wants the next */
  DRAWN: "drawn",
  /** plain: {}: the page wants the whole screen (a canvas was attached) */
  WHOLE: "whole",
  /** plain: { turn: number, ms: number }: the machine may run for so long; a report must follow */
  TURN: "turn",
  /** plain: {}: a turn ends after the slice that runs, and from now on the machine must ask */
  YIELD: "yield",
  /** plain: {}: it need not ask any more, and has no turn */
  FREE: "free",
});

/** What the worker tells. */
export const FROM_WORKER = Object.freeze({
  /** { id, value } or { id, error: { code, message } } */
  REPLY: "reply",
  /** { place, generation, state: State, code?: number }: `code` is the guest's debug-exit value */
  STATE: "state",
  /** { place, generation, error: { code, message } }: something failed while the VM ran; `state` follows when it can't go on */
  ERROR: "error",
  /** pool: { place, generation }: there is output; sent once until the page has seen all of it */
  OUTPUT_READY: "output-ready",
  /** pool: { place, generation }: there is a new picture */
  FRAME_READY: "frame-ready",
  /** plain: { kind: number, payload: Uint8Array }: an output record */
  OUTPUT: "output",
  /** plain: { frame: Frame, screenText: string } */
  FRAME: "frame",
  /** plain: Statistics, a few times a second */
  STATISTICS: "statistics",
  /** plain: TurnReport */
  TURN_OVER: "turn-over",
});

/** What a machine wants after a slice, and flags; the same numbers as in web/src/vm.rs. */
export const AFTER = Object.freeze({ READY: 0, PARKED: 1, STOPPED: 2, NEXT: 3, DREW: 16, STATE: 32 });

/** The states that a machine is in by itself, by number as in web/src/pace.rs. */
export const STATES = Object.freeze(/** @type {const} */ (["stopped", "running", "paused", "halted", "shutdown", "off"]));

/** Priorities of the run queue by name. */
export const PRIORITIES = Object.freeze({ background: 0, audible: 1, visible: 2 });
