// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that the engine can ask for. Adapters perform these; nothing else touches the world.

use super::Subject;
use super::cause::Cause;
use super::event::{Answer, Refusal, SharedDefinition};
use super::ids::{ActionId, IncidentId, InvocationId, ObjectId, RequestId, WorkerName};
use super::notice::Delivery;
use super::policy::{CommandLine, UnitPattern};
use super::source::{Capture, Sources};
use super::time::Wall;
use super::until::Until;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What follows from one event: do `actions` in order, publish and save `changes`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    pub actions: Vec<Action>,
    pub changes: BTreeSet<ObjectId>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Start(ActionId, WorkerName, Start),
    Stop(ActionId, WorkerName),
    /// Sends a signal to every process of the unit.
    Kill(ActionId, WorkerName, i32),
    Freeze(ActionId, WorkerName, Freezer),
    Thaw(ActionId, WorkerName, Freezer),
    /// Asks the journal which runs of the unit ended since then; answered with `Outcome::Past`.
    LookBack(ActionId, WorkerName, Wall),
    /// Asks for everything that is known about a failed run; answered with `Event::Examined`.
    Examine(IncidentId, Subject),
    /// Asks which of these main processes is writing its core; answered with `Event::Dumping` for each that does.
    FindDumping(Vec<(WorkerName, u32)>),
    /// Reads the worker's progress from here on; no probes: not any more.
    Follow(WorkerName, Arc<Sources>),
    /// Asks how the worker with this main process uses its machine; answered with `Outcome::Activity`.
    Look(ActionId, WorkerName, u32),
    /// Saves what can be known about the processes of the worker, then sends the signal that makes it dump its stacks.
    Capture(ActionId, WorkerName, Capture),
    /// From the next start on, whoever starts it, the unit has these variables; `None`: it has nothing of ours any more.
    Equip(WorkerName, Option<Arc<Exports>>),
    /// Runs a command of the policy in a sandbox of its own; answered with `Outcome::Ok` if it succeeds.
    Hook(ActionId, WorkerName, Hook),
    /// Tells from here on, as `Event::Until`, whether these hold; the whole set. Of a new one counts what has happened
    /// `since` then: a time of day may have passed while nobody watched.
    Await {
        conditions: BTreeSet<Until>,
        since: Wall,
    },
    /// Sends a notice; one that was sent already, as far as can be told, is not sent again.
    Notify(ActionId, Box<Delivery>),
    /// Tells the journal, for people and scripts.
    Record(Entry),
    Reply(RequestId, Result<Answer, Refusal>),
    /// The set of units to follow has changed.
    Watch(Interest),
}

/// How to start a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Identifies this run in the journal (`WATCHERD_RUN=`) where the unit is made anew for it.
    pub run: String,
    /// The unit is made from this; `None` starts a unit that exists.
    pub definition: Option<SharedDefinition>,
    /// Stop it first if it runs.
    pub restart: bool,
    /// Clear the unit's start counter first, so that StartLimitBurst= does not refuse the start.
    pub reset_failed: bool,
    /// Thaw it first, because it is frozen.
    pub thaw: bool,
    /// From SIGTERM to SIGKILL, for units that are made from a definition.
    pub grace: Duration,
    /// What is left of this run is ended first; what was found comes as `Event::Swept`.
    pub sweep: Option<InvocationId>,
    /// What the run is given besides its own environment; `None` if the policy says nothing of that kind.
    pub exports: Option<Arc<Exports>>,
    /// Nobody writes checkpoints meanwhile: broken ones are set aside before it starts, and surplus ones removed.
    pub tends_checkpoints: bool,
}

/// What a worker's runs are given besides the environment of the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// Names and values of environment variables.
    pub variables: Vec<(String, String)>,
    /// Where the newest valid checkpoint is looked for, which becomes `WATCHERD_RESUME_FROM`.
    pub checkpoints: Option<Arc<Checkpoints>>,
}

/// Where a worker keeps its checkpoints, and what is to be done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// A glob; each file or directory that matches is a checkpoint.
    pub path: Arc<str>,
    /// More valid ones than this are a finding.
    pub keep: Option<u32>,
    /// An older newest one is a finding.
    pub max_age: Option<Duration>,
    pub verify: Verify,
}

/// How it is found out whether a checkpoint is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// By what its kind of file says about itself.
    Auto,
    Off,
    /// By a command, which gets the path as its last argument and succeeds if it is whole.
    Command(CommandLine),
}

/// A command of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments; no shell reads them.
    pub argv: CommandLine,
    /// Names and values of environment variables.
    pub environment: Vec<(String, String)>,
    /// It is ended after so long.
    pub within: Duration,
}

/// How a worker is made to stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freezer {
    /// The cgroup freezer.
    Cgroup,
    /// SIGSTOP and SIGCONT, where there is no freezer.
    Signal,
}

/// The units to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Followed even while they are not loaded.
    pub names: BTreeSet<WorkerName>,
    pub globs: BTreeSet<UnitPattern>,
}

/// One line of the story, with what a script could want to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: EntryKind,
    pub worker: Option<WorkerName>,
    pub incident: Option<IncidentId>,
    pub cause: Option<Cause>,
    pub confidence: Option<u8>,
    pub remedy: Option<&'static str>,
    pub attempt: Option<u32>,
    pub run: Option<InvocationId>,
    pub caller: Option<u32>,
    /// The sentence for people.
    pub text: String,
}

