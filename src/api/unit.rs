// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which unit a process belongs to, by the path of its control group.

use crate::engine::ids::is_unit_character;

/// The units around a process; a user's unit and a system unit may have the same name and are never the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallingUnit {
    /// The unit of the system's manager.
    pub system: Option<String>,
    /// The unit of a user's manager, and that user's uid.
    pub user: Option<(u32, String)>,
}

impl CallingUnit {
    /// The unit around this very process.
    pub fn own() -> CallingUnit {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        CallingUnit::of(&read("/proc/self/cgroup"), &read("/proc/1/cgroup"))
    }

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
}
