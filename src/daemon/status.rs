// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one line that `systemctl status watcherd` shows.

use crate::engine::Engine;
use crate::engine::ids::ObjectId;
use crate::engine::view::{Phase, View};
use std::collections::BTreeMap;

/// Counts the workers by phase, says what is open and what is wrong.
pub fn line(engine: &Engine, degraded: &[String]) -> String {
    let mut phases: BTreeMap<Phase, u32> = BTreeMap::new();
    for id in engine.objects() {
        if let ObjectId::Worker(_) = &id
            && let Some(View::Worker(view)) = engine.view(&id)
        {
            *phases.entry(view.phase).or_default() += 1;
        }
    }
    let workers: u32 = phases.values().sum();
    let mut line = match workers {
        0 => "No workers".to_owned(),
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    let parts: Vec<_> = phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    if !parts.is_empty() {
        line.push_str(": ");
        line.push_str(&parts.join(", "));
    }
    if let Some(View::Manager(view)) = engine.view(&ObjectId::Manager) {
        match view.incidents_open {
            0 => {}
            1 => line.push_str("; 1 open incident"),
            n => line.push_str(&format!("; {n} open incidents")),
        }
        if view.dry_run {
            line.push_str("; dry run");
        }
    }
    if let Some(first) = degraded.first() {
        line.push_str("; degraded: ");
        line.push_str(first);
    }
    line
}
