// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of a unit's control group that tell of killed processes and refused forks: memory.events and pids.events of
//! cgroup v2. The kernel announces every change through inotify(7), so nothing is polled; when the unit is down and its
//! group is gone, the last values are still here.

use crate::engine::ids::{InvocationId, WorkerName};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use procfs::process::Process;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

const ROOT: &str = "/sys/fs/cgroup";

/// The files and, in each, the counters that tell something; see cgroup-v2.rst of the kernel.
const FILES: [(&str, &[&str]); 2] =
    [("memory.events", &["oom", "oom_kill", "oom_group_kill"]), ("pids.events", &["max"])];

/// A counter and its value, as `memory.events oom_kill`.
type Values = BTreeMap<(&'static str, &'static str), u64>;

/// Follows the counters of many units.
pub struct Counters {
    inotify: AsyncFd<Source>,
    runs: HashMap<WorkerName, Run>,
    watched: HashMap<WatchDescriptor, WorkerName>,
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

/// One run of a unit, under way or over.
struct Run {
    invocation: Option<InvocationId>,
    cgroup: PathBuf,
    /// Of the group's directory.
    inode: Option<u64>,
    first: Values,
    last: Values,
    /// The values of the last rise that was told. The limit is counted before the kill that it leads to, and both may be
    /// seen at different times.
    told: Values,
    watches: Vec<WatchDescriptor>,
}

/// Counters that rose, as a sentence for people; which counters of which file, and by how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rise {
    pub worker: WorkerName,
    /// `memory.events: oom 0 -> 1, oom_kill 0 -> 1`.
    pub text: String,
    /// Processes that an OOM killer ended since the last rise.
    pub oom_kills: u64,
    /// Whether it was because of the group's own limit.
    pub own_limit: bool,
    /// Forks that the group's own limit refused.
    pub refused_forks: u64,
}

impl Counters {
    pub fn new() -> io::Result<Counters> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Counters { inotify: register(Source(inotify))?, runs: HashMap::new(), watched: HashMap::new() })
    }

    /// Follows the run whose main process is `pid`; a run that is followed already is left as it is.
    ///
    /// `fresh` says that the run began while we looked on: its group is then a new one, whose counters begin at zero,
    /// unless it is still that of the run before. What rose already is returned.
    pub fn follow(
        &mut self,
        worker: &WorkerName,
        invocation: Option<InvocationId>,
        pid: u32,
        fresh: bool,
    ) -> Option<Rise> {
        if self.runs.get(worker).is_some_and(|run| run.invocation == invocation) {
            return None;
        }
        let before = self.forget(worker);
        let cgroup = unit_cgroup(pid, worker.unit())?;
        let inode = std::fs::metadata(&cgroup).map(|metadata| metadata.ino()).ok();
        let first = match before {
            Some(before) if inode.is_some() && before.inode == inode => before.last,
            _ if fresh => Values::new(),
            _ => read(&cgroup),
        };
        let (last, told) = (first.clone(), first.clone());
        let mut run = Run { invocation, inode, first, last, told, watches: Vec::new(), cgroup };
        for (file, _) in FILES {
            // Without the controller there is no file.
            if let Ok(watch) = self.inotify.get_ref().0.add_watch(&run.cgroup.join(file), AddWatchFlags::IN_MODIFY) {
                self.watched.insert(watch, worker.clone());
                run.watches.push(watch);
            }
        }
        self.runs.insert(worker.clone(), run);
        self.look(worker)
    }

    /// Ends following, and returns what was known.
    fn forget(&mut self, worker: &WorkerName) -> Option<Run> {
        let mut run = self.runs.remove(worker)?;
        for watch in run.watches.drain(..) {
            self.watched.remove(&watch);
            // The kernel has removed it already if the group is gone.
            let _ = self.inotify.get_ref().0.rm_watch(watch);
        }
        Some(run)
    }

    /// The worker is not supervised any more.
    pub fn let_go(&mut self, worker: &WorkerName) {
        self.forget(worker);
    }

    /// The next counters that rise; may be dropped while it waits.
    pub async fn next(&mut self) -> Vec<Rise> {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else { return std::future::pending().await };
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(_) => {
                    ready.clear_ready();
                    continue;
                }
            };
            let mut workers: Vec<_> = events.iter().filter_map(|event| self.watched.get(&event.wd).cloned()).collect();
            workers.sort();
            workers.dedup();
            let rises: Vec<_> = workers.iter().filter_map(|worker| self.look(worker)).collect();
            if !rises.is_empty() {
                return rises;
            }
        }
    }

    /// What rose during the run, in all.
    pub fn of_run(&mut self, worker: &WorkerName, invocation: Option<InvocationId>) -> Option<String> {
        self.look(worker);
        let run = self.runs.get(worker).filter(|run| run.invocation == invocation)?;
        let text = describe(&run.first, &run.last);
        (!text.is_empty()).then_some(text)
    }

    fn look(&mut self, worker: &WorkerName) -> Option<Rise> {
        let run = self.runs.get_mut(worker)?;
        run.last.extend(read(&run.cgroup));
        let by = |file, name| {
            let value = |values: &Values| values.get(&(file, name)).copied().unwrap_or(0);
            value(&run.last).saturating_sub(value(&run.told))
        };
        let rise = Rise {
            worker: worker.clone(),
            text: describe(&run.first, &run.last),
            oom_kills: by("memory.events", "oom_kill"),
            own_limit: by("memory.events", "oom") > 0,
            refused_forks: by("pids.events", "max"),
        };
        let tells = rise.oom_kills > 0 || rise.refused_forks > 0;
        if tells {
            run.told.clone_from(&run.last);
        }
        tells.then_some(rise)
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that the descriptor stays open")]
fn register(source: Source) -> io::Result<AsyncFd<Source>> {
    // SAFETY: the source owns its descriptor until it is dropped, and always names that one.
    unsafe { AsyncFd::register(source) }.map_err(io::Error::from)
}

/// `memory.events: oom_kill 0 -> 1; pids.events: max 0 -> 7`, of those that rose.
fn describe(first: &Values, last: &Values) -> String {
    let mut parts = Vec::new();
    for (file, names) in FILES {
        let rose = names.iter().filter_map(|name| {
            let (from, to) = (first.get(&(file, *name)).copied().unwrap_or(0), *last.get(&(file, *name))?);
            (to > from).then(|| format!("{name} {from} -> {to}"))
        });
        let rose: Vec<_> = rose.collect();
        if !rose.is_empty() {
            parts.push(format!("{file}: {}", rose.join(", ")));
        }
    }
    parts.join("; ")
}

/// The values that can be read; none after the group is gone.
fn read(cgroup: &Path) -> Values {
    let mut values = Values::new();
    for (file, names) in FILES {
        let Ok(text) = std::fs::read_to_string(cgroup.join(file)) else { continue };
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(' ')
                && let Some(name) = names.iter().find(|known| **known == name)
                && let Ok(value) = value.trim().parse()
            {
                values.insert((file, *name), value);
            }
        }
    }
    values
}

