// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts broken checkpoints aside, and removes valid ones that enough newer valid ones replace. Nobody may write any
//! meanwhile.
//!
//! What is set aside gets another name in the same directory and is never deleted. What is removed gets a hidden name
//! first, so that an end in the middle leaves nothing that looks like a checkpoint; the next time goes on with it.

use super::find::{ASIDE, Found, words};
use super::place::{Place, Rights};
use super::{Checkpoint, Report, State};
use rustix::fs::{AtFlags, FileType, RenameFlags, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// So many valid ones stay in any case: the newest may turn out to be of no use.
const KEEP_MIN: u32 = 2;
/// At the end of the name of what is being removed; there is a dot at its beginning.
const DOOMED: &str = ".watcherd-removes";
/// Files of one checkpoint that are removed in one go.
const FILES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 16;
/// Names tried for what is set aside.
const TRIES: u32 = 10;

/// Does both; `time` becomes a part of the names of what is set aside, as `20261125T180000Z`.
pub fn tend(report: &mut Report, found: &[Found], keep: Option<u32>, time: &str, rights: &mut Rights) {
    for checkpoint in report.checkpoints.iter().filter(|checkpoint| checkpoint.torn) {
        let Some(found) = of(found, checkpoint) else { continue };
        match set_aside(found, time, rights) {
            Ok(()) => report.set_aside.push((found.name.clone(), checkpoint.why.clone())),
            Err(error) => report.failed.push(format!("{} cannot be set aside: {}", found.path, words(&error))),
        }
    }
    for place in found.iter().map(|found| &found.place) {
        go_on(place, rights);
        // Nearly always it is one directory.
        if found.last().is_some_and(|last| std::rc::Rc::ptr_eq(&last.place, place)) {
            break;
        }
    }
    let surplus: Vec<Checkpoint> = surplus(&report.checkpoints, keep).cloned().collect();
    for checkpoint in surplus {
        let Some(found) = of(found, &checkpoint) else { continue };
        match remove(found, rights) {
            Ok(()) => {
                report.removed.push(found.name.clone());
                report.checkpoints.retain(|other| other.path != checkpoint.path);
            }
            Err(error) => report.failed.push(format!("{} cannot be removed: {}", found.path, words(&error))),
        }
    }
    report.checkpoints.retain(|checkpoint| {
        let name = Path::new(&checkpoint.path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !(checkpoint.torn && report.set_aside.iter().any(|(aside, _)| aside == name))
    });
}

fn of<'a>(found: &'a [Found], checkpoint: &Checkpoint) -> Option<&'a Found> {
    found.iter().find(|found| found.path == checkpoint.path)
}

/// Those behind the newest so many, but none to which a link leads. Of those that are certainly whole two stay.
fn surplus(checkpoints: &[Checkpoint], keep: Option<u32>) -> impl Iterator<Item = &Checkpoint> {
    let keep = keep.map_or(usize::MAX, |keep| keep.max(KEEP_MIN) as usize);
    let mut valid = 0;
    let counted = checkpoints.iter().filter(|checkpoint| checkpoint.counts).enumerate();
    let behind = counted.filter(move |(at, checkpoint)| {
        valid += u32::from(checkpoint.state == State::Valid);
        *at >= keep && (checkpoint.state != State::Valid || valid > KEEP_MIN)
    });
    behind.map(|(_, checkpoint)| checkpoint).filter(|checkpoint| !checkpoint.linked)
}

