// Draws a VM's screen on a canvas: when the machine says that it changed, only what changed, and in pieces where that is
// much (drawing.js).
import { leaveLine, standInLine } from "./drawing.js";

/** How often to look for a first picture that nothing announced. */
const RETRY_MS = 200;
/** Pixels in a millisecond, until it was measured. */
const FIRST_SPEED = 100_000;
/** Smaller pieces measure nothing. */
const MEASURED_FROM = 20_000;
/** A clock that stands still must not make pieces endless. */
const LEAST_MS = 0.1;

/** A VM's screen on one canvas at a time. */
export class Display {
  #link;
  #changed;
  /** @type {HTMLCanvasElement | null} */ #canvas = null;
  /** @type {CanvasRenderingContext2D | null} */ #context = null;
  #whole = true;
  #retry = 0;
  #closed = false;
  #mode = "";
  /** The canvas got another size since the page was told of a picture. */
  #resized = false;
  #speed = FIRST_SPEED;
  #drawer = { draw: (/** @type {number} */ ms) => this.#draw(ms) };

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
    standInLine(this.#drawer);
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

  /** @param {number} ms for how long about @returns {boolean} whether there is more */
  #draw(ms) {
    window.clearTimeout(this.#retry);
    if (!this.#canvas && this.#link.readsScreen) return false;
    const began = performance.now();
    const frame = this.#link.takeFrame(this.#whole, ms * this.#speed);
    if (!frame) {
      // There is none yet, or the machine was drawing.
      if (this.#whole && this.#canvas) this.#retry = window.setTimeout(() => this.request(), RETRY_MS);
      return false;
    }
    this.#whole = false;
    this.#put(frame);
    const pixels = frame.w * frame.h;
    if (pixels >= MEASURED_FROM) {
      const speed = pixels / Math.max(LEAST_MS, performance.now() - began);
      this.#speed = (3 * this.#speed + speed) / 4;
    }
    if (frame.more) return true;
    this.#changed({ width: frame.width, height: frame.height, text: frame.text, aspect: frame.aspect, resized: this.#resized });
    this.#resized = false;
    // Those that came in messages wait in line.
    return !this.#link.readsScreen && !this.#closed;
  }

  /** @param {import("./protocol.js").Frame} frame */
  #put(frame) {
    const mode = `${frame.width}x${frame.height}${frame.text ? "t" : ""}@${frame.aspect}`;
    const resized = mode !== this.#mode;
    this.#mode = mode;
    this.#resized ||= resized;
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
    leaveLine(this.#drawer);
  }
}
