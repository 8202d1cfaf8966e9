//! Intel 8254 programmable interval timer, ports 40h-43h, and the system control port 61h that gates its
//! channel 2 for the speaker. Spec: Intel 231164 (8254), Intel 290550 (82371SB) 2.5.5.1 (port 61h).
//!
//! The chip's clock is a tick counter derived from virtual time. Each channel remembers the tick at which its
//! counting element was loaded and computes count and output from it, so nothing accumulates.

use crate::bus::{Device, IoCtx, PortIo};
use crate::time::{EventId, Hz, VirtTime};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// Input clock: a third of the NTSC colour subcarrier.
pub const PIT_HZ: Hz = Hz(1_193_182);
const IRQ_TIMER: u8 = 0;
/// Ticks between two refresh requests (channel 1 as every PC BIOS programs it), which port 61h bit 4 shows.
const REFRESH_TICKS: u64 = 18;
const READ_BACK: u8 = 3;

bitflags! {
    /// Port 61h, NMI status and control.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct SystemControl: u8 {
        /// Gate of timer channel 2.
        const GATE2 = 1 << 0;
        /// Speaker data: the output of channel 2 reaches the speaker.
        const SPEAKER = 1 << 1;
        /// SERR# does not raise an NMI.
        const SERR_OFF = 1 << 2;
        /// IOCHK# does not raise an NMI.
        const IOCHK_OFF = 1 << 3;
        /// Toggles with every memory refresh.
        const REFRESH = 1 << 4;
        /// Output of timer channel 2.
        const OUT2 = 1 << 5;
    }
}

bitflags! {
    /// The status byte that the read-back command latches (231164, figure 12).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Status: u8 {
        /// The last count has not reached the counting element.
        const NULL_COUNT = 1 << 6;
        /// Level of the output pin.
        const OUTPUT = 1 << 7;
    }
}

/// Which bytes of the counter the ports access.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    #[default]
    Both,
}

/// What the counting element does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Run {
    /// No count was written since the control word, or half of one.
    #[default]
    Stopped,
    /// Waits for a rising gate (modes 1 and 5).
    Armed,
    /// The gate holds it after so many ticks.
    Held(u64),
    /// Loaded at this tick.
    Since(u64),
}

