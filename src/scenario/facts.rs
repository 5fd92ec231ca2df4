// SPDX-License-Identifier: MIT OR Apache-2.0
//! How units, the ends of runs and the outcomes of actions are spelt.

use super::line::{Line, Value};
use super::word::Word;
use crate::engine::event::{Active, Exit, Load, Outcome, PastRun, RunEnd, UnitFacts, UnitResult, UnitTraits};
use crate::engine::source::{Activity, GpuUse};
use crate::engine::time::{Now, Wall};
use std::time::Duration;

/// The main process of a run of which nothing else is said.
const USUAL_PID: u32 = 100;
/// The device memory of a worker that uses a GPU, if nothing else is said.
const USUAL_GPU_MEMORY: u64 = 1 << 30;

/// What else is known when the facts of a unit are told.
pub struct Surroundings<'a> {
    pub former: Option<&'a UnitFacts>,
    pub traits: &'a UnitTraits,
    pub now: Now,
}

/// `ACTIVE/SUB [inv=…] [since=…] [forked=…] …`; the invocation stays what it was unless it is named.
pub fn unit(line: &mut Line, facts: &mut UnitFacts, around: &Surroundings<'_>) -> Result<(), String> {
    let mut state = State(facts.active, facts.sub.clone());
    line.word(&mut state, "ACTIVE/SUB")?;
    State(facts.active, facts.sub) = state;
    let former = around.former;
    let known = former.and_then(|former| former.invocation);
    let mut lost = facts.invocation.is_none() && known.is_some();
    line.flag("no-inv", &mut lost);
    let mut named = facts.invocation.filter(|_| facts.invocation != known);
    line.maybe("inv", &mut named)?;
    facts.invocation = if lost { None } else { named.or(known) };
    let same = former.filter(|former| former.active == facts.active && former.invocation == facts.invocation);
    line.pair("since", &mut facts.active_enter, same.map_or(around.now.mono, |former| former.active_enter))?;
    line.pair("forked", &mut facts.main_started, same.map_or(around.now.mono, |former| former.main_started))?;
    line.pair("job", &mut facts.job, 0)?;
    let pid = if facts.active == Active::Active { USUAL_PID } else { 0 };
    line.pair("pid", &mut facts.main_pid, pid)?;
    end(line, &mut facts.end, around.now.wall)?;
    line.pair("restarts", &mut facts.restarts, 0)?;
    line.flag("frozen", &mut facts.frozen);
    line.pair("load", &mut facts.load, Load::Loaded)?;
    line.pair("status", &mut facts.status_text, String::new())?;
    facts.traits = around.traits.clone();
    Ok(())
}

struct State(Active, String);

impl Value for State {
    fn text(&self, _: Now) -> String {
        let active = match self.0 {
            Active::Inactive => "inactive",
            Active::Activating => "activating",
            Active::Active => "active",
            Active::Reloading => "reloading",
            Active::Deactivating => "deactivating",
            Active::Failed => "failed",
            Active::Maintenance => "maintenance",
            Active::Refreshing => "refreshing",
        };
        format!("{active}/{}", self.1)
    }

    fn read(text: &str, _: Now) -> Result<State, String> {
        let (active, sub) = text.split_once('/').ok_or("ACTIVE/SUB is expected")?;
        Ok(State(Active::parse(active), sub.to_owned()))
    }
}

impl Value for Load {
    fn text(&self, _: Now) -> String {
        match self {
            Load::Loaded => "loaded",
            Load::NotFound => "not-found",
            Load::Masked => "masked",
            Load::Bad => "error",
        }
        .into()
    }

    fn read(text: &str, _: Now) -> Result<Load, String> {
        Ok(Load::parse(text))
    }
}

/// `[result=R] [exit=N|signal=N|dump=N] [ended=TIME] [main=PID] [begun=TIME]`; a run that is over ended just now.
pub fn end(line: &mut Line, end: &mut RunEnd, now: Wall) -> Result<(), String> {
    line.pair("result", &mut end.result, UnitResult::Success)?;
    let numbers = match end.exit {
        Exit::None => [None, None, None],
        Exit::Exited(status) => [Some(status), None, None],
        Exit::Killed(signal) => [None, Some(signal), None],
        Exit::Dumped(signal) => [None, None, Some(signal)],
    };
    let [mut exit, mut signal, mut dump] = numbers;
    line.maybe("exit", &mut exit)?;
    line.maybe("signal", &mut signal)?;
    line.maybe("dump", &mut dump)?;
    end.exit = match (exit, signal, dump) {
        (Some(status), ..) => Exit::Exited(status),
        (_, Some(signal), _) => Exit::Killed(signal),
        (_, _, Some(signal)) => Exit::Dumped(signal),
        _ => Exit::None,
    };
    let over = end.result != UnitResult::Success || end.exit != Exit::None;
    line.pair("ended", &mut end.ended, if over { now } else { Wall::NEVER })?;
    line.pair("main", &mut end.pid, USUAL_PID)?;
    line.pair("begun", &mut end.started, Wall::NEVER)
}

impl Value for UnitResult {
    fn text(&self, _: Now) -> String {
        self.as_str().to_owned()
    }

    fn read(text: &str, _: Now) -> Result<UnitResult, String> {
        Ok(UnitResult::parse(text))
    }
}

