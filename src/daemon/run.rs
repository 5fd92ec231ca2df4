// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loop: one event after the other through the engine, then save, perform, publish.

use super::configuration::{self, Configuration};
use super::evidence::Evidence;
use super::examine::{Examiner, SharedRules};
use super::options::{Options, Scope};
use super::perform::Performer;
use super::progress::Progress;
use super::ready::{self, Ready};
use super::record::{Recorder, Start};
use super::save::Saver;
use super::signals::{Signal, Signals};
use super::{Stop, clock, log, name, status};
use crate::act::notify::Notifier;
use crate::api::error::ApiError;
use crate::api::guard::Mode;
use crate::api::publish::{Extras, Publication, Publisher};
use crate::api::{About, CALLS_MAX, Call, PlanRow};
use crate::engine::Engine;
use crate::engine::action::{Action, Entry, EntryKind, Step};
use crate::engine::event::{Caller, Event, Request};
use crate::engine::ids::ObjectId;
use crate::engine::saved::Saved;
use crate::engine::time::Wall;
use crate::engine::view::IncidentView;
use crate::gpu::Gpus;
use crate::store;
use crate::systemd::jobs::Jobs;
use crate::systemd::watch::{self, WatchError};
use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until, timeout, timeout_at};
use zbus::Connection;

/// Events that are applied before their consequences are carried out together.
const DRAIN: usize = 64;
/// Events that may wait.
const EVENTS_MAX: usize = 4096;
/// Publications that may wait.
const PUBLICATIONS_MAX: usize = 1024;
/// systemd must have answered the first listing by then.
const LISTING_DEADLINE: Duration = Duration::from_secs(60);
/// Running changes may take so long when we stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Points of the history of progress that go with evidence.
const HISTORY_POINTS: u32 = 500;
/// After this, writing is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
const PRUNE_EVERY: Duration = Duration::from_secs(86_400);

/// Everything that the loop owns.
struct Daemon {
    scope: Scope,
    engine: Engine,
    performer: Performer,
    saver: Saver,
    configuration: Configuration,
    logger: log::Logger,
    /// What happens is written down.
    recorder: Option<Recorder>,
    /// Why it is not, although it should be.
    unrecorded: Option<String>,
    ready: Ready,
    /// Why state cannot be saved.
    store_trouble: Option<String>,
    /// What the manager showed last.
    extras: Extras,
    /// What the threads that read logs go by.
    rules: SharedRules,
    /// Policy files that are known to match no unit.
    idle: BTreeSet<String>,
}

