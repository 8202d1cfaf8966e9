//! The VGA's five register groups: sequencer, CRT controller, graphics controller, attribute controller
//! and DAC. Spec: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem"; FreeVGA.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Miscellaneous output (written at 3C2h, read at 3CCh).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct MiscOutput: u8 {
        /// CRTC and status 1 at 3Dxh instead of 3Bxh.
        const COLOR = 0x01;
        /// The CPU may access the video RAM.
        const RAM = 0x02;
        /// 28.322 MHz instead of 25.175 MHz (clock select 0).
        const CLOCK_28 = 0x04;
        /// Odd/even page. No effect here: planes are addressed whole.
        const PAGE = 0x20;
        /// Negative horizontal sync.
        const HSYNC_NEGATIVE = 0x40;
        /// Negative vertical sync.
        const VSYNC_NEGATIVE = 0x80;
    }

    /// SR01, clocking mode.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Clocking: u8 {
        /// Characters are 8 dots wide (otherwise 9).
        const DOTS_8 = 0x01;
        /// Load the shift registers every second character clock.
        const SHIFT_2 = 0x04;
        /// The dot clock is halved.
        const HALF_DOT_CLOCK = 0x08;
        /// Load the shift registers every fourth character clock.
        const SHIFT_4 = 0x10;
        /// The screen is off.
        const SCREEN_OFF = 0x20;
    }

    /// SR04, memory mode.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct MemoryMode: u8 {
        /// More than 64 KiB of video RAM.
        const EXTENDED = 0x02;
        /// Writes go to all planes; clear: even addresses to planes 0 and 2, odd ones to 1 and 3.
        const SEQUENTIAL = 0x04;
        /// The two low address bits select the plane.
        const CHAIN_4 = 0x08;
    }

    /// GR05, graphics mode (bits 0 and 1 are the write mode).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct GraphicsMode: u8 {
        /// Read mode 1 (colour compare).
        const COMPARE = 0x08;
        /// Reads select the plane by address bit 0.
        const ODD_EVEN = 0x10;
        /// Two bits per pixel from each byte (CGA).
        const INTERLEAVE = 0x20;
        /// Eight bits per pixel.
        const SHIFT_256 = 0x40;
    }

    /// GR06, miscellaneous graphics (bits 2 and 3 select the memory window).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct GraphicsMisc: u8 {
        /// Graphics instead of text.
        const GRAPHICS = 0x01;
        /// Address bit 0 is replaced by a higher one.
        const CHAIN_ODD_EVEN = 0x02;
    }

    /// AR10, attribute mode control.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct AttributeMode: u8 {
        /// Graphics instead of text.
        const GRAPHICS = 0x01;
        /// Monochrome emulation.
        const MONO = 0x02;
        /// Characters C0h-DFh repeat their eighth dot in the ninth.
        const LINE_GRAPHICS = 0x04;
        /// Attribute bit 7 blinks (otherwise it is background intensity).
        const BLINK = 0x08;
        /// Panning stops at the line compare.
        const PAN_TOP_ONLY = 0x20;
        /// Eight-bit pixels.
        const COLOR_256 = 0x40;
        /// Palette bits 5 and 4 come from the color select register.
        const P54_SELECT = 0x80;
    }

    /// CR17, CRTC mode control.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CrtcMode: u8 {
        /// Address bit 13 is the counter's (clear: row scan bit 0, as the CGA).
        const MA13 = 0x01;
        /// Address bit 14 is the counter's (clear: row scan bit 1, as the Hercules).
        const MA14 = 0x02;
        /// The vertical counters run at half speed.
        const HALF_VERTICAL = 0x04;
        /// Byte addressing (clear: word addressing).
        const BYTE = 0x40;
        /// The sync signals run.
        const SYNC_ENABLE = 0x80;
    }
}

/// The sequencer, ports 3C4h/3C5h.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequencer {
    /// Selected register.
    pub index: u8,
    /// SR00 to SR04.
    pub regs: [u8; 5],
}

