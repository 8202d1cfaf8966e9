//! Integer instructions: the arithmetic shared by all forms, and the forms that are executed out of line.
//!
//! Flags that the SDM leaves undefined are computed as current processors leave them where that is known,
//! and cleared otherwise.

use super::fault::{Exec, Fault};
use super::flags::{self, AF, CF, Lazy, LazyOp, OF, ZF};
use super::op::{Op, REG_FORM, SEG_ADDR16, Unary};
use super::state::{Cpu, RAX, RCX, RDX};
use crate::bus::CpuBus;

/// Operation numbers of the arithmetic group.
pub mod alu {
    #![allow(missing_docs, reason = "mnemonics, numbered as in the opcode")]
    pub const ADD: u8 = 0;
    pub const OR: u8 = 1;
    pub const ADC: u8 = 2;
    pub const SBB: u8 = 3;
    pub const AND: u8 = 4;
    pub const SUB: u8 = 5;
    pub const XOR: u8 = 6;
    pub const CMP: u8 = 7;
    pub const TEST: u8 = 8;
}

macro_rules! alu_width {
    ($alu:ident, $by_number:ident, $t:ty, $add:ident, $sub:ident, $logic:ident) => {
        /// Computes operation `OP` and records its flags.
        #[inline(always)]
        pub fn $alu<const OP: u8>(&mut self, a: $t, b: $t) -> $t {
            const SIGN: $t = 1 << (<$t>::BITS - 1);
            match OP {
                alu::ADD => {
                    let res = a.wrapping_add(b);
                    self.lazy = Lazy { op: LazyOp::$add, res: res.into(), src: a.into() };
                    res
                }
                alu::SUB | alu::CMP => {
                    let res = a.wrapping_sub(b);
                    self.lazy = Lazy { op: LazyOp::$sub, res: res.into(), src: a.into() };
                    res
                }
                alu::ADC => {
                    let carry = self.lazy.carry();
                    let (part, c1) = a.overflowing_add(b);
                    let (res, c2) = part.overflowing_add(carry.into());
                    let bits = u64::from(c1 | c2) * u64::from(CF)
                        | u64::from(a ^ b ^ res) & u64::from(AF)
                        | if (a ^ res) & (b ^ res) & SIGN != 0 { u64::from(OF) } else { 0 };
                    self.lazy = if <$t>::BITS == 32 {
                        Lazy { op: LazyOp::Adc32, res: res.into(), src: u64::from(a) | u64::from(b) << 32 }
                    } else {
                        Lazy { op: LazyOp::$logic, res: res.into(), src: bits }
                    };
                    res
                }
                alu::SBB => {
                    let carry = self.lazy.carry();
                    let (part, c1) = a.overflowing_sub(b);
                    let (res, c2) = part.overflowing_sub(carry.into());
                    let bits = u64::from(c1 | c2) * u64::from(CF)
                        | u64::from(a ^ b ^ res) & u64::from(AF)
                        | if (a ^ b) & (a ^ res) & SIGN != 0 { u64::from(OF) } else { 0 };
                    self.lazy = if <$t>::BITS == 32 {
                        Lazy { op: LazyOp::Sbb32, res: res.into(), src: u64::from(a) | u64::from(b) << 32 }
                    } else {
                        Lazy { op: LazyOp::$logic, res: res.into(), src: bits }
                    };
                    res
                }
                _ => {
                    let res = match OP {
                        alu::OR => a | b,
                        alu::XOR => a ^ b,
                        _ => a & b,
                    };
                    self.lazy = Lazy { op: LazyOp::$logic, res: res.into(), src: 0 };
                    res
                }
            }
        }

        /// The same with the operation known only at run time.
        fn $by_number(&mut self, op: u8, a: $t, b: $t) -> $t {
            match op {
                alu::ADD => self.$alu::<{ alu::ADD }>(a, b),
                alu::OR => self.$alu::<{ alu::OR }>(a, b),
                alu::ADC => self.$alu::<{ alu::ADC }>(a, b),
                alu::SBB => self.$alu::<{ alu::SBB }>(a, b),
                alu::AND | alu::TEST => self.$alu::<{ alu::AND }>(a, b),
                alu::XOR => self.$alu::<{ alu::XOR }>(a, b),
                _ => self.$alu::<{ alu::SUB }>(a, b),
            }
        }
    };
}

