// SPDX-License-Identifier: MIT OR Apache-2.0
//! A package is installed, upgraded, removed, purged and installed again.

use super::{NEWER, NEWER_VERSION, PACKAGE, bare};
use crate::machine::{Machine, SUITES, Suite};
use std::collections::BTreeSet;

/// A worker that was made by watcherd, and so is in its slice.
const MADE: &str = "made.service";
/// A worker with a unit file of its own.
const OWN: &str = "own.service";

fn with_package(suite: Suite) -> Machine {
    let machine = bare(suite);
    install(&machine, PACKAGE);
    machine
}

#[track_caller]
fn install(machine: &Machine, package: &str) {
    machine.ok(&["dpkg", "-i", package]);
}

/// Two workers that run, one of which has failed before.
fn with_workers(suite: Suite) -> Machine {
    let machine = with_package(suite);
    machine.write_unit(OWN, "[Service]\nExecStart=/bin/sleep infinity\n");
    machine.ok(&["systemctl", "start", OWN]);
    machine.ok(&["watcherctl", "adopt", "--back-off=0s", "--verify=0s", OWN]);
    machine.until_property(OWN, "Phase", "working");
    machine.ok(&["systemctl", "kill", "-s", "SEGV", OWN]);
    machine.until_property(OWN, "NRuns", "2");
    machine.until_property(OWN, "Phase", "working");
    machine.ok(&["watcherctl", "run", "--name=made", "--", "/bin/sleep", "infinity"]);
    machine.until_property(MADE, "Phase", "working");
    machine
}

/// What must be the same before and after whatever happens to watcherd.
fn runs(machine: &Machine) -> Vec<String> {
    let of = |unit: &str| ["MainPID", "InvocationID", "NRestarts"].map(|property| machine.unit(unit, property));
    let runs = [of(OWN), of(MADE)].concat();
    assert!(runs.iter().all(|value| !value.is_empty()) && runs[0] != "0" && runs[3] != "0", "{runs:?}");
    runs
}

#[track_caller]
fn assert_known(machine: &Machine) {
    for worker in [OWN, MADE] {
        machine.until_property(worker, "Phase", "working");
    }
    let incidents = machine.incidents(OWN);
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0]["Cause"]["data"], "segfault");
    assert_eq!(machine.property(OWN, "NRuns"), "2");
}

/// How often systemd has started watcherd since the machine booted.
fn starts(machine: &Machine) -> usize {
    let lines = machine.ok(&[
        "journalctl",
        "-b",
        "-q",
        "-o",
        "cat",
        "UNIT=watcherd.service",
        "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf",
        "JOB_TYPE=start",
        "+",
        "UNIT=watcherd.service",
        "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf",
        "JOB_TYPE=restart",
    ]);
    lines.lines().count()
}

#[test]
fn a_fresh_install_runs_at_once_and_at_the_first_try() {
    for suite in SUITES {
        let machine = with_package(suite);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "active");
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
        assert_eq!(machine.unit("watcherd", "UnitFileState"), "enabled");
        assert_eq!(starts(&machine), 1);
        let complaints = machine.ok(&["journalctl", "-b", "-q", "-o", "cat", "-p", "warning", "-u", "watcherd"]);
        assert_eq!(complaints, "");
        let for_users = machine.run(&["systemctl", "--global", "is-enabled", "watcherd"]);
        assert_eq!(String::from_utf8_lossy(&for_users.stdout), "disabled\n");
        machine.ok(&["getent", "group", "watcherd"]);
        machine.ok(&["test", "-d", "/run/watcherd/workers.d"]);
        let listed = machine.command_as("alice", &["watcherctl", "list"]).output().expect("it can be run");
        assert!(listed.status.success(), "{listed:?}");
        let catalog = machine.ok(&["journalctl", "--list-catalog", "8e3cdb5b1ea14d4e9b7b6ac1f8b4a501"]);
        assert!(catalog.contains("watcherd"), "{catalog}");
    }
}

#[test]
fn an_upgrade_restarts_watcherd_once_and_no_worker() {
    for suite in SUITES {
        let machine = with_workers(suite);
        let (before, invocation) = (runs(&machine), machine.unit("watcherd", "InvocationID"));
        machine.ok(&["watcherctl", "hold", "--reason=upgrade", MADE]);
        install(&machine, NEWER);
        let version = machine.ok(&["dpkg-query", "-W", "-f=${Version}", "watcherd"]);
        assert_eq!(version, NEWER_VERSION);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "active");
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
        assert_ne!(machine.unit("watcherd", "InvocationID"), invocation);
        assert_eq!(starts(&machine), 2);
        assert_eq!(machine.property(MADE, "Held"), "true");
        machine.ok(&["watcherctl", "release", MADE]);
        assert_known(&machine);
        assert_eq!(runs(&machine), before);
    }
}

