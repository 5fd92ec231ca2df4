// SPDX-License-Identifier: MIT OR Apache-2.0
//! The examples in manual pages and in README.md are what `watcherctl check` and the bus accept.

use crate::machine::{Machine, SUITES, source};
use crate::system::{QUICK, SLEEPER};
use std::fs;
use std::process::Command;

/// A manual page as text.
fn page(name: &str) -> String {
    fs::read_to_string(source().join("packaging/man").join(name)).expect("a readable page")
}

/// The example of a manual page, as it is shown.
fn example(name: &str) -> String {
    let page = page(name);
    let source = page.split(".SH EXAMPLE\n.nf\n").nth(1).and_then(|rest| rest.split(".fi\n").next());
    let shown = source.unwrap_or_else(|| panic!("{name} has no example"));
    shown.replace("\\-", "-").replace("\\e", "\\").replace("\\\\", "\\").replace("\\(dq", "\"")
}

/// Checks a configuration with this one file below /etc/watcherd; there must be no complaint.
#[track_caller]
fn check(file: &str, text: &str) {
    let root = tempfile::tempdir().expect("a directory can be made");
    let path = root.path().join("etc/watcherd").join(file);
    fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
    fs::write(&path, text).expect("it can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_watcherctl")).arg("check").arg("--root").arg(root.path()).output();
    let output = output.expect("watcherctl can be run");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}

#[test]
fn the_configuration_in_the_manual_pages_is_valid() {
    check("workers.d/example.toml", &example("watcherd-worker.5"));
    check("rules.d/example.toml", &example("watcherd.rules.5"));
    check("watcherd.toml", &example("watcherd.toml.5"));
}

#[test]
fn a_mistake_in_an_example_would_be_found() {
    let broken = example("watcherd-worker.5").replace("budget", "budgte");
    assert!(std::panic::catch_unwind(|| check("workers.d/example.toml", &broken)).is_err());
}

#[test]
fn the_policies_in_the_readme_are_valid() {
    let text = fs::read_to_string(source().join("README.md")).expect("a readable file");
    let blocks: Vec<_> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "{blocks:?}");
    for block in blocks {
        let whose = if block.contains("[worker]") { "" } else { "[worker]\nunits = [\"train@*.service\"]\n" };
        check("workers.d/readme.toml", &format!("{whose}{block}"));
    }
}

#[test]
fn the_call_in_the_page_about_the_bus_works() {
    for suite in SUITES {
        let policy = ("/etc/watcherd/workers.d/t.toml", &*QUICK.replace("w.service", "train.service"));
        let machine = Machine::boot_with(suite, &[policy, ("/etc/systemd/system/train.service", SLEEPER)]);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "train"]);
        machine.until_property("train.service", "Phase", "working");
        let example = example("org.watcherd1.5");
        let call = example.split("busctl monitor").next().expect("there is a first part");
        machine.ok(&["sh", "-c", call]);
        machine.until_property("train.service", "NRuns", "2");
    }
}
