//! The queue under real threads: no VM in two hands, no wake-up and no deadline lost.
//!
//! What a slice reads and writes is relaxed on purpose: the queue must order it.

use super::simulation::Chance;
use super::*;
use core::sync::atomic::{AtomicBool, AtomicUsize};
use std::println;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

const EVENTS: u64 = 1_000_000;
const THREADS: usize = 3;
const PAGES: usize = 2;
/// The last [`TICKING`] of them have a timer.
const GUESTS: usize = 6;
const TICKING: usize = 2;
/// Nothing takes so long but what is lost.
const LOST: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Vm {
    /// Somebody works on it: 1 for each.
    hands: AtomicUsize,
    /// Not atomic in what is done to it: lost updates show that two worked on it, or one did not see the other's work.
    worked: AtomicU64,
    /// How often it was worked on.
    count: AtomicU64,
    ticks: AtomicU64,
    /// Inputs of each page, and how many of them a slice saw.
    asked: [AtomicU64; PAGES],
    answered: [AtomicU64; PAGES],
}

impl Vm {
    fn work(&self) {
        assert_eq!(self.hands.fetch_add(1, Relaxed), 0, "two work on it");
        self.worked.store(self.worked.load(Relaxed) + 1, Relaxed);
        self.count.fetch_add(1, Relaxed);
        assert_eq!(self.hands.fetch_sub(1, Relaxed), 1, "two work on it");
    }
}

/// What a worker sleeps on, as on a futex.
#[derive(Default)]
struct Bed {
    lock: Mutex<()>,
    notified: Condvar,
}

struct Pool {
    queue: Box<RunQueue>,
    vms: [Vm; GUESTS],
    beds: [Bed; THREADS],
    events: AtomicU64,
    sleeps: AtomicU64,
    over: AtomicBool,
    start: Instant,
}

impl Pool {
    fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn notify(&self, worker: Option<usize>) {
        if let Some(worker) = worker {
            drop(self.beds[worker].lock.lock().expect("no panic under the lock"));
            self.beds[worker].notified.notify_one();
        }
    }

    fn wait(&self, worker: usize, sleep: Sleep) {
        let guard = self.beds[worker].lock.lock().expect("no panic under the lock");
        if self.queue.bells[worker].load(SeqCst) == sleep.bell {
            self.sleeps.fetch_add(1, Relaxed);
            let time = sleep.until.map_or(2 * LOST, |until| Duration::from_micros(until.saturating_sub(self.now())));
            drop(self.beds[worker].notified.wait_timeout(guard, time).expect("no panic under the lock"));
        }
    }

    fn worker(&self, worker: usize) {
        let mut chance = Chance(worker as u64);
        while !self.over.load(Relaxed) {
            match self.queue.next(worker, self.now()) {
                Some(vm) => {
                    let next = self.slice(vm, &mut chance);
                    self.events.fetch_add(1, Relaxed);
                    self.queue.done(vm, next, chance.between(1, 100));
                    self.notify(self.queue.share(self.now()));
                }
                None => {
                    if let Some(sleep) = self.queue.sleep(worker, self.now())
                        && !self.over.load(Relaxed)
                    {
                        self.wait(worker, sleep);
                    }
                    self.queue.awake(worker);
                }
            }
        }
    }

    fn slice(&self, number: usize, chance: &mut Chance) -> Next {
        let vm = &self.vms[number];
        let asked: Vec<u64> = vm.asked.iter().map(|asked| asked.load(Relaxed)).collect();
        vm.work();
        for (answered, asked) in vm.answered.iter().zip(asked) {
            answered.store(asked, Relaxed);
        }
        vm.ticks.fetch_add(1, Relaxed);
        match chance.between(0, 7) {
            0 => Next::Ready,
            _ if number >= GUESTS - TICKING => Next::Parked(Some(self.now() + chance.between(0, 200))),
            _ => Next::Parked(None),
        }
    }

    fn page(&self, page: usize) {
        let mut chance = Chance(100 + page as u64);
        while self.events.load(Relaxed) < EVENTS && !self.over.load(Relaxed) {
            for _ in 0..chance.between(1, 30) {
                self.disturb(page, chance.between(0, GUESTS as u64 - 1) as usize, chance.between(0, 99));
            }
            self.settle(page);
        }
    }

    fn disturb(&self, page: usize, number: usize, what: u64) {
        let (queue, vm) = (&self.queue, &self.vms[number]);
        match what {
            0..4 => {
                queue.stop(number);
                self.notify(queue.resume(number));
            }
            4..20 => {
                if queue.hold(number) {
                    while queue.running(number) {
                        thread::yield_now();
                    }
                    vm.work();
                    self.notify(queue.release(number));
                }
            }
            _ => {
                vm.asked[page].store(vm.asked[page].load(Relaxed) + 1, Relaxed);
                self.notify(queue.wake(number, self.now(), what & 1 == 0));
            }
        }
        self.events.fetch_add(1, Relaxed);
    }

    /// Waits until all input was seen and all timers ran.
    fn settle(&self, page: usize) {
        let ticks: [u64; GUESTS] = core::array::from_fn(|vm| self.vms[vm].ticks.load(Relaxed));
        let since = Instant::now();
        let settled = || {
            self.vms.iter().enumerate().all(|(n, vm)| {
                let seen = vm.answered[page].load(Relaxed) == vm.asked[page].load(Relaxed);
                seen && (n < GUESTS - TICKING || vm.ticks.load(Relaxed) > ticks[n])
            })
        };
        while !settled() && !self.over.load(Relaxed) {
            assert!(since.elapsed() < LOST, "a wake-up or a deadline was lost: {:?}", self.queue);
            thread::yield_now();
        }
    }

    /// Ends all threads, also when one of them panics.
    fn finish(&self) {
        self.over.store(true, SeqCst);
        for worker in 0..THREADS {
            self.queue.ring(worker);
            self.notify(Some(worker));
        }
    }
}

struct Finish<'a>(&'a Pool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

#[test]
fn a_million_events_of_real_threads() {
    let pool = Pool {
        queue: started(THREADS, GUESTS),
        vms: Default::default(),
        beds: Default::default(),
        events: AtomicU64::new(0),
        sleeps: AtomicU64::new(0),
        over: AtomicBool::new(false),
        start: Instant::now(),
    };
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let pool = &pool;
            scope.spawn(move || {
                // Only a worker that panics ends here before all is over.
                let _finish = Finish(pool);
                pool.worker(worker);
            });
        }
        let pages: Vec<_> = (0..PAGES)
            .map(|page| {
                let pool = &pool;
                scope.spawn(move || {
                    let finish = Finish(pool);
                    pool.page(page);
                    // The other page may still wait for answers.
                    if !thread::panicking() {
                        core::mem::forget(finish);
                    }
                })
            })
            .collect();
        let done: Vec<bool> = pages.into_iter().map(|page| page.join().is_ok()).collect();
        pool.finish();
        assert!(done.into_iter().all(|done| done), "a page saw what must not be");
    });
    for vm in &pool.vms {
        assert_eq!(vm.worked.load(Relaxed), vm.count.load(Relaxed), "two worked on a VM at the same time");
    }
    let (events, sleeps) = (pool.events.load(Relaxed), pool.sleeps.load(Relaxed));
    println!("{events} events, workers slept {sleeps} times, {} ms", pool.start.elapsed().as_millis());
    assert!(events >= EVENTS);
    assert!(sleeps > 1_000, "nobody slept: {sleeps}");
}
