//! The one block of host memory behind guest RAM, video RAM and ROM images.
//!
//! It is the only module that touches the block, and one of the few with `unsafe`: vCPUs on several
//! threads may share the block, so it is accessed through a raw pointer and never through references.
#![allow(unsafe_code, reason = "shared guest memory cannot be a Rust slice; each block states its invariant")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes kept behind the end so that an access that begins in the block never leaves the allocation.
const GUARD: usize = 64;
const ALIGN: usize = 4096;

/// A zero-initialised, page-aligned block of bytes addressed by offset.
#[derive(Debug)]
pub struct Ram {
    ptr: *mut u8,
    len: usize,
    /// For each page one bit for each 64-byte granule that decoded or translated code was read from. It never moves:
    /// translated code looks into it.
    code: Box<[AtomicU64]>,
}

// SAFETY: the block is plain bytes, owned by this value until it is dropped; concurrent guest accesses
// race exactly as they do on hardware and no Rust reference to the bytes is ever handed out.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.ptr, Self::layout(self.len)) }
    }
}

macro_rules! access {
    ($read:ident, $write:ident, $read_inside:ident, $write_inside:ident, $t:ty) => {
        /// Reads a little-endian value at `offset`; an offset outside the block reads zero.
        #[inline(always)]
        #[must_use]
        pub fn $read(&self, offset: u32) -> $t {
            if offset as usize >= self.len {
                return 0;
            }
            // SAFETY: `offset < len`, and GUARD bytes follow the block, so all bytes are inside the allocation.
            <$t>::from_le(unsafe { self.ptr.add(offset as usize).cast::<$t>().read_unaligned() })
        }

        /// Reads like the checked one without a check.
        ///
        /// # Safety
        /// `offset` lies inside the block.
        #[inline(always)]
        #[must_use]
        pub unsafe fn $read_inside(&self, offset: u32) -> $t {
            debug_assert!((offset as usize) < self.len);
            // SAFETY: the caller's promise, and GUARD bytes follow the block.
            <$t>::from_le(unsafe { self.ptr.add(offset as usize).cast::<$t>().read_unaligned() })
        }

        /// Writes like the checked one without a check.
        ///
        /// # Safety
        /// `offset` lies inside the block.
        #[inline(always)]
        pub unsafe fn $write_inside(&self, offset: u32, value: $t) {
            debug_assert!((offset as usize) < self.len);
            // SAFETY: the caller's promise, and GUARD bytes follow the block.
            unsafe { self.ptr.add(offset as usize).cast::<$t>().write_unaligned(value.to_le()) }
        }

        /// Writes a little-endian value at `offset`; an offset outside the block is ignored.
        #[inline(always)]
        pub fn $write(&self, offset: u32, value: $t) {
            if offset as usize >= self.len {
                return;
            }
            // SAFETY: as for the read.
            unsafe { self.ptr.add(offset as usize).cast::<$t>().write_unaligned(value.to_le()) }
        }
    };
}

impl Ram {
    /// Allocates `len` zeroed bytes (rounded up to a page).
    #[must_use]
    pub fn new(len: usize) -> Self {
        let len = len.max(1).next_multiple_of(ALIGN);
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            handle_alloc_error(layout);
        }
        let code = (0..len / ALIGN).map(|_| AtomicU64::new(0)).collect();
        Self { ptr, len, code }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len + GUARD, ALIGN)
            .unwrap_or_else(|_| panic!("guest memory of {len} bytes cannot be laid out"))
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the block is empty (it never is).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte in the host's address space, for embedders that map it (wasm).
    #[must_use]
    pub fn host_address(&self) -> usize {
        self.ptr as usize
    }

    /// Which granules of the page at `offset` hold code.
    #[inline(always)]
    #[must_use]
    pub fn code(&self, offset: u32) -> u64 {
        self.code.get(offset as usize / ALIGN).map_or(0, |granules| granules.load(Ordering::Relaxed))
    }

    /// Notes which granules of the page at `offset` hold code.
    pub(super) fn set_code(&self, offset: u32, granules: u64) {
        if let Some(page) = self.code.get(offset as usize / ALIGN) {
            page.store(granules, Ordering::Relaxed);
        }
    }

    /// Where that is noted, for embedders that map it (wasm): 64 bits for each page.
    #[must_use]
    pub fn code_address(&self) -> usize {
        self.code.as_ptr() as usize
    }

    access!(read_u8, write_u8, read_u8_inside, write_u8_inside, u8);
    access!(read_u16, write_u16, read_u16_inside, write_u16_inside, u16);
    access!(read_u32, write_u32, read_u32_inside, write_u32_inside, u32);
    access!(read_u64, write_u64, read_u64_inside, write_u64_inside, u64);
    access!(read_u128, write_u128, read_u128_inside, write_u128_inside, u128);

    /// Copies bytes out; what lies outside the block reads as zero.
    pub fn read(&self, offset: u32, out: &mut [u8]) {
        let n = out.len().min(self.len.saturating_sub(offset as usize));
        out[n..].fill(0);
        // SAFETY: `offset + n <= len`, and `out` is a distinct Rust allocation.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr.add((offset as usize).min(self.len)), out.as_mut_ptr(), n) }
    }

    /// Copies bytes in; what lies outside the block is dropped.
    pub fn write(&self, offset: u32, data: &[u8]) {
        let n = data.len().min(self.len.saturating_sub(offset as usize));
        // SAFETY: as for `read`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.ptr.add((offset as usize).min(self.len)), n) }
    }

    /// Moves `n` bytes inside the block (overlap allowed); out-of-range moves are ignored.
    pub fn copy_within(&self, src: u32, dst: u32, n: u32) {
        let fits = |o: u32| o as usize + n as usize <= self.len;
        if fits(src) && fits(dst) {
            // SAFETY: both ranges are inside the block.
            unsafe { std::ptr::copy(self.ptr.add(src as usize), self.ptr.add(dst as usize), n as usize) }
        }
    }

    /// Fills `n` bytes at `offset` with `value`; clipped to the block.
    pub fn fill(&self, offset: u32, n: u32, value: u8) {
        let n = (n as usize).min(self.len.saturating_sub(offset as usize));
        // SAFETY: clipped to the block.
        unsafe { std::ptr::write_bytes(self.ptr.add((offset as usize).min(self.len)), value, n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_at_and_over_the_end_stay_inside() {
        let ram = Ram::new(4096);
        ram.write_u32(4094, 0x1122_3344);
        assert_eq!(ram.read_u16(4094), 0x3344);
        ram.write_u32(4096, 1);
        assert_eq!(ram.read_u32(4096), 0);
        assert_eq!(ram.read_u32(u32::MAX), 0);
        let mut out = [1; 4];
        ram.read(4095, &mut out);
        assert_eq!(out, [0x33, 0, 0, 0]);
        ram.write(u32::MAX, &[1, 2]);
        ram.copy_within(0, 4000, 97);
        ram.fill(4090, 100, 7);
        assert_eq!(ram.read_u8(4095), 7);
    }
}
