// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lets an engine with another policy live through what was recorded.
//!
//! As long as it does to a worker what was done to it in the recording, the worker does what it did there, only sooner or
//! later. Each deed opens the next chapter of the recording that began with the same deed: the n-th start is followed by
//! what followed the n-th start. For a deed that no chapter is left for, something plausible is assumed, and all that
//! follows is marked so.

use super::decision::Decision;
use super::tape::{Answer, Deed, Happened, Tape};
use crate::engine::Engine;
use crate::engine::action::{Action, Freezer, Interest, Step};
use crate::engine::event::{Active, Event, Exit, Outcome, Request, RunEnd, UnitFacts, UnitResult};
use crate::engine::evidence::Findings;
use crate::engine::ids::{ActionId, HoldId, IncidentId, InvocationId, ObjectId, WorkerName};
use crate::engine::policy::Policies;
use crate::engine::time::{Now, Wall};
use crate::engine::until::Until;
use crate::engine::view::View;
use crate::scenario::action::{Detail, action_text};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is assumed takes so long.
const ASSUMED_AFTER: Duration = Duration::from_millis(100);
/// A deed that comes so soon before or after that of the recording comes at the same time.
const SAME_TIME: Duration = Duration::from_millis(20);
/// A look is the same as one of the recording if it comes within so long of it.
const SAME_LOOK: Duration = Duration::from_secs(60);
/// What the recording has no place for comes last.
const LAST: u64 = u64::MAX;
/// Times that the engine is woken or told something at most.
const STEPS_MAX: u32 = 5_000_000;
/// Why what nobody recorded is not known.
const UNRECORDED: &str = "the recording does not say";

/// What waits for its time.
enum Waiting {
    /// It happens to the engine whatever it did.
    Tell(Box<Event>),
    /// It happens to a worker that is still in this chapter, of this turn.
    Happens(WorkerName, u64, Box<Event>),
    /// Units were listed, at this place in the recording.
    Listing(u64, Box<Event>),
}

/// How a worker fares.
#[derive(Default)]
struct Fate {
    /// The chapter that it is in.
    chapter: usize,
    /// Counts the chapters that it has been in, and what was assumed.
    turn: u64,
    /// Its chapter begins at this time here, and at that time in the recording.
    here: Duration,
    there: Duration,
    facts: Option<UnitFacts>,
    assumed: bool,
}

pub struct World<'a> {
    tape: &'a Tape,
    engine: Engine,
    at: Duration,
    /// The place in the recording, among what happens at this time.
    order: u64,
    /// By time, place in the recording, and order in which it began to wait.
    waiting: BTreeMap<(Duration, u64, u64), Waiting>,
    serial: u64,
    fates: BTreeMap<WorkerName, Fate>,
    interest: Interest,
    /// How many answers of each kind are used up.
    used: BTreeMap<(String, Option<WorkerName>), usize>,
    /// What the recording says about conditions so far.
    conditions: BTreeMap<Until, Result<bool, String>>,
    known_conditions: BTreeMap<Until, Vec<Duration>>,
    /// The holds here, by the request that placed them.
    holds: BTreeMap<u64, u32>,
    incidents: BTreeMap<u32, WorkerName>,
    reloads: bool,
    decisions: Vec<Decision>,
}

/// The decisions of `policies` about what was recorded; `None` for those of the recording, with every reload. The error is
/// a sentence fragment.
pub fn live(tape: &Tape, policies: Option<Policies>) -> Result<Vec<Decision>, String> {
    let reloads = policies.is_none();
    let policies = policies.unwrap_or_else(|| tape.scene.policies.clone());
    let (engine, first) = Engine::new(policies, tape.scene.saved.clone(), tape.scene.seed, tape.now(Duration::ZERO, 0));
    let known = tape.scene.saved.iter().flat_map(|saved| &saved.incidents);
    let mut world = World {
        tape,
        engine,
        at: Duration::ZERO,
        order: 0,
        waiting: BTreeMap::new(),
        serial: 0,
        fates: BTreeMap::new(),
        interest: Interest::default(),
        used: BTreeMap::new(),
        conditions: BTreeMap::new(),
        known_conditions: tape.conditions(),
        holds: BTreeMap::new(),
        incidents: known.map(|incident| (incident.id.0, incident.worker.clone())).collect(),
        reloads,
        decisions: Vec::new(),
    };
    world.begin();
    world.perform(first);
    world.run()?;
    Ok(world.decisions)
}

