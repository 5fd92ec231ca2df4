// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entries are real ones of systemd 252 (Debian 12) and 257 (Debian 13), made into journal files by systemd-journal-remote(8).

use super::history::past_runs;
use super::synchronize::synchronize_at;
use super::tail::{LINES_MAX, Line, TEXT_MAX, Wanted, last_lines};
use super::*;
use crate::engine::event::{Exit, UnitResult};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(super) const REAL: &[u8] = include_bytes!("../../tests/fixtures/journal/systemd-252.export");
pub(super) const REAL_257: &[u8] = include_bytes!("../../tests/fixtures/journal/systemd-257.export");
const FOREVER: (Wall, Wall) = (Wall(0), Wall(i64::MAX - 1));

/// Makes a journal file; `None` without systemd-journal-remote, whose absence is said.
pub(super) fn file(export: &[u8]) -> Option<(TempDir, PathBuf)> {
    let programs = ["/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote"];
    let Some(program) = programs.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: systemd-journal-remote is not installed");
        return None;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let text = dir.path().join("export");
    std::fs::write(&text, export).expect("a file");
    let path = dir.path().join("test.journal");
    let made = Command::new(program).arg("-o").arg(&path).arg(&text).stderr(Stdio::null()).status();
    assert!(made.expect("systemd-journal-remote").success());
    Some((dir, path))
}

pub(super) fn journal(export: &[u8]) -> Option<(TempDir, Journal)> {
    let (dir, path) = file(export)?;
    let journal = Journal::open_files(&[&path]).expect("a journal");
    Some((dir, journal))
}

/// The real entries, with alice's uid replaced by ours.
pub(super) fn of_our_user(real: &[u8]) -> Vec<u8> {
    let uid = nix::unistd::getuid();
    let uid_line = format!("_UID={uid}");
    let unit_line = format!("_SYSTEMD_UNIT=user@{uid}.service");
    let lines: Vec<&[u8]> = real
        .split(|byte| *byte == b'\n')
        .map(|line| match line {
            b"_UID=1000" => uid_line.as_bytes(),
            b"_SYSTEMD_UNIT=user@1000.service" => unit_line.as_bytes(),
            other => other,
        })
        .collect();
    lines.join(&b'\n')
}

fn wanted<'a>(unit: &'a str, scope: Scope) -> Wanted<'a> {
    Wanted { unit, scope, invocation: None, pid: 0, since: FOREVER.0, until: FOREVER.1, lines: 10 }
}

/// An entry in export format; fields with awkward bytes are written in its binary form.
pub(super) fn entry(at: u64, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut text = format!("__REALTIME_TIMESTAMP={at}\n__MONOTONIC_TIMESTAMP={at}\n").into_bytes();
    text.extend(b"_BOOT_ID=0123456789abcdef0123456789abcdef\n");
    for (name, value) in fields {
        if value.iter().all(|byte| (b' '..0x7f).contains(byte)) {
            text.extend([name.as_bytes(), b"=", value, b"\n"].concat());
        } else {
            let len = (value.len() as u64).to_le_bytes();
            text.extend([name.as_bytes(), b"\n", &len, value, b"\n"].concat());
        }
    }
    text.push(b'\n');
    text
}

#[test]
fn every_kind_of_end_is_rebuilt_from_real_entries() {
    every_kind_of_end(REAL);
    every_kind_of_end(REAL_257);
}

