// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about the progress of a worker's current run, and when its silence will have lasted for too long.

use super::*;
use pace::{Pace, StallAfter};
use policy::{CauseAction, CommandLine, Policy, Source as Origin, Total};
use saved::{SavedPace, SavedProgress};
use source::{Activity, Probe, Sources};
use std::sync::Arc;
use std::time::Duration;
use view::SourceView;
use worker::Timer;

/// Cursors that count as known.
pub(super) const CURSORS_KEPT: usize = 16;
/// Stages whose pace is learned, with the one that has no name.
const STAGES_KEPT: usize = 8;
/// So many times a stage that begins counts as progress without any other.
const STAGES_FREE: u32 = 4;

/// What is known about the progress of the current run.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// What the adapters were told to read.
    pub followed: Option<Arc<Sources>>,
    /// The policy has changed since.
    pub stale: bool,
    pub sources: BTreeMap<&'static str, State>,
    pub values: BTreeMap<Arc<str>, f64>,
    pub cursors: VecDeque<Arc<str>>,
    /// By stage; that of workers without stages has no name.
    pub paces: BTreeMap<Arc<str>, Pace>,
    pub stage: Arc<str>,
    /// Stages that began since there was progress.
    pub stages_begun: u32,
    /// Since when there was no progress.
    pub quiet_since: Option<Mono>,
    /// There was progress in this run.
    pub moved: bool,
    /// Since when no source can be read.
    pub deaf_since: Option<Mono>,
    pub beat_at: Option<Mono>,
    /// What the worker itself reports is a count that moves, not only a sign of life.
    pub counts: bool,
    /// What is added to the limit for pressure and I/O.
    pub granted: Duration,
    pub look: Look,
    /// Readings in a row in which `stalled-when` held.
    pub strikes: u32,
    /// Since when it holds. Sources tell only what is new, so that it counts by time, too.
    pub stuck_since: Option<Mono>,
    /// Nothing is left to do.
    pub idle: bool,
    /// It was called stalled, and why.
    pub stalled: Option<String>,
    pub report_at: Option<Mono>,
    /// What is done once the evidence is saved.
    pub sentence: Option<Sentence>,
}

/// A source of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Fresh(Wall),
    Unreadable(String),
}

/// How far the comparison of two looks at the worker has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    None,
    UnderWay(Option<(Mono, Activity)>),
    Taken(Option<(Mono, Activity)>),
}

/// A decision about a stalled worker that waits until the evidence is saved.
#[derive(Clone, Debug)]
pub(super) struct Sentence {
    pub action: CauseAction,
    pub by: String,
    pub why: String,
}

impl Watch {
    /// A new run begins: what was learned stays, what was seen goes.
    pub fn begin(&mut self) {
        let former = std::mem::take(self);
        *self = Watch {
            followed: former.followed,
            paces: former.paces,
            values: former.values,
            counts: former.counts,
            sentence: former.sentence,
            ..Watch::default()
        };
    }

    /// Goes on where watcherd left off; the time in between does not count.
    pub fn restore(saved: &SavedProgress, same_run: bool) -> Watch {
        let paces = saved.paces.iter().map(|(stage, pace)| (stage.clone(), Pace::restore(pace))).collect();
        Watch { paces, values: saved.values.clone(), moved: same_run, ..Watch::default() }
    }

    pub fn paces(&self) -> Vec<(Arc<str>, SavedPace)> {
        self.paces.iter().map(|(stage, pace)| (stage.clone(), pace.saved())).collect()
    }

    /// What has passed without progress is learned for the stage that it passed in.
    fn learn(&mut self, now: Mono) {
        let Some(since) = self.quiet_since.filter(|_| self.moved) else { return };
        self.paces.entry(self.pace_of()).or_default().note(now.since(since));
    }

    /// The stage whose pace counts: further ones go by that of workers without any.
    fn pace_of(&self) -> Arc<str> {
        let full = self.paces.len() >= STAGES_KEPT && !self.paces.contains_key(&self.stage);
        if full { Arc::default() } else { self.stage.clone() }
    }

