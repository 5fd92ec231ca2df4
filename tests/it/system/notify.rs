// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notices leave the machine: once, in the sandbox of their unit, whatever ends in between.

use super::SLEEPER;
use crate::machine::{Machine, SUITES, Suite};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Stdio;

/// A receiver on loopback: refuses as often as /run/hook/refuse says, holds an answer back while /run/hook/wait is there,
/// and writes down what came and what was answered, one line each.
const RECEIVER: &str = r#"
import http.server, json, os, time
os.makedirs("/run/hook", exist_ok=True)
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        open("/run/hook/began", "w").close()
        while os.path.exists("/run/hook/wait"):
            time.sleep(0.01)
        try:
            left = int(open("/run/hook/refuse").read())
        except FileNotFoundError:
            left = 0
        if left > 0:
            with open("/run/hook/refuse", "w") as file:
                file.write(str(left - 1))
        answer = 503 if left > 0 else 200
        with open("/run/hook/got", "a") as file:
            file.write(json.dumps({"answer": answer, "body": body}) + "\n")
        self.send_response(answer)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8009), Hook).serve_forever()
"#;

/// Hands on what it reads; fails where nobody listens.
const PAGER: &str = r#"#!/usr/bin/python3
import os, sys, urllib.request
notice = sys.stdin.buffer.read()
print("uid", os.getuid(), "worker", os.environ["WATCHERD_WORKER"], flush=True)
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8009/", data=notice), timeout=60)
"#;

/// Fails of a full disk until somebody lets it, with words that a shell would obey.
const WORKER: &str = "import os, sys, time\n\
    if not os.path.exists('/run/good'):\n\
    \x20   sys.exit('OSError: [Errno 28] No space left on device: \\'a\"b\\' $(touch /run/pwned) `touch /run/pwned` <b>&amp;')\n\
    time.sleep(3600)\n";

const POLICY: &str = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n\
    [cause.disk-full]\naction = \"hold\"\n";

const COMMAND: &str = "[notify]\ncommand = [\"/opt/pager\", \"with words\"]\nretry = \"200ms..400ms\"\n";

fn machine_with(suite: Suite, settings: &str, more: &[(&str, &str)]) -> Machine {
    let python = |script: &str| format!("[Service]\nExecStart=/usr/bin/python3 {script}\n");
    let (hook, worker) = (python("/opt/hook.py"), python("/opt/worker.py"));
    let files = [
        ("/etc/watcherd/watcherd.toml", settings),
        ("/etc/watcherd/workers.d/w.toml", POLICY),
        ("/etc/systemd/system/hook.service", &hook),
        ("/etc/systemd/system/w.service", &worker),
        ("/opt/hook.py", RECEIVER),
        ("/opt/worker.py", WORKER),
        ("/opt/pager", PAGER),
    ];
    let machine = Machine::boot_with(suite, &[&files[..], more].concat());
    machine.ok(&["chmod", "+x", "/opt/pager"]);
    machine
}

/// Starts watcherd, and then the worker, which fails at once.
fn start(machine: &Machine) {
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w.service"]);
}

fn receive(machine: &Machine) {
    machine.ok(&["systemctl", "start", "hook"]);
    machine.until("the receiver", || {
        let open = ["python3", "-c", "import socket; socket.create_connection((\"127.0.0.1\", 8009))"];
        machine.run(&open).status.success().then_some(())
    });
}

/// What the receiver got: the answer and the text.
fn got(machine: &Machine) -> Vec<(u64, String)> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("the receiver writes JSON");
        (line["answer"].as_u64().unwrap_or(0), line["body"].as_str().unwrap_or_default().to_owned())
    };
    machine.read("/run/hook/got").lines().map(read).collect()
}

fn accepted(machine: &Machine) -> Vec<String> {
    got(machine).into_iter().filter(|(answer, _)| *answer == 200).map(|(_, body)| body).collect()
}

/// What watcherd knows of notices; nothing while it is not there.
fn notices(machine: &Machine) -> Vec<Value> {
    let output = machine.run(&["watcherctl", "notify", "--list", "--json=short"]);
    serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap_or_default()
}

#[track_caller]
fn until_state(machine: &Machine, id: u64, state: &str) -> Value {
    machine.until(&format!("notice {id} to be {state}"), || {
        notices(machine).into_iter().find(|notice| notice["Id"] == id && notice["State"] == state)
    })
}

