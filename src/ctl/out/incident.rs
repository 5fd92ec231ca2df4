// SPDX-License-Identifier: MIT OR Apache-2.0
//! Incidents: as a table, in full, and as an answer to "why?".

use super::Look;
use super::colour::Colour;
use super::escape::{escaped, escaped_lines};
use super::status::{Facts, hold_line};
use super::table::{Cell, Table};
use super::time::{clock, relative, span, stamp};
use super::workers::{count, next};
use crate::ctl::model::{Incident, Worker, wall};
use crate::engine::cause::Cause;
use crate::engine::time::Wall;
use std::fmt::Write;

pub fn list(incidents: &[Incident], look: &Look) -> String {
    let mut table = Table::new(&["ID", "WORKER", "CAUSE", "SURE", "OPENED", "STATE", "TOOK", "TEXT"]);
    for incident in incidents {
        table.row(vec![
            Cell::new(&incident.id.to_string()).right(),
            Cell::new(&incident.worker),
            Cell::new(&incident.cause),
            Cell::new(&confidence(incident)).right(),
            Cell::new(&clock(wall(incident.opened), look)),
            Cell::new(&state(incident)).colour(colour(incident)),
            Cell::new(&took(incident)),
            Cell::new(&match incident.part_of {
                0 => incident.text.clone(),
                lead => format!("(part of {lead}) {}", incident.text),
            }),
        ]);
    }
    let mut text = table.render(look);
    if look.legend {
        let gap = if incidents.is_empty() { "" } else { "\n" };
        writeln!(text, "{gap}{}.", count(incidents.len(), "incident", "incidents")).expect("a String takes everything");
    }
    text
}

/// Everything about one incident; `journal` holds the lines of its run, if they were asked for.
pub fn block(incident: &Incident, journal: &str, look: &Look) -> String {
    let mut text = String::new();
    let head = format!("Incident {} - {}: {}", incident.id, escaped(&incident.worker), state(incident));
    writeln!(text, "{} {}", colour(incident).paint("●", look.colour), head).expect("a String takes everything");
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            writeln!(text, "{label:>11}: {value}").expect("a String takes everything");
        }
    };
    line("Cause", verdict(incident));
    line("Text", escaped(&incident.text).into_owned());
    line("Run", escaped(&incident.run).into_owned());
    if incident.part_of > 0 {
        line("Part of", format!("incident {}, as many workers failed of one cause at once", incident.part_of));
    }
    let members: Vec<_> = incident.members.iter().map(|worker| escaped(worker)).collect();
    line("Stands for", members.join(", "));
    let times = [
        ("Failed", incident.opened),
        ("Detected", incident.detected),
        ("Decided", incident.decided),
        ("Started", incident.started),
        ("Recovered", incident.recovered),
        ("Closed", incident.closed),
    ];
    for (label, at) in times {
        if at > 0 {
            let after = wall(at).since(wall(incident.opened));
            let after = if at == incident.opened { relative(wall(at), look) } else { format!("+{}", span(after)) };
            line(label, format!("{}; {after}", stamp(wall(at), look)));
        }
    }
    evidence(&mut text, incident, look);
    if !journal.trim().is_empty() {
        writeln!(text, "\nJournal of the run:\n{}", escaped_lines(journal.trim_end()))
            .expect("a String takes everything");
    }
    text
}

/// One line of cause, then evidence, then what was done, then what happens next.
///
/// `advice` is what a person can do, if anything.
pub fn why(incident: &Incident, facts: Option<&Facts<'_>>, advice: &str, look: &Look) -> String {
    let mut text = String::new();
    let head = format!("{}: {}", escaped(&incident.worker), verdict(incident));
    writeln!(text, "{}", Colour::Bold.paint(&head, look.colour)).expect("a String takes everything");
    evidence(&mut text, incident, look);
    match facts {
        Some(facts) if incident.is_open() || facts.incident.is_none() => {
            writeln!(text, "Next:\n  {}", what_next(&facts.worker, look)).expect("a String takes everything");
            for hold in &facts.holds {
                writeln!(text, "  held {}", hold_line(hold, look)).expect("a String takes everything");
            }
        }
        _ => writeln!(text, "Now:\n  the incident is {}", state(incident)).expect("a String takes everything"),
    }
    if !advice.is_empty() {
        writeln!(text, "Advice:\n  {}.", advice.trim_end_matches('.')).expect("a String takes everything");
    }
    text
}