fn every_kind_of_end(real: &[u8]) {
    let Some((_dir, mut journal)) = journal(real) else { return };
    use Exit::{Dumped, Exited, Killed, None};
    let cases: [(&str, UnitResult, Exit, bool); 14] = [
        ("exit3", UnitResult::ExitCode, Exited(3), false),
        ("ok", UnitResult::Success, None, false),
        ("killed9", UnitResult::Signal, Killed(9), false),
        ("segv", UnitResult::CoreDump, Dumped(11), false),
        ("stopme", UnitResult::Success, None, true),
        ("stopbad", UnitResult::ExitCode, Exited(7), true),
        ("pre", UnitResult::ExitCode, None, false),
        ("post", UnitResult::ExitCode, Exited(4), false),
        ("wd", UnitResult::Watchdog, Killed(6), false),
        ("tmo", UnitResult::Timeout, None, false),
        ("noexec2", UnitResult::ExitCode, Exited(203), false),
        ("cond", UnitResult::ExecCondition, None, false),
        ("oneshot", UnitResult::ExitCode, Exited(6), false),
        ("bars", UnitResult::Success, None, true),
    ];
    for (unit, result, exit, stopped) in cases {
        let unit = format!("{unit}.service");
        let runs = past_runs(&mut journal, &unit, Scope::System, FOREVER.0, FOREVER.1).expect("an answer");
        assert_eq!(runs.len(), 1, "{unit}: {runs:?}");
        let run = &runs[0];
        assert_eq!((&run.end.result, run.end.exit, run.stopped), (&result, exit, stopped), "{unit}");
        assert!(
            run.invocation.is_some() && run.end.started != Wall::NEVER && run.end.started < run.end.ended,
            "{unit}"
        );
    }
}

#[test]
fn several_runs_come_oldest_first_and_only_those_of_the_window() {
    several_runs(REAL);
    several_runs(REAL_257);
}

fn several_runs(real: &[u8]) {
    let Some((_dir, mut journal)) = journal(real) else { return };
    let unit = "ar.service";
    let runs = past_runs(&mut journal, unit, Scope::System, FOREVER.0, FOREVER.1).expect("an answer");
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert!(runs.is_sorted_by_key(|run| run.end.ended));
    assert!(runs.iter().all(|run| run.end.exit == Exit::Exited(5) && !run.stopped));
    let second = runs[1].end.ended;
    let of = |journal: &mut Journal, since, until| past_runs(journal, unit, Scope::System, since, until).expect("runs");
    assert_eq!(of(&mut journal, second, FOREVER.1), runs[1..]);
    assert_eq!(of(&mut journal, Wall(second.0 + 1), FOREVER.1), runs[2..]);
    assert_eq!(of(&mut journal, FOREVER.0, second), runs[..2]);
    assert_eq!(of(&mut journal, Wall(second.0 + 1), second), []);
    let restarted = past_runs(&mut journal, "restarted.service", Scope::System, FOREVER.0, FOREVER.1).expect("runs");
    let ends: Vec<_> = restarted.iter().map(|run| (run.end.result.as_str(), run.end.exit, run.stopped)).collect();
    assert_eq!(ends, [("success", Exit::None, true), ("signal", Exit::Killed(9), false)]);
}

#[test]
fn the_users_own_manager_is_believed_about_the_users_units_only() {
    the_users_own_manager(REAL);
    the_users_own_manager(REAL_257);
}

fn the_users_own_manager(real: &[u8]) {
    let Some((_dir, mut journal)) = journal(&of_our_user(real)) else { return };
    let mut of = |unit: &str, scope| past_runs(&mut journal, unit, scope, FOREVER.0, FOREVER.1).expect("an answer");
    let ends = |runs: Vec<crate::engine::event::PastRun>| -> Vec<_> {
        runs.into_iter().map(|run| (run.end.result.as_str().to_owned(), run.end.exit, run.stopped)).collect()
    };
    assert_eq!(ends(of("uexit.service", Scope::User)), [("exit-code".to_owned(), Exit::Exited(9), false)]);
    assert_eq!(ends(of("ukill.service", Scope::User)), [("signal".to_owned(), Exit::Killed(9), false)]);
    assert_eq!(ends(of("ustop.service", Scope::User)), [("success".to_owned(), Exit::None, true)]);
    // The manager says nothing about a clean end.
    assert_eq!(ends(of("uok.service", Scope::User)), []);
    assert_eq!(ends(of("uexit.service", Scope::System)), []);
    assert_eq!(ends(of("exit3.service", Scope::User)), []);
}

