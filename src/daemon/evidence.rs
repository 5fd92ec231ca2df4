// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saves what can be known about a worker before it is stopped, step by step; each has a deadline of its own, and one that
//! fails is noted and does not stop the next one.

use super::options::Scope;
use crate::act::capsule::Capsule;
use crate::act::snapshot;
use crate::engine::event::Outcome;
use crate::engine::ids::WorkerName;
use crate::engine::source::{Activity, Capture};
use crate::engine::time::Wall;
use crate::gpu::{Gpus, Unknown};
use crate::host::activity;
use crate::journal::{self, Journal, tail};
use crate::progress::lines::Lines;
use crate::systemd::jobs::command::{Command, Sandbox};
use crate::systemd::jobs::{Jobs, Processes};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

/// How long the service manager may take to name the processes of a unit.
const PROCESSES_DEADLINE: Duration = Duration::from_secs(5);
/// How long reading about processes may take.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(5);
/// How long reading the kernel's stacks may take; a unit has to be started for it.
const STACKS_DEADLINE: Duration = Duration::from_secs(5);
/// How long the journal may take.
const LINES_DEADLINE: Duration = Duration::from_secs(5);
/// How long all of it may take, besides the time in which the program writes down its own stacks.
const LADDER_DEADLINE: Duration = Duration::from_secs(90);
/// How often it is looked whether the main process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The last lines that are kept.
const LINES: usize = 500;
/// The lines of one kernel stack.
const STACK_DEPTH: &str = "40";

/// A point in the history of progress: when, how far, of how much.
pub type Point = (Wall, u64, u64);

/// How evidence is gathered; cheap to clone.
#[derive(Clone)]
pub struct Evidence {
    pub scope: Scope,
    pub jobs: Jobs,
    pub gpus: Gpus,
    pub lines: Lines,
    pub state: PathBuf,
}

impl Evidence {
    /// How the worker uses its machine. Its control group names its processes; only where that cannot be read the
    /// service manager is asked.
    pub async fn look(self, name: WorkerName, pid: u32) -> Outcome {
        let unit = name.unit().to_owned();
        let known = spawn_blocking(move || activity::of_unit(pid, &unit));
        match timeout(SNAPSHOT_DEADLINE, known).await {
            Ok(Ok(Some((activity, pids)))) => return self.with_more(&name, activity, &pids).await,
            Ok(_) => {}
            Err(_) => return Outcome::TimedOut,
        }
        let processes = match timeout(PROCESSES_DEADLINE, self.jobs.processes(&name)).await {
            Ok(Ok(processes)) => processes,
            Ok(Err(why)) => return Outcome::Failed(why),
            Err(_) => return Outcome::TimedOut,
        };
        let pids = processes.pids.clone();
        let read = spawn_blocking(move || activity::activity(&processes.cgroup, &processes.pids));
        match timeout(SNAPSHOT_DEADLINE, read).await {
            Ok(Ok(activity)) => self.with_more(&name, activity, &pids).await,
            Ok(Err(error)) => Outcome::Failed(super::chain(&error)),
            Err(_) => Outcome::TimedOut,
        }
    }

    /// Adds what GPUs do for these processes, and how much they print. A driver that does not answer says nothing
    /// against them.
    async fn with_more(&self, name: &WorkerName, activity: Activity, pids: &[u32]) -> Outcome {
        let gpu = self.gpus.sample().await.ok().and_then(|sample| sample.used_by(pids));
        Outcome::Activity(Activity { gpu, lines: self.lines.count(name.unit()), ..activity })
    }

    /// Fills the capsule of an incident, within the time of all of its steps together.
    pub async fn capture(self, name: WorkerName, capture: Capture, history: Vec<Point>) -> Outcome {
        let within = LADDER_DEADLINE + capture.grace;
        timeout(within, self.climb(name, capture, history)).await.unwrap_or(Outcome::TimedOut)
    }

