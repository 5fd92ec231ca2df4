// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of workers.

use super::Look;
use super::colour::Colour;
use super::table::{Cell, Table};
use super::time::{relative, span};
use crate::ctl::model::{Everything, Worker, wall};
use crate::engine::time::Wall;
use std::fmt::Write;

/// The table and its footer; `shown` are the workers of `everything` that were asked for.
pub fn list(shown: &[Worker], everything: &Everything, look: &Look) -> String {
    let mut table = Table::new(&["UNIT", "PHASE", "PROGRESS", "ATTEMPTS", "CAUSE", "SINCE", "NEXT", "REASON"]);
    for worker in shown {
        table.row(vec![
            Cell::new(&worker.unit),
            Cell::new(&worker.phase).colour(Colour::of_phase(&worker.phase)),
            Cell::new(&progress(worker)),
            Cell::new(&worker.attempts.to_string()).right(),
            Cell::new(&worker.cause),
            Cell::new(&relative(worker.since(), look)),
            Cell::new(&next(worker, look)),
            Cell::new(&worker.phase_reason),
        ]);
    }
    let mut text = table.render(look);
    if look.legend {
        text.push_str(&footer(shown.len(), everything, look));
    }
    text
}

fn footer(shown: usize, everything: &Everything, look: &Look) -> String {
    let mut text = if shown == 0 { String::new() } else { "\n".to_owned() };
    let open = everything.incidents_open;
    let holds = everything.holds.len();
    let mut parts = vec![count(shown, "worker", "workers")];
    if open > 0 {
        parts.push(count(open as usize, "open incident", "open incidents"));
    }
    if holds > 0 {
        parts.push(count(holds, "hold", "holds"));
    }
    writeln!(text, "{}.", parts.join(", ")).expect("a String takes everything");
    if everything.dry_run {
        text.push_str("Dry run: watcherd only says what it would do.\n");
    }
    for complaint in &everything.degraded {
        let degraded = format!("Degraded: {}", super::escape::escaped(complaint));
        writeln!(text, "{}", Colour::Bad.paint(&degraded, look.colour)).expect("a String takes everything");
    }
    text
}

pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// `120/500 24%`, `120`, or nothing while nothing is known.
pub fn progress(worker: &Worker) -> String {
    let (value, total) = (worker.progress_value, worker.progress_total);
    match total {
        0 if worker.progress_timestamp == 0 => String::new(),
        0 => value.to_string(),
        total => format!("{value}/{total} {}%", percent(value, total)),
    }
}

/// Whole percent, rounded down: 100 only when everything is done.
pub fn percent(value: u64, total: u64) -> u64 {
    let percent = u128::from(value.min(total)) * 100 / u128::from(total.max(1));
    u64::try_from(percent).unwrap_or(100)
}

/// `restart in 12s`; nothing if nothing is planned.
pub fn next(worker: &Worker, look: &Look) -> String {
    let at = wall(worker.next_action_timestamp);
    match worker.next_action.as_str() {
        "" => String::new(),
        action if at == Wall::NEVER => action.to_owned(),
        action if at > look.now => format!("{action} in {}", span(at.since(look.now))),
        action => format!("{action} now"),
    }
}
