// SPDX-License-Identifier: MIT OR Apache-2.0
//! What adapters found out about one run of a worker: lines in the order of time, each with the word of somebody whom
//! we can trust about where it came from.

use super::cause::Cause;
use super::time::Wall;
use std::sync::Arc;

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

    /// The source of that name.
    pub fn parse(name: &str) -> Option<Source> {
        Self::ALL.iter().copied().find(|source| source.as_str() == name)
    }
}

/// What a line says about the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It tells the cause.
    Proof,
    /// It tells what happened because something else had died; its own cause counts where nothing explains it.
    Symptom,
    /// It hints at a cause; it counts where nothing better is known.
    Hint,
    /// It counts where the run failed and nothing else explains it.
    Faint,
    /// It tells how a process ended, not why; its cause is what such an end stands for.
    End,
    /// It says that what looks bad is not.
    Harmless,
    /// It is a piece of work done; where a log ends in such lines, what it told before was no crash.
    Work,
    /// It says nothing alone; other rules ask for it.
    Context,
}

impl Role {
    pub const ALL: &[Role] =
        &[Role::Proof, Role::Symptom, Role::Hint, Role::Faint, Role::End, Role::Harmless, Role::Work, Role::Context];

    /// The name in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Proof => "proof",
            Role::Symptom => "symptom",
            Role::Hint => "hint",
            Role::Faint => "faint",
            Role::End => "end",
            Role::Harmless => "harmless",
            Role::Work => "work",
            Role::Context => "context",
        }
    }
}

/// A line that a rule recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clue {
    /// The name of the rule.
    pub rule: Arc<str>,
    pub cause: Cause,
    pub role: Role,
    /// How much it proves, 0 to 100.
    pub weight: u8,
    /// Causes that are a mere consequence where this clue is.
    pub explains: Arc<[Cause]>,
    /// Other causes that a careful reader could defend.
    pub also: Arc<[Cause]>,
    pub source: Source,
    /// The number of the line among all that were read.
    pub place: u64,
    /// `Wall::NEVER` if unknown.
    pub at: Wall,
    /// The process that wrote it, zero if unknown.
    pub pid: u32,
    /// How often the rule matched within the run.
    pub count: u64,
    /// The line, cut to [`TEXT_MAX`] bytes.
    pub text: String,
    /// The named groups of the pattern.
    pub values: Vec<(Arc<str>, String)>,
}

impl Clue {
    /// A captured value; empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| **known == *name).map_or("", |(_, value)| value)
    }
}

/// All clues of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clues {
    /// At most [`CLUES_MAX`], in the order of the lines.
    pub list: Vec<Clue>,
    /// How many lines were read.
    pub lines: u64,
    /// How many messages of the unit are missing between them.
    pub suppressed: u64,
}

/// The rule of clues that are a run's last words; they are told where nothing explains its end.
pub const LAST_WORDS: &str = "last-words";

/// The most clues that are judged.
pub const CLUES_MAX: usize = 512;
/// The longest text of a clue, in bytes.
pub const TEXT_MAX: usize = 400;

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

/// What the rules made of the evidence about one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub clues: Clues,
    /// What could not be read, as fragments for people.
    pub gaps: Vec<String>,
    /// The process dumped its core, but what systemd-coredump says about that is still to come.
    pub core_to_come: bool,
}
