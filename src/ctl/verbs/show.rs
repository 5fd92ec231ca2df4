// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints properties for scripts.

use crate::api::client::{BUS_NAME, ROOT};
use crate::ctl::args::Show;
use crate::ctl::connect::Link;
use crate::ctl::events::path_of;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Object, object_of};
use crate::ctl::names;
use crate::ctl::out::{json, property};
use crate::ctl::session::Session;
use serde_json::Value;

pub async fn perform(session: &Session, given: &Show) -> Outcome {
    let link = session.connect().await?;
    let mut objects = Vec::new();
    if given.workers.is_empty() {
        objects.push(properties(&link, ROOT, "org.watcherd1.Manager").await?);
    } else {
        for unit in names::resolve(&link, &given.workers).await? {
            objects.push(properties(&link, &path_of(&unit), "org.watcherd1.Worker").await?);
        }
    }
    if let Some(form) = session.json() {
        let wanted = |key: &String| given.property.is_empty() || given.property.contains(key);
        let kept = |object: Object| object.into_iter().filter(|(key, _)| wanted(key)).collect();
        let array: Value = objects.into_iter().map(kept).map(json::complete).collect();
        return session.print_json(&array, form);
    }
    let texts: Vec<String> =
        objects.iter().map(|object| property::lines(object, &given.property, given.value)).collect();
    session.print(&texts.join("\n"))?;
    Ok(exit::OK)
}

/// All properties of one interface.
pub async fn properties(link: &Link, path: &str, interface: &str) -> Result<Object, Failure> {
    let failure = |error: zbus::Error| Failure::from_bus("read the properties", &error);
    let builder = zbus::fdo::PropertiesProxy::builder(&link.connection);
    let proxy = builder.destination(BUS_NAME).path(path).interface("org.freedesktop.DBus.Properties");
    let proxy = proxy.build().await.map_err(failure)?;
    let name = interface.try_into().map_err(|_| Failure::failed("the interface has no valid name"))?;
    let dict = proxy.get_all(name).await.map_err(|error| failure(error.into()))?;
    Ok(object_of(&dict))
}
