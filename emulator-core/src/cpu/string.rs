//! String instructions: one element at a time, with bulk paths for REP MOVS and REP STOS in plain memory, and for REP INS
//! and REP OUTS between it and a device that moves many elements at once.
//!
//! A REP instruction runs in bounded portions. Between portions the instruction pointer stays on the
//! instruction, exactly as after an interrupt between two iterations, and each portion counts as one
//! retired instruction.

use super::fault::{Exec, Fault};
use super::flags;
use super::integer::alu;
use super::op::{Op, SEG_ADDR16, StringOp};
use super::state::{Cpu, RAX, RCX, RDI, RDX, RSI};
use super::tlb;
use crate::bus::CpuBus;

/// Most elements of one portion.
const PORTION: u32 = 4096;
/// Bulk elements that are as much work as a simple instruction, and the work of an element outside of plain memory.
const BULK_ELEMENTS: u64 = 8;
const DEVICE_ELEMENT: u64 = 24;
const ES: u8 = 0;

struct Shape {
    operation: u32,
    width: u32,
    rep: u32,
    /// Mask of the index and count registers.
    mask: u32,
    seg: u8,
}

impl Shape {
    fn of(op: &Op) -> Self {
        let mask = if op.seg & SEG_ADDR16 != 0 { 0xffff } else { u32::MAX };
        Self { operation: op.imm & 0xff, width: op.imm >> 8 & 0xff, rep: op.imm >> 16 & 3, mask, seg: op.seg & 7 }
    }

    fn is(&self, operation: StringOp) -> bool {
        self.operation == operation as u32
    }
}

impl Cpu {
    fn index(&self, r: usize, s: &Shape) -> u32 {
        self.reg32(r) & s.mask
    }

    fn set_index(&mut self, r: usize, s: &Shape, value: u32) {
        if s.mask == 0xffff { self.set_reg16(r, value as u16) } else { self.set_reg32(r, value) }
    }

    fn advance(&mut self, r: usize, s: &Shape, elements: u32) {
        let bytes = s.width.wrapping_mul(elements);
        let at = self.index(r, s);
        let to = if self.flag(flags::DF) { at.wrapping_sub(bytes) } else { at.wrapping_add(bytes) };
        self.set_index(r, s, to);
    }

    fn load_at<B: CpuBus>(&mut self, bus: &mut B, seg: u8, at: u32, width: u32) -> Exec<u32> {
        Ok(match width {
            1 => self.read8(bus, seg, at)?.into(),
            2 => self.read16(bus, seg, at)?.into(),
            _ => self.read32(bus, seg, at)?,
        })
    }

    fn store_at<B: CpuBus>(&mut self, bus: &mut B, at: u32, width: u32, value: u32) -> Exec {
        match width {
            1 => self.write8(bus, ES, at, value as u8),
            2 => self.write16(bus, ES, at, value as u16),
            _ => self.write32(bus, ES, at, value),
        }
    }

    /// A string instruction without REP, or one iteration.
    fn string_once<B: CpuBus>(&mut self, bus: &mut B, s: &Shape) -> Exec {
        let (si, di) = (self.index(RSI, s), self.index(RDI, s));
        let w = s.width;
        if s.is(StringOp::Movs) {
            let value = self.load_at(bus, s.seg, si, w)?;
            self.store_at(bus, di, w, value)?;
            self.advance(RSI, s, 1);
            self.advance(RDI, s, 1);
        } else if s.is(StringOp::Stos) {
            let value = self.reg(RAX as u8, w);
            self.store_at(bus, di, w, value)?;
            self.advance(RDI, s, 1);
        } else if s.is(StringOp::Lods) {
            let value = self.load_at(bus, s.seg, si, w)?;
            self.set_reg(RAX as u8, w, value);
            self.advance(RSI, s, 1);
        } else if s.is(StringOp::Cmps) {
            let a = self.load_at(bus, s.seg, si, w)?;
            let b = self.load_at(bus, ES, di, w)?;
            self.alu_any(alu::CMP, w, a, b);
            self.advance(RSI, s, 1);
            self.advance(RDI, s, 1);
        } else if s.is(StringOp::Scas) {
            let b = self.load_at(bus, ES, di, w)?;
            let a = self.reg(RAX as u8, w);
            self.alu_any(alu::CMP, w, a, b);
            self.advance(RDI, s, 1);
        } else {
            self.string_io(bus, s, si, di)?;
        }
        Ok(())
    }

