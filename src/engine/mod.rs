// SPDX-License-Identifier: MIT OR Apache-2.0
//! The logic: everything that happens comes in as an [`Event`], everything to be done goes out as an [`Action`].
//!
//! No IO, no clock, no locks, no async; only `std`, and it compiles alone. How to use it:
//!
//! 1. Make one with [`Engine::new`], from the policies, the saved state, a seed and the time.
//! 2. Feed it with [`Engine::handle`]; it applies the event, then lets everything expire that is due, always both.
//! 3. Save the objects named in `changes`, then perform `actions` in order, then publish the changes.
//! 4. Report the end of every action that has an id as [`Event::Done`], exactly once, also on time-out and shutdown.
//! 5. Call `handle` with [`Event::Wake`] when [`Engine::next_wakeup`] comes; waking too early is harmless.
//!
//! What holds at any time: an action id is used once; a late or unknown `Done` is ignored; the same seed and events
//! give the same actions; a held worker is never the object of an action; budgets are never exceeded; everything kept
//! has a cap; there is one incident per failed run.

pub mod action;
pub mod cause;
pub mod checkpoint;
pub mod classify;
mod cluster;
pub mod condition;
pub mod event;
pub mod evidence;
mod exports;
mod flight;
mod follow_up;
mod hold;
pub mod ids;
mod incident;
pub mod judge;
mod ladder;
mod life;
mod lookback;
mod news;
pub mod notice;
mod outbox;
mod oversight;
pub mod pace;
pub mod parameter;
pub mod policy;
mod progress;
pub mod recurrence;
mod remedy;
mod request;
mod restart;
mod rng;
pub mod saved;
pub mod sign;
pub mod source;
pub mod specifier;
mod stall;
mod sweep;
pub mod time;
pub mod until;
mod verdict;
pub mod view;
mod watch;
mod worker;
pub mod xid;

use action::{Action, Entry, EntryKind, Interest, Step};
use event::{Answer, Caller, Event, Outcome, Refusal, Request, UnitFacts, Verb};
use flight::{Flight, Ticket};
use hold::Hold;
use ids::{ActionId, HoldId, IncidentId, JobId, NoticeId, ObjectId, WorkerName};
use incident::Incidents;
use outbox::Outbox;
use policy::{Layer, Policies};
use rng::Rng;
use saved::{Saved, SavedHold, SavedNotice, SavedOrigin, SavedProgress, SavedWorker};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use time::{Mono, Now, Wall};
use verdict::Case;
pub use verdict::{Subject, VERDICT_WAIT};
use view::{HoldView, IncidentResult, JobView, ManagerView, View};
use worker::{Surroundings, Timer, Worker};

/// Workers that can be supervised at once.
pub const WORKERS_MAX: usize = 10_000;
/// Holds that can exist at once.
pub const HOLDS_MAX: usize = 1_000;
/// How often it is looked whether a hold has come to its end.
const LOOK_AT_HOLDS: Duration = Duration::from_secs(60);
/// Jobs that can wait or run at once.
pub const JOBS_MAX: usize = 2_000;

#[derive(Clone, Debug)]
pub struct Engine {
    policies: Policies,
    workers: BTreeMap<WorkerName, Worker>,
    incidents: Incidents,
    outbox: Outbox,
    holds: BTreeMap<HoldId, Hold>,
    jobs: BTreeMap<JobId, JobView>,
    finished_jobs: Vec<JobId>,
    flights: BTreeMap<ActionId, Flight>,
    /// Failed runs whose verdict is still to come.
    cases: BTreeMap<IncidentId, Case>,
    /// Starts and stops that wait for a free slot.
    waiting: VecDeque<Ticket>,
    timers: BTreeSet<(Mono, WorkerName)>,
    rng: Rng,
    next_action: u64,
    next_hold: u32,
    next_job: u32,
    host_stopping: bool,
    /// When the patterns in force were put in force; what units did before that is not judged.
    watching_since: Wall,
    /// The machine was booted since the state was saved.
    rebooted: bool,
    /// systemd's major version; zero until it is known.
    systemd: u32,
    now: Now,
    step: Step,
    touched: BTreeSet<WorkerName>,
    /// Recent failures that workers may have in common.
    clusters: cluster::Clusters,
    /// The conditions that were asked for.
    awaited: BTreeSet<until::Until>,
}

