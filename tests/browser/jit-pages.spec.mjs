// Code that goes over the borders of pages, in the fast tier beside the interpreter: what is behind a border may be another page the
// next time. The whole state must be the same at every look, and EDX what the additions that ran make it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DATA, OTHER, compare, image, le, missing, start } from "../jit/programs.mjs";

const ROUNDS = 3000;
const FIRST = 0x0f1e2d3c;
/** Page directory, page table and IDT, in the first 4 MiB. */
const [DIRECTORY, TABLE, IDT] = [DATA + 0x20000, DATA + 0x21000, DATA + 0x22000];
/** Linear pages that are mapped anew, and memory for them. */
const FREE = OTHER + 0x40000;

/** Stores bytes, four at a time. @param {number} to @param {number[]} bytes */
const poke = (to, bytes) => Array.from({ length: Math.ceil(bytes.length / 4) }, (_, i) => {
  const word = Array.from({ length: 4 }, (_, n) => bytes[4 * i + n] ?? 0x90);
  return [0xc7, 0x05, ...le(to + 4 * i), ...word];
}).flat();
/** mov dword [to], value @param {number} to @param {number} value */
const set = (to, value) => [0xc7, 0x05, ...le(to), ...le(value)];
/** The page table's entry of a linear page. */
const entry = (/** @type {number} */ linear) => TABLE + (linear >> 12) * 4;
const invlpg = (/** @type {number} */ linear) => [0x0f, 0x01, 0x3d, ...le(linear)];
/** add edx, n */
const add = (/** @type {number} */ n) => [0x81, 0xc2, ...le(n)];
/** A jump or call from where its five bytes are. */
const to = (/** @type {number} */ code, /** @type {number} */ from, /** @type {number} */ target) => [code, ...le(target - from - 5)];
/** dec ebp; jnz target */
const again = (/** @type {number} */ from, /** @type {number} */ target) => [0x4d, 0x0f, 0x85, ...le(target - from - 7)];
const jump = (/** @type {number} */ target) => [0xb9, ...le(target), 0xff, 0xe1];
/** Paging with pages of 4 KiB, each where it is, for the first 4 MiB. */
const paging = [
  0x57, 0xbf, ...le(TABLE), 0xb8, ...le(3), 0xb9, ...le(1024), 0xab, 0x05, ...le(0x1000), 0xe2, 0xf8, 0x5f,
  ...set(DIRECTORY, TABLE | 3), 0xb8, ...le(DIRECTORY), 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xc0, 0x0d, ...le(0x80000000), 0x0f, 0x22, 0xc0,
];
const BORDER = OTHER + 0x1000;

