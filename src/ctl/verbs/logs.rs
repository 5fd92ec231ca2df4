// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands over to journalctl, with the right units.

use super::incidents;
use crate::ctl::args::Logs;
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::model::Incident;
use crate::ctl::session::Session;
use crate::ctl::when::{self, Side};
use crate::ctl::{journal, names};
use std::os::unix::process::CommandExt;

pub async fn perform(session: &Session, given: &Logs) -> Outcome {
    let link = session.connect().await?;
    let (units, run) = match given.incident {
        Some(id) => {
            let incident = Incident::read(&incidents::object(&link, id).await?);
            (vec![incident.worker], incident.run)
        }
        None => (names::resolve(&link, &given.workers).await?, String::new()),
    };
    let mut command = journal::command(&units, &session.options)?;
    if given.follow {
        command.arg("--follow");
    }
    if let Some(lines) = session.options.lines {
        command.arg(format!("--lines={lines}"));
    }
    if let Some(since) = &given.since {
        // The words of `incidents --since`, and whatever else journalctl knows.
        match when::read(since, Side::Behind, &session.look_now()) {
            Ok(at) => command.arg(format!("--since=@{}.{:06}", at.0 / 1_000_000, at.0 % 1_000_000)),
            Err(_) => command.arg(format!("--since={since}")),
        };
    }
    if session.options.no_pager {
        command.arg("--no-pager");
    }
    if session.json().is_some() && session.options.output.is_none() {
        command.arg("--output=json");
    }
    if !run.is_empty() {
        command.args(journal::of_run(&run));
    }
    let error = command.exec();
    Err(Failure::failed(format!("cannot run journalctl: {error}")))
}
