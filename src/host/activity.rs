// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the processes of a unit use the machine: from its control group where that is of cgroup v2, else from /proc.

use super::counters::unit_cgroup;
use crate::engine::source::Activity;
use procfs::process::{ProcState, Process};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";
/// Processes that are looked at.
const PROCESSES_MAX: usize = 4_096;

/// What the unit with this control group (as systemd names it) and these processes has used so far.
pub fn activity(cgroup: &str, pids: &[u32]) -> Activity {
    let group = directory(cgroup);
    let mut activity = Activity::default();
    for pid in pids.iter().take(PROCESSES_MAX) {
        // A process that has ended meanwhile, or belongs to somebody else, tells nothing.
        if let Some(process) = i32::try_from(*pid).ok().and_then(|pid| Process::new(pid).ok()) {
            add(&mut activity, &process);
        }
    }
    if let Some(group) = &group {
        if let Some(cpu) = cpu(group) {
            activity.cpu = cpu;
        }
        // The group knows what ended processes did; only the processes know what went to a server.
        activity.io = activity.io.max(io(group).unwrap_or(0));
        activity.memory = memory(group).or(activity.memory);
    }
    activity.pressure = pressure(group.as_deref());
    activity
}

/// The same for a unit with cgroup v2, by its main process; with all of its processes.
pub fn of_unit(pid: u32, unit: &str) -> Option<(Activity, Vec<u32>)> {
    let directory = unit_cgroup(pid, unit)?;
    let mut pids = Vec::new();
    members(&directory, &mut pids);
    let cgroup = directory.strip_prefix(ROOT).ok()?.to_str()?;
    (!pids.is_empty()).then(|| (activity(cgroup, &pids), pids))
}

/// The processes of a group and of those below it.
fn members(directory: &Path, pids: &mut Vec<u32>) {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    let below = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for group in below.take_while(|_| pids.len() < PROCESSES_MAX).collect::<Vec<_>>() {
        members(&group.path(), pids);
    }
}

/// The directory of a group of cgroup v2.
pub fn directory(cgroup: &str) -> Option<PathBuf> {
    let directory = Path::new(ROOT).join(cgroup.trim_start_matches('/'));
    directory.join("cgroup.controllers").exists().then_some(directory)
}

fn add(activity: &mut Activity, process: &Process) {
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second().max(1);
        activity.cpu += Duration::from_millis((stat.utime + stat.stime).saturating_mul(1_000) / ticks);
        let resident = stat.rss.saturating_mul(procfs::page_size());
        activity.memory = Some(activity.memory.unwrap_or(0).saturating_add(resident));
    }
    if let Ok(io) = process.io() {
        activity.io = activity.io.saturating_add(io.read_bytes).saturating_add(io.write_bytes);
    }
    for thread in process.tasks().into_iter().flatten().flatten() {
        activity.threads = activity.threads.saturating_add(1);
        if let Ok(status) = thread.status() {
            let switches = [status.voluntary_ctxt_switches, status.nonvoluntary_ctxt_switches];
            activity.switches += switches.into_iter().flatten().sum::<u64>();
        }
        match thread.stat().ok().and_then(|stat| stat.state().ok()) {
            Some(ProcState::Waiting) => activity.blocked = activity.blocked.saturating_add(1),
            Some(ProcState::Sleeping) if waits_for_lock(thread.pid, thread.tid) => {
                activity.locked = activity.locked.saturating_add(1);
            }
            _ => {}
        }
    }
}

/// Whether a thread sleeps in futex(2), as the kernel names the place (`futex_wait_queue`, formerly `…_me`).
fn waits_for_lock(pid: i32, tid: i32) -> bool {
    let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan"));
    place.is_ok_and(|place| place.starts_with("futex_"))
}

fn cpu(group: &Path) -> Option<Duration> {
    let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
    let usec = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    usec.trim().parse().ok().map(Duration::from_micros)
}

/// What the group holds, less the pages of files that nobody has used for a while.
fn memory(group: &Path) -> Option<u64> {
    let current: u64 = fs::read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
    Some(current.saturating_sub(inactive.unwrap_or(0)))
}

fn io(group: &Path) -> Option<u64> {
    let text = fs::read_to_string(group.join("io.stat")).ok()?;
    let counts = text.split_whitespace().filter_map(|word| {
        let count = word.strip_prefix("rbytes=").or_else(|| word.strip_prefix("wbytes="))?;
        count.parse::<u64>().ok()
    });
    Some(counts.fold(0, u64::saturating_add))
}

/// The time in which something had to wait for memory or for I/O: of the group, else of the machine.
fn pressure(group: Option<&Path>) -> Option<Duration> {
    let of = |directory: &Path, names: [&str; 2]| {
        names.into_iter().filter_map(|name| waited(&fs::read_to_string(directory.join(name)).ok()?)).max()
    };
    let own = group.and_then(|group| of(group, ["io.pressure", "memory.pressure"]));
    own.or_else(|| of(Path::new("/proc/pressure"), ["io", "memory"]))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`, in microseconds; see psi.rst of the kernel.
fn waited(text: &str) -> Option<Duration> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=0.12 avg60=0.05 avg300=0.01 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(waited(text), Some(Duration::from_millis(2_500)));
        assert_eq!(waited("full total=7\n"), None);
        assert_eq!(waited(""), None);
    }

    #[test]
    fn a_thread_that_waits_for_a_lock_is_seen() {
        let lock = std::sync::Arc::new(std::sync::Mutex::new(()));
        let held = lock.lock().expect("nobody panicked");
        let theirs = lock.clone();
        let waiter = std::thread::spawn(move || drop(theirs.lock()));
        let end = Instant::now() + Duration::from_secs(20);
        while activity("/no/such/group", &[std::process::id()]).locked == 0 {
            assert!(Instant::now() < end, "it is not seen");
            std::thread::yield_now();
        }
        drop(held);
        waiter.join().expect("it ends");
    }

    #[test]
    fn the_processor_time_of_a_process_is_seen() {
        let own = [std::process::id()];
        let before = activity("/no/such/group", &own);
        assert!(before.threads >= 1);
        let end = Instant::now() + Duration::from_secs(20);
        let mut turns = 0_u64;
        while activity("/no/such/group", &own).cpu < before.cpu + Duration::from_millis(50) {
            assert!(Instant::now() < end, "nothing is counted");
            turns = std::hint::black_box(turns + 1);
        }
        assert_eq!(activity("/no/such/group", &[0, u32::MAX]).threads, 0);
    }
}
