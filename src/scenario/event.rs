// SPDX-License-Identifier: MIT OR Apache-2.0
//! How events are spelt. A new event needs one arm in [`write`] and one in [`read`]; a test over random histories fails
//! where they disagree.

use super::facts::{self, Surroundings};
use super::line::{Line, Value, short};
use super::word::Word;
use super::{Scene, policy, request};
use crate::engine::action::Interest;
use crate::engine::cause::Cause;
use crate::engine::checkpoint::Choice;
use crate::engine::event::{Caller, Event, Outcome, Request, UnitFacts};
use crate::engine::evidence::{Clue, Clues, Findings, Role, Source};
use crate::engine::ids::{ActionId, IncidentId, RequestId, WorkerName};
use crate::engine::policy::UnitPattern;
use crate::engine::sign::Sign;
use crate::engine::source::Reading;
use crate::engine::time::{Now, Wall};
use crate::engine::until::Until;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The keys of sources of progress.
const SOURCES: [&str; 6] = ["file", "count", "mtime", "http", "command", "journal"];

/// The lines of an event, without their time: first what sets the scene for it, last the event itself.
pub fn write(scene: &mut Scene, event: &Event) -> Result<Vec<Line>, String> {
    let mut before = Vec::new();
    let (zero, now) = (scene.zero, scene.now());
    let mut line = Line::writing(zero);
    match event {
        Event::Unit(name, facts) => {
            before.extend(scene.note_traits(name, facts)?);
            unit(scene, &mut line, "unit", name, facts)?;
        }
        Event::Gone(name) => {
            scene.units.remove(name);
            begin(&mut line, "gone", Some(name))?;
        }
        Event::ServiceManager { version } => {
            begin(&mut line, "systemd", None)?;
            line.word(&mut version.clone(), "")?;
        }
        Event::Listed(interest, rows) => {
            before = listing(scene, rows)?;
            begin(&mut line, "listed", None)?;
            if *interest != scene.interest {
                let names = interest.names.iter().map(short);
                let words = names.chain(interest.globs.iter().map(ToString::to_string));
                words.for_each(|word| line.push(Word::Plain(word)));
            }
        }
        Event::Read(name, key, Ok(found)) => {
            begin(&mut line, "read", Some(name))?;
            line.word(&mut (*key).to_owned(), "")?;
            reading(&mut line, &mut found.clone())?;
        }
        Event::Read(name, key, Err(why)) => {
            begin(&mut line, "unreadable", Some(name))?;
            line.word(&mut (*key).to_owned(), "")?;
            line.word(&mut why.clone(), "")?;
        }
        Event::Beat(name, found) => {
            begin(&mut line, "beat", Some(name))?;
            reading(&mut line, &mut found.clone())?;
        }
        Event::Request(id, caller, asked) => {
            begin(&mut line, "request", None)?;
            line.pair("id", &mut id.0.clone(), scene.requests + 1)?;
            scene.requests = id.0;
            request::request(&mut line, &mut caller.clone(), &mut asked.clone())?;
        }
        Event::CoreDumpBegan => begin(&mut line, "core-dump-began", None)?,
        Event::Dumping(name, pid) => {
            begin(&mut line, "dumping", Some(name))?;
            line.word(&mut pid.clone(), "")?;
        }
        Event::Sign(name, found) => {
            begin(&mut line, "sign", Some(name))?;
            sign(&mut line, &mut found.clone(), now)?;
        }
        Event::Examined(incident, found) => {
            begin(&mut line, "examined", None)?;
            line.word(&mut incident.clone(), "")?;
            findings(&mut line, &mut found.clone())?;
        }
        Event::Done(id, outcome) => {
            begin(&mut line, "done", None)?;
            line.push(Word::Plain(format!("#{id}")));
            facts::outcome(&mut line, &mut outcome.clone(), now.wall)?;
        }
        Event::Policies(policies) => {
            scene.policies = policies.clone();
            before = scene.policy_lines();
            begin(&mut line, "reload", None)?;
        }
        Event::HostStopping(true) => begin(&mut line, "host-stopping", None)?,
        Event::HostStopping(false) => begin(&mut line, "host-goes-on", None)?,
        Event::Until(condition, holds) => {
            begin(&mut line, "until", None)?;
            until(&mut line, &mut condition.clone(), &mut holds.clone())?;
        }
        Event::Swept(name, ended) => {
            begin(&mut line, "swept", Some(name))?;
            swept(&mut line, &mut ended.clone())?;
        }
        Event::Checkpoints(name, found) => {
            begin(&mut line, "checkpoints", Some(name))?;
            choice(&mut line, &mut found.clone())?;
        }
        Event::Wake => begin(&mut line, "nothing", None)?,
    }
    before.push(line);
    Ok(before)
}

