// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `tests/scenarios/*.scn` against the engine: the specification by example.
//!
//! A line is an input (`TIME WORDS…`), an expected output (`-> TIME WORDS…`), a set-up line (`policy`, `settings`,
//! `traits`, `seed`) or a comment. The engine is woken exactly when it asks. `UPDATE=1` rewrites the `->` lines;
//! read the difference before you commit it. `SCENARIO=text` runs only the files whose names contain the text.
//!
//! ```text
//! policy [PATTERN] KEY=VALUE…            a policy layer; the pattern is `w` if there is none
//! settings max-jobs=1 dry-run            traits NAME restart transient oneshot can-freeze watchdog=30s limit=5/10s
//! TIME unit NAME ACTIVE/SUB [inv=a] [job=1] [result=R exit=N|signal=N|dump=N] [frozen] [load=masked] [status="…"]
//! TIME gone NAME | listed [NAME…] | beat NAME 5/100 [NAME=N…] | systemd 252 | host-stopping | host-goes-on | nothing
//! TIME done #N ok | failed "why" | timeout | past [inv=a result=R exit=N ended=TIME stopped ;]…
//! TIME core-dump-began | dumping NAME PID
//! TIME sign NAME CAUSE "LINE" [count=N]
//! TIME examined INCIDENT [CAUSE WEIGHT "LINE"]…
//! TIME request VERB NAME… [by=alice] [why="…"]   VERB: start stop restart pause resume hold release run adopt
//!                                                forget quarantine reset close cancel; `hold` takes until=TIME lock
//! TIME policies PATTERN KEY=VALUE… [/ PATTERN KEY=VALUE…]
//! TIME watcherd killed | watcherd started | machine booted
//! TIME show NAME | show incident N
//! ```

mod output;
pub mod words;

use output::{action_text, short};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watcherd::config::value::parse_size;
use watcherd::engine::Engine;
use watcherd::engine::action::{Action, Interest, Step};
use watcherd::engine::cause::Cause;
use watcherd::engine::event::{
    Active, Caller, Definition, Event, Exit, Load, Outcome, PastRun, Request, RunEnd, UnitFacts, UnitResult,
    UnitTraits, Verb,
};
use watcherd::engine::evidence::{Clue, Clues, Findings, Role, Source};
use watcherd::engine::ids::{ActionId, HoldId, IncidentId, JobId, ObjectId, RequestId, WorkerName};
use watcherd::engine::policy::{Layer, Policies};
use watcherd::engine::saved::Saved;
use watcherd::engine::sign::Sign;
use watcherd::engine::source::{Activity, Reading};
use watcherd::engine::time::{Mono, Now, Span, Wall};
use watcherd::engine::view::View;
use words::{flag, invocation, layer, number, option, settings, span, traits, words, worker};

/// Both clocks at time zero of every scenario.
const ZERO: Now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_700_000_000_000_000) };

#[test]
fn every_scenario_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("tests/scenarios exists")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .filter(|path| path.to_string_lossy().contains(&wanted))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenario in {}", directory.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut complaints = String::new();
    for file in files {
        let written = std::fs::read_to_string(&file).expect("a readable scenario");
        let happened = Runner::play(&file, &written);
        if happened == written {
            continue;
        }
        if update {
            std::fs::write(&file, happened).expect("a writable scenario");
        } else {
            complaints.push_str(&difference(&file, &written, &happened));
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}\n(UPDATE=1 takes over what happened)");
}

/// A line of a worker that proves a cause.
pub fn clue(cause: Cause, text: &str) -> Clue {
    Clue {
        rule: "rule".into(),
        cause,
        role: Role::Proof,
        weight: 80,
        explains: [].into(),
        also: [].into(),
        source: Source::Output,
        place: 1,
        at: Wall::NEVER,
        pid: 0,
        count: 1,
        text: text.into(),
        values: Vec::new(),
    }
}

