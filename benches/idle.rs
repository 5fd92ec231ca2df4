// SPDX-License-Identifier: MIT OR Apache-2.0
//! What idle workers cost.

use crate::machine::guest::wait;
use crate::machine::{Machine, Suite};
use crate::subject::now;
use std::fs;
use std::time::Duration;

const POLICY: &str = "[worker]\nunits = [\"idle@*.service\"]\n";
const UNIT: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
/// How long the idle daemon is looked at.
const WINDOW: Duration = Duration::from_secs(60);

/// Starts a fleet of idle workers and measures the daemon.
pub fn measure(size: usize) -> Machine {
    println!("\n{size} idle workers");
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[("/etc/watcherd/workers.d/idle.toml", POLICY), ("/etc/systemd/system/idle@.service", UNIT)],
    );
    let script = format!("for n in $(seq {size}); do systemctl start --no-block idle@$n; done");
    machine.ok(&["sh", "-c", &script]);
    machine.until("the fleet to run", || {
        let count = "systemctl list-units --plain --no-legend --state=running 'idle@*' | wc -l";
        (machine.ok(&["sh", "-c", count]).trim() == size.to_string()).then_some(())
    });
    machine.ok(&["systemctl", "start", "watcherd"]);
    let reply = machine.call("ListWorkers", &[]).expect("watcherd answers");
    assert!(reply.starts_with(&format!("a(ssssto) {size} ")), "not all workers are there");
    settle(&machine);

    let pid = machine.unit("watcherd", "MainPID");
    let process = machine.root().join("proc").join(&pid);
    let before = sample(&process);
    let calls = machine.ok(&["sh", "-c", &calls_to_systemd(&pid)]);
    let after = sample(&process);
    let seconds = (after.at - before.at) as f64 / 1e6;
    println!("  PSS                      {:8.1} MiB", pss(&process) as f64 / 1024.0);
    println!("  CPU                      {:8.3} % of a core", (after.cpu - before.cpu) as f64 / seconds);
    println!("  wake-ups                 {:8.2} per second", (after.switches - before.switches) as f64 / seconds);
    println!("  method calls to systemd  {:8} in {seconds:.0} s", calls.trim());
    machine
}

/// Counts what watcherd calls while it is idle.
fn calls_to_systemd(pid: &str) -> String {
    let window = WINDOW.as_secs();
    let names = format!("busctl list --no-legend --unique | awk '$2 == {pid} {{print $1}}'");
    format!(
        "matches=; for name in $({names}); do \
         matches=\"$matches --match=type='method_call',sender='$name',destination='org.freedesktop.systemd1'\"; done; \
         timeout {window} busctl monitor --json=short $matches 2>/dev/null | wc -l"
    )
}

/// Waits until the daemon has come to rest.
pub fn settle(machine: &Machine) {
    let pid = machine.unit("watcherd", "MainPID");
    let process = machine.root().join("proc").join(pid);
    let mut last = sample(&process).cpu;
    let mut quiet = 0;
    wait(Duration::from_secs(60), || {
        std::thread::park_timeout(Duration::from_millis(500));
        let cpu = sample(&process).cpu;
        quiet = if cpu == last { quiet + 1 } else { 0 };
        last = cpu;
        (quiet == 6).then_some(())
    });
}

pub struct Sample {
    pub at: u64,
    /// Hundredths of a second of processor time.
    pub cpu: u64,
    pub switches: u64,
}

pub fn sample(process: &std::path::Path) -> Sample {
    let stat = fs::read_to_string(process.join("stat")).expect("watcherd runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a command name").split_whitespace().collect();
    let ticks = |at: usize| -> u64 { fields[at].parse().expect("a number") };
    let status = fs::read_to_string(process.join("status")).expect("watcherd runs");
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let switches = switches.and_then(|text| text.trim().parse().ok()).expect("a number");
    Sample { at: now(), cpu: ticks(11) + ticks(12), switches }
}

/// Kilobytes.
fn pss(process: &std::path::Path) -> u64 {
    let text = fs::read_to_string(process.join("smaps_rollup")).expect("watcherd runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a Pss line");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
