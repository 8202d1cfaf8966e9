//! Stack instructions of any width, ENTER and LEAVE, and BOUND.

use super::fault::{Exec, Fault};
use super::op::Op;
use super::state::{Cpu, RBP, RSP};
use crate::bus::CpuBus;

impl Cpu {
    /// Writes a stack slot of `width` bytes at stack offset `at`.
    fn stack_store<B: CpuBus>(&mut self, bus: &mut B, at: u32, width: u32, value: u32) -> Exec {
        if width == 2 { self.write16(bus, 2, at, value as u16) } else { self.write32(bus, 2, at, value) }
    }

    fn stack_load<B: CpuBus>(&mut self, bus: &mut B, at: u32, width: u32) -> Exec<u32> {
        if width == 2 { Ok(self.read16(bus, 2, at)?.into()) } else { self.read32(bus, 2, at) }
    }

    /// Pushes 2 or 4 bytes.
    pub fn push<B: CpuBus>(&mut self, bus: &mut B, width: u32, value: u32) -> Exec {
        let at = self.sp().wrapping_sub(width) & self.sp_mask();
        self.stack_store(bus, at, width, value)?;
        self.set_sp(at);
        Ok(())
    }

    /// Pops 2 or 4 bytes.
    pub fn pop<B: CpuBus>(&mut self, bus: &mut B, width: u32) -> Exec<u32> {
        let at = self.sp();
        let value = self.stack_load(bus, at, width)?;
        self.set_sp(at.wrapping_add(width));
        Ok(value)
    }

    /// `PushE`.
    pub fn exec_push<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let value = self.load_e(bus, op, op.imm)?;
        self.push(bus, op.imm, value)
    }

    /// `PopE`: a memory operand based on (E)SP is addressed after the increment (SDM vol. 2, POP).
    pub fn exec_pop<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let before = self.gpr[RSP];
        let value = self.pop(bus, op.imm)?;
        let stored = self.store_e(bus, op, op.imm, value);
        if stored.is_err() {
            self.gpr[RSP] = before;
        }
        stored
    }

    /// PUSHA: all eight slots are checked before the first is written.
    pub fn exec_pusha<B: CpuBus>(&mut self, bus: &mut B, width: u32) -> Exec {
        let (top, m) = (self.sp(), self.sp_mask());
        for n in 1..=8 {
            self.check_stack_slot(bus, top.wrapping_sub(n * width) & m, width)?;
        }
        for n in 0..8u8 {
            let value = self.reg(n, width);
            self.stack_store(bus, top.wrapping_sub((u32::from(n) + 1) * width) & m, width, value)?;
        }
        self.set_sp(top.wrapping_sub(8 * width) & m);
        Ok(())
    }

    /// POPA: the stored (E)SP is skipped.
    pub fn exec_popa<B: CpuBus>(&mut self, bus: &mut B, width: u32) -> Exec {
        let (top, m) = (self.sp(), self.sp_mask());
        let mut values = [0; 8];
        for (n, v) in values.iter_mut().enumerate() {
            *v = self.stack_load(bus, top.wrapping_add(n as u32 * width) & m, width)?;
        }
        for (n, v) in values.iter().rev().enumerate() {
            if n != RSP {
                self.set_reg(n as u8, width, *v);
            }
        }
        self.set_sp(top.wrapping_add(8 * width) & m);
        Ok(())
    }

    /// ENTER (SDM vol. 2). The old frame pointers are read between the pushes, which they may overlap; the final stack
    /// pointer must be writable. A first round finds the faults, so that they leave nothing behind.
    pub fn exec_enter<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let (size, level, width) = (op.disp & 0xffff, op.imm & 31, op.imm >> 8);
        let m = self.sp_mask();
        let (top, old) = (self.sp(), self.reg32(RBP) & m);
        // With a 16-bit stack too the frame pointer is all of ESP.
        let frame = self.reg32(RSP) & !m | top.wrapping_sub(width) & m;
        let slot = |n: u32| top.wrapping_sub((1 + n) * width) & m;
        let source = |n: u32| old.wrapping_sub(n * width) & m;
        let last = slot(level).wrapping_sub(size) & m;
        for n in 0..=level {
            if (1..level).contains(&n) {
                self.stack_load(bus, source(n), width)?;
            }
            self.check_stack_slot(bus, slot(n), width)?;
        }
        self.check_stack_slot(bus, last, width)?;
        for n in 0..=level {
            let value = match n {
                0 => self.reg(RBP as u8, width),
                n if n == level => frame,
                n => self.stack_load(bus, source(n), width)?,
            };
            self.stack_store(bus, slot(n), width, value)?;
        }
        self.set_reg(RBP as u8, width, frame);
        self.set_sp(last);
        Ok(())
    }

    /// Faults if a stack slot cannot be written.
    fn check_stack_slot<B: CpuBus>(&mut self, bus: &mut B, at: u32, width: u32) -> Exec {
        let lin = self.linear_write(2, at, width)?;
        self.check_write(bus, lin, width, self.derived.user != 0)
    }

    /// LEAVE.
    pub fn exec_leave<B: CpuBus>(&mut self, bus: &mut B, width: u32) -> Exec {
        let at = self.reg32(RBP) & self.sp_mask();
        let value = self.stack_load(bus, at, width)?;
        self.set_sp(at.wrapping_add(width));
        self.set_reg(RBP as u8, width, value);
        Ok(())
    }

    /// BOUND.
    ///
    /// # Errors
    /// #BR when the index is outside.
    pub fn exec_bound<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        let width = op.imm;
        let bits = 32 - 8 * width;
        let sx = |v: u32| (v << bits) as i32 >> bits;
        let index = sx(self.reg(op.a, width));
        let low = self.load(bus, op, width)?;
        let second = Op { disp: op.disp.wrapping_add(width), ..*op };
        let high = self.load(bus, &second, width)?;
        if index < sx(low) || index > sx(high) { Err(Fault::BR) } else { Ok(()) }
    }
}
