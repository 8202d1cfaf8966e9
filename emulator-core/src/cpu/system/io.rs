//! Port I/O and its protection (SDM vol. 1, chapter 19).

use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::protect::IO_MAP_BASE;
use crate::cpu::state::Cpu;

impl Cpu {
    /// Checks IOPL and the I/O permission bitmap for `size` (1, 2, 4) bytes at `port`.
    pub fn check_io<B: CpuBus>(&mut self, bus: &mut B, port: u16, size: u8) -> Exec {
        if !self.protected() || (!self.vm86() && self.cpl <= self.iopl()) {
            return Ok(());
        }
        let (base, limit) = (self.tr.base as u32, self.tr.limit);
        let wide = self.tr.system_type().is_some_and(|t| t & 8 != 0);
        if !self.tr.present() || !wide || limit < IO_MAP_BASE + 1 {
            return Err(Fault::gp(0));
        }
        let map = u32::from(self.sys_read16(bus, base.wrapping_add(IO_MAP_BASE))?);
        let at = map + u32::from(port / 8);
        // Always two bytes, so that an access may straddle them.
        if at + 1 > limit {
            return Err(Fault::gp(0));
        }
        let bits = self.sys_read16(bus, base.wrapping_add(at))?;
        let mask = ((1u32 << size) - 1) << (port % 8);
        if u32::from(bits) & mask != 0 {
            return Err(Fault::gp(0));
        }
        Ok(())
    }

    /// IN: checks, then reads.
    pub fn in_port<B: CpuBus>(&mut self, bus: &mut B, port: u16, size: u8) -> Exec<u32> {
        self.check_io(bus, port, size)?;
        self.io_breakpoint(port, size);
        Ok(bus.port_read(self.index, self.icount, port, size))
    }

    /// OUT: checks, then writes.
    pub fn out_port<B: CpuBus>(&mut self, bus: &mut B, port: u16, size: u8, value: u32) -> Exec {
        self.check_io(bus, port, size)?;
        self.io_breakpoint(port, size);
        bus.port_write(self.index, self.icount, port, size, value);
        Ok(())
    }
}
