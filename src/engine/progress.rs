// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a worker says about how far it is: readings, the rate, and the time left.

use super::source::Reading;
use super::time::{Mono, Now};
use super::view::ProgressView;
use std::collections::VecDeque;
use std::time::Duration;

/// Readings that the rate is taken from.
const READINGS: usize = 32;

/// A value, and where it ends if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub value: u64,
    pub total: Option<u64>,
}

impl From<Position> for Reading {
    fn from(Position { value, total }: Position) -> Reading {
        let total = total.map(|total| ("total".into(), total as f64));
        let values = [("value".into(), value as f64)].into_iter().chain(total).collect();
        Reading { values, ..Reading::default() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Progress {
    value: u64,
    total: u64,
    at: Now,
    readings: VecDeque<(Mono, u64)>,
}

impl Progress {
    /// Takes a reading in; `total` where it says none.
    pub fn observe(former: Option<Progress>, found: Position, total: Option<u64>, now: Now) -> Progress {
        let mut progress =
            former.unwrap_or(Progress { value: 0, total: 0, at: Now::default(), readings: VecDeque::new() });
        let moved = progress.readings.is_empty() || found.value != progress.value;
        if let Some(total) = found.total.or(total) {
            progress.total = total;
        }
        if found.value < progress.value {
            progress.readings.clear();
        }
        if moved {
            progress.value = found.value;
            progress.at = now;
            progress.readings.push_back((now.mono, found.value));
            if progress.readings.len() > READINGS {
                progress.readings.pop_front();
            }
        }
        progress
    }

    /// What was known before watcherd was restarted.
    pub fn restore(value: u64, total: u64, at: Now) -> Progress {
        Progress { value, total, at, readings: VecDeque::new() }
    }

    pub fn view(&self) -> ProgressView {
        let rate = self.rate();
        let left = self.total.saturating_sub(self.value);
        let time_left = if rate > 0.0 && left > 0 {
            Duration::try_from_secs_f64(left as f64 / rate).unwrap_or(Duration::ZERO)
        } else {
            Duration::ZERO
        };
        ProgressView {
            value: self.value,
            total: self.total,
            at: self.at.wall,
            at_mono: self.at.mono,
            rate,
            time_left,
            time_left_spread: time_left.mul_f64(self.spread()),
        }
    }

    /// How uncertain the rate is, as a share of it: two standard errors of the time that one unit of progress takes.
    fn spread(&self) -> f64 {
        let steps = self.readings.iter().zip(self.readings.iter().skip(1));
        let times: Vec<f64> = steps
            .filter(|((_, low), (_, high))| high > low)
            .map(|((start, low), (end, high))| end.since(*start).as_secs_f64() / high.saturating_sub(*low) as f64)
            .collect();
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        if times.len() < 3 || mean <= 0.0 {
            return 0.0;
        }
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (2.0 * (variance / count).sqrt() / mean).min(10.0)
    }

    fn rate(&self) -> f64 {
        let (Some((start, low)), Some((end, high))) = (self.readings.front(), self.readings.back()) else {
            return 0.0;
        };
        let span = end.since(*start).as_secs_f64();
        if span > 0.0 { high.saturating_sub(*low) as f64 / span } else { 0.0 }
    }
}

/// Finds `120/500`, or else the first whole number, in a `STATUS=` text.
pub(super) fn parse_status(text: &str) -> Option<Position> {
    let mut numbers = text.char_indices().filter(|(at, c)| {
        c.is_ascii_digit() && !text[..*at].ends_with(|before: char| before.is_ascii_digit() || before == '.')
    });
    let pair = numbers.clone().find_map(|(at, _)| {
        let (value, rest) = leading_number(&text[at..])?;
        let (total, _) = leading_number(rest.trim_start().strip_prefix('/')?.trim_start())?;
        Some(Position { value, total: Some(total) })
    });
    pair.or_else(|| {
        let (at, _) = numbers.next()?;
        leading_number(&text[at..]).map(|(value, _)| Position { value, total: None })
    })
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::super::time::Wall;
    use super::*;

    #[test]
    fn status_texts_are_read() {
        let cases = [
            ("step 120/500", Some((120, Some(500)))),
            ("epoch 3, step 12 / 40 (loss 0.25)", Some((12, Some(40)))),
            ("Processed 77 files", Some((77, None))),
            ("loss 0.25", Some((0, None))),
            ("ready", None),
            ("", None),
            ("99999999999999999999/5", None),
        ];
        for (text, expected) in cases {
            let found = parse_status(text).map(|found| (found.value, found.total));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_rate_is_taken_from_the_last_readings() {
        let at = |secs: i64| Now { mono: Mono(secs * 1_000_000), wall: Wall(secs * 1_000_000) };
        let mut progress = None;
        for step in 0..50 {
            let found = Position { value: step * 10, total: Some(1000) };
            progress = Some(Progress::observe(progress, found, None, at(step as i64)));
        }
        let view = progress.expect("fifty readings").view();
        assert!((view.rate - 10.0).abs() < 0.001, "{view:?}");
        assert_eq!(view.time_left, Duration::from_secs(51));
        assert_eq!(view.time_left_spread, Duration::ZERO);
    }

    #[test]
    fn an_uneven_pace_makes_the_time_left_uncertain() {
        let mut progress = None;
        for step in 0..30_i64 {
            let at = Now { mono: Mono(step * 10_000_000 + step % 2 * 5_000_000), wall: Wall(0) };
            let found = Position { value: step.unsigned_abs(), total: Some(129) };
            progress = Some(Progress::observe(progress, found, None, at));
        }
        let view = progress.expect("thirty readings").view();
        let share = view.time_left_spread.as_secs_f64() / view.time_left.as_secs_f64();
        assert!((0.1..0.4).contains(&share), "{view:?}");
    }
}
