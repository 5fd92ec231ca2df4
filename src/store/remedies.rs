// SPDX-License-Identifier: MIT OR Apache-2.0
//! How what was tried against a worker's failures is written into one column: JSON whose parts may be missing.

use crate::engine::cause::Cause;
use crate::engine::parameter::Tuning;
use crate::engine::recurrence::Recurrence;
use crate::engine::saved::SavedRemedies;
use crate::engine::time::Mono;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A name and the value before; none if it was the unit's own.
type Step = (String, Option<String>);

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Row {
    causes: BTreeMap<String, Known>,
    failed_at: Option<u64>,
    parameters: BTreeMap<String, String>,
    steps: Vec<Step>,
    tuned: Option<i64>,
    follow_up: Option<(i64, u32)>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    count: u32,
    value: Option<u64>,
    same_value: u32,
    rung: u32,
    tried: u32,
    steps: u32,
    attempts: Vec<i64>,
}

/// As the column holds it; nothing to remember is an empty text.
pub fn text(remedies: &SavedRemedies) -> Result<String, serde_json::Error> {
    if *remedies == SavedRemedies::default() {
        return Ok(String::new());
    }
    let causes = remedies.recurrences.iter().map(|(cause, known)| (cause.to_string(), Known::from(known)));
    let own = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
    serde_json::to_string(&Row {
        causes: causes.collect(),
        failed_at: remedies.failed_at,
        parameters: remedies
            .tuning
            .values()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        steps: remedies.tuning.steps().iter().map(|(name, before)| (name.to_string(), own(before))).collect(),
        tuned: remedies.tuned.map(|at| at.0),
        follow_up: remedies.follow_up.map(|(due, failed)| (due.0, failed)),
    })
}

/// Reads the column; a cause that this version does not know is left out.
pub fn read(text: &str) -> Result<SavedRemedies, serde_json::Error> {
    if text.is_empty() {
        return Ok(SavedRemedies::default());
    }
    let row: Row = serde_json::from_str(text)?;
    let causes = row.causes.into_iter().filter_map(|(cause, known)| Some((Cause::parse(&cause)?, known.into())));
    let mut recurrences: Vec<(Cause, Recurrence)> = causes.collect();
    recurrences.sort_by_key(|(cause, _)| *cause);
    let parameters = row.parameters.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let steps = row.steps.into_iter().map(|(name, before)| (name.into(), before.map(Into::into))).collect();
    Ok(SavedRemedies {
        recurrences,
        failed_at: row.failed_at,
        tuning: Tuning::restore(parameters, steps),
        tuned: row.tuned.map(Mono),
        follow_up: row.follow_up.map(|(due, failed)| (Mono(due), failed)),
    })
}

impl From<&Recurrence> for Known {
    fn from(known: &Recurrence) -> Known {
        Known {
            count: known.count,
            value: known.value,
            same_value: known.same_value,
            rung: known.rung,
            tried: known.tried,
            steps: known.steps,
            attempts: known.attempts.iter().map(|at| at.0).collect(),
        }
    }
}

impl From<Known> for Recurrence {
    fn from(known: Known) -> Recurrence {
        Recurrence {
            count: known.count,
            value: known.value,
            same_value: known.same_value,
            rung: known.rung,
            tried: known.tried,
            steps: known.steps,
            attempts: known.attempts.into_iter().map(Mono).collect(),
        }
    }
}
