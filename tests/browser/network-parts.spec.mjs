// The parts of the page's network without a page: switch, relay cable, capture file, addresses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Capture } from "../../pkg/lib/net/capture.js";
import { CloneAddress } from "../../pkg/lib/net/clone-address.js";
import { addressAt, formatMac, MAX_FRAME, MIN_FRAME, parseMac } from "../../pkg/lib/net/frames.js";
import { checkRelay, RelayCable } from "../../pkg/lib/net/relay.js";
import { Switch } from "../../pkg/lib/net/switch.js";
import { checkNetwork } from "../../pkg/lib/net/vm-network.js";

const EVERYBODY = [255, 255, 255, 255, 255, 255];
const card = (n) => [2, 0, 0, 0, n >> 8, n & 255];
const frame = (to, from, length = 60) => Uint8Array.from({ length }, (_, i) => [...to, ...from, 8, 0][i] ?? i & 255);

/** A switch with ports that keep what they get, and a clock. */
function switchOf(count) {
  const clock = { now: 0 };
  const hub = new Switch(() => clock.now);
  const ports = Array.from({ length: count }, () => {
    const port = { got: [], receive: (frame) => port.got.push(frame) };
    hub.plug(port);
    return port;
  });
  /** Which ports got something since the last call. */
  const reached = () => ports.flatMap(({ got }, i) => (got.splice(0).length ? [i] : []));
  return { hub, ports, clock, reached };
}

test("a switch floods what it does not know, and sends the answer to the asker alone", () => {
  const { hub, ports, reached } = switchOf(3);
  hub.send(ports[0], frame(card(1), card(0)));
  assert.deepEqual(reached(), [1, 2]);
  hub.send(ports[1], frame(card(0), card(1)));
  assert.deepEqual(reached(), [0]);
  hub.send(ports[0], frame(card(1), card(0)));
  assert.deepEqual(reached(), [1]);
});

test("broadcast and multicast go to all but the sender, though the addresses are known", () => {
  const { hub, ports, reached } = switchOf(3);
  hub.send(ports[1], frame(EVERYBODY, card(1)));
  assert.deepEqual(reached(), [0, 2]);
  hub.send(ports[2], frame([1, 0, 0x5e, 0, 0, 1], card(2)));
  assert.deepEqual(reached(), [0, 1]);
});

test("nothing goes back to where it came from, also when the destination is there", () => {
  const { hub, ports, reached } = switchOf(2);
  hub.send(ports[0], frame(EVERYBODY, card(7)));
  hub.send(ports[0], frame(EVERYBODY, card(8)));
  reached();
  hub.send(ports[0], frame(card(7), card(8)));
  assert.deepEqual(reached(), []);
});

test("an address that moves is found at its new port, and one that was unplugged nowhere", () => {
  const { hub, ports, reached } = switchOf(3);
  hub.send(ports[0], frame(EVERYBODY, card(9)));
  hub.send(ports[2], frame(EVERYBODY, card(9)));
  reached();
  hub.send(ports[1], frame(card(9), card(1)));
  assert.deepEqual(reached(), [2]);
  hub.unplug(ports[2]);
  hub.send(ports[1], frame(card(9), card(1)));
  assert.deepEqual(reached(), [0]);
  hub.send(ports[2], frame(EVERYBODY, card(9)));
  assert.deepEqual(reached(), [], "an unplugged port sends nothing");
});

test("addresses age", () => {
  const { hub, ports, clock, reached } = switchOf(3);
  hub.send(ports[0], frame(EVERYBODY, card(0)));
  reached();
  clock.now = 299_000;
  hub.send(ports[1], frame(card(0), card(1)));
  assert.deepEqual(reached(), [0]);
  clock.now = 301_000;
  hub.send(ports[1], frame(card(0), card(1)));
  assert.deepEqual(reached(), [0, 2]);
});

test("whoever invents addresses makes a switch forget the oldest, and its table does not grow", () => {
  const { hub, ports, reached } = switchOf(3);
  hub.send(ports[0], frame(EVERYBODY, card(0)));
  for (let n = 1; n <= 1023; n++) hub.send(ports[2], frame(EVERYBODY, card(n)));
  reached();
  hub.send(ports[1], frame(card(0), card(5)));
  assert.deepEqual(reached(), [0]);
  for (let n = 2000; n <= 9000; n++) hub.send(ports[2], frame(EVERYBODY, card(n)));
  assert.equal(hub.addresses, 1024);
  reached();
  hub.send(ports[1], frame(card(0), card(5)));
  assert.deepEqual(reached(), [0, 2], "forgotten");
});

