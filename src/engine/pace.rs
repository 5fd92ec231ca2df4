// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a worker may go without progress: a fixed time, or one learned from its own pace.
//!
//! The learned one follows the phi accrual failure detector (Hayashibara, Défago, Yared, Katayama, "The φ Accrual Failure
//! Detector", SRDS 2004): the gaps between steps of progress are sampled in a sliding window, and the worker is suspected
//! once a further gap of that length would be as unlikely as 10^-φ. Two things differ, because a training does not send
//! heartbeats: gaps are taken as log-normal, since they have a long tail and are never negative, and the longest gap in
//! living memory counts twice, so that a checkpoint that comes every thousand steps is never held against it.
//! Where the worker says which stage of its work it is in (training, evaluation), each stage has a pace of its own.
//! A gap that is three times as long as all before it cannot be told from death.

use super::policy::Text;
use super::saved::SavedPace;
use super::time::Span;
use std::collections::VecDeque;
use std::time::Duration;

/// Gaps that are kept one by one.
const WINDOW: usize = 256;
/// Of older ones the longest of each so many is kept, for so many times.
const BLOCKS: usize = 256;
/// Steps that follow each other faster are taken as one.
const SHORTEST: Duration = Duration::from_secs(1);
/// Of the gaps so many survive the end of watcherd.
const SAVED: usize = 64;
/// With fewer gaps the longest allowed time applies.
const ENOUGH: usize = 8;
/// What was learned is worked out anew after so many gaps, and after every long one.
const AFRESH: usize = 16;
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

/// The gaps between the steps of progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    gaps: VecDeque<Duration>,
    /// The longest gaps of earlier times.
    longest: VecDeque<Duration>,
    /// The longest gap since the last block was closed, and how many there were.
    block: (Duration, usize),
    /// Steps that are too short to count alone.
    pending: Duration,
    /// All gaps together.
    seen: Duration,
    /// What follows from them, in seconds, as of some gaps ago.
    learned: f64,
}

impl Pace {
    pub fn saved(&self) -> SavedPace {
        let newest = self.gaps.len().saturating_sub(SAVED);
        let (gaps, older) = (self.gaps.iter().skip(newest), self.gaps.iter().take(newest).max());
        let longest = self.longest.iter().chain(older).chain(Some(&self.block.0).filter(|gap| !gap.is_zero()));
        SavedPace { seen: self.seen, gaps: gaps.copied().collect(), longest: longest.copied().collect() }
    }

    pub fn restore(saved: &SavedPace) -> Pace {
        let mut pace = Pace { seen: saved.seen, ..Pace::default() };
        saved.gaps.iter().for_each(|gap| keep(&mut pace.gaps, *gap, WINDOW));
        saved.longest.iter().for_each(|gap| keep(&mut pace.longest, *gap, BLOCKS));
        if pace.gaps.len() >= ENOUGH {
            pace.learned = pace.learn();
        }
        pace
    }

    pub fn note(&mut self, gap: Duration) {
        self.pending += gap;
        if self.pending < SHORTEST {
            return;
        }
        let gap = std::mem::take(&mut self.pending);
        self.seen += gap;
        keep(&mut self.gaps, gap, WINDOW);
        self.block = (self.block.0.max(gap), self.block.1 + 1);
        if self.block.1 >= WINDOW {
            keep(&mut self.longest, self.block.0, BLOCKS);
            self.block = (Duration::ZERO, 0);
        }
        if self.gaps.len() >= ENOUGH && (self.block.1.is_multiple_of(AFRESH) || gap.as_secs_f64() > 0.2 * self.learned)
        {
            self.learned = self.learn();
        }
    }

    /// The longest gap that is still believed, between the bounds; `max` while too little is known. A worker is known
    /// once it has been watched for as long as `max`: what comes once an hour is not seen in a minute.
    pub fn limit(&self, min: Duration, max: Duration) -> Duration {
        let max = max.max(min);
        if self.gaps.len() < ENOUGH || self.seen < max {
            return max;
        }
        Duration::try_from_secs_f64(self.learned).unwrap_or(max).clamp(min, max)
    }

    fn learn(&self) -> f64 {
        let logs: Vec<f64> = self.gaps.iter().map(|gap| gap.as_secs_f64().ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let unlikely = (mean + DEVIATIONS * variance.sqrt().max(SPREAD_MIN)).exp();
        let longest = self.gaps.iter().chain(&self.longest).chain([&self.block.0]).max();
        let longest = longest.copied().unwrap_or_default().as_secs_f64();
        // A few long gaps among many short ones widen the distribution beyond all reason.
        let usual = 3.0 * self.usual();
        unlikely.clamp(2.0 * longest, 3.0 * longest).min(usual.max(1.25 * longest))
    }

    /// The gap below which the worker spends 99 % of its time, in seconds.
    fn usual(&self) -> f64 {
        let kept = self.gaps.iter().chain(&self.longest).chain([&self.block.0]);
        let mut gaps: Vec<f64> = kept.map(Duration::as_secs_f64).collect();
        gaps.sort_by(|one, other| other.total_cmp(one));
        let rest = 0.01 * self.seen.as_secs_f64();
        let mut passed = 0.0;
        let usual = gaps.into_iter().find(|gap| {
            passed += gap;
            passed > rest
        });
        usual.unwrap_or_default()
    }
}

fn keep(list: &mut VecDeque<Duration>, gap: Duration, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(gap);
}
