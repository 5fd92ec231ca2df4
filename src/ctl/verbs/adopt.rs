// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes units that exist under supervision.

use crate::ctl::args::Adopt;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::session::Session;
use crate::engine::ids::WorkerName;
use std::collections::HashMap;
use zbus::{OwnedObjectPath, Variant};

pub async fn perform(session: &Session, given: &Adopt) -> Outcome {
    let mut units = Vec::new();
    for unit in &given.units {
        units.push(WorkerName::parse(unit).map_err(|error| Failure::usage(format!("{unit}: {error}")))?);
    }
    if session.options.dry_run {
        session.print(&units.iter().map(|unit| format!("would adopt {unit}\n")).collect::<String>())?;
        return Ok(exit::OK);
    }
    let link = session.connect().await?;
    let policy: HashMap<&str, Variant<'_>> =
        given.policy.pairs().into_iter().map(|(key, value)| (key, Variant::from(value))).collect();
    for unit in units {
        let adopted: zbus::Result<OwnedObjectPath> = link.ask("Adopt", &(unit.as_str(), &policy, 0u64)).await;
        adopted.map_err(|error| Failure::from_bus(&format!("adopt {unit}"), &error))?;
    }
    Ok(exit::OK)
}
