// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often what failed, how long it took and what helped: incidents counted by cause, by worker, by week, and by the
//! remedy against each cause.

use super::Look;
use super::table::{Cell, Table};
use super::time::{clock, span};
use crate::ctl::model::{Incident, wall};
use crate::engine::time::Wall;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// One line: all incidents with one cause, of one worker, opened in one week, or with one remedy against one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `cause`, `worker`, `week` or `remedy`.
    pub by: &'static str,
    pub name: String,
    pub incidents: usize,
    /// How many of them followed an incident of the same worker with the same cause.
    pub repeated: usize,
    /// How many ended with a run that counted as healthy.
    pub recovered: usize,
    /// From the failure to the next start, of those that were started again; the median and the 90th percentile.
    pub down_median: Option<Duration>,
    pub down_p90: Option<Duration>,
    pub last: u64,
}

/// Counts; the incidents come in any order.
pub fn rows(incidents: &[Incident], look: &Look) -> Vec<Row> {
    let mut sorted: Vec<&Incident> = incidents.iter().collect();
    sorted.sort_by_key(|incident| (incident.opened, incident.id));
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut groups: BTreeMap<(u8, String), Group> = BTreeMap::new();
    for incident in sorted {
        let repeated = before.insert(&incident.worker, &incident.cause) == Some(incident.cause.as_str());
        let names = [incident.cause.clone(), incident.worker.clone(), week(incident.opened, look)];
        let remedy = remedy(incident).map(|remedy| format!("{} {remedy}", incident.cause));
        for (kind, name) in (0..).zip(names.into_iter().chain(remedy)) {
            groups.entry((kind, name)).or_default().add(incident, repeated);
        }
    }
    let mut rows: Vec<(u8, Row)> =
        groups.into_iter().map(|((kind, name), group)| (kind, group.row(kind, name))).collect();
    // The most frequent first, but weeks in their order.
    rows.sort_by_key(|(kind, row)| (*kind, if *kind == 2 { 0 } else { usize::MAX - row.incidents }, row.name.clone()));
    rows.into_iter().map(|(_, row)| row).collect()
}

#[derive(Default)]
struct Group {
    row: Row,
    downs: Vec<Duration>,
}

impl Group {
    fn add(&mut self, incident: &Incident, repeated: bool) {
        self.row.incidents += 1;
        self.row.repeated += usize::from(repeated);
        self.row.recovered += usize::from(incident.recovered > 0);
        self.row.last = self.row.last.max(incident.opened);
        if incident.started >= incident.opened && incident.started > 0 {
            self.downs.push(Duration::from_micros(incident.started - incident.opened));
        }
    }

    fn row(mut self, kind: u8, name: String) -> Row {
        self.downs.sort();
        let quantile = |part: f64| {
            let last = self.downs.len().checked_sub(1)?;
            self.downs.get((last as f64 * part).round() as usize).copied()
        };
        let by = ["cause", "worker", "week", "remedy"][usize::from(kind.min(3))];
        Row { by, name, down_median: quantile(0.5), down_p90: quantile(0.9), ..self.row }
    }
}

/// What was done about an incident, in one word: what went furthest beyond a plain restart.
fn remedy(incident: &Incident) -> Option<&str> {
    let done = |wanted: &str| incident.remedies.iter().any(|(action, ..)| action == wanted);
    let first = ["change", "hold", "quarantine", "stop", "restart", "ignore"].into_iter().find(|action| done(action));
    first.filter(|_| incident.remedies.iter().all(|(.., outcome)| outcome != "would"))
}

/// The week by ISO 8601, as `2026-W47`, in the zone in which times are shown.
fn week(usec: u64, look: &Look) -> String {
    let at = i64::try_from(usec).ok().and_then(|usec| jiff::Timestamp::from_microsecond(usec).ok()).unwrap_or_default();
    let week = at.to_zoned(look.zone.clone()).date().iso_week_date();
    format!("{:04}-W{:02}", week.year(), week.week())
}

