// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that hang in the ways in which programs hang, one that only is slow, and a real task queue that stops
//! consuming.

use crate::machine::guest::wait;
use crate::machine::{Machine, SUITES, Suite};
use std::time::Duration;

/// One policy for all of them; `%i` names the file.
const POLICY: &str = "[worker]\nunits = [\"w@*.service\"]\n\
    [progress]\nfile = \"/run/w/%i\"\nstall-after = \"4s\"\nwarm-up = \"1min\"\n\
    [restart]\nback-off = \"0s\"\nverify = \"1s\"\ndump-grace = \"5s\"\n\
    dump-command = [\"/usr/bin/python3\", \"/opt/dumper.py\", \"$MAINPID\", \"%i\"]\n";

/// Does what debuggers begin with.
const DUMPER: &str = r#"
import ctypes, sys
PTRACE_SEIZE = 0x4206
seized = ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0
print("seized" if seized else "refused", open(f"/proc/{sys.argv[1]}/comm").read().strip(), sys.argv[2])
"#;

const UNIT: &str = "[Service]\nExecStart=/usr/bin/python3 /opt/worker.py %i\n";

/// Makes progress, and hangs once.
const WORKER: &str = r#"
import ctypes, faulthandler, os, sys, time
faulthandler.enable()
kind = sys.argv[1]

def step(number):
    with open(f"/run/w/{kind}.new", "w") as file:
        file.write(f"step={number}\n")
    os.rename(f"/run/w/{kind}.new", f"/run/w/{kind}")

def hang_in_a_mutex():
    # With the interpreter's lock held, as an extension module would.
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)

def hang_in_a_loop():
    while True:
        time.sleep(0.1)

def hang_on_a_pipe():
    if not os.path.exists("/run/w/pipe"):
        os.mkfifo("/run/w/pipe")
    open("/run/w/pipe").read()

again = os.path.exists(f"/run/w/{kind}.hung")
number = 0
while True:
    number += 1
    step(number)
    if kind == "slow":
        # Two thirds of the time that is allowed.
        end = time.monotonic() + 2.7
        while time.monotonic() < end:
            sum(range(10000))
            time.sleep(0.01)
    elif number == 5 and not again:
        open(f"/run/w/{kind}.hung", "w").close()
        {"mutex": hang_in_a_mutex, "loop": hang_in_a_loop, "fifo": hang_on_a_pipe}[kind]()
    else:
        time.sleep(0.3)
"#;

#[test]
fn each_kind_of_hang_is_found_and_a_slow_worker_is_left_alone() {
    for suite in SUITES {
        let files = [
            ("/etc/watcherd/workers.d/w.toml", POLICY),
            ("/etc/systemd/system/w@.service", UNIT),
            ("/opt/worker.py", WORKER),
            ("/opt/dumper.py", DUMPER),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["mkdir", "/run/w"]);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "w@slow", "w@mutex", "w@loop", "w@fifo"]);
        for (kind, place, stack) in [
            ("mutex", "futex", "hang_in_a_mutex"),
            ("loop", "nanosleep", "hang_in_a_loop"),
            ("fifo", "", "hang_on_a_pipe"),
        ] {
            let unit = format!("w@{kind}.service");
            machine.until(&format!("the second run of {unit}"), || {
                (machine.property(&unit, "NRuns") == "2").then_some(())
            });
            let told = || machine.ok(&["journalctl", "-q", "-o", "cat", "-u", &unit, "SYSLOG_IDENTIFIER=watcherd"]);
            machine.until("the cure", || told().contains("has recovered").then_some(()));
            let id = machine.incidents(&unit)[0]["Id"]["data"].clone();
            let saved = machine.ok(&["watcherctl", "incident", &id.to_string(), "--evidence"]);
            assert!(saved.contains(stack), "{kind}: its own stack in {saved}");
            assert!(saved.contains(place), "{kind}: {place} in {saved}");
            let seen = format!("Stacks, seen from outside:\n  seized python3 {kind}\n");
            assert!(saved.contains(&seen), "{seen} in {saved}");
        }
        let slow = |property| machine.property("w@slow.service", property);
        machine.until("some work", || (slow("ProgressValue").parse().unwrap_or(0) > 5).then_some(()));
        assert_eq!((slow("NRuns").as_str(), slow("Phase").as_str()), ("1", "working"));
        assert!(machine.incidents("w@slow.service").is_empty());
    }
}

/// Tells how many tasks wait, run and are done.
const STATUS: &str = r#"
import http.server, json, redis
queue = redis.Redis("127.0.0.1")
class Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        values = {"pending": queue.llen("celery"), "active": int(queue.get("active") or 0),
                  "completed": int(queue.get("done") or 0)}
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", 8001), Status).serve_forever()
"#;

const TASKS: &str = r#"
import celery, redis, time
app = celery.Celery("tasks", broker="redis://127.0.0.1/0")
app.conf.worker_prefetch_multiplier = 1
queue = redis.Redis("127.0.0.1")

@app.task
def work():
    queue.incr("active")
    time.sleep(0.2)
    queue.decr("active")
    queue.incr("done")
"#;

