// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a failed run has left behind: its processes are ended before the next run begins.

use super::*;
use flight::Purpose;
use ids::InvocationId;
use policy::Leftovers;

impl Worker {
    /// The run whose leftovers must be gone before a start.
    pub(super) fn leftovers(&self, purpose: Purpose) -> Option<InvocationId> {
        let failed = purpose == Purpose::Recover && self.run.ended && self.policy.leftovers.value == Leftovers::End;
        self.run.invocation.filter(|_| failed)
    }
}

impl Engine {
    /// What was left of a failed run is gone, or it is known what could not be ended.
    pub(super) fn swept(&mut self, name: &WorkerName, ended: &Result<Vec<String>, String>) {
        let text = match ended {
            Ok(ended) if ended.is_empty() => return,
            Ok(ended) => format!("{name}: ended what the failed run had left behind: {}", ended.join(", ")),
            Err(why) => format!("{name}: what the failed run has left behind could not be ended: {why}"),
        };
        if self.workers.contains_key(name) {
            self.record(EntryKind::LeftoversEnded, Some(name), text);
        }
    }
}
