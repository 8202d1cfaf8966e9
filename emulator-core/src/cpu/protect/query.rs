//! Questions about selectors that answer in ZF and never fault on a bad one: LAR, LSL, VERR, VERW, ARPL.

use super::descriptor::{is_null, system_type};
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::segment::Segment;
use crate::cpu::state::Cpu;

impl Cpu {
    /// The segment that `selector` names if the current privilege may know of it and its type passes.
    fn visible_segment<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
        wanted: impl Fn(&Segment) -> bool,
    ) -> Exec<Option<Segment>> {
        if self.real_segments() {
            return Err(Fault::UD);
        }
        if is_null(selector) {
            return Ok(None);
        }
        let found = self.find_descriptor(bus, selector)?;
        Ok(found.map(|d| d.segment()).filter(|s| wanted(s) && (s.is_conforming() || s.dpl() >= self.cpl.max(s.rpl()))))
    }

    fn answer(&mut self, yes: bool) {
        self.set_status_bits(flags::ZF, if yes { flags::ZF } else { 0 });
    }

    /// LAR: sets ZF and returns the access rights when the descriptor is visible.
    pub fn lar<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec<Option<u32>> {
        use system_type::*;
        let known = |s: &Segment| {
            s.system_type().is_none_or(|t| {
                matches!(t, TSS16 | LDT | TSS16_BUSY | CALL_GATE16 | TASK_GATE | TSS32 | TSS32_BUSY | CALL_GATE32)
            })
        };
        let segment = self.visible_segment(bus, selector, known)?;
        self.answer(segment.is_some());
        Ok(segment.map(|s| u32::from(s.rights) << 8))
    }

    /// LSL: sets ZF and returns the limit in bytes when the descriptor is visible.
    pub fn lsl<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec<Option<u32>> {
        use system_type::*;
        let known =
            |s: &Segment| s.system_type().is_none_or(|t| matches!(t, TSS16 | LDT | TSS16_BUSY | TSS32 | TSS32_BUSY));
        let segment = self.visible_segment(bus, selector, known)?;
        self.answer(segment.is_some());
        Ok(segment.map(|s| s.limit))
    }

    /// VERR: ZF tells whether the segment can be read.
    pub fn verr<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec {
        let found = self.visible_segment(bus, selector, Segment::readable)?;
        self.answer(found.is_some());
        Ok(())
    }

    /// VERW: ZF tells whether the segment can be written.
    pub fn verw<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec {
        let found = self.visible_segment(bus, selector, Segment::writable)?;
        self.answer(found.is_some());
        Ok(())
    }

    /// ARPL: sets ZF and returns the destination with the source's RPL when that is the weaker one.
    pub fn arpl(&mut self, destination: u16, source: u16) -> Exec<Option<u16>> {
        if self.real_segments() {
            return Err(Fault::UD);
        }
        let weaker = destination & 3 < source & 3;
        self.answer(weaker);
        Ok(weaker.then_some(destination & !3 | source & 3))
    }
}
