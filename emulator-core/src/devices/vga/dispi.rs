//! Bochs DISPI ("VBE extensions"), ports 1CEh to 1D0h and the PCI function's register window.
//! Spec: QEMU docs/specs/standard-vga; the Bochs VBE extension interface, versions B0C0 to B0C5.

use super::Vga;
use super::registers::{GraphicsMisc, GraphicsMode};
use crate::bus::IoCtx;
use crate::mem::VRAM_SIZE;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

const ID: usize = 0;
const XRES: usize = 1;
const YRES: usize = 2;
const BPP: usize = 3;
const ENABLE: usize = 4;
const BANK: usize = 5;
const VIRT_WIDTH: usize = 6;
const VIRT_HEIGHT: usize = 7;
const X_OFFSET: usize = 8;
const Y_OFFSET: usize = 9;
const VIDEO_MEMORY_64K: usize = 10;
/// Number of registers.
pub const COUNT: usize = 11;

const MAX_XRES: u16 = 16_000;
const MAX_YRES: u16 = 12_000;
const MAX_BPP: u16 = 32;
const FIRST_ID: u16 = 0xb0c0;
const LAST_ID: u16 = 0xb0c5;

bitflags! {
    /// The enable register (index 4).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Enable: u16 {
        /// The DISPI mode replaces the VGA's.
        const ENABLED = 0x01;
        /// The size registers read as their maxima.
        const GET_CAPS = 0x02;
        /// The DAC has eight bits per component.
        const DAC_8BIT = 0x20;
        /// The frame buffer is used through the linear window (no effect: it always is there).
        const LFB = 0x40;
        /// Enabling does not clear the video RAM.
        const NO_CLEAR = 0x80;
    }
}

/// A mode that DISPI displays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits per pixel: 4 (planar), 8, 15, 16, 24 or 32.
    pub bpp: u32,
    /// Bytes of video RAM from one line to the next.
    pub pitch: u32,
    /// Byte of video RAM at the top left.
    pub start: u32,
}

/// The DISPI registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispi {
    index: u16,
    regs: [u16; COUNT],
    /// Byte offset that the last written bank adds to the window at A0000h.
    bank_offset: u32,
}

impl Default for Dispi {
    fn default() -> Self {
        let mut regs = [0; COUNT];
        regs[ID] = LAST_ID;
        regs[VIDEO_MEMORY_64K] = (VRAM_SIZE >> 16) as u16;
        Self { index: 0, regs, bank_offset: 0 }
    }
}

impl Dispi {
    fn enable(&self) -> Enable {
        Enable::from_bits_retain(self.regs[ENABLE])
    }

    /// Whether a DISPI mode is on.
    #[inline]
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enable().contains(Enable::ENABLED)
    }

    /// Selects a register.
    pub fn set_index(&mut self, index: u16) {
        self.index = index;
    }

    /// The selected register.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Byte offset that the bank adds to the window at A0000h.
    #[inline]
    #[must_use]
    pub fn bank_offset(&self) -> u32 {
        self.bank_offset
    }

    /// Whether an enabled mode has planes (4 bits per pixel) rather than packed pixels.
    #[inline]
    #[must_use]
    pub fn planar(&self) -> Option<bool> {
        self.enabled().then(|| self.regs[BPP] == 4)
    }

    /// Reads register `index`.
    #[must_use]
    pub fn read(&self, index: u16) -> u16 {
        let i = usize::from(index);
        let caps = self.enable().contains(Enable::GET_CAPS);
        match i {
            XRES if caps => MAX_XRES,
            YRES if caps => MAX_YRES,
            BPP if caps => MAX_BPP,
            _ => self.regs.get(i).copied().unwrap_or(0),
        }
    }

    /// Bits that a pixel takes in memory.
    fn pixel_bits(&self) -> u32 {
        match self.regs[BPP] {
            15 => 16,
            n => u32::from(n),
        }
    }

    fn pitch(&self) -> u32 {
        u32::from(self.regs[VIRT_WIDTH]) * self.pixel_bits() / 8
    }

    fn start(&self) -> u32 {
        // Planar rows move by whole bytes of each plane.
        let x = match u32::from(self.regs[X_OFFSET]) {
            x if self.regs[BPP] == 4 => x & !7,
            x => x,
        };
        x * self.pixel_bits() / 8 + u32::from(self.regs[Y_OFFSET]) * self.pitch()
    }

    /// Brings the registers of an enabled mode to values that the video RAM can hold.
    fn settle(&mut self) {
        let r = &mut self.regs;
        r[BPP] = match r[BPP] {
            4 | 8 | 15 | 16 | 24 | 32 => r[BPP],
            _ => 8,
        };
        r[XRES] = (r[XRES] & !7).clamp(8, MAX_XRES);
        r[VIRT_WIDTH] = (r[VIRT_WIDTH] & !7).clamp(r[XRES], MAX_XRES);
        let max_lines = VRAM_SIZE / self.pitch().max(1);
        let r = &mut self.regs;
        r[VIRT_HEIGHT] = max_lines.min(u32::from(u16::MAX)) as u16;
        r[YRES] = r[YRES].clamp(1, MAX_YRES).min(r[VIRT_HEIGHT]);
        r[X_OFFSET] = r[X_OFFSET].min(MAX_XRES);
        r[Y_OFFSET] = r[Y_OFFSET].min(MAX_YRES);
        let size = u32::from(self.regs[YRES]) * self.pitch();
        let end = |d: &Self| d.start() + size;
        if end(self) > VRAM_SIZE {
            self.regs[Y_OFFSET] = 0;
        }
        if end(self) > VRAM_SIZE {
            self.regs[X_OFFSET] = 0;
        }
    }

    /// The mode on display, if DISPI is enabled.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.enabled().then(|| Mode {
            width: u32::from(self.regs[XRES]),
            height: u32::from(self.regs[YRES]),
            bpp: u32::from(self.regs[BPP]),
            pitch: self.pitch(),
            start: self.start(),
        })
    }
}

