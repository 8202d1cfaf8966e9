//! Who comes first.

use super::*;
use crate::share::{AFFINITY_US, ANSWER_US, BOOST_FOR_US, ROOM_EVERY_US, ROOM_US, SLICE_US};

/// Runs `slices` full slices on one worker; how many each VM got.
fn turns(queue: &RunQueue, slices: usize, now: u64) -> [usize; VMS] {
    let mut turns = [0; VMS];
    for _ in 0..slices {
        turns[slice(queue, 0, now, Next::Ready, SLICE_US).unwrap()] += 1;
    }
    turns
}

#[test]
fn busy_vms_take_turns() {
    let queue = started(1, 3);
    assert_eq!(turns(&queue, 300, 0)[..3], [100, 100, 100]);
}

#[test]
fn the_vm_that_used_least_comes_first() {
    let queue = started(1, 2);
    assert_eq!(slice(&queue, 0, 0, Next::Ready, 30_000), Some(0));
    assert_eq!(turns(&queue, 5, 0)[..2], [0, 5]);
}

#[test]
fn a_sleeper_gains_no_credit() {
    let queue = started(1, 3);
    // VM 0 sleeps while 1 and 2 use a second.
    assert_eq!(slice(&queue, 0, 0, Next::Parked(None), 1), Some(0));
    turns(&queue, 160, 0);
    queue.wake(0, 0, false);
    // From here on all three have the same claim: it gets no more than one turn more than the others.
    let got = turns(&queue, 30, 0);
    assert!((9..=11).contains(&got[0]), "{got:?}");
}

#[test]
fn a_pause_gains_no_credit() {
    let queue = started(1, 3);
    queue.stop(0);
    turns(&queue, 160, 0);
    queue.resume(0);
    let got = turns(&queue, 30, 0);
    assert!((9..=11).contains(&got[0]), "{got:?}");
}

#[test]
fn a_new_vm_has_no_claim_to_the_time_before_it() {
    let queue = started(1, 2);
    turns(&queue, 160, 0);
    let vm = queue.add().unwrap();
    queue.attach(0, vm);
    queue.resume(vm);
    let got = turns(&queue, 30, 0);
    assert!((9..=11).contains(&got[vm]), "{got:?}");
}

#[test]
fn the_visible_vm_goes_before_the_audible_and_that_before_the_others() {
    let queue = started(1, 3);
    queue.set_priority(1, Priority::Audible);
    queue.set_priority(2, Priority::Visible);
    let first: [usize; 3] = core::array::from_fn(|_| slice(&queue, 0, 0, Next::Parked(None), 1).unwrap());
    assert_eq!(first, [2, 1, 0]);
}

#[test]
fn priority_borrows_and_does_not_give_more() {
    let queue = started(1, 2);
    queue.set_priority(1, Priority::Visible);
    let borrowed = turns(&queue, 3, 0);
    assert_eq!(borrowed[..2], [0, 3], "18 ms ahead");
    let got = turns(&queue, 300, 0);
    assert!(got[0].abs_diff(got[1]) <= 4, "{got:?}");
}

#[test]
fn input_of_the_visible_vm_is_answered_first_for_a_moment() {
    for (priority, input_first) in
        [(Priority::Visible, true), (Priority::Audible, false), (Priority::Background, false)]
    {
        let queue = started(1, 2);
        queue.set_priority(0, priority);
        queue.set_priority(1, priority);
        // VM 0 has used 20 ms more.
        assert_eq!(slice(&queue, 0, 0, Next::Ready, 20_000), Some(0));
        assert_eq!(queue.first(0, 0).map(|(vm, _)| vm), Some(1));
        queue.wake(0, 1_000, true);
        assert_eq!(queue.first(0, 1_000).map(|(vm, _)| vm == 0), Some(input_first), "{priority:?}");
        assert_eq!(queue.first(0, 1_000 + BOOST_FOR_US).map(|(vm, _)| vm), Some(1), "{priority:?}");
    }
}

#[test]
fn a_busy_vm_that_ran_its_answer_has_its_share_again() {
    let queue = started(1, 2);
    queue.set_priority(0, Priority::Visible);
    queue.set_priority(1, Priority::Visible);
    assert_eq!(slice(&queue, 0, 0, Next::Ready, 10_000), Some(0));
    queue.wake(0, 0, true);
    let got = turns(&queue, 3, 0);
    assert_eq!(got[..2], [(ANSWER_US / SLICE_US) as usize, 1]);
    // What it did not borrow is there for the next key.
    queue.wake(0, 0, true);
    assert_eq!(queue.next(0, 0), Some(0));
}

