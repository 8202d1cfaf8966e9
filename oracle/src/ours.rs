//! The core: runs a vector in 32-bit protected mode at privilege level 3, with paging, and says what became of it.
//!
//! The descriptor tables are those of a Linux process as far as user mode can see them. Exceptions are delivered
//! through gates to ring-0 code that halts; the outcome is read from the stack.

use crate::layout::{CODE, CODE_LEN, DATA, DATA_LEN, DATA_RW, EXIT, FILLER, LDT, LONG_CS, USER_CS, USER_DS};
use crate::vector::{Exception, FX_LEN, FX_MXCSR, FX_XMM, Outcome, Vector};
use emulator_core::bus::CpuBus;
use emulator_core::cpu::cache::CodeCache;
use emulator_core::cpu::state::{Activity, CpuModel, TableReg, cr0, cr4, efer};
use emulator_core::cpu::{Cpu, Seg, Segment};
use emulator_core::jit::{Counters, Heat, Jit, JitHost};
use emulator_core::mem::Memory;

/// The model that has everything.
pub const MODEL: CpuModel = CpuModel::Nehalem;

// Physical addresses.
const PDPT: u32 = 0x40_0000;
const DIRECTORY: u32 = 0x40_1000;
const TABLES: u32 = 0x40_2000;
const GDT: u32 = 0x40_8000;
const LDT_AT: u32 = 0x40_9000;
const IDT: u32 = 0x40_a000;
const TSS: u32 = 0x40_b000;
const STACK: u32 = 0x40_d000;
const HANDLERS: u32 = 0x40_e000;
const CODE_PHYS: u32 = 0x41_0000;
const EXIT_PHYS: u32 = 0x41_4000;
const DATA_PHYS: u32 = 0x41_8000;

/// Where ring 0 sees the first 8 MiB: linear equals physical plus this.
const KERNEL: u32 = 0xc000_0000;
const KERNEL_CS: u16 = 0x10;
const KERNEL_DS: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x40;
const LDT_SELECTOR: u16 = 0x50;

/// Portions of a REP instruction, and instructions, after which a vector is given up.
const LIMIT: u32 = 1 << 20;

struct Board {
    mem: Memory,
}

impl CpuBus for Board {
    fn mem(&self) -> &Memory {
        &self.mem
    }
    fn mem_mut(&mut self) -> &mut Memory {
        &mut self.mem
    }
    fn port_read(&mut self, _: usize, _: u64, _: u16, size: u8) -> u32 {
        u32::MAX >> (32 - 8 * u32::from(size))
    }
    fn port_write(&mut self, _: usize, _: u64, _: u16, _: u8, _: u32) {}
    fn mmio_read(&mut self, _: usize, _: u64, _: u64, size: u8) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(size))
    }
    fn mmio_write(&mut self, _: usize, _: u64, _: u64, _: u8, _: u64) {}
    fn interrupt_pending(&self, _: usize) -> bool {
        false
    }
    fn acknowledge_interrupt(&mut self, _: usize, _: u64) -> Option<u8> {
        None
    }
    fn tsc(&mut self, icount: u64) -> u64 {
        icount
    }
    fn apic_base(&self, _: usize) -> u64 {
        0
    }
    fn set_apic_base(&mut self, _: usize, _: u64) {}
}

/// One vCPU with its memory, ready for vectors.
pub struct Core {
    board: Board,
    cpu: Cpu,
    code: CodeCache,
    data: Box<[u8; DATA_LEN as usize]>,
}

fn flat(access: u64, flags: u64) -> u64 {
    0xffff | access << 40 | (flags << 4 | 0xf) << 48
}

