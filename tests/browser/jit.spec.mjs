// The fast tier beside the interpreter, on the wasm module itself in Node: random programs and our own guests, with every block compiled at once and at random thresholds. The whole state must be the same at every look.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { built, compare, debian, image, le, missing, numbers, root, start } from "../jit/programs.mjs";

/** A random instruction that neither moves EBX, ESI, EDI, ESP and EBP nor faults. @param {(n: number) => number} pick */
function instruction(pick) {
  const reg = pick(3);
  const modrm = (/** @type {number} */ r) => {
    switch (pick(4)) {
      case 0: return [0xc0 | (r << 3) | pick(3)];
      case 1: return [0x43 | (r << 3), pick(128)];
      case 2: return [0x46 | (r << 3), pick(256)];
      default: return [0x87 | (r << 3), ...le(pick(0x2000))];
    }
  };
  const byte = [0, 1, 2, 4, 5, 6][pick(6)];
  switch (pick(23)) {
    case 0: case 1: case 2: return [pick(8) * 8 + 1, ...modrm(reg)];
    case 3: case 4: return [pick(8) * 8 + 3, ...modrm(reg)];
    case 5: return [pick(8) * 8, ...modrm(byte)];
    case 6: return [pick(8) * 8 + 2, ...modrm(byte)];
    case 7: return [0x66, pick(8) * 8 + [1, 3][pick(2)], ...modrm(reg)];
    case 8: return [0x81, ...modrm(pick(8)), ...le(pick(2 ** 32))];
    case 9: return [0x80, ...modrm(pick(8)), pick(256)];
    case 10: return [[0x89, 0x8b, 0x88 + 0, 0x85][pick(2)], ...modrm(reg)];
    case 11: return [0x0f, [0xb6, 0xb7, 0xbe, 0xbf][pick(4)], ...modrm(reg)];
    case 12: return [0xc1, ...modrm([0, 1, 2, 3, 4, 5, 7][pick(7)]), pick(34)];
    case 13: return [0xd3, ...modrm([0, 1, 2, 3, 4, 5, 7][pick(7)])];
    case 14: return [0x0f, 0x90 | pick(16), ...modrm(0).map((v, i) => (i === 0 && v >= 0xc0 ? 0xc0 | byte : v))];
    case 15: return [0x0f, 0x40 | pick(16), ...modrm(reg)];
    case 16: return [[0x40, 0x48][pick(2)] | reg];
    case 17: return [[0xff, 0xfe][pick(2)], ...modrm(pick(2))];
    case 18: return [0xf7, ...modrm([2, 3, 4, 5][pick(4)])];
    case 19: return [0x0f, [0xaf, 0xbc, 0xbd, 0xa3, 0xab, 0xb3, 0xc1, 0xb1][pick(8)], ...(pick(2) ? modrm(reg) : [0xc0 | (reg << 3) | pick(3)])].flat();
    case 20: return [[0x50 | reg, 0x58 | reg], [0x9c, 0x58 | reg], [0x9f], [0x98], [0x99], [0xf8], [0xf9], [0xf5], [0x60, 0x61]][pick(9)];
    // Strings, in both directions.
    case 21: return [...[[], [], [0xfc], [0xfd]][pick(4)], ...(pick(3) ? [] : [0x66]), [0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xae][pick(8)]];
    default: return [0x0f, [0xa4, 0xac][pick(2)], 0xc0 | (pick(3) << 3) | reg, pick(34)];
  }
}

/** Blocks of random instructions with random jumps forward, in a loop. @param {number} seed */
function program(seed) {
  const pick = numbers(seed);
  const body = [];
  for (let block = 0; block < 12; block++) {
    const part = [];
    for (let n = pick(7); n >= 0; n--) part.push(...instruction(pick));
    if (pick(2)) body.push(0x70 | pick(16), part.length & 0x7f);
    body.push(...part.slice(0, 127));
  }
  const back = -(body.length + 7);
  return image([...start(400), ...body, 0x4d, 0x0f, 0x85, ...le(back), 0xeb, 0xfe]);
}

test("random programs leave the same state at every look", { skip: missing }, () => {
  let compiled = 0;
  for (let seed = 1; seed <= 24; seed++) {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: program(seed) };
    compiled += compare(setup, { jitThreshold: 0 }, 60_000, 700, seed).instructions;
  }
  assert.ok(compiled > 200_000, `${compiled} instructions ran compiled`);
});

