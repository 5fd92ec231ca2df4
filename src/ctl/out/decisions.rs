// SPDX-License-Identifier: MIT OR Apache-2.0
//! What two policies decide, side by side.

use super::Look;
use super::colour::Colour;
use super::table::{Cell, Table};
use super::time::{clock, rfc3339, span};
use super::workers::count;
use crate::engine::time::Wall;
use crate::replay::{Decision, Report, Row, Verdict};
use crate::scenario::line::short;
use serde_json::{Map, Value};

const ASSUMED: &str = "* follows from what the recording has no answer for: it is assumed that a start succeeds and the \
                       worker then runs on, that a stop, a pause or a command succeeds, and that nothing is found out";

/// Which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    All,
    Differences,
}

/// A table, and below it how much differs.
pub fn text(report: &Report, shown: Shown, look: &Look) -> String {
    let mut table = Table::new(&["TIME", "WORKER", "RECORDED", "", "OTHER POLICY"]);
    let rows: Vec<&Row> = report.rows.iter().filter(|row| is_shown(row, shown)).collect();
    for row in &rows {
        let mark = mark(row);
        let colour = if mark == "=" { Colour::Plain } else { Colour::Changing };
        let worker = row.worker().map(short).unwrap_or_default();
        table.row(vec![
            Cell::new(&time(report, row, look)),
            Cell::new(&worker),
            Cell::new(&row.recorded.as_ref().map(told).unwrap_or_default()).colour(colour),
            Cell::new(mark).colour(colour),
            Cell::new(&other(row)).colour(colour),
        ]);
    }
    let mut text = table.render(look);
    if look.legend {
        let differ = report.rows.iter().filter(|row| row.verdict != Verdict::Same).count();
        let gap = if rows.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}{}, {differ} differ.\n", count(report.rows.len(), "decision", "decisions")));
        if rows.iter().any(|row| is_assumed(row)) {
            text.push_str(ASSUMED);
            text.push_str(".\n");
        }
    }
    text
}

fn is_shown(row: &Row, shown: Shown) -> bool {
    shown == Shown::All || row.verdict != Verdict::Same
}

fn is_assumed(row: &Row) -> bool {
    row.other.as_ref().is_some_and(|decision| decision.assumed)
}

/// As sdiff(1) marks lines.
fn mark(row: &Row) -> &'static str {
    match (&row.recorded, &row.other, row.verdict) {
        (Some(_), None, _) => "<",
        (None, Some(_), _) => ">",
        (_, _, Verdict::Same) => "=",
        _ => "|",
    }
}

fn time(report: &Report, row: &Row, look: &Look) -> String {
    if report.begins == Wall::NEVER { span(row.at()).to_string() } else { clock(report.begins + row.at(), look) }
}

fn told(decision: &Decision) -> String {
    decision.text.clone()
}

/// With how much later it comes, where that matters.
fn other(row: &Row) -> String {
    let Some(decision) = &row.other else { return String::new() };
    let mark = if decision.assumed { " *" } else { "" };
    let moved = row.recorded.as_ref().filter(|_| row.verdict == Verdict::OtherTime).map(|recorded| {
        let apart = span(decision.at.abs_diff(recorded.at));
        let direction = if decision.at > recorded.at { "later" } else { "earlier" };
        format!("{apart} {direction}: ")
    });
    format!("{}{}{mark}", moved.unwrap_or_default(), decision.text)
}

/// One object for each row.
pub fn json(report: &Report, shown: Shown) -> Value {
    let rows = report.rows.iter().filter(|row| is_shown(row, shown));
    rows.map(|row| {
        let mut object = Map::new();
        let verdict = match row.verdict {
            Verdict::Same => "same",
            Verdict::OtherTime => "other-time",
            Verdict::Differs => "differs",
        };
        object.insert("Verdict".into(), verdict.into());
        object.insert("Worker".into(), row.worker().map(ToString::to_string).unwrap_or_default().into());
        for (key, decision) in [("Recorded", &row.recorded), ("Other", &row.other)] {
            let Some(decision) = decision else { continue };
            object.insert(key.into(), decision.text.clone().into());
            let at = u64::try_from(decision.at.as_micros()).unwrap_or(u64::MAX);
            object.insert(format!("{key}AfterUSec"), at.into());
            let wall = u64::try_from(report.begins.0).unwrap_or(0);
            if let Some(text) = rfc3339(wall.saturating_add(at)).filter(|_| wall > 0) {
                object.insert(format!("{key}Timestamp"), wall.saturating_add(at).into());
                object.insert(format!("{key}TimestampRFC3339"), text.into());
            }
        }
        object.insert("Assumed".into(), is_assumed(row).into());
        Value::Object(object)
    })
    .collect()
}
