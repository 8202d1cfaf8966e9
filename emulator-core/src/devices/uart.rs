//! National Semiconductor 16550A UART. Spec: NS PC16550D.
//!
//! Transmission takes no time, as in QEMU: the transmitter is empty again at once, so a console does not slow the
//! guest. Received bytes come at the programmed speed and only while there is room for them, so a host may
//! paste a long text without an overrun.

use crate::bus::{Device, IoCtx, PortIo};
use crate::time::{EventId, SECOND, VirtTime};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const FIFO: usize = 16;
/// Bytes from the host that wait for the guest.
const INPUT_LIMIT: usize = 64 << 10;
/// Bytes from the guest that wait for the host; when nobody fetches them the oldest go.
const OUTPUT_LIMIT: usize = 1 << 20;
/// The divisor divides this: 1.8432 MHz / 16.
const BAUD_BASE: u64 = 115_200;
/// Start, data, stop.
const BITS_PER_CHAR: u64 = 10;
/// Idle time after which bytes below the trigger level interrupt (PC16550D 8.6.2).
const TIMEOUT_CHARS: u64 = 4;

const REG_DATA: u16 = 0;
const REG_IER: u16 = 1;
const REG_IIR_FCR: u16 = 2;
const REG_LCR: u16 = 3;
const REG_MCR: u16 = 4;
const REG_LSR: u16 = 5;
const REG_MSR: u16 = 6;
const REG_SCRATCH: u16 = 7;

const LCR_DLAB: u8 = 0x80;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM: u8 = 0x00;
const IIR_TRANSMITTER: u8 = 0x02;
const IIR_DATA: u8 = 0x04;
const IIR_LINE: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFOS: u8 = 0xc0;

bitflags! {
    /// Interrupt enable register.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Ier: u8 {
        /// Received data, and the character timeout.
        const DATA = 1 << 0;
        /// Transmitter holding register empty.
        const TRANSMITTER = 1 << 1;
        /// Receiver line status.
        const LINE = 1 << 2;
        /// Modem status.
        const MODEM = 1 << 3;
    }
}

bitflags! {
    /// FIFO control register.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Fcr: u8 {
        /// Both FIFOs work.
        const ENABLE = 1 << 0;
        /// Clears the receive FIFO.
        const CLEAR_RECEIVE = 1 << 1;
        /// Clears the transmit FIFO.
        const CLEAR_TRANSMIT = 1 << 2;
        /// DMA mode 1.
        const DMA = 1 << 3;
        /// Trigger level, low bit.
        const TRIGGER_0 = 1 << 6;
        /// Trigger level, high bit.
        const TRIGGER_1 = 1 << 7;
    }
}

bitflags! {
    /// Modem control register.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Mcr: u8 {
        /// Data terminal ready.
        const DTR = 1 << 0;
        /// Request to send.
        const RTS = 1 << 1;
        /// Output 1.
        const OUT1 = 1 << 2;
        /// Output 2.
        const OUT2 = 1 << 3;
        /// The transmitter feeds the receiver and the outputs the modem inputs.
        const LOOP = 1 << 4;
    }
}

bitflags! {
    /// Line status register.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    struct Lsr: u8 {
        /// A byte was received.
        const DATA_READY = 1 << 0;
        /// A byte was lost.
        const OVERRUN = 1 << 1;
        /// Parity error.
        const PARITY = 1 << 2;
        /// Framing error.
        const FRAMING = 1 << 3;
        /// Break.
        const BREAK = 1 << 4;
        /// Transmitter holding register empty.
        const THRE = 1 << 5;
        /// Transmitter empty.
        const TEMT = 1 << 6;
        /// An error in the FIFO.
        const FIFO_ERROR = 1 << 7;
    }
}

bitflags! {
    /// Modem status register.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    struct Msr: u8 {
        /// CTS changed.
        const DELTA_CTS = 1 << 0;
        /// DSR changed.
        const DELTA_DSR = 1 << 1;
        /// RI fell.
        const TRAILING_RI = 1 << 2;
        /// DCD changed.
        const DELTA_DCD = 1 << 3;
        /// Clear to send.
        const CTS = 1 << 4;
        /// Data set ready.
        const DSR = 1 << 5;
        /// Ring indicator.
        const RI = 1 << 6;
        /// Data carrier detect.
        const DCD = 1 << 7;
    }
}

