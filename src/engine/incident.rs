// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger of incidents: one per failed run, from failure to recovery.

use super::classify::Verdict;
use super::ids::{IncidentId, InvocationId, WorkerName};
use super::time::{Now, Wall};
use super::view::{IncidentResult, IncidentState, IncidentView, RemedyView};
use std::collections::{BTreeMap, BTreeSet};

/// Closed incidents that are kept in memory; the store has the older ones.
const CLOSED_KEPT: usize = 256;
/// Members that are kept per incident.
const MEMBERS_KEPT: usize = 1_000;
/// Remedies that are kept per incident.
const REMEDIES_KEPT: usize = 32;

#[derive(Clone, Debug, Default)]
pub(super) struct Incidents {
    all: BTreeMap<IncidentId, IncidentView>,
    next: u32,
}

impl Incidents {
    pub fn restore(known: Vec<IncidentView>, next: u32) -> Incidents {
        let all: BTreeMap<_, _> = known.into_iter().map(|incident| (incident.id, incident)).collect();
        let highest = all.keys().next_back().map_or(0, |id| id.0);
        let mut incidents = Incidents { all, next: next.max(highest.saturating_add(1)).max(1) };
        incidents.shed();
        incidents
    }

    /// Those that are over.
    pub fn closed(&self) -> BTreeSet<IncidentId> {
        self.all
            .values()
            .filter(|incident| incident.state == IncidentState::Closed)
            .map(|incident| incident.id)
            .collect()
    }

    pub fn next_id(&self) -> u32 {
        self.next.max(1)
    }

    /// Opens an incident for a run that failed at `failed`.
    pub fn open(
        &mut self,
        worker: &WorkerName,
        run: Option<InvocationId>,
        verdict: &Verdict,
        failed: Wall,
        now: Now,
    ) -> IncidentId {
        let id = IncidentId(self.next.max(1));
        self.next = id.0.saturating_add(1);
        let opened = if failed == Wall::NEVER || failed > now.wall { now.wall } else { failed };
        self.all.insert(
            id,
            IncidentView {
                id,
                worker: worker.clone(),
                run,
                cause: verdict.cause,
                confidence: verdict.confidence,
                because: verdict.because.clone(),
                cascade: verdict.cascade.clone(),
                opened,
                detected: now.wall,
                decided: Wall::NEVER,
                started: Wall::NEVER,
                recovered: Wall::NEVER,
                closed: Wall::NEVER,
                state: IncidentState::Open,
                result: IncidentResult::None,
                remedies: Vec::new(),
                part_of: None,
                members: Vec::new(),
                text: format!("{worker} {}: {}", verdict.ending, verdict.cause.meaning()),
            },
        );
        id
    }

    /// Says in one sentence what happened and what is done about it.
    pub fn tell(&mut self, id: IncidentId, verdict: &Verdict, next: &str) {
        if let Some(incident) = self.all.get_mut(&id) {
            incident.text = format!("{} {}: {}; {next}", incident.worker, verdict.ending, verdict.cause.meaning());
        }
    }

    /// Writes the verdict down, also if the incident is closed already.
    pub fn judge(&mut self, id: IncidentId, verdict: &Verdict, next: &str) {
        if let Some(incident) = self.all.get_mut(&id) {
            incident.cause = verdict.cause;
            incident.confidence = verdict.confidence;
            incident.because.clone_from(&verdict.because);
            incident.cascade.clone_from(&verdict.cascade);
        }
        self.tell(id, verdict, next);
    }

    /// Makes one incident part of another; returns its worker.
    pub fn join(&mut self, lead: IncidentId, member: IncidentId) -> Option<WorkerName> {
        let incident = self.all.get_mut(&member)?;
        incident.part_of = Some(lead);
        let worker = incident.worker.clone();
        let lead = self.all.get_mut(&lead)?;
        if lead.members.len() < MEMBERS_KEPT && !lead.members.contains(&worker) {
            lead.members.push(worker.clone());
        }
        Some(worker)
    }

    pub fn get(&self, id: IncidentId) -> Option<&IncidentView> {
        self.all.get(&id)
    }

    /// Whether this failed run has its incident already.
    pub fn covers(&self, worker: &WorkerName, run: Option<InvocationId>) -> bool {
        run.is_some() && self.all.values().any(|incident| incident.run == run && incident.worker == *worker)
    }

    pub fn is_open(&self, id: IncidentId) -> bool {
        self.all.get(&id).is_some_and(|incident| incident.state != IncidentState::Closed)
    }

    /// The incident for changing, unless it is closed or unknown.
    pub fn open_mut(&mut self, id: IncidentId) -> Option<&mut IncidentView> {
        self.all.get_mut(&id).filter(|incident| incident.state != IncidentState::Closed)
    }

    /// Closes an open incident; returns the ids of those that are dropped from memory to make room.
    pub fn close(&mut self, id: IncidentId, result: IncidentResult, now: Now) -> Vec<IncidentId> {
        let Some(incident) = self.open_mut(id) else { return Vec::new() };
        incident.settle("given up");
        incident.state = IncidentState::Closed;
        incident.result = result;
        incident.closed = now.wall;
        if result == IncidentResult::Recovered {
            incident.recovered = now.wall;
        }
        self.shed()
    }

    fn shed(&mut self) -> Vec<IncidentId> {
        let closed = self.all.values().filter(|incident| incident.state == IncidentState::Closed);
        let surplus = closed.clone().count().saturating_sub(CLOSED_KEPT);
        let dropped: Vec<_> = closed.take(surplus).map(|incident| incident.id).collect();
        for id in &dropped {
            self.all.remove(id);
        }
        dropped
    }

    pub fn open_count(&self) -> u32 {
        let open = self.all.values().filter(|incident| incident.state != IncidentState::Closed);
        let open = open.filter(|incident| incident.part_of.is_none()).count();
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    pub fn all(&self) -> impl Iterator<Item = &IncidentView> {
        self.all.values()
    }
}

impl IncidentView {
    /// Notes what was decided.
    pub(super) fn decide(&mut self, action: &'static str, by: String, now: Now) {
        if self.decided == Wall::NEVER {
            self.decided = now.wall;
        }
        if self.remedies.len() < REMEDIES_KEPT {
            self.remedies.push(RemedyView { action, at: now.wall, by, outcome: String::new() });
        }
    }

    /// Notes how the last remedy went.
    pub(super) fn settle(&mut self, outcome: &str) {
        if let Some(remedy) = self.remedies.last_mut()
            && remedy.outcome.is_empty()
        {
            remedy.outcome = outcome.to_owned();
        }
    }
}
