//! The architectural state of one vCPU. 64-bit from the start; 32-bit modes keep upper halves zero.

use super::flags::{self, Lazy, LazyOp};
use super::segment::{Seg, Segment, rights};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Deref, DerefMut};

/// Register number of EAX/RAX. The others follow in encoding order.
pub const RAX: usize = 0;
/// Register number of ECX/RCX.
pub const RCX: usize = 1;
/// Register number of EDX/RDX.
pub const RDX: usize = 2;
/// Register number of EBX/RBX.
pub const RBX: usize = 3;
/// Register number of ESP/RSP.
pub const RSP: usize = 4;
/// Register number of EBP/RBP.
pub const RBP: usize = 5;
/// Register number of ESI/RSI.
pub const RSI: usize = 6;
/// Register number of EDI/RDI.
pub const RDI: usize = 7;
/// A slot that is always zero: the base or index of an address that has none.
pub const ZERO_REG: usize = 16;

/// CR0 bits (SDM vol. 3, 2.5).
#[allow(missing_docs, reason = "bit names of the manual")]
pub mod cr0 {
    pub const PE: u64 = 1;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits.
#[allow(missing_docs, reason = "bit names of the manual")]
pub mod cr4 {
    pub const VME: u64 = 1;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
}

/// EFER bits.
#[allow(missing_docs, reason = "bit names of the manual")]
pub mod efer {
    pub const SCE: u64 = 1;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// GDTR or IDTR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReg {
    /// Linear base.
    pub base: u64,
    /// Last valid offset.
    pub limit: u16,
}

/// What the CPU is doing when it is not executing instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Executing.
    #[default]
    Running,
    /// HLT: waits for an interrupt.
    Halted,
    /// Triple fault: waits for reset.
    Shutdown,
    /// Waits for a start-up IPI.
    WaitForSipi,
}

/// The processor that the guest sees; each has the instructions and CPUID leaves of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "product names")]
pub enum CpuModel {
    I486,
    Pentium,
    PentiumIII,
    Pentium4,
    /// Its 32-bit half: no long mode.
    Nehalem,
}

/// A slot for each value of a byte, so that an op's register field is an index as it is: the general registers 0-15, and
/// zeros that are never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers([u64; 256]);

impl Default for Registers {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl Deref for Registers {
    type Target = [u64; 256];
    #[inline(always)]
    fn deref(&self) -> &[u64; 256] {
        &self.0
    }
}

impl DerefMut for Registers {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u64; 256] {
        &mut self.0
    }
}

impl Serialize for Registers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut saved = [0; 32];
        saved.copy_from_slice(&self.0[..32]);
        saved.serialize(to)
    }
}

impl<'a> Deserialize<'a> for Registers {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        let saved = <[u64; 32]>::deserialize(from)?;
        let mut all = Self::default();
        all[..32].copy_from_slice(&saved);
        Ok(all)
    }
}

