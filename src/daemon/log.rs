// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own log: the journal with its fields where there is one, else stderr; and the story of the workers.

use super::options::Scope;
use crate::api::LogLevel;
use crate::engine::action::{Entry, Level};
use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level while the daemon runs.
pub struct Logger {
    level: reload::Handle<LevelFilter, Registry>,
    /// `journal` or `console`.
    pub target: &'static str,
}

/// Starts logging. Where stderr goes to the journal already, lines are sent there with their fields.
pub fn start(level: LogLevel) -> Logger {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some().then(journal).flatten();
    let target = if journal.is_some() { "journal" } else { "console" };
    match journal {
        Some(layer) => registry.with(layer).init(),
        None => registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).init(),
    }
    Logger { level: handle, target }
}

fn journal() -> Option<tracing_journald::Layer> {
    let layer = tracing_journald::layer().ok()?;
    let priorities = PriorityMappings { info: Priority::Informational, ..PriorityMappings::new() };
    Some(layer.with_field_prefix(None).with_syslog_identifier("watcherd".into()).with_priority_mappings(priorities))
}

impl Logger {
    pub fn set_level(&self, level: LogLevel) {
        // Fails only after the subscriber is gone, when nobody listens any more.
        let _ = self.level.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Emerg | LogLevel::Alert | LogLevel::Crit | LogLevel::Err => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Notice | LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Writes one line of the story. The worker's own log shows it too: journald lets root speak about another unit with
/// OBJECT_SYSTEMD_UNIT=, see systemd.journal-fields(7).
pub fn record(entry: &Entry, scope: Scope) {
    let unit = entry.worker.as_ref().map(|worker| worker.unit().to_owned());
    let (system_unit, user_unit) = match scope {
        Scope::System => (unit.as_deref(), None),
        Scope::User => (None, unit.as_deref()),
    };
    let incident = entry.incident.map(|id| id.0);
    let cause = entry.cause.map(|cause| cause.as_str());
    let confidence = entry.confidence.map(u64::from);
    let run = entry.run.map(|run| run.to_string());
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                MESSAGE_ID = entry.message_id(),
                OBJECT_SYSTEMD_UNIT = system_unit,
                OBJECT_SYSTEMD_USER_UNIT = user_unit,
                WATCHERD_WORKER = entry.worker.as_ref().map(|worker| worker.as_str()),
                WATCHERD_INCIDENT = incident,
                WATCHERD_CAUSE = cause,
                WATCHERD_CONFIDENCE = confidence,
                WATCHERD_REMEDY = entry.remedy,
                WATCHERD_ATTEMPT = entry.attempt,
                WATCHERD_RUN = run.as_deref(),
                WATCHERD_CALLER_UID = entry.caller,
                "{}",
                entry.text
            )
        };
    }
    match entry.kind.level() {
        Level::Info => tell!(info),
        Level::Warning => tell!(warn),
        Level::Error => tell!(error),
    }
}
