// SPDX-License-Identifier: MIT OR Apache-2.0
//! A virtual machine for the tests that need a kernel of their own: memory limits, the OOM killer, core dumps, the
//! freezer, kernel lines.
//!
//! It takes ten to twenty seconds to boot where there is no KVM, so all tests of a process share one, in which the Debian
//! package is installed; each uses units of its own. The life of a package is played before the others begin. Commands go to tests/system/guest/usr/local/sbin/test-agent through a serial port, any number at once.
//! tests/system/vm keeps the machine for as long as this process holds its standard input, so that nothing is left of it
//! after a panic or a SIGKILL either.

mod facts;
mod freezer;
mod lives;
mod package;
mod story;

use crate::machine::{Guest, Suite, source};
use crate::package::{PACKAGE, layer};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Long enough for an emulated processor on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// Policies for the units of the tests: what fails stays as it fell, to be looked at; units named `quick-…` start again,
/// and so does what hangs or leaks.
const POLICIES: [(&str, &str); 3] = [
    (
        "/etc/watcherd/workers.d/vm.toml",
        "[worker]\nunits = [\"vm-*.service\"]\n[restart]\nback-off = \"1h\"\nverify = \"1s\"\n",
    ),
    (
        "/etc/watcherd/workers.d/quick.toml",
        "[worker]\nunits = [\"quick-*.service\"]\n[restart]\nback-off = \"100ms\"\nverify = \"1s\"\n",
    ),
    (
        "/etc/watcherd/workers.d/lives.toml",
        "[worker]\nunits = [\"lives-*.service\"]\n[progress]\nfile = \"/run/%N\"\nstall-after = \"5s\"\nwarm-up = \"1h\"\n\
         [limits]\nmemory = \"24M\"\nfor = \"5s\"\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n",
    ),
];

/// A running virtual machine.
pub struct Vm {
    /// Ends the machine when it is closed, which happens when this process ends.
    _input: ChildStdin,
    _keeper: Child,
    console: PathBuf,
    requests: Mutex<Requests>,
    waiting: Arc<Mutex<Waiting>>,
    /// What went wrong in the life of the package, if anything; nothing if it was not played yet.
    package_lived: Option<Result<(), String>>,
}

struct Requests {
    last: u64,
    agent: UnixStream,
}

/// Who waits for which reply; nobody can once the machine is gone.
type Waiting = Option<HashMap<u64, Sender<Value>>>;