/** @type {Record<string, { code: number[], sum: number }>} */
const cases = {
  "an instruction across a border": {
    code: [...poke(BORDER - 4, [0x90, ...add(5), ...again(BORDER + 3, BORDER - 4), 0xeb, 0xfe]), ...jump(BORDER - 4)],
    sum: 5 * ROUNDS,
  },
  "a jump across a border": {
    code: [
      ...poke(BORDER - 4, [0x90, ...to(0xe9, BORDER - 3, BORDER - 0x800)]), ...poke(BORDER - 0x800, [...add(3), ...again(BORDER - 0x7fa, BORDER - 4), 0xeb, 0xfe]),
      ...jump(BORDER - 4),
    ],
    sum: 3 * ROUNDS,
  },
  "a call across a border, with its return address behind": {
    code: [
      ...poke(BORDER - 3, [0x90, ...to(0xe8, BORDER - 2, BORDER - 0x800), ...again(BORDER + 3, BORDER - 3), 0xeb, 0xfe]),
      ...poke(BORDER - 0x800, [...add(3), 0xc3]), ...jump(BORDER - 3),
    ],
    sum: 3 * ROUNDS,
  },
  "a loop through three pages": {
    code: [
      ...poke(BORDER + 0x100, [...add(1), ...to(0xe9, BORDER + 0x106, BORDER + 0x1100)]),
      ...poke(BORDER + 0x1100, [...add(2), ...to(0xe9, BORDER + 0x1106, BORDER - 0xf00)]),
      ...poke(BORDER - 0xf00, [...add(4), ...again(BORDER - 0xefa, BORDER + 0x100), 0xeb, 0xfe]), ...jump(BORDER + 0x100),
    ],
    sum: 7 * ROUNDS,
  },
  // The border lies in the constant, and what changes it in either page.
  "an instruction across a border that is changed": {
    code: [
      ...poke(BORDER - 5, [0x90, ...add(0), 0xff, 0x05, ...le(BORDER - 2), ...again(BORDER + 8, BORDER - 5), 0xeb, 0xfe]), ...jump(BORDER - 5),
    ],
    sum: (ROUNDS * (ROUNDS - 1)) / 2,
  },
  "the second page is changed": {
    code: [
      ...poke(BORDER - 6, [0xff, 0x05, ...le(BORDER + 2)]), ...poke(BORDER, [...add(0), ...again(BORDER + 6, BORDER - 6), 0xeb, 0xfe]),
      ...jump(BORDER - 6),
    ],
    sum: (ROUNDS * (ROUNDS + 1)) / 2,
  },
  // xor dword [entry], difference; invlpg; and on into the page, which adds 1 or 1000.
  "the second page is another one each time": (() => {
    const second = (/** @type {number} */ n) => [...add(n), ...again(BORDER + 6, BORDER - 18), 0xeb, 0xfe];
    return {
      code: [
        ...poke(BORDER - 18, [0x81, 0x35, ...le(entry(BORDER)), ...le(BORDER ^ FREE), ...invlpg(BORDER), 0x90]),
        ...poke(BORDER, second(1)), ...poke(FREE, second(1000)), ...paging, ...jump(BORDER - 18),
      ],
      sum: (1001 * ROUNDS) / 2,
    };
  })(),
  // One page under two addresses, with other pages behind it; the instruction across the border has the rest of its constant there.
  "one page with two successors": (() => {
    const [alias, behind] = [FREE, FREE + 0x1000];
    return {
      code: [
        ...poke(BORDER - 5, [0x90, ...add(5).slice(0, 4)]), ...poke(BORDER, [...add(5).slice(4), 0xc3]), ...poke(behind, [...add(0x10005).slice(4), 0xc3]),
        ...paging, ...set(entry(alias), (BORDER - 0x1000) | 3), ...invlpg(alias), 0xbe, ...le(BORDER - 5), 0xbf, ...le(alias + 0xffb),
        0xff, 0xd6, 0xff, 0xd7, 0x4d, 0x75, 0xf9,
      ],
      sum: (5 + 0x10005) * ROUNDS,
    };
  })(),
  // The page behind is not there: the handler of the page fault (error code, address) brings it back, and adds 100.
  "the second page is missing each time": (() => {
    const handler = OTHER + 0x2800;
    return {
      code: [
        ...poke(handler, [0x83, 0xc4, 0x04, ...add(100), 0x80, 0x0d, ...le(entry(BORDER)), 0x01, 0xcf]), // add esp, 4; …; or [entry], 1; iret
        ...poke(BORDER - 17, [0x80, 0x25, ...le(entry(BORDER)), 0xfe, ...invlpg(BORDER), 0x90, 0x81, 0xc2]), // and [entry], ~1; …; add edx,
        ...poke(BORDER, [...le(7), ...again(BORDER + 4, BORDER - 17), 0xeb, 0xfe]),
        ...paging, 0x8c, 0xc8, 0xc1, 0xe0, 0x10, 0x66, 0xb8, ...le(handler).slice(0, 2), 0xa3, ...le(IDT + 14 * 8), // CS and the offset
        ...set(IDT + 14 * 8 + 4, (handler & 0xffff0000) | 0x8e00), ...set(IDT + 0x800, 0x7ff | (IDT & 0xffff) << 16), ...set(IDT + 0x804, IDT >>> 16),
        0x0f, 0x01, 0x1d, ...le(IDT + 0x800), ...jump(BORDER - 17),
      ],
      sum: 107 * ROUNDS,
    };
  })(),
};

for (const [name, { code, sum }] of Object.entries(cases)) {
  test(`code over the borders of pages: ${name}`, { skip: missing }, () => {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: image([...start(ROUNDS), ...code, 0xeb, 0xfe]) };
    for (const threshold of [0, 40]) {
      const { state, translated } = compare(setup, { jitThreshold: threshold }, 90_000, 3000, 7);
      assert.equal(Number(state[7]), (FIRST + sum) % 2 ** 32, "EDX");
      assert.ok(translated > 0, `${translated} regions`);
    }
  });
}