/// What a new configuration would change for one worker, or pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    pub unit: String,
    pub change: Change,
    /// The keys whose values change.
    pub keys: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Add,
    Remove,
    Change,
    Unchanged,
}

impl Engine {
    /// Makes an engine. Workers that were saved are not acted upon before their units have been listed.
    pub fn new(policies: Policies, saved: Option<Saved>, seed: u64, now: Now) -> (Engine, Step) {
        let saved = saved.unwrap_or_default();
        let watching_since = life::watching_since(&saved, now);
        let incidents = Incidents::restore(saved.incidents, saved.next_incident);
        let outbox = Outbox::restore(saved.notices, incidents.closed(), now);
        let mut engine = Engine {
            policies,
            workers: BTreeMap::new(),
            incidents,
            outbox,
            holds: saved.holds.into_iter().map(|hold| (hold.id, Hold::restore(hold))).collect(),
            jobs: BTreeMap::new(),
            finished_jobs: Vec::new(),
            flights: BTreeMap::new(),
            cases: BTreeMap::new(),
            waiting: VecDeque::new(),
            timers: BTreeSet::new(),
            rng: Rng::new(seed),
            next_action: 1,
            next_hold: saved.next_hold.max(1),
            next_job: 1,
            host_stopping: false,
            watching_since,
            rebooted: !saved.same_boot,
            systemd: 0,
            now,
            step: Step::default(),
            touched: BTreeSet::new(),
            clusters: cluster::Clusters::default(),
            awaited: BTreeSet::new(),
        };
        // Where the wall clock is behind after a boot, what was past is past, and what was to come does not come later.
        let shift = |at: Mono| {
            let latest = now.mono + at.since(saved.clock.mono);
            if saved.same_boot { at } else { now.mono_at(saved.clock.wall_at(at)).min(latest) }
        };
        for worker in saved.workers {
            engine.restore(worker, &shift);
        }
        for progress in &saved.progress {
            engine.restore_progress(progress);
        }
        engine.take_up_named();
        engine.watch();
        let known_until = saved.clock.wall;
        engine.await_conditions(if known_until == Wall::NEVER { now.wall } else { known_until });
        engine.step.changes.insert(ObjectId::Manager);
        let open: Vec<_> = engine.incidents.all().map(|incident| incident.id).collect();
        engine.step.changes.extend(open.into_iter().map(ObjectId::Incident));
        engine.settle();
        engine.expire();
        engine.look_for_news();
        let step = std::mem::take(&mut engine.step);
        (engine, step)
    }

    /// Applies `event`, then lets everything expire that is due.
    pub fn handle(&mut self, now: Now, event: Event) -> Step {
        self.now = Now { mono: now.mono.max(self.now.mono), wall: now.wall };
        for job in std::mem::take(&mut self.finished_jobs) {
            self.jobs.remove(&job);
            self.step.changes.insert(ObjectId::Job(job));
        }
        self.apply(event);
        self.settle();
        self.expire();
        self.notify();
        std::mem::take(&mut self.step)
    }

