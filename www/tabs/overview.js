// The overview: all machines as cards with live pictures, and the page's own total.
import { element, setHidden, setTone } from "../elements.js";
import { indicator, stateName, totalText } from "./figures.js";
import { Thumbnails } from "./thumbnails.js";

/**
 * @typedef {import("./tab-list.js").TabList} TabList
 * @typedef {import("./session.js").Session} Session
 * @typedef {{ enter: (id: string) => void, close: (id: string) => void, menu: (id: string, at: { x: number, y: number } | DOMRect) => void, leave: () => void }} OverviewActions
 */

/** A machine's card. */
class Card {
  root = document.createElement("li");
  control = document.createElement("button");
  canvas = document.createElement("canvas");
  #name = document.createElement("strong");
  #figure = document.createElement("span");
  #more = document.createElement("button");
  #cross = document.createElement("button");

  /** @param {string} id @param {OverviewActions} actions */
  constructor(id, actions) {
    this.root.className = "card";
    this.root.dataset.tab = id;
    this.control.type = "button";
    this.control.className = "card-open";
    const picture = document.createElement("span");
    picture.className = "thumbnail";
    picture.append(this.canvas);
    const caption = document.createElement("span");
    caption.className = "card-caption";
    this.#figure.className = "card-figure";
    const dot = document.createElement("span");
    dot.className = "tone";
    caption.append(dot, this.#name, this.#figure);
    this.control.append(picture, caption);
    this.control.addEventListener("click", () => actions.enter(id));
    this.#more.innerHTML = `<svg class="icon" aria-hidden="true"><use href="icons.svg#more"/></svg>`;
    this.#more.addEventListener("click", () => actions.menu(id, this.#more.getBoundingClientRect()));
    this.#cross.innerHTML = `<svg class="icon" aria-hidden="true"><use href="icons.svg#cross"/></svg>`;
    this.#cross.addEventListener("click", () => actions.close(id));
    const side = document.createElement("span");
    side.className = "card-buttons";
    for (const each of [this.#more, this.#cross]) {
      each.type = "button";
      each.className = "plain";
      side.append(each);
    }
    this.#cross.classList.add("card-close");
    this.root.append(this.control, side);
  }

  /** @param {import("./tab-list.js").Tab} tab @param {boolean} active */
  update(tab, active) {
    this.#name.textContent = tab.name;
    this.#more.setAttribute("aria-label", `Menu of ${tab.name}`);
    this.#cross.setAttribute("aria-label", `Close ${tab.name}`);
    this.root.classList.toggle("active", active);
    this.control.toggleAttribute("aria-current", active);
  }

  /** @param {import("./machine.js").Machine} machine */
  showFigures(machine) {
    const { text, tone } = indicator(machine.state, machine.stats);
    setTone(this.root, tone);
    setHidden(this.canvas, machine.vm === null);
    const label = `${this.#name.textContent}, ${stateName(machine.state).toLowerCase()}`;
    if (this.control.ariaLabel !== label) this.control.ariaLabel = label;
    if (this.#figure.textContent !== text) this.#figure.textContent = text;
  }
}

export class Overview {
  #list;
  #session;
  #actions;
  #root = element("overview", HTMLElement);
  #grid = element("cards", HTMLUListElement);
  #last = element("new-card", HTMLLIElement);
  /** @type {Map<string, Card>} */ #cards = new Map();
  #thumbnails = new Thumbnails(() => this.#pairs());

  /** @param {TabList} list @param {Session} session @param {OverviewActions} actions */
  constructor(list, session, actions) {
    this.#list = list;
    this.#session = session;
    this.#actions = actions;
    this.#root.addEventListener("keydown", (event) => this.#onKey(event));
  }

  show() {
    this.#root.hidden = false;
    this.update();
    this.#thumbnails.start();
    const active = this.#list.active;
    if (active) this.focus(active);
  }

  hide() {
    this.#thumbnails.stop();
    this.#root.hidden = true;
  }

  /** Follows the list. */
  update() {
    if (this.#root.hidden) return;
    for (const [id, card] of this.#cards) {
      if (this.#list.get(id)) continue;
      card.root.remove();
      this.#cards.delete(id);
    }
    const focused = document.activeElement;
    this.#list.tabs.forEach((tab, index) => {
      let card = this.#cards.get(tab.id);
      if (!card) this.#cards.set(tab.id, (card = new Card(tab.id, this.#actions)));
      if (this.#grid.children[index] !== card.root) this.#grid.insertBefore(card.root, this.#grid.children[index] ?? this.#last);
      card.update(tab, tab.id === this.#list.active);
    });
    if (focused instanceof HTMLElement && this.#grid.contains(focused) && document.activeElement !== focused) focused.focus();
    this.showFigures();
  }

  showFigures() {
    if (this.#root.hidden) return;
    for (const [id, card] of this.#cards) card.showFigures(this.#session.machine(id));
    const text = totalText(this.#session.total());
    const total = element("overview-total", HTMLParagraphElement);
    if (total.textContent !== text) total.textContent = text;
  }

  /** @param {string} id */
  focus(id) {
    this.#cards.get(id)?.control.focus();
  }

  #pairs() {
    return this.#list.tabs.flatMap(({ id }) => {
      const { vm } = this.#session.machine(id);
      const canvas = this.#cards.get(id)?.canvas;
      return vm && canvas ? [{ vm, canvas }] : [];
    });
  }

  /** Arrows go from card to card, also up and down. @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.key === "Escape") return this.#actions.leave();
    const target = event.target instanceof Element ? event.target.closest("li") : null;
    if (!target) return;
    const id = target.dataset.tab;
    if (event.key === "Delete" && id) return this.#actions.close(id);
    const cards = [...this.#grid.children];
    const at = cards.indexOf(target);
    const columns = cards.filter((card) => card.getBoundingClientRect().top === cards[0].getBoundingClientRect().top).length;
    /** @type {Record<string, number>} */
    const targets = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: cards.length - 1 };
    if (!(event.key in targets)) return;
    event.preventDefault();
    /** @type {HTMLElement | null | undefined} */ (cards[targets[event.key]]?.querySelector("button"))?.focus();
  }
}
