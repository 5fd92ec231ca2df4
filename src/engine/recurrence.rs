// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often one cause has come back, and which remedies were tried against it: the second ledger of a worker.

use super::cause::{Cause, Retry};
use super::policy::{Budget, Policy, Source};
use super::time::Mono;
use std::collections::VecDeque;

/// What is known about one cause of one worker's failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recurrence {
    /// Failures in a row since the worker got anywhere.
    pub count: u32,
    /// How far the worker was at the last one; `None` if it had not begun.
    pub value: Option<u64>,
    /// Failures in a row at that very value.
    pub same_value: u32,
    /// The rung of the ladder of remedies, from 0.
    pub rung: u32,
    /// How often that remedy was tried.
    pub tried: u32,
    /// How many changes of parameters were made before that rung.
    pub steps: u32,
    /// The attempts that count towards a budget of this cause's own, oldest first.
    pub attempts: VecDeque<Mono>,
}

impl Recurrence {
    /// One more failure, at this value of the progress.
    pub fn note(&mut self, value: Option<u64>) {
        self.same_value = if self.count > 0 && self.value == value { self.same_value.saturating_add(1) } else { 1 };
        self.count = self.count.saturating_add(1);
        self.value = value;
    }

    /// The remedy has helped: the next failure begins at the top of the ladder.
    pub fn cured(&mut self) {
        *self = Recurrence {
            count: self.count,
            value: self.value,
            same_value: self.same_value,
            attempts: std::mem::take(&mut self.attempts),
            ..Recurrence::default()
        };
    }

    /// The worker got somewhere: only what limits the rate is remembered.
    pub fn forgive(&mut self) {
        *self = Recurrence {
            rung: self.rung,
            steps: self.steps,
            attempts: std::mem::take(&mut self.attempts),
            ..Recurrence::default()
        };
    }

    /// Why another plain attempt would be in vain, as a sentence fragment.
    pub fn hopeless(&self, cause: Cause, policy: &Policy) -> Option<String> {
        let chosen = policy.same_cause.from != Source::default_value();
        let may_pass = cause.retry() == Retry::Transient && !cause.is_rarely_chance();
        if cause == Cause::Unknown || (may_pass && !chosen) {
            return None;
        }
        let limit = policy.same_cause.value;
        let times = |count: u32| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let at = |value: Option<u64>| value.map_or("before any progress".to_owned(), |value| format!("at {value}"));
        if policy.shows_progress() && self.same_value >= 2.min(limit) && cause.retry() == Retry::NeedsChange {
            return Some(format!("{cause} came {} {}", times(self.same_value), at(self.value)));
        }
        (self.count >= limit).then(|| format!("{cause} came {} without progress", times(self.count)))
    }

    /// Attempts that a budget of this cause's own still allows.
    pub fn left(&self, budget: Budget, now: Mono) -> u32 {
        let used = self.attempts.iter().filter(|at| **at + budget.window > now).count();
        budget.attempts.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::policy::Setting;

    /// A policy that shows progress, or not, and may set the limit.
    fn with(progress: Option<&str>, same_cause: Option<u32>) -> Policy {
        let mut policy = Policy::default();
        policy.progress_file.value = progress.map(Into::into);
        if let Some(value) = same_cause {
            policy.same_cause = Setting { value, from: Source("file:1".into()) };
        }
        policy
    }

    fn after(values: &[Option<u64>]) -> Recurrence {
        let mut recurrence = Recurrence::default();
        values.iter().for_each(|value| recurrence.note(*value));
        recurrence
    }

    #[test]
    fn what_may_pass_by_itself_is_never_hopeless_unless_the_policy_says_so() {
        let many = after(&[None; 50]);
        for cause in [Cause::ServiceUnreachable, Cause::Unknown, Cause::Unresponsive] {
            assert_eq!(many.hopeless(cause, &with(None, None)), None, "{cause}");
        }
        assert!(many.hopeless(Cause::ServiceUnreachable, &with(None, Some(50))).is_some());
        assert_eq!(many.hopeless(Cause::ServiceUnreachable, &with(None, Some(51))), None);
    }

    #[test]
    fn the_same_end_at_the_same_place_twice_is_enough() {
        let policy = with(Some("/p"), None);
        assert_eq!(after(&[Some(5)]).hopeless(Cause::AppException, &policy), None);
        let why = after(&[Some(5), Some(5)]).hopeless(Cause::AppException, &policy);
        assert_eq!(why.as_deref(), Some("app-exception came 2 times at 5"));
        assert_eq!(after(&[Some(5), Some(4)]).hopeless(Cause::AppException, &policy), None);
        assert_eq!(after(&[None, None]).hopeless(Cause::AppException, &with(None, None)), None, "it shows no progress");
    }

    #[test]
    fn a_segfault_may_be_chance_but_not_for_ever() {
        let policy = with(None, None);
        assert_eq!(after(&[None, None]).hopeless(Cause::Segfault, &policy), None);
        let why = after(&[None, None, None]).hopeless(Cause::Segfault, &policy);
        assert_eq!(why.as_deref(), Some("segfault came 3 times without progress"));
    }

    #[test]
    fn a_cure_goes_back_to_the_first_remedy_and_progress_forgives() {
        let mut recurrence = Recurrence { rung: 2, tried: 3, steps: 1, ..after(&[Some(1), Some(1)]) };
        recurrence.cured();
        assert_eq!((recurrence.count, recurrence.rung, recurrence.tried), (2, 0, 0));
        let mut recurrence = Recurrence { rung: 2, tried: 3, ..after(&[Some(1), Some(1)]) };
        recurrence.forgive();
        assert_eq!((recurrence.count, recurrence.rung, recurrence.tried), (0, 2, 0));
    }
}
