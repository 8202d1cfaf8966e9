//! VGA with Bochs DISPI extensions, as QEMU's `VGA`: PCI 1234:1111, ports 3B0h-3DFh and 1CEh-1D0h,
//! memory window A0000h-BFFFFh. Spec: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem";
//! FreeVGA; QEMU docs/specs/standard-vga.
//!
//! The video RAM is a part of [`Memory`](crate::mem::Memory), because guests map it directly through the
//! linear frame buffer (BAR 0). [`planar`] is the CPU's side of it, [`render`] the display's.

pub mod dispi;
mod graphics;
pub mod planar;
pub mod registers;
pub mod render;
#[cfg(test)]
mod tests;
pub mod text;
pub mod timing;

pub use render::Picture;
pub use text::{TextCursor, TextScreen};

use crate::bus::{Device, IoCtx, PortIo};
use crate::devices::pci::PciFunction;
use crate::devices::pci_config::{Bar, PciConfig};
use crate::mem::VRAM_SIZE;
use crate::time::VirtTime;
use dispi::Dispi;
use registers::{Attribute, Crtc, Dac, Graphics, MiscOutput, Sequencer};
use render::RenderCache;
use serde::{Deserialize, Serialize};

/// PCI slot of the function on bus 0.
pub const PCI_SLOT: u8 = 2;
/// Base address register of the linear frame buffer.
pub const BAR_FRAME_BUFFER: usize = 0;
/// Base address register of the register window.
pub const BAR_REGISTERS: usize = 2;
/// Size of the register window.
pub const REGISTERS_SIZE: u32 = 4096;

const PORT_DISPI_INDEX: u16 = 0x1ce;
const PORT_DISPI_DATA: u16 = 0x1cf;
/// x86 drivers use the aligned address.
const PORT_DISPI_DATA_ALIGNED: u16 = 0x1d0;

// The register window (QEMU docs/specs/standard-vga, "Memory interface").
const WINDOW_VGA: u64 = 0x400;
const WINDOW_VGA_END: u64 = 0x420;
const WINDOW_DISPI: u64 = 0x500;
const WINDOW_DISPI_END: u64 = WINDOW_DISPI + 2 * dispi::COUNT as u64;
const WINDOW_EXTENDED_SIZE: u64 = 0x600;
const WINDOW_BYTE_ORDER: u64 = 0x604;
const EXTENDED_SIZE: u32 = 8;
const LITTLE_ENDIAN: u32 = 0x1e1e_1e1e;

/// The adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vga {
    /// Configuration space.
    pub pci: PciConfig,
    misc: u8,
    feature: u8,
    /// Video subsystem enable (3C3h); kept for readers, decoding never stops.
    subsystem: u8,
    seq: Sequencer,
    crtc: Crtc,
    gc: Graphics,
    attr: Attribute,
    dac: Dac,
    dispi: Dispi,
    /// When the guest last cleared the vertical retrace interrupt.
    retrace_cleared: VirtTime,
    #[serde(skip)]
    cache: RenderCache,
}

impl PciFunction for Vga {
    fn config(&self) -> &PciConfig {
        &self.pci
    }
    fn config_mut(&mut self) -> &mut PciConfig {
        &mut self.pci
    }
}

impl Default for Vga {
    fn default() -> Self {
        Self::new()
    }
}

impl Vga {
    /// The adapter after power-on.
    #[must_use]
    pub fn new() -> Self {
        let mut pci = PciConfig::new(PCI_SLOT, 0, 0x1234, 0x1111, 0x03_0000, 2, 0);
        pci.set(0x2c, &[0xf4, 0x1a, 0x00, 0x11]); // subsystem 1af4:1100
        pci.set_bar(BAR_FRAME_BUFFER, Bar::Memory { size: VRAM_SIZE, prefetchable: true });
        pci.set_bar(BAR_REGISTERS, Bar::Memory { size: REGISTERS_SIZE, prefetchable: false });
        Self {
            pci,
            misc: 0,
            feature: 0,
            subsystem: 0,
            seq: Sequencer::default(),
            crtc: Crtc::default(),
            gc: Graphics::default(),
            attr: Attribute::default(),
            dac: Dac::default(),
            dispi: Dispi::default(),
            retrace_cleared: 0,
            cache: RenderCache::default(),
        }
    }

    /// Whether `port` is one of the pair 3Bxh/3Dxh that the emulation bit turns off.
    fn hidden(&self, port: u16) -> bool {
        let color = self.misc & MiscOutput::COLOR.bits() != 0;
        match port {
            0x3b0..=0x3bf => color,
            0x3d0..=0x3df => !color,
            _ => false,
        }
    }

    fn status_1(&mut self, now: VirtTime) -> u8 {
        self.attr.data_next = false;
        let beam = self.beam(now);
        u8::from(beam.blanked) | u8::from(beam.retrace) << 3
    }

    fn crtc_read(&self) -> u8 {
        match (self.crtc.read(), self.crtc.index) {
            (Some(value), _) => value,
            // Undocumented on the first VGA and on all since: latch, flip-flop, attribute index.
            (None, 0x22) => (self.gc.latch >> (8 * (self.gc.regs[4] & 3))) as u8,
            (None, 0x24) => u8::from(self.attr.data_next) << 7,
            (None, 0x26) => self.attr.index,
            _ => 0,
        }
    }

