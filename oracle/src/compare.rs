//! Two outcomes of a vector: what differs, under the masks.

use crate::forms;
use crate::layout::{CODE, CODE_LEN, DATA, DATA_LEN, base};
use crate::masks::{self, Mask};
use crate::ours::word;
use crate::vector::{Exception, FX_LEN, FX_MXCSR, FX_ST, FX_XMM, Outcome, Vector, data_slice};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::fmt::Write as _;

const NAMES: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
/// Flags that user mode can see or change: status, TF, IF, DF, NT, RF, AC, ID.
const FLAGS: u32 = 0x25_4fd5;

/// CF, PF, AF, ZF, SF, OF.
const STATUS: u32 = 0x8d5;
/// An unmasked x87 exception is pending.
const FSW_ES: u8 = 0x80;
const RF: u32 = 0x1_0000;
const AC: u32 = 0x4_0000;

/// What the host says, as the core says it: a trap or fetch fault where the instruction led to is where it led to.
#[must_use]
pub fn landed(vector: &Vector, mut host: Outcome) -> Outcome {
    let inside = |eip: u32| (vector.eip()..vector.end()).contains(&eip);
    match host.exception {
        Some(Exception { vector: 3, .. }) if !inside(host.eip.wrapping_sub(1)) => {
            host.eip = host.eip.wrapping_sub(1);
            host.exception = None;
        }
        // A fetch, which the kernel does not always say.
        Some(Exception { vector: 14, code, address }) if !inside(host.eip) => {
            let at = host.eip.wrapping_add(base(host.sel[1]));
            if code & 0x10 == 0 && address != at {
                return host;
            }
            host.exception = None;
        }
        // Behind the limit of the code segment.
        Some(Exception { vector: 13, code: 0, .. }) if !inside(host.eip) => host.exception = None,
        _ => return host,
    }
    // A trap's frame does not show RF, a fault's does.
    host.flags &= !0x1_0000;
    host
}

/// The mask of a vector that ended as `host` says.
#[must_use]
pub fn mask_of(vector: &Vector, data: &[u8; DATA_LEN as usize], host: &Outcome) -> Mask {
    if vector.count > 1 {
        // Only AF is undefined in what runs are made of.
        return Mask { flags: 0x10, ..Mask::default() };
    }
    let insn = forms::decode(&vector.code, vector.code32());
    if vector.flags & AC != 0 && matches!(insn.mnemonic(), Mnemonic::Enter | Mnemonic::Maskmovq | Mnemonic::Maskmovdqu)
    {
        return Mask { all: true, ..Mask::default() };
    }
    match host.exception {
        // A single step is a trap: the instruction retired, or an iteration of it.
        Some(exception) if repeated_comparison(vector, &insn) && host.eip == vector.eip() => {
            let mask = masks::mask_of_fault(&insn, exception.vector);
            let trap = if exception.vector == 1 { RF } else { 0 };
            let kept = (host.flags ^ vector.flags) & STATUS == 0;
            return Mask { flags: trap | if kept { 0 } else { STATUS }, ..mask };
        }
        Some(Exception { vector: 1, .. }) if host.eip == vector.eip() => return Mask { flags: RF, ..Mask::default() },
        Some(Exception { vector: 1, .. }) | None => {}
        // Whether accesses of 16 bytes that need not be aligned are checked is the implementation's.
        Some(Exception { vector: 17, .. }) if masks::unaligned_16(&insn) => {
            return Mask { all: true, ..Mask::default() };
        }
        Some(exception) => return masks::mask_of_fault(&insn, exception.vector),
    }
    let source_zero = matches!(insn.mnemonic(), Mnemonic::Bsf | Mnemonic::Bsr) && {
        let wide = (Register::EAX as u32..Register::EAX as u32 + 8).contains(&(insn.op0_register() as u32));
        let size = if wide { 4 } else { 2 };
        if insn.op1_kind() == OpKind::Register {
            let first = if wide { Register::EAX } else { Register::AX };
            let value = vector.gpr[(insn.op1_register() as u32 - first as u32) as usize & 7];
            if wide { value == 0 } else { value as u16 == 0 }
        } else {
            let at = masks::operand_address(&insn, vector);
            data_slice(data, at, size).is_some_and(|bytes| bytes.iter().all(|b| *b == 0))
        }
    };
    let mut mask = masks::mask(&insn, vector, source_zero);
    // An x87 store that no exception stops accesses its operand.
    mask.unread &= insn.mnemonic() == Mnemonic::Pop || host.fx[2] & FSW_ES != 0;
    mask.unaligned = masks::unaligned_16(&insn);
    mask
}

