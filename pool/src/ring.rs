//! A single-producer single-consumer byte ring between page and VM.
//!
//! A record is one word and a payload: `kind | length << 8` in little-endian order, then `length` bytes; both may wrap
//! at the ring's end. Positions are free-running 32-bit byte counts; a record becomes visible when the producer stores
//! the new tail, and is given back when the consumer stores the new head.

use crate::sync::{AtomicU8, AtomicU32, Ordering};
use Ordering::{Acquire, Relaxed, Release};
use alloc::vec::Vec;

/// Largest payload of a record.
pub const MAX_PAYLOAD: usize = 1 << 14;

/// Bytes of a record before its payload.
const RECORD_HEAD: u32 = 4;

/// A ring over its positions and bytes, wherever they lie. Each end makes its own; only one may push and one may pop at
/// a time. The other end may write anything at any time: that costs records, and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Ring<'a> {
    head: &'a AtomicU32,
    tail: &'a AtomicU32,
    bytes: &'a [AtomicU8],
    length: u32,
}

impl<'a> Ring<'a> {
    /// The ring with these positions and bytes, as they are: a new one is empty if both positions are the same. `None`
    /// if the number of bytes is not a power of two (positions could not wrap), or has no room for a record.
    #[must_use]
    pub fn new(head: &'a AtomicU32, tail: &'a AtomicU32, bytes: &'a [AtomicU8]) -> Option<Self> {
        let length = u32::try_from(bytes.len()).ok()?;
        (length.is_power_of_two() && length >= RECORD_HEAD).then_some(Self { head, tail, bytes, length })
    }

    /// Whether no record waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tail.load(Acquire) == self.head.load(Acquire)
    }

    /// Payload bytes that one more record can carry now; for the producer. 0 also if there is no room for any record.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room_from(self.tail.load(Acquire)).unwrap_or(0)
    }

    /// What a record that begins at `tail` can carry, if there is room for one.
    fn room_from(&self, tail: u32) -> Option<usize> {
        let used = tail.wrapping_sub(self.head.load(Acquire));
        let payload = self.length.checked_sub(used)?.checked_sub(RECORD_HEAD)?;
        Some((payload as usize).min(MAX_PAYLOAD))
    }

    /// Appends a record made of `prefix` and `payload`. Returns whether there was [`room`](Self::room).
    #[must_use]
    pub fn push(&self, kind: u8, prefix: &[u8], payload: &[u8]) -> bool {
        let tail = self.tail.load(Acquire);
        let size = prefix.len() + payload.len();
        if self.room_from(tail).is_none_or(|room| size > room) {
            return false;
        }
        let [l0, l1, l2, _] = (size as u32).to_le_bytes();
        let record = [kind, l0, l1, l2].into_iter().chain(prefix.iter().copied()).chain(payload.iter().copied());
        let mut end = tail;
        for value in record {
            self.byte(end).store(value, Relaxed);
            end = end.wrapping_add(1);
        }
        self.tail.store(end, Release);
        true
    }

    /// Takes the oldest record, if there is one: its kind and payload. Positions that cannot be count as an empty ring;
    /// a record that claims to be longer than what is there is dropped with all that is there.
    #[must_use]
    pub fn pop(&self) -> Option<(u8, Vec<u8>)> {
        let head = self.head.load(Acquire);
        let available = self.tail.load(Acquire).wrapping_sub(head);
        if !(RECORD_HEAD..=self.length).contains(&available) {
            return None;
        }
        let byte = |offset: u32| self.byte(head.wrapping_add(offset)).load(Relaxed);
        let kind = byte(0);
        let size = u32::from_le_bytes([byte(1), byte(2), byte(3), 0]);
        if size > available - RECORD_HEAD {
            self.head.store(head.wrapping_add(available), Release);
            return None;
        }
        let payload = (RECORD_HEAD..RECORD_HEAD + size).map(byte).collect();
        self.head.store(head.wrapping_add(RECORD_HEAD + size), Release);
        Some((kind, payload))
    }

    fn byte(&self, at: u32) -> &AtomicU8 {
        &self.bytes[(at & (self.length - 1)) as usize]
    }
}

// Two attributes: clippy knows tests by `cfg(test)` alone.
#[cfg(test)]
#[cfg(loom)]
mod model;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
