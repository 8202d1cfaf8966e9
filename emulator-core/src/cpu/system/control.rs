//! Control registers, caches and HLT (SDM vol. 3, 2.5; vol. 2, MOV CRn, LMSW, SMSW, CLTS, INVLPG, HLT).

use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::state::{Activity, Cpu, CpuModel, cr0, cr4};

/// Bits of CR0 that exist; the others read as they were and ignore writes.
const CR0_BITS: u64 =
    cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;

impl Cpu {
    /// Bits of CR4 that this model has; setting another is #GP(0).
    fn cr4_bits(&self) -> u64 {
        let pentium = cr4::VME | cr4::PVI | cr4::TSD | cr4::DE | cr4::PSE | cr4::MCE;
        let p6 = pentium | cr4::PAE | cr4::PGE | cr4::PCE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        match self.model {
            CpuModel::I486 => cr4::VME | cr4::PVI,
            CpuModel::Pentium => pentium,
            CpuModel::PentiumIII | CpuModel::Pentium4 | CpuModel::Nehalem => p6,
        }
    }

    /// MOV from CR`n`.
    pub fn mov_from_cr<B: CpuBus>(&mut self, _bus: &mut B, n: u8) -> Exec<u32> {
        let value = match n {
            0 => self.cr0,
            2 => self.cr2,
            3 => self.cr3,
            4 => self.cr4,
            _ => return Err(Fault::UD),
        };
        self.require_ring0()?;
        Ok(value as u32)
    }

    /// MOV to CR`n`.
    pub fn mov_to_cr<B: CpuBus>(&mut self, bus: &mut B, n: u8, value: u32) -> Exec {
        if !matches!(n, 0 | 2 | 3 | 4) {
            return Err(Fault::UD);
        }
        self.require_ring0()?;
        let value = u64::from(value);
        match n {
            0 => self.write_cr0(bus, value),
            2 => {
                self.cr2 = value;
                Ok(())
            }
            3 => {
                if self.cr0 & cr0::PG != 0 && self.cr4 & cr4::PAE != 0 {
                    self.load_pdptes(bus, value)?;
                }
                self.cr3 = value;
                self.tlb.flush_non_global();
                Ok(())
            }
            _ => self.write_cr4(bus, value),
        }
    }

    fn write_cr0<B: CpuBus>(&mut self, bus: &mut B, value: u64) -> Exec {
        let new = value & CR0_BITS | cr0::ET;
        let paging_unprotected = new & cr0::PG != 0 && new & cr0::PE == 0;
        let write_through_uncached = new & cr0::NW != 0 && new & cr0::CD == 0;
        if paging_unprotected || write_through_uncached {
            return Err(Fault::gp(0));
        }
        let changed = self.cr0 ^ new;
        let reload = changed & (cr0::PG | cr0::CD | cr0::NW) != 0;
        if reload && new & cr0::PG != 0 && self.cr4 & cr4::PAE != 0 {
            self.load_pdptes(bus, self.cr3)?;
        }
        self.cr0 = new;
        if changed & (cr0::PG | cr0::PE | cr0::WP) != 0 {
            self.tlb.flush_all();
        }
        if changed & (cr0::PG | cr0::PE | cr0::WP | cr0::AM) != 0 {
            self.mode_changed();
        }
        Ok(())
    }

    fn write_cr4<B: CpuBus>(&mut self, bus: &mut B, value: u64) -> Exec {
        if value & !self.cr4_bits() != 0 {
            return Err(Fault::gp(0));
        }
        let changed = self.cr4 ^ value;
        let translation = cr4::PAE | cr4::PGE | cr4::PSE;
        if changed & translation != 0 {
            if self.cr0 & cr0::PG != 0 && value & cr4::PAE != 0 {
                self.load_pdptes(bus, self.cr3)?;
            }
            self.tlb.flush_all();
        }
        self.cr4 = value;
        Ok(())
    }

    /// SMSW: the low bits of CR0 (any privilege).
    #[must_use]
    pub fn smsw(&self) -> u32 {
        self.cr0 as u32
    }

    /// LMSW: PE (only to set it), MP, EM, TS.
    pub fn lmsw<B: CpuBus>(&mut self, bus: &mut B, value: u16) -> Exec {
        self.require_ring0()?;
        let low = cr0::MP | cr0::EM | cr0::TS;
        let value = u64::from(value);
        self.write_cr0(bus, self.cr0 & !low | value & (low | cr0::PE))
    }

    /// CLTS.
    pub fn clts(&mut self) -> Exec {
        self.require_ring0()?;
        self.cr0 &= !cr0::TS;
        Ok(())
    }

    /// INVLPG of the page that `seg:offset` lies in; the address itself is not checked.
    pub fn invlpg<B: CpuBus>(&mut self, _bus: &mut B, seg: u8, offset: u32) -> Exec {
        self.require_ring0()?;
        let base = self.derived.base[usize::from(seg & 7)] as u32;
        self.tlb.flush_page(base.wrapping_add(offset));
        Ok(())
    }

    /// INVD and WBINVD: there is no cache to write back.
    pub fn wbinvd(&mut self) -> Exec {
        self.require_ring0()
    }

    /// HLT.
    pub fn hlt(&mut self) -> Exec {
        self.require_ring0()?;
        self.activity = Activity::Halted;
        Ok(())
    }
}
