// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes what changed to the store, before anything is done about it, and remembers what could not be written.

use super::clock;
use crate::engine::Engine;
use crate::engine::ids::{ObjectId, WorkerName};
use crate::engine::saved::{SavedHold, SavedProgress, SavedWorker};
use crate::engine::time::{Mono, Now};
use crate::engine::view::{IncidentView, View};
use crate::store::{Batch, Store, StoreError};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Progress is written so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// Keeps the store in step with the engine.
pub struct Saver {
    store: Store,
    boot_id: String,
    workers: HashMap<WorkerName, SavedWorker>,
    incidents: HashMap<u32, IncidentView>,
    holds: Vec<SavedHold>,
    /// Workers whose progress may have moved since it was written, and when that is done next.
    moved: BTreeSet<WorkerName>,
    progress: HashMap<WorkerName, SavedProgress>,
    progress_due: Mono,
    /// What is not in the store yet, because writing failed.
    unsaved: BTreeSet<ObjectId>,
}

impl Saver {
    /// `known` is what the store holds already.
    pub fn new(store: Store, boot_id: String, known: &crate::engine::saved::Saved) -> Saver {
        Saver {
            store,
            boot_id,
            workers: known.workers.iter().map(|worker| (worker.name.clone(), worker.clone())).collect(),
            incidents: known.incidents.iter().map(|incident| (incident.id.0, incident.clone())).collect(),
            holds: known.holds.clone(),
            moved: BTreeSet::new(),
            progress: known.progress.iter().map(|progress| (progress.worker.clone(), progress.clone())).collect(),
            progress_due: Mono::default(),
            unsaved: BTreeSet::new(),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Whether something waits to be written.
    pub fn is_behind(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Writes what differs from the store, in one transaction.
    pub fn save(&mut self, engine: &Engine, changes: &BTreeSet<ObjectId>) -> Result<(), StoreError> {
        self.unsaved.extend(changes.iter().cloned());
        let batch = self.batch(engine, clock::now());
        let idle = batch.workers.is_empty() && batch.incidents.is_empty() && batch.progress.is_empty();
        if idle && batch.notices.is_empty() && batch.holds.is_none() {
            self.unsaved.clear();
            return Ok(());
        }
        self.store.save(&batch)?;
        self.unsaved.clear();
        for (name, worker) in batch.workers {
            if worker.is_none() {
                self.progress.remove(&name);
            }
            match worker {
                Some(worker) => self.workers.insert(name, worker),
                None => self.workers.remove(&name),
            };
        }
        self.progress.extend(batch.progress.into_iter().map(|progress| (progress.worker.clone(), progress)));
        for incident in batch.incidents {
            self.incidents.insert(incident.id.0, incident);
        }
        if let Some(holds) = batch.holds {
            self.holds = holds;
        }
        Ok(())
    }

    fn batch(&mut self, engine: &Engine, now: Now) -> Batch {
        let mut workers = Vec::new();
        let mut incidents = Vec::new();
        let mut notices = Vec::new();
        for id in &self.unsaved {
            match id {
                ObjectId::Worker(name) => {
                    let worker = engine.saved_worker(name);
                    if self.workers.get(name) != worker.as_ref() {
                        workers.push((name.clone(), worker));
                    }
                }
                ObjectId::Incident(incident) => match engine.view(id) {
                    Some(View::Incident(view)) if self.incidents.get(&incident.0) != Some(&view) => {
                        incidents.push(view);
                    }
                    Some(_) => {}
                    None => {
                        self.incidents.remove(&incident.0);
                    }
                },
                ObjectId::Notice(notice) => notices.push((*notice, engine.saved_notice(*notice))),
                ObjectId::Manager | ObjectId::Job(_) => {}
            }
        }
        let progress = self.moved_progress(engine, now);
        let holds = engine.saved_holds();
        let holds = (holds != self.holds).then_some(holds);
        let (next_incident, next_hold) = engine.next_ids();
        let boot_id = self.boot_id.clone();
        Batch { now, boot_id, workers, incidents, progress, notices, holds, next_incident, next_hold }
    }

    /// Progress moves all the time; it is written now and then, for all workers together.
    fn moved_progress(&mut self, engine: &Engine, now: Now) -> Vec<SavedProgress> {
        self.moved.extend(self.unsaved.iter().filter_map(|id| match id {
            ObjectId::Worker(name) => Some(name.clone()),
            _ => None,
        }));
        if now.mono < self.progress_due {
            return Vec::new();
        }
        self.progress_due = now.mono + PROGRESS_EVERY;
        let moved = std::mem::take(&mut self.moved);
        let fresh = |name: &WorkerName| {
            let progress = engine.saved_progress(name)?;
            let known = self.progress.get(name);
            let same = known.is_some_and(|known| {
                known.at == progress.at && known.value == progress.value && known.values == progress.values
            });
            (!same).then_some(progress)
        };
        moved.iter().filter_map(fresh).collect()
    }

    /// Writes everything that was put off; for the end.
    pub fn finish(&mut self, engine: &Engine) -> Result<(), StoreError> {
        self.progress_due = Mono::default();
        self.save(engine, &BTreeSet::new())
    }
}
