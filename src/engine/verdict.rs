// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a failed run to its verdict: what systemd says is known at once, everything else is asked for, and what came of
//! it is written into the incident. Only a policy that depends on the cause waits for it, and not for long.

use super::*;
use classify::Verdict;
use event::RunEnd;
use evidence::Findings;
use ids::InvocationId;
use remedy::When;

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
}

/// The failed run that the evidence is wanted about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub worker: WorkerName,
    pub invocation: Option<InvocationId>,
    pub end: RunEnd,
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
        let waits = verdict.confidence < CERTAIN && self.depends_on_cause(name);
        let next = if waits { self.put_off(name) } else { self.decide(name, When::AtOnce) };
        self.incidents.tell(id, &verdict, &next);
        let known =
            if verdict.cause == cause::Cause::Unknown { String::new() } else { format!(" ({})", verdict.cause) };
        let text = format!("{name} {}{known}: {next}", verdict.ending);
        self.record(EntryKind::IncidentOpened, Some(name), text);
        self.examine(id, Subject { worker: name.clone(), invocation: run, end: end.clone() }, next);
        self.close_if_settled(name);
    }

    pub(super) fn depends_on_cause(&self, name: &WorkerName) -> bool {
        self.workers.get(name).is_some_and(|worker| worker.policy.causes.values().any(|policy| policy.action.is_some()))
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
        self.cases.insert(id, Case { worker: subject.worker.clone(), end: subject.end.clone(), next });
        self.act(Action::Examine(id, subject));
    }

    /// An open incident that watcherd could not decide about before it was restarted: begins anew with it.
    pub(super) fn reconsider(&mut self, name: &WorkerName, id: IncidentId) {
        let Some(worker) = self.workers.get(name) else { return };
        let facts = worker.facts.as_ref().filter(|facts| facts.invocation == worker.run.invocation);
        let end = facts.map(|facts| facts.end.clone()).unwrap_or_default();
        let subject = Subject { worker: name.clone(), invocation: worker.run.invocation, end };
        let next = self.put_off(name);
        self.examine(id, subject, next);
    }

    /// The evidence about a failed run is there.
    pub(super) fn examined(&mut self, id: IncidentId, findings: &Findings) {
        let Some(case) = self.cases.remove(&id) else { return };
        let name = case.worker;
        let mut verdict = judge::judge(&case.end, &findings.clues);
        verdict.because.extend(findings.gaps.iter().map(|gap| format!("not known: {gap}")));
        let current = self.workers.get(&name).is_some_and(|worker| worker.incident == Some(id));
        if let Some(worker) = self.workers.get_mut(&name).filter(|_| current) {
            worker.cause = Some(verdict.cause);
            self.touched.insert(name.clone());
        }
        let waits = current && self.workers.get_mut(&name).is_some_and(|worker| worker.undecided.take().is_some());
        self.incidents.judge(id, &verdict, &case.next);
        self.step.changes.insert(ObjectId::Incident(id));
        self.record_verdict(id, &name, &verdict);
        if waits {
            self.decide_after_all(&name, id, &verdict);
        }
    }

    fn record_verdict(&mut self, id: IncidentId, name: &WorkerName, verdict: &Verdict) {
        let run = self.incidents.get(id).and_then(|incident| incident.run);
        let proof = verdict.because.iter().find(|line| !line.starts_with("systemd:")).or(verdict.because.first());
        let text = match (verdict.cause, proof) {
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
