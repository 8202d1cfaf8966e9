//! A trace of scheduling events and its checker, which knows the promises of the queue and none of its code.

use crate::share::{ROOM_EVERY_US, ROOM_US};
use crate::{Next, SLICE_US, STARVATION_BOUND_US};
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

/// What happened. VMs are numbered through; a number is never used again.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// A VM was started or resumed.
    Resumed { vm: usize },
    /// No slice may begin from here on.
    Stopped { vm: usize },
    /// It has input, maybe of somebody who waits for the answer.
    Woken { vm: usize, interactive: bool },
    /// Somebody has it for himself.
    Held { vm: usize },
    /// And gives it back.
    Released { vm: usize },
    /// It is closed.
    Removed { vm: usize },
    /// A worker died while it ran the VM, and that was noticed.
    Lost { vm: usize },
    /// A slice begins.
    Begin { vm: usize, worker: usize },
    /// A slice ends.
    End { vm: usize, worker: usize, next: Next },
    /// A worker can run the VM.
    Attached { vm: usize, worker: usize },
    /// A worker sleeps from here on.
    Asleep { worker: usize },
    /// It sleeps no more.
    Awake { worker: usize },
    /// It does nothing for [`REST_US`], and leaves its processor to the page.
    Rests { worker: usize },
    /// It is gone, and forgets the VMs that it knew.
    Died { worker: usize },
}

/// For how long a worker rests at once.
pub const REST_US: u64 = 1_000;

/// An event and when it happened, in microseconds.
pub type Event = (u64, What);

#[derive(Debug, Clone, Default)]
struct Vm {
    alive: bool,
    stopped: bool,
    held: bool,
    running: Option<(usize, u64)>,
    /// Its worker died, which nobody knows yet.
    dying: bool,
    /// Workers that know it, a bit each.
    known: u32,
    /// It was woken since its last slice began, or wants to go on.
    owed: bool,
    /// When it was last asked something.
    asked: Option<u64>,
    deadline: Option<u64>,
    /// Since when it could run.
    waits: Option<u64>,
    /// CPU time until its last slice ended.
    cpu: u64,
    /// CPU time of all VMs when it began to wait.
    others: Vec<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Worker {
    asleep: Option<u64>,
    /// It woke and has not run anything since.
    woke: bool,
}

/// What the checker measured.
#[derive(Debug, Default)]
pub struct Figures {
    /// Slices begun.
    pub slices: u64,
    /// Times that a worker woke, and how many of these ran nothing before it slept again.
    pub wakeups: u64,
    pub idle_wakeups: u64,
    /// Time in which a worker rested.
    pub rested: u64,
    /// Longest time that a VM waited while a worker slept.
    pub longest_beside_sleeper: u64,
    /// Longest wait.
    pub longest_wait: u64,
    /// Most CPU time that one other VM got during a wait.
    pub most_of_another: u64,
    /// CPU time of each VM.
    pub cpu: Vec<u64>,
}

impl core::fmt::Display for Figures {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} slices, {} wake-ups ({} of them for nothing), ", self.slices, self.wakeups, self.idle_wakeups)?;
        write!(f, "rested {} ms, waits: {} us at most, ", self.rested / 1000, self.longest_wait)?;
        write!(f, "{} beside a sleeper, {} of another VM", self.longest_beside_sleeper, self.most_of_another)
    }
}

/// What a trace must keep to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time that a VM may wait while a worker sleeps that is not just being woken.
    pub beside_sleeper: u64,
    /// Most CPU time that another VM may get meanwhile.
    pub starvation: u64,
    /// Workers that always live.
    pub workers: u64,
}

struct Checker {
    vms: Vec<Vm>,
    workers: Vec<Worker>,
    /// Most VMs that lived at a time.
    most_alive: u64,
    limits: Limits,
    figures: Figures,
}

