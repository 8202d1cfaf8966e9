//! Ops that the block loop leaves out: near
//! transfers outside flat 32-bit code, and kinds that are not worth a place in the loop.

use super::fault::{Exec, Fault};
use super::flags::{CF, ZF};
use super::op::{Kind, Op, SEG_FLAT};
use super::state::{Cpu, RAX, RCX, RDX, RSP};
use crate::bus::CpuBus;

impl Cpu {
    /// A near transfer's target: cut to 16 bits for 16-bit operands, and inside the code segment.
    #[inline]
    pub(super) fn near_target(&self, target: u32, width: u32) -> Exec<u32> {
        let target = if width == 2 { target & 0xffff } else { target };
        if target > self.seg[1].limit { Err(Fault::gp(0)) } else { Ok(target) }
    }

    /// Near transfers outside flat 32-bit code. `next` is the following instruction.
    #[inline(never)]
    pub(super) fn near<B: CpuBus>(&mut self, bus: &mut B, op: &Op, next: u32) -> Exec<u32> {
        match op.kind {
            Kind::JmpNear => self.near_target(next.wrapping_add(op.disp), op.b.into()),
            Kind::JccNear => {
                if self.lazy.condition(op.a) {
                    self.near_target(next.wrapping_add(op.disp), op.b.into())
                } else {
                    Ok(next)
                }
            }
            Kind::CallNear => {
                let target = self.near_target(next.wrapping_add(op.disp), op.b.into())?;
                self.push(bus, op.b.into(), next)?;
                Ok(target)
            }
            Kind::JmpNearE => {
                let target = self.load_e(bus, op, op.imm)?;
                self.near_target(target, op.imm)
            }
            Kind::CallNearE => {
                let target = self.load_e(bus, op, op.imm)?;
                let target = self.near_target(target, op.imm)?;
                self.push(bus, op.imm, next)?;
                Ok(target)
            }
            _ => {
                // RetNear
                let before = self.gpr[RSP];
                let target = self.pop(bus, op.b.into())?;
                match self.near_target(target, op.b.into()) {
                    Ok(target) => {
                        let sp = self.sp();
                        self.set_sp(sp.wrapping_add(op.imm));
                        Ok(target)
                    }
                    Err(f) => {
                        self.gpr[RSP] = before;
                        Err(f)
                    }
                }
            }
        }
    }

    /// LOOPcc, JCXZ: returns the target when taken.
    #[inline(never)]
    pub(super) fn loop_cx(&mut self, op: &Op, next: u32) -> Exec<Option<u32>> {
        let count = if op.b == 2 { self.reg16(RCX).into() } else { self.reg32(RCX) };
        let less = count.wrapping_sub(1) & if op.b == 2 { 0xffff } else { u32::MAX };
        let taken = match op.a {
            0 => less != 0 && !self.lazy.zero(),
            1 => less != 0 && self.lazy.zero(),
            2 => less != 0,
            _ => count == 0,
        };
        let target = if taken { Some(self.near_target(next.wrapping_add(op.disp), op.imm)?) } else { None };
        if op.a != 3 {
            if op.b == 2 { self.set_reg16(RCX, less as u16) } else { self.set_reg32(RCX, less) }
        }
        Ok(target)
    }

