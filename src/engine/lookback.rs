// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened while nobody watched: saved workers are seen again, and the journal is asked about their runs.

use super::*;
use action::Freezer;
use event::PastRun;
use flight::Purpose;
use progress::Progress;
use restart::Plan;
use watch::Watch;
use worker::{Ending, LookBack};

/// Whether a run must have left a trace in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// A run was seen, or its start was reported done.
    Expected,
    /// It is not known whether the start was ever sent.
    Doubtful,
}

impl Engine {
    /// Brings a saved worker back, if something still claims it.
    pub(super) fn restore(&mut self, saved: SavedWorker, shift: &impl Fn(Mono) -> Mono) {
        let own = match &saved.origin {
            SavedOrigin::Policy => None,
            SavedOrigin::Adopted(layer) | SavedOrigin::Run(_, layer) => Some(layer),
        };
        let name = saved.name.clone();
        self.step.changes.insert(ObjectId::Worker(name.clone()));
        let Some(policy) = self.policies.resolve(&name, own) else {
            if let Some(incident) = saved.incident {
                self.close_incident(incident, IncidentResult::Forgotten);
            }
            return;
        };
        let mut worker = Worker::restore(saved, policy, self.now, shift);
        let incident = worker.incident.and_then(|id| self.incidents.open_mut(id));
        worker.down_since = incident.as_ref().filter(|_| worker.run.ended).map(|incident| incident.opened);
        worker.incident = incident.map(|incident| incident.id);
        self.workers.insert(name.clone(), worker);
        self.touched.insert(name);
    }

