// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is remembered about one worker, and what that amounts to: its phase, its view, its saved form.

use super::action::{Exports, Freezer};
use super::cause::Cause;
use super::event::{Active, Exit, Load, SharedDefinition, UnitFacts};
use super::follow_up::FollowUp;
use super::ids::{ActionId, IncidentId, InvocationId, WorkerName};
use super::lookback::Trace;
use super::oversight::Oversight;
use super::parameter::{Parameter, Tuning};
use super::policy::{BackOff, Budget, Layer, Policy, Setting, Source};
use super::progress::Progress;
use super::recurrence::Recurrence;
use super::restart::{Ledger, Plan, count};
use super::saved::{SavedOrigin, SavedRemedies, SavedWorker};
use super::sign::{Sign, Warning};
use super::time::{Mono, Now, Span, Wall};
use super::view::{Phase, PolicyRows, WorkerView};
use super::watch::Watch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Starts that are remembered to stay clear of the unit's own start limit.
const STARTS_KEPT: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub name: WorkerName,
    pub policy: Policy,
    /// The same for people; every view shares it.
    policy_rows: PolicyRows,
    /// The settings that `adopt` or `run` gave it.
    pub own: Option<Layer>,
    /// The command line that `run` gave it.
    pub definition: Option<SharedDefinition>,
    /// `None` while the unit is not loaded.
    pub facts: Option<UnitFacts>,
    pub run: Run,
    /// Since when the current run is up and moving; moved forward by the length of every pause.
    pub healthy_since: Option<Mono>,
    /// Since when it stands still, because it was paused or frozen.
    pub still_since: Option<Mono>,
    pub intended_up: bool,
    pub completed: bool,
    /// Why it is down or where it came from, when the facts alone do not say it.
    pub remark: String,
    pub quarantine: Option<String>,
    pub paused: Option<Freezer>,
    pub ledger: Ledger,
    /// What is known about each cause of its failures.
    pub recurrences: BTreeMap<Cause, Recurrence>,
    /// The farthest point at which a run has failed.
    pub failed_at: Option<u64>,
    /// The parameters that remedies have changed.
    pub tuning: Tuning,
    /// When a parameter was changed last.
    pub tuned: Option<Mono>,
    /// A run that began before the unit was prepared, after the machine was booted: without the changed parameters.
    pub bare: Option<InvocationId>,
    /// What its unit was prepared with.
    pub equipped: Option<Arc<Exports>>,
    /// The checkpoint that its newest run was told to resume from.
    pub resume_from: Option<String>,
    /// What is to be run after its restart.
    pub follow_up: Option<FollowUp>,
    starts: VecDeque<Mono>,
    pub cause: Option<Cause>,
    pub incident: Option<IncidentId>,
    pub plan: Option<Plan>,
    /// What to do depends on the verdict, which is waited for until then.
    pub undecided: Option<Mono>,
    /// The current run has an incident of its own and must make room for the next one.
    pub condemned: bool,
    /// The main process of the current run has crashed and is writing its core.
    pub dumping: bool,
    /// What is known about the progress of the current run.
    pub watch: Watch,
    /// How the current run uses the machine.
    pub oversight: Oversight,
    /// Signs of trouble in the current run.
    pub warnings: BTreeMap<Cause, Warning>,
    /// Signs that were told while it was down, newest first: the journal may be quicker than systemd's word that it runs.
    pub early_signs: Vec<Sign>,
    /// The newest start or stop that is under way.
    pub flight: Option<ActionId>,
    /// The question to the journal that must be answered before anything is judged.
    pub look_back: Option<LookBack>,
    /// Why it cannot be started, as it was said last.
    pub obstacle: Option<&'static str>,
    /// Read from the store and not yet seen alive.
    pub restored: bool,
    pub kill_at: Option<Mono>,
    pub down_since: Option<Wall>,
    pub progress: Option<Progress>,
    pub runs: u64,
    pub downtime: Duration,
    /// When the unit was unloaded or its work was done.
    pub finished: Option<Now>,
    /// Everything that happened to the unit up to here is known.
    pub seen: Wall,
    pub phase: Phase,
    pub reason: String,
    pub since: Wall,
    /// When its next timer fires, as it stands in the engine's index.
    pub armed: Option<Mono>,
}

