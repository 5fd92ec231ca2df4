// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do about a failed run, and how it went: restart, hold, quarantine, give up, verify.

use super::*;
use event::{Exit, RunEnd};
use flight::{Purpose, Ticket};
use ladder::{Chosen, Exhausted};
use policy::{AfterSuccess, CauseAction, OnExhausted, Text};
use restart::Plan;
use time::Span;
use view::IncidentState;
use worker::Ending;

/// The pause before the next try when systemd refused a start without a run having begun.
const REFUSED_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// `1 attempt`, `5 attempts`.
pub(super) fn attempts(count: u32) -> String {
    if count == 1 { "1 attempt".into() } else { format!("{count} attempts") }
}

/// When something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// While the signals about the failure are still coming.
    AtOnce,
    Later,
}

impl Engine {
    /// A run failed: opens its incident and decides.
    pub(super) fn failed(&mut self, name: &WorkerName, end: &RunEnd) {
        let Some(run) = self.workers.get(name).map(|worker| worker.run.invocation) else { return };
        if self.incidents.covers(name, run) {
            self.take_up_again(name);
            return;
        }
        self.close_open_incident(name, IncidentResult::FailedAgain);
        self.open_incident(name, end);
    }

    /// Another witness of a failure that is known; only the way back up may still be missing.
    fn take_up_again(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let idle = worker.plan.is_none() && worker.undecided.is_none() && worker.watch.sentence.is_none();
        if worker.is_awaited() && idle && !self.is_dry(name) {
            self.try_again(name, "its failure is known already".into());
        }
    }

    /// Goes on with a worker that is down although nobody wants that and nothing is planned.
    pub(super) fn take_up_incident(&mut self, name: &WorkerName, by: &str) {
        let Some(worker) = self.workers.get(name) else { return };
        let down = self.is_left_down(worker);
        let Some(incident) = worker.incident else { return };
        if !down || !worker.is_awaited() || worker.plan.is_some() || worker.undecided.is_some() {
            return;
        }
        // The policy's own hold is what was decided.
        let settled = self.hold_of(name).is_some_and(|(_, hold)| hold.who == hold::HOLDER);
        if settled || self.is_dry(name) || worker.unstartable().is_some() {
            return;
        }
        let undecided = self.incidents.get(incident).is_some_and(|incident| incident.decided == Wall::NEVER);
        if undecided && self.depends_on_cause(name) {
            self.reconsider(name, incident);
        } else {
            self.try_again(name, by.to_owned());
        }
    }

    /// Whether it is down, and nothing is under way that will bring it back, or say more about it.
    fn is_left_down(&self, worker: &Worker) -> bool {
        // That systemd is kept from restarting it is no reason to leave it down.
        let flight = worker.flight.and_then(|id| self.flights.get(&id)).map(|flight| flight.purpose);
        let idle = worker.flight.is_none() || flight == Some(Purpose::Stop(Ending::Preempted));
        worker.run.ended && !worker.is_up() && idle && worker.look_back.is_none()
    }

    /// What was waited for has come true: the worker starts without an attempt being counted, at a moment of its own among
    /// those of `count` workers.
    pub(super) fn take_up_for_free(&mut self, name: &WorkerName, count: usize) {
        let Some(worker) = self.workers.get(name) else { return };
        let down = self.is_left_down(worker);
        if !down || !worker.is_awaited() || worker.plan.is_some() || worker.undecided.is_some() || self.is_dry(name) {
            return;
        }
        let spread = self.turn(count);
        let due = self.now.mono + spread;
        let by = "what its hold waited for holds";
        if let Some(worker) = self.workers.get_mut(name) {
            worker.plan = Some(Plan::free(due, by));
        }
        self.touched.insert(name.clone());
        self.remedy(name, "restart", by.into(), "");
        self.record(EntryKind::RestartScheduled, Some(name), format!("{name}: {by}; a start in {}", Span(spread)));
    }

