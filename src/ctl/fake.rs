// SPDX-License-Identifier: MIT OR Apache-2.0
//! A watcherd of a few lines at the other end of a socket pair, and a terminal that keeps what is printed.

use super::args::CommandLine;
use super::failure::exit;
use super::model::Object;
use super::session::Session;
use super::verbs;
use crate::api::client::{BUS_NAME, Dict, HoldRow, ROOT, WorkerRow};
use crate::api::error::ApiError;
use clap::Parser;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zbus::connection::Builder;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Guid, ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake says and what it was asked.
#[derive(Default)]
pub struct Script {
    pub workers: Vec<Object>,
    pub holds: Vec<HoldRow>,
    pub incidents: Vec<Dict>,
    pub plan: Vec<Dict>,
    pub notices: Vec<Dict>,
    /// The answer to the next change.
    pub refusal: Option<ApiError>,
    /// How jobs end.
    pub job_result: &'static str,
    /// `Method argument…`, in order.
    pub calls: Vec<String>,
    /// The reading ends of locks.
    pub locks: Vec<OwnedFd>,
}

type Shared = Arc<Mutex<Script>>;

pub struct Fake {
    pub script: Shared,
    client: Connection,
    server: Connection,
}

/// What a call of watcherctl printed, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Printed {
    pub status: u8,
    pub out: String,
    pub err: String,
}

impl Fake {
    pub async fn with(script: Script) -> Fake {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let server = Builder::unix_stream(ours).server(Guid::generate()).p2p().build();
        let client = Builder::unix_stream(theirs).p2p().build();
        let (server, client) = tokio::join!(server, client);
        Fake::between(server.expect("a server"), client.expect("a client"), script).await
    }

    async fn between(server: Connection, client: Connection, script: Script) -> Fake {
        let script = Arc::new(Mutex::new(Script { job_result: "done", ..script }));
        let manager = Manager { script: Arc::clone(&script) };
        server.object_server().at(ROOT, manager).await.expect("the root is free");
        let workers: Vec<Object> = lock(&script).workers.clone();
        for object in workers {
            let path = super::events::path_of(unit(&object));
            let worker = Worker { script: Arc::clone(&script), object };
            server.object_server().at(path, worker).await.expect("the path is free");
        }
        Fake { script, client, server }
    }

    /// Runs watcherctl with these words.
    pub async fn run(&self, words: &[&str]) -> Printed {
        run_over(&self.client, words).await
    }

    /// Gives up the name on the bus, as a daemon that ends.
    pub async fn leave(&self) {
        self.server.release_name(BUS_NAME).await.expect("the bus runs");
    }

    /// Takes the name on the bus, as a daemon that starts.
    pub async fn come(&self) {
        self.server.request_name(BUS_NAME).await.expect("the name is free");
    }

    /// Changes properties of a worker, as the daemon would announce it.
    pub async fn change(&self, unit: &str, properties: Value) {
        let path = super::events::path_of(unit);
        let Value::Object(properties) = properties else { panic!("not an object") };
        let changed: HashMap<&str, Variant<'_>> =
            properties.iter().map(|(key, value)| (key.as_str(), variant(value))).collect();
        let body = ("org.watcherd1.Worker", changed, Vec::<&str>::new());
        let interface = "org.freedesktop.DBus.Properties";
        let sent = self.server.emit_signal(None::<&str>, path, interface, "PropertiesChanged", &body);
        sent.await.expect("the client reads");
    }

    pub async fn incident_opened(&self, id: u32, worker: &str, cause: &str) {
        let emitter = SignalEmitter::new(&self.server, ROOT).expect("a valid path");
        let path = ObjectPath::try_from(format!("{ROOT}/incident/{id}")).expect("a valid path");
        Manager::incident_opened(&emitter, id, path, worker, cause, HashMap::new()).await.expect("the client reads");
    }

    pub fn calls(&self) -> Vec<String> {
        lock(&self.script).calls.clone()
    }
}

/// Runs watcherctl with these words over an existing connection.
async fn run_over(client: &Connection, words: &[&str]) -> Printed {
    let line = match CommandLine::try_parse_from(std::iter::once(&"watcherctl").chain(words)) {
        Ok(line) => line,
        Err(error) => return Printed { status: exit::USAGE, out: String::new(), err: error.to_string() },
    };
    let (out, err) = (Paper::default(), Paper::default());
    let session = Session::on(client.clone(), line.global, Box::new(out.clone()), Box::new(err.clone()));
    let outcome = tokio::time::timeout(PATIENCE, verbs::perform(&session, line.verb)).await;
    let status = outcome.expect("it ends in time").unwrap_or_else(|failure| {
        session.complain(&failure);
        failure.status
    });
    Printed { status, out: out.text(), err: err.text() }
}

