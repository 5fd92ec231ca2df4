// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends what is left of a run that is over, wherever it went.
//!
//! The proof is the invocation id that systemd put into the environment of the run (`$INVOCATION_ID`), which children
//! inherit, and nothing else: no name, no parent, no session. A process that systemd started for another unit has that
//! unit's id. Whoever cleared its environment can be named by its number and the time of its start, by somebody who found
//! it in the control group of the unit while that was down.
//!
//! Nothing is signalled but by a descriptor (pidfd_open(2)) that was opened before the proof was read: if the number went
//! to somebody else meanwhile, the signal reaches nobody.

use crate::engine::ids::InvocationId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// From SIGTERM to SIGKILL.
pub const TERM_FOR: Duration = Duration::from_secs(5);
/// After SIGKILL only the kernel itself can hold a process.
pub const KILL_FOR: Duration = Duration::from_secs(2);

const VARIABLE: &[u8] = b"INVOCATION_ID=";
/// The most that is read of an environment, in bytes.
const ENVIRONMENT_MAX: u64 = 4 << 20;
const ENVIRONMENT_USUAL: usize = 16 << 10;
/// Descriptors of processes that are held at once.
const HELD_MAX: usize = 256;
/// New children of what is left are looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Processes that are named.
const NAMED_MAX: usize = 100;

/// A process of a run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub pid: u32,
    /// Such as `312 (python3)`.
    pub name: String,
}

/// What became of the processes, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub ended: Vec<String>,
    pub stays: Vec<String>,
}

/// A process by its number and the time of its start, in ticks since the machine was started; written as `312:4711`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    pub start: u64,
}

/// What is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whoever has this id.
    pub run: InvocationId,
    /// And these.
    pub also: Vec<Process>,
}

impl Wanted {
    /// Those whose environment may not be read are not found.
    pub fn left(&self) -> Vec<Left> {
        left(|pid| self.is(pid))
    }

    fn is(&self, pid: u32) -> bool {
        run_of(pid) == Some(self.run) || self.also.iter().any(|one| one.pid == pid && Process::of(pid) == Some(*one))
    }
}

impl Process {
    /// `None` if it has ended, reaped or not.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = procfs::process::Process::new(i32::try_from(pid).ok()?).and_then(|process| process.stat()).ok()?;
        (stat.state != 'Z' && stat.state != 'X').then_some(Process { pid, start: stat.starttime })
    }

    /// Reads `312:4711`.
    pub fn parse(text: &str) -> Result<Process, String> {
        let (pid, start) = text.split_once(':').ok_or("PID:START is expected")?;
        let number = |error: std::num::ParseIntError| error.to_string();
        Ok(Process { pid: pid.parse().map_err(number)?, start: start.parse().map_err(number)? })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.start)
    }
}

/// The processes of the machine by the runs that they belong to, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Census(BTreeMap<InvocationId, u32>);

impl Census {
    /// Asks all processes; may block for as long as the memory of one of them is locked.
    pub fn take() -> Census {
        let mut runs = BTreeMap::new();
        others().filter_map(run_of).for_each(|run| *runs.entry(run).or_default() += 1);
        Census(runs)
    }

    /// How many processes name the run.
    pub fn count(&self, run: InvocationId) -> u32 {
        self.0.get(&run).copied().unwrap_or(0)
    }
}

fn others() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != 1 && *pid != std::process::id())
}

fn left(is_wanted: impl Fn(u32) -> bool) -> Vec<Left> {
    let ours = file_of("self");
    let proven = others().filter(|pid| is_wanted(*pid));
    // Whoever runs watcherd within a run must not lose it.
    let left = proven.filter(|pid| ours.is_none() || file_of(&pid.to_string()) != ours);
    left.map(|pid| Left { pid, name: name(pid) }).collect()
}

/// Ends what is wanted: SIGTERM, and SIGKILL for what is there after `patience`.
pub fn end(wanted: &Wanted, patience: Duration) -> Swept {
    let mut ended = Vec::new();
    if !signal_all(wanted, Signal::TERM, patience, &mut ended) {
        signal_all(wanted, Signal::KILL, KILL_FOR, &mut ended);
    }
    Swept { ended, stays: wanted.left().into_iter().map(|left| left.name).collect() }
}

