// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the service manager hears about us: READY=1, STATUS=, WATCHDOG=1; see sd_notify(3).

use sd_notify::NotifyState;
use std::time::Duration;

/// Speaks to the service manager; says nothing where there is none.
#[derive(Debug, Default)]
pub struct Ready {
    status: String,
}

impl Ready {
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Says how things are in one line, if that is news.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            notify(&[NotifyState::Status(status)]);
        }
    }

    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
    }

    pub fn reloaded(&self) {
        notify(&[NotifyState::Ready]);
    }

    pub fn stopping(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    pub fn alive(&self) {
        notify(&[NotifyState::Watchdog]);
    }
}

/// How often the service manager wants to hear that we are alive; half of `WatchdogSec=`, as sd_watchdog_enabled(3) says.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = %error, "the service manager cannot be told");
    }
}
