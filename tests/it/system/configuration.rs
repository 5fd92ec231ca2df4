// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing the configuration of a running watcherd.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, Suite};

fn degraded(machine: &Machine) -> String {
    machine.ok(&["busctl", "get-property", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", "Degraded"])
}

#[test]
fn a_reload_says_what_it_changes_and_changes_only_that() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    machine.write("/etc/watcherd/workers.d/w.toml", &QUICK.replace("20/1h", "7/1h"));
    let plan = machine.call("Reload", &["t", "1"]).expect("a dry run");
    assert!(plan.contains("\"w.service\"") && plan.contains("\"restart.budget\""), "{plan}");
    assert_eq!(machine.property("w.service", "BudgetLeft"), "20", "a dry run changes nothing");
    machine.ok(&["systemctl", "reload", "watcherd"]);
    machine.until_property("w.service", "BudgetLeft", "7");
    assert_eq!(machine.property("w.service", "NRuns"), "1");
    machine.ok(&["rm", "/etc/watcherd/workers.d/w.toml"]);
    machine.ok(&["systemctl", "reload", "watcherd"]);
    machine.until_property("w.service", "Phase", "");
    assert_eq!(machine.unit("w.service", "ActiveState"), "active");
}

#[test]
fn a_broken_file_is_named_and_its_last_good_policy_stays_in_force() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    machine.write("/etc/watcherd/workers.d/w.toml", &QUICK.replace("20/1h", "many"));
    let reload = machine.run(&["systemctl", "reload", "watcherd"]);
    assert!(!reload.status.success(), "systemctl reload must say that the configuration is wrong");
    machine.until("the broken file to be named", || {
        let text = degraded(&machine);
        (text.contains("/etc/watcherd/workers.d/w.toml:5") && text.contains("restart.budget")).then_some(())
    });
    assert_eq!(machine.property("w.service", "BudgetLeft"), "20");
    assert_eq!(machine.property("w.service", "Phase"), "working");
    machine.write("/etc/watcherd/workers.d/w.toml", QUICK);
    machine.ok(&["systemctl", "reload", "watcherd"]);
    machine.until("the trouble to be over", || degraded(&machine).starts_with("as 0").then_some(()));
}

#[test]
fn a_broken_file_at_start_does_not_take_the_daemon_or_other_files_down() {
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[
            ("/etc/watcherd/workers.d/a.toml", "[worker\n"),
            ("/etc/watcherd/workers.d/w.toml", QUICK),
            ("/etc/systemd/system/w.service", SLEEPER),
        ],
    );
    machine.ok(&["systemctl", "start", "watcherd", "w.service"]);
    machine.until_property("w.service", "Phase", "working");
    assert!(degraded(&machine).contains("a.toml:1"), "{}", degraded(&machine));
}

#[test]
fn a_policy_that_comes_later_takes_up_what_runs_already() {
    let machine = Machine::boot_with(Suite::Bookworm, &[("/etc/systemd/system/w.service", SLEEPER)]);
    machine.ok(&["systemctl", "start", "watcherd", "w.service"]);
    assert_eq!(machine.property("w.service", "Phase"), "");
    machine.call("Adopt", &["sa{sv}t", "w", "1", "restart.back-off", "s", "0s", "0"]).expect("it can be adopted");
    machine.until_property("w.service", "Phase", "working");
    machine.ok(&["systemctl", "restart", "watcherd"]);
    machine.until_property("w.service", "Origin", "adopted");
    machine.call("Forget", &["s", "w"]).expect("it can be forgotten");
    machine.until_property("w.service", "Phase", "");
    let refused = machine
        .call("Adopt", &["sa{sv}t", "w", "1", "restart.budget", "s", "0/1h", "0"])
        .expect_err("the policy is wrong");
    assert!(refused.contains("1 to 10000"), "{refused}");
}

#[test]
fn a_policy_that_matches_nothing_is_named() {
    let misspelt = "[worker]\nunits = [\"trian@*.service\"]\n";
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    machine.write("/etc/watcherd/workers.d/trian.toml", misspelt);
    machine.ok(&["systemctl", "reload", "watcherd"]);
    let complaint = "/etc/watcherd/workers.d/trian.toml: matches no unit that systemd has loaded";
    machine.until("the complaint", || machine.ok(&["journalctl", "-u", "watcherd"]).contains(complaint).then_some(()));
    let plan = machine.call("Reload", &["t", "1"]).expect("a dry run");
    assert!(plan.contains(complaint), "{plan}");
    assert!(!plan.contains("w.toml: matches"), "{plan}");
}
