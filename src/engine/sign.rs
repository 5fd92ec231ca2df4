// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signs of trouble in a worker that still runs: telling lines, counters of its control group that rise. They open a
//! warning, and an incident only where the policy says so; many signs of one cause are one warning.

use super::*;
use cause::Cause;
use classify::Verdict;
use evidence::Source;
use policy::{Budget, CauseAction, Text, WhenRunning};
use std::time::Duration;
use view::WarningView;

/// A policy that does not say how many signs count needs one.
const ONE: Budget = Budget { attempts: 1, window: Duration::from_secs(60) };
/// Warnings that are kept per run.
const WARNINGS_MAX: usize = 16;
/// Times of signs that are kept per warning.
const TIMES_MAX: usize = 1_000;
/// The longest text that is kept of a sign, in characters.
const TEXT_MAX: usize = 400;

/// Something that a rule recognised about a running worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    pub cause: Cause,
    pub source: Source,
    /// What was seen, the newest of them.
    pub text: String,
    /// How many were seen since the last event of this kind.
    pub count: u32,
    pub at: Wall,
}

/// The signs of one cause in one run.
#[derive(Clone, Debug)]
pub(super) struct Warning {
    pub count: u64,
    pub first: Wall,
    pub last: Wall,
    pub source: Source,
    pub text: String,
    recent: VecDeque<(Mono, u32)>,
    /// It has been said, and acted upon if the policy says so.
    told: bool,
}

impl Engine {
    /// A rule recognised something about a running worker.
    pub(super) fn sign(&mut self, name: &WorkerName, sign: Sign) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.is_up() || worker.run.ended || worker.run.invocation.is_none() {
            if sign.at != Wall::NEVER {
                worker.early_signs.truncate(WARNINGS_MAX - 1);
                worker.early_signs.insert(0, sign);
            }
            return;
        }
        // journald tells of lines up to half a second later: this may be the last word of the run before. A program may
        // say its first one before systemd calls the unit active.
        let facts = worker.facts.as_ref().filter(|facts| facts.active == event::Active::Active);
        if sign.at != Wall::NEVER && facts.is_some_and(|facts| self.now.mono_at(sign.at) < facts.main_started) {
            return;
        }
        let policy = worker.policy.causes.get(&sign.cause);
        let reaction = policy.and_then(|policy| policy.when_running.as_ref()).map(|setting| setting.value);
        if reaction == Some(WhenRunning::Ignore) {
            return;
        }
        let threshold = policy.and_then(|policy| policy.count.as_ref()).map_or(ONE, |setting| setting.value);
        if !worker.warnings.contains_key(&sign.cause) && worker.warnings.len() >= WARNINGS_MAX {
            return;
        }
        let warning = worker.warnings.entry(sign.cause).or_insert_with(|| Warning::new(&sign));
        let passed = warning.note(&sign, now, threshold);
        self.touched.insert(name.clone());
        if passed {
            self.warn(name, sign.cause, reaction);
        }
    }

    /// Takes in what the journal has told of a run before systemd did.
    pub(super) fn take_early_signs(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let active = worker.facts.as_ref().is_some_and(|facts| facts.active == event::Active::Active);
        if active && worker.run.invocation.is_some() && !worker.run.ended {
            for sign in std::mem::take(&mut worker.early_signs).into_iter().rev() {
                self.sign(name, sign);
            }
        }
    }

    /// Enough signs were seen: says so once, and acts where the policy wants that.
    fn warn(&mut self, name: &WorkerName, cause: Cause, reaction: Option<WhenRunning>) {
        let Some(worker) = self.workers.get(name) else { return };
        let Some(text) = worker.warnings.get(&cause).map(Warning::describe) else { return };
        self.record(EntryKind::Warned, Some(name), format!("{name} shows signs of {cause} while it runs: {text}"));
        if let Some(Action::Record(entry)) = self.step.actions.last_mut() {
            entry.cause = Some(cause);
        }
        if reaction == Some(WhenRunning::Incident) && self.hold_of(name).is_none() {
            let Some(policy) = self.workers.get(name).and_then(|worker| worker.policy.causes.get(&cause)) else {
                return;
            };
            let from = policy.when_running.as_ref().map(|setting| setting.from.to_string()).unwrap_or_default();
            let by = format!("cause.{cause}.when-running = {} ({from})", WhenRunning::Incident.text());
            let verdict = Verdict {
                cause,
                confidence: 70,
                because: vec![text],
                cascade: Vec::new(),
                also: Vec::new(),
                ending: "shows signs of trouble while it runs".into(),
            };
            self.condemn(name, verdict, &by);
        }
    }

    /// Opens an incident for a run that goes on, and does what the policy says about its cause. `usual` is the line that
    /// has it restarted where nothing is said about the cause.
    pub(super) fn condemn(&mut self, name: &WorkerName, verdict: Verdict, usual: &str) {
        let now = self.now;
        let cause = verdict.cause;
        let Some(worker) = self.workers.get(name) else { return };
        let run = worker.run.invocation;
        if self.incidents.covers(name, run) || worker.ending().is_some() || self.ending_under_way(name).is_some() {
            return;
        }
        self.close_open_incident(name, IncidentResult::FailedAgain);
        let id = self.incidents.open(name, run, &verdict, now.wall, now);
        self.step.changes.insert(ObjectId::Incident(id));
        self.step.changes.insert(ObjectId::Manager);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.incident = Some(id);
            worker.cause = Some(cause);
        }
        self.credit_progress(name);
        self.recur(name, cause);
        let next = self.sentence(name, id, cause, usual);
        self.incidents.tell(id, &verdict, &next);
        self.record(EntryKind::IncidentOpened, Some(name), format!("{name} {} ({cause}): {next}", verdict.ending));
        self.close_if_settled(name);
    }

    fn sentence(&mut self, name: &WorkerName, id: IncidentId, cause: Cause, usual: &str) -> String {
        if self.is_dry(name) {
            let (chosen, _) = self.wanted(name, usual);
            return self.would(name, chosen.action, chosen.by);
        }
        let chosen = match self.choose(name, usual) {
            Ok(chosen) => chosen,
            Err(exhausted) => return self.exhausted(name, exhausted),
        };
        let (action, by) = (chosen.action, chosen.by);
        let ends = matches!(action, CauseAction::Restart | CauseAction::Quarantine | CauseAction::Stop);
        match ends && cause == Cause::Unresponsive {
            true => self.capture(name, id, (action, by)),
            false => self.act_on_running(name, cause, action, by),
        }
    }

    pub(super) fn act_on_running(
        &mut self,
        name: &WorkerName,
        cause: Cause,
        action: CauseAction,
        by: String,
    ) -> String {
        if self.is_dry(name) {
            return self.would(name, action, by);
        }
        match action {
            CauseAction::Restart => self.restart_running(name, by),
            CauseAction::Quarantine => {
                self.remedy(name, "quarantine", by.clone(), "done");
                self.quarantine(name, format!("{cause}, {by}"));
                "quarantined by the policy".into()
            }
            CauseAction::Stop => {
                self.remedy(name, "stop", by, "done");
                self.give_up(name, "the policy says so");
                self.stop(name, worker::Ending::Asked);
                "stopped by the policy".into()
            }
            CauseAction::Hold | CauseAction::Ignore => {
                self.remedy(name, "ignore", by, "done");
                "left running by the policy".into()
            }
        }
    }

    fn restart_running(&mut self, name: &WorkerName, by: String) -> String {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return String::new() };
        if worker.budget_left(now) == 0 {
            let (budget, by) = worker.budget_text();
            let why = format!("{} in {} did not help", remedy::attempts(budget.attempts), time::Span(budget.window));
            return self.exhausted(name, ladder::Exhausted { why, by });
        }
        worker.ledger.failures = worker.ledger.failures.saturating_add(1);
        worker.count_attempt(now, false);
        let attempt = worker.ledger.failures;
        worker.condemned = true;
        self.remedy(name, "restart", by, "");
        self.begin_restart(name);
        format!("restart #{attempt} at once")
    }
}

