// The list of tabs: names, order, which one is active, and what each starts. Knows neither the page nor machines.

/**
 * @typedef {{ kind: "guest", guest: string } | { kind: "files", files: string[] }} TabSource
 *   what a tab's machine starts from: a guest of the site, or files of the visitor by their names
 * @typedef {{ memory?: number, jit?: boolean, clock?: "realtime" | "deterministic", network?: TabNetwork }} TabSettings
 *   what the address said
 * @typedef {{ lan: string } | { relay: string } | null} TabNetwork null: no network card
 *
 * @typedef {object} Tab
 * @property {string} id unique on the page
 * @property {string} name
 * @property {TabSource} source
 * @property {TabSettings} settings
 * @property {boolean} pauseHidden the machine stands still while its tab is not shown
 *
 * @typedef {object} SavedList what `save` gives and `restore` takes
 * @property {number} version
 * @property {number} active index of the active tab, or -1
 * @property {Omit<Tab, "id">[]} tabs
 */

const VERSION = 1;
/** Of a name, in UTF-16 units. */
const NAME_LENGTH = 80;
/** More than anybody opens; bounds what a broken store can do. */
const MOST_RESTORED = 64;
const MOST_FILES = 16;

/** One line without surrounding space, not too long; empty when nothing is left. @param {unknown} text */
function tidyName(text) {
  return typeof text === "string" ? text.replace(/\s+/g, " ").trim().slice(0, NAME_LENGTH).trim() : "";
}

/** The tabs of a page, in order. A tab is never changed, it is replaced. */
export class TabList {
  /** @type {readonly Tab[]} */ #tabs = [];
  /** @type {string | null} */ #active = null;
  #next = 1;
  /** @type {Set<() => void>} */ #listeners = new Set();

  get tabs() {
    return this.#tabs;
  }

  /** Id of the tab that is shown, or was last. */
  get active() {
    return this.#active;
  }

  /** @param {() => void} listener called after each change */
  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** @param {string | null} id @returns {Tab | null} */
  get(id) {
    return this.#tabs.find((tab) => tab.id === id) ?? null;
  }

  /** @param {string} id */
  indexOf(id) {
    return this.#tabs.findIndex((tab) => tab.id === id);
  }

  /**
   * Adds a tab, at the end unless told; a name that is taken gets a number.
   * @param {{ name: string, source: TabSource, settings?: TabSettings, pauseHidden?: boolean }} tab @param {number} [at]
   * @returns {Tab}
   */
  add({ name, source, settings = {}, pauseHidden = false }, at = this.#tabs.length) {
    const tab = this.#withId({ name: this.#freeName(tidyName(name) || "Machine"), source, settings, pauseHidden });
    this.#tabs = this.#tabs.toSpliced(at, 0, tab);
    this.#changed();
    return tab;
  }