test("what is no frame, and what claims to come from a group, is refused", () => {
  const { hub, ports, reached } = switchOf(2);
  for (const length of [0, MIN_FRAME - 1, MAX_FRAME + 1]) hub.send(ports[0], frame(EVERYBODY, card(0), length));
  hub.send(ports[0], frame(card(1), EVERYBODY));
  assert.deepEqual([reached(), hub.refused, hub.addresses], [[], 4, 0]);
  for (const length of [MIN_FRAME, MAX_FRAME]) {
    hub.send(ports[0], frame(EVERYBODY, card(0), length));
    assert.deepEqual(reached(), [1]);
  }
});

test("addresses read and write, and bad ones are told", () => {
  assert.equal(formatMac(parseMac("02-00-5E-10-00-ff")), "02:00:5e:10:00:ff");
  assert.equal(addressAt(frame(card(0x1234), [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54]), 6), 0xfedcba987654);
  for (const bad of ["", "02:00:5e:10:00", "02:00:5e:10:00:0g", "03:00:00:00:00:01", "00:00:00:00:00:00", 7]) {
    assert.throws(() => parseMac(bad), { code: "bad-options" }, String(bad));
  }
});

test("a network's options are checked", () => {
  assert.equal(checkNetwork(undefined), null);
  assert.equal(checkNetwork(null), null);
  const { lan, relay, mac } = checkNetwork({});
  assert.deepEqual([lan, relay, mac.length, mac[0] & 3], [null, null, 6, 2], "random, locally administered, no group");
  assert.equal(checkNetwork({ relay: "wss://relay.example/room#x" }).relay, "wss://relay.example/room");
  for (const bad of [{ lan: "" }, { lan: 5 }, { lan: "x".repeat(65) }, { relay: "http://relay.example" }, { relay: "nonsense" },
    { lan: "a", relay: "ws://relay.example" }, { mac: "x" }, "tab86"]) {
    assert.throws(() => checkNetwork(bad), { code: "bad-options" }, JSON.stringify(bad));
  }
});

/** A relay cable in surroundings that the test drives. */
function cable(random = 0.5) {
  const seen = { sockets: [], frames: [], states: [], timers: [], now: 0 };
  class Socket {
    readyState = 0;
    bufferedAmount = 0;
    sent = [];
    closed = false;
    send(bytes) {
      this.sent.push(bytes);
    }
    close() {
      this.closed = true;
    }
    open() {
      this.readyState = 1;
      this.onopen();
    }
    gone() {
      this.readyState = 3;
      this.onclose({ code: 1006, reason: "" });
    }
  }
  const relay = new RelayCable(checkRelay("ws://relay.example/"), (frame) => seen.frames.push(frame), (state) => seen.states.push(state), {
    connect: () => seen.sockets[seen.sockets.push(new Socket()) - 1],
    now: () => seen.now,
    random: () => random,
    later: (work, ms) => seen.timers.push({ work, ms, on: true }),
    never: (timer) => seen.timers[timer - 1] && (seen.timers[timer - 1].on = false),
  });
  /** The timer that runs; there is one at most. */
  const timer = () => {
    const on = seen.timers.filter((each) => each.on);
    assert.ok(on.length <= 1, "one timer at a time");
    return on[0];
  };
  const fire = () => {
    const { work, ms } = timer();
    seen.timers.forEach((each) => (each.on = false));
    seen.now += ms;
    work();
    return ms;
  };
  return { relay, seen, timer, fire, socket: () => seen.sockets.at(-1) };
}

test("a relay cable carries frames in binary messages, and nothing else", () => {
  const { relay, seen, socket } = cable();
  socket().open();
  assert.deepEqual(seen.states, ["connecting", "up"]);
  relay.send(frame(card(1), card(0)));
  assert.equal(socket().sent.length, 1);
  socket().onmessage({ data: frame(card(0), card(1)).buffer });
  socket().onmessage({ data: "hello" });
  socket().onmessage({ data: new ArrayBuffer(MAX_FRAME + 1) });
  socket().onmessage({ data: new ArrayBuffer(3) });
  assert.deepEqual([seen.frames.length, relay.dropped], [1, 2]);
});

