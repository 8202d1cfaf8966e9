//! Backends of block devices: where a disk's sectors come from and go to.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// A host failure behind a disk. The device turns it into its error status; the guest sees a bad sector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The request lies (partly) outside the image.
    #[error("access beyond the end of the image")]
    OutOfRange,
    /// The image cannot be written.
    #[error("the image is read-only")]
    ReadOnly,
    /// The host could not read or write.
    #[error("{0}")]
    Host(String),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStatus {
    /// Done; the buffer is filled or the data is taken.
    Ready,
    /// The data is on its way (a streamed image); ask again with the same request later.
    Pending,
}

/// Random access to an image, in bytes. Calls never block: an image that is streamed answers `Pending`
/// until the bytes are there, and the device repeats the request from its next event.
pub trait BlockBackend: Send {
    /// Size in bytes.
    fn len(&self) -> u64;
    /// Whether the image has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether writes are refused.
    fn read_only(&self) -> bool {
        false
    }
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// When the range is outside the image or the host fails.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError>;
    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// When the range is outside the image, the image is read-only or the host fails.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError>;
    /// Makes earlier writes durable.
    ///
    /// # Errors
    /// When the host fails.
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
    /// The sectors that were written and that nothing but this object holds, for a snapshot. `None` when writes go into
    /// the image itself, or there are none.
    fn written(&self) -> Option<OverlayData> {
        None
    }
    /// Puts sectors from [`written`](Self::written) of a snapshot in place of those written since.
    fn set_written(&mut self, data: OverlayData) {
        let _ = data;
    }
}

/// An image in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlock {
    /// The bytes.
    pub data: Vec<u8>,
    /// Refuse writes.
    pub read_only: bool,
}

impl MemoryBlock {
    /// A writable image.
    #[must_use]
    pub fn new(data: Vec<u8>) -> Self {
        Self { data, read_only: false }
    }

    fn range(&self, offset: u64, len: usize) -> Result<std::ops::Range<usize>, BlockError> {
        let start = usize::try_from(offset).map_err(|_| BlockError::OutOfRange)?;
        let end = start.checked_add(len).filter(|&e| e <= self.data.len()).ok_or(BlockError::OutOfRange)?;
        Ok(start..end)
    }
}

impl BlockBackend for MemoryBlock {
    fn len(&self) -> u64 {
        self.data.len() as u64
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        let range = self.range(offset, out.len())?;
        out.copy_from_slice(&self.data[range]);
        Ok(BlockStatus::Ready)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        let range = self.range(offset, data.len())?;
        self.data[range].copy_from_slice(data);
        Ok(BlockStatus::Ready)
    }
    fn written(&self) -> Option<OverlayData> {
        // Nothing says what was written and what was there: all of it.
        let clusters = || self.data.chunks(CLUSTER as usize).zip(0u64..);
        (!self.read_only).then(|| {
            let mut all = OverlayData::default();
            for (bytes, n) in clusters() {
                let mut cluster = bytes.to_vec();
                cluster.resize(CLUSTER as usize, 0);
                all.insert(n, 0xff, cluster);
            }
            all
        })
    }
    fn set_written(&mut self, data: OverlayData) {
        for (n, valid, bytes) in data.clusters() {
            for sector in (0..8).filter(|s| valid >> s & 1 != 0) {
                let from = sector * SECTOR as usize;
                let at = n as usize * CLUSTER as usize + from;
                let end = (at + SECTOR as usize).min(self.data.len());
                if at < end {
                    self.data[at..end].copy_from_slice(&bytes[from..from + end - at]);
                }
            }
        }
    }
}

/// How much a drive was used, for an activity light.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// 512-byte (disk, floppy) or 2048-byte (CD-ROM) sectors read since power-on.
    pub sectors_read: u64,
    /// Sectors written since power-on.
    pub sectors_written: u64,
}

/// A device's hold on its backend. It is a host handle and no guest state: a snapshot leaves it out, two
/// devices compare equal whatever is behind them, and a copy of a device starts without one. Whoever
/// restores a device attaches the backend again.
#[derive(Default)]
pub struct Media(Option<Box<dyn BlockBackend>>);

impl Media {
    /// A handle to `backend`.
    #[must_use]
    pub fn new(backend: Option<Box<dyn BlockBackend>>) -> Self {
        Self(backend)
    }

