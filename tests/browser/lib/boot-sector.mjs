// Boot sectors for the specs, by hand: a message on the screen, and then one of a few things to do. They need nothing
// that is fetched or assembled. Intel SDM volume 2 has the encodings.

const ORIGIN = 0x7c00;
const FLOPPY = 1440 * 1024;

/** What follows the message. */
export const THEN = {
  /** mov ah, 0; int 16h; mov ah, 0Eh; int 10h; jmp: echoes keys */
  echoKeys: () => [0xb4, 0x00, 0xcd, 0x16, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf6],
  /** cli; hlt; jmp */
  haltForEver: () => [0xfa, 0xf4, 0xeb, 0xfc],
  /** cli; jmp $: a tight loop that nothing interrupts */
  spinForEver: () => [0xfa, 0xeb, 0xfe],
  /** jmp $: a tight loop that timers interrupt */
  spin: () => [0xeb, 0xfe],
  /**
   * mov ax, 0B800h; mov es, ax; again: mov ecx, 20000000; dec ecx; jnz; mov dx, 2000; next: mov cx, 0FFFFh; rep stosb;
   * dec dx; jnz next; jmp again: fast instructions and then the slowest, to outwit who counts instructions
   */
  switcher: () => [0xb8, 0x00, 0xb8, 0x8e, 0xc0, 0x66, 0xb9, 0x00, 0x2d, 0x31, 0x01, 0x66, 0x49, 0x75, 0xfc, 0xba, 0xd0, 0x07,
    0xb9, 0xff, 0xff, 0xf3, 0xaa, 0x4a, 0x75, 0xf8, 0xeb, 0xe9],
  /** lidt [zeros]; int3: no handler for the breakpoint, nor for the faults after it */
  tripleFault: (zeros) => [0x0f, 0x01, 0x1e, zeros & 255, zeros >> 8, 0xcc],
};

/** A floppy image whose boot sector prints `message` and goes on with one of THEN. */
export function bootFloppy(message, then) {
  // xor ax, ax; mov ds, ax; cld; mov si, text; next: lodsb; test al, al; jz out; mov ah, 0Eh; int 10h; jmp next
  const print = (text) => [0x31, 0xc0, 0x8e, 0xd8, 0xfc, 0xbe, text & 255, text >> 8,
    0xac, 0x84, 0xc0, 0x74, 0x06, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5];
  const length = print(0).length + then(0).length;
  const text = ORIGIN + length;
  const zeros = text + message.length;
  const image = Buffer.alloc(FLOPPY);
  Buffer.from([...print(text), ...then(zeros)]).copy(image);
  image.write(message, length, "latin1");
  image.writeUInt16LE(0xaa55, 510);
  return image;
}

/**
 * A floppy image whose boot sector goes to protected mode and fills the RAM from 1 MiB to `mebibytes` again and again:
 * cli; A20 by port 92h; lgdt; flat segments; again: mov edi, 100000h; mov ecx, 15 MiB / 4; inc eax; rep stosd; jmp again
 */
export function fillerFloppy(mebibytes = 16) {
  const image = Buffer.alloc(FLOPPY);
  Buffer.from(FILLER, "hex").copy(image);
  image.writeUInt32LE((mebibytes - 1) << 18, 0x2b);
  image.writeUInt16LE(0xaa55, 510);
  return image;
}

const FILLER = 
  "fa31c08ed8e4920c02e6920f0116347c0f20c00c010f22c0ea1d7c080066b910008ed98ec1bf00001000b900003c0040f3ab" +
  "ebf117003a7c00000000000000000000ffff0000009acf00ffff00000092cf00";

/**
 * A floppy image whose boot sector sets a video mode of 32 bits by DISPI and fills the linear frame buffer without end,
 * with another colour each time: VBE 4F01h for its address; DISPI registers 4, 1, 2, 3, 4 by ports 1CEh and 1CFh; A20;
 * lgdt; flat segments; again: mov edi, [8028h]; width by height to ecx; add eax, 010203h; rep stosd; jmp again
 */
export function painterFloppy(width = 1024, height = 768) {
  const image = Buffer.alloc(FLOPPY);
  Buffer.from(PAINTER, "hex").copy(image);
  image.writeUInt16LE(width, 0x6d);
  image.writeUInt16LE(height, 0x71);
  image.writeUInt16LE(0xaa55, 510);
  return image;
}

const PAINTER =
  "fa31c08ed88ec0bf0080b8014fb94401cd10be677cbace01ad83f8ff7406ef42adefebf1fae4920c02e6920f01167d7c0f20c00c010f22c0" +
  "ea3d7c080066b810008ed88ec08b1d2880000089df0fb70d6d7c00000fb715717c00000fafca0503020100f3abebe4040000000100000402" +
  "0000030300200004004100ffff1700837c00000000000000000000ffff0000009acf00ffff00000092cf00";

/**
 * A floppy image whose boot sector does in flat 32-bit code, which is translated, what THEN.switcher does in real mode:
 * again: mov ecx, 20000000; dec ecx; jnz; mov ebx, 400000; next: mov ecx, 256; mov esi, 200000h; mov edi, 200001h;
 * rep movsb; dec ebx; jnz next; jmp again. A string instruction that repeats a pattern goes byte by byte.
 */
export function flatSwitcherFloppy() {
  const start = Buffer.from(FILLER.slice(0, 2 * 0x25), "hex");
  const code = Buffer.from("b9002d31014975fdbb801a0600b900010000be00002000bf01002000f3a44b75ecebdd", "hex");
  const tables = Buffer.from(FILLER.slice(2 * 0x34), "hex");
  const at = ORIGIN + start.length + code.length;
  start.writeUInt16LE(at, 0x0e);
  tables.writeUInt32LE(at + 6, 2);
  const image = Buffer.alloc(FLOPPY);
  Buffer.concat([start, code, tables]).copy(image);
  image.writeUInt16LE(0xaa55, 510);
  return image;
}