    fn crtc_write(&mut self, value: u8, now: VirtTime) {
        self.crtc.write(value);
        if self.crtc.index == 0x11 && value & 0x10 == 0 {
            self.retrace_cleared = now;
        }
    }

    /// Reads the register window (BAR 2).
    pub fn window_read(&mut self, offset: u64, size: u8, cx: &mut IoCtx) -> u64 {
        let dword = |value: u32, at: u64| u64::from(value) >> (8 * (offset - at));
        let value = match offset {
            WINDOW_VGA..WINDOW_VGA_END => (0..size).fold(0, |v, i| {
                let port = (offset - WINDOW_VGA) as u16 + 0x3c0 + u16::from(i);
                v | u64::from(self.read_u8(port, cx)) << (8 * (i & 7))
            }),
            WINDOW_DISPI..WINDOW_DISPI_END => {
                let at = offset - WINDOW_DISPI;
                (0..4).fold(0, |v, i| {
                    let register = self.dispi.read((at / 2) as u16 + i);
                    v | u64::from(register) << (16 * i)
                }) >> (8 * (at & 1))
            }
            WINDOW_EXTENDED_SIZE..WINDOW_BYTE_ORDER => dword(EXTENDED_SIZE, WINDOW_EXTENDED_SIZE),
            0x604..0x608 => dword(LITTLE_ENDIAN, WINDOW_BYTE_ORDER),
            // No EDID block at 0.
            _ => 0,
        };
        value & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8))))
    }

    /// Writes the register window (BAR 2).
    pub fn window_write(&mut self, offset: u64, size: u8, value: u64, cx: &mut IoCtx) {
        match offset {
            WINDOW_VGA..WINDOW_VGA_END => {
                for i in 0..size {
                    let port = (offset - WINDOW_VGA) as u16 + 0x3c0 + u16::from(i);
                    self.write_u8(port, (value >> (8 * (i & 7))) as u8, cx);
                }
            }
            // Registers are written whole.
            WINDOW_DISPI..WINDOW_DISPI_END if size >= 2 && offset & 1 == 0 => {
                for i in 0..u16::from(size / 2) {
                    let index = ((offset - WINDOW_DISPI) / 2) as u16 + i;
                    self.dispi_write(index, (value >> (16 * (i & 3))) as u16, cx);
                }
            }
            _ => {}
        }
    }
}

impl Device for Vga {
    fn reset(&mut self, cx: &mut IoCtx) {
        self.pci.reset();
        *self = Self { pci: self.pci.clone(), retrace_cleared: cx.now, ..Self::new() };
    }
}

impl PortIo for Vga {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        if self.hidden(port) {
            return 0xff;
        }
        match port {
            0x3c0 => self.attr.index,
            0x3c1 => self.attr.read(),
            0x3c2 => u8::from(self.retrace_pending(cx.now)) << 7,
            0x3c3 => self.subsystem,
            0x3c4 => self.seq.index,
            0x3c5 => self.seq.read(),
            0x3c6 => self.dac.mask,
            0x3c7 => self.dac.state(),
            0x3c8 => self.dac.write_index,
            0x3c9 => self.dac.read(),
            0x3ca => self.feature,
            0x3cc => self.misc,
            0x3ce => self.gc.index,
            0x3cf => self.gc.read(),
            0x3b4 | 0x3d4 => self.crtc.index,
            0x3b5 | 0x3d5 => self.crtc_read(),
            0x3ba | 0x3da => self.status_1(cx.now),
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        if self.hidden(port) {
            return;
        }
        self.cache.touched = true;
        match port {
            0x3c0 => self.attr.write(value),
            0x3c2 => self.misc = value & !0x10,
            0x3c3 => self.subsystem = value & 1,
            0x3c4 => self.seq.index = value & 7,
            0x3c5 => self.seq.write(value),
            0x3c6 => self.dac.mask = value,
            0x3c7 => self.dac.set_read_index(value),
            0x3c8 => self.dac.set_write_index(value),
            0x3c9 => self.dac.write(value),
            0x3ce => self.gc.index = value & 15,
            0x3cf => self.gc.write(value),
            0x3b4 | 0x3d4 => self.crtc.index = value,
            0x3b5 | 0x3d5 => self.crtc_write(value, cx.now),
            0x3ba | 0x3da => self.feature = value & 0x10,
            _ => {}
        }
    }

    fn read_u16(&mut self, port: u16, cx: &mut IoCtx) -> u16 {
        match port {
            PORT_DISPI_INDEX => self.dispi.index(),
            PORT_DISPI_DATA | PORT_DISPI_DATA_ALIGNED => self.dispi.read(self.dispi.index()),
            _ => u16::from_le_bytes([self.read_u8(port, cx), self.read_u8(port.wrapping_add(1), cx)]),
        }
    }

    fn write_u16(&mut self, port: u16, value: u16, cx: &mut IoCtx) {
        match port {
            PORT_DISPI_INDEX => self.dispi.set_index(value),
            PORT_DISPI_DATA | PORT_DISPI_DATA_ALIGNED => {
                self.cache.touched = true;
                self.dispi_write(self.dispi.index(), value, cx);
            }
            _ => {
                let [low, high] = value.to_le_bytes();
                self.write_u8(port, low, cx);
                self.write_u8(port.wrapping_add(1), high, cx);
            }
        }
    }
}
