//! Loads of segment registers, LDTR and TR.

use super::descriptor::{Descriptor, code, is_null, system_type};
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::segment::{Seg, Segment, rights};
use crate::cpu::state::Cpu;

impl Cpu {
    /// Loads a segment register as real and virtual-8086 mode do: base 16 × selector.
    ///
    /// Real mode leaves limit and rights of the hidden part alone, which is what makes "unreal mode" work;
    /// virtual-8086 mode sets 64 KiB, writable, DPL 3 (SDM vol. 3, 21.2.1).
    pub fn set_real_segment(&mut self, seg: Seg, selector: u16) {
        let old = *self.segment(seg);
        let segment = if self.vm86() {
            Segment::vm86(selector)
        } else if old.present() && old.rights & rights::S != 0 {
            Segment { selector, base: u64::from(selector) << 4, ..old }
        } else {
            Segment::real(selector)
        };
        self.set_segment(seg, segment);
    }

    /// Loads ES, SS, DS, FS or GS with all checks (SDM vol. 2, MOV). An interrupt shadow after SS is the caller's.
    pub fn load_segment<B: CpuBus>(&mut self, bus: &mut B, seg: Seg, selector: u16) -> Exec {
        if self.real_segments() {
            self.set_real_segment(seg, selector);
            return Ok(());
        }
        let segment = if seg == Seg::Ss {
            self.checked_stack_segment(bus, selector, self.cpl, Fault::gp, 0)?
        } else {
            self.checked_data_segment(bus, selector, self.cpl, Fault::gp, 0)?
        };
        let loaded = &mut self.seg[seg as usize];
        if (loaded.base, loaded.limit, loaded.rights) == (segment.base, segment.limit, segment.rights) {
            // As kernels do at every entry: nothing that is derived from it changes.
            loaded.selector = segment.selector;
        } else {
            self.set_segment(seg, segment);
        }
        Ok(())
    }

    /// A stack segment for privilege level `cpl`. `invalid` makes the fault for everything but absence,
    /// which is #SS.
    pub(in crate::cpu) fn checked_stack_segment<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
        cpl: u8,
        invalid: fn(u16) -> Fault,
        ext: u16,
    ) -> Exec<Segment> {
        let invalid = invalid(code(selector, ext));
        if is_null(selector) {
            return Err(invalid);
        }
        let descriptor = self.descriptor(bus, selector, invalid)?;
        let segment = descriptor.segment();
        if segment.rpl() != cpl || !segment.writable() || segment.dpl() != cpl {
            return Err(invalid);
        }
        if !segment.present() {
            return Err(Fault::ss(code(selector, ext)));
        }
        self.mark_accessed(bus, descriptor)
    }

    /// A segment for ES, DS, FS or GS at privilege level `cpl`.
    pub(in crate::cpu) fn checked_data_segment<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
        cpl: u8,
        invalid: fn(u16) -> Fault,
        ext: u16,
    ) -> Exec<Segment> {
        if is_null(selector) {
            return Ok(Segment::null(selector));
        }
        let invalid = invalid(code(selector, ext));
        let descriptor = self.descriptor(bus, selector, invalid)?;
        let segment = descriptor.segment();
        let guarded = !segment.is_conforming();
        if !segment.readable() || (guarded && segment.rpl().max(cpl) > segment.dpl()) {
            return Err(invalid);
        }
        if !segment.present() {
            return Err(Fault::np(code(selector, ext)));
        }
        self.mark_accessed(bus, descriptor)
    }

    /// After a return to an outer level: data segments that the outer level may not use become null
    /// (SDM vol. 3, 5.8.6).
    pub(in crate::cpu) fn drop_inner_segments(&mut self) {
        for seg in [Seg::Es, Seg::Fs, Seg::Gs, Seg::Ds] {
            let s = self.segment(seg);
            if s.present() && !s.is_conforming() && s.dpl() < self.cpl {
                self.set_segment(seg, Segment::null(0));
            }
        }
    }

    /// Privilege and mode checks that LLDT, LTR and their kind share: #UD outside protected mode, #GP(0) above ring 0.
    pub(in crate::cpu) fn system_register_access(&self) -> Exec {
        if self.real_segments() { Err(Fault::UD) } else { self.require_ring0() }
    }

    /// A system descriptor in the GDT of one of the types `allowed`, and present.
    pub(in crate::cpu) fn system_descriptor<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
        allowed: &[u8],
    ) -> Exec<Descriptor> {
        let invalid = Fault::gp(code(selector, 0));
        if selector & 4 != 0 {
            return Err(invalid);
        }
        let descriptor = self.descriptor(bus, selector, invalid)?;
        if !descriptor.system_type().is_some_and(|t| allowed.contains(&t)) {
            return Err(invalid);
        }
        if !descriptor.present() {
            return Err(Fault::np(code(selector, 0)));
        }
        Ok(descriptor)
    }

    /// LLDT.
    pub fn lldt<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec {
        self.system_register_access()?;
        self.ldtr = if is_null(selector) {
            Segment::null(selector)
        } else {
            self.system_descriptor(bus, selector, &[system_type::LDT])?.segment()
        };
        Ok(())
    }

    /// LTR: marks the TSS busy.
    pub fn ltr<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec {
        self.system_register_access()?;
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let types = [system_type::TSS16, system_type::TSS32];
        let descriptor = self.system_descriptor(bus, selector, &types)?;
        self.set_busy(bus, descriptor.at, true)?;
        let mut tr = descriptor.segment();
        tr.rights |= 2;
        self.tr = tr;
        Ok(())
    }

    /// SLDT: the selector in LDTR.
    pub fn sldt<B: CpuBus>(&mut self, _bus: &mut B) -> Exec<u16> {
        if self.real_segments() {
            return Err(Fault::UD);
        }
        Ok(self.ldtr.selector)
    }

    /// STR: the selector in TR.
    pub fn str<B: CpuBus>(&mut self, _bus: &mut B) -> Exec<u16> {
        if self.real_segments() {
            return Err(Fault::UD);
        }
        Ok(self.tr.selector)
    }
}

impl Segment {
    /// A segment of virtual-8086 mode: base 16 × selector, 64 KiB, writable, DPL 3.
    #[must_use]
    pub const fn vm86(selector: u16) -> Self {
        let mut segment = Self::real(selector);
        segment.rights |= 0x60;
        segment
    }
}
