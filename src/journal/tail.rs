// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last words of a worker: its own output only, not what others say about it.

use super::{Journal, JournalError, Scope, is_about_entry};
use crate::engine::ids::InvocationId;
use crate::engine::time::Wall;

/// The most lines that are returned.
pub const LINES_MAX: usize = 1_000;

/// The longest part of a line that is returned, in bytes.
pub const TEXT_MAX: usize = 4 << 10;

/// Lines that may be looked at in vain, because they belong to another run.
const PASSED_MAX: usize = 50_000;

/// Whose lines, from when, and how many.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub unit: &'a str,
    pub scope: Scope,
    /// Leaves out lines that are known to be of another run; lines of short-lived processes carry no invocation.
    pub invocation: Option<InvocationId>,
    /// The main process, zero if unknown. In the user scope some of its lines can only be found by it.
    pub pid: u32,
    pub since: Wall,
    pub until: Wall,
    /// At most [`LINES_MAX`].
    pub lines: usize,
}

/// One line of a worker's output, or one message that it sent to the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Wall,
    /// Zero if unknown.
    pub pid: u32,
    /// At most [`TEXT_MAX`] bytes; of a progress bar, the last state. May hold control characters.
    pub text: String,
    pub cursor: String,
}

/// The last lines that a worker wrote in the window, oldest first. Entries that cannot be read are left out.
pub fn last_lines(journal: &mut Journal, wanted: &Wanted<'_>) -> Result<Vec<Line>, JournalError> {
    journal.clear_matches();
    journal.match_output(wanted.unit, wanted.scope, wanted.pid)?;
    journal.seek(Wall(wanted.until.0.saturating_add(1)))?;
    let lines = read_back(journal, wanted);
    journal.clear_matches();
    let mut lines = lines?;
    lines.reverse();
    Ok(lines)
}

fn read_back(journal: &mut Journal, wanted: &Wanted<'_>) -> Result<Vec<Line>, JournalError> {
    let most = wanted.lines.min(LINES_MAX);
    let mut lines = Vec::new();
    let mut passed = 0;
    while lines.len() < most && passed < PASSED_MAX {
        match journal.previous() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if is_about_entry(&error) => break,
            Err(error) => return Err(error),
        }
        match line(journal, wanted) {
            Ok(Some(line)) if line.at < wanted.since => break,
            // With systemd 252 the first step back from a time may land on an entry behind it.
            Ok(Some(line)) if line.at > wanted.until => passed += 1,
            Ok(Some(line)) => lines.push(line),
            Ok(None) => passed += 1,
            Err(error) if is_about_entry(&error) => passed += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

/// The current entry, unless it is of another run or has no text.
fn line(journal: &mut Journal, wanted: &Wanted<'_>) -> Result<Option<Line>, JournalError> {
    let run = journal.invocation(c"_SYSTEMD_INVOCATION_ID")?;
    if run.is_some()
        && wanted.invocation.is_some()
        && run != wanted.invocation
        && !is_of_session(journal, wanted.scope)?
    {
        return Ok(None);
    }
    let Some(message) = journal.field(c"MESSAGE")? else { return Ok(None) };
    let pid = journal.text(c"_PID")?.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Some(Line { at: journal.at()?, pid, text: readable(&message), cursor: journal.cursor()? }))
}

/// Whether journald knew only the user's whole session: the invocation is then that of `user@UID.service`.
pub(super) fn is_of_session(journal: &mut Journal, scope: Scope) -> Result<bool, JournalError> {
    Ok(scope == Scope::User && journal.field(c"_SYSTEMD_USER_UNIT")?.is_none())
}

/// The text for people: of a line that was overwritten with `\r` the last state, not too long, and in UTF-8.
pub(super) fn readable(message: &[u8]) -> String {
    let shown = message.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&shown[..shown.len().min(TEXT_MAX)]).into_owned();
    // Replacement characters are longer than what they replace.
    while text.len() > TEXT_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_become_short_text() {
        let cases: [(&[u8], &str); 5] = [
            (b"", ""),
            (b"10%\r20%\r30%", "30%"),
            (b"10%\r20%\r\r", "20%"),
            (b"a\0b", "a\0b"),
            (b"\xff\xfebad", "\u{fffd}\u{fffd}bad"),
        ];
        for (bytes, text) in cases {
            assert_eq!(readable(bytes), text);
        }
        assert_eq!(readable(&[b'z'; 9000]).len(), TEXT_MAX);
        assert!(readable(&[0xff; 9000]).len() <= TEXT_MAX);
        assert!(readable("€".repeat(9000).as_bytes()).len() <= TEXT_MAX);
    }
}
