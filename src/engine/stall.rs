// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a running worker gets anywhere: what its sources of progress say, and what follows when they fall silent.
//!
//! The clock of a worker starts when it is up, and anew with every step of progress. It stands still while the worker is
//! paused, while no source can be read, and while the machine sleeps. Shortly before it runs out the engine asks how the
//! worker uses its machine, and asks again when it has run out: time in which the worker had to wait for memory or I/O is
//! granted, and so is time in which it wrote or read a lot, as for a checkpoint, or in which a GPU worked for it, as for an
//! evaluation; but never more than the limit once more.

use super::*;
use cause::Cause;
use classify::Verdict;
use flight::Purpose;
use pace::StallAfter;
use policy::{CauseAction, DumpSignal, Text, WhenRunning};
use progress::{Position, Progress};
use source::{Activity, Capture, NAME_MAX, Reading, Sources, VALUES_MAX};
use std::sync::Arc;
use std::time::Duration;
use time::Span;
use watch::{CURSORS_KEPT, Look, Sentence, State};

/// So much I/O per second, in bytes, is work, as for a checkpoint.
const WORK_IO: u64 = 256 << 10;
/// Less than this is not worth another look.
const GRANT_MIN: Duration = Duration::from_millis(500);

impl Engine {
    /// Tells the adapters what to read of a worker from here on, if that has changed.
    pub(super) fn follow_sources(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let wanted = worker.is_up() && !worker.run.ended && worker.run.invocation.is_some();
        let sources = match (wanted, &worker.watch.followed) {
            (true, Some(_)) if !worker.watch.stale => return,
            (true, _) => Arc::new(worker.policy.sources(name.unit())),
            (false, None) => return,
            (false, Some(_)) => Arc::new(Sources::default()),
        };
        worker.watch.stale = false;
        let silent = sources.probes.is_empty();
        let told = worker.watch.followed.as_ref().is_some_and(|followed| !followed.probes.is_empty());
        worker.watch.followed = wanted.then(|| sources.clone());
        if !silent || told {
            self.act(Action::Follow(name.clone(), sources));
        }
    }

