//! Following units: which are workers, when a run begins and ends, what happened while nobody watched.

use super::*;
use action::Freezer;
use event::{Active, Beat, Exit, Load, PastRun, RunEnd, UnitResult};
use progress::{Progress, parse_status};
use std::sync::Arc;
use view::IncidentState;
use worker::Run;

impl Engine {
    /// Brings a saved worker back, if something still claims it.
    pub(super) fn restore(&mut self, saved: SavedWorker, shift: &impl Fn(Mono) -> Mono) {
        let own = match &saved.origin {
            SavedOrigin::Policy => None,
            SavedOrigin::Adopted(layer) | SavedOrigin::Run(_, layer) => Some(layer),
        };
        let name = saved.name.clone();
        match self.policies.resolve(&name, own) {
            Some(policy) => {
                let worker = Worker::restore(saved, policy, self.now, shift);
                self.workers.insert(name.clone(), worker);
                self.touched.insert(name);
            }
            None => {
                if let Some(incident) = saved.incident {
                    self.close_incident(incident, IncidentResult::Forgotten);
                }
                self.step.changes.insert(ObjectId::Worker(name));
            }
        }
    }

    /// Makes workers of the units that policies name exactly, so that they are shown even while they are not loaded.
    pub(super) fn take_up_named(&mut self) {
        let patterns = self.policies.layers.iter().flat_map(|layer| &layer.units);
        let names: Vec<_> = patterns.filter_map(|pattern| pattern.value.exact()).collect();
        for name in names {
            self.take_up(&name);
        }
    }

    /// Makes a worker of a unit that a policy matches; does nothing if it is one already or nothing matches.
    fn take_up(&mut self, name: &WorkerName) -> bool {
        if self.workers.contains_key(name) {
            return true;
        }
        let Some(policy) = self.policies.resolve(name, None) else { return false };
        self.add(Worker::new(name.clone(), policy, self.now), "matched by a policy")
    }

    /// Adds a worker unless there are too many.
    pub(super) fn add(&mut self, worker: Worker, how: &str) -> bool {
        if self.workers.len() >= WORKERS_MAX {
            return false;
        }
        let name = worker.name.clone();
        self.workers.insert(name.clone(), worker);
        self.touched.insert(name.clone());
        self.step.changes.insert(ObjectId::Manager);
        self.record(EntryKind::WorkerAdded, Some(&name), format!("{name} is supervised from now on ({how})"));
        true
    }

    /// Stops supervising; the unit goes on as it is.
    pub(super) fn let_go(&mut self, name: &WorkerName) {
        self.close_open_incident(name, IncidentResult::Forgotten);
        self.record(EntryKind::WorkerForgotten, Some(name), format!("{name} is not supervised any more"));
        let Some(worker) = self.workers.remove(name) else { return };
        if let Some(at) = worker.armed {
            self.timers.remove(&(at, name.clone()));
        }
        self.waiting.retain(|ticket| ticket.worker != *name);
        self.step.changes.insert(ObjectId::Worker(name.clone()));
        self.step.changes.insert(ObjectId::Manager);
        if worker.own.is_some() {
            self.watch();
        }
    }

    pub(super) fn adopt_policies(&mut self, policies: Policies) {
        if self.policies == policies {
            return;
        }
        let before = self.interest();
        self.policies = policies;
        self.step.changes.insert(ObjectId::Manager);
        let names: Vec<_> = self.workers.keys().cloned().collect();
        for name in names {
            let Some(worker) = self.workers.get_mut(&name) else { continue };
            match self.policies.resolve(&name, worker.own.as_ref()) {
                Some(policy) if policy == worker.policy => {}
                Some(policy) => {
                    worker.policy = policy;
                    self.touched.insert(name);
                }
                None => self.let_go(&name),
            }
        }
        self.take_up_named();
        if self.interest() != before {
            self.watch();
        }
    }

