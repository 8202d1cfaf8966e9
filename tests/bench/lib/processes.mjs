// What the processes below this one (the browser) use: processor time by thread, memory. Linux's /proc.
import fs from "node:fs";

/** @returns {string[]} numbers of all processes below this one */
function below() {
  const children = new Map();
  for (const pid of fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const parent = fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1).split(" ")[1];
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    } catch { /* it ended */ }
  }
  const all = [];
  const visit = (pid) => (children.get(pid) ?? []).forEach((child) => { all.push(child); visit(child); });
  visit(String(process.pid));
  return all;
}

/** What a process of Chromium is for. @param {string} pid */
function role(pid) {
  const line = fs.readFileSync(`/proc/${pid}/cmdline`, "latin1");
  return /--utility-sub-type=(\w+)/.exec(line)?.[1] ?? /--type=([\w-]+)/.exec(line)?.[1] ?? "browser";
}

/**
 * Each thread's processor time, waiting time and turns so far.
 * @returns {Map<string, { name: string, cpu: number, waited: number, turns: number }>} by process and thread; seconds
 */
export function threads() {
  const all = new Map();
  for (const pid of below()) {
    try {
      const process = role(pid);
      for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
        const [cpu, waited, turns] = fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ").map(Number);
        const name = fs.readFileSync(`/proc/${pid}/task/${thread}/comm`, "latin1").trim();
        all.set(`${pid}/${thread}`, { name: `${process}/${name}`, cpu: cpu / 1e9, waited: waited / 1e9, turns });
      }
    } catch { /* it ended */ }
  }
  return all;
}

/** What threads used since `before`, those that did something. @param {ReturnType<typeof threads>} before */
export function usedSince(before) {
  const used = [];
  for (const [id, { name, cpu, waited, turns }] of threads()) {
    const old = before.get(id) ?? { cpu: 0, waited: 0, turns: 0 };
    if (turns > old.turns) used.push({ name, cpu: cpu - old.cpu, waited: waited - old.waited, turns: turns - old.turns });
  }
  return used.sort((a, b) => b.cpu - a.cpu);
}

/** Whether a thread, by its name, is a worker of the pool. @param {{ name: string }} thread */
export const isWorker = ({ name }) => /^renderer\/.*Worker/.test(name) && !/ThreadPool/.test(name);

/** Memory of all processes in MiB (proportional set size). */
export function memoryMiB() {
  let kib = 0;
  for (const pid of below()) {
    try {
      kib += Number(/^Pss:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1] ?? 0);
    } catch { /* it ended */ }
  }
  return kib / 1024;
}
