//! A bench for CPU tests: one CPU, 4 MiB of memory, ports that record, and helpers that build tables.
//!
//! Memory map: GDT 1000h, IDT 2000h, LDT 3000h, current TSS 4000h, a second TSS 7000h, stacks of rings 0,
//! 1 and 3 below 9000h, A000h and B000h, page directory 10000h.

use super::cache::CodeCache;
use super::fault::{Exec, Fault};
use super::segment::{Seg, Segment};
use super::state::{Cpu, CpuModel, RSP, TableReg, cr0};
use super::{Delivered, flags};
use crate::bus::CpuBus;
use crate::mem::Memory;

pub const GDT: u32 = 0x1000;
pub const IDT: u32 = 0x2000;
pub const LDT: u32 = 0x3000;
pub const TSS: u32 = 0x4000;
pub const TSS2: u32 = 0x7000;
pub const STACK0: u32 = 0x9000;
pub const STACK1: u32 = 0xa000;
pub const STACK3: u32 = 0xb000;
pub const PAGE_DIRECTORY: u32 = 0x1_0000;
/// Where code "is": rip of a test's instruction.
pub const CODE_AT: u32 = 0x2_0000;

// Selectors of the GDT.
pub const CODE0: u16 = 0x08;
pub const DATA0: u16 = 0x10;
pub const CODE3: u16 = 0x1b;
pub const DATA3: u16 = 0x23;
pub const TASK: u16 = 0x28;
pub const CODE1: u16 = 0x31;
pub const DATA1: u16 = 0x39;
/// Conforming, DPL 0.
pub const CONFORMING: u16 = 0x40;
/// 16-bit, 64 KiB, base 0.
pub const CODE16: u16 = 0x48;
/// 16-bit, 64 KiB, base 0.
pub const STACK16: u16 = 0x50;
pub const LDT_SELECTOR: u16 = 0x58;
/// Not present: data DPL 0.
pub const ABSENT: u16 = 0x60;
/// Read-only data, DPL 3.
pub const READ_ONLY: u16 = 0x68;
/// Execute-only code, DPL 3.
pub const EXECUTE_ONLY: u16 = 0x70;
pub const TASK2: u16 = 0x78;
/// Free for the test.
pub const FREE: u16 = 0x80;
/// Free for the test.
pub const FREE2: u16 = 0x88;
/// Outside the GDT.
pub const OUTSIDE: u16 = 0x800;
/// Handlers of [`Lab::handlers`]: vector `v` at `HANDLERS + 16 * v`.
pub const HANDLERS: u32 = 0x3_0000;

/// A code, data or system descriptor. `limit` in units of `flags` bit 3 (granularity); `flags` are G, D/B, L, AVL.
pub fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    u64::from(limit & 0xffff)
        | u64::from(base & 0xff_ffff) << 16
        | u64::from(access) << 40
        | u64::from(limit >> 16 & 15) << 48
        | u64::from(flags) << 52
        | u64::from(base >> 24) << 56
}

/// A flat 32-bit descriptor with this access byte.
pub fn flat(access: u8) -> u64 {
    descriptor(0, 0xf_ffff, access, 0xc)
}

/// A gate. `access` is present, DPL and type.
pub fn gate(access: u8, selector: u16, offset: u32, params: u8) -> u64 {
    u64::from(offset & 0xffff)
        | u64::from(selector) << 16
        | u64::from(params) << 32
        | u64::from(access) << 40
        | u64::from(offset >> 16) << 48
}

/// A bus with memory, recorded port traffic and nothing else.
pub struct TestBus {
    pub mem: Memory,
    /// (port, size, value) of each OUT.
    pub written: Vec<(u16, u8, u32)>,
    /// (port, size) of each IN.
    pub read: Vec<(u16, u8)>,
    pub apic_base: u64,
    pub tsc: u64,
    /// An external interrupt that waits.
    pub interrupt: Option<u8>,
}

