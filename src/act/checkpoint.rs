// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checkpoints of workers: which there are, which of them are whole, and putting those aside that are not.
//!
//! The files belong to workers, which may be hostile. Whoever looks at them with the rights of root becomes their owner
//! first (checkpoint/place); only regular files are opened, no link is followed to one, little is read of each, and everything
//! has a cap and a deadline. Nothing is learned from a file by any framework: checkpoint/format knows what some kinds of files say
//! about their own size. What is not known to be whole is unknown, and is taken only where nothing is valid.
//!
//! Nothing that is broken is deleted, only renamed; what may be removed is what enough newer valid ones replace (checkpoint/tend).

mod command;
mod errand;
mod find;
mod format;
mod judge;
mod place;
mod tend;

#[cfg(test)]
mod tests;

pub use errand::{Order, program, read};
pub use find::fixed_part;

use crate::engine::action::Verify;
use place::Rights;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A checkpoint, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where it is, as the pattern leads to it.
    pub path: String,
    /// Of a directory, all of its files.
    pub bytes: u64,
    /// When it, or the newest file in it, was changed, in microseconds since 1970.
    pub changed: u64,
    pub state: State,
    /// Why it is not valid; a fragment.
    pub why: String,
    /// Such as `PyTorch`; empty if that is not known.
    pub kind: String,
    /// A link in the same directory leads to it.
    pub linked: bool,
    /// A run may go on from it, if none is valid.
    pub usable: bool,
    /// It counts among those of which so many are kept.
    pub counts: bool,
    /// It is so certainly not whole that it may be set aside.
    pub torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Valid,
    /// It is certainly not whole.
    Broken,
    /// By its name it is still being written, or never was to the end.
    Incomplete,
    /// Whether it is whole cannot be told.
    Unknown,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Valid => "valid",
            State::Broken => "broken",
            State::Incomplete => "incomplete",
            State::Unknown => "unknown",
        }
    }
}

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The newest first.
    pub checkpoints: Vec<Checkpoint>,
    /// The names of those that were set aside, and what is wrong with each.
    pub set_aside: Vec<(String, String)>,
    /// The names of those that were removed.
    pub removed: Vec<String>,
    /// What could not be done; fragments.
    pub failed: Vec<String>,
}

impl Report {
    pub fn resume_from(&self) -> Option<&Checkpoint> {
        chosen(&self.checkpoints).and_then(|at| self.checkpoints.get(at))
    }
}

/// The one from which a run is to go on: the newest valid one, or else the newest that can be used.
pub fn chosen(checkpoints: &[Checkpoint]) -> Option<usize> {
    let valid = checkpoints.iter().position(|checkpoint| checkpoint.state == State::Valid);
    valid.or_else(|| checkpoints.iter().position(|checkpoint| checkpoint.usable))
}

/// Looks at all checkpoints that match, with the rights that the caller has, and changes nothing; the error is a fragment.
/// What could not be looked at by the deadline is unknown. Blocks as long as the file systems do.
pub fn look(pattern: &str, verify: &Verify, deadline: Instant) -> Result<Report, String> {
    let mut rights = Rights::own();
    let found = find::find(pattern, &mut rights)?;
    Ok(Report { checkpoints: judge::all(&found, verify, &mut rights, deadline), ..Report::default() })
}