  /**
   * Takes a tab out. When it was active its right neighbour becomes active, or else its left one.
   * @param {string} id @returns {{ tab: Tab, index: number } | null}
   */
  remove(id) {
    const index = this.indexOf(id);
    if (index < 0) return null;
    const tab = this.#tabs[index];
    this.#tabs = this.#tabs.toSpliced(index, 1);
    if (this.#active === id) this.#active = (this.#tabs[index] ?? this.#tabs.at(-1))?.id ?? null;
    this.#changed();
    return { tab, index };
  }

  /** Puts a tab back that was removed. @param {Tab} tab @param {number} index */
  putBack(tab, index) {
    if (this.get(tab.id)) return;
    this.#tabs = this.#tabs.toSpliced(index, 0, tab);
    this.#changed();
  }

  /** @param {string | null} id */
  activate(id) {
    if (id === this.#active || (id !== null && !this.get(id))) return;
    this.#active = id;
    this.#changed();
  }

  /** An empty name changes nothing. @param {string} id @param {string} name */
  rename(id, name) {
    const tidy = tidyName(name);
    if (tidy) this.#replace(id, { name: tidy });
  }

  /** @param {string} id @param {boolean} pauseHidden */
  setPauseHidden(id, pauseHidden) {
    this.#replace(id, { pauseHidden });
  }

  /** Moves a tab to an index, counted without it; beyond the ends means the ends. @param {string} id @param {number} to */
  move(id, to) {
    const from = this.indexOf(id);
    const target = Math.max(0, Math.min(this.#tabs.length - 1, to));
    if (from < 0 || from === target) return;
    this.#tabs = this.#tabs.toSpliced(from, 1).toSpliced(target, 0, this.#tabs[from]);
    this.#changed();
  }

  /** The tab some places further, around the ends. @param {string} id @param {number} by @returns {Tab | null} */
  step(id, by) {
    const [from, count] = [this.indexOf(id), this.#tabs.length];
    return from < 0 ? null : this.#tabs[(((from + by) % count) + count) % count];
  }

  /** @returns {SavedList} */
  save() {
    const tabs = this.#tabs.map(({ id: _, ...rest }) => rest);
    return { version: VERSION, active: this.#active === null ? -1 : this.indexOf(this.#active), tabs };
  }

  /** Takes what `save` gave, or anything else: what makes no sense is left out. @param {unknown} saved */
  restore(saved) {
    const list = /** @type {Partial<SavedList> | null} */ (typeof saved === "object" ? saved : null);
    if (list?.version !== VERSION || !Array.isArray(list.tabs)) return;
    list.tabs.slice(0, MOST_RESTORED).forEach((saved, index) => {
      const sound = soundTab(saved);
      if (!sound) return;
      const tab = this.#withId(sound);
      this.#tabs = [...this.#tabs, tab];
      if (index === list.active) this.#active = tab.id;
    });
    this.#active ??= this.#tabs[0]?.id ?? null;
    this.#changed();
  }

  /** @param {string} id @param {Partial<Tab>} values */
  #replace(id, values) {
    if (!this.get(id)) return;
    this.#tabs = this.#tabs.map((tab) => (tab.id === id ? { ...tab, ...values } : tab));
    this.#changed();
  }

  /** @param {Omit<Tab, "id">} tab @returns {Tab} */
  #withId(tab) {
    return { id: `t${this.#next++}`, ...tab };
  }

  /** @param {string} name */
  #freeName(name) {
    const taken = new Set(this.#tabs.map((tab) => tab.name));
    if (!taken.has(name)) return name;
    // After "Debian 2" comes "Debian 3"; the number of "Windows 98" is its own.
    const unnumbered = name.replace(/ \d+$/, "");
    const stem = (taken.has(unnumbered) ? unnumbered : name).slice(0, NAME_LENGTH - 4);
    let number = 2;
    while (taken.has(`${stem} ${number}`)) number++;
    return `${stem} ${number}`;
  }

  #changed() {
    this.#listeners.forEach((listener) => listener());
  }
}

/** A saved tab as it should be, or null. @param {unknown} saved @returns {Omit<Tab, "id"> | null} */
function soundTab(saved) {
  if (typeof saved !== "object" || saved === null) return null;
  const { name, source, settings, pauseHidden } = /** @type {Record<string, any>} */ (saved);
  const [tidy, sound] = [tidyName(name), soundSource(source)];
  return tidy && sound ? { name: tidy, source: sound, settings: soundSettings(settings), pauseHidden: pauseHidden === true } : null;
}

/** @param {any} source @returns {TabSource | null} */
function soundSource(source) {
  if (source?.kind === "guest" && typeof source.guest === "string") return { kind: "guest", guest: source.guest };
  if (source?.kind !== "files" || !Array.isArray(source.files)) return null;
  const files = source.files.slice(0, MOST_FILES).filter((/** @type {unknown} */ name) => typeof name === "string");
  return files.length ? { kind: "files", files } : null;
}

/** @param {any} settings @returns {TabSettings} */
function soundSettings(settings) {
  const { memory, jit, clock, network } = settings ?? {};
  return {
    ...(typeof memory === "number" && { memory }),
    ...(typeof jit === "boolean" && { jit }),
    ...((clock === "realtime" || clock === "deterministic") && { clock }),
    ...soundNetwork(network),
  };
}

/** @param {any} network @returns {{ network?: TabNetwork }} */
function soundNetwork(network) {
  if (network === null) return { network };
  if (typeof network?.lan === "string") return { network: { lan: network.lan } };
  return typeof network?.relay === "string" ? { network: { relay: network.relay } } : {};
}
