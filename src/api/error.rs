// SPDX-License-Identifier: MIT OR Apache-2.0
//! The errors of the interface: names on the wire, and sentences for people.
//!
//! One table serves both sides: objects answer with an [`ApiError`], clients find its [`ErrorName`] again.

use crate::engine::event::Refusal;
use std::fmt;
use zbus::message::{Header, Message};

/// Defines [`ErrorName`] and [`ApiError`] from one table, so that neither can lack a name.
macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident $name:literal;)*) => {
        /// What kind of error it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorName { $($(#[$doc])* $variant,)* }

        /// An error with its sentence, which names the object.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ApiError { $($(#[$doc])* $variant(String),)* }

        impl ErrorName {
            pub const ALL: &[ErrorName] = &[$(ErrorName::$variant,)*];

            /// The name on D-Bus.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorName::$variant => $name,)* }
            }
        }

        impl ApiError {
            pub fn name(&self) -> ErrorName {
                match self { $(ApiError::$variant(_) => ErrorName::$variant,)* }
            }

            pub fn text(&self) -> &str {
                match self { $(ApiError::$variant(text) => text,)* }
            }
        }
    };
}

errors! {
    NoSuchWorker "org.watcherd1.Error.NoSuchWorker";
    NoSuchIncident "org.watcherd1.Error.NoSuchIncident";
    NoSuchHold "org.watcherd1.Error.NoSuchHold";
    NoSuchJob "org.watcherd1.Error.NoSuchJob";
    WorkerHeld "org.watcherd1.Error.WorkerHeld";
    Quarantined "org.watcherd1.Error.Quarantined";
    NotSupported "org.watcherd1.Error.NotSupported";
    /// Something else is under way, or too much is; the same call may succeed later.
    Busy "org.watcherd1.Error.Busy";
    InvalidPolicy "org.watcherd1.Error.InvalidPolicy";
    /// A unit or a worker of that name exists.
    Exists "org.watcherd1.Error.Exists";
    /// The daemon is about to end.
    Stopping "org.watcherd1.Error.Stopping";
    InvalidArgs "org.freedesktop.DBus.Error.InvalidArgs";
    LimitsExceeded "org.freedesktop.DBus.Error.LimitsExceeded";
    AccessDenied "org.freedesktop.DBus.Error.AccessDenied";
    /// The caller may be allowed after a password dialog, but its call did not allow one.
    InteractiveAuthorizationRequired "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
    /// The daemon failed at its own job.
    Failed "org.freedesktop.DBus.Error.Failed";
}

impl ErrorName {
    pub fn parse(name: &str) -> Option<ErrorName> {
        ErrorName::ALL.iter().copied().find(|known| known.as_str() == name)
    }

    /// What the daemon answered to a client's call; `None` if it is not one of the interface's own errors.
    pub fn of(error: &zbus::Error) -> Option<ErrorName> {
        match error {
            zbus::Error::MethodError(name, ..) => ErrorName::parse(name.as_str()),
            zbus::Error::FDO(error) => ErrorName::parse(zbus::DBusError::name(&**error).as_str()),
            zbus::Error::DBus(error) => ErrorName::parse(error.name().as_str()),
            _ => None,
        }
    }
}

impl ApiError {
    /// The daemon does not listen any more.
    pub(super) fn stopping() -> ApiError {
        ApiError::Stopping("watcherd is stopping".into())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoSuchWorker(_) => ApiError::NoSuchWorker(text),
            Refusal::NoSuchIncident(_) => ApiError::NoSuchIncident(text),
            Refusal::NoSuchHold(_) => ApiError::NoSuchHold(text),
            Refusal::NoSuchJob(_) => ApiError::NoSuchJob(text),
            Refusal::WorkerHeld { .. } => ApiError::WorkerHeld(text),
            Refusal::Quarantined(..) => ApiError::Quarantined(text),
            Refusal::NotSupported(_) => ApiError::NotSupported(text),
            Refusal::Busy(_) => ApiError::Busy(text),
            Refusal::InvalidArgs(_) => ApiError::InvalidArgs(text),
            Refusal::Exists(_) => ApiError::Exists(text),
            Refusal::LimitsExceeded(_) => ApiError::LimitsExceeded(text),
            Refusal::Failed(_) => ApiError::Failed(text),
            Refusal::Stopping => ApiError::Stopping(text),
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for ApiError {}

impl zbus::DBusError for ApiError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name().as_str()).build(&(self.text(),))
    }

    fn name(&self) -> zbus::names::ErrorName<'_> {
        zbus::names::ErrorName::from_static_str(ApiError::name(self).as_str())
            .expect("the names in the table are valid")
    }

    fn description(&self) -> Option<&str> {
        Some(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ids::{HoldId, WorkerName};
    use zbus::DBusError;

    #[test]
    fn every_error_name_is_valid_and_found_again() {
        for name in ErrorName::ALL {
            assert_eq!(ErrorName::parse(name.as_str()), Some(*name));
            assert!(zbus::names::ErrorName::try_from(name.as_str()).is_ok(), "{name}");
        }
        assert_eq!(ErrorName::parse("org.watcherd1.Error.Nothing"), None);
    }

    #[test]
    fn refusals_keep_their_sentence() {
        let worker = WorkerName::parse("train@1").expect("valid");
        let error =
            ApiError::from(Refusal::WorkerHeld { worker, who: "alice".into(), why: "backup".into(), until: None });
        assert_eq!(DBusError::name(&error).as_str(), "org.watcherd1.Error.WorkerHeld");
        assert_eq!(error.description(), Some("train@1.service: held by alice (backup)"));
        assert_eq!(ApiError::from(Refusal::NoSuchHold(HoldId(3))).text(), "hold 3: no such hold");
    }
}
