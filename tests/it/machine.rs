// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines with a real systemd, for tests: Debian trees in systemd-nspawn with watcherd installed and not started.
//!
//! A machine vanishes with its value, after a panic and after SIGKILL too: tests/system/machine keeps it for as long as
//! this process holds its standard input. Needs root.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// So many machines run at once; more make each other slow.
const MACHINES: u32 = 3;

/// Enough for everything that does not wait on purpose, on a slow machine too.
pub const SOON: Duration = Duration::from_secs(20);

/// A release of Debian, and with it a version of systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// systemd 252, the oldest that is supported.
    Bookworm,
    /// systemd 257.
    Trixie,
}

impl Suite {
    pub const ALL: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

    pub fn as_str(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }

    /// The root tree, made on first use: half a minute, and needs Debian's archive.
    pub fn tree(self) -> PathBuf {
        static TREES: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        TREES[self as usize]
            .get_or_init(|| {
                let path = stdout_of(Command::new(repository().join("tests/system/make-root")).arg(self.as_str()));
                PathBuf::from(path.trim_end())
            })
            .clone()
    }
}

/// Runs the test on a machine of each release, one after the other.
pub fn on_each(test: impl Fn(&mut Machine)) {
    for suite in Suite::ALL {
        test(&mut Machine::boot(suite));
    }
}

/// A running machine; dropping it ends it.
pub struct Machine {
    pub suite: Suite,
    leader: u32,
    keeper: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _slot: Slot,
}

impl Machine {
    /// Boots and waits until systemd has nothing left to start.
    pub fn boot(suite: Suite) -> Machine {
        Machine::boot_with(suite, &[], &[])
    }

