//! The DP8390 network interface controller with the buffer memory of the cards: registers, remote DMA and the
//! transmitter. Reception is in `receive.rs`.
//! Spec: National Semiconductor DP8390D/NS32490D (July 1995), AN-937 for the loopback modes.

use super::regs::{
    Command, DataConfig, Interrupts, ReceiveConfig, ReceiveStatus, TransmitConfig, TransmitStatus, remote,
};
use super::{Counters, MAX_FRAME, MIN_FRAME, QUEUE, crc};
use crate::bus::IoCtx;
use crate::time::{EventId, VirtTime};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Buffer memory of the cards, at 4000h of the controller's address space.
const RAM_BYTES: usize = 16 << 10;
/// Where the controller's address space repeats: A15 is not decoded.
const ADDRESSES: u16 = 0x7fff;
const RAM_BASE: u16 = 0x4000;
/// Virtual time of a transmission, whatever its length. The wire's 67 µs to 1.2 ms would be the bottleneck of
/// every transfer; none at all (as in QEMU) would show drivers a transmitter that is never busy. It is short
/// enough that a guest is still executing when the interrupt comes, so that no host sleeps for it.
pub const TRANSMIT_NS: VirtTime = 1_000;
/// Tally counters stop at C0h (DP8390D, "Network Tally Counters").
const TALLY_MAX: u8 = 0xc0;

/// What the remote DMA channel is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RemoteDma {
    #[default]
    Idle,
    Read,
    Write,
}

/// A packet that passed the filter and waits for room in the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) status: ReceiveStatus,
    /// Destination to end of data, without the frame check sequence.
    pub(super) data: Vec<u8>,
}

/// Controller, PROM and buffer memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dp8390 {
    pub(super) command: Command,
    pub(super) isr: Interrupts,
    imr: Interrupts,
    pub(super) dcr: DataConfig,
    pub(super) tcr: TransmitConfig,
    pub(super) rcr: ReceiveConfig,
    tsr: TransmitStatus,
    pub(super) rsr: ReceiveStatus,
    /// PSTART, PSTOP, BNRY, CURR: the receive ring, in pages of 256 bytes.
    pub(super) page_start: u8,
    pub(super) page_stop: u8,
    pub(super) boundary: u8,
    pub(super) current: u8,
    /// TPSR and TBCR: the packet to transmit.
    transmit_page: u8,
    transmit_count: u16,
    /// CRDA (written as RSAR) and RBCR.
    remote_address: u16,
    remote_count: u16,
    /// CLDA.
    pub(super) local_address: u16,
    /// Page 2 only: next packet pointers and address counter, which the controller keeps for its own use.
    remote_next: u8,
    pub(super) local_next: u8,
    address_counter: u16,
    /// PAR0-5 and MAR0-7.
    pub(super) physical: [u8; 6],
    pub(super) multicast: [u8; 8],
    /// CNTR0-2: frame alignment errors, CRC errors, missed packets.
    tally: [u8; 3],
    /// The receive half of the FIFO, filled in loopback, and the next location to read.
    fifo: [u8; 8],
    fifo_at: u8,
    dma: RemoteDma,
    /// BNRY after the send-packet command that is going on.
    send_next: Option<u8>,
    /// What the data port's latch holds.
    latch: u16,
    prom: [u8; 32],
    #[serde(deserialize_with = "crate::bus::exactly::<_, RAM_BYTES>")]
    ram: Vec<u8>,
    /// The transmission is due and waits for room in the outgoing queue.
    pub(super) deferring: bool,
    /// Packets came into the ring after the guest was told of others and before it acknowledged: it may have missed them.
    pub(super) overlooked: bool,
    pub(super) incoming: VecDeque<Waiting>,
    pub(super) outgoing: VecDeque<Vec<u8>>,
    pub(super) link: bool,
    pub(super) counters: Counters,
}