/// REP CMPS and REP SCAS.
fn repeated_comparison(vector: &Vector, insn: &Instruction) -> bool {
    use Mnemonic as M;
    let compares = matches!(insn.mnemonic(), M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Scasb | M::Scasw | M::Scasd);
    compares && vector.count == 1 && (insn.has_rep_prefix() || insn.has_repne_prefix())
}

/// Sign, and position on the line of 80-bit values.
fn line(fx: &[u8; FX_LEN], n: usize) -> (u16, i128) {
    let at = FX_ST + 16 * n;
    let sig = u64::from_le_bytes(std::array::from_fn(|i| fx[at + i]));
    let exp = u16::from_le_bytes([fx[at + 8], fx[at + 9]]);
    (exp >> 15, i128::from(exp & 0x7fff) << 63 | i128::from(sig & !(1 << 63)))
}

fn near_f32(a: u32, b: u32) -> bool {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    a == b || (x.is_nan() && y.is_nan()) || (x - y).abs() <= x.abs() / 1024.0
}

/// Equal but for NaN, as vectors of binary32 or of binary64.
fn same_but_nan(a: &[u8], b: &[u8]) -> bool {
    let halves =
        |v: &[u8]| -> [u64; 2] { std::array::from_fn(|n| u64::from_le_bytes(std::array::from_fn(|i| v[8 * n + i]))) };
    let doubles = |(x, y): (u64, u64)| x == y || f64::from_bits(x).is_nan() && f64::from_bits(y).is_nan();
    let singles = |(x, y): (u64, u64)| {
        [0, 32].into_iter().all(|shift| {
            let (x, y) = ((x >> shift) as u32, (y >> shift) as u32);
            x == y || f32::from_bits(x).is_nan() && f32::from_bits(y).is_nan()
        })
    };
    let pairs = || halves(a).into_iter().zip(halves(b));
    pairs().all(doubles) || pairs().all(singles)
}

/// What differs between host and core; empty when nothing does.
#[must_use]
pub fn differences(
    mask: &Mask,
    host: &Outcome,
    host_data: &[u8; DATA_LEN as usize],
    core: &Outcome,
    core_data: &[u8; DATA_LEN as usize],
) -> String {
    let mut text = String::new();
    // The common case in few instructions.
    if mask.all || host == core && host_data == core_data {
        return text;
    }
    let (a, b) = (host.exception, core.exception);
    let of_memory = |e: Option<Exception>| e.is_some_and(|e| (11..=14).contains(&e.vector));
    let alignment = |e: Option<Exception>| e.is_some_and(|e| e.vector == 17);
    if mask.unread && a.is_none_or(|e| matches!(e.vector, 1 | 5)) && (of_memory(b) || alignment(b))
        || mask.unaligned && a.is_none_or(|e| e.vector == 1) && alignment(b)
    {
        return text;
    }
    let mut show = |what: &str, host: &dyn std::fmt::LowerHex, core: &dyn std::fmt::LowerHex| {
        let _ = write!(text, " {what}: host {host:x} core {core:x};");
    };
    if host.eip != core.eip {
        show("eip", &host.eip, &core.eip);
    }
    for (n, name) in NAMES.iter().enumerate() {
        let bits = if n == usize::from(mask.bits.0) { !mask.bits.1 } else { u32::MAX };
        if (host.gpr[n] ^ core.gpr[n]) & bits != 0 && mask.gpr >> n & 1 == 0 {
            show(name, &host.gpr[n], &core.gpr[n]);
        }
    }
    for (n, name) in SEGMENTS.iter().enumerate() {
        // The kernel makes one null selector of all four on its way back.
        let null = host.sel[n] < 4 && core.sel[n] < 4;
        if host.sel[n] != core.sel[n] && !null {
            show(name, &host.sel[n], &core.sel[n]);
        }
    }
    if (host.flags ^ core.flags) & FLAGS & !mask.flags != 0 {
        show("flags", &(host.flags & FLAGS), &(core.flags & FLAGS));
    }
    let several = mask.several && a.is_some() && of_memory(b);
    let either = alignment(a) && of_memory(b) || of_memory(a) && alignment(b);
    let end = |e: Option<Exception>| e.is_some_and(|e| e.vector == 14 && e.address >= 0xffff_fff0);
    let limit = |e: Option<Exception>| e.is_some_and(|e| matches!(e.vector, 12 | 13) && e.code == 0);
    let either = either || end(a) && limit(b) || limit(a) && end(b);
    if a != b && !several && !either {
        let _ = write!(text, " exception: host {a:x?} core {b:x?};");
    }
    if !mask.floating {
        floating(mask, &host.fx, &core.fx, &mut text);
    }
    if host_data != core_data && !(several && mask.partial) {
        let hidden =
            |at: u32| [mask.memory, mask.pointers].into_iter().flatten().any(|(from, len)| at.wrapping_sub(from) < len);
        let different = (0..DATA_LEN).filter(|i| host_data[*i as usize] != core_data[*i as usize]);
        for at in different.map(|i| DATA + i).filter(|at| !hidden(*at)).take(8) {
            let i = (at - DATA) as usize;
            let _ = write!(text, " [{at:x}]: host {:02x} core {:02x};", host_data[i], core_data[i]);
        }
    }
    text
}