#[test]
fn a_task_queue_that_stops_consuming_is_brought_back() {
    let policy = "[worker]\nunits = [\"queue.service\"]\n\
        [progress]\nhttp = \"http://127.0.0.1:8001/\"\nevery = \"1s\"\n\
        stalled-when = \"active == 0 and pending > 0\"\nstrikes = 3\nwarm-up = \"30s\"\n\
        complete-when = \"active == 0 and pending == 0 and completed > 0\"\n\
        [restart]\nback-off = \"0s\"\nverify = \"1s\"\n";
    let unit = "[Service]\nWorkingDirectory=/opt\nExecStart=/usr/bin/python3 -m celery -A tasks worker -c 2 --without-gossip \
        --without-mingle --without-heartbeat\n";
    let status = "[Service]\nExecStart=/usr/bin/python3 /opt/status.py\n";
    let files = [
        ("/etc/watcherd/workers.d/queue.toml", policy),
        ("/etc/systemd/system/queue.service", unit),
        ("/etc/systemd/system/status.service", status),
        ("/opt/tasks.py", TASKS),
        ("/opt/status.py", STATUS),
    ];
    let machine = Machine::boot_with(Suite::Bookworm, &files);
    machine.ok(&["systemctl", "start", "watcherd", "redis-server", "status"]);
    machine.ok(&["systemctl", "start", "queue"]);
    let send = "import sys; sys.path.insert(0, '/opt'); import tasks; [tasks.work.delay() for _ in range(40)]";
    machine.ok(&["python3", "-c", send]);
    let completed = || machine.property("queue.service", "ProgressValue").parse().unwrap_or(0);
    machine.until("some of the work", || (completed() > 5).then_some(()));
    // The worker goes on living, and consumes nothing any more.
    let cancel = "cd /opt && python3 -m celery -A tasks control cancel_consumer celery";
    machine.ok(&["sh", "-c", cancel]);
    machine.ok(&["python3", "-c", send]);
    machine.until("the second run", || (machine.property("queue.service", "NRuns") == "2").then_some(()));
    machine.until("the rest of the work", || (machine.property("queue.service", "Phase") == "idle").then_some(()));
    assert!(completed() >= 79, "{} of 80 tasks were done", completed());
    let incidents = machine.incidents("queue.service");
    assert_eq!(incidents.len(), 1);
    let told = machine.ok(&["watcherctl", "why", "queue"]);
    assert!(told.contains("active == 0 and pending > 0"), "{told}");
    let signs = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "queue", "SYSLOG_IDENTIFIER=watcherd"]);
    assert!(!signs.contains("shows signs"), "what Celery warns of is no sign of trouble: {signs}");
}

/// Says nothing about its progress; an ordinary service, whose threads wait for each other, or for what comes from outside.
const SILENT: &str = r#"
import os, select, sys, threading
first, second, met = threading.Lock(), threading.Lock(), threading.Barrier(2)
def other():
    with second:
        met.wait()
        first.acquire()
if sys.argv[1] == "deadlock":
    threading.Thread(target=other, daemon=True).start()
    with first:
        met.wait()
        second.acquire()
elif sys.argv[1] == "polls":
    while not threading.Event().wait(0.5):
        pass
else:
    select.select([os.pipe()[0]], [], [])
"#;

#[test]
fn a_deadlock_is_suspected_without_any_source_of_progress_and_idling_is_not() {
    for suite in SUITES {
        let policy = "[worker]\nunits = [\"s@*.service\"]\nafter-success = \"restart\"\n\
            [progress]\nsuspect-after = \"5s\"\n";
        let files = [
            ("/etc/watcherd/workers.d/s.toml", policy),
            ("/etc/systemd/system/s@.service", "[Service]\nExecStart=/usr/bin/python3 /opt/silent.py %i\n"),
            ("/opt/silent.py", SILENT),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["systemctl", "start", "watcherd"]);
        // All are looked at in the same moments, so that those which began first are judged first.
        machine.ok(&["systemctl", "start", "s@polls", "s@waits"]);
        machine.ok(&["systemctl", "start", "s@deadlock"]);
        let told = |kind: &str| {
            let unit = format!("s@{kind}.service");
            machine.ok(&["journalctl", "-q", "-o", "cat", "-u", &unit, "SYSLOG_IDENTIFIER=watcherd"])
        };
        let text = "all 2 threads waiting for locks for";
        machine.until("the suspicion", || told("deadlock").contains(text).then_some(()));
        assert_eq!(machine.property("s@deadlock.service", "NRuns"), "1", "it is only a warning");
        for kind in ["polls", "waits"] {
            assert!(!told(kind).contains("signs of"), "{}", told(kind));
        }
    }
}

#[test]
fn a_debugger_that_hangs_delays_the_restart_but_does_not_prevent_it() {
    let policy = POLICY
        .replace("[\"/usr/bin/python3\", \"/opt/dumper.py\", \"$MAINPID\", \"%i\"]", "[\"/bin/sleep\", \"infinity\"]");
    let files = [
        ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
        ("/etc/systemd/system/w@.service", UNIT),
        ("/opt/worker.py", WORKER),
    ];
    let machine = Machine::boot_with(Suite::Trixie, &files);
    machine.ok(&["mkdir", "/run/w"]);
    machine.ok(&["systemctl", "start", "watcherd", "w@loop"]);
    machine.until("the debugger", || (!machine.run(&["pidof", "sleep"]).stdout.is_empty()).then_some(()));
    // It gets half a minute.
    let again = wait(Duration::from_secs(90), || (machine.property("w@loop.service", "NRuns") == "2").then_some(()));
    assert!(again.is_some(), "there is no second run");
    let id = machine.incidents("w@loop.service")[0]["Id"]["data"].clone();
    let saved = machine.ok(&["watcherctl", "incident", &id.to_string(), "--evidence"]);
    // Its own stacks came all the same, and nothing of the debugger is left.
    assert!(saved.contains("hang_in_a_loop") && saved.contains("/bin/sleep: "), "{saved}");
    machine.until("the end of the debugger", || machine.run(&["pidof", "sleep"]).stdout.is_empty().then_some(()));
}
