// SPDX-License-Identifier: MIT OR Apache-2.0
//! org.freedesktop.LogControl1: the log level of the running daemon; see org.freedesktop.LogControl1(5).

use super::error::ApiError;
use super::{Call, LogLevel, SharedDesk, arguments};
use zbus::Connection;
use zbus::message::Header;

const INTERFACE: &str = "org.freedesktop.LogControl1";

pub struct LogControl {
    pub(super) desk: SharedDesk,
}

#[zbus::interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl LogControl {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> &'static str {
        self.desk.board.log_level.view().as_str()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), ApiError> {
        let known = LogLevel::parse(&level)
            .ok_or_else(|| ApiError::InvalidArgs(format!("{} is no log level", arguments::shown(&level))))?;
        self.admit(connection, header, "LogLevel").await?;
        self.desk.send(Call::LogLevel(known))?;
        self.desk.board.log_level.replace(known);
        Ok(())
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> String {
        self.desk.about.log_target.clone()
    }

    #[zbus(property)]
    async fn set_log_target(
        &self,
        target: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), ApiError> {
        self.admit(connection, header, "LogTarget").await?;
        if target == self.desk.about.log_target || target == "auto" {
            return Ok(());
        }
        Err(ApiError::NotSupported(format!("the log target cannot be changed to {}", arguments::shown(&target))))
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn syslog_identifier(&self) -> &'static str {
        "watcherd"
    }
}

impl LogControl {
    async fn admit(&self, connection: &Connection, header: Option<Header<'_>>, property: &str) -> Result<(), ApiError> {
        let header = header.ok_or_else(|| ApiError::AccessDenied("the caller cannot be identified".into()))?;
        self.desk.guard.admit_set(connection, &header, INTERFACE, property).await
    }
}
