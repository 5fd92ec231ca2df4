// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration as text again: each key with its value, as a file would spell it, and the line that set it.

use super::given::{Given, with_value};
use super::value::ExactSpan;
use crate::engine::action::Verify;
use crate::engine::condition::Condition;
use crate::engine::pace::StallAfter;
use crate::engine::policy::remedy::{Assignments, Names, Remedy, Scales};
use crate::engine::policy::{
    AfterSuccess, BackOff, Budget, CauseAction, CommandLine, DumpSignal, Layer, Leftovers, OnExhausted, Percent,
    Policy, Setting, Settings, Size, Source, Text, Total, WhenRunning,
};
use crate::engine::until::Until;
use std::sync::Arc;
use std::time::Duration;

/// One key that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As `table.key`.
    pub key: String,
    /// As a policy file spells it, with quotes around texts.
    pub value: String,
    pub from: Source,
}

/// What one file, or one `watcherctl run`, sets; without its unit patterns.
pub fn entries(layer: &Layer) -> Vec<Entry> {
    let settings = [
        entry("worker.dry-run", &layer.dry_run),
        entry("worker.after-success", &layer.after_success),
        entry("worker.notify", &layer.notify),
        entry("progress.notify", &layer.progress_notify),
        entry("progress.file", &layer.progress_file),
        entry("progress.count", &layer.progress_count),
        entry("progress.mtime", &layer.progress_mtime),
        entry("progress.http", &layer.progress_http),
        entry("progress.command", &layer.progress_command),
        entry("progress.journal", &layer.progress_journal),
        entry("progress.every", &layer.progress_every),
        entry("progress.heartbeat", &layer.progress_heartbeat),
        entry("progress.total", &layer.progress_total),
        entry("progress.value", &layer.progress_value),
        entry("progress.active", &layer.progress_active),
        entry("progress.pending", &layer.progress_pending),
        entry("progress.failed", &layer.progress_failed),
        entry("progress.completed", &layer.progress_completed),
        entry("progress.cursor", &layer.progress_cursor),
        entry("progress.stage", &layer.progress_stage),
        entry("progress.stall-after", &layer.stall_after),
        entry("progress.stall-min", &layer.stall_min),
        entry("progress.stall-max", &layer.stall_max),
        entry("progress.suspect-after", &layer.suspect_after),
        entry("progress.warm-up", &layer.warm_up),
        entry("progress.stalled-when", &layer.stalled_when),
        entry("progress.strikes", &layer.strikes),
        entry("progress.complete-when", &layer.complete_when),
        entry("progress.report", &layer.progress_report),
        entry("limits.memory", &layer.limit_memory),
        entry("limits.cpu", &layer.limit_cpu),
        entry("limits.for", &layer.limit_for),
        entry("restart.back-off", &layer.back_off),
        entry("restart.budget", &layer.budget),
        entry("restart.reset-after", &layer.reset_after),
        entry("restart.verify", &layer.verify),
        entry("restart.same-cause", &layer.same_cause),
        entry("restart.by-verdict", &layer.by_verdict),
        entry("restart.cooldown", &layer.cooldown),
        entry("restart.restore-after", &layer.restore_after),
        entry("restart.leftovers", &layer.leftovers),
        entry("restart.settle", &layer.settle),
        entry("restart.then", &layer.then),
        entry("restart.then-retries", &layer.then_retries),
        entry("restart.then-within", &layer.then_within),
        entry("restart.grace", &layer.grace),
        entry("restart.dump-signal", &layer.dump_signal),
        entry("restart.dump-grace", &layer.dump_grace),
        entry("restart.dump-command", &layer.dump_command),
        entry("restart.on-exhausted", &layer.on_exhausted),
        entry("checkpoints.path", &layer.checkpoints_path),
        entry("checkpoints.keep", &layer.checkpoints_keep),
        entry("checkpoints.max-age", &layer.checkpoints_max_age),
        entry("checkpoints.verify", &layer.checkpoints_verify),
    ];
    let causes = layer.causes.iter().flat_map(|(cause, policy)| {
        let key = |name: &str| format!("cause.{cause}.{name}");
        let entries = [
            entry(&key("action"), &policy.action),
            entry(&key("when-running"), &policy.when_running),
            entry(&key("count"), &policy.count),
            entry(&key("back-off"), &policy.back_off),
            entry(&key("budget"), &policy.budget),
            entry(&key("until"), &policy.until),
            entry(&key("set"), &policy.set),
            entry(&key("scale"), &policy.scale),
            entry(&key("unset"), &policy.unset),
            entry(&key("max-attempts"), &policy.max_attempts),
            entry(&key("try-next"), &policy.try_next),
        ];
        entries.into_iter().flatten()
    });
    let parameters = layer.parameters.iter().map(|(name, setting)| Entry {
        key: format!("parameters.{name}"),
        value: setting.value.text(),
        from: setting.from.clone(),
    });
    settings.into_iter().flatten().chain(causes).chain(parameters).collect()
}

