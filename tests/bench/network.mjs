// Throughput between a guest and the host by way of the relay: guest, relay and server on one machine, all traffic on the
// loopback interface. tab86 and v86 (npm) run the same guest in the same browser, each with its defaults.
//   node tests/bench/network.mjs [--mib N] [--ways up,down] [--pages N] [--rounds N] [--timeout SECONDS] [--json FILE] [--verbose] [tab86|v86]…
// needs build/site (`cargo xtask build`) and `cargo build --release -p tab86-relay`.
// The emulators take turns, each time in a new page with a relay and a server of its own (`--pages` turns); in a page a
// first round warms up and does not count. `--mib tab86=8,v86=2` gives each a file size of its own. The host takes the time:
// up from the first byte to the end of the connection, down from the request to the guest's next one, which it makes when
// it has the whole file. Size and checksum are compared in each round, outside of the time. What takes longer than the
// time-out counts as no throughput at all and ends the page. `--json` adds a line for each page to a file: figures of
// several runs, none of which needs to be long, are then summed up by `--from FILE`. A machine with other work on it gives
// other figures: run it alone. `--verbose` says how busy the guest and the threads were.
import fs from "node:fs";
import { parseArgs } from "node:util";
import { launch, openPage } from "../browser/lib/browser.mjs";
import { startHost } from "../browser/lib/host-server.mjs";
import { boot, bootV86, leased, prepare, sh, v86Files } from "../browser/lib/network-guests.mjs";
import { startRelayProcess } from "../browser/lib/relay-process.mjs";
import { serveSite } from "../browser/lib/server.mjs";
import { threads, usedSince } from "./lib/processes.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mib: { type: "string", default: "4" },
    ways: { type: "string", default: "up,down" },
    pages: { type: "string", default: "2" },
    rounds: { type: "string", default: "3" },
    timeout: { type: "string", default: "60" },
    json: { type: "string" },
    from: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});
const [pages, rounds, timeout] = [values.pages, values.rounds, values.timeout].map(Number);
const emulators = positionals.length ? positionals : ["tab86", "v86"];
const WAYS = values.ways.split(",");
/** For commands that are not measured. */
const GUEST_MS = 120_000;

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** File size for an emulator, in MiB. */
function size(emulator) {
  const own = values.mib.split(",").map((part) => part.split("=")).find(([name, value]) => value === undefined || name === emulator);
  const mib = Number(own?.at(-1));
  if (!(mib > 0)) throw new Error(`--mib says no size for ${emulator}`);
  return mib;
}

const check = (what, got, expected) => {
  if (got !== expected) throw new Error(`${what}: ${got} and not ${expected}`);
};

class TimeOut extends Error {}

/** What a machine of tab86 has done so far. */
const work = ({ page, emulator }) =>
  emulator === "tab86" ? page.evaluate(() => (({ instructions, idle, slices }) => ({ instructions: Number(instructions), idle, slices, counters: JSON.stringify(window.vms.a.network.counters) }))(window.vms.a.stats())) : null;

/** MiB/s of a transfer, which `act` does and times. */
async function transfer(guest, way, act) {
  const before = await work(guest);
  const used = values.verbose ? threads() : null;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TimeOut(`${guest.emulator} ${way}: not done after ${timeout} s`)), 1000 * timeout);
  });
  try {
    const seconds = await Promise.race([act(), late]);
    const after = values.verbose && (await work(guest));
    const did = after && `: ${((after.instructions - before.instructions) / 1e6).toFixed(0)} M instructions, idle ${after.idle}, ${after.slices - before.slices} slices, ${after.counters}`;
    if (values.verbose) console.error(`${guest.emulator} ${way}: ${(guest.mib / seconds).toFixed(2)} MiB/s in ${seconds.toFixed(2)} s${did || ""}`);
    if (used) console.error(`  processor seconds: ${usedSince(used).slice(0, 7).map(({ name, cpu, waited }) => `${name} ${cpu.toFixed(2)} (waited ${waited.toFixed(2)})`).join(", ")}`);
    return guest.mib / seconds;
  } finally {
    clearTimeout(timer);
  }
}

