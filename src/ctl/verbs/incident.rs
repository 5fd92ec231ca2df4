// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows incidents in full.

use super::incidents;
use crate::ctl::args;
use crate::ctl::failure::{Outcome, exit};
use crate::ctl::journal;
use crate::ctl::model::Incident;
use crate::ctl::out::{incident, json};
use crate::ctl::session::Session;
use serde_json::Value;

/// Journal lines of the failed run, if nothing else is asked for.
const LINES: u32 = 50;

pub async fn perform(session: &Session, given: &args::Incident) -> Outcome {
    let link = session.connect().await?;
    let mut objects = Vec::new();
    for id in &given.ids {
        objects.push(incidents::object(&link, *id).await?);
    }
    if let Some(form) = session.json() {
        let array: Value = objects.into_iter().map(json::complete).collect();
        return session.print_json(&array, form);
    }
    let mut texts = Vec::new();
    for object in &objects {
        let found = Incident::read(object);
        let lines = session.options.lines.unwrap_or(LINES);
        let wanted = (given.evidence || session.options.lines.is_some()) && !found.run.is_empty();
        let journal = match wanted {
            true => journal::last_lines(&found.worker, &found.run, lines, &session.options),
            false => String::new(),
        };
        texts.push(incident::block(&found, &journal, &session.look_now()));
    }
    session.print_list(&texts.join("\n"))?;
    Ok(exit::OK)
}
