// SPDX-License-Identifier: MIT OR Apache-2.0
//! What everybody sees at this moment: the last published views.
//!
//! The publisher is the only writer. Nobody holds a lock for longer than it takes to clone an `Arc`.

use super::LogLevel;
use crate::engine::ids::{IncidentId, JobId, WorkerName};
use crate::engine::time::Wall;
use crate::engine::view::{IncidentView, JobView, ManagerView, WorkerView};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One view that is replaced as a whole; its copies show the same.
pub struct Shown<V>(Arc<RwLock<Arc<V>>>);

impl<V> Shown<V> {
    pub fn new(view: V) -> Shown<V> {
        Shown::of(Arc::new(view))
    }

    pub fn of(view: Arc<V>) -> Shown<V> {
        Shown(Arc::new(RwLock::new(view)))
    }

    pub fn view(&self) -> Arc<V> {
        Arc::clone(&read(&self.0))
    }

    /// Shows `view` from now on, and returns what was shown before.
    pub fn replace(&self, view: V) -> Arc<V> {
        std::mem::replace(&mut *write(&self.0), Arc::new(view))
    }
}

impl<V> Clone for Shown<V> {
    fn clone(&self) -> Shown<V> {
        Shown(Arc::clone(&self.0))
    }
}

/// The views of one kind, by their id.
pub struct Shelf<K, V>(RwLock<BTreeMap<K, Shown<V>>>);

impl<K: Ord + Clone, V> Shelf<K, V> {
    pub fn find<Q: Ord + ?Sized>(&self, id: &Q) -> Option<Shown<V>>
    where
        K: std::borrow::Borrow<Q>,
    {
        read(&self.0).get(id).cloned()
    }

    pub fn insert(&self, id: K, shown: Shown<V>) {
        write(&self.0).insert(id, shown);
    }

    pub fn remove(&self, id: &K) -> Option<Shown<V>> {
        write(&self.0).remove(id)
    }

    /// All of them, sorted by id.
    pub fn all(&self) -> Vec<(K, Shown<V>)> {
        read(&self.0).iter().map(|(id, shown)| (id.clone(), shown.clone())).collect()
    }
}

impl<K: Ord, V> Default for Shelf<K, V> {
    fn default() -> Shelf<K, V> {
        Shelf(RwLock::default())
    }
}

/// What the Manager shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagerState {
    pub view: ManagerView,
    pub degraded: Vec<String>,
    pub configured: Wall,
}

pub struct Board {
    pub manager: Shown<ManagerState>,
    pub workers: Shelf<WorkerName, WorkerView>,
    pub incidents: Shelf<IncidentId, IncidentView>,
    pub jobs: Shelf<JobId, JobView>,
    pub log_level: Shown<LogLevel>,
}

impl Board {
    pub fn new(log_level: LogLevel) -> Board {
        Board {
            manager: Shown::new(ManagerState::default()),
            workers: Shelf::default(),
            incidents: Shelf::default(),
            jobs: Shelf::default(),
            log_level: Shown::new(log_level),
        }
    }
}

// A panic elsewhere cannot leave a view half written: views are replaced as a whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
