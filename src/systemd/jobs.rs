// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes systemd act on a unit, and says how that ended.
//!
//! A start or stop ends when systemd's job ends: the result comes with the signal stream ([`super::watch`]), over another
//! connection than the reply that names the job, so it may arrive first. Recent results are therefore kept for a while.
//! Nothing is retried here, except what systemd itself refuses for a reason that goes away (frozen, not yet unloaded).

mod checkpoints;
pub mod command;
pub mod hook;

use super::facts::Properties;
use super::proxy::{ManagerProxy, SERVICE, job_of_path, unit_path};
use super::{Address, CALL_DEADLINE, ConnectError, transient};
use crate::engine::action::{Freezer, Start};
use crate::engine::event::{Active, Definition, Outcome, RunEnd, UnitFacts};
use crate::engine::ids::WorkerName;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use zbus::message::Message;
use zbus::proxy::CacheProperties;
use zbus::{OwnedObjectPath, Variant};

const QUEUED_MESSAGES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// How many results are kept for jobs whose number is not known yet.
const RECENT_RESULTS: usize = 512;
/// How long the result of a job may lag behind the news that the job is gone.
const RESULT_LAG: Duration = Duration::from_secs(1);

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// The way to make systemd act; clones share one connection.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    manager: ManagerProxy<'static>,
    results: Mutex<Results>,
    /// Counts the times when signals may have been lost.
    gaps: watch::Sender<u64>,
    unannounced: watch::Sender<BTreeSet<WorkerName>>,
}

#[derive(Default)]
struct Results {
    waiting: HashMap<u32, Vec<oneshot::Sender<String>>>,
    recent: VecDeque<(u32, String)>,
    /// How units end that are of no interest otherwise, by their object paths; they are unloaded at once.
    ends: HashMap<String, Option<RunEnd>>,
}

impl Jobs {
    pub async fn connect(address: &Address) -> Result<Jobs, ConnectError> {
        let connection = address.connect(QUEUED_MESSAGES).await?;
        let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await;
        let manager = manager.map_err(|source| ConnectError { address: address.clone(), source })?;
        let (gaps, unannounced) = (watch::Sender::new(0), watch::Sender::new(BTreeSet::new()));
        Ok(Jobs { inner: Arc::new(Inner { manager, results: Mutex::default(), gaps, unannounced }) })
    }

    /// Starts a unit, or makes it anew and starts it; ends with the job, at the latest after `within`.
    ///
    /// The job of a `Type=oneshot` unit lasts as long as its command: `Outcome::TimedOut` says nothing against it.
    pub async fn start(&self, name: &WorkerName, start: &Start, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        if start.thaw {
            // A failure shows in the start itself.
            let _ = self.thaw_unit(name).await;
        }
        outcome(match &start.definition {
            None => self.carry_out(name, Some(start), deadline).await,
            Some(definition) => self.start_made(name, start, definition, deadline).await,
        })
    }

    /// Stops a unit; ends with the job, at the latest after `within`. A unit that is not loaded is stopped already.
    pub async fn stop(&self, name: &WorkerName, within: Duration) -> Outcome {
        match self.stop_unit(name, Instant::now() + within).await {
            Err(Failure::Refused(refusal)) if refusal.is("NoSuchUnit") => Outcome::Ok,
            stopped => outcome(stopped),
        }
    }

    /// Sends a signal to every process of the unit.
    pub async fn kill(&self, name: &WorkerName, signal: i32) -> Outcome {
        outcome(call(self.inner.manager.kill_unit(name.unit(), "all", signal)).await)
    }

    /// Sends a signal to the main process of the unit.
    pub async fn kill_main(&self, name: &WorkerName, signal: i32) -> Outcome {
        outcome(call(self.inner.manager.kill_unit(name.unit(), "main", signal)).await)
    }

    /// The processes of the unit; the error is a fragment. A unit that is not loaded has none.
    pub async fn processes(&self, name: &WorkerName) -> Result<Processes, String> {
        let rows = match call(self.inner.manager.get_unit_processes(name.unit())).await {
            Ok(rows) => rows,
            Err(Failure::Refused(refusal)) if refusal.is("NoSuchUnit") => Vec::new(),
            Err(failure) => match outcome::<()>(Err(failure)) {
                Outcome::Failed(why) => return Err(why),
                _ => return Err("systemd did not answer in time".into()),
            },
        };
        // Services may have groups below their own; the shortest path is the unit's.
        let cgroup = rows.iter().map(|(group, ..)| group).min_by_key(|group| group.len()).cloned();
        Ok(Processes { cgroup: cgroup.unwrap_or_default(), pids: rows.iter().map(|(_, pid, _)| *pid).collect() })
    }

