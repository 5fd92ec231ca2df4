// SPDX-License-Identifier: MIT OR Apache-2.0
//! Examines failed runs: collects what the journal, the control group and the file systems know, and lets the rules read
//! it. The journal is read on a thread of its own, because libsystemd blocks and belongs to one thread.

use super::live::Live;
use super::options::Scope;
use crate::engine::Subject;
use crate::engine::cause::Cause;
use crate::engine::event::{Event, Exit};
use crate::engine::evidence::{Evidence, Findings, Item, Source};
use crate::engine::ids::{IncidentId, ObjectId, WorkerName};
use crate::engine::sign::Sign;
use crate::engine::view::View;
use crate::host::counters::{Counters, Rise};
use crate::host::{disk, dump};
use crate::journal::{self, Journal, evidence};
use crate::progress::lines::Lines;
use crate::rules::Rules;
use std::collections::VecDeque;
use std::sync::mpsc as sync;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Examinations that may wait.
const WAITING_MAX: usize = 1_000;
/// Examinations that share one question to journald.
const BATCH: usize = 64;
/// journald must have written everything down by then.
const SYNCHRONIZE_DEADLINE: Duration = Duration::from_secs(2);
/// Runs whose core dump may be waited for at the same time.
const LATE_MAX: usize = 64;
/// The first look for a core dump that was not there; each later one waits twice as long as the one before.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// Looks for a core dump while the verdict is waited for: the last one after 1.5 s.
const LOOKS_IN_A_HURRY: u32 = 4;
/// Looks while nobody waits: the last one after 14 minutes. systemd-coredump compresses tens of gigabytes in that time.
const LOOKS: u32 = 13;

/// The rules in force; a reload puts others in their place.
#[derive(Clone, Debug)]
pub struct SharedRules(Arc<Mutex<Arc<Rules>>>);

impl SharedRules {
    pub fn new(rules: Arc<Rules>) -> SharedRules {
        SharedRules(Arc::new(Mutex::new(rules)))
    }

    pub fn current(&self) -> Arc<Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, rules: Arc<Rules>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }
}

/// A failed run, and what its control group counted.
type Request = (IncidentId, Subject, Option<String>);

/// The way to the thread that examines, and to what the kernel counts.
pub struct Examiner {
    requests: sync::SyncSender<Request>,
    answers: mpsc::Receiver<(IncidentId, Findings)>,
    counters: Option<Counters>,
    live: Live,
    /// The units that ran before we did are known; those that come now are new.
    listed: bool,
    /// What is known already.
    ready: VecDeque<Event>,
}

impl Examiner {
    pub fn start(scope: Scope, rules: SharedRules, lines: Lines) -> std::io::Result<Examiner> {
        let (requests, waiting) = sync::sync_channel(WAITING_MAX);
        let (found, answers) = mpsc::channel(WAITING_MAX);
        let live_rules = rules.clone();
        let body = move || examine_all(scope, &rules, &waiting, &found);
        std::thread::Builder::new().name("examiner".into()).spawn(body)?;
        // Without inotify instances left, everything else works on.
        let counters =
            Counters::new().inspect_err(|error| tracing::warn!("control groups cannot be followed: {error}"));
        let live = Live::start(scope, live_rules, lines);
        Ok(Examiner { requests, answers, counters: counters.ok(), live, listed: false, ready: VecDeque::new() })
    }

    /// Follows the journal and the control groups of the runs that the views show.
    pub fn follow(&mut self, changes: &[(ObjectId, Option<View>)]) {
        self.live.follow(changes);
        let Some(counters) = &mut self.counters else { return };
        for (id, view) in changes {
            match (id, view) {
                (ObjectId::Worker(name), Some(View::Worker(view))) if view.main_pid != 0 => {
                    let rise = counters.follow(name, view.invocation, view.main_pid, self.listed);
                    self.ready.extend(rise.map(sign));
                }
                (ObjectId::Worker(name), None) => counters.let_go(name),
                _ => {}
            }
        }
    }

    /// From here on, runs that come are new ones.
    pub fn all_listed(&mut self) {
        self.listed = true;
    }

    /// Has a run examined; [`Examiner::next`] brings what was found.
    pub fn ask(&mut self, id: IncidentId, subject: Subject) {
        let counted = self.counters.as_mut().and_then(|c| c.of_run(&subject.worker, subject.invocation));
        if self.requests.try_send((id, subject, counted)).is_err() {
            let gaps = vec!["too many runs failed at once to look at each of them".into()];
            self.ready.push_back(Event::Examined(id, Findings { gaps, ..Findings::default() }.into()));
        }
    }

    /// Looks which of the processes is writing its core.
    pub fn find_dumping(&mut self, processes: Vec<(WorkerName, u32)>) {
        self.ready.extend(dump::dumping(processes).into_iter().map(|(name, pid)| Event::Dumping(name, pid)));
    }

