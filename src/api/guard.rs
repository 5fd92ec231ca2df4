// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may do what: one table from member to rule. A member that is not in the table is denied to everybody.
//!
//! Every doubt is a denial: a caller that has left, a bus that does not answer, a polkit that is absent, slow or broken.

use super::caller;
use super::error::ApiError;
use super::unit::CallingUnit;
use crate::engine::event::Caller;
use crate::engine::ids::WorkerName;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;
use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus::proxy::CacheProperties;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

/// A person may have to find a password.
const DIALOG_TIMEOUT: Duration = Duration::from_secs(300);
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// zbus lets no object come or go while a property is being read or set.
const PROPERTY_TIMEOUT: Duration = Duration::from_secs(2);

/// Workers about which systemd is asked as whom they run, for one call.
const WORKERS_ASKED_MAX: usize = 64;

/// Members may read the journal, see systemd-journald.service(8), and so what of it is shown here.
const JOURNAL_GROUPS: [&str; 2] = ["systemd-journal", "adm"];

/// Whose daemon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// uid 0 may do everything, polkit decides about all others.
    System,
    /// Only this user may change anything.
    User { uid: u32 },
}

/// Decides whether a caller may use a member.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    mode: Mode,
}

macro_rules! actions {
    ($($variant:ident $id:literal;)*) => {
        /// The polkit actions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum PolkitAction { $($variant,)* }

        impl PolkitAction {
            pub const ALL: &[PolkitAction] = &[$(PolkitAction::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(PolkitAction::$variant => $id,)* }
            }
        }
    };
}

actions! {
    RunWorker "org.watcherd1.run-worker";
    ManageWorkers "org.watcherd1.manage-workers";
    AdoptWorker "org.watcherd1.adopt-worker";
    ForgetWorker "org.watcherd1.forget-worker";
    HoldWorkers "org.watcherd1.hold-workers";
    QuarantineWorkers "org.watcherd1.quarantine-workers";
    SetParameters "org.watcherd1.set-parameters";
    CloseIncidents "org.watcherd1.close-incidents";
    ReloadConfiguration "org.watcherd1.reload-configuration";
    TestNotices "org.watcherd1.test-notices";
    SetLogLevel "org.watcherd1.set-log-level";
    ViewDetails "org.watcherd1.view-details";
}

/// What a member demands of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Everybody may call it.
    Open,
    /// A process of the worker's own unit may call it, nobody else.
    OwnUnit,
    /// The action, and the verb that polkit's dialog shows.
    Needs(PolkitAction, &'static str),
}

const MANAGER: &str = "org.watcherd1.Manager";
const WORKER: &str = "org.watcherd1.Worker";
const INCIDENT: &str = "org.watcherd1.Incident";
const JOB: &str = "org.watcherd1.Job";
const LOG_CONTROL: &str = "org.freedesktop.LogControl1";

/// Every method and every writable property.
pub const TABLE: &[(&str, &str, Rule)] = &[
    (MANAGER, "GetWorker", Rule::Open),
    (MANAGER, "ListWorkers", Rule::Open),
    (MANAGER, "ListIncidents", Rule::Open),
    (MANAGER, "Describe", Rule::Open),
    (MANAGER, "ListNotices", Rule::Open),
    (MANAGER, "Run", Rule::Needs(PolkitAction::RunWorker, "run")),
    (MANAGER, "Adopt", Rule::Needs(PolkitAction::AdoptWorker, "adopt")),
    (MANAGER, "Forget", Rule::Needs(PolkitAction::ForgetWorker, "forget")),
    (MANAGER, "Start", Rule::Needs(PolkitAction::ManageWorkers, "start")),
    (MANAGER, "Stop", Rule::Needs(PolkitAction::ManageWorkers, "stop")),
    (MANAGER, "Restart", Rule::Needs(PolkitAction::ManageWorkers, "restart")),
    (MANAGER, "Pause", Rule::Needs(PolkitAction::ManageWorkers, "pause")),
    (MANAGER, "Resume", Rule::Needs(PolkitAction::ManageWorkers, "resume")),
    (MANAGER, "Hold", Rule::Needs(PolkitAction::HoldWorkers, "hold")),
    (MANAGER, "HoldLock", Rule::Needs(PolkitAction::HoldWorkers, "hold")),
    (MANAGER, "Release", Rule::Needs(PolkitAction::HoldWorkers, "release")),
    (MANAGER, "Reload", Rule::Needs(PolkitAction::ReloadConfiguration, "reload")),
    (MANAGER, "TestNotice", Rule::Needs(PolkitAction::TestNotices, "test-notice")),
    (WORKER, "Beat", Rule::OwnUnit),
    (WORKER, "Quarantine", Rule::Needs(PolkitAction::QuarantineWorkers, "quarantine")),
    (WORKER, "ResetQuarantine", Rule::Needs(PolkitAction::QuarantineWorkers, "reset")),
    (WORKER, "SetParameter", Rule::Needs(PolkitAction::SetParameters, "set-parameter")),
    (INCIDENT, "Close", Rule::Needs(PolkitAction::CloseIncidents, "close")),
    (JOB, "Cancel", Rule::Needs(PolkitAction::ManageWorkers, "cancel")),
    (LOG_CONTROL, "LogLevel", Rule::Needs(PolkitAction::SetLogLevel, "set-log-level")),
    (LOG_CONTROL, "LogTarget", Rule::Needs(PolkitAction::SetLogLevel, "set-log-target")),
];

