//! The memory window A0000h-BFFFFh: address decoding, latches, write and read modes.
//!
//! The four planes are interleaved by byte: plane p of address a is byte `4 * a + p` of the video RAM.
//! Chain-4 is then linear, and odd/even addressing packs its byte pairs, which the CRTC's word and
//! double-word modes undo on hardware: display addresses need no shift in any mode.

use super::Vga;
use super::registers::{GraphicsMode, MemoryMode, MiscOutput};
use crate::bus::{IoCtx, MmioIo};
use crate::mem::{Memory, VRAM_SIZE};

/// Four bytes, one for each plane whose bit is set in the index.
pub(super) const PLANES: [u32; 16] = {
    let mut t = [0; 16];
    let mut i = 0;
    while i < 16 {
        let mut p = 0;
        while p < 4 {
            if i >> p & 1 != 0 {
                t[i] |= 0xff << (8 * p);
            }
            p += 1;
        }
        i += 1;
    }
    t
};

/// The same byte in all planes.
fn spread(value: u8) -> u32 {
    u32::from(value) * 0x0101_0101
}

/// How CPU addresses reach the planes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addressing {
    Chain4,
    OddEven,
    Planar,
}

impl Vga {
    /// The display memory address of `len` bytes at `offset` of the window, if all of them are decoded.
    #[inline]
    fn decode(&self, offset: u64, len: u8) -> Option<u32> {
        if self.misc & MiscOutput::RAM.bits() == 0 {
            return None;
        }
        let (base, size, bank) = match self.gc.regs[6] >> 2 & 3 {
            0 => (0, 0x2_0000, 0),
            1 => (0, 0x1_0000, self.dispi.bank_offset()),
            2 => (0x1_0000, 0x8000, 0),
            _ => (0x1_8000, 0x8000, 0),
        };
        let at = offset.checked_sub(base)?;
        (at + u64::from(len) <= size).then(|| at as u32 + bank)
    }

    /// A DISPI mode decides alone: guests write the sequencer after they enabled one.
    #[inline]
    fn addressing(&self, odd_even: bool) -> Addressing {
        match self.dispi.planar() {
            Some(true) => Addressing::Planar,
            Some(false) => Addressing::Chain4,
            None if self.seq.regs[4] & MemoryMode::CHAIN_4.bits() != 0 => Addressing::Chain4,
            None if odd_even => Addressing::OddEven,
            None => Addressing::Planar,
        }
    }

    fn write_addressing(&self) -> Addressing {
        self.addressing(self.seq.regs[4] & MemoryMode::SEQUENTIAL.bits() == 0)
    }

    fn read_addressing(&self) -> Addressing {
        self.addressing(self.gc.mode().contains(GraphicsMode::ODD_EVEN))
    }

    fn read_byte(&mut self, at: u32, mem: &Memory) -> u8 {
        let select = self.gc.regs[4];
        let (group, plane) = match self.read_addressing() {
            Addressing::Chain4 => (at >> 2, at as u8 & 3),
            Addressing::OddEven => (at >> 1, select & 2 | at as u8 & 1),
            Addressing::Planar => (at, select & 3),
        };
        if group >= VRAM_SIZE / 4 {
            return 0xff;
        }
        self.gc.latch = mem.block().read_u32(mem.vram_offset() + group * 4);
        if self.gc.mode().contains(GraphicsMode::COMPARE) {
            let compare = PLANES[usize::from(self.gc.regs[2] & 15)];
            let care = PLANES[usize::from(self.gc.regs[7] & 15)];
            let differs = (self.gc.latch ^ compare) & care;
            let folded = differs | differs >> 16;
            !(folded | folded >> 8) as u8
        } else {
            (self.gc.latch >> (8 * plane)) as u8
        }
    }

    /// What the graphics controller makes of a written byte: the new value of all four planes.
    fn combine(&self, value: u8) -> u32 {
        let r = &self.gc.regs;
        let rotated = value.rotate_right(u32::from(r[3] & 7));
        let set_reset = PLANES[usize::from(r[0] & 15)];
        let (data, bit_mask) = match r[5] & 3 {
            0 => {
                let enable = PLANES[usize::from(r[1] & 15)];
                (spread(rotated) & !enable | set_reset & enable, r[8])
            }
            1 => return self.gc.latch,
            2 => (PLANES[usize::from(value & 15)], r[8]),
            _ => (set_reset, r[8] & rotated),
        };
        let data = match r[3] >> 3 & 3 {
            0 => data,
            1 => data & self.gc.latch,
            2 => data | self.gc.latch,
            _ => data ^ self.gc.latch,
        };
        let mask = spread(bit_mask);
        data & mask | self.gc.latch & !mask
    }

