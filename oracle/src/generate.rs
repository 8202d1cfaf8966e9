//! Random vectors of a form: operands, memory and state chosen so that most of them do something.

use crate::forms::{self, Form, is_string};
use crate::layout::*;
use crate::rng::Rng;
use crate::vector::{FX_MXCSR, FX_ST, FX_XMM, PLAIN_FLAGS, Vector};
use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind, Register};

const STATUS: u32 = 0x8d5;
const DF: u32 = 0x400;
const NT: u32 = 0x4000;
const ID: u32 = 0x20_0000;
const TF: u32 = 0x100;
const AC: u32 = 0x4_0000;

/// x87 states are random but consistent: ES tells of an unmasked exception.
fn x87(rng: &mut Rng, fx: &mut [u8], mnemonic_is_x87: bool) {
    let masks = if mnemonic_is_x87 && rng.one_in(3) { rng.below(64) as u16 } else { 0x3f };
    let rounding = (rng.below(8).saturating_sub(4) as u16) << 10;
    let precision = rng.pick(&[3u16, 3, 2, 0]) << 8;
    let control = 0x40 | masks | rounding | precision;
    let mut status = rng.bits() as u16 & 0x4700;
    if rng.one_in(4) {
        status |= rng.bits() as u16 & if rng.one_in(8) { 0x7f } else { 0x7f & masks };
    }
    if status & !control & 0x3f != 0 {
        status |= 0x8080;
    }
    let top = rng.below(8) as u16;
    let valid = match rng.below(8) {
        0 => rng.bits() as u8,
        // A few registers from the top of the stack on.
        _ => (0xff_u8 >> rng.below(7)).rotate_left(top.into()),
    };
    fx[0..2].copy_from_slice(&control.to_le_bytes());
    fx[2..4].copy_from_slice(&(status | top << 11).to_le_bytes());
    fx[4] = valid;
    for n in 0..8 {
        let (sig, exp) = rng.extended();
        let at = FX_ST + 16 * n;
        fx[at..at + 8].copy_from_slice(&sig.to_le_bytes());
        fx[at + 8..at + 10].copy_from_slice(&exp.to_le_bytes());
    }
}

