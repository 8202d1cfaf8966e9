//! The 32-bit address space of a vector, the same natively and in the core, and its segments.
//!
//! Everything else below 4 GiB is unmapped on both sides, so that any address gives the same answer.

/// Code: two pages that may be read and executed. The page behind them is unmapped.
pub const CODE: u32 = 0x2000_0000;
/// Bytes of code.
pub const CODE_LEN: u32 = 0x2000;
/// A page of 64-bit code that may be read and executed: where instructions return to. The core has a copy, as data.
pub const EXIT: u32 = 0x2800_0000;
/// Data: two pages to read and write, and one to read.
pub const DATA: u32 = 0x3000_0000;
/// Bytes that may be written.
pub const DATA_RW: u32 = 0x2000;
/// Bytes that may be read.
pub const DATA_LEN: u32 = 0x3000;
/// What lies between instructions: INT3.
pub const FILLER: u8 = 0xcc;

/// Selector of Linux's flat 32-bit code segment.
pub const USER_CS: u16 = 0x23;
/// Selector of Linux's flat data segment.
pub const USER_DS: u16 = 0x2b;
/// Selector of Linux's 64-bit code segment: never given to a vector.
pub const LONG_CS: u16 = 0x33;

/// Selector of LDT entry `index`, at privilege level 3.
#[must_use]
pub const fn local(index: u16) -> u16 {
    index << 3 | 7
}

/// A code or data segment of privilege level 3 in the LDT.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// Linear base.
    pub base: u32,
    /// Limit, in pages when `pages`.
    pub limit: u32,
    /// Granularity.
    pub pages: bool,
    /// D/B.
    pub big: bool,
    /// Bits 3:1 of the type: code, conforming or expand-down, readable or writable.
    pub kind: u8,
    /// P.
    pub present: bool,
}

/// Kinds of [`Descriptor`].
const READ_ONLY: u8 = 0;
const WRITABLE: u8 = 1;
const DOWN: u8 = 3;
const EXECUTE_ONLY: u8 = 4;
const READABLE: u8 = 5;
const CONFORMING: u8 = 7;

const fn data(base: u32, limit: u32, kind: u8) -> Descriptor {
    Descriptor { base, limit, pages: false, big: true, kind, present: true }
}

const fn flat(kind: u8) -> Descriptor {
    Descriptor { base: 0, limit: 0xf_ffff, pages: true, big: true, kind, present: true }
}

const fn small(base: u32, limit: u32, kind: u8) -> Descriptor {
    Descriptor { base, limit, pages: false, big: false, kind, present: true }
}

/// Data, 32-bit, all of [`DATA`].
pub const L_DATA: u16 = local(1);
/// The same, read-only.
pub const L_READ_ONLY: u16 = local(2);
/// Expand-down: offsets from 1800h on.
pub const L_DOWN: u16 = local(3);
/// Flat code.
pub const L_CODE: u16 = local(4);
/// Flat code that cannot be read.
pub const L_EXECUTE_ONLY: u16 = local(5);
/// Not present.
pub const L_ABSENT: u16 = local(6);
/// 16-bit code over [`CODE`].
pub const L_CODE16: u16 = local(7);
/// 16-bit data that starts at [`DATA`].
pub const L_DATA16: u16 = local(8);
/// 16-bit data that ends with the writable pages.
pub const L_HIGH16: u16 = local(9);
/// Flat conforming code, not present.
pub const L_CONFORMING: u16 = local(10);
/// Data with an odd base and limit.
pub const L_ODD: u16 = local(11);

/// The LDT. Entry 0 is empty.
pub const LDT: [Option<Descriptor>; 12] = [
    None,
    Some(data(DATA, DATA_LEN - 1, WRITABLE)),
    Some(data(DATA, DATA_LEN - 1, READ_ONLY)),
    Some(data(DATA - 0x1000, 0x17ff, DOWN)),
    Some(flat(READABLE)),
    Some(flat(EXECUTE_ONLY)),
    Some(Descriptor { present: false, ..data(DATA, 0xfff, WRITABLE) }),
    Some(small(CODE, CODE_LEN - 1, READABLE)),
    Some(small(DATA, 0xffff, WRITABLE)),
    Some(small(DATA - 0xe000, 0xffff, WRITABLE)),
    // Linux grants conforming code only as not present.
    Some(Descriptor { present: false, ..flat(CONFORMING) }),
    Some(data(DATA + 3, 0x1232, WRITABLE)),
];

/// Selectors that a vector may load, and what a load of them may answer: all of the LDT, null, Linux's two, and some
/// beyond both tables.
pub const SELECTORS: [u16; 20] = [
    0,
    3,
    USER_CS,
    USER_DS,
    USER_DS & !3,
    4,
    L_DATA,
    L_READ_ONLY,
    L_DOWN,
    L_CODE,
    L_EXECUTE_ONLY,
    L_ABSENT,
    L_CODE16,
    L_DATA16,
    L_HIGH16,
    L_CONFORMING,
    L_ODD,
    L_DATA & !3,
    local(12),
    0xfff8,
];

impl Descriptor {
    /// The eight bytes, accessed as Linux makes them.
    #[must_use]
    pub const fn raw(&self) -> u64 {
        let access = 0x71 | (self.kind as u64) << 1 | (self.present as u64) << 7;
        let flags = (self.pages as u64) << 3 | (self.big as u64) << 2;
        (self.limit & 0xffff) as u64
            | (self.base & 0xff_ffff) as u64 * 0x1_0000
            | access << 40
            | ((self.limit >> 16) as u64) << 48
            | flags << 52
            | ((self.base >> 24) as u64) << 56
    }
}

/// Linear base of a segment that a vector may use; 0 for the flat ones.
#[must_use]
pub fn base(selector: u16) -> u32 {
    if selector & 4 == 0 {
        return 0;
    }
    LDT.get(usize::from(selector >> 3)).copied().flatten().map_or(0, |d| d.base)
}

/// Whether code of this segment is 32-bit.
#[must_use]
pub fn is_code32(selector: u16) -> bool {
    selector != L_CODE16
}
