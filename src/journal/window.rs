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
    read(journal, Way::Back, window, most, visit)
}

/// Shows the entries of the window, oldest first, at most `most` of them.
pub fn forth(journal: &mut Journal, window: Window, most: usize, visit: Visit<'_>) -> Result<Seen, JournalError> {
    journal.seek(window.since)?;
    read(journal, Way::Forth, window, most, visit)
}

#[derive(Clone, Copy)]
enum Way {
    Back,
    Forth,
}

impl Way {
    fn step(self, journal: &mut Journal) -> Result<bool, JournalError> {
        match self {
            Way::Back => journal.previous(),
            Way::Forth => journal.next(),
        }
    }

    /// Whether a reading that has come here is through.
    fn is_past(self, at: Wall, window: Window) -> bool {
        match self {
            Way::Back => at < window.since,
            Way::Forth => at > window.until,
        }
    }
}

fn read(journal: &mut Journal, way: Way, window: Window, most: usize, visit: Visit<'_>) -> Result<Seen, JournalError> {
    let mut seen = Seen::default();
    while seen.entries < most {
        match way.step(journal) {
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
        if way.is_past(at, window) {
            seen.all = true;
            break;
        }
        // With systemd 252 the first step from a time may land on an entry on the wrong side of it.
        if at < window.since || at > window.until {
            continue;
        }
        match visit(journal, at) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) if is_about_entry(&error) => seen.damaged += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}