    /// Lays more directories over the tree, the last one on top, and gives options to systemd-nspawn.
    pub fn boot_with(suite: Suite, layers: &[&Path], options: &[&str]) -> Machine {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "tests against real systemd need root: sudo make test");
        let (tree, installed) = (suite.tree(), installed());
        let slot = Slot::take();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wd-{}-{number}-{}", std::process::id(), suite.as_str());
        let mut keeper = Command::new(repository().join("tests/system/machine"))
            .args([OsStr::new(&name), tree.as_os_str(), installed.as_os_str()])
            .args(layers)
            .arg("--")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/system/machine can be run");
        let commands = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().expect("stdout is a pipe"));
        let mut machine = Machine { suite, leader: 0, keeper, commands, answers, _slot: slot };
        machine.wait_until_up();
        machine
    }

    /// The host's process id of the machine's PID 1; another one after each boot.
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// A path inside the machine as the host sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{}", self.leader, inside.trim_start_matches('/')))
    }

    /// The address of its system bus, for clients on the host that run as root.
    pub fn bus_address(&self) -> String {
        format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", self.leader)
    }

    /// A command inside, as root, with nothing but PATH in its environment.
    pub fn command<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut command = Command::new(repository().join("tests/system/inside"));
        command.arg(self.leader.to_string());
        command.args(argv).stdin(Stdio::null());
        command
    }

    /// The same for a user of the machine: `alice` and `bob` exist.
    pub fn command_as<S: AsRef<OsStr>>(&self, user: &str, argv: &[S]) -> Command {
        let uid = self.ok(&["id", "-u", user]);
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{}", uid.trim_end());
        let mut command = self.command(&["runuser", "-u", user, "--", "env", "-C"]);
        command.args([&format!("/home/{user}"), &format!("HOME=/home/{user}"), &runtime]).args(argv);
        command
    }

    /// Starts the user's service manager, as a login would.
    pub fn start_user_manager(&self, user: &str) {
        self.ok(&["loginctl", "enable-linger", user]);
        let ready = || self.command_as(user, &["systemctl", "--user", "is-system-running"]).output().is_ok_and(is_up);
        wait_until("the user's service manager is up", SOON, ready);
    }

    pub fn run<S: AsRef<OsStr>>(&self, argv: &[S]) -> Output {
        self.command(argv).output().expect("tests/system/inside can be run")
    }

    /// Runs a command that must succeed; its standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, argv: &[S]) -> String {
        stdout_of(&mut self.command(argv))
    }

    /// Runs a shell script that must succeed; its standard output.
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["bash", "-euc", script])
    }

    /// Starts a command that runs on; end it with its value.
    pub fn spawn<S: AsRef<OsStr>>(&self, argv: &[S]) -> Child {
        self.command(argv).stdout(Stdio::piped()).spawn().expect("tests/system/inside can be run")
    }

    /// Writes a file with mode 0644, and the directories above it.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("the directory can be made");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {inside}: {error}"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("the mode can be set");
    }

    /// Writes an executable file.
    pub fn write_program(&self, inside: &str, text: &str) {
        self.write(inside, text);
        std::fs::set_permissions(self.path(inside), PermissionsExt::from_mode(0o755)).expect("the mode can be set");
    }

    pub fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("cannot read {inside}: {error}"))
    }

    /// Writes a system unit and lets systemd read it.
    pub fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// Writes a policy below /etc/watcherd/workers.d.
    pub fn policy(&self, file: &str, text: &str) {
        self.write(&format!("/etc/watcherd/workers.d/{file}"), text);
    }

    /// Enables watcherd and starts it; returns when it says that it is ready.
    pub fn start_watcherd(&self) {
        self.ok(&["systemctl", "enable", "--quiet", "--now", "watcherd.service"]);
    }

    /// Shuts down in order and boots again, with everything that was written.
    pub fn reboot(&mut self) {
        self.tell("reboot");
        self.wait_until_up();
    }

    /// Kills everything at once, as if the power failed, and boots again.
    pub fn crash(&mut self) {
        self.tell("crash");
        self.wait_until_up();
    }

    fn tell(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("it is there until the drop");
        writeln!(commands, "{command}").expect("the keeper reads");
    }

    fn wait_until_up(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the keeper answers");
        let leader = line.strip_prefix("up ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        self.leader = leader.unwrap_or_else(|| panic!("{} does not boot: its keeper said why", self.suite.as_str()));
    }

    /// The end of the journal, for the reader of a failed test.
    fn last_words(&self) -> String {
        let mut words = format!("\n== the journal of {} ends with ==\n", self.suite.as_str());
        let output = self.command(&["journalctl", "-q", "--no-pager", "-n", "80", "-o", "short-monotonic"]).output();
        match output {
            Ok(output) => words.push_str(&String::from_utf8_lossy(&output.stdout)),
            Err(error) => writeln!(words, "{error}").expect("a string takes everything"),
        }
        words
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader != 0 {
            eprintln!("{}", self.last_words());
        }
        self.commands = None;
        // The keeper ends when its input does; if it cannot be waited for there is nobody left to tell.
        let _ = self.keeper.wait();
    }
}

/// Waits for a condition; panics with `what` if it does not hold in time.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What `make install` puts in place, made once for this process from the programs under test.
pub fn installed() -> PathBuf {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()
}

fn install() -> PathBuf {
    let places = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(places).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("install-"));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may be at it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let place = places.join(format!("install-{}", std::process::id()));
    let binaries = Path::new(env!("CARGO_BIN_EXE_watcherd")).parent().expect("a file has a directory");
    let mut make = Command::new("make");
    make.current_dir(repository()).args(["--silent", "install", "PREFIX=/usr"]);
    make.arg(format!("DESTDIR={}", place.display())).arg(format!("BINARIES={}", binaries.display()));
    make.args(["SYSTEMUNITDIR=/usr/lib/systemd/system", "USERUNITDIR=/usr/lib/systemd/user"]);
    stdout_of(&mut make);
    place
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_up(output: Output) -> bool {
    matches!(output.stdout.trim_ascii(), b"running" | b"degraded")
}

/// Runs a command that must succeed; its standard output.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

/// Counts the machines that run.
struct Slot;

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Slot {
    fn take() -> Slot {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = FREED.wait_while(taken, |taken| *taken >= MACHINES).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

#[path = "machine/tests.rs"]
mod tests;
