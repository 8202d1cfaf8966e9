//! Graphics modes: planar, CGA interleaved, 256 colours and the packed pixels of DISPI.

use super::Vga;
use super::registers::{CrtcMode, GraphicsMode};
use super::render::{Picture, Scan};
use crate::mem::{Memory, VRAM_SIZE};

/// Bytes of video RAM that a VGA mode can display: four planes of 64 KiB.
const VGA_BYTES: u32 = 0x4_0000;

/// A byte's eight bits, each in the lowest bit of a hexadecimal digit.
const NIBBLES: [u32; 256] = {
    let mut t = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut bit = 0;
        while bit < 8 {
            t[i] |= (i as u32 >> bit & 1) << (4 * bit);
            bit += 1;
        }
        i += 1;
    }
    t
};

/// How bytes become pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pixels {
    /// One bit from each of four bytes.
    Planar([u32; 16]),
    /// Two bits from a byte of plane 0 (then 1) and two from plane 2 (then 3).
    Interleaved([u32; 16]),
    /// One byte.
    Indexed(Box<[u32; 256]>),
    Rgb555,
    Rgb565,
    Rgb888,
    Xrgb8888,
}

impl Pixels {
    /// Bytes that `pixels` pixels take, rounded up to what is decoded at once.
    fn bytes(&self, pixels: u32) -> u32 {
        match self {
            Self::Planar(_) | Self::Interleaved(_) => pixels.div_ceil(8) * 4,
            Self::Indexed(_) => pixels.next_multiple_of(4),
            Self::Rgb555 | Self::Rgb565 => pixels * 2,
            Self::Rgb888 => pixels * 3,
            Self::Xrgb8888 => pixels * 4,
        }
    }

    fn decode(&self, bytes: &[u8], out: &mut Vec<u32>) {
        out.clear();
        match self {
            Self::Planar(colors) => {
                for group in bytes.chunks_exact(4) {
                    let plane = |p: usize| NIBBLES[usize::from(group[p])] << p;
                    let eight = plane(0) | plane(1) | plane(2) | plane(3);
                    let pixel = |i: usize| colors[(eight >> (28 - 4 * i) & 15) as usize];
                    out.extend_from_slice(&std::array::from_fn::<u32, 8, _>(pixel));
                }
            }
            Self::Interleaved(colors) => {
                for group in bytes.chunks_exact(4) {
                    for (low, high) in [(group[0], group[2]), (group[1], group[3])] {
                        for shift in [6, 4, 2, 0] {
                            let index = (low >> shift & 3) | (high >> shift & 3) << 2;
                            out.push(colors[usize::from(index)]);
                        }
                    }
                }
            }
            Self::Indexed(colors) => out.extend(bytes.iter().map(|&b| colors[usize::from(b)])),
            Self::Rgb555 => out.extend(bytes.chunks_exact(2).map(|b| {
                let v = u32::from(u16::from_le_bytes([b[0], b[1]]));
                rgba(widen_5(v >> 10), widen_5(v >> 5), widen_5(v))
            })),
            Self::Rgb565 => out.extend(bytes.chunks_exact(2).map(|b| {
                let v = u32::from(u16::from_le_bytes([b[0], b[1]]));
                let green = v >> 5 & 0x3f;
                rgba(widen_5(v >> 11), green << 2 | green >> 4, widen_5(v))
            })),
            Self::Rgb888 => {
                out.extend(bytes.chunks_exact(3).map(|b| rgba(u32::from(b[2]), u32::from(b[1]), u32::from(b[0]))))
            }
            Self::Xrgb8888 => {
                out.extend(bytes.chunks_exact(4).map(|b| rgba(u32::from(b[2]), u32::from(b[1]), u32::from(b[0]))))
            }
        }
    }
}

fn rgba(r: u32, g: u32, b: u32) -> u32 {
    0xff00_0000 | b << 16 | g << 8 | r
}

/// Five bits to eight.
fn widen_5(v: u32) -> u32 {
    (v & 0x1f) << 3 | (v & 0x1f) >> 2
}

