//! RDMSR, WRMSR, RDTSC and RDPMC (SDM vol. 4 and vol. 3, 12.11).

use super::cpuid::feature;
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::state::{Cpu, CpuModel, RAX, RCX, RDX, cr4, efer};

mod index {
    pub const P5_MC_ADDR: u32 = 0;
    pub const P5_MC_TYPE: u32 = 1;
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const EBL_CR_POWERON: u32 = 0x2a;
    pub const BIOS_UPDT_TRIG: u32 = 0x79;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const MTRRCAP: u32 = 0xfe;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const MTRR_PHYS_FIRST: u32 = 0x200;
    pub const MTRR_PHYS_LAST: u32 = 0x20f;
    pub const MTRR_FIX_64K: u32 = 0x250;
    pub const MTRR_FIX_16K: u32 = 0x258;
    pub const MTRR_FIX_16K_LAST: u32 = 0x259;
    pub const MTRR_FIX_4K: u32 = 0x268;
    pub const MTRR_FIX_4K_LAST: u32 = 0x26f;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const EFER: u32 = 0xc000_0080;
}

/// Eight variable ranges, fixed ranges, write combining.
const MTRRCAP: u64 = 0x508;
/// Physical address bits from 12 to 35.
const PHYS_PAGE: u64 = 0xf_ffff_f000;
/// IA32_APIC_BASE: global enable.
const APIC_ENABLE: u64 = 1 << 11;
/// IA32_APIC_BASE: bootstrap processor (read-only).
const APIC_BSP: u64 = 1 << 8;
/// IA32_MISC_ENABLE: fast strings.
const FAST_STRINGS: u64 = 1;
/// IA32_MISC_ENABLE bits that can be written: fast strings and the limit on CPUID leaves.
const MISC_ENABLE_BITS: u64 = FAST_STRINGS;
/// Precise event sampling and branch trace storage are not there.
const MISC_ENABLE_FIXED: u64 = 1 << 11 | 1 << 12;

/// Memory types that MTRRs take.
fn mtrr_type(value: u64) -> bool {
    matches!(value as u8, 0 | 1 | 4..=6)
}

/// Memory types that the PAT takes: also UC-.
fn pat_type(value: u8) -> bool {
    matches!(value, 0 | 1 | 4..=7)
}

fn fixed_mtrr(index: u32) -> usize {
    use index::*;
    match index {
        MTRR_FIX_64K => 0,
        MTRR_FIX_16K | MTRR_FIX_16K_LAST => (index - MTRR_FIX_16K) as usize + 1,
        _ => (index - MTRR_FIX_4K) as usize % 8 + 3,
    }
}

impl Cpu {
    fn has(&self, features: u64) -> bool {
        self.features() & features == features
    }

    fn set_edx_eax(&mut self, value: u64) {
        self.set_reg32(RAX, value as u32);
        self.set_reg32(RDX, (value >> 32) as u32);
    }

    fn time_stamp<B: CpuBus>(&self, bus: &mut B) -> u64 {
        bus.tsc(self.icount).wrapping_add(self.msr.tsc_offset)
    }

