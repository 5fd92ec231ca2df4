// SPDX-License-Identifier: MIT OR Apache-2.0
//! One value as it was written, and what each key accepts.
//!
//! The readers here are the only place that knows ranges and choices; an error says what is allowed.

use super::value::{Allowed, parse_size, parse_span, parse_span_in, quoted};
use crate::engine::policy::{
    AfterSuccess, BUDGET_MAX, BackOff, Budget, DumpSignal, Layer, Leftovers, OnExhausted, Percent, Setting, Settings,
    Size, Source,
};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

/// Longest pause between two attempts.
const BACK_OFF_MAX: Duration = DAY;
/// Every attempt within the window is remembered.
const WINDOW: RangeInclusive<Duration> = SECOND..=Duration::from_secs(30 * 86_400);
/// Not zero: attempts that are forgotten at once would make every budget endless.
const RESET_AFTER: RangeInclusive<Duration> = SECOND..=Duration::from_secs(7 * 86_400);
const VERIFY: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const GRACE: RangeInclusive<Duration> = SECOND..=HOUR;
const COOLDOWN: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
const THEN_WITHIN: RangeInclusive<Duration> = SECOND..=HOUR;
/// The time in which a ceiling may be exceeded.
const LIMIT_FOR: RangeInclusive<Duration> = Duration::from_secs(5)..=DAY;
/// More processors than any machine has.
const PERCENT_MAX: u32 = 10_000_000;
const MAX_JOBS: RangeInclusive<u64> = 1..=128;
const KEEP_INCIDENTS: RangeInclusive<Duration> = HOUR..=Duration::from_secs(3650 * 86_400);
/// Not zero: whoever waits for a result must be able to read it.
const KEEP_FINISHED: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(365 * 86_400);

