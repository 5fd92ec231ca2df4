// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values in systemd's spelling: time spans (systemd.time(7)), sizes (base 1024, as in `MemoryMax=`) and percentages.
//!
//! An error is a sentence fragment that names the value and says what would be accepted. No input overflows.

use crate::engine::time::Span;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: u64 = 60_000_000;
const DAY: u64 = 86_400_000_000;

/// The units that systemd's `parse_time` knows, in microseconds; a month is 30.44 days and a year 365.25, as there.
const TIME_UNITS: &[(&[&str], u64)] = &[
    (&["us", "usec", "µs", "μs"], 1),
    (&["ms", "msec"], 1_000),
    (&["s", "sec", "second", "seconds"], 1_000_000),
    (&["min", "m", "minute", "minutes"], MINUTE),
    (&["h", "hr", "hour", "hours"], 60 * MINUTE),
    (&["d", "day", "days"], DAY),
    (&["w", "week", "weeks"], 7 * DAY),
    (&["M", "month", "months"], 2_629_800_000_000),
    (&["y", "year", "years"], 31_557_600_000_000),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("P", 1 << 50),
    ("E", 1 << 60),
];

/// Reads a time span such as `1min 30s`, `1.5h` or `90` (seconds); exact to the microsecond, at most 292,000 years.
///
/// `infinity` is refused: nothing here may wait for ever.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let refuse = |why: &str| Err(format!("{} is not a time span: {why}", quoted(text)));
    let mut rest = text.trim();
    if rest.is_empty() {
        return refuse("it is empty; write one such as \"90s\" or \"1min 30s\"");
    }
    if rest.eq_ignore_ascii_case("infinity") {
        return Err("\"infinity\" is not allowed here; write a time span such as \"1min 30s\"".into());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        if rest.starts_with('-') {
            return refuse("it is negative");
        }
        let (number, after) = split_number(rest);
        let word_end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (word, after) = after.split_at(word_end);
        let Some(number) = number else {
            return refuse(&format!("a number is expected before {}", quoted(rest)));
        };
        let unit = if word.is_empty() { "s" } else { word };
        let Some((_, factor)) = TIME_UNITS.iter().find(|(names, _)| names.contains(&unit)) else {
            return refuse(&format!(
                "the unit {} is unknown (us, ms, s, min, h, d, w, month and y are known)",
                quoted(word)
            ));
        };
        match number.times(*factor).and_then(|part| total.checked_add(part)) {
            Some(sum) if sum <= i64::MAX as u128 => total = sum,
            _ => return refuse("it is too long"),
        }
        rest = after.trim_start();
    }
    Ok(Duration::from_micros(u64::try_from(total).unwrap_or(u64::MAX)))
}

/// Reads a time span that must lie within `allowed`.
pub fn parse_span_in(text: &str, allowed: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let span = parse_span(text)?;
    if allowed.contains(&span) {
        return Ok(span);
    }
    Err(format!("{} is out of range, {} is allowed", quoted(text), Allowed(allowed)))
}

/// Prints a range of time spans: `1s to 30d`.
pub struct Allowed<'a>(pub &'a RangeInclusive<Duration>);

impl fmt::Display for Allowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Weeks are no unit that people think in here: "30d", not "4w 2d".
        let end = self.0.end().as_secs();
        write!(f, "{} to ", Span(*self.0.start()))?;
        if end > 86_400 && end.is_multiple_of(86_400) {
            write!(f, "{}d", end / 86_400)
        } else {
            write!(f, "{}", Span(*self.0.end()))
        }
    }
}

/// Reads a size such as `4G`, `1.5M` or `4096`: bytes, with the suffixes K, M, G, T, P and E to the base of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let refuse = |why: &str| Err(format!("{} is not a size: {why}", quoted(text)));
    let (number, suffix) = split_number(text.trim());
    let Some(number) = number else {
        return refuse("a number is expected, as in \"512M\"");
    };
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == suffix.trim()) else {
        return refuse("the suffix must be one of K, M, G, T, P, E (base 1024)");
    };
    match number.times(*factor).and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) => Ok(bytes),
        None => refuse("it is more than 16E"),
    }
}

/// Reads a percentage such as `80%` or `12.5%`, from 0% to 100%, in hundredths of a percent.
pub fn parse_percent(text: &str) -> Result<u16, String> {
    let refuse = || Err(format!("{} is not a percentage from 0% to 100%, as in \"80%\"", quoted(text)));
    let Some(number) = text.trim().strip_suffix('%') else {
        return refuse();
    };
    match split_number(number.trim_end()) {
        (Some(number), "") => match number.times(100) {
            Some(hundredths @ 0..=10_000) => Ok(u16::try_from(hundredths).unwrap_or(10_000)),
            _ => refuse(),
        },
        _ => refuse(),
    }
}

