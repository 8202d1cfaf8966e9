//! Ops on plain memory: whatever hits the TLB, and nothing else.
//!
//! All of it is inlined into the block loop, which then calls nothing: its registers stay the host's registers. Where an
//! op needs more, it has changed nothing and the loop is left for [`Full`](super::full::Full) to do it.
#![allow(
    unsafe_code,
    reason = "a check of each access against the block's size, which a TLB entry implies, costs a tenth"
)]

use super::execute::Flow;
use super::fault::{Exec, Fault};
use super::integer::alu;
use super::op::{Kind, Op};
use super::operand::Memory;
use super::state::{Cpu, RSP};
use super::tlb::{self, slot};
use crate::mem::Ram;

/// Plain memory with the privilege that the block loop runs with. All faults are [`Fault::DEFER`].
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    /// The memory block.
    pub ram: &'a Ram,
    /// TLB half (0 supervisor, 1 user).
    pub user: u32,
}

/// Where an access that hit the TLB lies. Only the TLB makes one, and it holds pages of the memory block alone
/// ([`Cpu::resolve`](super::access)).
#[derive(Debug, Clone, Copy)]
pub struct Inside(u32);

macro_rules! inside {
    ($t:ty, $read:ident, $write:ident, $read_inside:ident, $write_inside:ident) => {
        #[inline(always)]
        fn $read(self, at: Inside) -> $t {
            // SAFETY: a TLB entry is a page inside the block.
            unsafe { self.ram.$read_inside(at.0) }
        }

        #[inline(always)]
        fn $write(self, at: Inside, value: $t) {
            // SAFETY: a TLB entry is a page inside the block.
            unsafe { self.ram.$write_inside(at.0, value) }
        }
    };
}

impl Plain<'_> {
    inside!(u8, get8, put8, read_u8_inside, write_u8_inside);
    inside!(u16, get16, put16, read_u16_inside, write_u16_inside);
    inside!(u32, get32, put32, read_u32_inside, write_u32_inside);

    /// The block offset of a read.
    #[inline(always)]
    fn readable(self, cpu: &Cpu, lin: u32, size: u32) -> Exec<Inside> {
        tlb::hit(cpu.tlb.read[slot(lin, self.user)], lin, size).map(Inside).ok_or(Fault::DEFER)
    }

    /// The block offset of a write.
    #[inline(always)]
    fn writable(self, cpu: &Cpu, lin: u32, size: u32) -> Exec<Inside> {
        let entry = cpu.tlb.write[slot(lin, self.user)];
        match tlb::hit(entry, lin, size) {
            Some(offset) => Ok(Inside(offset)),
            None => self.beside_code(entry, lin, size),
        }
    }

    /// The block offset of a write to a page that holds code, in other granules. A page whose code is gone is left to
    /// [`Cpu::beside_code`].
    #[inline(always)]
    fn beside_code(self, entry: u64, lin: u32, size: u32) -> Exec<Inside> {
        let offset = tlb::hit_beside_code(entry, lin, size).ok_or(Fault::DEFER)?;
        let code = self.ram.code(offset);
        // Of at most two granules.
        let hit = code >> (offset >> 6 & 63) | code >> (offset.wrapping_add(size - 1) >> 6 & 63);
        if code == 0 || hit & 1 != 0 { Err(Fault::DEFER) } else { Ok(Inside(offset)) }
    }
}

