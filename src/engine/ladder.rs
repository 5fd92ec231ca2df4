// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which remedy a failure gets: the policy's own for its cause, the next one on the ladder when that did not help, or what
//! follows from the cause where the policy says nothing. A remedy that did not help is undone before the next is tried.

use super::*;
use cause::{Cause, Retry};
use parameter::Changes;
use policy::{CauseAction, CausePolicy, Text};
use until::Until;

/// From here on, in percent, a cause is sure enough to leave a worker down because of it.
const SURE: u8 = 80;
/// The exit status by which a program says that it must not be started again.
const NEVER_AGAIN: i32 = 93;

/// A remedy, and the line that chose it.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub action: CauseAction,
    pub by: String,
    /// What a hold waits for.
    pub until: Option<Until>,
    /// What was changed for the next start.
    pub changed: Vec<String>,
    /// The restart waits until then, because the change before this one is too young.
    pub not_before: Option<Mono>,
}

/// Why there is no remedy left, and the line that says so.
pub(super) struct Exhausted {
    pub why: String,
    pub by: String,
}

impl Engine {
    /// A run that failed further on than all before it gives the budget back, and what was counted against its causes.
    pub(super) fn credit_progress(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let reached = worker.reached();
        if reached > worker.failed_at {
            worker.failed_at = reached;
            worker.ledger.refund(worker.progress.as_ref().map_or(Mono(0), |progress| progress.view().at_mono));
            worker.recurrences.values_mut().for_each(recurrence::Recurrence::forgive);
        }
    }

