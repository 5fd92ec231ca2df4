// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers that live but get nowhere: seen through real files, servers and lines, restarted once their evidence is saved.

use crate::machine::{Machine, SUITES, Suite};

/// Counts in a status file until /run/hang is there; then it hangs, as a program that waits for a lock.
const COUNTER: &str = r#"
import faulthandler, json, os, threading, time
faulthandler.enable()
step = 0
while not os.path.exists("/run/hang"):
    step += 1
    with open("/run/status.new", "w") as file:
        json.dump({"train": {"step": step, "of": 100000}, "active": 2}, file)
    os.rename("/run/status.new", "/run/status.json")
    time.sleep(0.1)
os.remove("/run/hang")
lock = threading.Lock()
lock.acquire()
lock.acquire()
"#;

const POLICY: &str = "[worker]\nunits = [\"w.service\"]\n\
    [progress]\nfile = \"/run/status.json\"\nvalue = \"/train/step\"\ntotal = \"/train/of\"\nstall-after = \"3s\"\n\
    warm-up = \"20s\"\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\ndump-grace = \"3s\"\n";

fn machine_with(suite: Suite, policy: &str, program: &str) -> Machine {
    let unit = "[Service]\nExecStart=/usr/bin/python3 /opt/worker.py\n";
    let files = [
        ("/etc/watcherd/workers.d/w.toml", policy),
        ("/etc/systemd/system/w.service", unit),
        ("/opt/worker.py", program),
    ];
    let machine = Machine::boot_with(suite, &files);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w.service"]);
    machine
}

fn said(machine: &Machine) -> String {
    machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "SYSLOG_IDENTIFIER=watcherd"])
}

fn number(machine: &Machine, property: &str) -> u64 {
    machine.property("w.service", property).parse().unwrap_or(0)
}

#[test]
fn a_worker_that_hangs_is_restarted_and_proves_itself() {
    for suite in SUITES {
        let machine = machine_with(suite, POLICY, COUNTER);
        machine.until("progress", || (number(&machine, "ProgressValue") > 5).then_some(()));
        assert_eq!(number(&machine, "ProgressTotal"), 100_000);
        machine.until_property("w.service", "Phase", "working");
        assert!(number(&machine, "StallDeadlineTimestamp") > 0);
        machine.ok(&["touch", "/run/hang"]);
        machine.until("the stall", || said(&machine).contains("w.service is stalled: no progress for").then_some(()));
        machine.until("the next run", || (number(&machine, "NRuns") == 2).then_some(()));
        machine.until("the cure", || said(&machine).contains("has recovered").then_some(()));
        let told = said(&machine);
        assert_eq!(told.matches("is stalled (unresponsive)").count(), 1, "{told}");
        assert_eq!(machine.property("w.service", "Phase"), "working");
        let lines = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "SYSLOG_IDENTIFIER=python3"]);
        assert!(lines.contains("Fatal Python error: Aborted") && lines.contains("worker.py"), "{lines}");
        let saved = machine.ok(&["watcherctl", "incident", "1", "--evidence"]);
        for expected in ["Saved evidence: ", "no progress for", "futex", " python3", "Kernel stack of the main thread:"]
        {
            assert!(saved.contains(expected), "{expected} in {saved}");
        }
        let kept = |file: &str| machine.ok(&["cat", &format!("/var/lib/watcherd/incidents/1/{file}")]);
        assert!(kept("lines").contains("Fatal Python error: Aborted"), "{}", kept("lines"));
        let refused = machine.run(&["runuser", "-u", "alice", "--", "watcherctl", "incident", "1", "--evidence"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("only root may read"), "{told}");
    }
}

