//! Sleeping, waking, and who keeps watch over the deadlines.

use super::*;

const UNTIL_RUNG: Option<Option<u64>> = Some(None);

/// Lets a worker go to sleep; until when.
fn sleep(queue: &RunQueue, worker: usize, now: u64) -> Option<Option<u64>> {
    queue.sleep(worker, now).map(|sleep| sleep.until)
}

/// Parks a ready VM, which must be the next one of worker 0.
fn park(queue: &RunQueue, vm: usize, until: Option<u64>) {
    assert_eq!(slice(queue, 0, 0, Next::Parked(until), 1), Some(vm));
}

fn rung(queue: &RunQueue, worker: usize, asleep: Sleep) -> bool {
    queue.bells[worker].load(Relaxed) != asleep.bell
}

#[test]
fn a_worker_does_not_sleep_when_a_vm_wants_to_run() {
    let queue = started(1, 1);
    assert_eq!(queue.sleep(0, 0), None);
    queue.awake(0);
    park(&queue, 0, Some(10));
    assert_eq!(queue.sleep(0, 10), None, "the deadline has come");
}

#[test]
fn a_worker_without_deadlines_sleeps_until_it_is_rung() {
    let queue = started(1, 1);
    park(&queue, 0, None);
    assert_eq!(sleep(&queue, 0, 0), UNTIL_RUNG);
}

#[test]
fn a_wake_rings_one_sleeper_and_the_next_wake_another() {
    let queue = started(2, 2);
    park(&queue, 0, None);
    park(&queue, 1, None);
    let asleep = [queue.sleep(0, 0).unwrap(), queue.sleep(1, 0).unwrap()];
    assert_eq!(queue.wake(0, 0, false), Some(0), "the one that ran it");
    assert!(rung(&queue, 0, asleep[0]) && !rung(&queue, 1, asleep[1]));
    assert_eq!(queue.wake(1, 0, false), Some(1));
    assert!(rung(&queue, 1, asleep[1]));
    assert_eq!(queue.wake(1, 0, false), None, "it is ready already");
}

#[test]
fn a_wake_prefers_the_worker_that_ran_the_vm() {
    let queue = started(2, 1);
    assert_eq!(slice(&queue, 1, 0, Next::Parked(None), 1), Some(0));
    queue.sleep(0, 0).unwrap();
    queue.sleep(1, 0).unwrap();
    assert_eq!(queue.wake(0, 0, false), Some(1));
}

#[test]
fn nobody_is_rung_when_all_are_awake() {
    let queue = started(2, 1);
    park(&queue, 0, None);
    queue.sleep(0, 0).unwrap();
    queue.awake(0);
    assert_eq!(queue.wake(0, 0, false), None);
}

#[test]
fn a_message_rings_the_worker_whatever_it_does() {
    let queue = queue(1, 0);
    let asleep = queue.sleep(0, 0).unwrap();
    queue.ring(0);
    assert!(rung(&queue, 0, asleep));
}

#[test]
fn one_worker_keeps_all_deadlines() {
    let queue = started(3, 2);
    park(&queue, 0, Some(20));
    park(&queue, 1, Some(10));
    assert_eq!(sleep(&queue, 0, 0), Some(Some(10)));
    assert_eq!(sleep(&queue, 1, 0), UNTIL_RUNG);
    assert_eq!(sleep(&queue, 2, 0), UNTIL_RUNG);
}

#[test]
fn the_next_sleeper_keeps_the_deadlines_when_the_keeper_is_awake() {
    let queue = started(2, 1);
    park(&queue, 0, Some(10));
    assert_eq!(sleep(&queue, 0, 0), Some(Some(10)));
    queue.awake(0);
    assert_eq!(sleep(&queue, 1, 0), Some(Some(10)));
    assert_eq!(sleep(&queue, 0, 0), UNTIL_RUNG);
}

