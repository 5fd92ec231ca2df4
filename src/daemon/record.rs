// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes down what happens and what is decided (`--record`), as a scenario that `watcherctl replay` reads.
//!
//! The loop only makes text of it; a thread of its own writes the files, which only their owner can read. What does not
//! fit into its queue is left out, and a new file then begins with all that is known. Files have a greatest size, and
//! there is a greatest number of them. Command lines and environments are never written.

use crate::engine::Engine;
use crate::engine::action::Step;
use crate::engine::event::Event;
use crate::engine::policy::Policies;
use crate::engine::saved::Saved;
use crate::engine::time::{Now, Wall};
use crate::scenario::record::{Beginning, Recording};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A file is not made much longer than this, in bytes.
const FILE_MAX: u64 = 8 << 20;
/// As many files are kept.
const FILES_MAX: usize = 8;
/// Pieces of text that may wait for the disk.
const QUEUE_MAX: usize = 1_024;
/// What was written is given to the system after so long.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// When the queue was full, a new file is tried so often.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The last lines may take so long when we stop.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// The wall clock may be so far from where the monotonic one puts it before that is worth a line, in microseconds.
const DRIFT_MAX: i64 = 1_000;
/// How the names of recordings end.
const SUFFIX: &str = ".scn";

/// Where recordings go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A new file for every start, named after the time.
    Directory(PathBuf),
    /// This file; the one before is kept as `FILE.1` and so on.
    File(PathBuf),
}

impl Place {
    /// A name that ends in `.scn` is a file; a path that is not absolute is below the state directory.
    pub fn new(path: &Path, state: &Path) -> Place {
        let path = state.join(path);
        let is_file = path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) && !path.is_dir();
        if is_file { Place::File(path) } else { Place::Directory(path) }
    }
}

/// What the thread is told.
enum Told {
    Lines(String),
    /// A new file that begins with this.
    File(String, Wall),
}

/// The loop's side.
pub struct Recorder {
    recording: Recording,
    to_thread: Option<SyncSender<Told>>,
    ended: Receiver<()>,
    /// Why nothing is recorded any more.
    trouble: Arc<OnceLock<String>>,
    /// Bytes in the current file.
    length: u64,
    /// Lines were left out, and this is when a new file is tried.
    lost_until: Option<Instant>,
    /// From the monotonic to the wall clock, in microseconds.
    offset: i64,
}

impl Recorder {
    /// Begins a file; the error names it.
    pub fn start(place: Place, from: Beginning<'_>, step: &Step) -> Result<Recorder, String> {
        let mut recording = Recording::begin(from, step)?;
        let mut files = Files::open(place)?;
        let text = recording.take();
        let length = text.len() as u64;
        let file = files.next(from.now.wall)?;
        let (to_thread, told) = sync_channel(QUEUE_MAX);
        let (ends, ended) = sync_channel(1);
        let trouble = Arc::new(OnceLock::new());
        let broken = trouble.clone();
        let write = move || {
            if let Err(why) = write(&told, files, file, &text) {
                tracing::warn!("{why}");
                // Nobody else sets it.
                let _ = broken.set(why);
            }
            // Whoever waited may have gone.
            let _ = ends.try_send(());
        };
        thread::Builder::new()
            .name("record".into())
            .spawn(write)
            .map_err(|error| format!("a thread cannot be started: {error}"))?;
        let Now { mono, wall } = from.now;
        Ok(Recorder {
            recording,
            to_thread: Some(to_thread),
            ended,
            trouble,
            length,
            lost_until: None,
            offset: wall.0.saturating_sub(mono.0),
        })
    }

    /// The time as it is recorded: the wall clock goes with the monotonic one unless it is set.
    pub fn steady(&mut self, now: Now) -> Now {
        let offset = now.wall.0.saturating_sub(now.mono.0);
        if (offset - self.offset).abs() > DRIFT_MAX {
            self.offset = offset;
        }
        Now { mono: now.mono, wall: Wall(now.mono.0.saturating_add(self.offset)) }
    }

