// Data beside code, in the fast tier beside the interpreter: random programs that store with every width into the pages that they
// run in, between their functions, across granules and pages, and into the immediates of the functions that they call.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DATA, LOAD, compare, image, le, missing, numbers } from "../jit/programs.mjs";

/** The program's own pages: code from LOAD on, functions from FUNCTIONS on, the stack between them. */
const FUNCTIONS = 0x1000;
const STACK = 0xff0;
const END = 0x2fc0;
const ALIAS = 0x40000000;

/** A random program. @param {number} seed */
function program(seed) {
  const pick = numbers(seed);
  const paged = pick(2) === 1;
  // add edx, imm32; ret, wherever there is room: only the immediates may be stored to.
  const functions = new Set([0, 1, 2, 3, 4, 5, 6, 7].map((n) => FUNCTIONS + n * 0x400 + pick(0x3f8)));
  const opcodes = new Set([...functions].flatMap((at) => [at, at + 1, at + 6]));
  const immediates = [...functions].map((at) => at + 2);
  /** Where `width` bytes may be stored. */
  const place = (/** @type {number} */ width) => {
    for (;;) {
      const near = [immediates[pick(8)] + pick(20) - 10, FUNCTIONS + 64 * pick(124) - pick(16), 0x2000 - pick(16), FUNCTIONS + pick(0x1fb0)][pick(4)];
      const at = pick(3) ? near : near & -width;
      if (at < FUNCTIONS || at + width > END) continue;
      if (!Array.from({ length: width }, (_, i) => at + i).some((byte) => opcodes.has(byte))) return at;
    }
  };
  const base = paged && pick(2) ? ALIAS + LOAD : LOAD;
  /** A memory operand with /r: through EBX, ESI (an alias when paged), or absolute. */
  const operand = (/** @type {number} */ reg, /** @type {number} */ width) => {
    const at = place(width);
    const through = [[0x83, at], [0x86, at], [0x05, LOAD + at]][pick(3)];
    return [through[0] | (reg << 3), ...le(through[1])];
  };
  const store = () => {
    const reg = pick(3);
    const byte = [0, 1, 2, 4, 5, 6][pick(6)];
    switch (pick(20)) {
      case 0: return [0x88, ...operand(byte, 1)];
      case 1: return [0x66, 0x89, ...operand(reg, 2)];
      case 2: case 3: return [0x89, ...operand(reg, 4)];
      case 4: return [0xc6, ...operand(0, 1), pick(256)];
      case 5: return [0xc7, ...operand(0, 4), ...le(pick(2 ** 32))];
      case 6: return [pick(7) * 8, ...operand(byte, 1)];
      case 7: return [0x66, pick(7) * 8 + 1, ...operand(reg, 2)];
      case 8: case 9: return [pick(7) * 8 + 1, ...operand(reg, 4)];
      case 10: return [0xff, ...operand(pick(2), 4)];
      case 11: return [[0x0f, 0x90 | pick(16)], [0x0f, 0xb0], [0x0f, 0xc0]][pick(3)].concat(operand(byte & 3, 1));
      case 12: return [...[[0x87], [0x0f, 0xb1], [0x0f, 0xc1], [0x0f, 0xab]][pick(4)], ...operand(reg, 4)];
      case 13: return [0xc1, ...operand([0, 1, 4, 5, 7][pick(5)], 4), pick(34)];
      case 14: return [...[[0x0f, 0x11], [0x66, 0x0f, 0x11], [0xf3, 0x0f, 0x7f]][pick(3)], ...operand(pick(8), 16)];
      case 15: return [...[[0x66, 0x0f, 0xd6], [0xf2, 0x0f, 0x11], [0x0f, 0x13], [0x0f, 0x17]][pick(4)], ...operand(pick(8), 8)];
      case 16: return [...[[0xf3, 0x0f, 0x11], [0x66, 0x0f, 0x7e]][pick(2)], ...operand(pick(3), 4)];
      case 17: {
        const [op, n, width] = [[0xd9, 3, 4], [0xdd, 3, 8], [0xdf, 3, 2], [0xdb, 3, 4], [0xdf, 7, 8], [0xdb, 7, 10], [0xd9, 7, 2]][pick(7)];
        return [...(n === 7 && op === 0xd9 ? [] : [0xd9, [0xe8, 0xeb, 0xee][pick(3)]]), op, ...operand(n, width)];
      }
      case 18: {
        const count = 1 + pick(24);
        const [op, width] = [[[0xaa], 1], [[0xab], 4], [[0xa4], 1], [[0xa5], 4]][pick(4)];
        if (pick(2)) return [0x57, 0x56, 0xbf, ...le(base + place(4)), 0xbe, ...le(DATA), ...op, 0x5e, 0x5f];
        return [0x51, 0x57, 0x56, 0xb9, ...le(count), 0xbf, ...le(base + place(count * width)), 0xbe, ...le(DATA), 0xf3, ...op, 0x5e, 0x5f, 0x59];
      }
      default: return [[0x50 | reg, 0x58 | pick(3)], [0x8b, ...operand(reg, 4)], [0x03, ...operand(reg, 4)], [0x0f, 0x10, ...operand(pick(8), 16)]][pick(4)];
    }
  };
  const stores = (/** @type {number} */ n) => Array.from({ length: n }, store).flat();
  const body = [];
  const calls = pick(4);
  for (let block = 0; block < 8; block++) {
    // A loop of its own: mov edi, n; …; dec edi; jnz
    const inner = stores(2 + pick(4));
    body.push(0xbf, ...le(1 + pick(6)), ...inner, 0x4f, 0x0f, 0x85, ...le(-(inner.length + 7)), ...stores(pick(4)));
    // EAX becomes a function's address, and what is stored to immediates is often the same.
    if (pick(4) < calls) body.push(0xb8, ...le((pick(2) ? base : LOAD) + [...functions][pick(8)]), 0xff, 0xd0);
    if (pick(8) === 0) body.push(0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8);
    if (pick(8) === 0) body.push(0x0f, 0x01, 0xbb, ...le(pick(END)));
  }
  const paging = [
    0xc7, 0x05, ...le(DATA + 0x1000), ...le(0x83), 0xc7, 0x05, ...le(DATA + 0x1000 + 4 * 256), ...le(0x83),
    0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x10, 0x0f, 0x22, 0xe0, 0xb8, ...le(DATA + 0x1000), 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xc0, 0x0d, ...le(0x80000000), 0x0f, 0x22, 0xc0,
  ];
  const sse = [0x0f, 0x20, 0xe0, 0x0d, ...le(0x600), 0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xc0, 0x24, 0xf3, 0x0f, 0x22, 0xc0, 0xdb, 0xe3];
  const code = [
    ...(paged ? paging : []), ...sse, 0xbc, ...le(LOAD + STACK), 0xbb, ...le(base), 0xbe, ...le(LOAD), 0xbd, ...le(150),
    0xb9, ...le(0x9abcdef0), 0xba, ...le(0x0f1e2d3c), ...body, 0x4d, 0x0f, 0x85, ...le(-(body.length + 7)), 0xeb, 0xfe,
  ];
  assert.ok(code.length < STACK - 32 - 128, `${code.length} bytes`);
  const bytes = [...code, ...Array(END - 32 - code.length).fill(0)];
  for (const at of functions) [0x81, 0xc2, ...le(pick(2 ** 32)), 0xc3].forEach((byte, i) => (bytes[at - 32 + i] = byte));
  return image(bytes);
}

test("random programs that store beside their code leave the same state at every look", { skip: missing }, () => {
  let [compiled, translated] = [0, 0];
  for (let seed = 1; seed <= Number(process.env.TAB86_SEEDS ?? 24); seed++) {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: program(seed) };
    const figures = compare(setup, { jitThreshold: seed & 1 ? 0 : 40, jitSeed: seed & 2 ? seed : 0 }, 40_000, 600, seed);
    compiled += figures.instructions;
    translated += figures.translated;
  }
  assert.ok(compiled > 100_000, `${compiled} instructions ran compiled`);
  assert.ok(translated > 100, `${translated} regions: code was overwritten`);
});
