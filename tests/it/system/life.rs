// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every run of a worker is followed from start to end.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, SUITES, Suite};

#[test]
fn a_killed_worker_runs_again_and_its_incident_is_closed_after_verification() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        let before = machine.property("w.service", "MainPID");
        machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        assert_ne!(machine.property("w.service", "MainPID"), before);
        let incidents = machine.incidents("w.service");
        assert_eq!(incidents.len(), 1, "{incidents:?}");
        let incident = &incidents[0];
        assert_eq!(incident["Cause"]["data"], "killed-unattributed");
        assert_eq!(incident["Result"]["data"], "recovered");
        let time = |key: &str| incident[key]["data"].as_u64().expect(key);
        let order = ["Opened", "Detected", "Decided", "Started", "Recovered", "Closed"].map(time);
        assert!(order.is_sorted() && order[0] > 0, "{order:?}");
    }
}

#[test]
fn each_way_to_fail_gets_its_cause() {
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[(
            "/etc/watcherd/workers.d/c.toml",
            "[worker]\nunits = [\"c-*\"]\n[restart]\nback-off = \"1h\"\nbudget = \"20/1h\"\n",
        )],
    );
    let cases = [
        ("c-exit", "ExecStart=/bin/false", "unknown"),
        ("c-segv", "ExecStart=/bin/sh -c 'kill -SEGV $$$$'", "segfault"),
        ("c-kill", "ExecStart=/bin/sh -c 'kill -KILL $$$$'", "killed-unattributed"),
        ("c-exec", "ExecStart=/nonexistent", "unit-setup-failed"),
        ("c-user", "ExecStart=/bin/true\nUser=nobody-here", "unit-setup-failed"),
        ("c-dir", "ExecStart=/bin/true\nWorkingDirectory=/nonexistent", "unit-setup-failed"),
        ("c-127", "ExecStart=/bin/sh -c nonexistent-command", "missing-dependency"),
        (
            "c-dog",
            "Type=notify\nNotifyAccess=all\nWatchdogSec=1\nExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep 60'",
            "unresponsive",
        ),
        ("c-late", "Type=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 60", "unresponsive"),
        ("c-max", "RuntimeMaxSec=1\nExecStart=/bin/sleep 60", "external-stop"),
    ];
    for (name, lines, _) in cases {
        machine.write(&format!("/etc/systemd/system/{name}.service"), &format!("[Service]\n{lines}\n"));
    }
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    for (name, _, _) in cases {
        machine.run(&["systemctl", "start", "--no-block", name]);
    }
    for (name, _, cause) in cases {
        let unit = format!("{name}.service");
        machine.until_property(&unit, "Cause", cause);
        // What only a person can mend is held.
        let phase = if cause == "unit-setup-failed" { "held" } else { "recovering" };
        machine.until_property(&unit, "Phase", phase);
        assert_eq!(machine.incidents(&unit).len(), 1, "{name}");
    }
}

#[test]
fn a_stop_by_a_person_is_respected_until_somebody_starts_it() {
    let stubborn = "[Service]\nExecStart=/bin/bash -c 'trap \"exit 3\" TERM; sleep infinity & wait'\n";
    for suite in SUITES {
        for unit in [SLEEPER, stubborn] {
            let machine = with_worker(suite, QUICK, unit);
            machine.ok(&["systemctl", "stop", "w.service"]);
            machine.until_property("w.service", "Phase", "inactive");
            machine.until_property("w.service", "IntendedUp", "false");
            assert_eq!(machine.incidents("w.service").len(), 0);
            machine.ok(&["systemctl", "start", "w.service"]);
            machine.until_property("w.service", "Phase", "working");
            machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
            machine.until_property("w.service", "NRuns", "3");
        }
    }
}

#[test]
fn a_restart_by_a_person_is_no_incident() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        for runs in 2..6 {
            machine.ok(&["systemctl", "restart", "w.service"]);
            machine.until_property("w.service", "NRuns", &runs.to_string());
        }
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.incidents("w.service").len(), 0);
    }
}

#[test]
fn a_unit_with_its_own_restart_is_pre_empted() {
    for suite in SUITES {
        let unit = format!("{SLEEPER}Restart=always\nRestartSec=30s\n");
        let machine = with_worker(suite, QUICK, &unit);
        machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.unit("w.service", "NRestarts"), "0");

        // A longer pause than the unit's own: systemd's restart is held back.
        let slow = QUICK.replace("\"0s\"", "\"1h\"");
        machine.write("/etc/watcherd/workers.d/w.toml", &slow);
        let unit = format!("{SLEEPER}Restart=always\nRestartSec=200ms\n");
        machine.write_unit("w.service", &unit);
        machine.ok(&["systemctl", "restart", "w.service"]);
        machine.ok(&["systemctl", "kill", "-s", "HUP", "watcherd"]);
        machine.until("the new policy", || machine.property("w.service", "Policy").contains("1h").then_some(()));
        machine.until_property("w.service", "NRuns", "3");
        machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
        machine.until_property("w.service", "Phase", "recovering");
        machine.until("systemd's restart to be held back", || {
            (machine.unit("w.service", "SubState") == "dead").then_some(())
        });
        assert_eq!(machine.property("w.service", "NRuns"), "3");
    }
}