/// A bus of its own.
pub struct Bus {
    daemon: Child,
    address: String,
    directory: tempfile::TempDir,
    flag: String,
}

impl Bus {
    /// `None` where there is no dbus-daemon.
    pub fn start() -> Option<Bus> {
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
        let flag = directory.path().join("flag").to_str().expect("UTF-8").to_owned();
        Some(Bus { daemon, address: address.trim().to_owned(), directory, flag })
    }

    /// A file that is not there yet.
    pub fn flag(&self) -> &str {
        assert!(self.directory.path().is_dir());
        &self.flag
    }

    pub async fn connect(&self) -> Connection {
        Builder::address(self.address.as_str()).build().await.expect("the bus runs")
    }

    /// A daemon that owns the name.
    pub async fn daemon(&self, script: Script) -> Fake {
        let fake = Fake::between(self.connect().await, self.connect().await, script).await;
        fake.come().await;
        fake
    }

    /// Runs watcherctl with these words.
    pub async fn run(&self, words: &[&str]) -> Printed {
        run_over(&self.connect().await, words).await
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

pub fn lock(script: &Shared) -> std::sync::MutexGuard<'_, Script> {
    script.lock().expect("no test panics while it holds this")
}

/// Output that can be read afterwards.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("nobody panics while writing").clone();
        String::from_utf8(bytes).expect("all output is UTF-8")
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics while writing").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Manager {
    script: Shared,
}

#[zbus::interface(name = "org.watcherd1.Manager")]
impl Manager {
    fn list_workers(&self) -> Vec<WorkerRow> {
        let row = |object: &Object| {
            let path = ObjectPath::try_from(super::events::path_of(unit(object))).expect("a valid path");
            (unit(object).to_owned(), String::new(), String::new(), String::new(), 0, path.into())
        };
        lock(&self.script).workers.iter().map(row).collect()
    }

    fn list_incidents(&self, filter: Dict) -> Vec<Dict> {
        let mut script = lock(&self.script);
        let mut filter: Vec<String> =
            super::model::object_of(&filter).iter().map(|(key, value)| format!("{key}={value}")).collect();
        filter.sort();
        script.calls.push(format!("ListIncidents {}", filter.join(" ")));
        let id = filter.iter().find_map(|text| text.strip_prefix("id=")?.parse::<u32>().ok());
        let wanted = |row: &&Dict| id.is_none_or(|id| row.get("Id").and_then(|v| u32::try_from(v).ok()) == Some(id));
        let copy = |row: &Dict| {
            row.iter().map(|(key, value)| (key.clone(), value.try_clone().expect("no descriptors"))).collect()
        };
        script.incidents.iter().filter(wanted).map(copy).collect()
    }

    fn describe(&self) -> String {
        let script = lock(&self.script);
        let open = script.workers.iter().filter(|object| object.get("Incident").is_some_and(|i| i != "/")).count();
        json!({"NIncidentsOpen": open, "Holds": script.holds, "Workers": script.workers, "Degraded": [], "DryRun": false})
            .to_string()
    }

