//! Intel 82077AA floppy disk controller with two drives: ports 3F0h-3F5h and 3F7h, IRQ 6, ISA DMA channel 2.
//! Spec: Intel 290166.
//!
//! One sector moves per event, so transfers are reproducible; a backend without an answer yet
//! ([`BlockStatus::Pending`]) is asked again later. A read or write seeks to the cylinder in its parameters.

mod command;
pub mod format;
mod regs;
#[cfg(test)]
mod tests;
mod transfer;

pub use format::{DriveType, Format};

use super::block::{Activity, BlockBackend, BlockStatus, Media};
use crate::bus::{Device, IoCtx, PortIo};
use crate::time::{EventId, VirtTime};
use command::{Command, Specify};
use format::{RATE_250K, RATE_300K};
use regs::{Dor, Msr, St0};
use serde::{Deserialize, Serialize};
use transfer::{Transfer, Wait};

const IRQ: u8 = 6;
const DMA_CHANNEL: u8 = 2;
const PORT_SRA: u16 = 0x3f0;
const PORT_SRB: u16 = 0x3f1;
const PORT_DOR: u16 = 0x3f2;
const PORT_TDR: u16 = 0x3f3;
const PORT_MSR_DSR: u16 = 0x3f4;
const PORT_DATA: u16 = 0x3f5;
const PORT_DIR_CCR: u16 = 0x3f7;

/// Data rate select register: software reset, which ends by itself.
const DSR_RESET: u8 = 0x80;
/// Digital input register: disk change.
const DIR_DSKCHG: u8 = 0x80;

/// From the end of a reset to its interrupt.
const LATENCY_RESET: VirtTime = 20_000;
/// A seek, whatever the distance.
const LATENCY_SEEK: VirtTime = 300_000;
/// Each sector, faster than any drive.
const LATENCY_SECTOR: VirtTime = 100_000;
/// Until a request that the backend could not answer yet is repeated.
const LATENCY_RETRY: VirtTime = 100_000;
/// Until a DMA channel that did not take part is tried again.
const LATENCY_DMA: VirtTime = 1_000_000;

/// A drive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Drive {
    kind: DriveType,
    /// Layout of the disk in it.
    format: Option<Format>,
    /// Cylinder of the heads, as the controller counts steps.
    cylinder: u8,
    /// Sector that READ ID found last.
    sector: u8,
    /// The disk change line: set by a change, cleared by a step with a disk inside.
    changed: bool,
    activity: Activity,
    #[serde(skip)]
    media: Media,
}

impl Drive {
    fn insert(&mut self, disk: Option<Box<dyn BlockBackend>>) {
        self.media = Media::new(disk);
        self.format = Format::holding(self.media.len());
        self.changed = true;
    }

    /// The heads step to `cylinder`.
    fn seek(&mut self, cylinder: u8) {
        self.cylinder = cylinder;
        if self.format.is_some() {
            self.changed = false;
        }
    }

    /// Steps per cylinder of the disk: an 80-cylinder drive reads a 40-cylinder disk with double steps.
    fn steps(&self) -> u8 {
        match self.format {
            Some(f) if self.kind == DriveType::Inch5High && f.cylinders == 40 => 2,
            _ => 1,
        }
    }

    /// The format, if the disk can be read at `rate`.
    fn readable(&self, rate: u8) -> Option<Format> {
        self.format.filter(|f| match f.rate {
            // Double density turns faster in a 1.2 MB drive; firmware uses either rate there.
            RATE_300K if self.kind == DriveType::Inch5High => rate == RATE_300K || rate == RATE_250K,
            RATE_300K => rate == RATE_250K,
            own => rate == own,
        })
    }
}

/// What the controller is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Takes the bytes of a command.
    #[default]
    Command,
    /// Held in reset by the DOR.
    Reset,
    /// The interrupt that follows a reset is due.
    AfterReset,
    /// The heads of a drive move.
    Seek {
        /// Drive, 0 to 3.
        drive: u8,
        /// Where they go.
        target: u8,
    },
    /// Looks for the next sector header.
    ReadId {
        /// Head.
        head: u8,
    },
    /// Moves sectors.
    Transfer(Transfer),
    /// Gives the bytes of a result.
    Result,
}

/// The controller and its drives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floppy {
    drives: [Drive; 2],
    dor: Dor,
    /// Tape drive register: kept, no effect.
    tdr: u8,
    /// Data rate bits.
    rate: u8,
    phase: Phase,
    /// Bytes of the command or of the result.
    fifo: Vec<u8>,
    /// Result bytes already read.
    taken: usize,
    /// A sector (or the header fields of FORMAT) on its way.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that moved.
    pos: usize,
    /// The host moves `buffer` through the data register.
    pio: bool,
    /// The interrupt is pending.
    interrupt: bool,
    /// Interrupts of drives that SENSE INTERRUPT has yet to report after a reset.
    polls: u8,
    /// Status register 0 of the last seek.
    seek_status: Option<u8>,
    specify: Specify,
    /// CONFIGURE bytes: (EIS, EFIFO, POLL, threshold), precompensation track.
    configure: [u8; 2],
    perpendicular: u8,
    locked: bool,
    /// Last sector number of the last data command, for DUMPREG.
    last_sector: u8,
    /// Head that the last command selected.
    head: u8,
    blocked: bool,
}

