//! `tab86 vectors FILE [--exclusions]`: runs single-instruction tests captured from hardware (format X86SST1) on the core.
//!
//! Each test loads registers and memory, runs until a HLT retires, and compares registers, flags and memory.

use emulator_core::bus::CpuBus;
use emulator_core::cpu::cache::CodeCache;
use emulator_core::cpu::run::CpuExit;
use emulator_core::cpu::state::CpuModel;
use emulator_core::cpu::{Cpu, Seg, Segment};
use emulator_core::mem::Memory;
use std::fmt::Write as _;
use std::io::Read;

/// Instructions after which a test that has not halted is given up (a REP instruction counts one per portion).
const LIMIT: u64 = 1_000;

/// Why a file could not be run.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(String, std::io::Error),
    /// Not this format.
    #[error("{0} is not a vector file (its first bytes are not X86SST1)")]
    Magic(String),
    /// Ends early or has impossible lengths.
    #[error("the vector file is damaged at byte {0}")]
    Damaged(usize),
    /// A register layout that this version does not know.
    #[error("vectors with {0} registers per test are not supported (14 are: the 286 layout; 20: the 386 layout)")]
    Layout(u32),
}

/// Outcome of a group of tests (one opcode).
#[derive(Debug, Default, Clone)]
pub struct Group {
    /// Opcode, with the reg field where it matters ("F7.7").
    pub name: String,
    /// Tests whose outcome must hold on this CPU and did.
    pub passed: u32,
    /// Tests that must hold and did not.
    pub failed: u32,
    /// Tests left out, by class bits.
    pub excluded: u32,
}

/// A whole run.
#[derive(Debug, Default)]
pub struct Report {
    /// By opcode.
    pub groups: Vec<Group>,
    /// The first failures, one text each.
    pub failures: Vec<String>,
    /// Excluded tests by class bit.
    pub classes: [u32; 16],
    /// Every excluded test with its reasons.
    pub exclusions: Vec<String>,
}

impl Report {
    /// Tests that failed.
    pub fn failed(&self) -> u32 {
        self.groups.iter().map(|g| g.failed).sum()
    }

    /// Tests that passed.
    pub fn passed(&self) -> u32 {
        self.groups.iter().map(|g| g.passed).sum()
    }

    /// Tests left out.
    pub fn excluded(&self) -> u32 {
        self.groups.iter().map(|g| g.excluded).sum()
    }
}

/// What the class bits of the format stand for.
pub const CLASSES: [&str; 9] = [
    "LOCK prefix on an instruction that cannot be locked: #UD since the 386",
    "longer than 10 bytes: the 286's limit, 15 since the 386",
    "x87 escape captured without a coprocessor",
    "MOV with segment register 4 or 5: FS and GS since the 386",
    "limit fault through SS: vector 13 on the 286, 12 since the 386",
    "other limit fault: partial updates of multi-step instructions differ",
    "operand, stack word or code wraps at offset FFFFh",
    "self-modifying code: prefetch queue of the 286",
    "286 IDIV quirk that contradicts the SDM",
];

struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], VectorError> {
        let part = self.at.checked_add(n).and_then(|end| self.data.get(self.at..end));
        let part = part.ok_or(VectorError::Damaged(self.at))?;
        self.at += n;
        Ok(part)
    }
    fn u8(&mut self) -> Result<u8, VectorError> {
        Ok(self.take(1)?[0])
    }
    fn u16(&mut self) -> Result<u16, VectorError> {
        let b = self.take(2)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }
    fn u32(&mut self) -> Result<u32, VectorError> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
    fn text(&mut self) -> Result<String, VectorError> {
        let n = self.u8()?;
        Ok(String::from_utf8_lossy(self.take(n.into())?).into_owned())
    }
    fn runs(&mut self) -> Result<Vec<(u32, &'a [u8])>, VectorError> {
        let n = self.u16()?;
        (0..n)
            .map(|_| {
                let at = self.u32()?;
                let len = self.u8()?;
                Ok((at, self.take(len.into())?))
            })
            .collect()
    }
}

/// Registers of a test in one order for both layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Registers {
    gpr: [u32; 8],
    sel: [u16; 6],
    ip: u32,
    flags: u32,
}

