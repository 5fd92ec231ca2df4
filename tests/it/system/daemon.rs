// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon itself: readiness, stopping, and what it says when it cannot go on.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, SUITES, Suite};

/// Runs watcherd by hand; returns its exit status and what it said.
fn by_hand(machine: &Machine, arguments: &[&str]) -> (Option<i32>, String) {
    let mut argv = vec!["/usr/bin/watcherd"];
    argv.extend(arguments);
    let output = machine.run(&argv);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn it_is_ready_when_its_objects_are_on_the_bus_and_stops_cleanly() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
        let tree = machine.ok(&["busctl", "tree", "--list", "org.watcherd1"]);
        assert!(tree.contains("/org/watcherd1/worker/w_2eservice"), "{tree}");
        machine.until("a true status line", || {
            (machine.unit("watcherd", "StatusText") == "1 worker: 1 working").then_some(())
        });
        machine.ok(&["systemctl", "stop", "watcherd"]);
        assert_eq!(machine.unit("watcherd", "Result"), "success");
        assert_eq!(machine.unit("watcherd", "ExecMainStatus"), "0");
        assert_eq!(machine.unit("w.service", "ActiveState"), "active");
    }
}

#[test]
fn it_is_activated_by_the_first_call() {
    let machine = Machine::boot(Suite::Bookworm);
    machine.ok(&["systemctl", "enable", "watcherd"]);
    let reply = machine.call("ListWorkers", &[]).expect("it is activated");
    assert_eq!(reply, "a(ssssto) 0");
}

#[test]
fn the_service_survives_a_restart_of_the_bus() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    let pid = machine.property("w.service", "MainPID");
    machine.run(&["systemctl", "restart", "dbus"]);
    machine.until_property("w.service", "MainPID", &pid);
    machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
    machine.until_property("w.service", "NRuns", "2");
}

#[test]
fn a_bus_that_has_not_read_the_policy_yet_is_asked_again() {
    let policy = "/usr/share/dbus-1/system.d/org.watcherd1.conf";
    let reload = ["busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig"];
    for suite in SUITES {
        let machine = Machine::boot(suite);
        machine.ok(&["mv", policy, "/root/"]);
        machine.ok(&reload);
        machine.ok(&["systemctl", "start", "--no-block", "watcherd"]);
        machine.until("the refusal", || machine.story().contains("does not let watcherd have its name").then_some(()));
        machine.ok(&["mv", "/root/org.watcherd1.conf", policy]);
        machine.ok(&reload);
        machine.until("the start", || (machine.unit("watcherd", "ActiveState") == "active").then_some(()));
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
    }
}

#[test]
fn a_second_watcherd_is_turned_away() {
    let machine = Machine::with_watcherd(Suite::Bookworm);
    let (status, said) = by_hand(&machine, &["--state", "/var/lib/watcherd"]);
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains("in use by another watcherd"), "{said}");
    machine.ok(&["mkdir", "/run/other"]);
    let (status, said) = by_hand(&machine, &["--state", "/run/other"]);
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains("another watcherd is running on this bus"), "{said}");
    assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
}

