// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that the journal knows about one run: what it wrote, and what systemd, the kernel, systemd-coredump and killers in
//! user space said about it, in the order of time.
//!
//! Who said a line is decided by fields that journald vouches for; anybody may claim `UNIT=`, `MESSAGE_ID=` or `COREDUMP_UNIT=`.
//! Each source is read from its own matches, back from the run's end, so the cost is that of what is returned, not that of the
//! journal; what a bound kept from being read is told in [`Evidence::gaps`]. A run that is still under way has `until` now.

use super::cgroup::UnitCgroup;
use super::tail::{is_of_session, readable};
use super::window::{Seen, Window, back, forth};
use super::{Journal, JournalError, Scope, coredump, kernel};
use crate::engine::evidence::{Evidence, ITEMS_MAX, Item, Source};
use crate::engine::ids::InvocationId;
use crate::engine::time::Wall;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

mod whole;

pub use whole::{Told, tell};

/// The last so many lines of the run's output are kept.
pub const LAST_LINES: usize = 2_000;

/// The first so many lines are kept too, because they say what was run.
pub const FIRST_LINES: usize = 100;

/// The time of a crash is told in whole seconds.
const WHOLE_SECOND: Duration = Duration::from_secs(1);

/// How late others write down what happened in a run.
const SLACK: Duration = Duration::from_secs(2);

/// How long after the begin of the next run a line of this one may still be written down.
const OVERLAP: Duration = Duration::from_millis(250);

/// How much before systemd notes the start of a program, that program may have written: systemd may have to wait for a
/// processor in between.
const EARLY: Duration = Duration::from_secs(1);

/// How late an entry may be that itself says when it happened, or that counts what happened before it.
const LATE: Duration = Duration::from_secs(60);

/// How much before its end a run is looked at that nobody knows the begin of, in microseconds.
const UNKNOWN_BEGIN: i64 = 3_600_000_000;

/// The most process ids that are remembered of a run.
const PIDS_MAX: usize = 4_096;

/// Entries that may be looked at for one source, wanted or not.
const LOOKED_AT_MAX: usize = 20_000;

const SUPPRESSED: &str = "a596d6fe7bfa4994828e72309e95d61e";
const MISSED: &str = "e9bf28e6e834481bb6f48f548ad13606";
const KILLERS: [&str; 6] = [
    "systemd-oomd.service",
    "earlyoom.service",
    "nohang.service",
    "nohang-desktop.service",
    "slurmstepd.scope",
    "slurmd.service",
];

/// How systemd begins what it says of a unit by its description.
const DOINGS: [&str; 9] = [
    "Starting ",
    "Started ",
    "Stopping ",
    "Stopped ",
    "Finished ",
    "Reloading ",
    "Reloaded ",
    "Failed to start ",
    "Failed to reload ",
];

/// Which run.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub unit: &'a str,
    pub scope: Scope,
    /// Our own name of the run (`WATCHERD_RUN=`). It holds for every restart by systemd of a unit that was made once.
    pub run: Option<&'a str>,
    pub invocation: Option<InvocationId>,
    /// The main process, zero if unknown.
    pub pid: u32,
    /// When it began; `Wall::NEVER` if unknown.
    pub since: Wall,
    /// When it ended.
    pub until: Wall,
}

/// Collects what is known about a run; of a core dump, the item's `pid` is the process that crashed.
pub fn collect(journal: &mut Journal, wanted: &Wanted<'_>) -> Result<Evidence, JournalError> {
    let run = all_sources(journal, wanted);
    journal.clear_matches();
    let mut run = run?;
    if run.unread.is_some() {
        let gap = format!("of its output only the first and the last {LAST_LINES} lines or 1 MiB were read");
        run.evidence.gaps.push(gap);
    }
    Ok(run.finish())
}

/// What is found out about the run on the way, for the sources that are asked later.
struct Run<'a> {
    wanted: &'a Wanted<'a>,
    cgroup: UnitCgroup<'a>,
    begin: Wall,
    /// When the next run began, if that was soon.
    next: Option<Wall>,
    pids: HashSet<u32>,
    names: HashSet<String>,
    evidence: Evidence,
    /// The part of the output that was too much.
    unread: Option<Window>,
    damaged: usize,
}