#[test]
fn a_slice_that_began_before_the_input_is_no_part_of_the_answer() {
    let queue = started(2, 1);
    queue.set_priority(0, Priority::Visible);
    assert_eq!(queue.next(0, 0), Some(0));
    queue.wake(0, 1_000, true);
    queue.done(0, Next::Ready, ANSWER_US);
    assert_eq!(queue.answering(1_000), Some(0));
    assert_eq!(slice(&queue, 0, 1_000, Next::Ready, ANSWER_US - 1), Some(0));
    assert_eq!(queue.answering(1_000), Some(0), "there is a little left");
    assert_eq!(slice(&queue, 0, 1_000, Next::Ready, 1), Some(0));
    assert_eq!(queue.answering(1_000), None);
}

#[test]
fn only_who_is_looked_at_and_works_on_its_input_answers() {
    let queue = started(1, 2);
    assert_eq!(queue.answering(0), None, "no input");
    queue.wake(1, 0, true);
    assert_eq!(queue.answering(0), None, "nobody looks at it");
    queue.set_priority(1, Priority::Visible);
    queue.wake(1, 0, false);
    assert_eq!(queue.answering(0), None, "a frame of the network");
    queue.wake(1, 0, true);
    assert_eq!(queue.answering(0), Some(1), "it waits");
    assert_eq!(queue.next(0, 0), Some(1));
    assert_eq!(queue.answering(0), Some(1), "it runs");
    queue.done(1, Next::Parked(Some(10)), 1);
    assert_eq!(queue.answering(0), None, "it sleeps");
    assert_eq!(queue.answering(10), Some(1), "it goes on");
    queue.stop(1);
    assert_eq!(queue.answering(10), None, "it is paused");
    queue.resume(1);
    assert_eq!(queue.answering(10), Some(1));
    queue.set_priority(1, Priority::Background);
    assert_eq!(queue.answering(10), None, "nobody looks at it any more");
}

#[test]
fn a_worker_rests_beside_an_answer_when_others_wait() {
    let queue = started(3, 4);
    queue.set_priority(0, Priority::Visible);
    queue.wake(0, 0, true);
    assert!(!queue.rests(2, 0), "it waits itself");
    assert_eq!(queue.next(0, 0), Some(0));
    assert!(!queue.rests(2, 0), "there is room beside another");
    assert!(queue.rests(1, 0));
    assert!(queue.next(1, 0).is_some());
    assert!(queue.rests(2, 0));
    assert!(!queue.rests(3, 0), "there are more processors than workers");
    assert!(!queue.rests(2, ROOM_US), "for a while only");
    queue.done(0, Next::Ready, 1);
    assert!(!queue.rests(1, 0), "between two slices");
    assert_eq!(slice(&queue, 0, 0, Next::Ready, ANSWER_US), Some(0));
    assert_eq!(queue.next(0, 0), Some(0), "it may run ahead of the others");
    assert!(!queue.rests(2, 0), "but it is answered");
}

#[test]
fn nobody_rests_where_all_run_at_a_time() {
    let queue = started(2, 2);
    queue.set_priority(0, Priority::Visible);
    queue.wake(0, 0, true);
    assert_eq!(queue.next(0, 0), Some(0));
    assert!(!queue.rests(1, 0));
    let third = queue.add().unwrap();
    queue.attach(0, third);
    queue.resume(third);
    assert!(queue.rests(1, 0));
}

#[test]
fn input_without_end_has_room_for_a_part_of_the_time_only() {
    let queue = started(1, 1);
    queue.set_priority(0, Priority::Visible);
    let mut room = 0;
    for now in 0..ROOM_EVERY_US * 4 {
        if now % 8_000 == 0 {
            queue.wake(0, now, true);
        }
        room += u64::from(queue.answering(now).is_some());
    }
    assert_eq!(room, 4 * ROOM_US);
}

