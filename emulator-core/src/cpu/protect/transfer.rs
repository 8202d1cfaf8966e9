//! Far JMP, CALL and RET (SDM vol. 2; vol. 3, 5.8).

use super::descriptor::{Descriptor, code, is_null, system_type};
use super::stack::{Frame, Stack};
use super::task::Cause;
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::{Cpu, RSP};

/// Where a far transfer within protected mode ends up.
enum Target {
    /// A code segment, entered directly.
    Code(Descriptor),
    /// A call gate.
    Gate(Descriptor),
    /// A task, already checked.
    Task(Descriptor),
}

impl Cpu {
    /// Loads CS with a checked code segment at level `cpl`; the selector's RPL becomes `cpl`.
    pub(in crate::cpu) fn enter_code(&mut self, mut segment: Segment, cpl: u8) {
        segment.selector = segment.selector & !3 | u16::from(cpl);
        self.seg[Seg::Cs as usize] = segment;
        self.cpl = cpl;
        self.mode_changed();
    }

    /// A jump within real or virtual-8086 mode.
    fn enter_real(&mut self, selector: u16, offset: u32) {
        self.set_real_segment(Seg::Cs, selector);
        self.next_rip = offset.into();
    }

    /// #GP when an entry point is outside its code segment.
    pub(in crate::cpu) fn check_entry(segment: &Segment, offset: u32, ext: u16) -> Exec {
        if offset > segment.limit { Err(Fault::gp(ext)) } else { Ok(()) }
    }

    /// Looks up what a far JMP or CALL names, with the checks that both share.
    fn far_target<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec<Target> {
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let invalid = Fault::gp(code(selector, 0));
        let found = self.descriptor(bus, selector, invalid)?;
        let segment = found.segment();
        let Some(kind) = found.system_type() else {
            if !segment.is_code() {
                return Err(invalid);
            }
            let allowed = if segment.is_conforming() {
                segment.dpl() <= self.cpl
            } else {
                segment.rpl() <= self.cpl && segment.dpl() == self.cpl
            };
            if !allowed {
                return Err(invalid);
            }
            if !segment.present() {
                return Err(Fault::np(code(selector, 0)));
            }
            return Ok(Target::Code(found));
        };
        if found.dpl() < self.cpl.max(segment.rpl()) {
            return Err(invalid);
        }
        let absent = Fault::np(code(selector, 0));
        match kind {
            system_type::CALL_GATE16 | system_type::CALL_GATE32 if found.present() => Ok(Target::Gate(found)),
            system_type::TASK_GATE if found.present() => Ok(Target::Task(self.task_of_gate(bus, &found, 0)?)),
            system_type::TSS16 | system_type::TSS32 if selector & 4 == 0 && found.present() => Ok(Target::Task(found)),
            system_type::TSS16 | system_type::TSS32 if selector & 4 != 0 => Err(invalid),
            system_type::CALL_GATE16
            | system_type::CALL_GATE32
            | system_type::TASK_GATE
            | system_type::TSS16
            | system_type::TSS32 => Err(absent),
            _ => Err(invalid),
        }
    }

