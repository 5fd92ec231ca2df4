// SPDX-License-Identifier: MIT OR Apache-2.0
//! What callers may hand in: every argument is checked here before anything else sees it.
//!
//! The limits hold for everybody, root too: they protect the daemon from mistakes, not only from malice.

use super::IncidentFilter;
use super::client::Dict;
use super::error::ApiError;
use crate::engine::cause::Cause;
use crate::engine::event::Definition;
use crate::engine::ids::{IncidentId, WorkerName};
use crate::engine::policy::UnitPattern;
use crate::engine::source::{NAME_MAX, Reading, VALUES_MAX};
use crate::engine::time::Wall;
use std::collections::BTreeSet;
use zbus::Variant;

const WORKERS_MAX: usize = 1000;
const TEXT_MAX: usize = 1024;
const DICT_MAX: usize = 256;
const ARGV_MAX: usize = 1024;
/// Bytes of a whole command line, or of all unit properties together.
const DEFINITION_BYTES_MAX: usize = 128 * 1024;
const POLICY_VALUE_MAX: usize = 4096;
/// Characters of a caller's text that an error message repeats.
const SHOWN_MAX: usize = 200;
const INCIDENTS_MAX: u32 = 10_000;
const INCIDENTS_DEFAULT: u32 = 1000;

/// The dry-run bit of the methods that have one.
pub const DRY_RUN: u64 = 1;

/// Refuses bits that the method does not know.
pub fn flags(given: u64, known: u64) -> Result<(), ApiError> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(invalid(format!("unknown flags {unknown:#x}"))),
    }
}

pub fn worker(text: &str) -> Result<WorkerName, ApiError> {
    WorkerName::parse(text).map_err(|error| invalid(format!("{}: {error}", shown(text))))
}

/// Reads names; the same worker twice counts once.
pub fn workers(texts: &[String]) -> Result<Vec<WorkerName>, ApiError> {
    if texts.is_empty() {
        return Err(invalid("no worker was named"));
    }
    if texts.len() > WORKERS_MAX {
        return Err(too_much(format!("{} workers were named, {WORKERS_MAX} are allowed in one call", texts.len())));
    }
    let mut seen = BTreeSet::new();
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        let name = worker(text)?;
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A short text for people: one line, at most 1 KiB.
pub fn text(what: &str, text: String) -> Result<String, ApiError> {
    if text.len() > TEXT_MAX {
        return Err(too_much(format!("{what} is {} bytes long, {TEXT_MAX} are allowed", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("{what} {} has a control character", shown(&text))));
    }
    Ok(text)
}

/// A command line and unit properties, which are strings or arrays of strings.
pub fn definition(argv: Vec<String>, properties: Dict) -> Result<Definition, ApiError> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(invalid("the command line is empty"));
    }
    if argv.len() > ARGV_MAX {
        return Err(too_much(format!("the command line has {} words, {ARGV_MAX} are allowed", argv.len())));
    }
    if let Some(word) = argv.iter().find(|word| word.chars().any(|c| c.is_control() && c != '\n' && c != '\t')) {
        return Err(invalid(format!("the command line has a control character in {}", shown(word))));
    }
    within_bytes("the command line", argv.iter().map(String::len).sum())?;
    Ok(Definition { argv, properties: unit_properties(properties)? })
}

fn unit_properties(dict: Dict) -> Result<Vec<(String, String)>, ApiError> {
    let mut properties = Vec::new();
    for (key, value) in sorted("unit properties", dict)? {
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(invalid(format!("{} is no unit property", shown(&key))));
        }
        for value in strings(&key, &value)? {
            if value.chars().any(char::is_control) {
                return Err(invalid(format!("unit property {} has a control character in {}", key, shown(&value))));
            }
            if properties.len() == ARGV_MAX {
                return Err(too_much(format!("more than {ARGV_MAX} unit property values")));
            }
            properties.push((key.clone(), value));
        }
    }
    within_bytes("the unit properties", properties.iter().map(|(key, value)| key.len() + value.len()).sum())?;
    Ok(properties)
}

