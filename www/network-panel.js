// The panel of the shown machine's network: where its cable leads, what passes, and a recording of that.
import { button, element, setHidden } from "./elements.js";
import { clearMessage, sayError } from "./messages.js";
import { size } from "./sizes.js";

/** @typedef {import("/pkg/tab86.js").Vm} Vm */
/** @typedef {import("/pkg/tab86.js").NetworkCapture} NetworkCapture */

/** The network that machines share unless told. */
export const DEFAULT_LAN = "tab86";
const STATES = { up: "Connected", connecting: "Connecting", down: "Not connected" };
const HINTS = { lan: "A name: machines on the same network reach each other", relay: "wss://…", none: "" };
/** How long the browser may take to fetch a file that was made for download. */
const DOWNLOAD_MS = 60_000;

/** @param {string} id */
const text = (id) => element(id, HTMLElement);

export class NetworkPanel {
  #current;
  #panel = element("network-panel", HTMLDivElement);
  #kind = element("network-kind", HTMLSelectElement);
  #place = element("network-place", HTMLInputElement);
  /** @type {WeakMap<Vm, NetworkCapture>} */ #captures = new WeakMap();

  /** @param {() => Vm | null} current the machine that is shown */
  constructor(current) {
    this.#current = current;
    this.#panel.addEventListener("toggle", () => this.#fill());
    this.#kind.addEventListener("change", () => {
      this.#offer();
      if (!this.#place.disabled) this.#place.value = this.#kind.value === "lan" ? DEFAULT_LAN : "";
      this.#place.focus();
    });
    element("network-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#connect();
    });
    button("network-capture").addEventListener("click", () => this.#capture());
  }

  /** Figures and the button that opens the panel; called some times a second. */
  tick() {
    const vm = this.#current();
    const network = vm?.network ?? null;
    setHidden(button("network-button"), network === null);
    if (!vm || !network) {
      if (this.#panel.matches(":popover-open")) this.#panel.hidePopover();
      return;
    }
    if (!this.#panel.matches(":popover-open")) return;
    const { state, message, mac, counters } = network;
    const status = text("network-state");
    const told = `${STATES[state]}. ${message}`;
    // A status that did not change is not said again.
    if (status.textContent !== told) status.textContent = told;
    text("network-mac").textContent = mac;
    text("network-in").textContent = `${counters.framesIn} frames, ${size(counters.bytesIn)}`;
    text("network-out").textContent = `${counters.framesOut} frames, ${size(counters.bytesOut)}`;
    text("network-dropped").textContent = String(counters.dropped);
    const capture = this.#captures.get(vm);
    button("network-capture").textContent = capture ? `Save capture (${capture.frames} frames)` : "Record frames";
  }

  /** What the machine's cable leads to now. */
  #fill() {
    const network = this.#current()?.network;
    if (!network) return;
    const { lan, relay } = network;
    this.#kind.value = relay !== null ? "relay" : lan !== null ? "lan" : "none";
    this.#place.value = relay ?? lan ?? "";
    this.#offer();
    this.tick();
  }

  #offer() {
    const kind = /** @type {keyof typeof HINTS} */ (this.#kind.value);
    this.#place.disabled = kind === "none";
    this.#place.placeholder = HINTS[kind];
    if (kind === "none") this.#place.value = "";
  }

  #connect() {
    const kind = this.#kind.value;
    try {
      this.#current()?.setNetwork(kind === "none" ? null : { [kind]: this.#place.value.trim() });
      clearMessage();
    } catch (error) {
      sayError(error);
    }
    this.tick();
  }

  #capture() {
    const vm = this.#current();
    if (!vm) return;
    const running = this.#captures.get(vm);
    if (!running) this.#captures.set(vm, vm.capture());
    else {
      this.#captures.delete(vm);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(running.stop());
      link.download = `tab86-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.pcapng`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), DOWNLOAD_MS);
    }
    this.tick();
  }
}
