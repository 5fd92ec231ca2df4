// SPDX-License-Identifier: MIT OR Apache-2.0
//! How notices become rows and rows become notices.

use super::rows::{field, json, list, name};
use crate::engine::cause::Cause;
use crate::engine::ids::{IncidentId, NoticeId, WorkerName};
use crate::engine::notice::Notice;
use crate::engine::saved::SavedNotice;
use crate::engine::time::Wall;
use crate::engine::view::{IncidentResult, NoticeStage, NoticeState};
use rusqlite::{Row, Statement, named_params};
use serde::{Deserialize, Serialize};

pub const SAVE: &str = "INSERT OR REPLACE INTO notice (id, stage, incident, worker, cause, content, state, made, begun, \
     due, attempts, again, error) VALUES (:id, :stage, :incident, :worker, :cause, :content, :state, :made, :begun, \
     :due, :attempts, :again, :error)";

pub const DELETE: &str = "DELETE FROM notice WHERE id = ?1";

/// What a notice says beside what can be searched for.
#[derive(Serialize, Deserialize)]
struct Content {
    is_final: bool,
    confidence: u8,
    result: String,
    opened: i64,
    retry_at: i64,
    text: String,
    next: String,
    lines: Vec<String>,
    repeats: u32,
}

pub fn save(row: &mut Statement<'_>, saved: &SavedNotice) -> rusqlite::Result<()> {
    let notice = &saved.notice;
    let content = Content {
        is_final: notice.is_final,
        confidence: notice.confidence,
        result: notice.result.as_str().to_owned(),
        opened: notice.opened.0,
        retry_at: notice.retry_at.0,
        text: notice.text.clone(),
        next: notice.next.clone(),
        lines: notice.lines.clone(),
        repeats: notice.repeats,
    };
    row.execute(named_params! {
        ":id": notice.id.0,
        ":stage": notice.stage.as_str(),
        ":incident": notice.incident.map(|id| id.0),
        ":worker": notice.worker.as_ref().map(WorkerName::as_str),
        ":cause": notice.cause.as_str(),
        ":content": json(&content)?,
        ":state": saved.state.as_str(),
        ":made": saved.made.0,
        ":begun": saved.begun.0,
        ":due": saved.due.0,
        ":attempts": saved.attempts,
        ":again": saved.again,
        ":error": saved.error,
    })?;
    Ok(())
}

/// Reads a row of `SELECT * FROM notice`.
pub fn read(row: &Row<'_>) -> Result<SavedNotice, String> {
    let content: Content = list(row, "content")?;
    let worker = field::<Option<String>>(row, "worker")?.map(|text| name(&text)).transpose()?;
    let stage: String = field(row, "stage")?;
    let notice = Notice {
        id: NoticeId(field(row, "id")?),
        stage: NoticeStage::parse(&stage).ok_or_else(|| format!("the stage {stage:?} is not known"))?,
        is_final: content.is_final,
        incident: field::<Option<u32>>(row, "incident")?.map(IncidentId),
        worker,
        cause: Cause::parse(&field::<String>(row, "cause")?).unwrap_or(Cause::Unknown),
        confidence: content.confidence,
        result: IncidentResult::parse(&content.result).unwrap_or(IncidentResult::None),
        opened: Wall(content.opened),
        retry_at: Wall(content.retry_at),
        text: content.text,
        next: content.next,
        lines: content.lines,
        repeats: content.repeats,
    };
    Ok(SavedNotice {
        notice,
        state: NoticeState::parse(&field::<String>(row, "state")?).unwrap_or(NoticeState::Lost),
        made: Wall(field(row, "made")?),
        begun: Wall(field(row, "begun")?),
        due: Wall(field(row, "due")?),
        attempts: field(row, "attempts")?,
        again: field(row, "again")?,
        error: field(row, "error")?,
    })
}
