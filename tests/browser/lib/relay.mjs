// A stand-in for a relay on the loopback interface: a WebSocket server (RFC 6455) that gives each binary message to all
// other clients. No more of the protocol than a browser speaks to it: no extensions, no fragments.
import { createHash } from "node:crypto";
import http from "node:http";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;

/** @param {number} opcode @param {Buffer} payload */
function message(opcode, payload) {
  const { length } = payload;
  const head = length < 126 ? Buffer.from([0x80 | opcode, length]) : Buffer.from([0x80 | opcode, 126, length >> 8, length & 255]);
  return Buffer.concat([head, payload]);
}

/** The first message of what a client sent, and the rest; null while it is not complete. @param {Buffer} data */
function parse(data) {
  if (data.length < 2) return null;
  const opcode = data[0] & 15;
  let [length, at] = [data[1] & 127, 2];
  if (length === 126) {
    if (data.length < 4) return null;
    [length, at] = [data.readUInt16BE(2), 4];
  } else if (length === 127) throw new Error("a message that is longer than any frame");
  if (data.length < at + 4 + length) return null;
  const mask = data.subarray(at, at + 4);
  const payload = Buffer.from(data.subarray(at + 4, at + 4 + length)).map((byte, i) => byte ^ mask[i & 3]);
  return { opcode, payload, rest: data.subarray(at + 4 + length) };
}

/** @param {number} [port] any free one unless told */
export async function startRelay(port = 0) {
  /** @type {Set<import("node:stream").Duplex>} */
  const clients = new Set();
  const relay = { port, frames: 0, close: async () => {} };
  const server = http.createServer((_, response) => response.writeHead(426).end());
  server.on("upgrade", (request, socket) => {
    const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + MAGIC).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    // What clients must ignore.
    socket.write(message(TEXT, Buffer.from("welcome")));
    socket.write(message(BINARY, Buffer.alloc(5000)));
    clients.add(socket);
    let data = Buffer.alloc(0);
    socket.on("data", (part) => {
      data = Buffer.concat([data, part]);
      for (let next = parse(data); next; next = parse(data)) {
        data = next.rest;
        if (next.opcode === CLOSE) socket.end(message(CLOSE, next.payload));
        if (next.opcode !== BINARY) continue;
        relay.frames++;
        for (const other of clients) if (other !== socket) other.write(message(BINARY, next.payload));
      }
    });
    socket.on("close", () => clients.delete(socket));
    socket.on("error", () => clients.delete(socket));
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  relay.port = server.address().port;
  relay.close = async () => {
    for (const socket of clients) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return relay;
}
