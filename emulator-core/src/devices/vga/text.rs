//! Text modes: drawing character cells, and reading the screen as text.

use super::Vga;
use super::registers::AttributeMode;
use super::render::{Picture, Scan};
use crate::mem::Memory;
use crate::time::{SECOND, VirtTime};

/// Frames per second that blinking counts.
const FRAME_HZ: u64 = 70;
/// Frames of half a cursor period and half a character period (IBM: vertical sync / 16 and / 32).
const CURSOR_HALF: u64 = 8;
const CHARACTER_HALF: u64 = 16;

const FONT_CHARS: u32 = 256;
/// Bytes that a character takes in a font, whatever its height.
const FONT_STRIDE: u32 = 32;
const FONT_BYTES: u32 = FONT_CHARS * FONT_STRIDE;
/// Plane addresses wrap here.
const ADDRESS_MASK: u32 = 0xffff;

const ATTR_BLINK: u8 = 0x80;
const ATTR_FONT: u8 = 0x08;

// What a cell shows, as the shadow keeps it: character, attribute << 8, and these.
const KEY_CURSOR: u32 = 1 << 16;
const KEY_HIDDEN: u32 = 1 << 17;
/// Equal to no cell.
const KEY_NONE: u32 = u32::MAX;

/// The registers' part of a text picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextLook {
    pub scan: Scan,
    cols: u32,
    char_dots: u32,
    colors: [u32; 16],
    fonts: [u32; 2],
    line_graphics: bool,
    blink: bool,
    underline: u32,
    cursor_shape: Option<(u32, u32)>,
}

/// Picture rows that show (a part of) one row of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Band {
    y0: u32,
    y1: u32,
    address: u32,
    /// Line of the characters at `y0`.
    row_scan: u32,
    panning: u32,
}

/// What the text renderer remembers of the last frame.
#[derive(Debug, Clone, Default)]
pub(super) struct TextCache {
    cells: Vec<u32>,
    fonts: [Vec<u8>; 2],
}

impl TextLook {
    pub(super) fn new(vga: &Vga) -> Self {
        let char_dots = vga.seq.char_dots();
        let panning = u32::from(vga.attr.regs[0x13]);
        // With nine dots, 8 stands for none and 0 to 7 for one to eight.
        let panning = if char_dots == 9 { (panning + 1) % 9 } else { panning & 7 };
        let mode = vga.attr.mode();
        Self {
            scan: Scan::new(vga, true, panning),
            cols: vga.crtc.horizontal_display(),
            char_dots,
            colors: vga.palette_16(),
            fonts: vga.seq.font_addresses(),
            line_graphics: mode.contains(AttributeMode::LINE_GRAPHICS),
            blink: mode.contains(AttributeMode::BLINK),
            underline: vga.crtc.underline(),
            cursor_shape: vga.crtc.cursor_shape(),
        }
    }

    pub(super) fn width(&self) -> u32 {
        self.cols * self.char_dots
    }

    fn bands(&self) -> Vec<Band> {
        let mut bands: Vec<Band> = Vec::new();
        for y in 0..self.scan.rows {
            let line = self.scan.line(y);
            match bands.last_mut() {
                Some(b)
                    if (b.address, b.panning) == (line.address, line.panning)
                        && b.row_scan + (y - b.y0) == line.row_scan =>
                {
                    b.y1 = y + 1;
                }
                _ => bands.push(Band {
                    y0: y,
                    y1: y + 1,
                    address: line.address,
                    row_scan: line.row_scan,
                    panning: line.panning,
                }),
            }
        }
        bands
    }

    /// Draws the cells that differ from the shadow; all of them when `fresh`.
    pub(super) fn render(
        &self,
        mem: &Memory,
        now: VirtTime,
        fresh: bool,
        cursor: u32,
        cache: &mut TextCache,
        picture: &mut Picture,
    ) {
        let new_fonts = self.load_fonts(mem, fresh, cache);
        let bands = self.bands();
        // One more column shows when the line is panned.
        let cols = self.cols as usize + 1;
        if fresh || new_fonts || cache.cells.len() != cols * bands.len() {
            cache.cells.clear();
            cache.cells.resize(cols * bands.len(), KEY_NONE);
        }
        let frame = now / (SECOND / FRAME_HZ);
        let cursor_on = self.cursor_shape.is_some() && (frame / CURSOR_HALF).is_multiple_of(2);
        let characters_on = !self.blink || (frame / CHARACTER_HALF).is_multiple_of(2);
        for (band, shadow) in bands.iter().zip(cache.cells.chunks_exact_mut(cols)) {
            let visible = self.cols + u32::from(band.panning != 0);
            for (col, old) in (0..visible).zip(shadow) {
                let address = (band.address + col) & ADDRESS_MASK;
                let cell = mem.block().read_u16(mem.vram_offset() + address * 4);
                let mut key = u32::from(cell);
                if cursor_on && address == cursor {
                    key |= KEY_CURSOR;
                }
                if !characters_on && (cell >> 8) as u8 & ATTR_BLINK != 0 {
                    key |= KEY_HIDDEN;
                }
                if *old != key {
                    *old = key;
                    self.draw(*band, col, key, &cache.fonts, picture);
                }
            }
        }
    }

    /// Reads the fonts from plane 2 if they may have changed; whether they did.
    fn load_fonts(&self, mem: &Memory, fresh: bool, cache: &mut TextCache) -> bool {
        let mut changed = false;
        for (font, &address) in cache.fonts.iter_mut().zip(&self.fonts) {
            let from = address * 4;
            if !fresh && !font.is_empty() && !mem.vram_dirty(from, from + FONT_BYTES * 4) {
                continue;
            }
            font.resize(FONT_BYTES as usize, 0);
            for (at, byte) in (mem.vram_offset() + from + 2..).step_by(4).zip(font) {
                let new = mem.block().read_u8(at);
                changed |= *byte != new;
                *byte = new;
            }
        }
        changed
    }

