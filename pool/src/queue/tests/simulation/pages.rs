//! The page: it opens, wakes, pauses, holds and closes VMs, and replaces workers that die.

use super::*;

/// How often the page does things, in microseconds between two of a kind on average; 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disturbance {
    pub key: u64,
    pub packet: u64,
    pub pause: u64,
    pub hold: u64,
    pub close: u64,
    pub priority: u64,
    pub kill: u64,
    /// How long a worker may take to attach a VM, at most.
    pub attach: u64,
    /// How long it may take to notice that a worker died, at most.
    pub notice: u64,
}

/// What the page does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Key,
    Packet,
    Pause,
    Hold,
    Close,
    Priority,
    Kill,
    Resume(usize),
    /// Looks whether a VM that it wants to hold still runs; then releases or closes it.
    Granted(usize, bool),
    Release(usize),
    Attach(usize, usize),
    Noticed(usize),
    Replaced(usize),
}

impl Pool {
    /// Starts the page's random acts.
    pub fn disturb(&mut self) {
        for act in [Act::Key, Act::Packet, Act::Pause, Act::Hold, Act::Close, Act::Priority, Act::Kill] {
            self.again(act);
        }
    }

    fn again(&mut self, act: Act) {
        let d = self.disturbance;
        let mean = match act {
            Act::Key => d.key,
            Act::Packet => d.packet,
            Act::Pause => d.pause,
            Act::Hold => d.hold,
            Act::Close => d.close,
            Act::Priority => d.priority,
            Act::Kill => d.kill,
            _ => 0,
        };
        if mean > 0 {
            let at = self.now + self.chance.between(1, 2 * mean);
            self.plan(at, Event::Page(act));
        }
    }

    fn later(&mut self, least: u64, most: u64, act: Act) {
        let at = self.now + self.chance.between(least, most);
        self.plan(at, Event::Page(act));
    }

    /// Opens a VM, which the workers get to know one after the other.
    pub fn open(&mut self, guest: Guest) {
        let place = self.queue.add().expect("a free place");
        let vm = self.vms.len();
        let generation = self.queue.generation(place);
        self.vms.push(Vm {
            place,
            generation,
            guest,
            work: 0,
            tick: Some(self.now),
            keys: vec![],
            stopped: false,
            held: false,
            closed: false,
        });
        self.record(What::Resumed { vm });
        for worker in 0..self.workers.len() {
            if self.disturbance.attach == 0 {
                self.attach(worker, vm);
            } else {
                self.later(0, self.disturbance.attach, Act::Attach(worker, vm));
            }
        }
        let roused = self.queue.resume(place);
        self.notify(roused);
    }

    /// Tells a worker of a VM.
    fn attach(&mut self, worker: usize, vm: usize) {
        if self.now == 0 {
            // At the start all workers know all VMs.
            self.queue.attach(worker, self.vms[vm].place);
            self.record(What::Attached { vm, worker });
        } else if !self.workers[worker].dead {
            self.workers[worker].mail.push(vm);
            self.queue.ring(worker);
            self.notify(Some(worker));
        }
    }

