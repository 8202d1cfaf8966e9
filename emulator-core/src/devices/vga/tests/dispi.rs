//! Bochs DISPI modes and the register window.

use super::*;

// --- DISPI ---

#[test]
fn dispi_identifies_itself_and_its_limits() {
    let mut card = Card::new();
    assert_eq!(card.read_dispi(0), 0xb0c5);
    for (write, read) in [(0xb0c0, 0xb0c0), (0xb0c4, 0xb0c4), (0xb0c6, 0xb0c4)] {
        card.dispi(0, write);
        assert_eq!(card.read_dispi(0), read);
    }
    assert_eq!(card.read_dispi(10), 256);
    assert_eq!(card.read_dispi(11), 0);
    card.dispi(4, 2);
    assert_eq!([card.read_dispi(1), card.read_dispi(2), card.read_dispi(3)], [16000, 12000, 32]);
}

#[test]
fn dispi_modes_of_every_depth_show_the_linear_frame_buffer() {
    let pixel: [(u16, &[u8], u32); 6] = [
        (8, &[0x9b], test_color(0x9b)),
        (15, &[0x1f, 0x7c], 0xffff_00ff),
        (16, &[0xe0, 0x07], 0xff00_ff00),
        (24, &[0x11, 0x22, 0x33], 0xff11_2233),
        (32, &[0x11, 0x22, 0x33, 0x44], 0xff11_2233),
        (4, &[0x80, 0x00, 0x80, 0x00], test_color(5)),
    ];
    for (bpp, bytes, color) in pixel {
        let mut card = Card::with_mode(&MODE_12);
        card.set_dispi_mode(800, 600, bpp, 0);
        // Pixel 8 of line 3.
        let at = if bpp == 4 { 3 * 400 + 4 } else { (3 * 800 + 8) * bytes.len() as u32 };
        card.lfb(at, bytes);
        assert!(card.render());
        assert_eq!((card.size(), card.picture.aspect), ((800, 600), (800, 600)));
        assert_eq!(card.pixel(8, 3), color, "{bpp} bits");
        assert_eq!(card.pixel(9, 3) & 0xff_ffff, card.pixel(10, 3) & 0xff_ffff);
        assert!(!card.render());
    }
}

#[test]
fn dispi_enable_clears_unless_told_not_to_and_pans() {
    let mut card = Card::with_mode(&MODE_13);
    card.lfb(0, &[7; 16]);
    card.set_dispi_mode(640, 480, 32, 0x80);
    assert_eq!(card.planes(0), [7; 4]);
    card.set_dispi_mode(640, 480, 32, 0);
    assert_eq!(card.planes(0), [0; 4]);
    assert_eq!(card.read_dispi(6), 640);
    assert_eq!(card.read_dispi(7), ((16 << 20) / 2560) as u16);
    card.dispi(6, 1024);
    card.dispi(8, 8);
    card.dispi(9, 100);
    card.lfb((100 * 1024 + 8) * 4, &[1, 2, 3, 0]);
    card.render();
    assert_eq!(card.pixel(0, 0), 0xff01_0203);
    card.lfb((101 * 1024 + 9) * 4, &[1, 2, 3, 0]);
    assert!(card.render());
    assert_eq!(card.picture.dirty, (1, 1, 2, 2));
    // An offset that does not fit is taken back.
    card.dispi(9, 60_000);
    assert_eq!(card.read_dispi(9), 0);
    card.dispi(4, 0);
    card.set_mode(&MODE_03);
    card.render();
    assert_eq!(card.size(), (720, 400));
}

#[test]
fn packed_dispi_pixels_ignore_sequencer_and_graphics_controller() {
    let mut card = Card::with_mode(&MODE_12);
    card.set_dispi_mode(640, 480, 8, 0);
    card.indexed(0x3c4, 2, 1);
    card.indexed(0x3c4, 4, 6);
    card.indexed(0x3ce, 8, 0x0f);
    card.poke(0xa0000, &[0x81, 0x82, 0x83, 0x84]);
    assert_eq!(card.planes(0), [0x81, 0x82, 0x83, 0x84]);
    assert_eq!(card.peek(0xa0002), 0x83);
    assert_eq!(card.read_indexed(0x3c4, 4), 6);
    card.set_dispi_mode(640, 480, 4, 0);
    card.indexed(0x3ce, 8, 0xff);
    card.indexed(0x3c4, 2, 0x0a);
    card.poke(0xa0000, &[0x40]);
    assert_eq!(card.planes(0), [0, 0x40, 0, 0x40]);
}

#[test]
fn dispi_banks_move_the_window() {
    let mut card = Card::with_mode(&MODE_13);
    card.set_dispi_mode(1024, 768, 8, 0);
    card.dispi(5, 3);
    card.poke(0xa0000 + 5, &[0xcd]);
    assert_eq!(card.planes(0xc001), [0, 0xcd, 0, 0]);
    assert_eq!(card.peek(0xa0005), 0xcd);
    // Turning the mode off takes the window back to the start.
    card.dispi(4, 0);
    assert_eq!(card.read_dispi(5), 3);
    card.poke(0xa0000, &[0xab]);
    assert_eq!(card.planes(0), [0xab, 0, 0, 0]);
    card.set_dispi_mode(1024, 768, 8, 0);
    card.dispi(5, 0xffff);
    assert_eq!(card.read_dispi(5), 255);
    card.poke(0xaffff, &[0xee]);
    assert_eq!(card.planes((16 << 20) / 4 - 1), [0, 0, 0, 0xee]);
}

#[test]
fn eight_bit_dac_keeps_all_bits() {
    let mut card = Card::with_mode(&MODE_13);
    card.set_dispi_mode(640, 480, 8, 0x20);
    card.out(0x3c8, 1);
    for v in [0xf1, 0xf2, 0xf3] {
        card.out(0x3c9, v);
    }
    card.lfb(0, &[1]);
    card.render();
    assert_eq!(card.pixel(0, 0), 0xfff3_f2f1);
}

#[test]
fn register_window_reaches_vga_and_dispi() {
    let mut card = Card::new();
    let vga = &mut card.vga;
    let cx = &mut card.bench.cx();
    vga.window_write(0x402, 1, 0x01, cx);
    vga.window_write(0x414, 2, 0x5a0f, cx);
    assert_eq!(vga.window_read(0x40c, 1, cx), 0x01);
    assert_eq!(vga.window_read(0x414, 2, cx), 0x5a0f);
    for (at, v) in [(0x502, 800), (0x504, 600), (0x506, 32), (0x508, 0x41)] {
        vga.window_write(at, 2, v, cx);
    }
    assert_eq!(vga.window_read(0x502, 4, cx), 600 << 16 | 800);
    assert_eq!(vga.window_read(0x500, 2, cx), 0xb0c5);
    assert_eq!(vga.window_read(0x600, 4, cx), 8);
    assert_eq!(vga.window_read(0x604, 4, cx), 0x1e1e_1e1e);
    assert_eq!(vga.window_read(0xff8, 8, cx), 0);
    assert_eq!(vga.dispi.mode().map(|m| m.pitch), Some(3200));
}
