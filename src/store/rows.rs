// SPDX-License-Identifier: MIT OR Apache-2.0
//! How values become rows and rows become values.
//!
//! A row that cannot be read is an error of that row only. A word that this version does not know (written by another
//! version with the same tables) becomes the harmless one: the row is worth more than the word.

use super::remedies;
use crate::engine::cause::Cause;
use crate::engine::event::Definition;
use crate::engine::ids::{HoldId, IncidentId, InvocationId, WorkerName};
use crate::engine::policy::{Layer, Size};
use crate::engine::saved::{SavedHold, SavedOrigin, SavedPace, SavedProgress, SavedWorker};
use crate::engine::time::{Mono, Wall};
use crate::engine::until::Until;
use crate::engine::view::{IncidentResult, IncidentState, IncidentView, Phase, RemedyView};
use rusqlite::{Row, Statement, named_params, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const SAVE_META: &str = "INSERT OR REPLACE INTO meta (one, boot_id, mono, wall, next_incident, next_hold) \
     VALUES (1, ?1, ?2, ?3, ?4, ?5)";

pub const DELETE_WORKER: &str = "DELETE FROM worker WHERE name = ?1";

pub const DELETE_HOLD: &str = "DELETE FROM hold WHERE id = ?1";

pub const DELETE_PROGRESS: &str = "DELETE FROM progress WHERE worker = ?1";

pub const DELETE_HISTORY: &str = "DELETE FROM history WHERE worker = ?1";

pub const SAVE_WORKER: &str = "INSERT OR REPLACE INTO worker (name, origin, definition, layer, phase, since, remark, invocation, \
     run_ended, seen, intended_up, completed, quarantine, paused, attempts, failures, cause, incident, restart_due, \
     runs, downtime, finished, remedies) VALUES (:name, :origin, :definition, :layer, :phase, :since, :remark, :invocation, :run_ended, :seen, \
     :intended_up, :completed, :quarantine, :paused, :attempts, :failures, :cause, :incident, :restart_due, :runs, \
     :downtime, :finished, :remedies)";

pub const SAVE_HOLD: &str =
    "INSERT OR REPLACE INTO hold (id, workers, who, why, until, awaits) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub const SAVE_INCIDENT: &str = "INSERT INTO incident (id, worker, run, cause, confidence, because, cascade, opened, \
     detected, decided, started, recovered, closed, state, result, remedies, part_of, members, text) VALUES (:id, :worker, :run, :cause, \
     :confidence, :because, :cascade, :opened, :detected, :decided, :started, :recovered, :closed, :state, :result, \
     :remedies, :part_of, :members, :text) ON CONFLICT (id) DO UPDATE SET worker = excluded.worker, run = excluded.run, \
     cause = excluded.cause, confidence = excluded.confidence, because = excluded.because, \
     cascade = excluded.cascade, opened = excluded.opened, detected = excluded.detected, \
     decided = excluded.decided, started = excluded.started, recovered = excluded.recovered, \
     closed = excluded.closed, state = excluded.state, result = excluded.result, remedies = excluded.remedies, \
     part_of = excluded.part_of, members = excluded.members, text = excluded.text";

pub const SAVE_PROGRESS: &str = "INSERT OR REPLACE INTO progress (worker, run, at, value, total, paces, named) VALUES \
     (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub const SAVE_HISTORY: &str = "INSERT OR REPLACE INTO history (worker, at, value, total) VALUES (?1, ?2, ?3, ?4)";

pub fn save_worker(row: &mut Statement<'_>, worker: &SavedWorker) -> rusqlite::Result<()> {
    let (origin, definition, layer) = match &worker.origin {
        SavedOrigin::Policy => ("policy", None, None),
        SavedOrigin::Adopted(layer) => ("adopted", None, Some(json(&layer.written)?)),
        SavedOrigin::Run(definition, layer) => {
            let definition = json(&(&definition.argv, &definition.properties))?;
            ("run", Some(definition), Some(json(&layer.written)?))
        }
    };
    let attempts: Vec<i64> = worker.attempts.iter().map(|at| at.0).collect();
    row.execute(named_params! {
        ":name": worker.name.as_str(),
        ":origin": origin,
        ":definition": definition,
        ":layer": layer,
        ":phase": worker.phase.as_str(),
        ":since": worker.since.0,
        ":remark": worker.remark,
        ":invocation": worker.invocation.map(|id| id.0),
        ":run_ended": worker.run_ended,
        ":seen": worker.seen.0,
        ":intended_up": worker.intended_up,
        ":completed": worker.completed,
        ":quarantine": worker.quarantine,
        ":paused": worker.paused,
        ":attempts": json(&attempts)?,
        ":failures": worker.failures,
        ":cause": worker.cause.map(Cause::as_str),
        ":incident": worker.incident.map(|id| id.0),
        ":restart_due": worker.restart_due.map(|at| at.0),
        ":runs": i64::try_from(worker.runs).unwrap_or(i64::MAX),
        ":downtime": i64::try_from(worker.downtime.as_micros()).unwrap_or(i64::MAX),
        ":finished": worker.finished.0,
        ":remedies": remedies::text(&worker.remedies).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
    })?;
    Ok(())
}

pub fn save_hold(row: &mut Statement<'_>, hold: &SavedHold) -> rusqlite::Result<()> {
    let workers: Vec<&str> = hold.workers.iter().map(WorkerName::as_str).collect();
    row.execute(params![
        hold.id.0,
        json(&workers)?,
        hold.who,
        hold.why,
        hold.until.map(|at| at.0),
        hold.when.as_ref().map(ToString::to_string)
    ])?;
    Ok(())
}

pub fn save_incident(row: &mut Statement<'_>, incident: &IncidentView) -> rusqlite::Result<()> {
    let remedies: Vec<(&str, i64, &str, &str)> = incident
        .remedies
        .iter()
        .map(|remedy| (remedy.action, remedy.at.0, remedy.by.as_str(), remedy.outcome.as_str()))
        .collect();
    row.execute(named_params! {
        ":id": incident.id.0,
        ":worker": incident.worker.as_str(),
        ":run": incident.run.map(|id| id.0),
        ":cause": incident.cause.as_str(),
        ":confidence": incident.confidence,
        ":because": json(&incident.because)?,
        ":cascade": json(&incident.cascade)?,
        ":opened": incident.opened.0,
        ":detected": incident.detected.0,
        ":decided": incident.decided.0,
        ":started": incident.started.0,
        ":recovered": incident.recovered.0,
        ":closed": incident.closed.0,
        ":state": incident.state.as_str(),
        ":result": incident.result.as_str(),
        ":remedies": json(&remedies)?,
        ":part_of": incident.part_of.map(|id| id.0),
        ":members": json(&incident.members.iter().map(WorkerName::as_str).collect::<Vec<_>>())?,
        ":text": incident.text,
    })?;
    Ok(())
}

/// Reads a row of `SELECT * FROM worker`; the layer is left empty but for `written`.
pub fn worker(row: &Row<'_>) -> Result<SavedWorker, String> {
    let cause: Option<String> = field(row, "cause")?;
    let origin: String = field(row, "origin")?;
    let origin = match origin.as_str() {
        "policy" => SavedOrigin::Policy,
        "adopted" => SavedOrigin::Adopted(layer(row)?),
        "run" => {
            let (argv, properties) = list(row, "definition")?;
            SavedOrigin::Run(Definition { argv, properties }, layer(row)?)
        }
        other => return Err(format!("the origin {other:?} is not known")),
    };
    Ok(SavedWorker {
        name: name(&field::<String>(row, "name")?)?,
        origin,
        phase: Phase::parse(&field::<String>(row, "phase")?).unwrap_or(Phase::Inactive),
        since: Wall(field(row, "since")?),
        remark: field(row, "remark")?,
        invocation: field::<Option<[u8; 16]>>(row, "invocation")?.map(InvocationId),
        run_ended: field(row, "run_ended")?,
        seen: Wall(field(row, "seen")?),
        intended_up: field(row, "intended_up")?,
        completed: field(row, "completed")?,
        quarantine: field(row, "quarantine")?,
        paused: field(row, "paused")?,
        attempts: list::<Vec<i64>>(row, "attempts")?.into_iter().map(Mono).collect(),
        failures: field(row, "failures")?,
        cause: cause.map(|word| Cause::parse(&word).unwrap_or(Cause::Unknown)),
        incident: field::<Option<u32>>(row, "incident")?.map(IncidentId),
        restart_due: field::<Option<i64>>(row, "restart_due")?.map(Mono),
        runs: u64::try_from(field::<i64>(row, "runs")?).unwrap_or(0),
        downtime: Duration::from_micros(u64::try_from(field::<i64>(row, "downtime")?).unwrap_or(0)),
        finished: Wall(field(row, "finished")?),
        remedies: remedies::read(&field::<String>(row, "remedies")?).map_err(|error| format!("remedies: {error}"))?,
    })
}

/// Reads a row of `SELECT * FROM hold`.
pub fn hold(row: &Row<'_>) -> Result<SavedHold, String> {
    let workers: Vec<String> = list(row, "workers")?;
    Ok(SavedHold {
        id: HoldId(field(row, "id")?),
        workers: workers.iter().map(|text| name(text)).collect::<Result<_, _>>()?,
        who: field(row, "who")?,
        why: field(row, "why")?,
        until: field::<Option<i64>>(row, "until")?.map(Wall),
        when: field::<Option<String>>(row, "awaits")?.map(|text| awaits(&text)).transpose()?,
    })
}

/// The holds that can be read.
pub fn hold_ids(rows: &mut Statement<'_>) -> rusqlite::Result<Vec<HoldId>> {
    let mut found = rows.query([])?;
    let mut ids = Vec::new();
    while let Some(row) = found.next()? {
        ids.extend(hold(row).ok().map(|hold| hold.id));
    }
    Ok(ids)
}

/// The spelling of a size is our own here.
fn awaits(text: &str) -> Result<Until, String> {
    Until::parse(text, Size::parse)
}

/// The stage; times in milliseconds: all gaps together, the newest ones, the longest ones.
type Pace = (String, u64, Vec<u64>, Vec<u64>);
/// What sources said, by name.
type Named = Vec<(String, f64)>;

pub fn save_progress(row: &mut Statement<'_>, progress: &SavedProgress) -> rusqlite::Result<()> {
    let millis = |span: &Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let pace = |(stage, pace): &(Arc<str>, SavedPace)| -> Pace {
        let SavedPace { seen, gaps, longest } = pace;
        let all = |spans: &[Duration]| spans.iter().map(millis).collect();
        (stage.to_string(), millis(seen), all(gaps), all(longest))
    };
    let paces: Vec<Pace> = progress.paces.iter().map(pace).collect();
    let run = progress.run.map(|id| id.0);
    let named: Named = finite(&progress.values);
    row.execute(params![
        progress.worker.as_str(),
        run,
        progress.at.0,
        whole(progress.value),
        whole(progress.total),
        json(&paces)?,
        json(&named)?
    ])?;
    Ok(())
}

pub fn save_history(row: &mut Statement<'_>, progress: &SavedProgress) -> rusqlite::Result<()> {
    row.execute(params![progress.worker.as_str(), progress.at.0, whole(progress.value), whole(progress.total)])?;
    Ok(())
}

/// Reads a row of `SELECT * FROM progress`.
pub fn progress(row: &Row<'_>) -> Result<SavedProgress, String> {
    let paces: Vec<Pace> = list(row, "paces")?;
    let named: Named = list(row, "named")?;
    let spans = |millis: Vec<u64>| millis.into_iter().map(Duration::from_millis).collect();
    let pace = |(stage, seen, gaps, longest): Pace| {
        let pace = SavedPace { seen: Duration::from_millis(seen), gaps: spans(gaps), longest: spans(longest) };
        (stage.into(), pace)
    };
    Ok(SavedProgress {
        worker: name(&field::<String>(row, "worker")?)?,
        run: field::<Option<[u8; 16]>>(row, "run")?.map(InvocationId),
        at: Wall(field(row, "at")?),
        value: field::<i64>(row, "value")?.unsigned_abs(),
        total: field::<i64>(row, "total")?.unsigned_abs(),
        paces: paces.into_iter().map(pace).collect(),
        values: named.into_iter().map(|(name, value)| (name.into(), value)).collect(),
    })
}

/// JSON has no other numbers.
fn finite(values: &BTreeMap<Arc<str>, f64>) -> Named {
    let finite = values.iter().filter(|(_, value)| value.is_finite());
    finite.map(|(name, value)| (name.to_string(), *value)).collect()
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a row of `SELECT * FROM incident`.
pub fn incident(row: &Row<'_>) -> Result<IncidentView, String> {
    let remedies: Vec<(String, i64, String, String)> = list(row, "remedies")?;
    let remedies = remedies
        .into_iter()
        .map(|(action, at, by, outcome)| RemedyView {
            action: RemedyView::known_action(&action),
            at: Wall(at),
            by,
            outcome,
        })
        .collect();
    Ok(IncidentView {
        id: IncidentId(field(row, "id")?),
        worker: name(&field::<String>(row, "worker")?)?,
        run: field::<Option<[u8; 16]>>(row, "run")?.map(InvocationId),
        cause: Cause::parse(&field::<String>(row, "cause")?).unwrap_or(Cause::Unknown),
        confidence: field(row, "confidence")?,
        because: list(row, "because")?,
        cascade: list(row, "cascade")?,
        opened: Wall(field(row, "opened")?),
        detected: Wall(field(row, "detected")?),
        decided: Wall(field(row, "decided")?),
        started: Wall(field(row, "started")?),
        recovered: Wall(field(row, "recovered")?),
        closed: Wall(field(row, "closed")?),
        state: IncidentState::parse(&field::<String>(row, "state")?).unwrap_or(IncidentState::Open),
        result: IncidentResult::parse(&field::<String>(row, "result")?).unwrap_or(IncidentResult::None),
        remedies,
        part_of: field::<Option<u32>>(row, "part_of")?.map(IncidentId),
        members: list::<Vec<String>>(row, "members")?.iter().map(|text| name(text)).collect::<Result<_, _>>()?,
        text: field(row, "text")?,
    })
}

fn layer(row: &Row<'_>) -> Result<Layer, String> {
    Ok(Layer { written: list(row, "layer")?, ..Layer::default() })
}

pub(super) fn name(text: &str) -> Result<WorkerName, String> {
    WorkerName::parse(text).map_err(|error| format!("{text:?}: {error}"))
}

pub(super) fn field<T: rusqlite::types::FromSql>(row: &Row<'_>, column: &str) -> Result<T, String> {
    row.get(column).map_err(|error| format!("{column}: {error}"))
}

pub(super) fn list<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, String> {
    let text = row.get_ref(column).map_err(|error| format!("{column}: {error}"))?;
    let text = text.as_str().map_err(|error| format!("{column}: {error}"))?;
    serde_json::from_str(text).map_err(|error| format!("{column}: {error}"))
}

pub(super) fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
