// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints every change as it happens, one line each, over restarts of the daemon too.

use crate::ctl::args::{JsonForm, Patterns};
use crate::ctl::events::{Events, News, unit_of};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::Object;
use crate::ctl::names;
use crate::ctl::out::escape::escaped;
use crate::ctl::out::time::rfc3339;
use crate::ctl::out::{Look, json};
use crate::ctl::session::Session;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub async fn perform(session: &Session, given: &Patterns) -> Outcome {
    let link = session.connect().await?;
    let mut events = Events::subscribe(&link).await?;
    let mut story = Story { patterns: given.patterns.clone(), workers: BTreeMap::new() };
    let mut left = session.options.lines;
    while let Some(news) = events.next().await {
        let Some(row) = story.tell(news) else { continue };
        let look = session.look_now();
        let line = match session.json() {
            Some(_) => json::text(&json::event(look.now.0.unsigned_abs(), row.event, row.fields), JsonForm::Short),
            None => format!("{} {}\n", moment(&look), row.text),
        };
        session.print(&line)?;
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(exit::OK);
        }
    }
    Err(Failure::failed("the connection to the bus is lost"))
}

/// What has been told so far; only differences are of interest.
struct Story {
    patterns: Vec<String>,
    workers: BTreeMap<String, Object>,
}

struct Row {
    event: &'static str,
    fields: Object,
    text: String,
}

impl Story {
    fn tell(&mut self, news: News) -> Option<Row> {
        let row = |event, fields: Value, text: String| {
            let Value::Object(fields) = fields else { return None };
            Some(Row { event, fields, text: escaped(&text).into_owned() })
        };
        match news {
            News::Changed { path, interface, properties } if interface == "org.watcherd1.Worker" => {
                let unit = unit_of(&path).filter(|unit| self.wanted(unit))?;
                let text = self.changed(&unit, &properties)?;
                row(
                    "Changed",
                    json!({"Unit": unit, "Properties": json::complete(properties)}),
                    format!("{unit} {text}"),
                )
            }
            News::IncidentOpened { id, worker, cause } if self.wanted(&worker) => row(
                "IncidentOpened",
                json!({"Id": id, "Unit": worker, "Cause": cause}),
                format!("{worker} incident {id} opened: {cause}"),
            ),
            News::IncidentUpdated { id, worker, state } if self.wanted(&worker) => row(
                "IncidentUpdated",
                json!({"Id": id, "Unit": worker, "State": state}),
                format!("{worker} incident {id}: {state}"),
            ),
            News::IncidentClosed { id, result } if self.patterns.is_empty() => {
                row("IncidentClosed", json!({"Id": id, "Result": result}), format!("incident {id} closed: {result}"))
            }
            News::JobNew { id, worker, .. } if self.wanted(&worker) => {
                row("JobNew", json!({"Id": id, "Unit": worker}), format!("{worker} job {id} queued"))
            }
            News::JobRemoved { id, worker, result, .. } if self.wanted(&worker) => row(
                "JobRemoved",
                json!({"Id": id, "Unit": worker, "Result": result}),
                format!("{worker} job {id}: {result}"),
            ),
            News::Added { path } => {
                let unit = unit_of(&path).filter(|unit| self.wanted(unit))?;
                row("Added", json!({"Unit": unit}), format!("{unit} is a worker now"))
            }
            News::Removed { path } => {
                let unit = unit_of(&path).filter(|unit| self.wanted(unit))?;
                self.workers.remove(&unit);
                row("Removed", json!({"Unit": unit}), format!("{unit} is no worker any more"))
            }
            News::Left => row("Left", json!({}), "watcherd is gone".into()),
            News::Returned => row("Returned", json!({}), "watcherd is there".into()),
            _ => None,
        }
    }

    fn wanted(&self, unit: &str) -> bool {
        !names::select(std::iter::once(unit), &self.patterns).is_empty()
    }

    /// What changed, for people; nothing if it is only a number that moves all the time.
    fn changed(&mut self, unit: &str, properties: &Object) -> Option<String> {
        let known = self.workers.entry(unit.to_owned()).or_default();
        let mut parts = Vec::new();
        let phase = text(properties, "Phase");
        if let Some(phase) = phase {
            let before = text(known, "Phase").filter(|before| *before != phase);
            let reason = text(properties, "PhaseReason").filter(|reason| !reason.is_empty());
            let before = before.map_or(String::new(), |before| format!("{before} -> "));
            parts.push(format!("{before}{phase}{}", reason.map_or(String::new(), |reason| format!(" ({reason})"))));
        } else if let Some(reason) = text(properties, "PhaseReason") {
            parts.push(format!("reason: {reason}"));
        }
        if let Some(value) = properties.get("ProgressValue") {
            let total = properties.get("ProgressTotal").or_else(|| known.get("ProgressTotal"));
            let total = total.and_then(Value::as_u64).filter(|total| *total > 0);
            parts.push(format!("progress {value}{}", total.map_or(String::new(), |total| format!("/{total}"))));
        }
        let labels = [("Cause", "cause"), ("NextAction", "next"), ("MainPID", "main PID"), ("Attempts", "attempts")];
        for (key, label) in labels {
            match properties.get(key) {
                Some(Value::String(value)) if !value.is_empty() => parts.push(format!("{label} {value}")),
                Some(Value::Number(value)) if value.as_u64() != Some(0) => parts.push(format!("{label} {value}")),
                _ => {}
            }
        }
        if let Some(held) = properties.get("Held").and_then(Value::as_bool) {
            let before = known.get("Held").and_then(Value::as_bool).unwrap_or(false);
            if held != before {
                parts.push(if held { "held".to_owned() } else { "no longer held".to_owned() });
            }
        }
        known.extend(properties.iter().map(|(key, value)| (key.clone(), value.clone())));
        if parts.is_empty() { None } else { Some(parts.join(", ")) }
    }
}

fn text<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// `14:05:07.123`, in local time.
fn moment(look: &Look) -> String {
    let local = jiff::Timestamp::from_microsecond(look.now.0).map(|at| at.to_zoned(look.zone.clone()));
    let fallback = || rfc3339(look.now.0.unsigned_abs()).unwrap_or_default();
    local.map_or_else(|_| fallback(), |at| at.strftime("%H:%M:%S.%3f").to_string())
}
