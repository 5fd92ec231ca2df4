// SPDX-License-Identifier: MIT OR Apache-2.0
//! Remedies on a real systemd: what is changed arrives, what is waited for is waited for, and what does not help ends.

use crate::machine::{Guest, Machine, SUITES, Suite};

/// Needs as much memory as its batch says, and may have about 100 MB.
const TRAINING: &str = r#"
import os, sys, time
batch = int(os.environ.get("BATCH_SIZE", "64"))
print("batch", batch, os.environ.get("NOTE", ""), flush=True)
data = bytearray(batch * 4_000_000)
data[::4096] = b"x" * len(data[::4096])
open("/run/trained", "w").write(str(batch))
time.sleep(1000)
"#;

const SHRINKS: &str = "[restart]\nback-off = \"0s\"\nverify = \"1s\"\n\
    [parameters]\nBATCH_SIZE = { default = 64, range = [1, 512] }\n\
    NOTE = { default = \"plain\" }\n\
    [cause.heap-exhausted]\nscale = { BATCH_SIZE = \"x0.5, min 1\" }\nset = { NOTE = 'a \"b\" $HOME \\d %n' }\n";

fn machine(suite: Suite, policy: &str, files: &[(&str, &str)]) -> Machine {
    let policy = [("/etc/watcherd/workers.d/w.toml", policy)];
    Machine::boot_with(suite, &[&policy[..], files].concat())
}

fn said(machine: &Machine, unit: &str) -> String {
    machine.ok(&["journalctl", "-q", "-o", "cat", "-u", unit])
}

#[test]
fn a_training_gets_a_smaller_batch_until_it_fits_into_its_memory() {
    for suite in SUITES {
        let policy = format!("[worker]\nunits = [\"train@*.service\"]\n{SHRINKS}");
        let unit = "[Service]\nExecStart=/usr/bin/python3 /opt/train.py\nLimitAS=120M\n";
        let files = [("/opt/train.py", TRAINING), ("/etc/systemd/system/train@.service", unit)];
        let machine = machine(suite, &policy, &files);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "train@1.service"]);
        machine.until("a batch that fits", || (machine.read("/run/trained") == "16").then_some(()));
        machine.until_property("train@1.service", "Phase", "working");
        let story = said(&machine, "train@1.service");
        assert!(story.contains("batch 16 a \"b\" $HOME \\d %n\n"), "the values arrive literally: {story}");
        assert!(story.contains("BATCH_SIZE 32 -> 16"), "{story}");
        let status = machine.ok(&["watcherctl", "status", "train@1"]);
        assert!(status.contains("BATCH_SIZE 16 (the unit's own: 64)"), "{status}");
        // Whoever starts it, it is the smaller batch.
        machine.ok(&["rm", "/run/trained"]);
        machine.ok(&["systemctl", "restart", "train@1.service"]);
        machine.until("the restart", || (machine.read("/run/trained") == "16").then_some(()));
        let stats = machine.ok(&["watcherctl", "incidents", "--stats"]);
        assert!(stats.contains("heap-exhausted change"), "{stats}");
        // Given back, it is the unit's own batch again, which does not fit.
        machine.ok(&["watcherctl", "reset", "--parameters", "train@1"]);
        assert_eq!(
            machine.property("train@1.service", "Parameters"),
            "2 \"BATCH_SIZE\" \"64\" \"64\" \"NOTE\" \"plain\" \"plain"
        );
        let refused = machine.run(&["watcherctl", "set", "train@1", "BATCH_SIZE=1000"]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && error.contains("not a whole number from 1 to 512"), "{error}");
        machine.ok(&["watcherctl", "set", "train@1", "BATCH_SIZE=8"]);
        machine.ok(&["systemctl", "restart", "train@1.service"]);
        machine.until("the batch that was set", || (machine.read("/run/trained") == "8").then_some(()));
    }
}