/// The lines that differ, with where they stand.
fn difference(file: &Path, written: &str, happened: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (written.lines().collect(), happened.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = format!("{}:{}:\n", file.display(), start + 1);
    for line in &old[start.saturating_sub(2)..start] {
        let _ = writeln!(text, "    {line}");
    }
    for line in &old[start..old.len() - end] {
        let _ = writeln!(text, "  - {line}");
    }
    for line in &new[start..new.len() - end] {
        let _ = writeln!(text, "  + {line}");
    }
    text
}

struct Runner {
    engine: Option<Engine>,
    saved: Option<Saved>,
    policies: Policies,
    seed: u64,
    traits: BTreeMap<WorkerName, UnitTraits>,
    units: BTreeMap<WorkerName, UnitFacts>,
    interest: Interest,
    /// The machine was booted at this time of the scenario.
    booted: Duration,
    at: Duration,
    requests: u64,
    out: String,
}

impl Runner {
    fn play(file: &Path, text: &str) -> String {
        let mut runner = Runner {
            engine: None,
            saved: None,
            policies: Policies::default(),
            seed: 1,
            traits: BTreeMap::new(),
            units: BTreeMap::new(),
            interest: Interest::default(),
            booted: Duration::ZERO,
            at: Duration::ZERO,
            requests: 0,
            out: String::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.starts_with("->") {
                continue;
            }
            if trimmed.is_empty() || trimmed.starts_with('#') {
                runner.out.push_str(line);
                runner.out.push('\n');
                continue;
            }
            if let Err(why) = runner.line(trimmed, line) {
                panic!("{}:{}: {why}: {trimmed}", file.display(), number + 1);
            }
        }
        runner.out
    }

    fn line(&mut self, text: &str, original: &str) -> Result<(), String> {
        let words = words(text);
        let (first, rest) = words.split_first().ok_or("an empty line")?;
        match first.as_str() {
            "policy" => self.policies.layers.push(layer(rest)?.into()),
            "settings" => self.policies.settings = settings(rest)?,
            "seed" => self.seed = number(rest.first())?,
            "traits" => {
                let name = worker(rest.first())?;
                self.traits.insert(name, traits(&rest[1..])?);
            }
            time => {
                let at = span(time)?;
                if at < self.at {
                    return Err("time runs backwards".into());
                }
                self.wake_until(at);
                self.at = at;
                self.out.push_str(original);
                self.out.push('\n');
                return self.input(rest);
            }
        }
        self.out.push_str(original);
        self.out.push('\n');
        Ok(())
    }

    fn now(&self) -> Now {
        let mono = if self.booted.is_zero() { ZERO.mono + self.at } else { Mono(0) + (self.at - self.booted) };
        Now { mono, wall: ZERO.wall + self.at }
    }

    /// Wakes the engine whenever it wants to be woken before `until`, or then.
    fn wake_until(&mut self, until: Duration) {
        for _ in 0..10_000 {
            let now = self.now();
            let Some(engine) = &mut self.engine else { return };
            let Some((at, _)) = engine.next_wakeup() else { return };
            assert!(at > now.mono, "the engine wants to be woken in the past");
            let wake = self.at + at.since(now.mono);
            if wake > until {
                return;
            }
            self.at = wake;
            self.feed(Event::Wake);
        }
        panic!("the engine wants to be woken more than 10,000 times");
    }

    fn input(&mut self, words: &[String]) -> Result<(), String> {
        let (verb, rest) = words.split_first().ok_or("no input")?;
        match (verb.as_str(), rest.first().map(String::as_str)) {
            ("watcherd", Some("killed")) => {
                self.start_engine();
                self.saved = self.engine.take().map(|engine| engine.saved());
                return Ok(());
            }
            ("watcherd", Some("started")) => {
                self.start_engine();
                return Ok(());
            }
            ("machine", Some("booted")) => {
                self.saved = self.engine.take().map(|engine| engine.saved()).or(self.saved.take());
                if let Some(saved) = &mut self.saved {
                    saved.same_boot = false;
                }
                self.booted = self.at;
                self.units.clear();
                self.start_engine();
                return Ok(());
            }
            ("unit", _) => {
                let name = worker(rest.first())?;
                let facts = self.facts(&name, &rest[1..])?;
                self.units.insert(name.clone(), facts.clone());
                if self.engine.is_some() || self.saved.is_none() {
                    self.feed(Event::Unit(name, facts));
                }
                return Ok(());
            }
            ("gone", _) => {
                let name = worker(rest.first())?;
                self.units.remove(&name);
                if self.engine.is_some() {
                    self.feed(Event::Gone(name));
                }
                return Ok(());
            }
            _ => {}
        }
        let event = match verb.as_str() {
            "show" => return self.show(rest),
            "listed" => Event::Listed(self.interest.clone(), self.units.clone().into_iter().collect()),
            "systemd" => Event::ServiceManager { version: number(rest.first())? },
            "host-stopping" => Event::HostStopping(true),
            "host-goes-on" => Event::HostStopping(false),
            "nothing" => Event::Wake,
            "beat" => {
                let (count, total) = rest.get(1).and_then(|text| text.split_once('/')).ok_or("COUNT/TOTAL")?;
                let number = |text: &str| text.parse::<f64>().map_err(|_| "a number");
                let mut values: BTreeMap<Arc<str>, f64> = [("value".into(), number(count)?)].into();
                values.extend(total.parse().ok().map(|total: f64| ("total".into(), total)));
                for (name, value) in rest[2..].iter().filter_map(|word| word.split_once('=')) {
                    values.insert(name.into(), number(value)?);
                }
                Event::Beat(worker(rest.first())?, Reading { values, cursor: None })
            }
            "read" => {
                let values = rest[2..].iter().filter_map(|word| word.split_once('='));
                let mut reading = Reading::default();
                for (name, value) in values {
                    match name {
                        "cursor" => reading.cursor = Some(value.into()),
                        name => drop(reading.values.insert(name.into(), value.parse().map_err(|_| "a number")?)),
                    }
                }
                Event::Read(worker(rest.first())?, source_key(rest.get(1))?, Ok(reading))
            }
            "unreadable" => {
                let why = rest.get(2).cloned().unwrap_or_default();
                Event::Read(worker(rest.first())?, source_key(rest.get(1))?, Err(why))
            }
            "examined" => Event::Examined(IncidentId(number(rest.first())?), self.findings(&rest[1..])?.into()),
            "core-dump-began" => Event::CoreDumpBegan,
            "dumping" => Event::Dumping(worker(rest.first())?, number(rest.get(1))?),
            "sign" => {
                let cause = rest.get(1).and_then(|word| Cause::parse(word)).ok_or("a cause")?;
                let count = option(rest, "count").map_or(Ok(1), |text| text.parse().map_err(|_| "a count"))?;
                let text = rest.get(2).cloned().unwrap_or_default();
                let sign = Sign { cause, source: Source::Output, text, count, at: self.now().wall };
                Event::Sign(worker(rest.first())?, sign)
            }
            "done" => Event::Done(ActionId(number(rest.first())?), self.outcome(&rest[1..])?),
            "policies" => {
                self.policies.layers.clear();
                for words in rest.split(|word| word == "/") {
                    self.policies.layers.push(layer(words)?.into());
                }
                Event::Policies(self.policies.clone())
            }
            "settings" => {
                self.policies.settings = settings(rest)?;
                Event::Policies(self.policies.clone())
            }
            "request" => {
                self.requests += 1;
                let caller = Caller { uid: 1000, name: option(rest, "by").unwrap_or("alice").to_owned() };
                Event::Request(RequestId(self.requests), caller, self.request(rest)?)
            }
            other => return Err(format!("unknown input {other}")),
        };
        self.feed(event);
        Ok(())
    }

    fn start_engine(&mut self) {
        if self.engine.is_none() {
            let (engine, step) = Engine::new(self.policies.clone(), self.saved.take(), self.seed, self.now());
            self.engine = Some(engine);
            self.write(step);
        }
    }

    fn feed(&mut self, event: Event) {
        self.start_engine();
        let now = self.now();
        let Some(engine) = &mut self.engine else { return };
        let step = engine.handle(now, event);
        self.write(step);
    }

    fn write(&mut self, step: Step) {
        for action in step.actions {
            if let Action::Watch(interest) = &action {
                self.interest = interest.clone();
            }
            let text = action_text(&action);
            self.output(&text);
        }
    }

    fn output(&mut self, text: &str) {
        let _ = writeln!(self.out, "-> {} {text}", Span(self.at).to_string().replace(' ', ""));
    }

    fn facts(&self, name: &WorkerName, words: &[String]) -> Result<UnitFacts, String> {
        let (active, sub) = words.first().and_then(|text| text.split_once('/')).ok_or("ACTIVE/SUB")?;
        let former = self.units.get(name).cloned().unwrap_or_default();
        let active = Active::parse(active);
        let invocation = option(words, "inv").map(invocation).or(former.invocation);
        let up_since = match option(words, "since").map(span).transpose()? {
            Some(at) => ZERO.mono + at,
            None if former.active == active && former.invocation == invocation => former.active_enter,
            None => self.now().mono,
        };
        Ok(UnitFacts {
            load: Load::parse(option(words, "load").unwrap_or("loaded")),
            active,
            sub: sub.to_owned(),
            job: option(words, "job").map_or(Ok(0), |text| text.parse().map_err(|_| "a job number"))?,
            invocation,
            main_pid: if active == Active::Active { 100 } else { 0 },
            end: self.end(words)?,
            restarts: 0,
            frozen: flag(words, "frozen"),
            status_text: option(words, "status").unwrap_or_default().to_owned(),
            active_enter: up_since,
            traits: self.traits.get(name).cloned().unwrap_or_default(),
        })
    }

    fn end(&self, words: &[String]) -> Result<RunEnd, String> {
        let code = |key| option(words, key).map(|text| text.parse::<i32>().map_err(|_| "a number")).transpose();
        let exit = match (code("exit")?, code("signal")?, code("dump")?) {
            (Some(status), ..) => Exit::Exited(status),
            (_, Some(signal), _) => Exit::Killed(signal),
            (_, _, Some(signal)) => Exit::Dumped(signal),
            _ => Exit::None,
        };
        let result = UnitResult::parse(option(words, "result").unwrap_or_default());
        let ended = option(words, "ended").map(span).transpose()?;
        let over = result != UnitResult::Success || exit != Exit::None;
        let ended = ended.map(|at| ZERO.wall + at).or(over.then_some(self.now().wall)).unwrap_or(Wall::NEVER);
        Ok(RunEnd { result, exit, pid: 100, started: Wall::NEVER, ended })
    }

    fn outcome(&self, words: &[String]) -> Result<Outcome, String> {
        match words.first().map(String::as_str) {
            Some("ok") => Ok(Outcome::Ok),
            Some("timeout") => Ok(Outcome::TimedOut),
            Some("failed") => Ok(Outcome::Failed(words.get(1).cloned().unwrap_or_default())),
            Some("past") => words[1..]
                .split(|word| word == ";")
                .filter(|words| !words.is_empty())
                .map(|words| {
                    let invocation = option(words, "inv").map(invocation);
                    Ok(PastRun { invocation, end: self.end(words)?, stopped: flag(words, "stopped") })
                })
                .collect::<Result<_, String>>()
                .map(Outcome::Past),
            Some("activity") => Ok(Outcome::Activity(Activity {
                cpu: option(words, "cpu").map_or(Ok(Duration::ZERO), span)?,
                io: option(words, "io").map_or(Ok(0), |text| text.parse().map_err(|_| "bytes".to_owned()))?,
                pressure: option(words, "pressure").map(span).transpose()?,
                memory: option(words, "memory").map(parse_size).transpose()?,
                ..Activity::default()
            })),
            _ => Err("ok, failed, timeout, past or activity".into()),
        }
    }

    fn findings(&self, words: &[String]) -> Result<Findings, String> {
        let clues = words.chunks(3).zip(1..).map(|(words, place)| match words {
            [cause, weight, text] => {
                Ok(Clue { weight: number(Some(weight))?, place, ..clue(Cause::parse(cause).ok_or("a cause")?, text) })
            }
            _ => Err("CAUSE WEIGHT TEXT".to_owned()),
        });
        let list = clues.collect::<Result<Vec<_>, String>>()?;
        Ok(Findings { clues: Clues { lines: list.len() as u64, list, suppressed: 0 }, gaps: Vec::new() })
    }

    fn request(&self, words: &[String]) -> Result<Request, String> {
        let verb = words.first().map(String::as_str).unwrap_or_default();
        let names = || -> Result<Vec<WorkerName>, String> {
            let plain =
                words[1..].iter().filter(|word| !word.contains('=') && !["lock", "dry-run"].contains(&word.as_str()));
            plain.map(|word| worker(Some(word))).collect()
        };
        let name = || worker(words.get(1));
        let why = option(words, "why").unwrap_or_default().to_owned();
        let settings = || words[1..].iter().filter(|word| word.contains('=') && !word.starts_with("by="));
        let own = || -> Result<Layer, String> {
            let layer = layer(&settings().cloned().collect::<Vec<_>>())?;
            Ok(Layer { units: Vec::new(), ..layer })
        };
        let change = |verb| -> Result<Request, String> {
            Ok(Request::Change { verb, workers: names()?, why: why.clone(), dry_run: flag(words, "dry-run") })
        };
        match verb {
            "start" => change(Verb::Start),
            "stop" => change(Verb::Stop),
            "restart" => change(Verb::Restart),
            "pause" => change(Verb::Pause),
            "resume" => change(Verb::Resume),
            "run" => {
                let definition = Definition { argv: vec!["/bin/true".into()], properties: Vec::new() };
                let name = (words.get(1).map(String::as_str) != Some("-")).then(name).transpose()?;
                Ok(Request::Run { name, definition, policy: own()? })
            }
            "adopt" => Ok(Request::Adopt { unit: name()?, policy: own()? }),
            "forget" => Ok(Request::Forget(name()?)),
            "quarantine" => Ok(Request::Quarantine { worker: name()?, why }),
            "reset" => Ok(Request::ResetQuarantine(name()?)),
            "release" => Ok(Request::Release(HoldId(number(words.get(1))?))),
            "close" => Ok(Request::CloseIncident { incident: IncidentId(number(words.get(1))?), why }),
            "cancel" => Ok(Request::CancelJob(JobId(number(words.get(1))?))),
            "hold" => Ok(Request::Hold {
                workers: names()?,
                who: option(words, "by").unwrap_or("alice").to_owned(),
                why,
                until: option(words, "until").map(span).transpose()?.map(|at| ZERO.wall + at),
                lock: flag(words, "lock"),
            }),
            other => Err(format!("unknown request {other}")),
        }
    }

    fn show(&mut self, words: &[String]) -> Result<(), String> {
        self.start_engine();
        let id = match words.first().map(String::as_str) {
            Some("incident") => ObjectId::Incident(IncidentId(number(words.get(1))?)),
            _ => ObjectId::Worker(worker(words.first())?),
        };
        let view = self.engine.as_ref().and_then(|engine| engine.view(&id));
        let text = match view {
            Some(View::Worker(view)) => {
                let mut text = format!("show {} {}", short(&view.name), view.phase);
                if !view.reason.is_empty() {
                    let _ = write!(text, " {:?}", view.reason);
                }
                let _ = write!(text, " attempts={} left={}", view.attempts, view.budget_left);
                if let Some(incident) = view.incident {
                    let _ = write!(text, " incident={incident}");
                }
                if let Some(cause) = view.cause {
                    let _ = write!(text, " cause={cause}");
                }
                if let Some(progress) = view.progress {
                    let _ = write!(text, " progress={}/{}", progress.value, progress.total);
                }
                if !view.next_action.is_empty() {
                    let at = self.at + view.next_action_at_mono.since(self.now().mono);
                    let _ = write!(text, " next={}@{}", view.next_action, Span(at).to_string().replace(' ', ""));
                }
                text
            }
            Some(View::Incident(view)) => {
                let remedies: Vec<_> = view.remedies.iter().map(|r| format!("{}({})", r.action, r.outcome)).collect();
                format!(
                    "show incident {} {} {} {} {}% {} remedies: {}",
                    view.id,
                    short(&view.worker),
                    [view.state.as_str(), view.result.as_str()].join("/"),
                    view.cause,
                    view.confidence,
                    Span(view.started.since(view.opened)).to_string().replace(' ', ""),
                    remedies.join(", ")
                )
            }
            _ => "show nothing".into(),
        };
        self.output(&text);
        Ok(())
    }
}

fn source_key(word: Option<&String>) -> Result<&'static str, String> {
    let keys = ["file", "count", "mtime", "http", "command", "journal"];
    let word = word.ok_or("a source is missing")?;
    keys.into_iter().find(|key| key == word).ok_or(format!("{word} is no source"))
}
