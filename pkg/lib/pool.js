// The pool: which wasm build the page can run, and the machines that run in it.
import { poolClock, poolEpoch } from "./clock.js";
import { Tab86Error } from "./errors.js";
import { MessageLink } from "./message-link.js";
import { SharedLink } from "./shared-link.js";
import { Threads } from "./threads.js";
import { Turns } from "./turns.js";
import { openImage, readWhole } from "./sources.js";
import { checkNetwork } from "./net/vm-network.js";
import { Vm } from "./vm.js";

/**
 * @typedef {import("../tab86.js").VmOptions} VmOptions
 * @typedef {import("../tab86.js").Drive} Drive
 * @typedef {import("../tab86.js").Source} Source
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 */

const DEFAULT_MEMORY = 256 << 20;
/** Most workers unless told: more machines than that at full speed are rare, and each worker costs memory. */
const MAX_WORKERS = 8;
/** Most machines of a pool. */
const MAX_VMS = 64;
const GIB = 2 ** 30;
/** Most memory of one machine (emulator-core/src/machine/config.rs). */
const MAX_MACHINE = 3 * GIB;

/** Firmware beside the package, where the site has it. */
const FIRMWARE = { bios: "../firmware/bios.bin", vgaBios: "../firmware/vgabios-stdvga.bin" };

/** @param {URL} address */
async function compile(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Tab86Error("network", `The emulator could not be loaded from ${address}: the server does not answer.`);
  }
  if (!response.ok) {
    throw new Tab86Error("not-found", `The emulator is missing at ${address} (${response.status}): build it with \`cargo xtask build\`, or set \`baseUrl\`.`);
  }
  // Servers that don't know the type of wasm files: compile from the bytes.
  if (response.headers.get("Content-Type") !== "application/wasm") return WebAssembly.compile(await response.arrayBuffer());
  return WebAssembly.compileStreaming(response);
}

/** What all machines may use, unless told: half of the memory that the browser says it has. */
function defaultMemory() {
  const device = /** @type {{ deviceMemory?: number }} */ (/** @type {unknown} */ (navigator)).deviceMemory ?? 8;
  return (device * GIB) / 2;
}

/** Machines of one page. */
export class Pool {
  #build;
  #base;
  /** @type {Threads | null} */ #threads;
  /** Without shared memory. */
  #turns;
  #limits;
  /** @type {Vm[]} */ #vms = [];
  /** Bytes of machines that are being made. */
  #promised = 0;
  #closed = false;
  #onVisibility = () => this.#vms.forEach((vm) => vm.applyPriority());

  /** @param {import("../tab86.js").PoolOptions} options */
  static async create({ baseUrl, workers = defaultWorkers(), maxVms = MAX_VMS, maxMemory = defaultMemory() }) {
    if (!(Number.isInteger(workers) && workers > 0)) throw new Tab86Error("bad-options", "`workers` must be a positive whole number.");
    if (!(Number.isInteger(maxVms) && maxVms > 0)) throw new Tab86Error("bad-options", "`maxVms` must be a positive whole number.");
    if (!(maxMemory > 0)) throw new Tab86Error("bad-options", "`maxMemory` is a number of bytes.");
    const base = new URL(baseUrl ?? new URL("..", import.meta.url), document.baseURI);
    const shared = globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer === "function";
    const folder = new URL(`wasm/${shared ? "shared" : "plain"}/`, base);
    const module = await compile(new URL("tab86_bg.wasm", folder));
    const build = { module, glue: new URL("tab86.js", folder).href, folder: new URL("lib/", base) };
    const { createGlue } = await import(build.glue);
    const threads = shared ? new Threads(build, createGlue, workers) : null;
    const openQueue = () => {
      const glue = createGlue();
      glue.initSync({ module });
      return glue;
    };
    const turns = new Turns(workers, openQueue, poolClock(poolEpoch()));
    return new Pool(build, threads, turns, base, { vms: Math.min(maxVms, threads?.capacity ?? maxVms), memory: maxMemory });
  }

