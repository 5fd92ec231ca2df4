// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs resume from the newest checkpoint that is whole, broken ones are set aside, and old ones removed.

use crate::machine::{Guest, Machine, SUITES, Suite};

/// Writes down what it was told, and goes on for ever.
const WORKER: &str = "#!/bin/sh\nprintf '%s\\n' \"${WATCHERD_RESUME_FROM-none}\" >>/run/told\nexec sleep 1000\n";

/// Makes two archives, the second of which is cut off; what it is given is older than both.
const MAKE: &str = r#"
import os, zipfile
os.makedirs("/srv/ckpt", exist_ok=True)
for step, at in ((1, 1000000000), (2, 1000000100)):
    path = f"/srv/ckpt/step-{step}.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", os.urandom(5000))
    if step == 2:
        os.truncate(path, 3000)
    os.utime(path, (at, at))
os.symlink("step-2.pt", "/srv/ckpt/latest")
"#;

/// Writes three checkpoints in the directory that it is told, and is killed within the fourth; goes on from the one that it
/// is told of.
const TRAINING: &str = r#"
import os, signal, sys, time, zipfile
directory = sys.argv[1]
resume = os.environ.get("WATCHERD_RESUME_FROM", "nothing")
print("from", resume, flush=True)
def save(number):
    with zipfile.ZipFile(f"{directory}/{number}.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(100_000))
    time.sleep(0.02)
if resume == "nothing" and not os.path.exists(f"{directory}/2.pt"):
    for number in range(1, 5):
        save(number)
    os.truncate(f"{directory}/4.pt", 50_000)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1000)
"#;

const QUICK: &str = "[restart]\nback-off = \"0s\"\nverify = \"1s\"\nreset-after = \"1h\"\n";

fn machine(suite: Suite, policy: &str, files: &[(&str, &str)]) -> Machine {
    let policy = format!("[worker]\nunits = [\"w.service\", \"w@*.service\"]\n{QUICK}{policy}");
    let always = [
        ("/etc/watcherd/workers.d/w.toml", policy.as_str()),
        ("/opt/worker", WORKER),
        ("/opt/make.py", MAKE),
        ("/opt/train.py", TRAINING),
    ];
    let machine = Machine::boot_with(suite, &[&always[..], files].concat());
    machine.ok(&["chmod", "+x", "/opt/worker"]);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine
}

fn told(machine: &Machine, lines: usize) -> Vec<String> {
    machine.until("the next run", || {
        let told = machine.read("/run/told");
        (told.lines().count() >= lines).then(|| told.lines().map(str::to_owned).collect())
    })
}

fn said(machine: &Machine, unit: &str) -> String {
    machine.ok(&["journalctl", "-q", "-o", "cat", "-u", unit])
}

fn until_said(machine: &Machine, unit: &str, text: &str) {
    machine.until(text, || said(machine, unit).contains(text).then_some(()));
}

/// What is in a directory; of what was set aside without the time.
fn names(machine: &Machine, directory: &str) -> Vec<String> {
    let listed = machine.ok(&["ls", "-1", directory]);
    let shown = |name: &str| match name.split_once(".broken-2") {
        Some((before, _)) => format!("{before} aside"),
        None => name.to_owned(),
    };
    listed.lines().map(shown).collect()
}

