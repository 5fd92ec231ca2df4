// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a notice says, and where notices go.

use super::cause::Cause;
use super::ids::{IncidentId, NoticeId, WorkerName};
use super::policy::{BackOff, CommandLine};
use super::time::Wall;
use super::view::{IncidentResult, NoticeStage};
use std::sync::Arc;
use std::time::Duration;

/// One message about an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub id: NoticeId,
    pub stage: NoticeStage,
    /// Nothing more is tried: a person has to act.
    pub is_final: bool,
    /// `None` in a test, as is the worker.
    pub incident: Option<IncidentId>,
    pub worker: Option<WorkerName>,
    pub cause: Cause,
    /// In percent.
    pub confidence: u8,
    /// How the incident ended; `None` while it is open.
    pub result: IncidentResult,
    /// When the run failed.
    pub opened: Wall,
    /// When the worker is started again; never, if that is not planned.
    pub retry_at: Wall,
    /// What happened, in one sentence.
    pub text: String,
    /// What happens next, or what to do.
    pub next: String,
    /// The lines that prove the cause, strongest first.
    pub lines: Vec<String>,
    /// As many of the same were not sent since the last one.
    pub repeats: u32,
}

/// A notice on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub notice: Notice,
    /// Counts from 1; from the second one on an earlier one may have arrived without our knowing.
    pub attempt: u32,
    pub ways: Ways,
}

/// How notices leave; the first way that there is counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// There is a configuration of apprise.
    pub apprise: bool,
    /// Mail to this address.
    pub mail: Option<Arc<str>>,
    /// A program that reads the notice.
    pub command: Option<CommandLine>,
    /// Shown on the desktop too.
    pub desktop: bool,
}

impl Ways {
    pub fn is_any(&self) -> bool {
        self.apprise || self.mail.is_some() || self.command.is_some() || self.desktop
    }
}

/// Who hears of incidents, and how often (`[notify]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeSettings {
    /// The stages that are worth a notice.
    pub on: Vec<NoticeStage>,
    pub ways: Ways,
    /// Notices per hour in all.
    pub per_hour: u32,
    /// Notices per hour about one worker.
    pub per_worker: u32,
    /// The same about the same worker is sent again only after so long.
    pub dedupe: Duration,
    /// The pauses before a notice that could not be sent is tried again.
    pub retry: BackOff,
    /// After so long it is given up.
    pub give_up_after: Duration,
}

impl Default for NoticeSettings {
    fn default() -> NoticeSettings {
        NoticeSettings {
            on: vec![NoticeStage::Opened, NoticeStage::Final, NoticeStage::Closed],
            ways: Ways::default(),
            per_hour: 20,
            per_worker: 6,
            dedupe: Duration::from_secs(600),
            retry: BackOff { first: Duration::from_secs(10), cap: Duration::from_secs(1800) },
            give_up_after: Duration::from_secs(86_400),
        }
    }
}
