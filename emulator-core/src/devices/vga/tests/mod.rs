//! Tests through ports, the memory window and the renderer.

mod dispi;
mod display;

use super::*;
use crate::bus::MmioIo;
use crate::bus::testing::{Bench, conformance};

/// A mode as the IBM BIOS's parameter table holds it.
struct ModeTable {
    misc: u8,
    seq: [u8; 5],
    crtc: [u8; 25],
    gc: [u8; 9],
    attr: [u8; 21],
}

const EGA_PALETTE: [u8; 16] = [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f];
const IDENTITY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

const fn attr(palette: [u8; 16], tail: [u8; 5]) -> [u8; 21] {
    let mut a = [0; 21];
    let mut i = 0;
    while i < 21 {
        a[i] = if i < 16 { palette[i] } else { tail[i - 16] };
        i += 1;
    }
    a
}

/// 80x25 text, 9x16 characters.
const MODE_03: ModeTable = ModeTable {
    misc: 0x67,
    seq: [3, 0x00, 0x03, 0x00, 0x02],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28,
        0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ],
    gc: [0, 0, 0, 0, 0, 0x10, 0x0e, 0x00, 0xff],
    attr: attr(EGA_PALETTE, [0x0c, 0x00, 0x0f, 0x08, 0x00]),
};
/// CGA 320x200, four colours.
const MODE_04: ModeTable = ModeTable {
    misc: 0x63,
    seq: [3, 0x09, 0x03, 0x00, 0x02],
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0x00,
        0x96, 0xb9, 0xa2, 0xff,
    ],
    gc: [0, 0, 0, 0, 0, 0x30, 0x0f, 0x0f, 0xff],
    attr: attr(IDENTITY, [0x01, 0x00, 0x03, 0x00, 0x00]),
};
/// CGA 640x200, two colours.
const MODE_06: ModeTable = ModeTable {
    misc: 0x63,
    seq: [3, 0x01, 0x01, 0x00, 0x06],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x00,
        0x96, 0xb9, 0xc2, 0xff,
    ],
    gc: [0, 0, 0, 0, 0, 0x00, 0x0d, 0x0f, 0xff],
    attr: attr(IDENTITY, [0x01, 0x00, 0x01, 0x00, 0x00]),
};
/// EGA 320x200, sixteen colours.
const MODE_0D: ModeTable = ModeTable {
    misc: 0x63,
    seq: [3, 0x09, 0x0f, 0x00, 0x06],
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc0, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0x00,
        0x96, 0xb9, 0xe3, 0xff,
    ],
    gc: [0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff],
    attr: attr(IDENTITY, [0x01, 0x00, 0x0f, 0x00, 0x00]),
};
/// 640x480, sixteen colours.
const MODE_12: ModeTable = ModeTable {
    misc: 0xe3,
    seq: [3, 0x01, 0x0f, 0x00, 0x06],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0x00,
        0xe7, 0x04, 0xe3, 0xff,
    ],
    gc: [0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff],
    attr: attr(IDENTITY, [0x01, 0x00, 0x0f, 0x00, 0x00]),
};
/// 320x200, 256 colours.
const MODE_13: ModeTable = ModeTable {
    misc: 0x63,
    seq: [3, 0x01, 0x0f, 0x00, 0x0e],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40,
        0x96, 0xb9, 0xa3, 0xff,
    ],
    gc: [0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff],
    attr: attr(IDENTITY, [0x41, 0x00, 0x0f, 0x00, 0x00]),
};

/// DAC entry `n` of the test palette: distinct in every component.
fn test_color(n: u8) -> u32 {
    let wide = |v: u8| u32::from(v << 2 | v >> 4);
    let (r, g, b) = (n & 0x3f, n.rotate_left(3) & 0x3f, !n & 0x3f);
    0xff00_0000 | wide(b) << 16 | wide(g) << 8 | wide(r)
}

/// A card on a bench, with its screen.
struct Card {
    bench: Bench,
    vga: Vga,
    picture: Picture,
}

impl Card {
    fn new() -> Self {
        let mut card = Self { bench: Bench::new(), vga: Vga::new(), picture: Picture::default() };
        card.vga.reset(&mut card.bench.cx());
        card
    }

    fn with_mode(table: &ModeTable) -> Self {
        let mut card = Self::new();
        card.set_mode(table);
        card
    }

