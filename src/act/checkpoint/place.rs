// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories that workers own, entered so that they cannot lead root astray.
//!
//! With the rights of root the way begins at `/` as root. From the first directory or link on that somebody else owns,
//! everything is done as that one: a link to a place where its owner may do nothing leads nowhere. Directories are held
//! open, and files are opened by their names in them, so that nothing that was looked at can be exchanged for another.

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setegid, seteuid, setgroups};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Links that are followed on one way.
const LINKS_MAX: usize = 20;
/// Names on one way.
const NAMES_MAX: usize = 256;
/// The group `nogroup`, or `nobody`, on every Linux.
const NOBODY: u32 = 65_534;

/// As whom files are looked at.
#[derive(Debug)]
pub struct Rights {
    /// Whether we are root and become the owners of what we look at.
    changing: bool,
    now: u32,
}

/// A directory that is held open, and whose it is.
#[derive(Debug)]
pub struct Place {
    pub directory: OwnedFd,
    owner: u32,
}

impl Rights {
    /// Those that we have.
    pub fn own() -> Rights {
        Rights { changing: false, now: 0 }
    }

    /// Those of the owners. The whole process changes its user, so nothing else may go on in it.
    pub fn of_owners() -> Rights {
        Rights { changing: geteuid().is_root(), now: 0 }
    }

    /// Acts as the owner of the place from here on.
    pub fn act(&mut self, place: &Place) -> io::Result<()> {
        self.become_user(place.owner)
    }

    /// As whom a program is to be run there; `None` if as ourselves.
    pub fn user_for(&mut self, place: &Place) -> io::Result<Option<(u32, u32)>> {
        self.become_user(0)?;
        if !self.changing || place.owner == 0 {
            return Ok(None);
        }
        let user = Uid::from_raw(place.owner);
        Ok(Some((place.owner, primary_group(account(user).as_ref()).as_raw())))
    }

    fn become_user(&mut self, user: u32) -> io::Result<()> {
        if !self.changing || user == self.now {
            return Ok(());
        }
        if self.now != 0 {
            seteuid(Uid::from_raw(0))?;
            setegid(Gid::from_raw(0))?;
            self.now = 0;
        }
        if user == 0 {
            setgroups(&[])?;
            return Ok(());
        }
        let uid = Uid::from_raw(user);
        let account = account(uid);
        let group = primary_group(account.as_ref());
        let name = account.and_then(|account| std::ffi::CString::new(account.name).ok());
        match name {
            Some(name) => initgroups(&name, group)?,
            None => setgroups(&[])?,
        }
        setegid(group)?;
        seteuid(uid)?;
        self.now = user;
        Ok(())
    }

    /// The directory at the top of all.
    pub fn top(&mut self) -> io::Result<Place> {
        self.become_user(0)?;
        let directory = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Place { directory, owner: 0 })
    }

    /// The directory to which a way leads from here; links on it are followed.
    pub fn enter(&mut self, from: &Place, way: &Path) -> io::Result<Place> {
        let mut place = Place { directory: from.directory.try_clone()?, owner: from.owner };
        let mut rest: Vec<OsString> = steps(way);
        let (mut links, mut names) = (0, 0);
        while let Some(name) = rest.pop() {
            names += 1;
            if names > NAMES_MAX {
                return Err(io::Error::other("its path has too many parts"));
            }
            if name == OsStr::new("/") {
                let owner = place.owner;
                place = Place { owner, ..self.top()? };
                continue;
            }
            self.act(&place)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = openat(&place.directory, &*name, flags, Mode::empty())?;
            let found = fstat(&next)?;
            let owner = if place.owner == 0 { found.st_uid } else { place.owner };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => place = Place { directory: next, owner },
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(io::Error::other("too many links lead to one another"));
                    }
                    let target = readlinkat(&next, "", Vec::new())?;
                    rest.extend(steps(Path::new(OsStr::from_bytes(target.to_bytes()))));
                    place.owner = owner;
                }
                _ => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        Ok(place)
    }

    /// A directory in another one; no link to one.
    pub fn enter_directory(&mut self, above: &Place, name: &str) -> io::Result<Place> {
        self.act(above)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&above.directory, name, flags, Mode::empty())?;
        let owner = if above.owner == 0 { fstat(&directory)?.st_uid } else { above.owner };
        Ok(Place { directory, owner })
    }

    /// Opens a regular file; nothing else.
    pub fn open(&mut self, place: &Place, name: &str) -> io::Result<File> {
        self.act(place)?;
        // Of a pipe nobody may be at the other end, and a device may do something when it is opened.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&place.directory, name, flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is no regular file")),
        }
    }

    /// The names in a directory, without those that begin with a dot; at most so many.
    pub fn names(&mut self, place: &Place, most: usize) -> io::Result<Vec<OsString>> {
        let all = self.all_names(place, most)?;
        Ok(all.into_iter().filter(|name| !name.as_bytes().starts_with(b".")).collect())
    }

    /// All names in a directory.
    pub fn all_names(&mut self, place: &Place, most: usize) -> io::Result<Vec<OsString>> {
        self.act(place)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = openat(place.directory.as_fd(), ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&listed)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() >= most {
                return Err(io::Error::other(format!("there are more than {most} names in one directory")));
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        Ok(names)
    }
}

/// The parts of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut steps: Vec<_> = parts.map(|part| part.as_os_str().to_owned()).collect();
    steps.reverse();
    steps
}

fn account(user: Uid) -> Option<User> {
    User::from_uid(user).ok().flatten()
}

/// Whoever has no account, such as a user that exists only while a unit runs, has no group that means anything.
fn primary_group(account: Option<&User>) -> Gid {
    account.map_or(Gid::from_raw(NOBODY), |account| account.gid)
}
