// Throughput between a guest and the host by way of the relay: guest, relay and server on one machine, all traffic on the
// loopback interface. tab86 and v86 (npm) run the same guest in the same browser at the same relay, each with its defaults.
//   node tests/bench/network.mjs [--mib N] [--rounds N] [--verbose] [tab86|v86]…
// needs build/site (`cargo xtask build`) and `cargo build --release -p tab86-relay`.
// Both guests stay up and take turns; a first round warms up and does not count. The host takes the time: up from the
// first byte to the end of the connection, down from the request to the guest's next one, which it makes when it has the
// whole file. Size and checksum are compared in each round, outside of the time. A machine with other work on it gives
// other figures: run it alone. `--verbose` says how busy the guest was.
import { parseArgs } from "node:util";
import { launch, openPage } from "../browser/lib/browser.mjs";
import { startHost } from "../browser/lib/host-server.mjs";
import { boot, bootV86, leased, prepare, sh, v86Files } from "../browser/lib/network-guests.mjs";
import { startRelayProcess } from "../browser/lib/relay-process.mjs";
import { serveSite } from "../browser/lib/server.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { mib: { type: "string", default: "16" }, rounds: { type: "string", default: "5" }, verbose: { type: "boolean", default: false } },
});
const mib = Number(values.mib);
const rounds = Number(values.rounds);
const GUEST_MS = 600_000;
const emulators = positionals.length ? positionals : ["tab86", "v86"];
const WAYS = ["up", "down"];

const site = await serveSite({ files: v86Files() });
const host = await startHost(mib << 20);
const relay = await startRelayProcess([...host.allow, "--origin=*", "--rate-up=0", "--rate-down=0"], { profile: "release" });
const browser = await launch();
const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
const web = `http://10.86.0.1:${host.webPort}`;

/** Boots a guest in a page of its own, with a file to send. */
async function start(emulator) {
  const page = await openPage(browser, `${site.origin}/pkg/package.json`);
  await prepare(page);
  const url = relay.url(`bench-${emulator}`);
  await (emulator === "v86" ? bootV86(page, "a", url) : boot(page, "a", { relay: url }));
  await leased(page, "a");
  const run = (command) => sh(page, "a", command, GUEST_MS).then(({ code, text }) => {
    if (code !== 0) throw new Error(`${emulator}: ${command}: exit code ${code}: ${text}`);
    return text;
  });
  const md5 = async (file) => /\b[0-9a-f]{32}\b/.exec((await run(`md5sum ${file}`)).split("md5sum").at(-1))?.[0];
  await run(`dd if=/dev/urandom of=/tmp/up bs=64k count=${mib * 16} 2>/dev/null`);
  return { emulator, page, run, md5, sum: await md5("/tmp/up"), up: [], down: [] };
}

const check = (what, got, expected) => {
  if (got !== expected) throw new Error(`${what}: ${got} and not ${expected}`);
};

/** What a machine of tab86 has done so far. */
const work = ({ page, emulator }) =>
  emulator === "tab86" ? page.evaluate(() => (({ instructions, idle, slices }) => ({ instructions: Number(instructions), idle, slices, counters: JSON.stringify(window.vms.a.network.counters) }))(window.vms.a.stats())) : null;

async function say(guest, way, seconds, before) {
  if (!values.verbose) return;
  const after = await work(guest);
  const did = after && ` ${((after.instructions - before.instructions) / 1e6).toFixed(0)} M instructions, idle ${after.idle}, ${after.slices - before.slices} slices, ${after.counters}`;
  console.error(`${guest.emulator} ${way}: ${(mib / seconds).toFixed(2)} MiB/s${did ?? ""}`);
}

/** MiB/s up and down of a round. */
async function round(guest) {
  let before = await work(guest);
  await guest.run(`nc 10.86.0.1 ${host.sinkPort} < /tmp/up`);
  const upload = await host.upload();
  await say(guest, "up", upload.seconds, before);
  check("bytes that came", upload.bytes, mib << 20);
  check("checksum of what came", upload.md5, guest.sum);
  before = await work(guest);
  await guest.run(`wget -q -O /tmp/down ${web}/big && wget -q -O /dev/null ${web}/done`);
  const seconds = host.served;
  await say(guest, "down", seconds, before);
  check("checksum of what went", await guest.md5("/tmp/down"), host.big);
  await guest.run("rm /tmp/down");
  return { up: mib / upload.seconds, down: mib / seconds };
}

try {
  const guests = [];
  for (const emulator of emulators) guests.push(await start(emulator));
  for (let n = 0; n <= rounds; n++) {
    for (const guest of guests) {
      const figures = await round(guest);
      for (const way of n ? WAYS : []) guest[way].push(figures[way]);
    }
  }
  for (const guest of guests) {
    for (const way of WAYS) {
      console.log(`${guest.emulator} ${way}: ${guest[way].map((n) => n.toFixed(2)).join(" ")} MiB/s, median ${median(guest[way]).toFixed(2)}`);
    }
  }
  if (guests.length === 2) {
    const [one, other] = guests;
    for (const way of WAYS) console.log(`${one.emulator} / ${other.emulator} ${way}: ${(median(one[way]) / median(other[way])).toFixed(2)}`);
  }
  console.log(`the relay: ${JSON.stringify(Object.fromEntries(Object.entries(await relay.metrics()).filter(([name, value]) => /drop|throttled/.test(name) && value > 0)))}`);
} finally {
  await browser.close();
  await relay.close();
  await Promise.all([host.close(), site.close()]);
}
