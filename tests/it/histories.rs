// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's contract, (a) to (l), over random histories.
//!
//! A history is a list of things that happen from outside; a model of systemd reacts to the engine's actions. On
//! failure the seed is printed and the history is shrunk. `SEED=n` plays one again, `HISTORIES=n` plays more.

pub mod dice;
mod model;
mod op;

use model::Model;
use op::{Op, What, invent};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use watcherd::engine::Engine;
use watcherd::engine::action::{Action, EntryKind, Interest, Step};
use watcherd::engine::cause::Cause;
use watcherd::engine::event::{Answer, Caller, Definition, Event, Outcome, Request, UnitTraits};
use watcherd::engine::evidence::Source;
use watcherd::engine::ids::{ActionId, HoldId, IncidentId, InvocationId, JobId, ObjectId, RequestId, WorkerName};
use watcherd::engine::notice::Delivery;
use watcherd::engine::policy::{Layer, Policies, Settings};
use watcherd::engine::saved::Saved;
use watcherd::engine::sign::Sign;
use watcherd::engine::source::Reading;
use watcherd::engine::time::{Mono, Now, Wall};
use watcherd::engine::view::{NoticeStage, Phase, View, WorkerView};
use watcherd::replay::Verdict;
use watcherd::scenario::record::{Beginning, Recording};

const NAMES: [&str; 6] = ["a", "b", "t@1", "t@2", "job1", "job2"];

/// `reset-after` is never shorter than the budget's window, so that healthy time cannot hide an attempt.
const POLICIES: [&[&str]; 8] = [
    &["a b t@* back-off=0s budget=3/1min reset-after=1min verify=20s grace=5s"],
    &["a b t@* back-off=1s..10s budget=2/30s reset-after=40s verify=1min grace=2s on-exhausted=stop"],
    &[
        "t@* back-off=2s budget=4/2min reset-after=2min",
        "a b after-success=restart back-off=0s budget=2/1min reset-after=1min",
    ],
    &[
        "a b t@* cause.killed-unattributed=hold cause.segfault=quarantine cause.segfault.when-running=incident budget=3/1min",
    ],
    &[
        "a t@1 back-off=500ms budget=5/1min reset-after=1min cause.unknown=ignore cause.gpu-oom.when-running=incident cause.gpu-oom.count=3/1min cause.unknown.when-running=incident",
    ],
    &[
        "a b progress.file=/a progress.stall-after=5s progress.warm-up=8s back-off=0s budget=3/1min reset-after=1min",
        "t@* progress.file=/t progress.stall-min=2s progress.stall-max=10s progress.warm-up=20s budget=2/1min reset-after=1min cause.unresponsive=quarantine",
    ],
    &[
        "a b back-off=1s budget=3/1min reset-after=1min verify=10s restart.then=['x'] restart.settle=2s restart.then-retries=2 restart.same-cause=2 restart.cooldown=5s restart.restore-after=30s parameters.B=\"{default=64,range=[1,512]}\" cause.unknown.scale=\"{B='x0.5, min 8'}\" cause.unknown.max-attempts=2 cause.unknown.try-next=\"[{until='exists(/x)'},{set={B=3}}]\" cause.segfault.until=exists(/y)",
        "t@* back-off=0s budget=2/1min reset-after=1min restart.on-exhausted=pause restart.leftovers=keep",
    ],
    &[
        "a b t@* back-off=1s budget=2/1min reset-after=2min restart.on-exhausted=next-remedy cause.disk-full.until=\"free(/srv) > 1G\" cause.killed-unattributed.until=at(12:00) cause.segfault.budget=1/30s cause.gpu-oom.try-next=\"[{action='stop'}]\"",
    ],
];

#[test]
fn the_contract_holds_over_random_histories() {
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("HISTORIES").unwrap_or(1000) + 1,
    };
    for seed in seeds {
        let ops = invent(seed);
        if let Err(why) = play(seed, &ops) {
            let (shrunk, why) = shrink(seed, ops, why);
            let mut text = String::new();
            if number("SEED").is_some() {
                let mut world = World::new(seed);
                world.told = true;
                let _ = catch_unwind(AssertUnwindSafe(|| world.play(&shrunk)));
            }
            for op in &shrunk {
                text.push_str(&format!("  {op:?} {}\n", NAMES[op.worker]));
            }
            panic!("SEED={seed}: {why}\nthe shortest history that was found:\n{text}");
        }
    }
}

