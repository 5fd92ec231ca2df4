// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which outputs of the engine are decisions, and when two of them are the same.

use crate::engine::ids::WorkerName;
use std::time::Duration;

/// Words that begin an output by which something is done, or decided.
const DEEDS: [&str; 9] = ["start", "stop", "kill", "freeze", "thaw", "capture", "equip", "hook", "notify"];
/// Entries of the journal that tell a decision.
const SAYINGS: [&str; 17] = [
    "incident-opened",
    "incident-closed",
    "remedy-chosen",
    "restart-scheduled",
    "verdict-reached",
    "parameters-changed",
    "quarantined",
    "quarantine-reset",
    "gave-up",
    "held",
    "released",
    "stalled",
    "moves-again",
    "warned",
    "completed",
    "would-have",
    "failed-together",
];

/// One decision, as it is written in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Since the beginning.
    pub at: Duration,
    pub worker: Option<WorkerName>,
    /// What was decided, without numbers of actions and incidents.
    pub text: String,
    /// The first word, or the kind of the journal's entry.
    pub kind: String,
    /// It follows from something that the recording has no answer for.
    pub assumed: bool,
    /// What must be equal.
    key: String,
}

impl Decision {
    /// Reads the words of an output; `None` if it is no decision. `worker` says whom a number of an incident is about.
    pub fn read(at: Duration, words: &str, worker: impl Fn(u32) -> Option<WorkerName>) -> Option<Decision> {
        let (first, rest) = words.split_once(' ')?;
        let (kind, rest) = if first == "say" { rest.split_once(' ').unwrap_or((rest, "")) } else { (first, rest) };
        let known = if first == "say" { SAYINGS.contains(&kind) } else { DEEDS.contains(&kind) };
        if !known {
            return None;
        }
        let (numbers, text) = without_numbers(rest);
        let begins = || text.split([' ', ':']).next().and_then(|name| WorkerName::parse(name).ok());
        let about = match kind {
            "notify" => numbers.before.as_deref().and_then(|name| WorkerName::parse(name).ok()),
            _ if first != "say" => begins(),
            _ => numbers.incident.and_then(worker).or_else(begins),
        };
        let key = format!("{kind} {}", comparable(&text));
        Some(Decision { at, worker: about, text: format!("{kind} {text}"), kind: kind.into(), assumed: false, key })
    }

    /// Whether both decide the same, whenever that is.
    pub fn is_same(&self, other: &Decision) -> bool {
        self.key == other.key
    }
}

/// The numbers that an output begins with.
struct Numbers {
    incident: Option<u32>,
    /// The word that the number of the incident stands before.
    before: Option<String>,
}

/// Takes `#3` and `[1]` away.
fn without_numbers(text: &str) -> (Numbers, String) {
    let mut numbers = Numbers { incident: None, before: None };
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let kept: Vec<&str> = words
        .iter()
        .enumerate()
        .filter(|(place, word)| {
            let incident =
                word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).and_then(|word| word.parse().ok());
            if *place < 3 && incident.is_some() {
                numbers.incident = numbers.incident.or(incident);
                numbers.before = words.get(place + 1).map(|word| (*word).to_owned());
                return false;
            }
            !(*place == 0 && word.starts_with('#'))
        })
        .map(|(_, word)| *word)
        .collect();
    (numbers, kept.join(" "))
}

/// Without spans, which jitter, and without the lines of files, which another policy has elsewhere.
fn comparable(text: &str) -> String {
    let mut before = "";
    let words = text.split(' ').filter(|word| !is_source(word)).map(|word| {
        let is_zero = std::mem::replace(&mut before, word) == "for" && word == "0";
        let bare = word.trim_matches(|letter: char| "(),;:".contains(letter));
        let is_span = bare.ends_with(|letter: char| letter.is_ascii_alphabetic())
            && bare.starts_with(|letter: char| letter.is_ascii_digit())
            && crate::scenario::line::span(bare).is_ok();
        if is_zero || is_span || bare.starts_with("retry-at=") { "~" } else { word }
    });
    let mut kept: Vec<&str> = words.collect();
    // "10min" and "10min 5s" are one span.
    kept.dedup_by(|later, earlier| *later == "~" && *earlier == "~");
    kept.join(" ")
}

/// `(policy)`, `(default)` and `(/etc/watcherd/workers.d/train.toml:3)`, with what may follow.
fn is_source(word: &str) -> bool {
    let Some(inner) = word.strip_prefix('(').and_then(|rest| rest.rsplit_once(')')).map(|(inner, _)| inner) else {
        return false;
    };
    inner == "policy"
        || inner == "default"
        || inner
            .rsplit_once(':')
            .is_some_and(|(file, line)| file.ends_with(".toml") && line.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Option<Decision> {
        Decision::read(Duration::ZERO, words, |_| WorkerName::parse("other").ok())
    }

    #[test]
    fn decisions_are_told_from_what_only_prepares_them() {
        for words in
            ["examine [1] w", "watch w", "look-back #3 w since 3s", "say worker-added w is supervised", "reply done"]
        {
            assert_eq!(read(words), None, "{words}");
        }
        let start = read("start #3 w restart").expect("a decision");
        assert_eq!(
            (start.text.as_str(), start.worker.map(|name| name.to_string())),
            ("start w restart", Some("w.service".into()))
        );
        let opened = read("say incident-opened [7] w exited with status 1: restart #1 in 975ms").expect("a decision");
        assert_eq!(opened.worker.map(|name| name.to_string()), Some("other.service".into()));
        assert_eq!(opened.text, "incident-opened w exited with status 1: restart #1 in 975ms");
    }

    #[test]
    fn jitter_and_places_make_no_difference_but_numbers_do() {
        let same = |a: &str, b: &str| read(a).expect("a decision").is_same(&read(b).expect("a decision"));
        assert!(same("say remedy-chosen [1] w: restart #1 in 975ms", "say remedy-chosen [4] w: restart #1 in 2min 3s"));
        assert!(same("say held [1] w (/etc/watcherd/workers.d/a.toml:3)", "say held [1] w (/tmp/x/b.toml:7)"));
        assert!(!same("equip w BATCH=32", "equip w BATCH=16"));
        assert!(!same("say remedy-chosen [1] w: restart #1", "say remedy-chosen [1] w: restart #2"));
    }
}