impl Msr {
    const DELTAS: Self = Self::DELTA_CTS.union(Self::DELTA_DSR).union(Self::TRAILING_RI).union(Self::DELTA_DCD);
    /// The host's end of the cable is always there.
    const CONNECTED: Self = Self::CTS.union(Self::DSR).union(Self::DCD);
}

/// A serial port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uart {
    base: u16,
    irq: u8,
    event: EventId,
    ier: Ier,
    fcr: Fcr,
    lcr: u8,
    mcr: Mcr,
    lsr: Lsr,
    msr: Msr,
    scratch: u8,
    divisor: u16,
    /// Received bytes: the FIFO, or the one receiver buffer register.
    received: VecDeque<u8>,
    /// The transmitter became empty and nobody has heard of it.
    thre_pending: bool,
    /// The character timeout elapsed.
    timed_out: bool,
    /// From the host.
    input: VecDeque<u8>,
    /// To the host.
    output: VecDeque<u8>,
}

impl Uart {
    /// A port with eight registers at `base` that interrupts on ISA line `irq` and times its receiver by `event`.
    #[must_use]
    pub fn new(base: u16, irq: u8, event: EventId) -> Self {
        Self {
            base,
            irq,
            event,
            ier: Ier::empty(),
            fcr: Fcr::empty(),
            lcr: 0,
            mcr: Mcr::OUT2,
            lsr: Lsr::THRE | Lsr::TEMT,
            msr: Msr::CONNECTED,
            scratch: 0,
            // 9600 baud
            divisor: 12,
            received: VecDeque::new(),
            thre_pending: false,
            timed_out: false,
            input: VecDeque::new(),
            output: VecDeque::new(),
        }
    }

    /// First port.
    #[must_use]
    pub fn base(&self) -> u16 {
        self.base
    }

    /// Queues bytes for the guest; returns how many there was room for.
    pub fn send(&mut self, data: &[u8], cx: &mut IoCtx) -> usize {
        let accepted = data.len().min(INPUT_LIMIT - self.input.len());
        self.input.extend(&data[..accepted]);
        self.arm_receiver(cx);
        accepted
    }

    /// Bytes from the host that the guest has not taken.
    #[must_use]
    pub fn input_backlog(&self) -> usize {
        self.input.len()
    }

