// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the words of a scenario's lines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use watcherd::config::own_layer;
use watcherd::engine::cause::Cause;
use watcherd::engine::event::UnitTraits;
use watcherd::engine::ids::{InvocationId, WorkerName};
use watcherd::engine::policy::{
    AfterSuccess, BackOff, Budget, CauseAction, Layer, OnExhausted, Setting, Settings, Source, Text, UnitPattern,
    WhenRunning,
};

/// Splits at blanks, except within double quotes; `key="a b"` is one word without the quotes.
pub fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

pub fn option<'a>(words: &'a [String], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value))
}

pub fn flag(words: &[String], name: &str) -> bool {
    words.iter().any(|word| word == name)
}

pub fn number<T: std::str::FromStr>(word: Option<&String>) -> Result<T, String> {
    let word = word.ok_or("a number is missing")?;
    word.trim_start_matches('#').parse().map_err(|_| format!("{word} is no number"))
}

pub fn worker(word: Option<&String>) -> Result<WorkerName, String> {
    let word = word.ok_or("a name is missing")?;
    WorkerName::parse(word).map_err(|error| error.to_string())
}

pub fn invocation(text: &str) -> InvocationId {
    let mut bytes = [0; 16];
    for (byte, letter) in bytes.iter_mut().zip(text.bytes().cycle()) {
        *byte = letter;
    }
    InvocationId(bytes)
}

/// Reads `1min30s`, `250ms`, `10s`, `0`.
pub fn span(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 7] =
        [("us", 1e-6), ("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("h", 3600.0), ("d", 86400.0), ("w", 604_800.0)];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().map_err(|_| format!("{text} is no time"))?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).unwrap_or(&("s", 1.0));
        total += value * size;
        rest = &rest[letters..];
    }
    Ok(Duration::from_micros((total * 1e6).round() as u64))
}

pub fn from_policy<T>(value: T) -> Option<Setting<T>> {
    Some(Setting { value, from: Source("policy".into()) })
}

pub fn layer(words: &[String]) -> Result<Layer, String> {
    // Keys in full are read as those of `watcherctl run`.
    let pairs = words.iter().filter_map(|word| word.split_once('=')).filter(|(key, _)| is_spelt_out(key));
    let pairs: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let own = own_layer(&pairs, "policy").map_err(|complaint| complaint.to_string())?;
    let mut layer = Layer { file: "policy".into(), written: Vec::new(), ..own };
    let patterns: BTreeSet<&str> = words.iter().filter(|word| !word.contains('=')).map(String::as_str).collect();
    let patterns = if patterns.is_empty() { BTreeSet::from(["w"]) } else { patterns };
    for pattern in patterns {
        layer.units.push(Setting { value: UnitPattern::parse(pattern)?, from: Source("policy".into()) });
    }
    for (key, value) in words.iter().filter_map(|word| word.split_once('=')) {
        match key {
            "back-off" => {
                let (first, cap) = value.split_once("..").unwrap_or((value, value));
                layer.back_off = from_policy(BackOff { first: span(first)?, cap: span(cap)? });
            }
            "budget" => {
                let (attempts, window) = value.split_once('/').ok_or("N/TIME")?;
                let attempts = attempts.parse().map_err(|_| "a number of attempts")?;
                layer.budget = from_policy(Budget { attempts, window: span(window)? });
            }
            "reset-after" => layer.reset_after = from_policy(span(value)?),
            "verify" => layer.verify = from_policy(span(value)?),
            "grace" => layer.grace = from_policy(span(value)?),
            "on-exhausted" => {
                layer.on_exhausted =
                    from_policy(if value == "stop" { OnExhausted::Stop } else { OnExhausted::Quarantine });
            }
            "after-success" => {
                layer.after_success =
                    from_policy(if value == "restart" { AfterSuccess::Restart } else { AfterSuccess::Complete });
            }
            "progress-notify" => layer.progress_notify = from_policy(value == "true"),
            _ if is_spelt_out(key) => {}
            _ => {
                let name = key.strip_prefix("cause.").ok_or(format!("unknown key {key}"))?;
                let (name, about) = name.split_once('.').unwrap_or((name, "action"));
                let cause = Cause::parse(name).ok_or(format!("unknown key {key}"))?;
                let policy = layer.causes.entry(cause).or_default();
                if about == "count" {
                    let (count, window) = value.split_once('/').ok_or("N/TIME")?;
                    let attempts = count.parse().map_err(|_| "a number")?;
                    policy.count = from_policy(Budget { attempts, window: span(window)? });
                    continue;
                }
                if about == "when-running" {
                    let when = [WhenRunning::Ignore, WhenRunning::Warn, WhenRunning::Incident];
                    let when = when.into_iter().find(|when| when.text() == value).ok_or("a reaction")?;
                    policy.when_running = from_policy(when);
                    continue;
                }
                let action = match value {
                    "restart" => CauseAction::Restart,
                    "hold" => CauseAction::Hold,
                    "quarantine" => CauseAction::Quarantine,
                    "stop" => CauseAction::Stop,
                    "ignore" => CauseAction::Ignore,
                    _ => return Err(format!("unknown action {value}")),
                };
                policy.action = from_policy(action);
            }
        }
    }
    Ok(layer)
}

fn is_spelt_out(key: &str) -> bool {
    key.starts_with("progress.") || key.starts_with("limits.") || key.starts_with("restart.")
}

pub fn settings(words: &[String]) -> Result<Settings, String> {
    let mut settings = Settings { dry_run: flag(words, "dry-run"), ..Settings::default() };
    if let Some(jobs) = option(words, "max-jobs") {
        settings.max_jobs = jobs.parse().map_err(|_| "a number of jobs")?;
    }
    if let Some(keep) = option(words, "keep-finished") {
        settings.keep_finished = span(keep)?;
    }
    Ok(settings)
}

pub fn traits(words: &[String]) -> Result<UnitTraits, String> {
    let (burst, interval) = option(words, "limit").and_then(|text| text.split_once('/')).unwrap_or(("0", "0"));
    Ok(UnitTraits {
        restarts_itself: flag(words, "restart"),
        watchdog: option(words, "watchdog").map(span).transpose()?,
        can_freeze: flag(words, "can-freeze"),
        start_limit_burst: burst.parse().map_err(|_| "a burst")?,
        start_limit_interval: span(interval)?,
        oneshot: flag(words, "oneshot"),
        transient: flag(words, "transient"),
    })
}

/// One layer from one line, for tests that make their own policies.
pub fn layer_of(text: &str) -> Arc<Layer> {
    layer(&words(text)).expect("a valid policy").into()
}
