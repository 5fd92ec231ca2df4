// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::engine::cause::Cause;
use crate::engine::event::Definition;
use crate::engine::ids::{HoldId, IncidentId, InvocationId};
use crate::engine::notice::Notice;
use crate::engine::parameter::Tuning;
use crate::engine::recurrence::Recurrence;
use crate::engine::saved::{SavedPace, SavedRemedies};
use crate::engine::until::Until;
use crate::engine::view::{IncidentResult, IncidentState, NoticeStage, NoticeState, Phase, RemedyView};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

const ODD: &str = "ünïcödé 🦀 \u{0} \u{1}\n\r\t\"'\\ ; DROP TABLE worker; -- \u{7f}\u{202e}";

fn open(dir: &Path) -> Store {
    let (store, notes) = Store::open(dir).expect("a store");
    assert_eq!(notes, []);
    store
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn name(text: &str) -> WorkerName {
    WorkerName::parse(text).expect("a name")
}

/// Reads nothing but `written`.
fn plain(written: &[(String, String)]) -> Result<Layer, String> {
    Ok(Layer { written: written.to_vec(), ..Layer::default() })
}

fn layer(written: &[(&str, &str)]) -> Layer {
    Layer { written: written.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(), ..Layer::default() }
}

fn worker(text: &str) -> SavedWorker {
    SavedWorker::new(name(text))
}

fn rich_remedies() -> SavedRemedies {
    let known = Recurrence {
        count: u32::MAX,
        value: Some(u64::MAX),
        same_value: 2,
        rung: 3,
        tried: 4,
        steps: 5,
        attempts: [Mono(-1), Mono(i64::MAX)].into(),
    };
    let now = [(Arc::from("A"), Arc::from(ODD)), ("B".into(), "".into())].into();
    SavedRemedies {
        recurrences: vec![(Cause::GpuOom, known), (Cause::Segfault, Recurrence::default())],
        failed_at: Some(0),
        tuning: Tuning::restore(now, vec![("A".into(), None), ("B".into(), Some(ODD.into()))]),
        tuned: Some(Mono(i64::MIN)),
        follow_up: Some((Mono(7), 2)),
    }
}

fn rich_workers() -> Vec<SavedWorker> {
    let full = SavedWorker {
        origin: SavedOrigin::Run(
            Definition {
                argv: vec![ODD.into(), String::new()],
                properties: vec![("Environment".into(), ODD.into()), ("Environment".into(), String::new())],
            },
            layer(&[("restart.budget", "5/1h"), ("", ODD)]),
        ),
        since: Wall(i64::MAX),
        remark: ODD.into(),
        invocation: Some(InvocationId(*b"\0\xff23456789abcdef")),
        run_ended: true,
        seen: Wall(i64::MAX),
        intended_up: true,
        completed: true,
        quarantine: Some(ODD.into()),
        paused: true,
        attempts: vec![Mono(i64::MIN), Mono(-1), Mono(0), Mono(i64::MAX)],
        failures: u32::MAX,
        cause: Some(Cause::Segfault),
        incident: Some(IncidentId(u32::MAX)),
        restart_due: Some(Mono(-5_000_000)),
        remedies: rich_remedies(),
        runs: i64::MAX as u64,
        downtime: Duration::from_micros(i64::MAX as u64),
        finished: Wall(i64::MIN),
        ..worker("node-1/full@1.service")
    };
    let adopted = SavedWorker {
        origin: SavedOrigin::Adopted(layer(&[("a", "b")])),
        quarantine: Some(String::new()),
        ..worker("adopted")
    };
    let bare = SavedWorker { origin: SavedOrigin::Adopted(Layer::default()), ..worker("bare") };
    let phases = Phase::ALL.iter().map(|phase| SavedWorker { phase: *phase, ..worker(&format!("p-{phase}")) });
    let mut all = vec![full, adopted, bare];
    all.extend(phases);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn incident(id: u32) -> IncidentView {
    IncidentView {
        id: IncidentId(id),
        worker: name("a"),
        run: None,
        cause: Cause::Unknown,
        confidence: 0,
        because: Vec::new(),
        cascade: Vec::new(),
        opened: Wall(i64::from(id)),
        detected: Wall::NEVER,
        decided: Wall::NEVER,
        started: Wall::NEVER,
        recovered: Wall::NEVER,
        closed: Wall::NEVER,
        state: IncidentState::Open,
        result: IncidentResult::None,
        remedies: Vec::new(),
        part_of: None,
        members: Vec::new(),
        text: String::new(),
    }
}

fn closed(id: u32, at: i64) -> IncidentView {
    IncidentView { state: IncidentState::Closed, closed: Wall(at), ..incident(id) }
}

fn rich_incidents() -> Vec<IncidentView> {
    let full = IncidentView {
        run: Some(InvocationId([255; 16])),
        cause: Cause::OomKillCgroup,
        confidence: u8::MAX,
        because: vec![ODD.into(), String::new()],
        cascade: vec![ODD.into()],
        opened: Wall(i64::MAX),
        detected: Wall(i64::MIN),
        decided: Wall(1),
        started: Wall(2),
        recovered: Wall(3),
        closed: Wall(4),
        remedies: vec![
            RemedyView { action: "restart", at: Wall(i64::MIN), by: ODD.into(), outcome: "failed: \"x\"".into() },
            RemedyView { action: "quarantine", at: Wall(7), by: String::new(), outcome: String::new() },
        ],
        part_of: Some(IncidentId(u32::MAX)),
        members: vec![name("b"), name("n/c@1")],
        text: ODD.into(),
        ..incident(u32::MAX - 1)
    };
    let states = IncidentState::ALL.iter().flat_map(|state| IncidentResult::ALL.iter().map(move |r| (*state, *r)));
    let states = (10..).zip(states).map(|(id, (state, result))| IncidentView { state, result, ..incident(id) });
    states.chain([full]).collect()
}

fn rich_progress() -> Vec<SavedProgress> {
    let pace = SavedPace {
        seen: Duration::from_secs(7_200),
        gaps: vec![Duration::from_millis(1_001), Duration::from_secs(90)],
        longest: vec![Duration::from_secs(600)],
    };
    let paces = vec![("".into(), pace), ("ünïcödé".into(), SavedPace::default())];
    let run = Some(InvocationId([9; 16]));
    let values = BTreeMap::from([("active".into(), 2.0), ("loss".into(), 0.1 + 0.2)]);
    vec![
        SavedProgress { worker: name("a"), run, at: Wall(5_000_000), value: 7, total: u64::MAX >> 1, paces, values },
        SavedProgress {
            worker: name("n/b"),
            run: None,
            at: Wall(1),
            value: 0,
            total: 0,
            paces: Vec::new(),
            values: BTreeMap::new(),
        },
    ]
}

#[test]
fn the_history_of_progress_is_thinned_out_and_goes_with_its_worker() {
    let dir = dir();
    let mut store = open(dir.path());
    let minute = 60_000_000;
    let at = |minutes: i64| SavedProgress {
        worker: name("a"),
        run: None,
        at: Wall(minutes * minute),
        value: minutes.unsigned_abs(),
        total: 20_000,
        paces: Vec::new(),
        values: BTreeMap::new(),
    };
    for minutes in 1..=10_080 + 2_880 {
        store.save(&Batch { progress: vec![at(minutes)], ..Batch::default() }).expect("saved");
    }
    let now = Wall((10_080 + 2_880) * minute);
    store.thin(now, Wall(720 * minute)).expect("thinned out");
    let points = store.history(&name("a"), 100_000).expect("readable");
    let between = |from: i64, to: i64| points.iter().filter(|(at, ..)| (from..to).contains(&(at.0 / minute))).count();
    assert_eq!(between(0, 720), 0, "too old");
    assert_eq!(between(720, 2_880), 36, "every hour");
    assert_eq!(between(3_000, 11_500), 850, "every ten minutes");
    assert_eq!(between(11_600, 12_960), 1_360, "every minute");
    assert!(points.is_sorted());
    assert_eq!(store.history(&name("a"), 1).expect("readable"), [(now, 12_960, 20_000)]);
    store.save(&Batch { workers: vec![(name("a"), None)], ..Batch::default() }).expect("forgotten");
    assert_eq!(store.history(&name("a"), 100_000).expect("readable"), []);
}

fn rich_notices() -> Vec<SavedNotice> {
    let notice = |id: u32, stage, state| SavedNotice {
        notice: Notice {
            id: NoticeId(id),
            stage,
            is_final: id == 1,
            incident: (stage != NoticeStage::Test).then_some(IncidentId(41)),
            worker: (stage != NoticeStage::Test).then(|| name("n/b")),
            cause: Cause::DiskFull,
            confidence: 97,
            result: IncidentResult::Recovered,
            opened: Wall(1),
            retry_at: Wall(i64::MAX),
            text: ODD.into(),
            next: ODD.into(),
            lines: vec![ODD.into(), String::new()],
            repeats: u32::MAX,
        },
        state,
        made: Wall(1),
        begun: Wall::NEVER,
        due: Wall(i64::MIN),
        attempts: u32::MAX,
        again: id == 2,
        error: ODD.into(),
    };
    vec![
        notice(1, NoticeStage::Opened, NoticeState::Waiting),
        notice(2, NoticeStage::Final, NoticeState::Sent),
        notice(3, NoticeStage::Closed, NoticeState::Repeated),
        notice(u32::MAX, NoticeStage::Test, NoticeState::Lost),
    ]
}

fn rich_batch() -> Batch {
    Batch {
        now: Now { mono: Mono(-7), wall: Wall(i64::MAX) },
        boot_id: "b0".into(),
        workers: rich_workers().into_iter().map(|worker| (worker.name.clone(), Some(worker))).collect(),
        incidents: rich_incidents(),
        progress: rich_progress(),
        notices: rich_notices().into_iter().map(|saved| (saved.notice.id, Some(saved))).collect(),
        holds: Some(vec![
            SavedHold { id: HoldId(1), workers: vec![], who: String::new(), why: ODD.into(), until: None, when: None },
            SavedHold {
                id: HoldId(7),
                workers: vec![name("a"), name("n/b")],
                who: ODD.into(),
                why: String::new(),
                until: Some(Wall(i64::MIN)),
                when: Some(Until::Free("/a (b)".into(), 5 << 30)),
            },
        ]),
        next_incident: u32::MAX,
        next_hold: u32::MAX,
    }
}

#[test]
fn an_empty_store_loads_the_defaults() {
    let dir = dir();
    let (saved, notes) = open(dir.path()).load(plain, "b0").expect("the defaults");
    assert_eq!((saved, notes), (Saved::default(), vec![]));
}

#[test]
fn whatever_is_saved_comes_back_the_same() {
    let dir = dir();
    let batch = rich_batch();
    let mut store = open(dir.path());
    // Twice, because the second time every row is there already.
    store.save(&batch).expect("saved");
    store.save(&batch).expect("saved again");
    let expected = Saved {
        clock: batch.now,
        same_boot: true,
        away: Wall::NEVER,
        workers: rich_workers(),
        progress: rich_progress(),
        notices: rich_notices(),
        holds: batch.holds.expect("holds"),
        incidents: rich_incidents(),
        next_incident: u32::MAX,
        next_hold: u32::MAX,
    };
    assert_eq!(store.load(plain, "b0").expect("loaded"), (expected.clone(), vec![]));
    drop(store);
    let other_boot = Saved { same_boot: false, ..expected };
    assert_eq!(open(dir.path()).load(plain, "b1").expect("loaded"), (other_boot, vec![]));
}

#[test]
fn forgotten_workers_and_released_holds_are_gone_and_the_rest_stays() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    let workers = vec![(name("bare"), None), (name("never-was"), None)];
    let notices = vec![(NoticeId(2), None), (NoticeId(9), None)];
    store.save(&Batch { workers, notices, ..Batch::default() }).expect("forgotten");
    let (saved, _) = store.load(plain, "").expect("loaded");
    assert_eq!(saved.notices.iter().map(|saved| saved.notice.id.0).collect::<Vec<_>>(), [1, 3, u32::MAX]);
    assert!(saved.workers.iter().all(|worker| worker.name != name("bare")));
    assert_eq!((saved.workers.len(), saved.holds.len()), (rich_workers().len() - 1, 2));
    store.save(&Batch { holds: Some(vec![]), ..Batch::default() }).expect("released");
    assert_eq!(store.load(plain, "").expect("loaded").0.holds, []);
}

#[test]
fn counters_are_never_behind_the_rows() {
    let dir = dir();
    let mut store = open(dir.path());
    let holds = Some(vec![SavedHold {
        id: HoldId(4),
        workers: vec![],
        who: "".into(),
        why: "".into(),
        until: None,
        when: None,
    }]);
    store.save(&Batch { incidents: vec![incident(41)], holds, ..Batch::default() }).expect("saved");
    let (saved, _) = store.load(plain, "").expect("loaded");
    assert_eq!((saved.next_incident, saved.next_hold), (42, 5));
}

#[test]
fn a_worker_whose_settings_cannot_be_read_is_kept_without_them() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    let (saved, notes) = store.load(|_| Err("no such key".into()), "").expect("loaded");
    assert_eq!(saved.workers.len(), rich_workers().len());
    let adopted = saved.workers.iter().find(|worker| worker.name == name("adopted")).expect("it is kept");
    assert_eq!(adopted.origin, SavedOrigin::Adopted(Layer::default()));
    let texts: Vec<String> = notes.iter().map(Note::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert_eq!(texts[0], "adopted.service: its own settings are not in force: no such key");
}

#[test]
fn one_unreadable_row_costs_one_row() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    store
        .db
        .execute_batch(
            "UPDATE worker SET attempts = 'nonsense' WHERE name = 'bare.service';
             UPDATE worker SET phase = 'levitating' WHERE name = 'adopted.service';
             UPDATE incident SET cause = 'gremlins' WHERE id = 10;
             UPDATE incident SET run = x'00' WHERE id = 11;",
        )
        .expect("changed");
    let (saved, notes) = store.load(plain, "").expect("loaded");
    assert_eq!((notes.len(), saved.workers.len()), (2, rich_workers().len() - 1), "{notes:?}");
    assert_eq!(saved.incidents[0].cause, Cause::Unknown);
}

