// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds wait for, looked at once: free space, pressure, whether something is there. Any of it may block for ever
//! where a file system of a network is dead. Errors are fragments that name what could not be read.

use crate::engine::until::Resource;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The kernel computes its averages anew after this; see psi.rst of the kernel.
const AVERAGED_EVERY: Duration = Duration::from_secs(2);
/// The average forgets with this constant.
const FORGETS_IN: f64 = 10.0;

/// The free space of the file system that a directory is in, in bytes; what is reserved for root does not count.
pub fn free(path: &str) -> Result<u64, String> {
    let space = statvfs(path).map_err(|errno| format!("{path}: {}", words(errno)))?;
    Ok(space.blocks_available().saturating_mul(space.fragment_size()))
}

/// Whether something of that name is there; a symbolic link is something, wherever it leads.
pub fn exists(path: &str) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(format!("{path}: {}", words_of(&error))),
    }
}

/// The share of the last ten seconds in which tasks waited for the resource, in percent.
pub fn pressure(resource: Resource) -> Result<f64, String> {
    pressure_in(&Path::new("/proc/pressure").join(resource.as_str()))
}

/// How long such a share takes at least to fall below a limit, however little there is to wait for from now on.
pub fn falls_below_after(share: f64, limit: f64) -> Duration {
    let seconds = if share > limit && limit > 0.0 { FORGETS_IN * (share / limit).ln() } else { 0.0 };
    Duration::try_from_secs_f64(seconds).unwrap_or(AVERAGED_EVERY).max(AVERAGED_EVERY)
}

fn pressure_in(file: &Path) -> Result<f64, String> {
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{}: this kernel does not count pressure", file.display()),
        _ => format!("{}: {}", file.display(), words_of(&error)),
    })?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "));
    let share = some.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")));
    let share = share.and_then(|share| share.parse().ok()).filter(|share: &f64| share.is_finite());
    share.ok_or_else(|| format!("{}: not in the form that is known", file.display()))
}

fn words_of(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.kind().to_string(), |number| words(Errno::from_raw(number)))
}

fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_that_of_the_file_system() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8");
        assert!(free(path).expect("it can be asked") > 0);
        assert_eq!(free("/proc"), Ok(0));
        let missing = format!("{path}/missing");
        assert_eq!(free(&missing), Err(format!("{missing}: no such file or directory")));
    }

    #[test]
    fn links_and_directories_are_something_and_what_cannot_be_seen_is_unknown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        std::os::unix::fs::symlink("/nowhere", path("link")).expect("a link");
        fs::write(path("file"), "").expect("a file");
        for (name, expected) in [("", true), ("link", true), ("file", true), ("none", false), ("file/below", false)] {
            assert_eq!(exists(&path(name)), Ok(expected), "{name}");
        }
        std::os::unix::fs::symlink("loop", path("loop")).expect("a link");
        assert_eq!(exists(&path("loop/x")), Err(format!("{}: too many symbolic links encountered", path("loop/x"))));
        assert!(exists(&path(&"x".repeat(300))).is_err());
    }

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("memory");
        assert_eq!(pressure_in(&file), Err(format!("{}: this kernel does not count pressure", file.display())));
        for (text, expected) in [
            ("some avg10=12.34 avg60=0.05 avg300=0.01 total=2500000\nfull avg10=1.00 total=7\n", Some(12.34)),
            ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", Some(0.0)),
            ("full avg10=1.00 total=7\n", None),
            ("some avg10=NaN\n", None),
            ("", None),
        ] {
            fs::write(&file, text).expect("a file");
            assert_eq!(pressure_in(&file).ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_average_is_not_looked_at_before_it_can_have_fallen() {
        assert_eq!(falls_below_after(5.0, 10.0), AVERAGED_EVERY);
        assert_eq!(falls_below_after(10.0, 10.0), AVERAGED_EVERY);
        let wait = falls_below_after(80.0, 10.0).as_secs_f64();
        assert!((20.0..21.0).contains(&wait), "{wait}");
        assert_eq!(falls_below_after(f64::INFINITY, 10.0), AVERAGED_EVERY);
        assert_eq!(falls_below_after(80.0, 0.0), AVERAGED_EVERY);
    }
}