    /// Whether a backend is attached.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Size in bytes; 0 without a backend.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |b| b.len())
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.0.as_ref().is_none_or(|b| b.read_only())
    }

    /// As [`BlockBackend::read`]; without a backend every access is out of range.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        self.0.as_mut().ok_or(BlockError::OutOfRange)?.read(offset, out)
    }

    /// As [`BlockBackend::write`]; without a backend every access is out of range.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError> {
        self.0.as_mut().ok_or(BlockError::OutOfRange)?.write(offset, data)
    }

    /// As [`BlockBackend::flush`].
    ///
    /// # Errors
    /// Those of the backend.
    pub fn flush(&mut self) -> Result<(), BlockError> {
        self.0.as_mut().map_or(Ok(()), |b| b.flush())
    }

    /// As [`BlockBackend::written`].
    #[must_use]
    pub fn written(&self) -> Option<OverlayData> {
        self.0.as_ref()?.written()
    }

    /// As [`BlockBackend::set_written`].
    pub fn set_written(&mut self, data: OverlayData) {
        if let Some(backend) = &mut self.0 {
            backend.set_written(data);
        }
    }

    /// Gives the backend back.
    pub fn take(&mut self) -> Option<Box<dyn BlockBackend>> {
        self.0.take()
    }
}

impl Clone for Media {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl PartialEq for Media {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Media {}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Media({} bytes)", self.len())
    }
}

/// Bytes of the unit in which an [`Overlay`] keeps writes.
const SECTOR: u64 = 512;
/// Bytes of the unit in which an [`Overlay`] allocates memory: 8 sectors, one bit each.
pub const CLUSTER: u64 = 8 * SECTOR;

/// Sectors of one 4 KiB cluster that were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cluster {
    /// Bit n: sector n of the cluster is here and no more in the base.
    valid: u8,
    bytes: Vec<u8>,
}

/// The sectors written to an [`Overlay`] so far; plain data, so it can be saved and put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayData(BTreeMap<u64, Cluster>);

impl OverlayData {
    /// Bytes of memory in use for written sectors.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.len() as u64 * CLUSTER
    }

    /// Number, sectors (a bit each) and bytes of each 4 KiB cluster that has written sectors, in order.
    pub fn clusters(&self) -> impl Iterator<Item = (u64, u8, &[u8])> {
        self.0.iter().map(|(n, c)| (*n, c.valid, &c.bytes[..]))
    }

    /// Adds a cluster of 4 KiB, of which the sectors under `valid` count.
    pub fn insert(&mut self, n: u64, valid: u8, mut bytes: Vec<u8>) {
        bytes.resize(CLUSTER as usize, 0);
        self.0.insert(n, Cluster { valid, bytes });
    }

    fn sector(&self, n: u64) -> Option<&[u8]> {
        let c = self.0.get(&(n / 8))?;
        let at = (n % 8 * SECTOR) as usize;
        (c.valid & (1 << (n % 8)) != 0).then(|| c.bytes.get(at..at + SECTOR as usize)).flatten()
    }

    fn sector_mut(&mut self, n: u64) -> Option<&mut [u8]> {
        let c = self.0.entry(n / 8).or_insert_with(|| Cluster { valid: 0, bytes: vec![0; CLUSTER as usize] });
        c.valid |= 1 << (n % 8);
        let at = (n % 8 * SECTOR) as usize;
        c.bytes.get_mut(at..at + SECTOR as usize)
    }
}

/// A writable image over one that is only read: written sectors stay in memory, the base never changes.
pub struct Overlay {
    base: Box<dyn BlockBackend>,
    written: OverlayData,
}

impl Overlay {
    /// An overlay over `base` without any writes.
    #[must_use]
    pub fn new(base: Box<dyn BlockBackend>) -> Self {
        Self::with_data(base, OverlayData::default())
    }

    /// An overlay over `base` that starts with saved writes.
    #[must_use]
    pub fn with_data(base: Box<dyn BlockBackend>, written: OverlayData) -> Self {
        Self { base, written }
    }

    /// What was written so far.
    #[must_use]
    pub fn data(&self) -> &OverlayData {
        &self.written
    }

    fn check(&self, offset: u64, len: usize) -> Result<(), BlockError> {
        offset.checked_add(len as u64).filter(|&end| end <= self.base.len()).map(|_| ()).ok_or(BlockError::OutOfRange)
    }