impl Floppy {
    /// A controller without drives, as after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self { configure: [0x20, 0], ..Self::default() }
    }

    /// Adds drive `n` (0 or 1), perhaps with a disk in it, before power-on. Its type follows the disk.
    pub fn attach(&mut self, n: usize, disk: Option<Box<dyn BlockBackend>>) {
        if let Some(d) = self.drives.get_mut(n) {
            d.insert(disk);
            d.kind = d.format.map_or(DriveType::Inch3High, Format::drive);
        }
    }

    /// The image in drive `n`.
    #[must_use]
    pub fn media(&self, n: usize) -> Option<&Media> {
        self.drives.get(n).map(|d| &d.media)
    }

    /// The image in drive `n`.
    pub fn media_mut(&mut self, n: usize) -> Option<&mut Media> {
        self.drives.get_mut(n).map(|d| &mut d.media)
    }

    /// Takes the images over from the controller that this one replaces.
    pub fn adopt_media(&mut self, from: &mut Self) {
        for (d, old) in self.drives.iter_mut().zip(&mut from.drives) {
            d.media = std::mem::take(&mut old.media);
        }
    }

    /// Changes the disk in drive `n` while the machine runs; `None` takes it out. Returns whether there is
    /// such a drive and the disk is of a known size.
    pub fn insert_media(&mut self, n: usize, disk: Option<Box<dyn BlockBackend>>) -> bool {
        let Some(d) = self.drives.get_mut(n).filter(|d| d.kind != DriveType::None) else {
            return false;
        };
        let wanted = disk.is_some();
        d.insert(disk);
        wanted == d.format.is_some()
    }

    /// Gives a drive of a restored machine its backend, without the guest noticing. Returns whether the
    /// machine was saved with a disk of this format in drive `n`.
    pub fn reattach(&mut self, n: usize, disk: Box<dyn BlockBackend>) -> bool {
        let Some(d) = self.drives.get_mut(n) else {
            return false;
        };
        let fits = d.format.is_some() && d.format == Format::holding(disk.len());
        if fits {
            d.media = Media::new(Some(disk));
        }
        fits
    }

    /// Type of drive `n`, whose value is the CMOS code.
    #[must_use]
    pub fn drive_type(&self, n: usize) -> DriveType {
        self.drives.get(n).map(|d| d.kind).unwrap_or_default()
    }

    /// How much drive `n` was used.
    #[must_use]
    pub fn activity(&self, n: usize) -> Activity {
        self.drives.get(n).map(|d| d.activity).unwrap_or_default()
    }

    /// Whether a drive waits for a backend that had no answer yet.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.blocked
    }

    fn set_interrupt(&mut self, level: bool, cx: &mut IoCtx) {
        self.interrupt = level;
        cx.irq.set_isa(IRQ, level && self.dor.contains(Dor::DMAGATE));
    }

    /// Reset by pin, DOR or DSR (4.0): the running command ends; settings survive if LOCK says so.
    fn soft_reset(&mut self, cx: &mut IoCtx) {
        cx.events.cancel(EventId::Floppy);
        self.fifo.clear();
        self.taken = 0;
        self.buffer.clear();
        self.pos = 0;
        self.pio = false;
        self.blocked = false;
        self.polls = 0;
        self.seek_status = None;
        self.perpendicular &= 0x3c;
        if !self.locked {
            self.configure = [0x20, 0];
        }
        self.phase = Phase::Reset;
        self.set_interrupt(false, cx);
    }

    /// Leaves the reset state.
    fn end_reset(&mut self, cx: &mut IoCtx) {
        self.phase = Phase::AfterReset;
        cx.after(EventId::Floppy, LATENCY_RESET);
    }

    fn write_dor(&mut self, value: u8, cx: &mut IoCtx) {
        let before = self.dor;
        self.dor = Dor::from_bits_truncate(value);
        match (before.contains(Dor::NRESET), self.dor.contains(Dor::NRESET)) {
            (true, false) => self.soft_reset(cx),
            (false, true) => self.end_reset(cx),
            _ => {}
        }
        let level = self.interrupt;
        self.set_interrupt(level, cx);
    }

    fn main_status(&self) -> Msr {
        match self.phase {
            Phase::Command if self.fifo.is_empty() => Msr::RQM,
            Phase::Command => Msr::RQM | Msr::CMD_BUSY,
            Phase::Reset | Phase::AfterReset => Msr::empty(),
            Phase::Seek { drive, .. } => Msr::from_bits_retain(1 << (drive & 3)),
            Phase::ReadId { .. } => Msr::CMD_BUSY,
            Phase::Transfer(t) => {
                let mut s = Msr::CMD_BUSY;
                s.set(Msr::NON_DMA, self.specify.non_dma());
                s.set(Msr::RQM, self.pio);
                s.set(Msr::DIO, self.pio && t.to_host());
                s
            }
            Phase::Result => Msr::RQM | Msr::DIO | Msr::CMD_BUSY,
        }
    }

    fn read_data(&mut self, cx: &mut IoCtx) -> u8 {
        match self.phase {
            Phase::Result => {
                self.set_interrupt(false, cx);
                let byte = self.fifo.get(self.taken).copied().unwrap_or(0);
                self.taken += 1;
                if self.taken >= self.fifo.len() {
                    self.await_command();
                }
                byte
            }
            Phase::Transfer(t) if self.pio && t.to_host() => {
                let byte = self.buffer.get(self.pos).copied().unwrap_or(0);
                self.pio_moved(cx);
                byte
            }
            _ => 0,
        }
    }

    fn write_data(&mut self, value: u8, cx: &mut IoCtx) {
        match self.phase {
            Phase::Command => {
                self.fifo.push(value);
                if self.fifo.len() >= Command::length(self.fifo[0]) {
                    self.execute(cx);
                }
            }
            Phase::Transfer(t) if self.pio && !t.to_host() => {
                if let Some(byte) = self.buffer.get_mut(self.pos) {
                    *byte = value;
                }
                self.pio_moved(cx);
            }
            _ => {}
        }
    }

    /// A byte moved through the data register in the execution phase.
    fn pio_moved(&mut self, cx: &mut IoCtx) {
        self.pos += 1;
        if self.pos >= self.buffer.len() {
            self.pio = false;
            self.set_interrupt(false, cx);
            cx.after(EventId::Floppy, LATENCY_SECTOR);
        }
    }

    fn await_command(&mut self) {
        self.phase = Phase::Command;
        self.fifo.clear();
        self.taken = 0;
    }

    /// Enters the result phase.
    fn answer(&mut self, bytes: &[u8]) {
        self.fifo.clear();
        self.fifo.extend_from_slice(bytes);
        self.taken = 0;
        self.phase = Phase::Result;
    }

    fn selected(&self) -> usize {
        usize::from((self.dor & Dor::DRIVE).bits())
    }

    fn end_seek(&mut self, drive: u8, target: u8, cx: &mut IoCtx) {
        let mut status = St0::SE.bits() | drive;
        match self.drives.get_mut(usize::from(drive)) {
            Some(d) if d.kind != DriveType::None => d.seek(target),
            _ => status |= (St0::ABNORMAL | St0::EC).bits(),
        }
        self.seek_status = Some(status);
        self.await_command();
        self.set_interrupt(true, cx);
    }
}

