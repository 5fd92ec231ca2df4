// SPDX-License-Identifier: MIT OR Apache-2.0
//! What adapters found out about one run of a worker: lines in the order of time, each with the word of somebody whom
//! we can trust about where it came from.

use super::time::Wall;

/// The most lines that are kept of one run.
pub const ITEMS_MAX: usize = 4_000;

/// Who says so. Adapters decide this by fields that the writer of a line cannot choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The service manager, about this unit.
    Manager,
    /// The kernel, or its driver.
    Kernel,
    /// systemd-coredump, about a process of this unit.
    CoreDump,
    /// A killer in user space (systemd-oomd, earlyoom, slurmstepd) that is a service of its own.
    Killer,
    /// A counter of the unit's control group that rose during the run.
    Cgroup,
    /// The state of a file system that the worker uses, at the end of the run.
    Disk,
    /// A process of the unit.
    Output,
}

impl Source {
    pub const ALL: &[Source] = &[
        Source::Manager,
        Source::Kernel,
        Source::CoreDump,
        Source::Killer,
        Source::Cgroup,
        Source::Disk,
        Source::Output,
    ];

    /// The name in rules, on D-Bus and in `--json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Manager => "systemd",
            Source::Kernel => "kernel",
            Source::CoreDump => "coredump",
            Source::Killer => "killer",
            Source::Cgroup => "cgroup",
            Source::Disk => "disk",
            Source::Output => "output",
        }
    }
}

/// One line, or one fact that is told as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub source: Source,
    /// `Wall::NEVER` if unknown.
    pub at: Wall,
    /// The process that wrote it, zero if unknown.
    pub pid: u32,
    pub text: String,
    /// Its place in the journal, empty if it is not from there.
    pub cursor: String,
}

/// Everything that was found about one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// At most [`ITEMS_MAX`], in the order of time.
    pub items: Vec<Item>,
    /// How many messages of the unit journald dropped because of its rate limit.
    pub suppressed: u64,
    /// What could not be read, as fragments for people; unknown is not zero.
    pub gaps: Vec<String>,
}

/// A line that a rule recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clue {
    pub source: Source,
    pub cause: super::cause::Cause,
    /// In percent.
    pub weight: u8,
    pub text: String,
}

/// What the rules made of the evidence about one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub clues: Vec<Clue>,
    pub suppressed: u64,
    pub gaps: Vec<String>,
}
