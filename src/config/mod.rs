// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the admin wrote, read and checked: the search path, each file, each key, and every complaint with its line.
//!
//! A broken file is refused as a whole and alone: all others count. On a reload the last good policy of a file that is
//! broken now stays in force. An empty configuration is nothing to complain about. Nothing here decides what a policy
//! means, and nothing is written.

mod check;
mod checkpoints;
pub mod complaint;
pub mod dirs;
mod given;
pub mod keys;
mod notify;
mod overlap;
mod progress;
mod remedy;
pub mod show;
pub mod value;

#[cfg(test)]
mod tests;

pub use check::{COMPLAINTS_MAX, PATTERNS_MAX, layer_of, own_layer, settings_of};
pub use complaint::{Complaint, Severity};
pub use dirs::{Mode, search_path};

use crate::engine::policy::{Layer, Policies, Settings};
use crate::rules::{Examples, Fault, PACKAGED, Rule, RuleFile, Rules};
use check::SettingsLine;
use dirs::{Found, RULES_DIR, SETTINGS_FILE, UNSUPPORTED_DIRS, WORKERS_DIR, shown};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one look at the configuration found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub policies: Policies,
    /// In the order of the files, and of the lines within each.
    pub complaints: Vec<Complaint>,
    /// The files that count, the settings first, then by name.
    pub files: Vec<FileState>,
    /// The configuration of apprise, where there is one; only the unit that sends reads it.
    apprise: Option<PathBuf>,
}

/// A file that counts, and what became of it.
#[derive(Clone, Debug)]
pub struct FileState {
    /// `watcherd.toml`, `workers.d/NAME` or `rules.d/NAME`, the same for each directory of the search path.
    pub name: String,
    pub path: PathBuf,
    pub status: FileStatus,
    /// What is in force of it.
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStatus {
    Good,
    /// A symlink to /dev/null.
    Masked,
    /// Refused; nothing of it is in force.
    Refused,
    /// Refused; what it said when it was last good is in force.
    Kept,
}

#[derive(Clone, Debug)]
enum Content {
    Nothing,
    Layer(Arc<Layer>),
    Settings(Box<Settings>, Vec<SettingsLine>),
    Rules(Arc<Vec<Rule>>),
}

/// What a file, or its absence, puts in force besides policies.
#[derive(PartialEq)]
enum InForce<'a> {
    Nothing,
    Settings(&'a Settings),
    Rules(&'a [Rule]),
    /// The package's rules of that name, which no file of the admin's hides.
    Packaged,
}

impl Loaded {
    /// The rules in force: those of the package, less files that the admin masks or replaces, and those of the admin.
    pub fn rules(&self) -> Arc<Rules> {
        let own = |name: &str| self.files.iter().any(|file| file.name.strip_prefix("rules.d/") == Some(name));
        let mut rules = Vec::new();
        for (name, text) in PACKAGED.iter().filter(|(name, _)| !own(name)) {
            rules.extend(RuleFile::parse(name, text, Examples::Skip).rules);
        }
        for file in &self.files {
            if let Content::Rules(own) = &file.content {
                rules.extend(own.iter().cloned());
            }
        }
        Rules::new(rules)
    }

    /// The files with settings or rules of which `fresh` puts something else in force; policies show in their workers.
    pub fn changed(&self, fresh: &Loaded) -> Vec<PathBuf> {
        let gone = self.files.iter().filter(|file| !fresh.files.iter().any(|other| other.name == file.name));
        let files =
            fresh.files.iter().chain(gone).filter(|file| self.in_force(&file.name) != fresh.in_force(&file.name));
        let apprise = [&self.apprise, &fresh.apprise].into_iter().flatten();
        let apprise = apprise.filter(|_| self.apprise.is_some() != fresh.apprise.is_some());
        files.map(|file| &file.path).chain(apprise).cloned().collect()
    }

    fn in_force(&self, name: &str) -> InForce<'_> {
        let Some(file) = self.files.iter().find(|file| file.name == name) else {
            let packaged = PACKAGED.iter().any(|(packaged, _)| name.strip_prefix("rules.d/") == Some(*packaged));
            return if packaged { InForce::Packaged } else { InForce::Nothing };
        };
        match &file.content {
            Content::Settings(settings, _) if **settings != Settings::default() => InForce::Settings(settings),
            Content::Rules(rules) if !rules.is_empty() => InForce::Rules(rules),
            _ => InForce::Nothing,
        }
    }

    /// The complaints because of which a file is refused: the daemon is degraded while there are any.
    pub fn errors(&self) -> impl Iterator<Item = &Complaint> {
        self.complaints.iter().filter(|complaint| complaint.is_error())
    }

    /// What is in force, file by file: `key = value  # FILE:LINE`.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let note = match file.status {
                FileStatus::Good => "",
                FileStatus::Masked => "  (masked)",
                FileStatus::Refused => "  (refused)",
                FileStatus::Kept => "  (refused, what was read before stays in force)",
            };
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{gap}# {}{note}", shown(&file.path));
            text.push_str(&file.content.lines());
        }
        text
    }
}

