// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file's text, turned into a [`Layer`] or [`Settings`], with every complaint at its line.
//!
//! An unknown name is a warning, because a file may be written for a newer version. A wrong value is an error, and the
//! file is then refused as a whole, because half a policy is not what anybody wrote.

use super::complaint::{Complaint, Severity};
use super::dirs::shown;
use super::given::{Given, set_manager, set_policy};
use super::keys::{self, Name};
use super::remedy::{doubtful_changes, set_cause, set_parameter};
use crate::engine::cause::Cause;
use crate::engine::policy::{Layer, Setting, Settings, Source, UnitPattern};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Most complaints about one file that are kept.
pub const COMPLAINTS_MAX: usize = 100;
/// Most patterns in one file.
pub const PATTERNS_MAX: usize = 1024;

type Key<'i> = Spanned<DeString<'i>>;
type Value<'i> = Spanned<DeValue<'i>>;

/// What a file says, and what is wrong with it.
pub struct Checked<T> {
    /// Absent if the file is refused, or says nothing.
    pub content: Option<T>,
    pub refused: bool,
    pub complaints: Vec<Complaint>,
}

/// Reads a policy file. A file without any table says nothing, and nothing is wrong with it.
pub fn worker_file(path: &Path, text: &str) -> Checked<Layer> {
    let mut checker = Checker::new(path, text);
    let Some(root) = checker.parse() else {
        return checker.end(None);
    };
    if root.get_ref().is_empty() {
        return checker.end(None);
    }
    let mut layer = Layer { file: checker.file.clone(), ..Layer::default() };
    for (table, value) in in_order(root.get_ref()) {
        let name = name_at_top(table, value, keys::worker_table, keys::worker_key);
        match value.get_ref() {
            _ if checker.skips(&name, table, table.get_ref()) => {}
            DeValue::Table(causes) if table.get_ref() == "cause" => checker.causes(&mut layer, causes),
            DeValue::Table(entries) if table.get_ref() == "parameters" => checker.parameters(&mut layer, entries),
            DeValue::Table(entries) => checker.policy_table(&mut layer, table.get_ref(), entries),
            other => checker.no_table(table, other),
        }
    }
    for (severity, from, key, text) in doubtful_changes(&layer) {
        checker.complain_at(severity, &from, key, text);
    }
    if layer.units.is_empty() && !checker.refused {
        let header =
            root.get_ref().iter().find(|(key, _)| key.get_ref() == "worker").map_or(0..0, |(key, _)| key.span());
        let text = "no unit is named; write unit = \"NAME.service\" or units = [\"GLOB\", …]";
        checker.complain(Severity::Error, header, "worker", text);
    }
    checker.end(Some(layer))
}

/// A line of the settings file that has an effect: key and source.
pub type SettingsLine = (&'static str, Source);

/// Reads `watcherd.toml`.
pub fn settings_file(path: &Path, text: &str) -> Checked<(Settings, Vec<SettingsLine>)> {
    let mut checker = Checker::new(path, text);
    let Some(root) = checker.parse() else {
        return checker.end(None);
    };
    let (mut settings, mut lines) = (Settings::default(), Vec::new());
    for (table, value) in in_order(root.get_ref()) {
        let name = name_at_top(table, value, keys::settings_table, keys::settings_key);
        match value.get_ref() {
            _ if checker.skips(&name, table, table.get_ref()) => {}
            DeValue::Table(entries) => {
                for (key, value) in in_order(entries) {
                    let full = format!("{}.{}", table.get_ref(), key.get_ref());
                    if checker.skips(&keys::settings_key(table.get_ref(), key.get_ref()), key, &full) {
                        continue;
                    }
                    let given = Given::new(value.get_ref());
                    match (set_manager(&mut settings, &full, given), keys::SETTINGS_KEYS.iter().find(|k| **k == full)) {
                        (Ok(()), Some(known)) => lines.push((*known, checker.source(key.span()))),
                        (Ok(()), None) => {}
                        (Err(text), _) => checker.complain(Severity::Error, value.span(), &full, text),
                    }
                }
            }
            other => checker.no_table(table, other),
        }
    }
    checker.end(Some((settings, lines)))
}

/// Reads `KEY=VALUE` pairs that belong to one worker, as `restart.budget` = `5/1h` or `cause.segfault.action` = `hold`.
///
/// `what` says in messages who gave them, as in `watcherctl run`. Here an unknown key is an error too: somebody waits
/// for the answer.
pub fn own_layer(pairs: &[(String, String)], what: &str) -> Result<Layer, Complaint> {
    let mut layer = Layer { written: pairs.to_vec(), ..Layer::default() };
    let from = Source(what.into());
    for (at, (key, value)) in pairs.iter().enumerate() {
        let refuse = |text: String| Complaint { key: shown_key(key), ..Complaint::about(Severity::Error, what, text) };
        if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
            return Err(refuse("is given twice".into()));
        }
        if value.len() > ARGUMENT_MAX {
            return Err(refuse(format!("the value is {} bytes long, {ARGUMENT_MAX} are allowed", value.len())));
        }
        own_setting(&mut layer, key, value, &from).map_err(refuse)?;
    }
    Ok(layer)
}