    /// Plans a restart and says so.
    pub(super) fn try_again(&mut self, name: &WorkerName, by: String) {
        let text = format!("{name}: {by}");
        let next = self.plan_restart(name, by);
        self.record(EntryKind::RestartScheduled, Some(name), format!("{text}; {next}"));
        self.close_if_settled(name);
    }

    /// Chooses what to do about the open incident; returns it as a sentence fragment.
    pub(super) fn decide(&mut self, name: &WorkerName, when: When) -> String {
        let Some(worker) = self.workers.get(name) else { return String::new() };
        // At the moment of the failure systemd has not said yet that it is about to start the unit by itself.
        let itself = match when {
            When::AtOnce => worker.facts.as_ref().is_some_and(|facts| facts.traits.restarts_itself),
            When::Later => worker.waits_for_own_restart(),
        };
        let back_off = worker.back_off();
        let usual = format!("restart.back-off = {} ({})", back_off.value.text(), back_off.from);
        if let Some(why) = worker.unstartable() {
            return format!("it cannot be started: {why}");
        }
        if let Some(why) = self.forbids_restart(name) {
            return self.left_down(name, &why, format!("the program's own word, {why}"));
        }
        if self.is_dry(name) {
            let (chosen, _) = self.wanted(name, &usual);
            return self.would(name, chosen.action, chosen.by);
        }
        match self.choose(name, &usual) {
            Ok(chosen) => self.carry_through(name, chosen, itself),
            Err(exhausted) => self.exhausted(name, exhausted),
        }
    }

    /// Does what was chosen about a run that is over.
    fn carry_through(&mut self, name: &WorkerName, chosen: Chosen, itself: bool) -> String {
        let Chosen { action, by, until, changed, not_before } = chosen;
        let cause = self.workers.get(name).and_then(|worker| worker.cause).unwrap_or(cause::Cause::Unknown);
        match action {
            CauseAction::Restart => {
                let next = self.plan_restart(name, by);
                self.put_off_start(name, not_before);
                if changed.is_empty() { next } else { format!("{next} with {}", changed.join(", ")) }
            }
            CauseAction::Hold => {
                self.remedy(name, "hold", by.clone(), "done");
                if itself && self.hold_of(name).is_none() {
                    // The last chance: a held worker is left alone, and systemd is about to start it again.
                    self.take_off_stop(name, Ending::Preempted, None);
                }
                self.hold_by_policy(name, format!("{cause}, {by}"), until)
            }
            CauseAction::Quarantine => {
                self.remedy(name, "quarantine", by.clone(), "done");
                self.quarantine(name, format!("{cause}, {by}"));
                "quarantined by the policy".into()
            }
            CauseAction::Stop => self.left_down(name, "the policy says so", by),
            CauseAction::Ignore => {
                self.remedy(name, "ignore", by, "done");
                "left to systemd by the policy".into()
            }
        }
    }

    pub(super) fn left_down(&mut self, name: &WorkerName, why: &str, by: String) -> String {
        self.remedy(name, "stop", by, "done");
        self.give_up(name, why);
        format!("left down: {why}")
    }

