// What compiled x87 and SSE code asks before it computes: whether the unit is switched on (#NM, #UD) and whether an exception
// is pending or unmasked (#MF, #XM). Each program raises its exception in every round; a handler counts it in EDI and mends the
// state. The interpreter beside it must agree at every look. SDM vol. 3, 2.5 (CR0, CR4), 6.15 (interrupts 6, 7, 16 and 19).
import assert from "node:assert/strict";
import { test } from "node:test";
import { DATA, LOAD, compare, image, le, missing } from "../jit/programs.mjs";

const ROUNDS = 300;
const TABLES = LOAD + 0x3000;
const HANDLER = LOAD + 0x2000;
const [UD, NM, MF, XM] = [6, 7, 16, 19];

/** A program in segments of its own, with a handler for one exception; EBX points to data, EBP counts rounds. */
function program(/** @type {{ vector: number, handler: number[], setup?: number[], body: number[] }} */ { vector, handler, setup = [], body }) {
  const bytes = new Array(0x4000 - 32).fill(0);
  const put = (/** @type {number} */ at, /** @type {number[]} */ what) => what.forEach((v, i) => (bytes[at - LOAD - 32 + i] = v));
  // Null, code, data; then the IDT with one gate; then the two pointers.
  put(TABLES + 8, [0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0, 0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0]);
  put(TABLES + 0x100 + 8 * vector, [HANDLER & 255, (HANDLER >> 8) & 255, 8, 0, 0, 0x8e, (HANDLER >> 16) & 255, HANDLER >>> 24]);
  put(TABLES + 0x300, [0x17, 0, ...le(TABLES), 0, 0, 0xff, 0, ...le(TABLES + 0x100)]);
  put(HANDLER, [0x50, 0x47, ...handler, 0x58, 0xcf]);
  const begin = [0x0f, 0x01, 0x15, ...le(TABLES + 0x300), 0x0f, 0x01, 0x1d, ...le(TABLES + 0x308)];
  const segments = [0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0];
  const far = [0xea, ...le(LOAD + 32 + begin.length + 7), 8, 0];
  const state = [
    0xbc, ...le(DATA + 0x8000), 0xbb, ...le(DATA), 0x31, 0xff, 0xbd, ...le(ROUNDS),
    0x0f, 0x20, 0xc0, 0x83, 0xc8, 0x22, 0x83, 0xe0, 0xf3, 0x0f, 0x22, 0xc0, // CR0: NE and MP, no EM, no TS
    0x0f, 0x20, 0xe0, 0x0d, ...le(0x600), 0x0f, 0x22, 0xe0, 0xdb, 0xe3, // CR4: OSFXSR and OSXMMEXCPT; FNINIT
    ...[0x1000, 1, 3].flatMap((v, i) => [0xc7, 0x43, 4 * i, ...le(v)]), // [EBX]: integers
  ];
  const loop = [...body, 0x4d, 0x0f, 0x85, ...le(-(body.length + 7)), 0xeb, 0xfe];
  put(LOAD + 32, [...begin, ...far, ...segments, ...state, ...setup, ...loop]);
  return image(bytes);
}

const setCr0 = (/** @type {number} */ bits) => [0x0f, 0x20, 0xc0, 0x83, 0xc8, bits, 0x0f, 0x22, 0xc0];
const clearCr0 = (/** @type {number} */ bits) => [0x0f, 0x20, 0xc0, 0x83, 0xe0, 0xff ^ bits, 0x0f, 0x22, 0xc0];
const [EM, TS] = [4, 8];
const setCr4 = (/** @type {number} */ high) => [0x0f, 0x20, 0xe0, 0x80, 0xcc, high, 0x0f, 0x22, 0xe0];
const clearCr4 = (/** @type {number} */ high) => [0x0f, 0x20, 0xe0, 0x80, 0xe4, 0xff ^ high, 0x0f, 0x22, 0xe0];
const clts = [0x0f, 0x06];
/** MXCSR by way of [EBX + 20h]. */
const mxcsr = (/** @type {number} */ v) => [0xc7, 0x43, 0x20, ...le(v), 0x0f, 0xae, 0x53, 0x20];
/** The control word by way of [EBX + 24h]. */
const control = (/** @type {number} */ v) => [0xc7, 0x43, 0x24, ...le(v), 0xd9, 0x6b, 0x24];
const cvt = (/** @type {number} */ x, /** @type {number} */ at) => [0xf2, 0x0f, 0x2a, 0x43 | (x << 3), at];
const nop = [0x8d, 0x36];

/** x87 instructions that compiled code has; each leaves the stack as it was. FLD1 is below. */
const x87 = {
  "a register instruction": [0xd9, 0xe8, 0xdd, 0xd8], // fld1; fstp st0
  "a load": [0xdb, 0x03, 0xdd, 0xd8], // fild dword [ebx]; fstp st0
  "a store": [0xdd, 0x53, 0x40], // fst qword [ebx + 40h]
  "FWAIT": [0x9b],
};
/** SSE instructions that compiled code has. */
const sse = {
  "a move": [0x66, 0x0f, 0x6f, 0xc1], // movdqa xmm0, xmm1
  "a load": [0xf3, 0x0f, 0x6f, 0x53, 0x40], // movdqu xmm2, [ebx + 40h]
  "a store": [0xf3, 0x0f, 0x7f, 0x4b, 0x50], // movdqu [ebx + 50h], xmm1
  "integer arithmetic": [0x66, 0x0f, 0xfe, 0xc8], // paddd xmm1, xmm0
  "binary64 arithmetic": [0xf2, 0x0f, 0x58, 0xc9], // addsd xmm1, xmm1
};
// ZE unmasked in the control word; 1 / 0 leaves it pending.
const pend = [0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9]; // fld1; fldz; fdivp
const unmasked = control(0x37b);
const restart = [0xdb, 0xe3, ...unmasked]; // fninit; fldcw
const fld1 = [0xd9, 0xe8];
/** Arithmetic that is the host's where that shows in nothing; the rest is left to the interpreter. */
const arithmetic = { ADDSD: [0x58], MULSD: [0x59], SUBSD: [0x5c], DIVSD: [0x5e] };

