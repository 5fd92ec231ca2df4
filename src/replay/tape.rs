// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recording, taken apart: what happened to each worker between one deed of watcherd's and the next, what happened
//! besides, and how everything that was asked for was answered.

use super::decision::Decision;
use crate::engine::event::{Event, Outcome, UnitFacts};
use crate::engine::evidence::Findings;
use crate::engine::ids::{IncidentId, WorkerName};
use crate::engine::time::Now;
use crate::engine::until::Until;
use crate::scenario::play::Wrong;
use crate::scenario::{Scene, Told};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most lines of one recording.
const LINES_MAX: usize = 2_000_000;

/// What watcherd does to a worker, by which its fate is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Start,
    Stop,
    Kill,
    Freeze,
    Thaw,
    Capture,
}

impl Deed {
    fn parse(word: &str) -> Option<Deed> {
        Some(match word {
            "start" => Deed::Start,
            "stop" => Deed::Stop,
            "kill" => Deed::Kill,
            "freeze" => Deed::Freeze,
            "thaw" => Deed::Thaw,
            "capture" => Deed::Capture,
            _ => return None,
        })
    }
}

/// An event of the recording.
#[derive(Clone, Debug)]
pub struct Happened {
    pub at: Duration,
    /// The place among all events of the recording.
    pub order: u64,
    pub event: Event,
}

/// How something ended that watcherd had asked for, and how long that took.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// When it was asked for.
    pub asked: Duration,
    pub after: Duration,
    pub order: u64,
    /// `None` if it never ended.
    pub outcome: Option<Outcome>,
}

/// What came of an examination.
#[derive(Clone, Debug)]
pub struct Found {
    pub after: Duration,
    pub order: u64,
    pub findings: Findings,
}

/// What happened to a worker after a deed, up to the next one.
#[derive(Clone, Debug, Default)]
pub struct Chapter {
    /// `None` for what came before the first one.
    pub deed: Option<Deed>,
    pub at: Duration,
    /// The place of the event that it followed from.
    pub order: u64,
    pub answer: Answer,
    /// In the order of time.
    pub events: Vec<Happened>,
}

/// Everything that is in a recording.
#[derive(Debug, Default)]
pub struct Tape {
    /// As it was before the first event.
    pub scene: Scene,
    pub workers: BTreeMap<WorkerName, Vec<Chapter>>,
    /// What is not about one worker.
    pub events: Vec<Happened>,
    /// Both clocks, at times and places where the wall clock was set.
    pub clock: Vec<(Duration, u64, Now)>,
    /// Answers to `look`, `look-back` and `hook` by worker, and to `notify`.
    pub answers: BTreeMap<(String, Option<WorkerName>), Vec<Answer>>,
    /// When a worker's failure was examined, and after how long what was found.
    pub examined: BTreeMap<WorkerName, Vec<(Duration, Option<Found>)>>,
    /// The workers of incidents.
    pub incidents: BTreeMap<IncidentId, WorkerName>,
    /// Holds, by the request that placed them.
    pub holds: BTreeMap<u64, u32>,
    /// The conditions that are still waited for at its end, as they are written.
    pub awaited: Vec<String>,
    pub decisions: Vec<Decision>,
    /// When it ends.
    pub end: Duration,
}

#[derive(Default)]
struct Reader {
    tape: Tape,
    /// What was asked for and is not answered yet.
    asked: BTreeMap<u64, Place>,
    /// The place among the examined ones of that worker.
    examining: BTreeMap<IncidentId, (WorkerName, usize)>,
    outputs: Vec<(Duration, String)>,
    order: u64,
    last_request: Option<u64>,
    begun: bool,
}

/// Where an answer belongs.
enum Place {
    Chapter(WorkerName, usize),
    Answer((String, Option<WorkerName>), usize),
}

