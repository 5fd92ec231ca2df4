// SPDX-License-Identifier: MIT OR Apache-2.0
//! How what watcherd remembers is spelt: one line for each worker, incident, hold, notice, and how far a worker is.

use super::line::{Line, Value};
use super::policy;
use super::word::Word;
use crate::config::value::parse_size;
use crate::engine::cause::Cause;
use crate::engine::event::Definition;
use crate::engine::ids::{HoldId, IncidentId, NoticeId, WorkerName};
use crate::engine::notice::Notice;
use crate::engine::parameter::Tuning;
use crate::engine::policy::{Layer, Size};
use crate::engine::recurrence::Recurrence;
use crate::engine::saved::{
    Saved, SavedHold, SavedNotice, SavedOrigin, SavedPace, SavedProgress, SavedRemedies, SavedWorker,
};
use crate::engine::time::{Mono, Now, Wall};
use crate::engine::until::Until;
use crate::engine::view::{IncidentResult, IncidentState, IncidentView, NoticeStage, NoticeState, RemedyView};
use std::time::Duration;

/// Begins what belongs to one part of a line that has several.
const PART: &str = ";";

/// Everything, line by line.
pub fn write(saved: &Saved, zero: Now) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut add = |what: &str, spell: &mut dyn FnMut(&mut Line) -> Result<(), String>| {
        let mut line = Line::writing(zero);
        line.word(&mut what.to_owned(), "")?;
        spell(&mut line)?;
        lines.push(line);
        Ok::<(), String>(())
    };
    let mut clock = saved.clone();
    add("clock", &mut |line| self::clock(line, &mut clock))?;
    for known in &saved.workers {
        add("worker", &mut |line| worker(line, &mut known.clone()))?;
    }
    for known in &saved.progress {
        add("progress", &mut |line| progress(line, &mut known.clone()))?;
    }
    for known in &saved.incidents {
        add("incident", &mut |line| incident(line, &mut known.clone()))?;
    }
    for known in &saved.holds {
        add("hold", &mut |line| hold(line, &mut known.clone()))?;
    }
    for known in &saved.notices {
        add("notice", &mut |line| notice(line, &mut known.clone()))?;
    }
    Ok(lines)
}

/// Reads one line into what is known already.
pub fn read(line: &mut Line, saved: &mut Saved) -> Result<(), String> {
    match line.take_word().unwrap_or_default().as_str() {
        "clock" => clock(line, saved)?,
        "worker" => {
            let mut read = SavedWorker::new(nobody()?);
            worker(line, &mut read)?;
            saved.workers.push(read);
        }
        "progress" => {
            let mut read = empty_progress()?;
            progress(line, &mut read)?;
            saved.progress.push(read);
        }
        "incident" => {
            let mut read = empty_incident()?;
            incident(line, &mut read)?;
            saved.incidents.push(read);
        }
        "hold" => {
            let (who, why) = (String::new(), String::new());
            let mut read = SavedHold { id: HoldId(0), workers: Vec::new(), who, why, until: None, when: None };
            hold(line, &mut read)?;
            saved.holds.push(read);
        }
        "notice" => {
            let mut read = empty_notice();
            notice(line, &mut read)?;
            saved.notices.push(read);
        }
        other => return Err(format!("{other:?} is nothing that is saved")),
    }
    line.end()
}

fn clock(line: &mut Line, saved: &mut Saved) -> Result<(), String> {
    line.pair("mono", &mut saved.clock.mono, Mono(0))?;
    line.pair("wall", &mut saved.clock.wall, Wall::NEVER)?;
    line.flag("same-boot", &mut saved.same_boot);
    line.pair("away", &mut saved.away, Wall::NEVER)?;
    line.pair("next-incident", &mut saved.next_incident, 0)?;
    line.pair("next-hold", &mut saved.next_hold, 0)
}

fn nobody() -> Result<WorkerName, String> {
    WorkerName::parse("nobody").map_err(|error| error.to_string())
}