#[test]
fn a_training_that_was_killed_while_it_saved_goes_on_from_the_checkpoint_before() {
    for suite in SUITES {
        let policy = "[checkpoints]\npath = \"/srv/%i/ckpt/*\"\nkeep = 2\nmax-age = \"1h\"\n";
        let unit = "[Service]\nUser=alice\nExecStart=/usr/bin/python3 /opt/train.py /srv/%i/ckpt\n";
        let machine = machine(suite, policy, &[("/etc/systemd/system/w@.service", unit)]);
        machine.ok(&["install", "-d", "-m", "700", "-o", "alice", "/srv/1", "/srv/1/ckpt"]);
        machine.ok(&["systemctl", "start", "w@1"]);
        until_said(&machine, "w@1.service", "from /srv/1/ckpt/3.pt\n");
        assert_eq!(names(&machine, "/srv/1/ckpt"), ["2.pt", "3.pt", "4.pt aside"], "{}", machine.story());
        for part in [
            "set aside, because they are no whole checkpoints: 4.pt (the end of the archive is missing)",
            "removed checkpoints that newer ones replace: 1.pt",
            "the next run resumes from /srv/1/ckpt/3.pt",
        ] {
            until_said(&machine, "w@1.service", part);
        }
        machine.until_property("w@1.service", "Phase", "working");
        let table = machine.ok(&["watcherctl", "checkpoints", "w@1"]);
        assert!(table.contains("→ 3.pt") && table.contains("PyTorch valid"), "{table}");
        // Whoever starts it by himself gets none, rather than an old one.
        machine.ok(&["systemctl", "restart", "w@1"]);
        machine.until("the run of somebody else", || {
            (said(&machine, "w@1.service").matches("from nothing\n").count() == 2).then_some(())
        });
    }
}

#[test]
fn what_is_wrong_with_checkpoints_is_an_exit_status() {
    let policy = "[checkpoints]\npath = \"/srv/%i/*\"\nmax-age = \"1h\"\n";
    let unit = ("/etc/systemd/system/w@.service", "[Service]\nExecStart=/opt/worker\n");
    let machine = machine(Suite::Bookworm, policy, &[unit]);
    machine.ok(&["python3", "/opt/make.py"]);
    machine.ok(&["systemctl", "start", "w@ckpt"]);
    machine.until_property("w@ckpt.service", "Phase", "working");
    let shown = |options: &[&str]| {
        let shown = machine.run(&[&["watcherctl", "checkpoints", "w@ckpt"], options].concat());
        (shown.status.code(), String::from_utf8_lossy(&shown.stdout).into_owned())
    };
    let (code, text) = shown(&[]);
    assert_eq!(code, Some(3), "{text}");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines[1].starts_with(&["step-2.pt"]) && lines[1].contains(&"broken"), "{text}");
    assert!(lines[2].starts_with(&["→", "step-1.pt"]) && lines[2].contains(&"valid"), "{text}");
    assert!(text.ends_with("2 checkpoints match /srv/ckpt/*; the newest is broken\n"), "{text}");
    let (_, text) = shown(&["--json=short"]);
    let rows: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&rows[0]["State"], &rows[1]["Resume"]), (&"broken".into(), &true.into()), "{rows}");
    machine.ok(&["rm", "/srv/ckpt/step-2.pt"]);
    let (code, text) = shown(&[]);
    assert!(code == Some(3) && text.ends_with("; the newest is older than 1h\n"), "{text}");
    machine.ok(&["touch", "/srv/ckpt/step-1.pt"]);
    assert_eq!(shown(&[]).0, Some(0));
    // With none that is whole there is no variable; nothing is touched while the worker may still write.
    machine.ok(&["truncate", "-s", "3000", "/srv/ckpt/step-1.pt"]);
    machine.ok(&["watcherctl", "restart", "w@ckpt"]);
    assert_eq!(told(&machine, 2), ["none", "none"]);
    assert_eq!(names(&machine, "/srv/ckpt"), ["latest", "step-1.pt"]);
    let none = machine.run(&["watcherctl", "checkpoints", "w@none"]);
    assert_eq!(none.status.code(), Some(4));
}

