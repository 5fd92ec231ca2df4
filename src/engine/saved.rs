// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must survive the end of the daemon: plain values that the store writes row by row.

use super::cause::Cause;
use super::event::Definition;
use super::ids::{HoldId, IncidentId, InvocationId, WorkerName};
use super::policy::Layer;
use super::time::{Mono, Now, Wall};
use super::view::{IncidentView, Phase};
use std::time::Duration;

/// Everything at once, as read at start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Both clocks when the newest row was written.
    pub clock: Now,
    /// Whether the machine was not booted since; otherwise monotonic times are moved over by the wall clock.
    pub same_boot: bool,
    pub workers: Vec<SavedWorker>,
    pub holds: Vec<SavedHold>,
    pub progress: Vec<SavedProgress>,
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
    /// The phase when it was saved; used only to tell what happened meanwhile.
    pub phase: Phase,
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
    pub runs: u64,
    pub downtime: Duration,
    pub finished: Wall,
}

/// How far a worker is, and what was learned about its pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedProgress {
    pub worker: WorkerName,
    /// The run that made it.
    pub run: Option<InvocationId>,
    /// When the value moved last.
    pub at: Wall,
    pub value: u64,
    /// Zero if unknown.
    pub total: u64,
    pub pace: SavedPace,
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedHold {
    pub id: HoldId,
    pub workers: Vec<WorkerName>,
    pub who: String,
    pub why: String,
    pub until: Option<Wall>,
}
