// The canvas: its size on the page, keyboard and mouse, full screen, and the keyboard of a phone.
import { connectInput } from "/pkg/tab86.js";
import { button, element } from "./elements.js";

/** @typedef {import("/pkg/tab86.js").Vm} Vm */

const canvas = element("screen", HTMLCanvasElement);
const panel = element("screen-panel", HTMLDivElement);
const hint = element("hint", HTMLSpanElement);
const phone = element("phone-keyboard", HTMLTextAreaElement);

/** A whole multiple is preferred to filling the room, unless it leaves more than this unused. */
const WORTH_FILLING = 0.7;
/** How far from a whole multiple a factor may be to look crisp. */
const NEARLY_WHOLE = 0.02;

const TEXT_80_BY_25 = { width: 720, height: 400, aspect: 4 / 3, text: true };
let screen = TEXT_80_BY_25;

/** Fits the picture into its panel: right aspect, whole multiples of device pixels where that wastes little. */
function fit() {
  const [roomWidth, roomHeight] = [panel.clientWidth, panel.clientHeight];
  if (roomWidth === 0 || roomHeight === 0) return;
  const widest = Math.min(roomWidth, roomHeight * screen.aspect) * devicePixelRatio;
  const multiple = Math.floor(widest / screen.width);
  const crisp = multiple >= 1 && multiple * screen.width >= widest * WORTH_FILLING;
  const width = crisp ? multiple * screen.width : Math.floor(widest);
  const height = Math.round(width / screen.aspect);
  canvas.style.width = `${width / devicePixelRatio}px`;
  canvas.style.height = `${height / devicePixelRatio}px`;
  const whole = [width / screen.width, height / screen.height].every((f) => f >= 1 && Math.abs(f - Math.round(f)) < NEARLY_WHOLE);
  // Between whole multiples, single rows and columns would double: smooth is better, unless pixels are large.
  canvas.style.imageRendering = whole || width >= 2 * screen.width ? "pixelated" : "auto";
}

/**
 * The page's own chord, QEMU's, too: it takes the keyboard from the machine and gives it back.
 * @param {KeyboardEvent} event
 */
export const isHostChord = (event) => event.ctrlKey && event.altKey && event.code === "KeyG";

/** @param {() => Vm | null} current @param {(error: unknown) => void} fail */
export function setUpScreen(current, fail) {
  connectInput(canvas, current, { keepKey: isHostChord });
  const grab = async () => {
    canvas.focus();
    try {
      await canvas.requestPointerLock();
    } catch {
      hint.textContent = "The browser did not give the mouse away: click once more.";
    }
  };
  // In text modes a click is for the keyboard; the button takes the mouse for programs that use it there.
  canvas.addEventListener("click", () => !screen.text && current() && !document.pointerLockElement && void grab());
  button("mouse").addEventListener("click", () => void grab());
  document.addEventListener("pointerlockchange", showHint);
  canvas.addEventListener("focus", showHint);
  canvas.addEventListener("blur", showHint);
  new ResizeObserver(fit).observe(panel);
  setUpFullScreen(fail);
  setUpPhoneKeyboard(current, fail);
  fit();
}

function showHint() {
  if (document.pointerLockElement === canvas) hint.textContent = "The machine has the mouse: Esc gives it back.";
  else if (document.activeElement === canvas) hint.textContent = screen.text ? "Keys go to the machine. Ctrl+Alt+G leaves it." : "Click the screen for the mouse. Ctrl+Alt+G leaves the keyboard.";
  else hint.textContent = "Click the screen to type.";
}

/** @param {{ width: number, height: number, aspect: number, text: boolean } | null} next the machine's video mode, once it has one */
export function showMode(next) {
  screen = next ?? TEXT_80_BY_25;
  element("mode", HTMLSpanElement).textContent = next ? `${next.width}×${next.height}${next.text ? " text" : ""}` : "";
  showHint();
  fit();
}

export function focusScreen() {
  canvas.focus({ preventScroll: true });
}

/** Takes keyboard and mouse from the machine: what is held down is let go. */
export function releaseInput() {
  canvas.blur();
  phone.blur();
  if (document.pointerLockElement === canvas) document.exitPointerLock();
}

/** @param {(error: unknown) => void} fail */
function setUpFullScreen(fail) {
  const control = button("full");
  control.hidden = !document.fullscreenEnabled;
  control.addEventListener("click", async () => {
    try {
      await panel.requestFullscreen();
      // Esc, Tab and the like reach the machine, where the browser can do that.
      await /** @type {any} */ (navigator).keyboard?.lock?.();
    } catch (error) {
      fail(error);
    }
    canvas.focus();
  });
}

/**
 * A phone shows its keyboard only for a text field: what is typed there is typed in the machine.
 * @param {() => Vm | null} current @param {(error: unknown) => void} fail
 */
function setUpPhoneKeyboard(current, fail) {
  const type = (/** @type {string} */ text) => void current()?.typeText(text).catch(fail);
  button("keyboard").addEventListener("click", () => phone.focus());
  canvas.addEventListener("click", () => matchMedia("(pointer: coarse)").matches && phone.focus());
  /** @type {Record<string, string>} */
  const special = { deleteContentBackward: "\b", insertLineBreak: "\n", insertParagraph: "\n" };
  phone.addEventListener("beforeinput", (event) => {
    if (event.inputType in special) {
      event.preventDefault();
      type(special[event.inputType]);
    }
  });
  phone.addEventListener("input", (event) => {
    if (/** @type {InputEvent} */ (event).isComposing) return;
    type(phone.value);
    phone.value = "";
  });
  phone.addEventListener("compositionend", () => {
    type(phone.value);
    phone.value = "";
  });
  // Keys that type nothing (arrows, function keys of a real keyboard) go as they are.
  phone.addEventListener("keydown", (event) => {
    if (event.key.length > 1 && event.code && !["Enter", "Backspace", "Unidentified", "Process"].includes(event.key) && !/^(Shift|Alt|Control|Meta)/.test(event.code)) {
      event.preventDefault();
      current()?.sendKeys([event.code]);
    }
  });
}
