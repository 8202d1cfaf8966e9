//! The pair of Intel 8237A DMA controllers, ports 00h-0Fh and C0h-DEh, with the page registers 80h-8Fh.
//! Spec: Intel 231466 (8237A), Intel 290550 (82371SB) 2.5.1.
//!
//! Transfers are driven by the devices through [`IsaDma`]. Memory-to-memory transfers, which PCs do not wire, and
//! the timing bits of the command register have no effect.

use crate::bus::{Device, IoCtx, IsaDma, PortIo};
use crate::mem::Memory;
use serde::{Deserialize, Serialize};

const COMMAND_DISABLE: u8 = 0x04;
const MODE_AUTOINIT: u8 = 0x10;
const MODE_DECREMENT: u8 = 0x20;
const MASK_SET: u8 = 0x04;
/// Page register (offset from 80h) of each channel; those not named here are plain storage.
const PAGE_OF: [usize; 8] = [0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa];

/// What a channel's mode register says about the direction (bits 3:2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    /// Counts and checks, moves nothing.
    Verify,
    ToMemory,
    FromMemory,
}

/// One of the eight channels. Counts are in units of the channel's width.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    /// Units left, less one.
    count: u16,
    mode: u8,
    masked: bool,
}

impl Channel {
    fn transfer(&self) -> Option<Transfer> {
        match self.mode >> 2 & 3 {
            0 => Some(Transfer::Verify),
            1 => Some(Transfer::ToMemory),
            2 => Some(Transfer::FromMemory),
            _ => None,
        }
    }

    /// How many units lie before the end of the count or of the 64 Ki unit page, and in one direction.
    fn run_length(&self) -> u32 {
        let left = u32::from(self.count) + 1;
        if self.mode & MODE_DECREMENT != 0 { 1 } else { left.min(0x1_0000 - u32::from(self.address)) }
    }

    /// Advances by `units`, at most [`run_length`](Self::run_length). Returns whether the count ended.
    fn advance(&mut self, units: u32) -> bool {
        self.address = if self.mode & MODE_DECREMENT != 0 {
            self.address.wrapping_sub(units as u16)
        } else {
            self.address.wrapping_add(units as u16)
        };
        let ended = units > u32::from(self.count);
        self.count = self.count.wrapping_sub(units as u16);
        if ended {
            if self.mode & MODE_AUTOINIT != 0 {
                self.address = self.base_address;
                self.count = self.base_count;
            } else {
                self.masked = true;
            }
        }
        ended
    }
}

/// One 8237A: four channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Controller {
    channels: [Channel; 4],
    command: u8,
    /// Terminal counts since the last read, one bit for each channel.
    terminal: u8,
    requests: u8,
    /// The next byte of an address or count is the high one.
    high_byte: bool,
}

impl Controller {
    fn new() -> Self {
        let channel = || Channel { masked: true, ..Channel::default() };
        Self {
            channels: [channel(), channel(), channel(), channel()],
            command: 0,
            terminal: 0,
            requests: 0,
            high_byte: false,
        }
    }

    fn master_clear(&mut self) {
        self.command = 0;
        self.terminal = 0;
        self.requests = 0;
        self.high_byte = false;
        self.set_masks(0x0f);
    }

    fn masks(&self) -> u8 {
        let bit = |n: usize| u8::from(self.channels[n].masked) << n;
        bit(0) | bit(1) | bit(2) | bit(3)
    }

    fn set_masks(&mut self, masks: u8) {
        for (n, channel) in self.channels.iter_mut().enumerate() {
            channel.masked = masks & 1 << n != 0;
        }
    }

    /// Toggles the byte pointer and tells whether this access is to the high byte.
    fn flip(&mut self) -> bool {
        self.high_byte = !self.high_byte;
        !self.high_byte
    }

