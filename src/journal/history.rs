// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the runs of a unit ended, from what the service manager said about it at the time.
//!
//! Checked against systemd 252 and 257. A run that ended with the machine (power failure, panic) has no end in the journal and is
//! not returned. In the user scope the manager says nothing about a clean exit that nobody asked for, unless it used much
//! processor time; such a run is missing too.

use super::{Journal, JournalError, Scope, is_about_entry};
use crate::engine::event::{Exit, PastRun, RunEnd, UnitResult};
use crate::engine::ids::InvocationId;
use crate::engine::time::Wall;

/// The newest so many runs are returned.
pub const RUNS_MAX: usize = 100;

/// The most entries that are read for one answer; a run leaves five to ten.
const ENTRIES_MAX: usize = 4_000;

/// MESSAGE_IDs of systemd, as in sd-messages.h.
mod id {
    pub const STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";
    pub const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
    pub const STOPPING: &str = "de5b426a63be47a7b6ac3eaac82e2f6f";
    pub const STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";
    pub const PROCESS_EXIT: &str = "98e322203f7a4ed290d09fe03c09fe15";
    pub const FAILURE: &str = "d9b373ed55a64feb8242e02dbe79a49c";
    pub const SUCCESS: &str = "7ad2d189f7e94e70a38c781354912448";
    pub const SKIPPED: &str = "0e4284a0caca4bfc81c0bb6786972673";
    pub const OUT_OF_MEMORY: &str = "fe6faa94e7774663a0da52717891d8ef";
    pub const RESOURCES: &str = "ae8f7b866b0347b9af31fe1c80b127c0";
    pub const ALL: [&str; 10] =
        [STARTING, STARTED, STOPPING, STOPPED, PROCESS_EXIT, FAILURE, SUCCESS, SKIPPED, OUT_OF_MEMORY, RESOURCES];
}

/// The runs of `unit` that ended from `since` to `until`, oldest first, at most the newest [`RUNS_MAX`].
///
/// `ended` is when the unit was down, which is a little later than the end of its main process. `pid` is not in the
/// journal. A clean exit has `Exit::None`: systemd does not log its status.
pub fn past_runs(
    journal: &mut Journal,
    unit: &str,
    scope: Scope,
    since: Wall,
    until: Wall,
) -> Result<Vec<PastRun>, JournalError> {
    journal.clear_matches();
    journal.match_manager(unit, scope)?;
    for id in id::ALL {
        journal.add_match("MESSAGE_ID", id)?;
    }
    journal.seek(Wall(until.0.saturating_add(1)))?;
    let found = said(journal, since);
    journal.clear_matches();
    let mut runs = runs(found?.into_iter().rev());
    runs.retain(|run| since <= run.end.ended && run.end.ended <= until);
    runs.drain(..runs.len().saturating_sub(RUNS_MAX));
    Ok(runs)
}

/// Lines with these begin a run.
pub(super) const BEGIN_IDS: [&str; 2] = [id::STARTING, id::STARTED];

/// One line of the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    at: Wall,
    invocation: Option<InvocationId>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Began,
    /// A job asked the unit to stop.
    Stopping,
    /// A stop, or the stopping half of a restart, is done.
    Stopped,
    MainExited(Exit),
    Ended(UnitResult),
    OutOfMemory,
    /// What the run has used; said at its end, whatever the end was.
    Used,
}

/// Reads back from the current place to `since`, and on to the begin of the runs that were under way then; newest first.
fn said(journal: &mut Journal, since: Wall) -> Result<Vec<Said>, JournalError> {
    let mut found: Vec<Said> = Vec::new();
    let mut seen: Vec<Option<InvocationId>> = Vec::new();
    for _ in 0..ENTRIES_MAX {
        match journal.previous() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if is_about_entry(&error) => break,
            Err(error) => return Err(error),
        }
        let said = match entry(journal) {
            Ok(Some(said)) => said,
            Ok(None) => continue,
            Err(error) if is_about_entry(&error) => continue,
            Err(error) => return Err(error),
        };
        if !seen.contains(&said.invocation) {
            // One more than is returned, because the newest may still be under way.
            if said.at < since || seen.len() > RUNS_MAX {
                break;
            }
            seen.push(said.invocation);
        }
        found.push(said);
    }
    Ok(found)
}

fn entry(journal: &mut Journal) -> Result<Option<Said>, JournalError> {
    let Some(message_id) = journal.text(c"MESSAGE_ID")? else { return Ok(None) };
    let what = match message_id.as_str() {
        id::STARTING | id::STARTED => What::Began,
        id::STOPPING => What::Stopping,
        id::STOPPED => What::Stopped,
        id::PROCESS_EXIT => match main_exit(journal)? {
            Some(exit) => What::MainExited(exit),
            None => return Ok(None),
        },
        id::FAILURE | id::SKIPPED => match journal.text(c"UNIT_RESULT")? {
            Some(result) => What::Ended(UnitResult::parse(&result)),
            None => return Ok(None),
        },
        id::SUCCESS => What::Ended(UnitResult::Success),
        id::OUT_OF_MEMORY => What::OutOfMemory,
        id::RESOURCES => What::Used,
        _ => return Ok(None),
    };
    let invocation = match journal.invocation(c"INVOCATION_ID")? {
        Some(id) => Some(id),
        None => journal.invocation(c"USER_INVOCATION_ID")?,
    };
    Ok(Some(Said { at: journal.at()?, invocation, what }))
}

