//! Backends of block devices: where a disk's sectors come from and go to.

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
        Self {
            data,
            read_only: false,
        }
    }

    fn range(&self, offset: u64, len: usize) -> Result<std::ops::Range<usize>, BlockError> {
        let start = usize::try_from(offset).map_err(|_| BlockError::OutOfRange)?;
        let end = start
            .checked_add(len)
            .filter(|&e| e <= self.data.len())
            .ok_or(BlockError::OutOfRange)?;
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
}
