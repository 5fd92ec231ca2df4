// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a worker's progress is read from, and what a reading says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Named values of one reading that are kept.
pub const VALUES_MAX: usize = 64;
/// The longest name of a value or a stage and the longest cursor, in bytes.
pub const NAME_MAX: usize = 128;

/// One place where progress is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// A file with JSON, `key=value` lines or a plain number.
    File(Arc<str>),
    /// How many files match the glob.
    Count(Arc<str>),
    /// The newest time of change among the files that match the glob.
    Mtime(Arc<str>),
    /// A JSON document that is fetched with GET.
    Http(Arc<str>),
    /// What a command prints, as in a file.
    Command(Vec<Arc<str>>),
    /// A regular expression over the lines that the unit prints: the first group is the value, the second the total, and
    /// named groups are values of that name.
    Journal(Arc<str>),
}

impl Probe {
    /// The key of the policy that configures it.
    pub fn key(&self) -> &'static str {
        match self {
            Probe::File(_) => "file",
            Probe::Count(_) => "count",
            Probe::Mtime(_) => "mtime",
            Probe::Http(_) => "http",
            Probe::Command(_) => "command",
            Probe::Journal(_) => "journal",
        }
    }
}

/// What is read of one worker, from all of its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub probes: Vec<Probe>,
    /// Which field of a document is which value: a JSON pointer (`/data/step`) or the name of a key. A name that is not
    /// here is looked for under itself.
    pub fields: BTreeMap<Arc<str>, Arc<str>>,
    /// How often to ask where nothing tells of a change: HTTP, commands, globs, network file systems.
    pub every: Duration,
}

/// What one look at a source found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// `value` is the progress itself and `total` where it ends; `mtime` is a time of change in seconds since 1970. The
    /// others (`active`, `pending`, …) are for rules and for people.
    pub values: BTreeMap<Arc<str>, f64>,
    /// What the work is about at the moment, such as an id or a range of ids.
    pub cursor: Option<Arc<str>>,
    /// Which part of its work the worker is in, such as `train` or `evaluate`: each has a pace of its own.
    pub stage: Option<Arc<str>>,
}

/// How a worker uses its machine; counters rise while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Processor time of all of its processes.
    pub cpu: Duration,
    /// Bytes read from and written to storage.
    pub io: u64,
    /// Context switches of all of its threads.
    pub switches: u64,
    /// Bytes of memory that it holds and that the kernel could not simply take back; `None` where that is not known.
    pub memory: Option<u64>,
    /// Threads there are, how many of them are in uninterruptible sleep, and how many wait for a lock (futex(2)).
    pub threads: u32,
    pub blocked: u32,
    pub locked: u32,
    /// Lines that it has printed since watcherd reads along; `None` while watcherd does not.
    pub lines: Option<u64>,
    /// Time in which it, or the machine where that is all that is known, waited for memory or for I/O ("some", see
    /// PSI in the kernel's documentation); `None` where the kernel does not say.
    pub pressure: Option<Duration>,
    /// How it uses GPUs; `None` if it uses none as far as is known.
    pub gpu: Option<GpuUse>,
}

/// How the processes of a worker use GPUs, at one moment. The shares are those of the device that does most for them, in
/// percent of the last second or so; `None` where the device does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuUse {
    /// Bytes of device memory that they hold.
    pub held: u64,
    /// The time in which something was computed.
    pub compute: Option<u32>,
    /// The time in which memory of the device was read or written.
    pub memory: Option<u32>,
}

impl GpuUse {
    /// Computing without a look at its memory, all the time, is how a device waits for others that never come: a
    /// collective operation whose partner is gone.
    const SPINS: u32 = 95;

    /// Whether a device does something for the worker, as far as is known.
    pub fn works(&self) -> bool {
        let spins = self.compute >= Some(GpuUse::SPINS) && self.memory == Some(0);
        self.compute.max(self.memory).is_some_and(|share| share > 0) && !spins
    }
}

/// What is to be saved of a worker before it is stopped for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The name of the directory, below `incidents` in the state directory.
    pub incident: super::ids::IncidentId,
    pub main_pid: u32,
    pub invocation: Option<super::ids::InvocationId>,
    /// What is known about the progress, for the record.
    pub progress: String,
    /// The signal that makes the program write down its own stacks; zero for none.
    pub signal: i32,
    /// How long the program may take for that.
    pub grace: Duration,
    /// A program that writes down its stacks from outside, and its arguments; empty for none.
    pub dump: Vec<Arc<str>>,
}
