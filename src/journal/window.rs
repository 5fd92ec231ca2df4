// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the matching entries of a span of time, with a bound, and says whether it saw all of them.

use super::{Journal, JournalError, is_about_entry};
use crate::engine::time::Wall;
use std::ops::ControlFlow;

/// A span of time, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub since: Wall,
    pub until: Wall,
}

/// How far a reading came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Every entry of the window was looked at.
    pub all: bool,
    pub entries: usize,
    /// Entries that could not be read.
    pub damaged: usize,
}

type Visit<'a> = &'a mut dyn FnMut(&mut Journal, Wall) -> Result<ControlFlow<()>, JournalError>;

/// Shows the entries of the window, newest first, at most `most` of them.
pub fn back(journal: &mut Journal, window: Window, most: usize, visit: Visit<'_>) -> Result<Seen, JournalError> {
    journal.seek(Wall(window.until.0.saturating_add(1)))?;
    read(journal, Journal::previous, window, most, visit)
}

/// Shows the entries of the window, oldest first, at most `most` of them.
pub fn forth(journal: &mut Journal, window: Window, most: usize, visit: Visit<'_>) -> Result<Seen, JournalError> {
    journal.seek(window.since)?;
    read(journal, Journal::next, window, most, visit)
}

fn read(
    journal: &mut Journal,
    step: fn(&mut Journal) -> Result<bool, JournalError>,
    window: Window,
    most: usize,
    visit: Visit<'_>,
) -> Result<Seen, JournalError> {
    let mut seen = Seen::default();
    let mut inside = false;
    while seen.entries < most {
        match step(journal) {
            Ok(true) => seen.entries += 1,
            Ok(false) => {
                seen.all = true;
                break;
            }
            Err(error) if is_about_entry(&error) => {
                seen.damaged += 1;
                break;
            }
            Err(error) => return Err(error),
        }
        let at = match journal.at() {
            Ok(at) => at,
            Err(error) if is_about_entry(&error) => {
                seen.damaged += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        if at < window.since || at > window.until {
            // With systemd 252 the first step from a time may land on an entry on the wrong side of it.
            if inside || seen.entries > 1 {
                seen.all = true;
                break;
            }
            continue;
        }
        inside = true;
        match visit(journal, at) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) if is_about_entry(&error) => seen.damaged += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}
