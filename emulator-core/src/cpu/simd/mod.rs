//! MMX and SSE: operands, faults and dispatch of [`Kind::Simd`](super::op::Kind::Simd) ops.
//! Spec: Intel SDM vol. 1 chapters 9 to 11, vol. 2, vol. 3 chapters 12 and 13 (availability).
//!
//! An op's `imm` is laid out as [`table`] says; `a` is the first register operand, `b` the second one
//! ([`REG_FORM`]) unless it is in memory. What an operation computes is a pure function of its operands
//! ([`integer`], [`float`]).

pub mod decode;
mod decode_sse4;
pub mod float;
pub mod integer;
pub mod sse4;
mod state;
pub mod table;
#[cfg(test)]
mod tests;

use super::fault::{Exec, Fault};
use super::op::{Op, REG_FORM};
use super::state::{Cpu, RAX, RCX, RDX, cr0, cr4};
use crate::bus::CpuBus;
use crate::fpu::ieee::SseEnv;
use table::{Class, IMMEDIATE_SOURCE, Info, MMX_FORM, SimdOp};

/// Whether an op writes the status flags.
#[must_use]
pub fn writes_flags(op: &Op) -> bool {
    SimdOp::of(op.imm).is_none_or(|simd| simd.info().dst == Class::Flags || simd.compares_strings())
}

/// General registers that an op reads and writes, beside those of its memory operand, as bit masks.
#[must_use]
pub fn general_registers(op: &Op) -> (u8, u8) {
    let Some(simd) = SimdOp::of(op.imm) else { return (0, 0) };
    let info = simd.info();
    if simd.compares_strings() {
        // Lengths in EAX and EDX, the index in ECX.
        return (1 << RAX | 1 << RDX, 1 << RCX);
    }
    let bit = |used: bool, r: u8| if used { 1 << (r & 7) } else { 0 };
    let reads = bit(info.src == Class::Gpr && op.base == REG_FORM, op.b) | bit(info.dst == Class::Gpr, op.a);
    (reads, bit(info.dst == Class::Gpr, op.a))
}

impl Cpu {
    /// #UD while CR0.EM is set, #NM while CR0.TS is.
    #[inline]
    fn simd_usable(&self) -> Exec {
        if self.cr0 & (cr0::EM | cr0::TS) == 0 {
            Ok(())
        } else if self.cr0 & cr0::EM != 0 {
            Err(Fault::UD)
        } else {
            Err(Fault::NM)
        }
    }

    /// The same, and #UD while the system has not enabled SSE.
    #[inline]
    fn sse_usable(&self) -> Exec {
        if self.cr4 & cr4::OSFXSR == 0 {
            return Err(Fault::UD);
        }
        self.simd_usable()
    }

