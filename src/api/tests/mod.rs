// SPDX-License-Identifier: MIT OR Apache-2.0
//! The objects as callers meet them, over a socket pair instead of a bus.

mod calls;
mod contract;
mod publishing;
mod scale;

use super::guard::Mode;
use super::publish::{Publication, Publisher};
use super::{About, CALLS_MAX, Call, LogLevel};
use crate::engine::cause::Cause;
use crate::engine::ids::{IncidentId, InvocationId, JobId, NoticeId, ObjectId, WorkerName};
use crate::engine::notice::Notice;
use crate::engine::saved::SavedNotice;
use crate::engine::time::{Mono, Wall};
use crate::engine::view::{
    IncidentResult, IncidentState, IncidentView, JobView, ManagerView, NoticeStage, NoticeState, Phase, ProgressView,
    RemedyView, View, WorkerView,
};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::connection::Builder;
use zbus::{Connection, Guid};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon with a scripted inside, and its only client.
struct Scene {
    client: Connection,
    publisher: Publisher,
    calls: mpsc::Receiver<Call>,
    /// Keeps the daemon's side alive.
    _server: Connection,
}

impl Scene {
    /// The caller may do everything.
    async fn open() -> Scene {
        Scene::with(Mode::User { uid: nix::unistd::getuid().as_raw() }).await
    }

    /// The caller is a stranger.
    async fn closed() -> Scene {
        Scene::with(Mode::User { uid: nix::unistd::getuid().as_raw() + 1 }).await
    }

    async fn with(mode: Mode) -> Scene {
        let (server, client) = pair().await;
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let about = About {
            version: "1.2.3".into(),
            features: vec!["store".into()],
            log_target: "journal".into(),
            log_level: LogLevel::Info,
        };
        let publisher = Publisher::new(&server, about, mode, sender);
        publisher.export_root().await.expect("the root is free");
        Scene { client, publisher, calls, _server: server }
    }

    async fn publish(&mut self, changes: Vec<(ObjectId, Option<View>)>) {
        let publication = Publication { changes, ..Publication::default() };
        self.publisher.publish(publication).await.expect("the client reads");
    }
}

async fn pair() -> (Connection, Connection) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let guid = Guid::generate();
    let server = Builder::unix_stream(ours).server(guid).p2p().build();
    let client = Builder::unix_stream(theirs).p2p().build();
    let (server, client) = tokio::join!(server, client);
    (server.expect("a server"), client.expect("a client"))
}

fn name(text: &str) -> WorkerName {
    WorkerName::parse(text).expect("a valid name")
}

fn worker(text: &str) -> WorkerView {
    WorkerView {
        name: name(text),
        phase: Phase::Working,
        reason: "it runs".into(),
        since: Wall(1_000_000),
        origin: "policy",
        cause: None,
        incident: None,
        main_pid: 4711,
        invocation: Some(InvocationId([7; 16])),
        progress: Some(ProgressView {
            value: 120,
            total: 500,
            at: Wall(2_000_000),
            at_mono: Mono(1_000),
            rate: 1.5,
            time_left: Duration::from_secs(250),
            time_left_spread: Duration::from_secs(9),
        }),
        attempts: 0,
        budget_left: 5,
        next_action: "",
        next_action_at: Wall::NEVER,
        next_action_at_mono: Mono(0),
        parameters: vec![("BATCH".into(), "32".into(), "64".into())],
        held: false,
        runs: 1,
        downtime: Duration::ZERO,
        intended_up: true,
        stall_at: Wall(9_000_000),
        stall_at_mono: Mono(8_000),
        sources: Vec::new(),
        values: [("active".to_owned(), 2.0)].into(),
        warnings: Vec::new(),
        policy: [("restart.budget".into(), "5/1h".into(), "default".into())].into(),
    }
}

fn notice() -> SavedNotice {
    SavedNotice {
        notice: Notice {
            id: NoticeId(8),
            stage: NoticeStage::Opened,
            is_final: true,
            incident: Some(IncidentId(3)),
            worker: Some(name("train@1")),
            cause: Cause::Segfault,
            confidence: 90,
            result: IncidentResult::None,
            opened: Wall(3_000_000),
            retry_at: Wall::NEVER,
            text: "train@1.service was killed by SIGSEGV".into(),
            next: "look at the core dump".into(),
            lines: vec!["a line of a log".into()],
            repeats: 0,
        },
        state: NoticeState::Waiting,
        made: Wall(3_000_100),
        begun: Wall(3_000_200),
        due: Wall(9_000_000),
        attempts: 2,
        again: false,
        error: "the unit failed".into(),
    }
}

fn incident(id: u32, worker: &str) -> IncidentView {
    IncidentView {
        id: IncidentId(id),
        worker: name(worker),
        run: Some(InvocationId([7; 16])),
        cause: Cause::Segfault,
        confidence: 90,
        because: vec!["the main process was killed by SIGSEGV".into()],
        cascade: Vec::new(),
        opened: Wall(3_000_000),
        detected: Wall(3_000_100),
        decided: Wall::NEVER,
        started: Wall::NEVER,
        recovered: Wall::NEVER,
        closed: Wall::NEVER,
        state: IncidentState::Open,
        result: IncidentResult::None,
        remedies: vec![RemedyView { action: "restart", at: Wall(4), by: "default".into(), outcome: String::new() }],
        part_of: None,
        members: vec![name("other.service")],
        text: "killed by SIGSEGV".into(),
    }
}

fn job(id: u32, worker: &str) -> JobView {
    JobView {
        id: JobId(id),
        kind: "restart",
        worker: name(worker),
        state: "waiting",
        result: "",
        detail: String::new(),
    }
}

fn shows_worker(view: WorkerView) -> (ObjectId, Option<View>) {
    (ObjectId::Worker(view.name.clone()), Some(View::Worker(view)))
}

fn shows_incident(view: IncidentView) -> (ObjectId, Option<View>) {
    (ObjectId::Incident(view.id), Some(View::Incident(view)))
}

fn shows_job(view: JobView) -> (ObjectId, Option<View>) {
    (ObjectId::Job(view.id), Some(View::Job(view)))
}

/// One of each kind: worker train@1, incident 1, job 1.
fn everything() -> Vec<(ObjectId, Option<View>)> {
    let manager = ManagerView { workers: 1, incidents_open: 1, holds: Vec::new(), dry_run: false };
    vec![
        (ObjectId::Manager, Some(View::Manager(manager))),
        shows_worker(worker("train@1")),
        shows_incident(incident(1, "train@1")),
        shows_job(job(1, "train@1")),
    ]
}