impl Sequencer {
    const MASK: [u8; 5] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];

    /// Reads the selected register.
    #[must_use]
    pub fn read(&self) -> u8 {
        self.regs.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// Writes the selected register.
    pub fn write(&mut self, value: u8) {
        let i = usize::from(self.index);
        if let Some(r) = self.regs.get_mut(i) {
            *r = value & Self::MASK[i];
        }
    }

    /// SR01.
    #[must_use]
    pub fn clocking(&self) -> Clocking {
        Clocking::from_bits_retain(self.regs[1])
    }

    /// SR04.
    #[must_use]
    pub fn memory_mode(&self) -> MemoryMode {
        MemoryMode::from_bits_retain(self.regs[4])
    }

    /// Dots in a character clock.
    #[must_use]
    pub fn char_dots(&self) -> u32 {
        if self.clocking().contains(Clocking::DOTS_8) { 8 } else { 9 }
    }

    /// Plane-2 addresses of the fonts for attribute bit 3 clear and set (SR03).
    #[must_use]
    pub fn font_addresses(&self) -> [u32; 2] {
        let r = u32::from(self.regs[3]);
        // The third bit of each map number selects the 8 KiB between the EGA's 16 KiB maps.
        let at = |map: u32, high: u32| (map & 3) << 14 | (high & 1) << 13;
        [at(r, r >> 4), at(r >> 2, r >> 5)]
    }
}

/// The CRT controller, ports 3D4h/3D5h (or 3B4h/3B5h).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crtc {
    /// Selected register.
    pub index: u8,
    /// CR00 to CR18.
    pub regs: [u8; 25],
}

impl Crtc {
    /// Reads a register of the standard set.
    #[must_use]
    pub fn read(&self) -> Option<u8> {
        self.regs.get(usize::from(self.index)).copied()
    }

    /// Writes the selected register, unless CR11 bit 7 protects it (CR07 bit 4 stays writable).
    pub fn write(&mut self, value: u8) {
        let protect = self.regs[0x11] & 0x80 != 0;
        match self.index {
            7 if protect => self.regs[7] = self.regs[7] & !0x10 | value & 0x10,
            0..=7 if protect => {}
            i => {
                if let Some(r) = self.regs.get_mut(usize::from(i)) {
                    *r = value;
                }
            }
        }
    }

    fn r(&self, i: usize) -> u32 {
        u32::from(self.regs[i])
    }

    /// A ten-bit vertical value: register, its bit 8 in CR07 and its bit 9 in `high.0` bit `high.1`.
    fn vertical(&self, low: usize, bit8: u32, high: (usize, u32)) -> u32 {
        self.r(low) | (self.r(7) >> bit8 & 1) << 8 | (self.r(high.0) >> high.1 & 1) << 9
    }

    /// CR17.
    #[must_use]
    pub fn mode(&self) -> CrtcMode {
        CrtcMode::from_bits_retain(self.regs[0x17])
    }

    fn vertical_scale(&self) -> u32 {
        if self.mode().contains(CrtcMode::HALF_VERTICAL) { 2 } else { 1 }
    }

    /// Character clocks in a scan line.
    #[must_use]
    pub fn horizontal_total(&self) -> u32 {
        self.r(0) + 5
    }

    /// Character clocks displayed.
    #[must_use]
    pub fn horizontal_display(&self) -> u32 {
        self.r(1) + 1
    }

    /// Scan lines in a frame.
    #[must_use]
    pub fn vertical_total(&self) -> u32 {
        (self.vertical(6, 0, (7, 5)) + 2) * self.vertical_scale()
    }

    /// Scan lines displayed.
    #[must_use]
    pub fn vertical_display(&self) -> u32 {
        (self.vertical(0x12, 1, (7, 6)) + 1) * self.vertical_scale()
    }

    /// First scan line and length in lines of the vertical retrace.
    #[must_use]
    pub fn vertical_retrace(&self) -> (u32, u32) {
        let start = self.vertical(0x10, 2, (7, 7));
        // Only the low four bits of the end are compared.
        let len = self.r(0x11).wrapping_sub(start) & 15;
        let len = if len == 0 { 16 } else { len };
        let scale = self.vertical_scale();
        (start * scale, len * scale)
    }

