//! A simulated pool: virtual time, seeded chance, and each call of a worker's loop as an event of its own, so that
//! other workers and the page get between any two of them.

use super::trace::{Event as Traced, Figures, Limits, REST_US, What, check};
use super::*;
use crate::{SLICE_US, STARVATION_BOUND_US};
use std::collections::BinaryHeap;
use std::vec::Vec;
use std::{println, vec};

mod pages;
mod scenarios;

/// Longest time of one step of a worker, and of a notification.
const STEP_US: u64 = 20;
const NOTIFY_US: u64 = 60;
/// What steps and notifications add to the time in which a sleeping worker takes a VM.
const OVERHEAD_US: u64 = 2 * NOTIFY_US + 8 * STEP_US;

/// Sebastiano Vigna's SplitMix64.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }
}

/// What a guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Computes.
    Busy,
    /// Has a timer of this period that takes so long; both in microseconds.
    Ticking(u64, u64),
    /// Waits for input, which takes so long.
    Answering(u64),
    /// Sleeps and works for random times.
    Bursty,
    /// Powers itself off after some time.
    Ending,
}

#[derive(Debug)]
struct Vm {
    place: usize,
    generation: u32,
    guest: Guest,
    /// CPU time that it needs before it may sleep.
    work: u64,
    tick: Option<u64>,
    /// When unanswered keys came.
    keys: Vec<u64>,
    stopped: bool,
    /// Somebody holds it, or waits for it.
    held: bool,
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Next,
    End { vm: usize, used: u64 },
    Share,
    Sleep,
    Wait(Sleep),
    Awake,
}

#[derive(Debug, Default)]
struct Worker {
    /// Counts what can no longer happen: a step planned before a death, an alarm of an earlier sleep.
    epoch: u64,
    asleep: bool,
    dead: bool,
    runs: Option<usize>,
    /// VMs to attach, which the page told it.
    mail: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Step(usize, u64, Step),
    Rung(usize),
    Page(pages::Act),
}

/// Events by time, then in the order in which they were planned.
#[derive(Debug, PartialEq, Eq)]
struct Planned(u64, u64, Event);

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Pool {
    queue: Box<RunQueue>,
    chance: Chance,
    now: u64,
    plan: BinaryHeap<Planned>,
    planned: u64,
    workers: Vec<Worker>,
    /// All that ever lived; an index is the VM's number in the trace.
    vms: Vec<Vm>,
    trace: Vec<Traced>,
    /// From a key to the beginning of the slice that sees it.
    latencies: Vec<u64>,
    disturbance: pages::Disturbance,
}

impl Pool {
    fn new(workers: usize, guests: &[Guest], seed: u64, disturbance: pages::Disturbance) -> Self {
        let mut pool = Self {
            queue: Box::new(RunQueue::new()),
            chance: Chance(seed),
            now: 0,
            plan: BinaryHeap::new(),
            planned: 0,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            vms: vec![],
            trace: vec![],
            latencies: vec![],
            disturbance,
        };
        for worker in 0..workers {
            pool.step(worker, Step::Next);
        }
        for &guest in guests {
            pool.open(guest);
        }
        pool.disturb();
        pool
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.plan.push(Planned(at, self.planned, event));
    }

    fn record(&mut self, what: What) {
        self.trace.push((self.now, what));
    }

    /// Plans a worker's next step.
    fn step(&mut self, worker: usize, step: Step) {
        let at = self.now + self.chance.between(1, STEP_US);
        self.step_at(worker, at, step);
    }

    fn step_at(&mut self, worker: usize, at: u64, step: Step) {
        self.plan(at, Event::Step(worker, self.workers[worker].epoch, step));
    }

    /// Notifies a worker whose bell was rung.
    fn notify(&mut self, worker: Option<usize>) {
        if let Some(worker) = worker {
            let at = self.now + self.chance.between(NOTIFY_US / 3, NOTIFY_US);
            if self.workers[worker].asleep {
                self.plan(at, Event::Rung(worker));
            }
        }
    }

    fn run(&mut self, until: u64) {
        while let Some(Planned(at, ..)) = self.plan.peek()
            && *at <= until
            && let Some(Planned(at, _, event)) = self.plan.pop()
        {
            self.now = at;
            match event {
                Event::Step(worker, epoch, step) if epoch == self.workers[worker].epoch => self.work(worker, step),
                Event::Step(..) => {}
                Event::Rung(worker) => self.wake_up(worker),
                Event::Page(act) => self.act(act),
            }
        }
        self.now = until;
    }