/// The run that was seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub invocation: Option<InvocationId>,
    pub ended: bool,
    /// How its main process ended.
    pub exit: Exit,
    /// Why it is about to end, if that does not follow from what is known about the worker.
    pub ending: Option<Ending>,
    /// The job that started it, as long as it was activating; zero if none was seen.
    pub start_job: u32,
    /// The job that ends it, as it was seen last; zero if none was.
    pub stop_job: u32,
}

/// Who wants a run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A job that is not ours.
    Foreign,
    /// A person, through watcherd.
    Asked,
    /// The worker shall stay down: it is quarantined.
    ForGood,
    /// The run makes room for the next one.
    Restart,
    /// systemd is about to restart the unit by itself, and ours comes later or never.
    Preempted,
}

/// A question to the journal that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookBack {
    pub id: ActionId,
    /// The unit's invocation when the question was asked.
    pub current: Option<InvocationId>,
    pub trace: Trace,
}

/// What else the phase depends on.
pub(super) struct Surroundings<'a> {
    pub now: Now,
    /// Who holds the worker and why.
    pub hold: Option<&'a str>,
    /// The start or stop under way, if any.
    pub flight: Option<&'static str>,
}

impl Worker {
    pub fn new(name: WorkerName, policy: Policy, now: Now) -> Worker {
        Worker {
            name,
            policy_rows: policy.rows().into(),
            policy,
            own: None,
            definition: None,
            facts: None,
            run: Run::default(),
            healthy_since: None,
            still_since: None,
            intended_up: false,
            completed: false,
            remark: String::new(),
            quarantine: None,
            paused: None,
            ledger: Ledger::default(),
            recurrences: BTreeMap::new(),
            failed_at: None,
            tuning: Tuning::default(),
            tuned: None,
            bare: None,
            equipped: None,
            resume_from: None,
            follow_up: None,
            starts: VecDeque::new(),
            cause: None,
            incident: None,
            plan: None,
            undecided: None,
            condemned: false,
            dumping: false,
            watch: Watch::default(),
            oversight: Oversight::default(),
            warnings: BTreeMap::new(),
            early_signs: Vec::new(),
            flight: None,
            look_back: None,
            obstacle: None,
            restored: false,
            kill_at: None,
            down_since: None,
            progress: None,
            runs: 0,
            downtime: Duration::ZERO,
            finished: None,
            seen: now.wall,
            phase: Phase::Inactive,
            reason: String::new(),
            since: now.wall,
            armed: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.facts.as_ref().is_some_and(UnitFacts::is_up)
    }

    /// Whether the run is up and not on its way in or out.
    pub fn is_steady(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| match facts.active {
            Active::Active | Active::Reloading | Active::Refreshing => !facts.is_exited(),
            Active::Activating => facts.traits.oneshot && !facts.waits_for_own_restart(),
            _ => false,
        })
    }

    pub fn waits_for_own_restart(&self) -> bool {
        self.facts.as_ref().is_some_and(UnitFacts::waits_for_own_restart)
    }

    /// The run that the facts are about.
    pub fn current(&self) -> Option<InvocationId> {
        self.facts.as_ref().and_then(|facts| facts.invocation)
    }

    /// How the run is meant to end, if it is.
    pub fn ending(&self) -> Option<Ending> {
        match (&self.quarantine, self.intended_up) {
            (Some(_), _) => Some(Ending::ForGood),
            (None, false) => Some(Ending::Asked),
            (None, true) => self.run.ending,
        }
    }

    /// Whether it should be running and may be started by itself.
    pub fn is_awaited(&self) -> bool {
        self.intended_up && self.quarantine.is_none()
    }

    /// Whether a policy, and not only the default, says what a clean end means.
    pub fn ends_by_policy(&self) -> bool {
        self.policy.after_success.from != Source::default_value()
    }

    /// Whether it counts as done only because nobody said otherwise.
    pub fn ended_without_order(&self) -> bool {
        self.completed && !self.ends_by_policy()
    }

