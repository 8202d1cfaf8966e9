//! The allocator of the wasm build.
//!
//! The standard one always grows the memory. A closed machine's memory is given to the next machine (zeroed), where that
//! would only ever use up what the memory may grow to; so this one first takes the pages that are there. Big blocks
//! (guest RAM, disk images) get whole pages of their own: fresh pages are zero already, so a machine's RAM is neither
//! cleared nor backed by the host's memory before the guest touches it.
#![allow(unsafe_code, reason = "a global allocator hands out raw memory; each block states its invariant")]

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use wasm_bindgen::prelude::*;

const PAGE: usize = 1 << 16;
/// Blocks from this size on have pages of their own.
const BIG: usize = 1 << 20;
/// Blocks from this size on rather get fresh zero pages than used ones.
const RATHER_FRESH: usize = 16 << 20;
/// Runs of freed pages that are remembered; more are lost until the machine is closed.
const RUNS: usize = 128;

unsafe extern "C" {
    /// Defined by the linker: its address is where static data and stack end.
    static __heap_base: u8;
}

/// First address never handed out; 0 before the first allocation. Only used under the heap's lock.
static CURSOR: AtomicUsize = AtomicUsize::new(0);

/// Whole pages that were never used, so they are zero; `None` when the memory may not grow any more.
fn fresh_pages(size: usize) -> Option<usize> {
    let begin = match CURSOR.load(Ordering::Relaxed) {
        // wasm-bindgen puts a few words of its own behind the linker's data: leave a page for them.
        0 => (&raw const __heap_base as usize).checked_next_multiple_of(PAGE)?.checked_add(PAGE)?,
        cursor => cursor,
    };
    let end = begin.checked_add(size.checked_next_multiple_of(PAGE)?)?;
    let have = core::arch::wasm32::memory_size(0);
    let pages = end / PAGE;
    if pages > have && core::arch::wasm32::memory_grow(0, pages - have) == usize::MAX {
        return None;
    }
    CURSOR.store(end, Ordering::Relaxed);
    Some(begin)
}

/// Whether a page of this memory is all zero. The first one, with address 0, counts as used.
#[wasm_bindgen]
pub fn is_zero_page(page: usize) -> bool {
    if page == 0 || page >= core::arch::wasm32::memory_size(0) {
        return false;
    }
    let words = (page * PAGE) as *const u64;
    // SAFETY: the page lies inside the memory and is aligned to more than a word; volatile reads assume nothing of who else
    // uses it, and what they return is only compared with zero.
    (0..PAGE / size_of::<u64>()).all(|i| unsafe { words.add(i).read_volatile() } == 0)
}

/// Where the small blocks' allocator gets its pages.
struct Pages;

// SAFETY: every call to `alloc` returns pages that nothing else uses; nothing is ever released or moved.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        match fresh_pages(size) {
            Some(begin) => (begin as *mut u8, size.next_multiple_of(PAGE), 0),
            None => (std::ptr::null_mut(), 0, 0),
        }
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }
    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        false
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        PAGE
    }
}

/// Freed pages of big blocks, by address.
struct Runs {
    runs: [(usize, usize); RUNS],
    count: usize,
}

impl Runs {
    /// Takes used pages, the first run that is long enough.
    fn take(&mut self, size: usize) -> Option<usize> {
        let size = size.next_multiple_of(PAGE);
        let at = self.runs[..self.count].iter().position(|&(_, length)| length >= size)?;
        let (begin, length) = self.runs[at];
        if length == size {
            self.runs.copy_within(at + 1..self.count, at);
            self.count -= 1;
        } else {
            self.runs[at] = (begin + size, length - size);
        }
        Some(begin)
    }

    /// Gives pages back and joins them with their neighbours.
    fn give(&mut self, begin: usize, size: usize) {
        let size = size.next_multiple_of(PAGE);
        let at = self.runs[..self.count].partition_point(|&(other, _)| other < begin);
        let joins_left = at > 0 && self.runs[at - 1].0 + self.runs[at - 1].1 == begin;
        let joins_right = at < self.count && begin + size == self.runs[at].0;
        match (joins_left, joins_right) {
            (true, true) => {
                self.runs[at - 1].1 += size + self.runs[at].1;
                self.runs.copy_within(at + 1..self.count, at);
                self.count -= 1;
            }
            (true, false) => self.runs[at - 1].1 += size,
            (false, true) => self.runs[at] = (begin, self.runs[at].1 + size),
            (false, false) if self.count < RUNS => {
                self.runs.copy_within(at..self.count, at + 1);
                self.runs[at] = (begin, size);
                self.count += 1;
            }
            (false, false) => {}
        }
    }
}

struct Heap {
    small: Dlmalloc<Pages>,
    runs: Runs,
}

/// The allocator.
pub struct PageAllocator {
    locked: AtomicBool,
    heap: UnsafeCell<Heap>,
}

// SAFETY: the heap is only reached through `with`, which takes the lock.
unsafe impl Sync for PageAllocator {}

impl PageAllocator {
    pub const fn new() -> Self {
        let heap = Heap { small: Dlmalloc::new_with_allocator(Pages), runs: Runs { runs: [(0, 0); RUNS], count: 0 } };
        Self { locked: AtomicBool::new(false), heap: UnsafeCell::new(heap) }
    }

    /// Does something with the heap, alone. The lock spins: a page's main thread may not sleep, and a machine's memory is
    /// used by one thread at a time anyway.
    fn with<R>(&self, work: impl FnOnce(&mut Heap) -> R) -> R {
        while self.locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is held, and `work` cannot call the allocator again.
        let result = work(unsafe { &mut *self.heap.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

fn is_big(layout: &Layout) -> bool {
    layout.size() >= BIG && layout.align() <= PAGE
}

// SAFETY: big blocks are whole pages from `fresh_pages` or `Runs`, which never hand out a page twice; the others come
// from dlmalloc. Both keep size and alignment (a page's address is a multiple of every alignment up to a page).
unsafe impl GlobalAlloc for PageAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.with(|heap| {
            if is_big(&layout) {
                let pages = heap.runs.take(layout.size()).or_else(|| fresh_pages(layout.size()));
                return pages.map_or(std::ptr::null_mut(), |at| at as *mut u8);
            }
            // SAFETY: dlmalloc's contract is the caller's.
            unsafe { heap.small.malloc(layout.size(), layout.align()) }
        })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_big(&layout) && layout.size() >= RATHER_FRESH {
            if let Some(at) = self.with(|_| fresh_pages(layout.size())) {
                return at as *mut u8;
            }
        }
        // SAFETY: the caller's contract; what was allocated has `size` bytes.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.with(|heap| {
            if is_big(&layout) {
                heap.runs.give(block as usize, layout.size());
            } else {
                // SAFETY: the caller got it from `alloc` with this layout, so it is dlmalloc's.
                unsafe { heap.small.free(block, layout.size(), layout.align()) }
            }
        });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `GlobalAlloc::realloc` promises that the new size makes a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_big(&layout), is_big(&wanted)) {
            // SAFETY: the block is dlmalloc's and stays so.
            (false, false) => {
                self.with(|heap| unsafe { heap.small.realloc(block, layout.size(), layout.align(), size) })
            }
            (true, true) if layout.size().div_ceil(PAGE) == size.div_ceil(PAGE) => block,
            _ => {
                // SAFETY: both blocks have at least the bytes that are copied, and they are distinct.
                unsafe {
                    let new = self.alloc(wanted);
                    if !new.is_null() {
                        std::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}
