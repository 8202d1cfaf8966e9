//! High precision event timer at FED00000h: three timers at 100 MHz. Spec: Intel IA-PC HPET 1.0a.
//!
//! As on QEMU's `pc` board all timers can be routed to global interrupt 2 only, or by legacy replacement to IRQ 0 and
//! IRQ 8. The board asks [`Hpet::legacy_replacement`] after a write and takes the PIT off IRQ 0 while it holds.

use crate::bus::{Device, IoCtx, MmioIo};
use crate::time::{EventId, Hz, VirtTime};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// Physical address of the register window.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// Bytes of the register window.
pub const HPET_SIZE: u64 = 0x400;
const HPET_HZ: Hz = Hz(100_000_000);
const TIMERS: usize = 3;
/// A tick so late that it never comes, and whose time still fits.
const FOREVER: u64 = u64::MAX / 16;
const EVENTS: [EventId; TIMERS] = [EventId::Hpet0, EventId::Hpet1, EventId::Hpet2];

/// 10 ns in femtoseconds; vendor 8086h, legacy replacement, 64 bits, three timers, revision 1.
const CAPABILITIES: u64 = 10_000_000 << 32 | 0x8086_a201;
const REG_CAPABILITIES: u64 = 0x00;
const REG_CONFIG: u64 = 0x10;
const REG_STATUS: u64 = 0x20;
const REG_COUNTER: u64 = 0xf0;
const REG_TIMERS: u64 = 0x100;
const TIMER_STRIDE: u64 = 0x20;

/// Bits of the timer configuration that say what the timer can do: route to interrupt 2, 64 bits, periodic.
const TIMER_CAPABILITIES: u64 = 1 << (32 + 2) | 1 << 5 | 1 << 4;
const ROUTE_SHIFT: u32 = 9;
const IRQ_LEGACY: [u8; 2] = [0, 8];

bitflags! {
    /// General configuration.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct Config: u64 {
        /// The counter runs and timers interrupt.
        const ENABLE = 1 << 0;
        /// Timer 0 replaces IRQ 0 and timer 1 IRQ 8.
        const LEGACY = 1 << 1;
    }
}

bitflags! {
    /// Writable bits of a timer's configuration.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct TimerConfig: u64 {
        /// Level triggered.
        const LEVEL = 1 << 1;
        /// Interrupts.
        const INTERRUPT = 1 << 2;
        /// Periodic.
        const PERIODIC = 1 << 3;
        /// The next write goes to the comparator of a periodic timer too.
        const SET_VALUE = 1 << 6;
        /// Compares 32 bits.
        const BITS_32 = 1 << 8;
        /// Interrupt route.
        const ROUTE = 0x1f << ROUTE_SHIFT;
    }
}

/// One comparator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    config: TimerConfig,
    comparator: u64,
    period: u64,
    /// A one-shot that has not fired since its comparator was written.
    armed: bool,
}

impl Timer {
    fn width(&self) -> u64 {
        if self.config.contains(TimerConfig::BITS_32) { u64::from(u32::MAX) } else { u64::MAX }
    }

    fn periodic(&self) -> bool {
        self.config.contains(TimerConfig::PERIODIC)
    }

    /// Ticks from `counter` to the match. A one-shot in the past half of the range matches at once; a periodic timer
    /// waits for the counter to come round.
    fn distance(&self, counter: u64) -> u64 {
        let ahead = self.comparator.wrapping_sub(counter) & self.width();
        match self.periodic() {
            // At least one, so that no period, however odd, fires for ever without time going on.
            true => ahead.max(1),
            false if ahead > self.width() / 2 => 0,
            false => ahead,
        }
    }

    /// Moves a periodic comparator that has matched beyond `counter`.
    fn catch_up(&mut self, counter: u64) {
        let behind = counter.wrapping_sub(self.comparator) & self.width();
        if let Some(periods) = behind.checked_div(self.period) {
            let step = (periods + 1).wrapping_mul(self.period);
            self.comparator = self.comparator.wrapping_add(step) & self.width();
        }
    }

    fn write_comparator(&mut self, value: u64, last_half: bool) {
        let value = value & self.width();
        if !self.periodic() || self.config.contains(TimerConfig::SET_VALUE) {
            self.comparator = value;
        }
        if self.periodic() {
            self.period = value;
        }
        self.armed = true;
        if last_half || self.config.contains(TimerConfig::BITS_32) {
            self.config.remove(TimerConfig::SET_VALUE);
        }
    }
}