fn all_sources<'a>(journal: &mut Journal, wanted: &'a Wanted<'a>) -> Result<Run<'a>, JournalError> {
    let begin = begin(journal, wanted)?;
    let is_set_back = begin > wanted.until;
    let begin = if is_set_back { Wall(wanted.until.0.saturating_sub(UNKNOWN_BEGIN)) } else { begin };
    let mut run = Run {
        wanted,
        cgroup: UnitCgroup::new(wanted.unit, wanted.scope),
        begin,
        next: None,
        pids: HashSet::from_iter((wanted.pid != 0).then_some(wanted.pid)),
        names: HashSet::new(),
        evidence: Evidence::default(),
        unread: None,
        damaged: 0,
    };
    if is_set_back {
        run.evidence.gaps.push("the clock was set back during the run".to_owned());
    }
    run.manager(journal)?;
    run.output(journal)?;
    run.core_dumps(journal)?;
    run.killers(journal)?;
    run.kernel(journal)?;
    run.losses(journal)?;
    Ok(run)
}

/// When the run began: `ExecStartPre=` runs before what systemd calls the start of the main process.
fn begin(journal: &mut Journal, wanted: &Wanted<'_>) -> Result<Wall, JournalError> {
    let mut said = None;
    if let Some(invocation) = wanted.invocation {
        journal.clear_matches();
        journal.match_manager(wanted.unit, wanted.scope)?;
        journal.add_match(invocation_field(wanted.scope), invocation.to_string())?;
        journal.seek_head()?;
        said = match journal.next() {
            Ok(true) if wanted.since != Wall::NEVER => Some(journal.at()?),
            // A line about the end says nothing about the begin. A program may be quicker than the line about its start.
            Ok(true) if begins(journal)? => Some(Wall(journal.at()?.0.saturating_sub(SLACK.as_micros() as i64))),
            Ok(_) => None,
            Err(error) if super::is_about_entry(&error) => None,
            Err(error) => return Err(error),
        };
    }
    let given = (wanted.since != Wall::NEVER).then_some(wanted.since);
    Ok(match (said, given) {
        (Some(said), Some(given)) => said.min(given),
        (said, given) => said.or(given).unwrap_or(Wall(wanted.until.0.saturating_sub(UNKNOWN_BEGIN))),
    })
}

fn invocation_field(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "INVOCATION_ID",
        Scope::User => "USER_INVOCATION_ID",
    }
}

