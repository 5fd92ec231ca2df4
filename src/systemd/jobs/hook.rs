// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a hook as a unit of its own and says how it ended. What it prints goes to the journal, under the unit's name.

use super::command::{DOWN_LAG, Order, Sandbox, hash, properties};
use super::{Failure, Jobs, call};
use crate::engine::action::Hook;
use crate::engine::event::{RunEnd, UnitResult};
use crate::engine::ids::WorkerName;
use tokio::time::Instant;
use zbus::Variant;

/// Lines that a hook may print within [`LINES_SPAN`]; journald drops the others, and says so.
const LINES_MAX: u32 = 1_000;
/// In microseconds.
const LINES_SPAN: u64 = 30_000_000;
/// The largest file that it may write, in bytes.
const FILE_MAX: u64 = 256 << 20;

/// Why a hook did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookFailure {
    /// It ended so.
    Ended(RunEnd),
    /// It was ended, because it took too long.
    TimedOut,
    /// It could not be run, or how it ended is not known; a fragment.
    Text(String),
}

/// The unit that runs the hooks of a worker, one at a time.
pub fn unit(worker: &WorkerName) -> String {
    format!("watcherd-hook-{:016x}.service", hash(worker.as_str()))
}

impl Jobs {
    /// Runs a hook of the worker to its end. One that still runs is ended first: nobody waits for it.
    pub async fn run_hook(&self, worker: &WorkerName, hook: &Hook, sandbox: Sandbox) -> Result<(), HookFailure> {
        let deadline = Instant::now() + hook.within + DOWN_LAG;
        let order = Order {
            unit: unit(worker),
            description: format!("Hook of {worker}"),
            argv: &hook.argv.0,
            sandbox,
            writes: None,
            within: hook.within,
        };
        let mut properties = properties(&order);
        let environment: Vec<_> = hook.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        properties.extend([
            ("Environment", Variant::new(environment)),
            ("StandardOutput", Variant::from("journal")),
            ("LogRateLimitIntervalUSec", Variant::from(LINES_SPAN)),
            ("LogRateLimitBurst", Variant::from(LINES_MAX)),
            ("LogExtraFields", Variant::new(vec![format!("WATCHERD_WORKER={worker}").into_bytes()])),
            ("LimitFSIZE", Variant::from(FILE_MAX)),
        ]);
        let end = self.expect_end(&order.unit);
        let begin = || call(self.inner.manager.start_transient_unit(&order.unit, "fail", &properties, &[]));
        let made = match begin().await {
            Err(Failure::Refused(refusal)) if refusal.is("UnitExists") => {
                self.make_room(&order.unit, deadline).await;
                begin().await
            }
            made => made,
        };
        match self.follow(made, deadline).await {
            Ok(()) => Ok(()),
            Err(Failure::Late) => Err(HookFailure::TimedOut),
            Err(Failure::Ended(result)) => match end.taken() {
                Some(end) if end.result == UnitResult::Timeout => Err(HookFailure::TimedOut),
                Some(end) => Err(HookFailure::Ended(end)),
                None => Err(HookFailure::Text(format!("the job ended with {result}"))),
            },
            Err(Failure::Refused(refusal)) => Err(HookFailure::Text(format!("systemd refused: {}", refusal.text))),
            Err(Failure::Text(text)) => Err(HookFailure::Text(text)),
        }
    }
}