fn floating(mask: &Mask, host: &[u8; FX_LEN], core: &[u8; FX_LEN], text: &mut String) {
    let half = |fx: &[u8; FX_LEN], at: usize| u16::from_le_bytes([fx[at], fx[at + 1]]);
    let (mut a, mut b) = (half(host, 2), half(core, 2));
    let underflow = mask.transcendental && (a ^ b) & 0x10 != 0;
    if mask.transcendental {
        (a, b) = (a & !0x200, b & !0x200);
        // Underflow, and with it the summary and precision, next to the smallest numbers.
        if underflow {
            (a, b) = (a & !0x80b0, b & !0x80b0);
        }
    }
    if a != b {
        let _ = write!(text, " fsw: host {a:x} core {b:x};");
    }
    for (at, name) in [(0, "fcw"), (4, "ftw")] {
        if half(host, at) != half(core, at) {
            let _ = write!(text, " {name}: host {:x} core {:x};", half(host, at), half(core, at));
        }
    }
    for n in 0..8 {
        let at = FX_ST + 16 * n;
        if host[at..at + 10] != core[at..at + 10] {
            let ((s, x), (t, y)) = (line(host, n), line(core, n));
            if underflow || mask.transcendental && s == t && x.abs_diff(y) <= 1 {
                continue;
            }
            let (x, y) = (&host[at..at + 10], &core[at..at + 10]);
            let _ = write!(text, " st{n}: host {} core {};", hex_be(x), hex_be(y));
        }
    }
    if word(host, FX_MXCSR) != word(core, FX_MXCSR) {
        let _ = write!(text, " mxcsr: host {:x} core {:x};", word(host, FX_MXCSR), word(core, FX_MXCSR));
    }
    for n in 0..8 {
        let at = FX_XMM + 16 * n;
        let near = (0..4).all(|i| near_f32(word(host, at + 4 * i), word(core, at + 4 * i)));
        let nan = mask.nan && same_but_nan(&host[at..at + 16], &core[at..at + 16]);
        if host[at..at + 16] != core[at..at + 16] && !(mask.approximate && near) && !nan {
            let _ = write!(text, " xmm{n}: host {} core {};", hex_be(&host[at..at + 16]), hex_be(&core[at..at + 16]));
        }
    }
}

fn hex_be(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|b| format!("{b:02x}")).collect()
}

const _: () = assert!(CODE + CODE_LEN < DATA, "landing in data is not landing in code");
