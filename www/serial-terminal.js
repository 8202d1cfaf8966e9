// COM1 in a terminal. xterm.js is loaded when somebody looks.
import { element } from "./elements.js";

/** @typedef {import("/pkg/tab86.js").Vm} Vm */

/** Output kept for a terminal that is opened late. */
const KEPT = 256 << 10;

const panel = element("serial-panel", HTMLDivElement);

let styled = false;
function addStyle() {
  if (styled) return;
  styled = true;
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = "/vendor/xterm/xterm.css";
  document.head.append(style);
}

/** The serial port of one tab's machine. */
export class SerialTerminal {
  #current;
  #host = document.createElement("div");
  /** @type {import("@xterm/xterm").Terminal | null} */ #terminal = null;
  /** @type {Promise<void> | null} */ #opening = null;
  /** @type {Uint8Array[]} */ #kept = [];
  #keptBytes = 0;
  #fit = () => {};
  #observer = new ResizeObserver(() => this.#fit());

  /** @param {() => Vm | null} current */
  constructor(current) {
    this.#current = current;
    this.#host.className = "terminal";
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

  /** Shows the terminal, and no other, in the visible panel. */
  async show() {
    panel.replaceChildren(this.#host);
    this.#opening ??= this.#open();
    await this.#opening;
    this.#fit();
  }

  focus() {
    this.#terminal?.focus();
  }

  dispose() {
    this.#observer.disconnect();
    this.#terminal?.dispose();
    this.#host.remove();
  }

  async #open() {
    addStyle();
    const [{ Terminal }, { FitAddon }] = await Promise.all([import("/vendor/xterm/xterm.mjs"), import("/vendor/xterm/addon-fit.mjs")]);
    const terminal = new Terminal({ fontFamily: "ui-monospace, monospace", fontSize: 14, screenReaderMode: true, cursorBlink: true });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(this.#host);
    const current = () => (this.#current()?.state === "closed" ? null : this.#current());
    terminal.onData((text) => current()?.sendSerial(text));
    terminal.onBinary((text) => current()?.sendSerial(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    // The page's own chord goes on to the page.
    terminal.attachCustomKeyEventHandler((event) => !(event.ctrlKey && event.altKey && event.code === "KeyG"));
    this.#kept.forEach((data) => terminal.write(data));
    this.#kept = [];
    this.#keptBytes = 0;
    this.#terminal = terminal;
    this.#fit = () => this.#host.clientWidth > 0 && fit.fit();
    this.#observer.observe(this.#host);
  }
}