impl Vm {
    /// The machine of this process, with watcherd running; booted by the first caller.
    pub fn shared() -> &'static Vm {
        static SHARED: OnceLock<Vm> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut vm = Vm::boot(Suite::Bookworm);
            let lived = catch_unwind(AssertUnwindSafe(|| package::live(&vm)));
            vm.package_lived = Some(lived.map_err(|panic| match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => format!("{:?}", panic.downcast_ref::<&str>()),
            }));
            vm.ok(&["dpkg", "-i", PACKAGE]);
            for (path, text) in POLICIES {
                vm.write(path, text);
            }
            vm.ok(&["systemctl", "restart", "watcherd"]);
            vm
        })
    }

    /// Boots a machine in which the package is, and not installed.
    fn boot(suite: Suite) -> Vm {
        assert!(geteuid().is_root(), "these tests boot a virtual machine: run them as root, with `make test`");
        let script = source().join("tests/system/make-vm");
        let output =
            Command::new(script).arg(suite.name()).stderr(Stdio::inherit()).output().expect("make-vm can be run");
        assert!(output.status.success(), "no disk for a virtual machine");
        let mut keeper = Command::new(source().join("tests/system/vm"))
            .args([String::from_utf8_lossy(&output.stdout).trim()])
            .arg(layer())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/system/vm can be run");
        let input = keeper.stdin.take().expect("stdin is a pipe");
        let mut line = String::new();
        let mut answers = BufReader::new(keeper.stdout.take().expect("stdout is a pipe"));
        answers.read_line(&mut line).expect("the keeper answers");
        let (agent, console) = line
            .trim()
            .strip_prefix("up ")
            .and_then(|rest| rest.split_once(' '))
            .expect("the machine boots; its keeper said why not");
        let agent = UnixStream::connect(agent).expect("QEMU listens");
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let replies = agent.try_clone().expect("a socket can be cloned");
        let inbox = Arc::clone(&waiting);
        std::thread::spawn(move || deliver(replies, &inbox));
        let vm = Vm {
            _input: input,
            _keeper: keeper,
            console: console.into(),
            requests: Mutex::new(Requests { last: 0, agent }),
            waiting,
            package_lived: None,
        };
        vm.wait_until_booted();
        vm
    }

    fn wait_until_booted(&self) {
        let state = self.run(&["systemctl", "is-system-running", "--wait"]);
        let state = String::from_utf8_lossy(&state.stdout);
        assert!(matches!(state.trim(), "running" | "degraded"), "the machine is {state}\n{}", self.story());
    }

    /// Shuts down in order and boots again; what was written to the disk stays.
    fn reboot(&self) {
        let boot_id = ["cat", "/proc/sys/kernel/random/boot_id"];
        let before = self.ok(&boot_id);
        self.ask(&["systemctl", "reboot"], "", Duration::from_secs(5));
        // What is asked while the machine is down may never be answered.
        self.until("the next boot", || {
            let answer = self.ask(&boot_id, "", Duration::from_secs(5))?;
            (answer.status.success() && answer.stdout != before.as_bytes()).then_some(())
        });
        self.wait_until_booted();
    }

    /// Runs a command inside with this standard input.
    fn run_with(&self, argv: &[&str], input: &str) -> Output {
        self.ask(argv, input, PATIENCE).unwrap_or_else(|| {
            panic!("no reply from the machine to {argv:?}; the end of its console:\n{}", self.console())
        })
    }

    /// Runs a command inside with this standard input; nothing if there is no reply in time.
    fn ask(&self, argv: &[&str], input: &str, patience: Duration) -> Option<Output> {
        let (sender, reply) = mpsc::channel();
        let sent = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.last += 1;
            let id = requests.last;
            if let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                waiting.insert(id, sender);
            }
            let input: String = input.bytes().map(char::from).collect();
            writeln!(requests.agent, "{}", json!({"id": id, "argv": argv, "input": input}))
        };
        let reply = sent.ok().and_then(|()| reply.recv_timeout(patience).ok())?;
        Some(Output {
            status: ExitStatus::from_raw(reply["status"].as_i64().and_then(|n| n.try_into().ok()).expect("a status")),
            stdout: bytes(&reply["out"]),
            stderr: bytes(&reply["err"]),
        })
    }

    /// The last lines that the machine wrote to its console.
    fn console(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Hands each reply to who waits for it, until the machine is gone.
fn deliver(replies: UnixStream, waiting: &Mutex<Waiting>) {
    for line in BufReader::new(replies).lines() {
        let Some(reply) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else { break };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = reply["id"].as_u64().and_then(|id| waiting.as_mut()?.remove(&id));
        // Who has given up waiting has said so.
        receiver.map(|receiver| receiver.send(reply));
    }
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The bytes of a text in which each character is one.
fn bytes(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("a text");
    text.chars().map(|c| u8::try_from(c).expect("a character is a byte")).collect()
}

impl Guest for Vm {
    fn run(&self, argv: &[&str]) -> Output {
        self.run_with(argv, "")
    }

    fn write(&self, path: &str, text: &str) {
        let script = "mkdir -p \"${1%/*}\" && cat >\"$1\"";
        let output = self.run_with(&["sh", "-c", script, "sh", path], text);
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.run(&["cat", path]).stdout).into_owned()
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

impl Deref for Vm {
    type Target = dyn Guest;

    fn deref(&self) -> &(dyn Guest + 'static) {
        self
    }
}
