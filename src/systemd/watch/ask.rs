// SPDX-License-Identifier: MIT OR Apache-2.0
//! What systemd is asked, and the messages that ask it.

use super::super::proxy::{MANAGER_PATH, SERVICE, unit_path};
use super::{MANAGER, PROPERTIES};
use crate::engine::ids::WorkerName;
use crate::engine::policy::UnitPattern;
use zbus::message::Message;
use zbus::{Connection, OwnedObjectPath};

/// A question, and the listing that waits for its answer.
pub struct Question {
    pub ask: Ask,
    pub round: Option<u64>,
}

pub enum Ask {
    Subscribe,
    Version,
    SystemState,
    Matching(Vec<UnitPattern>),
    Named(Vec<WorkerName>),
    /// Units that systemd has just loaded; unlike `Named`, this loads nothing.
    Announced(Vec<WorkerName>),
    /// All properties of a unit, as it was loaded at the time.
    Unit {
        name: WorkerName,
        epoch: u64,
    },
}

/// One line of ListUnits: name, description, load, active and sub state, followed unit, path, job id, type and path.
pub type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Ask {
    /// The method call; its serial number finds the answer.
    pub fn message(&self, connection: &Connection) -> zbus::Result<Message> {
        let call = |path: &str, interface: &'static str, member: &'static str| {
            let path = OwnedObjectPath::try_from(path.to_owned())?;
            let mut call = Message::method_call(path, member).destination(SERVICE).interface(interface);
            if let Some(sender) = connection.unique_name() {
                call = call.sender(sender.clone());
            }
            zbus::Result::Ok(call)
        };
        let texts = |names: &[WorkerName]| names.iter().map(|name| name.unit().to_owned()).collect::<Vec<_>>();
        const NONE: [&str; 0] = [];
        match self {
            Ask::Subscribe => call(MANAGER_PATH, MANAGER, "Subscribe")?.build(&()),
            Ask::Version => call(MANAGER_PATH, PROPERTIES, "Get")?.build(&(MANAGER, "Version")),
            Ask::SystemState => call(MANAGER_PATH, PROPERTIES, "Get")?.build(&(MANAGER, "SystemState")),
            Ask::Matching(globs) => {
                let globs: Vec<_> = match globs.as_slice() {
                    // No pattern at all would list every unit.
                    [] => vec![""],
                    globs => globs.iter().map(UnitPattern::as_str).collect(),
                };
                call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns")?.build(&(&NONE[..], globs))
            }
            Ask::Named(names) => call(MANAGER_PATH, MANAGER, "ListUnitsByNames")?.build(&(texts(names),)),
            Ask::Announced(names) => {
                call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns")?.build(&(&NONE[..], texts(names)))
            }
            // No interface means all of them.
            Ask::Unit { name, .. } => call(&unit_path(name.unit()), PROPERTIES, "GetAll")?.build(&("",)),
        }
    }
}
