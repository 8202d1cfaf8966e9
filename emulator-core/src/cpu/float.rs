//! x87 instructions: from decoded ops to the unit in [`crate::fpu`], with its memory operands and the
//! conditions under which the CPU refuses them (SDM vol. 3, 2.5 and table 9-2).

use super::fault::{Exec, Fault};
use super::flags::{CF, PF, STATUS, ZF};
use super::op::{Kind, Op};
use super::state::{Cpu, RAX, cr0};
use crate::bus::CpuBus;
use crate::fpu::{ImageMode, Operand, X87Op};

/// Bits 15:0 of an x87 op's `imm`: the opcode as FOP records it; above them the offset of the instruction
/// from the start of its block.
pub const FOP_BITS: u32 = 16;

impl Cpu {
    /// #NM while the unit is switched away (CR0.TS) or absent (CR0.EM).
    pub(super) fn x87_available(&self) -> Exec {
        if self.cr0 & (cr0::EM | cr0::TS) != 0 { Err(Fault::NM) } else { Ok(()) }
    }

    /// Reports a pending unmasked x87 exception: #MF, or FERR# (IRQ 13) when CR0.NE is clear.
    pub(super) fn x87_check_pending<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        if !self.x87.pending_exception() {
            return Ok(());
        }
        if self.cr0 & cr0::NE != 0 {
            return Err(Fault::MF);
        }
        if !self.single {
            return Err(Fault::DEFER);
        }
        // The processor freezes with IGNNE# inactive until the interrupt; the PC's handler clears the
        // condition through port F0h. Assert the line and go on, as the instruction after the interrupt does.
        bus.ferr(self.index, true);
        Ok(())
    }

    /// WAIT: #NM only when both MP and TS are set.
    fn fwait<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        if self.cr0 & (cr0::MP | cr0::TS) == cr0::MP | cr0::TS {
            return Err(Fault::NM);
        }
        self.x87_check_pending(bus)
    }

    /// Executes an x87 op of any kind.
    #[inline(never)]
    pub(crate) fn exec_x87<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        if op.kind == Kind::Fwait {
            return self.fwait(bus);
        }
        self.x87_available()?;
        let x87 = X87Op::ALL.get(usize::from(op.a)).copied().ok_or(Fault::UD)?;
        if x87.waits() {
            self.x87_check_pending(bus)?;
        }
        match op.kind {
            Kind::X87Reg => {
                let condition = x87 == X87Op::Fcmov && self.fcmov_condition(op.index);
                let out = self.x87.exec_reg(x87, op.b, condition);
                match (x87, out) {
                    (X87Op::FnstswAx, Some(status)) => self.set_reg16(RAX, status),
                    (_, Some(flags)) => self.set_status_bits(STATUS, u32::from(flags) & (ZF | PF | CF)),
                    _ => {}
                }
            }
            Kind::X87Load => {
                let (seg, at) = (op.seg & 7, self.offset_any(op));
                let (low, high) = match op.b {
                    2 => (self.read16(bus, seg, at)?.into(), 0),
                    4 => (self.read32(bus, seg, at)?.into(), 0),
                    8 => (self.read64(bus, seg, at)?, 0),
                    _ => {
                        self.linear_read(seg, at, 10)?;
                        (self.read64(bus, seg, at)?, self.read16(bus, seg, at.wrapping_add(8))?)
                    }
                };
                self.x87.exec_load(x87, low, high);
            }
            Kind::X87Store => self.x87_store(bus, op, x87)?,
            _ => self.x87_image(bus, op, x87)?,
        }
        if !x87.is_control() {
            let fip = self.rip.wrapping_add(u64::from(op.imm >> FOP_BITS)) & 0xffff_ffff;
            self.x87.set_instruction(fip, self.seg[1].selector, op.imm as u16);
            if op.kind != Kind::X87Reg {
                let seg = if op.seg & 7 > 5 { 3 } else { op.seg & 7 };
                self.x87.set_data(self.offset_any(op).into(), self.seg[usize::from(seg)].selector);
            }
        }
        Ok(())
    }

    /// FCMOVcc: B, E, BE, U and their negations, as iced numbers them in the opcode.
    fn fcmov_condition(&self, number: u8) -> bool {
        let f = self.lazy.flags();
        let holds = match number & 3 {
            0 => f & CF != 0,
            1 => f & ZF != 0,
            2 => f & (CF | ZF) != 0,
            _ => f & PF != 0,
        };
        holds ^ (number & 4 != 0)
    }

    fn x87_store<B: CpuBus>(&mut self, bus: &mut B, op: &Op, x87: X87Op) -> Exec {
        let (seg, at) = (op.seg & 7, self.offset_any(op));
        let lin = self.linear_write(seg, at, op.b.into())?;
        let value = self.x87.prepare_store(x87);
        let user = self.derived.user != 0;
        if value.write {
            match op.b {
                2 => self.write_lin16(bus, lin, value.bytes as u16)?,
                4 => self.write_lin32(bus, lin, value.bytes as u32)?,
                8 => self.write_lin64(bus, lin, value.bytes as u64)?,
                _ => {
                    self.check_write(bus, lin, 10, user)?;
                    self.write_lin64(bus, lin, value.bytes as u64)?;
                    self.write_lin16(bus, lin.wrapping_add(8), (value.bytes >> 64) as u16)?;
                }
            }
        } else {
            // An exception keeps the operand from being written, but not from being checked.
            self.check_alignment(lin, op.b.into())?;
            self.check_write(bus, lin, op.b.into(), user)?;
        }
        self.x87.commit_store(x87, value);
        Ok(())
    }

    /// FLDENV, FNSTENV, FRSTOR, FNSAVE.
    fn x87_image<B: CpuBus>(&mut self, bus: &mut B, op: &Op, x87: X87Op) -> Exec {
        let len = usize::from(op.b);
        let mode = ImageMode { operand32: matches!(op.b, 28 | 108), protected: !self.real_segments() };
        let align = if mode.operand32 { 4 } else { 2 };
        let (seg, at) = (op.seg & 7, self.offset_any(op));
        if matches!(x87, X87Op::Fldenv | X87Op::Frstor) {
            let lin = self.linear_read(seg, at, len as u32)?;
            self.check_alignment(lin, align)?;
            let mut image = [0; 108];
            self.read_bytes(bus, lin, &mut image[..len])?;
            if x87 == X87Op::Fldenv {
                self.x87.load_env(&image[..len], mode)
            } else {
                self.x87.load_state(&image[..len], mode)
            }
            return Ok(());
        }
        let lin = self.linear_write(seg, at, len as u32)?;
        self.check_alignment(lin, align)?;
        if x87 == X87Op::Fnstenv {
            let image = self.x87.env_image(mode);
            self.write_bytes(bus, lin, &image[..len])?;
            self.x87.mask_all();
        } else {
            let image = self.x87.state_image(mode);
            self.write_bytes(bus, lin, &image[..len])?;
            self.x87.init();
        }
        Ok(())
    }

    /// Reads bytes at a linear address with the current privilege.
    pub(super) fn read_bytes<B: CpuBus>(&mut self, bus: &mut B, lin: u32, out: &mut [u8]) -> Exec {
        for (i, chunk) in out.chunks_mut(2).enumerate() {
            let at = lin.wrapping_add(2 * i as u32);
            match chunk {
                [a, b] => [*a, *b] = self.read_lin16(bus, at)?.to_le_bytes(),
                rest => {
                    for (j, b) in rest.iter_mut().enumerate() {
                        *b = self.read_lin8(bus, at.wrapping_add(j as u32))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes at most a page of bytes at a linear address; faults before the first byte or not at all.
    pub(super) fn write_bytes<B: CpuBus>(&mut self, bus: &mut B, lin: u32, data: &[u8]) -> Exec {
        self.check_write(bus, lin, data.len() as u32, self.derived.user != 0)?;
        for (i, b) in data.iter().enumerate() {
            self.write_lin8(bus, lin.wrapping_add(i as u32), *b)?;
        }
        Ok(())
    }
}

/// How [`Operand`] maps to an op kind and the operand size kept in `b`.
#[must_use]
pub fn shape(operand: Operand) -> (Kind, u8) {
    match operand {
        Operand::Register => (Kind::X87Reg, 0),
        Operand::Load(n) => (Kind::X87Load, n),
        Operand::Store(n) => (Kind::X87Store, n),
        Operand::LoadImage(n) | Operand::StoreImage(n) => (Kind::X87Env, n),
    }
}
