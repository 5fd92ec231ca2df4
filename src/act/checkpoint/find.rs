// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which checkpoints there are. `*`, `?` and `[..]` match within one part of the path, and never a dot at its beginning.

use super::place::{Place, Rights};
use glob::{MatchOptions, Pattern};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Checkpoints that may match.
const FOUND_MAX: usize = 5_000;
/// Names that are compared in one directory.
const NAMES_MAX: usize = 100_000;
/// Directories whose names are compared.
const LISTED_MAX: usize = 1_000;
/// In the name of what was set aside; what follows is the time.
pub const ASIDE: &str = ".broken-";

/// At the end of the name of what people set aside.
const BROKEN: &str = ".broken";

const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Something that matches.
#[derive(Debug)]
pub struct Found {
    pub place: Rc<Place>,
    pub name: String,
    /// Its whole path, as the pattern leads to it.
    pub path: String,
    pub stat: Stat,
    /// A link in the same directory leads to it.
    pub linked: bool,
}

impl Found {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// In microseconds since 1970.
    pub fn changed(&self) -> u64 {
        micros(&self.stat)
    }
}

/// When a file was changed, in microseconds since 1970.
pub fn micros(stat: &Stat) -> u64 {
    let secs = u64::try_from(stat.st_mtime).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(stat.st_mtime_nsec / 1_000)
}

/// Everything that matches, in no order; the error is a fragment that names the pattern. A directory that does not exist
/// yet is no error.
pub fn find(pattern: &str, rights: &mut Rights) -> Result<Vec<Found>, String> {
    let mut search = Search { rights, found: Vec::new(), listed: 0 };
    match search.run(pattern) {
        Ok(()) => Ok(search.found),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(search.found),
        Err(error) => Err(format!("{pattern}: {}", words(&error))),
    }
}

/// The directory below which everything is that can match: as far as the pattern spells it out.
pub fn fixed_part(pattern: &str) -> PathBuf {
    let mut fixed = PathBuf::from("/");
    let parts: Vec<_> = Path::new(pattern).components().collect();
    let above = &parts[..parts.len().saturating_sub(1)];
    fixed.extend(above.iter().take_while(|part| !is_wild(&part.as_os_str().to_string_lossy())));
    fixed
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

struct Search<'a> {
    rights: &'a mut Rights,
    found: Vec<Found>,
    listed: usize,
}

impl Search<'_> {
    fn run(&mut self, pattern: &str) -> io::Result<()> {
        let fixed = fixed_part(pattern);
        let top = self.rights.top()?;
        let place = self.rights.enter(&top, &fixed)?;
        let depth = fixed.components().count();
        let rest: Vec<OsString> =
            Path::new(pattern).components().skip(depth).map(|part| part.as_os_str().to_owned()).collect();
        self.descend(place, &fixed, &rest)
    }

    fn descend(&mut self, place: Place, path: &Path, rest: &[OsString]) -> io::Result<()> {
        let Some((part, rest)) = rest.split_first() else { return Ok(()) };
        let part = part.to_string_lossy();
        if rest.is_empty() {
            return self.take(place, path, &part);
        }
        let names = match is_wild(&part) {
            true => self.matching(&place, &part)?,
            false => vec![part.into_owned()],
        };
        for name in names {
            match self.rights.enter(&place, Path::new(&name)) {
                Ok(below) => self.descend(below, &path.join(&name), rest)?,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn matching(&mut self, place: &Place, part: &str) -> io::Result<Vec<String>> {
        let pattern = Pattern::new(part).map_err(|error| io::Error::other(error.msg))?;
        self.listed += 1;
        if self.listed > LISTED_MAX {
            return Err(io::Error::other(format!("more than {LISTED_MAX} directories match")));
        }
        let names = self.rights.names(place, NAMES_MAX)?;
        let plain = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(plain.filter(|name| pattern.matches_with(name, OPTIONS)).collect())
    }

    /// Takes what matches in the last directory.
    fn take(&mut self, place: Place, path: &Path, part: &str) -> io::Result<()> {
        let names = match is_wild(part) {
            true => self.matching(&place, part)?,
            false => vec![part.to_owned()],
        };
        let place = Rc::new(place);
        let linked = self.link_targets(&place)?;
        for name in names.into_iter().filter(|name| is_candidate(name)) {
            self.rights.act(&place)?;
            let stat = match statat(&place.directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                // It may be gone already.
                Err(rustix::io::Errno::NOENT) => continue,
                stat => stat?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                continue;
            }
            if self.found.len() >= FOUND_MAX {
                return Err(io::Error::other(format!("more than {FOUND_MAX} checkpoints match")));
            }
            let path = path.join(&name).to_string_lossy().into_owned();
            let linked = linked.contains(&name);
            self.found.push(Found { place: place.clone(), name, path, stat, linked });
        }
        Ok(())
    }

    /// The names to which links in a directory lead that stay in it.
    fn link_targets(&mut self, place: &Place) -> io::Result<BTreeSet<String>> {
        let names = self.rights.names(place, NAMES_MAX)?;
        let link = |name: OsString| {
            let target = rustix::fs::readlinkat(&place.directory, &*name, Vec::new()).ok()?;
            let target = Path::new(target.to_str().ok()?).to_owned();
            Some(target.file_name()?.to_str()?.to_owned())
        };
        Ok(names.into_iter().filter_map(link).collect())
    }
}

/// Whether a name can be that of a checkpoint: nothing that was set aside, and nothing that no environment could hold.
fn is_candidate(name: &str) -> bool {
    let aside = name.rsplit_once(ASIDE).is_some_and(|(_, time)| time.starts_with(|c: char| c.is_ascii_digit()));
    !aside && !name.ends_with(BROKEN) && !name.chars().any(char::is_control)
}

/// What went wrong, in words.
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::NotADirectory => "a part of the path is no directory".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}
