//! `cargo xtask differ`: random single instructions in every mode, on tab86 and on QEMU, compared.
//!
//! Both run the same floppy (tests/differ/runner.asm with cases made here from a seed) and write one line for each case:
//! the exception that it ended in, registers, and a sum over memory. QEMU's TCG leaves out segment limits and types on data
//! accesses and RF, so cases stay inside their windows, and what differs for a known reason is counted by that reason.
use crate::{repo, run};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

#[derive(Args)]
pub struct Options {
    /// Floppies of 3,000 cases to run
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Differences without a known reason to print
    #[arg(long, default_value_t = 20)]
    show: usize,
}

const CASES: usize = 3000;
const CASE_BYTES: usize = 0x80;
/// Where the cases begin in the floppy: behind the boot sector and the runner.
const CASES_AT: usize = 0x200 + 0x8000;
const FLOPPY: usize = 1_474_560;
const QEMU: &str = "qemu-system-i386";
const STATUS: u32 = 0x8d5;
/// Flags that are compared at all: RF is QEMU's to lack.
const FLAGS: u32 = 0x0026_7fd5;
const MODES: [&str; 5] = ["real", "ring 0", "ring 3", "ring 3, 16 bits", "virtual-8086"];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    fn byte(&mut self) -> u8 {
        (self.next() >> 24) as u8
    }
}

/// One instruction with its surroundings.
struct Case {
    mode: u8,
    code: Vec<u8>,
    bytes: [u8; CASE_BYTES],
    /// Undefined status flags behind it.
    undefined: u32,
}

/// An instruction under construction, for a mode's default sizes.
struct Code<'a> {
    r: &'a mut Random,
    bytes: Vec<u8>,
    wide: bool,
    undefined: u32,
}