    /// A VM that lives, by chance.
    fn some_vm(&mut self, suits: impl Fn(&Vm) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.vms.len()).filter(|&vm| !self.vms[vm].closed && suits(&self.vms[vm])).collect();
        (!all.is_empty()).then(|| all[self.chance.next() as usize % all.len()])
    }

    fn wake(&mut self, vm: usize, interactive: bool) {
        self.record(What::Woken { vm, interactive });
        let roused = self.queue.wake(self.vms[vm].place, self.now, interactive);
        self.notify(roused);
    }

    pub fn act(&mut self, act: Act) {
        self.again(act);
        match act {
            Act::Key => {
                if let Some(vm) = self.some_vm(|vm| matches!(vm.guest, Guest::Answering(_)) && !vm.stopped && !vm.held)
                {
                    self.vms[vm].keys.push(self.now);
                    self.wake(vm, true);
                }
            }
            Act::Packet => {
                if let Some(vm) = self.some_vm(|_| true) {
                    self.wake(vm, false);
                }
            }
            Act::Pause => {
                if let Some(vm) = self.some_vm(|vm| !vm.stopped) {
                    self.vms[vm].stopped = true;
                    self.queue.stop(self.vms[vm].place);
                    self.record(What::Stopped { vm });
                    self.later(100, 60_000, Act::Resume(vm));
                }
            }
            Act::Resume(vm) => {
                if !self.vms[vm].closed {
                    self.vms[vm].stopped = false;
                    self.record(What::Resumed { vm });
                    let roused = self.queue.resume(self.vms[vm].place);
                    self.notify(roused);
                }
            }
            Act::Hold | Act::Close => {
                if let Some(vm) = self.some_vm(|vm| !vm.held) {
                    assert!(self.queue.hold(self.vms[vm].place));
                    self.vms[vm].held = true;
                    let close = act == Act::Close;
                    // A new one comes for it.
                    if close {
                        self.open(self.vms[vm].guest);
                        self.vms[vm].keys.clear();
                        self.vms[vm].guest = Guest::Busy;
                    }
                    self.plan(self.now, Event::Page(Act::Granted(vm, close)));
                }
            }
            Act::Granted(vm, close) => self.granted(vm, close),
            Act::Release(vm) => {
                self.vms[vm].held = false;
                self.record(What::Released { vm });
                let roused = self.queue.release(self.vms[vm].place);
                self.notify(roused);
            }
            Act::Priority => {
                let priority = Priority::from_number(self.chance.between(0, 2) as u32);
                if let Some(vm) = self.some_vm(|_| true) {
                    self.queue.set_priority(self.vms[vm].place, priority);
                }
            }
            Act::Attach(worker, vm) => self.attach(worker, vm),
            Act::Kill => self.kill(),
            Act::Noticed(worker) => self.noticed(worker),
            Act::Replaced(worker) => {
                self.workers[worker] = Worker { epoch: self.workers[worker].epoch, ..Worker::default() };
                self.workers[worker].mail = (0..self.vms.len()).filter(|&vm| !self.vms[vm].closed).collect();
                self.step(worker, Step::Next);
            }
        }
    }

    fn granted(&mut self, vm: usize, close: bool) {
        let place = self.vms[vm].place;
        if self.queue.running(place) {
            // The page would wait on the VM's word; here it looks again and again.
            self.later(1, SLICE_US / 4, Act::Granted(vm, close));
            return;
        }
        self.record(What::Held { vm });
        if close {
            self.record(What::Removed { vm });
            self.vms[vm].closed = true;
            self.queue.remove(place);
        } else {
            self.later(10, 30_000, Act::Release(vm));
        }
    }

    /// The slice of a held VM ended.
    pub fn holder_notified(&mut self, vm: usize) {
        assert!(self.vms[vm].held && !self.queue.running(self.vms[vm].place));
    }

    /// The guest powered off; somebody will start it again.
    pub fn powered_off(&mut self, vm: usize) {
        self.later(100, 100_000, Act::Resume(vm));
    }

    fn kill(&mut self) {
        let alive = self.workers.iter().filter(|worker| !worker.dead).count();
        let worker = self.chance.next() as usize % self.workers.len();
        if alive > 2 && !self.workers[worker].dead {
            let epoch = self.workers[worker].epoch + 1;
            self.workers[worker] = Worker { epoch, dead: true, runs: self.workers[worker].runs, ..Worker::default() };
            self.record(What::Died { worker });
            self.later(1, self.disturbance.notice, Act::Noticed(worker));
        }
    }

    fn noticed(&mut self, worker: usize) {
        let lost = self.queue.abandon(worker);
        let ran = self.workers[worker].runs.take();
        assert_eq!(lost, ran.map(|vm| self.vms[vm].place), "the VM that it ran");
        if let Some(vm) = ran {
            self.record(What::Lost { vm });
            self.open(self.vms[vm].guest);
            self.vms[vm].guest = Guest::Busy;
            // Who held it already closes it or gives it back.
            if !self.vms[vm].held {
                assert!(self.queue.hold(self.vms[vm].place));
                self.vms[vm].held = true;
                self.plan(self.now, Event::Page(Act::Granted(vm, true)));
            }
        }
        for other in 0..self.workers.len() {
            self.notify(Some(other));
        }
        self.later(1_000, 10_000, Act::Replaced(worker));
    }
}