fn begin(line: &mut Line, verb: &str, name: Option<&WorkerName>) -> Result<(), String> {
    line.push(Word::Plain(verb.into()));
    name.map_or(Ok(()), |name| line.word(&mut name.clone(), ""))
}

/// Reads the words behind the time; `None` if they only set the scene.
pub fn read(scene: &mut Scene, verb: &str, mut line: Line) -> Result<Option<Event>, String> {
    let now = scene.now();
    let line = &mut line;
    let event = match verb {
        "unit" | "seen" => {
            let name = worker(line)?;
            let mut facts = UnitFacts::default();
            let known = scene.traits.get(&name).cloned().unwrap_or_default();
            let around = Surroundings { former: scene.units.get(&name), traits: &known, now };
            facts::unit(line, &mut facts, &around)?;
            scene.units.insert(name.clone(), facts.clone());
            Event::Unit(name, facts)
        }
        "gone" | "unseen" => {
            let name = worker(line)?;
            scene.units.remove(&name);
            Event::Gone(name)
        }
        "systemd" => {
            let mut version = 0;
            line.word(&mut version, "a version")?;
            Event::ServiceManager { version }
        }
        "listed" => {
            let interest = interest(line)?.unwrap_or_else(|| scene.interest.clone());
            Event::Listed(interest, scene.units.clone().into_iter().collect())
        }
        "read" => {
            let (name, key, mut found) = (worker(line)?, source(line)?, Reading::default());
            reading(line, &mut found)?;
            Event::Read(name, key, Ok(found))
        }
        "unreadable" => {
            let (name, key, mut why) = (worker(line)?, source(line)?, String::new());
            line.word(&mut why, "why")?;
            Event::Read(name, key, Err(why))
        }
        "beat" => {
            let (name, mut found) = (worker(line)?, Reading::default());
            reading(line, &mut found)?;
            Event::Beat(name, found)
        }
        "request" => {
            let (mut id, mut caller, mut asked) = (0, Caller::default(), Request::TestNotice);
            line.pair("id", &mut id, scene.requests.saturating_add(1))?;
            scene.requests = id;
            request::request(line, &mut caller, &mut asked)?;
            Event::Request(RequestId(id), caller, asked)
        }
        "core-dump-began" => Event::CoreDumpBegan,
        "dumping" => {
            let (name, mut pid) = (worker(line)?, 0);
            line.word(&mut pid, "a process id")?;
            Event::Dumping(name, pid)
        }
        "sign" => {
            let (name, source) = (worker(line)?, Source::Output);
            let mut found = Sign { cause: Cause::Unknown, source, text: String::new(), count: 1, at: now.wall };
            sign(line, &mut found, now)?;
            Event::Sign(name, found)
        }
        "examined" => {
            let (mut incident, mut found) = (IncidentId(0), Findings::default());
            line.word(&mut incident, "an incident")?;
            findings(line, &mut found)?;
            Event::Examined(incident, found.into())
        }
        "done" => {
            let (mut id, mut outcome) = (0, Outcome::Ok);
            line.word(&mut id, "the number of an action")?;
            facts::outcome(line, &mut outcome, now.wall)?;
            Event::Done(ActionId(id), outcome)
        }
        "reload" => Event::Policies(scene.policies.clone()),
        "policies" => {
            let words = line.rest();
            let layers = words.split(|word| *word == Word::Plain("/".into())).map(policy::read);
            scene.policies.layers = layers.map(|layer| layer.map(Arc::new)).collect::<Result<_, _>>()?;
            Event::Policies(scene.policies.clone())
        }
        "settings" => {
            scene.policies.settings = policy::read_settings(&line.rest())?;
            Event::Policies(scene.policies.clone())
        }
        "host-stopping" => Event::HostStopping(true),
        "host-goes-on" => Event::HostStopping(false),
        "until" => {
            let (mut condition, mut holds) = (Until::At(0, 0), Ok(false));
            until(line, &mut condition, &mut holds)?;
            Event::Until(condition, holds)
        }
        "swept" => {
            let (name, mut ended) = (worker(line)?, Ok(Vec::new()));
            swept(line, &mut ended)?;
            Event::Swept(name, ended)
        }
        "checkpoints" => {
            let (name, mut found) = (worker(line)?, Choice::default());
            choice(line, &mut found)?;
            Event::Checkpoints(name, found)
        }
        "nothing" => Event::Wake,
        other => return Err(format!("{other:?} is nothing that happens")),
    };
    line.end()?;
    Ok((!["seen", "unseen"].contains(&verb)).then_some(event))
}

fn worker(line: &mut Line) -> Result<WorkerName, String> {
    let name = line.take_word().ok_or("a name is missing")?;
    WorkerName::parse(&name).map_err(|error| error.to_string())
}