    /// The code segment behind a call gate; `allowed` tells from it and the CPL whether it may be entered.
    fn gate_code<B: CpuBus>(
        &mut self,
        bus: &mut B,
        gate: &Descriptor,
        allowed: impl Fn(&Segment, u8) -> bool,
    ) -> Exec<Descriptor> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let invalid = Fault::gp(code(selector, 0));
        let found = self.descriptor(bus, selector, invalid)?;
        let segment = found.segment();
        if !segment.is_code() || !allowed(&segment, self.cpl) {
            return Err(invalid);
        }
        if !segment.present() {
            return Err(Fault::np(code(selector, 0)));
        }
        Ok(found)
    }

    /// Far JMP. `offset` is already cut to 16 bits when the operand size is 16.
    pub fn far_jump<B: CpuBus>(&mut self, bus: &mut B, selector: u16, offset: u32, opsize32: bool) -> Exec {
        let offset = if opsize32 { offset } else { offset & 0xffff };
        if self.real_segments() {
            Self::check_entry(self.segment(Seg::Cs), offset, 0)?;
            self.enter_real(selector, offset);
            return Ok(());
        }
        let (found, offset) = match self.far_target(bus, selector)? {
            Target::Task(tss) => return self.switch_task(bus, &tss, Cause::Jump, 0),
            Target::Code(found) => (found, offset),
            Target::Gate(gate) => {
                let allowed = |s: &Segment, cpl| s.dpl() == cpl || (s.is_conforming() && s.dpl() < cpl);
                (self.gate_code(bus, &gate, allowed)?, gate.gate_offset())
            }
        };
        Self::check_entry(&found.segment(), offset, 0)?;
        let segment = self.mark_accessed(bus, found)?;
        self.enter_code(segment, self.cpl);
        self.next_rip = offset.into();
        Ok(())
    }

    /// Far CALL.
    pub fn far_call<B: CpuBus>(&mut self, bus: &mut B, selector: u16, offset: u32, opsize32: bool) -> Exec {
        let offset = if opsize32 { offset } else { offset & 0xffff };
        if self.real_segments() {
            let mut frame = Frame::new(opsize32);
            self.push_return(&mut frame);
            let stack = self.current_stack();
            let sp = self.check_frame(bus, &frame, &stack, Fault::ss(0))?;
            Self::check_entry(self.segment(Seg::Cs), offset, 0)?;
            self.store_frame(bus, &frame, &stack)?;
            self.set_reg32(RSP, sp);
            self.enter_real(selector, offset);
            return Ok(());
        }
        match self.far_target(bus, selector)? {
            Target::Task(tss) => self.switch_task(bus, &tss, Cause::Call, 0),
            Target::Code(found) => self.call_same_level(bus, found, offset, opsize32),
            Target::Gate(gate) => {
                let found = self.gate_code(bus, &gate, |s, cpl| s.dpl() <= cpl)?;
                let segment = found.segment();
                if !segment.is_conforming() && segment.dpl() < self.cpl {
                    self.call_inner_level(bus, &gate, found)
                } else {
                    self.call_same_level(bus, found, gate.gate_offset(), gate.wide())
                }
            }
        }
    }

    /// CS and the address of the following instruction.
    fn push_return(&self, frame: &mut Frame) {
        frame.push(self.segment(Seg::Cs).selector.into()).push(self.next_rip as u32);
    }

    fn call_same_level<B: CpuBus>(&mut self, bus: &mut B, found: Descriptor, offset: u32, wide: bool) -> Exec {
        let mut frame = Frame::new(wide);
        self.push_return(&mut frame);
        let stack = self.current_stack();
        let sp = self.check_frame(bus, &frame, &stack, Fault::ss(0))?;
        Self::check_entry(&found.segment(), offset, 0)?;
        let segment = self.mark_accessed(bus, found)?;
        self.store_frame(bus, &frame, &stack)?;
        self.set_reg32(RSP, sp);
        self.enter_code(segment, self.cpl);
        self.next_rip = offset.into();
        Ok(())
    }

    /// A call through a gate to a more privileged level: its stack from the TSS, parameters copied
    /// (SDM vol. 3, 5.8.5).
    fn call_inner_level<B: CpuBus>(&mut self, bus: &mut B, gate: &Descriptor, found: Descriptor) -> Exec {
        let (offset, wide) = (gate.gate_offset(), gate.wide());
        let cpl = found.dpl();
        let stack = self.inner_stack(bus, cpl, 0)?;
        let mut frame = Frame::new(wide);
        frame.push(self.segment(Seg::Ss).selector.into()).push(self.reg32(RSP));
        let size = if wide { 4 } else { 2 };
        for i in (0..gate.gate_params()).rev() {
            let word = self.peek(bus, i * size, wide)?;
            frame.push(word);
        }
        self.push_return(&mut frame);
        let full = Fault::ss(code(stack.segment.selector, 0));
        let sp = self.check_frame(bus, &frame, &stack, full)?;
        Self::check_entry(&found.segment(), offset, 0)?;
        let segment = self.mark_accessed(bus, found)?;
        self.store_frame(bus, &frame, &stack)?;
        self.enter_code(segment, cpl);
        self.set_segment(Seg::Ss, stack.segment);
        self.set_reg32(RSP, sp);
        self.next_rip = offset.into();
        Ok(())
    }

    /// The stack that the TSS names for privilege level `cpl` (SDM vol. 3, 5.8.5 and 6.12.1).
    pub(in crate::cpu) fn inner_stack<B: CpuBus>(&mut self, bus: &mut B, cpl: u8, ext: u16) -> Exec<Stack> {
        let tss = self.tr;
        let wide = tss.system_type().is_some_and(|t| t & 8 != 0);
        let level = u32::from(cpl);
        let (at, last) = if wide { (level * 8 + 4, level * 8 + 9) } else { (level * 4 + 2, level * 4 + 5) };
        if !tss.present() || last > tss.limit {
            return Err(Fault::ts(code(tss.selector, ext)));
        }
        let at = (tss.base as u32).wrapping_add(at);
        let (sp, selector) = if wide {
            let sp = self.sys_read32(bus, at)?;
            (sp, self.sys_read16(bus, at.wrapping_add(4))?)
        } else {
            let sp = self.sys_read16(bus, at)?;
            (sp.into(), self.sys_read16(bus, at.wrapping_add(2))?)
        };
        let segment = self.checked_stack_segment(bus, selector, cpl, Fault::ts, ext)?;
        // A 16-bit stack uses SP only; the upper half of ESP is what the TSS says all the same.
        Ok(Stack { segment, sp, user: cpl == 3 })
    }

    /// The code segment that a far RET or IRET returns to.
    pub(in crate::cpu) fn return_code<B: CpuBus>(&mut self, bus: &mut B, selector: u16) -> Exec<Descriptor> {
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let invalid = Fault::gp(code(selector, 0));
        let found = self.descriptor(bus, selector, invalid)?;
        let segment = found.segment();
        let allowed = segment.is_code()
            && segment.rpl() >= self.cpl
            && if segment.is_conforming() { segment.dpl() <= segment.rpl() } else { segment.dpl() == segment.rpl() };
        if !allowed {
            return Err(invalid);
        }
        if !segment.present() {
            return Err(Fault::np(code(selector, 0)));
        }
        Ok(found)
    }

    /// The stack of the outer level that a far RET or IRET returns to.
    pub(in crate::cpu) fn return_stack<B: CpuBus>(&mut self, bus: &mut B, selector: u16, cpl: u8) -> Exec<Segment> {
        self.checked_stack_segment(bus, selector, cpl, Fault::gp, 0)
    }

    /// Loads SS and ESP of the outer level. A 16-bit stack takes only SP and leaves the upper half of ESP.
    pub(in crate::cpu) fn enter_outer_stack(&mut self, segment: Segment, sp: u32) {
        self.set_segment(Seg::Ss, segment);
        self.set_sp(sp);
        self.drop_inner_segments();
    }

    /// Far RET that releases `pop_bytes` of parameters.
    pub fn far_return<B: CpuBus>(&mut self, bus: &mut B, pop_bytes: u16, opsize32: bool) -> Exec {
        let size = if opsize32 { 4 } else { 2 };
        let pop = u32::from(pop_bytes);
        let offset = self.peek(bus, 0, opsize32)?;
        let selector = self.peek(bus, size, opsize32)? as u16;
        if self.real_segments() {
            Self::check_entry(self.segment(Seg::Cs), offset, 0)?;
            self.drop_stack(2 * size + pop);
            self.enter_real(selector, offset);
            return Ok(());
        }
        let found = self.return_code(bus, selector)?;
        let cpl = found.segment().rpl();
        if cpl == self.cpl {
            Self::check_entry(&found.segment(), offset, 0)?;
            let segment = self.mark_accessed(bus, found)?;
            self.drop_stack(2 * size + pop);
            self.enter_code(segment, cpl);
        } else {
            let sp = self.peek(bus, 2 * size + pop, opsize32)?;
            let ss = self.peek(bus, 3 * size + pop, opsize32)? as u16;
            let stack = self.return_stack(bus, ss, cpl)?;
            Self::check_entry(&found.segment(), offset, 0)?;
            let segment = self.mark_accessed(bus, found)?;
            self.enter_code(segment, cpl);
            self.enter_outer_stack(stack, sp.wrapping_add(pop));
        }
        self.next_rip = offset.into();
        Ok(())
    }
}
