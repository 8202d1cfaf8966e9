//! The software TLBs of one vCPU: direct-mapped, 8 bytes an entry.
//!
//! An entry's low half is the linear page address (its low 12 bits zero, so that a page-crossing access
//! compared by its last byte never matches), its high half what to add to a linear address to get an
//! offset into the memory block. Only plain memory is ever entered: MMIO and ROM writes miss. Writes to pages that
//! hold decoded code miss as well, but find their translation: such an entry has a mark in its low half.

/// Entries for each privilege (supervisor, user).
pub const ENTRIES: usize = 2048;
/// Never matches: the low 12 bits of a tag are zero.
const INVALID: u64 = 1;
/// Marks a write entry whose page holds code: it never matches, and what it translates to may be written where no code is.
pub const HOLDS_CODE: u64 = 0x400;

/// One direct-mapped array, supervisor half first.
pub type Array = [u64; 2 * ENTRIES];
/// One bit for each entry of an array: its page may not be global.
#[derive(Debug, Clone)]
struct Marks {
    words: [u64; WORDS],
    /// One bit for each word that may not be zero.
    summary: [u64; WORDS / 64],
}

const WORDS: usize = 2 * ENTRIES / 64;

impl Marks {
    const NONE: Self = Self { words: [0; WORDS], summary: [0; WORDS / 64] };

    fn mark(&mut self, i: usize, global: bool) {
        let bit = 1 << (i & 63);
        let word = &mut self.words[i >> 6];
        if global {
            *word &= !bit;
        } else {
            *word |= bit;
            self.summary[i >> 12] |= 1 << (i >> 6 & 63);
        }
    }

