//! The pair of Intel 8259A interrupt controllers, ports 20h-21h, A0h-A1h, with the edge/level control
//! registers of the PIIX3 at 4D0h-4D1h. Spec: Intel 231468 (8259A), Intel 290550 (82371SB) 2.5.6.

use crate::bus::{Device, IoCtx, PortIo};
use serde::{Deserialize, Serialize};

/// Input of the first controller that the second one drives.
const CASCADE: u8 = 2;
/// Lines that the PIIX3 allows to be level triggered (not timer, keyboard, cascade, RTC and FPU).
const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];
/// Input that an 8259A names when the request vanished before the acknowledge.
const SPURIOUS: u8 = 7;

const ICW1: u8 = 0x10;
const ICW1_NEEDS_ICW4: u8 = 0x01;
const ICW1_SINGLE: u8 = 0x02;
const ICW4_AUTO_EOI: u8 = 0x02;
const ICW4_FULLY_NESTED: u8 = 0x10;
const OCW3: u8 = 0x08;
const OCW3_READ_ISR: u8 = 0x01;
const OCW3_READ_SELECT: u8 = 0x02;
const OCW3_POLL: u8 = 0x04;
const OCW3_SPECIAL_MASK: u8 = 0x20;
const OCW3_SPECIAL_MASK_SELECT: u8 = 0x40;

/// Which word of the initialisation sequence the data port expects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    /// None: the data port is the mask register.
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// Interrupt request register.
    irr: u8,
    /// In-service register.
    isr: u8,
    /// Interrupt mask register.
    imr: u8,
    /// Edge/level control: 1 is level.
    elcr: u8,
    /// Input levels at the last update.
    lines: u8,
    /// Vector of input 0.
    base: u8,
    /// The input with the highest priority.
    top: u8,
    expect: Expect,
    needs_icw4: bool,
    single: bool,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    fully_nested: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
}

impl Chip {
    /// Place of the highest-priority bit of `set` in priority order (0 is highest).
    fn priority(&self, set: u8) -> Option<u8> {
        let rotated = set.rotate_right(u32::from(self.top));
        (rotated != 0).then(|| rotated.trailing_zeros() as u8)
    }

    fn input_at(&self, priority: u8) -> u8 {
        (priority + self.top) & 7
    }

    /// The input that interrupts now, if any. `master` tells that input 2 carries another controller.
    fn pending(&self, master: bool) -> Option<u8> {
        let request = self.priority(self.irr & !self.imr)?;
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.fully_nested && master {
            in_service &= !(1 << CASCADE);
        }
        match self.priority(in_service) {
            Some(current) if current <= request => None,
            _ => Some(self.input_at(request)),
        }
    }

