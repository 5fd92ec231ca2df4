// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a failed run to its verdict: what systemd says is known at once, everything else is asked for, and what came of
//! it is written into the incident. Only a policy that depends on the cause waits for it, and not for long.

use super::*;
use classify::Verdict;
use event::RunEnd;
use evidence::Findings;
use ids::InvocationId;
use remedy::When;
use std::collections::BTreeMap;

/// A policy that depends on the cause waits so long for the verdict, then goes by what systemd said.
pub const VERDICT_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// From here on, in percent, systemd's own facts need no further proof.
const CERTAIN: u8 = 95;

/// Failed runs whose verdict is still to come; the oldest one is judged by systemd's facts alone if there are more.
const CASES_MAX: usize = 1_000;

/// A failed run that is being examined.
#[derive(Clone, Debug)]
pub(super) struct Case {
    worker: WorkerName,
    end: RunEnd,
    /// What was decided already, as a sentence fragment.
    next: String,
    /// What was known about the cause by systemd's facts before this failure was noted.
    before: Option<Recurrences>,
    /// What was said already by evidence that was not complete.
    said: Option<Verdict>,
}

type Recurrences = BTreeMap<cause::Cause, recurrence::Recurrence>;

/// The failed run that the evidence is wanted about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub worker: WorkerName,
    pub invocation: Option<InvocationId>,
    pub end: RunEnd,
    /// Nobody waits for it: what is slow to be written down is worth waiting for.
    pub unhurried: bool,
}

impl Subject {
    pub(super) fn new(worker: &WorkerName, invocation: Option<InvocationId>, end: RunEnd) -> Subject {
        Subject { worker: worker.clone(), invocation, end, unhurried: false }
    }
}

