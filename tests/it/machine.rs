// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines for tests: a real systemd in a container, booted in about a second, gone at the end of the test.
//!
//! Each machine has an overlay on a shared root file system, a network of its own, and a cgroup tree of its own (without
//! it, units of the same name in two machines would share a cgroup). watcherd and watcherctl are installed in it by
//! `make install`, or not at all where packages are tested. tests/system/machine keeps a machine for as long as this process holds its standard input, so that
//! nothing is left of it after a panic or a SIGKILL either.

#[path = "machine/guest.rs"]
pub mod guest;

pub use guest::{Guest, worker_path};

use nix::unistd::{Pid, geteuid};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// A Debian release and with it a systemd release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// systemd 252
    Bookworm,
    /// systemd 257
    Trixie,
}

pub const SUITES: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

impl Suite {
    /// The name that Debian gives it.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }
}

/// Machines that run at once; each one keeps a core busy while it boots.
const AT_ONCE: u32 = 3;
/// Long enough for a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running machine.
pub struct Machine {
    /// The machine's PID 1 as the host numbers it.
    pub leader: Pid,
    keeper: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _files: TempDir,
    _slot: Slot,
}

impl Machine {
    /// Boots a machine in which watcherd is installed and running.
    pub fn with_watcherd(suite: Suite) -> Machine {
        let machine = Machine::boot(suite);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine
    }

    /// Boots a machine in which watcherd is installed but not running.
    pub fn boot(suite: Suite) -> Machine {
        Machine::boot_with(suite, &[])
    }

    /// Boots a machine with more files in it.
    pub fn boot_with(suite: Suite, files: &[(&str, &str)]) -> Machine {
        Machine::boot_over(suite, installed(), files)
    }

    /// Boots a machine without watcherd, over which this directory is laid, with more files in it.
    pub fn boot_over(suite: Suite, layer: &Path, files: &[(&str, &str)]) -> Machine {
        assert!(geteuid().is_root(), "these tests boot containers: run them as root, with `make test`");
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let top = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            write_below(top.path(), path, text);
        }
        let tree = base(suite);
        let slot = Slot::take();
        let name = format!("wd-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut keeper = Command::new(source().join("tests/system/machine"))
            .args([OsStr::new(&name), tree.as_os_str(), layer.as_os_str(), top.path().as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/system/machine can be run");
        let commands = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().expect("stdout is a pipe"));
        let leader = Pid::from_raw(0);
        let mut machine = Machine { leader, keeper, commands, answers, _files: top, _slot: slot };
        machine.wait_until_booted();
        machine
    }

    fn wait_until_booted(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the keeper answers");
        let leader = line.strip_prefix("up ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        self.leader = Pid::from_raw(leader.expect("the machine boots; its keeper said why not"));
    }

    /// Shuts down in order and boots again, with everything that was written.
    pub fn reboot(&mut self) {
        self.tell("reboot");
    }

    /// Kills everything at once, as if the power failed, and boots again.
    pub fn crash(&mut self) {
        self.tell("crash");
    }

    fn tell(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("it is there until the drop");
        writeln!(commands, "{command}").expect("the keeper reads");
        self.wait_until_booted();
    }

    /// A command inside the machine, as root.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(source().join("tests/system/inside"));
        command.arg(self.leader.to_string()).args(argv).stdin(Stdio::null());
        command
    }

    /// A command inside the machine as a user of it, `alice` say.
    pub fn command_as(&self, user: &str, argv: &[&str]) -> Command {
        let uid = self.ok(&["id", "-u", user]);
        let home = format!("/home/{user}");
        let mut command = self.command(&["runuser", "-u", user, "--", "env", "-C", &home]);
        command.args([format!("HOME={home}"), format!("XDG_RUNTIME_DIR=/run/user/{}", uid.trim())]).args(argv);
        command
    }

    /// Starts a user's service manager, as a login would.
    #[track_caller]
    pub fn start_user_manager(&self, user: &str) {
        self.ok(&["loginctl", "enable-linger", user]);
        self.until("the user's service manager", || {
            let output = self.command_as(user, &["systemctl", "--user", "is-system-running"]).output().ok()?;
            matches!(output.stdout.trim_ascii(), b"running" | b"degraded").then_some(())
        });
    }

    /// The machine's root, seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// The address of the system bus, seen from outside.
    pub fn bus(&self) -> String {
        format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", self.leader)
    }
}

impl Guest for Machine {
    fn run(&self, argv: &[&str]) -> Output {
        // What never ends is a failure, too.
        let mut limited = Command::new("timeout");
        limited
            .args(["-k", "10", "300"])
            .arg(source().join("tests/system/inside"))
            .arg(self.leader.to_string())
            .args(argv);
        limited.stdin(Stdio::null()).output().expect("timeout can be run")
    }

    fn write(&self, path: &str, text: &str) {
        write_below(&self.root(), path, text);
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    fn patience(&self) -> Duration {
        DEADLINE
    }
}

impl Deref for Machine {
    type Target = dyn Guest;

    fn deref(&self) -> &(dyn Guest + 'static) {
        self
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The keeper ends when its input does; if it cannot be waited for there is nobody left to tell.
        self.commands = None;
        self.keeper.wait().ok();
    }
}

fn write_below(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The root file system of a suite; made if it is missing.
pub fn base(suite: Suite) -> PathBuf {
    let name = suite.name();
    let script = source().join("tests/system/make-root");
    let output = Command::new(script).arg(name).stderr(Stdio::inherit()).output().expect("make-root can be run");
    assert!(output.status.success(), "no {name} root file system");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// What `make install` makes, once per test process; the next process removes it.
pub fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let place = place("install");
        let profile = programs().file_name().and_then(|name| name.to_str()).expect("target/PROFILE/watcherd");
        let output = Command::new("make")
            .current_dir(source())
            .args(["-s", "install", &format!("PROFILE={profile}"), &format!("DESTDIR={}", place.display())])
            .output()
            .expect("make can be run");
        assert!(output.status.success(), "make install failed: {}", String::from_utf8_lossy(&output.stderr));
        // Debian's /lib is a link to /usr/lib; nothing may be installed beside it.
        assert!(!place.join("lib").exists());
        place
    })
}

/// The directory with the programs that are tested.
pub fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_watcherd")).parent().expect("target/PROFILE")
}

/// A directory of this process that does not exist yet; those of processes that have ended are removed.
pub fn place(what: &str) -> PathBuf {
    let places = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(places).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(what)?.strip_prefix('-'));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    places.join(format!("{what}-{}", std::process::id()))
}

/// The root of the project.
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One of the places for machines that run at once.
struct Slot;

static FREE: (Mutex<u32>, Condvar) = (Mutex::new(AT_ONCE), Condvar::new());

impl Slot {
    fn take() -> Slot {
        let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = FREE.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREE.1.notify_one();
    }
}

#[path = "machine/tests.rs"]
mod tests;
