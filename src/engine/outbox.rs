// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notices on their way: the queue, its limits, and what became of each.
//!
//! [`Engine::notify`] is called once at the end of every step; nobody else needs to know of notices. What waits about an
//! incident is replaced by what comes after it, so that nobody reads old news. Limits make notices wait, they lose none;
//! the same about the same worker waits until the window is over, and is dropped if the incident is over by then.

use super::*;
use event::{Caller, Refusal};
use ids::RequestId;
use notice::{Delivery, Notice, NoticeSettings, Ways};
use std::time::Duration;
use time::Span;
use view::{NoticeStage, NoticeState};

/// Notices that may wait; of more than these the oldest is lost.
const WAITING_MAX: usize = 200;
/// Notices that are kept in all, for the limits and for people.
const KEPT_MAX: usize = 1_000;
/// How long those that do not wait are kept after the end of their incident.
const KEPT_FOR: Duration = Duration::from_secs(86_400);
/// Notices that are sent at once.
const FLYING_MAX: usize = 4;
/// Test notices that may wait for their answer.
const TESTS_MAX: usize = 4;
/// The window of the limits.
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    rows: BTreeMap<NoticeId, Row>,
    pub(super) next: u32,
    /// Incidents about which more is to come, and how long that is waited for.
    pub(super) unsettled: BTreeMap<IncidentId, Mono>,
    /// Who waits for the end of a test.
    asked: BTreeMap<NoticeId, RequestId>,
    /// Incidents that had ended before: they were told of, or were not worth it.
    pub(super) past: BTreeSet<IncidentId>,
    /// How notices left when they were last looked at.
    ways: Ways,
}

#[derive(Clone, Debug)]
struct Row {
    notice: Notice,
    state: NoticeState,
    made: Mono,
    begun: Option<Mono>,
    due: Mono,
    attempts: u32,
    again: bool,
    error: String,
    flying: Option<ActionId>,
}

impl Row {
    fn waits(&self) -> bool {
        self.state == NoticeState::Waiting
    }

    fn is_about(&self, id: IncidentId) -> bool {
        self.notice.incident == Some(id)
    }

    fn is_like(&self, other: &Notice) -> bool {
        self.notice.worker.is_some() && self.notice.worker == other.worker && self.notice.cause == other.cause
    }
}

/// What counts as the same: that something is tried, that nothing is tried any more, that it is over.
fn kind(notice: &Notice) -> NoticeStage {
    match (notice.stage, notice.is_final) {
        (NoticeStage::Opened, true) => NoticeStage::Final,
        (stage, _) => stage,
    }
}

impl Outbox {
    pub fn restore(saved: Vec<SavedNotice>, past: BTreeSet<IncidentId>, now: Now) -> Outbox {
        let row = |saved: SavedNotice| {
            let row = Row {
                state: saved.state,
                // The wall clock may have been set back since.
                made: now.mono_at(saved.made).min(now.mono),
                begun: (saved.begun != Wall::NEVER).then(|| now.mono_at(saved.begun).min(now.mono)),
                due: now.mono_at(saved.due).min(now.mono + HOUR),
                attempts: saved.attempts,
                again: saved.again,
                error: saved.error,
                flying: None,
                notice: saved.notice,
            };
            (row.notice.id, row)
        };
        let rows: BTreeMap<_, _> = saved.into_iter().map(row).collect();
        let next = rows.keys().next_back().map_or(0, |id| id.0);
        Outbox { rows, next: next.saturating_add(1), past, ..Outbox::default() }
    }

    pub fn saved(&self, id: NoticeId, now: Now) -> Option<SavedNotice> {
        self.rows.get(&id).map(|row| row.saved(now))
    }

    pub fn all(&self, now: Now) -> Vec<SavedNotice> {
        self.rows.values().map(|row| row.saved(now)).collect()
    }

    /// Whether the incident was told of like this; what waits for the end of a window counts too.
    pub fn told(&self, id: IncidentId, kinds: &[NoticeStage]) -> bool {
        self.rows.values().any(|row| row.is_about(id) && kinds.contains(&kind(&row.notice)))
    }

