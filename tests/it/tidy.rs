// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps true what the design promises about the source tree.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the modules of a directory may use of each other; `lib.rs` and `bin` are one call each and not listed.
const MAY_USE: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("rules", &["engine"]),
    ("config", &["engine", "rules"]),
    ("scenario", &["engine", "config"]),
    ("replay", &["engine", "scenario"]),
    ("systemd", &["engine"]),
    ("journal", &["engine"]),
    ("progress", &["engine"]),
    ("host", &["engine"]),
    ("gpu", &["engine"]),
    ("store", &["engine"]),
    ("rules", &["engine"]),
    ("act", &["engine", "systemd"]),
    ("api", &["engine"]),
    (
        "daemon",
        &[
            "engine", "config", "scenario", "systemd", "journal", "progress", "host", "gpu", "rules", "store", "act",
            "api", "daemon",
        ],
    ),
    ("ctl", &["act", "api", "config", "engine", "journal", "replay", "rules", "scenario", "ctl"]),
];

#[test]
fn the_engine_compiles_alone() {
    let out = tempfile::tempdir().expect("a temporary directory");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let result = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit=metadata", "--cap-lints", "allow", "--out-dir"])
        .arg(out.path())
        .arg(root().join("src/engine/mod.rs"))
        .output()
        .expect("rustc runs");
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}

#[test]
fn the_engine_touches_neither_clock_nor_world() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::io",
        "std::os",
        "Mutex",
        "RwLock",
        "Condvar",
        "mpsc",
        "Atomic",
        "Instant",
        "SystemTime",
        "println!",
        "unsafe ",
        "crate::",
    ];
    complain(sources("src/engine").into_iter().flat_map(|file| {
        let words = forbidden.iter().filter(move |word| code(&file.1).contains(*word)).map(|word| word.to_string());
        words.map(move |word| format!("{} uses {word}", file.0.display()))
    }));
}

#[test]
fn modules_use_only_what_the_design_allows() {
    complain(MAY_USE.iter().flat_map(|(directory, allowed)| {
        sources(&format!("src/{directory}")).into_iter().flat_map(move |(path, text)| {
            let used = code(&text);
            let used = used.split("crate::").skip(1).filter_map(|rest| {
                let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                (!word.is_empty() && word != *directory && !allowed.contains(&word.as_str())).then_some(word)
            });
            let complaints: Vec<_> =
                used.map(|word| format!("{}: {directory} must not use crate::{word}", path.display())).collect();
            complaints
        })
    }));
}

#[test]
fn files_are_named_after_what_they_know() {
    complain(sources("src").into_iter().filter_map(|(path, _)| {
        let stem = path.file_stem()?.to_str()?;
        ["util", "utils", "common", "helper", "helpers", "misc", "imp"]
            .contains(&stem)
            .then(|| format!("{} says nothing by its name", path.display()))
    }));
}

#[test]
fn nothing_is_left_undone() {
    let marks = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "#[allow("];
    complain(sources("src").into_iter().flat_map(|(path, text)| {
        let found: Vec<_> = marks.iter().filter(|mark| text.contains(**mark)).collect();
        found.into_iter().map(|mark| format!("{} contains {mark}", path.display())).collect::<Vec<_>>()
    }));
}

#[test]
fn every_source_file_names_its_licence() {
    complain(sources("src").into_iter().chain(sources("tests")).filter_map(|(path, text)| {
        let named = text.starts_with("// SPDX-License-Identifier: MIT OR Apache-2.0\n");
        (!named).then(|| format!("{}: the first line must name the licence", path.display()))
    }));
}

#[test]
fn every_test_that_incidents_md_names_exists() {
    let text = std::fs::read_to_string(root().join("tests/incidents.md")).expect("it is there");
    let named = text.split('`').skip(1).step_by(2).filter(|word| word.contains(".rs") || word.contains(".scn"));
    complain(named.filter_map(|word| {
        let (file, function) = word.split_once("::").unwrap_or((word, ""));
        let found = ["tests", "src"].iter().find_map(|top| std::fs::read_to_string(root().join(top).join(file)).ok());
        match found {
            None => Some(format!("tests/incidents.md: there is no {file}")),
            Some(text) if !function.is_empty() && !text.contains(&format!("fn {function}(")) => {
                Some(format!("tests/incidents.md: there is no {function} in {file}"))
            }
            Some(_) => None,
        }
    }));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every Rust file below `directory`, by its path in the project; none if there is no such directory.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.expect("a readable directory").path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a readable source file");
                files.push((path.strip_prefix(root()).unwrap_or(&path).to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

fn complain(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<_> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
