// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the files that match a pattern, and finds the newest time of change among them.
//!
//! `*`, `?` and `[..]` match within one component of the path, and never a leading dot, as in a shell. Directories that
//! match count as well: checkpoints often are directories.

use super::file::words;
use glob::{MatchOptions, Pattern};
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Files that may match.
const FOUND_MAX: u64 = 100_000;
/// Names that are compared in one look.
const NAMES_MAX: u64 = 1_000_000;

const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    pub count: u64,
    /// The newest time of change, since 1970; `None` if nothing matches.
    pub newest: Option<Duration>,
}

/// What is looked at of each match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Names,
    Times,
}

/// Looks for what matches; the error is a fragment that names the pattern. Blocks as long as the file systems do.
pub fn find(pattern: &str, look: Look) -> Result<Matches, String> {
    search(pattern, look).map_err(|why| format!("{pattern}: {why}"))
}

fn search(pattern: &str, look: Look) -> Result<Matches, String> {
    let parts: Vec<_> = Path::new(pattern).components().map(part).collect::<Result<_, _>>()?;
    let mut search = Search { look, names: 0, matches: Matches::default() };
    search.descend(PathBuf::new(), &parts, Chosen::ByName)?;
    Ok(search.matches)
}

enum Part<'a> {
    Name(Component<'a>),
    Wild(Pattern),
}

fn part(component: Component<'_>) -> Result<Part<'_>, String> {
    match component.as_os_str().to_str() {
        Some(text) if text.contains("**") => Err("** is not supported".to_owned()),
        Some(text) if text.contains(['*', '?', '[']) => {
            Pattern::new(text).map(Part::Wild).map_err(|error| error.msg.to_owned())
        }
        _ => Ok(Part::Name(component)),
    }
}

/// How a directory came to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chosen {
    ByName,
    /// It matched; others may have matched as well.
    ByPattern,
}

struct Search {
    look: Look,
    names: u64,
    matches: Matches,
}

impl Search {
    fn descend(&mut self, mut path: PathBuf, parts: &[Part<'_>], chosen: Chosen) -> Result<(), String> {
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Name(name) => path.push(name),
                Part::Wild(pattern) => return self.list(&path, pattern, &parts[at + 1..], chosen),
            }
        }
        self.note(&path)
    }

    fn list(&mut self, path: &Path, pattern: &Pattern, rest: &[Part<'_>], chosen: Chosen) -> Result<(), String> {
        let directory = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if chosen == Chosen::ByPattern && is_no_directory(error.kind()) => return Ok(()),
            Err(error) => return Err(words(&error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| words(&error))?;
            self.names += 1;
            if self.names > NAMES_MAX {
                return Err(format!("more than {NAMES_MAX} names to compare"));
            }
            if !matches(pattern, &entry.file_name()) {
                continue;
            }
            if !rest.is_empty() {
                self.descend(entry.path(), rest, Chosen::ByPattern)?;
            } else if self.look == Look::Names {
                self.count()?;
            } else {
                self.note_entry(&entry)?;
            }
        }
        Ok(())
    }

    fn note_entry(&mut self, entry: &DirEntry) -> Result<(), String> {
        // It may be gone already.
        let Ok(found) = entry.metadata() else { return Ok(()) };
        self.note_time(&found);
        self.count()
    }

    /// A path that was spelled out to its end.
    fn note(&mut self, path: &Path) -> Result<(), String> {
        match std::fs::symlink_metadata(path) {
            Ok(found) => {
                self.note_time(&found);
                self.count()
            }
            Err(error) if is_no_directory(error.kind()) => Ok(()),
            Err(error) => Err(words(&error)),
        }
    }

    fn note_time(&mut self, found: &std::fs::Metadata) {
        let secs = u64::try_from(found.mtime()).unwrap_or(0);
        let time = Duration::new(secs, u32::try_from(found.mtime_nsec()).unwrap_or(0));
        self.matches.newest = self.matches.newest.max(Some(time));
    }

    fn count(&mut self) -> Result<(), String> {
        self.matches.count += 1;
        if self.matches.count > FOUND_MAX {
            return Err(format!("more than {FOUND_MAX} files match"));
        }
        Ok(())
    }
}

fn is_no_directory(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A name that is no text matches as what it looks like.
fn matches(pattern: &Pattern, name: &OsStr) -> bool {
    pattern.matches_with(&name.to_string_lossy(), OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn matches_are_counted() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let top = directory.path();
        for run in ["run1", "run2", ".run3"] {
            std::fs::create_dir(top.join(run)).expect("it can be made");
            for name in ["a.ckpt", "b.ckpt", "c.tmp", ".d.ckpt"] {
                File::create(top.join(run).join(name)).expect("it can be made");
            }
        }
        File::create(top.join("run-file")).expect("it can be made");
        let cases = [
            ("run1/*.ckpt", Ok(2)),
            ("run*/*.ckpt", Ok(4)),
            ("run[2-9]/?.*", Ok(3)),
            ("run?/.d*", Ok(2)),
            ("run*/a.ckpt", Ok(2)),
            ("run*", Ok(3)),
            ("run1/a.ckpt", Ok(1)),
            ("run1/nothing", Ok(0)),
            ("run1/x*", Ok(0)),
            ("nothing/*.ckpt", Err("no such file")),
            ("run1/**", Err("** is not supported")),
            ("run1/[a", Err("invalid range pattern")),
        ];
        for (pattern, expected) in cases {
            let whole = format!("{}/{pattern}", top.display());
            let found = find(&whole, Look::Names).map(|matches| matches.count);
            let expected = expected.map_err(|why| format!("{whole}: {why}"));
            assert_eq!(found, expected, "{pattern}");
            assert_eq!(find(&whole, Look::Times).map(|matches| matches.count), expected, "{pattern}");
        }
    }

    #[test]
    fn the_newest_time_counts() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let pattern = format!("{}/*", directory.path().display());
        assert_eq!(find(&pattern, Look::Times), Ok(Matches::default()));
        for (name, millis) in [("a", 5_000), ("b", 7_250), ("c", 6_000)] {
            let file = File::create(directory.path().join(name)).expect("it can be made");
            let time = std::time::UNIX_EPOCH + Duration::from_millis(millis);
            file.set_modified(time).expect("it can be set");
        }
        let newest = Some(Duration::from_millis(7_250));
        assert_eq!(find(&pattern, Look::Times), Ok(Matches { count: 3, newest }));
    }
}
