//! Task switches through 16- and 32-bit TSSs (SDM vol. 3, chapter 7).

use super::descriptor::{Descriptor, code, is_null, system_type};
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::{Cpu, cr0, cr4};

/// What switches tasks: it decides busy bits, the NT flag and the back link (SDM vol. 3, table 7-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) enum Cause {
    /// JMP.
    Jump,
    /// CALL.
    Call,
    /// IRET with NT set.
    Iret,
    /// An interrupt or exception through a task gate.
    Gate,
}

impl Cause {
    fn nests(self) -> bool {
        matches!(self, Self::Call | Self::Gate)
    }
}

/// Field offsets and sizes of a TSS.
struct Layout {
    /// Smallest limit.
    min_limit: u32,
    /// Bytes per register and stack pointer.
    word: u32,
    eip: u32,
    eflags: u32,
    gpr: u32,
    segments: u32,
    /// Bytes from one selector to the next.
    selector_step: u32,
    segment_count: usize,
    ldt: u32,
}

const TSS16: Layout = Layout {
    min_limit: 0x2b,
    word: 2,
    eip: 14,
    eflags: 16,
    gpr: 18,
    segments: 34,
    selector_step: 2,
    segment_count: 4,
    ldt: 42,
};

const TSS32: Layout = Layout {
    min_limit: 0x67,
    word: 4,
    eip: 32,
    eflags: 36,
    gpr: 40,
    segments: 72,
    selector_step: 4,
    segment_count: 6,
    ldt: 96,
};

/// Offset of CR3 in a 32-bit TSS.
const CR3: u32 = 28;
/// Offset of the word whose bit 0 is T.
const TRAP: u32 = 100;
/// DR6.BT: a task switch to a TSS with T set.
const BT: u32 = 1 << 15;

fn layout(wide: bool) -> &'static Layout {
    if wide { &TSS32 } else { &TSS16 }
}

/// A task's state as its TSS holds it.
struct Image {
    cr3: Option<u32>,
    eip: u32,
    eflags: u32,
    gpr: [u32; 8],
    selectors: [u16; 6],
    ldt: u16,
    trap: bool,
}

impl Cpu {
    /// The available TSS that a task gate names.
    pub(in crate::cpu) fn task_of_gate<B: CpuBus>(
        &mut self,
        bus: &mut B,
        gate: &Descriptor,
        ext: u16,
    ) -> Exec<Descriptor> {
        let selector = gate.gate_selector();
        let types = [system_type::TSS16, system_type::TSS32];
        self.task_descriptor(bus, selector, &types, Fault::gp, ext)
    }

    /// The busy TSS that the back link of the current one names; #TS when it cannot be resumed.
    pub(in crate::cpu) fn task_to_resume<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec<Descriptor> {
        let types = [system_type::TSS16_BUSY, system_type::TSS32_BUSY];
        self.task_descriptor(bus, selector, &types, Fault::ts, 0)
    }

    fn task_descriptor<B: CpuBus>(
        &mut self,
        bus: &mut B,
        selector: u16,
        types: &[u8],
        invalid: fn(u16) -> Fault,
        ext: u16,
    ) -> Exec<Descriptor> {
        let invalid = invalid(code(selector, ext));
        if selector & 4 != 0 || is_null(selector) {
            return Err(invalid);
        }
        let found = self.descriptor(bus, selector, invalid)?;
        if !found.system_type().is_some_and(|t| types.contains(&t)) {
            return Err(invalid);
        }
        if !found.present() {
            return Err(Fault::np(code(selector, ext)));
        }
        Ok(found)
    }

