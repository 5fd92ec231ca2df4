// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon's command line, and the directories that follow from it.

use crate::api::LogLevel;
use crate::systemd::Address;
use clap::Parser;
use std::path::PathBuf;

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
    /// Use the bus at this D-Bus address
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub address: Option<String>,
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
    /// The same in the journal's words.
    pub fn of_journal(self) -> crate::journal::Scope {
        match self {
            Scope::System => crate::journal::Scope::System,
            Scope::User => crate::journal::Scope::User,
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
