// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a core dump tells in a few lines: the signal, the program, and where the thread was that crashed.

use super::{Journal, JournalError, Scope};
use crate::engine::time::Wall;
use std::fmt::Write;

/// The MESSAGE_ID of systemd-coredump.
const MESSAGE_ID: &str = "fc2e22bc6ee647b6b90729ab34a250b1";

/// The innermost so many frames are kept.
const FRAMES_MAX: usize = 12;

/// Longest kept part of a frame or a name, in bytes.
const PART_MAX: usize = 240;

/// Threads beyond these are not counted as the run's.
const THREADS_MAX: usize = 1_000;

/// One process that dumped core.
pub struct CoreDump {
    pub pid: u32,
    /// The process's name, as the kernel knows it.
    pub name: String,
    /// The ids of the threads whose stacks are told.
    pub threads: Vec<u32>,
    /// When it crashed, if that is told; the entry follows when the core is written.
    pub crashed: Option<Wall>,
    pub text: String,
}

/// Matches what may be a core dump of the unit; [`read`] says whether it is.
pub fn match_unit(journal: &mut Journal, unit: &str, scope: Scope) -> Result<(), JournalError> {
    journal.add_match("MESSAGE_ID", MESSAGE_ID)?;
    match scope {
        Scope::System => journal.add_match("COREDUMP_UNIT", unit),
        Scope::User => {
            journal.add_match("COREDUMP_UNIT", format!("user@{}.service", nix::unistd::getuid()))?;
            journal.add_match("COREDUMP_USER_UNIT", unit)
        }
    }
}

/// The current entry, unless it is of somebody who only claims to be systemd-coredump.
pub fn read(journal: &mut Journal) -> Result<Option<CoreDump>, JournalError> {
    let writer = journal.text(c"_SYSTEMD_UNIT")?.unwrap_or_default();
    if !writer.starts_with("systemd-coredump@") {
        return Ok(None);
    }
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let pid = number(journal.text(c"COREDUMP_PID")?);
    let signal = match journal.text(c"COREDUMP_SIGNAL_NAME")? {
        Some(name) => name,
        None => format!("signal {}", number(journal.text(c"COREDUMP_SIGNAL")?)),
    };
    let name = journal.text(c"COREDUMP_COMM")?.unwrap_or_default();
    let program = journal.text(c"COREDUMP_EXE")?.unwrap_or_else(|| name.clone());
    let crashed = journal.text(c"COREDUMP_TIMESTAMP")?.and_then(|text| text.parse().ok()).map(Wall);
    let message = journal.text(c"MESSAGE")?.unwrap_or_default();
    let mut text = format!("{} in {} (pid {pid})", head(&signal), head(&program));
    for frame in frames(&message) {
        let _ = write!(text, "\n{frame}");
    }
    Ok(Some(CoreDump { pid, name, threads: threads(&message), crashed, text }))
}

/// The stack of the first thread that is told, which is the one that crashed.
fn frames(message: &str) -> impl Iterator<Item = &str> {
    let lines = message.lines().map(str::trim).skip_while(|line| !line.starts_with('#'));
    lines.take_while(|line| line.starts_with('#')).take(FRAMES_MAX).map(head)
}

fn threads(message: &str) -> Vec<u32> {
    let ids = message.lines().filter_map(|line| line.trim().strip_prefix("Stack trace of thread "));
    ids.filter_map(|rest| rest.trim_end_matches(':').parse().ok()).take(THREADS_MAX).collect()
}

fn head(text: &str) -> &str {
    let end = (0..=PART_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crashed_threads_stack_is_told_and_all_threads_are_known() {
        let mut message = "Process 7 (x) of user 0 dumped core.\n\nModule libz.so.1 from deb zlib\n".to_owned();
        message
            .push_str("Stack trace of thread 7:\n#0  0x01 raise (libc.so.6 + 0x1)\n#1  0x02 abort (libc.so.6 + 0x2)\n");
        message.push_str("\nStack trace of thread 9:\n#0  0x03 poll (libc.so.6 + 0x3)\nELF object binary: x86-64\n");
        let found: Vec<_> = frames(&message).collect();
        assert_eq!(found, ["#0  0x01 raise (libc.so.6 + 0x1)", "#1  0x02 abort (libc.so.6 + 0x2)"]);
        assert_eq!(threads(&message), [7, 9]);
        assert_eq!(frames("").count() + threads("Stack trace of thread x:\n").len(), 0);
        let long = format!("#0 {}\n", "€".repeat(500)).repeat(100);
        assert_eq!(frames(&long).count(), FRAMES_MAX);
        assert!(frames(&long).all(|frame| frame.len() <= PART_MAX));
    }
}