  /**
   * @param {import("./threads.js").Build} build @param {Threads | null} threads @param {Turns} turns
   * @param {URL} base @param {{ vms: number, memory: number }} limits @private
   */
  constructor(build, threads, turns, base, limits) {
    this.#build = build;
    this.#threads = threads;
    this.#turns = turns;
    this.#base = base;
    this.#limits = Object.freeze(limits);
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  get shared() {
    return this.#threads !== null;
  }

  /** @returns {readonly Vm[]} */
  get vms() {
    return this.#vms;
  }

  /** Worker threads that run now. */
  get workers() {
    return this.#threads ? this.#threads.count : this.#vms.length;
  }

  get limits() {
    return this.#limits;
  }

  /** @param {VmOptions} [options] */
  async createVm(options = {}) {
    const memory = options.memory ?? DEFAULT_MEMORY;
    return this.#admit(memory, async () => {
      const network = checkNetwork(options.network);
      const setup = { ...(await setUp(options, this.#base)), ...(network && { network: { mac: network.mac } }) };
      return Vm.create((events) => this.#open(setup, events), { memory, network }, options.canvas ?? null, this.#owner);
    });
  }

  /** @type {import("./vm.js").VmOwner} */
  #owner = {
    closed: (closed) => {
      this.#vms = this.#vms.filter((other) => other !== closed);
    },
    clone: (vm, { canvas = null }) => this.#admit(vm.memory, () => vm.copy(canvas)),
  };

  /** Makes a machine if there is room for it. @param {number} memory @param {() => Promise<Vm>} make */
  async #admit(memory, make) {
    if (this.#closed) throw new Tab86Error("closed", "The pool was closed.");
    if (!(memory >= 0)) throw new Tab86Error("bad-memory-size", "`memory` is a number of bytes.");
    const { vms, memory: limit } = this.#limits;
    const used = this.#vms.reduce((sum, vm) => sum + vm.memory, this.#promised);
    if (this.#vms.length >= vms) throw new Tab86Error("too-many-vms", `There may be ${vms} machines at once: close one first.`);
    // A machine that is too big by itself says so better.
    if (memory <= MAX_MACHINE && used + memory > limit) {
      const mib = (/** @type {number} */ bytes) => Math.round(bytes / 2 ** 20);
      throw new Tab86Error("out-of-memory", `Another machine of ${mib(memory)} MiB would be too much: ${mib(used)} of ${mib(limit)} MiB are in use. Close a machine, or give it less memory.`);
    }
    this.#promised += memory;
    try {
      const vm = await make();
      this.#vms = [...this.#vms, vm];
      return vm;
    } finally {
      this.#promised -= memory;
    }
  }

  /** @param {MachineSetup} setup @param {import("./vm.js").LinkEvents} events @returns {Promise<import("./vm.js").VmLink>} */
  #open(setup, events) {
    return this.#threads ? SharedLink.create(this.#threads, setup, events) : MessageLink.create(this.#build, this.#turns, setup, events);
  }

  async close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    await Promise.all(this.#vms.map((vm) => vm.close()));
    await this.#threads?.close();
  }
}

function defaultWorkers() {
  return Math.max(1, Math.min(MAX_WORKERS, navigator.hardwareConcurrency || 1));
}

/** From the caller's options to the worker's setup: everything is loaded or located. @param {VmOptions} options @param {URL} base */
async function setUp(options, base) {
  const { memory = DEFAULT_MEMORY, clock = "realtime" } = options;
  if (clock !== "realtime" && clock !== "deterministic") throw new Tab86Error("bad-options", `\`clock\` is "realtime" or "deterministic".`);
  if (options.state) throw new Tab86Error("not-supported", "Starting from a saved state is not supported yet.");
  /** @param {string} role @param {Source | null | undefined} source */
  const whole = async (role, source) => (source == null ? undefined : readWhole(role, source));
  /** @param {string} role @param {Drive | null | undefined} drive @param {boolean} [cdrom] */
  const image = (role, drive, cdrom = false) => openDrive(role, drive, cdrom, clock === "deterministic");
  const [bios, vgaBios, kernel, initrd, multiboot, fda, fdb, hda, hdb, cdrom] = await Promise.all([
    whole("BIOS", options.bios ?? new URL(FIRMWARE.bios, base)),
    whole("video BIOS", options.vgaBios ?? new URL(FIRMWARE.vgaBios, base)),
    whole("kernel", options.kernel),
    whole("initial RAM disk", options.initrd),
    whole("multiboot image", options.multiboot),
    image("floppy disk", options.fda),
    image("second floppy disk", options.fdb),
    image("hard disk", options.hda),
    image("second hard disk", options.hdb),
    image("CD", options.cdrom, true),
  ]);
  const { cpu, cpus, cmdline, bootOrder, jit = true } = options;
  // A deterministic machine starts at the same time each day.
  const startTime = clock === "deterministic" ? 0 : Math.floor(Date.now() / 1000);
  const all = { memory, clock, startTime, jit, cpu, cpus, cmdline, bootOrder, bios, vgaBios, kernel, initrd, multiboot, fda, fdb, hda, hdb, cdrom };
  return /** @type {MachineSetup} */ (/** @type {unknown} */ (Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))));
}

/** @param {string} role @param {Drive | null | undefined} drive @param {boolean} cdrom @param {boolean} whole */
async function openDrive(role, drive, cdrom, whole) {
  if (drive == null) return undefined;
  const named = typeof drive === "object" && "image" in drive ? drive : { image: drive };
  const mode = named.mode ?? "overlay";
  if (mode === "persistent") throw new Tab86Error("not-supported", `The ${role} cannot be kept between visits yet: use mode "overlay".`);
  if (mode !== "overlay" && mode !== "readonly") throw new Tab86Error("bad-options", `The ${role}'s mode is "overlay", "persistent" or "readonly".`);
  return openImage(role, named.image, { whole, cdrom, readOnly: cdrom || mode === "readonly" });
}
