// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints what shells offer when a name is completed.
//!
//! It never starts watcherd, never asks for a password, is done within a second, and has no complaints.

use crate::api::client::BUS_NAME;
use crate::ctl::args::{NameKind, Names};
use crate::ctl::failure::{Outcome, exit};
use crate::ctl::model::object_of;
use crate::ctl::session::Session;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;
use zbus::fdo::DBusProxy;

/// Who waits at a prompt does not wait longer.
const DEADLINE: Duration = Duration::from_secs(1);

pub async fn perform(session: &Session, given: &Names) -> Outcome {
    if let Ok(Some(names)) = timeout(DEADLINE, names(session, given.kind)).await {
        session.print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    }
    Ok(exit::OK)
}

async fn names(session: &Session, kind: NameKind) -> Option<Vec<String>> {
    let link = session.connect().await.ok()?;
    let bus = DBusProxy::new(&link.connection).await.ok()?;
    if !bus.name_has_owner(BUS_NAME.try_into().ok()?).await.ok()? {
        return None;
    }
    let manager = link.manager().await.ok()?;
    match kind {
        NameKind::Workers => {
            let rows = manager.list_workers().await.ok()?;
            Some(rows.into_iter().map(|row| row.0).collect())
        }
        NameKind::Incidents => {
            let rows = manager.list_incidents(HashMap::new()).await.ok()?;
            Some(rows.iter().filter_map(|row| object_of(row).get("Id").map(ToString::to_string)).collect())
        }
    }
}
