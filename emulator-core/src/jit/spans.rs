//! Spans: accesses of a block that lie close to one another, because they go through one register whose changes in
//! between are known. The first one looks whether the whole span lies in one page that the TLB knows, and keeps where that
//! is in a local; the others go there without a check of their own but for the local, which is 0 otherwise.
//!
//! A span stays true as a window does ([`super::memory`]): nothing inside of translated code takes a translation away.

use super::emit::{Emitter, at, local, wasm};
use super::flow;
use super::memory::accesses;
use super::region::Block;
use super::{Layout, call};
use crate::cpu::op::{Kind, Op, REG_FORM, SEG_FLAT};
use crate::cpu::simd::table::{Class, SimdOp};
use crate::cpu::state::{Cpu, RAX, RBP, RCX, RDI, RDX, RSI, RSP, ZERO_REG};
use crate::cpu::tlb;
use std::mem::offset_of;
use wasm_encoder::BlockType;

/// Most bytes of a span: the longer, the more often it would cross a page.
const MAX_BYTES: i64 = 512;
/// Bytes of memory of which it is known together whether they hold code.
const GRANULE: i32 = 64;
/// Most spans of a block.
const MAX_SPANS: usize = 8;
/// Accesses that make a span worth its check.
const WORTH: usize = 2;
/// The type's byte in the binary format.
const I64: u8 = 0x7e;

#[derive(Debug)]
struct Span {
    write: bool,
    /// Addresses are relative to the register where the span begins.
    from: i64,
    to: i64,
    /// Instruction, displacement, and where that is.
    accesses: Vec<(usize, u32, i64)>,
}

/// The spans of the block that is being emitted.
#[derive(Debug, Default)]
pub struct Spans {
    spans: Vec<(u8, Span)>,
    /// Those whose local is set.
    begun: Vec<bool>,
}

/// Where an access is in a span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    span: usize,
    /// Bytes behind the span's start.
    offset: u32,
}

/// How an instruction changes general registers: those of which nothing is known afterwards as a mask, and one to which a
/// constant is added before that.
#[must_use]
pub fn changes(op: &Op) -> (u8, Option<(u8, u32)>) {
    use Kind::*;
    let bit = |r: u8| 1u8 << (r & 7);
    if !flow::translated(op) {
        return (flow::interpreted_registers(op).1, None);
    }
    if let Some((n, form, width)) = flow::arithmetic(op) {
        return match (n, form, width) {
            (7 | 8, ..) | (_, 3 | 4, _) => (0, None),
            (0, 1, 4) => (0, Some((op.a & 7, op.imm))),
            (5, 1, 4) => (0, Some((op.a & 7, op.imm.wrapping_neg()))),
            _ => (bit(op.a), None),
        };
    }
    let stack = |by: i32| Some((RSP as u8, by as u32));
    match op.kind {
        Nop | Mov32MR | Mov32BR | Mov32MI | Mov16MR | Mov16MI | Mov8MR | Mov8MI | SetccM | Inc32M | Dec32M | ShiftE
        | Bt32RR | Bt32RI | Jmp | Jcc | JmpR32 | JmpM32 | Cld | X87Load | X87Store | Fwait => (0, None),
        Push32R | Push32I | Push32M | CallRel32 | CallR32 | CallM32 => (0, stack(-4)),
        Ret32 => (0, stack(4)),
        Pop32R => (bit(op.a), stack(4)),
        Inc32R => (0, Some((op.a & 7, 1))),
        Dec32R => (0, Some((op.a & 7, u32::MAX))),
        Lea32 if op.seg == SEG_FLAT && op.index & 31 == ZERO_REG as u8 && op.base & 31 == op.a & 7 => {
            (0, Some((op.a & 7, op.disp)))
        }
        Mov32RR | Mov32RI | Mov32RM | Mov32RB | Mov16RR | Mov16RI | Mov16RM | Mov8RR | Mov8RI | Mov8RM
        | Movzx32From8R | Movzx32From8M | Movzx32From16R | Movzx32From16M | Movsx32From8R | Movsx32From8M
        | Movsx32From16R | Movsx32From16M | Movx16From8E | Lea32 | Xchg32RM | Cmov32RR | Cmov32RM | SetccR
        | Bswap32 | Neg32R | Not32R | Shl32RI | Shr32RI | Sar32RI | Shl32RC | Shr32RC | Sar32RC | Rol32RI | Ror32RI
        | Shld32RRI | Shrd32RRI | Imul32RR | Imul32RRI | Imul32RM | Imul32RMI | Bsf32R | Bsr32R => (bit(op.a), None),
        Xchg32RR => (bit(op.a) | bit(op.b), None),
        ShiftRI => (bit(op.b), None),
        UnaryE => (if op.base == REG_FORM { bit(op.b) } else { 0 }, None),
        Mul32R | Imul32R | Div32R | MulDivE | Cdq => (1 << RAX | 1 << RDX, None),
        CmpxchgE | Cwde | Cbw | X87Reg => (1 << RAX, None),
        LoopCx => (1 << RCX, None),
        Leave32 => (1 << RSP | 1 << RBP, None),
        StringOnce => (1 << RAX | 1 << RSI | 1 << RDI, None),
        Simd => {
            let general = SimdOp::of(op.imm).is_none_or(|simd| {
                let info = simd.info();
                info.dst == Class::Gpr || info.src == Class::Gpr
            });
            (if general { 0xff } else { 0 }, None)
        }
        _ => (0xff, None),
    }
}

