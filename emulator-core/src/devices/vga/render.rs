//! The display side: from registers and video RAM to a [`Picture`], drawing only what changed.

use super::Vga;
use super::graphics::GraphicsLook;
use super::registers::{AttributeMode, Clocking, CrtcMode, GraphicsMisc};
use super::text::{TextCache, TextLook};
use crate::mem::Memory;
use crate::time::VirtTime;

/// Opaque black.
const BLACK: u32 = 0xff00_0000;
/// Size of the picture while the CRTC is not programmed.
const IDLE_SIZE: (u32, u32) = (720, 400);
/// The shape of a VGA monitor.
const MONITOR: (u32, u32) = (4, 3);

/// A rendered frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Elements of `pixels` from one row to the next.
    pub stride: u32,
    /// 0xAABBGGRR (bytes R, G, B, A in memory), alpha 255.
    pub pixels: Vec<u32>,
    /// What the last render changed: x0, y0, x1, y1, the latter two exclusive. All zero for nothing.
    pub dirty: (u32, u32, u32, u32),
    /// Width to height of the whole picture as a monitor shows it.
    pub aspect: (u32, u32),
}

impl Picture {
    /// Gives the picture a size; whether it had another. A new picture is black and dirty.
    fn resize(&mut self, width: u32, height: u32, aspect: (u32, u32)) -> bool {
        let len = width as usize * height as usize;
        let same = (self.width, self.height, self.stride, self.aspect) == (width, height, width, aspect)
            && self.pixels.len() == len;
        self.dirty = (0, 0, 0, 0);
        if !same {
            (self.width, self.height, self.stride, self.aspect) = (width, height, width, aspect);
            self.pixels.clear();
            self.pixels.resize(len, BLACK);
            self.dirty = (0, 0, width, height);
        }
        !same
    }

    /// Adds a rectangle to the dirty one.
    pub(super) fn mark(&mut self, x0: u32, y0: u32, x1: u32, y1: u32) {
        let d = &mut self.dirty;
        *d = if d.2 == 0 { (x0, y0, x1, y1) } else { (d.0.min(x0), d.1.min(y0), d.2.max(x1), d.3.max(y1)) };
    }

    /// Row `y` (empty when there is none).
    pub(super) fn row_mut(&mut self, y: u32) -> &mut [u32] {
        let at = y as usize * self.stride as usize;
        self.pixels.get_mut(at..at + self.width as usize).unwrap_or_default()
    }

    /// Replaces row `y`, marking what differs.
    pub(super) fn put_row(&mut self, y: u32, new: &[u32]) {
        let row = self.row_mut(y);
        let differs = |(a, b): (&u32, &u32)| a != b;
        if let Some(x0) = row.iter().zip(new).position(differs) {
            let x1 = row.iter().zip(new).rposition(differs).unwrap_or(x0) + 1;
            row[x0..x1].copy_from_slice(&new[x0..x1]);
            self.mark(x0 as u32, y, x1 as u32, y + 1);
        }
    }
}

/// How scan lines map to display addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// Picture rows.
    pub rows: u32,
    /// Scan lines that one picture row stands for.
    repeat: u32,
    double: bool,
    start: u32,
    byte_panning: u32,
    offset: u32,
    row_height: u32,
    preset: u32,
    line_compare: u32,
    /// Dots by which lines are moved to the left.
    panning: u32,
    pan_top_only: bool,
}

/// One line of the display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Plane address of the first character clock.
    pub address: u32,
    /// Line of the character row.
    pub row_scan: u32,
    /// Dots by which it is moved to the left.
    pub panning: u32,
}

impl Scan {
    /// `distinct_rows`: each line of a character row shows something else (text, CGA addressing).
    pub(super) fn new(vga: &Vga, distinct_rows: bool, panning: u32) -> Self {
        let crtc = &vga.crtc;
        let row_height = crtc.row_height();
        let double = crtc.double_scan();
        let repeat = (if distinct_rows { 1 } else { row_height }) << u32::from(double);
        Self {
            rows: crtc.vertical_display().div_ceil(repeat),
            repeat,
            double,
            start: crtc.start_address(),
            byte_panning: crtc.byte_panning(),
            offset: crtc.row_offset(),
            row_height,
            preset: crtc.preset_row_scan(),
            line_compare: crtc.line_compare(),
            panning,
            pan_top_only: vga.attr.mode().contains(AttributeMode::PAN_TOP_ONLY),
        }
    }

