// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells from the path of a control group, as the kernel prints it, whether it is that of a unit.

use super::Scope;

/// The control group of one unit, wherever its slice is.
///
/// Paths are read as systemd builds them (cg_path_get_unit and cg_path_get_user_unit): slices, then the unit; a user's unit lies
/// below slices in the user's service manager. A unit of the same name in a container, or of another user, is not ours.
pub struct UnitCgroup<'a> {
    unit: &'a str,
    /// The service manager of the user whose unit it is.
    manager: Option<String>,
}

impl UnitCgroup<'_> {
    pub fn new(unit: &str, scope: Scope) -> UnitCgroup<'_> {
        let manager = (scope == Scope::User).then(|| format!("user@{}.service", nix::unistd::getuid()));
        UnitCgroup { unit, manager }
    }

    /// Whether the path is the unit's control group or lies below it.
    pub fn contains(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut parts = path.split('/').filter(|part| !part.is_empty()).skip_while(|part| is_slice(part));
        if let Some(manager) = &self.manager {
            let inside = parts.next().is_some_and(|part| is_named(part, manager));
            let mut parts = parts.skip_while(|part| is_slice(part));
            return inside && parts.next().is_some_and(|part| is_named(part, self.unit));
        }
        parts.next().is_some_and(|part| is_named(part, self.unit))
    }

    /// Whether one of the words of a text is such a path.
    pub fn is_in(&self, text: &str) -> bool {
        text.split(|c: char| c.is_whitespace() || "'\",;()".contains(c)).any(|word| self.contains(word))
    }
}

fn is_slice(part: &str) -> bool {
    part.ends_with(".slice")
}

/// systemd puts `_` before a name that the kernel would take for a file of its own; the kernel's log escapes backslashes.
fn is_named(part: &str, name: &str) -> bool {
    let bare = |part: &str| part == name || part.strip_prefix('_') == Some(name);
    bare(part) || (part.contains("\\x5c") && bare(&part.replace("\\x5c", "\\")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_of_the_unit_only_where_systemd_would_put_it() {
        let system = |unit, path| UnitCgroup::new(unit, Scope::System).contains(path);
        let ours = [
            ("a.service", "/system.slice/a.service"),
            ("a.service", "/a.service"),
            ("a.service", "/ml.slice/ml-big.slice/a.service/worker/1"),
            ("t@1.service", "/system.slice/system-t.slice/t@1.service"),
            ("cpu.service", "/system.slice/_cpu.service"),
            ("a\\x2db.service", "/system.slice/a\\x2db.service"),
            ("a\\x2db.service", "/system.slice/a\\x5cx2db.service"),
        ];
        for (unit, path) in ours {
            assert!(system(unit, path), "{path}");
        }
        let not_ours = [
            "",
            "/",
            "a.service",
            "/system.slice",
            "/system.slice/ba.service",
            "/system.slice/a.service.d",
            "/system.slice/docker.service/a.service",
            "/machine.slice/machine-x.scope/system.slice/a.service",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
        ];
        for path in not_ours {
            assert!(!system("a.service", path), "{path}");
        }
        let uid = nix::unistd::getuid();
        let user = UnitCgroup::new("a.service", Scope::User);
        assert!(user.contains(&format!("/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/a.service/x")));
        assert!(!user.contains("/user.slice/user-4242.slice/user@4242.service/app.slice/a.service"));
        assert!(!user.contains("/system.slice/a.service"));
    }

    #[test]
    fn a_path_is_found_among_words() {
        let unit = UnitCgroup::new("a.service", Scope::System);
        assert!(unit.is_in("Killed /system.slice/a.service due to memory pressure for /system.slice being 64%"));
        assert!(!unit.is_in("Killed /system.slice/b.service due to memory pressure for /system.slice being 64%"));
    }
}
