// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the text of a file to a layer or the settings; every complaint names the file, the line, the key and what is
//! allowed. An unknown key is a warning; a wrong value rejects the file.

use super::value::{back_off, budget, nearest, span, span_in};
use super::{Complaint, Severity};
use crate::engine::cause::Cause;
use crate::engine::policy::{
    AfterSuccess, CauseAction, KEYS, Layer, OnExhausted, Setting, Settings, Source, UnitPattern,
};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Complaints about one file; more of them help nobody.
const COMPLAINTS_MAX: usize = 50;
/// Patterns in one file.
const UNITS_MAX: usize = 1000;

/// The keys of watcherd.toml.
pub const SETTINGS_KEYS: &[&str] =
    &["manager.dry-run", "manager.max-jobs", "manager.keep-incidents", "manager.keep-finished"];

/// Keys that are documented and will have an effect later; rows leave this table as they are built.
const LATER: &[(&str, &[&str])] = &[
    ("worker", &["dry-run"]),
    (
        "progress",
        &[
            "file", "journal", "http", "command", "count", "mtime", "heartbeat", "value", "active", "pending", "failed",
            "cursor", "stall-after", "stall-min", "stall-max", "warm-up", "stalled-when", "strikes", "complete-when",
            "interval",
        ],
    ),
    ("restart", &["same-cause", "cooldown", "then", "settle"]),
    ("limits", &[]),
    ("parameters", &[]),
    ("checkpoints", &[]),
];
const LATER_CAUSE: &[&str] = &["scale", "set", "unset", "until", "back-off", "budget", "when-running", "verify"];

type Table<'a> = DeTable<'a>;

/// Reads one file and collects what is wrong with it.
pub(super) struct Checker<'a> {
    /// What messages call the file.
    file: &'a str,
    text: &'a str,
    /// `FILE:LINE` for a file; a fixed text for settings that came in another way.
    source: Option<&'a str>,
    pub complaints: Vec<Complaint>,
}