impl Memory for Plain<'_> {
    type Target = Inside;

    #[inline(always)]
    fn read8(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u8> {
        Ok(self.get8(self.readable(cpu, lin, 1)?))
    }
    #[inline(always)]
    fn read16(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u16> {
        Ok(self.get16(self.readable(cpu, lin, 2)?))
    }
    #[inline(always)]
    fn read32(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u32> {
        Ok(self.get32(self.readable(cpu, lin, 4)?))
    }
    #[inline(always)]
    fn write8(&mut self, cpu: &mut Cpu, lin: u32, value: u8) -> Exec {
        self.put8(self.writable(cpu, lin, 1)?, value);
        Ok(())
    }
    #[inline(always)]
    fn write16(&mut self, cpu: &mut Cpu, lin: u32, value: u16) -> Exec {
        self.put16(self.writable(cpu, lin, 2)?, value);
        Ok(())
    }
    #[inline(always)]
    fn write32(&mut self, cpu: &mut Cpu, lin: u32, value: u32) -> Exec {
        self.put32(self.writable(cpu, lin, 4)?, value);
        Ok(())
    }
    #[inline(always)]
    fn open8(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<(Inside, u8)> {
        let offset = self.writable(cpu, lin, 1)?;
        Ok((offset, self.get8(offset)))
    }
    #[inline(always)]
    fn close8(&mut self, _cpu: &mut Cpu, offset: Inside, _lin: u32, value: u8) -> Exec {
        self.put8(offset, value);
        Ok(())
    }
    #[inline(always)]
    fn open32(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<(Inside, u32)> {
        let offset = self.writable(cpu, lin, 4)?;
        Ok((offset, self.get32(offset)))
    }
    #[inline(always)]
    fn close32(&mut self, _cpu: &mut Cpu, offset: Inside, _lin: u32, value: u32) -> Exec {
        self.put32(offset, value);
        Ok(())
    }
    #[inline(always)]
    fn linear(&mut self, cpu: &mut Cpu, seg: u8, offset: u32, size: u32, write: bool) -> Exec<u32> {
        let s = usize::from(seg & 7);
        let max = if write { cpu.derived.write_max[s] } else { cpu.derived.read_max[s] };
        if i64::from(offset) + i64::from(size - 1) > max {
            return Err(Fault::DEFER);
        }
        Ok((cpu.derived.base[s] as u32).wrapping_add(offset))
    }
    #[inline(always)]
    fn condition(&self, cpu: &Cpu, cc: u8) -> Exec<bool> {
        cpu.lazy.quick_condition(cc).ok_or(Fault::DEFER)
    }
    #[inline(always)]
    fn fault(&self, _fault: Fault) -> Fault {
        Fault::DEFER
    }
    #[inline(always)]
    fn pair(&mut self, cpu: &mut Cpu, op: &Op) -> Exec {
        use Kind::*;
        let first = cpu.reg32(op.base.into()).wrapping_add(op.disp);
        // A register behind an instruction that sets `set` to `value`.
        let behind = |cpu: &Cpu, n: u8, set: u8, value: u32| if n == set { value } else { cpu.reg32(n.into()) };
        match op.kind {
            LoadLoad32 => {
                let v = self.read32(cpu, first)?;
                let second = behind(cpu, op.index, op.a, v).wrapping_add(op.imm);
                let w = self.read32(cpu, second)?;
                cpu.set_reg32(op.a.into(), v);
                cpu.set_reg32(op.b.into(), w);
            }
            LoadLea32 => {
                let v = self.read32(cpu, first)?;
                cpu.set_reg32(op.a.into(), v);
                let index = cpu.reg32((op.index & 31).into()) << (op.index >> 5);
                let v = cpu.reg32(op.seg.into()).wrapping_add(index).wrapping_add(op.imm);
                cpu.set_reg32(op.b.into(), v);
            }
            MovLoad32 => {
                let v = cpu.reg32(op.b.into());
                let second = behind(cpu, op.base, op.a, v).wrapping_add(op.disp);
                let w = self.read32(cpu, second)?;
                cpu.set_reg32(op.a.into(), v);
                cpu.set_reg32(op.index.into(), w);
            }
            AddLoad32 => {
                let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                let second = behind(cpu, op.base, op.a, a.wrapping_add(b)).wrapping_add(op.disp);
                let w = self.read32(cpu, second)?;
                let v = cpu.alu32::<{ alu::ADD }>(a, b);
                cpu.set_reg32(op.a.into(), v);
                cpu.set_reg32(op.index.into(), w);
            }
            AddStore32 => {
                let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                let sum = a.wrapping_add(b);
                let second = behind(cpu, op.base, op.a, sum).wrapping_add(op.disp);
                let value = behind(cpu, op.index, op.a, sum);
                self.write32(cpu, second, value)?;
                let v = cpu.alu32::<{ alu::ADD }>(a, b);
                cpu.set_reg32(op.a.into(), v);
            }
            StoreLoad32 => {
                let to = self.writable(cpu, first, 4)?;
                let from = self.readable(cpu, cpu.reg32(op.index.into()).wrapping_add(op.imm), 4)?;
                self.put32(to, cpu.reg32(op.a.into()));
                cpu.set_reg32(op.b.into(), self.get32(from));
            }
            StoreMov32 => {
                let v = cpu.reg32(op.a.into());
                self.write32(cpu, first, v)?;
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
                let at = cpu.reg32(RSP).wrapping_sub(4);
                let to = self.writable(cpu, at, 4)?;
                let below = self.writable(cpu, at.wrapping_sub(4), 4)?;
                self.put32(to, cpu.reg32(op.a.into()));
                cpu.set_reg32(RSP, at);
                self.put32(below, cpu.reg32(op.b.into()));
                cpu.set_reg32(RSP, at.wrapping_sub(4));
            }
            _ => {
                // PopPop32
                let at = cpu.reg32(RSP);
                let v = self.read32(cpu, at)?;
                let at = behind(cpu, RSP as u8, op.a, v.wrapping_sub(4)).wrapping_add(4);
                let w = self.read32(cpu, at)?;
                cpu.set_reg32(op.a.into(), v);
                cpu.set_reg32(RSP, at.wrapping_add(4));
                cpu.set_reg32(op.b.into(), w);
            }
        }
        Ok(())
    }
    #[inline(always)]
    fn other(&mut self, cpu: &mut Cpu, op: &Op, next: u32) -> Exec<Flow> {
        let taken = match op.kind {
            Kind::JmpNear => true,
            Kind::JccNear => self.condition(cpu, op.a)?,
            _ => return Err(Fault::DEFER),
        };
        if !taken {
            return Ok(Flow::Jump(next, 2));
        }
        let target = next.wrapping_add(op.disp) & if op.b == 2 { 0xffff } else { u32::MAX };
        if target > cpu.seg[1].limit { Err(Fault::DEFER) } else { Ok(Flow::Jump(target, 2)) }
    }
}
