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
//! TIME gone NAME | listed [NAME…] | beat NAME 5/100 | systemd 252 | host-stopping | nothing
//! TIME done #N ok | failed "why" | timeout | past [inv=a result=R exit=N ended=TIME stopped ;]…
//! TIME request VERB NAME… [by=alice] [why="…"]   VERB: start stop restart pause resume hold release run adopt
//!                                                forget quarantine reset close cancel; `hold` takes until=TIME lock
//! TIME policies PATTERN KEY=VALUE… [/ PATTERN KEY=VALUE…]
//! TIME watcherd killed | watcherd started | machine booted
//! TIME show NAME | show incident N
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watcherd::engine::Engine;
use watcherd::engine::action::{Action, Entry, Freezer, Interest, Start, Step};
use watcherd::engine::cause::Cause;
use watcherd::engine::event::{
    Active, Answer, Beat, Caller, Definition, Event, Exit, Load, Outcome, PastRun, Refusal, Request, RunEnd, UnitFacts,
    UnitResult, UnitTraits, Verb,
};
use watcherd::engine::ids::{ActionId, HoldId, IncidentId, InvocationId, JobId, ObjectId, RequestId, WorkerName};
use watcherd::engine::policy::{
    AfterSuccess, BackOff, Budget, CauseAction, Layer, OnExhausted, Policies, Setting, Settings, Source, UnitPattern,
};
use watcherd::engine::saved::Saved;
use watcherd::engine::time::{Mono, Now, Span, Wall};
use watcherd::engine::view::View;

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
            "host-stopping" => Event::HostStopping,
            "nothing" => Event::Wake,
            "beat" => {
                let (count, total) = rest.get(1).and_then(|text| text.split_once('/')).ok_or("COUNT/TOTAL")?;
                let beat = Beat { count: count.parse().map_err(|_| "a count")?, total: total.parse().ok() };
                Event::Beat(worker(rest.first())?, beat)
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
            _ => Err("ok, failed, timeout or past".into()),
        }
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

fn action_text(action: &Action) -> String {
    match action {
        Action::Start(id, name, start) => format!("start #{id} {}{}", short(name), start_text(start)),
        Action::Stop(id, name) => format!("stop #{id} {}", short(name)),
        Action::Kill(id, name, signal) => format!("kill #{id} {} {signal}", short(name)),
        Action::Freeze(id, name, freezer) => format!("freeze #{id} {} {}", short(name), freezer_text(*freezer)),
        Action::Thaw(id, name, freezer) => format!("thaw #{id} {} {}", short(name), freezer_text(*freezer)),
        Action::LookBack(id, name, since) => {
            let since = Span(since.since(ZERO.wall)).to_string().replace(' ', "");
            format!("look-back #{id} {} since {since}", short(name))
        }
        Action::Record(entry) => record_text(entry),
        Action::Reply(_, Ok(answer)) => format!("reply {}", answer_text(answer)),
        Action::Reply(_, Err(refusal)) => format!("refuse {}: {refusal}", refusal_name(refusal)),
        Action::Watch(interest) => {
            let names = interest.names.iter().map(short);
            let globs = interest.globs.iter().map(|glob| glob.as_str().to_owned());
            format!("watch {}", names.chain(globs).collect::<Vec<_>>().join(" "))
        }
    }
}

fn start_text(start: &Start) -> String {
    let mut text = String::new();
    let words = [
        (start.restart, " restart"),
        (start.definition.is_some(), " made-anew"),
        (start.reset_failed, " reset-failed"),
        (start.thaw, " thaw"),
    ];
    for (_, word) in words.iter().filter(|(said, _)| *said) {
        text.push_str(word);
    }
    text
}

fn record_text(entry: &Entry) -> String {
    let mut text = "say ".to_owned();
    for (at, c) in format!("{:?}", entry.kind).char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    if let Some(incident) = entry.incident {
        let _ = write!(text, " [{incident}]");
    }
    let _ = write!(text, " {}", entry.text.replace(".service", ""));
    text
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Nothing => "done".into(),
        Answer::Worker(name) => format!("worker {}", short(name)),
        Answer::Jobs(jobs) => format!("jobs {}", jobs.iter().map(JobId::to_string).collect::<Vec<_>>().join(" ")),
        Answer::Hold(id) => format!("hold {id}"),
    }
}

fn refusal_name(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

fn freezer_text(freezer: Freezer) -> &'static str {
    match freezer {
        Freezer::Cgroup => "cgroup",
        Freezer::Signal => "signal",
    }
}

fn short(name: &WorkerName) -> String {
    name.as_str().trim_end_matches(".service").to_owned()
}

/// Splits at blanks, except within double quotes; `key="a b"` is one word without the quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn option<'a>(words: &'a [String], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value))
}

