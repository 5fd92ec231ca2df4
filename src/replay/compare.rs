// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts the decisions of two policies side by side, worker by worker.

use super::decision::Decision;
use crate::engine::ids::WorkerName;
use std::collections::BTreeMap;
use std::time::Duration;

/// Decisions that come within so long of each other come at the same time.
const TOLERANCE: Duration = Duration::from_secs(1);
/// The pause before a restart varies by so much of it, in percent.
const JITTER: u32 = 25;
/// The largest comparison, in pairs; what is longer is compared in order.
const PAIRS_MAX: usize = 4_000_000;

/// What was decided on one side, the other, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub recorded: Option<Decision>,
    pub other: Option<Decision>,
    pub verdict: Verdict,
}

/// How the sides of a row compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// The same, but not when.
    OtherTime,
    /// Something else, or only one of them decides anything.
    Differs,
}

impl Row {
    /// When it is first decided.
    pub fn at(&self) -> Duration {
        let times = [&self.recorded, &self.other].into_iter().flatten().map(|decision| decision.at);
        times.min().unwrap_or_default()
    }

    pub fn worker(&self) -> Option<&WorkerName> {
        self.recorded.as_ref().or(self.other.as_ref()).and_then(|decision| decision.worker.as_ref())
    }
}

/// All rows, in the order of time.
pub fn compare(recorded: Vec<Decision>, other: Vec<Decision>) -> Vec<Row> {
    let mut sides: BTreeMap<Option<WorkerName>, [Vec<Decision>; 2]> = BTreeMap::new();
    for (side, decisions) in [recorded, other].into_iter().enumerate() {
        for decision in decisions {
            sides.entry(decision.worker.clone()).or_default()[side].push(decision);
        }
    }
    let mut rows: Vec<Row> = sides.into_values().flat_map(|[recorded, other]| of_worker(&recorded, &other)).collect();
    rows.sort_by_key(Row::at);
    rows
}

/// What one side decides alone stands beside what the other side decides alone, if that is of the same kind.
fn of_worker(recorded: &[Decision], other: &[Decision]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut left, mut right) = (0, 0);
    let mut lag = Duration::ZERO;
    for (a, b) in common(recorded, other).into_iter().chain([(recorded.len(), other.len())]) {
        rows.extend(apart(&recorded[left..a], &other[right..b]));
        (left, right) = (a + 1, b + 1);
        if let (Some(mine), Some(theirs)) = (recorded.get(a), other.get(b)) {
            let apart = mine.at.abs_diff(theirs.at);
            let jitter = since_last(&rows, mine) * JITTER / 100;
            let verdict = if apart.abs_diff(lag) <= TOLERANCE.max(jitter) { Verdict::Same } else { Verdict::OtherTime };
            lag = apart;
            rows.push(Row { recorded: Some(mine.clone()), other: Some(theirs.clone()), verdict });
        }
    }
    rows
}

/// How long after the decision before it this one came.
fn since_last(rows: &[Row], decision: &Decision) -> Duration {
    let before = rows.iter().rev().find_map(|row| row.recorded.as_ref());
    before.map_or(Duration::ZERO, |before| decision.at.saturating_sub(before.at))
}

fn apart(recorded: &[Decision], other: &[Decision]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut rest = other.iter().peekable();
    for mine in recorded {
        let theirs = rest.next_if(|theirs| theirs.kind == mine.kind);
        rows.push(Row { recorded: Some(mine.clone()), other: theirs.cloned(), verdict: Verdict::Differs });
    }
    rows.extend(rest.map(|theirs| Row { recorded: None, other: Some(theirs.clone()), verdict: Verdict::Differs }));
    rows
}

/// The places of the longest sequence that both have.
fn common(a: &[Decision], b: &[Decision]) -> Vec<(usize, usize)> {
    let start = a.iter().zip(b).take_while(|(a, b)| a.is_same(b)).count();
    let mut pairs: Vec<_> = (0..start).map(|at| (at, at)).collect();
    let (a, b) = (&a[start..], &b[start..]);
    if a.len().saturating_mul(b.len()) > PAIRS_MAX {
        return pairs;
    }
    let width = b.len() + 1;
    let mut longest = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i].is_same(&b[j]) {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i].is_same(&b[j]) {
            pairs.push((start + i, start + j));
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(lines: &[(u64, &str)]) -> Vec<Decision> {
        let read =
            |(at, words): &(u64, &str)| Decision::read(Duration::from_secs(*at), words, |_| None).expect("a decision");
        lines.iter().map(read).collect()
    }

    fn verdicts(a: &[(u64, &str)], b: &[(u64, &str)]) -> Vec<(Verdict, bool, bool)> {
        let rows = compare(decisions(a), decisions(b));
        rows.iter().map(|row| (row.verdict, row.recorded.is_some(), row.other.is_some())).collect()
    }

    #[test]
    fn what_is_common_stands_side_by_side() {
        use Verdict::{Differs, OtherTime, Same};
        let a = [(1, "start #1 w"), (5, "start #2 w"), (9, "stop #3 w")];
        assert_eq!(verdicts(&a, &a), [(Same, true, true); 3]);
        assert_eq!(
            verdicts(&a, &[(1, "start #1 w"), (9, "stop #2 w")]),
            [(Same, true, true), (Differs, true, false), (Same, true, true)]
        );
        assert_eq!(verdicts(&a[..1], &[(40, "start #1 w")]), [(OtherTime, true, true)]);
        assert_eq!(verdicts(&[(1, "equip w B=1")], &[(1, "equip w B=2")]), [(Differs, true, true)]);
        assert_eq!(
            verdicts(&[(1, "stop #1 w")], &[(1, "stop #1 v")]),
            [(Differs, false, true), (Differs, true, false)]
        );
    }

    #[test]
    fn a_later_sequel_of_a_later_decision_is_no_further_difference() {
        use Verdict::{OtherTime, Same};
        let (a, b) = ([(1, "start #1 w"), (9, "stop #3 w")], [(60, "start #1 w"), (68, "stop #3 w")]);
        assert_eq!(verdicts(&a, &b), [(OtherTime, true, true), (Same, true, true)]);
    }
}
