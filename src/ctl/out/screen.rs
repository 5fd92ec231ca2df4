// SPDX-License-Identifier: MIT OR Apache-2.0
//! The full-screen view, as lines: exactly as many as the terminal has rows, none wider than it.

use super::Look;
use super::colour::Colour;
use super::escape::escaped;
use super::status::{per_time, time_left};
use super::table::{Cell, Table, cut};
use super::time::{clock, relative};
use super::workers::{count, next, percent};
use crate::ctl::model::{Worker, wall};
use crate::ctl::screen::{Dialog, Screen};

const BAR_WIDTH: u64 = 10;
/// The heading, the line below it, the names of the columns and the last line.
const FRAME: usize = 4;
const KEYS: &str = "r restart  p pause  h hold  w why  Enter detail  / filter  o order  ? help  q quit";

/// How many workers, or lines of a text, fit.
pub fn page(rows: usize) -> usize {
    rows.saturating_sub(FRAME).max(1)
}

pub fn lines(screen: &Screen, look: &Look, rows: usize) -> Vec<String> {
    let width = look.width.unwrap_or(usize::MAX);
    let mut lines = vec![cut(&headline(screen, look), width), String::new()];
    match &screen.dialog {
        Dialog::Text { lines: text, from } => {
            let shown = text.iter().skip(*from).take(page(rows) + 1);
            lines.extend(shown.map(|line| cut(line, width)));
        }
        _ => lines.extend(list(screen, look, page(rows))),
    }
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), String::new());
    let (colour, last) = last_line(screen);
    lines.push(colour.paint(&cut(&last, width), look.colour));
    lines
}

fn headline(screen: &Screen, look: &Look) -> String {
    let everything = screen.everything();
    let mut parts = vec![count(screen.rows.len(), "worker", "workers")];
    let of = |colour| screen.rows.iter().filter(|worker| Colour::of_phase(&worker.phase) == colour).count();
    for (colour, words) in [(Colour::Bad, "in trouble"), (Colour::Changing, "in between"), (Colour::Good, "well")] {
        let number = of(colour);
        if number > 0 {
            parts.push(format!("{number} {words}"));
        }
    }
    if everything.incidents_open > 0 {
        parts.push(count(everything.incidents_open as usize, "open incident", "open incidents"));
    }
    if everything.dry_run {
        parts.push("dry run".into());
    }
    if !screen.filter.is_empty() {
        parts.push(format!("only *{}*", escaped(&screen.filter)));
    }
    let gone = if screen.alone { "  (watcherd is gone; this is what it said last)" } else { "" };
    format!("{}  {}; order: {}{gone}", clock(look.now, look), parts.join(", "), screen.order.as_str())
}

fn list(screen: &Screen, look: &Look, page: usize) -> Vec<String> {
    let mut table =
        Table::new(&["UNIT", "PHASE", "PROGRESS", "RATE", "LEFT", "LAST", "ATTEMPTS", "CAUSE", "NEXT", "REASON"]);
    for worker in &screen.rows {
        table.row(row(worker, look));
    }
    // The chosen worker is shown in reverse video, or with a mark in front where there are no colours.
    let mark = if look.colour { "" } else { "> " };
    let width = look.width.map(|width| width.saturating_sub(mark.len()));
    let coloured = table.render(&Look { legend: true, width, ..look.clone() });
    let plain = table.render(&Look { legend: true, colour: false, width, ..look.clone() });
    let blank = " ".repeat(mark.len());
    let selected = screen.selected();
    let from = (selected + 1).saturating_sub(page);
    let mut lines: Vec<String> = coloured.lines().take(1).map(|line| format!("{blank}{line}")).collect();
    let both = coloured.lines().zip(plain.lines()).skip(1).enumerate().skip(from).take(page);
    lines.extend(both.map(|(at, (coloured, plain))| match at == selected {
        true if look.colour => format!("\x1b[0;7m{plain}\x1b[0m"),
        true => format!("{mark}{plain}"),
        false => format!("{blank}{coloured}"),
    }));
    if lines.is_empty() {
        lines.push("No workers.".into());
    }
    lines
}

fn row(worker: &Worker, look: &Look) -> Vec<Cell> {
    let last = if worker.progress_timestamp == 0 {
        String::new()
    } else {
        relative(wall(worker.progress_timestamp), look).trim_end_matches(" ago").to_owned()
    };
    let rate = worker.rate.filter(|rate| *rate > 0.0).map(per_time).unwrap_or_default();
    let left = if worker.eta_usec > 0 { time_left(worker) } else { String::new() };
    vec![
        Cell::new(&worker.unit),
        Cell::new(&worker.phase).colour(Colour::of_phase(&worker.phase)),
        Cell::new(&bar(worker)),
        Cell::new(&rate).right(),
        Cell::new(&left).right(),
        Cell::new(&last).right(),
        Cell::new(&worker.attempts.to_string()).right(),
        Cell::new(&worker.cause),
        Cell::new(&next(worker, look)),
        Cell::new(&worker.phase_reason),
    ]
}

/// `[##--------] 24% 120/500`, or the bare value where no end is known.
fn bar(worker: &Worker) -> String {
    let (value, total) = (worker.progress_value, worker.progress_total);
    if total == 0 {
        return if worker.progress_timestamp == 0 { String::new() } else { value.to_string() };
    }
    let percent = percent(value, total);
    let filled = percent * BAR_WIDTH / 100;
    let part = |from, to, c: &str| (from..to).map(|_| c).collect::<String>();
    format!("[{}{}] {percent:>3}% {value}/{total}", part(0, filled, "#"), part(filled, BAR_WIDTH, "-"))
}

fn last_line(screen: &Screen) -> (Colour, String) {
    match &screen.dialog {
        Dialog::Confirm(deed, unit) => (Colour::Bold, format!("{} {}? [y/N]", deed.as_str(), escaped(unit))),
        Dialog::Filter => (Colour::Bold, format!("Only workers that contain: {}_", escaped(&screen.filter))),
        Dialog::Text { .. } => (Colour::Quiet, "Up, Down, PgUp, PgDn scroll; any other key goes back".into()),
        Dialog::None if !screen.message.is_empty() => (Colour::Bold, escaped(&screen.message).into_owned()),
        Dialog::None => (Colour::Quiet, KEYS.into()),
    }
}
