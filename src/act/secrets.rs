// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes secrets out of what is kept: values of environment variables and options whose name says that they are one, and
//! passwords in addresses.

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Parts of names that mean a secret.
const NAMES: [&str; 10] =
    ["key", "token", "secret", "passw", "pwd", "credential", "auth", "cookie", "dsn", "signature"];

/// `NAME=VALUE` without a secret value.
pub fn variable(text: &str) -> String {
    match text.split_once('=') {
        Some((name, value)) if is_secret(name) && !value.is_empty() => format!("{name}={MASK}"),
        Some((name, value)) => format!("{name}={}", address(value)),
        None => address(text),
    }
}

/// A command line without secrets: `--token=…`, `--password …`, `https://user:…@host`.
pub fn command_line<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut hide = false;
    let mut clean = Vec::new();
    for word in words {
        let hidden = std::mem::take(&mut hide) && !word.starts_with('-');
        hide = word.starts_with('-') && !word.contains('=') && is_secret(word);
        clean.push(if hidden { MASK.to_owned() } else { variable(word) });
    }
    clean
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// Hides the password of every `scheme://user:password@host` in a text.
fn address(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let host = after.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(after.len());
        match after[..host].rfind('@') {
            Some(end) => {
                let user = after[..end].split(':').next().unwrap_or_default();
                clean.push_str(user);
                if after[..end].contains(':') {
                    clean.push(':');
                    clean.push_str(MASK);
                }
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_nothing_else_is() {
        let cases = [
            ("PATH=/usr/bin:/bin", "PATH=/usr/bin:/bin"),
            ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
            ("HF_TOKEN=hf_x", "HF_TOKEN=***"),
            ("PGPASSWORD=x", "PGPASSWORD=***"),
            ("EMPTY_TOKEN=", "EMPTY_TOKEN="),
            ("BROKER=redis://user:pa:ss@db:6379/0?x=1", "BROKER=redis://user:***@db:6379/0?x=1"),
            ("U=http://a@b/ http://c:d@e", "U=http://a@b/ http://c:***@e"),
            ("no equals sign", "no equals sign"),
        ];
        for (text, expected) in cases {
            assert_eq!(variable(text), expected);
        }
        let line = ["run", "--api-key", "abc", "--password=x", "--keyfile", "--verbose", "amqp://u:p@h//"];
        let clean = command_line(line.into_iter());
        assert_eq!(clean, ["run", "--api-key", "***", "--password=***", "--keyfile", "--verbose", "amqp://u:***@h//"]);
    }
}
