//! Delivery of interrupts and exceptions (SDM vol. 3, chapter 6; vol. 2, INT n).

use super::descriptor::{Descriptor, code, is_null, system_type};
use super::stack::Frame;
use super::task::Cause;
use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::flags;
use crate::cpu::segment::{Seg, Segment};
use crate::cpu::state::{Activity, Cpu, RSP, Shadow};

/// Where an interrupt comes from: it decides the privilege checks, the return address and the EXT bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A hardware interrupt or NMI, between instructions.
    External,
    /// INT n.
    IntN,
    /// INT3 and INTO: software interrupts that virtual-8086 mode neither traps nor redirects.
    Int3,
    /// INT1 (ICEBP): no DPL check.
    Int1,
    /// A fault of the instruction at `rip`, with its error code.
    Exception(Option<u16>),
    /// #DB between instructions: single step, data breakpoint, or an instruction breakpoint before it.
    Debug,
}

impl Source {
    /// Subject to the gate's DPL.
    fn software(self) -> bool {
        matches!(self, Self::IntN | Self::Int3)
    }

    /// EXT bit of error codes that the delivery itself raises (SDM vol. 3, 6.13).
    fn ext(self) -> u16 {
        u16::from(!self.software())
    }

    fn error_code(self) -> Option<u16> {
        match self {
            Self::Exception(code) => code,
            _ => None,
        }
    }

    /// Raised by an instruction that has completed: execution goes on behind it.
    fn after_instruction(self) -> bool {
        matches!(self, Self::IntN | Self::Int3 | Self::Int1)
    }
}

/// What became of an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Its handler runs next.
    Ok,
    /// A triple fault: the CPU shut down.
    Shutdown,
}

impl Cpu {
    /// Delivers a fault of the current instruction, escalating to a double fault and to shutdown
    /// (SDM vol. 3, 6.15, interrupt 8). Afterwards `rip` and `next_rip` are the handler's first instruction.
    pub fn deliver<B: CpuBus>(&mut self, bus: &mut B, fault: Fault) -> Delivered {
        // The instruction did not complete: its data breakpoints do not count.
        self.pending_debug = 0;
        let mut current = fault;
        loop {
            let source = Source::Exception(current.code());
            let Err(next) = self.interrupt(bus, current.vector(), source) else {
                return Delivered::Ok;
            };
            if current.vector() == Fault::df(0).vector() {
                self.activity = Activity::Shutdown;
                return Delivered::Shutdown;
            }
            current = if next.escalates(current) { Fault::df(0) } else { next };
        }
    }

    /// Delivers what is not an instruction's fault, and the faults of the delivery.
    fn deliver_event<B: CpuBus>(&mut self, bus: &mut B, vector: u8, source: Source) -> Delivered {
        match self.interrupt(bus, vector, source) {
            Ok(()) => Delivered::Ok,
            Err(fault) => self.deliver(bus, fault),
        }
    }

    /// Takes a maskable hardware interrupt between instructions; ends HLT.
    pub fn take_interrupt<B: CpuBus>(&mut self, bus: &mut B, vector: u8) -> Delivered {
        self.activity = Activity::Running;
        self.deliver_event(bus, vector, Source::External)
    }

    /// Takes the pending NMI between instructions; further ones wait for IRET (SDM vol. 3, 6.7.1).
    pub fn take_nmi<B: CpuBus>(&mut self, bus: &mut B) -> Delivered {
        self.activity = Activity::Running;
        self.nmi_pending = false;
        self.nmi_blocked = true;
        self.deliver_event(bus, 2, Source::External)
    }

    /// Delivers #DB between instructions (DR6 already says why).
    pub(in crate::cpu) fn deliver_debug<B: CpuBus>(&mut self, bus: &mut B) -> Delivered {
        // A trap after HLT finds the CPU awake.
        self.activity = Activity::Running;
        self.deliver_event(bus, 1, Source::Debug)
    }

