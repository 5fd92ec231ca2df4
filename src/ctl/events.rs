// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon's signals in the order in which they were sent, over restarts of the daemon too.
//!
//! Subscribe before the call whose effects are of interest; nothing is missed then, and nothing is polled.

use super::connect::Link;
use super::failure::Failure;
use super::model::{Object, object_of};
use crate::api::client::{BUS_NAME, Dict, ROOT};
use futures_util::StreamExt;
use std::fmt::Write;
use zbus::message::Type;
use zbus::{MatchRule, Message, MessageStream, OwnedObjectPath};

pub struct Events {
    stream: MessageStream,
    /// The unique name of the daemon; signals of others are not believed.
    owner: Owner,
}

enum Owner {
    /// There is no bus, and only one other side.
    Peer,
    Nobody,
    Name(String),
}

/// What the daemon said.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Properties of an object have changed; those that are only known to be stale are missing.
    Changed {
        path: String,
        interface: String,
        properties: Object,
    },
    IncidentOpened {
        id: u32,
        worker: String,
        cause: String,
    },
    IncidentUpdated {
        id: u32,
        worker: String,
        state: String,
    },
    IncidentClosed {
        id: u32,
        result: String,
    },
    JobNew {
        id: u32,
        job: String,
        worker: String,
    },
    JobRemoved {
        id: u32,
        job: String,
        worker: String,
        result: String,
    },
    Added {
        path: String,
    },
    Removed {
        path: String,
    },
    /// The daemon is gone.
    Left,
    /// The daemon is there again, with all state but new objects.
    Returned,
}

impl Events {
    pub async fn subscribe(link: &Link) -> Result<Events, Failure> {
        let stream = MessageStream::from(&link.connection);
        let owner = match link.connection.is_bus() {
            true => watch_bus(link).await.map_err(|error| Failure::from_bus("follow watcherd", &error))?,
            false => Owner::Peer,
        };
        Ok(Events { stream, owner })
    }

    /// Waits for the next news; `None` when the connection is lost.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            let message = self.stream.next().await?.ok()?;
            if message.message_type() != Type::Signal {
                continue;
            }
            if let Some(news) = self.owner_changed(&message) {
                return Some(news);
            }
            if self.is_from_daemon(&message)
                && let Some(news) = read(&message)
            {
                return Some(news);
            }
        }
    }

    fn owner_changed(&mut self, message: &Message) -> Option<News> {
        let header = message.header();
        if header.member()?.as_str() != "NameOwnerChanged" || header.sender()?.as_str() != "org.freedesktop.DBus" {
            return None;
        }
        let (name, _, new): (String, String, String) = message.body().deserialize().ok()?;
        if name != BUS_NAME {
            return None;
        }
        if new.is_empty() {
            self.owner = Owner::Nobody;
            return Some(News::Left);
        }
        self.owner = Owner::Name(new);
        Some(News::Returned)
    }

    fn is_from_daemon(&self, message: &Message) -> bool {
        let header = message.header();
        match &self.owner {
            Owner::Peer => true,
            Owner::Nobody => false,
            Owner::Name(owner) => header.sender().is_some_and(|sender| sender.as_str() == owner),
        }
    }
}

async fn watch_bus(link: &Link) -> zbus::Result<Owner> {
    let bus = zbus::fdo::DBusProxy::new(&link.connection).await?;
    let names = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(0, BUS_NAME)
        .build()?;
    let objects = MatchRule::builder().msg_type(Type::Signal).sender(BUS_NAME).path_namespace(ROOT).build()?;
    bus.add_match_rule(names).await?;
    bus.add_match_rule(objects).await?;
    match bus.get_name_owner(BUS_NAME.try_into()?).await {
        Ok(owner) => Ok(Owner::Name(owner.to_string())),
        Err(zbus::fdo::Error::NameHasNoOwner(_)) => Ok(Owner::Nobody),
        Err(error) => Err(error.into()),
    }
}

fn read(message: &Message) -> Option<News> {
    let header = message.header();
    let body = message.body();
    let path = header.path()?.to_string();
    let text = |path: OwnedObjectPath| path.to_string();
    match (header.interface()?.as_str(), header.member()?.as_str()) {
        ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
            let (interface, changed, _): (String, Dict, Vec<String>) = body.deserialize().ok()?;
            Some(News::Changed { path, interface, properties: object_of(&changed) })
        }
        ("org.freedesktop.DBus.ObjectManager", "InterfacesAdded") => {
            let (path, _): (OwnedObjectPath, std::collections::HashMap<String, Dict>) = body.deserialize().ok()?;
            Some(News::Added { path: text(path) })
        }
        ("org.freedesktop.DBus.ObjectManager", "InterfacesRemoved") => {
            let (path, _): (OwnedObjectPath, Vec<String>) = body.deserialize().ok()?;
            Some(News::Removed { path: text(path) })
        }
        ("org.watcherd1.Manager", "IncidentOpened") => {
            let (id, _, worker, cause, _): (u32, OwnedObjectPath, String, String, Dict) = body.deserialize().ok()?;
            Some(News::IncidentOpened { id, worker, cause })
        }
        ("org.watcherd1.Manager", "IncidentUpdated") => {
            let (id, _, worker, state, _): (u32, OwnedObjectPath, String, String, Dict) = body.deserialize().ok()?;
            Some(News::IncidentUpdated { id, worker, state })
        }
        ("org.watcherd1.Manager", "IncidentClosed") => {
            let (id, _, result): (u32, OwnedObjectPath, String) = body.deserialize().ok()?;
            Some(News::IncidentClosed { id, result })
        }
        ("org.watcherd1.Manager", "JobNew") => {
            let (id, job, worker): (u32, OwnedObjectPath, String) = body.deserialize().ok()?;
            Some(News::JobNew { id, job: text(job), worker })
        }
        ("org.watcherd1.Manager", "JobRemoved") => {
            let (id, job, worker, result): (u32, OwnedObjectPath, String, String) = body.deserialize().ok()?;
            Some(News::JobRemoved { id, job: text(job), worker, result })
        }
        _ => None,
    }
}

/// The worker's unit, from the path of its object; see sd_bus_path_decode(3).
pub fn unit_of(path: &str) -> Option<String> {
    let label = path.strip_prefix(ROOT)?.strip_prefix("/worker/")?;
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'_' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The path of the worker's object, before anybody told us.
pub fn path_of(unit: &str) -> String {
    let mut path = format!("{ROOT}/worker/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            write!(path, "_{byte:02x}").expect("a String takes everything");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_units_convert_into_each_other() {
        for unit in ["train@1.service", "1a.service", "n1/a\\x2db_c.service"] {
            assert_eq!(unit_of(&path_of(unit)).as_deref(), Some(unit));
        }
        assert_eq!(unit_of("/org/watcherd1/worker/train_401_2eservice").as_deref(), Some("train@1.service"));
        assert_eq!(unit_of("/org/watcherd1/worker/a_4"), None);
        assert_eq!(unit_of("/org/watcherd1/job/7"), None);
    }
}