/// Where a row's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Vga { scan: Scan, row_scan_shifts: [Option<u32>; 2] },
    Linear { start: u32, pitch: u32 },
}

/// The registers' part of a graphics picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphicsLook {
    pub width: u32,
    pub rows: u32,
    pixels: Pixels,
    source: Source,
}

impl GraphicsLook {
    pub(super) fn new(vga: &Vga) -> Self {
        match vga.dispi.mode() {
            Some(mode) => Self {
                width: mode.width,
                rows: mode.height,
                pixels: match mode.bpp {
                    4 => Pixels::Planar(vga.palette_16()),
                    15 => Pixels::Rgb555,
                    16 => Pixels::Rgb565,
                    24 => Pixels::Rgb888,
                    32 => Pixels::Xrgb8888,
                    _ => Pixels::Indexed(Box::new(palette_256(vga))),
                },
                source: Source::Linear { start: mode.start, pitch: mode.pitch },
            },
            None => Self::of_vga(vga),
        }
    }

    fn of_vga(vga: &Vga) -> Self {
        let mode = vga.gc.mode();
        let chars = vga.crtc.horizontal_display();
        let panning = u32::from(vga.attr.regs[0x13] & 7);
        // An eight-bit pixel lasts two dots.
        let (pixels, width, panning) = if mode.contains(GraphicsMode::SHIFT_256) {
            let pixels = Pixels::Indexed(Box::new(palette_256(vga)));
            (pixels, chars * 4, panning / 2)
        } else if mode.contains(GraphicsMode::INTERLEAVE) {
            let pixels = Pixels::Interleaved(vga.palette_16());
            (pixels, chars * 8, panning)
        } else {
            (Pixels::Planar(vga.palette_16()), chars * 8, panning)
        };
        let cga = !vga.crtc.mode().contains(CrtcMode::MA13 | CrtcMode::MA14);
        let scan = Scan::new(vga, cga, panning);
        Self { width, rows: scan.rows, pixels, source: Source::Vga { scan, row_scan_shifts: vga.row_scan_shifts() } }
    }

    /// Row `y`: first byte of video RAM, the size at which addresses wrap, panning in pixels.
    fn row(&self, y: u32) -> (u32, u32, u32) {
        match &self.source {
            Source::Linear { start, pitch } => (start + y * pitch, VRAM_SIZE, 0),
            Source::Vga { scan, row_scan_shifts } => {
                let line = scan.line(y);
                let mut at = line.address * 4;
                for (bit, shift) in row_scan_shifts.iter().enumerate() {
                    if let Some(shift) = shift {
                        at = at & !(1 << shift) | (line.row_scan >> bit & 1) << shift;
                    }
                }
                (at % VGA_BYTES, VGA_BYTES, line.panning)
            }
        }
    }

    pub(super) fn render(&self, mem: &Memory, fresh: bool, picture: &mut Picture) {
        let mut bytes = Vec::new();
        let mut row = Vec::new();
        for y in 0..self.rows {
            let (at, wrap, panning) = self.row(y);
            let len = self.pixels.bytes(self.width + panning);
            // Bytes before the wrap; the rest comes from the start.
            let first = len.min(wrap.saturating_sub(at));
            let dirty = || mem.vram_dirty(at, at + first) || first < len && mem.vram_dirty(0, len - first);
            if !fresh && !dirty() {
                continue;
            }
            bytes.resize(len as usize, 0);
            let (head, tail) = bytes.split_at_mut(first as usize);
            mem.block().read(mem.vram_offset() + at, head);
            mem.block().read(mem.vram_offset(), tail);
            self.pixels.decode(&bytes, &mut row);
            let from = panning as usize;
            if let Some(visible) = row.get(from..from + self.width as usize) {
                picture.put_row(y, visible);
            }
        }
    }
}

fn palette_256(vga: &Vga) -> [u32; 256] {
    std::array::from_fn(|i| vga.dac.color(i as u8))
}