impl<'a> Checker<'a> {
    pub fn new(file: &'a str, text: &'a str, source: Option<&'a str>) -> Checker<'a> {
        Checker { file, text, source, complaints: Vec::new() }
    }

    fn parse(&mut self) -> Option<Table<'a>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table.into_inner()),
            Err(error) => {
                self.complain(Severity::Error, "", error.span().unwrap_or(0..0), error.message().to_owned());
                None
            }
        }
    }

    /// Reads a policy for workers; `None` if it cannot be used.
    pub fn layer(&mut self) -> Option<Layer> {
        let table = self.parse()?;
        let mut layer = Layer { file: self.file.to_owned(), ..Layer::default() };
        for (key, value) in in_order(&table) {
            let name = key.get_ref().as_ref();
            match (name, value.get_ref().as_table()) {
                ("worker" | "progress" | "restart", Some(inner)) => self.section(name, inner, &mut layer),
                ("cause", Some(causes)) => self.causes(causes, &mut layer),
                ("worker" | "progress" | "restart" | "cause", None) => {
                    self.complain(Severity::Error, name, key.span(), format!("must be a table: [{name}]"));
                }
                _ if is_later(name, None) => self.later(name, key.span()),
                _ => self.unknown("", name, key.span(), ["worker", "progress", "restart", "cause"]),
            }
        }
        self.usable().then_some(layer)
    }

    /// Reads watcherd.toml.
    pub fn settings(&mut self) -> Option<Settings> {
        let table = self.parse()?;
        let mut settings = Settings::default();
        for (key, value) in in_order(&table) {
            let name = key.get_ref().as_ref();
            match (name, value.get_ref().as_table()) {
                ("manager", Some(inner)) => {
                    for (key, value) in in_order(inner) {
                        self.setting(key, value, &mut settings);
                    }
                }
                ("manager", None) => {
                    self.complain(Severity::Error, name, key.span(), "must be a table: [manager]".into());
                }
                _ => self.unknown("", name, key.span(), ["manager"]),
            }
        }
        self.usable().then_some(settings)
    }

    fn setting(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, into: &mut Settings) {
        let name = format!("manager.{}", key.get_ref());
        let day = Duration::from_secs(86_400);
        match name.as_str() {
            "manager.dry-run" => self.put(&name, value, boolean, |found| into.dry_run = found.value),
            "manager.max-jobs" => self.put(&name, value, max_jobs, |found| into.max_jobs = found.value),
            "manager.keep-incidents" => {
                let read = |value: &DeValue<'_>| span_in(text(value)?, day..=day * 3650);
                self.put(&name, value, read, |found| into.keep_incidents = found.value);
            }
            "manager.keep-finished" => {
                let read = |value: &DeValue<'_>| span_in(text(value)?, Duration::ZERO..=day * 365);
                self.put(&name, value, read, |found| into.keep_finished = found.value);
            }
            _ => {
                let known = SETTINGS_KEYS.iter().filter_map(|key| key.strip_prefix("manager."));
                self.unknown("manager", key.get_ref(), key.span(), known);
            }
        }
    }

    fn section(&mut self, section: &str, table: &Table<'_>, layer: &mut Layer) {
        for (key, value) in in_order(table) {
            let name = format!("{section}.{}", key.get_ref());
            match name.as_str() {
                "worker.unit" | "worker.units" => self.units(&name, value, layer),
                "worker.after-success" => {
                    let read = |value: &DeValue<'_>| {
                        choice(
                            text(value)?,
                            &[("complete", AfterSuccess::Complete), ("restart", AfterSuccess::Restart)],
                        )
                    };
                    self.put(&name, value, read, |found| layer.after_success = Some(found));
                }
                "progress.notify" => self.put(&name, value, boolean, |found| layer.progress_notify = Some(found)),
                "progress.total" => self.put(&name, value, total, |found| layer.progress_total = Some(found)),
                "restart.back-off" => {
                    self.put(&name, value, |value| back_off(text(value)?), |found| layer.back_off = Some(found));
                }
                "restart.budget" => {
                    self.put(&name, value, |value| budget(text(value)?), |found| layer.budget = Some(found));
                }
                "restart.reset-after" => {
                    self.put(&name, value, healthy_span, |found| layer.reset_after = Some(found));
                }
                "restart.verify" => self.put(&name, value, healthy_span, |found| layer.verify = Some(found)),
                "restart.grace" => self.put(&name, value, grace, |found| layer.grace = Some(found)),
                "restart.on-exhausted" => self.on_exhausted(&name, value, layer),
                _ if is_later(section, Some(key.get_ref())) => self.later(&name, key.span()),
                _ => {
                    let prefix = format!("{section}.");
                    let known = KEYS.iter().filter_map(|key| key.strip_prefix(prefix.as_str())).collect::<Vec<_>>();
                    let named = if section == "worker" { &["unit", "units"][..] } else { &[] };
                    let later = LATER.iter().filter(|(table, _)| *table == section).flat_map(|(_, keys)| *keys);
                    let known = known.into_iter().chain(named.iter().copied()).chain(later.copied());
                    self.unknown(section, key.get_ref(), key.span(), known);
                }
            }
        }
    }

    fn on_exhausted(&mut self, name: &str, value: &Spanned<DeValue<'_>>, layer: &mut Layer) {
        const CHOICES: [(&str, Option<OnExhausted>); 3] = [
            ("quarantine", Some(OnExhausted::Quarantine)),
            ("stop", Some(OnExhausted::Stop)),
            ("next-remedy", None),
        ];
        let mut later = false;
        let read = |value: &DeValue<'_>| choice(text(value)?, &CHOICES);
        self.put(name, value, read, |found| {
            later = found.value.is_none();
            let value = found.value.unwrap_or(OnExhausted::Quarantine);
            layer.on_exhausted = Some(Setting { value, from: found.from });
        });
        if later {
            let text = "this version has no further remedies; \"quarantine\" is used instead".into();
            self.complain(Severity::Warning, name, value.span(), text);
        }
    }

    fn units(&mut self, name: &str, value: &Spanned<DeValue<'_>>, layer: &mut Layer) {
        let single = name == "worker.unit";
        let rows: Vec<_> = match value.get_ref() {
            DeValue::String(_) if single => vec![value],
            DeValue::Array(rows) if !single => rows.iter().collect(),
            _ => {
                let wanted = if single { "one unit name in quotes" } else { "a list of unit names in quotes" };
                self.complain(Severity::Error, name, value.span(), format!("{wanted} is wanted"));
                return;
            }
        };
        if rows.len() > UNITS_MAX {
            let text = format!("{} patterns; at most {UNITS_MAX} are allowed", rows.len());
            self.complain(Severity::Error, name, value.span(), text);
            return;
        }
        for row in rows {
            let read = |value: &DeValue<'_>| {
                let text = text(value)?;
                UnitPattern::parse(text).map_err(|why| format!("{}: {why}", shown(text)))
            };
            self.put(name, row, read, |found| layer.units.push(found));
        }
    }

    fn causes(&mut self, causes: &Table<'_>, layer: &mut Layer) {
        const ACTIONS: [(&str, CauseAction); 5] = [
            ("restart", CauseAction::Restart),
            ("hold", CauseAction::Hold),
            ("quarantine", CauseAction::Quarantine),
            ("stop", CauseAction::Stop),
            ("ignore", CauseAction::Ignore),
        ];
        for (name, value) in in_order(causes) {
            let Some(cause) = Cause::parse(name.get_ref()) else {
                let known = Cause::ALL.iter().map(|cause| cause.as_str());
                self.unknown("cause", name.get_ref(), name.span(), known);
                continue;
            };
            let Some(table) = value.get_ref().as_table() else {
                let text = format!("must be a table: [cause.{cause}]");
                self.complain(Severity::Error, cause.as_str(), name.span(), text);
                continue;
            };
            for (key, value) in in_order(table) {
                let name = format!("cause.{cause}.{}", key.get_ref());
                match key.get_ref().as_ref() {
                    "action" => {
                        let read = |value: &DeValue<'_>| choice(text(value)?, &ACTIONS);
                        self.put(&name, value, read, |found| {
                            layer.causes.insert(cause, found);
                        });
                    }
                    key_name if LATER_CAUSE.contains(&key_name) => self.later(&name, key.span()),
                    key_name => {
                        let known = LATER_CAUSE.iter().copied().chain(["action"]);
                        self.unknown(&format!("cause.{cause}"), key_name, key.span(), known);
                    }
                }
            }
        }
    }

    /// Reads a value and puts it where it belongs, or complains.
    fn put<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
        into: impl FnOnce(Setting<T>),
    ) {
        let has_control = value.get_ref().as_str().is_some_and(|text| text.contains(char::is_control));
        let read = if has_control { Err("control characters are not allowed".into()) } else { read(value.get_ref()) };
        match read {
            Ok(read) => into(Setting { value: read, from: self.source_at(value.span()) }),
            Err(text) => self.complain(Severity::Error, key, value.span(), text),
        }
    }

    fn source_at(&self, span: Range<usize>) -> Source {
        match self.source {
            Some(source) => Source(source.into()),
            None => Source(format!("{}:{}", self.file, self.place(span).0).into()),
        }
    }

    fn unknown<'k>(
        &mut self,
        section: &str,
        key: &str,
        at: Range<usize>,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let what = if section.is_empty() { "table" } else { "key" };
        let hint = match nearest(key, known) {
            Some(word) => format!("; did you mean {word:?}?"),
            None => String::new(),
        };
        let full = if section.is_empty() { shown(key) } else { format!("{section}.{}", shown(key)) };
        self.complain(Severity::Warning, &full, at, format!("unknown {what}, ignored{hint}"));
    }

    fn later(&mut self, key: &str, at: Range<usize>) {
        let text = "is not supported by this version and has no effect".into();
        self.complain(Severity::Warning, key, at, text);
    }

    fn usable(&self) -> bool {
        self.complaints.iter().all(|complaint| complaint.severity == Severity::Warning)
    }

    fn complain(&mut self, severity: Severity, key: &str, at: Range<usize>, text: String) {
        let is_first_error = severity == Severity::Error && self.usable();
        if self.complaints.len() >= COMPLAINTS_MAX && !is_first_error {
            return;
        }
        let (line, column) = if self.source.is_some() { (0, 0) } else { self.place(at) };
        self.complaints.push(Complaint { severity, file: self.file.to_owned(), line, column, key: key.into(), text });
    }

    /// Line and column, from one.
    fn place(&self, at: Range<usize>) -> (usize, usize) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }
}

