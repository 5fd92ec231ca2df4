// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who calls: the uid, the user's name and the unit of a caller, taken from the bus and the kernel, never from arguments.

use super::error::ApiError;
use super::path;
use super::unit::CallingUnit;
use crate::engine::event::Caller;
use crate::engine::ids::WorkerName;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::Duration;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedVariant};

/// A name service that takes longer than this is not waited for.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);

/// The uid that the bus, or the kernel on a connection without a bus, vouches for.
pub async fn uid(connection: &Connection, header: &Header<'_>) -> Result<u32, ApiError> {
    if !connection.is_bus() {
        let credentials = connection.peer_creds().await.map_err(unknown_caller)?;
        return credentials.unix_user_id().ok_or_else(|| unknown_caller("no uid"));
    }
    let sender = header.sender().ok_or_else(|| unknown_caller("no sender"))?;
    let bus = bus(connection).await?;
    bus.get_connection_unix_user(sender.into()).await.map_err(unknown_caller)
}

/// The uid with the user's name.
pub async fn named(uid: u32) -> Caller {
    // NSS may ask the network: it gets a thread of its own and a deadline.
    let lookup = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
    let name = match tokio::time::timeout(NAME_TIMEOUT, lookup).await {
        Ok(Ok(Ok(Some(user)))) => user.name,
        _ => uid.to_string(),
    };
    Caller { uid, name }
}

/// Whether the user is a member of one of the groups, by the user database.
pub async fn is_member_of_any(uid: u32, groups: &'static [&'static str]) -> bool {
    let lookup = tokio::task::spawn_blocking(move || {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        let name = CString::new(user.name).ok()?;
        let member_of = getgrouplist(&name, user.gid).ok()?;
        let wanted = groups.iter().filter_map(|group| Group::from_name(group).ok().flatten());
        wanted.map(|group| group.gid).find(|gid| member_of.contains(gid))
    });
    matches!(tokio::time::timeout(NAME_TIMEOUT, lookup).await, Ok(Ok(Some(_))))
}

/// Whether the worker's unit runs as this user, as systemd says; not so if systemd does not answer.
pub async fn runs_worker(connection: &Connection, uid: u32, worker: &WorkerName) -> bool {
    if !connection.is_bus() {
        return false;
    }
    let ask = async {
        let what = ("org.freedesktop.systemd1.Service", "User");
        let properties = Some("org.freedesktop.DBus.Properties");
        let unit = path::unit(worker);
        let reply = connection.call_method(Some("org.freedesktop.systemd1"), unit, properties, "Get", &what).await;
        String::try_from(reply.ok()?.body().deserialize::<OwnedVariant>().ok()?).ok()
    };
    let user = tokio::time::timeout(NAME_TIMEOUT, ask).await.ok().flatten().unwrap_or_default();
    // No user is root, who does not get as far as here.
    !user.is_empty() && (user == uid.to_string() || user == named(uid).await.name)
}

/// The unit of the calling process.
pub async fn unit(connection: &Connection, header: &Header<'_>) -> Result<CallingUnit, ApiError> {
    let (pid, pidfd) = process(connection, header).await?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(unknown_caller)?;
    // The caller may have ended meanwhile, and its number may belong to another process. While the process, or its
    // connection, is still there, what was read is the caller's.
    let still_there = match pidfd {
        Some(fd) => is_alive(&fd),
        None => connection_has_pid(connection, header, pid).await,
    };
    if !still_there {
        return Err(unknown_caller("it has ended"));
    }
    let init = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    Ok(CallingUnit::of(&cgroups, &init))
}

/// The calling process, and its pidfd where the bus knows that.
async fn process(connection: &Connection, header: &Header<'_>) -> Result<(u32, Option<zbus::OwnedFd>), ApiError> {
    let no_pid = || unknown_caller("no process id");
    if !connection.is_bus() {
        let credentials = connection.peer_creds().await.map_err(unknown_caller)?;
        return Ok((credentials.process_id().ok_or_else(no_pid)?, None));
    }
    let sender = header.sender().ok_or_else(|| unknown_caller("no sender"))?;
    let bus = bus(connection).await?;
    let credentials = bus.get_connection_credentials(sender.into()).await.map_err(unknown_caller)?;
    Ok((credentials.process_id().ok_or_else(no_pid)?, credentials.into_process_fd()))
}

fn is_alive(pidfd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

async fn connection_has_pid(connection: &Connection, header: &Header<'_>, pid: u32) -> bool {
    if !connection.is_bus() {
        return !connection.is_closed();
    }
    let (Ok(bus), Some(sender)) = (bus(connection).await, header.sender()) else {
        return false;
    };
    matches!(bus.get_connection_unix_process_id(sender.into()).await, Ok(now) if now == pid)
}

async fn bus(connection: &Connection) -> Result<DBusProxy<'static>, ApiError> {
    DBusProxy::builder(connection).cache_properties(CacheProperties::No).build().await.map_err(unknown_caller)
}

fn unknown_caller(reason: impl std::fmt::Display) -> ApiError {
    ApiError::AccessDenied(format!("the caller cannot be identified: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_uid_without_a_name_is_a_number() {
        assert_eq!(named(0).await.name, "root");
        assert_eq!(named(3_999_999_999).await.name, "3999999999");
    }
}