    fn read(&mut self, register: u16) -> u8 {
        match register {
            0..=7 => {
                let high = self.flip();
                let channel = &self.channels[usize::from(register >> 1)];
                let value = if register & 1 == 0 { channel.address } else { channel.count };
                value.to_le_bytes()[usize::from(high)]
            }
            // Devices move data the moment they ask for it, so no hardware request is ever seen waiting.
            8 => std::mem::take(&mut self.terminal) | self.requests << 4,
            0x0f => self.masks() | 0xf0,
            // The temporary register belongs to memory-to-memory transfers.
            _ => 0,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        let selected = usize::from(value & 3);
        match register {
            0..=7 => self.write_channel(register, value),
            8 => self.command = value,
            9 => {
                let bit = 1 << selected;
                self.requests = self.requests & !bit | if value & 4 != 0 { bit } else { 0 };
            }
            0x0a => self.channels[selected].masked = value & MASK_SET != 0,
            0x0b => self.channels[selected].mode = value & 0xfc,
            0x0c => self.high_byte = false,
            0x0d => self.master_clear(),
            0x0e => self.set_masks(0),
            _ => self.set_masks(value),
        }
    }

    /// A byte of an address or count goes to the base and the current register.
    fn write_channel(&mut self, register: u16, value: u8) {
        let high = self.flip();
        let channel = &mut self.channels[usize::from(register >> 1)];
        let (base, current) = if register & 1 == 0 {
            (&mut channel.base_address, &mut channel.address)
        } else {
            (&mut channel.base_count, &mut channel.count)
        };
        let mut bytes = base.to_le_bytes();
        bytes[usize::from(high)] = value;
        *base = u16::from_le_bytes(bytes);
        *current = *base;
    }
}

/// Both controllers and the page registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dma {
    controllers: [Controller; 2],
    pages: [u8; 16],
}

impl Default for Dma {
    fn default() -> Self {
        Self::new()
    }
}

impl Dma {
    /// All channels masked.
    #[must_use]
    pub fn new() -> Self {
        Self { controllers: [Controller::new(), Controller::new()], pages: [0; 16] }
    }

    /// The last byte written to port 80h, where firmware reports its progress.
    #[must_use]
    pub fn post_code(&self) -> u8 {
        self.pages[0]
    }

    /// Bytes left until the terminal count of `channel` (0 to 7).
    #[must_use]
    pub fn bytes_left(&self, channel: u8) -> u32 {
        let channel = usize::from(channel & 7);
        let unit = if channel >= 4 { 2 } else { 1 };
        (u32::from(self.controllers[channel / 4].channels[channel % 4].count) + 1) * unit
    }

    /// Physical address of the next unit of `channel`. The 16-bit channels count words within 128 KiB.
    fn address(&self, channel: usize) -> u64 {
        let page = u64::from(self.pages[PAGE_OF[channel]]);
        let address = u64::from(self.controllers[channel / 4].channels[channel % 4].address);
        if channel >= 4 { (page & 0xfe) << 16 | address << 1 } else { page << 16 | address }
    }

    /// Moves up to `len` bytes in `direction`, piece by piece through `copy(address, range)`. Stops at terminal count.
    fn run(
        &mut self,
        channel: u8,
        len: usize,
        direction: Transfer,
        mut copy: impl FnMut(u64, std::ops::Range<usize>),
    ) -> (usize, bool) {
        let channel = usize::from(channel & 7);
        let unit = if channel >= 4 { 2 } else { 1 };
        let mut done = 0;
        while len - done >= unit {
            let address = self.address(channel);
            let controller = &mut self.controllers[channel / 4];
            let state = &mut controller.channels[channel % 4];
            let transfer = state.transfer();
            let moves = transfer == Some(direction);
            if state.masked
                || controller.command & COMMAND_DISABLE != 0
                || !(moves || transfer == Some(Transfer::Verify))
            {
                break;
            }
            let units = state.run_length().min(((len - done) / unit) as u32);
            let bytes = units as usize * unit;
            if moves {
                copy(address, done..done + bytes);
            }
            done += bytes;
            if state.advance(units) {
                controller.terminal |= 1 << (channel % 4);
                controller.requests &= !(1 << (channel % 4));
                return (done, true);
            }
        }
        (done, false)
    }
}

