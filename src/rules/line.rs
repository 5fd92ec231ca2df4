// SPDX-License-Identifier: MIT OR Apache-2.0
//! The front of a line: what journalctl, syslog, containers and launchers put before a program's own words.

use crate::engine::evidence::Source;
use memchr::memchr;

/// With this `journalctl -x` begins each line of its explanations, which say nothing about this run.
const CATALOG: &str = "\u{2591}\u{2591}";

/// A line without its front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Who wrote it, as far as the front tells.
    pub source: Option<Source>,
    pub text: &'a [u8],
}

/// Takes the front off a line of a log whose lines do not tell their source otherwise.
pub fn split(line: &[u8]) -> Line<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.strip_prefix(CATALOG.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")) {
        return Line { source: Some(Source::Manager), text: b"" };
    }
    if let Some(text) = dmesg(line) {
        return Line { source: Some(Source::Kernel), text };
    }
    match journal(line) {
        Some((identifier, text)) => Line { source: Some(source(identifier)), text },
        None => Line { source: None, text: line },
    }
}

/// `[   12.345678] text`, `[Mon Nov 23 10:11:12 2026] text`, or `<4>[12.3] text`.
fn dmesg(line: &[u8]) -> Option<&[u8]> {
    let line = match line {
        [b'<', a, b'>', rest @ ..] if a.is_ascii_digit() => rest,
        other => other,
    };
    let inside = line.strip_prefix(b"[")?;
    let end = memchr(b']', &inside[..inside.len().min(30)])?;
    let (stamp, text) = (inside[..end].trim_ascii_start(), inside[end + 1..].strip_prefix(b" ")?);
    let number = stamp.len() >= 5 && stamp.contains(&b'.') && stamp.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    (number || is_dmesg_date(stamp)).then_some(text)
}

/// `Mon Nov 23 10:11:12 2026`, as `dmesg -T` prints it.
fn is_dmesg_date(stamp: &[u8]) -> bool {
    stamp.len() == 24 && stamp[3] == b' ' && stamp[7] == b' ' && stamp[13] == b':' && stamp[16] == b':'
}

/// `Nov 23 10:11:12 host ident[12]: text`, also without the host, with the time also in the ISO form.
fn journal(line: &[u8]) -> Option<(&[u8], &[u8])> {
    const FRONT_MAX: usize = 200;
    let after_time = after_time(line)?;
    let front = &after_time[..after_time.len().min(FRONT_MAX)];
    let host_end = memchr(b' ', front)?;
    // Some leave the host out.
    let begin = if front[..host_end].ends_with(b":") { 0 } else { host_end + 1 };
    let rest = &after_time[begin..];
    let colon = front[begin..].windows(2).position(|pair| pair == b": ")?;
    let (word, text) = (&rest[..colon], &rest[colon + 2..]);
    let identifier = match memchr(b'[', word) {
        Some(bracket) if word.ends_with(b"]") => &word[..bracket],
        Some(_) => return None,
        None => word,
    };
    // Without a host before it any word of the program's own could stand there.
    let is_own = begin == 0 && !word.ends_with(b"]") && !matches!(identifier, b"kernel" | b"systemd");
    let plain = !identifier.is_empty() && !is_own && identifier.iter().all(|b| b.is_ascii_graphic());
    // `kernel: [   12.3] text` of older syslogs.
    plain.then(|| (identifier, dmesg(text).unwrap_or(text)))
}

/// What follows the time, where the line begins with one as journalctl or syslog print it.
fn after_time(line: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = after_month(line) {
        let end = memchr(b' ', &rest[..rest.len().min(8)])?;
        return Some(&rest[end + 1..]);
    }
    let iso = line.len() > 25 && line[4] == b'-' && line[7] == b'-' && line[10] == b'T' && line[13] == b':';
    if iso && line[..4].iter().all(u8::is_ascii_digit) {
        let end = memchr(b' ', &line[..line.len().min(40)])?;
        return Some(&line[end + 1..]);
    }
    None
}

/// What follows `Nov  3 10:11:12`; months have the names of the locale.
fn after_month(line: &[u8]) -> Option<&[u8]> {
    const MONTH_MAX: usize = 12;
    let end = memchr(b' ', &line[..line.len().min(MONTH_MAX + 1)])?;
    let is_month = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.' || !b.is_ascii();
    if !line[..end].iter().all(is_month) || !line[..end].iter().any(|b| b.is_ascii_alphabetic() || !b.is_ascii()) {
        return None;
    }
    let rest = line[end..].trim_ascii_start();
    let (day, rest) = rest.split_at(memchr(b' ', &rest[..rest.len().min(3)])?);
    let (time, after) = rest[1..].split_at_checked(8)?;
    let two = |from: usize| time[from..from + 2].iter().all(u8::is_ascii_digit);
    let is_time = two(0) && two(3) && two(6) && time[2] == b':' && time[5] == b':';
    (day.iter().all(u8::is_ascii_digit) && is_time).then_some(after)
}

