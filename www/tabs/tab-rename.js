// Editing a tab's name where it stands.

/**
 * @param {HTMLElement} root the tab @param {string} name
 * @param {(name: string | null, byKey: boolean) => void} done gets null when nothing is to change, and whether a key
 *   ended it: then the focus goes back to the tab
 */
export function editName(root, name, done) {
  if (root.querySelector(".tab-edit")) return;
  const input = document.createElement("input");
  input.type = "text";
  input.className = "tab-edit";
  input.value = name;
  input.maxLength = 80;
  input.spellcheck = false;
  input.autocomplete = "off";
  input.setAttribute("aria-label", "Name of the tab");
  let over = false;
  const end = (/** @type {string | null} */ value, /** @type {boolean} */ byKey) => {
    if (over) return;
    over = true;
    root.classList.remove("editing");
    input.remove();
    done(value, byKey);
  };
  input.addEventListener("keydown", (event) => {
    // Not the strip's keys.
    event.stopPropagation();
    if (event.isComposing) return;
    if (event.key === "Enter") end(input.value, true);
    else if (event.key === "Escape") end(null, true);
    else return;
    event.preventDefault();
  });
  input.addEventListener("blur", () => end(input.value, false));
  root.classList.add("editing");
  root.append(input);
  input.focus();
  input.select();
}
