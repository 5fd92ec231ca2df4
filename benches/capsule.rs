// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long it takes to save the evidence about a stalled process with many threads.

use crate::machine::{Machine, Suite};
use crate::{quantile, sorted};

const POLICY: &str = "[worker]\nunits = [\"many.service\"]\n\
    [progress]\nfile = \"/run/many\"\nstall-after = \"1s\"\nwarm-up = \"1s\"\n\
    [restart]\nback-off = \"0s\"\nverify = \"0s\"\nbudget = \"1000/1h\"\ndump-signal = \"none\"\n";
const UNIT: &str = "[Service]\nExecStart=/usr/bin/python3 -c \"import threading, time\\n\
    [threading.Thread(target=time.sleep, args=(9999,)).start() for _ in range(199)]\\nopen('/run/many', 'w').write('1')\"\n";

pub fn measure(rounds: usize) {
    println!("\nevidence about a stalled process with 200 threads, {rounds} rounds (ms)");
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[("/etc/watcherd/workers.d/many.toml", POLICY), ("/etc/systemd/system/many.service", UNIT)],
    );
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "many.service"]);
    // The incident is opened when the capture begins, and the journal is told when the evidence is saved.
    let entries = "journalctl -q -o json UNIT=many.service WATCHERD_WORKER=many.service 2>/dev/null; \
        journalctl -q -o json SYSLOG_IDENTIFIER=watcherd";
    let times = machine.until("enough stalls", || {
        let times = durations(&machine.ok(&["sh", "-c", entries]));
        (times.len() >= rounds).then_some(times)
    });
    let times = sorted(times);
    println!("  stalled -> evidence saved {:8.0} median, {:.0} at most", quantile(&times, 0.5), quantile(&times, 1.0));
}

/// Milliseconds from each incident to its evidence.
fn durations(entries: &str) -> Vec<f64> {
    let mut opened = None;
    let mut times = Vec::new();
    for entry in entries.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let text = entry["MESSAGE"].as_str().unwrap_or_default();
        let at: f64 = entry["__MONOTONIC_TIMESTAMP"].as_str().and_then(|at| at.parse().ok()).unwrap_or_default();
        if text.contains("is stalled (unresponsive)") {
            opened = Some(at);
        } else if text.contains("the evidence about many.service is saved") {
            times.extend(opened.take().map(|opened| (at - opened) / 1e3));
        }
    }
    times
}