/** What is tested: a program whose body raises its exception so many times. @type {Record<string, Parameters<typeof program>[0] & { times: number }>} */
const programs = {};
/** The bodies of all instructions of a kind, one behind the other. */
const each = (/** @type {Record<string, number[]>} */ of, /** @type {(code: number[]) => number[]} */ body) => ({
  body: Object.values(of).flatMap((code) => body(code)),
  times: Object.keys(of).length,
});
const list = (/** @type {object} */ of) => Object.keys(of).join(", ");

// MP is set, so FWAIT looks at TS. Something is on the stack.
programs[`#NM with CR0.TS (${list(x87)})`] = { vector: NM, handler: clts, setup: fld1, ...each(x87, (code) => [...setCr0(TS), ...nop, ...code]) };
const { FWAIT: _, ...computing } = x87;
programs[`#NM with CR0.EM (${list(computing)})`] = {
  vector: NM, handler: clearCr0(EM), setup: fld1, ...each(computing, (code) => [...setCr0(EM), ...nop, ...code]),
};
for (const [where, jump] of Object.entries({ "the same block": [], "the next block": [0xeb, 0] })) {
  programs[`#MF of the instruction before in ${where} (${list(x87)})`] = {
    vector: MF, handler: restart, setup: unmasked, ...each(x87, (code) => [...pend, ...jump, ...code, ...restart]),
  };
}
programs[`#NM with CR0.TS (${list(sse)})`] = { vector: NM, handler: clts, ...each(sse, (code) => [...setCr0(TS), ...nop, ...code]) };
programs[`#UD with CR0.EM (${list(sse)})`] = { vector: UD, handler: clearCr0(EM), ...each(sse, (code) => [...setCr0(EM), ...nop, ...code]) };
programs[`#UD without CR4.OSFXSR (${list(sse)})`] = {
  vector: UD, handler: setCr4(2), ...each(sse, (code) => [...clearCr4(2), ...nop, ...code]),
};
// 1e300 as binary32 overflows, with OM clear.
programs["#MF of a store that overflows"] = {
  vector: MF, times: 1, handler: [0xdb, 0xe2, ...control(0x37f)],
  setup: [0xc7, 0x43, 0x40, ...le(0x88008000), 0xc7, 0x43, 0x44, ...le(0x7e37e43c), 0xdd, 0x43, 0x40],
  body: [...control(0x377), 0xd9, 0x53, 0x48, 0x9b],
};
// 1/3 in XMM0, its ninth power in XMM2 and memory: inexact in all four. PE is raised already, and PM the only mask that is clear.
const operands = [
  ...mxcsr(0x1fa0), ...cvt(0, 4), ...cvt(1, 8), 0xf2, 0x0f, 0x5e, 0xc1, 0x66, 0x0f, 0x6f, 0xd0, 0xf2, 0x0f, 0x59, 0xd0, 0xf2, 0x0f, 0x59, 0xd2,
  0xf2, 0x0f, 0x59, 0xd2, 0xf2, 0x0f, 0x11, 0x53, 0x40,
];
const inexact = (/** @type {number[]} */ code) => [0x66, 0x0f, 0x6f, 0xd8, ...mxcsr(0x0fa0), ...code];
const registers = each(arithmetic, ([opcode]) => inexact([0xf2, 0x0f, opcode, 0xda]));
programs[`#XM (${list(arithmetic)}, inexact)`] = { vector: XM, handler: mxcsr(0x1fa0), setup: operands, ...registers };
programs[`#XM (${list(arithmetic)}, inexact, from memory)`] = {
  vector: XM, handler: mxcsr(0x1fa0), setup: operands, ...each(arithmetic, ([opcode]) => inexact([0xf2, 0x0f, opcode, 0x5b, 0x40])),
};
// Without OSXMMEXCPT the same is #UD.
programs[`#UD without CR4.OSXMMEXCPT (${list(arithmetic)}, inexact)`] = {
  vector: UD, handler: mxcsr(0x1fa0), setup: [...operands, ...clearCr4(4)], ...registers,
};
// XMM3 is 0 and ZM clear, everything else as the host's arithmetic wants it.
programs["#XM (DIVSD by zero)"] = {
  vector: XM, times: 1, handler: mxcsr(0x1fa0), setup: cvt(0, 4),
  body: [0x66, 0x0f, 0x6f, 0xd0, 0x66, 0x0f, 0xef, 0xdb, ...mxcsr(0x1da0), 0xf2, 0x0f, 0x5e, 0xd3],
};

for (const [name, what] of Object.entries(programs)) {
  test(`compiled code raises ${name}`, { skip: missing }, () => {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: program(what) };
    const { state, instructions } = compare(setup, { jitThreshold: 0 }, 90_000, 2500, 5);
    assert.equal(Number(state[10]), 0, "EBP: it went through all rounds");
    assert.equal(Number(state[12]), what.times * ROUNDS, "EDI: each of them in each round");
    assert.ok(instructions > ROUNDS, `${instructions} instructions ran compiled`);
  });
}
