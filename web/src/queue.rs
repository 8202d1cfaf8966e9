//! The pool's run queue for JavaScript. Page and workers each make an instance of this module over one more shared
//! memory, and the queue is a static in it. Times are milliseconds of the pool's clock, VMs and workers are numbers,
//! and -1 is nobody.

use tab86_pool::{Next, Priority, RunQueue, VMS, WORKERS};
use wasm_bindgen::prelude::*;

static QUEUE: RunQueue = RunQueue::new();

/// Wakes the worker that a call rang for: the caller must notify on its bell.
fn worker(rung: Option<usize>) -> i32 {
    rung.map_or(-1, |worker| worker as i32)
}

fn us(ms: f64) -> u64 {
    (ms.max(0.0) * 1000.0) as u64
}

/// A place in the queue that exists: the page and the workers only use those that they were given.
fn place(vm: u32) -> usize {
    vm as usize % VMS
}

fn thread(worker: u32) -> usize {
    worker as usize % WORKERS
}

/// VMs that a pool has room for.
#[wasm_bindgen]
pub fn queue_vms() -> u32 {
    VMS as u32
}

/// Workers that a pool has room for.
#[wasm_bindgen]
pub fn queue_workers() -> u32 {
    WORKERS as u32
}

/// Byte address of the word on which a worker sleeps.
#[wasm_bindgen]
pub fn queue_bell(worker: u32) -> usize {
    QUEUE.bell_address(thread(worker))
}

/// Byte address of a VM's word, on which to wait until it does not run.
#[wasm_bindgen]
pub fn queue_word(vm: u32) -> usize {
    QUEUE.word_address(place(vm))
}

/// A place for a VM, or -1.
#[wasm_bindgen]
pub fn queue_add() -> i32 {
    QUEUE.add().map_or(-1, |vm| vm as i32)
}

/// Which VM of this place it is.
#[wasm_bindgen]
pub fn queue_generation(vm: u32) -> u32 {
    QUEUE.generation(place(vm))
}

/// Frees the place of a VM that the caller holds.
#[wasm_bindgen]
pub fn queue_remove(vm: u32) {
    QUEUE.remove(place(vm));
}

/// 0 background, 1 audible, 2 visible.
#[wasm_bindgen]
pub fn queue_set_priority(vm: u32, priority: u32) {
    QUEUE.set_priority(place(vm), Priority::from_number(priority));
}

/// The VM has input. Returns whom to notify.
#[wasm_bindgen]
pub fn queue_wake(vm: u32, now: f64, interactive: bool) -> i32 {
    worker(QUEUE.wake(place(vm), us(now), interactive))
}

/// The VM on the screen that answers input while that has room, so that a processor is for the page, or -1.
#[wasm_bindgen]
pub fn queue_answering(now: f64) -> i32 {
    QUEUE.answering(us(now)).map_or(-1, |vm| vm as i32)
}

/// Whether a worker should rest for a moment beside an answer, where `most` workers leave a processor to the page.
#[wasm_bindgen]
pub fn queue_rests(most: u32, now: f64) -> bool {
    QUEUE.rests(most as usize, us(now))
}

/// No slice begins after this.
#[wasm_bindgen]
pub fn queue_stop(vm: u32) {
    QUEUE.stop(place(vm));
}

/// Lets the VM run. Returns whom to notify.
#[wasm_bindgen]
pub fn queue_resume(vm: u32) -> i32 {
    worker(QUEUE.resume(place(vm)))
}

/// Wants the VM for oneself; false: somebody else has it.
#[wasm_bindgen]
pub fn queue_hold(vm: u32) -> bool {
    QUEUE.hold(place(vm))
}

/// Whether there is a VM in this place.
#[wasm_bindgen]
pub fn queue_exists(vm: u32) -> bool {
    QUEUE.exists(place(vm))
}

/// Whether a worker runs the VM now: a hold is not exclusive yet.
#[wasm_bindgen]
pub fn queue_running(vm: u32) -> bool {
    QUEUE.running(place(vm))
}

/// Ends a hold. Returns whom to notify.
#[wasm_bindgen]
pub fn queue_release(vm: u32) -> i32 {
    worker(QUEUE.release(place(vm)))
}

/// A worker died. Returns the VM that it ran, or -1; all bells must be notified.
#[wasm_bindgen]
pub fn queue_abandon(worker: u32) -> i32 {
    QUEUE.abandon(thread(worker)).map_or(-1, |vm| vm as i32)
}

/// The worker can run the VM.
#[wasm_bindgen]
pub fn queue_attach(worker: u32, vm: u32) {
    QUEUE.attach(thread(worker), place(vm));
}

/// The worker begins no slice of the VM any more.
#[wasm_bindgen]
pub fn queue_detach(worker: u32, vm: u32) {
    QUEUE.detach(thread(worker), place(vm));
}

/// The VM to run next, or -1.
#[wasm_bindgen]
pub fn queue_next(worker: u32, now: f64) -> i32 {
    QUEUE.next(thread(worker), us(now)).map_or(-1, |vm| vm as i32)
}

/// The VM wants to go on. Returns whether a holder waits on its word.
#[wasm_bindgen]
pub fn queue_done_ready(vm: u32, used: f64) -> bool {
    QUEUE.done(place(vm), Next::Ready, us(used))
}

/// The VM sleeps until `wake_at`, which may be infinite.
#[wasm_bindgen]
pub fn queue_done_parked(vm: u32, used: f64, wake_at: f64) -> bool {
    QUEUE.done(place(vm), Next::Parked(wake_at.is_finite().then(|| us(wake_at))), us(used))
}

/// The VM ended.
#[wasm_bindgen]
pub fn queue_done_stopped(vm: u32, used: f64) -> bool {
    QUEUE.done(place(vm), Next::Stopped, us(used))
}

/// After every slice: rings a sleeping worker if there is work for it too. Returns whom to notify.
#[wasm_bindgen]
pub fn queue_share(now: f64) -> i32 {
    worker(QUEUE.share(us(now)))
}

/// The running VM that should end its turn early because a more urgent one waits, or -1.
#[wasm_bindgen]
pub fn queue_yields(worker: u32, now: f64) -> i32 {
    QUEUE.yields(thread(worker), us(now)).map_or(-1, |vm| vm as i32)
}

/// Prepares to sleep: until when (maybe infinity), or -1: there is a VM to run. `queue_awake` must follow.
#[wasm_bindgen]
pub fn queue_sleep(worker: u32, now: f64) -> f64 {
    QUEUE.sleep(thread(worker), us(now)).map_or(-1.0, |sleep| {
        LAST_BELL.with(|bell| bell.set(sleep.bell));
        sleep.until.map_or(f64::INFINITY, |at| at as f64 / 1000.0)
    })
}

thread_local! {
    static LAST_BELL: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// After `queue_sleep`: the bell's value to wait on.
#[wasm_bindgen]
pub fn queue_sleep_bell() -> i32 {
    LAST_BELL.with(std::cell::Cell::get) as i32
}

/// The worker is awake.
#[wasm_bindgen]
pub fn queue_awake(worker: u32) {
    QUEUE.awake(thread(worker));
}

/// Rings a worker for a message; it must be notified.
#[wasm_bindgen]
pub fn queue_ring(worker: u32) {
    QUEUE.ring(thread(worker));
}