#[test]
fn nobody_but_the_manager_is_believed() {
    let failure: &[(&str, &[u8])] =
        &[("MESSAGE_ID", b"d9b373ed55a64feb8242e02dbe79a49c"), ("UNIT_RESULT", b"exit-code"), ("MESSAGE", b"x")];
    let liars: [&[(&str, &[u8])]; 4] = [
        &[("_PID", b"666"), ("_UID", b"0"), ("UNIT", b"a.service")],
        &[("_PID", b"666"), ("_UID", b"1000"), ("_COMM", b"systemd"), ("UNIT", b"a.service")],
        &[("_PID", b"1"), ("OBJECT_SYSTEMD_UNIT", b"a.service")],
        &[("_PID", b"1"), ("UNIT", b"b.service")],
    ];
    let export: Vec<u8> = (1..).zip(liars).flat_map(|(at, liar)| entry(at, &[liar, failure].concat())).collect();
    let Some((_dir, mut journal)) = journal(&export) else { return };
    for scope in [Scope::System, Scope::User] {
        assert_eq!(past_runs(&mut journal, "a.service", scope, FOREVER.0, FOREVER.1).expect("an answer"), []);
    }
}

#[test]
fn the_newest_hundred_runs_are_returned() {
    let export: Vec<u8> = (0..150u64)
        .flat_map(|n| {
            let id = format!("{n:032x}");
            let unit: &[(&str, &[u8])] = &[("_PID", b"1"), ("UNIT", b"a.service"), ("INVOCATION_ID", id.as_bytes())];
            let begin: &[(&str, &[u8])] = &[("MESSAGE_ID", b"39f53479d3a045ac8e11786248231fbf")];
            let end: &[(&str, &[u8])] =
                &[("MESSAGE_ID", b"d9b373ed55a64feb8242e02dbe79a49c"), ("UNIT_RESULT", b"signal")];
            let at = 1_000_000 + n * 10;
            [entry(at, &[unit, begin].concat()), entry(at + 5, &[unit, end].concat())].concat()
        })
        .collect();
    let Some((_dir, mut journal)) = journal(&export) else { return };
    let runs = past_runs(&mut journal, "a.service", Scope::System, FOREVER.0, FOREVER.1).expect("an answer");
    assert_eq!(runs.len(), history::RUNS_MAX);
    assert_eq!((runs[0].end.ended, runs[99].end.ended), (Wall(1_000_505), Wall(1_001_495)));
    assert!(runs.iter().all(|run| run.end.started != Wall::NEVER));
}

#[test]
fn the_last_words_are_the_workers_own() {
    let Some((_dir, mut journal)) = journal(REAL) else { return };
    let mut of = |wanted: &Wanted<'_>| last_lines(&mut journal, wanted).expect("an answer");
    let lines = of(&wanted("killed9.service", Scope::System));
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["about to die"]);
    assert!(lines[0].pid > 1 && lines[0].at > Wall(0) && lines[0].cursor.starts_with("s="), "{lines:?}");

    let bars = of(&wanted("bars.service", Scope::System));
    let texts: Vec<&str> = bars.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts[0], "30%");
    assert!(texts.contains(&"\u{fffd}\u{fffd}bad"), "{texts:?}");
    assert_eq!(texts.last().map(|text| text.len()), Some(TEXT_MAX));
    let last = of(&Wanted { lines: 1, ..wanted("bars.service", Scope::System) });
    assert_eq!(last, bars[bars.len() - 1..]);
    assert_eq!(of(&Wanted { lines: 0, ..wanted("bars.service", Scope::System) }), []);
    let end = bars[bars.len() - 1].at;
    let (late, early): (Vec<Line>, Vec<Line>) = bars.into_iter().partition(|line| line.at == end);
    assert!(!late.is_empty() && !early.is_empty());
    assert_eq!(of(&Wanted { until: Wall(end.0 - 1), ..wanted("bars.service", Scope::System) }), early);
    assert_eq!(of(&Wanted { since: end, ..wanted("bars.service", Scope::System) }), late);
    assert_eq!(of(&wanted("no-such.service", Scope::System)), []);
}

