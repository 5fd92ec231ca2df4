// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows the journal on a thread of its own: tells what followed units write, and what the kernel says, as it is written.
//!
//! 1. [`follow`] opens the journal and returns when it stands where it shall begin; from then on the sink is called, on the
//!    follower's thread only. A sink that waits makes the follower wait, and nothing is lost unless the journal is vacuumed.
//! 2. [`Follower::watch`] says anew which units are followed; what a unit wrote before the follower came by is not told.
//! 3. [`Heard::CaughtUp`] comes when all that was written has been told; that is the time to keep a cursor.
//! 4. Dropping the [`Follower`] ends the thread at its next entry; [`Follower::stop`] also waits for that.
//!
//! The thread sleeps while nothing is written. journald tells of a change by a timer of 250 ms with the default accuracy of
//! sd-event, so a line comes 250 to 500 ms late on a quiet machine; who wants to know the last words of a run asks
//! [`super::synchronize`] and [`super::tail`] instead.
//! Journals of other namespaces (`LogNamespace=`) are not followed.

use super::{FIELD_MAX, Journal, JournalError, Scope, is_about_entry};
use crate::engine::time::Wall;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Up to so many units libsystemd picks the entries. It looks at every match for every entry: eight busy units cost half as much
/// again as reading everything, one of ten costs a quarter.
const MATCHES_MAX: usize = 8;

/// Entries in a row that may fail to be reached before the follower waits for the journal to change.
const FAILURES_MAX: usize = 100;

/// A unit that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub unit: String,
    /// The main process, zero if unknown. In the user scope some of its lines can only be found by it.
    pub pid: u32,
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is written from now on.
    Tail,
    /// Behind the entry with this cursor.
    After(String),
}

/// What is followed, and from where.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scope: Scope,
    /// The journal files below this directory instead of this machine's.
    pub directory: Option<PathBuf>,
    pub start: Start,
    pub watched: Vec<Watched>,
}

/// What the sink is told.
pub enum Heard<'a> {
    /// The first thing that is said.
    Begun(Begun),
    Entry(Entry<'a>),
    /// Everything that was written so far has been told.
    CaughtUp,
    /// The journal cannot be followed any more; the last thing that is said.
    Failed(JournalError),
}

/// Where the follower really began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// At the end of the journal, as asked.
    Tail,
    /// Behind the cursor, as asked; nothing is missing.
    Resumed,
    /// The cursor's entry is gone: with the next one that is still there. Some may be missing.
    Gap,
    /// The cursor is gone and nothing newer is there, or it is none: at the end of the journal.
    CursorLost,
}

/// One entry, valid during the call.
pub struct Entry<'a> {
    journal: &'a mut Journal,
    /// `None`: the kernel says it.
    pub unit: Option<&'a str>,
    /// Zero if unknown, and for the kernel.
    pub pid: u32,
    /// When journald received it.
    pub at: Wall,
    /// Any bytes, cut at [`FIELD_MAX`].
    pub message: &'a [u8],
}

impl Entry<'_> {
    /// Its place in the journal, for [`Start::After`]. It costs as much as the rest of the entry.
    pub fn cursor(&mut self) -> Result<String, JournalError> {
        self.journal.cursor()
    }
}

/// Holds a follower's thread; see the module's description.
pub struct Follower {
    shared: Arc<Shared>,
    /// A byte wakes the thread, and so does its end.
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The newest set of units, until the thread takes it.
    watched: Mutex<Option<Vec<Watched>>>,
    changed: AtomicBool,
    stop: AtomicBool,
}