impl Dp8390 {
    /// A controller in reset state with the address `mac` in its PROM.
    pub fn new(mac: [u8; 6]) -> Self {
        let mut prom = [0; 32];
        // "WW" marks a 16-bit slot, "BB" in the upper half an 8-bit slot (RTL8029AS 6.2.2).
        for (half, mark) in [(0, b'W'), (16, b'B')] {
            prom[half..half + 6].copy_from_slice(&mac);
            prom[half + 14..half + 16].fill(mark);
        }
        Self {
            command: Command::RESET,
            isr: Interrupts::RESET,
            imr: Interrupts::empty(),
            dcr: DataConfig::empty(),
            tcr: TransmitConfig::empty(),
            rcr: ReceiveConfig::empty(),
            tsr: TransmitStatus::empty(),
            rsr: ReceiveStatus::empty(),
            page_start: 0,
            page_stop: 0,
            boundary: 0,
            current: 0,
            transmit_page: 0,
            transmit_count: 0,
            remote_address: 0,
            remote_count: 0,
            local_address: 0,
            remote_next: 0,
            local_next: 0,
            address_counter: 0,
            physical: [0; 6],
            multicast: [0; 8],
            tally: [0; 3],
            fifo: [0; 8],
            fifo_at: 0,
            dma: RemoteDma::Idle,
            send_next: None,
            latch: 0xffff,
            prom,
            ram: vec![0; RAM_BYTES],
            deferring: false,
            overlooked: false,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            link: true,
            counters: Counters::default(),
        }
    }

    /// The RESET pin: what DP8390D, "Reset" lists. Packets on their way in are forgotten.
    pub fn reset(&mut self, cx: &mut IoCtx) {
        self.command = Command::RESET;
        self.isr |= Interrupts::RESET;
        self.imr = Interrupts::empty();
        self.dcr -= DataConfig::LONG_ADDRESS;
        self.tcr -= TransmitConfig::LOOPBACK;
        self.dma = RemoteDma::Idle;
        self.send_next = None;
        self.deferring = false;
        self.overlooked = false;
        self.counters.to_guest.dropped += self.incoming.len() as u64;
        self.incoming.clear();
        cx.events.cancel(EventId::Network);
        cx.events.cancel(EventId::NetworkReceive);
    }

    /// The address in the PROM.
    pub fn mac(&self) -> [u8; 6] {
        let p = &self.prom;
        [p[0], p[1], p[2], p[3], p[4], p[5]]
    }

    /// Whether the interrupt pin is asserted.
    pub fn interrupt(&self) -> bool {
        self.isr.intersects(self.imr - Interrupts::RESET)
    }

    /// Whether packets are taken from the wire.
    pub(super) fn receiving(&self) -> bool {
        !self.command.contains(Command::STOP) && self.tcr.loopback() == 0
    }

    pub(super) fn count_tally(&mut self, n: usize) {
        self.tally[n] = (self.tally[n] + 1).min(TALLY_MAX);
        if self.tally[n] & 0x80 != 0 {
            self.isr |= Interrupts::COUNTERS;
        }
    }

    // --- memory ---

    fn memory(&self, address: u16) -> u8 {
        let address = address & ADDRESSES;
        match address.checked_sub(RAM_BASE) {
            Some(at) => self.ram[usize::from(at)],
            // The PROM's address lines begin at A1: each byte shows in both halves of a word.
            None => self.prom[usize::from(address >> 1 & 0x1f)],
        }
    }

    fn set_memory(&mut self, address: u16, value: u8) {
        if let Some(at) = (address & ADDRESSES).checked_sub(RAM_BASE) {
            self.ram[usize::from(at)] = value;
        }
    }

    /// Where the controller's own DMA finds byte `address` of a packet.
    pub(super) fn local(&self, address: u16) -> u16 {
        address ^ u16::from(self.dcr.contains(DataConfig::WORD | DataConfig::HIGH_FIRST))
    }

    /// Stores packet bytes that do not leave their page.
    pub(super) fn store(&mut self, address: u16, bytes: &[u8]) {
        let at = usize::from((address & ADDRESSES).wrapping_sub(RAM_BASE));
        let swapped = self.local(0) != 0;
        match self.ram.get_mut(at..at + bytes.len()) {
            Some(ram) if !swapped => ram.copy_from_slice(bytes),
            _ => {
                for (i, &byte) in bytes.iter().enumerate() {
                    let place = self.local(address.wrapping_add(i as u16));
                    self.set_memory(place, byte);
                }
            }
        }
    }

    // --- registers ---

