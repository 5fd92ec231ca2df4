// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be read about the processes of a unit, its control group and the machine at one moment.

use super::capsule::Capsule;
use super::secrets;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processes that are looked at.
const PROCESSES_MAX: usize = 256;
/// Threads that are looked at, of all processes together.
const THREADS_MAX: usize = 2_000;
/// File descriptors that are listed of one process.
const FDS_MAX: usize = 2_000;

/// Files of a process that are kept as they are.
const PROCESS_FILES: [&str; 7] = ["status", "wchan", "syscall", "io", "limits", "cgroup", "sched"];
const GROUP_FILES: [&str; 12] = [
    "memory.current",
    "memory.max",
    "memory.events",
    "memory.stat",
    "memory.pressure",
    "cpu.stat",
    "cpu.pressure",
    "io.stat",
    "io.pressure",
    "pids.current",
    "pids.max",
    "cgroup.events",
];
const HOST_FILES: [&str; 5] = ["loadavg", "meminfo", "pressure/cpu", "pressure/io", "pressure/memory"];

/// Puts everything into the capsule; what lies beyond the deadline is left out and noted.
pub fn take(capsule: &mut Capsule, pids: &[u32], group: Option<&Path>, within: Duration) {
    let end = Instant::now() + within;
    let mut threads = Threads { text: String::from("PID TID STATE CPU-SECONDS WCHAN COMMAND\n"), count: 0 };
    for pid in pids.iter().take(PROCESSES_MAX) {
        if Instant::now() >= end {
            capsule.note("not all processes were looked at in time".into());
            break;
        }
        process(capsule, *pid, &mut threads);
    }
    if pids.len() > PROCESSES_MAX {
        capsule.note(format!("{} processes, {PROCESSES_MAX} of them were looked at", pids.len()));
    }
    capsule.put("threads", threads.text.as_bytes());
    for name in GROUP_FILES {
        // Without the controller there is no file.
        if let Some(path) = group.map(|group| group.join(name)).filter(|path| path.exists()) {
            capsule.copy(&format!("cgroup/{name}"), &path);
        }
    }
    for name in HOST_FILES {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            capsule.copy(&format!("host/{}", name.replace('/', "-")), &path);
        }
    }
}

/// The files with the kernel stacks of all threads, for whoever may read them.
pub fn stack_files(pids: &[u32]) -> Vec<String> {
    let tasks = pids.iter().take(PROCESSES_MAX).flat_map(|pid| tasks(*pid));
    tasks.take(THREADS_MAX).map(|task| task.join("stack").display().to_string()).collect()
}

/// A table of all threads.
struct Threads {
    text: String,
    count: usize,
}

fn process(capsule: &mut Capsule, pid: u32, threads: &mut Threads) {
    let place = PathBuf::from(format!("/proc/{pid}"));
    for name in PROCESS_FILES {
        let path = place.join(name);
        if path.exists() {
            capsule.copy(&format!("process/{pid}/{name}"), &path);
        }
    }
    let words = |name: &str| -> Result<Vec<String>, String> {
        let path = place.join(name);
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect())
    };
    match words("cmdline") {
        Ok(words) => {
            let clean = secrets::command_line(words.iter().map(String::as_str));
            capsule.put(&format!("process/{pid}/cmdline"), (clean.join(" ") + "\n").as_bytes());
        }
        Err(why) => capsule.note(why),
    }
    match words("environ") {
        Ok(words) => {
            let clean: String = words.iter().map(|word| secrets::variable(word) + "\n").collect();
            capsule.put(&format!("process/{pid}/environ"), clean.as_bytes());
        }
        Err(why) => capsule.note(why),
    }
    match fds(&place) {
        Ok(text) => capsule.put(&format!("process/{pid}/fds"), text.as_bytes()),
        Err(why) => capsule.note(why),
    }
    for task in tasks(pid) {
        if threads.count >= THREADS_MAX {
            capsule.note(format!("only {THREADS_MAX} threads were looked at"));
            return;
        }
        threads.count += 1;
        thread(&mut threads.text, pid, &task);
    }
}

