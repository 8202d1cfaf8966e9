//! Motorola MC146818 real-time clock with 128 bytes of CMOS RAM, ports 70h-71h, IRQ 8.
//! Spec: Motorola MC146818/D; the PC's use of the RAM is in IBM's AT technical reference.
//!
//! The date is a count of seconds that follows virtual time from an epoch; the time registers are computed when
//! they are read. While the clock is stopped (SET or divider reset) they are plain bytes.

use crate::bus::{Device, IoCtx, PortIo};
use crate::time::{EventId, Hz, SECOND, VirtTime};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

const IRQ_RTC: u8 = 8;
const CMOS_SIZE: usize = 128;
/// The divider's input, from which the periodic interrupt is taken.
const CRYSTAL: Hz = Hz(32_768);
/// How long before an update UIP rises: 244 us (MC146818/D, "Update cycle").
const UPDATE_WARNING: VirtTime = 244_000;

const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const DAY_OF_WEEK: usize = 0x06;
const DAY: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const REG_A: usize = 0x0a;
const REG_B: usize = 0x0b;
const REG_C: usize = 0x0c;
const REG_D: usize = 0x0d;
/// Century byte of the PC's CMOS layout, part of the date here.
const CENTURY: usize = 0x32;
const TIME_REGISTERS: [usize; 8] = [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY, MONTH, YEAR, CENTURY];

const A_UIP: u8 = 0x80;
const A_DIVIDER: u8 = 0x70;
const A_DIVIDER_RESET: u8 = 0x60;
/// 32768 Hz crystal, periodic rate 1024 Hz.
const A_DEFAULT: u8 = 0x26;
const D_VALID: u8 = 0x80;
const HOUR_PM: u8 = 0x80;
/// An alarm byte of C0h or above matches anything.
const ALARM_ANY: u8 = 0xc0;

bitflags! {
    /// Register B: modes and interrupt enables.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct B: u8 {
        /// Daylight saving (not modelled, as in later parts).
        const DSE = 1 << 0;
        /// Hours run from 0 to 23.
        const HOURS_24 = 1 << 1;
        /// Time registers are binary and not BCD.
        const BINARY = 1 << 2;
        /// Square wave output.
        const SQWE = 1 << 3;
        /// Update-ended interrupt.
        const UIE = 1 << 4;
        /// Alarm interrupt.
        const AIE = 1 << 5;
        /// Periodic interrupt.
        const PIE = 1 << 6;
        /// The clock is stopped so that it can be set.
        const SET = 1 << 7;
    }
}

bitflags! {
    /// Register C: what happened since it was last read.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct C: u8 {
        /// Update ended.
        const UF = 1 << 4;
        /// The time matched the alarm.
        const AF = 1 << 5;
        /// A period elapsed.
        const PF = 1 << 6;
        /// One of them is enabled as an interrupt.
        const IRQF = 1 << 7;
    }
}

/// The clock and its RAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rtc {
    index: u8,
    nmi_masked: bool,
    /// Plain bytes, registers A and B, alarm, and the time registers while the clock is stopped.
    #[serde(deserialize_with = "crate::bus::exactly::<_, 128>")]
    cmos: Vec<u8>,
    flags: C,
    /// Seconds since 1970 at `epoch`.
    base: i64,
    /// A moment at which the seconds change.
    epoch: VirtTime,
    /// Up to when periods have been accounted for in PF.
    periods_seen: VirtTime,
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

impl Rtc {
    /// A clock at 1 January 1970 with empty CMOS.
    #[must_use]
    pub fn new() -> Self {
        let mut cmos = vec![0; CMOS_SIZE];
        cmos[REG_A] = A_DEFAULT;
        cmos[REG_B] = B::HOURS_24.bits();
        Self { index: 0, nmi_masked: false, cmos, flags: C::empty(), base: 0, epoch: 0, periods_seen: 0 }
    }

