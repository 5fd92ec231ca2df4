// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file per verb. A verb asks the daemon, hands plain values to `out`, and ends with an exit status.

mod adopt;
mod beat;
mod change;
mod check;
mod checkpoints;
mod completions;
mod config;
mod diagnose;
mod forget;
mod hold;
mod incident;
mod incidents;
mod list;
mod logs;
mod man;
mod monitor;
mod names;
mod notify;
mod quarantine;
mod release;
mod reload;
mod replay;
mod run;
mod set;
mod show;
mod status;
mod top;
mod why;

#[cfg(test)]
mod tests;

use super::args::{Patterns, Verb};
use super::failure::Outcome;
use super::session::Session;
use crate::engine::event;

/// The dry-run bit of the methods that have one.
const DRY_RUN: u64 = 1;

pub async fn perform(session: &Session, verb: Option<Verb>) -> Outcome {
    match verb.unwrap_or_else(|| Verb::List(Patterns::default())) {
        Verb::List(given) => list::perform(session, &given).await,
        Verb::Status(given) => status::perform(session, &given).await,
        Verb::Show(given) => show::perform(session, &given).await,
        Verb::Why(given) => why::perform(session, &given).await,
        Verb::Run(given) => run::perform(session, &given).await,
        Verb::Adopt(given) => adopt::perform(session, &given).await,
        Verb::Forget(given) => forget::perform(session, &given).await,
        Verb::Start(given) => change::perform(session, event::Verb::Start, &given).await,
        Verb::Stop(given) => change::perform(session, event::Verb::Stop, &given).await,
        Verb::Restart(given) => change::perform(session, event::Verb::Restart, &given).await,
        Verb::Pause(given) => change::perform(session, event::Verb::Pause, &given).await,
        Verb::Resume(given) => change::perform(session, event::Verb::Resume, &given).await,
        Verb::Hold(given) => hold::perform(session, &given).await,
        Verb::Release(given) => release::perform(session, &given).await,
        Verb::Reset(given) if given.parameters => set::give_back(session, &given.workers).await,
        Verb::Reset(given) => quarantine::end(session, &given.workers).await,
        Verb::Set(given) => set::perform(session, &given).await,
        Verb::Quarantine(given) => quarantine::begin(session, &given).await,
        Verb::Beat(given) => beat::perform(session, &given).await,
        Verb::Incidents(given) => incidents::perform(session, &given).await,
        Verb::Incident(given) => incident::perform(session, &given).await,
        Verb::Checkpoints(given) => checkpoints::perform(session, &given).await,
        Verb::Notify(given) => notify::perform(session, &given).await,
        Verb::Logs(given) => logs::perform(session, &given).await,
        Verb::Monitor(given) => monitor::perform(session, &given).await,
        Verb::Top(given) => top::perform(session, &given).await,
        Verb::Diagnose(given) => diagnose::perform(session, &given),
        Verb::Check(given) => check::perform(session, &given),
        Verb::Replay(given) => replay::perform(session, &given),
        Verb::Config(given) => config::perform(session, &given),
        Verb::Reload => reload::perform(session).await,
        Verb::Names(given) => names::perform(session, &given).await,
        Verb::Completions(given) => completions::perform(session, &given),
        Verb::Man(given) => man::perform(&given),
    }
}
