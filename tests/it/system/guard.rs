// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every member of the interface and every kind of caller, with the real polkit: who is let through, and who may read what.

use crate::machine::{Machine, SUITES, Suite, worker_path};
use serde_json::{Value, json};
use watcherd::api::guard::{Rule, TABLE};

const BUS: &str = include_str!("../../system/bus.py");
const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
const ASKS: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
const LOG_CONTROL: &str = "org.freedesktop.LogControl1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Fails once, with a line that tells why.
const WORKER: &str = "import os, sys, time\n\
    if not os.path.exists('/var/tmp/failed'):\n\
    \x20   open('/var/tmp/failed', 'w').close()\n\
    \x20   sys.exit('RuntimeError: CUDA error: an illegal memory access was encountered secret-line')\n\
    time.sleep(4711)\n";

const UNIT: &str = "[Service]\nUser=svc\nEnvironment=HF_TOKEN=secret-variable\n\
    ExecStart=/usr/bin/python3 /opt/worker.py secret-argument\n\
    ExecReload=/usr/bin/python3 /opt/bus.py call /opt/calls.json /run/w/told.json\nRuntimeDirectory=w\n";

/// Starts for ever, so that there is a job.
const SLOW: &str = "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n";

const POLICY: &str = "[worker]\nunits = [\"w.service\", \"slow.service\"]\n\
    [progress]\nhttp = \"http://127.0.0.1:9/?key=secret-key\"\n\
    [restart]\nback-off = \"0s\"\nverify = \"1h\"\nsettle = \"0s\"\nthen-retries = 0\n\
    then = [\"/bin/sh\", \"-c\", \"echo secret-word; exit 3\", \"secret-option\"]\n\
    [parameters]\nBATCH = { default = 64, range = [1, 512] }\n";

/// What only some may know.
const SECRETS: [&str; 6] =
    ["secret-line", "secret-variable", "secret-argument", "secret-key", "secret-word", "secret-option"];

