// The view of the active tab's machine: toolbar, screen and serial port, status bar.
import { button, element, setHidden } from "./elements.js";
import { setUpKeyMenu } from "./key-menu.js";
import { clearMessage, sayError } from "./messages.js";
import { NetworkPanel } from "./network-panel.js";
import { focusScreen, releaseInput, setUpScreen, showMode } from "./screen.js";
import { IDLE, isAlive, speed, stateName } from "./tabs/figures.js";

/** @typedef {import("./tabs/machine.js").LiveVm} Vm */
/** @typedef {import("./tabs/machine.js").Machine} Machine */

/** How often the figures of an idle machine are shown anew. */
const IDLE_FIGURES_MS = 5000;
const SIDES = /** @type {const} */ (["screen", "serial"]);
const canvas = element("screen", HTMLCanvasElement);

/** A text that did not change is not laid out and drawn again. @param {string} id @param {string} text */
function setText(id, text) {
  const node = element(id, HTMLSpanElement);
  if (node.textContent !== text) node.textContent = text;
}

/** Connects the view's controls to whichever machine is shown. */
export class MachineView {
  /** @type {Machine | null} */ #machine = null;
  #name = "";
  /** When an idle machine's figures were shown. */
  #idleShown = -Infinity;
  #network = new NetworkPanel(() => this.#vm);
  /** What is on the page of it. @type {{ vm: Vm | null, side: string, mode: object | null } | null} */ #drawn = null;

  /** @param {() => void} powerOff */
  constructor(powerOff) {
    setUpScreen(() => this.#vm, sayError);
    setUpKeyMenu((keys) => this.#vm?.sendKeys(keys));
    this.#setUpControls(powerOff);
    this.#setUpSides();
    this.#setUpPaste();
  }

  /** The machine, if it can be spoken to. */
  get #vm() {
    const vm = this.#machine?.vm;
    return vm && vm.state !== "closed" ? vm : null;
  }

  /** Shows a tab's machine; null: none. @param {Machine | null} machine @param {string} name */
  show(machine, name) {
    if (machine !== this.#machine) {
      // While the keys held down still belong to the machine that got them.
      releaseInput();
      this.#machine = machine;
      this.#idleShown = -Infinity;
      this.#drawn = null;
    }
    this.#name = name;
    if (machine) this.#update(machine);
  }

  /** Gives the shown side of the machine the keyboard. */
  focus() {
    if (this.#machine?.side === "serial") this.#machine.serial.focus();
    else focusScreen();
  }

  /** Does the machine have the keyboard? */
  get hasFocus() {
    const focused = document.activeElement;
    return SIDES.some((side) => element(`${side}-panel`, HTMLDivElement).contains(focused));
  }

  /** @param {Machine} machine */
  #update(machine) {
    const { vm, side, mode, state } = machine;
    const drawn = this.#drawn;
    if (!drawn || drawn.mode !== mode) showMode(mode);
    if (!drawn || drawn.vm !== vm || drawn.side !== side) {
      for (const part of ["toolbar", "status"]) element(part, HTMLElement).hidden = vm === null;
      this.#showSide(machine);
    }
    this.#drawn = { vm, side, mode };
    canvas.setAttribute("aria-label", `Screen of ${this.#name}: keys go to it; Ctrl Alt G leaves it`);
    const label = stateName(state);
    const word = element("state", HTMLSpanElement);
    if (word.textContent !== label) word.textContent = label;
    const runs = state === "running" || state === "halted";
    const run = button("run");
    run.querySelector("use")?.setAttribute("href", `icons.svg#${runs ? "pause" : "play"}`);
    run.querySelector(".label")?.replaceChildren(runs ? "Pause" : "Start");
    // An ended machine needs a reset, a failed one is lost.
    run.disabled = !isAlive(state) && state !== "stopped";
    button("reset").disabled = state === "crashed";
  }

  /** @param {Machine} machine */
  #showSide(machine) {
    for (const name of SIDES) {
      const tab = button(`tab-${name}`);
      tab.setAttribute("aria-selected", String(name === machine.side));
      tab.tabIndex = name === machine.side ? 0 : -1;
      element(`${name}-panel`, HTMLDivElement).hidden = machine.vm === null || name !== machine.side;
    }
    if (machine.vm && machine.side === "serial") machine.serial.show().catch(sayError);
  }

  /** Speed, idle time and the disk light. */
  showFigures() {
    this.#network.tick();
    const { stats, lights } = this.#machine ?? {};
    if (!stats || !lights) return;
    this.#showLoad(stats);
    element("disk-light", HTMLSpanElement).classList.toggle("on", lights.disk);
    setHidden(element("network", HTMLSpanElement), lights.network === null);
    element("network-light", HTMLSpanElement).classList.toggle("on", lights.network === true);
  }

  /** An idle machine's figures move little, and each change makes the browser draw. @param {{ mips: number, idle: number }} stats */
  #showLoad({ mips, idle }) {
    const now = performance.now();
    if (idle > IDLE && this.#idleShown > now - IDLE_FIGURES_MS) return;
    this.#idleShown = idle > IDLE ? now : -Infinity;
    setText("speed", speed(mips));
    setText("idle", `${(idle * 100).toFixed(0)} % idle`);
  }

  /** @param {() => void} powerOff */
  #setUpControls(powerOff) {
    /** @param {(vm: Vm) => unknown} action */
    const doing = (action) => async () => {
      const vm = this.#vm;
      if (!vm || !this.#machine) return;
      this.#machine.notice = null;
      clearMessage();
      try {
        await action(vm);
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
    button("power").addEventListener("click", powerOff);
  }

  #setUpSides() {
    for (const name of SIDES) {
      const tab = button(`tab-${name}`);
      tab.addEventListener("click", async () => {
        await this.#select(name);
        this.focus();
      });
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = name === "screen" ? "serial" : "screen";
        void this.#select(other);
        button(`tab-${other}`).focus();
      });
    }
  }

  /** @param {"screen" | "serial"} side */
  async #select(side) {
    const machine = this.#machine;
    if (!machine) return;
    machine.side = side;
    this.#update(machine);
    // The terminal may have to be loaded first.
    if (side === "serial") await machine.serial.show().catch(sayError);
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
      const vm = this.#vm;
      if (dialog.returnValue !== "type" || !vm) return;
      if (this.#machine?.side === "screen") {
        focusScreen();
        vm.typeText(text.value).catch(sayError);
      } else vm.sendSerial(text.value.replaceAll("\n", "\r"));
    });
  }
}