    /// A look at a source of progress.
    pub(super) fn read(&mut self, name: &WorkerName, key: &'static str, reading: Result<Reading, String>) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.is_up() || worker.run.ended || worker.watch.followed.is_none() {
            return;
        }
        self.touched.insert(name.clone());
        let reading = match reading {
            Ok(reading) => reading,
            Err(why) => return self.lost_source(name, key, why),
        };
        let former = worker.watch.sources.insert(key, State::Fresh(now.wall));
        if let Some(since) = worker.watch.deaf_since.take() {
            worker.watch.skip(now.mono.since(since));
        }
        if matches!(former, Some(State::Unreadable(_))) {
            self.record(
                EntryKind::SourceBack,
                Some(name),
                format!("the {key} that shows the progress of {name} can be read again"),
            );
        }
        self.take_in(name, reading, former.is_none());
        self.judge_rules(name);
    }

    fn lost_source(&mut self, name: &WorkerName, key: &'static str, why: String) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let known = matches!(worker.watch.sources.get(key), Some(State::Unreadable(_)));
        worker.watch.sources.insert(key, State::Unreadable(why.clone()));
        let probes = worker.watch.followed.as_ref().map_or(0, |followed| followed.probes.len());
        let unreadable = worker.watch.sources.values().filter(|state| matches!(state, State::Unreadable(_))).count();
        if unreadable >= probes {
            worker.watch.deaf_since = worker.watch.deaf_since.or(Some(now));
        }
        if !known {
            let text = format!(
                "the progress of {name} cannot be seen: {key}: {why}; until then nothing is concluded from its silence"
            );
            self.record(EntryKind::SourceLost, Some(name), text);
        }
    }

    fn take_in(&mut self, name: &WorkerName, reading: Reading, first: bool) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let watch = &mut worker.watch;
        let before = watch.values.clone();
        for (name, value) in reading.values {
            if name.len() <= NAME_MAX && (watch.values.len() < VALUES_MAX || watch.values.contains_key(&name)) {
                watch.values.insert(name, value);
            }
        }
        let stage = reading.stage.map(|stage| stage.chars().take(NAME_MAX).collect::<String>().into());
        if let Some(stage) = stage.filter(|stage| *stage != watch.stage) {
            watch.enter(stage, now.mono);
        }
        let changed = |key: &str| watch.values.get(key) != before.get(key);
        let mut moved = changed("mtime");
        let value = if watch.values.contains_key("value") { "value" } else { "completed" };
        let count = watch.values.get(value).map(|value| value.max(0.0) as u64);
        let total = watch.values.get("total").map(|total| total.max(0.0) as u64).filter(|total| *total > 0);
        moved |= changed(value);
        if let Some(cursor) = reading.cursor {
            // The same piece of work again and again is no progress, whatever is counted.
            moved = !watch.cursors.contains(&cursor);
            if moved {
                watch.cursors.push_back(cursor.chars().take(NAME_MAX).collect::<String>().into());
                if watch.cursors.len() > CURSORS_KEPT {
                    watch.cursors.pop_front();
                }
            }
        }
        if let Some(count) = count {
            let fixed = worker.policy.fixed_total();
            let found = Position { value: count, total };
            worker.progress = Some(Progress::observe(worker.progress.take(), found, fixed, now));
        }
        // What the first look finds may stem from a run before this one.
        if moved && !first {
            self.progressed(name);
        }
    }

    /// There was progress.
    pub(super) fn progressed(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let ended = worker.watch.stalled.is_some() && worker.watch.sentence.is_none();
        worker.watch.progressed(now);
        if ended {
            self.record(EntryKind::MovesAgain, Some(name), format!("{name} makes progress again"));
        }
    }

    /// Takes in that the worker said something by itself.
    pub(super) fn beat(&mut self, name: &WorkerName, reading: Reading) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let watch = &mut worker.watch;
        watch.beat_at = Some(now);
        let value = |values: &BTreeMap<Arc<str>, f64>| values.get("value").copied();
        let (before, count) = (value(&watch.values), value(&reading.values));
        watch.counts |= before.is_some() && count.is_some() && count != before;
        self.touched.insert(name.clone());
        self.take_in(name, reading, false);
        self.judge_rules(name);
    }

    /// Goes by the rules over named values.
    fn judge_rules(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Worker { policy, watch, .. } = worker;
        let complete = policy.complete_when.value.as_ref().and_then(|rule| rule.holds(&watch.values));
        let finished = complete == Some(true) && !watch.idle;
        if let Some(complete) = complete {
            if watch.idle && !complete {
                watch.quiet_since = Some(now);
            }
            watch.idle = complete;
        }
        let stuck = policy.stalled_when.value.as_ref().and_then(|rule| rule.holds(&watch.values));
        watch.strikes = if stuck == Some(true) { watch.strikes.saturating_add(1) } else { 0 };
        watch.stuck_since = if stuck == Some(true) { watch.stuck_since.or(Some(now)) } else { None };
        let struck = watch.strikes >= policy.strikes.value && !watch.is_warming_up(policy, now);
        if finished {
            let text = format!("{name} has nothing left to do: {}", self.summary(name));
            self.record(EntryKind::WorkDone, Some(name), text);
        }
        if struck {
            self.struck(name);
        }
    }

    /// The rule of the policy has held for long enough.
    pub(super) fn struck(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name).filter(|worker| worker.watch.stalled.is_none()) else { return };
        let (strikes, rule) = (worker.policy.strikes.value, worker.policy.stalled_when.clone());
        if let Some(text) = rule.value {
            let usual = format!("progress.stalled-when = {text} ({})", rule.from);
            self.stalled(name, format!("{text} in {strikes} readings in a row ({})", rule.from), &usual);
        }
    }

    /// `40000/59185 | 32 active | 19185 pending | 840/min | 23min left`
    pub(super) fn summary(&self, name: &WorkerName) -> String {
        let Some(worker) = self.workers.get(name) else { return String::new() };
        let view = worker.progress.as_ref().map(Progress::view).unwrap_or_default();
        let mut parts = vec![match view.total {
            0 => view.value.to_string(),
            total => format!("{}/{total}", view.value),
        }];
        parts.extend(Some(worker.watch.stage.to_string()).filter(|stage| !stage.is_empty()));
        for key in ["active", "pending", "failed"] {
            if let Some(value) = worker.watch.values.get(key) {
                parts.push(format!("{value} {key}"));
            }
        }
        if view.rate > 0.0 {
            let per_minute = view.rate * 60.0;
            let digits = if per_minute < 10.0 { 1 } else { 0 };
            parts.push(format!("{per_minute:.digits$}/min"));
        }
        if !view.time_left.is_zero() {
            parts.push(format!("{} left", Span(rounded(view.time_left))));
        }
        parts.join(" | ")
    }

    /// Tells the journal how far the worker is.
    pub(super) fn report(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let text = format!("Progress {}", self.summary(name));
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.watch.report_at = worker.policy.progress_report.value.map(|every| now + every);
        if worker.progress.is_some() {
            self.record(EntryKind::ProgressReport, Some(name), text);
        }
    }

    /// Asks how the worker uses its machine.
    pub(super) fn look(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.watch.look = Look::UnderWay(match worker.watch.look {
            Look::Taken(former) | Look::UnderWay(former) => former,
            Look::None => None,
        });
        let pid = worker.facts.as_ref().map_or(0, |facts| facts.main_pid);
        let id = self.fly(name, Purpose::Look, None);
        self.act(Action::Look(id, name.clone(), pid));
    }

    /// The answer: grants time for pressure and for work, or calls the worker stalled.
    pub(super) fn looked(&mut self, name: &WorkerName, outcome: &Outcome) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Look::UnderWay(former) = worker.watch.look else { return };
        let current = match outcome {
            Outcome::Activity(activity) => Some((now, *activity)),
            _ => None,
        };
        worker.watch.look = Look::Taken(current);
        let late = worker.watch.deadline(&worker.policy).is_some_and(|at| at <= now);
        if !late || !worker.is_steady() || worker.still_since.is_some() {
            return;
        }
        let limit = worker.watch.limit(&worker.policy).unwrap_or_default();
        let most = match worker.policy.stall_after.value {
            StallAfter::Adaptive => worker.policy.stall_max.value.saturating_sub(limit).max(limit),
            _ => limit,
        };
        let grant = former.zip(current).map_or(Duration::ZERO, |(former, current)| grant(former, current));
        let grant = grant.min(most.saturating_sub(worker.watch.granted));
        if grant >= GRANT_MIN {
            worker.watch.granted += grant;
            return;
        }
        let beat = worker.watch.beat_at.zip(worker.policy.heartbeat()).filter(|(at, limit)| *at + *limit <= now);
        let why = match (beat, worker.watch.quiet_since) {
            (Some((at, _)), _) => format!("no heartbeat for {}", Span(rounded(now.since(at)))),
            (None, Some(since)) if worker.watch.moved => format!("no progress for {}", Span(rounded(now.since(since)))),
            (None, since) => {
                format!("no progress within {} of its start", Span(rounded(now.since(since.unwrap_or(now)))))
            }
        };
        let policy = &worker.policy;
        let (key, value, from) = match (beat, worker.watch.moved) {
            (Some(_), _) => {
                ("progress.heartbeat", policy.progress_heartbeat.value.text(), &policy.progress_heartbeat.from)
            }
            (None, false) => ("progress.warm-up", policy.warm_up.value.text(), &policy.warm_up.from),
            (None, true) => ("progress.stall-after", policy.stall_after.value.text(), &policy.stall_after.from),
        };
        let usual = format!("{key} = {value} ({from})");
        let position = self.summary(name);
        self.stalled(name, format!("{why} (at {position}; {key})"), &usual);
    }

    /// The worker gets nowhere: says so, saves the evidence, and does what the policy says.
    fn stalled(&mut self, name: &WorkerName, why: String, usual: &str) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let policy = worker.policy.causes.get(&Cause::Unresponsive).cloned().unwrap_or_default();
        let reaction = policy.when_running.as_ref().map_or(WhenRunning::Incident, |setting| setting.value);
        let busy = worker.condemned || worker.watch.sentence.is_some() || worker.ending().is_some();
        if busy || reaction == WhenRunning::Ignore {
            worker.watch.stalled = Some(why);
            return;
        }
        worker.watch.stalled = Some(why.clone());
        self.touched.insert(name.clone());
        self.record(EntryKind::Stalled, Some(name), format!("{name} is stalled: {why}"));
        if let Some(Action::Record(entry)) = self.step.actions.last_mut() {
            entry.cause = Some(Cause::Unresponsive);
        }
        if reaction == WhenRunning::Warn || self.hold_of(name).is_some() {
            return;
        }
        let verdict = Verdict {
            cause: Cause::Unresponsive,
            confidence: 85,
            because: vec![why.clone()],
            cascade: Vec::new(),
            also: Vec::new(),
            ending: "is stalled".into(),
        };
        self.condemn(name, verdict, usual);
    }

    /// Saves the evidence before the worker is stopped; what is to be done comes afterwards.
    pub(super) fn capture(
        &mut self,
        name: &WorkerName,
        incident: IncidentId,
        sentence: (CauseAction, String),
    ) -> String {
        let progress = self.summary(name);
        let Some(worker) = self.workers.get_mut(name) else { return String::new() };
        let (action, by) = sentence;
        let why = worker.watch.stalled.clone().unwrap_or_default();
        let DumpSignal(signal) = worker.policy.dump_signal.value;
        let capture = Capture {
            incident,
            main_pid: worker.facts.as_ref().map_or(0, |facts| facts.main_pid),
            invocation: worker.run.invocation,
            progress: format!("{progress}; {why}"),
            signal,
            grace: worker.policy.dump_grace.value,
            dump: worker.policy.dump_words(name.unit(), worker.facts.as_ref().map_or(0, |facts| facts.main_pid)),
        };
        worker.condemned = true;
        worker.watch.sentence = Some(Sentence { action, by, why });
        let id = self.fly(name, Purpose::Capture, None);
        self.act(Action::Capture(id, name.clone(), capture));
        format!("saving the evidence, then {}", action.as_str())
    }

    /// The evidence is saved, as far as that was possible.
    pub(super) fn captured(&mut self, name: &WorkerName, outcome: &Outcome) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(Sentence { action, by, why }) = worker.watch.sentence.take() else { return };
        let incident = worker.incident;
        let up = worker.is_up() && !worker.run.ended;
        // A run that began meanwhile has done nothing wrong.
        let same = worker.condemned;
        worker.condemned = false;
        let (kind, text) = match outcome {
            Outcome::Failed(error) => {
                (EntryKind::EvidenceLost, format!("not all evidence about {name} could be saved: {error}"))
            }
            Outcome::TimedOut => {
                (EntryKind::EvidenceLost, format!("not all evidence about {name} could be saved in time"))
            }
            _ => {
                let id = incident.map(|id| id.to_string()).unwrap_or_default();
                let text =
                    format!("the evidence about {name} is saved; `watcherctl incident {id} --evidence` shows it");
                (EntryKind::EvidenceSaved, text)
            }
        };
        self.record(kind, Some(name), text);
        if self.hold_of(name).is_some() {
            return;
        }
        let next = match (up, action) {
            (true, CauseAction::Restart) if !same => return,
            (true, action) => self.act_on_running(name, Cause::Unresponsive, action, by),
            (false, action) => self.act_on_ended(name, action, by, &why),
        };
        if next.is_empty() {
            return;
        }
        self.record(EntryKind::RemedyChosen, Some(name), format!("{name}: {next}"));
        self.close_if_settled(name);
    }

    /// The signal for the stacks has ended the run already.
    fn act_on_ended(&mut self, name: &WorkerName, action: CauseAction, by: String, why: &str) -> String {
        if !self.workers.get(name).is_some_and(|worker| worker.is_awaited() && worker.plan.is_none()) {
            return String::new();
        }
        match action {
            CauseAction::Restart => self.plan_restart(name, by),
            CauseAction::Quarantine => {
                self.remedy(name, "quarantine", by, "done");
                self.quarantine(name, why.to_owned());
                "quarantined by the policy".into()
            }
            CauseAction::Stop => {
                self.remedy(name, "stop", by, "done");
                self.give_up(name, "the policy says so");
                "left down by the policy".into()
            }
            CauseAction::Hold | CauseAction::Ignore => String::new(),
        }
    }
}

/// How much of the time between two looks does not count: it went into waiting, into reading and writing, or a GPU worked
/// at one of its ends.
fn grant(former: (Mono, Activity), current: (Mono, Activity)) -> Duration {
    let span = current.0.since(former.0);
    let io = current.1.io.saturating_sub(former.1.io);
    let computes = [former.1.gpu, current.1.gpu].into_iter().flatten().any(|gpu| gpu.works());
    if computes || io > WORK_IO.saturating_mul(span.as_secs().max(1)) {
        return span.max(GRANT_MIN);
    }
    let pressure = current.1.pressure.zip(former.1.pressure);
    pressure.map_or(Duration::ZERO, |(current, former)| current.saturating_sub(former)).min(span)
}

/// For people: seconds are enough.
fn rounded(span: Duration) -> Duration {
    if span < Duration::from_secs(10) {
        Duration::from_millis(span.as_millis() as u64 / 100 * 100)
    } else {
        Duration::from_secs(span.as_secs())
    }
}