    fn set_mode(&mut self, table: &ModeTable) {
        self.out(0x3c2, table.misc);
        for (i, v) in (0..).zip(table.seq) {
            self.indexed(0x3c4, i, v);
        }
        self.indexed(0x3d4, 0x11, 0);
        for (i, v) in (0..).zip(table.crtc) {
            self.indexed(0x3d4, i, v);
        }
        for (i, v) in (0..).zip(table.gc) {
            self.indexed(0x3ce, i, v);
        }
        for (i, v) in (0..).zip(table.attr) {
            self.attribute(i, v);
        }
        self.out(0x3c6, 0xff);
        self.out(0x3c8, 0);
        for n in 0..=255_u8 {
            self.out(0x3c9, n & 0x3f);
            self.out(0x3c9, n.rotate_left(3) & 0x3f);
            self.out(0x3c9, !n & 0x3f);
        }
    }

    fn out(&mut self, port: u16, value: u8) {
        self.vga.write_u8(port, value, &mut self.bench.cx());
    }

    fn inp(&mut self, port: u16) -> u8 {
        self.vga.read_u8(port, &mut self.bench.cx())
    }

    fn indexed(&mut self, port: u16, index: u8, value: u8) {
        let both = u16::from_le_bytes([index, value]);
        self.vga.write_u16(port, both, &mut self.bench.cx());
    }

    fn read_indexed(&mut self, port: u16, index: u8) -> u8 {
        self.out(port, index);
        self.inp(port + 1)
    }

    fn attribute(&mut self, index: u8, value: u8) {
        self.inp(0x3da);
        self.out(0x3c0, index);
        self.out(0x3c0, value);
        self.out(0x3c0, 0x20);
    }

    fn dispi(&mut self, index: u16, value: u16) {
        self.vga.write_u16(0x1ce, index, &mut self.bench.cx());
        self.vga.write_u16(0x1cf, value, &mut self.bench.cx());
    }

    fn read_dispi(&mut self, index: u16) -> u16 {
        self.vga.write_u16(0x1ce, index, &mut self.bench.cx());
        self.vga.read_u16(0x1d0, &mut self.bench.cx())
    }

    fn set_dispi_mode(&mut self, width: u16, height: u16, bpp: u16, flags: u16) {
        self.dispi(4, 0);
        self.dispi(1, width);
        self.dispi(2, height);
        self.dispi(3, bpp);
        self.dispi(4, 0x41 | flags);
        self.attribute(0x10, 0x41);
    }

    /// Writes to physical addresses A0000h to BFFFFh.
    fn poke(&mut self, address: u64, bytes: &[u8]) {
        for (i, &b) in (0..).zip(bytes) {
            let at = address - 0xa0000 + i;
            self.vga.mmio_write(at, 1, u64::from(b), &mut self.bench.cx());
        }
    }

    fn peek(&mut self, address: u64) -> u8 {
        self.vga.mmio_read(address - 0xa0000, 1, &mut self.bench.cx()) as u8
    }

    /// The four planes at an address.
    fn planes(&self, address: u32) -> [u8; 4] {
        let mem = &self.bench.mem;
        mem.block().read_u32(mem.vram_offset() + address * 4).to_le_bytes()
    }

    /// A store through the linear frame buffer.
    fn lfb(&mut self, at: u32, bytes: &[u8]) {
        let o = self.bench.mem.vram_offset() + at;
        self.bench.mem.block().write(o, bytes);
        self.bench.mem.note_store(o, bytes.len() as u32);
    }

    fn render(&mut self) -> bool {
        self.vga.render(&mut self.bench.mem, self.bench.now, &mut self.picture)
    }

    fn pixel(&self, x: u32, y: u32) -> u32 {
        self.picture.pixels[(y * self.picture.stride + x) as usize]
    }

    fn size(&self) -> (u32, u32) {
        (self.picture.width, self.picture.height)
    }

    /// Loads `rows` as the glyph of `character` into the font at plane-2 address `font`, the BIOS's way.
    fn load_glyph(&mut self, font: u32, character: u8, rows: &[u8]) {
        self.indexed(0x3c4, 2, 4);
        self.indexed(0x3c4, 4, 7);
        self.indexed(0x3ce, 5, 0);
        self.indexed(0x3ce, 6, 4);
        let at = 0xa0000 + u64::from(font) + u64::from(character) * 32;
        self.poke(at, rows);
        self.indexed(0x3c4, 2, 3);
        self.indexed(0x3c4, 4, 2);
        self.indexed(0x3ce, 5, 0x10);
        self.indexed(0x3ce, 6, 0x0e);
    }