/** Opcode and /digit of x87 instructions with a memory operand; FLDCW, FLDENV and FRSTOR apart. */
const X87_MEMORY = [0xd8, 0xda, 0xdc, 0xde].flatMap((op) => [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [op, n])).concat([
  [0xd9, 0], [0xd9, 0], [0xd9, 2], [0xd9, 3], [0xd9, 6], [0xd9, 7], [0xdb, 0], [0xdb, 0], [0xdb, 2], [0xdb, 3], [0xdb, 5], [0xdb, 7],
  [0xdd, 0], [0xdd, 0], [0xdd, 0], [0xdd, 2], [0xdd, 3], [0xdd, 7], [0xdf, 0], [0xdf, 2], [0xdf, 3], [0xdf, 4], [0xdf, 5], [0xdf, 6], [0xdf, 7],
]);
/** First and last second byte of x87 instructions on registers, by their first byte. */
const X87_REGISTERS = [
  [0xd8, 0xc0, 0xff], [0xd8, 0xc0, 0xff], [0xd9, 0xc0, 0xcf], [0xd9, 0xe0, 0xe1], [0xd9, 0xe4, 0xe5], [0xd9, 0xe8, 0xee], [0xd9, 0xf0, 0xff],
  [0xda, 0xc0, 0xdf], [0xda, 0xe9, 0xe9], [0xdb, 0xc0, 0xdf], [0xdb, 0xe2, 0xe3], [0xdb, 0xe8, 0xf7], [0xdc, 0xc0, 0xcf], [0xdc, 0xe0, 0xff],
  [0xdd, 0xc0, 0xc7], [0xdd, 0xd0, 0xdf], [0xdd, 0xe0, 0xef], [0xde, 0xc0, 0xcf], [0xde, 0xd9, 0xd9], [0xde, 0xe0, 0xff], [0xdf, 0xe0, 0xe0], [0xdf, 0xe8, 0xf7],
];

/** Random x87 instructions, with control words that mask everything most of the time. @param {number} seed */
function x87(seed) {
  const pick = numbers(seed);
  const one = () => {
    const at = pick(3) ? [0x43, pick(128)] : [0x86, ...le(0xff0 - pick(16))];
    switch (pick(12)) {
      case 0: {
        const control = [0x37f, 0x37f, 0x27f, 0x7f | (pick(16) << 8), 0x300 | pick(64)][pick(5)];
        return [0xc7, 0x03, ...le(control), 0xd9, 0x2b, ...(pick(2) ? [0xdb, 0xe2] : [])];
      }
      case 1: return [[0x9b], [0xdb, 0xe3], [0xd9, 0x73, 0], [0xdd, 0x73, 0, 0xdd, 0x63, 0], [0x83, 0xc0, pick(256)]][pick(5)];
      case 2: case 3: return instruction(pick);
      case 4: case 5: case 6: case 7: case 8: {
        const [first, n] = X87_MEMORY[pick(X87_MEMORY.length)];
        return [...(pick(16) ? [] : [0x65]), first, at[0] | (n << 3), ...at.slice(1)];
      }
      default: {
        const [first, from, to] = X87_REGISTERS[pick(X87_REGISTERS.length)];
        return [first, from + pick(to - from + 1)];
      }
    }
  };
  const body = [];
  for (let block = 0; block < 10; block++) {
    const part = [];
    while (part.length < 100) part.push(...one());
    if (pick(2)) body.push(0x0f, 0x80 | pick(16), ...le(part.length));
    body.push(...part);
  }
  // A page of the operands' may be gone from the TLB: CR3 is loaded each round.
  const flush = [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8];
  return image([...start(60), 0xdb, 0xe3, ...body, ...flush, 0x4d, 0x0f, 0x85, ...le(-(body.length + flush.length + 7)), 0xeb, 0xfe]);
}

test("random x87 programs leave the same state at every look", { skip: missing }, () => {
  let compiled = 0;
  for (let seed = 1; seed <= Number(process.env.TAB86_SEEDS ?? 16); seed++) {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: x87(seed) };
    compiled += compare(setup, { jitThreshold: 0 }, 12_000, 300, seed).instructions;
  }
  assert.ok(compiled > 50_000, `${compiled} instructions ran compiled`);
});

/** Prefix and second opcode byte of SSE and SSE2 instructions, with an immediate or not; memory operands are aligned or not. */
const SSE = [
  ...[0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x28, 0x29, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5c, 0x5e].flatMap((op) => [[0, op], [0x66, op]]),
  ...[0x10, 0x11, 0x51, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f].flatMap((op) => [[0xf2, op], [0xf2, op], [0xf3, op]]),
  ...[0x6e, 0x6f, 0x7e, 0x7f, 0xd6].map((op) => [0x66, op]), [0xf3, 0x6f], [0xf3, 0x7e], [0xf3, 0x7f],
  ...Array.from({ length: 0x2e }, (_, i) => 0xd1 + i).filter((op) => ![0xd6, 0xd7, 0xe6, 0xe7, 0xf0, 0xf7].includes(op)).map((op) => [0x66, op]),
  ...Array.from({ length: 0x0e }, (_, i) => [0x66, 0x60 + i]), [0x66, 0x74], [0x66, 0x75], [0x66, 0x76],
  [0x66, 0x2e], [0x66, 0x2f], [0xf3, 0xe6],
  ...[0x70, 0xc6].flatMap((op) => [[0x66, op, 1], [0x66, op, 1]]), [0xf2, 0x70, 1], [0xf3, 0x70, 1], [0, 0xc6, 1],
];

