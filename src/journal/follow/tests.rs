// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::journal::tests::{entry, file};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a sink was told, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Begun(Begun),
    Line { unit: Option<String>, pid: u32, at: i64, message: Vec<u8>, cursor: String },
    CaughtUp,
    Failed(String),
}

struct Following {
    follower: Follower,
    told: Receiver<Told>,
}

impl Following {
    fn new(directory: &Path, start: Start, watched: &[&str]) -> Following {
        Following::with(Plan {
            scope: Scope::System,
            directory: Some(directory.to_owned()),
            start,
            watched: named(watched),
        })
    }

    fn with(plan: Plan) -> Following {
        let (sender, told) = channel();
        let sink = move |heard: Heard<'_>| {
            let told = match heard {
                Heard::Begun(begun) => Told::Begun(begun),
                Heard::CaughtUp => Told::CaughtUp,
                Heard::Failed(error) => Told::Failed(error.to_string()),
                Heard::Entry(mut entry) => Told::Line {
                    unit: entry.unit.map(str::to_owned),
                    pid: entry.pid,
                    at: entry.at.0,
                    message: entry.message.to_owned(),
                    cursor: entry.cursor().expect("a cursor"),
                },
            };
            // The test may have seen enough.
            let _ = sender.send(told);
        };
        Following { follower: follow(plan, sink).expect("a follower"), told }
    }

    fn begun(&self) -> Begun {
        match self.told.recv_timeout(DEADLINE).expect("it says where it begins") {
            Told::Begun(begun) => begun,
            other => panic!("{other:?}"),
        }
    }

    /// The next `count` lines, whatever is said between them.
    fn lines(&self, count: usize) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match self.told.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error} after {lines:?}")) {
                Told::Line { unit, message, .. } => {
                    let unit = unit.unwrap_or_else(|| "kernel".to_owned());
                    lines.push((unit, String::from_utf8_lossy(&message).into_owned()));
                }
                Told::CaughtUp => {}
                other => panic!("{other:?}"),
            }
        }
        lines
    }

    fn until_caught_up(&self) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            match self.told.recv_timeout(DEADLINE).expect("it catches up") {
                Told::CaughtUp => return told,
                other => told.push(other),
            }
        }
    }
}

fn named(units: &[&str]) -> Vec<Watched> {
    units.iter().map(|unit| Watched { unit: (*unit).to_owned(), pid: 0 }).collect()
}

fn line(at: u64, unit: &str, message: &str) -> Vec<u8> {
    entry(at, &[("_SYSTEMD_UNIT", unit.as_bytes()), ("_PID", b"70"), ("MESSAGE", message.as_bytes())])
}

fn kernel(at: u64, message: &str) -> Vec<u8> {
    entry(at, &[("_TRANSPORT", b"kernel"), ("MESSAGE", message.as_bytes())])
}

/// Adds a journal file to those of the directory at once, as a rotation does; false without systemd-journal-remote.
fn add(directory: &Path, name: &str, export: &[u8]) -> bool {
    let Some((_dir, path)) = file(export) else { return false };
    std::fs::rename(path, directory.join(name)).expect("the same file system");
    true
}

/// A directory with two old entries.
fn begun() -> Option<TempDir> {
    let dir = tempfile::tempdir().expect("a directory");
    let old = [line(1_000, "a.service", "old"), kernel(1_001, "old")].concat();
    add(dir.path(), "1.journal", &old).then_some(dir)
}

fn pair(unit: &str, message: &str) -> (String, String) {
    (unit.to_owned(), message.to_owned())
}

#[test]
fn what_is_written_from_now_on_is_told_and_nothing_else() {
    let Some(dir) = begun() else { return };
    let following = Following::new(dir.path(), Start::Tail, &["a.service"]);
    assert_eq!(following.begun(), Begun::Tail);
    assert_eq!(following.until_caught_up(), []);
    let new = [
        line(2_000, "a.service", "new"),
        line(2_001, "b.service", "of another"),
        entry(2_002, &[("UNIT", b"a.service"), ("_PID", b"1"), ("MESSAGE", b"about it")]),
        entry(2_003, &[("SYSLOG_IDENTIFIER", b"kernel"), ("_TRANSPORT", b"syslog"), ("MESSAGE", b"a lie")]),
        kernel(2_004, "oops"),
        entry(2_005, &[("_SYSTEMD_UNIT", b"a.service")]),
        line(2_006, "a.service", "last"),
    ];
    assert!(add(dir.path(), "2.journal", &new.concat()));
    let expected = [pair("a.service", "new"), pair("kernel", "oops"), pair("a.service", "last")];
    assert_eq!(following.lines(3), expected);
    following.follower.stop();
    assert_eq!(following.told.try_iter().filter(|told| *told != Told::CaughtUp).count(), 0);
}

