// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps watcherd's hands off workers: until somebody releases them, until a time, or while a command runs.

use crate::ctl::args::Hold;
use crate::ctl::connect::Link;
use crate::ctl::events::{Events, News};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::names;
use crate::ctl::session::Session;
use crate::ctl::when::{self, Side};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use zbus::OwnedFd;

pub async fn perform(session: &Session, given: &Hold) -> Outcome {
    let until = match &given.until {
        Some(text) => until(text, session)?,
        None => 0,
    };
    let link = session.connect().await?;
    let units = names::resolve(&link, &given.workers).await?;
    if session.options.dry_run {
        session.print(&units.iter().map(|unit| format!("would hold {unit}\n")).collect::<String>())?;
        return Ok(exit::OK);
    }
    let wish = Wish { units, who: who(), why: session.options.reason.clone() };
    if !given.command.is_empty() {
        return while_running(session, &link, &wish, &given.command).await;
    }
    let Wish { units, who, why } = &wish;
    let id: zbus::Result<u32> = link.ask("Hold", &(units, who, why, until, 0u64)).await;
    let id = id.map_err(|error| wish.refused(&error))?;
    if !session.options.quiet {
        session.print(&format!("{id}\n"))?;
    }
    Ok(exit::OK)
}

struct Wish {
    units: Vec<String>,
    who: String,
    why: String,
}

impl Wish {
    /// A hold that lasts as long as the descriptor is open.
    async fn lock(&self, link: &Link) -> Result<OwnedFd, Failure> {
        let lock = link.ask("HoldLock", &(&self.units, &self.who, &self.why)).await;
        lock.map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &zbus::Error) -> Failure {
        Failure::from_bus(&format!("hold {}", self.units.join(" ")), error)
    }
}

fn until(text: &str, session: &Session) -> Result<u64, Failure> {
    let look = session.look_now();
    let at = when::read(text, Side::Ahead, &look).map_err(Failure::usage)?;
    if at <= look.now {
        return Err(Failure::usage(format!("--until={text}: that time is over")));
    }
    Ok(at.0.unsigned_abs())
}

/// The caller's name; under sudo that of the person.
pub fn who() -> String {
    let uid = getuid();
    let person = std::env::var("SUDO_USER").ok().filter(|name| uid.is_root() && !name.is_empty());
    let name = || User::from_uid(uid).ok().flatten().map(|user| user.name);
    person.or_else(name).unwrap_or_else(|| uid.to_string())
}

/// Runs the command under the lock. The lock is taken again if the daemon is restarted meanwhile.
async fn while_running(session: &Session, link: &Link, wish: &Wish, words: &[String]) -> Outcome {
    let mut events = Events::subscribe(link).await?;
    let mut lock = Some(wish.lock(link).await?);
    // What ends the command must not end us first: the lock has to live as long as the command.
    let no_handler = |error: std::io::Error| Failure::failed(format!("no signal handler: {error}"));
    let mut interrupts = signal(SignalKind::interrupt()).map_err(no_handler)?;
    let mut quits = signal(SignalKind::quit()).map_err(no_handler)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(no_handler)?;
    let (pid, mut ended) = start(words)?;
    loop {
        tokio::select! {
            status = &mut ended => {
                drop(lock);
                return status
                    .map_err(|error| Failure::failed(error.to_string()))?
                    .map(code)
                    .map_err(|error| Failure::failed(format!("cannot wait for {}: {error}", words[0])));
            }
            // The terminal sends these two to the command as well.
            _ = interrupts.recv() => {}
            _ = quits.recv() => {}
            // The command may be gone already.
            _ = terminations.recv() => { let _ = kill(pid, Signal::SIGTERM); }
            news = events.next() => match news {
                Some(News::Left) => lock = None,
                Some(News::Returned) if lock.is_none() => match wish.lock(link).await {
                    Ok(again) => lock = Some(again),
                    Err(failure) => session.complain(&failure),
                },
                Some(_) => {}
                None => {
                    session.note("watcherctl: the connection is lost, the hold has ended; the command runs on");
                    let status = (&mut ended).await;
                    return status
                        .map_err(|error| Failure::failed(error.to_string()))?
                        .map(code)
                        .map_err(|error| Failure::failed(format!("cannot wait for {}: {error}", words[0])));
                }
            },
        }
    }
}

fn start(words: &[String]) -> Result<(Pid, JoinHandle<std::io::Result<ExitStatus>>), Failure> {
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::usage("no command is given"))?;
    let child = Command::new(program).args(arguments).spawn();
    let mut child = child.map_err(|error| Failure::failed(format!("cannot run {program}: {error}")))?;
    let pid = i32::try_from(child.id()).map_err(|_| Failure::failed("the process has no valid number"))?;
    Ok((Pid::from_raw(pid), tokio::task::spawn_blocking(move || child.wait())))
}

/// As a shell counts it: 128 and the signal for a command that was killed.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED)
}
