// COM1 in a terminal. xterm.js is loaded when somebody looks.
import { element } from "./elements.js";

/** @typedef {import("/pkg/tab86.js").Vm} Vm */

/** Output kept for a terminal that is opened late. */
const KEPT = 256 << 10;

const panel = element("serial-panel", HTMLDivElement);

/** The serial port of the current machine. */
export class SerialTerminal {
  #current;
  /** @type {import("@xterm/xterm").Terminal | null} */ #terminal = null;
  /** @type {Promise<void> | null} */ #opening = null;
  /** @type {Uint8Array[]} */ #kept = [];
  #keptBytes = 0;
  #fit = () => {};

  /** @param {() => Vm | null} current */
  constructor(current) {
    this.#current = current;
    new ResizeObserver(() => this.#fit()).observe(panel);
  }

  /** @param {Uint8Array} data */
  receive(data) {
    if (this.#terminal) return this.#terminal.write(data);
    this.#kept.push(data);
    this.#keptBytes += data.length;
    while (this.#keptBytes > KEPT) this.#keptBytes -= this.#kept.shift()?.length ?? 0;
  }

  /** For a new machine. */
  clear() {
    this.#terminal?.reset();
    this.#kept = [];
    this.#keptBytes = 0;
  }

  /** Shows the terminal in its visible panel. */
  async show() {
    this.#opening ??= this.#open();
    await this.#opening;
    this.#fit();
    this.#terminal?.focus();
  }

  async #open() {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = "/vendor/xterm/xterm.css";
    document.head.append(style);
    const [{ Terminal }, { FitAddon }] = await Promise.all([import("/vendor/xterm/xterm.mjs"), import("/vendor/xterm/addon-fit.mjs")]);
    const terminal = new Terminal({ fontFamily: "ui-monospace, monospace", fontSize: 14, screenReaderMode: true, cursorBlink: true });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(panel);
    terminal.onData((text) => this.#current()?.sendSerial(text));
    terminal.onBinary((text) => this.#current()?.sendSerial(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    // The way out for the keyboard, as on the screen.
    terminal.attachCustomKeyEventHandler((event) => {
      if (!(event.ctrlKey && event.altKey && event.code === "KeyG")) return true;
      if (event.type === "keydown") document.getElementById("tab-serial")?.focus();
      return false;
    });
    this.#kept.forEach((data) => terminal.write(data));
    this.#kept = [];
    this.#keptBytes = 0;
    this.#terminal = terminal;
    this.#fit = () => panel.clientWidth > 0 && fit.fit();
  }
}
