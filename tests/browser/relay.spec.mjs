// Guests in the page at `tab86-relay`, which is a process of its own here: Debian's way to the host and back, a relay that
// crashes, and v86 (npm) as another client of it. All of it stays on the loopback interface.
// TAB86_RELAY_MIB sets the size of the transfers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage } from "./lib/browser.mjs";
import { startHost } from "./lib/host-server.mjs";
import { address, boot, bootV86, leased, noDebian, prepare, sh, v86Files } from "./lib/network-guests.mjs";
import { noRelay, startRelayProcess } from "./lib/relay-process.mjs";
import { startRelay } from "./lib/relay.mjs";
import { serveSite } from "./lib/server.mjs";

const skip = noDebian || noRelay;
const MEBIBYTES = Number(process.env.TAB86_RELAY_MIB ?? 10);
const PARALLEL = 50;
const TRANSFER_MS = 60_000 + MEBIBYTES * 20_000;

let browser;
/** @type {Awaited<ReturnType<typeof serveSite>>} */ let site;
before(async () => {
  browser = await launch();
  site = await serveSite({ files: v86Files() });
});
after(async () => {
  await browser.close();
  await site.close();
});

async function withPage(use) {
  const page = await openPage(browser, `${site.origin}/pkg/package.json`);
  try {
    await prepare(page);
    await use(page);
    assert.deepEqual(page.problems, []);
  } finally {
    await page.context().close();
  }
}

/** Runs a command that must succeed. */
async function run(page, name, command, ms) {
  const { code, text } = await sh(page, name, command, ms);
  assert.equal(code, 0, text);
  return text;
}

/** Transfers with the checksum that both ends see, and how fast they were. */
const rate = (what, seconds) => console.log(`# ${MEBIBYTES} MiB ${what} in ${seconds.toFixed(1)} s: ${(MEBIBYTES / seconds).toFixed(2)} MiB/s`);

test("Debian at the relay: DHCP, DNS, down, up, fifty at once; the relay crashes and comes back", { skip }, () => withPage(async (page) => {
  const host = await startHost(MEBIBYTES << 20);
  const flags = [...host.allow, `--origin=${site.origin}`, "--dns-host=files.lan=10.86.0.1", "--rate-up=0", "--rate-down=0"];
  let relay = await startRelayProcess(flags);
  try {
    // The file is kept in memory.
    await boot(page, "a", { relay: relay.url("spec") }, 96 + 2 * MEBIBYTES);
    assert.match(await leased(page, "a"), /^10\.86\./);
    await run(page, "a", "ping -c 2 -w 20 10.86.0.1");
    const url = `http://files.lan:${host.webPort}`;
    const down = await run(page, "a", `wget -q -O /root/big ${url}/big; wget -q -O /dev/null ${url}/done; md5sum /root/big`, TRANSFER_MS);
    assert.ok(down.includes(host.big), down);
    rate("down", host.served);
    await run(page, "a", `nc 10.86.0.1 ${host.sinkPort} </root/big`, TRANSFER_MS);
    const upload = await host.upload();
    assert.deepEqual([upload.bytes, upload.md5], [MEBIBYTES << 20, host.big]);
    rate("up", upload.seconds);
    const many = `(for i in $(seq ${PARALLEL}); do wget -q -O /tmp/$i ${url}/small & done; wait); cat /tmp/[0-9]* | md5sum`;
    const text = await run(page, "a", many, 120_000);
    assert.ok(text.includes(host.smalls(PARALLEL)), text);
    const counted = await relay.metrics();
    assert.equal(counted.tcp_flows_total >= PARALLEL + 2, true, JSON.stringify(counted));
    assert.equal(counted['dropped_total{reason="queue_full"}'] ?? 0, 0);

    const before = await page.evaluate(() => states.length);
    await relay.close("SIGKILL");
    const became = (state) => page.waitForFunction(([state, from]) => states.slice(from).some(([, s]) => s === state), [state, before], { timeout: 60_000 });
    await became("down");
    relay = await startRelayProcess(flags, { port: relay.port });
    await became("up");
    // The guest notices nothing but the pause: its address is the same.
    const again = await run(page, "a", `until wget -q -O /root/again ${url}/small; do sleep 1; done; md5sum /root/again`, 120_000);
    assert.ok(again.includes(host.smalls(1)), again);
  } finally {
    await relay.close();
    await host.close();
  }
}));

test("v86 and tab86 ping one another at tab86-relay, and at a plain switch", { skip }, () => withPage(async (page) => {
  const relay = await startRelayProcess([`--origin=${site.origin}`]);
  const plain = await startRelay();
  try {
    await Promise.all([boot(page, "tab86", { relay: relay.url("both") }), bootV86(page, "v86", relay.url("both"))]);
    const [ours, theirs] = [await leased(page, "tab86"), await leased(page, "v86")];
    assert.notEqual(ours, theirs);
    for (const [name, ip] of [["v86", "10.86.0.1"], ["v86", ours], ["tab86", theirs]]) await run(page, name, `ping -c 3 -w 30 ${ip}`);
    assert.equal((await relay.metrics()).clients, 2);

    await page.evaluate(() => vms.v86.close());
    await page.evaluate((url) => vms.tab86.setNetwork({ relay: url }), `ws://127.0.0.1:${plain.port}/`);
    await bootV86(page, "other", `ws://127.0.0.1:${plain.port}/`);
    await Promise.all([address(page, "tab86", "10.1.0.1"), address(page, "other", "10.1.0.2")]);
    await run(page, "other", "ping -c 3 -w 30 10.1.0.1");
    await run(page, "tab86", "ping -c 3 -w 30 10.1.0.2");
    assert.ok(plain.frames >= 12, `${plain.frames} frames`);
  } finally {
    await relay.close();
    await plain.close();
  }
}));
