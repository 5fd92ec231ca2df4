// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where configuration files are, and which of them count.
//!
//! As systemd does it: of files with the same name the one in the higher directory wins, a link to /dev/null hides the
//! lower ones, files with different names are read in the order of their names.

use super::{Complaint, Mode, Severity};
use nix::fcntl::OFlag;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
pub const FILE_MAX: u64 = 1024 * 1024;
/// The most files that are read from one directory.
const FILES_MAX: usize = 10_000;

/// The directories of `mode` below `root`, highest first.
pub fn search_path(mode: Mode, root: &Path) -> Vec<PathBuf> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    match mode {
        Mode::System => {
            ["/etc/watcherd", "/run/watcherd", "/usr/local/lib/watcherd", "/usr/lib/watcherd"].map(below).into()
        }
        Mode::User => {
            let own = std::env::var("XDG_CONFIG_HOME").ok().filter(|path| path.starts_with('/'));
            let own = own.or_else(|| std::env::var("HOME").ok().map(|home| format!("{home}/.config")));
            let own = own.map(|path| below(&path).join("watcherd"));
            let vendor = ["/etc/watcherd/user", "/usr/local/lib/watcherd/user", "/usr/lib/watcherd/user"].map(below);
            own.into_iter().chain(vendor).collect()
        }
    }
}

/// The file `name` that counts, if there is one.
pub fn find(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.symlink_metadata().is_ok());
    found.filter(|path| !is_masked(path))
}

/// The `*.toml` files in `sub` of all directories that count, in the order in which they are read.
pub fn list(directories: &[PathBuf], sub: &str, complaints: &mut Vec<Complaint>) -> Vec<PathBuf> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories {
        let directory = directory.join(sub);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                complaints.push(Complaint::about_file(
                    Severity::Error,
                    &directory,
                    format!("cannot be listed: {error}"),
                ));
                continue;
            }
        };
        for entry in entries.flatten().take(FILES_MAX) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".toml") && !name.starts_with('.') {
                files.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    files.into_values().filter(|path| !is_masked(path)).collect()
}

fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// Reads a file; the error is a sentence fragment. Never blocks on a FIFO and never reads more than [`FILE_MAX`].
pub fn read(path: &Path) -> Result<String, String> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if metadata.len() > FILE_MAX {
        return Err(format!("is {} bytes long; at most 1 MiB is read", metadata.len()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_MAX {
        return Err("is too long; at most 1 MiB is read".into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("is not UTF-8 text (line {line})")
    })
}
