// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where objects live: paths under the root, with names escaped as systemd escapes them.

use super::client::ROOT;
use crate::engine::ids::{IncidentId, JobId, WorkerName};
use std::fmt::Write;
use zbus::{ObjectPath, OwnedObjectPath};

/// The path of org.freedesktop.LogControl1, fixed by its specification.
pub const LOG_CONTROL: &str = "/org/freedesktop/LogControl1";

pub fn root() -> OwnedObjectPath {
    path(ROOT.to_owned())
}

pub fn worker(name: &WorkerName) -> OwnedObjectPath {
    path(format!("{ROOT}/worker/{}", escaped(name.as_str())))
}

/// The object of a unit in systemd's own interface.
pub fn unit(name: &WorkerName) -> OwnedObjectPath {
    path(format!("/org/freedesktop/systemd1/unit/{}", escaped(name.unit())))
}

pub fn incident(id: IncidentId) -> OwnedObjectPath {
    path(format!("{ROOT}/incident/{id}"))
}

pub fn job(id: JobId) -> OwnedObjectPath {
    path(format!("{ROOT}/job/{id}"))
}

/// `/`, where a property has no object to point to.
pub fn none() -> OwnedObjectPath {
    path("/".to_owned())
}

fn path(text: String) -> OwnedObjectPath {
    ObjectPath::try_from(text).expect("names are escaped").into()
}

/// sd_bus_path_encode(3): letters and digits stay, except a digit in front; every other byte becomes `_` and two
/// hexadecimal digits.
fn escaped(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut label = String::with_capacity(name.len() + 16);
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            label.push(char::from(byte));
        } else {
            write!(label, "_{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does() {
        assert_eq!(escaped("train@1.service"), "train_401_2eservice");
        assert_eq!(escaped("1a"), "_31a");
        assert_eq!(escaped(""), "_");
        assert_eq!(escaped("a\\x2db_c"), "a_5cx2db_5fc");
        let name = WorkerName::parse("n1/train@1").expect("valid");
        assert_eq!(worker(&name).as_str(), "/org/watcherd1/worker/n1_2ftrain_401_2eservice");
        assert_eq!(job(JobId(7)).as_str(), "/org/watcherd1/job/7");
    }
}
