// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of one line, read and written by the same description: what a value is called, and what it is if nothing is
//! said about it, stands in one place for both directions.

use super::word::{Word, quoted};
use crate::engine::cause::Cause;
use crate::engine::evidence::{Role, Source};
use crate::engine::ids::{HoldId, IncidentId, InvocationId, JobId, NoticeId, WorkerName};
use crate::engine::time::{Mono, Now, Wall};
use crate::engine::view::{IncidentResult, IncidentState, NoticeStage, NoticeState, Phase};
use std::sync::Arc;
use std::time::Duration;

/// The words of a line on their way in or out.
#[derive(Clone, Debug)]
pub struct Line {
    words: Vec<Word>,
    writing: bool,
    /// Both clocks at time zero.
    zero: Now,
}

impl Line {
    pub fn reading(words: Vec<Word>, zero: Now) -> Line {
        Line { words, writing: false, zero }
    }

    pub fn writing(zero: Now) -> Line {
        Line { words: Vec::new(), writing: true, zero }
    }

    pub fn zero(&self) -> Now {
        self.zero
    }

    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The next word, whatever it means.
    pub fn word<T: Value>(&mut self, value: &mut T, what: &str) -> Result<(), String> {
        if self.writing {
            self.words.push(Word::Plain(value.text(self.zero)));
            return Ok(());
        }
        let found = self.take_word().ok_or_else(|| format!("{what} is missing"))?;
        *value = T::read(&found, self.zero)?;
        Ok(())
    }

