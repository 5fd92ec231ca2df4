// SPDX-License-Identifier: MIT OR Apache-2.0
//! watcherctl against the real daemon: what people and scripts type.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, SUITES, Suite};

/// Runs watcherctl; returns its exit status, what it printed and what it complained.
fn ctl(machine: &Machine, arguments: &[&str]) -> (i32, String, String) {
    let output = machine.run(&[&["watcherctl"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_story_of_a_crash_can_be_read() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.ok(&["systemctl", "kill", "-s", "SEGV", "w.service"]);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        let (status, list, _) = ctl(&machine, &[]);
        assert_eq!(status, 0);
        assert!(list.contains("w.service") && list.contains("working") && list.contains("1 worker"), "{list}");
        let (status, text, _) = ctl(&machine, &["status", "w"]);
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("w.service - working") && text.contains("w.service has recovered"), "{text}");
        let (_, why, _) = ctl(&machine, &["why", "w"]);
        assert!(why.contains("segfault") && why.contains("Result=signal, main process killed by SIGSEGV"), "{why}");
        assert!(why.contains("/etc/watcherd/workers.d/w.toml:4"), "the policy line is named: {why}");
        let (_, incidents, _) = ctl(&machine, &["incidents", "--json"]);
        let incidents: serde_json::Value = serde_json::from_str(&incidents).expect("it is JSON");
        assert_eq!(
            (incidents[0]["Cause"].as_str(), incidents[0]["Result"].as_str()),
            (Some("segfault"), Some("recovered"))
        );
        let (status, incident, _) = ctl(&machine, &["incident", "1"]);
        assert_eq!(status, 0);
        assert!(incident.contains("segfault"), "{incident}");
    }
}

#[test]
fn exit_statuses_say_what_is_wrong() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    let alice = |arguments: &[&str]| {
        let output =
            machine.command_as("alice", &[&["watcherctl"], arguments].concat()).output().expect("it can be run");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(ctl(&machine, &["frobnicate"]).0, 2);
    let (status, _, said) = ctl(&machine, &["status", "nobody"]);
    assert_eq!(status, 4, "{said}");
    assert!(said.contains("nobody"), "{said}");
    let (status, said) = alice(&["stop", "w"]);
    assert_eq!(status, 77, "{said}");
    assert_eq!(said.lines().next().map(|line| line.starts_with("watcherctl: ")), Some(true), "{said}");
    assert_eq!(alice(&["list"]).0, 0);
    machine.call("Hold", &["assstt", "1", "w", "alice", "backup", "0", "0"]).expect("it can be held");
    let (status, _, said) = ctl(&machine, &["restart", "w"]);
    assert_eq!(status, 1);
    assert!(said.contains("cannot restart w.service: held by alice (backup)"), "{said}");
    let (_, _, said) = ctl(&machine, &["run", "--budget", "many", "--", "true"]);
    assert!(said.contains("restart.budget"), "{said}");
    assert_eq!(ctl(&machine, &["run", "--budget", "many", "--", "true"]).0, 78);
    machine.write("/etc/watcherd/workers.d/bad.toml", "[worker]\nunit = 5\n");
    let (status, out, said) = ctl(&machine, &["check"]);
    assert_eq!(status, 78, "{out}{said}");
    assert!(format!("{out}{said}").contains("/etc/watcherd/workers.d/bad.toml:2: worker.unit"), "{out}{said}");
    machine.ok(&["systemctl", "stop", "watcherd"]);
    machine.ok(&["systemctl", "mask", "--runtime", "watcherd"]);
    let (status, _, said) = ctl(&machine, &["list"]);
    assert_eq!(status, 5, "{said}");
}

#[test]
fn run_follows_a_command_to_its_end() {
    for suite in SUITES {
        let machine = Machine::with_watcherd(suite);
        let script = "echo run; test -e /run/second && exit 0; touch /run/second; exit 3";
        let run = ["run", "--wait", "--name", "job", "--back-off", "0s", "--", "sh", "-c", script];
        let (status, out, said) = ctl(&machine, &run);
        assert_eq!(status, 0, "{out}{said}");
        assert!(out.contains("job.service"), "{out}{said}");
        machine.until_property("job.service", "Phase", "completed");
        assert_eq!(machine.property("job.service", "NRuns"), "2");
        let hopeless = ["run", "--wait", "--name", "hopeless", "--back-off", "0s", "--budget", "2/1h", "--", "false"];
        let (status, out, said) = ctl(&machine, &hopeless);
        assert_eq!(status, 1, "{out}{said}");
        machine.until_property("hopeless.service", "Phase", "quarantined");
        let (status, _, said) = ctl(&machine, &["run", "--memory=4X", "--", "true"]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("--memory"), "{said}");
        let (status, out, _) = ctl(&machine, &["run", "--name", "plain", "sh", "-c", "exit 0"]);
        assert_eq!((status, out.as_str()), (0, "plain.service\n"));
        let (status, _, said) = ctl(&machine, &["run", "--", "/nonexistent/command"]);
        assert_ne!(status, 0);
        assert!(said.contains("/nonexistent/command"), "{said}");
    }
}

#[test]
fn verbs_do_what_they_say_and_wait_until_it_is_done() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        let steps: [(&[&str], &str, &str); 9] = [
            (&["stop", "w"], "Phase", "inactive"),
            (&["start", "w"], "Phase", "working"),
            (&["restart", "w"], "NRuns", "3"),
            (&["pause", "w"], "Phase", "paused"),
            (&["resume", "w"], "Phase", "working"),
            (&["quarantine", "w", "--reason=broken disk"], "Phase", "quarantined"),
            (&["reset", "w"], "Phase", "working"),
            (&["hold", "w", "--until", "1h"], "Held", "true"),
            (&["release", "w"], "Held", "false"),
        ];
        for (arguments, property, value) in steps {
            let (status, out, said) = ctl(&machine, arguments);
            assert_eq!(status, 0, "{arguments:?}: {out}{said}\n{}", machine.story());
            machine.until_property("w.service", property, value);
        }
        assert_eq!(machine.incidents("w.service").len(), 0);
    }
}