impl Core {
    /// A machine that only has a CPU and memory. `exit_page` is the host's, or empty.
    #[must_use]
    pub fn new(exit_page: &[u8]) -> Core {
        let mem = Memory::new(8 << 20, &[]);
        let ram = mem.block();
        let page_tables =
            [(CODE, CODE_PHYS, CODE_LEN, 5u64), (EXIT, EXIT_PHYS, 0x1000, 5), (DATA, DATA_PHYS, DATA_RW, 7 | 1 << 63)];
        for entry in 0..4 {
            // One directory for the first GiB, another for the last, where ring 0 is.
            let directory = if entry == 0 { DIRECTORY } else { TABLES };
            let present = u64::from(entry == 0 || entry == 3);
            ram.write_u64(PDPT + 8 * entry, u64::from(directory) | present);
        }
        for n in 0..4 {
            ram.write_u64(TABLES + 8 * n, u64::from(n << 21) | 0xe3);
        }
        for (n, (linear, physical, length, rights)) in page_tables.into_iter().enumerate() {
            let table = TABLES + 0x1000 * (n as u32 + 1);
            ram.write_u64(DIRECTORY + 8 * (linear >> 21), u64::from(table) | 0x67);
            for page in 0..length >> 12 {
                ram.write_u64(
                    table + 8 * ((linear >> 12 & 511) + page),
                    u64::from(physical + (page << 12)) | rights | 0x60,
                );
            }
            if linear == DATA {
                for page in DATA_RW >> 12..DATA_LEN >> 12 {
                    let entry = u64::from(physical + (page << 12)) | 0x65 | 1 << 63;
                    ram.write_u64(table + 8 * ((linear >> 12 & 511) + page), entry);
                }
            }
        }
        // Linux's GDT: kernel code 32 and 64, kernel data, user code 32, user data, user code 64.
        let table =
            [flat(0x9b, 0xc), flat(0x9b, 0xa), flat(0x93, 0xc), flat(0xfb, 0xc), flat(0xf3, 0xc), flat(0xfb, 0xa)];
        for (n, raw) in table.into_iter().enumerate() {
            ram.write_u64(GDT + 8 * (n as u32 + 1), raw);
        }
        // Our ring 0 is 32-bit.
        ram.write_u64(GDT + u32::from(KERNEL_CS), flat(0x9b, 0xc));
        let system = |at: u32, limit: u32, access: u64| {
            u64::from(limit & 0xffff) | u64::from(at & 0xff_ffff) << 16 | access << 40 | u64::from(at >> 24) << 56
        };
        ram.write_u64(GDT + u32::from(TSS_SELECTOR), system(KERNEL + TSS, 0x67, 0x89));
        ram.write_u64(GDT + u32::from(LDT_SELECTOR), system(KERNEL + LDT_AT, 8 * LDT.len() as u32 - 1, 0x82));
        for (n, entry) in LDT.iter().enumerate() {
            ram.write_u64(LDT_AT + 8 * n as u32, entry.map_or(0, |d| d.raw()));
        }
        ram.write_u32(TSS + 4, KERNEL + STACK);
        ram.write_u32(TSS + 8, KERNEL_DS.into());
        ram.write_u16(TSS + 0x66, 0x68);
        for vector in 0..256u32 {
            let handler = KERNEL + HANDLERS + 16 * vector;
            let access: u64 = if vector == 3 || vector == 4 { 0xee } else { 0x8e };
            let gate = u64::from(handler & 0xffff)
                | u64::from(KERNEL_CS) << 16
                | access << 40
                | u64::from(handler >> 16) << 48;
            ram.write_u64(IDT + 8 * vector, gate);
            ram.write_u8(HANDLERS + 16 * vector, 0xf4);
        }
        ram.fill(CODE_PHYS, CODE_LEN, FILLER);
        ram.fill(EXIT_PHYS, 0x1000, FILLER);
        ram.write(EXIT_PHYS, &exit_page[..exit_page.len().min(0x1000)]);
        let mut core = Core {
            board: Board { mem },
            cpu: Cpu::new(0, MODEL),
            code: CodeCache::default(),
            data: Box::new([0; DATA_LEN as usize]),
        };
        core.enter_protected_mode();
        core
    }

    /// The same with the fast tier on `host`, which translates every block at once. It must stay in its box.
    #[must_use]
    pub fn translating(host: Box<dyn JitHost>) -> Box<Core> {
        let mut core = Box::new(Core::new(&[]));
        let at_once = Heat { threshold: 0, seed: 0 };
        core.code.jit = Some(Box::new(Jit::new(host, at_once, &core.cpu, &core.board.mem)));
        core
    }

    /// What the fast tier counted.
    #[must_use]
    pub fn translator(&self) -> Counters {
        self.code.jit.as_ref().map(|jit| jit.counters()).unwrap_or_default()
    }

    fn enter_protected_mode(&mut self) {
        let cpu = &mut self.cpu;
        cpu.gdtr = TableReg { base: (KERNEL + GDT).into(), limit: 127 };
        cpu.idtr = TableReg { base: (KERNEL + IDT).into(), limit: 0x7ff };
        cpu.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
        cpu.cr4 = cr4::PAE | cr4::PSE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        cpu.efer = efer::NXE;
        cpu.cr3 = PDPT.into();
        let loaded = cpu.load_pdptes(&mut self.board, PDPT.into());
        assert!(loaded.is_ok(), "the tables are well-formed");
        let raw = |mem: &Memory, at: u32| mem.block().read_u64(at);
        let mem = &self.board.mem;
        cpu.tr = Segment::from_descriptor(TSS_SELECTOR, raw(mem, GDT + u32::from(TSS_SELECTOR)) | 2 << 40);
        cpu.ldtr = Segment::from_descriptor(LDT_SELECTOR, raw(mem, GDT + u32::from(LDT_SELECTOR)));
        cpu.mode_changed();
    }

    fn segment(&self, selector: u16) -> Segment {
        if selector & !3 == 0 {
            return Segment::null(selector);
        }
        let table = if selector & 4 != 0 { LDT_AT } else { GDT };
        Segment::from_descriptor(selector, self.board.mem.block().read_u64(table + u32::from(selector & 0xfff8)))
    }

    /// Runs a vector on data pages that hold `data`. The pages afterwards are in [`data`](Self::data).
    pub fn run(&mut self, vector: &Vector, data: &[u8; DATA_LEN as usize]) -> Outcome {
        let code = vector.code_bytes();
        let at = u64::from(CODE_PHYS + vector.at - CODE);
        self.board.mem.dma_write(at, &code);
        let outcome = self.run_placed(vector, data);
        self.board.mem.dma_write(at, &vec![FILLER; code.len()]);
        outcome
    }

