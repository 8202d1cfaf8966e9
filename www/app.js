// The shell: guest list, tabs with machines over one pool, and the overview of them.
import { createPool, isolate } from "/pkg/tab86.js";
import { button, element, setHidden } from "./elements.js";
import { loadGuests, optionsOf, showGuests } from "./guests.js";
import { MachineView } from "./machine-view.js";
import { clearMessage, onMessageClose, say, sayError } from "./messages.js";
import { DEFAULT_LAN } from "./network-panel.js";
import { setUpOwnImage } from "./own-image.js";
import { isHostChord } from "./screen.js";
import { setUpTheme } from "./theme.js";
import { confirmClose, UndoOffer } from "./tabs/closing.js";
import { totalText } from "./tabs/figures.js";
import { focusOffPanel, setUpOffPanel, showOffPanel } from "./tabs/off-panel.js";
import { Overview } from "./tabs/overview.js";
import { Session } from "./tabs/session.js";
import { TabList } from "./tabs/tab-list.js";
import { TabMenu } from "./tabs/tab-menu.js";
import { keepTabs, readTabs } from "./tabs/tab-store.js";
import { TabStrip } from "./tabs/tab-strip.js";

/** @typedef {import("/pkg/tab86.js").VmOptions} VmOptions */
/** @typedef {import("./guests.js").Guest} Guest */
/** @typedef {"home" | "machine" | "overview"} Place what fills the page */

const FIRMWARE = {
  bios: new URL("firmware/bios.bin", document.baseURI),
  vgaBios: new URL("firmware/vgabios-stdvga.bin", document.baseURI),
};
const TITLE = document.title;
/** How often the figures change, and for how long the lights stay on. */
const FIGURES_MS = 250;
/** For how long a closed tab can be taken back. */
const UNDO_MS = 10_000;

const home = element("home", HTMLElement);
const machineMain = element("machine", HTMLElement);

/** @type {Guest[]} */ let guests = [];
/** @type {Place} */ let place = "home";
/** The first running machine that is closed is asked about. */
let asked = false;
/** @type {object | null} the notice that the message area shows */ let noticed = null;

const list = new TabList();
const session = new Session(list, { createPool, optionsOf: optionsOfTab, canvas: element("screen", HTMLCanvasElement) });
const view = new MachineView(() => void powerOff());
const strip = new TabStrip(list, session, {
  select: (id) => go("machine", id),
  enter,
  close: (id) => void close(id),
  clone: (id) => void clone(id),
  menu: openMenu,
  openNew,
  overview: () => go("overview"),
  shown: () => place === "machine",
});
const overview = new Overview(list, session, {
  enter,
  close: (id) => void close(id),
  menu: (id, at) => menu.open(id, at),
  leave,
});
const menu = new TabMenu(list, session, {
  rename(id) {
    if (place === "overview") go("machine", id);
    strip.rename(id);
  },
  clone: (id) => void clone(id),
  close: (id) => void close(id),
  move(id, by) {
    list.move(id, list.indexOf(id) + by);
    strip.focus(id);
  },
  pauseHidden(id, pauseHidden) {
    list.setPauseHidden(id, pauseHidden);
    session.settle(id);
  },
});
const offer = new UndoOffer(undoClose);

/** @param {import("./tabs/tab-list.js").Tab} tab @param {VmOptions | null} files @returns {VmOptions} */
function optionsOfTab({ source, settings }, files) {
  // What other machines send at their own times is in no deterministic machine's course.
  const network = settings.clock === "deterministic" ? {} : { network: { lan: DEFAULT_LAN } };
  if (source.kind === "files") {
    if (!files) throw new Error(`Choose ${source.files.join(", ")} again: the page does not keep your files.`);
    return { ...FIRMWARE, ...network, ...files, ...settings };
  }
  const guest = guests.find(({ name }) => name === source.guest);
  if (!guest) throw new Error(`This site has no guest called ${source.guest}.`);
  return { ...FIRMWARE, ...network, ...optionsOf(guest), ...settings };
}

/** Settings of the address that hold for every new tab: `?jit=0`, `?clock=deterministic`, `?memory=MiB`,
 * `?lan=name`, `?relay=wss://…`, `?network=none`. */
function settings() {
  const query = new URLSearchParams(location.search);
  const memory = query.get("memory");
  const [lan, relay] = [query.get("lan"), query.get("relay")];
  return {
    ...(query.get("jit") === "0" && { jit: false }),
    ...(query.get("clock") === "deterministic" && { clock: /** @type {const} */ ("deterministic") }),
    ...(memory && { memory: Number(memory) * 2 ** 20 }),
    ...(lan && { network: { lan } }),
    ...(relay && { network: { relay } }),
    ...(query.get("network") === "none" && { network: null }),
  };
}

