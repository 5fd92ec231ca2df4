// SPDX-License-Identifier: MIT OR Apache-2.0
//! Crash to running again: watcherd against systemd's own Restart=always RestartSec=0, in turns on one machine.

use crate::machine::{Machine, Suite};
use crate::subject::Subject;
use crate::{quantile, sorted};

const POLICY: &str = "[worker]\nunits = [\"adopted.service\"]\n\
    [restart]\nback-off = \"0s\"\nbudget = \"10000/1h\"\nsame-cause = 1000\nverify = \"0s\"\nreset-after = \"1s\"\n";

pub fn measure(rounds: usize) {
    println!("crash -> running again, {rounds} SIGKILLs each, in turns (ms)");
    let program = std::env::current_exe().expect("we have a name");
    let unit = |name: &str, more: &str| {
        let limits = "[Unit]\nStartLimitIntervalSec=0\n";
        format!("{limits}[Service]\nExecStart=/opt/bench worker /var/lib/bench-{name}\n{more}")
    };
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[
            ("/etc/watcherd/workers.d/bench.toml", POLICY),
            ("/etc/systemd/system/adopted.service", &unit("adopted", "")),
            ("/etc/systemd/system/systemd.service", &unit("systemd", "Restart=always\nRestartSec=0\n")),
        ],
    );
    std::fs::create_dir_all(machine.root().join("opt")).expect("a directory");
    std::fs::copy(program, machine.root().join("opt/bench")).expect("the benchmark can be copied");
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "adopted.service", "systemd.service"]);
    let run =
        ["watcherctl", "run", "--name", "transient", "--back-off", "0s", "--budget", "10000/1h", "--verify", "0s"];
    machine.ok(&[&run[..], &["--", "/opt/bench", "worker", "/var/lib/bench-transient"]].concat());
    let at = |name: &str| machine.root().join("var/lib").join(format!("bench-{name}"));
    let leader = Some(machine.leader);
    let mut subjects = [
        Subject::new("systemd Restart=always", at("systemd"), leader),
        Subject::new("watcherd, adopted unit", at("adopted"), leader),
        Subject::new("watcherd, transient", at("transient"), leader),
    ];
    subjects.iter().for_each(Subject::settle);
    for round in 0..rounds {
        // Not always in the same order.
        for turn in 0..subjects.len() {
            subjects[(turn + round) % 3].round();
        }
    }
    let base = quantile(&sorted(subjects[0].times.clone()), 0.5);
    print_table(&subjects, base);
    print_breakdown(&machine);
}

pub fn print_table(subjects: &[Subject], base: f64) {
    println!("  {:26} {:>8} {:>8} {:>8} {:>8}", "", "median", "p99", "max", "ratio");
    for subject in subjects {
        let times = sorted(subject.times.clone());
        let median = quantile(&times, 0.5);
        let (p99, max) = (quantile(&times, 0.99), quantile(&times, 1.0));
        println!("  {:26} {median:8.1} {p99:8.1} {max:8.1} {:8.2}", subject.name, median / base);
    }
}

/// Where the time goes, from the times that the incidents of the adopted unit have.
fn print_breakdown(machine: &Machine) {
    let incidents = machine.incidents("adopted.service");
    let part = |from: &str, to: &str| {
        let times = incidents.iter().filter_map(|incident| {
            let at = |key: &str| incident[key]["data"].as_u64().filter(|at| *at > 0);
            Some(at(to)?.saturating_sub(at(from)?) as f64 / 1000.0)
        });
        let times = sorted(times.collect());
        (quantile(&times, 0.5), quantile(&times, 0.99))
    };
    println!("  of the adopted unit's time, from {} incidents (median, p99):", incidents.len());
    for (what, from, to) in [
        ("process ended -> signal seen", "Opened", "Detected"),
        ("signal seen -> decided", "Detected", "Decided"),
        ("decided -> systemd says started", "Decided", "Started"),
    ] {
        let (median, p99) = part(from, to);
        println!("    {what:32} {median:8.2} {p99:8.2}");
    }
}
