// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performs what the engine decided. Every action that has an id ends in exactly one [`Event::Done`], whatever happens.

use super::evidence::{Evidence, Point};
use super::examine::Examiner;
use super::log;
use super::options::Scope;
use super::progress::Progress;
use crate::api::Reply;
use crate::engine::action::{Action, Interest};
use crate::engine::event::{Answer, Event, Outcome, Refusal};
use crate::engine::ids::{ActionId, RequestId, WorkerName};
use crate::engine::time::Wall;
use crate::journal;
use crate::systemd::jobs::Jobs;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::timeout;

/// How long systemd's job may take before the engine is told that it is late.
const JOB_DEADLINE: Duration = Duration::from_secs(120);
/// How long the journal may take to say what happened meanwhile.
const LOOK_BACK_DEADLINE: Duration = Duration::from_secs(10);

/// What is under way, and who waits for an answer.
pub struct Performer {
    scope: Scope,
    jobs: Jobs,
    interest: watch::Sender<Interest>,
    examiner: Examiner,
    progress: Progress,
    evidence: Evidence,
    /// What goes with the evidence about a worker.
    histories: HashMap<WorkerName, Vec<Point>>,
    flights: JoinSet<Outcome>,
    ids: HashMap<task::Id, ActionId>,
    waiting: HashMap<RequestId, Reply>,
    next_request: u64,
}

impl Performer {
    pub fn new(
        evidence: Evidence,
        interest: watch::Sender<Interest>,
        examiner: Examiner,
        progress: Progress,
    ) -> Performer {
        Performer {
            scope: evidence.scope,
            jobs: evidence.jobs.clone(),
            interest,
            examiner,
            progress,
            evidence,
            histories: HashMap::new(),
            flights: JoinSet::new(),
            ids: HashMap::new(),
            waiting: HashMap::new(),
            next_request: 1,
        }
    }

    /// Takes what the evidence about a worker shall contain besides what can be read now.
    pub fn expect_history(&mut self, worker: WorkerName, history: Vec<Point>) {
        self.histories.insert(worker, history);
    }

    /// Remembers who waits for the answer to a request.
    pub fn expect(&mut self, reply: Reply) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.insert(id, reply);
        id
    }

    /// Begins `actions` in order; returns the answers that can be given once the changes are visible.
    pub fn perform(&mut self, actions: Vec<Action>) -> Vec<(Reply, Result<Answer, Refusal>)> {
        let mut replies = Vec::new();
        for action in actions {
            tracing::debug!(action = ?action, "perform");
            if let Action::Reply(id, answer) = action {
                replies.extend(self.waiting.remove(&id).map(|reply| (reply, answer)));
            } else {
                self.begin(action);
            }
        }
        replies
    }

    fn begin(&mut self, action: Action) {
        let jobs = self.jobs.clone();
        match action {
            Action::Start(id, name, start) => {
                self.fly(id, async move { jobs.start(&name, &start, JOB_DEADLINE).await });
            }
            Action::Stop(id, name) => self.fly(id, async move { jobs.stop(&name, JOB_DEADLINE).await }),
            Action::Kill(id, name, signal) => self.fly(id, async move { jobs.kill(&name, signal).await }),
            Action::Freeze(id, name, freezer) => self.fly(id, async move { jobs.freeze(&name, freezer).await }),
            Action::Thaw(id, name, freezer) => self.fly(id, async move { jobs.thaw(&name, freezer).await }),
            Action::LookBack(id, name, since) => self.fly(id, look_back(self.scope, name, since)),
            Action::FindDumping(processes) => self.examiner.find_dumping(processes),
            Action::Examine(id, subject) => self.examiner.ask(id, subject),
            Action::Follow(worker, sources) => self.progress.follow(worker, sources),
            Action::Look(id, name, pid) => {
                let evidence = self.evidence.clone();
                self.fly(id, evidence.look(name, pid));
            }
            Action::Capture(id, name, capture) => {
                let history = self.histories.remove(&name).unwrap_or_default();
                let evidence = self.evidence.clone();
                self.fly(id, evidence.capture(name, capture, history));
            }
            Action::Record(entry) => log::record(&entry, self.scope),
            Action::Watch(interest) => {
                self.interest.send_replace(interest);
            }
            Action::Reply(..) => {}
        }
    }

    fn fly(&mut self, id: ActionId, work: impl Future<Output = Outcome> + Send + 'static) {
        let handle = self.flights.spawn(work);
        self.ids.insert(handle.id(), id);
    }

    /// The next action that ends; waits for ever while none is under way.
    pub async fn ended(&mut self) -> Event {
        loop {
            let landed = tokio::select! {
                Some(landed) = self.flights.join_next_with_id() => landed,
                event = self.examiner.next() => return event,
                event = self.progress.next() => return event,
            };
            let (task, outcome) = match landed {
                Ok((task, outcome)) => (task, outcome),
                Err(error) => (error.id(), Outcome::Failed("it was broken off".into())),
            };
            if let Some(id) = self.ids.remove(&task) {
                tracing::debug!(id = id.0, outcome = ?outcome, "done");
                return Event::Done(id, outcome);
            }
        }
    }

    /// What the kernel counts about workers is followed from here on.
    pub fn examiner(&mut self) -> &mut Examiner {
        &mut self.examiner
    }

    /// How many actions are under way.
    pub fn under_way(&self) -> usize {
        self.flights.len()
    }
}

/// Asks the journal which runs of a unit ended since `since`.
async fn look_back(scope: Scope, name: WorkerName, since: Wall) -> Outcome {
    let until = super::clock::now().wall + Duration::from_secs(1);
    let asked = task::spawn_blocking(move || {
        let scope = scope.of_journal();
        journal::synchronize(Duration::from_secs(2)).ok();
        let mut journal = journal::Journal::open(scope)?;
        journal::history::past_runs(&mut journal, name.unit(), scope, since, until)
    });
    match timeout(LOOK_BACK_DEADLINE, asked).await {
        Ok(Ok(Ok(runs))) => Outcome::Past(runs),
        Ok(Ok(Err(error))) => Outcome::Failed(super::chain(&error)),
        Ok(Err(error)) => Outcome::Failed(super::chain(&error)),
        Err(_) => Outcome::TimedOut,
    }
}
