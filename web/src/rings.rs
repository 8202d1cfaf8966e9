//! Single-producer single-consumer byte rings between the page and the VM, in the VM's memory.
//!
//! A record is one word and a payload: `kind | length << 8` in little-endian order, then `length` bytes; both may
//! wrap at the ring's end. Positions are free-running 32-bit byte counts in the [`Header`]; a record becomes visible
//! when the producer stores the new tail, and is given back when the consumer stores the new head.
//! `pkg/lib/rings.js` is the same in JavaScript.
//!
//! | ring | kind | payload |
//! |---|---|---|
//! | input | 1 key | pressed (0/1), then the `KeyboardEvent.code` in ASCII |
//! | input | 2 mouse | dx, dy, wheel: i16 each; buttons: u8 (as `MouseEvent.buttons`) |
//! | input | 3 serial | port (0 = COM1), then bytes |
//! | input | 4 chunk | mailbox slot: u8; stream: u8; chunk: u32; length: u32, or 2^32 - 1 and then the error's text |
//! | output | 1 serial | port, then bytes |
//! | output | 2 firmware log | bytes |
//! | output | 3 chunk taken | mailbox slot: u8 |
//! | output | 4 chunk wanted | stream: u8; chunk: u32 |

use crate::header::{Header, word};
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes of each ring.
pub const RING_LEN: u32 = 1 << 16;
/// Largest payload: small enough that a full record always fits an empty ring.
pub const MAX_PAYLOAD: usize = 1 << 14;

/// Kinds of records.
pub mod kind {
    /// Input: a key.
    pub const KEY: u8 = 1;
    /// Input: mouse movement.
    pub const MOUSE: u8 = 2;
    /// Input: bytes for a serial port.
    pub const SERIAL_IN: u8 = 3;
    /// Input: a chunk of a streamed image lies in the mailbox.
    pub const CHUNK: u8 = 4;
    /// Output: bytes from a serial port.
    pub const SERIAL_OUT: u8 = 1;
    /// Output: bytes of the firmware's debug port.
    pub const FIRMWARE_LOG: u8 = 2;
    /// Output: a slot of the mailbox is free again.
    pub const CHUNK_TAKEN: u8 = 3;
    /// Output: the guest waits for a chunk.
    pub const CHUNK_WANTED: u8 = 4;
}

fn storage() -> Box<[AtomicU8]> {
    (0..RING_LEN).map(|_| AtomicU8::new(0)).collect()
}

fn slot(at: u32) -> usize {
    (at & (RING_LEN - 1)) as usize
}

/// The ring that the page fills.
#[derive(Debug)]
pub struct InputRing {
    bytes: Box<[AtomicU8]>,
}

impl InputRing {
    /// An empty ring, entered in the header.
    pub fn new(header: &Header) -> Self {
        let bytes = storage();
        header.set(word::INPUT_PTR, bytes.as_ptr() as usize as u32);
        header.set(word::INPUT_LEN, RING_LEN);
        Self { bytes }
    }

    /// Forgets what waits.
    pub fn clear(&self, header: &Header) {
        header.set(word::INPUT_HEAD, header.get(word::INPUT_TAIL));
    }

    /// Takes the oldest record, if there is one.
    pub fn pop(&self, header: &Header) -> Option<(u8, Vec<u8>)> {
        let head = header.get(word::INPUT_HEAD);
        let available = header.get(word::INPUT_TAIL).wrapping_sub(head);
        if !(4..=RING_LEN).contains(&available) {
            return None;
        }
        let byte = |offset: u32| self.bytes[slot(head.wrapping_add(offset))].load(Ordering::Relaxed);
        let kind = byte(0);
        let length = u32::from_le_bytes([byte(1), byte(2), byte(3), 0]);
        if length > available - 4 {
            // A page that wrote nonsense loses its input; it cannot harm anything else.
            header.set(word::INPUT_HEAD, head.wrapping_add(available));
            return None;
        }
        let payload = (4..4 + length).map(byte).collect();
        header.set(word::INPUT_HEAD, head.wrapping_add(4 + length));
        Some((kind, payload))
    }
}

