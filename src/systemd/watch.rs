// SPDX-License-Identifier: MIT OR Apache-2.0
//! One ordered stream of what systemd says about the units of interest.
//!
//! How it keeps its promises:
//! 1. Everything is asked for and heard on one connection of its own, and read from one queue. A reply and a signal are
//!    therefore handled in the order in which systemd sent them, and the later one is always the newer one.
//! 2. It subscribes first and lists once. Signals that arrive meanwhile are reported at once *and* show in the list.
//! 3. A unit's properties are asked for with one call for all interfaces, so that they belong to one moment.
//! 4. systemd announces a change twice, for the service and then for the unit: the unit is reported on the second.
//! 5. It never asks for a unit that was unloaded (the question would load it again), and it never polls.
//! 6. It trusts only messages of the bus itself and of the owner of systemd's name: anybody may send signals.

mod ask;
mod units;

use super::facts::Properties;
use super::jobs::Jobs;
use super::jobs::command::is_ours;
use super::proxy::{MANAGER_PATH, SERVICE, UNIT_PATH, unit_of_path};
use super::{Address, ConnectError};
use crate::engine::action::Interest;
use crate::engine::event::{Active, Event, Load};
use crate::engine::ids::WorkerName;
use crate::engine::policy::UnitPattern;
use ask::{Ask, Question, Row};
use futures_util::StreamExt;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use units::{Changed, Units};
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, OwnedObjectPath, Variant};

const QUEUED_MESSAGES: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// The bus allows 128 unanswered calls per connection.
const CALLS_IN_FLIGHT: usize = 16;
/// Names in one call; a name is at most 255 bytes long.
const NAMES_PER_CALL: usize = 512;
/// Paths of units that nobody is interested in are remembered up to this number.
const PATHS_REMEMBERED: usize = 8192;
/// At most one report per unit in this time if nothing but the `STATUS=` text changes.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// systemd did not answer a listing: ask again after this.
const LIST_AGAIN: Duration = Duration::from_secs(1);

const BUS: &str = "org.freedesktop.DBus";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_UNIT: &str = "org.freedesktop.systemd1.Service";

/// systemd before this version lets the watchdog of a frozen unit run on.
const WATCHDOG_KNOWS_FREEZER: u32 = 254;

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot subscribe to systemd's signals")]
    Subscribe(#[source] zbus::Error),
    #[error("the connection to the bus was lost")]
    BusLost,
}

/// Follows the units of interest until the bus goes away, or until nobody takes events any more.
///
/// Every change of `interest` is answered with one `Event::Listed` for the complete interest.
pub async fn follow(
    address: &Address,
    jobs: Jobs,
    interest: watch::Receiver<Interest>,
    events: mpsc::Sender<Event>,
) -> Result<(), WatchError> {
    let connection = address.connect(QUEUED_MESSAGES).await?;
    let stream = MessageStream::from(&connection);
    let owner = subscribe(&connection).await.map_err(WatchError::Subscribe)?;
    let watcher = Watcher {
        connection,
        owner,
        jobs,
        events,
        interest: Interest::default(),
        paths: HashMap::new(),
        units: Units::default(),
        aliases: HashMap::new(),
        waiting: VecDeque::new(),
        asked: HashMap::new(),
        listing: None,
        rounds: 0,
        list_again: None,
        announced: BTreeSet::new(),
        reloading: false,
        stopping: false,
    };
    watcher.run(stream, interest).await
}

/// Adds the match rules, subscribes, and names the owner of systemd's bus name.
async fn subscribe(connection: &Connection) -> zbus::Result<String> {
    let rules = [
        format!("type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{SERVICE}'"),
        format!("type='signal',sender='{SERVICE}',interface='{MANAGER}',path='{MANAGER_PATH}'"),
        format!(
            "type='signal',sender='{SERVICE}',interface='{PROPERTIES}',member='PropertiesChanged',\
             path_namespace='{UNIT_PATH}'"
        ),
    ];
    for rule in rules {
        connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "AddMatch", &(rule,)).await?;
    }
    connection.call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), "Subscribe", &()).await?;
    let owner =
        connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetNameOwner", &(SERVICE,)).await?;
    owner.body().deserialize()
}

