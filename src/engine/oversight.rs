// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at how workers use their machine, from time to time.
//!
//! A worker that says nothing about its progress is suspected when it did work and then, for a long time, uses neither
//! processor nor storage nor a GPU and prints nothing, or when all of its threads stay in uninterruptible sleep or wait for
//! locks without waking up even once. That is a sign and no proof, so that by default it is a warning only. A service that may idle (`worker.after-success = "restart"`) is never suspected of
//! idling. A worker that stays above a ceiling of its policy (`[limits]`) is treated as a failed one.

use super::*;
use cause::Cause;
use classify::Verdict;
use evidence::Source;
use flight::Purpose;
use pace::StallAfter;
use policy::{AfterSuccess, Percent, Policy, Size};
use sign::Sign;
use source::Activity;
use std::time::Duration;
use time::Span;

/// How often a worker that says nothing is looked at, at most: five times in the time after which it is suspected.
const EVERY: Duration = Duration::from_secs(300);
/// Bounds of how often one with ceilings is measured: five times in the time that they allow.
const MEASURE_MIN: Duration = Duration::from_secs(1);
const MEASURE_MAX: Duration = Duration::from_secs(60);
/// A worker that uses more of a core than this works.
const BUSY: f64 = 0.01;
/// A worker that uses less of a core than this does nothing but wait.
const QUIET: f64 = 0.0005;

/// What was measured of the current run.
#[derive(Clone, Debug, Default)]
pub(super) struct Oversight {
    last: Option<(Mono, Activity)>,
    due: Option<Mono>,
    /// It has worked in this run.
    worked: bool,
    /// Since when it does nothing; since when all of its threads wait for what does not come.
    quiet_since: Option<Mono>,
    blocked_since: Option<Mono>,
    /// Since when it uses more than its ceilings allow.
    memory_since: Option<Mono>,
    cpu_since: Option<Mono>,
    suspected: bool,
    accused: bool,
}

/// What a worker may use.
#[derive(Clone, Copy, Debug)]
struct Ceilings {
    memory: Option<u64>,
    /// In percent of one processor.
    cpu: Option<u32>,
    patience: Duration,
}

impl Oversight {
    /// When to look next. `beats`: it reports by itself.
    pub fn due(&self, policy: &Policy, beats: bool, healthy_since: Mono) -> Option<Mono> {
        let every = self.cadence(policy, beats)?;
        Some(self.due.unwrap_or(next_look(healthy_since, every)))
    }

    /// How often to look; `None` if nothing is looked for.
    fn cadence(&self, policy: &Policy, beats: bool) -> Option<Duration> {
        let ceilings = policy.ceilings().filter(|_| !self.accused);
        let often = ceilings.map(|ceilings| (ceilings.patience / 5).clamp(MEASURE_MIN, MEASURE_MAX));
        let patience = policy.suspects().filter(|_| !beats && !self.suspected);
        often.or_else(|| patience.map(|patience| (patience / 5).clamp(MEASURE_MIN, EVERY)))
    }

    /// Time that did not count passed: what was measured before it says nothing.
    pub fn skip(&mut self) {
        *self = Oversight {
            worked: self.worked,
            suspected: self.suspected,
            accused: self.accused,
            due: self.due,
            ..Oversight::default()
        };
    }

    /// Takes in what was measured; returns the time since the last measurement and the share of a processor in it.
    fn take_in(&mut self, now: Mono, activity: Activity) -> Option<Interval> {
        let (since, before) = self.last.replace((now, activity))?;
        let span = now.since(since).as_secs_f64().max(0.1);
        let share = activity.cpu.saturating_sub(before.cpu).as_secs_f64() / span;
        let computes = [activity.gpu, before.gpu].into_iter().flatten().any(|gpu| gpu.works());
        self.worked |= share >= BUSY || computes;
        let all_wait = |a: &Activity| a.threads > 0 && a.blocked + a.locked == a.threads;
        // Who waits for a lock with a time-out wakes up now and then.
        let asleep = activity.locked == 0 || activity.switches == before.switches;
        let blocked = all_wait(&activity) && all_wait(&before) && asleep;
        // Nothing is said by a journal that is not read.
        let silent = activity.lines.zip(before.lines).is_none_or(|(now, then)| now == then);
        let still = share < QUIET && activity.io == before.io && silent && !computes;
        Some(Interval { since, now, share, still, blocked, activity })
    }

