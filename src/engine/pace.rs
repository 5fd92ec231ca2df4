// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a worker may go without progress: a fixed time, or one learned from its own pace.
//!
//! The learned one follows the phi accrual failure detector (Hayashibara, Défago, Yared, Katayama, "The φ Accrual Failure
//! Detector", SRDS 2004): the gaps between steps of progress are sampled in a sliding window, and the worker is suspected
//! once a further gap of that length would be as unlikely as 10^-φ. Two things differ, because a training does not send
//! heartbeats: gaps are taken as log-normal, since they have a long tail and are never negative, and the longest gap of
//! the window counts twice, so that a checkpoint that comes every thousand steps is never held against it.

use super::policy::Text;
use super::time::Span;
use std::collections::VecDeque;
use std::time::Duration;

/// Gaps that are kept.
const WINDOW: usize = 256;
/// With fewer gaps the longest allowed time applies.
const ENOUGH: usize = 8;
/// Standard deviations of a normal distribution beyond which lies 10^-8 (phi = 8) of it.
const DEVIATIONS: f64 = 5.612;
/// Gaps are never taken as more regular than this, in the logarithm.
const SPREAD_MIN: f64 = 0.1;

/// When a worker without progress is called stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallAfter {
    Never,
    After(Duration),
    /// Learned from its pace, between `stall-min` and `stall-max`.
    Adaptive,
}

impl Text for StallAfter {
    fn text(&self) -> String {
        match self {
            StallAfter::Never => "never".into(),
            StallAfter::After(span) => Span(*span).to_string(),
            StallAfter::Adaptive => "adaptive".into(),
        }
    }
}

/// The gaps between the last steps of progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    gaps: VecDeque<Duration>,
}

impl Pace {
    pub fn note(&mut self, gap: Duration) {
        if gap.is_zero() {
            return;
        }
        if self.gaps.len() >= WINDOW {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
    }

    /// The longest gap that is still believed, between the bounds; `max` while too little is known.
    pub fn limit(&self, min: Duration, max: Duration) -> Duration {
        let max = max.max(min);
        if self.gaps.len() < ENOUGH {
            return max;
        }
        let logs: Vec<f64> = self.gaps.iter().map(|gap| gap.as_secs_f64().ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let unlikely = (mean + DEVIATIONS * variance.sqrt().max(SPREAD_MIN)).exp();
        let longest = self.gaps.iter().max().copied().unwrap_or_default().as_secs_f64();
        // A few long gaps among many short ones widen the distribution beyond all reason.
        let limit = unlikely.min(3.0 * longest).max(2.0 * longest);
        Duration::try_from_secs_f64(limit).unwrap_or(max).clamp(min, max)
    }
}
