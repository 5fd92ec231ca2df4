// SPDX-License-Identifier: MIT OR Apache-2.0
//! watcherd as a service: how it starts, reloads, fails and comes back.

use crate::machine::{Machine, SOON, on_each, wait_until};

#[test]
#[ignore = "the daemon is not there yet"]
fn a_fresh_installation_starts_at_the_first_attempt() {
    on_each(|machine| {
        machine.start_watcherd();
        assert_eq!(property(machine, "ActiveState"), "active");
        assert_eq!(property(machine, "NRestarts"), "0");
        machine.ok(&["busctl", "--system", "status", "org.watcherd1"]);
    });
}

#[test]
#[ignore = "the daemon is not there yet"]
fn a_first_call_starts_an_enabled_daemon_and_no_disabled_one() {
    on_each(|machine| {
        let call = ["busctl", "--system", "get-property", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager"];
        let call = [&call[..], &["Version"]].concat();
        assert!(!machine.run(&call).status.success());
        machine.ok(&["systemctl", "enable", "--quiet", "watcherd.service"]);
        machine.ok(&call);
        assert_eq!(property(machine, "ActiveState"), "active");
    });
}

#[test]
#[ignore = "the daemon is not there yet"]
fn it_comes_back_after_a_kill_and_its_workers_do_not_notice() {
    on_each(|machine| {
        machine.unit("train.service", "[Service]\nExecStart=sleep infinity\n");
        machine.policy("train.toml", "[worker]\nunit = \"train.service\"\n");
        machine.ok(&["systemctl", "start", "train.service"]);
        machine.start_watcherd();
        let worker = machine.ok(&["systemctl", "show", "-P", "MainPID", "train.service"]);
        machine.ok(&["systemctl", "kill", "-s", "KILL", "watcherd.service"]);
        wait_until("watcherd is back", SOON, || {
            property(machine, "NRestarts") == "1" && property(machine, "ActiveState") == "active"
        });
        assert_eq!(machine.ok(&["systemctl", "show", "-P", "MainPID", "train.service"]), worker);
    });
}

#[test]
#[ignore = "the daemon is not there yet"]
fn it_runs_for_a_user() {
    on_each(|machine| {
        machine.start_user_manager("alice");
        let mut enable = machine.command_as("alice", &["systemctl", "--user", "enable", "-q", "--now", "watcherd"]);
        crate::machine::stdout_of(&mut enable);
        crate::machine::stdout_of(&mut machine.command_as("alice", &["watcherctl", "--user", "list"]));
    });
}

fn property(machine: &Machine, name: &str) -> String {
    machine.ok(&["systemctl", "show", "-P", name, "watcherd.service"]).trim_end().to_owned()
}