/// One vCPU.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cpu {
    /// Index of this vCPU in its machine.
    pub index: usize,
    /// The model.
    pub model: CpuModel,
    /// General registers 0-15, then zeros ([`ZERO_REG`]).
    pub gpr: Registers,
    /// Instruction pointer: the start of the instruction (or block) being executed.
    pub rip: u64,
    /// Where execution goes when the current instruction retires. Set to the following instruction before an
    /// instruction outside the fast loop runs; control transfers overwrite it.
    pub next_rip: u64,
    /// EFLAGS without the six status flags, which are in `lazy`.
    pub system_flags: u32,
    /// Source of the six status flags.
    pub lazy: Lazy,
    /// ES, CS, SS, DS, FS, GS. Change them only with [`set_segment`](Self::set_segment).
    pub seg: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: TableReg,
    /// Interrupt descriptor table.
    pub idtr: TableReg,
    /// CR0. Change control registers, CPL and EFER with the setters or call [`mode_changed`](Self::mode_changed) after.
    pub cr0: u64,
    /// Page-fault linear address.
    pub cr2: u64,
    /// Page directory base.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// The four PAE page-directory-pointer entries, loaded with CR3.
    pub pdpte: [u64; 4],
    /// Extended feature enable MSR.
    pub efer: u64,
    /// Debug registers; 4 and 5 are unused here (aliases or #UD).
    pub dr: [u64; 8],
    /// Current privilege level.
    pub cpl: u8,
    /// Other model-specific registers.
    pub msr: Msrs,
    /// The x87 unit, whose registers are also MM0-MM7.
    pub x87: crate::fpu::X87,
    /// SSE registers.
    pub xmm: [u128; 16],
    /// SSE control and status.
    pub mxcsr: u32,
    /// Retired instructions.
    pub icount: u64,
    /// Running, halted or shut down.
    pub activity: Activity,
    /// Interrupts (and for MOV SS also debug traps) are held off until one more instruction has retired.
    pub shadow: Shadow,
    /// An NMI waits to be taken.
    pub nmi_pending: bool,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: bool,
    /// Debug conditions (DR6 bits) met by the current instruction: they trap when it has retired.
    pub pending_debug: u32,
    /// Executing a single instruction outside the fast loop, where MMIO and stores to code are allowed.
    #[serde(skip)]
    pub single: bool,
    /// Work done in this run, as a host sees it.
    #[serde(skip)]
    pub effort: super::effort::Effort,
    /// Derived from the state; rebuilt by [`mode_changed`](Self::mode_changed) and on restore.
    #[serde(skip)]
    pub derived: Derived,
    /// Instructions that translated code had left when it returned.
    #[serde(skip)]
    pub fuel: u32,
    /// Translation caches; never part of a snapshot.
    #[serde(skip)]
    pub tlb: super::tlb::Tlb,
}

/// Interrupt shadow after STI and after loads of SS (SDM vol. 3, 6.8.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shadow {
    /// None.
    #[default]
    None,
    /// Maskable interrupts are held off.
    Sti,
    /// Interrupts and debug exceptions are held off.
    MovSs,
}

/// Model-specific registers that the CPU itself keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Msrs {
    /// IA32_SYSENTER_CS, ESP, EIP.
    pub sysenter: [u64; 3],
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// What WRMSR to the TSC added to the bus's counter.
    pub tsc_offset: u64,
    /// IA32_MTRR_DEF_TYPE.
    pub mtrr_def_type: u64,
    /// Variable-range MTRRs: base and mask pairs.
    pub mtrr_var: [u64; 16],
    /// Fixed-range MTRRs: 64K, 16K ×2, 4K ×8.
    pub mtrr_fixed: [u64; 11],
    /// IA32_BIOS_SIGN_ID (microcode revision).
    pub ucode_rev: u64,
    /// Machine-check status and control registers.
    pub mcg_status: u64,
}

/// Values computed from the architectural state for speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Derived {
    /// Segment bases by number, [6] zero (an address that needs no check).
    pub base: [u64; 8],
    /// Highest last offset that a read through the segment may touch without a closer look; -1 for none.
    pub read_max: [i64; 8],
    /// The same for writes.
    pub write_max: [i64; 8],
    /// Mode bits that decoded code depends on, see [`mode`].
    pub mode: u32,
    /// TLB half for data accesses: 0 supervisor, 1 user.
    pub user: u32,
    /// Alignment of user accesses is checked: CPL 3, CR0.AM and EFLAGS.AC (SDM vol. 3, 6.15, interrupt 17).
    pub align: bool,
    /// Whether data accesses of each TLB half are looked at one by one, for breakpoints or alignment. Nothing is entered
    /// into its data TLBs then, so that the fast path needs no check.
    pub watched: [bool; 2],
}

/// Bits of [`Derived::mode`].
pub mod mode {
    /// CS.D: 32-bit operands and addresses by default.
    pub const CODE32: u32 = 1;
    /// SS.B: pushes and pops use ESP.
    pub const STACK32: u32 = 2;
    /// CS, DS, ES and SS are flat and usable for reads and writes: data addresses need no segment check.
    pub const FLAT: u32 = 4;
    /// Protected mode (CR0.PE), virtual-8086 mode excluded.
    pub const PROTECTED: u32 = 8;
    /// Virtual-8086 mode.
    pub const VM86: u32 = 16;
    /// CPL 3 (also in virtual-8086 mode).
    pub const USER: u32 = 32;
}

