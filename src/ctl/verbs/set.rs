// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes parameters of workers within what their policies allow, and gives them back to the units.

use crate::api::client::{BUS_NAME, WorkerProxy};
use crate::ctl::args::Set;
use crate::ctl::connect::Link;
use crate::ctl::events::path_of;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::names;
use crate::ctl::session::Session;
use zbus::proxy::CacheProperties;

const WORKER: &str = "org.watcherd1.Worker";

pub async fn perform(session: &Session, given: &Set) -> Outcome {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{text:?}: write NAME=VALUE, as in BATCH_SIZE=16"))),
    };
    let pairs = given.parameters.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let link = session.connect().await?;
    for unit in names::resolve(&link, std::slice::from_ref(&given.worker)).await? {
        for (name, value) in &pairs {
            change(session, &link, &unit, name, value).await?;
        }
    }
    Ok(exit::OK)
}

/// Every parameter that was changed gets the unit's own value again.
pub async fn give_back(session: &Session, workers: &[String]) -> Outcome {
    let link = session.connect().await?;
    for unit in names::resolve(&link, workers).await? {
        let failed = |error: &zbus::Error| Failure::from_bus(&format!("read the parameters of {unit}"), error);
        let path = path_of(&unit);
        let worker = WorkerProxy::builder(&link.connection).destination(BUS_NAME).path(path.as_str());
        let worker = worker.cache_properties(CacheProperties::No).build().await.map_err(|error| failed(&error))?;
        let parameters = worker.parameters().await.map_err(|error| failed(&error))?;
        for (name, ..) in parameters.iter().filter(|(_, value, own)| value != own) {
            change(session, &link, &unit, name, "").await?;
        }
    }
    Ok(exit::OK)
}

async fn change(session: &Session, link: &Link, unit: &str, name: &str, value: &str) -> Result<(), Failure> {
    if session.options.dry_run {
        let what = if value.is_empty() { format!("give {name} back to") } else { format!("set {name} to {value} for") };
        return session.print(&format!("would {what} {unit}\n"));
    }
    let done: zbus::Result<()> = link.ask_at(&path_of(unit), WORKER, "SetParameter", &(name, value)).await;
    done.map_err(|error| Failure::from_bus(&format!("set {name} of {unit}"), &error))
}
