// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must survive the end of the daemon: plain values that the store writes row by row.

use super::cause::Cause;
use super::event::Definition;
use super::ids::{HoldId, IncidentId, InvocationId, WorkerName};
use super::notice::Notice;
use super::parameter::Tuning;
use super::policy::Layer;
use super::recurrence::Recurrence;
use super::time::{Mono, Now, Wall};
use super::until::Until;
use super::view::{IncidentView, NoticeState, Phase};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything at once, as read at start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Both clocks when the newest row was written.
    pub clock: Now,
    /// Whether the machine was not booted since; otherwise monotonic times are moved over by the wall clock.
    pub same_boot: bool,
    /// When the watcherd before this one ended; never if that is not known.
    pub away: Wall,
    pub workers: Vec<SavedWorker>,
    pub holds: Vec<SavedHold>,
    pub progress: Vec<SavedProgress>,
    pub notices: Vec<SavedNotice>,
    /// The open ones, and the newest closed ones.
    pub incidents: Vec<IncidentView>,
    pub next_incident: u32,
    pub next_hold: u32,
}

/// One worker's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedWorker {
    pub name: WorkerName,
    pub origin: SavedOrigin,
    /// The phase when it was saved; the present one is worked out from what is seen.
    pub phase: Phase,
    /// Since when it is in that phase.
    pub since: Wall,
    /// What was said last about a worker that is down.
    pub remark: String,
    /// The run that was seen last, and whether it had ended.
    pub invocation: Option<InvocationId>,
    pub run_ended: bool,
    /// The last wall time up to which everything about the unit is known.
    pub seen: Wall,
    /// Whether the worker should be running; a stop by a person clears it.
    pub intended_up: bool,
    /// The work is done.
    pub completed: bool,
    /// Why it is quarantined, if it is.
    pub quarantine: Option<String>,
    pub paused: bool,
    /// The attempts within the budget's window, oldest first.
    pub attempts: Vec<Mono>,
    /// Attempts since the worker was last healthy; they set the back-off.
    pub failures: u32,
    /// The cause of the most recent failed run.
    pub cause: Option<Cause>,
    /// The open incident.
    pub incident: Option<IncidentId>,
    /// When the next restart is due, if one is planned or under way.
    pub restart_due: Option<Mono>,
    /// What was tried against its failures.
    pub remedies: SavedRemedies,
    pub runs: u64,
    pub downtime: Duration,
    pub finished: Wall,
}

impl SavedWorker {
    /// One of a policy of which nothing is known yet.
    pub fn new(name: WorkerName) -> SavedWorker {
        SavedWorker {
            name,
            origin: SavedOrigin::Policy,
            phase: Phase::Inactive,
            since: Wall::NEVER,
            remark: String::new(),
            invocation: None,
            run_ended: false,
            seen: Wall::NEVER,
            intended_up: false,
            completed: false,
            quarantine: None,
            paused: false,
            attempts: Vec::new(),
            failures: 0,
            cause: None,
            incident: None,
            restart_due: None,
            remedies: SavedRemedies::default(),
            runs: 0,
            downtime: Duration::ZERO,
            finished: Wall::NEVER,
        }
    }
}

/// What was tried against a worker's failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedRemedies {
    /// What is known about each cause.
    pub recurrences: Vec<(Cause, Recurrence)>,
    /// The farthest point at which a run has failed.
    pub failed_at: Option<u64>,
    /// The parameters that remedies have changed, and when they did last.
    pub tuning: Tuning,
    pub tuned: Option<Mono>,
    /// When the follow-up of its restart is due, and how often it has failed.
    pub follow_up: Option<(Mono, u32)>,
}

/// How far a worker is.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedProgress {
    pub worker: WorkerName,
    /// The run that made it; `None` if the one that is under way has not got anywhere yet.
    pub run: Option<InvocationId>,
    /// When the value moved last.
    pub at: Wall,
    pub value: u64,
    /// Zero if unknown.
    pub total: u64,
    /// What was learned about its pace, by stage.
    pub paces: Vec<(Arc<str>, SavedPace)>,
    /// What its sources said last, by name.
    pub values: BTreeMap<Arc<str>, f64>,
}

/// The gaps between steps of progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedPace {
    /// All gaps together.
    pub seen: Duration,
    /// The newest gaps, oldest first.
    pub gaps: Vec<Duration>,
    /// The longest gaps of earlier times.
    pub longest: Vec<Duration>,
}

/// Where a worker comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SavedOrigin {
    /// A policy file matches it.
    Policy,
    /// `watcherctl adopt`, with its own settings.
    Adopted(Layer),
    /// `watcherctl run`, with its own settings.
    Run(Definition, Layer),
}

/// A notice, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedNotice {
    pub notice: Notice,
    pub state: NoticeState,
    pub made: Wall,
    /// When it was sent first, if it was; that counts against the limits.
    pub begun: Wall,
    /// When it is sent next, while it waits.
    pub due: Wall,
    pub attempts: u32,
    /// It waits because the same was sent a short while ago.
    pub again: bool,
    /// Why it was not sent, as far as that is known.
    pub error: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedHold {
    pub id: HoldId,
    pub workers: Vec<WorkerName>,
    pub who: String,
    pub why: String,
    pub until: Option<Wall>,
    /// What else ends it, in the spelling of policy files.
    pub when: Option<Until>,
}
