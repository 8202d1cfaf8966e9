//! What translated code calls in the core: accesses that miss the TLB, and instructions that the interpreter
//! executes. As in the interpreter's loop nothing here touches a device or overwrites code: such an instruction
//! is left to be executed alone.

use super::Services;
use crate::bus::CpuBus;
use crate::cpu::access::Target;
use crate::cpu::flags;
use crate::cpu::op::{Kind, Op, System};
use crate::cpu::state::{Cpu, RSP};
use crate::cpu::{Exec, Fault};

/// The CPU and its bus while translated code runs.
pub struct Running<'a, B> {
    /// The CPU.
    pub cpu: &'a mut Cpu,
    /// Its bus.
    pub bus: &'a mut B,
    /// The instructions that regions leave to the interpreter.
    pub ops: &'a [Op],
    /// What the region was given.
    pub fuel: u32,
}

/// The instruction must be executed alone.
const ALONE: i64 = -1;

impl<B: CpuBus> Services for Running<'_, B> {
    fn load(&mut self, lin: u32, size: u32) -> i64 {
        let value = match size {
            1 => self.cpu.read_lin8(self.bus, lin).map(i64::from),
            2 => self.cpu.read_lin16(self.bus, lin).map(i64::from),
            _ => self.cpu.read_lin32(self.bus, lin).map(i64::from),
        };
        value.unwrap_or(ALONE)
    }

    fn store(&mut self, lin: u32, size: u32, value: u32) -> bool {
        let stored = match size {
            1 => self.cpu.write_lin8(self.bus, lin, value as u8),
            2 => self.cpu.write_lin16(self.bus, lin, value as u16),
            _ => self.cpu.write_lin32(self.bus, lin, value),
        };
        stored.is_ok()
    }

    fn modify(&mut self, lin: u32, size: u32) -> i64 {
        let target = match size {
            1 => self.cpu.rmw_read8(self.bus, lin).map(|(target, _)| target),
            2 => self.cpu.rmw_read16(self.bus, lin).map(|(target, _)| target),
            _ => self.cpu.rmw_read32(self.bus, lin).map(|(target, _)| target),
        };
        match target {
            Ok(Target::Plain(offset)) => offset.into(),
            _ => ALONE,
        }
    }

    fn execute(&mut self, number: u32, rip: u32) -> u32 {
        let Some(op) = self.ops.get(number as usize) else { return 1 };
        self.cpu.rip = rip.into();
        // One counts like any other and may take as long as thousands: the run loop, which ends here, executes it.
        if op.kind == Kind::StringRep && self.cpu.exhausted() {
            return 1;
        }
        if op.kind == Kind::Alone && op.system() == System::Rdtsc {
            return u32::from(self.read_time(op).is_err());
        }
        match self.cpu.exec_left(self.bus, op) {
            Ok(true) => 0,
            Ok(false) => 2,
            Err(_) => 1,
        }
    }

    fn condition(&mut self, cc: u32) -> bool {
        self.cpu.lazy.condition(cc as u8)
    }

    fn flags(&mut self) -> u32 {
        self.cpu.lazy.flags()
    }
}

impl<B: CpuBus> Running<'_, B> {
    /// RDTSC: the region has told what is left of its fuel, so the count is exact.
    fn read_time(&mut self, op: &Op) -> Exec {
        let count = self.cpu.icount;
        self.cpu.icount += u64::from(self.fuel.wrapping_sub(self.cpu.fuel));
        let done = self.cpu.exec_alone(self.bus, op);
        self.cpu.icount = count;
        done
    }
}

impl Cpu {
    /// A system instruction that regions contain ([`region::runs_alone`](super::region::runs_alone)). POPF may enable
    /// interrupts or traps: it is left when one would be taken right behind it.
    fn exec_inlined<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        if op.system() != System::Popf {
            return self.exec_alone(bus, op);
        }
        if self.nmi_pending || bus.interrupt_pending(self.index) {
            return Err(Fault::DEFER);
        }
        let before = (self.gpr[RSP], self.system_flags, self.lazy);
        self.exec_alone(bus, op)?;
        if self.flag(flags::TF | flags::RF) {
            (self.gpr[RSP], self.system_flags, self.lazy) = before;
            self.mode_changed();
            return Err(Fault::DEFER);
        }
        Ok(())
    }

    /// An instruction for which the translator has no code of its own. Whether it is complete (REP).
    fn exec_left<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec<bool> {
        use Kind::*;
        match op.kind {
            StringRep => return self.exec_rep(bus, op),
            X87Reg | X87Load | X87Store | X87Env | Fwait => self.exec_x87(bus, op)?,
            Simd => self.exec_simd(bus, op)?,
            Idiv32R => {
                let divisor = self.reg32(op.a.into());
                self.divide(true, 4, divisor)?;
            }
            Alone => self.exec_inlined(bus, op)?,
            _ => self.cold(bus, op)?,
        }
        Ok(true)
    }
}
