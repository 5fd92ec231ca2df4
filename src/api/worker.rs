// SPDX-License-Identifier: MIT OR Apache-2.0
//! org.watcherd1.Worker: one supervised unit.

use super::board::Shown;
use super::client::Dict;
use super::error::ApiError;
use super::publish::Published;
use super::{Call, SharedDesk, arguments, micros, path, usec, usec_mono};
use crate::engine::event::Request;
use crate::engine::view::{SourceView, WarningView, WorkerView};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath};

pub struct Worker {
    desk: SharedDesk,
    shown: Shown<WorkerView>,
}

impl Published for Worker {
    type View = WorkerView;

    const QUIET: &[&str] = &[
        "Rate",
        "EtaUSec",
        "EtaSpreadUSec",
        "StallDeadlineTimestamp",
        "StallDeadlineTimestampMonotonic",
        "SourceTimestamps",
        "Values",
        "DowntimeUSec",
        "Warnings",
    ];
    const INVALIDATED: &[&str] = &["Policy"];

    fn new(desk: SharedDesk, shown: Shown<WorkerView>) -> Worker {
        Worker { desk, shown }
    }

    fn path(view: &WorkerView) -> OwnedObjectPath {
        path::worker(&view.name)
    }

    fn differing(before: &WorkerView, after: &WorkerView) -> Option<Vec<&'static str>> {
        let (a, b) = (before, after);
        let progress = |view: &WorkerView| view.progress.clone().unwrap_or_default();
        let (was, is) = (progress(a), progress(b));
        let sources = |view: &WorkerView| -> Vec<(&'static str, bool, String)> {
            view.sources.iter().map(|source| (source.key, source.readable, source.text.clone())).collect()
        };
        let all = [
            ("Origin", a.origin != b.origin),
            ("Phase", a.phase != b.phase),
            ("PhaseReason", a.reason != b.reason),
            ("PhaseTimestamp", a.since != b.since),
            ("Cause", a.cause != b.cause),
            ("Incident", a.incident != b.incident),
            ("MainPID", a.main_pid != b.main_pid),
            ("InvocationID", a.invocation != b.invocation),
            ("ProgressValue", was.value != is.value),
            ("ProgressTotal", was.total != is.total),
            ("ProgressTimestamp", was.at != is.at),
            ("ProgressTimestampMonotonic", was.at_mono != is.at_mono),
            ("Sources", sources(a) != sources(b)),
            ("Attempts", a.attempts != b.attempts),
            ("BudgetLeft", a.budget_left != b.budget_left),
            ("NextAction", a.next_action != b.next_action),
            ("NextActionTimestamp", a.next_action_at != b.next_action_at),
            ("NextActionTimestampMonotonic", a.next_action_at_mono != b.next_action_at_mono),
            ("Held", a.held != b.held),
            ("Parameters", a.parameters != b.parameters),
            ("IntendedUp", a.intended_up != b.intended_up),
            ("NRuns", a.runs != b.runs),
            ("Policy", !Arc::ptr_eq(&a.policy, &b.policy) && a.policy != b.policy),
        ];
        Some(all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect())
    }
}

impl Worker {
    fn view(&self) -> Arc<WorkerView> {
        self.shown.view()
    }
}

#[zbus::interface(name = "org.watcherd1.Worker")]
impl Worker {
    /// Reports progress. The caller must be a process of the worker's own unit. Values: `total` t, where the count ends;
    /// `cursor` s, what the work is about; `stage` s, which part of it; any other name with a number, for rules and for people.
    async fn beat(
        &self,
        count: u64,
        values: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let reading = arguments::beat(count, values)?;
        let worker = self.view().name.clone();
        self.desk.guard.admit_own_unit(connection, &header, &worker).await?;
        self.desk.send(Call::Beat { worker, reading })
    }

