//! Virtual time: integer nanoseconds since power-on, and the one queue of device events.
//!
//! No device reads a host clock. A device learns the time from its [`IoCtx`](crate::bus::IoCtx) and
//! asks to be woken with an [`EventId`]; the machine bounds each run slice by the earliest deadline.

use serde::{Deserialize, Serialize};

/// A point in virtual time, or a span of it, in nanoseconds since power-on.
pub type VirtTime = u64;

/// One second of virtual time.
pub const SECOND: VirtTime = 1_000_000_000;

/// A frequency in hertz, with drift-free conversions between ticks and virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hz(pub u64);

impl Hz {
    /// Whole ticks that have elapsed after `span` nanoseconds (rounded down).
    #[must_use]
    pub fn ticks(self, span: VirtTime) -> u64 {
        (u128::from(span) * u128::from(self.0) / u128::from(SECOND)) as u64
    }

    /// The first nanosecond at which `ticks` ticks have elapsed (rounded up, so that
    /// `hz.ticks(hz.time_of(n)) == n`).
    #[must_use]
    pub fn time_of(self, ticks: u64) -> VirtTime {
        (u128::from(ticks) * u128::from(SECOND)).div_ceil(u128::from(self.0.max(1))) as u64
    }
}

/// Every timer that a device can arm. One slot each: arming again moves the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "named after the device and its timer")]
pub enum EventId {
    PitChannel0,
    RtcPeriodic,
    RtcUpdate,
    RtcAlarm,
    Keyboard,
    Serial0,
    Serial1,
    Serial2,
    Serial3,
    IdePrimary,
    IdeSecondary,
    Floppy,
    VgaRetrace,
    PmTimer,
    Hpet0,
    Hpet1,
    Hpet2,
    Network,
    NetworkReceive,
    Sound,
    LocalApic0,
    LocalApic1,
    LocalApic2,
    LocalApic3,
    LocalApic4,
    LocalApic5,
    LocalApic6,
    LocalApic7,
    Scheduled0,
}

impl EventId {
    /// Number of event slots.
    pub const COUNT: usize = Self::Scheduled0 as usize + 1;
    /// All events in slot order.
    pub const ALL: [Self; Self::COUNT] = {
        use EventId::*;
        [
            PitChannel0,
            RtcPeriodic,
            RtcUpdate,
            RtcAlarm,
            Keyboard,
            Serial0,
            Serial1,
            Serial2,
            Serial3,
            IdePrimary,
            IdeSecondary,
            Floppy,
            VgaRetrace,
            PmTimer,
            Hpet0,
            Hpet1,
            Hpet2,
            Network,
            NetworkReceive,
            Sound,
            LocalApic0,
            LocalApic1,
            LocalApic2,
            LocalApic3,
            LocalApic4,
            LocalApic5,
            LocalApic6,
            LocalApic7,
            Scheduled0,
        ]
    };

    /// The timer of the local APIC of vCPU `n` (0 to 7).
    #[must_use]
    pub fn local_apic(n: usize) -> Self {
        Self::ALL[Self::LocalApic0 as usize + n.min(7)]
    }
}

/// Deadlines of all armed events. Ties fire in slot order, so a run is reproducible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQueue {
    deadlines: Vec<VirtTime>,
    /// Events of one-shot timers, a bit for each slot.
    one_shot: u64,
    earliest: VirtTime,
}

impl Default for EventQueue {
    fn default() -> Self {
        Self { deadlines: vec![VirtTime::MAX; EventId::COUNT], one_shot: 0, earliest: VirtTime::MAX }
    }
}

impl EventQueue {
    /// Arms `event` to fire at virtual time `at`, replacing an earlier arming.
    pub fn schedule(&mut self, event: EventId, at: VirtTime) {
        self.deadlines[event as usize] = at;
        self.one_shot &= !(1 << event as usize);
        self.refresh();
    }

