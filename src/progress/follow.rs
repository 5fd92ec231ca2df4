// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows the progress of many workers on a thread of its own.
//!
//! 1. [`Follower::follow`] says what is read of a worker from here on; it neither waits nor fails.
//! 2. [`Follower::next`] brings what is new. Of each source only the newest waits to be fetched.
//! 3. Files on local file systems are read when inotify says so, at most twenty times a second each. Now and then they
//!    are looked at all the same, because inotify knows nothing of writes through a mapping, of mounts, and of directories
//!    further up that are renamed. All else is asked again and again, as often as the configuration says.
//! 4. What can be over in a moment, such as a file that is written anew, is told only if it lasts.
//! 5. Dropping the [`Follower`] ends the thread.

use super::document::Fields;
use super::file::Trouble;
use super::http::{Client, DEADLINE};
use super::lines::{Lines, Pattern};
use super::places::Places;
use super::probe::{Answer, Found, ProbeId, Question, read_file};
use crate::engine::event::Event;
use crate::engine::ids::WorkerName;
use crate::engine::source::{Probe, Reading, Sources};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

/// Between two looks at what inotify said: what happens meanwhile is read once.
const FILES_PAUSE: Duration = Duration::from_millis(50);
/// The same for lines.
const LINES_PAUSE: Duration = Duration::from_millis(100);
/// How long what may be over in a moment may last before it is told.
const SETTLE: Duration = Duration::from_secs(2);
/// How often a file is looked at that tells of changes by itself, at most.
const WATCHED_EVERY: Duration = Duration::from_secs(10);
/// How often anything is asked, at most.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Questions to file systems, and to servers, that may be under way at once. Each has a thread, and keeps it while what it
/// asks hangs.
const DISK_MAX: usize = 32;
const NET_MAX: usize = 64;
/// A thread that has nothing to do ends after so long.
const THREAD_IDLE: Duration = Duration::from_secs(10);
const STACK: usize = 512 << 10;

/// The way to the thread; see the module's description.
pub struct Follower {
    shared: Arc<Shared>,
    lines: Lines,
}

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    ordered: Notify,
    news: Mutex<BTreeMap<(WorkerName, usize), News>>,
    new: Notify,
}

