// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells when something may have appeared or vanished under a name, by inotify. It has a thread of its own, because even
//! to watch a directory may block for ever; whoever waits here looks now and then all the same.

use crate::progress::ProbeId;
use crate::progress::places::Places;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use tokio::sync::{Notify, mpsc};

/// Orders that may wait; one that does not fit is left out, and its name is only looked at now and then.
const ORDERS_MAX: usize = 1_024;

/// The way to the thread, which ends with it.
pub struct Presence {
    orders: mpsc::Sender<Order>,
    next: u64,
}

enum Order {
    Watch(ProbeId, PathBuf, Arc<Notify>),
    Forget(ProbeId),
}

/// A name that is watched for as long as this is there.
pub struct Watched {
    id: ProbeId,
    changed: Arc<Notify>,
    orders: mpsc::Sender<Order>,
}

impl Presence {
    pub fn start() -> io::Result<Presence> {
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let run = move || runtime.block_on(keep_watch(queue));
        thread::Builder::new().name("presence".into()).spawn(run)?;
        Ok(Presence { orders, next: 0 })
    }

    pub fn watch(&mut self, path: &str) -> Watched {
        let id = ProbeId(self.next);
        self.next += 1;
        let changed = Arc::new(Notify::new());
        let _ = self.orders.try_send(Order::Watch(id, path.into(), changed.clone()));
        Watched { id, changed, orders: self.orders.clone() }
    }
}

impl Watched {
    /// Waits until something may have changed since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.orders.try_send(Order::Forget(self.id));
    }
}

async fn keep_watch(mut orders: mpsc::Receiver<Order>) {
    let mut places = match Places::new() {
        Ok(places) => places,
        Err(error) => {
            tracing::warn!(error = %error, "the presence of files is only looked at now and then");
            return;
        }
    };
    let mut names: HashMap<ProbeId, (PathBuf, Arc<Notify>)> = HashMap::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Watch(id, path, changed)) => {
                    watch(&mut places, id, &path);
                    // What came before the watch is seen by a look after it.
                    changed.notify_one();
                    names.insert(id, (path, changed));
                }
                Some(Order::Forget(id)) => {
                    places.forget(id);
                    names.remove(&id);
                }
                None => return,
            },
            () = places.changed() => {
                let changes = places.take().await;
                for id in &changes.moved {
                    if let Some((path, _)) = names.get(id) {
                        watch(&mut places, *id, path);
                    }
                }
                for (_, changed) in changes.files.union(&changes.moved).filter_map(|id| names.get(id)) {
                    changed.notify_one();
                }
            }
        }
    }
}

fn watch(places: &mut Places, id: ProbeId, path: &std::path::Path) {
    if let Err(errno) = places.watch(id, path) {
        tracing::debug!(path = %path.display(), errno = %errno, "a directory cannot be watched");
    }
}
