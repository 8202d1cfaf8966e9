//! Memory as the ops of [`execute`](super::execute::execute) see it: by linear address, or as an op's operand.

use super::execute::Flow;
use super::fault::{Exec, Fault};
use super::op::{Op, SEG_FLAT};
use super::state::{Cpu, RSP};

/// Number of the stack segment.
const SS: u8 = 2;

/// Memory as ops see it.
///
/// Addresses are linear ones with the current privilege, operands are an op's.
pub trait Memory {
    /// Where an operand that is read and then written lies.
    type Target: Copy;

    /// Reads a byte.
    fn read8(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u8>;
    /// Reads 16 bits.
    fn read16(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u16>;
    /// Reads 32 bits.
    fn read32(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<u32>;
    /// Writes a byte.
    fn write8(&mut self, cpu: &mut Cpu, lin: u32, value: u8) -> Exec;
    /// Writes 16 bits.
    fn write16(&mut self, cpu: &mut Cpu, lin: u32, value: u16) -> Exec;
    /// Writes 32 bits.
    fn write32(&mut self, cpu: &mut Cpu, lin: u32, value: u32) -> Exec;
    /// Reads a byte that [`close8`](Self::close8) will write: whether it may is checked now.
    fn open8(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<(Self::Target, u8)>;
    /// Writes what [`open8`](Self::open8) read. Cannot fault.
    fn close8(&mut self, cpu: &mut Cpu, target: Self::Target, lin: u32, value: u8) -> Exec;
    /// Reads 32 bits that [`close32`](Self::close32) will write: whether it may is checked now.
    fn open32(&mut self, cpu: &mut Cpu, lin: u32) -> Exec<(Self::Target, u32)>;
    /// Writes what [`open32`](Self::open32) read. Cannot fault.
    fn close32(&mut self, cpu: &mut Cpu, target: Self::Target, lin: u32, value: u32) -> Exec;
    /// The linear address of `size` bytes at an offset in a segment (0 to 5).
    fn linear(&mut self, cpu: &mut Cpu, seg: u8, offset: u32, size: u32, write: bool) -> Exec<u32>;
    /// Whether a condition holds.
    fn condition(&self, cpu: &Cpu, cc: u8) -> Exec<bool>;
    /// What becomes of a fault of the op.
    fn fault(&self, fault: Fault) -> Fault;
    /// A pair of instructions in one op, the second of which may fail after the first one retired.
    fn pair(&mut self, cpu: &mut Cpu, op: &Op) -> Exec;
    /// Any other op.
    fn other(&mut self, cpu: &mut Cpu, op: &Op, next: u32) -> Exec<Flow>;

    /// The linear address of an op's operand of `size` bytes.
    #[inline(always)]
    fn operand(&mut self, cpu: &mut Cpu, op: &Op, size: u32, write: bool) -> Exec<u32> {
        if op.seg == SEG_FLAT {
            return Ok(cpu.offset(op));
        }
        let offset = cpu.offset_any(op);
        self.linear(cpu, op.seg & 7, offset, size, write)
    }
    /// Reads an op's operand.
    #[inline(always)]
    fn load8(&mut self, cpu: &mut Cpu, op: &Op) -> Exec<u8> {
        let lin = self.operand(cpu, op, 1, false)?;
        self.read8(cpu, lin)
    }
    /// Reads an op's operand.
    #[inline(always)]
    fn load16(&mut self, cpu: &mut Cpu, op: &Op) -> Exec<u16> {
        let lin = self.operand(cpu, op, 2, false)?;
        self.read16(cpu, lin)
    }
    /// Reads an op's operand.
    #[inline(always)]
    fn load32(&mut self, cpu: &mut Cpu, op: &Op) -> Exec<u32> {
        let lin = self.operand(cpu, op, 4, false)?;
        self.read32(cpu, lin)
    }
    /// Writes an op's operand.
    #[inline(always)]
    fn store8(&mut self, cpu: &mut Cpu, op: &Op, value: u8) -> Exec {
        let lin = self.operand(cpu, op, 1, true)?;
        self.write8(cpu, lin, value)
    }
    /// Writes an op's operand.
    #[inline(always)]
    fn store16(&mut self, cpu: &mut Cpu, op: &Op, value: u16) -> Exec {
        let lin = self.operand(cpu, op, 2, true)?;
        self.write16(cpu, lin, value)
    }
    /// Writes an op's operand.
    #[inline(always)]
    fn store32(&mut self, cpu: &mut Cpu, op: &Op, value: u32) -> Exec {
        let lin = self.operand(cpu, op, 4, true)?;
        self.write32(cpu, lin, value)
    }
    /// Pushes a doubleword on a 32-bit stack.
    #[inline(always)]
    fn push32(&mut self, cpu: &mut Cpu, op: &Op, value: u32) -> Exec {
        let at = cpu.reg32(RSP).wrapping_sub(4);
        let lin = if op.seg == SEG_FLAT { at } else { self.linear(cpu, SS, at, 4, true)? };
        self.write32(cpu, lin, value)?;
        cpu.set_reg32(RSP, at);
        Ok(())
    }
    /// Reads a doubleword of a 32-bit stack.
    #[inline(always)]
    fn pop32(&mut self, cpu: &mut Cpu, op: &Op, at: u32) -> Exec<u32> {
        let lin = if op.seg == SEG_FLAT { at } else { self.linear(cpu, SS, at, 4, false)? };
        self.read32(cpu, lin)
    }
}