    /// Reads register `offset` (0 to 15) of the selected page 0 to 2.
    pub fn read(&mut self, offset: u16) -> u8 {
        match (self.command.page(), offset) {
            (_, 0) => self.command.bits(),
            (0, 1) => self.local_address as u8,
            (0, 2) => (self.local_address >> 8) as u8,
            (0, 3) => self.boundary,
            (0, 4) => self.tsr.bits(),
            // NCR: nothing ever collides.
            (0, 5) => 0,
            (0, 6) => {
                let value = self.fifo[usize::from(self.fifo_at & 7)];
                self.fifo_at = (self.fifo_at + 1) & 7;
                value
            }
            (0, 7) => self.isr.bits(),
            (0, 8) => self.remote_address as u8,
            (0, 9) => (self.remote_address >> 8) as u8,
            (0, 0x0c) => self.rsr.bits(),
            (0, 0x0d..=0x0f) => std::mem::take(&mut self.tally[usize::from(offset - 0x0d)]),
            (1, 1..=6) => self.physical[usize::from(offset - 1)],
            (1, 7) => self.current,
            (1, _) => self.multicast[usize::from(offset & 7)],
            (2, 1) => self.page_start,
            (2, 2) => self.page_stop,
            (2, 3) => self.remote_next,
            (2, 4) => self.transmit_page,
            (2, 5) => self.local_next,
            (2, 6) => (self.address_counter >> 8) as u8,
            (2, 7) => self.address_counter as u8,
            // Bits that do not exist read as ones (RTL8029AS 5.1.2.1).
            (2, 0x0c) => self.rcr.bits() | 0xc0,
            (2, 0x0d) => self.tcr.bits() | 0xe0,
            (2, 0x0e) => self.dcr.bits() | 0x80,
            (2, 0x0f) => self.imr.bits() | 0x80,
            _ => 0xff,
        }
    }

    /// Writes register `offset` (0 to 15) of the selected page 0 to 2.
    pub fn write(&mut self, offset: u16, value: u8, cx: &mut IoCtx) {
        let low = |word: u16| word & 0xff00 | u16::from(value);
        let high = |word: u16| word & 0x00ff | u16::from(value) << 8;
        match (self.command.page(), offset) {
            (_, 0) => self.write_command(value, cx),
            (0, 1) => self.page_start = value,
            (0, 2) => self.page_stop = value,
            (0, 3) => {
                self.boundary = value;
                self.ring_freed(cx);
            }
            (0, 4) => self.transmit_page = value,
            (0, 5) => self.transmit_count = low(self.transmit_count),
            (0, 6) => self.transmit_count = high(self.transmit_count),
            (0, 7) => {
                self.isr -= Interrupts::from_bits_truncate(value) - Interrupts::RESET;
                if value & Interrupts::RECEIVED.bits() != 0 {
                    self.admit(cx);
                }
            }
            (0, 8) => self.remote_address = low(self.remote_address),
            (0, 9) => self.remote_address = high(self.remote_address),
            (0, 0x0a) => self.remote_count = low(self.remote_count),
            (0, 0x0b) => self.remote_count = high(self.remote_count),
            (0, 0x0c) => {
                self.rcr = ReceiveConfig::from_bits_truncate(value);
                self.rsr.set(ReceiveStatus::DISABLED, self.rcr.contains(ReceiveConfig::MONITOR));
            }
            (0, 0x0d) => {
                self.tcr = TransmitConfig::from_bits_truncate(value);
                self.admit(cx);
            }
            (0, 0x0e) => self.dcr = DataConfig::from_bits_truncate(value),
            (0, 0x0f) => self.imr = Interrupts::from_bits_truncate(value) - Interrupts::RESET,
            (1, 1..=6) => self.physical[usize::from(offset - 1)] = value,
            (1, 7) => self.current = value,
            (1, _) => self.multicast[usize::from(offset & 7)] = value,
            (2, 1) => self.local_address = low(self.local_address),
            (2, 2) => self.local_address = high(self.local_address),
            (2, 3) => self.remote_next = value,
            (2, 5) => self.local_next = value,
            (2, 6) => self.address_counter = high(self.address_counter),
            (2, 7) => self.address_counter = low(self.address_counter),
            _ => {}
        }
    }

