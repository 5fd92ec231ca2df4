// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that can happen, in the engine's words. Adapters translate the world into these.

use super::action::Interest;
use super::checkpoint::Choice;
use super::evidence::Findings;
use super::ids::{ActionId, HoldId, IncidentId, InvocationId, JobId, RequestId, WorkerName};
use super::policy::{Layer, Policies};
use super::sign::Sign;
use super::source::{Activity, Reading};
use super::time::{Mono, Wall};
use super::until::Until;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "the large variants are the frequent ones")]
pub enum Event {
    /// The unit's state, complete, as of now.
    Unit(WorkerName, UnitFacts),
    /// The service manager has unloaded the unit.
    Gone(WorkerName),
    /// The service manager is there.
    ServiceManager { version: u32 },
    /// Every loaded unit that matches the interest; a worker that is missing here is not loaded.
    Listed(Interest, Vec<(WorkerName, UnitFacts)>),
    /// A look at a source of progress, by the key that configures it; the error says why it cannot be read.
    Read(WorkerName, &'static str, Result<Reading, String>),
    /// A worker reported progress by itself.
    Beat(WorkerName, Reading),
    /// Somebody asks for something; answered by exactly one `Action::Reply`.
    Request(RequestId, Caller, Request),
    /// Some process of the machine began to write its core.
    CoreDumpBegan,
    /// The answer to `Action::FindDumping`: this main process of the worker is writing its core.
    Dumping(WorkerName, u32),
    /// A rule recognised something about a running worker.
    Sign(WorkerName, Sign),
    /// The answer to `Action::Examine`; comes exactly once for each.
    Examined(IncidentId, Box<Findings>),
    /// An action ended.
    Done(ActionId, Outcome),
    /// The configuration was read anew.
    Policies(Policies),
    /// The machine, or the user's session, is shutting down: stops are not failures, nothing is started any more. False
    /// if somebody cancelled that.
    HostStopping(bool),
    /// Whether something that was asked for with `Action::Await` holds; the error says why that cannot be known.
    Until(Until, Result<bool, String>),
    /// What a failed run had left behind was ended before the next one: its processes, such as `312 (python3)`; or why
    /// that could not be done.
    Swept(WorkerName, Result<Vec<String>, String>),
    /// The checkpoints of the worker were looked at, because a run of it is about to start.
    Checkpoints(WorkerName, Choice),
    /// Nothing happened, but time passed.
    Wake,
}

/// What systemd says about one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFacts {
    pub load: Load,
    pub active: Active,
    /// systemd's SubState, such as `auto-restart`.
    pub sub: String,
    /// The id of the queued job, zero if there is none.
    pub job: u32,
    pub invocation: Option<InvocationId>,
    pub main_pid: u32,
    /// How the most recent run ended, or `Success` with `Exit::None` while the first one runs.
    pub end: RunEnd,
    /// systemd's own restarts of this unit.
    pub restarts: u32,
    pub frozen: bool,
    /// The last `STATUS=` text.
    pub status_text: String,
    /// When the unit last became active.
    pub active_enter: Mono,
    /// When the main process of the most recent run was begun, zero if unknown; it may be quicker than the unit.
    pub main_started: Mono,
    pub traits: UnitTraits,
}

/// What does not change while the unit file stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitTraits {
    /// `Restart=` is not `no`.
    pub restarts_itself: bool,
    /// `WatchdogSec=`, if set.
    pub watchdog: Option<Duration>,
    pub can_freeze: bool,
    /// `StartLimitBurst=`; zero means no limit.
    pub start_limit_burst: u32,
    /// `StartLimitIntervalSec=`; zero means no limit.
    pub start_limit_interval: Duration,
    /// `Type=oneshot` units are `activating` while they work.
    pub oneshot: bool,
    /// Made by StartTransientUnit; has no file that survives a stop.
    pub transient: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    #[default]
    Loaded,
    NotFound,
    Masked,
    /// `bad-setting` or `error`: systemd cannot read the unit file.
    Bad,
}

/// systemd's ActiveState.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Active {
    #[default]
    Inactive,
    Activating,
    Active,
    Reloading,
    Deactivating,
    Failed,
    Maintenance,
    Refreshing,
}

