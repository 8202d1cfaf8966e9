//! Text and graphics pictures.

use super::*;

// --- text ---

#[test]
fn text_draws_nine_dot_characters_in_attribute_colours() {
    let mut card = Card::with_mode(&MODE_03);
    card.load_glyph(0, b'A', &[0x81, 0x01]);
    card.load_glyph(0, 0xc4, &[0x01]);
    card.indexed(0x3d4, 0x0a, 0x20);
    card.print(1, 0x1e, "A");
    card.poke(0xb8000 + 162, &[0xc4, 0x1e]);
    assert!(card.render());
    assert_eq!((card.size(), card.picture.aspect), ((720, 400), (4, 3)));
    assert_eq!(card.picture.dirty, (0, 0, 720, 400));
    let (ink, paper) = (test_color(0x3e), test_color(1));
    let row: Vec<bool> = (0..18).map(|x| card.pixel(x, 16) == ink).collect();
    let set: Vec<usize> = (0..18).filter(|&x| row[x]).collect();
    assert_eq!(set, [0, 7, 16, 17], "C4h repeats its eighth dot");
    assert_eq!(card.pixel(1, 16), paper);
    assert_eq!(card.pixel(8, 16), paper);
    assert_eq!(card.pixel(7, 17), ink);
    assert!(!card.render(), "nothing changed");
    card.print(1, 0x1f, "A");
    assert!(card.render());
    assert_eq!(card.picture.dirty, (0, 16, 9, 32));
    card.print(1, 0x1f, "A");
    assert!(!card.render(), "the same value again");
}

#[test]
fn attribute_bit_3_selects_the_other_font() {
    let mut card = Card::with_mode(&MODE_03);
    card.load_glyph(0x0000, b'x', &[0xff]);
    card.load_glyph(0x6000, b'x', &[0x0f]);
    card.indexed(0x3d4, 0x0a, 0x20);
    card.indexed(0x3c4, 3, 0x24); // B: map 0, A: map 5
    card.print(0, 0x07, "x");
    card.print(1, 0x0f, "x");
    card.render();
    assert_eq!(card.pixel(0, 0), test_color(7));
    assert_eq!(card.pixel(3, 16), test_color(0));
    assert_eq!(card.pixel(4, 16), test_color(0x3f));
    card.load_glyph(0x6000, b'x', &[0xf0]);
    assert!(card.render(), "a changed font redraws");
    assert_eq!(card.pixel(3, 16), test_color(0x3f));
}

#[test]
fn cursor_blinks_and_moves() {
    let mut card = Card::with_mode(&MODE_03);
    card.print(0, 0x07, "ab");
    card.indexed(0x3d4, 0x0f, 1);
    card.render();
    assert_eq!(card.pixel(9, 13), test_color(7));
    assert_eq!(card.pixel(17, 14), test_color(7));
    assert_eq!(card.pixel(9, 12), test_color(0));
    assert_eq!(card.pixel(8, 13), test_color(0));
    card.bench.now += 8 * SECOND_70TH;
    assert!(card.render());
    assert_eq!(card.picture.dirty, (9, 0, 18, 16));
    assert_eq!(card.pixel(9, 13), test_color(0));
    card.bench.now += 8 * SECOND_70TH;
    card.indexed(0x3d4, 0x0f, 3);
    assert!(card.render());
    assert_eq!(card.pixel(27, 13), test_color(0), "empty cell: black on black");
    card.print(0, 0x07, "abcd");
    card.render();
    assert_eq!(card.pixel(27, 13), test_color(7));
    card.indexed(0x3d4, 0x0b, 0x2e); // skew one to the right
    card.print(0, 0x07, "abcde");
    card.render();
    assert_eq!(card.pixel(27, 13), test_color(0));
    assert_eq!(card.pixel(36, 13), test_color(7));
    card.indexed(0x3d4, 0x0a, 0x0f); // start beyond end
    card.render();
    assert_eq!(card.pixel(36, 14), test_color(0));
}

const SECOND_70TH: VirtTime = crate::time::SECOND / 70;

