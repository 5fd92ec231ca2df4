// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells whether what holds wait for is so: one task for each condition, which tells at its first look and whenever the
//! answer changes. What cannot be known is told as an error, never as true.
//!
//! Only the presence of a file is announced by the kernel. Its triggers for pressure say that pressure rises, not that it
//! falls, so an average is looked at when it can have fallen at the earliest. Everything else is looked at sparingly.

use super::aside::Aside;
use super::clock;
use super::options::Scope;
use super::presence::{Presence, Watched};
use crate::engine::event::Event;
use crate::engine::time::Wall;
use crate::engine::until::Until;
use crate::gpu::Gpus;
use crate::host::{condition, reach};
use crate::systemd::jobs::Jobs;
use crate::systemd::jobs::command::{Errand, Sandbox};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Conditions that are looked at; more are told as unknown.
const AWAITED_MAX: usize = 1_000;
/// What was told and nobody has heard yet.
const WAITING_MAX: usize = 64;
/// How long a file system may take to answer.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take to find out whether a server can be reached, with its name's resolution.
const REACH_DEADLINE: Duration = Duration::from_secs(15);
/// Servers that are asked at once.
const REACHING_MAX: usize = 4;
/// How often the clock is looked at, which somebody may set.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// Finds out whether an address can be reached.
type Reach = Arc<dyn Fn(Arc<str>) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send>> + Send + Sync>;

/// How often it is looked.
#[derive(Clone, Copy)]
struct Pace {
    /// After the first look and after each change; it doubles from there.
    first: Duration,
    longest: Duration,
    /// What may flap must be true in two looks, this far apart.
    settle: Duration,
}

const PACE: Pace =
    Pace { first: Duration::from_secs(5), longest: Duration::from_secs(30), settle: Duration::from_secs(1) };

/// All conditions that are waited for.
pub struct Conditions {
    looks: Looks,
    presence: Presence,
    /// One task for each condition; they end when they are dropped.
    tasks: BTreeMap<Until, (u64, JoinSet<()>)>,
    /// Tells a condition from the same one that was waited for earlier.
    rounds: u64,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

type Told = (u64, Until, Result<bool, String>);

/// What the tasks share.
#[derive(Clone)]
struct Looks {
    aside: Aside,
    reach: Reach,
    gpus: Gpus,
    pace: Pace,
}

impl Conditions {
    pub fn start(scope: Scope, jobs: Jobs, aside: Aside, gpus: Gpus) -> io::Result<Conditions> {
        let places = Arc::new(Semaphore::new(REACHING_MAX));
        let reach: Reach = Arc::new(move |address| {
            let (jobs, places) = (jobs.clone(), places.clone());
            Box::pin(async move {
                let _place = places.acquire().await;
                reach_by_unit(scope, &jobs, &address).await
            })
        });
        Conditions::new(Looks { aside, reach, gpus, pace: PACE })
    }

    fn new(looks: Looks) -> io::Result<Conditions> {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        Ok(Conditions { looks, presence: Presence::start()?, tasks: BTreeMap::new(), rounds: 0, tell, told })
    }

    /// Tells of these from here on, and of no others; those that are new have been waited for since then.
    pub fn wait_for(&mut self, wanted: &BTreeSet<Until>, since: Wall) {
        self.tasks.retain(|until, _| wanted.contains(until));
        for until in wanted {
            if !self.tasks.contains_key(until) {
                self.begin(until.clone(), since);
            }
        }
    }

    fn begin(&mut self, until: Until, since: Wall) {
        self.rounds += 1;
        let teller = Teller { round: self.rounds, until: until.clone(), tell: self.tell.clone(), last: None };
        let watched = match &until {
            Until::Exists(path) => Some(self.presence.watch(path)),
            _ => None,
        };
        let looks = self.looks.clone();
        let is_too_much = self.tasks.len() >= AWAITED_MAX;
        let mut task = JoinSet::new();
        task.spawn(async move {
            match &teller.until {
                _ if is_too_much => teller.give_up("too many conditions are waited for").await,
                Until::At(hour, minute) => match next_time(&zoned(since), *hour, *minute) {
                    Ok(due) => at(Wall(due.as_microsecond()), teller).await,
                    Err(error) => teller.give_up(&error.to_string()).await,
                },
                _ => looks.repeat(teller, watched).await,
            }
        });
        self.tasks.insert(until, (self.rounds, task));
    }