    /// The state of a unit that has processes, and is loaded therefore; the error is a fragment.
    pub async fn standing(&self, name: &WorkerName) -> Result<UnitFacts, String> {
        match self.look_at(name).await {
            Ok(facts) => Ok(facts),
            Err(failure) => match outcome::<()>(Err(failure)) {
                Outcome::Failed(why) => Err(why),
                _ => Err("systemd did not answer in time".into()),
            },
        }
    }

    pub async fn freeze(&self, name: &WorkerName, freezer: Freezer) -> Outcome {
        match freezer {
            Freezer::Cgroup => outcome(self.freeze_unit(name).await),
            Freezer::Signal => self.kill(name, SIGSTOP).await,
        }
    }

    pub async fn thaw(&self, name: &WorkerName, freezer: Freezer) -> Outcome {
        match freezer {
            Freezer::Cgroup => outcome(self.thaw_unit(name).await),
            Freezer::Signal => self.kill(name, SIGCONT).await,
        }
    }

    /// Has systemd read all unit files anew; the error is a fragment.
    pub async fn reload(&self) -> Result<(), String> {
        match outcome(call(self.inner.manager.reload()).await) {
            Outcome::Failed(why) => Err(format!("systemd cannot read its units anew: {why}")),
            Outcome::TimedOut => Err("systemd does not read its units anew in time".into()),
            _ => Ok(()),
        }
    }

