// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where units live: systemd, over D-Bus.
//!
//! Knows how systemd words things and translates them: properties into `UnitFacts`, signals into events, actions into
//! jobs, definitions into transient units. It decides nothing, keeps no history, and never polls: it subscribes first,
//! lists once, and follows signals after that.
//!
//! Two connections are used. [`watch`] has one for itself, so that a flood of signals cannot delay a reply; [`jobs`]
//! calls over the other one.

pub mod environment;
pub mod facts;
pub mod jobs;
pub mod proxy;
pub mod transient;
pub mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

/// How long systemd may take to answer a method call.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// The bus on which the service manager can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The system's own service manager.
    System,
    /// The user's service manager (`$DBUS_SESSION_BUS_ADDRESS`, else `$XDG_RUNTIME_DIR/bus`).
    Session,
    /// A D-Bus address, such as `unix:path=/run/dbus/system_bus_socket`.
    At(String),
}

/// The bus cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {address}")]
pub struct ConnectError {
    address: Address,
    source: zbus::Error,
}

impl Address {
    /// Connects with room for `queued` messages that nobody has read yet.
    async fn connect(&self, queued: std::num::NonZeroUsize) -> Result<zbus::Connection, ConnectError> {
        let builder = match self {
            Address::System => zbus::connection::Builder::system(),
            Address::Session => zbus::connection::Builder::session(),
            Address::At(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connected = builder.max_queued(queued).build().await;
        connected.map_err(|source| ConnectError { address: self.clone(), source })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::System => f.write_str("the system bus"),
            Address::Session => f.write_str("the session bus"),
            Address::At(address) => write!(f, "the bus at {address}"),
        }
    }
}