    /// Lifts the quarantine, so that the worker may be started again.
    async fn reset_quarantine(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let worker = self.view().name.clone();
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&worker)).await?;
        self.desk.ask(caller, Request::ResetQuarantine(worker)).await.map(drop)
    }

    /// Stops the worker and makes no further attempt until somebody lifts the quarantine.
    async fn quarantine(
        &self,
        why: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let why = arguments::text("the reason", why)?;
        let worker = self.view().name.clone();
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&worker)).await?;
        self.desk.ask(caller, Request::Quarantine { worker, why }).await.map(drop)
    }

    /// Changes a parameter within what the policy allows, for the next start; an empty value gives it back to the unit.
    async fn set_parameter(
        &self,
        name: String,
        value: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let (name, value) = (arguments::text("the name", name)?, arguments::text("the value", value)?);
        let worker = self.view().name.clone();
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&worker)).await?;
        let value = Some(value).filter(|value| !value.is_empty());
        self.desk.ask(caller, Request::SetParameter { worker, name, value }).await.map(drop)
    }

    /// The unit's name, with its node in front where it has one.
    #[zbus(property(emits_changed_signal = "const"))]
    fn unit(&self) -> String {
        self.view().name.to_string()
    }

    /// The pool that the worker belongs to; empty if it is in none.
    #[zbus(property(emits_changed_signal = "const"))]
    fn pool(&self) -> &'static str {
        ""
    }

    /// Where the worker comes from: `policy`, `adopted` or `run`.
    #[zbus(property)]
    fn origin(&self) -> &'static str {
        self.view().origin
    }

    /// `inactive`, `queued`, `starting`, `warming`, `working`, `idle`, `stalled`, `failed`, `recovering`, `verifying`,
    /// `held`, `paused`, `quarantined` or `completed`. More may come: treat an unknown one as "other".
    #[zbus(property)]
    fn phase(&self) -> &'static str {
        self.view().phase.as_str()
    }

    /// Why it is in this phase, for people; may be empty.
    #[zbus(property)]
    fn phase_reason(&self) -> String {
        self.view().reason.clone()
    }

    /// Since when it is in this phase, in µs since 1970.
    #[zbus(property)]
    fn phase_timestamp(&self) -> u64 {
        usec(self.view().since)
    }

    /// The cause of the most recent failed run; empty if there is none.
    #[zbus(property)]
    fn cause(&self) -> &'static str {
        self.view().cause.map_or("", |cause| cause.as_str())
    }

    /// The open incident; `/` if there is none.
    #[zbus(property)]
    fn incident(&self) -> OwnedObjectPath {
        self.view().incident.map_or_else(path::none, path::incident)
    }

    /// 0 if no process runs.
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.view().main_pid
    }

    /// systemd's identifier of the current or last run: 16 bytes, or none.
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        self.view().invocation.map(|id| id.0.to_vec()).unwrap_or_default()
    }

    #[zbus(property)]
    fn progress_value(&self) -> u64 {
        self.view().progress.as_ref().map_or(0, |progress| progress.value)
    }

    /// 0 if unknown.
    #[zbus(property)]
    fn progress_total(&self) -> u64 {
        self.view().progress.as_ref().map_or(0, |progress| progress.total)
    }

    /// When the value last moved, in µs since 1970; 0 if it never did.
    #[zbus(property)]
    fn progress_timestamp(&self) -> u64 {
        self.view().progress.as_ref().map_or(0, |progress| usec(progress.at))
    }

    /// The same on CLOCK_MONOTONIC.
    #[zbus(property)]
    fn progress_timestamp_monotonic(&self) -> u64 {
        self.view().progress.as_ref().map_or(0, |progress| usec_mono(progress.at_mono))
    }

    /// Progress per second; 0 if unknown.
    #[zbus(property(emits_changed_signal = "false"))]
    fn rate(&self) -> f64 {
        self.view().progress.as_ref().map_or(0.0, |progress| progress.rate)
    }

    /// The time left at this rate; 0 if unknown.
    #[zbus(property(emits_changed_signal = "false"), name = "EtaUSec")]
    fn eta_usec(&self) -> u64 {
        self.view().progress.as_ref().map_or(0, |progress| micros(progress.time_left))
    }

    /// How far off that may be, at 95 % confidence; 0 if unknown.
    #[zbus(property(emits_changed_signal = "false"), name = "EtaSpreadUSec")]
    fn eta_spread_usec(&self) -> u64 {
        self.view().progress.as_ref().map_or(0, |progress| micros(progress.time_left_spread))
    }

    /// When it is called stalled unless it makes progress before, in µs since 1970; 0 if nothing is expected of it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn stall_deadline_timestamp(&self) -> u64 {
        usec(self.view().stall_at)
    }

    /// The same on CLOCK_MONOTONIC.
    #[zbus(property(emits_changed_signal = "false"))]
    fn stall_deadline_timestamp_monotonic(&self) -> u64 {
        usec_mono(self.view().stall_at_mono)
    }

    /// Where its progress is read: the key of the policy, whether it can be read, and if not, why.
    #[zbus(property)]
    fn sources(&self) -> Vec<(String, bool, String)> {
        let row = |source: &SourceView| (source.key.to_owned(), source.readable, source.text.clone());
        self.view().sources.iter().map(row).collect()
    }

    /// When each source that can be read said something new, in µs since 1970.
    #[zbus(property(emits_changed_signal = "false"))]
    fn source_timestamps(&self) -> Vec<(String, u64)> {
        let view = self.view();
        let readable = view.sources.iter().filter(|source| source.readable);
        readable.map(|source| (source.key.to_owned(), usec(source.at))).collect()
    }

    /// What the last readings said, by name.
    #[zbus(property(emits_changed_signal = "false"))]
    fn values(&self) -> HashMap<String, f64> {
        self.view().values.clone().into_iter().collect()
    }

    /// Attempts since the worker was last healthy.
    #[zbus(property)]
    fn attempts(&self) -> u32 {
        self.view().attempts
    }

    /// Attempts that the budget still allows in its window.
    #[zbus(property)]
    fn budget_left(&self) -> u32 {
        self.view().budget_left
    }

    /// What happens next by itself: `restart`, `close-incident`, `kill`; empty if nothing is planned.
    #[zbus(property)]
    fn next_action(&self) -> &'static str {
        self.view().next_action
    }

    /// When that happens, in µs since 1970; 0 if nothing is planned.
    #[zbus(property)]
    fn next_action_timestamp(&self) -> u64 {
        usec(self.view().next_action_at)
    }

    /// The same on CLOCK_MONOTONIC.
    #[zbus(property)]
    fn next_action_timestamp_monotonic(&self) -> u64 {
        usec_mono(self.view().next_action_at_mono)
    }

    /// Whether a hold keeps watcherd from touching it.
    #[zbus(property)]
    fn held(&self) -> bool {
        self.view().held
    }

    /// What remedies may change in its environment: the name, the value from the next start on, and the value that the unit
    /// has by itself.
    #[zbus(property)]
    fn parameters(&self) -> Vec<(String, String, String)> {
        self.view().parameters.clone()
    }

    /// Whether it should be running: false once a person stopped it or its work is done.
    #[zbus(property)]
    fn intended_up(&self) -> bool {
        self.view().intended_up
    }

    /// Runs seen since the worker is supervised.
    #[zbus(property, name = "NRuns")]
    fn n_runs(&self) -> u64 {
        self.view().runs
    }

    /// Time spent failed, from the end of a run to the next start.
    #[zbus(property(emits_changed_signal = "false"), name = "DowntimeUSec")]
    fn downtime_usec(&self) -> u64 {
        micros(self.view().downtime)
    }

    /// Signs of trouble in the current run: cause, how many, when the first and the newest were seen (µs since 1970).
    #[zbus(property(emits_changed_signal = "false"))]
    fn warnings(&self) -> Vec<(String, u64, u64, u64)> {
        let row = |w: &WarningView| (w.cause.to_string(), w.count, usec(w.first), usec(w.last));
        self.view().warnings.iter().map(row).collect()
    }

    /// The settings in force: key, value and the line that set it. Command lines, and addresses with a query, are there
    /// only for callers that may read them, see org.watcherd1.view-details; GetManagedObjects has them for nobody.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn policy(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Vec<(String, String, String)> {
        let view = self.view();
        let is_public = |row: &&(String, String, String)| !is_private(&row.0, &row.1);
        if view.policy.iter().all(|row| is_public(&row))
            || self.desk.guard.may_view(connection, header.as_ref(), &view.name).await
        {
            return view.policy.to_vec();
        }
        view.policy.iter().filter(is_public).cloned().collect()
    }
}

