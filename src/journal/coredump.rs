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
    /// When it crashed, if that is told, in whole seconds (%t in core(5)); the entry follows when the core is written.
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
    // systemd-coredump ends when it has written, and journald, where it is busy, finds no unit of its then.
    let trusted = match journal.text(c"_SYSTEMD_UNIT")? {
        Some(writer) => writer.starts_with("systemd-coredump@"),
        None => journal.text(c"_UID")?.is_some_and(|uid| is_its_user(&uid)),
    };
    if !trusted {
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

/// Whether that is a user as whom nobody but root and systemd-coredump writes. For a process of an ordinary user it writes
/// as that user, so that the entry is the user's to read: such an entry needs the unit as its proof.
fn is_its_user(uid: &str) -> bool {
    let own = || nix::unistd::User::from_name("systemd-coredump").ok().flatten();
    uid == "0" || own().is_some_and(|user| user.uid.to_string() == uid)
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