/// Lowest `width` bytes set.
#[inline]
fn mask(width: u32) -> u32 {
    u32::MAX >> (32 - 8 * width)
}

fn logic_op(width: u32) -> LazyOp {
    match width {
        1 => LazyOp::Logic8,
        2 => LazyOp::Logic16,
        _ => LazyOp::Logic32,
    }
}

impl Cpu {
    alu_width!(alu8, alu8_by_number, u8, Add8, Sub8, Logic8);
    alu_width!(alu16, alu16_by_number, u16, Add16, Sub16, Logic16);
    alu_width!(alu32, alu32_by_number, u32, Add32, Sub32, Logic32);

    // --- operands ---

    /// Offset of a memory operand.
    #[inline(always)]
    #[must_use]
    pub fn offset(&self, op: &Op) -> u32 {
        let base = self.gpr[usize::from(op.base & 31)] as u32;
        let index = (self.gpr[usize::from(op.index & 31)] as u32) << (op.index >> 5);
        base.wrapping_add(index).wrapping_add(op.disp)
    }

    /// Offset of a memory operand, cut to 16 bits where the instruction says so.
    #[inline]
    #[must_use]
    pub fn offset_any(&self, op: &Op) -> u32 {
        let offset = self.offset(op);
        if op.seg & SEG_ADDR16 != 0 { offset & 0xffff } else { offset }
    }