/// Checks a trace; the first thing that is wrong with it.
pub fn check(trace: &[Event], limits: Limits) -> Result<Figures, String> {
    let workers = vec![Worker::default(); crate::WORKERS];
    let mut checker = Checker { vms: vec![], workers, most_alive: 1, limits, figures: Figures::default() };
    let mut last = 0;
    for (n, &(now, what)) in trace.iter().enumerate() {
        if now < last {
            return Err(format!("event {n}: time runs backwards"));
        }
        last = now;
        checker.deadlines(now);
        let wrong = checker.event(now, what).and_then(|()| checker.waits(now, what));
        wrong.map_err(|wrong| format!("event {n} at {now}: {what:?}: {wrong}"))?;
    }
    for vm in 0..checker.vms.len() {
        checker.waited(vm, last).map_err(|wrong| format!("at the end: VM {vm} {wrong}"))?;
    }
    let (begun, rested) = (trace.first().map_or(0, |(at, _)| *at), checker.figures.rested);
    if rested > ((last - begun) / ROOM_EVERY_US + 1) * (ROOM_US + REST_US) {
        return Err(format!("workers rested for {rested} in {}", last - begun));
    }
    checker.figures.cpu = checker.vms.iter().map(|vm| vm.cpu).collect();
    Ok(checker.figures)
}

impl Checker {
    /// Deadlines that passed since the last event: their VMs wait from then on.
    fn deadlines(&mut self, now: u64) {
        for vm in 0..self.vms.len() {
            if let Some(at) = self.vms[vm].deadline.filter(|at| *at <= now) {
                self.vms[vm].deadline = None;
                self.vms[vm].owed = true;
                self.begin_to_wait(vm, at);
            }
        }
    }

    /// CPU time of each VM up to now; one whose slice lasts has used it up to now.
    fn cpu(&self, now: u64) -> Vec<u64> {
        self.vms.iter().map(|vm| vm.cpu + vm.running.map_or(0, |(_, since)| now.saturating_sub(since))).collect()
    }

    fn begin_to_wait(&mut self, vm: usize, now: u64) {
        let state = &self.vms[vm];
        let can = state.alive && !state.stopped && !state.held && state.running.is_none() && state.owed;
        if can && state.waits.is_none() {
            self.vms[vm].others = self.cpu(now);
            self.vms[vm].waits = Some(now);
        } else if !can {
            self.vms[vm].waits = None;
        }
    }

