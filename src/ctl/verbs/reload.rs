// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lets the daemon read its configuration anew, and prints what that changes.

use super::DRY_RUN;
use crate::api::client::Dict;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Object, object_of};
use crate::ctl::out::escape::escaped;
use crate::ctl::out::json;
use crate::ctl::session::Session;
use serde_json::Value;

pub async fn perform(session: &Session) -> Outcome {
    let link = session.connect().await?;
    let flags = if session.options.dry_run { DRY_RUN } else { 0 };
    let rows: Vec<Dict> =
        link.ask("Reload", &(flags,)).await.map_err(|error| Failure::from_bus("reload the configuration", &error))?;
    let rows: Vec<Object> = rows.iter().map(object_of).collect();
    let broken = rows.iter().any(|row| text(row, "Change") == "error");
    let status = if broken { exit::CONFIGURATION } else { exit::OK };
    if let Some(form) = session.json() {
        let array: Value = rows.into_iter().map(json::complete).collect();
        session.print_json(&array, form)?;
        return Ok(status);
    }
    if rows.iter().all(|row| text(row, "Change") == "unchanged") && !session.options.quiet {
        session.print("Nothing changes.\n")?;
    }
    for row in &rows {
        match text(row, "Change") {
            "error" => session.complain(&Failure::new(exit::CONFIGURATION, complaint(row))),
            "warning" => session.note(&format!("watcherctl: warning: {}", complaint(row))),
            "unchanged" => {}
            _ if session.options.quiet => {}
            change => session.print(&format!("{}\n", planned(row, change)))?,
        }
    }
    Ok(status)
}

/// `change train.service: restart.budget`, `change /etc/watcherd/watcherd.toml`.
fn planned(row: &Object, change: &str) -> String {
    let keys: Vec<_> =
        row.get("Keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let what = if keys.is_empty() { text(row, "Text").to_owned() } else { keys.join(" ") };
    let what = if what.is_empty() { what } else { format!(": {what}") };
    escaped(&format!("{change} {}{}{what}", text(row, "Unit"), text(row, "File"))).into_owned()
}

/// `FILE:LINE: what is wrong`; the text may name the file already.
fn complaint(row: &Object) -> String {
    let (file, what) = (text(row, "File"), text(row, "Text"));
    let whole = if what.starts_with(file) { what.to_owned() } else { format!("{file}: {what}") };
    escaped(&whole).into_owned()
}

fn text<'a>(row: &'a Object, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}
