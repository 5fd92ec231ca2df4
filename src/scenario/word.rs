// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a line is split into words, and how a word is written so that it is read as the same.

use std::fmt::Write;

/// The longest line that is read, in bytes.
pub const LINE_MAX: usize = 1 << 20;

/// A word, or a `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Plain(String),
    Pair(String, String),
}

/// Splits at blanks, except within double quotes, where `\"`, `\\`, `\n`, `\t`, `\r` and `\u{…}` stand for one character.
pub fn split(text: &str) -> Result<Vec<Word>, String> {
    if text.len() > LINE_MAX {
        return Err(format!("the line is longer than {LINE_MAX} bytes"));
    }
    let mut words = Vec::new();
    let (mut word, mut key, mut begun, mut quoted) = (String::new(), None, false, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                begun = true;
            }
            '\\' if quoted => escaped(&mut letters, &mut word)?,
            ' ' | '\t' if !quoted => end(&mut words, &mut word, &mut key, &mut begun),
            '=' if !quoted && key.is_none() && !word.is_empty() => key = Some(std::mem::take(&mut word)),
            letter => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    end(&mut words, &mut word, &mut key, &mut begun);
    Ok(words)
}

fn end(words: &mut Vec<Word>, word: &mut String, key: &mut Option<String>, begun: &mut bool) {
    let text = std::mem::take(word);
    match key.take() {
        Some(key) => words.push(Word::Pair(key, text)),
        None if *begun => words.push(Word::Plain(text)),
        None => {}
    }
    *begun = false;
}

/// What follows a backslash; one that stands for nothing is a backslash.
fn escaped(letters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    let before = letters.clone();
    match letters.next() {
        Some(letter @ ('"' | '\\')) => word.push(letter),
        Some('n') => word.push('\n'),
        Some('t') => word.push('\t'),
        Some('r') => word.push('\r'),
        Some('u') => {
            let rest = letters.as_str();
            let code = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(code, _)| code);
            let code = code.ok_or("\\u{…} is not closed")?;
            let letter = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
            word.push(letter.ok_or_else(|| format!("\\u{{{code}}} is no character"))?);
            *letters = rest[code.len() + 2..].chars();
        }
        _ => {
            word.push('\\');
            *letters = before;
        }
    }
    Ok(())
}

/// A value as a word, in quotes where it needs them.
pub fn quoted(text: &str, plain: bool) -> String {
    let needs = |letter: char| letter == ' ' || letter == '"' || letter.is_control() || (plain && letter == '=');
    if !text.is_empty() && !text.contains(needs) {
        return text.to_owned();
    }
    let mut word = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => word.push_str("\\\""),
            '\\' => word.push_str("\\\\"),
            '\n' => word.push_str("\\n"),
            '\t' => word.push_str("\\t"),
            '\r' => word.push_str("\\r"),
            // Writing into a String cannot fail.
            letter if letter.is_control() => drop(write!(word, "\\u{{{:x}}}", u32::from(letter))),
            letter => word.push(letter),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together_and_must_be_closed() {
        let words = [Word::Plain("a b".into()), Word::Pair("k".into(), "c=d e".into()), Word::Plain(String::new())];
        assert_eq!(split("  \"a b\" k=\"c=d e\"\t\"\""), Ok(words.to_vec()));
        assert_eq!(split("\"k=v\""), Ok(vec![Word::Plain("k=v".into())]));
        assert!(split("a \"b").is_err());
        assert!(split("\"\\u{110000}\"").is_err());
    }
}
