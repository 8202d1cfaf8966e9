// A worker that runs one VM. Talks to pkg/lib/link.js in the messages of protocol.js.
import { packError, Tab86Error } from "./errors.js";
import { COUNTER, WORD } from "./layout.js";
import { FROM_WORKER, REQUEST, TELL } from "./protocol.js";
import { VmMemory } from "./rings.js";
import { Runner } from "./runner.js";
import { ChunkFetcher } from "./streams.js";

/** Between two `statistics` messages. */
const STATISTICS_MS = 200;
/** Properties of a MachineSetup that hold images, in the order in which WasmVm numbers its streams. */
const IMAGES = /** @type {const} */ (["fda", "fdb", "hda", "hdb", "cdrom"]);

/** @typedef {import("./protocol.js").MachineSetup} MachineSetup */

/** @type {{ vm: any, glue: any, memory: VmMemory, runner: Runner, shared: boolean } | null} */
let machine = null;
let waitingForFrame = false;
let statisticsAt = -Infinity;
/** @type {{ kind: number, payload: Uint8Array }[]} input that did not fit the ring */
let backlog = [];

/** @param {object} message @param {Transferable[]} [transfer] */
const post = (message, transfer = []) => self.postMessage(message, { transfer });

/** @param {{ module: WebAssembly.Module, memory: WebAssembly.Memory | null, glue: string, setup: MachineSetup }} request */
async function create({ module, memory, glue: address, setup }) {
  const glue = (await import(address)).createGlue();
  const exports = glue.initSync(memory ? { module, memory } : { module });
  const vm = new glue.WasmVm(setup);
  const header = vm.header_ptr();
  const shared = memory !== null;
  const vmMemory = new VmMemory(memory ?? exports.memory, header);
  const streamed = IMAGES.map((name) => setup[name]).filter((image) => image && !("data" in image));
  const sources = /** @type {import("./protocol.js").StreamedImage[]} */ (streamed);
  const fetcher = new ChunkFetcher(sources, vm, () => machine?.runner.wake());
  const runner = new Runner(vm, vmMemory, shared, {
    afterSlice: () => {
      fetcher.poll();
      if (shared) announceOutput(vmMemory);
      else sendAll(vmMemory);
    },
    drawn: () => !shared && sendFrame(vmMemory, false),
    state: (state, code) => {
      if (!shared) sendStatistics(vmMemory);
      post({ type: FROM_WORKER.STATE, state, code });
    },
    crashed: (error) => post({ type: FROM_WORKER.ERROR, error: explain(error, glue) }),
  });
  machine = { vm, glue, memory: vmMemory, runner, shared };
  return { header };
}

/** A trap says nothing: the panic before it does. @param {unknown} error @param {any} glue */
function explain(error, glue) {
  if (!(error instanceof WebAssembly.RuntimeError)) return packError(error);
  const panic = glue.panic_message();
  return packError(new Tab86Error("internal", `The emulator failed and this machine cannot go on: ${panic || error.message}.`));
}

/** @param {VmMemory} memory */
function announceOutput(memory) {
  if (memory.hasOutput && memory.swap(WORD.WAKE_PAGE, 0)) post({ type: FROM_WORKER.OUTPUT_READY });
}

/** @param {VmMemory} memory */
function sendAll(memory) {
  for (let record = memory.popOutput(); record; record = memory.popOutput()) {
    post({ type: FROM_WORKER.OUTPUT, ...record }, [record.payload.buffer]);
  }
  while (backlog.length && memory.pushInput(backlog[0].kind, backlog[0].payload)) backlog.shift();
  if (performance.now() - statisticsAt >= STATISTICS_MS) sendStatistics(memory);
}

/** @param {VmMemory} memory @param {boolean} whole */
function sendFrame(memory, whole) {
  // One frame on its way at a time; what changes meanwhile goes with the next.
  if (waitingForFrame && !whole) return;
  const frame = memory.takeFrame(whole);
  if (!frame) return;
  waitingForFrame = true;
  post({ type: FROM_WORKER.FRAME, frame, screenText: memory.screenText() ?? "" }, [frame.pixels.buffer]);
}

/** @param {VmMemory} memory */
function sendStatistics(memory) {
  statisticsAt = performance.now();
  post({
    type: FROM_WORKER.STATISTICS,
    instructions: memory.count(COUNTER.INSTRUCTIONS),
    virtualNs: memory.count(COUNTER.VIRTUAL_NS),
    slices: memory.count(COUNTER.SLICES),
    diskReads: memory.count(COUNTER.DISK_READS),
    diskWrites: memory.count(COUNTER.DISK_WRITES),
    jitBlocks: memory.count(COUNTER.JIT_BLOCKS),
    kips: memory.get(WORD.KIPS),
    idle: memory.get(WORD.IDLE),
  });
}

/** @param {{ type: string } & any} message */
async function answer(message) {
  if (message.type === REQUEST.CREATE) return create(message);
  if (!machine) throw new Tab86Error("internal", "The machine was not created.");
  const { vm, runner } = machine;
  switch (message.type) {
    case REQUEST.START:
      return runner.start();
    case REQUEST.PAUSE:
      return runner.pause();
    case REQUEST.RESET:
      vm.reset();
      return runner.restarted();
    case REQUEST.READ_MEMORY:
      return vm.read_memory(message.address, message.length);
    default:
      throw new Tab86Error("internal", `Unknown request ${message.type}.`);
  }
}

self.onmessage = async ({ data: message }) => {
  if (machine && message.type === TELL.WAKE) return machine.runner.wake();
  if (machine && message.type === TELL.INPUT) {
    const { kind, payload } = message;
    if (backlog.length || !machine.memory.pushInput(kind, payload)) backlog.push({ kind, payload });
    return machine.runner.wake();
  }
  if (machine && message.type === TELL.DRAWN) {
    waitingForFrame = false;
    machine.memory.set(WORD.FRAME_WANTED, 1);
    return sendFrame(machine.memory, false);
  }
  if (machine && message.type === TELL.WHOLE) return sendFrame(machine.memory, true);
  if (!("id" in message)) return;
  try {
    post({ type: FROM_WORKER.REPLY, id: message.id, value: await answer(message) });
  } catch (error) {
    post({ type: FROM_WORKER.REPLY, id: message.id, error: machine ? explain(error, machine.glue) : packError(error) });
  }
};
