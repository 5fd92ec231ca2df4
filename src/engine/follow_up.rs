// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is run after a restart: a command of the policy, some time after it, again if it fails. It is part of the recovery:
//! the incident stays open until it is over, and says how it went.

use super::*;
use action::Hook;
use flight::Purpose;
use std::time::Duration;

/// The pause before the first repetition; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A follow-up that is due or under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    pub due: Mono,
    /// How often it has failed.
    pub failed: u32,
    /// The action that performs it.
    pub flying: Option<ActionId>,
}

impl Engine {
    /// The worker runs again after a failure: its follow-up comes some time later.
    pub(super) fn plan_follow_up(&mut self, name: &WorkerName) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.policy.then.value.is_some() && worker.incident.is_some() {
            worker.follow_up = Some(FollowUp { due: now + worker.policy.settle.value, failed: 0, flying: None });
            self.touched.insert(name.clone());
        }
    }

    pub(super) fn follow_up_due(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let Some(argv) = worker.policy.then.value.clone() else {
            if let Some(worker) = self.workers.get_mut(name) {
                worker.follow_up = None;
            }
            return;
        };
        let environment = self.hook_environment(name);
        let within = worker.policy.then_within.value;
        let id = self.fly(name, Purpose::FollowUp, None);
        if let Some(follow_up) = self.workers.get_mut(name).and_then(|worker| worker.follow_up.as_mut()) {
            follow_up.flying = Some(id);
        }
        self.act(Action::Hook(id, name.clone(), Hook { argv, environment, within }));
    }

    /// What a command of the policy is told about the worker.
    fn hook_environment(&self, name: &WorkerName) -> Vec<(String, String)> {
        let Some(worker) = self.workers.get(name) else { return Vec::new() };
        let progress = worker.progress.as_ref().map(|progress| progress.view().value);
        let variables = [
            ("WATCHERD_WORKER", Some(name.unit().to_owned())),
            ("WATCHERD_CAUSE", worker.cause.map(|cause| cause.to_string())),
            ("WATCHERD_ATTEMPT", Some(worker.ledger.failures.to_string())),
            ("WATCHERD_INCIDENT", worker.incident.map(|id| id.to_string())),
            ("WATCHERD_PROGRESS", progress.map(|value| value.to_string())),
            ("WATCHERD_RESUME_FROM", worker.resume_from.clone()),
        ];
        variables.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    pub(super) fn followed_up(&mut self, name: &WorkerName, id: ActionId, outcome: &Outcome) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let Some(follow_up) = worker.follow_up.as_mut().filter(|follow_up| follow_up.flying == Some(id)) else {
            return;
        };
        follow_up.flying = None;
        let why = match outcome {
            Outcome::Failed(why) => why.clone(),
            Outcome::TimedOut => format!("not done within {}", time::Span(worker.policy.then_within.value)),
            _ => {
                worker.follow_up = None;
                let by = format!("restart.then ({})", worker.policy.then.from);
                self.remedy(name, "follow-up", by, "done");
                self.record(
                    EntryKind::FollowUpDone,
                    Some(name),
                    format!("{name}: the follow-up of its restart is done"),
                );
                return;
            }
        };
        follow_up.failed = follow_up.failed.saturating_add(1);
        let retries = worker.policy.then_retries.value;
        if follow_up.failed <= retries {
            let pause = PAUSE.saturating_mul(1 << (follow_up.failed - 1).min(20)).min(PAUSE_MAX);
            follow_up.due = now + pause;
            let text = format!("{name}: the follow-up of its restart failed ({why}); again in {}", time::Span(pause));
            self.record(EntryKind::FollowUpFailed, Some(name), text);
            return;
        }
        let times = match follow_up.failed {
            1 => String::new(),
            times => format!(" {times} times"),
        };
        worker.follow_up = None;
        let by = format!("restart.then ({})", worker.policy.then.from);
        self.remedy(name, "follow-up", by, &format!("failed: {why}"));
        let text = format!("{name}: the follow-up of its restart failed{times}: {why}");
        self.record(EntryKind::FollowUpFailed, Some(name), text);
    }
}
