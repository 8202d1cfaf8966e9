// Data beside code: the same loop stores to a page of its own and to the page that it runs in (128 bytes behind it), in the fast
// tier and interpreted, in Node. Prints nanoseconds an instruction and the ratio of the two; both run in turn, and what counts is
// processor time.
//   node tests/bench/smc.mjs [--millions N] [--rounds N]
// needs build/wasm (`cargo xtask build`).
import { parseArgs } from "node:util";
import { DATA, OTHER, boot, image, le, machine, missing, start } from "../jit/programs.mjs";

const { values } = parseArgs({ options: { millions: { type: "string", default: "20" }, rounds: { type: "string", default: "5" } } });
if (missing) throw new Error(missing);
const instructions = Number(values.millions) * 1e6;

/** Copies the loop to OTHER and runs it without end; each round has ten instructions with a load and a store. */
function program(/** @type {number} */ data) {
  const loop = [
    0x8b, 0x07, 0x01, 0xc8, 0x31, 0xd0, 0x89, 0x07, 0x41, 0x83, 0xc2, 0x03, 0xc1, 0xe8, 0x02, 0x01, 0xc2, 0x4d, 0x75, 0xec,
  ]; // mov eax, [edi]; add eax, ecx; xor eax, edx; mov [edi], eax; inc ecx; add edx, 3; shr eax, 2; add edx, eax; dec ebp; jnz
  const copy = loop.flatMap((byte, i) => [0xc6, 0x05, ...le(OTHER + i), byte]);
  return image([...start(0), ...copy, 0xbf, ...le(data), 0xb9, ...le(OTHER), 0xff, 0xe1]);
}

/** @param {object} setup */
function started(setup) {
  const vm = machine({ memory: 16 << 20, cpu: "p4", ...setup });
  boot(vm);
  vm.run(2_000_000);
  return vm;
}

const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[list.length >> 1];
for (const jit of [true, false]) {
  const places = { clean: DATA, beside: OTHER + 128 };
  const vms = Object.entries(places).map(([name, data]) => ({ name, vm: started({ jit, multiboot: program(data) }), times: /** @type {number[]} */ ([]) }));
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const { vm, times } of vms) {
      const before = process.cpuUsage();
      vm.run(instructions);
      const { user, system } = process.cpuUsage(before);
      times.push(((user + system) * 1e3) / instructions);
    }
  }
  const [clean, beside] = vms.map(({ times }) => median(times));
  const who = jit ? "fast tier" : "interpreter";
  console.log(`${who}: clean ${clean.toFixed(2)} ns, beside code ${beside.toFixed(2)} ns an instruction, ratio ${(beside / clean).toFixed(2)}`);
}
