// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any values in the rows of a real state database: it opens, all that can be read is read, nothing is deleted, and the
//! engine goes on with it.

use rusqlite::types::Value;
use rusqlite::{Connection, params};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use watcherd::config;
use watcherd::engine::Engine;
use watcherd::engine::action::Action;
use watcherd::engine::event::{Active, Event, Exit, Outcome, RunEnd, UnitFacts, UnitResult};
use watcherd::engine::ids::{ActionId, InvocationId, WorkerName};
use watcherd::engine::policy::{Layer, Policies, Setting, UnitPattern};
use watcherd::engine::saved::Saved;
use watcherd::engine::time::{Mono, Now, Wall};
use watcherd::store::{Batch, Filter, Store};

/// What a release has written.
const RELEASE: &str = include_str!("../../fixtures/store/0.1.0.sql");

/// Each table with its key.
const TABLES: [(&str, &str); 7] = [
    ("worker", "name"),
    ("hold", "id"),
    ("incident", "id"),
    ("progress", "worker"),
    ("history", "at"),
    ("notice", "id"),
    ("meta", "one"),
];

const NOTICE: &str = "INSERT INTO notice VALUES (5, 'opened', 3, 'broken.service', 'unknown', \
    '{\"is_final\":true,\"confidence\":64,\"result\":\"\",\"opened\":1,\"retry_at\":0,\"text\":\"t\",\"next\":\"n\",\
    \"lines\":[\"output: x\"],\"repeats\":0}', 'waiting', 5, 0, 7, 1, 0, 'no way')";

/// Words that mean something in some column.
pub const WORDS: [&str; 14] = [
    "",
    "[]",
    "{}",
    "null",
    "[[]]",
    "w",
    "closed",
    "run",
    "adopted",
    "{\"causes\":{\"unknown\":{\"rung\":4294967295,\"count\":4294967295,\"steps\":4294967295,\"tried\":4294967295}}}",
    "{\"follow_up\":[-9223372036854775808,4294967295],\"tuned\":9223372036854775807,\"failed_at\":18446744073709551615}",
    "{\"parameters\":{\"B\":\"\"},\"steps\":[[\"B\",null],[\"B\",\"x\"]]}",
    "[[\"\",18446744073709551615,[18446744073709551615],[]]]",
    "free(/srv) > 1G",
];

/// Numbers at the ends of what there is.
pub const NUMBERS: [i64; 8] = [0, 1, -1, i64::MAX, i64::MIN, 4_294_967_295, 255, -256];

struct Place {
    directory: TempDir,
    template: Vec<u8>,
    columns: Vec<Vec<String>>,
}

thread_local! {
    static PLACE: Place = Place::new();
}

impl Place {
    fn new() -> Place {
        // In memory, where there is such a place.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a directory can be made");
        let path = directory.path().join("state.db");
        let db = Connection::open(&path).expect("a database");
        db.execute_batch(RELEASE).expect("SQL");
        db.execute(NOTICE, []).expect("SQL");
        drop(db);
        drop(Store::open(directory.path()).expect("what a release wrote is read"));
        let db = Connection::open(&path).expect("a database");
        let columns = TABLES.map(|(table, _)| {
            let empty = db.prepare(&format!("SELECT * FROM {table}")).expect("SQL");
            empty.column_names().map(str::to_owned).collect()
        });
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("it is closed");
        drop(db);
        let template = fs::read(&path).expect("it is there");
        Place { directory, template, columns: columns.into() }
    }
}

/// Each change takes a few bytes: the table, the column, the row, and what becomes of the value.
pub fn look(bytes: &[u8]) {
    PLACE.with(|place| {
        let path = place.directory.path().join("state.db");
        fs::write(&path, &place.template).expect("it can be written");
        let db = Connection::open(&path).expect("a database");
        db.pragma_update(None, "synchronous", "OFF").expect("it is set");
        let mut bytes = bytes.iter().copied();
        while change(&db, &place.columns, &mut bytes).is_some() {}
        drop(db);
        judge(place.directory.path());
    });
}

fn change(db: &Connection, columns: &[Vec<String>], bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
    let table = usize::from(bytes.next()?) % TABLES.len();
    let (name, key) = TABLES[table];
    let columns = &columns[table];
    let column = &columns[usize::from(bytes.next()?) % columns.len()];
    let row = bytes.next()? % 4;
    let kind = bytes.next()?;
    let place = format!("{key} = (SELECT {key} FROM {name} LIMIT 1 OFFSET {row})");
    let value = match kind % 8 {
        0 => Value::Null,
        1 => Value::Integer(NUMBERS[usize::from(bytes.next()?) % NUMBERS.len()]),
        2 => Value::Text(WORDS[usize::from(bytes.next()?) % WORDS.len()].into()),
        3 => Value::Blob(bytes.by_ref().take(16).collect()),
        4 => Value::Real(f64::from(bytes.next()?) * 1e300),
        5 => Value::Text("[".repeat(200)),
        _ => {
            // Other bytes within what is there; it need not be a text any more.
            let there = format!("SELECT CAST({column} AS BLOB) FROM {name} WHERE {place}");
            let there: Option<Vec<u8>> = db.query_row(&there, [], |row| row.get(0)).ok().flatten();
            let mut there = there.unwrap_or_default();
            let at = usize::from(bytes.next()?) * 7 % (there.len() + 1);
            let new = bytes.next()?;
            match there.get_mut(at) {
                Some(byte) => *byte = new,
                None => there.push(new),
            }
            let sql = format!("UPDATE {name} SET {column} = CAST(?1 AS TEXT) WHERE {place}");
            // What the table itself refuses cannot be in it.
            let _ = db.execute(&sql, params![there]);
            return Some(());
        }
    };
    let _ = db.execute(&format!("UPDATE {name} SET {column} = ?1 WHERE {place}"), params![value]);
    Some(())
}

