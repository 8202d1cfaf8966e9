//! The commands of the 82077AA and their results (Intel 290166, chapter 5).

use super::regs::{ST3_ONES, ST3_T0, ST3_WP, St0, St1};
use super::transfer::{Id, Op, Transfer};
use super::{DriveType, Floppy, LATENCY_SECTOR, LATENCY_SEEK, Phase};
use crate::bus::IoCtx;
use crate::time::EventId;
use serde::{Deserialize, Serialize};

/// First byte: multi-track.
const MULTI_TRACK: u8 = 0x80;
/// VERSION result: enhanced controller.
const VERSION_ENHANCED: u8 = 0x90;
/// PART ID result.
const PART_ID: u8 = 0x41;

/// Commands by their first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    ReadTrack,
    Specify,
    SenseDrive,
    Write,
    Read,
    Recalibrate,
    SenseInterrupt,
    ReadId,
    Format,
    DumpReg,
    Seek,
    /// The flag is the direction: towards higher cylinders.
    RelativeSeek(bool),
    Version,
    Perpendicular,
    Configure,
    Lock(bool),
    Verify,
    PartId,
    /// OPTION of later parts: takes its byte, no result.
    Option,
    Invalid,
}

impl Command {
    fn decode(byte: u8) -> Self {
        match byte {
            0x03 => Self::Specify,
            0x04 => Self::SenseDrive,
            0x07 => Self::Recalibrate,
            0x08 => Self::SenseInterrupt,
            0x0e => Self::DumpReg,
            0x0f => Self::Seek,
            0x8f => Self::RelativeSeek(false),
            0xcf => Self::RelativeSeek(true),
            0x10 => Self::Version,
            0x12 => Self::Perpendicular,
            0x13 => Self::Configure,
            0x14 => Self::Lock(false),
            0x94 => Self::Lock(true),
            0x18 => Self::PartId,
            0x33 => Self::Option,
            // Bits 7:5 are MT, MFM and SK, as far as the command has them.
            _ => match (byte & 0x1f, byte >> 5) {
                (0x02, 0..=3) => Self::ReadTrack,
                (0x05 | 0x09, 0 | 2 | 4 | 6) => Self::Write,
                (0x06 | 0x0c, _) => Self::Read,
                (0x0a, 0 | 2) => Self::ReadId,
                (0x0d, 0 | 2) => Self::Format,
                (0x16, _) => Self::Verify,
                _ => Self::Invalid,
            },
        }
    }

    /// Bytes of the command that starts with `byte`.
    pub fn length(byte: u8) -> usize {
        match Self::decode(byte) {
            Self::ReadTrack | Self::Write | Self::Read | Self::Verify => 9,
            Self::Format => 6,
            Self::Configure => 4,
            Self::Specify | Self::Seek | Self::RelativeSeek(_) => 3,
            Self::SenseDrive | Self::Recalibrate | Self::ReadId | Self::Perpendicular | Self::Option => 2,
            Self::SenseInterrupt | Self::DumpReg | Self::Version | Self::Lock(_) | Self::PartId | Self::Invalid => 1,
        }
    }
}

/// The bytes of SPECIFY: step rate, head times, and whether DMA is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specify([u8; 2]);

impl Specify {
    /// Data moves through the data register.
    pub fn non_dma(self) -> bool {
        self.0[1] & 1 != 0
    }
}

impl Floppy {
    /// All bytes of a command are in the FIFO.
    pub(super) fn execute(&mut self, cx: &mut IoCtx) {
        let mut b = [0; 9];
        for (to, from) in b.iter_mut().zip(&self.fifo) {
            *to = *from;
        }
        let drive = b[1] & 3;
        match Command::decode(b[0]) {
            Command::Specify => {
                self.specify = Specify([b[1], b[2]]);
                self.await_command();
            }
            Command::Perpendicular => {
                // The D bits change only if OW is set.
                let d = if b[1] & 0x80 != 0 { b[1] } else { self.perpendicular };
                self.perpendicular = (d & 0x3c) | (b[1] & 3);
                self.await_command();
            }
            Command::Configure => {
                self.configure = [b[2], b[3]];
                self.await_command();
            }
            Command::Option => self.await_command(),
            Command::SenseDrive => self.sense_drive(drive, b[1] >> 2 & 1),
            Command::SenseInterrupt => self.sense_interrupt(cx),
            Command::Version => self.answer(&[VERSION_ENHANCED]),
            Command::PartId => self.answer(&[PART_ID]),
            Command::Lock(on) => {
                self.locked = on;
                self.answer(&[u8::from(on) << 4]);
            }
            Command::DumpReg => self.dump_registers(),
            Command::Recalibrate => self.seek(drive, 0, cx),
            Command::Seek => {
                self.head = b[1] >> 2 & 1;
                self.seek(drive, b[2], cx);
            }
            Command::RelativeSeek(up) => {
                self.head = b[1] >> 2 & 1;
                let at = self.cylinder(drive);
                let target = if up { at.saturating_add(b[2]) } else { at.saturating_sub(b[2]) };
                self.seek(drive, target, cx);
            }
            Command::ReadId => {
                self.select(drive);
                self.head = b[1] >> 2 & 1;
                self.phase = Phase::ReadId { head: self.head };
                cx.after(EventId::Floppy, LATENCY_SECTOR);
            }
            Command::Read => self.transfer(Op::Read, &b, cx),
            Command::ReadTrack => {
                b[4] = 1;
                self.transfer(Op::Read, &b, cx);
            }
            Command::Write => self.transfer(Op::Write, &b, cx),
            Command::Verify => self.transfer(Op::Verify, &b, cx),
            Command::Format => self.format(&b, cx),
            Command::Invalid => self.answer(&[St0::INVALID.bits()]),
        }
    }