impl IsaDma for Dma {
    fn write_memory(&mut self, channel: u8, data: &[u8], mem: &mut Memory) -> (usize, bool) {
        self.run(channel, data.len(), Transfer::ToMemory, |address, range| {
            mem.dma_write(address, &data[range]);
        })
    }

    fn read_memory(&mut self, channel: u8, data: &mut [u8], mem: &mut Memory) -> (usize, bool) {
        self.run(channel, data.len(), Transfer::FromMemory, |address, range| mem.dma_read(address, &mut data[range]))
    }
}

impl PortIo for Dma {
    fn read_u8(&mut self, port: u16, _cx: &mut IoCtx) -> u8 {
        match port {
            0x00..=0x0f => self.controllers[0].read(port),
            0x80..=0x8f => self.pages[usize::from(port & 15)],
            0xc0..=0xdf => self.controllers[1].read(port >> 1 & 15),
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, _cx: &mut IoCtx) {
        match port {
            0x00..=0x0f => self.controllers[0].write(port, value),
            0x80..=0x8f => self.pages[usize::from(port & 15)] = value,
            0xc0..=0xdf => self.controllers[1].write(port >> 1 & 15, value),
            _ => {}
        }
    }
}

impl Device for Dma {
    fn reset(&mut self, _cx: &mut IoCtx) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    struct Rig {
        bench: Bench,
        dma: Dma,
    }

    impl Rig {
        fn new() -> Self {
            Self { bench: Bench::new(), dma: Dma::new() }
        }

        fn out(&mut self, port: u16, value: u8) {
            self.dma.write_u8(port, value, &mut self.bench.cx());
        }

        fn inb(&mut self, port: u16) -> u8 {
            self.dma.read_u8(port, &mut self.bench.cx())
        }

        /// Programs channel 2 as a floppy driver does.
        fn floppy(&mut self, mode: u8, page: u8, address: u16, count: u16) {
            self.out(0x0a, 0x06);
            self.out(0x0c, 0);
            self.out(0x0b, mode | 2);
            for (port, value) in [(0x04, address), (0x05, count)] {
                self.out(port, value as u8);
                self.out(port, (value >> 8) as u8);
            }
            self.out(0x81, page);
            self.out(0x0a, 0x02);
        }

        fn put(&mut self, channel: u8, data: &[u8]) -> (usize, bool) {
            self.dma.write_memory(channel, data, &mut self.bench.mem)
        }

        fn get(&mut self, channel: u8, len: usize) -> (Vec<u8>, usize, bool) {
            let mut data = vec![0; len];
            let (n, tc) = self.dma.read_memory(channel, &mut data, &mut self.bench.mem);
            (data, n, tc)
        }

        fn ram(&self, address: u64, len: usize) -> Vec<u8> {
            let mut data = vec![0; len];
            self.bench.mem.dma_read(address, &mut data);
            data
        }
    }

    #[test]
    fn conforms() {
        let ports: Vec<u16> = (0..16).chain(0x80..0x90).chain(0xc0..0xe0).collect();
        conformance(Dma::new(), &ports);
    }

    #[test]
    fn a_device_writes_memory_until_terminal_count() {
        let mut rig = Rig::new();
        rig.floppy(0x44, 0x03, 0x1000, 511);
        assert_eq!(rig.put(2, &[0x5a; 300]), (300, false));
        assert_eq!(rig.dma.bytes_left(2), 212);
        assert_eq!(rig.put(2, &[0xa5; 300]), (212, true));
        assert_eq!(rig.ram(0x31000 + 299, 2), [0x5a, 0xa5]);
        assert_eq!(rig.ram(0x31000 + 511, 2), [0xa5, 0]);
        assert_eq!(rig.put(2, &[1]), (0, false), "masked after terminal count");
        assert_eq!(rig.inb(0x08) & 0x0f, 0x04);
        assert_eq!(rig.inb(0x08) & 0x0f, 0, "cleared by reading");
    }

    #[test]
    fn a_device_reads_memory() {
        let mut rig = Rig::new();
        rig.bench.mem.dma_write(0x20000, b"sector");
        rig.floppy(0x48, 0x02, 0, 5);
        assert_eq!(rig.get(2, 10), (b"sector\0\0\0\0".to_vec(), 6, true));
    }

