// The pool's clock: milliseconds since the pool was created, the same on the page and in every worker.

/** The pool's epoch: call it once, on the page. */
export const poolEpoch = () => performance.timeOrigin + performance.now();

/** @param {number} epoch @returns {() => number} reads the clock */
export function poolClock(epoch) {
  const origin = performance.timeOrigin - epoch;
  return () => origin + performance.now();
}
