// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `tests/scenarios/*.scn` against the engine: the specification by example. The format is that of
//! `watcherd::scenario`. The engine is woken exactly when it asks. `UPDATE=1` rewrites the `->` lines; read the difference
//! before you commit it. `SCENARIO=text` runs only the files whose names contain the text.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use watcherd::engine::cause::Cause;
use watcherd::engine::evidence::{Clue, Role, Source};
use watcherd::engine::time::Wall;
use watcherd::scenario::play::play;

#[test]
fn every_scenario_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("tests/scenarios exists")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .filter(|path| path.to_string_lossy().contains(&wanted))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenario in {}", directory.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut complaints = String::new();
    for file in files {
        let written = std::fs::read_to_string(&file).expect("a readable scenario");
        let happened = play(&written).unwrap_or_else(|wrong| panic!("{}: {wrong}", file.display()));
        if happened == written {
            continue;
        }
        if update {
            std::fs::write(&file, happened).expect("a writable scenario");
        } else {
            complaints.push_str(&difference(&file, &written, &happened));
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}\n(UPDATE=1 takes over what happened)");
}

/// A line of a worker that proves a cause.
pub fn clue(cause: Cause, text: &str) -> Clue {
    Clue {
        rule: "rule".into(),
        cause,
        role: Role::Proof,
        weight: 80,
        explains: [].into(),
        also: [].into(),
        source: Source::Output,
        place: 1,
        at: Wall::NEVER,
        pid: 0,
        count: 1,
        text: text.into(),
        values: Vec::new(),
    }
}

/// The lines that differ, with where they stand.
fn difference(file: &Path, written: &str, happened: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (written.lines().collect(), happened.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = format!("{}:{}:\n", file.display(), start + 1);
    for line in &old[start.saturating_sub(2)..start] {
        let _ = writeln!(text, "    {line}");
    }
    for line in &old[start..old.len() - end] {
        let _ = writeln!(text, "  - {line}");
    }
    for line in &new[start..new.len() - end] {
        let _ = writeln!(text, "  + {line}");
    }
    text
}

#[test]
fn what_was_played_is_played_again_to_the_same_however_lines_end() {
    for text in ["# a\r", "# a\r\r\n# b", "# a\n\n\r\n"] {
        let played = play(text).expect("comments can be played");
        assert_eq!(play(&played).as_deref(), Ok(played.as_str()), "{text:?}");
    }
}
