//! Packet captures that Wireshark and tcpdump read.
//! Spec: draft-ietf-opsawg-pcap, the format of libpcap with nanoseconds.

use crate::args::Sink;
use crate::output::{OutputError, Writer};
use std::path::Path;

const MAGIC: u32 = 0xa1b2_3c4d;
const LINK_ETHERNET: u32 = 1;
const SNAP_LENGTH: u32 = 65_535;
const SECOND: u64 = 1_000_000_000;

/// A capture file.
pub struct Capture {
    to: Writer,
    /// Seconds since 1970 at power-on.
    start: u32,
}

impl Capture {
    /// Creates the file; the times in it are the guest's, `start` seconds since 1970 at power-on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, start: i64) -> Result<Self, OutputError> {
        let mut to = Writer::open(&Sink::File(path.into()))?;
        to.write(&header())?;
        Ok(Self { to, start: start.clamp(0, u32::MAX.into()) as u32 })
    }

    /// Adds a frame that passed `time` nanoseconds after power-on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, time: u64, frame: &[u8]) -> Result<(), OutputError> {
        self.to.write(&record(self.start, time, frame))
    }
}

fn words(words: &[u32]) -> impl Iterator<Item = u8> + '_ {
    words.iter().flat_map(|word| word.to_le_bytes())
}

fn header() -> Vec<u8> {
    let version = 2 | 4 << 16;
    words(&[MAGIC, version, 0, 0, SNAP_LENGTH, LINK_ETHERNET]).collect()
}

fn record(start: u32, time: u64, frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u32;
    let seconds = start.wrapping_add((time / SECOND) as u32);
    let head = [seconds, (time % SECOND) as u32, length, length];
    words(&head).chain(frame.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_begins_as_libpcap_writes_it() {
        let header = header();
        assert_eq!(header.len(), 24);
        assert_eq!(header[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(header[20..], [1, 0, 0, 0]);
        let record = record(100, 2 * SECOND + 7, &[1, 2, 3]);
        assert_eq!(record, [102, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3]);
    }
}
