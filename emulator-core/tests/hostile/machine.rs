//! Hostile guests: random code in every mode over random tables, on a whole machine, from a seed.
//!
//! A round's firmware sets up one mode (real, protected 16- or 32-bit at any ring, virtual-8086; with or without paging)
//! with tables that are partly nonsense, and jumps to a random place in 64 KiB of code that is half random bytes, half
//! instructions that would hurt: system instructions, far transfers, port traffic, writes to code and tables. Handlers
//! jump to the next random place, so that a round goes on after a fault. Nothing that the guest does may panic the host,
//! keep it longer than it asked for, or reach outside the machine.

use emulator_core::bus::CpuBus;
use emulator_core::cpu::state::CpuModel;
use emulator_core::devices::block::MemoryBlock;
use emulator_core::devices::i8042::Key;
use emulator_core::machine::{ClockMode, DriveConfig, Exit, Machine, MachineConfig, NetworkConfig, NetworkKind};

const RAM: u64 = 4 << 20;
const SEED: u32 = 0x4000;
const GDT: u32 = 0x5000;
const IDT: u32 = 0x6000;
const LDT: u32 = 0x7000;
const TSS: u32 = 0x8000;
const TSS16: u32 = 0xb000;
const TSS2: u32 = 0xb100;
const CODE: u32 = 0x1_0000;
const DIRECTORY: u32 = 0x2_0000;
const PAE_TABLES: u32 = 0x2_8000;
const STACK: u32 = 0x3_f000;
const ROM: u32 = 0xf_0000;
const ROM_LEN: usize = 0x1_0000;
/// Offsets in the firmware.
const ENTRY32: u16 = 0;
const FIRST32: u16 = 0x800;
const ENTRY16: u16 = 0x1000;
const INIT: u16 = 0x2000;
const POINTERS: u16 = 0x3000;
/// Most instructions of one round.
const ROUND: u64 = 400_000;

/// A small reproducible generator (xorshift64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; any will do.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    fn word(&mut self) -> u32 {
        (self.next() >> 8) as u32
    }
    /// An address that mostly means something.
    fn address(&mut self) -> u32 {
        match self.below(10) {
            0 => self.word(),
            1 => {
                self.pick(&[0xa_0000, 0xb_8000, 0xc_0000, 0xf_0000, 0xfee0_0000, 0xfec0_0000, 0xfed0_0000, 0xe000_0000])
                    + self.below(0x400) as u32
            }
            2 => self.below(0x4000) as u32 * 0x1000 + 0xff0 + self.below(16) as u32,
            3 => self.pick(&[GDT, IDT, LDT, TSS, TSS16, TSS2, DIRECTORY, PAE_TABLES]) + self.below(0x800) as u32,
            4 => CODE + self.below(0x1_0000) as u32,
            _ => self.below(0x4_0000) as u32,
        }
    }
    fn selector(&mut self) -> u16 {
        match self.below(12) {
            0 => self.next() as u16,
            1 => 0,
            _ => (self.below(20) * 8) as u16 | self.pick(&[0, 0, 1, 3, 3, 2]) | u16::from(self.one_in(5)) << 2,
        }
    }
}

/// How a round begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Real,
    Protected { ring: u8, wide: bool },
    Vm86,
}

/// Bytes of code under construction.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn b(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn w(&mut self, value: u16) -> &mut Self {
        self.b(&value.to_le_bytes())
    }
    fn d(&mut self, value: u32) -> &mut Self {
        self.b(&value.to_le_bytes())
    }
}

fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    u64::from(limit & 0xffff)
        | u64::from(base & 0xff_ffff) << 16
        | u64::from(access) << 40
        | u64::from(limit >> 16 & 15) << 48
        | u64::from(flags) << 52
        | u64::from(base >> 24) << 56
}