fn worker(line: &mut Line, saved: &mut SavedWorker) -> Result<(), String> {
    line.word(&mut saved.name, "a name")?;
    line.word(&mut saved.phase, "a phase")?;
    line.pair("since", &mut saved.since, Wall::NEVER)?;
    line.pair("remark", &mut saved.remark, String::new())?;
    line.maybe("inv", &mut saved.invocation)?;
    line.flag("ended", &mut saved.run_ended);
    line.pair("seen", &mut saved.seen, Wall::NEVER)?;
    line.flag("up", &mut saved.intended_up);
    line.flag("completed", &mut saved.completed);
    line.maybe("quarantine", &mut saved.quarantine)?;
    line.flag("paused", &mut saved.paused);
    line.all("attempt", &mut saved.attempts)?;
    line.pair("failures", &mut saved.failures, 0)?;
    line.maybe("cause", &mut saved.cause)?;
    line.maybe("incident", &mut saved.incident)?;
    line.maybe("restart", &mut saved.restart_due)?;
    line.pair("runs", &mut saved.runs, 0)?;
    line.pair("downtime", &mut saved.downtime, Duration::ZERO)?;
    line.pair("finished", &mut saved.finished, Wall::NEVER)?;
    remedies(line, &mut saved.remedies)?;
    origin(line, &mut saved.origin)
}

fn remedies(line: &mut Line, saved: &mut SavedRemedies) -> Result<(), String> {
    line.maybe("failed-at", &mut saved.failed_at)?;
    line.maybe("tuned", &mut saved.tuned)?;
    let (mut due, mut failed) = (saved.follow_up.map(|(due, _)| due), saved.follow_up.map_or(0, |(_, failed)| failed));
    line.maybe("follow-up", &mut due)?;
    line.pair("follow-up-failed", &mut failed, 0)?;
    saved.follow_up = due.map(|due| (due, failed));
    let mut now: Vec<Named> =
        saved.tuning.values().iter().map(|(name, value)| Named(name.to_string(), Some(value.to_string()))).collect();
    let mut steps: Vec<Named> = saved
        .tuning
        .steps()
        .iter()
        .map(|(name, before)| Named(name.to_string(), before.as_deref().map(str::to_owned)))
        .collect();
    line.all("set", &mut now)?;
    line.all("before", &mut steps)?;
    let now = now.into_iter().filter_map(|Named(name, value)| Some((name.into(), value?.into())));
    let steps = steps.into_iter().map(|Named(name, before)| (name.into(), before.map(Into::into)));
    saved.tuning = Tuning::restore(now.collect(), steps.collect());
    let mut causes: Vec<Known> = saved.recurrences.iter().map(|(cause, known)| Known(*cause, known.clone())).collect();
    line.all("known", &mut causes)?;
    saved.recurrences = causes.into_iter().map(|Known(cause, known)| (cause, known)).collect();
    Ok(())
}

/// `NAME=VALUE`, or `NAME` alone.
struct Named(String, Option<String>);

impl Value for Named {
    fn text(&self, _: Now) -> String {
        match &self.1 {
            Some(value) => format!("{}={value}", self.0),
            None => self.0.clone(),
        }
    }

    fn read(text: &str, _: Now) -> Result<Named, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        Ok(Named(name.to_owned(), value))
    }
}

/// A cause, six numbers and the times of attempts, with commas between them.
struct Known(Cause, Recurrence);

impl Value for Known {
    fn text(&self, zero: Now) -> String {
        let known = &self.1;
        let value = known.value.map_or("-".into(), |value| value.to_string());
        let numbers = [known.same_value, known.rung, known.tried, known.steps].map(|number| number.to_string());
        let parts = [self.0.to_string(), known.count.to_string(), value].into_iter().chain(numbers);
        parts.chain(known.attempts.iter().map(|at| at.text(zero))).collect::<Vec<_>>().join(",")
    }

    fn read(text: &str, zero: Now) -> Result<Known, String> {
        let parts: Vec<&str> = text.split(',').collect();
        let [cause, count, value, same_value, rung, tried, steps, attempts @ ..] = parts.as_slice() else {
            return Err(format!("{text:?} is too short"));
        };
        let number = |text: &&str| u32::read(text, zero);
        let known = Recurrence {
            count: number(count)?,
            value: if *value == "-" { None } else { Some(u64::read(value, zero)?) },
            same_value: number(same_value)?,
            rung: number(rung)?,
            tried: number(tried)?,
            steps: number(steps)?,
            attempts: attempts.iter().map(|at| Mono::read(at, zero)).collect::<Result<_, _>>()?,
        };
        Ok(Known(Cause::read(cause, zero)?, known))
    }
}