impl Spans {
    /// The spans of a block.
    pub fn of(block: &Block) -> Self {
        let mut done: Vec<(u8, Span)> = Vec::new();
        let mut open: [Option<Span>; 32] = std::array::from_fn(|_| None);
        let mut moved = [0i64; 32];
        for (n, insn) in block.insns.iter().enumerate() {
            for access in accesses(&insn.op) {
                let Some(disp) = access.disp else { continue };
                let r = usize::from(access.class & 31);
                // Displacements are small numbers of either sign, or addresses.
                let at = moved[r] + i64::from(disp as i32);
                let (from, to) = (at, at + i64::from(access.size));
                let span = open[r].get_or_insert_with(|| Span { write: false, from, to, accesses: Vec::new() });
                if span.to.max(to) - span.from.min(from) <= MAX_BYTES {
                    (span.from, span.to) = (span.from.min(from), span.to.max(to));
                    span.write |= access.write;
                    span.accesses.push((n, disp, at));
                }
            }
            let (lost, moves) = changes(&insn.op);
            if let Some((r, by)) = moves {
                moved[usize::from(r)] += i64::from(by as i32);
            }
            for r in (0..8u8).filter(|r| lost >> r & 1 != 0) {
                done.extend(open[usize::from(r)].take().map(|span| (r, span)));
                moved[usize::from(r)] = 0;
            }
        }
        done.extend((0..32).zip(open).filter_map(|(r, span)| Some((r, span?))));
        done.retain(|(_, span)| span.accesses.len() >= WORTH);
        done.sort_by_key(|(_, span)| std::cmp::Reverse(span.accesses.len()));
        done.truncate(MAX_SPANS);
        Self { begun: vec![false; done.len()], spans: done }
    }

    /// How many locals the block takes.
    pub fn locals(&self) -> u32 {
        self.spans.len() as u32
    }

    /// Where an access of the block's instruction `n` is.
    pub(super) fn find(&self, n: usize, register: u8, disp: u32) -> Option<Spot> {
        self.spans.iter().enumerate().find_map(|(number, (r, span))| {
            let same = |&&(insn, d, _): &&(usize, u32, i64)| insn == n && d == disp;
            let (.., at) = span.accesses.iter().filter(|_| *r == register & 31).find(same)?;
            Some(Spot { span: number, offset: (at - span.from) as u32 })
        })
    }
}

