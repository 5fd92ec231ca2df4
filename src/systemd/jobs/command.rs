// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a short command as a unit of its own, in a sandbox, and brings what it prints.
//!
//! Whoever configures a command trusts it; the sandbox keeps its mistakes small. The system's service manager runs it as a
//! user that exists only meanwhile; a user's service manager runs it as that user, without what needs privileges. Our own
//! program is run the same way for what the daemon itself must not do.

use super::super::proxy::Property;
use super::{Failure, Jobs, call};
use crate::engine::ids::WorkerName;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout};
use zbus::{Fd, OwnedObjectPath, Variant};

/// What the names of the units begin with that are made here and in [`super::hook`]; they are no workers.
pub const COMMAND_UNITS: [&str; 5] =
    ["watcherd-progress-", "watcherd-hook-", "watcherd-sweep-", "watcherd-reach-", "watcherd-checkpoints-"];

/// The most that a command may print, in bytes.
const OUTPUT_MAX: usize = 1 << 20;
/// How long it may run.
const RUNTIME_MAX: Duration = Duration::from_secs(30);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// So long after its time is up a unit must be down, or systemd is not well.
pub(super) const DOWN_LAG: Duration = Duration::from_secs(10);
/// How long the end of the output may lag behind the end of the unit.
const OUTPUT_LAG: Duration = Duration::from_secs(1);
const MEMORY_MAX: u64 = 256 << 20;
const DEBUGGER_MEMORY_MAX: u64 = 2 << 30;
/// Whoever verifies a checkpoint may have to load it.
const MEMORY_OF_OWNER_MAX: u64 = 4 << 30;
const TASKS_MAX: u64 = 64;
/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_SYS_ADMIN, the last for /proc/PID/stack; see capabilities(7).
const READING_CAPABILITIES: u64 = 1 << 2 | 1 << 19 | 1 << 21;
/// CAP_DAC_READ_SEARCH, CAP_KILL and CAP_SYS_PTRACE.
const ENDING_CAPABILITIES: u64 = 1 << 2 | 1 << 5 | 1 << 19;
/// CAP_DAC_READ_SEARCH, CAP_SETGID and CAP_SETUID.
const CHANGING_CAPABILITIES: u64 = 1 << 2 | 1 << 6 | 1 << 7;

/// A command whose output is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The worker that it tells about.
    pub worker: WorkerName,
    /// Tells it from the other commands of the worker.
    pub index: usize,
    /// Program and arguments, taken literally; the program is an absolute path.
    pub argv: Vec<Arc<str>>,
    pub sandbox: Sandbox,
}

/// How a command is kept from doing harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// A user of its own, no writing, no new privileges: what the system's service manager can do.
    System,
    /// Root with what it takes to read about all processes, and no more; failures are the command's own affair.
    Kernel,
    /// As `Kernel`, with memory for the symbols of large programs: a debugger.
    Debugger,
    /// Root with what it takes to read about all processes and to end them, and no more.
    Sweep,
    /// Root with what it takes to find files and to become their owner, and no more; it may write where the order says.
    Owner,
    /// As `System`, without any capability: what the policy has done after a restart.
    Hook,
    /// No new privileges: what a user's service manager can do on every machine.
    User,
}

/// What our own program is run for, as a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Ends what is left of a run.
    Sweep,
    /// Finds out whether a server can be reached.
    Reach,
}

impl Errand {
    fn prefix(self) -> &'static str {
        match self {
            Errand::Sweep => "watcherd-sweep-",
            Errand::Reach => "watcherd-reach-",
        }
    }
}

/// What the names of the units begin with that send notices.
const NOTICE_UNITS: [&str; 2] = ["watcherd-notify@", "watcherd-mail@"];

/// Whether a unit is one that watcherd starts for itself; it is no worker.
pub fn is_ours(unit: &str) -> bool {
    COMMAND_UNITS.iter().chain(&NOTICE_UNITS).any(|prefix| unit.starts_with(prefix))
}

impl Sandbox {
    fn reads_processes(self) -> bool {
        matches!(self, Sandbox::Kernel | Sandbox::Debugger)
    }
}

/// A unit to be made.
pub(super) struct Order<'a> {
    /// Its name.
    pub unit: String,
    pub description: String,
    pub argv: &'a [Arc<str>],
    pub sandbox: Sandbox,
    /// Below this directory it may write, whatever the sandbox says.
    pub writes: Option<&'a str>,
    /// How long it may run.
    pub within: Duration,
}

impl Jobs {
    /// Runs a command to its end, at most about half a minute, and returns what it printed; the error is a fragment.
    pub async fn run(&self, command: &Command) -> Result<Vec<u8>, String> {
        let what = if command.sandbox.reads_processes() { "Stacks" } else { "Progress" };
        let order = Order {
            unit: unit(command),
            description: format!("{what} of {}", command.worker),
            argv: &command.argv,
            sandbox: command.sandbox,
            writes: None,
            within: RUNTIME_MAX,
        };
        self.carry(&order).await
    }