/// A value as a command line would give it: a text without its quotes.
pub fn argument(value: &str) -> String {
    let text = with_value(Given::Argument(value), |given| match given {
        Given::Text(text) => Ok(text.to_owned()),
        _ => Err(String::new()),
    });
    text.unwrap_or_else(|_| value.to_owned())
}

/// A worker's complete policy: every key that has a value, also those that nobody set.
pub fn policy_entries(policy: &Policy) -> Vec<Entry> {
    entries(&Layer::from(policy))
}

/// The settings: every key, with the value that is in force.
pub fn settings_values(settings: &Settings) -> Vec<(&'static str, String)> {
    let manager = vec![
        ("manager.dry-run", settings.dry_run.to_string()),
        ("manager.max-jobs", settings.max_jobs.to_string()),
        ("manager.keep-incidents", span(&settings.keep_incidents)),
        ("manager.keep-finished", span(&settings.keep_finished)),
        ("manager.record", settings.record.as_deref().map(quoted).unwrap_or_default()),
    ];
    manager.into_iter().chain(super::notify::values(&settings.notify)).collect()
}

fn entry<T: Shown>(key: &str, setting: &Option<Setting<T>>) -> Option<Entry> {
    let setting = setting.as_ref()?;
    Some(Entry { key: key.into(), value: setting.value.shown()?, from: setting.from.clone() })
}

pub(super) fn span(span: &Duration) -> String {
    format!("\"{}\"", ExactSpan(*span))
}

pub(super) fn pauses(pauses: &BackOff) -> String {
    match pauses {
        BackOff { first, cap } if first == cap => span(cap),
        BackOff { first, cap } => format!("\"{}..{}\"", ExactSpan(*first), ExactSpan(*cap)),
    }
}

/// A value as a policy file spells it; `None` if nothing is set.
trait Shown {
    fn shown(&self) -> Option<String>;
}

macro_rules! shown {
    ($($type:ty: $value:ident => $text:expr;)*) => {
        $(impl Shown for $type {
            fn shown(&self) -> Option<String> {
                let $value = self;
                Some($text)
            }
        })*
    };
}

shown! {
    bool: truth => truth.to_string();
    u32: number => number.to_string();
    Duration: time => span(time);
    // In full: what is printed is read again.
    Size: size => quoted(&exact_size(size.0));
    Percent: percent => quoted(&format!("{}%", percent.0));
    Arc<str>: text => quoted(text);
    Condition: rule => quoted(&rule.to_string());
    CommandLine: command => Some(command.clone()).text();
    Total: total => match total {
        Total::Number(number) => number.to_string(),
        Total::Field(field) => quoted(field),
    };
    StallAfter: after => match after {
        StallAfter::After(time) => span(time),
        other => quoted(&other.text()),
    };
    Budget: budget => format!("\"{}/{}\"", budget.attempts, ExactSpan(budget.window));
    BackOff: both => pauses(both);
    DumpSignal: signal => quoted(&signal.text());
    AfterSuccess: after => quoted(&after.text());
    OnExhausted: what => quoted(&what.text());
    CauseAction: action => quoted(&action.text());
    WhenRunning: when => quoted(&when.text());
    Leftovers: what => quoted(&what.text());
    Verify: how => match how {
        Verify::Command(command) => Some(command.clone()).text(),
        word => quoted(&word.text()),
    };
    Until: until => quoted(&match until {
        Until::Free(path, bytes) => format!("free({path}) > {}", exact_size(*bytes)),
        Until::GpuFree(bytes) => format!("gpu-free({})", exact_size(*bytes)),
        other => other.to_string(),
    });
    Assignments: values => values.text();
    Scales: scales => scales.text();
    Names: names => names.text();
    Vec<Remedy>: ladder => ladder.text();
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(Shown::shown)
    }
}

/// With the largest suffix that loses nothing.
fn exact_size(bytes: u64) -> String {
    let suffixes = [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let fits = |(_, shift): &(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= *shift;
    match suffixes.into_iter().find(fits) {
        Some((suffix, shift)) => format!("{}{suffix}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Patterns are full of backslashes, which literal strings keep.
fn quoted(text: &str) -> String {
    if text.contains('\\') && !text.contains('\'') { format!("'{text}'") } else { format!("{text:?}") }
}
