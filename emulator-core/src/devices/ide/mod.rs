//! The PIIX3 IDE function (PCI 8086:7010 at 00:01.1): two ATA channels at their legacy ports 1F0h-1F7h, 3F6h
//! (IRQ 14) and 170h-177h, 376h (IRQ 15), and a bus master at BAR 4.
//! Spec: Intel 290550 (82371SB PIIX3), SFF-8038i, ATA/ATAPI-6 (T13 1410D).
//!
//! Data moves in events a fixed virtual time after the command, so a run is reproducible. A backend that has
//! no answer yet ([`BlockStatus::Pending`](super::block::BlockStatus)) is asked again later; meanwhile
//! [`Ide::blocked`] is true.

mod ata;
mod atapi;
mod bus_master;
mod channel;
mod drive;
mod identify;
mod regs;
mod scsi;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_atapi;

pub use drive::Kind;

use super::block::{Activity, BlockBackend, Media};
use super::pci::PciFunction;
use super::pci_config::{Bar, PciConfig};
use crate::bus::{Device, IoCtx, PortIo};
use crate::time::EventId;
use atapi::{CD_SECTOR, DiscChange};
use channel::Channel;
use drive::{Drive, Geometry, SECTOR};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Ports of the two command blocks.
const PORT_COMMAND: [u16; 2] = [0x1f0, 0x170];
/// Ports of the two control blocks (device control, alternate status).
const PORT_CONTROL: [u16; 2] = [0x3f6, 0x376];
/// PCI slot and function on the board.
const SLOT: u8 = 1;
const FUNCTION: u8 = 1;
const BAR_BUS_MASTER: usize = 4;
/// First of the IDE timing registers.
const IDETIM: u8 = 0x40;

/// Why a backend can't be attached again to a restored drive.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttachError {
    /// The saved machine has no such drive.
    #[error("the saved machine has no drive {0}")]
    NoDrive(usize),
    /// The image is not the one the machine was saved with.
    #[error("the image of drive {drive} has {found} sectors, but the saved machine's had {expected}")]
    SizeDiffers {
        /// Drive, 0 to 3.
        drive: usize,
        /// Sectors when it was saved.
        expected: u64,
        /// Sectors of the image offered.
        found: u64,
    },
}

/// The controller and its four drives: 0 primary master, 1 primary slave, 2 secondary master, 3 secondary slave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ide {
    pci: PciConfig,
    channels: [Channel; 2],
}

impl PciFunction for Ide {
    fn config(&self) -> &PciConfig {
        &self.pci
    }
    fn config_mut(&mut self) -> &mut PciConfig {
        &mut self.pci
    }
    fn config_written(&mut self, _offset: u8, _cx: &mut IoCtx) {
        self.update_mastering();
    }
}

impl Default for Ide {
    fn default() -> Self {
        Self::new()
    }
}

/// Which register a port is.
enum Target {
    Command(usize, u16),
    Control(usize),
    BusMaster(usize, u16),
    None,
}

impl Ide {
    /// A controller without drives, as after power-on.
    #[must_use]
    pub fn new() -> Self {
        let mut pci = PciConfig::new(SLOT, FUNCTION, 0x8086, 0x7010, 0x01_0180, 0, 0);
        pci.set_bar(BAR_BUS_MASTER, Bar::Io { size: 16 });
        pci.set(0x06, &[0x80, 0x02]); // fast back-to-back, medium DEVSEL#
        pci.allow(IDETIM.into(), &[0xff; 0xc0]);
        let mut ide = Self { pci, channels: [Channel::new(0), Channel::new(1)] };
        for c in &mut ide.channels {
            c.drives.iter_mut().for_each(Drive::hard_reset);
        }
        ide
    }

    /// The configuration space, for the host bridge.
    #[must_use]
    pub fn pci(&self) -> &PciConfig {
        &self.pci
    }

    /// Guest write to the configuration space. Returns whether the mapped ranges may have changed.
    pub fn pci_write(&mut self, at: u8, value: u8) -> bool {
        let changed = self.pci.write_u8(at, value);
        self.update_mastering();
        changed
    }

    fn update_mastering(&mut self) {
        for c in &mut self.channels {
            c.may_master = self.pci.bus_master();
        }
    }

    /// The image in drive `n`.
    #[must_use]
    pub fn media(&self, n: usize) -> Option<&Media> {
        self.drive(n).map(|d| &d.media)
    }