impl Worker {
    /// Whether the policy has settings that not everybody may read.
    pub(super) fn has_private(&self) -> bool {
        self.view().policy.iter().any(|row| is_private(&row.0, &row.1))
    }

    /// All settings, as in the property `Policy`.
    pub(super) fn whole_policy(&self) -> Value {
        self.view().policy.iter().map(|(key, value, from)| Value::from(vec![&**key, &**value, &**from])).collect()
    }
}

/// Whether a setting is a command line, or an address with what may be a key in its query.
fn is_private(key: &str, value: &str) -> bool {
    match key {
        "progress.command" | "restart.then" | "restart.dump-command" | "checkpoints.verify" => value.starts_with('['),
        "progress.http" => value.contains('?'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_queries_are_private_and_nothing_else_is() {
        let cases = [
            ("restart.then", "[\"curl\", \"http://h/?token=x\"]", true),
            ("checkpoints.verify", "[\"/opt/check\"]", true),
            ("checkpoints.verify", "\"auto\"", false),
            ("progress.http", "\"http://h/x?key=y\"", true),
            ("progress.http", "\"http://h/x\"", false),
            ("progress.file", "\"/srv/[x].json\"", false),
        ];
        for (key, value, expected) in cases {
            assert_eq!(is_private(key, value), expected, "{key} = {value}");
        }
    }
}
