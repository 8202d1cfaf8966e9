//! Conditions and single flags from the locals that hold the last computation.

use super::call;
use super::emit::{Emitter, IN_MEMORY, local, wasm};
use super::flow::State;
use crate::cpu::flags::{CF, LazyOp, OF, PF, SF, ZF};

/// Operation and width in bits of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Add(u32),
    Sub(u32),
    Logic(u32),
    Inc(u32),
    Dec(u32),
    Shl,
    Shr,
    Sar,
    Imul,
    Mul,
    Adc,
    Sbb,
    /// The flags themselves, in A.
    Flags,
    Other,
}

fn made(kind: LazyOp) -> Made {
    use LazyOp::*;
    match kind {
        Add8 => Made::Add(8),
        Add16 => Made::Add(16),
        Add32 => Made::Add(32),
        Sub8 => Made::Sub(8),
        Sub16 => Made::Sub(16),
        Sub32 => Made::Sub(32),
        Logic8 => Made::Logic(8),
        Logic16 => Made::Logic(16),
        Logic32 => Made::Logic(32),
        Inc8 => Made::Inc(8),
        Inc16 => Made::Inc(16),
        Inc32 => Made::Inc(32),
        Dec8 => Made::Dec(8),
        Dec16 => Made::Dec(16),
        Dec32 => Made::Dec(32),
        Shl32 => Made::Shl,
        Shr32 => Made::Shr,
        Sar32 => Made::Sar,
        Imul32 => Made::Imul,
        Mul32 => Made::Mul,
        Adc32 => Made::Adc,
        Sbb32 => Made::Sbb,
        Eager => Made::Flags,
        Add64 | Sub64 | Logic64 | Inc64 | Dec64 => Made::Other,
    }
}

fn width(made: Made) -> u32 {
    match made {
        Made::Add(n) | Made::Sub(n) | Made::Logic(n) | Made::Inc(n) | Made::Dec(n) => n,
        _ => 32,
    }
}

