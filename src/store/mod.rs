// SPDX-License-Identifier: MIT OR Apache-2.0
//! What survives the end of the daemon: workers, holds and incidents, in one SQLite file.
//!
//! Knows the state directory: `state.db` (0600), and `lock`, which keeps a second watcherd out. Promises that a batch is
//! written whole or not at all, that nothing is ever deleted because it could not be read, and that a database of a newer
//! watcherd is left alone. With `synchronous=NORMAL` a power failure may take the last few batches, never the file.
//!
//! Every call blocks; one `Store` is used by one thread at a time.

mod notice;
mod query;
mod remedies;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

pub use query::{Filter, INCIDENTS_PER_QUERY};

use crate::engine::ids::{NoticeId, WorkerName};
use crate::engine::policy::Layer;
use crate::engine::saved::{Saved, SavedHold, SavedNotice, SavedOrigin, SavedProgress, SavedWorker};
use crate::engine::time::{Mono, Now, Wall};
use crate::engine::view::IncidentView;
use nix::fcntl::{Flock, FlockArg};
use rusqlite::config::DbConfig;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Incidents kept in all; the oldest closed ones go first.
pub const INCIDENTS_KEPT: i64 = 100_000;

/// Closed incidents that are loaded at start; the rest stays within reach of [`Store::incidents`].
pub const CLOSED_LOADED: i64 = 1_000;

/// Notes that one call returns at most.
const NOTES_MAX: usize = 20;

/// How long a foreign reader (an admin's `sqlite3`) may keep us waiting.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The open state directory.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// Held until the end; the kernel lets go of it also when we are killed.
    _lock: Flock<File>,
}

/// What a person should know, although the work goes on; a whole sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

/// What one step of the engine leaves to be saved.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub now: Now,
    /// The kernel's boot id; tells the next start whether monotonic times still mean the same.
    pub boot_id: String,
    /// `None` forgets the worker.
    pub workers: Vec<(WorkerName, Option<SavedWorker>)>,
    pub incidents: Vec<IncidentView>,
    /// How far workers are; also kept as history.
    pub progress: Vec<SavedProgress>,
    /// `None` forgets the notice.
    pub notices: Vec<(NoticeId, Option<SavedNotice>)>,
    /// All holds there are; `None` leaves them as they were.
    pub holds: Option<Vec<SavedHold>>,
    pub next_incident: u32,
    pub next_hold: u32,
}

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the state directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the state directory is in use by another watcherd{}", pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    InUse { pid: Option<u32> },
    #[error("the state database was written by a newer watcherd (its version is {found}, this program knows {known})")]
    Newer { found: i64, known: i64 },
    #[error("the state database belongs to another program")]
    Foreign,
    #[error("the state database is damaged ({0})")]
    Damaged(String),
    #[error("cannot move the damaged state database {} aside", path.display())]
    SetAside { path: PathBuf, source: io::Error },
    #[error("the file system of the state database is full")]
    Full { source: rusqlite::Error },
    /// `doing` says what was tried with the database.
    #[error("state database: cannot {doing}")]
    Sql { doing: &'static str, source: rusqlite::Error },
}