    /// Picture row `y`.
    pub(super) fn line(&self, y: u32) -> Line {
        let scan_line = y * self.repeat;
        let below = scan_line > self.line_compare;
        let (scan_line, start, preset) =
            if below { (scan_line - self.line_compare - 1, 0, 0) } else { (scan_line, self.start, self.preset) };
        let row = (scan_line >> u32::from(self.double)) + preset;
        let still = below && self.pan_top_only;
        let byte_panning = if still { 0 } else { self.byte_panning };
        Line {
            address: start + row / self.row_height * self.offset + byte_panning,
            row_scan: row % self.row_height,
            panning: if still { 0 } else { self.panning },
        }
    }
}

/// Everything but the video RAM that decides how the picture looks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Blank { size: (u32, u32), color: u32 },
    Text(Box<TextLook>),
    Graphics(Box<GraphicsLook>),
}

impl Look {
    fn size(&self) -> (u32, u32) {
        match self {
            Self::Blank { size, .. } => *size,
            Self::Text(t) => (t.width(), t.scan.rows),
            Self::Graphics(g) => (g.width, g.rows),
        }
    }
}

/// What the renderer remembers of the last frame. Not a part of the machine's state: it compares equal
/// to any other and a restored machine starts with an empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct RenderCache {
    /// Registers were written since the last drawing.
    pub(super) touched: bool,
    look: Option<Look>,
    text: TextCache,
}

impl PartialEq for RenderCache {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RenderCache {}

impl Vga {
    /// Whether the adapter shows text.
    #[must_use]
    pub fn text_mode(&self) -> bool {
        !self.dispi.enabled() && !self.gc.misc().contains(GraphicsMisc::GRAPHICS)
    }

    fn look(&self) -> Look {
        let programmed = self.crtc.regs[1] >= 3 && self.crtc.vertical_display() >= 8;
        if !programmed && !self.dispi.enabled() {
            return Look::Blank { size: IDLE_SIZE, color: BLACK };
        }
        let look = if self.text_mode() {
            Look::Text(Box::new(TextLook::new(self)))
        } else {
            Look::Graphics(Box::new(GraphicsLook::new(self)))
        };
        let screen_off = self.seq.clocking().contains(Clocking::SCREEN_OFF);
        if screen_off || !self.attr.display_on() {
            let color = if screen_off { BLACK } else { self.dac.color(self.attr.regs[0x11]) };
            return Look::Blank { size: look.size(), color };
        }
        look
    }

    /// The colours of the sixteen attribute controller inputs.
    pub(super) fn palette_16(&self) -> [u32; 16] {
        std::array::from_fn(|i| self.dac.color(self.attr.dac_index(i as u8)))
    }

    /// CGA and Hercules address bits: where row scan bits 0 and 1 go in video RAM bytes, if anywhere.
    pub(super) fn row_scan_shifts(&self) -> [Option<u32>; 2] {
        let mode = self.crtc.mode();
        // Word addresses are packed (see `planar`), so the bit is one lower; planes take two bits.
        let base = 14 + u32::from(mode.contains(CrtcMode::BYTE));
        [(!mode.contains(CrtcMode::MA13)).then_some(base), (!mode.contains(CrtcMode::MA14)).then_some(base + 1)]
    }

    /// Whether the guest may have changed the picture since the last [`render`](Self::render): cheap to ask. A blinking
    /// cursor alone does not count.
    #[must_use]
    pub fn touched(&self, mem: &Memory) -> bool {
        self.cache.touched || self.cache.look.is_none() || mem.vram_touched()
    }

    /// Brings `picture` up to date; whether anything in it changed (`picture.dirty` says where).
    ///
    /// `picture` must be the one of the previous call, or an empty one. Nothing that the guest can see
    /// is altered. Starts a new dirty period of the video RAM.
    pub fn render(&mut self, mem: &mut Memory, now: VirtTime, picture: &mut Picture) -> bool {
        self.cache.touched = false;
        let look = self.look();
        let (width, height) = look.size();
        let aspect = match self.dispi.mode() {
            Some(mode) => (mode.width, mode.height),
            None => MONITOR,
        };
        let resized = picture.resize(width, height, aspect);
        let fresh = resized || self.cache.look.as_ref() != Some(&look);
        match &look {
            Look::Blank { color, .. } if fresh => {
                let row = vec![*color; width as usize];
                for y in 0..height {
                    picture.put_row(y, &row);
                }
            }
            Look::Blank { .. } => {}
            Look::Text(text) => {
                let cursor = self.crtc.cursor_address();
                text.render(mem, now, fresh, cursor, &mut self.cache.text, picture);
            }
            Look::Graphics(graphics) => graphics.render(mem, fresh, picture),
        }
        self.cache.look = Some(look);
        mem.clear_vram_dirty();
        picture.dirty.2 != 0
    }
}
