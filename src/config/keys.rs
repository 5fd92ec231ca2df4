// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that may stand in a file: those that have an effect, those that only other versions know, and what was
//! probably meant by the others.

use crate::engine::cause::Cause;
pub use crate::engine::policy::CAUSE_KEYS;
use crate::engine::policy::KEYS;

/// Keys that name the units of a policy file; they belong to no layer's settings.
pub const UNIT_KEYS: &[&str] = &["worker.unit", "worker.units"];

/// Every key of `watcherd.toml`.
pub const SETTINGS_KEYS: &[&str] = &[
    "manager.dry-run",
    "manager.max-jobs",
    "manager.keep-incidents",
    "manager.keep-finished",
    "manager.record",
    "notify.on",
    "notify.command",
    "notify.mail",
    "notify.desktop",
    "notify.per-hour",
    "notify.per-worker",
    "notify.dedupe",
    "notify.retry",
    "notify.give-up-after",
];

/// Keys and tables of policy files that are documented but not there yet; `cause.*` stands for every cause.
pub const UNSUPPORTED: &[&str] = &[];

/// What a name in a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Known,
    /// Documented, but without effect in this version.
    Unsupported,
    /// Unknown; the text says so, with what was probably meant.
    Unknown(String),
}

/// Judges a key of a policy file, as `table.key`.
pub fn worker_key(table: &str, key: &str) -> Name {
    if UNSUPPORTED.contains(&format!("{table}.{key}").as_str()) {
        return Name::Unsupported;
    }
    judge(table, key, &[KEYS, UNIT_KEYS, UNSUPPORTED], &[(SETTINGS_KEYS, "watcherd.toml")])
}

/// Judges a key of `watcherd.toml`, as `table.key`.
pub fn settings_key(table: &str, key: &str) -> Name {
    judge(table, key, &[SETTINGS_KEYS], &[(KEYS, "a file in workers.d"), (UNIT_KEYS, "a file in workers.d")])
}

/// Judges a key below `cause.NAME`.
pub fn cause_key(key: &str) -> Name {
    if CAUSE_KEYS.contains(&key) {
        return Name::Known;
    }
    let below = |name: &'static &str| name.strip_prefix("cause.*.");
    if UNSUPPORTED.iter().filter_map(below).any(|unsupported| unsupported == key) {
        return Name::Unsupported;
    }
    let candidates = CAUSE_KEYS.iter().copied().chain(UNSUPPORTED.iter().filter_map(below));
    unknown_key(nearest(key, candidates).map(|near| format!("did you mean \"{near}\"?")))
}

/// Judges a table of a policy file.
pub fn worker_table(table: &str) -> Name {
    let tables = || KEYS.iter().filter_map(|key| key.split('.').next()).chain(["cause", "parameters"]);
    if tables().any(|known| known == table) {
        return Name::Known;
    }
    let unsupported = || UNSUPPORTED.iter().copied().filter(|name| !name.contains('.'));
    if unsupported().any(|name| name == table) {
        return Name::Unsupported;
    }
    if SETTINGS_KEYS.iter().any(|key| key.split('.').next() == Some(table)) {
        return Name::Unknown("this table belongs into watcherd.toml; it has no effect here".into());
    }
    unknown_table(table, tables().chain(unsupported()))
}

/// Judges a table of `watcherd.toml`.
pub fn settings_table(table: &str) -> Name {
    let tables = || SETTINGS_KEYS.iter().filter_map(|key| key.split('.').next());
    if tables().any(|known| known == table) {
        return Name::Known;
    }
    if worker_table(table) == Name::Known {
        return Name::Unknown("this table belongs into a file in workers.d; it has no effect here".into());
    }
    unknown_table(table, tables())
}

/// What to say about a name that is no cause.
pub fn unknown_cause(name: &str) -> String {
    match nearest(name, Cause::ALL.iter().map(|cause| cause.as_str())) {
        Some(near) => format!("unknown cause, it has no effect; did you mean \"{near}\"?"),
        None => "unknown cause, it has no effect".into(),
    }
}

/// `elsewhere` lists keys that belong into another file, and which.
fn judge(table: &str, key: &str, known: &[&[&str]], elsewhere: &[(&[&str], &str)]) -> Name {
    let full = format!("{table}.{key}");
    let is_known = |full: &str| known.iter().any(|keys| keys.contains(&full));
    if is_known(&full) {
        return Name::Known;
    }
    let in_table = known.iter().copied().flatten().filter_map(|name| name.split_once('.'));
    if let Some(near) = nearest(key, in_table.clone().filter(|(of, _)| *of == table).map(|(_, key)| key)) {
        return unknown_key(Some(format!("did you mean \"{near}\"?")));
    }
    // The right key in the wrong table, or in none.
    if let Some((of, _)) = in_table.clone().find(|(_, name)| *name == key) {
        return unknown_key(Some(format!("\"{key}\" belongs into [{of}]")));
    }
    let other_file = elsewhere.iter().find(|(keys, _)| {
        keys.iter()
            .filter_map(|name| name.split_once('.'))
            .any(|(of, name)| name == key && (of == table || table.is_empty()))
    });
    unknown_key(other_file.map(|(_, file)| format!("\"{key}\" belongs into {file}")))
}

fn unknown_key(hint: Option<String>) -> Name {
    Name::Unknown(match hint {
        Some(hint) => format!("unknown key, it has no effect; {hint}"),
        None => "unknown key, it has no effect".into(),
    })
}

fn unknown_table<'a>(table: &str, known: impl Iterator<Item = &'a str>) -> Name {
    Name::Unknown(match nearest(table, known) {
        Some(near) => format!("unknown table, it has no effect; did you mean [{near}]?"),
        None => "unknown table, it has no effect".into(),
    })
}

/// The candidate that is closest to `name`, if at most a third of it differs.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 40;
    if name.len() > LONGEST {
        return None;
    }
    let most = |candidate: &str| (candidate.len().max(name.len()) / 3).clamp(1, 4).min(candidate.len() - 1);
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= most(candidate))
        // Each foreign letter costs an edit of its own: this spares most comparisons in a file of garbage.
        .filter(|candidate| name.chars().filter(|c| !candidate.contains(*c)).count() <= most(candidate))
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= most(candidate))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, dropped, replaced or swapped with their neighbour to turn `from` into `to`.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_nothing_far_fetched() {
        let words = ["back-off", "budget", "grace", "verify", "reset-after"];
        let cases = [
            ("backoff", Some("back-off")),
            ("back_off", Some("back-off")),
            ("bugdet", Some("budget")),
            ("grcae", Some("grace")),
            ("reset_after", Some("reset-after")),
            ("colour", None),
            ("", None),
            ("x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, words.into_iter()), expected, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), words.into_iter()), None);
    }

    #[test]
    fn no_key_is_both_supported_and_unsupported() {
        for key in UNSUPPORTED {
            assert!(!KEYS.contains(key) && !UNIT_KEYS.contains(key), "{key}");
            assert!(key.strip_prefix("cause.*.").is_none_or(|key| !CAUSE_KEYS.contains(&key)), "{key}");
        }
    }
}
