//! What to do about a failed run, and how it went: restart, hold, quarantine, give up, verify.

use super::*;
use action::Start;
use event::RunEnd;
use policy::{AfterSuccess, CauseAction, OnExhausted, Text};
use restart::Plan;
use time::Span;
use view::IncidentState;

/// The pause before the next try when systemd refused a start without a run having begun.
const REFUSED_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

impl Engine {
    /// A run failed: opens its incident and decides.
    pub(super) fn failed(&mut self, name: &WorkerName, end: &RunEnd) {
        self.close_open_incident(name, IncidentResult::FailedAgain);
        let verdict = classify::classify(end);
        let Some(run) = self.workers.get(name).map(|worker| worker.run.invocation) else { return };
        let id = self.incidents.open(name, run, &verdict, end.ended, self.now);
        self.step.changes.insert(ObjectId::Incident(id));
        self.step.changes.insert(ObjectId::Manager);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.incident = Some(id);
            worker.cause = Some(verdict.cause);
            worker.flight = None;
            worker.plan = None;
        }
        let next = self.decide(name);
        if let Some(incident) = self.incidents.open_mut(id) {
            incident.text = format!("{name} {}: {}; {next}", verdict.ending, verdict.cause.meaning());
        }
        let text = format!("{name} {} ({}): {next}", verdict.ending, verdict.cause);
        self.record(EntryKind::IncidentOpened, Some(name), text);
        self.close_if_settled(name, id);
    }

    /// Chooses what to do about the open incident; returns it as a sentence fragment.
    pub(super) fn decide(&mut self, name: &WorkerName) -> String {
        let Some(worker) = self.workers.get(name) else { return String::new() };
        let cause = worker.cause.unwrap_or(cause::Cause::Unknown);
        let chosen = worker.policy.causes.get(&cause).cloned();
        let action = chosen.as_ref().map_or(CauseAction::Restart, |setting| setting.value);
        let by = match &chosen {
            Some(setting) => format!("[cause.{cause}] ({})", setting.from),
            None => {
                format!("restart.back-off = {} ({})", worker.policy.back_off.value.text(), worker.policy.back_off.from)
            }
        };
        if let Some(why) = worker.unstartable() {
            return format!("it cannot be started: {why}");
        }
        if self.policies.settings.dry_run {
            return self.would(name, action, by);
        }
        match action {
            CauseAction::Restart => self.plan_restart(name, by),
            CauseAction::Hold => {
                self.remedy(name, "hold", by.clone(), "done");
                let why = format!("{cause}, {by}");
                let id = self.place_hold(vec![name.clone()], "watcherd".into(), why, None, false);
                format!("held by the policy until somebody says `watcherctl release {id}`")
            }
            CauseAction::Quarantine => {
                self.remedy(name, "quarantine", by.clone(), "done");
                self.quarantine(name, format!("{cause}, {by}"));
                "quarantined by the policy".into()
            }
            CauseAction::Stop => {
                self.remedy(name, "stop", by, "done");
                self.give_up(name, "the policy says so");
                "left down by the policy".into()
            }
            CauseAction::Ignore => {
                self.remedy(name, "ignore", by, "done");
                "left to systemd by the policy".into()
            }
        }
    }

    /// Closes the incident of a failure that nothing more will be done about.
    fn close_if_settled(&mut self, name: &WorkerName, id: IncidentId) {
        let Some(last) = self.incidents.get(id).and_then(|incident| incident.remedies.last()) else { return };
        let result = match (last.action, last.outcome.as_str()) {
            (_, "would") => IncidentResult::DryRun,
            ("ignore", _) => IncidentResult::Ignored,
            ("stop", _) => IncidentResult::Stopped,
            _ => return,
        };
        let _ = name;
        self.close_incident(id, result);
    }

    fn would(&mut self, name: &WorkerName, action: CauseAction, by: String) -> String {
        let word = match action {
            CauseAction::Restart => "restart",
            CauseAction::Hold => "hold",
            CauseAction::Quarantine => "quarantine",
            CauseAction::Stop => "stop",
            CauseAction::Ignore => "ignore",
        };
        self.remedy(name, word, by.clone(), "would");
        self.record(EntryKind::WouldHave, Some(name), format!("dry run: would {word} {name} by {by}"));
        format!("dry run: would {word} it")
    }

    fn remedy(&mut self, name: &WorkerName, action: &'static str, by: String, outcome: &str) {
        let now = self.now;
        let incident = self.workers.get(name).and_then(|worker| worker.incident);
        if let Some(incident) = incident.and_then(|id| self.incidents.open_mut(id)) {
            incident.decide(action, by, now);
            incident.settle(outcome);
            if outcome.is_empty() {
                incident.state = IncidentState::Recovering;
            }
            self.step.changes.insert(ObjectId::Incident(incident.id));
        }
    }

    /// Plans the next attempt, or gives up if the budget is spent.
    pub(super) fn plan_restart(&mut self, name: &WorkerName, by: String) -> String {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return String::new() };
        if worker.ledger.left(worker.policy.budget.value, now.mono) == 0 {
            return self.exhausted(name);
        }
        worker.ledger.failures = worker.ledger.failures.saturating_add(1);
        let pause = worker.policy.back_off.value.pause(worker.ledger.failures, &mut self.rng);
        worker.plan = Some(Plan { due: now.mono + pause, by: by.clone(), counted: false, queued: false, flying: None });
        let attempt = worker.ledger.failures;
        self.touched.insert(name.clone());
        self.remedy(name, "restart", by, "");
        let text = if pause.is_zero() {
            format!("restart #{attempt} at once")
        } else {
            format!("restart #{attempt} in {}", Span(pause))
        };
        match self.hold_of(name) {
            Some((_, hold)) => format!("{}, {text} after its release", hold.describe()),
            None => text,
        }
    }

    fn exhausted(&mut self, name: &WorkerName) -> String {
        let Some(worker) = self.workers.get_mut(name) else { return String::new() };
        worker.plan = None;
        let budget = worker.policy.budget.clone();
        let on_exhausted = worker.policy.on_exhausted.clone();
        let why = format!("{} attempts in {} did not help", budget.value.attempts, Span(budget.value.window));
        let by = format!("restart.on-exhausted ({}), restart.budget ({})", on_exhausted.from, budget.from);
        match on_exhausted.value {
            OnExhausted::Quarantine => {
                self.remedy(name, "quarantine", by, "done");
                self.quarantine(name, why.clone());
                format!("quarantined, {why}")
            }
            OnExhausted::Stop => {
                self.remedy(name, "stop", by, "done");
                self.give_up(name, &why);
                format!("left down, {why}")
            }
        }
    }

    /// Leaves the worker down as if somebody had stopped it.
    fn give_up(&mut self, name: &WorkerName, why: &str) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.intended_up = false;
        worker.plan = None;
        worker.remark = format!("left down: {why}");
        self.touched.insert(name.clone());
        self.record(EntryKind::GaveUp, Some(name), format!("{name} is left down: {why}"));
    }

    /// Protects the worker from further attempts until somebody resets it; stops it if it runs.
    pub(super) fn quarantine(&mut self, name: &WorkerName, why: String) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let text = format!("{name} is quarantined: {why}; `watcherctl reset {name}` gives it another chance");
        worker.quarantine = Some(why);
        worker.plan = None;
        let up = worker.is_up();
        self.touched.insert(name.clone());
        self.record(EntryKind::Quarantined, Some(name), text);
        if up {
            self.stop(name, Purpose::StopForGood, None);
        }
    }

    /// A run ended with success.
    pub(super) fn succeeded(&mut self, name: &WorkerName) {
        let now = self.now;
        let dry_run = self.policies.settings.dry_run;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let policy = worker.policy.after_success.clone();
        let chosen = policy.from != policy::Source::default_value();
        if worker.waits_for_own_restart() && !chosen {
            return;
        }
        match policy.value {
            AfterSuccess::Complete => {
                worker.completed = true;
                worker.intended_up = false;
                worker.plan = None;
                worker.finished = worker.definition.is_some().then_some(now);
                worker.remark = "ended with success".into();
                worker.ledger.clear();
                self.record(EntryKind::Completed, Some(name), format!("{name} ended with success and is done"));
                self.close_open_incident(name, IncidentResult::Completed);
            }
            AfterSuccess::Restart if dry_run => {
                let text = format!("dry run: would restart {name}, which ended with success");
                self.record(EntryKind::WouldHave, Some(name), text);
            }
            AfterSuccess::Restart => {
                let by = format!("worker.after-success = restart ({})", policy.from);
                let next = self.plan_restart(name, by);
                let text = format!("{name} ended with success, but is a service: {next}");
                self.record(EntryKind::RestartScheduled, Some(name), text);
            }
        }
    }

    /// systemd is about to restart the unit by itself: prevents it where something else was decided.
    pub(super) fn keep_from_restarting(&mut self, name: &WorkerName) {
        let held = self.hold_of(name).is_some();
        let Some(worker) = self.workers.get(name) else { return };
        let later = worker.plan.as_ref().is_some_and(|plan| plan.flying.is_none() && plan.due > self.now.mono);
        let never = worker.quarantine.is_some() || !worker.intended_up;
        let ours = worker.flight.is_some();
        if (later || never) && !ours && !held && !self.policies.settings.dry_run && !self.host_stopping {
            self.stop(name, Purpose::Preempt, None);
        }
    }

    /// The planned restart is due.
    pub(super) fn restart_due(&mut self, name: &WorkerName) {
        let now = self.now;
        let host_stopping = self.host_stopping;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let obsolete = host_stopping || worker.is_up() || worker.quarantine.is_some() || !worker.intended_up;
        if obsolete {
            worker.plan = None;
            return;
        }
        if let Some(why) = worker.unstartable() {
            worker.plan = None;
            worker.remark = why.into();
            self.record(EntryKind::NotStartable, Some(name), format!("{name} cannot be started: {why}"));
            return;
        }
        let Some(plan) = &mut worker.plan else { return };
        if !plan.counted && worker.ledger.left(worker.policy.budget.value, now.mono) == 0 {
            let text = self.exhausted(name);
            self.record(EntryKind::RestartScheduled, Some(name), format!("{name}: {text}"));
            return;
        }
        plan.queued = true;
        self.waiting.push_back(Ticket { worker: name.clone(), purpose: Purpose::Recover, job: None });
        self.pump();
    }

    /// Lets waiting starts and stops go as far as there are free slots.
    pub(super) fn pump(&mut self) {
        let slots = self.policies.settings.max_jobs.max(1) as usize;
        while self.flights.values().filter(|flight| flight.purpose.takes_slot()).count() < slots {
            let Some(ticket) = self.waiting.pop_front() else { return };
            self.launch(ticket);
        }
    }

    fn launch(&mut self, ticket: Ticket) {
        let Ticket { worker: name, purpose, job } = ticket;
        let now = self.now;
        self.touched.insert(name.clone());
        let held = self.hold_of(&name).is_some();
        let Some(worker) = self.workers.get_mut(&name) else {
            self.end_job(job, "failed", "the worker is not supervised any more");
            return;
        };
        if purpose == Purpose::Recover {
            let Some(plan) = &mut worker.plan else { return };
            plan.queued = false;
            if held {
                return;
            }
            if !plan.counted {
                plan.counted = true;
                worker.ledger.count(worker.policy.budget.value, now.mono);
            }
        } else if held {
            self.end_job(job, "canceled", "the worker is held");
            return;
        }
        if let Some(view) = job.and_then(|job| self.jobs.get_mut(&job)) {
            view.state = "running";
            self.step.changes.insert(ObjectId::Job(view.id));
        }
        match purpose {
            Purpose::Recover | Purpose::Start | Purpose::Restart => self.take_off_start(&name, purpose, job),
            _ => {
                self.take_off_stop(&name, purpose, job);
            }
        }
    }

    fn take_off_start(&mut self, name: &WorkerName, purpose: Purpose, job: Option<JobId>) {
        let run = self.rng.hex128();
        let id = self.fly(name, purpose, job);
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let own_restart = worker.facts.as_ref().is_some_and(|facts| facts.traits.restarts_itself);
        let start = Start {
            run,
            definition: worker.definition.clone(),
            // RestartUnit goes ahead of systemd's own restart; StartUnit does nothing to a unit that is up already.
            restart: purpose == Purpose::Restart || own_restart,
            reset_failed: worker.nears_start_limit(now),
            thaw: worker.facts.as_ref().is_some_and(|facts| facts.frozen),
            grace: worker.policy.grace.value,
        };
        worker.flight = Some(id);
        if let Some(plan) = &mut worker.plan {
            plan.flying = Some(id);
        }
        if purpose == Purpose::Restart && worker.is_up() {
            worker.kill_at = Some(now.mono + worker.policy.grace.value);
        }
        self.act(Action::Start(id, name.clone(), start));
    }

    fn take_off_stop(&mut self, name: &WorkerName, purpose: Purpose, job: Option<JobId>) {
        let Some(worker) = self.workers.get(name) else { return };
        // systemd 257 refuses to stop a frozen unit.
        let frozen = worker.facts.as_ref().is_some_and(|facts| facts.frozen);
        let thaw_first = match purpose {
            Purpose::Stop => Some(Purpose::ThawToStop),
            Purpose::StopForGood => Some(Purpose::ThawToStopForGood),
            _ => None,
        };
        if let Some(thaw) = thaw_first.filter(|_| frozen) {
            let id = self.fly(name, thaw, job);
            self.act(Action::Thaw(id, name.clone(), action::Freezer::Cgroup));
            return;
        }
        let id = self.fly(name, purpose, job);
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(name) {
            worker.flight = Some(id);
            if worker.is_up() {
                worker.kill_at = Some(now.mono + worker.policy.grace.value);
            }
        }
        self.act(Action::Stop(id, name.clone()));
    }

    /// Decides a stop; it waits for a free slot.
    pub(super) fn stop(&mut self, name: &WorkerName, purpose: Purpose, job: Option<JobId>) {
        self.waiting.push_back(Ticket { worker: name.clone(), purpose, job });
        self.pump();
    }

    /// The worker was asked to end and is still there.
    pub(super) fn grace_over(&mut self, name: &WorkerName) {
        let held = self.hold_of(name).is_some();
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.kill_at = None;
        let ending = worker.facts.as_ref().is_some_and(|facts| facts.active == event::Active::Deactivating);
        if ending && !held {
            let id = self.fly(name, Purpose::Kill, None);
            self.act(Action::Kill(id, name.clone(), SIGKILL));
        }
    }

    /// The worker ran long enough after a restart.
    pub(super) fn verified(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let Some(incident) = worker.incident.and_then(|id| self.incidents.get(id)) else { return };
        let down = incident.started.since(incident.opened);
        let text = format!(
            "{name} has recovered: it was down for {} and has run for {} since",
            Span(down),
            Span(worker.policy.verify.value)
        );
        let id = incident.id;
        self.record(EntryKind::IncidentClosed, Some(name), text);
        self.close_incident(id, IncidentResult::Recovered);
    }

    /// The worker was healthy for long enough to forget its attempts.
    pub(super) fn healthy_again(&mut self, name: &WorkerName) {
        if let Some(worker) = self.workers.get_mut(name) {
            worker.ledger.clear();
            worker.cause = worker.incident.and(worker.cause);
        }
    }

    pub(super) fn done(&mut self, id: ActionId, outcome: Outcome) {
        let Some(flight) = self.flights.remove(&id) else { return };
        let name = flight.worker.clone();
        self.touched.insert(name.clone());
        let current = self.workers.get_mut(&name).is_some_and(|worker| {
            let current = worker.flight == Some(id);
            if current {
                worker.flight = None;
            }
            current
        });
        match flight.purpose {
            Purpose::LookBack => {
                if self.workers.get(&name).is_some_and(|worker| worker.look_back == Some(id)) {
                    self.looked_back(&name, outcome);
                }
            }
            Purpose::Recover => self.recovery_done(&name, id, current, &outcome),
            Purpose::StopToRestart if outcome == Outcome::Ok => {
                self.waiting.push_front(Ticket { worker: name, purpose: Purpose::Start, job: flight.job });
            }
            Purpose::ThawToStop | Purpose::ThawToStopForGood if outcome == Outcome::Ok => {
                let stop = if flight.purpose == Purpose::ThawToStop { Purpose::Stop } else { Purpose::StopForGood };
                self.waiting.push_front(Ticket { worker: name, purpose: stop, job: flight.job });
            }
            Purpose::Pause(freezer) => {
                self.paused(&name, freezer, &outcome);
                self.end_job_by(flight.job, &outcome);
            }
            Purpose::Resume => {
                self.resumed(&name, &outcome);
                self.end_job_by(flight.job, &outcome);
            }
            Purpose::Stop if outcome == Outcome::Ok => {
                self.stopped(&name);
                self.end_job_by(flight.job, &outcome);
            }
            _ => self.end_job_by(flight.job, &outcome),
        }
        self.pump();
    }

    fn recovery_done(&mut self, name: &WorkerName, id: ActionId, current: bool, outcome: &Outcome) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let planned = worker.plan.as_ref().is_some_and(|plan| plan.flying == Some(id));
        if !current && !planned {
            return;
        }
        if planned {
            worker.plan = None;
        }
        let attempt = worker.ledger.failures;
        let verify = worker.policy.verify.value;
        let down = worker.run.ended && !worker.is_up();
        let incident = worker.incident;
        let report = match outcome {
            Outcome::Ok | Outcome::Past(_) => "done".to_owned(),
            Outcome::Failed(why) => format!("failed: {why}"),
            Outcome::TimedOut => "still starting".to_owned(),
        };
        if let Some(incident) = incident.and_then(|id| self.incidents.open_mut(id)) {
            incident.settle(&report);
            self.step.changes.insert(ObjectId::Incident(incident.id));
        }
        match outcome {
            Outcome::Failed(why) if down => {
                let text = format!("{name}: restart #{attempt} failed: {why}");
                self.record(EntryKind::RestartFailed, Some(name), text);
                let next = self.decide(name);
                if let Some(plan) = self.workers.get_mut(name).and_then(|worker| worker.plan.as_mut()) {
                    plan.due = plan.due.max(now.mono + REFUSED_PAUSE);
                }
                self.record(EntryKind::RestartScheduled, Some(name), format!("{name}: {next}"));
            }
            Outcome::Failed(_) | Outcome::TimedOut => {}
            Outcome::Ok | Outcome::Past(_) => {
                let text = match incident {
                    Some(_) => {
                        format!("{name} runs again (restart #{attempt}); it counts as cured after {}", Span(verify))
                    }
                    None => format!("{name} runs again (restart #{attempt})"),
                };
                self.record(EntryKind::RestartDone, Some(name), text);
            }
        }
    }

    /// A stop that was asked for through watcherd is done.
    fn stopped(&mut self, name: &WorkerName) {
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(name)
            && !worker.is_up()
            && !worker.intended_up
        {
            worker.run.ended = true;
            if worker.definition.is_some() {
                worker.finished = Some(now);
            }
            self.close_open_incident(name, IncidentResult::Stopped);
        }
    }

    fn end_job_by(&mut self, job: Option<JobId>, outcome: &Outcome) {
        match outcome {
            Outcome::Ok | Outcome::Past(_) => self.end_job(job, "done", ""),
            Outcome::Failed(why) => self.end_job(job, "failed", why),
            Outcome::TimedOut => self.end_job(job, "timeout", "systemd's job did not end in time"),
        }
    }

    pub(super) fn end_job(&mut self, job: Option<JobId>, result: &'static str, detail: &str) {
        let Some(view) = job.and_then(|job| self.jobs.get_mut(&job)) else { return };
        view.state = "finished";
        view.result = result;
        detail.clone_into(&mut view.detail);
        self.step.changes.insert(ObjectId::Job(view.id));
        self.finished_jobs.push(view.id);
    }
}

const SIGKILL: i32 = 9;