/// Runs until it is told to stop, or cannot go on.
pub async fn run(options: Options, logger: log::Logger) -> Result<(), Stop> {
    let mut signals = Signals::new()?;
    let scope = options.scope();
    let connection = connect(&options).await?;
    let jobs = Jobs::connect(&options.address()).await.map_err(|error| Stop::NoBus(Box::new(error)))?;
    let configuration = Configuration::read(scope, options.root.clone(), clock::now().wall);
    let (saver, mut saved) = open_store(&options, epoch(&jobs).await?)?;
    saved.away = away(&jobs, &saved).await;
    let start = Start { policies: configuration.policies(), saved, seed: clock::seed(), now: clock::now() };
    let (engine, first, recorder) = start.engine(|setting| options.record_place(setting));
    let (recorder, unrecorded) = match recorder.transpose() {
        Ok(recorder) => (recorder, None),
        Err(why) => (None, Some(format!("what happens is not recorded: {why}"))),
    };
    let (interest, interest_changes) = tokio::sync::watch::channel(Default::default());
    let rules = SharedRules::new(configuration.rules());
    let progress = Progress::start(scope, jobs.clone()).map_err(Stop::Thread)?;
    let examiner = Examiner::start(scope, rules.clone(), progress.lines()).map_err(Stop::Thread)?;
    let gpus = Gpus::start(options.nvml()).map_err(Stop::Thread)?;
    let evidence =
        Evidence { scope, jobs: jobs.clone(), gpus, lines: progress.lines(), state: options.state_directory() };
    let notifier = Notifier {
        jobs: jobs.clone(),
        connection: connection.clone(),
        desk: scope.desk(),
        spool: options.runtime_directory().join("notices"),
    };
    let performer = Performer::new(evidence, interest, examiner, progress, notifier).map_err(Stop::Thread)?;
    let extras = Extras::default();
    let ready = Ready::default();
    let about = about(&logger, options.log_level);
    let mut daemon = Daemon {
        scope,
        engine,
        performer,
        saver,
        configuration,
        logger,
        recorder,
        unrecorded,
        ready,
        store_trouble: None,
        extras,
        rules,
        idle: BTreeSet::new(),
    };
    daemon.report_configuration();

    let (calls_in, mut calls) = mpsc::channel(CALLS_MAX);
    let mode = match scope {
        Scope::System => Mode::System,
        Scope::User => Mode::User { uid: nix::unistd::geteuid().as_raw() },
    };
    let mut publisher = Publisher::new(&connection, about, mode, calls_in);
    publisher.export_root().await.map_err(Stop::Bus)?;

    let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
    let version = jobs.version().await;
    // The first listing needs the interest, which the first step announces.
    let publication = daemon.carry_out(first);
    publisher.publish(publication).await.map_err(Stop::Bus)?;
    let step = daemon.feed(Event::ServiceManager { version });
    let publication = daemon.carry_out(step);
    publisher.publish(publication).await.map_err(Stop::Bus)?;
    let address = options.address();
    let mut watching = tokio::spawn(async move { watch::follow(&address, jobs, interest_changes, events_in).await });
    daemon.first_listing(&mut events, &mut watching, &mut publisher).await?;

    daemon.performer.examiner().all_listed();
    daemon.performer.tidy_environments();

    name::take(&connection).await?;
    let (publications, queue) = mpsc::channel(PUBLICATIONS_MAX);
    let mut publishing = tokio::spawn(publisher.run(queue));
    daemon.ready.ready(&status::line(&daemon.engine, &daemon.extras.degraded));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "watcherd is ready");

    let mut alive = Liveness::new(&connection);
    let mut prune = interval(PRUNE_EVERY);
    let mut status_due: Option<Instant> = None;
    let mut save_due: Option<Instant> = None;
    loop {
        let wake = daemon.next_wakeup();
        save_due = daemon.saver.is_behind().then(|| save_due.unwrap_or_else(|| Instant::now() + SAVE_AGAIN));
        let step = tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => {
                    daemon.reload(false, None, &publications).await?;
                    continue;
                }
            },
            () = alive.tick() => continue,
            Some(event) = events.recv() => daemon.drain(event, &mut events),
            event = daemon.performer.ended() => daemon.feed(event),
            Some(call) = calls.recv() => match daemon.call(call, &publications).await? {
                Some(step) => step,
                None => continue,
            },
            () = sleep_until_maybe(wake) => daemon.feed(Event::Wake),
            () = sleep_until_maybe(save_due) => {
                save_due = None;
                Step::default()
            }
            () = sleep_until_maybe(status_due) => {
                status_due = None;
                daemon.ready.status(&status::line(&daemon.engine, &daemon.extras.degraded));
                continue;
            }
            _ = prune.tick() => {
                daemon.prune();
                continue;
            }
            ended = &mut watching => return Err(watch_ended(ended)),
            ended = &mut publishing => return Err(publisher_ended(ended)),
        };
        if !step.changes.is_empty() && status_due.is_none() {
            status_due = Some(Instant::now() + Duration::from_secs(1));
        }
        daemon.carry_out_and_publish(step, &publications).await?;
    }
    daemon.ready.stopping("Waiting for running changes to end");
    drop(calls);
    daemon.stop(&mut signals, &publications).await?;
    drop(publications);
    // A publisher that hangs must not keep us from going.
    let _ = timeout(Duration::from_secs(1), publishing).await;
    // The name goes with the connection; what matters is saved.
    let _ = connection.release_name(crate::api::client::BUS_NAME).await;
    tracing::info!("watcherd stops; the workers go on");
    Ok(())
}

async fn connect(options: &Options) -> Result<Connection, Stop> {
    let builder = match (&options.address, options.scope()) {
        (Some(address), _) => zbus::connection::Builder::address(address.as_str()),
        (None, Scope::System) => zbus::connection::Builder::system(),
        (None, Scope::User) => zbus::connection::Builder::session(),
    };
    builder.build().await.map_err(|error| Stop::NoBus(Box::new(error)))
}

/// Names the service manager's life, with which all state of its units ends. A container keeps the boot id of its host
/// when it boots again, and a user's manager ends with the last session, so the boot id alone does not tell.
async fn epoch(jobs: &Jobs) -> Result<String, Stop> {
    let manager =
        jobs.manager_id().await.ok_or_else(|| Stop::NoBus("systemd does not say when it was started".into()))?;
    Ok(format!("{}-{manager}", clock::boot_id()))
}

