// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines for tests: a real systemd in a container, booted in about a second, gone at the end of the test.
//!
//! Each machine has an overlay on a shared root file system, a network of its own, and a cgroup tree of its own (without
//! it, units of the same name in two machines would share a cgroup). watcherd and watcherctl are installed in it by
//! `make install`.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
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

/// Machines that run at once; each one keeps a core busy while it boots.
const AT_ONCE: u32 = 3;
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// Long enough for a machine that is busy with other things.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running machine.
pub struct Machine {
    pub suite: Suite,
    name: String,
    dir: TempDir,
    cgroup: PathBuf,
    nspawn: Child,
    leader: Pid,
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
        assert!(geteuid().is_root(), "these tests boot containers: run them as root, with `make test`");
        let slot = Slot::take();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wd{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().expect("a temporary directory");
        for sub in ["upper", "work", "m"] {
            fs::create_dir(dir.path().join(sub)).expect("a directory");
        }
        let root = dir.path().join("m");
        let lower = format!("{}:{}", installed().display(), base(suite).display());
        let options = format!(
            "lowerdir={lower},upperdir={},workdir={}",
            dir.path().join("upper").display(),
            dir.path().join("work").display()
        );
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .expect("an overlay can be mounted");
        for (path, text) in files {
            write_below(&root, path, text);
        }
        let cgroup = cgroups().join(&name);
        fs::create_dir(&cgroup).expect("a cgroup");
        let log = fs::File::create(dir.path().join("console.log")).expect("a log");
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["-q", "--register=no", "--keep-unit", "--private-network", "-b", "-M", &name, "-D"])
            .arg(&root)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let procs = cgroup.join("cgroup.procs");
        enter_cgroup(&mut command, procs);
        let nspawn = command.spawn().expect("systemd-nspawn is installed");
        let mut machine = Machine { suite, name, dir, cgroup, nspawn, leader: Pid::from_raw(0), _slot: slot };
        machine.wait_until_booted();
        machine
    }

    fn wait_until_booted(&mut self) {
        let parent = self.nspawn.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let leader = wait_for("the container's first process", BOOT_DEADLINE, || {
            let text = fs::read_to_string(&children).ok()?;
            let pid: i32 = text.split_whitespace().next()?.parse().ok()?;
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (comm.trim() == "systemd").then_some(pid)
        });
        self.leader = Pid::from_raw(leader);
        wait_for("the container to be up", BOOT_DEADLINE, || {
            let output = self.command(&["systemctl", "is-system-running", "--wait"]).output().ok()?;
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            matches!(state.as_str(), "running" | "degraded").then_some(())
        });
    }

    /// A command inside the machine, as root.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.args(["-t", &self.leader.to_string(), "-a", "--", "env", "-i", path, "LANG=C.UTF-8", "HOME=/root"]);
        command.args(argv).stdin(Stdio::null());
        command
    }

    /// Runs a command inside the machine.
    pub fn run(&self, argv: &[&str]) -> Output {
        self.command(argv).output().expect("nsenter can be run")
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub fn ok(&self, argv: &[&str]) -> String {
        let output = self.run(argv);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            panic!("{argv:?} failed with {}:\n{text}{errors}\n{}", output.status, self.story());
        }
        text
    }

    /// What watcherd has logged, for messages about a failed test.
    pub fn story(&self) -> String {
        let output = self.run(&["journalctl", "-b", "-n", "60", "--no-pager", "-o", "short-monotonic"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until `condition` holds.
    #[track_caller]
    pub fn until<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        match wait(DEADLINE, condition) {
            Some(value) => value,
            None => panic!("waited in vain for {what}\n{}", self.story()),
        }
    }

    /// Waits until a property of a worker has this value.
    #[track_caller]
    pub fn until_property(&self, worker: &str, property: &str, value: &str) {
        let mut last = String::new();
        let found = wait(DEADLINE, || {
            last = self.property(worker, property);
            (last == value).then_some(())
        });
        assert!(found.is_some(), "waited in vain for {worker} {property}={value}, it is {last}\n{}", self.story());
    }

    /// A property of a worker, as busctl prints it without quotes; empty if there is no such worker.
    pub fn property(&self, worker: &str, property: &str) -> String {
        let path = worker_path(worker);
        let argv = ["busctl", "get-property", "org.watcherd1", &path, "org.watcherd1.Worker", property];
        let output = self.run(&argv);
        let text = String::from_utf8_lossy(&output.stdout);
        let value = text.trim().split_once(' ').map_or("", |(_, value)| value);
        value.trim_matches('"').to_owned()
    }

    /// Calls a method of the manager; returns what busctl prints.
    pub fn call(&self, method: &str, arguments: &[&str]) -> Result<String, String> {
        let mut argv = vec!["busctl", "call", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", method];
        // Arguments may begin with a dash.
        argv.insert(2, "--");
        argv.extend(arguments);
        let output = self.run(&argv);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// The incidents of a worker, newest first.
    pub fn incidents(&self, worker: &str) -> Vec<serde_json::Value> {
        let filter = ["a{sv}", "1", "worker", "s", worker];
        let mut argv = vec!["busctl", "--json=short", "call", "org.watcherd1", "/org/watcherd1"];
        argv.extend(["org.watcherd1.Manager", "ListIncidents"]);
        argv.extend(filter);
        let text = self.ok(&argv);
        let reply: serde_json::Value = serde_json::from_str(&text).expect("busctl prints JSON");
        reply["data"][0].as_array().cloned().unwrap_or_default()
    }

    /// A property of a unit as `systemctl show` prints it.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", unit, "-p", property, "--value"]).trim().to_owned()
    }

    /// Writes a file inside the machine.
    pub fn write(&self, path: &str, text: &str) {
        write_below(&self.root(), path, text);
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    /// Writes a unit file and makes systemd read it.
    pub fn write_unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// The machine's root, seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// The address of the system bus, seen from outside.
    pub fn bus(&self) -> String {
        format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", self.leader)
    }

    /// A process of the machine, as a pid that is valid outside.
    pub fn outer_pid(&self, inner: u32) -> Option<Pid> {
        let tasks = fs::read_dir("/proc").ok()?;
        let ours = fs::read_link(format!("/proc/{}/ns/pid", self.leader)).ok()?;
        tasks.flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
            let last = line.split_whitespace().last()?;
            (namespace == ours && last == inner.to_string()).then(|| Pid::from_raw(pid))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.leader.as_raw() > 0 {
            kill(self.leader, Signal::SIGKILL).ok();
        }
        self.nspawn.kill().ok();
        self.nspawn.wait().ok();
        clean_up(self.dir.path(), &self.cgroup);
    }
}

/// The object path of a worker.
pub fn worker_path(worker: &str) -> String {
    let escaped: String = worker
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect();
    format!("/org/watcherd1/worker/{escaped}")
}

/// Unmounts and removes what a machine leaves.
fn clean_up(dir: &Path, cgroup: &Path) {
    umount2(&dir.join("m"), MntFlags::MNT_DETACH).ok();
    fs::write(cgroup.join("cgroup.kill"), "1").ok();
    wait(Duration::from_secs(5), || {
        remove_cgroups(cgroup);
        (!cgroup.exists()).then_some(())
    });
}

fn remove_cgroups(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroups(&entry.path());
    }
    fs::remove_dir(dir).ok();
}

fn write_below(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Waits for a condition, looking every few milliseconds.
pub fn wait<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn wait_for<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait(deadline, condition).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// The root file system of a suite; made if it is missing.
fn base(suite: Suite) -> PathBuf {
    let name = match suite {
        Suite::Bookworm => "bookworm",
        Suite::Trixie => "trixie",
    };
    let script = source().join("tests/system/make-root");
    let output = Command::new(script).arg(name).stderr(Stdio::inherit()).output().expect("make-root can be run");
    assert!(output.status.success(), "no {name} root file system");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// What `make install` makes, once per test process.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<TempDir> = OnceLock::new();
    let dir = INSTALLED.get_or_init(|| {
        sweep();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let profile = Path::new(env!("CARGO_BIN_EXE_watcherd")).parent().and_then(Path::file_name);
        let profile = profile.and_then(|name| name.to_str()).expect("target/PROFILE/watcherd");
        let output = Command::new("make")
            .current_dir(source())
            .args(["-s", "install", &format!("PROFILE={profile}"), &format!("DESTDIR={}", dir.path().display())])
            .output()
            .expect("make can be run");
        assert!(output.status.success(), "make install failed: {}", String::from_utf8_lossy(&output.stderr));
        // Debian's /lib is a link to /usr/lib; nothing may be installed beside it.
        assert!(!dir.path().join("lib").exists());
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        dir
    });
    dir.path()
}

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The place for cgroup trees of version 2.
fn cgroups() -> &'static Path {
    static CGROUPS: OnceLock<PathBuf> = OnceLock::new();
    CGROUPS.get_or_init(|| {
        let known = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        if let Some(path) = known.into_iter().find(|path| path.join("cgroup.controllers").exists()) {
            return path;
        }
        let path = PathBuf::from("/run/watcherd-tests-cgroup2");
        fs::create_dir_all(&path).expect("a directory");
        mount(Some("cgroup2"), &path, Some("cgroup2"), MsFlags::empty(), None::<&str>).expect("cgroup2 can be mounted");
        path
    })
}

/// Removes what killed test runs have left: their machines, mounts and cgroups.
fn sweep() {
    let Ok(entries) = fs::read_dir(cgroups()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("wd").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid.to_owned());
        let Some(owner) = owner.filter(|pid| pid.chars().all(|c| c.is_ascii_digit())) else { continue };
        if Path::new("/proc").join(&owner).exists() {
            continue;
        }
        let left: Vec<_> = fs::read_dir(std::env::temp_dir())
            .into_iter()
            .flatten()
            .flatten()
            .filter(|dir| dir.file_name().to_string_lossy().starts_with(&format!("{name}-")))
            .collect();
        clean_up(left.first().map_or(Path::new("/nonexistent"), |dir| Box::leak(Box::new(dir.path()))), &entry.path());
        for dir in left {
            fs::remove_dir_all(dir.path()).ok();
        }
    }
}

/// Moves the command into a cgroup before it is executed.
#[expect(unsafe_code, reason = "only async-signal-safe calls are made between fork and exec: open, write, close")]
fn enter_cgroup(command: &mut Command, procs: PathBuf) {
    let path = std::ffi::CString::new(procs.into_os_string().into_encoded_bytes()).expect("no NUL in the path");
    // SAFETY: the closure allocates nothing and calls only open(2), write(2) and close(2).
    unsafe {
        command.pre_exec(move || {
            let file = nix::fcntl::open(path.as_c_str(), nix::fcntl::OFlag::O_WRONLY, nix::sys::stat::Mode::empty())?;
            nix::unistd::write(&file, b"0")?;
            Ok(())
        });
    }
}

/// One of the places for machines that run at once.
struct Slot;

static FREE: (Mutex<u32>, Condvar) = (Mutex::new(AT_ONCE), Condvar::new());

impl Slot {
    fn take() -> Slot {
        let mut free = FREE.0.lock().expect("no test panics while it holds the lock");
        while *free == 0 {
            free = FREE.1.wait(free).expect("no test panics while it holds the lock");
        }
        *free -= 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Ok(mut free) = FREE.0.lock() {
            *free += 1;
            FREE.1.notify_one();
        }
    }
}
