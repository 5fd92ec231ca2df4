// SPDX-License-Identifier: MIT OR Apache-2.0
//! org.watcherd1.Manager: the workers as a whole, and everything that is asked about more than one of them.

use super::arguments::{self, DRY_RUN};
use super::board::{ManagerState, Shown};
use super::client::{Dict, HoldRow, WorkerRow};
use super::error::ApiError;
use super::guard::Glance;
use super::incident::{self, Incident};
use super::publish::Published;
use super::worker::Worker;
use super::{Call, Lock, PlanRow, SharedDesk, describe, notice, path, usec};
use crate::engine::event::{Answer, Request, Verb};
use crate::engine::ids::{HoldId, WorkerName};
use crate::engine::view::HoldView;
use serde_json::Value;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

pub struct Manager {
    desk: SharedDesk,
    shown: Shown<ManagerState>,
}

impl Published for Manager {
    type View = ManagerState;

    fn new(desk: SharedDesk, shown: Shown<ManagerState>) -> Manager {
        Manager { desk, shown }
    }

    fn path(_: &ManagerState) -> OwnedObjectPath {
        path::root()
    }
}

#[zbus::interface(name = "org.watcherd1.Manager")]
impl Manager {
    /// Finds a worker by its unit; `.service` may be left out.
    #[zbus(out_args("worker"))]
    async fn get_worker(&self, name: &str, #[zbus(header)] header: Header<'_>) -> Result<OwnedObjectPath, ApiError> {
        self.desk.guard.admit_all(&header)?;
        let name = arguments::worker(name)?;
        match self.desk.board.workers.find(&name) {
            Some(_) => Ok(path::worker(&name)),
            None => Err(ApiError::NoSuchWorker(format!("{name}: no such worker"))),
        }
    }

