// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory in which the evidence about one incident is kept: `incidents/ID` in the state directory, for root only.
//!
//! Files are cut at [`FILE_MAX`], a capsule at [`CAPSULE_MAX`]; of all capsules the newest are kept, at most
//! [`CAPSULES_MAX`] and [`TOTAL_MAX`]. What could not be written or read is noted in `notes`.

use crate::engine::ids::IncidentId;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Below the state directory.
pub const PLACE: &str = "incidents";
/// The largest file, in bytes.
pub const FILE_MAX: usize = 4 << 20;
/// The largest capsule, in bytes.
pub const CAPSULE_MAX: usize = 32 << 20;
/// The most capsules.
pub const CAPSULES_MAX: usize = 50;
/// The most bytes of all capsules.
pub const TOTAL_MAX: u64 = 512 << 20;

/// What was not possible, one line each.
const NOTES: &str = "notes";
const NOTES_MAX: usize = 200;

/// A capsule that is being filled.
#[derive(Debug)]
pub struct Capsule {
    directory: PathBuf,
    written: usize,
    notes: Vec<String>,
}

impl Capsule {
    /// Makes room, then the directory. One that is there already is filled up.
    pub fn open(state: &Path, incident: IncidentId) -> io::Result<Capsule> {
        let all = state.join(PLACE);
        let directory = all.join(incident.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        make_room(&all, &directory, CAPSULES_MAX, TOTAL_MAX);
        Ok(Capsule { directory, written: 0, notes: Vec::new() })
    }

    /// Writes a file; `name` may be in a directory below. A failure is noted.
    pub fn put(&mut self, name: &str, content: &[u8]) {
        let room = CAPSULE_MAX.saturating_sub(self.written);
        let cut = &content[..content.len().min(FILE_MAX).min(room)];
        if cut.len() < content.len() {
            self.note(format!("{name}: cut at {} of {} bytes", cut.len(), content.len()));
        }
        match self.write(name, cut) {
            Ok(()) => self.written += cut.len(),
            Err(error) => self.note(format!("{name}: {error}")),
        }
    }

    /// Copies a file; one that cannot be read is noted.
    pub fn copy(&mut self, name: &str, from: &Path) {
        match fs::read(from) {
            Ok(content) => self.put(name, &content),
            Err(error) => self.note(format!("{}: {error}", from.display())),
        }
    }

    pub fn note(&mut self, text: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text);
        }
    }

    /// Writes the notes down; says whether all was possible.
    pub fn close(mut self) -> Result<(), String> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let text = self.notes.join("\n") + "\n";
        let written = self.write(NOTES, text.as_bytes());
        let first = std::mem::take(&mut self.notes).swap_remove(0);
        written.map_err(|error| format!("{NOTES}: {error}"))?;
        tracing::debug!(directory = %self.directory.display(), first, "evidence is incomplete");
        Ok(())
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.directory.join(name);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content)
    }
}

/// Removes the oldest capsules beyond the caps; `own` stays.
fn make_room(all: &Path, own: &Path, most: usize, total: u64) {
    let mut capsules: Vec<(u32, PathBuf, u64)> = fs::read_dir(all)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let path = entry.path();
            let size = size(&path);
            (path != own).then_some((id, path, size))
        })
        .collect();
    // Incidents are numbered in the order of time.
    capsules.sort();
    let mut bytes: u64 = capsules.iter().map(|(_, _, size)| size).sum();
    let mut count = capsules.len() + 1;
    for (_, path, size) in capsules {
        if count <= most && bytes <= total.saturating_sub(CAPSULE_MAX as u64) {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
        count -= 1;
        bytes = bytes.saturating_sub(size);
    }
}

/// The bytes of all files below a directory.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn capsules_are_private_and_have_caps() {
        let state = tempfile::tempdir().expect("a directory");
        let mut capsule = Capsule::open(state.path(), IncidentId(7)).expect("a capsule");
        capsule.put("a/b", b"text");
        capsule.copy("c", Path::new("/no/such/file"));
        capsule.put("large", &vec![b'x'; FILE_MAX + 1]);
        capsule.close().expect("closed");
        let directory = state.path().join("incidents/7");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("a"))), (0o700, 0o700));
        assert_eq!(mode(&directory.join("a/b")), 0o600);
        let notes = fs::read_to_string(directory.join("notes")).expect("notes");
        assert!(notes.contains("/no/such/file: ") && notes.contains("large: cut at 4194304 of 4194305"), "{notes}");
        assert_eq!(fs::metadata(directory.join("large")).expect("it is there").len(), FILE_MAX as u64);
    }

    #[test]
    fn the_oldest_capsules_make_room() {
        let state = tempfile::tempdir().expect("a directory");
        for id in 1..=12 {
            Capsule::open(state.path(), IncidentId(id)).expect("a capsule").put("f", &[b'x'; 1000]);
        }
        let all = state.path().join(PLACE);
        fs::write(all.join("not-ours"), "x").expect("written");
        make_room(&all, &all.join("2"), 4, TOTAL_MAX);
        let left = || {
            let names = fs::read_dir(&all).expect("readable").flatten();
            let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().expect("text")).collect();
            names.sort();
            names
        };
        assert_eq!(left(), ["10", "11", "12", "2", "not-ours"]);
        make_room(&all, &all.join("12"), 50, CAPSULE_MAX as u64 + 1_500);
        assert_eq!(left(), ["11", "12", "not-ours"]);
    }
}
