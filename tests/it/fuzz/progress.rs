// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as what a worker says about its progress, in every form: a document, lines of a log, a text for systemd.

use std::collections::BTreeMap;
use watcherd::engine::Engine;
use watcherd::engine::event::{Active, Event, UnitFacts};
use watcherd::engine::ids::{InvocationId, ObjectId, WorkerName};
use watcherd::engine::policy::{Layer, Policies, Setting, UnitPattern};
use watcherd::engine::source::{NAME_MAX, Reading, VALUES_MAX};
use watcherd::engine::time::{Mono, Now, Wall};
use watcherd::progress::document;
use watcherd::progress::lines::Pattern;

/// The first byte chooses the form.
pub fn look(bytes: &[u8]) {
    let Some((form, rest)) = bytes.split_first() else { return };
    let reading = match form % 6 {
        4 => lines(rest),
        5 => return status(&String::from_utf8_lossy(rest)),
        form => {
            let places: &[(&str, &str)] = match form {
                0 => &[],
                1 => &[("value", "/train/step"), ("total", "/train/of/0"), ("stage", "/stage")],
                2 => &[("value", "step"), ("cursor", "phase"), ("pending", "total")],
                _ => &[("active", "/train/of"), ("cursor", "/cursor"), ("failed", "")],
            };
            let fields = places.iter().map(|(name, place)| ((*name).into(), (*place).into())).collect();
            document::read(rest, &fields).ok()
        }
    };
    if let Some(reading) = reading {
        assert!(reading.values.len() <= VALUES_MAX);
        assert!(reading.values.iter().all(|(name, value)| name.len() <= NAME_MAX && value.is_finite()), "{reading:?}");
        assert!(reading.cursor.iter().chain(&reading.stage).all(|text| text.len() <= NAME_MAX), "{reading:?}");
        feed(vec![Event::Read(worker(), "file", Ok(reading.clone())), Event::Beat(worker(), reading)], "");
    }
}

/// The first line is the pattern.
fn lines(bytes: &[u8]) -> Option<Reading> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let pattern = Pattern::new(std::str::from_utf8(lines.next()?).ok()?).ok()?;
    let mut count = 0;
    lines.filter_map(|line| pattern.read(line, &mut count)).last()
}

fn status(text: &str) {
    feed(vec![], text);
}

fn worker() -> WorkerName {
    WorkerName::parse("w").expect("a name")
}

/// What the engine makes of it.
fn feed(events: Vec<Event>, status_text: &str) {
    let layer = Layer {
        units: vec![Setting::default_value(UnitPattern::parse("w").expect("a name"))],
        progress_notify: Some(Setting::default_value(true)),
        ..Layer::default()
    };
    let policies = Policies { layers: vec![layer.into()], ..Policies::default() };
    let at = |secs: i64| Now { mono: Mono(secs * 1_000_000), wall: Wall(1_000_000_000 + secs * 1_000_000) };
    let (mut engine, _) = Engine::new(policies, None, 1, at(0));
    let facts = |status_text: &str| UnitFacts {
        active: Active::Active,
        sub: "running".into(),
        main_pid: 7,
        invocation: Some(InvocationId([7; 16])),
        status_text: status_text.into(),
        ..UnitFacts::default()
    };
    for (secs, text) in [(1, "1/2"), (2, status_text), (3, "2/3")] {
        engine.handle(at(secs), Event::Unit(worker(), facts(text)));
    }
    for (secs, event) in (4..).zip(events) {
        engine.handle(at(secs), event);
        engine.handle(at(secs), Event::Wake);
    }
    engine.handle(at(100_000), Event::Wake);
    assert!(engine.view(&ObjectId::Worker(worker())).is_some());
    let _: BTreeMap<_, _> = engine.saved_progress(&worker()).map(|saved| saved.values).unwrap_or_default();
}
