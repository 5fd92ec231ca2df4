// SPDX-License-Identifier: MIT OR Apache-2.0
//! What ordinary users and workers can do to watcherd: send it nonsense, send it much, lie in the journal, and lead it
//! astray with links and names.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::{Machine, SUITES, worker_path};
use serde_json::{Value, json};

const BUS: &str = include_str!("../../system/bus.py");

/// What it may need more of memory, in KiB, while it is fed with what it does not want.
const MORE_MEMORY: u64 = 160 << 10;

fn number_in(text: &str) -> u64 {
    text.split_whitespace().find_map(|word| word.parse().ok()).expect("a number")
}

/// The most memory that watcherd has ever had, in KiB, and how many descriptors it has.
fn needs(machine: &Machine) -> (u64, u64) {
    let pid = machine.unit("watcherd", "MainPID");
    let peak = machine.ok(&["grep", "VmHWM", &format!("/proc/{pid}/status")]);
    (number_in(&peak), number_in(&machine.ok(&["sh", "-c", &format!("ls /proc/{pid}/fd | wc -l")])))
}

fn bus(machine: &Machine, user: &str, arguments: &[&str]) -> Value {
    let told = machine.ok(&[&["runuser", "-u", user, "--", "python3", "/opt/bus.py"], arguments].concat());
    serde_json::from_str(&told).expect("bus.py prints JSON")
}

fn is_well(machine: &Machine) {
    assert_eq!(machine.unit("watcherd", "NRestarts"), "0", "{}", machine.story());
    assert_eq!(machine.property("w.service", "Phase"), "working");
    assert_eq!(machine.property("w.service", "NRuns"), "1");
}

#[test]
fn nonsense_on_the_bus_is_refused_and_harms_nobody() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.write("/opt/bus.py", BUS);
        let (memory, descriptors) = needs(&machine);
        for user in ["alice", "root"] {
            let told = bus(&machine, user, &["hostile"]);
            for (what, answer) in told.as_object().expect("an object") {
                assert_ne!(answer, "success", "{suite:?} {user}: {what}");
            }
            let told = bus(&machine, user, &["descriptors", "200"]);
            assert_eq!(told.as_array().map(Vec::len), Some(200));
            is_well(&machine);
        }
        let (memory_now, descriptors_now) = needs(&machine);
        assert!(memory_now < memory + MORE_MEMORY, "{memory} KiB became {memory_now}");
        assert!(descriptors_now < descriptors + 20, "{descriptors} descriptors became {descriptors_now}");
    }
}

#[test]
fn ten_thousand_calls_in_a_burst_keep_nobody_from_an_answer() {
    let manager = |member: &str, signature: &str, arguments: Value| {
        json!([["/org/watcherd1", "org.watcherd1.Manager", member, signature, arguments]]).to_string()
    };
    let bursts = [
        ("10000", manager("GetWorker", "s", json!(["w"]))),
        ("10000", manager("Restart", "asst", json!([["w"], "", 0]))),
        ("10000", manager("ListIncidents", "a{sv}", json!([{}]))),
        ("2000", manager("Describe", "", json!([]))),
    ];
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.write("/opt/bus.py", BUS);
        let (memory, _) = needs(&machine);
        for (count, calls) in &bursts {
            machine.write("/opt/calls.json", calls);
            let mut burst = machine.command(&["runuser", "-u", "alice", "--", "python3", "/opt/bus.py"]);
            let burst = burst.args(["burst", count, "/opt/calls.json"]).stdout(std::process::Stdio::piped()).spawn();
            let burst = burst.expect("it starts");
            // Meanwhile others are heard.
            for _ in 0..5 {
                assert_eq!(machine.property("w.service", "Phase"), "working", "{calls}");
            }
            let output = burst.wait_with_output().expect("it ends");
            let told: Value = serde_json::from_slice(&output.stdout).expect("bus.py prints JSON");
            let answers: u64 = told.as_object().expect("an object").values().filter_map(Value::as_u64).sum();
            assert_eq!(answers.to_string(), *count, "each call has one answer: {told}");
            if calls.contains("Restart") {
                assert!(told.get("").is_none(), "{told}");
            }
        }
        is_well(&machine);
        machine.call("Hold", &["assstt", "1", "w", "root", "", "0", "0"]).expect("root is served afterwards");
        let (memory_now, _) = needs(&machine);
        assert!(memory_now < memory + MORE_MEMORY, "{memory} KiB became {memory_now}");
    }
}

