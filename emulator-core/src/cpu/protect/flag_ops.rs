//! PUSHF, POPF, CLI and STI with IOPL, virtual-8086 mode and the virtual interrupt flag (SDM vol. 3, 21.3 and 21.4).

use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::state::{Cpu, Shadow, cr4};

/// Who controls interrupts for the current code.
enum InterruptFlag {
    /// IF itself.
    Real,
    /// VIF (VME or PVI).
    Virtual,
}

impl Cpu {
    /// PUSHF and PUSHFD.
    pub fn pushf<B: CpuBus>(&mut self, bus: &mut B, opsize32: bool) -> Exec {
        let mut image = self.eflags() & !(flags::VM | flags::RF);
        if self.vm86() && self.iopl() < 3 {
            if opsize32 || self.cr4 & cr4::VME == 0 {
                return Err(Fault::gp(0));
            }
            image = image & !flags::IF | flags::IOPL;
            if self.flag(flags::VIF) {
                image |= flags::IF;
            }
        }
        if opsize32 { self.push32(bus, image) } else { self.push16(bus, image as u16) }
    }

    /// POPF and POPFD.
    pub fn popf<B: CpuBus>(&mut self, bus: &mut B, opsize32: bool) -> Exec {
        let virtual_if = self.vm86() && self.iopl() < 3;
        if virtual_if && (opsize32 || self.cr4 & cr4::VME == 0) {
            return Err(Fault::gp(0));
        }
        let popped = self.peek(bus, 0, opsize32)?;
        let new = if virtual_if {
            self.virtual_interrupt_flags(popped)?
        } else {
            let mut mask = flags::STATUS | flags::TF | flags::DF | flags::NT;
            if opsize32 {
                mask |= flags::AC | flags::ID;
            }
            if self.cpl <= self.iopl() {
                mask |= flags::IF;
            }
            if self.cpl == 0 {
                mask |= flags::IOPL;
            }
            self.eflags() & !mask | popped & mask
        };
        self.drop_stack(if opsize32 { 4 } else { 2 });
        self.set_eflags(new & !flags::RF);
        Ok(())
    }

    /// Which flag CLI and STI change; #GP(0) when neither may.
    fn interrupt_flag(&self) -> Exec<InterruptFlag> {
        let virtual_allowed =
            if self.vm86() { self.cr4 & cr4::VME != 0 } else { self.cr4 & cr4::PVI != 0 && self.cpl == 3 };
        if !self.protected() || self.cpl <= self.iopl() {
            Ok(InterruptFlag::Real)
        } else if virtual_allowed {
            Ok(InterruptFlag::Virtual)
        } else {
            Err(Fault::gp(0))
        }
    }

    /// CLI.
    pub fn cli(&mut self) -> Exec {
        self.system_flags &= match self.interrupt_flag()? {
            InterruptFlag::Real => !flags::IF,
            InterruptFlag::Virtual => !flags::VIF,
        };
        Ok(())
    }

    /// STI. When it turns interrupts on, the next instruction still runs first.
    pub fn sti(&mut self) -> Exec {
        match self.interrupt_flag()? {
            InterruptFlag::Real => {
                if !self.flag(flags::IF) {
                    self.shadow = Shadow::Sti;
                }
                self.system_flags |= flags::IF;
            }
            InterruptFlag::Virtual if self.flag(flags::VIP) => return Err(Fault::gp(0)),
            InterruptFlag::Virtual => self.system_flags |= flags::VIF,
        }
        Ok(())
    }
}