/// `adopted` or `run`, and what the policy of its own says; the command line is left out.
fn origin(line: &mut Line, origin: &mut SavedOrigin) -> Result<(), String> {
    let (mut adopted, mut run) = (matches!(origin, SavedOrigin::Adopted(_)), matches!(origin, SavedOrigin::Run(..)));
    line.flag("adopted", &mut adopted);
    line.flag("run", &mut run);
    if line.is_writing() {
        if let SavedOrigin::Adopted(layer) | SavedOrigin::Run(_, layer) = origin {
            policy::write(layer).into_iter().for_each(|word| line.push(word));
        }
        return Ok(());
    }
    if !adopted && !run {
        return Ok(());
    }
    let layer = Layer { units: Vec::new(), ..policy::read(&line.rest())? };
    *origin = if run { SavedOrigin::Run(Definition::default(), layer) } else { SavedOrigin::Adopted(layer) };
    Ok(())
}

fn empty_progress() -> Result<SavedProgress, String> {
    let (paces, values) = (Vec::new(), std::collections::BTreeMap::new());
    Ok(SavedProgress { worker: nobody()?, run: None, at: Wall::NEVER, value: 0, total: 0, paces, values })
}

fn progress(line: &mut Line, saved: &mut SavedProgress) -> Result<(), String> {
    line.word(&mut saved.worker, "a name")?;
    line.maybe("inv", &mut saved.run)?;
    line.pair("at", &mut saved.at, Wall::NEVER)?;
    line.pair("value", &mut saved.value, 0)?;
    line.pair("total", &mut saved.total, 0)?;
    let mut values: Vec<Named> =
        saved.values.iter().map(|(name, value)| Named(value.to_string(), Some(name.to_string()))).collect();
    line.all("named", &mut values)?;
    let zero = line.zero();
    let read = |Named(value, name): Named| Ok::<_, String>((name.unwrap_or_default().into(), f64::read(&value, zero)?));
    saved.values = values.into_iter().map(read).collect::<Result<_, _>>()?;
    if line.is_writing() {
        for (stage, pace) in &mut saved.paces {
            line.push(Word::Plain(PART.into()));
            line.word(stage, "a stage")?;
            self::pace(line, pace)?;
        }
        return Ok(());
    }
    for words in parts(line) {
        let (mut part, mut pace, mut stage) = (Line::reading(words, zero), SavedPace::default(), "".into());
        part.word(&mut stage, "a stage")?;
        self::pace(&mut part, &mut pace)?;
        part.end()?;
        saved.paces.push((stage, pace));
    }
    Ok(())
}

fn pace(line: &mut Line, pace: &mut SavedPace) -> Result<(), String> {
    line.pair("together", &mut pace.seen, Duration::ZERO)?;
    line.all("gap", &mut pace.gaps)?;
    line.all("longest", &mut pace.longest)
}

/// What stands behind each semicolon.
fn parts(line: &mut Line) -> Vec<Vec<Word>> {
    let words = line.rest();
    let part = Word::Plain(PART.into());
    words.split(|word| *word == part).filter(|words| !words.is_empty()).map(<[Word]>::to_vec).collect()
}

fn hold(line: &mut Line, saved: &mut SavedHold) -> Result<(), String> {
    line.word(&mut saved.id, "a number")?;
    line.pair("who", &mut saved.who, String::new())?;
    line.pair("why", &mut saved.why, String::new())?;
    line.maybe("until", &mut saved.until)?;
    line.maybe("when", &mut saved.when)?;
    line.all("worker", &mut saved.workers)
}

impl Value for Until {
    fn text(&self, _: Now) -> String {
        match self {
            Until::Free(path, bytes) => format!("free({path}) > {bytes}"),
            Until::GpuFree(bytes) => format!("gpu-free({bytes})"),
            other => other.to_string(),
        }
    }

    fn read(text: &str, _: Now) -> Result<Until, String> {
        Until::parse(text, |size| parse_size(size).or_else(|_| Size::parse(size)))
    }
}

fn empty_incident() -> Result<IncidentView, String> {
    Ok(IncidentView {
        id: IncidentId(0),
        worker: nobody()?,
        run: None,
        cause: Cause::Unknown,
        confidence: 0,
        because: Vec::new(),
        cascade: Vec::new(),
        opened: Wall::NEVER,
        detected: Wall::NEVER,
        decided: Wall::NEVER,
        started: Wall::NEVER,
        recovered: Wall::NEVER,
        closed: Wall::NEVER,
        state: IncidentState::Open,
        result: IncidentResult::None,
        remedies: Vec::new(),
        part_of: None,
        members: Vec::new(),
        text: String::new(),
    })
}