#[test]
fn a_deadline_before_the_keepers_is_watched_as_well() {
    let queue = started(2, 2);
    park(&queue, 0, Some(20));
    assert_eq!(queue.next(1, 0), Some(1));
    assert_eq!(sleep(&queue, 0, 0), Some(Some(20)));
    queue.done(1, Next::Parked(Some(10)), 1);
    assert_eq!(sleep(&queue, 1, 0), Some(Some(10)));
}

#[test]
fn paused_and_held_vms_wake_nobody() {
    let queue = started(1, 2);
    park(&queue, 0, Some(10));
    park(&queue, 1, Some(10));
    queue.stop(0);
    assert!(queue.hold(1));
    assert_eq!(sleep(&queue, 0, 0), UNTIL_RUNG);
    assert_eq!(sleep(&queue, 0, 20), UNTIL_RUNG);
}

#[test]
fn the_end_of_a_hold_wakes_a_worker_for_the_deadline() {
    let queue = started(1, 1);
    park(&queue, 0, Some(10));
    assert!(queue.hold(0));
    assert_eq!(sleep(&queue, 0, 0), UNTIL_RUNG);
    assert_eq!(queue.release(0), Some(0));
    queue.awake(0);
    assert_eq!(sleep(&queue, 0, 0), Some(Some(10)));
}

#[test]
fn the_end_of_a_pause_wakes_a_worker() {
    let queue = started(1, 1);
    queue.stop(0);
    assert_eq!(sleep(&queue, 0, 0), UNTIL_RUNG);
    assert_eq!(queue.resume(0), Some(0));
}

#[test]
fn a_deadline_of_the_past_stays_in_the_past() {
    let queue = started(1, 1);
    park(&queue, 0, Some(10));
    assert_eq!(slice(&queue, 0, 10, Next::Parked(None), 1), Some(0));
    assert_eq!(queue.next(0, 20), None);
    assert_eq!(sleep(&queue, 0, 20), UNTIL_RUNG);
}

#[test]
fn the_next_deadline_is_watched_after_the_keeper_died() {
    let queue = started(3, 1);
    park(&queue, 0, Some(10));
    assert_eq!(sleep(&queue, 0, 0), Some(Some(10)));
    assert_eq!(queue.abandon(0), None);
    // Between the two steps by which worker 1 becomes keeper, for a later deadline.
    queue.keeper.store(2, Relaxed);
    assert_eq!(sleep(&queue, 2, 0), Some(Some(10)), "the dead keeper's time does not count");
}

#[test]
fn nobody_relies_on_a_keeper_that_has_not_said_when_it_wakes() {
    let queue = started(2, 1);
    park(&queue, 0, Some(10));
    queue.keeper.store(2, Relaxed);
    assert_eq!(sleep(&queue, 0, 0), Some(Some(10)));
}

#[test]
fn a_worker_that_cannot_run_the_vm_is_not_rung_for_it() {
    let queue = queue(0, 2);
    queue.attach(1, 0);
    queue.attach(0, 1);
    let asleep = [queue.sleep(0, 0).unwrap(), queue.sleep(1, 0).unwrap()];
    assert_eq!(queue.resume(0), Some(1));
    assert!(!rung(&queue, 0, asleep[0]) && rung(&queue, 1, asleep[1]));
    assert_eq!(slice(&queue, 1, 0, Next::Parked(None), 1), Some(0));
    assert_eq!(queue.wake(0, 0, false), None, "worker 1 is awake, worker 0 does not know it");
}

#[test]
fn a_keeper_that_does_not_know_the_vm_keeps_nothing_for_it() {
    let queue = queue(0, 2);
    queue.attach(0, 0);
    queue.attach(1, 0);
    queue.attach(1, 1);
    queue.resume(0);
    queue.resume(1);
    park(&queue, 0, Some(10));
    assert_eq!(slice(&queue, 1, 0, Next::Parked(Some(20)), 1), Some(1));
    assert_eq!(sleep(&queue, 0, 0), Some(Some(10)));
    assert_eq!(sleep(&queue, 1, 0), Some(Some(20)));
}