    /// The image in drive `n`.
    pub fn media_mut(&mut self, n: usize) -> Option<&mut Media> {
        self.drive_mut(n).map(|d| &mut d.media)
    }

    /// Takes the images over from the controller that this one replaces.
    pub fn adopt_media(&mut self, from: &mut Self) {
        for n in 0..4 {
            if let (Some(d), Some(old)) = (self.drive_mut(n), from.drive_mut(n)) {
                d.media = std::mem::take(&mut old.media);
            }
        }
    }

    /// Whether the commands of a controller from a snapshot are ones that drives can have.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.channels.iter().flat_map(|c| &c.drives).all(Drive::is_sound)
    }

    /// Kind and size of drive `n`, for people.
    #[must_use]
    pub fn description(&self, n: usize) -> String {
        let size =
            |d: &Drive| if d.media.is_present() { format!("{} bytes", d.media.len()) } else { "empty".to_owned() };
        match self.drive(n) {
            Some(d) if d.kind == Kind::Disk => format!("disk, {}", size(d)),
            Some(d) if d.kind == Kind::Cdrom => format!("CD-ROM, {}", size(d)),
            _ => "none".to_owned(),
        }
    }

    fn drive(&self, n: usize) -> Option<&Drive> {
        self.channels.get(n / 2).map(|c| &c.drives[n % 2])
    }

    fn drive_mut(&mut self, n: usize) -> Option<&mut Drive> {
        self.channels.get_mut(n / 2).map(|c| &mut c.drives[n % 2])
    }

    /// Puts a disk at position `n` (0 to 3) before power-on. Only whole sectors count.
    pub fn attach_disk(&mut self, n: usize, backend: Box<dyn BlockBackend>) {
        let Some(d) = self.drive_mut(n) else { return };
        d.kind = Kind::Disk;
        d.disk.sectors = backend.len() / SECTOR as u64;
        d.disk.native =
            Geometry { cylinders: (d.disk.sectors / (16 * 63)).clamp(2, 16383) as u16, heads: 16, sectors: 63 };
        d.media = Media::new(Some(backend));
        d.hard_reset();
    }

    /// Puts a CD-ROM drive at position `n` (0 to 3) before power-on, perhaps with a disc in it.
    pub fn attach_cdrom(&mut self, n: usize, disc: Option<Box<dyn BlockBackend>>) {
        let Some(d) = self.drive_mut(n) else { return };
        d.kind = Kind::Cdrom;
        load(d, disc);
        d.hard_reset();
    }

    /// Exchanges the disc of the CD-ROM drive at `n` while the machine runs; `None` takes it out.
    /// Returns whether there is a CD-ROM drive.
    pub fn insert_media(&mut self, n: usize, disc: Option<Box<dyn BlockBackend>>) -> bool {
        let Some(d) = self.drive_mut(n).filter(|d| d.kind == Kind::Cdrom) else {
            return false;
        };
        load(d, disc);
        d.cd.tray_open = !d.cd.loaded;
        d.cd.change = if d.cd.loaded { DiscChange::Removed } else { DiscChange::None };
        d.cd.event_new_media = d.cd.loaded;
        d.cd.event_removed = !d.cd.loaded;
        true
    }

    /// Gives a drive of a restored machine its backend, without the guest noticing.
    ///
    /// # Errors
    /// When the machine was saved without such a drive or disc, or with one of another size.
    pub fn reattach(&mut self, n: usize, backend: Box<dyn BlockBackend>) -> Result<(), AttachError> {
        let d = self.drive_mut(n).filter(|d| d.kind == Kind::Disk || d.cd.loaded).ok_or(AttachError::NoDrive(n))?;
        let (expected, found) = if d.kind == Kind::Disk {
            (d.disk.sectors, backend.len() / SECTOR as u64)
        } else {
            (d.cd.sectors.into(), backend.len() / CD_SECTOR as u64)
        };
        if expected != found {
            return Err(AttachError::SizeDiffers { drive: n, expected, found });
        }
        d.media = Media::new(Some(backend));
        Ok(())
    }

    /// What is at position `n`.
    #[must_use]
    pub fn kind(&self, n: usize) -> Kind {
        self.drive(n).map_or(Kind::None, |d| d.kind)
    }

    /// How much drive `n` was used.
    #[must_use]
    pub fn activity(&self, n: usize) -> Activity {
        self.drive(n).map(|d| d.activity).unwrap_or_default()
    }

    /// Whether a drive waits for a backend that had no answer yet.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.channels.iter().any(|c| c.blocked)
    }

    /// Reads as much as there is of the present data block at data port `port` (1F0h or 170h): what a string
    /// input of `out.len()` bytes would read. Returns the number of bytes; the rest is up to single accesses.
    pub fn pio_read_block(&mut self, port: u16, out: &mut [u8], cx: &mut IoCtx) -> usize {
        match self.target(port) {
            Target::Command(c, 0) => self.channels[c].data_read_slice(out, cx),
            _ => 0,
        }
    }

    /// Writes as much as the present data block takes at data port `port`; returns the number of bytes.
    pub fn pio_write_block(&mut self, port: u16, data: &[u8], cx: &mut IoCtx) -> usize {
        match self.target(port) {
            Target::Command(c, 0) => self.channels[c].data_write(data, cx),
            _ => 0,
        }
    }

    fn target(&self, port: u16) -> Target {
        for c in 0..2 {
            if port & !7 == PORT_COMMAND[c] {
                return Target::Command(c, port & 7);
            }
            if port == PORT_CONTROL[c] {
                return Target::Control(c);
            }
        }
        match self.pci.mapped(BAR_BUS_MASTER) {
            Some(m) if (m.base..m.base + m.size).contains(&port.into()) => {
                let offset = port & 15;
                Target::BusMaster(usize::from(offset >> 3), offset & 7)
            }
            _ => Target::None,
        }
    }
}