/// `restart transient oneshot can-freeze watchdog=30s limit=5/10s`
pub fn traits(line: &mut Line, traits: &mut UnitTraits) -> Result<(), String> {
    line.flag("restart", &mut traits.restarts_itself);
    line.flag("transient", &mut traits.transient);
    line.flag("oneshot", &mut traits.oneshot);
    line.flag("can-freeze", &mut traits.can_freeze);
    line.maybe("watchdog", &mut traits.watchdog)?;
    let mut limit = Limit(traits.start_limit_burst, traits.start_limit_interval);
    line.pair("limit", &mut limit, Limit(0, Duration::ZERO))?;
    (traits.start_limit_burst, traits.start_limit_interval) = (limit.0, limit.1);
    Ok(())
}

#[derive(PartialEq)]
struct Limit(u32, Duration);

impl Value for Limit {
    fn text(&self, zero: Now) -> String {
        format!("{}/{}", self.0, self.1.text(zero))
    }

    fn read(text: &str, zero: Now) -> Result<Limit, String> {
        let (burst, interval) = text.split_once('/').ok_or("BURST/TIME is expected")?;
        Ok(Limit(Value::read(burst, zero)?, Value::read(interval, zero)?))
    }
}

/// `ok | failed "WHY" | timeout | past [RUN ;]… | activity …`
pub fn outcome(line: &mut Line, outcome: &mut Outcome, now: Wall) -> Result<(), String> {
    let mut kind = match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed(_) => "failed",
        Outcome::TimedOut => "timeout",
        Outcome::Past(_) => "past",
        Outcome::Activity(_) => "activity",
    }
    .to_owned();
    line.word(&mut kind, "an outcome")?;
    if !line.is_writing() {
        *outcome = match kind.as_str() {
            "ok" => Outcome::Ok,
            "failed" => Outcome::Failed(String::new()),
            "timeout" => Outcome::TimedOut,
            "past" => Outcome::Past(Vec::new()),
            "activity" => Outcome::Activity(Activity::default()),
            other => return Err(format!("{other:?} is no outcome; ok, failed, timeout, past and activity are")),
        };
    }
    match outcome {
        Outcome::Ok | Outcome::TimedOut => Ok(()),
        Outcome::Failed(why) => line.word(why, "why it failed"),
        Outcome::Past(runs) => past(line, runs, now),
        Outcome::Activity(found) => activity(line, found),
    }
}

/// Each run ends with a semicolon.
fn past(line: &mut Line, runs: &mut Vec<PastRun>, now: Wall) -> Result<(), String> {
    let semicolon = Word::Plain(";".into());
    if line.is_writing() {
        for run in runs {
            past_run(line, run, now)?;
            line.push(semicolon.clone());
        }
        return Ok(());
    }
    let words = line.rest();
    for words in words.split(|word| *word == semicolon).filter(|words| !words.is_empty()) {
        let mut line = Line::reading(words.to_vec(), line.zero());
        let mut run = PastRun { invocation: None, end: RunEnd::default(), stopped: false };
        past_run(&mut line, &mut run, now)?;
        line.end()?;
        runs.push(run);
    }
    Ok(())
}

fn past_run(line: &mut Line, run: &mut PastRun, now: Wall) -> Result<(), String> {
    line.maybe("inv", &mut run.invocation)?;
    end(line, &mut run.end, now)?;
    line.flag("stopped", &mut run.stopped);
    Ok(())
}

fn activity(line: &mut Line, found: &mut Activity) -> Result<(), String> {
    line.pair("cpu", &mut found.cpu, Duration::ZERO)?;
    line.pair("io", &mut found.io, 0)?;
    line.pair("switches", &mut found.switches, 0)?;
    let mut memory = found.memory.map(Bytes);
    line.maybe("memory", &mut memory)?;
    found.memory = memory.map(|Bytes(bytes)| bytes);
    line.pair("threads", &mut found.threads, 0)?;
    line.pair("blocked", &mut found.blocked, 0)?;
    line.pair("locked", &mut found.locked, 0)?;
    line.maybe("lines", &mut found.lines)?;
    line.maybe("pressure", &mut found.pressure)?;
    let mut shares = found.gpu.map(|gpu| Shares(gpu.compute, gpu.memory));
    line.maybe("gpu", &mut shares)?;
    let mut held = found.gpu.map_or(USUAL_GPU_MEMORY, |gpu| gpu.held);
    line.pair("gpu-memory", &mut held, USUAL_GPU_MEMORY)?;
    found.gpu = shares.map(|Shares(compute, memory)| GpuUse { held, compute, memory });
    Ok(())
}

/// A size; `4G` is read too.
struct Bytes(u64);

impl Value for Bytes {
    fn text(&self, _: Now) -> String {
        self.0.to_string()
    }

    fn read(text: &str, _: Now) -> Result<Bytes, String> {
        crate::config::value::parse_size(text).map(Bytes)
    }
}

/// `COMPUTE/MEMORY` in percent; `?` where the device does not tell.
struct Shares(Option<u32>, Option<u32>);

impl Value for Shares {
    fn text(&self, _: Now) -> String {
        let share = |share: Option<u32>| share.map_or("?".into(), |share| share.to_string());
        format!("{}/{}", share(self.0), share(self.1))
    }

    fn read(text: &str, zero: Now) -> Result<Shares, String> {
        let (compute, memory) = text.split_once('/').ok_or("COMPUTE/MEMORY is expected")?;
        let share = |text: &str| if text == "?" { Ok(None) } else { Value::read(text, zero).map(Some) };
        Ok(Shares(share(compute)?, share(memory)?))
    }
}