    /// RDTSC.
    pub fn rdtsc<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        if !self.has(feature::TSC) {
            return Err(Fault::UD);
        }
        if self.cr4 & cr4::TSD != 0 {
            self.require_ring0()?;
        }
        let now = self.time_stamp(bus);
        self.set_edx_eax(now);
        Ok(())
    }

    /// RDPMC: the two counters of a P6 (18 of a Pentium 4, four of a Nehalem) that count nothing.
    pub fn rdpmc<B: CpuBus>(&mut self, _bus: &mut B) -> Exec {
        let counters = match self.model {
            CpuModel::I486 | CpuModel::Pentium => return Err(Fault::UD),
            CpuModel::PentiumIII => 2,
            CpuModel::Pentium4 => 18,
            CpuModel::Nehalem => 4,
        };
        if self.cr4 & cr4::PCE == 0 {
            self.require_ring0()?;
        }
        if self.reg32(RCX) & 0x7fff_ffff >= counters {
            return Err(Fault::gp(0));
        }
        self.set_edx_eax(0);
        Ok(())
    }

    /// RDMSR of ECX into EDX:EAX.
    pub fn rdmsr<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        if !self.has(feature::MSR) {
            return Err(Fault::UD);
        }
        self.require_ring0()?;
        let value = self.read_msr(bus, self.reg32(RCX)).ok_or(Fault::gp(0))?;
        self.set_edx_eax(value);
        Ok(())
    }

    /// WRMSR of EDX:EAX to ECX.
    pub fn wrmsr<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        if !self.has(feature::MSR) {
            return Err(Fault::UD);
        }
        self.require_ring0()?;
        let value = u64::from(self.reg32(RDX)) << 32 | u64::from(self.reg32(RAX));
        self.write_msr(bus, self.reg32(RCX), value).ok_or(Fault::gp(0))
    }

    /// `None` for an MSR that this model does not have.
    fn read_msr<B: CpuBus>(&mut self, bus: &mut B, msr: u32) -> Option<u64> {
        use index::*;
        let p6 = self.model >= CpuModel::PentiumIII;
        let p4 = self.model >= CpuModel::Pentium4;
        Some(match msr {
            P5_MC_ADDR | P5_MC_TYPE => 0,
            TSC => self.time_stamp(bus),
            PLATFORM_ID | EBL_CR_POWERON if p6 => 0,
            APIC_BASE if p6 => bus.apic_base(self.index),
            BIOS_SIGN_ID if p6 => self.msr.ucode_rev,
            MTRRCAP if p6 => self::MTRRCAP,
            SYSENTER_CS..=SYSENTER_EIP if p6 => self.msr.sysenter[(msr - SYSENTER_CS) as usize],
            MCG_CAP if p6 => 0,
            MCG_STATUS if p6 => self.msr.mcg_status,
            MISC_ENABLE if p4 => self.msr.misc_enable | MISC_ENABLE_FIXED,
            DEBUGCTL if p6 => 0,
            MTRR_PHYS_FIRST..=MTRR_PHYS_LAST if p6 => self.msr.mtrr_var[(msr - MTRR_PHYS_FIRST) as usize],
            MTRR_FIX_64K | MTRR_FIX_16K..=MTRR_FIX_16K_LAST | MTRR_FIX_4K..=MTRR_FIX_4K_LAST if p6 => {
                self.msr.mtrr_fixed[fixed_mtrr(msr)]
            }
            PAT if p6 => self.msr.pat,
            MTRR_DEF_TYPE if p6 => self.msr.mtrr_def_type,
            EFER if p4 => self.efer,
            _ => return None,
        })
    }

    /// `None` for an MSR that this model does not have, or a value that it does not take.
    fn write_msr<B: CpuBus>(&mut self, bus: &mut B, msr: u32, value: u64) -> Option<()> {
        use index::*;
        let p6 = self.model >= CpuModel::PentiumIII;
        let p4 = self.model >= CpuModel::Pentium4;
        let valid = |ok: bool| ok.then_some(());
        match msr {
            P5_MC_ADDR | P5_MC_TYPE => {}
            TSC => self.msr.tsc_offset = value.wrapping_sub(bus.tsc(self.icount)),
            APIC_BASE if p6 => {
                valid(value & !(PHYS_PAGE | APIC_ENABLE | APIC_BSP) == 0)?;
                let fixed = bus.apic_base(self.index) & APIC_BSP;
                bus.set_apic_base(self.index, value & !APIC_BSP | fixed);
            }
            EBL_CR_POWERON | BIOS_UPDT_TRIG if p6 => {}
            BIOS_SIGN_ID if p6 => self.msr.ucode_rev = value,
            SYSENTER_CS..=SYSENTER_EIP if p6 => {
                self.msr.sysenter[(msr - SYSENTER_CS) as usize] = value & 0xffff_ffff;
            }
            MCG_STATUS if p6 => {
                valid(value == 0)?;
                self.msr.mcg_status = 0;
            }
            MISC_ENABLE if p4 => self.msr.misc_enable = value & MISC_ENABLE_BITS,
            DEBUGCTL if p6 => valid(value == 0)?,
            MTRR_PHYS_FIRST..=MTRR_PHYS_LAST if p6 => {
                valid(if msr & 1 == 0 {
                    value & !(PHYS_PAGE | 0xff) == 0 && mtrr_type(value)
                } else {
                    value & !(PHYS_PAGE | 0x800) == 0
                })?;
                self.msr.mtrr_var[(msr - MTRR_PHYS_FIRST) as usize] = value;
            }
            MTRR_FIX_64K | MTRR_FIX_16K..=MTRR_FIX_16K_LAST | MTRR_FIX_4K..=MTRR_FIX_4K_LAST if p6 => {
                valid(value.to_le_bytes().iter().all(|&t| mtrr_type(t.into())))?;
                self.msr.mtrr_fixed[fixed_mtrr(msr)] = value;
            }
            PAT if p6 => {
                valid(value.to_le_bytes().iter().all(|&t| pat_type(t)))?;
                self.msr.pat = value;
            }
            MTRR_DEF_TYPE if p6 => {
                valid(value & !0xcff == 0 && mtrr_type(value))?;
                self.msr.mtrr_def_type = value;
            }
            EFER if p4 => {
                valid(value & !efer::NXE == 0)?;
                self.efer = value;
                self.tlb.flush_all();
            }
            _ => return None,
        }
        Some(())
    }
}