    /// The next word, if there is one.
    pub fn take_word(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| matches!(word, Word::Plain(_)))?;
        match self.words.remove(at) {
            Word::Plain(text) => Some(text),
            Word::Pair(..) => None,
        }
    }

    /// `KEY=VALUE`; nothing stands for `usual`.
    pub fn pair<T: Value + PartialEq>(&mut self, key: &str, value: &mut T, usual: T) -> Result<(), String> {
        if self.writing {
            if *value != usual {
                self.words.push(Word::Pair(key.into(), value.text(self.zero)));
            }
            return Ok(());
        }
        *value = self.take(key).map_or(Ok(usual), |text| T::read(&text, self.zero))?;
        Ok(())
    }

    /// `KEY=VALUE`; nothing stands for none.
    pub fn maybe<T: Value>(&mut self, key: &str, value: &mut Option<T>) -> Result<(), String> {
        if self.writing {
            if let Some(value) = value {
                self.words.push(Word::Pair(key.into(), value.text(self.zero)));
            }
            return Ok(());
        }
        *value = self.take(key).map(|text| T::read(&text, self.zero)).transpose()?;
        Ok(())
    }

    /// As many `KEY=VALUE` as there are.
    pub fn all<T: Value>(&mut self, key: &str, values: &mut Vec<T>) -> Result<(), String> {
        if self.writing {
            let zero = self.zero;
            self.words.extend(values.iter().map(|value| Word::Pair(key.into(), value.text(zero))));
            return Ok(());
        }
        while let Some(text) = self.take(key) {
            values.push(T::read(&text, self.zero)?);
        }
        Ok(())
    }

    /// A word that is there or not.
    pub fn flag(&mut self, name: &str, value: &mut bool) {
        if self.writing {
            if *value {
                self.words.push(Word::Plain(name.into()));
            }
            return;
        }
        let at = self.words.iter().position(|word| *word == Word::Plain(name.into()));
        *value = at.map(|at| self.words.remove(at)).is_some();
    }

    /// Takes the value of a key out of the words.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.words.iter().position(|word| matches!(word, Word::Pair(name, _) if name == key))?;
        match self.words.remove(at) {
            Word::Pair(_, value) => Some(value),
            Word::Plain(_) => None,
        }
    }

    pub fn push(&mut self, word: Word) {
        self.words.push(word);
    }

    /// The first word, if it is no pair.
    pub fn first(&self) -> &str {
        match self.words.first() {
            Some(Word::Plain(text)) => text,
            _ => "",
        }
    }

    /// Takes what is left.
    pub fn rest(&mut self) -> Vec<Word> {
        std::mem::take(&mut self.words)
    }

    /// Every word must have meant something.
    pub fn end(&self) -> Result<(), String> {
        match self.words.first() {
            None => Ok(()),
            Some(Word::Plain(word)) => Err(format!("{word:?} means nothing here")),
            Some(Word::Pair(key, _)) => Err(format!("{key}= means nothing here")),
        }
    }

    /// As it stands in a file, without the end of the line.
    pub fn text(&self) -> String {
        let words = self.words.iter().map(|word| match word {
            Word::Plain(text) => quoted(text, true),
            Word::Pair(key, value) => {
                format!("{}={}", quoted(key, true), if value.is_empty() { String::new() } else { quoted(value, false) })
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// What a word can stand for.
pub trait Value: Sized {
    fn text(&self, zero: Now) -> String;
    /// The error is a sentence fragment.
    fn read(text: &str, zero: Now) -> Result<Self, String>;
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Value for $kind {
            fn text(&self, _: Now) -> String {
                self.to_string()
            }

            fn read(text: &str, _: Now) -> Result<$kind, String> {
                text.trim_start_matches('#').parse().map_err(|_| format!("{text:?} is not such a number"))
            }
        }
    )*};
}

numbers! { u8 u32 u64 i32 i64 f64 }

macro_rules! ids {
    ($($kind:ident)*) => {$(
        impl Value for $kind {
            fn text(&self, _: Now) -> String {
                self.0.to_string()
            }

            fn read(text: &str, zero: Now) -> Result<$kind, String> {
                Value::read(text, zero).map($kind)
            }
        }
    )*};
}

ids! { IncidentId JobId NoticeId HoldId }

macro_rules! names {
    ($($kind:ident $what:literal;)*) => {$(
        impl Value for $kind {
            fn text(&self, _: Now) -> String {
                self.to_string()
            }

            fn read(text: &str, _: Now) -> Result<$kind, String> {
                $kind::parse(text).ok_or_else(|| format!("{text:?} is no {}", $what))
            }
        }
    )*};
}

names! {
    Cause "cause";
    Phase "phase";
    IncidentState "state of an incident";
    IncidentResult "result of an incident";
    NoticeStage "stage of a notice";
    NoticeState "state of a notice";
}

macro_rules! listed {
    ($($kind:ident $what:literal;)*) => {$(
        impl Value for $kind {
            fn text(&self, _: Now) -> String {
                self.as_str().to_owned()
            }

            fn read(text: &str, _: Now) -> Result<$kind, String> {
                let found = $kind::ALL.iter().find(|kind| kind.as_str() == text).copied();
                found.ok_or_else(|| format!("{text:?} is no {}", $what))
            }
        }
    )*};
}

listed! {
    Source "source of evidence";
    Role "role of a line";
}

impl Value for String {
    fn text(&self, _: Now) -> String {
        self.clone()
    }

    fn read(text: &str, _: Now) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

impl Value for Arc<str> {
    fn text(&self, _: Now) -> String {
        self.to_string()
    }

    fn read(text: &str, _: Now) -> Result<Arc<str>, String> {
        Ok(text.into())
    }
}

impl Value for bool {
    fn text(&self, _: Now) -> String {
        if *self { "yes" } else { "no" }.into()
    }

    fn read(text: &str, _: Now) -> Result<bool, String> {
        match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(format!("{text:?} is neither yes nor no")),
        }
    }
}

impl Value for WorkerName {
    fn text(&self, _: Now) -> String {
        short(self)
    }

    fn read(text: &str, _: Now) -> Result<WorkerName, String> {
        WorkerName::parse(text).map_err(|error| error.to_string())
    }
}

/// The name without the `.service` that is understood; it stays where another suffix would be read instead.
pub fn short(name: &WorkerName) -> String {
    let stem = name.as_str().strip_suffix(".service").unwrap_or(name.as_str());
    let same = WorkerName::parse(stem).is_ok_and(|read| read == *name);
    if same { stem.to_owned() } else { name.to_string() }
}

impl Value for InvocationId {
    fn text(&self, _: Now) -> String {
        let [first, ..] = self.0;
        let short = first.is_ascii_alphanumeric() && self.0.iter().all(|byte| *byte == first);
        if short { char::from(first).to_string() } else { self.to_string() }
    }

    /// 32 digits, or anything short that is repeated as often as it fits.
    fn read(text: &str, _: Now) -> Result<InvocationId, String> {
        if let Some(id) = InvocationId::parse(text) {
            return Ok(id);
        }
        let mut bytes = [0; 16];
        for (byte, letter) in bytes.iter_mut().zip(text.bytes().cycle()) {
            *byte = letter;
        }
        Ok(InvocationId(bytes))
    }
}

impl Value for Duration {
    /// Exact to a microsecond.
    fn text(&self, _: Now) -> String {
        span_text(*self)
    }

    fn read(text: &str, _: Now) -> Result<Duration, String> {
        span(text)
    }
}

impl Value for Mono {
    fn text(&self, zero: Now) -> String {
        signed_text(self.0.saturating_sub(zero.mono.0))
    }

    fn read(text: &str, zero: Now) -> Result<Mono, String> {
        Ok(Mono(zero.mono.0.saturating_add(signed(text)?)))
    }
}

impl Value for Wall {
    fn text(&self, zero: Now) -> String {
        if *self == Wall::NEVER { "never".into() } else { signed_text(self.0.saturating_sub(zero.wall.0)) }
    }

    fn read(text: &str, zero: Now) -> Result<Wall, String> {
        if text == "never" { Ok(Wall::NEVER) } else { Ok(Wall(zero.wall.0.saturating_add(signed(text)?))) }
    }
}

/// A span in seconds, exact to a microsecond: `12.25s`.
pub fn span_text(span: Duration) -> String {
    let (seconds, micros) = (span.as_secs(), span.subsec_micros());
    if micros == 0 {
        return format!("{seconds}s");
    }
    format!("{seconds}.{}s", format!("{micros:06}").trim_end_matches('0'))
}

/// Reads `1min30s`, `250ms`, `10s`, `0` and `12.000001s`.
pub fn span(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 7] = [
        ("us", 1),
        ("ms", 1_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("h", 3_600_000_000),
        ("d", 86_400_000_000),
        ("w", 604_800_000_000),
    ];
    let wrong = || format!("{text:?} is no time");
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (whole, part) = rest[..digits].split_once('.').unwrap_or((&rest[..digits], ""));
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = if letters == 0 { "s" } else { &rest[..letters] };
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let whole = whole.parse::<u64>().map_err(|_| wrong())?.checked_mul(*size).ok_or_else(wrong)?;
        total =
            total.checked_add(whole).and_then(|total| total.checked_add(fraction(part, *size)?)).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_micros(total))
}

/// So many microseconds of a unit are behind the point.
fn fraction(digits: &str, size: u64) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    let digits = digits.get(..digits.len().min(12))?;
    let number = u128::from(digits.parse::<u64>().ok()?);
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    u64::try_from((number * u128::from(size) + scale / 2) / scale).ok()
}