    /// Whether systemd works on the unit and a start would come on top of that.
    pub fn has_foreign_job(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.job != 0 && !facts.waits_for_own_restart())
    }

    /// Why the unit cannot be started, if it cannot.
    pub fn unstartable(&self) -> Option<&'static str> {
        if self.definition.is_some() {
            return None;
        }
        match self.facts.as_ref().map(|facts| facts.load) {
            Some(Load::NotFound) => Some("the unit does not exist"),
            Some(Load::Masked) => Some("the unit is masked"),
            Some(Load::Bad) => Some("systemd cannot read the unit file"),
            _ => None,
        }
    }

    pub fn is_frozen(&self) -> bool {
        self.paused.is_some() || self.facts.as_ref().is_some_and(|facts| facts.frozen)
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.policy_rows = policy.rows().into();
        self.policy = policy;
        self.tuning.keep_only(&self.policy.declared());
    }

    /// Whether failures of some cause are counted.
    fn recurs(&self) -> bool {
        self.recurrences.values().any(|known| known.count > 0)
    }

    /// How far it has got; `None` if that was never seen.
    pub fn reached(&self) -> Option<u64> {
        self.progress.as_ref().map(|progress| progress.view().value)
    }

    /// The budget for attempts because of its present cause, and whether it is that cause's own.
    fn own_budget(&self) -> Option<(Cause, Budget)> {
        let cause = self.cause?;
        let budget = self.policy.causes.get(&cause)?.budget.as_ref()?;
        Some((cause, budget.value))
    }

    /// Attempts that the budget still allows.
    pub fn budget_left(&self, now: Mono) -> u32 {
        match self.own_budget() {
            Some((cause, budget)) => {
                self.recurrences.get(&cause).map_or(budget.attempts, |recurrence| recurrence.left(budget, now))
            }
            None => self.ledger.left(self.policy.budget.value, now),
        }
    }

    /// When the budget allows another attempt.
    pub fn budget_back(&self) -> Option<Mono> {
        let (attempts, budget) = match self.own_budget() {
            Some((cause, budget)) => (&self.recurrences.get(&cause)?.attempts, budget),
            None => (&self.ledger.attempts, self.policy.budget.value),
        };
        // With a smaller budget than before, more than one has to leave the window.
        let surplus = attempts.len().saturating_sub(budget.attempts as usize);
        attempts.get(surplus).map(|at| *at + budget.window)
    }

    /// The budget, its window, and the line that set it, for people.
    pub fn budget_text(&self) -> (Budget, String) {
        let own = self.own_budget().and_then(|(cause, budget)| {
            let from = &self.policy.causes.get(&cause)?.budget.as_ref()?.from;
            Some((budget, format!("cause.{cause}.budget ({from})")))
        });
        own.unwrap_or_else(|| (self.policy.budget.value, format!("restart.budget ({})", self.policy.budget.from)))
    }

    /// Counts an attempt; `again` says that the newest one is made once more.
    pub fn count_attempt(&mut self, now: Mono, again: bool) {
        match self.own_budget() {
            Some((cause, budget)) => {
                let attempts = &mut self.recurrences.entry(cause).or_default().attempts;
                count(attempts, budget, now, again);
            }
            None => self.ledger.count(self.policy.budget.value, now, again),
        }
    }

    /// The pauses before attempts because of its present cause.
    pub fn back_off(&self) -> &Setting<BackOff> {
        let own = self.cause.and_then(|cause| self.policy.causes.get(&cause)?.back_off.as_ref());
        own.unwrap_or(&self.policy.back_off)
    }

    pub fn note_start(&mut self, now: Now) {
        self.starts.push_back(now.mono);
        if self.starts.len() > STARTS_KEPT {
            self.starts.pop_front();
        }
    }

    /// Whether the unit's start limit may refuse one more start.
    pub fn nears_start_limit(&self, now: Now) -> bool {
        let Some(traits) = self.facts.as_ref().map(|facts| &facts.traits) else { return false };
        if traits.start_limit_burst == 0 || traits.start_limit_interval.is_zero() {
            return false;
        }
        let recent = self.starts.iter().filter(|at| **at + traits.start_limit_interval >= now.mono).count();
        let burst = (traits.start_limit_burst as usize).min(STARTS_KEPT);
        recent + 1 >= burst
    }

    /// When something has to happen to this worker by itself.
    pub fn next_timer(&self, held: bool, keep_finished: Duration) -> Option<(Mono, Timer)> {
        self.timers(held, keep_finished).min()
    }

    fn timers(&self, held: bool, keep_finished: Duration) -> impl Iterator<Item = (Mono, Timer)> {
        let plan = self
            .plan
            .as_ref()
            .filter(|plan| plan.flying.is_none() && !plan.queued && !held)
            .filter(|_| self.look_back.is_none() && !self.has_foreign_job() && !self.restored)
            .map(|plan| (plan.due, Timer::Restart));
        let healthy = self.healthy_since.filter(|_| self.still_since.is_none() && self.is_steady());
        let verify = healthy
            .filter(|_| self.incident.is_some() && !self.condemned && self.watch.stalled.is_none())
            .filter(|_| self.watch.moved || !self.policy.shows_progress())
            .filter(|_| self.follow_up.is_none())
            .map(|since| (since + self.policy.verify.value, Timer::Verified));
        let follow_up = self.follow_up.as_ref().filter(|follow_up| follow_up.flying.is_none());
        let follow_up = follow_up.filter(|_| !held && !self.restored).map(|follow_up| (follow_up.due, Timer::FollowUp));
        let restore = healthy
            .filter(|_| !self.tuning.steps().is_empty() && self.incident.is_none())
            .zip(self.policy.restore_after.value)
            .map(|(since, after)| (self.tuned.map_or(since, |tuned| since.max(tuned)) + after, Timer::Restore));
        let reset = healthy
            .filter(|_| {
                !self.ledger.is_clear() || (self.incident.is_none() && self.watch.stalled.is_none() && self.recurs())
            })
            .map(|since| (since + self.policy.reset_after.value, Timer::Reset));
        let kill = self.kill_at.map(|at| (at, Timer::Kill));
        let decide = self.undecided.map(|at| (at, Timer::Decide));
        let forget = self
            .finished
            .filter(|_| self.plan.is_none() && self.incident.is_none() && self.quarantine.is_none() && !held)
            .map(|finished| (finished.mono + keep_finished, Timer::Forget));
        let watched = healthy.filter(|_| !self.condemned && !self.run.ended);
        let watch = watched.into_iter().flat_map(|_| self.watch.timers(&self.policy));
        let beats = self.watch.beats();
        let over =
            watched.and_then(|since| self.oversight.due(&self.policy, beats, since)).map(|at| (at, Timer::WatchOver));
        let watch = watch.chain(over);
        [plan, verify, follow_up, restore, reset, kill, decide, forget].into_iter().flatten().chain(watch)
    }

    /// Works out the phase and why.
    pub fn judge(&mut self, around: &Surroundings<'_>) {
        if self.restored {
            return;
        }
        let (phase, reason) = self.phase_and_reason(around);
        if phase != self.phase {
            self.since = around.now.wall;
        }
        self.phase = phase;
        self.reason = reason;
    }

    fn phase_and_reason(&self, around: &Surroundings<'_>) -> (Phase, String) {
        if let Some(why) = &self.quarantine {
            return (Phase::Quarantined, why.clone());
        }
        if self.is_up() { self.phase_up(around) } else { self.phase_down(around) }
    }

    fn phase_up(&self, around: &Surroundings<'_>) -> (Phase, String) {
        let Some(facts) = &self.facts else { return (Phase::Inactive, String::new()) };
        if self.is_frozen() {
            let reason = if self.paused.is_some() { "paused" } else { "frozen by somebody else" };
            return (Phase::Paused, reason.into());
        }
        let reason = around.hold.unwrap_or_default().to_owned();
        if self.dumping {
            return (Phase::Failed, "crashed and is writing its core".into());
        }
        match facts.active {
            Active::Deactivating => {
                let reason = if facts.job != 0 || around.flight.is_some() { "stopping" } else { "ending" };
                let phase = if self.ending().is_some() { self.phase } else { Phase::Failed };
                (phase, reason.into())
            }
            Active::Activating if !facts.traits.oneshot => match self.incident {
                Some(_) => (Phase::Recovering, "starting again".into()),
                None => (Phase::Starting, reason),
            },
            _ if self.watch.sentence.is_some() => (Phase::Stalled, "saving the evidence before it is stopped".into()),
            _ if self.condemned => (Phase::Recovering, "must make room for the next run".into()),
            _ if self.watch.stalled.is_some() => (Phase::Stalled, self.watch.stalled.clone().unwrap_or_default()),
            _ if self.incident.is_some() => {
                let also = if self.policy.shows_progress() && !self.watch.moved { " and make progress" } else { "" };
                (Phase::Verifying, format!("must run for {}{also} to count as cured", Span(self.policy.verify.value)))
            }
            _ if self.watch.idle => (Phase::Idle, "nothing is left to do".into()),
            _ if self.policy.shows_progress() && !self.watch.moved => (Phase::Warming, reason),
            _ => (Phase::Working, reason),
        }
    }

    fn phase_down(&self, around: &Surroundings<'_>) -> (Phase, String) {
        if self.completed {
            return (Phase::Completed, self.remark.clone());
        }
        if let Some(plan) = &self.plan {
            if let Some(hold) = around.hold
                && plan.flying.is_none()
            {
                return (Phase::Held, hold.to_owned());
            }
            if plan.queued {
                return (Phase::Queued, "waits for a free start slot".into());
            }
            let state = if plan.flying.is_some() { "is under way" } else { "is planned" };
            let what = match plan.attempt {
                true => format!("restart #{} {state}", self.ledger.failures.max(1)),
                false => format!("a start {state}"),
            };
            return (Phase::Recovering, what);
        }
        if self.undecided.is_some() {
            return (Phase::Failed, "finding out why it failed".into());
        }
        if self.look_back.is_some() {
            return (Phase::Failed, "asking the journal what happened".into());
        }
        if around.flight.is_some_and(|flight| flight == "start") {
            return (Phase::Starting, String::new());
        }
        if let Some(hold) = around.hold
            && self.incident.is_some()
        {
            return (Phase::Held, hold.to_owned());
        }
        if let Some(why) = self.unstartable() {
            let phase = if self.incident.is_some() { Phase::Failed } else { Phase::Inactive };
            return (phase, why.into());
        }
        // systemd calls a unit failed, too, that did not end cleanly when it was stopped.
        let stopped = self.run.ending.is_some();
        let failed = !stopped && self.facts.as_ref().is_some_and(|facts| facts.active == Active::Failed);
        let phase = if self.incident.is_some() || failed { Phase::Failed } else { Phase::Inactive };
        (phase, self.remark.clone())
    }

    pub fn view(&self, held: bool, now: Now) -> WorkerView {
        let quiet = [Timer::Forget, Timer::Look, Timer::WatchOver, Timer::Report];
        let next = self.timers(held, Duration::MAX).filter(|(_, timer)| !quiet.contains(timer)).min();
        let (next_action, at) = match next {
            Some((at, timer)) => (timer.as_str(), Some(at)),
            None => ("", None),
        };
        let stall_at = self.healthy_since.and(self.watch.deadline(&self.policy)).filter(|_| self.still_since.is_none());
        WorkerView {
            name: self.name.clone(),
            phase: self.phase,
            reason: self.reason.clone(),
            since: self.since,
            origin: self.origin(),
            cause: self.cause,
            incident: self.incident,
            main_pid: self.facts.as_ref().map_or(0, |facts| facts.main_pid),
            invocation: self.run.invocation,
            progress: self.progress.as_ref().map(Progress::view),
            attempts: self.ledger.failures,
            budget_left: self.budget_left(now.mono),
            next_action,
            next_action_at: at.map_or(Wall::NEVER, |at| now.wall_at(at)),
            next_action_at_mono: at.unwrap_or_default(),
            held,
            parameters: self.parameters(),
            runs: self.runs,
            downtime: self.downtime,
            intended_up: self.intended_up,
            stall_at: stall_at.map_or(Wall::NEVER, |at| now.wall_at(at)),
            stall_at_mono: stall_at.unwrap_or_default(),
            sources: self.watch.views(),
            values: self.watch.values.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
            warnings: self.warnings.iter().map(|(cause, warning)| warning.view(*cause)).collect(),
            policy: self.policy_rows.clone(),
        }
    }

    fn parameters(&self) -> Vec<(String, String, String)> {
        let row = |(name, setting): (&Arc<str>, &Setting<Parameter>)| {
            let own = setting.value.default.to_string();
            let value = self.tuning.value(name).map_or_else(|| own.clone(), ToString::to_string);
            (name.to_string(), value, own)
        };
        self.policy.parameters.iter().map(row).collect()
    }

    pub fn origin(&self) -> &'static str {
        match (&self.definition, &self.own) {
            (Some(_), _) => "run",
            (None, Some(_)) => "adopted",
            (None, None) => "policy",
        }
    }

    pub fn saved(&self) -> SavedWorker {
        let own = || self.own.clone().unwrap_or_default();
        SavedWorker {
            name: self.name.clone(),
            origin: match (&self.definition, &self.own) {
                (Some(definition), _) => SavedOrigin::Run((**definition).clone(), own()),
                (None, Some(layer)) => SavedOrigin::Adopted(layer.clone()),
                (None, None) => SavedOrigin::Policy,
            },
            phase: self.phase,
            since: self.since,
            remark: self.remark.clone(),
            invocation: self.run.invocation,
            run_ended: self.run.ended,
            seen: self.seen,
            intended_up: self.intended_up,
            completed: self.completed,
            quarantine: self.quarantine.clone(),
            paused: self.paused.is_some(),
            attempts: self.ledger.attempts.iter().copied().collect(),
            failures: self.ledger.failures,
            cause: self.cause,
            incident: self.incident,
            restart_due: self.plan.as_ref().map(|plan| plan.due),
            remedies: SavedRemedies {
                recurrences: self.recurrences.iter().map(|(cause, known)| (*cause, known.clone())).collect(),
                failed_at: self.failed_at,
                tuning: self.tuning.clone(),
                tuned: self.tuned,
                follow_up: self.follow_up.as_ref().map(|follow_up| (follow_up.due, follow_up.failed)),
            },
            runs: self.runs,
            downtime: self.downtime,
            finished: self.finished.map_or(Wall::NEVER, |finished| finished.wall),
        }
    }

    /// Brings back what was saved. `shift` turns a saved monotonic time into one of this boot.
    pub fn restore(saved: SavedWorker, policy: Policy, now: Now, shift: impl Fn(Mono) -> Mono) -> Worker {
        let mut worker = Worker::new(saved.name, policy, now);
        match saved.origin {
            SavedOrigin::Policy => {}
            SavedOrigin::Adopted(layer) => worker.own = Some(layer),
            SavedOrigin::Run(definition, layer) => {
                worker.definition = Some(definition.into());
                worker.own = Some(layer);
            }
        }
        worker.run = Run { invocation: saved.invocation, ended: saved.run_ended, ..Run::default() };
        worker.intended_up = saved.intended_up;
        worker.completed = saved.completed;
        worker.quarantine = saved.quarantine;
        worker.paused = saved.paused.then_some(Freezer::Signal);
        worker.ledger =
            Ledger { attempts: saved.attempts.iter().map(|at| shift(*at)).collect(), failures: saved.failures };
        let SavedRemedies { recurrences, failed_at, tuning, tuned, follow_up } = saved.remedies;
        let moved =
            |known: Recurrence| Recurrence { attempts: known.attempts.iter().map(|at| shift(*at)).collect(), ..known };
        worker.recurrences = recurrences.into_iter().map(|(cause, known)| (cause, moved(known))).collect();
        worker.failed_at = failed_at;
        worker.tuning = tuning;
        worker.tuning.keep_only(&worker.policy.declared());
        worker.tuned = tuned.map(&shift);
        worker.follow_up = follow_up.map(|(due, failed)| FollowUp { due: shift(due), failed, flying: None });
        worker.cause = saved.cause;
        worker.incident = saved.incident;
        let counted = |due: Mono| saved.attempts.last().is_some_and(|at| *at >= due);
        worker.plan = saved.restart_due.map(|due| Plan {
            counted: counted(due),
            ..Plan::new(shift(due), "the plan made before watcherd was restarted")
        });
        worker.runs = saved.runs;
        worker.downtime = saved.downtime;
        worker.finished =
            (saved.finished != Wall::NEVER).then(|| Now { mono: now.mono_at(saved.finished), wall: saved.finished });
        worker.seen = saved.seen;
        worker.phase = saved.phase;
        if saved.since != Wall::NEVER {
            worker.since = saved.since;
        }
        worker.remark = saved.remark;
        worker.restored = true;
        worker
    }
}

/// What a worker's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Restart,
    Verified,
    FollowUp,
    /// A changed parameter is taken back.
    Restore,
    Reset,
    Kill,
    Decide,
    Forget,
    /// A first look at what the worker does, some time before it would be called stalled.
    Look,
    Stalled,
    /// A rule of the policy says that it is.
    Struck,
    /// A look at how the worker uses its machine.
    WatchOver,
    Report,
}

impl Timer {
    pub fn as_str(self) -> &'static str {
        match self {
            Timer::Restart => "restart",
            Timer::Verified => "close-incident",
            Timer::FollowUp => "follow-up",
            Timer::Restore => "restore-parameter",
            Timer::Reset => "reset-attempts",
            Timer::Kill => "kill",
            Timer::Decide => "decide",
            Timer::Forget => "forget",
            Timer::Look | Timer::WatchOver => "look",
            Timer::Stalled | Timer::Struck => "stall",
            Timer::Report => "report",
        }
    }
}