    /// Reads memory operand of `width` 1, 2 or 4 bytes.
    pub fn load<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32) -> Exec<u32> {
        let (seg, offset) = (op.seg & 7, self.offset_any(op));
        Ok(match width {
            1 => self.read8(bus, seg, offset)?.into(),
            2 => self.read16(bus, seg, offset)?.into(),
            _ => self.read32(bus, seg, offset)?,
        })
    }

    /// Writes memory operand of `width` 1, 2 or 4 bytes.
    pub fn store<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32, value: u32) -> Exec {
        let (seg, offset) = (op.seg & 7, self.offset_any(op));
        match width {
            1 => self.write8(bus, seg, offset, value as u8),
            2 => self.write16(bus, seg, offset, value as u16),
            _ => self.write32(bus, seg, offset, value),
        }
    }

    /// A register of `width` bytes.
    #[must_use]
    pub fn reg(&self, n: u8, width: u32) -> u32 {
        match width {
            1 => self.reg8(n).into(),
            2 => self.reg16(n.into()).into(),
            _ => self.reg32(n.into()),
        }
    }

    /// Writes a register of `width` bytes.
    pub fn set_reg(&mut self, n: u8, width: u32, value: u32) {
        match width {
            1 => self.set_reg8(n, value as u8),
            2 => self.set_reg16(n.into(), value as u16),
            _ => self.set_reg32(n.into(), value),
        }
    }

    /// Reads a register-or-memory operand.
    pub fn load_e<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32) -> Exec<u32> {
        if op.base == REG_FORM { Ok(self.reg(op.b, width)) } else { self.load(bus, op, width) }
    }

    /// Writes a register-or-memory operand.
    pub fn store_e<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32, value: u32) -> Exec {
        if op.base == REG_FORM {
            self.set_reg(op.b, width, value);
            return Ok(());
        }
        self.store(bus, op, width, value)
    }

    /// Read-modify-write of a register-or-memory operand. `f` runs only when the write cannot fault any more;
    /// it may change flags and registers.
    pub fn modify_e<B: CpuBus>(
        &mut self,
        bus: &mut B,
        op: &Op,
        width: u32,
        f: impl FnOnce(&mut Self, u32) -> u32,
    ) -> Exec {
        if op.base == REG_FORM {
            let value = self.reg(op.b, width);
            let value = f(self, value);
            self.set_reg(op.b, width, value);
            return Ok(());
        }
        let lin = self.linear_write(op.seg & 7, self.offset_any(op), width)?;
        match width {
            1 => {
                let (t, v) = self.rmw_read8(bus, lin)?;
                let v = f(self, v.into());
                self.rmw_write8(bus, t, lin, v as u8)
            }
            2 => {
                let (t, v) = self.rmw_read16(bus, lin)?;
                let v = f(self, v.into());
                self.rmw_write16(bus, t, lin, v as u16)
            }
            _ => {
                let (t, v) = self.rmw_read32(bus, lin)?;
                let v = f(self, v);
                self.rmw_write32(bus, t, lin, v)
            }
        }
    }

    /// Records ZF, SF, PF of a result and the other flags from `bits`.
    #[inline(always)]
    pub fn set_result(&mut self, width: u32, res: u32, bits: u32) {
        self.lazy = Lazy { op: logic_op(width), res: res.into(), src: bits.into() };
    }

    // --- arithmetic of any width ---

    /// A two-operand operation of any width (`alu` numbers).
    pub fn alu_any(&mut self, op: u8, width: u32, a: u32, b: u32) -> u32 {
        match width {
            1 => self.alu8_by_number(op, a as u8, b as u8).into(),
            2 => self.alu16_by_number(op, a as u16, b as u16).into(),
            _ => self.alu32_by_number(op, a, b),
        }
    }

    /// INC, DEC, NOT, NEG.
    pub fn unary(&mut self, operation: u32, width: u32, a: u32) -> u32 {
        let m = mask(width);
        let carry = u64::from(self.lazy.carry());
        if operation == Unary::Not as u32 {
            return !a & m;
        }
        if operation == Unary::Neg as u32 {
            return self.alu_any(alu::SUB, width, 0, a);
        }
        let inc = operation == Unary::Inc as u32;
        let res = if inc { a.wrapping_add(1) } else { a.wrapping_sub(1) } & m;
        let op = match (inc, width) {
            (true, 1) => LazyOp::Inc8,
            (true, 2) => LazyOp::Inc16,
            (true, _) => LazyOp::Inc32,
            (false, 1) => LazyOp::Dec8,
            (false, 2) => LazyOp::Dec16,
            (false, _) => LazyOp::Dec32,
        };
        self.lazy = Lazy { op, res: res.into(), src: carry };
        res
    }

    /// Shifts and rotates (0 ROL, 1 ROR, 2 RCL, 3 RCR, 4 SHL, 5 SHR, 6 SAL, 7 SAR) by `count` (0 to 31).
    pub fn shift(&mut self, operation: u32, width: u32, a: u32, count: u32) -> u32 {
        if count == 0 {
            return a;
        }
        let bits = 8 * width;
        let (m, top) = (mask(width), bits - 1);
        let msb = |v: u32| v >> top & 1;
        let wide = u64::from(a);
        match operation {
            0 | 1 => {
                let n = count % bits;
                let left = if operation == 0 { n } else { (bits - n) % bits };
                let res = ((wide << left | wide << left >> bits) as u32) & m;
                let (cf, of) = if operation == 0 {
                    (res & 1, (res & 1) ^ msb(res))
                } else {
                    (msb(res), msb(res) ^ (res >> (top - 1) & 1))
                };
                self.set_status_bits(CF | OF, cf * CF | of * OF);
                res
            }
            2 | 3 => {
                let n = count % (bits + 1);
                let carry = u64::from(self.lazy.carry());
                if n == 0 {
                    return a;
                }
                let ring = wide | carry << bits;
                let left = if operation == 2 { n } else { bits + 1 - n };
                let turned = ring << left | ring >> (bits + 1 - left);
                let res = turned as u32 & m;
                let cf = (turned >> bits & 1) as u32;
                let of = if operation == 2 { cf ^ msb(res) } else { msb(res) ^ (res >> (top - 1) & 1) };
                self.set_status_bits(CF | OF, cf * CF | of * OF);
                res
            }
            4 | 6 => {
                let shifted = wide << count;
                let res = shifted as u32 & m;
                let cf = (shifted >> bits & 1) as u32;
                self.set_result(width, res, cf * CF | (cf ^ msb(res)) * OF);
                res
            }
            5 => {
                let res = (wide >> count) as u32;
                let cf = (wide >> (count - 1) & 1) as u32;
                let of = if count == 1 { msb(a) } else { 0 };
                self.set_result(width, res, cf * CF | of * OF);
                res
            }
            _ => {
                let signed = i64::from((a << (32 - bits)) as i32 >> (32 - bits));
                let res = (signed >> count) as u32 & m;
                let cf = (signed >> (count - 1) & 1) as u32;
                self.set_result(width, res, cf * CF);
                res
            }
        }
    }

    /// `ShiftRI`.
    #[inline(always)]
    pub fn shift_narrow(&mut self, op: &Op) {
        let (operation, width, count) = (op.imm >> 12 & 7, op.imm >> 16, op.imm & 31);
        let (a, bits) =
            if width == 1 { (u32::from(self.reg8(op.b)), 8) } else { (u32::from(self.reg16(op.b.into())), 16) };
        let m = u32::MAX >> (32 - bits);
        let (res, cf, of) = match operation {
            5 => (a >> count, a >> (count - 1) & 1, if count == 1 { a >> (bits - 1) } else { 0 }),
            7 => {
                let signed = (a << (32 - bits)) as i32 >> (32 - bits);
                ((signed >> count) as u32 & m, (signed >> (count - 1)) as u32 & 1, 0)
            }
            _ => {
                let shifted = u64::from(a) << count;
                let (res, cf) = (shifted as u32 & m, (shifted >> bits) as u32 & 1);
                (res, cf, cf ^ res >> (bits - 1))
            }
        };
        self.set_result(width, res, cf * CF | of * OF);
        if width == 1 { self.set_reg8(op.b, res as u8) } else { self.set_reg16(op.b.into(), res as u16) }
    }

    /// SHLD and SHRD by `count` (0 to 31).
    pub fn double_shift(&mut self, right: bool, width: u32, a: u32, fill: u32, count: u32) -> u32 {
        let bits = 8 * width;
        if count == 0 {
            return a;
        }
        let (m, top) = (mask(width), bits - 1);
        // For a 16-bit operand and a count above 16 the result is undefined; the pattern a:fill:a is what
        // processors shift.
        let (res, cf) = if right {
            let chain = u64::from(a) | u64::from(fill) << bits | if bits == 16 { u64::from(a) << 32 } else { 0 };
            ((chain >> count) as u32 & m, (chain >> (count - 1) & 1) as u32)
        } else {
            let chain = if bits == 16 {
                u64::from(a) << 32 | u64::from(fill) << 16 | u64::from(a)
            } else {
                u64::from(a) << 32 | u64::from(fill)
            };
            let shifted = u128::from(chain) << count;
            ((shifted >> 32) as u32 & m, (shifted >> (32 + bits) & 1) as u32)
        };
        let of = (res ^ a) >> top & 1;
        self.set_result(width, res, cf * CF | of * OF);
        res
    }

    /// One-operand MUL and IMUL: the double-width product goes to AX, DX:AX or EDX:EAX.
    pub fn multiply(&mut self, signed: bool, width: u32, b: u32) {
        let bits = 8 * width;
        let a = self.reg(0, width);
        let sx = |v: u32| i64::from((v << (32 - bits)) as i32 >> (32 - bits));
        let product = if signed { (sx(a) * sx(b)) as u64 } else { u64::from(a) * u64::from(b) };
        let low = product as u32 & mask(width);
        let high = (product >> bits) as u32 & mask(width);
        let overflow = if signed { product as i64 != sx(low) } else { high != 0 };
        if width == 1 {
            self.set_reg16(RAX, product as u16);
        } else {
            self.set_reg(RAX as u8, width, low);
            self.set_reg(RDX as u8, width, high);
        }
        self.set_result(width, low, if overflow { CF | OF } else { 0 });
    }

    /// DIV and IDIV of AX, DX:AX or EDX:EAX; the flags are undefined and kept.
    ///
    /// # Errors
    /// #DE when the divisor is zero or the quotient does not fit.
    pub fn divide(&mut self, signed: bool, width: u32, divisor: u32) -> Exec {
        let bits = 8 * width;
        let (m, half) = (mask(width), 1i128 << (bits - 1));
        let dividend = if width == 1 {
            u64::from(self.reg16(RAX))
        } else {
            u64::from(self.reg(RDX as u8, width)) << bits | u64::from(self.reg(RAX as u8, width))
        };
        if divisor & m == 0 {
            return Err(Fault::DE);
        }
        let (quotient, remainder) = if signed {
            let n = i128::from((dividend << (64 - 2 * bits)) as i64 >> (64 - 2 * bits));
            let d = i128::from((divisor << (32 - bits)) as i32 >> (32 - bits));
            let q = n / d;
            if q < -half || q >= half {
                return Err(Fault::DE);
            }
            (q as u32, (n % d) as u32)
        } else {
            let d = u64::from(divisor & m);
            let q = dividend / d;
            if q > u64::from(m) {
                return Err(Fault::DE);
            }
            (q as u32, (dividend % d) as u32)
        };
        if width == 1 {
            self.set_reg16(RAX, (quotient & 0xff) as u16 | (remainder as u16) << 8);
        } else {
            self.set_reg(RAX as u8, width, quotient & m);
            self.set_reg(RDX as u8, width, remainder & m);
        }
        Ok(())
    }

    /// IMUL with a destination register: truncated product, CF and OF on overflow.
    #[inline(always)]
    pub fn imul32(&mut self, a: u32, b: u32) -> u32 {
        let product = i64::from(a as i32) * i64::from(b as i32);
        let res = product as u32;
        self.lazy = Lazy { op: LazyOp::Imul32, res: res.into(), src: product as u64 };
        res
    }

    /// Records a 32-bit shift of `a` by `count` (1 to 31).
    #[inline(always)]
    pub fn set_shifted(&mut self, op: LazyOp, res: u32, a: u32, count: u32) {
        self.lazy = Lazy { op, res: res.into(), src: u64::from(a) | u64::from(count) << 32 };
    }

    fn imul16(&mut self, a: u16, b: u16) -> u16 {
        let product = i32::from(a as i16) * i32::from(b as i16);
        let res = product as u16;
        let overflow = product != i32::from(res as i16);
        self.set_result(2, res.into(), if overflow { CF | OF } else { 0 });
        res
    }

    // --- out-of-line kinds ---

    /// `ShiftE`.
    pub fn exec_shift<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let count = if op.imm & 0x100 != 0 { self.reg32(RCX) & 31 } else { op.imm & 31 };
        let (operation, width) = (op.imm >> 12 & 7, op.imm >> 16);
        self.modify_e(bus, op, width, |cpu, a| cpu.shift(operation, width, a, count))
    }

    /// `DoubleShiftE`.
    pub fn exec_double_shift<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let count = if op.imm & 0x100 != 0 { self.reg32(RCX) & 31 } else { op.imm & 31 };
        let (right, width) = (op.imm >> 12 & 1 != 0, op.imm >> 16);
        let fill = self.reg(op.a, width);
        self.modify_e(bus, op, width, |cpu, a| cpu.double_shift(right, width, a, fill, count))
    }

    /// `UnaryE`.
    pub fn exec_unary<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let (operation, width) = (op.imm & 0xff, op.imm >> 8);
        self.modify_e(bus, op, width, |cpu, a| cpu.unary(operation, width, a))
    }

    /// The five 16-bit arithmetic kinds.
    pub fn exec_alu16<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        use super::op::Kind::*;
        match op.kind {
            Alu16RR => {
                let res = self.alu16_by_number(op.imm as u8, self.reg16(op.a.into()), self.reg16(op.b.into()));
                if op.imm as u8 != alu::CMP && op.imm as u8 != alu::TEST {
                    self.set_reg16(op.a.into(), res);
                }
                return Ok(());
            }
            Alu16RI | Alu16RM => {
                let b = if op.kind == Alu16RI { op.imm } else { self.load(bus, op, 2)? };
                let res = self.alu16_by_number(op.b, self.reg16(op.a.into()), b as u16);
                if op.b < alu::CMP {
                    self.set_reg16(op.a.into(), res);
                }
                return Ok(());
            }
            _ => {}
        }
        let b = if op.kind == Alu16MR { self.reg16(op.a.into()) } else { op.imm as u16 };
        if op.b >= alu::CMP {
            let a = self.load(bus, op, 2)? as u16;
            self.alu16_by_number(op.b, a, b);
            return Ok(());
        }
        self.modify_e(bus, op, 2, |cpu, a| cpu.alu16_by_number(op.b, a as u16, b).into())
    }

    /// `BitE`: a register bit number addresses beyond the operand in memory (SDM vol. 2, BT).
    pub fn exec_bit<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let (operation, width) = (op.imm >> 12 & 3, op.imm >> 16);
        let bits = 8 * width;
        let mut operand = *op;
        let bit = if op.imm & 0x100 != 0 {
            let n = self.reg(op.a, width);
            let signed = (n << (32 - bits)) as i32 >> (32 - bits);
            if op.base != REG_FORM {
                let step = (signed >> bits.trailing_zeros()) * width as i32;
                operand.disp = op.disp.wrapping_add(step as u32);
            }
            n & (bits - 1)
        } else {
            op.imm & (bits - 1)
        };
        let note = |cpu: &mut Self, value: u32| {
            let cf = value >> bit & 1;
            cpu.set_status_bits(CF, cf);
        };
        if operation == 0 {
            let value = self.load_e(bus, &operand, width)?;
            note(self, value);
            return Ok(());
        }
        self.modify_e(bus, &operand, width, |cpu, value| {
            note(cpu, value);
            match operation {
                1 => value | 1 << bit,
                2 => value & !(1 << bit),
                _ => value ^ 1 << bit,
            }
        })
    }

    /// BSF and BSR: ZF when the source is zero, and then the destination is kept.
    pub fn bit_scan(&mut self, reverse: bool, width: u32, source: u32) -> Option<u32> {
        let found = match source {
            0 => None,
            v if reverse => Some(31 - v.leading_zeros()),
            v => Some(v.trailing_zeros()),
        };
        // Only ZF is defined; the others are left as a logical operation on the source would set them.
        self.set_result(width, source, 0);
        found
    }

    /// `BitScanE`.
    pub fn exec_bit_scan<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let width = op.imm >> 8;
        let source = self.load_e(bus, op, width)?;
        if let Some(n) = self.bit_scan(op.imm & 1 != 0, width, source) {
            self.set_reg(op.a, width, n);
        }
        Ok(())
    }

    /// `MulDivE`.
    pub fn exec_mul_div<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let (operation, width) = (op.imm & 7, op.imm >> 8);
        let b = self.load_e(bus, op, width)?;
        match operation {
            4 | 5 => self.multiply(operation == 5, width, b),
            _ => self.divide(operation == 7, width, b)?,
        }
        Ok(())
    }

    /// `Imul16E` and `Imul16EI`.
    pub fn exec_imul16<B: CpuBus>(&mut self, bus: &mut B, op: &Op, immediate: bool) -> Exec {
        let b = self.load_e(bus, op, 2)? as u16;
        let a = if immediate { op.imm as u16 } else { self.reg16(op.a.into()) };
        let res = self.imul16(a, b);
        self.set_reg16(op.a.into(), res);
        Ok(())
    }

    /// `CmpxchgE`. The destination is written in either case (SDM vol. 2, CMPXCHG).
    pub fn exec_cmpxchg<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let width = op.imm;
        let source = self.reg(op.a, width);
        let expected = self.reg(RAX as u8, width);
        let mut old = 0;
        self.modify_e(bus, op, width, |cpu, value| {
            old = value;
            cpu.alu_any(alu::CMP, width, expected, value);
            if value == expected { source } else { value }
        })?;
        if old != expected {
            self.set_reg(RAX as u8, width, old);
        }
        Ok(())
    }

    /// `Cmpxchg8bM`.
    pub fn exec_cmpxchg8b<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let lin = self.linear_write(op.seg & 7, self.offset_any(op), 8)?;
        let (target, value) = self.rmw_read64(bus, lin)?;
        let pair = |cpu: &Self, high, low| u64::from(cpu.reg32(high)) << 32 | u64::from(cpu.reg32(low));
        let equal = value == pair(self, RDX, RAX);
        let new = if equal { pair(self, RCX, 3) } else { value };
        self.rmw_write64(bus, target, lin, new)?;
        if !equal {
            self.set_reg32(RAX, value as u32);
            self.set_reg32(RDX, (value >> 32) as u32);
        }
        self.set_status_bits(ZF, if equal { ZF } else { 0 });
        Ok(())
    }

    /// `XaddE`.
    pub fn exec_xadd<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let width = op.imm;
        let source = self.reg(op.a, width);
        let mut old = 0;
        self.modify_e(bus, op, width, |cpu, value| {
            old = value;
            // The sum wins when both operands are the same register.
            cpu.alu_any(alu::ADD, width, value, source)
        })?;
        if !(op.base == REG_FORM && op.a == op.b) {
            self.set_reg(op.a, width, old);
        }
        Ok(())
    }

    /// `Xchg8E` and `Xchg16E`.
    pub fn exec_xchg<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32) -> Exec {
        let source = self.reg(op.a, width);
        let mut old = 0;
        self.modify_e(bus, op, width, |_, value| {
            old = value;
            source
        })?;
        self.set_reg(op.a, width, old);
        Ok(())
    }

    // --- BCD (SDM vol. 2) ---

    /// DAA and DAS.
    pub fn decimal_adjust(&mut self, subtract: bool) {
        let f = self.lazy.flags();
        let old = self.reg8(0);
        let (low, high) = (old & 15 > 9 || f & AF != 0, old > 0x99 || f & CF != 0);
        let fix = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
        let al = if subtract { old.wrapping_sub(fix) } else { old.wrapping_add(fix) };
        // DAS also carries when the low adjustment borrows.
        let carry = high || (subtract && low && old < 6 && f & CF == 0 && old <= 0x99);
        self.set_reg8(0, al);
        self.set_result(1, al.into(), u32::from(carry) * CF | u32::from(low) * AF);
    }

    /// AAA and AAS.
    pub fn ascii_adjust(&mut self, subtract: bool) {
        let f = self.lazy.flags();
        let ax = self.reg16(RAX);
        let adjust = ax & 15 > 9 || f & AF != 0;
        let new = match (adjust, subtract) {
            (false, _) => ax,
            (true, false) => ax.wrapping_add(0x106),
            (true, true) => ax.wrapping_sub(0x106),
        } & 0xff0f;
        self.set_reg16(RAX, new);
        let bits = if adjust { CF | AF } else { 0 };
        self.set_result(1, u32::from(new & 0xff), bits);
    }

    /// AAM.
    ///
    /// # Errors
    /// #DE when the base is zero.
    pub fn aam(&mut self, base: u8) -> Exec {
        let al = self.reg8(0);
        let (high, low) = (al.checked_div(base).ok_or(Fault::DE)?, al.checked_rem(base).ok_or(Fault::DE)?);
        self.set_reg16(RAX, u16::from_be_bytes([high, low]));
        self.set_result(1, low.into(), 0);
        Ok(())
    }

    /// AAD.
    pub fn aad(&mut self, base: u8) {
        let [ah, al] = self.reg16(RAX).to_be_bytes();
        let res = al.wrapping_add(ah.wrapping_mul(base));
        self.set_reg16(RAX, res.into());
        self.set_result(1, res.into(), 0);
    }

    /// LAHF.
    pub fn lahf(&mut self) {
        let f = self.lazy.flags() & 0xd5 | flags::ALWAYS;
        self.set_reg8(0x20, f as u8);
    }

    /// SAHF: all status flags but OF.
    pub fn sahf(&mut self) {
        let ah = self.reg8(0x20);
        self.set_status_bits(flags::STATUS & !OF, ah.into());
    }
}

