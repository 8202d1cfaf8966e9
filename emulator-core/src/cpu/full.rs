//! Ops with everything that can happen: TLB misses, device memory, faults, and the kinds that the block loop leaves out.

use super::access::Target;
use super::execute::{Flow, execute};
use super::fault::{Exec, Fault};
use super::integer::alu;
use super::op::{Kind, Op};
use super::operand::Memory;
use super::state::{Cpu, RSP};
use crate::bus::CpuBus;

/// All of memory. In [single](Cpu::single) use that includes devices; else they answer [`Fault::DEFER`].
#[derive(Debug)]
pub struct Full<'a, B> {
    /// What the CPU is connected to.
    pub bus: &'a mut B,
    /// The fault is that of a pair's second instruction; the first one retired.
    pub between: bool,
}

/// [`execute`] in full, out of line.
///
/// # Errors
/// As there.
#[inline(never)]
pub fn execute_full<B: CpuBus>(cpu: &mut Cpu, full: &mut Full<B>, op: &Op, next: u32) -> Exec<Flow> {
    execute(cpu, full, op, next)
}

impl<B: CpuBus> Memory for Full<'_, B> {
    type Target = Target;

    fn read8(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u8> {
        cpu.read_lin8(self.bus, lin)
    }
    fn read16(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u16> {
        cpu.read_lin16(self.bus, lin)
    }
    fn read32(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u32> {
        cpu.read_lin32(self.bus, lin)
    }
    fn write8(&mut self, cpu: &mut Cpu, lin: u32, value: u8) -> Exec {
        cpu.write_lin8(self.bus, lin, value)
    }
    fn write16(&mut self, cpu: &mut Cpu, lin: u32, value: u16) -> Exec {
        cpu.write_lin16(self.bus, lin, value)
    }
    fn write32(&mut self, cpu: &mut Cpu, lin: u32, value: u32) -> Exec {
        cpu.write_lin32(self.bus, lin, value)
    }
    fn open8(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<(Target, u8)> {
        cpu.rmw_read8(self.bus, lin)
    }
    fn close8(&mut self, cpu: &mut Cpu, target: Target, lin: u32, value: u8) -> Exec {
        cpu.rmw_write8(self.bus, target, lin, value)
    }
    fn open32(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<(Target, u32)> {
        cpu.rmw_read32(self.bus, lin)
    }
    fn close32(&mut self, cpu: &mut Cpu, target: Target, lin: u32, value: u32) -> Exec {
        cpu.rmw_write32(self.bus, target, lin, value)
    }
    fn linear(&mut self, cpu: &mut Cpu, seg: u8, offset: u32, size: u32, write: bool) -> Exec<u32> {
        if write { cpu.linear_write(seg, offset, size) } else { cpu.linear_read(seg, offset, size) }
    }
    fn condition(&self, cpu: &Cpu, cc: u8) -> Exec<bool> {
        Ok(cpu.lazy.condition(cc))
    }
    fn fault(&self, fault: Fault) -> Fault {
        fault
    }
    fn pair(&mut self, cpu: &mut Cpu, op: &Op) -> Exec {
        use Kind::*;
        let address = |cpu: &Cpu, base: u8, disp: u32| cpu.reg32(base.into()).wrapping_add(disp);
        match op.kind {
            LoadLoad32 => {
                let v = self.read32(cpu, address(cpu, op.base, op.disp))?;
                cpu.set_reg32(op.a.into(), v);
                self.between = true;
                let v = self.read32(cpu, address(cpu, op.index, op.imm))?;
                cpu.set_reg32(op.b.into(), v);
            }
            LoadLea32 => {
                let v = self.read32(cpu, address(cpu, op.base, op.disp))?;
                cpu.set_reg32(op.a.into(), v);
                let index = cpu.reg32((op.index & 31).into()) << (op.index >> 5);
                let v = cpu.reg32(op.seg.into()).wrapping_add(index).wrapping_add(op.imm);
                cpu.set_reg32(op.b.into(), v);
            }
            MovLoad32 | AddLoad32 => {
                let (a, b) = (cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                let v = if op.kind == AddLoad32 { cpu.alu32::<{ alu::ADD }>(a, b) } else { b };
                cpu.set_reg32(op.a.into(), v);
                self.between = true;
                let v = self.read32(cpu, address(cpu, op.base, op.disp))?;
                cpu.set_reg32(op.index.into(), v);
            }
            AddStore32 => {
                let v = cpu.alu32::<{ alu::ADD }>(cpu.reg32(op.a.into()), cpu.reg32(op.b.into()));
                cpu.set_reg32(op.a.into(), v);
                self.between = true;
                self.write32(cpu, address(cpu, op.base, op.disp), cpu.reg32(op.index.into()))?;
            }
            StoreLoad32 => {
                self.write32(cpu, address(cpu, op.base, op.disp), cpu.reg32(op.a.into()))?;
                self.between = true;
                let v = self.read32(cpu, address(cpu, op.index, op.imm))?;
                cpu.set_reg32(op.b.into(), v);
            }
            StoreMov32 => {
                self.write32(cpu, address(cpu, op.base, op.disp), cpu.reg32(op.a.into()))?;
                cpu.set_reg32(op.b.into(), cpu.reg32(op.index.into()));
            }
            MovMov32 => {
                cpu.set_reg32(op.a.into(), cpu.reg32(op.b.into()));
                cpu.set_reg32(op.base.into(), cpu.reg32(op.index.into()));
            }
            PushPush32 => {
                for register in [op.a, op.b] {
                    let at = cpu.reg32(RSP).wrapping_sub(4);
                    self.write32(cpu, at, cpu.reg32(register.into()))?;
                    cpu.set_reg32(RSP, at);
                    self.between = true;
                }
            }
            _ => {
                // PopPop32
                for register in [op.a, op.b] {
                    let at = cpu.reg32(RSP);
                    let v = self.read32(cpu, at)?;
                    cpu.set_reg32(RSP, at.wrapping_add(4));
                    cpu.set_reg32(register.into(), v);
                    self.between = true;
                }
            }
        }
        Ok(())
    }
    fn other(&mut self, cpu: &mut Cpu, op: &Op, next: u32) -> Exec<Flow> {
        use Kind::*;
        match op.kind {
            JmpNear | JccNear | CallNear | JmpNearE | CallNearE | RetNear => {
                return Ok(Flow::Jump(cpu.near(self.bus, op, next)?, 2));
            }
            LoopCx => return Ok(cpu.loop_cx(op, next)?.map_or(Flow::Jump(next, 0), |to| Flow::Jump(to, 2))),
            StringRep => {
                // It begins its block, to which an unfinished one comes back.
                let again = cpu.rip as u32;
                return Ok(if cpu.exec_rep(self.bus, op)? { Flow::Next } else { Flow::Jump(again, 2) });
            }
            X87Reg | X87Load | X87Store | X87Env | Fwait => cpu.exec_x87(self.bus, op)?,
            Simd => cpu.exec_simd(self.bus, op)?,
            _ => cpu.cold(self.bus, op)?,
        }
        Ok(Flow::Next)
    }
}