#[test]
fn an_empty_journal_is_followed_from_its_first_entry() {
    let dir = tempfile::tempdir().expect("a directory");
    for start in [Start::Tail, Start::After("nonsense".to_owned())] {
        let following = Following::new(dir.path(), start, &["a.service"]);
        following.begun();
        assert_eq!(following.until_caught_up(), []);
        if !add(dir.path(), "1.journal", &line(1, "a.service", "first")) {
            return;
        }
        assert_eq!(following.lines(1), [pair("a.service", "first")]);
        std::fs::remove_file(dir.path().join("1.journal")).expect("it is there");
    }
}

#[test]
fn rotation_and_vacuuming_lose_nothing_that_is_there() {
    let Some(dir) = begun() else { return };
    // Few units are matched by libsystemd, many by us.
    let many: Vec<String> = (0..100).map(|n| format!("u{n}.service")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["a.service"]).collect();
    let both = [&many[100..], &many].map(|watched| Following::new(dir.path(), Start::Tail, watched));
    for following in &both {
        following.begun();
        assert_eq!(following.until_caught_up(), []);
    }
    for round in 2..12_u64 {
        let lines: Vec<u8> =
            (0..50).flat_map(|n| line(round * 1_000 + n, "a.service", &format!("{round}.{n}"))).collect();
        assert!(add(dir.path(), &format!("{round}.journal"), &lines));
        for following in &both {
            let expected: Vec<_> = (0..50).map(|n| pair("a.service", &format!("{round}.{n}"))).collect();
            assert_eq!(following.lines(50), expected);
        }
        // Everything up to here is vacuumed every third time, also what they stand on.
        let gone = if round % 3 == 0 { round + 1 } else { round };
        (1..gone).for_each(|old| drop(std::fs::remove_file(dir.path().join(format!("{old}.journal")))));
    }
}

#[test]
fn the_set_of_units_can_be_changed_at_any_time() {
    let Some(dir) = begun() else { return };
    let following = Following::new(dir.path(), Start::Tail, &[]);
    following.begun();
    assert_eq!(following.until_caught_up(), []);
    let both = |at: u64| [line(at, "a.service", "a"), line(at + 1, "b.service", "b"), kernel(at + 2, "k")].concat();
    assert!(add(dir.path(), "2.journal", &both(2_000)));
    assert_eq!(following.lines(1), [pair("kernel", "k")]);
    let many: Vec<String> = (0..100).map(|n| format!("u{n}.service")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["b.service"]).collect();
    for (at, watched, told) in [(3, &["a.service"][..], "a"), (4, &many, "b"), (5, &["a.service"], "a")] {
        following.follower.watch(named(watched));
        assert!(add(dir.path(), &format!("{at}.journal"), &both(at * 1_000)));
        assert_eq!(following.lines(2), [pair(&format!("{told}.service"), told), pair("kernel", "k")]);
    }
    // A storm of changes costs no memory and ends with the last one.
    (0..10_000).for_each(|_| following.follower.watch(named(&["a.service"])));
    following.follower.watch(named(&["b.service"]));
    assert!(add(dir.path(), "6.journal", &both(6_000)));
    assert_eq!(following.lines(2), [pair("b.service", "b"), pair("kernel", "k")]);
}