    /// What is suspicious about a worker that nothing else is known of.
    fn suspicion(&mut self, seen: Interval, patience: Duration, may_idle: bool) -> Option<String> {
        let Interval { since, still, activity, .. } = seen;
        self.quiet_since = self.quiet_since.or(Some(since)).filter(|_| still && self.worked && !may_idle);
        self.blocked_since = self.blocked_since.or(Some(since)).filter(|_| seen.blocked && still);
        let long = |since: Option<Mono>| since.map(|since| seen.now.since(since)).filter(|span| *span >= patience);
        if let Some(span) = long(self.blocked_since) {
            let Activity { threads, blocked, locked, .. } = activity;
            let how = match (blocked, locked) {
                (_, 0) => "in uninterruptible sleep",
                (0, _) => "waiting for locks",
                _ => "in uninterruptible sleep or waiting for locks",
            };
            return Some(format!("all {threads} threads {how} for {}", Span(span)));
        }
        let span = long(self.quiet_since)?;
        let used =
            if activity.gpu.is_some() { "neither processor, storage nor GPU" } else { "neither processor nor storage" };
        let silent = if activity.lines.is_some() { ", and printed nothing," } else { "" };
        Some(format!("it worked, but has used {used}{silent} for {}", Span(span)))
    }

    /// Which ceiling it has been above for too long.
    fn excess(&mut self, seen: Interval, ceilings: Ceilings) -> Option<String> {
        let memory = seen.activity.memory.zip(ceilings.memory).filter(|(used, most)| used > most);
        let percent = seen.share * 100.0;
        let cpu = ceilings.cpu.filter(|most| percent > f64::from(*most));
        self.memory_since = self.memory_since.or(Some(seen.since)).filter(|_| memory.is_some());
        self.cpu_since = self.cpu_since.or(Some(seen.since)).filter(|_| cpu.is_some());
        let long = |since: Option<Mono>| since.is_some_and(|since| seen.now.since(since) >= ceilings.patience);
        let span = Span(ceilings.patience);
        if let Some((used, most)) = memory.filter(|_| long(self.memory_since)) {
            return Some(format!("{} of memory in use, {} are allowed, for {span}", Size(used), Size(most)));
        }
        let most = cpu.filter(|_| long(self.cpu_since))?;
        Some(format!("{percent:.0}% of a processor in use, {most}% are allowed, for {span}"))
    }
}

/// Two measurements, and what happened between them.
#[derive(Clone, Copy, Debug)]
struct Interval {
    since: Mono,
    now: Mono,
    /// Of one processor.
    share: f64,
    /// It used next to no processor time and no storage, printed nothing, and no GPU worked for it.
    still: bool,
    /// All threads were in uninterruptible sleep or waited for locks at both ends, and none woke up in between.
    blocked: bool,
    /// At its end.
    activity: Activity,
}

/// All workers are looked at in the same moment: many of them cost one wake-up.
fn next_look(now: Mono, every: Duration) -> Mono {
    let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX).max(1);
    Mono((now.0.div_euclid(every) + 1).saturating_mul(every))
}

impl Policy {
    /// After how long it is suspected where there is nothing better to go by; `None` if there is, or nobody wants it.
    fn suspects(&self) -> Option<Duration> {
        let source = self.shows_progress() || self.progress_heartbeat.value.is_some();
        match self.suspect_after.value {
            StallAfter::After(patience) if !source => Some(patience),
            _ => None,
        }
    }

