// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines of the kernel concern a run: those about its control group or its processes, and those about the whole host.
//!
//! The names of processes, files and control groups in these lines are chosen by whoever made them, so numbers are read only from
//! where such a name cannot come first, and a control group is believed only if it is named once.

use super::cgroup::UnitCgroup;
use crate::engine::time::Wall;
use std::collections::HashSet;
use std::time::Duration;

/// A crash of a thread whose id nobody has seen counts as the run's, by its name, only so shortly before the end.
const NAME_COUNTS: Duration = Duration::from_secs(10);

/// Lines that name no control group belong to the report before them only if they follow so soon: reports may be left out when
/// there are many (the kernel's ratelimit).
const REPORT_LASTS: Duration = Duration::from_secs(2);

/// The kernel cuts names of tasks to this many bytes (TASK_COMM_LEN without the NUL).
const TASK_NAME_MAX: usize = 15;

/// What is known about the run.
pub struct Known<'a> {
    pub cgroup: &'a UnitCgroup<'a>,
    /// Its processes and threads, as far as they are known.
    pub pids: &'a HashSet<u32>,
    /// The names of its processes.
    pub names: &'a HashSet<String>,
    pub ended: Wall,
}

/// Whom a line concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The run.
    Run,
    /// Every process on this host.
    Host,
    /// Somebody else, or nobody.
    Other,
}

/// One kind of line.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    /// `NAME invoked oom-killer: …`, the first line of a report.
    OomBegins,
    /// A line in the middle of a report that is worth keeping.
    OomDetail,
    /// Who has to die, and why.
    OomVictim(Victim<'a>),
    /// The whole control group is killed (memory.oom.group).
    OomGroup(&'a str),
    OomKilled {
        pid: u32,
    },
    OomReaped(u32),
    /// A fault in user space; the number is that of a thread.
    Trap {
        name: &'a str,
        thread: u32,
    },
    /// About one process.
    Process(u32),
    /// About one control group.
    Cgroup(&'a str),
    Host,
}

#[derive(Debug, PartialEq, Eq)]
struct Victim<'a> {
    pid: Option<u32>,
    /// Empty if it is not certain.
    task: &'a str,
    limit: Option<&'a str>,
}

/// Whether the line may concern a run at all, to be looked at together with its neighbours.
pub fn is_candidate(text: &str) -> bool {
    kind(text).is_some()
}

/// Whom each line concerns; they come in the order of time.
pub fn weigh<'a>(lines: impl Iterator<Item = (Wall, &'a str)>, known: &Known<'_>) -> Vec<Concern> {
    let mut weighed = Vec::new();
    let mut oom = Oom::default();
    for (at, text) in lines {
        let concern = match kind(text) {
            None => Concern::Other,
            Some(Kind::Host) => Concern::Host,
            Some(Kind::Cgroup(path)) => of_run(known.cgroup.contains(path)),
            Some(Kind::Process(pid)) => of_run(known.pids.contains(&pid)),
            Some(Kind::Trap { name, thread }) => {
                let near = known.ended.since(at) <= NAME_COUNTS;
                of_run(known.pids.contains(&thread) || (near && known.names.contains(name)))
            }
            Some(kind) => oom.told(at, kind, known, &mut weighed),
        };
        weighed.push(concern);
    }
    weighed
}

fn of_run(is: bool) -> Concern {
    if is { Concern::Run } else { Concern::Other }
}

/// The report of the OOM killer that is under way. Reports do not mix: the kernel writes them under a lock.
#[derive(Default)]
struct Oom {
    /// The report's lines so far, whose concern is not known before the victim is.
    open: Vec<usize>,
    verdict: Option<(Wall, Concern)>,
    /// Whom the verdict is about; `None`: whoever is named next.
    victim: Option<u32>,
    /// The run's processes that were killed.
    killed: HashSet<u32>,
}

impl Oom {
    fn told(&mut self, at: Wall, kind: Kind<'_>, known: &Known<'_>, before: &mut [Concern]) -> Concern {
        match kind {
            Kind::OomBegins => {
                self.open = vec![before.len()];
                self.verdict = None;
                Concern::Other
            }
            Kind::OomDetail if !self.open.is_empty() => {
                self.open.push(before.len());
                Concern::Other
            }
            Kind::OomVictim(victim) => {
                self.victim = victim.pid;
                self.decide(at, whose(&victim, known), before)
            }
            Kind::OomGroup(path) if known.cgroup.contains(path) => {
                // The lines that follow name the others of the group.
                self.victim = None;
                self.decide(at, Concern::Run, before)
            }
            Kind::OomKilled { pid } => {
                let concern = self.whose_process(at, pid, known);
                if concern == Concern::Run {
                    self.killed.insert(pid);
                }
                if !self.open.is_empty() {
                    self.victim = Some(pid);
                    self.decide(at, concern, before);
                }
                concern
            }
            Kind::OomReaped(pid) => of_run(self.killed.contains(&pid) || known.pids.contains(&pid)),
            _ => Concern::Other,
        }
    }

    /// Now that it is known whom the report concerns, so do its first lines.
    fn decide(&mut self, at: Wall, concern: Concern, before: &mut [Concern]) -> Concern {
        self.verdict = Some((at, concern));
        for line in self.open.drain(..) {
            before[line] = concern;
        }
        concern
    }