impl CpuBus for TestBus {
    fn mem(&self) -> &Memory {
        &self.mem
    }
    fn mem_mut(&mut self) -> &mut Memory {
        &mut self.mem
    }
    fn port_read(&mut self, _cpu: usize, _icount: u64, port: u16, size: u8) -> u32 {
        self.read.push((port, size));
        0x1234_5678
    }
    fn port_write(&mut self, _cpu: usize, _icount: u64, port: u16, size: u8, value: u32) {
        self.written.push((port, size, value));
    }
    fn mmio_read(&mut self, _cpu: usize, _icount: u64, _addr: u64, _size: u8) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _cpu: usize, _icount: u64, _addr: u64, _size: u8, _value: u64) {}
    fn interrupt_pending(&self, _cpu: usize) -> bool {
        self.interrupt.is_some()
    }
    fn acknowledge_interrupt(&mut self, _cpu: usize, _icount: u64) -> Option<u8> {
        self.interrupt.take()
    }
    fn tsc(&mut self, _icount: u64) -> u64 {
        self.tsc
    }
    fn apic_base(&self, _cpu: usize) -> u64 {
        self.apic_base
    }
    fn set_apic_base(&mut self, _cpu: usize, value: u64) {
        self.apic_base = value;
    }
}

/// A CPU on a bench.
pub struct Lab {
    pub cpu: Cpu,
    pub bus: TestBus,
    pub code: CodeCache,
}

impl Lab {
    /// Real mode, CS = 2000h, SS:SP = 0:9000h, IVT entry n = 3000h:(100h + n).
    pub fn real() -> Self {
        Self::real_model(CpuModel::PentiumIII)
    }

    pub fn real_model(model: CpuModel) -> Self {
        let mut lab = Self {
            cpu: Cpu::new(0, model),
            bus: TestBus {
                mem: Memory::new(4 << 20, &[]),
                written: Vec::new(),
                read: Vec::new(),
                apic_base: 0xfee0_0900,
                tsc: 1_000_000,
                interrupt: None,
            },
            code: CodeCache::default(),
        };
        lab.cpu.single = true;
        for seg in Seg::ALL {
            lab.cpu.set_segment(seg, Segment::real(0));
        }
        lab.cpu.set_segment(Seg::Cs, Segment::real(0x2000));
        lab.cpu.set_reg32(RSP, STACK0);
        for n in 0..256 {
            lab.write32(n * 4, 0x3000_0100 + n);
        }
        lab.at(0x10, 2);
        lab
    }