    /// INS and OUTS: the memory side is checked before the port is touched.
    fn string_io<B: CpuBus>(&mut self, bus: &mut B, s: &Shape, si: u32, di: u32) -> Exec {
        if !self.single {
            return Err(Fault::DEFER);
        }
        let port = self.reg16(RDX);
        self.check_io(bus, port, s.width as u8)?;
        if s.is(StringOp::Ins) {
            let lin = self.linear_write(ES, di, s.width)?;
            self.check_alignment(lin, s.width)?;
            self.check_write(bus, lin, s.width, self.derived.user != 0)?;
            let value = self.in_port(bus, port, s.width as u8)?;
            self.store_at(bus, di, s.width, value)?;
            self.advance(RDI, s, 1);
        } else {
            let value = self.load_at(bus, s.seg, si, s.width)?;
            self.out_port(bus, port, s.width as u8, value)?;
            self.advance(RSI, s, 1);
        }
        Ok(())
    }

    /// A string instruction without REP.
    pub fn exec_string<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec {
        self.string_once(bus, &Shape::of(op))
    }

    /// Whether a debug trap follows each iteration that was just done: single step, or a breakpoint that it met.
    fn traps_iterations(&self) -> bool {
        self.single && (self.flag(flags::TF) || self.pending_debug != 0)
    }

    /// A portion of a REP string instruction (or INS/OUTS without REP). Returns whether it is complete.
    ///
    /// # Errors
    /// A fault in an iteration; the registers then show the iterations before it as done.
    pub fn exec_rep<B: CpuBus>(&mut self, bus: &mut B, op: &Op) -> Exec<bool> {
        let s = Shape::of(op);
        if s.rep == 0 {
            self.string_once(bus, &s)?;
            return Ok(true);
        }
        if !s.is(StringOp::Cmps) && !s.is(StringOp::Scas) {
            return self.portion(bus, &s, false);
        }
        // The flags are those from before the instruction until it is complete (SDM vol. 2, REP: Description; a trap
        // between two iterations shows them too, seen on Intel's processors).
        let before = self.lazy;
        let complete = self.portion(bus, &s, true);
        if !matches!(complete, Ok(true)) {
            self.lazy = before;
        }
        complete
    }

    /// Iterations of a REP string instruction, until it is complete or the portion is.
    fn portion<B: CpuBus>(&mut self, bus: &mut B, s: &Shape, compares: bool) -> Exec<bool> {
        let stepped = self.single && self.flag(flags::TF);
        let bulk = !stepped && (s.is(StringOp::Movs) || s.is(StringOp::Stos));
        let io = !stepped && (s.is(StringOp::Ins) || s.is(StringOp::Outs));
        let element = if self.single { DEVICE_ELEMENT } else { 1 };
        let mut left = PORTION;
        loop {
            let count = self.index(RCX, s);
            if count == 0 {
                if s.is(StringOp::Ins) || s.is(StringOp::Outs) {
                    // The permission is asked for even where nothing is transferred (seen on hardware).
                    self.check_io(bus, self.reg16(RDX), s.width as u8)?;
                }
                self.system_flags &= !flags::RF;
                return Ok(true);
            }
            // What comes between two iterations is pushed with RF set (SDM vol. 3, 18.3.1.1).
            if left == 0 || (left < PORTION && self.traps_iterations()) {
                self.system_flags |= flags::RF;
                return Ok(false);
            }
            // A portion is a number of elements, whichever way they go: what the TLB holds must not show in the count.
            let many = match (bulk, io) {
                (true, _) => self.bulk(bus, s, count.min(left)),
                (_, true) => self.bulk_io(bus, s, count.min(left)),
                _ => 0,
            };
            if many != 0 {
                self.set_index(RCX, s, count - many);
                left -= many;
                self.exert(u64::from(many) / BULK_ELEMENTS);
                continue;
            }
            self.string_once(bus, s)?;
            self.set_index(RCX, s, count.wrapping_sub(1));
            left -= 1;
            self.exert(element);
            if compares && self.lazy.zero() != (s.rep == 1) {
                self.system_flags &= !flags::RF;
                return Ok(true);
            }
        }
    }

