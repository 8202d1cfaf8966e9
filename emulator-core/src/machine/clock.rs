//! From retired instructions to virtual time.
//!
//! Inside a run slice virtual time is a linear function of the instruction count. The deterministic clock
//! never looks at the host; the realtime clock is put on the host's time when the guest wakes up and, where the host has
//! a clock to look at, often follows it within a slice, faster for a while where the guest had to wait for its turn. It
//! learns how long an instruction takes, which varies a hundredfold between a guest that talks to devices and a loop in
//! the fast tier.

use crate::time::{SECOND, VirtTime};
use serde::{Deserialize, Serialize};

/// Where virtual time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClockMode {
    /// The host's time.
    #[default]
    Realtime,
    /// The instruction count: same start and same inputs give the same run, bit for bit.
    Deterministic,
}

/// Fraction bits of [`Clock::rate`].
const FRACTION: u32 = 10;
/// Nanoseconds per instruction of the deterministic clock: a 125 MIPS machine.
const DETERMINISTIC_NS: u64 = 8;
/// Instructions that a slice must have to teach the clock its pace.
const LEARN_FROM: u64 = 10_000;
/// Host time that a look must have seen pass to teach the clock its pace: clocks of browsers are coarse.
const LEARN_SPAN: u64 = 200_000;
/// Most virtual time between two looks at the host's clock, and most instructions.
const LOOK_EVERY: (VirtTime, u64) = (2_000_000, 500_000);
/// Virtual time that is ahead of the host's comes back to it within so much host time.
const CATCH_UP: u64 = 8_000_000;
/// Fastest and slowest pace, in nanoseconds per instruction with [`FRACTION`] fraction bits.
const PACES: (u64, u64) = (1 << (FRACTION - 4), 100 << FRACTION);
/// Of the time that it is behind, a guest that executes gets two thirds back within so much host time. It reads several clocks one
/// after the other, and a step between two readings would tell it that one of them runs many times too slow.
const FOLLOW: u64 = 2_000_000;
/// Most time for which the realtime clock follows the host (a page that was asleep does not replay hours).
const MAX_STEP: VirtTime = SECOND / 4;

/// The machine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    mode: ClockMode,
    base_time: VirtTime,
    base_count: u64,
    /// Nanoseconds of virtual time per instruction, [`FRACTION`] fraction bits.
    rate: u64,
    /// The same of host time, as learned.
    #[serde(default = "Clock::first_pace")]
    pace: u64,
    /// Host time minus virtual time, once a slice told the host's time.
    host_offset: Option<i128>,
    /// Count and host time at the start of a slice whose end was not told yet.
    slice: Option<(u64, u64)>,
}

impl Clock {
    /// A clock at time 0 and count 0.
    #[must_use]
    pub fn new(mode: ClockMode) -> Self {
        let rate = DETERMINISTIC_NS << FRACTION;
        Self { mode, base_time: 0, base_count: 0, rate, pace: Self::first_pace(), host_offset: None, slice: None }
    }

    fn first_pace() -> u64 {
        DETERMINISTIC_NS << FRACTION
    }

    /// Whether a clock from a snapshot of a machine at `count` instructions can be one.
    #[must_use]
    pub fn is_sound(&self, count: u64) -> bool {
        let limit = 1 << 60;
        count.saturating_sub(self.base_count).checked_mul(self.rate).is_some()
            && (1..=1 << 24).contains(&self.rate)
            && (1..=1 << 20).contains(&self.pace)
            && self.base_time < limit
            && self.base_count < limit
    }

    /// Forgets the host's time: the next slice tells it anew.
    pub fn forget_host(&mut self) {
        self.host_offset = None;
        self.slice = None;
    }

    /// Which clock this is.
    #[must_use]
    pub fn mode(&self) -> ClockMode {
        self.mode
    }

    /// Virtual time when `count` instructions have retired.
    #[inline]
    #[must_use]
    pub fn time_at(&self, count: u64) -> VirtTime {
        self.base_time + ((count.saturating_sub(self.base_count) * self.rate) >> FRACTION)
    }

