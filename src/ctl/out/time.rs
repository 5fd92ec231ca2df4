// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times for people, as systemd writes them, and for programs, as RFC 3339.

use super::Look;
use crate::engine::time::{Span, Wall};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::time::Duration;

/// `Mon 2026-11-23 14:05:07 UTC`.
pub fn stamp(at: Wall, look: &Look) -> String {
    written(at, look, "%a %Y-%m-%d %H:%M:%S %Z")
}

/// `14:05:07`, with the date in front of it if that is another day than today.
pub fn clock(at: Wall, look: &Look) -> String {
    match (zoned(at, &look.zone), zoned(look.now, &look.zone)) {
        (Some(then), Some(now)) if then.date() == now.date() => then.strftime("%H:%M:%S").to_string(),
        _ => written(at, look, "%Y-%m-%d %H:%M:%S"),
    }
}

/// As [`clock`], without seconds where they are zero: `18:00`.
pub fn short_clock(at: Wall, look: &Look) -> String {
    let clock = clock(at, look);
    clock.strip_suffix(":00").filter(|short| short.contains(':')).map_or(clock.clone(), str::to_owned)
}

/// `2min 5s ago`, `in 12s` or `now`; `-` for never.
pub fn relative(at: Wall, look: &Look) -> String {
    if at == Wall::NEVER {
        return "-".to_owned();
    }
    let (past, future) = (look.now.since(at), at.since(look.now));
    if future >= Duration::from_millis(1) {
        format!("in {}", span(future))
    } else if past < Duration::from_millis(1) {
        "now".to_owned()
    } else {
        format!("{} ago", span(past))
    }
}

/// A span without parts that only disturb: no milliseconds beside seconds.
pub fn span(span: Duration) -> Span {
    if span >= Duration::from_secs(1) { Span(Duration::from_secs(span.as_secs())) } else { Span(span) }
}

/// `2026-11-23T14:05:07.123456Z`; `None` for never, and for what no calendar has.
pub fn rfc3339(usec: u64) -> Option<String> {
    let usec = i64::try_from(usec).ok().filter(|usec| *usec != 0)?;
    Some(format!("{:.6}", Timestamp::from_microsecond(usec).ok()?))
}

fn written(at: Wall, look: &Look, format: &str) -> String {
    match zoned(at, &look.zone) {
        Some(zoned) if at != Wall::NEVER => zoned.strftime(format).to_string(),
        _ => "-".to_owned(),
    }
}

fn zoned(at: Wall, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_microsecond(at.0).ok()?.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::look;
    use super::*;

    const NOW: i64 = super::super::tests::NOW.0;

    #[test]
    fn times_read_as_systemd_writes_them() {
        let look = look();
        assert_eq!(stamp(Wall(NOW), &look), "Mon 2026-11-23 14:05:07 UTC");
        assert_eq!(stamp(Wall::NEVER, &look), "-");
        assert_eq!(clock(Wall(NOW - 7_000_000), &look), "14:05:00");
        assert_eq!(short_clock(Wall(NOW - 7_000_000), &look), "14:05");
        assert_eq!(clock(Wall(NOW + 86_400_000_000), &look), "2026-11-24 14:05:07");
        assert_eq!(relative(Wall(NOW - 125_400_000), &look), "2min 5s ago");
        assert_eq!(relative(Wall(NOW + 12_000_000), &look), "in 12s");
        assert_eq!(relative(Wall(NOW), &look), "now");
        assert_eq!(relative(Wall::NEVER, &look), "-");
        assert_eq!(relative(Wall(i64::MAX), &look).get(..3), Some("in "));
        assert_eq!(stamp(Wall(i64::MAX), &look), "-");
    }

    #[test]
    fn programs_get_microseconds_in_utc() {
        assert_eq!(rfc3339(1_795_442_707_000_001).as_deref(), Some("2026-11-23T14:05:07.000001Z"));
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