    /// Another part of the work begins. That is worth as much as progress, but not again and again.
    pub fn enter(&mut self, stage: Arc<str>, now: Mono) {
        self.learn(now);
        self.stage = stage;
        self.stages_begun += 1;
        if self.stages_begun <= STAGES_FREE {
            self.rewind(now);
        }
    }

    /// The worker is up and its clock may run.
    pub fn wind_up(&mut self, policy: &Policy, now: Mono) {
        self.quiet_since = self.quiet_since.or(Some(now));
        self.report_at = policy.progress_report.value.map(|every| now + every);
    }

    /// Moves the clocks on by a time that does not count.
    pub fn skip(&mut self, pause: Duration) {
        for clock in [&mut self.quiet_since, &mut self.beat_at, &mut self.stuck_since, &mut self.report_at] {
            *clock = clock.map(|at| at + pause);
        }
    }

    /// The adapters must be told anew what to read.
    pub fn forget_sources(&mut self) {
        self.stale = true;
        self.sources.clear();
        self.deaf_since = None;
    }

    pub fn progressed(&mut self, now: Mono) {
        self.learn(now);
        self.rewind(now);
        if !self.moved {
            // Before it could do its work a rule that held says nothing about how it does it.
            (self.strikes, self.stuck_since) = (0, None);
        }
        self.moved = true;
        self.stages_begun = 0;
        self.stalled = None;
    }

    /// The clock begins anew.
    fn rewind(&mut self, now: Mono) {
        self.quiet_since = Some(now);
        self.granted = Duration::ZERO;
        self.look = Look::None;
    }

    /// How long there may be no progress; `None` if nothing is expected.
    pub fn limit(&self, policy: &Policy) -> Option<Duration> {
        let clocked = self.counts || policy.shows_progress() || policy.stall_after.from != Origin::default_value();
        if !clocked || self.idle || self.stalled.is_some() {
            return None;
        }
        match policy.stall_after.value {
            StallAfter::Never => None,
            _ if !self.moved => Some(policy.warm_up.value),
            StallAfter::After(limit) => Some(limit),
            StallAfter::Adaptive => {
                let pace = self.paces.get(&self.pace_of());
                let (min, max) = (policy.stall_min.value, policy.stall_max.value);
                Some(pace.map_or(max.max(min), |pace| pace.limit(min, max)))
            }
        }
    }

    /// When the worker is called stalled if nothing happens before.
    pub fn deadline(&self, policy: &Policy) -> Option<Mono> {
        if self.deaf_since.is_some() {
            return None;
        }
        let progress = self.quiet_since.zip(self.limit(policy)).map(|(since, limit)| since + limit + self.granted);
        let beat = self.beat_at.zip(policy.heartbeat()).map(|(at, limit)| at + limit);
        let beat = beat.filter(|_| !self.idle && self.stalled.is_none());
        [progress, beat].into_iter().flatten().min()
    }

    /// Whether the run may still get ready: for as long as the policy itself says, if it says so.
    pub fn is_warming_up(&self, policy: &Policy, now: Mono) -> bool {
        warms_up(self, policy) && self.warm_at(policy).is_none_or(|at| now < at)
    }

    /// When the warm-up is over; `None` if it has not begun, because systemd still starts the unit.
    fn warm_at(&self, policy: &Policy) -> Option<Mono> {
        self.quiet_since.map(|since| since + policy.warm_up.value + self.granted)
    }

    /// When `stalled-when` has held for long enough.
    fn struck(&self, policy: &Policy) -> Option<Mono> {
        let span = policy.progress_every.value * policy.strikes.value.saturating_sub(1);
        let counts = self.stalled.is_none() && self.deaf_since.is_none();
        let at = self.stuck_since.filter(|_| counts)? + span;
        if warms_up(self, policy) { self.warm_at(policy).map(|warm| at.max(warm)) } else { Some(at) }
    }

