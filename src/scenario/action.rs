// SPDX-License-Identifier: MIT OR Apache-2.0
//! How actions are spelt. They are only written: what is read again is the text.

use crate::engine::action::{Action, Entry, Exports, Freezer, Start};
use crate::engine::event::{Answer, Refusal};
use crate::engine::ids::JobId;
use crate::engine::notice::Delivery;
use crate::engine::time::{Now, Span, Wall};
use crate::engine::view::IncidentResult;
use std::fmt::Write as _;
use std::sync::Arc;

use super::line::short;
use super::policy::LEFT_OUT;

/// How much of a command line is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// The program only: its arguments may be secret.
    Masked,
}

/// The words behind `-> TIME`; times in it count from `zero`.
pub fn action_text(action: &Action, zero: Now, detail: Detail) -> String {
    match action {
        Action::Start(id, name, start) => format!("start #{id} {}{}", short(name), start_text(start)),
        Action::Stop(id, name) => format!("stop #{id} {}", short(name)),
        Action::Kill(id, name, signal) => format!("kill #{id} {} {signal}", short(name)),
        Action::Freeze(id, name, freezer) => format!("freeze #{id} {} {}", short(name), freezer_text(*freezer)),
        Action::Thaw(id, name, freezer) => format!("thaw #{id} {} {}", short(name), freezer_text(*freezer)),
        Action::LookBack(id, name, since) => {
            let since = Span(since.since(zero.wall)).to_string().replace(' ', "");
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
            let dump = command_text(&capture.dump, detail);
            let dump = if dump.is_empty() { dump } else { format!(" \"{dump}\"") };
            let (incident, signal, progress) = (capture.incident, capture.signal, &capture.progress);
            format!("capture #{id} {} [{incident}] signal={signal}{dump} {progress}", short(name))
        }
        Action::Equip(name, None) => format!("equip {} with nothing", short(name)),
        Action::Equip(name, Some(exports)) => format!("equip {}{}", short(name), exports_text(exports)),
        Action::Hook(id, name, hook) => {
            format!("hook #{id} {} {}", short(name), command_text(&hook.argv.0, detail))
        }
        Action::Await { conditions, .. } => {
            let texts: Vec<_> = conditions.iter().map(ToString::to_string).collect();
            format!("await {}", if texts.is_empty() { "nothing".into() } else { texts.join("; ") })
        }
        Action::Notify(id, delivery) => format!("notify #{id} {}", delivery_text(delivery, zero)),
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

fn command_text(words: &[Arc<str>], detail: Detail) -> String {
    match (detail, words) {
        (Detail::Masked, [program, _, ..]) => format!("{program} {LEFT_OUT}"),
        _ => words.join(" "),
    }
}

fn delivery_text(delivery: &Delivery, zero: Now) -> String {
    let notice = &delivery.notice;
    let mut text = notice.stage.to_string();
    if notice.is_final {
        text.push_str(" final");
    }
    if let (Some(incident), Some(worker)) = (notice.incident, &notice.worker) {
        let _ = write!(text, " [{incident}] {} {}", short(worker), notice.cause);
    }
    if notice.result != IncidentResult::None {
        let _ = write!(text, " {}", notice.result);
    }
    if delivery.attempt > 1 {
        let _ = write!(text, " try={}", delivery.attempt);
    }
    if notice.repeats > 0 {
        let _ = write!(text, " repeats={}", notice.repeats);
    }
    if notice.retry_at != Wall::NEVER {
        let _ = write!(text, " retry-at={}", Span(notice.retry_at.since(zero.wall)).to_string().replace(' ', ""));
    }
    let _ = write!(text, " {:?}, {:?}", notice.text.replace(".service", ""), notice.next.replace(".service", ""));
    if !notice.lines.is_empty() {
        let _ = write!(text, ", lines {:?}", notice.lines);
    }
    text
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
    if let Some(exports) = &start.exports {
        text.push_str(&exports_text(exports));
        if start.tends_checkpoints && exports.checkpoints.is_some() {
            text.push_str(" tended");
        }
    }
    text
}

fn exports_text(exports: &Exports) -> String {
    let variables = exports.variables.iter().map(|(name, value)| format!(" {name}={value}"));
    let checkpoints = exports.checkpoints.iter().map(|checkpoints| format!(" from {}", checkpoints.path));
    variables.chain(checkpoints).collect()
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