    /// systemd's major version: 252 for `252.39-1~deb12u1`; zero if it does not say.
    pub async fn version(&self) -> u32 {
        let text = call(self.inner.manager.version()).await.unwrap_or_default();
        let text = text.trim_start_matches('v');
        text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())].parse().unwrap_or(0)
    }

    /// Tells this service manager from the one before a reboot or a new login; `None` if it does not answer.
    pub async fn manager_id(&self) -> Option<u64> {
        call(self.inner.manager.userspace_timestamp_monotonic()).await.ok()
    }

    /// When our own unit was last down, in microseconds since 1970; `None` if we are none, or it was not since the boot, or
    /// systemd has unloaded it meanwhile.
    pub async fn last_down(&self) -> Option<u64> {
        let path = call(self.inner.manager.get_unit_by_pid(std::process::id())).await.ok()?;
        let reply = self.properties_of(&path).await.ok()?;
        let body = reply.body();
        let properties: Properties<'_> = body.deserialize().ok()?;
        // Not when it became inactive: that is what it does after each start that fails, too.
        match properties.get("ActiveExitTimestamp") {
            Some(Variant::U64(at)) => Some(*at).filter(|at| *at != 0),
            _ => None,
        }
    }

    /// Takes note of a JobRemoved signal.
    pub(super) fn removed(&self, id: u32, result: &str) {
        let mut results = self.results();
        match results.waiting.remove(&id) {
            Some(waiting) => waiting.into_iter().for_each(|waiter| drop(waiter.send(result.to_owned()))),
            None => {
                if results.recent.len() == RECENT_RESULTS {
                    results.recent.pop_front();
                }
                results.recent.push_back((id, result.to_owned()));
            }
        }
    }

    /// Whether somebody wants to know how the unit with this object path ends.
    pub(super) fn is_expected(&self, path: &str) -> bool {
        self.results().ends.contains_key(path)
    }

    /// Takes note of what a signal says about such a unit; the last one before the end of its job counts.
    pub(super) fn service_changed(&self, path: &str, properties: &Properties<'_>) {
        let mut facts = UnitFacts::default();
        super::facts::apply(properties, &mut facts);
        if let Some(end) = self.results().ends.get_mut(path) {
            *end = Some(facts.end);
        }
    }

    fn expect_end(&self, unit: &str) -> ExpectedEnd<'_> {
        let path = unit_path(unit);
        self.results().ends.insert(path.clone(), None);
        ExpectedEnd { jobs: self, path }
    }

    /// Signals may have been lost: everybody who waits for a job asks whether it still exists.
    pub(super) fn signals_were_lost(&self) {
        self.inner.gaps.send_modify(|gaps| *gaps += 1);
    }

    async fn stop_unit(&self, name: &WorkerName, deadline: Instant) -> Result<(), Failure> {
        self.carry_out(name, None, deadline).await
    }

    /// Starts, or stops without a `start`. systemd 257 does nothing with a frozen unit: it is thawed then, and once more.
    async fn carry_out(&self, name: &WorkerName, start: Option<&Start>, deadline: Instant) -> Result<(), Failure> {
        match self.follow(self.queue(name, start).await, deadline).await {
            Err(failure) if failure.is_about_freezing() => {
                self.thaw_unit(name).await?;
                self.follow(self.queue(name, start).await, deadline).await
            }
            ended => ended,
        }
    }

    async fn queue(&self, name: &WorkerName, start: Option<&Start>) -> Result<OwnedObjectPath, Failure> {
        let (manager, unit) = (&self.inner.manager, name.unit());
        let Some(start) = start else { return call(manager.stop_unit(unit, "replace")).await };
        if start.reset_failed {
            self.reset_failed(unit).await?;
        }
        if start.restart {
            call(manager.restart_unit(unit, "replace")).await
        } else {
            call(manager.start_unit(unit, "replace")).await
        }
    }

    /// Makes the unit anew: systemd forgets a failed transient unit once it is reset, so both calls can follow each other.
    async fn start_made(
        &self,
        name: &WorkerName,
        start: &Start,
        definition: &Definition,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut properties = transient::properties(name, definition, &start.run, start.grace).map_err(Failure::Text)?;
        if let Some(exports) = &start.exports {
            transient::export(&mut properties, &exports.variables).map_err(Failure::Text)?;
        }
        match self.make(name, &properties).await {
            Err(Failure::Refused(refusal)) if refusal.is("UnitExists") => {}
            made => return self.follow(made, deadline).await,
        }
        let standing = self.look_at(name).await?;
        if !standing.traits.transient {
            return Err(Failure::Text(format!("a unit file for {name} exists")));
        }
        let is_down = matches!(standing.active, Active::Inactive | Active::Failed);
        if !is_down && !start.restart {
            return Err(Failure::Text(format!("{name} runs already")));
        }
        if let Err(Failure::Late) = self.stop_unit(name, deadline).await {
            return Err(Failure::Late);
        }
        self.follow(self.make(name, &properties).await, deadline).await
    }

    async fn make(&self, name: &WorkerName, properties: &[super::proxy::Property]) -> Result<OwnedObjectPath, Failure> {
        self.reset_failed(name.unit()).await?;
        call(self.inner.manager.start_transient_unit(name.unit(), "replace", properties, &[])).await
    }

    async fn reset_failed(&self, unit: &str) -> Result<(), Failure> {
        call(self.inner.manager.reset_failed_unit(unit)).await
    }

    async fn freeze_unit(&self, name: &WorkerName) -> Result<(), Failure> {
        call(self.inner.manager.freeze_unit(name.unit())).await?;
        self.look_again(name);
        Ok(())
    }

    async fn thaw_unit(&self, name: &WorkerName) -> Result<(), Failure> {
        call(self.inner.manager.thaw_unit(name.unit())).await?;
        self.look_again(name);
        Ok(())
    }

    /// systemd 252 does not announce that a unit was frozen or thawed.
    fn look_again(&self, name: &WorkerName) {
        self.inner.unannounced.send_modify(|names| {
            names.insert(name.clone());
        });
    }

    /// Units that may have changed without an announcement.
    pub(super) fn unannounced(&self) -> watch::Receiver<BTreeSet<WorkerName>> {
        self.inner.unannounced.subscribe()
    }

    /// Takes the units that may have changed without an announcement.
    pub(super) fn take_unannounced(&self) -> BTreeSet<WorkerName> {
        let mut taken = BTreeSet::new();
        self.inner.unannounced.send_if_modified(|names| {
            taken = std::mem::take(names);
            false
        });
        taken
    }

    /// Asks for the state of a unit that is loaded; one that is not would be loaded by the question.
    async fn look_at(&self, name: &WorkerName) -> Result<UnitFacts, Failure> {
        let reply = self.properties_of(&unit_path(name.unit())).await?;
        let body = reply.body();
        let properties: Properties<'_> = body.deserialize().map_err(Failure::from)?;
        let mut facts = UnitFacts::default();
        super::facts::apply(&properties, &mut facts);
        Ok(facts)
    }

    /// The answer to a question for everything about the unit with this object path.
    async fn properties_of(&self, path: &str) -> Result<Message, Failure> {
        let connection = self.inner.manager.inner().connection();
        let interface = Some("org.freedesktop.DBus.Properties");
        call(connection.call_method(Some(SERVICE), path, interface, "GetAll", &("org.freedesktop.systemd1.Unit",)))
            .await
    }

    /// Waits for the end of a job.
    async fn follow(&self, queued: Result<OwnedObjectPath, Failure>, deadline: Instant) -> Result<(), Failure> {
        let path = queued?;
        let Some(id) = job_of_path(path.as_str()) else {
            return Err(Failure::Text(format!("systemd named a job that cannot be followed: {}", path.as_str())));
        };
        match timeout_at(deadline, self.result_of(id)).await {
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(Some(result)) => Err(Failure::Ended(result)),
            Ok(None) | Err(_) => Err(Failure::Late),
        }
    }

    /// The result of a job; `None` if the job is gone and its result was lost with the signals.
    async fn result_of(&self, id: u32) -> Option<String> {
        let mut gaps = self.inner.gaps.subscribe();
        let mut result = self.wait_for(id);
        let _forget = ForgetWaiter { jobs: self, id };
        loop {
            tokio::select! {
                answer = &mut result => return answer.ok(),
                Ok(()) = gaps.changed() => {
                    if let Err(Failure::Refused(refusal)) = call(self.inner.manager.get_job(id)).await
                        && refusal.is("NoSuchJob")
                    {
                        return timeout(RESULT_LAG, result).await.ok()?.ok();
                    }
                }
            }
        }
    }

    fn wait_for(&self, id: u32) -> oneshot::Receiver<String> {
        let (sender, receiver) = oneshot::channel();
        let mut results = self.results();
        match results.recent.iter().position(|(recent, _)| *recent == id) {
            Some(at) => {
                let result = results.recent[at].1.clone();
                drop(sender.send(result));
            }
            None => results.waiting.entry(id).or_default().push(sender),
        }
        receiver
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.inner.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wish to know how a unit ends.
struct ExpectedEnd<'a> {
    jobs: &'a Jobs,
    path: String,
}