impl Device for Floppy {
    fn reset(&mut self, cx: &mut IoCtx) {
        self.locked = false;
        self.soft_reset(cx);
        self.dor = Dor::empty();
        self.tdr = 0;
        self.rate = RATE_250K;
        self.specify = Specify::default();
        self.perpendicular = 0;
        for d in &mut self.drives {
            d.cylinder = 0;
            d.changed = true;
        }
    }

    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        if event != EventId::Floppy {
            return;
        }
        self.blocked = false;
        match self.phase {
            Phase::AfterReset => {
                self.await_command();
                // SENSE INTERRUPT reports a change of each of the four drives (4.0).
                self.polls = 4;
                self.set_interrupt(true, cx);
            }
            Phase::Seek { drive, target } => self.end_seek(drive, target, cx),
            Phase::ReadId { head } => self.end_read_id(head, cx),
            Phase::Transfer(t) if !self.pio => match self.step(t, cx) {
                Wait::Event(delay) => cx.after(EventId::Floppy, delay),
                Wait::Retry => {
                    self.blocked = true;
                    cx.after(EventId::Floppy, LATENCY_RETRY);
                }
                Wait::Host | Wait::Done => {}
            },
            _ => {}
        }
    }
}

impl PortIo for Floppy {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        match port {
            PORT_SRA => u8::from(self.interrupt) << 7,
            PORT_SRB => {
                let dor = self.dor.bits();
                0xc0 | (dor & 1) << 5 | (dor >> 4 & 3)
            }
            PORT_DOR => self.dor.bits(),
            PORT_TDR => self.tdr,
            PORT_MSR_DSR => self.main_status().bits(),
            PORT_DATA => self.read_data(cx),
            PORT_DIR_CCR => match self.drives.get(self.selected()) {
                Some(d) if !d.changed => 0,
                _ => DIR_DSKCHG,
            },
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        match port {
            PORT_DOR => self.write_dor(value, cx),
            PORT_TDR => self.tdr = value & 3,
            PORT_MSR_DSR => {
                self.rate = value & 3;
                if value & DSR_RESET != 0 && self.dor.contains(Dor::NRESET) {
                    self.soft_reset(cx);
                    self.end_reset(cx);
                }
            }
            PORT_DATA => self.write_data(value, cx),
            PORT_DIR_CCR => self.rate = value & 3,
            _ => {}
        }
    }
}
