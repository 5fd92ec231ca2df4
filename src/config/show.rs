// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration as text again: each key with its value, as a file would spell it, and the line that set it.

use super::value::ExactSpan;
use crate::engine::policy::{
    AfterSuccess, BackOff, Budget, Layer, OnExhausted, Policy, Setting, Settings, Source, Text,
};

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
    let total = layer.progress_total.as_ref().filter(|total| total.value.is_some());
    let settings = [
        entry("worker.after-success", layer.after_success.as_ref(), after_success),
        entry("progress.notify", layer.progress_notify.as_ref(), bool::to_string),
        entry("progress.total", total, |total| total.unwrap_or(0).to_string()),
        entry("restart.back-off", layer.back_off.as_ref(), back_off),
        entry("restart.budget", layer.budget.as_ref(), budget),
        entry("restart.reset-after", layer.reset_after.as_ref(), span),
        entry("restart.verify", layer.verify.as_ref(), span),
        entry("restart.grace", layer.grace.as_ref(), span),
        entry("restart.on-exhausted", layer.on_exhausted.as_ref(), on_exhausted),
    ];
    let causes = layer.causes.iter().flat_map(|(cause, policy)| {
        let key = |name: &str| format!("cause.{cause}.{name}");
        let entries = [
            entry(&key("action"), policy.action.as_ref(), |action| format!("\"{}\"", action.text())),
            entry(&key("when-running"), policy.when_running.as_ref(), |when| format!("\"{}\"", when.text())),
            entry(&key("count"), policy.count.as_ref(), budget),
        ];
        entries.into_iter().flatten()
    });
    settings.into_iter().flatten().chain(causes).collect()
}

/// A worker's complete policy: every key that has a value, also those that nobody set.
pub fn policy_entries(policy: &Policy) -> Vec<Entry> {
    let policy = policy.clone();
    entries(&Layer {
        after_success: Some(policy.after_success),
        progress_notify: Some(policy.progress_notify),
        progress_total: Some(policy.progress_total),
        back_off: Some(policy.back_off),
        budget: Some(policy.budget),
        reset_after: Some(policy.reset_after),
        verify: Some(policy.verify),
        grace: Some(policy.grace),
        on_exhausted: Some(policy.on_exhausted),
        causes: policy.causes,
        ..Layer::default()
    })
}

/// The settings: every key, with the value that is in force.
pub fn settings_values(settings: &Settings) -> Vec<(&'static str, String)> {
    vec![
        ("manager.dry-run", settings.dry_run.to_string()),
        ("manager.max-jobs", settings.max_jobs.to_string()),
        ("manager.keep-incidents", span(&settings.keep_incidents)),
        ("manager.keep-finished", span(&settings.keep_finished)),
    ]
}

fn entry<T>(key: &str, setting: Option<&Setting<T>>, value: impl Fn(&T) -> String) -> Option<Entry> {
    setting.map(|setting| Entry { key: key.into(), value: value(&setting.value), from: setting.from.clone() })
}

fn span(span: &std::time::Duration) -> String {
    format!("\"{}\"", ExactSpan(*span))
}

fn budget(budget: &Budget) -> String {
    format!("\"{}/{}\"", budget.attempts, ExactSpan(budget.window))
}

fn back_off(back_off: &BackOff) -> String {
    if back_off.first == back_off.cap {
        return span(&back_off.cap);
    }
    format!("\"{}..{}\"", ExactSpan(back_off.first), ExactSpan(back_off.cap))
}

fn after_success(after: &AfterSuccess) -> String {
    match after {
        AfterSuccess::Complete => "\"complete\"".into(),
        AfterSuccess::Restart => "\"restart\"".into(),
    }
}

fn on_exhausted(on_exhausted: &OnExhausted) -> String {
    match on_exhausted {
        OnExhausted::Quarantine => "\"quarantine\"".into(),
        OnExhausted::Stop => "\"stop\"".into(),
    }
}