/** Random SSE and MMX instructions. @param {number} seed */
function sse(seed) {
  const pick = numbers(seed);
  const one = () => {
    switch (pick(14)) {
      case 0: return instruction(pick);
      // MXCSR: what it is after inexact arithmetic, or a rounding mode.
      case 1: return [0xc7, 0x03, ...le([0x1fa0, 0x1fa0, 0x1f80, 0x1fbf, 0x1f80 | (pick(16) << 12) | (pick(2) << 6)][pick(5)]), 0x0f, 0xae, 0x13];
      case 2: return [0x66, 0x0f, 0x71 + pick(3), [0xd0, 0xf0, 0xe0][pick(2)] | pick(8), pick(70)];
      case 3: return [0x66, 0x0f, 0x73, [0xd8, 0xf8][pick(2)] | pick(8), pick(20)];
      case 4: return [[0x66, 0x0f, 0xd7, 0xc0 | pick(24)], [0x0f, 0x50, 0xc0 | pick(24)], [0x66, 0x0f, 0x50, 0xc0 | pick(24)], [0x0f, 0xfc + pick(3), 0xc0 | pick(64)]][pick(4)];
      // Numbers: CVTSI2SD, CVTTSD2SI.
      case 5: return [0xf2, 0x0f, ...[[0x2a, 0xc0 | (pick(8) << 3) | pick(3)], [0x2c, 0xc0 | (pick(3) << 3) | pick(8)]][pick(2)]];
      default: {
        const [prefix, op, immediate] = SSE[pick(SSE.length)];
        // The stores and loads with no register form.
        const memory = [0x12, 0x13, 0x16, 0x17].includes(op) && (prefix || op & 1) || op === 0x7e && prefix === 0x66 || op === 0x6e ? 1 : pick(2);
        // ESI is 4 below a page's end: unaligned, and across pages.
        const free = [0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x7e, 0xd6, 0x6e].includes(op) || (op !== 0x70 && prefix >= 0xf2);
        const modrm = memory ? (free && pick(2) ? [0x46, pick(24)] : [0x43, pick(8) * 16]) : [0xc0 | pick(8)];
        return [...(prefix ? [prefix] : []), 0x0f, op, modrm[0] | (pick(8) << 3), ...modrm.slice(1), ...(immediate ? [pick(256)] : [])];
      }
    }
  };
  const body = [];
  for (let block = 0; block < 10; block++) {
    const part = [];
    while (part.length < 100) part.push(...one());
    if (pick(2)) body.push(0x0f, 0x80 | pick(16), ...le(part.length));
    body.push(...part);
  }
  const enable = [0x0f, 0x20, 0xe0, 0x0d, ...le(0x600), 0x0f, 0x22, 0xe0, 0xdb, 0xe3];
  return image([...start(60), ...enable, ...body, 0x4d, 0x0f, 0x85, ...le(-(body.length + 7)), 0xeb, 0xfe]);
}

test("random SSE programs leave the same state at every look", { skip: missing }, () => {
  let compiled = 0;
  for (let seed = 1; seed <= Number(process.env.TAB86_SEEDS ?? 16); seed++) {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: sse(seed) };
    compiled += compare(setup, { jitThreshold: 0 }, 12_000, 300, seed).instructions;
  }
  assert.ok(compiled > 50_000, `${compiled} instructions ran compiled`);
});

for (const guest of ["hello", "mode13", "protected"]) {
  const none = missing || (existsSync(`${root}build/guests/${guest}.img`) ? false : "no guest: `cargo xtask guests` makes it");
  test(`guest ${guest} runs the same with every block compiled`, { skip: none }, () => {
    compare({ fda: { data: built(`guests/${guest}.img`) } }, { jitThreshold: 0 }, 30_000_000, 2_000_000, 1);
  });
}

const noDebian = missing || (existsSync(`${root}build/guests/debian-vmlinuz`) ? false : "no Debian guest: `cargo xtask guests` makes it");
test("the start of Debian is the same at random thresholds", { skip: noDebian }, () => {
  const figures = compare(debian(), { jitThreshold: 500, jitSeed: 12345 }, 150_000_000, 3_000_000, 3);
  assert.ok(figures.instructions > 100_000_000, `${figures.instructions} instructions ran compiled`);
});
