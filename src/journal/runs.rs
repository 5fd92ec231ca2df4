// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runs of a unit that the journal can tell about, for a person who chooses one of them.

use super::history::{RUNS_MAX, past_runs};
use super::{Journal, JournalError, Scope};
use crate::engine::event::{RunEnd, UnitResult};
use crate::engine::ids::InvocationId;
use crate::engine::time::Wall;

/// One run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRun {
    pub invocation: Option<InvocationId>,
    /// Our own name of it (`WATCHERD_RUN=`), if the unit was made for it.
    pub name: Option<String>,
    /// A job asked it to stop before it ended.
    pub stopped: bool,
    pub end: RunEnd,
}

impl KnownRun {
    /// Whether a person means this run by `word`: its own name, its invocation, or at least eight digits that begin it.
    pub fn is_called(&self, word: &str) -> bool {
        let invocation = self.invocation.map(|id| id.to_string()).unwrap_or_default();
        let begins = word.len() >= 8 && invocation.starts_with(&word.to_ascii_lowercase());
        begins || self.name.as_deref() == Some(word)
    }

    /// Whether it failed by itself.
    pub fn failed(&self) -> bool {
        !self.stopped && self.end.result != UnitResult::Success
    }
}

/// The newest `most` runs of `unit` that ended from `since` to `until`, newest first, never more than [`RUNS_MAX`].
///
/// What [`past_runs`] says about `end` holds here too.
pub fn known_runs(
    journal: &mut Journal,
    unit: &str,
    scope: Scope,
    window: (Wall, Wall),
    most: usize,
) -> Result<Vec<KnownRun>, JournalError> {
    let past = past_runs(journal, unit, scope, window.0, window.1)?;
    let newest = past.into_iter().rev().take(most.min(RUNS_MAX));
    let runs = newest.map(|past| {
        let name = match past.invocation {
            Some(invocation) => name(journal, unit, scope, invocation)?,
            None => None,
        };
        Ok(KnownRun { invocation: past.invocation, name, stopped: past.stopped, end: past.end })
    });
    let runs = runs.collect();
    journal.clear_matches();
    runs
}

/// Reads it from the first line that the run wrote: the service manager's own lines carry it with systemd 257, not with 252.
fn name(
    journal: &mut Journal,
    unit: &str,
    scope: Scope,
    invocation: InvocationId,
) -> Result<Option<String>, JournalError> {
    journal.clear_matches();
    journal.match_output(unit, scope, 0)?;
    journal.add_match("_SYSTEMD_INVOCATION_ID", invocation.to_string())?;
    journal.seek_head()?;
    match journal.next()? {
        true => journal.text(c"WATCHERD_RUN"),
        false => Ok(None),
    }
}
