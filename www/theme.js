// Light, dark, or as the system: one button that goes through the three, remembered.
import { button } from "./elements.js";

const KEY = "tab86-theme";
const THEMES = /** @type {const} */ ([
  { name: "system", sign: "◐", label: "Theme: as the system" },
  { name: "light", sign: "☀", label: "Theme: light" },
  { name: "dark", sign: "☾", label: "Theme: dark" },
]);

function stored() {
  // Storage may be forbidden; then the choice lasts as long as the page.
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** @param {string} name */
function store(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // As above.
  }
}

export function setUpTheme() {
  const control = button("theme");
  let current = Math.max(0, THEMES.findIndex(({ name }) => name === stored()));
  const apply = () => {
    const { name, sign, label } = THEMES[current];
    document.documentElement.dataset.theme = name;
    control.textContent = sign;
    control.setAttribute("aria-label", label);
    control.title = label;
  };
  control.addEventListener("click", () => {
    current = (current + 1) % THEMES.length;
    store(THEMES[current].name);
    apply();
  });
  apply();
}
