// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows the engine's views on the bus.
//!
//! 1. [`Publisher::export_root`] registers the manager; nobody can find it before the daemon requests its name.
//! 2. The daemon hands over one [`Publication`] per step. The first one, with everything that was restored, is best
//!    published before the name is requested: then nobody hears old incidents announced as new ones.
//! 3. Of one publication, new objects come first, then the changed properties (one signal per object), then the signals
//!    that speak of the change, then objects go, then callers get their answers. So a path in an answer exists, and
//!    what an answer speaks of is visible.
//! 4. A finished job is announced with its result and removed in the same publication.

use super::board::{Board, ManagerState, Shelf, Shown};
use super::guard::{Guard, Mode};
use super::incident::Incident;
use super::job::Job;
use super::log_control::LogControl;
use super::manager::Manager;
use super::worker::Worker;
use super::{About, CALLS_MAX, Call, Desk, Lock, Reply, SharedDesk, describe, path};
use crate::engine::event::{Answer, Refusal, Request};
use crate::engine::ids::{JobId, ObjectId};
use crate::engine::time::Wall;
use crate::engine::view::{IncidentState, IncidentView, JobView, View, WorkerView};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zbus::fdo::{ObjectManager, Properties};
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedObjectPath, Variant};

/// Finished jobs that are remembered, so that a late view of one does not bring it back.
const FINISHED_MAX: usize = 1024;

/// What one step changed, and the answers that speak of it.
#[derive(Debug, Default)]
pub struct Publication {
    /// Each object at most once; `None` removes it.
    pub changes: Vec<(ObjectId, Option<View>)>,
    pub extras: Option<Extras>,
    pub replies: Vec<(Reply, Result<Answer, Refusal>)>,
}

/// What the manager shows beside the engine's view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// What is not as it should be, one sentence each.
    pub degraded: Vec<String>,
    /// When the configuration in force was read.
    pub configured: Wall,
}

/// The only writer of what the objects show.
pub struct Publisher {
    connection: Connection,
    desk: SharedDesk,
    locks: mpsc::Receiver<Lock>,
    finished: VecDeque<JobId>,
    /// Trusts no object to know what differs.
    #[cfg(test)]
    pub(super) compares_all: bool,
}

/// An object that shows a view.
pub(super) trait Published: Interface + Sized {
    type View: PartialEq;

    /// Properties that change without a signal.
    const QUIET: &[&str] = &[];
    /// Properties whose signal does not carry the value.
    const INVALIDATED: &[&str] = &[];

    fn new(desk: SharedDesk, shown: Shown<Self::View>) -> Self;
    fn path(view: &Self::View) -> OwnedObjectPath;

    /// The properties whose signal must be sent, where that can be told without reading all of them.
    fn differing(_before: &Self::View, _after: &Self::View) -> Option<Vec<&'static str>> {
        None
    }
}

/// What has become of one object.
struct Delta<V> {
    shown: Shown<V>,
    /// `None` if the object is new.
    before: Option<Arc<V>>,
}

#[derive(Default)]
struct Deltas {
    manager: Option<Delta<ManagerState>>,
    workers: Vec<Delta<WorkerView>>,
    incidents: Vec<Delta<IncidentView>>,
    jobs: Vec<Delta<JobView>>,
    gone: Vec<ObjectId>,
}

impl Publisher {
    /// `calls` is where the objects turn to; give it room for [`CALLS_MAX`].
    pub fn new(connection: &Connection, about: About, mode: Mode, calls: mpsc::Sender<Call>) -> Publisher {
        let (sender, locks) = mpsc::channel(CALLS_MAX);
        let board = Board::new(about.log_level);
        let desk = Arc::new(Desk { about, guard: Guard::new(mode), board, calls, locks: sender });
        Publisher {
            connection: connection.clone(),
            desk,
            locks,
            finished: VecDeque::new(),
            #[cfg(test)]
            compares_all: false,
        }
    }

    /// Registers the manager, the object manager and the log control.
    pub async fn export_root(&self) -> zbus::Result<()> {
        let server = self.connection.object_server();
        let manager = Manager::new(Arc::clone(&self.desk), self.desk.board.manager.clone());
        server.at(path::root(), manager).await?;
        server.at(path::root(), ObjectManager).await?;
        server.at(path::LOG_CONTROL, LogControl { desk: Arc::clone(&self.desk) }).await?;
        Ok(())
    }

    /// Publishes what arrives, until the other end is closed or the bus is gone; locks end with this task.
    pub async fn run(mut self, mut publications: mpsc::Receiver<Publication>) -> zbus::Result<()> {
        let mut watched = JoinSet::new();
        loop {
            tokio::select! {
                publication = publications.recv() => match publication {
                    Some(publication) => self.publish(publication).await?,
                    None => return Ok(()),
                },
                Some(lock) = self.locks.recv() => {
                    watched.spawn(release_at_end(lock, self.desk.calls.clone()));
                }
                Some(_) = watched.join_next(), if !watched.is_empty() => {}
            }
        }
    }