/// One of the three counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    mode: u8,
    bcd: bool,
    access: Access,
    /// Ticks to count: 1 to 65536, or to 10000 in BCD.
    count: u32,
    /// A count that takes effect at this tick (end of the current period or half period).
    next: Option<(u32, u64)>,
    run: Run,
    gate: bool,
    /// First byte of a two-byte count.
    low: Option<u8>,
    /// The next read of a two-byte count gives the high byte.
    high_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// Ticks per period in modes 2 and 3, where a count of 1 is illegal.
    fn period(&self) -> u64 {
        u64::from(self.count.max(2))
    }

    fn periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Ticks since the counting element was loaded.
    fn elapsed(&self, tick: u64) -> Option<u64> {
        match self.run {
            Run::Stopped | Run::Armed => None,
            Run::Held(elapsed) => Some(elapsed),
            Run::Since(start) => Some(tick.saturating_sub(start)),
        }
    }

    /// Moves a pending count into force once its tick has come.
    fn settle(&mut self, tick: u64) {
        if let Some((count, at)) = self.next
            && tick >= at
        {
            self.next = None;
            self.count = count;
            self.run = Run::Since(at);
        }
    }

    fn control(&mut self, value: u8) {
        *self = Self {
            mode: match value >> 1 & 7 {
                mode @ 0..=5 => mode,
                mode => mode - 4,
            },
            bcd: value & 1 != 0,
            access: match value >> 4 & 3 {
                1 => Access::Low,
                2 => Access::High,
                _ => Access::Both,
            },
            count: self.count,
            gate: self.gate,
            ..Self::default()
        };
    }

    fn write(&mut self, value: u8, tick: u64) {
        let raw = match self.access {
            Access::Low => u16::from(value),
            Access::High => u16::from(value) << 8,
            Access::Both => match self.low.take() {
                None => {
                    self.low = Some(value);
                    if self.mode == 0 {
                        self.run = Run::Stopped;
                    }
                    return;
                }
                Some(low) => u16::from_le_bytes([low, value]),
            },
        };
        let count = match if self.bcd { from_bcd(raw) } else { u32::from(raw) } {
            0 => self.modulus(),
            n => n,
        };
        self.load(count, tick);
    }

    /// A whole count was written (231164, "Mode Definitions").
    fn load(&mut self, count: u32, tick: u64) {
        match (self.mode, self.run) {
            // A running period, or a one-shot until its next trigger, is not disturbed. (Mode 3 could reload
            // half a period earlier; one place for both modes keeps the phase of the output computable.)
            (2 | 3, Run::Since(start)) if self.gate && tick >= start => {
                let periods = (tick - start) / self.period() + 1;
                self.next = Some((count, start + periods * self.period()));
            }
            (2 | 3, _) => self.start(count, tick, self.gate),
            (1 | 5, Run::Since(_)) => self.next = Some((count, u64::MAX)),
            (1 | 5, _) => {
                self.count = count;
                self.run = Run::Armed;
            }
            _ => self.start(count, tick, self.gate),
        }
    }

    /// The counting element takes `count` with the next clock.
    fn start(&mut self, count: u32, tick: u64, counting: bool) {
        self.count = count;
        self.next = None;
        self.run = if counting { Run::Since(tick + 1) } else { Run::Held(0) };
    }

    fn set_gate(&mut self, gate: bool, tick: u64) {
        let was = std::mem::replace(&mut self.gate, gate);
        if was == gate {
            return;
        }
        match (self.mode, self.run) {
            (_, Run::Stopped) => {}
            (1 | 5, _) if gate => {
                let count = self.next.map_or(self.count, |(count, _)| count);
                self.start(count, tick, true);
            }
            (1 | 5, _) => {}
            (2 | 3, _) if gate => {
                let count = self.next.map_or(self.count, |(count, _)| count);
                self.start(count, tick, true);
            }
            (_, Run::Held(elapsed)) if gate => {
                self.run = Run::Since((tick + 1).saturating_sub(elapsed));
            }
            (_, Run::Since(start)) if !gate => self.run = Run::Held(tick.saturating_sub(start)),
            _ => {}
        }
    }

    /// The counting element's value.
    fn value(&self, tick: u64) -> u16 {
        let modulus = u64::from(self.modulus());
        let Some(elapsed) = self.elapsed(tick) else {
            return self.encode(u64::from(self.count));
        };
        let period = self.period();
        let value = match self.mode {
            2 => period - elapsed % period,
            3 => {
                let at = elapsed % period;
                let high = period.div_ceil(2);
                let step = if at < high { at } else { at - high };
                (period & !1) - 2 * step
            }
            _ => (u64::from(self.count) + modulus - elapsed % modulus) % modulus,
        };
        self.encode(value)
    }

    fn encode(&self, value: u64) -> u16 {
        let value = (value % u64::from(self.modulus())) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    /// Level of the output pin.
    fn out(&self, tick: u64) -> bool {
        let Some(elapsed) = self.elapsed(tick) else {
            return self.mode != 0;
        };
        let count = u64::from(self.count);
        match self.mode {
            0 => elapsed >= count,
            1 => tick < self.started() || elapsed >= count,
            2 => !self.gate || elapsed % self.period() != self.period() - 1,
            3 => !self.gate || elapsed % self.period() < self.period().div_ceil(2),
            _ => elapsed != count,
        }
    }

    fn started(&self) -> u64 {
        match self.run {
            Run::Since(start) => start,
            _ => 0,
        }
    }

    /// The first tick after `tick` at which the output rises.
    fn next_rise(&self, tick: u64) -> Option<u64> {
        let Run::Since(start) = self.run else {
            return None;
        };
        let count = u64::from(self.count);
        let rise = match self.mode {
            0 | 1 => start + count,
            2 | 3 => {
                let periods = tick.saturating_sub(start) / self.period() + 1;
                start + periods * self.period()
            }
            _ => start + count + 1,
        };
        (rise > tick).then_some(rise)
    }

    fn status(&self, tick: u64) -> u8 {
        let null_count = match self.run {
            Run::Stopped => true,
            Run::Since(start) => tick < start || self.next.is_some(),
            _ => self.next.is_some(),
        };
        let mut flags = Status::empty();
        flags.set(Status::NULL_COUNT, null_count);
        flags.set(Status::OUTPUT, self.out(tick));
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::Both => 3,
        };
        flags.bits() | (access << 4) | (self.mode << 1) | u8::from(self.bcd)
    }

    fn latch_count(&mut self, tick: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.value(tick));
        }
    }

    fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.value(tick)).to_le_bytes();
        let (byte, last) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::Both => {
                self.high_next = !self.high_next;
                if self.high_next { (low, false) } else { (high, true) }
            }
        };
        if last {
            self.latched_count = None;
        }
        byte
    }
}