impl Content {
    fn lines(&self) -> String {
        let mut lines = Vec::new();
        match self {
            Content::Nothing => {}
            Content::Layer(layer) => {
                lines
                    .extend(layer.units.iter().map(|unit| ("worker.units", format!("\"{}\"", unit.value), &unit.from)));
                let mut text = joined(&lines);
                for entry in show::entries(layer) {
                    text.push_str(&joined(&[(&entry.key, entry.value, &entry.from)]));
                }
                return text;
            }
            Content::Rules(rules) => {
                return rules
                    .iter()
                    .map(|rule| format!("rule {} = {}  # {}\n", rule.name, rule.cause, rule.from))
                    .collect();
            }
            Content::Settings(settings, set) => {
                let values: HashMap<_, _> = show::settings_values(settings).into_iter().collect();
                lines.extend(set.iter().map(|(key, from)| (*key, values.get(key).cloned().unwrap_or_default(), from)));
            }
        }
        joined(&lines)
    }
}

fn about_rule(path: &Path, fault: Fault) -> Complaint {
    let severity = if fault.mild { Severity::Warning } else { Severity::Error };
    Complaint { severity, file: shown(path), line: fault.line, column: fault.column, key: fault.key, text: fault.text }
}

fn joined(lines: &[(&str, String, &crate::engine::policy::Source)]) -> String {
    lines.iter().map(|(key, value, from)| format!("{key} = {value}  # {from}\n")).collect()
}

/// Reads the configuration below `root`, which is `/` except in tests and for images.
pub fn load(mode: Mode, root: &Path) -> Loaded {
    load_dirs(&search_path(mode, root), None)
}

/// Reads the configuration in a directory that somebody named: one with `workers.d` or `watcherd.toml` in it, or a root.
pub fn load_tree(mode: Mode, path: &Path) -> Loaded {
    let is_one = [WORKERS_DIR, RULES_DIR, SETTINGS_FILE].iter().any(|below| path.join(below).exists());
    if is_one { load_dirs(&[path.to_owned()], None) } else { load(mode, path) }
}

/// Reads the configuration again. Where a file is broken now, what `previous` read from it stays in force.
pub fn load_over(previous: &Loaded, mode: Mode, root: &Path) -> Loaded {
    load_dirs(&search_path(mode, root), Some(previous))
}

/// Checks files and directories that somebody named, or the whole configuration if there are none.
///
/// A directory is either one of the search path or one that holds policy files.
pub fn check_paths(paths: &[PathBuf], mode: Mode, root: &Path) -> Vec<Complaint> {
    if paths.is_empty() {
        return load(mode, root).complaints;
    }
    let mut loaded = Loaded::default();
    for path in paths {
        if !path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            loaded.add(Found { name, path: path.clone(), masked: false }, None);
        } else if [WORKERS_DIR, RULES_DIR].iter().any(|below| path.join(below).exists())
            || path.join(SETTINGS_FILE).exists()
        {
            loaded.add_listing(dirs::list(std::slice::from_ref(path)), None);
        } else {
            loaded.add_listing(dirs::list_one(path), None);
        }
    }
    loaded.finish().complaints
}

/// The files that count, each with its path as a comment before its text, as `systemctl cat` prints units.
///
/// The complaints are about files that cannot be read.
pub fn cat(mode: Mode, root: &Path) -> (String, Vec<Complaint>) {
    let listing = dirs::list(&search_path(mode, root));
    let (mut all, mut complaints) = (String::new(), listing.complaints);
    for file in listing.settings.iter().chain(&listing.rules).chain(&listing.workers) {
        let gap = if all.is_empty() { "" } else { "\n" };
        if file.masked {
            let _ = writeln!(all, "{gap}# {} (masked)", shown(&file.path));
            continue;
        }
        match dirs::read(&file.path) {
            Ok(read) => {
                let _ = writeln!(all, "{gap}# {}", shown(&file.path));
                // A terminal would obey control characters.
                all.extend(
                    read.text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }),
                );
                if !all.ends_with('\n') {
                    all.push('\n');
                }
            }
            Err(complaint) => complaints.push(complaint),
        }
    }
    (all, complaints)
}

fn load_dirs(search: &[PathBuf], previous: Option<&Loaded>) -> Loaded {
    let mut loaded = Loaded::default();
    loaded.add_listing(dirs::list(search), previous);
    if let Some((path, complaint)) = search.first().and_then(|directory| notify::find_apprise(directory)) {
        loaded.policies.settings.notify.ways.apprise = true;
        loaded.complaints.extend(complaint);
        loaded.apprise = Some(path);
    }
    loaded.finish()
}

