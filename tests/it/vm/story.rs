// SPDX-License-Identifier: MIT OR Apache-2.0
//! One worker that meets its end, and what is known of it afterwards.

use super::Vm;
use serde_json::Value;
use std::fs;
use std::ops::Deref;
use std::path::Path;

/// What is kept of a journal entry.
const FIELDS: &str = "MESSAGE,PRIORITY,_TRANSPORT,SYSLOG_IDENTIFIER,MESSAGE_ID,UNIT,INVOCATION_ID,_SYSTEMD_UNIT,\
    _SYSTEMD_INVOCATION_ID,_PID,_COMM,_UID,COREDUMP_UNIT,COREDUMP_PID,COREDUMP_UID,COREDUMP_SIGNAL,\
    COREDUMP_SIGNAL_NAME,COREDUMP_COMM,COREDUMP_EXE,COREDUMP_CGROUP,COREDUMP_CMDLINE,COREDUMP_TIMESTAMP,\
    COREDUMP_FILENAME,COREDUMP_RLIMIT,OBJECT_SYSTEMD_UNIT,EXIT_CODE,EXIT_STATUS,UNIT_RESULT,WATCHERD_CAUSE";

/// A unit of the shared machine that was started.
pub struct Story {
    vm: &'static Vm,
    name: String,
    pub unit: String,
    /// Where the journal ended before.
    cursor: String,
}

impl Deref for Story {
    type Target = Vm;

    fn deref(&self) -> &Vm {
        self.vm
    }
}

impl Story {
    /// Starts `NAME.service`, with these lines in its `[Service]` section.
    pub fn begin(name: &str, service: &str) -> Story {
        let vm = Vm::shared();
        let text = vm.ok(&["journalctl", "-n", "0", "--show-cursor", "-q"]);
        let cursor = text.trim().trim_start_matches("-- cursor: ").to_owned();
        let unit = format!("{name}.service");
        vm.write(&format!("/etc/systemd/system/{unit}"), &format!("[Service]\n{service}\n"));
        // Some cannot be started, on purpose.
        vm.run(&["systemctl", "start", &unit]);
        Story { vm, name: name.to_owned(), unit, cursor }
    }

    /// Waits for the end of the first run and compares its cause, and systemd's facts, with what is expected.
    #[track_caller]
    pub fn ends(&self, cause: &str, facts: &[&str]) {
        let verdict = "_SYSTEMD_UNIT=watcherd.service";
        let about = format!("WATCHERD_WORKER={}", self.unit);
        self.until("the verdict", || {
            let said = self.ok(&["journalctl", "-q", "-o", "cat", verdict, &about]);
            (said.contains(" failed because of ") || said.contains("nothing says why")).then_some(())
        });
        self.until("the end", || (self.unit(&self.unit, "ActiveState") == "failed").then_some(()));
        let known = self.ok(&["systemctl", "show", &self.unit]);
        for fact in facts {
            assert!(known.lines().any(|line| line == *fact), "{}: not {fact}\n{}", self.name, self.story());
        }
        assert_eq!(self.unit("watcherd", "NRestarts"), "0", "watcherd itself failed\n{}", self.story());
        let incidents = self.incidents(&self.unit);
        assert_eq!(incidents.len(), 1, "{incidents:?}");
        assert_eq!(incidents[0]["Cause"]["data"], cause, "{}: {incidents:?}", self.name);
    }

    /// Waits for a journal entry of this story with these fields; a MESSAGE need only contain its text.
    #[track_caller]
    pub fn says(&self, fields: &[(&str, &str)]) -> Value {
        self.until(&format!("an entry with {fields:?}"), || {
            self.entries().into_iter().find(|entry| {
                fields.iter().all(|(field, value)| {
                    let text = entry[field].as_str().unwrap_or_default();
                    text == *value || (*field == "MESSAGE" && text.contains(value))
                })
            })
        })
    }

    /// The kernel's lines since the story began and the entries of and about its unit.
    pub fn entries(&self) -> Vec<Value> {
        let matches = ["UNIT=", "_SYSTEMD_UNIT=", "COREDUMP_UNIT=", "OBJECT_SYSTEMD_UNIT="];
        let matches: Vec<_> = matches.iter().map(|field| format!("{field}{}", self.unit)).collect();
        // Not --after-cursor=: journalctl 252 leaves out one entry too many if the one at the cursor does not match.
        let (after, fields) = (format!("--cursor={}", self.cursor), format!("--output-fields={FIELDS}"));
        let mut argv = vec!["journalctl", "-q", "-o", "json", "--all", &after, &fields, "_TRANSPORT=kernel"];
        for one in &matches {
            argv.extend(["+", one]);
        }
        self.ok(&argv).lines().map(|line| serde_json::from_str(line).expect("journalctl prints JSON")).collect()
    }
}

/// The entries are kept for people who want to see real ones.
impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("vm-facts");
        let lines: String = self.entries().iter().map(|entry| format!("{entry}\n")).collect();
        fs::create_dir_all(&place).ok();
        fs::write(place.join(format!("{}.json", self.name)), lines).ok();
        self.run(&["systemctl", "stop", &self.unit]);
    }
}
