// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a failure to its verdict in the journal, from a telling line to the warning, and what reading along costs.

use crate::idle::{Sample, sample};
use crate::machine::guest::wait;
use crate::machine::{Machine, Suite};
use crate::{quantile, sorted};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::Value;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const POLICY: &str = "[worker]\nunits = [\"job.service\", \"chatter.service\"]\n\
    [restart]\nback-off = \"100ms\"\nbudget = \"10000/1h\"\nsame-cause = 1000\nverify = \"1h\"\n";
const JOB: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c 'echo loading; sleep 0.4; \
    echo RuntimeError: CUDA error: an illegal memory access was encountered; sleep 0.6; exit 1'\n";
/// Lines as a training prints them; none of them means anything.
const CHATTER: &str = "[Service]\nLogRateLimitIntervalSec=1s\nLogRateLimitBurst=10000000\nExecStart=/usr/bin/awk 'BEGIN { for (i = 0; i < 200000; i++) \
    print \"epoch 3 step \" i \"/200000 loss 0.\" i \" lr 1e-4 throughput 812.4 samples/s eta 0:12:31\"; \
    system(\"sleep infinity\") }'\n";
const LINES: f64 = 200_000.0;

pub fn measure(rounds: usize) {
    println!("\nverdicts, {rounds} failures (ms)");
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[
            ("/etc/watcherd/workers.d/job.toml", POLICY),
            ("/etc/systemd/system/job.service", JOB),
            ("/etc/systemd/system/chatter.service", CHATTER),
        ],
    );
    machine.ok(&["systemctl", "start", "watcherd", "job.service"]);
    let wanted = rounds as u64 + 1;
    let failed = wait(Duration::from_secs(rounds as u64 * 4 + 60), || {
        let runs: u64 = machine.property("job.service", "NRuns").parse().unwrap_or(0);
        (runs > wanted).then_some(())
    });
    assert!(failed.is_some(), "the worker does not fail often enough");
    machine.ok(&["systemctl", "stop", "job.service"]);
    machine.ok(&["journalctl", "--sync"]);
    let journal = machine.ok(&["journalctl", "--output=json", "--unit=job.service"]);
    let entries: Vec<Value> = journal.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    print_pairs("failed -> verdict in the journal", &pairs(&entries, is_failure, is_verdict));
    print_pairs("telling line -> warning", &pairs(&entries, is_telling, is_warning));
    print_pairs("of it, line -> journald's notice", &notices(&machine, rounds));
    chatter(&machine);
}

/// Milliseconds from a line to the moment at which journald tells those who wait for the journal that it has changed. It has
/// a timer for that of 250 ms, with the default accuracy of sd-event, which is another 250 ms.
fn notices(machine: &Machine, rounds: usize) -> Vec<f64> {
    machine.ok(&["systemctl", "stop", "job.service"]);
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).expect("inotify");
    let journal = machine.root().join("var/log/journal");
    for machine_id in fs::read_dir(journal).expect("a persistent journal").flatten() {
        inotify.add_watch(&machine_id.path(), AddWatchFlags::IN_MODIFY).expect("the journal is watched");
    }
    let mut told = Vec::new();
    for round in 0..rounds {
        // Whatever was written before has been told; and not always as long after the last notice.
        while changed(&inotify, 1_000 + (round * 37 % 250) as u16) {}
        machine.ok(&["systemd-cat", "--identifier=probe", "echo", &round.to_string()]);
        assert!(changed(&inotify, 10_000), "journald does not tell of a line");
        told.push(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64() * 1e3);
    }
    let written = machine.ok(&["journalctl", "--output=json", "--identifier=probe"]);
    let written = written.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let at = |entry: Value| text(&entry, "__REALTIME_TIMESTAMP").parse::<f64>().unwrap_or(f64::NAN) / 1e3;
    told.into_iter().zip(written.map(at)).map(|(told, written)| told - written).collect()
}

/// Whether anything changes within so many milliseconds; takes all that is told by then.
fn changed(inotify: &Inotify, within: u16) -> bool {
    let ready = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], PollTimeout::from(within));
    let changed = ready.is_ok_and(|count| count > 0);
    if changed {
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
    changed
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_default()
}

fn is_failure(entry: &Value) -> bool {
    text(entry, "MESSAGE_ID") == "d9b373ed55a64feb8242e02dbe79a49c"
}

fn is_verdict(entry: &Value) -> bool {
    text(entry, "MESSAGE_ID").starts_with("8e3cdb5b1ea14d4e9b7b6ac1f8b4b0")
}

fn is_telling(entry: &Value) -> bool {
    text(entry, "_TRANSPORT") == "stdout" && text(entry, "MESSAGE").contains("CUDA error")
}

fn is_warning(entry: &Value) -> bool {
    text(entry, "MESSAGE").contains("shows signs of") && text(entry, "SYSLOG_IDENTIFIER") == "watcherd"
}

/// Milliseconds from each first entry to the second one that follows it.
fn pairs(entries: &[Value], first: fn(&Value) -> bool, second: fn(&Value) -> bool) -> Vec<f64> {
    let at = |entry: &Value| text(entry, "__REALTIME_TIMESTAMP").parse::<f64>().unwrap_or(f64::NAN);
    let mut begun = None;
    let mut times = Vec::new();
    for entry in entries {
        if first(entry) {
            begun = Some(at(entry));
        } else if second(entry)
            && let Some(begun) = begun.take()
        {
            times.push((at(entry) - begun) / 1_000.0);
        }
    }
    times
}

fn print_pairs(what: &str, times: &[f64]) {
    let times = sorted(times.to_vec());
    println!(
        "  {what:34} {:8.1} median, {:.1} p99 ({} times)",
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        times.len()
    );
}

/// How much processor time it takes to read along with a program that prints a lot.
fn chatter(machine: &Machine) {
    let pid = machine.unit("watcherd", "MainPID");
    let process = machine.root().join("proc").join(&pid);
    let before = sample(&process);
    machine.ok(&["systemctl", "start", "chatter.service"]);
    let written = wait(Duration::from_secs(300), || {
        let tail =
            machine.ok(&["journalctl", "--output=cat", "--lines=1", "--unit=chatter.service", "_TRANSPORT=stdout"]);
        tail.contains("step 199999/").then_some(())
    });
    assert!(written.is_some(), "the lines are not written");
    let mut after = sample(&process);
    let rested = wait(Duration::from_secs(60), || {
        let cpu = after.cpu;
        std::thread::park_timeout(Duration::from_secs(1));
        after = sample(&process);
        (after.cpu == cpu).then_some(())
    });
    assert!(rested.is_some(), "the daemon does not come to rest");
    let Sample { cpu, .. } = after;
    let seconds = (cpu - before.cpu) as f64 / 100.0;
    println!("  reading along                      {:8.0} lines per second of processor time", LINES / seconds);
}