#[test]
fn who_looks_at_a_vm_that_comes_first_need_not_wait_for_the_end_of_a_turn() {
    let queue = started(2, 4);
    queue.set_priority(3, Priority::Visible);
    let [visible, a, b] = [0, 0, 1].map(|worker| {
        let vm = queue.next(worker, 0).unwrap();
        if vm == 3 {
            // It has borrowed what it may, and used more than the others.
            queue.done(vm, Next::Ready, 30_000);
        }
        vm
    });
    assert_eq!((visible, a, b), (3, 0, 1));
    assert_eq!(queue.yields(0, 0), None, "it has had more than its share");
    queue.wake(3, 1_000, true);
    assert!(matches!(queue.yields(0, 1_000), Some(0 | 1)), "input");
    assert_eq!(queue.yields(0, 1_000 + BOOST_FOR_US), None);
    queue.set_priority(3, Priority::Background);
    assert_eq!(queue.yields(0, 1_000), None, "nobody looks at it");
    queue.set_priority(3, Priority::Visible);
    queue.set_priority(0, Priority::Visible);
    assert_eq!(queue.yields(0, 1_000), Some(1), "equals wait for one another");
    queue.done(1, Next::Ready, 1_000);
    assert_eq!(queue.yields(0, 1_000), None, "nobody else runs");
    assert_eq!(queue.next(1, 1_000), Some(3));
}

#[test]
fn nobody_yields_to_a_vm_that_is_held_or_paused() {
    for keep in [RunQueue::stop, |queue: &RunQueue, vm| assert!(queue.hold(vm))] {
        let queue = started(1, 2);
        queue.set_priority(1, Priority::Visible);
        queue.stop(1);
        assert_eq!(queue.next(0, 0), Some(0));
        assert_eq!(queue.yields(0, 0), None);
        queue.resume(1);
        assert_eq!(queue.yields(0, 0), Some(0));
        keep(&queue, 1);
        assert_eq!(queue.yields(0, 0), None);
    }
}

#[test]
fn input_that_is_not_interactive_changes_no_order() {
    let queue = started(1, 2);
    queue.set_priority(0, Priority::Visible);
    queue.set_priority(1, Priority::Visible);
    assert_eq!(slice(&queue, 0, 0, Next::Ready, 20_000), Some(0));
    queue.wake(0, 0, false);
    assert_eq!(queue.next(0, 0), Some(1));
}

#[test]
fn a_vm_stays_with_its_worker_when_the_difference_is_small() {
    for (lead, stays) in [(AFFINITY_US - 1, true), (AFFINITY_US + 1, false)] {
        let queue = started(2, 2);
        let (a, b) = (queue.next(0, 0).unwrap(), queue.next(1, 0).unwrap());
        queue.done(a, Next::Ready, 10_000 + lead);
        queue.done(b, Next::Ready, 10_000);
        assert_eq!(queue.next(0, 0) == Some(a), stays);
    }
}

#[test]
fn unknown_priorities_count_as_background() {
    for number in [0, 3, u32::MAX] {
        assert_eq!(Priority::from_number(number), Priority::Background);
    }
    for priority in [Priority::Background, Priority::Audible, Priority::Visible] {
        assert_eq!(Priority::from_number(priority as u32), priority);
    }
}

/// The worst that can happen to a VM: it has borrowed all that it can, key by key, is then looked at no more, and
/// one that has borrowed nothing yet gets as many.
#[test]
fn a_vm_in_debt_waits_no_longer_than_the_bound() {
    let queue = started(1, 3);
    slice(&queue, 0, 0, Next::Parked(None), 1);
    queue.set_priority(1, Priority::Visible);
    queue.wake(1, 0, true);
    while slice_of(&queue, 1) {
        queue.wake(1, 0, true);
    }
    queue.stop(2);
    queue.set_priority(1, Priority::Background);
    queue.set_priority(0, Priority::Visible);
    queue.wake(0, 0, true);
    let mut waited = 0;
    while slice_of(&queue, 0) {
        queue.wake(0, 0, true);
        waited += SLICE_US;
    }
    // More than what the other alone may borrow.
    assert!((60_000..=crate::STARVATION_BOUND_US).contains(&waited), "{waited}");
}

/// Runs a slice of the next VM; whether it was this one.
fn slice_of(queue: &RunQueue, vm: usize) -> bool {
    let next = queue.next(0, 0).expect("a VM that wants to run");
    queue.done(next, Next::Ready, if next == vm { SLICE_US } else { 0 });
    next == vm
}
