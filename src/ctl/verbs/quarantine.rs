// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes workers out of service, and lets them back.

use crate::ctl::args::Workers;
use crate::ctl::events::path_of;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::names;
use crate::ctl::session::Session;

const WORKER: &str = "org.watcherd1.Worker";

pub async fn begin(session: &Session, given: &Workers) -> Outcome {
    let link = session.connect().await?;
    for unit in names::resolve(&link, &given.workers).await? {
        if session.options.dry_run {
            session.print(&format!("would quarantine {unit}\n"))?;
            continue;
        }
        let why = (session.options.reason.as_str(),);
        let done: zbus::Result<()> = link.ask_at(&path_of(&unit), WORKER, "Quarantine", &why).await;
        done.map_err(|error| Failure::from_bus(&format!("quarantine {unit}"), &error))?;
    }
    Ok(exit::OK)
}

pub async fn end(session: &Session, workers: &[String]) -> Outcome {
    let link = session.connect().await?;
    for unit in names::resolve(&link, workers).await? {
        if session.options.dry_run {
            session.print(&format!("would reset {unit}\n"))?;
            continue;
        }
        let done: zbus::Result<()> = link.ask_at(&path_of(&unit), WORKER, "ResetQuarantine", &()).await;
        done.map_err(|error| Failure::from_bus(&format!("reset {unit}"), &error))?;
    }
    Ok(exit::OK)
}
