// SPDX-License-Identifier: MIT OR Apache-2.0
//! Before a run is started: chooses the checkpoint that it resumes from, and has broken ones set aside and surplus ones
//! removed. All of that is done by our own program in a unit of its own ([`crate::act::checkpoint`]).

use super::options::Scope;
use crate::act::checkpoint::{self, Order, Report};
use crate::engine::action::{Checkpoints, Exports, Start};
use crate::engine::checkpoint::Choice;
use crate::engine::event::Event;
use crate::engine::ids::WorkerName;
use crate::engine::time::{Span, Wall};
use crate::systemd::jobs::Jobs;
use crate::systemd::jobs::command::Sandbox;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a run is told by.
const VARIABLE: &str = "WATCHERD_RESUME_FROM";
/// How long looking may take; what was not looked at by then is unknown.
const WITHIN: Duration = Duration::from_secs(25);
/// After this the run starts without it.
const DEADLINE: Duration = Duration::from_secs(30);

/// How it is chosen; cheap to clone.
#[derive(Clone)]
pub struct Chooser {
    pub scope: Scope,
    pub jobs: Jobs,
}

impl Chooser {
    /// What the run that is about to start is told, if anything; the engine is told what was found and done.
    pub async fn resume(
        &self,
        worker: &WorkerName,
        start: &Start,
        news: &mpsc::Sender<Event>,
    ) -> Option<(String, String)> {
        let checkpoints = start.exports.as_ref()?.checkpoints.as_ref()?;
        let now = super::clock::now().wall;
        let tend = start.tends_checkpoints.then(|| stamp(now));
        let choice = match self.look(worker, checkpoints, tend).await {
            Ok(report) => choice(checkpoints, &report, now),
            Err(why) => {
                Choice { trouble: Some(format!("its checkpoints cannot be looked at: {why}")), ..Choice::default() }
            }
        };
        let variable = choice.chosen.clone().map(|path| (VARIABLE.to_owned(), path));
        // Without a reader we are at our end.
        let _ = news.send(Event::Checkpoints(worker.clone(), choice)).await;
        variable
    }

    async fn look(&self, worker: &WorkerName, wanted: &Checkpoints, tend: Option<String>) -> Result<Report, String> {
        let sandbox = match self.scope {
            Scope::System => Sandbox::Owner,
            Scope::User => Sandbox::User,
        };
        let order = Order::new(wanted, tend, WITHIN);
        let argv = [super::own_program()?, "--checkpoints".into(), order.print()?.into()];
        let printed = self.jobs.tend_checkpoints(worker, &argv, &order.place(), sandbox, DEADLINE).await?;
        checkpoint::read(&printed)
    }
}

/// What the engine is told.
fn choice(wanted: &Checkpoints, report: &Report, now: Wall) -> Choice {
    let chosen = checkpoint::chosen(&report.checkpoints);
    let newer = &report.checkpoints[..chosen.unwrap_or(report.checkpoints.len())];
    let chosen = chosen.map(|at| &report.checkpoints[at]);
    let mut troubles = report.failed.clone();
    if let (Some(chosen), Some(most)) = (chosen, wanted.max_age) {
        let changed = Wall(i64::try_from(chosen.changed).unwrap_or(i64::MAX));
        if now.since(changed) > most {
            troubles.push(format!("the newest that can be used, {}, is older than {}", chosen.path, Span(most)));
        }
    }
    Choice {
        chosen: chosen.map(|one| one.path.clone()),
        passed: newer.iter().map(|one| (one.path.clone(), one.why.clone())).collect(),
        set_aside: report.set_aside.clone(),
        removed: report.removed.clone(),
        trouble: (!troubles.is_empty()).then(|| troubles.join("; ")),
    }
}

/// A time as a part of a name: `20261125T180000Z`.
fn stamp(at: Wall) -> String {
    let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The same exports with one variable more.
pub fn with(exports: &Exports, variable: Option<(String, String)>) -> Arc<Exports> {
    let mut exports = exports.clone();
    exports.variables.extend(variable);
    Arc::new(exports)
}