#[test]
fn a_hold_that_cannot_be_read_is_not_taken_for_a_released_one() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    store.db.execute_batch("UPDATE hold SET workers = 'nonsense' WHERE id = 1").expect("changed");
    let (saved, notes) = store.load(plain, "").expect("loaded");
    assert_eq!((saved.holds.len(), notes.len()), (1, 1));
    store.save(&Batch { holds: Some(vec![]), ..Batch::default() }).expect("released");
    let left: Vec<i64> = rows_of(&store, "SELECT id FROM hold");
    assert_eq!(left, [1]);
}

#[test]
fn counters_and_ids_beyond_what_is_possible_are_no_end() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    let wild = format!(
        "UPDATE incident SET id = {max} WHERE id = 11; UPDATE hold SET id = {min} WHERE id = 7;
         UPDATE meta SET next_incident = {min}, next_hold = {min}, mono = {min}, wall = {max},
         boot_id = CAST(x'fffe' AS TEXT)",
        max = i64::MAX,
        min = i64::MIN,
    );
    store.db.execute_batch(&wild).expect("changed");
    let (saved, _) = store.load(plain, "b0").expect("loaded");
    assert_eq!((saved.next_incident, saved.next_hold, saved.same_boot), (u32::MAX, 2, false));
}

fn rows_of(store: &Store, sql: &str) -> Vec<i64> {
    let mut statement = store.db.prepare(sql).expect("SQL");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("numbers")
}