    /// Executes a [`Kind::Simd`](super::op::Kind::Simd) op.
    pub(crate) fn exec_simd<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let simd = SimdOp::of(op.imm).ok_or(Fault::UD)?;
        if simd.is_scalar_double() {
            return self.scalar_double(bus, op, simd);
        }
        let info = simd.info();
        if info.dst == Class::State {
            return self.simd_state(bus, simd, op);
        }
        let mmx_form = op.imm & MMX_FORM != 0;
        if info.uses_sse(mmx_form) {
            self.sse_usable()?;
        } else {
            self.simd_usable()?;
        }
        if info.uses_mmx(mmx_form, op.base != REG_FORM) {
            return self.exec_mmx(bus, op, simd, info);
        }
        if info.dst == Class::Memory {
            return self.simd_store(bus, op, simd, info);
        }
        let b = self.simd_source(bus, op, info)?;
        let a = self.xmm[usize::from(op.a & 15)];
        if simd.is_implicit() {
            self.simd_implicit(simd, op, a, b);
            return Ok(());
        }
        let result = self.simd_compute(simd, info, a, b, op.imm as u8)?;
        match info.dst {
            Class::Gpr => self.set_reg32(op.a.into(), result as u32),
            Class::Flags => self.set_status(result as u32),
            _ => self.xmm[usize::from(op.a & 15)] = result,
        }
        Ok(())
    }

    /// Blends by XMM0, and string comparisons that answer in XMM0 or ECX and the flags.
    #[inline(never)]
    fn simd_implicit(&mut self, simd: SimdOp, op: &Op, a: u128, b: u128) {
        let imm = op.imm as u8;
        let lengths = (self.reg32(RAX), self.reg32(RDX));
        let explicit = matches!(simd, SimdOp::Pcmpestrm | SimdOp::Pcmpestri).then_some(lengths);
        match simd {
            SimdOp::Pcmpestrm | SimdOp::Pcmpistrm => {
                let found = sse4::compare_strings(a, b, imm, explicit);
                self.xmm[0] = found.mask(imm);
                self.set_status(found.flags);
            }
            SimdOp::Pcmpestri | SimdOp::Pcmpistri => {
                let found = sse4::compare_strings(a, b, imm, explicit);
                self.set_reg32(RCX, found.index(imm));
                self.set_status(found.flags);
            }
            _ => self.xmm[usize::from(op.a & 15)] = sse4::blend(simd, a, b, self.xmm[0]),
        }
    }

    /// Computes a result and takes over MXCSR's flags.
    #[inline]
    fn simd_compute(&mut self, simd: SimdOp, info: &Info, a: u128, b: u128, imm: u8) -> Exec<u128> {
        if matches!(simd, SimdOp::Mova | SimdOp::Movu) {
            return Ok(b);
        }
        if !info.float {
            return Ok(integer::compute(simd, a, b, imm));
        }
        let mut env = SseEnv::new(self.mxcsr);
        let result = float::compute(simd, a, b, imm, &mut env);
        self.finish_float(&env)?;
        Ok(result)
    }

    /// Takes over MXCSR's flags; the fault of an unmasked exception.
    #[inline]
    fn finish_float(&mut self, env: &SseEnv) -> Exec {
        match env.finish() {
            Ok(mxcsr) => {
                self.mxcsr = mxcsr;
                Ok(())
            }
            Err(mxcsr) => {
                self.mxcsr = mxcsr;
                Err(self.simd_exception())
            }
        }
    }

    /// Binary64 arithmetic on the low element: what compiled floating-point code consists of.
    fn scalar_double<B: CpuBus>(&mut self, bus: &mut B, op: &Op, simd: SimdOp) -> Exec {
        self.sse_usable()?;
        let b = if op.base == REG_FORM {
            self.xmm[usize::from(op.b & 15)] as u64
        } else {
            self.read64(bus, op.seg & 7, self.offset_any(op))?
        };
        let mut env = SseEnv::new(self.mxcsr);
        let a = self.xmm[usize::from(op.a & 15)];
        let result = float::double(simd, a as u64, b, op.imm as u8, &mut env);
        self.finish_float(&env)?;
        self.xmm[usize::from(op.a & 15)] = integer::with_low64(a, result);
        Ok(())
    }

    /// An unmasked exception: #XM, or #UD for a system that does not know it.
    #[cold]
    fn simd_exception(&self) -> Fault {
        if self.cr4 & cr4::OSXMMEXCPT != 0 { Fault::XM } else { Fault::UD }
    }

    /// The second operand of an operation on SSE registers, zero-extended.
    #[inline]
    fn simd_source<B: CpuBus>(&mut self, bus: &mut B, op: &Op, info: &Info) -> Exec<u128> {
        if op.base != REG_FORM {
            return self.simd_load(bus, op, info.width.into(), info.aligned);
        }
        Ok(if op.imm & IMMEDIATE_SOURCE != 0 {
            (op.imm & 0xff).into()
        } else if info.src == Class::Gpr {
            self.reg32(op.b.into()).into()
        } else {
            self.xmm[usize::from(op.b & 15)]
        })
    }

    /// Loads a memory operand of 1, 2, 4, 8 or 16 bytes.
    #[inline]
    fn simd_load<B: CpuBus>(&mut self, bus: &mut B, op: &Op, width: u32, align: bool) -> Exec<u128> {
        let offset = self.offset_any(op);
        if align && width == 16 {
            self.check_aligned(op.seg & 7, offset)?;
        }
        let lin = self.linear_read(op.seg & 7, offset, width)?;
        Ok(match width {
            1 => self.read_lin8(bus, lin)?.into(),
            2 => self.read_lin16(bus, lin)?.into(),
            4 => self.read_lin32(bus, lin)?.into(),
            8 => self.read_lin64(bus, lin)?.into(),
            _ => self.read_lin128(bus, lin)?,
        })
    }

    /// Stores of SSE registers.
    fn simd_store<B: CpuBus>(&mut self, bus: &mut B, op: &Op, simd: SimdOp, info: &Info) -> Exec {
        let value = self.xmm[usize::from(op.a & 15)];
        if simd == SimdOp::MaskMov {
            let mask = self.xmm[usize::from(op.b & 15)];
            return self.masked_store(bus, op, value, mask, 16);
        }
        let offset = self.offset_any(op);
        if info.aligned {
            self.check_aligned(op.seg & 7, offset)?;
        }
        let lin = self.linear_write(op.seg & 7, offset, info.width.into())?;
        let element = |value| integer::compute(simd, 0, value, op.imm as u8) as u32;
        match simd {
            SimdOp::StoreA | SimdOp::StoreU => self.write_lin128(bus, lin, value),
            SimdOp::Store32 => self.write_lin32(bus, lin, value as u32),
            SimdOp::StoreElement8 => self.write_lin8(bus, lin, element(value) as u8),
            SimdOp::StoreElement16 => self.write_lin16(bus, lin, element(value) as u16),
            SimdOp::StoreElement32 => self.write_lin32(bus, lin, element(value)),
            SimdOp::StoreHigh64 => self.write_lin64(bus, lin, (value >> 64) as u64),
            _ => self.write_lin64(bus, lin, value as u64),
        }
    }

    /// MASKMOVQ, MASKMOVDQU: the bytes whose mask byte has bit 7 set. Pages that none of them touches
    /// cannot fault.
    fn masked_store<B: CpuBus>(&mut self, bus: &mut B, op: &Op, value: u128, mask: u128, width: u32) -> Exec {
        let lin = self.linear_write(op.seg & 7, self.offset_any(op), width)?;
        let selected = integer::compute(SimdOp::Pmovmskb, 0, mask, 0) as u32;
        if selected == 0 {
            return Ok(());
        }
        let (first, last) = (selected.trailing_zeros(), 31 - selected.leading_zeros());
        let user = self.derived.user != 0;
        self.check_write(bus, lin.wrapping_add(first), last - first + 1, user)?;
        for i in first..=last {
            if selected >> i & 1 != 0 {
                self.write_lin8(bus, lin.wrapping_add(i), (value >> (8 * i)) as u8)?;
            }
        }
        Ok(())
    }

    /// Operations with an MMX operand.
    #[inline(never)]
    fn exec_mmx<B: CpuBus>(&mut self, bus: &mut B, op: &Op, simd: SimdOp, info: &Info) -> Exec {
        self.x87_check_pending(bus)?;
        let mmx_form = op.imm & MMX_FORM != 0;
        if info.dst == Class::Memory {
            self.mmx_store(bus, op, simd)?;
            self.x87.mmx_enter();
            return Ok(());
        }
        let is_mmx = |class| class == Class::Mmx || (class == Class::Vector && mmx_form);
        let b = if op.base != REG_FORM {
            self.simd_load(bus, op, info.memory_width(mmx_form), info.aligned)?
        } else if op.imm & IMMEDIATE_SOURCE != 0 {
            (op.imm & 0xff).into()
        } else if is_mmx(info.src) {
            self.x87.mmx_read(op.b).into()
        } else if info.src == Class::Gpr {
            self.reg32(op.b.into()).into()
        } else {
            self.xmm[usize::from(op.b & 15)]
        };
        // From here on the unit is in MMX mode, even where an unmasked SIMD exception keeps the result back.
        let old = self.x87.mmx_read(op.a);
        self.x87.mmx_enter();
        let imm = op.imm as u8;
        let result = if mmx_form {
            integer::compute_mmx(simd, old, b as u64, imm).into()
        } else {
            self.simd_compute(simd, info, self.xmm[usize::from(op.a & 15)], b, imm)?
        };
        match info.dst {
            Class::Gpr => self.set_reg32(op.a.into(), result as u32),
            Class::Xmm => self.xmm[usize::from(op.a & 15)] = result,
            _ => self.x87.mmx_write(op.a, result as u64),
        }
        Ok(())
    }

    fn mmx_store<B: CpuBus>(&mut self, bus: &mut B, op: &Op, simd: SimdOp) -> Exec {
        let value = self.x87.mmx_read(op.a);
        let (seg, offset) = (op.seg & 7, self.offset_any(op));
        match simd {
            SimdOp::MaskMov => {
                let mask = self.x87.mmx_read(op.b);
                self.masked_store(bus, op, value.into(), mask.into(), 8)
            }
            SimdOp::Store32 => self.write32(bus, seg, offset, value as u32),
            _ => self.write64(bus, seg, offset, value),
        }
    }
}
