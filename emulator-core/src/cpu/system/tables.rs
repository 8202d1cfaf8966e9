//! LGDT, LIDT, SGDT, SIDT.

use crate::bus::CpuBus;
use crate::cpu::fault::Exec;
use crate::cpu::state::{Cpu, TableReg};

impl Cpu {
    /// Reads a pseudo-descriptor; a 16-bit operand size takes 24 bits of the base.
    fn load_table<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32, opsize32: bool) -> Exec<TableReg> {
        self.require_ring0()?;
        let lin = self.linear_read(seg, offset, 6)?;
        let limit = self.read_lin16(bus, lin)?;
        let base = self.read_lin32(bus, lin.wrapping_add(2))?;
        let mask = if opsize32 { u32::MAX } else { 0x00ff_ffff };
        Ok(TableReg { base: u64::from(base & mask), limit })
    }

    /// Writes a pseudo-descriptor, whole or not at all. The base is stored in 32 bits whatever the operand
    /// size, as every processor since the 386 does.
    fn store_table<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32, table: TableReg) -> Exec {
        let lin = self.linear_write(seg, offset, 6)?;
        self.check_write(bus, lin, 6, self.cpl == 3)?;
        self.write_lin16(bus, lin, table.limit)?;
        self.write_lin32(bus, lin.wrapping_add(2), table.base as u32)
    }

    /// LGDT.
    pub fn lgdt<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32, opsize32: bool) -> Exec {
        self.gdtr = self.load_table(bus, seg, offset, opsize32)?;
        Ok(())
    }

    /// LIDT.
    pub fn lidt<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32, opsize32: bool) -> Exec {
        self.idtr = self.load_table(bus, seg, offset, opsize32)?;
        Ok(())
    }

    /// SGDT.
    pub fn sgdt<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32) -> Exec {
        self.store_table(bus, seg, offset, self.gdtr)
    }

    /// SIDT.
    pub fn sidt<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32) -> Exec {
        self.store_table(bus, seg, offset, self.idtr)
    }
}