/// When the watcherd before us ended, if there was one.
async fn away(jobs: &Jobs, saved: &Saved) -> Wall {
    let down = jobs.last_down().await.and_then(|at| i64::try_from(at).ok());
    down.filter(|_| saved.clock.wall != Wall::NEVER).map_or(Wall::NEVER, Wall)
}

fn open_store(options: &Options, boot_id: String) -> Result<(Saver, Saved), Stop> {
    let directory = options.state_directory();
    if options.state.is_none() {
        // What cannot be made is named when it is opened.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    }
    let (store, notes) = store::Store::open(&directory).map_err(Stop::Store)?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let read_layer = |pairs: &[(String, String)]| configuration::own_layer(pairs, "stored policy");
    let (saved, notes) = store.load(read_layer, &boot_id).map_err(Stop::Store)?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let saver = Saver::new(store, boot_id, &saved);
    Ok((saver, saved))
}

fn about(logger: &log::Logger, level: crate::api::LogLevel) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").into(),
        features: ["restart", "incidents", "holds", "pause", "run", "adopt", "verdicts", "warnings", "notices"]
            .map(String::from)
            .into(),
        log_target: logger.target.into(),
        log_level: level,
    }
}

impl Daemon {
    /// Feeds the engine until systemd has told everything, so that the first thing that callers see is complete.
    async fn first_listing(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        watching: &mut JoinHandle<Result<(), WatchError>>,
        publisher: &mut Publisher,
    ) -> Result<(), Stop> {
        let deadline = Instant::now() + LISTING_DEADLINE;
        loop {
            let event = tokio::select! {
                event = timeout_at(deadline, events.recv()) => match event {
                    Ok(Some(event)) => event,
                    Ok(None) => return Err(watch_ended(watching.await)),
                    Err(_) => return Err(Stop::NoListing(LISTING_DEADLINE)),
                },
                ended = &mut *watching => return Err(watch_ended(ended)),
            };
            let listed = matches!(event, Event::Listed(..));
            let step = self.handle(event);
            let publication = self.carry_out(step);
            publisher.publish(publication).await.map_err(Stop::Bus)?;
            if listed {
                return Ok(());
            }
        }
    }

    /// Applies an event and those that wait behind it, so that their consequences are carried out together.
    fn drain(&mut self, first: Event, events: &mut mpsc::Receiver<Event>) -> Step {
        let mut step = self.handle(first);
        for _ in 0..DRAIN {
            let Ok(event) = events.try_recv() else { break };
            let next = self.handle(event);
            step.actions.extend(next.actions);
            step.changes.extend(next.changes);
        }
        step
    }

    fn handle(&mut self, event: Event) -> Step {
        tracing::debug!(event = ?event, "event");
        let listed = matches!(event, Event::Listed(..));
        let step = self.feed(event);
        if listed {
            self.report_idle_policies();
        }
        step
    }

    /// The only way into the engine.
    fn feed(&mut self, event: Event) -> Step {
        let now = clock::now();
        let Some(recorder) = &mut self.recorder else { return self.engine.handle(now, event) };
        let now = recorder.steady(now);
        let step = self.engine.handle(now, event.clone());
        recorder.step(now, &event, &step, &self.engine);
        step
    }

    /// Says once of every policy that it matches no unit: most often its name is misspelt.
    fn report_idle_policies(&mut self) {
        let idle: BTreeSet<_> = self.engine.idle_layers().into_iter().collect();
        for file in idle.difference(&self.idle) {
            tracing::warn!("{file}: matches no unit that systemd has loaded");
        }
        self.idle = idle;
    }

    /// Saves, then begins the actions; returns what is to be shown.
    fn carry_out(&mut self, step: Step) -> Publication {
        self.save(&step);
        for action in &step.actions {
            if let Action::Capture(_, name, _) = action {
                // Without it the evidence is still worth having.
                let history = self.saver.store().history(name, HISTORY_POINTS).unwrap_or_default();
                self.performer.expect_history(name.clone(), history);
            }
        }
        let replies = self.performer.perform(step.actions);
        let shown = step.changes.into_iter().filter(|id| !matches!(id, ObjectId::Notice(_)));
        let changes = shown.map(|id| {
            let view = self.engine.view(&id);
            (id, view)
        });
        let changes: Vec<_> = changes.collect();
        self.performer.examiner().follow(&changes);
        Publication { changes, extras: self.fresh_extras(), replies }
    }

    async fn carry_out_and_publish(
        &mut self,
        step: Step,
        publications: &mpsc::Sender<Publication>,
    ) -> Result<(), Stop> {
        let publication = self.carry_out(step);
        publications.send(publication).await.map_err(|_| Stop::PublisherGone)
    }

