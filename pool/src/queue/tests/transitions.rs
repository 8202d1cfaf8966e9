//! Every step of the protocol.

use super::*;

#[test]
fn places_are_given_until_none_is_left_and_given_again() {
    let queue = queue(0, VMS);
    assert_eq!(queue.add(), None);
    assert!(queue.hold(7));
    queue.remove(7);
    assert_eq!(queue.add(), Some(7));
    assert_eq!(queue.add(), None);
}

#[test]
fn a_new_vm_does_not_run_until_it_is_started() {
    let queue = queue(1, 1);
    assert_eq!(queue.wake(0, 0, true), None);
    assert_eq!(queue.next(0, u64::MAX - 1), None);
    queue.resume(0);
    assert_eq!(queue.next(0, 0), Some(0));
}

#[test]
fn only_workers_that_know_a_vm_run_it() {
    let queue = queue(0, 1);
    queue.resume(0);
    queue.attach(1, 0);
    assert_eq!(queue.next(0, 0), None);
    assert_eq!(queue.next(1, 0), Some(0));
}

#[test]
fn a_running_vm_is_nobody_elses() {
    let queue = started(2, 1);
    assert_eq!(queue.next(0, 0), Some(0));
    assert!(queue.running(0));
    assert_eq!(queue.next(1, 0), None);
    queue.done(0, Next::Ready, 1);
    assert!(!queue.running(0));
    assert_eq!(queue.next(1, 0), Some(0));
}

#[test]
fn a_parked_vm_runs_after_a_wake_and_not_before() {
    let queue = started(1, 1);
    assert_eq!(slice(&queue, 0, 0, Next::Parked(None), 1), Some(0));
    assert_eq!(queue.next(0, u64::MAX - 1), None);
    queue.wake(0, 5, false);
    assert_eq!(queue.next(0, 5), Some(0));
}

#[test]
fn a_wake_during_a_slice_keeps_the_vm_from_parking_once() {
    let queue = started(1, 1);
    assert_eq!(queue.next(0, 0), Some(0));
    assert_eq!(queue.wake(0, 0, false), None);
    queue.done(0, Next::Parked(None), 1);
    assert_eq!(slice(&queue, 0, 0, Next::Parked(None), 1), Some(0));
    assert_eq!(queue.next(0, 0), None);
}

#[test]
fn a_slice_answers_the_wakes_before_it() {
    let queue = started(1, 1);
    queue.wake(0, 0, false);
    assert_eq!(slice(&queue, 0, 0, Next::Parked(None), 1), Some(0));
    assert_eq!(queue.next(0, 0), None);
}

#[test]
fn a_vm_that_ended_is_not_woken() {
    let queue = started(1, 1);
    assert_eq!(queue.next(0, 0), Some(0));
    queue.wake(0, 0, false);
    queue.done(0, Next::Stopped, 1);
    queue.wake(0, 0, true);
    assert_eq!(queue.next(0, 0), None);
    queue.resume(0);
    assert_eq!(queue.next(0, 0), Some(0));
}

#[test]
fn a_stop_lets_the_running_slice_end_and_no_other_begin() {
    let queue = started(1, 1);
    assert_eq!(queue.next(0, 0), Some(0));
    queue.stop(0);
    assert!(queue.running(0));
    queue.done(0, Next::Ready, 1);
    assert_eq!(queue.next(0, 0), None);
    queue.wake(0, 0, true);
    assert_eq!(queue.next(0, 0), None);
    queue.resume(0);
    assert_eq!(queue.next(0, 0), Some(0));
}

#[test]
fn input_and_deadlines_of_a_pause_are_answered_after_it() {
    let queue = started(1, 2);
    assert_eq!(slice(&queue, 0, 0, Next::Parked(None), 1), Some(0));
    assert_eq!(slice(&queue, 0, 0, Next::Parked(Some(10)), 1), Some(1));
    queue.stop(0);
    queue.stop(1);
    queue.wake(0, 0, false);
    assert_eq!(queue.next(0, 20), None);
    queue.resume(0);
    queue.resume(1);
    assert!(slice(&queue, 0, 20, Next::Parked(None), 1).is_some());
    assert!(slice(&queue, 0, 20, Next::Parked(None), 1).is_some());
    assert_eq!(queue.next(0, 20), None);
}

#[test]
fn a_resume_during_the_last_slice_before_a_pause_makes_another_slice() {
    let queue = started(1, 1);
    assert_eq!(queue.next(0, 0), Some(0));
    queue.stop(0);
    assert_eq!(queue.resume(0), None);
    queue.done(0, Next::Parked(None), 1);
    assert_eq!(queue.next(0, 0), Some(0));
}

