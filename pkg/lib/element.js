// <tab86-vm>: a machine as an HTML element. Attributes are VmOptions in kebab case; `memory` is in MiB; `autostart`
// boots at once, otherwise a click does; `pause-hidden` pauses the machine while nobody can see it.
import { connectInput } from "./input.js";

/** @typedef {import("./vm.js").Vm} Vm */
/** @typedef {import("./pool.js").Pool} Pool */

const STYLE = `
  :host { display: inline-block; position: relative; background: #000; color: #ddd; font: 16px/1.4 system-ui, sans-serif;
    aspect-ratio: 4 / 3; width: 720px; max-width: 100%; overflow: hidden; }
  canvas { display: block; width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; outline-offset: -2px; }
  button { position: absolute; inset: 0; border: 0; background: #0008; color: inherit; font: inherit; cursor: pointer; }
  button::before { content: "\\25b6"; display: block; font-size: 3em; }
  p { position: absolute; inset: auto 0 0; margin: 0; padding: .5em 1em; background: #600; color: #fff; }
  [hidden] { display: none; }
`;

/** Attribute and option, for options that are text. */
const TEXTS = /** @type {const} */ ({
  "cpu": "cpu", "bios": "bios", "vga-bios": "vgaBios", "kernel": "kernel", "initrd": "initrd", "cmdline": "cmdline",
  "multiboot": "multiboot", "fda": "fda", "fdb": "fdb", "hda": "hda", "hdb": "hdb", "cdrom": "cdrom",
  "boot-order": "bootOrder", "clock": "clock",
});

/** @type {Promise<Pool> | null} one pool for all elements of a page */
let pool = null;

/** A pool that could not be loaded is not kept: the next click asks the server again. @param {() => Promise<Pool>} createPool */
function loadPool(createPool) {
  return createPool().catch((error) => {
    pool = null;
    throw error;
  });
}

/** @param {(options?: import("../tab86.js").PoolOptions) => Promise<Pool>} createPool */
export function defineElement(createPool) {
  // Modules are also loaded where there is no page, to read their types or to bundle them.
  if (typeof customElements === "undefined" || customElements.get("tab86-vm")) return;

  class Tab86Element extends HTMLElement {
    /** @type {Vm | null} */ #vm = null;
    /** @type {() => void} */ #disconnect = () => {};
    /** It was running and went out of sight. */
    #pausedUnseen = false;
    #inSight = true;
    #watcher = new IntersectionObserver((entries) => {
      this.#inSight = entries[entries.length - 1].isIntersecting;
      void this.#settle();
    });
    #onVisibility = () => void this.#settle();
    #canvas = document.createElement("canvas");
    #button = document.createElement("button");
    #message = document.createElement("p");

    constructor() {
      super();
      const style = document.createElement("style");
      style.textContent = STYLE;
      this.#canvas.tabIndex = 0;
      this.#canvas.setAttribute("aria-label", "Screen of the machine");
      this.#button.textContent = "Click to boot";
      this.#button.onclick = () => void this.boot();
      this.#message.hidden = true;
      this.#message.setAttribute("role", "alert");
      this.attachShadow({ mode: "open" }).append(style, this.#canvas, this.#button, this.#message);
      this.#canvas.addEventListener("click", () => this.#canvas.requestPointerLock?.());
    }

    /** The machine, once it boots. */
    get vm() {
      return this.#vm;
    }

    connectedCallback() {
      this.#disconnect = connectInput(this.#canvas, () => this.#vm);
      const poster = this.getAttribute("poster");
      if (poster) this.#button.style.background = `#0008 center/cover url(${JSON.stringify(poster)})`;
      this.#watcher.observe(this);
      document.addEventListener("visibilitychange", this.#onVisibility);
      if (this.hasAttribute("autostart")) void this.boot();
    }

    /** Pauses a machine that went out of sight, if that is wanted, and lets it go on; one that is out of sight has less priority. */
    async #settle() {
      const vm = this.#vm;
      if (!vm) return;
      const seen = this.#inSight && !document.hidden;
      vm.priority = seen ? "visible" : "background";
      if (!seen && this.hasAttribute("pause-hidden") && vm.state === "running") {
        this.#pausedUnseen = true;
        await vm.pause();
      } else if (seen && this.#pausedUnseen) {
        this.#pausedUnseen = false;
        await vm.start();
      }
    }

    disconnectedCallback() {
      this.#disconnect();
      this.#watcher.disconnect();
      document.removeEventListener("visibilitychange", this.#onVisibility);
      this.#pausedUnseen = false;
      void this.#vm?.close();
      this.#vm = null;
      this.#button.hidden = false;
    }

    /** Creates and starts the machine. A failure is shown in the element. */
    async boot() {
      if (this.#button.hidden) return;
      this.#button.hidden = true;
      this.#message.hidden = true;
      try {
        pool ??= loadPool(createPool);
        const vm = await (await pool).createVm({ ...this.#options(), canvas: this.#canvas });
        if (!this.isConnected) return void vm.close();
        this.#vm = vm;
        this.dispatchEvent(new CustomEvent("boot", { detail: vm }));
        await vm.start();
        await this.#settle();
        this.#canvas.focus();
      } catch (error) {
        this.#message.textContent = error instanceof Error ? error.message : String(error);
        this.#message.hidden = false;
        this.#button.hidden = false;
      }
    }

    #options() {
      /** @type {Record<string, unknown>} */
      const options = {};
      for (const [attribute, option] of Object.entries(TEXTS)) {
        const value = this.getAttribute(attribute);
        if (value !== null) options[option] = value;
      }
      const memory = this.getAttribute("memory");
      if (memory !== null) options.memory = Number(memory) * 2 ** 20;
      if (this.hasAttribute("no-jit")) options.jit = false;
      return /** @type {import("../tab86.js").VmOptions} */ (options);
    }
  }
  customElements.define("tab86-vm", Tab86Element);
}
