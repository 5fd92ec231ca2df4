// SPDX-License-Identifier: MIT OR Apache-2.0
//! The environment that units get from us: a drop-in that names a file, and the file with the variables.
//!
//! Both lie below /run (or `$XDG_RUNTIME_DIR`), so that nothing of them outlives the machine's run. The file is replaced as
//! a whole, which needs no reload; systemd reads the unit anew only when the drop-in comes or goes, once for many units.
//! Units that are made anew for every run get their variables with them and need none of this.

use super::jobs::Jobs;
use crate::engine::ids::WorkerName;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The drop-in's name; its first line proves that it is ours.
const DROP_IN: &str = "50-watcherd.conf";
const MARK: &str = "# Made by watcherd, see watcherd-worker(5); it is removed when nothing needs it any more.\n";

/// Where units get their environment from; cheap to clone.
#[derive(Clone)]
pub struct Environments {
    inner: Arc<Inner>,
}

struct Inner {
    places: Places,
    jobs: Jobs,
    state: Mutex<State>,
    /// Held while systemd reads its units anew.
    reloading: tokio::sync::Mutex<()>,
}

/// Where drop-ins and files lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// A directory of the unit search path, see systemd.unit(5).
    pub units: PathBuf,
    pub files: PathBuf,
}

/// A change that systemd does not know yet.
#[derive(Clone, Copy, Debug)]
pub struct Change(u64);

#[derive(Default)]
struct State {
    /// The units that have a drop-in of ours.
    equipped: BTreeMap<WorkerName, Given>,
    /// Counts the changes that a reload makes known, and those that one has.
    changed: u64,
    known: u64,
}

/// What a unit gets.
#[derive(Clone, Debug, Default)]
struct Given {
    variables: Vec<(String, String)>,
    /// What only the start gets that is under way.
    once: Option<(String, String)>,
}

impl Given {
    fn all(&self) -> Vec<(String, String)> {
        self.variables.iter().chain(&self.once).cloned().collect()
    }
}

impl Places {
    pub fn system() -> Places {
        Places { units: "/run/systemd/system".into(), files: "/run/watcherd/environment".into() }
    }

    /// Below `$XDG_RUNTIME_DIR`.
    pub fn user(runtime: &Path) -> Places {
        Places { units: runtime.join("systemd/user"), files: runtime.join("watcherd/environment") }
    }

    fn drop_in(&self, name: &WorkerName) -> PathBuf {
        self.units.join(format!("{}.d", name.unit())).join(DROP_IN)
    }

    fn file(&self, name: &WorkerName) -> PathBuf {
        self.files.join(name.unit())
    }
}

impl Environments {
    pub fn new(places: Places, jobs: Jobs) -> Environments {
        let (state, reloading) = (Mutex::default(), tokio::sync::Mutex::default());
        Environments { inner: Arc::new(Inner { places, jobs, state, reloading }) }
    }

    /// Writes what the unit gets from its next start on; `None` takes everything back. A change that comes back has to be
    /// made known with [`Environments::make_known`]. The error is a fragment.
    pub fn put(&self, name: &WorkerName, variables: Option<&[(String, String)]>) -> Result<Option<Change>, String> {
        let mut state = self.state();
        let changed = match variables {
            Some(variables) => {
                let once = state.equipped.get(name).and_then(|given| given.once.clone());
                let given = Given { variables: variables.to_vec(), once };
                let changed = self.write(name, &given.all(), &state)?;
                state.equipped.insert(name.clone(), given);
                changed
            }
            None => {
                let changed = self.remove(name)?;
                state.equipped.remove(name);
                changed
            }
        };
        state.changed += u64::from(changed);
        Ok((state.changed > state.known).then_some(Change(state.changed)))
    }

    /// Gives a unit that has been equipped one variable more, or takes it back; for a start that is under way. systemd knows
    /// the file already. The error is a fragment.
    pub fn put_once(&self, name: &WorkerName, variable: Option<(String, String)>) -> Result<(), String> {
        let mut state = self.state();
        let Some(given) = state.equipped.get_mut(name).filter(|given| given.once != variable) else { return Ok(()) };
        given.once = variable;
        let all = given.all();
        self.write(name, &all, &state).map(|_| ())
    }

    /// Removes what an earlier watcherd left to units that nobody has equipped since.
    pub fn tidy(&self) -> Result<Option<Change>, String> {
        let mut state = self.state();
        let orphans = self.orphans(&state.equipped).map_err(|error| format!("looking for old drop-ins: {error}"))?;
        for (drop_in, file) in &orphans {
            let removed = remove(drop_in).and_then(|_| remove(file));
            removed.map_err(|error| format!("removing {}: {error}", drop_in.display()))?;
            remove_empty(drop_in);
        }
        state.changed += u64::from(!orphans.is_empty());
        Ok((state.changed > state.known).then_some(Change(state.changed)))
    }