    /// Puts characters with an attribute on a row of the text screen.
    fn print(&mut self, row: u64, attribute: u8, text: &str) {
        for (col, c) in (0..).zip(text.bytes()) {
            let at = 0x18000 + (row * 80 + col) * 2;
            let cell = u64::from(attribute) << 8 | u64::from(c);
            self.vga.mmio_write(at, 2, cell, &mut self.bench.cx());
        }
    }
}

// --- registers ---

#[test]
fn crtc_protection_spares_only_the_line_compare_bit() {
    let mut card = Card::with_mode(&MODE_03);
    assert_eq!(card.read_indexed(0x3d4, 0x11), 0x8e);
    card.indexed(0x3d4, 0, 0x12);
    card.indexed(0x3d4, 7, 0x00);
    assert_eq!(card.read_indexed(0x3d4, 0), 0x5f);
    assert_eq!(card.read_indexed(0x3d4, 7), 0x0f);
    card.indexed(0x3d4, 0x11, 0x0e);
    card.indexed(0x3d4, 0, 0x12);
    assert_eq!(card.read_indexed(0x3d4, 0), 0x12);
}

#[test]
fn emulation_bit_moves_crtc_and_status_between_3b_and_3d() {
    let mut card = Card::with_mode(&MODE_03);
    card.out(0x3b4, 0x0f);
    assert_eq!(card.inp(0x3b4), 0xff);
    card.out(0x3c2, 0x66);
    card.out(0x3b4, 0x0f);
    assert_eq!(card.inp(0x3b4), 0x0f);
    assert_eq!(card.inp(0x3d4), 0xff);
    assert_eq!(card.inp(0x3cc), 0x66);
}

#[test]
fn attribute_flip_flop_is_reset_by_status_1() {
    let mut card = Card::with_mode(&MODE_03);
    card.inp(0x3da);
    card.out(0x3c0, 0x01);
    card.out(0x3c0, 0x2a);
    assert_eq!(card.inp(0x3c1), 0x2a);
    card.out(0x3c0, 0x02); // an index again
    card.inp(0x3da);
    card.out(0x3c0, 0x25);
    assert_eq!(card.inp(0x3c0), 0x25);
    assert_eq!(card.inp(0x3c1), 5);
}

#[test]
fn dac_completes_entries_by_threes_and_tells_its_direction() {
    let mut card = Card::new();
    card.out(0x3c8, 7);
    for v in [0xff, 2, 3, 4, 5] {
        card.out(0x3c9, v);
    }
    assert_eq!((card.inp(0x3c7), card.inp(0x3c8)), (0, 8));
    card.out(0x3c7, 7);
    assert_eq!(card.inp(0x3c7), 3);
    let read: Vec<u8> = (0..6).map(|_| card.inp(0x3c9)).collect();
    assert_eq!(read, [0x3f, 2, 3, 0, 0, 0], "the second entry is incomplete");
    card.out(0x3c8, 255);
    for v in [1, 2, 3, 4, 5, 6] {
        card.out(0x3c9, v);
    }
    card.out(0x3c7, 0);
    assert_eq!([card.inp(0x3c9), card.inp(0x3c9), card.inp(0x3c9)], [4, 5, 6]);
}

// --- retrace ---

#[test]
fn retrace_bits_follow_the_crtc() {
    let mut card = Card::with_mode(&MODE_03);
    // 900 dots at 28.322 MHz make a line of 31.78 us; 449 lines a frame of 14.27 ms; retrace takes 2 lines.
    let (mut edges, mut retrace, mut blanked, mut last) = (0, 0, 0, 0);
    for us in 0..100_000 {
        card.bench.now = us * 1000;
        let status = card.inp(0x3da);
        assert_eq!(status & !9, 0);
        edges += u32::from(status & 8 != 0 && last & 8 == 0);
        retrace += u32::from(status & 8 != 0);
        blanked += u32::from(status & 1 != 0);
        last = status;
        assert!(status & 8 == 0 || status & 1 != 0, "blanked in the retrace");
    }
    assert_eq!(edges, 7);
    assert!((430..460).contains(&retrace), "7 times 63.6 us: {retrace}");
    // Displayed: 720 of 900 dots in 400 of 449 lines.
    assert!((28_000..29_500).contains(&blanked), "{blanked}");
    card.bench.now = 3600 * 1_000_000_000;
    let before = card.vga.beam(card.bench.now);
    assert_eq!(card.vga.beam(card.bench.now), before);
}