impl Warning {
    fn new(sign: &Sign) -> Warning {
        Warning {
            count: 0,
            first: sign.at,
            last: sign.at,
            source: sign.source,
            text: String::new(),
            recent: VecDeque::new(),
            told: false,
        }
    }

    /// Counts a sign; true once, when `threshold` is reached.
    fn note(&mut self, sign: &Sign, now: Mono, threshold: Budget) -> bool {
        self.count += u64::from(sign.count);
        self.last = self.last.max(sign.at);
        self.source = sign.source;
        self.text = sign.text.chars().take(TEXT_MAX).collect();
        self.recent.push_back((now, sign.count));
        while self.recent.len() > TIMES_MAX || self.recent.front().is_some_and(|(at, _)| *at + threshold.window <= now)
        {
            self.recent.pop_front();
        }
        let recent: u64 = self.recent.iter().map(|(_, count)| u64::from(*count)).sum();
        let passed = !self.told && recent >= u64::from(threshold.attempts);
        self.told |= passed;
        passed
    }

    pub fn view(&self, cause: Cause) -> WarningView {
        let text = format!("{}: {}", self.source.as_str(), self.text);
        WarningView { cause, count: self.count, first: self.first, last: self.last, text }
    }

    fn describe(&self) -> String {
        let Warning { source, text, .. } = self;
        match self.count {
            1 => format!("{}: {text}", source.as_str()),
            count => format!("{}: {text} ({count} times)", source.as_str()),
        }
    }
}