    fn save(&mut self, step: &Step) {
        let saved = self.saver.save(&self.engine, &step.changes);
        match (saved, &self.store_trouble) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                self.store_trouble = None;
                self.tell(EntryKind::StoreWorksAgain, "state can be saved again; nothing was lost".into());
            }
            (Err(error), trouble) => {
                let text = format!("state cannot be saved: {}", super::chain(&error));
                if trouble.is_none() {
                    self.tell(EntryKind::StoreFailed, text.clone());
                }
                self.store_trouble = Some(text);
            }
        }
    }

    /// What is to be shown beside the engine's view, if it is news.
    fn fresh_extras(&mut self) -> Option<Extras> {
        let mut degraded = self.configuration.degraded();
        degraded.extend(self.store_trouble.clone());
        degraded.extend(self.engine.notice_trouble());
        degraded.extend(self.unrecorded.clone().or_else(|| self.recorder.as_ref().and_then(Recorder::trouble)));
        let extras = Extras { degraded, configured: self.configuration.read };
        if extras == self.extras {
            return None;
        }
        self.extras = extras.clone();
        Some(extras)
    }

    fn tell(&self, kind: EntryKind, text: String) {
        let entry = Entry {
            kind,
            worker: None,
            incident: None,
            cause: None,
            confidence: None,
            remedy: None,
            attempt: None,
            run: None,
            caller: None,
            text,
        };
        log::record(&entry, self.scope);
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.engine.next_wakeup().map(|(at, _)| clock::instant(at))
    }

    /// Deals with what an object asks; `None` if the engine has no part in it.
    async fn call(&mut self, call: Call, publications: &mpsc::Sender<Publication>) -> Result<Option<Step>, Stop> {
        match call {
            Call::Ask { caller, request, answer } => {
                let id = self.performer.expect(answer);
                return Ok(Some(self.handle(Event::Request(id, caller, *request))));
            }
            Call::Run { caller, name, definition, policy_pairs, answer } => {
                let checked = crate::systemd::transient::check(&definition).map_err(ApiError::InvalidArgs);
                let policy = configuration::own_layer(&policy_pairs, "watcherctl run").map_err(ApiError::InvalidPolicy);
                match checked.and(policy) {
                    Ok(policy) => {
                        let id = self.performer.expect(answer);
                        let request = Request::Run { name, definition, policy };
                        return Ok(Some(self.handle(Event::Request(id, caller, request))));
                    }
                    Err(error) => answer.fail(error),
                }
            }
            Call::Adopt { caller, unit, policy_pairs, answer } => {
                match configuration::own_layer(&policy_pairs, "watcherctl adopt") {
                    Ok(policy) => {
                        let id = self.performer.expect(answer);
                        let request = Request::Adopt { unit, policy };
                        return Ok(Some(self.handle(Event::Request(id, caller, request))));
                    }
                    Err(text) => answer.fail(ApiError::InvalidPolicy(text)),
                }
            }
            Call::Incidents { filter, answer } => {
                let found = self.incidents(&filter);
                // A caller that has left does not need its answer.
                let _ = answer.send(found);
            }
            Call::Notices { answer } => {
                let _ = answer.send(self.engine.notices());
            }
            Call::Reload { dry_run, caller, answer } => {
                let rows = self.reload(dry_run, Some(caller), publications).await?;
                let _ = answer.send(Ok(rows));
            }
            Call::Beat { worker, reading } => return Ok(Some(self.handle(Event::Beat(worker, reading)))),
            Call::LogLevel(level) => self.logger.set_level(level),
        }
        Ok(None)
    }

    fn incidents(&self, filter: &crate::api::IncidentFilter) -> Result<Vec<IncidentView>, String> {
        let filter = store::Filter {
            worker_glob: filter.worker.as_ref().map(|pattern| pattern.as_str().to_owned()),
            cause: filter.cause,
            since: filter.since,
            open: filter.open,
            id: filter.id,
            limit: filter.limit,
        };
        self.saver.store().incidents(&filter).map_err(|error| super::chain(&error))
    }

    /// Reads the configuration anew and puts it in force, unless it is only to be looked at.
    async fn reload(
        &mut self,
        dry_run: bool,
        caller: Option<Caller>,
        publications: &mpsc::Sender<Publication>,
    ) -> Result<Vec<PlanRow>, Stop> {
        let now = clock::now();
        let fresh = self.configuration.fresh(now.wall);
        let rows = configuration::plan(&self.engine, &self.configuration, &fresh);
        if dry_run {
            return Ok(rows);
        }
        self.ready.reloading();
        let policies = fresh.policies();
        self.rules.replace(fresh.rules());
        self.configuration = fresh;
        let step = self.handle(Event::Policies(policies));
        self.carry_out_and_publish(step, publications).await?;
        self.report_configuration();
        if let Some(caller) = caller {
            tracing::debug!(caller = caller.uid, "reload was asked for");
        }
        self.ready.reloaded();
        Ok(rows)
    }

    /// Tells the journal what the configuration is and what is wrong with it.
    fn report_configuration(&self) {
        for complaint in self.configuration.complaints() {
            match complaint.severity {
                crate::config::Severity::Error => {
                    self.tell(EntryKind::ConfigurationRejected, complaint.to_string());
                }
                crate::config::Severity::Warning => tracing::warn!("{complaint}"),
            }
        }
        let files = self.configuration.policies().layers.len();
        let policies = if files == 1 { "policy" } else { "policies" };
        self.tell(EntryKind::ConfigurationLoaded, format!("the configuration has {files} {policies} for workers"));
    }

    fn prune(&mut self) {
        let keep = self.configuration.policies().settings.keep_incidents;
        let now = clock::now();
        let limit = now.wall_at(now.mono - keep);
        if let Err(error) = self.saver.store_mut().prune(limit) {
            tracing::warn!("old incidents cannot be dropped: {}", super::chain(&error));
        }
        if let Err(error) = self.saver.store_mut().thin(now.wall, limit) {
            tracing::warn!("the history of progress cannot be thinned out: {}", super::chain(&error));
        }
    }

    /// Lets running changes end; workers are never stopped because we stop.
    ///
    /// What follows from them is saved but not begun: the next daemon goes on with it.
    async fn stop(&mut self, signals: &mut Signals, publications: &mpsc::Sender<Publication>) -> Result<(), Stop> {
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.performer.under_way() > 0 {
            let event = tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => return Err(Stop::Impatient),
                    Signal::Reload => continue,
                },
                event = self.performer.ended() => event,
                () = sleep_until(deadline) => break,
            };
            let mut step = self.handle(event);
            step.actions.retain(|action| matches!(action, Action::Record(_) | Action::Reply(..)));
            self.carry_out_and_publish(step, publications).await?;
        }
        if let Err(error) = self.saver.finish(&self.engine) {
            tracing::warn!("the last state cannot be saved: {}", super::chain(&error));
        }
        Ok(())
    }
}