#[test]
fn what_was_switched_off_stays_off_when_it_is_upgraded() {
    for suite in SUITES {
        let machine = with_package(suite);
        machine.ok(&["systemctl", "disable", "--now", "watcherd"]);
        install(&machine, NEWER);
        assert_eq!(machine.unit("watcherd", "UnitFileState"), "disabled");
        assert_eq!(machine.unit("watcherd", "ActiveState"), "inactive");
        assert_eq!(starts(&machine), 1);
        // Who switched it off does not want it back by a question on the bus either.
        machine.call("GetWorker", &["s", "any.service"]).expect_err("nobody answers");
        assert_eq!(machine.unit("watcherd", "ActiveState"), "inactive");
    }
}

#[test]
fn removed_and_installed_again_it_knows_its_workers_which_ran_on() {
    for suite in SUITES {
        let machine = with_workers(suite);
        let before = runs(&machine);
        machine.ok(&["dpkg", "-r", "watcherd"]);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "inactive");
        assert!(!machine.root().join("usr/bin/watcherd").exists());
        assert!(machine.root().join("var/lib/watcherd/state.db").exists());
        assert_eq!(runs(&machine), before);
        install(&machine, PACKAGE);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "active");
        assert_eq!(machine.unit("watcherd", "UnitFileState"), "enabled");
        assert_known(&machine);
        assert_eq!(runs(&machine), before);
    }
}

#[test]
fn purged_it_leaves_nothing_but_the_workers() {
    for suite in SUITES {
        let machine = bare(suite);
        let before = files(&machine);
        let groups = machine.read("/etc/group");
        install(&machine, PACKAGE);
        let own = "[worker]\nunits = [\"mine-*\"]\n";
        machine.write("/etc/watcherd/workers.d/mine.toml", own);
        machine.write("/run/watcherd/workers.d/mine.toml", own);
        machine.ok(&["watcherctl", "run", "--name=made", "--", "/bin/sleep", "infinity"]);
        machine.until_property(MADE, "Phase", "working");
        machine.ok(&["systemctl", "--global", "enable", "watcherd"]);
        let pid = machine.unit(MADE, "MainPID");
        machine.ok(&["dpkg", "--purge", "watcherd"]);
        let left: Vec<_> = files(&machine).difference(&before).cloned().collect();
        assert_eq!(left, [""; 0]);
        assert_eq!(machine.read("/etc/group"), groups);
        assert_eq!(machine.unit(MADE, "MainPID"), pid);
        machine.ok(&["systemctl", "stop", MADE]);
        install(&machine, PACKAGE);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "active");
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
        assert_eq!(machine.property(MADE, "Phase"), "");
    }
}

/// Whatever is on the machine, but for what dpkg, the journal and systemd keep for themselves.
fn files(machine: &Machine) -> BTreeSet<String> {
    let script = "find / -xdev \\( -path /proc -o -path /sys -o -path /var/log -o -path /var/lib/dpkg \
        -o -path /var/cache/ldconfig -o -path /tmp -o -path /var/tmp \\) -prune -o -print; find /run/watcherd 2>/dev/null || :";
    let listed = machine.ok(&["sh", "-c", script]);
    listed.lines().filter(|path| !path.contains("/systemd-private-")).map(str::to_owned).collect()
}

#[test]
fn a_question_on_the_bus_brings_it_back_after_a_stop() {
    for suite in SUITES {
        let machine = with_package(suite);
        machine.ok(&["systemctl", "stop", "watcherd"]);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "inactive");
        machine.ok(&["watcherctl", "list"]);
        assert_eq!(machine.unit("watcherd", "ActiveState"), "active");
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
    }
}

#[test]
fn the_example_rule_lets_operators_operate_and_choose_nothing() {
    let rule = "/usr/share/doc/watcherd/examples/polkit/50-watcherd.rules";
    for suite in SUITES {
        let machine = with_workers(suite);
        machine.ok(&["gpasswd", "-a", "alice", "watcherd"]);
        let may = |user: &str, argv: &[&str]| {
            let argv = [&["watcherctl", "--no-ask-password"], argv].concat();
            let output = machine.command_as(user, &argv).output().expect("it can be run");
            match output.status.code() {
                Some(0) => true,
                Some(77) => false,
                _ => panic!("{output:?}"),
            }
        };
        assert!(!may("alice", &["hold", MADE]));
        machine.ok(&["cp", rule, "/etc/polkit-1/rules.d/"]);
        machine.until("polkit to read the rule", || may("alice", &["hold", MADE]).then_some(()));
        assert!(may("alice", &["release", MADE]) && may("alice", &["restart", OWN]));
        assert!(!may("alice", &["run", "--", "/bin/true"]) && !may("alice", &["adopt", "dbus.service"]));
        assert!(!may("bob", &["hold", MADE]));
    }
}
