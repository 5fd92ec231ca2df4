// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a file that anybody may have put there: a regular one, of bounded size, and without waiting for anything but
//! the disk.
//!
//! We may read more than those who write: a symbolic link on the way to the file counts only if it belongs to root or to
//! us, or if the file belongs to whom the link belongs to. So `latest/status.json` is read, and nobody leads us astray.

use super::DOCUMENT_MAX;
use nix::errno::Errno;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Why nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A fragment that names what is wrong, such as `/srv/x.json: not a regular file`.
    pub text: String,
    /// It may be over in a moment, as while a file is being written anew.
    pub passing: bool,
}

impl Trouble {
    pub fn passing(text: String) -> Trouble {
        Trouble { text, passing: true }
    }

    pub fn lasting(text: String) -> Trouble {
        Trouble { text, passing: false }
    }
}

/// Puts what the file says into `content`, in place of what is there.
///
/// The file is looked at before it is opened, because opening a fifo or a device is felt on the other side.
pub fn read(path: &Path, content: &mut Vec<u8>) -> Result<(), Trouble> {
    let failed = |error: io::Error| {
        let passing = error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::WouldBlock;
        Trouble { text: format!("{}: {}", path.display(), words(&error)), passing }
    };
    let lasting = |what: &str| Trouble::lasting(format!("{}: {what}", path.display()));
    content.clear();
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if found.is_symlink() {
        return Err(lasting("a symbolic link"));
    }
    if !found.is_file() {
        return Err(lasting("not a regular file"));
    }
    let (file, links) = open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    let own = nix::unistd::geteuid().as_raw();
    if let Some(uid) = links.into_iter().find(|uid| ![0, own, found.uid()].contains(uid)) {
        return Err(lasting(&format!("a symbolic link of user {uid} leads to a file of somebody else")));
    }
    if !found.is_file() {
        return Err(lasting("not a regular file"));
    }
    let too_large = || lasting("larger than 1 MiB");
    if found.len() > DOCUMENT_MAX as u64 {
        return Err(too_large());
    }
    file.take(DOCUMENT_MAX as u64 + 1).read_to_end(content).map_err(failed)?;
    if content.len() > DOCUMENT_MAX {
        return Err(too_large());
    }
    Ok(())
}

const OPEN: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a file; with whom the symbolic links belong to that lead to it.
fn open(path: &Path) -> io::Result<(File, Vec<u32>)> {
    match openat2(CWD, path, OPEN, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(file) => Ok((file.into(), Vec::new())),
        Err(rustix::io::Errno::NOENT) => Err(io::ErrorKind::NotFound.into()),
        // There are links, or the kernel does not know the call.
        Err(_) => walk(path),
    }
}

/// Follows the path step by step: what was looked at is what is gone on from.
fn walk(path: &Path) -> io::Result<(File, Vec<u32>)> {
    let root = || openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut at: OwnedFd = match path.is_absolute() {
        true => root()?,
        false => openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
    };
    let mut left: VecDeque<OsString> = parts(path.as_os_str());
    let mut links = Vec::new();
    while let Some(part) = left.pop_front() {
        if left.is_empty() {
            return Ok((openat(&at, part, OPEN, Mode::empty())?.into(), links));
        }
        let step: File = openat(&at, &part, STEP, Mode::empty())?.into();
        let found = step.metadata()?;
        if !found.is_symlink() {
            at = step.into();
            continue;
        }
        links.push(found.uid());
        if links.len() > LINKS_MAX {
            return Err(Errno::ELOOP.into());
        }
        let target = readlinkat(&step, "", Vec::new())?;
        let target = OsStr::from_bytes(target.as_bytes());
        if Path::new(target).is_absolute() {
            at = root()?;
        }
        for part in parts(target).into_iter().rev() {
            left.push_front(part);
        }
    }
    Err(Errno::EISDIR.into())
}