#[test]
fn only_one_can_hold_a_vm() {
    let queue = started(1, 1);
    assert!(queue.hold(0));
    assert!(!queue.hold(0));
    queue.release(0);
    assert!(queue.hold(0));
    assert!(!queue.hold(1), "there is no VM in place 1");
}

#[test]
fn a_held_vm_does_not_run_whatever_happens() {
    let queue = started(1, 1);
    assert!(queue.hold(0));
    assert!(!queue.running(0));
    queue.wake(0, 0, true);
    queue.stop(0);
    queue.resume(0);
    assert_eq!(queue.next(0, 0), None);
    queue.release(0);
    assert_eq!(queue.next(0, 0), Some(0));
}

#[test]
fn who_holds_a_running_vm_is_told_when_its_slice_ends() {
    let queue = started(1, 1);
    assert_eq!(queue.next(0, 0), Some(0));
    assert!(queue.hold(0));
    assert!(queue.running(0));
    assert!(queue.done(0, Next::Ready, 1), "somebody waits");
    assert!(!queue.running(0));
    assert_eq!(queue.next(0, 0), None);
    queue.release(0);
    assert_eq!(queue.next(0, 0), Some(0));
    assert!(!queue.done(0, Next::Ready, 1), "nobody waits");
}

#[test]
fn generations_tell_the_vms_of_a_place_apart() {
    let queue = queue(1, 1);
    let mut seen = std::vec![queue.generation(0)];
    for _ in 0..100 {
        assert!(queue.hold(0));
        queue.remove(0);
        assert_eq!(queue.add(), Some(0));
        assert!(!seen.contains(&queue.generation(0)));
        seen.push(queue.generation(0));
    }
    let now = queue.generation(0);
    queue.resume(0);
    queue.attach(0, 0);
    slice(&queue, 0, 0, Next::Parked(Some(3)), 1);
    queue.stop(0);
    assert_eq!(queue.generation(0), now, "running does not change it");
}

#[test]
fn a_new_vm_inherits_nothing_from_the_last_one_of_its_place() {
    let queue = started(1, 2);
    queue.set_priority(0, Priority::Visible);
    queue.wake(0, 0, true);
    queue.stop(0);
    assert!(queue.hold(0));
    queue.remove(0);
    assert_eq!(queue.resume(0), None);
    assert_eq!(queue.wake(0, 0, true), None);
    queue.stop(0);
    assert_eq!(queue.add(), Some(0));
    queue.resume(0);
    assert_eq!(queue.slots[0].priority(), Priority::Background);
    assert!(!queue.slots[0].has_input(0));
    assert_eq!(slice(&queue, 0, 1, Next::Parked(None), 1), Some(1), "worker 0 does not know the new one");
    assert_eq!(queue.next(0, 1), None);
    queue.attach(0, 0);
    assert_eq!(queue.next(0, 1), Some(0));
}

#[test]
fn the_vm_of_a_dead_worker_is_stopped_and_the_others_go_on() {
    let queue = started(2, 2);
    let lost = queue.next(0, 0).unwrap();
    let other = queue.next(1, 0).unwrap();
    queue.wake(lost, 0, false);
    assert_eq!(queue.abandon(0), Some(lost));
    assert!(!queue.running(lost));
    assert!(queue.running(other));
    queue.done(other, Next::Ready, 1);
    assert_eq!(queue.next(1, 0), Some(other));
    assert_eq!(queue.next(1, 0), None);
    queue.resume(lost);
    assert_eq!(queue.next(0, 0), None, "the new worker 0 knows no VM yet");
    queue.attach(0, lost);
    assert_eq!(queue.next(0, 0), Some(lost));
}

#[test]
fn a_worker_that_dies_between_slices_takes_no_vm_with_it() {
    let queue = started(2, 1);
    slice(&queue, 0, 0, Next::Ready, 1);
    assert_eq!(queue.abandon(0), None);
    assert_eq!(queue.next(1, 0), Some(0));
}

#[test]
fn a_wake_that_rang_a_dead_worker_is_heard_by_the_others() {
    let queue = started(2, 1);
    slice(&queue, 0, 0, Next::Parked(None), 1);
    let _ = queue.sleep(0, 0).unwrap();
    let asleep = queue.sleep(1, 0).unwrap();
    assert_eq!(queue.wake(0, 0, false), Some(0), "the worker that ran it last");
    assert_eq!(queue.abandon(0), None);
    assert_ne!(queue.bells[1].load(Relaxed), asleep.bell);
    queue.awake(1);
    assert_eq!(queue.next(1, 0), Some(0));
}