    /// Takes what the guest sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output).into()
    }

    fn fifos(&self) -> bool {
        self.fcr.contains(Fcr::ENABLE)
    }

    fn trigger(&self) -> usize {
        if !self.fifos() {
            return 1;
        }
        match self.fcr.bits() >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    fn capacity(&self) -> usize {
        if self.fifos() { FIFO } else { 1 }
    }

    fn char_time(&self) -> VirtTime {
        u64::from(self.divisor.max(1)) * BITS_PER_CHAR * SECOND / BAUD_BASE
    }

    /// Whether the host's next byte can come in.
    fn may_receive(&self) -> bool {
        !self.input.is_empty() && self.received.len() < self.capacity() && !self.mcr.contains(Mcr::LOOP)
    }

    /// One event serves both purposes: the next byte while there is one, otherwise the timeout.
    fn arm_receiver(&mut self, cx: &mut IoCtx) {
        if cx.events.deadline(self.event).is_some() {
            return;
        }
        if self.may_receive() {
            cx.after(self.event, self.char_time());
        } else if self.waits_for_timeout() {
            cx.after(self.event, TIMEOUT_CHARS * self.char_time());
        }
    }

    fn waits_for_timeout(&self) -> bool {
        self.fifos() && !self.timed_out && !self.received.is_empty() && self.received.len() < self.trigger()
    }

    /// The receiver takes a byte off the line.
    fn receive(&mut self, byte: u8) {
        self.timed_out = false;
        if self.received.len() < self.capacity() {
            self.received.push_back(byte);
        } else {
            self.lsr |= Lsr::OVERRUN;
            if !self.fifos() {
                // Without FIFO the new byte replaces the one that was not read.
                self.received[0] = byte;
            }
        }
        self.lsr |= Lsr::DATA_READY;
    }

    /// The interrupt of the highest priority (PC16550D table 4).
    fn interrupt(&self) -> u8 {
        let errors = Lsr::OVERRUN | Lsr::PARITY | Lsr::FRAMING | Lsr::BREAK;
        if self.ier.contains(Ier::LINE) && self.lsr.intersects(errors) {
            IIR_LINE
        } else if self.ier.contains(Ier::DATA) && self.received.len() >= self.trigger() {
            IIR_DATA
        } else if self.ier.contains(Ier::DATA) && self.timed_out {
            IIR_TIMEOUT
        } else if self.ier.contains(Ier::TRANSMITTER) && self.thre_pending {
            IIR_TRANSMITTER
        } else if self.ier.contains(Ier::MODEM) && self.msr.intersects(Msr::DELTAS) {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    /// The PC's gate of the interrupt by OUT2 is not modelled: QEMU has none, and drivers set OUT2 anyway.
    fn drive_irq(&self, cx: &mut IoCtx) {
        cx.irq.set_isa(self.irq, self.interrupt() != IIR_NONE);
    }

    fn transmit(&mut self, byte: u8, cx: &mut IoCtx) {
        // The register was full for a moment: the interrupt line falls, so that it can rise again.
        self.thre_pending = false;
        self.drive_irq(cx);
        if self.mcr.contains(Mcr::LOOP) {
            self.receive(byte);
        } else {
            if self.output.len() >= OUTPUT_LIMIT {
                self.output.pop_front();
            }
            self.output.push_back(byte);
        }
        self.thre_pending = true;
    }

    fn read_data(&mut self, cx: &mut IoCtx) -> u8 {
        let byte = self.received.pop_front().unwrap_or(0);
        self.timed_out = false;
        if self.received.is_empty() {
            self.lsr.remove(Lsr::DATA_READY);
        }
        if !self.may_receive() {
            // The timeout counts from the last read.
            cx.events.cancel(self.event);
        }
        byte
    }

    fn read_iir(&mut self) -> u8 {
        let interrupt = self.interrupt();
        if interrupt == IIR_TRANSMITTER {
            self.thre_pending = false;
        }
        interrupt | if self.fifos() { IIR_FIFOS } else { 0 }
    }

    fn write_ier(&mut self, value: u8) {
        let old = std::mem::replace(&mut self.ier, Ier::from_bits_truncate(value));
        // Enabling the transmitter interrupt while it is empty raises it (drivers test for that).
        if (old ^ self.ier).contains(Ier::TRANSMITTER) {
            self.thre_pending = self.ier.contains(Ier::TRANSMITTER);
        }
    }

    fn write_fcr(&mut self, value: u8, cx: &mut IoCtx) {
        let new = Fcr::from_bits_truncate(value);
        let switched = (new ^ self.fcr).contains(Fcr::ENABLE);
        if switched || new.contains(Fcr::CLEAR_RECEIVE) {
            self.received.clear();
            self.lsr.remove(Lsr::DATA_READY);
            self.timed_out = false;
            cx.events.cancel(self.event);
        }
        if switched || new.contains(Fcr::CLEAR_TRANSMIT) {
            self.thre_pending = true;
        }
        self.fcr = if new.contains(Fcr::ENABLE) {
            new - (Fcr::CLEAR_RECEIVE | Fcr::CLEAR_TRANSMIT)
        } else {
            // The other bits can't be programmed without this one.
            Fcr::empty()
        };
    }

    fn write_mcr(&mut self, value: u8) {
        self.mcr = Mcr::from_bits_truncate(value);
        let lines = if self.mcr.contains(Mcr::LOOP) {
            [(Mcr::RTS, Msr::CTS), (Mcr::DTR, Msr::DSR), (Mcr::OUT1, Msr::RI), (Mcr::OUT2, Msr::DCD)]
                .into_iter()
                .filter(|(output, _)| self.mcr.contains(*output))
                .fold(Msr::empty(), |lines, (_, input)| lines | input)
        } else {
            Msr::CONNECTED
        };
        self.set_modem_lines(lines);
    }

    fn set_modem_lines(&mut self, lines: Msr) {
        let changed = (self.msr - Msr::DELTAS) ^ lines;
        let mut deltas = self.msr & Msr::DELTAS;
        deltas.set(Msr::DELTA_CTS, deltas.contains(Msr::DELTA_CTS) || changed.contains(Msr::CTS));
        deltas.set(Msr::DELTA_DSR, deltas.contains(Msr::DELTA_DSR) || changed.contains(Msr::DSR));
        deltas.set(Msr::DELTA_DCD, deltas.contains(Msr::DELTA_DCD) || changed.contains(Msr::DCD));
        let ring_fell = changed.contains(Msr::RI) && !lines.contains(Msr::RI);
        deltas.set(Msr::TRAILING_RI, deltas.contains(Msr::TRAILING_RI) || ring_fell);
        self.msr = lines | deltas;
    }

    fn latch_access(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }
}

impl PortIo for Uart {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        let value = match port.wrapping_sub(self.base) {
            REG_DATA if self.latch_access() => self.divisor as u8,
            REG_IER if self.latch_access() => (self.divisor >> 8) as u8,
            REG_DATA => self.read_data(cx),
            REG_IER => self.ier.bits(),
            REG_IIR_FCR => self.read_iir(),
            REG_LCR => self.lcr,
            REG_MCR => self.mcr.bits(),
            REG_LSR => {
                let status = self.lsr.bits();
                self.lsr.remove(Lsr::OVERRUN | Lsr::PARITY | Lsr::FRAMING | Lsr::BREAK);
                status
            }
            REG_MSR => {
                let status = self.msr.bits();
                self.msr.remove(Msr::DELTAS);
                status
            }
            REG_SCRATCH => self.scratch,
            _ => return 0xff,
        };
        self.drive_irq(cx);
        self.arm_receiver(cx);
        value
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        match port.wrapping_sub(self.base) {
            REG_DATA if self.latch_access() => {
                self.divisor = self.divisor & 0xff00 | u16::from(value);
            }
            REG_IER if self.latch_access() => {
                self.divisor = self.divisor & 0x00ff | u16::from(value) << 8;
            }
            REG_DATA => self.transmit(value, cx),
            REG_IER => self.write_ier(value),
            REG_IIR_FCR => self.write_fcr(value, cx),
            REG_LCR => self.lcr = value,
            REG_MCR => self.write_mcr(value),
            REG_SCRATCH => self.scratch = value,
            _ => {}
        }
        self.drive_irq(cx);
        self.arm_receiver(cx);
    }
}

impl Device for Uart {
    /// Registers return to power-on; what host and guest have already sent stays queued.
    fn reset(&mut self, cx: &mut IoCtx) {
        *self = Self {
            input: std::mem::take(&mut self.input),
            output: std::mem::take(&mut self.output),
            ..Self::new(self.base, self.irq, self.event)
        };
        cx.events.cancel(self.event);
        self.drive_irq(cx);
        self.arm_receiver(cx);
    }

    fn on_event(&mut self, _event: EventId, cx: &mut IoCtx) {
        if self.may_receive() {
            if let Some(byte) = self.input.pop_front() {
                self.receive(byte);
            }
        } else if self.waits_for_timeout() {
            self.timed_out = true;
        }
        self.drive_irq(cx);
        self.arm_receiver(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    const BASE: u16 = 0x3f8;
    const NOTHING: [u8; 0] = [];

    struct Rig {
        bench: Bench,
        uart: Uart,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig = Self { bench: Bench::new(), uart: Uart::new(BASE, 4, EventId::Serial0) };
            rig.uart.reset(&mut rig.bench.cx());
            rig
        }

        /// With FIFOs on and triggering at `trigger` (0 to 3).
        fn with_fifo(trigger: u8) -> Self {
            let mut rig = Self::new();
            rig.out(REG_IIR_FCR, trigger << 6 | 0x07);
            rig
        }

        fn out(&mut self, register: u16, value: u8) {
            self.uart.write_u8(BASE + register, value, &mut self.bench.cx());
        }

        fn inb(&mut self, register: u16) -> u8 {
            self.uart.read_u8(BASE + register, &mut self.bench.cx())
        }

        fn send(&mut self, data: &[u8]) -> usize {
            self.uart.send(data, &mut self.bench.cx())
        }

        /// Lets `n` character times pass.
        fn chars(&mut self, n: u64) {
            let until = self.bench.now + n * self.uart.char_time();
            self.bench.advance(&mut self.uart, until);
        }

        fn irq(&self) -> bool {
            self.bench.irq.isa() & 1 << 4 != 0
        }
    }

    #[test]
    fn conforms() {
        let ports: Vec<u16> = (BASE..BASE + 8).collect();
        conformance(Uart::new(BASE, 4, EventId::Serial0), &ports);
    }

    #[test]
    fn power_on_state() {
        let mut rig = Rig::new();
        assert_eq!(rig.inb(REG_LSR), 0x60);
        assert_eq!(rig.inb(REG_MSR), 0xb0);
        assert_eq!(rig.inb(REG_IIR_FCR), 0x01);
        assert_eq!(rig.inb(REG_IER), 0);
    }

    #[test]
    fn a_driver_finds_a_16550a() {
        let mut rig = Rig::new();
        rig.out(REG_IER, 0x00);
        assert_eq!(rig.inb(REG_IER) & 0x0f, 0);
        rig.out(REG_IER, 0xff);
        assert_eq!(rig.inb(REG_IER), 0x0f, "no sleep mode, no UART enable bit");
        rig.out(REG_IER, 0x00);
        rig.out(REG_MCR, 0x1a);
        assert_eq!(rig.inb(REG_MSR) & 0xf0, 0x90, "loopback of the modem lines");
        rig.out(REG_MCR, 0x08);
        rig.out(REG_SCRATCH, 0xa5);
        assert_eq!(rig.inb(REG_SCRATCH), 0xa5);
        rig.out(REG_IIR_FCR, 0x01);
        assert_eq!(rig.inb(REG_IIR_FCR) >> 6, 3, "working FIFOs");
        rig.out(REG_LCR, 0xbf);
        assert_ne!(rig.inb(REG_IIR_FCR), 0, "no enhanced feature register of a 16650");
        rig.out(REG_LCR, 0x00);
        rig.out(REG_IIR_FCR, 0x21);
        let plain = rig.inb(REG_IIR_FCR) >> 5;
        rig.out(REG_LCR, 0x80);
        rig.out(REG_IIR_FCR, 0x21);
        assert_eq!((plain, rig.inb(REG_IIR_FCR) >> 5), (6, 6), "no 64-byte FIFO of a 16750");
    }

    #[test]
    fn output_leaves_at_once_and_in_order() {
        let mut rig = Rig::new();
        for byte in b"boot" {
            assert_eq!(rig.inb(REG_LSR) & 0x60, 0x60);
            rig.out(REG_DATA, *byte);
        }
        assert_eq!(rig.uart.take_output(), b"boot");
        assert_eq!(rig.uart.take_output(), NOTHING);
    }

    #[test]
    fn divisor_latch_hides_data_and_ier() {
        let mut rig = Rig::new();
        rig.out(REG_LCR, 0x83);
        rig.out(REG_DATA, 0x34);
        rig.out(REG_IER, 0x12);
        assert_eq!((rig.inb(REG_DATA), rig.inb(REG_IER)), (0x34, 0x12));
        rig.out(REG_LCR, 0x03);
        assert_eq!(rig.inb(REG_IER), 0);
        assert_eq!(rig.uart.take_output(), NOTHING);
    }

    #[test]
    fn transmitter_interrupt_is_raised_by_enabling_and_cleared_by_iir() {
        let mut rig = Rig::new();
        rig.out(REG_IER, 0x02);
        assert!(rig.irq());
        assert_eq!(rig.inb(REG_IIR_FCR), 0x02);
        assert!(!rig.irq());
        assert_eq!(rig.inb(REG_IIR_FCR), 0x01);
        rig.out(REG_IER, 0x00);
        rig.out(REG_IER, 0x02);
        assert_eq!(rig.inb(REG_IIR_FCR), 0x02, "again after re-enabling");
    }

    #[test]
    fn each_byte_sent_makes_a_new_edge() {
        let mut rig = Rig::new();
        rig.out(REG_IER, 0x02);
        rig.bench.irq.take_edges();
        rig.out(REG_DATA, b'x');
        assert!(rig.irq());
        assert_eq!(rig.bench.irq.take_edges(), 1 << 4);
    }

    #[test]
    fn received_bytes_interrupt_at_the_trigger_level() {
        for (trigger, level) in [(0, 1), (1, 4), (2, 8), (3, 14)] {
            let mut rig = Rig::with_fifo(trigger);
            rig.out(REG_IER, 0x01);
            rig.send(&[b'a'; 16]);
            rig.chars(level - 1);
            assert!(!rig.irq(), "level {level}");
            rig.chars(1);
            assert!(rig.irq(), "level {level}");
            assert_eq!(rig.inb(REG_IIR_FCR), 0xc4);
        }
    }

    #[test]
    fn stragglers_time_out() {
        let mut rig = Rig::with_fifo(3);
        rig.out(REG_IER, 0x01);
        rig.send(b"ls");
        rig.chars(2);
        assert_eq!(rig.inb(REG_LSR) & 1, 1);
        rig.chars(3);
        assert_eq!(rig.inb(REG_IIR_FCR), 0xc1);
        rig.chars(1);
        assert!(rig.irq());
        assert_eq!(rig.inb(REG_IIR_FCR), 0xcc);
        assert_eq!(rig.inb(REG_DATA), b'l');
        assert!(!rig.irq());
        rig.chars(4);
        assert_eq!(rig.inb(REG_IIR_FCR), 0xcc);
        assert_eq!(rig.inb(REG_DATA), b's');
        assert_eq!(rig.inb(REG_LSR) & 1, 0);
    }

    #[test]
    fn a_long_paste_arrives_whole_however_slow_the_guest() {
        for fifo in [0x00, 0x01] {
            let mut rig = Rig::new();
            rig.out(REG_IIR_FCR, fifo);
            let text: Vec<u8> = (0..1000).map(|i| i as u8).collect();
            assert_eq!(rig.send(&text), 1000);
            let mut got = Vec::new();
            while got.len() < 1000 {
                rig.chars(40);
                let status = rig.inb(REG_LSR);
                assert_eq!(status & 0x03, 0x01, "data and no overrun");
                while rig.inb(REG_LSR) & 1 != 0 {
                    got.push(rig.inb(REG_DATA));
                }
            }
            assert_eq!(got, text);
        }
    }

    #[test]
    fn the_host_queue_is_bounded() {
        let mut rig = Rig::new();
        assert_eq!(rig.send(&vec![0; INPUT_LIMIT + 5]), INPUT_LIMIT);
        assert_eq!(rig.send(b"x"), 0);
        assert_eq!(rig.uart.input_backlog(), INPUT_LIMIT);
    }

    #[test]
    fn loopback_receives_what_is_sent_and_overruns() {
        let mut rig = Rig::new();
        rig.out(REG_MCR, 0x10);
        rig.out(REG_IER, 0x04);
        rig.out(REG_DATA, 0x11);
        assert_eq!(rig.inb(REG_LSR) & 0x03, 0x01);
        rig.out(REG_DATA, 0x22);
        assert_eq!(rig.inb(REG_IIR_FCR), 0x06);
        assert_eq!(rig.inb(REG_LSR) & 0x03, 0x03);
        assert!(!rig.irq());
        assert_eq!(rig.inb(REG_DATA), 0x22);
        assert_eq!(rig.uart.take_output(), NOTHING);
    }

    #[test]
    fn modem_status_shows_changes_until_read() {
        let mut rig = Rig::new();
        rig.out(REG_IER, 0x08);
        rig.out(REG_MCR, 0x14);
        assert!(rig.irq());
        assert_eq!(rig.inb(REG_IIR_FCR), 0x00);
        assert_eq!(rig.inb(REG_MSR), 0x4b);
        assert_eq!(rig.inb(REG_MSR), 0x40);
        rig.out(REG_MCR, 0x10);
        assert_eq!(rig.inb(REG_MSR), 0x04, "ring ended");
        assert!(!rig.irq());
    }

    #[test]
    fn receive_comes_before_transmit_in_priority() {
        let mut rig = Rig::with_fifo(0);
        rig.send(b"a");
        rig.chars(1);
        rig.out(REG_IER, 0x03);
        assert_eq!(rig.inb(REG_IIR_FCR), 0xc4);
        assert_eq!(rig.inb(REG_DATA), b'a');
        assert_eq!(rig.inb(REG_IIR_FCR), 0xc2);
    }

    #[test]
    fn clearing_the_fifo_drops_what_was_received() {
        let mut rig = Rig::with_fifo(0);
        rig.out(REG_IER, 0x01);
        rig.send(b"abc");
        rig.chars(3);
        rig.out(REG_IIR_FCR, 0x03);
        assert!(!rig.irq());
        assert_eq!(rig.inb(REG_LSR) & 1, 0);
    }
}