    /// What happens next by itself.
    pub fn timers(&self, policy: &Policy) -> impl Iterator<Item = (Mono, Timer)> {
        let waiting = !matches!(self.look, Look::UnderWay(_));
        let limit = self.limit(policy).filter(|_| self.look == Look::None && self.deaf_since.is_none());
        let look = self.quiet_since.zip(limit).map(|(since, limit)| (since + limit * 3 / 4, Timer::Look));
        let stall = self.deadline(policy).filter(|_| waiting).map(|at| (at, Timer::Stalled));
        let struck = self.struck(policy).map(|at| (at, Timer::Struck));
        let report = self.report_at.filter(|_| !self.idle).map(|at| (at, Timer::Report));
        [look, stall, struck, report].into_iter().flatten()
    }

    /// Whether the worker reports by itself.
    pub fn beats(&self) -> bool {
        self.beat_at.is_some()
    }

    pub fn views(&self) -> Vec<SourceView> {
        let view = |(key, state): (&&'static str, &State)| match state {
            State::Fresh(at) => SourceView { key, readable: true, text: String::new(), at: *at },
            State::Unreadable(why) => SourceView { key, readable: false, text: why.clone(), at: Wall::NEVER },
        };
        self.sources.iter().map(view).collect()
    }
}

/// Whether a warm-up counts for the rules: the policy names one, and the run has not got anywhere.
fn warms_up(watch: &Watch, policy: &Policy) -> bool {
    policy.warm_up.from != Origin::default_value() && !watch.moved
}

impl Policy {
    /// Whether it says where progress can be seen.
    pub fn shows_progress(&self) -> bool {
        let texts = [
            &self.progress_file,
            &self.progress_count,
            &self.progress_mtime,
            &self.progress_http,
            &self.progress_journal,
        ];
        self.progress_notify.value
            || self.progress_command.value.is_some()
            || texts.iter().any(|text| text.value.is_some())
    }

    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.progress_heartbeat.value
    }

    fn probes(&self) -> Vec<Probe> {
        let texts = [
            (&self.progress_file.value, Probe::File as fn(Arc<str>) -> Probe),
            (&self.progress_count.value, Probe::Count),
            (&self.progress_mtime.value, Probe::Mtime),
            (&self.progress_http.value, Probe::Http),
            (&self.progress_journal.value, Probe::Journal),
        ];
        let command = self.progress_command.value.clone().map(|command| Probe::Command(command.0));
        texts.into_iter().filter_map(|(text, probe)| text.clone().map(probe)).chain(command).collect()
    }

    /// What is to be read of the unit.
    pub(super) fn sources(&self, unit: &str) -> Sources {
        let total = match &self.progress_total.value {
            Some(Total::Field(field)) => Some(field.clone()),
            _ => None,
        };
        let fields = [
            ("value", &self.progress_value.value),
            ("total", &total),
            ("active", &self.progress_active.value),
            ("pending", &self.progress_pending.value),
            ("failed", &self.progress_failed.value),
            ("completed", &self.progress_completed.value),
            ("cursor", &self.progress_cursor.value),
            ("stage", &self.progress_stage.value),
        ];
        let fields = fields.into_iter().filter_map(|(name, field)| Some((name.into(), field.clone()?))).collect();
        let probes = self.probes().into_iter().map(|probe| specifier::resolve(probe, unit)).collect();
        Sources { probes, fields, every: self.progress_every.value }
    }

    /// The command that writes down the stacks of this process; as in systemd.service(5), its place is `$MAINPID`.
    pub(super) fn dump_words(&self, unit: &str, pid: u32) -> Vec<Arc<str>> {
        let Some(CommandLine(words)) = &self.dump_command.value else { return Vec::new() };
        if pid == 0 {
            return Vec::new();
        }
        let word = |word: &Arc<str>| specifier::expand(word, unit).replace("$MAINPID", &pid.to_string()).into();
        words.iter().map(word).collect()
    }

    /// Where the work ends, if the policy knows.
    pub(super) fn fixed_total(&self) -> Option<u64> {
        match self.progress_total.value {
            Some(Total::Number(number)) => Some(number),
            _ => None,
        }
    }
}