impl Store {
    /// Opens `state.db` in `dir`, and makes it if it is missing.
    ///
    /// A damaged database is moved aside (never deleted), a fresh one is made, and a note says so.
    pub fn open(dir: &Path) -> Result<(Store, Vec<Note>), StoreError> {
        let unusable = |source| StoreError::Directory { path: dir.to_owned(), source };
        if !fs::metadata(dir).map_err(unusable)?.is_dir() {
            return Err(unusable(io::ErrorKind::NotADirectory.into()));
        }
        let lock = lock(&dir.join("lock"))?;
        let path = dir.join("state.db");
        match connect(&path) {
            Ok(db) => Ok((Store { db, _lock: lock }, Vec::new())),
            Err(StoreError::Damaged(why)) => {
                let aside = set_aside(&path)?;
                let db = connect(&path)?;
                let note = format!("the state database was damaged ({why}); it is kept as {}", aside.display());
                Ok((Store { db, _lock: lock }, vec![Note(note)]))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what was saved last; the defaults if nothing ever was.
    ///
    /// `read_layer` reads the settings of an adopted or run worker again. Where it fails the worker is kept without
    /// settings of its own; a row that cannot be read is left where it is. A note tells of either.
    pub fn load(
        &self,
        read_layer: impl Fn(&[(String, String)]) -> Result<Layer, String>,
        boot_id: &str,
    ) -> Result<(Saved, Vec<Note>), StoreError> {
        let mut notes = Notes::default();
        let mut saved = self.meta(boot_id)?;
        saved.workers = self.rows("SELECT * FROM worker ORDER BY name", rows::worker, &mut notes)?;
        for worker in &mut saved.workers {
            if let SavedOrigin::Adopted(layer) | SavedOrigin::Run(_, layer) = &mut worker.origin
                && !layer.written.is_empty()
            {
                match read_layer(&layer.written) {
                    Ok(read) => *layer = Layer { written: std::mem::take(&mut layer.written), ..read },
                    Err(why) => {
                        *layer = Layer::default();
                        notes.add(format!("{}: its own settings are not in force: {why}", worker.name));
                    }
                }
            }
        }
        saved.holds = self.rows("SELECT * FROM hold ORDER BY id", rows::hold, &mut notes)?;
        saved.notices = self.rows("SELECT * FROM notice ORDER BY id", notice::read, &mut notes)?;
        saved.progress = self.rows("SELECT * FROM progress ORDER BY worker", rows::progress, &mut notes)?;
        const OPEN: &str = "SELECT * FROM incident WHERE state <> 'closed'";
        const CLOSED: &str = "SELECT * FROM incident WHERE state = 'closed' ORDER BY opened DESC, id DESC LIMIT ";
        saved.incidents = self.rows(OPEN, rows::incident, &mut notes)?;
        saved.incidents.extend(self.rows(&format!("{CLOSED}{CLOSED_LOADED}"), rows::incident, &mut notes)?);
        saved.incidents.sort_by_key(|incident| incident.id);
        Ok((saved, notes.finish()))
    }

    /// Writes a batch, whole or not at all; after an error the same batch can be tried again.
    pub fn save(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.write(batch).map_err(StoreError::sql("save"))
    }

    /// Drops incidents that were closed before `older_than`, and the oldest closed ones beyond [`INCIDENTS_KEPT`].
    ///
    /// Returns how many went.
    pub fn prune(&mut self, older_than: Wall) -> Result<usize, StoreError> {
        self.prune_to(older_than, INCIDENTS_KEPT).map_err(StoreError::sql("drop old incidents"))
    }

    fn prune_to(&mut self, older_than: Wall, kept: i64) -> rusqlite::Result<usize> {
        let all = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = all.execute("DELETE FROM incident WHERE state = 'closed' AND closed < ?1", [older_than.0])?;
        let left: i64 = all.query_row("SELECT count(*) FROM incident", [], |row| row.get(0))?;
        let beyond = all.execute(
            "DELETE FROM incident WHERE id IN \
             (SELECT id FROM incident WHERE state = 'closed' ORDER BY opened, id LIMIT max(?1, 0))",
            [left - kept],
        )?;
        all.commit()?;
        Ok(old + beyond)
    }

    /// Thins the history of progress out: after a day a point every ten minutes is kept, after a week one every hour, and
    /// nothing beyond `older_than`.
    ///
    /// Returns how many points went.
    pub fn thin(&mut self, now: Wall, older_than: Wall) -> Result<usize, StoreError> {
        const MINUTE: i64 = 60_000_000;
        let sql = "DELETE FROM history WHERE at < ?1 AND (worker, at) NOT IN \
             (SELECT worker, max(at) FROM history GROUP BY worker, at / ?2)";
        let thin = || -> rusqlite::Result<usize> {
            let mut gone = self.db.execute("DELETE FROM history WHERE at < ?1", [older_than.0])?;
            for (age, step) in [(24 * 60 * MINUTE, 10 * MINUTE), (7 * 24 * 60 * MINUTE, 60 * MINUTE)] {
                gone += self.db.execute(sql, [now.0.saturating_sub(age), step])?;
            }
            Ok(gone)
        };
        thin().map_err(StoreError::sql("thin out the history of progress"))
    }

    /// How far a worker was, oldest first: time, value and total.
    pub fn history(&self, worker: &WorkerName, newest: u32) -> Result<Vec<(Wall, u64, u64)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<(Wall, u64, u64)>> {
            let mut rows = self
                .db
                .prepare_cached("SELECT at, value, total FROM history WHERE worker = ?1 ORDER BY at DESC LIMIT ?2")?;
            let point = |row: &rusqlite::Row<'_>| {
                let (at, value, total): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((Wall(at), value.unsigned_abs(), total.unsigned_abs()))
            };
            let mut points: Vec<_> =
                rows.query_map(params![worker.as_str(), newest], point)?.collect::<Result<_, _>>()?;
            points.reverse();
            Ok(points)
        };
        read().map_err(StoreError::sql("read the history of progress"))
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let all = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let Now { mono, wall } = batch.now;
            let meta = params![batch.boot_id, mono.0, wall.0, batch.next_incident, batch.next_hold];
            all.prepare_cached(rows::SAVE_META)?.execute(meta)?;
            for (name, worker) in &batch.workers {
                match worker {
                    Some(worker) => rows::save_worker(&mut *all.prepare_cached(rows::SAVE_WORKER)?, worker)?,
                    None => {
                        for sql in [rows::DELETE_WORKER, rows::DELETE_PROGRESS, rows::DELETE_HISTORY] {
                            all.prepare_cached(sql)?.execute([name.as_str()])?;
                        }
                    }
                }
            }
            for progress in &batch.progress {
                rows::save_progress(&mut *all.prepare_cached(rows::SAVE_PROGRESS)?, progress)?;
                rows::save_history(&mut *all.prepare_cached(rows::SAVE_HISTORY)?, progress)?;
            }
            for incident in &batch.incidents {
                rows::save_incident(&mut *all.prepare_cached(rows::SAVE_INCIDENT)?, incident)?;
            }
            for (id, notice) in &batch.notices {
                match notice {
                    Some(notice) => notice::save(&mut *all.prepare_cached(notice::SAVE)?, notice)?,
                    None => drop(all.prepare_cached(notice::DELETE)?.execute([id.0])?),
                }
            }
            if let Some(holds) = &batch.holds {
                // Those that cannot be read stay.
                for id in rows::hold_ids(&mut *all.prepare_cached("SELECT * FROM hold")?)? {
                    if holds.iter().all(|hold| hold.id != id) {
                        all.prepare_cached(rows::DELETE_HOLD)?.execute([id.0])?;
                    }
                }
                for hold in holds {
                    rows::save_hold(&mut *all.prepare_cached(rows::SAVE_HOLD)?, hold)?;
                }
            }
        }
        all.commit()
    }