#[test]
fn a_command_that_watcherd_runs_resumes_too_and_a_verification_has_its_say() {
    let files = [("/usr/local/bin/check", "#!/bin/sh\necho \"$1\" | grep -q 'step-[13]'\n")];
    let machine = machine(Suite::Trixie, "", &files);
    machine.ok(&["chmod", "+x", "/usr/local/bin/check"]);
    machine.ok(&["python3", "/opt/make.py"]);
    machine.ok(&[
        "watcherctl",
        "run",
        "--name",
        "t",
        "--policy",
        "restart.back-off=0s",
        "--policy",
        "restart.verify=1s",
        "--policy",
        "checkpoints.path=/srv/ckpt/*",
        "--policy",
        "checkpoints.verify=[\"/usr/local/bin/check\"]",
        "--",
        "/opt/worker",
    ]);
    assert_eq!(told(&machine, 1), ["/srv/ckpt/step-1.pt"]);
    // Whole, but refused by the command.
    machine.ok(&["cp", "/srv/ckpt/step-1.pt", "/srv/ckpt/step-4.pt"]);
    machine.ok(&["systemctl", "kill", "--signal=KILL", "t"]);
    assert_eq!(told(&machine, 2)[1], "/srv/ckpt/step-1.pt", "{}", machine.story());
    assert_eq!(names(&machine, "/srv/ckpt"), ["latest", "step-1.pt", "step-2.pt aside", "step-4.pt aside"]);
    machine.ok(&["cp", "/srv/ckpt/step-1.pt", "/srv/ckpt/step-3.pt"]);
    machine.until_property("t.service", "Phase", "working");
    machine.ok(&["systemctl", "kill", "--signal=KILL", "t"]);
    assert_eq!(told(&machine, 3)[2], "/srv/ckpt/step-3.pt", "{}", machine.story());
}

#[test]
fn a_command_that_watcherd_runs_goes_on_from_an_odd_name() {
    for suite in SUITES {
        let machine = machine(suite, "", &[]);
        let directory = "/srv/a $HOME \"b\" \\c 50%n 'd' #e";
        machine.ok(&["mkdir", directory]);
        let path = format!("checkpoints.path={}/*.pt", directory.replace('%', "%%"));
        let mut argv = vec!["watcherctl", "run", "--name", "t", "--policy", "restart.back-off=0s", "--policy", &path];
        argv.extend(["--", "/usr/bin/python3", "/opt/train.py", directory]);
        machine.ok(&argv);
        until_said(&machine, "t.service", &format!("from {directory}/3.pt\n"));
        assert_eq!(names(&machine, directory), ["1.pt", "2.pt", "3.pt", "4.pt aside"]);
    }
}

#[test]
fn an_odd_name_reaches_a_unit_that_exists_literally() {
    for suite in SUITES {
        let directory = "/srv/a $HOME \"b\" \\c 50%n 'd' #e";
        let policy = format!("[checkpoints]\npath = '''{}/*.pt'''\n", directory.replace('%', "%%"));
        let unit = ("/etc/systemd/system/w.service", "[Service]\nExecStart=/opt/worker\n");
        let machine = machine(suite, &policy, &[unit]);
        machine.ok(&["mkdir", directory]);
        machine.ok(&["python3", "/opt/make.py"]);
        machine.ok(&["cp", "/srv/ckpt/step-1.pt", directory]);
        machine.ok(&["watcherctl", "start", "w"]);
        assert_eq!(told(&machine, 1), [format!("{directory}/step-1.pt")]);
    }
}

#[test]
fn a_command_of_the_policy_judges_as_the_owner() {
    let policy = "[checkpoints]\npath = \"/srv/ckpt/*\"\n\
        verify = [\"/bin/sh\", \"-c\", \"id -un >>/srv/ckpt/.who; grep -q good \\\"$1\\\"\", \"sh\"]\n";
    let unit = "[Service]\nUser=alice\nExecStart=/bin/sh -c 'echo from $WATCHERD_RESUME_FROM; sleep 1000'\n";
    let files =
        [("/etc/systemd/system/w.service", unit), ("/srv/ckpt/1", "good"), ("/srv/ckpt/2", "bad"), ("/srv/ckpt/3", "")];
    let machine = machine(Suite::Trixie, policy, &files);
    for (file, age) in [("/srv/ckpt/1", "3 hours ago"), ("/srv/ckpt/2", "2 hours ago"), ("/srv/ckpt/3", "1 hour ago")] {
        machine.ok(&["touch", "-d", age, file]);
    }
    machine.ok(&["chown", "-R", "alice", "/srv/ckpt"]);
    machine.ok(&["chmod", "700", "/srv/ckpt"]);
    machine.ok(&["watcherctl", "start", "w"]);
    until_said(&machine, "w.service", "from /srv/ckpt/1\n");
    assert_eq!(names(&machine, "/srv/ckpt"), ["1", "2 aside", "3"]);
    let who = machine.read("/srv/ckpt/.who");
    assert!(!who.is_empty() && who.lines().all(|line| line == "alice"), "{who}");
}

