// SPDX-License-Identifier: MIT OR Apache-2.0
//! A verdict about a log, for people and for programs.

use super::Look;
use super::colour::Colour;
use super::escape::escaped;
use crate::engine::cause::Retry;
use crate::engine::classify::Verdict;
use serde_json::{Value, json};
use std::fmt::Write;

/// `subject` is the name of what was judged, `advice` what a person can do.
pub fn block(subject: &str, verdict: &Verdict, advice: &str, look: &Look) -> String {
    let mut text = String::new();
    let cause = verdict.cause;
    let sure = if verdict.confidence > 0 { format!(" ({}% sure)", verdict.confidence) } else { String::new() };
    let colour = if cause.retry() == Retry::None { Colour::Good } else { Colour::Bad };
    let head = format!("{}{sure}", colour.paint(cause.as_str(), look.colour));
    writeln!(text, "{}: {head}: {}", escaped(subject), cause.meaning()).expect("a String takes everything");
    section(&mut text, "Because", &verdict.because);
    section(&mut text, "Followed from it, or stands beside it", &verdict.cascade);
    let also: Vec<String> = verdict.also.iter().map(|other| format!("{other}: {}", other.meaning())).collect();
    section(&mut text, "It may also be", &also);
    section(&mut text, "A restart", &[restart(cause.retry()).to_owned()]);
    if cause.retry() != Retry::None {
        section(&mut text, "Advice", &[format!("{}.", advice.trim_end_matches('.'))]);
    }
    text
}

/// One line for `--quiet`.
pub fn line(verdict: &Verdict) -> String {
    format!("{}\n", verdict.cause)
}

pub fn json(subject: &str, verdict: &Verdict, advice: &str) -> Value {
    let also: Vec<&str> = verdict.also.iter().map(|cause| cause.as_str()).collect();
    json!({
        "Subject": subject,
        "Cause": verdict.cause.as_str(),
        // As on the bus: 0 to 1.
        "Confidence": f64::from(verdict.confidence) / 100.0,
        "Because": verdict.because,
        "Cascade": verdict.cascade,
        "Also": also,
        "Ending": verdict.ending,
        "Retry": verdict.cause.retry().as_str(),
        "Advice": advice,
    })
}

/// A line of `--batch`.
pub fn batch_line(id: &Value, verdict: &Verdict) -> String {
    let also: Vec<&str> = verdict.also.iter().map(|cause| cause.as_str()).collect();
    let line = json!({
        "id": id,
        "cause": verdict.cause.as_str(),
        "confidence": verdict.confidence,
        "also": also,
        "because": verdict.because,
    });
    format!("{line}\n")
}

fn section(text: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    writeln!(text, "{heading}:").expect("a String takes everything");
    for line in lines {
        writeln!(text, "  {}", escaped(line)).expect("a String takes everything");
    }
}

fn restart(retry: Retry) -> &'static str {
    match retry {
        Retry::Transient => "may help without any change.",
        Retry::NeedsChange => "fails the same way; something must change first.",
        Retry::NeedsOperator => "does not help; a person must act first.",
        Retry::None => "is not needed.",
    }
}