    /// The next news; may be dropped while it waits.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.told.recv().await {
                Some((round, until, holds)) => {
                    if self.tasks.get(&until).is_some_and(|(current, _)| *current == round) {
                        return Event::Until(until, holds);
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}

/// Tells of one condition, when there is something new.
struct Teller {
    round: u64,
    until: Until,
    tell: mpsc::Sender<Told>,
    last: Option<Result<bool, String>>,
}

impl Teller {
    /// Whether that was news.
    async fn say(&mut self, holds: Result<bool, String>) -> bool {
        if self.last.as_ref() == Some(&holds) {
            return false;
        }
        self.last = Some(holds.clone());
        // Whoever does not hear any more ends this task.
        self.tell.send((self.round, self.until.clone(), holds)).await.is_ok()
    }

    async fn give_up(mut self, why: &str) {
        self.say(Err(why.to_owned())).await;
    }
}

impl Looks {
    async fn repeat(self, mut teller: Teller, watched: Option<Watched>) {
        let mut pause = self.pace.first;
        loop {
            let mut look = self.look(&teller.until).await;
            let may_flap = matches!(teller.until, Until::Free(..) | Until::Pressure(..) | Until::GpuFree(_));
            if may_flap && look.holds == Ok(true) && teller.last != Some(Ok(true)) {
                sleep(self.pace.settle).await;
                look = self.look(&teller.until).await;
            }
            let is_true = look.holds == Ok(true);
            if teller.say(look.holds).await {
                pause = self.pace.first;
            }
            let wait = match look.not_before {
                Some(earliest) if !is_true => earliest.min(self.pace.longest),
                _ if is_true => self.pace.longest,
                _ => pause,
            };
            match &watched {
                Some(watched) => {
                    // A name that comes and goes all the time is not looked at all the time.
                    sleep(self.pace.settle / 10).await;
                    tokio::select! {
                        () = watched.changed() => {}
                        () = sleep(self.pace.longest) => {}
                    }
                }
                None => sleep(wait).await,
            }
            pause = (pause * 2).min(self.pace.longest);
        }
    }

    async fn look(&self, until: &Until) -> Look {
        match until.clone() {
            Until::Free(path, bytes) => {
                let asked = self.aside.ask(&path.clone(), LOOK_DEADLINE, move || condition::free(&path)).await;
                Look::at_any_time(named(until, asked).map(|free| free > bytes))
            }
            Until::Exists(path) => {
                let asked = self.aside.ask(&path.clone(), LOOK_DEADLINE, move || condition::exists(&path)).await;
                Look::at_any_time(named(until, asked))
            }
            Until::Pressure(resource, limit) => {
                let limit = f64::from(limit);
                let share = condition::pressure(resource);
                let not_before = share.as_ref().ok().map(|share| condition::falls_below_after(*share, limit));
                Look { holds: share.map(|share| share < limit), not_before }
            }
            Until::Reachable(address) => Look::at_any_time((self.reach)(address).await),
            Until::GpuFree(bytes) => {
                let free = self.gpus.free_memory().await;
                Look::at_any_time(free.map(|free| free.largest >= bytes).map_err(|unknown| unknown.to_string()))
            }
            // The clock is not looked at here.
            Until::At(..) => Look::at_any_time(Err("the time is not known".to_owned())),
        }
    }
}

/// What was seen.
struct Look {
    holds: Result<bool, String>,
    /// It cannot come true before so much time has passed.
    not_before: Option<Duration>,
}

impl Look {
    fn at_any_time(holds: Result<bool, String>) -> Look {
        Look { holds, not_before: None }
    }
}

fn named<T>(until: &Until, asked: Result<Result<T, String>, String>) -> Result<T, String> {
    asked.unwrap_or_else(|why| match until {
        Until::Free(path, _) | Until::Exists(path) => Err(format!("{path}: {why}")),
        _ => Err(why),
    })
}

/// Has our own program look: only it may talk to other machines.
async fn reach_by_unit(scope: Scope, jobs: &Jobs, address: &str) -> Result<bool, String> {
    let sandbox = match scope {
        Scope::System => Sandbox::System,
        Scope::User => Sandbox::User,
    };
    let argv = [super::own_program()?, "--reach".into(), address.into()];
    let printed = jobs.run_errand(Errand::Reach, address, &argv, sandbox, REACH_DEADLINE).await?;
    reach::parse(&String::from_utf8_lossy(&printed))
}

/// Tells that the clock has come to a moment, whether by itself or because somebody set it.
async fn at(due: Wall, mut teller: Teller) {
    loop {
        let missing = due.since(clock::now().wall);
        teller.say(Ok(missing.is_zero())).await;
        if missing.is_zero() {
            return;
        }
        sleep(missing.min(CLOCK_EVERY)).await;
    }
}

/// In the zone of the machine; a clock that was set back since then says the time of now.
fn zoned(at: Wall) -> Zoned {
    let now = Zoned::now();
    let at = Timestamp::from_microsecond(at.0).unwrap_or(now.timestamp());
    if at < now.timestamp() { at.to_zoned(now.time_zone().clone()) } else { now }
}

/// The next moment after `now` at which the clock of its zone shows these hours and minutes. A time that is left out when
/// clocks are set forward comes as much later; of two the first one counts.
fn next_time(now: &Zoned, hour: u8, minute: u8) -> Result<Timestamp, jiff::Error> {
    let zone: &TimeZone = now.time_zone();
    let time = Time::new(i8::try_from(hour).unwrap_or(0), i8::try_from(minute).unwrap_or(0), 0, 0)?;
    let today = now.date().to_datetime(time).to_zoned(zone.clone())?.timestamp();
    if today > now.timestamp() {
        return Ok(today);
    }
    Ok(now.date().checked_add(1.day())?.to_datetime(time).to_zoned(zone.clone())?.timestamp())
}

#[cfg(test)]
mod tests;
