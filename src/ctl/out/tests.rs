// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden output: fixed input, fixed time, UTC.

use super::status::Facts;
use super::{Look, incident, property, screen, status, workers};
use crate::ctl::model::{Everything, Hold, Incident, Object, Worker};
use crate::ctl::screen::{Key, Screen};
use crate::engine::time::Wall;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::path::Path;

/// Mon 2026-11-23 14:05:07 UTC.
pub const NOW: Wall = Wall(1_795_442_707_000_000);

pub fn look() -> Look {
    Look { colour: false, width: None, legend: true, zone: TimeZone::UTC, now: NOW }
}

/// Compares with a file; `UPDATE=1` writes the file instead.
fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ctl/out/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).expect("the tree is writable");
    }
    let expected = std::fs::read_to_string(&file).expect("the file is there");
    assert_eq!(text, expected, "{}", file.display());
}

fn ago(seconds: u64) -> u64 {
    NOW.0.unsigned_abs() - seconds * 1_000_000
}

fn later(seconds: u64) -> u64 {
    NOW.0.unsigned_abs() + seconds * 1_000_000
}

fn object(value: Value) -> Object {
    let Value::Object(object) = value else { panic!("not an object") };
    object
}

/// Works, and gets on.
pub fn working() -> Object {
    object(json!({
        "Unit": "queue.service", "Origin": "policy", "Phase": "working", "PhaseReason": "it gets on",
        "PhaseTimestamp": ago(125), "Cause": "", "Incident": "/", "MainPID": 4711,
        "InvocationID": "ab".repeat(16), "ProgressValue": 120, "ProgressTotal": 500, "ProgressTimestamp": ago(3),
        "Rate": 1.5, "EtaUSec": 250_000_000, "EtaSpreadUSec": 12_000_000, "StallDeadlineTimestamp": later(597),
        "Sources": [["file", true, ""], ["http", false, "connection refused"]],
        "SourceTimestamps": [["file", ago(3)]],
        "Values": {"value": 120.0, "total": 500.0, "active": 32.0, "pending": 7.0, "loss": 0.12345}, "Attempts": 0, "BudgetLeft": 5, "NextAction": "",
        "NextActionTimestamp": 0, "Held": false, "IntendedUp": true, "NRuns": 1, "DowntimeUSec": 0,
        "Policy": [["restart.budget", "5/1h", "default"]],
    }))
}

/// Failed, and waits for its next attempt.
pub fn failed() -> Object {
    object(json!({
        "Unit": "train@1.service", "Origin": "policy", "Phase": "recovering", "PhaseReason": "waiting for attempt 2",
        "PhaseTimestamp": ago(5), "Cause": "oom-kill-cgroup", "Incident": "/org/watcherd1/incident/7", "MainPID": 0,
        "InvocationID": "cd".repeat(16), "ProgressValue": 0, "ProgressTotal": 0, "ProgressTimestamp": 0,
        "Rate": 0.0, "EtaUSec": 0, "Attempts": 1, "BudgetLeft": 4, "NextAction": "restart",
        "NextActionTimestamp": later(12), "Held": false, "IntendedUp": true, "NRuns": 3, "DowntimeUSec": 65_000_000,
        "Policy": [
            ["restart.budget", "5/1h", "/etc/watcherd/workers.d/train.toml:12"],
            ["restart.grace", "10s", "default"],
            ["cause.oom-kill-cgroup.action", "restart", "/etc/watcherd/workers.d/train.toml:20"],
        ],
    }))
}

pub fn incident_object() -> Object {
    object(json!({
        "Id": 7, "Worker": "train@1.service", "Run": "cd".repeat(16), "Cause": "oom-kill-cgroup", "Confidence": 0.95,
        "Because": ["memory.events: oom_kill 0 -> 1", "Main process 4711 was killed by SIGKILL"],
        "Cascade": ["exit status 137 of the shell"], "Opened": ago(8), "Detected": ago(7), "Decided": ago(7),
        "Started": 0, "Recovered": 0, "Closed": 0, "State": "recovering", "Result": "",
        "Remedies": [["restart", ago(7), "/etc/watcherd/workers.d/train.toml:20", ""]],
        "Text": "killed at its memory limit of 8G",
    }))
}

fn closed() -> Incident {
    Incident {
        state: "closed".into(),
        result: "recovered".into(),
        started: ago(3600),
        recovered: ago(3570),
        closed: ago(3570),
        opened: ago(3602),
        id: 6,
        ..Incident::read(&incident_object())
    }
}