    /// What was found next; waits for ever while nothing is under way. May be dropped while it waits.
    pub async fn next(&mut self) -> Event {
        if let Some(event) = self.ready.pop_front() {
            return event;
        }
        let rises = async {
            match &mut self.counters {
                Some(counters) => counters.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((id, findings)) = self.answers.recv() => return Event::Examined(id, findings.into()),
            event = self.live.next() => return event,
            rises = rises => self.ready.extend(rises.into_iter().map(sign)),
        }
        self.ready.pop_front().unwrap_or(Event::Wake)
    }
}

/// A killed child or a refused fork of a worker that goes on.
fn sign(rise: Rise) -> Event {
    let (cause, count) = match (rise.oom_kills, rise.own_limit) {
        (0, _) => (Cause::TaskLimit, rise.refused_forks),
        (kills, true) => (Cause::OomKillCgroup, kills),
        (kills, false) => (Cause::OomKillHost, kills),
    };
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let at = super::clock::now().wall;
    Event::Sign(rise.worker, Sign { cause, source: Source::Cgroup, text: rise.text, count, at })
}

/// Answers until the other side is gone.
fn examine_all(
    scope: Scope,
    rules: &SharedRules,
    waiting: &sync::Receiver<Request>,
    found: &mpsc::Sender<(IncidentId, Findings)>,
) {
    let scope = scope.of_journal();
    let mut late: Vec<Late> = Vec::new();
    loop {
        let first = match late.iter().map(|late| late.next).min() {
            None => waiting.recv().map_err(|_| sync::RecvTimeoutError::Disconnected),
            Some(next) => waiting.recv_timeout(next.saturating_duration_since(Instant::now())),
        };
        if first == Err(sync::RecvTimeoutError::Disconnected) {
            return;
        }
        let now = Instant::now();
        let batch = first.into_iter().chain(waiting.try_iter().take(BATCH - 1));
        let new = batch.map(|request| Late { request, looks: 0, next: now });
        let due: Vec<_> = new.chain(late.extract_if(.., |late| late.next <= now)).collect();
        // Without the right to ask journald for this, the last lines may be missing.
        let written = journal::synchronize(SYNCHRONIZE_DEADLINE).is_ok();
        let rules = rules.current();
        for mut due in due {
            let (id, subject, counted) = &due.request;
            let findings = examine(&rules, scope, subject, counted.clone(), written);
            if findings.core_to_come && due.looks < due.looks_at_most() && late.len() < LATE_MAX {
                due.next = Instant::now() + FIRST_LOOK * 2_u32.pow(due.looks);
                due.looks += 1;
                late.push(due);
            } else if found.blocking_send((*id, findings)).is_err() {
                return;
            }
        }
    }
}

/// A run whose core dump systemd-coredump has yet to write down.
struct Late {
    request: Request,
    looks: u32,
    next: Instant,
}

impl Late {
    fn looks_at_most(&self) -> u32 {
        if self.request.1.unhurried { LOOKS } else { LOOKS_IN_A_HURRY }
    }
}

fn examine(
    rules: &Arc<Rules>,
    scope: journal::Scope,
    subject: &Subject,
    counted: Option<String>,
    written: bool,
) -> Findings {
    let now = super::clock::now().wall;
    let mut evidence = from_journal(scope, subject).unwrap_or_else(|error| {
        let gaps = vec![format!("the journal cannot be read: {}", super::chain(&error))];
        Evidence { gaps, ..Evidence::default() }
    });
    if !written && scope == journal::Scope::System {
        evidence.gaps.push("journald may not have written the last lines down".into());
    }
    let counted = counted.map(|text| Item { source: Source::Cgroup, at: now, pid: 0, text, cursor: String::new() });
    evidence.items.extend(counted);
    evidence.items.extend(disk::full(now));
    let dumped = matches!(subject.end.exit, Exit::Dumped(_)) && dump::is_written_down();
    let of_it = |item: &Item| item.source == Source::CoreDump && [0, item.pid].contains(&subject.end.pid);
    let core_to_come = dumped && !evidence.items.iter().any(of_it);
    Findings { clues: rules.read(&evidence), gaps: evidence.gaps, core_to_come }
}

fn from_journal(scope: journal::Scope, subject: &Subject) -> Result<Evidence, journal::JournalError> {
    let end = &subject.end;
    let now = super::clock::now().wall;
    let wanted = evidence::Wanted {
        unit: subject.worker.unit(),
        scope,
        run: None,
        invocation: subject.invocation,
        pid: end.pid,
        since: end.started,
        until: if end.ended.0 > 0 { end.ended } else { now },
    };
    evidence::collect(&mut Journal::open(scope)?, &wanted)
}
