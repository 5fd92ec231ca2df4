// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a run failed, from its own last words: in the incident, in the journal, to whom may read it, and without the daemon.

use super::with_worker;
use crate::machine::{Guest, Machine, SUITES, Suite};

const POLICY: &str = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"1h\"\nverify = \"1s\"\n";
const LINE: &str = "RuntimeError: CUDA error: an illegal memory access was encountered";

/// A worker that prints these lines and then exits.
fn worker(lines: &str, then: &str) -> String {
    format!("[Service]\nExecStart=/bin/sh -c 'printf \"{lines}\"; {then}'\n")
}

/// A machine in which that worker fails at once.
fn with_failure(suite: Suite, policy: &str, unit: &str) -> Machine {
    let files = [("/etc/watcherd/workers.d/w.toml", policy), ("/etc/systemd/system/w.service", unit)];
    let machine = Machine::boot_with(suite, &files);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w.service"]);
    machine
}

fn cause(machine: &Machine) -> String {
    machine.property("w.service", "Cause")
}

fn said(machine: &Machine) -> String {
    machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "SYSLOG_IDENTIFIER=watcherd"])
}

#[test]
fn the_last_words_of_a_run_are_its_verdict() {
    for suite in SUITES {
        let machine = with_failure(suite, POLICY, &worker(&format!("step 7/10\\n{LINE}\\n"), "exit 1"));
        machine.until("the verdict", || (cause(&machine) == "gpu-program-fault").then_some(()));
        let verdict = "w.service failed because of gpu-program-fault";
        machine.until("the story", || said(&machine).contains(verdict).then_some(()));
        assert!(said(&machine).contains(LINE), "{}", said(&machine));
        machine.ok(&["journalctl", "--update-catalog"]);
        let explained = machine.ok(&["journalctl", "-x", "-q", "-u", "w.service"]);
        assert!(explained.contains("compute-sanitizer"), "{explained}");
        let why = machine.ok(&["watcherctl", "why", "w"]);
        assert!(why.contains(&format!("output: {LINE}")), "{why}");
        let by_itself = machine.ok(&["watcherctl", "diagnose", "--unit", "w"]);
        assert!(by_itself.contains("gpu-program-fault") && by_itself.contains(LINE), "{by_itself}");
    }
}

#[test]
fn lines_of_logs_are_for_those_who_may_read_the_journal() {
    let machine = with_failure(Suite::Bookworm, POLICY, &worker(&format!("{LINE}\\n"), "exit 1"));
    machine.until("the verdict", || (cause(&machine) == "gpu-program-fault").then_some(()));
    let ask = |user: &str| {
        let output = machine.run(&["runuser", "-u", user, "--", "watcherctl", "why", "w"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = ask("alice");
    assert!(told.contains("gpu-program-fault") && !told.contains("illegal memory"), "{told}");
    let property = ["get-property", "org.watcherd1", "/org/watcherd1/incident/1", "org.watcherd1.Incident", "Because"];
    let public = machine.ok(&[&["busctl"], &property[..]].concat());
    assert!(!public.contains("illegal memory"), "everybody may read this: {public}");
    machine.ok(&["usermod", "--append", "--groups", "systemd-journal", "alice"]);
    assert!(ask("alice").contains("illegal memory"), "{}", ask("alice"));
}

#[test]
fn what_to_do_waits_for_a_verdict_that_it_depends_on() {
    let policy = format!("{POLICY}[cause.disk-full]\naction = \"hold\"\n");
    let script = worker("OSError: [Errno 28] No space left on device\\n", "exit 1");
    let machine = with_failure(Suite::Bookworm, &policy, &script);
    machine.until_property("w.service", "Held", "true");
    machine.until_property("w.service", "Cause", "disk-full");
    assert_eq!(machine.property("w.service", "Attempts"), "0");
}

#[test]
fn a_telling_line_of_a_running_worker_is_one_warning() {
    let script = worker(&format!("{LINE}\\n{LINE}\\n"), "sleep 1; echo another line; exec sleep infinity");
    let machine = with_worker(Suite::Bookworm, POLICY, &script);
    let warned = "w.service shows signs of gpu-program-fault while it runs";
    machine.until("the warning", || said(&machine).contains(warned).then_some(()));
    machine.until("the count", || {
        machine.property("w.service", "Warnings").contains("\"gpu-program-fault\" 2").then_some(())
    });
    assert_eq!(machine.property("w.service", "Phase"), "working");
    assert_eq!(said(&machine).matches(warned).count(), 1);
    let status = machine.ok(&["watcherctl", "status", "w"]);
    assert!(status.contains("signs of gpu-program-fault, 2 times"), "{status}");
}

#[test]
fn a_telling_line_can_end_a_run_if_the_policy_says_so() {
    let policy = format!("{POLICY}[cause.gpu-program-fault]\nwhen-running = \"incident\"\ncount = \"3/1min\"\n");
    let script = "[Service]\nExecStart=/bin/sh -c 'test -e /run/second && exec sleep infinity; touch /run/second; \
        while :; do echo RuntimeError: CUDA error: device-side assert triggered; sleep 0.2; done'\n";
    let machine = with_worker(Suite::Bookworm, &policy, script);
    machine.until_property("w.service", "NRuns", "2");
    machine.until("the cure", || {
        let incidents = machine.incidents("w.service");
        (incidents.len() == 1 && incidents[0]["Result"]["data"] == "recovered").then_some(())
    });
    assert_eq!(machine.incidents("w.service")[0]["Cause"]["data"], "gpu-program-fault");
}

#[test]
fn rules_of_the_admin_count_after_a_reload() {
    let rule = "[[rule]]\nname = \"ours.pump\"\ncause = \"service-unreachable\"\npatterns = [\"the pump does not answer\"]\n\
        advice = \"Prime the pump\"\nexamples = [\"E17: the pump does not answer\"]\n";
    let script = worker("E17: the pump does not answer\\n", "exit 1");
    let machine = with_failure(Suite::Bookworm, POLICY, &script);
    machine.until("the first verdict", || said(&machine).contains("nothing says why").then_some(()));
    machine.ok(&["mkdir", "-p", "/etc/watcherd/rules.d"]);
    machine.write("/etc/watcherd/rules.d/ours.toml", rule);
    assert!(machine.ok(&["watcherctl", "reload"]).contains("change /etc/watcherd/rules.d/ours.toml\n"));
    machine.ok(&["systemctl", "start", "w"]);
    machine.until_property("w.service", "Cause", "service-unreachable");
    let why = machine.ok(&["watcherctl", "why", "w"]);
    assert!(why.contains("Advice:\n  Prime the pump."), "{why}");
}