    fn ceilings(&self) -> Option<Ceilings> {
        let Size(memory) = self.limit_memory.value.unwrap_or(Size(0));
        let Percent(cpu) = self.limit_cpu.value.unwrap_or(Percent(0));
        let patience = self.limit_for.value;
        let ceilings = Ceilings { memory: (memory > 0).then_some(memory), cpu: (cpu > 0).then_some(cpu), patience };
        (memory > 0 || cpu > 0).then_some(ceilings)
    }
}

impl Engine {
    /// Measures how the worker uses its machine.
    pub(super) fn watch_over(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let every = worker.oversight.cadence(&worker.policy, worker.watch.beats()).unwrap_or(EVERY);
        worker.oversight.due = Some(next_look(now, every));
        let pid = worker.facts.as_ref().map_or(0, |facts| facts.main_pid);
        let id = self.fly(name, Purpose::WatchOver, None);
        self.act(Action::Look(id, name.clone(), pid));
    }

    /// The answer. What could not be measured says nothing.
    pub(super) fn watched_over(&mut self, name: &WorkerName, outcome: &Outcome) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Outcome::Activity(activity) = outcome else {
            worker.oversight.skip();
            return;
        };
        if !worker.is_steady() || worker.still_since.is_some() {
            return;
        }
        let Some(seen) = worker.oversight.take_in(now, *activity) else { return };
        self.suspect(name, seen);
        self.accuse(name, seen);
    }

    fn suspect(&mut self, name: &WorkerName, seen: Interval) {
        let at = self.now.wall;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(patience) = worker.policy.suspects() else { return };
        if worker.oversight.suspected || worker.watch.beats() {
            return;
        }
        let may_idle = worker.policy.after_success.value == AfterSuccess::Restart;
        let Some(text) = worker.oversight.suspicion(seen, patience, may_idle) else { return };
        worker.oversight.suspected = true;
        self.sign(name, Sign { cause: Cause::Unresponsive, source: Source::Cgroup, text, count: 1, at });
    }

    /// A ceiling is the policy's own word, so that it opens an incident unless the policy says that a warning is enough.
    fn accuse(&mut self, name: &WorkerName, seen: Interval) {
        let at = self.now.wall;
        let held = self.hold_of(name).is_some();
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(ceilings) = worker.policy.ceilings().filter(|_| !worker.oversight.accused) else { return };
        let Some(text) = worker.oversight.excess(seen, ceilings) else { return };
        worker.oversight.accused = true;
        let policy = worker.policy.causes.get(&Cause::OverLimit);
        if policy.is_some_and(|policy| policy.when_running.is_some()) || held {
            return self.sign(name, Sign { cause: Cause::OverLimit, source: Source::Cgroup, text, count: 1, at });
        }
        let (key, from) = match worker.oversight.memory_since {
            Some(_) => ("memory", &worker.policy.limit_memory.from),
            None => ("cpu", &worker.policy.limit_cpu.from),
        };
        let usual = format!("limits.{key} ({from})");
        let verdict = Verdict {
            cause: Cause::OverLimit,
            confidence: 100,
            because: vec![text],
            cascade: Vec::new(),
            also: Vec::new(),
            ending: "uses more than it may".into(),
        };
        self.condemn(name, verdict, &usual);
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
        let mut oversight = Oversight::default();
        let patience = Duration::from_secs(1_800);
        let mut told = |(at, activity): &(Mono, Activity)| {
            let seen = oversight.take_in(*at, *activity)?;
            oversight.suspicion(seen, patience, may_idle)
        };
        all.iter().map(&mut told).collect()
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

    /// Of two threads, looked at every five minutes: blocked, waiting for a lock, context switches, lines.
    fn waiting(all: &[(u32, u32, u64, u64)]) -> Vec<Option<String>> {
        let seen = |(at, (blocked, locked, switches, lines)): (i64, &(u32, u32, u64, u64))| {
            let (_, rest) = measured(0, 0, 0, *blocked);
            (Mono(at * 300_000_000), Activity { locked: *locked, switches: *switches, lines: Some(*lines), ..rest })
        };
        let all: Vec<_> = (0..).zip(all).map(seen).collect();
        told(true, &all)
    }

    #[test]
    fn threads_that_all_wait_for_locks_are_suspicious_unless_one_wakes_up() {
        let last = |all: &[(u32, u32, u64, u64)]| waiting(all).pop().flatten();
        let stuck = "all 2 threads waiting for locks for 30min";
        assert_eq!(last(&[(0, 2, 70, 3); 7]).as_deref(), Some(stuck));
        let both = "all 2 threads in uninterruptible sleep or waiting for locks for 30min";
        assert_eq!(last(&[(1, 1, 70, 3); 7]).as_deref(), Some(both));
        assert_eq!(last(&[(0, 1, 70, 3); 7]), None, "one waits for something else");
        let mut woken = [(0, 2, 70, 3); 7];
        woken[3..].fill((0, 2, 71, 3));
        assert_eq!(last(&woken), None, "one woke up");
        let mut told = [(0, 2, 70, 3); 7];
        told[3..].fill((0, 2, 70, 4));
        assert_eq!(last(&told), None, "it printed a line");
    }

    #[test]
    fn a_job_that_prints_lines_is_not_suspected() {
        let all = |lines: [Option<u64>; 4]| {
            let times = [(0, 0), (5, 200), (10, 200), (45, 200)];
            let seen = |((minute, cpu), lines)| {
                let (at, activity) = measured(minute, cpu, 0, 0);
                (at, Activity { lines, ..activity })
            };
            let all: Vec<_> = times.into_iter().zip(lines).map(seen).collect();
            told(false, &all).pop().flatten()
        };
        let text = "it worked, but has used neither processor nor storage, and printed nothing, for 40min";
        assert_eq!(all([Some(1), Some(5), Some(5), Some(5)]).as_deref(), Some(text));
        assert_eq!(all([Some(1), Some(5), Some(5), Some(6)]), None);
        // A journal that cannot be read says nothing for or against it.
        let text = "it worked, but has used neither processor nor storage for 40min";
        assert_eq!(all([None, None, None, None]).as_deref(), Some(text));
    }

    fn excess(ceilings: Ceilings, all: &[(i64, u64, Option<u64>)]) -> Vec<Option<String>> {
        let mut oversight = Oversight::default();
        let mut told = |(second, cpu, memory): &(i64, u64, Option<u64>)| {
            let activity = Activity { cpu: Duration::from_secs(*cpu), memory: *memory, ..Activity::default() };
            let seen = oversight.take_in(Mono(second * 1_000_000), activity)?;
            oversight.excess(seen, ceilings)
        };
        all.iter().map(&mut told).collect()
    }

    #[test]
    fn a_ceiling_counts_only_after_its_time_without_a_break() {
        let patience = Duration::from_secs(60);
        let memory = Ceilings { memory: Some(2 << 30), cpu: None, patience };
        let (low, high) = (Some(2 << 30), Some(3 << 30));
        let told = excess(memory, &[(0, 0, high), (30, 0, high), (50, 0, low), (80, 0, high), (109, 0, high)]);
        assert_eq!(told, [None, None, None, None, None]);
        let told = excess(memory, &[(0, 0, high), (30, 0, high), (60, 0, high)]);
        assert_eq!(told[2].as_deref(), Some("3G of memory in use, 2G are allowed, for 1min"));
        assert_eq!(excess(memory, &[(0, 0, None), (60, 0, None), (120, 0, None)]), [None, None, None]);
        let cpu = Ceilings { memory: None, cpu: Some(150), patience };
        let told = excess(cpu, &[(0, 0, None), (30, 60, None), (60, 120, None)]);
        assert_eq!(told[2].as_deref(), Some("200% of a processor in use, 150% are allowed, for 1min"));
        assert_eq!(excess(cpu, &[(0, 0, None), (30, 60, None), (60, 100, None)]), [None, None, None]);
    }
}