#[test]
fn blink_bit_blinks_or_brightens_the_background() {
    let mut card = Card::with_mode(&MODE_03);
    card.load_glyph(0, b'#', &[0xff; 16]);
    card.indexed(0x3d4, 0x0a, 0x20);
    card.print(0, 0x97, "# ");
    card.render();
    assert_eq!(card.pixel(0, 0), test_color(7));
    assert_eq!(card.pixel(9, 0), test_color(1));
    card.bench.now = 16 * SECOND_70TH;
    assert!(card.render());
    assert_eq!(card.pixel(0, 0), test_color(1));
    card.attribute(0x10, 0x04);
    assert!(card.render());
    assert_eq!(card.pixel(0, 0), test_color(7));
    assert_eq!(card.pixel(9, 0), test_color(0x39));
}

#[test]
fn underline_and_eight_dot_characters() {
    let mut card = Card::with_mode(&MODE_03);
    card.indexed(0x3d4, 0x0a, 0x20);
    card.indexed(0x3c4, 1, 0x01);
    card.indexed(0x3d4, 0x14, 0x0d);
    card.attribute(0x13, 0);
    card.print(0, 0x01, "a");
    card.print(0, 0x01, "a");
    card.render();
    assert_eq!(card.size(), (640, 400));
    assert_eq!(card.pixel(0, 13), test_color(1));
    assert_eq!(card.pixel(0, 12), test_color(0));
    assert_eq!(card.pixel(8, 13), test_color(0));
}

#[test]
fn text_pans_by_dots_and_lines_down_to_the_split() {
    let mut card = Card::with_mode(&MODE_03);
    card.load_glyph(0, b'#', &[0xff; 16]);
    card.indexed(0x3d4, 0x0a, 0x20);
    card.print(0, 0x07, "#");
    card.print(1, 0x02, " #");
    card.indexed(0x3d4, 0x0d, 80); // start at row 1
    card.indexed(0x3d4, 8, 4); // four lines down
    card.attribute(0x13, 2); // three dots to the left
    // Line compare 99: line 100 shows row 0 again.
    card.indexed(0x3d4, 0x18, 99);
    card.indexed(0x3d4, 0x11, 0x0e);
    card.indexed(0x3d4, 7, 0x0f);
    card.indexed(0x3d4, 9, 0x0f);
    card.render();
    let (green, grey, black) = (test_color(2), test_color(7), test_color(0));
    assert_eq!((card.pixel(5, 0), card.pixel(6, 0)), (black, green));
    assert_eq!((card.pixel(13, 11), card.pixel(14, 11)), (green, black));
    assert_eq!(card.pixel(6, 12), black, "12 lines are left of the first row");
    assert_eq!((card.pixel(0, 99), card.pixel(0, 100)), (black, grey));
    assert_eq!((card.pixel(4, 100), card.pixel(5, 100)), (grey, black));
    card.attribute(0x10, 0x2c); // panning only above the split
    card.render();
    assert_eq!((card.pixel(7, 100), card.pixel(8, 100)), (grey, black));
    assert_eq!(card.pixel(6, 0), green);
}

#[test]
fn screen_text_is_unicode_without_trailing_blanks() {
    let mut card = Card::with_mode(&MODE_03);
    for row in 0..25 {
        card.print(row, 0x07, &" ".repeat(80));
    }
    card.print(0, 0x07, "hello ");
    card.poke(0xb8000 + 160, &[0xc9, 7, 0xcd, 7, 0x01, 7]);
    card.indexed(0x3d4, 0x0f, 81);
    let text = card.vga.screen_text(&card.bench.mem).expect("text mode");
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines.len(), 25);
    assert_eq!((lines[0], lines[1], lines[2]), ("hello", "╔═☺", ""));
    let screen = card.vga.text_cells(&card.bench.mem).expect("text mode");
    assert_eq!((screen.cols, screen.rows), (80, 25));
    assert_eq!(screen.cells[80], ('╔', 7));
    let cursor = screen.cursor.expect("on screen");
    assert_eq!((cursor.col, cursor.row, cursor.start, cursor.end), (1, 1, 13, 14));
    card.set_mode(&MODE_13);
    assert_eq!(card.vga.screen_text(&card.bench.mem), None);
}

// --- graphics ---