fn from_bcd(raw: u16) -> u32 {
    (0..4).rev().fold(0, |n, digit| n * 10 + (u32::from(raw) >> (4 * digit) & 15))
}

fn to_bcd(value: u16) -> u16 {
    [1000, 100, 10, 1].into_iter().fold(0, |bcd, unit| (bcd << 4) | (value / unit % 10))
}

/// What the PC speaker does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The cone rests at this level (programs that make sound by hand move it through port 61h).
    Level(bool),
    /// A square wave of this many timer ticks ([`PIT_HZ`]) per period.
    Tone {
        /// Ticks per period.
        period: u32,
    },
}

/// The timer with its three channels, and port 61h.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pit {
    channels: [Channel; 3],
    control: SystemControl,
    /// Whether channel 0 drives IRQ 0 (the HPET takes the line over in legacy replacement mode).
    irq_enabled: bool,
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

impl Pit {
    /// All channels free-running in mode 3, as QEMU powers on.
    #[must_use]
    pub fn new() -> Self {
        let channel = |gate| Channel {
            mode: 3,
            count: 0x1_0000,
            run: if gate { Run::Since(0) } else { Run::Held(0) },
            gate,
            ..Channel::default()
        };
        Self {
            channels: [channel(true), channel(true), channel(false)],
            control: SystemControl::empty(),
            irq_enabled: true,
        }
    }

    /// Connects channel 0 to IRQ 0 or takes it off.
    pub fn set_irq_enabled(&mut self, enabled: bool, cx: &mut IoCtx) {
        self.irq_enabled = enabled;
        self.drive_irq(cx);
    }

    /// What the speaker plays.
    #[must_use]
    pub fn speaker(&self, now: VirtTime) -> Speaker {
        let channel = &self.channels[2];
        let on = self.control.contains(SystemControl::SPEAKER);
        if on && channel.gate && channel.mode == 3 && matches!(channel.run, Run::Since(_)) {
            Speaker::Tone { period: channel.count.max(2) }
        } else {
            Speaker::Level(on && channel.out(PIT_HZ.ticks(now)))
        }
    }

    /// Brings all channels up to date and gives the present tick.
    fn settle(&mut self, cx: &IoCtx) -> u64 {
        let tick = PIT_HZ.ticks(cx.now);
        for channel in &mut self.channels {
            channel.settle(tick);
        }
        tick
    }

    /// Drives IRQ 0 and arms the next rising edge. The low phases of the periodic modes are not shown on the
    /// line (nothing can see them there): it falls and rises at the edge itself, which halves the events.
    fn drive_irq(&mut self, cx: &mut IoCtx) {
        let tick = PIT_HZ.ticks(cx.now);
        let channel = &self.channels[0];
        if !self.irq_enabled {
            cx.events.cancel(EventId::PitChannel0);
            return;
        }
        cx.irq.set_isa(IRQ_TIMER, channel.periodic() || channel.out(tick));
        let due = channel.next_rise(tick).map_or(VirtTime::MAX, |rise| PIT_HZ.time_of(rise));
        cx.events.schedule(EventId::PitChannel0, due);
    }

    fn write_control(&mut self, value: u8, cx: &mut IoCtx) {
        let tick = PIT_HZ.ticks(cx.now);
        match value >> 6 {
            READ_BACK => {
                for (n, channel) in self.channels.iter_mut().enumerate() {
                    if value & (2 << n) == 0 {
                        continue;
                    }
                    if value & 0x20 == 0 {
                        channel.latch_count(tick);
                    }
                    if value & 0x10 == 0 && channel.latched_status.is_none() {
                        channel.latched_status = Some(channel.status(tick));
                    }
                }
            }
            n => {
                let channel = &mut self.channels[usize::from(n)];
                if value & 0x30 == 0 {
                    channel.latch_count(tick);
                } else {
                    channel.control(value);
                    if n == 0 {
                        self.drive_irq(cx);
                    }
                }
            }
        }
    }

    fn read_system_control(&self, tick: u64) -> u8 {
        let mut value = self.control;
        value.set(SystemControl::REFRESH, !(tick / REFRESH_TICKS).is_multiple_of(2));
        value.set(SystemControl::OUT2, self.channels[2].out(tick));
        value.bits()
    }
}

