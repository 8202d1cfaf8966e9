// The question before the first running machine is closed, and the offer to take a close back.
import { button, element } from "../elements.js";

/** While the visitor is at the offer it does not go. */
const ATTENDED_MS = 2000;

const dialog = element("close-dialog", HTMLDialogElement);
const toast = element("toast", HTMLDivElement);

/** @param {string} question @returns {Promise<boolean>} */
export function confirmClose(question) {
  if (dialog.open) return Promise.resolve(false);
  element("close-question", HTMLParagraphElement).textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "close"), { once: true }));
}

/** The line at the bottom that offers "Undo" for a while. */
export class UndoOffer {
  #timer = 0;

  /** @param {() => void} undo */
  constructor(undo) {
    button("undo").addEventListener("click", () => {
      this.withdraw();
      undo();
    });
  }

  get stands() {
    return !toast.hidden;
  }

  /** @param {string} text @param {number} ms @param {() => void} over called when the time is over */
  make(text, ms, over) {
    this.withdraw();
    element("toast-text", HTMLParagraphElement).textContent = text;
    toast.hidden = false;
    const end = () => {
      if (toast.matches(":hover, :focus-within")) {
        this.#timer = window.setTimeout(end, ATTENDED_MS);
        return;
      }
      this.withdraw();
      over();
    };
    this.#timer = window.setTimeout(end, ms);
  }

  withdraw() {
    clearTimeout(this.#timer);
    toast.hidden = true;
  }
}
