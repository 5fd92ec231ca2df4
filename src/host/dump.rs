// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that are writing their core: they are dead already, but systemd hears of it only when that is done, which
//! takes minutes for a large process.

use crate::engine::ids::WorkerName;
use procfs::process::Process;

/// Those of the processes that write their core now; `CoreDumping:` in proc_pid_status(5), since Linux 4.15.
pub fn dumping(processes: Vec<(WorkerName, u32)>) -> Vec<(WorkerName, u32)> {
    processes.into_iter().filter(|(_, pid)| writes_core(*pid)).collect()
}

/// Whether core dumps go to systemd-coredump, which tells the journal of each (core(5), systemd-coredump(8)).
pub fn is_written_down() -> bool {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern");
    pattern.is_ok_and(|pattern| pattern.starts_with('|') && pattern.contains("systemd-coredump"))
}

fn writes_core(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    let status = Process::new(pid).and_then(|process| process.status());
    status.is_ok_and(|status| status.core_dumping == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_writes_no_core() {
        let name = WorkerName::parse("a").expect("a name");
        assert_eq!(dumping(vec![(name.clone(), std::process::id()), (name, u32::MAX)]), []);
    }
}
