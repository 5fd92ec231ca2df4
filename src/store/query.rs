// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking into the past: which incidents there were.

use super::{Store, StoreError, rows};
use crate::engine::cause::Cause;
use crate::engine::ids::IncidentId;
use crate::engine::policy::{UnitPattern, glob_matches};
use crate::engine::time::Wall;
use crate::engine::view::IncidentView;
use rusqlite::ToSql;

/// The most that one query returns.
pub const INCIDENTS_PER_QUERY: u32 = 10_000;

/// What to look for; the default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub id: Option<IncidentId>,
    /// A unit name or glob; a missing `.service` is added.
    pub worker_glob: Option<String>,
    pub cause: Option<Cause>,
    /// Opened at this time or later.
    pub since: Wall,
    pub open: Option<bool>,
    /// At most so many, zero for [`INCIDENTS_PER_QUERY`].
    pub limit: u32,
}

impl Store {
    /// The incidents that match, newest first. A row that cannot be read is left out.
    pub fn incidents(&self, filter: &Filter) -> Result<Vec<IncidentView>, StoreError> {
        let glob = filter.worker_glob.as_deref().map(complete);
        let limit = if filter.limit == 0 { INCIDENTS_PER_QUERY } else { filter.limit.min(INCIDENTS_PER_QUERY) };
        self.find(filter, glob.as_deref(), limit as usize).map_err(StoreError::sql("look for incidents"))
    }

    fn find(&self, filter: &Filter, glob: Option<&str>, limit: usize) -> rusqlite::Result<Vec<IncidentView>> {
        let id = filter.id.map(|id| id.0);
        let cause = filter.cause.map(Cause::as_str);
        let prefix = glob.map(literal_prefix).filter(|prefix| !prefix.is_empty());
        // Unit names are ASCII, so this is above every name that starts with the prefix.
        let above = prefix.map(|prefix| format!("{prefix}\u{7f}"));

        let mut sql = "SELECT * FROM incident WHERE opened >= ?".to_owned();
        let mut values: Vec<&dyn ToSql> = vec![&filter.since.0];
        if filter.since == Wall::NEVER {
            values = vec![&i64::MIN];
        }
        if let Some(id) = &id {
            sql.push_str(" AND id = ?");
            values.push(id);
        }
        if let Some(cause) = &cause {
            sql.push_str(" AND cause = ?");
            values.push(cause);
        }
        if let (Some(prefix), Some(above)) = (&prefix, &above) {
            if Some(*prefix) == glob {
                sql.push_str(" AND worker = ?");
                values.push(prefix);
            } else {
                sql.push_str(" AND worker >= ? AND worker < ?");
                values.push(prefix);
                values.push(above);
            }
        }
        match filter.open {
            Some(true) => sql.push_str(" AND state <> 'closed'"),
            Some(false) => sql.push_str(" AND state = 'closed'"),
            None => {}
        }
        sql.push_str(" ORDER BY opened DESC, id DESC");

        let mut statement = self.db.prepare_cached(&sql)?;
        let mut found = statement.query(values.as_slice())?;
        let mut incidents = Vec::new();
        while incidents.len() < limit
            && let Some(row) = found.next()?
        {
            // It need not even be a text.
            let Ok(worker) = row.get::<_, String>("worker") else { continue };
            if glob.is_some_and(|glob| !glob_matches(glob.as_bytes(), worker.as_bytes())) {
                continue;
            }
            incidents.extend(rows::incident(row).ok());
        }
        Ok(incidents)
    }
}

/// What a person types, as the pattern that it stands for; what cannot be a pattern matches as it is, so mostly nothing.
fn complete(text: &str) -> String {
    UnitPattern::parse(text).map_or_else(|_| text.to_owned(), |pattern| pattern.as_str().to_owned())
}

fn literal_prefix(glob: &str) -> &str {
    glob.find(['*', '?', '[']).map_or(glob, |at| &glob[..at])
}