    pub(super) fn listed(&mut self, interest: &Interest, rows: Vec<(WorkerName, UnitFacts)>) {
        let present: BTreeSet<_> = rows.iter().map(|(name, _)| name.clone()).collect();
        for (name, facts) in rows {
            self.observe(&name, Some(facts));
        }
        let covered = |name: &WorkerName| {
            interest.names.contains(name) || interest.globs.iter().any(|pattern| pattern.matches(name))
        };
        let absent: Vec<_> =
            self.workers.keys().filter(|name| !present.contains(*name) && covered(name)).cloned().collect();
        for name in absent {
            self.observe(&name, None);
        }
    }

    /// Takes in what systemd says about a unit; `None` means that it is not loaded.
    pub(super) fn observe(&mut self, name: &WorkerName, facts: Option<UnitFacts>) {
        let loaded = facts.as_ref().is_some_and(|facts| facts.load != Load::NotFound);
        if !self.workers.contains_key(name) && !(loaded && self.take_up(name)) {
            return;
        }
        let still = {
            let Some(worker) = self.workers.get_mut(name) else { return };
            let first = worker.facts.is_none() && worker.phase == view::Phase::Inactive;
            if let Some(facts) = &facts
                && facts.load != Load::Loaded
                && first
                && worker.definition.is_none()
            {
                let why = match facts.load {
                    Load::Masked => "it is masked",
                    Load::Bad => "systemd cannot read the unit file",
                    _ => "there is no such unit",
                };
                let text = format!("{name} cannot be started: {why}");
                if worker.remark != why {
                    why.clone_into(&mut worker.remark);
                    self.record(EntryKind::NotStartable, Some(name), text);
                }
            }
            let Some(worker) = self.workers.get_mut(name) else { return };
            let status = facts.as_ref().map(|facts| facts.status_text.clone()).unwrap_or_default();
            let spoke = worker.facts.as_ref().is_none_or(|former| former.status_text != status);
            worker.facts = facts;
            if spoke
                && worker.policy.progress_notify.value
                && let Some(beat) = parse_status(&status)
            {
                self.beat(name, &beat);
            }
            self.workers.get(name).is_some_and(Worker::is_frozen)
        };
        self.touched.insert(name.clone());
        self.stand_still(name, still);
        if self.workers.get(name).is_some_and(|worker| worker.restored) {
            self.seen_again(name);
        }
        self.follow(name);
    }

