// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times as people type them: `18:00`, `2h`, `tomorrow`, `2026-11-23 18:00`, `@1795442707`, RFC 3339.

use super::out::Look;
use crate::engine::time::Wall;
use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, ToSpan, Zoned};
use std::time::Duration;

/// Where a time without a date, or a span, lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `2h` is in two hours, `18:00` is the next 18:00.
    Ahead,
    /// `2h` is two hours ago, `18:00` is the last 18:00.
    Behind,
}

/// Reads a time; the error is a sentence fragment.
pub fn read(text: &str, side: Side, look: &Look) -> Result<Wall, String> {
    let wrong = || format!("{text:?} is not a time, such as 18:00, 2h, tomorrow or \"2026-11-23 18:00\"");
    let now = Timestamp::from_microsecond(look.now.0).map_err(|_| wrong())?.to_zoned(look.zone.clone());
    let trimmed = text.trim();
    let span = |text: &str, side| match (crate::config::value::parse_span(text), side) {
        (Ok(span), Side::Ahead) => Some(look.now + span),
        (Ok(span), Side::Behind) => Some(Wall(look.now.0.saturating_sub(micros(span)))),
        (Err(_), _) => None,
    };
    let relative = match (trimmed.strip_prefix('+'), trimmed.strip_prefix('-'), trimmed.strip_suffix(" ago")) {
        (Some(ahead), ..) => span(ahead, Side::Ahead),
        (_, Some(behind), _) | (_, _, Some(behind)) => span(behind, Side::Behind),
        // A bare number could be seconds, an hour or a year.
        _ if trimmed.chars().all(|c| c.is_ascii_digit()) => None,
        _ => span(trimmed, side),
    };
    if let Some(at) = relative {
        return Ok(at);
    }
    let zoned = absolute(trimmed, side, &now).ok_or_else(wrong)?;
    Ok(Wall(zoned.timestamp().as_microsecond()))
}

fn absolute(text: &str, side: Side, now: &Zoned) -> Option<Zoned> {
    let midnight = |days: i64| now.date().checked_add(days.days()).ok()?.to_zoned(now.time_zone().clone()).ok();
    match text {
        "now" => return Some(now.clone()),
        "today" => return midnight(0),
        "tomorrow" => return midnight(1),
        "yesterday" => return midnight(-1),
        _ => {}
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return Some(Timestamp::from_second(seconds.parse().ok()?).ok()?.to_zoned(now.time_zone().clone()));
    }
    let in_zone = |date: Date, time: Time| DateTime::from_parts(date, time).to_zoned(now.time_zone().clone()).ok();
    if let Some(time) = time_of_day(text) {
        let today = in_zone(now.date(), time)?;
        return match side {
            Side::Ahead if today <= *now => in_zone(now.date().tomorrow().ok()?, time),
            Side::Behind if today > *now => in_zone(now.date().yesterday().ok()?, time),
            _ => Some(today),
        };
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.to_zoned(now.time_zone().clone()));
    }
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (date, time_of_day(time.trim())?),
        None => (text, Time::midnight()),
    };
    in_zone(date.parse().ok()?, time)
}

/// `18:00` or `18:00:30`.
fn time_of_day(text: &str) -> Option<Time> {
    let numbers: Option<Vec<i8>> = text
        .split(':')
        .map(|part| if part.chars().all(|c| c.is_ascii_digit()) { part.parse().ok() } else { None })
        .collect();
    match numbers?.as_slice() {
        [hour, minute] => Time::new(*hour, *minute, 0, 0).ok(),
        [hour, minute, second] => Time::new(*hour, *minute, *second, 0).ok(),
        _ => None,
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::out::tests::look;
    use super::super::out::time::stamp;
    use super::*;

    fn shown(text: &str, side: Side) -> String {
        read(text, side, &look()).map_or_else(|error| error, |at| stamp(at, &look()))
    }

    #[test]
    fn times_are_read_as_people_mean_them() {
        // It is Mon 2026-11-23 14:05:07 UTC.
        let cases = [
            ("18:00", "Mon 2026-11-23 18:00:00 UTC", "Sun 2026-11-22 18:00:00 UTC"),
            ("09:30", "Tue 2026-11-24 09:30:00 UTC", "Mon 2026-11-23 09:30:00 UTC"),
            ("2h", "Mon 2026-11-23 16:05:07 UTC", "Mon 2026-11-23 12:05:07 UTC"),
            ("1h 30min", "Mon 2026-11-23 15:35:07 UTC", "Mon 2026-11-23 12:35:07 UTC"),
            ("+5s", "Mon 2026-11-23 14:05:12 UTC", "Mon 2026-11-23 14:05:12 UTC"),
            ("-5s", "Mon 2026-11-23 14:05:02 UTC", "Mon 2026-11-23 14:05:02 UTC"),
            ("1d ago", "Sun 2026-11-22 14:05:07 UTC", "Sun 2026-11-22 14:05:07 UTC"),
            ("today", "Mon 2026-11-23 00:00:00 UTC", "Mon 2026-11-23 00:00:00 UTC"),
            ("tomorrow", "Tue 2026-11-24 00:00:00 UTC", "Tue 2026-11-24 00:00:00 UTC"),
            ("2026-12-01", "Tue 2026-12-01 00:00:00 UTC", "Tue 2026-12-01 00:00:00 UTC"),
            ("2026-12-01 08:15", "Tue 2026-12-01 08:15:00 UTC", "Tue 2026-12-01 08:15:00 UTC"),
            ("2026-12-01T08:15:30+02:00", "Tue 2026-12-01 06:15:30 UTC", "Tue 2026-12-01 06:15:30 UTC"),
            ("@1795442707", "Mon 2026-11-23 14:05:07 UTC", "Mon 2026-11-23 14:05:07 UTC"),
        ];
        for (text, ahead, behind) in cases {
            assert_eq!(shown(text, Side::Ahead), ahead, "{text}");
            assert_eq!(shown(text, Side::Behind), behind, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in ["", "25:00", "18:60", "soon", "2026-13-01", "18", "1:2:3:4", "@x", "+"] {
            assert!(read(bad, Side::Ahead, &look()).is_err(), "{bad}");
        }
    }
}