impl Vga {
    /// Writes DISPI register `index`.
    pub(super) fn dispi_write(&mut self, index: u16, value: u16, cx: &mut IoCtx) {
        let d = &mut self.dispi;
        match usize::from(index) {
            ID if (FIRST_ID..=LAST_ID).contains(&value) => d.regs[ID] = value,
            i @ (XRES | YRES | BPP | VIRT_WIDTH | X_OFFSET | Y_OFFSET) => {
                d.regs[i] = value;
                self.dispi_update();
            }
            BANK => {
                d.regs[BANK] = value & ((VRAM_SIZE >> 16) - 1) as u16;
                d.bank_offset = u32::from(d.regs[BANK]) << 16;
            }
            ENABLE => self.dispi_enable(Enable::from_bits_retain(value), cx),
            _ => {}
        }
    }

    fn dispi_enable(&mut self, value: Enable, cx: &mut IoCtx) {
        let d = &mut self.dispi;
        let turned_on = value.contains(Enable::ENABLED) && !d.enabled();
        d.regs[ENABLE] = value.bits();
        self.dac.eight_bit = value.contains(Enable::DAC_8BIT);
        if turned_on {
            for r in [VIRT_WIDTH, X_OFFSET, Y_OFFSET] {
                d.regs[r] = 0;
            }
            self.dispi_update();
            if let Some(mode) = self.dispi.mode()
                && !value.contains(Enable::NO_CLEAR)
            {
                let (at, len) = (cx.mem.vram_offset(), mode.pitch * mode.height);
                cx.mem.block().fill(at, len, 0);
                cx.mem.note_store(at, len);
            }
        } else if !value.contains(Enable::ENABLED) {
            self.dispi.bank_offset = 0;
        }
    }

    /// Settles an enabled mode and makes the VGA registers describe it. The sequencer's stay as they are:
    /// the memory window does not depend on them (see `planar`).
    fn dispi_update(&mut self) {
        if !self.dispi.enabled() {
            return;
        }
        self.dispi.settle();
        let Some(mode) = self.dispi.mode() else {
            return;
        };
        let gr = &mut self.gc.regs;
        gr[6] = gr[6] & !0x0e | 0x04 | GraphicsMisc::GRAPHICS.bits();
        gr[5] &= !(GraphicsMode::INTERLEAVE | GraphicsMode::SHIFT_256).bits();
        if mode.bpp != 4 {
            gr[5] |= GraphicsMode::SHIFT_256.bits();
        }
        let last_line = mode.height - 1;
        let cr = &mut self.crtc.regs;
        cr[0x01] = (mode.width / 8 - 1) as u8;
        cr[0x12] = last_line as u8;
        // Line compare beyond the screen, no double scan, no CGA addressing.
        cr[0x07] = cr[0x07] & !0x42 | (last_line >> 7 & 2) as u8 | (last_line >> 3 & 0x40) as u8 | 0x10;
        cr[0x09] = cr[0x09] & !0x9f | 0x40;
        cr[0x13] = (mode.pitch / 8) as u8;
        cr[0x17] |= 3;
        cr[0x18] = 0xff;
    }
}
