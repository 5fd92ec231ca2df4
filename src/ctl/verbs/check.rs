// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks configuration files without the daemon.

use crate::config::{self, Complaint, Severity};
use crate::ctl::args::Check;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::out::escape::escaped;
use crate::ctl::out::workers::count;
use crate::ctl::session::Session;
use serde_json::{Value, json};

pub fn perform(session: &Session, given: &Check) -> Outcome {
    if let Some(missing) = given.paths.iter().find(|path| !path.exists()) {
        return Err(Failure::new(exit::CONFIGURATION, format!("{}: no such file or directory", missing.display())));
    }
    let complaints = complaints(session, given);
    let errors = complaints.iter().filter(|complaint| complaint.severity == Severity::Error).count();
    let status = if errors > 0 { exit::CONFIGURATION } else { exit::OK };
    if let Some(form) = session.json() {
        let array: Value = complaints.iter().map(row).collect();
        session.print_json(&array, form)?;
        return Ok(status);
    }
    for complaint in &complaints {
        match complaint.severity {
            Severity::Error => session.complain(&Failure::new(status, escaped(&complaint.to_string()).into_owned())),
            Severity::Warning => session.note(&format!("watcherctl: warning: {}", escaped(&complaint.to_string()))),
        }
    }
    if errors > 0 {
        session.note(&format!("watcherctl: {}", count(errors, "error", "errors")));
    }
    Ok(status)
}

fn complaints(session: &Session, given: &Check) -> Vec<Complaint> {
    config::check_paths(&given.paths, mode(session), &given.root)
}

pub fn mode(session: &Session) -> config::Mode {
    if session.options.user { config::Mode::User } else { config::Mode::System }
}

fn row(complaint: &Complaint) -> Value {
    let Complaint { severity, file, line, column, key, text } = complaint;
    json!({"Severity": severity.as_str(), "File": file, "Line": line, "Column": column, "Key": key, "Text": text})
}
