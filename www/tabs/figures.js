// States and figures in words: of one machine, and of all of them. Pure.
import { size } from "../sizes.js";

/** @typedef {import("/pkg/tab86.js").VmState | "loading"} TabState */
/** @typedef {"busy" | "idle" | "paused" | "off" | "bad" | "loading"} Tone how a state looks */

/** Idle for more of the time than this, a machine counts as idle. */
export const IDLE = 0.95;

/** @type {Record<TabState, { name: string, tone: Tone }>} */
const STATES = {
  loading: { name: "Loading", tone: "loading" },
  running: { name: "Running", tone: "busy" },
  paused: { name: "Paused", tone: "paused" },
  stopped: { name: "Off", tone: "off" },
  off: { name: "Off", tone: "off" },
  closed: { name: "Off", tone: "off" },
  halted: { name: "Halted", tone: "bad" },
  shutdown: { name: "Crashed", tone: "bad" },
  crashed: { name: "Failed", tone: "bad" },
};

/** @param {TabState} state */
export const stateName = (state) => STATES[state].name;

/** Whether a machine in this state can do something by itself. @param {TabState} state */
export const isAlive = (state) => state === "running" || state === "paused" || state === "halted";

/** @param {number} mips */
export const speed = (mips) => `${mips < 10 ? mips.toFixed(1) : mips.toFixed(0)} MIPS`;

/**
 * What a tab shows: a word or a figure, and how it looks.
 * @param {TabState} state @param {{ mips: number, idle: number } | null} stats @returns {{ text: string, tone: Tone }}
 */
export function indicator(state, stats) {
  const { name, tone } = STATES[state];
  if (state !== "running" || !stats) return { text: name, tone };
  return stats.idle > IDLE ? { text: "Idle", tone: "idle" } : { text: speed(stats.mips), tone };
}

/**
 * The page's own total.
 * @param {{ mips: number, memory: number }[]} machines that have memory now @param {number} workers threads in use
 */
export function total(machines, workers) {
  const sum = (/** @type {(machine: { mips: number, memory: number }) => number} */ of) => machines.reduce((all, machine) => all + of(machine), 0);
  return { machines: machines.length, mips: sum(({ mips }) => mips), memory: sum(({ memory }) => memory), workers };
}

/** @param {ReturnType<typeof total>} all */
export function totalText({ machines, mips, memory, workers }) {
  if (machines === 0) return "No machine is on";
  const count = (/** @type {number} */ n, /** @type {string} */ noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
  return [`${count(machines, "machine")} on`, speed(mips), size(memory), count(workers, "worker")].join(" · ");
}
