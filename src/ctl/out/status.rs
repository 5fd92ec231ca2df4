// SPDX-License-Identifier: MIT OR Apache-2.0
//! One worker in detail, as `systemctl status` shows a unit.

use super::Look;
use super::colour::Colour;
use super::escape::{escaped, escaped_lines};
use super::time::{relative, short_clock, span, stamp};
use super::workers::{next, percent, progress};
use crate::ctl::model::{Hold, Incident, Worker, wall};
use crate::engine::cause::Cause;
use crate::engine::time::Wall;
use crate::engine::view::Phase;
use std::fmt::Write;
use std::time::Duration;

/// What is known about one worker.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    pub worker: Worker,
    pub incident: Option<Incident>,
    pub holds: Vec<&'a Hold>,
    /// The last journal lines, as journalctl printed them.
    pub journal: String,
}

const LABEL_WIDTH: usize = 11;
const BAR_WIDTH: u64 = 20;

pub fn block(facts: &Facts<'_>, look: &Look) -> String {
    let worker = &facts.worker;
    let mut text = headline(worker, look);
    let mut line = |label: &str, value: String| {
        writeln!(text, "{label:>LABEL_WIDTH$}: {value}").expect("a String takes everything");
    };
    if worker.since() != Wall::NEVER {
        line("Since", format!("{}; {}", stamp(worker.since(), look), relative(worker.since(), look)));
    }
    if let Some(cause) = cause(&worker.cause) {
        line("Cause", cause);
    }
    if let Some(incident) = &facts.incident {
        line("Incident", incident_line(incident, look));
    }
    for (cause, count, first, _) in &worker.warnings {
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        line("Warning", format!("signs of {}, {times} since {}", escaped(cause), stamp(wall(*first), look)));
    }
    for hold in &facts.holds {
        line("Held", hold_line(hold, look));
    }
    if worker.main_pid > 0 {
        line("Main PID", worker.main_pid.to_string());
    }
    if !worker.invocation.is_empty() {
        line("Invocation", escaped(&worker.invocation).into_owned());
    }
    if let Some(progress) = progress_line(worker, look) {
        line("Progress", progress);
    }
    let values = values(worker);
    if !values.is_empty() {
        line("Values", values);
    }
    for (key, at) in &worker.source_timestamps {
        line("Source", format!("{}, last news {}", escaped(key), relative(wall(*at), look)));
    }
    for (key, _, why) in worker.sources.iter().filter(|(_, readable, _)| !readable) {
        line("Source", format!("{} cannot be read: {}", escaped(key), escaped(why)));
    }
    if worker.stall_deadline_timestamp > 0 && worker.phase != Phase::Stalled.as_str() {
        let at = wall(worker.stall_deadline_timestamp);
        line("Stalled", format!("{} without progress ({})", relative(at, look), stamp(at, look)));
    }
    let tuned = worker.parameters.iter().filter(|(_, value, own)| value != own);
    let tuned: Vec<_> = tuned
        .map(|(name, value, own)| format!("{} {} (the unit's own: {})", escaped(name), escaped(value), escaped(own)))
        .collect();
    if !tuned.is_empty() {
        line("Parameters", tuned.join(", "));
    }
    line("Attempts", format!("{}, {} left in the budget", worker.attempts, worker.budget_left));
    if !worker.next_action.is_empty() {
        let at = wall(worker.next_action_timestamp);
        let when = if at == Wall::NEVER { String::new() } else { format!(" ({})", stamp(at, look)) };
        line("Next", format!("{}{when}", escaped(&next(worker, look))));
    }
    if worker.runs > 0 {
        let downtime = match worker.downtime_usec {
            0 => String::new(),
            usec => format!(", {} down in all", span(Duration::from_micros(usec))),
        };
        line("Runs", format!("{}{downtime}", worker.runs));
    }
    let settings = policy(worker);
    if !settings.is_empty() {
        line("Policy", settings.join(&format!("\n{:LABEL_WIDTH$}  ", "")));
    }
    if !facts.journal.trim().is_empty() {
        writeln!(text, "\n{}", escaped_lines(facts.journal.trim_end())).expect("a String takes everything");
    }
    text
}

/// Whether a person should look at it.
pub fn is_healthy(worker: &Worker) -> bool {
    match Phase::parse(&worker.phase) {
        Some(Phase::Stalled | Phase::Failed | Phase::Quarantined) => false,
        // A hold on a worker that runs keeps nobody from anything.
        Some(Phase::Held) => worker.main_pid > 0,
        _ => true,
    }
}

