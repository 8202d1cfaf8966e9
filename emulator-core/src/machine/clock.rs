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
    /// Host time minus virtual time.
    host_offset: i128,
    /// Host time at the last slice start, and whether there was one.
    last_host: Option<u64>,
    last_count: u64,
}

impl Clock {
    /// A clock at time 0 and count 0.
    #[must_use]
    pub fn new(mode: ClockMode) -> Self {
        Self {
            mode,
            base_time: 0,
            base_count: 0,
            rate: DETERMINISTIC_NS << FRACTION,
            host_offset: 0,
            last_host: None,
            last_count: 0,
        }
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
        let Some(last) = self.last_host.replace(host) else {
            self.host_offset = i128::from(host) - i128::from(now);
            self.last_count = count;
            return;
        };
        let executed = count - self.last_count;
        self.last_count = count;
        let wall = u64::try_from(i128::from(host) - self.host_offset).unwrap_or(0);
        if wall > now {
            let step = (wall - now).min(MAX_STEP);
            self.host_offset += i128::from(wall - now - step);
            self.base_time = now + step;
        } else {
            self.base_time = now;
        }
        self.base_count = count;
        // Learn the pace of slices that did real work; stay a little slow so that time rarely runs ahead.
        if executed > 10_000 {
            let pace = (u128::from(host.saturating_sub(last)) << FRACTION) / u128::from(executed);
            let pace = (pace as u64).clamp(1 << (FRACTION - 1), 100 << FRACTION);
            self.rate = ((self.rate * 7 + pace * 7 / 8) / 8).max(1);
        }
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
            c.begin_slice(i * 400_000, host);
            let now = c.time_at(i * 400_000);
            assert!(now >= last);
            last = now;
        }
        let end = 1_000_000 + 99 * 4_000_000;
        assert!(last.abs_diff(end) < 20_000_000, "{last} {end}");
    }

    #[test]
    fn a_long_sleep_is_not_replayed() {
        let mut c = Clock::new(ClockMode::Realtime);
        c.begin_slice(0, 0);
        c.begin_slice(0, 3_600 * SECOND);
        assert_eq!(c.time_at(0), MAX_STEP);
    }
}