/// The answer to "why?" where nothing has failed.
pub fn why_not(facts: &Facts<'_>, look: &Look) -> String {
    let worker = &facts.worker;
    let since = match worker.since() {
        Wall::NEVER => String::new(),
        at => format!(" since {}", stamp(at, look)),
    };
    let reason =
        if worker.phase_reason.is_empty() { String::new() } else { format!(": {}", escaped(&worker.phase_reason)) };
    let mut text =
        format!("{}: no failure is known; {}{since}{reason}\n", escaped(&worker.unit), escaped(&worker.phase));
    for hold in &facts.holds {
        writeln!(text, "  held {}", hold_line(hold, look)).expect("a String takes everything");
    }
    if !worker.next_action.is_empty() {
        writeln!(text, "Next:\n  {}", what_next(worker, look)).expect("a String takes everything");
    }
    text
}

fn what_next(worker: &Worker, look: &Look) -> String {
    let reason = match escaped(&worker.phase_reason) {
        reason if reason.is_empty() => String::new(),
        reason => format!(": {reason}"),
    };
    let now = format!("{}{reason}", escaped(&worker.phase));
    match next(worker, look) {
        next if next.is_empty() => format!("nothing by itself; it is {now}"),
        next => format!("{} ({now})", escaped(&next)),
    }
}

/// `oom-kill-cgroup (95% sure): The unit's own memory limit killed a process`.
fn verdict(incident: &Incident) -> String {
    let meaning = Cause::parse(&incident.cause).map_or(String::new(), |cause| format!(": {}", cause.meaning()));
    let sure = match confidence(incident) {
        sure if sure.is_empty() => String::new(),
        sure => format!(" ({sure} sure)"),
    };
    format!("{}{sure}{meaning}", escaped(&incident.cause))
}

fn evidence(text: &mut String, incident: &Incident, look: &Look) {
    let mut list = |heading: &str, items: Vec<String>| {
        if !items.is_empty() {
            writeln!(text, "{heading}:").expect("a String takes everything");
            items.iter().for_each(|item| writeln!(text, "  {item}").expect("a String takes everything"));
        }
    };
    list("Because", incident.because.iter().map(|line| escaped(line).into_owned()).collect());
    list("Followed from it", incident.cascade.iter().map(|line| escaped(line).into_owned()).collect());
    let remedy = |(action, at, by, outcome): &(String, u64, String, String)| {
        let outcome = if outcome.is_empty() { "under way" } else { outcome };
        format!("{} {} - {} ({})", clock(wall(*at), look), escaped(action), escaped(outcome), escaped(by))
    };
    list("Done", incident.remedies.iter().map(remedy).collect());
}

/// The state, or the result of a closed one.
pub fn state(incident: &Incident) -> String {
    match incident.result.as_str() {
        "" => escaped(&incident.state).into_owned(),
        result => escaped(result).into_owned(),
    }
}

fn colour(incident: &Incident) -> Colour {
    match (incident.is_open(), incident.result.as_str()) {
        (true, _) => Colour::Changing,
        (false, "failed-again" | "quarantined") => Colour::Bad,
        (false, _) => Colour::Plain,
    }
}

fn confidence(incident: &Incident) -> String {
    incident.confidence.map_or(String::new(), |confidence| format!("{:.0}%", confidence.clamp(0.0, 1.0) * 100.0))
}

/// From the failure to the recovery.
fn took(incident: &Incident) -> String {
    match incident.recovered {
        0 => String::new(),
        at => span(wall(at).since(wall(incident.opened))).to_string(),
    }
}
