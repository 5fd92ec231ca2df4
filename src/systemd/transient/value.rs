// SPDX-License-Identifier: MIT OR Apache-2.0
//! The values of a unit file, read as systemd reads them, without specifiers.

use super::super::proxy::Property;
use super::table::{Entry, Kind, Unit};
use crate::engine::ids::is_unit_character;
use nix::sys::signal::Signal;
use std::str::FromStr;
use zbus::Variant;

const INFINITY: u64 = u64::MAX;
/// Highest CPU or memory node that can be named.
const CPU_MAX: usize = 8191;

/// Reads a value; the error says what is allowed.
pub fn read(entry: &Entry, text: &str) -> Result<Vec<Property>, String> {
    let text = text.trim();
    let one = |value: Variant<'static>| Ok(vec![(entry.property, value)]);
    match entry.kind {
        Kind::Text => one(Variant::from(non_empty(text)?.to_owned())),
        Kind::Bool => one(Variant::from(boolean(text)?)),
        Kind::Path { optional } => one(Variant::from(path(text, optional)?)),
        Kind::Units => one(Variant::new(units(text)?)),
        Kind::Words => one(Variant::new(words(text)?)),
        Kind::Paths => one(Variant::new(paths(text)?)),
        Kind::Choice(allowed) => one(Variant::from(choice(text, allowed)?)),
        Kind::Slice => one(Variant::from(slice(text)?)),
        Kind::Integer(low, high) => one(Variant::from(integer(text, low, high)?)),
        Kind::Unsigned => one(Variant::from(text.parse::<u32>().map_err(|_| "a whole number is wanted")?)),
        Kind::Size { scale } => size_or_share(entry.property, scale, text),
        Kind::Weight { idle } => one(Variant::from(weight(text, idle)?)),
        Kind::Quota => one(Variant::from(quota(text)?)),
        Kind::Cpus => one(Variant::new(cpus(text)?)),
        Kind::Span => one(Variant::from(span(text)?)),
        Kind::StartAndStop => {
            let span = span(text)?;
            Ok(vec![("TimeoutStartUSec", Variant::from(span)), ("TimeoutStopUSec", Variant::from(span))])
        }
        Kind::Signal => one(Variant::from(signal(text)?)),
        Kind::Numbered(names) => one(Variant::from(numbered(text, names)?)),
        Kind::Environment => one(Variant::new(assignments(text)?)),
        Kind::EnvironmentFile => {
            let (optional, file) = strip(text, '-');
            check_absolute(file)?;
            one(Variant::new(vec![(file.to_owned(), optional)]))
        }
        Kind::Fields => one(Variant::new(fields(text)?)),
        Kind::Command => one(Variant::new(vec![command(text)?])),
        Kind::Input => input(text),
        Kind::Output(files) => output(entry.property, files, text),
        Kind::Limit(soft, unit) => limit(entry.property, soft, unit, text),
        Kind::Octal => one(Variant::from(octal(text)?)),
        Kind::Delegate => match boolean(text) {
            Ok(all) => one(Variant::from(all)),
            Err(_) => Ok(vec![("DelegateControllers", Variant::new(words(text)?))]),
        },
        Kind::Statuses => one(Variant::new(statuses(text)?)),
        Kind::Devices => one(Variant::new(vec![device(text)?])),
        Kind::Filter => {
            let (refuse, list) = strip(text, '~');
            one(Variant::new((!refuse, words(list)?)))
        }
        Kind::Credential => one(Variant::new(vec![credential(text)?])),
    }
}

/// An absolute path without `..`.
pub fn check_absolute(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("must be an absolute path".to_owned());
    }
    if path.len() > 4095 || path.split('/').any(|part| part == "..") {
        return Err("must be an absolute path without \"..\"".to_owned());
    }
    Ok(())
}

fn strip(text: &str, prefix: char) -> (bool, &str) {
    match text.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

fn non_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("the value is empty".to_owned()) } else { Ok(text) }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("yes or no is wanted".to_owned()),
    }
}

fn path(text: &str, optional: bool) -> Result<String, String> {
    let bare = if optional { strip(text, '-').1 } else { text };
    if !(optional && bare == "~") {
        check_absolute(bare)?;
    }
    Ok(text.to_owned())
}

fn units(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    match names.iter().find(|name| !name.contains('.') || !name.chars().all(is_unit_character) || name.len() > 255) {
        Some(bad) => Err(format!("{bad:?} is not a complete unit name such as foo.service")),
        None => Ok(names),
    }
}

fn paths(text: &str) -> Result<Vec<String>, String> {
    let words = words(text)?;
    words.iter().try_for_each(|word| check_absolute(word.trim_start_matches(['-', '+'])))?;
    Ok(words)
}

fn choice(text: &str, allowed: &[&str]) -> Result<String, String> {
    if allowed.contains(&text) {
        return Ok(text.to_owned());
    }
    if let Ok(value) = boolean(text) {
        let spelled = if value { "yes" } else { "no" };
        if allowed.contains(&spelled) {
            return Ok(spelled.to_owned());
        }
    }
    Err(format!("{} is wanted", any_of(allowed)))
}

