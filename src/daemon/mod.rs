// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon: the loop, and what it needs to turn decisions into deeds.

mod aside;
mod checkpoints;
mod clock;
mod conditions;
mod configuration;
mod evidence;
mod examine;
mod hooks;
mod live;
mod log;
mod name;
mod options;
mod perform;
mod presence;
mod progress;
mod ready;
mod record;
mod run;
mod save;
mod signals;
mod status;
mod sweep;

use clap::Parser;
use nix::sys::mman::{MlockAllFlags, mlockall};
use options::Options;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// Why the daemon ends other than by being asked to.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("the bus cannot be reached")]
    NoBus(#[source] Box<dyn Error + Send + Sync>),
    #[error("the bus refused")]
    Bus(#[source] zbus::Error),
    #[error("another watcherd is running on this bus: org.watcherd1 is taken")]
    NameTaken,
    #[error("systemd cannot be followed")]
    Watch(#[source] crate::systemd::watch::WatchError),
    #[error("systemd did not list its units within {} s", .0.as_secs())]
    NoListing(Duration),
    #[error("the state cannot be used")]
    Store(#[source] crate::store::StoreError),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("a part of watcherd broke")]
    Broken(#[source] tokio::task::JoinError),
    #[error("the connection to the bus was lost")]
    PublisherGone,
    #[error("a second signal came; changes that were under way are left as they are")]
    Impatient,
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Stop {
    /// The exit status, after sysexits.h: 69 bus, 73 state, 75 another instance; 1 for the rest.
    fn status(&self) -> u8 {
        match self {
            Stop::NoBus(_) | Stop::Bus(_) | Stop::Watch(_) | Stop::NoListing(_) | Stop::PublisherGone => 69,
            Stop::Store(crate::store::StoreError::InUse { .. }) | Stop::NameTaken => 75,
            Stop::Store(_) => 73,
            Stop::Signals(_) | Stop::Broken(_) | Stop::Impatient | Stop::Runtime(_) | Stop::Thread(_) => 1,
        }
    }
}

/// Runs the daemon.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(run) = options.sweep {
        return crate::act::sweep::program(&crate::act::sweep::Wanted { run, also: options.also });
    }
    if let Some(address) = &options.reach {
        return crate::host::reach::program(address);
    }
    if let Some(order) = options.checkpoints {
        return crate::act::checkpoint::program(order);
    }
    let logger = log::start(options.log_level);
    stay_in_memory();
    let console = logger.target == "console";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run::run(options, logger)),
        Err(error) => Err(Stop::Runtime(error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            if console {
                eprintln!("watcherd: {}", chain(&stop));
            } else {
                tracing::error!("{}", chain(&stop));
            }
            ExitCode::from(stop.status())
        }
    }
}

/// Keeps the pages of our programs in memory once they were used. When memory runs out, the kernel drops the code of
/// all programs first and reads it again from disk; a supervisor that waits for its own code then sees nothing. Without
/// the right to do so nothing else changes. Later mappings are not locked, because those of the journal are large.
fn stay_in_memory() {
    let used_pages_only = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | used_pages_only) {
        tracing::debug!(error = %error, "our pages cannot be kept in memory");
    }
}

/// The program that we are, to be run for what we must not do ourselves; the newer one after an upgrade.
fn own_program() -> Result<std::sync::Arc<str>, String> {
    let path = std::env::current_exe().map_err(|error| format!("our own program is not known: {error}"))?;
    let path = path.to_str().ok_or("the name of our own program is not UTF-8")?;
    Ok(path.strip_suffix(" (deleted)").unwrap_or(path).into())
}

/// An error and what led to it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
