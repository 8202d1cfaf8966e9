// The strip of tabs: an ARIA tablist with one tab stop, where arrows go from tab to tab.
import { element, setHidden, setTone } from "../elements.js";
import { indicator, stateName } from "./figures.js";
import { setUpTabDrag } from "./tab-drag.js";
import { editName } from "./tab-rename.js";

/**
 * @typedef {import("./tab-list.js").Tab} Tab
 * @typedef {import("./tab-list.js").TabList} TabList
 * @typedef {import("./session.js").Session} Session
 *
 * @typedef {object} TabActions
 * @property {(id: string) => void} select shows a tab; the focus stays
 * @property {(id: string) => void} enter shows a tab and gives its screen the keyboard
 * @property {(id: string) => void} close
 * @property {(id: string) => void} clone
 * @property {(id: string, at: { x: number, y: number } | null) => void} menu
 * @property {() => void} openNew
 * @property {() => void} overview
 * @property {() => boolean} shown is a tab shown, and not the guest list or the overview?
 */

const icon = (/** @type {string} */ name) => `<svg class="icon" aria-hidden="true"><use href="icons.svg#${name}"/></svg>`;

/** Sets a text only when it changes: less work, and nothing for a screen reader to repeat. @param {Element} node @param {string} text */
const setText = (node, text) => node.textContent !== text && (node.textContent = text);

/** One tab of the strip. */
class StripTab {
  root = document.createElement("div");
  control = document.createElement("button");
  #name = document.createElement("span");
  #figure = document.createElement("span");
  #disk = document.createElement("span");
  #network = document.createElement("span");