#[test]
fn a_spent_budget_quarantines_and_reset_gives_another_chance() {
    let policy = QUICK.replace("20/1h", "3/1h");
    let failing = "[Service]\nExecStart=/bin/sh -c 'test -e /run/fixed && exec sleep infinity; exit 7'\n";
    for suite in SUITES {
        let machine = Machine::boot_with(
            suite,
            &[("/etc/watcherd/workers.d/w.toml", &policy), ("/etc/systemd/system/w.service", failing)],
        );
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "w.service"]);
        machine.until_property("w.service", "Phase", "quarantined");
        assert_eq!(machine.property("w.service", "NRuns"), "4");
        assert_eq!(machine.incidents("w.service").len(), 4);
        machine.write("/run/fixed", "");
        let path = crate::machine::worker_path("w.service");
        machine.ok(&["busctl", "call", "org.watcherd1", &path, "org.watcherd1.Worker", "ResetQuarantine"]);
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.incidents("w.service")[0]["Result"]["data"], "recovered");
    }
}

#[test]
fn a_units_own_start_limit_does_not_end_supervision() {
    let failing = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n\
        [Service]\nExecStart=/bin/sh -c 'echo x >>/run/starts; [ $(wc -l </run/starts) -gt 8 ] && exec sleep infinity; exit 1'\n";
    for suite in SUITES {
        let machine = Machine::boot_with(
            suite,
            &[("/etc/watcherd/workers.d/w.toml", QUICK), ("/etc/systemd/system/w.service", failing)],
        );
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "w.service"]);
        machine.until_property("w.service", "NRuns", "9");
        machine.until_property("w.service", "Phase", "working");
    }
}

#[test]
fn a_command_is_run_made_anew_after_a_crash_and_done_at_its_end() {
    for suite in SUITES {
        let machine = Machine::with_watcherd(suite);
        let script = "echo run $$; while [ ! -e /run/end ]; do sleep 0.05; [ -e /run/die ] && rm /run/die && kill -KILL $$; done; exit 0";
        let policy = ["2", "restart.back-off", "s", "0s", "restart.verify", "s", "1s"];
        let mut arguments = vec!["sasa{sv}a{sv}t", "job", "3", "/bin/sh", "-c", script, "1"];
        arguments.extend(["Environment", "as", "1", "\"A=b c\""]);
        arguments.extend(policy);
        arguments.push("0");
        machine.call("Run", &arguments).expect("it can be run");
        machine.until_property("job.service", "Phase", "working");
        assert_eq!(machine.unit("job.service", "Environment"), "\"A=b c\"");
        assert_eq!(machine.unit("job.service", "Slice"), "watcherd.slice");
        let refused = machine.call("Run", &arguments).expect_err("the name is taken");
        assert!(refused.contains("job.service"), "{refused}");
        machine.write("/run/die", "");
        machine.until_property("job.service", "NRuns", "2");
        machine.until_property("job.service", "Phase", "working");
        machine.write("/run/end", "");
        machine.until_property("job.service", "Phase", "completed");
        assert_eq!(machine.incidents("job.service").len(), 1);
        machine.call("Forget", &["s", "job"]).expect("it can be forgotten");
        assert_eq!(machine.property("job.service", "Phase"), "");
    }
}

#[test]
fn dollars_and_semicolons_survive_a_daemon_reload_and_a_crash() {
    for suite in SUITES {
        let machine = Machine::with_watcherd(suite);
        let script = "X='a;b'; echo \"$X\" >>/run/out; sleep infinity";
        let policy = ["1", "restart.back-off", "s", "0s"];
        let mut arguments = vec!["sasa{sv}a{sv}t", "job", "3", "/bin/sh", "-c", script, "0"];
        arguments.extend(policy);
        arguments.push("0");
        machine.call("Run", &arguments).expect("it can be run");
        machine.until("its output", || (machine.read("/run/out") == "a;b\n").then_some(()));
        machine.ok(&["systemctl", "daemon-reload"]);
        machine.ok(&["systemctl", "kill", "-s", "KILL", "job.service"]);
        machine.until("its output", || (machine.read("/run/out") == "a;b\na;b\n").then_some(()));
    }
}

#[test]
fn instances_of_a_template_come_and_go() {
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[("/etc/watcherd/workers.d/w.toml", QUICK), ("/etc/systemd/system/w@.service", SLEEPER)],
    );
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w@1", "w@2"]);
    machine.until_property("w@1.service", "Phase", "working");
    machine.until_property("w@2.service", "Phase", "working");
    machine.ok(&["systemctl", "kill", "-s", "KILL", "w@2"]);
    machine.until_property("w@2.service", "NRuns", "2");
    assert_eq!(machine.property("w@1.service", "NRuns"), "1");
    machine.ok(&["systemctl", "status", "w@1"]);
    machine.run(&["systemctl", "status", "w@77"]);
    assert_eq!(machine.property("w@77.service", "Phase"), "", "an instance that never ran is no worker");
}

