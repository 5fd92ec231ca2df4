// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which news about an incident are worth a notice.
//!
//! [`Engine::look_for_news`] looks at the incidents that a step has changed, and compares how each stands with what was
//! told of it. Each is told of when its verdict is there and it is decided what to do (`opened`), again if a person has to
//! act after all (`final`), and when it is over (`closed`). When a notice is sent is none of its business.

use super::*;
use notice::Notice;
use policy::Text;
use std::time::Duration;
use time::Span;
use view::{IncidentState, IncidentView, NoticeStage, NoticeState};

/// An incident is told of after so long, whatever is still to come about it.
const NEWS_WAIT: Duration = Duration::from_secs(30);
/// What many workers may share is told of after so long, so that one notice can speak for all.
const GATHER: Duration = Duration::from_secs(2);
/// Lines of evidence in a notice, and characters of each.
const LINES_MAX: usize = 10;
const LINE_MAX: usize = 400;

/// What is to be told of an incident.
struct News {
    stage: NoticeStage,
    is_final: bool,
    retry_at: Wall,
    next: String,
}

/// Whether more about an incident is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Left,
    Over,
}

/// How an incident stands.
enum Outlook {
    /// More is known in a moment.
    Unsettled,
    /// Something is tried, at that time if one is planned.
    Hopeful(Wall, String),
    Final(String),
    Closed(String),
    /// Nothing that is worth a notice.
    Silent,
}

