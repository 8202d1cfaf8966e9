//! The interpreter: one loop over the ops of a block, and from block to block without leaving it.
//!
//! Inside the loop `cpu.rip` is the start of the running block; it becomes exact again whenever the loop is
//! left. Anything that is not plain computation on plain memory leaves before it does anything
//! ([`Fault::DEFER`]) and is then executed alone by [`Cpu::step`].

use super::access::View;
use super::cache::{Block, CodeCache, NONE};
use super::fault::Fault;
use super::flags::{CF, Lazy, LazyOp};
use super::integer::{alu, compare, tested};
use super::op::{Kind, Op, SEG_FLAT};
use super::state::{Cpu, RAX, RBP, RCX, RDX, RSP, mode};
use super::tlb;
use crate::bus::CpuBus;
use crate::mem::Ram;

/// Why the block loop was left. `cpu.rip` and `cpu.icount` are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The next block would pass the instruction budget.
    Budget,
    /// The block at `rip` is not known here; it follows `from` by link `slot`.
    Unknown {
        /// The block that led here.
        from: u32,
        /// Which of its links.
        slot: u8,
        /// Where that block began.
        rip: u32,
    },
    /// The instruction at `rip` raised a fault or must run alone.
    Fault(Fault),
    /// The instruction at `rip` is one that always runs alone.
    Alone(Op),
    /// The block at `rip` is hot.
    Hot,
    /// In single-step use: the op retired.
    Retired,
}

/// What a block, or one op, is executed from.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The block (its links are not followed when `single`).
    pub block: &'a Block,
    /// Its number.
    pub id: u32,
    /// Its ops.
    pub ops: &'a [Op],
}

/// Offset of a memory operand through the fast or the checked path.
macro_rules! load {
    ($cpu:ident, $bus:ident, $view:ident, $op:ident, $lin:ident, $any:ident) => {{
        let offset = $cpu.offset($op);
        if $op.seg == SEG_FLAT { $cpu.$lin($bus, $view, offset) } else { $cpu.$any($bus, $op) }
    }};
}

impl Cpu {
    /// Makes `rip` and `icount` exact for the op that left the block with `after` ops behind it.
    #[cold]
    #[inline(never)]
    fn stop_at(&mut self, ops: &[Op], after: usize, fault: Fault) -> Leave {
        for op in &ops[..ops.len() - after - 1] {
            self.rip = u64::from((self.rip as u32).wrapping_add(u32::from(op.len)));
            self.icount += u64::from(op.instructions());
        }
        Leave::Fault(fault)
    }

    /// The same for the second instruction of a pair whose first one retired.
    #[cold]
    #[inline(never)]
    fn stop_between(&mut self, ops: &[Op], after: usize, fault: Fault) -> Leave {
        let leave = self.stop_at(ops, after, fault);
        let first = ops[ops.len() - after - 1].seg;
        self.rip = u64::from((self.rip as u32).wrapping_add(u32::from(first)));
        self.icount += 1;
        leave
    }