/// How a run ended: the service's Result, ExecMainCode and ExecMainStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunEnd {
    pub result: UnitResult,
    pub exit: Exit,
    /// The main process of that run.
    pub pid: u32,
    pub started: Wall,
    pub ended: Wall,
}

/// The Result property of a service; see systemd.exec(5), `$SERVICE_RESULT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UnitResult {
    #[default]
    Success,
    ExitCode,
    Signal,
    CoreDump,
    Watchdog,
    Timeout,
    OomKill,
    Resources,
    Protocol,
    StartLimitHit,
    ExecCondition,
    Other(String),
}

/// How the main process ended (ExecMainCode, ExecMainStatus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    #[default]
    None,
    Exited(i32),
    Killed(i32),
    Dumped(i32),
}

/// A run that ended while nobody watched; rebuilt from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    pub invocation: Option<InvocationId>,
    pub end: RunEnd,
    /// A job asked it to stop before it ended.
    pub stopped: bool,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. For starts, stops and restarts: systemd's job ended with `done`.
    Ok,
    /// It was refused or failed; the text is a fragment for people.
    Failed(String),
    /// It did not end in time; it may still have happened.
    TimedOut,
    /// The answer to `Action::LookBack`, oldest first.
    Past(Vec<PastRun>),
    /// The answer to `Action::Look`.
    Activity(Activity),
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    /// The user's name where there is one, else the uid.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Makes a worker from a command line; `None` lets the engine choose a name.
    Run {
        name: Option<WorkerName>,
        definition: Definition,
        policy: Layer,
    },
    Adopt {
        unit: WorkerName,
        policy: Layer,
    },
    Forget(WorkerName),
    Change {
        verb: Verb,
        workers: Vec<WorkerName>,
        why: String,
        dry_run: bool,
    },
    Hold {
        workers: Vec<WorkerName>,
        who: String,
        why: String,
        until: Option<Wall>,
        lock: bool,
    },
    Release(HoldId),
    Quarantine {
        worker: WorkerName,
        why: String,
    },
    ResetQuarantine(WorkerName),
    /// `None` gives the parameter back to the unit.
    SetParameter {
        worker: WorkerName,
        name: String,
        value: Option<String>,
    },
    CloseIncident {
        incident: IncidentId,
        why: String,
    },
    CancelJob(JobId),
    /// Sends a notice that says that notices can be sent; answered when it was sent, or could not be.
    TestNotice,
}

/// A command line and the unit properties that it runs with, as `watcherctl run` was given them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    pub argv: Vec<String>,
    /// Names and values in the spelling of a unit file; a list has several entries of one name.
    pub properties: Vec<(String, String)>,
}

/// What a job does to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Nothing,
    Worker(WorkerName),
    Jobs(Vec<JobId>),
    Hold(HoldId),
}

/// Why a request was turned down; each one is an error name on D-Bus, and its text one sentence that names the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoSuchWorker(WorkerName),
    NoSuchIncident(IncidentId),
    NoSuchHold(HoldId),
    NoSuchJob(JobId),
    /// Who holds it, why, and until when.
    WorkerHeld {
        worker: WorkerName,
        who: String,
        why: String,
        until: Option<Wall>,
    },
    Quarantined(WorkerName, String),
    NotSupported(String),
    Busy(String),
    InvalidArgs(String),
    Exists(String),
    LimitsExceeded(String),
    /// It was tried.
    Failed(String),
    Stopping,
}

impl UnitFacts {
    /// Whether a process of the unit may be running.
    pub fn is_up(&self) -> bool {
        matches!(
            self.active,
            Active::Activating | Active::Active | Active::Reloading | Active::Refreshing | Active::Deactivating
        ) && !self.waits_for_own_restart()
            && !self.is_exited()
    }

    /// Whether the work is done and systemd keeps the unit active all the same (`RemainAfterExit=`).
    pub fn is_exited(&self) -> bool {
        self.active == Active::Active && self.sub == "exited"
    }