    /// The scan line after which the address counter restarts at zero (split screen).
    #[must_use]
    pub fn line_compare(&self) -> u32 {
        self.vertical(0x18, 4, (9, 6)) * self.vertical_scale()
    }

    /// Scan lines in a character row.
    #[must_use]
    pub fn row_height(&self) -> u32 {
        (self.r(9) & 0x1f) + 1
    }

    /// Every row scan is shown on two scan lines (CR09 bit 7).
    #[must_use]
    pub fn double_scan(&self) -> bool {
        self.regs[9] & 0x80 != 0
    }

    /// First row scan of the screen.
    #[must_use]
    pub fn preset_row_scan(&self) -> u32 {
        self.r(8) & 0x1f
    }

    /// Character clocks by which the start of each line is moved.
    #[must_use]
    pub fn byte_panning(&self) -> u32 {
        self.r(8) >> 5 & 3
    }

    /// First display address.
    #[must_use]
    pub fn start_address(&self) -> u32 {
        self.r(0x0c) << 8 | self.r(0x0d)
    }

    /// Addresses from one character row to the next.
    #[must_use]
    pub fn row_offset(&self) -> u32 {
        self.r(0x13) * 2
    }

    /// Address of the cursor, skew included.
    #[must_use]
    pub fn cursor_address(&self) -> u32 {
        ((self.r(0x0e) << 8 | self.r(0x0f)) + (self.r(0x0b) >> 5 & 3)) & 0xffff
    }

    /// First and last row scan of the cursor, unless it is off.
    #[must_use]
    pub fn cursor_shape(&self) -> Option<(u32, u32)> {
        let (start, end) = (self.r(0x0a) & 0x1f, self.r(0x0b) & 0x1f);
        (self.r(0x0a) & 0x20 == 0 && start <= end).then_some((start, end))
    }

    /// Row scan of the underline.
    #[must_use]
    pub fn underline(&self) -> u32 {
        self.r(0x14) & 0x1f
    }
}

/// The graphics controller, ports 3CEh/3CFh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graphics {
    /// Selected register.
    pub index: u8,
    /// GR00 to GR08.
    pub regs: [u8; 9],
    /// The latches of planes 0 (low byte) to 3.
    pub latch: u32,
}

impl Graphics {
    const MASK: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];

    /// Reads the selected register.
    #[must_use]
    pub fn read(&self) -> u8 {
        self.regs.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// Writes the selected register.
    pub fn write(&mut self, value: u8) {
        let i = usize::from(self.index);
        if let Some(r) = self.regs.get_mut(i) {
            *r = value & Self::MASK[i];
        }
    }

    /// GR05.
    #[must_use]
    pub fn mode(&self) -> GraphicsMode {
        GraphicsMode::from_bits_retain(self.regs[5])
    }

    /// GR06.
    #[must_use]
    pub fn misc(&self) -> GraphicsMisc {
        GraphicsMisc::from_bits_retain(self.regs[6])
    }

    /// Whether a written byte reaches the planes unchanged (write mode 0, nothing else in the way).
    #[inline]
    #[must_use]
    pub fn plain_writes(&self) -> bool {
        let r = &self.regs;
        r[5] & 3 == 0 && r[1] == 0 && r[3] == 0 && r[8] == 0xff
    }
}

/// The attribute controller, ports 3C0h/3C1h.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Selected register; bit 5 (palette address source) turns the display on.
    pub index: u8,
    /// The flip-flop: the next write to 3C0h is data.
    pub data_next: bool,
    /// AR00 to AR14.
    pub regs: [u8; 21],
}

impl Attribute {
    /// Write to 3C0h.
    pub fn write(&mut self, value: u8) {
        if self.data_next {
            let i = usize::from(self.index & 0x1f);
            let mask = match i {
                0..=0x0f | 0x12 => 0x3f,
                0x10 => 0xef,
                0x11 => 0xff,
                _ => 0x0f,
            };
            if let Some(r) = self.regs.get_mut(i) {
                *r = value & mask;
            }
        } else {
            self.index = value & 0x3f;
        }
        self.data_next = !self.data_next;
    }

