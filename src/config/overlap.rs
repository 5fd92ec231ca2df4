// SPDX-License-Identifier: MIT OR Apache-2.0
//! Units that more than one policy file claims, and which file wins which key.

use super::complaint::{Complaint, Severity};
use super::show::entries;
use crate::engine::policy::{Layer, Setting, UnitPattern};
use std::collections::HashMap;
use std::sync::Arc;

/// Most comparisons of a name with a glob; what lies beyond is not reported.
const COMPARISONS_MAX: usize = 1_000_000;
/// Most complaints of this kind.
const COMPLAINTS_MAX: usize = 100;
/// Most keys that one complaint names.
const KEYS_TOLD: usize = 8;

/// Reports patterns that stand in two files, and names that a glob of another file matches and sets differently.
pub fn overlaps(layers: &[Arc<Layer>]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut seen: HashMap<&str, (usize, &Setting<UnitPattern>)> = HashMap::new();
    let mut exact = Vec::new();
    let mut globs = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        for pattern in &layer.units {
            if let Some((earlier, first)) = seen.insert(pattern.value.as_str(), (at, pattern)) {
                let won = won_keys(&layers[earlier], layer);
                let won = if won.is_empty() { "no key is set differently in both".into() } else { won };
                complaints.push(complaint(layer, pattern, first, &won));
            }
            match pattern.value.exact() {
                Some(name) => exact.push((at, pattern, name)),
                None => globs.push((at, pattern)),
            }
        }
    }
    let pairs = exact.iter().flat_map(|one| globs.iter().map(move |glob| (one, glob))).take(COMPARISONS_MAX);
    for ((named_at, named, name), (glob_at, glob)) in pairs {
        if named_at == glob_at || complaints.len() >= COMPLAINTS_MAX || !glob.value.matches(name) {
            continue;
        }
        let (earlier, later) = (&layers[*named_at.min(glob_at)], &layers[*named_at.max(glob_at)]);
        let won = won_keys(earlier, later);
        if won.is_empty() {
            continue;
        }
        let (here, there) = if named_at > glob_at { (*named, *glob) } else { (*glob, *named) };
        complaints.push(Complaint {
            text: format!("{name}: also matched by {}; {won}", there.from),
            ..complaint(later, here, there, "")
        });
    }
    complaints.truncate(COMPLAINTS_MAX);
    complaints
}

fn complaint(layer: &Layer, here: &Setting<UnitPattern>, there: &Setting<UnitPattern>, won: &str) -> Complaint {
    let line = here.from.0.rsplit_once(':').and_then(|(_, line)| line.parse().ok()).unwrap_or(0);
    Complaint {
        severity: Severity::Warning,
        file: layer.file.clone(),
        line,
        column: 0,
        key: String::new(),
        text: format!("{}: also matched by {}; {won}", here.value, there.from),
    }
}

/// The keys that `later` sets to something else than `earlier`, with their lines.
fn won_keys(earlier: &Layer, later: &Layer) -> String {
    let before = entries(earlier);
    let won: Vec<String> = entries(later)
        .into_iter()
        .filter(|entry| before.iter().any(|old| old.key == entry.key && old.value != entry.value))
        .map(|entry| format!("{} is taken from {}", entry.key, entry.from))
        .collect();
    let more = won.len().saturating_sub(KEYS_TOLD);
    let mut text = won[..won.len() - more].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more keys"));
    }
    text
}