impl World<'_> {
    /// Everything that happens whatever is done, and the first chapter of every worker.
    fn begin(&mut self) {
        let tape = self.tape;
        for (name, chapters) in &tape.workers {
            for Happened { at, order, event } in
                chapters.first().map(|chapter| chapter.events.as_slice()).unwrap_or_default()
            {
                self.wait(*at, *order, Waiting::Happens(name.clone(), 0, Box::new(event.clone())));
            }
        }
        for Happened { at, order, event } in &tape.events {
            let event = Box::new(event.clone());
            let waiting = match &*event {
                Event::Listed(..) => Waiting::Listing(*order, event),
                Event::Policies(_) if !self.reloads => continue,
                _ => Waiting::Tell(event),
            };
            self.wait(*at, *order, waiting);
        }
    }

    fn wait(&mut self, at: Duration, order: u64, waiting: Waiting) {
        self.serial += 1;
        self.waiting.insert((at, order, self.serial), waiting);
    }

    fn tell_later(&mut self, after: Duration, order: u64, event: Event) {
        self.wait(self.at + after, order, Waiting::Tell(Box::new(event)));
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let wake = self.engine.next_wakeup().map(|(at, _)| self.at + at.since(self.now().mono));
            let next = self.waiting.keys().next().map(|(at, order, _)| (*at, *order));
            match (wake, next) {
                (Some(wake), next) if wake <= self.tape.end && next.is_none_or(|(next, _)| wake <= next) => {
                    let before = next.filter(|(next, _)| *next == wake).map(|(_, order)| order.saturating_sub(1));
                    (self.at, self.order) = (wake, before.unwrap_or(LAST));
                    self.feed(Event::Wake);
                }
                (_, Some((next, order))) if next <= self.tape.end => {
                    let Some((_, waiting)) = self.waiting.pop_first() else { return Ok(()) };
                    (self.at, self.order) = (next.max(self.at), order);
                    self.happen(waiting);
                }
                _ => return Ok(()),
            }
        }
        Err(format!("with that policy more than {STEPS_MAX} things happen"))
    }

    fn happen(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Happens(name, turn, event) => {
                let fate = self.fates.entry(name).or_default();
                if fate.turn != turn {
                    return;
                }
                match &*event {
                    Event::Unit(_, facts) => fate.facts = Some(facts.clone()),
                    Event::Gone(_) => fate.facts = None,
                    _ => {}
                }
                self.feed(*event);
            }
            Waiting::Listing(order, event) => self.listing(order, &event),
            Waiting::Tell(event) => self.tell(*event),
        }
    }

    /// What was listed counts for workers whose fate is that of the recording.
    fn listing(&mut self, order: u64, event: &Event) {
        let rows = Tape::rows(event);
        let known: BTreeSet<&WorkerName> = rows.iter().map(|(name, _)| name).collect();
        for (name, facts) in rows {
            let on_course = self.is_on_course(name, order);
            let fate = self.fates.entry(name.clone()).or_default();
            if on_course {
                fate.facts = Some(facts.clone());
            }
        }
        let gone = self.fates.keys().filter(|name| !known.contains(name) && self.is_on_course(name, order));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.fates.entry(name).or_default().facts = None;
        }
        let wanted = |name: &WorkerName| {
            self.interest.names.contains(name) || self.interest.globs.iter().any(|glob| glob.matches(name))
        };
        let rows = self.fates.iter().filter(|(name, _)| wanted(name));
        let rows = rows.filter_map(|(name, fate)| Some((name.clone(), fate.facts.clone()?))).collect();
        self.feed(Event::Listed(self.interest.clone(), rows));
    }

    fn is_on_course(&self, name: &WorkerName, order: u64) -> bool {
        let Some(fate) = self.fates.get(name) else { return true };
        let late = fate.here.abs_diff(fate.there);
        !fate.assumed && fate.chapter == self.tape.chapter_at(name, order) && late < Duration::from_secs(1)
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Until(condition, holds) => {
                self.conditions.insert(condition.clone(), holds.clone());
                self.feed(Event::Until(condition, holds));
            }
            Event::Request(id, caller, request) => {
                let request = self.translated(request);
                self.feed(Event::Request(id, caller, request));
            }
            event => self.feed(event),
        }
    }

    /// Numbers of holds and incidents are others here.
    fn translated(&self, request: Request) -> Request {
        match request {
            Request::Release(hold) => {
                let request = self.tape.holds.iter().find(|(_, known)| **known == hold.0).map(|(request, _)| request);
                let here = request.and_then(|request| self.holds.get(request));
                Request::Release(here.map_or(hold, |here| HoldId(*here)))
            }
            Request::CloseIncident { incident, why } => {
                // The n-th incident of a worker stands for the n-th one.
                let here = self.tape.incidents.get(&incident).and_then(|worker| {
                    let earlier = self.tape.incidents.range(..incident).filter(|(_, name)| *name == worker).count();
                    self.incidents.iter().filter(|(_, name)| *name == worker).map(|(id, _)| *id).nth(earlier)
                });
                Request::CloseIncident { incident: here.map_or(incident, IncidentId), why }
            }
            request => request,
        }
    }

    fn now(&self) -> Now {
        self.tape.now(self.at, self.order)
    }

    fn feed(&mut self, event: Event) {
        let step = self.engine.handle(self.now(), event);
        self.perform(step);
    }

    fn perform(&mut self, step: Step) {
        for id in &step.changes {
            if let (ObjectId::Incident(number), Some(View::Incident(view))) = (id, self.engine.view(id)) {
                self.incidents.insert(number.0, view.worker);
            }
        }
        for action in step.actions {
            let text = action_text(&action, self.tape.scene.zero, Detail::Masked);
            let about = |incident| self.incidents.get(&incident).cloned();
            if let Some(mut decision) = Decision::read(self.at, &text, about) {
                let fate = decision.worker.as_ref().and_then(|name| self.fates.get(name));
                decision.assumed = fate.is_some_and(|fate| fate.assumed);
                self.decisions.push(decision);
            }
            self.answer(action);
        }
    }

    fn answer(&mut self, action: Action) {
        match action {
            Action::Start(id, name, _) => self.deed(id, &name, Deed::Start, |facts, world| world.started(facts)),
            Action::Stop(id, name) => self.deed(id, &name, Deed::Stop, |facts, _| stopped(facts)),
            Action::Kill(id, name, signal) => {
                self.deed(id, &name, Deed::Kill, move |facts, world| world.killed(facts, signal));
            }
            Action::Freeze(id, name, freezer) => {
                self.deed(id, &name, Deed::Freeze, move |facts, _| frozen(facts, freezer == Freezer::Cgroup));
            }
            Action::Thaw(id, name, _) => self.deed(id, &name, Deed::Thaw, |facts, _| frozen(facts, false)),
            Action::Capture(id, name, _) => self.deed(id, &name, Deed::Capture, |_, _| Vec::new()),
            Action::LookBack(id, name, _) => self.next_answer(id, "look-back", Some(&name), Outcome::Past(Vec::new())),
            Action::Hook(id, name, _) => self.next_answer(id, "hook", Some(&name), Outcome::Ok),
            Action::Notify(id, _) => self.next_answer(id, "notify", None, Outcome::Ok),
            Action::Look(id, name, _) => self.nearest_look(id, &name),
            Action::Examine(id, subject) => self.examined(id, &subject.worker),
            Action::Await { conditions, .. } => self.awaited(conditions),
            Action::Watch(interest) => self.interest = interest,
            Action::Reply(request, Ok(crate::engine::event::Answer::Hold(hold))) => {
                self.holds.insert(request.0, hold.0);
            }
            Action::FindDumping(_) | Action::Follow(..) | Action::Equip(..) | Action::Record(_) | Action::Reply(..) => {
            }
        }
    }

    /// Goes on with the chapter that began with the same deed, or assumes how it ends.
    fn deed(
        &mut self,
        id: ActionId,
        name: &WorkerName,
        deed: Deed,
        assume: impl FnOnce(UnitFacts, &World<'_>) -> Vec<UnitFacts>,
    ) {
        let tape = self.tape;
        let chapters = tape.workers.get(name).map_or(&[][..], Vec::as_slice);
        let at = self.at;
        let fate = self.fates.entry(name.clone()).or_default();
        fate.turn += 1;
        let turn = fate.turn;
        let later = chapters.iter().enumerate().skip(fate.chapter + 1);
        // Another start is as good as this one; anything else belongs to the run that it was done to.
        let found = match deed {
            Deed::Start => later.clone().find(|(_, chapter)| chapter.deed == Some(Deed::Start)),
            deed => {
                let mut same_run = later.clone().take_while(|(_, chapter)| chapter.deed != Some(Deed::Start));
                same_run.find(|(_, chapter)| chapter.deed == Some(deed))
            }
        };
        if let Some((place, chapter)) = found.filter(|_| !fate.assumed || deed == Deed::Start) {
            (fate.chapter, fate.there, fate.assumed) = (place, chapter.at, false);
            fate.here = if at.abs_diff(chapter.at) < SAME_TIME { chapter.at } else { at };
            let here = fate.here;
            for happened in &chapter.events {
                let when = (here + happened.at.saturating_sub(chapter.at)).max(at);
                let event = Box::new(happened.event.clone());
                self.wait(when, happened.order, Waiting::Happens(name.clone(), turn, event));
            }
            self.done(id, Some(&chapter.answer), Outcome::Ok);
            return;
        }
        fate.assumed = true;
        let facts = fate.facts.clone().unwrap_or_default();
        for facts in assume(facts, self) {
            let event = Event::Unit(name.clone(), facts);
            self.wait(at + ASSUMED_AFTER, LAST, Waiting::Happens(name.clone(), turn, Box::new(event)));
        }
        self.tell_later(ASSUMED_AFTER, LAST, Event::Done(id, Outcome::Ok));
    }

    fn now_assumed(&self) -> Wall {
        self.tape.now(self.at + ASSUMED_AFTER, LAST).wall
    }

    /// It starts, and runs on.
    fn started(&self, mut facts: UnitFacts) -> Vec<UnitFacts> {
        let now = self.tape.now(self.at + ASSUMED_AFTER, LAST);
        // No other run has this id: it begins with what the recording cannot have.
        let mut id = [0xff; 16];
        id[8..].copy_from_slice(&self.serial.to_be_bytes());
        facts.active = Active::Active;
        facts.sub = "running".into();
        (facts.job, facts.frozen, facts.main_pid) = (0, false, 1);
        facts.invocation = Some(InvocationId(id));
        facts.end = RunEnd { started: now.wall, pid: 1, ..RunEnd::default() };
        (facts.active_enter, facts.main_started) = (now.mono, now.mono);
        vec![facts]
    }

    fn killed(&self, mut facts: UnitFacts, signal: i32) -> Vec<UnitFacts> {
        if !facts.is_up() {
            return Vec::new();
        }
        facts.active = Active::Failed;
        facts.sub = "failed".into();
        (facts.job, facts.main_pid) = (0, 0);
        facts.end.result = UnitResult::Signal;
        facts.end.exit = Exit::Killed(signal);
        facts.end.ended = self.now_assumed();
        vec![facts]
    }

    /// The next answer of this kind that was recorded.
    fn next_answer(&mut self, id: ActionId, kind: &str, name: Option<&WorkerName>, usual: Outcome) {
        let key = (kind.to_owned(), name.cloned());
        let answers = self.tape.answers.get(&key).map_or(&[][..], Vec::as_slice);
        let used = self.used.entry(key).or_default();
        let found = answers.get(*used);
        *used += 1;
        self.done(id, found, usual);
    }

    /// What was seen at that time of its run, or nearest to it.
    fn nearest_look(&mut self, id: ActionId, name: &WorkerName) {
        let there = self.there(name);
        let key = ("look".to_owned(), Some(name.clone()));
        let answers = self.tape.answers.get(&key).map_or(&[][..], Vec::as_slice);
        let asked: Vec<Duration> = answers.iter().map(|answer| answer.asked).collect();
        let found = self.nearest(key, &asked, there).map(|place| &answers[place]);
        self.done(id, found, Outcome::Failed(UNRECORDED.into()));
    }

    /// The next one that was asked for at about that time, else the one that was nearest to it.
    fn nearest(&mut self, key: (String, Option<WorkerName>), asked: &[Duration], there: Duration) -> Option<usize> {
        let used = self.used.entry(key).or_default();
        let mut later = asked.iter().enumerate().skip(*used);
        if let Some((place, _)) = later.find(|(_, at)| at.abs_diff(there) <= SAME_LOOK) {
            *used = place + 1;
            return Some(place);
        }
        let nearest = asked.iter().enumerate().min_by_key(|(_, at)| at.abs_diff(there));
        nearest.map(|(place, _)| place)
    }

    fn done(&mut self, id: ActionId, found: Option<&Answer>, usual: Outcome) {
        let (after, order, outcome) = match found {
            None => (ASSUMED_AFTER, LAST, usual),
            Some(Answer { after, order, outcome: Some(outcome), .. }) => (*after, *order, outcome.clone()),
            // What never ended there does not end here.
            Some(Answer { outcome: None, .. }) => return,
        };
        self.tell_later(after, order, Event::Done(id, outcome));
    }

    /// The time in the recording that is now for a worker.
    fn there(&self, name: &WorkerName) -> Duration {
        let fate = self.fates.get(name);
        fate.map_or(self.at, |fate| fate.there + self.at.saturating_sub(fate.here))
    }

    fn examined(&mut self, id: IncidentId, name: &WorkerName) {
        let there = self.there(name);
        let assumed = self.fates.get(name).is_some_and(|fate| fate.assumed);
        let known = self.tape.examined.get(name).map_or(&[][..], Vec::as_slice);
        let asked: Vec<Duration> = known.iter().filter(|_| !assumed).map(|(asked, _)| *asked).collect();
        let found = self.nearest(("examine".into(), Some(name.clone())), &asked, there).map(|place| &known[place]);
        let unknown = || Findings { gaps: vec![UNRECORDED.into()], ..Findings::default() };
        let (after, order, findings) = match found {
            None => (ASSUMED_AFTER, LAST, unknown()),
            Some((_, Some(found))) => (found.after, found.order, found.findings.clone()),
            Some((_, None)) => return,
        };
        self.tell_later(after, order, Event::Examined(id, findings.into()));
    }

    /// What the recording says about a condition counts; of others nothing is known.
    fn awaited(&mut self, conditions: BTreeSet<Until>) {
        for condition in conditions {
            let last = self.known_conditions.get(&condition).and_then(|told| told.last());
            let unanswered = self.tape.awaited.contains(&condition.to_string());
            if unanswered || last.is_some_and(|last| *last > self.at) {
                continue;
            }
            let told = self.conditions.get(&condition).cloned().unwrap_or_else(|| Err(UNRECORDED.into()));
            self.tell_later(ASSUMED_AFTER, LAST, Event::Until(condition, told));
        }
    }
}

fn stopped(mut facts: UnitFacts) -> Vec<UnitFacts> {
    facts.active = Active::Inactive;
    facts.sub = "dead".into();
    (facts.job, facts.main_pid, facts.frozen) = (0, 0, false);
    vec![facts]
}

fn frozen(mut facts: UnitFacts, on: bool) -> Vec<UnitFacts> {
    if facts.frozen == on {
        return Vec::new();
    }
    facts.frozen = on;
    vec![facts]
}
