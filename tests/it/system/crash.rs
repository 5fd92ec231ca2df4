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
fn what_was_never_seen_before_and_failed_meanwhile_is_handled_too() {
    for suite in SUITES {
        let unit = "[Service]\nExecStart=/bin/sh -c 'test -e /run/good && exec sleep infinity; exit 1'\n";
        let policy = "[worker]\nunits = [\"w@*.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"0s\"\n";
        // So that it is away for long enough; of units that it unloads systemd forgets when they were down.
        let away = ("/etc/systemd/system/watcherd.service.d/away.conf", "[Service]\nRestart=no\n");
        let files = [("/etc/watcherd/workers.d/w.toml", policy), ("/etc/systemd/system/w@.service", unit), away];
        let machine = Machine::boot_with(suite, &files);
        let fails = |unit: &str| {
            machine.ok(&["systemctl", "start", unit]);
            machine.until("the failure", || (machine.unit(unit, "ActiveState") == "failed").then_some(()));
        };
        // What failed before anybody watched is nobody's business.
        fails("w@old");
        start(&machine);
        machine.ok(&["systemctl", "kill", "-s", "KILL", "watcherd"]);
        machine.until("its end", || (machine.unit("watcherd", "ActiveState") == "failed").then_some(()));
        fails("w@new");
        machine.ok(&["touch", "/run/good"]);
        start(&machine);
        machine.until_property("w@new.service", "NRuns", "2");
        machine.until_property("w@new.service", "Phase", "working");
        assert_eq!(machine.incidents("w@new.service").len(), 1);
        assert_eq!(machine.property("w@old.service", "NRuns"), "0");
        assert!(machine.incidents("w@old.service").is_empty());
    }
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
fn why_and_since_when_a_worker_is_down_is_known_after_a_restart() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    machine.ok(&["watcherctl", "stop", "w"]);
    machine.until_property("w.service", "Phase", "inactive");
    let said = || ["PhaseReason", "PhaseTimestamp"].map(|property| machine.property("w.service", property));
    let before = said();
    assert!(before[0].contains("stopped by root"), "{before:?}");
    machine.ok(&["systemctl", "restart", "watcherd"]);
    machine.until_property("w.service", "Phase", "inactive");
    assert_eq!(said(), before);
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

/// A worker fails until its batch is small enough, and watcherd is killed at random moments meanwhile. No change is lost and
/// none is made twice: each run has the batch of the one before or half of it, and every failed run has one incident.
#[test]
fn killed_at_any_moment_parameters_and_ledgers_are_whole() {
    const FIRST: u64 = 1 << 16;
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7_u64);
    let rounds: usize = std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    let mut dice = seed;
    let mut delay = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % 150_000
    };
    let policy = format!(
        "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nbudget = \"10000/1h\"\nverify = \"1h\"\n\
         same-cause = 1000\n[parameters]\nBATCH = {{ default = {FIRST}, range = [1, {FIRST}] }}\n\
         [cause.gpu-oom]\nscale = {{ BATCH = \"x0.5\" }}\nmax-attempts = 1000\n"
    );
    let script = "echo batch ${BATCH:-65536}; test ${BATCH:-65536} = 1 && exec sleep infinity; \
        echo torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB; sleep 0.05; exit 1";
    let unit = format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c '{script}'\n");
    let files = [("/etc/watcherd/workers.d/w.toml", &*policy), ("/etc/systemd/system/w.service", &unit)];
    let machine = Machine::boot_with(Suite::Bookworm, &files);
    start(&machine);
    let mut kills = 0;
    while kills < rounds {
        machine.ok(&["watcherctl", "reset", "w"]);
        machine.ok(&["watcherctl", "reset", "--parameters", "w"]);
        machine.ok(&["journalctl", "--rotate", "-q"]);
        let since = machine.ok(&["date", "+%Y-%m-%d %H:%M:%S.%6N"]);
        let before = machine.incidents("w.service").len();
        machine.ok(&["systemctl", "restart", "w.service"]);
        let lines = || machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "--since", since.trim()]);
        while !lines().contains("batch 1\n") {
            assert!(!lines().contains("quarantined"), "SEED={seed}: {}", machine.story());
            let script = format!("sleep 0.{:06}; systemctl kill -s KILL watcherd", delay());
            machine.ok(&["sh", "-c", &script]);
            kills += 1;
            machine.until("watcherd", || machine.run(&["watcherctl", "list"]).status.success().then_some(()));
        }
        let story = lines();
        let batches: Vec<u64> = story.lines().filter_map(|line| line.strip_prefix("batch ")?.parse().ok()).collect();
        assert_eq!(batches.first(), Some(&FIRST), "SEED={seed}: {story}");
        for pair in batches.windows(2) {
            assert!(pair[1] == pair[0] / 2 || pair[1] == pair[0], "SEED={seed}: {batches:?}");
        }
        machine.until("one incident per failed run", || {
            (machine.incidents("w.service").len() - before == batches.len() - 1).then_some(())
        });
        assert_eq!(machine.property("w.service", "Parameters"), format!("1 \"BATCH\" \"1\" \"{FIRST}"));
        let drop_ins = machine.unit("w.service", "DropInPaths");
        assert_eq!(drop_ins, "/run/systemd/system/w.service.d/50-watcherd.conf");
    }
    println!("{kills} kills, SEED={seed}");
}