#[test]
fn progress_survives_the_end_of_watcherd() {
    let machine = machine_with(Suite::Bookworm, POLICY, COUNTER);
    machine.until("progress", || (number(&machine, "ProgressValue") > 5).then_some(()));
    machine.ok(&["systemctl", "stop", "watcherd"]);
    machine.ok(&["systemctl", "stop", "w.service"]);
    machine.ok(&["rm", "/run/status.json"]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    assert!(number(&machine, "ProgressValue") > 5, "it is forgotten");
    let values = machine.property("w.service", "Values");
    assert!(values.contains("active"), "{values}");
}

#[test]
fn what_is_no_readable_file_proves_nothing() {
    let policy = POLICY.replace("stall-after = \"3s\"", "stall-after = \"2s\"").replace("\"20s\"", "\"2s\"");
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[
            ("/etc/watcherd/workers.d/w.toml", &policy),
            ("/etc/systemd/system/w.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
        ],
    );
    machine.ok(&["mkfifo", "/run/status.json"]);
    machine.ok(&["systemctl", "start", "watcherd", "w.service"]);
    let lost = |why: &str| {
        machine.until(why, || {
            let sources = machine.property("w.service", "Sources");
            sources.contains(why).then_some(())
        });
    };
    lost("not a regular file");
    machine.ok(&["sh", "-c", "rm /run/status.json; ln -s /etc/shadow /run/status.json"]);
    lost("symbolic link");
    machine.ok(&["sh", "-c", "rm /run/status.json; truncate -s 1G /run/status.json"]);
    lost("larger than 1 MiB");
    machine.ok(&["sh", "-c", "rm /run/status.json; head -c 1000 /dev/urandom >/run/status.json"]);
    lost("not UTF-8");
    machine.ok(&["sh", "-c", "rm /run/status.json"]);
    lost("no such file");
    assert!(!said(&machine).contains("is stalled"), "{}", said(&machine));
    // What can be read again counts from then on.
    machine.ok(&["sh", "-c", "echo '{\"train\": {\"step\": 1, \"of\": 2}}' >/run/status.json"]);
    machine.until("the stall", || said(&machine).contains("w.service is stalled").then_some(()));
}

#[test]
fn a_queue_that_nobody_works_on_is_seen_by_a_rule() {
    let server = r#"
import http.server, json, os
class Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        stuck = os.path.exists("/run/stuck")
        body = json.dumps({"queue": {"active": 0 if stuck else 3, "pending": 40}, "completed": 7}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
if os.path.exists("/run/stuck") and os.path.exists("/run/seen"):
    os.remove("/run/stuck")
open("/run/seen", "w").close()
http.server.HTTPServer(("127.0.0.1", 8001), Status).serve_forever()
"#;
    let policy = "[worker]\nunits = [\"w.service\"]\n\
        [progress]\nhttp = \"http://127.0.0.1:8001/status\"\nevery = \"1s\"\nactive = \"/queue/active\"\n\
        pending = \"/queue/pending\"\nstalled-when = \"active == 0 and pending > 0\"\nstrikes = 3\n\
        stall-after = \"never\"\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\ndump-signal = \"none\"\n";
    let machine = machine_with(Suite::Bookworm, policy, server);
    machine.until("the values", || machine.property("w.service", "Values").contains("pending").then_some(()));
    machine.ok(&["touch", "/run/stuck"]);
    machine.until("the stall", || said(&machine).contains("active == 0 and pending > 0").then_some(()));
    machine.until("the next run", || (number(&machine, "NRuns") == 2).then_some(()));
    machine.until("the values", || machine.property("w.service", "Values").contains("3").then_some(()));
}

#[test]
fn lines_of_the_journal_and_commands_tell_of_progress_too() {
    let policy = "[worker]\nunits = [\"w.service\"]\n[progress]\n\
        journal = 'step (\\d+)/(\\d+) loss (?P<loss>[0-9.]+)'\ncommand = [\"/usr/bin/printf\", \"rows=77\\\\n\"]\nevery = \"1s\"\n";
    let script =
        "[Service]\nExecStart=/bin/sh -c 'i=0; while :; do i=$((i+1)); echo step $i/900 loss 0.25; sleep 0.3; done'\n";
    let files = [("/etc/watcherd/workers.d/w.toml", policy), ("/etc/systemd/system/w.service", script)];
    let machine = Machine::boot_with(Suite::Trixie, &files);
    machine.ok(&["systemctl", "start", "watcherd", "w.service"]);
    machine.until("progress", || (number(&machine, "ProgressValue") > 3).then_some(()));
    assert_eq!(number(&machine, "ProgressTotal"), 900);
    machine.until("the values", || {
        let values = machine.property("w.service", "Values");
        (values.contains("0.25") && values.contains("77")).then_some(())
    });
}

#[test]
fn a_worker_that_leaks_is_restarted_at_its_ceiling() {
    let policy = "[worker]\nunits = [\"w.service\"]\n[limits]\nmemory = \"100M\"\nfor = \"5s\"\n\
        [restart]\nback-off = \"0s\"\nverify = \"1s\"\n";
    // Only its first run leaks.
    let leak = "import os, time\nfirst = not os.path.exists('/run/leaked')\nopen('/run/leaked', 'w')\n\
        held = b'x' * (200 << 20 if first else 1)\ntime.sleep(3600)\n";
    for suite in SUITES {
        let machine = machine_with(suite, policy, leak);
        machine.until("the next run", || (number(&machine, "NRuns") == 2).then_some(()));
        machine.until("the cure", || said(&machine).contains("has recovered").then_some(()));
        let told = said(&machine);
        assert!(told.contains("w.service uses more than it may (over-limit): restart #1"), "{told}");
        let why = machine.ok(&["watcherctl", "why", "1"]);
        assert!(why.contains("of memory in use, 100M are allowed, for 5s") && why.contains("limits.memory"), "{why}");
    }
}
