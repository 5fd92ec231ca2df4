// SPDX-License-Identifier: MIT OR Apache-2.0
//! A unit's run as the journal tells it, for judging it without the daemon.

use super::failure::Failure;
use super::session::Session;
use crate::engine::event::RunEnd;
use crate::engine::evidence::Clues;
use crate::engine::ids::WorkerName;
use crate::engine::time::Wall;
use crate::journal::evidence::{Told, Wanted, tell};
use crate::journal::runs::{KnownRun, known_runs};
use crate::journal::{Journal, JournalError, Scope, synchronize};
use crate::rules::{Reader, Rules};
use std::sync::Arc;
use std::time::Duration;

/// The newest so many runs are looked through for the one that is wanted.
const RUNS: usize = 1_000;

/// What is known about one run.
pub struct UnitRun {
    /// Unit and run, for people.
    pub name: String,
    pub end: RunEnd,
    pub clues: Clues,
    /// What could not be found out.
    pub gaps: Vec<String>,
}

/// Finds the run and reads all of it: the one called `run`, else the last one that failed.
pub fn find(session: &Session, unit: &str, run: Option<&str>, rules: &Arc<Rules>) -> Result<UnitRun, Failure> {
    let unit = WorkerName::parse(unit).map_err(|error| Failure::usage(format!("--unit={unit}: {error}")))?;
    let scope = if session.options.user { Scope::User } else { Scope::System };
    let cannot = |error: JournalError| Failure::failed(format!("the journal cannot be read: {}", chain(&error)));
    // Only root may ask journald to write everything down; a run of a while ago is complete anyway.
    synchronize(Duration::from_secs(2)).ok();
    let mut journal = Journal::open(scope).map_err(cannot)?;
    let now = session.look_now().now;
    let runs = known_runs(&mut journal, unit.unit(), scope, (Wall(0), now), RUNS).map_err(cannot)?;
    let chosen = match run {
        Some(word) => runs.iter().position(|known| known.is_called(word)),
        None => runs.iter().position(KnownRun::failed),
    };
    let Some(at) = chosen else { return Err(not_there(&unit, run, &runs)) };
    let chosen = &runs[at];
    // A quick program writes before systemd says that it was started, but not before the run before it had ended.
    let before = runs.get(at + 1).map_or(Wall::NEVER, |before| before.end.ended);
    let wanted = Wanted {
        unit: unit.unit(),
        scope,
        run: chosen.name.as_deref(),
        invocation: chosen.invocation,
        pid: chosen.end.pid,
        since: before,
        until: chosen.end.ended,
    };
    let mut reader = Reader::new(rules.clone());
    let (mut begin, mut shown) = (None, 0);
    let evidence = tell(&mut journal, &wanted, &mut |told: Told<'_>| {
        let begin = *begin.get_or_insert(told.at);
        let since = |at: Wall| u64::try_from(at.0.saturating_sub(begin.0)).unwrap_or(0);
        shown = session.progress(since(told.at), since(wanted.until), shown);
        reader.line(Some(told.source), told.at, told.pid, told.text.as_bytes());
    });
    session.progress_ends(shown);
    let evidence = evidence.map_err(cannot)?;
    let mut clues = reader.finish();
    clues.suppressed = evidence.suppressed;
    let id = chosen.invocation.map(|id| id.to_string()).unwrap_or_default();
    let name = format!("{unit} {}", id.get(..8).unwrap_or("run")).trim().to_owned();
    Ok(UnitRun { name, end: chosen.end.clone(), clues, gaps: evidence.gaps })
}

fn not_there(unit: &WorkerName, run: Option<&str>, runs: &[KnownRun]) -> Failure {
    let hint = format!("journalctl -u {unit} shows what there is; reading it all takes the group systemd-journal");
    let text = match (run, runs.len()) {
        (_, 0) => format!("{unit}: the journal knows of no run that has ended"),
        (Some(run), _) => format!("{unit}: the journal knows of no run {run} that has ended"),
        (None, 1) => format!("{unit}: the run that the journal knows of did not fail"),
        (None, n) => format!("{unit}: none of the {n} runs that the journal knows of failed"),
    };
    Failure::failed(text).with_hint(hint)
}

/// An error and what led to it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
