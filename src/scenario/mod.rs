// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened and what the engine did about it, as text: the one format of the scenarios under tests/, of what
//! `watcherd --record` writes, and of what `watcherctl replay` reads.
//!
//! A line is an input (`TIME WORDS…`), an output (`-> TIME WORDS…`), something that sets the scene (no time), or a comment
//! (`#`). Times count from the beginning. Words are split at blanks; a word in double quotes may contain anything.
//!
//! ```text
//! policy [PATTERN]… [file=FILE] [KEY=VALUE [@LINE]]…     a policy layer; the pattern is `w` if there is none
//! settings [dry-run] [apprise] [notify] [max-jobs=1] [on=opened,final] [per-hour=N] [KEY=VALUE]…
//! traits NAME restart transient oneshot can-freeze watchdog=30s limit=5/10s
//! seed N
//! recording clock=MONO/WALL [continued]                  a recording: times are those of the machine, and the engine is
//!                                                        woken where it was (`nothing`), not when it asks
//! wall SPAN                                              the wall clock is so far from where it would be
//! saved clock|worker|progress|incident|hold|notice …     what watcherd remembered when it was started
//! no-policies                                            what is in force is told anew, before `reload`
//!
//! TIME unit NAME ACTIVE/SUB [inv=a] [job=1] [result=R exit=N|signal=N|dump=N] [frozen] [load=masked] [status="…"]
//!           [no-inv] [since=TIME] [forked=TIME] [pid=N] [ended=TIME] [begun=TIME] [main=PID] [restarts=N]
//! TIME gone NAME | listed [NAME…] | beat NAME 5/100 [NAME=N…] | systemd 252 | host-stopping | host-goes-on | nothing
//! TIME seen NAME ACTIVE/SUB … | unseen NAME                  nobody was told but by the next `listed`
//! TIME read NAME SOURCE [NAME=N…] [cursor=…] [stage=…] | unreadable NAME SOURCE "why"
//! TIME done #N ok | failed "why" | timeout | past [inv=a result=R exit=N ended=TIME stopped ;]…
//! TIME core-dump-began | dumping NAME PID | swept NAME [PROCESS…] [failed="why"]
//! TIME until "CONDITION" holds | not | unknown "why"
//! TIME done #N activity [cpu=TIME] [io=N] [memory=SIZE] [pressure=TIME] [threads=N] [locked=N] [switches=N] [lines=N]
//!              [gpu=COMPUTE/MEMORY]               the shares of a GPU in percent
//! TIME sign NAME CAUSE "LINE" [count=N] [from=SOURCE] [at=TIME]
//! TIME examined INCIDENT [lines=N] [gap="…"] [core-to-come=yes] [CAUSE WEIGHT "LINE" [rule=…] [role=…] [from=SOURCE]…]…
//! TIME request VERB NAME… [by=alice] [uid=N] [id=N] [why="…"]   VERB: start stop restart pause resume hold release run
//!                                   adopt forget quarantine reset set close cancel test-notice; `hold` takes until=TIME lock
//! TIME policies PATTERN KEY=VALUE… [/ PATTERN KEY=VALUE…]
//! TIME reload                       the policies and settings that were told since `no-policies` are in force
//! TIME watcherd killed | watcherd started | machine booted
//! TIME show NAME | show incident N
//! ```
//!
//! Promises: what [`record`] writes, [`play`] reads to the same events, to a microsecond. Command lines of workers and the
//! arguments of commands are never written. Does not read or write files.

pub mod action;
mod event;
mod facts;
pub mod line;
pub mod play;
pub mod policy;
pub mod record;
mod request;
mod saved;
pub mod word;

use crate::engine::action::{Action, Interest, Step};
use crate::engine::event::{Event, UnitFacts, UnitTraits};
use crate::engine::ids::WorkerName;
use crate::engine::policy::Policies;
use crate::engine::saved::Saved;
use crate::engine::time::{Mono, Now, Wall};
use line::{Line, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use word::Word;

/// Both clocks at time zero, if nothing is said.
pub const ZERO: Now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_700_000_000_000_000) };

/// Words that begin a line without a time.
const SETTING: [&str; 8] = ["policy", "settings", "traits", "seed", "recording", "wall", "saved", "no-policies"];

/// What the lines so far have told, which the next one may leave out.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Both clocks at time zero.
    pub zero: Now,
    /// The time of the current line.
    pub at: Duration,
    /// How far the wall clock is from where it would be, in microseconds.
    wall_shift: i64,
    /// The machine was booted at this time.
    booted: Option<Duration>,
    pub policies: Policies,
    pub seed: u64,
    pub saved: Option<Saved>,
    /// The engine was woken where it says so.
    pub is_recording: bool,
    /// What came before is in another file.
    pub is_continued: bool,
    traits: BTreeMap<WorkerName, UnitTraits>,
    /// The units that are loaded, as they were told of last.
    pub units: BTreeMap<WorkerName, UnitFacts>,
    /// What the engine wants to be told of.
    interest: Interest,
    /// The number of the last request.
    requests: u64,
}

