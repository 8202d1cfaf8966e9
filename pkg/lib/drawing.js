// Who draws when: the screens of a page's machines share a part of each animation frame, and what does not fit comes with
// the next. So a machine that draws without end, or many that draw, leave the page its own time.

/** Of the 16.7 ms of an animation frame. */
const SHARE_MS = 4;

/** @typedef {{ draw: (ms: number) => boolean }} Drawer draws for about so long; whether there is more to draw */

/** @type {Set<Drawer>} in the order of their turns */
const line = new Set();
let request = 0;

function tick() {
  request = 0;
  const end = performance.now() + SHARE_MS;
  try {
    for (const drawer of [...line]) {
      const left = end - performance.now();
      if (left <= 0) break;
      line.delete(drawer);
      // Behind the others.
      if (drawer.draw(left)) line.add(drawer);
    }
  } finally {
    if (line.size) request ||= requestAnimationFrame(tick);
  }
}

/** Lets someone draw with the next animation frame. @param {Drawer} drawer */
export function standInLine(drawer) {
  line.add(drawer);
  request ||= requestAnimationFrame(tick);
}

/** @param {Drawer} drawer */
export function leaveLine(drawer) {
  line.delete(drawer);
}