/// A worker with an open incident whose follow-up has failed, and the path of a job that is under way.
fn scene(suite: Suite) -> (Machine, String) {
    let files = [
        ("/opt/bus.py", BUS),
        ("/opt/worker.py", WORKER),
        ("/etc/systemd/system/w.service", UNIT),
        ("/etc/systemd/system/slow.service", SLOW),
        ("/etc/watcherd/workers.d/w.toml", POLICY),
    ];
    let machine = Machine::boot_with(suite, &files);
    machine.ok(&["useradd", "--system", "svc"]);
    machine.ok(&["usermod", "--append", "--groups", "systemd-journal", "bob"]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w.service"]);
    machine.until_property("w.service", "Cause", "gpu-program-fault");
    machine.until("the end of the follow-up", || {
        let incident = machine.incidents("w").remove(0).to_string();
        incident.contains("secret-word").then_some(())
    });
    machine.until_property("w.service", "Phase", "verifying");
    let started = machine.call("Start", &["asst", "1", "slow", "", "0"]).expect("root may");
    let job = started.split('"').nth(1).expect("a job").to_owned();
    (machine, job)
}

/// A call of each member of the guard's table, about this worker.
fn calls(worker: &str, job: &str) -> Vec<Value> {
    let call = |&(interface, member, _): &(&str, &str, Rule)| {
        let object = worker_path("w.service");
        let path = match interface {
            "org.watcherd1.Manager" => "/org/watcherd1",
            "org.watcherd1.Worker" => &object,
            "org.watcherd1.Incident" => "/org/watcherd1/incident/1",
            "org.watcherd1.Job" => job,
            _ => "/org/freedesktop/LogControl1",
        };
        let set = |value: &str| (PROPERTIES, "Set", "ssv", json!([interface, member, ["s", value]]));
        let with = |signature, arguments| (interface, member, signature, arguments);
        let (interface, method, signature, arguments) = match member {
            "GetWorker" => with("s", json!(["w"])),
            "ListWorkers" | "Describe" | "ListNotices" | "ResetQuarantine" => with("", json!([])),
            "ListIncidents" => with("a{sv}", json!([{}])),
            "Run" => with("sasa{sv}a{sv}t", json!(["w", ["/bin/touch", "/run/pwned"], {}, {}, 0])),
            "Adopt" => with("sa{sv}t", json!(["dbus", {}, 0])),
            "Forget" => with("s", json!([worker])),
            "Start" | "Stop" | "Restart" | "Pause" | "Resume" => with("asst", json!([[worker], "", 0])),
            "Hold" => with("assstt", json!([[worker], "", "", 1, 0])),
            "HoldLock" => with("asss", json!([[worker], "", ""])),
            "Release" => with("u", json!([4711])),
            "Reload" | "TestNotice" | "Cancel" => with("t", json!([0])),
            "Beat" => with("ta{sv}", json!([7, {}])),
            "Quarantine" => with("s", json!([""])),
            "SetParameter" => with("ss", json!(["BATCH", "32"])),
            "Close" => with("st", json!(["", 0])),
            "LogLevel" => set("info"),
            "LogTarget" => set("auto"),
            other => panic!("nobody has said how {other} is called"),
        };
        json!([path, interface, method, signature, arguments])
    };
    TABLE.iter().map(call).collect()
}

/// Everything that can be read, and who of the callers sees what.
fn reads(job: &str) -> Vec<Value> {
    let worker = worker_path("w.service");
    let manager = |member: &str, signature: &str, arguments| {
        json!(["/org/watcherd1", "org.watcherd1.Manager", member, signature, arguments])
    };
    let all =
        |path: &str, interface: &str| json!([path, PROPERTIES, "GetAll", "s", [format!("org.watcherd1.{interface}")]]);
    vec![
        manager("ListWorkers", "", json!([])),
        manager("ListIncidents", "a{sv}", json!([{}])),
        manager("Describe", "", json!([])),
        manager("ListNotices", "", json!([])),
        all("/org/watcherd1", "Manager"),
        all(&worker, "Worker"),
        all("/org/watcherd1/incident/1", "Incident"),
        all(job, "Job"),
        json!([&worker, PROPERTIES, "Get", "ss", ["org.watcherd1.Worker", "Policy"]]),
        json!(["/org/watcherd1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", []]),
    ]
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Root,
    Nobody,
    /// As whom the worker runs, from outside of its unit.
    OwnUser,
    /// A process of the worker's own unit.
    OwnUnit,
    /// May read the journal.
    Reader,
    /// On the seat of the machine.
    Active,
    /// Logged in without a seat, as by ssh.
    Remote,
}

const CALLERS: [Caller; 7] = [
    Caller::Nobody,
    Caller::OwnUser,
    Caller::OwnUnit,
    Caller::Reader,
    Caller::Active,
    Caller::Remote,
    // The last one, because it does something.
    Caller::Root,
];

/// How a program is run for a user in a session of its own.
const SESSION: [&str; 9] = [
    "systemd-run",
    "--quiet",
    "--wait",
    "--pipe",
    "--collect",
    "-pPAMName=login",
    "-pUser=alice",
    "-EXDG_SEAT=seat0",
    "--",
];

impl Caller {
    /// What precedes a command line.
    fn words(self) -> Vec<&'static str> {
        let user = |name| vec!["runuser", "-u", name, "--"];
        match self {
            Caller::Root => vec![],
            Caller::Nobody => user("nobody"),
            Caller::OwnUser => user("svc"),
            Caller::Reader => user("bob"),
            Caller::Active => SESSION.to_vec(),
            Caller::Remote => SESSION.into_iter().filter(|word| !word.contains("SEAT")).collect(),
            Caller::OwnUnit => vec!["systemctl", "reload", "w.service"],
        }
    }

    fn run(self, machine: &Machine, argv: &[&str]) -> String {
        machine.ok(&[&self.words()[..], argv].concat())
    }

    /// Makes these calls, one after another; `how` is `call` or `dialog`.
    fn make(self, machine: &Machine, how: &str, calls: &[Value]) -> Vec<Value> {
        machine.write("/opt/calls.json", &Value::from(calls).to_string());
        let told = match self {
            // The unit file says what is called.
            Caller::OwnUnit => {
                self.run(machine, &[]);
                machine.read("/run/w/told.json")
            }
            _ => self.run(machine, &["python3", "/opt/bus.py", how, "/opt/calls.json"]),
        };
        let told: Value = serde_json::from_str(&told).expect("bus.py prints JSON");
        let told = told.as_array().expect("a list").clone();
        assert_eq!(told.len(), calls.len());
        told
    }

    fn may_view(self) -> bool {
        matches!(self, Caller::Root | Caller::OwnUser | Caller::OwnUnit | Caller::Reader)
    }
}

/// What is wrong with how a caller was answered; `denied` is the error for a call that needs an authorisation.
fn wrong(caller: Caller, rule: Rule, denied: &str, told: &Value) -> Option<String> {
    let error = told["error"].as_str().expect("a text");
    let right = match (rule, caller) {
        (Rule::Open, _) | (Rule::OwnUnit, Caller::OwnUnit) => error.is_empty(),
        (Rule::OwnUnit, _) => error == DENIED,
        // Arguments are looked at first, so that a complaint about them proves nothing.
        (Rule::Needs(..), Caller::Root) => {
            ![DENIED, ASKS, "org.freedesktop.DBus.Error.InvalidArgs"].contains(&error) && !error.contains("Unknown")
        }
        (Rule::Needs(..), _) => error == denied,
    };
    (!right).then(|| format!("{error:?}: {}", told["text"]))
}

