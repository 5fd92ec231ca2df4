// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the policy files and the settings, and says exactly what is wrong with them.
//!
//! A file is used whole or not at all. At start a broken file is left out; on reload the last good policy of that file
//! stays in force. Nothing here acts, and nothing here knows which units exist.

mod check;
mod dirs;
mod value;

#[cfg(test)]
mod tests;

pub use check::SETTINGS_KEYS;

use crate::engine::policy::{Layer, Policies, Settings, UnitPattern};
use check::Checker;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use value::span;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    System,
    User,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is said, and the file is used.
    Warning,
    /// The file is not used.
    Error,
}

/// What is wrong, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub severity: Severity,
    pub file: String,
    /// From 1; zero if it is about the whole file.
    pub line: usize,
    /// From 1; zero if it is about the whole file.
    pub column: usize,
    /// `restart.budget`; empty if it is about no key.
    pub key: String,
    pub text: String,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub policies: Policies,
    pub complaints: Vec<Complaint>,
    /// Every file that counts, in reading order.
    pub files: Vec<PathBuf>,
    layers: BTreeMap<PathBuf, Arc<Layer>>,
}

impl Complaint {
    fn about_file(severity: Severity, file: &Path, text: String) -> Complaint {
        let file = file.display().to_string();
        Complaint { severity, file, line: 0, column: 0, key: String::new(), text }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Reads everything below `root`.
pub fn load(mode: Mode, root: &Path) -> Loaded {
    load_over(&Loaded::default(), mode, root)
}

/// Reads everything anew; a file that is broken now keeps the policy that it had in `previous`.
pub fn load_over(previous: &Loaded, mode: Mode, root: &Path) -> Loaded {
    let directories = dirs::search_path(mode, root);
    let mut loaded = Loaded::default();
    loaded.policies.settings = Settings::default();
    if let Some(file) = dirs::find(&directories, "watcherd.toml") {
        match read_settings(&file, &mut loaded.complaints) {
            Some(settings) => loaded.policies.settings = settings,
            None => loaded.policies.settings = previous.policies.settings.clone(),
        }
        loaded.files.push(file);
    }
    for file in dirs::list(&directories, "workers.d", &mut loaded.complaints) {
        let layer = match read_layer(&file, &mut loaded.complaints) {
            Some(layer) => Some(Arc::new(layer)),
            None => keep(previous, &file, &mut loaded.complaints),
        };
        if let Some(layer) = layer {
            loaded.policies.layers.push(Arc::clone(&layer));
            loaded.layers.insert(file.clone(), layer);
        }
        loaded.files.push(file);
    }
    later_directories(&directories, &mut loaded);
    overlaps(&loaded.policies, &mut loaded.complaints);
    loaded
}

fn keep(previous: &Loaded, file: &Path, complaints: &mut Vec<Complaint>) -> Option<Arc<Layer>> {
    let former = previous.layers.get(file)?;
    let text = "its last good policy stays in force".into();
    complaints.push(Complaint::about_file(Severity::Warning, file, text));
    Some(Arc::clone(former))
}

/// Kinds of files that later versions read.
fn later_directories(directories: &[PathBuf], loaded: &mut Loaded) {
    for sub in ["pools.d", "limits.d", "rules.d"] {
        for file in dirs::list(directories, sub, &mut Vec::new()) {
            let text = format!("{sub} is not supported by this version and has no effect");
            loaded.complaints.push(Complaint::about_file(Severity::Warning, &file, text));
        }
    }
}

fn read_settings(file: &Path, complaints: &mut Vec<Complaint>) -> Option<Settings> {
    let name = file.display().to_string();
    let text = read(file, complaints)?;
    let mut checker = Checker::new(&name, &text, None);
    let settings = checker.settings();
    complaints.append(&mut checker.complaints);
    settings
}

fn read_layer(file: &Path, complaints: &mut Vec<Complaint>) -> Option<Layer> {
    let name = file.display().to_string();
    let text = read(file, complaints)?;
    let mut checker = Checker::new(&name, &text, None);
    let layer = checker.layer();
    complaints.append(&mut checker.complaints);
    let layer = layer?;
    if layer.units.is_empty() {
        let text = "[worker] names no unit; `unit = \"NAME.service\"` or `units = […]` is needed".into();
        complaints.push(Complaint::about_file(Severity::Error, file, text));
        return None;
    }
    Some(layer)
}

fn read(file: &Path, complaints: &mut Vec<Complaint>) -> Option<String> {
    dirs::read(file).map_err(|text| complaints.push(Complaint::about_file(Severity::Error, file, text))).ok()
}

/// Says which units are named by more than one file, and which file wins.
fn overlaps(policies: &Policies, complaints: &mut Vec<Complaint>) {
    for (at, later) in policies.layers.iter().enumerate() {
        for pattern in &later.units {
            let matches = |other: &UnitPattern| match (pattern.value.exact(), other.exact()) {
                (Some(name), _) => other.matches(&name),
                (None, Some(name)) => pattern.value.matches(&name),
                (None, None) => *other == pattern.value,
            };
            let earlier = policies.layers[..at].iter().flat_map(|layer| &layer.units);
            if let Some(other) = earlier.clone().find(|other| matches(&other.value)) {
                let (file, line) = split_source(&pattern.from.0);
                let text = format!(
                    "{} is also matched by {} ({}); what this file says wins",
                    pattern.value, other.from, other.value
                );
                complaints.push(Complaint {
                    severity: Severity::Warning,
                    file,
                    line,
                    column: 0,
                    key: "worker.units".into(),
                    text,
                });
            }
        }
    }
}

fn split_source(source: &str) -> (String, usize) {
    match source.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
        Some((file, line)) => (file.to_owned(), line),
        None => (source.to_owned(), 0),
    }
}

/// Checks files, or all files below directories, or (without any path) everything that the daemon would read.
pub fn check_paths(mode: Mode, root: &Path, paths: &[PathBuf]) -> Vec<Complaint> {
    if paths.is_empty() {
        return load(mode, root).complaints;
    }
    let mut complaints = Vec::new();
    for path in paths {
        if path.is_dir() {
            let holds_policies = path.file_name().is_some_and(|name| name == "workers.d");
            let sub = if holds_policies { "" } else { "workers.d" };
            for file in dirs::list(std::slice::from_ref(path), sub, &mut complaints) {
                read_layer(&file, &mut complaints);
            }
            if path.join("watcherd.toml").exists() {
                read_settings(&path.join("watcherd.toml"), &mut complaints);
            }
        } else if path.file_name().is_some_and(|name| name == "watcherd.toml") {
            read_settings(path, &mut complaints);
        } else {
            read_layer(path, &mut complaints);
        }
    }
    complaints
}

/// The files that count with their text, or why they cannot be read.
pub fn texts(loaded: &Loaded) -> Vec<(PathBuf, Result<String, String>)> {
    loaded.files.iter().map(|file| (file.clone(), dirs::read(file))).collect()
}

/// Reads settings that came as dotted keys and texts, from `watcherctl run` or over D-Bus.
///
/// `what` stands for the file in messages and as the source of the values.
pub fn own_layer(pairs: &[(String, String)], what: &str) -> Result<Layer, Complaint> {
    let wrong = |key: &str, text: String| Complaint {
        severity: Severity::Error,
        file: what.to_owned(),
        line: 0,
        column: 0,
        key: key.chars().take(80).filter(|c| !c.is_control()).collect(),
        text,
    };
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, value) in pairs {
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        let split = key.rsplit_once('.').filter(|(table, name)| plain && !table.is_empty() && !name.is_empty());
        let Some((table, name)) = split else {
            return Err(wrong(key, "is not a key such as \"restart.budget\"".into()));
        };
        if table == "worker" && name.starts_with("unit") {
            return Err(wrong(key, "the unit is given already".into()));
        }
        if value.contains(char::is_control) {
            return Err(wrong(key, "control characters are not allowed".into()));
        }
        tables.entry(table).or_default().push(format!("{name} = {}", toml::Value::String(value.clone())));
    }
    let text: String =
        tables.iter().map(|(table, rows)| format!("[{table}]\n{}\n", rows.join("\n"))).collect();
    let mut checker = Checker::new(what, &text, Some(what));
    let layer = checker.layer();
    // A key that has no effect is an error here: nobody reads a log after typing a command.
    if let Some(complaint) = checker.complaints.into_iter().max_by_key(|complaint| complaint.severity) {
        return Err(complaint);
    }
    match layer {
        Some(layer) => Ok(Layer { file: String::new(), written: pairs.to_vec(), ..layer }),
        None => Err(wrong("", "cannot be read".into())),
    }
}
