// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the files are: the directories in order, which file of a name counts, which one is masked, and its text.
//!
//! Reading never blocks: what is no regular file is refused before it is opened, and again after.

use super::complaint::{Complaint, Severity};
use nix::fcntl::OFlag;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest policy file that is read, in bytes.
pub const FILE_MAX: u64 = 1 << 20;
/// Most files that are read from one directory.
pub const FILES_MAX: usize = 4096;

/// The settings file, below each directory of the search path.
pub const SETTINGS_FILE: &str = "watcherd.toml";
/// The directory of policy files, below each directory of the search path.
pub const WORKERS_DIR: &str = "workers.d";
/// The directory of rule files, below each directory of the search path.
pub const RULES_DIR: &str = "rules.d";
/// Directories that other versions read.
pub const UNSUPPORTED_DIRS: &[&str] = &["pools.d", "limits.d"];

/// Whose configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    System,
    User,
}

/// The directories in which configuration is looked for, the most important one first; all of them below `root`.
///
/// A user's own directory is `$XDG_CONFIG_HOME/watcherd`, or `~/.config/watcherd` if that is unset or relative.
pub fn search_path(mode: Mode, root: &Path) -> Vec<PathBuf> {
    match mode {
        Mode::System => system_path(root),
        Mode::User => user_path(root, std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")),
    }
}

fn system_path(root: &Path) -> Vec<PathBuf> {
    ["etc/watcherd", "run/watcherd", "usr/local/lib/watcherd", "usr/lib/watcherd"].map(|dir| root.join(dir)).into()
}

pub(super) fn user_path(root: &Path, config_home: Option<OsString>, home: Option<OsString>) -> Vec<PathBuf> {
    let absolute = |dir: Option<OsString>| dir.map(PathBuf::from).filter(|dir| dir.is_absolute());
    let own = absolute(config_home).or_else(|| absolute(home).map(|home| home.join(".config")));
    let mut dirs = Vec::new();
    if let Some(own) = own {
        dirs.push(root.join(own.strip_prefix("/").unwrap_or(&own)).join("watcherd"));
    }
    dirs.extend(
        ["etc/watcherd/user", "usr/local/lib/watcherd/user", "usr/lib/watcherd/user"].map(|dir| root.join(dir)),
    );
    dirs
}

/// One file that counts, or that hides another one of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `watcherd.toml`, `workers.d/NAME` or `rules.d/NAME`.
    pub name: String,
    pub path: PathBuf,
    /// A symlink to /dev/null: the name stands for nothing.
    pub masked: bool,
}

/// What the search path holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub settings: Option<Found>,
    /// Sorted by file name; of equal names only the one that counts.
    pub workers: Vec<Found>,
    /// As the workers.
    pub rules: Vec<Found>,
    /// Directories that could not be listed; what was in them is unknown.
    pub unread: Vec<PathBuf>,
    pub complaints: Vec<Complaint>,
}

/// Lists the files that count. A directory that does not exist holds nothing.
pub fn list(dirs: &[PathBuf]) -> Listing {
    let mut listing = Listing::default();
    let (mut workers, mut rules) = (BTreeMap::new(), BTreeMap::new());
    for dir in dirs {
        let path = dir.join(SETTINGS_FILE);
        // A file that cannot be looked at is found, so that reading it says why.
        let absent = path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if listing.settings.is_none() && !absent {
            listing.settings = Some(found(SETTINGS_FILE.into(), path));
        }
        for (below, files) in [(WORKERS_DIR, &mut workers), (RULES_DIR, &mut rules)] {
            for file_name in names_in(&dir.join(below), &mut listing) {
                let path = dir.join(below).join(&file_name);
                let name = format!("{below}/{}", shown(Path::new(&file_name)));
                files.entry(file_name).or_insert_with(|| found(name, path));
            }
        }
        for unsupported in UNSUPPORTED_DIRS {
            let path = dir.join(unsupported);
            if !names_in(&path, &mut listing).is_empty() {
                let text = "this directory is not supported by this version and has no effect";
                listing.complaints.push(Complaint::about(Severity::Warning, shown(&path), text));
            }
        }
    }
    listing.workers = workers.into_values().collect();
    listing.rules = rules.into_values().collect();
    listing
}

