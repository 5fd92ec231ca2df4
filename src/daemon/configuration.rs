// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration in force: read at start and on reload; a broken file keeps its last good policy.

use super::options::Scope;
use crate::api::PlanRow;
use crate::config::{self, Complaint, Loaded, Mode, Severity};
use crate::engine::policy::{Layer, Policies};
use crate::engine::time::Wall;
use crate::engine::{Change, Engine};
use crate::rules::Rules;
use std::path::PathBuf;
use std::sync::Arc;

pub struct Configuration {
    mode: Mode,
    root: PathBuf,
    loaded: Loaded,
    /// When it was read.
    pub read: Wall,
}

impl Configuration {
    pub fn read(scope: Scope, root: PathBuf, now: Wall) -> Configuration {
        let mode = match scope {
            Scope::System => Mode::System,
            Scope::User => Mode::User,
        };
        let loaded = config::load(mode, &root);
        Configuration { mode, root, loaded, read: now }
    }

    pub fn policies(&self) -> Policies {
        self.loaded.policies.clone()
    }

    pub fn rules(&self) -> Arc<Rules> {
        self.loaded.rules()
    }

    pub fn complaints(&self) -> &[Complaint] {
        &self.loaded.complaints
    }

    /// What is not in force, one sentence each.
    pub fn degraded(&self) -> Vec<String> {
        let errors = self.loaded.complaints.iter().filter(|complaint| complaint.severity == Severity::Error);
        errors.map(ToString::to_string).collect()
    }

    /// Reads the files anew, without putting them in force.
    pub fn fresh(&self, now: Wall) -> Configuration {
        let loaded = config::load_over(&self.loaded, self.mode, &self.root);
        Configuration { mode: self.mode, root: self.root.clone(), loaded, read: now }
    }
}

/// What putting `fresh` in force instead of `old` changes, and what is wrong with its files.
pub fn plan(engine: &Engine, old: &Configuration, fresh: &Configuration) -> Vec<PlanRow> {
    let files = fresh.complaints().iter().map(|complaint| PlanRow::File {
        file: complaint.file.clone(),
        change: match complaint.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        text: complaint.to_string(),
    });
    let changed = old.loaded.changed(&fresh.loaded).into_iter().map(|path| PlanRow::File {
        file: path.display().to_string(),
        change: "change",
        text: String::new(),
    });
    let units = engine.plan(&fresh.loaded.policies).into_iter().map(|row| {
        let change = match row.change {
            Change::Add => "add",
            Change::Remove => "remove",
            Change::Change => "change",
            Change::Unchanged => "unchanged",
        };
        let keys: Vec<String> = row.keys.iter().map(|key| (*key).to_owned()).collect();
        let text = if keys.is_empty() { String::new() } else { keys.join(", ") };
        PlanRow::Unit { unit: row.unit, change, keys, text }
    });
    let idle =
        engine.idle_layers().into_iter().filter(|file| fresh.loaded.policies.layers.iter().any(|l| l.file == *file));
    let idle = idle.map(|file| PlanRow::File {
        text: format!("{file}: matches no unit that systemd has loaded"),
        file,
        change: "warning",
    });
    files.chain(idle).chain(changed).chain(units).collect()
}

/// Reads the policy that came with `adopt` or `run`.
pub fn own_layer(pairs: &[(String, String)], what: &str) -> Result<Layer, String> {
    config::own_layer(pairs, what).map_err(|complaint| complaint.to_string())
}