    /// One step after the other; one that fails is noted.
    async fn climb(self, name: WorkerName, capture: Capture, history: Vec<Point>) -> Outcome {
        let (processes, note) = match timeout(PROCESSES_DEADLINE, self.jobs.processes(&name)).await {
            Ok(Ok(processes)) => (processes, None),
            Ok(Err(why)) => (Processes::default(), Some(format!("its processes are not known: {why}"))),
            Err(_) => {
                let why = "its processes are not known: systemd did not answer in time";
                (Processes::default(), Some(why.to_owned()))
            }
        };
        let filled = spawn_blocking(self.snapshot(&name, &capture, &processes, &history));
        let again = || Capsule::open(&self.state, capture.incident);
        let mut capsule = match settled(filled, SNAPSHOT_DEADLINE * 2, again).await {
            Ok(capsule) => capsule,
            Err(error) => {
                // What the program writes down itself is in the journal, and may be all that is left.
                let note = self.signal(&name, &capture).await.unwrap_or_default();
                return Outcome::Failed(format!("{} {note}", super::chain(&error)).trim_end().to_owned());
            }
        };
        note.into_iter().for_each(|note| capsule.note(note));
        self.devices(&processes.pids, &mut capsule).await;
        self.stacks(&name, &processes.pids, &mut capsule).await;
        self.dump(&name, &capture, &mut capsule).await;
        let note = self.signal(&name, &capture).await;
        note.into_iter().for_each(|note| capsule.note(note));
        self.lines(&name, &capture, &mut capsule).await;
        match spawn_blocking(move || capsule.close()).await {
            Ok(Ok(())) => Outcome::Ok,
            Ok(Err(why)) => Outcome::Failed(why),
            Err(error) => Outcome::Failed(super::chain(&error)),
        }
    }

    /// What is read on a thread of its own, because it may take long where there are many processes.
    fn snapshot(
        &self,
        name: &WorkerName,
        capture: &Capture,
        processes: &Processes,
        history: &[Point],
    ) -> impl FnOnce() -> io::Result<Capsule> + Send + 'static {
        let begun = super::clock::now().wall;
        let (about, progress) = (about(name, capture, begun), progress(history, begun));
        let (pids, group) = (processes.pids.clone(), activity::directory(&processes.cgroup));
        let (state, incident) = (self.state.clone(), capture.incident);
        move || {
            let mut capsule = Capsule::open(&state, incident)?;
            capsule.put("about.json", about.as_bytes());
            capsule.put("progress", progress.as_bytes());
            snapshot::take(&mut capsule, &pids, group.as_deref(), SNAPSHOT_DEADLINE);
            Ok(capsule)
        }
    }

    /// All GPUs and the processes on them, where there are any.
    async fn devices(&self, pids: &[u32], capsule: &mut Capsule) {
        match self.gpus.sample().await {
            Ok(sample) => capsule.put("gpu", sample.table(pids).as_bytes()),
            Err(Unknown::NoSupport) => {}
            Err(why) => capsule.note(format!("GPUs: {why}")),
        }
    }

    /// The kernel stacks need a capability that watcherd does without; a short unit of its own reads them.
    async fn stacks(&self, name: &WorkerName, pids: &[u32], capsule: &mut Capsule) {
        let files = snapshot::stack_files(pids);
        if self.scope == Scope::User || files.is_empty() {
            return;
        }
        let words = ["/usr/bin/head", "-v", "-n", STACK_DEPTH].map(String::from).into_iter().chain(files);
        let argv: Vec<Arc<str>> = words.map(Arc::from).collect();
        let command = Command { worker: name.clone(), index: 0, argv, sandbox: Sandbox::Kernel };
        match timeout(STACKS_DEADLINE, self.jobs.run(&command)).await {
            Ok(Ok(text)) => capsule.put("stacks", &text),
            Ok(Err(why)) => capsule.note(format!("kernel stacks: {why}")),
            Err(_) => capsule.note("kernel stacks: not in time".into()),
        }
    }

    /// Has another program write down the stacks, as a unit of its own.
    async fn dump(&self, name: &WorkerName, capture: &Capture, capsule: &mut Capsule) {
        if capture.dump.is_empty() {
            return;
        }
        let sandbox = match self.scope {
            Scope::System => Sandbox::Debugger,
            Scope::User => Sandbox::User,
        };
        // The kernel's stacks are command 0.
        let command = Command { worker: name.clone(), index: 1, argv: capture.dump.clone(), sandbox };
        match self.jobs.run(&command).await {
            Ok(text) if text.is_empty() => capsule.note(format!("{}: it printed nothing", capture.dump[0])),
            Ok(text) => capsule.put("dump", &text),
            Err(why) => capsule.note(format!("{}: {why}", capture.dump[0])),
        }
    }

    /// Lets the program write down its own stacks, and waits for its end, if that is what it does then. Returns what went
    /// wrong.
    async fn signal(&self, name: &WorkerName, capture: &Capture) -> Option<String> {
        if capture.signal == 0 || capture.main_pid == 0 {
            return None;
        }
        if let Outcome::Failed(why) = self.jobs.kill_main(name, capture.signal).await {
            return Some(format!("signal {}: {why}", capture.signal));
        }
        let process = PathBuf::from(format!("/proc/{}", capture.main_pid));
        let end = Instant::now() + capture.grace;
        while process.exists() && Instant::now() < end {
            sleep(LOOK_EVERY).await;
        }
        None
    }

    async fn lines(&self, name: &WorkerName, capture: &Capture, capsule: &mut Capsule) {
        let scope = self.scope.of_journal();
        let (unit, invocation, pid) = (name.unit().to_owned(), capture.invocation, capture.main_pid);
        let until = super::clock::now().wall + Duration::from_secs(1);
        let read = spawn_blocking(move || -> Result<String, String> {
            // Without it the last lines may be missing, but not those before.
            journal::synchronize(Duration::from_secs(2)).ok();
            let mut journal = Journal::open(scope).map_err(|error| super::chain(&error))?;
            let since = Wall(1);
            let wanted = tail::Wanted { unit: &unit, scope, invocation, pid, since, until, lines: LINES };
            let lines = tail::last_lines(&mut journal, &wanted).map_err(|error| super::chain(&error))?;
            Ok(lines.iter().map(|line| format!("{} {}\n", before(until, line.at), line.text)).collect())
        });
        match timeout(LINES_DEADLINE, read).await {
            Ok(Ok(Ok(text))) => capsule.put("lines", text.as_bytes()),
            Ok(Ok(Err(why))) => capsule.note(format!("last lines: {why}")),
            Ok(Err(error)) => capsule.note(format!("last lines: {}", super::chain(&error))),
            Err(_) => capsule.note("last lines: not in time".into()),
        }
    }
}