    /// The dots of line `row_scan` of a cell, leftmost in bit 8 (nine dots) or 7 (eight).
    fn dots(&self, key: u32, row_scan: u32, font: &[u8]) -> u32 {
        let (character, attribute) = (key & 0xff, (key >> 8) as u8);
        let in_cursor = self.cursor_shape.is_some_and(|(start, end)| (start..=end).contains(&row_scan));
        if key & KEY_CURSOR != 0 && in_cursor {
            return 0x1ff;
        }
        if key & KEY_HIDDEN != 0 {
            return 0;
        }
        if attribute & 0x77 == 1 && row_scan == self.underline {
            return 0x1ff;
        }
        let byte = font.get((character * FONT_STRIDE + row_scan) as usize).copied().map_or(0, u32::from);
        if self.char_dots == 8 {
            return byte;
        }
        let repeats = self.line_graphics && (0xc0..=0xdf).contains(&character);
        byte << 1 | u32::from(repeats) & byte
    }

    fn draw(&self, band: Band, col: u32, key: u32, fonts: &[Vec<u8>; 2], picture: &mut Picture) {
        let attribute = (key >> 8) as u8;
        let background = if self.blink { attribute >> 4 & 7 } else { attribute >> 4 };
        let paper = self.colors[usize::from(background)];
        let ink = self.colors[usize::from(attribute & 15)];
        let font = &fonts[usize::from(attribute & ATTR_FONT != 0)];
        // The cell may begin left of the picture or end right of it.
        let left = col * self.char_dots;
        let skip = band.panning.saturating_sub(left).min(self.char_dots);
        let x0 = left.saturating_sub(band.panning);
        let x1 = (left + self.char_dots).saturating_sub(band.panning).min(self.width());
        for y in band.y0..band.y1 {
            let dots = self.dots(key, band.row_scan + (y - band.y0), font);
            let top = 1 << (self.char_dots - 1);
            let mut bit = top >> skip;
            if let Some(pixels) = picture.row_mut(y).get_mut(x0 as usize..x1 as usize) {
                for pixel in pixels {
                    *pixel = if dots & bit != 0 { ink } else { paper };
                    bit >>= 1;
                }
            }
        }
        if x0 < x1 {
            picture.mark(x0, band.y0, x1, band.y1);
        }
    }
}

/// The cursor of a text screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextCursor {
    /// Column, from 0.
    pub col: u32,
    /// Row, from 0.
    pub row: u32,
    /// First line of the character cell that it covers.
    pub start: u32,
    /// Last line that it covers.
    pub end: u32,
}

/// A text mode's screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextScreen {
    /// Columns.
    pub cols: u32,
    /// Rows.
    pub rows: u32,
    /// Character and attribute byte of each cell, row by row.
    pub cells: Vec<(char, u8)>,
    /// The cursor, if it is on and on the screen (whether or not it is in its blink's dark half).
    pub cursor: Option<TextCursor>,
}

impl Vga {
    /// The screen of a text mode; `None` in graphics modes and before the BIOS sets a mode.
    #[must_use]
    pub fn text_cells(&self, mem: &Memory) -> Option<TextScreen> {
        if !self.text_mode() || self.crtc.regs[1] < 3 || self.crtc.vertical_display() < 8 {
            return None;
        }
        let look = TextLook::new(self);
        let bands = look.bands();
        let cursor_address = self.crtc.cursor_address();
        let mut cells = Vec::with_capacity(bands.len() * look.cols as usize);
        let mut cursor = None;
        for (row, band) in (0..).zip(&bands) {
            for col in 0..look.cols {
                let address = (band.address + col) & ADDRESS_MASK;
                let cell = mem.block().read_u16(mem.vram_offset() + address * 4);
                cells.push((CP437[usize::from(cell & 0xff)], (cell >> 8) as u8));
                if let Some((start, end)) = look.cursor_shape
                    && address == cursor_address
                {
                    cursor = Some(TextCursor { col, row, start, end });
                }
            }
        }
        Some(TextScreen { cols: look.cols, rows: bands.len() as u32, cells, cursor })
    }

    /// The characters of a text mode's screen, a line for each row, without trailing blanks.
    #[must_use]
    pub fn screen_text(&self, mem: &Memory) -> Option<String> {
        let screen = self.text_cells(mem)?;
        let rows: Vec<String> = screen
            .cells
            .chunks(screen.cols as usize)
            .map(|row| {
                let line: String = row.iter().map(|&(c, _)| c).collect();
                line.trim_end_matches(' ').to_owned()
            })
            .collect();
        Some(rows.join("\n"))
    }
}

/// Code page 437, the character set of the VGA's fonts; 00h and FFh, which are blank there, are spaces.
#[rustfmt::skip]
pub const CP437: [char; 256] = [
    ' ', '☺', '☻', '♥', '♦', '♣', '♠', '•', '◘', '○', '◙', '♂', '♀', '♪', '♫', '☼',
    '►', '◄', '↕', '‼', '¶', '§', '▬', '↨', '↑', '↓', '→', '←', '∟', '↔', '▲', '▼',
    ' ', '!', '"', '#', '$', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '@', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', '[', '\\', ']', '^', '_',
    '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '{', '|', '}', '~', '⌂',
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å',
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ',
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»',
    '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐',
    '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧',
    '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀',
    'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩',
    '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', ' ',
];