#[test]
fn odd_names_of_units_and_files_are_names_like_any_other() {
    let long = format!("w@{}.service", "x".repeat(240));
    let units = [
        r"w@a\x2db.service",
        r"w@\xff\x0a.service",
        "w@...service",
        "w@1@2:3_4.service",
        r"w@\x2e\x2e-etc.service",
        &long,
    ];
    let policy = format!("{QUICK}[progress]\ncount = \"/srv/odd names/é%%/*\"\nevery = \"1s\"\nwarm-up = \"1h\"\n");
    for suite in SUITES {
        let machine = Machine::boot_with(
            suite,
            &[("/etc/watcherd/workers.d/w.toml", &policy), ("/etc/systemd/system/w@.service", SLEEPER)],
        );
        machine.ok(&["mkdir", "-p", "/srv/odd names/é%"]);
        machine.ok(&["bash", "-c", "cd /srv/odd*/*; touch $'\\xff\\n' ' ' $'\\e[31m' '$(reboot)'"]);
        machine.ok(&["systemctl", "start", "watcherd"]);
        for unit in units {
            machine.ok(&["systemctl", "start", unit]);
            machine.until_property(unit, "ProgressValue", "4");
            let found = machine.call("GetWorker", &["s", unit]).expect("it is known");
            assert_eq!(found, format!("o \"{}\"", worker_path(unit)));
            machine.ok(&["systemctl", "kill", "--signal=SEGV", unit]);
            machine.until_property(unit, "NRuns", "2");
            assert_eq!(machine.incidents(unit).len(), 1, "{unit}");
        }
        let listed = machine.ok(&["watcherctl", "list"]);
        assert!(units.iter().all(|unit| listed.contains(unit.trim_start_matches(&long))), "{listed}");
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
    }
}

/// Says what only the kernel, systemd and systemd-coredump may say, in every way that an ordinary user has.
const LIAR: &str = r#"
import socket, struct, subprocess, sys
target = "w.service"
def entry(**fields):
    data = b""
    for key, value in fields.items():
        value = value.encode()
        data += key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(data, "/run/systemd/journal/socket")
about = dict(UNIT=target, OBJECT_SYSTEMD_UNIT=target, COREDUMP_UNIT=target, _SYSTEMD_UNIT=target, _PID="1", _UID="0",
    _TRANSPORT="kernel", _COMM="systemd", SYSLOG_IDENTIFIER="kernel", SYSLOG_FACILITY="0", INVOCATION_ID=sys.argv[1],
    OBJECT_PID="1", COREDUMP_PID=sys.argv[2], COREDUMP_SIGNAL="11", UNIT_RESULT="oom-kill", EXIT_CODE="killed", EXIT_STATUS="9")
xid = f"NVRM: Xid (PCI:0000:65:00): 79, pid={sys.argv[2]}, name=sleep, GPU has fallen off the bus."
lies = [xid, f"Out of memory: Killed process {sys.argv[2]} (sleep) total-vm:1kB",
    f"oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/system.slice/{target},task=sleep,pid={sys.argv[2]},uid=0",
    f"sleep[{sys.argv[2]}]: segfault at 0 ip 0 sp 0 error 4", f"{target}: A process of this unit has been killed by the OOM killer.",
    "RuntimeError: CUDA error: an illegal memory access was encountered"]
ids = ["fe6faa94e7774663a0da52717891d8ef", "d9b373ed55a64feb8242e02dbe79a49c", "fc2e22bc6ee647b6b90729ab34a250b1",
    "98e322203f7a4ed290d09fe03c09fe15", "39f53479d3a045ac8e11786248231fbf", "be02cf6855d2428ba40df7e9d022f03d"]
