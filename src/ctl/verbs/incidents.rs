// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists incidents.

use crate::ctl::args::Incidents;
use crate::ctl::connect::Link;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Incident, Object, object_of};
use crate::ctl::out::{incident, json, stats};
use crate::ctl::session::Session;
use crate::ctl::when::{self, Side};
use crate::engine::cause::Cause;
use crate::engine::policy::UnitPattern;
use serde_json::Value;
use zbus::Variant;

pub async fn perform(session: &Session, given: &Incidents) -> Outcome {
    let look = session.look_now();
    let time = |text: &Option<String>| match text {
        Some(text) => when::read(text, Side::Behind, &look).map(Some).map_err(Failure::usage),
        None => Ok(None),
    };
    let (since, until) = (time(&given.since)?, time(&given.until)?);
    let mut filter: Vec<(&str, Variant<'_>)> = Vec::new();
    if let Some(worker) = &given.worker {
        let pattern = UnitPattern::parse(worker);
        let pattern = pattern.map_err(|error| Failure::usage(format!("--worker={worker}: {error}")))?;
        filter.push(("worker", Variant::from(pattern.as_str().to_owned())));
    }
    if let Some(cause) = &given.cause {
        filter.push(("cause", Variant::from(known_cause(cause)?)));
    }
    if let Some(since) = since {
        filter.push(("since", Variant::from(since.0.max(0).unsigned_abs())));
    }
    if given.open {
        filter.push(("open", Variant::from(true)));
    }
    if given.stats {
        filter.push(("limit", Variant::from(STATS_MAX)));
    }
    // With --until the newest are not the wanted ones, so the limit must come after it.
    if let Some(lines) = session.options.lines.filter(|_| until.is_none() && !given.stats) {
        filter.push(("limit", Variant::from(lines)));
    }
    let mut objects = objects(&session.connect().await?, filter).await?;
    if let Some(until) = until {
        objects.retain(|object| {
            let opened = object.get("Opened").and_then(Value::as_u64).unwrap_or(0);
            opened < until.0.max(0).unsigned_abs()
        });
    }
    if given.stats {
        let incidents: Vec<Incident> = objects.iter().map(Incident::read).collect();
        return counted(session, &incidents);
    }
    let limit = session.options.lines.and_then(|lines| usize::try_from(lines).ok()).unwrap_or(usize::MAX);
    objects.truncate(limit);
    if let Some(form) = session.json() {
        let array: Value = objects.into_iter().map(json::complete).collect();
        return session.print_json(&array, form);
    }
    let rows: Vec<Incident> = objects.iter().map(Incident::read).collect();
    if session.options.output.as_deref() == Some("name") {
        session.print(&rows.iter().map(|row| format!("{}\n", row.id)).collect::<String>())?;
    } else {
        session.print_list(&incident::list(&rows, &look))?;
    }
    Ok(exit::OK)
}

/// Incidents that are counted at most: the newest.
const STATS_MAX: u32 = 10_000;

fn counted(session: &Session, incidents: &[Incident]) -> Outcome {
    let look = session.look_now();
    let rows = stats::rows(incidents, &look);
    if let Some(form) = session.json() {
        let array: Value = rows.iter().map(|row| json::complete(stats::object(row))).collect();
        return session.print_json(&array, form);
    }
    session.print_list(&stats::text(&rows, &look))?;
    Ok(exit::OK)
}

fn known_cause(text: &str) -> Result<&str, Failure> {
    match Cause::parse(text) {
        Some(cause) => Ok(cause.as_str()),
        None => Err(Failure::usage(format!("--cause={text}: there is no such cause")).with_hint(format!(
            "known causes: {}",
            Cause::ALL.iter().map(|cause| cause.as_str()).collect::<Vec<_>>().join(" ")
        ))),
    }
}

/// The incidents that pass the filter, newest first.
pub async fn objects(link: &Link, filter: Vec<(&str, Variant<'_>)>) -> Result<Vec<Object>, Failure> {
    let rows = link.manager().await?.list_incidents(filter.into_iter().collect()).await;
    let rows = rows.map_err(|error| Failure::from_bus("list the incidents", &error))?;
    Ok(rows.iter().map(object_of).collect())
}

pub async fn object(link: &Link, id: u32) -> Result<Object, Failure> {
    let found = objects(link, vec![("id", Variant::from(id))]).await?.into_iter().next();
    found.ok_or_else(|| {
        Failure::failed(format!("incident {id}: no such incident")).with_hint("watcherctl incidents lists them")
    })
}

/// The incident, if it is still known.
pub async fn one(link: &Link, id: u32) -> Result<Option<Incident>, Failure> {
    Ok(objects(link, vec![("id", Variant::from(id))]).await?.first().map(Incident::read))
}
