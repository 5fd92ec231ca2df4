// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the keys of `[progress]` accept.

use super::given::{Given, put};
use super::value::{Allowed, quoted};
use crate::engine::condition::Condition;
use crate::engine::pace::StallAfter;
use crate::engine::policy::{CommandLine, Layer, Source, Total};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const EVERY: RangeInclusive<Duration> = SECOND..=DAY;
const STALL: RangeInclusive<Duration> = SECOND..=Duration::from_secs(30 * 86_400);
const REPORT: RangeInclusive<Duration> = SECOND..=DAY;
/// The most words of a command.
const WORDS_MAX: usize = 100;
/// The longest address, path or pattern, in bytes.
const TEXT_MAX: usize = 1_000;

/// Puts the value of `progress.KEY` into the layer. A text that comes back is a warning.
pub fn set(layer: &mut Layer, key: &str, given: Given<'_>, from: Source) -> Result<Option<String>, String> {
    match key {
        "notify" => put(&mut layer.progress_notify, given.truth()?, from),
        "file" => put(&mut layer.progress_file, Some(path(given, "\"/srv/train/status.json\"")?), from),
        "count" => put(&mut layer.progress_count, Some(path(given, "\"/srv/out/*.csv\"")?), from),
        "mtime" => put(&mut layer.progress_mtime, Some(path(given, "\"/srv/train/ckpt/*\"")?), from),
        "http" => put(&mut layer.progress_http, Some(address(given)?), from),
        "command" => {
            put(&mut layer.progress_command, Some(command(given, "[\"/usr/bin/queue-status\", \"--json\"]")?), from)
        }
        "journal" => put(&mut layer.progress_journal, Some(pattern(given)?), from),
        "every" => put(&mut layer.progress_every, given.span(&EVERY)?, from),
        "heartbeat" => put(&mut layer.progress_heartbeat, Some(given.span(&STALL)?), from),
        "total" => put(&mut layer.progress_total, Some(total(given)?), from),
        "value" => put(&mut layer.progress_value, Some(field(given)?), from),
        "active" => put(&mut layer.progress_active, Some(field(given)?), from),
        "pending" => put(&mut layer.progress_pending, Some(field(given)?), from),
        "failed" => put(&mut layer.progress_failed, Some(field(given)?), from),
        "completed" => put(&mut layer.progress_completed, Some(field(given)?), from),
        "cursor" => put(&mut layer.progress_cursor, Some(field(given)?), from),
        "stage" => put(&mut layer.progress_stage, Some(field(given)?), from),
        "stall-after" => put(&mut layer.stall_after, stall_after(given)?, from),
        "stall-min" => put(&mut layer.stall_min, given.span(&STALL)?, from),
        "stall-max" => put(&mut layer.stall_max, given.span(&STALL)?, from),
        "suspect-after" => match stall_after(given)? {
            StallAfter::Adaptive => return Err("\"never\" or a time is expected, as in \"30min\"".into()),
            after => put(&mut layer.suspect_after, after, from),
        },
        "warm-up" => put(&mut layer.warm_up, given.span(&STALL)?, from),
        "stalled-when" => {
            put(&mut layer.stalled_when, Some(condition(given, "\"active == 0 and pending > 0\"")?), from)
        }
        "strikes" => {
            let strikes = u32::try_from(given.number(1..=1_000)?).unwrap_or(u32::MAX);
            put(&mut layer.strikes, strikes, from);
        }
        "complete-when" => {
            let example = "\"pending == 0 and active == 0 and completed > 0\"";
            put(&mut layer.complete_when, Some(condition(given, example)?), from);
        }
        "report" => put(&mut layer.progress_report, Some(given.span(&REPORT)?), from),
        _ => return Err("unknown key".into()),
    }
    Ok(None)
}

fn text<'a>(given: Given<'a>, example: &str) -> Result<&'a str, String> {
    let text = given.text(example)?;
    match text.len() {
        0 => Err(format!("the text is empty; write something like {example}")),
        1..=TEXT_MAX => Ok(text),
        _ => Err(format!("the text is longer than {TEXT_MAX} bytes")),
    }
}

pub(super) fn path(given: Given<'_>, example: &str) -> Result<Arc<str>, String> {
    let text = text(given, example)?;
    if !text.starts_with('/') {
        return Err(format!("{} is not a full path, as in {example}", quoted(text)));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("{}: \"..\" is not allowed", quoted(text)));
    }
    Ok(text.into())
}

fn address(given: Given<'_>) -> Result<Arc<str>, String> {
    let example = "\"http://127.0.0.1:8001/status\"";
    let text = text(given, example)?;
    let host = text.strip_prefix("http://").and_then(|rest| rest.split(['/', '?']).next());
    match host {
        Some(host) if !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace) => Ok(text.into()),
        _ => Err(format!("{} is not an address as in {example}", quoted(text))),
    }
}

fn pattern(given: Given<'_>) -> Result<Arc<str>, String> {
    let text = text(given, r"'step (\d+)/(\d+)'")?;
    match regex_syntax::ParserBuilder::new().utf8(false).unicode(false).nest_limit(50).build().parse(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            Err(format!("not a valid pattern: {}", last.strip_prefix("error: ").unwrap_or(last)))
        }
    }
}

pub(super) fn command(given: Given<'_>, example: &str) -> Result<CommandLine, String> {
    let CommandLine(words) = command_line(given, example)?;
    if !words[0].starts_with('/') {
        return Err(format!("{} is not a full path", quoted(&words[0])));
    }
    Ok(CommandLine(words))
}

/// A program, by its full path or by a name that is looked for where systemd looks for programs, and its arguments.
pub(super) fn command_line(given: Given<'_>, example: &str) -> Result<CommandLine, String> {
    let words = given.words(example)?;
    if words.is_empty() || words.len() > WORDS_MAX {
        return Err(format!("a command has 1 to {WORDS_MAX} words"));
    }
    if words[0].is_empty() || (words[0].contains('/') && !words[0].starts_with('/')) {
        return Err(format!("{} is neither a full path nor the name of a program", quoted(&words[0])));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err("NUL is not allowed in a command".into());
    }
    Ok(CommandLine(words.into_iter().map(Arc::from).collect()))
}

fn total(given: Given<'_>) -> Result<Total, String> {
    match given {
        Given::Text(text) if text.parse::<u64>().is_err() => Ok(Total::Field(field(given)?)),
        Given::Argument(text) if text.parse::<i128>().is_err() => Ok(Total::Field(field(given)?)),
        other => Ok(Total::Number(other.number(1..=u64::MAX)?)),
    }
}

/// A JSON pointer or the name of a key.
fn field(given: Given<'_>) -> Result<Arc<str>, String> {
    text(given, "\"/step\"").map(Arc::from)
}

fn stall_after(given: Given<'_>) -> Result<StallAfter, String> {
    match given {
        Given::Text("adaptive") | Given::Argument("adaptive") => Ok(StallAfter::Adaptive),
        Given::Text("never") | Given::Argument("never") => Ok(StallAfter::Never),
        other => other
            .span(&STALL)
            .map(StallAfter::After)
            .map_err(|_| format!("\"adaptive\", \"never\" or a time is expected, {} is allowed", Allowed(&STALL))),
    }
}

fn condition(given: Given<'_>, example: &str) -> Result<Condition, String> {
    let text = text(given, example)?;
    Condition::parse(text).map_err(|error| format!("{}: {error}", quoted(text)))
}
