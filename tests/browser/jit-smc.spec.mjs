// Code that changes itself, in the fast tier beside the interpreter: each case changes an instruction's immediate and runs it, many
// times over. The whole state must be the same at every look, and EDX, the sum of what ran, what the changes make it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DATA, LOAD, OTHER, compare, image, le, missing, start } from "../jit/programs.mjs";

const ROUNDS = 3000;
/** Where code behind `start` is. */
const HERE = LOAD + 32 + start(0).length;
const GRANULE = OTHER + 0x140;
/** Writes mov eax, imm; add edx, eax; ret there, and its address into ECX. */
const granule = [0xc7, 0x05, ...le(GRANULE), ...le(0x000000b8), 0xc7, 0x05, ...le(GRANULE + 4), ...le(0xc3c20100), 0xb9, ...le(GRANULE)];
const cases = {
  // inc dword [imm of mov eax below]; mov eax, imm; add edx, eax; dec ebp; jnz
  "the next instruction": () => [0xff, 0x05, ...le(HERE + 7), 0xb8, 0, 0, 0, 0, 0x01, 0xc2, 0x4d, 0x75, 0xf0],
  // call f; inc dword [imm in f]; dec ebp; jnz; jmp $; f: mov eax, imm; add edx, eax; ret
  "its own page": () => {
    const f = HERE + 5 + 6 + 3 + 2;
    return [0xe8, 0x0b, 0, 0, 0, 0xff, 0x05, ...le(f + 1), 0x4d, 0x75, 0xf2, 0xeb, 0xfe, 0xb8, 0, 0, 0, 0, 0x01, 0xc2, 0xc3];
  },
  // Another page: the function is written there first.
  "another page": () => [
    0xc7, 0x05, ...le(OTHER), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 4), ...le(0xc3c20100), 0xb9, ...le(OTHER),
    0xff, 0xd1, 0xff, 0x05, ...le(OTHER + 1), 0x4d, 0x75, 0xf5,
  ],
  // Data in the page of the function, not in its bytes.
  "data beside code": () => [
    0xc7, 0x05, ...le(OTHER), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 4), ...le(0xc3c20100), 0xb9, ...le(OTHER),
    0xff, 0xd1, 0xff, 0x05, ...le(OTHER + 64), 0x4d, 0x75, 0xf5,
  ],
  // The function begins a granule of 64 bytes, and what changes it begins in the one before, which holds no code.
  "across granules, by a read-modify-write": () => [
    ...granule, 0xff, 0xd1, 0x81, 0x05, ...le(GRANULE - 1), ...le(0x10000), 0x4d, 0x75, 0xf1,
  ],
  "across granules, by a store": () => [
    ...granule, 0xff, 0xd1, 0xa1, ...le(GRANULE - 1), 0x05, ...le(0x10000), 0xa3, ...le(GRANULE - 1), 0x4d, 0x75, 0xec,
  ],
  "across granules, by an SSE store": () => [
    0x0f, 0x20, 0xe0, 0x0d, ...le(0x600), 0x0f, 0x22, 0xe0, 0xc7, 0x05, ...le(DATA + 12), ...le(0x10000), 0xf3, 0x0f, 0x6f, 0x0d, ...le(DATA),
    ...granule, 0xff, 0xd1, 0xf3, 0x0f, 0x6f, 0x05, ...le(GRANULE - 13), 0x66, 0x0f, 0xfe, 0xc1, 0xf3, 0x0f, 0x7f, 0x05, ...le(GRANULE - 13), 0x4d, 0x75, 0xe7,
  ],
  // REP MOVSB copies the changed function over the one that runs.
  "a string instruction": () => [
    0xc7, 0x05, ...le(OTHER), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 4), ...le(0xc3c20100),
    0xbe, ...le(OTHER), 0xbf, ...le(OTHER + 0x1000), 0xb9, 8, 0, 0, 0, 0xf3, 0xa4, 0xb9, ...le(OTHER + 0x1000), 0xff, 0xd1,
    0xff, 0x05, ...le(OTHER + 1), 0x4d, 0x75, 0xdf,
  ],
  // Two functions on two pages, each of which changes the other one.
  "another region": () => [
    0xc7, 0x05, ...le(OTHER), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 4), ...le(0xff_c2_01_00), // mov eax, imm; add edx, eax; inc [...]
    0xc7, 0x05, ...le(OTHER + 8), 0x05, ...le(OTHER + 0x1001).slice(0, 3), 0xc7, 0x05, ...le(OTHER + 12), ...le(OTHER + 0x1001).slice(3), 0xc3, 0, 0,
    0xc7, 0x05, ...le(OTHER + 0x1000), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 0x1004), ...le(0xff_c2_01_00),
    0xc7, 0x05, ...le(OTHER + 0x1008), 0x05, ...le(OTHER + 1).slice(0, 3), 0xc7, 0x05, ...le(OTHER + 0x100c), ...le(OTHER + 1).slice(3), 0xc3, 0, 0,
    0xb9, ...le(OTHER), 0xbf, ...le(OTHER + 0x1000), 0xff, 0xd1, 0xff, 0xd7, 0x4d, 0x75, 0xf9,
  ],
  // 4 MiB pages: linear 40000000h is physical 0, too. The function runs at OTHER and is changed through its alias.
  "an alias mapping": () => [
    0xc7, 0x05, ...le(DATA), ...le(0x83), 0xc7, 0x05, ...le(DATA + 4 * 256), ...le(0x83),
    0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x10, 0x0f, 0x22, 0xe0, // CR4.PSE
    0xb8, ...le(DATA), 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xc0, 0x0d, ...le(0x80000000), 0x0f, 0x22, 0xc0,
    0xc7, 0x05, ...le(OTHER), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 4), ...le(0xc3c20100), 0xb9, ...le(OTHER),
    0xff, 0xd1, 0xff, 0x05, ...le(0x40000000 + OTHER + 1), 0x4d, 0x75, 0xf5,
  ],
  // fw_cfg's DMA writes the immediate: "QEMU" (select and read), then what follows the signature (read).
  "DMA": () => {
    const entry = DATA + 0x100; // control, length, address, all big-endian
    const command = (/** @type {number} */ control) => [0xc7, 0x05, ...le(entry), ...le(control), 0xb8, ...le(entry), 0x0f, 0xc8, 0xef];
    const call = [0xff, 0xd1];
    const round = [...call, ...command(0x0a000000), ...call, ...command(0x02000000)];
    return [
      0xc7, 0x05, ...le(OTHER), ...le(0x000000b8), 0xc7, 0x05, ...le(OTHER + 4), ...le(0xc3c20100),
      0xc7, 0x05, ...le(entry + 4), ...le(0x04000000), 0xc7, 0x05, ...le(entry + 8), ...le(0), 0xb8, ...le(OTHER + 1), 0x0f, 0xc8, 0xa3, ...le(entry + 12),
      0xb9, ...le(OTHER), 0x31, 0xd2, 0x89, 0xd7, // EDI: the sum, as EDX is the port
      0xc7, 0x05, ...le(OTHER + 5), ...le(0xc3c701), 0x66, 0xba, 0x18, 0x05, ...round, 0x4d, 0x0f, 0x85, ...le(-(round.length + 7)), 0x89, 0xfa,
    ];
  },
};
/** EDX at the end: what it is at the start, and the immediates that ran. */
const first = 0x0f1e2d3c;
const sum = (ROUNDS * (ROUNDS - 1)) / 2;
const sums = {
  "the next instruction": sum + ROUNDS, "its own page": sum, "another page": sum, "data beside code": 0, "a string instruction": sum,
  "across granules, by a read-modify-write": sum, "across granules, by a store": sum, "across granules, by an SSE store": sum,
  "another region": sum + sum + ROUNDS, "an alias mapping": sum, "DMA": ROUNDS * 0x554d4551 - first,
};