fn source(line: &mut Line) -> Result<&'static str, String> {
    let word = line.take_word().ok_or("a source is missing")?;
    SOURCES.into_iter().find(|key| *key == word).ok_or_else(|| format!("{word:?} is no source"))
}

fn unit(scene: &mut Scene, line: &mut Line, verb: &str, name: &WorkerName, facts: &UnitFacts) -> Result<(), String> {
    begin(line, verb, Some(name))?;
    let around = Surroundings { former: scene.units.get(name), traits: &facts.traits, now: scene.now() };
    facts::unit(line, &mut facts.clone(), &around)?;
    scene.units.insert(name.clone(), facts.clone());
    Ok(())
}

/// Tells of units whose change nobody was told of but by this listing.
fn listing(scene: &mut Scene, rows: &[(WorkerName, UnitFacts)]) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let gone: Vec<_> =
        scene.units.keys().filter(|known| !rows.iter().any(|(name, _)| name == *known)).cloned().collect();
    for name in gone {
        scene.units.remove(&name);
        let mut line = Line::writing(scene.zero);
        begin(&mut line, "unseen", Some(&name))?;
        lines.push(line);
    }
    for (name, facts) in rows {
        if scene.units.get(name) != Some(facts) {
            lines.extend(scene.note_traits(name, facts)?);
            let mut line = Line::writing(scene.zero);
            unit(scene, &mut line, "seen", name, facts)?;
            lines.push(line);
        }
    }
    Ok(lines)
}

/// The units that were asked for, if they are named.
fn interest(line: &mut Line) -> Result<Option<Interest>, String> {
    let mut interest = Interest::default();
    while let Some(word) = line.take_word() {
        let pattern = UnitPattern::parse(&word)?;
        match pattern.exact() {
            Some(name) => drop(interest.names.insert(name)),
            None => drop(interest.globs.insert(pattern)),
        }
    }
    Ok((interest != Interest::default()).then_some(interest))
}

/// `[VALUE/TOTAL] [cursor=…] [stage=…] [NAME=NUMBER]…`
fn reading(line: &mut Line, found: &mut Reading) -> Result<(), String> {
    line.maybe("cursor", &mut found.cursor)?;
    line.maybe("stage", &mut found.stage)?;
    if line.is_writing() {
        for (name, value) in &found.values {
            let escaped = name.starts_with(':') || ["cursor", "stage", ""].contains(&&**name);
            let name = if escaped { format!(":{name}") } else { name.to_string() };
            line.push(Word::Pair(name, value.to_string()));
        }
        return Ok(());
    }
    let zero = line.zero();
    let mut values = BTreeMap::new();
    if let Some(text) = line.take_word() {
        let (value, total) = text.split_once('/').ok_or("VALUE/TOTAL is expected")?;
        values.insert("value".into(), f64::read(value, zero)?);
        values.extend(f64::read(total, zero).ok().map(|total| ("total".into(), total)));
    }
    for word in line.rest() {
        let Word::Pair(name, value) = word else { return Err("a name without a number".into()) };
        values.insert(name.strip_prefix(':').unwrap_or(&name).into(), f64::read(&value, zero)?);
    }
    found.values = values;
    Ok(())
}

/// `CAUSE "LINE" [count=N] [from=SOURCE] [at=TIME]`
fn sign(line: &mut Line, found: &mut Sign, now: Now) -> Result<(), String> {
    line.word(&mut found.cause, "a cause")?;
    line.word(&mut found.text, "what was seen")?;
    line.pair("count", &mut found.count, 1)?;
    line.pair("from", &mut found.source, Source::Output)?;
    line.pair("at", &mut found.at, now.wall)
}

/// `[lines=N] [suppressed=N] [gap="…"]… [core-to-come=yes] [CAUSE WEIGHT "LINE" …]…`
fn findings(line: &mut Line, found: &mut Findings) -> Result<(), String> {
    if line.is_writing() {
        whole(line, found)?;
        for (clue, place) in found.clues.list.iter_mut().zip(1..) {
            self::clue(line, clue, place)?;
        }
        return Ok(());
    }
    let (zero, words) = (line.zero(), line.rest());
    let mut groups: Vec<Vec<Word>> = vec![Vec::new()];
    let mut plain = 0;
    for word in words {
        if let Word::Plain(_) = word {
            if plain % 3 == 0 {
                groups.push(Vec::new());
            }
            plain += 1;
        }
        groups.last_mut().expect("there is always one").push(word);
    }
    let mut groups = groups.into_iter();
    let mut first = Line::reading(groups.next().unwrap_or_default(), zero);
    for (words, place) in groups.zip(1..) {
        let mut part = Line::reading(words, zero);
        let mut clue = empty_clue();
        self::clue(&mut part, &mut clue, place)?;
        part.end()?;
        found.clues.list.push(clue);
    }
    whole(&mut first, found)?;
    first.end()
}

