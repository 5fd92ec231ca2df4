// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows incidents in full.

use super::incidents;
use crate::ctl::args;
use crate::ctl::capsule;
use crate::ctl::failure::{Outcome, exit};
use crate::ctl::journal;
use crate::ctl::model::Incident;
use crate::ctl::out::escape::escaped_lines;
use crate::ctl::out::{incident, json};
use crate::ctl::session::Session;
use serde_json::{Value, json};

/// Journal lines of the failed run, if nothing else is asked for.
const LINES: u32 = 50;

pub async fn perform(session: &Session, given: &args::Incident) -> Outcome {
    let link = session.connect().await?;
    let mut objects = Vec::new();
    for id in &given.ids {
        objects.push(incidents::object(&link, *id).await?);
    }
    if let Some(form) = session.json() {
        let complete = |object| {
            let mut value = json::complete(object);
            let id = value["Id"].as_u64().and_then(|id| u32::try_from(id).ok());
            if let Some(Ok(Some(capsule))) = id.filter(|_| given.evidence).map(|id| capsule::find(id, &session.options))
            {
                let files = capsule.files.iter().map(|(name, size)| json!({"Name": name, "Size": size}));
                value["Evidence"] = json!({"Directory": capsule.directory, "Files": files.collect::<Vec<_>>()});
            }
            value
        };
        let array: Value = objects.into_iter().map(complete).collect();
        return session.print_json(&array, form);
    }
    let mut texts = Vec::new();
    for object in &objects {
        let found = Incident::read(object);
        let lines = session.options.lines.unwrap_or(LINES);
        let wanted = (given.evidence || session.options.lines.is_some()) && !found.run.is_empty();
        let journal = match wanted {
            true => journal::last_lines_of_failed(
                &found.worker,
                &found.run,
                (found.opened, found.started),
                lines,
                &session.options,
            ),
            false => String::new(),
        };
        let mut text = incident::block(&found, &journal, &session.look_now());
        if given.evidence {
            match capsule::find(found.id, &session.options) {
                Ok(Some(capsule)) => text.push_str(&format!("\n{}", escaped_lines(&capsule.text()))),
                Ok(None) => {}
                Err(why) => session.note(&format!("watcherctl: {why}")),
            }
        }
        texts.push(text);
    }
    session.print_list(&texts.join("\n"))?;
    Ok(exit::OK)
}
