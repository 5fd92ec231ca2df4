// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker that notes when it runs, and the killing of it. All times are of CLOCK_MONOTONIC, which containers share.

use crate::machine::guest::wait;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

/// Notes the time and the own pid, then waits for ever.
pub fn work(file: &str) -> ! {
    let line = format!("{} {}\n", now(), std::process::id());
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the file can be opened");
    file.write_all(line.as_bytes()).expect("the file can be written");
    loop {
        std::thread::park();
    }
}

/// Microseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).expect("there is a clock");
    time.as_micros() as u64
}

/// Something that brings its worker back.
pub struct Subject {
    pub name: &'static str,
    /// Where the worker writes, seen from outside.
    pub file: PathBuf,
    /// The machine's first process; `None` if the worker runs beside us.
    pub leader: Option<Pid>,
    /// Milliseconds from the kill to the first instruction of the next run.
    pub times: Vec<f64>,
}

impl Subject {
    pub fn new(name: &'static str, file: PathBuf, leader: Option<Pid>) -> Subject {
        Subject { name, file, leader, times: Vec::new() }
    }

    /// Kills the worker and waits for the next one; notes how long that took.
    pub fn round(&mut self) {
        let (runs, _, inner) = self.last().expect("the worker has run");
        let pid = self.outer(inner).unwrap_or_else(|| panic!("{}: process {inner} is not there", self.name));
        let killed = now();
        kill(pid, Signal::SIGKILL).expect("it can be killed");
        let began = wait(DEADLINE, || self.last().filter(|(now, _, _)| *now > runs).map(|(_, began, _)| began));
        let began = began.unwrap_or_else(|| panic!("{}: the worker was not brought back", self.name));
        self.times.push((began - killed) as f64 / 1000.0);
    }

    /// Waits for the first run.
    pub fn settle(&self) {
        wait(DEADLINE, || self.last()).unwrap_or_else(|| panic!("{}: the worker did not start", self.name));
    }

    /// How many runs there were, when the last one began, and its pid.
    fn last(&self) -> Option<(usize, u64, u32)> {
        let text = fs::read_to_string(&self.file).ok()?;
        let line = text.strip_suffix('\n')?.lines().last()?;
        let (began, pid) = line.split_once(' ')?;
        Some((text.lines().count(), began.parse().ok()?, pid.parse().ok()?))
    }

    /// The pid as it is outside of the machine.
    fn outer(&self, inner: u32) -> Option<Pid> {
        let Some(leader) = self.leader else { return Some(Pid::from_raw(inner as i32)) };
        let ours = fs::read_link(format!("/proc/{leader}/ns/pid")).ok()?;
        let mut pids =
            fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid: &i32| {
            let process = Path::new("/proc").join(pid.to_string());
            let last = fs::read_to_string(process.join("status")).ok().and_then(|status| {
                let line = status.lines().find(|line| line.starts_with("NSpid:"))?.to_owned();
                line.split_whitespace().last().map(str::to_owned)
            });
            last.is_some_and(|last| last == inner.to_string())
                && fs::read_link(process.join("ns/pid")).is_ok_and(|namespace| namespace == ours)
        })
        .map(Pid::from_raw)
    }
}