    /// Enters the handler of `vector`. On success `next_rip` is its first instruction, and `rip` too unless
    /// an instruction (INT n, INT3, INTO, INT1) asked for it.
    pub fn interrupt<B: CpuBus>(&mut self, bus: &mut B, vector: u8, source: Source) -> Exec {
        // Delivery cannot be put off to the single-instruction path: it is on it.
        let single = std::mem::replace(&mut self.single, true);
        let result = self.enter_handler(bus, vector, source);
        self.single = single;
        result
    }

    fn enter_handler<B: CpuBus>(&mut self, bus: &mut B, vector: u8, source: Source) -> Exec {
        let back = if source.after_instruction() { self.next_rip } else { self.rip } as u32;
        let debug_exception = vector == 1 && !source.software();
        if !self.protected() {
            self.interrupt_real(bus, vector, back, source)?;
        } else if !self.redirect_to_8086(bus, vector, back, source)? {
            self.interrupt_protected(bus, vector, back, source)?;
        }
        if debug_exception {
            // The handler may use the debug registers (SDM vol. 3, 18.2.4).
            self.dr[7] &= !u64::from(super::super::system::debug::GD);
        }
        if !source.after_instruction() {
            self.rip = self.next_rip;
        }
        self.shadow = Shadow::None;
        Ok(())
    }

    /// Through the real-mode interrupt vector table.
    fn interrupt_real<B: CpuBus>(&mut self, bus: &mut B, vector: u8, back: u32, source: Source) -> Exec {
        let entry = u32::from(vector) * 4;
        if entry + 3 > self.idtr.limit.into() {
            return Err(Fault::gp(u16::from(vector) * 8 + 2 + source.ext()));
        }
        let at = (self.idtr.base as u32).wrapping_add(entry);
        let target = self.sys_read32(bus, at)?;
        let mut frame = Frame::new(false);
        frame.push(self.eflags()).push(self.segment(Seg::Cs).selector.into()).push(back);
        let stack = self.current_stack();
        let sp = self.check_frame(bus, &frame, &stack, Fault::ss(source.ext()))?;
        let offset = target & 0xffff;
        Self::check_entry(self.segment(Seg::Cs), offset, source.ext())?;
        self.store_frame(bus, &frame, &stack)?;
        self.set_reg32(RSP, sp);
        self.system_flags &= !(flags::IF | flags::TF | flags::RF | flags::AC);
        self.set_real_segment(Seg::Cs, (target >> 16) as u16);
        self.next_rip = offset.into();
        Ok(())
    }