#[test]
fn mode_13h_is_linear() {
    let mut card = Card::with_mode(&MODE_13);
    card.poke(0xa0000 + 320 * 100 + 7, &[0x9b]);
    assert!(card.render());
    assert_eq!((card.size(), card.picture.aspect), ((320, 200), (4, 3)));
    assert_eq!(card.pixel(7, 100), test_color(0x9b));
    assert_eq!(card.pixel(8, 100), test_color(0));
    assert!(!card.render());
    card.poke(0xa0000 + 320 * 101 + 9, &[1, 2]);
    assert!(card.render());
    assert_eq!(card.picture.dirty, (9, 101, 11, 102));
    card.out(0x3c6, 0x0f); // pixel mask
    assert!(card.render());
    assert_eq!(card.pixel(7, 100), test_color(0x0b));
}

#[test]
fn chain_4_honours_the_map_mask() {
    let mut card = Card::with_mode(&MODE_13);
    card.indexed(0x3c4, 2, 0b0100);
    card.poke(0xa0000, &[1, 2, 3, 4]);
    assert_eq!(card.planes(0), [0, 0, 3, 0]);
}

#[test]
fn mode_x_places_pixels_by_plane_and_flips_pages() {
    let mut card = Card::with_mode(&MODE_13);
    card.indexed(0x3c4, 4, 0x06);
    card.indexed(0x3d4, 0x14, 0x00);
    card.indexed(0x3d4, 0x17, 0xe3);
    card.indexed(0x3c4, 2, 0b0010);
    card.poke(0xa0000 + 80 * 5 + 3, &[0x42]);
    card.indexed(0x3c4, 2, 0b1000);
    card.poke(0xa0000 + 0x4000, &[0x43]);
    card.render();
    assert_eq!(card.pixel(13, 5), test_color(0x42));
    card.indexed(0x3d4, 0x0c, 0x40);
    assert!(card.render());
    assert_eq!(card.pixel(13, 5), test_color(0));
    assert_eq!(card.pixel(3, 0), test_color(0x43));
    card.attribute(0x13, 4); // two pixels
    card.render();
    assert_eq!(card.pixel(1, 0), test_color(0x43));
}

#[test]
fn mode_x_of_any_geometry() {
    let mut card = Card::with_mode(&MODE_13);
    card.indexed(0x3c4, 4, 0x06);
    card.out(0x3c2, 0xe7);
    card.indexed(0x3d4, 0x11, 0x2c);
    for (i, v) in [(1, 0x59), (6, 0x0d), (7, 0x3e), (9, 0x40), (0x10, 0xea), (0x12, 0xdf)] {
        card.indexed(0x3d4, i, v);
    }
    card.indexed(0x3d4, 0x13, 45);
    card.indexed(0x3d4, 0x14, 0);
    card.indexed(0x3d4, 0x17, 0xe3);
    card.poke(0xa0000 + 90 * 479 + 89, &[0x77]);
    card.render();
    assert_eq!(card.size(), (360, 480));
    assert_eq!(card.pixel(359, 479), test_color(0x77));
    assert_eq!(card.pixel(355, 479), test_color(0));
}

#[test]
fn sixteen_colours_pass_palette_plane_enable_and_colour_select() {
    let mut card = Card::with_mode(&MODE_12);
    card.indexed(0x3c4, 2, 0b0101);
    card.poke(0xa0000 + 80 * 479 + 79, &[0x01]);
    card.render();
    assert_eq!(card.size(), (640, 480));
    assert_eq!(card.pixel(639, 479), test_color(5));
    assert_eq!(card.pixel(638, 479), test_color(0));
    card.attribute(5, 0x2b);
    card.render();
    assert_eq!(card.pixel(639, 479), test_color(0x2b));
    card.attribute(0x14, 0x0d);
    card.render();
    assert_eq!(card.pixel(639, 479), test_color(0xeb));
    card.attribute(0x10, 0x81); // P54S
    card.render();
    assert_eq!(card.pixel(639, 479), test_color(0xdb));
    card.attribute(0x12, 0x01);
    card.render();
    assert_eq!(card.pixel(639, 479), test_color(0xd1));
}

