// A worker with one machine in private memory, for pages without cross-origin isolation. Talks to message-link.js in the
// messages of protocol.js.
import { poolClock } from "./clock.js";
import { packError, Tab86Error } from "./errors.js";
import { WORD } from "./layout.js";
import { Machine } from "./machine.js";
import { AFTER, FROM_WORKER, REQUEST, TELL } from "./protocol.js";
import { INPUT } from "./rings.js";
import { TurnTaker } from "./turn-taker.js";

/** Between two `statistics` messages; and while the machine wakes up for its ticks alone, as the last ones told already. */
const STATISTICS_MS = 200;
const RESTING_STATISTICS_MS = 1000;
/** Who slept so long wakes up for a tick: traffic comes sooner. */
const TICK_MS = 100;
/** Messages are looked at least this often. */
const YIELD_MS = 8;
/** The longest sleep: timers have limits. */
const MAX_SLEEP_MS = 1e6;
const PAGE = 65536;
/** Most pages of a piece of memory on its way to a clone. */
const PIECE_PAGES = 8;
/** Records that wait for room in the ring before frames from the network are lost. */
const MAX_WAITING = 256;

/** @type {Machine | null} */ let machine = null;
/** @type {() => number} */ let clock = () => 0;
const turns = new TurnTaker(() => clock(), (report) => post({ type: FROM_WORKER.TURN_OVER, ...report }));
let runs = false;
let looping = false;
let waitingForFrame = false;
let statisticsAt = -Infinity;
/** The last ones were sent while the machine rested. */
let toldRest = false;
let yieldedAt = 0;
/** @type {((memory: import("./rings.js").VmMemory) => boolean)[]} input that did not fit the ring */
let backlog = [];
/** Frames from the network that were lost. */
let dropped = 0n;
const channel = new MessageChannel();
/** @type {() => void} */ let wakeUp = () => {};
/** Something came while the machine ran: it does not sleep. */
let disturbed = false;

/** @param {object} message @param {Transferable[]} [transfer] */
const post = (message, transfer = []) => self.postMessage(message, { transfer });

/** @param {import("./protocol.js").State} state @param {number} [code] */
function tellState(state, code) {
  if (machine) sendStatistics(machine);
  post({ type: FROM_WORKER.STATE, state, code });
}

async function loop(/** @type {Machine} */ vm) {
  looping = true;
  let slept = 0;
  while (runs) {
    await turns.wait();
    if (!runs) break;
    disturbed = false;
    let next;
    const began = clock();
    try {
      next = vm.slice(clock, { state: tellState, drew: () => sendFrame(vm, false) });
    } catch (error) {
      post({ type: FROM_WORKER.ERROR, error: vm.explain(error) });
      post({ type: FROM_WORKER.STATE, state: "crashed" });
      runs = false;
      break;
    }
    turns.ran(clock() - began);
    if (next === AFTER.READY) slept = 0;
    sendAll(vm, slept >= TICK_MS);
    if (next === AFTER.STOPPED) runs = false;
    else if (next === AFTER.PARKED) {
      turns.rest();
      const from = clock();
      await sleep(vm.glue.wake_at());
      slept = clock() - from;
    } else if (turns.asks || clock() - yieldedAt > YIELD_MS) await turn();
  }
  turns.rest();
  looping = false;
}

/** @param {number} until */
async function sleep(until) {
  const time = Math.min(until - clock(), MAX_SLEEP_MS);
  if (disturbed || time < 0.5) return turn();
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    wakeUp = () => {
      clearTimeout(timer);
      resolve(undefined);
    };
  });
  wakeUp = () => {};
  yieldedAt = clock();
}

/** Lets messages in. @returns {Promise<void>} */
async function turn() {
  yieldedAt = clock();
  await new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(0);
  });
}

function wake() {
  disturbed = true;
  wakeUp();
}

/** @param {Machine} vm @param {boolean} rests */
function sendAll({ view }, rests) {
  for (let record = view.popOutput(); record; record = view.popOutput()) {
    post({ type: FROM_WORKER.OUTPUT, ...record }, [record.payload.buffer]);
  }
  while (backlog.length && backlog[0](view)) backlog.shift();
  const every = rests && toldRest ? RESTING_STATISTICS_MS : STATISTICS_MS;
  if (machine && clock() - statisticsAt >= every) {
    sendStatistics(machine);
    toldRest = rests;
  }
}

/** @param {Machine} vm @param {boolean} whole */
function sendFrame({ view }, whole) {
  // One frame on its way at a time; what changes meanwhile goes with the next.
  if (waitingForFrame && !whole) return;
  const frame = view.takeFrame(whole);
  if (!frame) return;
  waitingForFrame = true;
  post({ type: FROM_WORKER.FRAME, frame, screenText: view.screenText() ?? "" }, [frame.pixels.buffer]);
}

