// SPDX-License-Identifier: MIT OR Apache-2.0
//! How requests are spelt. Command lines and properties of units are not: no decision depends on them.

use super::line::Line;
use super::policy;
use super::word::Word;
use crate::engine::event::{Caller, Definition, Request, Verb};
use crate::engine::ids::{HoldId, IncidentId, JobId, WorkerName};
use crate::engine::policy::Layer;
use crate::engine::time::Wall;

/// Who asks if nothing is said.
const USUAL_NAME: &str = "alice";
const USUAL_UID: u32 = 1000;

/// `VERB WHAT… [by=NAME] [uid=N] [why="…"]`
pub fn request(line: &mut Line, caller: &mut Caller, asked: &mut Request) -> Result<(), String> {
    let mut verb = match asked {
        Request::Run { .. } => "run",
        Request::Adopt { .. } => "adopt",
        Request::Forget(_) => "forget",
        Request::Change { verb, .. } => verb.as_str(),
        Request::Hold { .. } => "hold",
        Request::Release(_) => "release",
        Request::Quarantine { .. } => "quarantine",
        Request::ResetQuarantine(_) => "reset",
        Request::SetParameter { .. } => "set",
        Request::CloseIncident { .. } => "close",
        Request::CancelJob(_) => "cancel",
        Request::TestNotice => "test-notice",
    }
    .to_owned();
    line.word(&mut verb, "a verb")?;
    line.pair("by", &mut caller.name, USUAL_NAME.into())?;
    line.pair("uid", &mut caller.uid, USUAL_UID)?;
    if !line.is_writing() {
        *asked = empty(&verb, line)?;
    }
    match asked {
        Request::Run { name, policy, .. } => {
            let mut text = name.as_ref().map_or_else(|| "-".to_owned(), super::line::short);
            line.word(&mut text, "a name, or -")?;
            if !line.is_writing() {
                *name =
                    (text != "-").then(|| WorkerName::parse(&text)).transpose().map_err(|error| error.to_string())?;
            }
            own_policy(line, policy)
        }
        Request::Adopt { unit, policy } => {
            line.word(unit, "a unit")?;
            own_policy(line, policy)
        }
        Request::Forget(worker) | Request::ResetQuarantine(worker) => line.word(worker, "a name"),
        Request::Change { workers, why, dry_run, .. } => {
            line.pair("why", why, String::new())?;
            line.flag("dry-run", dry_run);
            names(line, workers)
        }
        Request::Hold { workers, who, why, until, lock } => {
            line.pair("why", why, String::new())?;
            line.pair("who", who, caller.name.clone())?;
            line.maybe("until", until)?;
            line.flag("lock", lock);
            names(line, workers)
        }
        Request::Release(hold) => line.word(hold, "a number"),
        Request::Quarantine { worker, why } => {
            line.pair("why", why, String::new())?;
            line.word(worker, "a name")
        }
        Request::SetParameter { worker, name, value } => {
            line.word(worker, "a name")?;
            line.word(name, "a parameter")?;
            line.maybe("to", value)
        }
        Request::CloseIncident { incident, why } => {
            line.pair("why", why, String::new())?;
            line.word(incident, "a number")
        }
        Request::CancelJob(job) => line.word(job, "a number"),
        Request::TestNotice => Ok(()),
    }
}

/// The request of that name, still without what it is about.
fn empty(verb: &str, line: &Line) -> Result<Request, String> {
    let nobody = || WorkerName::parse("nobody").map_err(|error| error.to_string());
    let change = |verb| Request::Change { verb, workers: Vec::new(), why: String::new(), dry_run: false };
    let (who, why) = (String::new(), String::new());
    debug_assert!(!line.is_writing());
    Ok(match verb {
        "start" => change(Verb::Start),
        "stop" => change(Verb::Stop),
        "restart" => change(Verb::Restart),
        "pause" => change(Verb::Pause),
        "resume" => change(Verb::Resume),
        "run" => {
            // Something that would start, if anybody did.
            let definition = Definition { argv: vec!["/bin/true".into()], properties: Vec::new() };
            Request::Run { name: None, definition, policy: Layer::default() }
        }
        "adopt" => Request::Adopt { unit: nobody()?, policy: Layer::default() },
        "forget" => Request::Forget(nobody()?),
        "hold" => Request::Hold { workers: Vec::new(), who, why, until: None::<Wall>, lock: false },
        "release" => Request::Release(HoldId(0)),
        "quarantine" => Request::Quarantine { worker: nobody()?, why },
        "reset" => Request::ResetQuarantine(nobody()?),
        "set" => Request::SetParameter { worker: nobody()?, name: String::new(), value: None },
        "close" => Request::CloseIncident { incident: IncidentId(0), why },
        "cancel" => Request::CancelJob(JobId(0)),
        "test-notice" => Request::TestNotice,
        other => return Err(format!("{other:?} is no request")),
    })
}

fn names(line: &mut Line, workers: &mut Vec<WorkerName>) -> Result<(), String> {
    if line.is_writing() {
        return workers.iter_mut().try_for_each(|worker| line.word(worker, ""));
    }
    while let Some(name) = line.take_word() {
        workers.push(WorkerName::parse(&name).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// What `watcherctl run` or `adopt` was told.
fn own_policy(line: &mut Line, layer: &mut Layer) -> Result<(), String> {
    if line.is_writing() {
        policy::write(layer).into_iter().for_each(|word| line.push(word));
        return Ok(());
    }
    let words: Vec<Word> = line.rest();
    let read = policy::read(&words)?;
    *layer = Layer { units: Vec::new(), ..read };
    Ok(())
}