    /// Makes the code pages hold the code of these vectors and nothing else. Translations begin afresh, and nobody
    /// remembers that the pages were overwritten.
    pub fn place<'a>(&mut self, vectors: impl Iterator<Item = &'a Vector>) {
        if let Some(jit) = &mut self.code.jit {
            jit.clear();
        }
        self.code.clear();
        let mut page = [FILLER; CODE_LEN as usize];
        for vector in vectors {
            let code = vector.code_bytes();
            let at = (vector.at - CODE) as usize;
            page[at..at + code.len()].copy_from_slice(&code);
        }
        self.board.mem.dma_write(CODE_PHYS.into(), &page);
    }

    /// Runs a vector whose code was [placed](Self::place).
    pub fn run_placed(&mut self, vector: &Vector, data: &[u8; DATA_LEN as usize]) -> Outcome {
        self.board.mem.block().write(DATA_PHYS, data);
        for (seg, selector) in Seg::ALL.into_iter().zip(vector.sel) {
            let segment = self.segment(selector);
            if *self.cpu.segment(seg) != segment {
                self.cpu.seg[seg as usize] = segment;
            }
        }
        let cpu = &mut self.cpu;
        cpu.cpl = 3;
        cpu.activity = Activity::Running;
        for (out, value) in cpu.gpr.iter_mut().zip(vector.gpr) {
            *out = value.into();
        }
        cpu.set_eflags(vector.flags);
        cpu.mode_changed();
        cpu.rip = vector.eip().into();
        cpu.next_rip = cpu.rip;
        cpu.cr2 = 0;
        let mut x87 = [0; FX_XMM];
        x87.copy_from_slice(&vector.fx[..FX_XMM]);
        cpu.x87.fxrstor(&x87, false);
        cpu.mxcsr = word(&vector.fx, FX_MXCSR);
        for (xmm, bytes) in cpu.xmm.iter_mut().zip(vector.fx[FX_XMM..].chunks_exact(16)) {
            *xmm = bytes.iter().rev().fold(0, |v, b| v << 8 | u128::from(*b));
        }
        let (start, end) = (u64::from(vector.eip()), u64::from(vector.end()));
        let mut rounds = 0;
        while cpu.cpl == 3 && (start..end).contains(&cpu.rip) && rounds < LIMIT {
            let until = cpu.icount + u64::from(vector.count);
            cpu.run(&mut self.board, &mut self.code, until);
            rounds += 1;
        }
        self.board.mem.block().read(DATA_PHYS, &mut self.data[..]);
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        let cpu = &self.cpu;
        let mut outcome = Outcome {
            eip: cpu.rip as u32,
            gpr: std::array::from_fn(|n| cpu.reg32(n)),
            flags: cpu.eflags(),
            sel: Seg::ALL.map(|seg| cpu.segment(seg).selector),
            fx: [0; FX_LEN],
            exception: None,
        };
        outcome.fx[..FX_XMM].copy_from_slice(&cpu.x87.fxsave(false));
        outcome.fx[FX_MXCSR..FX_MXCSR + 4].copy_from_slice(&cpu.mxcsr.to_le_bytes());
        for (slot, xmm) in outcome.fx[FX_XMM..].chunks_exact_mut(16).zip(&cpu.xmm) {
            slot.copy_from_slice(&xmm.to_le_bytes());
        }
        if cpu.cpl == 3 {
            return outcome;
        }
        // At the handler, or behind its HLT.
        let number = (cpu.rip as u32).wrapping_sub(KERNEL + HANDLERS) >> 4;
        let stack = |n: u32| self.board.mem.block().read_u32(STACK - 20 + 4 * n);
        let has_code = cpu.reg32(4) == KERNEL + STACK - 24;
        (outcome.eip, outcome.flags, outcome.gpr[4]) = (stack(0), stack(2), stack(3));
        (outcome.sel[1], outcome.sel[2]) = (stack(1) as u16, stack(4) as u16);
        let mut exception = Exception {
            vector: number as u8,
            code: if has_code { self.board.mem.block().read_u32(STACK - 24) } else { 0 },
            address: if number == 14 { cpu.cr2 as u32 } else { 0 },
        };
        if exception.address.wrapping_sub(KERNEL) < 8 << 20 {
            // The host has nothing there, and ring 0 needs some place.
            exception.code &= !1;
        }
        outcome.exception = Some(exception);
        outcome
    }

    /// The data pages as the last vector left them.
    #[must_use]
    pub fn data(&self) -> &[u8; DATA_LEN as usize] {
        &self.data
    }
}

/// A double word of an FXSAVE area.
#[must_use]
pub fn word(fx: &[u8; FX_LEN], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| fx[at + n]))
}

const _: () = assert!(USER_CS == 0x23 && USER_DS == 0x2b && LONG_CS == 0x33, "the order of the GDT above");
