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

/// Nanoseconds that an instruction counts as, whatever it took: what runs after a sleep finds cold caches, and a host
/// that has no time for a machine must not make it look busy.
const INSTRUCTION: VirtTime = 8;

/// Watches how idle a guest is and allows slack accordingly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimerSlack {
    limit: VirtTime,
    level: u64,
    window_start: VirtTime,
    /// Instructions retired at the first sleep of the window.
    count: Option<u64>,
}

impl TimerSlack {
    /// Sets the most slack, in nanoseconds; 0 makes all timers exact.
    pub fn set_limit(&mut self, limit: VirtTime) {
        self.limit = limit;
    }

    /// The guest slept until `now`, with `count` instructions retired.
    pub fn slept(&mut self, now: VirtTime, count: u64) {
        let executed = count.saturating_sub(*self.count.get_or_insert(count));
        let window = now.saturating_sub(self.window_start);
        if window >= WINDOW {
            let worked = executed.saturating_mul(INSTRUCTION);
            self.level = if worked <= window / WORK { (self.level + 1).min(LEVELS) } else { 0 };
            self.window_start = now;
            self.count = Some(count);
        }
    }

    /// Input came: what the guest does now is watched by somebody.
    pub fn disturb(&mut self, now: VirtTime) {
        self.level = 0;
        self.window_start = now;
        self.count = None;
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

    /// Ticks of 4 ms for a second, with so much work in each.
    fn second(slack: &mut TimerSlack, from: VirtTime, work: VirtTime) -> VirtTime {
        let count = |at: VirtTime| at / (4 * MS) * work / INSTRUCTION;
        // Some work was done before, at whatever pace.
        slack.count = slack.count.map(|_| count(from));
        for tick in 1..=250 {
            let now = from + tick * 4 * MS;
            slack.slept(now, count(now));
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