    /// Arms the event of a one-shot timer. A guest that uses one reads a clock when it fires and programs the next, so
    /// the machine may let a sleeping guest oversleep it a little ([`earliest_with_slack`](Self::earliest_with_slack));
    /// a tick of a periodic timer that came late might be lost.
    pub fn schedule_one_shot(&mut self, event: EventId, at: VirtTime) {
        self.schedule(event, at);
        self.one_shot |= 1 << event as usize;
    }

    /// Disarms `event`.
    pub fn cancel(&mut self, event: EventId) {
        self.schedule(event, VirtTime::MAX);
    }

    /// When `event` fires, if it is armed.
    #[must_use]
    pub fn deadline(&self, event: EventId) -> Option<VirtTime> {
        Some(self.deadlines[event as usize]).filter(|&t| t != VirtTime::MAX)
    }

    /// The earliest deadline, `VirtTime::MAX` when nothing is armed.
    #[must_use]
    pub fn earliest(&self) -> VirtTime {
        self.earliest
    }

    /// When a sleeping guest must be woken if one-shot timers may fire `slack` nanoseconds late.
    #[must_use]
    pub fn earliest_with_slack(&self, slack: VirtTime) -> VirtTime {
        let late = |(slot, &at): (usize, &VirtTime)| {
            if self.one_shot >> slot & 1 != 0 { at.saturating_add(slack) } else { at }
        };
        self.deadlines.iter().enumerate().map(late).min().unwrap_or(VirtTime::MAX)
    }

    /// Disarms and returns the earliest event that is due at `now`.
    pub fn pop_due(&mut self, now: VirtTime) -> Option<EventId> {
        if self.earliest > now {
            return None;
        }
        let slot = self.deadlines.iter().position(|&t| t == self.earliest)?;
        self.deadlines[slot] = VirtTime::MAX;
        self.refresh();
        Some(EventId::ALL[slot])
    }

    /// Whether a queue from a snapshot has this version's events.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.deadlines.len() == EventId::COUNT && Some(self.earliest) == self.deadlines.iter().copied().min()
    }

    fn refresh(&mut self) {
        self.earliest = self.deadlines.iter().copied().min().unwrap_or(VirtTime::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_time_are_inverse_without_drift() {
        let pit = Hz(1_193_182);
        for n in [0, 1, 2, 3, 1000, 1_193_181, 1_193_182, 123_456_789_012] {
            assert_eq!(pit.ticks(pit.time_of(n)), n);
            assert!(n == 0 || pit.ticks(pit.time_of(n) - 1) == n - 1);
        }
    }

    #[test]
    fn events_fire_in_time_then_slot_order() {
        let mut q = EventQueue::default();
        q.schedule(EventId::Floppy, 10);
        q.schedule(EventId::PitChannel0, 10);
        q.schedule(EventId::Keyboard, 5);
        assert_eq!(q.pop_due(4), None);
        assert_eq!(q.pop_due(10), Some(EventId::Keyboard));
        assert_eq!(q.pop_due(10), Some(EventId::PitChannel0));
        q.schedule(EventId::Floppy, 11);
        assert_eq!(q.pop_due(10), None);
        q.cancel(EventId::Floppy);
        assert_eq!(q.earliest(), VirtTime::MAX);
    }

    #[test]
    fn only_one_shot_timers_have_slack() {
        let mut q = EventQueue::default();
        q.schedule_one_shot(EventId::LocalApic0, 10);
        assert_eq!((q.earliest(), q.earliest_with_slack(4)), (10, 14));
        q.schedule(EventId::PitChannel0, 12);
        assert_eq!((q.earliest(), q.earliest_with_slack(4)), (10, 12));
        q.cancel(EventId::PitChannel0);
        q.schedule(EventId::LocalApic0, 11);
        assert_eq!(q.earliest_with_slack(4), 11);
        q.cancel(EventId::LocalApic0);
        assert_eq!(q.earliest_with_slack(4), VirtTime::MAX);
    }

    #[test]
    fn event_table_matches_the_enum() {
        for (i, e) in EventId::ALL.iter().enumerate() {
            assert_eq!(*e as usize, i);
        }
    }
}