    /// Moves as many elements between a port and plain memory as lie in one page whose translation is cached and as the
    /// port's device moves at once. Returns how many were done; 0 leaves it to the single path, faults too.
    fn bulk_io<B: CpuBus>(&mut self, bus: &mut B, s: &Shape, count: u32) -> u32 {
        let port = self.reg16(RDX);
        if !self.single
            || self.flag(flags::DF)
            || self.debug_enabled()
            || self.check_io(bus, port, s.width as u8).is_err()
        {
            return 0;
        }
        let input = s.is(StringOp::Ins);
        let (register, seg) = if input { (RDI, ES) } else { (RSI, s.seg) };
        let at = self.index(register, s);
        let base = (self.derived.base[usize::from(seg)] as u32).wrapping_add(at);
        // Elements until the index register wraps, and until the page ends.
        let room = (u64::from(s.mask - at) + 1) / u64::from(s.width);
        let n = u64::from(count).min(room).min(u64::from((0x1000 - (base & 0xfff)) / s.width)) as u32;
        if n < 2 {
            return 0;
        }
        let bytes = n * s.width;
        let linear = if input { self.linear_write(seg, at, bytes) } else { self.linear_read(seg, at, bytes) };
        let Ok(linear) = linear else { return 0 };
        let slot = tlb::slot(linear, self.derived.user);
        let entry = if input { self.tlb.write[slot] } else { self.tlb.read[slot] };
        let Some(offset) = tlb::hit(entry, linear, bytes) else { return 0 };
        let done = if input {
            bus.port_read_many(port, s.width as u8, offset, n)
        } else {
            bus.port_write_many(port, s.width as u8, offset, n)
        };
        self.advance(register, s, done);
        done
    }

    /// Moves or stores as many elements as lie in plain memory of one source and one destination page, whose
    /// translations are cached. Returns how many were done; 0 leaves it to the single path.
    fn bulk<B: CpuBus>(&mut self, bus: &mut B, s: &Shape, count: u32) -> u32 {
        let moves = s.is(StringOp::Movs);
        let down = self.flag(flags::DF);
        let (si, di) = (self.index(RSI, s), self.index(RDI, s));
        let n = count.min(self.bulk_room(ES, di, s, down));
        let n = if moves { n.min(self.bulk_room(s.seg, si, s, down)) } else { n };
        if n < 2 {
            return 0;
        }
        let bytes = n * s.width;
        // Where the lowest element is.
        let lowest = |at: u32| if down { at - (bytes - s.width) } else { at };
        let Ok(dst) = self.linear_write(ES, lowest(di), bytes) else {
            return 0;
        };
        let clean = tlb::hit(self.tlb.write[tlb::slot(dst, self.derived.user)], dst, bytes);
        let Some(to) = clean.or_else(|| self.beside_code(bus, dst, bytes, self.derived.user != 0)) else {
            return 0;
        };
        if moves {
            let Ok(src) = self.linear_read(s.seg, lowest(si), bytes) else {
                return 0;
            };
            let Some(from) = tlb::hit(self.tlb.read[tlb::slot(src, self.derived.user)], src, bytes) else {
                return 0;
            };
            // A destination just ahead of the source repeats a pattern: that needs element order.
            let ahead = if down { from.checked_sub(to) } else { to.checked_sub(from) };
            if ahead.is_some_and(|by| by > 0 && by < bytes) {
                return 0;
            }
            bus.mem().block().copy_within(from, to, bytes);
            self.advance(RSI, s, n);
        } else {
            let block = bus.mem().block();
            let value = self.reg32(RAX);
            let [a, b, c, d] = value.to_le_bytes();
            if s.width == 1 || (a == b && (s.width == 2 || (b == c && c == d))) {
                block.fill(to, bytes, a);
            } else {
                for i in 0..n {
                    match s.width {
                        2 => block.write_u16(to + i * 2, value as u16),
                        _ => block.write_u32(to + i * 4, value),
                    }
                }
            }
        }
        self.advance(RDI, s, n);
        n
    }

    /// Elements from offset `at` of a segment on until the index register wraps or the page ends.
    fn bulk_room(&self, seg: u8, at: u32, s: &Shape, down: bool) -> u32 {
        let in_page = (self.derived.base[usize::from(seg)] as u32).wrapping_add(at) & 0xfff;
        if !down {
            let room = (u64::from(s.mask - at) + 1) / u64::from(s.width);
            return room.min(u64::from((0x1000 - in_page) / s.width)) as u32;
        }
        // The first one is the highest.
        if in_page + s.width > 0x1000 { 0 } else { (at / s.width).min(in_page / s.width) + 1 }
    }
}