impl Loaded {
    fn add_listing(&mut self, listing: dirs::Listing, previous: Option<&Loaded>) {
        self.complaints.extend(listing.complaints);
        let mut found: Vec<Found> = listing.settings.into_iter().chain(listing.workers).chain(listing.rules).collect();
        // What was in a directory that cannot be listed now is still there as far as anybody knows.
        for file in previous.iter().flat_map(|previous| &previous.files) {
            let hidden = file.path.parent().is_some_and(|dir| listing.unread.iter().any(|unread| unread == dir));
            if hidden && found.iter().all(|known| known.name != file.name) {
                found.push(Found { name: file.name.clone(), path: file.path.clone(), masked: false });
            }
        }
        found.sort_by_key(|file| (file.name != SETTINGS_FILE, file.name.clone()));
        for file in found {
            self.add(file, previous);
        }
    }

    fn add(&mut self, found: Found, previous: Option<&Loaded>) {
        let Found { name, path, masked } = found;
        let (mut status, mut content) = (FileStatus::Masked, Content::Nothing);
        if !masked {
            (status, content) = self.read(&path);
        }
        if status == FileStatus::Refused
            && let Some(before) = previous.and_then(|previous| previous.last_good(&name))
        {
            let text = "the policy that was last good stays in force";
            self.complaints.push(Complaint::about(Severity::Warning, shown(&path), text));
            (status, content) = (FileStatus::Kept, before.clone());
        }
        match &content {
            Content::Nothing | Content::Rules(_) => {}
            Content::Layer(layer) => self.policies.layers.push(layer.clone()),
            Content::Settings(settings, _) => self.policies.settings = (**settings).clone(),
        }
        self.files.push(FileState { name, path, status, content });
    }

    fn read(&mut self, path: &Path) -> (FileStatus, Content) {
        let parent = path.parent().and_then(Path::file_name);
        if let Some(dir) = UNSUPPORTED_DIRS.iter().find(|dir| parent.is_some_and(|parent| parent == **dir)) {
            let text = format!("files in {dir} are not supported by this version and have no effect");
            self.complaints.push(Complaint::about(Severity::Warning, shown(path), text));
            return (FileStatus::Good, Content::Nothing);
        }
        let read = match dirs::read(path) {
            Ok(read) => read,
            Err(complaint) => {
                self.complaints.push(complaint);
                return (FileStatus::Refused, Content::Nothing);
            }
        };
        if read.world_writable {
            let text = "everybody may write to this file, and so decide what is restarted; run chmod o-w";
            self.complaints.push(Complaint::about(Severity::Warning, shown(path), text));
        }
        let (refused, complaints, content) = if path.file_name().is_some_and(|name| name == SETTINGS_FILE) {
            let checked = check::settings_file(path, &read.text);
            let content = checked.content.map(|(settings, lines)| Content::Settings(settings.into(), lines));
            (checked.refused, checked.complaints, content)
        } else if parent.is_some_and(|parent| parent == RULES_DIR) {
            let file = RuleFile::parse(&shown(path), &read.text, Examples::Prove);
            let complaints: Vec<Complaint> = file.faults.into_iter().map(|fault| about_rule(path, fault)).collect();
            (complaints.iter().any(Complaint::is_error), complaints, Some(Content::Rules(Arc::new(file.rules))))
        } else {
            let checked = check::worker_file(path, &read.text);
            (checked.refused, checked.complaints, checked.content.map(|layer| Content::Layer(layer.into())))
        };
        self.complaints.extend(complaints);
        (
            if refused { FileStatus::Refused } else { FileStatus::Good },
            content.filter(|_| !refused).unwrap_or(Content::Nothing),
        )
    }

    /// Rules of the admin that name others which do not exist.
    fn unknown_rules(&self) -> Vec<Complaint> {
        if !self.files.iter().any(|file| matches!(file.content, Content::Rules(_))) {
            return Vec::new();
        }
        let all = self.rules();
        let mut complaints = Vec::new();
        for file in &self.files {
            let Content::Rules(rules) = &file.content else { continue };
            for rule in rules.iter() {
                for name in rule.needs.iter().chain(&rule.unless).filter(|name| all.rule(name).is_none()) {
                    let text = format!("{}: there is no rule {name:?}", rule.name);
                    complaints.push(Complaint::about(Severity::Warning, rule.from.clone(), text));
                }
            }
        }
        complaints
    }

    /// What was in force of the file of this name, wherever on the search path it was.
    fn last_good(&self, name: &str) -> Option<&Content> {
        let file = self.files.iter().find(|file| file.name == name)?;
        matches!(file.status, FileStatus::Good | FileStatus::Kept).then_some(&file.content)
    }

    fn finish(mut self) -> Loaded {
        self.complaints.extend(self.unknown_rules());
        self.complaints.extend(overlap::overlaps(&self.policies.layers));
        self
    }
}
