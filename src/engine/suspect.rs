// SPDX-License-Identifier: MIT OR Apache-2.0
//! Suspects a worker that says nothing about its progress: one that did work and then, for a long time, uses neither
//! processor nor storage, or whose threads all stay in uninterruptible sleep.
//!
//! That is a sign and no proof, so that by default it is a warning only. A service that may idle
//! (`worker.after-success = "restart"`) is never suspected of idling.

use super::*;
use cause::Cause;
use evidence::Source;
use flight::Purpose;
use pace::StallAfter;
use policy::{AfterSuccess, Policy};
use sign::Sign;
use source::Activity;
use std::time::Duration;
use time::Span;

/// How often such a worker is looked at.
const EVERY: Duration = Duration::from_secs(300);
/// A worker that uses more of a core than this works.
const BUSY: f64 = 0.01;
/// A worker that uses less of a core than this does nothing but wait.
const QUIET: f64 = 0.0005;

/// What was seen of the current run.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspicion {
    last: Option<(Mono, Activity)>,
    due: Option<Mono>,
    /// It has worked in this run.
    worked: bool,
    /// Since when it does nothing; since when all of its threads are in uninterruptible sleep.
    quiet_since: Option<Mono>,
    blocked_since: Option<Mono>,
    told: bool,
}

impl Suspicion {
    /// When to look next.
    pub fn due(&self, policy: &Policy, healthy_since: Mono) -> Option<Mono> {
        (!self.told && policy.suspects()).then(|| self.due.unwrap_or(next_look(healthy_since)))
    }

    /// Time that did not count passed: what was measured before it says nothing.
    pub fn skip(&mut self) {
        *self = Suspicion { worked: self.worked, told: self.told, due: self.due, ..Suspicion::default() };
    }

    /// Takes in what was measured; returns what is suspicious about it.
    fn note(&mut self, now: Mono, activity: Activity, patience: Duration, may_idle: bool) -> Option<String> {
        let (since, before) = self.last.replace((now, activity))?;
        let span = now.since(since).as_secs_f64().max(1.0);
        let share = activity.cpu.saturating_sub(before.cpu).as_secs_f64() / span;
        let still = share < QUIET && activity.io == before.io;
        let blocked = activity.threads > 0 && activity.blocked == activity.threads && before.blocked == before.threads;
        self.worked |= share >= BUSY;
        self.quiet_since = self.quiet_since.or(Some(since)).filter(|_| still && self.worked && !may_idle);
        self.blocked_since = self.blocked_since.or(Some(since)).filter(|_| blocked && still);
        let long = |since: Option<Mono>| since.map(|since| now.since(since)).filter(|span| *span >= patience);
        if let Some(span) = long(self.blocked_since) {
            return Some(format!("all {} threads in uninterruptible sleep for {}", activity.threads, Span(span)));
        }
        let span = long(self.quiet_since)?;
        Some(format!("it worked, but has used neither processor nor storage for {}", Span(span)))
    }
}

/// All workers are looked at in the same moment: many of them cost one wake-up.
fn next_look(now: Mono) -> Mono {
    let every = EVERY.as_micros() as i64;
    Mono((now.0.div_euclid(every) + 1) * every)
}

impl Policy {
    /// Whether there is nothing better to go by.
    fn suspects(&self) -> bool {
        let source = self.shows_progress() || self.progress_heartbeat.value.is_some();
        !source && self.suspect_after.value != StallAfter::Never
    }
}

impl Engine {
    /// Measures how the worker uses its machine.
    pub(super) fn watch_over(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.suspicion.due = Some(next_look(now));
        let pid = worker.facts.as_ref().map_or(0, |facts| facts.main_pid);
        let id = self.fly(name, Purpose::WatchOver, None);
        self.act(Action::Look(id, name.clone(), pid));
    }

    /// The answer. What could not be measured says nothing.
    pub(super) fn watched_over(&mut self, name: &WorkerName, outcome: &Outcome) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Outcome::Activity(activity) = outcome else {
            worker.suspicion.skip();
            return;
        };
        if !worker.is_steady() || worker.still_since.is_some() {
            return;
        }
        let StallAfter::After(patience) = worker.policy.suspect_after.value else { return };
        let may_idle = worker.policy.after_success.value == AfterSuccess::Restart;
        let Some(text) = worker.suspicion.note(now.mono, *activity, patience, may_idle) else { return };
        worker.suspicion.told = true;
        let sign = Sign { cause: Cause::Unresponsive, source: Source::Cgroup, text, count: 1, at: now.wall };
        self.sign(name, sign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(minutes: i64, cpu: u64, io: u64, blocked: u32) -> (Mono, Activity) {
        let activity = Activity { cpu: Duration::from_secs(cpu), io, threads: 2, blocked, ..Activity::default() };
        (Mono(minutes * 60_000_000), activity)
    }

    fn told(may_idle: bool, all: &[(Mono, Activity)]) -> Vec<Option<String>> {
        let mut suspicion = Suspicion::default();
        let patience = Duration::from_secs(1_800);
        all.iter().map(|(at, activity)| suspicion.note(*at, *activity, patience, may_idle)).collect()
    }

    #[test]
    fn a_job_that_worked_and_stopped_is_suspected() {
        let all = [
            measured(0, 0, 0, 0),
            measured(5, 200, 0, 0),
            measured(10, 200, 0, 0),
            measured(20, 200, 0, 0),
            measured(40, 200, 0, 0),
        ];
        let text = "it worked, but has used neither processor nor storage for 35min";
        assert_eq!(told(false, &all), [None, None, None, None, Some(text.to_owned())]);
        assert_eq!(told(true, &all), [None, None, None, None, None]);
    }

    #[test]
    fn near_misses_are_not_suspected() {
        let never_worked = [measured(0, 0, 0, 0), measured(30, 0, 0, 0), measured(90, 0, 0, 0)];
        let writes = [measured(0, 0, 0, 0), measured(5, 100, 0, 0), measured(40, 100, 1, 0), measured(80, 100, 2, 0)];
        let ticks = [measured(0, 0, 0, 0), measured(5, 100, 0, 0), measured(40, 102, 0, 0), measured(80, 104, 0, 0)];
        for all in [&never_worked[..], &writes, &ticks] {
            assert!(told(false, all).iter().all(Option::is_none), "{all:?}");
        }
    }

    #[test]
    fn threads_that_all_wait_for_the_kernel_are_suspicious_also_in_a_service() {
        let all = [
            measured(0, 0, 0, 2),
            measured(5, 0, 0, 2),
            measured(20, 0, 0, 1),
            measured(50, 0, 0, 2),
            measured(85, 0, 0, 2),
        ];
        let text = "all 2 threads in uninterruptible sleep for 35min";
        assert_eq!(told(true, &all), [None, None, None, None, Some(text.to_owned())]);
    }
}