    /// The worker's loop.
    fn work(&mut self, worker: usize, step: Step) {
        match step {
            Step::Next => {
                for vm in core::mem::take(&mut self.workers[worker].mail) {
                    let place = self.vms[vm].place;
                    if self.queue.generation(place) == self.vms[vm].generation {
                        self.queue.attach(worker, place);
                        self.record(What::Attached { vm, worker });
                    }
                }
                // As on a machine with as many processors as workers.
                if self.queue.rests(self.workers.len() - 1, self.now) {
                    self.record(What::Rests { worker });
                    return self.step_at(worker, self.now + REST_US, Step::Next);
                }
                match self.queue.next(worker, self.now) {
                    Some(place) => self.begin(worker, place),
                    None => self.step(worker, Step::Sleep),
                }
            }
            Step::End { vm, used } => self.end(worker, vm, used),
            Step::Share => {
                let roused = self.queue.share(self.now);
                self.notify(roused);
                self.step(worker, Step::Next);
            }
            Step::Sleep => match self.queue.sleep(worker, self.now) {
                Some(sleep) if self.workers[worker].mail.is_empty() => self.step(worker, Step::Wait(sleep)),
                _ => self.step(worker, Step::Awake),
            },
            // As a futex does: it sleeps only if nobody rang meanwhile.
            Step::Wait(sleep) if self.queue.bells[worker].load(SeqCst) != sleep.bell => self.step(worker, Step::Awake),
            Step::Wait(sleep) => {
                self.record(What::Asleep { worker });
                self.workers[worker].asleep = true;
                if let Some(until) = sleep.until {
                    self.step_at(worker, until.max(self.now), Step::Awake);
                }
            }
            Step::Awake if self.workers[worker].asleep => self.wake_up(worker),
            Step::Awake => {
                self.queue.awake(worker);
                self.step(worker, Step::Next);
            }
        }
    }

    fn wake_up(&mut self, worker: usize) {
        if self.workers[worker].asleep {
            self.record(What::Awake { worker });
            self.workers[worker].asleep = false;
            // The alarm, or the bell, is void.
            self.workers[worker].epoch += 1;
            self.step(worker, Step::Awake);
        }
    }

    fn begin(&mut self, worker: usize, place: usize) {
        let now = self.now;
        let number = self.vms.iter().position(|vm| vm.place == place && !vm.closed).expect("a VM in that place");
        self.record(What::Begin { vm: number, worker });
        let burst = self.chance.between(100, 40_000);
        let vm = &mut self.vms[number];
        let keys = core::mem::take(&mut vm.keys);
        let ticks = vm.tick.take_if(|tick| *tick <= now).is_some();
        match vm.guest {
            Guest::Busy => vm.work = u64::MAX / 2,
            Guest::Ticking(_, cost) => vm.work += cost * u64::from(ticks),
            Guest::Answering(cost) => vm.work += cost * keys.len() as u64,
            Guest::Bursty | Guest::Ending => vm.work += burst * u64::from(ticks),
        }
        let used = vm.work.clamp(5, SLICE_US);
        self.latencies.extend(keys.iter().map(|key| now - key));
        self.workers[worker].runs = Some(number);
        self.step_at(worker, now + used, Step::End { vm: number, used });
    }

    fn end(&mut self, worker: usize, number: usize, used: u64) {
        let gap = self.chance.between(100, 20_000);
        let off = self.chance.between(1, 100) == 1;
        let vm = &mut self.vms[number];
        vm.work = vm.work.saturating_sub(used);
        let next = match vm.guest {
            _ if vm.work > 0 => Next::Ready,
            Guest::Ending if off => Next::Stopped,
            Guest::Ticking(period, _) => {
                // A timer of fixed rate: what was missed is not made up for.
                let tick = *vm.tick.get_or_insert((self.now / period + 1) * period);
                Next::Parked(Some(tick))
            }
            Guest::Bursty | Guest::Ending => Next::Parked(Some(*vm.tick.get_or_insert(self.now + gap))),
            Guest::Busy | Guest::Answering(_) => Next::Parked(None),
        };
        self.workers[worker].runs = None;
        self.record(What::End { vm: number, worker, next });
        let held = self.queue.done(self.vms[number].place, next, used);
        if held {
            self.holder_notified(number);
        }
        if next == Next::Stopped {
            self.powered_off(number);
        }
        self.step(worker, Step::Share);
    }

    fn check(&self, beside_sleeper: u64, starvation: u64, workers: u64) -> Figures {
        match check(&self.trace, Limits { beside_sleeper, starvation, workers }) {
            Ok(figures) => figures,
            Err(wrong) => panic!("{wrong}"),
        }
    }
}