/// Policy keys such as `restart.budget` and their values, which are strings; sorted by key.
pub fn policy(dict: Dict) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = sorted("policy keys", dict)?.into_iter().map(|(key, value)| {
        let Variant::Str(text) = &*value else {
            return Err(invalid(format!("policy key {} is no string", shown(&key))));
        };
        let text = text.as_str();
        if text.len() > POLICY_VALUE_MAX || key.len() > POLICY_VALUE_MAX {
            return Err(too_much(format!(
                "policy key {} or its value is longer than {POLICY_VALUE_MAX} bytes",
                shown(&key)
            )));
        }
        if key.chars().chain(text.chars()).any(char::is_control) {
            return Err(invalid(format!("policy key {} has a control character in it or in its value", shown(&key))));
        }
        Ok((key, text.to_owned()))
    });
    pairs.collect()
}

pub fn filter(dict: Dict) -> Result<IncidentFilter, ApiError> {
    let mut filter = IncidentFilter { limit: INCIDENTS_DEFAULT, ..IncidentFilter::default() };
    for (key, value) in sorted("filter keys", dict)? {
        match (key.as_str(), &*value) {
            ("worker", Variant::Str(text)) => {
                let pattern = UnitPattern::parse(text.as_str());
                filter.worker = Some(pattern.map_err(|error| invalid(format!("{}: {error}", shown(text.as_str()))))?);
            }
            ("cause", Variant::Str(text)) => {
                let cause = Cause::parse(text.as_str());
                filter.cause = Some(cause.ok_or_else(|| invalid(format!("{} is no cause", shown(text.as_str()))))?);
            }
            ("since", value) => filter.since = wall(number(&key, value)?),
            ("open", Variant::Bool(open)) => filter.open = Some(*open),
            ("id", value) => filter.id = Some(IncidentId(small(&key, value)?)),
            ("limit", value) => filter.limit = small(&key, value)?.min(INCIDENTS_MAX),
            ("worker" | "cause" | "open", _) => return Err(invalid(format!("filter key {key} has the wrong type"))),
            _ => return Err(invalid(format!("unknown filter key {}", shown(&key)))),
        }
    }
    Ok(filter)
}

/// A worker's own reading: the count is its `value`.
pub fn beat(count: u64, values: Dict) -> Result<Reading, ApiError> {
    if values.len() >= VALUES_MAX {
        return Err(too_much(format!("{} values were given, {} are allowed", values.len(), VALUES_MAX - 1)));
    }
    let mut reading = Reading { values: [("value".into(), count as f64)].into(), ..Reading::default() };
    for (key, value) in sorted("values", values)? {
        if key.is_empty() || key.len() > NAME_MAX {
            return Err(invalid(format!("{} is no name of a value", shown(&key))));
        }
        match (key.as_str(), &*value) {
            ("value", _) => return Err(invalid("\"value\" is the count itself".to_owned())),
            ("cursor", Variant::Str(cursor)) if cursor.len() <= NAME_MAX => {
                reading.cursor = Some(cursor.as_str().into());
            }
            ("stage", Variant::Str(stage)) if stage.len() <= NAME_MAX => reading.stage = Some(stage.as_str().into()),
            ("stage", _) => return Err(invalid(format!("\"stage\" is no text of at most {NAME_MAX} bytes"))),
            ("cursor", _) => return Err(invalid(format!("\"cursor\" is no text of at most {NAME_MAX} bytes"))),
            ("total", _) => {
                reading.values.insert("total".into(), number(&key, &value)? as f64);
            }
            _ => {
                let value = measure(&key, &value)?;
                reading.values.insert(key.into(), value);
            }
        }
    }
    Ok(reading)
}

/// A time in µs since 1970, 0 for none.
pub fn until(usec: u64) -> Option<Wall> {
    (usec != 0).then(|| wall(usec))
}

/// Repeats a caller's text in a message: in quotes, control characters escaped, shortened.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn wall(usec: u64) -> Wall {
    Wall(i64::try_from(usec).unwrap_or(i64::MAX))
}

fn sorted(what: &str, dict: Dict) -> Result<Vec<(String, zbus::OwnedVariant)>, ApiError> {
    if dict.len() > DICT_MAX {
        return Err(too_much(format!("{} {what} were given, {DICT_MAX} are allowed", dict.len())));
    }
    let mut pairs: Vec<_> = dict.into_iter().collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(pairs)
}

