// The view of a running machine: toolbar, tabs, status bar.
import { button, element } from "./elements.js";
import { setUpKeyMenu } from "./key-menu.js";
import { clearMessage, say, sayError } from "./messages.js";
import { focusScreen, screenChanged, setUpScreen } from "./screen.js";
import { SerialTerminal } from "./serial-terminal.js";

/** @typedef {import("/pkg/tab86.js").Vm} Vm */
/** @typedef {import("/pkg/tab86.js").VmState} VmState */

/** How often the figures change, and for how long the disk light stays on. */
const FIGURES_MS = 250;

/** @type {Record<VmState, string>} */
const STATES = {
  stopped: "Off", running: "Running", paused: "Paused", halted: "Halted", shutdown: "Crashed", off: "Off", crashed: "Failed", closed: "Off",
};

/** What is said when a machine comes to an end. @type {Partial<Record<VmState, string>>} */
const ENDS = {
  halted: "The guest halted with interrupts off: it does nothing any more. Reset starts it again.",
  shutdown: "The guest crashed (a triple fault shut the processor down). Reset starts it again.",
  off: "The guest switched the machine off. Reset starts it again.",
};

/** Connects the view's controls to whichever machine is current. */
export class MachineView {
  /** @type {Vm | null} */ #vm = null;
  #serial = new SerialTerminal(() => this.#vm);
  #accesses = 0;
  /** @type {() => void} */ #onPowerOff;

  /** @param {() => void} onPowerOff */
  constructor(onPowerOff) {
    this.#onPowerOff = onPowerOff;
    setUpScreen(() => this.#vm, sayError);
    setUpKeyMenu((keys) => this.#vm?.sendKeys(keys));
    this.#setUpControls();
    this.#setUpTabs();
    this.#setUpPaste();
    setInterval(() => this.#showFigures(), FIGURES_MS);
  }

  /** @param {Vm} vm */
  show(vm) {
    this.#vm = vm;
    this.#accesses = 0;
    this.#serial.clear();
    vm.addEventListener("serial", ({ port, data }) => port === 0 && vm === this.#vm && this.#serial.receive(data));
    vm.addEventListener("screen", (event) => vm === this.#vm && screenChanged(event));
    vm.addEventListener("state", ({ state }) => vm === this.#vm && this.#showState(state));
    vm.addEventListener("error", ({ error }) => sayError(error));
    this.#select("screen");
    focusScreen();
  }

  /** The machine is gone. */
  leave() {
    this.#vm = null;
  }

  #setUpControls() {
    /** @param {(vm: Vm) => unknown} action */
    const doing = (action) => async () => {
      if (!this.#vm) return;
      clearMessage();
      try {
        await action(this.#vm);
      } catch (error) {
        sayError(error);
      }
    };
    button("run").addEventListener("click", doing((vm) => (vm.state === "running" || vm.state === "halted" ? vm.pause() : vm.start())));
    button("reset").addEventListener("click", doing(async (vm) => {
      await vm.reset();
      if (vm.state === "paused") await vm.start();
      focusScreen();
    }));
    button("power").addEventListener("click", () => this.#onPowerOff());
  }

  /** @param {VmState} state */
  #showState(state) {
    element("state", HTMLSpanElement).textContent = STATES[state];
    const runs = state === "running" || state === "halted";
    const run = button("run");
    run.querySelector("use")?.setAttribute("href", `icons.svg#${runs ? "pause" : "play"}`);
    run.querySelector(".label")?.replaceChildren(runs ? "Pause" : "Start");
    // An ended machine needs a reset, a failed one is lost.
    run.disabled = !runs && state !== "paused" && state !== "stopped";
    button("reset").disabled = state === "crashed";
    const end = ENDS[state];
    if (end) say(end, "note");
  }

  #showFigures() {
    if (!this.#vm) return;
    const { mips, idle, diskReads, diskWrites } = this.#vm.stats();
    element("speed", HTMLSpanElement).textContent = `${mips < 10 ? mips.toFixed(1) : mips.toFixed(0)} MIPS`;
    element("idle", HTMLSpanElement).textContent = `${(idle * 100).toFixed(0)} % idle`;
    const accesses = diskReads + diskWrites;
    element("disk-light", HTMLSpanElement).classList.toggle("on", accesses !== this.#accesses);
    this.#accesses = accesses;
  }

  #setUpTabs() {
    for (const name of /** @type {const} */ (["screen", "serial"])) {
      const tab = button(`tab-${name}`);
      tab.addEventListener("click", () => this.#select(name));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = name === "screen" ? "serial" : "screen";
        this.#select(other);
        button(`tab-${other}`).focus();
      });
    }
  }

  /** @param {"screen" | "serial"} name */
  #select(name) {
    for (const each of ["screen", "serial"]) {
      const tab = button(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === name));
      tab.tabIndex = each === name ? 0 : -1;
      element(`${each}-panel`, HTMLDivElement).hidden = each !== name;
    }
    if (name === "serial") this.#serial.show().catch(sayError);
    else focusScreen();
  }

  #setUpPaste() {
    const dialog = element("paste-dialog", HTMLDialogElement);
    const text = element("paste-text", HTMLTextAreaElement);
    button("paste").addEventListener("click", () => {
      text.value = "";
      dialog.returnValue = "";
      dialog.showModal();
    });
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "type" || !this.#vm) return;
      if (element("serial-panel", HTMLDivElement).hidden) {
        focusScreen();
        this.#vm.typeText(text.value).catch(sayError);
      } else this.#vm.sendSerial(text.value.replaceAll("\n", "\r"));
    });
  }
}