/// Whether condition `cc` holds after comparing `a` with `b` (32 or 8 bits, sign-extended by the caller for
/// signed conditions through `sa` and `sb`).
#[inline(always)]
#[must_use]
pub fn compare(cc: u8, a: u32, b: u32) -> bool {
    match cc & 15 {
        2 => a < b,
        3 => a >= b,
        4 => a == b,
        5 => a != b,
        6 => a <= b,
        7 => a > b,
        8 => (a.wrapping_sub(b) as i32) < 0,
        9 => (a.wrapping_sub(b) as i32) >= 0,
        12 => (a as i32) < (b as i32),
        13 => (a as i32) >= (b as i32),
        14 => (a as i32) <= (b as i32),
        15 => (a as i32) > (b as i32),
        cc => {
            let res = a.wrapping_sub(b);
            let holds =
                if cc & 8 == 0 { (a ^ b) & (a ^ res) & 0x8000_0000 != 0 } else { flags::parity(res.into()) != 0 };
            holds ^ (cc & 1 != 0)
        }
    }
}

/// Whether condition `cc` holds after a 32-bit logical operation.
#[inline(always)]
#[must_use]
pub fn tested(cc: u8, res: u32) -> bool {
    match cc & 15 {
        4 | 6 => res == 0,
        5 | 7 => res != 0,
        8 | 12 => (res as i32) < 0,
        9 | 13 => (res as i32) >= 0,
        14 => (res as i32) <= 0,
        15 => (res as i32) > 0,
        cc => (cc & 8 != 0 && flags::parity(res.into()) != 0) ^ (cc & 1 != 0),
    }
}