#[test]
fn paused_and_held_vms_ring_nobody() {
    let queue = started(1, 1);
    park(&queue, 0, None);
    queue.sleep(0, 0).unwrap();
    queue.stop(0);
    assert_eq!(queue.wake(0, 0, false), None);
    assert!(queue.hold(0));
    assert_eq!(queue.resume(0), None);
    queue.stop(0);
    assert_eq!(queue.release(0), None);
    assert_eq!(queue.resume(0), Some(0));
}

#[test]
fn a_vm_that_nobody_can_run_gives_nobody_credit() {
    let queue = started(1, 2);
    let vm = queue.add().unwrap();
    queue.resume(vm);
    for _ in 0..100 {
        slice(&queue, 0, 0, Next::Ready, 1_000).unwrap();
    }
    assert!(queue.floor.load(Relaxed) > 48_000);
}

mod share {
    use super::*;

    #[test]
    fn nobody_is_rung_when_nobody_sleeps_or_there_is_work_for_one() {
        let queue = started(2, 2);
        assert_eq!(queue.share(0), None);
        park(&queue, 0, None);
        park(&queue, 1, None);
        queue.sleep(1, 0).unwrap();
        assert_eq!(queue.share(0), None, "nothing to do");
        queue.wake(0, 0, false);
        queue.sleep(1, 0);
        assert_eq!(queue.share(0), None, "only for the caller");
    }

    /// Worker 1 sleeps, VM 0 is ready and was just given back by worker 0, which also ran VM 1.
    fn beside_a_busy_vm(next: Next) -> Box<RunQueue> {
        let queue = started(2, 2);
        assert_eq!(queue.next(0, 0), Some(0));
        assert_eq!(queue.next(0, 0), Some(1));
        queue.sleep(1, 0).unwrap();
        queue.done(1, next, 1);
        queue.done(0, Next::Ready, 1);
        queue
    }

    #[test]
    fn a_sleeper_is_rung_for_the_second_ready_vm() {
        assert_eq!(beside_a_busy_vm(Next::Ready).share(0), Some(1));
    }

    #[test]
    fn a_passed_deadline_counts_as_work() {
        assert_eq!(beside_a_busy_vm(Next::Parked(Some(10))).share(10), Some(1));
    }

    #[test]
    fn a_sleeper_is_rung_to_watch_a_near_deadline() {
        let queue = beside_a_busy_vm(Next::Parked(Some(10)));
        assert_eq!(queue.share(0), Some(1));
        queue.awake(1);
        assert_eq!(queue.next(0, 0), Some(0));
        assert_eq!(sleep(&queue, 1, 0), Some(Some(10)));
        queue.done(0, Next::Ready, 1);
        assert_eq!(queue.share(0), None, "it is watched");
    }

    #[test]
    fn a_far_deadline_waits_for_the_next_slice() {
        assert_eq!(beside_a_busy_vm(Next::Parked(Some(crate::SLICE_US + 1))).share(0), None);
        assert_eq!(beside_a_busy_vm(Next::Parked(Some(crate::SLICE_US + 1))).share(1), Some(1));
    }

    #[test]
    fn a_keeper_that_would_wake_too_late_is_told_the_earlier_deadline() {
        let queue = started(3, 3);
        park(&queue, 0, Some(2_000));
        assert_eq!(queue.next(0, 0), Some(1));
        assert_eq!(queue.next(0, 0), Some(2));
        assert_eq!(sleep(&queue, 2, 0), Some(Some(2_000)));
        assert_eq!(sleep(&queue, 1, 0), UNTIL_RUNG);
        queue.done(1, Next::Parked(Some(1_000)), 1);
        queue.done(2, Next::Ready, 1);
        assert_eq!(queue.share(0), Some(2));
        queue.awake(2);
        assert_eq!(queue.next(0, 0), Some(2));
        assert_eq!(sleep(&queue, 2, 0), Some(Some(1_000)));
    }

    #[test]
    fn a_sleeper_that_cannot_run_the_vms_is_not_rung() {
        let queue = queue(1, 2);
        queue.resume(0);
        queue.resume(1);
        queue.sleep(1, 0).unwrap();
        assert_eq!(queue.share(0), None);
    }
}