    /// Runs blocks from `entry` on until something else must be decided. With `single` set in the CPU it runs
    /// just `entry`.
    #[allow(clippy::cognitive_complexity, reason = "one match is what makes the interpreter fast; see docs")]
    pub fn run_blocks<B: CpuBus>(
        &mut self,
        bus: &mut B,
        ram: &Ram,
        code: &CodeCache,
        entry: Entry,
        mut until: u64,
    ) -> Leave {
        use Kind::*;
        let cpu = self;
        let mode_bits = cpu.derived.mode;
        let view = View { ram, user: cpu.derived.user };
        let flat = mode_bits & mode::FLAT != 0;
        let Entry { mut block, mut id, mut ops } = entry;
        loop {
            let rip = cpu.rip as u32;
            let next = rip.wrapping_add(block.bytes.into());
            let mut target = next;
            let mut slot = 0u8;
            let mut it = ops.iter();

            macro_rules! t {
                ($e:expr) => {
                    match $e {
                        Ok(v) => v,
                        Err(f) => return cpu.stop_at(ops, it.as_slice().len(), f),
                    }
                };
            }
            // A fault of the second instruction of a pair.
            macro_rules! t2 {
                ($e:expr) => {
                    match $e {
                        Ok(v) => v,
                        Err(f) => return cpu.stop_between(ops, it.as_slice().len(), f),
                    }
                };
            }
            macro_rules! modify {
                ($op:ident, $size:expr, $rd:ident, $wr:ident, |$v:ident| $f:expr) => {{
                    let lin =
                        if $op.seg == SEG_FLAT { cpu.offset($op) } else { t!(cpu.write_linear_any(bus, $op, $size)) };
                    let (target, $v) = t!(cpu.$rd(bus, view, lin));
                    let res = $f;
                    t!(cpu.$wr(bus, view, target, lin, res));
                }};
            }
            macro_rules! alu32 {
                ($op:ident, $n:ident, rr) => {{
                    let (a, b) = (cpu.reg32($op.a.into()), cpu.reg32($op.b.into()));
                    let res = cpu.alu32::<{ alu::$n }>(a, b);
                    if alu::$n != alu::CMP {
                        cpu.set_reg32($op.a.into(), res);
                    }
                }};
                ($op:ident, $n:ident, ri) => {{
                    let a = cpu.reg32($op.a.into());
                    let res = cpu.alu32::<{ alu::$n }>(a, $op.imm);
                    if alu::$n != alu::CMP {
                        cpu.set_reg32($op.a.into(), res);
                    }
                }};
                ($op:ident, $n:ident, rm) => {{
                    let b = t!(load!(cpu, bus, view, $op, fast_read32, load32_any));
                    let a = cpu.reg32($op.a.into());
                    let res = cpu.alu32::<{ alu::$n }>(a, b);
                    if alu::$n != alu::CMP {
                        cpu.set_reg32($op.a.into(), res);
                    }
                }};
                ($op:ident, CMP, mr) => {{
                    let a = t!(load!(cpu, bus, view, $op, fast_read32, load32_any));
                    let b = cpu.reg32($op.a.into());
                    cpu.alu32::<{ alu::CMP }>(a, b);
                }};
                ($op:ident, $n:ident, mr) => {{
                    let b = cpu.reg32($op.a.into());
                    modify!($op, 4, fast_rmw_read32, fast_rmw_write32, |v| cpu.alu32::<{ alu::$n }>(v, b))
                }};
                ($op:ident, CMP, mi) => {{
                    let a = t!(load!(cpu, bus, view, $op, fast_read32, load32_any));
                    cpu.alu32::<{ alu::CMP }>(a, $op.imm);
                }};
                ($op:ident, $n:ident, mi) => {
                    modify!($op, 4, fast_rmw_read32, fast_rmw_write32, |v| cpu.alu32::<{ alu::$n }>(v, $op.imm))
                };
            }
            macro_rules! alu8 {
                ($op:ident, $n:ident, rr) => {{
                    let (a, b) = (cpu.reg8($op.a), cpu.reg8($op.b));
                    let res = cpu.alu8::<{ alu::$n }>(a, b);
                    if alu::$n != alu::CMP {
                        cpu.set_reg8($op.a, res);
                    }
                }};
                ($op:ident, $n:ident, ri) => {{
                    let a = cpu.reg8($op.a);
                    let res = cpu.alu8::<{ alu::$n }>(a, $op.imm as u8);
                    if alu::$n != alu::CMP {
                        cpu.set_reg8($op.a, res);
                    }
                }};
                ($op:ident, $n:ident, rm) => {{
                    let b = t!(load!(cpu, bus, view, $op, fast_read8, load8_any));
                    let a = cpu.reg8($op.a);
                    let res = cpu.alu8::<{ alu::$n }>(a, b);
                    if alu::$n != alu::CMP {
                        cpu.set_reg8($op.a, res);
                    }
                }};
                ($op:ident, CMP, mr) => {{
                    let a = t!(load!(cpu, bus, view, $op, fast_read8, load8_any));
                    let b = cpu.reg8($op.a);
                    cpu.alu8::<{ alu::CMP }>(a, b);
                }};
                ($op:ident, $n:ident, mr) => {{
                    let b = cpu.reg8($op.a);
                    modify!($op, 1, fast_rmw_read8, fast_rmw_write8, |v| cpu.alu8::<{ alu::$n }>(v, b))
                }};
                ($op:ident, CMP, mi) => {{
                    let a = t!(load!(cpu, bus, view, $op, fast_read8, load8_any));
                    cpu.alu8::<{ alu::CMP }>(a, $op.imm as u8);
                }};
                ($op:ident, $n:ident, mi) => {
                    modify!($op, 1, fast_rmw_read8, fast_rmw_write8, |v| cpu.alu8::<{ alu::$n }>(v, $op.imm as u8))
                };
            }
            macro_rules! quiet {
                ($op:ident, |$a:ident, $b:ident| $f:expr, rr) => {{
                    let ($a, $b) = (cpu.reg32($op.a.into()), cpu.reg32($op.b.into()));
                    cpu.set_reg32($op.a.into(), $f);
                }};
                ($op:ident, |$a:ident, $b:ident| $f:expr, ri) => {{
                    let ($a, $b) = (cpu.reg32($op.a.into()), $op.imm);
                    cpu.set_reg32($op.a.into(), $f);
                }};
            }
            macro_rules! branch {
                ($taken:expr, $disp:expr) => {
                    if $taken {
                        target = next.wrapping_add($disp);
                        slot = 1;
                    }
                };
            }
            macro_rules! push32 {
                ($op:ident, $value:expr) => {{
                    let value = $value;
                    let at = cpu.reg32(RSP).wrapping_sub(4);
                    if $op.seg == SEG_FLAT {
                        t!(cpu.fast_write32(bus, view, at, value));
                    } else {
                        t!(cpu.write32(bus, 2, at, value));
                    }
                    cpu.set_reg32(RSP, at);
                }};
            }
            // A call in flat code: the memory operand's segment, if any, says nothing about the stack.
            macro_rules! call32 {
                () => {{
                    let at = cpu.reg32(RSP).wrapping_sub(4);
                    t!(cpu.fast_write32(bus, view, at, next));
                    cpu.set_reg32(RSP, at);
                }};
            }

            while let Some(op) = it.next() {
                match op.kind {
                    Nop => {}
                    Add32RR => alu32!(op, ADD, rr),
                    Add32RI => alu32!(op, ADD, ri),
                    Add32RM => alu32!(op, ADD, rm),
                    Add32MR => alu32!(op, ADD, mr),
                    Add32MI => alu32!(op, ADD, mi),
                    Or32RR => alu32!(op, OR, rr),
                    Or32RI => alu32!(op, OR, ri),
                    Or32RM => alu32!(op, OR, rm),
                    Or32MR => alu32!(op, OR, mr),
                    Or32MI => alu32!(op, OR, mi),
                    Adc32RR => alu32!(op, ADC, rr),
                    Adc32RI => alu32!(op, ADC, ri),
                    Adc32RM => alu32!(op, ADC, rm),
                    Adc32MR => alu32!(op, ADC, mr),
                    Adc32MI => alu32!(op, ADC, mi),
                    Sbb32RR => alu32!(op, SBB, rr),
                    Sbb32RI => alu32!(op, SBB, ri),
                    Sbb32RM => alu32!(op, SBB, rm),
                    Sbb32MR => alu32!(op, SBB, mr),
                    Sbb32MI => alu32!(op, SBB, mi),
                    And32RR => alu32!(op, AND, rr),
                    And32RI => alu32!(op, AND, ri),
                    And32RM => alu32!(op, AND, rm),
                    And32MR => alu32!(op, AND, mr),
                    And32MI => alu32!(op, AND, mi),
                    Sub32RR => alu32!(op, SUB, rr),
                    Sub32RI => alu32!(op, SUB, ri),
                    Sub32RM => alu32!(op, SUB, rm),
                    Sub32MR => alu32!(op, SUB, mr),
                    Sub32MI => alu32!(op, SUB, mi),
                    Xor32RR => alu32!(op, XOR, rr),
                    Xor32RI => alu32!(op, XOR, ri),
                    Xor32RM => alu32!(op, XOR, rm),
                    Xor32MR => alu32!(op, XOR, mr),
                    Xor32MI => alu32!(op, XOR, mi),
                    Cmp32RR => alu32!(op, CMP, rr),
                    Cmp32RI => alu32!(op, CMP, ri),
                    Cmp32RM => alu32!(op, CMP, rm),
                    Cmp32MR => alu32!(op, CMP, mr),
                    Cmp32MI => alu32!(op, CMP, mi),
                    Test32RR => {
                        let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                        cpu.alu32::<{ alu::AND }>(a, b);
                    }
                    Test32RI => {
                        let a = cpu.reg32(op.a.into());
                        cpu.alu32::<{ alu::AND }>(a, op.imm);
                    }
                    Test32MR => {
                        let a = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        let b = cpu.reg32(op.a.into());
                        cpu.alu32::<{ alu::AND }>(a, b);
                    }
                    Test32MI => {
                        let a = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        cpu.alu32::<{ alu::AND }>(a, op.imm);
                    }
                    Add8RR => alu8!(op, ADD, rr),
                    Add8RI => alu8!(op, ADD, ri),
                    Add8RM => alu8!(op, ADD, rm),
                    Add8MR => alu8!(op, ADD, mr),
                    Add8MI => alu8!(op, ADD, mi),
                    Or8RR => alu8!(op, OR, rr),
                    Or8RI => alu8!(op, OR, ri),
                    Or8RM => alu8!(op, OR, rm),
                    Or8MR => alu8!(op, OR, mr),
                    Or8MI => alu8!(op, OR, mi),
                    Adc8RR => alu8!(op, ADC, rr),
                    Adc8RI => alu8!(op, ADC, ri),
                    Adc8RM => alu8!(op, ADC, rm),
                    Adc8MR => alu8!(op, ADC, mr),
                    Adc8MI => alu8!(op, ADC, mi),
                    Sbb8RR => alu8!(op, SBB, rr),
                    Sbb8RI => alu8!(op, SBB, ri),
                    Sbb8RM => alu8!(op, SBB, rm),
                    Sbb8MR => alu8!(op, SBB, mr),
                    Sbb8MI => alu8!(op, SBB, mi),
                    And8RR => alu8!(op, AND, rr),
                    And8RI => alu8!(op, AND, ri),
                    And8RM => alu8!(op, AND, rm),
                    And8MR => alu8!(op, AND, mr),
                    And8MI => alu8!(op, AND, mi),
                    Sub8RR => alu8!(op, SUB, rr),
                    Sub8RI => alu8!(op, SUB, ri),
                    Sub8RM => alu8!(op, SUB, rm),
                    Sub8MR => alu8!(op, SUB, mr),
                    Sub8MI => alu8!(op, SUB, mi),
                    Xor8RR => alu8!(op, XOR, rr),
                    Xor8RI => alu8!(op, XOR, ri),
                    Xor8RM => alu8!(op, XOR, rm),
                    Xor8MR => alu8!(op, XOR, mr),
                    Xor8MI => alu8!(op, XOR, mi),
                    Cmp8RR => alu8!(op, CMP, rr),
                    Cmp8RI => alu8!(op, CMP, ri),
                    Cmp8RM => alu8!(op, CMP, rm),
                    Cmp8MR => alu8!(op, CMP, mr),
                    Cmp8MI => alu8!(op, CMP, mi),
                    Test8RR => {
                        let (a, b) = (cpu.reg8(op.a), cpu.reg8(op.b));
                        cpu.alu8::<{ alu::AND }>(a, b);
                    }
                    Test8RI => {
                        let a = cpu.reg8(op.a);
                        cpu.alu8::<{ alu::AND }>(a, op.imm as u8);
                    }
                    Test8MR => {
                        let a = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        let b = cpu.reg8(op.a);
                        cpu.alu8::<{ alu::AND }>(a, b);
                    }
                    Test8MI => {
                        let a = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        cpu.alu8::<{ alu::AND }>(a, op.imm as u8);
                    }
                    Mov32RR => {
                        let v = cpu.reg32(op.b.into());
                        cpu.set_reg32(op.a.into(), v);
                    }
                    Mov32RI => cpu.set_reg32(op.a.into(), op.imm),
                    Mov32RM => {
                        let v = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        cpu.set_reg32(op.a.into(), v);
                    }
                    Mov32MR => {
                        let v = cpu.reg32(op.a.into());
                        let offset = cpu.offset(op);
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write32(bus, view, offset, v)
                        } else {
                            cpu.store32_any(bus, op, v)
                        });
                    }
                    Mov32RB => {
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = t!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.a.into(), v);
                    }
                    Mov32BR => {
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = cpu.reg32(op.a.into());
                        t!(cpu.fast_write32(bus, view, lin, v));
                    }
                    Sub32RRQuiet => quiet!(op, |a, b| a.wrapping_sub(b), rr),
                    And32RRQuiet => quiet!(op, |a, b| a & b, rr),
                    And32RIQuiet => quiet!(op, |a, b| a & b, ri),
                    Or32RRQuiet => quiet!(op, |a, b| a | b, rr),
                    Or32RIQuiet => quiet!(op, |a, b| a | b, ri),
                    Xor32RRQuiet => quiet!(op, |a, b| a ^ b, rr),
                    Xor32RIQuiet => quiet!(op, |a, b| a ^ b, ri),
                    Shl32RIQuiet => quiet!(op, |a, b| a << (b & 31), ri),
                    Shr32RIQuiet => quiet!(op, |a, b| a >> (b & 31), ri),
                    Sar32RIQuiet => quiet!(op, |a, b| (a as i32 >> (b & 31)) as u32, ri),
                    Imul32RRQuiet => quiet!(op, |a, b| a.wrapping_mul(b), rr),
                    Mov32MI => {
                        let offset = cpu.offset(op);
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write32(bus, view, offset, op.imm)
                        } else {
                            cpu.store32_any(bus, op, op.imm)
                        });
                    }
                    Mov16RR => {
                        let v = cpu.reg16(op.b.into());
                        cpu.set_reg16(op.a.into(), v);
                    }
                    Mov16RI => cpu.set_reg16(op.a.into(), op.imm as u16),
                    Mov16RM => {
                        let v = t!(load!(cpu, bus, view, op, fast_read16, load16_any));
                        cpu.set_reg16(op.a.into(), v);
                    }
                    Mov16MR => {
                        let v = cpu.reg16(op.a.into());
                        let offset = cpu.offset(op);
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write16(bus, view, offset, v)
                        } else {
                            cpu.store16_any(bus, op, v)
                        });
                    }
                    Mov16MI => {
                        let offset = cpu.offset(op);
                        let v = op.imm as u16;
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write16(bus, view, offset, v)
                        } else {
                            cpu.store16_any(bus, op, v)
                        });
                    }
                    Mov8RR => {
                        let v = cpu.reg8(op.b);
                        cpu.set_reg8(op.a, v);
                    }
                    Mov8RI => cpu.set_reg8(op.a, op.imm as u8),
                    Mov8RM => {
                        let v = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        cpu.set_reg8(op.a, v);
                    }
                    Mov8MR => {
                        let v = cpu.reg8(op.a);
                        let offset = cpu.offset(op);
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write8(bus, view, offset, v)
                        } else {
                            cpu.store8_any(bus, op, v)
                        });
                    }
                    Mov8MI => {
                        let offset = cpu.offset(op);
                        let v = op.imm as u8;
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write8(bus, view, offset, v)
                        } else {
                            cpu.store8_any(bus, op, v)
                        });
                    }
                    Movzx32From8R => {
                        let v = cpu.reg8(op.b);
                        cpu.set_reg32(op.a.into(), v.into());
                    }
                    Movzx32From8M => {
                        let v = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        cpu.set_reg32(op.a.into(), v.into());
                    }
                    Movzx32From16R => {
                        let v = cpu.reg16(op.b.into());
                        cpu.set_reg32(op.a.into(), v.into());
                    }
                    Movzx32From16M => {
                        let v = t!(load!(cpu, bus, view, op, fast_read16, load16_any));
                        cpu.set_reg32(op.a.into(), v.into());
                    }
                    Movsx32From8R => {
                        let v = cpu.reg8(op.b);
                        cpu.set_reg32(op.a.into(), v as i8 as u32);
                    }
                    Movsx32From8M => {
                        let v = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        cpu.set_reg32(op.a.into(), v as i8 as u32);
                    }
                    Movsx32From16R => {
                        let v = cpu.reg16(op.b.into());
                        cpu.set_reg32(op.a.into(), v as i16 as u32);
                    }
                    Movsx32From16M => {
                        let v = t!(load!(cpu, bus, view, op, fast_read16, load16_any));
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
                        modify!(op, 4, fast_rmw_read32, fast_rmw_write32, |v| {
                            old = v;
                            b
                        });
                        cpu.set_reg32(op.a.into(), old);
                    }
                    Cmov32RR => {
                        if cpu.lazy.condition(op.imm as u8) {
                            let v = cpu.reg32(op.b.into());
                            cpu.set_reg32(op.a.into(), v);
                        }
                    }
                    Cmov32RM => {
                        // The load happens, and may fault, whether or not the condition holds.
                        let v = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        if cpu.lazy.condition(op.imm as u8) {
                            cpu.set_reg32(op.a.into(), v);
                        }
                    }
                    SetccR => {
                        let v = cpu.lazy.condition(op.b).into();
                        cpu.set_reg8(op.a, v);
                    }
                    SetccM => {
                        let v = cpu.lazy.condition(op.b).into();
                        let offset = cpu.offset(op);
                        t!(if op.seg == SEG_FLAT {
                            cpu.fast_write8(bus, view, offset, v)
                        } else {
                            cpu.store8_any(bus, op, v)
                        });
                    }
                    Bswap32 => {
                        let v = cpu.reg32(op.a.into()).swap_bytes();
                        cpu.set_reg32(op.a.into(), v);
                    }
                    Push32R => push32!(op, cpu.reg32(op.a.into())),
                    Push32I => push32!(op, op.imm),
                    Push32M => {
                        let v = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        let at = cpu.reg32(RSP).wrapping_sub(4);
                        t!(cpu.fast_write32(bus, view, at, v));
                        cpu.set_reg32(RSP, at);
                    }
                    Pop32R => {
                        let at = cpu.reg32(RSP);
                        let v = t!(if op.seg == SEG_FLAT {
                            cpu.fast_read32(bus, view, at)
                        } else {
                            cpu.read32(bus, 2, at)
                        });
                        cpu.set_reg32(RSP, at.wrapping_add(4));
                        cpu.set_reg32(op.a.into(), v);
                    }
                    Leave32 => {
                        let at = cpu.reg32(RBP);
                        let v = t!(if op.seg == SEG_FLAT {
                            cpu.fast_read32(bus, view, at)
                        } else {
                            cpu.read32(bus, 2, at)
                        });
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
                    Inc32M => modify!(op, 4, fast_rmw_read32, fast_rmw_write32, |v| {
                        let carry = cpu.lazy.carry().into();
                        let res = v.wrapping_add(1);
                        cpu.lazy = Lazy { op: LazyOp::Inc32, res: res.into(), src: carry };
                        res
                    }),
                    Dec32M => modify!(op, 4, fast_rmw_read32, fast_rmw_write32, |v| {
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
                    Rol32RI | Ror32RI => {
                        let a = cpu.reg32(op.a.into());
                        let res = cpu.shift(u32::from(op.kind == Ror32RI), 4, a, op.imm);
                        cpu.set_reg32(op.a.into(), res);
                    }
                    Shld32RRI | Shrd32RRI => {
                        let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                        let res = cpu.double_shift(op.kind == Shrd32RRI, 4, a, b, op.imm);
                        cpu.set_reg32(op.a.into(), res);
                    }
                    Imul32RR => {
                        let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                        let res = cpu.imul32(a, b);
                        cpu.set_reg32(op.a.into(), res);
                    }
                    Imul32RM => {
                        let b = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
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
                        let b = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
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
                        let b = cpu.reg32(op.a.into());
                        cpu.multiply(true, 4, b);
                    }
                    Div32R => {
                        let d = u64::from(cpu.reg32(op.a.into()));
                        let n = u64::from(cpu.reg32(RDX)) << 32 | u64::from(cpu.reg32(RAX));
                        match (n.checked_div(d), n.checked_rem(d)) {
                            (Some(q), Some(r)) if q >> 32 == 0 => {
                                cpu.set_reg32(RAX, q as u32);
                                cpu.set_reg32(RDX, r as u32);
                            }
                            _ => t!(Err(Fault::DE)),
                        }
                    }
                    Idiv32R => {
                        let d = cpu.reg32(op.a.into());
                        t!(cpu.divide(true, 4, d));
                    }
                    Cdq => {
                        let v = (cpu.reg32(RAX) as i32 >> 31) as u32;
                        cpu.set_reg32(RDX, v);
                    }
                    Cwde => {
                        let v = cpu.reg16(RAX) as i16 as u32;
                        cpu.set_reg32(RAX, v);
                    }
                    Bt32RR => {
                        let v = cpu.reg32(op.a.into()) >> (cpu.reg32(op.b.into()) & 31) & 1;
                        cpu.set_status_bits(CF, v);
                    }
                    Bt32RI => {
                        let v = cpu.reg32(op.a.into()) >> (op.imm & 31) & 1;
                        cpu.set_status_bits(CF, v);
                    }
                    Bsf32R | Bsr32R => {
                        let v = cpu.reg32(op.b.into());
                        if let Some(n) = cpu.bit_scan(op.kind == Bsr32R, 4, v) {
                            cpu.set_reg32(op.a.into(), n);
                        }
                    }
                    Jmp => {
                        target = next.wrapping_add(op.disp);
                        slot = 1;
                    }
                    Jcc => branch!(cpu.lazy.condition(op.a), op.disp),
                    JccResult32 => {
                        let res = cpu.lazy.res as u32;
                        let holds = if op.a & 8 != 0 { (res as i32) < 0 } else { res == 0 };
                        branch!(holds ^ (op.a & 1 != 0), op.disp);
                    }
                    JccSub32 => {
                        let (a, res) = (cpu.lazy.src as u32, cpu.lazy.res as u32);
                        branch!(compare(op.a, a, a.wrapping_sub(res)), op.disp);
                    }
                    JccLogic32 => branch!(tested(op.a, cpu.lazy.res as u32), op.disp),
                    CmpJcc32RR => {
                        let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                        cpu.alu32::<{ alu::CMP }>(a, b);
                        branch!(compare(op.index, a, b), op.disp);
                    }
                    CmpJcc32RI => {
                        let a = cpu.reg32(op.a.into());
                        cpu.alu32::<{ alu::CMP }>(a, op.imm);
                        branch!(compare(op.index, a, op.imm), op.disp);
                    }
                    CmpJcc32RM => {
                        let b = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        let a = cpu.reg32(op.a.into());
                        cpu.alu32::<{ alu::CMP }>(a, b);
                        branch!(compare(op.b, a, b), op.imm);
                    }
                    CmpJcc32MR => {
                        let a = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        let b = cpu.reg32(op.a.into());
                        cpu.alu32::<{ alu::CMP }>(a, b);
                        branch!(compare(op.b, a, b), op.imm);
                    }
                    CmpJcc32MI8 => {
                        let a = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        let b = op.a as i8 as u32;
                        cpu.alu32::<{ alu::CMP }>(a, b);
                        branch!(compare(op.b, a, b), op.imm);
                    }
                    TestJcc32RR => {
                        let res = cpu.reg32(op.a.into()) & cpu.reg32(op.b.into());
                        cpu.set_result(4, res, 0);
                        branch!(tested(op.index, res), op.disp);
                    }
                    TestJcc32RI => {
                        let res = cpu.reg32(op.a.into()) & op.imm;
                        cpu.set_result(4, res, 0);
                        branch!(tested(op.index, res), op.disp);
                    }
                    TestJcc8RR | TestJcc8RI => {
                        let b = if op.kind == TestJcc8RR { cpu.reg8(op.b) } else { op.imm as u8 };
                        let res = cpu.reg8(op.a) & b;
                        cpu.set_result(1, res.into(), 0);
                        branch!(tested(op.index, res as i8 as u32), op.disp);
                    }
                    TestJcc8MI => {
                        let v = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        let res = v & op.a;
                        cpu.set_result(1, res.into(), 0);
                        branch!(tested(op.b, res as i8 as u32), op.imm);
                    }
                    CmpJcc8RR | CmpJcc8RI => {
                        let a = cpu.reg8(op.a);
                        let b = if op.kind == CmpJcc8RR { cpu.reg8(op.b) } else { op.imm as u8 };
                        cpu.alu8::<{ alu::CMP }>(a, b);
                        branch!(cpu.lazy.condition(op.index), op.disp);
                    }
                    CmpJcc8MI => {
                        let a = t!(load!(cpu, bus, view, op, fast_read8, load8_any));
                        cpu.alu8::<{ alu::CMP }>(a, op.a);
                        branch!(cpu.lazy.condition(op.b), op.imm);
                    }
                    DecJcc32R => {
                        let carry = cpu.lazy.carry().into();
                        let res = cpu.reg32(op.a.into()).wrapping_sub(1);
                        cpu.lazy = Lazy { op: LazyOp::Dec32, res: res.into(), src: carry };
                        cpu.set_reg32(op.a.into(), res);
                        branch!(cpu.lazy.condition(op.index), op.disp);
                    }
                    CallRel32 => {
                        call32!();
                        target = next.wrapping_add(op.disp);
                        slot = 1;
                    }
                    JmpR32 => {
                        target = cpu.reg32(op.a.into());
                        slot = 2;
                    }
                    JmpM32 => {
                        target = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        slot = 2;
                    }
                    CallR32 => {
                        let to = cpu.reg32(op.a.into());
                        call32!();
                        (target, slot) = (to, 2);
                    }
                    CallM32 => {
                        let to = t!(load!(cpu, bus, view, op, fast_read32, load32_any));
                        call32!();
                        (target, slot) = (to, 2);
                    }
                    Ret32 => {
                        let at = cpu.reg32(RSP);
                        target = t!(cpu.fast_read32(bus, view, at));
                        cpu.set_reg32(RSP, at.wrapping_add(4));
                        slot = 2;
                    }
                    RetImm32 => {
                        let at = cpu.reg32(RSP);
                        target = t!(cpu.fast_read32(bus, view, at));
                        cpu.set_reg32(RSP, at.wrapping_add(4).wrapping_add(op.imm));
                        slot = 2;
                    }
                    JmpNear | JccNear | CallNear | JmpNearE | CallNearE | RetNear => {
                        target = t!(cpu.near(bus, op, next));
                        slot = 2;
                    }
                    LoopCx => {
                        if let Some(to) = t!(cpu.loop_cx(op, next)) {
                            target = to;
                            slot = 2;
                        }
                    }
                    StringRep => {
                        if !t!(cpu.exec_rep(bus, op)) {
                            target = rip;
                            slot = 2;
                        }
                        if cpu.exhausted() {
                            until = 0;
                        }
                    }
                    X87Reg | X87Load | X87Store | X87Env | Fwait => t!(cpu.exec_x87(bus, op)),
                    Simd => t!(cpu.exec_simd(bus, op)),
                    LoadLoad32 => {
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = t!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.a.into(), v);
                        let lin = cpu.reg32(op.index.into()).wrapping_add(op.imm);
                        let v = t2!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.b.into(), v);
                    }
                    LoadLea32 => {
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = t!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.a.into(), v);
                        let index = cpu.reg32((op.index & 31).into()) << (op.index >> 5);
                        let v = cpu.reg32(op.seg.into()).wrapping_add(index).wrapping_add(op.imm);
                        cpu.set_reg32(op.b.into(), v);
                    }
                    MovLoad32 => {
                        let v = cpu.reg32(op.b.into());
                        cpu.set_reg32(op.a.into(), v);
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = t2!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.index.into(), v);
                    }
                    AddLoad32 => {
                        alu32!(op, ADD, rr);
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = t2!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.index.into(), v);
                    }
                    AddStore32 => {
                        alu32!(op, ADD, rr);
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = cpu.reg32(op.index.into());
                        t2!(cpu.fast_write32(bus, view, lin, v));
                    }
                    StoreLoad32 => {
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = cpu.reg32(op.a.into());
                        t!(cpu.fast_write32(bus, view, lin, v));
                        let lin = cpu.reg32(op.index.into()).wrapping_add(op.imm);
                        let v = t2!(cpu.fast_read32(bus, view, lin));
                        cpu.set_reg32(op.b.into(), v);
                    }
                    StoreMov32 => {
                        let lin = cpu.reg32(op.base.into()).wrapping_add(op.disp);
                        let v = cpu.reg32(op.a.into());
                        t!(cpu.fast_write32(bus, view, lin, v));
                        let v = cpu.reg32(op.index.into());
                        cpu.set_reg32(op.b.into(), v);
                    }
                    MovMov32 => {
                        let v = cpu.reg32(op.b.into());
                        cpu.set_reg32(op.a.into(), v);
                        let v = cpu.reg32(op.index.into());
                        cpu.set_reg32(op.base.into(), v);
                    }
                    PushPush32 => {
                        let (v, at) = (cpu.reg32(op.a.into()), cpu.reg32(RSP).wrapping_sub(4));
                        t!(cpu.fast_write32(bus, view, at, v));
                        cpu.set_reg32(RSP, at);
                        let (v, at) = (cpu.reg32(op.b.into()), at.wrapping_sub(4));
                        t2!(cpu.fast_write32(bus, view, at, v));
                        cpu.set_reg32(RSP, at);
                    }
                    PopPop32 => {
                        let at = cpu.reg32(RSP);
                        let v = t!(cpu.fast_read32(bus, view, at));
                        cpu.set_reg32(RSP, at.wrapping_add(4));
                        cpu.set_reg32(op.a.into(), v);
                        let at = cpu.reg32(RSP);
                        let v = t2!(cpu.fast_read32(bus, view, at));
                        cpu.set_reg32(RSP, at.wrapping_add(4));
                        cpu.set_reg32(op.b.into(), v);
                    }
                    Alone => return self::Leave::Alone(*op),
                    _ => t!(cpu.cold(bus, op)),
                }
            }

            cpu.icount += u64::from(block.instructions);
            cpu.rip = target.into();
            if cpu.single {
                return self::Leave::Retired;
            }
            let linked = if slot < 2 { block.links[usize::from(slot)] } else { NONE };
            let to = if linked != NONE {
                linked
            } else {
                let lin = target.wrapping_add(cpu.derived.base[1] as u32);
                match code.jump(lin, mode_bits, cpu.tlb.fetch[tlb::slot(lin, view.user)]) {
                    Some(to) => to,
                    None => {
                        return self::Leave::Unknown { from: id, slot, rip };
                    }
                }
            };
            let Some(b) = code.blocks.get(to as usize) else {
                return self::Leave::Unknown { from: NONE, slot: 2, rip };
            };
            block = b;
            id = to;
            match block.heat.get() {
                0 if cpu.icount >= code.calm_until => return self::Leave::Hot,
                0 => {}
                heat => block.heat.set(heat - 1),
            }
            if cpu.icount + u64::from(block.instructions) > until {
                return self::Leave::Budget;
            }
            if !flat && u64::from(target) + u64::from(block.bytes) > u64::from(cpu.seg[1].limit) + 1 {
                return self::Leave::Unknown { from: NONE, slot: 2, rip };
            }
            ops = &code.ops[block.start as usize..block.start as usize + usize::from(block.ops)];
        }
    }
}