#[test]
fn a_batch_survives_a_killed_process() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    // What a kill leaves: the files as they are now, with the log not yet written back.
    let copy = self::dir();
    for file in ["state.db", "state.db-wal"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).expect("copied");
    }
    let (saved, notes) = open(copy.path()).load(plain, "b0").expect("loaded");
    assert_eq!((saved.workers, notes), (rich_workers(), vec![]));
}

#[test]
fn a_failed_batch_changes_nothing() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&Batch { incidents: vec![incident(1)], ..Batch::default() }).expect("saved");
    let before = store.load(plain, "").expect("loaded");
    let pages: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
    store.db.execute_batch(&format!("PRAGMA max_page_count = {pages}")).expect("a full disk");
    let big = IncidentView { text: "x".repeat(1 << 20), ..incident(2) };
    let batch = Batch { incidents: vec![incident(3), big], next_incident: 9, ..Batch::default() };
    let error = store.save(&batch).expect_err("no space");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the file system of the state database is full");
    assert_eq!(store.load(plain, "").expect("loaded"), before);
    store.db.execute_batch("PRAGMA max_page_count = 1000000").expect("space again");
    store.save(&batch).expect("the same batch again");
}

#[test]
fn the_files_are_private() {
    let dir = dir();
    fs::write(dir.path().join("state.db"), "").expect("an empty file");
    fs::set_permissions(dir.path().join("state.db"), Permissions::from_mode(0o644)).expect("a wider mode");
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    for entry in fs::read_dir(dir.path()).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn a_symlink_is_not_followed() {
    let dir = dir();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").expect("a file");
    std::os::unix::fs::symlink(&victim, dir.path().join("state.db")).expect("a symlink");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Open { .. })));
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "precious");
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let dir = dir();
    let mut store = open(dir.path());
    store.save(&rich_batch()).expect("saved");
    store.db.pragma_update(None, "user_version", 9).expect("a newer version");
    drop(store);
    let before = fs::read(dir.path().join("state.db")).expect("a file");
    let error = Store::open(dir.path()).expect_err("too new");
    assert!(matches!(error, StoreError::Newer { found: 9, known: schema::VERSION }), "{error:?}");
    assert!(fs::read(dir.path().join("state.db")).expect("a file") == before);
    assert!(error.to_string().contains("newer watcherd"));
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    let dir = dir();
    let path = dir.path().join("state.db");
    let foreign = Connection::open(&path).expect("a database");
    foreign.execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("a table");
    drop(foreign);
    let before = fs::read(&path).expect("a file");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Foreign)));
    assert!(fs::read(&path).expect("a file") == before);
}

