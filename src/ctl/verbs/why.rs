// SPDX-License-Identifier: MIT OR Apache-2.0
//! Explains failures, in the daemon's own words.

use super::check::mode;
use super::{incidents, status};
use crate::config;
use crate::ctl::args::Why;
use crate::ctl::connect::Link;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Everything, Incident, Object, Worker};
use crate::ctl::names;
use crate::ctl::out::{Look, incident, json};
use crate::ctl::session::Session;
use crate::engine::cause::{Cause, Retry};
use serde_json::Value;
use std::path::Path;
use zbus::Variant;

pub async fn perform(session: &Session, given: &Why) -> Outcome {
    let link = session.connect().await?;
    let everything = link.everything().await?;
    let mut answers = Vec::new();
    for subject in &given.subjects {
        match subject.parse::<u32>() {
            Ok(id) if !names_worker(&everything, subject) => answers.push(about_incident(&link, id).await?),
            _ => {
                for unit in names::resolve(&link, std::slice::from_ref(subject)).await? {
                    answers.push(about_worker(&link, &everything, unit).await?);
                }
            }
        }
    }
    if let Some(form) = session.json() {
        let array: Value = answers.into_iter().filter_map(|answer| answer.incident).map(json::complete).collect();
        return session.print_json(&array, form);
    }
    let asked = Asked { session, link: &link, everything: &everything, look: session.look_now() };
    let mut texts = Vec::new();
    for answer in &answers {
        texts.push(asked.text(answer).await?);
    }
    session.print_list(&texts.join("\n"))?;
    Ok(exit::OK)
}

struct Answer {
    unit: String,
    incident: Option<Object>,
}

async fn about_incident(link: &Link, id: u32) -> Result<Answer, Failure> {
    let object = incidents::object(link, id).await?;
    Ok(Answer { unit: Incident::read(&object).worker, incident: Some(object) })
}

/// The open incident of the worker, or its most recent one.
async fn about_worker(link: &Link, everything: &Everything, unit: String) -> Result<Answer, Failure> {
    let open = status::find(everything, &unit).map(Worker::read).and_then(|worker| worker.incident_id());
    let filter = match open {
        Some(id) => vec![("id", Variant::from(id))],
        None => vec![("worker", Variant::from(unit.as_str())), ("limit", Variant::from(1u32))],
    };
    let incident = incidents::objects(link, filter).await?.into_iter().next();
    Ok(Answer { unit, incident })
}

/// Who asks whom, and how the answer is to look.
pub struct Asked<'a> {
    pub session: &'a Session,
    pub link: &'a Link,
    pub everything: &'a Everything,
    pub look: Look,
}

impl Asked<'_> {
    /// The answer for one worker, as text.
    pub async fn about(&self, unit: String) -> Result<String, Failure> {
        let answer = about_worker(self.link, self.everything, unit).await?;
        self.text(&answer).await
    }

    async fn text(&self, answer: &Answer) -> Result<String, Failure> {
        let worker = status::find(self.everything, &answer.unit).map(Worker::read);
        let incident = answer.incident.as_ref().map(Incident::read);
        let facts = match worker {
            Some(worker) => Some(status::facts(self.link, worker, self.everything).await?),
            None => None,
        };
        Ok(match (incident, facts) {
            (Some(found), facts) => incident::why(&found, facts.as_ref(), &self.advice(&found), &self.look),
            (None, Some(facts)) => incident::why_not(&facts, &self.look),
            (None, None) => String::new(),
        })
    }

    /// What a person can do: a rule knows it better than the cause alone. Empty where there is nothing to do.
    fn advice(&self, incident: &Incident) -> String {
        let Some(cause) = Cause::parse(&incident.cause).filter(|cause| cause.retry() != Retry::None) else {
            return String::new();
        };
        let rules = config::load(mode(self.session), Path::new("/")).rules();
        rules.advice(cause, &incident.because).unwrap_or_else(|| cause.advice()).to_owned()
    }
}

/// Whether a number is the name of a worker, as in `7.service`.
fn names_worker(everything: &Everything, subject: &str) -> bool {
    status::find(everything, &format!("{subject}.service")).is_some()
}
