// tab86 beside v86 (npm) in fresh browsers: the same server, the same guests, a page for each.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS } from "../../browser/lib/browser.mjs";
import { v86Files } from "../../browser/lib/network-guests.mjs";
import { serveSite } from "../../browser/lib/server.mjs";

/** What a page of v86 needs around it, as its documentation says. */
const V86_PAGE = `<!doctype html><meta charset="utf-8"><title>v86</title>
<div id="screen"><div style="white-space: pre; font: 14px monospace"></div><canvas></canvas></div>
<script type="module" src="/v86/page.mjs"></script>`;

/** Boots the guest of ?guest= from the site's list, or the Multiboot image of ?multiboot=. */
const V86_SCRIPT = `
  import { V86 } from "/v86/libv86.mjs";
  const query = new URLSearchParams(location.search);
  const { guests } = await (await fetch("/guests/guests.json")).json();
  const guest = guests.find(({ name }) => name === query.get("guest")) ?? { files: {}, memory: Number(query.get("memory")) };
  const url = (name) => guest.files[name] && { url: "/guests/" + guest.files[name] };
  const multiboot = query.get("multiboot");
  const vm = new V86({
    wasm_path: "/v86/v86.wasm", memory_size: guest.memory, vga_memory_size: 8 << 20,
    bios: { url: "/firmware/bios.bin" }, vga_bios: { url: "/firmware/vgabios-stdvga.bin" },
    bzimage: url("kernel"), initrd: url("initrd"), cmdline: guest.cmdline, multiboot: multiboot ? { url: multiboot } : undefined,
    autostart: true, disable_speaker: true, net_device: { type: "none" },
    screen_container: document.getElementById("screen"),
  });
  let said = "";
  window.bytes = 0;
  vm.add_listener("serial0-output-byte", (byte) => {
    window.bytes++;
    if (multiboot) return;
    said += String.fromCharCode(byte);
    if (/READY[^]*# $/.test(said)) window.readyAt ??= performance.now();
  });
  window.machine = {
    canvas: () => document.querySelector("#screen canvas"),
    text: () => (vm.screen_adapter.get_text_screen?.() ?? []).join("\\n"),
    move: (dx, dy) => vm.bus.send("mouse-delta", [dx, -dy]),
    chord: (codes) => vm.keyboard_send_scancodes([...codes, ...codes.map((code) => code | 0x80)]),
    type: (text) => vm.keyboard_send_text(text),
    instructions: () => vm.get_instruction_counter(),
  };
`;

/** What runs in tab86's page before anything else: the same \`machine\`, and the time of the prompt. */
const TAB86_SCRIPT = `
  const KEYS = { 0x1d: "ControlLeft", 0x38: "AltLeft", 0x3c: "F2", 0x3f: "F5", 0x1c: "Enter" };
  window.machine = {
    canvas: () => document.querySelector("#screen"),
    text: () => vm.screenText(),
    move: (dx, dy) => vm.mouse({ dx, dy }),
    chord: (codes) => vm.sendKeys(codes.map((code) => KEYS[code])),
    type: (text) => vm.typeText(text),
    instructions: () => Number(vm.stats().instructions),
  };
  const look = setInterval(() => {
    if (!window.vm) return;
    clearInterval(look);
    window.vm.waitForSerial(/READY[^]*# /, 3_600_000).then(() => (window.readyAt = performance.now()), () => {});
  }, 10);
`;

/** @param {Record<string, Buffer>} [files] that the site has not */
export const serveBoth = (files = {}) =>
  serveSite({ files: { ...v86Files(), "/v86/page.html": Buffer.from(V86_PAGE), "/v86/page.mjs": Buffer.from(V86_SCRIPT), ...files } });

/**
 * Opens a page of one of the two in a browser with a profile of its own, so with a cold cache. It comes back as soon as the page
 * is on its way: what follows is measured from its navigation on.
 * @template T @param {"tab86" | "v86"} name @param {string} origin @param {string} query
 * @param {(page: import("playwright-core").Page) => Promise<T>} use
 */
export async function withFresh(name, origin, query, use) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "bench-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS, serviceWorkers: "block" });
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    page.on("pageerror", (error) => console.error(`[${name}] ${error.message}`));
    if (name === "tab86") await page.addInitScript(TAB86_SCRIPT);
    await page.goto(`${origin}${name === "v86" ? "/v86/page.html" : "/"}?${query}`, { waitUntil: "commit" });
    return await use(page);
  } finally {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}
