// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often and how soon: the ledger of attempts, the back-off, and the planned restart.

use super::ids::ActionId;
use super::policy::{BackOff, Budget};
use super::rng::Rng;
use super::time::Mono;
use std::collections::VecDeque;
use std::time::Duration;

/// The attempts of one worker since it was last healthy.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// When each attempt was made, oldest first; at most as many as the budget allows are kept.
    pub attempts: VecDeque<Mono>,
    /// Failures in a row; they set the back-off.
    pub failures: u32,
}

impl Ledger {
    /// Attempts that `budget` still allows at `now`.
    pub fn left(&self, budget: Budget, now: Mono) -> u32 {
        let used = self.attempts.iter().filter(|at| **at + budget.window > now).count();
        budget.attempts.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Counts an attempt; `again` says that the newest one is made once more.
    pub fn count(&mut self, budget: Budget, now: Mono, again: bool) {
        count(&mut self.attempts, budget, now, again);
    }

    /// The attempts up to then were worth it: they do not count any more, only the pauses stay as long as they are.
    pub fn refund(&mut self, until: Mono) {
        self.attempts.retain(|at| *at > until);
    }

    pub fn clear(&mut self) {
        self.attempts.clear();
        self.failures = 0;
    }

    pub fn is_clear(&self) -> bool {
        self.attempts.is_empty() && self.failures == 0
    }
}

/// Adds an attempt, and keeps as many as the budget allows.
pub(super) fn count(attempts: &mut VecDeque<Mono>, budget: Budget, now: Mono, again: bool) {
    if again {
        attempts.pop_back();
    }
    attempts.push_back(now);
    while attempts.len() > budget.attempts.max(1) as usize {
        attempts.pop_front();
    }
}

impl BackOff {
    /// The pause before the `n`th attempt in a row (from 1): doubles up to the cap, then up to a quarter is taken off
    /// at random so that many workers do not come back at the same moment.
    pub(super) fn pause(self, n: u32, rng: &mut Rng) -> Duration {
        let doubled = self.first.saturating_mul(1 << n.saturating_sub(1).min(30)).min(self.cap);
        let micros = u64::try_from(doubled.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros - rng.below(micros / 4 + 1))
    }
}

/// A start that was decided and is not over.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub due: Mono,
    /// The policy line that chose it.
    pub by: String,
    /// Whether the ledger has it already.
    pub counted: bool,
    /// It is due and waits for a free slot.
    pub queued: bool,
    /// The action that performs it.
    pub flying: Option<ActionId>,
    /// It follows a start that systemd refused.
    pub refused: bool,
    /// It answers a failure, and so takes from the budget.
    pub attempt: bool,
}

impl Plan {
    pub fn new(due: Mono, by: &str) -> Plan {
        Plan { due, by: by.to_owned(), counted: false, queued: false, flying: None, refused: false, attempt: true }
    }

    /// A plan for a start that answers no failure.
    pub fn free(due: Mono, by: &str) -> Plan {
        Plan { counted: true, attempt: false, ..Plan::new(due, by) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_cap_and_jitter_only_shortens_it() {
        let back_off = BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(10) };
        let mut rng = Rng::new(7);
        for (n, full) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)] {
            let full = Duration::from_secs(full);
            for _ in 0..100 {
                let pause = back_off.pause(n, &mut rng);
                assert!(pause <= full && pause >= full.mul_f64(0.7499), "{n}: {pause:?}");
            }
        }
        let none = BackOff { first: Duration::ZERO, cap: Duration::ZERO };
        assert_eq!(none.pause(9, &mut rng), Duration::ZERO);
    }

    #[test]
    fn attempts_leave_the_window() {
        let budget = Budget { attempts: 2, window: Duration::from_secs(10) };
        let mut ledger = Ledger::default();
        ledger.count(budget, Mono(1_000_000), false);
        ledger.count(budget, Mono(2_000_000), false);
        assert_eq!(ledger.left(budget, Mono(3_000_000)), 0);
        assert_eq!(ledger.left(budget, Mono(11_000_000)), 1);
        assert_eq!(ledger.left(budget, Mono(12_000_000)), 2);
    }
}
