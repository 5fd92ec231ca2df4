// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon's D-Bus interfaces as its clients see them.
//!
//! The documented contract is dbus/*.xml; a test compares it with the running code.

use std::collections::HashMap;
use zbus::{ObjectPath, OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

/// The bus name, the root object and the prefix of all interfaces.
pub const BUS_NAME: &str = "org.watcherd1";
pub const ROOT: &str = "/org/watcherd1";

/// A hold: id, workers, who, why, until (µs since 1970, 0 for no end).
pub type HoldRow = (u32, Vec<String>, String, String, u64);
/// A worker: unit, phase, cause, reason, since (µs since 1970), path.
pub type WorkerRow = (String, String, String, String, u64, OwnedObjectPath);
/// A remedy: action, when (µs since 1970), the policy line that chose it, outcome.
pub type RemedyRow = (String, u64, String, String);
pub type Dict = HashMap<String, OwnedVariant>;

#[zbus::proxy(interface = "org.watcherd1.Manager", default_service = "org.watcherd1", default_path = "/org/watcherd1")]
pub trait Manager {
    fn get_worker(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_workers(&self) -> zbus::Result<Vec<WorkerRow>>;
    /// Filter keys: `worker` s (a unit name or glob), `cause` s, `since` t, `open` b, `id` u, `limit` u. Newest first.
    fn list_incidents(&self, filter: HashMap<&str, Variant<'_>>) -> zbus::Result<Vec<Dict>>;
    /// An empty name lets the daemon choose one. Unit properties are strings, or arrays of strings for lists.
    /// Policy keys are written `restart.budget` and the values are strings as in a policy file.
    #[zbus(allow_interactive_auth)]
    fn run(
        &self,
        name: &str,
        argv: &[&str],
        unit_properties: HashMap<&str, Variant<'_>>,
        policy: HashMap<&str, Variant<'_>>,
        flags: u64,
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn adopt(&self, unit: &str, policy: HashMap<&str, Variant<'_>>, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn forget(&self, name: &str) -> zbus::Result<()>;
    /// `flags`: 1 = dry run (checks, answers with no jobs).
    #[zbus(allow_interactive_auth)]
    fn start(&self, workers: &[&str], why: &str, flags: u64) -> zbus::Result<Vec<OwnedObjectPath>>;
    #[zbus(allow_interactive_auth)]
    fn stop(&self, workers: &[&str], why: &str, flags: u64) -> zbus::Result<Vec<OwnedObjectPath>>;
    #[zbus(allow_interactive_auth)]
    fn restart(&self, workers: &[&str], why: &str, flags: u64) -> zbus::Result<Vec<OwnedObjectPath>>;
    #[zbus(allow_interactive_auth)]
    fn pause(&self, workers: &[&str], why: &str, flags: u64) -> zbus::Result<Vec<OwnedObjectPath>>;
    #[zbus(allow_interactive_auth)]
    fn resume(&self, workers: &[&str], why: &str, flags: u64) -> zbus::Result<Vec<OwnedObjectPath>>;
    /// `until_usec` is µs since 1970, 0 for no end.
    #[zbus(allow_interactive_auth)]
    fn hold(&self, workers: &[&str], who: &str, why: &str, until_usec: u64, flags: u64) -> zbus::Result<u32>;
    /// The hold ends when every copy of the returned descriptor is closed.
    #[zbus(allow_interactive_auth)]
    fn hold_lock(&self, workers: &[&str], who: &str, why: &str) -> zbus::Result<OwnedFd>;
    #[zbus(allow_interactive_auth)]
    fn release(&self, id: u32) -> zbus::Result<()>;
    /// `flags`: 1 = dry run. Rows have `Unit` s, `Change` s (`add`, `remove`, `change`, `unchanged`), `Keys` as, `Text` s;
    /// rows about files have `File` s, `Change` s (`warning`, `error`), `Text` s.
    #[zbus(allow_interactive_auth)]
    fn reload(&self, flags: u64) -> zbus::Result<Vec<Dict>>;
    /// What waits to be sent, and what became of the notices of the last day, oldest first.
    fn list_notices(&self) -> zbus::Result<Vec<Dict>>;
    /// Sends a notice and answers when it was sent.
    #[zbus(allow_interactive_auth)]
    fn test_notice(&self, flags: u64) -> zbus::Result<()>;
    /// The manager and all workers as one JSON object: the manager's properties, and `Workers`, an array of objects with
    /// the workers' properties, sorted by unit.
    fn describe(&self) -> zbus::Result<String>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property, name = "NWorkers")]
    fn n_workers(&self) -> zbus::Result<u32>;
    #[zbus(property, name = "NIncidentsOpen")]
    fn n_incidents_open(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn holds(&self) -> zbus::Result<Vec<HoldRow>>;
    #[zbus(property)]
    fn dry_run(&self) -> zbus::Result<bool>;
    /// What is not as it should be (a rejected file, a store that cannot be written), one sentence each.
    #[zbus(property)]
    fn degraded(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn configuration_timestamp(&self) -> zbus::Result<u64>;

    #[zbus(signal)]
    fn incident_opened(
        &self,
        id: u32,
        incident: ObjectPath<'_>,
        worker: String,
        cause: String,
        details: Dict,
    ) -> zbus::Result<()>;
    #[zbus(signal)]
    fn incident_updated(
        &self,
        id: u32,
        incident: ObjectPath<'_>,
        worker: String,
        state: String,
        details: Dict,
    ) -> zbus::Result<()>;
    #[zbus(signal)]
    fn incident_closed(&self, id: u32, incident: ObjectPath<'_>, result: String) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_new(&self, id: u32, job: ObjectPath<'_>, worker: String) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, worker: String, result: String) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.watcherd1.Worker", default_service = "org.watcherd1")]
pub trait Worker {
    /// The caller must be a process of the worker's own unit. Values: `total` t, `cursor` s, `stage` s, others any number.
    fn beat(&self, count: u64, values: HashMap<&str, Variant<'_>>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn reset_quarantine(&self) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn quarantine(&self, why: &str) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn unit(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn pool(&self) -> zbus::Result<String>;
    /// `policy`, `adopted` or `run`.
    #[zbus(property)]
    fn origin(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn phase(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn phase_reason(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn phase_timestamp(&self) -> zbus::Result<u64>;
    /// Empty if there is none.
    #[zbus(property)]
    fn cause(&self) -> zbus::Result<String>;
    /// `/` if there is none.
    #[zbus(property)]
    fn incident(&self) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
    #[zbus(property)]
    fn progress_value(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn parameters(&self) -> zbus::Result<Vec<(String, String, String)>>;
    #[zbus(property)]
    fn progress_total(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn progress_timestamp(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn progress_timestamp_monotonic(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn rate(&self) -> zbus::Result<f64>;
    #[zbus(property(emits_changed_signal = "false"), name = "EtaUSec")]
    fn eta_usec(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn attempts(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn budget_left(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn next_action(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn next_action_timestamp(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn next_action_timestamp_monotonic(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn held(&self) -> zbus::Result<bool>;
    /// Whether it should be running: false once a person stopped it or its work is done.
    #[zbus(property)]
    fn intended_up(&self) -> zbus::Result<bool>;
    #[zbus(property, name = "NRuns")]
    fn n_runs(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "false"), name = "DowntimeUSec")]
    fn downtime_usec(&self) -> zbus::Result<u64>;
    /// Key, value and the line that set it.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    fn policy(&self) -> zbus::Result<Vec<(String, String, String)>>;
}

#[zbus::proxy(interface = "org.watcherd1.Incident", default_service = "org.watcherd1")]
pub trait Incident {
    #[zbus(allow_interactive_auth)]
    fn close(&self, why: &str, flags: u64) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn worker(&self) -> zbus::Result<String>;
    /// The InvocationID of the failed run in hexadecimal digits; empty if unknown.
    #[zbus(property(emits_changed_signal = "const"))]
    fn run(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn cause(&self) -> zbus::Result<String>;
    /// 0.0 to 1.0.
    #[zbus(property)]
    fn confidence(&self) -> zbus::Result<f64>;
    #[zbus(property)]
    fn because(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn cascade(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn opened(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn detected(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn decided(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn started(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn recovered(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn closed(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn remedies(&self) -> zbus::Result<Vec<RemedyRow>>;
    #[zbus(property)]
    fn part_of(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn members(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn text(&self) -> zbus::Result<String>;
}

#[zbus::proxy(interface = "org.watcherd1.Job", default_service = "org.watcherd1")]
pub trait Job {
    #[zbus(allow_interactive_auth)]
    fn cancel(&self, flags: u64) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> zbus::Result<u32>;
    /// `start`, `stop`, `restart`, `pause` or `resume`.
    #[zbus(property(emits_changed_signal = "const"), name = "Type")]
    fn kind(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn worker(&self) -> zbus::Result<String>;
    /// `waiting`, `running` or `finished`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// `done`, `failed`, `canceled`, `timeout`; empty until it is finished.
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    /// Why it failed, for people.
    #[zbus(property)]
    fn detail(&self) -> zbus::Result<String>;
}
