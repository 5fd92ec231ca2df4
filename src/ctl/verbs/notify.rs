// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tries whether notices arrive, shows what became of them, and sends one.

use crate::api::client::Dict;
use crate::ctl::args::Notify;
use crate::ctl::deliver;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Object, object_of};
use crate::ctl::out::{json, notices};
use crate::ctl::session::Session;
use serde_json::Value;
use std::io;

pub async fn perform(session: &Session, given: &Notify) -> Outcome {
    if given.deliver {
        let look = session.look_now();
        return deliver::deliver(io::stdin(), &look).map(|()| exit::OK).map_err(Failure::failed);
    }
    if given.list { list(session).await } else { test(session).await }
}

async fn test(session: &Session) -> Outcome {
    let link = session.connect().await?;
    let sent: zbus::Result<()> = link.ask("TestNotice", &(0_u64,)).await;
    sent.map_err(|error| Failure::from_bus("send a test notice", &error))?;
    session.note("The test notice was sent.");
    Ok(exit::OK)
}

async fn list(session: &Session) -> Outcome {
    let rows: Vec<Dict> = session
        .connect()
        .await?
        .manager()
        .await?
        .list_notices()
        .await
        .map_err(|error| Failure::from_bus("list the notices", &error))?;
    let mut rows: Vec<Object> = rows.iter().map(object_of).collect();
    if let Some(lines) = session.options.lines {
        let surplus = rows.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
        rows.drain(..surplus);
    }
    if let Some(form) = session.json() {
        let array: Value = rows.into_iter().map(json::complete).collect();
        return session.print_json(&array, form);
    }
    session.print_list(&notices::list(&rows, &session.look_now()))?;
    Ok(exit::OK)
}