/** Shows a place, and there a tab. @param {Place} next @param {string} [id] */
function go(next, id) {
  const before = place;
  place = next;
  if (before !== next || (id && id !== list.active)) clearMessage();
  if (id) list.activate(id);
  if (next === "machine" && list.active === null) place = "home";
  if (before === "overview" && place !== "overview") overview.hide();
  // What is hidden has no focus to lose.
  if (place !== "machine") view.show(null, "");
  home.hidden = place !== "home";
  machineMain.hidden = place !== "machine";
  render();
  if (before !== "overview" && place === "overview") overview.show();
}

/** Shows a tab and gives its screen the keyboard. @param {string} id */
function enter(id) {
  go("machine", id);
  if (session.machine(id).vm) view.focus();
  else focusOffPanel();
}

function openNew() {
  go("home");
  home.querySelector("button")?.focus();
}

/** Back to the tab that was shown last. */
function leave() {
  if (list.active) enter(list.active);
}

/** Brings the page in step with the list and the machines. */
function render() {
  const count = list.tabs.length;
  if (count === 0 && place !== "home") return go("home");
  const tab = place === "machine" ? list.get(list.active) : null;
  const machine = tab && session.machine(tab.id);
  session.see(tab?.id ?? null);
  element("strip", HTMLDivElement).hidden = count === 0;
  document.body.classList.toggle("with-tabs", count > 0);
  strip.update();
  const overviewButton = button("overview-button");
  overviewButton.hidden = count === 0;
  overviewButton.setAttribute("aria-pressed", String(place === "overview"));
  element("tab-count", HTMLSpanElement).textContent = String(count);
  button("tab-menu-button").hidden = tab === null;
  button("new-tab").classList.toggle("current", place === "home");
  element("guests-title", HTMLHeadingElement).textContent = count ? "Boot something in a new tab" : "Boot something";
  document.title = tab ? `${tab.name} - tab86` : TITLE;
  view.show(machine, tab?.name ?? "");
  if (tab && machine) {
    element("machine-panel", HTMLDivElement).setAttribute("aria-labelledby", `machine-tab-${tab.id}`);
    const { source } = tab;
    showOffPanel(tab, machine, source.kind === "files" || guests.some(({ name }) => name === source.guest));
    // For the browser's console, and for tests.
    if (machine.vm) Object.assign(window, { vm: machine.vm });
  }
  showNotice(machine?.notice ?? null);
  if (!session.canUndo) offer.withdraw();
  overview.update();
  showFigures();
}

/** @param {import("./tabs/machine.js").Notice | null} notice */
function showNotice(notice) {
  if (notice === noticed) return;
  noticed = notice;
  if (notice) say(notice.text, notice.kind);
  else clearMessage();
}

function showFigures() {
  strip.showFigures();
  view.showFigures();
  overview.showFigures();
  const total = element("total", HTMLSpanElement);
  setHidden(total, list.tabs.length < 2);
  if (total.hidden) return;
  const text = totalText(session.total());
  if (total.textContent !== text) total.textContent = text;
}

/**
 * Opens a tab and starts its machine. A tab whose first start fails is not kept.
 * @param {string} name @param {import("./tabs/tab-list.js").TabSource} source
 * @param {{ files?: VmOptions, activate?: boolean }} [options]
 */
async function open(name, source, { files, activate = true } = {}) {
  clearMessage();
  const { id } = list.add({ name, source, settings: settings() });
  if (files) session.machine(id).files = files;
  if (activate) go("machine", id);
  try {
    await session.start(id);
    if (shows(id)) view.focus();
  } catch (error) {
    const shown = shows(id);
    session.drop(id);
    if (shown) go("home");
    sayError(error);
  }
}

/** @param {string} id */
const shows = (id) => place === "machine" && list.active === id;

/** @param {Guest} guest @param {boolean} [activate] */
const openGuest = (guest, activate = true) => open(guest.title, { kind: "guest", guest: guest.name }, { activate });

/** Starts the machine of a tab that is off. @param {string} id @param {VmOptions} [files] */
async function start(id, files) {
  clearMessage();
  if (files) session.machine(id).files = files;
  try {
    await session.start(id);
    if (shows(id)) view.focus();
  } catch (error) {
    sayError(error);
  }
}

/** @param {string} id */
async function clone(id) {
  if (!session.machine(id).canClone) return;
  try {
    await session.clone(id);
    if (list.active) enter(list.active);
  } catch (error) {
    sayError(error);
  }
}

/** Closes a tab. @param {string} id */
async function close(id) {
  const tab = list.get(id);
  if (!tab) return;
  // Where the focus goes on from.
  const [inOverview, inStrip] = [place === "overview", document.activeElement?.role === "tab"];
  if (session.machine(id).isAlive && !asked) {
    const what = `${tab.name} is running. What it holds in memory and what it wrote to its disks is lost. You will not be asked again.`;
    if (!(await confirmClose(what))) return;
    asked = true;
  }
  const index = list.indexOf(id);
  forgetAddress(tab);
  session.close(id);
  offer.make(`Closed ${tab.name}.`, UNDO_MS, () => session.finishClose());
  const next = list.tabs[index] ?? list.tabs.at(-1);
  if (!next) home.querySelector("button")?.focus();
  else if (inOverview) overview.focus(next.id);
  else if (inStrip) strip.focus(list.active);
  else if (place === "machine") leave();
}

