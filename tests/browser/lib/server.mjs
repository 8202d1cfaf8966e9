// A static server of the built site for the specs, on a free port of the loopback interface. It can also leave out what
// the specs want to see left out: the isolation headers, or HTTP Range.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const SITE = path.resolve(import.meta.dirname, "../../../build/site");
const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
  ".json": "application/json", ".svg": "image/svg+xml", ".wasm": "application/wasm",
};

/**
 * @param {{ isolated?: boolean, files?: Record<string, Buffer> }} [options] `files`: paths that are not in the site;
 *   below /no-range/ they are served without Range
 */
export async function serveSite({ isolated = true, files = {} } = {}) {
  if (!fs.existsSync(path.join(SITE, "index.html"))) throw new Error("build/site is missing: run `cargo xtask build`");
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://site").pathname);
    const body = files[name] ?? read(name);
    if (isolated) {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    }
    response.setHeader("Cache-Control", "no-store");
    if (!body) return response.writeHead(404).end("not found");
    response.setHeader("Content-Type", TYPES[path.extname(name === "/" ? "index.html" : name)] ?? "application/octet-stream");
    send(request, response, body, !name.startsWith("/no-range/"));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, close };
}

function read(name) {
  const file = path.join(SITE, name.endsWith("/") ? `${name}index.html` : name);
  if (!file.startsWith(SITE + path.sep) || !fs.existsSync(file) || !fs.statSync(file).isFile()) return null;
  return fs.readFileSync(file);
}

function send(request, response, body, ranges) {
  const range = ranges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (!range) return response.writeHead(200, { "Content-Length": body.length }).end(body);
  const first = Number(range[1]);
  const last = Math.min(range[2] === "" ? Infinity : Number(range[2]), body.length - 1);
  if (first > last) return response.writeHead(416, { "Content-Range": `bytes */${body.length}` }).end();
  response.writeHead(206, { "Content-Range": `bytes ${first}-${last}/${body.length}`, "Content-Length": last - first + 1 });
  response.end(body.subarray(first, last + 1));
}
