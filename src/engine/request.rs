//! What people and programs ask for: each request is answered at once, with a refusal or with what was begun.

use super::*;
use action::Freezer;
use event::Definition;

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
            Request::Hold { workers, who, why, until, lock } => self.hold(caller, workers, who, why, until, lock),
            Request::Release(id) => self.release(caller, id),
            Request::Quarantine { worker, why } => self.quarantine_by_hand(caller, &worker, why),
            Request::ResetQuarantine(name) => self.reset(caller, &name),
            Request::CloseIncident { incident, why } => self.close_by_hand(caller, incident, &why),
            Request::CancelJob(id) => self.cancel(id),
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
        if let Some(known) = self.workers.get(&name) {
            let over = known.definition.is_some() && (known.completed || !known.intended_up) && !known.is_up();
            if !over {
                return Err(Refusal::Exists(format!("{name}: a worker of this name exists")));
            }
            self.let_go(&name);
        }
        let policy = self.own_policy(&name, &own).unwrap_or_default();
        let mut worker = Worker::new(name.clone(), policy, self.now);
        worker.own = Some(own);
        worker.definition = Some(life::share(definition));
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
        let Some(policy) = self.own_policy(&name, &own) else {
            return Err(Refusal::InvalidArgs(format!("{name}: no policy")));
        };
        if let Some(worker) = self.workers.get_mut(&name) {
            if worker.definition.is_some() {
                return Err(Refusal::Exists(format!("{name}: was made by `watcherctl run` and is a worker already")));
            }
            worker.own = Some(own);
            worker.policy = policy;
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
        if worker.own.is_none() && worker.is_up() {
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
                worker.policy = policy;
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
        if self.jobs.len() + names.len() > JOBS_MAX {
            return Err(Refusal::LimitsExceeded(format!("{JOBS_MAX} jobs are waiting already")));
        }
        if dry_run || self.policies.settings.dry_run {
            for name in &names {
                let text = format!("dry run: would {} {name} for {}", verb.as_str(), caller.name);
                self.record_by(EntryKind::WouldHave, Some(name), caller, text);
            }
            return Ok(Answer::Jobs(Vec::new()));
        }
        let mut jobs = Vec::new();
        for name in names {
            let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
            let text = format!("{} asked to {} {name}{reason}", caller.name, verb.as_str());
            self.record_by(EntryKind::Requested, Some(&name), caller, text);
            jobs.push(self.begin(verb, &name, caller));
        }
        Ok(Answer::Jobs(jobs))
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
                return Err(Refusal::NotSupported(format!("{name}: is not running, so it cannot be paused")));
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
        self.waiting.retain(|ticket| ticket.worker != *name || ticket.purpose != Purpose::Recover);
        let Some(worker) = self.workers.get_mut(name) else { return JobId(0) };
        let up = worker.is_up();
        match verb {
            Verb::Start | Verb::Restart => {
                worker.intended_up = true;
                worker.completed = false;
                worker.finished = None;
                worker.plan = None;
                let made_anew = worker.definition.is_some();
                let purpose = match (verb, up) {
                    (Verb::Restart, true) if made_anew => Purpose::StopToRestart,
                    (Verb::Restart, _) => Purpose::Restart,
                    _ => Purpose::Start,
                };
                if verb == Verb::Start && up && worker.flight.is_none() {
                    let job = self.add_job(name, verb);
                    self.end_job(Some(job), "done", "");
                    return job;
                }
                self.new_job(name, verb, purpose)
            }
            Verb::Stop => {
                worker.intended_up = false;
                worker.plan = None;
                worker.remark = format!("stopped by {}", caller.name);
                self.new_job(name, verb, Purpose::Stop)
            }
            Verb::Pause => {
                let freezer = match &worker.facts {
                    Some(facts) if facts.traits.can_freeze => Freezer::Cgroup,
                    _ => Freezer::Signal,
                };
                let job = self.add_job(name, verb);
                let id = self.fly(name, Purpose::Pause(freezer), Some(job));
                self.act(Action::Freeze(id, name.clone(), freezer));
                job
            }
            Verb::Resume => {
                let frozen = worker.facts.as_ref().is_some_and(|facts| facts.frozen);
                let freezer = if frozen { Freezer::Cgroup } else { worker.paused.unwrap_or(Freezer::Cgroup) };
                let job = self.add_job(name, verb);
                let id = self.fly(name, Purpose::Resume, Some(job));
                self.act(Action::Thaw(id, name.clone(), freezer));
                job
            }
        }
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
        self.waiting.push_back(Ticket { worker: name.clone(), purpose, job: Some(job) });
        self.pump();
        job
    }

    fn hold(
        &mut self,
        caller: &Caller,
        workers: Vec<WorkerName>,
        who: String,
        why: String,
        until: Option<Wall>,
        lock: bool,
    ) -> Result<Answer, Refusal> {
        if workers.is_empty() {
            return Err(Refusal::InvalidArgs("a hold needs at least one worker".into()));
        }
        for name in &workers {
            self.known(name)?;
        }
        if self.holds.len() >= HOLDS_MAX {
            return Err(Refusal::LimitsExceeded(format!("{HOLDS_MAX} holds exist already")));
        }
        if until.is_some_and(|until| until <= self.now.wall) {
            return Err(Refusal::InvalidArgs("the end of the hold lies in the past".into()));
        }
        let who = if who.is_empty() { caller.name.clone() } else { who };
        let id = self.place_hold(workers.clone(), who, why, until, lock);
        for name in &workers {
            let description = self.holds.get(&id).map(Hold::describe).unwrap_or_default();
            self.record_by(EntryKind::Held, Some(name), caller, format!("{name} is {description}"));
        }
        Ok(Answer::Hold(id))
    }

    pub(super) fn place_hold(
        &mut self,
        workers: Vec<WorkerName>,
        who: String,
        why: String,
        until: Option<Wall>,
        lock: bool,
    ) -> HoldId {
        let id = HoldId(self.next_hold);
        self.next_hold = self.next_hold.wrapping_add(1).max(1);
        self.touched.extend(workers.iter().cloned());
        for ticket in std::mem::take(&mut self.waiting) {
            if !workers.contains(&ticket.worker) {
                self.waiting.push_back(ticket);
                continue;
            }
            self.end_job(ticket.job, "canceled", "the worker is held");
            if let Some(plan) = self.workers.get_mut(&ticket.worker).and_then(|worker| worker.plan.as_mut()) {
                plan.queued = false;
            }
        }
        for name in &workers {
            if let Some(worker) = self.workers.get_mut(name) {
                worker.kill_at = None;
            }
        }
        self.step.changes.insert(ObjectId::Manager);
        self.holds.insert(id, Hold { workers, who, why, until, lock });
        id
    }

    fn release(&mut self, caller: &Caller, id: HoldId) -> Result<Answer, Refusal> {
        if !self.holds.contains_key(&id) {
            return Err(Refusal::NoSuchHold(id));
        }
        self.end_hold(id, &format!("released by {}", caller.name), Some(caller));
        Ok(Answer::Nothing)
    }

    pub(super) fn end_hold(&mut self, id: HoldId, how: &str, caller: Option<&Caller>) {
        let Some(hold) = self.holds.remove(&id) else { return };
        self.step.changes.insert(ObjectId::Manager);
        for name in hold.workers {
            if !self.workers.contains_key(&name) {
                continue;
            }
            self.touched.insert(name.clone());
            let text = format!("{name} is not held any more by {}: {how}", hold.who);
            match caller {
                Some(caller) => self.record_by(EntryKind::Released, Some(&name), caller, text),
                None => self.record(EntryKind::Released, Some(&name), text),
            }
            if self.hold_of(&name).is_none() {
                self.decide_after_hold(&name);
            }
        }
    }

    /// A worker whose hold ended is brought back if it failed meanwhile.
    fn decide_after_hold(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let down = worker.run.ended && !worker.is_up() && worker.flight.is_none() && worker.look_back.is_none();
        let wanted = worker.intended_up && worker.quarantine.is_none() && worker.incident.is_some();
        if !down || !wanted || worker.plan.is_some() {
            if worker.waits_for_own_restart() {
                self.keep_from_restarting(name);
            }
            return;
        }
        let by = "the hold was released".to_owned();
        let next = self.plan_restart(name, by);
        self.record(EntryKind::RestartScheduled, Some(name), format!("{name}: {next}"));
    }

    fn quarantine_by_hand(&mut self, caller: &Caller, name: &WorkerName, why: String) -> Result<Answer, Refusal> {
        let worker = self.known(name)?;
        if let Some(why) = &worker.quarantine {
            return Err(Refusal::Quarantined(name.clone(), why.clone()));
        }
        self.refuse_held(name)?;
        let why = if why.is_empty() { format!("by {}", caller.name) } else { format!("by {}: {why}", caller.name) };
        self.waiting.retain(|ticket| ticket.worker != *name || ticket.purpose != Purpose::Recover);
        self.quarantine(name, why);
        Ok(Answer::Nothing)
    }

    /// Gives the worker another chance: forgets its attempts, lifts the quarantine, starts it if it should be up.
    fn reset(&mut self, caller: &Caller, name: &WorkerName) -> Result<Answer, Refusal> {
        self.known(name)?;
        self.refuse_held(name)?;
        let Some(worker) = self.workers.get_mut(name) else { return Ok(Answer::Nothing) };
        let lifted = worker.quarantine.take().is_some();
        worker.ledger.clear();
        worker.remark.clear();
        let down = worker.run.ended && !worker.is_up() && worker.flight.is_none();
        let wanted = worker.intended_up || (lifted && worker.incident.is_some());
        self.touched.insert(name.clone());
        let text = format!("{} reset {name}", caller.name);
        self.record_by(EntryKind::QuarantineReset, Some(name), caller, text);
        if down && wanted && self.workers.get(name).is_some_and(|worker| worker.unstartable().is_none()) {
            if let Some(worker) = self.workers.get_mut(name) {
                worker.intended_up = true;
                worker.plan = None;
            }
            self.new_job(name, Verb::Start, Purpose::Start);
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
        self.waiting.retain(|ticket| ticket.job != Some(id));
        self.end_job(Some(id), "canceled", "canceled by the caller");
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
        let Some(worker) = self.workers.get_mut(name) else { return };
        if *outcome == Outcome::Ok {
            worker.paused = None;
            // The facts that say so may still be on their way.
            if let Some(facts) = &mut worker.facts {
                facts.frozen = false;
            }
            self.stand_still(name, false);
            self.record(EntryKind::Resumed, Some(name), format!("{name} runs on"));
        }
    }

    fn known(&self, name: &WorkerName) -> Result<&Worker, Refusal> {
        self.workers.get(name).ok_or_else(|| Refusal::NoSuchWorker(name.clone()))
    }

    fn refuse_held(&self, name: &WorkerName) -> Result<(), Refusal> {
        match self.hold_of(name) {
            None => Ok(()),
            Some((_, hold)) => Err(Refusal::WorkerHeld {
                worker: name.clone(),
                who: hold.who.clone(),
                why: hold.why.clone(),
                until: hold.until,
            }),
        }
    }
}