    /// Whether systemd itself is about to start the unit again (`Restart=`).
    pub fn waits_for_own_restart(&self) -> bool {
        matches!(
            self.sub.as_str(),
            "auto-restart" | "auto-restart-queued" | "failed-before-auto-restart" | "dead-before-auto-restart"
        )
    }
}

impl Active {
    /// Reads systemd's ActiveState; an unknown state counts as inactive.
    pub fn parse(text: &str) -> Active {
        match text {
            "activating" => Active::Activating,
            "active" => Active::Active,
            "reloading" => Active::Reloading,
            "deactivating" => Active::Deactivating,
            "failed" => Active::Failed,
            "maintenance" => Active::Maintenance,
            "refreshing" => Active::Refreshing,
            _ => Active::Inactive,
        }
    }
}

impl Load {
    /// Reads systemd's LoadState.
    pub fn parse(text: &str) -> Load {
        match text {
            "not-found" => Load::NotFound,
            "masked" => Load::Masked,
            "bad-setting" | "error" => Load::Bad,
            _ => Load::Loaded,
        }
    }
}

impl UnitResult {
    /// Reads systemd's Result.
    pub fn parse(text: &str) -> UnitResult {
        match text {
            "success" | "" => UnitResult::Success,
            "exit-code" => UnitResult::ExitCode,
            "signal" => UnitResult::Signal,
            "core-dump" => UnitResult::CoreDump,
            "watchdog" => UnitResult::Watchdog,
            "timeout" => UnitResult::Timeout,
            "oom-kill" => UnitResult::OomKill,
            "resources" => UnitResult::Resources,
            "protocol" => UnitResult::Protocol,
            "start-limit-hit" => UnitResult::StartLimitHit,
            "exec-condition" => UnitResult::ExecCondition,
            other => UnitResult::Other(other.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            UnitResult::Success => "success",
            UnitResult::ExitCode => "exit-code",
            UnitResult::Signal => "signal",
            UnitResult::CoreDump => "core-dump",
            UnitResult::Watchdog => "watchdog",
            UnitResult::Timeout => "timeout",
            UnitResult::OomKill => "oom-kill",
            UnitResult::Resources => "resources",
            UnitResult::Protocol => "protocol",
            UnitResult::StartLimitHit => "start-limit-hit",
            UnitResult::ExecCondition => "exec-condition",
            UnitResult::Other(text) => text,
        }
    }
}

impl Exit {
    /// Reads ExecMainCode (a CLD_ constant of waitid(2)) and ExecMainStatus.
    pub fn from_wait(code: i32, status: i32) -> Exit {
        match code {
            1 => Exit::Exited(status),
            2 => Exit::Killed(status),
            3 => Exit::Dumped(status),
            _ => Exit::None,
        }
    }

    /// The pair that `from_wait` reads.
    pub fn to_wait(self) -> (i32, i32) {
        match self {
            Exit::None => (0, 0),
            Exit::Exited(status) => (1, status),
            Exit::Killed(signal) => (2, signal),
            Exit::Dumped(signal) => (3, signal),
        }
    }
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchWorker(name) => write!(f, "{name}: no such worker"),
            Refusal::NoSuchIncident(id) => write!(f, "incident {id}: no such incident"),
            Refusal::NoSuchHold(id) => write!(f, "hold {id}: no such hold"),
            Refusal::NoSuchJob(id) => write!(f, "job {id}: no such job"),
            Refusal::WorkerHeld { worker, who, why, .. } if why.is_empty() => {
                write!(f, "{worker}: held by {who}")
            }
            Refusal::WorkerHeld { worker, who, why, .. } => write!(f, "{worker}: held by {who} ({why})"),
            Refusal::Quarantined(name, why) => write!(f, "{name}: quarantined ({why})"),
            Refusal::NotSupported(text)
            | Refusal::Busy(text)
            | Refusal::InvalidArgs(text)
            | Refusal::Exists(text)
            | Refusal::LimitsExceeded(text)
            | Refusal::Failed(text) => f.write_str(text),
            Refusal::Stopping => f.write_str("watcherd is stopping"),
        }
    }
}

/// A definition is shared between the engine, the action that starts it and the store.
pub type SharedDefinition = Arc<Definition>;