/// The directory of a unit's own group of cgroup v2, from that of its main process, which may be in a group below it.
pub fn unit_cgroup(pid: u32, unit: &str) -> Option<PathBuf> {
    let groups = Process::new(i32::try_from(pid).ok()?).and_then(|process| process.cgroups()).ok()?;
    let path = groups.0.into_iter().find(|group| group.hierarchy == 0)?.pathname;
    let mut found = PathBuf::from(ROOT);
    for part in path.split('/').filter(|part| !part.is_empty()) {
        found.push(part);
        if part.strip_prefix('_').unwrap_or(part) == unit {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> WorkerName {
        WorkerName::parse("w").expect("a name")
    }

    /// A directory that looks like a group; the kernel's own announcements are tested in a machine with cgroup v2.
    fn followed(directory: &Path) -> Counters {
        let mut counters = Counters::new().expect("inotify works");
        let mut run = Run {
            invocation: None,
            cgroup: directory.to_owned(),
            inode: None,
            first: Values::new(),
            last: Values::new(),
            told: Values::new(),
            watches: Vec::new(),
        };
        for (file, _) in FILES {
            let watch = counters.inotify.get_ref().0.add_watch(&directory.join(file), AddWatchFlags::IN_MODIFY);
            let watch = watch.expect("the file is there");
            counters.watched.insert(watch, name());
            run.watches.push(watch);
        }
        run.first = read(directory);
        run.last.clone_from(&run.first);
        run.told.clone_from(&run.first);
        counters.runs.insert(name(), run);
        counters
    }

    #[tokio::test]
    async fn a_rise_is_told_and_the_last_values_outlive_the_group() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let write =
            |file: &str, text: &str| std::fs::write(directory.path().join(file), text).expect("it can be written");
        write("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n");
        write("pids.events", "max 0\n");
        let mut counters = followed(directory.path());
        assert_eq!(counters.of_run(&name(), None), None, "what was before the run does not count");
        write("memory.events", "low 0\nhigh 0\nmax 99\noom 2\noom_kill 1\noom_group_kill 0\n");
        assert!(counters.look(&name()).is_none(), "nothing was killed so far");
        write("memory.events", "low 0\nhigh 0\nmax 99\noom 2\noom_kill 3\noom_group_kill 0\n");
        let rise = counters.next().await;
        let text = "memory.events: oom 1 -> 2, oom_kill 1 -> 3";
        let expected = Rise { worker: name(), text: text.into(), oom_kills: 2, own_limit: true, refused_forks: 0 };
        assert_eq!(rise, [expected]);
        write("pids.events", "max 12\n");
        assert_eq!(counters.next().await[0].refused_forks, 12);
        std::fs::remove_file(directory.path().join("memory.events")).expect("it can be removed");
        std::fs::remove_file(directory.path().join("pids.events")).expect("it can be removed");
        let text = "memory.events: oom 1 -> 2, oom_kill 1 -> 3; pids.events: max 0 -> 12";
        assert_eq!(counters.of_run(&name(), None).as_deref(), Some(text));
        let other = Some(InvocationId([1; 16]));
        assert_eq!(counters.of_run(&name(), other), None, "another run");
    }

    #[test]
    fn the_group_of_a_process_that_is_in_no_such_unit_is_unknown() {
        assert_eq!(unit_cgroup(std::process::id(), "no-such-unit.service"), None);
        assert_eq!(unit_cgroup(u32::MAX, "a.service"), None);
    }
}