/// A value as it was written.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    Text(&'a str),
    /// From a command line or D-Bus, where numbers and truth values are texts too.
    Argument(&'a str),
    /// A whole number, `None` if it is negative or does not fit.
    Number(Option<u64>),
    Truth(bool),
    List(&'a DeArray<'a>),
    Table(&'a DeTable<'a>),
    /// A decimal number as it was written.
    Decimal(&'a str),
    /// Anything else, by the name of its TOML type.
    Other(&'static str),
}

impl<'a> Given<'a> {
    pub fn new(value: &'a DeValue<'_>) -> Given<'a> {
        match value {
            DeValue::String(text) => Given::Text(text),
            DeValue::Integer(number) => Given::Number(u64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Boolean(truth) => Given::Truth(*truth),
            DeValue::Array(list) => Given::List(list),
            DeValue::Table(table) => Given::Table(table),
            DeValue::Float(number) => Given::Decimal(number.as_str()),
            other => Given::Other(other.type_str()),
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Given::Text(_) | Given::Argument(_) => "text",
            Given::Number(_) => "number",
            Given::Truth(_) => "truth value",
            Given::List(_) => "list",
            Given::Table(_) => "table",
            Given::Decimal(_) => "decimal number",
            Given::Other(kind) => kind,
        }
    }

    pub(super) fn text(self, example: &str) -> Result<&'a str, String> {
        match self {
            Given::Text(text) | Given::Argument(text) => match text.chars().find(|c| c.is_control()) {
                Some(_) => Err(format!("control characters are not allowed in {}", quoted(text))),
                None => Ok(text),
            },
            other => Err(format!("a text in quotes is expected, as in {example}, not a {}", other.kind())),
        }
    }

    /// A time span; a bare number means seconds.
    pub(super) fn span(self, allowed: &RangeInclusive<Duration>) -> Result<Duration, String> {
        match self {
            Given::Number(Some(seconds)) => parse_span_in(&seconds.to_string(), allowed),
            Given::Number(None) => Err(format!("the number is out of range, {} is allowed", Allowed(allowed))),
            other => parse_span_in(other.text("\"30s\"")?, allowed),
        }
    }

    pub(super) fn number(self, allowed: RangeInclusive<u64>) -> Result<u64, String> {
        let refuse = |what: &str| match *allowed.end() {
            u64::MAX => Err(format!("{what} is not a whole number of {} or more", allowed.start())),
            end => Err(format!("{what} is not a whole number from {} to {end}", allowed.start())),
        };
        match self {
            Given::Number(Some(number)) if allowed.contains(&number) => Ok(number),
            Given::Number(Some(number)) => refuse(&number.to_string()),
            Given::Number(None) => refuse("this"),
            Given::Argument(text) => match text.parse() {
                Ok(number) if allowed.contains(&number) => Ok(number),
                _ => refuse(&quoted(text)),
            },
            Given::Text(text) if text.parse::<u64>().is_ok() => {
                Err(format!("a number is expected; write {text} without the quotes"))
            }
            other => refuse(&format!("a {}", other.kind())),
        }
    }

    pub(super) fn truth(self) -> Result<bool, String> {
        match self {
            Given::Truth(truth) => Ok(truth),
            Given::Argument("true" | "yes" | "on" | "1") => Ok(true),
            Given::Argument("false" | "no" | "off" | "0") => Ok(false),
            Given::Argument(text) => Err(format!("{} is neither \"true\" nor \"false\"", quoted(text))),
            other => Err(format!("true or false is expected, without quotes, not a {}", other.kind())),
        }
    }

    pub(super) fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Result<T, String> {
        let (example, _) = choices[0];
        let text = self.text(&format!("\"{example}\""))?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let (last, first) = names.split_last().map_or(("", &[][..]), |(last, first)| (last.as_str(), first));
            format!("{} is not one of {} and {last}", quoted(text), first.join(", "))
        })
    }

    /// A list of texts.
    pub(super) fn words(self, example: &str) -> Result<Vec<String>, String> {
        let expected = |kind: &str| format!("a list of texts is expected, as in {example}, not a {kind}");
        match self {
            Given::List(list) => {
                let word = |value: &Spanned<DeValue<'_>>| match Given::new(value.get_ref()) {
                    Given::Text(text) => Ok(text.to_owned()),
                    other => Err(format!("a list of texts is expected; it contains a {}", other.kind())),
                };
                list.iter().map(word).collect()
            }
            Given::Argument(_) => with_value(self, |given| match given {
                Given::List(_) => given.words(example),
                other => Err(expected(other.kind())),
            })
            .map_err(|_| expected("text")),
            other => Err(expected(other.kind())),
        }
    }

    /// Percent of one processor, which may be more than a hundred.
    fn percent(self) -> Result<Percent, String> {
        let text = self.text("\"90%\"")?;
        let number = text.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
        match number {
            Some(percent @ 1..=PERCENT_MAX) => Ok(Percent(percent)),
            _ => Err(format!("{} is not a percentage of one processor, as in \"90%\" or \"400%\"", quoted(text))),
        }
    }

    /// `1s..5min`, or one pause for all attempts; `0s` means none.
    pub(super) fn back_off(self) -> Result<BackOff, String> {
        let allowed = Duration::ZERO..=BACK_OFF_MAX;
        if let Given::Number(_) = self {
            let pause = self.span(&allowed)?;
            return Ok(BackOff { first: pause, cap: pause });
        }
        let text = self.text("\"1s..5min\"")?;
        let (first, cap) = text.split_once("..").unwrap_or((text, text));
        let (first, cap) = (parse_span_in(first, &allowed)?, parse_span_in(cap, &allowed)?);
        if first > cap {
            return Err(format!("{}: the first pause is longer than the longest one", quoted(text)));
        }
        Ok(BackOff { first, cap })
    }

    /// `5/1h`: attempts within a window.
    pub(super) fn budget(self) -> Result<Budget, String> {
        let text = self.text("\"5/1h\"")?;
        let Some((attempts, window)) = text.split_once('/') else {
            return Err(format!("{} is not a budget; write attempts and a window, as in \"5/1h\"", quoted(text)));
        };
        let attempts = match attempts.trim().parse::<u32>() {
            Ok(attempts @ 1..=BUDGET_MAX) => attempts,
            _ => return Err(format!("{}: the attempts must be a whole number from 1 to {BUDGET_MAX}", quoted(text))),
        };
        let window = parse_span(window)?;
        if !WINDOW.contains(&window) {
            return Err(format!("{}: the window is out of range, {} is allowed", quoted(text), Allowed(&WINDOW)));
        }
        Ok(Budget { attempts, window })
    }
}

/// Gives what a command line or D-Bus has spelt as a value of its own.
pub(super) fn with_value<T>(given: Given<'_>, read: impl Fn(Given<'_>) -> Result<T, String>) -> Result<T, String> {
    let Given::Argument(text) = given else { return read(given) };
    let line = format!("x = {text}");
    let parsed =
        DeTable::parse(&line).map_err(|_| format!("{} is not a value as policy files spell it", quoted(text)))?;
    match parsed.get_ref().iter().next() {
        Some((_, value)) if parsed.get_ref().len() == 1 => read(Given::new(value.get_ref())),
        _ => Err(format!("{} is not one value", quoted(text))),
    }
}

/// A file or a directory; what is not absolute is below the state directory.
fn place(given: Given<'_>) -> Result<Arc<str>, String> {
    let text = given.text("\"recordings\"")?;
    if text.is_empty() || text.split('/').any(|part| part == "..") {
        return Err(format!("{} is no path; \"..\" is not allowed in it", quoted(text)));
    }
    Ok(text.into())
}

fn times(given: Given<'_>, least: u64) -> Result<u32, String> {
    Ok(u32::try_from(given.number(least..=1_000)?).unwrap_or(u32::MAX))
}

pub(super) fn put<T>(slot: &mut Option<Setting<T>>, value: T, from: Source) {
    *slot = Some(Setting { value, from });
}