#[test]
fn nothing_of_ours_stays_with_a_unit_that_is_not_a_worker_any_more() {
    let policy = format!("[worker]\nunits = [\"w.service\"]\n{SHRINKS}");
    let unit = ("/etc/systemd/system/w.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    let machine = machine(Suite::Bookworm, &policy, &[unit]);
    let drop_in = "/run/systemd/system/w.service.d/50-watcherd.conf";
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w"]);
    machine.until("the drop-in", || machine.unit("w.service", "DropInPaths").contains(drop_in).then_some(()));
    machine.ok(&["systemctl", "kill", "--signal=KILL", "watcherd"]);
    machine.write("/etc/watcherd/workers.d/w.toml", "");
    machine.until("the end of the drop-in", || machine.read(drop_in).is_empty().then_some(()));
    machine.until("systemd to know it", || machine.unit("w.service", "DropInPaths").is_empty().then_some(()));
    assert_eq!(machine.unit("w.service", "ActiveState"), "active");
    assert_eq!(machine.unit("w.service", "NeedDaemonReload"), "no");
}

#[test]
fn a_command_that_watcherd_runs_gets_its_parameters_too() {
    for suite in SUITES {
        let files = [("/opt/train.py", TRAINING)];
        let machine = machine(suite, "", &files);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&[
            "watcherctl",
            "run",
            "--name",
            "t",
            "-p",
            "LimitAS=120M",
            "--policy",
            "restart.back-off=0s",
            "--policy",
            "parameters.BATCH_SIZE={ default = 64, range = [1, 512] }",
            "--policy",
            "cause.heap-exhausted.scale={ BATCH_SIZE = \"x0.5\" }",
            "--",
            "/usr/bin/python3",
            "/opt/train.py",
        ]);
        machine.until("a batch that fits", || (machine.read("/run/trained") == "16").then_some(()));
    }
}

#[test]
fn a_full_disk_is_waited_for_and_costs_no_attempt() {
    let policy = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n\
        [cause.disk-full]\nuntil = \"free(/run/small) > 700K\"\n";
    let script = "for i in 1 2 3; do head -c 300000 /dev/zero >>/run/small/data || exit 1; done; exec sleep 1000";
    let unit = format!("[Service]\nExecStart=/bin/sh -c '{script}'\n");
    let machine = machine(Suite::Bookworm, policy, &[("/etc/systemd/system/w.service", &unit)]);
    machine.ok(&["mkdir", "/run/small"]);
    machine.ok(&["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", "/run/small"]);
    machine.write("/run/small/checkpoint", &"x".repeat(500_000));
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w"]);
    machine.until_property("w.service", "Phase", "held");
    let status = String::from_utf8_lossy(&machine.run(&["watcherctl", "status", "w"]).stdout).into_owned();
    assert!(status.contains("until free(/run/small) >"), "{status}");
    // watcherd's own end does not end the wait.
    machine.ok(&["systemctl", "restart", "watcherd"]);
    machine.until_property("w.service", "Phase", "held");
    machine.ok(&["rm", "/run/small/checkpoint", "/run/small/data"]);
    machine.until("the worker", || (machine.unit("w.service", "ActiveState") == "active").then_some(()));
    assert_eq!(machine.property("w.service", "Attempts"), "0", "{}", machine.story());
}

