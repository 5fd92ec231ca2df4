// SPDX-License-Identifier: MIT OR Apache-2.0
//! org.watcherd1.Incident: one failed run, its cause, and what was done about it.

use super::board::Shown;
use super::client::RemedyRow;
use super::error::ApiError;
use super::publish::Published;
use super::{SharedDesk, arguments, path, usec};
use crate::engine::event::Request;
use crate::engine::evidence::Source;
use crate::engine::view::{IncidentView, RemedyView};
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath};

pub struct Incident {
    desk: SharedDesk,
    shown: Shown<IncidentView>,
}

impl Published for Incident {
    type View = IncidentView;

    fn new(desk: SharedDesk, shown: Shown<IncidentView>) -> Incident {
        Incident { desk, shown }
    }

    fn path(view: &IncidentView) -> OwnedObjectPath {
        path::incident(view.id)
    }
}

impl Incident {
    fn view(&self) -> Arc<IncidentView> {
        self.shown.view()
    }
}

/// What everybody may know of a piece of evidence: what systemd and the kernel's counters say, but no line of a log.
pub(super) fn public(line: &str) -> String {
    match line.split_once(": ") {
        Some((source, _)) if WITH_LOG_LINES.contains(&source) => format!("{source}: a line that may be private"),
        _ => line.to_owned(),
    }
}

/// Remedies as they were; the outcome of a follow-up has the last words of its command.
pub(super) fn remedies(view: &IncidentView) -> Vec<RemedyRow> {
    let row = |r: &RemedyView| (r.action.to_owned(), usec(r.at), r.by.clone(), r.outcome.clone());
    view.remedies.iter().map(row).collect()
}

/// What everybody may know of an outcome such as `failed: exit status 22: curl: …`.
fn public_outcome(outcome: String) -> String {
    match outcome.match_indices(": ").nth(1) {
        Some((end, _)) => outcome[..end].to_owned(),
        None => outcome,
    }
}

/// The sources whose evidence is lines of logs.
const WITH_LOG_LINES: [&str; 4] =
    [Source::Kernel.as_str(), Source::CoreDump.as_str(), Source::Killer.as_str(), Source::Output.as_str()];

#[zbus::interface(name = "org.watcherd1.Incident")]
impl Incident {
    /// Closes the incident by hand. No flags are defined.
    async fn close(
        &self,
        why: String,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        arguments::flags(flags, 0)?;
        let why = arguments::text("the reason", why)?;
        let view = self.view();
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&view.worker)).await?;
        self.desk.ask(caller, Request::CloseIncident { incident: view.id, why }).await.map(drop)
    }

    /// Counts up for ever.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> u32 {
        self.view().id.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn worker(&self) -> String {
        self.view().worker.to_string()
    }

    /// The InvocationID of the failed run in hexadecimal digits; empty if unknown.
    #[zbus(property(emits_changed_signal = "const"))]
    fn run(&self) -> String {
        self.view().run.map(|run| run.to_string()).unwrap_or_default()
    }

    #[zbus(property)]
    fn cause(&self) -> &'static str {
        self.view().cause.as_str()
    }

    /// 0.0 to 1.0.
    #[zbus(property)]
    fn confidence(&self) -> f64 {
        f64::from(self.view().confidence) / 100.0
    }

    /// The facts that prove the cause, in the order of time, each with its source. Everybody may read this, so lines of
    /// logs are left out; ListIncidents has them for those who may read the journal.
    #[zbus(property)]
    fn because(&self) -> Vec<String> {
        self.view().because.iter().map(|line| public(line)).collect()
    }

    /// What only followed from it; lines of logs are left out, as in Because.
    #[zbus(property)]
    fn cascade(&self) -> Vec<String> {
        self.view().cascade.iter().map(|line| public(line)).collect()
    }

    /// When the run failed. All times are µs since 1970, 0 for never.
    #[zbus(property(emits_changed_signal = "const"))]
    fn opened(&self) -> u64 {
        usec(self.view().opened)
    }

    /// When watcherd knew.
    #[zbus(property(emits_changed_signal = "const"))]
    fn detected(&self) -> u64 {
        usec(self.view().detected)
    }

    /// When it was decided what to do.
    #[zbus(property)]
    fn decided(&self) -> u64 {
        usec(self.view().decided)
    }

    /// When the next run started.
    #[zbus(property)]
    fn started(&self) -> u64 {
        usec(self.view().started)
    }

    /// When that run counted as healthy.
    #[zbus(property)]
    fn recovered(&self) -> u64 {
        usec(self.view().recovered)
    }

    #[zbus(property)]
    fn closed(&self) -> u64 {
        usec(self.view().closed)
    }

    /// `open`, `recovering`, `verifying` or `closed`.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.view().state.as_str()
    }

    /// How it ended: `recovered`, `failed-again`, `quarantined`, `stopped` and others; empty until it is closed.
    #[zbus(property)]
    fn result(&self) -> &'static str {
        self.view().result.as_str()
    }

    /// Action, when (µs since 1970), the policy line that chose it, outcome; what a command has printed is left out, as in
    /// Because.
    #[zbus(property)]
    fn remedies(&self) -> Vec<RemedyRow> {
        let public = |(action, at, by, outcome): RemedyRow| (action, at, by, public_outcome(outcome));
        remedies(&self.view()).into_iter().map(public).collect()
    }

    /// The number of the incident that stands for this one, because many workers failed of one cause at once; 0 for none.
    #[zbus(property)]
    fn part_of(&self) -> u32 {
        self.view().part_of.map_or(0, |id| id.0)
    }

    /// The workers of the incidents that this one stands for.
    #[zbus(property)]
    fn members(&self) -> Vec<String> {
        self.view().members.iter().map(ToString::to_string).collect()
    }

    /// One sentence for people.
    #[zbus(property)]
    fn text(&self) -> String {
        self.view().text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_printed_is_no_part_of_a_public_outcome() {
        let cases = [
            ("done", "done"),
            ("", ""),
            ("failed: not done within 1s", "failed: not done within 1s"),
            ("failed: exit status 22: curl: (22) http://h/?key=x: 503", "failed: exit status 22"),
        ];
        for (outcome, expected) in cases {
            assert_eq!(public_outcome(outcome.to_owned()), expected);
        }
    }
}