for (const [name, code] of Object.entries(cases)) {
  test(`code that changes itself: ${name}`, { skip: missing }, () => {
    const setup = { memory: 16 << 20, cpu: "p4", multiboot: image([...start(ROUNDS), ...code(), 0xeb, 0xfe]) };
    for (const threshold of [0, 40]) {
      const { state, translated } = compare(setup, { jitThreshold: threshold }, 90_000, 3000, 7);
      assert.equal(Number(state[7]), (first + sums[name]) % 2 ** 32, "EDX");
      assert.ok(translated > 1, `${translated} regions`);
    }
  });
}

test("code that changes itself: a loop, a million times", { skip: missing }, () => {
  const rounds = 1_000_000;
  // inc dword [imm of mov eax below]; mov eax, imm; add edx, eax; dec ebp; jnz
  const code = [0xff, 0x05, ...le(HERE + 7), 0xb8, 0, 0, 0, 0, 0x01, 0xc2, 0x4d, 0x75, 0xf0];
  const setup = { memory: 16 << 20, multiboot: image([...start(rounds), ...code, 0xeb, 0xfe]) };
  const { state, translated } = compare(setup, { jitThreshold: 0 }, 5_100_000, 200_000, 11);
  assert.equal(BigInt(state[7]), (BigInt(first) + (BigInt(rounds) * BigInt(rounds + 1)) / 2n) & 0xffffffffn, "EDX");
  assert.ok(translated > 1, `${translated} regions`);
});