/// Reads keys and values that each have a source of their own, as a recording holds them.
pub fn layer_of(settings: &[(String, String, Source)]) -> Result<Layer, String> {
    let mut layer = Layer::default();
    for (key, value, from) in settings {
        own_setting(&mut layer, key, value, from).map_err(|text| format!("{key}: {text}"))?;
    }
    Ok(layer)
}

/// Reads keys and values of the settings file.
pub fn settings_of(pairs: &[(String, String)]) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for (key, value) in pairs {
        set_manager(&mut settings, key, Given::Argument(value)).map_err(|text| format!("{key}: {text}"))?;
    }
    Ok(settings)
}

/// Longest value of a `KEY=VALUE` pair, in bytes.
const ARGUMENT_MAX: usize = 1024;

fn own_setting(layer: &mut Layer, key: &str, value: &str, from: &Source) -> Result<(), String> {
    let Some((table, rest)) = key.split_once('.') else {
        return Err(plain_unknown(&keys::worker_key("", key)));
    };
    if keys::UNIT_KEYS.contains(&key) {
        return Err("cannot be given here, the policy belongs to one worker already".into());
    }
    if table == "parameters" {
        return super::remedy::set_parameter(layer, rest, Given::Argument(value), from.clone());
    }
    if table != "cause" {
        return match (keys::worker_table(table), keys::worker_key(table, rest)) {
            (Name::Known, Name::Known) => set_policy(layer, key, Given::Argument(value), from.clone()).map(drop),
            (Name::Known, other) | (other, _) => Err(plain_unknown(&other)),
        };
    }
    let Some((name, rest)) = rest.rsplit_once('.') else {
        return Err("write cause.NAME.action, as in cause.segfault.action".into());
    };
    let Some(cause) = Cause::parse(name) else {
        return Err(without_effect(&keys::unknown_cause(name)));
    };
    match keys::cause_key(rest) {
        Name::Known => set_cause(layer.causes.entry(cause).or_default(), rest, Given::Argument(value), from.clone()),
        other => Err(plain_unknown(&other)),
    }
}

fn plain_unknown(name: &Name) -> String {
    match name {
        Name::Known => "a value is expected".into(),
        Name::Unsupported => "is not supported by this version".into(),
        Name::Unknown(text) => without_effect(text),
    }
}

/// In a refusal nothing has an effect, so that it goes without saying.
fn without_effect(text: &str) -> String {
    text.replace(", it has no effect", "").replace("; it has no effect here", "")
}

const UNSUPPORTED_TEXT: &str = "is not supported by this version and has no effect";

/// Reads one file and collects what is wrong with it.
struct Checker<'t> {
    file: String,
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    complaints: Vec<Complaint>,
    /// Complaints beyond the limit.
    untold: usize,
    refused: bool,
}

