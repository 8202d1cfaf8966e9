// A guest with any number of hot functions: they are copies of one, each with constants of its own, and called in turn. What it
// has done it tells with a byte on the serial port after each so many calls.
import { LOAD, le } from "../../jit/programs.mjs";

/** Where the functions are. */
const FUNCTIONS = 0x400000;
const COM1 = 0x3f8;

/** The function: `loops` rounds of some arithmetic with a branch; two constants are the function's own. @param {number} loops */
function body(loops) {
  const round = [
    0x05, 0, 0, 0, 0, // add eax, own
    0xc1, 0xc0, 0x03, // rol eax, 3
    0x31, 0xc2, // xor edx, eax
    0xa8, 0x01, // test al, 1
    0x74, 0x02, // jz +2
    0x43, 0x43, // inc ebx; inc ebx
    0x8d, 0xbc, 0x42, 0, 0, 0, 0, // lea edi, [edx + eax*2 + own]
    0x49, // dec ecx
  ];
  return { code: [0xb9, ...le(loops), ...round, 0x75, -(round.length + 2) & 255, 0xc3], own: [6, 24] };
}
/** Instructions of a call of it, on average, with those around the call. */
export const instructionsOf = (/** @type {number} */ loops) => 1 + loops * 9 + 1 + 6;

/**
 * A Multiboot image.
 * @param {{ functions: number, stride: number, loops: number, calls: number, rewrite?: number, places?: number, every?: number }} options
 *   `functions` of them, `stride` bytes apart; a byte after each `calls` calls. With `rewrite` others are called after so many
 *   bytes, in the next of `places` areas; in one round of `every` through the areas they are written anew before, with other
 *   constants.
 */
export function regions({ functions, stride, loops, calls, rewrite = 0, places = 1, every = 1 }) {
  const { code: copy, own } = body(loops);
  const area = functions * stride;
  /** @type {number[]} */ const code = [];
  const at = () => LOAD + 32 + code.length;
  const put = (/** @type {number[]} */ ...bytes) => code.push(...bytes);
  // Variables lie behind the program; EBP counts calls.
  const VARIABLES = LOAD + 0x4000;
  const [BEGIN, END, SEED, LEFT, PLACE, ROUND] = [0, 4, 8, 12, 16, 20].map((offset) => VARIABLES + offset);
  const TEMPLATE = VARIABLES + 64;
  put(0xbc, ...le(LOAD + 0x8000)); // mov esp
  for (const [i, byte] of copy.entries()) put(0xc6, 0x05, ...le(TEMPLATE + i), byte);
  put(0xc7, 0x05, ...le(SEED), ...le(0x1234567));
  put(0xc7, 0x05, ...le(PLACE), ...le(places - 1));
  put(0xc7, 0x05, ...le(ROUND), ...le(every - 1));
  const write = at();
  /** Counts up a variable modulo `limit` and leaves it in EAX. */
  const count = (/** @type {number} */ variable, /** @type {number} */ limit) => [0xa1, ...le(variable), 0x40, 0x3d, ...le(limit), 0x72, 0x02, 0x31, 0xc0, 0xa3, ...le(variable)];
  const round = count(ROUND, every);
  put(...count(PLACE, places), 0x85, 0xc0, 0x75, round.length, ...round, 0xa1, ...le(PLACE)); // with place 0 the next round begins
  put(0x69, 0xc0, ...le(area), 0x05, ...le(FUNCTIONS), 0xa3, ...le(BEGIN), 0x89, 0xc3, 0x05, ...le(area), 0xa3, ...le(END)); // ebx: function
  put(0xc7, 0x05, ...le(LEFT), ...le(rewrite));
  put(0x83, 0x3d, ...le(ROUND), 0, 0x0f, 0x85, ...le(0)); // cmp [round], 0; jne outer
  const kept = code.length;
  const next = at();
  put(0xbe, ...le(TEMPLATE), 0x89, 0xdf, 0xb9, ...le(copy.length), 0xfc, 0xf3, 0xa4); // rep movsb
  put(0x81, 0x05, ...le(SEED), ...le(0x9e3779b9), 0xa1, ...le(SEED)); // add [seed], …; mov eax, [seed]
  for (const offset of own) put(0x89, 0x43, offset); // mov [ebx + own], eax
  put(0x81, 0xc3, ...le(stride), 0x3b, 0x1d, ...le(END)); // add ebx, stride; cmp ebx, [end]
  put(0x72, (next - at() - 2) & 255); // jb next
  const outer = at();
  code.splice(kept - 4, 4, ...le(code.length - kept));
  put(0x8b, 0x35, ...le(BEGIN), 0xbd, ...le(calls)); // mov esi, [begin]; mov ebp, calls
  const call = at();
  put(0xff, 0xd6, 0x81, 0xc6, ...le(stride), 0x3b, 0x35, ...le(END), 0x72, 0x06, 0x8b, 0x35, ...le(BEGIN)); // call esi; next one
  put(0x4d, 0x75, (call - at() - 3) & 255); // dec ebp; jnz call
  put(0x50, 0x52, 0xba, ...le(COM1), 0xb0, 0x2e, 0xee, 0x5a, 0x58); // out COM1, "."
  put(0xff, 0x0d, ...le(LEFT)); // dec [left]
  put(0x0f, 0x84, ...le(write - at() - 6), 0xe9, ...le(outer - at() - 5)); // jz write; jmp outer
  if (code.length > VARIABLES - LOAD - 32) throw new Error("the program is longer than its place");
  const flags = 1 << 16;
  const head = new Int32Array([0x1badb002, flags, -(0x1badb002 + flags), LOAD, LOAD, LOAD + 32 + code.length, LOAD + 0x10000, LOAD + 32]);
  return Buffer.from([...new Uint8Array(head.buffer), ...code]);
}
/** Bytes of memory that its guest needs. */
export const memoryOf = ({ functions, stride, places = 1 }) => Math.max(32, 1 << Math.ceil(Math.log2((FUNCTIONS + functions * stride * places) / 2 ** 20 + 4))) << 20;
