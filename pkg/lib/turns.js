// The page's end of taking turns, where each machine has a worker of its own: without cross-origin isolation. Of more
// machines than processors so many run at a time as there are processors, and the run queue of pool/ says which: here its
// workers are turns that are given away. turn-taker.js is the worker's end. As many machines as processors or fewer
// are free to run, and nobody asks.
import { PRIORITIES, TELL } from "./protocol.js";

/** What a turn takes: several slices, because between two turns a processor waits for messages. A worker listens after
 * each slice, so that a turn can be ended early. */
const TURN_MS = 36;
/** And of a machine on the screen: it comes again sooner, and moves more smoothly. */
const VISIBLE_TURN_MS = 6;
/** A turn that is not over so long after its end is given to somebody else: its worker hangs. */
const OVERDUE_MS = 1000;
/** A machine is charged no more than this for a turn: the host may have slept meanwhile. */
const MOST_CHARGED_MS = 250;

/**
 * @typedef {object} Queue what is used of the wasm module's run queue (web/src/queue.rs)
 * @property {() => number} queue_add @property {(vm: number) => void} queue_remove @property {() => number} queue_workers
 * @property {(turn: number, vm: number) => void} queue_attach
 * @property {(vm: number, priority: number) => void} queue_set_priority
 * @property {(vm: number, now: number, interactive: boolean) => number} queue_wake
 * @property {(now: number) => number} queue_answering
 * @property {(vm: number) => number} queue_resume @property {(vm: number) => boolean} queue_hold
 * @property {(turn: number, now: number) => number} queue_next @property {(turn: number, now: number) => number} queue_yields
 * @property {(vm: number, used: number) => boolean} queue_done_ready @property {(vm: number, used: number) => boolean} queue_done_stopped
 * @property {(vm: number, used: number, until: number) => boolean} queue_done_parked
 *
 * @typedef {import("./protocol.js").TurnReport} TurnReport
 * @typedef {(type: string, values: object) => void} Tell
 *
 * @typedef {object} Turn that somebody has
 * @property {Seat} seat @property {number} number @property {number} until when it is overdue @property {boolean} ending
 */

/** A machine that takes turns when there are too many. */
export class Seat {
  /** In the run queue; -1: it is free to run, or doesn't. */
  place = -1;
  /** What its worker was told last. */
  free = true;
  priority = 0;
  /** Milliseconds that it ran without a turn. */
  owed = 0;

  /** @param {Tell} tell its worker */
  constructor(tell) {
    this.tell = tell;
  }
}

/** Who may run. */
export class Turns {
  #open;
  #clock;
  #limit;
  /** @type {Queue | null} made when it is first needed */ #queue = null;
  /** @type {Set<Seat>} machines that run */ #running = new Set();
  /** @type {(Seat | undefined)[]} by place */ #seats = [];
  /** @type {(Turn | undefined)[]} */ #turns = [];
  #last = 0;

  /** @param {number} limit machines that run at a time @param {() => Queue} open makes the run queue @param {() => number} clock */
  constructor(limit, open, clock) {
    this.#limit = limit;
    this.#open = open;
    this.#clock = clock;
  }

  /** A machine runs, or doesn't any more: it was paused, closed, or its worker failed. @param {Seat} seat @param {boolean} runs */
  setRunning(seat, runs) {
    if (this.#running.has(seat) === runs) return;
    if (runs) this.#running.add(seat);
    else {
      this.#running.delete(seat);
      this.#leave(seat);
    }
    const crowded = this.#running.size > this.#limit;
    for (const each of this.#running) {
      if (crowded && each.place < 0) this.#enter(each);
      if (!crowded) this.#leave(each);
      this.#release(each);
    }
    this.#next();
  }

  /** @param {Seat} seat */
  #enter(seat) {
    this.#queue ??= this.#open();
    this.#limit = Math.min(this.#limit, this.#queue.queue_workers());
    const place = this.#queue.queue_add();
    if (place < 0) return;
    for (let turn = 0; turn < this.#limit; turn++) this.#queue.queue_attach(turn, place);
    this.#queue.queue_set_priority(place, seat.priority);
    Object.assign(seat, { place, owed: 0 });
    this.#seats[place] = seat;
  }

  /** @param {Seat} seat */
  #leave(seat) {
    const { place } = seat;
    const queue = this.#queue;
    if (place < 0 || !queue) return;
    const turn = this.#turnOf(seat);
    if (turn >= 0) {
      this.#turns[turn] = undefined;
      queue.queue_done_stopped(place, 0);
    }
    queue.queue_hold(place);
    queue.queue_remove(place);
    this.#seats[place] = undefined;
    seat.place = -1;
  }