    /// One event and what followed; never waits.
    pub fn step(&mut self, now: Now, event: &Event, step: &Step, engine: &Engine) {
        if self.trouble.get().is_some() {
            return;
        }
        let told = self.recording.step(now, event, step);
        let text = self.recording.take();
        if told.is_err() || self.lost_until.is_some() {
            let due = *self.lost_until.get_or_insert_with(Instant::now);
            if due <= Instant::now() {
                self.new_file(now, engine);
            }
            return;
        }
        self.length += text.len() as u64;
        self.send(Told::Lines(text));
        if self.length >= FILE_MAX {
            self.new_file(now, engine);
        }
    }

    fn new_file(&mut self, now: Now, engine: &Engine) {
        let Ok(mut next) = self.recording.go_on(&engine.saved(), now) else { return };
        let text = next.take();
        self.recording = next;
        self.length = text.len() as u64;
        self.lost_until = None;
        self.send(Told::File(text, now.wall));
    }

    fn send(&mut self, told: Told) {
        let sent = self.to_thread.as_ref().map(|to_thread| to_thread.try_send(told));
        if let Some(Err(TrySendError::Full(_))) = sent {
            tracing::warn!("the recording has a gap: the disk is too slow");
            self.lost_until = Some(Instant::now() + AGAIN_AFTER);
        }
    }

    /// Why nothing is recorded any more.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.get().cloned()
    }
}

impl Drop for Recorder {
    /// Has the last lines written.
    fn drop(&mut self) {
        self.to_thread = None;
        // What a disk does not take in time is lost; the file is whole up to there.
        let _ = self.ended.recv_timeout(END_DEADLINE);
    }
}

/// What the engine begins with.
pub struct Start {
    pub policies: Policies,
    pub saved: Saved,
    pub seed: u64,
    pub now: Now,
}

impl Start {
    /// The engine, its first step, and who records it if there is a place for that.
    pub fn engine(
        self,
        place: impl FnOnce(Option<&str>) -> Option<Place>,
    ) -> (Engine, Step, Option<Result<Recorder, String>>) {
        let Start { policies, saved, seed, now } = self;
        let place = place(policies.settings.record.as_deref());
        let known = place.is_some().then(|| (policies.clone(), saved.clone()));
        let (engine, first) = Engine::new(policies, Some(saved), seed, now);
        let recorder = place.zip(known).map(|(place, (policies, saved))| {
            let from = Beginning { policies: &policies, saved: Some(&saved), seed, now };
            Recorder::start(place, from, &first)
        });
        (engine, first, recorder)
    }
}