/// `watcherd --sweep`: ends what is wanted and prints what became of it.
pub fn program(wanted: &Wanted) -> ExitCode {
    print!("{}", end(wanted, TERM_FOR).print());
    ExitCode::SUCCESS
}

impl Swept {
    fn print(&self) -> String {
        let lines = |word: &str, names: &[String]| -> String {
            names.iter().take(NAMED_MAX).map(|name| format!("{word} {name}\n")).collect()
        };
        lines("ended", &self.ended) + &lines("stays", &self.stays)
    }

    /// Reads what [`program`] printed.
    pub fn parse(text: &str) -> Swept {
        let of = |word: &str| text.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect();
        Swept { ended: of("ended "), stays: of("stays ") }
    }
}

/// `312 (python3)`; what is no plain character in a name becomes a question mark.
fn name(pid: u32) -> String {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let comm = String::from_utf8_lossy(&comm);
    let plain: String = comm.trim_end_matches('\n').chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{pid} ({plain})")
}

/// The run that the environment names with which the process was started. The first value counts, as for getenv(3).
fn run_of(pid: u32) -> Option<InvocationId> {
    // Most environments fit, and all processes of the machine are asked.
    let mut environment = Vec::with_capacity(ENVIRONMENT_USUAL);
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRONMENT_MAX).read_to_end(&mut environment).ok()?;
    named(&environment)
}

fn named(environment: &[u8]) -> Option<InvocationId> {
    let mut at = memchr::memmem::find_iter(environment, VARIABLE).filter(|at| *at == 0 || environment[at - 1] == 0);
    let value = environment[at.next()? + VARIABLE.len()..].split(|byte| *byte == 0).next()?;
    InvocationId::parse(std::str::from_utf8(value).ok()?)
}

/// Which file a process executes.
fn file_of(pid: &str) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()))
}

/// Signals what is wanted until none is there or the time is up; true if none is there.
fn signal_all(wanted: &Wanted, signal: Signal, within: Duration, ended: &mut Vec<String>) -> bool {
    let end = Instant::now() + within;
    let mut held: BTreeMap<u32, (OwnedFd, String)> = BTreeMap::new();
    loop {
        for Left { pid, name } in wanted.left() {
            if held.contains_key(&pid) || held.len() >= HELD_MAX {
                continue;
            }
            if let Some(process) = open(pid, wanted) {
                // One that ended meanwhile shows in the next step.
                let _ = pidfd_send_signal(&process, signal);
                if signal == Signal::TERM {
                    let _ = pidfd_send_signal(&process, Signal::CONT);
                }
                held.insert(pid, (process, name));
            }
        }
        if held.is_empty() {
            return true;
        }
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return false;
        }
        let gone = wait_for_some(&held, remaining.min(LOOK_EVERY));
        ended.extend(gone.iter().filter_map(|pid| held.remove(pid)).map(|(_, name)| name));
    }
}

/// Opens a process first and asks for the proof then.
fn open(pid: u32, wanted: &Wanted) -> Option<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let process = pidfd_open(number, PidfdFlags::empty()).ok()?;
    wanted.is(pid).then_some(process)
}