impl Engine {
    /// Looks at the incidents that this step has changed.
    pub(super) fn look_for_news(&mut self) {
        if !self.policies.settings.notify.ways.is_any() {
            return self.fall_silent();
        }
        let incidents = ObjectId::Incident(IncidentId(0))..=ObjectId::Incident(IncidentId(u32::MAX));
        let changed: Vec<_> = self.step.changes.range(incidents).cloned().collect();
        for id in changed {
            if let ObjectId::Incident(id) = id {
                self.consider(id, Patience::Left);
            }
        }
        let now = self.now.mono;
        let late: Vec<_> =
            self.outbox.unsettled.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.outbox.unsettled.remove(&id);
            self.consider(id, Patience::Over);
        }
    }

    /// Tells of an incident if there is news.
    fn consider(&mut self, id: IncidentId, patience: Patience) {
        use NoticeStage::{Closed, Final, Opened};
        let Some(incident) = self.incidents.get(id) else { return };
        if self.workers.get(&incident.worker).is_some_and(|worker| !worker.policy.notify.value) {
            return;
        }
        let outbox = &self.outbox;
        if outbox.past.contains(&id) || outbox.told(id, &[Closed]) {
            return;
        }
        let (opened, told_final) = (outbox.told(id, &[Opened, Final]), outbox.told(id, &[Final]));
        let outlook = self.outlook(incident, patience);
        if !matches!(outlook, Outlook::Unsettled) {
            self.outbox.unsettled.remove(&id);
        }
        match outlook {
            Outlook::Unsettled => {
                let gathers = self.incidents.get(id).is_some_and(|incident| self.is_gathering(incident));
                let wait = if gathers { GATHER } else { NEWS_WAIT };
                let until = self.now.mono + wait;
                let known = self.outbox.unsettled.entry(id).or_insert(until);
                *known = until.min(*known);
            }
            Outlook::Hopeful(retry_at, next) if !opened => {
                self.tell_of(id, News { stage: Opened, is_final: false, retry_at, next });
            }
            Outlook::Final(next) if !told_final => {
                let first = !opened && self.policies.settings.notify.on.contains(&Opened);
                let stage = if first { Opened } else { Final };
                self.tell_of(id, News { stage, is_final: true, retry_at: Wall::NEVER, next });
            }
            Outlook::Closed(next) => {
                self.tell_of(id, News { stage: Closed, is_final: false, retry_at: Wall::NEVER, next });
            }
            Outlook::Silent => drop(self.withdraw(id)),
            Outlook::Hopeful(..) | Outlook::Final(_) => {}
        }
    }

    fn outlook(&self, incident: &IncidentView, patience: Patience) -> Outlook {
        let worker = self.workers.get(&incident.worker);
        let looking = worker
            .is_some_and(|worker| worker.undecided.is_some() || worker.watch.sentence.is_some() || worker.restored);
        let open = incident.state != IncidentState::Closed;
        let examined = self.is_judged(incident.id);
        if patience == Patience::Left && (!examined || (open && looking)) {
            return Outlook::Unsettled;
        }
        if patience == Patience::Left && open && self.is_gathering(incident) {
            return Outlook::Unsettled;
        }
        if incident.part_of.is_some() {
            // The incident that stands for it speaks for all.
            return Outlook::Silent;
        }
        let gave_up = incident.remedies.last().is_some_and(|last| last.action == "stop" && last.outcome != "would");
        let name = &incident.worker;
        let advice = incident.cause.advice();
        match incident.result {
            IncidentResult::None => self.outlook_of_open(incident),
            // The incident that follows speaks of it.
            IncidentResult::FailedAgain | IncidentResult::Ignored => Outlook::Silent,
            IncidentResult::DryRun => Outlook::Hopeful(Wall::NEVER, "nothing, this is a dry run".into()),
            IncidentResult::Stopped if gave_up => {
                Outlook::Final(format!("{advice}; then `watcherctl start {name}` starts it again"))
            }
            IncidentResult::Recovered | IncidentResult::RecoveredUnseen | IncidentResult::Completed => {
                Outlook::Closed("nothing needs to be done".into())
            }
            IncidentResult::Stopped | IncidentResult::Quarantined => {
                Outlook::Closed("it stays down until somebody starts it".into())
            }
            IncidentResult::ClosedByHand | IncidentResult::Forgotten => {
                Outlook::Closed("watcherd does nothing more about it".into())
            }
        }
    }

    /// Whether others may fail of it just now.
    fn is_gathering(&self, incident: &IncidentView) -> bool {
        let young = self.gathered(incident.id).is_some_and(|since| self.now.mono.since(since) < GATHER);
        young && incident.members.is_empty() && cluster::is_shared(incident.cause)
    }

    fn outlook_of_open(&self, incident: &IncidentView) -> Outlook {
        let name = &incident.worker;
        let advice = incident.cause.advice();
        let Some(worker) = self.workers.get(name) else { return Outlook::Hopeful(Wall::NEVER, String::new()) };
        if worker.quarantine.is_some() {
            return Outlook::Final(format!("{advice}; then `watcherctl reset {name}` gives it another chance"));
        }
        let held = self.hold_of(name);
        let by_policy = incident.remedies.last().is_some_and(|last| last.action == "hold") && !worker.is_up();
        if let Some((id, hold)) = held
            && by_policy
        {
            return match hold.until {
                Some(until) => Outlook::Hopeful(until, hold.describe()),
                None if hold.when.is_some() => Outlook::Hopeful(Wall::NEVER, hold.describe()),
                None => Outlook::Final(format!("{advice}; then `watcherctl release {id}` lets it start again")),
            };
        }
        if let Some(why) = worker.unstartable().filter(|_| !worker.is_up()) {
            return Outlook::Final(format!("it cannot be started, {why}; it is taken up again when that has changed"));
        }
        match (&worker.plan, held) {
            (Some(_), Some((_, hold))) => Outlook::Hopeful(Wall::NEVER, format!("{}, then a restart", hold.describe())),
            (Some(plan), None) => {
                let next = format!("restart #{} is planned", worker.ledger.failures.max(1));
                Outlook::Hopeful(self.now.wall_at(plan.due), next)
            }
            (None, _) if worker.is_up() => {
                let verify = worker.policy.verify.value.text();
                Outlook::Hopeful(Wall::NEVER, format!("it counts as cured when it has run for {verify}"))
            }
            (None, _) => Outlook::Hopeful(Wall::NEVER, format!("`watcherctl why {}` says more", incident.id)),
        }
    }

    /// Makes the notice, in the place of what still waits about the incident.
    fn tell_of(&mut self, id: IncidentId, news: News) {
        let stage = news.stage;
        if !self.policies.settings.notify.on.contains(&stage) {
            return;
        }
        let Some(incident) = self.incidents.get(id) else { return };
        let clip = |line: &String| line.chars().take(LINE_MAX).collect::<String>();
        let notice = Notice {
            id: NoticeId(self.outbox.next),
            stage,
            is_final: news.is_final,
            incident: Some(id),
            worker: Some(incident.worker.clone()),
            cause: incident.cause,
            confidence: incident.confidence,
            result: incident.result,
            opened: incident.opened,
            retry_at: news.retry_at,
            text: sentence(incident, &news),
            next: news.next,
            lines: incident.because.iter().take(LINES_MAX).map(clip).collect(),
            repeats: 0,
        };
        let unheard = self.withdraw(id);
        // Nobody has heard of it, and nobody needs to hear that it is over.
        let silent = stage == NoticeStage::Closed && unheard == Some(true);
        self.put(notice, if silent { NoticeState::Repeated } else { NoticeState::Waiting });
    }
}

/// What happened, and how it ended; what was planned meanwhile is told elsewhere, or is over.
fn sentence(incident: &IncidentView, news: &News) -> String {
    let whole = &incident.text;
    let what = whole.split_once("; ").map_or(whole.as_str(), |(what, _)| what);
    let end = match incident.result {
        IncidentResult::None if !news.is_final => return what.to_owned(),
        IncidentResult::Recovered => {
            format!("it was down for {} and runs again", Span(incident.started.since(incident.opened)))
        }
        IncidentResult::RecoveredUnseen => "it was brought back while watcherd did not see it".into(),
        IncidentResult::Completed => "it is done since".into(),
        IncidentResult::ClosedByHand => "somebody closed the incident".into(),
        IncidentResult::Forgotten => "it is not supervised any more".into(),
        IncidentResult::Stopped if !news.is_final => "somebody stopped it".into(),
        _ => return whole.clone(),
    };
    format!("{what}; {end}")
}
