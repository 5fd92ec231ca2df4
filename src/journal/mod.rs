// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the journal what happened: how runs ended while nobody watched, what a worker said last, and everything else that is known
//! about one run.
//!
//! Every answer rests on fields that journald itself vouches for (those with a leading `_`); what a program says about
//! itself is only ever its own text. Everything that is read has a bound. Every call blocks; a [`Journal`] stays on the
//! thread that opened it, so open it, ask, and drop it in one go.

mod cgroup;
mod coredump;
pub mod evidence;
mod ffi;
pub mod follow;
pub mod history;
mod host;
mod kernel;
pub mod runs;
mod synchronize;
pub mod tail;
mod window;

pub use synchronize::synchronize;

use crate::engine::ids::InvocationId;
use crate::engine::time::Wall;
use std::ffi::CStr;
use std::io;
use std::path::Path;

/// The longest part of a field that is read.
pub const FIELD_MAX: usize = 64 << 10;

/// Whose units are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of PID 1.
    System,
    /// Those of our user's own service manager.
    User,
}

/// Why the journal gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot load libsystemd: {0}")]
    NoLibrary(String),
    /// `doing` says what was asked of libsystemd.
    #[error("cannot {doing}")]
    Call { doing: &'static str, source: io::Error },
    #[error("cannot ask journald to write everything down")]
    Synchronize { source: io::Error },
}

/// The journal, open for reading.
pub struct Journal {
    handle: ffi::Handle,
}

impl Journal {
    /// Opens this machine's journal: of the system, or whatever of it our user may read.
    ///
    /// The user's lines are in a file of their own or among those of the system, as journald's `SplitMode=` and
    /// `Storage=` say, so all files are opened for [`Scope::User`]; files that must not be read are skipped silently.
    pub fn open(scope: Scope) -> Result<Journal, JournalError> {
        let flags = match scope {
            Scope::System => ffi::LOCAL_ONLY | ffi::SYSTEM,
            Scope::User => ffi::LOCAL_ONLY,
        };
        Journal::with(ffi::Handle::open(flags)?)
    }

    /// Opens all journal files below a directory.
    pub fn open_directory(path: &Path) -> Result<Journal, JournalError> {
        Journal::with(ffi::Handle::open_directory(path)?)
    }

    /// Opens certain journal files.
    pub fn open_files(paths: &[&Path]) -> Result<Journal, JournalError> {
        Journal::with(ffi::Handle::open_files(paths)?)
    }

    fn with(mut handle: ffi::Handle) -> Result<Journal, JournalError> {
        handle.set_data_threshold(FIELD_MAX)?;
        Ok(Journal { handle })
    }

    /// Adds `field=value` to the current group of matches.
    ///
    /// Within a group, values of the same field are alternatives and different fields must all match.
    pub fn add_match(&mut self, field: &str, value: impl AsRef<[u8]>) -> Result<(), JournalError> {
        let mut term = format!("{field}=").into_bytes();
        term.extend_from_slice(value.as_ref());
        self.handle.add_match(&term)
    }

    /// Begins a group that is an alternative to the one before.
    pub fn or(&mut self) -> Result<(), JournalError> {
        self.handle.add_disjunction()
    }

    /// Begins a group that must match in addition to everything before.
    pub fn and(&mut self) -> Result<(), JournalError> {
        self.handle.add_conjunction()
    }

    pub fn clear_matches(&mut self) {
        self.handle.flush_matches();
    }

    /// Goes before the first entry.
    pub fn seek_head(&mut self) -> Result<(), JournalError> {
        self.handle.seek_head()
    }

    /// Goes behind the last entry.
    pub fn seek_tail(&mut self) -> Result<(), JournalError> {
        self.handle.seek_tail()
    }

    /// Goes to a time: `next` then gives the first entry of it or later, `previous` the last one before it, or (seen with
    /// systemd 252) the one after that; compare [`Journal::at`].
    pub fn seek(&mut self, at: Wall) -> Result<(), JournalError> {
        self.handle.seek_realtime(u64::try_from(at.0).unwrap_or(0))
    }

    /// Goes to the next matching entry; false if there is none.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot say that it failed and go on, nor go back")]
    pub fn next(&mut self) -> Result<bool, JournalError> {
        self.handle.next()
    }

    /// Goes to the matching entry before; false if there is none.
    pub fn previous(&mut self) -> Result<bool, JournalError> {
        self.handle.previous()
    }

    /// The first value of a field of the current entry, cut at [`FIELD_MAX`]; `None` if it has none.
    pub fn field(&mut self, name: &CStr) -> Result<Option<Vec<u8>>, JournalError> {
        self.handle.field(name, FIELD_MAX)
    }

    /// As [`Journal::field`], with everything that is no UTF-8 replaced.
    pub fn text(&mut self, name: &CStr) -> Result<Option<String>, JournalError> {
        Ok(self.field(name)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// When journald received the current entry.
    pub fn at(&mut self) -> Result<Wall, JournalError> {
        Ok(Wall(i64::try_from(self.handle.realtime()?).unwrap_or(i64::MAX)))
    }

    /// The current entry's place, for `journalctl --cursor`.
    pub fn cursor(&mut self) -> Result<String, JournalError> {
        self.handle.cursor()
    }

    fn invocation(&mut self, name: &CStr) -> Result<Option<InvocationId>, JournalError> {
        Ok(self.text(name)?.and_then(|text| InvocationId::parse(&text)))
    }

    /// What processes of `unit` have written. In the user scope some lines of the process `pid` carry no unit; zero if it is
    /// unknown.
    fn match_output(&mut self, unit: &str, scope: Scope, pid: u32) -> Result<(), JournalError> {
        match scope {
            Scope::System => self.add_match("_SYSTEMD_UNIT", unit),
            Scope::User => {
                let uid = nix::unistd::getuid();
                self.add_match("_SYSTEMD_USER_UNIT", unit)?;
                self.add_match("_UID", uid.to_string())?;
                if pid == 0 {
                    return Ok(());
                }
                self.or()?;
                self.add_match("_PID", pid.to_string())?;
                self.add_match("_UID", uid.to_string())
            }
        }
    }

    /// Only what the service manager itself has said about `unit`.
    fn match_manager(&mut self, unit: &str, scope: Scope) -> Result<(), JournalError> {
        match scope {
            Scope::System => {
                self.add_match("_PID", "1")?;
                self.add_match("UNIT", unit)
            }
            Scope::User => {
                let uid = nix::unistd::getuid();
                self.add_match("_UID", uid.to_string())?;
                self.add_match("_COMM", "systemd")?;
                self.add_match("_SYSTEMD_UNIT", format!("user@{uid}.service"))?;
                self.add_match("USER_UNIT", unit)
            }
        }
    }
}

/// Whether the error is about this entry only: it is damaged, or it was vacuumed away while we stood on it.
fn is_about_entry(error: &JournalError) -> bool {
    let JournalError::Call { source, .. } = error else { return false };
    let errno = source.raw_os_error();
    use nix::libc::{E2BIG, EADDRNOTAVAIL, EBADMSG, EPROTONOSUPPORT};
    errno.is_some_and(|errno| [EBADMSG, EADDRNOTAVAIL, E2BIG, EPROTONOSUPPORT].contains(&errno))
}

#[cfg(test)]
mod tests;