impl<'t> Checker<'t> {
    fn new(path: &Path, text: &'t str) -> Checker<'t> {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Checker {
            file: shown(path),
            text,
            lines: std::iter::once(0).chain(newlines).collect(),
            complaints: Vec::new(),
            untold: 0,
            refused: false,
        }
    }

    /// Only the first syntax error is told: the others mostly follow from it.
    fn parse(&mut self) -> Option<Spanned<DeTable<'t>>> {
        // TOML allows them nowhere, and the parser's own words for them are about strings.
        let control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\r".contains(byte);
        if let Some((at, byte)) = self.text.as_bytes().iter().enumerate().find(|(_, byte)| control(byte)) {
            let text = format!("not valid TOML: the control character 0x{byte:02x} is not allowed");
            self.complain(Severity::Error, at..at, "", text);
            return None;
        }
        match DeTable::parse(self.text) {
            Ok(root) => Some(root),
            Err(error) => {
                let text = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
                self.complain(Severity::Error, error.span().unwrap_or(0..0), "", text);
                None
            }
        }
    }

    fn policy_table(&mut self, layer: &mut Layer, table: &str, entries: &DeTable<'_>) {
        for (key, value) in in_order(entries) {
            let full = format!("{table}.{}", key.get_ref());
            if self.skips(&keys::worker_key(table, key.get_ref()), key, &full) {
                continue;
            }
            if keys::UNIT_KEYS.contains(&full.as_str()) {
                self.units(layer, &full, value);
                continue;
            }
            match set_policy(layer, &full, Given::new(value.get_ref()), self.source(key.span())) {
                Ok(None) => {}
                Ok(Some(warning)) => self.complain(Severity::Warning, value.span(), &full, warning),
                Err(text) => self.complain(Severity::Error, value.span(), &full, text),
            }
        }
    }

    fn units(&mut self, layer: &mut Layer, key: &str, value: &Value<'_>) {
        match (key, value.get_ref()) {
            ("worker.unit", DeValue::String(text)) => self.unit(layer, key, text, value.span()),
            ("worker.units", DeValue::Array(units)) => {
                if units.len() > PATTERNS_MAX {
                    let text = format!("{} patterns, at most {PATTERNS_MAX} are allowed in one file", units.len());
                    return self.complain(Severity::Error, value.span(), key, text);
                }
                if units.is_empty() {
                    return self.complain(Severity::Error, value.span(), key, "the list is empty");
                }
                for unit in units.iter() {
                    match unit.get_ref() {
                        DeValue::String(text) => self.unit(layer, key, text, unit.span()),
                        other => {
                            let text = format!("a text in quotes is expected, not a {}", Given::new(other).kind());
                            self.complain(Severity::Error, unit.span(), key, text);
                        }
                    }
                }
            }
            ("worker.unit", DeValue::Array(_)) => {
                let text = "one text in quotes is expected; several units are written as units = [\"…\", \"…\"]";
                self.complain(Severity::Error, value.span(), key, text);
            }
            ("worker.unit", other) => {
                let kind = Given::new(other).kind();
                let text = format!("a text in quotes is expected, as in \"train.service\", not a {kind}");
                self.complain(Severity::Error, value.span(), key, text);
            }
            (_, other) => {
                let text =
                    format!("a list is expected, as in [\"train@*.service\"], not a {}", Given::new(other).kind());
                self.complain(Severity::Error, value.span(), key, text);
            }
        }
    }

    fn unit(&mut self, layer: &mut Layer, key: &str, text: &str, span: Range<usize>) {
        match UnitPattern::parse(text) {
            Ok(pattern) => {
                if ["*", "*.service"].contains(&pattern.as_str()) {
                    let text = "matches every service of the machine, also those that the system itself needs";
                    self.complain(Severity::Warning, span.clone(), key, format!("\"{pattern}\" {text}"));
                }
                if layer.units.iter().all(|known| known.value != pattern) {
                    layer.units.push(Setting { value: pattern, from: self.source(span) });
                }
            }
            Err(error) => {
                let text = format!("{}: {error}", super::value::quoted(text));
                self.complain(Severity::Error, span, key, text);
            }
        }
    }

