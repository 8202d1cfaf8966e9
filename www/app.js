// The shell: a list of guests, and the view of the one that runs.
import { createPool } from "/pkg/tab86.js";
import { element } from "./elements.js";
import { loadGuests, optionsOf, showGuests } from "./guests.js";
import { MachineView } from "./machine-view.js";
import { clearMessage, say, sayError } from "./messages.js";
import { setUpOwnImage } from "./own-image.js";
import { setUpTheme } from "./theme.js";

/** @typedef {import("/pkg/tab86.js").VmOptions} VmOptions */
/** @typedef {import("/pkg/tab86.js").Vm} Vm */

const FIRMWARE = {
  bios: new URL("firmware/bios.bin", document.baseURI),
  vgaBios: new URL("firmware/vgabios-stdvga.bin", document.baseURI),
};
const TITLE = document.title;

const home = element("home", HTMLElement);
const machine = element("machine", HTMLElement);

/** @type {Promise<import("/pkg/tab86.js").Pool> | null} */
let pool = null;
/** @type {Vm | null} */
let vm = null;
let booting = false;

const view = new MachineView(() => void powerOff());

/** @param {VmOptions} options @param {string} title */
async function boot(options, title) {
  if (booting) return;
  booting = true;
  say(`Loading ${title}…`, "note");
  try {
    pool ??= createPool();
    const canvas = element("screen", HTMLCanvasElement);
    const next = await (await pool).createVm({ ...FIRMWARE, ...options, ...settings(), canvas });
    await vm?.close();
    vm = next;
    // For the browser's console, and for tests.
    Object.assign(window, { vm });
    home.hidden = true;
    machine.hidden = false;
    document.title = `${title} - tab86`;
    view.show(vm);
    clearMessage();
    await vm.start();
  } catch (error) {
    // What is loaded once is asked for again: the server may be back.
    if (vm === null) pool = null;
    sayError(error);
  } finally {
    booting = false;
  }
}

async function powerOff() {
  await vm?.close();
  vm = null;
  view.leave();
  clearMessage();
  document.title = TITLE;
  machine.hidden = true;
  home.hidden = false;
  const url = new URL(location.href);
  url.searchParams.delete("guest");
  history.replaceState(null, "", url);
  home.querySelector("button")?.focus();
}

/** Settings of the address that hold for every guest: `?jit=0`, `?clock=deterministic`, `?memory=MiB`. @returns {VmOptions} */
function settings() {
  const query = new URLSearchParams(location.search);
  const memory = query.get("memory");
  return {
    ...(query.get("jit") === "0" && { jit: false }),
    ...(query.get("clock") === "deterministic" && { clock: /** @type {const} */ ("deterministic") }),
    ...(memory && { memory: Number(memory) * 2 ** 20 }),
  };
}

async function main() {
  setUpTheme();
  setUpOwnImage(boot, sayError);
  const guests = await loadGuests();
  const start = (/** @type {import("./guests.js").Guest} */ guest) => boot(optionsOf(guest), guest.title);
  showGuests(guests, (guest) => void start(guest));
  const wanted = new URLSearchParams(location.search).get("guest");
  if (!wanted) return;
  const guest = guests.find(({ name }) => name === wanted);
  if (guest) await start(guest);
  else say(`There is no guest called ${wanted}: choose one of these.`);
}

await main();