    /// Protected mode, ring 0, all segments flat, interrupts on; every IDT entry absent.
    pub fn protected() -> Self {
        let mut lab = Self::real();
        let table = [
            (CODE0, flat(0x9a)),
            (DATA0, flat(0x92)),
            (CODE3, flat(0xfa)),
            (DATA3, flat(0xf2)),
            (TASK, descriptor(TSS, 0x2100, 0x89, 0)),
            (CODE1, flat(0xba)),
            (DATA1, flat(0xb2)),
            (CONFORMING, flat(0x9e)),
            (CODE16, descriptor(0, 0xffff, 0x9a, 0)),
            (STACK16, descriptor(0, 0xffff, 0x92, 0)),
            (LDT_SELECTOR, descriptor(LDT, 0xff, 0x82, 0)),
            (ABSENT, flat(0x12)),
            (READ_ONLY, flat(0xf0)),
            (EXECUTE_ONLY, flat(0xf8)),
            (TASK2, descriptor(TSS2, 0x67, 0x89, 0)),
        ];
        for (selector, raw) in table {
            lab.set_descriptor(selector, raw);
        }
        for n in 0..256 {
            lab.write64(IDT + n * 8, 0);
        }
        lab.write32(TSS + 4, STACK0);
        lab.write32(TSS + 8, DATA0.into());
        lab.write32(TSS + 12, STACK1);
        lab.write32(TSS + 16, DATA1.into());
        // I/O bitmap behind 32 bytes of interrupt redirection map; all permitted, all sent to the 8086 program.
        lab.write16(TSS + 0x66, 0x88);
        lab.cpu.gdtr = TableReg { base: GDT.into(), limit: 0x7ff };
        lab.cpu.idtr = TableReg { base: IDT.into(), limit: 0x7ff };
        lab.cpu.cr0 |= cr0::PE;
        lab.cpu.cr0 &= !(cr0::CD | cr0::NW);
        lab.cpu.mode_changed();
        for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs, Seg::Ss] {
            lab.ok(|c, b| c.load_segment(b, seg, DATA0));
        }
        lab.ok(|c, b| c.far_jump(b, CODE0, CODE_AT, true));
        lab.ok(|c, b| c.ltr(b, TASK));
        lab.cpu.set_reg32(RSP, STACK0);
        lab.cpu.set_eflags(flags::IF);
        lab.at(CODE_AT, 2);
        lab
    }

    /// Protected mode at privilege level 1 or 3.
    pub fn ring(cpl: u8) -> Self {
        let mut lab = Self::protected();
        let (code, data, sp) = if cpl == 3 { (CODE3, DATA3, STACK3) } else { (CODE1, DATA1, STACK1) };
        let raw = |lab: &mut Self, s: u16| lab.read64(GDT + u32::from(s & 0xfff8));
        let code = Segment::from_descriptor(code, raw(&mut lab, code) | 1 << 40);
        let data = Segment::from_descriptor(data, raw(&mut lab, data) | 1 << 40);
        for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs, Seg::Ss] {
            lab.cpu.set_segment(seg, data);
        }
        lab.cpu.set_segment(Seg::Cs, code);
        lab.cpu.set_cpl(cpl);
        lab.cpu.set_reg32(RSP, sp);
        lab
    }

    /// Virtual-8086 mode: CS 2000h, SS:SP = 1000h:800h, DS 1111h, ES 2222h, FS 3333h, GS 4444h.
    pub fn vm86(iopl: u32) -> Self {
        let mut lab = Self::protected();
        lab.cpu.set_eflags(flags::VM | flags::IF | iopl << 12);
        lab.cpu.set_cpl(3);
        let segments = [
            (Seg::Cs, 0x2000),
            (Seg::Ss, 0x1000),
            (Seg::Ds, 0x1111),
            (Seg::Es, 0x2222),
            (Seg::Fs, 0x3333),
            (Seg::Gs, 0x4444),
        ];
        for (seg, selector) in segments {
            lab.cpu.set_segment(seg, Segment::vm86(selector));
        }
        lab.cpu.set_reg32(RSP, 0x800);
        lab.at(0x10, 2);
        lab
    }

    /// Puts the current instruction at `rip`, `len` bytes long.
    pub fn at(&mut self, rip: u32, len: u32) {
        self.cpu.rip = rip.into();
        self.cpu.next_rip = u64::from(rip + len);
    }

    pub fn set_descriptor(&mut self, selector: u16, raw: u64) {
        let table = if selector & 4 != 0 { LDT } else { GDT };
        self.write64(table + u32::from(selector & 0xfff8), raw);
    }

    pub fn set_gate(&mut self, vector: u8, raw: u64) {
        self.write64(IDT + u32::from(vector) * 8, raw);
    }

    /// Identity-maps the first 4 MiB with user rights through 4 KiB pages and turns paging on.
    pub fn enable_paging(&mut self) {
        for i in 0..1024 {
            self.write32(PAGE_DIRECTORY + 0x1000 + 4 * i, i << 12 | 7);
        }
        self.write32(PAGE_DIRECTORY, (PAGE_DIRECTORY + 0x1000) | 7);
        self.cpu.cr3 = PAGE_DIRECTORY.into();
        self.cpu.cr0 |= cr0::PG | cr0::WP;
        self.cpu.tlb.flush_all();
    }

    /// Rewrites the page-table entry of `lin`.
    pub fn set_page(&mut self, lin: u32, flags: u32) {
        self.write32(PAGE_DIRECTORY + 0x1000 + (lin >> 12) * 4, lin & !0xfff | flags);
        self.cpu.tlb.flush_all();
    }

    /// Runs one instruction; it must succeed.
    #[track_caller]
    pub fn ok<T>(&mut self, f: impl FnOnce(&mut Cpu, &mut TestBus) -> Exec<T>) -> T {
        match f(&mut self.cpu, &mut self.bus) {
            Ok(value) => {
                self.cpu.rip = self.cpu.next_rip;
                value
            }
            Err(fault) => panic!("unexpected fault {} code {:x?}", fault.vector(), fault.code()),
        }
    }

    /// Runs one instruction; it must fault so and leave the CPU's state alone.
    #[track_caller]
    pub fn faults<T: std::fmt::Debug>(&mut self, expected: Fault, f: impl FnOnce(&mut Cpu, &mut TestBus) -> Exec<T>) {
        let state = |cpu: &Cpu| {
            let mut cpu = cpu.clone();
            cpu.cr2 = 0;
            serde_json::to_string(&cpu).expect("state serialises")
        };
        let before = state(&self.cpu);
        let result = f(&mut self.cpu, &mut self.bus);
        let Err(fault) = result else { panic!("no fault: {result:?}") };
        assert_eq!((fault.vector(), fault.code()), (expected.vector(), expected.code()));
        assert_eq!(before, state(&self.cpu), "a fault changed the state");
    }

    /// Delivers a fault of the current instruction.
    pub fn deliver(&mut self, fault: Fault) -> Delivered {
        self.cpu.deliver(&mut self.bus, fault)
    }

    /// Fills the IDT with interrupt gates for all vectors.
    pub fn handlers(&mut self) {
        for v in 0..=255u8 {
            self.set_gate(v, gate(0xee, CODE0, HANDLERS + 16 * u32::from(v), 0));
        }
    }

    /// The vector whose handler from [`handlers`](Self::handlers) comes next.
    pub fn vector(&self) -> Option<u8> {
        let at = (self.cpu.rip as u32).wrapping_sub(HANDLERS);
        (at < 0x1000 && at.is_multiple_of(16) && self.cpu.cpl == 0).then_some((at / 16) as u8)
    }

    /// Puts code at CS:`rip`.
    pub fn code(&mut self, bytes: &[u8]) {
        let at = self.cpu.segment(Seg::Cs).base as u32 + self.cpu.rip as u32;
        self.bus.mem.block().write(at, bytes);
        self.bus.mem.note_store(at, bytes.len() as u32);
    }

    /// Executes the instruction at CS:`rip` alone, with the traps that follow it.
    pub fn step(&mut self) {
        self.cpu.single = false;
        self.cpu.step(&mut self.bus, &mut self.code);
    }

    /// Runs until `n` more instructions have retired, as a machine does: with interrupts and by blocks.
    pub fn run(&mut self, n: u64) {
        self.cpu.single = false;
        let until = self.cpu.icount + n;
        self.cpu.run(&mut self.bus, &mut self.code, until);
    }

    /// Puts one instruction at CS:`rip` and executes it; the vector that it ended in, if any.
    pub fn execute(&mut self, bytes: &[u8]) -> Option<u8> {
        self.code(bytes);
        self.step();
        self.vector()
    }

    pub fn selector(&self, seg: Seg) -> u16 {
        self.cpu.segment(seg).selector
    }

    /// Double words on the stack, top first.
    pub fn stack32(&self, n: usize) -> Vec<u32> {
        let at = self.cpu.segment(Seg::Ss).base as u32 + self.cpu.sp();
        (0..n as u32).map(|i| self.read32(at + 4 * i)).collect()
    }

    /// Words on the stack, top first.
    pub fn stack16(&self, n: usize) -> Vec<u16> {
        let at = self.cpu.segment(Seg::Ss).base as u32 + self.cpu.sp();
        (0..n as u32).map(|i| self.read16(at + 2 * i)).collect()
    }

    /// Pushes double words, last first, so that the first is on top.
    pub fn put_stack32(&mut self, words: &[u32]) {
        for &w in words.iter().rev() {
            let (cpu, bus) = (&mut self.cpu, &mut self.bus);
            cpu.push32(bus, w).expect("stack is writable");
        }
    }

    /// Pushes words, last first.
    pub fn put_stack16(&mut self, words: &[u16]) {
        for &w in words.iter().rev() {
            let (cpu, bus) = (&mut self.cpu, &mut self.bus);
            cpu.push16(bus, w).expect("stack is writable");
        }
    }

    pub fn read16(&self, at: u32) -> u16 {
        self.bus.mem.block().read_u16(at)
    }
    pub fn read32(&self, at: u32) -> u32 {
        self.bus.mem.block().read_u32(at)
    }
    pub fn read64(&self, at: u32) -> u64 {
        self.bus.mem.block().read_u64(at)
    }
    pub fn write16(&mut self, at: u32, value: u16) {
        self.bus.mem.block().write_u16(at, value);
        self.bus.mem.note_store(at, 2);
    }
    pub fn write32(&mut self, at: u32, value: u32) {
        self.bus.mem.block().write_u32(at, value);
        self.bus.mem.note_store(at, 4);
    }
    pub fn write64(&mut self, at: u32, value: u64) {
        self.bus.mem.block().write_u64(at, value);
        self.bus.mem.note_store(at, 8);
    }
}