#[test]
fn a_damaged_database_is_kept_aside_and_a_fresh_one_made() {
    let sound = {
        let dir = dir();
        let mut store = open(dir.path());
        let incidents = (1..500).map(incident).collect();
        store.save(&Batch { incidents, ..rich_batch() }).expect("saved");
        drop(store);
        fs::read(dir.path().join("state.db")).expect("a file")
    };
    let half = sound.len() / 2;
    let mut scribbled = sound.clone();
    scribbled[4096..12288].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 31 % 251) as u8);
    let random: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cases: [(&str, &[u8]); 4] =
        [("random", &random), ("truncated", &sound[..half]), ("header only", &sound[..100]), ("scribbled", &scribbled)];
    for (case, bytes) in cases {
        let dir = dir();
        fs::write(dir.path().join("state.db"), bytes).expect("a damaged file");
        fs::write(dir.path().join("state.db-wal"), "log").expect("a log");
        let (mut store, notes) = Store::open(dir.path()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert_eq!(notes.len(), 1, "{case}: {notes:?}");
        let names: Vec<String> = fs::read_dir(dir.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        let aside = names
            .iter()
            .find(|name| name.starts_with("state.db.corrupt-2") && name.ends_with('Z'))
            .unwrap_or_else(|| panic!("{case}: {names:?}"));
        assert!(notes[0].0.contains(aside.as_str()), "{case}: {notes:?}");
        assert!(fs::read(dir.path().join(aside)).expect("a file") == bytes, "{case}: the damaged file has changed");
        let log = fs::read_to_string(dir.path().join(format!("{aside}-wal")));
        assert_eq!(log.ok().as_deref(), Some("log"), "{case}: {names:?}");
        store.save(&rich_batch()).expect("the fresh one works");
        drop(store);
        open(dir.path());
    }
}

#[test]
fn the_state_of_every_release_is_read() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store");
    let dumps = fs::read_dir(kept).expect("they are there").map(|entry| entry.expect("an entry").path());
    let is_release = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_digit()) && name.ends_with(".sql")
    };
    let dumps: Vec<_> = dumps.filter(is_release).collect();
    assert!(!dumps.is_empty());
    let tables = |db: &Connection| {
        let mut all = db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").expect("SQL");
        let all = all.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        all.map(|sql| sql.expect("text")).collect::<Vec<_>>()
    };
    for dump in dumps {
        let (dir, fresh) = (dir(), dir());
        let db = Connection::open(dir.path().join("state.db")).expect("a database");
        db.execute_batch(&fs::read_to_string(&dump).expect("text")).expect("SQL");
        drop(db);
        let mut store = open(dir.path());
        assert_eq!(tables(&store.db), tables(&open(fresh.path()).db), "{}", dump.display());
        let (saved, notes) = store.load(plain, "b").expect("loaded");
        assert_eq!(notes, [], "{}", dump.display());
        let workers: Vec<_> = saved.workers.iter().map(|worker| (worker.name.as_str(), worker.phase)).collect();
        assert_eq!(
            workers,
            [
                ("broken.service", Phase::Quarantined),
                ("index.service", Phase::Working),
                ("train@7.service", Phase::Verifying)
            ]
        );
        let SavedOrigin::Run(definition, policy) = &saved.workers[1].origin else { panic!("it was made by us") };
        assert_eq!(definition.argv, ["/bin/sleep", "infinity"]);
        assert_eq!(policy.written, [("restart.budget".to_owned(), "3/1h".to_owned())]);
        assert_eq!(saved.workers[2].cause, Some(Cause::Segfault));
        assert_eq!((saved.progress[0].value, saved.progress[0].total), (40, 100));
        assert_eq!((saved.holds[0].who.as_str(), saved.holds[0].why.as_str()), ("root", "backup"));
        assert_eq!(saved.incidents.len(), 3);
        assert_eq!((saved.next_incident, saved.next_hold), (4, 2));
        store.save(&Batch { incidents: saved.incidents, ..Batch::default() }).expect("it can be gone on with");
    }
}