    /// The drive that a command names becomes the selected one, as far as results tell.
    fn select(&mut self, drive: u8) {
        self.dor = super::Dor::from_bits_truncate((self.dor.bits() & !3) | drive);
    }

    fn cylinder(&self, drive: u8) -> u8 {
        self.drives.get(usize::from(drive)).map_or(0, |d| d.cylinder)
    }

    fn seek(&mut self, drive: u8, target: u8, cx: &mut IoCtx) {
        self.select(drive);
        self.fifo.clear();
        self.phase = Phase::Seek { drive, target };
        cx.after(EventId::Floppy, LATENCY_SEEK);
    }

    fn sense_drive(&mut self, drive: u8, head: u8) {
        let mut status = ST3_ONES | head << 2 | drive;
        if let Some(d) = self.drives.get(usize::from(drive)) {
            if d.kind != DriveType::None && d.cylinder == 0 {
                status |= ST3_T0;
            }
            if d.media.is_present() && d.media.read_only() {
                status |= ST3_WP;
            }
        }
        self.answer(&[status]);
    }

    fn sense_interrupt(&mut self, cx: &mut IoCtx) {
        let status = if self.polls > 0 {
            let drive = 4 - self.polls;
            self.polls -= 1;
            St0::POLLING.bits() | drive
        } else if let Some(status) = self.seek_status.take() {
            status
        } else {
            self.answer(&[St0::INVALID.bits()]);
            return;
        };
        self.set_interrupt(false, cx);
        self.answer(&[status, self.cylinder(status & 3)]);
    }

    fn dump_registers(&mut self) {
        self.answer(&[
            self.cylinder(0),
            self.cylinder(1),
            0,
            0,
            self.specify.0[0],
            self.specify.0[1],
            self.last_sector,
            u8::from(self.locked) << 7 | (self.perpendicular & 0x7f),
            self.configure[0],
            self.configure[1],
        ]);
    }

    pub(super) fn end_read_id(&mut self, head: u8, cx: &mut IoCtx) {
        let (rate, drive) = (self.rate, self.selected());
        let mut found = None;
        if let Some(d) = self.drives.get_mut(drive)
            && let Some(f) = d.readable(rate)
        {
            let cylinder = d.cylinder / d.steps();
            d.sector = d.sector % f.sectors + 1;
            found = f.offset(cylinder, head, d.sector).map(|_| Id::new(cylinder, head, d.sector));
        }
        match found {
            Some(id) => self.finish(id, St1::empty(), cx),
            None => self.finish(Id::new(0, head, 1), St1::MA, cx),
        }
    }

    /// READ, WRITE and VERIFY DATA: drive and head, C, H, R, N, EOT, GPL, DTL (or the sector count of VERIFY).
    fn transfer(&mut self, op: Op, b: &[u8; 9], cx: &mut IoCtx) {
        self.select(b[1] & 3);
        self.last_sector = b[6];
        // VERIFY with EC set counts sectors; without, it goes on to the end of the track.
        let count = if op == Op::Verify && b[1] & 0x80 != 0 && b[8] != 0 { u16::from(b[8]) } else { u16::MAX };
        self.start(
            Transfer {
                op,
                id: Id { cylinder: b[2], head: b[3], sector: b[4], size: b[5] },
                side: b[1] >> 2 & 1,
                last: b[6],
                multi_track: b[0] & MULTI_TRACK != 0,
                left: count,
                fill: 0,
                fetched: false,
            },
            cx,
        );
    }

    /// FORMAT TRACK: drive and head, N, sectors per track, gap, filler.
    fn format(&mut self, b: &[u8; 9], cx: &mut IoCtx) {
        self.select(b[1] & 3);
        self.last_sector = b[3];
        let head = b[1] >> 2 & 1;
        let mut id = Id::new(self.cylinder(b[1] & 3), head, 1);
        id.size = b[2];
        self.start(
            Transfer {
                op: Op::Format,
                id,
                side: head,
                last: b[3],
                multi_track: false,
                left: b[3].into(),
                fill: b[5],
                fetched: false,
            },
            cx,
        );
    }

    fn start(&mut self, t: Transfer, cx: &mut IoCtx) {
        self.head = t.side;
        self.fifo.clear();
        self.buffer.clear();
        self.pos = 0;
        self.phase = Phase::Transfer(t);
        cx.after(EventId::Floppy, LATENCY_SECTOR);
    }
}
