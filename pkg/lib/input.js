// Keyboard and mouse of an element, sent to a VM. Used by <tab86-vm> and by the shell.

/** Wheel movement of one notch, by WheelEvent.deltaMode. */
const NOTCH = [100, 3, 1];

/**
 * Connects an element's keyboard and (while the pointer is locked to it) mouse to a machine.
 * @param {HTMLElement} element must be focusable
 * @param {() => import("../tab86.js").Vm | null} current the machine, if there is one
 * @param {{ keepKey?: (event: KeyboardEvent) => boolean }} [options] `keepKey`: keys that stay the page's
 * @returns {() => void} disconnects
 */
export function connectInput(element, current, { keepKey = () => false } = {}) {
  /** @type {Set<string>} keys held down */
  const held = new Set();
  let wheel = 0;

  const releaseAll = () => {
    for (const code of held) current()?.sendKey(code, false);
    held.clear();
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const vm = current();
    if (!vm || !event.code || event.isComposing || keepKey(event)) return;
    event.preventDefault();
    const down = event.type === "keydown";
    // The machine's keyboard repeats by itself.
    if (event.repeat) return;
    if (down) held.add(event.code);
    // A key pressed elsewhere and released here is not ours.
    else if (!held.delete(event.code)) return;
    vm.sendKey(event.code, down);
  };
  const locked = () => document.pointerLockElement === element;
  /** @param {MouseEvent} event */
  const onMouse = (event) => {
    if (!locked()) return;
    event.preventDefault();
    const moved = event.type === "mousemove";
    current()?.mouse({ dx: moved ? event.movementX : 0, dy: moved ? event.movementY : 0, buttons: event.buttons });
  };
  /** @param {WheelEvent} event */
  const onWheel = (event) => {
    if (!locked()) return;
    event.preventDefault();
    wheel += event.deltaY / NOTCH[event.deltaMode];
    // Touchpads move in small steps, the machine's wheel in whole notches.
    const notches = Math.trunc(wheel);
    wheel -= notches;
    if (notches) current()?.mouse({ wheel: notches, buttons: event.buttons });
  };
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const listeners = [
    [element, "keydown", onKey],
    [element, "keyup", onKey],
    [element, "blur", releaseAll],
    [document, "visibilitychange", releaseAll],
    [element, "mousemove", onMouse],
    [element, "mousedown", onMouse],
    [element, "mouseup", onMouse],
    [element, "wheel", onWheel],
  ];
  listeners.forEach(([target, type, listener]) => target.addEventListener(type, listener, { passive: false }));
  return () => {
    releaseAll();
    listeners.forEach(([target, type, listener]) => target.removeEventListener(type, listener));
  };
}