#[test]
fn an_empty_file_is_a_fresh_database() {
    let dir = dir();
    fs::write(dir.path().join("state.db"), "").expect("an empty file");
    open(dir.path()).save(&rich_batch()).expect("saved");
}

#[test]
fn an_unusable_directory_is_named() {
    let dir = dir();
    let missing = dir.path().join("missing");
    let error = Store::open(&missing).expect_err("missing");
    assert_eq!(error.to_string(), format!("cannot use the state directory {}", missing.display()));
    assert!(std::error::Error::source(&error).is_some());
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    assert!(matches!(Store::open(&file), Err(StoreError::Directory { .. })));
    assert!(matches!(Store::open(&file.join("below")), Err(StoreError::Directory { .. })));
    assert!(matches!(Store::open(Path::new("/proc")), Err(StoreError::Open { .. })));
}

#[test]
fn a_second_watcherd_is_kept_out_and_the_end_of_the_first_lets_it_in() {
    let dir = dir();
    let store = open(dir.path());
    let error = Store::open(dir.path()).expect_err("in use");
    let pid = std::process::id();
    assert_eq!(error.to_string(), format!("the state directory is in use by another watcherd (pid {pid})"));
    drop(store);

    let lock = dir.path().join("lock");
    fs::write(&lock, "4711\n").expect("a pid");
    let mut other = Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", "echo locked; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock(1)");
    let mut said = [0; 7];
    other.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("it says locked");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse { pid: Some(4711) })));
    drop(other.stdin.take());
    other.wait().expect("it ends");
    open(dir.path());
}