#[test]
fn apprise_sends_a_notice_once_to_a_receiver_that_fails_twice() {
    let settings = "[notify]\nretry = \"200ms..400ms\"\n";
    let apprise = [("/etc/watcherd/apprise.conf", "json://127.0.0.1:8009/\n")];
    let machine = machine_with(Suite::Trixie, settings, &apprise);
    machine.ok(&["chmod", "600", "/etc/watcherd/apprise.conf"]);
    receive(&machine);
    machine.write("/run/hook/refuse", "2");
    start(&machine);
    let sent = until_state(&machine, 1, "sent");
    assert_eq!((&sent["Attempts"], &sent["Stage"], &sent["Final"]), (&3.into(), &"opened".into(), &true.into()));
    let all = got(&machine);
    assert_eq!(all.iter().map(|(answer, _)| *answer).collect::<Vec<_>>(), [503, 503, 200]);
    let message: Value = serde_json::from_str(&all[2].1).expect("apprise sends JSON");
    assert_eq!(
        (&message["type"], &message["title"]),
        (
            &"failure".into(),
            &format!("[{}] w.service is down and needs you (disk-full)", machine.read("/etc/hostname").trim()).into()
        )
    );
    let body = message["message"].as_str().expect("a text");
    for expected in [
        "No space left on device: 'a\"b' $(touch /run/pwned) `touch /run/pwned` <b>&amp;",
        "What to do: Free space, check df -i and quotas, then verify the newest checkpoint; then `watcherctl release 1`",
        "Cause: disk-full",
    ] {
        assert!(body.contains(expected), "{expected} in {body}");
    }
    assert!(!machine.root().join("run/pwned").exists());
    machine.ok(&["touch", "/run/good"]);
    machine.ok(&["watcherctl", "release", "1"]);
    let closed = until_state(&machine, 2, "sent");
    assert_eq!((&closed["Stage"], &closed["Incident"]), (&"closed".into(), &1.into()));
    assert_eq!(accepted(&machine).len(), 2);
    let said = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "SYSLOG_IDENTIFIER=watcherd"]);
    let mentions = |text: &str| said.lines().filter(|line| line.contains(text)).count();
    assert_eq!((mentions("could not be sent"), mentions("was sent")), (1, 2), "{said}");
    let kept = machine.ok(&["find", "/run/watcherd/notices", "-type", "f", "-not", "-empty"]);
    assert_eq!(kept, "", "only marks stay in the spool, and nothing is in them");
}