impl Run<'_> {
    /// The window of a source that writes things down so much later; ends where the next run began.
    fn window(&self, late: Duration) -> Window {
        let until = self.wanted.until + late;
        let next = self.next.map_or(Wall(i64::MAX), |next| Wall(next.0 - 1));
        Window { since: self.begin, until: until.min(next).max(self.wanted.until) }
    }

    fn manager(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        journal.match_manager(self.wanted.unit, self.wanted.scope)?;
        let mut kept = Part::new(Source::Manager, 300, 128 << 10);
        let mut next = None;
        let wanted = self.wanted;
        let seen = back(journal, self.window(LATE), LOOKED_AT_MAX, &mut |journal, at| {
            let name = match wanted.scope {
                Scope::System => c"INVOCATION_ID",
                Scope::User => c"USER_INVOCATION_ID",
            };
            let invocation = journal.invocation(name)?;
            let other = invocation.is_some() && wanted.invocation.is_some() && invocation != wanted.invocation;
            if at > wanted.until && (other || (wanted.invocation.is_none() && begins(journal)?)) {
                next = Some(at);
            }
            if other {
                return Ok(ControlFlow::Continue(()));
            }
            kept.keep_said(wanted.unit, journal, at)
        })?;
        self.next = next;
        if let Some(next) = next {
            kept.items.retain(|item| item.at < next);
        }
        self.take_back(kept, seen);
        Ok(())
    }

    fn output(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        journal.match_output(self.wanted.unit, self.wanted.scope, self.wanted.pid)?;
        // A line that is known to be of the run counts also when the next one has begun, which may write very much.
        let until = self.wanted.until + SLACK;
        let until = self.next.map_or(until, |next| until.min(next + OVERLAP));
        let since = Wall(self.begin.0.saturating_sub(EARLY.as_micros() as i64));
        let window = Window { since, until };
        let mut last = Part::new(Source::Output, LAST_LINES, 1 << 20);
        self.last_words(
            journal,
            Window { since: Wall(until.0.saturating_add(1)), until: self.wanted.until + SLACK },
            &mut last,
        )?;
        let seen = back(journal, window, LOOKED_AT_MAX, &mut |journal, at| self.line(journal, at, &mut last))?;
        let oldest = last.items.last().map(|item| (item.at, item.cursor.clone()));
        self.take_back(last, seen);
        if seen.all {
            return Ok(());
        }
        let until = oldest.as_ref().map_or(window.until, |(at, _)| *at);
        let mut first = Part::new(Source::Output, FIRST_LINES, 256 << 10);
        let mut met = false;
        let seen = forth(journal, Window { until, ..window }, LOOKED_AT_MAX, &mut |journal, at| {
            if oldest.as_ref().is_some_and(|(oldest, _)| *oldest == at)
                && oldest.as_ref().is_some_and(|(_, cursor)| journal.cursor().is_ok_and(|here| here == *cursor))
            {
                met = true;
                return Ok(ControlFlow::Break(()));
            }
            self.line(journal, at, &mut first)
        })?;
        if !met && !seen.all {
            let since = first.items.last().map_or(window.since, |item| item.at);
            self.unread = Some(Window { since, until });
        }
        self.take(first, Seen { all: true, ..seen });
        Ok(())
    }

    /// What the main process wrote and journald took down only when the next run had long begun.
    fn last_words(&mut self, journal: &mut Journal, window: Window, kept: &mut Part) -> Result<(), JournalError> {
        if self.next.is_none() || window.since > window.until || self.wanted.pid == 0 {
            return Ok(());
        }
        journal.and()?;
        journal.add_match("_PID", self.wanted.pid.to_string())?;
        let seen = back(journal, window, LOOKED_AT_MAX, &mut |journal, at| self.line(journal, at, kept))?;
        self.damaged += seen.damaged;
        journal.clear_matches();
        journal.match_output(self.wanted.unit, self.wanted.scope, self.wanted.pid)
    }

    /// Keeps the current line of the unit unless it is of another run.
    fn line(&mut self, journal: &mut Journal, at: Wall, kept: &mut Part) -> Result<ControlFlow<()>, JournalError> {
        match self.speaker(journal, at)? {
            Some((source, _)) => kept.keep_as(source, journal, at),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// Who says the current line of the unit, and with which process; `None` if it is of another run.
    fn speaker(&mut self, journal: &mut Journal, at: Wall) -> Result<Option<(Source, u32)>, JournalError> {
        let wanted = self.wanted;
        let invocation = journal.invocation(c"_SYSTEMD_INVOCATION_ID")?;
        let session = invocation.is_some() && is_of_session(journal, wanted.scope)?;
        let next_has_begun = self.next.is_some_and(|next| at >= next);
        let pid = pid(journal)?;
        let ours = match (invocation, wanted.invocation) {
            // Of a process that is gone journald gives the unit's invocation of now.
            _ if next_has_begun && pid != 0 && pid == wanted.pid => Some(true),
            (Some(theirs), Some(ours)) if !session => Some(theirs == ours),
            _ => match (journal.text(c"WATCHERD_RUN")?, wanted.run) {
                (Some(theirs), Some(ours)) if theirs != ours => Some(false),
                _ => None,
            },
        };
        // So early, only what is known to be of the run counts: the one before may have ended just now.
        let early = at < self.begin && !(pid != 0 && pid == wanted.pid);
        if !ours.unwrap_or(!next_has_begun && !early) {
            return Ok(None);
        }
        if pid != 0 && self.pids.len() < PIDS_MAX && !self.pids.contains(&pid) {
            self.names.extend(journal.text(c"_COMM")?);
            self.pids.insert(pid);
        }
        // Before the program is run, systemd itself writes in its place ("Failed at step EXEC").
        let source = match is_executor(journal)? {
            true => Source::Manager,
            false => Source::Output,
        };
        Ok(Some((source, pid)))
    }

    fn core_dumps(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        coredump::match_unit(journal, self.wanted.unit, self.wanted.scope)?;
        let mut kept = Part::new(Source::CoreDump, 50, 128 << 10);
        let window = Window { since: self.begin, until: self.wanted.until + LATE };
        let in_time = self.window(SLACK);
        let seen = back(journal, window, LOOKED_AT_MAX, &mut |journal, at| {
            let Some(dump) = coredump::read(journal)? else { return Ok(ControlFlow::Continue(())) };
            let crashed = dump.crashed.unwrap_or(at);
            let known = dump.pid == self.wanted.pid || self.pids.contains(&dump.pid);
            // A process that has lived for less than a second may seem to have crashed before it began.
            let second = if known { WHOLE_SECOND } else { Duration::ZERO };
            if crashed + second < in_time.since || crashed > in_time.until || (at > in_time.until && !known) {
                return Ok(ControlFlow::Continue(()));
            }
            self.pids.extend(dump.threads);
            self.pids.insert(dump.pid);
            self.names.insert(dump.name);
            let cursor = journal.cursor()?;
            Ok(kept.keep(Item { source: Source::CoreDump, at, pid: dump.pid, text: dump.text, cursor }))
        })?;
        self.take_back(kept, seen);
        Ok(())
    }

    fn killers(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        for killer in KILLERS {
            journal.add_match("_SYSTEMD_UNIT", killer)?;
        }
        let mut kept = Part::new(Source::Killer, 100, 64 << 10);
        let seen = back(journal, self.window(SLACK), LOOKED_AT_MAX, &mut |journal, at| {
            let text = readable(&journal.field(c"MESSAGE")?.unwrap_or_default());
            if self.cgroup.is_in(&text) || names_process(&text, &self.pids) {
                return kept.keep_current(journal, at);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.take_back(kept, seen);
        Ok(())
    }

    fn kernel(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        journal.add_match("_TRANSPORT", "kernel")?;
        journal.add_match("_TRANSPORT", "audit")?;
        let mut candidates = Part::new(Source::Kernel, 4_000, 1 << 20);
        let seen = back(journal, self.window(SLACK), LOOKED_AT_MAX, &mut |journal, at| {
            let message = journal.field(c"MESSAGE")?.unwrap_or_default();
            if kernel::is_candidate(&String::from_utf8_lossy(&message)) {
                return candidates.keep_current(journal, at);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if seen.entries == 0 && !has_any(journal)? {
            self.evidence.gaps.push("the kernel's log cannot be read, or is not in the journal".to_owned());
        }
        let known =
            kernel::Known { cgroup: &self.cgroup, pids: &self.pids, names: &self.names, ended: self.wanted.until };
        candidates.items.reverse();
        let concerns = kernel::weigh(candidates.items.iter().map(|item| (item.at, item.text.as_str())), &known);
        // Those of the run first: a disk that fails says so thousands of times.
        let mut of_run = Part::new(Source::Kernel, 300, 160 << 10);
        let mut of_host = Part::new(Source::Kernel, 200, 96 << 10);
        let mut full = false;
        for (item, concern) in candidates.items.into_iter().zip(concerns).rev() {
            full |= match concern {
                kernel::Concern::Run => of_run.keep(item).is_break(),
                kernel::Concern::Host => of_host.keep(item).is_break(),
                kernel::Concern::Other => false,
            };
        }
        self.take_back(of_host, Seen { all: true, ..Seen::default() });
        self.take_back(of_run, Seen { all: seen.all && !full, ..seen });
        Ok(())
    }

    /// What journald says it has lost.
    fn losses(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        for id in [SUPPRESSED, MISSED] {
            journal.add_match("MESSAGE_ID", id)?;
        }
        journal.add_match("_TRANSPORT", "driver")?;
        let (ours, session) = match self.wanted.scope {
            Scope::System => (self.wanted.unit.to_owned(), None),
            Scope::User => (self.wanted.unit.to_owned(), Some(format!("user@{}.service", nix::unistd::getuid()))),
        };
        let (mut suppressed, mut of_session, mut missed) = (0_u64, 0_u64, false);
        let window = Window { since: self.begin, until: self.wanted.until + LATE };
        let seen = back(journal, window, LOOKED_AT_MAX, &mut |journal, _| {
            let text = journal.text(c"MESSAGE")?.unwrap_or_default();
            let dropped = journal.text(c"N_DROPPED")?.and_then(|text| text.parse().ok());
            match text.rsplit_once(" messages from ") {
                Some((_, unit)) if unit == ours => suppressed = suppressed.saturating_add(dropped.unwrap_or(1)),
                Some((_, unit)) if Some(unit) == session.as_deref() => {
                    of_session = of_session.saturating_add(dropped.unwrap_or(1));
                }
                Some(_) => {}
                None => missed = true,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.damaged += seen.damaged;
        self.evidence.suppressed = suppressed;
        if of_session > 0 {
            let text = format!("journald dropped {of_session} messages of the user's session, perhaps of this unit");
            self.evidence.gaps.push(text);
        }
        if missed {
            self.evidence.gaps.push("journald missed lines of the kernel".to_owned());
        }
        self.begin_of_journal(journal)
    }

    fn begin_of_journal(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.clear_matches();
        journal.seek_head()?;
        let first = match journal.next() {
            Ok(true) => journal.at(),
            Ok(false) => {
                self.evidence.gaps.push("the journal is empty, or cannot be read".to_owned());
                return Ok(());
            }
            Err(error) => Err(error),
        };
        match first {
            Ok(first) if first > self.begin + SLACK => {
                self.evidence.gaps.push("the journal begins after the run did".to_owned());
            }
            Ok(_) => {}
            Err(error) if super::is_about_entry(&error) => self.damaged += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes over what was read back, newest first.
    fn take_back(&mut self, mut part: Part, seen: Seen) {
        part.items.reverse();
        self.take(part, seen);
    }

    fn take(&mut self, part: Part, seen: Seen) {
        self.damaged += seen.damaged;
        if !seen.all && part.source != Source::Output {
            let who = part.source.as_str();
            self.evidence.gaps.push(format!("older lines from {who} were not read, there are too many"));
        }
        self.evidence.items.extend(part.items);
    }

    fn finish(mut self) -> Evidence {
        if self.damaged > 0 {
            self.evidence.gaps.push(format!("{} entries of the journal could not be read", self.damaged));
        }
        self.order();
        self.evidence
    }

    fn order(&mut self) {
        self.evidence.items.sort_by_key(|item| item.at);
        self.evidence.items.truncate(ITEMS_MAX);
    }
}

/// What is kept of one source.
struct Part {
    source: Source,
    most: usize,
    /// How many bytes of text may still be kept.
    room: usize,
    items: Vec<Item>,
}

impl Part {
    fn new(source: Source, most: usize, room: usize) -> Part {
        Part { source, most, room, items: Vec::new() }
    }

    fn keep_current(&mut self, journal: &mut Journal, at: Wall) -> Result<ControlFlow<()>, JournalError> {
        self.keep_as(self.source, journal, at)
    }

    fn keep_as(&mut self, source: Source, journal: &mut Journal, at: Wall) -> Result<ControlFlow<()>, JournalError> {
        let Some(message) = journal.field(c"MESSAGE")? else { return Ok(ControlFlow::Continue(())) };
        let item = Item { source, at, pid: pid(journal)?, text: readable(&message), cursor: journal.cursor()? };
        Ok(self.keep(item))
    }

    /// What systemd says about the unit, without its description: that may hold any words, such as a command line.
    fn keep_said(&mut self, unit: &str, journal: &mut Journal, at: Wall) -> Result<ControlFlow<()>, JournalError> {
        let Some(message) = journal.field(c"MESSAGE")? else { return Ok(ControlFlow::Continue(())) };
        let text = readable(&message);
        // systemd 252 says so of every unit that is made anew under the same name.
        if text.starts_with("Failed to open /run/systemd/transient/") {
            return Ok(ControlFlow::Continue(()));
        }
        let text = match DOINGS.iter().find(|doing| text.starts_with(**doing)) {
            Some(doing) => format!("{doing}{unit}."),
            None => text,
        };
        let item = Item { source: self.source, at, pid: pid(journal)?, text, cursor: journal.cursor()? };
        Ok(self.keep(item))
    }

    /// `Break` if there is no room for it.
    fn keep(&mut self, item: Item) -> ControlFlow<()> {
        if self.items.len() >= self.most || self.room < item.text.len() {
            return ControlFlow::Break(());
        }
        self.room -= item.text.len();
        self.items.push(item);
        ControlFlow::Continue(())
    }
}

fn pid(journal: &mut Journal) -> Result<u32, JournalError> {
    Ok(journal.text(c"_PID")?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Whether the service manager says that it begins a run.
fn begins(journal: &mut Journal) -> Result<bool, JournalError> {
    Ok(journal.text(c"MESSAGE_ID")?.is_some_and(|id| super::history::BEGIN_IDS.contains(&id.as_str())))
}

/// Whether a process of the unit wrote this that still is systemd and not yet the program.
fn is_executor(journal: &mut Journal) -> Result<bool, JournalError> {
    let Some(program) = journal.text(c"_EXE")? else { return Ok(false) };
    Ok(matches!(
        program.trim_end_matches(" (deleted)"),
        "/usr/lib/systemd/systemd" | "/usr/lib/systemd/systemd-executor" | "/lib/systemd/systemd"
    ))
}

/// Whether the text speaks of one of these processes.
fn names_process(text: &str, pids: &HashSet<u32>) -> bool {
    ["process ", "pid ", "PID ", "pid="].iter().any(|word| {
        let numbers = text.match_indices(word).filter_map(|(at, word)| kernel::number(&text[at + word.len()..]));
        numbers.into_iter().any(|pid| pids.contains(&pid))
    })
}

/// Whether an entry of the current matches is anywhere in the journal.
fn has_any(journal: &mut Journal) -> Result<bool, JournalError> {
    journal.seek_tail()?;
    match journal.previous() {
        Err(error) if super::is_about_entry(&error) => Ok(true),
        other => other,
    }
}

#[cfg(test)]
mod tests;
