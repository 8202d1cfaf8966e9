// The pool: which wasm build the page can run, and the machines that run in it.
import { Tab86Error } from "./errors.js";
import { openImage, readWhole } from "./sources.js";
import { Vm } from "./vm.js";

/**
 * @typedef {import("../tab86.js").VmOptions} VmOptions
 * @typedef {import("../tab86.js").Drive} Drive
 * @typedef {import("../tab86.js").Source} Source
 * @typedef {import("./protocol.js").MachineSetup} MachineSetup
 */

const DEFAULT_MEMORY = 256 << 20;

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

/** Machines of one page. */
export class Pool {
  #build;
  #shared;
  #base;
  /** @type {Vm[]} */ #vms = [];
  #closed = false;

  /** @param {import("../tab86.js").PoolOptions} options */
  static async create({ baseUrl, workers }) {
    if (workers !== undefined && !(Number.isInteger(workers) && workers > 0)) {
      throw new Tab86Error("bad-options", "`workers` must be a positive whole number.");
    }
    const base = new URL(baseUrl ?? new URL("..", import.meta.url), document.baseURI);
    const shared = globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer === "function";
    const folder = new URL(`wasm/${shared ? "shared" : "plain"}/`, base);
    const module = await compile(new URL("tab86_bg.wasm", folder));
    const build = { module, glue: new URL("tab86.js", folder).href, worker: new URL("lib/vm-worker.js", base) };
    return new Pool(build, shared, base);
  }

  /** @param {import("./link.js").Build} build @param {boolean} shared @param {URL} base @private */
  constructor(build, shared, base) {
    this.#build = build;
    this.#shared = shared;
    this.#base = base;
  }

  get shared() {
    return this.#shared;
  }

  /** @returns {readonly Vm[]} */
  get vms() {
    return this.#vms;
  }

  /** @param {VmOptions} [options] */
  async createVm(options = {}) {
    if (this.#closed) throw new Tab86Error("closed", "The pool was closed.");
    const setup = await setUp(options, this.#base);
    const vm = await Vm.create(this.#build, this.#shared, setup, options.canvas ?? null, (closed) => {
      this.#vms = this.#vms.filter((other) => other !== closed);
    });
    this.#vms = [...this.#vms, vm];
    return vm;
  }

  async close() {
    this.#closed = true;
    await Promise.all(this.#vms.map((vm) => vm.close()));
  }
}

/** From the caller's options to the worker's setup: everything is loaded or located. @param {VmOptions} options @param {URL} base */
async function setUp(options, base) {
  const { memory = DEFAULT_MEMORY, clock = "realtime" } = options;
  if (!(memory >= 0)) throw new Tab86Error("bad-memory-size", "`memory` is a number of bytes.");
  if (clock !== "realtime" && clock !== "deterministic") throw new Tab86Error("bad-options", `\`clock\` is "realtime" or "deterministic".`);
  if (options.state) throw new Tab86Error("not-supported", "Starting from a saved state is not supported yet.");
  if (options.network) throw new Tab86Error("not-supported", "Networking is not supported yet.");
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
  return /** @type {MachineSetup} */ (Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)));
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