#[test]
fn a_hold_lasts_as_long_as_the_command_that_needs_it() {
    let machine = with_worker(Suite::Bookworm, QUICK, SLEEPER);
    let script =
        "busctl get-property org.watcherd1 /org/watcherd1/worker/w_2eservice org.watcherd1.Worker Held; exit 9";
    let (status, out, said) = ctl(&machine, &["hold", "w", "--", "sh", "-c", script]);
    assert_eq!(status, 9, "{out}{said}");
    assert!(out.contains("b true"), "{out}{said}");
    machine.until_property("w.service", "Held", "false");
}

#[test]
fn adopt_and_forget_need_no_file() {
    let machine = Machine::boot_with(Suite::Bookworm, &[("/etc/systemd/system/other.service", SLEEPER)]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "other"]);
    assert_eq!(ctl(&machine, &["adopt", "other", "--back-off", "0s"]).0, 0);
    machine.until_property("other.service", "Phase", "working");
    machine.ok(&["systemctl", "kill", "-s", "KILL", "other"]);
    machine.until_property("other.service", "NRuns", "2");
    assert_eq!(ctl(&machine, &["forget", "other"]).0, 0);
    machine.until_property("other.service", "Phase", "");
    assert_eq!(machine.unit("other.service", "ActiveState"), "active");
}

#[test]
fn bash_completes_the_names_of_workers_and_incidents_without_starting_watcherd() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.write_unit("w@.service", SLEEPER);
        machine.ok(&["systemctl", "start", "w@alpha-1", "w@beta:2"]);
        machine.until_property("w@beta:2.service", "Phase", "working");
        machine.ok(&["systemctl", "kill", "-s", "KILL", "w.service"]);
        machine.until("the incident", || (machine.incidents("w.service").len() == 1).then_some(()));
        machine.write("/opt/complete.py", include_str!("../../system/complete.py"));
        let script = "/usr/share/bash-completion/completions/watcherctl";
        let completed = |line: &str| machine.ok(&["python3", "/opt/complete.py", "bash", script, line]);
        assert_eq!(completed("watcherctl rest"), "watcherctl\nrestart\n");
        assert_eq!(completed("watcherctl restart w@al"), "watcherctl\nrestart\nw@alpha-1.service\n");
        assert_eq!(completed("watcherctl stop w.service w@"), "watcherctl\nstop\nw.service\nw@\n");
        assert_eq!(completed("watcherctl logs w@beta:"), "watcherctl\nlogs\nw@beta:2.service\n");
        assert_eq!(
            completed("watcherctl incidents --worker=w@b"),
            "watcherctl\nincidents\n--worker=w@beta:2.service\n"
        );
        assert_eq!(completed("watcherctl incident "), "watcherctl\nincident\n1\n");
        assert_eq!(completed("watcherctl --user status w@al"), "watcherctl\n--user\nstatus\nw@al\n");
        machine.ok(&["systemctl", "stop", "watcherd"]);
        assert_eq!(completed("watcherctl restart w@al"), "watcherctl\nrestart\nw@al\n");
        assert_eq!(machine.unit("watcherd", "ActiveState"), "inactive");
    }
}

#[test]
fn top_shows_what_happens_and_takes_orders() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.write("/opt/top.py", include_str!("../../system/top.py"));
        let output = machine.run(&["python3", "/opt/top.py"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(machine.property("w.service", "NRuns"), "2");
        let (status, _, said) = ctl(&machine, &["top"]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("top needs a terminal"), "{said}");
    }
}
