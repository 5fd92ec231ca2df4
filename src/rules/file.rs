// SPDX-License-Identifier: MIT OR Apache-2.0
//! One rule file: its TOML text, turned into rules, with every fault at its line.
//!
//! A rule with a fault is left out and told; the others of the file count.

use super::matcher::{compile, literals};
use super::rule::{Rule, Table, usual_weight};
use crate::engine::cause::Cause;
use crate::engine::evidence::{Role, Source};
use regex::bytes::Regex;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Most rules in one file.
pub const RULES_MAX: usize = 1_000;
/// Most texts in one list of a rule.
const LIST_MAX: usize = 100;
/// Longest text in a list, in bytes.
const TEXT_MAX: usize = 4_096;
/// Most faults of one file that are told.
const FAULTS_MAX: usize = 50;
const NAME_MAX: usize = 80;
const WITHIN: u64 = 40;
const WITHIN_MAX: u64 = 1_000;

const KEYS: &[&str] = &[
    "name",
    "cause",
    "role",
    "weight",
    "sources",
    "patterns",
    "needs",
    "unless",
    "excuses",
    "doubts",
    "resolves",
    "within",
    "explains",
    "also",
    "at-least",
    "table",
    "advice",
    "examples",
    "counter-examples",
];

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The key, or the rule's name and the key; empty if it is about neither.
    pub key: String,
    pub text: String,
    /// It has no effect, but does no harm.
    pub mild: bool,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFile {
    pub rules: Vec<Rule>,
    pub faults: Vec<Fault>,
}

impl RuleFile {
    /// Reads a file. `file` is its name in messages; `Examples::Skip` spares the work of proving the examples.
    pub fn parse(file: &str, text: &str, examples: Examples) -> RuleFile {
        let mut reader = Reader { file, text, examples, found: RuleFile::default(), rule: String::new() };
        match DeTable::parse(text) {
            Ok(root) => reader.root(root.get_ref()),
            Err(error) => {
                let told = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
                reader.fault(error.span().unwrap_or(0..0), "", told);
            }
        }
        reader.found.faults.sort_by_key(|fault| (fault.line, fault.column));
        reader.found
    }
}

/// Whether patterns are compiled and tried on the examples of their rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examples {
    Prove,
    /// For files that are known to be good.
    Skip,
}

