//! Instruction forms: every encoding that the core's decoder accepts, grouped by opcode, prefixes and operand kind.

use crate::ours::MODEL;
use crate::rng::Rng;
use emulator_core::cpu::decode::decode_one;
use emulator_core::cpu::op::{Kind, Op, System};
use emulator_core::cpu::state::mode;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Mode bits of 32-bit user code with flat segments.
pub const MODE32: u32 = mode::CODE32 | mode::STACK32 | mode::FLAT | mode::PROTECTED | mode::USER;
/// Mode bits of 16-bit user code.
pub const MODE16: u32 = mode::PROTECTED | mode::USER;

/// Decodes as the core does.
#[must_use]
pub fn decode(bytes: &[u8], code32: bool) -> Instruction {
    let options = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD | DecoderOptions::NO_WBNOINVD;
    let window = &bytes[..bytes.len().min(15)];
    Decoder::with_ip(if code32 { 32 } else { 16 }, window, 0, options).decode()
}

/// The core's op for the bytes, unless it is #UD.
#[must_use]
pub fn accepted(bytes: &[u8], code32: bool) -> Option<Op> {
    let op = decode_one(bytes, if code32 { MODE32 } else { MODE16 }, MODEL)?;
    let refused = op.kind == Kind::Alone && matches!(op.system(), System::Ud | System::GpTooLong | System::Rsm);
    (!refused).then_some(op)
}

/// One form.
#[derive(Debug, Clone)]
pub struct Form {
    /// Code of iced, with what distinguishes the form: `mem`, `lock`, `rep`, `repne`, the opcode where several exist.
    pub name: String,
    /// Whether in 32-bit code.
    pub code32: bool,
    /// Prefixes that belong to it.
    pub prefixes: Vec<u8>,
    /// Opcode bytes.
    pub opcode: Vec<u8>,
    /// Bytes that may follow: ModRM bytes, or anything.
    pub next: Vec<u8>,
    /// Has a memory operand.
    pub memory: bool,
    /// What iced calls it.
    pub code: Code,
    /// The mnemonic.
    pub mnemonic: Mnemonic,
    /// A compare with a conditional jump behind it, which the core executes as one op.
    pub pair: bool,
    /// Not one instruction but a run of them, each of one of these forms: the core leaves out flags that nothing in a
    /// block can observe, and keeps others as the operands that they come from.
    pub run: Option<Rc<[Form]>>,
}

/// Why a form is not compared, although the decoder accepts it.
#[must_use]
pub fn exclusion(insn: &Instruction, bytes: &[u8]) -> Option<&'static str> {
    use Mnemonic as M;
    let prefixed_f3 = bytes.iter().take_while(|b| is_prefix(**b)).any(|b| *b == 0xf3);
    match insn.mnemonic() {
        M::Cpuid => Some("CPUID: the models are not the host"),
        M::Rdtsc | M::Rdtscp | M::Rdpmc => Some("RDTSC, RDPMC: no two reads are equal"),
        M::Sysenter | M::Sysexit | M::Syscall | M::Sysret => Some("SYSENTER, SYSCALL: enter the host's kernel"),
        M::Int if insn.immediate8() == 0x80 => Some("INT 80h: a system call of the host"),
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => {
            Some("SGDT, SIDT, SLDT, STR, SMSW: the host's kernel answers for the processor (CR4.UMIP)")
        }
        M::Int1 => Some("INT1: hypervisors intercept #DB and report a fault where the processor traps"),
        M::Reservednop if bytes.contains(&0x0d) && !has_memory(insn) => {
            Some("0F 0D with a register: NOP on Intel's processors, #UD on AMD's")
        }
        M::Loope | M::Loopne if bytes.iter().take_while(|b| is_prefix(**b)).any(|b| matches!(*b, 0xf2 | 0xf3)) => Some(
            "LOOPE, LOOPNE with F2 or F3: the prefix is ignored on Intel's processors and replaces the condition on AMD's",
        ),
        M::Bsf | M::Bsr if prefixed_f3 => {
            Some("F3 0F BC, F3 0F BD: TZCNT and LZCNT on the host, BSF and BSR on our models")
        }
        _ => None,
    }
}