    /// Makes sector `n` present, from the base, unless it already is (before a write to a part of it).
    fn fetch(&mut self, n: u64) -> Result<BlockStatus, BlockError> {
        if self.written.sector(n).is_some() {
            return Ok(BlockStatus::Ready);
        }
        let mut buf = [0; SECTOR as usize];
        let len = SECTOR.min(self.base.len() - n * SECTOR) as usize;
        let status = self.base.read(n * SECTOR, &mut buf[..len])?;
        if status == BlockStatus::Ready
            && let Some(sector) = self.written.sector_mut(n)
        {
            sector.copy_from_slice(&buf);
        }
        Ok(status)
    }
}

impl BlockBackend for Overlay {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn written(&self) -> Option<OverlayData> {
        Some(self.written.clone())
    }

    fn set_written(&mut self, data: OverlayData) {
        self.written = data;
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        self.check(offset, out.len())?;
        let end = offset + out.len() as u64;
        let mut at = offset;
        while at < end {
            // The longest run that is wholly here or wholly in the base.
            let here = self.written.sector(at / SECTOR).is_some();
            let mut stop = (at / SECTOR + 1) * SECTOR;
            while !here && stop < end && self.written.sector(stop / SECTOR).is_none() {
                stop += SECTOR;
            }
            let stop = stop.min(end);
            let part = &mut out[(at - offset) as usize..(stop - offset) as usize];
            if let Some(sector) = self.written.sector(at / SECTOR) {
                let from = (at % SECTOR) as usize;
                part.copy_from_slice(&sector[from..from + part.len()]);
            } else if self.base.read(at, part)? == BlockStatus::Pending {
                return Ok(BlockStatus::Pending);
            }
            at = stop;
        }
        Ok(BlockStatus::Ready)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError> {
        self.check(offset, data.len())?;
        let end = offset + data.len() as u64;
        for edge in [offset, end] {
            if edge % SECTOR != 0 && !data.is_empty() && self.fetch(edge / SECTOR)? == BlockStatus::Pending {
                return Ok(BlockStatus::Pending);
            }
        }
        let mut at = offset;
        while at < end {
            let stop = ((at / SECTOR + 1) * SECTOR).min(end);
            let part = &data[(at - offset) as usize..(stop - offset) as usize];
            if let Some(sector) = self.written.sector_mut(at / SECTOR) {
                let from = (at % SECTOR) as usize;
                sector[from..from + part.len()].copy_from_slice(part);
            }
            at = stop;
        }
        Ok(BlockStatus::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_outside_the_image_are_errors() {
        let mut b = MemoryBlock::new(vec![0; 1024]);
        assert_eq!(b.read(1000, &mut [0; 25]), Err(BlockError::OutOfRange));
        assert_eq!(b.write(u64::MAX, &[0]), Err(BlockError::OutOfRange));
        assert_eq!(b.write(1023, &[9]), Ok(BlockStatus::Ready));
        b.read_only = true;
        assert_eq!(b.write(0, &[9]), Err(BlockError::ReadOnly));
    }

    #[test]
    fn an_overlay_keeps_writes_and_leaves_the_base_alone() {
        let image: Vec<u8> = (0..5000_u32).map(|i| (i / 7) as u8).collect();
        let mut expected = image.clone();
        let mut o = Overlay::new(Box::new(MemoryBlock::new(image.clone())));
        for (at, len) in [(0, 512), (700, 3), (1000, 100), (2048, 2048), (4990, 10), (512, 0)] {
            let data: Vec<u8> = (0..len).map(|i| (i * 3 + at) as u8).collect();
            expected[at..at + len].copy_from_slice(&data);
            assert_eq!(o.write(at as u64, &data), Ok(BlockStatus::Ready));
        }
        let mut back = vec![0; 5000];
        assert_eq!(o.read(0, &mut back), Ok(BlockStatus::Ready));
        assert!(back == expected);
        assert_eq!(o.read(4999, &mut [0; 2]), Err(BlockError::OutOfRange));
        assert_eq!(o.write(u64::MAX, &[0; 2]), Err(BlockError::OutOfRange));

        let saved = serde_json::to_string(o.data()).expect("serialises");
        let data = serde_json::from_str(&saved).expect("deserialises");
        let mut o = Overlay::with_data(Box::new(MemoryBlock::new(image)), data);
        let mut part = vec![0; 1500];
        assert_eq!(o.read(650, &mut part), Ok(BlockStatus::Ready));
        assert!(part == expected[650..2150]);
    }
}
