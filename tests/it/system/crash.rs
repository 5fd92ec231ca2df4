// SPDX-License-Identifier: MIT OR Apache-2.0
//! watcherd's own death costs nothing: the workers run on, nothing is lost, nothing is done twice.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, SUITES, Suite};

/// Kills watcherd with SIGKILL and keeps it from coming back.
fn kill(machine: &Machine) {
    machine.ok(&["systemctl", "kill", "-s", "KILL", "watcherd"]);
    machine.run(&["systemctl", "stop", "watcherd"]);
}

fn start(machine: &Machine) {
    machine.ok(&["systemctl", "start", "watcherd"]);
}

#[test]
fn workers_run_on_and_are_found_again() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        let pid = machine.property("w.service", "MainPID");
        for _ in 0..3 {
            kill(&machine);
            start(&machine);
        }
        assert_eq!(machine.property("w.service", "MainPID"), pid);
        assert_eq!(machine.property("w.service", "NRuns"), "1");
        assert_eq!(machine.incidents("w.service").len(), 0);
    }
}

#[test]
fn systemd_brings_watcherd_back_by_itself() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    machine.ok(&["systemctl", "kill", "-s", "KILL", "watcherd"]);
    machine.until("watcherd to be back", || (machine.unit("watcherd", "NRestarts") == "1").then_some(()));
    machine.until_property("w.service", "Phase", "working");
}

#[test]
fn a_failure_that_happened_meanwhile_is_handled_once() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        kill(&machine);
        machine.ok(&["systemctl", "kill", "-s", "SEGV", "w.service"]);
        machine.until("the crash", || (machine.unit("w.service", "ActiveState") == "failed").then_some(()));
        start(&machine);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        let incidents = machine.incidents("w.service");
        assert_eq!(incidents.len(), 1, "{incidents:?}");
        assert_eq!(incidents[0]["Cause"]["data"], "segfault");
        kill(&machine);
        start(&machine);
        assert_eq!(machine.property("w.service", "NRuns"), "2");
        assert_eq!(machine.incidents("w.service").len(), 1);
    }
}

#[test]
fn failures_that_systemd_dealt_with_meanwhile_are_found_in_the_journal() {
    for suite in SUITES {
        let unit = format!("{SLEEPER}Restart=always\nRestartSec=0\n");
        let machine = with_worker(suite, QUICK, &unit);
        kill(&machine);
        for _ in 0..2 {
            let pid = machine.unit("w.service", "MainPID");
            machine.ok(&["systemctl", "kill", "-s", "SEGV", "w.service"]);
            machine.until("systemd's own restart", || {
                let now = machine.unit("w.service", "MainPID");
                (now != pid && now != "0").then_some(())
            });
        }
        start(&machine);
        machine.until_property("w.service", "Phase", "working");
        machine.until("both failures", || (machine.incidents("w.service").len() == 2).then_some(()));
        for incident in machine.incidents("w.service") {
            assert_eq!(incident["Result"]["data"], "recovered-unseen");
            assert_eq!(incident["Cause"]["data"], "segfault");
        }
    }
}

#[test]
fn a_stop_by_a_person_meanwhile_is_respected() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        kill(&machine);
        machine.ok(&["systemctl", "stop", "w.service"]);
        start(&machine);
        machine.until_property("w.service", "Phase", "inactive");
        machine.until_property("w.service", "IntendedUp", "false");
        assert_eq!(machine.incidents("w.service").len(), 0);
    }
}

#[test]
fn a_planned_restart_happens_after_all_and_only_once() {
    let policy = QUICK.replace("\"0s\"", "\"2s\"");
    for suite in SUITES {
        let machine = with_worker(suite, &policy, SLEEPER);
        machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
        machine.until_property("w.service", "Phase", "recovering");
        kill(&machine);
        start(&machine);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.property("w.service", "BudgetLeft"), "19");
        let incidents = machine.incidents("w.service");
        assert_eq!((incidents.len(), &incidents[0]["Result"]["data"]), (1, &"recovered".into()));
    }
}

