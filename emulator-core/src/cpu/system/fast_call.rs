//! SYSENTER and SYSEXIT (SDM vol. 2; vol. 3, 5.8.7).

use super::cpuid::feature;
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::segment::{Seg, Segment, rights};
use crate::cpu::state::{Cpu, RCX, RDX, RSP};

/// A flat 4 GiB segment with fixed contents; no descriptor is read.
fn flat(selector: u16, code: bool, dpl: u8) -> Segment {
    let kind = if code { rights::CODE } else { 0 };
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights: rights::PRESENT
            | rights::S
            | rights::RW
            | rights::ACCESSED
            | rights::BIG
            | rights::GRANULAR
            | kind
            | u16::from(dpl) << 5,
    }
}

impl Cpu {
    /// IA32_SYSENTER_CS; #UD without the instruction, #GP(0) in real mode or with a null selector.
    fn sysenter_cs(&self) -> Exec<u16> {
        if self.features() & feature::SEP == 0 {
            return Err(Fault::UD);
        }
        let cs = self.msr.sysenter[0] as u16;
        if !self.protected() || cs & 0xfffc == 0 {
            return Err(Fault::gp(0));
        }
        Ok(cs)
    }

    fn enter_flat(&mut self, cs: u16, dpl: u8, eip: u64, esp: u64) {
        let rpl = u16::from(dpl);
        self.seg[Seg::Cs as usize] = flat(cs & 0xfffc | rpl, true, dpl);
        self.seg[Seg::Ss as usize] = flat((cs & 0xfffc).wrapping_add(8) | rpl, false, dpl);
        self.cpl = dpl;
        self.mode_changed();
        self.set_reg32(RSP, esp as u32);
        self.next_rip = eip & 0xffff_ffff;
    }

    /// SYSENTER.
    pub fn sysenter<B: CpuBus>(&mut self, _bus: &mut B) -> Exec {
        let cs = self.sysenter_cs()?;
        self.system_flags &= !(flags::VM | flags::IF | flags::RF);
        let [_, esp, eip] = self.msr.sysenter;
        self.enter_flat(cs, 0, eip, esp);
        Ok(())
    }

    /// SYSEXIT to EDX with the stack at ECX.
    pub fn sysexit<B: CpuBus>(&mut self, _bus: &mut B) -> Exec {
        let cs = self.sysenter_cs()?;
        self.require_ring0()?;
        let (eip, esp) = (self.gpr[RDX], self.gpr[RCX]);
        self.enter_flat(cs.wrapping_add(16), 3, eip, esp);
        Ok(())
    }
}