/// Puts the value of `key`, one of [`crate::engine::policy::KEYS`], into the layer. A text that comes back is a warning.
pub fn set_policy(layer: &mut Layer, key: &str, given: Given<'_>, from: Source) -> Result<Option<String>, String> {
    if let Some(key) = key.strip_prefix("progress.") {
        return super::progress::set(layer, key, given, from);
    }
    let mut warning = None;
    match key {
        "worker.after-success" => {
            let choices = [("complete", AfterSuccess::Complete), ("restart", AfterSuccess::Restart)];
            put(&mut layer.after_success, given.choice(&choices)?, from);
        }
        "worker.notify" => put(&mut layer.notify, given.truth()?, from),
        "restart.back-off" => {
            let back_off = given.back_off()?;
            if back_off.first.is_zero() && !back_off.cap.is_zero() {
                warning = Some("a first pause of 0 never grows; there will be no pause at all".into());
            }
            put(&mut layer.back_off, back_off, from);
        }
        "restart.budget" => put(&mut layer.budget, given.budget()?, from),
        "restart.reset-after" => put(&mut layer.reset_after, given.span(&RESET_AFTER)?, from),
        "restart.verify" => put(&mut layer.verify, given.span(&VERIFY)?, from),
        "restart.grace" => put(&mut layer.grace, given.span(&GRACE)?, from),
        "restart.dump-grace" => put(&mut layer.dump_grace, given.span(&GRACE)?, from),
        "restart.dump-command" => {
            let example = "[\"/usr/bin/py-spy\", \"dump\", \"--pid\", \"$MAINPID\"]";
            put(&mut layer.dump_command, Some(super::progress::command(given, example)?), from);
        }
        "restart.dump-signal" => {
            let text = given.text("\"SIGABRT\"")?;
            let signal = match text {
                "none" => 0,
                name => nix::sys::signal::Signal::from_str(name)
                    .map(|signal| signal as i32)
                    .map_err(|_| format!("{} is neither a signal such as \"SIGABRT\" nor \"none\"", quoted(name)))?,
            };
            put(&mut layer.dump_signal, DumpSignal(signal), from);
        }
        "limits.memory" => {
            let text = given.text("\"8G\"")?;
            match parse_size(text)? {
                0 => return Err(format!("{} is no limit; leave the key out for none", quoted(text))),
                bytes => put(&mut layer.limit_memory, Some(Size(bytes)), from),
            }
        }
        "limits.cpu" => put(&mut layer.limit_cpu, Some(given.percent()?), from),
        "limits.for" => put(&mut layer.limit_for, given.span(&LIMIT_FOR)?, from),
        "restart.on-exhausted" => {
            let choices = [
                ("quarantine", OnExhausted::Quarantine),
                ("stop", OnExhausted::Stop),
                ("pause", OnExhausted::Pause),
                ("next-remedy", OnExhausted::NextRemedy),
            ];
            put(&mut layer.on_exhausted, given.choice(&choices)?, from);
        }
        "worker.dry-run" => put(&mut layer.dry_run, given.truth()?, from),
        "restart.same-cause" => put(&mut layer.same_cause, times(given, 1)?, from),
        "restart.by-verdict" => put(&mut layer.by_verdict, given.truth()?, from),
        "restart.cooldown" => put(&mut layer.cooldown, given.span(&COOLDOWN)?, from),
        "restart.restore-after" => put(&mut layer.restore_after, Some(given.span(&RESET_AFTER)?), from),
        "restart.leftovers" => {
            let choices = [("end", Leftovers::End), ("keep", Leftovers::Keep)];
            put(&mut layer.leftovers, given.choice(&choices)?, from);
        }
        "restart.settle" => put(&mut layer.settle, given.span(&SETTLE)?, from),
        "restart.then" => put(
            &mut layer.then,
            Some(super::progress::command_line(given, "[\"curl\", \"-fsS\", \"http://127.0.0.1:8001/next\"]")?),
            from,
        ),
        "restart.then-retries" => put(&mut layer.then_retries, times(given, 0)?, from),
        "restart.then-within" => put(&mut layer.then_within, given.span(&THEN_WITHIN)?, from),
        _ => match key.strip_prefix("checkpoints.") {
            Some(key) => super::checkpoints::set(layer, key, given, from)?,
            None => return Err("unknown key".into()),
        },
    }
    Ok(warning)
}

/// Puts the value of `key`, one of [`super::keys::SETTINGS_KEYS`], into the settings.
pub fn set_manager(settings: &mut Settings, key: &str, given: Given<'_>) -> Result<(), String> {
    match key {
        "manager.dry-run" => settings.dry_run = given.truth()?,
        "manager.max-jobs" => settings.max_jobs = u32::try_from(given.number(MAX_JOBS)?).unwrap_or(u32::MAX),
        "manager.keep-incidents" => settings.keep_incidents = given.span(&KEEP_INCIDENTS)?,
        "manager.keep-finished" => settings.keep_finished = given.span(&KEEP_FINISHED)?,
        "manager.record" => settings.record = Some(place(given)?),
        _ => match key.strip_prefix("notify.") {
            Some(key) => super::notify::set(&mut settings.notify, key, given)?,
            None => return Err("unknown key".into()),
        },
    }
    Ok(())
}
