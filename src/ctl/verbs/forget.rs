// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends the supervision of workers.

use crate::ctl::args::Workers;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::names;
use crate::ctl::session::Session;

pub async fn perform(session: &Session, given: &Workers) -> Outcome {
    let link = session.connect().await?;
    let units = names::resolve(&link, &given.workers).await?;
    if session.options.dry_run {
        session.print(&units.iter().map(|unit| format!("would forget {unit}\n")).collect::<String>())?;
        return Ok(exit::OK);
    }
    for unit in units {
        let forgotten: zbus::Result<()> = link.ask("Forget", &(unit.as_str(),)).await;
        forgotten.map_err(|error| Failure::from_bus(&format!("forget {unit}"), &error))?;
    }
    Ok(exit::OK)
}