fn flag(words: &[String], name: &str) -> bool {
    words.iter().any(|word| word == name)
}

fn number<T: std::str::FromStr>(word: Option<&String>) -> Result<T, String> {
    let word = word.ok_or("a number is missing")?;
    word.trim_start_matches('#').parse().map_err(|_| format!("{word} is no number"))
}

fn worker(word: Option<&String>) -> Result<WorkerName, String> {
    let word = word.ok_or("a name is missing")?;
    WorkerName::parse(word).map_err(|error| error.to_string())
}

fn invocation(text: &str) -> InvocationId {
    let mut bytes = [0; 16];
    for (byte, letter) in bytes.iter_mut().zip(text.bytes().cycle()) {
        *byte = letter;
    }
    InvocationId(bytes)
}

/// Reads `1min30s`, `250ms`, `10s`, `0`.
fn span(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 7] =
        [("us", 1e-6), ("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("h", 3600.0), ("d", 86400.0), ("w", 604_800.0)];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().map_err(|_| format!("{text} is no time"))?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).unwrap_or(&("s", 1.0));
        total += value * size;
        rest = &rest[letters..];
    }
    Ok(Duration::from_micros((total * 1e6).round() as u64))
}

fn from_policy<T>(value: T) -> Option<Setting<T>> {
    Some(Setting { value, from: Source("policy".into()) })
}

pub fn layer(words: &[String]) -> Result<Layer, String> {
    let mut layer = Layer { file: "policy".into(), ..Layer::default() };
    let patterns: BTreeSet<&str> = words.iter().filter(|word| !word.contains('=')).map(String::as_str).collect();
    let patterns = if patterns.is_empty() { BTreeSet::from(["w"]) } else { patterns };
    for pattern in patterns {
        layer.units.push(Setting { value: UnitPattern::parse(pattern)?, from: Source("policy".into()) });
    }
    for (key, value) in words.iter().filter_map(|word| word.split_once('=')) {
        match key {
            "back-off" => {
                let (first, cap) = value.split_once("..").unwrap_or((value, value));
                layer.back_off = from_policy(BackOff { first: span(first)?, cap: span(cap)? });
            }
            "budget" => {
                let (attempts, window) = value.split_once('/').ok_or("N/TIME")?;
                let attempts = attempts.parse().map_err(|_| "a number of attempts")?;
                layer.budget = from_policy(Budget { attempts, window: span(window)? });
            }
            "reset-after" => layer.reset_after = from_policy(span(value)?),
            "verify" => layer.verify = from_policy(span(value)?),
            "grace" => layer.grace = from_policy(span(value)?),
            "on-exhausted" => {
                layer.on_exhausted =
                    from_policy(if value == "stop" { OnExhausted::Stop } else { OnExhausted::Quarantine });
            }
            "after-success" => {
                layer.after_success =
                    from_policy(if value == "restart" { AfterSuccess::Restart } else { AfterSuccess::Complete });
            }
            "progress-notify" => layer.progress_notify = from_policy(value == "true"),
            _ => {
                let cause = key.strip_prefix("cause.").and_then(Cause::parse).ok_or(format!("unknown key {key}"))?;
                let action = match value {
                    "restart" => CauseAction::Restart,
                    "hold" => CauseAction::Hold,
                    "quarantine" => CauseAction::Quarantine,
                    "stop" => CauseAction::Stop,
                    "ignore" => CauseAction::Ignore,
                    _ => return Err(format!("unknown action {value}")),
                };
                layer.causes.insert(cause, Setting { value: action, from: Source("policy".into()) });
            }
        }
    }
    Ok(layer)
}

fn settings(words: &[String]) -> Result<Settings, String> {
    let mut settings = Settings { dry_run: flag(words, "dry-run"), ..Settings::default() };
    if let Some(jobs) = option(words, "max-jobs") {
        settings.max_jobs = jobs.parse().map_err(|_| "a number of jobs")?;
    }
    if let Some(keep) = option(words, "keep-finished") {
        settings.keep_finished = span(keep)?;
    }
    Ok(settings)
}

fn traits(words: &[String]) -> Result<UnitTraits, String> {
    let (burst, interval) = option(words, "limit").and_then(|text| text.split_once('/')).unwrap_or(("0", "0"));
    Ok(UnitTraits {
        restarts_itself: flag(words, "restart"),
        watchdog: option(words, "watchdog").map(span).transpose()?,
        can_freeze: flag(words, "can-freeze"),
        start_limit_burst: burst.parse().map_err(|_| "a burst")?,
        start_limit_interval: span(interval)?,
        oneshot: flag(words, "oneshot"),
        transient: flag(words, "transient"),
    })
}

/// One layer from one line, for tests that make their own policies.
pub fn layer_of(text: &str) -> Arc<Layer> {
    layer(&words(text)).expect("a valid policy").into()
}
