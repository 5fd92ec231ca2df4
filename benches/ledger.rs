// SPDX-License-Identifier: MIT OR Apache-2.0
//! What remembering costs: the start of watcherd with the memory of many workers and incidents, and one incident's writes.

use crate::machine::{Machine, Suite};
use crate::{quantile, sorted};
use std::path::Path;
use std::time::{Duration, Instant};
use watcherd::engine::cause::Cause;
use watcherd::engine::ids::{IncidentId, InvocationId, WorkerName};
use watcherd::engine::recurrence::Recurrence;
use watcherd::engine::saved::{SavedPace, SavedProgress, SavedRemedies, SavedWorker};
use watcherd::engine::time::{Mono, Now, Wall};
use watcherd::engine::view::{IncidentResult, IncidentState, IncidentView, Phase, RemedyView};
use watcherd::store::{Batch, Store};

const WORKERS: usize = 1_000;
const INCIDENTS: usize = 10_000;
const POLICY: &str = "[worker]\nunits = [\"w@*.service\"]\n";
const UNIT: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const DAY: i64 = 86_400_000_000;

pub fn measure(rounds: usize) {
    println!("\nthe memory of {WORKERS} workers and {INCIDENTS} incidents (ms)");
    let dir = tempfile::tempdir().expect("a directory");
    fill(dir.path());
    writes(dir.path());
    let mut starts = Vec::new();
    for (what, filled) in [("nothing", false), ("all of it", true)] {
        let machine = Machine::boot_with(
            Suite::Bookworm,
            &[("/etc/watcherd/workers.d/w.toml", POLICY), ("/etc/systemd/system/w@.service", UNIT)],
        );
        if filled {
            machine.ok(&["install", "-d", "-m", "700", "/var/lib/watcherd"]);
            let target = machine.root().join("var/lib/watcherd/state.db");
            std::fs::copy(dir.path().join("state.db"), target).expect("it can be copied");
        }
        let times = sorted((0..rounds).map(|_| start(&machine)).collect());
        if filled {
            let reply = machine.call("ListWorkers", &[]).expect("watcherd answers");
            assert!(reply.starts_with(&format!("a(ssssto) {WORKERS} ")), "not all workers are there");
        }
        let (median, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
        println!("  started -> ready, knowing {what:10} {median:8.1} median, {p99:.1} p99, {rounds} rounds");
        starts.push(median);
    }
    println!("  what the memory adds to a start       {:8.1}", starts[1] - starts[0]);
}

/// Starts watcherd anew; how long systemd waits until it is ready.
fn start(machine: &Machine) -> f64 {
    machine.ok(&["systemctl", "restart", "watcherd"]);
    let at = |property: &str| machine.unit("watcherd", property).parse::<f64>().expect("a time");
    (at("ActiveEnterTimestampMonotonic") - at("ExecMainStartTimestampMonotonic")) / 1e3
}

/// What is written when a worker fails, when the verdict is there, and when it has recovered.
fn writes(dir: &Path) {
    let (mut store, _) = Store::open(dir).expect("the store");
    let mut times = Vec::new();
    for n in 0..1_000 {
        let (id, name) = (u32::try_from(INCIDENTS + n).expect("small"), worker_name(n % WORKERS));
        let mut incident = IncidentView { state: IncidentState::Recovering, ..incident(id, &name) };
        let begun = Instant::now();
        for state in [IncidentState::Recovering, IncidentState::Recovering, IncidentState::Closed] {
            incident.state = state;
            let workers = vec![(name.clone(), Some(worker(&name)))];
            store.save(&batch(workers, vec![incident.clone()], Vec::new())).expect("it is saved");
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let times = sorted(times);
    let (median, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
    println!("  the writes of one incident (3 batches) {median:7.2} median, {p99:.2} p99, {} rounds", times.len());
}

fn fill(dir: &Path) {
    let (mut store, _) = Store::open(dir).expect("a store");
    let names: Vec<_> = (0..WORKERS).map(worker_name).collect();
    let workers = names.iter().map(|name| (name.clone(), Some(worker(name)))).collect();
    let ids = 1..=u32::try_from(INCIDENTS).expect("small");
    let incidents = ids.zip(names.iter().cycle()).map(|(id, name)| incident(id, name)).collect();
    let progress = names.iter().map(progress).collect();
    store.save(&batch(workers, incidents, progress)).expect("it is saved");
}

fn batch(
    workers: Vec<(WorkerName, Option<SavedWorker>)>,
    incidents: Vec<IncidentView>,
    progress: Vec<SavedProgress>,
) -> Batch {
    let now = Now { mono: Mono(DAY), wall: Wall(20_000 * DAY) };
    let next_incident = u32::try_from(2 * INCIDENTS).expect("small");
    Batch { now, boot_id: "bench".into(), workers, incidents, progress, next_incident, ..Batch::default() }
}

fn worker_name(n: usize) -> WorkerName {
    WorkerName::parse(&format!("w@{n}.service")).expect("a name")
}

/// A worker that has failed now and then.
fn worker(name: &WorkerName) -> SavedWorker {
    let times: Vec<_> = (0..20).map(|n| Mono(n * 60_000_000)).collect();
    let known = Recurrence {
        count: 2,
        value: Some(40_000),
        attempts: times.iter().copied().collect(),
        ..Recurrence::default()
    };
    SavedWorker {
        phase: Phase::Working,
        since: Wall(1),
        remark: "stopped by root".into(),
        invocation: Some(InvocationId([7; 16])),
        seen: Wall(19_999 * DAY),
        intended_up: true,
        attempts: times,
        failures: 2,
        cause: Some(Cause::Segfault),
        remedies: SavedRemedies { recurrences: vec![(Cause::Segfault, known)], ..SavedRemedies::default() },
        runs: 40,
        downtime: Duration::from_secs(90),
        ..SavedWorker::new(name.clone())
    }
}

fn incident(id: u32, worker: &WorkerName) -> IncidentView {
    let at = |seconds: i64| Wall(19_000 * DAY + (i64::from(id) * 60 + seconds) * 1_000_000);
    let line = "output: RuntimeError: the loss is not a number at step 40000 of the third stage of this training";
    let remedy = RemedyView { action: "restart", at: at(1), by: "restart.budget".into(), outcome: "done".into() };
    IncidentView {
        id: IncidentId(id),
        worker: worker.clone(),
        run: Some(InvocationId(u128::from(id).to_be_bytes())),
        cause: Cause::Segfault,
        confidence: 90,
        because: vec![line.into(); 5],
        cascade: vec![line.into(); 2],
        opened: at(0),
        detected: at(0),
        decided: at(0),
        started: at(1),
        recovered: at(2),
        closed: at(60),
        state: IncidentState::Closed,
        result: IncidentResult::Recovered,
        remedies: vec![remedy],
        part_of: None,
        members: Vec::new(),
        text: format!("{worker} killed by SIGSEGV (core dumped): it crashed; restart #1 at once"),
    }
}

fn progress(worker: &WorkerName) -> SavedProgress {
    let gaps = (0..100).map(|n| Duration::from_millis(900 + n)).collect();
    let pace = SavedPace { seen: Duration::from_secs(7_200), gaps, longest: vec![Duration::from_secs(60)] };
    SavedProgress {
        worker: worker.clone(),
        run: Some(InvocationId([7; 16])),
        at: Wall(19_999 * DAY),
        value: 40_000,
        total: 59_185,
        paces: vec![("".into(), pace)],
        values: [("active".into(), 32.0), ("pending".into(), 19_185.0)].into(),
    }
}