    /// Sets date and time (UTC, or whatever the guest takes for local time).
    pub fn set_time(&mut self, unix_seconds: i64, cx: &mut IoCtx) {
        self.base = unix_seconds;
        self.epoch = cx.now;
        if !self.running() {
            self.store_time(unix_seconds);
        }
        self.arm_update(cx);
    }

    /// The date as seconds since 1970.
    #[must_use]
    pub fn unix_time(&self, now: VirtTime) -> i64 {
        if self.running() { self.time_at(now) } else { self.load_time() }
    }

    /// Writes a CMOS byte as the machine's builder (memory size, boot order, drive types).
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        self.cmos[usize::from(index & 0x7f)] = value;
    }

    /// A byte of the CMOS RAM as it is stored.
    #[must_use]
    pub fn cmos(&self, index: u8) -> u8 {
        self.cmos[usize::from(index & 0x7f)]
    }

    /// Whether port 70h bit 7 masks the NMI.
    #[must_use]
    pub fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    fn b(&self) -> B {
        B::from_bits_retain(self.cmos[REG_B])
    }

    fn running(&self) -> bool {
        !self.b().contains(B::SET) && self.cmos[REG_A] & A_DIVIDER <= 0x20
    }

    fn time_at(&self, now: VirtTime) -> i64 {
        self.base.wrapping_add((now as i64 - self.epoch as i64).div_euclid(SECOND as i64))
    }

    /// The next moment after `now` at which the seconds change.
    fn next_update(&self, now: VirtTime) -> VirtTime {
        let phase = (now as i64 - self.epoch as i64).rem_euclid(SECOND as i64);
        now + (SECOND - phase as u64)
    }

    fn encode(&self, value: u8) -> u8 {
        if self.b().contains(B::BINARY) { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(&self, raw: u8) -> i64 {
        if self.b().contains(B::BINARY) { i64::from(raw) } else { i64::from(raw >> 4) * 10 + i64::from(raw & 15) }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.b().contains(B::HOURS_24) {
            return self.encode(hour);
        }
        let twelve = match hour % 12 {
            0 => 12,
            h => h,
        };
        self.encode(twelve) | if hour >= 12 { HOUR_PM } else { 0 }
    }

    fn decode_hour(&self, raw: u8) -> i64 {
        if self.b().contains(B::HOURS_24) {
            return self.decode(raw);
        }
        self.decode(raw & !HOUR_PM) % 12 + if raw & HOUR_PM != 0 { 12 } else { 0 }
    }

    /// The value of a time register at date `time`.
    fn time_register(&self, index: usize, time: i64) -> u8 {
        let of_day = time.rem_euclid(86_400);
        let days = time.div_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        match index {
            SECONDS => self.encode((of_day % 60) as u8),
            MINUTES => self.encode((of_day / 60 % 60) as u8),
            HOURS => self.encode_hour((of_day / 3600) as u8),
            // 1 January 1970 was a Thursday; Sunday is 1.
            DAY_OF_WEEK => self.encode((days + 4).rem_euclid(7) as u8 + 1),
            DAY => self.encode(day),
            MONTH => self.encode(month),
            YEAR => self.encode(year.rem_euclid(100) as u8),
            _ => self.encode(year.div_euclid(100).rem_euclid(100) as u8),
        }
    }

    /// Writes the date into the time registers.
    fn store_time(&mut self, time: i64) {
        for index in TIME_REGISTERS {
            self.cmos[index] = self.time_register(index, time);
        }
    }

    /// The date that the stored time registers name; days and months out of range carry over.
    fn load_time(&self) -> i64 {
        let year = self.decode(self.cmos[CENTURY]) * 100 + self.decode(self.cmos[YEAR]);
        let month = self.decode(self.cmos[MONTH]);
        let days = days_from_civil(year, month) + self.decode(self.cmos[DAY]) - 1;
        days * 86_400
            + self.decode_hour(self.cmos[HOURS]) * 3600
            + self.decode(self.cmos[MINUTES]) * 60
            + self.decode(self.cmos[SECONDS])
    }

    /// Makes the stored time registers the present date; the phase within the second stays.
    fn adopt_time(&mut self, now: VirtTime) {
        let error = self.load_time().wrapping_sub(self.time_at(now));
        self.base = self.base.wrapping_add(error);
    }

    /// Crystal cycles in a period of the periodic interrupt (table 5 of MC146818/D).
    fn period_cycles(&self) -> Option<u64> {
        match self.cmos[REG_A] & 15 {
            0 => None,
            rate @ (1 | 2) => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
        .filter(|_| self.cmos[REG_A] & A_DIVIDER <= 0x20)
    }

    fn next_period(&self, now: VirtTime) -> Option<VirtTime> {
        let period = self.period_cycles()?;
        Some(CRYSTAL.time_of((CRYSTAL.ticks(now) / period + 1) * period))
    }

    /// Sets PF when a period ended since the last look. PF needs no event unless it interrupts.
    fn settle_period(&mut self, now: VirtTime) {
        if self.next_period(self.periods_seen).is_some_and(|at| at <= now) {
            self.flags |= C::PF;
        }
        self.periods_seen = now;
    }

    fn arm_period(&mut self, cx: &mut IoCtx) {
        let due = self.next_period(cx.now).filter(|_| self.b().contains(B::PIE));
        cx.events.schedule(EventId::RtcPeriodic, due.unwrap_or(VirtTime::MAX));
    }

    fn arm_update(&mut self, cx: &mut IoCtx) {
        let due = if self.running() { self.next_update(cx.now) } else { VirtTime::MAX };
        cx.events.schedule(EventId::RtcUpdate, due);
    }

    /// The once-a-second update: UF, and AF when the alarm matches.
    fn update(&mut self, now: VirtTime) {
        self.flags |= C::UF;
        let time = self.time_at(now);
        let matches = |alarm: usize, index: usize| {
            let wanted = self.cmos[alarm];
            wanted >= ALARM_ANY || wanted == self.time_register(index, time)
        };
        if matches(SECONDS_ALARM, SECONDS) && matches(MINUTES_ALARM, MINUTES) && matches(HOURS_ALARM, HOURS) {
            self.flags |= C::AF;
        }
    }

    fn drive_irq(&mut self, cx: &mut IoCtx) {
        let enabled = self.cmos[REG_B] & (C::UF | C::AF | C::PF).bits();
        let active = self.flags.bits() & enabled != 0;
        self.flags.set(C::IRQF, active);
        cx.irq.set_isa(IRQ_RTC, active);
    }

    fn read_register(&mut self, cx: &mut IoCtx) -> u8 {
        let index = usize::from(self.index);
        match index {
            REG_A => {
                let updating = self.running() && self.next_update(cx.now) - cx.now <= UPDATE_WARNING;
                self.cmos[REG_A] & !A_UIP | if updating { A_UIP } else { 0 }
            }
            REG_C => {
                self.settle_period(cx.now);
                self.drive_irq(cx);
                let flags = std::mem::take(&mut self.flags);
                self.drive_irq(cx);
                flags.bits()
            }
            REG_D => D_VALID,
            _ if self.running() && TIME_REGISTERS.contains(&index) => self.time_register(index, self.time_at(cx.now)),
            _ => self.cmos[index],
        }
    }

    fn write_register(&mut self, value: u8, cx: &mut IoCtx) {
        let index = usize::from(self.index);
        match index {
            REG_A => self.write_a(value, cx),
            REG_B => self.write_b(value, cx),
            REG_C | REG_D => {}
            _ if self.running() && TIME_REGISTERS.contains(&index) => {
                self.store_time(self.time_at(cx.now));
                self.cmos[index] = value;
                self.adopt_time(cx.now);
            }
            _ => self.cmos[index] = value,
        }
    }

    fn write_a(&mut self, value: u8, cx: &mut IoCtx) {
        self.settle_period(cx.now);
        let was_running = self.running();
        let was_reset = self.cmos[REG_A] & A_DIVIDER_RESET == A_DIVIDER_RESET;
        if was_running {
            self.store_time(self.time_at(cx.now));
        }
        self.cmos[REG_A] = value & !A_UIP;
        if !was_running && self.running() {
            if was_reset {
                // The first update follows half a second after the divider is released.
                self.epoch = cx.now + SECOND / 2;
            }
            self.adopt_time(cx.now);
        }
        self.arm_period(cx);
        self.arm_update(cx);
    }

    fn write_b(&mut self, value: u8, cx: &mut IoCtx) {
        self.settle_period(cx.now);
        let was_running = self.running();
        if was_running {
            self.store_time(self.time_at(cx.now));
        }
        // Setting SET clears UIE (MC146818/D, register B).
        let cleared = if value & B::SET.bits() != 0 { B::UIE.bits() } else { 0 };
        self.cmos[REG_B] = value & !cleared;
        if !was_running && self.running() {
            self.adopt_time(cx.now);
        }
        self.drive_irq(cx);
        self.arm_period(cx);
        self.arm_update(cx);
    }
}

impl PortIo for Rtc {
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8 {
        match port {
            0x71 => self.read_register(cx),
            // The index port is write-only.
            _ => 0xff,
        }
    }

    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx) {
        match port {
            0x70 => {
                self.index = value & 0x7f;
                self.nmi_masked = value & 0x80 != 0;
            }
            0x71 => self.write_register(value, cx),
            _ => {}
        }
    }
}

impl Device for Rtc {
    /// RESET# clears interrupt enables and flags; time and RAM live on the battery.
    fn reset(&mut self, cx: &mut IoCtx) {
        self.index = 0;
        self.nmi_masked = false;
        self.cmos[REG_B] &= !(B::PIE | B::AIE | B::UIE | B::SQWE).bits();
        self.flags = C::empty();
        self.periods_seen = cx.now;
        self.drive_irq(cx);
        self.arm_period(cx);
        self.arm_update(cx);
    }

    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        self.settle_period(cx.now);
        if event == EventId::RtcUpdate {
            if self.running() {
                self.update(cx.now);
            }
            self.arm_update(cx);
        } else {
            self.arm_period(cx);
        }
        self.drive_irq(cx);
    }
}

