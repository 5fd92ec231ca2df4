// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a short command as a unit of its own, in a sandbox, and brings what it prints.
//!
//! Whoever configures a command trusts it; the sandbox keeps its mistakes small. The system's service manager runs it as a
//! user that exists only meanwhile; a user's service manager runs it as that user, without what needs privileges.

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

/// What the names of these units begin with; they are no workers.
pub const COMMAND_UNITS: &str = "watcherd-progress-";

/// The most that a command may print, in bytes.
const OUTPUT_MAX: usize = 1 << 20;
/// How long it may run.
const RUNTIME_MAX: Duration = Duration::from_secs(30);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// By then its unit must be down, or systemd is not well.
const DEADLINE: Duration = Duration::from_secs(40);
/// How long the end of the output may lag behind the end of the unit.
const OUTPUT_LAG: Duration = Duration::from_secs(1);
const MEMORY_MAX: u64 = 256 << 20;
const TASKS_MAX: u64 = 64;
/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_SYS_ADMIN, the last for /proc/PID/stack; see capabilities(7).
const READING_CAPABILITIES: u64 = 1 << 2 | 1 << 19 | 1 << 21;

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
    /// No new privileges: what a user's service manager can do on every machine.
    User,
}

impl Jobs {
    /// Runs a command to its end, at most about half a minute, and returns what it printed; the error is a fragment.
    pub async fn run(&self, command: &Command) -> Result<Vec<u8>, String> {
        let begun = Instant::now();
        let deadline = begun + DEADLINE;
        let (output, made) = match self.begin(command).await? {
            (_, Err(Failure::Refused(refusal))) if refusal.is("UnitExists") => {
                // Nobody waits for the one that runs: we were started anew, or its worker was configured anew.
                let stopped = call(self.inner.manager.stop_unit(&unit(command), "replace")).await;
                // If that failed, then so does the next start.
                let _ = self.follow(stopped, deadline).await;
                self.begin(command).await?
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
            Err(Failure::Ended(_)) if begun.elapsed() < RUNTIME_MAX => Err("it failed".to_owned()),
            Err(Failure::Ended(_) | Failure::Late) => Err("it does not end in time".to_owned()),
            Err(Failure::Refused(refusal)) => Err(format!("systemd refused: {}", refusal.text)),
            Err(Failure::Text(text)) => Err(text),
        }
    }

    /// Begins a run: where its output comes from, and its job.
    async fn begin(&self, command: &Command) -> Result<(Receiver, Result<OwnedObjectPath, Failure>), String> {
        let (output, input) = pipe().map_err(|error| format!("a pipe cannot be made: {error}"))?;
        let properties = properties(command, input);
        let made = call(self.inner.manager.start_transient_unit(&unit(command), "fail", &properties, &[])).await;
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
    let kind = if command.sandbox == Sandbox::Kernel { "stacks-" } else { "" };
    format!("{COMMAND_UNITS}{kind}{:016x}-{}.service", hash(command.worker.as_str()), command.index)
}

/// FNV-1a; a worker's own name may be too long for that of a unit.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn properties(command: &Command, input: PipeWriter) -> Vec<Property> {
    let span = |span: Duration| Variant::from(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    let argv: Vec<_> = command.argv.iter().map(|word| (**word).to_owned()).collect();
    let what = if command.sandbox == Sandbox::Kernel { "Stacks" } else { "Progress" };
    let mut properties: Vec<Property> = vec![
        ("Description", Variant::new(format!("{what} of {}", command.worker))),
        // The job of such a unit lasts as long as its command, and says how it ended.
        ("Type", Variant::from("oneshot")),
        ("ExecStart", Variant::new(vec![super::transient::command(&argv, command.sandbox == Sandbox::Kernel)])),
        ("CollectMode", Variant::from("inactive-or-failed")),
        // RuntimeMaxSec= knows nothing of such units.
        ("TimeoutStartUSec", span(RUNTIME_MAX)),
        ("TimeoutStopUSec", span(GRACE)),
        ("Slice", Variant::from("watcherd.slice")),
        ("MemoryMax", Variant::from(MEMORY_MAX)),
        ("MemorySwapMax", Variant::from(0_u64)),
        ("TasksMax", Variant::from(TASKS_MAX)),
        ("NoNewPrivileges", Variant::from(true)),
        ("StandardInput", Variant::from("null")),
        // The descriptor counts more, but only where the kinds differ has the standard error a way of its own.
        ("StandardOutput", Variant::from("null")),
        ("StandardOutputFileDescriptor", Variant::Fd(Fd::from(OwnedFd::from(input)))),
        ("StandardError", Variant::from("journal")),
        // Every run would be worth two lines (notice is 5): only what it says itself, and trouble, is.
        ("LogLevelMax", Variant::from(5_i32)),
        ("SyslogLevel", Variant::from(5_i32)),
    ];
    let whose = match command.sandbox {
        Sandbox::User => return properties,
        Sandbox::System => ("DynamicUser", Variant::from(true)),
        Sandbox::Kernel => ("CapabilityBoundingSet", Variant::from(READING_CAPABILITIES)),
    };
    {
        properties.extend([
            whose,
            ("PrivateNetwork", Variant::from(command.sandbox == Sandbox::Kernel)),
            ("ProtectSystem", Variant::from("strict")),
            ("ProtectHome", Variant::from("read-only")),
            ("PrivateTmp", Variant::from(true)),
            ("PrivateDevices", Variant::from(true)),
            ("ProtectKernelTunables", Variant::from(true)),
            ("ProtectKernelModules", Variant::from(true)),
            ("ProtectControlGroups", Variant::from(true)),
            ("RestrictSUIDSGID", Variant::from(true)),
            ("LockPersonality", Variant::from(true)),
        ]);
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(worker: &str) -> Command {
        let argv = ["/bin/echo", "$HOME %n"].map(Arc::from).to_vec();
        Command { worker: WorkerName::parse(worker).expect("a name"), index: 1, argv, sandbox: Sandbox::System }
    }

    #[tokio::test]
    async fn a_command_is_passed_on_literally_and_within_limits() {
        let (_, input) = pipe().expect("a pipe");
        let made = properties(&command("w"), input);
        let text: Vec<_> = made.iter().filter(|(name, _)| !name.ends_with("Descriptor")).collect();
        let text: Vec<_> = text.iter().map(|(name, value)| format!("{name}={value}")).collect();
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