  /** @param {string} id @param {() => void} close */
  constructor(id, close) {
    this.root.className = "tab";
    this.root.dataset.tab = id;
    this.root.setAttribute("role", "presentation");
    this.control.type = "button";
    this.control.id = `machine-tab-${id}`;
    this.control.setAttribute("role", "tab");
    this.control.setAttribute("aria-controls", "machine-panel");
    this.control.setAttribute("aria-keyshortcuts", "F2 Delete Shift+ArrowLeft Shift+ArrowRight");
    this.#name.className = "tab-name";
    const figures = document.createElement("span");
    figures.className = "tab-figures";
    const dot = document.createElement("span");
    dot.className = "tone";
    this.#figure.className = "tab-figure";
    this.#disk.className = "light";
    this.#disk.title = "Disk";
    this.#network.className = "light network";
    this.#network.title = "Network";
    figures.append(dot, this.#figure, this.#disk, this.#network);
    this.control.append(this.#name, figures);
    // Only for the mouse and for fingers: the keyboard has Delete, and everybody has the tab's menu.
    const cross = document.createElement("button");
    cross.type = "button";
    cross.className = "tab-close plain";
    cross.tabIndex = -1;
    cross.setAttribute("aria-hidden", "true");
    cross.title = "Close this tab";
    cross.innerHTML = icon("cross");
    cross.addEventListener("click", close);
    this.root.append(this.control, cross);
  }

  /** @param {Tab} tab @param {boolean} selected @param {boolean} stop has it the strip's tab stop? */
  update(tab, selected, stop) {
    setText(this.#name, tab.name);
    this.control.title = tab.name;
    this.control.setAttribute("aria-selected", String(selected));
    this.control.tabIndex = stop ? 0 : -1;
  }

  /** @param {import("./machine.js").Machine} machine */
  showFigures(machine) {
    const { text, tone } = indicator(machine.state, machine.stats);
    setTone(this.root, tone);
    // Its state is part of a tab's name for a screen reader, its speed would be noise.
    const label = `${this.#name.textContent}, ${stateName(machine.state).toLowerCase()}`;
    if (this.control.ariaLabel !== label) this.control.ariaLabel = label;
    setText(this.#figure, text);
    const { disk, network } = machine.lights;
    setHidden(this.#disk, machine.vm === null);
    this.#disk.classList.toggle("on", disk);
    setHidden(this.#network, network === null);
    this.#network.classList.toggle("on", network === true);
  }
}

/** The strip, kept in step with the list. */
export class TabStrip {
  #list;
  #session;
  #actions;
  #root = element("tab-strip", HTMLDivElement);
  /** @type {Map<string, StripTab>} */ #tabs = new Map();
  #revealed = "";

  /** @param {TabList} list @param {Session} session @param {TabActions} actions */
  constructor(list, session, actions) {
    this.#list = list;
    this.#session = session;
    this.#actions = actions;
    const root = this.#root;
    const idOf = (/** @type {Event} */ event) =>
      (event.target instanceof Element && event.target.closest("[role=tab]")?.closest(".tab")?.getAttribute("data-tab")) || null;
    root.addEventListener("keydown", (event) => {
      const id = idOf(event);
      if (id) this.#onKey(event, id);
    });
    root.addEventListener("click", (event) => {
      const id = idOf(event);
      if (id) actions.enter(id);
    });
    root.addEventListener("dblclick", (event) => {
      const id = idOf(event);
      if (id) this.rename(id);
    });
    root.addEventListener("auxclick", (event) => {
      const id = idOf(event);
      if (id && event.button === 1) actions.close(id);
    });
    root.addEventListener("contextmenu", (event) => {
      const id = idOf(event);
      if (!id) return;
      event.preventDefault();
      const open = () => actions.menu(id, event.clientX || event.clientY ? { x: event.clientX, y: event.clientY } : null);
      // Where a press already asks for the menu, its release would close it again.
      if (event.buttons) addEventListener("pointerup", () => setTimeout(open), { once: true });
      else open();
    });
    // A wheel goes up and down, the strip left and right.
    root.addEventListener("wheel", (event) => {
      if (event.deltaX !== 0 || root.scrollWidth <= root.clientWidth) return;
      event.preventDefault();
      root.scrollLeft += event.deltaY;
    }, { passive: false });
    new ResizeObserver(() => this.#reveal()).observe(root);
    setUpTabDrag(root, (id, index) => list.move(id, index));
    this.update();
  }

  /** Follows the list. */
  update() {
    const { tabs, active } = this.#list;
    for (const [id, tab] of this.#tabs) {
      if (this.#list.get(id)) continue;
      tab.root.remove();
      this.#tabs.delete(id);
    }
    const focused = document.activeElement;
    tabs.forEach((tab, index) => {
      const view = this.#view(tab.id);
      if (this.#root.children[index] !== view.root) this.#root.insertBefore(view.root, this.#root.children[index] ?? null);
      view.update(tab, tab.id === active && this.#actions.shown(), tab.id === active || (active === null && index === 0));
      view.showFigures(this.#session.machine(tab.id));
    });
    // A node that is moved loses the focus.
    if (focused instanceof HTMLElement && this.#root.contains(focused) && document.activeElement !== focused) focused.focus();
    // While another view was shown the strip was wider, and scrolled back. It is narrower again in the next frame only,
    // and its observer sees nothing where both happened within one.
    const place = `${active} ${active === null ? 0 : this.#list.indexOf(active)} ${tabs.length} ${this.#actions.shown()}`;
    if (place !== this.#revealed) {
      this.#reveal();
      requestAnimationFrame(() => this.#reveal());
    }
    this.#revealed = place;
  }

  /** Scrolls the active tab into sight. */
  #reveal() {
    const tab = this.#tabs.get(this.#list.active ?? "");
    tab?.root.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  showFigures() {
    for (const [id, tab] of this.#tabs) tab.showFigures(this.#session.machine(id));
  }

  /** @param {string | null} id */
  focus(id) {
    if (id) this.#tabs.get(id)?.control.focus();
  }

  get hasFocus() {
    return this.#root.contains(document.activeElement);
  }

  /** The tab's rectangle on the page. @param {string} id */
  rectOf(id) {
    return this.#tabs.get(id)?.root.getBoundingClientRect() ?? null;
  }

  /** Lets the visitor edit a tab's name in its place. @param {string} id */
  rename(id) {
    const [tab, view] = [this.#list.get(id), this.#tabs.get(id)];
    if (!tab || !view) return;
    view.root.scrollIntoView({ block: "nearest", inline: "nearest" });
    editName(view.root, tab.name, (name, byKey) => {
      if (name !== null) this.#list.rename(id, name);
      if (byKey) view.control.focus();
    });
  }

  /** @param {string} id @returns {StripTab} */
  #view(id) {
    let view = this.#tabs.get(id);
    if (!view) {
      view = new StripTab(id, () => this.#actions.close(id));
      this.#tabs.set(id, view);
    }
    return view;
  }

  /** @param {KeyboardEvent} event @param {string} id */
  #onKey(event, id) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const action = event.shiftKey ? this.#shifted(event.key, id) : this.#plain(event.key, id);
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** @param {string} key @param {string} id @returns {(() => void) | null} */
  #shifted(key, id) {
    const from = this.#list.indexOf(id);
    /** @type {Record<string, number>} */
    const targets = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: Infinity };
    return key in targets ? () => this.#list.move(id, targets[key]) : null;
  }

  /** @param {string} key @param {string} id @returns {(() => void) | null} */
  #plain(key, id) {
    const { tabs } = this.#list;
    const go = (/** @type {Tab | null | undefined} */ tab) => () => {
      if (!tab) return;
      this.#actions.select(tab.id);
      this.focus(tab.id);
    };
    if (/^[1-9]$/.test(key)) return go(tabs[Number(key) - 1]);
    switch (key.length === 1 ? key.toLowerCase() : key) {
      case "ArrowLeft": return go(this.#list.step(id, -1));
      case "ArrowRight": return go(this.#list.step(id, 1));
      case "Home": return go(tabs[0]);
      case "End": return go(tabs.at(-1));
      case "ArrowDown": return () => this.#actions.enter(id);
      case "F2": return () => this.rename(id);
      case "Delete": return () => this.#actions.close(id);
      case "n": return this.#actions.openNew;
      case "o": return this.#actions.overview;
      case "c": return () => this.#actions.clone(id);
      default: return null;
    }
  }
}
