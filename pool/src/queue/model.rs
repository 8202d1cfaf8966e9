//! Models of the queue for loom, which runs every interleaving and every value that a load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p tab86-pool --release --target-dir target/loom`, or `cargo xtask test --only
//! model`. Loom takes sequentially consistent accesses for acquire and release ones, but knows the fences.
//!
//! It does not know that a load may be delayed until after a later store, so that no model can tell a release store after
//! reads (of a ring's head) from a relaxed one.
//!
//! A model cannot block. A worker that sleeps ends its thread instead; it is stuck if nobody rang its bell until all
//! threads ended, and then nothing may be left to do.

use super::*;
use loom::sync::Arc;
use loom::thread;

/// Runs a model with at most so many preemptions; without a bound some would take hours.
fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

/// The queue, and what page and slices share of each VM. That is relaxed: the queue must order it.
struct Pool {
    queue: RunQueue,
    input: [AtomicU32; VMS],
    seen: [AtomicU32; VMS],
    /// Read and written in two steps: only one at a time may.
    work: [AtomicU32; VMS],
}

impl Pool {
    /// VMs that all workers know, ready.
    fn new(vms: usize) -> Arc<Self> {
        let queue = RunQueue::new();
        for vm in 0..vms {
            assert_eq!(queue.add(), Some(vm));
            (0..WORKERS).for_each(|worker| queue.attach(worker, vm));
            queue.resume(vm);
        }
        let words = || core::array::from_fn(|_| AtomicU32::new(0));
        Arc::new(Self { queue, input: words(), seen: words(), work: words() })
    }

    /// The same, parked.
    fn parked(deadlines: &[Option<u64>]) -> Arc<Self> {
        let pool = Self::new(deadlines.len());
        for _ in deadlines {
            let vm = pool.queue.next(0, 0).unwrap();
            pool.queue.done(vm, Next::Parked(deadlines[vm]), 0);
        }
        pool
    }

    fn work(&self, vm: usize) {
        self.work[vm].store(self.work[vm].load(Relaxed) + 1, Relaxed);
    }

    fn worked(&self, vm: usize) -> u32 {
        self.work[vm].load(Relaxed)
    }

    fn ask(&self, vm: usize) {
        self.input[vm].store(1, Relaxed);
        self.queue.wake(vm, 0, false);
    }

    /// A slice that sees the input and then parks.
    fn slice(&self, vm: usize) {
        let input = self.input[vm].load(Relaxed);
        self.work(vm);
        self.seen[vm].store(input, Relaxed);
        self.queue.done(vm, Next::Parked(None), 0);
    }

    /// A worker's loop until it sleeps. Returns how, or `None` if it did not in so many rounds.
    fn worker(&self, worker: usize, rounds: usize) -> Option<Sleep> {
        for _ in 0..rounds {
            if let Some(vm) = self.queue.next(worker, 0) {
                self.slice(vm);
                self.queue.share(0);
                continue;
            }
            if let Some(sleep) = self.queue.sleep(worker, 0) {
                return Some(sleep);
            }
            self.queue.awake(worker);
        }
        None
    }

    /// Whether a worker sleeps on: it did, and nobody rang.
    fn stuck(&self, worker: usize, sleep: Option<Sleep>) -> bool {
        sleep.is_some_and(|sleep| self.queue.bells[worker].load(SeqCst) == sleep.bell)
    }

    /// Whether a VM may and wants to run, or has input that no slice saw.
    fn waits(&self, vm: usize) -> bool {
        let slot = &self.queue.slots[vm];
        slot.wants(slot.word(), 0) || self.input[vm].load(Relaxed) != self.seen[vm].load(Relaxed)
    }
}

#[test]
fn a_wake_beside_a_worker_that_goes_to_sleep() {
    model(3, || {
        let pool = Pool::parked(&[None]);
        let page = pool.clone();
        let page = thread::spawn(move || page.ask(0));
        let sleep = pool.worker(0, 3);
        page.join().unwrap();
        assert!(!(pool.waits(0) && pool.stuck(0, sleep)), "the wake-up was lost");
    });
}

#[test]
fn a_wake_beside_a_slice_that_parks() {
    model(3, || {
        let pool = Pool::new(1);
        let page = pool.clone();
        // The VM is ready, runs or is parked when the input comes.
        let page = thread::spawn(move || page.ask(0));
        let sleep = pool.worker(0, 4);
        page.join().unwrap();
        assert!(!(pool.waits(0) && pool.stuck(0, sleep)), "the input was not seen");
    });
}

