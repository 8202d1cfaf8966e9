//! How late the timers of a sleeping guest may fire.
//!
//! A kernel that ticks 250 times a second although nothing happens costs a host several percent of a core, most of it
//! for waking up. While a guest has done next to nothing for seconds, its one-shot timers may fire a little late, so
//! that several of them share one wake-up: the timer slack of operating systems. A guest that works, or that got input
//! a moment ago, has exact timers.

use crate::time::{SECOND, VirtTime};

/// The span over which idleness is judged.
const WINDOW: VirtTime = SECOND;
/// A window counts as idle when at most one part in this many was work.
const WORK: u64 = 20;
/// Idle windows in a row until the whole slack is allowed.
const LEVELS: u64 = 3;

/// Watches how idle a guest is and allows slack accordingly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimerSlack {
    limit: VirtTime,
    level: u64,
    window_start: VirtTime,
    idle_in_window: VirtTime,
}

impl TimerSlack {
    /// Sets the most slack, in nanoseconds; 0 makes all timers exact.
    pub fn set_limit(&mut self, limit: VirtTime) {
        self.limit = limit;
    }

    /// The guest slept for `span`, until `now`.
    pub fn slept(&mut self, span: VirtTime, now: VirtTime) {
        self.idle_in_window += span;
        let window = now.saturating_sub(self.window_start);
        if window >= WINDOW {
            let worked = window.saturating_sub(self.idle_in_window);
            self.level = if worked <= window / WORK { (self.level + 1).min(LEVELS) } else { 0 };
            self.window_start = now;
            self.idle_in_window = 0;
        }
    }

    /// Input came: what the guest does now is watched by somebody.
    pub fn disturb(&mut self, now: VirtTime) {
        self.level = 0;
        self.window_start = now;
        self.idle_in_window = 0;
    }

    /// Whether the guest has done next to nothing for a while.
    #[must_use]
    pub fn idles(&self) -> bool {
        self.level > 0
    }

    /// The slack allowed now, in nanoseconds.
    #[must_use]
    pub fn now(&self) -> VirtTime {
        self.limit * self.level / LEVELS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: VirtTime = 1_000_000;

    /// Ticks of 4 ms for a second, of which `work` nanoseconds each are work.
    fn second(slack: &mut TimerSlack, from: VirtTime, work: VirtTime) -> VirtTime {
        for tick in 1..=250 {
            slack.slept(4 * MS - work, from + tick * 4 * MS);
        }
        from + SECOND
    }

    #[test]
    fn slack_grows_while_the_guest_idles_and_ends_with_work_or_input() {
        let mut slack = TimerSlack::default();
        slack.set_limit(9 * MS);
        let mut at = 0;
        let mut seen = vec![];
        for _ in 0..4 {
            at = second(&mut slack, at, MS / 10);
            seen.push(slack.now() / MS);
        }
        assert_eq!(seen, [3, 6, 9, 9]);
        at = second(&mut slack, at, MS);
        assert_eq!(slack.now(), 0, "a quarter of the time was work");
        assert!(!slack.idles());
        at = second(&mut slack, at, 0);
        assert_eq!(slack.now(), 3 * MS);
        slack.disturb(at);
        assert_eq!(slack.now(), 0);
    }

    #[test]
    fn without_a_limit_timers_are_exact() {
        let mut slack = TimerSlack::default();
        second(&mut slack, 0, 0);
        assert_eq!(slack.now(), 0);
    }
}
