// Debian guests that talk to one another: in one page, between two pages of one origin, over a relay that goes away and
// comes back. TAB86_COPY_MB sets the size of the copied file (in MiB; without shared memory it is a tenth).
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage } from "./lib/browser.mjs";
import { address, boot, noDebian as skip, prepare, sh } from "./lib/network-guests.mjs";
import { startRelay } from "./lib/relay.mjs";
import { serveSite } from "./lib/server.mjs";

const MEBIBYTES = Number(process.env.TAB86_COPY_MB ?? 20);

let browser;
/** @type {Record<string, Awaited<ReturnType<typeof serveSite>>>} */
const sites = {};
before(async () => {
  browser = await launch();
  sites.shared = await serveSite();
  sites.messages = await serveSite({ isolated: false });
});
after(async () => {
  await browser.close();
  for (const site of Object.values(sites)) await site.close();
});

async function withPage(kind, use) {
  const page = await openPage(browser, `${sites[kind].origin}/pkg/package.json`);
  try {
    assert.equal(await prepare(page), kind === "shared");
    await use(page);
    assert.deepEqual(page.problems, []);
  } finally {
    await page.context().close();
  }
}

/** One guest reaches another. */
async function pings(page, name, ip) {
  const { code, text } = await sh(page, name, `ping -c 3 -w 20 ${ip}`);
  assert.equal(code, 0, text);
}

/** Copies a file of random bytes from one guest to another, which may live in another page. */
async function copies(from, fromName, to, toName, toIp, mebibytes = MEBIBYTES) {
  const COPY_MS = 60_000 + mebibytes * 30_000;
  await sh(from, fromName, `dd if=/dev/urandom of=/root/sent bs=64k count=${mebibytes * 16}`, COPY_MS);
  const sum = (text) => text.match(/\b[0-9a-f]{32}\b(?=  \/root)/g)?.at(-1);
  const sent = sum((await sh(from, fromName, "md5sum /root/sent", COPY_MS)).text);
  // The terminal as its input: at the end of that BusyBox's nc would close the connection.
  const receiving = sh(to, toName, "nc -l -p 5000 >/root/got; md5sum /root/got", COPY_MS);
  await sh(from, fromName, "sleep 1");
  const began = performance.now();
  const { code, text } = await sh(from, fromName, `nc ${toIp} 5000 </root/sent`, COPY_MS);
  assert.equal(code, 0, text);
  const seconds = (performance.now() - began) / 1000;
  const got = sum((await receiving).text);
  console.log(`# ${mebibytes} MiB copied in ${seconds.toFixed(1)} s: ${(mebibytes / seconds).toFixed(2)} MiB/s`);
  assert.ok(sent, "a checksum");
  assert.equal(got, sent);
}

/** Waits for an event of a machine's network. */
const networkState = (page, name, state, from = 0) =>
  page.waitForFunction(([name, state, from]) => states.slice(from).some(([n, s]) => n === name && s === state), [name, state, from], { timeout: 60_000 });

test("two machines of one page: ping, a file, a capture, the cable, a relay that restarts", { skip }, () => withPage("shared", async (page) => {
  await Promise.all([boot(page, "a", { lan: "spec" }), boot(page, "b", { lan: "spec", mac: "02:00:00:00:86:0b" })]);
  await Promise.all([address(page, "a", "10.86.0.1"), address(page, "b", "10.86.0.2")]);
  await page.evaluate(() => (window.recording = vms.a.capture()));
  await pings(page, "a", "10.86.0.2");
  const captured = await page.evaluate(async () => {
    const bytes = new Uint8Array(await recording.stop().arrayBuffer());
    return { frames: recording.frames, start: [...bytes.subarray(0, 4)], length: bytes.length, network: vms.b.network };
  });
  assert.deepEqual(captured.start, [0x0a, 0x0d, 0x0d, 0x0a]);
  assert.ok(captured.frames >= 6 && captured.length > 6 * 98, JSON.stringify(captured));
  assert.equal(captured.network.mac, "02:00:00:00:86:0b");
  assert.deepEqual([captured.network.state, captured.network.lan, captured.network.relay], ["up", "spec", null]);
  assert.ok(captured.network.counters.framesIn >= 3 && captured.network.counters.bytesOut >= 3 * 60, JSON.stringify(captured.network));
  await copies(page, "a", page, "b", "10.86.0.2");

  await page.evaluate(() => vms.b.setNetwork(null));
  assert.notEqual((await sh(page, "a", "ping -c 1 -w 3 10.86.0.2")).code, 0, "the cable is out");
  await page.evaluate(() => vms.b.setNetwork({ lan: "spec" }));
  await pings(page, "a", "10.86.0.2");

  let relay = await startRelay();
  const { port } = relay;
  try {
    await page.evaluate((relay) => Object.values(vms).forEach((vm) => vm.setNetwork({ relay })), `ws://127.0.0.1:${port}/`);
    await Promise.all(["a", "b"].map((name) => page.waitForFunction((name) => vms[name].network.state === "up", name)));
    await pings(page, "a", "10.86.0.2");
    assert.ok(relay.frames >= 6, "the frames went by way of the relay");
    const before = await page.evaluate(() => states.length);
    await relay.close();
    await Promise.all(["a", "b"].map((name) => networkState(page, name, "down", before)));
    const message = await page.evaluate(() => vms.a.network.message);
    assert.match(message, /relay at 127\.0\.0\.1:\d+/);
    assert.notEqual((await sh(page, "a", "ping -c 1 -w 3 10.86.0.2")).code, 0, "no relay");
    const between = await page.evaluate(() => states.length);
    relay = await startRelay(port);
    await Promise.all(["a", "b"].map((name) => networkState(page, name, "up", between)));
    await pings(page, "a", "10.86.0.2");
  } finally {
    await relay.close();
  }
  await page.evaluate(() => pool.close());
}));