    async fn restart(
        &self,
        workers: Vec<String>,
        why: String,
        flags: u64,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<Vec<OwnedObjectPath>, ApiError> {
        let (result, refusal) = {
            let mut script = lock(&self.script);
            script.calls.push(format!("Restart {} {why:?} {flags}", workers.join(",")));
            (script.job_result, script.refusal.take())
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let mut jobs = Vec::new();
        for (id, worker) in (1u32..).zip(&workers) {
            let path = ObjectPath::try_from(format!("{ROOT}/job/{id}")).expect("a valid path");
            // The job may end before the answer is there.
            Manager::job_removed(&emitter, id, path.clone(), worker, result).await.expect("the client reads");
            jobs.push(path.into());
        }
        Ok(jobs)
    }

    fn run(&self, name: &str, argv: Vec<String>, unit_properties: Dict, policy: Dict, flags: u64) -> OwnedObjectPath {
        let shown = |dict: &Dict| Value::Object(super::model::object_of(dict)).to_string();
        let call = format!("Run {name} {argv:?} {} {} {flags}", shown(&unit_properties), shown(&policy));
        lock(&self.script).calls.push(call);
        ObjectPath::try_from(super::events::path_of(&format!("{name}.service"))).expect("a valid path").into()
    }

    fn hold(&self, workers: Vec<String>, _who: &str, why: &str, until_usec: u64, flags: u64) -> u32 {
        lock(&self.script).calls.push(format!("Hold {} {why:?} {until_usec} {flags}", workers.join(",")));
        7
    }

    fn hold_lock(&self, workers: Vec<String>, _who: &str, why: &str) -> zbus::OwnedFd {
        let (ours, theirs) = std::io::pipe().expect("a pipe");
        let mut script = lock(&self.script);
        script.calls.push(format!("HoldLock {} {why:?}", workers.join(",")));
        script.locks.push(ours.into());
        OwnedFd::from(theirs).into()
    }

    fn release(&self, id: u32) -> Result<(), ApiError> {
        let mut script = lock(&self.script);
        script.calls.push(format!("Release {id}"));
        if id == 404 { Err(ApiError::NoSuchHold("hold 404: no such hold".into())) } else { Ok(()) }
    }

    fn reload(&self, flags: u64) -> Vec<Dict> {
        let mut script = lock(&self.script);
        script.calls.push(format!("Reload {flags}"));
        std::mem::take(&mut script.plan)
    }

    fn list_notices(&self) -> Vec<Dict> {
        let mut script = lock(&self.script);
        script.calls.push("ListNotices".into());
        std::mem::take(&mut script.notices)
    }

    fn test_notice(&self, flags: u64) -> Result<(), ApiError> {
        let mut script = lock(&self.script);
        script.calls.push(format!("TestNotice {flags}"));
        script.refusal.take().map_or(Ok(()), Err)
    }

    #[zbus(signal)]
    async fn incident_opened(
        emitter: &SignalEmitter<'_>,
        id: u32,
        incident: ObjectPath<'_>,
        worker: &str,
        cause: &str,
        details: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        worker: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

struct Worker {
    script: Shared,
    object: Object,
}

#[zbus::interface(name = "org.watcherd1.Worker")]
impl Worker {
    fn quarantine(&self, why: &str) {
        lock(&self.script).calls.push(format!("Quarantine {} {why:?}", unit(&self.object)));
    }

    fn reset_quarantine(&self) {
        lock(&self.script).calls.push(format!("ResetQuarantine {}", unit(&self.object)));
    }

    #[zbus(property)]
    fn unit(&self) -> String {
        unit(&self.object).to_owned()
    }

    #[zbus(property)]
    fn phase(&self) -> String {
        self.object.get("Phase").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    #[zbus(property)]
    fn intended_up(&self) -> bool {
        true
    }

    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        vec![0xab; 16]
    }

    #[zbus(property)]
    fn policy(&self) -> Vec<(String, String, String)> {
        vec![
            ("restart.budget".into(), "5/1h".into(), "/etc/watcherd/workers.d/train.toml:12".into()),
            ("restart.back-off".into(), "1s..5min".into(), "default".into()),
        ]
    }
}

fn unit(object: &Object) -> &str {
    object.get("Unit").and_then(Value::as_str).unwrap_or_default()
}

/// A dictionary from JSON: strings, numbers (as t), truth, and arrays of strings.
pub fn dict(value: Value) -> Dict {
    let Value::Object(object) = value else { panic!("not an object") };
    let owned = |value: &Value| OwnedVariant::try_from(variant(value)).expect("no descriptors");
    object.iter().map(|(key, value)| (key.clone(), owned(value))).collect()
}

fn variant(value: &Value) -> Variant<'static> {
    match value {
        Value::String(text) => Variant::from(text.clone()),
        Value::Bool(truth) => Variant::from(*truth),
        Value::Number(number) => match number.as_u64() {
            Some(n) => Variant::from(n),
            None => Variant::from(number.as_f64().unwrap_or_default()),
        },
        Value::Array(items) => {
            Variant::from(items.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
        }
        other => panic!("{other} has no place here"),
    }
}

/// Whether the other end of a lock is closed.
pub fn is_closed(lock: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(lock.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).expect("a pipe can be polled") > 0
}
