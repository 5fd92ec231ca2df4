// SPDX-License-Identifier: MIT OR Apache-2.0
//! watcherd on a real systemd.

mod bus;
mod checkpoints;
mod client;
mod conditions;
mod configuration;
mod crash;
mod daemon;
mod gpu;
mod guard;
mod hangs;
mod hooks;
mod hostile;
mod journal;
mod leftovers;
mod life;
mod notify;
mod progress;
mod record;
mod remedies;
mod verdict;

use crate::machine::{Machine, Suite};

/// A policy that acts at once, so that tests need not wait.
pub const QUICK: &str = "[worker]\nunits = [\"w.service\", \"w@*.service\"]\n\
    [restart]\nback-off = \"0s\"\nbudget = \"20/1h\"\nverify = \"1s\"\nreset-after = \"1h\"\n";

/// A unit that runs for ever.
pub const SLEEPER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// A machine with watcherd and a worker `w.service` that runs.
pub fn with_worker(suite: Suite, policy: &str, unit: &str) -> Machine {
    let machine = Machine::boot_with(
        suite,
        &[("/etc/watcherd/workers.d/w.toml", policy), ("/etc/systemd/system/w.service", unit)],
    );
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w.service"]);
    machine.until_property("w.service", "Phase", "working");
    machine
}