struct Watcher {
    connection: Connection,
    /// The unique name of systemd; empty while it is away.
    owner: String,
    jobs: Jobs,
    events: mpsc::Sender<Event>,
    interest: Interest,
    /// Whose path it is; `None` if nobody is interested.
    paths: HashMap<String, Option<WorkerName>>,
    /// Units that are of interest under another name.
    aliases: HashMap<String, WorkerName>,
    units: Units,
    /// Questions that wait for their turn.
    waiting: VecDeque<Question>,
    /// Questions by the serial number of their call.
    asked: HashMap<u32, Question>,
    listing: Option<Listing>,
    rounds: u64,
    list_again: Option<Instant>,
    /// Units that systemd has loaded and that have not been looked at yet.
    announced: BTreeSet<WorkerName>,
    reloading: bool,
    /// Whether it was reported that everything goes down.
    stopping: bool,
}

/// A list that is being put together.
struct Listing {
    round: u64,
    /// Questions that belong to it and have no answer yet.
    open: usize,
    /// Whether units that systemd does not mention are to be dropped.
    complete: bool,
}

/// Nobody takes events any more.
struct Deaf;

impl Watcher {
    async fn run(
        mut self,
        mut stream: MessageStream,
        mut interest: watch::Receiver<Interest>,
    ) -> Result<(), WatchError> {
        self.ask(Ask::Version);
        self.interest = interest.borrow_and_update().clone();
        self.list_all();
        let mut interest_may_change = true;
        let mut unannounced = self.jobs.unannounced();
        if self.finish_listing().await.is_err() {
            return Ok(());
        }
        loop {
            self.ask_on().await.map_err(|_| WatchError::BusLost)?;
            let done = tokio::select! {
                biased;
                changed = interest.changed(), if interest_may_change => {
                    interest_may_change = changed.is_ok();
                    let wanted = interest.borrow_and_update().clone();
                    self.change_interest(wanted);
                    Ok(())
                }
                Ok(()) = unannounced.changed() => {
                    for name in self.jobs.take_unannounced() {
                        if self.units.knows(&name) {
                            self.ask_for(&name, None);
                        }
                    }
                    Ok(())
                }
                () = sleep_until(self.wakes_at().unwrap_or_else(Instant::now)), if self.wakes_at().is_some() => {
                    self.wake().await
                }
                () = self.events.closed() => return Ok(()),
                message = stream.next() => match message {
                    Some(Ok(message)) => self.hear(&message).await,
                    Some(Err(_)) | None => return Err(WatchError::BusLost),
                },
            };
            if done.is_err() || self.finish_listing().await.is_err() {
                return Ok(());
            }
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        [self.list_again, self.units.next_status()].into_iter().flatten().min()
    }

    async fn wake(&mut self) -> Result<(), Deaf> {
        let now = Instant::now();
        if self.list_again.is_some_and(|at| at <= now) {
            self.list_all();
        }
        while let Some((name, facts)) = self.units.take_status(now) {
            self.send(Event::Unit(name, facts)).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Deaf> {
        self.events.send(event).await.map_err(|_| Deaf)
    }
}

/// What is heard.
impl Watcher {
    async fn hear(&mut self, message: &Message) -> Result<(), Deaf> {
        let header = message.header();
        let sender = header.sender().map_or("", |name| name.as_str());
        match message.message_type() {
            Type::Signal if sender == BUS => match header.member().map(|member| member.as_str()) {
                Some("NameOwnerChanged") => self.owner_changed(message),
                _ => Ok(()),
            },
            Type::Signal if sender == self.owner => {
                let path = header.path().map_or("", |path| path.as_str());
                let interface = header.interface().map_or("", |interface| interface.as_str());
                match header.member().map_or("", |member| member.as_str()) {
                    "PropertiesChanged" if interface == PROPERTIES => self.properties_changed(path, message).await,
                    member if interface == MANAGER => self.manager_says(member, message).await,
                    _ => Ok(()),
                }
            }
            Type::MethodReturn | Type::Error if sender == self.owner || sender == BUS => {
                match header.reply_serial().and_then(|serial| self.asked.remove(&serial.get())) {
                    Some(question) => self.answered(question, message).await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn owner_changed(&mut self, message: &Message) -> Result<(), Deaf> {
        let body = message.body();
        let Ok((name, _old, new)) = body.deserialize::<(&str, &str, &str)>() else { return Ok(()) };
        if name != SERVICE {
            return Ok(());
        }
        self.owner = new.to_owned();
        self.asked.clear();
        self.waiting.clear();
        self.reloading = false;
        self.stopping = false;
        if !self.owner.is_empty() {
            self.jobs.signals_were_lost();
            self.ask(Ask::Subscribe);
            self.ask(Ask::Version);
            self.list_all();
        }
        Ok(())
    }

    async fn properties_changed(&mut self, path: &str, message: &Message) -> Result<(), Deaf> {
        let Some(name) = self.worker_at(path) else {
            self.jobs_hear(path, message);
            return Ok(());
        };
        let body = message.body();
        let Ok((interface, changed, _)) = body.deserialize::<(&str, Properties<'_>, Vec<&str>)>() else {
            return Ok(());
        };
        match interface {
            SERVICE_UNIT => {
                self.units.hear_service(&name, &changed);
                Ok(())
            }
            UNIT => {
                let change = self.units.hear_unit(&name, &changed, Instant::now());
                if self.units.lacks_traits(&name) {
                    self.ask_for(&name, None);
                }
                self.report(name, change).await
            }
            _ => Ok(()),
        }
    }

    /// How a command ends that is nobody's worker.
    fn jobs_hear(&self, path: &str, message: &Message) {
        if !self.jobs.is_expected(path) {
            return;
        }
        let body = message.body();
        if let Ok((SERVICE_UNIT, changed, _)) = body.deserialize::<(&str, Properties<'_>, Vec<&str>)>() {
            self.jobs.service_changed(path, &changed);
        }
    }

    async fn say_stopping(&mut self) -> Result<(), Deaf> {
        if std::mem::replace(&mut self.stopping, true) {
            return Ok(());
        }
        self.send(Event::HostStopping(true)).await
    }

    async fn report(&mut self, name: WorkerName, change: Changed) -> Result<(), Deaf> {
        match change {
            Changed::Now(facts) => self.send(Event::Unit(name, *facts)).await,
            Changed::Later | Changed::Nothing => Ok(()),
        }
    }

    async fn manager_says(&mut self, member: &str, message: &Message) -> Result<(), Deaf> {
        let body = message.body();
        match member {
            "JobRemoved" => {
                if let Ok((id, _path, unit, result)) = body.deserialize::<(u32, OwnedObjectPath, &str, &str)>() {
                    self.jobs.removed(id, result);
                    if ends_everything(unit) && result != "done" && std::mem::take(&mut self.stopping) {
                        return self.send(Event::HostStopping(false)).await;
                    }
                }
            }
            "JobNew" => {
                if let Ok((_, _, unit)) = body.deserialize::<(u32, OwnedObjectPath, &str)>()
                    && ends_everything(unit)
                {
                    return self.say_stopping().await;
                }
            }
            "UnitNew" if !self.reloading => {
                if let Ok((unit, _)) = body.deserialize::<(&str, OwnedObjectPath)>()
                    && unit.starts_with("systemd-coredump@")
                {
                    return self.send(Event::CoreDumpBegan).await;
                }
                if let Ok((unit, _)) = body.deserialize::<(&str, OwnedObjectPath)>()
                    && let Some(name) = self.worker_named(unit)
                {
                    self.announced.insert(name);
                }
            }
            "UnitRemoved" if !self.reloading => {
                if let Ok((unit, _)) = body.deserialize::<(&str, OwnedObjectPath)>()
                    && let Some(name) = self.worker_named(unit)
                {
                    self.announced.remove(&name);
                    let stays = self.interest.names.contains(&name);
                    if self.units.removed(&name, stays) {
                        return self.send(Event::Gone(name)).await;
                    }
                }
            }
            "Reloading" => {
                if let Ok(reloading) = body.deserialize::<bool>() {
                    self.reloading = reloading;
                    if !reloading {
                        self.list_all();
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The worker whose object path this is, if anybody is interested in it.
    fn worker_at(&mut self, path: &str) -> Option<WorkerName> {
        if let Some(known) = self.paths.get(path) {
            return known.clone();
        }
        let name = unit_of_path(path).and_then(|unit| self.worker_named(&unit));
        if self.paths.len() >= PATHS_REMEMBERED {
            self.paths.clear();
        }
        self.paths.insert(path.to_owned(), name.clone());
        name
    }

    fn worker_named(&self, unit: &str) -> Option<WorkerName> {
        if !unit.ends_with(".service") {
            return None;
        }
        let name = WorkerName::parse(unit).ok().filter(|name| is_of_interest(&self.interest, name));
        name.or_else(|| self.aliases.get(unit).cloned())
    }
}

/// What is asked for, and what the answers mean.
impl Watcher {
    /// Asks as many questions as may be open at once.
    async fn ask_on(&mut self) -> zbus::Result<()> {
        if self.owner.is_empty() {
            return Ok(());
        }
        if !self.announced.is_empty() {
            let names = std::mem::take(&mut self.announced).into_iter().collect::<Vec<_>>();
            for chunk in names.chunks(NAMES_PER_CALL) {
                self.waiting.push_front(Question { ask: Ask::Announced(chunk.to_vec()), round: None });
            }
        }
        while self.asked.len() < CALLS_IN_FLIGHT
            && let Some(question) = self.waiting.pop_front()
        {
            let call = question.ask.message(&self.connection)?;
            self.asked.insert(call.primary_header().serial_num().get(), question);
            self.connection.send(&call).await?;
        }
        Ok(())
    }

    fn ask(&mut self, ask: Ask) {
        self.waiting.push_back(Question { ask, round: None });
    }

    /// Asks for all properties of a unit, before anything else unless a listing wants them.
    fn ask_for(&mut self, name: &WorkerName, round: Option<u64>) {
        let epoch = self.units.asking(name);
        let question = Question { ask: Ask::Unit { name: name.clone(), epoch }, round };
        match &mut self.listing {
            Some(listing) if round == Some(listing.round) => {
                listing.open += 1;
                self.waiting.push_back(question);
            }
            _ => self.waiting.push_front(question),
        }
    }

    /// Lists everything anew; a listing that is under way is given up.
    fn list_all(&mut self) {
        self.waiting.retain(|question| matches!(question.ask, Ask::Subscribe | Ask::Version));
        self.announced.clear();
        self.aliases.clear();
        self.paths.clear();
        self.list_again = None;
        self.units.begin_round();
        self.rounds += 1;
        self.listing = Some(Listing { round: self.rounds, open: 0, complete: true });
        let names = self.interest.names.iter().filter(|name| is_local(name)).cloned().collect();
        let globs = self.interest.globs.iter().cloned().collect();
        self.list(names, globs);
        self.ask(Ask::SystemState);
    }

    /// Lists what is new; a listing that is under way is extended.
    fn change_interest(&mut self, wanted: Interest) {
        let names = wanted.names.difference(&self.interest.names);
        let names: Vec<_> = names.filter(|name| is_local(name) && !self.units.knows(name)).cloned().collect();
        let globs: Vec<_> = wanted.globs.difference(&self.interest.globs).cloned().collect();
        self.interest = wanted;
        let interest = &self.interest;
        self.paths.clear();
        self.aliases.retain(|_, alias| interest.names.contains(alias));
        self.announced.retain(|name| is_of_interest(interest, name));
        self.units.keep(|name| is_of_interest(interest, name));
        if self.listing.is_none() {
            self.rounds += 1;
            self.listing = Some(Listing { round: self.rounds, open: 0, complete: false });
        }
        self.list(names, globs);
    }

    /// Asks for lists on behalf of the current listing.
    fn list(&mut self, names: Vec<WorkerName>, globs: Vec<UnitPattern>) {
        let Some(listing) = &mut self.listing else { return };
        let matching = (!globs.is_empty()).then_some(Ask::Matching(globs));
        let named = names.chunks(NAMES_PER_CALL).map(|chunk| Ask::Named(chunk.to_vec()));
        for ask in matching.into_iter().chain(named) {
            listing.open += 1;
            self.waiting.push_back(Question { ask, round: Some(listing.round) });
        }
    }

    async fn finish_listing(&mut self) -> Result<(), Deaf> {
        let Some(listing) = self.listing.take_if(|listing| listing.open == 0) else { return Ok(()) };
        if listing.complete {
            self.units.end_round();
        }
        let rows = self.units.list();
        self.send(Event::Listed(self.interest.clone(), rows)).await
    }

    async fn answered(&mut self, question: Question, message: &Message) -> Result<(), Deaf> {
        let Question { ask, round } = question;
        let failed = message.message_type() == Type::Error;
        let body = message.body();
        let awaited = self.listing.as_ref().is_some_and(|listing| round == Some(listing.round));
        match ask {
            Ask::Subscribe => {}
            Ask::Version => {
                if let Ok(Variant::Str(version)) = body.deserialize::<Variant<'_>>() {
                    let version = major_version(version.as_str());
                    self.units.freezer_upsets_watchdog = version < WATCHDOG_KNOWS_FREEZER;
                }
            }
            Ask::SystemState => {
                if let Ok(Variant::Str(state)) = body.deserialize::<Variant<'_>>()
                    && state.as_str() == "stopping"
                {
                    self.say_stopping().await?;
                }
            }
            Ask::Matching(_) | Ask::Named(_) if !awaited => {}
            Ask::Matching(_) | Ask::Named(_) if failed => {
                // systemd most likely went away in between; then its return brings the list, else time must.
                let why = message.header().error_name().map(|name| name.to_string()).unwrap_or_default();
                tracing::debug!(why, "systemd did not list its units");
                self.list_again = Some(Instant::now() + LIST_AGAIN);
                return Ok(());
            }
            Ask::Matching(_) => self.hear_rows(message, &[], round),
            Ask::Named(names) => self.hear_rows(message, &names, round),
            Ask::Announced(names) => {
                self.hear_rows(message, &[], None);
                for name in names {
                    let change = self.units.changed(&name, Instant::now());
                    self.report(name, change).await?;
                }
            }
            Ask::Unit { name, epoch } => {
                let properties = body.deserialize::<Properties<'_>>().ok().filter(|_| !failed);
                let change = self.units.hear_all(&name, epoch, properties.as_ref(), Instant::now());
                if !awaited {
                    return self.report(name, change).await;
                }
            }
        }
        if awaited && let Some(listing) = &mut self.listing {
            listing.open -= 1;
        }
        Ok(())
    }

    /// Takes a list of units; `asked` are the names that were asked for, in this order, if they were.
    fn hear_rows(&mut self, message: &Message, asked: &[WorkerName], round: Option<u64>) {
        let rows = message.body().deserialize::<Vec<Row>>().unwrap_or_default();
        let aligned = rows.len() == asked.len();
        for (at, row) in rows.iter().enumerate() {
            if aligned && asked[at].unit() != row.0 && self.worker_named(&row.0).is_none() {
                self.paths.remove(row.6.as_str());
                self.aliases.insert(row.0.clone(), asked[at].clone());
            }
            self.hear_row(row, round);
        }
    }

    fn hear_row(&mut self, row: &Row, round: Option<u64>) {
        let (unit, _, load, active, sub, _, _, job, _, _) = row;
        let Some(name) = self.worker_named(unit) else { return };
        let is_down = Active::parse(active) == Active::Inactive;
        // How a run ended is not in the list; a unit that was up until now is asked, so that both come together.
        let went_down = is_down && self.units.was_up(&name);
        let known = self.units.follows(&name) || self.units.is_asked_for(&name);
        let down = (is_down && !went_down).then_some((sub.as_str(), *job));
        self.units.hear_row(&name, Load::parse(load), down);
        if went_down || !(is_down || known) {
            self.ask_for(&name, round);
        }
    }
}

fn is_of_interest(interest: &Interest, name: &WorkerName) -> bool {
    let matches = || !is_ours(name.unit()) && interest.globs.iter().any(|glob| glob.matches(name));
    is_local(name) && (interest.names.contains(name) || matches())
}

/// Whether the unit lives here and not on another node.
fn is_local(name: &WorkerName) -> bool {
    name.unit().len() == name.as_str().len()
}

/// Whether a job for this unit means that the machine, or the user's session, goes down.
fn ends_everything(unit: &str) -> bool {
    unit == "shutdown.target"
        || matches!(
            unit,
            "systemd-halt.service" | "systemd-poweroff.service" | "systemd-reboot.service" | "systemd-exit.service"
        )
        || matches!(unit, "exit.target" | "halt.target" | "poweroff.target" | "reboot.target" | "kexec.target")
}

/// Reads `252` from `252.39-1~deb12u1`.
fn major_version(text: &str) -> u32 {
    let digits = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    digits.parse().unwrap_or(0)
}
