// SPDX-License-Identifier: MIT OR Apache-2.0
//! What another policy would have decided about what was recorded.
//!
//! Knows recordings and scenarios, the engine, and nothing of files or clocks. A recording that is played with its own
//! policy gives its own decisions (same seed and events, same actions). With another policy the engine does other things,
//! and the recording cannot know what would have come of them: `world` says what is taken from it all the same, and
//! what is assumed; what is assumed is marked.

mod compare;
mod decision;
mod tape;
mod world;

pub use compare::{Row, Verdict};
pub use decision::Decision;

use crate::engine::policy::Policies;
use crate::engine::time::Wall;
use crate::scenario::play::{Wrong, play};
use std::time::Duration;

/// Both sides, decision by decision.
#[derive(Clone, Debug)]
pub struct Report {
    pub rows: Vec<Row>,
    /// When the recording begins; never, if it is no recording but a scenario.
    pub begins: Wall,
    /// How long it is.
    pub length: Duration,
    /// It goes on where another file ended, so that what was under way there is not known.
    pub is_continued: bool,
}

impl Report {
    /// Whether both sides decide the same, at about the same time.
    pub fn is_same(&self) -> bool {
        self.rows.iter().all(|row| row.verdict == Verdict::Same)
    }
}

/// Compares what was decided with what `policies` decide, or the recorded ones in this version if there are none.
pub fn replay(text: &str, policies: Option<Policies>) -> Result<Report, Wrong> {
    let tape = tape::read(text)?;
    let is_continued = tape.scene.is_continued;
    let other = match policies {
        None if !is_continued => tape::read(&play(text)?)?.decisions,
        policies => world::live(&tape, policies).map_err(|why| Wrong { line: text.lines().count(), why })?,
    };
    let begins = if tape.scene.is_recording { tape.scene.zero.wall } else { Wall::NEVER };
    let length = tape.end;
    Ok(Report { rows: compare::compare(tape.decisions, other), begins, length, is_continued })
}