fn play(seed: u64, ops: &[Op]) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| World::new(seed).play(ops)));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic".into()))
    })
}

/// Drops what is not needed for the failure: first the end, then ever smaller pieces.
fn shrink(seed: u64, mut ops: Vec<Op>, mut why: String) -> (Vec<Op>, String) {
    let mut piece = ops.len();
    while piece > 0 {
        let mut at = ops.len();
        while at > 0 {
            let from = at.saturating_sub(piece);
            let mut shorter = ops.clone();
            shorter.drain(from..at);
            if let Err(other) = play(seed, &shorter) {
                ops = shorter;
                why = other;
            }
            at = from.min(ops.len());
        }
        piece /= 2;
    }
    (ops, why)
}

/// What an engine was fed, so that it can be played again.
struct Record {
    policies: Policies,
    saved: Option<Saved>,
    began: Now,
    steps: Vec<(Now, Event, Step)>,
}

/// Notices that are sent within an hour at most.
const PER_HOUR: u32 = 5;

struct World {
    seed: u64,
    engine: Engine,
    model: Model,
    now: Now,
    policies: Policies,
    record: Record,
    interest: Interest,
    requests: u64,
    highest_action: u64,
    open_actions: BTreeSet<ActionId>,
    done_actions: VecDeque<ActionId>,
    /// Runs that have an incident.
    failed_runs: BTreeMap<(WorkerName, InvocationId), IncidentId>,
    /// When planned restarts were begun.
    attempts: BTreeMap<WorkerName, VecDeque<Mono>>,
    /// What was told of.
    news: BTreeSet<(IncidentId, NoticeStage)>,
    /// When notices were sent.
    notices: VecDeque<Mono>,
    /// Whether the facts were always true, and nothing was done that may leave a worker down.
    honest: bool,
    host_stopping: bool,
    /// Tells what happens, for people.
    told: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Now { mono: Mono(50_000_000), wall: Wall(1_700_000_000_000_000) };
        let mut model = Model::new(seed);
        for (at, name) in NAMES.iter().enumerate() {
            let traits = UnitTraits {
                restarts_itself: at == 1 || at == 3,
                can_freeze: at.is_multiple_of(2),
                transient: name.starts_with("job"),
                start_limit_burst: 5,
                start_limit_interval: Duration::from_secs(10),
                ..UnitTraits::default()
            };
            model.add(&name_of(at), traits);
        }
        let mut settings = Settings { max_jobs: 1 + (seed % 4) as u32, ..Settings::default() };
        settings.notify.ways.desktop = !seed.is_multiple_of(4);
        settings.notify.per_hour = PER_HOUR;
        let policies = policies(seed, settings);
        let (engine, step) = Engine::new(policies.clone(), None, seed, now);
        let record = Record { policies: policies.clone(), saved: None, began: now, steps: Vec::new() };
        let mut world = World {
            seed,
            engine,
            model,
            now,
            policies,
            record,
            interest: Interest::default(),
            requests: 0,
            highest_action: 0,
            open_actions: BTreeSet::new(),
            done_actions: VecDeque::new(),
            failed_runs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            news: BTreeSet::new(),
            notices: VecDeque::new(),
            honest: true,
            host_stopping: false,
            told: false,
        };
        world.perform(step);
        world
    }

    fn play(mut self, ops: &[Op]) -> Result<(), String> {
        self.feed(Event::ServiceManager { version: 257 });
        self.list();
        for op in ops {
            self.pass(op.after);
            self.happen(op);
        }
        self.model.loses_signals = false;
        self.list();
        self.pass(Duration::from_secs(3_000));
        self.list();
        self.pass(Duration::from_secs(3_000));
        self.feed(Event::Wake);
        // A look at a worker may have begun just now.
        for _ in 0..3 {
            if self.engine.flights() > 0 {
                self.pass(Duration::from_secs(20));
            }
        }
        self.rest();
        self.replay();
        Ok(())
    }

    /// Lets time pass: the model acts, and the engine is woken exactly when it asks.
    fn pass(&mut self, span: Duration) {
        let until = self.now.mono + span;
        for round in 0..200_000 {
            assert!(round < 199_999, "(b) the engine never rests");
            for event in self.model.run(self.now) {
                self.feed(event);
            }
            let wake = self.engine.next_wakeup().map(|(at, _)| at);
            let next = [self.model.next(), wake].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= until) else { break };
            self.advance(next.max(self.now.mono));
            if wake.is_some_and(|at| at <= self.now.mono) {
                self.feed(Event::Wake);
            }
        }
        self.advance(until);
    }

    fn advance(&mut self, to: Mono) {
        self.now = Now { mono: to, wall: self.now.wall + to.since(self.now.mono) };
    }

    fn list(&mut self) {
        let rows = self.model.list();
        self.feed(Event::Listed(self.interest.clone(), rows));
    }

    fn happen(&mut self, op: &Op) {
        let name = name_of(op.worker);
        match op.what {
            What::Ends => self.model.end_by_itself(&name, op.value, self.now),
            What::SystemctlStart if !name.as_str().starts_with("job") => self.model.systemctl_start(&name, self.now),
            What::SystemctlStart => {}
            What::SystemctlStop => self.model.systemctl_stop(&name, false, self.now),
            What::SystemctlRestart => self.model.systemctl_stop(&name, true, self.now),
            What::SystemctlFreeze => self.model.freeze(&name, op.value.is_multiple_of(2)),
            What::DuplicateDone => self.ignored(self.done_actions.front().copied()),
            What::UnknownDone => self.ignored(Some(ActionId(self.highest_action + 1 + op.value % 5))),
            What::EarlyWake => self.early_wake(),
            What::OddFacts => self.odd_facts(&name, op.value),
            What::NewPolicies => {
                self.attempts.clear();
                self.policies = policies(op.value, self.policies.settings.clone());
                self.feed(Event::Policies(self.policies.clone()));
                self.list();
            }
            What::Settings => {
                self.policies.settings.max_jobs = 1 + (op.value % 4) as u32;
                self.policies.settings.dry_run = (op.value >> 8).is_multiple_of(3);
                self.policies.settings.keep_finished = Duration::from_secs(60 + op.value % 3_000);
                self.honest = false;
                self.feed(Event::Policies(self.policies.clone()));
            }
            What::Listed => self.list(),
            What::Unload => self.model.unload(&name),
            What::Beat => {
                // Whoever gets further gets the budget back.
                self.attempts.remove(&name);
                let values = [("value".into(), (op.value % 100) as f64), ("total".into(), 100.0)].into();
                self.feed(Event::Beat(name, Reading { values, ..Reading::default() }));
            }
            What::Read => {
                self.attempts.remove(&name);
                let values = [("value", (op.value % 7) as f64), ("active", (op.value >> 8 & 1) as f64)];
                let values = values.into_iter().map(|(name, value)| (name.into(), value)).collect();
                let stage = op.value.is_multiple_of(3).then(|| format!("{}", op.value >> 18 & 15).into());
                let cursor = op.value.is_multiple_of(5).then(|| format!("{}", op.value >> 16 & 3).into());
                let reading = if op.value.is_multiple_of(4) {
                    Err("it is gone".into())
                } else {
                    Ok(Reading { values, cursor, stage })
                };
                self.feed(Event::Read(name, "file", reading));
            }
            What::Sign => {
                let cause = [Cause::GpuOom, Cause::Segfault, Cause::Unknown][(op.value % 3) as usize];
                let count = (op.value >> 8) as u32 % 5 + 1;
                let sign = Sign { cause, source: Source::Output, text: "a line".into(), count, at: self.now.wall };
                self.feed(Event::Sign(name, sign));
            }
            What::WallJump => {
                let jump = (op.value % 7_200) as i64 * 1_000_000;
                self.now.wall = Wall(self.now.wall.0 + if op.value >> 16 & 1 == 0 { jump } else { -jump });
                self.honest = false;
                self.notices.clear();
            }
            What::Killed => self.killed(true, op.value),
            What::Rebooted => self.killed(false, op.value),
            What::HostStopping => {
                self.host_stopping = !self.host_stopping;
                self.feed(Event::HostStopping(self.host_stopping));
            }
            _ => self.ask(op, name),
        }
    }

    fn ask(&mut self, op: &Op, name: WorkerName) {
        let own = || layer("budget=2/30s reset-after=30s back-off=1s");
        let request = match op.what {
            What::Change(verb) => {
                Request::Change { verb, workers: vec![name], why: String::new(), dry_run: op.value.is_multiple_of(20) }
            }
            What::Run => Request::Run {
                name: Some(name_of(4 + op.worker % 2)),
                definition: Definition::default(),
                policy: own(),
            },
            What::Adopt => Request::Adopt { unit: name, policy: own() },
            What::Forget => Request::Forget(name),
            What::Hold => {
                let until = (!op.value.is_multiple_of(3)).then(|| self.now.wall + Duration::from_secs(op.value % 200));
                let other = name_of((op.worker + 1) % NAMES.len());
                let workers = if op.value.is_multiple_of(5) { vec![name.clone(), other] } else { vec![name] };
                Request::Hold { workers, who: String::new(), why: String::new(), until, lock: op.value & 64 > 0 }
            }
            What::Release => Request::Release(HoldId((op.value % 6) as u32)),
            What::Quarantine => Request::Quarantine { worker: name, why: String::new() },
            What::Reset => {
                self.attempts.remove(&name);
                Request::ResetQuarantine(name)
            }
            What::CloseIncident => {
                Request::CloseIncident { incident: IncidentId((op.value % 12) as u32), why: String::new() }
            }
            What::CancelJob => {
                self.honest = false;
                Request::CancelJob(JobId((op.value % 12) as u32))
            }
            _ => return,
        };
        self.requests += 1;
        let id = RequestId(self.requests);
        self.feed(Event::Request(id, Caller::default(), request));
    }

    fn ignored(&mut self, id: Option<ActionId>) {
        self.feed(Event::Wake);
        if let Some(id) = id.filter(|id| !self.open_actions.contains(id)) {
            let step = self.feed(Event::Done(id, Outcome::Ok));
            assert!(step.actions.is_empty(), "(d) a late or unknown Done had an effect: {:?}", step.actions);
        }
    }

    fn early_wake(&mut self) {
        self.feed(Event::Wake);
        let before = self.engine.saved();
        let step = self.feed(Event::Wake);
        assert_eq!(step, Step::default(), "(e) waking too early had an effect");
        assert_eq!(before.workers, self.engine.saved().workers, "(e) waking too early changed something");
    }

    fn odd_facts(&mut self, name: &WorkerName, value: u64) {
        use watcherd::engine::event::Active::*;
        self.honest = false;
        let Some(unit) = self.model.units.get(name) else { return };
        let mut facts = unit.facts.clone();
        let states = [
            (Inactive, "dead"),
            (Failed, "failed"),
            (Active, "running"),
            (Active, "exited"),
            (Activating, "auto-restart"),
            (Failed, "failed-before-auto-restart"),
            (Deactivating, "stop-sigterm"),
            (Activating, "start"),
            (Maintenance, "x"),
        ];
        let (active, sub) = states[(value % states.len() as u64) as usize];
        facts.active = active;
        sub.clone_into(&mut facts.sub);
        facts.job = if value & 256 > 0 { 77 } else { 0 };
        facts.frozen = value & 512 > 0;
        if value & 1024 > 0 {
            let mut bytes = [0xff; 16];
            bytes[..8].copy_from_slice(&value.to_be_bytes());
            bytes[8..12].copy_from_slice(&(self.record.steps.len() as u32).to_be_bytes());
            facts.invocation = Some(InvocationId(bytes));
        } else if value & 2048 > 0 {
            facts.invocation = None;
        }
        self.feed(Event::Unit(name.clone(), facts));
    }

    /// The daemon dies and comes back, on the same boot or on the next one.
    fn killed(&mut self, same_boot: bool, value: u64) {
        self.replay();
        let mut saved = self.engine.saved();
        saved.same_boot = same_boot;
        if same_boot {
            self.model.forget_engine();
        } else {
            self.model.reboot();
            self.host_stopping = false;
        }
        let away = Duration::from_millis(value % 60_000);
        let until = self.now.mono + away;
        while let Some(next) = self.model.next().filter(|at| *at <= until) {
            self.advance(next.max(self.now.mono));
            self.model.run(self.now);
        }
        self.advance(until);
        if !same_boot {
            self.now.mono = Mono(1_000_000);
            self.notices.clear();
        }
        let seed = self.seed;
        let (engine, step) = Engine::new(self.policies.clone(), Some(saved.clone()), seed, self.now);
        let first = engine.saved();
        let (second, _) = Engine::new(self.policies.clone(), Some(first.clone()), seed, self.now);
        assert_eq!(first, second.saved(), "an engine made from what was saved saves the same");
        self.engine = engine;
        self.record =
            Record { policies: self.policies.clone(), saved: Some(saved), began: self.now, steps: Vec::new() };
        self.highest_action = 0;
        self.open_actions.clear();
        self.done_actions.clear();
        // An attempt that was counted before may be sent again.
        self.attempts.clear();
        self.host_stopping = false;
        self.perform(step);
        self.feed(Event::ServiceManager { version: 257 });
        self.list();
    }

    fn feed(&mut self, event: Event) -> Step {
        if let Event::Done(id, _) = &event {
            self.open_actions.remove(id);
            self.done_actions.push_back(*id);
            if self.done_actions.len() > 4 {
                self.done_actions.pop_front();
            }
        }
        if self.told {
            eprintln!("{}us {event:?}", self.now.mono.0);
        }
        let held = self.held();
        let asked = if let Event::Request(id, ..) = &event { Some(*id) } else { None };
        let step = self.engine.handle(self.now, event.clone());
        self.record.steps.push((self.now, event, step.clone()));
        let replies: Vec<_> =
            step.actions.iter().filter_map(|a| if let Action::Reply(id, _) = a { Some(*id) } else { None }).collect();
        assert_eq!(replies, asked.into_iter().collect::<Vec<_>>(), "every request gets one reply, and at once");
        if let Some((at, _)) = self.engine.next_wakeup() {
            assert!(at > self.now.mono, "(b) the engine wants to be woken at once");
        }
        let still_held: BTreeSet<_> = held.intersection(&self.held()).cloned().collect();
        for action in &step.actions {
            if let Some((_, name)) = object_of(action) {
                assert!(!still_held.contains(name), "(g) {name} is held, and yet: {action:?}");
            }
        }
        self.perform(step.clone());
        self.bounded();
        step
    }

    fn perform(&mut self, step: Step) {
        if self.told {
            step.actions.iter().for_each(|action| eprintln!("    {action:?}"));
        }
        for action in &step.actions {
            match action {
                Action::Watch(interest) => self.interest = interest.clone(),
                Action::Record(entry) if [EntryKind::Completed, EntryKind::WorkerForgotten].contains(&entry.kind) => {
                    if let Some(name) = &entry.worker {
                        self.attempts.remove(name);
                    }
                }
                Action::Start(_, name, _) => self.started(name),
                _ => {}
            }
            let id = object_of(action).map(|(id, _)| id);
            let id = id.or(match action {
                Action::LookBack(id, ..) | Action::Hook(id, ..) | Action::Notify(id, _) => Some(*id),
                _ => None,
            });
            if let Action::Notify(_, delivery) = action {
                self.notified(delivery);
            }
            if let Some(id) = id {
                assert!(id.0 > self.highest_action, "(c) action id {id} was used before");
                self.highest_action = id.0;
                self.open_actions.insert(id);
            }
            self.model.perform(action, self.now);
        }
        for id in &step.changes {
            match (id, self.engine.view(id)) {
                (ObjectId::Incident(id), Some(View::Incident(incident))) => {
                    let Some(run) = incident.run else { continue };
                    let known = self.failed_runs.insert((incident.worker.clone(), run), *id);
                    let once = known.is_none_or(|known| known == *id);
                    assert!(once, "(j) two incidents for one run of {}: {known:?} and {id}", incident.worker);
                }
                (ObjectId::Job(_), Some(View::Job(job))) if job.result == "canceled" => {
                    // The worker may be started again to make good for a restart that was cut in two.
                    self.attempts.remove(&job.worker);
                }
                _ => {}
            }
        }
    }

    /// Each incident is told of once per stage, and no hour has more notices than are wanted.
    fn notified(&mut self, delivery: &Delivery) {
        let notice = &delivery.notice;
        let (Some(incident), 1) = (notice.incident, delivery.attempt) else { return };
        let news = self.news.insert((incident, notice.stage));
        assert!(news, "(k) incident {incident} is told of twice as {}", notice.stage);
        self.notices.retain(|at| self.now.mono.since(*at) < Duration::from_secs(3600));
        self.notices.push_back(self.now.mono);
        assert!(self.notices.len() <= PER_HOUR as usize, "(k) {} notices in an hour", self.notices.len());
    }

    /// Counts a start that nobody asked for against the budget.
    fn started(&mut self, name: &WorkerName) {
        let Some(worker) = self.worker(name) else { return };
        let asked = self.engine.objects().iter().any(|id| match self.engine.view(id) {
            Some(View::Job(job)) => job.worker == *name && job.state != "finished" && job.kind != "stop",
            _ => false,
        });
        let own = worker.cause.map(|cause| format!("cause.{cause}.budget"));
        let counted_apart = worker.policy.iter().any(|(key, ..)| Some(key) == own.as_ref());
        if asked || counted_apart || !worker.reason.starts_with("restart #") {
            return;
        }
        let budget = |text: &str| -> Option<(usize, Duration)> {
            let (attempts, window) = text.split_once('/')?;
            let seconds = match window {
                "30s" => 30,
                "1min" => 60,
                "2min" => 120,
                _ => 3600,
            };
            Some((attempts.parse().ok()?, Duration::from_secs(seconds)))
        };
        let text = worker.policy.iter().find(|(key, ..)| *key == "restart.budget").map(|(_, text, _)| text.clone());
        let Some((allowed, window)) = text.as_deref().and_then(budget) else { return };
        let now = self.now.mono;
        let log = self.attempts.entry(name.clone()).or_default();
        log.push_back(now);
        log.retain(|at| *at + window > now);
        assert!(log.len() <= allowed, "(h) {name} was restarted {} times in {window:?}, {allowed} allowed", log.len());
    }

    fn bounded(&self) {
        let objects = self.engine.objects();
        assert!(objects.len() < 256 + 4 * NAMES.len() + 100, "(i) there are {} objects", objects.len());
        assert!(self.engine.flights() < 200, "(i) there are {} flights", self.engine.flights());
        for name in (0..NAMES.len()).map(name_of) {
            if let Some(saved) = self.engine.saved_worker(&name) {
                assert!(saved.attempts.len() <= 5, "(i) {} attempts of {name} are kept", saved.attempts.len());
            }
        }
    }

    /// After a long quiet time nothing hangs.
    fn rest(&mut self) {
        assert!(self.open_actions.is_empty(), "(c) actions that never ended: {:?}", self.open_actions);
        assert_eq!(self.engine.flights(), 0, "everything that flew has landed");
        let jobs: Vec<_> = self.engine.objects().into_iter().filter(|id| matches!(id, ObjectId::Job(_))).collect();
        assert_eq!(jobs, [], "jobs end");
        if !self.honest || self.host_stopping {
            return;
        }
        for name in (0..NAMES.len()).map(name_of) {
            let Some(worker) = self.worker(&name) else { continue };
            let stuck = worker.phase == Phase::Failed && worker.incident.is_some() && worker.next_action.is_empty();
            assert!(!stuck || worker.held || !worker.intended_up, "{name} is left failed for ever: {worker:?}");
            assert!(worker.phase != Phase::Queued, "{name} is queued for ever");
            assert!(worker.phase != Phase::Recovering || !worker.next_action.is_empty(), "{name} recovers for ever");
        }
    }

    fn replay(&self) {
        let record = &self.record;
        let (mut engine, _) = Engine::new(record.policies.clone(), record.saved.clone(), self.seed, record.began);
        for (now, event, step) in &record.steps {
            assert_eq!(&engine.handle(*now, event.clone()), step, "(f) the same events led to other actions");
        }
        let written = self.written();
        let played = watcherd::scenario::play::play(&written).unwrap_or_else(|wrong| panic!("(l) {wrong}"));
        let differs = written.lines().zip(played.lines()).find(|(written, played)| written != played);
        assert_eq!(differs, None, "(l) what was written down plays differently");
        assert_eq!(written.lines().count(), played.lines().count(), "(l) what was written down plays differently");
        // The same policy, but only what happened to the workers is taken from what was written down.
        let lived = watcherd::replay::replay(&written.replacen("recording ", "recording continued ", 1), None);
        let lived = lived.unwrap_or_else(|wrong| panic!("(l) {wrong}"));
        let differs = lived.rows.iter().find(|row| row.verdict != Verdict::Same);
        assert_eq!(differs, None, "(l) the same policy decides otherwise about what was written down");
    }

    /// The history as `watcherd --record` writes it.
    fn written(&self) -> String {
        let Record { policies, saved, began, steps } = &self.record;
        let (_, first) = Engine::new(policies.clone(), saved.clone(), self.seed, *began);
        let from = Beginning { policies, saved: saved.as_ref(), seed: self.seed, now: *began };
        let mut recording = Recording::begin(from, &first).expect("it can be written");
        for (now, event, step) in steps {
            recording.step(*now, event, step).expect("it can be written");
        }
        recording.take()
    }

    fn held(&self) -> BTreeSet<WorkerName> {
        match self.engine.view(&ObjectId::Manager) {
            Some(View::Manager(manager)) => manager.holds.into_iter().flat_map(|hold| hold.workers).collect(),
            _ => BTreeSet::new(),
        }
    }

    fn worker(&self, name: &WorkerName) -> Option<WorkerView> {
        match self.engine.view(&ObjectId::Worker(name.clone())) {
            Some(View::Worker(view)) => Some(view),
            _ => None,
        }
    }
}

