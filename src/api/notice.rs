// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notices as Manager.ListNotices shows them: what became of each, never what it says.

use super::client::Dict;
use super::usec;
use crate::engine::saved::SavedNotice;
use zbus::{OwnedVariant, Variant};

/// One notice.
pub fn row(saved: &SavedNotice) -> Dict {
    let notice = &saved.notice;
    let cause = notice.incident.map_or("", |_| notice.cause.as_str());
    let worker = notice.worker.as_ref().map(ToString::to_string).unwrap_or_default();
    let pairs: [(&str, Variant<'static>); 11] = [
        ("Id", notice.id.0.into()),
        ("Stage", notice.stage.as_str().into()),
        ("Final", notice.is_final.into()),
        ("Incident", notice.incident.map_or(0, |id| id.0).into()),
        ("Worker", worker.into()),
        ("Cause", cause.into()),
        ("State", saved.state.as_str().into()),
        ("MadeTimestamp", usec(saved.made).into()),
        ("DueTimestamp", usec(saved.due).into()),
        ("Attempts", saved.attempts.into()),
        ("Error", saved.error.clone().into()),
    ];
    let owned = |(key, value): (&str, Variant<'static>)| Some((key.to_owned(), OwnedVariant::try_from(value).ok()?));
    pairs.into_iter().filter_map(owned).collect()
}
