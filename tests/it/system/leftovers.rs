// SPDX-License-Identifier: MIT OR Apache-2.0
//! What failed runs leave behind, and what only looks like it.

use crate::machine::{Machine, SUITES, Suite};

/// Its first run starts others and writes down their numbers.
const WORKER: &str = r#"
import os, signal, subprocess, time
if not os.path.exists("/run/began"):
    open("/run/began", "w")
    clean = {"PATH": os.environ["PATH"]}
    def start(name, **more):
        child = subprocess.Popen(["sleep", "4001"], **more)
        open(f"/run/left/{name}", "w").write(str(child.pid))
        return child.pid
    start("child")
    start("deaf", preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    start("nameless", env=clean)
    pid = start("moved", start_new_session=True)
    subprocess.run(["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", "moved.scope", "fail",
        "1", "PIDs", "au", "1", str(pid), "0"], check=True)
    subprocess.run(["systemctl", "start", "other.service"], check=True)
    open("/run/ready", "w")
time.sleep(1000)
"#;

const OTHER: &str = "[Service]\nExecStart=/bin/sleep 4001\n";

fn machine(suite: Suite, more: &str, kill_mode: &str) -> Machine {
    let policy = format!("[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n{more}\n");
    let unit = format!("[Service]\nExecStart=/usr/bin/python3 /opt/worker.py\nKillMode={kill_mode}\n");
    let files = [
        ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
        ("/etc/systemd/system/w.service", unit.as_str()),
        ("/etc/systemd/system/other.service", OTHER),
        ("/etc/systemd/system/alike.service", OTHER),
        ("/opt/worker.py", WORKER),
    ];
    let machine = Machine::boot_with(suite, &files);
    machine.ok(&["mkdir", "/run/left"]);
    machine.ok(&["systemctl", "start", "watcherd", "alike.service", "w.service"]);
    machine.until("its children", || exists(&machine, "/run/ready").then_some(()));
    machine
}

fn exists(machine: &Machine, path: &str) -> bool {
    machine.run(&["test", "-e", path]).status.success()
}

/// Whether the process that was written down runs still.
fn runs(machine: &Machine, name: &str) -> bool {
    let pid = machine.read(&format!("/run/left/{name}"));
    assert!(!pid.is_empty(), "{name} was not started");
    machine.run(&["grep", "-q", "^State:\\s[RSD]", &format!("/proc/{pid}/status")]).status.success()
}

fn said(machine: &Machine) -> String {
    machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "SYSLOG_IDENTIFIER=watcherd"])
}

#[test]
fn what_a_failed_run_has_left_behind_is_gone_before_the_next_one() {
    for suite in SUITES {
        let machine = machine(suite, "", "process");
        let others = ["other.service", "alike.service"].map(|unit| machine.unit(unit, "MainPID"));
        machine.ok(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "w.service"]);
        machine.until("the next run", || (machine.property("w.service", "NRuns") == "2").then_some(()));
        for name in ["child", "deaf", "nameless", "moved"] {
            assert!(!runs(&machine, name), "{name} is there: {}", machine.story());
        }
        let told = said(&machine);
        let line =
            told.lines().find(|line| line.contains("ended what the failed run had left behind")).unwrap_or(&told);
        for name in ["child", "deaf", "nameless", "moved"] {
            let pid = machine.read(&format!("/run/left/{name}"));
            assert!(line.contains(&format!("{pid} (sleep)")), "{name} {pid} in {line}");
        }
        // What systemd started for others has their id, whoever asked for it, and the same name proves nothing.
        assert_eq!(["other.service", "alike.service"].map(|unit| machine.unit(unit, "MainPID")), others);
        for pid in others {
            assert!(exists(&machine, &format!("/proc/{pid}")), "{}", machine.story());
        }
        assert_eq!(machine.ok(&["systemctl", "list-units", "-q", "--all", "--no-legend", "watcherd-sweep-*"]), "");
        assert_eq!(machine.unit("watcherd.service", "NRestarts"), "0");
    }
}

#[test]
fn what_the_policy_keeps_is_kept() {
    let machine = machine(Suite::Bookworm, "leftovers = \"keep\"", "process");
    machine.ok(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "w.service"]);
    machine.until("the next run", || (machine.property("w.service", "NRuns") == "2").then_some(()));
    machine.until_property("w.service", "Phase", "working");
    assert!(runs(&machine, "child") && runs(&machine, "moved"));
}

#[test]
fn a_run_that_goes_on_is_left_alone() {
    let machine = machine(Suite::Trixie, "", "control-group");
    let before = ["child", "deaf", "nameless", "moved"].map(|name| runs(&machine, name));
    assert_eq!(before, [true; 4]);
    // Without the rights of the short unit that does it, nobody's processes can be ended.
    let run = machine.unit("w.service", "InvocationID");
    let sweep = ["runuser", "-u", "alice", "--", "/usr/bin/watcherd", "--sweep", &run];
    assert_eq!(machine.ok(&sweep), "", "others' environments are not read");
    assert_eq!(["child", "deaf", "nameless", "moved"].map(|name| runs(&machine, name)), [true; 4]);
    let refused = machine.run(&["/usr/bin/watcherd", "--sweep", "everything"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_user_gets_rid_of_what_is_left_of_own_runs() {
    let worker = "import os, subprocess, time\n\
        if not os.path.exists(\"/home/alice/left\"):\n    \
            child = subprocess.Popen([\"sleep\", \"4001\"], start_new_session=True)\n    \
            open(\"/home/alice/new\", \"w\").write(str(child.pid))\n    \
            os.rename(\"/home/alice/new\", \"/home/alice/left\")\n\
        time.sleep(1000)\n";
    let policy = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\nsettle = \"0s\"\n\
        then = [\"/bin/sh\", \"-c\", \"env >/home/alice/told\"]\n";
    let unit = "[Service]\nExecStart=/usr/bin/python3 /home/alice/worker.py\nKillMode=process\n";
    let files = [
        ("/home/alice/.config/watcherd/workers.d/w.toml", policy),
        ("/home/alice/.config/systemd/user/w.service", unit),
        ("/home/alice/worker.py", worker),
    ];
    let machine = Machine::boot_with(Suite::Bookworm, &files);
    machine.ok(&["chown", "-R", "alice:alice", "/home/alice"]);
    machine.start_user_manager("alice");
    let user = |line: &str| {
        let output = machine.command_as("alice", &["sh", "-c", line]).output().expect("it can be run");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    user("systemctl --user start watcherd w.service");
    machine.until("its child", || (!machine.read("/home/alice/left").is_empty()).then_some(()));
    let pid = machine.read("/home/alice/left");
    user("systemctl --user kill --kill-whom=main -s KILL w.service");
    machine.until("the follow-up of the restart", || {
        machine.read("/home/alice/told").contains("WATCHERD_WORKER=w.service\n").then_some(())
    });
    assert!(!exists(&machine, &format!("/proc/{pid}")), "{}", machine.story());
    assert_eq!(user("systemctl --user is-active w.service"), "active");
}