/// The timer block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hpet {
    config: Config,
    /// Interrupt status of level-triggered timers.
    status: u64,
    /// The counter at tick 0 of virtual time while it runs; its value while it stands.
    counter: u64,
    timers: [Timer; TIMERS],
}

impl Default for Hpet {
    fn default() -> Self {
        Self::new()
    }
}

impl Hpet {
    /// Stopped, all timers off.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config::empty(),
            status: 0,
            counter: 0,
            timers: [const { Timer { config: TimerConfig::empty(), comparator: u64::MAX, period: 0, armed: false } };
                TIMERS],
        }
    }

    /// Whether timers 0 and 1 stand in for the PIT's IRQ 0 and the RTC's IRQ 8.
    #[must_use]
    pub fn legacy_replacement(&self) -> bool {
        self.config.contains(Config::LEGACY)
    }

    fn enabled(&self) -> bool {
        self.config.contains(Config::ENABLE)
    }

    fn counter_at(&self, now: VirtTime) -> u64 {
        if self.enabled() { self.counter.wrapping_add(HPET_HZ.ticks(now)) } else { self.counter }
    }

    /// The ISA line that timer `n` drives.
    fn line(&self, n: usize) -> u8 {
        match IRQ_LEGACY.get(n) {
            Some(&irq) if self.legacy_replacement() => irq,
            _ => (self.timers[n].config.bits() >> ROUTE_SHIFT & 15) as u8,
        }
    }

    /// Arms the next match of timer `n`.
    fn arm(&mut self, n: usize, cx: &mut IoCtx) {
        let counter = self.counter_at(cx.now);
        let enabled = self.enabled();
        let timer = &mut self.timers[n];
        let live = timer.periodic() && timer.period != 0 || timer.armed;
        let due = if enabled && live && timer.config.contains(TimerConfig::INTERRUPT) {
            let ticks = HPET_HZ.ticks(cx.now).saturating_add(timer.distance(counter)).min(FOREVER);
            HPET_HZ.time_of(ticks).max(cx.now)
        } else {
            VirtTime::MAX
        };
        if timer.periodic() {
            cx.events.schedule(EVENTS[n], due);
        } else {
            cx.events.schedule_one_shot(EVENTS[n], due);
        }
    }

    /// Timer `n` matched.
    fn fire(&mut self, n: usize, cx: &mut IoCtx) {
        let counter = self.counter_at(cx.now);
        let line = self.line(n);
        let timer = &mut self.timers[n];
        timer.armed = false;
        if timer.periodic() {
            timer.catch_up(counter);
        }
        if timer.config.contains(TimerConfig::LEVEL) {
            self.status |= 1 << n;
            cx.irq.set_isa(line, true);
        } else {
            cx.irq.pulse_isa(line);
        }
    }

    /// Lets go of the line of a level-triggered timer.
    fn release(&mut self, n: usize, cx: &mut IoCtx) {
        if self.status & 1 << n != 0 {
            self.status &= !(1 << n);
            cx.irq.set_isa(self.line(n), false);
        }
    }

    fn read(&self, register: u64, now: VirtTime) -> u64 {
        match register {
            REG_CAPABILITIES => CAPABILITIES,
            REG_CONFIG => self.config.bits(),
            REG_STATUS => self.status,
            REG_COUNTER => self.counter_at(now),
            _ => match self.timer_register(register) {
                Some((n, 0x00)) => self.timers[n].config.bits() | TIMER_CAPABILITIES,
                Some((n, 0x08)) => self.timers[n].comparator,
                _ => 0,
            },
        }
    }

    /// Timer number and offset within its registers.
    fn timer_register(&self, register: u64) -> Option<(usize, u64)> {
        let offset = register.checked_sub(REG_TIMERS)?;
        let n = (offset / TIMER_STRIDE) as usize;
        (n < TIMERS).then_some((n, offset % TIMER_STRIDE))
    }

    /// Writes a whole register; `last_half` tells that the high half was part of the access.
    fn write(&mut self, register: u64, value: u64, last_half: bool, cx: &mut IoCtx) {
        match register {
            REG_CONFIG => self.write_config(Config::from_bits_truncate(value), cx),
            REG_STATUS => {
                for n in (0..TIMERS).filter(|n| value & 1 << n != 0) {
                    self.release(n, cx);
                }
            }
            REG_COUNTER => {
                let running = if self.enabled() { HPET_HZ.ticks(cx.now) } else { 0 };
                self.counter = value.wrapping_sub(running);
            }
            _ => match self.timer_register(register) {
                Some((n, 0x00)) => {
                    let config = TimerConfig::from_bits_truncate(value);
                    if !config.contains(TimerConfig::INTERRUPT | TimerConfig::LEVEL) {
                        self.release(n, cx);
                    }
                    self.timers[n].config = config;
                }
                Some((n, 0x08)) => self.timers[n].write_comparator(value, last_half),
                _ => {}
            },
        }
        for n in 0..TIMERS {
            self.arm(n, cx);
        }
    }

    /// What a half write is merged with: for the comparator of a periodic timer that is the period.
    fn written_value(&self, register: u64, now: VirtTime) -> u64 {
        match self.timer_register(register) {
            Some((n, 0x08)) if self.timers[n].periodic() => self.timers[n].period,
            _ => self.read(register, now),
        }
    }

    fn write_config(&mut self, config: Config, cx: &mut IoCtx) {
        let counter = self.counter_at(cx.now);
        if !config.contains(Config::ENABLE) || config ^ self.config == Config::LEGACY {
            for n in 0..TIMERS {
                self.release(n, cx);
            }
        }
        self.config = config;
        self.counter = if self.enabled() { counter.wrapping_sub(HPET_HZ.ticks(cx.now)) } else { counter };
    }
}