    fn event(&mut self, now: u64, what: What) -> Result<(), String> {
        let ensure = |holds: bool, wrong: &str| if holds { Ok(()) } else { Err(String::from(wrong)) };
        match what {
            What::Resumed { vm } => {
                if self.vms.len() <= vm {
                    self.vms.resize(vm + 1, Vm::default());
                }
                let state = &mut self.vms[vm];
                (state.alive, state.stopped, state.owed) = (true, false, true);
                self.most_alive = self.most_alive.max(self.vms.iter().filter(|vm| vm.alive).count() as u64);
            }
            What::Stopped { vm } => self.vms[vm].stopped = true,
            What::Woken { vm, interactive } => {
                self.vms[vm].owed |= self.vms[vm].alive;
                self.vms[vm].asked = Some(now).filter(|_| interactive).or(self.vms[vm].asked);
            }
            What::Held { vm } => {
                ensure(!self.vms[vm].held, "held twice")?;
                ensure(self.vms[vm].running.is_none(), "held while it runs")?;
                self.vms[vm].held = true;
            }
            What::Released { vm } => self.vms[vm].held = false,
            What::Removed { vm } | What::Lost { vm } => (self.vms[vm].alive, self.vms[vm].dying) = (false, false),
            What::Begin { vm, worker } => {
                let state = &self.vms[vm];
                ensure(state.alive, "it is closed")?;
                ensure(!state.stopped, "it is paused")?;
                ensure(!state.held, "somebody holds it")?;
                ensure(state.running.is_none(), "another worker runs it")?;
                ensure(state.owed, "it had no reason to run")?;
                ensure(state.known >> worker & 1 != 0, "the worker does not know it")?;
                ensure(self.vms.iter().all(|vm| vm.running.is_none_or(|(w, _)| w != worker)), "the worker is busy")?;
                self.figures.slices += 1;
                self.workers[worker].woke = false;
            }
            What::End { vm, worker, next } => {
                let state = &mut self.vms[vm];
                let Some((runner, since)) = state.running.take() else { return Err("it did not run".into()) };
                ensure(runner == worker, "another worker ran it")?;
                state.cpu += now - since;
                match next {
                    Next::Ready => state.owed = true,
                    Next::Parked(until) => state.deadline = until.filter(|_| !state.owed),
                    Next::Stopped => state.alive = false,
                }
            }
            What::Attached { vm, worker } => self.vms[vm].known |= 1 << worker,
            What::Asleep { worker } => {
                self.figures.idle_wakeups += u64::from(self.workers[worker].woke);
                self.workers[worker] = Worker { asleep: Some(now), woke: false };
            }
            What::Rests { worker } => {
                let runs = |vm: &Vm| vm.running.is_some() || vm.dying;
                let answers = |vm: &Vm| runs(vm) && vm.asked.is_some_and(|at| now - at <= ROOM_US);
                ensure(self.vms.iter().any(answers), "nobody runs an answer")?;
                ensure(self.vms.iter().all(|vm| vm.running.is_none_or(|(w, _)| w != worker)), "it is busy")?;
                ensure(self.workers[worker].asleep.is_none(), "it sleeps")?;
                self.figures.rested += REST_US;
            }
            What::Awake { worker } => {
                ensure(self.workers[worker].asleep.is_some(), "it did not sleep")?;
                self.figures.wakeups += 1;
            }
            What::Died { worker } => {
                for vm in &mut self.vms {
                    vm.known &= !(1 << worker);
                    if let Some((_, since)) = vm.running.take_if(|(runner, _)| *runner == worker) {
                        vm.cpu += now - since;
                        (vm.alive, vm.dying) = (false, true);
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks the waits that end with the event, and starts those that begin.
    fn waits(&mut self, now: u64, what: What) -> Result<(), String> {
        match what {
            What::Begin { vm, worker } => {
                self.waited(vm, now)?;
                let state = &mut self.vms[vm];
                (state.running, state.owed, state.deadline, state.waits) = (Some((worker, now)), false, None, None);
            }
            What::Awake { worker } => {
                (0..self.vms.len()).try_for_each(|vm| self.beside(vm, worker, now))?;
                self.workers[worker] = Worker { asleep: None, woke: true };
            }
            What::Resumed { vm }
            | What::Stopped { vm }
            | What::Woken { vm, .. }
            | What::Held { vm }
            | What::Released { vm }
            | What::Removed { vm }
            | What::Lost { vm }
            | What::End { vm, .. } => {
                self.waited(vm, now)?;
                self.begin_to_wait(vm, now);
            }
            // What waits now for no other worker is not its fault.
            What::Died { worker } => self.workers[worker] = Worker::default(),
            What::Asleep { .. } | What::Rests { .. } | What::Attached { .. } => {}
        }
        Ok(())
    }

    /// A VM's wait ends now.
    fn waited(&mut self, vm: usize, now: u64) -> Result<(), String> {
        let Some(since) = self.vms[vm].waits else { return Ok(()) };
        (0..self.workers.len()).try_for_each(|worker| self.beside(vm, worker, now))?;
        self.figures.longest_wait = self.figures.longest_wait.max(now - since);
        let before = &self.vms[vm].others;
        let cpu = self.cpu(now);
        let gained = cpu.iter().enumerate().map(|(other, cpu)| cpu - before.get(other).copied().unwrap_or(0));
        let gained: Vec<u64> = gained.collect();
        let most = gained.iter().copied().max().unwrap_or(0);
        self.figures.most_of_another = self.figures.most_of_another.max(most);
        if most > self.limits.starvation {
            return Err(format!("waited {} while another got {most}", now - since));
        }
        // One of several workers rests for a third of the time at most. The steps between two slices take time as well.
        let thirds = if self.limits.workers > 1 { 3 * self.limits.workers - 1 } else { 3 };
        let bound = (self.most_alive - 1) * self.limits.starvation * 3 / thirds + SLICE_US;
        if now - since > bound + bound / 20 {
            return Err(format!("waited {}", now - since));
        }
        Ok(())
    }

    /// How long a VM has waited while a worker slept.
    fn beside(&mut self, vm: usize, worker: usize, now: u64) -> Result<(), String> {
        let knows = self.vms[vm].known >> worker & 1 != 0;
        let (Some(waits), Some(asleep), true) = (self.vms[vm].waits, self.workers[worker].asleep, knows) else {
            return Ok(());
        };
        let both = now - waits.max(asleep);
        self.figures.longest_beside_sleeper = self.figures.longest_beside_sleeper.max(both);
        if both > self.limits.beside_sleeper {
            return Err(format!("VM {vm} has waited since {waits} while worker {worker} slept since {asleep}"));
        }
        Ok(())
    }
}

mod tests {
    use super::*;

    const LIMITS: Limits = Limits { beside_sleeper: SLICE_US, starvation: STARVATION_BOUND_US, workers: 2 };
    const RESUMED: Event = (0, What::Resumed { vm: 0 });
    const KNOWN: [Event; 2] = [(0, What::Attached { vm: 0, worker: 0 }), (0, What::Attached { vm: 0, worker: 1 })];
    const BEGIN: What = What::Begin { vm: 0, worker: 0 };
    const PARKED: What = What::End { vm: 0, worker: 0, next: Next::Parked(None) };

    fn refused(trace: &[Event], why: &str) {
        match check(trace, LIMITS) {
            Err(wrong) => assert!(wrong.contains(why), "{wrong}"),
            Ok(_) => panic!("the checker did not see: {why}"),
        }
    }

    #[test]
    fn the_checker_sees_what_is_wrong() {
        let late = 2 * SLICE_US;
        let asleep = (2, What::Asleep { worker: 0 });
        let woken = What::Woken { vm: 0, interactive: false };
        let known = |rest: &[Event]| [&[RESUMED], &KNOWN[..], &[(0, BEGIN)], rest].concat();
        assert!(check(&known(&[(1, PARKED), asleep]), LIMITS).is_ok());
        refused(&[RESUMED, (0, BEGIN)], "does not know");
        refused(&known(&[(1, What::Begin { vm: 0, worker: 1 })]), "another worker runs it");
        refused(&known(&[(1, PARKED), (2, BEGIN)]), "no reason");
        refused(&known(&[(2, What::Held { vm: 0 })]), "while it runs");
        for (event, why) in [
            (What::Stopped { vm: 0 }, "paused"),
            (What::Held { vm: 0 }, "holds it"),
            (What::Removed { vm: 0 }, "closed"),
            (What::Died { worker: 0 }, "know"),
        ] {
            refused(&[RESUMED, KNOWN[0], (0, event), (2, BEGIN)], why);
        }
        let (asked, rests) = (What::Woken { vm: 0, interactive: true }, What::Rests { worker: 1 });
        assert!(check(&known(&[(1, asked), (2, rests)]), LIMITS).is_ok());
        refused(&known(&[(1, woken), (2, rests)]), "nobody runs an answer");
        refused(&known(&[(1, asked), (2 + ROOM_US, rests)]), "nobody runs an answer");
        refused(&known(&[(1, asked), (2, PARKED), (2, rests)]), "nobody runs an answer");
        refused(&known(&[(1, asked), (2, What::Rests { worker: 0 })]), "it is busy");
        let long = [&[(1, asked)], &[(2, rests); 60][..]].concat();
        refused(&known(&long), "rested for");
        // Wakes while it runs and while it is parked; a deadline.
        let end = (late + 9, What::Asleep { worker: 1 });
        refused(&known(&[(1, woken), (1, PARKED), asleep, end]), "at the end");
        refused(&known(&[(1, PARKED), asleep, (3, woken), end]), "at the end");
        let timed = What::End { vm: 0, worker: 0, next: Next::Parked(Some(5)) };
        refused(&known(&[(1, timed), asleep, end]), "at the end");
        // Somebody else runs all the time, or too many do.
        let other = [(0, What::Resumed { vm: 1 }), (0, What::Attached { vm: 1, worker: 1 })];
        let late = |at| [&known(&other)[..], &[(at, What::Begin { vm: 1, worker: 1 })]].concat();
        refused(&late(STARVATION_BOUND_US + 1), "while another got");
        let slow = Limits { starvation: SLICE_US, ..LIMITS };
        assert!(check(&late(SLICE_US), slow).is_ok());
    }
}