    /// Takes input levels and the rising edges since the last call. A latched edge stays until acknowledged.
    fn update(&mut self, levels: u8, edges: u8) {
        self.lines = levels;
        self.irr = (self.irr & !self.elcr) | (edges & !self.elcr) | (levels & self.elcr);
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.top = (input + 1) & 7;
            }
        } else {
            self.isr |= bit;
        }
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
    }

    fn initialise(&mut self, icw1: u8) {
        // ICW1 bit 3 (level triggering of all inputs) has no function on this board: the ELCR replaced it.
        *self = Self {
            irr: self.irr & self.elcr,
            elcr: self.elcr,
            lines: self.lines,
            expect: Expect::Icw2,
            needs_icw4: icw1 & ICW1_NEEDS_ICW4 != 0,
            single: icw1 & ICW1_SINGLE != 0,
            ..Self::default()
        };
    }

    fn after_icw3(&self) -> Expect {
        if self.needs_icw4 { Expect::Icw4 } else { Expect::Mask }
    }

    fn write_data(&mut self, value: u8) {
        self.expect = match self.expect {
            Expect::Mask => {
                self.imr = value;
                Expect::Mask
            }
            Expect::Icw2 => {
                self.base = value & 0xf8;
                if self.single { self.after_icw3() } else { Expect::Icw3 }
            }
            // The cascade is wired; its address is not programmable.
            Expect::Icw3 => self.after_icw3(),
            Expect::Icw4 => {
                self.fully_nested = value & ICW4_FULLY_NESTED != 0;
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                Expect::Mask
            }
        };
    }

    fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialise(value);
        } else if value & OCW3 != 0 {
            self.ocw3(value);
        } else {
            self.ocw2(value);
        }
    }

    fn ocw3(&mut self, value: u8) {
        if value & OCW3_POLL != 0 {
            self.poll = true;
        }
        if value & OCW3_READ_SELECT != 0 {
            self.read_isr = value & OCW3_READ_ISR != 0;
        }
        if value & OCW3_SPECIAL_MASK_SELECT != 0 {
            self.special_mask = value & OCW3_SPECIAL_MASK != 0;
        }
    }

    /// End of interrupt and rotation (231468 figure 8, OCW2).
    fn ocw2(&mut self, value: u8) {
        let input = value & 7;
        match value >> 5 {
            0 => self.rotate_on_auto_eoi = false,
            4 => self.rotate_on_auto_eoi = true,
            1 => drop(self.end_highest()),
            5 => {
                if let Some(ended) = self.end_highest() {
                    self.top = (ended + 1) & 7;
                }
            }
            3 => self.isr &= !(1 << input),
            6 => self.top = (input + 1) & 7,
            7 => {
                self.isr &= !(1 << input);
                self.top = (input + 1) & 7;
            }
            _ => {}
        }
    }

    /// Non-specific EOI. In special mask mode it leaves masked in-service bits alone (231468, "End of Interrupt").
    fn end_highest(&mut self) -> Option<u8> {
        let hidden = if self.special_mask { self.imr } else { 0 };
        let ended = self.input_at(self.priority(self.isr & !hidden)?);
        self.isr &= !(1 << ended);
        Some(ended)
    }

    fn read_command(&mut self, master: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            return match self.pending(master) {
                Some(input) => {
                    self.acknowledge(input);
                    0x80 | input
                }
                None => 0,
            };
        }
        if self.read_isr { self.isr } else { self.irr }
    }

    fn write_elcr(&mut self, value: u8) {
        let became_edge = self.elcr & !value;
        self.elcr = value;
        self.irr &= !became_edge;
        self.update(self.lines, 0);
    }
}

/// Both controllers, the second on input 2 of the first. The board calls [`update`](Self::update) whenever a
/// line changed, and asks [`intr`](Self::intr) after that and after every access to these ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pic {
    chips: [Chip; 2],
    /// The second controller's INT output as the first one last saw it.
    slave_int: bool,
}

impl Pic {
    /// Both controllers as after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The 16 ISA lines: their levels and the rising edges since the last call.
    pub fn update(&mut self, levels: u16, edges: u16) {
        // No device can drive line 2: the cascade uses it.
        let not_cascade = !(1 << CASCADE);
        self.chips[0].update(levels as u8 & not_cascade, edges as u8 & not_cascade);
        self.chips[1].update((levels >> 8) as u8, (edges >> 8) as u8);
        self.cascade();
    }

    /// The INTR output to the processor.
    #[must_use]
    pub fn intr(&self) -> bool {
        self.chips[0].pending(true).is_some()
    }

    /// The interrupt acknowledge cycle: returns the vector.
    pub fn acknowledge(&mut self) -> u8 {
        let [master, slave] = &mut self.chips;
        let vector = match master.pending(true) {
            Some(CASCADE) => {
                master.acknowledge(CASCADE);
                let input = slave.pending(false);
                if let Some(input) = input {
                    slave.acknowledge(input);
                }
                // With automatic EOI the next request may follow without a gap: it must be a new edge.
                self.slave_int = false;
                slave.base + input.unwrap_or(SPURIOUS)
            }
            Some(input) => {
                master.acknowledge(input);
                master.base + input
            }
            None => master.base + SPURIOUS,
        };
        self.cascade();
        vector
    }

    /// Carries the second controller's INT to the first one, as an edge.
    fn cascade(&mut self) {
        let int = self.chips[1].pending(false).is_some();
        if int && !self.slave_int {
            self.chips[0].irr |= 1 << CASCADE;
        }
        self.slave_int = int;
    }
}

