// The words through which the page sees a VM, in the VM's memory. The same numbers as in web/src/header.rs, which
// says what each means and who writes it; a Rust test compares the two files.

export const MAGIC = 0x54423836;
export const VERSION = 2;
/** Byte offset of the 64-bit counters. */
export const COUNTERS_AT = 128;

/** 32-bit words. */
export const WORD = Object.freeze({
  MAGIC: 0,
  VERSION: 1,
  INPUT_PTR: 2,
  INPUT_LEN: 3,
  INPUT_HEAD: 4,
  INPUT_TAIL: 5,
  OUTPUT_PTR: 6,
  OUTPUT_LEN: 7,
  OUTPUT_HEAD: 8,
  OUTPUT_TAIL: 9,
  PRIORITY: 10,
  WAKE_PAGE: 11,
  FRAME_SEQ: 12,
  FRAME_PTR: 13,
  FRAME_STRIDE: 14,
  FRAME_WIDTH: 15,
  FRAME_HEIGHT: 16,
  DIRTY_X: 17,
  DIRTY_Y: 18,
  DIRTY_W: 19,
  DIRTY_H: 20,
  DRAWN_SEQ: 21,
  FRAME_WANTED: 22,
  TEXT_MODE: 23,
  TEXT_PTR: 24,
  TEXT_LEN: 25,
  KIPS: 26,
  IDLE: 27,
  ASPECT: 28,
  MAILBOX_PTR: 29,
});

/** 64-bit counters. */
export const COUNTER = Object.freeze({
  INSTRUCTIONS: 0,
  VIRTUAL_NS: 1,
  SLICES: 2,
  DISK_READS: 3,
  DISK_WRITES: 4,
  JIT_BLOCKS: 5,
  NET_IN_FRAMES: 6,
  NET_IN_BYTES: 7,
  NET_OUT_FRAMES: 8,
  NET_OUT_BYTES: 9,
  NET_DROPPED: 10,
});