fn any_of(allowed: &[&str]) -> String {
    match allowed.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => allowed.join(""),
    }
}

fn slice(text: &str) -> Result<String, String> {
    if text.len() > 255 || !text.ends_with(".slice") || !text.chars().all(is_unit_character) {
        return Err("the name of a slice such as batch.slice is wanted".to_owned());
    }
    Ok(text.to_owned())
}

fn integer(text: &str, low: i32, high: i32) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("a whole number from {low} to {high} is wanted"))
}

fn numbered(text: &str, names: &[(&str, i32)]) -> Result<i32, String> {
    if let Some((_, number)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    let number = text.parse().ok().filter(|number| names.iter().any(|(_, known)| known == number));
    number.ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("{} is wanted", any_of(&names))
    })
}

fn size_or_share(property: &'static str, scale: Option<&'static str>, text: &str) -> Result<Vec<Property>, String> {
    if let Some(share) = text.strip_suffix('%')
        && let Some(scale) = scale
    {
        let share = share.trim().parse().ok().filter(|share: &f64| (0.0..=100.0).contains(share));
        let share = share.ok_or("a percentage from 0% to 100% is wanted")?;
        // systemd's UINT32_SCALE_FROM_PERMYRIAD; the share is at most 10000 permyriad.
        let permyriad = (share * 100.0).round() as u64;
        let scaled = u32::try_from(permyriad * u64::from(u32::MAX) / 10_000).unwrap_or(u32::MAX);
        return Ok(vec![(scale, Variant::from(scaled))]);
    }
    Ok(vec![(property, Variant::from(size(text)?))])
}

fn size(text: &str) -> Result<u64, String> {
    if text == "infinity" {
        return Ok(INFINITY);
    }
    let wanted = || "a size such as 512M or 4G, or infinity is wanted".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return Err(wanted()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut bytes = u128::from(whole.parse::<u64>().map_err(|_| wanted())?) << shift;
    if !fraction.is_empty() {
        let tenths = fraction.get(..fraction.len().min(6)).ok_or_else(wanted)?;
        let part = u128::from(tenths.parse::<u64>().map_err(|_| wanted())?);
        bytes += (part << shift) / 10u128.pow(u32::try_from(tenths.len()).unwrap_or(6));
    }
    u64::try_from(bytes).map_err(|_| wanted())
}

fn weight(text: &str, idle: bool) -> Result<u64, String> {
    if idle && text == "idle" {
        return Ok(0);
    }
    let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| format!("a whole number from 1 to 10000{} is wanted", if idle { ", or idle" } else { "" }))
}

fn quota(text: &str) -> Result<u64, String> {
    if text.is_empty() || text == "infinity" {
        return Ok(INFINITY);
    }
    let share = text.strip_suffix('%').and_then(|share| share.trim().parse::<f64>().ok());
    let share = share.filter(|share| *share > 0.0 && *share <= 1_000_000.0);
    let share = share.ok_or("a percentage of one CPU such as 50% or 150% is wanted")?;
    Ok((share * 10_000.0).round() as u64)
}

fn cpus(text: &str) -> Result<Vec<u8>, String> {
    let mut mask = Vec::new();
    for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number <= CPU_MAX);
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err("numbers and ranges such as 0-3,8 are wanted".to_owned());
        };
        if low > high {
            return Err("a range begins with its lower end".to_owned());
        }
        if mask.len() <= high / 8 {
            mask.resize(high / 8 + 1, 0u8);
        }
        (low..=high).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    }
    Ok(mask)
}

/// A time span in microseconds; a bare number counts seconds.
fn span(text: &str) -> Result<u64, String> {
    span_in(text, 1_000_000.0)
}

fn span_in(text: &str, default: f64) -> Result<u64, String> {
    if text == "infinity" {
        return Ok(INFINITY);
    }
    let wanted = || "a time span such as 90, \"1min 30s\" or infinity is wanted".to_owned();
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wanted());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number = number.parse::<f64>().map_err(|_| wanted())?;
        total += number * unit_of_time(unit, default).ok_or_else(wanted)?;
        rest = after.trim_start();
    }
    // Saturates, and INFINITY is as good as 584,942 years.
    Ok(total.round() as u64)
}

/// The units of systemd.time(7), in microseconds.
fn unit_of_time(unit: &str, default: f64) -> Option<f64> {
    Some(match unit {
        "" => default,
        "us" | "usec" | "µs" | "μs" => 1.0,
        "ms" | "msec" => 1e3,
        "s" | "sec" | "second" | "seconds" => 1e6,
        "m" | "min" | "minute" | "minutes" => 60e6,
        "h" | "hr" | "hour" | "hours" => 3600e6,
        "d" | "day" | "days" => 86_400e6,
        "w" | "week" | "weeks" => 604_800e6,
        "M" | "month" | "months" => 2_629_800e6,
        "y" | "year" | "years" => 31_557_600e6,
        _ => return None,
    })
}

fn signal(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse::<i32>()
        && (1..=64).contains(&number)
    {
        return Ok(number);
    }
    let long = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    Signal::from_str(&long)
        .map(|signal| signal as i32)
        .map_err(|_| "a signal such as SIGTERM, or its number, is wanted".to_owned())
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "an octal mode such as 0022 is wanted".to_owned())
}

