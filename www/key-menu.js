// The menu of key combinations that a browser or its system would keep for itself.
import { element } from "./elements.js";

const CONTROL = "ControlLeft";
const ALT = "AltLeft";

/** @type {[string, string[]][]} */
const COMBINATIONS = [
  ["Ctrl+Alt+Del", [CONTROL, ALT, "Delete"]],
  ["Esc", ["Escape"]],
  ["Tab", ["Tab"]],
  ["Alt+Tab", [ALT, "Tab"]],
  ["Alt+F4", [ALT, "F4"]],
  ["Ctrl+C", [CONTROL, "KeyC"]],
  ["Ctrl+D", [CONTROL, "KeyD"]],
  ["Ctrl+B", [CONTROL, "KeyB"]],
  ["Ctrl+W", [CONTROL, "KeyW"]],
  ["Ctrl+Alt+F1", [CONTROL, ALT, "F1"]],
  ["Ctrl+Alt+F2", [CONTROL, ALT, "F2"]],
  ["Ctrl+Alt+F7", [CONTROL, ALT, "F7"]],
  ["Windows", ["MetaLeft"]],
  ["Print Screen", ["PrintScreen"]],
  ["Pause", ["Pause"]],
  ["↑", ["ArrowUp"]],
  ["↓", ["ArrowDown"]],
  ["←", ["ArrowLeft"]],
  ["→", ["ArrowRight"]],
  ...Array.from({ length: 12 }, (_, i) => /** @type {[string, string[]]} */ ([`F${i + 1}`, [`F${i + 1}`]])),
];

/** @param {(keys: string[]) => void} send */
export function setUpKeyMenu(send) {
  const menu = element("keys-menu", HTMLDivElement);
  menu.append(...COMBINATIONS.map(([title, keys]) => {
    const control = document.createElement("button");
    control.type = "button";
    control.textContent = title;
    control.addEventListener("click", () => {
      send(keys);
      // Cursor and function keys are pressed several times.
      if (keys.length > 1) menu.hidePopover();
    });
    return control;
  }));
}