fn gate(access: u8, selector: u16, offset: u32, params: u8) -> u64 {
    u64::from(offset & 0xffff)
        | u64::from(selector) << 16
        | u64::from(params) << 32
        | u64::from(access) << 40
        | u64::from(offset >> 16) << 48
}

fn random_descriptor(r: &mut Random) -> u64 {
    let access = r.next() as u8 | if r.one_in(4) { 0 } else { 0x80 };
    match r.below(5) {
        0 => r.next(),
        1 => gate(access, r.selector(), ROM + u32::from(ENTRY32), r.next() as u8),
        2 => gate(r.pick(&[0xe4, 0xec, 0xe5, 0x8c]), r.pick(&[8, 0x30, 0x28, 0x78]), r.address(), r.below(32) as u8),
        3 => descriptor(r.address(), r.word() & 0xf_ffff, access, r.next() as u8),
        _ => descriptor(0, 0xf_ffff, access, 0xc),
    }
}

/// The firmware of a round.
fn firmware(r: &mut Random, mode: Mode, model: CpuModel) -> Vec<u8> {
    let mut rom = vec![0xf4; ROM_LEN];
    let mut put = |at: u16, code: &Code| rom[usize::from(at)..usize::from(at) + code.0.len()].copy_from_slice(&code.0);
    let eflags =
        2 | r.word() & 0x0024_7cd5 | if r.one_in(12) { 0x100 } else { 0 } | if r.one_in(2) { 0x200 } else { 0 };

    let mut c = Code::default();
    // Flat segments and a stack, end of interrupt, the next random number, a frame, registers, IRETD.
    c.b(&[0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc]).d(STACK);
    c.b(&[0xb0, 0x20, 0xe6, 0x20, 0xe6, 0xa0, 0xa1]).d(SEED).b(&[0x69, 0xc0]).d(1_664_525).b(&[0x05]).d(1_013_904_223);
    c.b(&[0xa3]).d(SEED);
    let mut base = CODE;
    match mode {
        Mode::Vm86 => {
            base = 0;
            // GS, FS, DS, ES, SS, ESP.
            for word in [0x1000, 0x2000, 0x1000, 0x0400, 0x3000, 0xefff] {
                c.b(&[0x68]).d(word);
            }
            c.b(&[0x68]).d(eflags | 0x2_0000).b(&[0x68]).d(CODE >> 4);
        }
        Mode::Protected { ring, wide } => {
            let (cs, ss) = match (ring, wide) {
                (0, true) => (0x08, 0x10),
                (0, false) => (0x48, 0x50),
                (1, _) => (0x31, 0x39),
                (_, true) => (0x1b, 0x23),
                _ => (0x83, 0x8b),
            };
            if !wide {
                base = 0;
            }
            if ring != 0 {
                c.b(&[0x68]).d(ss).b(&[0x68]).d(0xf000);
            }
            c.b(&[0x68]).d(eflags).b(&[0x68]).d(cs);
        }
        Mode::Real => {}
    }
    c.b(&[0x89, 0xc2, 0xc1, 0xea, 0x10, 0x81, 0xc2]).d(base).b(&[0x52]);
    c.b(&[0x89, 0xc1, 0x0f, 0xc9, 0x81, 0xe1]).d(0x3ff);
    c.b(&[0x89, 0xc6, 0x81, 0xe6]).d(0x3_ffff).b(&[0x89, 0xcf, 0xc1, 0xe7, 7, 0x8d, 0x1c, 0x37]);
    c.b(&[0xcf]);
    put(ENTRY32, &c);

    let mut c = Code::default();
    c.b(&[0x66, 0xb8, 0x28, 0, 0x0f, 0x00, 0xd8, 0x66, 0xb8, 0x58, 0, 0x0f, 0x00, 0xd0]);
    for n in 0..4u8 {
        c.b(&[0xb8]).d(r.address()).b(&[0x0f, 0x23, 0xc0 | n << 3]);
    }
    let dr7 = if r.one_in(4) { r.word() } else { 0 };
    c.b(&[0xb8]).d(dr7).b(&[0x0f, 0x23, 0xf8]);
    if model >= CpuModel::PentiumIII {
        for (msr, value) in [(0x174, 8), (0x175, STACK), (0x176, ROM + u32::from(ENTRY32))] {
            c.b(&[0xb9]).d(msr).b(&[0xb8]).d(value).b(&[0x31, 0xd2, 0x0f, 0x30]);
        }
    }
    let behind = u32::from(FIRST32) + c.0.len() as u32 + 5;
    c.b(&[0xe9]).d(u32::from(ENTRY32).wrapping_sub(behind));
    put(FIRST32, &c);

    let mut c = Code::default();
    c.b(&[0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0, 0xf0, 0xb0, 0x20, 0xe6, 0x20]);
    c.b(&[0x66, 0xa1]).w(SEED as u16).b(&[0x66, 0x69, 0xc0]).d(1_664_525).b(&[0x66, 0x05]).d(1_013_904_223);
    c.b(&[0x66, 0xa3]).w(SEED as u16).b(&[0x68]).w(eflags as u16).b(&[0x68]).w((CODE >> 4) as u16);
    c.b(&[0x66, 0xc1, 0xe8, 0x10, 0x50, 0x89, 0xc1, 0x89, 0xc6, 0x89, 0xc7, 0x86, 0xe9, 0x81, 0xe1, 0xff, 0x03, 0xcf]);
    put(ENTRY16, &c);

    let mut cr4 = r.word() & 0x7ff;
    let paging = r.one_in(2);
    if r.one_in(2) {
        cr4 &= !0x20;
    }
    cr4 &= match model {
        CpuModel::I486 => 3,
        CpuModel::Pentium => 0x5f,
        _ => 0x7ff,
    };
    let cr3 = if cr4 & 0x20 != 0 { PAE_TABLES } else { DIRECTORY };
    let cr0 = 0x11 | r.word() & 0x5_002a | if paging { 0x8000_0000 } else { 0 };
    let mut c = Code::default();
    c.b(&[0xfa, 0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0]);
    if mode == Mode::Real {
        c.b(&[0xea]).w(ENTRY16).w(0xf000);
    } else {
        c.b(&[0x2e, 0x66, 0x0f, 0x01, 0x16]).w(POINTERS).b(&[0x2e, 0x66, 0x0f, 0x01, 0x1e]).w(POINTERS + 8);
        if cr4 != 0 {
            c.b(&[0x66, 0xb8]).d(cr4).b(&[0x0f, 0x22, 0xe0]);
        }
        c.b(&[0x66, 0xb8]).d(cr3).b(&[0x0f, 0x22, 0xd8, 0x66, 0xb8]).d(cr0).b(&[0x0f, 0x22, 0xc0]);
        c.b(&[0x66, 0xea]).d(ROM + u32::from(FIRST32)).w(8);
    }
    put(INIT, &c);
    let mut c = Code::default();
    c.w(0xff).d(GDT).w(0).w(0x7ff).d(IDT);
    put(POINTERS, &c);
    put(0xfff0, Code::default().b(&[0xea]).w(INIT).w(0xf000));
    rom
}

