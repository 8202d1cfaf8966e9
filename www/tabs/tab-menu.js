// The menu of one tab: what the strip's keys and gestures do, for everybody.
import { button, element } from "../elements.js";

/**
 * @typedef {object} MenuActions
 * @property {(id: string) => void} rename
 * @property {(id: string) => void} clone
 * @property {(id: string) => void} close
 * @property {(id: string, by: number) => void} move
 * @property {(id: string, pauseHidden: boolean) => void} pauseHidden
 */

/** From the window's edge and from what the menu belongs to, in CSS pixels. */
const GAP = 6;

export class TabMenu {
  #list;
  #session;
  #root = element("tab-menu", HTMLDivElement);
  #id = "";

  /** @param {import("./tab-list.js").TabList} list @param {import("./session.js").Session} session @param {MenuActions} actions */
  constructor(list, session, actions) {
    this.#list = list;
    this.#session = session;
    /** @type {[string, (id: string) => void][]} */
    const items = [
      ["menu-rename", actions.rename],
      ["menu-clone", actions.clone],
      ["menu-left", (id) => actions.move(id, -1)],
      ["menu-right", (id) => actions.move(id, 1)],
      ["menu-pause", (id) => actions.pauseHidden(id, !list.get(id)?.pauseHidden)],
      ["menu-close", actions.close],
    ];
    for (const [name, action] of items) {
      button(name).addEventListener("click", () => {
        this.#root.hidePopover();
        action(this.#id);
      });
    }
    this.#root.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Opens the menu of a tab at a point or beside a rectangle. @param {string} id @param {{ x: number, y: number } | DOMRect} at */
  open(id, at) {
    const tab = this.#list.get(id);
    if (!tab) return;
    this.#id = id;
    const [index, count] = [this.#list.indexOf(id), this.#list.tabs.length];
    element("tab-menu-title", HTMLParagraphElement).textContent = tab.name;
    button("menu-clone").disabled = !this.#session.machine(id).canClone;
    button("menu-left").disabled = index === 0;
    button("menu-right").disabled = index === count - 1;
    button("menu-pause").setAttribute("aria-checked", String(tab.pauseHidden));
    this.#root.showPopover();
    const { width, height } = this.#root.getBoundingClientRect();
    const y = at instanceof DOMRect ? at.bottom + GAP : at.y;
    this.#root.style.left = `${Math.max(GAP, Math.min(at.x, innerWidth - width - GAP))}px`;
    this.#root.style.top = `${Math.max(GAP, Math.min(y, innerHeight - height - GAP))}px`;
    this.#items()[0]?.focus();
  }

  #items() {
    return /** @type {HTMLButtonElement[]} */ ([...this.#root.querySelectorAll("button:not(:disabled)")]);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const items = this.#items();
    const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    /** @type {Record<string, number>} */
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    if (event.key === "Tab") return this.#root.hidePopover();
    if (!(event.key in targets)) return;
    event.preventDefault();
    items.at(targets[event.key] % items.length)?.focus();
  }
}
