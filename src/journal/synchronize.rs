// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits until journald has written down what it was told: `io.systemd.Journal.Synchronize`, as `journalctl --sync` does.

use super::JournalError;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const SOCKET: &str = "/run/systemd/journal/io.systemd.journal";

/// A varlink message ends in NUL.
const CALL: &[u8] = b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0";

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 << 10;

/// Makes sure that lines which were sent before this call can be read after it; takes 1 to 200 ms.
///
/// `Ok(false)`: we may not ask (only root may), or nobody is there who could answer; then look again a little later.
pub fn synchronize(deadline: Duration) -> Result<bool, JournalError> {
    synchronize_at(Path::new(SOCKET), deadline)
}

pub(super) fn synchronize_at(path: &Path, deadline: Duration) -> Result<bool, JournalError> {
    match call(path, Instant::now() + deadline) {
        Ok(answer) => Ok(answer.get("error").is_none()),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(false),
            _ => Err(JournalError::Synchronize { source: error }),
        },
    }
}

fn call(path: &Path, deadline: Instant) -> io::Result<serde_json::Value> {
    let mut stream = connected(path)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(CALL).map_err(timed_out)?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let len = match stream.read(&mut part) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.map_err(timed_out)?,
        };
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match part[..len].iter().position(|byte| *byte == 0) {
            Some(end) => {
                answer.extend_from_slice(&part[..end]);
                return Ok(serde_json::from_slice(&answer)?);
            }
            None => answer.extend_from_slice(&part[..len]),
        }
        if answer.len() > ANSWER_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

/// Connects without waiting: a blocking connect would wait for ever on a journald that hangs with a full queue.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::EAGAIN) => return Err(ErrorKind::TimedOut.into()),
        other => other?,
    }
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// A socket timeout is reported as `EAGAIN`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}
