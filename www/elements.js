// The page's elements, by the id that index.html gives them.

/**
 * @template {HTMLElement} T
 * @param {string} id @param {new () => T} type
 * @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`);
  return found;
}

/** @param {string} id */
export const button = (id) => element(id, HTMLButtonElement);

/** Hides or shows a node. Figures are shown four times a second: what is so already must not make the browser draw. @param {HTMLElement} node @param {boolean} hidden */
export const setHidden = (node, hidden) => void (node.hidden !== hidden && (node.hidden = hidden));

/** The same for how a state looks. @param {HTMLElement} node @param {string} tone */
export const setTone = (node, tone) => void (node.dataset.tone !== tone && (node.dataset.tone = tone));