/// Days from 1 January 1970 to the first of a month of the proleptic Gregorian calendar. Months beyond 1 to 12
/// carry into the year.
fn days_from_civil(year: i64, month: i64) -> i64 {
    // Years that begin in March put the leap day last.
    let months = year * 12 + month - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 - 719_468
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1 January 1970.
fn civil_from_days(days: i64) -> (i64, u8, u8) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let shifted = days + 719_468;
    let in_era = shifted.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = shifted.div_euclid(DAYS_OF_400_YEARS) * 400 + year_of_era + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    /// 2024-02-29 23:59:58 UTC, a Thursday.
    const LEAP: i64 = 1_709_251_198;

    struct Rig {
        bench: Bench,
        rtc: Rtc,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig = Self { bench: Bench::new(), rtc: Rtc::new() };
            rig.rtc.reset(&mut rig.bench.cx());
            rig.rtc.set_time(LEAP, &mut rig.bench.cx());
            rig
        }

        fn read(&mut self, index: usize) -> u8 {
            let cx = &mut self.bench.cx();
            self.rtc.write_u8(0x70, index as u8, cx);
            self.rtc.read_u8(0x71, cx)
        }

        fn write(&mut self, index: usize, value: u8) {
            let cx = &mut self.bench.cx();
            self.rtc.write_u8(0x70, index as u8, cx);
            self.rtc.write_u8(0x71, value, cx);
        }

        fn to(&mut self, at: VirtTime) {
            self.bench.advance(&mut self.rtc, at);
        }

        fn date(&mut self) -> [u8; 8] {
            TIME_REGISTERS.map(|index| self.read(index))
        }

        fn irq(&self) -> bool {
            self.bench.irq.isa() & 1 << IRQ_RTC != 0
        }
    }

    #[test]
    fn conforms() {
        conformance(Rtc::new(), &[0x70, 0x71]);
    }

    #[test]
    fn the_calendar_is_exact() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (19_782, (2024, 2, 29)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
            (-25_509, (1900, 2, 28)),
            (-25_508, (1900, 3, 1)),
        ] {
            assert_eq!(civil_from_days(days), date);
        }
        let mut expected = civil_from_days(-800_000);
        for days in -800_000..800_000 {
            let date = civil_from_days(days);
            assert_eq!(date, expected);
            assert_eq!(days_from_civil(date.0, i64::from(date.1)) + i64::from(date.2) - 1, days);
            let (y, m, d) = date;
            let last = days_from_civil(y, i64::from(m) + 1) - days_from_civil(y, i64::from(m));
            expected = match (m, i64::from(d) == last) {
                (12, true) => (y + 1, 1, 1),
                (_, true) => (y, m + 1, 1),
                _ => (y, m, d + 1),
            };
        }
    }

    #[test]
    fn date_is_bcd_and_advances_over_the_leap_day() {
        let mut rig = Rig::new();
        assert_eq!(rig.date(), [0x58, 0x59, 0x23, 0x05, 0x29, 0x02, 0x24, 0x20]);
        rig.to(2 * SECOND);
        assert_eq!(rig.date(), [0x00, 0x00, 0x00, 0x06, 0x01, 0x03, 0x24, 0x20]);
    }

    #[test]
    fn binary_and_12_hour_modes() {
        let mut rig = Rig::new();
        rig.write(REG_B, 0x04);
        assert_eq!(rig.date(), [58, 59, 0x80 | 11, 5, 29, 2, 24, 20]);
        rig.to(2 * SECOND);
        assert_eq!(rig.read(HOURS), 12, "midnight is 12 AM");
        rig.write(REG_B, 0x00);
        rig.to((2 + 13 * 3600) * SECOND);
        assert_eq!(rig.read(HOURS), 0x81, "1 PM");
    }

    #[test]
    fn set_stops_the_clock_and_takes_a_new_date() {
        let mut rig = Rig::new();
        rig.write(REG_B, 0x82);
        rig.to(10 * SECOND);
        assert_eq!(rig.read(SECONDS), 0x58);
        for (index, value) in TIME_REGISTERS.into_iter().zip([0x30, 0x15, 0x08, 0x01, 0x31, 0x12, 0x99, 0x19]) {
            rig.write(index, value);
        }
        rig.write(REG_B, 0x02);
        rig.to(11 * SECOND);
        assert_eq!(rig.date(), [0x31, 0x15, 0x08, 0x06, 0x31, 0x12, 0x99, 0x19]);
        assert_eq!(rig.rtc.unix_time(rig.bench.now), 946_628_131);
    }

    #[test]
    fn a_time_register_can_be_written_while_running() {
        let mut rig = Rig::new();
        rig.write(MINUTES, 0x10);
        rig.to(SECOND);
        assert_eq!(rig.date()[..3], [0x59, 0x10, 0x23]);
    }

    #[test]
    fn uip_warns_244_us_before_the_update() {
        let mut rig = Rig::new();
        assert_eq!(rig.read(REG_A), 0x26);
        rig.to(SECOND - UPDATE_WARNING - 1);
        assert_eq!(rig.read(REG_A), 0x26);
        rig.to(SECOND - UPDATE_WARNING);
        assert_eq!(rig.read(REG_A), 0xa6);
        assert_eq!(rig.read(SECONDS), 0x58);
        rig.to(SECOND);
        assert_eq!(rig.read(REG_A), 0x26);
        assert_eq!(rig.read(SECONDS), 0x59);
    }

    #[test]
    fn periodic_interrupt_runs_at_the_programmed_rate() {
        let mut rig = Rig::new();
        rig.write(REG_B, 0x42);
        let mut count = 0;
        for ms in 1..=1000 {
            rig.to(ms * SECOND / 1000);
            if rig.irq() {
                assert_eq!(rig.read(REG_C) & 0xc0, 0xc0);
                assert!(!rig.irq());
                count += 1;
            }
        }
        // 1024 Hz sampled every millisecond: two periods fall into one sample 24 times.
        assert!((999..=1000).contains(&count), "{count}");
        rig.write(REG_A, 0x2f);
        rig.read(REG_C);
        assert_eq!(rig.bench.events.deadline(EventId::RtcPeriodic), Some(SECOND * 3 / 2));
    }

    #[test]
    fn periodic_flag_can_be_polled_without_interrupt() {
        let mut rig = Rig::new();
        rig.read(REG_C);
        rig.to(SECOND / 1024 - 1);
        assert_eq!(rig.read(REG_C) & 0x40, 0);
        rig.to(SECOND / 1024 + 1);
        assert_eq!(rig.read(REG_C), 0x40);
        assert_eq!(rig.read(REG_C), 0);
    }

    #[test]
    fn update_ended_interrupt_comes_each_second() {
        let mut rig = Rig::new();
        rig.write(REG_B, 0x12);
        rig.to(SECOND - 1);
        assert!(!rig.irq());
        rig.to(SECOND);
        assert!(rig.irq());
        assert_eq!(rig.read(REG_C) & 0xb0, 0x90);
        rig.to(2 * SECOND);
        assert!(rig.irq());
    }

    #[test]
    fn alarm_matches_with_wildcards() {
        let mut rig = Rig::new();
        rig.write(SECONDS_ALARM, 0x05);
        rig.write(MINUTES_ALARM, 0xff);
        rig.write(HOURS_ALARM, 0xc0);
        rig.write(REG_B, 0x22);
        rig.to(6 * SECOND);
        assert!(!rig.irq());
        rig.to(7 * SECOND);
        assert!(rig.irq());
        assert_eq!(rig.read(REG_C) & 0xa0, 0xa0);
        rig.to(66 * SECOND);
        assert!(!rig.irq());
        rig.to(67 * SECOND);
        assert!(rig.irq());
    }

    #[test]
    fn enabling_an_interrupt_shows_a_flag_that_already_stands() {
        let mut rig = Rig::new();
        rig.to(SECOND);
        assert!(!rig.irq());
        rig.write(REG_B, 0x12);
        assert!(rig.irq());
    }

    #[test]
    fn the_divider_restarts_half_a_second_before_an_update() {
        let mut rig = Rig::new();
        rig.to(SECOND / 4);
        rig.write(REG_A, 0x76);
        rig.to(5 * SECOND);
        assert_eq!(rig.read(SECONDS), 0x58);
        rig.write(REG_A, 0x26);
        rig.to(5 * SECOND + SECOND / 2 - 1);
        assert_eq!(rig.read(SECONDS), 0x58);
        rig.to(5 * SECOND + SECOND / 2);
        assert_eq!(rig.read(SECONDS), 0x59);
    }

    #[test]
    fn ram_survives_reset_and_the_index_keeps_the_nmi_mask() {
        let mut rig = Rig::new();
        rig.rtc.set_cmos(0x10, 0x40);
        assert_eq!(rig.read(0x10), 0x40);
        rig.write(0x80 | 0x7f, 0xa5);
        assert!(rig.rtc.nmi_masked());
        rig.rtc.reset(&mut rig.bench.cx());
        assert!(!rig.rtc.nmi_masked());
        assert_eq!(rig.read(0x7f), 0xa5);
        assert_eq!(rig.read(REG_D), 0x80);
        assert_eq!(rig.rtc.unix_time(rig.bench.now), LEAP);
    }
}