#[test]
fn an_unprogrammed_crtc_still_retraces() {
    let mut card = Card::new();
    card.out(0x3c2, 1);
    let mut seen = [false; 2];
    for t in 0..1000 {
        card.bench.now = t * 20_000;
        seen[usize::from(card.inp(0x3da) >> 3 & 1)] = true;
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn vertical_interrupt_is_pending_from_the_retrace_until_cleared() {
    let mut card = Card::with_mode(&MODE_03);
    card.indexed(0x3d4, 0x11, 0x0e);
    card.indexed(0x3d4, 0x11, 0x1e);
    card.bench.now += 1_000_000;
    assert_eq!(card.inp(0x3c2) & 0x80, 0);
    card.bench.now += 14_000_000;
    assert_eq!(card.inp(0x3c2) & 0x80, 0x80);
    card.indexed(0x3d4, 0x11, 0x0e);
    card.indexed(0x3d4, 0x11, 0x1e);
    assert_eq!(card.inp(0x3c2) & 0x80, 0);
}

// --- memory window ---

#[test]
fn write_mode_0_rotates_sets_resets_masks_and_combines() {
    let mut card = Card::with_mode(&MODE_12);
    card.poke(0xa0000, &[0xf0]);
    assert_eq!(card.planes(0), [0xf0; 4]);
    card.indexed(0x3ce, 3, 1); // rotate by one
    card.poke(0xa0001, &[0x03]);
    assert_eq!(card.planes(1), [0x81; 4]);
    card.indexed(0x3ce, 3, 0);
    card.indexed(0x3ce, 0, 0b0101); // set/reset
    card.indexed(0x3ce, 1, 0b0011); // of planes 0 and 1
    card.poke(0xa0002, &[0x3c]);
    assert_eq!(card.planes(2), [0xff, 0x00, 0x3c, 0x3c]);
    card.indexed(0x3ce, 1, 0);
    card.indexed(0x3ce, 8, 0x0f); // bit mask: the rest from the latches
    assert_eq!(card.peek(0xa0000), 0xf0);
    card.poke(0xa0003, &[0xaa]);
    assert_eq!(card.planes(3), [0xfa; 4]);
    card.indexed(0x3ce, 8, 0xff);
    for (function, result) in [(0x08, 0xa0), (0x10, 0xfa), (0x18, 0x5a)] {
        card.indexed(0x3ce, 3, function);
        card.poke(0xa0004, &[0xaa]);
        assert_eq!(card.planes(4), [result; 4], "function {function:x}");
    }
    card.indexed(0x3ce, 3, 0);
    card.indexed(0x3c4, 2, 0b1000); // map mask
    card.poke(0xa0004, &[0x11]);
    assert_eq!(card.planes(4), [0x5a, 0x5a, 0x5a, 0x11]);
}

#[test]
fn write_mode_1_copies_latches_through_the_map_mask() {
    let mut card = Card::with_mode(&MODE_12);
    for plane in 0..4 {
        card.indexed(0x3c4, 2, 1 << plane);
        card.poke(0xa0010, &[0x11 * (plane + 1)]);
    }
    card.indexed(0x3c4, 2, 0x0d);
    card.indexed(0x3ce, 5, 1);
    card.peek(0xa0010);
    card.poke(0xa0020, &[0xff]);
    assert_eq!(card.planes(0x20), [0x11, 0, 0x33, 0x44]);
}

#[test]
fn write_mode_2_expands_a_colour_and_mode_3_masks_set_reset() {
    let mut card = Card::with_mode(&MODE_12);
    card.indexed(0x3ce, 5, 2);
    card.indexed(0x3ce, 8, 0x81);
    card.peek(0xa0000);
    card.poke(0xa0000, &[0x05]);
    assert_eq!(card.planes(0), [0x81, 0, 0x81, 0]);
    card.indexed(0x3ce, 5, 3);
    card.indexed(0x3ce, 8, 0x7e);
    card.indexed(0x3ce, 0, 0x0a);
    card.peek(0xa0000);
    card.poke(0xa0000, &[0xf0]);
    assert_eq!(card.planes(0), [0x81, 0x70, 0x81, 0x70]);
}

#[test]
fn read_modes_select_a_plane_or_compare_colours() {
    let mut card = Card::with_mode(&MODE_12);
    for (plane, v) in [0xf0, 0xcc, 0xaa, 0x00].into_iter().enumerate() {
        card.indexed(0x3c4, 2, 1 << plane);
        card.poke(0xa0000, &[v]);
    }
    card.indexed(0x3ce, 4, 2);
    assert_eq!(card.peek(0xa0000), 0xaa);
    card.indexed(0x3ce, 5, 8);
    card.indexed(0x3ce, 2, 0b0011);
    card.indexed(0x3ce, 7, 0b0011); // planes 2 and 3 do not matter
    assert_eq!(card.peek(0xa0000), 0xc0);
    card.indexed(0x3ce, 7, 0b1111);
    assert_eq!(card.peek(0xa0000), 0x40);
    card.indexed(0x3ce, 7, 0);
    assert_eq!(card.peek(0xa0000), 0xff);
}

#[test]
fn wide_accesses_equal_byte_accesses() {
    for table in [&MODE_03, &MODE_04, &MODE_12, &MODE_13] {
        let mut wide = Card::with_mode(table);
        let mut narrow = Card::with_mode(table);
        for (at, size) in [(0x18000, 2), (0x18003, 2), (0x18010, 4), (0x18021, 4), (0x18030, 8)] {
            let at = if table.gc[6] & 8 == 0 { at - 0x18000 } else { at };
            let value = 0x8877_6655_4433_2211_u64;
            wide.vga.mmio_write(at, size, value, &mut wide.bench.cx());
            narrow.poke(at + 0xa0000, &value.to_le_bytes()[..usize::from(size)]);
            for group in 0..0x100 {
                assert_eq!(wide.planes(group), narrow.planes(group));
            }
            let read = wide.vga.mmio_read(at, size, &mut wide.bench.cx());
            for i in 0..u64::from(size) {
                assert_eq!((read >> (8 * i)) as u8, narrow.peek(at + 0xa0000 + i));
            }
            assert_eq!(wide.vga, narrow.vga, "latches too");
        }
    }
}

#[test]
fn map_select_decodes_one_window() {
    let mut card = Card::with_mode(&MODE_03);
    card.poke(0xb8000, &[0x41]);
    assert_eq!(card.peek(0xb8000), 0x41);
    assert_eq!(card.peek(0xa0000), 0xff);
    assert_eq!(card.peek(0xb0000), 0xff);
    card.indexed(0x3ce, 6, 0x0a);
    assert_eq!(card.peek(0xb0000), 0x41);
    assert_eq!(card.peek(0xb8000), 0xff);
    card.out(0x3c2, 0x65); // RAM disabled
    assert_eq!(card.peek(0xb0000), 0xff);
}

// --- conformance ---

fn all_ports() -> Vec<u16> {
    (0x3b0..0x3e0).chain(0x1ce..0x1d1).collect()
}

#[test]
fn conforms() {
    conformance(Vga::new(), &all_ports());
}

#[test]
fn random_registers_memory_and_renders_never_panic() {
    let mut card = Card::with_mode(&MODE_12);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let ports = all_ports();
    for step in 0..60_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (at, value) = (seed >> 40, seed >> 8);
        let size = 1 << (seed & 3);
        let cx = &mut card.bench.cx();
        match seed >> 4 & 7 {
            0 => card.vga.mmio_write(at & 0x1ffff, size, value, cx),
            1 => drop(card.vga.mmio_read(at & 0x1ffff, size, cx)),
            2 => card.vga.window_write(at & 0xfff, size, value, cx),
            3 => drop(card.vga.window_read(at & 0xfff, size, cx)),
            4 => card.vga.write_u16(ports[at as usize % ports.len()], value as u16, cx),
            _ => card.vga.write_u8(ports[at as usize % ports.len()], value as u8, cx),
        }
        card.bench.now += seed & 0xfffff;
        if step % 500 == 0 {
            card.render();
            let _ = card.vga.screen_text(&card.bench.mem);
            let _ = card.inp(0x3da);
        }
    }
    card.set_mode(&MODE_03);
    card.dispi(4, 0);
    card.set_mode(&MODE_03);
    card.render();
    assert_eq!(card.size(), (720, 400));
}

#[test]
fn rendering_leaves_the_state_alone_and_a_restored_card_draws_the_same() {
    let mut card = Card::with_mode(&MODE_03);
    card.load_glyph(0, b'A', &[0x3c; 16]);
    card.print(3, 0x4f, "AAA");
    let before = serde_json::to_string(&card.vga).expect("serialises");
    card.render();
    assert_eq!(serde_json::to_string(&card.vga).expect("serialises"), before);
    let picture = std::mem::take(&mut card.picture);
    card.vga = serde_json::from_str(&before).expect("deserialises");
    assert!(card.render());
    assert_eq!(card.picture.pixels, picture.pixels);
}