fn signed_text(micros: i64) -> String {
    let span = span_text(Duration::from_micros(micros.unsigned_abs()));
    if micros < 0 { format!("-{span}") } else { span }
}

pub fn signed(text: &str) -> Result<i64, String> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let micros = i64::try_from(span(rest)?.as_micros()).map_err(|_| format!("{text:?} is too long a time"))?;
    Ok(sign * micros)
}

#[cfg(test)]
mod tests {
    use super::super::word::split;
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in
            ["", "a b", "x=y", "\"", "\\d \\n \u{1b}[0m\n", "tab\tline\r", "free(/srv) > 1G", "\\", "é \u{2028}"]
        {
            let mut line = Line::writing(Now::default());
            line.word(&mut text.to_owned(), "").expect("writing cannot fail");
            line.pair("key", &mut text.to_owned(), "?".into()).expect("writing cannot fail");
            let expected = vec![Word::Plain(text.into()), Word::Pair("key".into(), text.into())];
            assert_eq!(split(&line.text()), Ok(expected), "{}", line.text());
        }
    }

    #[test]
    fn times_are_exact() {
        for micros in [0, 1, 999_999, 1_000_000, 12_345_678, 1_700_000_000_000_001] {
            let time = Duration::from_micros(micros);
            assert_eq!(span(&span_text(time)), Ok(time));
        }
        assert_eq!(span("1min30s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(signed("-2.5s"), Ok(-2_500_000));
        assert!(span("5 parsecs").is_err() && span("").is_err() && span("99999999999999w").is_err());
    }

    #[test]
    fn names_keep_what_would_be_misread() {
        for name in ["a.service", "py3.11.service", "a.timer.service", "n1/x@1.service", "a.service.service"] {
            let name = WorkerName::parse(name).expect("a valid name");
            assert_eq!(WorkerName::parse(&short(&name)), Ok(name));
        }
    }
}
