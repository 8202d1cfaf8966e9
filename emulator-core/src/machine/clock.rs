//! From retired instructions to virtual time.
//!
//! Inside a run slice virtual time is a linear function of the instruction count. The deterministic clock
//! never looks at the host; the realtime clock is put on the host's time at the start of each slice and
//! learns how long an instruction takes.

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
/// Longest step with which the realtime clock follows the host (a page that was asleep does not replay hours).
const MAX_STEP: VirtTime = SECOND / 4;

/// The machine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    mode: ClockMode,
    base_time: VirtTime,
    base_count: u64,
    /// Nanoseconds per instruction, [`FRACTION`] fraction bits.
    rate: u64,
    /// Host time minus virtual time, once a slice told the host's time.
    host_offset: Option<i128>,
    /// Count and host time at the start of a slice whose end was not told yet.
    slice: Option<(u64, u64)>,
}

impl Clock {
    /// A clock at time 0 and count 0.
    #[must_use]
    pub fn new(mode: ClockMode) -> Self {
        Self { mode, base_time: 0, base_count: 0, rate: DETERMINISTIC_NS << FRACTION, host_offset: None, slice: None }
    }

    /// Whether a clock from a snapshot can be one.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let limit = 1 << 60;
        (1..=1 << 20).contains(&self.rate) && self.base_time < limit && self.base_count < limit
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

    /// Starts a slice at `count` instructions and host time `host` (nanoseconds, any origin).
    pub fn begin_slice(&mut self, count: u64, host: u64) {
        if self.mode == ClockMode::Deterministic {
            return;
        }
        let now = self.time_at(count);
        self.slice = Some((count, host));
        let Some(offset) = &mut self.host_offset else {
            self.host_offset = Some(i128::from(host) - i128::from(now));
            return;
        };
        let wall = u64::try_from(i128::from(host) - *offset).unwrap_or(0);
        // Time that ran ahead of the host waits for it.
        let ahead = wall.saturating_sub(now);
        let step = ahead.min(MAX_STEP);
        *offset += i128::from(ahead - step);
        self.base_time = now + step;
        self.base_count = count;
    }

    /// Ends the slice at `count` instructions and host time `host`: from slices that did real work the clock learns how
    /// long an instruction takes. What passes between slices (sleep, other machines' turns) teaches nothing.
    pub fn end_slice(&mut self, count: u64, host: u64) {
        let Some((begun, since)) = self.slice.take() else { return };
        let executed = count.saturating_sub(begun);
        if executed > LEARN_FROM {
            let pace = (u128::from(host.saturating_sub(since)) << FRACTION) / u128::from(executed);
            let pace = pace.clamp(1 << (FRACTION - 1), 100 << FRACTION) as u64;
            // A little slow, so that time rarely runs ahead.
            let rate = ((self.rate * 7 + pace * 7 / 8) / 8).max(1);
            // The time of this very moment must not change.
            self.base_time = self.time_at(count);
            self.base_count = count;
            self.rate = rate;
        }
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
        c.begin_slice(0, 5);
        assert_eq!(c.time_at(1000), 8000);
        assert_eq!(c.count_at(8000), 1000);
        assert_eq!(c.count_at(8001), 1001);
        c.skip_to(1000, 1_000_000);
        c.begin_slice(1000, 77);
        assert_eq!(c.time_at(1001), 1_000_008);
    }

    #[test]
    fn realtime_follows_the_host_and_never_goes_back() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 1_000_000);
        let mut last = 0;
        for i in 1..100u64 {
            // The host is sometimes fast and sometimes slow.
            let host = 1_000_000 + i * 4_000_000 + (i % 7) * 1_000_000;
            c.end_slice(i * 400_000, host);
            c.begin_slice(i * 400_000, host);
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
            c.begin_slice(i * 20_000, i * 10_000_000);
            c.end_slice((i + 1) * 20_000, i * 10_000_000 + 200_000);
        }
        let slice = c.time_at(2_020_000) - c.time_at(2_000_000);
        assert!((150_000..=200_000).contains(&slice), "{slice}");
    }

    #[test]
    fn a_sleep_until_the_host_time_of_an_event_reaches_the_event() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 5_000_000);
        assert_eq!(Clock::new(ClockMode::Realtime).host_time(7), None);
        // A slice whose virtual time ran ahead of the host's.
        c.end_slice(1_000_000, 6_000_000);
        let event = c.time_at(1_000_000) + 3_000_000;
        let wake = c.host_time(event).expect("a slice has run");
        c.begin_slice(1_000_000, wake);
        assert_eq!(c.time_at(1_000_000), event);
    }

    #[test]
    fn a_long_sleep_is_not_replayed() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 0);
        c.begin_slice(0, 3_600 * SECOND);
        assert_eq!(c.time_at(0), MAX_STEP);
    }
}