/// Begins to follow; `sink` is called on the new thread.
pub fn follow(plan: Plan, sink: impl FnMut(Heard<'_>) + Send + 'static) -> Result<Follower, JournalError> {
    let failed = |source| JournalError::Call { doing: "begin to follow the journal", source };
    let (wake, woken) = UnixStream::pair().map_err(failed)?;
    wake.set_nonblocking(true).map_err(failed)?;
    woken.set_nonblocking(true).map_err(failed)?;
    let shared = Arc::new(Shared::default());
    let (opened, outcome) = sync_channel(1);
    let body = {
        let shared = shared.clone();
        // The journal stays on the thread that opens it.
        move || match Reader::open(plan, shared, woken, sink) {
            Ok((mut reader, begun, at_entry)) => {
                let told = opened.send(Ok(()));
                debug_assert!(told.is_ok(), "the caller waits");
                reader.run(begun, at_entry);
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    };
    let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(body).map_err(failed)?;
    match outcome.recv() {
        Ok(Ok(())) => Ok(Follower { shared, wake, thread: Some(thread) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(failed(io::ErrorKind::Other.into())),
    }
}

impl Follower {
    /// Follows these units from now on, and no others.
    pub fn watch(&self, watched: Vec<Watched>) {
        *self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(watched);
        self.shared.changed.store(true, Ordering::Release);
        // If it has no room for a byte, then the thread is being woken already.
        let _ = (&self.wake).write(&[1]);
    }

    /// Ends the thread and waits for it; the sink is not called any more.
    pub fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            // A sink that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// What the thread owns.
struct Reader<S> {
    journal: Journal,
    scope: Scope,
    shared: Arc<Shared>,
    woken: UnixStream,
    sink: S,
    units: HashMap<Vec<u8>, String>,
    /// Main processes, for lines of the user's units that carry no unit.
    pids: HashMap<u32, String>,
    uid: Vec<u8>,
    /// Buffers that are used again for every entry.
    field: Vec<u8>,
    message: Vec<u8>,
}

impl<S: FnMut(Heard<'_>)> Reader<S> {
    /// Opens the journal and goes to its place; true if the place is an entry that is still to be told.
    fn open(
        plan: Plan,
        shared: Arc<Shared>,
        woken: UnixStream,
        sink: S,
    ) -> Result<(Reader<S>, Begun, bool), JournalError> {
        let mut journal = match &plan.directory {
            Some(path) => Journal::open_directory(path)?,
            None => Journal::open(plan.scope)?,
        };
        // Before anything is read, so that no change goes unnoticed.
        journal.handle.descriptor()?;
        let (begun, at_entry) = begin(&mut journal, &plan.start)?;
        let uid = nix::unistd::getuid().to_string().into_bytes();
        let (field, message) = (Vec::new(), Vec::new());
        let (units, pids) = (HashMap::new(), HashMap::new());
        let mut reader = Reader { journal, scope: plan.scope, shared, woken, sink, units, pids, uid, field, message };
        reader.remember(plan.watched);
        Ok((reader, begun, at_entry))
    }

    fn run(&mut self, begun: Begun, at_entry: bool) {
        (self.sink)(Heard::Begun(begun));
        if let Err(error) = self.follow(at_entry) {
            (self.sink)(Heard::Failed(error));
        }
    }

    fn follow(&mut self, at_entry: bool) -> Result<(), JournalError> {
        if at_entry {
            self.tell()?;
        }
        self.match_watched()?;
        let mut first = true;
        loop {
            let told = self.read_on()?;
            if self.shared.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            if told || std::mem::take(&mut first) {
                (self.sink)(Heard::CaughtUp);
            }
            if self.wait()? {
                return Ok(());
            }
        }
    }

    /// Tells everything up to the end of the journal; whether that was anything.
    fn read_on(&mut self) -> Result<bool, JournalError> {
        let mut told = false;
        let mut failures = 0;
        while failures < FAILURES_MAX && !self.shared.stop.load(Ordering::Acquire) {
            if self.shared.changed.swap(false, Ordering::AcqRel) {
                self.take_watched()?;
            }
            match self.journal.next() {
                Ok(true) => failures = 0,
                Ok(false) => break,
                Err(error) if is_about_entry(&error) => {
                    failures += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            told |= self.tell()?;
        }
        Ok(told)
    }

    /// Tells the current entry if somebody follows it and it can be read.
    fn tell(&mut self) -> Result<bool, JournalError> {
        match self.tell_current() {
            Err(error) if is_about_entry(&error) => Ok(false),
            other => other,
        }
    }

    fn tell_current(&mut self) -> Result<bool, JournalError> {
        let handle = &mut self.journal.handle;
        let field = &mut self.field;
        let unit_field = match self.scope {
            Scope::System => c"_SYSTEMD_UNIT",
            Scope::User => c"_SYSTEMD_USER_UNIT",
        };
        let mut pid = None;
        let unit = if handle.field_into(unit_field, FIELD_MAX, field)? {
            match self.units.get(field.as_slice()) {
                Some(unit) => Some(unit.as_str()),
                None => return Ok(false),
            }
        } else if handle.field_into(c"_TRANSPORT", FIELD_MAX, field)? && field == b"kernel" {
            None
        } else {
            let Some(unit) = (match self.pids.is_empty() {
                true => None,
                false => {
                    pid = Some(number(handle.field_into(c"_PID", FIELD_MAX, field)?, field));
                    pid.and_then(|pid| self.pids.get(&pid))
                }
            }) else {
                return Ok(false);
            };
            Some(unit.as_str())
        };
        if unit.is_some() && self.scope == Scope::User {
            let known = handle.field_into(c"_UID", FIELD_MAX, field)?;
            if !known || *field != self.uid {
                return Ok(false);
            }
        }
        let pid = match (unit, pid) {
            (None, _) => 0,
            (Some(_), Some(pid)) => pid,
            (Some(_), None) => number(handle.field_into(c"_PID", FIELD_MAX, field)?, field),
        };
        if !handle.field_into(c"MESSAGE", FIELD_MAX, &mut self.message)? {
            return Ok(false);
        }
        let at = Wall(i64::try_from(handle.realtime()?).unwrap_or(i64::MAX));
        let entry = Entry { journal: &mut self.journal, unit, pid, at, message: &self.message };
        (self.sink)(Heard::Entry(entry));
        Ok(true)
    }

    fn take_watched(&mut self) -> Result<(), JournalError> {
        let watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watched) = watched {
            self.remember(watched);
            self.match_watched()?;
        }
        Ok(())
    }

    fn remember(&mut self, watched: Vec<Watched>) {
        self.pids.clear();
        self.units.clear();
        for Watched { unit, pid } in watched {
            if self.scope == Scope::User && pid != 0 {
                self.pids.insert(pid, unit.clone());
            }
            self.units.insert(unit.clone().into_bytes(), unit);
        }
    }

    /// Lets libsystemd pick the entries if they are few kinds; the place stays.
    fn match_watched(&mut self) -> Result<(), JournalError> {
        self.journal.clear_matches();
        if self.units.len() > MATCHES_MAX {
            return Ok(());
        }
        self.journal.add_match("_TRANSPORT", "kernel")?;
        for unit in self.units.values() {
            self.journal.or()?;
            self.journal.match_output(unit, self.scope, 0)?;
        }
        for pid in self.pids.keys() {
            self.journal.or()?;
            self.journal.add_match("_PID", pid.to_string())?;
            self.journal.add_match("_UID", &self.uid)?;
        }
        Ok(())
    }

    /// Sleeps until the journal or the set of units changes; true if there is nobody left to follow for.
    fn wait(&mut self) -> Result<bool, JournalError> {
        let failed = |source| JournalError::Call { doing: "wait for the journal", source };
        let timeout = match self.journal.handle.timeout()? {
            Some(at) => until(at).map_err(failed)?,
            None => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(self.journal.handle.descriptor()?, PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let woken = fds[1].any().unwrap_or(false);
        self.journal.handle.process()?;
        if woken {
            return self.drain().map_err(failed);
        }
        Ok(false)
    }

    /// Takes the bytes that woke us; true if no more will come.
    fn drain(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64];
        loop {
            match self.woken.read(&mut bytes) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Goes to the place to begin at; true if it is an entry that is still to be told.
fn begin(journal: &mut Journal, start: &Start) -> Result<(Begun, bool), JournalError> {
    if let Start::After(cursor) = start {
        // On a cursor that it cannot read libsystemd stays where it is, at the head.
        if let Some(cursor) = CString::new(cursor.as_str()).ok().filter(|cursor| seek(journal, cursor)) {
            return match journal.next()? {
                true if journal.handle.is_at(&cursor)? => Ok((Begun::Resumed, false)),
                true => Ok((Begun::Gap, true)),
                // It would wait for entries that are newer than the lost one, which a clock that was set back never brings.
                false => tail(journal).map(|()| (Begun::CursorLost, false)),
            };
        }
        return tail(journal).map(|()| (Begun::CursorLost, false));
    }
    tail(journal).map(|()| (Begun::Tail, false))
}

fn seek(journal: &mut Journal, cursor: &CStr) -> bool {
    !cursor.is_empty() && journal.handle.seek_cursor(cursor).is_ok()
}

fn tail(journal: &mut Journal) -> Result<(), JournalError> {
    journal.seek_tail()?;
    match journal.previous() {
        Ok(true) => Ok(()),
        // An empty journal has no last entry to stand on, and from "the tail" nothing ever follows.
        Ok(false) => journal.seek_head(),
        Err(error) => Err(error),
    }
}

fn number(is_there: bool, digits: &[u8]) -> u32 {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    if is_there { text.parse().unwrap_or(0) } else { 0 }
}

/// How long it is to a point on CLOCK_MONOTONIC, in microseconds.
fn until(at: u64) -> io::Result<PollTimeout> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    let left = Duration::from_micros(at).saturating_sub(now);
    // Rounded up, so that it does not come too early and spin.
    Ok(PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX))
}

#[cfg(test)]
mod tests;
