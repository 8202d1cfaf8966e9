// The worker's end of a machine: an instance of the wasm module over the machine's memory, and what a slice brings out.
import { packError, Tab86Error } from "./errors.js";
import { AFTER, STATES } from "./protocol.js";
import { VmMemory } from "./rings.js";

/**
 * @typedef {import("./protocol.js").State} State
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 *
 * @typedef {object} Glue what the wasm module exports to JavaScript
 * @property {(options: { module: WebAssembly.Module, memory?: WebAssembly.Memory, thread_stack_size?: number }) => { memory: WebAssembly.Memory, __wbindgen_externrefs: WebAssembly.Table }} initSync
 * @property {(setup: MachineSetup) => number} create @property {() => number} header
 * @property {(now: number) => void} run @property {(now: number) => number} settle @property {() => number} wake_at
 * @property {() => number} report_state @property {() => number | undefined} exit_code
 * @property {(now: number) => void} start @property {(now: number) => void} pause @property {(now: number) => void} reset
 * @property {(have: number) => number} link
 * @property {(page: number) => boolean} is_zero_page
 * @property {() => void} become_clone @property {() => string} ram_hash
 * @property {(address: number, length: number) => Uint8Array} read_memory @property {() => string} panic_message
 *
 * @typedef {object} SliceEvents
 * @property {(state: State, code?: number) => void} state
 * @property {() => void} drew
 */

const PAGE = 1 << 16;
/** Stack of an instance over a shared memory, which each gets from that memory: a power of two, whole pages. */
const STACK = 1 << 19;

/** A machine in this worker. */
export class Machine {
  #glue;
  #memory;
  /** @type {VmMemory | null} */ #view = null;
  /** The instance's JavaScript values; which places are free is in the machine's memory. */
  #references;
  /** Compiled modules of the machine that this instance has functions of. */
  #linked = 0;

  /**
   * @param {Glue} glue a fresh one @param {WebAssembly.Module} module
   * @param {WebAssembly.Memory} [memory] the shared memory; without it the machine has a private one
   */
  constructor(glue, module, memory) {
    this.#glue = glue;
    const exports = glue.initSync(memory ? { module, memory, thread_stack_size: STACK } : { module });
    this.#memory = memory ?? exports.memory;
    this.#references = exports.__wbindgen_externrefs;
  }

  get glue() {
    return this.#glue;
  }

  get memory() {
    return this.#memory;
  }

  /**
   * The parts of the memory that are not all zero, as [begin, end) in bytes; each has at most `pages` wasm pages.
   * @param {number} pages @returns {Generator<[number, number]>}
   */
  *used(pages) {
    const count = this.#memory.buffer.byteLength / PAGE;
    let begin = 0;
    for (let page = 0; page < count; page++) {
      const zero = this.#glue.is_zero_page(page);
      if (begin < page && (zero || page - begin === pages)) {
        yield [begin * PAGE, page * PAGE];
        begin = page;
      }
      if (zero) begin = page + 1;
    }
    if (begin < count) yield [begin * PAGE, count * PAGE];
  }

  /** Places for JavaScript values: an instance that gets a copy of this one's memory needs as many. */
  get references() {
    return this.#references.length;
  }

  /** @param {number} references */
  reserve(references) {
    if (references > this.references) this.#references.grow(references - this.references);
  }

  /** The header and the rings. */
  get view() {
    return (this.#view ??= new VmMemory(this.#memory, this.#glue.header()));
  }

  /**
   * Runs a slice.
   * @param {() => number} clock @param {SliceEvents} events
   * @returns {number} AFTER.READY, PARKED or STOPPED
   */
  slice(clock, events) {
    this.#linked = this.#glue.link(this.#linked);
    this.#glue.run(clock());
    this.#linked = this.#glue.link(0xffffffff);
    const after = this.#glue.settle(clock());
    if (after & AFTER.DREW) events.drew();
    if (after & AFTER.STATE) events.state(STATES[this.#glue.report_state()], this.#glue.exit_code());
    return after & AFTER.NEXT;
  }

  /** The state, to be told to the page. @returns {State} */
  reportState() {
    return STATES[this.#glue.report_state()];
  }

  /** An error of this machine as plain data: a trap says nothing, the panic before it does. @param {unknown} error */
  explain(error) {
    if (!(error instanceof WebAssembly.RuntimeError)) return packError(error);
    let panic = "";
    try {
      panic = this.#glue.panic_message();
    } catch {
      // The memory is in such a state that not even this works.
    }
    return packError(new Tab86Error("internal", `The emulator failed and this machine cannot go on: ${panic || error.message}.`));
  }
}
