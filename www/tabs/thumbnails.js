// Small pictures of machines that nobody looks at: each machine in turn gets a canvas for one frame, at a low rate.

/** @typedef {import("./machine.js").Vm} Vm */

/** Between two rounds. */
const ROUND_MS = 500;
/** A machine that draws nothing for so long is passed over. */
const PATIENCE_MS = 1000;

/** Draws one frame of a machine on a canvas and lets go of it. @param {Vm} vm @param {HTMLCanvasElement} canvas @returns {Promise<void>} */
function draw(vm, canvas) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      vm.removeEventListener("screen", done);
      if (vm.canvas === canvas) vm.canvas = null;
      resolve();
    };
    const timer = setTimeout(done, PATIENCE_MS);
    vm.addEventListener("screen", done);
    vm.canvas = canvas;
  });
}

export class Thumbnails {
  #pairs;
  /** @type {object | null} the rounds under way */ #run = null;

  /** @param {() => { vm: Vm, canvas: HTMLCanvasElement }[]} pairs what to draw, asked before each round */
  constructor(pairs) {
    this.#pairs = pairs;
  }

  start() {
    if (this.#run) return;
    const run = (this.#run = {});
    void this.#rounds(run);
  }

  stop() {
    this.#run = null;
  }

  /** @param {object} run */
  async #rounds(run) {
    while (this.#run === run) {
      for (const { vm, canvas } of document.hidden ? [] : this.#pairs()) {
        if (this.#run !== run) return;
        if (vm.state !== "closed") await draw(vm, canvas);
      }
      await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    }
  }
}
