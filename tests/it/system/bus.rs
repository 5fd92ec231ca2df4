// SPDX-License-Identifier: MIT OR Apache-2.0
//! The D-Bus interface on a real bus: who may do what, and the tools that people use.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, SUITES, Suite, worker_path};
use std::collections::BTreeSet;
use watcherd::engine::action::EntryKind;
use watcherd::engine::cause::Cause;

fn as_alice(machine: &Machine, argv: &[&str]) -> std::process::Output {
    let mut all = vec!["runuser", "-u", "alice", "--"];
    all.extend(argv);
    machine.run(&all)
}

#[test]
fn everybody_may_look_and_only_root_may_touch() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        let manager = ["busctl", "call", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager"];
        let look = as_alice(&machine, &[&manager[..], &["ListWorkers"]].concat());
        assert!(look.status.success(), "{look:?}");
        let worker = worker_path("w.service");
        let on_worker = ["busctl", "call", "org.watcherd1", &worker, "org.watcherd1.Worker"];
        let touches: Vec<Vec<&str>> = vec![
            [&manager[..], &["Start", "asst", "1", "w", "", "0"]].concat(),
            [&manager[..], &["Stop", "asst", "1", "w", "", "0"]].concat(),
            [&manager[..], &["Restart", "asst", "1", "w", "", "0"]].concat(),
            [&manager[..], &["Pause", "asst", "1", "w", "", "0"]].concat(),
            [&manager[..], &["Resume", "asst", "1", "w", "", "0"]].concat(),
            [&manager[..], &["Run", "sasa{sv}a{sv}t", "evil", "1", "/bin/id", "0", "0", "0"]].concat(),
            [&manager[..], &["Adopt", "sa{sv}t", "dbus", "0", "0"]].concat(),
            [&manager[..], &["Forget", "s", "w"]].concat(),
            [&manager[..], &["Hold", "assstt", "1", "w", "", "", "0", "0"]].concat(),
            [&manager[..], &["HoldLock", "asss", "1", "w", "", ""]].concat(),
            [&manager[..], &["Release", "u", "1"]].concat(),
            [&manager[..], &["Reload", "t", "0"]].concat(),
            [&on_worker[..], &["Quarantine", "s", ""]].concat(),
            [&on_worker[..], &["ResetQuarantine"]].concat(),
            [&on_worker[..], &["Beat", "ta{sv}", "1", "0"]].concat(),
        ];
        for touch in touches {
            let output = as_alice(&machine, &touch);
            assert!(!output.status.success(), "{touch:?} must be denied");
        }
        assert_eq!(machine.property("w.service", "Phase"), "working");
        assert_eq!(machine.property("w.service", "NRuns"), "1");
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
    }
}

#[test]
fn a_polkit_rule_lets_one_user_do_one_thing_to_one_worker() {
    let rule = "polkit.addRule(function(action, subject) {\n\
        if (action.id == 'org.watcherd1.manage-workers' && subject.user == 'alice' &&\n\
            action.lookup('worker') == 'w.service' && action.lookup('verb') == 'restart') return polkit.Result.YES;\n});\n";
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.write("/etc/polkit-1/rules.d/10-alice.rules", rule);
        machine.ok(&["chmod", "755", "/etc/polkit-1/rules.d"]);
        machine.run(&["systemctl", "restart", "polkit"]);
        let call = |member: &str| {
            let manager = ["busctl", "call", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager"];
            as_alice(&machine, &[&manager[..], &[member, "asst", "1", "w", "", "0"]].concat())
        };
        let restart = call("Restart");
        assert!(restart.status.success(), "{restart:?}\n{}", machine.story());
        machine.until_property("w.service", "NRuns", "2");
        assert!(!call("Stop").status.success());
        assert_eq!(machine.property("w.service", "Phase"), "working");
    }
}

#[test]
fn a_worker_beats_for_itself_and_for_nobody_else() {
    let beat = "watcherctl beat 5 --total 9 --value pending=4 && watcherctl beat";
    let unit = format!("[Service]\nExecStart=/bin/sh -c \"{beat}; exec sleep infinity\"\n");
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, &unit);
        machine.until_property("w.service", "ProgressValue", "5");
        assert_eq!(machine.property("w.service", "ProgressTotal"), "9");
        let shown = machine.run(&["watcherctl", "status", "w"]).stdout;
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains("Progress: 5/9 55%") && shown.contains("Values: pending 4"), "{shown}");
        let outside = machine.run(&["watcherctl", "beat", "7"]);
        assert!(String::from_utf8_lossy(&outside.stderr).contains("watcherctl: "), "{outside:?}");
        let path = worker_path("w.service");
        let other = machine.run(&[
            "busctl",
            "call",
            "org.watcherd1",
            &path,
            "org.watcherd1.Worker",
            "Beat",
            "ta{sv}",
            "7",
            "0",
        ]);
        assert!(!other.status.success(), "root outside of the unit is not the worker");
        assert_eq!(machine.property("w.service", "ProgressValue"), "5");
    }
}

#[test]
fn the_log_level_can_be_changed_with_systemctl() {
    let machine = Machine::with_watcherd(Suite::Bookworm);
    assert_eq!(machine.ok(&["systemctl", "service-log-level", "watcherd"]).trim(), "info");
    machine.ok(&["systemctl", "service-log-level", "watcherd", "debug"]);
    assert_eq!(machine.ok(&["systemctl", "service-log-level", "watcherd"]).trim(), "debug");
}

#[test]
fn installed_files_are_accepted_by_the_tools_that_read_them() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        let units = ["/usr/lib/systemd/system/watcherd.service", "/usr/lib/systemd/system/watcherd.slice"];
        for unit in units {
            let output = machine.run(&["systemd-analyze", "verify", "--man=no", unit]);
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{unit}");
            assert!(output.status.success());
        }
        let security = ["systemd-analyze", "security", "--offline=yes", "--threshold=30", units[0]];
        machine.ok(&security);
        machine.ok(&["journalctl", "--update-catalog"]);
        let catalog = machine.ok(&["journalctl", "--list-catalog"]);
        let causes = Cause::ALL.iter().map(|cause| cause.message_id());
        let ids: BTreeSet<_> = EntryKind::ALL.iter().map(|kind| kind.message_id()).chain(causes).collect();
        for id in &ids {
            assert!(catalog.contains(id), "{id} is missing in the catalog");
        }
        assert_eq!(catalog.lines().filter(|line| line.contains("watcherd:")).count(), ids.len());
        let actions = machine.ok(&["pkaction"]);
        assert!(actions.contains("org.watcherd1.manage-workers"), "{actions}");
    }
}