/// GDT, LDT, IDT, IVT, task segments and page tables, mostly sane.
fn tables(r: &mut Random, write: &mut impl FnMut(u32, &[u8])) {
    let flat = |access: u8| descriptor(0, 0xf_ffff, access, 0xc);
    let known = [
        0,
        flat(0x9a),
        flat(0x92),
        flat(0xfa),
        flat(0xf2),
        descriptor(TSS, 0x2100, 0x89, 0),
        flat(0xba),
        flat(0xb2),
        flat(0x9e),
        descriptor(CODE, 0xffff, 0x9a, 0),
        descriptor(0x3_0000, 0xffff, 0x92, 0),
        descriptor(LDT, 0xff, 0x82, 0),
        descriptor(TSS16, 0x2b, 0x81, 0),
        descriptor(0, 0xfff, 0x96, 4),
        flat(0xf8),
        descriptor(TSS2, 0x67, 0x89, 0),
        descriptor(CODE, 0xffff, 0xfa, 0),
        descriptor(0x3_0000, 0xffff, 0xf2, 0),
    ];
    for n in 0..32usize {
        let sane = n < 3 || (n < known.len() && !r.one_in(8));
        let raw = if sane { known[n] } else { random_descriptor(r) };
        write(GDT + 8 * n as u32, &raw.to_le_bytes());
        write(LDT + 8 * n as u32, &random_descriptor(r).to_le_bytes());
    }
    for v in 0..256u32 {
        let raw = match r.below(40) {
            0 => random_descriptor(r),
            1 => gate(0xe5, r.pick(&[0x28, 0x60, 0x78]), 0, 0),
            2 => gate(r.pick(&[0xe6, 0xe7, 0x86]), 8, r.next() as u32, 0),
            _ => gate(r.pick(&[0xee, 0xee, 0xef, 0x8e]), 8, ROM + u32::from(ENTRY32), 0),
        };
        write(IDT + 8 * v, &raw.to_le_bytes());
        let vector = if r.one_in(40) { r.word() } else { u32::from(ENTRY16) | 0xf000 << 16 };
        write(4 * v, &vector.to_le_bytes());
    }
    let mut tss = [0u8; 0x2100];
    let mut field = |at: usize, value: u32| tss[at..at + 4].copy_from_slice(&value.to_le_bytes());
    for (at, value) in [(4, STACK), (8, 0x10), (12, STACK - 0x100), (16, 0x39), (20, STACK - 0x200), (24, r.word())] {
        field(at, value);
    }
    field(0x64, if r.one_in(8) { r.word() } else { 0x88 << 16 });
    for _ in 0..r.below(64) {
        let at = 0x68 + r.below(0x2090) as usize;
        tss[at] = r.next() as u8;
    }
    write(TSS, &tss);
    for at in [TSS16, TSS2] {
        let words: Vec<u8> =
            (0..0x34).flat_map(|_| if r.one_in(3) { r.word() as u16 } else { r.selector() }.to_le_bytes()).collect();
        write(at, &words);
    }
    write(TSS2 + 28, &DIRECTORY.to_le_bytes());
    write(TSS2 + 32, &(ROM + u32::from(ENTRY32)).to_le_bytes());
    write(TSS2 + 76, &8u32.to_le_bytes());
    write(TSS2 + 80, &0x10u32.to_le_bytes());
    write(SEED, &r.word().to_le_bytes());
    page_tables(r, write);
}

