//! Intel 82093AA I/O APIC, memory-mapped at FEC00000h. Spec: Intel 290566.
//!
//! ISA line n arrives at pin n, except that line 0 (the timer) arrives at pin 2. The polarity bit is kept
//! and has no effect: the lines carry "asserted", not volts.

use super::apic_bus::{ApicMessage, DeliveryMode, Destination};
use crate::bus::{Device, IoCtx, MmioIo};
use serde::{Deserialize, Serialize};

/// Physical address of the register window.
pub const DEFAULT_BASE: u64 = 0xfec0_0000;
/// Bytes of the window.
pub const WINDOW_LEN: u64 = 0x1000;

const PINS: usize = 24;
const VERSION: u32 = 0x0017_0011;
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const REG_ID: u8 = 0;
const REG_VERSION: u8 = 1;
const REG_ARBITRATION: u8 = 2;
const REG_TABLE: u8 = 0x10;

bitflags::bitflags! {
    /// Low half of a redirection entry (290566, 3.2.4).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    struct Entry: u32 {
        /// INTVEC.
        const VECTOR = 0xff;
        /// DELMOD.
        const MODE = 7 << 8;
        /// DESTMOD: logical.
        const LOGICAL = 1 << 11;
        /// INTPOL: active low.
        const ACTIVE_LOW = 1 << 13;
        /// Remote IRR: a local APIC has the (level) interrupt in hand. Read-only.
        const REMOTE_IRR = 1 << 14;
        /// Trigger mode: level.
        const LEVEL = 1 << 15;
        /// Masked.
        const MASKED = 1 << 16;
    }
}

/// A redirection table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Redirection {
    low: Entry,
    destination: u8,
}

impl Redirection {
    fn message(self) -> ApicMessage {
        let bits = self.low.bits();
        ApicMessage {
            destination: if self.low.contains(Entry::LOGICAL) {
                Destination::Logical(self.destination)
            } else {
                Destination::Physical(self.destination)
            },
            mode: DeliveryMode::from_bits(bits >> 8),
            vector: bits as u8,
            level: self.low.contains(Entry::LEVEL),
        }
    }
}

/// The I/O APIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoApic {
    id: u8,
    select: u8,
    table: [Redirection; PINS],
    /// Asserted pins.
    levels: u32,
    messages: Vec<ApicMessage>,
}

impl Default for IoApic {
    fn default() -> Self {
        Self {
            id: 0,
            select: 0,
            table: [Redirection { low: Entry::MASKED, destination: 0 }; PINS],
            levels: 0,
            messages: Vec::new(),
        }
    }
}

impl IoApic {
    /// All pins masked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pins on which ISA lines arrive: line 0 at pin 2; line 2 is the 8259 cascade and goes nowhere.
    #[must_use]
    pub fn pins(isa: u16) -> u32 {
        u32::from(isa & !5) | u32::from(isa & 1) << 2
    }

    /// New levels of the pins, and pins that had a rising edge since the last call (also one that is over).
    /// Collect the messages with [`take_messages`](Self::take_messages).
    pub fn update(&mut self, levels: u32, edges: u32) {
        let rising = edges | (levels & !self.levels);
        self.levels = levels;
        for pin in 0..PINS {
            let low = self.table[pin].low;
            if low.contains(Entry::LEVEL) {
                self.service_level(pin);
            } else if rising & 1 << pin != 0 && !low.contains(Entry::MASKED) {
                // "Edges on a masked pin are ignored" (290566, 3.2.4, bit 16).
                self.messages.push(self.table[pin].message());
            }
        }
    }

    /// A local APIC finished level-triggered `vector`: the pins that raised it may interrupt again.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for pin in 0..PINS {
            let low = &mut self.table[pin].low;
            if low.bits() as u8 == vector && low.contains(Entry::LEVEL | Entry::REMOTE_IRR) {
                low.remove(Entry::REMOTE_IRR);
                self.service_level(pin);
            }
        }
    }

    /// Messages for the local APICs since the last call.
    pub fn take_messages(&mut self) -> Vec<ApicMessage> {
        std::mem::take(&mut self.messages)
    }

    fn service_level(&mut self, pin: usize) {
        let entry = &mut self.table[pin];
        let idle = !entry.low.intersects(Entry::MASKED | Entry::REMOTE_IRR);
        if entry.low.contains(Entry::LEVEL) && idle && self.levels & 1 << pin != 0 {
            entry.low.insert(Entry::REMOTE_IRR);
            self.messages.push(entry.message());
        }
    }

    fn read_register(&self) -> u32 {
        match self.select {
            REG_ID | REG_ARBITRATION => u32::from(self.id) << 24,
            REG_VERSION => VERSION,
            _ => match self.entry_index() {
                Some((pin, false)) => self.table[pin].low.bits(),
                Some((pin, true)) => u32::from(self.table[pin].destination) << 24,
                None => 0,
            },
        }
    }

    /// Pin and half (true = high) that the selector names.
    fn entry_index(&self) -> Option<(usize, bool)> {
        let index = usize::from(self.select.checked_sub(REG_TABLE)?);
        (index < 2 * PINS).then_some((index / 2, index & 1 != 0))
    }

    fn write_register(&mut self, value: u32) {
        if self.select == REG_ID {
            self.id = (value >> 24) as u8 & 0xf;
            return;
        }
        match self.entry_index() {
            Some((pin, true)) => self.table[pin].destination = (value >> 24) as u8,
            Some((pin, false)) => self.write_entry(pin, value),
            None => {}
        }
    }

    fn write_entry(&mut self, pin: usize, value: u32) {
        let entry = &mut self.table[pin];
        let held = entry.low & Entry::REMOTE_IRR;
        entry.low = Entry::from_bits_truncate(value) - Entry::REMOTE_IRR;
        // Switching to edge mode clears remote IRR: that is how guests free a stuck pin.
        if entry.low.contains(Entry::LEVEL) {
            entry.low |= held;
        }
        self.service_level(pin);
    }
}