for lie in lies:
    entry(MESSAGE=lie, PRIORITY="3", **about)
    subprocess.run(["logger", "-t", "kernel", "-p", "kern.err", lie], check=True)
    subprocess.run(["logger", "-t", "systemd", "--id=1", lie], check=True)
    for id in ids:
        entry(MESSAGE=lie, MESSAGE_ID=id, PRIORITY="2", **about)
"#;

/// Tells a line that counts when it is asked to.
const TELLER: &str = "import signal, sys\n\
    tell = lambda *_: print('ImportError: libfoo.so.1: cannot open shared object file: No such file or directory', file=sys.stderr, flush=True)\n\
    signal.signal(signal.SIGUSR1, tell)\n\
    while True:\n\
    \x20   signal.pause()\n";

#[test]
fn lies_in_the_journal_are_not_believed() {
    let policy = format!(
        "{QUICK}[cause.gpu-hardware-fault]\nwhen-running = \"incident\"\n[cause.gpu-program-fault]\nwhen-running = \"incident\"\n"
    );
    for suite in SUITES {
        let unit = "[Service]\nExecStart=/usr/bin/python3 /opt/teller.py\n";
        let files = [
            ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
            ("/etc/systemd/system/w.service", unit),
            ("/opt/teller.py", TELLER),
            ("/opt/liar.py", LIAR),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "w.service"]);
        machine.until_property("w.service", "Phase", "working");
        let lie = || {
            let (run, pid) = (machine.unit("w.service", "InvocationID"), machine.unit("w.service", "MainPID"));
            let liar = ["python3", "/opt/liar.py", &run, &pid];
            machine.ok(&[&["runuser", "-u", "alice", "--"], &liar[..]].concat());
            // From within another unit, too.
            machine.ok(&[&["systemd-run", "--wait", "--quiet", "--collect", "-pUser=bob"], &liar[..]].concat());
        };
        lie();
        // What was written before it has been read, too.
        machine.ok(&["systemctl", "kill", "--signal=USR1", "w.service"]);
        let warnings = machine.until("the worker's own line", || {
            let warnings = machine.property("w.service", "Warnings");
            warnings.contains("missing-dependency").then_some(warnings)
        });
        assert!(warnings.starts_with("1 \"missing-dependency\" 1 "), "{warnings}");
        assert_eq!(machine.incidents("w.service").len(), 0);

        // Nor when the run is over.
        lie();
        machine.ok(&["systemctl", "kill", "--signal=TERM", "--kill-who=main", "w.service"]);
        machine.ok(&["systemctl", "start", "w.service"]);
        lie();
        machine.ok(&["systemctl", "kill", "--signal=KILL", "w.service"]);
        machine.until_property("w.service", "Cause", "killed-unattributed");
        machine.until("the next run", || (machine.property("w.service", "Phase") == "working").then_some(()));
        let told = Value::from(machine.incidents("w.service")).to_string();
        for lie in ["Xid", "memory", "segfault", "SIGSEGV", "oom"] {
            assert!(!told.contains(lie), "{suite:?}: {told}");
        }

        // Nor about what happened while watcherd was away.
        let known = machine.incidents("w.service").len();
        machine.ok(&["systemctl", "stop", "watcherd"]);
        lie();
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.until_property("w.service", "Phase", "working");
        assert_eq!(machine.incidents("w.service").len(), known);
    }
}

/// Makes a name be, in turn, a directory with progress, a link to one, and a link to where only root may look.
const RACER: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None)
os.chdir("/srv/w")
for name, step in (("run-1", 5), ("run-2", 6)):
    os.mkdir(name)
    with open(name + "/status.json", "w") as file:
        file.write('{"step": %d}' % step)
os.symlink("/root/precious", "astray")
os.symlink("run-2", "latest")
os.rename("run-1", "run")
for _ in range(3000):
    for other in ("astray", "latest"):
        # RENAME_EXCHANGE: the name is there at every moment.
        assert libc.renameat2(-100, other.encode(), -100, b"run", 2) == 0
