// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recordings are played again: with their own policy, and with another one.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use watcherd::replay::{Decision, Report, Verdict, replay};

/// Every scenario in which watcherd lives once, by name.
fn scenarios() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("tests/scenarios exists") {
        let path = entry.expect("a readable directory").path();
        let text = fs::read_to_string(&path).expect("a readable scenario");
        let several = ["watcherd killed", "watcherd started", "machine booted"].iter().any(|life| text.contains(life));
        if !several {
            found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
        }
    }
    found
}

fn differing(report: &Report) -> Vec<String> {
    let text = |decision: &Option<Decision>| decision.as_ref().map(|known| format!("{:?} {}", known.at, known.text));
    let rows = report.rows.iter().filter(|row| row.verdict != Verdict::Same);
    rows.map(|row| format!("{:?} | {:?}", text(&row.recorded), text(&row.other))).collect()
}

#[test]
fn scenarios_decide_the_same_with_the_same_policy() {
    let scenarios = scenarios();
    assert!(scenarios.len() > 100, "{}", scenarios.len());
    for (name, text) in scenarios {
        let report = replay(&text, None).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        assert_eq!(differing(&report), [""; 0], "{name}");
    }
}

/// A worker that fails twice, is brought back twice, and stays up.
const FAILS_TWICE: &str = "\
policy back-off=1s
0s unit w active/running inv=a
10s unit w failed/failed result=exit-code exit=1
11s unit w active/running inv=b
11s done #1 ok
20s unit w failed/failed result=exit-code exit=1
22s unit w active/running inv=c
22s done #2 ok
600s nothing
";

/// With what this version does about it.
fn played(scenario: &str) -> String {
    watcherd::scenario::play::play(scenario).expect("a scenario")
}

/// The command with a recording and a policy; the policy's directory is removed afterwards.
fn watcherctl(recording: &str, policy: Option<&str>, options: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.scn");
    fs::write(&file, recording).expect("it can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_watcherctl"));
    command.args(["--user", "replay"]).arg(&file).args(options).env("TZ", "UTC");
    if let Some(policy) = policy {
        let workers = directory.path().join("etc/workers.d");
        fs::create_dir_all(&workers).expect("it can be made");
        fs::write(workers.join("w.toml"), policy).expect("it can be written");
        command.arg("--policy").arg(directory.path().join("etc"));
    }
    command.output().expect("watcherctl runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn the_recorded_policy_and_one_that_says_the_same_decide_the_same() {
    let recorded = played(FAILS_TWICE);
    let output = watcherctl(&recorded, None, &["--changes"]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "5 decisions, 0 differ.\n"));
    let same = "[worker]\nunit = \"w.service\"\n[restart]\nback-off = \"1s\"\n";
    let output = watcherctl(&recorded, Some(same), &["--changes"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "5 decisions, 0 differ.\n"));
}

#[test]
fn a_policy_that_gives_up_earlier_is_seen_to_do_so() {
    let stingy = "[worker]\nunit = \"w.service\"\n[restart]\nback-off = \"1s\"\nbudget = \"1/1h\"\n";
    let output = watcherctl(&played(FAILS_TWICE), Some(stingy), &["--json=short"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let differ: Vec<_> = rows.iter().filter(|row| row["Verdict"] != "same").collect();
    assert!(differ.iter().any(|row| row["Recorded"] == "start w" && row["Other"].is_null()), "{rows:#?}");
    let quarantined = |row: &&&Value| row["Other"].as_str().is_some_and(|text| text.starts_with("quarantined w"));
    assert_eq!(differ.iter().find(quarantined).map(|row| &row["Assumed"]), Some(&Value::Bool(false)), "{rows:#?}");
}

#[test]
fn what_the_recording_has_no_answer_for_is_assumed_and_marked() {
    // It is not started again at once, so that there is a third failure that nobody recorded an answer to.
    let third = FAILS_TWICE
        .replace("600s nothing", "30s unit w failed/failed result=exit-code exit=1\n40s nothing\n600s nothing");
    let third = third.replace("policy back-off=1s", "policy back-off=1s budget=2/1h");
    let generous = "[worker]\nunit = \"w.service\"\n[restart]\nback-off = \"1s\"\nbudget = \"9/1h\"\n";
    let output = watcherctl(&played(&third), Some(generous), &[]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("incident-closed w has recovered") && shown.contains(" *\n"), "{shown}");
    assert!(shown.contains("* follows from what the recording has no answer for"), "{shown}");
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    let output = watcherctl("0s unit w active/running\n1s unit\n", None, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).ends_with("a.scn: line 2: a name is missing\n"), "{}", text(&output.stderr));
    let output = watcherctl(FAILS_TWICE, Some("[worker]\nunit = \"w\"\n[restart]\nbudget = \"x\"\n"), &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("w.toml:4: restart.budget"), "{}", text(&output.stderr));
    let output = watcherctl("", None, &[]);
    assert_eq!(output.status.code(), Some(2));
}
