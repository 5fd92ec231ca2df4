// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the runs of a worker are given: the parameters that remedies have changed, and where checkpoints are.

use super::action::{Checkpoints, Exports};
use super::*;
use std::sync::Arc;

impl Worker {
    /// What its next run is given besides the unit's own environment; `None` if the policy speaks of nothing like it.
    pub(super) fn exports(&self) -> Option<Arc<Exports>> {
        let checkpoints = self.checkpoints();
        if self.policy.parameters.is_empty() && checkpoints.is_none() {
            return None;
        }
        let variables = self.tuning.values().iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Some(Arc::new(Exports { variables: variables.collect(), checkpoints }))
    }

    fn checkpoints(&self) -> Option<Arc<Checkpoints>> {
        let policy = &self.policy;
        let path = specifier::expand(policy.checkpoints_path.value.as_deref()?, self.name.unit());
        let (keep, max_age) = (policy.checkpoints_keep.value, policy.checkpoints_max_age.value);
        Some(Arc::new(Checkpoints { path, keep, max_age, verify: policy.checkpoints_verify.value.clone() }))
    }
}

impl Engine {
    /// Has the unit prepared for what its runs are given, whoever starts them. Units that are made anew for every run get
    /// it with their start.
    pub(super) fn equip(&mut self, name: &WorkerName) {
        let dry = self.is_dry(name);
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.definition.is_some() || worker.restored || dry {
            return;
        }
        let wanted = worker.exports();
        if worker.equipped != wanted {
            worker.equipped.clone_from(&wanted);
            self.act(Action::Equip(name.clone(), wanted));
        }
    }

    /// The worker is not ours any more: nothing of ours shall stay with its unit.
    pub(super) fn strip(&mut self, worker: &Worker) {
        if worker.equipped.is_some() {
            self.act(Action::Equip(worker.name.clone(), None));
        }
    }
}