fn page_tables(r: &mut Random, write: &mut impl FnMut(u32, &[u8])) {
    for n in 0..1024u32 {
        // Low memory, where tables and code are, and the firmware stay mapped most of the time.
        let sane = n < 0x40 || (0xf0..0x100).contains(&n) || !r.one_in(6);
        let entry = if sane && !r.one_in(400) { n << 12 | 7 } else { r.word() & 0x3f_ffff };
        write(DIRECTORY + 0x1000 + 4 * n, &entry.to_le_bytes());
        let directory = match n {
            0 => (DIRECTORY + 0x1000) | 7,
            1 => 0x87 | r.word() & 0x3f_e120,
            _ if r.one_in(3) => r.word(),
            _ if r.one_in(3) => (r.address() & !0xfff) | r.word() & 0x1ff,
            _ => 0,
        };
        write(DIRECTORY + 4 * n, &directory.to_le_bytes());
    }
    for n in 0..4u32 {
        let entry = if n == 0 || r.one_in(2) { u64::from(PAE_TABLES + 0x1000) | 1 } else { r.next() };
        write(PAE_TABLES + 8 * n, &entry.to_le_bytes());
    }
    for n in 0..512u32 {
        let sane = n < 0x40 || (0xf0..0x100).contains(&n) || !r.one_in(6);
        let entry = if sane && !r.one_in(400) { u64::from(n) << 12 | 7 } else { r.next() & 0x8000_003f_ffff_ffff };
        write(PAE_TABLES + 0x2000 + 8 * n, &entry.to_le_bytes());
        let directory = match n {
            0 => u64::from(PAE_TABLES + 0x2000) | 7,
            _ if r.one_in(3) => r.next(),
            _ => 0x87 | u64::from(n) << 21,
        };
        write(PAE_TABLES + 0x1000 + 8 * n, &directory.to_le_bytes());
    }
}

