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
//! | input | 5 network frame | one frame: destination to end of data |
//! | input | 6 network link | 1 cable in, 0 cable out: u8 |
//! | output | 1 serial | port, then bytes |
//! | output | 2 firmware log | bytes |
//! | output | 3 chunk taken | mailbox slot: u8 |
//! | output | 4 chunk wanted | stream: u8; chunk: u32 |
//! | output | 5 network frame | one frame: destination to end of data |

use crate::header::{Header, word};
use std::sync::atomic::AtomicU8;
use tab86_pool::Ring;

/// Bytes of each ring: 172 frames of full size, more than what a TCP connection of the relay has on its way.
pub const RING_LEN: u32 = 1 << 18;
pub use tab86_pool::MAX_PAYLOAD;

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
    /// Input: a frame for the network card.
    pub const NET_IN: u8 = 5;
    /// Input: the network cable is plugged in or out.
    pub const NET_LINK: u8 = 6;
    /// Output: bytes from a serial port.
    pub const SERIAL_OUT: u8 = 1;
    /// Output: bytes of the firmware's debug port.
    pub const FIRMWARE_LOG: u8 = 2;
    /// Output: a slot of the mailbox is free again.
    pub const CHUNK_TAKEN: u8 = 3;
    /// Output: the guest waits for a chunk.
    pub const CHUNK_WANTED: u8 = 4;
    /// Output: a frame from the network card.
    pub const NET_OUT: u8 = 5;
}

fn storage() -> Box<[AtomicU8]> {
    (0..RING_LEN).map(|_| AtomicU8::new(0)).collect()
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

    fn ring<'a>(&'a self, header: &'a Header) -> Option<Ring<'a>> {
        Ring::new(header.word(word::INPUT_HEAD), header.word(word::INPUT_TAIL), &self.bytes)
    }

    /// Forgets what waits.
    pub fn clear(&self, header: &Header) {
        header.set(word::INPUT_HEAD, header.get(word::INPUT_TAIL));
    }

    /// Takes the oldest record, if there is one.
    pub fn pop(&self, header: &Header) -> Option<(u8, Vec<u8>)> {
        self.ring(header)?.pop()
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

    fn ring<'a>(&'a self, header: &'a Header) -> Option<Ring<'a>> {
        Ring::new(header.word(word::OUTPUT_HEAD), header.word(word::OUTPUT_TAIL), &self.bytes)
    }

    /// Forgets what waits.
    pub fn clear(&self, header: &Header) {
        header.set(word::OUTPUT_HEAD, header.get(word::OUTPUT_TAIL));
    }

    /// Payload bytes that one more record can carry now.
    pub fn room(&self, header: &Header) -> usize {
        self.ring(header).map_or(0, |ring| ring.room())
    }

    /// Appends a record made of `prefix` and `payload`. Returns whether there was [`room`](Self::room).
    pub fn push(&self, header: &Header, kind: u8, prefix: &[u8], payload: &[u8]) -> bool {
        self.ring(header).is_some_and(|ring| ring.push(kind, prefix, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_puts_in_comes_out_and_the_words_tell() {
        let header = Header::default();
        let ring = InputRing::new(&header);
        let page = Ring::new(header.word(word::INPUT_HEAD), header.word(word::INPUT_TAIL), &ring.bytes).unwrap();
        assert!(page.push(kind::KEY, &[1], b"KeyA"));
        assert_eq!(header.get(word::INPUT_TAIL), 9);
        assert_eq!(ring.pop(&header), Some((kind::KEY, b"\x01KeyA".to_vec())));
        assert_eq!((header.get(word::INPUT_HEAD), ring.pop(&header)), (9, None));
        assert!(page.push(kind::KEY, &[1], b"KeyB"));
        ring.clear(&header);
        assert_eq!(ring.pop(&header), None);
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
        ring.clear(&header);
        assert!(ring.push(&header, kind::SERIAL_OUT, &[0], &[b'x'; 1000]));
    }
}
