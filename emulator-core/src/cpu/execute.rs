//! What the common ops do, once for both ways of running them: in the block loop on plain memory
//! ([`Plain`](super::plain::Plain)), and alone with everything that can happen ([`Full`](super::full::Full)).
//!
//! On plain memory an op that cannot be finished there changes nothing, so that it can be done again in full. Hence the
//! order in each of them: whatever may fail, then registers and flags.

use super::fault::{Exec, Fault};
use super::flags::{CF, Lazy, LazyOp, OF, parity};
use super::integer::{alu, compare, tested};
use super::op::{Kind, Op, SEG_FLAT};
use super::operand::Memory;
use super::state::{Cpu, RAX, RBP, RCX, RDX, RSP};

/// Where execution goes behind an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To the next op.
    Next,
    /// To an address, by a link of the block: 0 falls through, 1 is the direct jump, 2 is neither.
    Jump(u32, u8),
}

// An operand in memory that is changed. These are macros because closures would be functions of their own.
macro_rules! modify32 {
    ($m:ident, $cpu:ident, $op:ident, |$v:ident| $f:expr) => {{
        let lin = $m.operand($cpu, $op, 4, true)?;
        let (target, $v) = $m.open32($cpu, lin)?;
        let value = $f;
        $m.close32($cpu, target, lin, value)?;
    }};
}
macro_rules! modify8 {
    ($m:ident, $cpu:ident, $op:ident, |$v:ident| $f:expr) => {{
        let lin = $m.operand($cpu, $op, 1, true)?;
        let (target, $v) = $m.open8($cpu, lin)?;
        let value = $f;
        $m.close8($cpu, target, lin, value)?;
    }};
}

