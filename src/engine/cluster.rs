// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many workers that fail of one cause within a short time have one trouble: the first incident stands for all of them,
//! they share one hold, and they come back one after the other.

use super::*;
use cause::Cause;
use std::time::Duration;

/// How close together the failures must be.
const WINDOW: Duration = Duration::from_secs(60);
/// So many workers make a cluster.
const LEAST: usize = 3;
/// Failures that are remembered for it.
const KEPT: usize = 2_000;
/// The distance between the starts of members.
const STEP: Duration = Duration::from_millis(500);
/// All of them have their turn by then.
const LONGEST: Duration = Duration::from_secs(300);

/// The recent failures whose cause lies outside of the worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Clusters {
    recent: VecDeque<Recent>,
}

#[derive(Clone, Debug)]
struct Recent {
    at: Mono,
    cause: Cause,
    incident: IncidentId,
}

/// Whether the cause is something that workers share: a disk, a service, a device, the machine.
pub(super) fn is_shared(cause: Cause) -> bool {
    use Cause::*;
    matches!(
        cause,
        AuthFailure
            | DbContention
            | DiskFull
            | DistributedComm
            | DnsFailure
            | GpuHardwareFault
            | GpuUnavailable
            | HostHardwareFault
            | OomKillHost
            | OperationTimeout
            | RateLimited
            | ServiceUnreachable
            | ShmExhausted
            | StorageFault
    )
}

impl Engine {
    /// Since when others may join this one, if that was just now.
    pub(super) fn gathered(&self, id: IncidentId) -> Option<Mono> {
        self.clusters.recent.iter().find(|known| known.incident == id).map(|known| known.at)
    }

    /// The cause of a failure is known: looks for others that failed of it just now.
    pub(super) fn gather(&mut self, id: IncidentId, cause: Cause) {
        let now = self.now.mono;
        let recent = &mut self.clusters.recent;
        while recent.len() >= KEPT || recent.front().is_some_and(|first| first.at + WINDOW < now) {
            recent.pop_front();
        }
        if !is_shared(cause) || recent.iter().any(|known| known.incident == id) {
            return;
        }
        recent.push_back(Recent { at: now, cause, incident: id });
        let alike: BTreeSet<_> =
            recent.iter().filter(|known| known.cause == cause).map(|known| known.incident).collect();
        let alike: Vec<_> = alike.into_iter().filter_map(|id| self.incidents.get(id)).collect();
        let workers: BTreeSet<_> = alike.iter().map(|incident| incident.worker.clone()).collect();
        let Some(first) = alike.first() else { return };
        let lead = first.part_of.unwrap_or(first.id);
        let members: Vec<_> =
            alike.iter().filter(|other| other.id != lead && other.part_of.is_none()).map(|other| other.id).collect();
        if workers.len() < LEAST || members.is_empty() {
            return;
        }
        self.join(lead, &members, cause);
    }

    fn join(&mut self, lead: IncidentId, members: &[IncidentId], cause: Cause) {
        let fresh = self.incidents.get(lead).is_some_and(|incident| incident.members.is_empty());
        let mut names = Vec::new();
        for id in members {
            names.extend(self.incidents.join(lead, *id));
            self.step.changes.insert(ObjectId::Incident(*id));
        }
        self.step.changes.insert(ObjectId::Incident(lead));
        self.step.changes.insert(ObjectId::Manager);
        let Some(incident) = self.incidents.get(lead) else { return };
        let count = incident.members.len() + 1;
        let name = incident.worker.clone();
        let others: Vec<_> = names.iter().map(ToString::to_string).collect();
        let text = match fresh {
            true => format!(
                "{count} workers failed of {cause} within a minute: {name}, {}; incident {lead} stands for all",
                others.join(", ")
            ),
            false => format!(
                "{} failed of {cause}, too: {count} workers by now, incident {lead} stands for all",
                others.join(", ")
            ),
        };
        self.record(EntryKind::FailedTogether, Some(&name), text);
        if let Some(Action::Record(entry)) = self.step.actions.last_mut() {
            entry.incident = Some(lead);
            entry.cause = Some(cause);
        }
        for name in names {
            self.spread(&name, count);
        }
    }

    /// A member's planned start comes some time after those of the others.
    fn spread(&mut self, name: &WorkerName, count: usize) {
        let turn = self.turn(count);
        let Some(worker) = self.workers.get_mut(name) else { return };
        if let Some(plan) = worker.plan.as_mut().filter(|plan| plan.flying.is_none() && !plan.queued) {
            plan.due = plan.due + turn;
            self.touched.insert(name.clone());
        }
    }

    /// A place at random among so many starts.
    pub(super) fn turn(&mut self, count: usize) -> Duration {
        let all = STEP.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(LONGEST);
        Duration::from_micros(self.rng.below(u64::try_from(all.as_micros()).unwrap_or(u64::MAX) + 1))
    }
}
