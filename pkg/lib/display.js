// Draws a VM's screen on a canvas: when the machine says that it changed, once per animation frame, only what changed.

/** How often to look for a first picture that nothing announced. */
const RETRY_MS = 200;

/** A VM's screen on one canvas at a time. */
export class Display {
  #link;
  #changed;
  /** @type {HTMLCanvasElement | null} */ #canvas = null;
  /** @type {CanvasRenderingContext2D | null} */ #context = null;
  #whole = true;
  #request = 0;
  #retry = 0;
  #closed = false;
  #mode = "";

  /**
   * @param {import("./vm.js").VmLink} link
   * @param {(screen: { width: number, height: number, text: boolean, aspect: number, resized: boolean }) => void} changed
   */
  constructor(link, changed) {
    this.#link = link;
    this.#changed = changed;
  }

  /** Looks for a new picture with the next animation frame. An idle machine's page does nothing. */
  request() {
    if (this.#closed || (!this.#canvas && this.#link.readsScreen)) return;
    this.#request ||= requestAnimationFrame(() => this.#tick());
  }

  /** @param {HTMLCanvasElement | null} canvas */
  attach(canvas) {
    this.#canvas = canvas;
    this.#context = canvas?.getContext("2d", { alpha: false }) ?? null;
    this.#whole = true;
    this.#mode = "";
    this.request();
  }

  get canvas() {
    return this.#canvas;
  }

  #tick() {
    this.#request = 0;
    window.clearTimeout(this.#retry);
    const frame = this.#link.takeFrame(this.#whole);
    if (!frame) {
      // There is none yet, or the machine was drawing.
      if (this.#whole && this.#canvas) this.#retry = window.setTimeout(() => this.request(), RETRY_MS);
      return;
    }
    this.#whole = false;
    // Those that came in messages wait in line.
    if (!this.#link.readsScreen) this.request();
    const mode = `${frame.width}x${frame.height}${frame.text ? "t" : ""}@${frame.aspect}`;
    const resized = mode !== this.#mode;
    this.#mode = mode;
    this.#draw(frame, resized);
    this.#changed({ width: frame.width, height: frame.height, text: frame.text, aspect: frame.aspect, resized });
  }

  /** @param {import("./protocol.js").Frame} frame @param {boolean} resized */
  #draw(frame, resized) {
    const [canvas, context] = [this.#canvas, this.#context];
    if (!canvas || !context) return;
    if (resized && (canvas.width !== frame.width || canvas.height !== frame.height)) {
      canvas.width = frame.width;
      canvas.height = frame.height;
    }
    if (resized) canvas.style.aspectRatio = String(frame.aspect);
    if (frame.w > 0 && frame.h > 0) context.putImageData(new ImageData(frame.pixels, frame.w, frame.h), frame.x, frame.y);
  }

  close() {
    this.#closed = true;
    window.clearTimeout(this.#retry);
    cancelAnimationFrame(this.#request);
  }
}
