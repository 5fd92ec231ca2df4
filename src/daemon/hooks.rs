// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs hooks, and says of one that failed what it said last.

use super::options::Scope;
use crate::engine::action::Hook;
use crate::engine::event::{Exit, Outcome, RunEnd};
use crate::engine::ids::WorkerName;
use crate::engine::time::Wall;
use crate::journal::{self, Journal, tail};
use crate::systemd::jobs::Jobs;
use crate::systemd::jobs::command::Sandbox;
use crate::systemd::jobs::hook::{HookFailure, unit};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long the journal may take.
const LINE_DEADLINE: Duration = Duration::from_secs(3);
/// The last lines of a hook among which is one with something in it.
const LINES: usize = 5;
/// So much of a line is told, in characters.
const LINE_MAX: usize = 300;
/// Exit statuses by which systemd says that it could not execute a program; see systemd.exec(5).
const SYSTEMD_STATUSES: std::ops::RangeInclusive<i32> = 200..=245;

/// Runs a hook of the worker to its end.
pub async fn run(scope: Scope, jobs: Jobs, worker: WorkerName, hook: Hook) -> Outcome {
    let sandbox = match scope {
        Scope::System => Sandbox::Hook,
        Scope::User => Sandbox::User,
    };
    let begun = super::clock::now().wall;
    match jobs.run_hook(&worker, &hook, sandbox).await {
        Ok(()) => Outcome::Ok,
        Err(HookFailure::TimedOut) => Outcome::TimedOut,
        Err(HookFailure::Text(text)) => Outcome::Failed(text),
        Err(HookFailure::Ended(end)) => {
            let line = last_line(scope, &worker, &end, begun).await;
            Outcome::Failed(told(end.exit, line.as_deref()))
        }
    }
}

/// Such as `exit status 22: curl: (22) The requested URL returned error: 503`.
fn told(exit: Exit, line: Option<&str>) -> String {
    let how = match exit {
        Exit::Exited(status) if SYSTEMD_STATUSES.contains(&status) => {
            format!("systemd could not execute it (exit status {status})")
        }
        Exit::Exited(status) => format!("exit status {status}"),
        Exit::Killed(signal) | Exit::Dumped(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("ended by {signal}"),
            Err(_) => format!("ended by signal {signal}"),
        },
        Exit::None => "it failed".to_owned(),
    };
    match line {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

async fn last_line(scope: Scope, worker: &WorkerName, end: &RunEnd, since: Wall) -> Option<String> {
    let (unit, pid) = (unit(worker), end.pid);
    let until = super::clock::now().wall + Duration::from_secs(1);
    let read = spawn_blocking(move || {
        // Without it the last line may be missing.
        journal::synchronize(Duration::from_secs(2)).ok();
        let scope = scope.of_journal();
        let mut journal = Journal::open(scope).ok()?;
        let wanted = tail::Wanted { unit: &unit, scope, invocation: None, pid, since, until, lines: LINES };
        let lines = tail::last_lines(&mut journal, &wanted).ok()?;
        lines.iter().rev().find_map(|line| shown(&line.text))
    });
    timeout(LINE_DEADLINE, read).await.ok()?.ok()?
}

/// A line as it may be shown; `None` if it is empty.
fn shown(line: &str) -> Option<String> {
    let plain: String = line.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_MAX).collect();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_hook_is_told_with_its_last_words() {
        assert_eq!(told(Exit::Exited(22), Some("curl: (22) error: 503")), "exit status 22: curl: (22) error: 503");
        assert_eq!(told(Exit::Exited(1), None), "exit status 1");
        assert_eq!(told(Exit::Killed(9), None), "ended by SIGKILL");
        assert_eq!(told(Exit::Killed(40), None), "ended by signal 40");
        assert_eq!(told(Exit::Exited(203), None), "systemd could not execute it (exit status 203)");
        assert_eq!(shown(" a\tb\u{1b}[0m "), Some("a b [0m".to_owned()));
        assert_eq!(shown(" \n"), None);
        assert_eq!(shown(&"x".repeat(999)).map(|line| line.len()), Some(LINE_MAX));
    }
}
