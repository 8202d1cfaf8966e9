import { launch, openPage, screenshot } from "./tests/browser/lib/browser.mjs";
import { serveSite } from "./tests/browser/lib/server.mjs";
const server = await serveSite(); const browser = await launch();
for (const [name, viewport] of [["desktop", { width: 1280, height: 860 }], ["phone", { width: 390, height: 780 }]]) for (const colorScheme of ["light", "dark"]) {
  const page = await openPage(browser, server.origin + "/", { viewport, colorScheme });
  await page.waitForSelector(".guest"); await screenshot(page, `home-${name}-${colorScheme}`);
  await page.click(".guest"); await page.waitForSelector("#machine:not([hidden])"); await new Promise(r => setTimeout(r, 1500));
  await screenshot(page, `machine-${name}-${colorScheme}`);
  console.log(page.problems);
}
await browser.close(); await server.close();