/** A round. Adds MiB/s up and down to `figures`. */
async function round(guest, host, figures) {
  const web = `http://10.86.0.1:${host.webPort}`;
  const ways = {
    async up() {
      const [, upload] = await Promise.all([guest.run(`nc 10.86.0.1 ${host.sinkPort} < /tmp/up`), host.upload()]);
      check("bytes that came", upload.bytes, guest.mib << 20);
      check("checksum of what came", upload.md5, guest.sum);
      return upload.seconds;
    },
    async down() {
      await guest.run(`wget -q -O /tmp/down ${web}/big && wget -q -O /dev/null ${web}/done`);
      return host.served;
    },
  };
  for (const way of WAYS) figures[way].push(await transfer(guest, way, ways[way]));
  if (!WAYS.includes("down")) return;
  check("checksum of what went", await guest.md5("/tmp/down"), host.big);
  await guest.run("rm /tmp/down");
}

/** Boots a guest in a page of its own, with a file to send. */
async function start(browser, site, emulator, url) {
  const page = await openPage(browser, `${site.origin}/pkg/package.json`);
  await prepare(page);
  await (emulator === "v86" ? bootV86(page, "a", url) : boot(page, "a", { relay: url }));
  await leased(page, "a");
  const mib = size(emulator);
  const run = (command) => sh(page, "a", command, Math.max(GUEST_MS, 1000 * timeout)).then(({ code, text }) => {
    if (code !== 0) throw new Error(`${emulator}: ${command}: exit code ${code}: ${text}`);
    return text;
  });
  const md5 = async (file) => /\b[0-9a-f]{32}\b/.exec((await run(`md5sum ${file}`)).split("md5sum").at(-1))?.[0];
  await run(`dd if=/dev/urandom of=/tmp/up bs=64k count=${mib * 16} 2>/dev/null`);
  return { emulator, page, run, md5, mib, sum: await md5("/tmp/up") };
}

/** All rounds in a new page: MiB/s by way, 0 for what took too long. */
async function measure(browser, site, emulator) {
  const host = await startHost(size(emulator) << 20);
  const relay = await startRelayProcess([...host.allow, "--origin=*", "--rate-up=0", "--rate-down=0"], { profile: "release" });
  const figures = { emulator, mib: size(emulator), up: [], down: [] };
  let guest;
  try {
    guest = await start(browser, site, emulator, relay.url("bench"));
    for (let n = 0; n <= rounds; n++) await round(guest, host, n ? figures : { up: [], down: [] });
  } catch (error) {
    if (!(error instanceof TimeOut)) throw error;
    const said = await guest.page.evaluate(() => window.vms.a.waitForSerial(/$/, 1000)).catch(() => "");
    console.error(`${error.message}; the sink got ${host.received} bytes; the guest said last: ${JSON.stringify(said.slice(-200))}`);
    figures[error.message.includes(" up:") ? "up" : "down"].push(0);
  } finally {
    figures.relay = Object.fromEntries(Object.entries(await relay.metrics()).filter(([name, value]) => /drop|throttled/.test(name) && value > 0));
    // The command that a time-out left behind fails now, and nobody listens.
    await guest?.page.context().close();
    await Promise.all([relay.close(), host.close()]);
  }
  return figures;
}

async function measureAll() {
  const all = [];
  const site = await serveSite({ files: v86Files() });
  const browser = await launch();
  process.on("unhandledRejection", (error) => console.error(`afterwards: ${error?.message?.split("\n")[0]}`));
  try {
    for (let n = 0; n < pages; n++) {
      for (const emulator of emulators) {
        const figures = await measure(browser, site, emulator);
        all.push(figures);
        console.log(`${emulator}, ${figures.mib} MiB: ${WAYS.map((way) => `${way} ${figures[way].map((f) => f.toFixed(2)).join(" ")}`).join("; ")} MiB/s; the relay: ${JSON.stringify(figures.relay)}`);
        if (values.json) fs.appendFileSync(values.json, `${JSON.stringify(figures)}\n`);
      }
    }
  } finally {
    await browser.close();
    await site.close();
  }
  return all;
}

const all = values.from ? fs.readFileSync(values.from, "utf8").trim().split("\n").map((line) => JSON.parse(line)) : await measureAll();
const names = [...new Set(all.map(({ emulator }) => emulator))];
for (const way of WAYS) {
  const medians = names.map((name) => {
    const figures = all.filter(({ emulator }) => emulator === name).flatMap((page) => page[way]);
    const late = figures.filter((figure) => figure === 0).length;
    console.log(`${name} ${way}: median ${median(figures)?.toFixed(2)} MiB/s of ${figures.length} (${Math.min(...figures).toFixed(2)} to ${Math.max(...figures).toFixed(2)})${late ? `, ${late} not done after ${timeout} s` : ""}`);
    return median(figures);
  });
  if (names.length === 2) console.log(`${names.join(" / ")} ${way}: ${(medians[0] / medians[1]).toFixed(2)}`);
}