    /// The first instruction count at which the time is at least `time`.
    #[must_use]
    pub fn count_at(&self, time: VirtTime) -> u64 {
        let span = time.saturating_sub(self.base_time);
        let count = (u128::from(span) << FRACTION).div_ceil(u128::from(self.rate));
        self.base_count.saturating_add(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Moves the clock forward to `time` while nothing executes (idle).
    pub fn skip_to(&mut self, count: u64, time: VirtTime) {
        let now = self.time_at(count);
        if time > now {
            self.base_time = time;
            self.base_count = count;
        }
    }

    /// Starts a slice at `count` instructions and host time `host` (nanoseconds, any origin). With `at_once` the time is
    /// put on the host's: the guest slept, or nobody will [`look`](Self::look).
    pub fn begin_slice(&mut self, count: u64, host: u64, at_once: bool) {
        if self.mode == ClockMode::Deterministic {
            return;
        }
        self.slice = Some((count, host));
        self.follow(count, host, at_once);
    }

    /// The count at which to look at the host's clock when it is `count` now.
    #[must_use]
    pub fn next_look(&self, count: u64) -> u64 {
        self.count_at(self.time_at(count) + LOOK_EVERY.0).min(count + LOOK_EVERY.1)
    }

    /// The host's time is `host` at `count` instructions, in the middle of a slice.
    pub fn look(&mut self, count: u64, host: u64) {
        if self.mode == ClockMode::Deterministic {
            return;
        }
        if self.learn(count, host) {
            self.slice = Some((count, host));
        }
        self.follow(count, host, false);
    }

    /// Ends the slice at `count` instructions and host time `host`. What passes between slices (sleep, other machines'
    /// turns) teaches nothing.
    pub fn end_slice(&mut self, count: u64, host: u64) {
        self.learn(count, host);
        self.slice = None;
    }

    /// Learns how long an instruction takes, from a stretch that did real work; whether it did.
    fn learn(&mut self, count: u64, host: u64) -> bool {
        let Some((begun, since)) = self.slice else { return false };
        let (executed, spent) = (count.saturating_sub(begun), host.saturating_sub(since));
        if executed <= LEARN_FROM {
            return false;
        }
        let pace = |span: u64| {
            let pace = (u128::from(span) << FRACTION) / u128::from(executed);
            pace.clamp(PACES.0.into(), PACES.1.into()) as u64
        };
        if spent < LEARN_SPAN {
            // Too short to tell the pace, but it is no slower than this.
            self.pace = self.pace.min(pace(spent + LEARN_SPAN));
            return false;
        }
        // Faster at once, and slower by and by.
        let pace = pace(spent);
        self.pace = if pace < self.pace { pace } else { (3 * self.pace + pace) / 4 };
        true
    }

    /// Puts the time on the host's, or has it run so that it gets there.
    fn follow(&mut self, count: u64, host: u64, at_once: bool) {
        let now = self.time_at(count);
        let Some(offset) = &mut self.host_offset else {
            self.host_offset = Some(i128::from(host) - i128::from(now));
            return;
        };
        let wall = u64::try_from(i128::from(host) - *offset).unwrap_or(0);
        let behind = wall.saturating_sub(now);
        let kept = behind.min(MAX_STEP);
        *offset += i128::from(behind - kept);
        let (step, lag) = if at_once { (kept, 0) } else { (0, kept) };
        self.base_time = now + step;
        self.base_count = count;
        // A little slow, so that time rarely runs ahead; time that did all but waits for the host, whatever the pace turns
        // out to be: a guest may go from slow work to fast a thousand times a second.
        let left = CATCH_UP.saturating_sub(now.saturating_sub(wall)).max(CATCH_UP / 256);
        let rate = u128::from(self.pace * 15 / 16) * u128::from(left) / u128::from(CATCH_UP);
        self.rate = (rate * u128::from(FOLLOW + lag) / u128::from(FOLLOW)).max(1) as u64;
    }

    /// The host's time at which the virtual time will be `time` if the guest sleeps until then. `None` with the
    /// deterministic clock, and before the first slice.
    #[must_use]
    pub fn host_time(&self, time: VirtTime) -> Option<u64> {
        self.host_offset.map(|offset| u64::try_from(i128::from(time) + offset).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deterministic_time_is_a_function_of_the_count() {
        let mut c = Clock::new(ClockMode::Deterministic);
        c.begin_slice(0, 5, true);
        assert_eq!(c.time_at(1000), 8000);
        assert_eq!(c.count_at(8000), 1000);
        assert_eq!(c.count_at(8001), 1001);
        c.skip_to(1000, 1_000_000);
        c.begin_slice(1000, 77, true);
        assert_eq!(c.time_at(1001), 1_000_008);
    }

    #[test]
    fn a_clock_whose_time_does_not_fit_is_none() {
        let c = Clock { rate: 1 << 24, ..Clock::new(ClockMode::Realtime) };
        assert!(c.is_sound(1 << 39));
        assert!(!c.is_sound(1 << 40) && !c.is_sound(1 << 59));
    }

    #[test]
    fn realtime_follows_the_host_and_never_goes_back() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 1_000_000, true);
        let mut last = 0;
        for i in 1..100u64 {
            // The host is sometimes fast and sometimes slow.
            let host = 1_000_000 + i * 4_000_000 + (i % 7) * 1_000_000;
            c.end_slice(i * 400_000, host);
            c.begin_slice(i * 400_000, host, true);
            let now = c.time_at(i * 400_000);
            assert!(now >= last);
            last = now;
        }
        let end = 1_000_000 + 99 * 4_000_000;
        assert!(last.abs_diff(end) < 20_000_000, "{last} {end}");
    }

    #[test]
    fn the_pace_is_that_of_slices_and_not_of_the_sleep_between_them() {
        let mut c = Clock::new(ClockMode::Realtime);
        for i in 0..100u64 {
            // 20,000 instructions in 200 us, then 10 ms of sleep.
            c.begin_slice(i * 20_000, i * 10_000_000, true);
            c.end_slice((i + 1) * 20_000, i * 10_000_000 + 200_000);
        }
        let slice = c.time_at(2_020_000) - c.time_at(2_000_000);
        assert!((150_000..=200_000).contains(&slice), "{slice}");
    }

    /// Runs for `host` nanoseconds of host time at `pace` nanoseconds an instruction, looking as the machine does.
    /// The largest distance of virtual from host time.
    fn drive(c: &mut Clock, count: &mut u64, host: &mut f64, span: f64, pace: f64) -> u64 {
        let end = *host + span;
        let mut most = 0;
        while *host < end {
            let next = c.next_look(*count);
            *host += (next - *count) as f64 * pace;
            *count = next;
            most = most.max(c.time_at(*count).abs_diff(*host as u64));
            // A browser's clock, in steps of 100 us.
            c.look(*count, *host as u64 / 100_000 * 100_000);
        }
        most
    }

    #[test]
    fn time_stays_with_the_host_when_the_guest_becomes_a_hundred_times_faster_and_slower() {
        let mut c = Clock::new(ClockMode::Realtime);
        let (mut count, mut host) = (0, 0.0);
        c.begin_slice(0, 0, true);
        drive(&mut c, &mut count, &mut host, 50e6, 40.0);
        for pace in [0.4, 40.0, 0.2, 8.0, 0.4] {
            let most = drive(&mut c, &mut count, &mut host, 100e6, pace);
            // Most instructions between two looks at the slowest pace.
            assert!(most <= 20_100_000, "{pace} ns: {most} ns away");
            let settled = drive(&mut c, &mut count, &mut host, 50e6, pace);
            assert!(settled < 1_500_000, "{pace} ns: {settled} ns away");
        }
    }

    #[test]
    fn a_guest_that_waits_for_its_turn_sees_time_pass_without_a_step() {
        let mut c = Clock::new(ClockMode::Realtime);
        let (mut count, mut host) = (0, 0.0);
        c.begin_slice(0, 0, true);
        drive(&mut c, &mut count, &mut host, 50e6, 10.0);
        for wait in [1e6, 30e6, 200e6] {
            c.end_slice(count, host as u64);
            let before = c.time_at(count);
            host += wait;
            c.begin_slice(count, host as u64, false);
            // Two readings of clocks are some hundred instructions apart: a microsecond here.
            assert_eq!(c.time_at(count), before);
            assert!(c.time_at(count + 100) - before < 150_000, "{wait}");
            drive(&mut c, &mut count, &mut host, 20e6, 10.0);
            let away = c.time_at(count).abs_diff(host as u64);
            assert!(away < 1_000_000, "{wait}: {away} ns away");
        }
    }

    #[test]
    fn time_does_not_run_away_from_a_guest_that_is_slow_and_fast_in_turns() {
        let mut c = Clock::new(ClockMode::Realtime);
        let (mut count, mut host) = (0, 0.0);
        c.begin_slice(0, 0, true);
        for _ in 0..300 {
            for pace in [100.0, 0.5] {
                let most = drive(&mut c, &mut count, &mut host, 1e6, pace);
                // Twice what passes between two looks at the slowest pace.
                assert!(most < 100_000_000, "{pace} ns: {most} ns away after {host} ns");
            }
        }
        assert!(c.time_at(count) < host as u64 + 2 * CATCH_UP, "{} {host}", c.time_at(count));
    }

    #[test]
    fn a_sleep_until_the_host_time_of_an_event_reaches_the_event() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 5_000_000, true);
        assert_eq!(Clock::new(ClockMode::Realtime).host_time(7), None);
        // A slice whose virtual time ran ahead of the host's.
        c.end_slice(1_000_000, 6_000_000);
        let event = c.time_at(1_000_000) + 3_000_000;
        let wake = c.host_time(event).expect("a slice has run");
        c.begin_slice(1_000_000, wake, true);
        assert_eq!(c.time_at(1_000_000), event);
    }

    #[test]
    fn a_long_sleep_is_not_replayed() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 0, true);
        c.begin_slice(0, 3_600 * SECOND, true);
        assert_eq!(c.time_at(0), MAX_STEP);
    }
}
