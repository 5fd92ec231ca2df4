// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people and programs ask for: each request is answered at once, with a refusal or with what was begun.

use super::*;
use action::Freezer;
use event::{Active, Definition};
use flight::{Purpose, Ticket};
use hold::Hold;
use parameter::Change;
use worker::Ending;

/// From this systemd release on, a unit with a watchdog is paused. Measured: 252 kills it while it is frozen, 257 does
/// not; the release in between that changed it is not known.
const WATCHDOG_SURVIVES_FREEZE: u32 = 254;

impl Engine {
    pub(super) fn request(&mut self, caller: &Caller, request: Request) -> Result<Answer, Refusal> {
        if self.host_stopping {
            return Err(Refusal::Stopping);
        }
        match request {
            Request::Run { name, definition, policy } => self.run(caller, name, definition, policy),
            Request::Adopt { unit, policy } => self.adopt(caller, unit, policy),
            Request::Forget(name) => self.forget(caller, &name),
            Request::Change { verb, workers, why, dry_run } => self.change(caller, verb, &workers, &why, dry_run),
            Request::Hold { workers, who, why, until, lock } => {
                let unknown = String::new();
                self.hold(caller, Hold { workers, who, why, until, lock, when: None, unknown })
            }
            Request::Release(id) => self.release(caller, id),
            Request::Quarantine { worker, why } => self.quarantine_by_hand(caller, &worker, why),
            Request::ResetQuarantine(name) => self.reset(caller, &name),
            Request::SetParameter { worker, name, value } => self.set_parameter(caller, &worker, &name, value),
            Request::CloseIncident { incident, why } => self.close_by_hand(caller, incident, &why),
            Request::CancelJob(id) => self.cancel(id),
            Request::TestNotice => Err(Refusal::NotSupported("a test notice has no answer at once".into())),
        }
    }

    fn run(
        &mut self,
        caller: &Caller,
        name: Option<WorkerName>,
        definition: Definition,
        own: Layer,
    ) -> Result<Answer, Refusal> {
        let name = match name {
            Some(name) => name,
            None => self.invent_name()?,
        };
        self.refuse_held(&name)?;
        self.refuse_too_many_jobs(1)?;
        if let Some(known) = self.workers.get(&name) {
            let over = known.definition.is_some() && (known.completed || !known.intended_up) && !known.is_up();
            if !over {
                return Err(Refusal::Exists(format!("{name}: a worker of this name exists")));
            }
            self.let_go(&name);
        }
        let policy = self.policies.resolve(&name, Some(&own)).unwrap_or_default();
        let mut worker = Worker::new(name.clone(), policy, self.now);
        worker.own = Some(own);
        worker.definition = Some(definition.into());
        worker.intended_up = true;
        if !self.add(worker, &format!("made by {}", caller.name)) {
            return Err(Refusal::LimitsExceeded(format!("{name}: {WORKERS_MAX} workers are supervised already")));
        }
        self.watch();
        self.new_job(&name, Verb::Start, Purpose::Start);
        Ok(Answer::Worker(name))
    }

    fn invent_name(&mut self) -> Result<WorkerName, Refusal> {
        let text = format!("run-{:08x}", self.rng.next() as u32);
        WorkerName::parse(&text).map_err(|error| Refusal::InvalidArgs(format!("{text}: {error}")))
    }

    fn adopt(&mut self, caller: &Caller, name: WorkerName, own: Layer) -> Result<Answer, Refusal> {
        let Some(policy) = self.policies.resolve(&name, Some(&own)) else {
            return Err(Refusal::InvalidArgs(format!("{name}: no policy")));
        };
        if let Some(worker) = self.workers.get_mut(&name) {
            if worker.definition.is_some() {
                return Err(Refusal::Exists(format!("{name}: was made by `watcherctl run` and is a worker already")));
            }
            worker.own = Some(own);
            worker.set_policy(policy);
            self.touched.insert(name.clone());
        } else {
            let mut worker = Worker::new(name.clone(), policy, self.now);
            worker.own = Some(own);
            if !self.add(worker, &format!("adopted by {}", caller.name)) {
                return Err(Refusal::LimitsExceeded(format!("{name}: {WORKERS_MAX} workers are supervised already")));
            }
        }
        self.watch();
        Ok(Answer::Worker(name))
    }