#[test]
fn a_notice_is_sent_once_whenever_watcherd_ends() {
    for suite in SUITES {
        let mut machine = machine_with(suite, COMMAND, &[]);
        receive(&machine);
        machine.write("/run/hook/wait", "");
        start(&machine);
        machine.until("the attempt", || machine.root().join("run/hook/began").exists().then_some(()));
        // It goes on without watcherd; the next one joins it.
        machine.ok(&["systemctl", "kill", "--signal=KILL", "watcherd"]);
        let again = machine.until("watcherd", || notices(&machine).into_iter().find(|notice| notice["Attempts"] == 2));
        assert_eq!(again["State"], "waiting");
        machine.ok(&["rm", "/run/hook/wait"]);
        until_state(&machine, 1, "sent");
        assert_eq!(accepted(&machine).len(), 1);

        // It ends without watcherd; the next one finds out.
        machine.write("/run/hook/wait", "");
        machine.ok(&["rm", "/run/hook/began"]);
        machine.ok(&["touch", "/run/good"]);
        machine.ok(&["watcherctl", "release", "1"]);
        machine.until("the attempt", || machine.root().join("run/hook/began").exists().then_some(()));
        machine.ok(&["systemctl", "stop", "watcherd"]);
        machine.ok(&["rm", "/run/hook/wait"]);
        machine.until("the mark", || machine.root().join("run/watcherd/notices/2.sent").exists().then_some(()));
        machine.ok(&["systemctl", "start", "watcherd"]);
        until_state(&machine, 2, "sent");
        assert_eq!(accepted(&machine).len(), 2);

        // It waits over a power failure.
        machine.ok(&["systemctl", "stop", "hook"]);
        machine.ok(&["rm", "/run/good"]);
        machine.ok(&["systemctl", "restart", "w.service"]);
        let degraded =
            ["busctl", "get-property", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", "Degraded"];
        machine.until("the failure", || {
            machine.ok(&degraded).contains("notices cannot be sent, the oldest is notice 3").then_some(())
        });
        machine.crash();
        receive(&machine);
        machine.ok(&["systemctl", "start", "watcherd"]);
        until_state(&machine, 3, "sent");
        machine.until("the all-clear", || (machine.ok(&degraded).trim() == "as 0").then_some(()));
        assert_eq!(accepted(&machine).len(), 1, "the receiver has forgotten the others");
        assert!(notices(&machine).iter().all(|notice| notice["State"] == "sent"), "{:?}", notices(&machine));
    }
}

#[test]
fn many_notices_are_each_sent_once_although_watcherd_is_killed_all_the_time() {
    const WORKERS: usize = 20;
    let settings = format!("{COMMAND}per-hour = 500\n");
    // Each fails of its own; of a cause that many may share, one notice would speak for all.
    let policy = POLICY.replace("w.service", "w@*.service").replace("\"hold\"", "\"quarantine\"");
    let policy = policy.replace("disk-full", "app-exception");
    let unit = "[Service]\nExecStart=/usr/bin/python3 /opt/raises.py %i\n";
    let files = [
        ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
        ("/etc/systemd/system/w@.service", unit),
        ("/opt/raises.py", "import sys\nraise ValueError('not a number: ' + sys.argv[1])\n"),
    ];
    let machine = machine_with(Suite::Bookworm, &settings, &files);
    receive(&machine);
    machine.ok(&["systemctl", "start", "watcherd"]);
    let units: Vec<String> = (1..=WORKERS).map(|n| format!("w@{n}.service")).collect();
    let words: Vec<&str> =
        ["systemctl", "start", "--no-block"].into_iter().chain(units.iter().map(String::as_str)).collect();
    machine.ok(&words);
    // It is killed whenever other notices have arrived, as soon as it is there again.
    let kill = ["systemctl", "kill", "--signal=KILL", "--kill-who=main", "watcherd"];
    for round in 1..=8 {
        machine.until("other notices", || (accepted(&machine).len() >= 2 * round).then_some(()));
        machine.until("watcherd", || machine.run(&kill).status.success().then_some(()));
    }
    let told = machine.until("the end", || {
        let all = notices(&machine);
        let over = !all.is_empty() && all.iter().all(|notice| notice["State"] == "sent");
        let told: Vec<Value> =
            accepted(&machine).iter().map(|body| serde_json::from_str(body).expect("JSON")).collect();
        let workers: BTreeSet<String> = told.iter().map(|notice| notice["worker"].to_string()).collect();
        (over && workers.len() == WORKERS).then_some(told)
    });
    let ids: BTreeSet<u64> = told.iter().filter_map(|notice| notice["id"].as_u64()).collect();
    assert_eq!(ids.len(), told.len(), "each notice once: {told:?}");
    let incidents: BTreeSet<u64> = told.iter().filter_map(|notice| notice["incident"].as_u64()).collect();
    assert_eq!(incidents.len(), told.len(), "each incident once: {told:?}");
}

#[test]
fn the_admins_command_gets_the_notice_literally_as_a_user_without_rights() {
    for suite in SUITES {
        let machine = machine_with(suite, COMMAND, &[]);
        receive(&machine);
        start(&machine);
        until_state(&machine, 1, "sent");
        let notice: Value = serde_json::from_str(&accepted(&machine)[0]).expect("JSON");
        assert_eq!((&notice["worker"], &notice["cause"]), (&"w.service".into(), &"disk-full".into()));
        let lines = notice["lines"].to_string();
        assert!(lines.contains("$(touch /run/pwned) `touch /run/pwned` <b>&amp;"), "{lines}");
        assert!(!machine.root().join("run/pwned").exists());
        let said = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "watcherd-notify@1.service"]);
        let line = said.lines().find(|line| line.starts_with("uid ")).expect("the command speaks");
        assert!(line.ends_with(" worker w.service") && !line.starts_with("uid 0 "), "{line}");
        // The journal's own lines about the story have no incident of another worker.
        let story = machine.ok(&["journalctl", "-q", "-o", "cat", "-u", "w.service", "WATCHERD_INCIDENT=1"]);
        assert!(story.contains("a notice about w.service was sent (opened)"), "{story}");
    }
}