fn whole(line: &mut Line, found: &mut Findings) -> Result<(), String> {
    let Clues { list, lines, suppressed } = &mut found.clues;
    line.pair("lines", lines, list.len() as u64)?;
    line.pair("suppressed", suppressed, 0)?;
    line.all("gap", &mut found.gaps)?;
    line.pair("core-to-come", &mut found.core_to_come, false)
}

/// A line of a worker that proves a cause, if nothing else is said of it.
fn empty_clue() -> Clue {
    Clue {
        rule: "rule".into(),
        cause: Cause::Unknown,
        role: Role::Proof,
        weight: 0,
        explains: [].into(),
        also: [].into(),
        source: Source::Output,
        place: 1,
        at: Wall::NEVER,
        pid: 0,
        count: 1,
        text: String::new(),
        values: Vec::new(),
    }
}

fn clue(line: &mut Line, clue: &mut Clue, place: u64) -> Result<(), String> {
    line.word(&mut clue.cause, "a cause")?;
    line.word(&mut clue.weight, "a weight")?;
    line.word(&mut clue.text, "a line")?;
    line.pair("rule", &mut clue.rule, "rule".into())?;
    line.pair("role", &mut clue.role, Role::Proof)?;
    let (mut explains, mut also) = (clue.explains.to_vec(), clue.also.to_vec());
    line.all("explains", &mut explains)?;
    line.all("also", &mut also)?;
    (clue.explains, clue.also) = (explains.into(), also.into());
    line.pair("from", &mut clue.source, Source::Output)?;
    line.pair("place", &mut clue.place, place)?;
    line.pair("at", &mut clue.at, Wall::NEVER)?;
    line.pair("pid", &mut clue.pid, 0)?;
    line.pair("count", &mut clue.count, 1)?;
    let mut values: Vec<String> = clue.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line.all("value", &mut values)?;
    let pairs = values.iter().map(|text| text.split_once('=').ok_or_else(|| format!("{text:?} has no value")));
    clue.values = pairs.map(|pair| pair.map(|(name, value)| (name.into(), value.into()))).collect::<Result<_, _>>()?;
    Ok(())
}

/// `"CONDITION" holds | not | unknown "WHY"`
fn until(line: &mut Line, condition: &mut Until, holds: &mut Result<bool, String>) -> Result<(), String> {
    line.word(condition, "a condition")?;
    let mut word = match holds {
        Ok(true) => "holds",
        Ok(false) => "not",
        Err(_) => "unknown",
    }
    .to_owned();
    line.word(&mut word, "holds, not or unknown")?;
    match word.as_str() {
        "holds" => *holds = Ok(true),
        "not" => *holds = Ok(false),
        "unknown" => {
            let mut why = holds.clone().err().unwrap_or_default();
            line.word(&mut why, "why")?;
            *holds = Err(why);
        }
        other => return Err(format!("{other:?} is not holds, not or unknown")),
    }
    Ok(())
}

/// `[from=PATH] [passed=PATH:WHY]… [aside=NAME:WHY]… [removed=NAME]… [trouble=TEXT]`; a `:` or `%` of a name is `%3a` or
/// `%25`.
fn choice(line: &mut Line, found: &mut Choice) -> Result<(), String> {
    line.maybe("from", &mut found.chosen)?;
    named(line, "passed", &mut found.passed)?;
    named(line, "aside", &mut found.set_aside)?;
    line.all("removed", &mut found.removed)?;
    line.maybe("trouble", &mut found.trouble)
}

/// Names, each with what is wrong with it.
fn named(line: &mut Line, key: &str, list: &mut Vec<(String, String)>) -> Result<(), String> {
    let escaped = |name: &str| name.replace('%', "%25").replace(':', "%3a");
    let mut texts: Vec<_> = list.iter().map(|(name, why)| format!("{}:{why}", escaped(name))).collect();
    line.all(key, &mut texts)?;
    let pair = |text: &String| {
        let (name, why) = text.split_once(':').ok_or_else(|| format!("{key}=NAME:WHY is expected"))?;
        Ok((name.replace("%3a", ":").replace("%25", "%"), why.to_owned()))
    };
    *list = texts.iter().map(pair).collect::<Result<_, String>>()?;
    Ok(())
}

/// `[PROCESS…]`, or `failed="WHY"`
fn swept(line: &mut Line, ended: &mut Result<Vec<String>, String>) -> Result<(), String> {
    let mut failed = ended.clone().err();
    line.maybe("failed", &mut failed)?;
    let mut processes = ended.clone().unwrap_or_default();
    if line.is_writing() {
        processes.iter_mut().for_each(|process| line.push(Word::Plain(std::mem::take(process))));
        return Ok(());
    }
    while let Some(process) = line.take_word() {
        processes.push(process);
    }
    *ended = failed.map_or(Ok(processes), Err);
    Ok(())
}
