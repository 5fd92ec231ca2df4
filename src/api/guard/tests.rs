// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard against a private bus and a scripted polkit; skipped where there is no dbus-daemon.

use super::*;
use crate::api::error::ErrorName;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use zbus::OwnedVariant;
use zbus::connection::Builder;
use zbus::message::Message;

const PATIENCE: Duration = Duration::from_secs(20);

struct Bus {
    daemon: Child,
    address: String,
    /// Where its socket is.
    _directory: tempfile::TempDir,
}

impl Bus {
    fn start() -> Option<Bus> {
        let directory = tempfile::tempdir().expect("a directory");
        let address = format!("--address=unix:dir={}", directory.path().display());
        let command = ["--session", "--nofork", "--nopidfile", "--print-address=1", &address];
        let spawned = Command::new("dbus-daemon").args(command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut daemon) = spawned else {
            eprintln!("skipped: there is no dbus-daemon");
            return None;
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take()?).read_line(&mut address).ok()?;
        Some(Bus { daemon, address: address.trim().to_owned(), _directory: directory })
    }

    async fn connect(&self) -> Connection {
        Builder::address(self.address.as_str()).build().await.expect("the bus runs")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[derive(Clone, Copy)]
enum Mood {
    Yes,
    No,
    Challenge,
    Broken,
    Silent,
}

/// A polkit that answers by its mood and remembers what it was asked.
struct Polkit {
    mood: Mood,
    asked: Arc<Mutex<Vec<String>>>,
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: HashMap<String, String>,
        flags: u32,
        _cancellation: String,
    ) -> zbus::fdo::Result<((bool, bool, HashMap<String, String>),)> {
        let worker = details.get("worker").cloned().unwrap_or_default();
        let verb = details.get("verb").cloned().unwrap_or_default();
        let line = format!("{} {action} {verb} {worker} {flags}", subject.0);
        self.asked.lock().expect("no panic").push(line);
        match self.mood {
            Mood::Yes => Ok(((true, false, HashMap::new()),)),
            Mood::No => Ok(((false, false, HashMap::new()),)),
            Mood::Challenge => Ok(((false, true, HashMap::new()),)),
            Mood::Broken => Err(zbus::fdo::Error::Failed("no".into())),
            Mood::Silent => std::future::pending().await,
        }
    }
}

async fn polkit(bus: &Bus, mood: Mood) -> (Connection, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let connection = bus.connect().await;
    let object = Polkit { mood, asked: Arc::clone(&asked) };
    connection.object_server().at("/org/freedesktop/PolicyKit1/Authority", object).await.expect("free");
    connection.request_name("org.freedesktop.PolicyKit1").await.expect("free");
    (connection, asked)
}

/// Asks polkit in the daemon's place about whoever calls.
struct Probe;

#[zbus::interface(name = "test.Probe")]
impl Probe {
    async fn ask(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let question = Question { action: PolkitAction::ManageWorkers, verb: "restart", interactive };
        let worker = WorkerName::parse("train@1").expect("valid");
        question.ask(connection, &header, Some(&worker)).await
    }