    /// Publishes one step. The callers are answered even if the bus is gone.
    pub async fn publish(&mut self, publication: Publication) -> zbus::Result<()> {
        let shown = self.show(publication.changes, publication.extras).await;
        for (reply, result) in publication.replies {
            reply.send(result);
        }
        shown
    }

    async fn show(&mut self, changes: Vec<(ObjectId, Option<View>)>, extras: Option<Extras>) -> zbus::Result<()> {
        let deltas = self.apply(changes, extras).await?;
        if let Some(delta) = &deltas.manager {
            self.emit_changes::<Manager>(delta).await?;
        }
        for delta in &deltas.workers {
            self.emit_changes::<Worker>(delta).await?;
        }
        for delta in &deltas.incidents {
            self.emit_changes::<Incident>(delta).await?;
        }
        for delta in &deltas.jobs {
            self.emit_changes::<Job>(delta).await?;
        }
        self.broadcast(&deltas).await?;
        for id in deltas.gone {
            self.remove(id).await?;
        }
        Ok(())
    }

    /// Brings the boards up to date and adds new objects.
    async fn apply(&mut self, changes: Vec<(ObjectId, Option<View>)>, extras: Option<Extras>) -> zbus::Result<Deltas> {
        let desk = Arc::clone(&self.desk);
        let board = &desk.board;
        let mut deltas = Deltas::default();
        let mut manager = ManagerState::clone(&board.manager.view());
        for (id, view) in changes {
            match (id, view) {
                (ObjectId::Manager, Some(View::Manager(view))) => manager.view = view,
                (ObjectId::Worker(name), Some(View::Worker(view))) => {
                    deltas.workers.extend(self.put::<Worker, _>(&board.workers, name, view).await?);
                }
                (ObjectId::Incident(id), Some(View::Incident(view))) => {
                    deltas.incidents.extend(self.put::<Incident, _>(&board.incidents, id, view).await?);
                }
                (ObjectId::Job(id), Some(View::Job(view))) if !self.finished.contains(&id) => {
                    if view.state == "finished" {
                        self.remember_finished(id);
                        deltas.gone.push(ObjectId::Job(id));
                    }
                    deltas.jobs.extend(self.put::<Job, _>(&board.jobs, id, view).await?);
                }
                (ObjectId::Job(_), Some(View::Job(_))) => {}
                (ObjectId::Manager, None) => {}
                (id, None) => deltas.gone.push(id),
                (id, Some(_)) => tracing::error!(?id, "a view does not belong to its object"),
            }
        }
        if let Some(extras) = extras {
            manager.degraded = extras.degraded;
            manager.configured = extras.configured;
        }
        if *board.manager.view() != manager {
            let before = Some(board.manager.replace(manager));
            deltas.manager = Some(Delta { shown: board.manager.clone(), before });
        }
        Ok(deltas)
    }

    /// Shows a view; nothing has become of an object that shows it already.
    async fn put<I: Published, K: Ord + Clone>(
        &self,
        shelf: &Shelf<K, I::View>,
        id: K,
        view: I::View,
    ) -> zbus::Result<Option<Delta<I::View>>> {
        if let Some(shown) = shelf.find(&id) {
            if *shown.view() == view {
                return Ok(None);
            }
            let before = Some(shown.replace(view));
            return Ok(Some(Delta { shown, before }));
        }
        let path = I::path(&view);
        let shown = Shown::new(view);
        shelf.insert(id, shown.clone());
        let object = I::new(Arc::clone(&self.desk), shown.clone());
        self.connection.object_server().at(path, object).await?;
        Ok(Some(Delta { shown, before: None }))
    }

    /// Emits one PropertiesChanged with what differs, or none.
    async fn emit_changes<I: Published>(&self, delta: &Delta<I::View>) -> zbus::Result<()> {
        let Some(before) = &delta.before else {
            return Ok(());
        };
        let path = I::path(before);
        let after = I::new(Arc::clone(&self.desk), delta.shown.clone());
        let names = I::differing(before, &delta.shown.view());
        #[cfg(test)]
        let names = names.filter(|_| !self.compares_all);
        if let Some(names) = names {
            return self.emit(&after, path, &names).await;
        }
        let before = I::new(Arc::clone(&self.desk), Shown::of(Arc::clone(before)));
        let before = describe::properties(&before, &self.connection, None).await?;
        let properties = describe::properties(&after, &self.connection, None).await?;
        let differs = |(name, value): &(&String, &zbus::OwnedVariant)| before.get(*name) != Some(*value);
        let names: Vec<&str> = properties.iter().filter(differs).map(|(name, _)| name.as_str()).collect();
        self.emit(&after, path, &names).await
    }