    fn forget(&mut self, caller: &Caller, name: &WorkerName) -> Result<Answer, Refusal> {
        let worker = self.known(name)?;
        let named =
            self.policies.layers.iter().flat_map(|layer| &layer.units).any(|p| p.value.as_str() == name.as_str());
        if worker.own.is_none() && (named || worker.facts.is_some()) {
            let files: Vec<_> = self.policies.layers_for(name).map(|layer| layer.file.clone()).collect();
            return Err(Refusal::InvalidArgs(format!(
                "{name}: is matched by {}; remove it there and reload",
                files.join(", ")
            )));
        }
        self.refuse_held(name)?;
        let text = format!("{} asked to forget {name}", caller.name);
        self.record_by(EntryKind::Requested, Some(name), caller, text);
        let matched = self.policies.resolve(name, None);
        match (matched, self.workers.get_mut(name)) {
            (Some(policy), Some(worker)) if worker.own.is_some() && worker.definition.is_none() => {
                worker.own = None;
                worker.set_policy(policy);
                self.touched.insert(name.clone());
                self.watch();
            }
            _ => self.let_go(name),
        }
        Ok(Answer::Nothing)
    }

    fn change(
        &mut self,
        caller: &Caller,
        verb: Verb,
        names: &[WorkerName],
        why: &str,
        dry_run: bool,
    ) -> Result<Answer, Refusal> {
        let names: BTreeSet<_> = names.iter().cloned().collect();
        for name in &names {
            self.check_change(verb, name)?;
        }
        self.refuse_too_many_jobs(names.len())?;
        let mut jobs = Vec::new();
        for name in names {
            if dry_run || self.is_dry(&name) {
                let text = format!("dry run: would {} {name} for {}", verb.as_str(), caller.name);
                self.record_by(EntryKind::WouldHave, Some(&name), caller, text);
                continue;
            }
            let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
            let text = format!("{} asked to {} {name}{reason}", caller.name, verb.as_str());
            self.record_by(EntryKind::Requested, Some(&name), caller, text);
            jobs.push(self.begin(verb, &name, caller));
        }
        Ok(Answer::Jobs(jobs))
    }

    fn refuse_too_many_jobs(&self, more: usize) -> Result<(), Refusal> {
        if self.jobs.len() + more > JOBS_MAX {
            return Err(Refusal::LimitsExceeded(format!("{JOBS_MAX} jobs are waiting already")));
        }
        Ok(())
    }

    /// Refuses what cannot be done, before anything is begun.
    fn check_change(&self, verb: Verb, name: &WorkerName) -> Result<(), Refusal> {
        let worker = self.known(name)?;
        self.refuse_held(name)?;
        if let (Verb::Start | Verb::Restart, Some(why)) = (verb, &worker.quarantine) {
            return Err(Refusal::Quarantined(name.clone(), why.clone()));
        }
        if let (Verb::Start | Verb::Restart, Some(why)) = (verb, worker.unstartable()) {
            return Err(Refusal::NotSupported(format!("{name}: {why}")));
        }
        let gone = worker.facts.is_none() && worker.definition.is_some();
        if let Verb::Pause = verb {
            if !worker.is_steady() {
                return Err(Refusal::NotSupported(format!("{name} is not running")));
            }
            let watchdog = worker.facts.as_ref().and_then(|facts| facts.traits.watchdog);
            if watchdog.is_some() && self.systemd < WATCHDOG_SURVIVES_FREEZE {
                return Err(Refusal::NotSupported(format!(
                    "{name}: has WatchdogSec=, and systemd {} would kill it while it is paused; stop it instead",
                    self.systemd
                )));
            }
        }
        if verb == Verb::Resume && (gone || !worker.is_frozen()) {
            return Err(Refusal::NotSupported(format!("{name}: is not paused")));
        }
        Ok(())
    }

    fn begin(&mut self, verb: Verb, name: &WorkerName, caller: &Caller) -> JobId {
        match verb {
            Verb::Start => self.begin_start(name),
            Verb::Restart => self.begin_restart(name),
            Verb::Stop => self.begin_stop(name, caller),
            Verb::Pause => self.begin_pause(name),
            Verb::Resume => self.begin_resume(name),
        }
    }

    /// From here on a person decides about the worker, not the plan.
    fn take_over(&mut self, name: &WorkerName, intended_up: bool) -> bool {
        self.drop_tickets("a later request came before it", |ticket| ticket.worker == *name);
        let Some(worker) = self.workers.get_mut(name) else { return false };
        worker.plan = None;
        worker.intended_up = intended_up;
        if intended_up {
            worker.completed = false;
            worker.finished = None;
        }
        worker.is_up() && worker.facts.as_ref().is_some_and(|facts| facts.active != Active::Deactivating)
    }