    /// Switches to the task of `new`, whose type and presence were checked. The outgoing task resumes at
    /// `next_rip`. An error that leaves TR unchanged leaves everything unchanged; a later one is a fault of
    /// the new task before its first instruction (`rip` is that instruction).
    pub(in crate::cpu) fn switch_task<B: CpuBus>(
        &mut self,
        bus: &mut B,
        new: &Descriptor,
        cause: Cause,
        ext: u16,
    ) -> Exec {
        let to = layout(new.wide());
        let tss = new.segment();
        if tss.limit < to.min_limit {
            return Err(Fault::ts(code(new.selector, ext)));
        }
        let old_at = self.tr.base as u32;
        let new_at = tss.base as u32;
        let old_wide = self.tr.system_type().is_some_and(|t| t & 8 != 0);
        let from = layout(old_wide);
        if !self.tr.present() || self.tr.limit < from.min_limit {
            return Err(Fault::ts(code(self.tr.selector, ext)));
        }
        // Everything that can page-fault comes before the first change.
        let saved_len = from.segments + from.selector_step * from.segment_count as u32 - from.eip;
        self.check_write(bus, old_at.wrapping_add(from.eip), saved_len, false)?;
        if cause.nests() {
            self.check_write(bus, new_at, 2, false)?;
        }
        self.check_write(bus, new.at.wrapping_add(5), 1, false)?;
        let old_descriptor = self.gdt_address(self.tr.selector);
        if !cause.nests() {
            self.check_write(bus, old_descriptor.wrapping_add(5), 1, false)?;
        }
        let image = self.read_task(bus, new_at, new.wide())?;
        if self.cr0 & cr0::PG != 0
            && self.cr4 & cr4::PAE != 0
            && let Some(cr3) = image.cr3
        {
            self.load_pdptes(bus, cr3.into())?;
        }

        // Leave the old task.
        if !cause.nests() {
            self.set_busy(bus, old_descriptor, false)?;
        }
        let mut outgoing = self.eflags();
        if cause == Cause::Iret {
            outgoing &= !flags::NT;
        }
        self.save_task(bus, old_at, old_wide, outgoing)?;
        if cause.nests() {
            self.sys_write16(bus, new_at, self.tr.selector)?;
        }
        if cause != Cause::Iret {
            self.set_busy(bus, new.at, true)?;
        }

        // Enter the new one.
        self.tr = tss;
        self.tr.rights |= 2;
        self.cr0 |= cr0::TS;
        self.enter_task(&image, cause);
        self.load_task_segments(bus, &image, ext)?;
        if image.trap {
            self.pending_debug |= BT;
        }
        Self::check_entry(self.segment(Seg::Cs), image.eip, ext)
    }

    fn read_task<B: CpuBus>(&mut self, bus: &mut B, at: u32, wide: bool) -> Exec<Image> {
        let l = layout(wide);
        let mut word = |cpu: &mut Self, offset: u32| -> Exec<u32> {
            let at = at.wrapping_add(offset);
            if wide { cpu.sys_read32(bus, at) } else { Ok(cpu.sys_read16(bus, at)?.into()) }
        };
        let mut image = Image {
            cr3: None,
            eip: word(self, l.eip)?,
            eflags: word(self, l.eflags)?,
            gpr: [0; 8],
            selectors: [0; 6],
            ldt: word(self, l.ldt)? as u16,
            trap: false,
        };
        for (i, r) in image.gpr.iter_mut().enumerate() {
            *r = word(self, l.gpr + l.word * i as u32)?;
        }
        for (i, s) in image.selectors.iter_mut().enumerate().take(l.segment_count) {
            *s = word(self, l.segments + l.selector_step * i as u32)? as u16;
        }
        if wide {
            image.cr3 = Some(word(self, CR3)?);
            image.trap = word(self, TRAP)? & 1 != 0;
        } else {
            // A 16-bit task has no upper halves: they read as ones.
            for r in &mut image.gpr {
                *r |= 0xffff_0000;
            }
        }
        Ok(image)
    }

