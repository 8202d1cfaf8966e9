//! One channel of the controller: two drives, the registers they share, and the interrupt line.

use super::bus_master::{BusMaster, Change};
use super::drive::{Drive, Kind, LATENCY_COMMAND, LATENCY_RETRY, Next};
use super::regs::{Control, DEVICE_DEV, DEVICE_OBSOLETE, Status, Twice};
use crate::bus::IoCtx;
use crate::time::EventId;
use serde::{Deserialize, Serialize};

/// A cable with up to two drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Device 0 and device 1.
    pub drives: [Drive; 2],
    /// Its bus master.
    pub bus_master: BusMaster,
    /// The function may master the bus (a copy of the PCI command bit, kept by the controller).
    pub may_master: bool,
    /// ISA interrupt.
    irq: u8,
    event: EventId,
    /// Selected device.
    selected: usize,
    control: Control,
    /// The interrupt is pending, whether or not it may be seen.
    pending: bool,
    /// Level of the interrupt line.
    line: bool,
    /// The selected drive waits for `event`.
    waiting: bool,
    /// A backend has not answered yet.
    pub blocked: bool,
}

impl Channel {
    /// Channel `n` (0 primary, 1 secondary) without drives.
    pub fn new(n: u8) -> Self {
        let drive = |i| Drive { index: n * 2 + i, ..Drive::default() };
        Self {
            drives: [drive(0), drive(1)],
            bus_master: BusMaster::default(),
            may_master: false,
            irq: 14 + n,
            event: if n == 0 { EventId::IdePrimary } else { EventId::IdeSecondary },
            selected: 0,
            control: Control::empty(),
            pending: false,
            line: false,
            waiting: false,
            blocked: false,
        }
    }

    /// Hardware reset.
    pub fn reset(&mut self, cx: &mut IoCtx) {
        self.stop_waiting(cx);
        self.bus_master = BusMaster::default();
        self.selected = 0;
        self.control = Control::empty();
        for d in &mut self.drives {
            d.hard_reset();
        }
        self.set_pending(false, cx);
    }

    fn selected(&mut self) -> &mut Drive {
        &mut self.drives[self.selected & 1]
    }

    fn any_present(&self) -> bool {
        self.drives.iter().any(Drive::is_present)
    }

    fn stop_waiting(&mut self, cx: &mut IoCtx) {
        self.waiting = false;
        self.blocked = false;
        cx.events.cancel(self.event);
    }

    /// Sets the interrupt condition and drives the line, which nIEN disconnects.
    fn set_pending(&mut self, pending: bool, cx: &mut IoCtx) {
        self.pending = pending;
        let level = pending && !self.control.contains(Control::NIEN);
        if level && !self.line {
            self.bus_master.note_interrupt();
        }
        self.line = level;
        cx.irq.set_isa(self.irq, level);
    }

    /// Does what a drive asks for.
    fn apply(&mut self, next: Next, cx: &mut IoCtx) {
        match next {
            Next::Quiet => {}
            Next::Interrupt => self.set_pending(true, cx),
            Next::After(delay) => self.wait(delay, cx),
            Next::AwaitDma => self.start_dma(cx),
            Next::Retry => {
                self.wait(LATENCY_RETRY, cx);
                self.blocked = true;
            }
        }
    }

    fn wait(&mut self, delay: u64, cx: &mut IoCtx) {
        self.waiting = true;
        cx.after(self.event, delay);
    }

    /// Starts the DMA transfer once drive and bus master are both ready for it.
    fn start_dma(&mut self, cx: &mut IoCtx) {
        if !self.selected().job.is_dma() || !self.bus_master.is_active() {
            return;
        }
        if self.may_master {
            self.wait(LATENCY_COMMAND, cx);
        } else {
            self.bus_master.abort();
        }
    }

    /// The event of this channel fired.
    pub fn on_event(&mut self, cx: &mut IoCtx) {
        if !std::mem::take(&mut self.waiting) {
            return;
        }
        self.blocked = false;
        let drive = &mut self.drives[self.selected & 1];
        if drive.job.is_dma() && !self.bus_master.is_active() {
            return; // stopped meanwhile; it goes on when the bus master starts again
        }
        let next = drive.step(&mut self.bus_master, cx.mem);
        self.apply(next, cx);
    }