fn strings(key: &str, value: &Variant<'_>) -> Result<Vec<String>, ApiError> {
    let wrong = || invalid(format!("unit property {} is neither a string nor an array of strings", shown(key)));
    match value {
        Variant::Str(text) => Ok(vec![text.as_str().to_owned()]),
        Variant::Array(array) if array.len() > ARGV_MAX => {
            Err(too_much(format!("unit property {} has {} values, {ARGV_MAX} are allowed", shown(key), array.len())))
        }
        Variant::Array(array) => array
            .iter()
            .map(|item| match item {
                Variant::Str(text) => Ok(text.as_str().to_owned()),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// Takes any whole number that is not negative: scripting languages choose the type themselves.
fn number(key: &str, value: &Variant<'_>) -> Result<u64, ApiError> {
    let number = match value {
        Variant::U8(n) => Some(u64::from(*n)),
        Variant::U16(n) => Some(u64::from(*n)),
        Variant::U32(n) => Some(u64::from(*n)),
        Variant::U64(n) => Some(*n),
        Variant::I16(n) => u64::try_from(*n).ok(),
        Variant::I32(n) => u64::try_from(*n).ok(),
        Variant::I64(n) => u64::try_from(*n).ok(),
        _ => None,
    };
    number.ok_or_else(|| invalid(format!("{} is no whole number from 0 on", shown(key))))
}

/// Any number; truth counts as 0 or 1.
fn measure(key: &str, value: &Variant<'_>) -> Result<f64, ApiError> {
    let number = match value {
        Variant::F64(n) => n.is_finite().then_some(*n),
        Variant::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Variant::I16(n) => Some(f64::from(*n)),
        Variant::I32(n) => Some(f64::from(*n)),
        Variant::I64(n) => Some(*n as f64),
        other => return Ok(number(key, other)? as f64),
    };
    number.ok_or_else(|| invalid(format!("{} is no number", shown(key))))
}

fn small(key: &str, value: &Variant<'_>) -> Result<u32, ApiError> {
    u32::try_from(number(key, value)?).map_err(|_| invalid(format!("{} is too large", shown(key))))
}

fn within_bytes(what: &str, bytes: usize) -> Result<(), ApiError> {
    if bytes > DEFINITION_BYTES_MAX {
        return Err(too_much(format!("{what} takes {bytes} bytes, {DEFINITION_BYTES_MAX} are allowed")));
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::InvalidArgs(text.into())
}

fn too_much(text: impl Into<String>) -> ApiError {
    ApiError::LimitsExceeded(text.into())
}

#[cfg(test)]
mod tests {
    use super::super::error::ErrorName;
    use super::*;
    use zbus::OwnedVariant;

    fn dict<const N: usize>(pairs: [(&str, Variant<'_>); N]) -> Dict {
        let owned = |value: Variant<'_>| OwnedVariant::try_from(value).expect("no descriptors");
        pairs.into_iter().map(|(key, value)| (key.to_owned(), owned(value))).collect()
    }

    fn kind<T>(result: Result<T, ApiError>) -> Option<ErrorName> {
        result.err().map(|error| error.name())
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert_eq!(kind(flags(0, 0)), None);
        assert_eq!(kind(flags(DRY_RUN, DRY_RUN)), None);
        assert_eq!(kind(flags(3, DRY_RUN)), Some(ErrorName::InvalidArgs));
        assert_eq!(kind(flags(1 << 63, DRY_RUN)), Some(ErrorName::InvalidArgs));
    }

    #[test]
    fn extreme_names_are_refused_with_a_short_message() {
        for text in
            ["", "a b", "a\u{1b}[31m", "\n", "../../etc/passwd", "@.service", &"x".repeat(256), &"é".repeat(100_000)]
        {
            let error = worker(text).expect_err("no worker name");
            assert_eq!(error.name(), ErrorName::InvalidArgs);
            assert!(error.text().chars().count() < 400, "{}", error.text().len());
            assert!(!error.text().chars().any(char::is_control), "{}", error.text());
        }
        assert_eq!(worker("a b").expect_err("a space").text().split(':').next(), Some("\"a b\""));
    }

    #[test]
    fn lists_have_limits_and_doubles_count_once() {
        let many: Vec<String> = (0..100_000).map(|n| format!("w{n}")).collect();
        assert_eq!(kind(workers(&many)), Some(ErrorName::LimitsExceeded));
        assert_eq!(kind(workers(&many[..1000])), None);
        assert_eq!(kind(workers(&[])), Some(ErrorName::InvalidArgs));
        assert_eq!(workers(&["a".into(), "a.service".into()]).map(|names| names.len()), Ok(1));
        assert_eq!(kind(definition(many, Dict::new())), Some(ErrorName::LimitsExceeded));
        let crowd: Dict = (0..257).map(|n| (format!("k{n}"), OwnedVariant::from(n))).collect();
        assert_eq!(kind(policy(crowd)), Some(ErrorName::LimitsExceeded));
        assert_eq!(
            kind(definition(vec!["a".into(), "x".repeat(200_000)], Dict::new())),
            Some(ErrorName::LimitsExceeded)
        );
    }

    #[test]
    fn texts_are_one_short_line() {
        assert_eq!(kind(text("why", "x".repeat(1024))), None);
        assert_eq!(kind(text("why", "x".repeat(1025))), Some(ErrorName::LimitsExceeded));
        assert_eq!(kind(text("why", "a\nExecStart=/bin/evil".into())), Some(ErrorName::InvalidArgs));
    }

    #[test]
    fn definitions_take_strings_and_lists_of_strings() {
        let properties = dict([("User", Variant::from("nobody")), ("Environment", Variant::from(vec!["A=1", "B=2"]))]);
        let definition = definition(vec!["/bin/true".into()], properties).expect("valid");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            definition.properties,
            [pair("Environment", "A=1"), pair("Environment", "B=2"), pair("User", "nobody")]
        );
    }

    #[test]
    fn definitions_refuse_what_could_become_a_directive() {
        let run = |properties| kind(super::definition(vec!["/bin/true".into()], properties));
        let bad = Some(ErrorName::InvalidArgs);
        assert_eq!(run(dict([("User", Variant::from("a\nExecStartPre=+/bin/evil"))])), bad);
        assert_eq!(run(dict([("User\n", Variant::from("a"))])), bad);
        assert_eq!(run(dict([("MemoryMax", Variant::from(5u64))])), bad);
        assert_eq!(kind(super::definition(vec![], Dict::new())), bad);
        assert_eq!(kind(super::definition(vec![String::new()], Dict::new())), bad);
        assert_eq!(kind(super::definition(vec!["a".into(), "\u{1b}]0;x".into()], Dict::new())), bad);
    }

    #[test]
    fn filters_and_beats_name_what_they_do_not_know() {
        let parsed = filter(dict([
            ("worker", Variant::from("train@*")),
            ("cause", Variant::from("segfault")),
            ("since", Variant::from(5i32)),
            ("open", Variant::from(true)),
            ("limit", Variant::from(7u8)),
        ]))
        .expect("valid");
        assert_eq!((parsed.cause, parsed.since, parsed.limit), (Some(Cause::Segfault), Wall(5), 7));
        for wrong in [("gremlin", Variant::from(1)), ("open", Variant::from(1)), ("cause", Variant::from("gremlins"))] {
            assert_eq!(kind(filter(dict([wrong]))), Some(ErrorName::InvalidArgs));
        }
        let wrong = [
            ("total", Variant::from(-1)),
            ("value", Variant::from(1)),
            ("cursor", Variant::from(1)),
            ("active", Variant::from("many")),
            ("load", Variant::from(f64::NAN)),
            ("", Variant::from(1)),
        ];
        for wrong in wrong {
            assert_eq!(kind(beat(1, dict([wrong]))), Some(ErrorName::InvalidArgs));
        }
        let crowd: Dict = (0..64).map(|n| (format!("k{n}"), OwnedVariant::from(n))).collect();
        assert_eq!(kind(beat(1, crowd)), Some(ErrorName::LimitsExceeded));
        let values = [("total", Variant::from(9u64)), ("cursor", Variant::from("7-9")), ("debt", Variant::from(-1i32))];
        let reading = beat(1, dict(values)).expect("valid");
        assert_eq!(reading.cursor.as_deref(), Some("7-9"));
        assert_eq!(reading.values, [("debt".into(), -1.0), ("total".into(), 9.0), ("value".into(), 1.0)].into());
    }
}