test("two machines of one page talk, without shared memory", { skip }, () => withPage("messages", async (page) => {
  await Promise.all([boot(page, "a", { lan: "spec" }), boot(page, "b", { lan: "spec" })]);
  await Promise.all([address(page, "a", "10.86.0.1"), address(page, "b", "10.86.0.2")]);
  await pings(page, "a", "10.86.0.2");
  await copies(page, "a", page, "b", "10.86.0.2", Math.max(1, Math.ceil(MEBIBYTES / 10)));
  assert.equal(await page.evaluate(() => vms.a.network.counters.framesOut > 1000), true);
}));

test("machines of two pages of one origin talk", { skip }, () => withPage("shared", async (page) => {
  const other = await page.context().newPage();
  await other.goto(page.url());
  assert.ok(await prepare(other));
  await Promise.all([boot(page, "a", { lan: "pages" }), boot(other, "b", { lan: "pages" })]);
  await Promise.all([address(page, "a", "10.86.0.1"), address(other, "b", "10.86.0.2")]);
  await pings(page, "a", "10.86.0.2");
  await copies(page, "a", other, "b", "10.86.0.2");
}));

test("a card with nothing plugged in, bad options, and machines without a card", { skip: false }, () => withPage("shared", async (page) => {
  const seen = await page.evaluate(async () => {
    const code = async (work) => {
      try {
        await work();
      } catch (error) {
        return error.code;
      }
    };
    const idle = await pool.createVm({ memory: 8 << 20, network: {} });
    const none = await pool.createVm({ memory: 8 << 20 });
    const copy = await idle.clone();
    const bad = [{ mac: "zz" }, { relay: "http://x/" }, { lan: "" }, { lan: "a", relay: "ws://127.0.0.1/" }];
    return {
      idle: idle.network, copy: copy.network, none: none.network,
      bad: await Promise.all(bad.map((network) => code(() => pool.createVm({ memory: 8 << 20, network })))),
      cards: [await code(() => none.setNetwork({ lan: "x" })), await code(() => none.capture()), await code(() => idle.setNetwork({ relay: "x" }))],
    };
  });
  assert.deepEqual([seen.idle.state, seen.idle.lan, seen.idle.relay, seen.none], ["down", null, null, null]);
  assert.match(seen.idle.mac, /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
  assert.match(seen.copy.mac, /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
  assert.notEqual(seen.copy.mac, seen.idle.mac);
  assert.deepEqual(seen.bad, Array(4).fill("bad-options"));
  assert.deepEqual(seen.cards, ["no-network-card", "no-network-card", "bad-options"]);
}));

test("the network panel: where the cable leads, a relay that is away, a recording", { skip }, async () => {
  const page = await openPage(browser, `${sites.shared.origin}/?guest=hello`, { viewport: { width: 1280, height: 800 } });
  const network = () => page.evaluate(() => window.vm.network);
  const state = (pattern) => page.locator("#network-state", { hasText: pattern }).waitFor({ timeout: 10_000 });
  try {
    await page.waitForFunction(() => window.vm?.state === "running", null, { timeout: 60_000 });
    assert.equal((await network()).lan, "tab86");
    await page.locator("#network-button").click();
    await state(/Connected/);
    await page.locator("#network-place").fill("other");
    await page.locator("#network-form button").click();
    assert.equal((await network()).lan, "other");
    await page.locator("#network-kind").selectOption("relay");
    await page.locator("#network-place").fill("https://relay.example/");
    await page.locator("#network-form button").click();
    await page.locator("#message-text", { hasText: /ws:\/\// }).waitFor();
    assert.equal((await network()).lan, "other", "a wrong address changes nothing");
    const relay = await startRelay();
    await relay.close();
    // Nobody listens there now.
    await page.locator("#network-place").fill(`ws://127.0.0.1:${relay.port}/`);
    await page.locator("#network-form button").click();
    await state(/Not connected.*cannot be reached/);
    await page.locator("#message-text", { hasText: /cannot be reached/ }).waitFor();
    const back = await startRelay(relay.port);
    await state(/Connected to the relay/);
    await page.locator("#message").waitFor({ state: "hidden" });
    await page.locator("#network-capture").click();
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#network-capture").click()]);
    assert.match(download.suggestedFilename(), /^tab86-.*\.pcapng$/);
    await page.locator("#network-kind").selectOption("none");
    await page.locator("#network-form button").click();
    await state(/cable is out/);
    await back.close();
    assert.deepEqual(page.problems, []);
  } finally {
    await page.context().close();
  }
});