    /// When `handle` must be called next, and whose timer it is; always later than the last `handle`.
    pub fn next_wakeup(&self) -> Option<(Mono, WakeFor)> {
        let worker = self.timers.first().map(|(at, name)| (*at, WakeFor::Worker(name.clone())));
        // The wall clock may be set, and the machine may sleep meanwhile.
        let look = self.now.mono + LOOK_AT_HOLDS;
        let hold = self
            .holds
            .iter()
            .filter_map(|(id, hold)| hold.until.map(|until| (self.now.mono_at(until).min(look), WakeFor::Hold(*id))))
            .min_by_key(|(at, _)| *at);
        let notice = self.next_notice().map(|at| (at, WakeFor::Notice));
        [worker, hold, notice].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What others may see of an object; `None` if it is gone.
    pub fn view(&self, id: &ObjectId) -> Option<View> {
        match id {
            ObjectId::Manager => Some(View::Manager(self.manager_view())),
            ObjectId::Worker(name) => {
                self.workers.get(name).map(|worker| View::Worker(worker.view(self.hold_of(name).is_some(), self.now)))
            }
            ObjectId::Incident(id) => self.incidents.get(*id).cloned().map(View::Incident),
            ObjectId::Job(id) => self.jobs.get(id).cloned().map(View::Job),
            ObjectId::Notice(_) => None,
        }
    }

    /// Every object that exists now.
    pub fn objects(&self) -> Vec<ObjectId> {
        let workers = self.workers.keys().cloned().map(ObjectId::Worker);
        let incidents = self.incidents.all().map(|incident| ObjectId::Incident(incident.id));
        let jobs = self.jobs.keys().copied().map(ObjectId::Job);
        std::iter::once(ObjectId::Manager).chain(workers).chain(incidents).chain(jobs).collect()
    }

    /// What must survive of one worker; `None` if it is not supervised any more.
    pub fn saved_worker(&self, name: &WorkerName) -> Option<SavedWorker> {
        self.workers.get(name).map(Worker::saved)
    }

    /// How far a worker is, for the next start; `None` if it never said.
    pub fn saved_progress(&self, name: &WorkerName) -> Option<SavedProgress> {
        let worker = self.workers.get(name)?;
        let progress = worker.progress.as_ref()?.view();
        Some(SavedProgress {
            worker: name.clone(),
            run: worker.run.invocation.filter(|_| worker.watch.moved),
            at: progress.at,
            value: progress.value,
            total: progress.total,
            paces: worker.watch.paces(),
            values: worker.watch.values.clone(),
        })
    }

    /// What must survive of a notice; `None` if it is not kept any more.
    pub fn saved_notice(&self, id: NoticeId) -> Option<SavedNotice> {
        self.outbox.saved(id, self.now)
    }

    /// The notices that are kept, oldest first.
    pub fn notices(&self) -> Vec<SavedNotice> {
        self.outbox.all(self.now)
    }

    /// The holds that must survive.
    pub fn saved_holds(&self) -> Vec<SavedHold> {
        self.holds.iter().filter(|(_, hold)| !hold.lock).map(|(id, hold)| hold.saved(*id)).collect()
    }

    /// The ids that the next incident and the next hold will get.
    pub fn next_ids(&self) -> (u32, u32) {
        (self.incidents.next_id(), self.next_hold)
    }

    /// Everything that must survive.
    pub fn saved(&self) -> Saved {
        let (next_incident, next_hold) = self.next_ids();
        Saved {
            clock: self.now,
            same_boot: true,
            away: Wall::NEVER,
            workers: self.workers.values().map(Worker::saved).collect(),
            holds: self.saved_holds(),
            progress: self.workers.keys().filter_map(|name| self.saved_progress(name)).collect(),
            notices: self.notices(),
            incidents: self.incidents.all().cloned().collect(),
            next_incident,
            next_hold,
        }
    }

    /// What `policies` would change, without changing anything.
    pub fn plan(&self, policies: &Policies) -> Vec<PlanRow> {
        let mut rows: Vec<PlanRow> = self
            .workers
            .values()
            .map(|worker| {
                let unit = worker.name.to_string();
                match policies.resolve(&worker.name, worker.own.as_ref()) {
                    None => PlanRow { unit, change: Change::Remove, keys: Vec::new() },
                    Some(policy) => {
                        let keys = policy.differing_keys(&worker.policy);
                        let change = if keys.is_empty() { Change::Unchanged } else { Change::Change };
                        PlanRow { unit, change, keys }
                    }
                }
            })
            .collect();
        let known: BTreeSet<_> = self.policies.layers.iter().flat_map(|layer| &layer.units).map(|p| &p.value).collect();
        for pattern in policies.layers.iter().flat_map(|layer| &layer.units).map(|pattern| &pattern.value) {
            let taken_up = pattern.exact().is_some_and(|name| self.workers.contains_key(&name));
            if !known.contains(pattern) && !taken_up && !rows.iter().any(|row| row.unit == pattern.as_str()) {
                rows.push(PlanRow { unit: pattern.to_string(), change: Change::Add, keys: Vec::new() });
            }
        }
        rows
    }

    /// The layers that match no worker.
    pub fn idle_layers(&self) -> Vec<String> {
        let idle = self.policies.layers.iter().filter(|layer| {
            !self.workers.keys().any(|name| layer.units.iter().any(|pattern| pattern.value.matches(name)))
        });
        idle.map(|layer| layer.file.clone()).collect()
    }

    /// Actions that are under way; the daemon waits for them when it stops.
    pub fn flights(&self) -> usize {
        self.flights.len()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::ServiceManager { version } => self.systemd = version,
            Event::Unit(name, facts) => {
                self.observe(&name, Some(facts));
                self.take_early_signs(&name);
            }
            Event::Gone(name) => self.observe(&name, None),
            Event::Listed(interest, rows) => self.listed(&interest, rows),
            Event::Examined(id, findings) => self.examined(id, &findings),
            Event::CoreDumpBegan => self.find_dumping(),
            Event::Dumping(name, pid) => self.dumping(&name, pid),
            Event::Sign(name, sign) => self.sign(&name, sign),
            Event::Beat(name, reading) => self.beat(&name, reading),
            Event::Read(name, key, reading) => self.read(&name, key, reading),
            Event::Request(id, caller, Request::TestNotice) => self.test_notice(id, &caller),
            Event::Request(id, caller, request) => {
                let answer = self.request(&caller, request);
                self.act(Action::Reply(id, answer));
            }
            Event::Done(id, outcome) => self.done(id, outcome),
            Event::Policies(policies) => self.adopt_policies(policies),
            Event::HostStopping(true) => self.host_stopping = true,
            Event::HostStopping(false) => self.host_goes_on(),
            Event::Until(until, holds) => self.condition(&until, &holds),
            Event::Swept(name, ended) => self.swept(&name, &ended),
            Event::Checkpoints(name, choice) => self.resume_chosen(&name, choice),
            Event::Wake => {}
        }
    }

