// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists workers.

use crate::ctl::args::Patterns;
use crate::ctl::failure::{Outcome, exit};
use crate::ctl::model::{Object, Worker};
use crate::ctl::names;
use crate::ctl::out::{json, workers};
use crate::ctl::session::Session;
use serde_json::Value;

pub async fn perform(session: &Session, given: &Patterns) -> Outcome {
    let mut everything = session.connect().await?.everything().await?;
    let shown = chosen(std::mem::take(&mut everything.workers), given, session.options.lines);
    if let Some(form) = session.json() {
        let array: Value = shown.into_iter().map(json::complete).collect();
        return session.print_json(&array, form);
    }
    let shown: Vec<Worker> = shown.iter().map(Worker::read).collect();
    if session.options.output.as_deref() == Some("name") {
        let names: String = shown.iter().map(|worker| format!("{}\n", worker.unit)).collect();
        session.print(&names)?;
        return Ok(exit::OK);
    }
    session.print_list(&workers::list(&shown, &everything, &session.look_now()))?;
    Ok(exit::OK)
}

fn chosen(objects: Vec<Object>, given: &Patterns, lines: Option<u32>) -> Vec<Object> {
    let unit = |object: &Object| object.get("Unit").and_then(Value::as_str).unwrap_or_default().to_owned();
    let units: Vec<String> = objects.iter().map(unit).collect();
    let wanted = names::select(units.iter().map(String::as_str), &given.patterns);
    let limit = lines.and_then(|lines| usize::try_from(lines).ok()).unwrap_or(usize::MAX);
    let kept = objects.into_iter().zip(&units).filter(|(_, unit)| wanted.contains(&unit.as_str()));
    kept.map(|(object, _)| object).take(limit).collect()
}
