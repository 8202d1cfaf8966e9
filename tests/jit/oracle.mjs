// The oracle as wasm, with translation forced: `node tests/jit/oracle.mjs MODULE < RECORDS`, where `tab86-oracle --records`
// writes the records. Without records it runs the checked-in sample. `cargo xtask oracle --jit` does all of it.
import { readFileSync, readSync, writeSync } from "node:fs";

const text = new TextDecoder();
/** What modules of translated code import. @type {WebAssembly.ModuleImports} */
const environment = {};
/** @type {WebAssembly.Memory} */ let memory;
/** @type {WebAssembly.Table} */ let table;
const bytes = (/** @type {number} */ at, /** @type {number} */ length) => new Uint8Array(memory.buffer, at, length);

const oracle = {
  read: (/** @type {number} */ at, /** @type {number} */ length) => readSync(0, bytes(at, length)),
  write: (/** @type {number} */ at, /** @type {number} */ length) => {
    for (let done = 0; done < length; ) done += writeSync(1, bytes(at + done, length - done));
  },
  slots: () => table.length,
  provide: (/** @type {number} */ at, /** @type {number} */ length, /** @type {number} */ slot) => {
    environment[text.decode(bytes(at, length))] = table.get(slot);
  },
  instantiate: (/** @type {number} */ at, /** @type {number} */ length, /** @type {number} */ end) => {
    if (table.length < end) table.grow(Math.max(end - table.length, 1024));
    new WebAssembly.Instance(new WebAssembly.Module(bytes(at, length)), { e: environment });
    return 1;
  },
};

const program = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(process.argv[2])), { oracle });
const { memory: own, __indirect_function_table: functions, main } = /** @type {any} */ (program.exports);
[memory, table] = [own, functions];
Object.assign(environment, { memory, table });
process.exit(main(0, 0));
