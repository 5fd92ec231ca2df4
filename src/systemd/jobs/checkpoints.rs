// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs our own program about the checkpoints of a worker, as a unit of its own.

use super::Jobs;
use super::command::{Order, Sandbox, hash};
use crate::engine::ids::WorkerName;
use std::sync::Arc;
use std::time::Duration;

impl Jobs {
    /// Runs it to its end, and returns what it printed; the error is a fragment. It may write below that directory, as far
    /// as the owners of what is there may. One that still runs for the worker is ended first.
    pub async fn tend_checkpoints(
        &self,
        worker: &WorkerName,
        argv: &[Arc<str>],
        place: &str,
        sandbox: Sandbox,
        within: Duration,
    ) -> Result<Vec<u8>, String> {
        let order = Order {
            unit: format!("watcherd-checkpoints-{:016x}.service", hash(worker.as_str())),
            description: format!("Checkpoints of {worker}"),
            argv,
            sandbox,
            writes: Some(place),
            within,
        };
        self.carry(&order).await
    }
}
