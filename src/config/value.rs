// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values in systemd's spelling: time spans, back-offs, budgets; and the nearest known word to a wrong one.

use crate::engine::policy::{BUDGET_MAX, BackOff, Budget};
use crate::engine::time::Span;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest span that makes sense anywhere: a hundred years.
const SPAN_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// Reads a time span as systemd.time(7) writes it: `1min 30s`, `500ms`, `1.5h`; a bare number means seconds.
pub fn span(text: &str) -> Result<Duration, String> {
    const SPELLING: &str = "a time span such as \"30s\", \"1min 30s\" or \"2h\"";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("it is empty; {SPELLING} is wanted"));
    }
    if rest == "infinity" {
        return Err("\"infinity\" is not allowed here".into());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| format!("{text:?} is not {SPELLING}"))?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = unit_seconds(&rest[..letters]).ok_or_else(|| format!("{text:?} is not {SPELLING}"))?;
        rest = rest[letters..].trim_start();
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| format!("{text:?} is too long"))?;
        total = total.checked_add(part).filter(|total| *total <= SPAN_MAX).ok_or(format!("{text:?} is too long"))?;
    }
    Ok(total)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" | "usec" | "µs" | "μs" => 1e-6,
        "ms" | "msec" => 1e-3,
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        "M" | "month" | "months" => 2_629_800.0,
        "y" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

/// Reads a time span that must lie in `allowed`.
pub fn span_in(text: &str, allowed: RangeInclusive<Duration>) -> Result<Duration, String> {
    let span = span(text)?;
    if allowed.contains(&span) {
        return Ok(span);
    }
    Err(format!("{} is out of range; {} to {} is allowed", Span(span), Span(*allowed.start()), Span(*allowed.end())))
}

/// Reads `1s..5min`, or one span that does not grow.
pub fn back_off(text: &str) -> Result<BackOff, String> {
    let allowed = Duration::ZERO..=Duration::from_secs(7 * 86_400);
    let (first, cap) = text.split_once("..").unwrap_or((text, text));
    let first = span_in(first, allowed.clone())?;
    let cap = span_in(cap, allowed)?;
    if first > cap {
        return Err(format!("the first pause ({}) is longer than the longest one ({})", Span(first), Span(cap)));
    }
    Ok(BackOff { first, cap })
}

/// Reads `5/1h`.
pub fn budget(text: &str) -> Result<Budget, String> {
    let wrong = || format!("{text:?} is not a budget such as \"5/1h\" (attempts per window)");
    let (attempts, window) = text.split_once('/').ok_or_else(wrong)?;
    let attempts: u32 = attempts.trim().parse().map_err(|_| wrong())?;
    if !(1..=BUDGET_MAX).contains(&attempts) {
        return Err(format!("{attempts} attempts are out of range; 1 to {BUDGET_MAX} are allowed"));
    }
    let window = span_in(window, Duration::from_secs(1)..=Duration::from_secs(30 * 86_400))?;
    Ok(Budget { attempts, window })
}

/// The known word that is most like `wrong`, if one is like it at all.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > 64 {
        return None;
    }
    let limit = (wrong.len() / 3).max(1);
    let rated = known.into_iter().map(|word| (distance(wrong, word), word));
    rated.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_systemd_reads_them() {
        let cases = [
            ("30", 30_000_000),
            ("1min 30s", 90_000_000),
            ("1min30s", 90_000_000),
            ("1.5h", 5_400_000_000),
            ("500ms", 500_000),
            ("0", 0),
            ("2 d", 172_800_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(span(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "infinity", "5 parsecs", "-3s", "1e9", "1..2s", "9999999999999y", "s"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn back_offs_and_budgets_say_what_is_allowed() {
        assert_eq!(
            back_off("1s..5min"),
            Ok(BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(300) })
        );
        assert_eq!(back_off("0s"), Ok(BackOff { first: Duration::ZERO, cap: Duration::ZERO }));
        assert_eq!(back_off("5min..1s"), Err("the first pause (5min) is longer than the longest one (1s)".into()));
        assert_eq!(budget("5/1h"), Ok(Budget { attempts: 5, window: Duration::from_secs(3600) }));
        assert_eq!(budget("0/1h"), Err("0 attempts are out of range; 1 to 10000 are allowed".into()));
        assert_eq!(budget("5"), Err("\"5\" is not a budget such as \"5/1h\" (attempts per window)".into()));
    }

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["budget", "back-off", "verify"];
        assert_eq!(nearest("bugdet", known), Some("budget"));
        assert_eq!(nearest("backoff", known), Some("back-off"));
        assert_eq!(nearest("colour", known), None);
    }
}