  /** Tells a worker whether it must ask. @param {Seat} seat */
  #release(seat) {
    const free = seat.place < 0;
    if (seat.free === free) return;
    seat.free = free;
    seat.tell(free ? TELL.FREE : TELL.YIELD, {});
  }

  /** @param {Seat} seat */
  #turnOf(seat) {
    return this.#turns.findIndex((turn) => turn?.seat === seat);
  }

  /** A worker's turn is over, or it wants one. @param {Seat} seat @param {TurnReport} report */
  hear(seat, { turn: number, used, wants }) {
    const { place } = seat;
    const queue = this.#queue;
    if (place < 0 || !queue) return;
    seat.owed = Math.min(seat.owed + used, MOST_CHARGED_MS);
    const turn = this.#turnOf(seat);
    if (turn < 0) {
      if (wants) queue.queue_resume(place);
    } else if (this.#turns[turn]?.number === number) {
      this.#turns[turn] = undefined;
      if (wants) queue.queue_done_ready(place, seat.owed);
      else queue.queue_done_parked(place, seat.owed, Infinity);
      seat.owed = 0;
    }
    // Otherwise its turn is on the way, and it will tell of that.
    this.#next();
  }

  /** A machine has input. @param {Seat} seat @param {boolean} interactive */
  wake(seat, interactive) {
    if (seat.place < 0) return;
    this.#queue?.queue_wake(seat.place, this.#clock(), interactive);
    this.#next();
  }

  /** @param {Seat} seat @param {number} priority */
  setPriority(seat, priority) {
    seat.priority = priority;
    if (seat.place < 0) return;
    this.#queue?.queue_set_priority(seat.place, priority);
    this.#next();
  }

  /** Gives away what turns there are, and ends some early. */
  #next() {
    const queue = this.#queue;
    if (!queue) return;
    const now = this.#clock();
    // The page shows the answer, and is left a processor meanwhile.
    const answering = this.#seats[queue.queue_answering(now)];
    const most = answering ? Math.max(1, this.#limit - 1) : this.#limit;
    let given = 0;
    for (let turn = 0; turn < this.#limit; turn++) if (this.#taken(queue, turn, now)) given++;
    for (let turn = 0; turn < this.#limit && given < most; turn++) {
      if (this.#turns[turn]) continue;
      if (!this.#give(queue, turn, now)) return;
      given++;
    }
    let staying = this.#turns.filter((turn) => turn && !turn.ending).length;
    if (answering) {
      const room = this.#turnOf(answering) < 0 ? most - 1 : most;
      for (const turn of this.#turns) {
        if (staying <= room || !turn || turn.ending || turn.seat === answering) continue;
        this.#end(turn);
        staying--;
      }
    } else if (staying === this.#limit) {
      const seat = this.#seats[queue.queue_yields(0, now)];
      const turn = seat && this.#turns[this.#turnOf(seat)];
      if (turn) this.#end(turn);
    }
  }

  /** @param {Turn} turn that somebody else needs */
  #end(turn) {
    turn.ending = true;
    turn.seat.tell(TELL.YIELD, {});
  }

  /** @param {Queue} queue @param {number} turn @param {number} now */
  #taken(queue, turn, now) {
    const holder = this.#turns[turn];
    if (!holder) return false;
    if (now < holder.until) return true;
    this.#turns[turn] = undefined;
    queue.queue_done_stopped(holder.seat.place, 0);
    return false;
  }

  /** @param {Queue} queue @param {number} turn @param {number} now */
  #give(queue, turn, now) {
    const seat = this.#seats[queue.queue_next(turn, now)];
    if (!seat) return false;
    const number = ++this.#last;
    const ms = seat.priority === PRIORITIES.visible ? VISIBLE_TURN_MS : TURN_MS;
    this.#turns[turn] = { seat, number, until: now + ms + OVERDUE_MS, ending: false };
    seat.tell(TELL.TURN, { turn: number, ms });
    return true;
  }
}
