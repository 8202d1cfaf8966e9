// The Debian guests, once they are up.

/** Waits for the shell and gets an empty prompt: the kernel finds the mouse and the network card
 * late and says so amid the first one. */
export async function debianShell(page, ms) {
  await page.evaluate(async (ms) => {
    await window.vm.waitForSerial("READY", ms);
    await window.vm.waitForSerial(/input: .*Mouse/, ms);
    if (window.vm.network) await window.vm.waitForSerial(/eth0: RealTek/, ms);
    await window.vm.waitForScreen("~ #", ms);
  }, ms);
  await page.locator("#screen").focus();
  await page.keyboard.press("Enter");
  await page.evaluate((ms) => window.vm.waitForScreen(/^~ # ?$/m, ms), ms);
  await idle(page, ms);
}

/** Waits until the guest has nothing to do: a prompt alone may be there before its shell reads keys. */
export async function idle(page, ms) {
  await page.waitForTimeout(1000);
  await page.waitForFunction(() => window.vm.stats().idle > 0.6, null, { timeout: ms });
}