"#;

#[test]
fn a_worker_cannot_lead_the_reader_of_its_progress_astray() {
    for suite in SUITES {
        let policy =
            format!("{QUICK}[progress]\nfile = \"/srv/w/run/status.json\"\nevery = \"1s\"\nwarm-up = \"1h\"\n");
        let files = [
            ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
            ("/etc/systemd/system/w.service", SLEEPER),
            ("/root/precious/status.json", "{\"step\": 424242, \"cursor\": \"precious\"}"),
            ("/opt/racer.py", RACER),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["chmod", "700", "/root", "/root/precious"]);
        machine.ok(&["install", "-d", "-o", "alice", "/srv/w"]);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "w.service"]);
        let as_alice = |argv: &[&str]| machine.ok(&[&["runuser", "-u", "alice", "--"], argv].concat());
        as_alice(&["python3", "/opt/racer.py"]);
        as_alice(&["sh", "-c", "cd /srv/w; rm -rf run; ln -s /root/precious run"]);
        machine.until("the refusal", || {
            machine.property("w.service", "Sources").contains("leads to a file of somebody else").then_some(())
        });
        as_alice(&["sh", "-c", "cd /srv/w; mkdir run-9; echo '{\"step\": 9}' >run-9/status.json; ln -sfn run-9 run"]);
        machine.until_property("w.service", "ProgressValue", "9");
        machine.ok(&["systemctl", "stop", "watcherd"]);
        let ask = "import sqlite3; rows = sqlite3.connect('/var/lib/watcherd/state.db').execute('SELECT value FROM history')\n\
            print(sorted({value for value, in rows}))";
        let seen = machine.ok(&["python3", "-c", ask]);
        assert!(seen.contains('9') && !seen.contains("424242"), "{suite:?}: {seen}");
    }
}

/// Answers with ten gigabytes.
const TALKER: &str = r#"
import http.server
class Talker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(10 << 30))
        self.end_headers()
        try:
            for _ in range(10 << 10):
                self.wfile.write(b"1" * (1 << 20))
        except OSError:
            pass
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8001), Talker).serve_forever()
"#;

#[test]
fn servers_commands_and_hooks_that_never_stop_talking_cost_little() {
    let policy = "[worker]\nunits = [\"w.service\"]\n\
        [progress]\nhttp = \"http://127.0.0.1:8001/\"\ncommand = [\"/usr/bin/yes\", \"1\"]\nevery = \"1s\"\nwarm-up = \"1h\"\n\
        [restart]\nback-off = \"0s\"\nverify = \"1s\"\nsettle = \"0s\"\nthen-retries = 0\nthen-within = \"1s\"\n\
        then = [\"/usr/bin/yes\", \"words\"]\n";
    for suite in SUITES {
        let files = [
            ("/etc/watcherd/workers.d/w.toml", policy),
            ("/etc/systemd/system/w.service", SLEEPER),
            ("/etc/systemd/system/talker.service", "[Service]\nExecStart=/usr/bin/python3 /opt/talker.py\n"),
            ("/opt/talker.py", TALKER),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["systemctl", "start", "watcherd", "talker"]);
        let (memory, _) = needs(&machine);
        machine.ok(&["systemctl", "start", "w.service"]);
        machine.until("both to be given up", || {
            let sources = machine.property("w.service", "Sources");
            (sources.contains("http://127.0.0.1:8001/: larger than 1 MiB") && sources.contains("/usr/bin/yes: "))
                .then_some(())
        });
        machine.ok(&["systemctl", "kill", "--signal=SEGV", "w.service"]);
        machine.until("the end of the hook", || {
            let said = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "SYSLOG_IDENTIFIER=watcherd"]);
            said.contains("not done within 1s").then_some(())
        });
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
        let (memory_now, _) = needs(&machine);
        assert!(memory_now < memory + MORE_MEMORY, "{memory} KiB became {memory_now}");
    }
}
