// The public API of tab86.

/** Starts a pool: loads the emulator once, for any number of machines. */
export function createPool(options?: PoolOptions): Promise<Pool>;

export interface PoolOptions {
  /** Most worker threads, which all machines share; the processor's threads, up to 8, unless told. Without shared memory every machine has one of its own, and so many run at a time. */
  workers?: number;
  /** Most machines at once; 64 unless told. */
  maxVms?: number;
  /** Most memory of all machines together, in bytes; half of what the browser says the device has unless told. */
  maxMemory?: number;
  /** Where tab86.js's folder lies, when it is not where this module was loaded from. */
  baseUrl?: string | URL;
}

export interface Pool {
  /** Makes a machine, stopped. Rejects with a Tab86Error when an option or a file is no good. */
  createVm(options?: VmOptions): Promise<Vm>;
  readonly vms: readonly Vm[];
  /** Whether machines live in shared memory: the page is cross-origin isolated (COOP and COEP headers). */
  readonly shared: boolean;
  /** Worker threads that run now. */
  readonly workers: number;
  /** What `createVm` and `clone` refuse to exceed, with the codes "too-many-vms" and "out-of-memory". */
  readonly limits: { readonly vms: number; readonly memory: number };
  /** Closes all machines. */
  close(): Promise<void>;
}

/** A URL is streamed with HTTP Range where the server can. */
export type Source = string | URL | ArrayBuffer | Uint8Array | Blob;

/** "overlay" (the default): writes are forgotten when the machine is closed, the source is never changed. */
export type Drive = Source | { image: Source; mode?: "overlay" | "persistent" | "readonly"; name?: string };

export interface VmOptions {
  /** Bytes, 2 MiB to 3 GiB; 256 MiB unless told. */
  memory?: number;
  /** CPU model. */
  cpu?: string;
  /** Number of vCPUs. */
  cpus?: number;
  bios?: Source;
  vgaBios?: Source;
  /** A Linux bzImage, started directly. */
  kernel?: Source;
  initrd?: Source;
  cmdline?: string;
  multiboot?: Source;
  fda?: Drive;
  fdb?: Drive;
  hda?: Drive;
  hdb?: Drive;
  cdrom?: Source;
  /** QEMU's letters in order: a floppy, c hard disk, d CD. */
  bootOrder?: string;
  /**
   * A network card (RTL8029), plugged into a LAN of this name, into a relay (ws:// or wss://, one Ethernet frame in each
   * binary message), or with neither into nothing. All machines of the origin share its LANs. `mac`, as in
   * 02:00:5e:10:00:01, is random unless told.
   */
  network?: NetworkPlace & { mac?: string } | null;
  canvas?: HTMLCanvasElement | null;
  /** "realtime" (the default) follows the host's clock; "deterministic" derives all time from the instruction count. */
  clock?: "realtime" | "deterministic";
  jit?: boolean;
  /** Start from a snapshot. */
  state?: Source;
}

/** Where a network cable leads: one of the two. */
export interface NetworkPlace {
  lan?: string;
  relay?: string;
}

/** connecting: the relay has not answered yet; down: the cable is out, or the relay away (it is tried again by itself). */
export type NetworkState = "up" | "connecting" | "down";

export interface NetworkInfo {
  readonly lan: string | null;
  readonly relay: string | null;
  /** The address on the network. A clone gets one of its own, though its guest goes on with its original's. */
  readonly mac: string;
  readonly state: NetworkState;
  /** The state in words. */
  readonly message: string;
  /** Since power-on; in is to the guest. `dropped`: frames lost either way. */
  readonly counters: { framesIn: number; bytesIn: number; framesOut: number; bytesOut: number; dropped: number };
}

/** A recording of network traffic; at most 64 MiB. */
export interface NetworkCapture {
  /** Frames recorded. */
  readonly frames: number;
  /** Their bytes. */
  readonly bytes: number;
  /** Frames that came when it was full. */
  readonly missed: number;
  /** Ends it; a pcapng file. */
  stop(): Blob;
}

/** halted: for ever, with interrupts off; shutdown: triple fault; off: powered off by the guest; crashed: a fault of the emulator. */
export type VmState = "stopped" | "running" | "paused" | "halted" | "shutdown" | "off" | "crashed" | "closed";