    async fn uid(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u32, ApiError> {
        caller::uid(connection, &header).await
    }
}

async fn probe(bus: &Bus) -> Connection {
    let daemon = bus.connect().await;
    daemon.object_server().at("/probe", Probe).await.expect("free");
    daemon
}

async fn verdict(daemon: &Connection, caller: &Connection) -> Option<ErrorName> {
    let name = daemon.unique_name().expect("on a bus").as_str();
    let call = caller.call_method(Some(name), "/probe", Some("test.Probe"), "Ask", &());
    let result = tokio::time::timeout(PATIENCE, call).await.expect("in time");
    result.err().map(|error| ErrorName::of(&error).expect("an error of the interface"))
}

#[tokio::test]
async fn only_a_clear_yes_is_a_yes() {
    let Some(bus) = Bus::start() else { return };
    let (daemon, caller) = (probe(&bus).await, bus.connect().await);
    let denied = Some(ErrorName::AccessDenied);
    assert_eq!(verdict(&daemon, &caller).await, denied, "without polkit");
    let cases = [
        (Mood::Yes, None),
        (Mood::No, denied),
        (Mood::Challenge, Some(ErrorName::InteractiveAuthorizationRequired)),
        (Mood::Broken, denied),
    ];
    for (mood, expected) in cases {
        let (polkit, asked) = polkit(&bus, mood).await;
        assert_eq!(verdict(&daemon, &caller).await, expected);
        let line = "system-bus-name org.watcherd1.manage-workers restart train@1.service 0";
        assert_eq!(*asked.lock().expect("no panic"), [line]);
        polkit.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_polkit_that_leaves_during_the_check_denies() {
    let Some(bus) = Bus::start() else { return };
    let (daemon, caller) = (probe(&bus).await, bus.connect().await);
    let (polkit, asked) = polkit(&bus, Mood::Silent).await;
    let leave = async {
        while asked.lock().expect("no panic").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        polkit.clone().close().await.expect("closed");
    };
    let (verdict, ()) = tokio::join!(verdict(&daemon, &caller), leave);
    assert_eq!(verdict, Some(ErrorName::AccessDenied));
}

#[tokio::test]
async fn a_dialog_is_opened_only_for_calls_that_allow_one() {
    let Some(bus) = Bus::start() else { return };
    let (daemon, caller) = (probe(&bus).await, bus.connect().await);
    let (_polkit, asked) = polkit(&bus, Mood::Challenge).await;
    let call = Message::method_call("/probe", "Ask").destination(daemon.unique_name().expect("on a bus").clone());
    let call = call.interface("test.Probe").with_flags(Flags::ALLOW_INTERACTIVE_AUTH);
    caller.send(&call.build(&()).expect("a message")).await.expect("sent");
    let wait = async {
        while asked.lock().expect("no panic").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("in time");
    assert!(asked.lock().expect("no panic")[0].ends_with(" 1"));
}

#[tokio::test]
async fn a_caller_that_has_left_is_nobody() {
    let Some(bus) = Bus::start() else { return };
    let (daemon, caller) = (probe(&bus).await, bus.connect().await);
    let name = daemon.unique_name().expect("on a bus").as_str();
    let reply = caller.call_method(Some(name), "/probe", Some("test.Probe"), "Uid", &()).await.expect("known");
    assert_eq!(reply.body().deserialize::<u32>().expect("u"), nix::unistd::getuid().as_raw());

    let sender = caller.unique_name().expect("on a bus").clone();
    let call = Message::method_call("/probe", "Uid").sender(sender).build(&()).expect("a message");
    caller.close().await.expect("closed");
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            // The bus may notice a little later.
            match caller::uid(&daemon, &call.header()).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => return error,
            }
        }
    });
    assert_eq!(error.await.expect("in time").name(), ErrorName::AccessDenied);
}

#[test]
fn members_that_the_table_does_not_know_are_denied() {
    for (interface, member) in [(MANAGER, "Explode"), ("org.watcherd1.Manager2", "Start"), ("", ""), (WORKER, "Start")]
    {
        assert_eq!(rule(interface, member).map_err(|error| error.name()), Err(ErrorName::AccessDenied));
    }
    assert_eq!(rule(MANAGER, "GetWorker"), Ok(Rule::Open));
}

#[test]
fn only_root_or_the_owner_needs_no_polkit() {
    let (system, user) = (Guard::new(Mode::System), Guard::new(Mode::User { uid: 1000 }));
    assert_eq!(system.is_master(0), Ok(true));
    assert_eq!(system.is_master(1000), Ok(false));
    assert_eq!(user.is_master(1000), Ok(true));
    assert!(user.is_master(0).is_err());
    assert!(user.is_master(1001).is_err());
}

#[test]
fn a_users_unit_does_not_speak_for_a_system_unit_of_the_same_name() {
    let worker = WorkerName::parse("x").expect("valid");
    let user_unit = CallingUnit { system: Some("user@1000.service".into()), user: Some((1000, "x.service".into())) };
    let system_unit = CallingUnit { system: Some("x.service".into()), user: None };
    let (system, user) = (Guard::new(Mode::System), Guard::new(Mode::User { uid: 1000 }));
    assert!(system.is_unit(&system_unit, &worker) && !system.is_unit(&user_unit, &worker));
    assert!(user.is_unit(&user_unit, &worker) && !user.is_unit(&system_unit, &worker));
    assert!(!Guard::new(Mode::User { uid: 1001 }).is_unit(&user_unit, &worker));
    assert!(!system.is_unit(&system_unit, &WorkerName::parse("node/x").expect("valid")));
}
