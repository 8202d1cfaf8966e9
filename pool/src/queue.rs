//! The run queue: which VM a worker runs next, and how it sleeps when there is none.

use crate::share::{AFFINITY_US, ANSWER_US, BOOST_FOR_US, MOST_CREDIT_US, Priority, ROOM_EVERY_US, ROOM_US, SLICE_US};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::word::{ASKED, HOLD, STOP, State, WAKE, Word};
use crate::{VMS, WORKERS};
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// No deadline.
const NEVER: u64 = u64::MAX;

/// A VM in the queue.
#[derive(Debug)]
#[repr(C, align(64))]
struct Slot {
    word: AtomicU32,
    priority: AtomicU32,
    /// Workers that know the VM's memory, a bit each.
    attached: AtomicU32,
    /// CPU time used, in microseconds; written by the worker that runs the VM.
    virtual_time: AtomicU64,
    /// When a parked VM wants to run, in microseconds of the pool's clock.
    deadline: AtomicU64,
    /// Until when the VM is preferred because of input.
    boosted_until: AtomicU64,
    /// CPU time for which it is.
    answer: AtomicU64,
}

/// What a VM wants after a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To go on.
    Ready,
    /// To sleep until this time of the pool's clock, in microseconds; `None`: until it is woken.
    Parked(Option<u64>),
    /// Nothing any more.
    Stopped,
}

/// How a worker may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleep {
    /// The value of the worker's bell; if it has another, somebody rang meanwhile.
    pub bell: u32,
    /// Until when, in microseconds of the pool's clock; `None`: until the bell rings.
    pub until: Option<u64>,
}

/// The run queue. Its times are microseconds of one clock that page and workers share.
#[derive(Debug)]
#[repr(C)]
pub struct RunQueue {
    slots: [Slot; VMS],
    bells: [AtomicU32; WORKERS],
    /// Workers that sleep or are about to, a bit each.
    idle: AtomicU32,
    /// The sleeping worker that will wake for the deadlines, plus one; 0: nobody.
    keeper: AtomicU32,
    /// When it will wake; [`NEVER`] until it said so.
    keeper_until: AtomicU64,
    /// Least virtual time of those who want to run: who slept starts here, not with what he did not use.
    floor: AtomicU64,
    /// The visible VM that got input last, plus one; 0: nobody.
    asked: AtomicU32,
    /// Until when its answer has room, and when the next may have some.
    room_until: AtomicU64,
    room_again: AtomicU64,
}

impl Slot {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            priority: AtomicU32::new(0),
            attached: AtomicU32::new(0),
            virtual_time: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            boosted_until: AtomicU64::new(0),
            answer: AtomicU64::new(0),
        }
    }

    #[cfg(loom)]
    fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            priority: AtomicU32::new(0),
            attached: AtomicU32::new(0),
            virtual_time: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            boosted_until: AtomicU64::new(0),
            answer: AtomicU64::new(0),
        }
    }

    fn word(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    /// Changes the word as `change` says; `None` leaves it. Returns the old word if it was changed.
    fn change(&self, mut change: impl FnMut(Word) -> Option<Word>) -> Option<Word> {
        let mut word = self.word();
        loop {
            let next = change(word)?;
            match self.word.compare_exchange(word.0, next.0, AcqRel, Acquire) {
                Ok(_) => return Some(word),
                Err(other) => word = Word(other),
            }
        }
    }

    fn priority(&self) -> Priority {
        Priority::from_number(self.priority.load(Relaxed))
    }

    /// Workers that know the VM's memory, a bit each.
    fn attached(&self) -> u32 {
        self.attached.load(Relaxed)
    }

    fn knows(&self, worker: usize) -> bool {
        self.attached() >> worker & 1 != 0
    }

    /// Whether the VM, whose word this is, may and wants to run now.
    fn wants(&self, word: Word, now: u64) -> bool {
        let due = match word.state() {
            State::Ready => true,
            State::Parked => self.deadline.load(Relaxed) <= now,
            State::Running | State::Free | State::Stopped => false,
        };
        due && !word.has(HOLD | STOP)
    }

    /// What the VM is sorted by: its virtual time, which is at least `floor`, without what it may borrow now.
    fn rank(&self, floor: u64, now: u64) -> u64 {
        let priority = self.priority();
        let boost = if self.has_input(now) { priority.boost() } else { 0 };
        self.virtual_time.load(Relaxed).max(floor) + MOST_CREDIT_US - priority.lead() - boost
    }

    /// Whether the VM has input that it may not have answered yet.
    fn has_input(&self, now: u64) -> bool {
        self.answer.load(Relaxed) > 0 && now < self.boosted_until.load(Relaxed)
    }

    /// Whether the VM is parked with a deadline that some worker must watch; the deadline.
    fn alarm(&self) -> u64 {
        let word = self.word();
        if word.state() == State::Parked && !word.has(HOLD | STOP) { self.deadline.load(Relaxed) } else { NEVER }
    }
}