impl Guard {
    pub fn new(mode: Mode) -> Guard {
        Guard { mode }
    }

    /// Lets everybody pass to a member that is open.
    pub(super) fn admit_all(&self, header: &Header<'_>) -> Result<(), ApiError> {
        match rule_of_call(header)? {
            Rule::Open => Ok(()),
            Rule::OwnUnit | Rule::Needs(..) => Err(denied("this call needs an authorisation")),
        }
    }

    /// Lets a caller pass that may use the called method on all of these workers; none is named where the method is
    /// about something else.
    pub(super) async fn admit(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        workers: &[WorkerName],
    ) -> Result<Caller, ApiError> {
        let Rule::Needs(action, verb) = rule_of_call(header)? else {
            return Err(denied("this call is not for callers with an authorisation"));
        };
        let uid = caller::uid(connection, header).await?;
        if !self.is_master(uid)? {
            let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
            let question = Question { action, verb, interactive };
            if workers.is_empty() {
                question.ask(connection, header, None).await?;
            }
            // One question per worker: a rule that looks at the name must see exactly one.
            for worker in workers {
                question.ask(connection, header, Some(worker)).await?;
            }
        }
        Ok(caller::named(uid).await)
    }

    /// Lets a caller pass that may set a property; there is no password dialog for properties.
    pub(super) async fn admit_set(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        interface: &str,
        property: &str,
    ) -> Result<(), ApiError> {
        let Rule::Needs(action, verb) = rule(interface, property)? else {
            return Err(denied("this property cannot be set"));
        };
        let check = async {
            let uid = caller::uid(connection, header).await?;
            if self.is_master(uid)? {
                return Ok(());
            }
            Question { action, verb, interactive: false }.ask(connection, header, None).await
        };
        tokio::time::timeout(PROPERTY_TIMEOUT, check).await.unwrap_or_else(|_| Err(denied("polkit does not answer")))
    }

    /// Whose lines of logs and command lines the caller may read. Nobody is asked for a password.
    pub(super) async fn sight<'a>(&self, connection: &'a Connection, header: &Header<'_>) -> Sight<'a> {
        let uid = caller::uid(connection, header).await.ok();
        let all = match uid {
            Some(uid) => self.may_view_all(connection, header, uid).await,
            None => false,
        };
        let uid = uid.filter(|_| matches!(self.mode, Mode::System));
        Sight { connection, all, uid, known: HashMap::new() }
    }

    /// Whether the caller of a property may read them of this worker; a call without a caller is everybody's.
    pub(super) async fn may_view(
        &self,
        connection: &Connection,
        header: Option<&Header<'_>>,
        worker: &WorkerName,
    ) -> bool {
        let Some(header) = header else { return false };
        let look = async { self.sight(connection, header).await.covers(worker).await };
        tokio::time::timeout(PROPERTY_TIMEOUT, look).await.unwrap_or(false)
    }

    async fn may_view_all(&self, connection: &Connection, header: &Header<'_>, uid: u32) -> bool {
        match self.is_master(uid) {
            Ok(true) => true,
            Ok(false) if caller::is_member_of_any(uid, &JOURNAL_GROUPS).await => true,
            Ok(false) => {
                let question = Question { action: PolkitAction::ViewDetails, verb: "view", interactive: false };
                question.ask(connection, header, None).await.is_ok()
            }
            Err(_) => false,
        }
    }

    /// Lets a process of the worker's own unit pass.
    pub(super) async fn admit_own_unit(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        worker: &WorkerName,
    ) -> Result<(), ApiError> {
        let Rule::OwnUnit = rule_of_call(header)? else {
            return Err(denied("this call is not for workers"));
        };
        let unit = caller::unit(connection, header).await?;
        if self.is_unit(&unit, worker) {
            return Ok(());
        }
        Err(denied(&format!("{worker}: only its own processes may report for it")))
    }

    /// Whether the caller needs no further authorisation.
    fn is_master(&self, uid: u32) -> Result<bool, ApiError> {
        match self.mode {
            Mode::System => Ok(uid == 0),
            Mode::User { uid: own } if uid == own => Ok(true),
            Mode::User { .. } => Err(denied("this watcherd belongs to another user")),
        }
    }