impl MmioIo for IoApic {
    fn mmio_read(&mut self, offset: u64, size: u8, _cx: &mut IoCtx) -> u64 {
        let value = match offset & 0xfc {
            IOREGSEL => u32::from(self.select),
            IOWIN => self.read_register(),
            _ => 0,
        };
        let value = u64::from(value) >> (8 * (offset & 3));
        match size {
            1 => value & 0xff,
            2 => value & 0xffff,
            _ => value,
        }
    }

    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, _cx: &mut IoCtx) {
        match offset & 0xff {
            IOREGSEL => self.select = value as u8,
            IOWIN if size >= 4 => self.write_register(value as u32),
            _ => {}
        }
    }
}

impl Device for IoApic {
    fn reset(&mut self, _cx: &mut IoCtx) {
        let levels = self.levels;
        *self = Self::new();
        self.levels = levels;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Bench;

    fn set(apic: &mut IoApic, bench: &mut Bench, register: u8, value: u32) {
        apic.mmio_write(IOREGSEL, 4, u64::from(register), &mut bench.cx());
        apic.mmio_write(IOWIN, 4, u64::from(value), &mut bench.cx());
    }

    fn get(apic: &mut IoApic, bench: &mut Bench, register: u8) -> u32 {
        apic.mmio_write(IOREGSEL, 1, u64::from(register), &mut bench.cx());
        apic.mmio_read(IOWIN, 4, &mut bench.cx()) as u32
    }

    #[test]
    fn identity_and_reset_state() {
        let (mut apic, mut bench) = (IoApic::new(), Bench::new());
        assert_eq!(get(&mut apic, &mut bench, 1), 0x0017_0011);
        set(&mut apic, &mut bench, 0, 0x0200_0000);
        assert_eq!(get(&mut apic, &mut bench, 0), 0x0200_0000);
        for pin in 0..24 {
            assert_eq!(get(&mut apic, &mut bench, 0x10 + 2 * pin), 0x1_0000);
        }
        assert_eq!(get(&mut apic, &mut bench, 0x40), 0);
    }

    #[test]
    fn the_timer_line_arrives_at_pin_2() {
        assert_eq!(IoApic::pins(0b1_0000_0111), 0b1_0000_0110);
        assert_eq!(IoApic::pins(0b100), 0);
    }

    #[test]
    fn an_edge_is_one_message_and_is_lost_while_masked() {
        let (mut apic, mut bench) = (IoApic::new(), Bench::new());
        apic.update(2, 0);
        apic.update(0, 0);
        set(&mut apic, &mut bench, 0x13, 0x0100_0000);
        set(&mut apic, &mut bench, 0x12, 0x0931); // logical, lowest priority
        assert!(apic.take_messages().is_empty());
        apic.update(2, 0);
        apic.update(2, 0);
        let expected = ApicMessage {
            destination: Destination::Logical(1),
            mode: DeliveryMode::LowestPriority,
            vector: 0x31,
            level: false,
        };
        assert_eq!(apic.take_messages(), [expected]);
        // A pulse that is over already.
        apic.update(0, 2);
        assert_eq!(apic.take_messages(), [expected]);
    }

    #[test]
    fn a_level_repeats_only_after_eoi() {
        let (mut apic, mut bench) = (IoApic::new(), Bench::new());
        set(&mut apic, &mut bench, 0x10 + 22, 0xa051); // pin 11: level, active low, fixed
        apic.update(1 << 11, 0);
        apic.update(1 << 11, 0);
        assert_eq!(apic.take_messages().len(), 1);
        assert_eq!(get(&mut apic, &mut bench, 0x10 + 22), 0xe051);
        apic.end_of_interrupt(0x50);
        assert!(apic.take_messages().is_empty());
        apic.end_of_interrupt(0x51);
        assert_eq!(apic.take_messages().len(), 1, "still asserted");
        apic.update(0, 0);
        apic.end_of_interrupt(0x51);
        assert!(apic.take_messages().is_empty());
        assert_eq!(get(&mut apic, &mut bench, 0x10 + 22), 0xa051);
    }

    #[test]
    fn unmasking_an_asserted_level_pin_delivers() {
        let (mut apic, mut bench) = (IoApic::new(), Bench::new());
        apic.update(1 << 9, 0);
        set(&mut apic, &mut bench, 0x10 + 18, 0x8041);
        assert_eq!(apic.take_messages().len(), 1);
        set(&mut apic, &mut bench, 0x10 + 18, 0x1_0041);
        assert_eq!(get(&mut apic, &mut bench, 0x10 + 18), 0x1_0041);
    }

    #[test]
    fn random_traffic_is_survived_and_the_state_round_trips() {
        let (mut apic, mut bench) = (IoApic::new(), Bench::new());
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let (at, size) = (seed >> 20 & 0xfff, [1, 2, 4, 8][(seed >> 4 & 3) as usize]);
            match seed & 3 {
                0 => drop(apic.mmio_read(at, size, &mut bench.cx())),
                1 => apic.update((seed >> 32) as u32, 0),
                2 => apic.end_of_interrupt((seed >> 32) as u8),
                _ => apic.mmio_write(at & 0x10, size, seed >> 32, &mut bench.cx()),
            }
            apic.take_messages();
        }
        let saved = serde_json::to_string(&apic).expect("serialises");
        let restored: IoApic = serde_json::from_str(&saved).expect("deserialises");
        assert_eq!(apic, restored);
        apic.reset(&mut bench.cx());
    }
}