impl Cpu {
    /// A vCPU after power-on.
    #[must_use]
    pub fn new(index: usize, model: CpuModel) -> Self {
        let mut cpu = Self {
            index,
            model,
            gpr: Registers::default(),
            rip: 0,
            next_rip: 0,
            system_flags: 0,
            lazy: Lazy::default(),
            seg: [Segment::real(0); 6],
            ldtr: Segment::null(0),
            tr: Segment::null(0),
            gdtr: TableReg::default(),
            idtr: TableReg::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            pdpte: [0; 4],
            efer: 0,
            dr: [0; 8],
            cpl: 0,
            msr: Msrs::default(),
            x87: crate::fpu::X87::new(),
            xmm: [0; 16],
            mxcsr: 0x1f80,
            icount: 0,
            activity: Activity::Running,
            shadow: Shadow::None,
            nmi_pending: false,
            nmi_blocked: false,
            pending_debug: 0,
            single: false,
            effort: super::effort::Effort::default(),
            derived: Derived::default(),
            fuel: 0,
            tlb: super::tlb::Tlb::default(),
        };
        cpu.reset();
        cpu
    }

    /// What software could see of the state, as numbers: for tools that compare runs.
    #[must_use]
    pub fn visible_state(&self) -> Vec<u64> {
        let mut all = vec![self.icount, self.rip, self.eflags().into(), self.cpl.into(), self.mxcsr.into()];
        all.extend_from_slice(&self.gpr[..8]);
        all.extend(self.seg.iter().flat_map(|s| [s.selector.into(), s.base, s.limit.into(), s.rights.into()]));
        all.extend([self.cr0, self.cr2, self.cr3, self.cr4]);
        all.extend(self.xmm.iter().flat_map(|x| [*x as u64, (*x >> 64) as u64]));
        let image = self.x87.state_image(crate::fpu::ImageMode { operand32: true, protected: true });
        all.extend(image.chunks(8).map(|c| c.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b))));
        all
    }

    /// RESET# (SDM vol. 3, table 9-1). The instruction count goes on.
    pub fn reset(&mut self) {
        self.gpr = Registers::default();
        self.gpr[RDX] = self.signature().into();
        self.rip = 0xfff0;
        self.next_rip = 0xfff0;
        self.system_flags = flags::ALWAYS;
        self.lazy = Lazy::default();
        self.seg = [Segment::real(0); 6];
        self.seg[Seg::Cs as usize] = Segment {
            base: 0xffff_0000,
            rights: rights::PRESENT | rights::S | rights::CODE | rights::RW | rights::ACCESSED,
            ..Segment::real(0xf000)
        };
        self.ldtr = Segment { selector: 0, base: 0, limit: 0xffff, rights: rights::PRESENT | 2 };
        self.tr = Segment { selector: 0, base: 0, limit: 0xffff, rights: rights::PRESENT | 11 };
        self.gdtr = TableReg { base: 0, limit: 0xffff };
        self.idtr = TableReg { base: 0, limit: 0xffff };
        self.cr0 = cr0::ET | cr0::CD | cr0::NW;
        self.cr2 = 0;
        self.cr3 = 0;
        self.cr4 = 0;
        self.efer = 0;
        self.dr = [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400];
        self.cpl = 0;
        self.msr = Msrs {
            pat: 0x0007_0406_0007_0406,
            // Fast strings.
            misc_enable: 1,
            tsc_offset: self.msr.tsc_offset,
            ..Msrs::default()
        };
        self.x87 = crate::fpu::X87::new();
        self.xmm = [0; 16];
        self.mxcsr = 0x1f80;
        self.activity = if self.index == 0 { Activity::Running } else { Activity::WaitForSipi };
        self.shadow = Shadow::None;
        self.nmi_pending = false;
        self.nmi_blocked = false;
        self.pending_debug = 0;
        self.tlb.flush_all();
        self.mode_changed();
    }

    /// After a snapshot was put in: state that no instruction can produce is cut to what 32-bit modes have, and what is
    /// derived is derived again.
    pub fn restored(&mut self) {
        for (n, r) in self.gpr.iter_mut().enumerate() {
            *r &= if n < ZERO_REG { 0xffff_ffff } else { 0 };
        }
        for s in self.seg.iter_mut().chain([&mut self.ldtr, &mut self.tr]) {
            s.base &= 0xffff_ffff;
        }
        for r in [&mut self.rip, &mut self.next_rip, &mut self.cr3, &mut self.gdtr.base, &mut self.idtr.base] {
            *r &= 0xffff_ffff;
        }
        self.cpl &= 3;
        self.single = false;
        self.x87.restored();
        self.tlb.flush_all();
        self.mode_changed();
    }

    /// Family, model and stepping as CPUID leaf 1 reports them in EAX.
    #[must_use]
    pub fn signature(&self) -> u32 {
        match self.model {
            CpuModel::I486 => 0x0480,
            CpuModel::Pentium => 0x0543,
            CpuModel::PentiumIII => 0x0673,
            CpuModel::Pentium4 => 0x0f29,
            CpuModel::Nehalem => 0x1_06a5,
        }
    }

    // --- registers ---

    /// The low 32 bits of a general register.
    #[inline(always)]
    #[must_use]
    pub fn reg32(&self, n: usize) -> u32 {
        self.gpr[n & 255] as u32
    }

    /// Writes a 32-bit register (upper half cleared).
    #[inline(always)]
    pub fn set_reg32(&mut self, n: usize, value: u32) {
        self.gpr[n & 255] = value.into();
    }

    /// The low 16 bits of a general register.
    #[inline(always)]
    #[must_use]
    pub fn reg16(&self, n: usize) -> u16 {
        self.gpr[n & 255] as u16
    }

    /// Writes the low 16 bits, keeping the rest.
    #[inline(always)]
    pub fn set_reg16(&mut self, n: usize, value: u16) {
        let r = &mut self.gpr[n & 255];
        *r = (*r & !0xffff) | u64::from(value);
    }

    /// A byte register: bits 4:0 the register, bit 5 (20h) selects bits 15:8 (AH, CH, DH, BH).
    #[inline(always)]
    #[must_use]
    pub fn reg8(&self, n: u8) -> u8 {
        (self.gpr[usize::from(n & 31)] >> ((n & 0x20) >> 2)) as u8
    }

    /// Writes a byte register, numbered as for [`reg8`](Self::reg8).
    #[inline(always)]
    pub fn set_reg8(&mut self, n: u8, value: u8) {
        let shift = (n & 0x20) >> 2;
        let r = &mut self.gpr[usize::from(n & 31)];
        *r = (*r & !(0xff << shift)) | u64::from(value) << shift;
    }

    // --- flags ---

    /// The whole EFLAGS.
    #[must_use]
    pub fn eflags(&self) -> u32 {
        self.system_flags | self.lazy.flags() | flags::ALWAYS
    }

    /// Sets the whole EFLAGS (reserved bits are forced; no privilege checks).
    pub fn set_eflags(&mut self, value: u32) {
        let before = self.system_flags;
        self.system_flags = value & 0x003f_7700 | flags::ALWAYS;
        self.set_status(value);
        if (before ^ value) & (flags::VM | flags::AC) != 0 {
            self.mode_changed();
        }
    }

    /// Sets the six status flags.
    #[inline]
    pub fn set_status(&mut self, value: u32) {
        self.lazy = Lazy { op: LazyOp::Eager, res: 0, src: u64::from(value & flags::STATUS) };
    }

    /// Changes the status flags under `mask`.
    #[inline]
    pub fn set_status_bits(&mut self, mask: u32, value: u32) {
        let old = self.lazy.flags();
        self.set_status((old & !mask) | (value & mask));
    }

    /// Whether a system flag (IF, DF, TF, NT, VM, …) is set.
    #[inline(always)]
    #[must_use]
    pub fn flag(&self, bit: u32) -> bool {
        self.system_flags & bit != 0
    }

    /// I/O privilege level.
    #[must_use]
    pub fn iopl(&self) -> u8 {
        (self.system_flags >> 12 & 3) as u8
    }

    // --- mode ---

    /// CR0.PE set.
    #[inline]
    #[must_use]
    pub fn protected(&self) -> bool {
        self.cr0 & cr0::PE != 0
    }

    /// Virtual-8086 mode.
    #[inline]
    #[must_use]
    pub fn vm86(&self) -> bool {
        self.system_flags & flags::VM != 0
    }

    /// Real or virtual-8086 mode: segments are 16 × selector.
    #[inline]
    #[must_use]
    pub fn real_segments(&self) -> bool {
        !self.protected() || self.vm86()
    }

    /// CS.D: default operand and address size is 32 bits.
    #[inline]
    #[must_use]
    pub fn code32(&self) -> bool {
        self.seg[Seg::Cs as usize].big()
    }

    /// SS.B: the stack pointer is ESP, otherwise SP.
    #[inline]
    #[must_use]
    pub fn stack32(&self) -> bool {
        self.seg[Seg::Ss as usize].big()
    }

    /// A segment register.
    #[inline]
    #[must_use]
    pub fn segment(&self, seg: Seg) -> &Segment {
        &self.seg[seg as usize]
    }

    /// Replaces a segment register whole; no checks.
    pub fn set_segment(&mut self, seg: Seg, value: Segment) {
        self.seg[seg as usize] = value;
        self.mode_changed();
    }

    /// Sets the privilege level.
    pub fn set_cpl(&mut self, cpl: u8) {
        self.cpl = cpl;
        self.mode_changed();
    }

    /// Recomputes what depends on segments, CPL, CR0, DR7, EFLAGS.VM and EFLAGS.AC. Of the TLBs only what must be
    /// watched from now on is dropped.
    pub fn mode_changed(&mut self) {
        let align = self.cpl == 3 && self.cr0 & cr0::AM != 0 && self.flag(flags::AC);
        let breakpoints = self.data_breakpoints_enabled();
        let watched = [breakpoints, breakpoints || align];
        for (half, &on) in watched.iter().enumerate() {
            if on && !self.derived.watched[half] {
                self.tlb.flush_data(half);
            }
        }
        let real = self.real_segments();
        let mut flat = true;
        // In place: building it elsewhere and copying it are calls of the browser's.
        let d = &mut self.derived;
        (d.user, d.align, d.watched) = (u32::from(self.cpl == 3), align, watched);
        for seg in Seg::ALL {
            let (s, i) = (&self.seg[seg as usize], seg as usize);
            d.base[i] = s.base;
            let down = s.is_data() && s.rights & rights::CONFORMING_OR_DOWN != 0;
            let simple = s.present() && !down;
            // In real and virtual-8086 mode CS may be written through; its rights say so only in protected mode.
            let writable = s.writable() || real;
            let readable = s.readable() || real;
            d.read_max[i] = if simple && readable { s.limit.into() } else { -1 };
            d.write_max[i] = if simple && writable { s.limit.into() } else { -1 };
            flat &= match seg {
                Seg::Cs => s.flat(),
                Seg::Ss | Seg::Ds | Seg::Es => s.flat() && s.writable(),
                Seg::Fs | Seg::Gs => true,
            };
        }
        d.read_max[6] = i64::MAX;
        d.write_max[6] = i64::MAX;
        self.derived.mode = u32::from(self.code32()) * mode::CODE32
            | u32::from(self.stack32()) * mode::STACK32
            | u32::from(flat) * mode::FLAT
            | u32::from(!real) * mode::PROTECTED
            | u32::from(self.vm86()) * mode::VM86
            | u32::from(self.cpl == 3) * mode::USER;
    }
}
