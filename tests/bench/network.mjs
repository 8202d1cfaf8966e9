// Throughput between a guest and the host by way of the relay: guest, relay and server on one machine, all traffic on the
// loopback interface. tab86 and v86 (npm) run the same guest in the same browser at the same relay.
//   node tests/bench/network.mjs [--mib N] [--rounds N] [tab86|v86]…
// needs build/site (`cargo xtask build`) and `cargo build --release -p tab86-relay`.
// The host takes the time: from the first byte to the end of the connection. A machine with other work on it gives other
// figures: run it alone.
import { parseArgs } from "node:util";
import { launch, openPage } from "../browser/lib/browser.mjs";
import { startHost } from "../browser/lib/host-server.mjs";
import { boot, bootV86, leased, prepare, sh, v86Files } from "../browser/lib/network-guests.mjs";
import { startRelayProcess } from "../browser/lib/relay-process.mjs";
import { serveSite } from "../browser/lib/server.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { mib: { type: "string", default: "16" }, rounds: { type: "string", default: "3" } },
});
const mib = Number(values.mib);
const rounds = Number(values.rounds);
const GUEST_MS = 600_000;
const emulators = positionals.length ? positionals : ["tab86", "v86"];

const site = await serveSite({ files: v86Files() });
const host = await startHost(mib << 20);
const relay = await startRelayProcess([...host.allow, "--origin=*", "--rate-up=0", "--rate-down=0"], { profile: "release" });
const browser = await launch();
const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** MiB/s up and down, a figure for each round. */
async function measure(emulator) {
  const page = await openPage(browser, `${site.origin}/pkg/package.json`);
  try {
    await prepare(page);
    const url = relay.url(`bench-${emulator}`);
    await (emulator === "v86" ? bootV86(page, "a", url) : boot(page, "a", { relay: url }));
    await leased(page, "a");
    const figures = { up: [], down: [] };
    for (let round = 0; round < rounds; round++) {
      await sh(page, "a", `dd if=/dev/zero bs=64k count=${mib * 16} 2>/dev/null | nc 10.86.0.1 ${host.sinkPort}`, GUEST_MS);
      const upload = await host.upload();
      if (upload.bytes !== mib << 20) throw new Error(`${upload.bytes} bytes came`);
      figures.up.push(mib / upload.seconds);
      await sh(page, "a", `wget -q -O /dev/null http://10.86.0.1:${host.webPort}/big`, GUEST_MS);
      figures.down.push(mib / host.served);
    }
    return figures;
  } finally {
    await page.context().close();
  }
}

try {
  const results = {};
  for (const emulator of emulators) {
    results[emulator] = await measure(emulator);
    for (const way of ["up", "down"]) {
      console.log(`${emulator} ${way}: ${results[emulator][way].map((n) => n.toFixed(2)).join(" ")} MiB/s, median ${median(results[emulator][way]).toFixed(2)}`);
    }
  }
  if (results.tab86 && results.v86) {
    for (const way of ["up", "down"]) console.log(`tab86 / v86 ${way}: ${(median(results.tab86[way]) / median(results.v86[way])).toFixed(2)}`);
  }
  console.log(`the relay: ${JSON.stringify(Object.fromEntries(Object.entries(await relay.metrics()).filter(([name, value]) => /dropped|throttled/.test(name) && value > 0)))}`);
} finally {
  await browser.close();
  await relay.close();
  await Promise.all([host.close(), site.close()]);
}
