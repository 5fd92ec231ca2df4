// SPDX-License-Identifier: MIT OR Apache-2.0
//! Brings what workers' sources of progress say: from the follower's thread, and from the commands that the service
//! manager runs.

use super::options::Scope;
use crate::engine::event::Event;
use crate::engine::ids::WorkerName;
use crate::engine::source::{Probe, Sources};
use crate::progress::document::{self, Fields};
use crate::progress::follow::Follower;
use crate::progress::lines::Lines;
use crate::systemd::jobs::Jobs;
use crate::systemd::jobs::command::{Command, Sandbox};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Commands that may run at once, of all workers.
const RUNNING_MAX: usize = 8;
/// How often a command is run, at most.
const RUN_EVERY: Duration = Duration::from_secs(1);

/// Readings of commands that may wait.
const WAITING_MAX: usize = 64;

/// What a command printed; the error is a fragment.
type Printed = Result<Vec<u8>, String>;
/// Runs a command to its end.
type Run = Arc<dyn Fn(Command) -> Pin<Box<dyn Future<Output = Printed> + Send>> + Send + Sync>;

/// The sources of all workers.
pub struct Progress {
    follower: Follower,
    commands: Commands,
    ready: VecDeque<Event>,
}

impl Progress {
    pub fn start(scope: Scope, jobs: Jobs) -> io::Result<Progress> {
        let run: Run = Arc::new(move |command| {
            let jobs = jobs.clone();
            Box::pin(async move { jobs.run(&command).await })
        });
        let commands = Commands::new(scope, run);
        Ok(Progress { follower: Follower::start()?, commands, ready: VecDeque::new() })
    }

    /// Where the lines of running units are to be heard.
    pub fn lines(&self) -> Lines {
        self.follower.lines()
    }

    /// Reads these sources of the worker from here on.
    pub fn follow(&mut self, worker: WorkerName, sources: Arc<Sources>) {
        self.commands.follow(&worker, &sources);
        self.follower.follow(worker, sources);
    }

    /// The next reading; may be dropped while it waits.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            tokio::select! {
                events = self.follower.next() => self.ready.extend(events),
                event = self.commands.next() => return event,
            }
        }
    }
}

/// Commands that are run again and again, each one time after the other.
struct Commands {
    scope: Scope,
    run: Run,
    /// One task for each command; they end when they are dropped.
    tasks: HashMap<WorkerName, JoinSet<()>>,
    places: Arc<Semaphore>,
    tell: mpsc::Sender<Event>,
    told: mpsc::Receiver<Event>,
}

impl Commands {
    fn new(scope: Scope, run: Run) -> Commands {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        Commands { scope, run, tasks: HashMap::new(), places: Arc::new(Semaphore::new(RUNNING_MAX)), tell, told }
    }

    fn follow(&mut self, worker: &WorkerName, sources: &Sources) {
        self.tasks.remove(worker);
        let mut tasks = JoinSet::new();
        for (index, probe) in sources.probes.iter().enumerate() {
            let Probe::Command(argv) = probe else { continue };
            let sandbox = match self.scope {
                Scope::System => Sandbox::System,
                Scope::User => Sandbox::User,
            };
            let command = Command { worker: worker.clone(), index, argv: argv.clone(), sandbox };
            let asked = Asked {
                command,
                key: probe.key(),
                fields: sources.fields.clone(),
                every: sources.every.max(RUN_EVERY),
                run: self.run.clone(),
                places: self.places.clone(),
                tell: self.tell.clone(),
            };
            tasks.spawn(asked.repeat());
        }
        if !tasks.is_empty() {
            self.tasks.insert(worker.clone(), tasks);
        }
    }

    /// The next reading; may be dropped while it waits.
    async fn next(&mut self) -> Event {
        match self.told.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

/// One command of one worker.
struct Asked {
    command: Command,
    key: &'static str,
    fields: Fields,
    every: Duration,
    run: Run,
    places: Arc<Semaphore>,
    tell: mpsc::Sender<Event>,
}

impl Asked {
    async fn repeat(self) {
        let program = self.command.argv.first().cloned().unwrap_or_default();
        let mut told = None;
        loop {
            let begun = Instant::now();
            let Ok(place) = self.places.acquire().await else { return };
            let printed = (self.run)(self.command.clone()).await;
            drop(place);
            let read = printed.and_then(|printed| document::read(&printed, &self.fields));
            let read = read.map_err(|why| format!("{program}: {why}"));
            if told.as_ref() != Some(&read) {
                told = Some(read.clone());
                let event = Event::Read(self.command.worker.clone(), self.key, read);
                if self.tell.send(event).await.is_err() {
                    return;
                }
            }
            sleep_until(begun + self.every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn name(text: &str) -> WorkerName {
        WorkerName::parse(text).expect("a name")
    }

    fn sources(program: &str) -> Sources {
        let probes = vec![Probe::Command(vec![program.into()])];
        Sources { probes, every: RUN_EVERY, ..Sources::default() }
    }

    fn value(event: Event) -> (String, Result<f64, String>) {
        let Event::Read(worker, "command", read) = event else { panic!("{event:?}") };
        (worker.as_str().to_owned(), read.map(|reading| reading.values["value"]))
    }

    #[tokio::test]
    async fn commands_are_run_again_and_told_when_they_say_something_new() {
        let answers = Arc::new(Mutex::new(VecDeque::from(["1", "1", "oops", "2/4"])));
        let run: Run = Arc::new(move |command| {
            assert_eq!(command.sandbox, Sandbox::System);
            let answer = answers.lock().expect("nobody panicked").pop_front();
            Box::pin(async move { answer.map(Vec::from).ok_or_else(|| "the job ended with failed".to_owned()) })
        });
        let mut commands = Commands::new(Scope::System, run);
        let begun = Instant::now();
        commands.follow(&name("w"), &sources("/bin/ask"));
        let why = "/bin/ask: neither JSON, nor key=value lines, nor a number";
        for (seconds, expected) in [
            (0, Ok(1.0)),
            (2, Err(why.to_owned())),
            (3, Ok(2.0)),
            (4, Err("/bin/ask: the job ended with failed".to_owned())),
        ] {
            assert_eq!(value(commands.next().await), ("w.service".to_owned(), expected));
            assert!(begun.elapsed() >= seconds * RUN_EVERY, "{:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn few_run_at_once_and_none_goes_on_for_nobody() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        let run: Run = Arc::new(move |_| {
            let (running, seen) = (running.clone(), seen.clone());
            Box::pin(async move {
                seen.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
                running.fetch_sub(1, Ordering::Relaxed);
                Ok(b"7".to_vec())
            })
        });
        let mut commands = Commands::new(Scope::User, run);
        for n in 0..40 {
            commands.follow(&name(&format!("w{n}")), &sources("/bin/ask"));
        }
        for _ in 0..40 {
            assert_eq!(value(commands.next().await).1, Ok(7.0));
        }
        assert_eq!(most.load(Ordering::Relaxed), RUNNING_MAX);
        for n in 0..40 {
            commands.follow(&name(&format!("w{n}")), &Sources::default());
        }
        assert!(commands.tasks.is_empty());
    }
}