const SYSTEM: &[&[u8]] = &[
    &[0xf4],
    &[0xfa],
    &[0xfb],
    &[0x9c, 0x9d],
    &[0xcf],
    &[0xcb],
    &[0x0f, 0x01, 0xe0],
    &[0x0f, 0x01, 0xf0],
    &[0x0f, 0x20, 0xc0],
    &[0x0f, 0x22, 0xc0],
    &[0x0f, 0x22, 0xe0],
    &[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8],
    &[0x0f, 0x23, 0xf8],
    &[0x0f, 0x23, 0xf0],
    &[0x0f, 0x21, 0xc3],
    &[0x0f, 0x06],
    &[0x0f, 0x08],
    &[0x0f, 0x09],
    &[0x0f, 0x30],
    &[0x0f, 0x31],
    &[0x0f, 0x32],
    &[0x0f, 0x33],
    &[0x0f, 0x34],
    &[0x0f, 0x35],
    &[0x0f, 0xa2],
    &[0x0f, 0xaa],
    &[0x0f, 0x00, 0xd8],
    &[0x0f, 0x00, 0xd0],
    &[0x8e, 0xd0],
    &[0x8e, 0xd8],
    &[0x8e, 0xe0],
    &[0x17],
    &[0x1f],
    &[0x0f, 0x02, 0xc0],
    &[0x0f, 0x03, 0xc1],
    &[0x63, 0xc8],
    &[0xf1],
    &[0xcc],
    &[0xce],
    &[0x9b],
    &[0x0f, 0x77],
    &[0xdb, 0xe3],
];

const PORTS: &[u16] = &[
    0x00, 0x08, 0x0b, 0x20, 0x21, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xa0, 0xa1, 0xb2, 0xcf8,
    0xcf9, 0xcfc, 0xcfe, 0x170, 0x176, 0x177, 0x1ce, 0x1cf, 0x1f0, 0x1f1, 0x1f2, 0x1f6, 0x1f7, 0x376, 0x3c0, 0x3c4,
    0x3c5, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da, 0x3f2, 0x3f4, 0x3f5, 0x3f6, 0x3f7, 0x3f8, 0x3fb, 0x402, 0x4d0, 0x510,
    0x511, 0x514, 0x518, 0xafe0, 0xae08, 0x300, 0x310, 0xc000, 0xc004, 0xb000, 0xb004, 0xf0,
];