#[test]
fn a_worker_cannot_lead_root_to_files_that_are_not_its_own() {
    let policy = "[checkpoints]\npath = \"/srv/w/ckpt/*\"\nkeep = 2\n";
    let files = [
        ("/etc/systemd/system/w.service", "[Service]\nUser=alice\nExecStart=/opt/worker\n"),
        ("/srv/precious/empty.pt", ""),
        ("/srv/precious/secret.json", "{\"password\": 1}"),
    ];
    let machine = machine(Suite::Bookworm, policy, &files);
    machine.ok(&["chmod", "600", "/srv/precious/secret.json"]);
    machine.ok(&["install", "-d", "-o", "alice", "/srv/w"]);
    machine.ok(&["touch", "/run/told"]);
    machine.ok(&["chown", "alice", "/run/told"]);
    machine.ok(&["runuser", "-u", "alice", "--", "ln", "-s", "/srv/precious", "/srv/w/ckpt"]);
    machine.ok(&["watcherctl", "start", "w"]);
    assert_eq!(told(&machine, 1), ["none"]);
    until_said(&machine, "w.service", "/srv/w/ckpt/empty.pt cannot be set aside: permission denied");
    until_said(&machine, "w.service", "secret.json (it cannot be read: permission denied)");
    assert_eq!(names(&machine, "/srv/precious"), ["empty.pt", "secret.json"]);
}

#[test]
fn a_user_that_exists_only_while_the_unit_runs_has_checkpoints_too() {
    for suite in SUITES {
        let policy = "[checkpoints]\npath = \"/var/lib/w/ckpt/*.pt\"\nkeep = 2\n";
        let unit = "[Service]\nDynamicUser=yes\nStateDirectory=w/ckpt\n\
            ExecStart=/usr/bin/python3 /opt/train.py /var/lib/w/ckpt\n";
        let machine = machine(suite, policy, &[("/etc/systemd/system/w.service", unit)]);
        machine.ok(&["systemctl", "start", "w"]);
        until_said(&machine, "w.service", "from /var/lib/w/ckpt/3.pt\n");
        assert_eq!(names(&machine, "/var/lib/private/w/ckpt"), ["2.pt", "3.pt", "4.pt aside"]);
    }
}

#[test]
fn a_users_own_watcherd_looks_after_checkpoints_too() {
    for suite in SUITES {
        let policy = format!(
            "[worker]\nunits = [\"u.service\"]\n{QUICK}[checkpoints]\npath = \"/home/alice/ckpt/*\"\nkeep = 2\n"
        );
        let unit = "[Service]\nExecStart=/usr/bin/python3 /opt/train.py /home/alice/ckpt\n";
        let files = [
            ("/home/alice/.config/watcherd/workers.d/u.toml", policy.as_str()),
            ("/home/alice/.config/systemd/user/u.service", unit),
        ];
        let machine = machine(suite, "", &files);
        machine.ok(&["install", "-d", "-o", "alice", "/home/alice/ckpt"]);
        machine.ok(&["chown", "-R", "alice:", "/home/alice"]);
        machine.start_user_manager("alice");
        let user = |argv: &[&str]| machine.command_as("alice", argv).output().expect("it can be run");
        assert!(user(&["systemctl", "--user", "start", "watcherd", "u.service"]).status.success());
        machine.until("the checkpoint set aside", || {
            (names(&machine, "/home/alice/ckpt") == ["2.pt", "3.pt", "4.pt aside"]).then_some(())
        });
        machine.until("the arrow", || {
            let table = user(&["watcherctl", "--user", "checkpoints", "u"]);
            String::from_utf8_lossy(&table.stdout).contains("→ 3.pt").then_some(())
        });
    }
}