    fn causes(&mut self, layer: &mut Layer, causes: &DeTable<'_>) {
        for (name, value) in in_order(causes) {
            let below = format!("cause.{}", name.get_ref());
            let Some(cause) = Cause::parse(name.get_ref()) else {
                self.complain(Severity::Warning, name.span(), &below, keys::unknown_cause(name.get_ref()));
                continue;
            };
            let DeValue::Table(entries) = value.get_ref() else {
                let text = format!("a table is expected; write [{below}] and action = \"…\" below it");
                self.complain(Severity::Error, value.span(), &below, text);
                continue;
            };
            for (key, value) in in_order(entries) {
                let full = format!("{below}.{}", key.get_ref());
                if self.skips(&keys::cause_key(key.get_ref()), key, &full) {
                    continue;
                }
                let from = self.source(key.span());
                let policy = layer.causes.entry(cause).or_default();
                if let Err(text) = set_cause(policy, key.get_ref(), Given::new(value.get_ref()), from) {
                    self.complain(Severity::Error, value.span(), &full, text);
                }
            }
        }
    }

    fn parameters(&mut self, layer: &mut Layer, entries: &DeTable<'_>) {
        for (name, value) in in_order(entries) {
            let from = self.source(name.span());
            if let Err(text) = set_parameter(layer, name.get_ref(), Given::new(value.get_ref()), from) {
                let key = format!("parameters.{}", name.get_ref());
                self.complain(Severity::Error, value.span(), &key, text);
            }
        }
    }

    /// Warns about a name that has no effect, and says whether it is one.
    fn skips(&mut self, name: &Name, key: &Key<'_>, full: &str) -> bool {
        match name {
            Name::Known => false,
            Name::Unsupported => {
                self.complain(Severity::Warning, key.span(), full, UNSUPPORTED_TEXT);
                true
            }
            Name::Unknown(text) => {
                self.complain(Severity::Warning, key.span(), full, text.as_str());
                true
            }
        }
    }

    /// A value where a table should be.
    fn no_table(&mut self, key: &Key<'_>, value: &DeValue<'_>) {
        let name = key.get_ref();
        let text = match value {
            DeValue::Array(_) => format!("one table is expected, [{name}], not a list"),
            other => format!("a table is expected, [{name}], not a {}", Given::new(other).kind()),
        };
        self.complain(Severity::Error, key.span(), name, text);
    }

    fn complain(&mut self, severity: Severity, span: Range<usize>, key: &str, text: impl Into<String>) {
        self.refused |= severity == Severity::Error;
        // A file with many warnings must still show its errors.
        let told = self.complaints.iter().filter(|complaint| complaint.severity == severity).count();
        if told >= COMPLAINTS_MAX / 2 {
            self.untold += 1;
            return;
        }
        let (line, column) = self.place(span.start);
        let key = shown_key(key);
        self.complaints.push(Complaint { severity, file: self.file.clone(), line, column, key, text: text.into() });
    }

    /// Complains about a line that was read already.
    fn complain_at(&mut self, severity: Severity, from: &Source, key: String, text: String) {
        self.refused |= severity == Severity::Error;
        let line = from.0.rsplit_once(':').and_then(|(_, line)| line.parse().ok()).unwrap_or(0);
        self.complaints.push(Complaint { severity, file: self.file.clone(), line, column: 1, key, text });
    }

    /// Line and column of a byte, both counted from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let before = self.text.get(self.lines[line - 1]..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    fn source(&self, span: Range<usize>) -> Source {
        Source(format!("{}:{}", self.file, self.place(span.start).0).into())
    }

    fn end<T>(mut self, content: Option<T>) -> Checked<T> {
        self.complaints.sort_by_key(|complaint| (complaint.line, complaint.column));
        if self.untold > 0 {
            let text = format!("and {} more complaints", self.untold);
            self.complaints.push(Complaint::about(Severity::Warning, self.file, text));
        }
        Checked { content: content.filter(|_| !self.refused), refused: self.refused, complaints: self.complaints }
    }
}

/// Judges a name outside of any table: a table's, or that of a key whose table header is missing.
fn name_at_top(key: &Key<'_>, value: &Value<'_>, table: fn(&str) -> Name, entry: fn(&str, &str) -> Name) -> Name {
    match table(key.get_ref()) {
        Name::Unknown(_) if !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_)) => {
            entry("", key.get_ref())
        }
        name => name,
    }
}

/// The entries in the order of the file; the parser sorts them by name.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Key<'i>, &'a Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A key for messages: a quoted key may hold anything, and be of any length.
fn shown_key(key: &str) -> String {
    const LONGEST: usize = 80;
    let mut line: String = key.chars().take(LONGEST).flat_map(|c| c.escape_debug()).collect();
    if key.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
