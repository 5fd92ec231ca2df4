// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon's command line, and the directories that follow from it.

use super::record::Place;
use crate::act::checkpoint::Order;
use crate::act::sweep::Process;
use crate::api::LogLevel;
use crate::engine::ids::InvocationId;
use crate::systemd::Address;
use crate::systemd::environment::Places;
use clap::Parser;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Keeps long-running work alive on a systemd machine, and says why it died.
#[derive(Parser, Debug)]
#[command(name = "watcherd", version)]
pub struct Options {
    /// Supervise the units of the calling user's service manager
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// Supervise the units of the system's service manager (the default)
    #[arg(long)]
    pub system: bool,
    /// Read the configuration below this directory instead of /
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Keep state in this directory instead of $STATE_DIRECTORY
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Record what happens and what is decided in this directory, or in this file if its name ends in ".scn", for
    /// "watcherctl replay"; instead of the setting manager.record
    #[arg(long, value_name = "DIR|FILE")]
    pub record: Option<PathBuf>,
    /// Use the bus at this D-Bus address
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub address: Option<String>,
    /// Only end what is left of this run, by its invocation id
    #[arg(long, value_name = "INVOCATION", hide = true, value_parser = invocation)]
    pub sweep: Option<InvocationId>,
    /// Also end the process with this number that started at this time, in ticks since the machine was started
    #[arg(long, value_name = "PID:START", hide = true, requires = "sweep", value_parser = Process::parse)]
    pub also: Vec<Process>,
    /// Only say whether this address can be reached
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub reach: Option<String>,
    /// Only carry out this order about checkpoints
    #[arg(long, value_name = "ORDER", hide = true, value_parser = Order::parse)]
    pub checkpoints: Option<Order>,
    /// Log at this level: err, warning, info or debug
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    pub log_level: LogLevel,
}

/// Whose service manager it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    System,
    User,
}

impl Scope {
    /// Where a notice can be shown.
    pub fn desk(self) -> crate::act::desktop::Desk {
        match self {
            Scope::System => crate::act::desktop::Desk::System,
            Scope::User => crate::act::desktop::Desk::Session,
        }
    }

    /// The same in the journal's words.
    pub fn of_journal(self) -> crate::journal::Scope {
        match self {
            Scope::System => crate::journal::Scope::System,
            Scope::User => crate::journal::Scope::User,
        }
    }
}

impl Scope {
    /// Where units get their environment from.
    pub fn places(self) -> Places {
        match self {
            Scope::System => Places::system(),
            Scope::User => {
                Places::user(&from_environment("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/nonexistent")))
            }
        }
    }
}

impl Options {
    pub fn scope(&self) -> Scope {
        if self.user { Scope::User } else { Scope::System }
    }

    pub fn address(&self) -> Address {
        match (&self.address, self.scope()) {
            (Some(address), _) => Address::At(address.clone()),
            (None, Scope::System) => Address::System,
            (None, Scope::User) => Address::Session,
        }
    }

    /// Where NVIDIA's management library is: `$WATCHERD_NVML`, else where the system's loader finds it.
    pub fn nvml(&self) -> OsString {
        std::env::var_os("WATCHERD_NVML").filter(|path| !path.is_empty()).unwrap_or_else(|| crate::gpu::LIBRARY.into())
    }

    /// Where state is kept: `--state`, `$STATE_DIRECTORY` as set by systemd, else the place that systemd would choose.
    pub fn state_directory(&self) -> PathBuf {
        let given = self.state.clone().or_else(|| from_environment("STATE_DIRECTORY"));
        given.unwrap_or_else(|| match self.scope() {
            Scope::System => PathBuf::from("/var/lib/watcherd"),
            Scope::User => from_environment("XDG_STATE_HOME")
                .or_else(|| from_environment("HOME").map(|home| home.join(".local/state")))
                .unwrap_or_else(|| PathBuf::from("/nonexistent"))
                .join("watcherd"),
        })
    }

    /// Where it is recorded what happens, if it is: `--record`, else what the settings say.
    pub fn record_place(&self, setting: Option<&str>) -> Option<Place> {
        let (here, state) = (std::env::current_dir().unwrap_or_default(), self.state_directory());
        match (&self.record, setting) {
            (Some(path), _) => Some(Place::new(path, &here)),
            (None, setting) => setting.map(|path| Place::new(Path::new(path), &state)),
        }
    }

    /// Where what is on its way lies, as `%t/watcherd` in a unit.
    pub fn runtime_directory(&self) -> PathBuf {
        match self.scope() {
            Scope::System => PathBuf::from("/run/watcherd"),
            Scope::User => from_environment("XDG_RUNTIME_DIR")
                .unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", nix::unistd::geteuid())))
                .join("watcherd"),
        }
    }
}

fn from_environment(name: &str) -> Option<PathBuf> {
    let value = std::env::var(name).ok()?;
    let first = value.split(':').next().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(first))
}

fn level(text: &str) -> Result<LogLevel, String> {
    LogLevel::parse(text).ok_or_else(|| {
        let known: Vec<_> = LogLevel::ALL.iter().map(|level| level.as_str()).collect();
        format!("one of {} is allowed", known.join(", "))
    })
}

fn invocation(text: &str) -> Result<InvocationId, String> {
    InvocationId::parse(text).ok_or_else(|| "32 hexadecimal digits are expected".to_owned())
}