/// A reading of a source, by the key that configures it.
type News = (&'static str, Result<Reading, String>);

#[derive(Default)]
struct Orders {
    follow: BTreeMap<WorkerName, Arc<Sources>>,
    end: bool,
}

impl Follower {
    /// Starts the thread.
    pub fn start() -> io::Result<Follower> {
        let (shared, lines) = (Arc::new(Shared::default()), Lines::default());
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(DISK_MAX + NET_MAX).thread_keep_alive(THREAD_IDLE).thread_stack_size(STACK);
        let runtime = builder.thread_name("progress-ask").enable_all().build()?;
        let (theirs, heard) = (shared.clone(), lines.clone());
        std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            runtime.block_on(async { Reader::new(theirs, heard).run().await });
            // Those that hang are not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Follower { shared, lines })
    }

    /// Reads these sources of the worker from here on, each at once and then when it changes; none if there are none.
    pub fn follow(&self, worker: WorkerName, sources: Arc<Sources>) {
        locked(&self.shared.orders).follow.insert(worker, sources);
        self.shared.ordered.notify_one();
    }

    /// Where the lines of workers' units shall be heard.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// What is new, at least one event; may be dropped while it waits.
    pub async fn next(&self) -> Vec<Event> {
        loop {
            let news = std::mem::take(&mut *locked(&self.shared.news));
            if !news.is_empty() {
                let events = news.into_iter().map(|((worker, _), (key, read))| Event::Read(worker, key, read));
                return events.collect();
            }
            self.shared.new.notified().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        locked(&self.shared.orders).end = true;
        self.shared.ordered.notify_one();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread owns.
struct Reader {
    shared: Arc<Shared>,
    lines: Lines,
    client: Client,
    /// `None` without inotify instances left.
    places: Option<Places>,
    workers: HashMap<WorkerName, Vec<ProbeId>>,
    probes: HashMap<ProbeId, Followed>,
    /// When which source is due; each is in it at most once.
    agenda: BTreeSet<(Instant, ProbeId)>,
    asked: JoinSet<(ProbeId, Option<Answer>)>,
    disk: Arc<Semaphore>,
    net: Arc<Semaphore>,
    next_id: u64,
    files_at: Instant,
    lines_at: Instant,
    /// Whether it was said that inotify is exhausted.
    complained: bool,
    /// Room to read files into.
    content: Vec<u8>,
}

/// One source of one worker.
struct Followed {
    worker: WorkerName,
    /// Among the sources of its worker.
    index: usize,
    key: &'static str,
    /// `None`: it is not asked, it tells.
    question: Option<Question>,
    every: Duration,
    /// Whether inotify tells of changes.
    watched: bool,
    told: Option<Told>,
    /// Since when nothing can be read.
    troubled: Option<Instant>,
    /// When it is to be asked, while no answer is under way.
    ask_at: Option<Instant>,
    due: Option<Instant>,
}

#[derive(PartialEq)]
enum Told {
    Mark(u64),
    Error(String),
}

enum Woken {
    Ordered,
    Answered(ProbeId, Option<Answer>),
    Files,
    Lines,
    Due,
}

impl Reader {
    fn new(shared: Arc<Shared>, lines: Lines) -> Reader {
        let now = Instant::now();
        let places = Places::new().inspect_err(|error| tracing::warn!("files are only polled: {error}"));
        Reader {
            shared,
            lines,
            client: Client::new(DEADLINE),
            complained: places.is_err(),
            places: places.ok(),
            workers: HashMap::new(),
            probes: HashMap::new(),
            agenda: BTreeSet::new(),
            asked: JoinSet::new(),
            disk: Arc::new(Semaphore::new(DISK_MAX)),
            net: Arc::new(Semaphore::new(NET_MAX)),
            next_id: 1,
            files_at: now,
            lines_at: now,
            content: Vec::new(),
        }
    }

    async fn run(mut self) {
        loop {
            match self.woken().await {
                Woken::Ordered => {
                    let orders = std::mem::take(&mut *locked(&self.shared.orders));
                    if orders.end {
                        return;
                    }
                    orders.follow.into_iter().for_each(|(worker, sources)| self.follow(worker, &sources));
                }
                Woken::Answered(id, answer) => self.answered(id, answer),
                Woken::Files => self.look_at_changed().await,
                Woken::Lines => {
                    for (id, reading) in self.lines.take() {
                        self.tell(id, Ok(reading));
                    }
                    self.lines_at = Instant::now() + LINES_PAUSE;
                }
                Woken::Due => self.look_at_due(),
            }
            // Once for all that is new: waking another thread costs more than reading a file.
            if !locked(&self.shared.news).is_empty() {
                self.shared.new.notify_one();
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let due = self.agenda.first().map(|(at, _)| *at);
        let files = async {
            match &self.places {
                Some(places) => {
                    sleep_until(self.files_at).await;
                    places.changed().await;
                }
                None => std::future::pending().await,
            }
        };
        let lines = async {
            sleep_until(self.lines_at).await;
            self.lines.heard().await;
        };
        let due = async {
            match due {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.ordered.notified() => Woken::Ordered,
            // Its parts catch the panics of what they wait for.
            Some(Ok((id, answer))) = self.asked.join_next() => Woken::Answered(id, answer),
            () = files => Woken::Files,
            () = lines => Woken::Lines,
            () = due => Woken::Due,
        }
    }

    fn follow(&mut self, worker: WorkerName, sources: &Sources) {
        for id in self.workers.remove(&worker).unwrap_or_default() {
            self.forget(id);
        }
        // What the former sources said is of no use any more.
        locked(&self.shared.news).retain(|(of, _), _| *of != worker);
        let fields = Arc::new(sources.fields.clone());
        let (mut ids, mut patterns) = (Vec::new(), Vec::new());
        for (index, probe) in sources.probes.iter().enumerate() {
            // Commands belong to the service manager.
            if matches!(probe, Probe::Command(_)) {
                continue;
            }
            let id = ProbeId(self.next_id);
            self.next_id += 1;
            ids.push(id);
            let followed = Followed {
                worker: worker.clone(),
                index,
                key: probe.key(),
                question: question(probe, &fields),
                every: sources.every.max(ASK_EVERY),
                watched: false,
                told: None,
                troubled: None,
                ask_at: None,
                due: None,
            };
            self.probes.insert(id, followed);
            match probe {
                Probe::Journal(text) => match Pattern::new(text) {
                    Ok(pattern) => patterns.push((id, pattern)),
                    Err(why) => self.tell(id, Err(why)),
                },
                _ => self.ask(id),
            }
        }
        self.lines.listen(&worker, patterns);
        if !ids.is_empty() {
            self.workers.insert(worker, ids);
        }
    }

    fn forget(&mut self, id: ProbeId) {
        self.schedule(id, None);
        self.probes.remove(&id);
        if let Some(places) = &mut self.places {
            places.forget(id);
        }
    }

    fn schedule(&mut self, id: ProbeId, due: Option<Instant>) {
        let Some(probe) = self.probes.get_mut(&id) else { return };
        if let Some(former) = std::mem::replace(&mut probe.due, due) {
            self.agenda.remove(&(former, id));
        }
        self.agenda.extend(due.map(|at| (at, id)));
    }

    /// Asks on another thread; [`Woken::Answered`] brings the answer, also if that thread panics.
    fn ask(&mut self, id: ProbeId) {
        self.schedule(id, None);
        let Some(probe) = self.probes.get_mut(&id) else { return };
        probe.ask_at = None;
        let Some(question) = probe.question.clone() else { return };
        let places = if matches!(question, Question::Http(..)) { &self.net } else { &self.disk };
        let (place, client) = (places.clone().acquire_owned(), self.client.clone());
        self.asked.spawn(async move {
            let place = place.await;
            let asked = spawn_blocking(move || {
                let answer = question.ask(&client);
                drop(place);
                answer
            });
            (id, asked.await.ok())
        });
    }

    fn answered(&mut self, id: ProbeId, answer: Option<Answer>) {
        let now = Instant::now();
        let Some(probe) = self.probes.get_mut(&id) else { return };
        let broken =
            || Answer { found: Err(Trouble::lasting("the look at it was broken off".to_owned())), tells: false };
        let answer = answer.unwrap_or_else(broken);
        let every = if answer.tells { probe.every.max(WATCHED_EVERY) } else { probe.every };
        probe.ask_at = Some(now + every);
        if answer.tells && self.watch(id) {
            // Only what is read after the watch was set cannot be out of date.
            self.read(id);
            return;
        }
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.watched = false;
            probe.ask_at = Some(now + probe.every);
        }
        if let Some(places) = &mut self.places {
            places.forget(id);
        }
        self.judge(id, answer.found);
    }

    /// Has inotify tell of changes of a file; whether it does.
    fn watch(&mut self, id: ProbeId) -> bool {
        let Some(probe) = self.probes.get_mut(&id) else { return false };
        let (Some(Question::File(path, _)), Some(places)) = (&probe.question, &mut self.places) else { return false };
        let watched = places.watch(id, path);
        probe.watched = watched.is_ok();
        if let Err(error) = watched
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!("{} and perhaps others are only polled: {}", path.display(), error.desc().to_lowercase());
        }
        probe.watched
    }

    fn read(&mut self, id: ProbeId) {
        let Some(Question::File(path, fields)) = self.probes.get(&id).and_then(|probe| probe.question.as_ref()) else {
            return;
        };
        let found = read_file(path, fields, &mut self.content);
        self.judge(id, found);
    }

    async fn look_at_changed(&mut self) {
        let Some(places) = &mut self.places else { return };
        let changes = places.take().await;
        for id in &changes.moved {
            self.watch(*id);
        }
        for id in changes.moved.union(&changes.files) {
            self.read(*id);
        }
        self.files_at = Instant::now() + FILES_PAUSE;
    }

    fn look_at_due(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, id));
            let Some(probe) = self.probes.get_mut(&id) else { continue };
            probe.due = None;
            if probe.watched && probe.ask_at.is_some_and(|at| at > now) {
                self.read(id);
            } else {
                self.ask(id);
            }
        }
    }

    /// Tells what was found if it is new, and says when to look again.
    fn judge(&mut self, id: ProbeId, found: Result<Found, Trouble>) {
        let now = Instant::now();
        let Some(probe) = self.probes.get_mut(&id) else { return };
        let mut due = probe.ask_at;
        let (told, news) = match found {
            Ok(found) => {
                probe.troubled = None;
                (Told::Mark(found.mark), Ok(found.reading))
            }
            Err(trouble) => {
                let settled = *probe.troubled.get_or_insert(now) + SETTLE;
                if trouble.passing && now < settled {
                    due = due.map(|at| at.min(settled));
                    self.schedule(id, due);
                    return;
                }
                (Told::Error(trouble.text.clone()), Err(trouble.text))
            }
        };
        let is_new = probe.told.as_ref() != Some(&told);
        probe.told = Some(told);
        self.schedule(id, due);
        if is_new {
            self.tell(id, news);
        }
    }

    fn tell(&self, id: ProbeId, news: Result<Reading, String>) {
        let Some(probe) = self.probes.get(&id) else { return };
        locked(&self.shared.news).insert((probe.worker.clone(), probe.index), (probe.key, news));
    }
}

/// What is asked of a source; `None` if it is not asked.
fn question(probe: &Probe, fields: &Arc<Fields>) -> Option<Question> {
    match probe {
        Probe::File(path) => Some(Question::File(PathBuf::from(&**path), fields.clone())),
        Probe::Count(pattern) => Some(Question::Count(pattern.clone())),
        Probe::Mtime(pattern) => Some(Question::Mtime(pattern.clone())),
        Probe::Http(url) => Some(Question::Http(url.clone(), fields.clone())),
        Probe::Command(_) | Probe::Journal(_) => None,
    }
}

#[cfg(test)]
mod tests;