impl MmioIo for Hpet {
    fn mmio_read(&mut self, offset: u64, size: u8, cx: &mut IoCtx) -> u64 {
        let value = self.read(offset & !7, cx.now) >> (8 * (offset & 7));
        match size {
            0..8 => value & ((1 << (8 * u32::from(size))) - 1),
            _ => value,
        }
    }

    /// The specification allows aligned 32- and 64-bit writes; others are ignored.
    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, cx: &mut IoCtx) {
        let register = offset & !7;
        let high = offset & 4 != 0;
        match (size, offset & 7) {
            (8, 0) => self.write(register, value, true, cx),
            (4, 0 | 4) => {
                // The half that is not written keeps its value; for the status that means writing no ones.
                let old = if register == REG_STATUS { 0 } else { self.written_value(register, cx.now) };
                let value = value & u64::from(u32::MAX);
                let whole =
                    if high { old & u64::from(u32::MAX) | value << 32 } else { old & !u64::from(u32::MAX) | value };
                self.write(register, whole, high, cx);
            }
            _ => {}
        }
    }
}

impl Device for Hpet {
    fn reset(&mut self, cx: &mut IoCtx) {
        for n in 0..TIMERS {
            self.release(n, cx);
        }
        *self = Self::new();
        for n in 0..TIMERS {
            self.arm(n, cx);
        }
    }

    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        if let Some(n) = EVENTS.iter().position(|&e| e == event) {
            self.fire(n, cx);
            self.arm(n, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Bench;

    const T0: u64 = REG_TIMERS;
    const T1: u64 = REG_TIMERS + TIMER_STRIDE;

    struct Rig {
        bench: Bench,
        hpet: Hpet,
    }

    impl Rig {
        fn new() -> Self {
            Self { bench: Bench::new(), hpet: Hpet::new() }
        }

        fn write(&mut self, offset: u64, value: u64) {
            self.hpet.mmio_write(offset, 4, value, &mut self.bench.cx());
        }

        fn read(&mut self, offset: u64) -> u64 {
            self.hpet.mmio_read(offset, 4, &mut self.bench.cx())
        }

        /// Advances to counter tick `tick` of virtual time; returns how many events fired.
        fn run_to(&mut self, tick: u64) -> usize {
            self.bench.advance(&mut self.hpet, HPET_HZ.time_of(tick))
        }

        fn edges(&mut self) -> u16 {
            self.bench.irq.take_edges()
        }
    }

    #[test]
    fn identifies_itself() {
        let mut rig = Rig::new();
        assert_eq!(rig.read(0), 0x8086_a201);
        assert_eq!(rig.read(4), 10_000_000);
        assert_eq!(rig.read(T0 + 4), 4);
        assert_eq!(rig.read(T0), 0x30);
        assert_eq!(rig.hpet.mmio_read(0, 8, &mut rig.bench.cx()), CAPABILITIES);
    }

    #[test]
    fn the_counter_runs_only_while_enabled() {
        let mut rig = Rig::new();
        rig.run_to(100);
        assert_eq!(rig.read(REG_COUNTER), 0);
        rig.write(REG_CONFIG, 1);
        rig.run_to(350);
        assert_eq!(rig.read(REG_COUNTER), 250);
        rig.write(REG_CONFIG, 0);
        rig.run_to(900);
        assert_eq!(rig.read(REG_COUNTER), 250);
        rig.write(REG_COUNTER, 7);
        rig.write(REG_COUNTER + 4, 1);
        rig.write(REG_CONFIG, 1);
        rig.run_to(910);
        assert_eq!(rig.read(REG_COUNTER), 17);
        assert_eq!(rig.read(REG_COUNTER + 4), 1);
    }

    #[test]
    fn one_shot_fires_once_on_irq_0_in_legacy_mode() {
        let mut rig = Rig::new();
        rig.write(REG_CONFIG, 3);
        assert!(rig.hpet.legacy_replacement());
        rig.write(T0, 0x104);
        rig.write(T0 + 8, 1000);
        assert_eq!(rig.run_to(999), 0);
        assert_eq!(rig.run_to(1000), 1);
        assert_eq!(rig.edges(), 1);
        assert_eq!(rig.run_to(1_000_000), 0);
        rig.write(T0 + 8, 500);
        assert_eq!(rig.run_to(1_000_001), 1, "a time in the past fires at once");
    }

    #[test]
    fn periodic_timer_keeps_its_phase() {
        let mut rig = Rig::new();
        rig.write(REG_CONFIG, 3);
        rig.write(T1, 0x14c);
        rig.write(T1 + 8, 5000);
        rig.write(T1 + 8, 100);
        assert_eq!(rig.run_to(4999), 0);
        assert_eq!(rig.run_to(5000), 1);
        assert_eq!(rig.edges(), 1 << 8);
        assert_eq!(rig.run_to(15_000), 100);
        assert_eq!(rig.read(T1 + 8), 15_100);
    }

    #[test]
    fn odd_periods_never_stop_the_clock() {
        for (config, first, period) in [
            (0x14c, 0xc000_0000, 0xc000_0000),
            (0x14c, 0, 1),
            (0x14c, u64::from(u32::MAX), u64::from(u32::MAX)),
            (0x04c, 0, u64::MAX),
            (0x04c, 5, u64::MAX / 2 + 3),
        ] {
            let mut rig = Rig::new();
            rig.write(REG_CONFIG, 1);
            rig.write(T0, config);
            let cx = &mut rig.bench.cx();
            rig.hpet.mmio_write(T0 + 8, 8, first, cx);
            rig.hpet.mmio_write(T0 + 8, 8, period, cx);
            assert!(rig.run_to(1000) <= 1000);
        }
    }

    #[test]
    fn level_interrupts_stand_until_acknowledged() {
        let mut rig = Rig::new();
        rig.write(REG_CONFIG, 1);
        rig.write(T0, 2 << ROUTE_SHIFT | 0x06);
        rig.write(T0 + 8, 10);
        rig.run_to(10);
        assert_eq!(rig.read(REG_STATUS), 1);
        assert_eq!(rig.bench.irq.isa(), 1 << 2);
        rig.write(REG_STATUS, 1);
        assert_eq!(rig.read(REG_STATUS), 0);
        assert_eq!(rig.bench.irq.isa(), 0);
    }

    #[test]
    fn random_traffic_neither_panics_nor_breaks_the_state() {
        let mut rig = Rig::new();
        let mut seed = 0x1234_5678_9abc_def1_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let offset = (seed >> 8) % HPET_SIZE;
            let size = 1 << (seed & 3);
            if seed & 4 == 0 {
                rig.hpet.mmio_read(offset, size, &mut rig.bench.cx());
            } else {
                rig.hpet.mmio_write(offset, size, seed >> 20, &mut rig.bench.cx());
            }
            rig.bench.now += seed >> 50;
            let now = rig.bench.now;
            if let Some(event) = rig.bench.events.pop_due(now) {
                rig.hpet.on_event(event, &mut rig.bench.cx());
            }
        }
        let state = serde_json::to_string(&rig.hpet).expect("state serialises");
        let restored: Hpet = serde_json::from_str(&state).expect("state deserialises");
        assert_eq!(rig.hpet, restored);
    }
}