/// Writes until nobody tells anything any more; the error is a sentence.
fn write(told: &Receiver<Told>, mut files: Files, file: File, begin: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("what happens is not recorded any more: {error}");
    let mut out = BufWriter::with_capacity(1 << 16, file);
    out.write_all(begin.as_bytes()).map_err(failed)?;
    let mut flush_at = Some(Instant::now() + FLUSH_AFTER);
    loop {
        let wait = flush_at.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        match told.recv_timeout(wait) {
            Ok(Told::Lines(text)) => {
                out.write_all(text.as_bytes()).map_err(failed)?;
                flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
            }
            Ok(Told::File(text, at)) => {
                out.flush().map_err(failed)?;
                out = BufWriter::with_capacity(1 << 16, files.next(at)?);
                out.write_all(text.as_bytes()).map_err(failed)?;
                flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return out.flush().map_err(failed),
        }
        if flush_at.is_some_and(|at| at <= Instant::now()) {
            out.flush().map_err(failed)?;
            flush_at = None;
        }
    }
}

/// The files of one place.
struct Files {
    place: Place,
    /// Tells files of the same second apart.
    serial: u32,
}

impl Files {
    fn open(place: Place) -> Result<Files, String> {
        if let Place::Directory(directory) = &place {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        Ok(Files { place, serial: 0 })
    }

    fn next(&mut self, at: Wall) -> Result<File, String> {
        let path = match &self.place {
            Place::File(path) => {
                shift(path).map_err(|error| format!("{}: {error}", path.display()))?;
                path.clone()
            }
            Place::Directory(directory) => {
                drop_oldest(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
                self.serial += 1;
                directory.join(format!("watcherd-{:012}-{:04}{SUFFIX}", at.0 / 1_000_000, self.serial % 10_000))
            }
        };
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        opened.map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Makes room for a file: it becomes `FILE.1`, that one `FILE.2`, and the last one is dropped.
fn shift(path: &Path) -> io::Result<()> {
    let older = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    for number in (0..FILES_MAX - 1).rev() {
        match std::fs::rename(older(number), older(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Leaves room for one more file; only recordings are dropped.
fn drop_oldest(directory: &Path) -> io::Result<()> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("watcherd-") && name.ends_with(SUFFIX)
        })
        .collect();
    names.sort();
    let surplus = (names.len() + 1).saturating_sub(FILES_MAX);
    names.iter().take(surplus).try_for_each(std::fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::Mono;
    use std::os::unix::fs::PermissionsExt;

    fn engine(now: Now) -> (Policies, Engine, Step) {
        let layer = crate::scenario::policy::layer("w restart.back-off=0s").expect("a valid policy");
        let policies = Policies { layers: vec![layer], ..Policies::default() };
        let (engine, step) = Engine::new(policies.clone(), None, 7, now);
        (policies, engine, step)
    }

    /// Feeds so many events to a recorded engine.
    fn record(place: Place, events: usize) {
        let start = Now { mono: Mono(5_000_000), wall: Wall(1_700_000_000_000_000) };
        let (policies, mut engine, step) = engine(start);
        let from = Beginning { policies: &policies, saved: None, seed: 7, now: start };
        let mut recorder = Recorder::start(place, from, &step).expect("a recorder");
        for at in 0..events {
            let now = Now { mono: Mono(5_000_000 + at as i64), wall: Wall(1_700_000_000_000_000 + at as i64) };
            let event = Event::Until(crate::engine::until::Until::Exists("/x".into()), Err("y".repeat(60_000)));
            let step = engine.handle(now, event.clone());
            recorder.step(now, &event, &step, &engine);
            // The queue would be full otherwise: this is about files.
            while recorder.lost_until.is_some() {
                thread::yield_now();
                recorder.lost_until = Some(Instant::now());
                recorder.step(now, &event, &step, &engine);
            }
        }
        assert_eq!(recorder.trouble(), None);
        drop(recorder);
    }

    #[test]
    fn files_are_private_bounded_and_play() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = directory.path().join("recordings");
        record(Place::new(&place, Path::new("/")), 1_500);
        let mut files: Vec<_> =
            std::fs::read_dir(&place).expect("it was made").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        assert_eq!(files.len(), FILES_MAX);
        for file in &files {
            let metadata = std::fs::metadata(file).expect("it is there");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
            assert!(metadata.len() <= FILE_MAX + 200_000, "{}", metadata.len());
            let text = std::fs::read_to_string(file).expect("it is readable");
            crate::scenario::play::play(&text).expect("it plays");
        }
    }

    #[test]
    fn an_earlier_file_is_kept_under_another_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("now.scn");
        record(Place::new(Path::new("now.scn"), directory.path()), 1);
        record(Place::new(&path, Path::new("/")), 2);
        let lines = |path: &Path| std::fs::read_to_string(path).expect("it is there").lines().count();
        assert_eq!(lines(&path), lines(&directory.path().join("now.scn.1")) + 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let (start, path) = (Now::default(), Path::new("/proc/recordings"));
        let (policies, _, step) = engine(start);
        let from = Beginning { policies: &policies, saved: None, seed: 7, now: start };
        let refused = Recorder::start(Place::new(path, Path::new("/")), from, &step).err();
        assert!(refused.is_some_and(|why| why.starts_with("/proc/recordings")));
    }
}