    /// Takes all marks away, and drops the entries that have them.
    fn drop_marked(&mut self, array: &mut Array) {
        // A process touches few pages before the next one runs, so most words are zero.
        for (n, summary) in self.summary.iter_mut().enumerate() {
            for word in bits(std::mem::take(summary)).map(|bit| n << 6 | bit) {
                for bit in bits(std::mem::take(&mut self.words[word])) {
                    array[word << 6 | bit] = INVALID;
                }
            }
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize & 63;
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}

/// Translations for reads, writes and instruction fetches.
#[derive(Debug, Clone)]
pub struct Tlb {
    /// Data reads.
    pub read: Array,
    /// Data writes; the page is already dirty in its page table.
    pub write: Array,
    /// Instruction fetches.
    pub fetch: Array,
    /// Which entries of `read`, `write` and `fetch` may be of pages that are not global.
    local: [Marks; 3],
    /// Whether the page that was translated last is a global one (set by the page walk).
    pub walked_global: bool,
    /// The memory epoch that the entries belong to.
    pub epoch: u64,
    /// The video RAM epoch that the write entries belong to.
    pub vram_epoch: u64,
    /// One bit for each 4 MiB of linear space that may hold translations of large pages.
    pub large: [u64; 16],
    /// Counts flushes, so that caches built on translations can tell that they are out of date.
    pub generation: u32,
}

impl Default for Tlb {
    fn default() -> Self {
        let empty = || [INVALID; 2 * ENTRIES];
        Self {
            read: empty(),
            write: empty(),
            fetch: empty(),
            local: [Marks::NONE; 3],
            walked_global: false,
            epoch: 0,
            vram_epoch: 0,
            large: [0; 16],
            generation: 0,
        }
    }
}

/// Index of a linear address for a privilege half (0 supervisor, 1 user).
#[inline(always)]
#[must_use]
pub fn slot(lin: u32, user: u32) -> usize {
    (((lin >> 12) as usize & (ENTRIES - 1)) | user as usize * ENTRIES) & (2 * ENTRIES - 1)
}

/// An entry that maps the page of `lin` to block offset `offset` (page aligned).
#[inline]
#[must_use]
pub fn entry(lin: u32, offset: u32) -> u64 {
    let page = lin & !0xfff;
    u64::from(page) | u64::from(offset.wrapping_sub(page)) << 32
}

/// The block offset of an access whose first byte is `lin` and last byte `lin + size - 1`, on a hit.
#[inline(always)]
#[must_use]
pub fn hit(entry: u64, lin: u32, size: u32) -> Option<u32> {
    if entry as u32 == (lin.wrapping_add(size - 1) & !0xfff) {
        Some(lin.wrapping_add((entry >> 32) as u32))
    } else {
        None
    }
}

/// The block offset of a write that [`hit`] denies because its page holds code.
#[inline(always)]
#[must_use]
pub fn hit_beside_code(entry: u64, lin: u32, size: u32) -> Option<u32> {
    hit(entry ^ HOLDS_CODE, lin, size)
}

impl Tlb {
    /// Enters a translation for reads that was just walked.
    pub fn enter_read(&mut self, i: usize, entry: u64) {
        self.read[i] = entry;
        self.local[0].mark(i, self.walked_global);
    }

    /// Enters a translation for writes that was just walked.
    pub fn enter_write(&mut self, i: usize, entry: u64) {
        self.write[i] = entry;
        self.local[1].mark(i, self.walked_global);
    }

    /// Enters a translation for fetches that was just walked.
    pub fn enter_fetch(&mut self, i: usize, entry: u64) {
        self.fetch[i] = entry;
        self.local[2].mark(i, self.walked_global);
    }

    /// Drops everything but global pages (a load of CR3; SDM vol. 3, 4.10.4.1).
    pub fn flush_non_global(&mut self) {
        for (array, marks) in [&mut self.read, &mut self.write, &mut self.fetch].into_iter().zip(&mut self.local) {
            marks.drop_marked(array);
        }
        self.generation = self.generation.wrapping_add(1);
    }

    /// Drops the data translations of one half (0 supervisor, 1 user), because from now on its accesses are watched.
    pub fn flush_data(&mut self, half: usize) {
        let entries = half * ENTRIES..(half + 1) * ENTRIES;
        self.read[entries.clone()].fill(INVALID);
        self.write[entries].fill(INVALID);
    }

    /// Drops everything, global pages too.
    pub fn flush_all(&mut self) {
        self.read.fill(INVALID);
        self.write.fill(INVALID);
        self.fetch.fill(INVALID);
        self.local = [Marks::NONE; 3];
        self.large = [0; 16];
        self.generation = self.generation.wrapping_add(1);
    }

    /// Drops the write translations to block offsets from `first` on.
    pub fn flush_writes_from(&mut self, first: u32) {
        for e in self.write.iter_mut().filter(|e| **e != INVALID) {
            if (*e as u32).wrapping_add((*e >> 32) as u32) >= first {
                *e = INVALID;
            }
        }
    }

    /// The page at a block offset begins to hold code: marks all its write translations.
    pub fn mark_code_page(&mut self, offset: u32) {
        let page = offset & !0xfff;
        for e in &mut self.write {
            if (*e as u32).wrapping_add((*e >> 32) as u32) == page {
                *e |= HOLDS_CODE;
            }
        }
    }

    /// Notes that `lin` was translated by a large page.
    pub fn mark_large(&mut self, lin: u32) {
        self.large[(lin >> 28) as usize] |= 1 << (lin >> 22 & 63);
    }

    /// Drops the page of `lin`: all of it when it is (or was) a large one.
    pub fn flush_page(&mut self, lin: u32) {
        if self.large[(lin >> 28) as usize] >> (lin >> 22 & 63) & 1 != 0 {
            // 4 MiB cover a thousand slots and more: drop the entries whose tag is in the region.
            for array in [&mut self.read, &mut self.write, &mut self.fetch] {
                for e in array.iter_mut().filter(|e| **e as u32 >> 22 == lin >> 22) {
                    *e = INVALID;
                }
            }
        } else {
            for user in 0..2 {
                let i = slot(lin, user);
                self.read[i] = INVALID;
                self.write[i] = INVALID;
                self.fetch[i] = INVALID;
            }
        }
        self.generation = self.generation.wrapping_add(1);
    }
}