/// The worker that an action does something to.
fn object_of(action: &Action) -> Option<(ActionId, &WorkerName)> {
    match action {
        Action::Start(id, name, _)
        | Action::Stop(id, name)
        | Action::Kill(id, name, _)
        | Action::Freeze(id, name, _)
        | Action::Thaw(id, name, _) => Some((*id, name)),
        _ => None,
    }
}

fn name_of(at: usize) -> WorkerName {
    WorkerName::parse(NAMES[at]).expect("a valid name")
}

fn policies(value: u64, settings: Settings) -> Policies {
    let lines = POLICIES[(value % POLICIES.len() as u64) as usize];
    Policies { layers: lines.iter().map(|line| policy_layer(line)).collect(), settings }
}

fn policy_layer(text: &str) -> Arc<Layer> {
    watcherd::scenario::policy::layer(text).expect("a valid policy")
}

fn layer(text: &str) -> Layer {
    Layer { units: Vec::new(), ..(*policy_layer(text)).clone() }
}

/// Answers are data that a client can compare.
#[test]
fn a_run_answers_with_its_name() {
    let now = Now { mono: Mono(1), wall: Wall(1) };
    let (mut engine, _) = Engine::new(Policies::default(), None, 1, now);
    let name = WorkerName::parse("job").expect("a valid name");
    let request =
        Request::Run { name: Some(name.clone()), definition: Definition::default(), policy: Layer::default() };
    let step = engine.handle(now, Event::Request(RequestId(1), Caller::default(), request));
    assert!(step.actions.contains(&Action::Reply(RequestId(1), Ok(Answer::Worker(name)))));
}
