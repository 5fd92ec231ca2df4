// SPDX-License-Identifier: MIT OR Apache-2.0
//! systemd's Manager interface as far as it is needed, and the spelling of unit object paths.
//!
//! No property is cached and nothing is introspected: a call costs one message and one reply.

use zbus::{OwnedObjectPath, Variant};

pub const SERVICE: &str = "org.freedesktop.systemd1";
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit";
const JOB_PATH: &str = "/org/freedesktop/systemd1/job/";

/// One unit property in the form that StartTransientUnit takes.
pub type Property = (&'static str, Variant<'static>);
/// A unit that is made together with another one; none ever is.
pub type Auxiliary = (String, Vec<Property>);

/// org.freedesktop.systemd1.Manager; see org.freedesktop.systemd1(5).
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn get_unit_processes(&self, name: &str) -> zbus::Result<Vec<(String, u32, String)>>;
    fn freeze_unit(&self, name: &str) -> zbus::Result<()>;
    fn thaw_unit(&self, name: &str) -> zbus::Result<()>;
    /// Has all units read anew.
    fn reload(&self) -> zbus::Result<()>;
    /// Nobody waits for the answer: a unit that is not loaded has nothing to reset.
    #[zbus(no_reply)]
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[Property],
        aux: &[Auxiliary],
    ) -> zbus::Result<OwnedObjectPath>;
    /// The unit that a process belongs to.
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn get_job(&self, id: u32) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    /// When this manager was started first; a re-exec does not change it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn userspace_timestamp_monotonic(&self) -> zbus::Result<u64>;
}

/// The object path of a unit.
pub fn unit_path(unit: &str) -> String {
    let mut path = String::with_capacity(UNIT_PATH.len() + 1 + unit.len() + 16);
    path.push_str(UNIT_PATH);
    path.push('/');
    escape_into(unit, &mut path);
    path
}

/// The unit whose object path this is.
pub fn unit_of_path(path: &str) -> Option<String> {
    unescape(path.strip_prefix(UNIT_PATH)?.strip_prefix('/')?)
}

/// The number of the job whose object path this is.
pub fn job_of_path(path: &str) -> Option<u32> {
    path.strip_prefix(JOB_PATH)?.parse().ok()
}

/// systemd's `bus_label_escape`: letters and digits stay, a leading digit and all else become `_xx`.
fn escape_into(text: &str, path: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if text.is_empty() {
        path.push('_');
    }
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push('_');
            path.push(char::from(DIGITS[usize::from(byte >> 4)]));
            path.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

fn unescape(label: &str) -> Option<String> {
    if label == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'_' {
            bytes.push(*byte);
            continue;
        }
        let (code, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_paths_are_spelled_as_systemd_spells_them() {
        let cases = [
            ("train@1.service", "train_401_2eservice"),
            ("1a.service", "_31a_2eservice"),
            ("a-b_c:d\\x2d.service", "a_2db_5fc_3ad_5cx2d_2eservice"),
            ("", "_"),
        ];
        for (unit, label) in cases {
            let path = format!("{UNIT_PATH}/{label}");
            assert_eq!(unit_path(unit), path);
            assert_eq!(unit_of_path(&path).as_deref(), Some(unit));
        }
    }

    #[test]
    fn odd_paths_name_no_unit() {
        for path in ["/org/freedesktop/systemd1/unit", "/x", "/org/freedesktop/systemd1/unit/a_2", "", "/a_zz"] {
            assert_eq!(unit_of_path(path), None, "{path}");
        }
        assert_eq!(unit_of_path("/org/freedesktop/systemd1/unit/a_ff"), None);
        assert_eq!(job_of_path("/org/freedesktop/systemd1/job/42"), Some(42));
        assert_eq!(job_of_path("/org/freedesktop/systemd1/job/x"), None);
    }
}