    /// Read of 3C1h.
    #[must_use]
    pub fn read(&self) -> u8 {
        self.regs.get(usize::from(self.index & 0x1f)).copied().unwrap_or(0)
    }

    /// Whether the palette drives the display (otherwise it shows the overscan colour).
    #[must_use]
    pub fn display_on(&self) -> bool {
        self.index & 0x20 != 0
    }

    /// AR10.
    #[must_use]
    pub fn mode(&self) -> AttributeMode {
        AttributeMode::from_bits_retain(self.regs[0x10])
    }

    /// The DAC index of a four-bit pixel.
    #[must_use]
    pub fn dac_index(&self, pixel: u8) -> u8 {
        let entry = self.regs[usize::from(pixel & self.regs[0x12] & 15)];
        let select = self.regs[0x14];
        if self.mode().contains(AttributeMode::P54_SELECT) {
            select << 4 | entry & 15
        } else {
            (select & 0x0c) << 4 | entry
        }
    }
}

/// The DAC, ports 3C6h to 3C9h.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dac {
    /// Pixel mask.
    pub mask: u8,
    /// Entry that the next write completes.
    pub write_index: u8,
    /// Entry that the next read returns.
    pub read_index: u8,
    /// Component (0 red, 1 green, 2 blue) that comes next.
    component: u8,
    /// The components of the entry that is being written.
    pending: [u8; 3],
    /// Whether the last index written was the read index.
    reading: bool,
    /// 256 entries of red, green, blue.
    #[serde(deserialize_with = "crate::bus::exactly::<_, 768>")]
    entries: Vec<u8>,
    /// Components have eight bits instead of six (DISPI).
    pub eight_bit: bool,
}

impl Default for Dac {
    fn default() -> Self {
        Self {
            mask: 0xff,
            write_index: 0,
            read_index: 0,
            component: 0,
            pending: [0; 3],
            reading: false,
            entries: vec![0; 768],
            eight_bit: false,
        }
    }
}

impl Dac {
    /// Write to 3C7h.
    pub fn set_read_index(&mut self, index: u8) {
        self.read_index = index;
        self.component = 0;
        self.reading = true;
    }

    /// Write to 3C8h.
    pub fn set_write_index(&mut self, index: u8) {
        self.write_index = index;
        self.component = 0;
        self.reading = false;
    }

    /// Read of 3C7h: 3 after a read index, 0 after a write index.
    #[must_use]
    pub fn state(&self) -> u8 {
        if self.reading { 3 } else { 0 }
    }

    /// Read of 3C9h.
    pub fn read(&mut self) -> u8 {
        let at = usize::from(self.read_index) * 3 + usize::from(self.component);
        self.component += 1;
        if self.component == 3 {
            self.component = 0;
            self.read_index = self.read_index.wrapping_add(1);
        }
        self.entries.get(at).copied().unwrap_or(0)
    }

    /// Write to 3C9h. The entry changes when its third component arrives.
    pub fn write(&mut self, value: u8) {
        let value = if self.eight_bit { value } else { value & 0x3f };
        self.pending[usize::from(self.component % 3)] = value;
        self.component += 1;
        if self.component >= 3 {
            self.component = 0;
            let at = usize::from(self.write_index) * 3;
            if let Some(entry) = self.entries.get_mut(at..at + 3) {
                entry.copy_from_slice(&self.pending);
            }
            self.write_index = self.write_index.wrapping_add(1);
        }
    }

    /// The colour of `index` (before the pixel mask) as 0xAABBGGRR.
    #[must_use]
    pub fn color(&self, index: u8) -> u32 {
        let at = usize::from(index & self.mask) * 3;
        let c = |i: usize| {
            let v = u32::from(self.entries.get(at + i).copied().unwrap_or(0));
            if self.eight_bit { v } else { (v & 0x3f) << 2 | (v & 0x3f) >> 4 }
        };
        0xff00_0000 | c(2) << 16 | c(1) << 8 | c(0)
    }
}