/// Something to execute, for 32-bit code; 16-bit code finds other instructions in it.
fn chunk(r: &mut Random, c: &mut Code) {
    match r.below(20) {
        0..=3 => {
            for _ in 0..r.below(24) {
                c.b(&[r.next() as u8]);
            }
        }
        4 | 5 => {
            c.b(r.pick(SYSTEM));
        }
        6 | 7 => {
            // Ports, mostly of devices.
            let port = if r.one_in(6) { r.next() as u16 } else { r.pick(PORTS) };
            c.b(&[0x66, 0xba]).w(port).b(&[0xb8]).d(if r.one_in(2) { r.word() } else { r.below(256) as u32 });
            if r.one_in(3) {
                c.b(&[0xb9]).d(r.below(600) as u32).b(&[0xf3]).b(&[r.pick(&[0x6c, 0x6d, 0x6e, 0x6f])]);
            } else {
                c.b(&[r.pick(&[0xec, 0xed, 0xee, 0xee, 0xef])]);
            }
        }
        8 => {
            // REP on memory that may not be there.
            c.b(&[0xb9]).d(r.pick(&[0, 1, 7, 300, 5000, 0x2_0000])).b(&[0xbe]).d(r.address()).b(&[0xbf]).d(r.address());
            c.b(&[r.pick(&[0xfc, 0xfc, 0xfd]), r.pick(&[0xf3, 0xf2])]);
            c.b(&[r.pick(&[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf])]);
        }
        9 | 10 => {
            // A loop that becomes hot.
            c.b(&[0xb9]).d(r.below(3000) as u32);
            let top = c.0.len();
            for _ in 0..r.below(5) {
                alu(r, c);
            }
            let back = (c.0.len() - top + 3) as u8;
            c.b(&[0x49, 0x75, back.wrapping_neg()]);
        }
        11 => {
            // Far transfers.
            let to = r.selector();
            c.b(&[r.pick(&[0xea, 0x9a])]).d(r.address()).w(to);
        }
        12 => {
            c.b(&[0xcd, r.next() as u8]);
        }
        13 => {
            // Code and tables change.
            let at = r.pick(&[CODE, CODE, GDT, LDT, IDT, TSS, TSS2, DIRECTORY + 0x1000, PAE_TABLES + 0x2000]);
            let at = at + r.below(0x800) as u32 * r.pick(&[1, 4, 8]);
            c.b(&[0xc7, 0x05]).d(at).d(r.word());
            c.b(&[0x0f, 0x01, 0x3d]).d(r.address());
        }
        14 => {
            c.b(&[0xe9]).d(r.below(0x8000) as u32).b(&[0xe9]).d((r.below(0x8000) as u32).wrapping_neg());
        }
        15 => {
            // x87.
            c.b(&[0xd8 + r.below(8) as u8, r.next() as u8 | 0xc0]);
            c.b(&[0xd8 + r.below(8) as u8, r.next() as u8 & 0x38 | 5]).d(r.address());
        }
        16 => {
            // MMX and SSE.
            c.b(r.pick(&[&[][..], &[0x66], &[0xf2], &[0xf3]]));
            c.b(&[0x0f, 0x10 + r.below(0xf0) as u8, r.next() as u8]).d(r.address());
        }
        17 => {
            // The 386's segment loads.
            c.b(&[0x66, 0xb8]).w(r.selector()).b(&[0x8e, r.pick(&[0xc0, 0xd8, 0xe0, 0xe8, 0xd0])]);
        }
        _ => alu(r, c),
    }
}

/// Arithmetic and moves on registers and memory.
fn alu(r: &mut Random, c: &mut Code) {
    let opcode =
        r.pick(&[0x00, 0x01, 0x03, 0x09, 0x11, 0x13, 0x1b, 0x21, 0x2b, 0x31, 0x39, 0x3b, 0x85, 0x87, 0x88, 0x89, 0x8b]);
    match r.below(4) {
        0 => c.b(&[opcode, r.next() as u8 & 0x38 | 5]).d(r.address()),
        1 => c.b(&[0x66, opcode, r.next() as u8 | 0xc0]),
        2 => c.b(&[0x0f, r.pick(&[0xaf, 0xb6, 0xbf, 0xa3, 0xab, 0xa5, 0xc1, 0xb1, 0x44, 0x94]), r.next() as u8 | 0xc0]),
        _ => c.b(&[opcode, (r.next() as u8 | 0xc0) & !0x20]),
    };
}

fn code(r: &mut Random) -> Vec<u8> {
    let mut c = Code::default();
    while c.0.len() < 0x1_0000 {
        chunk(r, &mut c);
    }
    c.0.truncate(0x1_0000);
    c.0
}

