// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts, stops, restarts, pauses and resumes workers, and waits until that is done.

use super::DRY_RUN;
use crate::api::client::{BUS_NAME, JobProxy};
use crate::api::error::ErrorName;
use crate::ctl::args::Workers;
use crate::ctl::connect::Link;
use crate::ctl::events::{Events, News};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Worker, wall};
use crate::ctl::names;
use crate::ctl::out::escape::escaped;
use crate::ctl::out::time::short_clock;
use crate::ctl::session::Session;
use crate::ctl::verbs::status;
use crate::engine::event::Verb;
use std::collections::BTreeSet;
use zbus::OwnedObjectPath;

pub async fn perform(session: &Session, verb: Verb, given: &Workers) -> Outcome {
    let link = session.connect().await?;
    let units = names::resolve(&link, &given.workers).await?;
    let mut events = Events::subscribe(&link).await?;
    let flags = if session.options.dry_run { DRY_RUN } else { 0 };
    let body = (&units, session.options.reason.as_str(), flags);
    let jobs: Vec<OwnedObjectPath> = match link.ask(method(verb), &body).await {
        Ok(jobs) => jobs,
        Err(error) => return Err(refused(session, &link, verb, &units, &error).await),
    };
    if session.options.dry_run {
        let text: String = units.iter().map(|unit| format!("would {} {unit}\n", verb.as_str())).collect();
        session.print(&text)?;
        return Ok(exit::OK);
    }
    if session.options.no_block {
        return Ok(exit::OK);
    }
    let waiting = jobs.iter().map(ToString::to_string).collect();
    finish(session, &link, &mut events, verb, waiting).await
}

pub fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "Start",
        Verb::Stop => "Stop",
        Verb::Restart => "Restart",
        Verb::Pause => "Pause",
        Verb::Resume => "Resume",
    }
}

/// Waits until all jobs have ended, and says which of them failed.
async fn finish(
    session: &Session,
    link: &Link,
    events: &mut Events,
    verb: Verb,
    mut waiting: BTreeSet<String>,
) -> Outcome {
    let mut status = exit::OK;
    while !waiting.is_empty() {
        match events.next().await {
            Some(News::JobRemoved { job, worker, result, .. }) if waiting.remove(&job) => {
                if result != "done" {
                    let why = explained(link, &job, &worker, &result).await;
                    let text = format!("cannot {} {}: {why}", verb.as_str(), escaped(&worker));
                    session
                        .complain(&Failure::failed(text).with_hint(format!("watcherctl status {}", escaped(&worker))));
                    status = exit::FAILED;
                }
            }
            Some(News::Left) | None => {
                return Err(Failure::failed("watcherd went away before everything was done")
                    .with_hint("watcherctl list shows what has happened"));
            }
            Some(_) => {}
        }
    }
    Ok(status)
}

/// Why a job failed: its own words, else those of its worker.
async fn explained(link: &Link, job: &str, worker: &str, result: &str) -> String {
    let detail = match JobProxy::builder(&link.connection).destination(BUS_NAME).path(job.to_owned()).build().await {
        Ok(proxy) => proxy.detail().await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    let reason =
        match detail.is_empty() && result == "failed" {
            true => link.everything().await.ok().and_then(|everything| {
                status::find(&everything, worker).map(|object| Worker::read(object).phase_reason)
            }),
            false => None,
        };
    let reason = reason.filter(|reason| !reason.is_empty()).unwrap_or(detail);
    let word = match result {
        "failed" => "",
        "canceled" => "the job was cancelled",
        "timeout" => "it did not end in time",
        other => other,
    };
    match (word, reason.as_str()) {
        ("", "") => "the job failed".to_owned(),
        ("", reason) => escaped(reason).into_owned(),
        (word, "") => escaped(word).into_owned(),
        (word, reason) => format!("{} ({})", escaped(word), escaped(reason)),
    }
}

/// The daemon's refusal; for a held worker also until when.
async fn refused(session: &Session, link: &Link, verb: Verb, units: &[String], error: &zbus::Error) -> Failure {
    let named = |unit: &&String| crate::ctl::failure::description(error).starts_with(&format!("{unit}: "));
    let object = match units.iter().find(named) {
        Some(unit) => unit.clone(),
        None => units.join(" "),
    };
    let mut failure = Failure::from_bus(&format!("{} {object}", verb.as_str()), error);
    if ErrorName::of(error) != Some(ErrorName::WorkerHeld) {
        return failure;
    }
    let Ok(everything) = link.everything().await else { return failure };
    let mut holds = everything.holds_of(&object);
    if let Some(hold) = holds.next() {
        if hold.4 > 0 && !failure.text.contains(" until ") {
            let until = short_clock(wall(hold.4), &session.look_now());
            failure.text = format!("{} until {until}", failure.text);
        }
        failure.hint = Some(format!("watcherctl release {}", hold.0));
    }
    failure
}
