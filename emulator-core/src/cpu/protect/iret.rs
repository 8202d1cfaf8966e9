//! IRET (SDM vol. 2, IRET).

use super::descriptor::Descriptor;
use super::task::Cause;
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::{Cpu, RSP, cr4};

/// Flags that a 16-bit IRET or POPF can reach at all.
const LOW: u32 = flags::STATUS | flags::TF | flags::IF | flags::DF | flags::IOPL | flags::NT;
/// The further ones of a 32-bit IRET.
const HIGH: u32 = flags::RF | flags::AC | flags::ID;

impl Cpu {
    /// Replaces the flags under `mask`.
    pub(in crate::cpu) fn set_flags_under(&mut self, mask: u32, value: u32) {
        self.set_eflags(self.eflags() & !mask | value & mask);
    }

    /// IRET and IRETD.
    pub fn iret<B: CpuBus>(&mut self, bus: &mut B, opsize32: bool) -> Exec {
        // NMIs are unblocked even when IRET itself faults (SDM vol. 3, 26.3).
        self.nmi_blocked = false;
        if self.vm86() && self.iopl() < 3 {
            return self.iret_vme(bus, opsize32);
        }
        if self.protected() && !self.vm86() && self.flag(flags::NT) {
            return self.iret_task(bus);
        }
        let size = if opsize32 { 4 } else { 2 };
        let offset = self.peek(bus, 0, opsize32)?;
        let selector = self.peek(bus, size, opsize32)? as u16;
        let popped = self.peek(bus, 2 * size, opsize32)?;
        let reachable = if opsize32 { LOW | HIGH } else { LOW };
        if self.real_segments() {
            Self::check_entry(self.segment(Seg::Cs), offset, 0)?;
            self.drop_stack(3 * size);
            self.set_real_segment(Seg::Cs, selector);
            self.next_rip = offset.into();
            let fixed = if self.vm86() { flags::IOPL } else { 0 };
            self.set_flags_under(reachable & !fixed, popped);
            return Ok(());
        }
        if opsize32 && popped & flags::VM != 0 && self.cpl == 0 {
            return self.iret_to_vm86(bus, offset, selector, popped);
        }
        let found = self.return_code(bus, selector)?;
        let mut writable = reachable;
        if self.cpl > self.iopl() {
            writable &= !flags::IF;
        }
        if self.cpl > 0 {
            writable &= !flags::IOPL;
        } else if opsize32 {
            writable |= flags::VIF | flags::VIP;
        }
        self.iret_protected(bus, found, offset, opsize32)?;
        self.set_flags_under(writable, popped);
        Ok(())
    }

    /// The same or an outer level; all but the flags.
    fn iret_protected<B: CpuBus>(&mut self, bus: &mut B, found: Descriptor, offset: u32, wide: bool) -> Exec {
        let size = if wide { 4 } else { 2 };
        let cpl = found.segment().rpl();
        if cpl == self.cpl {
            Self::check_entry(&found.segment(), offset, 0)?;
            let segment = self.mark_accessed(bus, found)?;
            self.drop_stack(3 * size);
            self.enter_code(segment, cpl);
        } else {
            let sp = self.peek(bus, 3 * size, wide)?;
            let ss = self.peek(bus, 4 * size, wide)? as u16;
            let stack = self.return_stack(bus, ss, cpl)?;
            Self::check_entry(&found.segment(), offset, 0)?;
            let segment = self.mark_accessed(bus, found)?;
            self.enter_code(segment, cpl);
            self.enter_outer_stack(stack, sp);
        }
        self.next_rip = offset.into();
        Ok(())
    }

    /// From ring 0 into virtual-8086 mode (SDM vol. 3, 21.2.5).
    fn iret_to_vm86<B: CpuBus>(&mut self, bus: &mut B, offset: u32, cs: u16, popped: u32) -> Exec {
        let sp = self.peek(bus, 12, true)?;
        let mut selectors = [0; 5];
        for (i, s) in selectors.iter_mut().enumerate() {
            *s = self.peek(bus, 16 + 4 * i as u32, true)? as u16;
        }
        if offset > 0xffff {
            return Err(Fault::gp(0));
        }
        let order = [Seg::Ss, Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs];
        for (seg, selector) in order.into_iter().zip(selectors) {
            self.seg[seg as usize] = Segment::vm86(selector);
        }
        self.seg[Seg::Cs as usize] = Segment::vm86(cs);
        self.cpl = 3;
        self.set_reg32(RSP, sp);
        self.next_rip = offset.into();
        self.set_eflags(popped);
        self.mode_changed();
        Ok(())
    }

    /// In virtual-8086 mode with IOPL < 3: #GP(0), or with VME a 16-bit IRET that sets VIF in place of IF.
    fn iret_vme<B: CpuBus>(&mut self, bus: &mut B, opsize32: bool) -> Exec {
        if opsize32 || self.cr4 & cr4::VME == 0 {
            return Err(Fault::gp(0));
        }
        let offset = self.peek(bus, 0, false)?;
        let selector = self.peek(bus, 2, false)? as u16;
        let popped = self.peek(bus, 4, false)?;
        let flags = self.virtual_interrupt_flags(popped)?;
        Self::check_entry(self.segment(Seg::Cs), offset, 0)?;
        self.drop_stack(6);
        self.set_real_segment(Seg::Cs, selector);
        self.next_rip = offset.into();
        self.set_eflags(flags);
        Ok(())
    }

    /// EFLAGS after a VME 16-bit POPF or IRET of `popped`: IF goes to VIF. #GP(0) when a virtual interrupt
    /// waits or TF would be set.
    pub(in crate::cpu) fn virtual_interrupt_flags(&self, popped: u32) -> Exec<u32> {
        if popped & flags::TF != 0 || (self.flag(flags::VIP) && popped & flags::IF != 0) {
            return Err(Fault::gp(0));
        }
        let mask = LOW & !(flags::IF | flags::IOPL);
        let vif = if popped & flags::IF != 0 { flags::VIF } else { 0 };
        Ok(self.eflags() & !(mask | flags::VIF) | popped & mask | vif)
    }

    /// Back to the task that the TSS links to (SDM vol. 3, 7.4).
    fn iret_task<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        let link = self.sys_read16(bus, self.tr.base as u32)?;
        let tss = self.task_to_resume(bus, link)?;
        self.switch_task(bus, &tss, Cause::Iret, 0)
    }
}