/// The rows of a table as they stand in the file.
fn in_order<'t, 'i>(
    table: &'t Table<'i>,
) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(key, _)| key.span().start);
    rows
}

fn is_later(section: &str, key: Option<&str>) -> bool {
    LATER.iter().any(|(table, keys)| {
        *table == section
            && match key {
                None => keys.is_empty(),
                Some(key) => keys.contains(&key),
            }
    })
}

fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("a text in quotes is wanted, not a {}", value.type_str()))
}

fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    match value.as_bool() {
        Some(value) => Ok(value),
        None => match value.as_str() {
            Some("true" | "yes" | "on") => Ok(true),
            Some("false" | "no" | "off") => Ok(false),
            _ => Err("true or false is wanted".into()),
        },
    }
}

fn number(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(integer) => u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok(),
        DeValue::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn total(value: &DeValue<'_>) -> Result<Option<u64>, String> {
    number(value).filter(|total| *total > 0).map(Some).ok_or_else(|| "a whole number above 0 is wanted".into())
}

fn max_jobs(value: &DeValue<'_>) -> Result<u32, String> {
    let found = number(value).and_then(|jobs| u32::try_from(jobs).ok()).filter(|jobs| (1..=128).contains(jobs));
    found.ok_or_else(|| "a whole number from 1 to 128 is wanted".into())
}

fn healthy_span(value: &DeValue<'_>) -> Result<Duration, String> {
    span_in(text(value)?, Duration::ZERO..=Duration::from_secs(30 * 86_400))
}

fn grace(value: &DeValue<'_>) -> Result<Duration, String> {
    let grace = span(text(value)?)?;
    if grace > Duration::from_secs(86_400) { Err("at most 1d is allowed".into()) } else { Ok(grace) }
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("{} is not one of {}", shown(text), words.join(", "))
    })
}

/// A text from a file, fit for a message.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    let quoted = format!("{cut:?}");
    if text.chars().count() > 80 { format!("{quoted}…") } else { quoted }
}