fn registers(c: &mut Cursor, count: u32) -> Result<Registers, VectorError> {
    let mut r = Registers::default();
    if count == 14 {
        let mut v = [0; 14];
        for x in &mut v {
            *x = c.u16()?;
        }
        let [ax, bx, cx, dx, cs, ss, ds, es, sp, bp, si, di, ip, flags] = v;
        r.gpr = [ax, cx, dx, bx, sp, bp, si, di].map(u32::from);
        r.sel = [es, cs, ss, ds, 0, 0];
        (r.ip, r.flags) = (ip.into(), flags.into());
    } else {
        let mut v = [0; 20];
        for x in &mut v {
            *x = c.u32()?;
        }
        let [_cr0, _cr3, ax, bx, cx, dx, si, di, bp, sp, cs, ds, es, fs, gs, ss, ip, flags, _, _] = v;
        r.gpr = [ax, cx, dx, bx, sp, bp, si, di];
        r.sel = [es, cs, ss, ds, fs, gs].map(|s| s as u16);
        (r.ip, r.flags) = (ip, flags);
    }
    Ok(r)
}

/// Memory and open-bus ports, as the captures assume.
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

/// The machine that all tests run on.
struct Bench {
    board: Board,
    cpu: Cpu,
    code: CodeCache,
}

impl Bench {
    fn new() -> Self {
        // RAM everywhere below 16 MiB, also where a PC has its VGA and ROMs.
        let mut mem = Memory::new(16 << 20, &[]);
        mem.set_smram_open(true);
        for n in 0..16 {
            mem.set_pam(n, emulator_core::mem::Pam { read_ram: true, write_ram: true });
        }
        Self { board: Board { mem }, cpu: Cpu::new(0, CpuModel::PentiumIII), code: CodeCache::default() }
    }

    fn load(&mut self, r: &Registers) {
        self.cpu.reset();
        for (i, v) in r.gpr.iter().enumerate() {
            self.cpu.gpr[i] = (*v).into();
        }
        for (seg, sel) in Seg::ALL.into_iter().zip(r.sel) {
            self.cpu.set_segment(seg, Segment::real(sel));
        }
        self.cpu.rip = r.ip.into();
        self.cpu.set_eflags(r.flags & 0xfff);
    }

    fn state(&self) -> Registers {
        let mut r = Registers { ip: self.cpu.rip as u32, flags: self.cpu.eflags(), ..Registers::default() };
        for (i, v) in r.gpr.iter_mut().enumerate() {
            *v = self.cpu.reg32(i);
        }
        for (seg, sel) in Seg::ALL.into_iter().zip(&mut r.sel) {
            *sel = self.cpu.segment(seg).selector;
        }
        r
    }

    fn byte(&self, at: u32) -> u8 {
        let mut b = [0];
        self.board.mem.dma_read(at.into(), &mut b);
        b[0]
    }
}

/// Runs a (gzipped or plain) vector file.
///
/// # Errors
/// When the file cannot be read or is not of this format.
pub fn run(path: &str, keep: usize) -> Result<Report, VectorError> {
    let read = |e| VectorError::Read(path.into(), e);
    let raw = std::fs::read(path).map_err(read)?;
    let mut data = Vec::new();
    if raw.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(&raw[..]).read_to_end(&mut data).map_err(read)?;
    } else {
        data = raw;
    }
    let mut c = Cursor { data: &data, at: 0 };
    if c.take(8).ok() != Some(b"X86SST1\0") {
        return Err(VectorError::Magic(path.into()));
    }
    let (_cpu, layout, groups) = (c.u32()?, c.u32()?, c.u32()?);
    if layout != 14 && layout != 20 {
        return Err(VectorError::Layout(layout));
    }
    let mut bench = Bench::new();
    let mut report = Report::default();
    for _ in 0..groups {
        let mut group = Group { name: c.text()?, ..Group::default() };
        c.u16()?;
        let tests = c.u32()?;
        c.u32()?;
        for _ in 0..tests {
            run_test(&mut c, layout, &mut bench, &mut group, &mut report, keep)?;
        }
        report.groups.push(group);
    }
    Ok(report)
}