    /// When the same was sent last. That a person has to act, and that it is over, is news again when something else was said
    /// since.
    fn last_like(&self, notice: &Notice) -> Option<Mono> {
        let alike = self.rows.values().filter(|row| row.notice.id != notice.id && row.is_like(notice));
        let heard = alike.filter(|row| matches!(row.state, NoticeState::Waiting | NoticeState::Sent));
        let sent = heard.filter_map(|row| Some((row.begun?, kind(&row.notice))));
        let last = match kind(notice) {
            NoticeStage::Opened => sent.filter(|(_, stage)| *stage == NoticeStage::Opened).max(),
            wanted => sent.max().filter(|(_, stage)| *stage == wanted),
        };
        last.map(|(begun, _)| begun)
    }

    /// Incidents of the same worker and cause that nobody heard of since a notice was sent.
    fn repeats(&self, notice: &Notice) -> u32 {
        let alike = self.rows.range(..notice.id).rev().map(|(_, row)| row).filter(|row| row.is_like(notice));
        let dropped = alike.take_while(|row| row.state == NoticeState::Repeated);
        let dropped = dropped.filter(|row| row.notice.stage != NoticeStage::Closed).count();
        u32::try_from(dropped).unwrap_or(u32::MAX)
    }

    /// Until when the limits forbid to send this one; `None` if they do not.
    fn limited(&self, row: &Row, settings: &NoticeSettings, now: Mono) -> Option<(Mono, String)> {
        let mut about_it: Vec<Mono> = Vec::new();
        let mut all: Vec<Mono> = Vec::new();
        for other in self.rows.values() {
            let Some(begun) = other.begun.filter(|begun| *begun + HOUR > now) else { continue };
            all.push(begun);
            if other.notice.worker == row.notice.worker {
                about_it.push(begun);
            }
        }
        let bound = |mut times: Vec<Mono>, most: u32, what: &str| {
            times.sort_unstable();
            let first = times.len().checked_sub(most.max(1) as usize)?;
            Some((times[first] + HOUR, format!("{most} notices{what} within an hour are enough")))
        };
        bound(about_it, settings.per_worker, " about this worker").max(bound(all, settings.per_hour, ""))
    }

    /// Whether an older notice about the same incident is still on its way.
    fn is_behind(&self, id: NoticeId) -> bool {
        let incident = self.rows.get(&id).and_then(|row| row.notice.incident);
        incident.is_some() && self.rows.range(..id).any(|(_, row)| row.waits() && row.notice.incident == incident)
    }

    fn flying(&self) -> usize {
        self.rows.values().filter(|row| row.flying.is_some()).count()
    }

    fn is_grounded(&self, id: NoticeId, row: &Row) -> bool {
        row.waits() && row.flying.is_none() && !self.is_behind(id)
    }
}

impl Row {
    fn saved(&self, now: Now) -> SavedNotice {
        SavedNotice {
            notice: self.notice.clone(),
            state: self.state,
            made: now.wall_at(self.made),
            begun: self.begun.map_or(Wall::NEVER, |begun| now.wall_at(begun)),
            due: now.wall_at(self.due),
            attempts: self.attempts,
            again: self.again,
            error: self.error.clone(),
        }
    }
}

impl Engine {
    /// Looks at the incidents that this step has changed, and sends what is due.
    pub(super) fn notify(&mut self) {
        self.look_for_news();
        if self.outbox.ways != self.policies.settings.notify.ways {
            self.outbox.ways = self.policies.settings.notify.ways.clone();
            self.try_again_at_once();
        }
        if !self.host_stopping {
            self.send_due();
        }
    }

    /// What could not be sent is due now: there is reason to believe that it can be.
    fn try_again_at_once(&mut self) {
        let now = self.now.mono;
        for (id, row) in &mut self.outbox.rows {
            if row.waits() && row.flying.is_none() && row.begun.is_some() && row.due > now {
                row.due = now;
                self.step.changes.insert(ObjectId::Notice(*id));
            }
        }
    }

    /// Why notices cannot be sent, while one is waiting for that; a sentence.
    pub fn notice_trouble(&self) -> Option<String> {
        let failing = |row: &&Row| row.waits() && row.begun.is_some() && !row.error.is_empty();
        let row = self.outbox.rows.values().find(failing)?;
        Some(format!("notices cannot be sent, the oldest is notice {}: {}", row.notice.id, row.error))
    }