    /// A start that changes something waits until the change before it has had its time.
    fn put_off_start(&mut self, name: &WorkerName, not_before: Option<Mono>) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if let Some((plan, not_before)) = worker.plan.as_mut().zip(not_before) {
            plan.due = plan.due.max(not_before);
        }
    }

    /// Whether nothing is to be touched that belongs to this worker.
    pub(super) fn is_dry(&self, name: &WorkerName) -> bool {
        self.policies.settings.dry_run || self.workers.get(name).is_some_and(|worker| worker.policy.dry_run.value)
    }

    /// Closes the open incident if nothing more will be done about it.
    pub(super) fn close_if_settled(&mut self, name: &WorkerName) {
        let Some(id) = self.workers.get(name).and_then(|worker| worker.incident) else { return };
        let Some(last) = self.incidents.get(id).and_then(|incident| incident.remedies.last()) else { return };
        let result = match (last.action, last.outcome.as_str()) {
            (_, "would") => IncidentResult::DryRun,
            ("ignore", _) => IncidentResult::Ignored,
            ("stop", _) => IncidentResult::Stopped,
            _ => return,
        };
        self.close_incident(id, result);
    }

    pub(super) fn would(&mut self, name: &WorkerName, action: CauseAction, by: String) -> String {
        let word = action.as_str();
        self.remedy(name, word, by.clone(), "would");
        self.record(EntryKind::WouldHave, Some(name), format!("dry run: would {word} {name} by {by}"));
        format!("dry run: would {word} it")
    }

    pub(super) fn remedy(&mut self, name: &WorkerName, action: &'static str, by: String, outcome: &str) {
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
        if worker.budget_left(now.mono) == 0 {
            return self.spend_nothing(name);
        }
        worker.ledger.failures = worker.ledger.failures.saturating_add(1);
        let pause = worker.back_off().value.pause(worker.ledger.failures, &mut self.rng);
        worker.plan = Some(Plan::new(now.mono + pause, &by));
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

    /// The budget is spent: gives up, or waits for it where the policy says so.
    pub(super) fn spend_nothing(&mut self, name: &WorkerName) -> String {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return String::new() };
        let (budget, by) = worker.budget_text();
        let on_exhausted = worker.policy.on_exhausted.clone();
        let why = format!("{} in {} did not help", attempts(budget.attempts), Span(budget.window));
        let back = worker.budget_back().filter(|_| on_exhausted.value == OnExhausted::NextRemedy);
        let Some(back) = back else { return self.exhausted(name, Exhausted { why, by }) };
        let by = format!("restart.on-exhausted = next-remedy ({}), {by}", on_exhausted.from);
        worker.ledger.failures = worker.ledger.failures.saturating_add(1);
        let attempt = worker.ledger.failures;
        worker.plan = Some(Plan::new(back.max(now.mono + REFUSED_PAUSE), &by));
        self.touched.insert(name.clone());
        self.remedy(name, "restart", by, "");
        format!("{why}; restart #{attempt} in {}, when the budget allows it", Span(back.since(now.mono)))
    }

    /// Nothing is left to be tried.
    pub(super) fn exhausted(&mut self, name: &WorkerName, exhausted: Exhausted) -> String {
        let Some(worker) = self.workers.get_mut(name) else { return String::new() };
        worker.plan = None;
        let on_exhausted = worker.policy.on_exhausted.clone();
        let Exhausted { why, by } = exhausted;
        let by = format!("restart.on-exhausted ({}), {by}", on_exhausted.from);
        match on_exhausted.value {
            OnExhausted::Quarantine | OnExhausted::NextRemedy => {
                self.remedy(name, "quarantine", by, "done");
                self.quarantine(name, why.clone());
                format!("quarantined, {why}")
            }
            OnExhausted::Stop => {
                self.remedy(name, "stop", by, "done");
                self.give_up(name, &why);
                format!("left down, {why}")
            }
            OnExhausted::Pause => {
                self.remedy(name, "hold", by, "done");
                self.hold_by_policy(name, why, None)
            }
        }
    }

    /// Leaves the worker down as if somebody had stopped it.
    pub(super) fn give_up(&mut self, name: &WorkerName, why: &str) {
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
        self.drop_tickets("the worker is quarantined", |ticket| ticket.worker == *name);
        if (up || self.is_starting(name)) && !self.is_dry(name) {
            self.stop(name, Ending::ForGood);
        }
    }

    /// A run ended with success.
    pub(super) fn succeeded(&mut self, name: &WorkerName, end: &RunEnd) {
        let Some(worker) = self.workers.get(name) else { return };
        let policy = worker.policy.after_success.clone();
        if worker.waits_for_own_restart() && !worker.ends_by_policy() {
            return;
        }
        match (policy.value, end.exit) {
            (AfterSuccess::Complete, Exit::Killed(signal)) => self.ended_by_signal(name, signal),
            (AfterSuccess::Complete, _) => self.completed(name),
            (AfterSuccess::Restart, _) if self.is_dry(name) => {
                let text = format!("dry run: would restart {name}, which ended with success");
                self.record(EntryKind::WouldHave, Some(name), text);
            }
            (AfterSuccess::Restart, _) => {
                let by = format!("worker.after-success = restart ({})", policy.from);
                let next = self.plan_restart(name, by);
                let text = format!("{name} ended with success, but is a service: {next}");
                self.record(EntryKind::RestartScheduled, Some(name), text);
                self.close_if_settled(name);
            }
        }
    }

    fn completed(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.completed = true;
        worker.intended_up = false;
        worker.plan = None;
        worker.remark = "ended with success".into();
        worker.ledger.clear();
        worker.recurrences.clear();
        worker.failed_at = None;
        worker.cause = None;
        let itself = worker.facts.as_ref().is_some_and(|facts| facts.traits.restarts_itself);
        let text = if itself && !worker.ends_by_policy() {
            format!("{name} ended with success; its Restart= says what follows")
        } else {
            format!("{name} ended with success and is done")
        };
        self.note_finished(name);
        self.record(EntryKind::Completed, Some(name), text);
        self.close_open_incident(name, IncidentResult::Completed);
    }

    /// systemd counts SIGTERM and its like as a clean end, but the work is not done.
    fn ended_by_signal(&mut self, name: &WorkerName, signal: i32) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let signal = classify::signal_name(signal);
        worker.intended_up = false;
        worker.plan = None;
        worker.remark = format!("ended by {signal}");
        self.note_finished(name);
        let text = format!("{name} was ended by {signal}, not by a job; it stays down until somebody starts it");
        self.record(EntryKind::StoppedOnPurpose, Some(name), text);
        self.close_open_incident(name, IncidentResult::Stopped);
    }

    /// systemd is about to restart the unit by itself: prevents it where something else was decided.
    pub(super) fn keep_from_restarting(&mut self, name: &WorkerName) {
        let (now, dry) = (self.now.mono, self.is_dry(name));
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.intended_up && worker.ended_without_order() {
            // The success was seen a moment before systemd said that it goes on.
            worker.completed = false;
            worker.intended_up = true;
            worker.finished = None;
            "systemd restarts it".clone_into(&mut worker.remark);
        }
        let later = worker.plan.as_ref().is_some_and(|plan| plan.flying.is_none() && plan.due > now);
        let undecided = worker.undecided.is_some() || worker.watch.sentence.is_some();
        let never = worker.quarantine.is_some() || !worker.intended_up || undecided;
        if !(later || never) || worker.flight.is_some() || dry || self.host_stopping {
            return;
        }
        let stop = Purpose::Stop(Ending::Preempted);
        let waits = self.waiting.iter().any(|ticket| ticket.worker == *name && ticket.purpose == stop);
        if !waits && self.hold_of(name).is_none() {
            self.stop(name, Ending::Preempted);
        }
    }

    /// The planned restart is due.
    pub(super) fn restart_due(&mut self, name: &WorkerName) {
        let (now, dry) = (self.now, self.is_dry(name));
        let Some(worker) = self.workers.get_mut(name) else { return };
        let obsolete = worker.is_up() || worker.quarantine.is_some() || !worker.intended_up;
        if obsolete || self.host_stopping {
            worker.plan = None;
            return;
        }
        let (unstartable, left) = (worker.unstartable(), worker.budget_left(now.mono));
        let Some(plan) = &mut worker.plan else { return };
        if unstartable.is_some() {
            worker.plan = None;
        } else if dry {
            let by = plan.by.clone();
            worker.plan = None;
            self.would(name, CauseAction::Restart, by);
            self.close_if_settled(name);
        } else if !plan.counted && plan.attempt && left == 0 {
            self.spend_nothing(name);
            self.close_if_settled(name);
        } else {
            plan.queued = true;
            self.enqueue(Ticket { worker: name.clone(), purpose: Purpose::Recover, job: None });
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
        let (id, cause) = (incident.id, incident.cause);
        self.record(EntryKind::IncidentClosed, Some(name), text);
        self.close_incident(id, IncidentResult::Recovered);
        if let Some(known) = self.workers.get_mut(name).and_then(|worker| worker.recurrences.get_mut(&cause)) {
            known.cured();
        }
        if let Some(worker) = self.workers.get_mut(name).filter(|worker| worker.ledger.is_clear()) {
            worker.cause = None;
        }
    }

    /// The worker was healthy for long enough to forget its attempts.
    pub(super) fn healthy_again(&mut self, name: &WorkerName) {
        if let Some(worker) = self.workers.get_mut(name) {
            worker.ledger.clear();
            worker.recurrences.values_mut().for_each(recurrence::Recurrence::forgive);
            worker.cause = worker.incident.and(worker.cause);
        }
    }

    /// systemd has said how a planned restart went; `newest` means that nothing else was begun since.
    pub(super) fn recovery_done(&mut self, name: &WorkerName, id: ActionId, newest: bool, outcome: &Outcome) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let planned = worker.plan.take_if(|plan| plan.flying == Some(id)).is_some();
        if !newest && !planned {
            return;
        }
        let attempt = worker.ledger.failures;
        let down = worker.run.ended && !worker.is_up();
        let incident = worker.incident;
        let report = match outcome {
            Outcome::Ok | Outcome::Past(_) | Outcome::Activity(_) => "done".to_owned(),
            Outcome::Failed(why) => format!("failed: {why}"),
            Outcome::TimedOut => "failed: systemd's job did not end in time".to_owned(),
        };
        if let Some(incident) = incident.and_then(|id| self.incidents.open_mut(id)) {
            incident.settle(&report);
            self.step.changes.insert(ObjectId::Incident(incident.id));
        }
        match outcome {
            Outcome::Ok | Outcome::Past(_) | Outcome::Activity(_) => self.runs_again(name, attempt),
            _ if down => self.refused(name, &format!("{name}: restart #{attempt} {report}")),
            _ => {}
        }
    }

    fn runs_again(&mut self, name: &WorkerName, attempt: u32) {
        let Some(worker) = self.workers.get(name).filter(|worker| !worker.completed) else { return };
        let mut text = format!("{name} runs again");
        if attempt > 0 {
            text.push_str(&format!(" (restart #{attempt})"));
        }
        if worker.incident.is_some() {
            text.push_str(&format!("; it counts as cured after {}", Span(worker.policy.verify.value)));
        }
        self.record(EntryKind::RestartDone, Some(name), text);
        self.plan_follow_up(name);
        self.look_for_run(name);
    }

    /// systemd could not start the unit, as far as is known without a run having begun.
    pub(super) fn refused(&mut self, name: &WorkerName, text: &str) {
        let now = self.now;
        let Some(worker) = self.workers.get(name) else { return };
        let wanted = worker.is_awaited() && worker.plan.is_none();
        self.record(EntryKind::RestartFailed, Some(name), text.to_owned());
        if !wanted || self.host_stopping {
            return;
        }
        let next = self.decide(name, When::Later);
        if let Some(plan) = self.workers.get_mut(name).and_then(|worker| worker.plan.as_mut()) {
            plan.due = plan.due.max(now.mono + REFUSED_PAUSE);
            plan.refused = true;
        }
        self.record(EntryKind::RestartScheduled, Some(name), format!("{name}: {next}"));
        self.close_if_settled(name);
    }
}