#[test]
fn filters_select_and_the_newest_comes_first() {
    let dir = dir();
    let mut store = open(dir.path());
    let named = |id: u32, worker: &str, cause| IncidentView { worker: name(worker), cause, ..incident(id) };
    let incidents = vec![
        named(1, "train@1", Cause::Segfault),
        named(2, "train@2", Cause::GpuOom),
        named(3, "trainer", Cause::Segfault),
        IncidentView { worker: name("train@1"), ..closed(4, 50) },
        IncidentView { opened: Wall(-5), ..named(5, "n/old", Cause::Segfault) },
    ];
    store.save(&Batch { incidents, ..Batch::default() }).expect("saved");
    let all = Filter::default();
    let glob = |text: &str| Filter { worker_glob: Some(text.into()), ..Filter::default() };
    let cases: [(Filter, &[u32]); 15] = [
        (all.clone(), &[4, 3, 2, 1, 5]),
        (Filter { limit: 2, ..all.clone() }, &[4, 3]),
        (Filter { limit: u32::MAX, ..all.clone() }, &[4, 3, 2, 1, 5]),
        (Filter { id: Some(IncidentId(2)), ..all.clone() }, &[2]),
        (Filter { since: Wall(3), ..all.clone() }, &[4, 3]),
        (Filter { open: Some(true), ..all.clone() }, &[3, 2, 1, 5]),
        (Filter { open: Some(false), ..all.clone() }, &[4]),
        (Filter { cause: Some(Cause::Segfault), limit: 2, ..all.clone() }, &[3, 1]),
        (glob("trainer"), &[3]),
        (glob("train@*"), &[4, 2, 1]),
        (glob("*1.service"), &[4, 1]),
        (glob("t*[!1].service"), &[3, 2]),
        (glob("n/*"), &[5]),
        (glob("'; DROP TABLE incident; --"), &[]),
        (Filter { open: Some(true), limit: 1, ..glob("train@?") }, &[2]),
    ];
    for (filter, expected) in cases {
        let found: Vec<u32> = store.incidents(&filter).expect("an answer").iter().map(|found| found.id.0).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[test]
fn pruning_takes_old_closed_incidents_only() {
    let dir = dir();
    let mut store = open(dir.path());
    let mut incidents: Vec<_> = (1..=10).map(|id| closed(id, i64::from(id) * 100)).collect();
    incidents.extend((11..=15).map(incident));
    store.save(&Batch { incidents, ..Batch::default() }).expect("saved");
    let ids = |store: &Store| -> Vec<u32> {
        store.incidents(&Filter::default()).expect("an answer").iter().map(|found| found.id.0).collect()
    };
    assert_eq!(store.prune(Wall(300)).expect("pruned"), 2);
    assert_eq!(ids(&store), (3..=15).rev().collect::<Vec<_>>());
    assert_eq!(store.prune_to(Wall::NEVER, 7).expect("pruned"), 6);
    assert_eq!(ids(&store), (9..=15).rev().collect::<Vec<_>>());
    assert_eq!(store.prune_to(Wall::NEVER, 0).expect("pruned"), 2);
    assert_eq!(ids(&store), (11..=15).rev().collect::<Vec<_>>());
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture store"]
fn measure() {
    let dir =
        tempfile::tempdir_in(std::env::var("WATCHERD_BENCH_DIR").unwrap_or("/var/tmp".into())).expect("a directory");
    let mut store = open(dir.path());
    let text = "the cgroup's memory.events counted oom_kill 0 -> 1 while the run was alive".to_owned();
    let full = |id| IncidentView {
        worker: name(&format!("train@{}", id % 1_000)),
        because: vec![text.clone(); 4],
        remedies: vec![RemedyView { action: "restart", at: Wall(1), by: "default".into(), outcome: "done".into() }],
        text: text.clone(),
        ..closed(id, i64::from(id))
    };
    let workers = (0..1_000).map(|n| worker(&format!("train@{n}"))).map(|w| (w.name.clone(), Some(w))).collect();
    let start = Instant::now();
    let incidents = (0..10_000).map(full).collect();
    store.save(&Batch { workers, incidents, ..Batch::default() }).expect("saved");
    println!("one batch of 1,000 workers and 10,000 incidents: {:?}", start.elapsed());

    let mut times: Vec<Duration> = (0..2_000)
        .map(|n| {
            let one = worker(&format!("train@{}", n % 1_000));
            let workers = vec![(one.name.clone(), Some(one))];
            let batch = Batch { workers, incidents: vec![full(n)], ..Batch::default() };
            let start = Instant::now();
            store.save(&batch).expect("saved");
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("small batch: median {:?}, p99 {:?}, max {:?}", times[1_000], times[1_980], times[1_999]);

    drop(store);
    let start = Instant::now();
    let mut store = open(dir.path());
    println!("open with check: {:?}", start.elapsed());
    let start = Instant::now();
    store.load(plain, "").expect("loaded");
    println!("load: {:?}", start.elapsed());
    let start = Instant::now();
    let found = store.incidents(&Filter::default()).expect("an answer");
    println!("query of {}: {:?}", found.len(), start.elapsed());
    let start = Instant::now();
    let filter = Filter { worker_glob: Some("train@99*".into()), ..Filter::default() };
    let found = store.incidents(&filter).expect("an answer");
    println!("query by glob, {} found: {:?}", found.len(), start.elapsed());

    for part in 1..10 {
        let incidents = (part * 10_000..(part + 1) * 10_000).map(full).collect();
        store.save(&Batch { incidents, ..Batch::default() }).expect("saved");
    }
    drop(store);
    let start = Instant::now();
    let mut store = open(dir.path());
    println!("open with check, 100,000 incidents: {:?}", start.elapsed());
    let start = Instant::now();
    store.load(plain, "").expect("loaded");
    println!("load, 100,000 incidents: {:?}", start.elapsed());
    let start = Instant::now();
    let gone = store.prune(Wall(1_000)).expect("pruned");
    println!("prune, {gone} gone: {:?}", start.elapsed());
}

/// Databases of earlier versions are kept as the statements that make them.
#[test]
fn a_database_of_an_earlier_version_is_read_whole() {
    let dir = dir();
    let made = Connection::open(dir.path().join("state.db")).expect("a database");
    made.execute_batch(include_str!("../../tests/fixtures/store/version-2.sql")).expect("valid statements");
    drop(made);
    let store = open(dir.path());
    let (saved, notes) = store.load(plain, "b0").expect("readable");
    assert_eq!(notes, []);
    let worker = &saved.workers[0];
    assert_eq!(
        (worker.failures, worker.cause, worker.remedies.clone()),
        (2, Some(Cause::GpuOom), SavedRemedies::default())
    );
    assert_eq!((saved.holds[0].who.as_str(), saved.holds[0].when.clone()), ("alice", None));
    assert_eq!((saved.incidents[0].part_of, saved.incidents[0].members.len()), (None, 0));
    let (stage, pace) = &saved.progress[0].paces[0];
    let millis = |all: &[Duration]| all.iter().map(Duration::as_millis).collect::<Vec<_>>();
    assert_eq!((&**stage, millis(&pace.gaps), millis(&pace.longest)), ("", vec![1000, 2000], vec![5000]));
    assert_eq!((saved.progress[0].value, saved.next_incident, saved.next_hold), (40, 8, 3));
    assert!(saved.notices.is_empty());
}