#[test]
fn masked_and_missing_units_are_shown_as_what_they_are() {
    let policy = "[worker]\nunits = [\"gone.service\", \"masked.service\"]\n";
    let machine = Machine::boot_with(Suite::Bookworm, &[("/etc/watcherd/workers.d/w.toml", policy)]);
    machine.ok(&["systemctl", "mask", "masked.service"]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.until_property("gone.service", "PhaseReason", "the unit does not exist");
    machine.until_property("masked.service", "PhaseReason", "the unit is masked");
    for name in ["gone", "masked"] {
        let refused = machine.call("Start", &["asst", "1", name, "", "0"]).expect_err("it cannot be started");
        assert!(refused.contains(name), "{refused}");
    }
    machine.write_unit("gone.service", SLEEPER);
    machine.ok(&["systemctl", "start", "gone"]);
    machine.until_property("gone.service", "Phase", "working");
}

#[test]
fn a_reload_or_reexec_of_systemd_changes_nothing() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        for verb in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
            machine.ok(&["systemctl", verb]);
            assert_eq!(machine.property("w.service", "NRuns"), "1", "{verb}");
        }
        machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.incidents("w.service").len(), 1);
    }
}

#[test]
fn a_paused_worker_stands_still_and_a_watchdog_forbids_it_on_old_systemd() {
    let dog = "[Service]\nType=notify\nNotifyAccess=all\nWatchdogSec=20s\n\
        ExecStart=/bin/sh -c 'systemd-notify --ready; while sleep 1; do systemd-notify WATCHDOG=1; done'\n";
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.call("Pause", &["asst", "1", "w", "maintenance", "0"]).expect("it can be paused");
        machine.until_property("w.service", "Phase", "paused");
        assert_eq!(machine.unit("w.service", "FreezerState"), "frozen");
        machine.call("Resume", &["asst", "1", "w", "", "0"]).expect("it can be resumed");
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.unit("w.service", "FreezerState"), "running");
        machine.call("Pause", &["asst", "1", "w", "", "0"]).expect("it can be paused");
        machine.until_property("w.service", "Phase", "paused");
        machine.call("Stop", &["asst", "1", "w", "", "0"]).expect("a paused worker can be stopped");
        machine.until_property("w.service", "Phase", "inactive");

        machine.write_unit("w@.service", dog);
        machine.ok(&["systemctl", "start", "w@dog"]);
        machine.until_property("w@dog.service", "Phase", "working");
        let paused = machine.call("Pause", &["asst", "1", "w@dog", "", "0"]);
        match suite {
            Suite::Bookworm => assert!(paused.expect_err("it cannot be paused").contains("WatchdogSec=")),
            Suite::Trixie => drop(paused.expect("it can be paused")),
        }
    }
}

#[test]
fn a_held_worker_is_left_alone_until_its_release() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    let id = machine.call("Hold", &["assstt", "1", "w", "alice", "backup", "0", "0"]).expect("it can be held");
    machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
    machine.until_property("w.service", "Phase", "held");
    assert_eq!(machine.property("w.service", "PhaseReason"), "held by alice (backup)");
    let refused = machine.call("Start", &["asst", "1", "w", "", "0"]).expect_err("it is held");
    assert!(refused.contains("held by alice (backup)"), "{refused}");
    machine.call("Release", &["u", id.trim_start_matches("u ")]).expect("it can be released");
    machine.until_property("w.service", "Phase", "working");
    assert_eq!(machine.property("w.service", "NRuns"), "2");
}

#[test]
fn an_unwilling_worker_is_killed_after_its_grace() {
    let stubborn = "[Service]\nExecStart=/bin/bash -c 'trap \"\" TERM; while :; do sleep 1; done'\nTimeoutStopSec=1h\n";
    let policy = format!("{QUICK}grace = \"1s\"\n");
    let machine = with_worker(Suite::Bookworm, &policy, stubborn);
    machine.call("Stop", &["asst", "1", "w", "", "0"]).expect("it can be stopped");
    machine.until_property("w.service", "Phase", "inactive");
    assert_eq!(machine.incidents("w.service").len(), 0);
}

#[test]
fn progress_is_read_from_the_status_text() {
    let policy = QUICK.replace("[restart]", "[progress]\nnotify = true\n[restart]");
    let unit = "[Service]\nType=notify\nNotifyAccess=all\n\
        ExecStart=/bin/sh -c 'systemd-notify --ready; for i in 1 2 3; do systemd-notify --status=\"step $$i/40\"; done; sleep infinity'\n";
    let machine = with_worker(Suite::Bookworm, &policy, unit);
    machine.until_property("w.service", "ProgressValue", "3");
    assert_eq!(machine.property("w.service", "ProgressTotal"), "40");
}