    pub(super) fn restore_progress(&mut self, saved: &SavedProgress) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&saved.worker) else { return };
        let at = Now { mono: now.mono_at(saved.at), wall: saved.at };
        worker.progress = Some(Progress::restore(saved.value, saved.total, at));
        worker.watch = Watch::restore(saved, saved.run.is_some() && saved.run == worker.run.invocation);
    }

    /// The first sight of a worker that was saved: asks the journal about anything that was missed.
    pub(super) fn seen_again(&mut self, name: &WorkerName) {
        let rebooted = self.rebooted;
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.restored = false;
        let facts = worker.facts.clone();
        let up = facts.as_ref().is_some_and(UnitFacts::is_up);
        let current = facts.as_ref().and_then(|facts| facts.invocation);
        if rebooted || (current.is_some() && current != worker.run.invocation) {
            worker.since = self.now.wall;
        }
        if worker.paused.is_some() {
            worker.paused = match &facts {
                Some(facts) if facts.frozen => Some(Freezer::Cgroup),
                Some(facts) if up && !facts.traits.can_freeze && !rebooted => Some(Freezer::Signal),
                _ => None,
            };
        }
        if rebooted {
            // Whatever it was, it is not why the unit is down now; but a task that was done still is, and what watcherd
            // made itself is down because it was to be.
            let left_down = worker.definition.is_some() && !worker.intended_up;
            if !worker.completed && !left_down {
                worker.remark.clear();
            }
            worker.bare = worker.current().filter(|_| up && !worker.tuning.is_empty());
            worker.run.ended = true;
            let made_anew = worker.definition.is_some();
            match up {
                true => {}
                false if made_anew => self.start_unless_settled(name, "the machine was booted"),
                false => self.take_up_incident(name, "the machine was booted before it was cured"),
            }
            return;
        }
        if worker.run.invocation.is_none() {
            if current.is_none() && worker.definition.is_some() && worker.intended_up {
                self.look_back(name, Trace::Doubtful);
            }
            return;
        }
        let same_run = current.is_none() || current == worker.run.invocation;
        let nothing_missed = same_run && (worker.run.ended || (up && current.is_some()));
        if nothing_missed {
            self.take_up_incident(name, "it was still down when watcherd was restarted");
        } else {
            self.look_back(name, Trace::Expected);
        }
    }

    fn start_unless_settled(&mut self, name: &WorkerName, by: &str) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.intended_up && !worker.completed && worker.quarantine.is_none() && worker.plan.is_none() {
            worker.plan = Some(Plan::free(now, by));
        }
    }

    /// Somebody cancelled the shutdown: what it left down is taken up as after a boot.
    pub(super) fn host_goes_on(&mut self) {
        if !std::mem::take(&mut self.host_stopping) {
            return;
        }
        for name in self.workers.keys().cloned().collect::<Vec<_>>() {
            let Some(worker) = self.workers.get(&name) else { continue };
            if !worker.run.ended || worker.is_up() || worker.flight.is_some() {
                continue;
            }
            let made_anew = worker.definition.is_some() && worker.incident.is_none();
            self.touched.insert(name.clone());
            match made_anew {
                true => self.start_unless_settled(&name, "the shutdown was cancelled"),
                false => self.take_up_incident(&name, "the shutdown was cancelled"),
            }
        }
    }

    pub(super) fn look_back(&mut self, name: &WorkerName, trace: Trace) {
        let Some(since) = self.workers.get(name).map(|worker| worker.seen) else { return };
        let id = self.fly(name, Purpose::LookBack, None);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.look_back = Some(LookBack { id, current: worker.current(), trace });
        }
        self.act(Action::LookBack(id, name.clone(), since));
    }

    /// Takes in what the journal knows, then goes on with the present.
    pub(super) fn looked_back(&mut self, name: &WorkerName, id: ActionId, outcome: Outcome) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(question) = worker.look_back.take_if(|question| question.id == id) else { return };
        let current = worker.current();
        let past = match outcome {
            Outcome::Past(_) if current != question.current => {
                // The next run came and perhaps went while the journal was read.
                self.look_back(name, question.trace);
                return;
            }
            Outcome::Past(runs) => runs,
            _ => Vec::new(),
        };
        let seen = worker.seen;
        let known = worker.run.clone();
        let mut news: Vec<_> = past
            .into_iter()
            .filter(|run| run.end.ended > seen)
            .filter(|run| !(known.ended && run.invocation.is_some() && run.invocation == known.invocation))
            .collect();
        let last = match current {
            Some(_) => news.iter().position(|run| run.invocation == current).map(|at| news.remove(at)),
            None => news.pop(),
        };
        if current.is_some() && current != known.invocation {
            worker.run.ended = true;
        }
        for run in news.into_iter().filter(|run| life::failed(&run.end) && !run.stopped) {
            self.missed(name, run);
        }
        self.touched.insert(name.clone());
        match (current, last) {
            (None, Some(run)) => self.ended_unloaded(name, run),
            (None, None) => self.left_no_trace(name, question.trace),
            (Some(_), last) => self.go_on(name, last.is_some_and(|run| run.stopped)),
        }
        if let Some(worker) = self.workers.get_mut(name) {
            worker.seen = self.now.wall;
        }
    }

    /// Goes on with the run that the facts are about; `stopped` says that a job ended it.
    fn go_on(&mut self, name: &WorkerName, stopped: bool) {
        let Some(worker) = self.workers.get(name) else { return };
        if let Some(facts) = worker.facts.clone().filter(|_| stopped) {
            if facts.invocation != worker.run.invocation {
                self.run_began(name, &facts);
            }
            if let Some(worker) = self.workers.get_mut(name) {
                worker.run.ending.get_or_insert(Ending::Foreign);
            }
        }
        self.follow(name);
    }

    /// The end of a run whose unit is not loaded any more, as the journal tells it.
    fn ended_unloaded(&mut self, name: &WorkerName, run: PastRun) {
        let facts = UnitFacts { invocation: run.invocation, ..UnitFacts::default() };
        if self.workers.get(name).is_some_and(|worker| worker.run.invocation != run.invocation || worker.run.ended) {
            self.run_began(name, &facts);
        }
        if let Some(worker) = self.workers.get_mut(name)
            && run.stopped
        {
            worker.run.ending.get_or_insert(Ending::Foreign);
        }
        self.end_run(name, &run.end);
        self.note_finished(name);
    }

    fn left_no_trace(&mut self, name: &WorkerName, trace: Trace) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if trace == Trace::Doubtful {
            worker.run.ended = true;
            self.start_unless_settled(name, "it was asked for before watcherd was restarted");
            return;
        }
        if worker.run.ended && worker.is_awaited() {
            return;
        }
        worker.run.ended = true;
        worker.intended_up = false;
        worker.remark = "ended unseen and left no trace in the journal".into();
        self.note_finished(name);
    }

    /// A failure that somebody else has dealt with already.
    fn missed(&mut self, name: &WorkerName, run: PastRun) {
        if self.incidents.covers(name, run.invocation) {
            return;
        }
        self.close_open_incident(name, IncidentResult::FailedAgain);
        let verdict = classify::classify(&run.end);
        let id = self.incidents.open(name, run.invocation, &verdict, run.end.ended, self.now);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.incident = Some(id);
            worker.cause = Some(verdict.cause);
            worker.ledger.failures = worker.ledger.failures.saturating_add(1);
        }
        let text = format!("{name} {} while watcherd did not see it ({})", verdict.ending, verdict.cause);
        self.record(EntryKind::IncidentOpened, Some(name), text);
        let subject = Subject::new(name, run.invocation, run.end);
        self.examine(id, subject, "watcherd did not see it and found it in the journal".into());
        self.close_incident(id, IncidentResult::RecoveredUnseen);
    }
}
