// The built wasm and its glue: both variants start in a worker, and each glue of the factory is its own instance.
// Needs build/site (`cargo xtask build`) and the browser that $CHROMIUM names.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const site = new URL("../../build/site/", import.meta.url);
const worker = `
  onmessage = async ({ data: variant }) => {
    try {
      const base = "/pkg/wasm/" + variant + "/";
      const { createGlue } = await import(base + "tab86.js");
      const module = await WebAssembly.compileStreaming(fetch(base + "tab86_bg.wasm"));
      const shared = variant === "shared";
      const start = () => {
        const memory = shared ? new WebAssembly.Memory({ initial: 1024, maximum: 4096, shared: true }) : undefined;
        const exports = createGlue().initSync({ module, memory });
        return { given: memory, exports };
      };
      const [a, b] = [start(), start()];
      // A second thread of the first machine: another instance over the same memory.
      const thread = shared ? createGlue().initSync({ module, memory: a.given }) : a.exports;
      postMessage({
        takesGivenMemory: shared ? a.exports.memory === a.given && thread.memory === a.given : null,
        isShared: a.exports.memory.buffer instanceof SharedArrayBuffer,
        apart: a.exports.memory !== b.exports.memory,
      });
    } catch (error) { postMessage({ error: String(error) }); }
  };`;
const types = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

let server, browser, page;

before(async () => {
  server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://site");
    const made = { "/": "<!doctype html><title>glue</title>", "/worker.js": worker }[pathname];
    const body = made ?? (await readFile(new URL("." + pathname, site)).catch(() => null));
    const type = types[pathname === "/" ? ".html" : pathname.slice(pathname.lastIndexOf("."))] ?? "text/plain";
    response.writeHead(body === null ? 404 : 200, {
      "Content-Type": type,
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
});

after(async () => {
  await browser?.close();
  server?.close();
});

const start = (variant) => page.evaluate((variant) => new Promise((resolve) => {
  const worker = new Worker("/worker.js", { type: "module" });
  worker.onmessage = ({ data }) => resolve(data);
  worker.postMessage(variant);
}), variant);

test("the shared build runs on the memory it is given, several instances over one", async () => {
  assert.deepEqual(await start("shared"), { takesGivenMemory: true, isShared: true, apart: true });
});

test("the plain build brings its own private memory", async () => {
  assert.deepEqual(await start("plain"), { takesGivenMemory: null, isShared: false, apart: true });
});
