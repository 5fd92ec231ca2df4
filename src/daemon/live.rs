// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads along with the journal of running workers, and tells the engine about telling lines: each cause of each worker at
//! most once per round of the journal, with a count, never one event per line.

use super::examine::SharedRules;
use super::options::Scope;
use crate::engine::cause::Cause;
use crate::engine::event::Event;
use crate::engine::evidence::Source;
use crate::engine::ids::{ObjectId, WorkerName};
use crate::engine::sign::Sign;
use crate::engine::time::Wall;
use crate::engine::view::View;
use crate::journal::JournalError;
use crate::journal::follow::{self, Entry, Follower, Heard, Plan, Start, Watched};
use crate::progress::lines::Lines;
use crate::rules::{Rules, Signs};
use aho_corasick::AhoCorasick;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Signs that may wait; more are dropped, which only makes counts too small.
const WAITING_MAX: usize = 1_000;
/// Entries after which is told what was seen, also while the journal does not rest.
const ROUND: u32 = 4_096;
/// The longest part of a line that is looked at, in bytes.
const LINE_MAX: usize = 4_096;

/// The same error so often within [`REPEATED_WITHIN`] is a sign by itself, whatever it says.
const REPEATED: u32 = 50;
const REPEATED_WITHIN: i64 = 60_000_000;
/// A line with one of these calls itself an error.
const ERROR_WORDS: [&str; 6] = ["error", "exception", "fatal", "critical", "panic", "failed"];
/// Different errors of one worker that are counted at once.
const ERRORS_MAX: usize = 64;
/// Workers of which errors are counted at once.
const WORKERS_MAX: usize = 10_000;

/// The way to the thread that reads along.
pub struct Live {
    /// `None` where the journal cannot be read; everything else works on.
    follower: Option<Follower>,
    signs: mpsc::Receiver<Event>,
    watched: BTreeMap<WorkerName, u32>,
}

impl Live {
    pub fn start(scope: Scope, rules: SharedRules, lines: Lines) -> Live {
        let (tell, signs) = mpsc::channel(WAITING_MAX);
        let mut reader = Reader::new(rules, lines, tell);
        let plan = Plan { scope: scope.of_journal(), directory: None, start: Start::Tail, watched: Vec::new() };
        let follower = follow::follow(plan, move |heard| reader.hear(heard));
        let follower = follower.inspect_err(complain).ok();
        Live { follower, signs, watched: BTreeMap::new() }
    }

    /// Reads along with the workers of the views, also before they run: a program may be quicker with its first words than
    /// systemd is with the word that it runs, and what the follower has passed by it does not come back to.
    pub fn follow(&mut self, changes: &[(ObjectId, Option<View>)]) {
        let mut changed = false;
        for (id, view) in changes {
            let ObjectId::Worker(name) = id else { continue };
            let pid = match view {
                Some(View::Worker(view)) => Some(view.main_pid),
                _ => None,
            };
            changed |= match pid {
                Some(pid) => self.watched.insert(name.clone(), pid) != Some(pid),
                None => self.watched.remove(name).is_some(),
            };
        }
        if let Some(follower) = self.follower.as_ref().filter(|_| changed) {
            let watched = self.watched.iter().map(|(name, pid)| Watched { unit: name.unit().to_owned(), pid: *pid });
            follower.watch(watched.collect());
        }
    }