    fn write_byte(&mut self, at: u32, value: u8, mem: &mut Memory) {
        let enabled = self.seq.regs[2] & 15;
        let (group, planes) = match self.write_addressing() {
            Addressing::Chain4 => (at >> 2, enabled & 1 << (at & 3)),
            Addressing::OddEven => (at >> 1, enabled & 0b0101 << (at & 1)),
            Addressing::Planar => (at, enabled),
        };
        if group >= VRAM_SIZE / 4 || planes == 0 {
            return;
        }
        let offset = mem.vram_offset() + group * 4;
        let new = self.combine(value);
        let keep = !PLANES[usize::from(planes)];
        let old = if keep == 0 { 0 } else { mem.block().read_u32(offset) };
        mem.block().write_u32(offset, old & keep | new & !keep);
        mem.note_store(offset, 4);
    }

    /// Offset in the video RAM of an access that touches consecutive bytes and needs no per-plane work.
    fn direct(&self, at: u32, size: u8, addressing: Addressing) -> Option<u32> {
        let offset = match addressing {
            Addressing::Chain4 => at,
            // A character and its attribute.
            Addressing::OddEven if size == 2 && at & 1 == 0 => at * 2,
            _ => return None,
        };
        (offset + u32::from(size) <= VRAM_SIZE).then_some(offset)
    }

    fn direct_read(&self, at: u32, size: u8) -> Option<u32> {
        if self.gc.mode().contains(GraphicsMode::COMPARE) {
            return None;
        }
        match self.read_addressing() {
            Addressing::OddEven if self.gc.regs[4] & 2 != 0 => None,
            a => self.direct(at, size, a),
        }
    }

    fn direct_write(&self, at: u32, size: u8) -> Option<u32> {
        // Packed DISPI pixels bypass the map mask and the graphics controller.
        if self.dispi.planar() == Some(false) {
            return self.direct(at, size, Addressing::Chain4);
        }
        if !self.gc.plain_writes() {
            return None;
        }
        match self.write_addressing() {
            Addressing::Chain4 if self.seq.regs[2] & 15 != 15 => None,
            // Planes 2 and 3 would be written too.
            Addressing::OddEven if self.seq.regs[2] & 15 != 3 => None,
            a => self.direct(at, size, a),
        }
    }
}

/// The window at A0000h.
impl MmioIo for Vga {
    fn mmio_read(&mut self, offset: u64, size: u8, cx: &mut IoCtx) -> u64 {
        if let Some(at) = self.decode(offset, size)
            && let Some(o) = self.direct_read(at, size)
        {
            let (block, base) = (cx.mem.block(), cx.mem.vram_offset());
            self.gc.latch = block.read_u32(base + ((o + u32::from(size) - 1) & !3));
            let all = block.read_u64(base + o);
            return all & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8))));
        }
        (0..size).fold(0, |value, i| {
            let byte = match self.decode(offset + u64::from(i), 1) {
                Some(at) => self.read_byte(at, cx.mem),
                None => 0xff,
            };
            value | u64::from(byte) << (8 * (i & 7))
        })
    }

    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, cx: &mut IoCtx) {
        if let Some(at) = self.decode(offset, size)
            && let Some(o) = self.direct_write(at, size)
        {
            let bytes = value.to_le_bytes();
            let o = cx.mem.vram_offset() + o;
            match size {
                1 => cx.mem.block().write_u8(o, bytes[0]),
                2 => cx.mem.block().write_u16(o, value as u16),
                4 => cx.mem.block().write_u32(o, value as u32),
                n => cx.mem.block().write(o, &bytes[..usize::from(n.min(8))]),
            }
            cx.mem.note_store(o, u32::from(size));
            return;
        }
        for i in 0..size {
            if let Some(at) = self.decode(offset + u64::from(i), 1) {
                self.write_byte(at, (value >> (8 * (i & 7))) as u8, cx.mem);
            }
        }
    }
}