fn headline(worker: &Worker, look: &Look) -> String {
    let colour = Colour::of_phase(&worker.phase);
    let dot = match Phase::parse(&worker.phase) {
        Some(Phase::Inactive | Phase::Completed) => "○",
        Some(Phase::Failed | Phase::Quarantined) => "×",
        _ => "●",
    };
    let reason = match escaped(&worker.phase_reason) {
        reason if reason.is_empty() => String::new(),
        reason => format!(" ({reason})"),
    };
    let phase = escaped(&worker.phase);
    format!(
        "{} {} - {}{reason}\n",
        colour.paint(dot, look.colour),
        escaped(&worker.unit),
        colour.paint(&phase, look.colour)
    )
}

/// The name of a cause with its meaning.
pub fn cause(name: &str) -> Option<String> {
    match Cause::parse(name) {
        Some(cause) => Some(format!("{cause} - {}", cause.meaning())),
        None if name.is_empty() => None,
        None => Some(escaped(name).into_owned()),
    }
}

fn incident_line(incident: &Incident, look: &Look) -> String {
    format!("{} {}, opened {}", incident.id, escaped(&incident.state), relative(wall(incident.opened), look))
}

/// `by alice (backup) until 18:00 [hold 3]`.
pub fn hold_line(hold: &Hold, look: &Look) -> String {
    let Hold(id, _, who, why, until) = hold;
    let why = if why.is_empty() { String::new() } else { format!(" ({})", escaped(why)) };
    let until = if *until == 0 { String::new() } else { format!(" until {}", short_clock(wall(*until), look)) };
    format!("by {}{why}{until} [hold {id}]", escaped(who))
}

fn progress_line(worker: &Worker, look: &Look) -> Option<String> {
    let mut text = progress(worker);
    if text.is_empty() {
        return None;
    }
    if worker.progress_total > 0 {
        let filled = percent(worker.progress_value, worker.progress_total) * BAR_WIDTH / 100;
        let bar = |from, to, c: &str| (from..to).map(|_| c).collect::<String>();
        write!(text, " [{}{}]", bar(0, filled, "#"), bar(filled, BAR_WIDTH, "-")).expect("a String takes everything");
    }
    if let Some(rate) = worker.rate.filter(|rate| *rate > 0.0) {
        write!(text, " {}", per_time(rate)).expect("a String takes everything");
    }
    if worker.eta_usec > 0 {
        write!(text, ", {} left", time_left(worker)).expect("a String takes everything");
    }
    if worker.progress_timestamp > 0 {
        let at = relative(wall(worker.progress_timestamp), look);
        write!(text, "; last {at}").expect("a String takes everything");
    }
    Some(text)
}

/// `4min 10s`, with its uncertainty where that is known and not the larger half of it.
pub fn time_left(worker: &Worker) -> String {
    let (left, spread) = (worker.eta_usec, worker.eta_spread_usec);
    let known = spread >= 1_000_000 && spread <= left / 2;
    let spread = if known { format!(" ± {}", span(Duration::from_micros(spread))) } else { String::new() };
    format!("{}{spread}", span(Duration::from_micros(left)))
}

/// `active 0, pending 3`: what is measured beside the progress itself.
fn values(worker: &Worker) -> String {
    let shown = worker.values.iter().filter(|(name, _)| !["value", "total", "mtime"].contains(&name.as_str()));
    let shown: Vec<String> = shown.map(|(name, value)| format!("{} {}", escaped(name), measure(*value))).collect();
    shown.join(", ")
}

/// Whole numbers as such, others with three digits behind the point.
fn measure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// `1.5/s`, or per minute or hour where that gives a number that can be read.
pub fn per_time(rate: f64) -> String {
    match rate {
        rate if rate >= 0.1 => format!("{rate:.1}/s"),
        rate if rate * 60.0 >= 0.1 => format!("{:.1}/min", rate * 60.0),
        rate => format!("{:.1}/h", rate * 3600.0),
    }
}

/// What somebody set; the defaults are in the man page and in `watcherctl show -p Policy`.
fn policy(worker: &Worker) -> Vec<String> {
    let set = worker.policy.iter().filter(|(_, _, from)| from != "default");
    let lines: Vec<String> =
        set.map(|(key, value, from)| format!("{} = {} ({})", escaped(key), escaped(value), escaped(from))).collect();
    if lines.is_empty() && !worker.policy.is_empty() { vec!["the defaults".to_owned()] } else { lines }
}
