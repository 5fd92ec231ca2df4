// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who calls: the uid, the user's name and the unit of a caller, taken from the bus and the kernel, never from arguments.

use super::error::ApiError;
use crate::engine::event::Caller;
use crate::engine::ids::is_unit_character;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::Duration;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::proxy::CacheProperties;

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

/// The units around a process; a user's unit and a system unit may have the same name and are never the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallingUnit {
    /// The unit of the system's manager.
    pub system: Option<String>,
    /// The unit of a user's manager, and that user's uid.
    pub user: Option<(u32, String)>,
}

impl CallingUnit {
    /// Reads /proc/PID/cgroup; `init` is /proc/1/cgroup, which says where systemd's tree begins in a container.
    pub fn of(cgroups: &str, init: &str) -> CallingUnit {
        let unified = path_in(cgroups, "0::").zip(path_in(init, "0::"));
        let named = path_in(cgroups, ":name=systemd:").zip(path_in(init, ":name=systemd:"));
        let found = unified.map(|(path, init)| unit_of(path, init)).unwrap_or_default();
        if found.system.is_some() {
            return found;
        }
        // With cgroup v1 the line of v2 says "/".
        named.map(|(path, init)| unit_of(path, init)).unwrap_or(found)
    }
}

/// The path of the line with that controller; the kernel allows no newline in a cgroup's name.
fn path_in<'a>(cgroups: &'a str, controller: &str) -> Option<&'a str> {
    cgroups.lines().find_map(|line| {
        let rest = if controller == "0::" {
            line.strip_prefix(controller)?
        } else {
            let (number, rest) = line.split_once(':')?;
            number.parse::<u32>().ok()?;
            rest.strip_prefix(controller.strip_prefix(':')?)?
        };
        rest.starts_with('/').then_some(rest)
    })
}

/// As systemd's cg_path_get_unit() and cg_path_get_user_unit(): the first part that is no slice is the unit, whatever
/// the unit has made below it.
fn unit_of(path: &str, init: &str) -> CallingUnit {
    let root = init.strip_suffix("/init.scope").unwrap_or("");
    let Some(path) = path.strip_prefix(root).filter(|path| path.starts_with('/')) else {
        return CallingUnit::default();
    };
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let Some(system) = parts.find(|part| !is_slice(part)).and_then(unit_name) else {
        return CallingUnit::default();
    };
    let owner = system.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")?.parse::<u32>().ok());
    let user = owner.and_then(|uid| Some((uid, parts.find(|part| !is_slice(part)).and_then(unit_name)?)));
    CallingUnit { system: Some(system), user }
}

fn is_slice(part: &str) -> bool {
    part.strip_suffix(".slice").is_some_and(|stem| !stem.is_empty() && stem.chars().all(is_unit_character))
}

/// systemd puts one `_` before a name that would collide with a file of the kernel.
fn unit_name(part: &str) -> Option<String> {
    let name = part.strip_prefix('_').unwrap_or(part);
    let is_unit = name.contains('.') && !name.starts_with('.') && name.chars().all(is_unit_character);
    is_unit.then(|| name.to_owned())
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

    const INIT: &str = "0::/init.scope\n";

    fn system(cgroups: &str) -> Option<String> {
        CallingUnit::of(cgroups, INIT).system
    }

    #[test]
    fn the_unit_is_the_first_part_that_is_no_slice() {
        let cases = [
            ("0::/system.slice/a.service\n", Some("a.service")),
            ("0::/system.slice/a.service/sub\n", Some("a.service")),
            ("0::/system.slice/a.service/b.service\n", Some("a.service")),
            ("0::/system.slice/system-train.slice/train@1.service\n", Some("train@1.service")),
            ("0::/watcherd.slice/a\\x2db.service\n", Some("a\\x2db.service")),
            ("0::/system.slice/_cgroup.service\n", Some("cgroup.service")),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Some("session-3.scope")),
            ("0::/a.service (deleted)\n", None),
            ("0::/system.slice/payload/a.service\n", None),
            ("0::/system.slice\n", None),
            ("0::/\n", None),
            ("", None),
            ("garbage", None),
            ("0::system.slice/a.service", None),
            ("0::/.slice/a.service\n", None),
        ];
        for (cgroups, unit) in cases {
            assert_eq!(system(cgroups).as_deref(), unit, "{cgroups:?}");
        }
    }

    #[test]
    fn a_users_unit_is_never_taken_for_a_system_unit() {
        let app = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n";
        let unit = CallingUnit::of(app, INIT);
        assert_eq!(unit.system.as_deref(), Some("user@1000.service"));
        assert_eq!(unit.user, Some((1000, "x.service".to_owned())));
        let fake = "0::/system.slice/user@1000.service.service/app.slice/x.service\n";
        assert_eq!(CallingUnit::of(fake, INIT).user, None);
        let manager = "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n";
        assert_eq!(CallingUnit::of(manager, INIT).user, Some((1000, "init.scope".to_owned())));
    }

    #[test]
    fn lines_of_other_controllers_do_not_count() {
        let hybrid = "12:cpu:/system.slice/evil.service\n1:name=systemd:/system.slice/a.service\n0::/\n";
        let init = "1:name=systemd:/init.scope\n0::/init.scope\n";
        assert_eq!(CallingUnit::of(hybrid, init).system.as_deref(), Some("a.service"));
        assert_eq!(CallingUnit::of("3:name=systemdx:/a.service\n", init).system, None);
        assert_eq!(CallingUnit::of("x:name=systemd:/a.service\n", init).system, None);
    }

    #[test]
    fn a_container_sees_its_own_tree() {
        let init = "0::/machine.slice/c1.scope/init.scope\n";
        let inside = "0::/machine.slice/c1.scope/system.slice/a.service\n";
        assert_eq!(CallingUnit::of(inside, init).system.as_deref(), Some("a.service"));
        assert_eq!(CallingUnit::of("0::/system.slice/a.service\n", init).system, None);
        let sibling = "0::/machine.slice/c1.scope2/system.slice/a.service\n";
        assert_eq!(CallingUnit::of(sibling, init).system, None);
    }

    #[tokio::test]
    async fn a_uid_without_a_name_is_a_number() {
        assert_eq!(named(0).await.name, "root");
        assert_eq!(named(3_999_999_999).await.name, "3999999999");
    }
}