fn assignments(text: &str) -> Result<Vec<String>, String> {
    let words = words(text)?;
    match words.iter().find(|word| !is_assignment(word)) {
        Some(bad) => Err(format!("{bad:?} is not NAME=VALUE")),
        None => Ok(words),
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn fields(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let words = words(text)?;
    let is_field = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            (1..=64).contains(&name.len())
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    if let Some(bad) = words.iter().find(|word| !is_field(word)) {
        return Err(format!("{bad:?} is not FIELD=VALUE with a name in capital letters"));
    }
    if words.iter().any(|word| word.starts_with("WATCHERD_")) {
        return Err("fields that begin with WATCHERD_ are set by watcherd".to_owned());
    }
    Ok(words.into_iter().map(String::into_bytes).collect())
}

/// A program with arguments, and whether its failure is ignored.
fn command(text: &str) -> Result<(String, Vec<String>, bool), String> {
    let (ignored, line) = strip(text, '-');
    if line.starts_with(['@', '+', '!', ':', '|']) {
        return Err("of the prefixes of a command line, only \"-\" is taken".to_owned());
    }
    let words = words(line)?;
    let program = words.first().ok_or("a command line is wanted")?.clone();
    check_absolute(&program).map_err(|why| format!("the program {why}"))?;
    Ok((program, words, ignored))
}

fn input(text: &str) -> Result<Vec<Property>, String> {
    if let Some(file) = text.strip_prefix("file:") {
        check_absolute(file)?;
        return Ok(vec![("StandardInputFile", Variant::from(file.to_owned()))]);
    }
    match text {
        "null" => Ok(vec![("StandardInput", Variant::from("null"))]),
        _ => Err("null or file:PATH is wanted".to_owned()),
    }
}

fn output(property: &'static str, files: [&'static str; 3], text: &str) -> Result<Vec<Property>, String> {
    for (prefix, property) in ["file:", "append:", "truncate:"].into_iter().zip(files) {
        if let Some(file) = text.strip_prefix(prefix) {
            check_absolute(file)?;
            return Ok(vec![(property, Variant::from(file.to_owned()))]);
        }
    }
    match text {
        "journal" | "null" | "inherit" | "kmsg" | "journal+console" | "kmsg+console" => {
            Ok(vec![(property, Variant::from(text.to_owned()))])
        }
        _ => Err("journal, null, inherit, kmsg, file:PATH, append:PATH or truncate:PATH is wanted".to_owned()),
    }
}

fn limit(hard: &'static str, soft: &'static str, unit: Unit, text: &str) -> Result<Vec<Property>, String> {
    let (low, high) = text.split_once(':').unwrap_or((text, text));
    let read = |text: &str| match unit {
        _ if text == "infinity" => Ok(INFINITY),
        Unit::Number => text.parse::<u64>().map_err(|_| "a whole number or infinity is wanted".to_owned()),
        Unit::Bytes => size(text),
        Unit::Seconds => span(text).map(|micros| micros.div_ceil(1_000_000)),
        Unit::Microseconds => span_in(text, 1.0),
    };
    let (low, high) = (read(low)?, read(high)?);
    if low > high {
        return Err("the soft limit comes first and is the lower one".to_owned());
    }
    Ok(vec![(hard, Variant::from(high)), (soft, Variant::from(low))])
}

fn statuses(text: &str) -> Result<(Vec<i32>, Vec<i32>), String> {
    let (mut codes, mut signals) = (Vec::new(), Vec::new());
    for word in text.split_whitespace() {
        match word.parse::<u8>() {
            Ok(code) => codes.push(i32::from(code)),
            Err(_) => {
                signals.push(signal(word).map_err(|_| "exit codes and signals such as \"3 SIGTERM\" are wanted")?)
            }
        }
    }
    Ok((codes, signals))
}

fn device(text: &str) -> Result<(String, String), String> {
    let wanted = "a device and what is allowed, such as \"/dev/nvidia0 rw\" is wanted";
    let mut words = text.split_whitespace();
    let (Some(device), mode, None) = (words.next(), words.next().unwrap_or("rwm"), words.next()) else {
        return Err(wanted.to_owned());
    };
    let is_device = device.starts_with("/dev/") || device.starts_with("char-") || device.starts_with("block-");
    if !is_device || !mode.chars().all(|c| "rwm".contains(c)) {
        return Err(wanted.to_owned());
    }
    Ok((device.to_owned(), mode.to_owned()))
}

fn credential(text: &str) -> Result<(String, String), String> {
    let (id, from) = text.split_once(':').unwrap_or((text, text));
    if id.is_empty() || id.contains('/') || from.is_empty() {
        return Err("ID:PATH is wanted".to_owned());
    }
    Ok((id.to_owned(), from.to_owned()))
}

/// Splits at blanks; both kinds of quotes hold words together, a backslash keeps the next character as it is.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = rest.next().ok_or("a backslash ends the value")?;
                word.get_or_insert_default().push(next);
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}