    /// Runs our own program about `subject` to its end, and returns what it printed; the error is a fragment. One that
    /// runs already for the same purpose is ended first.
    pub async fn run_errand(
        &self,
        errand: Errand,
        subject: &str,
        argv: &[Arc<str>],
        sandbox: Sandbox,
        within: Duration,
    ) -> Result<Vec<u8>, String> {
        let description = match errand {
            Errand::Sweep => format!("Sweep of {subject}"),
            // An address may hold a password.
            Errand::Reach => "Looks whether a server answers".to_owned(),
        };
        let order = Order {
            unit: format!("{}{:016x}.service", errand.prefix(), hash(subject)),
            description,
            argv,
            sandbox,
            writes: None,
            within,
        };
        self.carry(&order).await
    }

    pub(super) async fn carry(&self, order: &Order<'_>) -> Result<Vec<u8>, String> {
        let begun = Instant::now();
        let deadline = begun + order.within + DOWN_LAG;
        let (output, made) = match self.begin(order).await? {
            (_, Err(Failure::Refused(refusal))) if refusal.is("UnitExists") => {
                // Nobody waits for the one that runs: we were started anew, or its worker was configured anew.
                self.make_room(&order.unit, deadline).await;
                self.begin(order).await?
            }
            begun => begun,
        };
        let (mut output, mut printed) = (output.take(OUTPUT_MAX as u64 + 1), Vec::new());
        let ended = self.follow(made, deadline);
        tokio::pin!(ended);
        let early = tokio::select! {
            // A program that has printed too much fails when it prints more.
            read = read(&mut output, &mut printed) => { read?; None }
            ended = &mut ended => Some(ended),
        };
        let ended = match early {
            Some(ended) => {
                // What it has printed is in the pipe; only the end may be late.
                if let Ok(read) = timeout(OUTPUT_LAG, read(&mut output, &mut printed)).await {
                    read?;
                }
                ended
            }
            None => {
                drop(output);
                ended.await
            }
        };
        match ended {
            _ if printed.len() > OUTPUT_MAX => Err("it prints more than 1 MiB".to_owned()),
            Ok(()) => Ok(printed),
            Err(Failure::Ended(_)) if begun.elapsed() < order.within => Err("it failed".to_owned()),
            Err(Failure::Ended(_) | Failure::Late) => Err("it does not end in time".to_owned()),
            Err(Failure::Refused(refusal)) => Err(format!("systemd refused: {}", refusal.text)),
            Err(Failure::Text(text)) => Err(text),
        }
    }

    /// Ends a unit of that name; if that fails, then so does the next start.
    pub(super) async fn make_room(&self, unit: &str, deadline: Instant) {
        let stopped = call(self.inner.manager.stop_unit(unit, "replace")).await;
        let _ = self.follow(stopped, deadline).await;
    }

    /// Begins a run: where its output comes from, and its job.
    async fn begin(&self, order: &Order<'_>) -> Result<(Receiver, Result<OwnedObjectPath, Failure>), String> {
        let (output, input) = pipe().map_err(|error| format!("a pipe cannot be made: {error}"))?;
        let properties = with_output(order, input);
        let made = call(self.inner.manager.start_transient_unit(&order.unit, "fail", &properties, &[])).await;
        // Our end of what it writes to closes with the properties; otherwise the output would have no end.
        Ok((output, made))
    }
}

fn pipe() -> io::Result<(Receiver, PipeWriter)> {
    let (output, input): (PipeReader, PipeWriter) = io::pipe()?;
    Ok((Receiver::from_owned_fd(OwnedFd::from(output))?, input))
}

async fn read(output: &mut (impl AsyncRead + Unpin), printed: &mut Vec<u8>) -> Result<(), String> {
    let read = output.read_to_end(printed).await;
    read.map(|_| ()).map_err(|error| format!("its output cannot be read: {error}"))
}

/// The name of the unit: always the same for a command, so that it never runs twice at once.
fn unit(command: &Command) -> String {
    let kind = if command.sandbox.reads_processes() { "stacks-" } else { "" };
    format!("watcherd-progress-{kind}{:016x}-{}.service", hash(command.worker.as_str()), command.index)
}

/// FNV-1a; a worker's own name may be too long for that of a unit.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn with_output(order: &Order<'_>, input: PipeWriter) -> Vec<Property> {
    let mut properties = properties(order);
    properties.extend([
        // The descriptor counts more, but only where the kinds differ has the standard error a way of its own.
        ("StandardOutput", Variant::from("null")),
        ("StandardOutputFileDescriptor", Variant::Fd(Fd::from(OwnedFd::from(input)))),
    ]);
    properties
}

