// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes foreign text safe to print: control characters must not reach a terminal, nor line ends a table.

use std::borrow::Cow;
use std::fmt::Write;

/// Writes control characters, line ends included, as `\n`, `\t` or `\x1b`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    rewritten(text, is_dangerous)
}

/// As [`escaped`], but keeps line ends and tabs.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    rewritten(text, |c| is_dangerous(c) && c != '\n' && c != '\t')
}

fn rewritten(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&wanted) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !wanted(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            c if c.is_ascii() => write!(safe, "\\x{:02x}", u32::from(c)).expect("a String takes everything"),
            c => write!(safe, "\\u{{{:x}}}", u32::from(c)).expect("a String takes everything"),
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and what reverses the direction of writing.
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(escaped("plain – text"), "plain – text");
        assert_eq!(escaped("a\x1b[31m\nb\u{9b}c\u{202e}"), r"a\x1b[31m\nb\u{9b}c\u{202e}");
        assert_eq!(escaped_lines("a\tb\n\r"), "a\tb\n\\x0d");
    }
}