/** @param {Machine} vm */
function sendStatistics({ view }) {
  statisticsAt = clock();
  const statistics = view.statistics();
  post({ type: FROM_WORKER.STATISTICS, ...statistics, netDropped: statistics.netDropped + dropped });
}

/** @param {{ module: WebAssembly.Module, glue: string, epoch: number } & ({ setup: import("./protocol.js").MachineSetup } | { copy: MessagePort })} request */
async function create({ module, glue: address, epoch, ...what }) {
  clock = poolClock(epoch);
  const glue = (await import(address)).createGlue();
  const made = new Machine(glue, module);
  if ("copy" in what) {
    await receive(made, what.copy);
    glue.become_clone();
  } else glue.create(what.setup);
  machine = made;
  return { header: glue.header() };
}

/** Sends the memory, in which all of a machine's state lies, but for its zero pages. @param {Machine} vm @param {MessagePort} to */
function copy(vm, to) {
  const { buffer } = vm.memory;
  to.postMessage(/** @type {import("./protocol.js").CopyBegin} */ ({ bytes: buffer.byteLength, references: vm.references }));
  for (const [at, end] of vm.used(PIECE_PAGES)) {
    const data = buffer.slice(at, end);
    to.postMessage(/** @type {import("./protocol.js").CopyPiece} */ ({ at, data }), [data]);
  }
  to.postMessage(null);
  to.close();
}

/** Takes the memory that `copy` sends. @param {Machine} vm @param {MessagePort} from @returns {Promise<void>} */
function receive(vm, from) {
  return new Promise((resolve, reject) => {
    from.onmessage = ({ data: message }) => {
      try {
        if (!message) {
          from.close();
          resolve();
        } else if ("data" in message) new Uint8Array(vm.memory.buffer).set(new Uint8Array(message.data), message.at);
        else {
          vm.reserve(message.references);
          vm.memory.grow((message.bytes - vm.memory.buffer.byteLength) / PAGE);
        }
      } catch (error) {
        from.close();
        reject(error);
      }
    };
  });
}

/** @param {Machine} vm @param {(glue: import("./machine.js").Glue) => void} change */
function command(vm, change) {
  change(vm.glue);
  const state = vm.reportState();
  tellState(state);
  runs = state === "running" || state === "halted";
  // A loop that a short pause did not end yet just goes on.
  if (runs && !looping) void loop(vm);
  if (!runs) turns.cancel();
  wake();
}

/** @param {{ type: string } & any} message */
function answer(message) {
  if (message.type === REQUEST.CREATE) return create(message);
  if (!machine) throw new Tab86Error("internal", "The machine was not created.");
  switch (message.type) {
    case REQUEST.START:
      return command(machine, (glue) => glue.start(clock()));
    case REQUEST.PAUSE:
      return command(machine, (glue) => glue.pause(clock()));
    case REQUEST.RESET:
      return command(machine, (glue) => glue.reset(clock()));
    case REQUEST.READ_MEMORY:
      return machine.glue.read_memory(message.address, message.length);
    case REQUEST.RAM_HASH:
      return machine.glue.ram_hash();
    case REQUEST.COPY:
      return copy(machine, message.to);
    default:
      throw new Tab86Error("internal", `Unknown request ${message.type}.`);
  }
}

/** @param {Machine} vm @param {(view: import("./rings.js").VmMemory) => boolean} push */
function take(vm, push) {
  if (backlog.length || !push(vm.view)) backlog.push(push);
  wake();
}

/** @param {Machine} vm @param {{ type: string } & any} message */
function hear(vm, message) {
  switch (message.type) {
    case TELL.INPUT:
      if (message.kind === INPUT.NET_IN && backlog.length >= MAX_WAITING) return void dropped++;
      return take(vm, (view) => view.pushInput(message.kind, message.payload));
    case TELL.CHUNK:
      return take(vm, (view) => view.pushChunk(message));
    case TELL.PRIORITY:
      vm.view.set(WORD.PRIORITY, message.priority);
      return wake();
    case TELL.DRAWN:
      waitingForFrame = false;
      vm.view.set(WORD.FRAME_WANTED, 1);
      return sendFrame(vm, false);
    case TELL.WHOLE:
      return sendFrame(vm, true);
    case TELL.TURN:
      turns.give(message);
      return looping ? wake() : turns.rest();
    case TELL.YIELD:
      return turns.yields();
    case TELL.FREE:
      return turns.free();
  }
}

self.onmessage = async ({ data: message }) => {
  if (!("id" in message)) {
    if (machine) hear(machine, message);
    return;
  }
  try {
    post({ type: FROM_WORKER.REPLY, id: message.id, value: await answer(message) });
  } catch (error) {
    post({ type: FROM_WORKER.REPLY, id: message.id, error: machine ? machine.explain(error) : packError(error) });
  }
};
