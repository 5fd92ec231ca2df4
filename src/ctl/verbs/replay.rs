// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows what another policy would have decided about what was recorded; works without the daemon.

use super::check::mode;
use crate::config;
use crate::ctl::args::Replay;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::out::decisions::{self, Shown};
use crate::ctl::out::escape::escaped;
use crate::ctl::session::Session;
use crate::engine::policy::Policies;
use crate::replay;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest recording that is read, in bytes.
const FILE_MAX: u64 = 256 << 20;
/// As with diff(1): they differ, and trouble.
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

pub fn perform(session: &Session, given: &Replay) -> Outcome {
    let name = given.file.display();
    let trouble = |why: String| Failure::new(TROUBLE, format!("{name}: {why}"));
    let text = read(&given.file).map_err(|error| trouble(error.to_string()))?;
    let policies = given.policy.as_deref().map(|path| policies(session, path)).transpose()?;
    let report = replay::replay(&text, policies).map_err(|wrong| trouble(escaped(&wrong.to_string()).into_owned()))?;
    if report.is_continued {
        session.note(&format!(
            "watcherctl: {name} goes on where another file ended; what was under way then is not known"
        ));
    }
    let shown = if given.changes { Shown::Differences } else { Shown::All };
    if let Some(form) = session.json() {
        session.print_json(&decisions::json(&report, shown), form)?;
    } else if !session.options.quiet {
        session.print_list(&decisions::text(&report, shown, &session.look_now()))?;
    }
    Ok(if report.is_same() { exit::OK } else { DIFFERENT })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    source.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("longer than {FILE_MAX} bytes")));
    }
    Ok(text)
}

/// The policies of a configuration; one with errors is not tried out.
fn policies(session: &Session, path: &Path) -> Result<Policies, Failure> {
    if !path.is_dir() {
        return Err(Failure::new(exit::CONFIGURATION, format!("{}: no such directory", path.display())));
    }
    let loaded = config::load_tree(mode(session), path);
    if loaded.files.is_empty() {
        let text =
            format!("{}: no configuration in it: it has neither workers.d nor /etc/watcherd below", path.display());
        return Err(Failure::new(exit::CONFIGURATION, text));
    }
    if let Some(error) = loaded.errors().next() {
        return Err(Failure::new(exit::CONFIGURATION, escaped(&error.to_string()).into_owned()));
    }
    for complaint in &loaded.complaints {
        session.note(&format!("watcherctl: warning: {}", escaped(&complaint.to_string())));
    }
    Ok(loaded.policies)
}