fn source(identifier: &[u8]) -> Source {
    match identifier {
        b"kernel" => Source::Kernel,
        b"systemd" => Source::Manager,
        b"systemd-coredump" => Source::CoreDump,
        b"systemd-oomd" | b"earlyoom" | b"oomd" | b"nohang" | b"slurmstepd" => Source::Killer,
        _ => Source::Output,
    }
}

/// Takes terminal escapes out of a text, into `scratch`; `None` if there are none.
pub fn without_escapes<'a>(text: &[u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    const ESCAPE: u8 = 0x1b;
    memchr(ESCAPE, text)?;
    scratch.clear();
    let mut rest = text;
    while let Some(at) = memchr(ESCAPE, rest) {
        scratch.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(body) = rest.strip_prefix(b"[") {
            // One that is cut off ends with its line.
            let end = body.iter().position(|byte| byte.is_ascii_alphabetic() || *byte == b'\n').unwrap_or(body.len());
            let letter = usize::from(body.get(end).is_some_and(u8::is_ascii_alphabetic));
            rest = &body[end + letter..];
        }
    }
    scratch.extend_from_slice(rest);
    Some(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_of_a_line_tells_its_source() {
        let cases: &[(&str, Option<Source>, &str)] = &[
            ("plain words", None, "plain words"),
            ("[   12.345678] Out of memory: x", Some(Source::Kernel), "Out of memory: x"),
            ("[Mon Nov  2 10:11:12 2026] Oops", Some(Source::Kernel), "Oops"),
            ("Nov 23 10:11:12 box kernel: Out of memory", Some(Source::Kernel), "Out of memory"),
            ("Nov 23 10:11:12 box kernel: [12345.678] Oops", Some(Source::Kernel), "Oops"),
            ("M\u{e4}r 04 10:11:12 box app[7]: no", Some(Source::Output), "no"),
            ("12\u{6708} 04 10:11:12 box systemd[1]: x", Some(Source::Manager), "x"),
            ("step 3 of 9", None, "step 3 of 9"),
            ("Nov 23 10:11:12 KeyError: 'loss'", None, "Nov 23 10:11:12 KeyError: 'loss'"),
            ("Step 12 10:11:12 loss: 0.31 acc: 0.80", None, "Step 12 10:11:12 loss: 0.31 acc: 0.80"),
            ("\u{2591}\u{2591}\u{2591} 0/10 RuntimeError: x", None, "\u{2591}\u{2591}\u{2591} 0/10 RuntimeError: x"),
            ("\u{2591}\u{2591} The job has finished successfully.", Some(Source::Manager), ""),
            ("Nov  3 10:11:12 app/smtpd[7]: fatal: no", Some(Source::Output), "fatal: no"),
            ("2026-11-23T10:11:12+0100 WARN: no", None, "2026-11-23T10:11:12+0100 WARN: no"),
            ("Nov  3 10:11:12 box slurmd[7]: error: no", Some(Source::Output), "error: no"),
            ("Nov  3 10:11:12 box systemd[1]: x.service: y", Some(Source::Manager), "x.service: y"),
            ("2026-11-23T10:11:12+0100 box python3[77]: KeyError: 'x'", Some(Source::Output), "KeyError: 'x'"),
            ("2026-11-23T10:11:12.123456+01:00 box systemd-oomd[5]: k", Some(Source::Killer), "k"),
            ("Nov 23 10:11:12.123456 box earlyoom[5]: k\r", Some(Source::Killer), "k"),
            ("2026-11-23 10:11:12,123 INFO app: up", None, "2026-11-23 10:11:12,123 INFO app: up"),
            ("[rank3]: KeyError: 1", None, "[rank3]: KeyError: 1"),
            ("[12.5] short stamps are no dmesg", None, "[12.5] short stamps are no dmesg"),
            ("Nov 23 10:11", None, "Nov 23 10:11"),
        ];
        for (line, source, text) in cases {
            let found = split(line.as_bytes());
            assert_eq!((found.source, String::from_utf8_lossy(found.text).as_ref()), (*source, *text), "{line}");
        }
    }

    #[test]
    fn colours_are_taken_out() {
        let mut scratch = Vec::new();
        assert_eq!(without_escapes(b"a\x1b[1;31mb\x1b[0mc", &mut scratch), Some(&b"abc"[..]));
        assert_eq!(without_escapes(b"\x1b", &mut scratch), Some(&b""[..]));
        assert_eq!(without_escapes(b"\x1b[", &mut scratch), Some(&b""[..]));
        assert_eq!(without_escapes(b"a\x1b[1\nb\x1b\nc", &mut scratch), Some(&b"a\nb\nc"[..]));
        assert_eq!(without_escapes(b"abc", &mut scratch), None);
    }
}