impl Emitter<'_> {
    /// Pushes where the span of an access is in the memory block, for one at an offset in it (given to `access`); goes on at
    /// a label outside of one that it leaves where the span is not known.
    pub(super) fn in_span(&mut self, spot: Spot, access: impl FnOnce(&mut Self, u32)) {
        let place = self.span_local(spot.span);
        if !self.spans.begun[spot.span] {
            self.spans.begun[spot.span] = true;
            self.begin_span(spot, place);
        }
        self.open();
        wasm!(self; local_get(place) i32_eqz());
        self.seldom_br_if(0);
        wasm!(self; local_get(place));
        access(self, spot.offset);
        wasm!(self; br(1));
        self.close();
    }

    fn span_local(&self, n: usize) -> u32 {
        self.first_span + n as u32
    }

    /// LIN is an address in the span: its local becomes the span's place in the memory block, or 0.
    fn begin_span(&mut self, spot: Spot, place: u32) {
        let (register, span) = &self.spans.spans[spot.span];
        let (register, write, bytes) = (*register, span.write, (span.to - span.from) as i32);
        wasm!(self; local_get(local::LIN));
        if spot.offset != 0 {
            wasm!(self; i32_const(spot.offset as i32) i32_sub());
        }
        wasm!(self; local_set(place));
        self.open();
        let window = self.windows.find(register, write);
        let beside = write && bytes <= GRANULE && self.in_short_loop();
        if let Some((page, add)) = window {
            self.open();
            self.outside_span(place, bytes, |emit| wasm!(emit; local_get(page)));
            self.seldom_br_if(0);
            wasm!(self; local_get(place) local_get(add) i32_add() local_set(place) br(1));
            self.close();
            if beside {
                self.span_beside_code(
                    place,
                    bytes,
                    |emit| wasm!(emit; local_get(page)),
                    |emit| wasm!(emit; local_get(add)),
                );
            }
        }
        let array = if write { offset_of!(Cpu, tlb.write) } else { offset_of!(Cpu, tlb.read) };
        self.entry_of(place, array);
        self.open();
        // The entry is the one of the first byte's page: the last byte's is another if the span crosses.
        wasm!(self; local_get(place) i32_const(bytes - 1) i32_add() i32_const(-4096) i32_and()
            local_get(local::E) i32_wrap_i64() i32_ne());
        self.seldom_br_if(0);
        if let Some((page, add)) = window {
            wasm!(self; local_get(local::E) i32_wrap_i64() local_set(page)
                local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64() local_set(add));
        }
        wasm!(self; local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64() local_get(place) i32_add()
            local_set(place) br(1));
        self.close();
        if beside {
            // The window is then the marked entry, which lets nothing else in.
            if let Some((page, add)) = window {
                wasm!(self; local_get(local::E) i32_wrap_i64() local_set(page)
                    local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64() local_set(add));
            }
            self.span_beside_code(
                place,
                bytes,
                |emit| wasm!(emit; local_get(local::E) i32_wrap_i64()),
                |emit| wasm!(emit; local_get(local::E) i64_const(32) i64_shr_u() i32_wrap_i64()),
            );
        }
        wasm!(self; i32_const(0) local_set(place));
        self.close();
    }

    /// The span may be in a page that holds code, and not in a granule that does: its place then, and out at label 1. `page` pushes
    /// the marked entry's low half, `add` the high one. It lies in two granules at most.
    fn span_beside_code(&mut self, place: u32, bytes: i32, page: impl FnOnce(&mut Self), add: impl FnOnce(&mut Self)) {
        let code = at(self.layout.code);
        self.open();
        self.outside_span(place, bytes, |emit| {
            page(emit);
            wasm!(emit; i32_const(tlb::HOLDS_CODE as i32) i32_xor());
        });
        self.seldom_br_if(0);
        add(self);
        // What an exit is told is free as long as there is none.
        wasm!(self; local_get(place) i32_add() local_tee(local::SITE)
            i32_const(12) i32_shr_u() i32_const(3) i32_shl() i64_load(code) local_tee(local::E)
            local_get(place) i32_const(6) i32_shr_u() i64_extend_i32_u() i64_shr_u()
            local_get(local::E) local_get(place) i32_const(bytes - 1) i32_add() i32_const(6) i32_shr_u()
            i64_extend_i32_u() i64_shr_u() i64_or() i32_wrap_i64() i32_const(1) i32_and());
        self.seldom_br_if(0);
        // The core has yet to say that the page holds none any more.
        wasm!(self; local_get(local::E) i64_eqz());
        self.seldom_br_if(0);
        wasm!(self; local_get(local::SITE) local_set(place) br(1));
        self.close();
    }

    /// Pushes whether the span at a linear address is not all inside the page that `page` pushes.
    fn outside_span(&mut self, place: u32, bytes: i32, page: impl FnOnce(&mut Self)) {
        wasm!(self; local_get(place) i32_const(-4096) i32_and());
        page(self);
        wasm!(self; i32_xor() local_get(place) i32_const(0xfff) i32_and() i32_const(4096 - bytes) i32_gt_u() i32_or());
    }

    /// Before a block's instructions.
    pub(super) fn begin_spans(&mut self, block: &Block) {
        self.spans = Spans::of(block);
    }

    /// The span of an access through the current instruction's operand.
    pub(super) fn spot(&self) -> Option<Spot> {
        let disp = self.direct?;
        self.spans.find(self.current, self.class, disp)
    }
}

/// Locals that the spans of a region take: those of the block with the most.
pub fn locals(blocks: &[Block]) -> u32 {
    blocks.iter().map(|block| Spans::of(block).locals()).max().unwrap_or(0)
}

/// The function of each module for loads that are not in their span: it looks into the TLB, and asks the core where that
/// misses. Type and result are those of `load`.
#[must_use]
pub fn load_function(layout: &Layout) -> Vec<u8> {
    struct Out {
        out: Vec<u8>,
    }
    let mut f = Out { out: vec![1, 1, I64] };
    let field = |offset: usize| at(layout.cpu + offset as u32);
    let ram = at(layout.ram);
    wasm!(f;
        local_get(0) i32_const(9) i32_shr_u() i32_const(8 * (tlb::ENTRIES as i32 - 1)) i32_and()
        i32_const(0) i32_load(field(offset_of!(Cpu, derived.user))) i32_const(8 * tlb::ENTRIES as i32) i32_mul() i32_add()
        i64_load(field(offset_of!(Cpu, tlb.read))) local_tee(2) i32_wrap_i64()
        local_get(0) local_get(1) i32_add() i32_const(1) i32_sub() i32_const(-4096) i32_and() i32_ne()
        if_(BlockType::Empty) local_get(0) local_get(1) call(call::LOAD) return_() end()
        local_get(2) i64_const(32) i64_shr_u() i32_wrap_i64() local_get(0) i32_add() local_set(0)
        local_get(1) i32_const(4) i32_eq() if_(BlockType::Empty) local_get(0) i64_load32_u(ram) return_() end()
        local_get(1) i32_const(2) i32_eq() if_(BlockType::Empty) local_get(0) i64_load16_u(ram) return_() end()
        local_get(0) i64_load8_u(ram)
        end()
    );
    f.out
}