fn sse(rng: &mut Rng, fx: &mut [u8]) {
    let mut mxcsr = 0x1f80 | rng.bits() as u32 & rng.pick(&[0, 0x3f, 0xe040, 0xe07f]);
    if rng.one_in(6) {
        mxcsr = mxcsr & !0x1f80 | rng.bits() as u32 & 0x1f80;
    }
    fx[FX_MXCSR..FX_MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
    for quad in fx[FX_XMM..].chunks_exact_mut(8) {
        quad.copy_from_slice(&rng.quad().to_le_bytes());
    }
    if rng.one_in(4) {
        // Equal operands.
        let (from, to) = (rng.below(8) as usize, rng.below(8) as usize);
        fx.copy_within(FX_XMM + 16 * from..FX_XMM + 16 * from + 16, FX_XMM + 16 * to);
    }
}

/// An address in the data pages, now and then where something goes wrong.
fn data_address(rng: &mut Rng, size: u32) -> u32 {
    let offset = match rng.below(16) {
        // Across the two pages that may be written, at the end of them, and at both ends of all.
        0 => 0x1000u32.wrapping_sub(rng.below(size + 2)),
        1 => DATA_RW.wrapping_sub(rng.below(size + 2)),
        2 if rng.one_in(2) => DATA_LEN.wrapping_sub(rng.below(size + 2)),
        2 if rng.one_in(2) => rng.below(4).wrapping_sub(2),
        3 => DATA_RW + rng.below(0x800),
        4..9 => rng.below(DATA_RW - 64) & !63,
        9..12 => rng.below(DATA_RW - 64) & !(size.next_power_of_two().min(64) - 1),
        _ => rng.below(DATA_RW - 64),
    };
    DATA.wrapping_add(offset)
}

fn register(rng: &mut Rng, size: u32) -> u32 {
    if rng.one_in(4) { data_address(rng, size) } else { rng.int32() }
}

/// Bytes of the memory operand.
#[must_use]
pub fn operand_size(insn: &Instruction) -> u32 {
    use MemorySize::*;
    match insn.memory_size() {
        UInt8 | Int8 => 1,
        UInt16 | Int16 | WordOffset | Packed16_UInt8 | Packed16_Int8 => 2,
        SegPtr32 | Fword6 => 6,
        UInt64 | Int64 | Float64 | Bound32_DwordDword => 8,
        Packed64_UInt8 | Packed64_Int8 | Packed64_UInt16 | Packed64_Int16 | Packed64_UInt32 | Packed64_Int32
        | Packed64_Float32 => 8,
        Float80 | Bcd => 10,
        FpuEnv14 => 14,
        FpuEnv28 => 28,
        FpuState94 => 94,
        FpuState108 => 108,
        Fxsave_512Byte => 512,
        UInt128 | Int128 | Packed128_UInt8 | Packed128_Int8 | Packed128_UInt16 | Packed128_Int16 | Packed128_UInt32
        | Packed128_Int32 | Packed128_UInt64 | Packed128_Int64 | Packed128_Float32 | Packed128_Float64 => 16,
        Unknown => 1,
        _ => 4,
    }
}

/// Whether iced's register is a general one; its number.
fn gpr(r: Register) -> Option<usize> {
    let within = |first: Register, n: u32| (r as u32).checked_sub(first as u32).filter(|i| *i < n).map(|i| i as usize);
    within(Register::EAX, 8).or_else(|| within(Register::AX, 8))
}

fn gpr_is_wide(r: Register) -> bool {
    (Register::EAX as u32..Register::EAX as u32 + 8).contains(&(r as u32))
}

/// Number of the segment register that the memory operand goes through.
#[must_use]
pub fn segment(insn: &Instruction) -> usize {
    (insn.memory_segment() as usize).wrapping_sub(Register::ES as usize).min(5)
}

/// Offset of the encoded memory operand.
#[must_use]
pub fn offset(insn: &Instruction, gprs: &[u32; 8]) -> u32 {
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let value = |r: Register| gpr(r).map_or(0, |n| gprs[n]);
    let sum = value(base)
        .wrapping_add(value(index).wrapping_mul(insn.memory_index_scale()))
        .wrapping_add(insn.memory_displacement64() as u32);
    if is_addr16(insn) { sum & 0xffff } else { sum }
}

/// Whether the memory operand's address is computed in 16 bits.
#[must_use]
pub fn is_addr16(insn: &Instruction) -> bool {
    let wide = gpr_is_wide;
    let (base, index) = (insn.memory_base(), insn.memory_index());
    if base == Register::None && index == Register::None {
        return insn.memory_displ_size() == 2;
    }
    !wide(base) && !wide(index)
}

/// Makes the memory operand lie at linear address `target` if a register or the displacement can do that.
fn steer(insn: &Instruction, v: &mut Vector, target: u32) {
    let offset_wanted = target.wrapping_sub(base(v.sel[segment(insn)]));
    let addr16 = is_addr16(insn);
    let change = offset_wanted.wrapping_sub(offset(insn, &v.gpr));
    let (base_register, index) = (insn.memory_base(), insn.memory_index());
    let adjust = |v: &mut Vector, n: usize, by: u32| {
        let new = v.gpr[n].wrapping_add(by);
        v.gpr[n] = if addr16 { v.gpr[n] & 0xffff_0000 | new & 0xffff } else { new };
    };
    if let Some(n) = gpr(base_register) {
        if gpr(index) == Some(n) {
            v.gpr[n] = 0;
            return;
        }
        adjust(v, n, change);
    } else if let Some(n) = gpr(index) {
        if insn.memory_index_scale() == 1 {
            adjust(v, n, change);
        } else if insn.memory_displ_size() < 4 {
            adjust(v, n, change / insn.memory_index_scale());
        } else {
            patch(insn, v, change);
        }
    } else {
        patch(insn, v, change);
    }
}

/// The first byte behind the prefixes.
fn opcode_byte(code: &[u8]) -> Option<u8> {
    code.iter().copied().find(|b| !forms::is_prefix(*b))
}

/// Adds to the displacement in the code.
fn patch(insn: &Instruction, v: &mut Vector, change: u32) {
    let wanted = (insn.memory_displacement64() as u32).wrapping_add(change);
    let size = insn.memory_displ_size() as usize;
    // The count of D0 and D1 is an operand without a byte.
    let implied = opcode_byte(&v.code).is_some_and(|b| matches!(b, 0xd0 | 0xd1));
    let immediates = (0..insn.op_count())
        .map(|n| match insn.op_kind(n) {
            OpKind::Immediate8 | OpKind::Immediate8to16 | OpKind::Immediate8to32 | OpKind::Immediate8_2nd => 1,
            OpKind::Immediate16 => 2,
            OpKind::Immediate32 => 4,
            _ => 0,
        })
        .sum::<usize>();
    let immediates = if implied { 0 } else { immediates };
    if let Some(at) = insn.len().checked_sub(immediates + size).filter(|_| size >= 2) {
        v.code[at..at + size].copy_from_slice(&wanted.to_le_bytes()[..size]);
    }
}

/// A value for memory at `at` for the instruction.
fn memory_operand(insn: &Instruction, size: u32, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    match size {
        512 => {
            let mut image = [0; 512];
            x87(rng, &mut image, true);
            sse(rng, &mut image[..288]);
            bytes.extend(image);
        }
        94 | 108 | 14 | 28 => {
            // Control, status and tag words, four or two bytes apart; then registers.
            let step = if matches!(size, 28 | 108) { 4 } else { 2 };
            bytes.resize(size as usize, 0);
            let masks = if rng.one_in(3) { rng.below(64) as u16 } else { 0x3f };
            let control = 0x40 | masks | (rng.below(16) as u16) << 8;
            let status = rng.bits() as u16 & if rng.one_in(3) { 0x7f7f } else { 0x7f00 };
            bytes[..2].copy_from_slice(&control.to_le_bytes());
            bytes[step..step + 2].copy_from_slice(&status.to_le_bytes());
            bytes[2 * step..2 * step + 2].copy_from_slice(&(rng.bits() as u16).to_le_bytes());
            if size > 28 {
                for slot in bytes[7 * step..].chunks_exact_mut(10) {
                    let (sig, exp) = rng.extended();
                    slot[..8].copy_from_slice(&sig.to_le_bytes());
                    slot[8..].copy_from_slice(&exp.to_le_bytes());
                }
            }
        }
        10 if insn.mnemonic() == Mnemonic::Fbld => {
            for n in 0..10 {
                let digits = (rng.below(10) | rng.below(10) << 4) as u8;
                bytes.push(if n == 9 { (rng.bits() as u8) & 0x80 } else { digits });
            }
        }
        10 => {
            let (sig, exp) = rng.extended();
            bytes.extend(sig.to_le_bytes());
            bytes.extend(exp.to_le_bytes());
        }
        4 if insn.mnemonic() == Mnemonic::Ldmxcsr => {
            let value = rng.bits() as u32 & if rng.one_in(8) { 0x0001_ffff } else { 0xffff };
            bytes.extend(value.to_le_bytes());
        }
        4 => bytes.extend(if rng.one_in(2) { rng.single() } else { rng.int32() }.to_le_bytes()),
        8 => bytes.extend(rng.quad().to_le_bytes()),
        _ => (0..size.div_ceil(8)).for_each(|_| bytes.extend(rng.quad().to_le_bytes())),
    }
    bytes.truncate(size as usize);
    bytes
}

/// A random vector of `form`; `None` when the dice gave an encoding that is something else.
#[must_use]
pub fn generate(form: &Form, fill: u64, rng: &mut Rng) -> Option<Vector> {
    if let Some(pool) = &form.run {
        return run(form, pool, fill, rng);
    }
    let (code, insn) = forms::encode(form, rng)?;
    let mut v = state(form, code, &insn, fill, rng);
    if form.pair {
        let displacement = if rng.one_in(2) { 0x20 } else { 0x80 } | rng.below(32) as u8;
        v.code.extend([0x70 | rng.below(16) as u8, displacement]);
        v.count = 2;
        v.at = CODE + 0x300;
    }
    allowed(&v, form).then_some(v)
}

/// The code of `first`, a vector of `form`, on another random state.
#[must_use]
pub fn again(form: &Form, first: &Vector, fill: u64, rng: &mut Rng) -> Option<Vector> {
    let insn = forms::decode(&first.code, form.code32);
    let same = |f: &&Form| f.code == insn.code() && f.memory == forms::has_memory(&insn);
    let of_first = match &form.run {
        Some(pool) => pool.iter().find(same)?,
        None => form,
    };
    let mut v = state(of_first, first.code[..insn.len()].to_vec(), &insn, fill, rng);
    // What would have been written into the code stays as it was.
    (v.code, v.count, v.at) = (first.code.clone(), first.count, first.at);
    (form.run.is_some() || allowed(&v, form)).then_some(v)
}

/// A random state for an instruction of `form`.
fn state(form: &Form, code: Vec<u8>, insn: &Instruction, fill: u64, rng: &mut Rng) -> Vector {
    let mut v = Vector { fill, ..Vector::default() };
    v.code = code;
    let x87_form = (0xd8..=0xdf).contains(&form.opcode[0]) || form.mnemonic == Mnemonic::Wait;
    let simd = form.opcode[0] == 0x0f;
    if x87_form || simd {
        let unmasked = x87_form || rng.one_in(8);
        x87(rng, &mut v.fx, unmasked);
        sse(rng, &mut v.fx);
    }
    let size = operand_size(insn);
    for n in &mut v.gpr {
        *n = register(rng, size);
    }
    v.gpr[4] = data_address(rng, 4) & !if rng.one_in(8) { 0 } else { 3 };
    if rng.one_in(3) {
        v.gpr[5] = data_address(rng, 4);
    }
    v.flags = PLAIN_FLAGS | rng.bits() as u32 & (STATUS | ID);
    let string = is_string(form.mnemonic, &form.opcode);
    if rng.one_in(if string { 2 } else { 16 }) {
        v.flags |= DF;
    }
    if rng.one_in(64) && !matches!(form.mnemonic, Mnemonic::Iret | Mnemonic::Iretd) {
        v.flags |= NT;
    }
    if rng.one_in(24) {
        v.flags |= AC;
    }
    // The instruction behind one that loads SS does not trap: it would be the host's own.
    if form.code32 && rng.one_in(32) && !loads_ss(form, &v.code) {
        v.flags |= TF;
    }
    segments(form, &mut v, rng);
    if !form.code32 {
        // Stack and frame pointers are offsets.
        let stack = base(v.sel[2]);
        for n in [4, 5] {
            v.gpr[n] = if rng.one_in(2) { v.gpr[n] & 0xffff_0000 } else { 0 } | (v.gpr[n].wrapping_sub(stack) & 0xffff);
        }
    }
    v.at = match rng.below(24) {
        0 => CODE + 0x1000 - rng.below(v.code.len() as u32 + 1),
        1 if rng.one_in(4) => CODE + CODE_LEN - rng.below(v.code.len() as u32 + 1).max(1),
        _ => CODE + 0x100 + rng.below(0x600),
    };
    if forms::has_memory(insn) {
        if !rng.one_in(12) {
            let target = data_address(rng, size);
            steer(insn, &mut v, target);
        }
        let insn = forms::decode(&v.code, form.code32);
        let at = base(v.sel[segment(&insn)]).wrapping_add(offset(&insn, &v.gpr));
        if matches!(form.mnemonic, Mnemonic::Fxrstor | Mnemonic::Ldmxcsr) || !rng.one_in(4) {
            v.memory.push((at, memory_operand(&insn, size, rng)));
        }
    }
    let insn = forms::decode(&v.code, form.code32);
    specific(form, &insn, &mut v, rng);
    v
}

/// A run of instructions, as long as the form's name says. The first is an ordinary vector of its form.
fn run(form: &Form, pool: &[Form], fill: u64, rng: &mut Rng) -> Option<Vector> {
    let count: u32 = form.name.split(' ').find_map(|word| word.parse().ok())?;
    let any = |rng: &mut Rng| &pool[rng.below(pool.len() as u32) as usize];
    let mut v = generate(any(rng), fill, rng)?;
    v.at = CODE + 0x100 + rng.below(0x600);
    while v.count < count {
        let form = any(rng);
        // Nobody steers their addresses, so most of them fault, and a long run would never come to its end.
        if form.memory && !rng.one_in(2 * count) {
            continue;
        }
        let Some(next) = generate(form, fill, rng) else { continue };
        v.code.extend(next.code);
        v.count += 1;
    }
    Some(v)
}

fn loads_ss(form: &Form, code: &[u8]) -> bool {
    let insn = forms::decode(code, form.code32);
    insn.op0_register() == Register::SS || insn.mnemonic() == Mnemonic::Lss
}

/// Segment registers: flat in 32-bit code but for FS (null) and GS; sometimes more of them.
fn segments(form: &Form, v: &mut Vector, rng: &mut Rng) {
    let data = [L_DATA, L_READ_ONLY, L_DOWN, L_ODD, L_CODE];
    if form.code32 {
        v.sel[5] = rng.pick(&data);
        if rng.one_in(10) {
            v.sel[3] = rng.pick(&data);
            v.sel[0] = rng.pick(&data);
        }
    } else {
        v.sel = [L_DATA16, L_CODE16, L_DATA16, L_DATA16, 0, rng.pick(&data)];
        for n in [0, 2, 3] {
            v.sel[n] = rng.pick(&[L_DATA16, L_HIGH16]);
        }
    }
}

/// What particular instructions need to be interesting.
fn specific(form: &Form, insn: &Instruction, v: &mut Vector, rng: &mut Rng) {
    use Mnemonic as M;
    let put32 = |v: &mut Vector, at: u32, value: u32| v.memory.push((at, value.to_le_bytes().to_vec()));
    let stack = base(v.sel[2]).wrapping_add(if form.code32 { v.gpr[4] } else { v.gpr[4] & 0xffff });
    // Somewhere in the filler, as EIP counts.
    let landing = (CODE + 0x900 + rng.below(0x600)).wrapping_sub(base(v.sel[1]));
    let pointer = |rng: &mut Rng, seg: u16, size: u32| data_address(rng, size).wrapping_sub(base(seg));
    if is_string(form.mnemonic, &form.opcode) {
        let source = v.sel[segment(insn)];
        let (si, di) = (pointer(rng, source, 4), pointer(rng, v.sel[0], 4));
        v.gpr[6] = si;
        v.gpr[7] = if rng.one_in(3) {
            // Overlapping.
            si.wrapping_add(base(source)).wrapping_sub(base(v.sel[0])).wrapping_add(rng.below(32)).wrapping_sub(16)
        } else {
            di
        };
        v.gpr[1] = match rng.below(8) {
            0 => rng.below(0x1000),
            1 => 0,
            2 if rng.one_in(4) => rng.int32(),
            _ => rng.below(40),
        };
        if !form.code32 {
            v.gpr[1] &= 0x1fff;
            if rng.one_in(2) {
                v.gpr[6] &= 0xffff;
                v.gpr[7] &= 0xffff;
            }
        }
        if rng.one_in(2) {
            // Equal bytes for the compares to go on over.
            let byte = v.gpr[0] as u8;
            for at in [si.wrapping_add(base(source)), v.gpr[7].wrapping_add(base(v.sel[0]))] {
                v.memory.push((at.wrapping_sub(24), vec![byte; 24 + rng.below(40) as usize]));
            }
            v.gpr[0] = u32::from(byte) * 0x0101_0101;
        }
    }
    match form.mnemonic {
        M::Shl | M::Shr | M::Sar | M::Sal | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd if !rng.one_in(4) => {
            v.gpr[1] = v.gpr[1] & !0xff | rng.below(36);
        }
        M::Bt | M::Bts | M::Btr | M::Btc if form.memory && rng.one_in(2) => {
            let n = (insn.op1_register() as u32).wrapping_sub(Register::EAX as u32) & 7;
            if gpr(insn.memory_base()) != Some(n as usize) && gpr(insn.memory_index()) != Some(n as usize) {
                v.gpr[n as usize] = rng.below(0x8000).wrapping_sub(0x4000);
            }
        }
        M::Div | M::Idiv if !rng.one_in(4) => {
            let small = rng.below(0x100);
            match rng.below(4) {
                0 => v.gpr[2] = 0,
                1 => v.gpr[2] = if v.gpr[0] >> 31 != 0 { u32::MAX } else { 0 },
                2 => v.gpr[2] = small,
                _ => v.gpr[2] = small.wrapping_neg(),
            }
            if matches!(form.opcode[0], 0xf6) {
                v.gpr[0] = v.gpr[0] & 0xff | (v.gpr[2] & 0x1f) << 8;
            }
        }
        M::Cmpxchg if rng.one_in(2) => {
            // Equal: the destination is what EAX holds.
            if form.memory {
                let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
                put32(v, at, v.gpr[0]);
            } else if let Some(n) = gpr(insn.op0_register()) {
                v.gpr[n] = v.gpr[0];
            }
        }
        M::Cmpxchg8b if rng.one_in(2) => {
            let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
            put32(v, at, v.gpr[0]);
            put32(v, at.wrapping_add(4), v.gpr[2]);
        }
        M::Bound => {
            if let Some(n) = gpr(insn.op0_register()) {
                let value = v.gpr[n];
                let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
                let low = value.wrapping_sub(rng.below(3).wrapping_sub(1));
                let high = value.wrapping_add(rng.below(3).wrapping_sub(1));
                if operand_size(insn) == 4 {
                    put32(v, at, low & 0xffff | high << 16);
                } else {
                    put32(v, at, low);
                    put32(v, at.wrapping_add(4), high);
                }
            }
        }
        M::Xlatb => v.gpr[3] = pointer(rng, v.sel[segment(insn)], 4),
        M::Maskmovq | M::Maskmovdqu => v.gpr[7] = pointer(rng, v.sel[segment(insn)], 16),
        M::Ret => put32(v, stack, landing),
        M::Retf | M::Iret | M::Iretd => {
            let wide = matches!(form.prefixes[..], [] | [0xf2] | [0xf3]) == form.code32;
            let selector = if rng.one_in(3) { rng.pick(&SELECTORS) } else { v.sel[1] };
            let mut words = vec![landing, u32::from(selector) | (rng.bits() as u32) << 16];
            words.push(rng.bits() as u32 & (STATUS | DF | ID | 0x200 | 0x4000) | 2);
            let mut bytes = Vec::new();
            for word in words {
                bytes.extend(&word.to_le_bytes()[..if wide { 4 } else { 2 }]);
            }
            v.memory.push((stack, bytes));
        }
        M::Popf | M::Popfd => {
            put32(v, stack, rng.bits() as u32 & if rng.one_in(8) { u32::MAX } else { !TF });
        }
        M::Pop if insn.op0_kind() == OpKind::Register && gpr(insn.op0_register()).is_none() => {
            let selector = rng.pick(&SELECTORS);
            put32(v, stack, u32::from(selector) | (rng.bits() as u32) << 16);
        }
        M::Mov if form.opcode == [0x8e] => {
            let selector = rng.pick(&SELECTORS).into();
            if form.memory {
                let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
                put32(v, at, selector);
            } else if let Some(n) = gpr(insn.op1_register()) {
                v.gpr[n] = selector | v.gpr[n] & 0xffff_0000;
            }
        }
        M::Verr | M::Verw | M::Lar | M::Lsl | M::Arpl => {
            let selector: u32 = rng.pick(&SELECTORS).into();
            let rm = if form.mnemonic == M::Lar || form.mnemonic == M::Lsl { 1 } else { 0 };
            if form.memory {
                let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
                put32(v, at, selector);
            } else if let Some(n) = gpr(insn.op_register(rm)) {
                v.gpr[n] = selector | v.gpr[n] & 0xffff_0000;
            }
        }
        M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => {
            let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
            let wide = operand_size(insn) == 6;
            let selector: u32 = rng.pick(&SELECTORS).into();
            put32(v, at.wrapping_add(if wide { 4 } else { 2 }), selector);
        }
        M::Jmp | M::Call => control(form, insn, v, landing, rng),
        M::Enter if rng.one_in(2) => v.gpr[5] = v.gpr[4].wrapping_add(rng.below(64)),
        M::Leave if !rng.one_in(4) => v.gpr[5] = v.gpr[4].wrapping_add(rng.below(64)),
        _ => {}
    }
}

/// Targets of jumps and calls.
fn control(form: &Form, insn: &Instruction, v: &mut Vector, landing: u32, rng: &mut Rng) {
    let at = base(v.sel[segment(insn)]).wrapping_add(offset(insn, &v.gpr));
    let far = matches!(insn.memory_size(), MemorySize::SegPtr16 | MemorySize::SegPtr32 | MemorySize::SegPtr64);
    let selector = if rng.one_in(3) { rng.pick(&SELECTORS) } else { v.sel[1] };
    match insn.op0_kind() {
        OpKind::Memory if far => {
            let wide = insn.memory_size() == MemorySize::SegPtr32;
            let mut bytes = landing.to_le_bytes()[..if wide { 4 } else { 2 }].to_vec();
            bytes.extend(selector.to_le_bytes());
            v.memory.push((at, bytes));
        }
        OpKind::Memory if !form.code32 || !rng.one_in(8) => v.memory.push((at, landing.to_le_bytes().to_vec())),
        OpKind::Register if !rng.one_in(8) => {
            if let Some(n) = gpr(insn.op0_register()) {
                v.gpr[n] = landing;
            }
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => {
            let n = v.code.len();
            let wide = insn.op0_kind() == OpKind::FarBranch32;
            v.code[n - 2..].copy_from_slice(&selector.to_le_bytes());
            let size = if wide { 4 } else { 2 };
            v.code[n - 2 - size..n - 2].copy_from_slice(&landing.to_le_bytes()[..size]);
        }
        _ => {}
    }
}

/// Whether the vector may run: nothing in it reaches the host's 64-bit segment, and no direct branch leads into itself
/// or into the stub behind it.
fn allowed(v: &Vector, form: &Form) -> bool {
    let insn = forms::decode(&v.code, form.code32);
    if v.code.len() > 15 * v.count as usize || insn.code() != form.code {
        return false;
    }
    if !form.code32
        && v.at + v.code.len() as u32 == CODE + CODE_LEN
        && matches!(insn.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32)
    {
        // Seen on AMD: a taken branch that ends with its segment raises #GP.
        return false;
    }
    let near = match insn.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 => {
            let width = if insn.op0_kind() == OpKind::NearBranch16 { 0xffff } else { u32::MAX };
            let displacement = (insn.near_branch64() as u32).wrapping_sub(insn.len() as u32);
            Some(v.end().wrapping_add(displacement) & width)
        }
        OpKind::Register if matches!(insn.mnemonic(), Mnemonic::Jmp | Mnemonic::Call) => {
            let wide = gpr_is_wide(insn.op0_register());
            gpr(insn.op0_register()).map(|n| if wide { v.gpr[n] } else { v.gpr[n] & 0xffff })
        }
        _ => None,
    };
    let free = |target: u32| {
        let end = v.end();
        let stub = v.stub().len() as u32;
        // Nor into the host's way back.
        let exit = target.wrapping_sub(EXIT) < 0x1000;
        !exit && !(v.eip()..end).contains(&target) && !(end + 1..end + stub).contains(&target)
    };
    near.is_none_or(free)
}
