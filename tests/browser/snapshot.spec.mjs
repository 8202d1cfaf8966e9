// A machine's state in a Blob: another machine goes on from it, with shared memory and with messages, and a state that is
// damaged or of other options is an error.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bootFloppy, THEN } from "./lib/boot-sector.mjs";
import { launch, openPage } from "./lib/browser.mjs";
import { serveSite } from "./lib/server.mjs";

const FILES = { "/files/echo.img": bootFloppy("echo here\r\n", THEN.echoKeys) };

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

for (const kind of ["shared", "messages"]) {
  test(`a machine goes on from a saved state (${kind})`, async () => {
    const site = await serveSite({ files: FILES, isolated: kind === "shared" });
    const page = await openPage(browser, `${site.origin}/pkg/package.json`);
    try {
      const seen = await page.evaluate(async () => {
        const { createPool } = await import("/pkg/tab86.js");
        const pool = await createPool({ workers: 2 });
        const options = { memory: 16 << 20, fda: "/files/echo.img" };
        const vm = await pool.createVm(options);
        await vm.start();
        await vm.waitForScreen("echo here");
        await vm.typeText("saved ");
        await vm.waitForScreen("saved");
        await vm.pause();
        const state = await vm.saveState();
        const header = await state.slice(0, 16).text();
        const other = await pool.createVm({ ...options, state });
        const hashes = [await vm.ramHash(), await other.ramHash()];
        await vm.close();
        await other.start();
        await other.typeText("restored");
        const text = await other.waitForScreen("saved restored");
        const refuse = (options) => pool.createVm(options).then(() => "made", (error) => error.code);
        const bytes = new Uint8Array(await state.arrayBuffer());
        bytes[bytes.length >> 1] ^= 1;
        const codes = [
          await refuse({ ...options, state: bytes }),
          await refuse({ ...options, state: new Uint8Array(100) }),
          await refuse({ ...options, memory: 32 << 20, state }),
        ];
        await pool.close();
        return { header, hashes, text, codes, size: state.size };
      });
      assert.equal(seen.header, "tab86 snapshot 1");
      assert.equal(seen.hashes[0], seen.hashes[1]);
      assert.deepEqual(seen.codes, ["bad-state", "bad-state", "state-of-other-options"]);
      assert.ok(seen.size < 4 << 20, `${seen.size} bytes for a machine that did next to nothing`);
      assert.deepEqual(page.problems, []);
    } finally {
      await page.context().close();
      await site.close();
    }
  });
}