    /// Notes one more failure of a cause.
    pub(super) fn recur(&mut self, name: &WorkerName, cause: Cause) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let reached = worker.reached();
        worker.recurrences.entry(cause).or_default().note(reached);
    }

    /// Whether one more failure of a cause that is known already would change what is to be done, so that it is worth
    /// waiting for the verdict.
    pub(super) fn is_on_the_brink(&self, name: &WorkerName) -> bool {
        let Some(worker) = self.workers.get(name) else { return false };
        worker.recurrences.iter().any(|(cause, recurrence)| {
            let mut next = recurrence.clone();
            next.note(worker.reached());
            next.hopeless(*cause, &worker.policy).is_some()
        })
    }

    /// Why the run that ended must not be followed by another one, if its program said so.
    pub(super) fn forbids_restart(&self, name: &WorkerName) -> Option<String> {
        let worker = self.workers.get(name)?;
        (worker.run.ended && worker.run.exit == event::Exit::Exited(NEVER_AGAIN))
            .then(|| format!("exit status {NEVER_AGAIN}: the program says that it must not be started again"))
    }

    /// Chooses the remedy for the worker's cause, and makes the changes that belong to it. `usual` is what is done about
    /// a cause of which nothing is said.
    pub(super) fn choose(&mut self, name: &WorkerName, usual: &str) -> Result<Chosen, Exhausted> {
        loop {
            let (chosen, mut changes) = self.wanted(name, usual);
            if self.was_bare(name) {
                // What was changed before has not been tried by this run.
                changes.clear();
            }
            let spent = self.spent(name, &changes);
            let Some(why) = spent else { return Ok(self.make_changes(name, chosen, &changes)) };
            if !self.descend(name, &why) {
                return Err(Exhausted { why, by: chosen.by });
            }
        }
    }

    /// Whether the run that failed had none of the changed parameters, because it began before the unit was prepared.
    fn was_bare(&self, name: &WorkerName) -> bool {
        self.workers.get(name).is_some_and(|worker| worker.bare.is_some() && worker.bare == worker.run.invocation)
    }

    /// What would be chosen if nothing had failed so far; nothing is changed.
    pub(super) fn wanted(&self, name: &WorkerName, usual: &str) -> (Chosen, Changes) {
        let plain =
            |action, by| (Chosen { action, by, until: None, changed: Vec::new(), not_before: None }, Changes::new());
        let Some(worker) = self.workers.get(name) else { return plain(CauseAction::Restart, String::new()) };
        let cause = worker.cause.unwrap_or(Cause::Unknown);
        let rung = worker.recurrences.get(&cause).map_or(0, |recurrence| recurrence.rung as usize);
        let remedy = worker.policy.causes.get(&cause).and_then(|policy| policy.remedy(rung));
        if let Some((remedy, from)) = remedy {
            let place = if rung == 0 { String::new() } else { format!(".try-next {rung}") };
            let by = format!("[cause.{cause}]{place} ({from})");
            return (
                Chosen { action: remedy.action, by, until: remedy.until, changed: Vec::new(), not_before: None },
                remedy.changes,
            );
        }
        let by_verdict = &worker.policy.by_verdict;
        let incident = worker.incident.and_then(|id| self.incidents.get(id));
        let sure = incident.is_some_and(|incident| incident.confidence >= SURE);
        if by_verdict.value && sure && cause.retry() == Retry::NeedsOperator {
            return plain(CauseAction::Hold, format!("restart.by-verdict ({}): {}", by_verdict.from, cause.advice()));
        }
        plain(CauseAction::Restart, usual.to_owned())
    }

    /// Whether something else than a restart would be chosen now; nothing is changed.
    pub(super) fn would_not_restart(&self, name: &WorkerName) -> bool {
        let (chosen, changes) = self.wanted(name, "");
        chosen.action != CauseAction::Restart || self.spent(name, &changes).is_some()
    }

    /// Why the remedy at hand would be in vain.
    fn spent(&self, name: &WorkerName, changes: &Changes) -> Option<String> {
        let worker = self.workers.get(name)?;
        let cause = worker.cause?;
        let recurrence = worker.recurrences.get(&cause)?;
        let policy = worker.policy.causes.get(&cause);
        let counted = policy.is_some_and(|policy| policy.max_attempts.is_some() || policy.try_next.is_some());
        if let Some(policy) = policy
            && (counted || !changes.is_empty())
            && recurrence.tried >= policy.max_attempts()
        {
            return Some(format!("{} against {cause} did not help", remedy::attempts(recurrence.tried)));
        }
        if changes.is_empty() {
            let has_remedy = policy.is_some_and(CausePolicy::is_remedy);
            let plain = !has_remedy || self.wanted(name, "").0.action == CauseAction::Restart;
            return if plain { recurrence.hopeless(cause, &worker.policy) } else { None };
        }
        let mut tuning = worker.tuning.clone();
        let told = tuning.apply(&worker.policy.declared(), changes);
        told.is_empty().then(|| format!("nothing is left to change against {cause}"))
    }

    /// Takes back what the remedy changed, and goes on to the next one; false if there is none.
    fn descend(&mut self, name: &WorkerName, why: &str) -> bool {
        let Some(worker) = self.workers.get_mut(name) else { return false };
        let cause = worker.cause.unwrap_or(Cause::Unknown);
        let recurrence = worker.recurrences.entry(cause).or_default();
        let next = recurrence.rung.saturating_add(1);
        let policy = worker.policy.causes.get(&cause);
        if policy.and_then(|policy| policy.remedy(next as usize)).is_none() {
            return false;
        }
        let undone = worker.tuning.back_to(recurrence.steps as usize);
        recurrence.rung = next;
        recurrence.tried = 0;
        recurrence.steps = u32::try_from(worker.tuning.steps().len()).unwrap_or(u32::MAX);
        self.touched.insert(name.clone());
        if !undone.is_empty() {
            self.remedy(name, "undo", undone.join(", "), "done");
            let text = format!("{name}: taken back, because {why}: {}", undone.join(", "));
            self.record(EntryKind::ParametersChanged, Some(name), text);
        }
        true
    }

    fn make_changes(&mut self, name: &WorkerName, mut chosen: Chosen, changes: &Changes) -> Chosen {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return chosen };
        let Some(cause) = worker.cause else { return chosen };
        let declared = worker.policy.declared();
        let recurrence = worker.recurrences.entry(cause).or_default();
        if recurrence.tried == 0 {
            recurrence.steps = u32::try_from(worker.tuning.steps().len()).unwrap_or(u32::MAX);
        }
        recurrence.tried = recurrence.tried.saturating_add(1);
        chosen.changed = worker.tuning.apply(&declared, changes);
        if !chosen.changed.is_empty() {
            let before = worker.tuned.replace(now);
            chosen.not_before = before.map(|at| at + worker.policy.cooldown.value).filter(|at| *at > now);
            let what = chosen.changed.join(", ");
            self.remedy(name, "change", format!("{}: {what}", chosen.by), "done");
            let text = format!("{name}: {what}, for the next start, by {}", chosen.by);
            self.record(EntryKind::ParametersChanged, Some(name), text);
        }
        chosen
    }

    /// The worker ran well for long enough: takes the newest change of a parameter back, for the next start.
    pub(super) fn restore_step(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.tuned = Some(now);
        let Some(told) = worker.tuning.step_back() else { return };
        let after = worker.policy.restore_after.value.as_ref().map(Text::text).unwrap_or_default();
        self.touched.insert(name.clone());
        let text = format!("{name}: {told}, for the next start: it ran well for {after} (restart.restore-after)");
        self.record(EntryKind::ParametersChanged, Some(name), text);
    }
}