impl ExpectedEnd<'_> {
    fn taken(&self) -> Option<RunEnd> {
        self.jobs.results().ends.get(&self.path).cloned().flatten()
    }
}

impl Drop for ExpectedEnd<'_> {
    fn drop(&mut self) {
        self.jobs.results().ends.remove(&self.path);
    }
}

/// Takes back the entry of a wait that was given up.
struct ForgetWaiter<'a> {
    jobs: &'a Jobs,
    id: u32,
}

impl Drop for ForgetWaiter<'_> {
    fn drop(&mut self) {
        let mut results = self.jobs.results();
        if let Some(waiting) = results.waiting.get_mut(&self.id) {
            waiting.retain(|waiter| !waiter.is_closed());
            if waiting.is_empty() {
                results.waiting.remove(&self.id);
            }
        }
    }
}

/// Why a call led to nothing.
#[derive(Debug)]
enum Failure {
    Refused(Refused),
    /// The job ended otherwise than with `done`.
    Ended(String),
    Late,
    Text(String),
}

/// What systemd knows about the processes of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// The control group, as a path from the root of the hierarchy; empty if there are none.
    pub cgroup: String,
    pub pids: Vec<u32>,
}

/// An error reply.
#[derive(Debug)]
struct Refused {
    error: String,
    text: String,
}

impl Refused {
    /// Whether it is systemd's error of that name.
    fn is(&self, name: &str) -> bool {
        self.error.strip_prefix("org.freedesktop.systemd1.") == Some(name)
    }
}

impl Failure {
    /// The refusal has no error name of its own.
    fn is_about_freezing(&self) -> bool {
        match self {
            Failure::Refused(refusal) => refusal.text.contains("frozen unit"),
            Failure::Ended(result) => result == "frozen",
            Failure::Late | Failure::Text(_) => false,
        }
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Failure {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                let text = text.unwrap_or_else(|| name.to_string());
                Failure::Refused(Refused { error: name.to_string(), text })
            }
            zbus::Error::FDO(error) => {
                use zbus::DBusError;
                let text = error.description().unwrap_or(error.name().as_str()).to_owned();
                Failure::Refused(Refused { error: error.name().to_string(), text })
            }
            other => Failure::Text(format!("systemd cannot be reached: {other}")),
        }
    }
}

/// Bounds a method call.
async fn call<T>(asked: impl Future<Output = zbus::Result<T>>) -> Result<T, Failure> {
    match timeout(CALL_DEADLINE, asked).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Late),
    }
}

fn outcome<T>(called: Result<T, Failure>) -> Outcome {
    match called {
        Ok(_) => Outcome::Ok,
        Err(Failure::Refused(refusal)) => Outcome::Failed(format!("systemd refused: {}", refusal.text)),
        Err(Failure::Ended(result)) => Outcome::Failed(format!("the job ended with {result}")),
        Err(Failure::Text(text)) => Outcome::Failed(text),
        Err(Failure::Late) => Outcome::TimedOut,
    }
}
