// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands of policies: what they are given, what they may do, and how they end.

use crate::machine::{Machine, SUITES, Suite};

/// The backslash must not be taken for the beginning of anything.
const WORKER: &str = r"w@a\x2db.service";

fn machine(suite: Suite, restart: &str, files: &[(&str, &str)]) -> Machine {
    let policy = format!(
        "[worker]\nunits = [\"w@*.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\nsettle = \"0s\"\n\
         then-retries = 0\n{restart}\n"
    );
    let own = [
        ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
        ("/etc/systemd/system/w@.service", "[Service]\nExecStart=/bin/sleep 1000\n"),
    ];
    let machine = Machine::boot_with(suite, &[&own[..], files].concat());
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", WORKER]);
    machine.until_property(WORKER, "Phase", "working");
    machine.ok(&["systemctl", "kill", "--signal=KILL", WORKER]);
    machine
}

/// What was said about the follow-up once it is over.
fn told(machine: &Machine) -> String {
    machine.until("the end of the follow-up", || {
        let lines = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", WORKER, "SYSLOG_IDENTIFIER=watcherd"]);
        lines.lines().find(|line| line.contains("the follow-up of its restart")).map(str::to_owned)
    })
}

/// What hooks have printed.
fn printed(machine: &Machine) -> String {
    machine.ok(&["journalctl", "--sync"]);
    machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "watcherd-hook-*", &format!("WATCHERD_WORKER={WORKER}")])
}

fn hook_units(machine: &Machine) -> String {
    machine.ok(&["systemctl", "list-units", "-q", "--all", "--plain", "--no-legend", "watcherd-hook-*"])
}

#[test]
fn a_hook_may_do_little_and_gets_everything_literally() {
    let hook = r#"
import json, os, socket, sys
print("argv", json.dumps(sys.argv[1:]))
print("env", json.dumps({key: value for key, value in os.environ.items() if key.startswith("WATCHERD_")}, sort_keys=True))
print("uid", os.getuid() != 0, os.geteuid() != 0)
for path, mode in (("/etc/shadow", "r"), ("/var/lib/watcherd", "r"), ("/etc/new", "w"), ("/usr/new", "w"), ("/var/new", "w"), ("/home/new", "w")):
    try:
        open(path, mode)
        print("opened", path)
    except OSError as error:
        print("refused", path)
open("/tmp/own", "w").write("x")
print("capabilities", [line for line in open("/proc/self/status") if line.startswith(("CapBnd", "NoNewPrivs"))])
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    print("network")
print("last \x1b[31mwords\ttold", file=sys.stderr, flush=True)
print("", file=sys.stderr)
sys.exit(22)
"#;
    for suite in SUITES {
        let then = r#"then = ["python3", "-u", "/opt/hook.py", "$HOME ${HOME} %n ; 'q' \"r\" \\d", ""]"#;
        let machine = machine(suite, then, &[("/opt/hook.py", hook)]);
        let end = told(&machine);
        assert!(end.contains("exit status 22: last  [31mwords told"), "{end}");
        let said = printed(&machine);
        for expected in [
            r#"argv ["$HOME ${HOME} %n ; 'q' \"r\" \\d", ""]"#,
            r#""WATCHERD_ATTEMPT": "1""#,
            r#""WATCHERD_CAUSE": "killed-unattributed""#,
            r#""WATCHERD_INCIDENT": "1""#,
            r#""WATCHERD_WORKER": "w@a\\x2db.service""#,
            "uid True True",
            "refused /etc/shadow",
            "refused /var/lib/watcherd",
            "refused /etc/new",
            "refused /usr/new",
            "refused /var/new",
            "refused /home/new",
            r"CapBnd:\t0000000000000000",
            r"NoNewPrivs:\t1",
            "network",
        ] {
            assert!(said.contains(expected), "{expected} in {said}");
        }
        assert!(!said.contains("opened"), "{said}");
        assert_eq!(machine.read("/tmp/own"), "", "its temporary files are its own");
        assert_eq!(hook_units(&machine), "");
        assert_eq!(machine.unit(WORKER, "ActiveState"), "active");
        let listed = machine.ok(&["watcherctl", "list"]);
        assert!(!listed.contains("watcherd-hook"), "{listed}");
    }
}

#[test]
fn a_hook_that_does_not_end_is_ended_with_all_that_it_began() {
    let hook = "import os, signal, subprocess, time\n\
        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        subprocess.Popen([\"sleep\", \"4711\"], start_new_session=True)\n\
        time.sleep(4711)\n";
    for suite in SUITES {
        let restart = "then = [\"/usr/bin/python3\", \"/opt/hook.py\"]\nthen-within = \"1s\"";
        let machine = machine(suite, restart, &[("/opt/hook.py", hook)]);
        let end = told(&machine);
        assert!(end.contains("not done within 1s"), "{end}");
        machine.until("the end of the unit", || hook_units(&machine).is_empty().then_some(()));
        let found = machine.run(&["pgrep", "-f", "4711|hook.py"]);
        assert!(!found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
        assert_eq!(machine.unit(WORKER, "ActiveState"), "active");
    }
}

#[test]
fn a_hook_that_cannot_be_executed_or_is_killed_says_so() {
    for (then, expected) in [
        (r#"["/no/such/program"]"#, "systemd could not execute it (exit status 203)"),
        (r#"["/bin/sh", "-c", "kill -SEGV $$"]"#, "ended by SIGSEGV"),
        (r#"["/bin/false"]"#, "exit status 1"),
    ] {
        let machine = machine(Suite::Bookworm, &format!("then = {then}"), &[]);
        let end = told(&machine);
        assert!(end.contains(expected), "{expected} in {end}");
    }
}
