// SPDX-License-Identifier: MIT OR Apache-2.0
//! How actions look in a scenario.

use std::fmt::Write as _;
use watcherd::engine::action::{Action, Entry, Freezer, Start};
use watcherd::engine::event::{Answer, Refusal};
use watcherd::engine::ids::{JobId, WorkerName};
use watcherd::engine::time::Span;

use super::ZERO;

pub fn action_text(action: &Action) -> String {
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
        Action::Examine(id, subject) => format!("examine [{id}] {}", short(&subject.worker)),
        Action::FindDumping(processes) => {
            format!("find-dumping {}", processes.iter().map(|(name, _)| short(name)).collect::<Vec<_>>().join(" "))
        }
        Action::Follow(name, sources) if sources.probes.is_empty() => format!("follow {} no more", short(name)),
        Action::Follow(name, sources) => {
            let keys: Vec<_> = sources.probes.iter().map(|probe| probe.key()).collect();
            format!("follow {} {}", short(name), keys.join(" "))
        }
        Action::Look(id, name, _) => format!("look #{id} {}", short(name)),
        Action::Capture(id, name, capture) => {
            format!(
                "capture #{id} {} [{}] signal={} {}",
                short(name),
                capture.incident,
                capture.signal,
                capture.progress
            )
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

pub fn short(name: &WorkerName) -> String {
    name.as_str().trim_end_matches(".service").to_owned()
}