#[test]
fn every_member_is_for_whom_the_table_says() {
    for suite in SUITES {
        let (machine, job) = scene(suite);
        let facts = "loginctl show-session \"$XDG_SESSION_ID\" -p Active -p Seat | sort | xargs";
        assert_eq!(Caller::Active.run(&machine, &["sh", "-c", facts]), "Active=yes Seat=seat0\n");
        assert_eq!(Caller::Remote.run(&machine, &["sh", "-c", facts]), "Active=yes Seat=\n");
        for caller in CALLERS {
            let worker = if caller == Caller::Root { "absent" } else { "w" };
            let hows = match caller {
                Caller::Root | Caller::OwnUnit => &[("call", ASKS)][..],
                _ => &[("call", ASKS), ("dialog", DENIED)],
            };
            for (how, denied) in hows {
                let told = caller.make(&machine, how, &calls(worker, &job));
                for (&(interface, member, rule), told) in TABLE.iter().zip(&told) {
                    // A property has no dialog.
                    let denied = if interface == LOG_CONTROL { ASKS } else { denied };
                    if let Some(why) = wrong(caller, rule, denied, told) {
                        panic!("{suite:?} {caller:?} {how} {interface}.{member} {rule:?}: {why}\n{}", machine.story());
                    }
                }
            }
            if caller != Caller::Root {
                assert_eq!(machine.property("w.service", "Phase"), "verifying", "{caller:?}");
                assert_eq!(machine.property("w.service", "NRuns"), "2", "{caller:?}");
                assert_eq!(
                    machine.ok(&["busctl", "get-property", "org.watcherd1", &job, "org.watcherd1.Job", "State"]),
                    "s \"running\"\n"
                );
            }
        }
        assert!(!machine.root().join("run/pwned").exists());
        assert_eq!(machine.unit("watcherd", "NRestarts"), "0");
    }
}

#[test]
fn who_knows_the_password_of_an_administrator_is_let_through() {
    for suite in SUITES {
        let (machine, job) = scene(suite);
        machine.ok(&["sh", "-c", "echo root:sesame | chpasswd"]);
        let all = calls("w", &job);
        let at = TABLE.iter().position(|row| row.1 == "Restart").expect("it is in the table");
        machine.write("/opt/calls.json", &json!([all[at]]).to_string());
        let asked = |password: &str| -> Value {
            let argv = ["python3", "/opt/bus.py", "agent", "/opt/calls.json", password];
            serde_json::from_str(&Caller::Active.run(&machine, &argv)).expect("bus.py prints JSON")
        };
        let told = asked("wrong");
        assert_eq!(told[0]["error"], DENIED, "{told}\n{}", machine.story());
        let told = asked("sesame");
        assert_eq!(told[0]["error"], "", "{told}\n{}", machine.story());
        machine.until_property("w.service", "NRuns", "3");
    }
}

#[test]
fn strangers_read_neither_lines_nor_commands_nor_variables() {
    for suite in SUITES {
        let (machine, job) = scene(suite);
        for caller in CALLERS {
            let told = caller.make(&machine, "call", &reads(&job));
            let text = |at: usize| told[at]["body"].as_str().unwrap_or_default();
            for (read, told) in reads(&job).iter().zip(&told) {
                assert_eq!(told["error"], "", "{caller:?} {read}: {told}");
            }
            if caller.may_view() {
                // The incidents, and the settings.
                for (at, secret) in [(1, "secret-line"), (1, "secret-word"), (5, "secret-option"), (8, "secret-option")]
                {
                    assert!(text(at).contains(secret), "{suite:?} {caller:?} {secret}: {}", text(at));
                }
                continue;
            }
            for (at, read) in reads(&job).iter().enumerate() {
                for secret in SECRETS {
                    assert!(!text(at).contains(secret), "{suite:?} {caller:?} reads {secret} by {read}: {}", text(at));
                }
            }
        }
        // What is on disk is for root alone.
        let found = machine.run(&["runuser", "-u", "bob", "--", "ls", "/var/lib/watcherd"]);
        assert!(!found.status.success(), "{found:?}");
        let open =
            ["find", "/var/lib/watcherd", "(", "-type", "f", "-perm", "/077", "-o", "-type", "d", "-perm", "/022", ")"];
        assert_eq!(machine.ok(&open), "", "others may read or write these");
        let grep = ["runuser", "-u", "nobody", "--", "grep", "-rs", "secret-", "/run/watcherd", "/var/lib/watcherd"];
        let found = machine.run(&grep);
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    }
}
