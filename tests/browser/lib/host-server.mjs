// What guests reach behind a relay: a small HTTP server and a sink on the loopback interface, with checksums and times.
import { createHash, randomFillSync } from "node:crypto";
import http from "node:http";
import net from "node:net";

const md5 = (data) => createHash("md5").update(data).digest("hex");

const listening = (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/** @param {number} bytes of `/big`; `/small` has 20,000 */
export async function startHost(bytes) {
  const big = randomFillSync(Buffer.alloc(bytes));
  const small = big.subarray(0, 20_000);
  /** @type {{ bytes: number, seconds: number, md5: string }[]} */
  const uploads = [];
  const waiters = [];
  /** Bytes that came to the sink so far. */
  let received = 0;
  /** When `/big` was last asked for. */
  let asked = 0;
  /**
   * Seconds from a request for `/big` to the request for `/done` with which the guest says that it has it all. The end
   * of the connection says nothing: the system's own buffers may hold the whole file.
   */
  let served = NaN;
  const web = http.createServer((request, response) => {
    const body = request.url.startsWith("/big") ? big : small;
    if (body === big) [asked, served] = [performance.now(), NaN];
    if (request.url === "/done") served = (performance.now() - asked) / 1000;
    response.writeHead(200, { "Content-Length": body.length, Connection: "close" }).end(body);
  });
  const sink = net.createServer((socket) => {
    const hash = createHash("md5");
    let [length, began] = [0, 0];
    socket.on("data", (data) => {
      began ||= performance.now();
      length += data.length;
      received += data.length;
      hash.update(data);
    });
    socket.on("error", () => socket.destroy());
    socket.on("end", () => {
      uploads.push({ bytes: length, seconds: (performance.now() - began) / 1000, md5: hash.digest("hex") });
      socket.end();
      waiters.splice(0).forEach((look) => look());
    });
  });
  const [webPort, sinkPort] = await Promise.all([listening(web), listening(sink)]);
  return {
    webPort,
    sinkPort,
    /** Rules that let guests reach it. */
    allow: [webPort, sinkPort].map((port) => `--allow=127.0.0.1:${port}`),
    big: md5(big),
    /** The checksum of `count` times `/small`. @param {number} count */
    smalls: (count) => md5(Buffer.concat(Array(count).fill(small))),
    get received() {
      return received;
    },
    get served() {
      return served;
    },
    /** The next upload that ends, or ended and was not asked for. */
    async upload() {
      while (!uploads.length) await new Promise((look) => waiters.push(look));
      return uploads.shift();
    },
    async close() {
      web.closeAllConnections();
      await Promise.all([web, sink].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}