fn run_test(
    c: &mut Cursor,
    layout: u32,
    bench: &mut Bench,
    group: &mut Group,
    report: &mut Report,
    keep: usize,
) -> Result<(), VectorError> {
    c.u32()?;
    let index = c.u32()?;
    let hash: String = c.take(8)?.iter().map(|b| format!("{b:02x}")).collect();
    let (has_exception, vector) = (c.u8()?, c.u8()?);
    let flags_at = c.u32()?;
    let mask = u32::from(c.u16()?);
    let class = c.u16()?;
    let code_len = c.u8()?;
    let code = c.take(code_len.into())?;
    let text = c.text()?;
    let initial = registers(c, layout)?;
    let expected = registers(c, layout)?;
    // The file gives the even address below when the word lies at an odd one; the stack pointer tells.
    let pushed = (u32::from(expected.sel[2]) << 4) + ((expected.gpr[4] + 4) & 0xffff);
    let flags_at = if flags_at != 0 && pushed == flags_at | 1 { pushed } else { flags_at };
    let before = c.runs()?;
    let after = c.runs()?;
    if class != 0 {
        group.excluded += 1;
        let mut reasons = Vec::new();
        for bit in (0..16).filter(|bit| class >> bit & 1 != 0) {
            report.classes[bit] += 1;
            reasons.push(CLASSES.get(bit).copied().unwrap_or("unknown class"));
        }
        report.exclusions.push(format!("{} #{index} {hash} {text}: {}", group.name, reasons.join("; ")));
        return Ok(());
    }
    for (at, bytes) in &before {
        bench.board.mem.dma_write((*at).into(), bytes);
    }
    bench.load(&initial);
    let start = bench.cpu.icount;
    let exit = bench.cpu.run(&mut bench.board, &mut bench.code, start + LIMIT);
    let mut why = String::new();
    if exit != CpuExit::Halted {
        let _ = write!(why, " no HLT ({exit:?})");
    }
    let got = bench.state();
    for (i, name) in ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"].iter().enumerate() {
        if got.gpr[i] != expected.gpr[i] {
            let _ = write!(why, " {name}={:x} want {:x}", got.gpr[i], expected.gpr[i]);
        }
    }
    if got.sel != expected.sel {
        let _ = write!(why, " sel={:x?} want {:x?}", got.sel, expected.sel);
    }
    if got.ip != expected.ip {
        let _ = write!(why, " ip={:x} want {:x}", got.ip, expected.ip);
    }
    if (got.flags ^ expected.flags) & mask & 0xfff != 0 {
        let _ = write!(why, " flags={:03x} want {:03x} mask {mask:03x}", got.flags & 0xfff, expected.flags & 0xfff);
    }
    for (at, bytes) in &after {
        for (i, want) in bytes.iter().enumerate() {
            let at = at + i as u32;
            // The pushed FLAGS word is compared under the mask.
            let m = match at.wrapping_sub(flags_at) {
                0 if flags_at != 0 => mask as u8,
                1 if flags_at != 0 => (mask >> 8) as u8 & 0x0f,
                _ => 0xff,
            };
            let have = bench.byte(at);
            if (have ^ want) & m != 0 {
                let _ = write!(why, " [{at:x}]={have:02x} want {want:02x}");
            }
        }
    }
    for (at, bytes) in before.iter().chain(&after) {
        bench.board.mem.dma_write((*at).into(), &vec![0; bytes.len()]);
    }
    if why.is_empty() {
        group.passed += 1;
    } else {
        group.failed += 1;
        if report.failures.len() < keep {
            report.failures.push(format!("{} #{index} {hash} {code:02x?} {text}:{why} (exception {has_exception} {vector}, flags at {flags_at:x} mask {mask:x})", group.name));
        }
    }
    Ok(())
}

/// Prints counts by group and the first failures, and if asked each test that was left out.
pub fn print(report: &Report, exclusions: bool) {
    println!("{:8} {:>7} {:>7} {:>9}", "group", "passed", "failed", "excluded");
    for g in &report.groups {
        println!("{:8} {:>7} {:>7} {:>9}", g.name, g.passed, g.failed, g.excluded);
    }
    for f in &report.failures {
        println!("FAIL {f}");
    }
    if exclusions {
        for line in &report.exclusions {
            println!("LEFT OUT {line}");
        }
    }
    for (bit, n) in report.classes.iter().enumerate().filter(|(_, n)| **n > 0) {
        println!("excluded {n}: {}", CLASSES.get(bit).unwrap_or(&"unknown class"));
    }
    println!("{} passed, {} failed, {} excluded", report.passed(), report.failed(), report.excluded());
}