#[test]
fn without_a_bus_it_says_so_in_one_line() {
    let machine = Machine::boot(Suite::Bookworm);
    machine.ok(&["mkdir", "/run/state"]);
    let (status, said) = by_hand(&machine, &["--state", "/run/state", "--address", "unix:path=/nonexistent"]);
    assert_eq!(status, Some(69), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the bus cannot be reached"), "{said}");
}

#[test]
fn state_that_cannot_be_used_is_named() {
    let machine = Machine::boot(Suite::Bookworm);
    machine.write("/run/file", "not a directory");
    machine.ok(&["sh", "-c", "mkdir /run/ro /run/newer && mount -t tmpfs -o ro tmpfs /run/ro"]);
    for (place, expected) in
        [("/run/nowhere", "/run/nowhere"), ("/run/file", "/run/file"), ("/run/ro", "Read-only file system")]
    {
        let (status, said) = by_hand(&machine, &["--state", place]);
        assert_eq!(status, Some(73), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_damaged_database_is_set_aside_and_a_newer_one_is_refused() {
    let machine = Machine::with_watcherd(Suite::Bookworm);
    machine.ok(&["systemctl", "stop", "watcherd"]);
    machine.ok(&["sh", "-c", "head -c 40000 /dev/urandom >/var/lib/watcherd/state.db"]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    let kept = machine.ok(&["sh", "-c", "ls /var/lib/watcherd"]);
    assert!(kept.contains("state.db.corrupt-"), "{kept}");
    machine.ok(&["systemctl", "stop", "watcherd"]);
    // The version is a number at a fixed place in the header of a SQLite file (offset 60).
    let newer = "printf '\\377\\377' | dd of=/var/lib/watcherd/state.db bs=1 seek=62 conv=notrunc 2>/dev/null";
    machine.ok(&["sh", "-c", &format!("rm -f /var/lib/watcherd/state.db-*; {newer}")]);
    let (status, said) = by_hand(&machine, &["--state", "/var/lib/watcherd"]);
    assert_eq!(status, Some(73), "{said}");
    assert!(said.contains("newer watcherd"), "{said}");
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_lost() {
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[
            ("/etc/watcherd/workers.d/w.toml", QUICK),
            ("/etc/systemd/system/w.service", SLEEPER),
            (
                "/etc/systemd/system/watcherd.service.d/state.conf",
                "[Service]\nExecStart=\nExecStart=/usr/bin/watcherd --state /run/state\nReadWritePaths=/run/state\n",
            ),
        ],
    );
    machine.ok(&["sh", "-c", "mkdir /run/state && mount -t tmpfs -o size=1M tmpfs /run/state"]);
    machine.ok(&["systemctl", "start", "watcherd", "w.service"]);
    machine.until_property("w.service", "Phase", "working");
    machine.run(&["sh", "-c", "cat /dev/zero >/run/state/fill"]);
    machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
    machine.until_property("w.service", "NRuns", "2");
    let degraded = || {
        machine.ok(&["busctl", "get-property", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", "Degraded"])
    };
    machine.until("the trouble to be said", || degraded().contains("state cannot be saved").then_some(()));
    machine.ok(&["rm", "/run/state/fill"]);
    machine.until("the trouble to be over", || degraded().starts_with("as 0").then_some(()));
    machine.ok(&["systemctl", "kill", "-s", "KILL", "watcherd"]);
    machine.until_property("w.service", "NRuns", "2");
    machine.until("the incident that was not saved at first", || {
        (machine.incidents("w.service").len() == 1).then_some(())
    });
}

#[test]
fn it_supervises_the_units_of_a_user_without_root() {
    for suite in SUITES {
        let policy = QUICK.replace("w@*", "u@*");
        let machine = Machine::boot_with(suite, &[("/home/alice/.config/watcherd/workers.d/w.toml", &policy)]);
        machine.write("/home/alice/.config/systemd/user/w.service", SLEEPER);
        machine.ok(&["chown", "-R", "alice:alice", "/home/alice"]);
        machine.start_user_manager("alice");
        let user = |line: &str| machine.command_as("alice", &["sh", "-c", line]).output().expect("it can be run");
        let started = user("systemctl --user start watcherd w.service");
        assert!(started.status.success(), "{started:?}");
        let property = |name: &str| {
            let output = user(&format!(
                "busctl --user get-property org.watcherd1 /org/watcherd1/worker/w_2eservice org.watcherd1.Worker {name}"
            ));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        machine.until("the worker", || (property("Phase") == "s \"working\"").then_some(()));
        user("systemctl --user kill -s KILL w.service");
        machine.until("the restart", || (property("NRuns") == "t 2").then_some(()));
        machine.until("the cure", || (property("Phase") == "s \"working\"").then_some(()));
        // Alice may not read a volatile journal, so root looks.
        machine.until("the story under the user's unit", || {
            let story =
                machine.ok(&["journalctl", "-b", "-o", "cat", "--no-pager", "OBJECT_SYSTEMD_USER_UNIT=w.service"]);
            story.contains("w.service has recovered").then_some(())
        });
    }
}