    /// Has systemd read its units anew, once for all changes that wait for it. The error is a fragment.
    pub async fn make_known(&self, change: Option<Change>) -> Result<(), String> {
        let Some(Change(change)) = change else { return Ok(()) };
        let _turn = self.inner.reloading.lock().await;
        let waiting = {
            let state = self.state();
            if state.known >= change {
                return Ok(());
            }
            state.changed
        };
        self.inner.jobs.reload().await?;
        let mut state = self.state();
        state.known = state.known.max(waiting);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orphans(&self, equipped: &BTreeMap<WorkerName, Given>) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let places = &self.inner.places;
        let mut orphans = Vec::new();
        let entries = match fs::read_dir(&places.units) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(orphans),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(unit) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".d")).map(str::to_owned)
            else {
                continue;
            };
            let drop_in = entry.path().join(DROP_IN);
            let ours = fs::read_to_string(&drop_in).is_ok_and(|text| text.starts_with(MARK));
            let wanted = WorkerName::parse(&unit).is_ok_and(|name| equipped.contains_key(&name));
            if ours && !wanted {
                orphans.push((drop_in, places.files.join(&unit)));
            }
        }
        Ok(orphans)
    }

    /// Writes the file, and the drop-in if it is not there; says whether systemd has to be told.
    fn write(&self, name: &WorkerName, variables: &[(String, String)], state: &State) -> Result<bool, String> {
        let places = &self.inner.places;
        let (file, drop_in) = (places.file(name), places.drop_in(name));
        replace(&file, &text(variables)?).map_err(|error| format!("{}: {error}", file.display()))?;
        // The name of the file is the unit's own, so that no odd letter of it has to be spelt here.
        let wanted = format!("{MARK}[Service]\nEnvironmentFile=-{}/%n\n", places.files.display());
        if fs::read_to_string(&drop_in).is_ok_and(|text| text == wanted) {
            // An earlier watcherd may have been killed before systemd was told.
            return Ok(!state.equipped.contains_key(name));
        }
        replace(&drop_in, &wanted).map_err(|error| format!("{}: {error}", drop_in.display()))?;
        Ok(true)
    }

    fn remove(&self, name: &WorkerName) -> Result<bool, String> {
        let (file, drop_in) = (self.inner.places.file(name), self.inner.places.drop_in(name));
        let changed = remove(&drop_in).map_err(|error| format!("{}: {error}", drop_in.display()))?;
        remove_empty(&drop_in);
        remove(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(changed)
    }
}

/// The variables as an EnvironmentFile= has them, see systemd.exec(5).
fn text(variables: &[(String, String)]) -> Result<String, String> {
    let mut text = String::new();
    for (name, value) in variables {
        if value.chars().any(char::is_control) || name.contains(['=', '"']) || name.is_empty() {
            return Err(format!("{name}: no line of an environment file can hold this"));
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            if ['"', '\\', '$', '`'].contains(&c) {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

/// Writes a file so that nobody ever sees a part of it; nothing is done if it is the same already.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|written| written == text) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let fresh = directory.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    remove(&fresh)?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        fs::rename(&fresh, path)
    });
    if written.is_err() {
        let _ = remove(&fresh);
    }
    written
}

/// Removes the directory of a drop-in, unless others have theirs there, too.
fn remove_empty(drop_in: &Path) {
    if let Some(directory) = drop_in.parent() {
        let _ = fs::remove_dir(directory);
    }
}

/// Whether there was something to remove.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_so_that_systemd_reads_them_literally() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let written = text(&[pair("A", "1"), pair("B", r#"a "b" $c \d `e` %n 'f' #g"#)]);
        assert_eq!(written.as_deref(), Ok("A=\"1\"\nB=\"a \\\"b\\\" \\$c \\\\d \\`e\\` %n 'f' #g\"\n"));
        for bad in [pair("A", "1\nB=2"), pair("", "1"), pair("A=B", "1")] {
            assert!(text(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_stays_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a/b.service");
        replace(&file, "one").expect("written");
        replace(&file, "two").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("readable"), "two");
        let names: Vec<_> = fs::read_dir(directory.path().join("a")).expect("a directory").collect();
        assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
        assert_eq!((remove(&file).expect("removed"), remove(&file).expect("gone")), (true, false));
        fs::write(directory.path().join("f"), "").expect("written");
        assert!(replace(&directory.path().join("f/x"), "no directory").is_err());
    }
}