/// Takes a recording apart.
pub fn read(text: &str) -> Result<Tape, Wrong> {
    let mut scene = Scene::default();
    let mut reader = Reader::default();
    for (line, number) in text.lines().zip(1..) {
        let wrong = |why| Wrong { line: number, why };
        if number > LINES_MAX {
            return Err(wrong(format!("more than {LINES_MAX} lines are not read")));
        }
        reader.line(&mut scene, line).map_err(wrong)?;
    }
    reader.tape.end = reader.tape.end.max(scene.at);
    // An incident may be spoken of before it is said to be opened.
    let known = |incident| reader.tape.incidents.get(&IncidentId(incident)).cloned();
    let decisions = reader.outputs.iter().filter_map(|(at, words)| Decision::read(*at, words, known)).collect();
    reader.tape.decisions = decisions;
    if !reader.begun {
        return Err(Wrong { line: text.lines().count().max(1), why: "nothing happens in it".into() });
    }
    Ok(reader.tape)
}

impl Reader {
    fn line(&mut self, scene: &mut Scene, text: &str) -> Result<(), String> {
        match scene.take(text)? {
            Told::Comment | Told::Setting => {}
            Told::Output(at, words) => self.output(at, &words),
            Told::Input(at, line) => {
                if !self.begun {
                    self.begun = true;
                    self.tape.scene = scene.clone();
                    let known = scene.saved.iter().flat_map(|saved| &saved.incidents);
                    self.tape.incidents.extend(known.map(|incident| (incident.id, incident.worker.clone())));
                }
                scene.at = at;
                let mut words = line.clone();
                let (first, second) = (words.take_word().unwrap_or_default(), words.take_word().unwrap_or_default());
                match (first.as_str(), second.as_str()) {
                    ("show", _) => {}
                    ("watcherd", "started") if at.is_zero() => {}
                    ("watcherd" | "machine", _) => {
                        return Err("watcherd begins anew in it; only one life of it can be replayed".into());
                    }
                    _ => {
                        if let Some(event) = scene.event(line)? {
                            self.event(at, event);
                        }
                    }
                }
                let now = scene.now();
                let (told, _, usual) = self.tape.clock.last().copied().unwrap_or((Duration::ZERO, 0, scene.zero));
                if now.wall != usual.wall + (at - told) {
                    self.tape.clock.push((at, self.order, now));
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, at: Duration, event: Event) {
        self.order += 1;
        let order = self.order;
        match event {
            Event::Unit(ref name, _)
            | Event::Gone(ref name)
            | Event::Read(ref name, ..)
            | Event::Beat(ref name, _)
            | Event::Sign(ref name, _)
            | Event::Dumping(ref name, _)
            | Event::Swept(ref name, _)
            | Event::Checkpoints(ref name, _) => {
                let name = name.clone();
                self.chapter(&name).events.push(Happened { at, order, event });
            }
            Event::Done(id, outcome) => self.done(at, id.0, outcome),
            Event::Examined(incident, findings) => {
                let asked = self
                    .examining
                    .remove(&incident)
                    .and_then(|(name, place)| self.tape.examined.get_mut(&name).and_then(|known| known.get_mut(place)));
                if let Some((asked, found)) = asked {
                    *found = Some(Found { after: at.saturating_sub(*asked), order, findings: *findings });
                }
            }
            Event::Wake => {}
            Event::Request(id, ..) => {
                self.last_request = Some(id.0);
                self.tape.events.push(Happened { at, order, event });
            }
            event => self.tape.events.push(Happened { at, order, event }),
        }
    }

    fn chapter(&mut self, name: &WorkerName) -> &mut Chapter {
        let chapters = self.tape.workers.entry(name.clone()).or_default();
        if chapters.is_empty() {
            chapters.push(Chapter::default());
        }
        chapters.last_mut().expect("it has one")
    }

    fn done(&mut self, at: Duration, id: u64, outcome: Outcome) {
        let Some(place) = self.asked.remove(&id) else { return };
        let answer = match place {
            Place::Chapter(name, place) => {
                let chapter = self.tape.workers.get_mut(&name).and_then(|chapters| chapters.get_mut(place));
                chapter.map(|chapter| &mut chapter.answer)
            }
            Place::Answer(key, place) => self.tape.answers.get_mut(&key).and_then(|answers| answers.get_mut(place)),
        };
        if let Some(answer) = answer {
            answer.after = at.saturating_sub(answer.asked);
            answer.order = self.order;
            answer.outcome = Some(outcome);
        }
    }

    /// Something was asked for, and will be answered by this number.
    fn ask(&mut self, at: Duration, id: u64, kind: &str, name: Option<WorkerName>) {
        let answer = Answer { asked: at, ..Answer::default() };
        let place = match (Deed::parse(kind), name) {
            (Some(deed), Some(name)) => {
                self.chapter(&name);
                let chapters = self.tape.workers.entry(name.clone()).or_default();
                chapters.push(Chapter { deed: Some(deed), at, order: self.order, answer, events: Vec::new() });
                Place::Chapter(name, chapters.len() - 1)
            }
            (_, name) => {
                let key = (kind.to_owned(), name);
                let answers = self.tape.answers.entry(key.clone()).or_default();
                answers.push(answer);
                Place::Answer(key, answers.len() - 1)
            }
        };
        self.asked.insert(id, place);
    }

    fn output(&mut self, at: Duration, words: &str) {
        self.tape.end = self.tape.end.max(at);
        let mut parts = words.split(' ');
        let first = parts.next().unwrap_or_default();
        let (second, third) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let number = second.strip_prefix('#').and_then(|number| number.parse::<u64>().ok());
        let incident = |word: &str| {
            let number = word.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
            Some(IncidentId(number))
        };
        match (first, number) {
            ("notify", Some(id)) => self.ask(at, id, first, None),
            (_, Some(id)) => {
                if let Ok(name) = WorkerName::parse(third) {
                    self.ask(at, id, first, Some(name));
                }
            }
            ("examine", None) => {
                if let (Some(incident), Ok(name)) = (incident(second), WorkerName::parse(third)) {
                    self.tape.incidents.insert(incident, name.clone());
                    let known = self.tape.examined.entry(name.clone()).or_default();
                    known.push((at, None));
                    self.examining.insert(incident, (name, known.len() - 1));
                }
            }
            ("await", None) => {
                let conditions = words.strip_prefix("await ").unwrap_or_default();
                self.tape.awaited = conditions.split("; ").map(str::to_owned).collect();
            }
            ("reply", None) if second == "hold" => {
                if let (Some(request), Ok(hold)) = (self.last_request, third.parse()) {
                    self.tape.holds.insert(request, hold);
                }
            }
            ("say", None) if second == "incident-opened" => {
                let name = parts.next().and_then(|name| WorkerName::parse(name.trim_end_matches(':')).ok());
                if let (Some(incident), Some(name)) = (incident(third), name) {
                    self.tape.incidents.insert(incident, name);
                }
            }
            _ => {}
        }
        self.outputs.push((at, words.to_owned()));
    }
}

impl Tape {
    /// The chapter that a worker was in when this event came.
    pub fn chapter_at(&self, name: &WorkerName, order: u64) -> usize {
        let chapters = self.workers.get(name).map_or(&[][..], Vec::as_slice);
        chapters.iter().rposition(|chapter| chapter.order < order).unwrap_or(0)
    }

    /// When it says something about each condition.
    pub fn conditions(&self) -> BTreeMap<Until, Vec<Duration>> {
        let mut told: BTreeMap<Until, Vec<Duration>> = BTreeMap::new();
        for happened in &self.events {
            if let Event::Until(condition, _) = &happened.event {
                told.entry(condition.clone()).or_default().push(happened.at);
            }
        }
        told
    }

    /// Both clocks at that time, and at that place of what happened then.
    pub fn now(&self, at: Duration, order: u64) -> Now {
        let zero = self.scene.zero;
        let later = self.clock.partition_point(|(told, place, _)| (*told, *place) <= (at, order));
        let (told, _, now) = later.checked_sub(1).map_or((Duration::ZERO, 0, zero), |last| self.clock[last]);
        Now { mono: zero.mono + at, wall: now.wall + (at - told) }
    }

    /// Facts of units that a listing told of.
    pub fn rows(event: &Event) -> &[(WorkerName, UnitFacts)] {
        match event {
            Event::Listed(_, rows) => rows,
            _ => &[],
        }
    }
}