fn incident(line: &mut Line, saved: &mut IncidentView) -> Result<(), String> {
    line.word(&mut saved.id, "a number")?;
    line.word(&mut saved.worker, "a name")?;
    line.word(&mut saved.cause, "a cause")?;
    line.word(&mut saved.state, "a state")?;
    line.pair("result", &mut saved.result, IncidentResult::None)?;
    line.maybe("inv", &mut saved.run)?;
    line.pair("confidence", &mut saved.confidence, 0)?;
    line.all("because", &mut saved.because)?;
    line.all("cascade", &mut saved.cascade)?;
    let times = [
        ("opened", &mut saved.opened),
        ("detected", &mut saved.detected),
        ("decided", &mut saved.decided),
        ("started", &mut saved.started),
        ("recovered", &mut saved.recovered),
        ("closed", &mut saved.closed),
    ];
    times.into_iter().try_for_each(|(key, at)| line.pair(key, at, Wall::NEVER))?;
    line.maybe("part-of", &mut saved.part_of)?;
    line.all("member", &mut saved.members)?;
    line.pair("text", &mut saved.text, String::new())?;
    if line.is_writing() {
        for remedy in &mut saved.remedies {
            line.push(Word::Plain(PART.into()));
            self::remedy(line, remedy)?;
        }
        return Ok(());
    }
    for words in parts(line) {
        let mut part = Line::reading(words, line.zero());
        let mut remedy = RemedyView { action: "other", at: Wall::NEVER, by: String::new(), outcome: String::new() };
        self::remedy(&mut part, &mut remedy)?;
        part.end()?;
        saved.remedies.push(remedy);
    }
    Ok(())
}

fn remedy(line: &mut Line, saved: &mut RemedyView) -> Result<(), String> {
    let mut action = saved.action.to_owned();
    line.word(&mut action, "a remedy")?;
    saved.action = RemedyView::known_action(&action);
    line.pair("done", &mut saved.at, Wall::NEVER)?;
    line.pair("by", &mut saved.by, String::new())?;
    line.pair("outcome", &mut saved.outcome, String::new())
}

fn empty_notice() -> SavedNotice {
    let notice = Notice {
        id: NoticeId(0),
        stage: NoticeStage::Opened,
        is_final: false,
        incident: None,
        worker: None,
        cause: Cause::Unknown,
        confidence: 0,
        result: IncidentResult::None,
        opened: Wall::NEVER,
        retry_at: Wall::NEVER,
        text: String::new(),
        next: String::new(),
        lines: Vec::new(),
        repeats: 0,
    };
    SavedNotice {
        notice,
        state: NoticeState::Waiting,
        made: Wall::NEVER,
        begun: Wall::NEVER,
        due: Wall::NEVER,
        attempts: 0,
        again: false,
        error: String::new(),
    }
}

fn notice(line: &mut Line, saved: &mut SavedNotice) -> Result<(), String> {
    let notice = &mut saved.notice;
    line.word(&mut notice.id, "a number")?;
    line.word(&mut notice.stage, "a stage")?;
    line.word(&mut saved.state, "a state")?;
    line.flag("final", &mut notice.is_final);
    line.maybe("incident", &mut notice.incident)?;
    line.maybe("worker", &mut notice.worker)?;
    line.pair("cause", &mut notice.cause, Cause::Unknown)?;
    line.pair("confidence", &mut notice.confidence, 0)?;
    line.pair("result", &mut notice.result, IncidentResult::None)?;
    line.pair("opened", &mut notice.opened, Wall::NEVER)?;
    line.pair("retry-at", &mut notice.retry_at, Wall::NEVER)?;
    line.pair("text", &mut notice.text, String::new())?;
    line.pair("next", &mut notice.next, String::new())?;
    line.all("line", &mut notice.lines)?;
    line.pair("repeats", &mut notice.repeats, 0)?;
    line.pair("made", &mut saved.made, Wall::NEVER)?;
    line.pair("begun", &mut saved.begun, Wall::NEVER)?;
    line.pair("due", &mut saved.due, Wall::NEVER)?;
    line.pair("attempts", &mut saved.attempts, 0)?;
    line.flag("again", &mut saved.again);
    line.pair("error", &mut saved.error, String::new())
}