/// What each file descriptor stands for.
fn fds(place: &Path) -> Result<String, String> {
    let directory = place.join("fd");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut rows: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let fd = entry.file_name().to_str()?.parse().ok()?;
            Some((fd, fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .collect();
    rows.sort();
    let mut text = format!("{} open\n", rows.len());
    for (fd, target) in rows.into_iter().take(FDS_MAX) {
        let _ = writeln!(text, "{fd} {target}");
    }
    Ok(text)
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut tasks: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    tasks.sort_by_key(|task| task.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    tasks
}

/// One line: state, processor time and where in the kernel it waits.
fn thread(text: &mut String, pid: u32, task: &Path) {
    let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    let stat = read("stat");
    // The name is in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or("?");
    let ticks: u64 = [11, 12].into_iter().filter_map(|at| field(at).parse::<u64>().ok()).sum();
    let seconds = ticks as f64 / procfs::ticks_per_second().max(1) as f64;
    let tid = task.file_name().unwrap_or_default().display();
    let (wchan, name) = (read("wchan"), read("comm"));
    let wchan = if wchan.is_empty() { "?" } else { wchan.trim() };
    let _ = writeln!(text, "{pid} {tid} {} {seconds:.2} {wchan} {}", field(0), name.trim());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ids::IncidentId;
    use std::process::{Child, Command, Stdio};

    /// A program with many threads that all wait.
    struct Program(Child);

    impl Program {
        fn start(threads: usize) -> Program {
            let script = format!(
                "import threading,sys\nlock = threading.Lock()\nlock.acquire()\n\
                 for n in range({}):\n threading.Thread(target=lock.acquire, daemon=True).start()\n\
                 print('ready', flush=True)\nlock.acquire()\n",
                threads - 1
            );
            let mut child = Command::new("python3")
                .args(["-c", &script, "--password", "hunter2"])
                .env("MY_API_TOKEN", "hunter2")
                .stdout(Stdio::piped())
                .spawn()
                .expect("python3 can be run");
            let mut line = String::new();
            let output = child.stdout.take().expect("a pipe");
            std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("it prints");
            assert_eq!(line, "ready\n");
            Program(child)
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn everything_about_a_process_with_many_threads_is_there_without_its_secrets() {
        let program = Program::start(200);
        let state = tempfile::tempdir().expect("a directory");
        let mut capsule = Capsule::open(state.path(), IncidentId(1)).expect("a capsule");
        let (pid, gone) = (program.0.id(), u32::MAX >> 2);
        let begun = Instant::now();
        take(&mut capsule, &[pid, gone], None, Duration::from_secs(10));
        println!("200 threads: {:?}", begun.elapsed());
        capsule.close().expect("closed");
        let place = state.path().join("incidents/1");
        let read = |name: &str| fs::read_to_string(place.join(name)).expect(name);
        let threads = read("threads");
        assert_eq!(threads.lines().filter(|line| line.starts_with(&format!("{pid} "))).count(), 200, "{threads}");
        assert!(threads.contains(" S 0.") && threads.contains(" python3"), "{threads}");
        let of = |name: &str| read(&format!("process/{pid}/{name}"));
        assert!(of("status").contains("Threads:\t200"));
        assert!(of("environ").contains("MY_API_TOKEN=***\n"));
        assert!(of("cmdline").contains("--password ***") && of("fds").contains(" open\n"));
        assert!(read("host/meminfo").contains("MemTotal"));
        assert!(read("notes").contains(&format!("/proc/{gone}/cmdline")), "{}", read("notes"));
        let mut all = String::new();
        for entry in fs::read_dir(place.join(format!("process/{pid}"))).expect("readable").flatten() {
            all.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).expect("readable")));
        }
        assert!(!all.contains("hunter2"), "a secret is kept");
        assert_eq!(stack_files(&[pid]).len(), 200);
    }
}