fn everything() -> Everything {
    Everything {
        incidents_open: 1,
        holds: vec![Hold(3, vec!["train@1.service".into()], "alice".into(), "backup".into(), 1_795_456_800_000_000)],
        degraded: vec!["/etc/watcherd/workers.d/a.toml is refused".into()],
        workers: vec![working(), failed()],
        ..Everything::default()
    }
}

fn facts(everything: &Everything) -> Facts<'_> {
    Facts {
        worker: Worker::read(&failed()),
        incident: Some(Incident::read(&incident_object())),
        holds: everything.holds.iter().collect(),
        journal: "Nov 23 14:05:00 box train[4711]: step 12\x1b[0m\n".into(),
    }
}

#[test]
fn the_whole_screen() {
    let mut screen = Screen::new(&[]);
    screen.fill(everything());
    let shown = |screen: &Screen, width, rows| {
        let look = Look { width: Some(width), ..look() };
        let lines = screen::lines(screen, &look, rows);
        assert_eq!(lines.len(), rows);
        assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
        lines.join("\n") + "\n"
    };
    golden("screen", &shown(&screen, 140, 8));
    for (width, rows) in [(1, 1), (20, 3), (80, 24), (300, 100)] {
        shown(&screen, width, rows);
    }
    screen.key(Key::Char('r'));
    assert!(shown(&screen, 80, 24).ends_with("restart train@1.service? [y/N]\n"));
    screen.key(Key::Char('n'));
    screen.key(Key::Char('?'));
    golden("screen-help", &shown(&screen, 80, 14));
    let mut none = Screen::new(&[]);
    none.alone = true;
    assert!(shown(&none, 80, 24).contains("No workers."));
}

#[test]
fn the_list_of_workers() {
    let everything = everything();
    let shown: Vec<Worker> = everything.workers.iter().map(Worker::read).collect();
    golden("list", &workers::list(&shown, &everything, &look()));
    let narrow = Look { width: Some(80), legend: false, ..look() };
    golden("list-narrow", &workers::list(&shown, &everything, &narrow));
    assert_eq!(workers::list(&[], &Everything::default(), &look()), "0 workers.\n");
}

#[test]
fn the_status_of_workers() {
    let everything = everything();
    let calm = Facts { worker: Worker::read(&working()), ..Facts::default() };
    let text = [status::block(&facts(&everything), &look()), status::block(&calm, &look())].join("\n");
    golden("status", &text);
}

#[test]
fn why_a_worker_failed() {
    let everything = everything();
    let facts = facts(&everything);
    let open = Incident::read(&incident_object());
    let calm = Facts { worker: Worker::read(&working()), ..Facts::default() };
    let texts = [
        incident::why(&open, Some(&facts), "Look at the disk", &look()),
        incident::why(&closed(), Some(&facts), "", &look()),
        incident::why_not(&calm, &look()),
    ];
    golden("why", &texts.join("\n"));
}

#[test]
fn incidents_as_a_table_and_in_full() {
    let incidents = [Incident::read(&incident_object()), closed()];
    golden("incidents", &incident::list(&incidents, &look()));
    assert_eq!(incident::list(&[], &look()), "0 incidents.\n");
    let blocks: Vec<String> = incidents.iter().map(|one| incident::block(one, "", &look())).collect();
    golden("incident", &blocks.join("\n"));
}

#[test]
fn properties_for_scripts() {
    golden("show", &property::lines(&failed(), &[], false));
    assert_eq!(
        &property::lines(&failed(), &["Phase".into(), "Nothing".into(), "Held".into()], true),
        "recovering\nno\n",
    );
    let hostile = object(json!({"PhaseReason": "a\nPhase=working", "Because": ["one", "two words", ""]}));
    assert_eq!(
        property::lines(&hostile, &[], false),
        "Because=one \"two words\" \"\"\nPhaseReason=a\\nPhase=working\n"
    );
}

#[test]
fn json_for_programs() {
    let array: Value = vec![super::json::complete(failed()), super::json::complete(incident_object())].into();
    let text = super::json::text(&array, crate::ctl::args::JsonForm::Pretty);
    golden("json", &text);
}

#[test]
fn what_is_not_healthy() {
    let worker = |phase: &str, main_pid| Worker { phase: phase.into(), main_pid, ..Worker::default() };
    for phase in ["failed", "stalled", "quarantined", "held"] {
        assert!(!status::is_healthy(&worker(phase, 0)), "{phase}");
    }
    for phase in ["working", "completed", "inactive", "recovering", "paused", "something-new"] {
        assert!(status::is_healthy(&worker(phase, 0)), "{phase}");
    }
    assert!(status::is_healthy(&worker("held", 4711)));
}
