// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parts of a unit's name in the texts of a policy, spelt as in systemd.unit(5): one policy serves all instances of a
//! template.

use super::source::Probe;
use std::sync::Arc;

/// Puts the unit's name into the places that a probe reads. Patterns over lines stay as they are.
pub fn resolve(probe: Probe, unit: &str) -> Probe {
    let put = |text: Arc<str>| expand(&text, unit);
    match probe {
        Probe::File(path) => Probe::File(put(path)),
        Probe::Count(glob) => Probe::Count(put(glob)),
        Probe::Mtime(glob) => Probe::Mtime(put(glob)),
        Probe::Http(address) => Probe::Http(put(address)),
        Probe::Command(words) => Probe::Command(words.into_iter().map(put).collect()),
        Probe::Journal(pattern) => Probe::Journal(pattern),
    }
}

/// `%n` is the unit's name, `%N` the same without `.service`, `%p` what stands before `@`, `%i` the instance, `%I` the
/// instance unescaped, `%%` a percent sign. Anything else, such as `%20` in an address, stays as it is.
pub fn expand(text: &str, unit: &str) -> Arc<str> {
    if !text.contains('%') {
        return text.into();
    }
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        done.push_str(&rest[..at]);
        let (given, after) =
            rest[at..].split_at(rest[at..].char_indices().nth(2).map_or(rest.len() - at, |(end, _)| end));
        match given {
            "%n" => done.push_str(unit),
            "%N" => done.push_str(stem),
            "%p" => done.push_str(prefix),
            "%i" => done.push_str(instance),
            "%I" => done.push_str(&unescaped(instance)),
            "%%" => done.push('%'),
            other => done.push_str(other),
        }
        rest = after;
    }
    done.push_str(rest);
    done.into()
}

/// As systemd-escape(1) --unescape: `-` stands for `/`, `\xNN` for a byte.
fn unescaped(instance: &str) -> String {
    let mut bytes = Vec::with_capacity(instance.len());
    let mut rest = instance.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.strip_prefix(b"x").and_then(|digits| digits.get(..2));
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        (rest, _) = match (first, code) {
            (b'\\', Some(byte)) => (&after[3..], bytes.push(byte)),
            (b'-', _) => (after, bytes.push(b'/')),
            (byte, _) => (after, bytes.push(*byte)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_systemd_would_put_them() {
        let cases = [
            ("/srv/%i/status", "train@a-b\\x2dc.service", "/srv/a-b\\x2dc/status"),
            ("/srv/%I/status", "train@a-b\\x2dc.service", "/srv/a/b-c/status"),
            ("%n %N %p [%i]", "train@7.service", "train@7.service train@7 train [7]"),
            ("%n %N %p [%i]", "queue.service", "queue.service queue queue []"),
            ("http://h/?q=a%20b%3Fc%%", "queue.service", "http://h/?q=a%20b%3Fc%"),
            ("100%", "queue.service", "100%"),
            ("%é%i", "a@1.service", "%é1"),
            ("%I", "a@\\x2.service", "\\x2"),
        ];
        for (text, unit, expected) in cases {
            assert_eq!(&*expand(text, unit), expected, "{text}");
        }
    }
}