    /// The clocks and counters; a counter is never behind the rows that it counted.
    fn meta(&self, boot_id: &str) -> Result<Saved, StoreError> {
        let next = |counter: i64, highest: Option<i64>| {
            let next = counter.max(highest.map_or(0, |id| id.saturating_add(1))).max(0);
            u32::try_from(next).unwrap_or(u32::MAX)
        };
        self.db
            .query_row(
                "SELECT boot_id, mono, wall, next_incident, (SELECT max(id) FROM incident), next_hold, \
                 (SELECT max(id) FROM hold) FROM meta",
                [],
                |row| {
                    Ok(Saved {
                        clock: Now { mono: Mono(row.get(1)?), wall: Wall(row.get(2)?) },
                        // It may be no text at all.
                        same_boot: row.get_ref(0)?.as_bytes().is_ok_and(|saved| saved == boot_id.as_bytes()),
                        next_incident: next(row.get(3)?, row.get(4)?),
                        next_hold: next(row.get(5)?, row.get(6)?),
                        ..Saved::default()
                    })
                },
            )
            .optional()
            .map(Option::unwrap_or_default)
            .map_err(StoreError::sql("read the clocks"))
    }

    fn rows<T>(
        &self,
        sql: &str,
        read: fn(&rusqlite::Row<'_>) -> Result<T, String>,
        notes: &mut Notes,
    ) -> Result<Vec<T>, StoreError> {
        let failed = StoreError::sql("read");
        let mut statement = match self.db.prepare(sql) {
            Ok(statement) => statement,
            Err(error) => return Err(failed(error)),
        };
        let mut found = statement.query([]).map_err(&failed)?;
        let mut values = Vec::new();
        while let Some(row) = found.next().map_err(&failed)? {
            match read(row) {
                Ok(value) => values.push(value),
                Err(why) => notes.add(format!("a row of the state database is left out: {why}")),
            }
        }
        Ok(values)
    }
}

impl StoreError {
    fn sql(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        move |source| match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { source },
            // What SQLite makes of ENOSPC when it extends the index of the log.
            Some(_) if source.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) => {
                StoreError::Full { source }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(source.to_string()),
            _ => StoreError::Sql { doing, source },
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Default)]
struct Notes {
    texts: Vec<Note>,
    left_out: usize,
}

impl Notes {
    fn add(&mut self, text: String) {
        if self.texts.len() < NOTES_MAX {
            self.texts.push(Note(text));
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> Vec<Note> {
        if self.left_out > 0 {
            self.texts.push(Note(format!("{} more notes of this kind are left out", self.left_out)));
        }
        self.texts
    }
}

fn lock(path: &Path) -> Result<Flock<File>, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let file = private_file(path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| writeln!(lock, "{}", std::process::id()))
                .map_err(failed)?;
            Ok(lock)
        }
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let read = file.take(32).read_to_string(&mut text);
            Err(StoreError::InUse { pid: read.ok().and_then(|_| text.trim().parse().ok()) })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// Opens the database and brings it up to date. Until it is known to be ours and sound, closing it changes nothing.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    private_file(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(StoreError::sql("open it"))?;
    db.busy_timeout(BUSY_TIMEOUT)
        .and_then(|()| db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true))
        .map_err(StoreError::sql("set it up"))?;
    let found = schema::check(&db)?;
    let verdict: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(StoreError::sql("check it"))?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(verdict.replace(['\n', '\r'], " ")));
    }
    set_up(&db).map_err(StoreError::sql("set it up"))?;
    schema::migrate(&mut db, found)?;
    Ok(db)
}

fn set_up(db: &Connection) -> rusqlite::Result<()> {
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    // Without a write-ahead log (a file system without shared memory maps) NORMAL could damage the file.
    if mode == "wal" {
        db.pragma_update(None, "synchronous", "NORMAL")?;
    }
    db.pragma_update(None, "journal_size_limit", 8 << 20)?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

/// Opens or makes a file that nobody else may read; never through a symlink.
fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if about.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Renames the database and what belongs to it, so that `sqlite3` can still open all of it together.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let with = |base: &Path, suffix: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let target = (1..1_000)
        .map(|n| if n == 1 { stamp.clone() } else { format!("{stamp}-{n}") })
        .map(|stamp| with(path, &format!(".corrupt-{stamp}")))
        .find(|target| !target.exists());
    let failed = |source| StoreError::SetAside { path: path.to_owned(), source };
    let target = target.ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
    // The log first: a log without its database is ignored, a database without its log would lose what is in there.
    for suffix in ["-wal", "-shm", "-journal", ""] {
        match fs::rename(with(path, suffix), with(&target, suffix)) {
            Err(error) if suffix.is_empty() || error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(target)
}