#[test]
fn a_cursor_resumes_or_the_gap_is_told() {
    let Some(dir) = begun() else { return };
    let lines = |from: u64| -> Vec<u8> {
        (from..from + 4).flat_map(|at| line(at, "a.service", &at.to_string())).collect::<Vec<u8>>()
    };
    let first = Following::new(dir.path(), Start::Tail, &["a.service"]);
    assert_eq!(first.begun(), Begun::Tail);
    first.until_caught_up();
    assert!(add(dir.path(), "2.journal", &lines(2_000)));
    let cursors: Vec<String> = std::iter::repeat_with(|| first.told.recv_timeout(DEADLINE).expect("a line"))
        .filter_map(|told| match told {
            Told::Line { cursor, .. } => Some(cursor),
            _ => None,
        })
        .take(4)
        .collect();
    drop(first);

    let after = |cursor: &str, watched: &[&str]| {
        let following = Following::new(dir.path(), Start::After(cursor.to_owned()), watched);
        let begun = following.begun();
        let messages: Vec<_> = following
            .until_caught_up()
            .into_iter()
            .map(|told| match told {
                Told::Line { message, .. } => String::from_utf8_lossy(&message).into_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        (begun, messages)
    };
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(after(&cursors[1], &["a.service"]), (Begun::Resumed, strings(&["2002", "2003"])));
    assert_eq!(after(&cursors[3], &["a.service"]), (Begun::Resumed, strings(&[])));
    // The cursor's entry need not be of a unit that is followed now.
    assert_eq!(after(&cursors[1], &["b.service"]), (Begun::Resumed, strings(&[])));
    for nonsense in ["", "nonsense", "s=1;i=2", "a\0b"] {
        assert_eq!(after(nonsense, &["a.service"]), (Begun::CursorLost, strings(&[])), "{nonsense}");
    }

    assert!(add(dir.path(), "3.journal", &lines(3_000)));
    std::fs::remove_file(dir.path().join("2.journal")).expect("it is there");
    let rest = ["3000", "3001", "3002", "3003"];
    assert_eq!(after(&cursors[1], &["a.service"]), (Begun::Gap, strings(&rest)));
    assert_eq!(after(&cursors[1], &["b.service"]), (Begun::Gap, strings(&[])));
    std::fs::remove_file(dir.path().join("3.journal")).expect("it is there");
    assert_eq!(after(&cursors[1], &["a.service"]), (Begun::CursorLost, strings(&[])));
}

#[test]
fn huge_and_binary_messages_arrive_cut_but_else_as_they_are() {
    let Some(dir) = begun() else { return };
    let following = Following::new(dir.path(), Start::Tail, &["a.service"]);
    following.begun();
    following.until_caught_up();
    let strange: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let unit: (&str, &[u8]) = ("_SYSTEMD_UNIT", b"a.service");
    let new = [
        entry(2_000, &[unit, ("_PID", b"no number"), ("MESSAGE", &strange)]),
        entry(2_001, &[unit, ("_PID", b"99999999999"), ("MESSAGE", b"")]),
        entry(2_002, &[("_SYSTEMD_UNIT", &strange), ("MESSAGE", b"x")]),
        entry(2_003, &[("_TRANSPORT", b"kernel"), ("MESSAGE", b"\xff\0")]),
    ];
    assert!(add(dir.path(), "2.journal", &new.concat()));
    let mut told = Vec::new();
    while told.len() < 3 {
        if let Told::Line { pid, message, .. } = following.told.recv_timeout(DEADLINE).expect("a line") {
            told.push((pid, message));
        }
    }
    let expected = [(0, strange[..FIELD_MAX].to_vec()), (0, vec![]), (0, b"\xff\0".to_vec())];
    assert!(told == expected, "{:?}", told.iter().map(|(pid, message)| (pid, message.len())).collect::<Vec<_>>());
}

#[test]
fn a_users_lines_are_found_by_unit_or_main_process() {
    let Some(dir) = begun() else { return };
    let uid = nix::unistd::getuid().to_string();
    for filler in [0, 100] {
        let mut watched = vec![Watched { unit: "a.service".to_owned(), pid: 70 }];
        watched.extend((0..filler).map(|n| Watched { unit: format!("u{n}.service"), pid: 0 }));
        let directory = Some(dir.path().to_owned());
        let following = Following::with(Plan { scope: Scope::User, directory, start: Start::Tail, watched });
        following.begun();
        following.until_caught_up();
        let at = 2_000 + filler;
        let ours: (&str, &[u8]) = ("_UID", uid.as_bytes());
        let unit: (&str, &[u8]) = ("_SYSTEMD_USER_UNIT", b"a.service");
        let new = [
            entry(at, &[ours, unit, ("MESSAGE", b"named")]),
            entry(at + 1, &[ours, ("_PID", b"70"), ("MESSAGE", b"bare")]),
            entry(at + 2, &[ours, ("_PID", b"71"), ("MESSAGE", b"of another process")]),
            entry(at + 3, &[("_UID", b"4242"), unit, ("MESSAGE", b"of another user")]),
            entry(at + 4, &[("_UID", b"4242"), ("_PID", b"70"), ("MESSAGE", b"of another user")]),
            entry(at + 5, &[ours, ("_SYSTEMD_UNIT", b"a.service"), ("MESSAGE", b"of the system")]),
            kernel(at + 6, "k"),
        ];
        assert!(add(dir.path(), &format!("{at}.journal"), &new.concat()));
        assert_eq!(following.lines(3), [pair("a.service", "named"), pair("a.service", "bare"), pair("kernel", "k")]);
    }
}

#[test]
fn what_cannot_be_followed_is_said_at_once() {
    let plan = |directory: &str| Plan {
        scope: Scope::System,
        directory: Some(PathBuf::from(directory)),
        start: Start::Tail,
        watched: named(&["a\0=\n.service", ""]),
    };
    let error = follow(plan("/no/such/directory"), |_| {}).err().expect("it is missing");
    assert_eq!(error.to_string(), "cannot open the journal");
    let dir = tempfile::tempdir().expect("a directory");
    let odd = follow(plan(dir.path().to_str().expect("text")), |_| {}).expect("a follower of strange units");
    odd.stop();
}

#[test]
fn a_follower_that_is_dropped_ends_while_its_sink_is_busy() {
    let dir = tempfile::tempdir().expect("a directory");
    let lines: Vec<u8> = (1..200).flat_map(|at| line(at, "a.service", "x")).collect();
    let (sender, told) = std::sync::mpsc::sync_channel(0);
    let plan = Plan {
        scope: Scope::System,
        directory: Some(dir.path().to_owned()),
        start: Start::Tail,
        watched: named(&["a.service"]),
    };
    // It waits for a receiver, until there is none.
    let sink = move |_: Heard<'_>| {
        let _ = sender.send(());
    };
    let follower = follow(plan, sink).expect("a follower");
    if add(dir.path(), "1.journal", &lines) {
        (0..10).for_each(|_| told.recv_timeout(DEADLINE).expect("it is told"));
    }
    drop(told);
    follower.stop();
}