    /// When something is to be done about notices.
    pub(super) fn next_notice(&self) -> Option<Mono> {
        let outbox = &self.outbox;
        let full = self.host_stopping || outbox.flying() >= FLYING_MAX;
        let due = outbox.rows.iter().filter(|(id, row)| !full && outbox.is_grounded(**id, row)).map(|(_, row)| row.due);
        let at = due.chain(outbox.unsettled.values().copied()).min();
        at.map(|at| at.max(self.now.mono + Duration::from_micros(1)))
    }

    /// No way is configured any more: nothing waits.
    pub(super) fn fall_silent(&mut self) {
        self.outbox.unsettled.clear();
        let waiting = self.outbox.rows.iter().filter(|(_, row)| row.waits() && row.flying.is_none());
        let waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.drop_notice(id);
        }
    }

    fn drop_notice(&mut self, id: NoticeId) {
        self.outbox.rows.remove(&id);
        self.step.changes.insert(ObjectId::Notice(id));
        if let Some(asked) = self.outbox.asked.remove(&id) {
            self.act(Action::Reply(asked, Err(Refusal::Failed("notices were switched off meanwhile".into()))));
        }
    }

    /// Takes back what was made about the incident and has not been tried; says whether that had waited for the end of a
    /// window.
    pub(super) fn withdraw(&mut self, id: IncidentId) -> Option<bool> {
        let waits = |row: &&Row| row.is_about(id) && row.waits() && row.flying.is_none();
        let waiting: Vec<_> = self.outbox.rows.values().filter(waits).map(|row| row.notice.id).collect();
        let mut again = None;
        for old in waiting {
            let Some(row) = self.outbox.rows.get_mut(&old) else { continue };
            if row.again {
                row.state = NoticeState::Repeated;
                again = Some(true);
                self.step.changes.insert(ObjectId::Notice(old));
            } else {
                again = again.or(Some(false));
                self.replace(old);
            }
        }
        again
    }

    /// Takes back a notice, because what comes after it says more; that it was tried counts against the limits.
    fn replace(&mut self, id: NoticeId) {
        match self.outbox.rows.get_mut(&id).filter(|row| row.begun.is_some()) {
            Some(row) => {
                row.state = NoticeState::Replaced;
                row.notice.lines.clear();
                self.step.changes.insert(ObjectId::Notice(id));
            }
            None => self.drop_notice(id),
        }
    }

    pub(super) fn put(&mut self, notice: Notice, state: NoticeState) {
        let now = self.now.mono;
        let id = notice.id;
        self.outbox.next = id.0.saturating_add(1);
        let row = Row {
            notice,
            state,
            made: now,
            begun: None,
            due: now,
            attempts: 0,
            again: false,
            error: String::new(),
            flying: None,
        };
        self.outbox.rows.insert(id, row);
        self.step.changes.insert(ObjectId::Notice(id));
        self.make_room();
    }

    /// Forgets what is old, and what is too much.
    fn make_room(&mut self) {
        let limit = self.now.mono - KEPT_FOR.max(self.policies.settings.notify.dedupe);
        let open = |row: &Row| row.notice.incident.is_some_and(|id| self.incidents.is_open(id));
        let old = self.outbox.rows.iter().filter(|(_, row)| !row.waits() && row.made < limit && !open(row));
        let mut gone: Vec<_> = old.map(|(id, _)| *id).collect();
        let surplus = (self.outbox.rows.len() - gone.len()).saturating_sub(KEPT_MAX);
        let others = self.outbox.rows.iter().filter(|(id, row)| !row.waits() && !gone.contains(id));
        let others: Vec<_> = others.map(|(id, _)| *id).take(surplus).collect();
        gone.extend(others);
        for id in gone {
            self.drop_notice(id);
        }
        let waiting: Vec<_> = self.outbox.rows.iter().filter(|(_, row)| row.waits()).map(|(id, _)| *id).collect();
        if waiting.len() > WAITING_MAX
            && let Some(oldest) = waiting.iter().find(|id| self.outbox.rows.get(id).is_some_and(|r| r.flying.is_none()))
        {
            self.lose(*oldest, format!("{WAITING_MAX} notices wait already"));
        }
    }

    fn send_due(&mut self) {
        let now = self.now.mono;
        let due: Vec<_> = self.outbox.rows.iter().filter(|(_, row)| row.waits() && row.due <= now).collect();
        let due: Vec<_> = due.into_iter().map(|(id, _)| *id).collect();
        for id in due {
            if self.outbox.flying() >= FLYING_MAX {
                return;
            }
            let grounded = self.outbox.rows.get(&id).is_some_and(|row| self.outbox.is_grounded(id, row));
            if grounded && !self.waits_longer(id) {
                self.send(id);
            }
        }
    }

    /// Whether the notice has to wait because the same was just sent, or because of a limit.
    fn waits_longer(&mut self, id: NoticeId) -> bool {
        let now = self.now.mono;
        let settings = &self.policies.settings.notify;
        let Some(row) = self.outbox.rows.get(&id) else { return true };
        if row.begun.is_some() || row.notice.stage == NoticeStage::Test {
            return false;
        }
        let window = self.outbox.last_like(&row.notice).map(|last| last + settings.dedupe).filter(|until| *until > now);
        let limited = self.outbox.limited(row, settings, now);
        let (until, error, again) = match (window, limited) {
            (Some(until), _) => (until, "the same was sent a short while ago".to_owned(), true),
            (None, Some((until, why))) => (until, why, false),
            (None, None) => return false,
        };
        let name = row.notice.worker.clone();
        let news = row.error != error && !again;
        if let Some(row) = self.outbox.rows.get_mut(&id) {
            (row.due, row.again) = (until, again);
            row.error.clone_from(&error);
        }
        self.step.changes.insert(ObjectId::Notice(id));
        if news {
            let wait = Span(until.since(now));
            let text = format!("a notice{} waits for {wait}: {error}", about(name.as_ref()));
            self.record(EntryKind::NoticeDelayed, name.as_ref(), text);
        }
        true
    }

    fn send(&mut self, id: NoticeId) {
        let now = self.now.mono;
        let action = ActionId(self.next_action);
        let ways = self.policies.settings.notify.ways.clone();
        let Some(row) = self.outbox.rows.get(&id) else { return };
        let repeats = self.outbox.repeats(&row.notice);
        let Some(row) = self.outbox.rows.get_mut(&id) else { return };
        self.next_action += 1;
        row.notice.repeats = row.notice.repeats.max(repeats);
        row.flying = Some(action);
        row.begun.get_or_insert(now);
        row.attempts = row.attempts.saturating_add(1);
        row.due = now;
        row.again = false;
        let delivery = Delivery { notice: row.notice.clone(), attempt: row.attempts, ways };
        self.step.changes.insert(ObjectId::Notice(id));
        self.act(Action::Notify(action, Box::new(delivery)));
    }

    /// Takes the end of an action, if it was to send a notice.
    pub(super) fn notice_done(&mut self, action: ActionId, outcome: &Outcome) -> bool {
        let Some(row) = self.outbox.rows.values_mut().find(|row| row.flying == Some(action)) else { return false };
        row.flying = None;
        let id = row.notice.id;
        self.step.changes.insert(ObjectId::Notice(id));
        let failed = match outcome {
            Outcome::Failed(why) => Some(why.clone()),
            Outcome::TimedOut => Some("it did not end in time".to_owned()),
            Outcome::Ok | Outcome::Past(_) | Outcome::Activity(_) => None,
        };
        match failed {
            None => self.arrived(id),
            Some(why) => self.failed_to_send(id, why),
        }
        true
    }

    fn arrived(&mut self, id: NoticeId) {
        let Some(row) = self.outbox.rows.get_mut(&id) else { return };
        row.state = NoticeState::Sent;
        row.error.clear();
        row.notice.lines.clear();
        let name = row.notice.worker.clone();
        let text = format!("a notice{} was sent ({})", about(name.as_ref()), row.notice.stage);
        self.record_notice(EntryKind::NoticeSent, id, text);
        if let Some(asked) = self.outbox.asked.remove(&id) {
            self.act(Action::Reply(asked, Ok(Answer::Nothing)));
            self.try_again_at_once();
        }
    }

    fn failed_to_send(&mut self, id: NoticeId, why: String) {
        let now = self.now.mono;
        let Some(row) = self.outbox.rows.get(&id) else { return };
        let settings = &self.policies.settings.notify;
        let incident = row.notice.incident;
        let newer =
            incident.is_some_and(|about| self.outbox.rows.range(id..).skip(1).any(|(_, row)| row.is_about(about)));
        if newer {
            return self.replace(id);
        }
        if row.notice.stage == NoticeStage::Test || row.made + settings.give_up_after <= now {
            return self.lose(id, why);
        }
        let (retry, attempts) = (settings.retry, row.attempts);
        let pause = retry.pause(attempts, &mut self.rng).max(Duration::from_millis(1));
        let Some(row) = self.outbox.rows.get_mut(&id) else { return };
        row.due = now + pause;
        row.error.clone_from(&why);
        if attempts == 1 {
            let name = row.notice.worker.clone();
            let text = format!(
                "a notice{} could not be sent, it is tried again until it is {} old: {why}",
                about(name.as_ref()),
                Span(self.policies.settings.notify.give_up_after)
            );
            self.record_notice(EntryKind::NoticeDelayed, id, text);
        }
    }

    /// Gives a notice up and says so.
    fn lose(&mut self, id: NoticeId, why: String) {
        let Some(row) = self.outbox.rows.get_mut(&id) else { return };
        row.state = NoticeState::Lost;
        row.notice.lines.clear();
        row.error.clone_from(&why);
        let name = row.notice.worker.clone();
        let tries = match row.attempts {
            0 => String::new(),
            1 => " after one attempt".to_owned(),
            n => format!(" after {n} attempts"),
        };
        self.step.changes.insert(ObjectId::Notice(id));
        let text = format!("a notice{} is given up{tries}: {why}", about(name.as_ref()));
        self.record_notice(EntryKind::NoticeLost, id, text);
        if let Some(asked) = self.outbox.asked.remove(&id) {
            self.act(Action::Reply(asked, Err(Refusal::Failed(why))));
        }
    }

    /// Speaks of the incident that the notice is about, which may not be the worker's open one.
    fn record_notice(&mut self, kind: EntryKind, id: NoticeId, text: String) {
        let Some(row) = self.outbox.rows.get(&id) else { return };
        let (worker, incident, cause) = (row.notice.worker.clone(), row.notice.incident, row.notice.cause);
        self.record(kind, worker.as_ref(), text);
        if let Some(Action::Record(entry)) = self.step.actions.last_mut() {
            entry.incident = incident;
            entry.cause = incident.map(|_| cause);
        }
    }

    /// Somebody wants to see whether notices arrive.
    pub(super) fn test_notice(&mut self, request: RequestId, caller: &Caller) {
        let refusal = if self.host_stopping {
            Some(Refusal::Stopping)
        } else if !self.policies.settings.notify.ways.is_any() {
            let text = "nothing is configured to send notices with: write apprise.conf, or mail or command in [notify]";
            Some(Refusal::NotSupported(text.into()))
        } else if self.outbox.asked.len() >= TESTS_MAX {
            Some(Refusal::Busy("other test notices are on their way".into()))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.act(Action::Reply(request, Err(refusal)));
        }
        self.record_by(EntryKind::Requested, None, caller, format!("{} asked for a test notice", caller.name));
        let id = NoticeId(self.outbox.next);
        let notice = Notice {
            id,
            stage: NoticeStage::Test,
            is_final: false,
            incident: None,
            worker: None,
            cause: cause::Cause::NoCrash,
            confidence: 100,
            result: IncidentResult::None,
            opened: self.now.wall,
            retry_at: Wall::NEVER,
            text: format!("{} asked for this test; notices arrive", caller.name),
            next: "nothing needs to be done".into(),
            lines: Vec::new(),
            repeats: 0,
        };
        self.outbox.asked.insert(id, request);
        self.put(notice, NoticeState::Waiting);
    }
}

fn about(name: Option<&WorkerName>) -> String {
    name.map(|name| format!(" about {name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
