// SPDX-License-Identifier: MIT OR Apache-2.0
//! What others may see: plain values, taken after a step. D-Bus objects show these and hold nothing of their own.

use super::cause::Cause;
use super::ids::{HoldId, IncidentId, InvocationId, JobId, WorkerName};
use super::time::{Mono, Wall};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum View {
    Manager(ManagerView),
    Worker(WorkerView),
    Incident(IncidentView),
    Job(JobView),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagerView {
    pub workers: u32,
    pub incidents_open: u32,
    pub holds: Vec<HoldView>,
    pub dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldView {
    pub id: HoldId,
    pub workers: Vec<WorkerName>,
    pub who: String,
    pub why: String,
    /// When it ends by itself; `Wall::NEVER` if it does not.
    pub until: Wall,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    pub name: WorkerName,
    pub phase: Phase,
    /// Why it is in this phase, as a sentence fragment; may be empty.
    pub reason: String,
    /// Since when it is in this phase.
    pub since: Wall,
    /// Where the worker comes from: `policy`, `adopted` or `run`.
    pub origin: &'static str,
    /// The cause of the most recent failed run, if it is not yet forgotten.
    pub cause: Option<Cause>,
    /// The open incident.
    pub incident: Option<IncidentId>,
    pub main_pid: u32,
    pub invocation: Option<InvocationId>,
    pub progress: Option<ProgressView>,
    /// Attempts since the worker was last healthy.
    pub attempts: u32,
    /// Attempts that the budget still allows in its window.
    pub budget_left: u32,
    /// What happens next by itself: `restart`, `close-incident`, `kill`; empty if nothing is planned.
    pub next_action: &'static str,
    pub next_action_at: Wall,
    pub next_action_at_mono: Mono,
    pub held: bool,
    /// Name, the value from the next start on, and the one that the unit has by itself, of every declared parameter.
    pub parameters: Vec<(String, String, String)>,
    /// Runs seen since the worker is supervised.
    pub runs: u64,
    /// Time spent failed, from the end of a run to the next start.
    pub downtime: Duration,
    /// Whether a clean end, or a person, finished the work.
    pub intended_up: bool,
    /// When it is called stalled unless it makes progress before; `Wall::NEVER` if nothing is expected.
    pub stall_at: Wall,
    pub stall_at_mono: Mono,
    /// Where its progress is read.
    pub sources: Vec<SourceView>,
    /// What the last readings said, by name.
    pub values: BTreeMap<String, f64>,
    /// Signs of trouble in the current run, by cause.
    pub warnings: Vec<WarningView>,
    /// The policy in short: key and value and the line that set it.
    pub policy: PolicyRows,
}

/// Key, value, and the line that set it.
pub type PolicyRows = Arc<[(String, String, String)]>;

/// One source of a worker's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// The key that configures it.
    pub key: &'static str,
    pub readable: bool,
    /// Why it cannot be read.
    pub text: String,
    /// When it was read last; `Wall::NEVER` if it cannot be.
    pub at: Wall,
}

/// Signs of one cause in a run that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarningView {
    pub cause: Cause,
    pub count: u64,
    pub first: Wall,
    pub last: Wall,
    /// The newest sign, with its source.
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgressView {
    pub value: u64,
    /// Zero if unknown.
    pub total: u64,
    pub at: Wall,
    pub at_mono: Mono,
    /// Per second, over the last readings; zero if unknown.
    pub rate: f64,
    /// Zero if unknown.
    pub time_left: Duration,
    /// How far off that may be, at 95 % confidence; zero if unknown.
    pub time_left_spread: Duration,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            pub fn parse(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// Where a worker is in its life.
    Phase {
        Inactive "inactive",
        Queued "queued",
        Starting "starting",
        Warming "warming",
        Working "working",
        Idle "idle",
        Stalled "stalled",
        Failed "failed",
        Recovering "recovering",
        Verifying "verifying",
        Held "held",
        Paused "paused",
        Quarantined "quarantined",
        Completed "completed",
    }
}

words! {
    /// Where an incident is in its life.
    IncidentState {
        Open "open",
        Recovering "recovering",
        Verifying "verifying",
        Closed "closed",
    }
}

words! {
    /// How an incident ended.
    IncidentResult {
        None "",
        Recovered "recovered",
        FailedAgain "failed-again",
        Quarantined "quarantined",
        Stopped "stopped",
        Ignored "ignored",
        DryRun "dry-run",
        ClosedByHand "closed-by-hand",
        Forgotten "forgotten",
        RecoveredUnseen "recovered-unseen",
        Completed "completed",
    }
}

words! {
    /// What a notice speaks of.
    NoticeStage {
        Opened "opened",
        /// What was hoped for when it was opened will not be: a person has to act.
        Final "final",
        Closed "closed",
        Test "test",
    }
}

words! {
    /// What became of a notice.
    NoticeState {
        Waiting "waiting",
        Sent "sent",
        /// The same was sent a short while ago.
        Repeated "repeated",
        /// It could not be sent before there was newer news about its incident.
        Replaced "replaced",
        /// It could not be sent, and is not tried any more.
        Lost "lost",
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentView {
    pub id: IncidentId,
    pub worker: WorkerName,
    /// The failed run.
    pub run: Option<InvocationId>,
    pub cause: Cause,
    /// In percent.
    pub confidence: u8,
    /// The facts that prove the cause, strongest first.
    pub because: Vec<String>,
    /// What only followed from it.
    pub cascade: Vec<String>,
    /// When the run failed.
    pub opened: Wall,
    /// When watcherd knew.
    pub detected: Wall,
    /// When it was decided what to do; never, if nothing was.
    pub decided: Wall,
    /// When the next run started; never, if none did.
    pub started: Wall,
    /// When that run counted as healthy; never, if it did not.
    pub recovered: Wall,
    pub closed: Wall,
    pub state: IncidentState,
    pub result: IncidentResult,
    pub remedies: Vec<RemedyView>,
    /// The incident that stands for this one: many workers failed of one cause at once.
    pub part_of: Option<IncidentId>,
    /// The workers of the incidents that this one stands for.
    pub members: Vec<WorkerName>,
    /// One sentence for people.
    pub text: String,
}

/// What was done about an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemedyView {
    /// `restart`, `hold`, `quarantine`, `stop`, `ignore`.
    pub action: &'static str,
    pub at: Wall,
    /// The policy line that chose it.
    pub by: String,
    /// `done`, `failed: …`, `would`, or empty while it is under way.
    pub outcome: String,
}

impl RemedyView {
    /// The words of `action`; a word that is not among them is read as `other`.
    pub const ACTIONS: [&str; 11] =
        ["restart", "hold", "quarantine", "stop", "ignore", "kill", "pause", "change", "undo", "follow-up", "other"];

    /// Reads a word of `action`.
    pub fn known_action(word: &str) -> &'static str {
        RemedyView::ACTIONS.into_iter().find(|known| *known == word).unwrap_or("other")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    pub id: JobId,
    pub kind: &'static str,
    pub worker: WorkerName,
    /// `waiting`, `running` or `finished`.
    pub state: &'static str,
    /// `done`, `failed`, `canceled`, `timeout`; empty until it is finished.
    pub result: &'static str,
    /// Why it failed, for people.
    pub detail: String,
}