    fn whose_process(&self, at: Wall, pid: u32, known: &Known<'_>) -> Concern {
        if known.pids.contains(&pid) {
            return Concern::Run;
        }
        match self.verdict {
            Some((said, verdict)) if at.since(said) <= REPORT_LASTS && self.victim.is_none_or(|named| named == pid) => {
                verdict
            }
            _ => Concern::Other,
        }
    }
}

fn whose(victim: &Victim<'_>, known: &Known<'_>) -> Concern {
    let by_pid = victim.pid.is_some_and(|pid| known.pids.contains(&pid));
    if by_pid || known.cgroup.contains(victim.task) || victim.limit.is_some_and(|path| known.cgroup.contains(path)) {
        Concern::Run
    } else {
        Concern::Other
    }
}

fn kind(text: &str) -> Option<Kind<'_>> {
    oom(text).or_else(|| trap(text)).or_else(|| process(text)).or_else(|| {
        if let Some(path) = text.strip_prefix("cgroup: fork rejected by pids controller in ") {
            return Some(Kind::Cgroup(path.trim_end()));
        }
        super::host::is_trouble(text).then_some(Kind::Host)
    })
}

fn oom(text: &str) -> Option<Kind<'_>> {
    if let Some(facts) = text.strip_prefix("oom-kill:") {
        return Some(Kind::OomVictim(victim(facts)));
    }
    if let Some((task, limit)) =
        text.strip_prefix("Task in ").and_then(|rest| rest.split_once(" killed as a result of limit of "))
    {
        // Before Linux 5.0.
        return Some(Kind::OomVictim(Victim { pid: None, task, limit: Some(limit.trim_end()) }));
    }
    if let Some(rest) = text.strip_prefix("Tasks in ")
        && let Some((path, _)) = rest.split_once(" are going to be killed due to memory.oom.group set")
    {
        return Some(Kind::OomGroup(path));
    }
    if let Some(rest) = text.strip_prefix("oom_reaper: reaped process ") {
        return Some(Kind::OomReaped(number(rest)?));
    }
    for start in [
        "Memory cgroup out of memory: Killed process ",
        "Out of memory: Killed process ",
        "Out of memory (oom_kill_allocating_task): Killed process ",
        "Killed process ",
    ] {
        if let Some(rest) = text.strip_prefix(start) {
            return Some(Kind::OomKilled { pid: number(rest)? });
        }
    }
    let name_end = text.find(" invoked oom-killer: ").filter(|end| *end <= TASK_NAME_MAX);
    if name_end.is_some() {
        return Some(Kind::OomBegins);
    }
    let detail = text.starts_with("memory: usage ") || text.starts_with("swap: usage ");
    detail.then_some(Kind::OomDetail)
}

/// Reads what follows `oom-kill:`. The task's name is the last thing but two that others choose, the numbers come behind it.
fn victim(facts: &str) -> Victim<'_> {
    let (rest, _uid) = facts.rsplit_once(",uid=").unwrap_or((facts, ""));
    let (rest, pid) = rest.rsplit_once(",pid=").unwrap_or((rest, ""));
    let value = |key: &str| {
        let mut found = rest.match_indices(key);
        let (at, _) = found.next()?;
        // Named twice means that a name is made to look like a field.
        if found.next().is_some() {
            return None;
        }
        rest[at + key.len()..].split(',').next()
    };
    let limit = value(",oom_memcg=");
    let task = value(",task_memcg=").unwrap_or_default();
    Victim { pid: number(pid), task, limit }
}

/// `NAME[TID]: segfault at …`, `traps: NAME[TID] trap invalid opcode …`, `traps: NAME[TID] general protection fault …`.
fn trap(text: &str) -> Option<Kind<'_>> {
    let rest = text.strip_prefix("traps: ").unwrap_or(text);
    let reach = rest.len().min(TASK_NAME_MAX + 1);
    // Only the kernel's own bracket can be the last within reach of a name.
    let open = rest.as_bytes()[..reach].iter().rposition(|byte| *byte == b'[')?;
    let (thread, rest_of) = rest[open + 1..].split_once(']')?;
    let starts = [": segfault at ", " trap ", " general protection", ": unhandled ", ": potentially unexpected fatal "];
    if !starts.iter().any(|start| rest_of.starts_with(start)) {
        return None;
    }
    Some(Kind::Trap { name: &rest[..open], thread: whole_number(thread)? })
}

/// A GPU's fault or a denial, if the line says whose.
fn process(text: &str) -> Option<Kind<'_>> {
    if text.starts_with("NVRM: ") {
        return Some(match text.find(" pid=").and_then(|at| number(&text[at + " pid=".len()..])) {
            Some(pid) => Kind::Process(pid),
            None => Kind::Host,
        });
    }
    let record = text.strip_prefix("audit: type=").and_then(|rest| rest.split_once(' '));
    let denial = match record {
        // AVC of AppArmor or SELinux, seccomp, a process that ended by a signal.
        Some(("1400", rest)) => rest.contains("DENIED") || rest.contains("denied"),
        Some(("1326" | "1701", _)) => true,
        Some(_) => false,
        None => {
            let avc = text.starts_with("AVC ") && (text.contains("DENIED") || text.contains("denied"));
            avc || text.starts_with("SECCOMP ") || text.starts_with("ANOM_ABEND ")
        }
    };
    if !denial {
        return None;
    }
    // audit_log_untrustedstring writes names with spaces in hexadecimal, so that they cannot look like this.
    text.find(" pid=").and_then(|at| number(&text[at + " pid=".len()..])).map(Kind::Process)
}

/// The number that a text begins with.
pub fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn whole_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
