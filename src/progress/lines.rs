// SPDX-License-Identifier: MIT OR Apache-2.0
//! Progress in the lines that units print: the first group of a pattern is the value, the second the total, and named
//! groups are values of that name. Without a group, every line that matches counts up by one.
//!
//! Lines are heard where they are read, on any thread; only the newest match waits to be told.

use super::document::{cut, number};
use super::probe::ProbeId;
use crate::engine::ids::WorkerName;
use crate::engine::source::{NAME_MAX, Reading, VALUES_MAX};
use regex::bytes::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How large a compiled pattern may become, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// Units whose lines are counted.
const UNITS_MAX: usize = 20_000;

/// A pattern over lines.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// The names of its groups.
    names: Vec<Option<Arc<str>>>,
}

impl Pattern {
    /// Compiles a pattern; the error is a fragment.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let built = RegexBuilder::new(text).unicode(false).size_limit(PATTERN_SIZE).build();
        let regex = built.map_err(|error| {
            let error = error.to_string();
            // The lines before the last show where in the pattern it is.
            let last = error.lines().last().unwrap_or_default();
            format!("the pattern {text:?} is not valid: {}", last.trim_start_matches("error: "))
        })?;
        let names = regex.capture_names().map(|name| name.map(Arc::from)).collect();
        Ok(Pattern { regex, names })
    }

    /// What a line says; `count` counts the lines that match.
    pub fn read(&self, line: &[u8], count: &mut u64) -> Option<Reading> {
        let mut reading = Reading::default();
        if self.names.len() == 1 {
            self.regex.is_match(line).then_some(())?;
            *count += 1;
            reading.values.insert("value".into(), *count as f64);
            return Some(reading);
        }
        let groups = self.regex.captures(line)?;
        let mut unnamed = ["value", "total"].into_iter();
        for (name, group) in self.names.iter().zip(groups.iter()).skip(1) {
            let name = match name {
                Some(name) => Some(name.clone()),
                None => unnamed.next().map(Arc::from),
            };
            let (Some(name), Some(group)) = (name, group) else { continue };
            let Ok(text) = std::str::from_utf8(group.as_bytes()) else { continue };
            if &*name == "cursor" {
                reading.cursor = Some(cut(text));
            } else if &*name == "stage" {
                reading.stage = Some(cut(text));
            } else if let Some(number) = number(text)
                && name.len() <= NAME_MAX
                && reading.values.len() < VALUES_MAX
            {
                reading.values.insert(name, number);
            }
        }
        let tells = !reading.values.is_empty() || reading.cursor.is_some() || reading.stage.is_some();
        tells.then_some(reading)
    }
}

/// The patterns of all units; clones share them.
#[derive(Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    units: Mutex<HashMap<String, Vec<Listener>>>,
    /// How many lines each unit has printed; `None` while nobody reads along.
    counts: Mutex<Option<HashMap<String, u64>>>,
    heard: Notify,
}

struct Listener {
    probe: ProbeId,
    pattern: Pattern,
    count: u64,
    newest: Option<Reading>,
}

impl Lines {
    /// Somebody reads along from here on.
    pub fn begin(&self) {
        *self.counts() = Some(HashMap::new());
    }

    /// Nobody reads along any more.
    pub fn lose(&self) {
        *self.counts() = None;
    }

    /// How many lines the unit has printed since [`Lines::begin`].
    pub fn count(&self, unit: &str) -> Option<u64> {
        self.counts().as_ref().map(|counts| counts.get(unit).copied().unwrap_or(0))
    }

    /// Takes note of a line of a unit.
    pub fn hear(&self, unit: &str, line: &[u8]) {
        if let Some(counts) = &mut *self.counts() {
            if let Some(count) = counts.get_mut(unit) {
                *count += 1;
            } else if counts.len() < UNITS_MAX {
                counts.insert(unit.to_owned(), 1);
            }
        }
        let mut units = self.units();
        let Some(listeners) = units.get_mut(unit) else { return };
        let mut first = false;
        for listener in listeners {
            if let Some(reading) = listener.pattern.read(line, &mut listener.count) {
                first |= listener.newest.replace(reading).is_none();
            }
        }
        if first {
            self.0.heard.notify_one();
        }
    }