impl PortIo for Pit {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        let tick = self.settle(cx);
        match port {
            0x40..=0x42 => self.channels[usize::from(port - 0x40)].read(tick),
            0x61 => self.read_system_control(tick),
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        let tick = self.settle(cx);
        match port {
            0x40..=0x42 => {
                self.channels[usize::from(port - 0x40)].write(value, tick);
                if port == 0x40 {
                    self.drive_irq(cx);
                }
            }
            0x43 => self.write_control(value, cx),
            0x61 => {
                self.control = SystemControl::from_bits_truncate(value & 0x0f);
                let gate = self.control.contains(SystemControl::GATE2);
                self.channels[2].set_gate(gate, tick);
            }
            _ => {}
        }
    }
}

impl Device for Pit {
    fn reset(&mut self, cx: &mut IoCtx) {
        let tick = PIT_HZ.ticks(cx.now);
        *self = Self::new();
        for channel in &mut self.channels[..2] {
            channel.run = Run::Since(tick);
        }
        self.drive_irq(cx);
    }

    fn on_event(&mut self, _event: EventId, cx: &mut IoCtx) {
        self.settle(cx);
        if self.irq_enabled {
            cx.irq.set_isa(IRQ_TIMER, false);
        }
        self.drive_irq(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    struct Rig {
        bench: Bench,
        pit: Pit,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig = Self { bench: Bench::new(), pit: Pit::new() };
            rig.pit.reset(&mut rig.bench.cx());
            rig
        }

        fn out(&mut self, port: u16, value: u8) {
            self.pit.write_u8(port, value, &mut self.bench.cx());
        }

        fn inb(&mut self, port: u16) -> u8 {
            self.pit.read_u8(port, &mut self.bench.cx())
        }

        /// Programs a channel with a two-byte count.
        fn program(&mut self, channel: u8, mode: u8, count: u16) {
            self.out(0x43, channel << 6 | 0x30 | mode << 1);
            self.out(0x40 + u16::from(channel), count as u8);
            self.out(0x40 + u16::from(channel), (count >> 8) as u8);
        }

        /// Reads a latched count.
        fn count(&mut self, channel: u8) -> u16 {
            self.out(0x43, channel << 6);
            let port = 0x40 + u16::from(channel);
            u16::from_le_bytes([self.inb(port), self.inb(port)])
        }

        fn status(&mut self, channel: u8) -> u8 {
            self.out(0x43, 0xe0 | 2 << channel);
            self.inb(0x40 + u16::from(channel))
        }

        fn run_to(&mut self, tick: u64) -> usize {
            self.bench.advance(&mut self.pit, PIT_HZ.time_of(tick))
        }

        fn out2(&mut self) -> bool {
            self.inb(0x61) & 0x20 != 0
        }

        fn edge(&mut self) -> bool {
            self.bench.irq.take_edges() & 1 != 0
        }
    }

    #[test]
    fn conforms() {
        conformance(Pit::new(), &[0x40, 0x41, 0x42, 0x43, 0x61]);
    }

    #[test]
    fn rate_generator_interrupts_once_per_divisor_without_drift() {
        let mut rig = Rig::new();
        rig.program(0, 2, 11932);
        rig.edge();
        // The count is loaded one clock after the write.
        assert_eq!(rig.run_to(1 + 11932 * 1000), 1000);
        assert_eq!(rig.bench.events.deadline(EventId::PitChannel0), Some(PIT_HZ.time_of(1 + 11932 * 1001)));
        assert!(rig.edge());
        assert_eq!(rig.run_to(11932 * 1001), 0);
        assert!(!rig.edge());
    }

    #[test]
    fn power_on_gives_18_interrupts_a_second() {
        let mut rig = Rig::new();
        assert_eq!(rig.run_to(65536 * 18), 18);
    }

    #[test]
    fn mode_0_interrupts_once_and_counts_on() {
        let mut rig = Rig::new();
        rig.edge();
        rig.program(0, 0, 100);
        assert_eq!(rig.bench.irq.isa() & 1, 0);
        assert_eq!(rig.run_to(100), 0);
        assert_eq!(rig.count(0), 1);
        assert_eq!(rig.run_to(101), 1);
        assert_eq!(rig.bench.irq.isa() & 1, 1);
        assert!(rig.edge());
        assert_eq!(rig.run_to(200_000), 0);
        assert_eq!(rig.count(0), (100_i64 - 199_999).rem_euclid(65536) as u16);
    }

    #[test]
    fn mode_0_first_byte_stops_the_count() {
        let mut rig = Rig::new();
        rig.program(2, 0, 100);
        rig.out(0x61, 1);
        rig.out(0x42, 50);
        rig.run_to(1000);
        assert!(!rig.out2());
        rig.out(0x42, 0);
        rig.run_to(1000 + 50);
        assert!(!rig.out2());
        rig.run_to(1000 + 51);
        assert!(rig.out2());
    }

    #[test]
    fn mode_0_gate_holds_the_count() {
        let mut rig = Rig::new();
        rig.out(0x61, 1);
        rig.program(2, 0, 1000);
        rig.run_to(401);
        rig.out(0x61, 0);
        rig.run_to(5000);
        assert_eq!(rig.count(2), 600);
        assert!(!rig.out2());
        rig.out(0x61, 1);
        rig.run_to(5001 + 599);
        assert_eq!(rig.count(2), 1);
        rig.run_to(5001 + 600);
        assert!(rig.out2());
    }

    #[test]
    fn mode_1_fires_when_the_gate_rises_and_retriggers() {
        let mut rig = Rig::new();
        rig.program(2, 1, 10);
        rig.run_to(100);
        assert!(rig.out2());
        rig.out(0x61, 1);
        rig.run_to(105);
        assert!(!rig.out2());
        rig.out(0x61, 0);
        rig.out(0x61, 1);
        rig.run_to(115);
        assert!(!rig.out2(), "restarted at 106");
        rig.run_to(116);
        assert!(rig.out2());
    }

    #[test]
    fn mode_1_takes_a_new_count_at_the_next_trigger() {
        let mut rig = Rig::new();
        rig.program(2, 1, 10);
        rig.out(0x61, 1);
        rig.out(0x42, 40);
        rig.out(0x42, 0);
        rig.run_to(11);
        assert!(rig.out2(), "the running shot keeps its length");
        rig.out(0x61, 0);
        rig.out(0x61, 1);
        rig.run_to(12 + 39);
        assert!(!rig.out2());
        rig.run_to(12 + 40);
        assert!(rig.out2());
    }

    #[test]
    fn mode_2_is_low_for_the_last_tick() {
        let mut rig = Rig::new();
        rig.out(0x61, 1);
        rig.program(2, 2, 5);
        let levels: Vec<bool> = (1..=10)
            .map(|t| {
                rig.run_to(t);
                rig.out2()
            })
            .collect();
        let period = [true, true, true, true, false];
        assert_eq!(levels, [period, period].concat());
    }

    #[test]
    fn mode_2_new_count_waits_for_the_end_of_the_period() {
        let mut rig = Rig::new();
        rig.program(0, 2, 100);
        rig.run_to(51);
        rig.out(0x40, 20);
        rig.out(0x40, 0);
        rig.edge();
        assert_eq!(rig.run_to(100), 0);
        assert_eq!(rig.run_to(101), 1);
        assert_eq!(rig.run_to(121), 1);
        assert_eq!(rig.run_to(141), 1);
    }

    #[test]
    fn mode_3_is_a_square_wave_also_with_an_odd_count() {
        for (count, high) in [(6, 3), (7, 4)] {
            let mut rig = Rig::new();
            rig.out(0x61, 1);
            rig.program(2, 3, count);
            let levels: Vec<bool> = (1..=u64::from(count))
                .map(|t| {
                    rig.run_to(t);
                    rig.out2()
                })
                .collect();
            let expected: Vec<bool> = (0..count).map(|i| i < high).collect();
            assert_eq!(levels, expected);
        }
    }

    #[test]
    fn mode_3_counts_by_two() {
        let mut rig = Rig::new();
        rig.program(0, 3, 1000);
        for (tick, count) in [(1, 1000), (2, 998), (500, 2), (501, 1000), (1000, 2)] {
            rig.run_to(tick);
            assert_eq!(rig.count(0), count);
        }
    }

    #[test]
    fn mode_4_strobes_low_once_and_interrupts_on_the_rise() {
        let mut rig = Rig::new();
        rig.program(0, 4, 50);
        rig.edge();
        assert_eq!(rig.run_to(51), 0);
        assert_eq!(rig.status(0) & 0x80, 0);
        assert_eq!(rig.run_to(52), 1);
        assert_eq!(rig.status(0) & 0x80, 0x80);
        assert!(rig.edge());
        assert_eq!(rig.run_to(500_000), 0);
        rig.out(0x40, 10);
        rig.out(0x40, 0);
        assert_eq!(rig.run_to(600_000), 1, "a new count is a new shot");
    }

    #[test]
    fn mode_5_strobes_after_the_gate_rises() {
        let mut rig = Rig::new();
        rig.program(2, 5, 10);
        rig.run_to(50);
        assert!(rig.out2());
        rig.out(0x61, 1);
        rig.run_to(60);
        assert!(rig.out2());
        rig.run_to(61);
        assert!(!rig.out2());
        rig.run_to(62);
        assert!(rig.out2());
    }

    #[test]
    fn bcd_counts_decimally() {
        let mut rig = Rig::new();
        rig.out(0x43, 0x31);
        rig.out(0x40, 0x00);
        rig.out(0x40, 0x10);
        rig.run_to(2);
        assert_eq!(rig.count(0), 0x0999);
        rig.run_to(1002);
        assert_eq!(rig.count(0), 0x9999);
    }

    #[test]
    fn zero_means_the_largest_count() {
        let mut rig = Rig::new();
        rig.program(0, 2, 0);
        assert_eq!(rig.run_to(65536), 0);
        assert_eq!(rig.run_to(65537), 1);
    }

    #[test]
    fn a_latched_count_stands_still_until_read() {
        let mut rig = Rig::new();
        rig.program(0, 2, 1000);
        rig.run_to(101);
        rig.out(0x43, 0x00);
        rig.run_to(301);
        rig.out(0x43, 0x00);
        assert_eq!(u16::from_le_bytes([rig.inb(0x40), rig.inb(0x40)]), 900);
        assert_eq!(rig.count(0), 700);
    }

    #[test]
    fn read_back_latches_status_before_count() {
        let mut rig = Rig::new();
        rig.program(0, 2, 1000);
        rig.program(1, 3, 500);
        rig.run_to(101);
        rig.out(0x43, 0xc6);
        assert_eq!(rig.inb(0x40), 0xb4);
        assert_eq!(u16::from_le_bytes([rig.inb(0x40), rig.inb(0x40)]), 900);
        assert_eq!(rig.inb(0x41), 0xb6);
        assert_eq!(u16::from_le_bytes([rig.inb(0x41), rig.inb(0x41)]), 300);
    }

    #[test]
    fn null_count_shows_until_the_count_is_loaded() {
        let mut rig = Rig::new();
        rig.out(0x43, 0x34);
        assert_eq!(rig.status(0) & 0x40, 0x40);
        rig.out(0x40, 100);
        rig.out(0x40, 0);
        assert_eq!(rig.status(0) & 0x40, 0x40);
        rig.run_to(1);
        assert_eq!(rig.status(0) & 0x40, 0);
    }

    #[test]
    fn single_byte_access_modes() {
        let mut rig = Rig::new();
        rig.out(0x43, 0x14);
        rig.out(0x40, 200);
        rig.run_to(11);
        assert_eq!((rig.inb(0x40), rig.inb(0x40)), (190, 190));
        rig.out(0x43, 0x24);
        rig.out(0x40, 2);
        rig.run_to(12 + 256);
        assert_eq!(rig.inb(0x40), 1);
    }

    #[test]
    fn port_61h_shows_gate_speaker_and_refresh() {
        let mut rig = Rig::new();
        rig.out(0x61, 0xff);
        assert_eq!(rig.inb(0x61) & 0x0f, 0x0f);
        let first = rig.inb(0x61) & 0x10;
        rig.run_to(18);
        assert_ne!(rig.inb(0x61) & 0x10, first);
        rig.run_to(36);
        assert_eq!(rig.inb(0x61) & 0x10, first);
    }

    #[test]
    fn the_speaker_plays_the_tone_of_channel_2() {
        let mut rig = Rig::new();
        assert_eq!(rig.pit.speaker(0), Speaker::Level(false));
        rig.program(2, 3, 1193);
        rig.out(0x61, 3);
        assert_eq!(rig.pit.speaker(0), Speaker::Tone { period: 1193 });
        rig.out(0x61, 2);
        assert_eq!(rig.pit.speaker(0), Speaker::Level(true));
        rig.out(0x61, 0);
        assert_eq!(rig.pit.speaker(0), Speaker::Level(false));
    }

    #[test]
    fn the_hpet_can_take_irq_0_over() {
        let mut rig = Rig::new();
        rig.pit.set_irq_enabled(false, &mut rig.bench.cx());
        rig.edge();
        rig.program(0, 2, 100);
        rig.run_to(1000);
        assert!(!rig.edge());
        rig.pit.set_irq_enabled(true, &mut rig.bench.cx());
        assert_eq!(rig.run_to(2001), 11);
    }
}