    pub(super) fn beat(&mut self, name: &WorkerName, beat: &Beat) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let total = worker.policy.progress_total.value;
        let (progress, _) = Progress::observe(worker.progress.take(), beat, total, now);
        worker.progress = Some(progress);
        self.touched.insert(name.clone());
    }

    /// Stops the worker's clocks while it is paused or frozen, and moves them on afterwards.
    pub(super) fn stand_still(&mut self, name: &WorkerName, still: bool) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        match (still, worker.still_since) {
            (true, None) => worker.still_since = Some(now),
            (false, Some(since)) => {
                worker.still_since = None;
                let pause = now.since(since);
                worker.healthy_since = worker.healthy_since.map(|at| at + pause);
                worker.kill_at = worker.kill_at.map(|at| at + pause);
            }
            _ => {}
        }
    }

    /// The first sight of a worker that was saved: asks the journal about anything that was missed.
    fn seen_again(&mut self, name: &WorkerName) {
        let rebooted = self.rebooted;
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.restored = false;
        let facts = worker.facts.clone();
        if worker.paused.is_some() {
            worker.paused = match &facts {
                Some(facts) if facts.frozen => Some(Freezer::Cgroup),
                Some(facts) if facts.is_up() && !facts.traits.can_freeze && !rebooted => Some(Freezer::Signal),
                _ => None,
            };
        }
        if rebooted {
            worker.run.ended = true;
            if facts.as_ref().is_none_or(|facts| !facts.is_up()) && worker.definition.is_some() {
                self.start_after_boot(name);
            }
            return;
        }
        if worker.run.invocation.is_none() {
            return;
        }
        let current = facts.as_ref().and_then(|facts| facts.invocation);
        let same_run = current.is_none() || current == worker.run.invocation;
        let up = facts.as_ref().is_some_and(UnitFacts::is_up);
        let nothing_missed = same_run && (worker.run.ended || up);
        if !nothing_missed {
            self.look_back(name);
        }
    }

    fn start_after_boot(&mut self, name: &WorkerName) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.intended_up || worker.completed || worker.quarantine.is_some() || worker.plan.is_some() {
            return;
        }
        worker.plan = Some(restart::Plan {
            due: now.mono,
            by: "the machine was booted".into(),
            counted: true,
            queued: false,
            flying: None,
        });
    }

    fn look_back(&mut self, name: &WorkerName) {
        let Some(since) = self.workers.get(name).map(|worker| worker.seen) else { return };
        let id = self.fly(name, Purpose::LookBack, None);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.look_back = Some(id);
        }
        self.act(Action::LookBack(id, name.clone(), since));
    }

    /// Takes in what the journal knows about the time when nobody watched, then goes on with the present.
    pub(super) fn looked_back(&mut self, name: &WorkerName, outcome: Outcome) {
        let past = match outcome {
            Outcome::Past(runs) => runs,
            _ => Vec::new(),
        };
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.look_back = None;
        let seen = worker.seen;
        let known_before = worker.run.clone();
        let current = worker.facts.as_ref().and_then(|facts| facts.invocation);
        let mut unseen = Vec::new();
        for run in past.into_iter().filter(|run| run.end.ended > seen) {
            let known = run.invocation.is_some() && run.invocation == known_before.invocation;
            if known && known_before.ended {
                continue;
            }
            let is_current = worker.facts.is_none() || run.invocation == current;
            if is_current && (known || worker.facts.is_some()) {
                // The end of this run is still to be dealt with below, with what the journal adds.
                worker.run = Run { invocation: run.invocation, ended: false, stop_asked: run.stopped };
                if worker.facts.is_none() {
                    self.ended_unloaded(name, run);
                    return;
                }
                continue;
            }
            if failed(&run.end) && !run.stopped {
                unseen.push(run);
            }
        }
        if worker.run.invocation != current && current.is_some() {
            worker.run.ended = true;
            let down = worker.facts.as_ref().is_some_and(|facts| !facts.is_up());
            if down {
                worker.run = Run { invocation: current, ended: false, stop_asked: false };
            }
        }
        for run in unseen {
            self.missed(name, run);
        }
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.facts.is_none() && !worker.run.ended {
            worker.run.ended = true;
            worker.intended_up = false;
            worker.remark = "ended unseen and left no trace in the journal".into();
            worker.finished = Some(self.now);
        }
        self.touched.insert(name.clone());
        self.follow(name);
    }

    /// The end of a run whose unit is not loaded any more, as the journal tells it.
    fn ended_unloaded(&mut self, name: &WorkerName, run: PastRun) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.finished = Some(self.now);
        self.end_run(name, &run.end);
    }

    /// A failure that somebody else has dealt with already.
    fn missed(&mut self, name: &WorkerName, run: PastRun) {
        let verdict = classify::classify(&run.end);
        let id = self.incidents.open(name, run.invocation, &verdict, run.end.ended, self.now);
        if let Some(incident) = self.incidents.open_mut(id) {
            incident.because.push("found in the journal: it failed while watcherd was not running".into());
        }
        let text = format!("{name} {} while watcherd was not running ({})", verdict.ending, verdict.cause);
        self.record(EntryKind::IncidentOpened, Some(name), text);
        self.close_incident(id, IncidentResult::RecoveredUnseen);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.cause = Some(verdict.cause);
        }
    }

    /// Compares what is known about the run with what the facts say, and draws the consequences.
    fn follow(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        if worker.look_back.is_some() {
            return;
        }
        let ending_by_us = worker.flight.and_then(|id| self.flights.get(&id)).is_some_and(|f| f.purpose.ends_run());
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(facts) = worker.facts.clone() else {
            self.unloaded(name);
            return;
        };
        if facts.active == Active::Deactivating && facts.job != 0 && !worker.run.ended && !ending_by_us {
            worker.run.stop_asked = true;
        }
        let first_sight = worker.run.invocation.is_none();
        if facts.is_up() {
            if facts.invocation.is_some() && facts.invocation != worker.run.invocation {
                self.run_began(name, &facts);
            }
            self.note_health(name, &facts);
            return;
        }
        if first_sight {
            if facts.invocation.is_some() {
                worker.run = Run { invocation: facts.invocation, ended: true, stop_asked: false };
                if facts.active == Active::Failed {
                    worker.remark = "had failed before it was supervised".into();
                }
            }
            return;
        }
        if worker.run.ended {
            if worker.waits_for_own_restart() {
                self.keep_from_restarting(name);
            }
            return;
        }
        if facts.job != 0 && !facts.waits_for_own_restart() {
            // The unit is between the two halves of a restart job, or somebody starts it at this moment.
            return;
        }
        let end = facts.end.clone();
        let failed_state = facts.active == Active::Failed;
        let end = if failed_state && end.result == UnitResult::Success {
            RunEnd { result: UnitResult::Other("failed".into()), ..end }
        } else {
            end
        };
        self.end_run(name, &end);
        if self.workers.get(name).is_some_and(Worker::waits_for_own_restart) {
            self.keep_from_restarting(name);
        }
    }

    /// The unit was unloaded, by systemd's garbage collection or because its file is gone.
    fn unloaded(&mut self, name: &WorkerName) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.run.invocation.is_some() && !worker.run.ended {
            self.look_back(name);
            return;
        }
        let named = self.interest().names.contains(name);
        let Some(worker) = self.workers.get_mut(name) else { return };
        let blank = worker.runs == 0 && worker.incident.is_none() && worker.quarantine.is_none();
        if !named && blank && worker.plan.is_none() {
            self.let_go(name);
        } else if worker.finished.is_none() && !named {
            worker.finished = Some(now);
        } else if worker.finished.is_none() && worker.definition.is_some() && !worker.intended_up {
            worker.finished = Some(now);
        }
    }

    fn run_began(&mut self, name: &WorkerName, facts: &UnitFacts) {
        let now = self.now;
        let purpose = self.workers.get(name).and_then(|w| w.flight).and_then(|id| self.flights.get(&id));
        let by_us = purpose.is_some_and(|flight| flight.purpose.starts_run());
        let restarting = purpose.is_some_and(|flight| flight.purpose.ends_run());
        let Some(worker) = self.workers.get_mut(name) else { return };
        let overlooked = worker.run.invocation.is_some() && !worker.run.ended && !worker.run.stop_asked && !restarting;
        if overlooked {
            self.look_back(name);
            return;
        }
        worker.run = Run { invocation: facts.invocation, ended: false, stop_asked: false };
        worker.runs += 1;
        worker.note_start(now);
        worker.seen = now.wall;
        worker.healthy_since = None;
        worker.kill_at = None;
        worker.finished = None;
        worker.completed = false;
        worker.remark.clear();
        if let Some(since) = worker.down_since.take() {
            worker.downtime += now.wall.since(since);
        }
        let lifted = worker.quarantine.take();
        worker.intended_up = true;
        let incident = worker.incident;
        if !by_us && let Some(plan) = worker.plan.take() {
            // Somebody else was faster: systemd by itself, or a person.
            if !plan.counted {
                worker.ledger.count(worker.policy.budget.value, now.mono);
            }
            self.waiting.retain(|ticket| ticket.worker != *name || ticket.purpose != Purpose::Recover);
        }
        if lifted.is_some() {
            let text = format!("{name} was started by somebody else: its quarantine is lifted");
            self.record(EntryKind::QuarantineReset, Some(name), text);
        }
        if let Some(incident) = incident.and_then(|id| self.incidents.open_mut(id)) {
            incident.started = now.wall;
            incident.state = IncidentState::Verifying;
            if !by_us {
                incident.settle("started by somebody else");
            }
            self.step.changes.insert(ObjectId::Incident(incident.id));
        }
    }

    /// Starts the clock of healthy time once the run is up.
    fn note_health(&mut self, name: &WorkerName, facts: &UnitFacts) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if facts.sub == "exited" && !worker.run.ended {
            self.end_run(name, &RunEnd::default());
            return;
        }
        if !worker.is_steady() {
            worker.healthy_since = None;
        } else if worker.healthy_since.is_none() {
            let entered = facts.active_enter;
            let known = facts.active == Active::Active && entered > Mono(0) && entered <= now;
            worker.healthy_since = Some(if known { entered } else { now });
        }
    }

    /// A run is over: on purpose, with success, or by failure.
    fn end_run(&mut self, name: &WorkerName, end: &RunEnd) {
        let now = self.now;
        let purpose = self.workers.get(name).and_then(|w| w.flight).and_then(|id| self.flights.get(&id));
        let purpose = purpose.map(|flight| flight.purpose);
        let host_stopping = self.host_stopping;
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.run.ended = true;
        worker.healthy_since = None;
        worker.still_since = None;
        worker.paused = None;
        worker.kill_at = None;
        worker.seen = now.wall;
        worker.down_since = Some(if end.ended == Wall::NEVER || end.ended > now.wall { now.wall } else { end.ended });
        self.touched.insert(name.clone());
        if host_stopping {
            return;
        }
        match purpose {
            Some(Purpose::Restart | Purpose::StopToRestart) => return,
            Some(purpose) if purpose.ends_run() => {
                self.close_open_incident_unless_down_for_good(name, purpose);
                return;
            }
            _ => {}
        }
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.run.stop_asked {
            worker.intended_up = false;
            worker.plan = None;
            worker.remark = "stopped by somebody".into();
            let text = format!("{name} was stopped on purpose; it stays down until somebody starts it");
            self.record(EntryKind::StoppedOnPurpose, Some(name), text);
            self.close_open_incident(name, IncidentResult::Stopped);
        } else if failed(end) {
            self.failed(name, end);
        } else {
            self.succeeded(name);
        }
    }

    fn close_open_incident_unless_down_for_good(&mut self, name: &WorkerName, purpose: Purpose) {
        if matches!(purpose, Purpose::Stop | Purpose::ThawToStop) {
            self.close_open_incident(name, IncidentResult::Stopped);
        }
    }

    pub(super) fn close_open_incident(&mut self, name: &WorkerName, result: IncidentResult) {
        if let Some(id) = self.workers.get(name).and_then(|worker| worker.incident) {
            self.close_incident(id, result);
        }
    }

    pub(super) fn close_incident(&mut self, id: IncidentId, result: IncidentResult) {
        let worker = self.incidents.get(id).map(|incident| incident.worker.clone());
        let dropped = self.incidents.close(id, result, self.now);
        self.step.changes.extend(dropped.into_iter().map(ObjectId::Incident));
        self.step.changes.insert(ObjectId::Incident(id));
        self.step.changes.insert(ObjectId::Manager);
        if let Some(worker) = worker.and_then(|name| self.workers.get_mut(&name))
            && worker.incident == Some(id)
        {
            worker.incident = None;
            self.touched.insert(worker.name.clone());
        }
    }

    /// Sends away layers whose `Arc` is shared; used where a worker keeps its own settings.
    pub(super) fn own_policy(&self, name: &WorkerName, own: &Layer) -> Option<Policy> {
        self.policies.resolve(name, Some(own))
    }
}

/// Whether a run that ended like this has failed.
fn failed(end: &RunEnd) -> bool {
    !matches!(end.result, UnitResult::Success | UnitResult::ExecCondition) || matches!(end.exit, Exit::Dumped(_))
}

/// Shares a definition between the worker and the actions that start it.
pub(super) fn share(definition: event::Definition) -> Arc<event::Definition> {
    Arc::new(definition)
}