// Arithmetic by operand form.
macro_rules! alu32 {
    ($m:ident, $cpu:ident, $op:ident, $n:ident, rr) => {{
        let (a, b) = ($cpu.reg32($op.a.into()), $cpu.reg32($op.b.into()));
        let res = $cpu.alu32::<{ alu::$n }>(a, b);
        if alu::$n != alu::CMP {
            $cpu.set_reg32($op.a.into(), res);
        }
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, ri) => {{
        let a = $cpu.reg32($op.a.into());
        let res = $cpu.alu32::<{ alu::$n }>(a, $op.imm);
        if alu::$n != alu::CMP {
            $cpu.set_reg32($op.a.into(), res);
        }
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, rm) => {{
        let b = $m.load32($cpu, $op)?;
        let a = $cpu.reg32($op.a.into());
        let res = $cpu.alu32::<{ alu::$n }>(a, b);
        if alu::$n != alu::CMP {
            $cpu.set_reg32($op.a.into(), res);
        }
    }};
    ($m:ident, $cpu:ident, $op:ident, CMP, mr) => {{
        let a = $m.load32($cpu, $op)?;
        let b = $cpu.reg32($op.a.into());
        $cpu.alu32::<{ alu::CMP }>(a, b);
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, mr) => {{
        let b = $cpu.reg32($op.a.into());
        modify32!($m, $cpu, $op, |v| $cpu.alu32::<{ alu::$n }>(v, b))
    }};
    ($m:ident, $cpu:ident, $op:ident, CMP, mi) => {{
        let a = $m.load32($cpu, $op)?;
        $cpu.alu32::<{ alu::CMP }>(a, $op.imm);
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, mi) => {
        modify32!($m, $cpu, $op, |v| $cpu.alu32::<{ alu::$n }>(v, $op.imm))
    };
}

macro_rules! alu8 {
    ($m:ident, $cpu:ident, $op:ident, $n:ident, rr) => {{
        let (a, b) = ($cpu.reg8($op.a), $cpu.reg8($op.b));
        let res = $cpu.alu8::<{ alu::$n }>(a, b);
        if alu::$n != alu::CMP {
            $cpu.set_reg8($op.a, res);
        }
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, ri) => {{
        let a = $cpu.reg8($op.a);
        let res = $cpu.alu8::<{ alu::$n }>(a, $op.imm as u8);
        if alu::$n != alu::CMP {
            $cpu.set_reg8($op.a, res);
        }
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, rm) => {{
        let b = $m.load8($cpu, $op)?;
        let a = $cpu.reg8($op.a);
        let res = $cpu.alu8::<{ alu::$n }>(a, b);
        if alu::$n != alu::CMP {
            $cpu.set_reg8($op.a, res);
        }
    }};
    ($m:ident, $cpu:ident, $op:ident, CMP, mr) => {{
        let a = $m.load8($cpu, $op)?;
        let b = $cpu.reg8($op.a);
        $cpu.alu8::<{ alu::CMP }>(a, b);
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, mr) => {{
        let b = $cpu.reg8($op.a);
        modify8!($m, $cpu, $op, |v| $cpu.alu8::<{ alu::$n }>(v, b))
    }};
    ($m:ident, $cpu:ident, $op:ident, CMP, mi) => {{
        let a = $m.load8($cpu, $op)?;
        $cpu.alu8::<{ alu::CMP }>(a, $op.imm as u8);
    }};
    ($m:ident, $cpu:ident, $op:ident, $n:ident, mi) => {
        modify8!($m, $cpu, $op, |v| $cpu.alu8::<{ alu::$n }>(v, $op.imm as u8))
    };
}

/// Arithmetic whose flags nobody reads.
macro_rules! quiet {
    ($cpu:ident, $op:ident, |$a:ident, $b:ident| $f:expr, rr) => {{
        let ($a, $b) = ($cpu.reg32($op.a.into()), $cpu.reg32($op.b.into()));
        $cpu.set_reg32($op.a.into(), $f);
    }};
    ($cpu:ident, $op:ident, |$a:ident, $b:ident| $f:expr, ri) => {{
        let ($a, $b) = ($cpu.reg32($op.a.into()), $op.imm);
        $cpu.set_reg32($op.a.into(), $f);
    }};
}

macro_rules! branch {
    ($next:ident, $taken:expr, $disp:expr) => {
        return Ok(if $taken { Flow::Jump($next.wrapping_add($disp), 1) } else { Flow::Jump($next, 0) })
    };
}

/// A call in flat code: the memory operand's segment, if any, says nothing about the stack.
macro_rules! call32 {
    ($m:ident, $cpu:ident, $next:ident) => {{
        let at = $cpu.reg32(RSP).wrapping_sub(4);
        $m.write32($cpu, at, $next)?;
        $cpu.set_reg32(RSP, at);
    }};
}

/// Whether condition `cc` holds after a byte compare.
#[inline(always)]
fn compare8(cc: u8, a: u8, b: u8) -> bool {
    match cc & 15 {
        10 => parity(a.wrapping_sub(b).into()) != 0,
        11 => parity(a.wrapping_sub(b).into()) == 0,
        cc => compare(cc, u32::from(a) << 24, u32::from(b) << 24),
    }
}

/// Whether condition `cc` holds after a decrement to `res` that left `carry`.
#[inline(always)]
fn decremented(cc: u8, res: u32, carry: bool) -> bool {
    let (zero, sign, overflow) = (res == 0, (res as i32) < 0, res == 0x7fff_ffff);
    let holds = match cc >> 1 & 7 {
        0 => overflow,
        1 => carry,
        2 => zero,
        3 => carry || zero,
        4 => sign,
        5 => parity(res.into()) != 0,
        6 => sign != overflow,
        _ => zero || sign != overflow,
    };
    holds ^ (cc & 1 != 0)
}

/// Executes an op that is followed by the instruction at `next`.
///
/// # Errors
/// Faults, as `m` makes them; nothing has changed then.
#[inline(always)]
#[allow(clippy::cognitive_complexity, reason = "one match is what makes the interpreter fast; see docs")]
pub fn execute<M: Memory>(cpu: &mut Cpu, m: &mut M, op: &Op, next: u32) -> Exec<Flow> {
    use Kind::*;
    match op.kind {
        Nop => {}
        Add32RR => alu32!(m, cpu, op, ADD, rr),
        Add32RI => alu32!(m, cpu, op, ADD, ri),
        Add32RM => alu32!(m, cpu, op, ADD, rm),
        Add32MR => alu32!(m, cpu, op, ADD, mr),
        Add32MI => alu32!(m, cpu, op, ADD, mi),
        Or32RR => alu32!(m, cpu, op, OR, rr),
        Or32RI => alu32!(m, cpu, op, OR, ri),
        Or32RM => alu32!(m, cpu, op, OR, rm),
        Or32MR => alu32!(m, cpu, op, OR, mr),
        Or32MI => alu32!(m, cpu, op, OR, mi),
        Adc32RR => alu32!(m, cpu, op, ADC, rr),
        Adc32RI => alu32!(m, cpu, op, ADC, ri),
        Adc32RM => alu32!(m, cpu, op, ADC, rm),
        Adc32MR => alu32!(m, cpu, op, ADC, mr),
        Adc32MI => alu32!(m, cpu, op, ADC, mi),
        Sbb32RR => alu32!(m, cpu, op, SBB, rr),
        Sbb32RI => alu32!(m, cpu, op, SBB, ri),
        Sbb32RM => alu32!(m, cpu, op, SBB, rm),
        Sbb32MR => alu32!(m, cpu, op, SBB, mr),
        Sbb32MI => alu32!(m, cpu, op, SBB, mi),
        And32RR => alu32!(m, cpu, op, AND, rr),
        And32RI => alu32!(m, cpu, op, AND, ri),
        And32RM => alu32!(m, cpu, op, AND, rm),
        And32MR => alu32!(m, cpu, op, AND, mr),
        And32MI => alu32!(m, cpu, op, AND, mi),
        Sub32RR => alu32!(m, cpu, op, SUB, rr),
        Sub32RI => alu32!(m, cpu, op, SUB, ri),
        Sub32RM => alu32!(m, cpu, op, SUB, rm),
        Sub32MR => alu32!(m, cpu, op, SUB, mr),
        Sub32MI => alu32!(m, cpu, op, SUB, mi),
        Xor32RR => alu32!(m, cpu, op, XOR, rr),
        Xor32RI => alu32!(m, cpu, op, XOR, ri),
        Xor32RM => alu32!(m, cpu, op, XOR, rm),
        Xor32MR => alu32!(m, cpu, op, XOR, mr),
        Xor32MI => alu32!(m, cpu, op, XOR, mi),
        Cmp32RR => alu32!(m, cpu, op, CMP, rr),
        Cmp32RI => alu32!(m, cpu, op, CMP, ri),
        Cmp32RM => alu32!(m, cpu, op, CMP, rm),
        Cmp32MR => alu32!(m, cpu, op, CMP, mr),
        Cmp32MI => alu32!(m, cpu, op, CMP, mi),
        Test32RR => {
            let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
            cpu.alu32::<{ alu::AND }>(a, b);
        }
        Test32RI => {
            let a = cpu.reg32(op.a.into());
            cpu.alu32::<{ alu::AND }>(a, op.imm);
        }
        Test32MR => {
            let a = m.load32(cpu, op)?;
            let b = cpu.reg32(op.a.into());
            cpu.alu32::<{ alu::AND }>(a, b);
        }
        Test32MI => {
            let a = m.load32(cpu, op)?;
            cpu.alu32::<{ alu::AND }>(a, op.imm);
        }
        Add8RR => alu8!(m, cpu, op, ADD, rr),
        Add8RI => alu8!(m, cpu, op, ADD, ri),
        Add8RM => alu8!(m, cpu, op, ADD, rm),
        Add8MR => alu8!(m, cpu, op, ADD, mr),
        Add8MI => alu8!(m, cpu, op, ADD, mi),
        Or8RR => alu8!(m, cpu, op, OR, rr),
        Or8RI => alu8!(m, cpu, op, OR, ri),
        Or8RM => alu8!(m, cpu, op, OR, rm),
        Or8MR => alu8!(m, cpu, op, OR, mr),
        Or8MI => alu8!(m, cpu, op, OR, mi),
        Adc8RR => alu8!(m, cpu, op, ADC, rr),
        Adc8RI => alu8!(m, cpu, op, ADC, ri),
        Adc8RM => alu8!(m, cpu, op, ADC, rm),
        Adc8MR => alu8!(m, cpu, op, ADC, mr),
        Adc8MI => alu8!(m, cpu, op, ADC, mi),
        Sbb8RR => alu8!(m, cpu, op, SBB, rr),
        Sbb8RI => alu8!(m, cpu, op, SBB, ri),
        Sbb8RM => alu8!(m, cpu, op, SBB, rm),
        Sbb8MR => alu8!(m, cpu, op, SBB, mr),
        Sbb8MI => alu8!(m, cpu, op, SBB, mi),
        And8RR => alu8!(m, cpu, op, AND, rr),
        And8RI => alu8!(m, cpu, op, AND, ri),
        And8RM => alu8!(m, cpu, op, AND, rm),
        And8MR => alu8!(m, cpu, op, AND, mr),
        And8MI => alu8!(m, cpu, op, AND, mi),
        Sub8RR => alu8!(m, cpu, op, SUB, rr),
        Sub8RI => alu8!(m, cpu, op, SUB, ri),
        Sub8RM => alu8!(m, cpu, op, SUB, rm),
        Sub8MR => alu8!(m, cpu, op, SUB, mr),
        Sub8MI => alu8!(m, cpu, op, SUB, mi),
        Xor8RR => alu8!(m, cpu, op, XOR, rr),
        Xor8RI => alu8!(m, cpu, op, XOR, ri),
        Xor8RM => alu8!(m, cpu, op, XOR, rm),
        Xor8MR => alu8!(m, cpu, op, XOR, mr),
        Xor8MI => alu8!(m, cpu, op, XOR, mi),
        Cmp8RR => alu8!(m, cpu, op, CMP, rr),
        Cmp8RI => alu8!(m, cpu, op, CMP, ri),
        Cmp8RM => alu8!(m, cpu, op, CMP, rm),
        Cmp8MR => alu8!(m, cpu, op, CMP, mr),
        Cmp8MI => alu8!(m, cpu, op, CMP, mi),
        Test8RR => {
            let (a, b) = (cpu.reg8(op.a), cpu.reg8(op.b));
            cpu.alu8::<{ alu::AND }>(a, b);
        }
        Test8RI => {
            let a = cpu.reg8(op.a);
            cpu.alu8::<{ alu::AND }>(a, op.imm as u8);
        }
        Test8MR => {
            let a = m.load8(cpu, op)?;
            let b = cpu.reg8(op.a);
            cpu.alu8::<{ alu::AND }>(a, b);
        }
        Test8MI => {
            let a = m.load8(cpu, op)?;
            cpu.alu8::<{ alu::AND }>(a, op.imm as u8);
        }
        Mov32RR => {
            let v = cpu.reg32(op.b.into());
            cpu.set_reg32(op.a.into(), v);
        }
        Mov32RI => cpu.set_reg32(op.a.into(), op.imm),
        Mov32RM => {
            let v = m.load32(cpu, op)?;
            cpu.set_reg32(op.a.into(), v);
        }
        Mov32MR => {
            let v = cpu.reg32(op.a.into());
            m.store32(cpu, op, v)?;
        }
        Mov32RB => {
            let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
            let v = m.read32(cpu, lin)?;
            cpu.set_reg32(op.a.into(), v);
        }
        Mov32BR => {
            let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
            let v = cpu.reg32(op.a.into());
            m.write32(cpu, lin, v)?;
        }
        Sub32RRQuiet => quiet!(cpu, op, |a, b| a.wrapping_sub(b), rr),
        And32RRQuiet => quiet!(cpu, op, |a, b| a & b, rr),
        And32RIQuiet => quiet!(cpu, op, |a, b| a & b, ri),
        Or32RRQuiet => quiet!(cpu, op, |a, b| a | b, rr),
        Or32RIQuiet => quiet!(cpu, op, |a, b| a | b, ri),
        Xor32RRQuiet => quiet!(cpu, op, |a, b| a ^ b, rr),
        Xor32RIQuiet => quiet!(cpu, op, |a, b| a ^ b, ri),
        Shl32RIQuiet => quiet!(cpu, op, |a, b| a << (b & 31), ri),
        Shr32RIQuiet => quiet!(cpu, op, |a, b| a >> (b & 31), ri),
        Sar32RIQuiet => quiet!(cpu, op, |a, b| (a as i32 >> (b & 31)) as u32, ri),
        Imul32RRQuiet => quiet!(cpu, op, |a, b| a.wrapping_mul(b), rr),
        Mov32MI => {
            m.store32(cpu, op, op.imm)?;
        }
        Mov16RR => {
            let v = cpu.reg16(op.b.into());
            cpu.set_reg16(op.a.into(), v);
        }
        Mov16RI => cpu.set_reg16(op.a.into(), op.imm as u16),
        Mov16RM => {
            let v = m.load16(cpu, op)?;
            cpu.set_reg16(op.a.into(), v);
        }
        Mov16MR => {
            let v = cpu.reg16(op.a.into());
            m.store16(cpu, op, v)?;
        }
        Mov16MI => {
            let v = op.imm as u16;
            m.store16(cpu, op, v)?;
        }
        Mov8RR => {
            let v = cpu.reg8(op.b);
            cpu.set_reg8(op.a, v);
        }
        Mov8RI => cpu.set_reg8(op.a, op.imm as u8),
        Mov8RM => {
            let v = m.load8(cpu, op)?;
            cpu.set_reg8(op.a, v);
        }
        Mov8MR => {
            let v = cpu.reg8(op.a);
            m.store8(cpu, op, v)?;
        }
        Mov8MI => {
            let v = op.imm as u8;
            m.store8(cpu, op, v)?;
        }
        Movzx32From8R => {
            let v = cpu.reg8(op.b);
            cpu.set_reg32(op.a.into(), v.into());
        }
        Movzx32From8M => {
            let v = m.load8(cpu, op)?;
            cpu.set_reg32(op.a.into(), v.into());
        }
        Movzx32From16R => {
            let v = cpu.reg16(op.b.into());
            cpu.set_reg32(op.a.into(), v.into());
        }
        Movzx32From16M => {
            let v = m.load16(cpu, op)?;
            cpu.set_reg32(op.a.into(), v.into());
        }
        Movsx32From8R => {
            let v = cpu.reg8(op.b);
            cpu.set_reg32(op.a.into(), v as i8 as u32);
        }
        Movsx32From8M => {
            let v = m.load8(cpu, op)?;
            cpu.set_reg32(op.a.into(), v as i8 as u32);
        }
        Movsx32From16R => {
            let v = cpu.reg16(op.b.into());
            cpu.set_reg32(op.a.into(), v as i16 as u32);
        }
        Movsx32From16M => {
            let v = m.load16(cpu, op)?;
            cpu.set_reg32(op.a.into(), v as i16 as u32);
        }
        Lea32 => {
            let v = if op.seg == SEG_FLAT { cpu.offset(op) } else { cpu.offset(op) & 0xffff };
            cpu.set_reg32(op.a.into(), v);
        }
        Xchg32RR => {
            let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
            cpu.set_reg32(op.a.into(), b);
            cpu.set_reg32(op.b.into(), a);
        }
        Xchg32RM => {
            let b = cpu.reg32(op.a.into());
            let old;
            modify32!(m, cpu, op, |v| {
                old = v;
                b
            });
            cpu.set_reg32(op.a.into(), old);
        }
        Cmov32RR => {
            if m.condition(cpu, op.imm as u8)? {
                let v = cpu.reg32(op.b.into());
                cpu.set_reg32(op.a.into(), v);
            }
        }
        Cmov32RM => {
            // The load happens, and may fault, whether or not the condition holds.
            let v = m.load32(cpu, op)?;
            if m.condition(cpu, op.imm as u8)? {
                cpu.set_reg32(op.a.into(), v);
            }
        }
        SetccR => {
            let v = m.condition(cpu, op.b)?.into();
            cpu.set_reg8(op.a, v);
        }
        SetccM => {
            let v = m.condition(cpu, op.b)?.into();
            m.store8(cpu, op, v)?;
        }
        Bswap32 => {
            let v = cpu.reg32(op.a.into()).swap_bytes();
            cpu.set_reg32(op.a.into(), v);
        }
        Push32R => m.push32(cpu, op, cpu.reg32(op.a.into()))?,
        Push32I => m.push32(cpu, op, op.imm)?,
        Push32M => {
            let v = m.load32(cpu, op)?;
            let at = cpu.reg32(RSP).wrapping_sub(4);
            m.write32(cpu, at, v)?;
            cpu.set_reg32(RSP, at);
        }
        Pop32R => {
            let at = cpu.reg32(RSP);
            let v = m.pop32(cpu, op, at)?;
            cpu.set_reg32(RSP, at.wrapping_add(4));
            cpu.set_reg32(op.a.into(), v);
        }
        Leave32 => {
            let at = cpu.reg32(RBP);
            let v = m.pop32(cpu, op, at)?;
            cpu.set_reg32(RSP, at.wrapping_add(4));
            cpu.set_reg32(RBP, v);
        }
        Inc32R => {
            let carry = cpu.lazy.carry().into();
            let res = cpu.reg32(op.a.into()).wrapping_add(1);
            cpu.lazy = Lazy { op: LazyOp::Inc32, res: res.into(), src: carry };
            cpu.set_reg32(op.a.into(), res);
        }
        Dec32R => {
            let carry = cpu.lazy.carry().into();
            let res = cpu.reg32(op.a.into()).wrapping_sub(1);
            cpu.lazy = Lazy { op: LazyOp::Dec32, res: res.into(), src: carry };
            cpu.set_reg32(op.a.into(), res);
        }
        Inc32M => modify32!(m, cpu, op, |v| {
            let carry = cpu.lazy.carry().into();
            let res = v.wrapping_add(1);
            cpu.lazy = Lazy { op: LazyOp::Inc32, res: res.into(), src: carry };
            res
        }),
        Dec32M => modify32!(m, cpu, op, |v| {
            let carry = cpu.lazy.carry().into();
            let res = v.wrapping_sub(1);
            cpu.lazy = Lazy { op: LazyOp::Dec32, res: res.into(), src: carry };
            res
        }),
        Neg32R => {
            let a = cpu.reg32(op.a.into());
            let res = cpu.alu32::<{ alu::SUB }>(0, a);
            cpu.set_reg32(op.a.into(), res);
        }
        Not32R => {
            let a = cpu.reg32(op.a.into());
            cpu.set_reg32(op.a.into(), !a);
        }
        Shl32RI | Shl32RC => {
            let n = if op.kind == Shl32RC { cpu.reg32(RCX) & 31 } else { op.imm };
            if n != 0 {
                let a = cpu.reg32(op.a.into());
                let res = a << n;
                cpu.set_shifted(LazyOp::Shl32, res, a, n);
                cpu.set_reg32(op.a.into(), res);
            }
        }
        Shr32RI | Shr32RC => {
            let n = if op.kind == Shr32RC { cpu.reg32(RCX) & 31 } else { op.imm };
            if n != 0 {
                let a = cpu.reg32(op.a.into());
                let res = a >> n;
                cpu.set_shifted(LazyOp::Shr32, res, a, n);
                cpu.set_reg32(op.a.into(), res);
            }
        }
        Sar32RI | Sar32RC => {
            let n = if op.kind == Sar32RC { cpu.reg32(RCX) & 31 } else { op.imm };
            if n != 0 {
                let a = cpu.reg32(op.a.into());
                let res = (a as i32 >> n) as u32;
                cpu.set_shifted(LazyOp::Sar32, res, a, n);
                cpu.set_reg32(op.a.into(), res);
            }
        }
        ShiftRI => cpu.shift_narrow(op),
        Rol32RI | Ror32RI => {
            let (a, n) = (cpu.reg32(op.a.into()), op.imm & 31);
            let (res, cf, second) = if op.kind == Ror32RI {
                let res = a.rotate_right(n);
                (res, res >> 31, res >> 30)
            } else {
                let res = a.rotate_left(n);
                (res, res & 1, res >> 31)
            };
            let Some(lazy) = cpu.lazy.quick_rotated(cf * CF | ((cf ^ second) & 1) * OF) else {
                return m.other(cpu, op, next);
            };
            cpu.lazy = lazy;
            cpu.set_reg32(op.a.into(), res);
        }
        Shld32RRI | Shrd32RRI => {
            let (a, b, n) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()), op.imm & 31);
            if n != 0 {
                let right = op.kind == Shrd32RRI;
                let (res, cf) = if right {
                    (a >> n | b << (32 - n), a >> (n - 1) & 1)
                } else {
                    (a << n | b >> (32 - n), a >> (32 - n) & 1)
                };
                cpu.set_result(4, res, cf * CF | ((res ^ a) >> 31) * OF);
                cpu.set_reg32(op.a.into(), res);
            }
        }
        Imul32RR => {
            let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
            let res = cpu.imul32(a, b);
            cpu.set_reg32(op.a.into(), res);
        }
        Imul32RM => {
            let b = m.load32(cpu, op)?;
            let a = cpu.reg32(op.a.into());
            let res = cpu.imul32(a, b);
            cpu.set_reg32(op.a.into(), res);
        }
        Imul32RRI => {
            let b = cpu.reg32(op.b.into());
            let res = cpu.imul32(b, op.imm);
            cpu.set_reg32(op.a.into(), res);
        }
        Imul32RMI => {
            let b = m.load32(cpu, op)?;
            let res = cpu.imul32(b, op.imm);
            cpu.set_reg32(op.a.into(), res);
        }
        Mul32R => {
            let product = u64::from(cpu.reg32(RAX)) * u64::from(cpu.reg32(op.a.into()));
            cpu.set_reg32(RAX, product as u32);
            cpu.set_reg32(RDX, (product >> 32) as u32);
            cpu.lazy = Lazy { op: LazyOp::Mul32, res: u64::from(product as u32), src: product };
        }
        Imul32R => {
            let product = i64::from(cpu.reg32(RAX) as i32) * i64::from(cpu.reg32(op.a.into()) as i32);
            let overflow = product != i64::from(product as i32);
            cpu.set_reg32(RAX, product as u32);
            cpu.set_reg32(RDX, (product >> 32) as u32);
            cpu.set_result(4, product as u32, if overflow { CF | OF } else { 0 });
        }
        Div32R => {
            let d = u64::from(cpu.reg32(op.a.into()));
            let n = u64::from(cpu.reg32(RDX)) << 32 | u64::from(cpu.reg32(RAX));
            match (n.checked_div(d), n.checked_rem(d)) {
                (Some(q), Some(r)) if q >> 32 == 0 => {
                    cpu.set_reg32(RAX, q as u32);
                    cpu.set_reg32(RDX, r as u32);
                }
                _ => return Err(m.fault(Fault::DE)),
            }
        }
        Idiv32R => {
            let d = i64::from(cpu.reg32(op.a.into()) as i32);
            let n = (u64::from(cpu.reg32(RDX)) << 32 | u64::from(cpu.reg32(RAX))) as i64;
            match (n.checked_div(d), n.checked_rem(d)) {
                (Some(q), Some(r)) if q == i64::from(q as i32) => {
                    cpu.set_reg32(RAX, q as u32);
                    cpu.set_reg32(RDX, r as u32);
                }
                _ => return Err(m.fault(Fault::DE)),
            }
        }
        Cdq => {
            let v = (cpu.reg32(RAX) as i32 >> 31) as u32;
            cpu.set_reg32(RDX, v);
        }
        Cwde => {
            let v = cpu.reg16(RAX) as i16 as u32;
            cpu.set_reg32(RAX, v);
        }
        Bsf32R | Bsr32R => {
            let v = cpu.reg32(op.b.into());
            if v != 0 {
                let n = if op.kind == Bsr32R { 31 - v.leading_zeros() } else { v.trailing_zeros() };
                cpu.set_reg32(op.a.into(), n);
            }
            // Only ZF is defined; the others are left as a logical operation on the source would set them.
            cpu.set_result(4, v, 0);
        }
        Jmp => return Ok(Flow::Jump(next.wrapping_add(op.disp), 1)),
        Jcc => branch!(next, m.condition(cpu, op.a)?, op.disp),
        JccResult32 => {
            let res = cpu.lazy.res as u32;
            let holds = if op.a & 8 != 0 { (res as i32) < 0 } else { res == 0 };
            branch!(next, holds ^ (op.a & 1 != 0), op.disp);
        }
        JccSub32 => {
            let (a, res) = (cpu.lazy.src as u32, cpu.lazy.res as u32);
            branch!(next, compare(op.a, a, a.wrapping_sub(res)), op.disp);
        }
        JccLogic32 => branch!(next, tested(op.a, cpu.lazy.res as u32), op.disp),
        CmpJcc32RR => {
            let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
            cpu.alu32::<{ alu::CMP }>(a, b);
            branch!(next, compare(op.index, a, b), op.disp);
        }
        CmpJcc32RI => {
            let a = cpu.reg32(op.a.into());
            cpu.alu32::<{ alu::CMP }>(a, op.imm);
            branch!(next, compare(op.index, a, op.imm), op.disp);
        }
        CmpJcc32RM => {
            let b = m.load32(cpu, op)?;
            let a = cpu.reg32(op.a.into());
            cpu.alu32::<{ alu::CMP }>(a, b);
            branch!(next, compare(op.b, a, b), op.imm);
        }
        CmpJcc32MR => {
            let a = m.load32(cpu, op)?;
            let b = cpu.reg32(op.a.into());
            cpu.alu32::<{ alu::CMP }>(a, b);
            branch!(next, compare(op.b, a, b), op.imm);
        }
        CmpJcc32MI8 => {
            let a = m.load32(cpu, op)?;
            let b = op.a as i8 as u32;
            cpu.alu32::<{ alu::CMP }>(a, b);
            branch!(next, compare(op.b, a, b), op.imm);
        }
        TestJcc32RR => {
            let res = cpu.reg32(op.a.into()) & cpu.reg32(op.b.into());
            cpu.set_result(4, res, 0);
            branch!(next, tested(op.index, res), op.disp);
        }
        TestJcc32RI => {
            let res = cpu.reg32(op.a.into()) & op.imm;
            cpu.set_result(4, res, 0);
            branch!(next, tested(op.index, res), op.disp);
        }
        TestJcc8RR | TestJcc8RI => {
            let b = if op.kind == TestJcc8RR { cpu.reg8(op.b) } else { op.imm as u8 };
            let res = cpu.reg8(op.a) & b;
            cpu.set_result(1, res.into(), 0);
            branch!(next, tested(op.index, res as i8 as u32), op.disp);
        }
        TestJcc8MI => {
            let v = m.load8(cpu, op)?;
            let res = v & op.a;
            cpu.set_result(1, res.into(), 0);
            branch!(next, tested(op.b, res as i8 as u32), op.imm);
        }
        CmpJcc8RR | CmpJcc8RI => {
            let a = cpu.reg8(op.a);
            let b = if op.kind == CmpJcc8RR { cpu.reg8(op.b) } else { op.imm as u8 };
            cpu.alu8::<{ alu::CMP }>(a, b);
            branch!(next, compare8(op.index, a, b), op.disp);
        }
        CmpJcc8MI => {
            let a = m.load8(cpu, op)?;
            cpu.alu8::<{ alu::CMP }>(a, op.a);
            branch!(next, compare8(op.b, a, op.a), op.imm);
        }
        DecJcc32R => {
            let carry = cpu.lazy.carry();
            let res = cpu.reg32(op.a.into()).wrapping_sub(1);
            cpu.lazy = Lazy { op: LazyOp::Dec32, res: res.into(), src: carry.into() };
            cpu.set_reg32(op.a.into(), res);
            branch!(next, decremented(op.index, res, carry), op.disp);
        }
        CallRel32 => {
            call32!(m, cpu, next);
            return Ok(Flow::Jump(next.wrapping_add(op.disp), 1));
        }
        JmpR32 => return Ok(Flow::Jump(cpu.reg32(op.a.into()), 2)),
        JmpM32 => return Ok(Flow::Jump(m.load32(cpu, op)?, 2)),
        CallR32 => {
            let to = cpu.reg32(op.a.into());
            call32!(m, cpu, next);
            return Ok(Flow::Jump(to, 2));
        }
        CallM32 => {
            let to = m.load32(cpu, op)?;
            call32!(m, cpu, next);
            return Ok(Flow::Jump(to, 2));
        }
        Ret32 | RetImm32 => {
            let at = cpu.reg32(RSP);
            let target = m.read32(cpu, at)?;
            // The immediate of a plain RET is zero.
            cpu.set_reg32(RSP, at.wrapping_add(4).wrapping_add(op.imm));
            return Ok(Flow::Jump(target, 2));
        }
        LoadLoad32 | LoadLea32 | MovLoad32 | AddLoad32 | AddStore32 | StoreLoad32 | StoreMov32 | MovMov32
        | PushPush32 | PopPop32 => m.pair(cpu, op)?,
        _ => return m.other(cpu, op, next),
    }
    Ok(Flow::Next)
}
