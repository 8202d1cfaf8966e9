// A worker's end of taking turns (turns.js): when its machine's next slice may begin.

/**
 * What a machine that wakes up may do without a turn: an idle guest's ticks and a key are done sooner than asked for. It
 * earns this part of the time, up to so many milliseconds.
 */
const SMALL_PART = 0.05;
const SMALL_MS = 6;
/** Who was not answered for so long is free until the page is heard again: it hangs, or somebody's turn doesn't end. */
const PATIENCE_MS = 2000;

/** @param {() => void} work @param {number} ms */
function setTimer(work, ms) {
  const timer = setTimeout(work, ms);
  return () => clearTimeout(timer);
}

/** Turns of one machine. */
export class TurnTaker {
  #clock;
  #report;
  #later;
  #free = true;
  /** The number of the turn; 0: none. */
  #turn = 0;
  #began = 0;
  #ends = 0;
  /** The machine slept. */
  #rested = true;
  /** What it may do without a turn, and when that was so. */
  #small = SMALL_MS;
  #smallAt = 0;
  /** Milliseconds without a turn, which the page is yet to hear of. */
  #owed = 0;
  /** @type {(() => void) | null} */ #go = null;

  /**
   * @param {() => number} clock @param {(report: import("./protocol.js").TurnReport) => void} report to the page
   * @param {(work: () => void, ms: number) => () => void} [later] sets a timer and returns what stops it
   */
  constructor(clock, report, later = setTimer) {
    this.#clock = clock;
    this.#report = report;
    this.#later = later;
  }

  /** Whether the machine must ask: then its worker listens after every slice. */
  get asks() {
    return !this.#free;
  }

  /** Comes back when the next slice may begin, or on `cancel`. */
  async wait() {
    if (this.#may()) return;
    if (this.#turn) this.#end(true);
    else this.#ask();
    const answered = new Promise((resolve) => {
      this.#go = () => resolve(undefined);
    });
    const stop = this.#later(() => {
      this.#free = true;
      this.#ask();
      this.#go?.();
    }, PATIENCE_MS);
    await answered;
    stop();
    this.#go = null;
  }

  #may() {
    if (this.#free) return true;
    const now = this.#clock();
    if (this.#turn) return now < this.#ends;
    this.#small = Math.min(SMALL_MS, this.#small + SMALL_PART * (now - this.#smallAt));
    this.#smallAt = now;
    return this.#rested && this.#small > 0;
  }

  /** A slice took so long. @param {number} ms */
  ran(ms) {
    this.#rested = false;
    if (this.#free || this.#turn) return;
    this.#small -= ms;
    this.#owed += ms;
  }

  /** The machine sleeps, or stands still. */
  rest() {
    this.#rested = true;
    if (this.#turn) this.#end(false);
  }

  /** Whoever waits need not wait any more: the machine stops. */
  cancel() {
    this.#go?.();
  }

  /** @param {boolean} wants */
  #end(wants) {
    this.#report({ turn: this.#turn, used: this.#clock() - this.#began + this.#owed, wants });
    this.#turn = this.#owed = 0;
  }

  #ask() {
    this.#report({ turn: 0, used: this.#owed, wants: true });
    this.#owed = 0;
  }

  /** The page gives a turn; it is told when that is over, whatever happens. @param {{ turn: number, ms: number }} turn */
  give({ turn, ms }) {
    this.#free = false;
    this.#turn = turn;
    this.#began = this.#clock();
    this.#ends = this.#began + ms;
    this.#go?.();
  }

  /** Nobody need ask. */
  free() {
    this.#free = true;
    this.#turn = this.#owed = 0;
    this.#go?.();
  }

  /** Everybody must ask, and a turn ends with the slice. */
  yields() {
    this.#free = false;
    this.#ends = -Infinity;
  }
}
