//! Segment registers with their hidden parts, and descriptors (SDM vol. 3, 3.4).

use serde::{Deserialize, Serialize};

/// Segment register numbers, in the order that instructions encode them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "register names")]
pub enum Seg {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

impl Seg {
    /// All, in encoding order.
    pub const ALL: [Self; 6] = [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs];
}

/// Access rights of a segment as `LAR` shows them shifted right by 8: bits 7:0 are the descriptor's
/// byte 5 (type, S, DPL, P), bits 15:12 its AVL, L, D/B and G.
pub mod rights {
    /// Accessed.
    pub const ACCESSED: u16 = 1;
    /// Readable (code) or writable (data).
    pub const RW: u16 = 2;
    /// Conforming (code) or expand-down (data).
    pub const CONFORMING_OR_DOWN: u16 = 4;
    /// Executable: a code segment.
    pub const CODE: u16 = 8;
    /// Not a system descriptor.
    pub const S: u16 = 0x10;
    /// Present.
    pub const PRESENT: u16 = 0x80;
    /// 64-bit code.
    pub const LONG: u16 = 0x2000;
    /// Default size 32 bits (code, stack).
    pub const BIG: u16 = 0x4000;
    /// Limit counts pages.
    pub const GRANULAR: u16 = 0x8000;
}

/// A segment register: the visible selector and the hidden base, limit and rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Visible part.
    pub selector: u16,
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes (granularity already applied): the last valid offset, or for expand-down segments
    /// the last invalid one.
    pub limit: u32,
    /// See [`rights`]. Zero marks an unusable (null) segment.
    pub rights: u16,
}

impl Segment {
    /// Real-mode segment: base 16 × selector, 64 KiB, writable data, DPL 0.
    #[must_use]
    pub const fn real(selector: u16) -> Self {
        Self {
            selector,
            base: (selector as u64) << 4,
            limit: 0xffff,
            rights: rights::PRESENT | rights::S | rights::RW | rights::ACCESSED,
        }
    }

    /// A null selector in a data segment register.
    #[must_use]
    pub const fn null(selector: u16) -> Self {
        Self { selector, base: 0, limit: 0, rights: 0 }
    }

    /// From the 8 bytes of a code, data or system segment descriptor.
    #[must_use]
    pub const fn from_descriptor(selector: u16, descriptor: u64) -> Self {
        let low = descriptor as u32;
        let high = (descriptor >> 32) as u32;
        let base = (low >> 16) | (high & 0xff) << 16 | (high & 0xff00_0000);
        let raw = (low & 0xffff) | (high & 0xf_0000);
        let rights = ((high >> 8) & 0xf0ff) as u16;
        let limit = if rights & rights::GRANULAR != 0 { raw << 12 | 0xfff } else { raw };
        Self { selector, base: base as u64, limit, rights }
    }

    /// Requested privilege level of the selector.
    #[must_use]
    pub const fn rpl(&self) -> u8 {
        (self.selector & 3) as u8
    }

    /// Descriptor privilege level.
    #[must_use]
    pub const fn dpl(&self) -> u8 {
        (self.rights >> 5 & 3) as u8
    }

    /// Whether the descriptor is present (false for null segments).
    #[must_use]
    pub const fn present(&self) -> bool {
        self.rights & rights::PRESENT != 0
    }

    /// Whether it is a code segment.
    #[must_use]
    pub const fn is_code(&self) -> bool {
        self.rights & (rights::S | rights::CODE) == rights::S | rights::CODE
    }

    /// Whether it is a conforming code segment.
    #[must_use]
    pub const fn is_conforming(&self) -> bool {
        self.is_code() && self.rights & rights::CONFORMING_OR_DOWN != 0
    }

    /// Whether it is a data segment.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.rights & (rights::S | rights::CODE) == rights::S
    }

    /// Whether data can be read through it.
    #[must_use]
    pub const fn readable(&self) -> bool {
        self.is_data() || (self.is_code() && self.rights & rights::RW != 0)
    }

    /// Whether data can be written through it.
    #[must_use]
    pub const fn writable(&self) -> bool {
        self.is_data() && self.rights & rights::RW != 0
    }

    /// D/B bit.
    #[must_use]
    pub const fn big(&self) -> bool {
        self.rights & rights::BIG != 0
    }

    /// System descriptor type (0 to 15), `None` for code and data.
    #[must_use]
    pub const fn system_type(&self) -> Option<u8> {
        if self.rights & rights::S == 0 { Some((self.rights & 15) as u8) } else { None }
    }

    /// Whether `len` bytes at `offset` are inside the limit (either direction of growth).
    #[must_use]
    pub const fn contains(&self, offset: u64, len: u64) -> bool {
        let last = offset + (len - 1);
        if self.is_data() && self.rights & rights::CONFORMING_OR_DOWN != 0 {
            let top = if self.big() { 0xffff_ffff } else { 0xffff };
            offset > self.limit as u64 && last <= top
        } else {
            last <= self.limit as u64
        }
    }

    /// Whether it starts at 0 and spans 4 GiB with plain growth: addresses need no check.
    #[must_use]
    pub const fn flat(&self) -> bool {
        self.base == 0
            && self.limit == u32::MAX
            && self.present()
            && !(self.is_data() && self.rights & rights::CONFORMING_OR_DOWN != 0)
    }
}
