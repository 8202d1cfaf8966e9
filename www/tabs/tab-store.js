// Where the tab list survives a reload: the session store of this browser tab, so that two pages do not mix.

const KEY = "tab86-tabs";

/** What was kept, or null. @returns {unknown} */
export function readTabs() {
  // Storage may be forbidden, or hold nonsense.
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch {
    return null;
  }
}

/** @param {import("./tab-list.js").SavedList} list */
export function keepTabs(list) {
  try {
    if (list.tabs.length) sessionStorage.setItem(KEY, JSON.stringify(list));
    else sessionStorage.removeItem(KEY);
  } catch {
    // Then the list lasts as long as the page.
  }
}
