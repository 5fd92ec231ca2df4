// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens on a real systemd is recorded, and plays to the same decisions.

use super::{QUICK, SLEEPER};
use crate::machine::{Machine, SUITES};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use watcherd::engine::policy::Policies;
use watcherd::replay::{Verdict, replay};

const RECORD: &str = "[manager]\nrecord = \"recordings\"\n";

/// The recordings of the machine, oldest first.
fn recordings(machine: &Machine) -> Vec<PathBuf> {
    let directory = machine.root().join("var/lib/watcherd/recordings");
    let mut found: Vec<_> =
        fs::read_dir(directory).expect("it was made").map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

#[test]
fn a_recorded_run_is_decided_the_same_again_and_otherwise_by_another_policy() {
    for suite in SUITES {
        let unit = format!("{SLEEPER}Environment=TOKEN=hunter2\n");
        let files = [
            ("/etc/watcherd/watcherd.toml", RECORD),
            ("/etc/watcherd/workers.d/w.toml", QUICK),
            ("/etc/systemd/system/w.service", unit.as_str()),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["systemctl", "start", "w.service", "watcherd"]);
        machine.ok(&[
            "watcherctl",
            "run",
            "--name",
            "job",
            "-p",
            "Environment=TOKEN=hunter2",
            "--",
            "sleep",
            "7654321",
        ]);
        machine.until_property("job.service", "Phase", "working");
        for runs in ["2", "3"] {
            machine.until_property("w.service", "Phase", "working");
            machine.ok(&["systemctl", "kill", "-s", "SEGV", "w.service"]);
            machine.until_property("w.service", "NRuns", runs);
        }
        machine.until("both verdicts", || (machine.incidents("w.service").len() == 2).then_some(()));
        machine.until_property("w.service", "Phase", "working");
        // A new life of watcherd is a new file, which begins with what was saved.
        machine.ok(&["systemctl", "restart", "watcherd"]);
        machine.ok(&["systemctl", "kill", "-s", "SEGV", "w.service"]);
        machine.until_property("w.service", "Phase", "quarantined");
        machine.ok(&["systemctl", "stop", "watcherd"]);

        let files = recordings(&machine);
        assert_eq!(files.len(), 2);
        for (file, restarts) in files.iter().zip([2, 0]) {
            assert_eq!(fs::metadata(file).expect("it is there").permissions().mode() & 0o777, 0o600);
            let text = fs::read_to_string(file).expect("it is text");
            assert!(!text.contains("hunter2") && !text.contains("7654321"), "{text}");
            let report = replay(&text, None).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
            assert!(report.is_same(), "{:#?}\n{text}", report.rows);
            let starts =
                report.rows.iter().filter_map(|row| row.recorded.as_ref()).filter(|known| known.kind == "start");
            assert_eq!(starts.filter(|known| known.text.starts_with("start w")).count(), restarts, "{text}");
            // The same policy again, but living through what happened, which leaves out what was asked for.
            let lived = replay(&text.replacen("recording ", "recording continued ", 1), None).expect("it is read");
            assert!(lived.is_same(), "{:#?}\n{text}", lived.rows);
            let nobody = replay(&text, Some(Policies::default())).expect("it is read");
            assert!(nobody.rows.iter().any(|row| row.verdict == Verdict::Differs), "{text}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_costs_nothing_but_the_recording() {
    let suite = SUITES[0];
    let files = [
        ("/etc/watcherd/watcherd.toml", "[manager]\nrecord = \"/usr/recordings\"\n"),
        ("/etc/watcherd/workers.d/w.toml", QUICK),
        ("/etc/systemd/system/w.service", SLEEPER),
    ];
    let machine = Machine::boot_with(suite, &files);
    machine.ok(&["systemctl", "start", "watcherd", "w.service"]);
    machine.until_property("w.service", "Phase", "working");
    let degraded =
        machine.ok(&["busctl", "get-property", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", "Degraded"]);
    assert!(degraded.contains("what happens is not recorded: /usr/recordings"), "{degraded}");
}
