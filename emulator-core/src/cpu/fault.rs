//! Faults as values: exception vectors with their error codes (SDM vol. 3, chapter 6).

use std::num::NonZeroU32;

/// The result of anything that may fault.
pub type Exec<T = ()> = Result<T, Fault>;

/// An exception to deliver, packed so that `Exec<u32>` stays in registers.
///
/// Bits 7:0 vector, bit 8 an error code follows, bit 9 always set, bit 10 not an exception but a request
/// ([`Fault::DEFER`]), bits 31:16 error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(NonZeroU32);

const HAS_CODE: u32 = 1 << 8;
const ALWAYS: u32 = 1 << 9;
const REQUEST: u32 = 1 << 10;

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident = $vector:expr;)*) => { $($(#[$doc])* pub const $name: Fault = Fault::plain($vector);)* };
}
macro_rules! coded {
    ($($(#[$doc:meta])* $name:ident = $vector:expr;)*) => { $($(#[$doc])* #[must_use] pub const fn $name(code: u16) -> Fault { Fault::coded($vector, code) })* };
}

impl Fault {
    plain! {
        /// #DE, divide error.
        DE = 0;
        /// #DB, debug.
        DB = 1;
        /// #BP, breakpoint (INT3).
        BP = 3;
        /// #OF, overflow (INTO).
        OF = 4;
        /// #BR, bound range exceeded.
        BR = 5;
        /// #UD, invalid opcode.
        UD = 6;
        /// #NM, device not available.
        NM = 7;
        /// #MF, x87 error.
        MF = 16;
        /// #XM, SIMD floating-point error.
        XM = 19;
    }
    coded! {
        /// #DF, double fault (code 0).
        df = 8;
        /// #TS, invalid TSS.
        ts = 10;
        /// #NP, segment not present.
        np = 11;
        /// #SS, stack fault.
        ss = 12;
        /// #GP, general protection.
        gp = 13;
        /// #PF, page fault; CR2 is set by whoever raises it.
        pf = 14;
        /// #AC, alignment check (code 0).
        ac = 17;
    }

    /// Not an exception: nothing was done, repeat the instruction alone (outside the fast block loop),
    /// where device accesses and stores to code pages are allowed.
    pub const DEFER: Fault = Fault(Self::pack(ALWAYS | REQUEST));

    const fn pack(bits: u32) -> NonZeroU32 {
        match NonZeroU32::new(bits) {
            Some(n) => n,
            None => NonZeroU32::MIN,
        }
    }

    const fn plain(vector: u8) -> Self {
        Self(Self::pack(ALWAYS | vector as u32))
    }

    const fn coded(vector: u8, code: u16) -> Self {
        Self(Self::pack(ALWAYS | HAS_CODE | vector as u32 | (code as u32) << 16))
    }

    /// The exception's vector.
    #[must_use]
    pub const fn vector(self) -> u8 {
        self.0.get() as u8
    }

    /// The error code, for exceptions that push one.
    #[must_use]
    pub const fn code(self) -> Option<u16> {
        if self.0.get() & HAS_CODE != 0 { Some((self.0.get() >> 16) as u16) } else { None }
    }

    /// Whether this is [`Fault::DEFER`].
    #[must_use]
    pub const fn is_defer(self) -> bool {
        self.0.get() & REQUEST != 0
    }

    /// A double fault arises when `self` comes while delivering `first` (SDM vol. 3, table 6-5).
    #[must_use]
    pub const fn escalates(self, first: Self) -> bool {
        const fn contributory(v: u8) -> bool {
            matches!(v, 0 | 10..=13)
        }
        let (a, b) = (first.vector(), self.vector());
        (contributory(a) && contributory(b)) || (a == 14 && (contributory(b) || b == 14))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributory_table() {
        assert!(Fault::gp(0).escalates(Fault::np(8)));
        assert!(Fault::pf(0).escalates(Fault::pf(2)));
        assert!(Fault::gp(0).escalates(Fault::pf(2)));
        assert!(!Fault::pf(0).escalates(Fault::gp(0)));
        assert!(!Fault::UD.escalates(Fault::gp(0)));
        assert_eq!(Fault::gp(0x1234).code(), Some(0x1234));
        assert_eq!(Fault::UD.code(), None);
        assert_eq!(std::mem::size_of::<Exec<()>>(), 4);
    }
}