    /// Through a gate of the IDT.
    fn interrupt_protected<B: CpuBus>(&mut self, bus: &mut B, vector: u8, back: u32, source: Source) -> Exec {
        use system_type::*;
        let ext = source.ext();
        let in_idt = u16::from(vector) * 8 + 2 + ext;
        let entry = u32::from(vector) * 8;
        if entry + 7 > self.idtr.limit.into() {
            return Err(Fault::gp(in_idt));
        }
        let at = (self.idtr.base as u32).wrapping_add(entry);
        let gate = Descriptor { at, selector: 0, raw: self.sys_read64(bus, at)? };
        let masks = match gate.system_type() {
            Some(TASK_GATE | TRAP_GATE16 | TRAP_GATE32) => false,
            Some(INTERRUPT_GATE16 | INTERRUPT_GATE32) => true,
            _ => return Err(Fault::gp(in_idt)),
        };
        if source.software() && gate.dpl() < self.cpl {
            return Err(Fault::gp(in_idt));
        }
        if !gate.present() {
            return Err(Fault::np(in_idt));
        }
        if gate.system_type() == Some(TASK_GATE) {
            return self.interrupt_task(bus, &gate, back, source);
        }
        let found = self.handler_code(bus, &gate, ext)?;
        let segment = found.segment();
        let inner = !segment.is_conforming() && segment.dpl() < self.cpl;
        let from_vm86 = self.vm86();
        if from_vm86 && (!inner || segment.dpl() != 0) {
            return Err(Fault::gp(code(segment.selector, ext)));
        }
        if !inner && !segment.is_conforming() && segment.dpl() != self.cpl {
            return Err(Fault::gp(code(segment.selector, ext)));
        }
        let cpl = if inner { segment.dpl() } else { self.cpl };
        let mut frame = Frame::new(gate.wide());
        let (stack, full) = if inner {
            let stack = self.inner_stack(bus, cpl, ext)?;
            if from_vm86 {
                for seg in [Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es] {
                    frame.push(self.segment(seg).selector.into());
                }
            }
            frame.push(self.segment(Seg::Ss).selector.into()).push(self.reg32(RSP));
            (stack, Fault::ss(code(stack.segment.selector, ext)))
        } else {
            (self.current_stack(), Fault::ss(ext))
        };
        frame.push(self.pushed_flags(source)).push(self.segment(Seg::Cs).selector.into()).push(back);
        if let Some(error) = source.error_code() {
            frame.push(error.into());
        }
        let sp = self.check_frame(bus, &frame, &stack, full)?;
        let offset = gate.gate_offset();
        Self::check_entry(&segment, offset, ext)?;
        let segment = self.mark_accessed(bus, found)?;
        self.store_frame(bus, &frame, &stack)?;
        let cleared = flags::TF | flags::NT | flags::VM | flags::RF;
        self.system_flags &= !(cleared | if masks { flags::IF } else { 0 });
        if from_vm86 {
            for seg in [Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es] {
                self.seg[seg as usize] = Segment::null(0);
            }
        }
        self.seg[Seg::Ss as usize] = stack.segment;
        self.set_reg32(RSP, sp);
        self.enter_code(segment, cpl);
        self.next_rip = offset.into();
        Ok(())
    }

    /// EFLAGS as an interrupt pushes it: RF is set for faults, so that the instruction's breakpoint does not
    /// hit again on return (SDM vol. 3, 18.3.1.1).
    fn pushed_flags(&self, source: Source) -> u32 {
        let flags = self.eflags();
        match source {
            Source::Exception(_) => flags | flags::RF,
            Source::IntN | Source::Int3 | Source::Int1 => flags & !flags::RF,
            Source::External | Source::Debug => flags,
        }
    }

    /// The handler's code segment that an interrupt or trap gate names.
    fn handler_code<B: CpuBus>(&mut self, bus: &mut B, gate: &Descriptor, ext: u16) -> Exec<Descriptor> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(ext));
        }
        let invalid = Fault::gp(code(selector, ext));
        let found = self.descriptor(bus, selector, invalid)?;
        let segment = found.segment();
        if !segment.is_code() || segment.dpl() > self.cpl {
            return Err(invalid);
        }
        if !segment.present() {
            return Err(Fault::np(code(selector, ext)));
        }
        Ok(found)
    }

    /// Through a task gate; the error code goes onto the new task's stack.
    fn interrupt_task<B: CpuBus>(&mut self, bus: &mut B, gate: &Descriptor, back: u32, source: Source) -> Exec {
        let ext = source.ext();
        let tss = self.task_of_gate(bus, gate, ext)?;
        // The old task resumes at `back` (the outgoing TSS takes it from `next_rip`), with RF as pushed.
        let saved = (self.next_rip, self.system_flags);
        self.next_rip = back.into();
        self.system_flags = self.pushed_flags(source) & !flags::STATUS;
        self.switch_task(bus, &tss, Cause::Gate, ext).inspect_err(|_| {
            if self.tr.selector != tss.selector {
                (self.next_rip, self.system_flags) = saved;
            }
        })?;
        if let Some(error) = source.error_code() {
            let wide = tss.wide();
            let mut frame = Frame::new(wide);
            frame.push(error.into());
            let stack = self.current_stack();
            let sp = self.check_frame(bus, &frame, &stack, Fault::ss(ext))?;
            self.store_frame(bus, &frame, &stack)?;
            self.set_reg32(RSP, sp);
        }
        Ok(())
    }
}