/// A table for each way to count.
pub fn text(rows: &[Row], look: &Look) -> String {
    const HEADINGS: [(&str, [&str; 7]); 4] = [
        ("cause", ["CAUSE", "INCIDENTS", "REPEATED", "RECOVERED", "DOWN", "DOWN P90", "LAST"]),
        ("worker", ["WORKER", "INCIDENTS", "REPEATED", "RECOVERED", "DOWN", "DOWN P90", "LAST"]),
        ("week", ["WEEK", "INCIDENTS", "REPEATED", "RECOVERED", "DOWN", "DOWN P90", "LAST"]),
        ("remedy", ["REMEDY", "INCIDENTS", "REPEATED", "RECOVERED", "DOWN", "DOWN P90", "LAST"]),
    ];
    let mut text = String::new();
    for (by, headings) in &HEADINGS {
        if rows.iter().all(|row| row.by != *by) && *by == "remedy" {
            continue;
        }
        let mut table = Table::new(headings);
        for row in rows.iter().filter(|row| row.by == *by) {
            let time = |down: Option<Duration>| {
                Cell::new(&down.map(|down| span(down).to_string()).unwrap_or_default()).right()
            };
            let share = |part: usize| Cell::new(&format!("{} %", part * 100 / row.incidents.max(1))).right();
            table.row(vec![
                Cell::new(&row.name),
                Cell::new(&row.incidents.to_string()).right(),
                share(row.repeated),
                share(row.recovered),
                time(row.down_median),
                time(row.down_p90),
                Cell::new(&clock(last(row), look)),
            ]);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&table.render(look));
    }
    if look.legend {
        let total: usize = rows.iter().filter(|row| row.by == "cause").map(|row| row.incidents).sum();
        let gap = if total == 0 { "" } else { "\n" };
        let count = super::workers::count(total, "incident", "incidents");
        writeln!(text, "{gap}{count}.").expect("a String takes everything");
    }
    text
}

fn last(row: &Row) -> Wall {
    wall(row.last)
}

/// The same for programs; times in µs.
pub fn object(row: &Row) -> Map<String, Value> {
    let micros = |down: Option<Duration>| down.map_or(Value::Null, |down| (down.as_micros() as u64).into());
    let pairs = [
        ("By", row.by.into()),
        ("Name", row.name.clone().into()),
        ("Incidents", row.incidents.into()),
        ("Repeated", row.repeated.into()),
        ("Recovered", row.recovered.into()),
        ("DownMedianUSec", micros(row.down_median)),
        ("DownP90USec", micros(row.down_p90)),
        ("Last", row.last.into()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::out::tests::look;

    fn incident(id: u32, worker: &str, cause: &str, opened: u64, down: Option<u64>) -> Incident {
        const START: u64 = 1_795_000_000_000_000;
        let opened = START + opened * 1_000_000;
        let started = down.map_or(0, |down| opened + down * 1_000_000);
        let recovered = if down.is_some() { started + 120_000_000 } else { 0 };
        Incident { id, worker: worker.into(), cause: cause.into(), opened, started, recovered, ..Incident::default() }
    }

    #[test]
    fn repeats_and_times_are_counted() {
        let week = 7 * 86_400;
        let incidents = [
            incident(4, "b.service", "gpu-oom", week + 30, None),
            incident(1, "a.service", "gpu-oom", 10, Some(1)),
            incident(2, "a.service", "gpu-oom", 20, Some(3)),
            incident(3, "a.service", "disk-full", 30, Some(100)),
        ];
        let rows = rows(&incidents, &look());
        let found: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.incidents, row.repeated)).collect();
        let expected = [
            ("gpu-oom", 3, 1),
            ("disk-full", 1, 0),
            ("a.service", 3, 1),
            ("b.service", 1, 0),
            ("2026-W47", 3, 1),
            ("2026-W48", 1, 0),
        ];
        assert_eq!(found, expected);
        assert_eq!(rows[0].down_median, Some(Duration::from_secs(3)));
        assert_eq!((rows[0].recovered, rows[3].down_median), (2, None));
        let text = text(&rows, &look());
        assert!(text.contains("gpu-oom           3     33 %      66 %       3s       3s"), "{text}");
        assert!(text.ends_with("\n4 incidents.\n"), "{text}");
        assert_eq!(object(&rows[3])["DownMedianUSec"], Value::Null);
    }

    #[test]
    fn what_helped_is_counted_for_each_cause() {
        let with = |id, recovered: Option<u64>, actions: &[&str]| Incident {
            remedies: actions.iter().map(|action| ((*action).into(), 0, String::new(), "done".into())).collect(),
            ..incident(id, "a.service", "gpu-oom", u64::from(id), recovered)
        };
        let dry = Incident {
            remedies: vec![("restart".into(), 0, String::new(), "would".into())],
            ..incident(9, "a.service", "gpu-oom", 9, None)
        };
        let incidents = [
            with(1, None, &["restart"]),
            with(2, Some(1), &["change", "restart"]),
            with(3, Some(1), &["change", "restart"]),
            dry,
        ];
        let rows = rows(&incidents, &look());
        let found: Vec<_> = rows.iter().filter(|row| row.by == "remedy").collect();
        let found: Vec<_> = found.iter().map(|row| (row.name.as_str(), row.incidents, row.recovered)).collect();
        assert_eq!(found, [("gpu-oom change", 2, 2), ("gpu-oom restart", 1, 0)]);
    }

    #[test]
    fn nothing_is_counted_without_a_complaint() {
        assert_eq!(text(&rows(&[], &look()), &look()), "0 incidents.\n");
    }
}