    fn write_command(&mut self, value: u8, cx: &mut IoCtx) {
        let new = Command::from_bits_retain(value);
        let old = self.command;
        // Neither STP nor STA: the state stays. TXP cannot be taken back.
        let state = if new.contains(Command::STOP) {
            Command::STOP
        } else if new.contains(Command::START) {
            Command::START
        } else {
            old & (Command::STOP | Command::START)
        };
        let dma = if new.remote() == remote::NONE { old & Command::REMOTE } else { new & Command::REMOTE };
        self.command = new & Command::PAGE | state | dma | old & Command::TRANSMIT;
        if state == Command::STOP {
            self.stop();
        } else if old.contains(Command::STOP) {
            self.isr -= Interrupts::RESET;
            self.admit(cx);
        }
        match new.remote() {
            remote::NONE => {}
            remote::READ => self.begin_remote(RemoteDma::Read, cx),
            remote::WRITE => self.begin_remote(RemoteDma::Write, cx),
            remote::SEND => self.send_packet(cx),
            _ => {
                self.dma = RemoteDma::Idle;
                self.send_next = None;
            }
        }
        if new.contains(Command::TRANSMIT) && !old.contains(Command::TRANSMIT) && state == Command::START {
            self.command |= Command::TRANSMIT;
            self.tsr = TransmitStatus::empty();
            cx.after(EventId::Network, TRANSMIT_NS);
        }
    }

    /// STP: a packet that is going out still goes out; the reset state comes behind it.
    fn stop(&mut self) {
        if self.deferring {
            self.deferring = false;
            self.command -= Command::TRANSMIT;
            self.counters.from_guest.dropped += 1;
        }
        if !self.command.contains(Command::TRANSMIT) {
            self.isr |= Interrupts::RESET;
        }
    }

    // --- remote DMA ---

    fn begin_remote(&mut self, dma: RemoteDma, cx: &mut IoCtx) {
        self.dma = dma;
        self.send_next = None;
        if self.remote_count == 0 {
            self.end_remote(cx);
        }
    }

    /// Send packet: a remote read of the packet at BNRY, with the count from its header; at its end BNRY moves
    /// on to the next one (DP8390D, "Remote DMA").
    fn send_packet(&mut self, cx: &mut IoCtx) {
        if !self.dcr.contains(DataConfig::AUTO_REMOTE) {
            self.dma = RemoteDma::Idle;
            return;
        }
        let start = u16::from(self.boundary) << 8;
        let header: [u8; 4] = std::array::from_fn(|i| self.memory(self.local(start | i as u16)));
        self.remote_address = start;
        self.remote_count = u16::from_le_bytes([header[2], header[3]]);
        self.begin_remote(RemoteDma::Read, cx);
        if self.dma == RemoteDma::Read {
            self.send_next = Some(header[1]);
        }
    }

    fn end_remote(&mut self, cx: &mut IoCtx) {
        self.dma = RemoteDma::Idle;
        self.isr |= Interrupts::REMOTE_DONE;
        if let Some(next) = self.send_next.take() {
            self.boundary = next;
            self.remote_next = next;
            self.ring_freed(cx);
        }
    }

    fn advance_remote(&mut self, bytes: u16, cx: &mut IoCtx) {
        let before = (self.remote_address >> 8) as u8;
        self.remote_address = self.remote_address.wrapping_add(bytes);
        let after = (self.remote_address >> 8) as u8;
        // The end of the ring leads to its start.
        if after != before && after == self.page_stop {
            self.remote_address = u16::from(self.page_start) << 8 | self.remote_address & 0xff;
        }
        self.remote_count = self.remote_count.saturating_sub(bytes);
        if self.remote_count == 0 {
            self.end_remote(cx);
        }
    }

    /// Reads `size` (1, 2, 4) bytes at the data port. In word mode every access moves whole words, of which a
    /// byte access gets the low half. Without a remote read the latch shows what it showed last.
    pub fn data_read(&mut self, size: u32, cx: &mut IoCtx) -> u32 {
        let word = self.dcr.contains(DataConfig::WORD);
        let (units, width) = if word { (size.div_ceil(2), 2) } else { (size, 1) };
        (0..units).fold(0, |value, n| {
            if self.dma == RemoteDma::Read {
                let at = self.remote_address;
                self.latch = if word {
                    u16::from_le_bytes([self.memory(at & !1), self.memory(at | 1)])
                } else {
                    self.memory(at).into()
                };
                self.advance_remote(width, cx);
            }
            let unit = if word { u32::from(self.latch) } else { u32::from(self.latch) & 0xff };
            value | unit << (8 * u32::from(width) * n)
        })
    }