#[test]
fn a_test_notice_says_why_it_was_not_sent() {
    let machine = machine_with(Suite::Bookworm, "", &[]);
    start(&machine);
    let tried = |argv: &[&str]| {
        let output = machine.run(argv);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let test = ["watcherctl", "notify", "--test"];
    let (status, said) = tried(&test);
    assert_eq!(status, Some(1));
    assert!(said.contains("cannot send a test notice: nothing is configured to send notices with"), "{said}");
    assert_eq!(tried(&["runuser", "-u", "alice", "--", "watcherctl", "notify", "--test"]).0, Some(77));
    machine.until_property("w.service", "Phase", "held");
    let table = machine.ok(&["watcherctl", "notify", "--list"]);
    assert_eq!(table, "0 notices, 0 of them waiting.\n", "nothing is sent by default");

    // A program that hangs is ended with all that it has begun.
    let hang = "[notify]\ncommand = [\"/bin/sh\", \"-c\", \"sleep 4711 & sleep 4711\"]\n";
    machine.write("/etc/watcherd/watcherd.toml", hang);
    machine.write("/etc/systemd/system/watcherd-notify@.service.d/quick.conf", "[Service]\nTimeoutStartSec=1s\n");
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.ok(&["watcherctl", "reload"]), "change /etc/watcherd/watcherd.toml\n");
    assert_eq!(machine.ok(&["watcherctl", "reload"]), "Nothing changes.\n");
    let (status, said) = tried(&test);
    assert_eq!(status, Some(1));
    let expected = "`journalctl -u watcherd-notify@1.service` may say more";
    assert!(said.contains("watcherd-notify@1.service: the job ended with") && said.contains(expected), "{said}");
    assert!(!machine.run(&["pgrep", "-f", "sleep 4711"]).status.success(), "something is left of it");

    machine.write("/etc/watcherd/watcherd.toml", COMMAND);
    receive(&machine);
    machine.ok(&["watcherctl", "reload"]);
    assert!(tried(&test).1.contains("The test notice was sent."));
    let notice: Value = serde_json::from_str(&accepted(&machine)[0]).expect("JSON");
    assert_eq!((&notice["stage"], &notice["worker"]), (&"test".into(), &Value::Null));
    let table = machine.ok(&["runuser", "-u", "alice", "--", "watcherctl", "notify", "--list"]);
    assert!(table.contains("lost") && table.contains("sent") && table.contains("0 of them waiting"), "{table}");
}

#[test]
fn mail_goes_by_the_machines_own_sendmail() {
    for suite in SUITES {
        let sendmail = "#!/bin/sh\nprintf '<%s>' \"$@\" >/var/spool/words\ngrep NoNewPrivs /proc/self/status >/var/spool/rights\n\
            exec cat >/var/spool/mail-got\n";
        let settings = "[notify]\nmail = \"ops@example.org\"\n";
        let machine = machine_with(suite, settings, &[("/usr/sbin/sendmail", sendmail)]);
        machine.ok(&["chmod", "+x", "/usr/sbin/sendmail"]);
        start(&machine);
        until_state(&machine, 1, "sent");
        assert_eq!(machine.read("/var/spool/words"), "<-i><--><ops@example.org>");
        assert_eq!(machine.read("/var/spool/rights"), "NoNewPrivs:\t0\n", "set-uid programs work");
        let mail = machine.read("/var/spool/mail-got");
        let (headers, body) = mail.split_once("\n\n").expect("headers end");
        assert!(headers.starts_with("To: ops@example.org\nSubject: ["), "{headers}");
        assert!(headers.contains("w.service is down and needs you (disk-full)"), "{headers}");
        assert!(body.contains("$(touch /run/pwned) `touch /run/pwned` <b>&amp;"), "{body}");
        assert!(!machine.root().join("run/pwned").exists());
    }
}