impl Emitter<'_> {
    /// Pushes condition `cc` as instructions encode it: 0 or 1, or any other value for true.
    #[inline(never)]
    pub(super) fn condition(&mut self, cc: u8) {
        let known = match self.state {
            State::Known(kind) => made(kind),
            _ => Made::Other,
        };
        if known == Made::Other {
            self.ask(cc);
            return;
        }
        if known == Made::Flags {
            return self.of_flags(cc);
        }
        match cc >> 1 & 7 {
            0 => self.overflow(known),
            1 => self.carry_of(known),
            2 => self.zero(),
            3 => match known {
                Made::Sub(bits) => self.compare(bits, false, true),
                _ => {
                    self.carry_of(known);
                    self.zero();
                    wasm!(self; i32_or());
                }
            },
            4 => self.sign(width(known)),
            5 => wasm!(self; local_get(local::RES) i32_const(0xff) i32_and() i32_popcnt() i32_const(1) i32_and()
                i32_eqz()),
            6 => self.less(known),
            _ => match known {
                Made::Sub(bits) => self.compare(bits, true, true),
                _ => {
                    self.less(known);
                    self.zero();
                    wasm!(self; i32_or());
                }
            },
        }
        if cc & 1 != 0 {
            wasm!(self; i32_eqz());
        }
    }

    /// The condition from flags, as FCOMI and BT leave them.
    fn of_flags(&mut self, cc: u8) {
        let (cf, pf, zf, sf) = (CF as i32, PF as i32, ZF as i32, SF as i32);
        // SF moved to where OF is: their difference is "less".
        let less = |e: &mut Self| wasm!(e; local_get(local::A) i32_const(4) i32_shl() local_get(local::A) i32_xor());
        match cc >> 1 & 7 {
            0 => wasm!(self; local_get(local::A) i32_const(OF as i32) i32_and()),
            1 => wasm!(self; local_get(local::A) i32_const(cf) i32_and()),
            2 => wasm!(self; local_get(local::A) i32_const(zf) i32_and()),
            3 => wasm!(self; local_get(local::A) i32_const(cf | zf) i32_and()),
            4 => wasm!(self; local_get(local::A) i32_const(sf) i32_and()),
            5 => wasm!(self; local_get(local::A) i32_const(pf) i32_and()),
            6 => {
                less(self);
                wasm!(self; i32_const(OF as i32) i32_and());
            }
            _ => {
                less(self);
                wasm!(self; i32_const(OF as i32) i32_and() local_get(local::A) i32_const(zf) i32_and() i32_or());
            }
        }
        if cc & 1 != 0 {
            wasm!(self; i32_eqz());
        }
    }

    /// The condition from whatever the record turns out to be.
    fn ask(&mut self, cc: u8) {
        match self.state {
            State::Memory => {}
            _ => {
                self.settle_kind();
                wasm!(self; local_get(local::KIND) local_get(local::RES) local_get(local::A) local_get(local::B)
                    call(call::SPILL));
                // The record stays valid in both places; where it is known to be is a matter of what follows.
            }
        }
        wasm!(self; i32_const(cc.into()) call(call::CONDITION));
    }

    /// Pushes CF as 0 or 1.
    pub(super) fn carry(&mut self) {
        match self.state {
            State::Known(_) => self.condition(2),
            State::Memory => wasm!(self; i32_const(IN_MEMORY) i32_const(0) i32_const(0) i32_const(0) call(call::CARRY)),
            State::Dynamic => wasm!(self; local_get(local::KIND) local_get(local::RES) local_get(local::A)
                local_get(local::B) call(call::CARRY)),
        }
    }

    fn zero(&mut self) {
        wasm!(self; local_get(local::RES) i32_eqz());
    }

    fn sign(&mut self, bits: u32) {
        wasm!(self; local_get(local::RES) i32_const(bits as i32 - 1) i32_shr_u());
    }

    /// Pushes whether A is below (or equal to) B, with the values shifted to the top of 32 bits.
    fn compare(&mut self, bits: u32, signed: bool, or_equal: bool) {
        for operand in [local::A, local::B] {
            wasm!(self; local_get(operand));
            if bits != 32 {
                wasm!(self; i32_const(32 - bits as i32) i32_shl());
            }
        }
        match (signed, or_equal) {
            (false, false) => wasm!(self; i32_lt_u()),
            (false, true) => wasm!(self; i32_le_u()),
            (true, false) => wasm!(self; i32_lt_s()),
            (true, true) => wasm!(self; i32_le_s()),
        }
    }

    fn carry_of(&mut self, made: Made) {
        match made {
            Made::Add(_) => wasm!(self; local_get(local::RES) local_get(local::A) i32_lt_u()),
            Made::Sub(_) => wasm!(self; local_get(local::A) local_get(local::B) i32_lt_u()),
            Made::Shl => wasm!(self; local_get(local::A) i32_const(0) local_get(local::B) i32_sub() i32_shr_u()
                i32_const(1) i32_and()),
            Made::Shr | Made::Sar => wasm!(self; local_get(local::A) local_get(local::B) i32_const(1) i32_sub()
                i32_shr_u() i32_const(1) i32_and()),
            Made::Imul => wasm!(self; local_get(local::RES) i32_const(31) i32_shr_s() local_get(local::B) i32_ne()),
            Made::Mul => wasm!(self; local_get(local::B) i32_const(0) i32_ne()),
            // Out of the top: both operands have it, or one does and the sum has lost it; for a difference likewise.
            Made::Adc => wasm!(self; local_get(local::A) local_get(local::B) i32_and()
                local_get(local::A) local_get(local::B) i32_or() local_get(local::RES) i32_const(-1) i32_xor() i32_and()
                i32_or() i32_const(31) i32_shr_u()),
            Made::Sbb => wasm!(self; local_get(local::A) i32_const(-1) i32_xor() local_get(local::B) i32_and()
                local_get(local::A) i32_const(-1) i32_xor() local_get(local::B) i32_or() local_get(local::RES) i32_and()
                i32_or() i32_const(31) i32_shr_u()),
            _ => wasm!(self; local_get(local::A) i32_const(1) i32_and()),
        }
    }

    fn overflow(&mut self, made: Made) {
        let bits = width(made) as i32;
        match made {
            Made::Add(_) | Made::Adc => {
                wasm!(self; local_get(local::A) local_get(local::RES) i32_xor() local_get(local::B)
                local_get(local::RES) i32_xor() i32_and() i32_const(bits - 1) i32_shr_u() i32_const(1) i32_and())
            }
            Made::Sub(_) | Made::Sbb => {
                wasm!(self; local_get(local::A) local_get(local::B) i32_xor() local_get(local::A)
                local_get(local::RES) i32_xor() i32_and() i32_const(bits - 1) i32_shr_u() i32_const(1) i32_and())
            }
            Made::Inc(_) => wasm!(self; local_get(local::RES) i32_const((1u32 << (bits - 1)) as i32) i32_eq()),
            Made::Dec(_) => wasm!(self; local_get(local::RES) i32_const(((1u32 << (bits - 1)) - 1) as i32) i32_eq()),
            Made::Shl => {
                self.carry_of(made);
                self.sign(32);
                wasm!(self; i32_ne());
            }
            Made::Shr => wasm!(self; local_get(local::B) i32_const(1) i32_eq() local_get(local::A) i32_const(31)
                i32_shr_u() i32_and()),
            Made::Sar => wasm!(self; i32_const(0)),
            Made::Imul | Made::Mul => self.carry_of(made),
            Made::Logic(_) | Made::Flags | Made::Other => {
                wasm!(self; local_get(local::A) i32_const(11) i32_shr_u() i32_const(1) i32_and());
            }
        }
    }

    fn less(&mut self, made: Made) {
        if let Made::Sub(bits) = made {
            return self.compare(bits, true, false);
        }
        self.sign(width(made));
        self.overflow(made);
        wasm!(self; i32_ne());
    }

    /// Pushes all six status flags, as bits.
    #[inline(never)]
    pub(super) fn all_flags(&mut self) {
        if self.state != State::Memory {
            self.settle_kind();
            wasm!(self; local_get(local::KIND) local_get(local::RES) local_get(local::A) local_get(local::B)
                call(call::SPILL));
        }
        wasm!(self; call(call::FLAGS));
    }
}
