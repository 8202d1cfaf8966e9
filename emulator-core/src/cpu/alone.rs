//! Instructions that run alone, outside the block loop: from the decoded form to their implementation.

use super::fault::{Exec, Fault};
use super::op::{Op, REG_FORM, System};
use super::protect::Source;
use super::segment::Seg;
use super::state::{Cpu, RAX, RDX, Shadow};
use crate::bus::CpuBus;

/// Bits that `MOV r32, Sreg` and the like write: the whole register.
const ZERO_EXTENDED: u32 = 4;

impl Cpu {
    /// A far pointer in memory: offset of `width` bytes, then the selector.
    fn load_far<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32) -> Exec<(u32, u16)> {
        let offset = self.load(bus, op, width)?;
        let second = Op { disp: op.disp.wrapping_add(width), ..*op };
        Ok((offset, self.load(bus, &second, 2)? as u16))
    }

    /// A 16-bit value to a register of the operand size (zero-extended) or to a word of memory.
    fn store_selector<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32, value: u32) -> Exec {
        if op.base != REG_FORM {
            return self.store(bus, op, 2, value);
        }
        self.set_reg(op.b, if width == 2 { 2 } else { ZERO_EXTENDED }, value);
        Ok(())
    }

    /// Executes a [`Kind::Alone`](super::op::Kind::Alone) op; `rip` and `next_rip` are set.
    pub(crate) fn exec_alone<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        use System as S;
        let width = op.imm >> 8 & 0xff;
        let wide = width == 4;
        let seg = op.seg & 7;
        match op.system() {
            S::Ud | S::Rsm => return Err(Fault::UD),
            S::GpTooLong => return Err(Fault::gp(0)),
            S::MovFromSeg => {
                let value = self.seg[usize::from(op.a).min(5)].selector;
                self.store_selector(bus, op, width, value.into())?;
            }
            S::MovToSeg => {
                let selector = self.load_e(bus, op, 2)? as u16;
                self.load_segment_register(bus, op.a, selector)?;
            }
            S::PushSeg => {
                // Only the selector's two bytes are written, whatever the operand size (SDM vol. 2, PUSH).
                let value = self.seg[usize::from(op.a).min(5)].selector;
                let at = self.sp().wrapping_sub(width) & self.sp_mask();
                self.write16(bus, 2, at, value)?;
                self.set_sp(at);
            }
            S::PopSeg => {
                let at = self.sp();
                // The whole operand is read, as hardware shows by where it faults.
                let selector = if width == 2 { self.read16(bus, 2, at)? } else { self.read32(bus, 2, at)? as u16 };
                // The stack that the pop leaves behind is SS's old one, in its old width.
                let next = at.wrapping_add(width);
                let wide_stack = self.stack32();
                self.load_segment_register(bus, op.a, selector)?;
                if wide_stack {
                    self.set_reg32(super::state::RSP, next)
                } else {
                    self.set_reg16(super::state::RSP, next as u16)
                }
            }
            S::LoadFar => {
                let (offset, selector) = self.load_far(bus, op, width)?;
                self.load_segment_register(bus, op.b, selector)?;
                // LSS loads the whole stack pointer at once and needs no shadow (SDM vol. 3, 6.8.3).
                self.shadow = Shadow::None;
                self.set_reg(op.a, width, offset);
            }
            S::JmpFarImm => self.far_jump(bus, (op.imm >> 16) as u16, op.disp, wide)?,
            S::CallFarImm => self.far_call(bus, (op.imm >> 16) as u16, op.disp, wide)?,
            S::JmpFarMem => {
                let (offset, selector) = self.load_far(bus, op, width)?;
                self.far_jump(bus, selector, offset, wide)?;
            }
            S::CallFarMem => {
                let (offset, selector) = self.load_far(bus, op, width)?;
                self.far_call(bus, selector, offset, wide)?;
            }
            S::RetFar => self.far_return(bus, (op.imm >> 16) as u16, wide)?,
            S::Int => self.interrupt(bus, op.a, Source::IntN)?,
            S::Int1 => self.interrupt(bus, 1, Source::Int1)?,
            S::Int3 => self.interrupt(bus, 3, Source::Int3)?,
            S::Into => {
                if self.lazy.flags() & super::flags::OF != 0 {
                    self.interrupt(bus, 4, Source::Int3)?;
                }
            }
            S::Iret => self.iret(bus, wide)?,
            S::Pushf => self.pushf(bus, wide)?,
            S::Popf => self.popf(bus, wide)?,
            S::Cli => self.cli()?,
            S::Sti => self.sti()?,
            S::Hlt => self.hlt()?,
            S::In | S::InDx | S::Out | S::OutDx => {
                let dx = matches!(op.system(), S::InDx | S::OutDx);
                let port = if dx { self.reg16(RDX) } else { op.b.into() };
                if matches!(op.system(), S::In | S::InDx) {
                    let value = self.in_port(bus, port, op.a)?;
                    self.set_reg(RAX as u8, op.a.into(), value);
                } else {
                    let value = self.reg(RAX as u8, op.a.into());
                    self.out_port(bus, port, op.a, value)?;
                }
            }
            S::Lgdt | S::Lidt | S::Sgdt | S::Sidt => {
                let offset = self.offset_any(op);
                match op.system() {
                    S::Lgdt => self.lgdt(bus, seg, offset, wide)?,
                    S::Lidt => self.lidt(bus, seg, offset, wide)?,
                    S::Sgdt => self.sgdt(bus, seg, offset)?,
                    _ => self.sidt(bus, seg, offset)?,
                }
            }
            S::Lldt => {
                self.system_register_access()?;
                let selector = self.load_e(bus, op, 2)? as u16;
                self.lldt(bus, selector)?;
            }
            S::Ltr => {
                self.system_register_access()?;
                let selector = self.load_e(bus, op, 2)? as u16;
                self.ltr(bus, selector)?;
            }
            S::Sldt => {
                let value = self.sldt(bus)?;
                self.store_selector(bus, op, width, value.into())?;
            }
            S::Str => {
                let value = self.str(bus)?;
                self.store_selector(bus, op, width, value.into())?;
            }
            S::Lar | S::Lsl => {
                if self.real_segments() {
                    return Err(Fault::UD);
                }
                let selector = self.load_e(bus, op, 2)? as u16;
                let found = if op.system() == S::Lar { self.lar(bus, selector)? } else { self.lsl(bus, selector)? };
                if let Some(value) = found {
                    self.set_reg(op.a, width, value);
                }
            }
            S::Verr | S::Verw => {
                if self.real_segments() {
                    return Err(Fault::UD);
                }
                let selector = self.load_e(bus, op, 2)? as u16;
                if op.system() == S::Verr { self.verr(bus, selector)? } else { self.verw(bus, selector)? }
            }
            S::Arpl => {
                if self.real_segments() {
                    return Err(Fault::UD);
                }
                let source = self.reg16(op.a.into());
                // The destination is written only when it changes.
                let destination = self.load_e(bus, op, 2)? as u16;
                let flags = self.lazy;
                if let Some(changed) = self.arpl(destination, source)? {
                    self.store_e(bus, op, 2, changed.into()).inspect_err(|_| self.lazy = flags)?;
                }
            }
            S::Lmsw => {
                self.require_ring0()?;
                let value = self.load_e(bus, op, 2)? as u16;
                self.lmsw(bus, value)?;
            }
            S::Smsw => {
                let value = self.smsw();
                if op.base == REG_FORM { self.set_reg(op.b, width, value) } else { self.store(bus, op, 2, value)? }
            }
            S::Clts => self.clts()?,
            S::MovToCr => {
                let value = self.reg32(op.b.into());
                self.mov_to_cr(bus, op.a, value)?;
            }
            S::MovFromCr => {
                let value = self.mov_from_cr(bus, op.a)?;
                self.set_reg32(op.b.into(), value);
            }
            S::MovToDr => {
                let value = self.reg32(op.b.into());
                self.mov_to_dr(bus, op.a, value)?;
            }
            S::MovFromDr => {
                let value = self.mov_from_dr(bus, op.a)?;
                self.set_reg32(op.b.into(), value);
            }
            S::Invlpg => {
                let offset = self.offset_any(op);
                self.invlpg(bus, seg, offset)?;
            }
            S::Wbinvd | S::Invd => self.wbinvd()?,
            S::Cpuid => self.cpuid(bus)?,
            S::Rdtsc => self.rdtsc(bus)?,
            S::Rdpmc => self.rdpmc(bus)?,
            S::Rdmsr => self.rdmsr(bus)?,
            S::Wrmsr => self.wrmsr(bus)?,
            S::Sysenter => self.sysenter(bus)?,
            S::Sysexit => self.sysexit(bus)?,
        }
        Ok(())
    }

    /// MOV, POP and LDS-style loads; a MOV or POP of SS holds interrupts and debug traps off for one instruction.
    fn load_segment_register<B: CpuBus>(&mut self, bus: &mut B, number: u8, selector: u16) -> Exec {
        let seg = match Seg::ALL.get(usize::from(number)) {
            Some(Seg::Cs) | None => return Err(Fault::UD),
            Some(seg) => *seg,
        };
        self.load_segment(bus, seg, selector)?;
        if seg == Seg::Ss {
            self.shadow = Shadow::MovSs;
        }
        Ok(())
    }
}
