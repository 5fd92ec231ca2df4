// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables, as a list of migrations. A migration that was released is never changed; a new one is added below it.

use super::StoreError;
use rusqlite::Connection;

/// `PRAGMA application_id`: "wchd". Tells file(1), and us, whose database it is.
pub const APPLICATION_ID: i32 = 0x7763_6864;

/// The statements that lead from version n to version n + 1; `PRAGMA user_version` holds the version.
const MIGRATIONS: &[&str] = &[V1, V2, V3, V4, V5];

/// The version that this program reads and writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Times are microseconds: since 1970 (0 is never), or on CLOCK_MONOTONIC for `mono`, `attempts` and `restart_due`.
/// Lists are JSON. Words are those of D-Bus.
const V1: &str = "
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot_id TEXT NOT NULL,
    mono INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    next_incident INTEGER NOT NULL,
    next_hold INTEGER NOT NULL
) STRICT;

CREATE TABLE worker (
    name TEXT PRIMARY KEY,
    origin TEXT NOT NULL,
    definition TEXT,
    layer TEXT,
    phase TEXT NOT NULL,
    invocation BLOB,
    run_ended INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    intended_up INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    quarantine TEXT,
    paused INTEGER NOT NULL,
    attempts TEXT NOT NULL,
    failures INTEGER NOT NULL,
    cause TEXT,
    incident INTEGER,
    restart_due INTEGER,
    runs INTEGER NOT NULL,
    downtime INTEGER NOT NULL,
    finished INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
    id INTEGER PRIMARY KEY,
    workers TEXT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    until INTEGER
) STRICT;

CREATE TABLE incident (
    id INTEGER PRIMARY KEY,
    worker TEXT NOT NULL,
    run BLOB,
    cause TEXT NOT NULL,
    confidence INTEGER NOT NULL,
    because TEXT NOT NULL,
    cascade TEXT NOT NULL,
    opened INTEGER NOT NULL,
    detected INTEGER NOT NULL,
    decided INTEGER NOT NULL,
    started INTEGER NOT NULL,
    recovered INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    state TEXT NOT NULL,
    result TEXT NOT NULL,
    remedies TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX incident_by_time ON incident (opened, id);
CREATE INDEX incident_by_worker ON incident (worker, opened, id);
CREATE INDEX incident_open ON incident (opened, id) WHERE state <> 'closed';
";

/// How far the workers are, and how far they were: `history` is thinned out with time.
const V2: &str = "
CREATE TABLE progress (
    worker TEXT PRIMARY KEY,
    run BLOB,
    at INTEGER NOT NULL,
    value INTEGER NOT NULL,
    total INTEGER NOT NULL,
    pace TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    worker TEXT NOT NULL,
    at INTEGER NOT NULL,
    value INTEGER NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (worker, at)
) STRICT, WITHOUT ROWID;
";

/// What was tried against the failures of a worker, as JSON, what ends a hold besides time and people, the paces of
/// a worker by stage (the one that was known has no name), and incidents that stand for others.
const V3: &str = "
ALTER TABLE worker ADD COLUMN remedies TEXT NOT NULL DEFAULT '';
ALTER TABLE hold ADD COLUMN awaits TEXT;
ALTER TABLE progress ADD COLUMN named TEXT NOT NULL DEFAULT '[]';
ALTER TABLE progress RENAME COLUMN pace TO paces;
UPDATE progress SET paces = '[[\"\",' || substr(paces, 2) || ']';
ALTER TABLE incident ADD COLUMN part_of INTEGER;
ALTER TABLE incident ADD COLUMN members TEXT NOT NULL DEFAULT '[]';
";

/// Notices, what became of them, and when; `content` is JSON.
const V4: &str = "
CREATE TABLE notice (
    id INTEGER PRIMARY KEY,
    stage TEXT NOT NULL,
    incident INTEGER,
    worker TEXT,
    cause TEXT NOT NULL,
    content TEXT NOT NULL,
    state TEXT NOT NULL,
    made INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    again INTEGER NOT NULL,
    error TEXT NOT NULL
) STRICT;
";

/// Since when a worker is in its phase, and what was said last about one that is down.
const V5: &str = "
ALTER TABLE worker ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN remark TEXT NOT NULL DEFAULT '';
";

/// The version of the tables that are there; 0 for an empty database.
///
/// Refuses a database of another program, and one that a newer watcherd has written; only reads.
pub fn check(db: &Connection) -> Result<i64, StoreError> {
    let found: i64 = pragma(db, "user_version")?;
    let owner: i32 = pragma(db, "application_id")?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(StoreError::sql("read its tables"))?;
    if owner != APPLICATION_ID && (owner != 0 || found != 0 || tables != 0) {
        return Err(StoreError::Foreign);
    }
    if !(0..=VERSION).contains(&found) {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    Ok(found)
}

/// Brings the tables from version `found` up to date, each version in a transaction of its own.
pub fn migrate(db: &mut Connection, found: i64) -> Result<(), StoreError> {
    for (version, statements) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let step = db.transaction().map_err(StoreError::sql("begin a migration"))?;
        step.execute_batch(statements)
            .and_then(|()| step.pragma_update(None, "application_id", APPLICATION_ID))
            .and_then(|()| step.pragma_update(None, "user_version", version))
            .and_then(|()| step.commit())
            .map_err(StoreError::sql("bring its tables up to date"))?;
    }
    Ok(())
}

fn pragma<T: rusqlite::types::FromSql>(db: &Connection, name: &str) -> Result<T, StoreError> {
    db.pragma_query_value(None, name, |row| row.get(0)).map_err(StoreError::sql("read its version"))
}