    /// Saves EIP, EFLAGS, general and segment registers; the pages were checked.
    fn save_task<B: CpuBus>(&mut self, bus: &mut B, at: u32, wide: bool, eflags: u32) -> Exec {
        let l = layout(wide);
        let mut put = |cpu: &mut Self, offset: u32, value: u32| {
            let at = at.wrapping_add(offset);
            if wide { cpu.sys_write32(bus, at, value) } else { cpu.sys_write16(bus, at, value as u16) }
        };
        put(self, l.eip, self.next_rip as u32)?;
        put(self, l.eflags, eflags)?;
        for i in 0..8 {
            put(self, l.gpr + l.word * i as u32, self.reg32(i))?;
        }
        for i in 0..l.segment_count {
            let selector = self.seg[i].selector;
            put(self, l.segments + l.selector_step * i as u32, selector.into())?;
        }
        Ok(())
    }

    /// Loads all that cannot fault; segment registers hold their selectors, unusable until checked.
    fn enter_task(&mut self, image: &Image, cause: Cause) {
        if let Some(cr3) = image.cr3
            && self.cr0 & cr0::PG != 0
        {
            self.cr3 = cr3.into();
            self.tlb.flush_non_global();
        }
        for (i, &r) in image.gpr.iter().enumerate() {
            self.set_reg32(i, r);
        }
        for (s, &selector) in self.seg.iter_mut().zip(&image.selectors) {
            *s = Segment::null(selector);
        }
        self.ldtr = Segment::null(image.ldt);
        self.rip = image.eip.into();
        self.next_rip = self.rip;
        let nested = if cause.nests() { flags::NT } else { 0 };
        self.set_eflags(image.eflags | nested);
        self.cpl = if self.vm86() { 3 } else { (image.selectors[Seg::Cs as usize] & 3) as u8 };
        // Local breakpoints are the old task's (SDM vol. 3, 18.2.4).
        self.dr[7] &= !0x155;
        self.mode_changed();
    }

    /// Checks and loads LDTR and the segment registers in the new task's context (SDM vol. 3, table 7-1).
    fn load_task_segments<B: CpuBus>(&mut self, bus: &mut B, image: &Image, ext: u16) -> Exec {
        let ldt = image.ldt;
        if !is_null(ldt) {
            let invalid = Fault::ts(code(ldt, ext));
            if ldt & 4 != 0 {
                return Err(invalid);
            }
            let found = self.descriptor(bus, ldt, invalid)?;
            if found.system_type() != Some(system_type::LDT) || !found.present() {
                return Err(invalid);
            }
            self.ldtr = found.segment();
        }
        if self.vm86() {
            for seg in Seg::ALL {
                self.set_segment(seg, Segment::vm86(image.selectors[seg as usize]));
            }
            return Ok(());
        }
        let cs = image.selectors[Seg::Cs as usize];
        let segment = self.task_code(bus, cs, ext)?;
        self.enter_code(segment, self.cpl);
        let ss = image.selectors[Seg::Ss as usize];
        let segment = self.checked_stack_segment(bus, ss, self.cpl, Fault::ts, ext)?;
        self.set_segment(Seg::Ss, segment);
        for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs] {
            let selector = image.selectors[seg as usize];
            let segment = self.checked_data_segment(bus, selector, self.cpl, Fault::ts, ext)?;
            self.set_segment(seg, segment);
        }
        Ok(())
    }

    fn task_code<B: CpuBus>(&mut self, bus: &mut B, selector: u16, ext: u16) -> Exec<Segment> {
        let invalid = Fault::ts(code(selector, ext));
        if is_null(selector) {
            return Err(invalid);
        }
        let found = self.descriptor(bus, selector, invalid)?;
        let segment = found.segment();
        let allowed = segment.is_code()
            && if segment.is_conforming() { segment.dpl() <= segment.rpl() } else { segment.dpl() == segment.rpl() };
        if !allowed {
            return Err(invalid);
        }
        if !segment.present() {
            return Err(Fault::np(code(selector, ext)));
        }
        self.mark_accessed(bus, found)
    }
}