    /// Writes `size` (1, 2, 4) bytes at the data port; without a remote write they are lost.
    pub fn data_write(&mut self, size: u32, value: u32, cx: &mut IoCtx) {
        let word = self.dcr.contains(DataConfig::WORD);
        let (units, width) = if word { (size.div_ceil(2), 2) } else { (size, 1) };
        for n in 0..units {
            if self.dma != RemoteDma::Write {
                return;
            }
            let at = self.remote_address;
            let [low, high] = ((value >> (8 * u32::from(width) * n)) as u16).to_le_bytes();
            if word {
                self.set_memory(at & !1, low);
                self.set_memory(at | 1, high);
            } else {
                self.set_memory(at, low);
            }
            self.advance_remote(width, cx);
        }
    }

    /// How many accesses of `size` bytes at the data port only move data of one page of buffer memory, and where it
    /// lies. The last access of the channel is not among them: it ends the remote DMA.
    fn plain_accesses(&self, size: u8, count: u32) -> (u32, std::ops::Range<usize>) {
        let (size, at) = (usize::from(size), usize::from(self.remote_address & ADDRESSES));
        let fits = if self.dcr.contains(DataConfig::WORD) { size != 1 && at.is_multiple_of(2) } else { size == 1 };
        if !fits || at < usize::from(RAM_BASE) {
            return (0, 0..0);
        }
        let page = 0x100 - (at & 0xff);
        let bytes = page.min(usize::from(self.remote_count).saturating_sub(1)).min(count as usize * size) / size * size;
        let first = at - usize::from(RAM_BASE);
        ((bytes / size) as u32, first..first + bytes)
    }

    /// What `count` accesses do to the channel.
    fn advance_plainly(&mut self, bytes: usize) {
        self.remote_address = self.remote_address.wrapping_add(bytes as u16);
        if self.remote_address == u16::from(self.page_stop) << 8 {
            self.remote_address = u16::from(self.page_start) << 8;
        }
        self.remote_count -= bytes as u16;
    }

    /// Several [`data_read`](Self::data_read)s at once, if they only move data.
    pub fn read_many(&mut self, size: u8, count: u32, to: impl FnOnce(&[u8])) -> u32 {
        let (accesses, place) = self.plain_accesses(size, count);
        if accesses == 0 || self.dma != RemoteDma::Read {
            return 0;
        }
        let data = &self.ram[place];
        to(data);
        self.latch = match data {
            [.., low, high] if self.dcr.contains(DataConfig::WORD) => u16::from_le_bytes([*low, *high]),
            [.., byte] => (*byte).into(),
            [] => self.latch,
        };
        let bytes = data.len();
        self.advance_plainly(bytes);
        accesses
    }

    /// Several [`data_write`](Self::data_write)s at once, if they only move data.
    pub fn write_many(&mut self, size: u8, count: u32, from: impl FnOnce(&mut [u8])) -> u32 {
        let (accesses, place) = self.plain_accesses(size, count);
        if accesses == 0 || self.dma != RemoteDma::Write {
            return 0;
        }
        let bytes = place.len();
        from(&mut self.ram[place]);
        self.advance_plainly(bytes);
        accesses
    }

    // --- transmitter ---

    /// Bytes `0, step, 2 step, …` of the transmit buffer behind `first`, `count` of them.
    fn transmit_buffer(&self, first: u16, step: u16, count: u16) -> Vec<u8> {
        let start = (u16::from(self.transmit_page) << 8).wrapping_add(first);
        let at = usize::from((start & ADDRESSES).wrapping_sub(RAM_BASE));
        match self.ram.get(at..at + usize::from(count)) {
            Some(bytes) if step == 1 && self.local(0) == 0 => bytes.to_vec(),
            _ => (0..count).map(|i| self.memory(self.local(start.wrapping_add(i.wrapping_mul(step))))).collect(),
        }
    }