    /// Kinds that are not worth a place in the loop.
    #[inline(never)]
    pub(crate) fn cold<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        use Kind::*;
        match op.kind {
            Alu16RR | Alu16RI | Alu16RM | Alu16MR | Alu16MI => self.exec_alu16(bus, op)?,
            Movx16From8E => {
                let v = self.load_e(bus, op, 1)? as u8;
                let v = if op.imm != 0 { v as i8 as u16 } else { v.into() };
                self.set_reg16(op.a.into(), v);
            }
            Lea16 => {
                let v = self.offset_any(op);
                self.set_reg16(op.a.into(), v as u16);
            }
            Xchg16E => self.exec_xchg(bus, op, 2)?,
            Xchg8E => self.exec_xchg(bus, op, 1)?,
            Cmov16E => {
                let v = self.load_e(bus, op, 2)?;
                if self.lazy.condition(op.imm as u8) {
                    self.set_reg16(op.a.into(), v as u16);
                }
            }
            UnaryE => self.exec_unary(bus, op)?,
            ShiftE => self.exec_shift(bus, op)?,
            DoubleShiftE => self.exec_double_shift(bus, op)?,
            Imul16E => self.exec_imul16(bus, op, false)?,
            Imul16EI => self.exec_imul16(bus, op, true)?,
            MulDivE => self.exec_mul_div(bus, op)?,
            Cbw => {
                let v = self.reg8(0) as i8 as u16;
                self.set_reg16(RAX, v);
            }
            Cwd => {
                let v = if self.reg16(RAX) & 0x8000 != 0 { 0xffff } else { 0 };
                self.set_reg16(RDX, v);
            }
            BitE => self.exec_bit(bus, op)?,
            Bt32RR | Bt32RI => {
                let n = if op.kind == Bt32RR { self.reg32(op.b.into()) } else { op.imm };
                let v = self.reg32(op.a.into()) >> (n & 31) & 1;
                self.set_status_bits(CF, v);
            }
            Rol32RI | Ror32RI => {
                let a = self.reg32(op.a.into());
                let res = self.shift(u32::from(op.kind == Ror32RI), 4, a, op.imm);
                self.set_reg32(op.a.into(), res);
            }
            BitScanE => self.exec_bit_scan(bus, op)?,
            CmpxchgE => self.exec_cmpxchg(bus, op)?,
            XaddE => self.exec_xadd(bus, op)?,
            PopcntE => {
                let source = self.load_e(bus, op, op.imm)?;
                self.set_reg(op.a, op.imm, source.count_ones());
                self.set_status(if source == 0 { ZF } else { 0 });
            }
            Crc32E => {
                let source = self.load_e(bus, op, op.imm)?;
                let crc = super::simd::sse4::crc32(self.reg32(op.a.into()), source, op.imm);
                self.set_reg32(op.a.into(), crc);
            }
            Cmpxchg8bM => self.exec_cmpxchg8b(bus, op)?,
            Sahf => self.sahf(),
            Lahf => self.lahf(),
            Clc => self.set_status_bits(CF, 0),
            Stc => self.set_status_bits(CF, CF),
            Cmc => {
                let carry = self.lazy.carry();
                self.set_status_bits(CF, if carry { 0 } else { CF });
            }
            Cld => self.system_flags &= !super::flags::DF,
            Std => self.system_flags |= super::flags::DF,
            Salc => {
                let v = if self.lazy.carry() { 0xff } else { 0 };
                self.set_reg8(0, v);
            }
            Daa => self.decimal_adjust(false),
            Das => self.decimal_adjust(true),
            Aaa => self.ascii_adjust(false),
            Aas => self.ascii_adjust(true),
            Aam => self.aam(op.imm as u8)?,
            Aad => self.aad(op.imm as u8),
            Xlat => {
                let addr16 = op.seg & super::op::SEG_ADDR16 != 0 && op.seg != SEG_FLAT;
                let offset = self.reg32(3).wrapping_add(self.reg8(0).into()) & if addr16 { 0xffff } else { u32::MAX };
                let v = self.read8(bus, op.seg & 7, offset)?;
                self.set_reg8(0, v);
            }
            PushE => self.exec_push(bus, op)?,
            PopE => self.exec_pop(bus, op)?,
            PushI => self.push(bus, op.a.into(), op.imm)?,
            Pusha => self.exec_pusha(bus, op.imm)?,
            Popa => self.exec_popa(bus, op.imm)?,
            Enter => self.exec_enter(bus, op)?,
            Leave => self.exec_leave(bus, op.imm)?,
            Bound => self.exec_bound(bus, op)?,
            StringOnce => self.exec_string(bus, op)?,
            _ => return Err(Fault::UD),
        }
        Ok(())
    }
}