/// The processes that have ended, at the latest after `within`.
fn wait_for_some(held: &BTreeMap<u32, (OwnedFd, String)>, within: Duration) -> Vec<u32> {
    let mut polled: Vec<_> =
        held.values().map(|(process, _)| PollFd::new(process.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
    if poll(&mut polled, timeout).is_err() {
        return Vec::new();
    }
    let pairs = held.keys().zip(&polled);
    pairs.filter(|(_, polled)| polled.any() == Some(true)).map(|(pid, _)| *pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn id(byte: u8) -> InvocationId {
        // A run of its own for each test process: tests of other processes must not be ended.
        let mut bytes = [byte; 16];
        bytes[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        InvocationId(bytes)
    }

    fn wanted(byte: u8) -> Wanted {
        Wanted { run: id(byte), also: Vec::new() }
    }

    /// A process whose environment names a run.
    struct Program(Child);

    impl Program {
        fn start(run: &str, script: &str) -> Program {
            let mut command = Command::new("/bin/bash");
            let child = command.args(["-c", &format!("{script}; echo; while :; do read -t 60; done <> <(:)")]);
            let mut child = child.env("INVOCATION_ID", run).stdout(Stdio::piped()).spawn().expect("bash runs");
            let mut byte = [0];
            child.stdout.take().expect("a pipe").read_exact(&mut byte).expect("it begins");
            Program(child)
        }

        fn is_there(&mut self) -> bool {
            self.0.try_wait().expect("it can be asked").is_none()
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn only_the_first_value_of_the_variable_is_a_proof() {
        let (run, other) = (id(1), id(2));
        let cases = [
            (format!("A=1\0INVOCATION_ID={run}\0B=2\0"), true),
            (format!("INVOCATION_ID={run}"), true),
            (format!("INVOCATION_ID={other}\0INVOCATION_ID={run}\0"), false),
            (format!("MY_INVOCATION_ID={run}\0"), false),
            (format!("INVOCATION_ID={run}0\0"), false),
            (format!("A=INVOCATION_ID={run}\0"), false),
            (String::new(), false),
        ];
        for (environment, expected) in cases {
            assert_eq!(named(environment.as_bytes()) == Some(run), expected, "{environment:?}");
        }
    }

    #[test]
    fn the_processes_of_a_run_are_ended_and_their_likes_survive() {
        let (run, other) = (id(3).to_string(), id(4).to_string());
        let mut willing = Program::start(&run, "true");
        let mut deaf = Program::start(&run, "trap '' TERM");
        let mut stopped = Program::start(&run, "true");
        Command::new("kill").args(["-STOP", &stopped.0.id().to_string()]).status().expect("kill runs");
        let mut alike = Program::start(&other, "true");
        let mut unmarked = Program::start("", "true");
        let found: Vec<_> = wanted(3).left().into_iter().map(|left| left.pid).collect();
        for process in [&willing, &deaf, &stopped] {
            assert!(found.contains(&process.0.id()), "{found:?}");
        }
        assert_eq!(found.len(), 3);
        let census = Census::take();
        assert_eq!((census.count(id(3)), census.count(id(4)), census.count(id(9))), (3, 1, 0));
        let swept = end(&wanted(3), Duration::from_millis(500));
        assert_eq!(swept.stays, Vec::<String>::new());
        assert!(swept.ended.contains(&format!("{} (bash)", willing.0.id())), "{swept:?}");
        assert_eq!(swept.ended.len(), 3, "{swept:?}");
        assert!(!willing.is_there() && !deaf.is_there() && !stopped.is_there());
        assert!(alike.is_there() && unmarked.is_there());
        assert_eq!(end(&wanted(3), Duration::from_secs(5)), Swept::default());
    }

    #[test]
    fn children_that_are_born_meanwhile_are_found_too() {
        // Each child is replaced by another one for as long as the parent lives; the parent is deaf.
        let script = "trap '' TERM; (while :; do setsid sleep 1000 & sleep 0.05; done) & disown";
        let mut parent = Program::start(&id(5).to_string(), script);
        let swept = end(&wanted(5), Duration::from_millis(300));
        assert_eq!(swept.stays, Vec::<String>::new());
        assert!(swept.ended.iter().any(|name| name.ends_with("(sleep)")), "{swept:?}");
        assert!(!parent.is_there());
        assert_eq!(wanted(5).left(), Vec::new());
    }

    #[test]
    fn whoever_is_named_must_have_started_then() {
        let mut named = Program::start("", "true");
        let mut recycled = Program::start("", "true");
        let of = |program: &Program| Process::of(program.0.id()).expect("it runs");
        let later = Process { start: of(&recycled).start + 1, ..of(&recycled) };
        let wanted = Wanted { also: vec![of(&named), later], ..wanted(6) };
        let swept = end(&wanted, Duration::from_secs(5));
        assert_eq!(swept, Swept { ended: vec![format!("{} (bash)", named.0.id())], stays: Vec::new() });
        assert!(recycled.is_there() && !named.is_there());
        assert_eq!(Process::parse(&later.to_string()), Ok(later));
        assert!(Process::parse("1").is_err() && Process::parse("1:x").is_err());
        assert_eq!(Process::of(u32::MAX), None);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let swept = Swept { ended: vec!["3 (a b)".into(), "4 (c)".into()], stays: vec!["5 (ended 6)".into()] };
        assert_eq!(Swept::parse(&swept.print()), swept);
        assert_eq!(Swept::parse(""), Swept::default());
    }
}