fn judge(directory: &Path) {
    let before = counts(directory);
    let (mut store, notes) = Store::open(directory).expect("it opens");
    assert_eq!(notes, [], "it is no damaged database");
    let own = |pairs: &[(String, String)]| config::own_layer(pairs, "stored policy").map_err(|why| why.to_string());
    let (saved, _) = store.load(own, "b").expect("it is loaded");
    store.incidents(&Filter::default()).expect("incidents are found");
    let batch = batch(&saved);
    go_on(saved);
    store.save(&batch).expect("it is saved");
    drop(store);
    for ((table, _), (before, after)) in TABLES.iter().zip(before.into_iter().zip(counts(directory))) {
        assert!(after >= before, "{table} had {before} rows, it has {after}");
    }
}

fn counts(directory: &Path) -> Vec<i64> {
    let db = Connection::open(directory.join("state.db")).expect("a database");
    let count =
        |(table, _): &(&str, &str)| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    TABLES.iter().map(|table| count(table).expect("a number")).collect()
}

/// Everything that was loaded, as it would be saved again.
fn batch(saved: &Saved) -> Batch {
    Batch {
        now: saved.clock,
        boot_id: "b".into(),
        workers: saved.workers.iter().map(|worker| (worker.name.clone(), Some(worker.clone()))).collect(),
        incidents: saved.incidents.clone(),
        progress: saved.progress.clone(),
        notices: saved.notices.iter().map(|saved| (saved.notice.id, Some(saved.clone()))).collect(),
        holds: Some(saved.holds.clone()),
        next_incident: saved.next_incident,
        next_hold: saved.next_hold,
    }
}

/// The engine takes it up, and time passes.
fn go_on(saved: Saved) {
    let at = |secs: i64| Now { mono: Mono(secs * 1_000_000), wall: Wall(1_795_646_402_000_000 + secs * 1_000_000) };
    for same_boot in [true, false] {
        let saved = Saved { same_boot, ..saved.clone() };
        let (mut engine, step) = Engine::new(policies(), Some(saved), 1, at(1));
        let units: Vec<_> = ["broken", "index", "train@7"].map(|name| WorkerName::parse(name).expect("a name")).into();
        let mut flying = step.actions;
        for (secs, active) in
            [(2, Active::Active), (100, Active::Failed), (10_000, Active::Active), (10_000_000, Active::Failed)]
        {
            for unit in &units {
                flying.extend(engine.handle(at(secs), Event::Unit(unit.clone(), facts(active, secs))).actions);
            }
            for action in std::mem::take(&mut flying) {
                if let Some(id) = id(&action) {
                    let is_hook = matches!(action, Action::Hook(..));
                    let outcome = if is_hook { Outcome::Failed("no".into()) } else { Outcome::Ok };
                    flying.extend(engine.handle(at(secs), Event::Done(id, outcome)).actions);
                }
            }
            engine.handle(at(secs), Event::Wake);
            engine.next_wakeup();
        }
        for object in engine.objects() {
            engine.view(&object);
        }
        engine.saved();
    }
}

/// Every worker has one that says a little of everything.
fn policies() -> Policies {
    let pairs = [
        ("restart.back-off", "1s..10s"),
        ("restart.budget", "5/1h"),
        ("restart.then", "[\"/bin/false\"]"),
        ("restart.then-retries", "3"),
        ("progress.file", "/srv/x"),
        ("cause.unknown.scale", "{ B = \"x0.5, min 1\" }"),
        ("cause.unknown.try-next", "[{ set = { B = 3 } }]"),
        ("parameters.B", "{ default = 64, range = [1, 512] }"),
    ];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let own = config::own_layer(&pairs, "test").expect("it is valid");
    let units = vec![Setting::default_value(UnitPattern::parse("*").expect("a glob"))];
    Policies { layers: vec![Layer { units, ..own }.into()], ..Policies::default() }
}

fn facts(active: Active, secs: i64) -> UnitFacts {
    let failed = RunEnd { result: UnitResult::ExitCode, exit: Exit::Exited(1), ..RunEnd::default() };
    UnitFacts {
        active,
        sub: if active == Active::Active { "running" } else { "failed" }.into(),
        invocation: Some(InvocationId([(secs / 100) as u8; 16])),
        main_pid: if active == Active::Active { 7 } else { 0 },
        end: if active == Active::Active { RunEnd::default() } else { failed },
        ..UnitFacts::default()
    }
}

/// What is answered with its end.
fn id(action: &Action) -> Option<ActionId> {
    match action {
        Action::Start(id, ..)
        | Action::Stop(id, ..)
        | Action::Kill(id, ..)
        | Action::Freeze(id, ..)
        | Action::Thaw(id, ..)
        | Action::LookBack(id, ..)
        | Action::Look(id, ..)
        | Action::Capture(id, ..)
        | Action::Hook(id, ..)
        | Action::Notify(id, ..) => Some(*id),
        _ => None,
    }
}