/// The machine of a round, before its first instruction.
pub fn machine(r: &mut Random) -> Machine {
    let mode = match r.below(8) {
        0 => Mode::Real,
        1 | 2 => Mode::Vm86,
        3 => Mode::Protected { ring: r.pick(&[0, 3]), wide: false },
        _ => Mode::Protected { ring: r.pick(&[0, 0, 1, 3, 3]), wide: true },
    };
    let model = r.pick(&[CpuModel::I486, CpuModel::Pentium, CpuModel::PentiumIII, CpuModel::Pentium4]);
    let disk = |sectors: usize| Box::new(MemoryBlock::new(vec![0x5a; sectors * 512]));
    let kind = if r.one_in(2) { NetworkKind::Pci } else { NetworkKind::Isa { base: 0x300, irq: 10 } };
    let config = MachineConfig {
        memory: RAM,
        cpu: Some(model),
        cpus: 1,
        bios: firmware(r, mode, model),
        clock: ClockMode::Deterministic,
        serials: 2,
        debug_exit: Some(0x501),
        floppies: [Some(disk(2880)), None],
        drives: [Some(DriveConfig::Disk(disk(64))), None, Some(DriveConfig::Cdrom(Some(disk(64)))), None],
        network: Some(NetworkConfig { mac: [2, 0, 0, 0, 0, 1], kind }),
        ..MachineConfig::default()
    };
    let mut machine = Machine::new(config).expect("a possible machine");
    renew(r, &mut machine);
    machine
}

/// New code and tables for a machine whose old ones came to an end, or to a loop.
pub fn renew(r: &mut Random, machine: &mut Machine) {
    let image = code(r);
    let mem = machine.bus().mem_mut();
    let mut write = |at: u32, data: &[u8]| mem.dma_write(at.into(), data);
    tables(r, &mut write);
    write(CODE, &image);
    machine.reset();
}

/// What the world does to a machine between two slices.
pub fn disturb(r: &mut Random, machine: &mut Machine) {
    match r.below(12) {
        0 => machine.key(Key::KeyA, r.one_in(2)),
        1 => machine.mouse(r.next() as i32 >> 20, r.next() as i32 >> 20, 0, r.next() as u8),
        2 => drop(machine.serial_send(0, &[r.next() as u8; 9])),
        3 => drop(machine.network_send(&[0xff; 64])),
        4 => {
            let (at, value) = (r.address(), r.next());
            machine.bus().mem_mut().dma_write(at.into(), &value.to_le_bytes());
        }
        5 => {
            let (port, value) = (r.pick(PORTS), r.word());
            let count = machine.instructions();
            machine.bus().port_write(0, count, port, r.pick(&[1, 2, 4]), value);
        }
        6 if r.one_in(8) => machine.press_power_button(),
        7 | 8 => renew(r, machine),
        _ => {
            while machine.network_take().is_some() {}
            drop(machine.serial_take(0));
            drop(machine.firmware_log_take());
        }
    }
}

/// Runs one hostile machine from `seed`; instructions that it executed. `beat` is told before each slice.
pub fn round(seed: u64, beat: &mut dyn FnMut()) -> u64 {
    let r = &mut Random::new(seed);
    let mut machine = machine(r);
    let mut revivals = 0;
    while machine.instructions() < ROUND {
        beat();
        let budget = 1 + r.below(20_000);
        let before = machine.instructions();
        let exit = machine.run(budget, 0);
        let ran = machine.instructions() - before;
        assert!(ran <= budget, "seed {seed}: asked for {budget}, ran {ran}");
        match exit {
            Exit::Budget => assert!(ran == budget || machine.now() > 0, "seed {seed}"),
            Exit::Halted { .. } | Exit::Shutdown | Exit::PowerOff | Exit::Blocked => {
                revivals += 1;
                if revivals > 40 {
                    break;
                }
                renew(r, &mut machine);
            }
            Exit::DebugExit(_) => {}
        }
        disturb(r, &mut machine);
    }
    machine.instructions()
}