test("frames that the network is too slow for are dropped and counted, and none wait for a connection", () => {
  const { relay, socket } = cable();
  relay.send(frame(card(1), card(0)));
  socket().open();
  assert.deepEqual([socket().sent.length, relay.dropped], [0, 1]);
  socket().bufferedAmount = (256 << 10) - 59;
  relay.send(frame(card(1), card(0)));
  assert.deepEqual([socket().sent.length, relay.dropped], [0, 2]);
  socket().bufferedAmount = (256 << 10) - 60;
  relay.send(frame(card(1), card(0)));
  assert.deepEqual([socket().sent.length, relay.dropped], [1, 2]);
});

test("a lost relay is looked for less and less often, and soon again after a good connection", () => {
  const { seen, fire, socket } = cable(1);
  const waits = [];
  for (let i = 0; i < 8; i++) {
    socket().gone();
    waits.push(fire());
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  // Accepted and dropped at once: no reason to hurry.
  socket().open();
  socket().gone();
  assert.equal(fire(), 30000);
  socket().open();
  seen.now += 5000;
  socket().gone();
  assert.equal(fire(), 500);
  assert.deepEqual(seen.states.slice(-4), ["connecting", "up", "down", "connecting"]);
});

test("the waits differ by chance, by half at most", () => {
  const [least, most] = [cable(0), cable(1)].map(({ socket, fire }) => {
    socket().gone();
    return fire();
  });
  assert.deepEqual([least, most], [250, 500]);
});

test("a relay that does not answer is given up after a while", () => {
  const { seen, fire, socket } = cable();
  const first = socket();
  assert.equal(fire(), 15000);
  assert.deepEqual([first.closed, seen.states], [true, ["connecting", "down"]]);
  assert.equal(fire(), 375);
  assert.equal(seen.sockets.length, 2);
});

test("a closed cable is silent and does not come back", () => {
  const { relay, seen, timer, socket } = cable();
  socket().open();
  relay.close();
  assert.deepEqual([socket().closed, timer(), seen.states], [true, undefined, ["connecting", "up"]]);
  const waiting = cable();
  waiting.socket().gone();
  waiting.relay.close();
  assert.equal(waiting.timer(), undefined);
});

test("a page that may not connect says so once", () => {
  const states = [];
  new RelayCable("ws://relay.example/", () => {}, (state, message) => states.push([state, message]), {
    connect() {
      throw new Error("mixed content");
    },
    later: () => assert.fail("no second try"),
  });
  assert.deepEqual(states.map(([state]) => state), ["connecting", "down"]);
  assert.match(states[1][1], /mixed content/);
});

/** The blocks of a pcapng file. @param {ArrayBuffer} file */
function blocksOf(file) {
  const view = new DataView(file);
  const blocks = [];
  for (let at = 0; at < view.byteLength; ) {
    const [type, length] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    assert.ok(length >= 12 && length % 4 === 0 && at + length <= view.byteLength, `length ${length} at ${at}`);
    assert.equal(view.getUint32(at + length - 4, true), length, "the length is repeated at the end");
    blocks.push({ type, body: new DataView(file, at + 8, length - 12) });
    at += length;
  }
  return blocks;
}

/** The options of a block by their code. @param {DataView} body @param {number} at */
function optionsOf(body, at) {
  const options = {};
  for (;;) {
    const [code, length] = [body.getUint16(at, true), body.getUint16(at + 2, true)];
    if (code === 0) {
      assert.deepEqual([length, at + 4], [0, body.byteLength]);
      return options;
    }
    options[code] = [...new Uint8Array(body.buffer, body.byteOffset + at + 4, length)];
    at += 4 + ((length + 3) & ~3);
  }
}

test("a capture is a pcapng file with one interface and a block for each frame", async () => {
  let now = 1_700_000_000_000;
  const ended = [];
  const capture = new Capture(card(1), (capture) => ended.push(capture), () => now);
  capture.record("out", frame(EVERYBODY, card(1), 61));
  now += 1.5;
  capture.record("in", frame(card(1), card(2), 1514));
  assert.deepEqual([capture.frames, capture.bytes, capture.missed], [2, 1575, 0]);
  const [section, face, ...packets] = blocksOf(await capture.stop().arrayBuffer());
  assert.deepEqual(ended, [capture]);
  assert.deepEqual([section.type, section.body.getUint32(0, true), section.body.getUint16(4, true), section.body.getUint16(6, true)], [0x0a0d0d0a, 0x1a2b3c4d, 1, 0]);
  assert.equal(section.body.getBigInt64(8, true), -1n);
  optionsOf(section.body, 16);
  assert.deepEqual([face.type, face.body.getUint16(0, true), face.body.getUint32(4, true)], [1, 1, 65535]);
  assert.deepEqual(optionsOf(face.body, 8)[6], card(1));
  const seen = packets.map(({ type, body }) => {
    const length = body.getUint32(12, true);
    assert.equal(body.getUint32(16, true), length);
    const time = (BigInt(body.getUint32(4, true)) << 32n) | BigInt(body.getUint32(8, true));
    const bytes = new Uint8Array(body.buffer, body.byteOffset + 20, length);
    return { type, card: body.getUint32(0, true), time, bytes: [...bytes], flags: optionsOf(body, 20 + ((length + 3) & ~3))[2] };
  });
  assert.deepEqual(seen, [
    { type: 6, card: 0, time: 1_700_000_000_000_000n, bytes: [...frame(EVERYBODY, card(1), 61)], flags: [2, 0, 0, 0] },
    { type: 6, card: 0, time: 1_700_000_000_001_500n, bytes: [...frame(card(1), card(2), 1514)], flags: [1, 0, 0, 0] },
  ]);
});

test("a capture that nobody stops does not grow for ever", () => {
  const capture = new Capture(card(1), () => {});
  const big = frame(EVERYBODY, card(1), 1514);
  for (let i = 0; i < (64 << 20) / 1514 + 10; i++) capture.record("in", big);
  assert.ok(capture.missed > 0 && capture.bytes <= 64 << 20);
});

/** The address that a cloned guest knows, its clone's own on the network, and a third. */
const [KNOWN, OWN, THIRD] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
const EVERYONE = [255, 255, 255, 255, 255, 255];
const ethernet = (to, from, type, data) => Uint8Array.from([...to, ...from, type >> 8, type & 255, ...data]);
/** From the sender's address to the target's. */
const arp = (to, from, operation, target) =>
  ethernet(to, from, 0x0806, [0, 1, 8, 0, 6, 4, 0, operation, ...from, 10, 0, 0, 1, ...target, 10, 0, 0, 2]);
const dhcp = (to, from, client, [source, destination], identifier = client) =>
  ethernet(to, from, 0x0800, [
    0x45, 0, 1, 22, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255,
    0, source, 0, destination, 1, 2, 0x12, 0x34,
    1, 1, 6, 0, ...Array(24).fill(7), ...client, ...Array(10 + 192).fill(0), 0x63, 0x82, 0x53, 0x63,
    0, 53, 1, 1, 61, 7, 1, ...identifier, 255,
  ]);

test("a clone is on the network with an address of its own, and its guest does not notice", () => {
  const clone = new CloneAddress(KNOWN, OWN);
  assert.deepEqual(clone.out(arp(EVERYONE, KNOWN, 1, [0, 0, 0, 0, 0, 0])), arp(EVERYONE, OWN, 1, [0, 0, 0, 0, 0, 0]));
  assert.deepEqual(clone.in(arp(OWN, THIRD, 2, OWN)), arp(KNOWN, THIRD, 2, KNOWN));
  assert.deepEqual(clone.out(ethernet(THIRD, KNOWN, 0x0800, [1, 2, 3])), ethernet(THIRD, OWN, 0x0800, [1, 2, 3]));
  assert.deepEqual(clone.in(ethernet(EVERYONE, THIRD, 0x0800, [1])), ethernet(EVERYONE, THIRD, 0x0800, [1]));
});

test("a clone and its original can talk: each sees the other under an address that is not its own", () => {
  const clone = new CloneAddress(KNOWN, OWN);
  assert.deepEqual(clone.in(arp(EVERYONE, KNOWN, 1, [0, 0, 0, 0, 0, 0])), arp(EVERYONE, OWN, 1, [0, 0, 0, 0, 0, 0]));
  assert.deepEqual(clone.out(arp(OWN, KNOWN, 2, OWN)), arp(KNOWN, OWN, 2, KNOWN));
});

test("a clone asks for an IP address under its own name", () => {
  const clone = new CloneAddress(KNOWN, OWN);
  const asked = dhcp(EVERYONE, OWN, OWN, [68, 67]);
  asked.set([0, 0], 14 + 20 + 6);
  assert.deepEqual(clone.out(dhcp(EVERYONE, KNOWN, KNOWN, [68, 67])), asked);
  const answer = clone.in(dhcp(OWN, THIRD, OWN, [67, 68], THIRD));
  assert.deepEqual([addressAt(answer, 0), addressAt(answer, 14 + 28 + 28)], [addressAt(KNOWN, 0), addressAt(KNOWN, 0)]);
  // Other UDP, and pieces of messages, are data.
  const other = dhcp(EVERYONE, KNOWN, KNOWN, [68, 53]);
  assert.deepEqual(clone.out(other).slice(14), other.slice(14));
  const piece = dhcp(EVERYONE, KNOWN, KNOWN, [68, 67]);
  piece[14 + 6] = 0x20;
  assert.deepEqual(clone.out(piece).slice(14), piece.slice(14));
});

/** A neighbour advertisement from fe80::1 to fe80::2 for fe80::1, with a nonce (RFC 3971) before the address. */
const advertisement = (to, from, hardware) => {
  const [source, target] = [1, 2].map((n) => [0xfe, 0x80, ...Array(13).fill(0), n]);
  const message = [136, 0, 0, 0, 0x60, 0, 0, 0, ...source, 14, 1, 1, 2, 3, 4, 5, 6, 2, 1, ...hardware];
  const summed = [...source, ...target, 0, 0, 0, message.length, 0, 0, 0, 58, ...message];
  let sum = 0;
  for (let at = 0; at < summed.length; at += 2) sum += (summed[at] << 8) | summed[at + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  message.splice(2, 2, (~sum >> 8) & 255, ~sum & 255);
  return ethernet(to, from, 0x86dd, [0x60, 0, 0, 0, 0, message.length, 58, 255, ...source, ...target, ...message]);
};

test("a clone's neighbours of IPv6 know it under its own address", () => {
  const clone = new CloneAddress(KNOWN, OWN);
  assert.deepEqual(clone.out(advertisement(THIRD, KNOWN, KNOWN)), advertisement(THIRD, OWN, OWN));
  assert.deepEqual(clone.in(advertisement(OWN, KNOWN, KNOWN)), advertisement(KNOWN, OWN, OWN));
  assert.deepEqual(clone.in(advertisement(OWN, THIRD, THIRD)), advertisement(KNOWN, THIRD, THIRD));
  // Other ICMPv6 is data, and so is what lies behind the packet.
  const ping = advertisement(THIRD, KNOWN, KNOWN);
  ping[54] = 128;
  assert.deepEqual(clone.out(ping).slice(14), ping.slice(14));
  const padded = advertisement(THIRD, KNOWN, KNOWN);
  padded[19] -= 8;
  assert.deepEqual(clone.out(padded).slice(14), padded.slice(14));
});

test("a clone whose guest takes the clone's own address is left alone", () => {
  const clone = new CloneAddress(KNOWN, OWN);
  assert.deepEqual(clone.out(ethernet(THIRD, OWN, 0x0800, [1])), ethernet(THIRD, OWN, 0x0800, [1]));
  assert.deepEqual(clone.in(ethernet(OWN, THIRD, 0x0800, [1])), ethernet(OWN, THIRD, 0x0800, [1]));
  assert.deepEqual(clone.out(ethernet(THIRD, KNOWN, 0x0800, [1])), ethernet(THIRD, OWN, 0x0800, [1]), "after a restart of the guest");
});

test("frames that others hold too are not changed, and cut or wild ones harm nothing", () => {
  const clone = new CloneAddress(KNOWN, OWN);
  for (const whole of [dhcp(OWN, THIRD, OWN, [67, 68]), arp(OWN, THIRD, 2, OWN), advertisement(OWN, THIRD, OWN)]) {
    for (let length = 0; length <= whole.length; length++) {
      const frame = whole.slice(0, length);
      const before = frame.slice();
      assert.equal(clone.in(frame).length, length);
      assert.deepEqual(frame, before);
    }
  }
  let random = 1;
  for (let round = 0; round < 2000; round++) {
    const frame = round % 2 === 0 ? dhcp(OWN, THIRD, OWN, [67, 68]) : advertisement(OWN, THIRD, OWN);
    for (let i = 0; i < 4; i++) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      frame[12 + ((random >>> 8) % (frame.length - 12))] = random >>> 24;
    }
    assert.equal(clone.in(frame).length, frame.length);
  }
});