/// The ring that the page empties.
#[derive(Debug)]
pub struct OutputRing {
    bytes: Box<[AtomicU8]>,
}

impl OutputRing {
    /// An empty ring, entered in the header.
    pub fn new(header: &Header) -> Self {
        let bytes = storage();
        header.set(word::OUTPUT_PTR, bytes.as_ptr() as usize as u32);
        header.set(word::OUTPUT_LEN, RING_LEN);
        Self { bytes }
    }

    /// Forgets what waits.
    pub fn clear(&self, header: &Header) {
        header.set(word::OUTPUT_HEAD, header.get(word::OUTPUT_TAIL));
    }

    /// Payload bytes that one more record can carry now.
    pub fn room(&self, header: &Header) -> usize {
        let used = header.get(word::OUTPUT_TAIL).wrapping_sub(header.get(word::OUTPUT_HEAD));
        (RING_LEN.saturating_sub(used) as usize).saturating_sub(4).min(MAX_PAYLOAD)
    }

    /// Appends a record made of `prefix` and `payload`; the caller asked for [`room`](Self::room) before.
    /// Returns whether it fitted.
    pub fn push(&self, header: &Header, kind: u8, prefix: &[u8], payload: &[u8]) -> bool {
        let length = prefix.len() + payload.len();
        if length > self.room(header) {
            return false;
        }
        let tail = header.get(word::OUTPUT_TAIL);
        let [l0, l1, l2, _] = (length as u32).to_le_bytes();
        let record = [kind, l0, l1, l2].into_iter().chain(prefix.iter().copied()).chain(payload.iter().copied());
        for (i, value) in record.enumerate() {
            self.bytes[slot(tail.wrapping_add(i as u32))].store(value, Ordering::Relaxed);
        }
        header.set(word::OUTPUT_TAIL, tail.wrapping_add(4 + length as u32));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `rings.js` does on the page.
    fn page_push(ring: &InputRing, header: &Header, kind: u8, payload: &[u8]) {
        let tail = header.get(word::INPUT_TAIL);
        let [l0, l1, l2, _] = (payload.len() as u32).to_le_bytes();
        for (i, value) in [kind, l0, l1, l2].iter().chain(payload).enumerate() {
            ring.bytes[slot(tail.wrapping_add(i as u32))].store(*value, Ordering::Relaxed);
        }
        header.set(word::INPUT_TAIL, tail.wrapping_add(4 + payload.len() as u32));
    }

    #[test]
    fn input_records_come_out_in_order_across_the_wrap() {
        let header = Header::default();
        let ring = InputRing::new(&header);
        let start = u32::MAX - 10;
        header.set(word::INPUT_HEAD, start);
        header.set(word::INPUT_TAIL, start);
        for n in 0..20_000_u32 {
            page_push(&ring, &header, kind::KEY, &n.to_le_bytes());
            page_push(&ring, &header, kind::MOUSE, &[]);
            assert_eq!(ring.pop(&header), Some((kind::KEY, n.to_le_bytes().to_vec())));
            assert_eq!(ring.pop(&header), Some((kind::MOUSE, vec![])));
            assert_eq!(ring.pop(&header), None);
        }
    }

    #[test]
    fn a_record_that_lies_about_its_length_is_dropped_with_the_rest() {
        let header = Header::default();
        let ring = InputRing::new(&header);
        page_push(&ring, &header, kind::KEY, &[1, 2, 3]);
        header.set(word::INPUT_TAIL, 5);
        assert_eq!(ring.pop(&header), None);
        assert_eq!(header.get(word::INPUT_HEAD), 5);
    }

    #[test]
    fn output_waits_for_the_page_when_the_ring_is_full() {
        let header = Header::default();
        let ring = OutputRing::new(&header);
        let mut pushed = 0;
        while ring.push(&header, kind::SERIAL_OUT, &[0], &[b'x'; 1000]) {
            pushed += 1;
        }
        assert_eq!(pushed, RING_LEN / 1005);
        assert!(ring.room(&header) < 1001);
        header.set(word::OUTPUT_HEAD, header.get(word::OUTPUT_TAIL));
        assert!(ring.push(&header, kind::SERIAL_OUT, &[0], &[b'x'; 1000]));
    }
}