/// Changes the disc in a CD-ROM drive.
fn load(d: &mut Drive, disc: Option<Box<dyn BlockBackend>>) {
    d.media = Media::new(disc);
    d.cd.loaded = d.media.is_present();
    d.cd.sectors = (d.media.len() / CD_SECTOR as u64).min(u32::MAX.into()) as u32;
}

impl Device for Ide {
    fn reset(&mut self, cx: &mut IoCtx) {
        self.pci.reset();
        for at in IDETIM..=0xff {
            self.pci.write_u8(at, 0);
        }
        self.update_mastering();
        for c in &mut self.channels {
            c.reset(cx);
        }
    }

    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        match event {
            EventId::IdePrimary => self.channels[0].on_event(cx),
            EventId::IdeSecondary => self.channels[1].on_event(cx),
            _ => {}
        }
    }
}

impl PortIo for Ide {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        match self.target(port) {
            Target::Command(c, 0) => self.channels[c].data_read::<1>(cx)[0],
            Target::Command(c, reg) => self.channels[c].read(reg, cx),
            Target::Control(c) => self.channels[c].alternate_status(),
            Target::BusMaster(c, reg) => self.channels[c].bus_master.read(reg),
            Target::None => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        match self.target(port) {
            Target::Command(c, 0) => {
                self.channels[c].data_write(&[value], cx);
            }
            Target::Command(c, reg) => self.channels[c].write(reg, value, cx),
            Target::Control(c) => self.channels[c].write_control(value, cx),
            Target::BusMaster(c, reg) => self.channels[c].write_bus_master(reg, value, cx),
            Target::None => {}
        }
    }

    fn read_u16(&mut self, port: u16, cx: &mut IoCtx) -> u16 {
        if let Target::Command(c, 0) = self.target(port) {
            return u16::from_le_bytes(self.channels[c].data_read(cx));
        }
        u16::from_le_bytes([self.read_u8(port, cx), self.read_u8(port.wrapping_add(1), cx)])
    }

    fn write_u16(&mut self, port: u16, value: u16, cx: &mut IoCtx) {
        let bytes = value.to_le_bytes();
        if let Target::Command(c, 0) = self.target(port) {
            self.channels[c].data_write(&bytes, cx);
            return;
        }
        self.write_u8(port, bytes[0], cx);
        self.write_u8(port.wrapping_add(1), bytes[1], cx);
    }

    fn read_u32(&mut self, port: u16, cx: &mut IoCtx) -> u32 {
        if let Target::Command(c, 0) = self.target(port) {
            return u32::from_le_bytes(self.channels[c].data_read(cx));
        }
        u32::from(self.read_u16(port, cx)) | u32::from(self.read_u16(port.wrapping_add(2), cx)) << 16
    }

    fn write_u32(&mut self, port: u16, value: u32, cx: &mut IoCtx) {
        if let Target::Command(c, 0) = self.target(port) {
            self.channels[c].data_write(&value.to_le_bytes(), cx);
            return;
        }
        self.write_u16(port, value as u16, cx);
        self.write_u16(port.wrapping_add(2), (value >> 16) as u16, cx);
    }
}
