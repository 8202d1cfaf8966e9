//! The opcode maps 0F 38 and 0F 3A, and SSE3 in the map 0F (SDM vol. 2, appendix A, tables ).

use super::decode::{Found, Prefix};
use super::table::SimdOp;
use crate::cpu::system::feature;

/// SSE3 in the two-byte map.
pub(super) fn sse3(second: u8, prefix: Prefix) -> Option<Found> {
    use Prefix::{F2, F3, P66};
    use SimdOp::*;
    let op = match (prefix, second) {
        (F2, 0x12) => Movddup,
        (F3, 0x12) => Movsldup,
        (F3, 0x16) => Movshdup,
        (P66, 0x7c) => Haddpd,
        (F2, 0x7c) => Haddps,
        (P66, 0x7d) => Hsubpd,
        (F2, 0x7d) => Hsubps,
        (P66, 0xd0) => Addsubpd,
        (F2, 0xd0) => Addsubps,
        (F2, 0xf0) => Lddqu,
        _ => return None,
    };
    Some((op, false, feature::SSE3))
}

/// Map 0F 38.
pub(super) fn map38(third: u8, prefix: Prefix) -> Option<Found> {
    use SimdOp::*;
    let ssse3 = match third {
        0x00 => Some(Pshufb),
        0x01 => Some(Phaddw),
        0x02 => Some(Phaddd),
        0x03 => Some(Phaddsw),
        0x04 => Some(Pmaddubsw),
        0x05 => Some(Phsubw),
        0x06 => Some(Phsubd),
        0x07 => Some(Phsubsw),
        0x08 => Some(Psignb),
        0x09 => Some(Psignw),
        0x0a => Some(Psignd),
        0x0b => Some(Pmulhrsw),
        0x1c => Some(Pabsb),
        0x1d => Some(Pabsw),
        0x1e => Some(Pabsd),
        _ => None,
    };
    if let Some(op) = ssse3 {
        return match prefix {
            Prefix::None => Some((op, true, feature::SSSE3)),
            Prefix::P66 => Some((op, false, feature::SSSE3)),
            _ => None,
        };
    }
    if prefix != Prefix::P66 {
        return None;
    }
    let op = match third {
        0x10 => Pblendvb,
        0x14 => Blendvps,
        0x15 => Blendvpd,
        0x17 => Ptest,
        0x20 => Pmovsxbw,
        0x21 => Pmovsxbd,
        0x22 => Pmovsxbq,
        0x23 => Pmovsxwd,
        0x24 => Pmovsxwq,
        0x25 => Pmovsxdq,
        0x28 => Pmuldq,
        0x29 => Pcmpeqq,
        0x2a => Movntdqa,
        0x2b => Packusdw,
        0x30 => Pmovzxbw,
        0x31 => Pmovzxbd,
        0x32 => Pmovzxbq,
        0x33 => Pmovzxwd,
        0x34 => Pmovzxwq,
        0x35 => Pmovzxdq,
        0x37 => return Some((Pcmpgtq, false, feature::SSE4_2)),
        0x38 => Pminsb,
        0x39 => Pminsd,
        0x3a => Pminuw,
        0x3b => Pminud,
        0x3c => Pmaxsb,
        0x3d => Pmaxsd,
        0x3e => Pmaxuw,
        0x3f => Pmaxud,
        0x40 => Pmulld,
        0x41 => Phminposuw,
        _ => return None,
    };
    Some((op, false, feature::SSE4_1))
}

/// Map 0F 3A. `reg`: the operand is a register.
pub(super) fn map3a(third: u8, prefix: Prefix, reg: bool) -> Option<Found> {
    use SimdOp::*;
    if third == 0x0f {
        return match prefix {
            Prefix::None => Some((Palignr, true, feature::SSSE3)),
            Prefix::P66 => Some((Palignr, false, feature::SSSE3)),
            _ => None,
        };
    }
    if prefix != Prefix::P66 {
        return None;
    }
    let pick = |register: SimdOp, memory: SimdOp| if reg { register } else { memory };
    let op = match third {
        0x08 => Roundps,
        0x09 => Roundpd,
        0x0a => Roundss,
        0x0b => Roundsd,
        0x0c => Blendps,
        0x0d => Blendpd,
        0x0e => Pblendw,
        0x14 => pick(Pextrb, StoreElement8),
        0x15 => pick(Pextrw, StoreElement16),
        // EXTRACTPS is PEXTRD by another name.
        0x16 | 0x17 => pick(Pextrd, StoreElement32),
        0x20 => Pinsrb,
        0x21 => Insertps,
        0x22 => Pinsrd,
        0x40 => Dpps,
        0x41 => Dppd,
        0x42 => Mpsadbw,
        0x60 => return Some((Pcmpestrm, false, feature::SSE4_2)),
        0x61 => return Some((Pcmpestri, false, feature::SSE4_2)),
        0x62 => return Some((Pcmpistrm, false, feature::SSE4_2)),
        0x63 => return Some((Pcmpistri, false, feature::SSE4_2)),
        _ => return None,
    };
    Some((op, false, feature::SSE4_1))
}