impl PortIo for Pic {
    fn read_u8(&mut self, port: u16, _cx: &mut IoCtx) -> u8 {
        let value = match port {
            0x20 => self.chips[0].read_command(true),
            0xa0 => self.chips[1].read_command(false),
            0x21 | 0xa1 => {
                let chip = &mut self.chips[usize::from(port == 0xa1)];
                if chip.poll { chip.read_command(port == 0x21) } else { chip.imr }
            }
            0x4d0 => self.chips[0].elcr,
            0x4d1 => self.chips[1].elcr,
            _ => 0xff,
        };
        self.cascade();
        value
    }

    fn write_u8(&mut self, port: u16, value: u8, _cx: &mut IoCtx) {
        match port {
            0x20 => self.chips[0].write_command(value),
            0xa0 => self.chips[1].write_command(value),
            0x21 => self.chips[0].write_data(value),
            0xa1 => self.chips[1].write_data(value),
            0x4d0 => self.chips[0].write_elcr(value & ELCR_WRITABLE[0]),
            0x4d1 => self.chips[1].write_elcr(value & ELCR_WRITABLE[1]),
            _ => {}
        }
        if matches!(port, 0x20) && value & ICW1 != 0 {
            // The first controller forgot its edges; a request still standing on the cascade is a new one.
            self.slave_int = false;
        }
        self.cascade();
    }
}