/// The exit of the main process; `None` for helpers such as ExecStartPre=, which do not count as ExecMainStatus either.
fn main_exit(journal: &mut Journal) -> Result<Option<Exit>, JournalError> {
    let command = journal.text(c"COMMAND")?.unwrap_or_default();
    let message = journal.text(c"MESSAGE")?.unwrap_or_default();
    // The ExecStart= of a forking service is a control process; only the text tells.
    if command != "ExecStart" || message.contains(": Control process exited") {
        return Ok(None);
    }
    let status = journal.text(c"EXIT_STATUS")?.and_then(|text| text.parse().ok());
    Ok(match (journal.text(c"EXIT_CODE")?.as_deref(), status) {
        (Some("exited"), Some(status)) => Some(Exit::Exited(status)),
        (Some("killed"), Some(signal)) => Some(Exit::Killed(signal)),
        (Some("dumped"), Some(signal)) => Some(Exit::Dumped(signal)),
        _ => None,
    })
}

/// What is known about a run so far.
#[derive(Default)]
struct Draft {
    invocation: Option<InvocationId>,
    started: Wall,
    stopped: bool,
    exit: Exit,
    out_of_memory: bool,
    end: Option<(UnitResult, Wall)>,
}

/// Puts the lines, oldest first, together to runs; those that have not ended are left out.
fn runs(said: impl Iterator<Item = Said>) -> Vec<PastRun> {
    let mut drafts: Vec<Draft> = Vec::new();
    for Said { at, invocation, what } in said {
        let known = drafts.iter().rposition(|draft| draft.invocation == invocation);
        // Lines without an invocation can only be told apart by their order.
        let begins = invocation.is_none() && what == What::Began;
        let known = known.filter(|at| !begins || drafts[*at].end.is_none());
        let index = known.unwrap_or_else(|| {
            drafts.push(Draft { invocation, ..Draft::default() });
            drafts.len() - 1
        });
        let draft = &mut drafts[index];
        if draft.end.is_some() {
            // A refused start (start limit) repeats the result of the last run under its invocation.
            continue;
        }
        match what {
            What::Began if draft.started == Wall::NEVER => draft.started = at,
            What::Began => {}
            What::Stopping => draft.stopped = true,
            What::MainExited(exit) => draft.exit = exit,
            What::OutOfMemory => draft.out_of_memory = true,
            What::Ended(result) => draft.end = Some((result, at)),
            What::Used => draft.end = Some((UnitResult::Success, at)),
            What::Stopped if draft.stopped => draft.end = Some((UnitResult::Success, at)),
            What::Stopped => {}
        }
    }
    let mut runs: Vec<PastRun> = drafts.into_iter().filter_map(Draft::finish).collect();
    runs.sort_by_key(|run| run.end.ended);
    runs
}

impl Draft {
    fn finish(self) -> Option<PastRun> {
        let (result, ended) = self.end?;
        // With OOMPolicy=continue systemd tells of the kill but does not blame the unit's end on it.
        let result = match (result, self.exit) {
            (UnitResult::Signal, Exit::Killed(9)) if self.out_of_memory => UnitResult::OomKill,
            (result, _) => result,
        };
        let end = RunEnd { result, exit: self.exit, pid: 0, started: self.started, ended };
        Some(PastRun { invocation: self.invocation, end, stopped: self.stopped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(at: i64, run: u8, what: What) -> Said {
        Said { at: Wall(at), invocation: (run > 0).then_some(InvocationId([run; 16])), what }
    }

    fn told(lines: Vec<Said>) -> Vec<(i64, UnitResult, Exit, bool)> {
        runs(lines.into_iter())
            .into_iter()
            .map(|run| (run.end.ended.0, run.end.result, run.end.exit, run.stopped))
            .collect()
    }

    #[test]
    fn a_refused_start_does_not_fail_the_same_run_twice() {
        let lines = vec![
            said(1, 1, What::Began),
            said(2, 1, What::MainExited(Exit::Exited(5))),
            said(3, 1, What::Ended(UnitResult::ExitCode)),
            said(4, 1, What::Stopped),
            said(5, 1, What::Ended(UnitResult::ExitCode)),
        ];
        assert_eq!(told(lines), [(3, UnitResult::ExitCode, Exit::Exited(5), false)]);
    }

    #[test]
    fn lines_without_an_invocation_are_told_apart_by_their_order() {
        let lines = vec![
            said(1, 0, What::Began),
            said(2, 0, What::Ended(UnitResult::Signal)),
            said(3, 0, What::Began),
            said(4, 0, What::Stopping),
            said(5, 0, What::Ended(UnitResult::Success)),
            said(6, 0, What::Began),
        ];
        let expected = [(2, UnitResult::Signal, Exit::None, false), (5, UnitResult::Success, Exit::None, true)];
        assert_eq!(told(lines), expected);
    }

    #[test]
    fn an_unblamed_oom_kill_of_the_main_process_is_one() {
        let lines = vec![
            said(1, 1, What::OutOfMemory),
            said(2, 1, What::MainExited(Exit::Killed(9))),
            said(3, 1, What::Ended(UnitResult::Signal)),
            said(4, 2, What::OutOfMemory),
            said(5, 2, What::MainExited(Exit::Exited(1))),
            said(6, 2, What::Ended(UnitResult::ExitCode)),
        ];
        let expected =
            [(3, UnitResult::OomKill, Exit::Killed(9), false), (6, UnitResult::ExitCode, Exit::Exited(1), false)];
        assert_eq!(told(lines), expected);
    }

    #[test]
    fn an_end_that_only_the_resources_tell_was_clean() {
        let lines = vec![said(1, 1, What::Began), said(2, 1, What::Used), said(3, 2, What::Began)];
        assert_eq!(told(lines), [(2, UnitResult::Success, Exit::None, false)]);
    }
}
