// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a verb failed: a sentence, a hint and an exit status.

use super::out::escape::escaped;
use crate::api::error::ErrorName;
use std::io;
use zbus::fdo;

/// The exit status of a verb.
pub mod exit {
    pub const OK: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const NOT_HEALTHY: u8 = 3;
    pub const NO_SUCH_WORKER: u8 = 4;
    pub const NOT_RUNNING: u8 = 5;
    pub const NOT_AUTHORISED: u8 = 77;
    pub const CONFIGURATION: u8 = 78;
    /// As shells count it: 128 and SIGINT.
    pub const INTERRUPTED: u8 = 130;
}

/// What a verb ends with.
pub type Outcome = Result<u8, Failure>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: u8,
    /// What is printed after the program's name; empty where there is nothing to say.
    pub text: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(status: u8, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into(), hint: None }
    }

    pub fn failed(text: impl Into<String>) -> Failure {
        Failure::new(exit::FAILED, text)
    }

    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, text)
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    pub fn not_running() -> Failure {
        Failure::new(exit::NOT_RUNNING, "watcherd is not running")
    }

    /// `what` is what was tried, as in "cannot `restart train@1.service`".
    pub fn from_bus(what: &str, error: &zbus::Error) -> Failure {
        if is_absent(error) {
            return Failure::not_running();
        }
        let name = ErrorName::of(error);
        let status = match name {
            Some(ErrorName::NoSuchWorker) => exit::NO_SUCH_WORKER,
            Some(ErrorName::AccessDenied | ErrorName::InteractiveAuthorizationRequired) => exit::NOT_AUTHORISED,
            Some(ErrorName::InvalidPolicy) => exit::CONFIGURATION,
            _ if is_authentication(error) => exit::NOT_AUTHORISED,
            _ => exit::FAILED,
        };
        let text = description(error);
        let failure = match name {
            // The sentence says it all and names the object.
            Some(
                ErrorName::NoSuchWorker | ErrorName::NoSuchHold | ErrorName::NoSuchIncident | ErrorName::NoSuchJob,
            ) => Failure::new(status, text),
            _ => {
                let rest = what.rsplit(' ').next().and_then(|object| text.strip_prefix(object)?.strip_prefix(": "));
                Failure::new(status, format!("cannot {what}: {}", rest.unwrap_or(&text)))
            }
        };
        match name {
            Some(ErrorName::WorkerHeld) => failure.with_hint("watcherctl release WORKER ends a hold"),
            Some(ErrorName::Quarantined) => {
                failure.with_hint("watcherctl why WORKER tells why, watcherctl reset WORKER ends it")
            }
            _ => failure,
        }
    }
}

/// What the other side said about it, safe to print.
pub fn description(error: &zbus::Error) -> String {
    let text = match error {
        zbus::Error::MethodError(name, text, _) => text.clone().unwrap_or_else(|| name.to_string()),
        zbus::Error::FDO(error) => match &**error {
            fdo::Error::NoReply(_) | fdo::Error::Disconnected(_) => "watcherd went away before it answered".to_owned(),
            error => zbus::DBusError::description(error).map_or_else(|| error.to_string(), str::to_owned),
        },
        error => error.to_string(),
    };
    escaped(&text).into_owned()
}

/// Whether nobody is there to answer.
fn is_absent(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::FDO(error) => matches!(
            **error,
            fdo::Error::ServiceUnknown(_)
                | fdo::Error::NameHasNoOwner(_)
                | fdo::Error::SpawnChildExited(_)
                | fdo::Error::SpawnFailed(_)
                | fdo::Error::SpawnServiceNotFound(_)
                | fdo::Error::TimedOut(_)
        ),
        // Activation over systemd fails with systemd's own errors.
        zbus::Error::MethodError(name, ..) => name.starts_with("org.freedesktop.systemd1."),
        _ => false,
    }
}

fn is_authentication(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::FDO(error) => matches!(**error, fdo::Error::AuthFailed(_)),
        zbus::Error::MethodError(name, ..) => name.ends_with(".NotAuthorized"),
        _ => false,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            // Nobody reads on; that is no failure.
            io::ErrorKind::BrokenPipe => Failure::new(exit::OK, ""),
            _ => Failure::failed(format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: fdo::Error) -> Failure {
        Failure::from_bus("restart train@1.service", &zbus::Error::FDO(Box::new(name)))
    }

    #[test]
    fn errors_have_the_status_that_scripts_rely_on() {
        assert_eq!(refusal(fdo::Error::ServiceUnknown("x".into())).status, exit::NOT_RUNNING);
        assert_eq!(refusal(fdo::Error::NameHasNoOwner("x".into())).text, "watcherd is not running");
        assert_eq!(refusal(fdo::Error::AccessDenied("no".into())).status, exit::NOT_AUTHORISED);
        assert_eq!(refusal(fdo::Error::AuthFailed("no".into())).status, exit::NOT_AUTHORISED);
        assert_eq!(refusal(fdo::Error::Failed("x".into())).status, exit::FAILED);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).status, exit::OK);
    }

    #[test]
    fn the_object_is_named_once() {
        let failure = refusal(fdo::Error::Failed("train@1.service: the disk is full".into()));
        assert_eq!(failure.text, "cannot restart train@1.service: the disk is full");
    }

    #[test]
    fn terminal_escapes_do_not_get_through() {
        assert_eq!(
            refusal(fdo::Error::Failed("a\u{1b}[2Jb".into())).text,
            r"cannot restart train@1.service: a\x1b[2Jb"
        );
    }
}
