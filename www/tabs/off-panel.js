// What a tab shows in place of a screen while its machine is off or loading.
import { button, element } from "../elements.js";

/** @typedef {import("./tab-list.js").Tab} Tab @typedef {import("./machine.js").Machine} Machine */

const panel = element("off-panel", HTMLDivElement);

/** @param {string[]} names */
const listed = (names) => (names.length === 1 ? names[0] : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

/**
 * @param {{ start: () => void, choose: () => void, close: () => void }} actions
 */
export function setUpOffPanel({ start, choose, close }) {
  button("start-again").addEventListener("click", start);
  button("choose-again").addEventListener("click", choose);
  button("off-close").addEventListener("click", close);
}

/** @param {Tab} tab @param {Machine} machine @param {boolean} offered does the site have the tab's guest? */
export function showOffPanel(tab, machine, offered) {
  const loading = machine.state === "loading";
  const { source } = tab;
  const lost = source.kind === "files" && !machine.files;
  panel.hidden = machine.vm !== null;
  panel.classList.toggle("loading", loading);
  element("off-title", HTMLHeadingElement).textContent = tab.name;
  let text = "The machine is off.";
  if (loading) text = "Loading…";
  else if (source.kind === "guest" && !offered) text = `This site has no guest called ${source.guest}.`;
  else if (lost) text = `The page was loaded anew. Files of yours are not kept: choose ${listed(source.files)} again to start.`;
  else if (!machine.ran) text = "The page was loaded anew, which switches machines off. Start it again from the beginning.";
  const line = element("off-text", HTMLParagraphElement);
  if (line.textContent !== text) line.textContent = text;
  button("start-again").hidden = loading || lost || (source.kind === "guest" && !offered);
  button("choose-again").hidden = loading || !lost;
}

export function focusOffPanel() {
  const target = [button("start-again"), button("choose-again"), button("off-close")].find((control) => !control.hidden);
  target?.focus();
}