#[test]
fn a_flapping_service_is_stopped_early_by_its_own_words() {
    let policy = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"100ms\"\nbudget = \"50/1h\"\n";
    let unit = "[Service]\nExecStart=/usr/bin/python3 -c 'config = {}; config[\"missing\"]'\n";
    let machine = machine(Suite::Trixie, policy, &[("/etc/systemd/system/w.service", unit)]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w"]);
    machine.until_property("w.service", "Phase", "quarantined");
    assert_eq!(machine.property("w.service", "NRuns"), "3");
    let why = machine.property("w.service", "PhaseReason");
    assert_eq!(why, "app-exception came 3 times without progress");
}

#[test]
fn twenty_workers_on_one_dead_database_are_one_trouble() {
    let policy = "[worker]\nunits = [\"w@*.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n\
        [cause.service-unreachable]\nuntil = \"reachable(tcp://127.0.0.1:5432)\"\n";
    let client = "import socket, time\nsocket.create_connection((\"127.0.0.1\", 5432)); time.sleep(1000)\n";
    let server = "import socket, time\ns = socket.create_server((\"127.0.0.1\", 5432))\nheld = []\n\
        while True: held.append(s.accept())\n";
    let files = [
        ("/opt/client.py", client),
        ("/opt/server.py", server),
        ("/etc/systemd/system/w@.service", "[Service]\nExecStart=/usr/bin/python3 /opt/client.py\n"),
        ("/etc/systemd/system/db.service", "[Service]\nExecStart=/usr/bin/python3 /opt/server.py\n"),
    ];
    let machine = machine(Suite::Bookworm, policy, &files);
    machine.ok(&["systemctl", "start", "watcherd"]);
    let units: Vec<String> = (1..=20).map(|n| format!("w@{n}.service")).collect();
    let start: Vec<&str> = ["systemctl", "start"].into_iter().chain(units.iter().map(String::as_str)).collect();
    machine.ok(&start);
    for unit in &units {
        machine.until_property(unit, "Phase", "held");
    }
    let holds =
        machine.ok(&["busctl", "get-property", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", "Holds"]);
    assert!(holds.starts_with("a(uassst) 1 "), "one hold for all: {holds}");
    let all: Vec<_> = units.iter().map(|unit| machine.incidents(unit).remove(0)).collect();
    let leads: Vec<_> = all.iter().filter(|incident| incident["PartOf"]["data"] == 0).collect();
    assert_eq!(leads.len(), 1, "one incident stands for all: {all:?}");
    assert_eq!(leads[0]["Members"]["data"].as_array().map(Vec::len), Some(19));
    machine.ok(&["systemctl", "start", "db"]);
    for unit in &units {
        machine.until("the worker's return", || (machine.unit(unit, "ActiveState") == "active").then_some(()));
    }
    let again = units.iter().map(|unit| machine.property(unit, "NRuns")).collect::<Vec<_>>();
    assert_eq!(again, vec!["2"; 20], "nobody came too early: {}", machine.story());
}

#[test]
fn a_follow_up_is_tried_again_until_it_succeeds() {
    let policy = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\nsettle = \"100ms\"\n\
        then = [\"python3\", \"/opt/notify.py\", \"http://127.0.0.1:8001/next?limit=10 000\"]\nthen-retries = 5\n";
    let receiver = r#"
import http.server, os
calls = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global calls
        calls += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        open("/run/calls", "a").write(f"{calls} {self.path} {body}\n")
        self.send_response(500 if calls <= 2 else 200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8001), Handler).serve_forever()
"#;
    let notify = r#"
import os, sys, urllib.parse, urllib.request
url = sys.argv[1].replace(" ", "%20")
body = " ".join(f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith("WATCHERD_"))
urllib.request.urlopen(urllib.request.Request(url, body.encode(), method="POST"))
"#;
    let files = [
        ("/opt/receiver.py", receiver),
        ("/opt/notify.py", notify),
        ("/etc/systemd/system/w.service", "[Service]\nExecStart=/bin/sleep 1000\n"),
        ("/etc/systemd/system/receiver.service", "[Service]\nExecStart=/usr/bin/python3 /opt/receiver.py\n"),
    ];
    let machine = machine(Suite::Bookworm, policy, &files);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w", "receiver"]);
    machine.until_property("w.service", "Phase", "working");
    machine.ok(&["systemctl", "kill", "--signal=KILL", "w"]);
    machine.until("the third call", || machine.read("/run/calls").contains("\n3 ").then_some(()));
    machine.until_property("w.service", "Phase", "working");
    let calls = machine.read("/run/calls");
    assert_eq!(calls.lines().count(), 3, "{calls}");
    let last = calls.lines().last().unwrap_or_default();
    for part in [
        "/next?limit=10%20000 ",
        "WATCHERD_WORKER=w.service",
        "WATCHERD_CAUSE=killed-unattributed",
        "WATCHERD_ATTEMPT=1",
        "WATCHERD_INCIDENT=1",
    ] {
        assert!(last.contains(part), "{part} in {last}");
    }
    let incident = machine.ok(&["watcherctl", "incident", "1"]);
    assert!(incident.contains("follow-up - done"), "{incident}");
    let failed = said(&machine, "w.service");
    assert!(failed.contains("the follow-up of its restart failed (") && failed.contains("HTTP Error 500"), "{failed}");
}
