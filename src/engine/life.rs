// SPDX-License-Identifier: MIT OR Apache-2.0
//! Following units: which are workers, when a run begins and ends, and how.

use super::*;
use event::{Active, Exit, Load, RunEnd, UnitResult};
use flight::Purpose;
use lookback::Trace;
use oversight::Oversight;
use progress::parse_status;
use source::Reading;
use std::time::Duration;
use view::IncidentState;
use worker::{Ending, Run};

/// What happened so shortly before the end of watcherd may have been news to nobody any more.
const UNHEARD: Duration = Duration::from_secs(2);

/// Since when what happens to workers that nobody knows yet counts: since we, or the watcherd before us, watch.
pub(super) fn watching_since(saved: &Saved, now: Now) -> Wall {
    let known = saved.same_boot && saved.away != Wall::NEVER && saved.away < now.wall;
    let away = Wall(saved.away.0.saturating_sub(i64::try_from(UNHEARD.as_micros()).unwrap_or(0)));
    if known { away } else { now.wall }
}

impl Engine {
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
        self.abandon(name);
        self.record(EntryKind::WorkerForgotten, Some(name), format!("{name} is not supervised any more"));
        let Some(worker) = self.workers.remove(name) else { return };
        self.strip(&worker);
        if let Some(at) = worker.armed {
            self.timers.remove(&(at, name.clone()));
        }
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
        if policies.settings != self.policies.settings {
            self.touched.extend(self.workers.keys().cloned());
        }
        self.policies = policies;
        self.step.changes.insert(ObjectId::Manager);
        let names: Vec<_> = self.workers.keys().cloned().collect();
        for name in names {
            let Some(worker) = self.workers.get_mut(&name) else { continue };
            match self.policies.resolve(&name, worker.own.as_ref()) {
                Some(policy) if policy == worker.policy => {}
                Some(policy) => {
                    worker.set_policy(policy);
                    worker.watch.forget_sources();
                    self.touched.insert(name);
                }
                None => self.let_go(&name),
            }
        }
        self.take_up_named();
        if self.interest() != before {
            self.watching_since = self.now.wall;
            self.watch();
        }
        self.pump();
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
        let known = self.workers.contains_key(name) || (loaded && self.take_up(name));
        if !known {
            return;
        }
        let Some(worker) = self.workers.get_mut(name) else { return };
        self.touched.insert(name.clone());
        let former = std::mem::replace(&mut worker.facts, facts);
        let frozen = |facts: &Option<UnitFacts>| facts.as_ref().is_some_and(|facts| facts.frozen);
        if frozen(&former) && !frozen(&worker.facts) && worker.paused == Some(action::Freezer::Cgroup) {
            worker.paused = None;
        }
        let still = worker.is_frozen();
        let status = worker.facts.as_ref().map(|facts| facts.status_text.as_str()).unwrap_or_default();
        let spoke = former.as_ref().is_none_or(|former| former.status_text != status);
        let found = if spoke && worker.policy.progress_notify.value { parse_status(status) } else { None };
        let repaired =
            former.as_ref().is_some_and(|former| former.load != Load::Loaded) && worker.unstartable().is_none();
        if let Some(found) = found {
            self.beat(name, Reading::from(found));
        }
        self.note_startable(name);
        self.stand_still(name, still);
        if self.workers.get(name).is_some_and(|worker| worker.restored) {
            self.seen_again(name);
        }
        self.follow(name);
        if repaired {
            self.take_up_incident(name, "the unit can be started again");
        }
    }

    /// Says once why a unit that is down cannot be started.
    fn note_startable(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let known = worker.obstacle;
        worker.obstacle = worker.unstartable().filter(|_| !worker.is_up());
        if let Some(why) = worker.obstacle.filter(|_| worker.obstacle != known) {
            self.record(EntryKind::NotStartable, Some(name), format!("{name} cannot be started: {why}"));
        }
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
                worker.watch.skip(pause);
                worker.oversight.skip();
            }
            _ => {}
        }
    }

    /// Compares what is known about the run with what the facts say, and draws the consequences.
    pub(super) fn follow(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        if worker.look_back.is_some() {
            return;
        }
        let running = worker.run.invocation.is_some() && !worker.run.ended;
        let Some(facts) = worker.facts.clone().filter(|facts| facts.invocation.is_some() || !running) else {
            self.unloaded(name);
            return;
        };
        // With a job, a unit that is down is between the two halves of a restart, or about to start.
        let settled = facts.job == 0 || facts.waits_for_own_restart();
        let up = facts.is_up();
        if facts.invocation.is_some() && facts.invocation != worker.run.invocation && (up || settled) {
            let since = if worker.own.is_some() { worker.seen } else { self.watching_since };
            let first_sight = worker.run.invocation.is_none() && !worker.intended_up;
            if !up && first_sight && facts.end.ended < since {
                self.note_past(name, &facts);
                return;
            }
            if running && worker.ending().is_none() {
                self.look_back(name, Trace::Expected);
                return;
            }
            self.run_began(name, &facts);
        }
        if up {
            self.note_job(name, &facts);
            self.note_health(name, &facts);
            return;
        }
        let Some(worker) = self.workers.get(name) else { return };
        if !worker.run.ended && worker.run.invocation.is_some() && settled {
            self.end_run(name, &end_by(&facts));
        }
        if facts.waits_for_own_restart() {
            self.keep_from_restarting(name);
        }
    }

    /// A unit that was down before anybody asked to supervise it: its past is not ours to judge.
    fn note_past(&mut self, name: &WorkerName, facts: &UnitFacts) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.run = Run { invocation: facts.invocation, ended: true, ..Run::default() };
        worker.completed = facts.is_exited();
        if facts.active == Active::Failed {
            worker.remark = "had failed before it was supervised".into();
        }
    }

    /// The unit was unloaded, by systemd's garbage collection or because its file is gone.
    fn unloaded(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        if worker.run.invocation.is_some() && !worker.run.ended {
            if worker.ending().is_none() {
                self.look_back(name, Trace::Expected);
                return;
            }
            self.end_run(name, &RunEnd::default());
        }
        let named = self.is_named(name);
        let Some(worker) = self.workers.get(name) else { return };
        let blank = worker.runs == 0 && worker.incident.is_none() && worker.quarantine.is_none();
        if worker.facts.is_none() && !named && blank && worker.plan.is_none() && self.hold_of(name).is_none() {
            self.let_go(name);
        } else {
            self.note_finished(name);
        }
    }

    /// Whether a policy, `adopt` or `run` names exactly this unit.
    fn is_named(&self, name: &WorkerName) -> bool {
        let mut patterns = self.policies.layers.iter().flat_map(|layer| &layer.units);
        self.workers.get(name).is_some_and(|worker| worker.own.is_some())
            || patterns.any(|pattern| pattern.value.as_str() == name.as_str())
    }

    /// Notes since when nothing but our memory is left of a worker; it is forgotten some time later.
    pub(super) fn note_finished(&mut self, name: &WorkerName) {
        let now = self.now;
        let named = self.is_named(name);
        let Some(worker) = self.workers.get_mut(name) else { return };
        let over = if worker.definition.is_some() { !worker.intended_up } else { worker.facts.is_none() && !named };
        if over && worker.finished.is_none() {
            worker.finished = Some(now);
        }
    }

    pub(super) fn run_began(&mut self, name: &WorkerName, facts: &UnitFacts) {
        let now = self.now;
        let starting = self.is_starting(name);
        let stopping = self.ending_under_way(name);
        let Some(worker) = self.workers.get_mut(name) else { return };
        let by_us = starting || worker.plan.as_ref().is_some_and(|plan| (plan.counted || plan.refused) && !plan.queued);
        // A start that was under way when somebody decided that the worker shall be down: the stop follows it.
        let doomed = match stopping {
            Some(Ending::Asked) => !worker.intended_up,
            Some(Ending::ForGood) => worker.quarantine.is_some(),
            _ => false,
        };
        let ending = stopping.filter(|ending| *ending == Ending::Preempted);
        worker.run = Run { invocation: facts.invocation, ended: false, ending, ..Run::default() };
        worker.runs += 1;
        worker.note_start(now);
        worker.seen = now.wall;
        worker.healthy_since = None;
        worker.still_since = facts.frozen.then_some(now.mono);
        worker.paused = None;
        worker.kill_at = worker.kill_at.filter(|_| stopping.is_some());
        worker.undecided = None;
        worker.warnings.clear();
        worker.condemned = false;
        worker.dumping = false;
        worker.watch.begin();
        worker.oversight = Oversight::default();
        worker.finished = None;
        worker.completed = false;
        if let Some(since) = worker.down_since.take() {
            worker.downtime += now.wall.since(since);
        }
        if !starting {
            self.overtaken(name);
        }
        let Some(worker) = self.workers.get_mut(name) else { return };
        let mut lifted = false;
        if !doomed {
            worker.remark.clear();
            worker.intended_up = true;
            lifted = !starting && worker.quarantine.take().is_some();
        }
        let incident = worker.incident;
        if lifted {
            let text = format!("{name} was started by somebody else: its quarantine is lifted");
            self.record(EntryKind::QuarantineReset, Some(name), text);
        }
        if let Some(incident) = incident.and_then(|id| self.incidents.open_mut(id)) {
            incident.started = now.wall;
            incident.state = IncidentState::Verifying;
            incident.settle(if by_us { "done" } else { "started by somebody else" });
            self.step.changes.insert(ObjectId::Incident(incident.id));
        }
    }

    /// A run began that no start of ours, as far as it is still under way, explains.
    fn overtaken(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        self.drop_tickets("the unit was started meanwhile", |ticket| {
            ticket.worker == *name && ticket.purpose == Purpose::Recover
        });
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(plan) = worker.plan.take() else { return };
        if plan.refused {
            // It is the very run whose start was reported as failed before the unit's signals came.
            worker.ledger.failures = worker.ledger.failures.saturating_sub(1);
        } else if !plan.counted {
            worker.count_attempt(now, false);
        }
    }

    /// Notices a job that wants to end the run and is not ours.
    fn note_job(&mut self, name: &WorkerName, facts: &UnitFacts) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.run.ended || facts.job == 0 {
            return;
        }
        if facts.active == Active::Activating && worker.run.start_job == 0 {
            worker.run.start_job = facts.job;
        }
        if facts.active != Active::Deactivating {
            return;
        }
        // While a start fails, the start job itself stays until the unit is down.
        if facts.job != worker.run.start_job {
            worker.run.ending.get_or_insert(Ending::Foreign);
        }
        // Another job has taken the place of our restart.
        let replaced = worker.run.stop_job != 0 && facts.job != worker.run.stop_job;
        if replaced && worker.run.ending == Some(Ending::Restart) {
            worker.run.ending = Some(Ending::Foreign);
        }
        worker.run.stop_job = facts.job;
    }

    /// Starts the clock of healthy time once the run is up.
    fn note_health(&mut self, name: &WorkerName, facts: &UnitFacts) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.is_steady() {
            worker.healthy_since = None;
        } else if worker.healthy_since.is_none() {
            let entered = facts.active_enter;
            let known = facts.active == Active::Active && entered > Mono(0) && entered <= now;
            worker.healthy_since = Some(if known { entered } else { now });
            worker.watch.wind_up(&worker.policy, now);
        }
    }

    /// A run is over: on purpose, with success, or by failure.
    pub(super) fn end_run(&mut self, name: &WorkerName, end: &RunEnd) {
        let now = self.now.wall;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let ending = worker.ending();
        worker.run.ended = true;
        worker.run.exit = end.exit;
        worker.follow_up = None;
        worker.healthy_since = None;
        worker.still_since = None;
        worker.paused = None;
        worker.kill_at = None;
        worker.seen = now;
        self.touched.insert(name.clone());
        if self.host_stopping {
            return;
        }
        match ending {
            Some(Ending::Foreign) => self.stopped_by_somebody(name),
            Some(Ending::Asked) => self.stopped(name),
            Some(Ending::Preempted) => self.start_after_all(name),
            Some(Ending::ForGood) | Some(Ending::Restart) => {}
            None if failed(end) => {
                if let Some(worker) = self.workers.get_mut(name) {
                    worker.down_since = Some(if end.ended == Wall::NEVER || end.ended > now { now } else { end.ended });
                }
                self.failed(name, end);
            }
            None => self.succeeded(name, end),
        }
    }

    /// The stop that should have kept systemd from starting the unit came when it was running already.
    fn start_after_all(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        if worker.is_awaited() && worker.plan.is_none() {
            self.try_again(name, "a stop that came too late ended it".into());
        }
    }

    fn stopped_by_somebody(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.intended_up = false;
        worker.plan = None;
        worker.remark = "stopped by somebody".into();
        let text = format!("{name} was stopped on purpose; it stays down until somebody starts it");
        self.record(EntryKind::StoppedOnPurpose, Some(name), text);
        self.close_open_incident(name, IncidentResult::Stopped);
        self.note_finished(name);
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
}

/// How the run ended that the facts speak of.
fn end_by(facts: &UnitFacts) -> RunEnd {
    let end = facts.end.clone();
    match facts.active {
        Active::Failed if end.result == UnitResult::Success => {
            RunEnd { result: UnitResult::Other("failed".into()), ..end }
        }
        _ => end,
    }
}

/// Whether a run that ended like this has failed.
pub(super) fn failed(end: &RunEnd) -> bool {
    !matches!(end.result, UnitResult::Success | UnitResult::ExecCondition) || matches!(end.exit, Exit::Dumped(_))
}
