// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run with all of its output, for who has the time: what [`super::collect`] leaves out is told on the way.

use super::{Run, Wanted, all_sources};
use crate::engine::evidence::{Evidence, Item, Source};
use crate::engine::time::Wall;
use crate::journal::tail::readable;
use crate::journal::window::{Window, forth};
use crate::journal::{Journal, JournalError};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// One line, valid during the call.
pub struct Told<'a> {
    pub source: Source,
    pub at: Wall,
    /// Zero if unknown.
    pub pid: u32,
    pub text: &'a str,
}

/// Tells everything that is known about a run in the order of time; what is returned is what [`super::collect`] keeps of it.
pub fn tell(
    journal: &mut Journal,
    wanted: &Wanted<'_>,
    hear: &mut dyn FnMut(Told<'_>),
) -> Result<Evidence, JournalError> {
    let told = tell_all(journal, wanted, hear);
    journal.clear_matches();
    told
}

fn tell_all(
    journal: &mut Journal,
    wanted: &Wanted<'_>,
    hear: &mut dyn FnMut(Told<'_>),
) -> Result<Evidence, JournalError> {
    let mut run = all_sources(journal, wanted)?;
    let unread = run.unread.take();
    run.order();
    let items = std::mem::take(&mut run.evidence.items);
    let mut kept = items.iter().peekable();
    if let Some(window) = unread {
        run.middle(journal, window, &items, &mut |told| {
            while let Some(item) = kept.next_if(|item| item.at < told.at) {
                hear(Told::of(item));
            }
            hear(told);
        })?;
    }
    kept.for_each(|item| hear(Told::of(item)));
    run.evidence.items = items;
    Ok(run.finish())
}

impl<'a> Told<'a> {
    fn of(item: &'a Item) -> Told<'a> {
        Told { source: item.source, at: item.at, pid: item.pid, text: &item.text }
    }
}

impl Run<'_> {
    /// The output in a window, without what of it was kept.
    fn middle(
        &mut self,
        journal: &mut Journal,
        window: Window,
        items: &[Item],
        hear: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), JournalError> {
        let at_its_ends = items.iter().filter(|item| item.at == window.since || item.at == window.until);
        let known: HashSet<&str> = at_its_ends.map(|item| item.cursor.as_str()).collect();
        journal.clear_matches();
        journal.match_output(self.wanted.unit, self.wanted.scope, self.wanted.pid)?;
        let seen = forth(journal, window, usize::MAX, &mut |journal, at| {
            let at_end = at == window.since || at == window.until;
            if at_end && known.contains(journal.cursor()?.as_str()) {
                return Ok(ControlFlow::Continue(()));
            }
            if let Some((source, pid)) = self.speaker(journal, at)?
                && let Some(message) = journal.field(c"MESSAGE")?
            {
                hear(Told { source, at, pid, text: &readable(&message) });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.damaged += seen.damaged;
        if !seen.all {
            self.evidence.gaps.push("part of its output could not be read".to_owned());
        }
        Ok(())
    }
}
