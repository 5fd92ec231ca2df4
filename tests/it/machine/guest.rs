// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tests say to a system with watcherd in it, be it a container or a virtual machine.

use std::process::Output;
use std::time::{Duration, Instant};

/// A running system; what can be asked of every one of them is defined on `dyn Guest`.
pub trait Guest {
    /// Runs a command inside, as root.
    fn run(&self, argv: &[&str]) -> Output;

    /// Writes a file inside.
    fn write(&self, path: &str, text: &str);

    /// The text of a file inside; empty if there is none.
    fn read(&self, path: &str) -> String;

    /// How long a condition may take to become true.
    fn patience(&self) -> Duration;
}

impl dyn Guest {
    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub fn ok(&self, argv: &[&str]) -> String {
        let output = self.run(argv);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            panic!("{argv:?} failed with {}:\n{text}{errors}\n{}", output.status, self.story());
        }
        text
    }

    /// What watcherd has logged, for messages about a failed test.
    pub fn story(&self) -> String {
        let output = self.run(&["journalctl", "-b", "-n", "60", "--no-pager", "-o", "short-monotonic"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until `condition` holds.
    #[track_caller]
    pub fn until<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        match wait(self.patience(), condition) {
            Some(value) => value,
            None => panic!("waited in vain for {what}\n{}", self.story()),
        }
    }

    /// Waits until a property of a worker has this value.
    #[track_caller]
    pub fn until_property(&self, worker: &str, property: &str, value: &str) {
        let mut last = String::new();
        let found = wait(self.patience(), || {
            last = self.property(worker, property);
            (last == value).then_some(())
        });
        assert!(found.is_some(), "waited in vain for {worker} {property}={value}, it is {last}\n{}", self.story());
    }

    /// A property of a worker, as busctl prints it without quotes; empty if there is no such worker.
    pub fn property(&self, worker: &str, property: &str) -> String {
        let path = worker_path(worker);
        let argv = ["busctl", "get-property", "org.watcherd1", &path, "org.watcherd1.Worker", property];
        let output = self.run(&argv);
        let text = String::from_utf8_lossy(&output.stdout);
        let value = text.trim().split_once(' ').map_or("", |(_, value)| value);
        value.trim_matches('"').to_owned()
    }

    /// Calls a method of the manager; returns what busctl prints.
    pub fn call(&self, method: &str, arguments: &[&str]) -> Result<String, String> {
        let mut argv = vec!["busctl", "call", "org.watcherd1", "/org/watcherd1", "org.watcherd1.Manager", method];
        // Arguments may begin with a dash.
        argv.insert(2, "--");
        argv.extend(arguments);
        let output = self.run(&argv);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// The incidents of a worker, newest first.
    pub fn incidents(&self, worker: &str) -> Vec<serde_json::Value> {
        let filter = ["a{sv}", "1", "worker", "s", worker];
        let mut argv = vec!["busctl", "--json=short", "call", "org.watcherd1", "/org/watcherd1"];
        argv.extend(["org.watcherd1.Manager", "ListIncidents"]);
        argv.extend(filter);
        let text = self.ok(&argv);
        let reply: serde_json::Value = serde_json::from_str(&text).expect("busctl prints JSON");
        reply["data"][0].as_array().cloned().unwrap_or_default()
    }

    /// A property of a unit as `systemctl show` prints it.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", unit, "-p", property, "--value"]).trim().to_owned()
    }

    /// Writes a unit file and makes systemd read it.
    pub fn write_unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.ok(&["systemctl", "daemon-reload"]);
    }
}

/// The object path of a worker.
pub fn worker_path(worker: &str) -> String {
    let escaped: String = worker
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect();
    format!("/org/watcherd1/worker/{escaped}")
}

/// Waits for a condition, looking every few milliseconds.
pub fn wait<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
