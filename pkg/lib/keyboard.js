// A US keyboard: from characters to the keys (KeyboardEvent.code) that type them.

const SHIFT = "ShiftLeft";

/** Key, character without and with Shift. */
const KEYS = [
  ["Backquote", "`~"], ["Digit1", "1!"], ["Digit2", "2@"], ["Digit3", "3#"], ["Digit4", "4$"], ["Digit5", "5%"],
  ["Digit6", "6^"], ["Digit7", "7&"], ["Digit8", "8*"], ["Digit9", "9("], ["Digit0", "0)"], ["Minus", "-_"],
  ["Equal", "=+"], ["BracketLeft", "[{"], ["BracketRight", "]}"], ["Backslash", "\\|"], ["Semicolon", ";:"],
  ["Quote", "'\""], ["Comma", ",<"], ["Period", ".>"], ["Slash", "/?"], ["Space", " "], ["Tab", "\t"], ["Enter", "\n"],
  ["Backspace", "\b"], ["Escape", "\x1b"],
];

/** @type {Map<string, string[]>} */
const BY_CHARACTER = new Map([["\r", ["Enter"]]]);
for (const [code, [plain, shifted]] of KEYS) {
  BY_CHARACTER.set(plain, [code]);
  if (shifted) BY_CHARACTER.set(shifted, [SHIFT, code]);
}
for (const letter of "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  BY_CHARACTER.set(letter.toLowerCase(), [`Key${letter}`]);
  BY_CHARACTER.set(letter, [SHIFT, `Key${letter}`]);
}

/**
 * The keys that type a text, one list per character; what a US keyboard lacks is left out.
 * @param {string} text
 */
export function keysOf(text) {
  return [...text.replaceAll("\r\n", "\n")].map((character) => BY_CHARACTER.get(character) ?? []).filter((keys) => keys.length);
}
