// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports progress of the worker whose process this is.

use crate::api::client::{BUS_NAME, WorkerProxy};
use crate::api::unit::CallingUnit;
use crate::ctl::args::Beat;
use crate::ctl::events::path_of;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::session::Session;
use std::collections::HashMap;
use zbus::Variant;
use zbus::proxy::CacheProperties;

const WORKER: &str = "org.watcherd1.Worker";

pub async fn perform(session: &Session, given: &Beat) -> Outcome {
    let mut values: HashMap<&str, Variant<'_>> = HashMap::new();
    for (name, value) in &given.values {
        let number: f64 =
            value.parse().map_err(|_| Failure::usage(format!("--value {name}: {value:?} is no number")))?;
        values.insert(name, number.into());
    }
    values.extend(given.total.map(|total| ("total", total.into())));
    values.extend(given.cursor.as_deref().map(|cursor| ("cursor", cursor.into())));
    values.extend(given.stage.as_deref().map(|stage| ("stage", stage.into())));
    let unit = own_unit(session)?;
    if session.options.dry_run {
        session.print(&format!("would report progress of {unit}\n"))?;
        return Ok(exit::OK);
    }
    let link = session.connect().await?;
    let path = path_of(&unit);
    let failed = |error: &zbus::Error| Failure::from_bus(&format!("report progress of {unit}"), error);
    let count = match given.count {
        Some(count) => count,
        None => {
            let worker = WorkerProxy::builder(&link.connection).destination(BUS_NAME).path(path.as_str());
            let worker = worker.cache_properties(CacheProperties::No).build().await.map_err(|error| failed(&error))?;
            worker.progress_value().await.map_err(|error| failed(&error))?
        }
    };
    let done: zbus::Result<()> = link.ask_at(&path, WORKER, "Beat", &(count, values)).await;
    done.map_err(|error| failed(&error))?;
    Ok(exit::OK)
}

/// The unit that this process belongs to, by the kernel.
fn own_unit(session: &Session) -> Result<String, Failure> {
    let unit = CallingUnit::own();
    let unit = if session.options.user { unit.user.map(|(_, unit)| unit) } else { unit.system };
    unit.filter(|unit| unit.ends_with(".service")).ok_or_else(|| {
        Failure::failed("only a process of a worker can report progress, and this one belongs to no service")
            .with_hint("call it in the worker's own program or script")
    })
}