    /// Listens to a worker from here on, to nothing if there are no patterns. What a pattern has counted stays.
    pub(super) fn listen(&self, worker: &WorkerName, patterns: Vec<(ProbeId, Pattern)>) {
        let mut units = self.units();
        let before = units.remove(worker.unit()).unwrap_or_default();
        let counted = |pattern: &Pattern| {
            let same = before.iter().find(|listener| listener.pattern.regex.as_str() == pattern.regex.as_str());
            same.map_or(0, |listener| listener.count)
        };
        let listeners = patterns.into_iter().map(|(probe, pattern)| Listener {
            probe,
            count: counted(&pattern),
            pattern,
            newest: None,
        });
        let listeners: Vec<_> = listeners.collect();
        if !listeners.is_empty() {
            units.insert(worker.unit().to_owned(), listeners);
        }
    }

    /// Waits until there is something to take; may be dropped while it waits.
    pub(super) async fn heard(&self) {
        self.0.heard.notified().await;
    }

    /// The newest matches since the last time.
    pub(super) fn take(&self) -> Vec<(ProbeId, Reading)> {
        let mut units = self.units();
        let listeners = units.values_mut().flatten();
        listeners.filter_map(|listener| Some((listener.probe, listener.newest.take()?))).collect()
    }

    fn counts(&self) -> MutexGuard<'_, Option<HashMap<String, u64>>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn units(&self) -> MutexGuard<'_, HashMap<String, Vec<Listener>>> {
        self.0.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pattern: &str, lines: &[&str]) -> String {
        let worker = WorkerName::parse("w").expect("a name");
        let all = Lines::default();
        all.listen(&worker, vec![(ProbeId(1), Pattern::new(pattern).expect("it is valid"))]);
        lines.iter().for_each(|line| all.hear("w.service", line.as_bytes()));
        let words = all.take().into_iter().flat_map(|(_, reading)| {
            let values = reading.values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
            values
                .into_iter()
                .chain(reading.cursor.map(|cursor| format!("@{cursor}")))
                .chain(reading.stage.map(|stage| format!("#{stage}")))
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn groups_are_values() {
        let cases: [(&str, &[&str], &str); 9] = [
            (r"begins (?<stage>\w+)", &["begins evaluation"], "#evaluation"),
            (r"step (\d+)/(\d+)", &["step 1/9", "x", "step 2/9 ok"], "total=9 value=2"),
            (r"step (\d+)(?: of (\d+))?", &["step 3"], "value=3"),
            (r"loss=(?<loss>[\d.]+) at (\d+)", &["loss=0.5 at 7"], "loss=0.5 value=7"),
            (r"item (?<cursor>\S+) (?<value>\d+)", &["item a/b 3"], "value=3 @a/b"),
            ("saved", &["saved", "nothing", "saved saved"], "value=2"),
            (r"(?:a|b)c", &["bc"], "value=1"),
            (r"n=(\S+)", &["n=x"], ""),
            (r"step (\d+)", &["no"], ""),
        ];
        for (pattern, lines, expected) in cases {
            assert_eq!(told(pattern, lines), expected, "{pattern}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        let why = Pattern::new("(a").expect_err("it is not closed");
        assert_eq!(why, "the pattern \"(a\" is not valid: unclosed group");
        assert!(Pattern::new("(?:a{1000}){1000}").is_err());
        assert!(Pattern::new("Größe (.+)").is_ok());
    }

    #[test]
    fn counts_outlive_a_new_list_and_strangers_are_not_heard() {
        let (worker, all) = (WorkerName::parse("w").expect("a name"), Lines::default());
        let pattern = || Pattern::new("saved").expect("it is valid");
        all.listen(&worker, vec![(ProbeId(1), pattern())]);
        all.hear("w.service", b"saved \xff\x00");
        all.hear("v.service", b"saved");
        all.listen(&worker, vec![(ProbeId(2), pattern())]);
        assert_eq!(all.take(), []);
        all.hear("w.service", b"saved");
        let taken = all.take();
        assert_eq!((taken[0].0, taken[0].1.values["value"]), (ProbeId(2), 2.0));
        all.listen(&worker, Vec::new());
        all.hear("w.service", b"saved");
        assert_eq!(all.take(), []);
    }
}
