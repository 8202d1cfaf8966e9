// Reordering by dragging: with a mouse at once, with a finger after a moment's rest (a finger that moves scrolls).

/** How far a mouse moves before it drags, and a finger before it scrolls, in CSS pixels. */
const SLACK = 6;
const REST_MS = 350;
/** At the strip's ends it scrolls, so many pixels an event. */
const EDGE = 32;
const SCROLL = 12;

/**
 * A drag under way: what lies where, without what is dragged. Offsets are within the strip's content.
 * @typedef {object} Drag
 * @property {HTMLElement} tab @property {number} index @property {number} grip pointer to the tab's left side
 * @property {{ tab: HTMLElement, middle: number }[]} others @property {number} width with the gap
 */

/** @param {HTMLElement} strip @param {(id: string, index: number) => void} moved */
export function setUpTabDrag(strip, moved) {
  /** @type {{ tab: HTMLElement, x: number, pointer: number } | null} */ let pressed = null;
  /** @type {Drag | null} */ let drag = null;
  let timer = 0;

  const start = () => {
    if (!pressed) return;
    const { tab, x, pointer } = pressed;
    const tabs = /** @type {HTMLElement[]} */ ([...strip.children]);
    const [box, next] = [tab.getBoundingClientRect(), tabs[1]?.offsetLeft];
    const width = next === undefined ? tab.offsetWidth : next - tabs[0].offsetLeft;
    const others = tabs.filter((other) => other !== tab).map((other) => ({ tab: other, middle: other.offsetLeft + other.offsetWidth / 2 }));
    drag = { tab, index: tabs.indexOf(tab), grip: x - box.left, others, width };
    strip.setPointerCapture(pointer);
    strip.classList.add("dragging-tab");
    tab.classList.add("dragged");
  };
  /** The dragged tab's left side, within the strip's content. @param {Drag} drag @param {number} x */
  const left = (drag, x) => x - drag.grip - strip.getBoundingClientRect().left + strip.scrollLeft;
  /** @param {Drag} drag @param {number} x */
  const target = (drag, x) => {
    const middle = left(drag, x) + drag.tab.offsetWidth / 2;
    return drag.others.filter((other, i) => {
      // Those behind have closed up.
      const shifted = i >= drag.index ? other.middle - drag.width / 2 : other.middle + drag.width / 2;
      return shifted < middle;
    }).length;
  };
  const show = (/** @type {number} */ x) => {
    if (!drag) return;
    const { tab, index, others, width } = drag;
    const box = strip.getBoundingClientRect();
    if (x < box.left + EDGE) strip.scrollLeft -= SCROLL;
    else if (x > box.right - EDGE) strip.scrollLeft += SCROLL;
    tab.style.translate = `${left(drag, x) - tab.offsetLeft}px`;
    const to = target(drag, x);
    others.forEach(({ tab: other }, i) => {
      const shift = i >= index && i < to ? -width : i < index && i >= to ? width : 0;
      other.style.translate = shift ? `${shift}px` : "";
    });
  };
  const finish = (/** @type {number | null} */ x) => {
    clearTimeout(timer);
    pressed = null;
    if (!drag) return;
    const [{ tab, index, others }, to] = [drag, x === null ? drag.index : target(drag, x)];
    drag = null;
    strip.classList.remove("dragging-tab");
    tab.classList.remove("dragged");
    [tab, ...others.map((other) => other.tab)].forEach((each) => (each.style.translate = ""));
    // The click that follows a drag selects nothing.
    const swallow = (/** @type {Event} */ event) => event.stopImmediatePropagation();
    strip.addEventListener("click", swallow, { capture: true });
    setTimeout(() => strip.removeEventListener("click", swallow, { capture: true }), 0);
    if (to !== index) moved(tab.dataset.tab ?? "", to);
  };

  strip.addEventListener("pointerdown", (event) => {
    const control = event.target instanceof Element && event.target.closest("[role=tab]");
    const tab = control && control.closest(".tab");
    if (event.button !== 0 || !event.isPrimary || !(tab instanceof HTMLElement)) return;
    pressed = { tab, x: event.clientX, pointer: event.pointerId };
    if (event.pointerType === "touch") timer = window.setTimeout(start, REST_MS);
  });
  strip.addEventListener("pointermove", (event) => {
    if (!pressed || event.pointerId !== pressed.pointer) return;
    if (drag) return show(event.clientX);
    if (Math.abs(event.clientX - pressed.x) < SLACK) return;
    if (event.pointerType === "touch") finish(null);
    else {
      start();
      show(event.clientX);
    }
  });
  strip.addEventListener("pointerup", (event) => finish(event.clientX));
  strip.addEventListener("pointercancel", () => finish(null));
  // A finger that drags does not scroll, nor open the menu of a long press.
  strip.addEventListener("touchmove", (event) => drag && event.cancelable && event.preventDefault(), { passive: false });
  strip.addEventListener("contextmenu", (event) => {
    if (!drag) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && drag) finish(null);
  });
}