    /// The next sign; may be dropped while it waits.
    pub async fn next(&mut self) -> Event {
        match self.signs.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

fn complain(error: &JournalError) {
    tracing::warn!("running workers' lines are not read along: {}", super::chain(error));
}

/// What the follower's thread owns.
struct Reader {
    rules: SharedRules,
    /// What the lines say about progress.
    lines: Lines,
    /// What the rules in force recognise; made anew after a reload.
    recognise: Option<(Arc<Rules>, Signs)>,
    error: Option<AhoCorasick>,
    tell: mpsc::Sender<Event>,
    /// What was seen since the last round.
    signs: HashMap<(String, Cause), Sign>,
    /// How often which error came, by worker and by the error's letters.
    errors: HashMap<String, HashMap<u64, Repeated>>,
    entries: u32,
}

/// One error of one worker.
struct Repeated {
    since: Wall,
    count: u32,
}

impl Reader {
    fn new(rules: SharedRules, lines: Lines, tell: mpsc::Sender<Event>) -> Reader {
        let error = AhoCorasick::builder().ascii_case_insensitive(true).build(ERROR_WORDS).ok();
        Reader { rules, lines, recognise: None, error, tell, signs: HashMap::new(), errors: HashMap::new(), entries: 0 }
    }

    /// Takes the rules that are in force now.
    fn refresh(&mut self) {
        let rules = self.rules.current();
        if !self.recognise.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, &rules)) {
            self.recognise = Some((rules.clone(), Signs::new(rules)));
        }
    }

    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Begun(_) => self.lines.begin(),
            Heard::Entry(entry) => {
                self.read(&entry);
                self.entries += 1;
                if self.entries.is_multiple_of(ROUND) {
                    self.tell_all();
                }
            }
            Heard::CaughtUp => {
                self.tell_all();
                self.refresh();
            }
            Heard::Failed(error) => {
                self.lines.lose();
                complain(&error);
            }
        }
    }

    fn read(&mut self, entry: &Entry<'_>) {
        let Some(unit) = entry.unit else { return };
        let line = &entry.message[..entry.message.len().min(LINE_MAX)];
        self.lines.hear(unit, line);
        if self.recognise.is_none() {
            self.refresh();
        }
        if let Some(cause) = self.recognise.as_mut().and_then(|(_, signs)| signs.of(line)) {
            self.note(unit, cause, line, 1, entry.at);
        } else if self.error.as_ref().is_some_and(|error| error.is_match(line)) && self.repeats(unit, line, entry.at) {
            self.note(unit, Cause::Unknown, line, REPEATED, entry.at);
        }
    }

    fn note(&mut self, unit: &str, cause: Cause, line: &[u8], count: u32, at: Wall) {
        let sign = self.signs.entry((unit.to_owned(), cause)).or_insert_with(|| Sign {
            cause,
            source: Source::Output,
            text: String::from_utf8_lossy(line).trim().to_owned(),
            count: 0,
            at,
        });
        sign.count = sign.count.saturating_add(count);
        sign.at = at;
    }

    /// Whether this error has come so often that it is a sign; counts anew from there.
    fn repeats(&mut self, unit: &str, line: &[u8], at: Wall) -> bool {
        if self.errors.len() >= WORKERS_MAX && !self.errors.contains_key(unit) {
            self.errors.clear();
        }
        let errors = self.errors.entry(unit.to_owned()).or_default();
        let error = letters(line);
        if errors.len() >= ERRORS_MAX && !errors.contains_key(&error) {
            errors.clear();
        }
        let seen = errors.entry(error).or_insert(Repeated { since: at, count: 0 });
        if at.0 - seen.since.0 > REPEATED_WITHIN {
            *seen = Repeated { since: at, count: 0 };
        }
        seen.count += 1;
        if seen.count < REPEATED {
            return false;
        }
        *seen = Repeated { since: at, count: 0 };
        true
    }

    fn tell_all(&mut self) {
        for ((unit, _), sign) in self.signs.drain() {
            if let Ok(name) = WorkerName::parse(&unit) {
                // Who does not listen misses a count.
                let _ = self.tell.try_send(Event::Sign(name, sign));
            }
        }
    }
}

/// The letters of a line as a number (FNV-1a): the same error with other numbers, addresses and times is the same.
fn letters(line: &[u8]) -> u64 {
    let digit = |byte: &u8| byte.is_ascii_digit() || b"abcdef".contains(&byte.to_ascii_lowercase());
    let kept = line.iter().filter(|byte| byte.is_ascii_alphabetic() && !digit(byte));
    kept.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> (Reader, mpsc::Receiver<Event>) {
        let (tell, signs) = mpsc::channel(8);
        (Reader::new(SharedRules::new(Rules::packaged()), Lines::default(), tell), signs)
    }

    #[test]
    fn the_same_error_with_other_numbers_is_the_same() {
        assert_eq!(letters(b"error 17 at 0x7fff1234 after 3 s"), letters(b"error 18 at 0xdeadbeef after 9 s"));
        assert_ne!(letters(b"error: no route"), letters(b"error: no host"));
    }

    #[test]
    fn what_is_repeated_often_and_soon_is_a_sign() {
        let (mut reader, _signs) = reader();
        let hour = 3_600_000_000;
        let often = (0..120).filter(|n| reader.repeats("w", format!("error {n}").as_bytes(), Wall(1_000 * n))).count();
        assert_eq!(often, 2);
        let seldom = (0..120).filter(|n| reader.repeats("w", b"error", Wall(hour * (n + 1)))).count();
        assert_eq!(seldom, 0);
        for n in 0..100_000u32 {
            reader.repeats("w", format!("error {}", "xyz".repeat(n as usize % 100)).as_bytes(), Wall(0));
        }
        assert!(reader.errors["w"].len() <= ERRORS_MAX);
    }

    #[test]
    fn many_lines_are_one_event() {
        let (mut reader, mut signs) = reader();
        for _ in 0..1_000 {
            reader.note("w.service", Cause::GpuOom, b"CUDA out of memory\n", 1, Wall(7));
        }
        reader.hear(Heard::CaughtUp);
        let Ok(Event::Sign(name, sign)) = signs.try_recv() else { panic!("no sign") };
        assert_eq!((name.as_str(), sign.count, sign.text.as_str()), ("w.service", 1_000, "CUDA out of memory"));
        assert!(signs.try_recv().is_err());
    }
}