impl Code<'_> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An operand-size prefix now and then; whether operands are 32-bit then.
    fn operand_size(&mut self) -> bool {
        if self.r.below(4) == 0 {
            self.put(&[0x66]);
            return !self.wide;
        }
        self.wide
    }

    /// ModRM with a register operand `reg`: a register, or memory inside the window.
    fn rm(&mut self, reg: u8) {
        let reg = (reg & 7) << 3;
        if self.r.below(3) == 0 {
            let rm = self.r.pick(&[0, 1, 2, 3, 5, 6, 7]);
            self.put(&[0xc0 | reg | rm]);
        } else {
            self.memory(reg);
        }
    }

    fn memory(&mut self, reg: u8) {
        let d = self.r.below(0x60) as u8;
        if self.wide {
            match self.r.below(4) {
                0 => self.put(&[reg | 5, d, 2, 0, 0]),
                1 => {
                    let base = self.r.pick(&[3, 6, 7]);
                    self.put(&[reg | base])
                }
                2 => {
                    let base = self.r.pick(&[3, 5, 6, 7]);
                    self.put(&[0x40 | reg | base, d])
                }
                _ => {
                    let sib = self.r.pick(&[0x33, 0x73, 0x3b, 0x77]);
                    self.put(&[0x44 | reg, sib, d])
                }
            };
        } else {
            match self.r.below(3) {
                0 => self.put(&[reg | 6, d, 2]),
                1 => {
                    let rm = self.r.pick(&[0, 1, 2, 3, 4, 5, 7]);
                    self.put(&[reg | rm])
                }
                _ => {
                    let rm = self.r.below(8) as u8;
                    self.put(&[0x40 | reg | rm, d])
                }
            };
        }
    }

    fn immediate(&mut self, wide: bool) {
        let value = self.r.next() as u32;
        self.put(&value.to_le_bytes()[..if wide { 4 } else { 2 }]);
    }

    fn instruction(&mut self, mode: u8) {
        let protected = matches!(mode, 1..=3);
        match self.r.below(30) {
            0 | 1 => {
                let wide = self.operand_size();
                let op = self.r.below(8) as u8;
                self.undefined = if matches!(op, 1 | 4 | 6) { 0x10 } else { 0 };
                match self.r.below(4) {
                    0 => {
                        let form = self.r.below(4) as u8;
                        self.put(&[op << 3 | form]);
                        let reg = self.r.pick(&[0, 1, 2, 3, 5, 6, 7]);
                        self.rm(reg);
                    }
                    1 => {
                        self.put(&[op << 3 | 5]);
                        self.immediate(wide);
                    }
                    2 => {
                        self.put(&[0x83]);
                        self.rm(op);
                        let imm = self.r.byte();
                        self.put(&[imm]);
                    }
                    _ => {
                        self.put(&[0x81]);
                        self.rm(op);
                        self.immediate(wide);
                    }
                }
            }
            2 => {
                self.operand_size();
                self.undefined = STATUS;
                let (op, kind) = (self.r.pick(&[0xd0, 0xd1, 0xd2, 0xd3]), self.r.pick(&[0, 1, 2, 3, 4, 5, 7]));
                self.put(&[op]);
                self.rm(kind);
            }
            3 => {
                self.operand_size();
                self.undefined = STATUS;
                let (op, kind) = (self.r.pick(&[0xf6, 0xf7]), self.r.pick(&[4, 5, 6, 7]));
                self.put(&[op]);
                self.rm(kind);
            }
            4 => {
                self.operand_size();
                let (op, kind) = (self.r.pick(&[0xf6, 0xf7]), self.r.pick(&[2, 3]));
                self.put(&[op]);
                self.rm(kind);
            }
            5 => {
                self.operand_size();
                let op = self.r.pick(&[0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0xfe]);
                self.put(&[op]);
                let reg = if op == 0xfe { self.r.below(2) as u8 } else { self.r.pick(&[0, 1, 2, 3, 5, 6, 7]) };
                self.rm(reg);
            }
            6 => {
                self.operand_size();
                let op =
                    self.r.pick(&[0x40, 0x42, 0x4c, 0x4f, 0x90, 0x9c, 0xb6, 0xb7, 0xbe, 0xbf, 0xb0, 0xb1, 0xc0, 0xc1]);
                self.put(&[0x0f, op]);
                let reg = self.r.pick(&[0, 1, 2, 3, 5, 6, 7]);
                self.rm(reg);
            }
            7 => {
                self.operand_size();
                // Bits: only CF is defined.
                self.undefined = STATUS & !1 & !0x40;
                let kind = self.r.pick(&[4, 5, 6, 7]);
                self.put(&[0x0f, 0xba]);
                self.rm(kind);
                let imm = self.r.byte();
                self.put(&[imm]);
            }
            8 => {
                let (op, undefined) = self.r.pick(&[
                    (0x27u8, 0x800),
                    (0x2f, 0x800),
                    (0x37, 0x8c4),
                    (0x3f, 0x8c4),
                    (0x98, 0),
                    (0x99, 0),
                    (0x9e, 0),
                    (0x9f, 0),
                    (0xd6, 0),
                    (0xf5, 0),
                    (0xf8, 0),
                    (0xf9, 0),
                    (0xfc, 0),
                    (0xfd, 0),
                ]);
                self.undefined = undefined;
                self.put(&[op]);
            }
            9 => {
                self.undefined = 0x811;
                let (op, base) = (self.r.pick(&[0xd4, 0xd5]), self.r.pick(&[0, 10, 16, 7]));
                self.put(&[op, base]);
            }
            10 | 11 => {
                self.operand_size();
                let op = self.r.pick(&[
                    0x50, 0x51, 0x53, 0x55, 0x58, 0x5b, 0x5d, 0x5f, 0x60, 0x61, 0x06, 0x0e, 0x16, 0x1e, 0x07, 0x1f,
                    0x17, 0xc9, 0x54,
                ]);
                self.put(&[op]);
            }
            12 => {
                self.operand_size();
                let level = self.r.below(4) as u8;
                self.put(&[0xc8, 8, 0, level]);
            }
            13 => {
                self.operand_size();
                let (op, kind) = self.r.pick(&[(0xff, 6), (0x8f, 0)]);
                self.put(&[op]);
                self.rm(kind);
            }
            14 | 15 => {
                self.operand_size();
                let op = self.r.pick(&[0x9c, 0x9d]);
                self.put(&[op]);
            }
            16 | 17 => {
                self.operand_size();
                let op = self.r.pick(&[0xcf, 0xcb, 0xc3, 0xcf]);
                self.put(&[op]);
            }
            18 => {
                self.operand_size();
                let pop = self.r.below(16) as u8 & !1;
                let op = self.r.pick(&[0xca, 0xc2]);
                self.put(&[op, pop, 0]);
            }
            19 | 20 => {
                // Far transfers to every kind of descriptor.
                let wide = self.operand_size();
                let op = self.r.pick(&[0x9a, 0xea]);
                let selector = if protected { selector(self.r) } else { 0x7000 };
                self.put(&[op]).put(&0x800u32.to_le_bytes()[..if wide { 4 } else { 2 }]).put(&selector.to_le_bytes());
            }
            21 => {
                let (code, vector) = (self.r.pick(&[0xcd, 0xcd, 0xcc, 0xce, 0xf1]), self.r.byte());
                self.put(&[code]);
                if code == 0xcd {
                    // Not those whose handler expects an error code.
                    self.put(&[vector | 0x20]);
                }
            }
            22 | 23 => {
                // A segment register from EAX, whose value is a selector in these modes.
                let register = self.r.pick(&[0, 2, 3, 4, 5, 1, 6]);
                self.put(&[0x8e, 0xc0 | register << 3]);
            }
            24 if protected => {
                let code = self.r.pick(&[
                    &[0x0f, 0x02, 0xc8][..],
                    &[0x0f, 0x03, 0xc8],
                    &[0x0f, 0x00, 0xe0],
                    &[0x0f, 0x00, 0xe8],
                    &[0x63, 0xc8],
                    &[0x63, 0xd0],
                    &[0x0f, 0x00, 0xc1],
                    &[0x0f, 0x00, 0xc9],
                ]);
                self.put(code);
            }
            24 | 25 => {
                // What needs privilege, or IOPL.
                let code = self.r.pick(&[
                    &[0xfa][..],
                    &[0xfb],
                    &[0x0f, 0x06],
                    &[0x0f, 0x09],
                    &[0x0f, 0x23, 0xd8],
                    &[0x0f, 0x01, 0x3d],
                    &[0xe6, 0x80],
                    &[0xe6, 0x90],
                    &[0xe7, 0x86],
                    &[0xee],
                ]);
                self.put(code);
                if code == [0x0f, 0x01, 0x3d] {
                    self.put(&[0x10, 2, 0, 0]);
                }
            }
            26 | 27 => {
                if self.r.below(2) == 0 {
                    let rep = self.r.pick(&[0xf2, 0xf3]);
                    self.put(&[rep]);
                }
                self.operand_size();
                let op = self.r.pick(&[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
                self.put(&[op]);
            }
            28 => {
                let code = self.r.pick(&[
                    &[0x0f, 0x0b][..],
                    &[0x0f, 0xff],
                    &[0xf0, 0x90],
                    &[0xf0, 0x89, 0xd8],
                    &[0xf0, 0x01, 0xc3],
                    &[0xfe, 0xf8],
                    &[0x8e, 0xc8],
                    &[0xc6, 0xf9, 0],
                    &[0x8d, 0xc0],
                ]);
                self.put(code);
            }
            _ => {
                let condition = self.r.below(16) as u8;
                let code = self.r.pick(&[0x70 | condition, 0xeb, 0xe2, 0xe1, 0xe0, 0xe3]);
                self.put(&[code, 0x20]);
            }
        }
    }
}

fn selector(r: &mut Random) -> u16 {
    match r.below(12) {
        0 => r.next() as u16,
        1 => 0,
        2 => (r.below(5) * 8) as u16 | 4 | r.below(4) as u16,
        _ => (r.below(32) * 8) as u16 | r.pick(&[0, 0, 3, 3, 1]),
    }
}

fn case(r: &mut Random) -> Case {
    let mode = r.below(5) as u8;
    let protected = matches!(mode, 1..=3);
    let mut code = Code { r, bytes: Vec::new(), wide: matches!(mode, 1 | 2), undefined: 0 };
    loop {
        code.instruction(mode);
        // In real mode the exception's own frame would follow SS, into the runner.
        let loads_ss = matches!(code.bytes[..], [.., 0x17] | [.., 0x8e, 0xd0]);
        if mode != 0 || !loads_ss {
            break;
        }
        code.bytes.clear();
        code.undefined = 0;
    }
    let (code, undefined) = (code.bytes, code.undefined);
    let mut bytes = [0; CASE_BYTES];
    bytes[0] = mode;
    bytes[2..16].fill(0xcc);
    bytes[2..2 + code.len()].copy_from_slice(&code);
    let mut dword = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    // EAX: often a selector; ECX a small count; the others point into the window.
    let eax = if protected && r.below(2) == 0 { selector(r).into() } else { r.next() as u32 };
    dword(16, eax);
    dword(20, r.below(9) as u32);
    dword(24, r.next() as u32);
    for at in [28, 32, 36, 40] {
        dword(at, 0x180 + 4 * r.below(0x80) as u32);
    }
    dword(44, 0x400 + 4 * r.below(0x40) as u32);
    let flags = 0x102
        | r.next() as u32 & 0x4_7cd5 & !0x4000
        | r.pick(&[0, 0x3000, 0x3000])
        | 0x4000 * u32::from(r.below(12) == 0);
    // NT would make the runner's own IRETD switch tasks; IF lets nothing in, as nothing is unmasked.
    dword(56, flags & !0x4000);
    dword(60, FLAGS & !undefined);
    let (cs, ss): (&[u16], &[u16]) = match mode {
        1 => (&[0x18, 0x33, 0xe1, 0x70], &[0x28, 0x43, 0xf9]),
        2 | 3 => (&[0x33, 0x4b, 0x73, 0x18], &[0x43, 0x53, 0x28]),
        _ => (&[0x7000], &[0x7800]),
    };
    for i in 0..16 {
        // What returns find: an offset, CS, flags, a stack pointer, SS.
        let value = match i % 5 {
            0 => 0x800,
            1 if protected && r.below(4) == 0 => selector(r).into(),
            1 => r.pick(cs).into(),
            2 => r.next() as u32 & 0x4_7fd5 | 2 | if r.below(6) == 0 && mode == 1 { 0x2_0000 } else { 0 },
            3 => 0x700,
            _ if protected && r.below(4) == 0 => selector(r).into(),
            _ => r.pick(ss).into(),
        };
        if matches!(mode, 1 | 2) {
            dword(64 + 4 * i, value);
        } else {
            // Words where words are popped; behind them zeros.
            dword(64 + 2 * i, value & 0xffff);
        }
    }
    let data: &[u16] = match mode {
        1 => &[0x20],
        2 | 3 => &[0x3b],
        _ => &[0x8000],
    };
    for (at, other) in [(48, false), (50, false), (52, true), (54, true)] {
        let value = if other && protected && r.below(2) == 0 { 0 } else { r.pick(data) };
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    Case { mode, code, bytes, undefined }
}

/// Lines of the two machines by case number.
type Lines = BTreeMap<u64, Vec<u32>>;

fn lines(output: &str) -> (Lines, bool) {
    let mut found = Lines::new();
    let mut finished = false;
    for line in output.lines() {
        // The firmware's own log goes to the same port.
        let Some(line) = line.strip_prefix('#') else { continue };
        finished |= line.starts_with('!');
        let words: Vec<u32> = line.split_whitespace().filter_map(|w| u32::from_str_radix(w, 16).ok()).collect();
        if let [number, fields @ ..] = &words[..]
            && fields.len() == FIELDS.len()
        {
            found.insert((*number).into(), fields.to_vec());
        }
    }
    (found, finished)
}

const FIELDS: [&str; 20] = [
    "vector", "error", "EIP", "CS", "EFLAGS", "EAX", "ECX", "EDX", "EBX", "EBP", "ESI", "EDI", "ESP", "SS", "DS", "ES",
    "FS", "GS", "TR", "memory",
];

pub fn run(options: &Options) -> Result<ExitCode> {
    if run::find(QEMU).is_none() {
        println!("differ skipped: there is no {QEMU} (Debian's qemu-system-x86)");
        return Ok(ExitCode::SUCCESS);
    }
    let folder = repo::build("differ");
    std::fs::create_dir_all(&folder)?;
    let runner = runner(&folder)?;
    run::run(run::cargo().current_dir(repo::root()).args(["build", "--release", "--quiet", "-p", "tab86"]))?;
    let (mut compared, mut same) = (0, 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut shown = 0;
    for seed in options.seed..options.seed + options.rounds {
        let r = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let cases: Vec<Case> = (0..CASES).map(|_| case(r)).collect();
        let floppy = folder.join("cases.img");
        std::fs::write(&floppy, image(&runner, &cases))?;
        let (ours, our_end) = lines(&tab86(&floppy)?);
        let (theirs, their_end) = lines(&qemu(&floppy)?);
        if !our_end || !their_end {
            println!(
                "seed {seed}: tab86 finished {our_end} with {} cases, QEMU {their_end} with {}",
                ours.len(),
                theirs.len()
            );
        }
        for (number, our) in &ours {
            let (Some(their), Some(case)) = (theirs.get(number), cases.get(*number as usize - 1)) else { continue };
            compared += 1;
            if our == their {
                same += 1;
                continue;
            }
            let reason = reason(case, our, their);
            let unknown = reason.is_none();
            *reasons.entry(reason.unwrap_or("no known reason").to_owned()).or_default() += 1;
            if unknown && shown < options.show {
                shown += 1;
                show(seed, *number, case, our, their);
            }
        }
    }
    println!("{compared} cases compared, {same} equal, {} differ", compared - same);
    for (reason, count) in &reasons {
        println!("{count:8}  {reason}");
    }
    Ok(if reasons.contains_key("no known reason") || compared == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why a case may differ, if that is known.
fn reason(case: &Case, our: &[u32], their: &[u32]) -> Option<&'static str> {
    let code = match &case.code[..] {
        [0x66, rest @ ..] => rest,
        code => code,
    };
    if case.code[0] == 0xf0 && our[0] == 6 {
        return Some("QEMU takes LOCK before instructions that refuse it (SDM vol. 2, LOCK)");
    }
    if code[0] == 0xfb && our[0] == 1 && their[0] == 3 {
        return Some("QEMU holds the single-step trap off behind STI; only loads of SS do (SDM vol. 3, 6.8.3)");
    }
    if case.code[0] == 0x66 && case.mode != 2 && matches!(code[0], 0xc2 | 0xc3 | 0xca | 0xcb | 0xcf) && our[0] == 13 {
        return Some("QEMU returns to offsets outside the code segment (SDM vol. 3, 5.3)");
    }
    if code[0] == 0xc6 && our[0] == 6 {
        return Some("QEMU takes C6 with any opcode extension for MOV (SDM vol. 2, table A-6)");
    }
    if code[0] == 0xf1 && their[0] == 6 {
        return Some("QEMU has no INT1 (SDM vol. 2, INT n)");
    }
    if matches!(code[0], 0x06 | 0x0e | 0x16 | 0x1e) && only_memory(our, their) {
        return Some("QEMU pushes 32 bits of a segment register, recent processors 16 (SDM vol. 2, PUSH)");
    }
    if matches!(code[0], 0x9a | 0xea) && our[3] == 0x73 && their[3] == 0x70 {
        return Some("QEMU enters conforming code through a gate with RPL 0 in CS and not the CPL (SDM vol. 3, 5.8.5)");
    }
    None
}

/// Whether only the sum over memory differs.
fn only_memory(our: &[u32], their: &[u32]) -> bool {
    our[..FIELDS.len() - 1] == their[..FIELDS.len() - 1]
}

fn show(seed: u64, number: u64, case: &Case, our: &[u32], their: &[u32]) {
    let code: Vec<String> = case.code.iter().map(|b| format!("{b:02x}")).collect();
    let flags = u32::from_le_bytes([case.bytes[56], case.bytes[57], case.bytes[58], case.bytes[59]]);
    println!(
        "seed {seed} case {number}, {}: {} (EFLAGS {flags:x}, undefined {:x})",
        MODES[usize::from(case.mode)],
        code.join(" "),
        case.undefined
    );
    for ((name, a), b) in FIELDS.iter().zip(our).zip(their) {
        if a != b || matches!(*name, "vector" | "EIP") {
            println!("    {name:7} tab86 {a:8x}  QEMU {b:8x}");
        }
    }
}

/// The boot sector and the runner.
fn runner(folder: &Path) -> Result<Vec<u8>> {
    let binary = folder.join("runner.bin");
    let source = repo::path("tests/differ/runner.asm");
    run::quietly(Command::new("nasm").args(["-f", "bin", "-o"]).arg(&binary).arg(&source))?;
    let bytes = std::fs::read(&binary)?;
    // Memory between the boot sector and 8000h is not on the floppy.
    let (boot, rest) = bytes.split_at_checked(0x200).context("the runner is too short")?;
    Ok([boot, rest.get(0x200..).context("the runner is too short")?].concat())
}

fn image(runner: &[u8], cases: &[Case]) -> Vec<u8> {
    let mut image = runner.to_vec();
    image.resize(CASES_AT, 0);
    image.extend((cases.len() as u32).to_le_bytes());
    image.resize(CASES_AT + CASE_BYTES, 0);
    for case in cases {
        image.extend(case.bytes);
    }
    image.resize(FLOPPY, 0);
    image
}

fn tab86(floppy: &Path) -> Result<String> {
    let mut command = Command::new(repo::path("target/release/tab86"));
    command.args(["run", "--clock", "deterministic", "--debug-exit", "0xf4", "--memory", "16", "--timeout", "60"]);
    let out = command.args(["--firmware-log", "-", "--fda"]).arg(floppy).stdin(Stdio::null()).output()?;
    if out.status.code() == Some(2) {
        bail!("tab86: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn qemu(floppy: &Path) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["60", QEMU, "-display", "none", "-no-reboot", "-cpu", "pentium3", "-m", "16", "-debugcon", "stdio"]);
    command.args(["-global", "isa-debugcon.iobase=0x402", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    command.arg("-drive").arg(format!("file={},format=raw,if=floppy,snapshot=on", floppy.display()));
    let out = command.stdin(Stdio::null()).output().context("cannot start QEMU")?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
