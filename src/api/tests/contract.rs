// SPDX-License-Identifier: MIT OR Apache-2.0
//! dbus/*.xml against the running objects, in both directions.

use super::super::guard::{PolkitAction, Rule, TABLE};
use super::super::incident::Incident;
use super::super::job::Job;
use super::super::manager::Manager;
use super::super::path;
use super::super::publish::Published;
use super::super::worker::Worker;
use super::*;
use std::collections::BTreeSet;
use zbus::OwnedObjectPath;
use zbus::fdo::IntrospectableProxy;
use zbus_xml::{ArgDirection, Interface, Node, PropertyAccess};

const EMITS: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";

fn places() -> [(&'static str, OwnedObjectPath); 5] {
    [
        ("org.watcherd1.Manager", path::root()),
        ("org.watcherd1.Worker", path::worker(&name("train@1"))),
        ("org.watcherd1.Incident", path::incident(IncidentId(1))),
        ("org.watcherd1.Job", path::job(JobId(1))),
        ("org.freedesktop.LogControl1", OwnedObjectPath::try_from(path::LOG_CONTROL).expect("a path")),
    ]
}

async fn introspected(scene: &Scene, place: &OwnedObjectPath) -> String {
    let proxy = IntrospectableProxy::builder(&scene.client).destination("org.watcherd1").path(place);
    proxy.build().await.expect("a proxy").introspect().await.expect("introspection")
}

fn interface(xml: &str, name: &str) -> Interface<'static> {
    let node = Node::from_reader(xml.as_bytes()).expect("well-formed XML");
    let found = node.interfaces().iter().find(|interface| interface.name().as_str() == name);
    found.unwrap_or_else(|| panic!("{name} is missing")).to_owned()
}

fn emits(property: &zbus_xml::Property<'_>) -> String {
    let annotation = property.annotations().iter().find(|annotation| annotation.name() == EMITS);
    annotation.map_or("true", |annotation| annotation.value()).to_owned()
}

/// One line per method, property and signal, with everything that a client depends on.
fn lines(interface: &Interface<'_>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for method in interface.methods() {
        let arg = |arg: &zbus_xml::Arg<'_>| {
            let direction = if arg.direction() == Some(ArgDirection::Out) { "out" } else { "in" };
            format!(" {direction} {} {}", arg.ty(), arg.name().unwrap_or("?"))
        };
        lines.insert(format!("method {}{}", method.name(), method.args().iter().map(arg).collect::<String>()));
    }
    for signal in interface.signals() {
        let arg = |arg: &zbus_xml::Arg<'_>| format!(" {} {}", arg.ty(), arg.name().unwrap_or("?"));
        lines.insert(format!("signal {}{}", signal.name(), signal.args().iter().map(arg).collect::<String>()));
    }
    for property in interface.properties() {
        let access = match property.access() {
            PropertyAccess::Read => "read",
            PropertyAccess::Write => "write",
            PropertyAccess::ReadWrite => "readwrite",
        };
        lines.insert(format!("property {} {} {access} {}", property.name(), property.ty(), emits(property)));
    }
    lines
}

#[tokio::test]
async fn the_documented_contract_is_what_runs() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    for (name, place) in places() {
        let running = introspected(&scene, &place).await;
        if let Ok(directory) = std::env::var("PRINT_XML") {
            std::fs::write(format!("{directory}/{name}.xml"), &running).expect("a directory");
            continue;
        }
        if !name.starts_with("org.watcherd1.") {
            continue;
        }
        let file = format!("{}/dbus/{name}.xml", env!("CARGO_MANIFEST_DIR"));
        let written = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let (written, running) = (lines(&interface(&written, name)), lines(&interface(&running, name)));
        let missing: Vec<_> = written.difference(&running).collect();
        let unwritten: Vec<_> = running.difference(&written).collect();
        assert!(
            missing.is_empty() && unwritten.is_empty(),
            "{name}: only written: {missing:#?}, only running: {unwritten:#?}"
        );
        assert!(!running.iter().any(|line| line.contains(" ?") || line.contains("arg_")), "unnamed: {running:#?}");
    }
}

#[tokio::test]
async fn the_guard_knows_every_method_and_every_writable_property() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let mut running = BTreeSet::new();
    for (name, place) in places() {
        let interface = interface(&introspected(&scene, &place).await, name);
        running.extend(interface.methods().map(|method| (name.to_owned(), method.name().to_string())));
        let writable = interface.properties().filter(|property| property.access().write());
        running.extend(writable.map(|property| (name.to_owned(), property.name().to_string())));
    }
    let table: BTreeSet<_> = TABLE.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
    assert_eq!(table, running);
    assert_eq!(table.len(), TABLE.len(), "a member is in the table twice");
}

#[test]
fn every_action_is_used_and_documented() {
    for action in PolkitAction::ALL {
        let in_table = TABLE.iter().any(|row| matches!(row.2, Rule::Needs(used, _) if used == *action));
        // Lines of logs are a part of an answer that is open otherwise.
        assert!(in_table || *action == PolkitAction::ViewDetails, "{action:?}");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus/org.watcherd1.policy");
    if let Ok(policy) = std::fs::read_to_string(file) {
        for action in PolkitAction::ALL {
            assert!(policy.contains(&format!("<action id=\"{}\">", action.as_str())), "{}", action.as_str());
        }
    }
}

#[tokio::test]
async fn signals_follow_the_annotations() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let quiet = [Manager::QUIET, Worker::QUIET, Incident::QUIET, Job::QUIET];
    let invalidated = [Manager::INVALIDATED, Worker::INVALIDATED, Incident::INVALIDATED, Job::INVALIDATED];
    for (((name, place), quiet), invalidated) in places().into_iter().zip(quiet).zip(invalidated) {
        let interface = interface(&introspected(&scene, &place).await, name);
        let with = |value: &str| -> BTreeSet<String> {
            let found = interface.properties().filter(|property| emits(property) == value);
            found.map(|property| property.name().to_string()).collect()
        };
        assert_eq!(with("false"), quiet.iter().map(|name| (*name).to_owned()).collect(), "{name}");
        assert_eq!(with("invalidates"), invalidated.iter().map(|name| (*name).to_owned()).collect(), "{name}");
    }
}