fn set_aside(found: &Found, time: &str, rights: &mut Rights) -> io::Result<()> {
    for again in 0..TRIES {
        let number = if again == 0 { String::new() } else { format!("-{again}") };
        let name = format!("{}{ASIDE}{time}{number}", found.name);
        match rename(found, &name, rights) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Never replaces anything. What stands there now must be what was looked at.
fn rename(found: &Found, to: &str, rights: &mut Rights) -> io::Result<()> {
    let directory = &found.place.directory;
    rights.act(&found.place)?;
    let now = statat(directory, &found.name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (now.st_ino, now.st_dev, now.st_mtime, now.st_size)
        != (found.stat.st_ino, found.stat.st_dev, found.stat.st_mtime, found.stat.st_size)
    {
        return Err(io::Error::other("it has changed meanwhile"));
    }
    match renameat_with(directory, &found.name, directory, to, RenameFlags::NOREPLACE) {
        // Not every file system can do that.
        Err(Errno::INVAL) => match statat(directory, to, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(renameat(directory, &found.name, directory, to)?),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(error.into()),
        },
        done => Ok(done?),
    }
}

fn remove(found: &Found, rights: &mut Rights) -> io::Result<()> {
    let doomed = format!(".{}{DOOMED}", found.name);
    rename(found, &doomed, rights)?;
    delete(&found.place, &doomed, rights)
}

/// Goes on with what was being removed when that was broken off.
fn go_on(place: &Place, rights: &mut Rights) {
    let names = rights.all_names(place, FILES_MAX).unwrap_or_default();
    let doomed = names.into_iter().filter_map(|name| name.into_string().ok());
    for name in doomed.filter(|name| name.starts_with('.') && name.ends_with(DOOMED)) {
        // The next time may do better.
        let _ = delete(place, &name, rights);
    }
}

fn delete(place: &Place, name: &str, rights: &mut Rights) -> io::Result<()> {
    rights.act(place)?;
    let stat = statat(&place.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(unlinkat(&place.directory, name, AtFlags::empty())?);
    }
    let mut left = FILES_MAX;
    empty(place, name, stat.st_dev, DEPTH_MAX, &mut left, rights)
}

/// Removes a directory and all that is in it, on the same file system; links are removed, not followed.
fn empty(
    above: &Place,
    name: &str,
    device: u64,
    depth: usize,
    left: &mut usize,
    rights: &mut Rights,
) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("its directories are too deep"));
    }
    let place = rights.enter_directory(above, name)?;
    for name in rights.all_names(&place, FILES_MAX)? {
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("there are too many files in it"))?;
        rights.act(&place)?;
        let stat = statat(&place.directory, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            unlinkat(&place.directory, &*name, AtFlags::empty())?;
            continue;
        }
        let name = name.into_string().map_err(|_| io::Error::other("a name in it is no text"))?;
        if stat.st_dev != device {
            return Err(io::Error::other("another file system is mounted in it"));
        }
        empty(&place, &name, device, depth - 1, left, rights)?;
    }
    rights.act(above)?;
    Ok(unlinkat(&above.directory, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_valid_ones_stay_and_so_does_what_a_link_leads_to() {
        let checkpoint = |path: &str, state, linked| Checkpoint {
            path: path.into(),
            bytes: 1,
            changed: 0,
            state,
            why: String::new(),
            kind: String::new(),
            linked,
            usable: false,
            counts: state == State::Valid || path == "0",
            torn: false,
        };
        let all = [
            checkpoint("6", State::Broken, false),
            checkpoint("5", State::Valid, false),
            checkpoint("4", State::Unknown, false),
            checkpoint("3", State::Valid, false),
            checkpoint("2", State::Valid, true),
            checkpoint("1", State::Valid, false),
            checkpoint("0", State::Unknown, false),
        ];
        let removed = |keep| surplus(&all, keep).map(|checkpoint| checkpoint.path.as_str()).collect::<Vec<_>>();
        assert_eq!(removed(None), Vec::<&str>::new());
        assert_eq!(removed(Some(9)), Vec::<&str>::new());
        assert_eq!(removed(Some(3)), ["1", "0"]);
        assert_eq!(removed(Some(4)), ["0"]);
        assert_eq!(removed(Some(0)), ["1", "0"], "two stay in any case");
        let unasked = [checkpoint("0", State::Unknown, false), all[1].clone(), all[5].clone()];
        assert_eq!(surplus(&unasked, Some(2)).count(), 0, "two that are valid stay");
    }
}
