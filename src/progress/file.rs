// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a file that anybody may have put there: a regular one, of bounded size, and without waiting for anything but
//! the disk.

use super::DOCUMENT_MAX;
use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
    let file = open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
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

/// std adds O_CLOEXEC.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY).open(path)
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
    use nix::sys::stat::Mode;
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
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).expect("it can be made");
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
}
