// SPDX-License-Identifier: MIT OR Apache-2.0
//! How things look: texts for people, JSON for programs. Nothing here asks or decides anything.

pub mod checkpoints;
pub mod colour;
pub mod decisions;
pub mod diagnosis;
pub mod escape;
pub mod incident;
pub mod json;
pub mod notices;
pub mod pager;
pub mod property;
pub mod screen;
pub mod stats;
pub mod status;
pub mod table;
pub mod time;
pub mod workers;

#[cfg(test)]
pub mod tests;

use crate::engine::time::Wall;
use jiff::tz::TimeZone;

/// What the output is for, and when it is made.
#[derive(Clone, Debug)]
pub struct Look {
    pub colour: bool,
    /// Columns of the terminal; `None` where lines may be as long as they want to be.
    pub width: Option<usize>,
    /// Whether headings and footers are wanted.
    pub legend: bool,
    pub zone: TimeZone,
    pub now: Wall,
}
