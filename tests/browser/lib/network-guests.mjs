// Debian guests with network cards, several in a page: those of tab86, and the same guest in v86 (npm), whose network is
// the other client that relays have.
import fs from "node:fs";
import path from "node:path";

const ROOT = path.resolve(import.meta.dirname, "../../..");
const GUESTS = path.join(ROOT, "build/site/guests");
const LIST = path.join(GUESTS, "guests.json");
const V86 = path.join(ROOT, "node_modules/v86/build");

/** The guest's entry in the site's list; null when the site has none. */
export const debian = fs.existsSync(LIST) ? (JSON.parse(fs.readFileSync(LIST, "utf8")).guests.find(({ name }) => name === "debian") ?? null) : null;
export const noDebian = debian ? false : "the site has no guest debian: run `cargo xtask guests`";
const BOOT_MS = 240_000;

/** What a site must serve for v86 beside its own files. */
export const v86Files = () =>
  Object.fromEntries(["libv86.mjs", "v86.wasm"].map((name) => [`/v86/${name}`, fs.readFileSync(path.join(V86, name))]));

/** What runs in the page before anything else. */
const PRELUDE = `
  window.vms = {};
  window.states = [];
  let commands = 0;
  // The shell's line editor asks the terminal for its cursor when it begins to read. What is typed before may be lost.
  const PROMPT = "[^]*\\x1b\\\\[6n";
  const urls = (guest) => Object.fromEntries(Object.entries(guest.files).map(([role, file]) => [role, "/guests/" + file]));
  window.open86 = async () => {
    const { createPool } = await import("/pkg/tab86.js");
    window.pool = await createPool();
    return pool.shared;
  };
  window.boot86 = async (name, guest, network, mebibytes, ms) => {
    const vm = await pool.createVm({ ...urls(guest), memory: mebibytes << 20, cmdline: guest.cmdline, network });
    vm.addEventListener("network", ({ state, message }) => states.push([name, state, message]));
    vms[name] = vm;
    await vm.start();
    await vm.waitForSerial(new RegExp("READY" + PROMPT), ms);
  };
  // v86 with what the specs use of a machine of tab86.
  window.bootV86 = async (name, guest, relay, ms) => {
    const { V86 } = await import("/v86/libv86.mjs");
    const { kernel, initrd } = urls(guest);
    const v86 = new V86({
      wasm_path: "/v86/v86.wasm", memory_size: 96 << 20, vga_memory_size: 8 << 20,
      bios: { url: "/firmware/bios.bin" }, vga_bios: { url: "/firmware/vgabios-stdvga.bin" },
      bzimage: { url: kernel }, initrd: { url: initrd }, cmdline: guest.cmdline,
      net_device: { type: "ne2k", relay_url: relay }, autostart: true, disable_keyboard: true, disable_speaker: true,
    });
    let said = "";
    const waiting = new Set();
    v86.add_listener("serial0-output-byte", (byte) => {
      said += String.fromCharCode(byte);
      for (const look of byte === 110 ? waiting : []) look();
    });
    vms[name] = {
      sendSerial: (text) => v86.serial0_send(text),
      waitForSerial: (pattern, ms) => new Promise((resolve, reject) => {
        const end = (work) => { clearTimeout(timer); waiting.delete(look); work(); };
        const look = () => said.search(pattern) >= 0 && end(() => resolve(said));
        const timer = setTimeout(() => end(() => reject(new Error("v86 did not say " + pattern + ":\\n" + said.slice(-2000)))), ms);
        waiting.add(look);
        look();
      }),
      close: () => v86.destroy(),
    };
    await vms[name].waitForSerial(new RegExp("READY" + PROMPT), ms);
  };
  // Runs a command in the shell on the serial port: what it said, and its exit code.
  window.sh = async (name, command, ms = 60_000) => {
    const id = ++commands;
    // The echo of what is typed does not look like this.
    vms[name].sendSerial(command + '; echo "e""nd' + id + ':$?."\\n');
    const said = await vms[name].waitForSerial(new RegExp("end" + id + ":\\\\d+\\\\." + PROMPT), ms);
    const [, code] = said.match(new RegExp("end" + id + ":(\\\\d+)\\\\."));
    return { code: Number(code), text: said.slice(-4000) };
  };
  // A card with a static address, whatever DHCP is about to do: udhcpc takes the address away once more when it ends.
  window.address86 = async (name, address) => {
    const steps = "until pidof udhcpc; do sleep 1; done; killall udhcpc; while pidof udhcpc; do sleep 1; done; ip addr flush dev eth0; ip link set eth0 up; ip addr add " + address + "/24 dev eth0";
    const { code, text } = await sh(name, steps, 120_000);
    if (code !== 0) throw new Error("no address: " + text);
  };
`;

/** Makes a page ready for machines. Returns whether they share memory with it. */
export async function prepare(page) {
  await page.evaluate(PRELUDE);
  return page.evaluate(() => open86());
}

/** Boots a guest of tab86, to be called `name`. `network` as in `createVm`. */
export const boot = (page, name, network, mebibytes = 96) =>
  page.evaluate(([...args]) => boot86(...args), [name, debian, network, mebibytes, BOOT_MS]);

/** Boots the same guest in v86, at a relay. */
export const bootV86 = (page, name, relay) => page.evaluate(([...args]) => window.bootV86(...args), [name, debian, relay, BOOT_MS]);

/** Gives a guest a static address. */
export const address = (page, name, ip) => page.evaluate(([...args]) => address86(...args), [name, ip]);

/** Runs a command in a guest. */
export const sh = (page, name, command, ms) => page.evaluate(([...args]) => window.sh(...args), [name, command, ms]);

/** Waits until DHCP gave the guest an address, and returns it. */
export async function leased(page, name) {
  const { text } = await sh(page, name, "until ip -4 addr show dev eth0 | grep inet; do sleep 1; done", 120_000);
  return /inet (\d+\.\d+\.\d+\.\d+)/.exec(text.slice(text.lastIndexOf("inet ")))[1];
}