    #[test]
    fn masked_or_disabled_channels_move_nothing() {
        let mut rig = Rig::new();
        rig.floppy(0x44, 0, 0x8000, 9);
        rig.out(0x0a, 0x06);
        assert_eq!(rig.put(2, &[1; 10]), (0, false));
        rig.out(0x0e, 0);
        rig.out(0x08, 0x04);
        assert_eq!(rig.put(2, &[1; 10]), (0, false));
        rig.out(0x08, 0x00);
        assert_eq!(rig.get(2, 10).1, 0, "wrong direction");
        assert_eq!(rig.put(2, &[1; 10]), (10, true));
    }

    #[test]
    fn addresses_wrap_within_the_page() {
        let mut rig = Rig::new();
        rig.floppy(0x44, 0x05, 0xfffe, 3);
        assert_eq!(rig.put(2, &[1, 2, 3, 4]), (4, true));
        assert_eq!(rig.ram(0x5fffe, 3), [1, 2, 0]);
        assert_eq!(rig.ram(0x50000, 2), [3, 4]);
    }

    #[test]
    fn addresses_can_go_down() {
        let mut rig = Rig::new();
        rig.floppy(0x64, 0x05, 0x0003, 3);
        assert_eq!(rig.put(2, &[1, 2, 3, 4]), (4, true));
        assert_eq!(rig.ram(0x50000, 4), [4, 3, 2, 1]);
    }

    #[test]
    fn autoinit_starts_over() {
        let mut rig = Rig::new();
        rig.floppy(0x54, 0x05, 0x0100, 3);
        assert_eq!(rig.put(2, &[1, 2, 3, 4, 5]), (4, true));
        assert_eq!(rig.put(2, &[9]), (1, false));
        assert_eq!(rig.ram(0x50100, 2), [9, 2]);
    }

    #[test]
    fn verify_counts_without_touching_memory() {
        let mut rig = Rig::new();
        rig.floppy(0x40, 0x05, 0, 3);
        assert_eq!(rig.put(2, &[1, 2, 3, 4]), (4, true));
        assert_eq!(rig.ram(0x50000, 4), [0; 4]);
    }

    #[test]
    fn word_channels_count_words() {
        let mut rig = Rig::new();
        rig.out(0xd8, 0);
        rig.out(0xd6, 0x45);
        for (port, value) in [(0xc4, 0x00), (0xc4, 0x40), (0xc6, 0x01), (0xc6, 0x00)] {
            rig.out(port, value);
        }
        rig.out(0x8b, 0x03);
        rig.out(0xd4, 0x01);
        assert_eq!(rig.put(5, &[1, 2, 3, 4, 5, 6]), (4, true));
        assert_eq!(rig.ram(0x28000, 5), [1, 2, 3, 4, 0]);
        assert_eq!(rig.inb(0xd0) & 0x0f, 0x02);
    }

    #[test]
    fn registers_read_back_through_the_flip_flop() {
        let mut rig = Rig::new();
        rig.floppy(0x44, 0x7f, 0x1234, 0x5678);
        rig.out(0x0c, 0);
        assert_eq!((rig.inb(0x04), rig.inb(0x04)), (0x34, 0x12));
        assert_eq!((rig.inb(0x05), rig.inb(0x05)), (0x78, 0x56));
        assert_eq!(rig.inb(0x81), 0x7f);
        assert_eq!(rig.inb(0x0f) & 0x0f, 0x0b);
        rig.out(0x0f, 0x05);
        assert_eq!(rig.inb(0x0f) & 0x0f, 0x05);
        rig.out(0x0d, 0);
        assert_eq!(rig.inb(0x0f) & 0x0f, 0x0f);
    }

    #[test]
    fn spare_page_registers_are_storage() {
        let mut rig = Rig::new();
        for port in [0x80, 0x84, 0x85, 0x86, 0x88, 0x8c, 0x8d, 0x8e] {
            rig.out(port, port as u8);
            assert_eq!(rig.inb(port), port as u8);
        }
        assert_eq!(rig.dma.post_code(), 0x80);
    }
}