/// Everything about the unit but where its output goes.
pub(super) fn properties(order: &Order<'_>) -> Vec<Property> {
    let span = |span: Duration| Variant::from(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    let argv: Vec<_> = order.argv.iter().map(|word| (**word).to_owned()).collect();
    let memory_max = match order.sandbox {
        Sandbox::Debugger => DEBUGGER_MEMORY_MAX,
        Sandbox::Owner => MEMORY_OF_OWNER_MAX,
        _ => MEMORY_MAX,
    };
    let mut properties: Vec<Property> = vec![
        ("Description", Variant::new(order.description.clone())),
        // The job of such a unit lasts as long as its command, and says how it ended.
        ("Type", Variant::from("oneshot")),
        ("ExecStart", Variant::new(vec![super::transient::command(&argv, order.sandbox.reads_processes())])),
        ("CollectMode", Variant::from("inactive-or-failed")),
        // RuntimeMaxSec= knows nothing of such units.
        ("TimeoutStartUSec", span(order.within)),
        ("TimeoutStopUSec", span(GRACE)),
        ("Slice", Variant::from("watcherd.slice")),
        ("MemoryMax", Variant::from(memory_max)),
        ("MemorySwapMax", Variant::from(0_u64)),
        ("TasksMax", Variant::from(TASKS_MAX)),
        ("NoNewPrivileges", Variant::from(true)),
        ("StandardInput", Variant::from("null")),
        ("StandardError", Variant::from("journal")),
        // Every run would be worth two lines (notice is 5): only what it says itself, and trouble, is.
        ("LogLevelMax", Variant::from(5_i32)),
        ("SyslogLevel", Variant::from(5_i32)),
    ];
    let whose = match order.sandbox {
        Sandbox::User => return properties,
        Sandbox::System => vec![("DynamicUser", Variant::from(true))],
        Sandbox::Hook => {
            vec![("DynamicUser", Variant::from(true)), ("CapabilityBoundingSet", Variant::from(0_u64))]
        }
        Sandbox::Kernel | Sandbox::Debugger => vec![("CapabilityBoundingSet", Variant::from(READING_CAPABILITIES))],
        Sandbox::Sweep => vec![("CapabilityBoundingSet", Variant::from(ENDING_CAPABILITIES))],
        Sandbox::Owner => vec![("CapabilityBoundingSet", Variant::from(CHANGING_CAPABILITIES))],
    };
    properties.extend(whose);
    let is_root = order.sandbox.reads_processes() || matches!(order.sandbox, Sandbox::Sweep | Sandbox::Owner);
    properties.extend([
        ("PrivateNetwork", Variant::from(is_root)),
        ("ProtectSystem", Variant::from("strict")),
        ("ProtectHome", Variant::from("read-only")),
        // What is looked at may be there.
        ("PrivateTmp", Variant::from(order.sandbox != Sandbox::Owner)),
        ("PrivateDevices", Variant::from(true)),
        ("ProtectKernelTunables", Variant::from(true)),
        ("ProtectKernelModules", Variant::from(true)),
        ("ProtectControlGroups", Variant::from(true)),
        ("RestrictSUIDSGID", Variant::from(true)),
        ("LockPersonality", Variant::from(true)),
    ]);
    // It need not be there.
    properties.extend(order.writes.map(|path| ("ReadWritePaths", Variant::new(vec![format!("-{path}")]))));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(worker: &str) -> Command {
        let argv = ["/bin/echo", "$HOME %n"].map(Arc::from).to_vec();
        Command { worker: WorkerName::parse(worker).expect("a name"), index: 1, argv, sandbox: Sandbox::System }
    }

    #[test]
    fn a_command_is_passed_on_literally_and_within_limits() {
        let command = command("w");
        let order = Order {
            unit: unit(&command),
            description: "Progress of w.service".into(),
            argv: &command.argv,
            sandbox: command.sandbox,
            writes: None,
            within: RUNTIME_MAX,
        };
        let text: Vec<_> = properties(&order).iter().map(|(name, value)| format!("{name}={value}")).collect();
        for expected in [
            r#"Description="Progress of w.service""#,
            r#"ExecStart=[("/bin/echo", ["/bin/echo", "$$HOME %n"], false)]"#,
            "TimeoutStartUSec=uint64 30000000",
            "MemoryMax=uint64 268435456",
            "TasksMax=uint64 64",
            "DynamicUser=true",
            r#"ProtectSystem="strict""#,
            "NoNewPrivileges=true",
        ] {
            assert!(text.iter().any(|line| line == expected), "{expected} in {text:#?}");
        }
    }

    #[test]
    fn the_name_of_its_unit_is_short_and_its_own() {
        let long = unit(&command(&"x".repeat(247)));
        assert!(long.len() < 60 && long.ends_with("-1.service"), "{long}");
        assert_ne!(unit(&command("a")), unit(&command("b")));
    }

    #[tokio::test]
    async fn output_ends_with_its_writers_and_has_a_cap() {
        let (output, input) = pipe().expect("a pipe");
        let writer = std::thread::spawn(move || {
            use std::io::Write;
            let mut input = input;
            while input.write_all(&[b'x'; 65_536]).is_ok() {}
        });
        let (mut output, mut printed) = (output.take(OUTPUT_MAX as u64 + 1), Vec::new());
        read(&mut output, &mut printed).await.expect("it can be read");
        assert_eq!(printed.len(), OUTPUT_MAX + 1);
        drop(output);
        writer.join().expect("the writer ends with the reader");
    }
}
