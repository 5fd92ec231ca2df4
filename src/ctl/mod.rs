// SPDX-License-Identifier: MIT OR Apache-2.0
//! watcherctl: reads the command line, asks the daemon, prints.
//!
//! It decides nothing about workers and keeps nothing. What it prints about causes and phases are the daemon's own words.
//! `verbs` has one file per verb, `out` makes the texts from plain values, the rest is how the two meet the daemon.

mod agent;
pub mod args;
mod capsule;
mod cases;
mod connect;
mod deliver;
mod events;
mod failure;
mod journal;
mod log;
mod model;
mod names;
mod out;
mod screen;
mod session;
mod unit_run;
mod verbs;
mod when;

#[cfg(test)]
mod fake;

use self::args::CommandLine;
use self::failure::exit;
use self::session::Session;
use clap::Parser;
use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // A reader that has left does not need the help text.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("watcherctl: no runtime: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let session = Session::new(line.global);
    let outcome = runtime.block_on(verbs::perform(&session, line.verb));
    // A blocked thread (a command that is waited for) must not keep us.
    runtime.shutdown_background();
    ExitCode::from(match outcome {
        Ok(status) => status,
        Err(failure) => {
            session.complain(&failure);
            failure.status
        }
    })
}
