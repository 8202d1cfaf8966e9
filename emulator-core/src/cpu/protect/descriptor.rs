//! Descriptors in memory: looking them up, and their accessed and busy bits (SDM vol. 3, 3.4.5 and 3.5).

use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::segment::Segment;
use crate::cpu::state::Cpu;

/// Types of system descriptors (SDM vol. 3, table 3-2).
pub mod system_type {
    /// 16-bit TSS, available.
    pub const TSS16: u8 = 1;
    /// LDT.
    pub const LDT: u8 = 2;
    /// 16-bit TSS, busy.
    pub const TSS16_BUSY: u8 = 3;
    /// 16-bit call gate.
    pub const CALL_GATE16: u8 = 4;
    /// Task gate.
    pub const TASK_GATE: u8 = 5;
    /// 16-bit interrupt gate.
    pub const INTERRUPT_GATE16: u8 = 6;
    /// 16-bit trap gate.
    pub const TRAP_GATE16: u8 = 7;
    /// 32-bit TSS, available.
    pub const TSS32: u8 = 9;
    /// 32-bit TSS, busy.
    pub const TSS32_BUSY: u8 = 11;
    /// 32-bit call gate.
    pub const CALL_GATE32: u8 = 12;
    /// 32-bit interrupt gate.
    pub const INTERRUPT_GATE32: u8 = 14;
    /// 32-bit trap gate.
    pub const TRAP_GATE32: u8 = 15;
}

const ACCESSED: u64 = 1 << 40;
const BUSY: u8 = 2;

/// A descriptor as read from its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) struct Descriptor {
    /// Linear address of its first byte.
    pub at: u32,
    /// The selector that named it.
    pub selector: u16,
    /// Its eight bytes.
    pub raw: u64,
}

impl Descriptor {
    /// As a segment under the selector that named it.
    pub fn segment(&self) -> Segment {
        Segment::from_descriptor(self.selector, self.raw)
    }

    /// Privilege level.
    pub fn dpl(&self) -> u8 {
        (self.raw >> 45 & 3) as u8
    }

    /// Present.
    pub fn present(&self) -> bool {
        self.raw >> 47 & 1 != 0
    }

    /// System type, or `None` for code and data.
    pub fn system_type(&self) -> Option<u8> {
        (self.raw >> 44 & 1 == 0).then_some((self.raw >> 40 & 15) as u8)
    }

    /// Selector in a gate.
    pub fn gate_selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }

    /// Whether a gate or TSS is of the 32-bit kind.
    pub fn wide(&self) -> bool {
        self.raw >> 43 & 1 != 0
    }

    /// Entry point in a gate: 16-bit gates have 16 bits of it.
    pub fn gate_offset(&self) -> u32 {
        let low = self.raw as u16;
        if self.wide() { u32::from(low) | (self.raw >> 32) as u32 & 0xffff_0000 } else { low.into() }
    }

    /// Parameter count of a call gate.
    pub fn gate_params(&self) -> u32 {
        (self.raw >> 32 & 31) as u32
    }
}

/// Whether a selector is null: index 0 of the GDT, any RPL.
pub(in crate::cpu) const fn is_null(selector: u16) -> bool {
    selector & 0xfffc == 0
}

/// Error code that names a selector; `ext` is 1 when the event was external to the program.
pub(in crate::cpu) const fn code(selector: u16, ext: u16) -> u16 {
    selector & 0xfffc | ext
}

impl Cpu {
    /// Linear address of the descriptor of `selector`, when its table holds it.
    fn descriptor_address(&self, selector: u16) -> Option<u32> {
        let offset = u32::from(selector & 0xfff8);
        let (base, limit) = if selector & 4 == 0 {
            (self.gdtr.base, u32::from(self.gdtr.limit))
        } else if self.ldtr.present() {
            (self.ldtr.base, self.ldtr.limit)
        } else {
            return None;
        };
        (offset + 7 <= limit).then_some((base as u32).wrapping_add(offset))
    }

    /// Reads the descriptor of `selector`; `None` outside its table.
    pub(in crate::cpu) fn find_descriptor<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
    ) -> Exec<Option<Descriptor>> {
        let Some(at) = self.descriptor_address(selector) else {
            return Ok(None);
        };
        let raw = self.sys_read64(bus, at)?;
        Ok(Some(Descriptor { at, selector, raw }))
    }

    /// Reads the descriptor of `selector`; `outside` is the fault when its table does not hold it.
    pub(in crate::cpu) fn descriptor<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
        outside: Fault,
    ) -> Exec<Descriptor> {
        self.find_descriptor(bus, selector)?.ok_or(outside)
    }

    /// Sets the accessed bit of a code or data descriptor in memory, and returns the segment as loaded.
    pub(in crate::cpu) fn mark_accessed<B: CpuBus>(&mut self, bus: &mut B, descriptor: Descriptor) -> Exec<Segment> {
        let raw = descriptor.raw | ACCESSED;
        if raw != descriptor.raw {
            self.sys_write8(bus, descriptor.at.wrapping_add(5), (raw >> 40) as u8)?;
        }
        Ok(Segment::from_descriptor(descriptor.selector, raw))
    }

    /// Sets or clears the busy bit of the TSS descriptor at linear address `at`.
    pub(in crate::cpu) fn set_busy<B: CpuBus>(&mut self, bus: &mut B, at: u32, busy: bool) -> Exec {
        let at = at.wrapping_add(5);
        let old = self.sys_read8(bus, at)?;
        self.sys_write8(bus, at, if busy { old | BUSY } else { old & !BUSY })
    }

    /// Linear address of a GDT descriptor that is known to exist (TR's).
    pub(in crate::cpu) fn gdt_address(&self, selector: u16) -> u32 {
        (self.gdtr.base as u32).wrapping_add(u32::from(selector & 0xfff8))
    }
}