type Key<'i> = Spanned<DeString<'i>>;
type Value<'i> = Spanned<DeValue<'i>>;
type Texts = Vec<(String, Range<usize>)>;

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    examples: Examples,
    found: RuleFile,
    /// The name of the rule that is being read, for messages.
    rule: String,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) {
        for (key, value) in in_order(root) {
            if key.get_ref() != "rule" {
                self.warn(key.span(), key.get_ref(), "is unknown and has no effect; write [[rule]]".to_owned());
                continue;
            }
            let DeValue::Array(entries) = value.get_ref() else {
                self.fault(key.span(), "rule", "write [[rule]] with two pairs of brackets".to_owned());
                continue;
            };
            if entries.len() > RULES_MAX {
                let told = format!("{} rules, {RULES_MAX} are allowed in one file", entries.len());
                self.fault(key.span(), "rule", told);
            }
            for entry in entries.iter().take(RULES_MAX) {
                match entry.get_ref() {
                    DeValue::Table(table) => self.one(table, entry.span()),
                    _ => self.fault(entry.span(), "rule", "a table is expected".to_owned()),
                }
            }
        }
    }

    fn one(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let before = self.grave();
        self.rule.clear();
        for (key, _) in in_order(table) {
            if !KEYS.contains(&key.get_ref().as_ref()) {
                let told = format!("is unknown and has no effect; known are {}", KEYS.join(", "));
                self.warn(key.span(), key.get_ref(), told);
            }
        }
        let Some(name) = self.name(table, &span) else { return };
        self.rule.clone_from(&name);
        let role = self.choice(table, "role", Role::ALL, Role::as_str).unwrap_or(Role::Proof);
        let cause = self.cause(table, role, &span);
        let sources = self.choices(table, "sources", Source::ALL, Source::as_str);
        let patterns = self.texts(table, "patterns");
        if patterns.is_empty() {
            self.fault(span.clone(), "patterns", "a rule needs at least one".to_owned());
        }
        let compiled = self.compile(&patterns);
        let examples = self.texts(table, "examples");
        let counter_examples = self.texts(table, "counter-examples");
        self.prove(&compiled, &examples, &counter_examples);
        let table_name = self.choice(table, "table", &[Table::Xid], |_| "xid");
        let rule = Rule {
            cause,
            role,
            weight: self
                .number(table, "weight", 0..=100)
                .map_or_else(|| usual_weight(role), |weight| u8::try_from(weight).unwrap_or(100)),
            sources: if sources.is_empty() { vec![Source::Output] } else { sources },
            patterns: patterns.into_iter().map(|(text, _)| text).collect(),
            needs: plain(self.texts(table, "needs")),
            unless: plain(self.texts(table, "unless")),
            excuses: self.choices(table, "excuses", Cause::ALL, Cause::as_str),
            doubts: self.choices(table, "doubts", Cause::ALL, Cause::as_str),
            resolves: self.choices(table, "resolves", Cause::ALL, Cause::as_str),
            within: self.number(table, "within", 0..=WITHIN_MAX).unwrap_or(WITHIN),
            explains: self.choices(table, "explains", Cause::ALL, Cause::as_str).into(),
            also: self.choices(table, "also", Cause::ALL, Cause::as_str).into(),
            at_least: self.number(table, "at-least", 1..=1_000_000).unwrap_or(1),
            table: table_name,
            advice: self.text(table, "advice").map(|(text, _)| text).unwrap_or_default(),
            examples: plain(examples),
            counter_examples: plain(counter_examples),
            from: format!("{}:{}", self.file, self.place(span.start).0),
            name: name.into(),
        };
        if self.grave() == before {
            self.found.rules.push(rule);
        }
    }

    fn name(&mut self, table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
        let Some((name, at)) = self.text(table, "name") else {
            if !table.contains_key("name") {
                self.fault(span.clone(), "name", "is missing".to_owned());
            }
            return None;
        };
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fine) {
            let told = format!("write lower-case letters, digits, dots and dashes, at most {NAME_MAX}");
            self.fault(at, "name", told);
            return None;
        }
        if let Some(earlier) = self.found.rules.iter().find(|rule| *rule.name == *name) {
            let told = format!("{name:?} stands at {} already", earlier.from);
            self.fault(at, "name", told);
            return None;
        }
        Some(name)
    }

    fn cause(&mut self, table: &DeTable<'_>, role: Role, span: &Range<usize>) -> Cause {
        match self.choice(table, "cause", Cause::ALL, Cause::as_str) {
            Some(cause) => cause,
            None if matches!(role, Role::Harmless | Role::Work) => Cause::NoCrash,
            None if role == Role::Context => Cause::Unknown,
            None => {
                if !table.contains_key("cause") {
                    self.fault(span.clone(), "cause", "is missing".to_owned());
                }
                Cause::Unknown
            }
        }
    }

    fn compile(&mut self, patterns: &Texts) -> Vec<Regex> {
        let mut compiled = Vec::new();
        if self.examples == Examples::Skip {
            return compiled;
        }
        for (pattern, at) in patterns {
            match literals(pattern).and_then(|_| compile(pattern)) {
                Ok(regex) => compiled.push(regex),
                Err(told) => self.fault(at.clone(), "patterns", told),
            }
        }
        compiled
    }

    fn prove(&mut self, patterns: &[Regex], examples: &Texts, counter_examples: &Texts) {
        if patterns.is_empty() {
            return;
        }
        let matches = |text: &str| patterns.iter().any(|pattern| pattern.is_match(text.as_bytes()));
        for (text, at) in examples {
            if !matches(text) {
                self.fault(at.clone(), "examples", "no pattern of the rule matches this".to_owned());
            }
        }
        for (text, at) in counter_examples {
            if matches(text) {
                self.fault(at.clone(), "counter-examples", "a pattern of the rule matches this".to_owned());
            }
        }
    }

    fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<(String, Range<usize>)> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) if text.len() <= TEXT_MAX => Some((text.to_string(), value.span())),
            DeValue::String(_) => {
                self.fault(value.span(), key, format!("the text is longer than {TEXT_MAX} bytes"));
                None
            }
            other => {
                self.fault(value.span(), key, format!("a text in quotes is expected, not a {}", other.type_str()));
                None
            }
        }
    }

    fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Texts {
        let Some(value) = table.get(key) else { return Vec::new() };
        let DeValue::Array(entries) = value.get_ref() else {
            self.fault(value.span(), key, "a list of texts is expected, as in [\"one\", \"two\"]".to_owned());
            return Vec::new();
        };
        if entries.len() > LIST_MAX {
            self.fault(value.span(), key, format!("{} entries, {LIST_MAX} are allowed", entries.len()));
        }
        let mut texts = Vec::new();
        for entry in entries.iter().take(LIST_MAX) {
            match entry.get_ref() {
                DeValue::String(text) if text.len() <= TEXT_MAX => texts.push((text.to_string(), entry.span())),
                DeValue::String(_) => {
                    self.fault(entry.span(), key, format!("the text is longer than {TEXT_MAX} bytes"));
                }
                other => {
                    self.fault(entry.span(), key, format!("a text in quotes is expected, not a {}", other.type_str()));
                }
            }
        }
        texts
    }

    fn choice<T: Copy>(&mut self, table: &DeTable<'_>, key: &str, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
        let (text, at) = self.text(table, key)?;
        self.chosen(&text, at, key, all, name)
    }

    fn choices<T: Copy>(&mut self, table: &DeTable<'_>, key: &str, all: &[T], name: fn(T) -> &'static str) -> Vec<T> {
        let texts = self.texts(table, key);
        texts.into_iter().filter_map(|(text, at)| self.chosen(&text, at, key, all, name)).collect()
    }

    fn chosen<T: Copy>(
        &mut self,
        text: &str,
        at: Range<usize>,
        key: &str,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Option<T> {
        let found = all.iter().copied().find(|choice| name(*choice) == text);
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|choice| name(*choice)).collect();
            self.fault(at, key, format!("{text:?} is not one of {}", names.join(", ")));
        }
        found
    }

    fn number(&mut self, table: &DeTable<'_>, key: &str, allowed: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = table.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let fits = number.filter(|number| allowed.contains(number));
        if fits.is_none() {
            let told = format!("a whole number from {} to {} is expected", allowed.start(), allowed.end());
            self.fault(value.span(), key, told);
        }
        fits
    }

    fn fault(&mut self, span: Range<usize>, key: &str, text: String) {
        self.tell(span, key, text, Weight::Grave);
    }

    fn warn(&mut self, span: Range<usize>, key: &str, text: String) {
        self.tell(span, key, text, Weight::Mild);
    }

    fn tell(&mut self, span: Range<usize>, key: &str, text: String, weight: Weight) {
        if self.found.faults.len() >= FAULTS_MAX {
            return;
        }
        let (line, column) = self.place(span.start);
        let key: String = key.chars().take(NAME_MAX).flat_map(char::escape_debug).collect();
        let key = if self.rule.is_empty() { key } else { format!("{}.{key}", self.rule) };
        self.found.faults.push(Fault { line, column, key, text, mild: weight == Weight::Mild });
    }

    fn grave(&self) -> usize {
        self.found.faults.iter().filter(|fault| !fault.mild).count()
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Weight {
    Grave,
    Mild,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.line, self.key, self.text)
    }
}

fn plain(texts: Texts) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text).collect()
}

/// The entries in the order of the file; the parser sorts them by name.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Key<'i>, &'a Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
