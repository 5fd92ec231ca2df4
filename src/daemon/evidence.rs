// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saves what can be known about a worker before it is stopped, step by step; each has a deadline of its own, and one that
//! fails is noted and does not stop the next one.

use super::options::Scope;
use crate::act::capsule::Capsule;
use crate::act::snapshot;
use crate::engine::event::Outcome;
use crate::engine::ids::WorkerName;
use crate::engine::source::Capture;
use crate::engine::time::Wall;
use crate::host::activity;
use crate::journal::{self, Journal, tail};
use crate::systemd::jobs::Jobs;
use crate::systemd::jobs::command::{Command, Sandbox};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// How long the service manager may take to name the processes of a unit.
const PROCESSES_DEADLINE: Duration = Duration::from_secs(5);
/// How long reading about processes may take.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(5);
/// How long reading the kernel's stacks may take; a unit has to be started for it.
const STACKS_DEADLINE: Duration = Duration::from_secs(5);
/// How long the journal may take.
const LINES_DEADLINE: Duration = Duration::from_secs(5);
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
    pub state: PathBuf,
}

impl Evidence {
    /// How the worker uses its machine. Its control group names its processes; only where that cannot be read the
    /// service manager is asked.
    pub async fn look(self, name: WorkerName, pid: u32) -> Outcome {
        let unit = name.unit().to_owned();
        let known = spawn_blocking(move || activity::of_unit(pid, &unit));
        match timeout(SNAPSHOT_DEADLINE, known).await {
            Ok(Ok(Some(activity))) => return Outcome::Activity(activity),
            Ok(_) => {}
            Err(_) => return Outcome::TimedOut,
        }
        let processes = match timeout(PROCESSES_DEADLINE, self.jobs.processes(&name)).await {
            Ok(Ok(processes)) => processes,
            Ok(Err(why)) => return Outcome::Failed(why),
            Err(_) => return Outcome::TimedOut,
        };
        let read = spawn_blocking(move || activity::activity(&processes.cgroup, &processes.pids));
        match timeout(SNAPSHOT_DEADLINE, read).await {
            Ok(Ok(activity)) => Outcome::Activity(activity),
            Ok(Err(error)) => Outcome::Failed(super::chain(&error)),
            Err(_) => Outcome::TimedOut,
        }
    }

    /// Fills the capsule of an incident.
    pub async fn capture(self, name: WorkerName, capture: Capture, history: Vec<Point>) -> Outcome {
        let begun = super::clock::now().wall;
        let capsule = match Capsule::open(&self.state, capture.incident) {
            Ok(capsule) => capsule,
            Err(error) => return Outcome::Failed(super::chain(&error)),
        };
        let mut notes = Vec::new();
        let processes = match timeout(PROCESSES_DEADLINE, self.jobs.processes(&name)).await {
            Ok(Ok(processes)) => processes,
            Ok(Err(why)) => {
                notes.push(format!("its processes are not known: {why}"));
                Default::default()
            }
            Err(_) => {
                notes.push("its processes are not known: systemd did not answer in time".into());
                Default::default()
            }
        };
        let (pids, group) = (processes.pids.clone(), activity::directory(&processes.cgroup));
        let about = about(&name, &capture, begun);
        let progress = progress(&history, begun);
        let filled = spawn_blocking(move || {
            let mut capsule = capsule;
            capsule.put("about.json", about.as_bytes());
            capsule.put("progress", progress.as_bytes());
            snapshot::take(&mut capsule, &pids, group.as_deref(), SNAPSHOT_DEADLINE);
            capsule
        });
        // Reading /proc does not hang, but it may take long where there are many processes.
        let Ok(Ok(mut capsule)) = timeout(SNAPSHOT_DEADLINE * 2, filled).await else {
            return Outcome::Failed("the processes could not be looked at in time".into());
        };
        notes.into_iter().for_each(|note| capsule.note(note));
        self.stacks(&name, &processes.pids, &mut capsule).await;
        self.signal(&name, &capture, &mut capsule).await;
        self.lines(&name, &capture, &mut capsule).await;
        match spawn_blocking(move || capsule.close()).await {
            Ok(Ok(())) => Outcome::Ok,
            Ok(Err(why)) => Outcome::Failed(why),
            Err(error) => Outcome::Failed(super::chain(&error)),
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

    /// Lets the program write down its own stacks, and waits for its end, if that is what it does then.
    async fn signal(&self, name: &WorkerName, capture: &Capture, capsule: &mut Capsule) {
        if capture.signal == 0 || capture.main_pid == 0 {
            return;
        }
        if let Outcome::Failed(why) = self.jobs.kill_main(name, capture.signal).await {
            return capsule.note(format!("signal {}: {why}", capture.signal));
        }
        let process = PathBuf::from(format!("/proc/{}", capture.main_pid));
        let end = Instant::now() + capture.grace;
        while process.exists() && Instant::now() < end {
            sleep(LOOK_EVERY).await;
        }
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
