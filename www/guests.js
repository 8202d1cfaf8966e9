// The guests that the site offers: /guests/guests.json, made by `cargo xtask guests`.
import { element } from "./elements.js";
import { size } from "./sizes.js";

/**
 * @typedef {object} Guest
 * @property {string} name @property {string} title @property {string} description @property {string} kind
 * @property {boolean} default @property {number} bytes @property {number} memory
 * @property {Record<string, string>} files role (as in VmOptions) and file
 * @property {string} [cmdline] @property {string} [bootOrder]
 */

const FOLDER = new URL("guests/", document.baseURI);

/** @returns {Promise<Guest[]>} */
export async function loadGuests() {
  const response = await fetch(new URL("guests.json", FOLDER)).catch(() => null);
  if (!response?.ok) return [];
  const { guests } = await response.json();
  return guests.sort((/** @type {Guest} */ a, /** @type {Guest} */ b) => Number(b.default) - Number(a.default));
}

/** @param {Guest} guest @returns {import("/pkg/tab86.js").VmOptions} */
export function optionsOf(guest) {
  const files = Object.fromEntries(Object.entries(guest.files).map(([role, file]) => [role, new URL(file, FOLDER)]));
  const { memory, cmdline, bootOrder } = guest;
  return { ...files, memory, ...(cmdline && { cmdline }), ...(bootOrder && { bootOrder }) };
}

/** @param {Guest[]} guests @param {(guest: Guest) => void} boot */
export function showGuests(guests, boot) {
  const list = element("guests", HTMLUListElement);
  list.replaceChildren(...guests.map((guest) => card(guest, boot)));
  list.removeAttribute("aria-busy");
  if (guests.length === 0) {
    const item = document.createElement("li");
    item.textContent = "This site has no guests (cargo xtask guests makes them). Open your own image below.";
    list.append(item);
  }
}

/** @param {Guest} guest @param {(guest: Guest) => void} boot */
function card(guest, boot) {
  const item = document.createElement("li");
  item.classList.toggle("default", guest.default);
  const control = document.createElement("button");
  control.type = "button";
  control.className = "guest";
  control.dataset.guest = guest.name;
  const add = (/** @type {string} */ tag, /** @type {string} */ text) => {
    const part = document.createElement(tag);
    part.textContent = text;
    control.append(part);
  };
  add("strong", guest.title);
  add("span", guest.description);
  add("small", `${size(guest.bytes)} to load, ${size(guest.memory)} of memory`);
  control.addEventListener("click", () => boot(guest));
  item.append(control);
  return item;
}