impl RunQueue {
    /// An empty queue.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; VMS],
            bells: [const { AtomicU32::new(0) }; WORKERS],
            idle: AtomicU32::new(0),
            keeper: AtomicU32::new(0),
            keeper_until: AtomicU64::new(NEVER),
            floor: AtomicU64::new(0),
            asked: AtomicU32::new(0),
            room_until: AtomicU64::new(0),
            room_again: AtomicU64::new(0),
        }
    }

    /// An empty queue, for one run of a model.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: core::array::from_fn(|_| Slot::new()),
            bells: core::array::from_fn(|_| AtomicU32::new(0)),
            idle: AtomicU32::new(0),
            keeper: AtomicU32::new(0),
            keeper_until: AtomicU64::new(NEVER),
            floor: AtomicU64::new(0),
            asked: AtomicU32::new(0),
            room_until: AtomicU64::new(0),
            room_again: AtomicU64::new(0),
        }
    }

    // --- the page's side ---

    /// Takes a free place for a VM, which is not started yet. Workers must [`attach`](Self::attach) before they can run
    /// it. `None` when all places are taken.
    pub fn add(&self) -> Option<usize> {
        self.slots.iter().position(|slot| {
            let taken =
                slot.change(|word| (word.state() == State::Free).then(|| word.renewed(State::Stopped).with(HOLD)));
            if taken.is_some() {
                slot.priority.store(0, Relaxed);
                slot.attached.store(0, Relaxed);
                slot.virtual_time.store(self.floor.load(Relaxed), Relaxed);
                slot.deadline.store(NEVER, Relaxed);
                slot.boosted_until.store(0, Relaxed);
                slot.answer.store(0, Relaxed);
                slot.change(|word| Some(word.without(HOLD)));
            }
            taken.is_some()
        })
    }

    /// Tells one VM of a place from the next one that gets the same place.
    #[must_use]
    pub fn generation(&self, vm: usize) -> u32 {
        self.slots[vm].word().generation()
    }

    /// Frees the place of a VM that the caller [`hold`](Self::hold)s and that does not run.
    pub fn remove(&self, vm: usize) {
        self.slots[vm].change(|word| Some(word.to(State::Free).without(HOLD | STOP | WAKE | ASKED)));
    }

    /// Says who looks at a VM.
    pub fn set_priority(&self, vm: usize, priority: Priority) {
        self.slots[vm].priority.store(priority as u32, Relaxed);
    }

    /// Wakes a VM: it has input. `interactive` input of a visible VM is answered first. Returns a worker whose bell was
    /// rung and who must be notified.
    pub fn wake(&self, vm: usize, now: u64, interactive: bool) -> Option<usize> {
        let slot = &self.slots[vm];
        let running = if interactive { WAKE | ASKED } else { WAKE };
        let old = slot.change(|word| match word.state() {
            State::Parked => Some(word.to(State::Ready)),
            State::Running => Some(word.with(running)),
            // Written although it is the same: the slice that follows then sees the input.
            State::Ready => Some(word),
            State::Free | State::Stopped => None,
        })?;
        if interactive {
            // After the word: a slice that ends meanwhile is not taken for an answer.
            slot.answer.store(ANSWER_US, Relaxed);
            slot.boosted_until.store(now + BOOST_FOR_US, Relaxed);
            if slot.priority() == Priority::Visible {
                self.make_room(vm, now);
            }
        }
        if old.state() == State::Parked { self.rouse_for(slot, old) } else { None }
    }

    /// The answer of a visible VM has room for a while, if the last one that had is some time ago.
    fn make_room(&self, vm: usize, now: u64) {
        self.asked.store(vm as u32 + 1, Relaxed);
        if now >= self.room_again.load(Relaxed) {
            self.room_until.store(now + ROOM_US, Relaxed);
            self.room_again.store(now + ROOM_EVERY_US, Relaxed);
        }
    }

    /// The visible VM that works on an answer to input, or wants to, while this has room: a processor fewer should be shared
    /// by VMs, so that the page, which shows the answer, has one.
    #[must_use]
    pub fn answering(&self, now: u64) -> Option<usize> {
        let vm = (self.asked.load(Relaxed) as usize).checked_sub(1)?;
        let slot = &self.slots[vm];
        let word = slot.word();
        let works = word.state() == State::Running || slot.wants(word, now);
        let room = now < self.room_until.load(Relaxed);
        (room && works && slot.priority() == Priority::Visible && slot.has_input(now)).then_some(vm)
    }

    /// Pauses a VM: no slice begins after this. It may still run one that has begun.
    pub fn stop(&self, vm: usize) {
        self.slots[vm].change(|word| Some(word.with(STOP)));
    }

    /// Lets a VM run, after [`stop`](Self::stop) or for the first time. Returns a worker to notify.
    pub fn resume(&self, vm: usize) -> Option<usize> {
        let slot = &self.slots[vm];
        let old = slot.change(|word| {
            let word = word.without(STOP);
            Some(match word.state() {
                State::Free | State::Ready => word,
                State::Stopped | State::Parked => word.to(State::Ready),
                State::Running => word.with(WAKE),
            })
        })?;
        if matches!(old.state(), State::Free | State::Running) { None } else { self.rouse_for(slot, old.without(STOP)) }
    }

    /// Wants a VM for oneself, between two slices. Returns whether the hold was taken: only one can have it. It is
    /// exclusive as soon as the VM is not [`running`](Self::running).
    pub fn hold(&self, vm: usize) -> bool {
        self.slots[vm]
            .change(|word| (!word.has(HOLD) && word.state() != State::Free).then(|| word.with(HOLD)))
            .is_some()
    }

    /// Whether there is a VM in this place.
    #[must_use]
    pub fn exists(&self, vm: usize) -> bool {
        self.slots[vm].word().state() != State::Free
    }

    /// Whether a worker runs a VM now.
    #[must_use]
    pub fn running(&self, vm: usize) -> bool {
        self.slots[vm].word().state() == State::Running
    }

    /// Ends a hold. Returns a worker to notify.
    pub fn release(&self, vm: usize) -> Option<usize> {
        let slot = &self.slots[vm];
        let old = slot.change(|word| Some(word.without(HOLD)))?;
        // A deadline may have passed unwatched.
        let waits = matches!(old.state(), State::Ready | State::Parked);
        if waits { self.rouse_for(slot, old.without(HOLD)) } else { None }
    }

    /// A worker died. The VM that it ran is stopped and returned: its state is unknown. All sleeping workers must be
    /// notified after this, and who waits on the VM's word.
    pub fn abandon(&self, worker: usize) -> Option<usize> {
        self.idle.fetch_and(!(1 << worker), SeqCst);
        self.retire(worker);
        let mut lost = None;
        for (vm, slot) in self.slots.iter().enumerate() {
            slot.attached.fetch_and(!(1 << worker), Relaxed);
            let stopped = slot.change(|word| {
                let its = word.state() == State::Running && word.worker() == worker;
                its.then(|| word.to(State::Stopped).without(WAKE | ASKED))
            });
            lost = lost.or(stopped.map(|_| vm));
        }
        while self.rouse(worker, || u32::MAX).is_some() {}
        lost
    }

    // --- the workers' side ---

    /// The worker has the VM's memory and can run it.
    pub fn attach(&self, worker: usize, vm: usize) {
        self.slots[vm].attached.fetch_or(1 << worker, Relaxed);
    }

    /// The worker begins no slice of the VM any more: it has not got its memory, or it is about to be ended.
    pub fn detach(&self, worker: usize, vm: usize) {
        self.slots[vm].attached.fetch_and(!(1 << worker), SeqCst);
        fence(SeqCst);
    }

    /// Whether a worker between two slices should rest for a moment, because another runs an answer that has room, and no
    /// more than `most` workers should run beside the page. Nobody rests where all VMs can run at a time. A worker that
    /// rests does not sleep: it looks again soon.
    #[must_use]
    pub fn rests(&self, most: usize, now: u64) -> bool {
        let Some(vm) = self.answering(now) else { return false };
        if self.slots[vm].word().state() != State::Running {
            return false;
        }
        let (mut running, mut waiting) = (0, 0);
        for slot in &self.slots {
            let word = slot.word();
            running += usize::from(word.state() == State::Running);
            waiting += usize::from(slot.wants(word, now));
        }
        running >= most && running + waiting > most + 1
    }

    /// Takes the VM that comes first, if one wants to run. The worker must give it back with [`done`](Self::done).
    pub fn next(&self, worker: usize, now: u64) -> Option<usize> {
        loop {
            let (vm, word) = self.first(worker, now)?;
            let slot = &self.slots[vm];
            let taken = word.to(State::Running).of(worker).without(WAKE | ASKED);
            if slot.word.compare_exchange(word.0, taken.0, AcqRel, Relaxed).is_err() {
                continue;
            }
            fence(SeqCst);
            if slot.knows(worker) {
                return Some(vm);
            }
            // Detached meanwhile: a worker that is about to be ended must not begin anything.
            slot.change(|word| Some(word.to(State::Ready)));
        }
    }

    /// Gives a VM back after a slice that took `used` microseconds. Returns whether somebody holds it, who must then be
    /// notified on the VM's word.
    pub fn done(&self, vm: usize, next: Next, used: u64) -> bool {
        let slot = &self.slots[vm];
        let time = slot.virtual_time.load(Relaxed).max(self.floor.load(Relaxed)) + used;
        slot.virtual_time.store(time, Relaxed);
        let deadline = if let Next::Parked(Some(at)) = next { at } else { NEVER };
        slot.deadline.store(deadline, Relaxed);
        let answer = slot.answer.load(Relaxed);
        let old = slot.change(|word| {
            if answer > 0 {
                let left = if word.has(ASKED) { ANSWER_US } else { answer.saturating_sub(used) };
                slot.answer.store(left, Relaxed);
            }
            let state = match next {
                Next::Stopped => State::Stopped,
                Next::Parked(_) if !word.has(WAKE) => State::Parked,
                Next::Ready | Next::Parked(_) => State::Ready,
            };
            Some(word.to(state).without(WAKE | ASKED))
        });
        old.is_some_and(|word| word.has(HOLD))
    }

    /// After every slice: rings a sleeping worker if there is work for it too. Returns whom to notify.
    pub fn share(&self, now: u64) -> Option<usize> {
        fence(SeqCst);
        if self.idle.load(SeqCst) == 0 {
            return None;
        }
        let (mut wanted, mut able) = (0, 0);
        for slot in self.slots.iter().filter(|slot| slot.wants(slot.word(), now)) {
            wanted += 1;
            able |= slot.attached();
        }
        match wanted {
            // The caller will sleep, and watch the deadlines itself.
            0 => None,
            1 => self.rouse_keeper(now),
            // One is for the caller.
            _ => self.rouse(0, || able),
        }
    }

    /// Prepares to sleep. `None`: there is a VM to run after all. Afterwards, whether the worker slept or not,
    /// [`awake`](Self::awake) must be called.
    pub fn sleep(&self, worker: usize, now: u64) -> Option<Sleep> {
        let bell = self.bells[worker].load(SeqCst);
        self.idle.fetch_or(1 << worker, SeqCst);
        // Whoever makes a VM ready looks at `idle` afterwards; we look at the VMs after we set it. One of us sees it.
        fence(SeqCst);
        if self.first(worker, now).is_some() {
            return None;
        }
        let known = || self.slots.iter().filter(|slot| slot.knows(worker));
        let mut alarm = known().map(Slot::alarm).min().unwrap_or(NEVER);
        if alarm != NEVER {
            if self.keeper.compare_exchange(0, worker as u32 + 1, AcqRel, Acquire).is_ok() {
                self.keeper_until.store(alarm, Release);
            } else {
                // What the keeper does not know, or wakes too late for.
                let left = known().map(|slot| (slot, slot.alarm())).filter(|(slot, at)| !self.watched(slot, *at));
                alarm = left.map(|(_, at)| at).min().unwrap_or(NEVER);
            }
        }
        Some(Sleep { bell, until: (alarm != NEVER).then_some(alarm) })
    }

    /// The worker is awake again.
    pub fn awake(&self, worker: usize) {
        self.idle.fetch_and(!(1 << worker), SeqCst);
        self.retire(worker);
    }

    /// Rings one worker's bell, for a message to it that was left before. It must be notified. The worker must look for
    /// messages after [`sleep`](Self::sleep) and before it waits: a message between its last look and `sleep` is not seen
    /// by the bell.
    pub fn ring(&self, worker: usize) {
        self.bells[worker].fetch_add(1, SeqCst);
    }

    /// The running VM that should end its turn early, where turns are longer than slices: the last in order, if one of a
    /// higher priority waits for this worker and comes before it.
    #[must_use]
    pub fn yields(&self, worker: usize, now: u64) -> Option<usize> {
        let (first, _) = self.first(worker, now)?;
        let floor = self.floor.load(Relaxed);
        let (priority, rank) = (self.slots[first].priority() as u32, self.slots[first].rank(floor, now));
        let running = self.slots.iter().enumerate().filter(|(_, slot)| slot.word().state() == State::Running);
        let behind = running.filter(|(_, slot)| (slot.priority() as u32) < priority && slot.rank(floor, now) > rank);
        behind.max_by_key(|(_, slot)| slot.rank(floor, now)).map(|(vm, _)| vm)
    }

    /// Address of a worker's bell, to wait on.
    #[cfg(not(loom))]
    #[must_use]
    pub fn bell_address(&self, worker: usize) -> usize {
        self.bells[worker].as_ptr() as usize
    }

    /// Address of a VM's word, to wait on while it runs.
    #[cfg(not(loom))]
    #[must_use]
    pub fn word_address(&self, vm: usize) -> usize {
        self.slots[vm].word.as_ptr() as usize
    }

    /// The worker keeps the deadlines no longer, if it did.
    fn retire(&self, worker: usize) {
        if self.keeper.load(Relaxed) == worker as u32 + 1 {
            // First the time, so that nobody relies on an alarm that passed.
            self.keeper_until.store(NEVER, Relaxed);
            self.keeper.store(0, Release);
        }
    }

    /// Whether the keeper will wake for this VM's deadline.
    fn watched(&self, slot: &Slot, deadline: u64) -> bool {
        let keeper = self.keeper.load(Acquire);
        keeper != 0 && slot.knows(keeper as usize - 1) && self.keeper_until.load(Acquire) <= deadline
    }

    /// Rings a sleeping worker if a deadline comes within the next slice and nobody watches it.
    fn rouse_keeper(&self, now: u64) -> Option<usize> {
        let soon = now.saturating_add(SLICE_US);
        let mut able = 0;
        for slot in &self.slots {
            let alarm = slot.alarm();
            if alarm <= soon && !slot.wants(slot.word(), now) && !self.watched(slot, alarm) {
                able |= slot.attached();
            }
        }
        // A keeper that would wake too late rather than a second one.
        let keeper = (self.keeper.load(Relaxed) as usize).saturating_sub(1);
        self.rouse(keeper, || able)
    }

    /// Rings a sleeping worker that can run the VM, whose word this is. Returns whom to notify.
    fn rouse_for(&self, slot: &Slot, word: Word) -> Option<usize> {
        if word.has(HOLD | STOP) { None } else { self.rouse(word.worker(), || slot.attached()) }
    }

    /// Rings the bell of one sleeping worker out of `able`, `preferred` if it sleeps. Returns whom to notify.
    fn rouse(&self, preferred: usize, able: impl Fn() -> u32) -> Option<usize> {
        fence(SeqCst);
        let mut idle = self.idle.load(SeqCst);
        loop {
            // After `idle`: what a worker attached before it slept is seen.
            let able = idle & able();
            if able == 0 {
                return None;
            }
            let worker = if able >> preferred & 1 != 0 { preferred } else { able.trailing_zeros() as usize };
            // Its bit goes, so that the next one rings another worker.
            match self.idle.compare_exchange(idle, idle & !(1 << worker), SeqCst, SeqCst) {
                Ok(_) => {
                    self.ring(worker);
                    return Some(worker);
                }
                Err(other) => idle = other,
            }
        }
    }

    /// The VM that comes first for this worker, with its word.
    fn first(&self, worker: usize, now: u64) -> Option<(usize, Word)> {
        let floor = self.floor.load(Relaxed);
        let mut least = NEVER;
        let mut best: Option<(u64, usize, Word)> = None;
        for (vm, slot) in self.slots.iter().enumerate() {
            let word = slot.word();
            let wants = slot.wants(word, now);
            // A VM that nobody can run must not hold the floor down.
            let runs = word.state() == State::Running && !word.has(HOLD | STOP);
            if slot.attached() == 0 || !(wants || runs) {
                continue;
            }
            let time = slot.virtual_time.load(Relaxed).max(floor);
            least = least.min(time);
            if !wants || !slot.knows(worker) {
                continue;
            }
            let stay = if word.worker() == worker { AFFINITY_US } else { 0 };
            let rank = slot.rank(floor, now) - stay;
            if best.is_none_or(|(r, ..)| rank < r) {
                best = Some((rank, vm, word));
            }
        }
        if least != NEVER {
            self.floor.fetch_max(least, Relaxed);
        }
        best.map(|(_, vm, word)| (vm, word))
    }
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}

// Two attributes: clippy knows tests by `cfg(test)` alone.
#[cfg(test)]
#[cfg(loom)]
mod model;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