    /// Reads command block register `reg` (1 to 7).
    pub fn read(&mut self, reg: u16, cx: &mut IoCtx) -> u8 {
        if !self.any_present() {
            return 0;
        }
        let hob = self.control.contains(Control::HOB);
        let d = &self.drives[self.selected & 1];
        match reg {
            1 if !d.is_present() => 0,
            1 => d.error.bits(),
            2 => d.regs.count.get(hob),
            3 => d.regs.low.get(hob),
            4 => d.regs.mid.get(hob),
            5 => d.regs.high.get(hob),
            6 => d.regs.device | DEVICE_OBSOLETE,
            _ => {
                let status = self.alternate_status();
                self.set_pending(false, cx);
                status
            }
        }
    }

    /// The status, without acknowledging the interrupt; 0 for an absent device.
    pub fn alternate_status(&self) -> u8 {
        let d = &self.drives[self.selected & 1];
        if d.is_present() { d.status.bits() } else { 0 }
    }

    /// Writes command block register `reg` (1 to 7). Both drives see parameters.
    pub fn write(&mut self, reg: u16, value: u8, cx: &mut IoCtx) {
        self.control -= Control::HOB;
        if reg == 7 {
            self.command(value, cx);
            return;
        }
        if self.selected().status.intersects(Status::BSY | Status::DRQ) {
            return;
        }
        for d in &mut self.drives {
            let r = &mut d.regs;
            let register: &mut Twice = match reg {
                1 => &mut r.feature,
                2 => &mut r.count,
                3 => &mut r.low,
                4 => &mut r.mid,
                5 => &mut r.high,
                _ => {
                    r.device = value | DEVICE_OBSOLETE;
                    continue;
                }
            };
            register.push(value);
        }
        if reg == 6 {
            self.selected = usize::from(value & DEVICE_DEV != 0);
        }
    }

    fn command(&mut self, code: u8, cx: &mut IoCtx) {
        self.set_pending(false, cx);
        let d = self.selected();
        let busy = d.status.intersects(Status::BSY | Status::DRQ);
        let device_reset = code == 0x08 && d.kind == Kind::Cdrom;
        if !d.is_present() || (busy && !device_reset) {
            return;
        }
        if busy {
            self.stop_waiting(cx);
        }
        if code == 0x90 {
            // EXECUTE DEVICE DIAGNOSTIC is for both drives; device 0 answers.
            for d in &mut self.drives {
                d.stop();
                d.regs.device &= !DEVICE_DEV;
                d.diagnose();
            }
            self.selected = 0;
            self.set_pending(true, cx);
            return;
        }
        let next = self.selected().command(code);
        self.apply(next, cx);
    }

    /// Writes the device control register.
    pub fn write_control(&mut self, value: u8, cx: &mut IoCtx) {
        let before = self.control;
        self.control = Control::from_bits_truncate(value);
        let (was, is) = (before.contains(Control::SRST), self.control.contains(Control::SRST));
        if is && !was {
            self.stop_waiting(cx);
            self.pending = false;
            for d in &mut self.drives {
                d.stop();
                d.status = Status::BSY;
            }
        } else if was && !is {
            for d in &mut self.drives {
                d.regs.device = 0;
                d.soft_reset();
            }
            self.selected = 0;
        }
        let pending = self.pending;
        self.set_pending(pending, cx);
    }

    /// Reads `N` bytes at the data port.
    pub fn data_read<const N: usize>(&mut self, cx: &mut IoCtx) -> [u8; N] {
        let (bytes, next) = self.selected().data_read();
        self.apply(next, cx);
        bytes
    }

    /// Reads as much of the present block as fits.
    pub fn data_read_slice(&mut self, out: &mut [u8], cx: &mut IoCtx) -> usize {
        let (n, next) = self.selected().data_read_slice(out);
        self.apply(next, cx);
        n
    }

    /// Writes to the data port; returns how many bytes the present block took.
    pub fn data_write(&mut self, data: &[u8], cx: &mut IoCtx) -> usize {
        let (n, next) = self.selected().data_write(data);
        self.apply(next, cx);
        n
    }

    /// Writes bus master register `offset` (0 to 7).
    pub fn write_bus_master(&mut self, offset: u16, value: u8, cx: &mut IoCtx) {
        if self.bus_master.write(offset, value) == Change::Started {
            self.start_dma(cx);
        }
    }
}