/// The capsule that a thread fills; a new one in its place if that thread does not come back in time, as when it waits for
/// a process that nobody can look into.
async fn settled(
    filled: JoinHandle<io::Result<Capsule>>,
    within: Duration,
    again: impl FnOnce() -> io::Result<Capsule>,
) -> io::Result<Capsule> {
    let why = match timeout(within, filled).await {
        Ok(Ok(capsule)) => return capsule,
        Ok(Err(error)) => super::chain(&error),
        Err(_) => "not in time".to_owned(),
    };
    let mut capsule = again()?;
    capsule.note(format!("processes: {why}"));
    Ok(capsule)
}

fn about(name: &WorkerName, capture: &Capture, at: Wall) -> String {
    let about = serde_json::json!({
        "worker": name.to_string(),
        "incident": capture.incident.0,
        "invocation": capture.invocation.map(|id| id.to_string()),
        "main_pid": capture.main_pid,
        "taken_usec": at.0,
        "progress": capture.progress,
        "signal": capture.signal,
        "version": env!("CARGO_PKG_VERSION"),
    });
    format!("{about:#}\n")
}

/// One line for each point: seconds before now, how far, of how much.
fn progress(history: &[Point], now: Wall) -> String {
    history.iter().fold(String::new(), |mut text, (at, value, total)| {
        let _ = writeln!(text, "{} {value} {total}", before(now, *at));
        text
    })
}

/// `-12.345s`
fn before(now: Wall, at: Wall) -> String {
    format!("-{:.3}s", now.since(at).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ids::IncidentId;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_process_that_cannot_be_looked_into_does_not_end_the_ladder() {
        let state = tempfile::tempdir().expect("a directory");
        let open = || Capsule::open(state.path(), IncidentId(1));
        let (release, released) = mpsc::channel::<()>();
        let mut first = open().expect("a capsule");
        let hung = spawn_blocking(move || {
            first.put("about.json", b"{}");
            // Until the test ends.
            let _ = released.recv();
            Ok(first)
        });
        let mut capsule = settled(hung, Duration::from_millis(200), open).await.expect("another capsule");
        capsule.put("lines", b"the last ones\n");
        capsule.close().expect("closed");
        let kept = |name: &str| std::fs::read_to_string(state.path().join("incidents/1").join(name)).expect(name);
        assert_eq!((kept("notes").as_str(), kept("about.json").as_str()), ("processes: not in time\n", "{}"));
        assert_eq!(kept("lines"), "the last ones\n");
        drop(release);

        let full = spawn_blocking(|| Err(io::ErrorKind::StorageFull.into()));
        let error = settled(full, Duration::from_secs(20), open).await.expect_err("there is no place");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
