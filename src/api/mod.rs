// SPDX-License-Identifier: MIT OR Apache-2.0
//! The D-Bus interface: what callers may ask, who may ask it, and what everybody sees.
//!
//! Objects hold no state. They show the views that the [`publish::Publisher`] was given, and hand every wish to the
//! daemon as a [`Call`]; the answer comes back after the change that it speaks of has been published. No object decides
//! anything, no object waits for anything but its own answer.

pub mod client;
pub mod describe;
pub mod error;
pub mod publish;

mod arguments;
mod board;
mod caller;
pub mod guard;
mod incident;
mod job;
mod log_control;
mod manager;
mod notice;
pub mod path;
pub mod unit;
mod worker;

#[cfg(test)]
mod tests;

use self::board::Board;
use self::error::ApiError;
use self::guard::Guard;
use crate::engine::cause::Cause;
use crate::engine::event::{Answer, Caller, Definition, Refusal, Request};
use crate::engine::ids::{HoldId, IncidentId, WorkerName};
use crate::engine::policy::UnitPattern;
use crate::engine::saved::SavedNotice;
use crate::engine::source::Reading;
use crate::engine::time::{Mono, Wall};
use crate::engine::view::IncidentView;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for the daemon; one more is answered with `Busy`.
pub const CALLS_MAX: usize = 256;

/// What the objects ask of the daemon.
#[derive(Debug)]
pub enum Call {
    /// The engine decides.
    Ask { caller: Caller, request: Box<Request>, answer: Reply },
    /// As [`Request::Run`], with the policy as it was written.
    Run {
        caller: Caller,
        name: Option<WorkerName>,
        definition: Definition,
        policy_pairs: Vec<(String, String)>,
        answer: Reply,
    },
    /// As [`Request::Adopt`], with the policy as it was written.
    Adopt { caller: Caller, unit: WorkerName, policy_pairs: Vec<(String, String)>, answer: Reply },
    /// Incidents from the store, newest first; the error is a sentence.
    Incidents { filter: IncidentFilter, answer: oneshot::Sender<Result<Vec<IncidentView>, String>> },
    /// The notices that are kept, oldest first.
    Notices { answer: oneshot::Sender<Vec<SavedNotice>> },
    /// Reads the configuration anew.
    Reload { dry_run: bool, caller: Caller, answer: oneshot::Sender<Result<Vec<PlanRow>, ApiError>> },
    /// The worker itself reported progress; nobody waits.
    Beat { worker: WorkerName, reading: Reading },
    /// The log level is this from now on; nobody waits.
    LogLevel(LogLevel),
}

/// Answers one call, once; a caller that is not answered hears that the daemon is stopping.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Result<Answer, ApiError>>);

impl Reply {
    /// A reply and the place where it arrives.
    pub fn channel() -> (Reply, oneshot::Receiver<Result<Answer, ApiError>>) {
        let (sender, receiver) = oneshot::channel();
        (Reply(sender), receiver)
    }

    /// Answers with what the engine decided. Use [`publish::Publication::replies`] where the answer speaks of a change.
    pub fn send(self, result: Result<Answer, Refusal>) {
        // A caller that has left does not need its answer.
        let _ = self.0.send(result.map_err(ApiError::from));
    }

    /// Answers a call that does not get as far as the engine.
    pub fn fail(self, error: ApiError) {
        let _ = self.0.send(Err(error));
    }
}

/// Which incidents are wanted; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    pub worker: Option<UnitPattern>,
    pub cause: Option<Cause>,
    /// Opened then or later.
    pub since: Wall,
    /// `true`: only open ones; `false`: only closed ones.
    pub open: Option<bool>,
    pub id: Option<IncidentId>,
    /// At most so many, the newest.
    pub limit: u32,
}

/// One line of what a reload changes, or of what is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanRow {
    /// `change` is `add`, `remove`, `change` or `unchanged`.
    Unit { unit: String, change: &'static str, keys: Vec<String>, text: String },
    /// `change` is `warning` or `error`, or `change` where other settings or rules come into force.
    File { file: String, change: &'static str, text: String },
}

/// What the daemon is; it does not change while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub version: String,
    pub features: Vec<String>,
    /// Where log lines go: `journal` or `console`, in the words of org.freedesktop.LogControl1(5).
    pub log_target: String,
    pub log_level: LogLevel,
}

/// The levels of org.freedesktop.LogControl1(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Emerg,
    Alert,
    Crit,
    Err,
    Warning,
    Notice,
    #[default]
    Info,
    Debug,
}

impl LogLevel {
    pub const ALL: &[LogLevel] = &[
        LogLevel::Emerg,
        LogLevel::Alert,
        LogLevel::Crit,
        LogLevel::Err,
        LogLevel::Warning,
        LogLevel::Notice,
        LogLevel::Info,
        LogLevel::Debug,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Emerg => "emerg",
            LogLevel::Alert => "alert",
            LogLevel::Crit => "crit",
            LogLevel::Err => "err",
            LogLevel::Warning => "warning",
            LogLevel::Notice => "notice",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }

    pub fn parse(text: &str) -> Option<LogLevel> {
        LogLevel::ALL.iter().copied().find(|level| level.as_str() == text)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What all objects share.
struct Desk {
    about: About,
    guard: Guard,
    board: Board,
    calls: mpsc::Sender<Call>,
    locks: mpsc::Sender<Lock>,
}

/// A hold that lives as long as the other end of the pipe is open somewhere.
struct Lock {
    hold: HoldId,
    caller: Caller,
    pipe: pipe::Receiver,
}

impl Desk {
    /// Hands a call to the daemon without waiting.
    fn send(&self, call: Call) -> Result<(), ApiError> {
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ApiError::Busy(format!("watcherd is busy: {CALLS_MAX} calls are waiting"))
            }
            mpsc::error::TrySendError::Closed(_) => ApiError::stopping(),
        })
    }

    async fn ask(&self, caller: Caller, request: Request) -> Result<Answer, ApiError> {
        let request = Box::new(request);
        self.ask_with(|answer| Call::Ask { caller, request, answer }).await
    }

    async fn ask_with(&self, call: impl FnOnce(Reply) -> Call) -> Result<Answer, ApiError> {
        let (reply, answer) = Reply::channel();
        self.send(call(reply))?;
        answer.await.unwrap_or_else(|_| Err(ApiError::stopping()))
    }
}

type SharedDesk = Arc<Desk>;

fn usec(at: Wall) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

fn usec_mono(at: Mono) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
