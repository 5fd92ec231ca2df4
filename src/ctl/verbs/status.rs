// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows workers in detail. The exit status says whether all of them are well.

use super::incidents;
use crate::ctl::args::Patterns;
use crate::ctl::connect::Link;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::journal;
use crate::ctl::model::{Everything, Object, Worker};
use crate::ctl::names;
use crate::ctl::out::{json, status};
use crate::ctl::session::Session;
use serde_json::Value;

/// Journal lines under a worker, as systemctl shows them.
const LINES: u32 = 10;

pub async fn perform(session: &Session, given: &Patterns) -> Outcome {
    let link = session.connect().await?;
    let patterns = if given.patterns.is_empty() { vec!["*".to_owned()] } else { given.patterns.clone() };
    let everything = link.everything().await?;
    let units = if given.patterns.is_empty() && everything.workers.is_empty() {
        Vec::new()
    } else {
        names::resolve(&link, &patterns).await?
    };
    let objects: Vec<&Object> = units.iter().filter_map(|unit| find(&everything, unit)).collect();
    let workers: Vec<Worker> = objects.iter().map(|object| Worker::read(object)).collect();
    let healthy = workers.iter().all(status::is_healthy);
    let code = if healthy { exit::OK } else { exit::NOT_HEALTHY };
    if let Some(form) = session.json() {
        let array: Value = objects.into_iter().cloned().map(json::complete).collect();
        session.print_json(&array, form)?;
        return Ok(code);
    }
    if session.options.quiet {
        return Ok(code);
    }
    let mut text = String::new();
    for worker in workers {
        if !text.is_empty() {
            text.push('\n');
        }
        let mut facts = facts(&link, worker, &everything).await?;
        let lines = session.options.lines.unwrap_or(LINES);
        facts.journal = journal::last_lines(&facts.worker.unit, &facts.worker.invocation, lines, &session.options);
        text.push_str(&status::block(&facts, &session.look_now()));
    }
    if text.is_empty() {
        text.push_str("No workers.\n");
    }
    session.print_list(&text)?;
    Ok(code)
}

/// The worker with its open incident and its holds; without journal lines.
pub async fn facts<'a>(link: &Link, worker: Worker, everything: &'a Everything) -> Result<status::Facts<'a>, Failure> {
    let incident = match worker.incident_id() {
        Some(id) => incidents::one(link, id).await?,
        None => None,
    };
    let holds = everything.holds_of(&worker.unit).collect();
    Ok(status::Facts { worker, incident, holds, journal: String::new() })
}

pub fn find<'a>(everything: &'a Everything, unit: &str) -> Option<&'a Object> {
    everything.workers.iter().find(|object| object.get("Unit").and_then(Value::as_str) == Some(unit))
}
