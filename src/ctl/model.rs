// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the daemon says, as values: workers, incidents, holds. Unknown keys are kept, missing ones are empty.

use crate::api::client::Dict;
use crate::api::describe::value_of;
use crate::engine::time::Wall;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub type Object = Map<String, Value>;

/// The answer of `Describe`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Everything {
    #[serde(rename = "NIncidentsOpen")]
    pub incidents_open: u32,
    pub dry_run: bool,
    pub degraded: Vec<String>,
    pub holds: Vec<Hold>,
    /// Sorted by unit.
    pub workers: Vec<Object>,
}

/// Id, workers, who, why, until (µs since 1970, 0 for no end).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hold(pub u32, pub Vec<String>, pub String, pub String, pub u64);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Worker {
    pub unit: String,
    pub origin: String,
    pub phase: String,
    pub phase_reason: String,
    pub phase_timestamp: u64,
    pub cause: String,
    pub incident: String,
    #[serde(rename = "MainPID")]
    pub main_pid: u32,
    #[serde(rename = "InvocationID")]
    pub invocation: String,
    pub progress_value: u64,
    pub progress_total: u64,
    pub progress_timestamp: u64,
    pub rate: Option<f64>,
    #[serde(rename = "EtaUSec")]
    pub eta_usec: u64,
    #[serde(rename = "EtaSpreadUSec")]
    pub eta_spread_usec: u64,
    pub stall_deadline_timestamp: u64,
    /// Where the progress is read, whether it can be read, and if not, why.
    pub sources: Vec<(String, bool, String)>,
    /// When each that can be read said something new.
    pub source_timestamps: Vec<(String, u64)>,
    pub values: BTreeMap<String, f64>,
    pub attempts: u32,
    pub budget_left: u32,
    pub next_action: String,
    pub next_action_timestamp: u64,
    pub held: bool,
    /// Name, the value from the next start on, the unit's own.
    pub parameters: Vec<(String, String, String)>,
    pub intended_up: bool,
    #[serde(rename = "NRuns")]
    pub runs: u64,
    #[serde(rename = "DowntimeUSec")]
    pub downtime_usec: u64,
    /// Cause, how many signs of it, when the first and the newest were seen.
    pub warnings: Vec<(String, u64, u64, u64)>,
    /// Key, value and the line that set it.
    pub policy: Vec<(String, String, String)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Incident {
    pub id: u32,
    pub worker: String,
    pub run: String,
    pub cause: String,
    pub confidence: Option<f64>,
    pub because: Vec<String>,
    pub cascade: Vec<String>,
    pub opened: u64,
    pub detected: u64,
    pub decided: u64,
    pub started: u64,
    pub recovered: u64,
    pub closed: u64,
    pub state: String,
    pub result: String,
    /// Action, when, the policy line that chose it, outcome.
    pub remedies: Vec<(String, u64, String, String)>,
    /// The incident that stands for it; 0 for none.
    pub part_of: u32,
    /// The workers whose incidents it stands for.
    pub members: Vec<String>,
    pub text: String,
}

impl Everything {
    /// The holds that name `unit`.
    pub fn holds_of<'a, 'b>(&'a self, unit: &'b str) -> impl Iterator<Item = &'a Hold> + use<'a, 'b> {
        self.holds.iter().filter(move |hold| hold.1.iter().any(|worker| worker == unit))
    }
}

impl Worker {
    /// Reads an object of `Describe`; what has an unexpected type counts as missing.
    pub fn read(object: &Object) -> Worker {
        lenient(object)
    }

    /// The number of the open incident.
    pub fn incident_id(&self) -> Option<u32> {
        self.incident.strip_prefix("/org/watcherd1/incident/")?.parse().ok()
    }

    pub fn since(&self) -> Wall {
        wall(self.phase_timestamp)
    }
}

impl Incident {
    pub fn read(object: &Object) -> Incident {
        lenient(object)
    }

    pub fn is_open(&self) -> bool {
        self.state != "closed"
    }
}

pub fn wall(usec: u64) -> Wall {
    Wall(i64::try_from(usec).unwrap_or(i64::MAX))
}

/// Reads an object; a key that does not fit (another version's type) is left out instead of spoiling all others.
fn lenient<T: Default + for<'de> Deserialize<'de>>(object: &Object) -> T {
    if let Ok(value) = T::deserialize(Value::Object(object.clone())) {
        return value;
    }
    let fits = |key: &String, value: &Value| {
        T::deserialize(Value::Object(std::iter::once((key.clone(), value.clone())).collect())).is_ok()
    };
    let good = object.iter().filter(|(key, value)| fits(key, value));
    let good: Object = good.map(|(key, value)| (key.clone(), value.clone())).collect();
    T::deserialize(Value::Object(good)).unwrap_or_default()
}

/// An `a{sv}` as a JSON object, its keys sorted.
pub fn object_of(dict: &Dict) -> Object {
    dict.iter().map(|(key, value)| (key.clone(), value_of(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        if let Value::Object(object) = value { object } else { panic!("not an object") }
    }

    #[test]
    fn a_key_of_another_type_does_not_spoil_the_others() {
        let worker = Worker::read(&object(json!({"Unit": "a.service", "Attempts": "many", "Rate": null, "New": {}})));
        assert_eq!((worker.unit.as_str(), worker.attempts), ("a.service", 0));
    }

    #[test]
    fn the_incident_is_known_by_the_end_of_its_path() {
        let worker = |path: &str| Worker { incident: path.into(), ..Worker::default() };
        assert_eq!(worker("/org/watcherd1/incident/7").incident_id(), Some(7));
        assert_eq!(worker("/").incident_id(), None);
    }
}
