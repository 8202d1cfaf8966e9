//! EMMS, MXCSR, FXSAVE and FXRSTOR, CLFLUSH (SDM vol. 2 and vol. 1, 10.5).

use super::table::SimdOp;
use crate::bus::CpuBus;
use crate::cpu::access::Want;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::op::Op;
use crate::cpu::state::{Cpu, CpuModel, cr0, cr4};

/// Bytes of the FXSAVE area.
const AREA: u32 = 512;
/// Bytes of it that 32-bit code gives a meaning: x87, MXCSR and XMM0-XMM7.
const USED: usize = 288;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const XMM: usize = 160;
/// XMM registers that exist outside 64-bit mode.
const REGISTERS: usize = 8;

impl Cpu {
    /// MXCSR bits that may be set: DAZ came with the Pentium 4.
    fn mxcsr_mask(&self) -> u32 {
        if self.model >= CpuModel::Pentium4 { 0xffff } else { 0xffbf }
    }

    fn checked_mxcsr(&self, value: u32) -> Exec<u32> {
        if value & !self.mxcsr_mask() == 0 { Ok(value) } else { Err(Fault::gp(0)) }
    }

    /// Executes an operation on control state.
    pub(super) fn simd_state<B: CpuBus>(&mut self, bus: &mut B, simd: SimdOp, op: &Op) -> Exec {
        let (seg, offset) = (op.seg & 7, self.offset_any(op));
        match simd {
            SimdOp::Emms => {
                self.simd_usable()?;
                self.x87_check_pending(bus)?;
                self.x87.emms();
            }
            SimdOp::Ldmxcsr => {
                self.sse_usable()?;
                let value = self.read32(bus, seg, offset)?;
                self.mxcsr = self.checked_mxcsr(value)?;
            }
            SimdOp::Stmxcsr => {
                self.sse_usable()?;
                self.write32(bus, seg, offset, self.mxcsr)?;
            }
            SimdOp::Fxsave => self.fxsave(bus, seg, offset)?,
            SimdOp::Fxrstor => self.fxrstor(bus, seg, offset)?,
            _ => {
                // CLFLUSH: nothing to flush, but the address must be readable.
                let lin = self.linear_read(seg, offset, 1)?;
                let want = Want { write: false, user: self.derived.user != 0, fetch: false };
                self.translate(bus, lin, want)?;
            }
        }
        Ok(())
    }

    /// Unlike the instructions on registers, FXSAVE and FXRSTOR answer CR0.EM with #NM.
    fn fx_usable(&self) -> Exec {
        if self.cr0 & (cr0::EM | cr0::TS) != 0 { Err(Fault::NM) } else { Ok(()) }
    }

    fn fxsave<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32) -> Exec {
        self.fx_usable()?;
        self.check_aligned(seg, offset)?;
        let lin = self.linear_write(seg, offset, AREA)?;
        self.check_write(bus, lin, AREA, self.derived.user != 0)?;
        let sse = self.cr4 & cr4::OSFXSR != 0;
        let mut image = [0; USED];
        image[..XMM].copy_from_slice(&self.x87.fxsave(false));
        if sse {
            image[MXCSR..MXCSR + 4].copy_from_slice(&self.mxcsr.to_le_bytes());
            image[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&self.mxcsr_mask().to_le_bytes());
            for (slot, xmm) in image[XMM..].chunks_exact_mut(16).zip(&self.xmm[..REGISTERS]) {
                slot.copy_from_slice(&xmm.to_le_bytes());
            }
        }
        let used = if sse { USED } else { XMM };
        for (n, quad) in image[..used].chunks_exact(8).enumerate() {
            if !sse && n == MXCSR / 8 {
                continue;
            }
            let value = quad.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
            self.write_lin64(bus, lin.wrapping_add(8 * n as u32), value)?;
        }
        Ok(())
    }

    fn fxrstor<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32) -> Exec {
        self.fx_usable()?;
        self.check_aligned(seg, offset)?;
        let lin = self.linear_read(seg, offset, AREA)?;
        // All of the area must be there, though half of it says nothing.
        self.read_lin8(bus, lin.wrapping_add(AREA - 1))?;
        let mut image = [0; USED];
        for (n, slot) in image.chunks_exact_mut(16).enumerate() {
            let value = self.read_lin128(bus, lin.wrapping_add(16 * n as u32))?;
            slot.copy_from_slice(&value.to_le_bytes());
        }
        if self.cr4 & cr4::OSFXSR != 0 {
            let value = (0..4).rev().fold(0, |v, i| v << 8 | u32::from(image[MXCSR + i]));
            self.mxcsr = self.checked_mxcsr(value)?;
            for (xmm, slot) in self.xmm[..REGISTERS].iter_mut().zip(image[XMM..].chunks_exact(16)) {
                *xmm = slot.iter().rev().fold(0, |v, b| v << 8 | u128::from(*b));
            }
        }
        let mut x87 = [0; XMM];
        x87.copy_from_slice(&image[..XMM]);
        self.x87.fxrstor(&x87, false);
        Ok(())
    }

    /// #GP(0) for an operand whose linear address is not a multiple of 16, before its segment's limit is looked at.
    pub(super) fn check_aligned(&self, seg: u8, offset: u32) -> Exec {
        let lin = (self.derived.base[usize::from(seg & 7)] as u32).wrapping_add(offset);
        if lin.is_multiple_of(16) { Ok(()) } else { Err(Fault::gp(0)) }
    }
}
