// The area above everything that says one sentence.
import { button, element } from "./elements.js";

const area = element("message", HTMLDivElement);
const text = element("message-text", HTMLParagraphElement);

/** @param {string} sentence @param {"error" | "note"} [kind] */
export function say(sentence, kind = "error") {
  area.classList.toggle("note", kind === "note");
  text.textContent = sentence;
  area.hidden = false;
}

/** @param {unknown} error */
export function sayError(error) {
  say(error instanceof Error ? error.message : String(error));
}

export function clearMessage() {
  area.hidden = true;
  text.textContent = "";
}

/** @param {() => void} listener called when the visitor closes a message */
export function onMessageClose(listener) {
  button("message-close").addEventListener("click", listener);
}

button("message-close").addEventListener("click", clearMessage);
