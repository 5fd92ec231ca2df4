// SPDX-License-Identifier: MIT OR Apache-2.0
//! `watcherd --checkpoints ORDER`: what the daemon must not do itself, done by our own program as a unit of its own, with
//! the rights of those to whom the checkpoints belong.

use super::place::Rights;
use super::{Report, find, judge, tend};
use crate::engine::action::{Checkpoints, Verify};
use crate::engine::policy::CommandLine;
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Checkpoints that are told of.
const TOLD_MAX: usize = 500;
/// Sentences about what could not be done.
const FAILED_MAX: usize = 20;

/// What is to be done; it travels as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pattern: String,
    keep: Option<u32>,
    verify: How,
    /// Broken ones are set aside with this in their names, and surplus ones removed; nothing is changed without it.
    tend: Option<String>,
    within: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Auto,
    Off,
    Command(Vec<String>),
}

impl Order {
    /// The order to look at them within that time.
    pub fn new(wanted: &Checkpoints, tend: Option<String>, within: Duration) -> Order {
        let verify = match &wanted.verify {
            Verify::Auto => How::Auto,
            Verify::Off => How::Off,
            Verify::Command(CommandLine(words)) => How::Command(words.iter().map(|word| word.to_string()).collect()),
        };
        Order { pattern: wanted.path.to_string(), keep: wanted.keep, verify, tend, within }
    }

    /// As an argument of our program.
    pub fn print(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    /// Reads such an argument.
    pub fn parse(text: &str) -> Result<Order, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The directory below which everything happens.
    pub fn place(&self) -> String {
        find::fixed_part(&self.pattern).to_string_lossy().into_owned()
    }

    pub(super) fn carry_out(self) -> Result<Report, String> {
        let deadline = Instant::now() + self.within;
        let mut rights = Rights::of_owners();
        let found = find::find(&self.pattern, &mut rights)?;
        let verify = match self.verify {
            How::Auto => Verify::Auto,
            How::Off => Verify::Off,
            How::Command(words) => Verify::Command(CommandLine(words.into_iter().map(Arc::from).collect())),
        };
        let checkpoints = judge::all(&found, &verify, &mut rights, deadline);
        let mut report = Report { checkpoints, ..Report::default() };
        if let Some(time) = &self.tend {
            tend::tend(&mut report, &found, self.keep, time, &mut rights);
        }
        Ok(report)
    }
}

/// What it prints, read again.
pub fn read(printed: &[u8]) -> Result<Report, String> {
    let answer: Result<Report, String> =
        serde_json::from_slice(printed).map_err(|error| format!("its answer cannot be read: {error}"))?;
    answer
}

/// Carries the order out, and prints the report, or a fragment that says why there is none.
pub fn program(order: Order) -> ExitCode {
    let mut answer = order.carry_out();
    if let Ok(report) = &mut answer {
        report.checkpoints.truncate(TOLD_MAX);
        report.failed.truncate(FAILED_MAX);
    }
    match serde_json::to_string(&answer) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("watcherd: {error}");
            ExitCode::FAILURE
        }
    }
}
