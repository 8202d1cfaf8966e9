//! The block of words through which the page sees a VM: at one address for the VM's life, in the VM's own memory.
//!
//! `pkg/lib/layout.js` mirrors the word numbers; a test compares the two files. With shared memory the page and the
//! worker read and write the words themselves (Atomics); without it the worker carries them in messages.
//! Each word has one writer, named in its comment.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Number of 32-bit words before the counters.
pub const WORDS: usize = 32;
/// Number of 64-bit counters.
pub const COUNTERS: usize = 12;
/// First word: "TB86".
pub const MAGIC: u32 = 0x5442_3836;
/// Version of the layout; `layout.js` refuses another.
pub const VERSION: u32 = 2;

/// Numbers of the 32-bit words.
#[allow(dead_code, reason = "the worker and the page have the others")]
pub mod word {
    /// `MAGIC` (VM).
    pub const MAGIC: usize = 0;
    /// `VERSION` (VM).
    pub const VERSION: usize = 1;
    /// Address of the input ring's bytes (VM).
    pub const INPUT_PTR: usize = 2;
    /// Bytes of the input ring, a power of two (VM).
    pub const INPUT_LEN: usize = 3;
    /// Bytes ever taken out of the input ring, modulo 2^32 (VM).
    pub const INPUT_HEAD: usize = 4;
    /// Bytes ever put into the input ring, modulo 2^32 (page).
    pub const INPUT_TAIL: usize = 5;
    /// Address of the output ring's bytes (VM).
    pub const OUTPUT_PTR: usize = 6;
    /// Bytes of the output ring, a power of two (VM).
    pub const OUTPUT_LEN: usize = 7;
    /// Bytes ever taken out of the output ring (page).
    pub const OUTPUT_HEAD: usize = 8;
    /// Bytes ever put into the output ring (VM).
    pub const OUTPUT_TAIL: usize = 9;
    /// Who looks at the machine, a priority of the pool (page).
    pub const PRIORITY: usize = 10;
    /// 1 while the page has seen all output and wants a message when there is more (page sets, worker clears).
    pub const WAKE_PAGE: usize = 11;
    /// Frame sequence: odd while the VM draws, two more with every change (VM).
    pub const FRAME_SEQ: usize = 12;
    /// Address of the pixels, RGBA bytes (VM).
    pub const FRAME_PTR: usize = 13;
    /// Pixels from one row to the next (VM).
    pub const FRAME_STRIDE: usize = 14;
    /// Width in pixels (VM).
    pub const FRAME_WIDTH: usize = 15;
    /// Height in pixels (VM).
    pub const FRAME_HEIGHT: usize = 16;
    /// What changed since the page's last drawing: left edge (VM).
    pub const DIRTY_X: usize = 17;
    /// Top edge (VM).
    pub const DIRTY_Y: usize = 18;
    /// Width (VM).
    pub const DIRTY_W: usize = 19;
    /// Height (VM).
    pub const DIRTY_H: usize = 20;
    /// The frame sequence that the page drew last (page).
    pub const DRAWN_SEQ: usize = 21;
    /// 1 while the page waits for a new frame (page sets, worker clears).
    pub const FRAME_WANTED: usize = 22;
    /// 1 in a text mode (VM).
    pub const TEXT_MODE: usize = 23;
    /// Address of the screen's text, UTF-8 (VM, under the frame sequence).
    pub const TEXT_PTR: usize = 24;
    /// Bytes of the screen's text (VM, under the frame sequence).
    pub const TEXT_LEN: usize = 25;
    /// Thousand instructions per second over the last window (VM).
    pub const KIPS: usize = 26;
    /// Idle share of the last window in 1/1000 (VM).
    pub const IDLE: usize = 27;
    /// Width to height of the whole picture on a monitor: width in the upper half, height in the lower (VM).
    pub const ASPECT: usize = 28;
    /// Address of the mailbox for chunks of streamed images, 0 without any (VM).
    pub const MAILBOX_PTR: usize = 29;
}

/// Numbers of the 64-bit counters.
#[allow(dead_code, reason = "the worker and the page have the others")]
pub mod counter {
    /// Retired instructions.
    pub const INSTRUCTIONS: usize = 0;
    /// Virtual nanoseconds since power-on.
    pub const VIRTUAL_NS: usize = 1;
    /// Run slices.
    pub const SLICES: usize = 2;
    /// Disk accesses: reads.
    pub const DISK_READS: usize = 3;
    /// Disk accesses: writes.
    pub const DISK_WRITES: usize = 4;
    /// Blocks compiled by the fast tier.
    pub const JIT_BLOCKS: usize = 5;
    /// Network frames that the card took for the guest.
    pub const NET_IN_FRAMES: usize = 6;
    /// Their bytes.
    pub const NET_IN_BYTES: usize = 7;
    /// Network frames that the guest sent.
    pub const NET_OUT_FRAMES: usize = 8;
    /// Their bytes.
    pub const NET_OUT_BYTES: usize = 9;
    /// Network frames that were lost in the machine, either way: too many waited, or the cable was out.
    pub const NET_DROPPED: usize = 10;
}

/// The block itself.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Header {
    words: [AtomicU32; WORDS],
    counters: [AtomicU64; COUNTERS],
}

impl Default for Header {
    fn default() -> Self {
        let header = Self {
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        header.set(word::MAGIC, MAGIC);
        header.set(word::VERSION, VERSION);
        header
    }
}

impl Header {
    /// A word of [`word`] itself, for the rings.
    pub fn word(&self, word: usize) -> &AtomicU32 {
        &self.words[word]
    }

    /// Reads a word of [`word`].
    pub fn get(&self, word: usize) -> u32 {
        self.words[word].load(Ordering::Acquire)
    }

    /// Writes a word of [`word`]; what was written to memory before is visible to whoever reads it.
    pub fn set(&self, word: usize, value: u32) {
        self.words[word].store(value, Ordering::Release);
    }

    /// Writes a counter of [`counter`].
    pub fn count(&self, counter: usize, value: u64) {
        self.counters[counter].store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines `pub const NAME: usize = N;` of one module of this file.
    fn table(module: &str) -> Vec<(String, usize)> {
        let text = include_str!("header.rs");
        let start = text.find(&format!("pub mod {module} {{")).unwrap();
        let body = &text[start..start + text[start..].find("\n}").unwrap()];
        let entries = body.lines().filter_map(|line| line.trim().strip_prefix("pub const "));
        entries
            .map(|entry| {
                let (name, value) = entry.split_once(": usize = ").unwrap();
                (name.to_owned(), value.trim_end_matches(';').parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn the_page_knows_the_same_layout() {
        let script = include_str!("../../pkg/lib/layout.js");
        for (name, value) in table("word").into_iter().chain(table("counter")) {
            assert!(script.contains(&format!("{name}: {value},")), "layout.js lacks {name}: {value}");
        }
        for (name, value) in [("MAGIC", MAGIC), ("VERSION", VERSION), ("COUNTERS_AT", 4 * WORDS as u32)] {
            let line = format!("export const {name} = {value};");
            let hex = format!("export const {name} = 0x{value:x};");
            assert!(script.contains(&line) || script.contains(&hex), "layout.js lacks {line}");
        }
    }

    #[test]
    fn counters_follow_the_words_without_a_gap() {
        assert_eq!(std::mem::offset_of!(Header, counters), 4 * WORDS);
    }
}