/// Answers the service manager's watchdog, but only while the bus answers us.
struct Liveness {
    connection: Connection,
    interval: Option<tokio::time::Interval>,
    /// The question that the bus has not answered yet.
    asked: Option<JoinHandle<bool>>,
    ready: Ready,
}

impl Liveness {
    fn new(connection: &Connection) -> Liveness {
        Liveness {
            connection: connection.clone(),
            interval: ready::watchdog_interval().map(interval),
            asked: None,
            ready: Ready::default(),
        }
    }

    /// Waits for the next time to say that we are alive, and says it if the bus still answers; may be dropped while it
    /// waits, and goes on where it was.
    async fn tick(&mut self) {
        let Some(interval) = &mut self.interval else { return std::future::pending().await };
        if self.asked.is_none() {
            interval.tick().await;
            self.asked = Some(tokio::spawn(bus_answers(self.connection.clone(), interval.period())));
        }
        let Some(asked) = &mut self.asked else { return };
        let answered = asked.await;
        self.asked = None;
        match answered {
            Ok(true) => self.ready.alive(),
            _ => tracing::error!("the bus does not answer"),
        }
    }
}

/// Asks the bus itself, never PID 1.
async fn bus_answers(connection: Connection, within: Duration) -> bool {
    let bus = "org.freedesktop.DBus";
    let asked = connection.call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "GetId", &());
    matches!(timeout(within, asked).await, Ok(Ok(_)))
}

async fn sleep_until_maybe(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn watch_ended(ended: Result<Result<(), WatchError>, tokio::task::JoinError>) -> Stop {
    match ended {
        Ok(Ok(())) => Stop::PublisherGone,
        Ok(Err(error)) => Stop::Watch(error),
        Err(error) => Stop::Broken(error),
    }
}

fn publisher_ended(ended: Result<zbus::Result<()>, tokio::task::JoinError>) -> Stop {
    match ended {
        Ok(Ok(())) => Stop::PublisherGone,
        Ok(Err(error)) => Stop::Bus(error),
        Err(error) => Stop::Broken(error),
    }
}