function undoClose() {
  const inStrip = strip.hasFocus;
  offer.withdraw();
  const id = session.undoClose();
  if (!id) return;
  if (place === "overview") return overview.focus(id);
  enter(id);
  if (inStrip) strip.focus(id);
}

/** Switches the shown machine off; its tab stays. */
async function powerOff() {
  const { active } = list;
  if (!active) return;
  await session.machine(active).powerOff();
  focusOffPanel();
}

/** The address asks no longer for a guest whose tab is closed. @param {import("./tabs/tab-list.js").Tab} tab */
function forgetAddress({ source }) {
  if (source.kind !== "guest") return;
  const url = new URL(location.href);
  const wanted = url.searchParams.getAll("guest");
  const at = wanted.indexOf(source.guest);
  if (at < 0) return;
  url.searchParams.delete("guest");
  wanted.toSpliced(at, 1).forEach((name) => url.searchParams.append("guest", name));
  history.replaceState(null, "", url);
}

/** @param {string} id @param {{ x: number, y: number } | null} at */
function openMenu(id, at) {
  const rect = strip.rectOf(id);
  if (at) menu.open(id, at);
  else if (rect) menu.open(id, rect);
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  if (isHostChord(event) && place === "machine") {
    event.preventDefault();
    if (strip.hasFocus) return leave();
    // Nothing of the strip is seen in full screen.
    if (document.fullscreenElement) void document.exitFullscreen();
    if (document.pointerLockElement) document.exitPointerLock();
    strip.focus(list.active);
  } else if (event.key === "Escape" && place === "home" && !event.defaultPrevented) {
    leave();
  } else if ((event.ctrlKey || event.metaKey) && event.code === "KeyZ" && offer.stands && !view.hasFocus && !(event.target instanceof HTMLInputElement)) {
    event.preventDefault();
    undoClose();
  }
}

function setUpControls() {
  button("new-tab").addEventListener("click", openNew);
  button("new-card-button").addEventListener("click", openNew);
  button("overview-button").addEventListener("click", () => (place === "overview" ? leave() : go("overview")));
  button("tab-menu-button").addEventListener("click", ({ currentTarget }) => {
    if (list.active && currentTarget instanceof Element) menu.open(list.active, currentTarget.getBoundingClientRect());
  });
  // The address itself would end all machines.
  document.querySelector(".brand")?.addEventListener("click", (event) => {
    if (list.tabs.length === 0) return;
    event.preventDefault();
    openNew();
  });
  document.addEventListener("keydown", onKey);
  onMessageClose(() => {
    if (list.active) session.machine(list.active).notice = null;
  });
}

/** Boots the guests that the address names, each in the tab that it had before a reload or in a new one. */
function openWanted() {
  const names = new URLSearchParams(location.search).getAll("guest").filter(Boolean);
  const reloaded = performance.getEntriesByType("navigation").some((entry) => /** @type {PerformanceNavigationTiming} */ (entry).type === "reload");
  const taken = new Set();
  let first = !(reloaded && list.active);
  for (const name of names) {
    const guest = guests.find((each) => each.name === name);
    if (!guest) {
      say(`There is no guest called ${name}: choose one of these.`);
      continue;
    }
    const tab = list.tabs.find(({ id, source }) => source.kind === "guest" && source.guest === name && !taken.has(id));
    if (tab) {
      taken.add(tab.id);
      if (first) go("machine", tab.id);
      void start(tab.id);
    } else {
      void openGuest(guest, first);
      taken.add(list.tabs.at(-1)?.id);
    }
    first = false;
  }
}

async function main() {
  setUpTheme();
  // A static host sends no headers; the page is then loaded again with them.
  if (await isolate(new URL("isolation-worker.js", document.baseURI))) return;
  setUpControls();
  const choose = setUpOwnImage((files, names) => void open(names[0], { kind: "files", files: names }, { files }), sayError);
  setUpOffPanel({
    start: () => list.active && void start(list.active),
    choose() {
      const { active } = list;
      if (active) choose((files) => void start(active, files));
    },
    close: () => list.active && void close(list.active),
  });
  guests = await loadGuests();
  showGuests(guests, (guest) => void openGuest(guest));
  list.restore(readTabs());
  list.onChange(() => keepTabs(list.save()));
  list.onChange(render);
  session.onChange(render);
  go(list.active ? "machine" : "home");
  openWanted();
  setInterval(() => {
    session.tick();
    showFigures();
  }, FIGURES_MS);
}

await main();
