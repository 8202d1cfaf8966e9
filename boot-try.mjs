import { launch, openPage, screenshot } from "./tests/browser/lib/browser.mjs";
import { serveSite } from "./tests/browser/lib/server.mjs";
const guest = process.argv[2] ?? "debian", secs = +(process.argv[3] ?? 40);
const server = await serveSite({ isolated: process.argv[4] !== "plain" }); const browser = await launch();
const page = await openPage(browser, server.origin + "/?guest=" + guest, { viewport: { width: 1280, height: 900 } });
page.on("console", m => console.log("console", m.text().slice(0, 500)));
const t0 = Date.now(); await page.waitForFunction(() => window.vm); await page.evaluate(() => { window.ser = ""; vm.addEventListener("serial", e => window.ser += new TextDecoder().decode(e.data)); });
let last = "";
while (Date.now() - t0 < secs * 1000) {
  await new Promise(r => setTimeout(r, 2000));
  const s = await page.evaluate(() => { const vm = window.vm; if (!vm) return { msg: document.getElementById("message-text").textContent }; const s = vm.stats(); return { state: vm.state, n: Number(s.instructions), mips: s.mips, idle: s.idle, vt: s.virtualTime, text: vm.screenText(), msg: document.getElementById("message-text").textContent }; });
  console.log(((Date.now() - t0) / 1000).toFixed(1), s.state, (s.n / 1e6).toFixed(0), "M", s.mips, "MIPS idle", s.idle, "vt", s.vt, s.msg);
  if (s.text !== last) { last = s.text; console.log(last?.split("\n").filter(l => l.trim()).slice(-4).join("\n")); }
  if (/READY/.test(s.text)) break;
}
console.log("SERIAL", (await page.evaluate(() => window.ser)).slice(-3000)); await screenshot(page, "try-" + guest);
console.log(page.problems); await browser.close(); await server.close();