    fn begin_start(&mut self, name: &WorkerName) -> JobId {
        let up = self.take_over(name, true);
        if up && self.ending_under_way(name).is_none() {
            let job = self.add_job(name, Verb::Start);
            self.end_job(Some(job), "done", "");
            return job;
        }
        if let Some(worker) = self.workers.get_mut(name) {
            worker.run.ending = Some(Ending::Restart);
        }
        self.new_job(name, Verb::Start, Purpose::Start)
    }

    pub(super) fn begin_restart(&mut self, name: &WorkerName) -> JobId {
        self.take_over(name, true);
        let stops_first = self.workers.get(name).is_some_and(|worker| worker.is_up() && worker.definition.is_some());
        let purpose = if stops_first { Purpose::Stop(Ending::Restart) } else { Purpose::Restart };
        self.new_job(name, Verb::Restart, purpose)
    }

    fn begin_stop(&mut self, name: &WorkerName, caller: &Caller) -> JobId {
        self.take_over(name, false);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.remark = format!("stopped by {}", caller.name);
        }
        self.new_job(name, Verb::Stop, Purpose::Stop(Ending::Asked))
    }

    fn begin_pause(&mut self, name: &WorkerName) -> JobId {
        let facts = self.workers.get(name).and_then(|worker| worker.facts.as_ref());
        let can_freeze = facts.is_some_and(|facts| facts.traits.can_freeze);
        let freezer = if can_freeze { Freezer::Cgroup } else { Freezer::Signal };
        let job = self.add_job(name, Verb::Pause);
        let id = self.fly(name, Purpose::Pause(freezer), Some(job));
        self.act(Action::Freeze(id, name.clone(), freezer));
        job
    }

    fn begin_resume(&mut self, name: &WorkerName) -> JobId {
        let worker = self.workers.get(name);
        let frozen = worker.and_then(|worker| worker.facts.as_ref()).is_some_and(|facts| facts.frozen);
        let paused = worker.and_then(|worker| worker.paused).filter(|_| !frozen);
        let freezer = paused.unwrap_or(Freezer::Cgroup);
        let job = self.add_job(name, Verb::Resume);
        let id = self.fly(name, Purpose::Resume, Some(job));
        self.act(Action::Thaw(id, name.clone(), freezer));
        job
    }

    fn add_job(&mut self, name: &WorkerName, verb: Verb) -> JobId {
        let id = JobId(self.next_job);
        self.next_job = self.next_job.wrapping_add(1).max(1);
        self.touched.insert(name.clone());
        self.step.changes.insert(ObjectId::Job(id));
        self.jobs.insert(
            id,
            JobView {
                id,
                kind: verb.as_str(),
                worker: name.clone(),
                state: "waiting",
                result: "",
                detail: String::new(),
            },
        );
        id
    }

    fn new_job(&mut self, name: &WorkerName, verb: Verb, purpose: Purpose) -> JobId {
        let job = self.add_job(name, verb);
        self.enqueue(Ticket { worker: name.clone(), purpose, job: Some(job) });
        job
    }

    fn quarantine_by_hand(&mut self, caller: &Caller, name: &WorkerName, why: String) -> Result<Answer, Refusal> {
        let worker = self.known(name)?;
        if let Some(why) = &worker.quarantine {
            return Err(Refusal::Quarantined(name.clone(), why.clone()));
        }
        self.refuse_held(name)?;
        let why = if why.is_empty() { format!("by {}", caller.name) } else { format!("by {}: {why}", caller.name) };
        self.quarantine(name, why);
        let entries = self.step.actions.iter_mut().filter_map(|action| match action {
            Action::Record(entry) if entry.kind == EntryKind::Quarantined => Some(entry),
            _ => None,
        });
        entries.for_each(|entry| entry.caller = Some(caller.uid));
        Ok(Answer::Nothing)
    }

    /// Gives the worker another chance: forgets its attempts, lifts the quarantine, starts it if it should be up.
    fn reset(&mut self, caller: &Caller, name: &WorkerName) -> Result<Answer, Refusal> {
        self.known(name)?;
        self.refuse_held(name)?;
        let Some(worker) = self.workers.get_mut(name) else { return Ok(Answer::Nothing) };
        let lifted = worker.quarantine.take().is_some();
        worker.ledger.clear();
        worker.recurrences.clear();
        worker.remark.clear();
        let down = worker.run.ended && !worker.is_up() && worker.flight.is_none();
        let wanted = worker.intended_up || (lifted && worker.incident.is_some());
        self.touched.insert(name.clone());
        let text = format!("{} reset {name}", caller.name);
        self.record_by(EntryKind::QuarantineReset, Some(name), caller, text);
        let startable = self.workers.get(name).is_some_and(|worker| worker.unstartable().is_none());
        if down && wanted && startable && !self.is_dry(name) {
            if let Some(worker) = self.workers.get_mut(name) {
                worker.intended_up = true;
                worker.plan = None;
            }
            self.new_job(name, Verb::Start, Purpose::Start);
        }
        Ok(Answer::Nothing)
    }

    /// Changes a parameter within what the policy allows, for the next start.
    fn set_parameter(
        &mut self,
        caller: &Caller,
        worker: &WorkerName,
        name: &str,
        value: Option<String>,
    ) -> Result<Answer, Refusal> {
        let known = self.known(worker)?;
        let Some((name, setting)) = known.policy.parameters.get_key_value(name) else {
            let names: Vec<_> = known.policy.parameters.keys().map(|name| &**name).collect();
            let hint = if names.is_empty() { "none is".into() } else { format!("{} are", names.join(", ")) };
            return Err(Refusal::InvalidArgs(format!(
                "{worker}: {name} is not declared in [parameters] of its policy; {hint}"
            )));
        };
        if let Some(why) = value.as_deref().and_then(|value| setting.value.check(value).err()) {
            return Err(Refusal::InvalidArgs(format!("{worker}: {name}: {why} ({})", setting.from)));
        }
        let change = value.map_or(Change::Unset, |value| Change::Set(value.into()));
        let changes = vec![(name.clone(), change)];
        let Some(known) = self.workers.get_mut(worker) else { return Ok(Answer::Nothing) };
        let told = known.tuning.apply(&known.policy.declared(), &changes);
        if !told.is_empty() {
            self.touched.insert(worker.clone());
            let text = format!("{worker}: {}, for the next start, by {}", told.join(", "), caller.name);
            self.record_by(EntryKind::ParametersChanged, Some(worker), caller, text);
        }
        Ok(Answer::Nothing)
    }

    fn close_by_hand(&mut self, caller: &Caller, id: IncidentId, why: &str) -> Result<Answer, Refusal> {
        let Some(incident) = self.incidents.open_mut(id) else { return Err(Refusal::NoSuchIncident(id)) };
        let name = incident.worker.clone();
        let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
        let text = format!("{} closed incident {id}{reason}", caller.name);
        self.record_by(EntryKind::IncidentClosed, Some(&name), caller, text);
        self.close_incident(id, IncidentResult::ClosedByHand);
        if let Some(worker) = self.workers.get_mut(&name) {
            worker.plan = worker.plan.take().filter(|plan| plan.flying.is_some());
        }
        Ok(Answer::Nothing)
    }

    /// Takes back a job that still waits for its turn.
    fn cancel(&mut self, id: JobId) -> Result<Answer, Refusal> {
        let Some(job) = self.jobs.get(&id).filter(|job| job.state != "finished") else {
            return Err(Refusal::NoSuchJob(id));
        };
        if job.state != "waiting" {
            return Err(Refusal::Busy(format!("job {id}: systemd is carrying it out already")));
        }
        self.drop_tickets("canceled by the caller", |ticket| ticket.job == Some(id));
        Ok(Answer::Nothing)
    }

    pub(super) fn paused(&mut self, name: &WorkerName, freezer: Freezer, outcome: &Outcome) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if *outcome == Outcome::Ok && worker.is_up() {
            worker.paused = Some(freezer);
            self.stand_still(name, true);
            self.record(EntryKind::Paused, Some(name), format!("{name} is paused"));
        }
    }

    pub(super) fn resumed(&mut self, name: &WorkerName, outcome: &Outcome) {
        let Some(worker) = self.workers.get(name) else { return };
        if *outcome == Outcome::Ok && worker.is_frozen() {
            self.thawed(name);
            self.record(EntryKind::Resumed, Some(name), format!("{name} runs on"));
        }
    }

    /// The facts that say so may still be on their way.
    pub(super) fn thawed(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.paused = None;
        if let Some(facts) = &mut worker.facts {
            facts.frozen = false;
        }
        self.stand_still(name, false);
    }

    pub(super) fn known(&self, name: &WorkerName) -> Result<&Worker, Refusal> {
        self.workers.get(name).ok_or_else(|| Refusal::NoSuchWorker(name.clone()))
    }
}