fn parts(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    parts.map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

/// An error as a lower-case fragment.
pub fn words(error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => "no such file".to_owned(),
        (_, Some(number)) => Errno::from_raw(number).desc().to_lowercase(),
        _ => error.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{lchown, symlink};
    use std::path::PathBuf;

    fn told(path: &Path) -> String {
        let mut content = Vec::new();
        match read(path, &mut content) {
            Ok(()) => format!("{} bytes", content.len()),
            Err(trouble) => {
                let directory = path.parent().expect("it has one").display().to_string();
                format!("{}{}", trouble.text.replace(&directory, ""), if trouble.passing { " (passing)" } else { "" })
            }
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_any_more_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("secret");
        std::fs::write(&path, "1").expect("it can be written");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("it can be set");
        // Root may read everything; as whom files are opened is a thread's own affair.
        let as_nobody = |path: &Path| {
            let path = path.to_owned();
            let looked = std::thread::spawn(move || {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
                told(&path)
            });
            looked.join().expect("it ends")
        };
        let allow = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it can be set");
        allow(0o644);
        assert_eq!(as_nobody(&path), "1 bytes");
        allow(0o000);
        assert_eq!(as_nobody(&path), "/secret: permission denied");
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let at = |name: &str| -> PathBuf { directory.path().join(name) };
        let sized = |name: &str, size: u64| {
            File::create(at(name)).and_then(|file| file.set_len(size)).expect("it can be made");
        };
        sized("empty", 0);
        sized("limit", DOCUMENT_MAX as u64);
        sized("above", DOCUMENT_MAX as u64 + 1);
        sized("sparse", 1 << 30);
        std::os::unix::fs::symlink(at("limit"), at("link")).expect("it can be made");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("it can be made");
        std::fs::create_dir(at("directory")).expect("it can be made");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("it can be made");
        let cases = [
            ("empty", "0 bytes"),
            ("limit", "1048576 bytes"),
            ("above", "/above: larger than 1 MiB"),
            ("sparse", "/sparse: larger than 1 MiB"),
            ("link", "/link: a symbolic link"),
            ("fifo", "/fifo: not a regular file"),
            ("directory", "/directory: not a regular file"),
            ("socket", "/socket: not a regular file"),
            ("nothing", "/nothing: no such file (passing)"),
            ("limit/below", "/limit/below: not a directory"),
        ];
        for (name, expected) in cases {
            let told = told(&at(name));
            let told = if name == "limit/below" { format!("/limit{told}") } else { told };
            assert_eq!(told, expected);
        }
        assert_eq!(told(Path::new("/dev/zero")), "/zero: not a regular file");
        assert_eq!(told(Path::new("/proc/self/status")).split(' ').nth(1), Some("bytes"), "files without a size");
    }

    #[test]
    fn a_link_leads_to_files_of_its_owner_only() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let at = |name: &str| -> PathBuf { directory.path().join(name) };
        for run in ["run-1", "other"] {
            std::fs::create_dir(at(run)).expect("it can be made");
            std::fs::write(at(run).join("status"), "12").expect("it can be written");
        }
        symlink("run-1", at("latest")).expect("it can be made");
        symlink(at("other"), at("away")).expect("it can be made");
        symlink("../other/../away", at("run-1/on")).expect("it can be made");
        symlink("loop", at("loop")).expect("it can be made");
        let mut cases = vec![
            ("latest/status", "2 bytes"),
            ("away/status", "2 bytes"),
            ("run-1/on/status", "2 bytes"),
            ("latest/nothing", "/nothing: no such file (passing)"),
            ("loop/status", "/status: too many symbolic links encountered"),
        ];
        if nix::unistd::geteuid().is_root() {
            for theirs in ["latest", "run-1/status", "away", "run-1/on"] {
                lchown(at(theirs), Some(4711), None).expect("root may");
            }
            let astray = "/status: a symbolic link of user 4711 leads to a file of somebody else";
            (cases[1].1, cases[2].1) = (astray, astray);
        }
        for (name, expected) in cases {
            assert_eq!(told(&at(name)), expected, "{name}");
        }
    }
}