#[test]
fn holds_and_quarantines_survive() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    machine.call("Hold", &["assstt", "1", "w", "alice", "backup", "0", "0"]).expect("it can be held");
    machine.write_unit("w@.service", SLEEPER);
    machine.ok(&["systemctl", "start", "w@1"]);
    machine.until_property("w@1.service", "Phase", "working");
    let path = crate::machine::worker_path("w@1.service");
    machine.ok(&["busctl", "call", "org.watcherd1", &path, "org.watcherd1.Worker", "Quarantine", "s", "sick"]);
    machine.until_property("w@1.service", "Phase", "quarantined");
    kill(&machine);
    start(&machine);
    machine.until_property("w@1.service", "Phase", "quarantined");
    assert_eq!(machine.property("w.service", "Held"), "true");
    let refused = machine.call("Stop", &["asst", "1", "w", "", "0"]).expect_err("it is held");
    assert!(refused.contains("held by alice (backup)"), "{refused}");
}

#[test]
fn a_command_that_crashed_meanwhile_is_made_anew() {
    for suite in SUITES {
        let machine = Machine::with_watcherd(suite);
        let arguments =
            ["sasa{sv}a{sv}t", "job", "2", "/bin/sleep", "infinity", "0", "1", "restart.back-off", "s", "0s", "0"];
        machine.call("Run", &arguments).expect("it can be run");
        machine.until_property("job.service", "Phase", "working");
        kill(&machine);
        machine.ok(&["systemctl", "kill", "-s", "KILL", "job.service"]);
        start(&machine);
        machine.until_property("job.service", "NRuns", "2");
        assert_eq!(machine.incidents("job.service").len(), 1);
    }
}

/// The worker crashes, and watcherd is killed at a moment that differs from round to round. However that falls out, in
/// the end the worker runs, every failed run has exactly one incident, and no start was made twice.
#[test]
fn killed_at_any_moment_of_a_recovery_nothing_is_lost_or_done_twice() {
    const ROUNDS: u64 = 24;
    let unit = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\n";
    let policy = QUICK.replace("20/1h", "1000/1h");
    for suite in SUITES {
        let machine = with_worker(suite, &policy, unit);
        for round in 0..ROUNDS {
            let pid = machine.unit("w.service", "MainPID");
            let script = format!(
                "systemctl kill -s KILL w.service; usleep {0} 2>/dev/null || sleep 0.{0:06}; systemctl kill -s KILL watcherd",
                round * 1_500
            );
            machine.run(&["sh", "-c", &script]);
            machine.until("the worker to run again", || {
                let now = machine.unit("w.service", "MainPID");
                (now != pid && now != "0").then_some(())
            });
            machine.until_property("w.service", "NRuns", &(round + 2).to_string());
        }
        let story = machine.ok(&["journalctl", "-b", "-u", "w.service", "-o", "cat", "--no-pager"]);
        let starts = story.lines().filter(|line| line.starts_with("Started w.service")).count() as u64;
        assert_eq!(starts, ROUNDS + 1, "{story}");
        let stops = story.lines().filter(|line| line.starts_with("Stopping w.service")).count();
        assert_eq!(stops, 0, "{story}");
        machine.until("one incident per failed run", || {
            (machine.incidents("w.service").len() as u64 == ROUNDS).then_some(())
        });
    }
}

#[test]
fn commands_holds_and_quarantines_survive_a_reboot_and_a_power_failure() {
    let mut machine = Machine::with_watcherd(Suite::Bookworm);
    machine.ok(&["systemctl", "enable", "watcherd"]);
    for name in ["job", "sick", "held"] {
        let arguments = ["sasa{sv}a{sv}t", name, "2", "/bin/sleep", "infinity", "0", "0", "0"];
        machine.call("Run", &arguments).expect("it can be run");
        machine.until_property(&format!("{name}.service"), "Phase", "working");
    }
    machine.call("Hold", &["assstt", "1", "held", "alice", "", "0", "0"]).expect("it can be held");
    let sick = crate::machine::worker_path("sick.service");
    machine.ok(&["busctl", "call", "org.watcherd1", &sick, "org.watcherd1.Worker", "Quarantine", "s", ""]);
    machine.until_property("sick.service", "Phase", "quarantined");
    for power_fails in [false, true] {
        match power_fails {
            true => machine.crash(),
            false => machine.reboot(),
        }
        machine.until_property("job.service", "Phase", "working");
        machine.until_property("sick.service", "Phase", "quarantined");
        machine.until_property("held.service", "Held", "true");
        assert_eq!(machine.incidents("job.service").len(), 0, "the end of the machine is not the worker's failure");
    }
}