#[test]
fn a_key_beside_the_end_of_a_slice() {
    model(3, || {
        let pool = Pool::new(1);
        assert_eq!(pool.queue.next(0, 0), Some(0));
        // From an earlier key.
        pool.queue.slots[0].answer.store(1, Relaxed);
        let page = pool.clone();
        let page = thread::spawn(move || page.queue.wake(0, 0, true));
        pool.queue.done(0, Next::Ready, 1);
        page.join().unwrap();
        assert_eq!(pool.queue.slots[0].answer.load(Relaxed), ANSWER_US, "the slice had not seen the key");
    });
}

#[test]
fn a_resume_beside_a_slice_that_parks() {
    model(3, || {
        let pool = Pool::new(1);
        let page = pool.clone();
        let page = thread::spawn(move || {
            page.queue.stop(0);
            page.input[0].store(1, Relaxed);
            page.queue.resume(0);
        });
        let sleep = pool.worker(0, 4);
        page.join().unwrap();
        assert!(!(pool.waits(0) && pool.stuck(0, sleep)), "the input was not seen");
    });
}

#[test]
fn two_wakes_beside_two_workers() {
    model(1, || {
        let pool = Pool::parked(&[None, None]);
        let page = pool.clone();
        let page = thread::spawn(move || {
            page.ask(0);
            page.ask(1);
        });
        let other = pool.clone();
        let other = thread::spawn(move || other.worker(1, 2));
        let sleeps = [pool.worker(0, 2), other.join().unwrap()];
        page.join().unwrap();
        let waiting = pool.waits(0) || pool.waits(1);
        let stuck = |worker: usize| pool.stuck(worker, sleeps[worker]);
        assert!(!(waiting && stuck(0) && stuck(1)), "both workers sleep");
    });
}

#[test]
fn a_hold_beside_a_worker() {
    model(3, || {
        let pool = Pool::new(1);
        let page = pool.clone();
        let page = thread::spawn(move || {
            assert!(page.queue.hold(0));
            let mine = !page.queue.running(0);
            if mine {
                page.work(0);
            }
            page.queue.release(0);
            u32::from(mine)
        });
        let mut slices = 0;
        for _ in 0..2 {
            if pool.queue.next(0, 0).is_some() {
                pool.work(0);
                slices += 1;
                pool.queue.done(0, Next::Ready, 0);
            }
        }
        let held = page.join().unwrap();
        assert_eq!(pool.worked(0), slices + held, "both had it");
    });
}

#[test]
fn a_hold_that_waits_is_told() {
    model(3, || {
        let pool = Pool::new(1);
        assert_eq!(pool.queue.next(0, 0), Some(0));
        let page = pool.clone();
        let page = thread::spawn(move || {
            assert!(page.queue.hold(0));
            page.queue.running(0)
        });
        pool.work(0);
        let told = pool.queue.done(0, Next::Ready, 0);
        let waits = page.join().unwrap();
        assert!(told || !waits, "who holds it waits for ever");
        assert_eq!(pool.queue.next(0, 0), None);
    });
}

#[test]
fn a_release_beside_a_worker_that_goes_to_sleep() {
    model(3, || {
        let pool = Pool::new(1);
        assert!(pool.queue.hold(0));
        let page = pool.clone();
        let page = thread::spawn(move || {
            page.work(0);
            page.queue.release(0);
        });
        let sleep = pool.worker(0, 3);
        page.join().unwrap();
        assert!(!(pool.waits(0) && pool.stuck(0, sleep)), "the end of the hold was not seen");
        assert!(pool.worked(0) == 2 || pool.waits(0), "the slice did not see what the holder did");
    });
}

#[test]
fn two_workers_that_pick() {
    model(3, || {
        let pool = Pool::new(2);
        let other = pool.clone();
        let turns = |pool: &Pool, worker| {
            let mut got = [0; VMS];
            if let Some(vm) = pool.queue.next(worker, 0) {
                pool.work(vm);
                got[vm] += 1;
                pool.queue.done(vm, Next::Ready, 1);
            }
            got
        };
        let other = thread::spawn(move || turns(&other, 1));
        let (mine, theirs) = (turns(&pool, 0), other.join().unwrap());
        for vm in 0..VMS {
            assert_eq!(pool.worked(vm), mine[vm] + theirs[vm], "both ran VM {vm}");
        }
        assert_eq!(mine.iter().chain(&theirs).sum::<u32>(), 2, "there is one for each");
    });
}

#[test]
fn a_close_beside_a_worker() {
    model(3, || {
        let pool = Pool::new(1);
        let page = pool.clone();
        let page = thread::spawn(move || {
            let generation = page.queue.generation(0);
            assert!(page.queue.hold(0));
            if page.queue.running(0) {
                page.queue.release(0);
                return 0;
            }
            page.queue.remove(0);
            page.work(0);
            // The next one in the same place, which worker 0 does not know.
            assert_eq!(page.queue.add(), Some(0));
            assert_ne!(page.queue.generation(0), generation);
            page.queue.resume(0);
            1
        });
        let before = pool.queue.next(0, 0);
        if before.is_some() {
            pool.work(0);
            pool.queue.done(0, Next::Ready, 0);
        }
        let closed = page.join().unwrap();
        assert_eq!(pool.worked(0), closed + u32::from(before.is_some()), "it was closed while it ran");
        assert_eq!(pool.queue.next(0, 0).is_none(), closed == 1, "the new VM is not the worker's");
    });
}

