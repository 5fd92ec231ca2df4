// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells which files may have changed, by inotify(7) on the directories that they are in: one instance for all files,
//! and one watch for each directory. Where a directory is missing, the nearest one above it that is there is watched.

use super::probe::ProbeId;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// Rounds of finding the nearest directory while others make and remove directories.
const ROUNDS: usize = 8;
/// Events that are taken at once, about; the kernel's own limit is 16,384.
const EVENTS_MAX: usize = 20_000;

/// Files are followed by the directories that they are in.
pub struct Places {
    inotify: AsyncFd<Source>,
    watched: HashMap<WatchDescriptor, HashMap<OsString, BTreeSet<ProbeId>>>,
    of: HashMap<ProbeId, Place>,
}

/// Where a file is waited for.
struct Place {
    watch: WatchDescriptor,
    /// Of the file, or of the first directory on the way to it that is missing.
    name: OsString,
    is_parent: bool,
}

/// What tokio can wait for.
struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What may have happened.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files to be read.
    pub files: BTreeSet<ProbeId>,
    /// Files that must be watched anew before they are read, because directories have changed.
    pub moved: BTreeSet<ProbeId>,
}

impl Places {
    /// Must be called within tokio.
    pub fn new() -> io::Result<Places> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Places { inotify: register(Source(inotify))?, watched: HashMap::new(), of: HashMap::new() })
    }

    /// Tells of changes of the file from here on; it may be called again at any time, and must be after
    /// [`Changes::moved`].
    pub fn watch(&mut self, probe: ProbeId, path: &Path) -> Result<(), Errno> {
        let mut tried = Err(Errno::ENOENT);
        for _ in 0..ROUNDS {
            let Some((directory, name)) = nearest(path) else { break };
            tried = self.inotify.get_ref().0.add_watch(&directory, flags());
            match tried {
                Ok(watch) => {
                    let place = Place { watch, name, is_parent: path.parent() == Some(&directory) };
                    self.settle(probe, place);
                    // It may have come while we looked.
                    if nearest(path).is_some_and(|(now, _)| now == directory) {
                        return Ok(());
                    }
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(_) => break,
            }
        }
        if tried.is_err() {
            self.forget(probe);
        }
        tried.map(|_| ())
    }

    fn settle(&mut self, probe: ProbeId, place: Place) {
        let former = self.of.remove(&probe);
        let names = self.watched.entry(place.watch).or_default();
        names.entry(place.name.clone()).or_default().insert(probe);
        if let Some(former) = former.filter(|former| former.watch != place.watch || former.name != place.name) {
            self.leave(probe, &former);
        }
        self.of.insert(probe, place);
    }

    pub fn forget(&mut self, probe: ProbeId) {
        if let Some(place) = self.of.remove(&probe) {
            self.leave(probe, &place);
        }
    }

    fn leave(&mut self, probe: ProbeId, place: &Place) {
        let Some(names) = self.watched.get_mut(&place.watch) else { return };
        if let Some(probes) = names.get_mut(&place.name) {
            probes.remove(&probe);
            if probes.is_empty() {
                names.remove(&place.name);
            }
        }
        if names.is_empty() {
            self.watched.remove(&place.watch);
            // The kernel has removed it already if the directory is gone.
            let _ = self.inotify.get_ref().0.rm_watch(place.watch);
        }
    }

    /// Waits for a change; may be dropped while it waits.
    pub async fn changed(&self) {
        if self.inotify.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What has changed so far; to be called after [`Places::changed`].
    pub async fn take(&mut self) -> Changes {
        let mut changes = Changes::default();
        let Ok(mut ready) = self.inotify.readable().await else { return changes };
        let mut taken = 0;
        while taken < EVENTS_MAX {
            let Ok(events) = ready.get_inner().0.read_events() else {
                ready.clear_ready();
                break;
            };
            taken += events.len();
            let mut gone = Vec::new();
            for event in events {
                self.note(&event, &mut changes);
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    gone.push(event.wd);
                }
            }
            for watch in gone {
                self.watched.remove(&watch);
            }
        }
        changes
    }

    fn note(&self, event: &InotifyEvent, changes: &mut Changes) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            changes.moved.extend(self.of.keys());
            return;
        }
        let Some(names) = self.watched.get(&event.wd) else { return };
        let Some(name) = &event.name else {
            if event.mask.intersects(of_directory()) {
                changes.moved.extend(names.values().flatten());
            }
            return;
        };
        for probe in names.get(name).into_iter().flatten() {
            match self.of.get(probe) {
                Some(place) if place.is_parent => changes.files.insert(*probe),
                _ => changes.moved.insert(*probe),
            };
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that the descriptor stays open")]
fn register(source: Source) -> io::Result<AsyncFd<Source>> {
    // SAFETY: the source owns its descriptor until it is dropped, and always names that one.
    unsafe { AsyncFd::register(source) }.map_err(io::Error::from)
}

fn flags() -> AddWatchFlags {
    use AddWatchFlags as Flags;
    let of_files = Flags::IN_MODIFY | Flags::IN_CLOSE_WRITE | Flags::IN_ATTRIB | Flags::IN_MOVE;
    of_files | Flags::IN_CREATE | Flags::IN_DELETE | Flags::IN_DELETE_SELF | Flags::IN_MOVE_SELF | Flags::IN_ONLYDIR
}

/// What happens to a watched directory itself.
fn of_directory() -> AddWatchFlags {
    use AddWatchFlags as Flags;
    Flags::IN_DELETE_SELF | Flags::IN_MOVE_SELF | Flags::IN_IGNORED | Flags::IN_UNMOUNT
}

/// The nearest directory above a file that is there, and the name of what comes next on the way down.
fn nearest(path: &Path) -> Option<(PathBuf, OsString)> {
    let mut name = path.file_name()?;
    for directory in path.ancestors().skip(1) {
        if directory.is_dir() {
            return Some((directory.to_owned(), name.to_owned()));
        }
        name = directory.file_name().unwrap_or(OsStr::new(""));
    }
    None
}