/// Prints a time span in full, so that [`parse_span`] reads the same value: `1h 1min 1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactSpan(pub Duration);

impl fmt::Display for ExactSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 7] = [
            ("w", 7 * DAY as u128),
            ("d", DAY as u128),
            ("h", 60 * MINUTE as u128),
            ("min", MINUTE as u128),
            ("s", 1_000_000),
            ("ms", 1_000),
            ("us", 1),
        ];
        let mut rest = self.0.as_micros();
        let mut gap = "";
        for (unit, size) in UNITS {
            if rest >= size {
                write!(f, "{gap}{}{unit}", rest / size)?;
                rest %= size;
                gap = " ";
            }
        }
        if gap.is_empty() { f.write_str("0s") } else { Ok(()) }
    }
}

/// Quotes a value for a message: control characters escaped, long texts cut.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A decimal number: `digits / 10^places`.
struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// The number times `factor`, cut to a whole; `None` if it does not fit.
    fn times(&self, factor: u64) -> Option<u128> {
        Some(self.digits.checked_mul(u128::from(factor))? / 10u128.checked_pow(self.places)?)
    }
}

/// Splits a number without a sign off the front; digits beyond the twelfth decimal place are dropped.
fn split_number(text: &str) -> (Option<Decimal>, &str) {
    const MOST_PLACES: usize = 12;
    let digits_end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, mut rest) = text.split_at(digits_end(text));
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = after.split_at(digits_end(after));
        if fraction.is_empty() {
            return (None, text);
        }
    }
    if whole.is_empty() && fraction.is_empty() {
        return (None, text);
    }
    let kept = &fraction[..fraction.len().min(MOST_PLACES)];
    // Too many digits for 128 bits saturate, and then fail in `times`.
    let digits = format!("{whole}{kept}").parse().unwrap_or(u128::MAX);
    (Some(Decimal { digits, places: u32::try_from(kept.len()).unwrap_or(0) }), rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_as_systemd_reads_them() {
        let cases: &[(&str, u64)] = &[
            ("1min 30s", 90_000_000),
            ("1min30s", 90_000_000),
            ("1 min 30", 90_000_000),
            ("2h", 7_200_000_000),
            ("500ms", 500_000),
            ("1.5h", 5_400_000_000),
            (".5s", 500_000),
            ("90", 90_000_000),
            ("0", 0),
            (" 3 days ", 259_200_000_000),
            ("1M", 2_629_800_000_000),
            ("1m", 60_000_000),
            ("7µs", 7),
            ("1y", 31_557_600_000_000),
            ("0.0000001s", 0),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_span(text), Ok(Duration::from_micros(*micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_span_is_refused_with_the_reason() {
        let cases = [
            ("", "\"\" is not a time span: it is empty; write one such as \"90s\" or \"1min 30s\""),
            ("-5s", "\"-5s\" is not a time span: it is negative"),
            ("5 minuts", "the unit \"minuts\" is unknown (us, ms, s, min, h, d, w, month and y are known)"),
            ("min", "a number is expected before \"min\""),
            ("1.", "a number is expected before \"1.\""),
            ("5s,", "a number is expected before \",\""),
            ("1e9s", "the unit \"e\" is unknown"),
            ("infinity", "\"infinity\" is not allowed here"),
            ("99999999999999999999999999999999999999999999y", "it is too long"),
            ("300000y", "it is too long"),
            ("9223372036854775807us 1us", "it is too long"),
            ("1\n2", "\"1\\n2\""),
        ];
        for (text, expected) in cases {
            let answer = parse_span(text);
            if text == "1\n2" {
                // White space separates, as it does for systemd.
                assert_eq!(answer, Ok(Duration::from_secs(3)));
                continue;
            }
            let error = answer.expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn exact_spans_are_read_back_as_the_same_value() {
        for micros in [0, 1, 999, 3_661_000_001, 86_400_000_000, 8_639_913_600_123_456, i64::MAX as u64] {
            let span = Duration::from_micros(micros);
            assert_eq!(parse_span(&ExactSpan(span).to_string()), Ok(span));
        }
        assert_eq!(ExactSpan(Duration::from_secs(3661)).to_string(), "1h 1min 1s");
    }

    #[test]
    fn sizes_have_the_base_1024_and_percentages_end_at_100() {
        assert_eq!(parse_size("4G"), Ok(4 << 30));
        assert_eq!(parse_size("1.5K"), Ok(1536));
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("15E"), Ok(15 << 60));
        for bad in ["16E", "4 GB", "-1", "", "G", "4g", "1e3", "99999999999999999999999999999999999999999E"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_percent("80%"), Ok(8000));
        assert_eq!(parse_percent("12.5 %"), Ok(1250));
        for bad in ["80", "101%", "100.01%", "-1%", "%", "1%%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