    /// The time of a transmission is over, or there is room again for one that waited.
    pub fn transmitted(&mut self) {
        if !self.command.contains(Command::TRANSMIT) {
            return;
        }
        self.tsr = match self.tcr.loopback() {
            0 => {
                if self.link && self.outgoing.len() >= QUEUE {
                    self.deferring = true;
                    return;
                }
                let data = self.transmit_buffer(0, 1, self.transmit_count.min(MAX_FRAME as u16 + 8));
                let lost = if self.link { TransmitStatus::empty() } else { TransmitStatus::CARRIER_LOST };
                self.emit(data);
                TransmitStatus::TRANSMITTED | lost
            }
            mode => self.loop_back(mode),
        };
        self.deferring = false;
        self.command -= Command::TRANSMIT;
        self.isr |= Interrupts::TRANSMITTED;
        self.local_address = (u16::from(self.transmit_page) << 8).wrapping_add(self.transmit_count);
        if self.command.contains(Command::STOP) {
            self.isr |= Interrupts::RESET;
        }
    }

    /// Puts a packet on the wire. The host gets it without its frame check sequence; one that software appended
    /// and that is wrong, and what is no Ethernet frame, no station would take.
    fn emit(&mut self, mut data: Vec<u8>) {
        if self.tcr.contains(TransmitConfig::NO_CRC) {
            let body = data.len().saturating_sub(4);
            if crc::frame_check(&data[..body]) != data[body..] {
                data.clear();
            }
            data.truncate(body);
        }
        let count = &mut self.counters.from_guest;
        if self.link && (MIN_FRAME..=MAX_FRAME).contains(&data.len()) && self.outgoing.len() < QUEUE {
            count.frames += 1;
            count.bytes += data.len() as u64;
            self.outgoing.push_back(data);
        } else {
            count.dropped += 1;
        }
    }

    /// Loopback modes 1 to 3 (DP8390D, "Loopback Diagnostics"; AN-937): the packet comes back through the
    /// receiver, which checks address and CRC and keeps only the end of it, in the FIFO.
    fn loop_back(&mut self, mode: u8) -> TransmitStatus {
        let own_crc = self.tcr.contains(TransmitConfig::NO_CRC);
        // Loopback has 8 bits: of a word-wide buffer one half is sent, and the count counts both.
        let sent = match self.dcr.contains(DataConfig::WORD) {
            true => self.transmit_buffer(1, 2, self.transmit_count / 2),
            false => self.transmit_buffer(0, 1, self.transmit_count),
        };
        if mode == 3 {
            self.emit(sent.clone());
        }
        let body = sent.len().saturating_sub(4);
        let mut received = sent;
        let good = if own_crc {
            crc::frame_check(&received[..body]) == received[body..]
        } else {
            // One CRC generator serves both directions: when it generates it cannot check.
            let check = crc::frame_check(&received);
            received.extend(check);
            false
        };
        self.fill_fifo(&received);
        let (accepted, group) = self.matches(&received);
        self.rsr = if accepted && !good { ReceiveStatus::CRC_ERROR } else { ReceiveStatus::RECEIVED };
        if accepted {
            self.rsr.set(ReceiveStatus::GROUP, group);
            if !good {
                self.count_tally(1);
                self.isr |= Interrupts::RECEIVE_ERROR;
            }
        }
        let blocked = match mode {
            1 => TransmitStatus::CARRIER_LOST | TransmitStatus::HEARTBEAT,
            2 => TransmitStatus::HEARTBEAT,
            _ => TransmitStatus::empty(),
        };
        TransmitStatus::TRANSMITTED | blocked
    }

    /// The received bytes go round the eight locations; behind them the count, its high byte twice.
    fn fill_fifo(&mut self, received: &[u8]) {
        let [low, high] = (received.len() as u16).to_le_bytes();
        let tail = received.len().saturating_sub(8);
        for (i, &byte) in received.iter().enumerate().skip(tail) {
            self.fifo[i & 7] = byte;
        }
        for (i, byte) in [low, high, high].into_iter().enumerate() {
            self.fifo[(received.len() + i) & 7] = byte;
        }
        self.fifo_at = 0;
    }
}
