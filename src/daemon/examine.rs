// SPDX-License-Identifier: MIT OR Apache-2.0
//! Examines failed runs: collects what the journal, the control group and the file systems know, and lets the rules read
//! it. A thread of its own, because libsystemd's journal blocks and belongs to one thread.

use super::options::Scope;
use crate::engine::Subject;
use crate::engine::evidence::Findings;
use crate::engine::ids::IncidentId;
use crate::journal;
use std::sync::mpsc as sync;
use std::time::Duration;
use tokio::sync::mpsc;

/// Examinations that may wait.
const WAITING_MAX: usize = 1_000;
/// Examinations that share one question to journald.
const BATCH: usize = 64;
/// journald must have written everything down by then.
const SYNCHRONIZE_DEADLINE: Duration = Duration::from_secs(2);

type Request = (IncidentId, Subject);

/// The way to the thread that examines.
pub struct Examiner {
    requests: sync::SyncSender<Request>,
    answers: mpsc::Receiver<(IncidentId, Findings)>,
    /// Answers that were known at once.
    at_once: Vec<(IncidentId, Findings)>,
}

impl Examiner {
    pub fn start(scope: Scope) -> std::io::Result<Examiner> {
        let (requests, waiting) = sync::sync_channel(WAITING_MAX);
        let (found, answers) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new().name("examiner".into()).spawn(move || examine_all(scope, &waiting, &found))?;
        Ok(Examiner { requests, answers, at_once: Vec::new() })
    }

    /// Has a run examined; [`Examiner::next`] brings what was found.
    pub fn ask(&mut self, id: IncidentId, subject: Subject) {
        if self.requests.try_send((id, subject)).is_err() {
            let gaps = vec!["too many runs failed at once to look at each of them".into()];
            self.at_once.push((id, Findings { gaps, ..Findings::default() }));
        }
    }

    /// What was found next; waits for ever while nothing is under way. May be dropped while it waits.
    pub async fn next(&mut self) -> (IncidentId, Findings) {
        if let Some(answer) = self.at_once.pop() {
            return answer;
        }
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// Answers until the other side is gone.
fn examine_all(scope: Scope, waiting: &sync::Receiver<Request>, found: &mpsc::Sender<(IncidentId, Findings)>) {
    let scope = scope.of_journal();
    while let Ok(first) = waiting.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(waiting.try_iter().take(BATCH - 1)).collect();
        // Without the right to ask journald for this, the last lines may be missing.
        let written = journal::synchronize(SYNCHRONIZE_DEADLINE).is_ok();
        for (id, subject) in batch {
            let findings = examine(scope, &subject, written);
            if found.blocking_send((id, findings)).is_err() {
                return;
            }
        }
    }
}

fn examine(_scope: journal::Scope, _subject: &Subject, _written: bool) -> Findings {
    Findings::default()
}