impl Entry {
    /// The MESSAGE_ID: that of the cause for a verdict, else that of the kind.
    pub fn message_id(&self) -> &'static str {
        match (self.kind, self.cause) {
            (EntryKind::VerdictReached, Some(cause)) => cause.message_id(),
            (kind, _) => kind.message_id(),
        }
    }
}

macro_rules! entry_kinds {
    ($($(#[$doc:meta])* $variant:ident $level:ident $id:literal;)*) => {
        /// The types of journal entries; each has a MESSAGE_ID for ever and a catalog entry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EntryKind { $($(#[$doc])* $variant,)* }

        impl EntryKind {
            pub const ALL: &[EntryKind] = &[$(EntryKind::$variant,)*];

            /// The MESSAGE_ID in the journal.
            pub fn message_id(self) -> &'static str {
                match self { $(EntryKind::$variant => $id,)* }
            }

            pub fn level(self) -> Level {
                match self { $(EntryKind::$variant => Level::$level,)* }
            }
        }
    };
}

/// How loud an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

entry_kinds! {
    /// A worker is supervised from now on.
    WorkerAdded Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a501";
    /// A worker is not supervised any more.
    WorkerForgotten Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a502";
    /// A run failed.
    IncidentOpened Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a503";
    /// A worker has crashed and is writing its core.
    WritingCore Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a51b";
    /// A running worker shows signs of trouble.
    Warned Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a51a";
    /// A running worker gets nowhere.
    Stalled Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a51c";
    /// A worker that was called stalled makes progress.
    MovesAgain Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a51d";
    /// A source of progress cannot be read.
    SourceLost Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a51e";
    /// A source of progress can be read again.
    SourceBack Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a51f";
    /// How far a worker is.
    ProgressReport Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a520";
    /// Nothing is left to do for a worker that goes on running.
    WorkDone Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a521";
    /// Evidence was saved before a kill.
    EvidenceSaved Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a522";
    /// Not all evidence could be saved.
    EvidenceLost Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a523";
    /// What a failed run died of; the MESSAGE_ID is that of the cause.
    VerdictReached Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4b026";
    /// What to do about a failed run was decided when its verdict was there.
    RemedyChosen Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a519";
    /// A restart was decided.
    RestartScheduled Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a504";
    /// A restart was performed by systemd.
    RestartDone Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a505";
    /// Remedies have changed parameters of a worker, or taken a change back.
    ParametersChanged Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a530";
    /// The follow-up of a restart is done.
    FollowUpDone Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a531";
    /// The follow-up of a restart has failed.
    FollowUpFailed Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a532";
    /// Processes that a failed run had left behind were ended, or could not be.
    LeftoversEnded Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a533";
    /// The checkpoint that a run shall resume from was chosen.
    ResumeChosen Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a540";
    /// Checkpoints are not whole, or none can be used.
    CheckpointsBroken Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a541";
    /// Checkpoints that are not whole were set aside.
    CheckpointsSetAside Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a542";
    /// Checkpoints were removed, because there are enough newer ones.
    CheckpointsRemoved Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a543";
    /// Many workers failed of one cause at once.
    FailedTogether Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a534";
    /// A restart could not be performed.
    RestartFailed Error "8e3cdb5b1ea14d4e9b7b6ac1f8b4a506";
    /// The worker ran long enough after a restart.
    IncidentClosed Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a507";
    /// No further attempt will be made until somebody resets the worker.
    Quarantined Error "8e3cdb5b1ea14d4e9b7b6ac1f8b4a508";
    /// A quarantine was lifted.
    QuarantineReset Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a509";
    /// A hold was placed.
    Held Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a50a";
    /// A hold ended.
    Released Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a50b";
    /// The worker was made to stand still.
    Paused Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a50c";
    /// The worker runs on.
    Resumed Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a50d";
    /// The worker ended with success and is done.
    Completed Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a50e";
    /// Somebody stopped the worker; it stays down.
    StoppedOnPurpose Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a50f";
    /// A person asked for a change through watcherd.
    Requested Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a510";
    /// A dry run: what would have been done.
    WouldHave Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a511";
    /// The policy gives up on the worker and leaves it down.
    GaveUp Error "8e3cdb5b1ea14d4e9b7b6ac1f8b4a512";
    /// The unit cannot be started: it is masked, missing or not readable.
    NotStartable Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a513";
    /// The configuration was read.
    ConfigurationLoaded Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a514";
    /// A part of the configuration is not in force.
    ConfigurationRejected Error "8e3cdb5b1ea14d4e9b7b6ac1f8b4a515";
    /// A notice was sent.
    NoticeSent Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a560";
    /// A notice could not be sent yet.
    NoticeDelayed Warning "8e3cdb5b1ea14d4e9b7b6ac1f8b4a561";
    /// A notice will not be sent any more.
    NoticeLost Error "8e3cdb5b1ea14d4e9b7b6ac1f8b4a562";
    /// State cannot be saved.
    StoreFailed Error "8e3cdb5b1ea14d4e9b7b6ac1f8b4a516";
    /// State can be saved again.
    StoreWorksAgain Info "8e3cdb5b1ea14d4e9b7b6ac1f8b4a517";
}