/// Whether the byte is a legacy prefix.
#[must_use]
pub fn is_prefix(b: u8) -> bool {
    matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Whether the instruction is a string instruction.
#[must_use]
pub fn is_string(m: Mnemonic, opcode: &[u8]) -> bool {
    use Mnemonic::*;
    matches!(m, Movsb | Movsw | Cmpsb | Cmpsw | Stosb | Stosw | Stosd | Lodsb | Lodsw | Lodsd | Scasb | Scasw | Scasd)
        || matches!(m, Insb | Insw | Insd | Outsb | Outsw | Outsd)
        || matches!(opcode, [0xa5 | 0xa7])
}

/// Whether it has a memory operand that is encoded (not the implicit ones of string instructions).
#[must_use]
pub fn has_memory(insn: &Instruction) -> bool {
    (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory)
}

/// What tells forms apart: opcode, prefixes, whether there is a memory operand, and iced's code.
type Key = (Vec<u8>, Vec<u8>, bool, u16);

/// All forms of a code size, and the reasons for those left out.
#[must_use]
pub fn enumerate(code32: bool) -> (Vec<Form>, Vec<&'static str>) {
    let mut found: BTreeMap<Key, (Form, Vec<u8>)> = BTreeMap::new();
    let mut reasons = Vec::new();
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let prefix_sets: [&[u8]; 11] = [
        &[],
        &[0x66],
        &[0xf3],
        &[0xf2],
        &[0x67],
        &[0x66, 0x67],
        &[0xf3, 0x66],
        &[0xf2, 0x66],
        &[0xf3, 0x67],
        &[0xf2, 0x67],
        &[0xf0],
    ];
    for map in maps {
        for prefixes in prefix_sets {
            for opcode in 0..=0xff_u8 {
                if (map.is_empty() && (is_prefix(opcode) || opcode == 0x0f))
                    || (map == [0x0f] && matches!(opcode, 0x38 | 0x3a))
                {
                    continue;
                }
                for next in 0..=0xff_u8 {
                    let head = [prefixes, map, &[opcode]].concat();
                    let mut bytes = head.clone();
                    bytes.extend([next, 0x24, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60]);
                    let insn = decode(&bytes, code32);
                    if insn.is_invalid() || accepted(&bytes, code32).is_none() {
                        continue;
                    }
                    bytes.truncate(insn.len());
                    if let Some(reason) = exclusion(&insn, &bytes) {
                        if !reasons.contains(&reason) {
                            reasons.push(reason);
                        }
                        continue;
                    }
                    if !prefixes.is_empty()
                        && redundant(prefixes, &[map, &[opcode], &bytes[head.len()..]].concat(), &insn, code32)
                    {
                        continue;
                    }
                    let memory = has_memory(&insn);
                    let key = ([map, &[opcode]].concat(), prefixes.to_vec(), memory, insn.code() as u16);
                    let (_, list) = found.entry(key).or_insert_with(|| {
                        let form = Form {
                            name: name(&insn, prefixes, memory),
                            code32,
                            prefixes: prefixes.to_vec(),
                            opcode: [map, &[opcode]].concat(),
                            next: Vec::new(),
                            memory,
                            code: insn.code(),
                            mnemonic: insn.mnemonic(),
                            pair: false,
                            run: None,
                        };
                        (form, Vec::new())
                    });
                    list.push(next);
                }
            }
        }
    }
    let mut forms: Vec<Form> = found.into_values().map(|(form, next)| Form { next, ..form }).collect();
    let pairs: Vec<Form> = forms.iter().filter(|f| starts_pair(f)).map(as_pair).collect();
    let pool: Vec<Form> = forms.iter().filter(|f| fits_a_run(f)).cloned().collect();
    forms.extend(pairs);
    if let Some(first) = pool.first().cloned() {
        let pool: Rc<[Form]> = pool.into();
        // As many vectors as a few dozen forms get.
        for n in 2..=RUN {
            let name = format!("run of {n} instructions");
            forms.push(Form { name, run: Some(pool.clone()), ..first.clone() });
        }
    }
    (forms, reasons)
}

/// Instructions in the longest run.
pub const RUN: usize = 12;

/// Whether the form may be part of a run: flags that are defined (but for AF), and no way out of the block.
fn fits_a_run(form: &Form) -> bool {
    use Mnemonic::*;
    let plain = matches!(
        form.mnemonic,
        Add | Adc | Sub | Sbb | Cmp | And | Or | Xor | Test | Inc | Dec | Neg | Not | Mov | Lea | Xchg | Movzx | Movsx
    ) || matches!(
        form.mnemonic,
        Sahf | Clc | Stc | Cmc | Cbw | Cwde | Cwd | Cdq | Push | Bswap | Cmpxchg | Xadd
    ) || matches!(
        form.mnemonic,
        Seta | Setae | Setb | Setbe | Sete | Setne | Setg | Setge | Setl | Setle | Seto | Sets
    ) || matches!(
        form.mnemonic,
        Cmova | Cmovb | Cmove | Cmovg | Cmovl | Cmovo | Cmovs | Cmovp | Cmovne | Setp
    );
    let by_one =
        matches!(form.mnemonic, Shl | Shr | Sar | Rol | Ror | Rcl | Rcr) && matches!(form.opcode[..], [0xd0 | 0xd1]);
    let segment = matches!(form.opcode[..], [0x8c | 0x8e | 0x06 | 0x0e | 0x16 | 0x1e] | [0x0f, 0xa0 | 0xa8]);
    let undefined = form.mnemonic == Bswap && form.prefixes.contains(&0x66);
    (plain || by_one) && !segment && !undefined
}

/// Whether the instruction is the same without the prefixes: then they say nothing and are added at random.
fn redundant(prefixes: &[u8], rest: &[u8], insn: &Instruction, code32: bool) -> bool {
    let mut plain = rest.to_vec();
    plain.extend([0x30, 0x40, 0x50, 0x60, 0x70]);
    let without = decode(&plain, code32);
    let string = matches!(rest, [0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf, ..]);
    let repeated = string && prefixes.iter().any(|p| matches!(p, 0xf2 | 0xf3));
    let locked = prefixes.contains(&0xf0);
    // A memory operand's address size is varied at random too.
    let addressed = prefixes.contains(&0x67) && has_memory(insn);
    if prefixes.len() == 2 && !repeated {
        // 66 67 counts only where both change the instruction.
        let one = |p: u8| decode(&[&[p], &plain[..]].concat(), code32).code();
        if prefixes.iter().any(|p| one(*p) == insn.code()) {
            return true;
        }
    }
    addressed || (without.code() == insn.code() && !repeated && !locked)
}

fn name(insn: &Instruction, prefixes: &[u8], memory: bool) -> String {
    let mut name = format!("{:?}", insn.code());
    if memory {
        name += " mem";
    }
    for (prefix, text) in [(0xf0, " lock"), (0xf2, " repne"), (0xf3, " rep")] {
        if prefixes.contains(&prefix) && (prefix == 0xf0 || insn.has_rep_prefix() || insn.has_repne_prefix()) {
            name += text;
        }
    }
    name
}

/// Whether the core fuses this instruction with a conditional jump behind it (`cpu/fuse.rs`).
fn starts_pair(form: &Form) -> bool {
    form.prefixes.is_empty()
        && matches!(
            form.mnemonic,
            Mnemonic::Cmp
                | Mnemonic::Test
                | Mnemonic::Dec
                | Mnemonic::And
                | Mnemonic::Sub
                | Mnemonic::Add
                | Mnemonic::Inc
        )
}

fn as_pair(form: &Form) -> Form {
    Form { name: format!("{} + Jcc", form.name), pair: true, ..form.clone() }
}

/// Bytes of a random encoding of `form`, which is not a run.
#[must_use]
pub fn encode(form: &Form, rng: &mut Rng) -> Option<(Vec<u8>, Instruction)> {
    let mut bytes = form.prefixes.clone();
    let mut extra = Vec::new();
    if form.memory && rng.one_in(12) && !bytes.contains(&0x67) {
        extra.push(0x67);
    }
    if rng.one_in(if form.memory { 6 } else { 40 }) {
        extra.push(rng.pick(&[0x65, 0x65, 0x65, 0x64, 0x26, 0x2e, 0x36, 0x3e]));
    }
    if rng.one_in(40) {
        extra.push(rng.pick(&[0x66, 0xf2, 0xf3, 0x67]));
    }
    for prefix in extra {
        let at = rng.below(bytes.len() as u32 + 1) as usize;
        bytes.insert(at, prefix);
    }
    bytes.extend(&form.opcode);
    bytes.push(rng.pick(&form.next));
    while bytes.len() < 16 {
        bytes.push(rng.byte());
    }
    bytes.truncate(15);
    let insn = decode(&bytes, form.code32);
    if insn.is_invalid() || insn.code() != form.code || has_memory(&insn) != form.memory {
        return None;
    }
    bytes.truncate(insn.len());
    if accepted(&bytes, form.code32).is_none() || exclusion(&insn, &bytes).is_some() {
        return None;
    }
    Some((bytes, insn))
}