#[test]
fn lines_of_another_run_are_left_out_and_lines_without_a_run_are_kept() {
    let ours = InvocationId([0xab; 16]);
    let unit: (&str, &[u8]) = ("_SYSTEMD_UNIT", b"a.service");
    let other = "cd".repeat(16);
    let export = [
        entry(1, &[unit, ("MESSAGE", b"other"), ("_SYSTEMD_INVOCATION_ID", other.as_bytes())]),
        entry(2, &[unit, ("MESSAGE", b"ours"), ("_SYSTEMD_INVOCATION_ID", "ab".repeat(16).as_bytes())]),
        entry(3, &[unit, ("MESSAGE", b"short-lived\0")]),
        entry(4, &[unit, ("_PID", b"3")]),
        entry(5, &[("_SYSTEMD_UNIT", b"b.service"), ("MESSAGE", b"about a"), ("OBJECT_SYSTEMD_UNIT", b"a.service")]),
    ]
    .concat();
    let Some((_dir, mut journal)) = journal(&export) else { return };
    let wanted = Wanted { invocation: Some(ours), ..wanted("a.service", Scope::System) };
    let lines = last_lines(&mut journal, &wanted).expect("an answer");
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["ours", "short-lived\0"]);
}

#[test]
fn a_users_line_without_a_unit_is_found_by_its_process() {
    let uid = nix::unistd::getuid().to_string();
    let user: &[(&str, &[u8])] = &[("_UID", uid.as_bytes())];
    let named: &[(&str, &[u8])] = &[("_SYSTEMD_USER_UNIT", b"a.service"), ("MESSAGE", b"first"), ("_PID", b"70")];
    let session = "cd".repeat(16);
    let bare: &[(&str, &[u8])] =
        &[("MESSAGE", b"last"), ("_PID", b"70"), ("_SYSTEMD_INVOCATION_ID", session.as_bytes())];
    let foreign: &[(&str, &[u8])] = &[("MESSAGE", b"foreign"), ("_PID", b"70"), ("_UID", b"4242")];
    let export = [entry(1, &[user, named].concat()), entry(2, &[user, bare].concat()), entry(3, foreign)].concat();
    let Some((_dir, mut journal)) = journal(&export) else { return };
    let run = InvocationId([7; 16]);
    let wanted = Wanted { invocation: Some(run), pid: 70, ..wanted("a.service", Scope::User) };
    let lines = last_lines(&mut journal, &wanted).expect("an answer");
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["first", "last"]);
}

#[test]
fn answers_are_bounded() {
    let unit: (&str, &[u8]) = ("_SYSTEMD_UNIT", b"a.service");
    let mut export: Vec<u8> = (1..2_500).flat_map(|at| entry(at, &[unit, ("MESSAGE", b"x")])).collect();
    export.extend(entry(9_000, &[unit, ("MESSAGE", &vec![b'y'; 600_000])]));
    let Some((_dir, mut journal)) = journal(&export) else { return };
    let wanted = Wanted { lines: usize::MAX, ..wanted("a.service", Scope::System) };
    let lines = last_lines(&mut journal, &wanted).expect("an answer");
    assert_eq!((lines.len(), lines[LINES_MAX - 1].text.len()), (LINES_MAX, TEXT_MAX));
    journal.seek_tail().expect("the end");
    assert!(journal.previous().expect("an entry"));
    assert_eq!(journal.field(c"MESSAGE").expect("a field").map(|bytes| bytes.len()), Some(FIELD_MAX));
    assert_eq!(journal.field(c"NONE").expect("no field"), None);
    journal.seek_head().expect("the begin");
    assert!(journal.next().expect("an entry"));
    assert_eq!(journal.at().expect("a time"), Wall(1));
}

#[test]
fn matches_combine_as_documented() {
    let export: Vec<u8> = (1u64..)
        .zip([("1", "x"), ("1", "y"), ("2", "x"), ("3", "z")])
        .flat_map(|(at, (a, b))| entry(at, &[("A", a.as_bytes()), ("B", b.as_bytes()), ("MESSAGE", b"m")]))
        .collect();
    let Some((_dir, mut journal)) = journal(&export) else { return };
    journal.add_match("A", "1").expect("a match");
    journal.add_match("A", "2").expect("a match");
    journal.and().expect("a condition");
    journal.add_match("B", "x").expect("a match");
    journal.or().expect("an alternative");
    journal.add_match("B", "y").expect("a match");
    journal.seek_head().expect("the begin");
    let mut found = Vec::new();
    while journal.next().expect("an entry or the end") {
        found.push(journal.at().expect("a time").0);
    }
    assert_eq!(found, [1, 2, 3]);
}

