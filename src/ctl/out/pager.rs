// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends long output through a pager, as systemd's tools do: `$SYSTEMD_PAGER`, `$PAGER`, then less.

use std::env;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Shows `text` in a pager; `false` if there is none, so that the caller prints it.
pub fn show(text: &str) -> io::Result<bool> {
    let Some(words) = chosen(env::var("SYSTEMD_PAGER").ok().or_else(|| env::var("PAGER").ok())) else {
        return Ok(false);
    };
    let mut words = words.iter();
    let Some(program) = words.next() else { return Ok(false) };
    let less = env::var("SYSTEMD_LESS").unwrap_or_else(|_| "FRSXMK".to_owned());
    let child = Command::new(program)
        .args(words)
        .env("LESS", less)
        // A pager that runs with our rights must not offer a shell or an editor.
        .env("LESSSECURE", "1")
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return Ok(false) };
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text.as_bytes()) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    child.wait()?;
    Ok(true)
}

/// The words of the pager's command line; `None` where no pager is wanted.
fn chosen(variable: Option<String>) -> Option<Vec<String>> {
    let command = variable.unwrap_or_else(|| "less".to_owned());
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() || words == ["cat"] { None } else { Some(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_or_cat_means_no_pager() {
        assert_eq!(chosen(Some(String::new())), None);
        assert_eq!(chosen(Some("cat".into())), None);
        assert_eq!(chosen(Some("less -R".into())), Some(vec!["less".into(), "-R".into()]));
        assert_eq!(chosen(None), Some(vec!["less".into()]));
    }
}