/// Who of two sleeping workers wakes first by itself, if nobody rang one.
fn first_alarm(pool: &Pool, sleeps: [Option<Sleep>; 2]) -> Option<u64> {
    let rung = (0..2).any(|worker| !pool.stuck(worker, sleeps[worker]));
    if rung { Some(0) } else { sleeps.iter().flatten().filter_map(|sleep| sleep.until).min() }
}

#[test]
fn two_workers_that_go_to_sleep_watch_the_first_deadline() {
    model(3, || {
        let pool = Pool::parked(&[Some(20), None]);
        pool.queue.wake(1, 0, false);
        assert_eq!(pool.queue.next(1, 0), Some(1));
        let other = pool.clone();
        // Worker 1 parks a VM with an earlier deadline than what worker 0 may have seen.
        let other = thread::spawn(move || {
            other.queue.done(1, Next::Parked(Some(10)), 0);
            other.queue.sleep(1, 0)
        });
        let sleeps = [pool.queue.sleep(0, 0), other.join().unwrap()];
        assert!(first_alarm(&pool, sleeps).is_some_and(|at| at <= 10), "nobody watches: {sleeps:?}");
    });
}

#[test]
fn a_keeper_hands_over() {
    model(3, || {
        let pool = Pool::parked(&[Some(10)]);
        assert_eq!(pool.queue.sleep(0, 0).and_then(|sleep| sleep.until), Some(10));
        let other = pool.clone();
        let other = thread::spawn(move || other.queue.sleep(1, 0));
        // It was rung for nothing, and sleeps again.
        pool.queue.awake(0);
        let sleeps = [pool.worker(0, 2), other.join().unwrap()];
        assert_eq!(first_alarm(&pool, sleeps), Some(10), "nobody watches: {sleeps:?}");
    });
}

#[test]
fn a_busy_keeper_finds_another() {
    model(2, || {
        let pool = Pool::parked(&[Some(10), None]);
        assert_eq!(pool.queue.sleep(0, 0).and_then(|sleep| sleep.until), Some(10));
        let other = pool.clone();
        let other = thread::spawn(move || other.queue.sleep(1, 0));
        // It was rung for a VM that goes on and on.
        pool.queue.wake(1, 0, false);
        pool.queue.awake(0);
        let mine = pool.queue.next(0, 0) == Some(1);
        if mine {
            pool.queue.done(1, Next::Ready, 0);
            pool.queue.share(0);
        }
        let sleep = other.join().unwrap();
        let watched = !pool.stuck(1, sleep) || sleep.and_then(|sleep| sleep.until) == Some(10);
        assert!(watched, "nobody watches: {sleep:?}");
        assert!(mine || sleep.is_none());
    });
}

#[test]
fn a_keeper_dies() {
    model(3, || {
        let pool = Pool::parked(&[Some(10)]);
        assert_eq!(pool.queue.sleep(0, 0).and_then(|sleep| sleep.until), Some(10));
        let page = pool.clone();
        let page = thread::spawn(move || {
            page.queue.abandon(0);
        });
        let sleep = pool.queue.sleep(1, 0);
        page.join().unwrap();
        let watched = !pool.stuck(1, sleep) || sleep.and_then(|sleep| sleep.until) == Some(10);
        assert!(watched, "nobody watches: {sleep:?}");
    });
}

#[test]
fn a_worker_attaches_beside_a_start() {
    model(3, || {
        let queue = RunQueue::new();
        assert_eq!(queue.add(), Some(0));
        let queue = Arc::new(queue);
        let page = queue.clone();
        let page = thread::spawn(move || page.resume(0));
        queue.attach(1, 0);
        let sleep = queue.sleep(1, 0);
        page.join().unwrap();
        let rung = sleep.is_none_or(|sleep| queue.bells[1].load(SeqCst) != sleep.bell);
        assert!(rung, "the VM waits beside a sleeping worker that can run it");
    });
}

#[test]
fn a_deadline_comes_with_the_parking() {
    model(3, || {
        let pool = Pool::parked(&[Some(0)]);
        assert_eq!(pool.queue.next(1, 0), Some(0));
        let other = pool.clone();
        let other = thread::spawn(move || {
            other.queue.done(0, Next::Parked(Some(10)), 0);
        });
        assert_eq!(pool.queue.next(0, 5), None, "it ran by its last deadline");
        other.join().unwrap();
        assert_eq!(pool.queue.next(0, 10), Some(0));
    });
}
