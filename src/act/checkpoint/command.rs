// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a command of the policy whether a checkpoint is whole. It runs as the owner of the directory, and no shell reads it.

use super::State;
use super::find::{Found, words};
use super::place::Rights;
use crate::engine::policy::CommandLine;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What it says about this one, and why it is not valid.
pub fn ask(argv: &CommandLine, found: &Found, rights: &mut Rights, deadline: Instant) -> (State, String) {
    if Instant::now() >= deadline {
        return (State::Unknown, "the command of the policy was not asked in time".into());
    }
    match run(argv, found, rights, deadline) {
        Ok(Some(status)) if status.success() => (State::Valid, String::new()),
        Ok(Some(status)) => match status.code() {
            Some(code) => (State::Broken, format!("the command of the policy says so (exit status {code})")),
            None => {
                let signal = status.signal().unwrap_or(0);
                (State::Unknown, format!("the command of the policy was ended by signal {signal}"))
            }
        },
        Ok(None) => (State::Unknown, "the command of the policy did not end in time".into()),
        Err(error) => (State::Unknown, format!("the command of the policy cannot be run: {}", words(&error))),
    }
}

/// `None` if it does not end in time.
fn run(argv: &CommandLine, found: &Found, rights: &mut Rights, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let Some((program, arguments)) = argv.0.split_first() else { return Err(io::Error::other("it is empty")) };
    let mut command = Command::new(&**program);
    command.args(arguments.iter().map(|word| &**word)).arg(&found.path).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if let Some((user, group)) = rights.user_for(&found.place)? {
        // Also drops all other groups.
        command.uid(user).gid(group);
    }
    let mut child = command.spawn()?;
    if wait(&child, deadline)? {
        return child.wait().map(Some);
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    group.map_or(Ok(()), |group| kill_process_group(group, Signal::KILL))?;
    child.wait()?;
    Ok(None)
}

/// Whether it has ended by then.
fn wait(child: &Child, deadline: Instant) -> io::Result<bool> {
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let process = pidfd_open(number.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    // Whole milliseconds are waited for, and never less than is left.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    Ok(poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))? > 0)
}