    /// Tells the values of these properties of the object.
    async fn emit<I: Published>(&self, object: &I, path: OwnedObjectPath, names: &[&str]) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, path)?;
        let mut changed: HashMap<&str, Variant<'_>> = HashMap::new();
        let mut invalidated = Vec::new();
        for name in names.iter().copied().filter(|name| !I::QUIET.contains(name)) {
            if I::INVALIDATED.contains(&name) {
                invalidated.push(name);
                continue;
            }
            let server = self.connection.object_server();
            if let Some(Ok(value)) = object.get(name, server, &self.connection, None, &emitter).await {
                changed.insert(name, value.into());
            }
        }
        if changed.is_empty() && invalidated.is_empty() {
            return Ok(());
        }
        Properties::properties_changed(&emitter, I::name(), changed, invalidated.into()).await
    }

    /// Says what happened: ids and enums only, never a text.
    async fn broadcast(&self, deltas: &Deltas) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, path::root())?;
        for Delta { shown, before } in &deltas.incidents {
            announce_incident(&emitter, &shown.view(), before.as_deref()).await?;
        }
        for Delta { shown, before } in &deltas.jobs {
            if before.is_none() {
                let job = shown.view();
                Manager::job_new(&emitter, job.id.0, path::job(job.id).into(), job.worker.as_str()).await?;
            }
        }
        for id in &deltas.gone {
            if let ObjectId::Job(id) = id
                && let Some(shown) = self.desk.board.jobs.find(id)
            {
                let job = shown.view();
                let result = if job.result.is_empty() { "canceled" } else { job.result };
                Manager::job_removed(&emitter, id.0, path::job(*id).into(), job.worker.as_str(), result).await?;
            }
        }
        Ok(())
    }

    /// Takes an object away; one that is not there is none.
    async fn remove(&self, id: ObjectId) -> zbus::Result<()> {
        let server = self.connection.object_server();
        let board = &self.desk.board;
        match id {
            ObjectId::Worker(name) if board.workers.remove(&name).is_some() => {
                server.remove::<Worker, _>(path::worker(&name)).await.map(drop)
            }
            ObjectId::Incident(id) if board.incidents.remove(&id).is_some() => {
                server.remove::<Incident, _>(path::incident(id)).await.map(drop)
            }
            ObjectId::Job(id) if board.jobs.remove(&id).is_some() => {
                server.remove::<Job, _>(path::job(id)).await.map(drop)
            }
            ObjectId::Manager
            | ObjectId::Worker(_)
            | ObjectId::Incident(_)
            | ObjectId::Job(_)
            | ObjectId::Notice(_) => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn shows_job(&self, id: JobId) -> bool {
        self.desk.board.jobs.find(&id).is_some()
    }

    fn remember_finished(&mut self, id: JobId) {
        if self.finished.len() == FINISHED_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back(id);
    }
}

async fn announce_incident(
    emitter: &SignalEmitter<'_>,
    view: &IncidentView,
    before: Option<&IncidentView>,
) -> zbus::Result<()> {
    let (id, path, worker) = (view.id.0, path::incident(view.id), view.worker.as_str());
    let closed = view.state == IncidentState::Closed;
    let confidence = Variant::from(f64::from(view.confidence) / 100.0);
    match before {
        None => {
            let run = view.run.map(|run| run.to_string()).unwrap_or_default();
            let details = HashMap::from([("Confidence", confidence), ("Run", Variant::from(run))]);
            Manager::incident_opened(emitter, id, path.clone().into(), worker, view.cause.as_str(), details).await?;
        }
        Some(_) if !closed => {
            let details = HashMap::from([("Cause", Variant::from(view.cause.as_str())), ("Confidence", confidence)]);
            let state = view.state.as_str();
            Manager::incident_updated(emitter, id, path.clone().into(), worker, state, details).await?;
        }
        Some(_) => {}
    }
    if closed && before.is_none_or(|before| before.state != IncidentState::Closed) {
        Manager::incident_closed(emitter, id, path.into(), view.result.as_str()).await?;
    }
    Ok(())
}

/// Waits until nobody has the other end open any more, then ends the hold.
async fn release_at_end(lock: Lock, calls: mpsc::Sender<Call>) {
    let mut ignored = [0; 512];
    while lock.pipe.readable().await.is_ok() {
        match lock.pipe.try_read(&mut ignored) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    let (answer, _) = Reply::channel();
    let request = Box::new(Request::Release(lock.hold));
    // A daemon that does not listen any more is stopping, and locks do not outlive it.
    let _ = calls.send(Call::Ask { caller: lock.caller, request, answer }).await;
}