export interface VmEventMap {
  serial: Event & { port: number; data: Uint8Array };
  state: Event & { state: VmState };
  screen: Event & { width: number; height: number; text: boolean; aspect: number; resized: boolean };
  error: Event & { error: Tab86Error; code: string; message: string };
  network: Event & { state: NetworkState; message: string };
  exit: Event & { reason: "power-off" | "debug-exit" | "shutdown" | "crashed"; code?: number };
  "firmware-log": Event & { data: Uint8Array };
}

export interface Vm extends EventTarget {
  readonly state: VmState;
  /** The canvas that shows the screen; may be changed while the machine runs. */
  canvas: HTMLCanvasElement | null;
  start(): Promise<void>;
  pause(): Promise<void>;
  reset(): Promise<void>;
  /** Switches the machine off; resolves when its memory is given back. */
  close(): Promise<void>;
  /** A copy of the machine at this moment, in a memory of its own; both go on. */
  clone(options?: { canvas?: HTMLCanvasElement | null }): Promise<Vm>;
  /**
   * Who looks at the machine: "visible" (the default with a canvas) answers input first, "background" (the default
   * without one) saves power when idle. All get equal shares of processor time.
   */
  priority: "visible" | "audible" | "background";
  /** Bytes of RAM. */
  readonly memory: number;
  /** The WebAssembly memory with the machine's whole state, for tools that look inside; null without shared memory. */
  readonly wasmMemory: WebAssembly.Memory | null;
  /** The network card; null without one. */
  readonly network: NetworkInfo | null;
  /** Plugs the network cable in somewhere else; null: out. */
  setNetwork(where: NetworkPlace | null): void;
  /** Records what passes the network card from now on. */
  capture(): NetworkCapture;
  sendSerial(text: string | Uint8Array, port?: number): void;
  /** Presses or releases one key, by KeyboardEvent.code. */
  sendKey(code: string, pressed: boolean): void;
  /** KeyboardEvent.code names, pressed in order, then released. */
  sendKeys(keys: string[]): void;
  /** Types on a US keyboard. */
  typeText(text: string): Promise<void>;
  /** Relative movement in pixels, down is positive; wheel in notches, towards the user is positive; buttons as MouseEvent.buttons. */
  mouse(event: { dx?: number; dy?: number; wheel?: number; buttons?: number }): void;
  /** The text on the screen, one line per row; empty in a graphics mode. */
  screenText(): string;
  screenshot(type?: string): Promise<Blob>;
  saveState(): Promise<Blob>;
  stats(): Stats;
  /** Copies physical memory, at most 64 MiB at a time. */
  readMemory(physical: number, length: number): Promise<Uint8Array>;
  /** A hash of all RAM, as `tab86 run --stats` prints it. */
  ramHash(): Promise<string>;
  /** Resolves to all output of COM1 once it matches. */
  waitForSerial(pattern: string | RegExp, timeoutMs?: number): Promise<string>;
  /** Resolves to the screen's text once it matches. */
  waitForScreen(pattern: string | RegExp, timeoutMs?: number): Promise<string>;
  addEventListener<K extends keyof VmEventMap>(type: K, listener: (event: VmEventMap[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}

export interface Stats {
  instructions: bigint;
  /** Million instructions per second of real time, over the last half second. */
  mips: number;
  /** 0 to 1. */
  idle: number;
  jitBlocks: number;
  slices: number;
  /** Seconds of the machine's own time. */
  virtualTime: number;
  /** Disk accesses since power-on. */
  diskReads: number;
  diskWrites: number;
}

/**
 * Connects an element's keyboard, and its mouse while the pointer is locked to it, to a machine.
 * `keepKey` tells the keys that stay the page's. Returns how to disconnect.
 */
export function connectInput(
  element: HTMLElement,
  current: () => Vm | null,
  options?: { keepKey?: (event: KeyboardEvent) => boolean },
): () => void;

/**
 * For sites that cannot send the two headers of cross-origin isolation: registers a service worker that adds them and
 * loads the page again, once. `script` is the address of a copy of `isolation-worker.js` in the page's folder or above.
 * Resolves to false when the page stays as it is: it is isolated already, or the browser allows no service worker.
 */
export function isolate(script: string | URL): Promise<boolean>;

/** An error with a `code` for programs and a message for people. */
export class Tab86Error extends Error {
  constructor(code: string, message: string);
  readonly code: string;
}

declare global {
  interface HTMLElementTagNameMap {
    "tab86-vm": HTMLElement & { readonly vm: Vm | null; boot(): Promise<void> };
  }
}