#[test]
fn ega_split_screen_and_panning() {
    let mut card = Card::with_mode(&MODE_0D);
    card.poke(0xa0000, &[0x80]);
    card.poke(0xa0000 + 1000, &[0x01]);
    // Start at 1000, byte panning none; lines from 100 (200 scan lines) on show address 0.
    card.indexed(0x3d4, 0x0c, 3);
    card.indexed(0x3d4, 0x0d, 0xe8);
    card.indexed(0x3d4, 0x18, 199);
    card.indexed(0x3d4, 0x11, 0x0e);
    card.indexed(0x3d4, 7, 0x0f);
    card.indexed(0x3d4, 9, 0x80);
    card.render();
    assert_eq!(card.size(), (320, 200));
    assert_eq!(card.pixel(7, 0), test_color(15));
    assert_eq!(card.pixel(0, 100), test_color(15));
    assert_eq!(card.pixel(0, 99), test_color(0));
    card.attribute(0x13, 7);
    card.render();
    assert_eq!(card.pixel(0, 0), test_color(15));
    assert_eq!(card.pixel(0, 100), test_color(0), "panned out of sight");
    card.attribute(0x10, 0x21);
    card.render();
    assert_eq!(card.pixel(0, 100), test_color(15));
    card.attribute(0x13, 0);
    card.indexed(0x3d4, 0x0d, 0xe6);
    card.indexed(0x3d4, 8, 0x40); // two bytes
    card.render();
    assert_eq!(card.pixel(7, 0), test_color(15));
}

#[test]
fn cga_four_colours_interleave_rows() {
    let mut card = Card::with_mode(&MODE_04);
    card.poke(0xb8000, &[0b00_01_10_11, 0b11_00_00_00]);
    card.poke(0xb8000 + 0x2000, &[0b10_00_00_00]); // row 1
    card.poke(0xb8000 + 80, &[0b01_00_00_00]); // row 2
    card.poke(0xb8000 + 0x2000 + 80 * 99 + 79, &[0b00_00_00_11]); // the last pixel
    card.render();
    assert_eq!(card.size(), (320, 200));
    let row: Vec<u32> = (0..5).map(|x| card.pixel(x, 0)).collect();
    assert_eq!(row, [0, 1, 2, 3, 3].map(test_color));
    assert_eq!(card.pixel(0, 1), test_color(2));
    assert_eq!(card.pixel(0, 2), test_color(1));
    assert_eq!(card.pixel(319, 199), test_color(3));
}

#[test]
fn cga_two_colours_interleave_rows() {
    let mut card = Card::with_mode(&MODE_06);
    card.poke(0xb8000 + 1, &[0x80]);
    card.poke(0xb8000 + 0x2000, &[0x01]);
    card.poke(0xb8000 + 0x2000 + 80 * 99 + 79, &[0x01]);
    card.render();
    assert_eq!(card.size(), (640, 200));
    assert_eq!(card.pixel(8, 0), test_color(1));
    assert_eq!(card.pixel(7, 1), test_color(1));
    assert_eq!(card.pixel(639, 199), test_color(1));
    assert_eq!(card.pixel(638, 199), test_color(0));
}

#[test]
fn blanked_screens_show_black_or_overscan() {
    let mut card = Card::with_mode(&MODE_13);
    card.poke(0xa0000, &[9]);
    card.render();
    card.indexed(0x3c4, 1, 0x21);
    assert!(card.render());
    assert_eq!((card.size(), card.pixel(0, 0)), ((320, 200), 0xff00_0000));
    card.indexed(0x3c4, 1, 0x01);
    card.attribute(0x11, 4);
    card.inp(0x3da);
    card.out(0x3c0, 0x00);
    card.render();
    assert_eq!(card.pixel(0, 0), test_color(4));
    assert!(!card.render());
    card.inp(0x3da);
    card.out(0x3c0, 0x20);
    assert!(card.render());
    assert_eq!(card.pixel(0, 0), test_color(9));
}

#[test]
fn an_unprogrammed_card_is_black() {
    let mut card = Card::new();
    assert!(card.render());
    assert_eq!(card.size(), (720, 400));
    assert!(card.picture.pixels.iter().all(|&p| p == 0xff00_0000));
    assert!(!card.render());
    assert_eq!(card.vga.screen_text(&card.bench.mem), None);
}