    fn is_unit(&self, unit: &CallingUnit, worker: &WorkerName) -> bool {
        match self.mode {
            Mode::System => unit.system.as_deref() == Some(worker.as_str()),
            Mode::User { uid: own } => {
                unit.user.as_ref().is_some_and(|(uid, name)| *uid == own && name == worker.as_str())
            }
        }
    }
}

/// Whose lines of logs and command lines a caller may read: root, members of the groups that may read the journal and
/// whom polkit allows it those of all workers; anybody else those of workers that run as that user.
pub(super) struct Sight<'a> {
    connection: &'a Connection,
    all: bool,
    /// `None`: systemd need not be asked.
    uid: Option<u32>,
    known: HashMap<WorkerName, bool>,
}

/// The same, found out when it is needed first, for all workers of one call; nobody waits longer for it than for a property.
pub(super) struct Glance<'a> {
    guard: &'a Guard,
    connection: &'a Connection,
    header: &'a Header<'a>,
    sight: Option<Sight<'a>>,
    until: Instant,
}

impl<'a> Glance<'a> {
    pub(super) fn new(guard: &'a Guard, connection: &'a Connection, header: &'a Header<'a>) -> Glance<'a> {
        Glance { guard, connection, header, sight: None, until: Instant::now() + PROPERTY_TIMEOUT }
    }

    pub(super) async fn covers(&mut self, worker: &WorkerName) -> bool {
        let look = async {
            if self.sight.is_none() {
                self.sight = Some(self.guard.sight(self.connection, self.header).await);
            }
            match &mut self.sight {
                Some(sight) => sight.covers(worker).await,
                None => false,
            }
        };
        tokio::time::timeout_at(self.until, look).await.unwrap_or(false)
    }
}

impl Sight<'_> {
    pub(super) async fn covers(&mut self, worker: &WorkerName) -> bool {
        if self.all {
            return true;
        }
        let Some(uid) = self.uid else { return false };
        if let Some(known) = self.known.get(worker) {
            return *known;
        }
        if self.known.len() == WORKERS_ASKED_MAX {
            return false;
        }
        let is_own = caller::runs_worker(self.connection, uid, worker).await;
        self.known.insert(worker.clone(), is_own);
        is_own
    }
}

fn rule_of_call(header: &Header<'_>) -> Result<Rule, ApiError> {
    match (header.interface(), header.member()) {
        (Some(interface), Some(member)) => rule(interface.as_str(), member.as_str()),
        _ => Err(denied("the call names no member")),
    }
}

/// Members that the table does not know are denied.
fn rule(interface: &str, member: &str) -> Result<Rule, ApiError> {
    let row = TABLE.iter().find(|row| row.0 == interface && row.1 == member);
    row.map(|row| row.2).ok_or_else(|| denied(&format!("{interface}.{member} is not open to anybody")))
}

/// What polkit is asked.
struct Question {
    action: PolkitAction,
    verb: &'static str,
    interactive: bool,
}

impl Question {
    async fn ask(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        worker: Option<&WorkerName>,
    ) -> Result<(), ApiError> {
        let limit = if self.interactive { DIALOG_TIMEOUT } else { CHECK_TIMEOUT };
        let check = self.check(connection, header, worker);
        tokio::time::timeout(limit, check).await.unwrap_or_else(|_| Err(self.denied("polkit does not answer")))
    }

    async fn check(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        worker: Option<&WorkerName>,
    ) -> Result<(), ApiError> {
        let subject = Subject::new_for_message_header(header).map_err(|error| self.denied(error))?;
        let authority = AuthorityProxy::builder(connection).cache_properties(CacheProperties::No).build().await;
        let authority = authority.map_err(|error| self.denied(error))?;
        let mut details = HashMap::from([("verb", self.verb)]);
        if let Some(worker) = worker {
            details.insert("worker", worker.as_str());
        }
        let flags = match self.interactive {
            true => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
            false => CheckAuthorizationFlags::empty(),
        };
        let answer = authority.check_authorization(&subject, self.action.as_str(), &details, flags, "").await;
        let answer = answer.map_err(|error| self.denied(error))?;
        if answer.is_authorized {
            return Ok(());
        }
        if answer.is_challenge && !self.interactive {
            let text = format!("interactive authentication is required for {}", self.action.as_str());
            return Err(ApiError::InteractiveAuthorizationRequired(text));
        }
        Err(self.denied("polkit says no"))
    }

    fn denied(&self, reason: impl fmt::Display) -> ApiError {
        denied(&format!("not authorised for {}: {reason}", self.action.as_str()))
    }
}

fn denied(text: &str) -> ApiError {
    ApiError::AccessDenied(text.to_owned())
}

#[cfg(test)]
mod tests;