#[test]
fn a_damaged_journal_never_stops_us() {
    let Some((dir, path)) = file(REAL) else { return };
    let sound = std::fs::read(&path).expect("a file");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).expect("it is below")
    };
    let copy = dir.path().join("damaged.journal");
    let (mut answers, mut refusals) = (0, 0);
    for round in 0..150 {
        let mut bytes = sound.clone();
        let used = bytes.len().min(400_000);
        for _ in 0..=next(6) {
            let (at, len) = (next(used), next(4096));
            let end = (at + len).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = next(256) as u8);
        }
        if round % 5 == 0 {
            bytes.truncate(next(used));
        }
        std::fs::write(&copy, &bytes).expect("a file");
        let Ok(mut journal) = Journal::open_files(&[&copy]) else {
            refusals += 1;
            continue;
        };
        for unit in ["ar.service", "bars.service"] {
            let runs = past_runs(&mut journal, unit, Scope::System, FOREVER.0, FOREVER.1);
            let lines = last_lines(&mut journal, &wanted(unit, Scope::System));
            assert!(runs.as_ref().map_or(0, Vec::len) <= history::RUNS_MAX);
            answers += usize::from(runs.is_ok()) + usize::from(lines.is_ok());
        }
    }
    eprintln!("{answers} answers, {refusals} files refused");
    assert!(answers > 0);
}

#[test]
fn what_is_no_journal_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.journal");
    let error = Journal::open_files(&[&path]).err().expect("it is missing");
    assert_eq!(error.to_string(), "cannot open the journal");
    assert!(std::error::Error::source(&error).is_some());
    assert!(Journal::open_files(&[Path::new("a\0b")]).is_err());
    let mut empty = Journal::open_directory(dir.path()).expect("an empty journal");
    assert_eq!(past_runs(&mut empty, "a.service", Scope::System, FOREVER.0, FOREVER.1).expect("an answer"), []);
    let mut own = Journal::open(Scope::User).expect("our journal, though perhaps empty");
    let odd = "a\0=\n\u{1f980}.service";
    assert_eq!(past_runs(&mut own, odd, Scope::User, Wall(i64::MIN), Wall(i64::MAX)).expect("an answer"), []);
}

#[test]
fn journald_is_asked_and_its_answer_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let soon = Duration::from_secs(10);
    assert!(matches!(synchronize_at(&path, soon), Ok(false)), "nobody is there");

    let answers: [(&[u8], Option<bool>); 5] = [
        (b"{\"parameters\":{}}\0", Some(true)),
        (b"{\"error\":\"org.varlink.service.PermissionDenied\"}\0", Some(false)),
        (b"nonsense\0", None),
        (b"{}", None),
        (b"", None),
    ];
    let listener = UnixListener::bind(&path).expect("a socket");
    for (answer, expected) in answers {
        let journald = std::thread::spawn({
            let listener = listener.try_clone().expect("a copy");
            move || {
                let (mut peer, _) = listener.accept().expect("a caller");
                let expected = b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0";
                let mut call = vec![0; expected.len()];
                peer.read_exact(&mut call).expect("a call");
                assert_eq!(call, expected);
                let (first, second) = answer.split_at(answer.len() / 2);
                peer.write_all(first).expect("the first half");
                peer.write_all(second).expect("the second half");
            }
        });
        assert_eq!(synchronize_at(&path, soon).ok(), expected, "{}", String::from_utf8_lossy(answer));
        journald.join().expect("it is content");
    }

    let start = Instant::now();
    let error = synchronize_at(&path, Duration::from_millis(50)).expect_err("nobody answers");
    let JournalError::Synchronize { source } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(5));
}