    /// All workers, sorted by unit: unit, phase, cause, reason, since (µs since 1970), path.
    #[zbus(out_args("workers"))]
    async fn list_workers(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<WorkerRow>, ApiError> {
        self.desk.guard.admit_all(&header)?;
        let row = |(name, shown): (WorkerName, Shown<crate::engine::view::WorkerView>)| {
            let view = shown.view();
            let cause = view.cause.map_or("", |cause| cause.as_str());
            let path = path::worker(&name);
            (name.to_string(), view.phase.to_string(), cause.to_owned(), view.reason.clone(), usec(view.since), path)
        };
        Ok(self.desk.board.workers.all().into_iter().map(row).collect())
    }

    /// Incidents, newest first; keys are the properties of org.watcherd1.Incident. Old ones have no object any more.
    ///
    /// Filter keys: `worker` s (a unit name or glob), `cause` s, `since` t (opened then or later, µs since 1970),
    /// `open` b (true: only open ones, false: only closed ones), `id` u, `limit` u (1000 if not given).
    ///
    /// Because, Cascade and Remedies hold lines of logs for callers that may read them, see org.watcherd1.view-details.
    #[zbus(out_args("incidents"))]
    async fn list_incidents(
        &self,
        filter: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Dict>, ApiError> {
        self.desk.guard.admit_all(&header)?;
        let filter = arguments::filter(filter)?;
        let (sender, answer) = oneshot::channel();
        self.desk.send(Call::Incidents { filter, answer: sender })?;
        let incidents = answer.await.map_err(|_| ApiError::stopping())?.map_err(ApiError::Failed)?;
        let mut rows = Vec::with_capacity(incidents.len());
        if incidents.is_empty() {
            return Ok(rows);
        }
        let mut sight = self.desk.guard.sight(connection, &header).await;
        for incident in incidents {
            let shown = Shown::new(incident);
            let object = Incident::new(Arc::clone(&self.desk), shown.clone());
            let row = describe::properties(&object, connection, None).await;
            let mut row = row.map_err(|error| ApiError::Failed(format!("an incident cannot be shown: {error}")))?;
            let incident = shown.view();
            if sight.covers(&incident.worker).await {
                row.insert("Because".into(), owned(incident.because.clone()));
                row.insert("Cascade".into(), owned(incident.cascade.clone()));
                row.insert("Remedies".into(), owned(Variant::new(incident::remedies(&incident))));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Makes a worker from a command line and starts it. An empty name lets the daemon choose one.
    ///
    /// Unit properties are strings in the spelling of a unit file, or arrays of strings for lists. Policy keys are written
    /// `restart.budget`; the values are strings as in a policy file. No flags are defined.
    #[zbus(out_args("worker"))]
    #[expect(clippy::too_many_arguments, reason = "the wire decides how many there are")]
    async fn run(
        &self,
        name: &str,
        argv: Vec<String>,
        unit_properties: Dict,
        policy: Dict,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        arguments::flags(flags, 0)?;
        let name = if name.is_empty() { None } else { Some(arguments::worker(name)?) };
        let definition = arguments::definition(argv, unit_properties)?;
        let policy_pairs = arguments::policy(policy)?;
        let caller = self.desk.guard.admit(connection, &header, name.as_slice()).await?;
        let run = |answer| Call::Run { caller, name, definition, policy_pairs, answer };
        worker_path(self.desk.ask_with(run).await?)
    }

    /// Supervises a unit that exists. No flags are defined.
    #[zbus(out_args("worker"))]
    async fn adopt(
        &self,
        unit: &str,
        policy: Dict,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        arguments::flags(flags, 0)?;
        let unit = arguments::worker(unit)?;
        let policy_pairs = arguments::policy(policy)?;
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&unit)).await?;
        let adopt = |answer| Call::Adopt { caller, unit, policy_pairs, answer };
        worker_path(self.desk.ask_with(adopt).await?)
    }

    /// Ends the supervision of a worker that was adopted or run; the unit itself is left alone.
    async fn forget(
        &self,
        name: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let name = arguments::worker(name)?;
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&name)).await?;
        self.desk.ask(caller, Request::Forget(name)).await.map(drop)
    }

    /// Flags of this and the next four: 1 = dry run (checks, answers with no jobs).
    #[zbus(out_args("jobs"))]
    async fn start(
        &self,
        workers: Vec<String>,
        why: String,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        self.change(Verb::Start, Wish { workers, why, flags }, connection, &header).await
    }

    #[zbus(out_args("jobs"))]
    async fn stop(
        &self,
        workers: Vec<String>,
        why: String,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        self.change(Verb::Stop, Wish { workers, why, flags }, connection, &header).await
    }

    #[zbus(out_args("jobs"))]
    async fn restart(
        &self,
        workers: Vec<String>,
        why: String,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        self.change(Verb::Restart, Wish { workers, why, flags }, connection, &header).await
    }

    /// Makes the workers stand still without ending them.
    #[zbus(out_args("jobs"))]
    async fn pause(
        &self,
        workers: Vec<String>,
        why: String,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        self.change(Verb::Pause, Wish { workers, why, flags }, connection, &header).await
    }

    #[zbus(out_args("jobs"))]
    async fn resume(
        &self,
        workers: Vec<String>,
        why: String,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        self.change(Verb::Resume, Wish { workers, why, flags }, connection, &header).await
    }

    /// Keeps watcherd from touching the workers until the hold is released, or until a time in µs since 1970 (0: no
    /// end). No flags are defined.
    #[zbus(out_args("id"))]
    #[expect(clippy::too_many_arguments, reason = "the wire decides how many there are")]
    async fn hold(
        &self,
        workers: Vec<String>,
        who: String,
        why: String,
        until_usec: u64,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u32, ApiError> {
        arguments::flags(flags, 0)?;
        let workers = arguments::workers(&workers)?;
        let (who, why) = (arguments::text("the holder's name", who)?, arguments::text("the reason", why)?);
        let caller = self.desk.guard.admit(connection, &header, &workers).await?;
        let request = Request::Hold { workers, who, why, until: arguments::until(until_usec), lock: false };
        hold_id(self.desk.ask(caller, request).await?).map(|id| id.0)
    }

    /// As Hold; the hold ends when every copy of the returned descriptor is closed.
    #[zbus(out_args("lock"))]
    async fn hold_lock(
        &self,
        workers: Vec<String>,
        who: String,
        why: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<zbus::OwnedFd, ApiError> {
        let workers = arguments::workers(&workers)?;
        let (who, why) = (arguments::text("the holder's name", who)?, arguments::text("the reason", why)?);
        let caller = self.desk.guard.admit(connection, &header, &workers).await?;
        let (pipe, theirs) = lock_pipe().map_err(|error| ApiError::Failed(format!("no pipe for the lock: {error}")))?;
        let place = self.desk.locks.try_reserve().map_err(|_| ApiError::Busy("too many locks at once".into()))?;
        let request = Request::Hold { workers, who, why, until: None, lock: true };
        let hold = hold_id(self.desk.ask(caller.clone(), request).await?)?;
        place.send(Lock { hold, caller, pipe });
        Ok(theirs.into())
    }

    /// Ends a hold.
    async fn release(
        &self,
        id: u32,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let caller = self.desk.guard.admit(connection, &header, &[]).await?;
        self.desk.ask(caller, Request::Release(HoldId(id))).await.map(drop)
    }

    /// What waits to be sent, and what became of the notices of the last day, oldest first; the newest thousand are kept.
    ///
    /// `Id` u, `Stage` s (`opened`, `final`, `closed`, `test`), `Final` b, `Incident` u (0 in a test), `Worker` s, `Cause` s,
    /// `State` s (`waiting`, `sent`, `repeated`, `replaced`, `lost`), `MadeTimestamp` t, `DueTimestamp` t, `Attempts` u,
    /// `Error` s.
    #[zbus(out_args("notices"))]
    async fn list_notices(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<Dict>, ApiError> {
        self.desk.guard.admit_all(&header)?;
        let (sender, answer) = oneshot::channel();
        self.desk.send(Call::Notices { answer: sender })?;
        let notices = answer.await.map_err(|_| ApiError::stopping())?;
        Ok(notices.iter().map(notice::row).collect())
    }

    /// Sends a notice the way that all notices go, and answers when it was sent; fails with why it was not. No flags are
    /// defined.
    async fn test_notice(
        &self,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        arguments::flags(flags, 0)?;
        let caller = self.desk.guard.admit(connection, &header, &[]).await?;
        self.desk.ask(caller, Request::TestNotice).await.map(drop)
    }

    /// Reads the configuration anew and says what changes. Flags: 1 = dry run.
    ///
    /// Rows about units have `Unit` s, `Change` s (`add`, `remove`, `change`, `unchanged`), `Keys` as and `Text` s; rows
    /// about files have `File` s, `Change` s (`warning`, `error`) and `Text` s.
    #[zbus(out_args("plan"))]
    async fn reload(
        &self,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Dict>, ApiError> {
        arguments::flags(flags, DRY_RUN)?;
        let caller = self.desk.guard.admit(connection, &header, &[]).await?;
        let (sender, answer) = oneshot::channel();
        self.desk.send(Call::Reload { dry_run: flags & DRY_RUN != 0, caller, answer: sender })?;
        let rows = answer.await.map_err(|_| ApiError::stopping())??;
        Ok(rows.into_iter().map(plan_row).collect())
    }

    /// The manager and all workers as one JSON object: the manager's properties, and `Workers`, an array of objects with
    /// the workers' properties and their `Path`, sorted by unit. Bytes are hexadecimal digits.
    #[zbus(out_args("json"))]
    async fn describe(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        self.desk.guard.admit_all(&header)?;
        let mut workers = Vec::new();
        let mut sight = Glance::new(&self.desk.guard, connection, &header);
        for (name, shown) in self.desk.board.workers.all() {
            let worker = Worker::new(Arc::clone(&self.desk), shown);
            // What not everybody may read is added here: once it is found out for all workers what this caller may read.
            let mut json = describe::json(&worker, connection, None).await?;
            if worker.has_private() && sight.covers(&name).await {
                json.insert("Policy".into(), worker.whole_policy());
            }
            json.insert("Path".into(), path::worker(&name).as_str().into());
            workers.push(Value::Object(json));
        }
        let mut json = describe::json(self, connection, Some(&header)).await?;
        json.insert("Workers".into(), workers.into());
        Ok(Value::Object(json).to_string())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.desk.about.version.clone()
    }

    /// What this daemon can do beyond the basics, one word each.
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<String> {
        self.desk.about.features.clone()
    }

    #[zbus(property, name = "NWorkers")]
    fn n_workers(&self) -> u32 {
        self.shown.view().view.workers
    }

    #[zbus(property, name = "NIncidentsOpen")]
    fn n_incidents_open(&self) -> u32 {
        self.shown.view().view.incidents_open
    }

    /// Id, workers, who, why, until (µs since 1970, 0 for no end).
    #[zbus(property)]
    fn holds(&self) -> Vec<HoldRow> {
        let row = |hold: &HoldView| {
            let workers = hold.workers.iter().map(WorkerName::to_string).collect();
            (hold.id.0, workers, hold.who.clone(), hold.why.clone(), usec(hold.until))
        };
        self.shown.view().view.holds.iter().map(row).collect()
    }

    /// Whether watcherd only says what it would do.
    #[zbus(property)]
    fn dry_run(&self) -> bool {
        self.shown.view().view.dry_run
    }

    /// What is not as it should be (a rejected file, a store that cannot be written), one sentence each.
    #[zbus(property)]
    fn degraded(&self) -> Vec<String> {
        self.shown.view().degraded.clone()
    }

    /// When the configuration in force was read, in µs since 1970.
    #[zbus(property)]
    fn configuration_timestamp(&self) -> u64 {
        usec(self.shown.view().configured)
    }

    /// Details: `Confidence` d, `Run` s.
    #[zbus(signal)]
    pub async fn incident_opened(
        emitter: &SignalEmitter<'_>,
        id: u32,
        incident: ObjectPath<'_>,
        worker: &str,
        cause: &str,
        details: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    /// Details: `Cause` s, `Confidence` d.
    #[zbus(signal)]
    pub async fn incident_updated(
        emitter: &SignalEmitter<'_>,
        id: u32,
        incident: ObjectPath<'_>,
        worker: &str,
        state: &str,
        details: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub async fn incident_closed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        incident: ObjectPath<'_>,
        result: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub async fn job_new(emitter: &SignalEmitter<'_>, id: u32, job: ObjectPath<'_>, worker: &str) -> zbus::Result<()>;

    /// Result: `done`, `failed`, `canceled` or `timeout`.
    #[zbus(signal)]
    pub async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        worker: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// What the five verbs take.
struct Wish {
    workers: Vec<String>,
    why: String,
    flags: u64,
}

impl Manager {
    async fn change(
        &self,
        verb: Verb,
        wish: Wish,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        arguments::flags(wish.flags, DRY_RUN)?;
        let workers = arguments::workers(&wish.workers)?;
        let why = arguments::text("the reason", wish.why)?;
        let caller = self.desk.guard.admit(connection, header, &workers).await?;
        let dry_run = wish.flags & DRY_RUN != 0;
        match self.desk.ask(caller, Request::Change { verb, workers, why, dry_run }).await? {
            Answer::Jobs(jobs) => Ok(jobs.into_iter().map(path::job).collect()),
            Answer::Nothing => Ok(Vec::new()),
            answer => Err(unexpected(&answer)),
        }
    }
}

fn worker_path(answer: Answer) -> Result<OwnedObjectPath, ApiError> {
    match answer {
        Answer::Worker(name) => Ok(path::worker(&name)),
        answer => Err(unexpected(&answer)),
    }
}

fn hold_id(answer: Answer) -> Result<HoldId, ApiError> {
    match answer {
        Answer::Hold(id) => Ok(id),
        answer => Err(unexpected(&answer)),
    }
}

fn unexpected(answer: &Answer) -> ApiError {
    ApiError::Failed(format!("the answer has the wrong shape: {answer:?}"))
}

/// Our end, which sees the end of file, and the caller's.
fn lock_pipe() -> std::io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = std::io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(ours.into())?, theirs.into()))
}

fn plan_row(row: PlanRow) -> Dict {
    let pairs = match row {
        PlanRow::Unit { unit, change, keys, text } => vec![
            ("Unit", Variant::from(unit)),
            ("Change", Variant::from(change)),
            ("Keys", Variant::from(keys)),
            ("Text", Variant::from(text)),
        ],
        PlanRow::File { file, change, text } => {
            vec![("File", Variant::from(file)), ("Change", Variant::from(change)), ("Text", Variant::from(text))]
        }
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), owned(value))).collect()
}

fn owned<'v>(value: impl Into<Variant<'v>>) -> OwnedVariant {
    OwnedVariant::try_from(value.into()).expect("strings hold no descriptors")
}
