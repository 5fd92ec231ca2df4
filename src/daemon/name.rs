// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name on the bus: taken last, when everything behind it is there.

use super::Stop;
use crate::api::client::BUS_NAME;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use zbus::fdo::{self, RequestNameFlags, RequestNameReply};
use zbus::{Connection, DBusError};

/// For so long a refusal is asked about again: just after an installation the bus may not have read the new policy yet.
const DEADLINE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);
const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";

/// Takes the bus name; a second daemon must not share it.
pub async fn take(connection: &Connection) -> Result<(), Stop> {
    let deadline = Instant::now() + DEADLINE;
    let mut told = false;
    loop {
        match connection.request_name_with_flags(BUS_NAME, RequestNameFlags::DO_NOT_QUEUE).await {
            Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => return Ok(()),
            Ok(_) | Err(zbus::Error::NameTaken) => return Err(Stop::NameTaken),
            Err(error) if !denied(&error) || Instant::now() >= deadline => return Err(Stop::Bus(error)),
            Err(_) => {
                if !told {
                    tracing::info!("the bus does not let watcherd have its name yet; asking again");
                    told = true;
                }
                sleep(AGAIN).await;
            }
        }
    }
}

fn denied(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, ..) => name.as_str() == DENIED,
        zbus::Error::FDO(error) => matches!(**error, fdo::Error::AccessDenied(_)) || error.name().as_str() == DENIED,
        _ => false,
    }
}