impl Engine {
    /// Opens the incident of a failed run and has the run examined; decides at once unless the decision depends on the
    /// cause.
    pub(super) fn open_incident(&mut self, name: &WorkerName, end: &RunEnd) {
        let Some(run) = self.workers.get(name).map(|worker| worker.run.invocation) else { return };
        let verdict = classify::classify(end);
        let id = self.incidents.open(name, run, &verdict, end.ended, self.now);
        self.step.changes.insert(ObjectId::Incident(id));
        self.step.changes.insert(ObjectId::Manager);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.incident = Some(id);
            worker.cause = Some(verdict.cause);
            worker.flight = None;
            worker.plan = None;
        }
        self.credit_progress(name);
        let waits = verdict.confidence < CERTAIN && (self.depends_on_cause(name) || self.is_on_the_brink(name));
        let before = self.workers.get(name).map(|worker| worker.recurrences.clone());
        self.recur(name, verdict.cause);
        let next = if waits { self.put_off(name) } else { self.decide(name, When::AtOnce) };
        self.incidents.tell(id, &verdict, &next);
        let known =
            if verdict.cause == cause::Cause::Unknown { String::new() } else { format!(" ({})", verdict.cause) };
        let text = format!("{name} {}{known}: {next}", verdict.ending);
        self.record(EntryKind::IncidentOpened, Some(name), text);
        self.examine(id, Subject::new(name, run, end.clone()), next);
        if let Some(case) = self.cases.get_mut(&id) {
            case.before = before;
        }
        self.close_if_settled(name);
    }

    pub(super) fn depends_on_cause(&self, name: &WorkerName) -> bool {
        let policies = self.workers.get(name).map(|worker| &worker.policy.causes);
        policies.is_some_and(|policies| policies.values().any(policy::CausePolicy::makes_a_difference))
    }

    /// Waits for the verdict before anything is decided.
    fn put_off(&mut self, name: &WorkerName) -> String {
        let until = self.now.mono + VERDICT_WAIT;
        if let Some(worker) = self.workers.get_mut(name) {
            worker.undecided = Some(until);
        }
        self.touched.insert(name.clone());
        "the policy depends on the cause, which is being looked for".into()
    }

    /// Has a failed run examined; the answer is `Event::Examined`.
    pub(super) fn examine(&mut self, id: IncidentId, subject: Subject, next: String) {
        while self.cases.len() >= CASES_MAX {
            self.cases.pop_first();
        }
        let case = Case { worker: subject.worker.clone(), end: subject.end.clone(), next, before: None, said: None };
        self.cases.insert(id, case);
        self.act(Action::Examine(id, subject));
    }

    /// An open incident that watcherd could not decide about before it was restarted: begins anew with it.
    pub(super) fn reconsider(&mut self, name: &WorkerName, id: IncidentId) {
        let Some(worker) = self.workers.get(name) else { return };
        let facts = worker.facts.as_ref().filter(|facts| facts.invocation == worker.run.invocation);
        let end = facts.map(|facts| facts.end.clone()).unwrap_or_default();
        let subject = Subject::new(name, worker.run.invocation, end);
        let next = self.put_off(name);
        self.examine(id, subject, next);
    }

    /// The evidence about a failed run is there.
    pub(super) fn examined(&mut self, id: IncidentId, findings: &Findings) {
        let Some(case) = self.cases.remove(&id) else { return };
        let name = case.worker.clone();
        let mut verdict = judge::judge(&case.end, &findings.clues);
        verdict.because.extend(findings.gaps.iter().map(|gap| format!("not known: {gap}")));
        let current = self.workers.get(&name).is_some_and(|worker| worker.incident == Some(id));
        if current {
            // What was decided goes by the first verdict, and so do the ledgers.
            let before = case.before.clone().filter(|_| case.said.is_none());
            self.note_cause(&name, verdict.cause, before);
        }
        let waits = current && self.workers.get_mut(&name).is_some_and(|worker| worker.undecided.take().is_some());
        self.incidents.judge(id, &verdict, &case.next);
        self.step.changes.insert(ObjectId::Incident(id));
        if case.said.as_ref().is_none_or(|said| (said.cause, &said.because) != (verdict.cause, &verdict.because)) {
            self.record_verdict(id, &name, &verdict);
        }
        if findings.core_to_come && case.said.is_none() {
            self.complete(id, case, verdict.clone());
        }
        self.gather(id, verdict.cause);
        if waits {
            self.decide_after_all(&name, id, &verdict);
        } else if current {
            self.revise(&name, id, &verdict);
        }
    }

    /// Has the run examined once more when its core dump is written down, which may take minutes.
    fn complete(&mut self, id: IncidentId, case: Case, said: Verdict) {
        let run = self.incidents.get(id).and_then(|incident| incident.run);
        let subject = Subject { unhurried: true, ..Subject::new(&case.worker, run, case.end.clone()) };
        self.cases.insert(id, Case { said: Some(said), ..case });
        self.act(Action::Examine(id, subject));
    }

    /// The failure was of this cause, and not of the one that systemd's facts alone had shown.
    fn note_cause(&mut self, name: &WorkerName, cause: cause::Cause, before: Option<Recurrences>) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        self.touched.insert(name.clone());
        let differs = worker.cause.replace(cause) != Some(cause);
        let Some(before) = before.filter(|_| differs) else { return };
        let attempts: Vec<_> = worker.recurrences.iter().map(|(c, known)| (*c, known.attempts.clone())).collect();
        worker.recurrences = before;
        for (cause, attempts) in attempts.into_iter().filter(|(_, attempts)| !attempts.is_empty()) {
            worker.recurrences.entry(cause).or_default().attempts = attempts;
        }
        self.recur(name, cause);
    }

    /// A restart that was planned before the cause was known gives way, if it has not begun, where the cause says that it
    /// would be in vain.
    fn revise(&mut self, name: &WorkerName, id: IncidentId, verdict: &Verdict) {
        let Some(worker) = self.workers.get(name) else { return };
        let pending = worker.plan.as_ref().is_some_and(|plan| plan.flying.is_none() && !plan.counted && plan.attempt);
        if !pending || self.host_stopping || self.is_dry(name) || !self.would_not_restart(name) {
            return;
        }
        self.drop_tickets("the cause says that it would be in vain", |ticket| {
            ticket.worker == *name && ticket.purpose == flight::Purpose::Recover
        });
        if let Some(worker) = self.workers.get_mut(name) {
            worker.plan = None;
            worker.ledger.failures = worker.ledger.failures.saturating_sub(1);
        }
        if let Some(incident) = self.incidents.open_mut(id) {
            incident.settle("given up when the cause was known");
        }
        self.decide_after_all(name, id, verdict);
    }

    fn record_verdict(&mut self, id: IncidentId, name: &WorkerName, verdict: &Verdict) {
        let run = self.incidents.get(id).and_then(|incident| incident.run);
        let mut proofs = verdict.because.iter().filter(|line| !line.starts_with("not known:"));
        let proof = proofs.clone().find(|line| !line.starts_with("systemd:")).or(proofs.next());
        let text = match (verdict.cause, proof) {
            (cause::Cause::Unknown, Some(last)) if last.starts_with("output:") => {
                format!("{name} failed, and nothing says why; {last}")
            }
            (cause::Cause::Unknown, _) => format!("{name} failed, and nothing says why"),
            (cause, None) => format!("{name} failed because of {cause} ({} %)", verdict.confidence),
            (cause, Some(proof)) => format!("{name} failed because of {cause} ({} %): {proof}", verdict.confidence),
        };
        self.record(EntryKind::VerdictReached, Some(name), text);
        if let Some(Action::Record(entry)) = self.step.actions.last_mut() {
            entry.incident = Some(id);
            entry.cause = Some(verdict.cause);
            entry.confidence = Some(verdict.confidence);
            entry.run = run;
        }
    }

    /// Somebody writes a core: perhaps a worker, whose end systemd will see only when that is done.
    pub(super) fn find_dumping(&mut self) {
        let running = self.workers.values().filter(|worker| worker.is_up() && !worker.dumping);
        let with_pid = running.filter_map(|worker| Some((worker.name.clone(), worker.facts.as_ref()?.main_pid)));
        let processes: Vec<_> = with_pid.filter(|(_, pid)| *pid != 0).collect();
        if !processes.is_empty() {
            self.act(Action::FindDumping(processes));
        }
    }

    pub(super) fn dumping(&mut self, name: &WorkerName, pid: u32) {
        let Some(worker) = self.workers.get_mut(name).filter(|worker| worker.is_up() && !worker.dumping) else {
            return;
        };
        if worker.facts.as_ref().is_some_and(|facts| facts.main_pid == pid) {
            worker.dumping = true;
            self.touched.insert(name.clone());
            let text = format!("{name} crashed and is writing its core; systemd sees its end when that is done");
            self.record(EntryKind::WritingCore, Some(name), text);
        }
    }

    /// The verdict did not come in time: systemd's own facts have to do.
    pub(super) fn verdict_is_late(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.undecided = None;
        let Some(id) = worker.incident else { return };
        let Some(case) = self.cases.get(&id) else { return };
        let verdict = classify::classify(&case.end);
        self.decide_after_all(name, id, &verdict);
    }

    /// Whether the verdict about it is there, even if a core dump may still add to it.
    pub(super) fn is_judged(&self, id: IncidentId) -> bool {
        self.cases.get(&id).is_none_or(|case| case.said.is_some())
    }

    fn decide_after_all(&mut self, name: &WorkerName, id: IncidentId, verdict: &Verdict) {
        let open = self.workers.get(name).filter(|worker| worker.is_awaited() && worker.plan.is_none());
        if open.is_none_or(|worker| worker.is_up()) || self.host_stopping {
            return;
        }
        let next = self.decide(name, When::Later);
        self.incidents.tell(id, verdict, &next);
        if let Some(case) = self.cases.get_mut(&id) {
            case.next.clone_from(&next);
        }
        self.step.changes.insert(ObjectId::Incident(id));
        self.record(EntryKind::RemedyChosen, Some(name), format!("{name}: {next}"));
        self.close_if_settled(name);
    }
}
