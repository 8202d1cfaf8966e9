//! Tests of the run queue: each step by its documentation, a simulated pool, and real threads.

use super::*;
use std::boxed::Box;

mod deadlines;
mod order;
mod simulation;
mod stress;
mod trace;
mod transitions;

/// A queue with this many VMs in places 0 and up, not started, all known to workers 0 and up.
fn queue(workers: usize, vms: usize) -> Box<RunQueue> {
    let queue = Box::new(RunQueue::new());
    for vm in 0..vms {
        assert_eq!(queue.add(), Some(vm));
        for worker in 0..workers {
            queue.attach(worker, vm);
        }
    }
    queue
}

/// The same with all VMs ready.
fn started(workers: usize, vms: usize) -> Box<RunQueue> {
    let queue = queue(workers, vms);
    for vm in 0..vms {
        queue.resume(vm);
    }
    queue
}

/// Runs one slice of whatever comes first.
fn slice(queue: &RunQueue, worker: usize, now: u64, next: Next, used: u64) -> Option<usize> {
    let vm = queue.next(worker, now)?;
    queue.done(vm, next, used);
    Some(vm)
}