impl Device for Pic {
    fn reset(&mut self, _cx: &mut IoCtx) {
        *self =
            Self { chips: [0, 1].map(|n| Chip { lines: self.chips[n].lines, ..Chip::default() }), slave_int: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    struct Rig {
        bench: Bench,
        pic: Pic,
        levels: u16,
    }

    impl Rig {
        /// Both controllers initialised as a PC operating system does: vectors 20h and 28h, nothing masked.
        fn new() -> Self {
            Self::with_icw4(0x01)
        }

        fn with_icw4(icw4: u8) -> Self {
            let mut rig = Self { bench: Bench::new(), pic: Pic::new(), levels: 0 };
            for (port, words) in [(0x20, [0x11, 0x20, 0x04, icw4]), (0xa0, [0x11, 0x28, 0x02, icw4])] {
                rig.out(port, words[0]);
                for w in &words[1..] {
                    rig.out(port + 1, *w);
                }
                rig.out(port + 1, 0);
            }
            rig
        }

        fn out(&mut self, port: u16, value: u8) {
            self.pic.write_u8(port, value, &mut self.bench.cx());
        }

        fn inb(&mut self, port: u16) -> u8 {
            self.pic.read_u8(port, &mut self.bench.cx())
        }

        fn raise(&mut self, irq: u8) {
            let bit = 1 << irq;
            let edges = bit & !self.levels;
            self.levels |= bit;
            self.pic.update(self.levels, edges);
        }

        fn lower(&mut self, irq: u8) {
            self.levels &= !(1 << irq);
            self.pic.update(self.levels, 0);
        }

        fn pulse(&mut self, irq: u8) {
            self.raise(irq);
            self.lower(irq);
        }
    }

    #[test]
    fn conforms() {
        conformance(Pic::new(), &[0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1]);
    }

    #[test]
    fn initialisation_sets_vectors_and_clears_the_mask() {
        let mut rig = Rig::new();
        assert_eq!((rig.inb(0x21), rig.inb(0xa1)), (0, 0));
        rig.raise(1);
        assert!(rig.pic.intr());
        assert_eq!(rig.pic.acknowledge(), 0x21);
        assert!(!rig.pic.intr());
    }

    #[test]
    fn mask_register_reads_back_and_holds_requests() {
        let mut rig = Rig::new();
        rig.out(0x21, 0x02);
        rig.raise(1);
        assert!(!rig.pic.intr());
        assert_eq!(rig.inb(0x21), 0x02);
        assert_eq!(rig.inb(0x20), 0x02);
        rig.out(0x21, 0);
        assert!(rig.pic.intr());
    }

    #[test]
    fn an_edge_is_kept_after_the_line_fell() {
        let mut rig = Rig::new();
        rig.pulse(0);
        assert!(rig.pic.intr());
        assert_eq!(rig.pic.acknowledge(), 0x20);
        rig.out(0x20, 0x20);
        assert!(!rig.pic.intr());
    }

    #[test]
    fn a_line_that_stays_high_interrupts_once_in_edge_mode() {
        let mut rig = Rig::new();
        rig.raise(4);
        assert_eq!(rig.pic.acknowledge(), 0x24);
        rig.out(0x20, 0x20);
        rig.pic.update(rig.levels, 0);
        assert!(!rig.pic.intr());
    }

    #[test]
    fn a_level_line_interrupts_again_until_it_falls() {
        let mut rig = Rig::new();
        rig.out(0x4d1, 0x08);
        rig.raise(11);
        for _ in 0..2 {
            assert_eq!(rig.pic.acknowledge(), 0x2b);
            assert!(!rig.pic.intr());
            rig.out(0xa0, 0x20);
            rig.out(0x20, 0x20);
            assert!(rig.pic.intr());
        }
        assert_eq!(rig.pic.acknowledge(), 0x2b);
        rig.lower(11);
        rig.out(0xa0, 0x20);
        rig.out(0x20, 0x20);
        assert!(!rig.pic.intr());
    }

    #[test]
    fn elcr_keeps_system_lines_edge_triggered() {
        let mut rig = Rig::new();
        rig.out(0x4d0, 0xff);
        rig.out(0x4d1, 0xff);
        assert_eq!((rig.inb(0x4d0), rig.inb(0x4d1)), (0xf8, 0xde));
    }

    #[test]
    fn higher_priority_preempts_and_lower_waits() {
        let mut rig = Rig::new();
        rig.pulse(3);
        assert_eq!(rig.pic.acknowledge(), 0x23);
        rig.pulse(5);
        assert!(!rig.pic.intr());
        rig.pulse(1);
        assert_eq!(rig.pic.acknowledge(), 0x21);
        rig.out(0x20, 0x0b);
        assert_eq!(rig.inb(0x20), 0x0a);
        rig.out(0x20, 0x20);
        assert_eq!(rig.inb(0x20), 0x08, "EOI clears the highest in-service bit");
        rig.out(0x20, 0x20);
        assert_eq!(rig.pic.acknowledge(), 0x25);
    }

    #[test]
    fn specific_eoi_clears_the_named_bit() {
        let mut rig = Rig::new();
        rig.pulse(3);
        rig.pic.acknowledge();
        rig.pulse(1);
        rig.pic.acknowledge();
        rig.out(0x20, 0x63);
        rig.out(0x20, 0x0b);
        assert_eq!(rig.inb(0x20), 0x02);
    }

    #[test]
    fn slave_interrupts_arrive_through_input_2() {
        let mut rig = Rig::new();
        rig.pulse(12);
        assert_eq!(rig.inb(0x20), 0x04);
        assert_eq!(rig.pic.acknowledge(), 0x2c);
        for port in [0x20, 0xa0] {
            rig.out(port, 0x0b);
        }
        assert_eq!((rig.inb(0x20), rig.inb(0xa0)), (0x04, 0x10));
        rig.pulse(13);
        rig.out(0x20, 0x20);
        assert!(!rig.pic.intr(), "the slave still serves 12");
        rig.out(0xa0, 0x20);
        assert_eq!(rig.pic.acknowledge(), 0x2d);
    }

    #[test]
    fn automatic_eoi_leaves_nothing_in_service() {
        let mut rig = Rig::with_icw4(0x03);
        rig.pulse(3);
        rig.pulse(9);
        rig.pulse(10);
        let vectors: Vec<u8> = (0..3).map(|_| rig.pic.acknowledge()).collect();
        assert_eq!(vectors, [0x29, 0x2a, 0x23]);
        assert!(!rig.pic.intr());
        rig.out(0x20, 0x0b);
        assert_eq!(rig.inb(0x20), 0);
    }

    #[test]
    fn rotation_in_automatic_eoi_mode_shares_fairly() {
        let mut rig = Rig::with_icw4(0x03);
        rig.out(0x20, 0x80);
        rig.pulse(0);
        assert_eq!(rig.pic.acknowledge(), 0x20);
        rig.pulse(0);
        rig.pulse(7);
        assert_eq!(rig.pic.acknowledge(), 0x27, "0 is now last");
        rig.out(0x20, 0x00);
        assert_eq!(rig.pic.acknowledge(), 0x20);
    }

    #[test]
    fn rotate_on_eoi_makes_the_served_input_last() {
        let mut rig = Rig::new();
        rig.pulse(3);
        rig.pic.acknowledge();
        rig.out(0x20, 0xa0);
        rig.pulse(3);
        rig.pulse(4);
        assert_eq!(rig.pic.acknowledge(), 0x24);
    }

    #[test]
    fn set_priority_and_rotate_on_specific_eoi() {
        let mut rig = Rig::new();
        rig.out(0x20, 0xc4);
        rig.pulse(4);
        rig.pulse(5);
        assert_eq!(rig.pic.acknowledge(), 0x25, "5 is on top");
        rig.out(0x20, 0xe5);
        rig.pulse(5);
        rig.pulse(6);
        rig.out(0x20, 0x20);
        assert_eq!(rig.pic.acknowledge(), 0x26);
    }

    #[test]
    fn special_mask_mode_lets_lower_inputs_through() {
        let mut rig = Rig::new();
        rig.pulse(2 + 1);
        rig.pic.acknowledge();
        rig.pulse(6);
        assert!(!rig.pic.intr());
        rig.out(0x21, 0x08);
        rig.out(0x20, 0x68);
        assert_eq!(rig.pic.acknowledge(), 0x26);
        rig.out(0x20, 0x20);
        rig.out(0x20, 0x0b);
        assert_eq!(rig.inb(0x20), 0x08, "a masked bit survives a plain EOI");
        rig.out(0x20, 0x48);
        rig.out(0x20, 0x20);
        assert_eq!(rig.inb(0x20), 0);
    }

    #[test]
    fn special_fully_nested_mode_lets_the_slave_nest() {
        for (icw4, nests) in [(0x01, false), (0x11, true)] {
            let mut rig = Rig::with_icw4(icw4);
            rig.pulse(12);
            rig.pic.acknowledge();
            rig.pulse(8);
            assert_eq!(rig.pic.intr(), nests);
        }
    }

    #[test]
    fn poll_acknowledges_and_names_the_input() {
        let mut rig = Rig::new();
        rig.out(0x20, 0x0c);
        assert_eq!(rig.inb(0x20), 0);
        rig.pulse(6);
        rig.out(0x20, 0x0c);
        assert_eq!(rig.inb(0x20), 0x86);
        rig.out(0x20, 0x0b);
        assert_eq!(rig.inb(0x20), 0x40);
    }

    #[test]
    fn a_request_that_vanishes_is_spurious_7() {
        let mut rig = Rig::new();
        rig.out(0x4d0, 0x20);
        rig.raise(5);
        rig.lower(5);
        assert_eq!(rig.pic.acknowledge(), 0x27);
        rig.out(0x20, 0x0b);
        assert_eq!(rig.inb(0x20), 0, "a spurious interrupt is not in service");
    }

    #[test]
    fn a_slave_request_that_vanishes_is_spurious_15() {
        let mut rig = Rig::new();
        rig.pulse(14);
        rig.out(0xa1, 0x40);
        assert_eq!(rig.pic.acknowledge(), 0x2f);
        for port in [0x20, 0xa0] {
            rig.out(port, 0x0b);
        }
        assert_eq!((rig.inb(0x20), rig.inb(0xa0)), (0x04, 0));
    }

    #[test]
    fn initialisation_forgets_latched_edges() {
        let mut rig = Rig::new();
        rig.pulse(4);
        rig.out(0x20, 0x11);
        assert_eq!(rig.inb(0x20), 0);
        assert!(!rig.pic.intr());
    }

    #[test]
    fn single_mode_skips_icw3() {
        let mut rig = Rig::new();
        for (port, v) in [(0x20, 0x13), (0x21, 0x40), (0x21, 0x01), (0x21, 0xfe)] {
            rig.out(port, v);
        }
        assert_eq!(rig.inb(0x21), 0xfe);
        rig.pulse(0);
        assert_eq!(rig.pic.acknowledge(), 0x40);
    }
}