/// The policy files in one directory that was named on a command line, sorted by name.
pub(super) fn list_one(dir: &Path) -> Listing {
    let mut listing = Listing::default();
    let names = names_in(dir, &mut listing);
    listing.workers = names.into_iter().map(|name| found(shown(Path::new(&name)), dir.join(&name))).collect();
    listing
}

fn found(name: String, path: PathBuf) -> Found {
    let masked = fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null"));
    Found { name, path, masked }
}

/// The names that end in `.toml`, sorted. Hidden files belong to editors.
fn names_in(dir: &Path, listing: &mut Listing) -> Vec<OsString> {
    let names = fs::read_dir(dir).and_then(|entries| {
        entries
            .filter_map(|entry| match entry {
                Ok(entry) => is_policy_name(&entry.file_name()).then(|| Ok(entry.file_name())),
                Err(error) => Some(Err(error)),
            })
            .take(FILES_MAX + 1)
            .collect::<io::Result<Vec<_>>>()
    });
    match names {
        Ok(mut names) => {
            names.sort();
            if names.len() > FILES_MAX {
                names.truncate(FILES_MAX);
                let text = format!("more than {FILES_MAX} files, the rest is not read");
                listing.complaints.push(Complaint::about(Severity::Error, shown(dir), text));
            }
            names
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let text = format!("the directory cannot be read: {}", plain(&error));
            listing.complaints.push(Complaint::about(Severity::Error, shown(dir), text));
            listing.unread.push(dir.to_owned());
            Vec::new()
        }
    }
}

fn is_policy_name(name: &OsString) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.ends_with(b".toml") && !bytes.starts_with(b".")
}

/// The text of a file, and whether everybody may write to it.
pub struct Text {
    pub text: String,
    pub world_writable: bool,
}

/// Reads a regular file of at most [`FILE_MAX`] bytes.
pub fn read(path: &Path) -> Result<Text, Complaint> {
    let refuse = |text: String| Complaint::about(Severity::Error, shown(path), text);
    // Opening a device can have effects of its own, so the type is looked at first.
    let before = fs::metadata(path).map_err(|error| refuse(format!("cannot be read: {}", plain(&error))))?;
    check_type(&before).map_err(&refuse)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(|error| refuse(format!("cannot be read: {}", plain(&error))))?;
    let bytes = read_opened(&file).map_err(&refuse)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Complaint {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
            ..refuse(format!("not UTF-8: byte 0x{:02x}", error.as_bytes()[valid]))
        }
    })?;
    Ok(Text { text, world_writable: before.mode() & 0o002 != 0 })
}

fn read_opened(file: &File) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {}", plain(&error));
    let facts = file.metadata().map_err(cannot)?;
    check_type(&facts)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    // The file may have grown since it was looked at.
    match u64::try_from(bytes.len()) {
        Ok(read) if read <= FILE_MAX => Ok(bytes),
        _ => Err(too_large(facts.len().max(FILE_MAX + 1))),
    }
}

fn check_type(facts: &fs::Metadata) -> Result<(), String> {
    let kind = facts.file_type();
    if kind.is_file() {
        return if facts.len() > FILE_MAX { Err(too_large(facts.len())) } else { Ok(()) };
    }
    let what = match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(format!("{what}, not a regular file"))
}

fn too_large(bytes: u64) -> String {
    format!("{bytes} bytes, at most 1 MiB is read")
}

/// The system's words without Rust's "(os error 13)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// A path for messages, on one line whatever its name holds.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().fold(String::new(), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
        line
    })
}
