// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performs what the engine decided. Every action that has an id ends in exactly one [`Event::Done`], whatever happens.

use super::aside::Aside;
use super::checkpoints::{Chooser, with};
use super::conditions::Conditions;
use super::evidence::{Evidence, Point};
use super::examine::Examiner;
use super::hooks;
use super::log;
use super::options::Scope;
use super::progress::Progress;
use super::sweep::Sweeper;
use crate::act::notify::Notifier;
use crate::api::Reply;
use crate::engine::action::{Action, Interest};
use crate::engine::event::{Answer, Event, Outcome, Refusal};
use crate::engine::ids::{ActionId, RequestId, WorkerName};
use crate::engine::time::Wall;
use crate::journal;
use crate::systemd::environment::{Change, Environments};
use crate::systemd::jobs::Jobs;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::timeout;

/// How long systemd's job may take before the engine is told that it is late.
const JOB_DEADLINE: Duration = Duration::from_secs(120);
/// How long the journal may take to say what happened meanwhile.
const LOOK_BACK_DEADLINE: Duration = Duration::from_secs(10);
/// What actions tell before they end, and nobody has heard yet.
const NEWS_MAX: usize = 64;

/// What is under way, and who waits for an answer.
pub struct Performer {
    scope: Scope,
    jobs: Jobs,
    interest: watch::Sender<Interest>,
    examiner: Examiner,
    progress: Progress,
    evidence: Evidence,
    conditions: Conditions,
    sweeper: Sweeper,
    chooser: Chooser,
    environments: Environments,
    /// What is done without anybody waiting for it.
    errands: JoinSet<()>,
    /// What actions tell before they end.
    news: mpsc::Sender<Event>,
    told: mpsc::Receiver<Event>,
    notifier: Notifier,
    /// What goes with the evidence about a worker.
    histories: HashMap<WorkerName, Vec<Point>>,
    flights: JoinSet<Outcome>,
    /// Nobody waits for these at the end: their units go on, and the next daemon finds out how they ended.
    notices: JoinSet<Outcome>,
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
        notifier: Notifier,
    ) -> io::Result<Performer> {
        let (scope, jobs, aside) = (evidence.scope, evidence.jobs.clone(), Aside::new());
        let conditions = Conditions::start(scope, jobs.clone(), aside.clone(), evidence.gpus.clone())?;
        let (news, told) = mpsc::channel(NEWS_MAX);
        Ok(Performer {
            scope,
            sweeper: Sweeper::new(scope, jobs.clone(), aside),
            chooser: Chooser { scope, jobs: jobs.clone() },
            environments: Environments::new(scope.places(), jobs.clone()),
            errands: JoinSet::new(),
            jobs,
            conditions,
            news,
            told,
            interest,
            examiner,
            progress,
            evidence,
            notifier,
            histories: HashMap::new(),
            flights: JoinSet::new(),
            notices: JoinSet::new(),
            ids: HashMap::new(),
            waiting: HashMap::new(),
            next_request: 1,
        })
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
                let (sweeper, news) = (self.sweeper.clone(), self.news.clone());
                let (environments, chooser) = (self.environments.clone(), self.chooser.clone());
                self.fly(id, async move {
                    let mut start = start;
                    if let Some(run) = start.sweep {
                        let ended = sweeper.sweep(&name, run).await;
                        // Without a reader we are at our end.
                        let _ = news.send(Event::Swept(name.clone(), ended)).await;
                    }
                    let resume = chooser.resume(&name, &start, &news).await;
                    let Some(exports) = start.exports.clone().filter(|_| start.definition.is_none()) else {
                        start.exports = start.exports.map(|exports| with(&exports, resume));
                        return jobs.start(&name, &start, JOB_DEADLINE).await;
                    };
                    // Without it the run would fail as the one before.
                    let put = environments.put(&name, Some(&exports.variables));
                    let put = put.and_then(|change| environments.put_once(&name, resume).map(|()| change));
                    let known = match put {
                        Ok(change) => environments.make_known(change).await,
                        Err(why) => Err(why),
                    };
                    if let Err(why) = known {
                        return Outcome::Failed(format!("its environment cannot be written: {why}"));
                    }
                    let outcome = jobs.start(&name, &start, JOB_DEADLINE).await;
                    // Whoever starts it later by himself must not get an old one.
                    if let Err(why) = environments.put_once(&name, None) {
                        tracing::error!("{name}: its environment cannot be written: {why}");
                    }
                    outcome
                });
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
            Action::Notify(id, delivery) => {
                let handle = self.notices.spawn(self.notifier.clone().deliver(*delivery));
                self.ids.insert(handle.id(), id);
            }
            Action::Record(entry) => log::record(&entry, self.scope),
            Action::Watch(interest) => {
                self.interest.send_replace(interest);
            }
            Action::Hook(id, name, hook) => self.fly(id, hooks::run(self.scope, jobs, name, hook)),
            Action::Await { conditions, since } => self.conditions.wait_for(&conditions, since),
            Action::Equip(name, exports) => {
                let variables = exports.as_ref().map(|exports| exports.variables.as_slice());
                let put = self.environments.put(&name, variables);
                self.make_known(name.to_string(), put);
            }
            Action::Reply(..) => {}
        }
    }

    /// Removes what an earlier watcherd left to units that are not prepared any more.
    pub fn tidy_environments(&mut self) {
        let tidied = self.environments.tidy();
        self.make_known("units of former workers".into(), tidied);
    }

    fn make_known(&mut self, whose: String, change: Result<Option<Change>, String>) {
        let environments = self.environments.clone();
        let known = async move {
            let known = match change {
                Ok(change) => environments.make_known(change).await,
                Err(why) => Err(why),
            };
            if let Err(why) = known {
                tracing::error!("the environment of {whose} cannot be prepared: {why}");
            }
        };
        self.errands.spawn(known);
        while self.errands.try_join_next().is_some() {}
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
                Some(landed) = self.notices.join_next_with_id() => landed,
                event = self.examiner.next() => return event,
                event = self.progress.next() => return event,
                event = self.conditions.next() => return event,
                Some(event) = self.told.recv() => return event,
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
