//! Debug registers, breakpoints and the debug trap (SDM vol. 3, chapter 18).

use crate::bus::CpuBus;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::protect::Delivered;
use crate::cpu::state::{Cpu, Shadow, cr4};

/// DR7.GD: any access to a debug register is #DB.
pub const GD: u32 = 1 << 13;
/// DR6.BD: the debug exception came from such an access.
const BD: u32 = 1 << 13;
/// DR6.BS: single step.
const BS: u32 = 1 << 14;
/// DR6 bits that always read one.
const DR6_ONES: u32 = 0xffff_0ff0;
/// DR6 bits that can be written: B0-B3, BD, BS, BT.
const DR6_BITS: u32 = 0xe00f;
/// DR7 bits that can be written: all but 10 (one) and 11, 12, 14, 15 (zero).
const DR7_BITS: u32 = 0xffff_23ff;
const DR7_ONES: u32 = 0x400;

/// R/W field of DR7 for a breakpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Execute,
    Write,
    Io,
    Access,
}

impl Cpu {
    /// The register that DR`n` stands for: 4 and 5 alias 6 and 7 unless CR4.DE. Then privilege, then DR7.GD.
    fn debug_register(&mut self, n: u8) -> Exec<usize> {
        let alias = n & 6 == 4;
        if alias && self.cr4 & cr4::DE != 0 {
            return Err(Fault::UD);
        }
        self.require_ring0()?;
        if self.dr[7] as u32 & GD != 0 {
            self.dr[6] |= u64::from(BD);
            return Err(Fault::DB);
        }
        Ok(usize::from(if alias { n + 2 } else { n & 7 }))
    }

    /// MOV from DR`n`.
    pub fn mov_from_dr<B: CpuBus>(&mut self, _bus: &mut B, n: u8) -> Exec<u32> {
        let n = self.debug_register(n)?;
        Ok(self.dr[n] as u32)
    }

    /// MOV to DR`n`.
    pub fn mov_to_dr<B: CpuBus>(&mut self, _bus: &mut B, n: u8, value: u32) -> Exec {
        let n = self.debug_register(n)?;
        self.dr[n] = match n {
            6 => value & DR6_BITS | DR6_ONES,
            7 => value & DR7_BITS | DR7_ONES,
            _ => value,
        }
        .into();
        // Breakpoints on data are found outside the TLBs.
        self.mode_changed();
        Ok(())
    }

    /// Whether any breakpoint is enabled.
    #[inline(always)]
    #[must_use]
    pub fn debug_enabled(&self) -> bool {
        self.dr[7] & 0xff != 0
    }

    /// Whether a breakpoint on data is enabled.
    #[must_use]
    pub fn data_breakpoints_enabled(&self) -> bool {
        let dr7 = self.dr[7] as u32;
        // R/W is 01 (writes) or 11 (accesses): its low bit says so.
        dr7 & 0xff != 0 && (0..4).any(|i| dr7 >> (2 * i) & 3 != 0 && dr7 >> (16 + 4 * i) & 1 != 0)
    }

    /// Enabled breakpoints that `len` bytes at `at` touch and whose kind passes: a mask of B0-B3.
    fn breakpoints(&self, at: u32, len: u32, wanted: impl Fn(Kind) -> bool) -> u32 {
        let dr7 = self.dr[7] as u32;
        (0..4)
            .filter(|&i| {
                let control = dr7 >> (16 + 4 * i);
                let kind = match control & 3 {
                    0 => Kind::Execute,
                    1 => Kind::Write,
                    2 => Kind::Io,
                    _ => Kind::Access,
                };
                let size = [1, 2, 8, 4][(control >> 2 & 3) as usize];
                let first = self.dr[i as usize] as u32 & !(size - 1);
                dr7 >> (2 * i) & 3 != 0
                    && wanted(kind)
                    && (at.wrapping_sub(first) < size || first.wrapping_sub(at) < len)
            })
            .fold(0, |hits, i| hits | 1 << i)
    }

    /// Instruction breakpoint at linear address `lin`, to be asked before the instruction when RF is clear.
    /// On a hit #DB is delivered and the instruction does not run.
    pub fn code_breakpoint<B: CpuBus>(&mut self, bus: &mut B, lin: u32) -> Option<Delivered> {
        let hits = self.breakpoints(lin, 1, |k| k == Kind::Execute);
        if hits == 0 {
            return None;
        }
        self.record_debug(hits);
        Some(self.deliver_debug(bus))
    }

    /// Notes data breakpoints that an access of `size` bytes at linear address `lin` hits; they trap after
    /// the instruction.
    pub fn data_breakpoint(&mut self, lin: u32, size: u32, write: bool) {
        self.pending_debug |= self.breakpoints(lin, size, |k| k == Kind::Access || (write && k == Kind::Write));
    }

    /// Notes I/O breakpoints (CR4.DE).
    pub(in crate::cpu) fn io_breakpoint(&mut self, port: u16, size: u8) {
        if self.debug_enabled() && self.cr4 & cr4::DE != 0 {
            self.pending_debug |= self.breakpoints(port.into(), size.into(), |k| k == Kind::Io);
        }
    }

    /// The debug trap after an instruction, when TF was set as it began (`single_step`) or conditions are
    /// pending. After a load of SS it is put off (single step) or kept (the rest) for one instruction.
    ///
    /// INT n, INT3, INTO and INT1 are not single-stepped: they clear TF, and their handler's first instruction
    /// runs untrapped (SDM vol. 3, 18.3.1.4); pass `single_step` false after them.
    pub fn debug_trap<B: CpuBus>(&mut self, bus: &mut B, single_step: bool) -> Option<Delivered> {
        if self.shadow == Shadow::MovSs {
            return None;
        }
        let why = self.pending_debug | if single_step { BS } else { 0 };
        self.pending_debug = 0;
        if why == 0 {
            return None;
        }
        self.record_debug(why);
        Some(self.deliver_debug(bus))
    }

    /// Enters conditions into DR6: B0-B3 show this exception alone, the rest stays until software clears it.
    fn record_debug(&mut self, why: u32) {
        self.dr[6] = self.dr[6] & !15 | u64::from(why);
    }
}
