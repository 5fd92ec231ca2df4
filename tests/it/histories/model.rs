// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small model of systemd: units, jobs, their signals, and the journal. It reacts plausibly, not always kindly.

use super::dice::Dice;
use crate::scenario::clue;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use watcherd::engine::action::Action;
use watcherd::engine::cause::Cause;
use watcherd::engine::event::{Active, Event, Exit, Outcome, PastRun, RunEnd, UnitFacts, UnitResult, UnitTraits};
use watcherd::engine::evidence::{Clues, Findings};
use watcherd::engine::ids::{ActionId, InvocationId, WorkerName};
use watcherd::engine::source::{Activity, GpuUse};
use watcherd::engine::time::{Mono, Now, Wall};

pub struct Model {
    pub units: BTreeMap<WorkerName, Unit>,
    /// What happens later: to a unit, or to the engine.
    later: BTreeMap<(Mono, u64), Later>,
    /// The journal: every run that ended.
    past: Vec<(WorkerName, PastRun)>,
    /// Signals on their way; they keep their order.
    stream: VecDeque<Event>,
    dice: Dice,
    serial: u64,
    /// Some signals never arrive.
    pub loses_signals: bool,
}

#[derive(Clone)]
pub struct Unit {
    pub facts: UnitFacts,
    loaded: bool,
    generation: u64,
    /// The action that waits for the unit's job.
    waiter: Option<ActionId>,
    stop_asked: bool,
    /// The stop is the first half of a restart.
    restarts: bool,
}

enum Later {
    Step(WorkerName, u64, Step),
    Tell(Box<Event>),
}

#[derive(Clone, Copy)]
enum Step {
    Up,
    Down(How),
    Dead,
    Started,
    AutoRestart,
}

#[derive(Clone, Copy)]
enum How {
    Clean,
    Failed(i32),
    Killed(i32),
}

impl Model {
    pub fn new(seed: u64) -> Model {
        Model {
            units: BTreeMap::new(),
            later: BTreeMap::new(),
            past: Vec::new(),
            stream: VecDeque::new(),
            dice: Dice::new(seed ^ 0x5eed),
            serial: 0,
            loses_signals: true,
        }
    }

