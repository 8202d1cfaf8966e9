//! Virtual-8086 mode: software interrupts with and without VME (SDM vol. 3, 21.3.3 and table 21-2).

use super::gate::Source;
use super::stack::Frame;
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::segment::Seg;
use crate::cpu::state::{Cpu, RSP, cr4};

/// Offset of the I/O bitmap's base in a 32-bit TSS.
pub(in crate::cpu) const IO_MAP_BASE: u32 = 0x66;

impl Cpu {
    /// INT n in virtual-8086 mode: answers true when VME sent it to the 8086 program's own handler.
    /// #GP(0) when IOPL forbids the interrupt.
    pub(in crate::cpu) fn redirect_to_8086<B: CpuBus>(
        &mut self,
        bus: &mut B,
        vector: u8,
        back: u32,
        source: Source,
    ) -> Exec<bool> {
        if !self.vm86() || source != Source::IntN {
            return Ok(false);
        }
        if self.cr4 & cr4::VME == 0 || self.interrupt_map_bit(bus, vector)? {
            return if self.iopl() < 3 { Err(Fault::gp(0)) } else { Ok(false) };
        }
        // The 8086 program's vector table is at linear 0 and read with its own (user) privilege.
        let target = self.read_lin32(bus, u32::from(vector) * 4)?;
        let virtual_if = self.iopl() < 3;
        let mut image = self.eflags();
        if virtual_if {
            image = image & !flags::IF | flags::IOPL;
            if self.flag(flags::VIF) {
                image |= flags::IF;
            }
        }
        let mut frame = Frame::new(false);
        frame.push(image).push(self.segment(Seg::Cs).selector.into()).push(back);
        let stack = self.current_stack();
        let sp = self.check_frame(bus, &frame, &stack, Fault::ss(0))?;
        self.store_frame(bus, &frame, &stack)?;
        self.set_reg32(RSP, sp);
        let masked = if virtual_if { flags::VIF } else { flags::IF };
        self.system_flags &= !(flags::TF | flags::RF | masked);
        self.set_real_segment(Seg::Cs, (target >> 16) as u16);
        self.next_rip = u64::from(target & 0xffff);
        Ok(true)
    }

    /// Bit `vector` of the interrupt redirection map, the 32 bytes below the I/O bitmap: set sends the
    /// interrupt to the protected-mode handler. #GP(0) when the TSS does not hold it.
    fn interrupt_map_bit<B: CpuBus>(&mut self, bus: &mut B, vector: u8) -> Exec<bool> {
        let (base, limit) = (self.tr.base as u32, self.tr.limit);
        if !self.tr.present() || limit < IO_MAP_BASE + 1 {
            return Err(Fault::gp(0));
        }
        let map = u32::from(self.sys_read16(bus, base.wrapping_add(IO_MAP_BASE))?);
        let at = map.wrapping_sub(32).wrapping_add(u32::from(vector / 8));
        if at > limit {
            return Err(Fault::gp(0));
        }
        let byte = self.sys_read8(bus, base.wrapping_add(at))?;
        Ok(byte >> (vector % 8) & 1 != 0)
    }
}