    fn expire(&mut self) {
        let over: Vec<_> = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.until.is_some_and(|until| until <= self.now.wall))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.end_hold(id, "its time is over", None);
        }
        self.settle();
        while let Some((at, name)) = self.timers.first().cloned()
            && at <= self.now.mono
        {
            self.fire(&name);
            self.settle();
        }
    }

    fn fire(&mut self, name: &WorkerName) {
        let held = self.hold_of(name).is_some();
        let keep = self.policies.settings.keep_finished;
        let Some(worker) = self.workers.get(name) else { return };
        self.touched.insert(name.clone());
        // A longer setting may have moved it since the timer was set.
        let due = worker.next_timer(held, keep).filter(|(at, _)| *at <= self.now.mono);
        match due {
            Some((_, Timer::Restart)) => self.restart_due(name),
            Some((_, Timer::Verified)) => self.verified(name),
            Some((_, Timer::FollowUp)) => self.follow_up_due(name),
            Some((_, Timer::Restore)) => self.restore_step(name),
            Some((_, Timer::Reset)) => self.healthy_again(name),
            Some((_, Timer::Decide)) => self.verdict_is_late(name),
            Some((_, Timer::Kill)) => self.grace_over(name),
            Some((_, Timer::Forget)) => self.let_go(name),
            Some((_, Timer::Look | Timer::Stalled)) => self.look(name),
            Some((_, Timer::WatchOver)) => self.watch_over(name),
            Some((_, Timer::Struck)) => self.struck(name),
            Some((_, Timer::Report)) => self.report(name),
            None => {}
        }
    }

    /// Brings phases, timers and the list of changes up to date with what was touched.
    fn settle(&mut self) {
        for name in std::mem::take(&mut self.touched) {
            let hold = self.hold_of(&name).map(|(_, hold)| hold.describe());
            let flight = self.workers.get(&name).and_then(|worker| worker.flight);
            let flight = flight
                .and_then(|id| self.flights.get(&id))
                .map(|flight| if flight.purpose.starts_run() { "start" } else { "stop" });
            let keep = self.policies.settings.keep_finished;
            self.step.changes.insert(ObjectId::Worker(name.clone()));
            self.follow_sources(&name);
            self.equip(&name);
            let Some(worker) = self.workers.get_mut(&name) else { continue };
            worker.judge(&Surroundings { now: self.now, hold: hold.as_deref(), flight });
            let timer = worker.next_timer(hold.is_some(), keep).map(|(at, _)| at);
            if timer != worker.armed {
                if let Some(former) = worker.armed {
                    self.timers.remove(&(former, name.clone()));
                }
                if let Some(at) = timer {
                    self.timers.insert((at, name.clone()));
                }
                worker.armed = timer;
            }
        }
    }

    fn act(&mut self, action: Action) {
        self.step.actions.push(action);
    }

    fn record(&mut self, kind: EntryKind, worker: Option<&WorkerName>, text: String) {
        let about = worker.and_then(|name| self.workers.get(name));
        let incident = about.and_then(|worker| worker.incident).and_then(|id| self.incidents.get(id));
        let entry = Entry {
            kind,
            worker: worker.cloned(),
            incident: incident.map(|incident| incident.id),
            cause: incident.map(|incident| incident.cause),
            confidence: incident.map(|incident| incident.confidence),
            remedy: incident.and_then(|incident| incident.remedies.last()).map(|remedy| remedy.action),
            attempt: about.map(|worker| worker.ledger.failures).filter(|attempt| *attempt > 0),
            run: about.and_then(|worker| worker.run.invocation),
            caller: None,
            text,
        };
        self.act(Action::Record(entry));
    }

    fn record_by(&mut self, kind: EntryKind, worker: Option<&WorkerName>, caller: &Caller, text: String) {
        self.record(kind, worker, text);
        if let Some(Action::Record(entry)) = self.step.actions.last_mut() {
            entry.caller = Some(caller.uid);
        }
    }

    fn manager_view(&self) -> ManagerView {
        ManagerView {
            workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            incidents_open: self.incidents.open_count(),
            holds: self.holds.iter().map(|(id, hold)| hold.view(*id)).collect(),
            dry_run: self.policies.settings.dry_run,
        }
    }

    /// The units to follow: every exact name, every glob.
    fn interest(&self) -> Interest {
        let mut interest = Interest::default();
        for pattern in self.policies.layers.iter().flat_map(|layer| &layer.units) {
            match pattern.value.exact() {
                Some(name) => interest.names.insert(name),
                None => interest.globs.insert(pattern.value.clone()),
            };
        }
        interest.names.extend(self.workers.values().filter(|worker| worker.own.is_some()).map(|w| w.name.clone()));
        interest
    }

    fn watch(&mut self) {
        let interest = self.interest();
        self.act(Action::Watch(interest));
    }
}

/// What the next timer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WakeFor {
    Worker(WorkerName),
    Hold(HoldId),
    /// A notice is due, or the news about an incident are awaited no longer.
    Notice,
}
