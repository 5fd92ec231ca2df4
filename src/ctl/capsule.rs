// SPDX-License-Identifier: MIT OR Apache-2.0
//! The evidence that watcherd saved about an incident before it stopped the worker: files in a directory that only root,
//! or in user mode the user, may read.

use super::args::Global;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most rows of the table of waiting threads.
const ROWS: usize = 12;
/// The most lines that are shown of a file.
const LINES: usize = 40;

/// What was saved about an incident.
#[derive(Debug)]
pub struct Capsule {
    pub directory: PathBuf,
    /// Names within the directory, and sizes in bytes.
    pub files: Vec<(String, u64)>,
}

/// Finds the evidence about an incident; `None` if there is none, an error if it may not be read.
pub fn find(id: u32, options: &Global) -> Result<Option<Capsule>, String> {
    if options.host.is_some() || options.machine.is_some() {
        return Err("the saved evidence of another machine cannot be read from here".into());
    }
    let Some(directory) = state_directory(options.user).map(|state| state.join("incidents").join(id.to_string()))
    else {
        return Ok(None);
    };
    let mut files = Vec::new();
    match list(&directory, &directory, &mut files) {
        Ok(()) => {
            files.sort();
            Ok(Some(Capsule { directory, files }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("only root may read the saved evidence: sudo watcherctl incident {id} --evidence"))
        }
        Err(error) => Err(format!("{}: {error}", directory.display())),
    }
}

fn state_directory(user: bool) -> Option<PathBuf> {
    if !user {
        return Some(PathBuf::from("/var/lib/watcherd"));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("watcherd"))
}

fn list(root: &Path, directory: &Path, files: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        if metadata.is_dir() {
            list(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            files.push((name.display().to_string(), metadata.len()));
        }
    }
    Ok(())
}

impl Capsule {
    /// The telling parts: how far it was, where its threads wait, what could not be saved.
    pub fn text(&self) -> String {
        let bytes: u64 = self.files.iter().map(|(_, size)| size).sum();
        let (count, size) = (self.files.len(), bytes.div_ceil(1024));
        let mut text = format!("Saved evidence: {count} files, {size} KiB, in {}\n", self.directory.display());
        let about: serde_json::Value =
            self.read("about.json").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if let Some(progress) = about["progress"].as_str() {
            let _ = writeln!(text, "Progress: {progress}");
        }
        if let Some(threads) = self.read("threads") {
            text.push_str(&waiting(&threads));
        }
        let main = about["main_pid"].as_u64().unwrap_or(0);
        if let Some(stack) =
            self.read("stacks").and_then(|stacks| section(&stacks, &format!("/proc/{main}/task/{main}/stack")))
        {
            let _ = writeln!(text, "Kernel stack of the main thread:\n{stack}");
        }
        if let Some(dump) = self.read("dump") {
            let _ = writeln!(text, "Stacks, seen from outside:\n{}", first_lines(&dump));
        }
        if let Some(gpus) = self.read("gpu") {
            let _ = writeln!(text, "GPUs:\n{}", first_lines(&gpus));
        }
        if let Some(notes) = self.read("notes") {
            let _ = writeln!(text, "Not saved:\n{}", first_lines(&notes));
        }
        text
    }

    fn read(&self, name: &str) -> Option<String> {
        let bytes = fs::read(self.directory.join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// How many threads wait where, most first.
fn waiting(threads: &str) -> String {
    let mut places: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for line in threads.lines().skip(1) {
        let mut words = line.splitn(6, ' ').skip(2);
        if let (Some(state), Some(_), Some(wchan), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        {
            *places.entry((state, wchan, name)).or_default() += 1;
        }
    }
    let mut rows: Vec<_> = places.into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut text = String::from("Threads:\n");
    for ((state, wchan, name), count) in rows.iter().take(ROWS) {
        let _ = writeln!(text, "{count:>6} {state} {wchan:24} {name}");
    }
    text
}

/// What `head -v` printed of one file.
fn section(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("==> {name} <==\n"))?;
    let body = rest.split("\n==> ").next().unwrap_or_default();
    (!body.trim().is_empty()).then(|| first_lines(body))
}

fn first_lines(text: &str) -> String {
    text.lines().take(LINES).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_parts_are_shown() {
        let place = tempfile::tempdir().expect("a directory");
        let put = |name: &str, text: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        put("about.json", r#"{"main_pid": 7, "progress": "5/10; no progress for 5min"}"#);
        put(
            "threads",
            "PID TID STATE CPU-SECONDS WCHAN COMMAND\n7 7 S 0.10 futex_wait_queue python3 -u\n7 8 D 0.00 nfs_wait io\n7 9 D 0.00 nfs_wait io\n",
        );
        put(
            "stacks",
            "==> /proc/7/task/7/stack <==\n[<0>] futex_wait\n[<0>] do_syscall_64\n\n==> /proc/7/task/8/stack <==\n[<0>] nfs\n",
        );
        put("gpu", "DEVICE UUID\n0 GPU-a\n\nDEVICE PID\n0 7\n");
        put("process/7/environ", "A=b\n");
        put("notes", "last lines: not in time\n");
        let mut files = Vec::new();
        list(place.path(), place.path(), &mut files).expect("readable");
        let text = Capsule { directory: place.path().to_owned(), files }.text();
        for expected in [
            "Saved evidence: 6 files, 1 KiB, in /",
            "Progress: 5/10; no progress for 5min",
            "     2 D nfs_wait                 io\n     1 S futex_wait_queue         python3 -u\n",
            "main thread:\n  [<0>] futex_wait\n  [<0>] do_syscall_64\n",
            "GPUs:\n  DEVICE UUID\n  0 GPU-a\n  \n  DEVICE PID\n  0 7\n",
            "Not saved:\n  last lines: not in time\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
