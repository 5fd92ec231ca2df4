// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs what may block for ever in threads of its own, so that nothing else waits for it: one at a time for each key, and
//! few altogether. A thread that hangs is left alone; whoever asks again waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Threads that may be under way, or hang, at once.
const THREADS_MAX: usize = 32;
/// They do little.
const STACK: usize = 512 << 10;

/// Clones share their threads.
#[derive(Clone)]
pub struct Aside {
    places: Arc<Semaphore>,
    turns: Arc<Mutex<HashMap<Arc<str>, Arc<Semaphore>>>>,
}

impl Aside {
    pub fn new() -> Aside {
        Aside { places: Arc::new(Semaphore::new(THREADS_MAX)), turns: Arc::default() }
    }

    /// Does the work; the error, a fragment, says that there was no answer in time, or no thread.
    pub async fn ask<T: Send + 'static>(
        &self,
        key: &str,
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let (turn, places) = (self.turn(key), self.places.clone());
        let asked = async move {
            let turn = turn.acquire_owned().await;
            let place = places.acquire_owned().await;
            let (tell, told) = oneshot::channel();
            let run = move || {
                let done = work();
                // Whoever gets the answer may ask again at once.
                drop((turn, place));
                let _ = tell.send(done);
            };
            let started = thread::Builder::new().name("aside".into()).stack_size(STACK).spawn(run);
            started.map_err(|error| format!("a thread cannot be started: {error}"))?;
            told.await.map_err(|_| "it was broken off".to_owned())
        };
        timeout(within, asked).await.unwrap_or_else(|_| Err(format!("no answer within {}s", within.as_secs())))
    }

    /// Whether work for that key is under way, or hangs.
    pub fn is_busy(&self, key: &str) -> bool {
        self.turn(key).available_permits() == 0
    }

    fn turn(&self, key: &str) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(key.into()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn what_hangs_delays_only_who_asks_for_the_same() {
        let aside = Aside::new();
        let within = Duration::from_secs(1);
        let (release, gate) = mpsc::channel::<()>();
        let hang = aside.ask("/dead", within, move || gate.recv().is_ok());
        assert_eq!(hang.await, Err("no answer within 1s".to_owned()));
        assert_eq!(aside.ask("/well", within, || 7).await, Ok(7));
        assert!(aside.is_busy("/dead") && !aside.is_busy("/well"));
        let second = aside.ask("/dead", within, || 8).await;
        assert_eq!(second, Err("no answer within 1s".to_owned()), "a second one hangs in the same place");
        release.send(()).expect("the thread waits");
        assert_eq!(aside.ask("/dead", within * 10, || 9).await, Ok(9));
        assert_eq!(aside.turns.lock().expect("nobody panicked").len(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let aside = Aside::new();
        let broken = aside.ask("x", Duration::from_secs(10), || panic!("on purpose")).await;
        assert_eq!(broken, Err::<(), _>("it was broken off".to_owned()));
        assert_eq!(aside.ask("x", Duration::from_secs(10), || 1).await, Ok(1));
    }
}
