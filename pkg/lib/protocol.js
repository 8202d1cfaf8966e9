// Every message between the page and a VM's worker: its name and its shape. Input, serial output, frames and statistics
// cross in shared memory where there is some (layout.js, rings.js); without it they are the messages marked "plain".

/**
 * @typedef {{ data: Uint8Array, readOnly?: boolean }} DataImage an image in memory
 * @typedef {{ size: number, url?: string, blob?: Blob, readOnly?: boolean }} StreamedImage
 *   an image that stays outside: `url` is read by HTTP Range, `blob` by slices
 * @typedef {DataImage | StreamedImage} ImageSetup
 *
 * @typedef {object} MachineSetup what WasmVm's constructor takes
 * @property {number} memory bytes
 * @property {string} [cpu] @property {number} [cpus] @property {string} [cmdline] @property {string} [bootOrder]
 * @property {"realtime" | "deterministic"} clock @property {number} startTime seconds since 1970 UTC
 * @property {boolean} jit
 * @property {Uint8Array} [bios] @property {Uint8Array} [vgaBios]
 * @property {Uint8Array} [kernel] @property {Uint8Array} [initrd] @property {Uint8Array} [multiboot]
 * @property {ImageSetup} [fda] @property {ImageSetup} [fdb]
 * @property {ImageSetup} [hda] @property {ImageSetup} [hdb] @property {ImageSetup} [cdrom]
 *
 * @typedef {object} Frame what changed on the screen
 * @property {number} seq sequence number
 * @property {number} width @property {number} height of the whole screen
 * @property {number} x @property {number} y @property {number} w @property {number} h the changed rectangle
 * @property {boolean} text a text mode
 * @property {number} aspect width to height of the whole picture as a monitor shows it
 * @property {Uint8ClampedArray<ArrayBuffer>} pixels RGBA of the rectangle
 *
 * @typedef {"stopped" | "running" | "paused" | "halted" | "shutdown" | "off" | "crashed" | "closed"} State
 *   halted: with interrupts off, for ever; shutdown: after a triple fault; off: powered off by the guest
 *
 * @typedef {object} Statistics
 * @property {bigint} instructions @property {bigint} virtualNs @property {bigint} slices
 * @property {bigint} diskReads @property {bigint} diskWrites @property {bigint} jitBlocks
 * @property {number} kips @property {number} idle 1/1000
 */

/** What the page asks; each is `{ type, id, ...arguments }` and is answered by a `reply` with the same `id`. */
export const REQUEST = Object.freeze({
  /** { module: WebAssembly.Module, memory: WebAssembly.Memory | null, glue: string, setup: MachineSetup } → { header } */
  CREATE: "create",
  /** {} */
  START: "start",
  /** {} */
  PAUSE: "pause",
  /** {} */
  RESET: "reset",
  /** { address: number, length: number } → Uint8Array */
  READ_MEMORY: "read-memory",
});

/** What the page tells without an answer. */
export const TELL = Object.freeze({
  /** plain: { kind: number, payload: Uint8Array }: an input record */
  INPUT: "input",
  /** plain: { seq: number }: the page drew this frame and wants the next */
  DRAWN: "drawn",
  /** plain: {}: the page wants the whole screen (a canvas was attached) */
  WHOLE: "whole",
  /** {}: the worker's engine has no Atomics.waitAsync: wake up, there is input */
  WAKE: "wake",
});

/** What the worker tells. */
export const FROM_WORKER = Object.freeze({
  /** { id, value } or { id, error: { code, message } } */
  REPLY: "reply",
  /** { state: State, code?: number }: `code` is the guest's debug-exit value */
  STATE: "state",
  /** { error: { code, message } }: something failed while the VM ran; `state` follows when it can't go on */
  ERROR: "error",
  /** shared: {}: there is output; sent once until the page has seen all of it */
  OUTPUT_READY: "output-ready",
  /** plain: { kind: number, payload: Uint8Array }: an output record */
  OUTPUT: "output",
  /** plain: { frame: Frame, screenText: string } */
  FRAME: "frame",
  /** plain: Statistics, a few times a second */
  STATISTICS: "statistics",
});

/** What WasmVm.run_slice returns; the same numbers as in web/src/lib.rs. */
export const SLICE = Object.freeze({ BUDGET: 0, HALTED: 1, BLOCKED: 2, SHUTDOWN: 3, POWER_OFF: 4, DEBUG_EXIT: 5, DEAD: 6 });