    pub fn add(&mut self, name: &WorkerName, traits: UnitTraits) {
        let facts = UnitFacts { sub: "dead".into(), traits, ..UnitFacts::default() };
        let unit = Unit { facts, loaded: false, generation: 0, waiter: None, stop_asked: false, restarts: false };
        self.units.insert(name.clone(), unit);
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Mono> {
        self.later.keys().next().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due; returns what the engine is told.
    pub fn run(&mut self, now: Now) -> Vec<Event> {
        let mut told: Vec<Event> = self.stream.drain(..).collect();
        while let Some((key, _)) = self.later.first_key_value().filter(|((at, _), _)| *at <= now.mono)
            && let Some(later) = self.later.remove(&key.clone())
        {
            match later {
                Later::Tell(event) => told.push(*event),
                Later::Step(name, generation, step) => {
                    if self.units.get(&name).is_some_and(|unit| unit.generation == generation) {
                        self.step(&name, step, now);
                    }
                }
            }
            told.extend(self.stream.drain(..));
        }
        told
    }

    /// Every loaded unit.
    pub fn list(&self) -> Vec<(WorkerName, UnitFacts)> {
        let loaded = self.units.iter().filter(|(_, unit)| unit.loaded);
        loaded.map(|(name, unit)| (name.clone(), unit.facts.clone())).collect()
    }

    /// The engine is gone: nobody waits for anything any more, and signals are lost.
    pub fn forget_engine(&mut self) {
        self.stream.clear();
        self.later.retain(|_, later| matches!(later, Later::Step(..)));
        for unit in self.units.values_mut() {
            unit.waiter = None;
        }
    }

    /// The machine was booted: units without a file are gone, all others are down.
    pub fn reboot(&mut self) {
        self.forget_engine();
        self.later.clear();
        for unit in self.units.values_mut() {
            let traits = unit.facts.traits.clone();
            unit.facts = UnitFacts { sub: "dead".into(), traits, ..UnitFacts::default() };
            unit.loaded = false;
            unit.generation += 1;
            unit.stop_asked = false;
        }
    }

    pub fn perform(&mut self, action: &Action, now: Now) {
        match action {
            Action::Start(id, name, start) => {
                if start.thaw {
                    self.freeze(name, false);
                }
                let Some(unit) = self.units.get(name) else { return self.answer(*id, failed("no such unit"), now) };
                let up = unit.facts.is_up();
                if self.dice.one_in(12) {
                    self.answer(*id, failed("start limit hit"), now);
                } else if up && start.definition.is_some() {
                    self.answer(*id, failed("unit exists"), now);
                } else if up && !start.restart && unit.facts.active == Active::Deactivating {
                    // The start job takes the place of the stop job and waits for the end of the run.
                    self.wait(name, *id, now);
                    if let Some(unit) = self.units.get_mut(name) {
                        unit.restarts = true;
                    }
                } else if up && !start.restart {
                    self.answer(*id, Outcome::Ok, now);
                } else {
                    self.wait(name, *id, now);
                    if up { self.stop_job(name, true, now) } else { self.start_run(name, now) }
                }
            }
            Action::Stop(id, name) => {
                let up = self.units.get(name).is_some_and(|unit| unit.facts.is_up());
                let loaded = self.units.get(name).is_some_and(|unit| unit.loaded);
                if !loaded || self.dice.one_in(15) {
                    self.answer(*id, failed("not loaded"), now);
                } else if up {
                    self.wait(name, *id, now);
                    self.stop_job(name, false, now);
                } else {
                    self.wait(name, *id, now);
                    self.settle(name);
                    self.release(name, Outcome::Ok, now);
                }
            }
            Action::Kill(id, name, signal) => {
                if self.units.get(name).is_some_and(|unit| unit.facts.is_up()) {
                    self.end(name, How::Killed(*signal), now);
                }
                self.answer(*id, Outcome::Ok, now);
            }
            Action::Freeze(id, name, _) | Action::Thaw(id, name, _) => {
                let on = matches!(action, Action::Freeze(..));
                let works = !self.dice.one_in(6);
                let can = self.units.get(name).is_some_and(|unit| unit.facts.is_up());
                if works && can {
                    self.freeze(name, on);
                }
                self.answer(*id, if works && can { Outcome::Ok } else { failed("cannot") }, now);
            }
            Action::LookBack(id, name, since) => {
                let runs = self.past.iter().filter(|(unit, run)| unit == name && run.end.ended > *since);
                let runs = runs.map(|(_, run)| run.clone()).collect();
                let outcome = match self.dice.below(8) {
                    0 => failed("no journal"),
                    1 => Outcome::TimedOut,
                    _ => Outcome::Past(runs),
                };
                self.answer(*id, outcome, now);
            }
            Action::Examine(id, _) => {
                let cause = Cause::ALL[self.dice.below(Cause::ALL.len() as u64) as usize];
                let list = if self.dice.one_in(3) { Vec::new() } else { vec![clue(cause, "its last words")] };
                let (clues, core_to_come) = (Clues { list, lines: 1, suppressed: 0 }, self.dice.one_in(8));
                let findings = Findings { clues, gaps: Vec::new(), core_to_come };
                let pause = self.dice.pause() * 4;
                self.later(pause, Later::Tell(Box::new(Event::Examined(*id, findings.into()))), now);
            }
            Action::Hook(id, ..) => {
                let outcome = match self.dice.below(4) {
                    0 => failed("exit status 1"),
                    1 => Outcome::TimedOut,
                    _ => Outcome::Ok,
                };
                self.answer(*id, outcome, now);
            }
            Action::Await { conditions, .. } => {
                for until in conditions {
                    let told = if self.dice.one_in(3) { Err("unreadable".into()) } else { Ok(self.dice.one_in(2)) };
                    let pause = self.dice.pause() * 8;
                    self.later(pause, Later::Tell(Box::new(Event::Until(until.clone(), told))), now);
                }
            }
            Action::FindDumping(processes) => {
                for (name, pid) in processes {
                    let told = Event::Dumping(name.clone(), *pid);
                    self.later(Duration::ZERO, Later::Tell(Box::new(told)), now);
                }
            }
            Action::Look(id, ..) => {
                let counters = self.dice.below(4) << 20;
                let gpu = GpuUse { held: 0, compute: Some(50), memory: Some(1) };
                let gpu = self.dice.one_in(4).then_some(gpu);
                let activity = Activity { io: counters, pressure: Some(self.dice.pause()), gpu, ..Activity::default() };
                let outcome =
                    if self.dice.one_in(4) { failed("no control group") } else { Outcome::Activity(activity) };
                self.answer(*id, outcome, now);
            }
            Action::Capture(id, name, _) => {
                // The program may die of the signal that is to make it write down its stacks.
                if self.dice.one_in(2) && self.units.get(name).is_some_and(|unit| unit.facts.is_up()) {
                    self.end(name, How::Killed(6), now);
                }
                let outcome = if self.dice.one_in(4) { failed("disk full") } else { Outcome::Ok };
                self.answer(*id, outcome, now);
            }
            Action::Notify(id, _) => {
                let outcome = if self.dice.one_in(3) { failed("no route to host") } else { Outcome::Ok };
                let pause = self.dice.pause();
                self.later(pause, Later::Tell(Box::new(Event::Done(*id, outcome))), now);
            }
            Action::Equip(..) | Action::Follow(..) | Action::Record(_) | Action::Reply(..) | Action::Watch(_) => {}
        }
    }

    pub fn systemctl_start(&mut self, name: &WorkerName, now: Now) {
        if self.units.get(name).is_some_and(|unit| !unit.facts.is_up()) {
            self.cancel(name, now);
            self.start_run(name, now);
        }
    }

    pub fn systemctl_stop(&mut self, name: &WorkerName, restart: bool, now: Now) {
        self.cancel(name, now);
        if self.units.get(name).is_some_and(|unit| unit.facts.is_up()) {
            self.stop_job(name, restart, now);
        } else {
            self.settle(name);
        }
    }

    /// The run ends by itself: 0 and 1 with success.
    pub fn end_by_itself(&mut self, name: &WorkerName, how: u64, now: Now) {
        if self.units.get(name).is_some_and(|unit| unit.facts.is_up()) {
            let end = match how % 6 {
                0 => How::Clean,
                1 => How::Killed(15),
                2 => How::Killed(9),
                3 => How::Killed(11),
                _ => How::Failed(how as i32 % 5 + 1),
            };
            self.end(name, end, now);
        }
    }

    pub fn freeze(&mut self, name: &WorkerName, on: bool) {
        if let Some(unit) = self.units.get_mut(name).filter(|unit| unit.facts.traits.can_freeze) {
            unit.facts.frozen = on;
            self.signal(name);
        }
    }

    fn wait(&mut self, name: &WorkerName, id: ActionId, now: Now) {
        self.cancel(name, now);
        if let Some(unit) = self.units.get_mut(name) {
            unit.waiter = Some(id);
        }
    }

    fn cancel(&mut self, name: &WorkerName, now: Now) {
        self.release(name, failed("canceled"), now);
    }

    fn release(&mut self, name: &WorkerName, outcome: Outcome, now: Now) {
        if let Some(id) = self.units.get_mut(name).and_then(|unit| unit.waiter.take()) {
            self.answer(id, outcome, now);
        }
    }

    fn answer(&mut self, id: ActionId, outcome: Outcome, now: Now) {
        let pause = self.dice.pause();
        self.later(pause, Later::Tell(Box::new(Event::Done(id, outcome))), now);
    }

    fn later(&mut self, pause: Duration, later: Later, now: Now) {
        self.serial += 1;
        self.later.insert((now.mono + pause, self.serial), later);
    }

    fn schedule(&mut self, name: &WorkerName, pause: Duration, step: Step, now: Now) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.generation += 1;
        let later = Later::Step(name.clone(), unit.generation, step);
        self.later(pause, later, now);
    }

    fn signal(&mut self, name: &WorkerName) {
        if let Some(unit) = self.units.get(name)
            && !(self.loses_signals && self.dice.one_in(20))
        {
            self.stream.push_back(Event::Unit(name.clone(), unit.facts.clone()));
        }
    }

    fn start_run(&mut self, name: &WorkerName, now: Now) {
        self.serial += 1;
        let serial = self.serial;
        let Some(unit) = self.units.get_mut(name) else { return };
        let mut invocation = [0; 16];
        invocation[..8].copy_from_slice(&serial.to_be_bytes());
        invocation[8..].copy_from_slice(&serial.wrapping_mul(0x9e37_79b9).to_be_bytes());
        unit.loaded = true;
        unit.stop_asked = false;
        unit.restarts = false;
        unit.facts.invocation = Some(InvocationId(invocation));
        unit.facts.job = serial as u32 | 1;
        unit.facts.end = RunEnd { started: now.wall, ..RunEnd::default() };
        unit.facts.frozen = false;
        set(unit, Active::Inactive, "dead");
        self.signal(name);
        if let Some(unit) = self.units.get_mut(name) {
            set(unit, Active::Activating, "start");
        }
        self.signal(name);
        let pause = self.dice.pause();
        match self.dice.below(8) {
            0 => self.schedule(name, pause, Step::Down(How::Failed(7)), now),
            _ => self.schedule(name, pause, Step::Up, now),
        }
    }

    fn stop_job(&mut self, name: &WorkerName, restart: bool, now: Now) {
        self.serial += 1;
        let serial = self.serial as u32 | 1;
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.stop_asked = true;
        unit.restarts = restart;
        unit.facts.job = serial;
        unit.facts.frozen = false;
        set(unit, Active::Deactivating, "stop-sigterm");
        self.signal(name);
        let pause = self.dice.pause();
        let end = [How::Clean, How::Failed(143), How::Killed(15)][self.dice.below(3) as usize];
        if restart {
            self.schedule(name, pause, Step::Started, now);
        } else if !self.dice.one_in(8) {
            self.schedule(name, pause, Step::Down(end), now);
        } else {
            self.schedule(name, Duration::from_secs(90), Step::Down(How::Killed(9)), now);
        }
    }

    fn step(&mut self, name: &WorkerName, step: Step, now: Now) {
        match step {
            Step::Up => {
                let Some(unit) = self.units.get_mut(name) else { return };
                unit.facts.job = 0;
                (unit.facts.active_enter, unit.facts.main_started) = (now.mono, now.mono);
                set(unit, Active::Active, "running");
                self.signal(name);
                self.release(name, Outcome::Ok, now);
            }
            Step::Down(end) => self.end(name, end, now),
            Step::Started => {
                self.note_past(name, How::Clean, now);
                if let Some(unit) = self.units.get_mut(name) {
                    set(unit, Active::Inactive, "dead");
                }
                self.signal(name);
                self.start_run(name, now);
            }
            Step::AutoRestart => self.start_run(name, now),
            Step::Dead => self.unload(name),
        }
    }

    fn note_past(&mut self, name: &WorkerName, how: How, now: Now) -> UnitResult {
        let Some(unit) = self.units.get_mut(name) else { return UnitResult::Success };
        let (result, exit) = match how {
            How::Clean => (UnitResult::Success, Exit::Exited(0)),
            How::Failed(143) if unit.stop_asked => (UnitResult::ExitCode, Exit::Exited(143)),
            How::Failed(status) => (UnitResult::ExitCode, Exit::Exited(status)),
            How::Killed(15) => (UnitResult::Success, Exit::Killed(15)),
            How::Killed(signal) => (UnitResult::Signal, Exit::Killed(signal)),
        };
        unit.facts.end = RunEnd { result: result.clone(), exit, pid: 1, started: Wall::NEVER, ended: now.wall };
        let run = PastRun { invocation: unit.facts.invocation, end: unit.facts.end.clone(), stopped: unit.stop_asked };
        self.past.push((name.clone(), run));
        result
    }

    fn end(&mut self, name: &WorkerName, how: How, now: Now) {
        let result = self.note_past(name, how, now);
        let Some(unit) = self.units.get_mut(name) else { return };
        let starting = unit.facts.active == Active::Activating;
        let again = unit.facts.traits.restarts_itself && !unit.stop_asked && !starting;
        unit.facts.job = 0;
        unit.facts.frozen = false;
        unit.generation += 1;
        self.settle(name);
        let restarts = self.units.get(name).is_some_and(|unit| unit.restarts);
        if restarts {
            self.start_run(name, now);
            return;
        }
        self.release(name, if starting { failed("job failed") } else { Outcome::Ok }, now);
        if again {
            if let Some(unit) = self.units.get_mut(name) {
                set(unit, Active::Activating, "auto-restart");
            }
            self.signal(name);
            let pause = self.dice.pause() * 10;
            self.schedule(name, pause, Step::AutoRestart, now);
        } else if result == UnitResult::Success && self.units.get(name).is_some_and(|u| u.facts.traits.transient) {
            self.schedule(name, Duration::from_micros(100), Step::Dead, now);
        }
    }

    /// Down, as the last result says; ends `auto-restart`.
    fn settle(&mut self, name: &WorkerName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.generation += 1;
        let failed = unit.facts.end.result != UnitResult::Success;
        if failed {
            set(unit, Active::Failed, "failed")
        } else {
            set(unit, Active::Inactive, "dead")
        }
        self.signal(name);
    }

    pub fn unload(&mut self, name: &WorkerName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if !unit.facts.is_up() && !unit.facts.waits_for_own_restart() {
            unit.loaded = false;
            unit.facts.invocation = None;
            self.stream.push_back(Event::Gone(name.clone()));
        }
    }
}

fn set(unit: &mut Unit, active: Active, sub: &str) {
    unit.facts.active = active;
    sub.clone_into(&mut unit.facts.sub);
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed(why.to_owned())
}