/// What a line is.
#[derive(Clone, Debug)]
pub enum Told {
    /// Empty, or for people.
    Comment,
    /// It sets the scene.
    Setting,
    /// What the engine did, behind the time.
    Output(Duration, String),
    /// An input at this time, whose words are these.
    Input(Duration, Line),
}

impl Default for Scene {
    fn default() -> Scene {
        Scene {
            zero: ZERO,
            at: Duration::ZERO,
            wall_shift: 0,
            booted: None,
            policies: Policies::default(),
            seed: 1,
            saved: None,
            is_recording: false,
            is_continued: false,
            traits: BTreeMap::new(),
            units: BTreeMap::new(),
            interest: Interest::default(),
            requests: 0,
        }
    }
}

impl Scene {
    /// Both clocks at the current line.
    pub fn now(&self) -> Now {
        let mono = match self.booted {
            Some(booted) => Mono(0) + self.at.saturating_sub(booted),
            None => self.zero.mono + self.at,
        };
        let wall = self.zero.wall + self.at;
        Now { mono, wall: Wall(wall.0.saturating_add(self.wall_shift)) }
    }

    /// Takes in a line as far as it sets the scene; the time of an input becomes the current one when it is read.
    pub fn take(&mut self, text: &str) -> Result<Told, String> {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(Told::Comment);
        }
        if let Some(output) = text.strip_prefix("->") {
            let (time, words) = output.trim_start().split_once(' ').unwrap_or((output.trim_start(), ""));
            return Ok(Told::Output(line::span(time)?, words.to_owned()));
        }
        let mut words = word::split(text)?;
        let first = match words.first() {
            Some(Word::Plain(_)) => match words.remove(0) {
                Word::Plain(first) => first,
                Word::Pair(..) => return Err("a time is missing".into()),
            },
            _ => return Err("a time is missing".into()),
        };
        let line = Line::reading(words, self.zero);
        if SETTING.contains(&first.as_str()) {
            self.set(&first, line)?;
            return Ok(Told::Setting);
        }
        let at = line::span(&first)?;
        if at < self.at {
            return Err("time runs backwards".into());
        }
        Ok(Told::Input(at, line))
    }

    fn set(&mut self, what: &str, mut line: Line) -> Result<(), String> {
        match what {
            "policy" => self.policies.layers.push(Arc::new(policy::read(&line.rest())?)),
            "settings" => self.policies.settings = policy::read_settings(&line.rest())?,
            "seed" => line.word(&mut self.seed, "a seed")?,
            "traits" => {
                let name = WorkerName::read(&line.take_word().ok_or("a name is missing")?, self.zero)?;
                let mut traits = UnitTraits::default();
                facts::traits(&mut line, &mut traits)?;
                self.traits.insert(name, traits);
            }
            "recording" => {
                self.is_recording = true;
                let clock = line.take("clock").ok_or("clock=MONO/WALL is missing")?;
                let (mono, wall) = clock.split_once('/').ok_or("clock=MONO/WALL is expected")?;
                let zero = Now::default();
                self.zero = Now { mono: Mono::read(mono, zero)?, wall: Wall::read(wall, zero)? };
                line.flag("continued", &mut self.is_continued);
            }
            "wall" => self.wall_shift = line::signed(&line.take_word().ok_or("a span is missing")?)?,
            "saved" => saved::read(&mut line, self.saved.get_or_insert_default())?,
            "no-policies" => self.policies = Policies::default(),
            other => return Err(format!("{other:?} is not known")),
        }
        line.end()
    }

    /// Reads the words of an input that is no more than an event; `None` if it only sets the scene.
    pub fn event(&mut self, mut line: Line) -> Result<Option<Event>, String> {
        let verb = line.take_word().ok_or("nothing happens")?;
        event::read(self, &verb, line)
    }

    /// Notes what the engine did, as far as later lines depend on it.
    pub fn note(&mut self, step: &Step) {
        for action in &step.actions {
            if let Action::Watch(interest) = action {
                self.interest = interest.clone();
            }
        }
    }

    /// The line that tells what kind of unit it is, if that is news.
    fn note_traits(&mut self, name: &WorkerName, facts: &UnitFacts) -> Result<Option<Line>, String> {
        if self.traits.get(name).unwrap_or(&UnitTraits::default()) == &facts.traits {
            return Ok(None);
        }
        self.traits.insert(name.clone(), facts.traits.clone());
        let mut line = Line::writing(self.zero);
        line.push(Word::Plain("traits".into()));
        line.word(&mut name.clone(), "")?;
        facts::traits(&mut line, &mut facts.traits.clone())?;
        Ok(Some(line))
    }

    /// The lines that tell what is configured.
    fn policy_lines(&self) -> Vec<Line> {
        let line = |what: &str, words: Vec<Word>| {
            let mut line = Line::writing(self.zero);
            line.push(Word::Plain(what.into()));
            words.into_iter().for_each(|word| line.push(word));
            line
        };
        let mut lines = vec![line("no-policies", Vec::new())];
        let settings = policy::write_settings(&self.policies.settings);
        if !settings.is_empty() {
            lines.push(line("settings", settings));
        }
        lines.extend(self.policies.layers.iter().map(|layer| line("policy", policy::write(layer))));
        lines
    }
}