#[test]
fn mail_reaches_a_mailbox_through_postfix_and_through_exim() {
    for suite in SUITES {
        let machine = machine_with(suite, "[notify]\nmail = \"alice@localhost\"\n", &[]);
        if suite == Suite::Bookworm {
            machine.ok(&["systemctl", "start", "postfix"]);
        }
        start(&machine);
        until_state(&machine, 1, "sent");
        // Both deliver in the background, with set-uid or set-gid programs of their own.
        let mail = machine.until("the mail", || {
            let mail = machine.read("/var/mail/alice");
            mail.contains("w.service is down and needs you (disk-full)").then_some(mail)
        });
        assert!(mail.contains("\nTo: alice@localhost\n"), "{mail}");
        assert!(mail.contains("$(touch /run/pwned) `touch /run/pwned` <b>&amp;"), "{mail}");
        assert!(!machine.root().join("run/pwned").exists());
    }
}

#[test]
fn desktops_are_told_without_the_lines_of_logs() {
    let machine = machine_with(Suite::Bookworm, "[notify]\ndesktop = true\n", &[]);
    let rule = "type='signal',interface='net.nuetzlich.SystemNotifications'";
    let listen = ["sh", "-c", "exec busctl monitor --match=\"$1\" --json=short >/run/heard 2>/run/ready", "sh", rule];
    let mut listener = machine.command(&listen).stdout(Stdio::null()).spawn().expect("busctl can be run");
    machine.until("the listener", || machine.read("/run/ready").contains("onitoring").then_some(()));
    start(&machine);
    until_state(&machine, 1, "sent");
    let heard = machine.until("the signal", || machine.read("/run/heard").lines().next().map(str::to_owned));
    listener.kill().and_then(|()| listener.wait()).expect("it can be ended");
    assert!(heard.contains("w.service is down and needs you (disk-full)") && heard.contains("Free space"), "{heard}");
    assert!(!heard.contains("pwned"), "{heard}");
}

#[test]
fn users_have_notices_of_their_own() {
    for suite in SUITES {
        let policy = POLICY.replace("units", "unit").replace("[\"w.service\"]", "\"w.service\"");
        let files = [
            ("/home/alice/.config/watcherd/watcherd.toml", COMMAND),
            ("/home/alice/.config/watcherd/workers.d/w.toml", policy.as_str()),
            ("/home/alice/.config/systemd/user/w.service", "[Service]\nExecStart=/usr/bin/python3 /opt/worker.py\n"),
        ];
        let machine = machine_with(suite, "", &files);
        machine.ok(&["chown", "-R", "alice:alice", "/home/alice"]);
        receive(&machine);
        machine.start_user_manager("alice");
        let ok = |argv: &[&str]| {
            let output = machine.command_as("alice", argv).output().expect("it can be run");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(output.status.success(), "{argv:?}: {}\n{}", text(&output.stderr), machine.story());
            text(&output.stdout)
        };
        ok(&["systemctl", "--user", "start", "watcherd"]);
        ok(&["watcherctl", "--user", "notify", "--test"]);
        ok(&["systemctl", "--user", "start", "w.service"]);
        // A verdict that takes longer than a policy waits for it comes after a restart, and the last word after that.
        machine.until("the notice", || {
            let notices = accepted(&machine);
            let mut notices = notices.iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
            notices.find(|notice| notice["worker"] == "w.service" && notice["final"] == true)
        });
        let table = machine.until("the end", || {
            let table = ok(&["watcherctl", "--user", "notify", "--list"]);
            table.contains("0 of them waiting").then_some(table)
        });
        assert!(table.contains("w.service") && table.contains("opened sent"), "{table}");
    }
}

#[test]
fn the_units_that_send_are_accepted_and_confined() {
    for suite in SUITES {
        let machine = Machine::boot_with(suite, &[("/etc/systemd/system/w.service", SLEEPER)]);
        machine.ok(&["cp", "/usr/lib/systemd/system/watcherd-notify@.service", "/run/watcherd-notify@1.service"]);
        machine.ok(&["cp", "/usr/lib/systemd/system/watcherd-mail@.service", "/run/watcherd-mail@1.service"]);
        for unit in ["/run/watcherd-notify@1.service", "/run/watcherd-mail@1.service"] {
            let output = machine.run(&["systemd-analyze", "verify", "--man=no", unit]);
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            assert!(output.status.success());
        }
        let security = ["systemd-analyze", "security", "--offline=yes", "--threshold=20"];
        machine.ok(&[&security[..], &["/run/watcherd-notify@1.service"]].concat());
    }
}
