// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds: while somebody holds a worker, nothing is done to it.

use super::*;
use until::Until;

#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub workers: Vec<WorkerName>,
    pub who: String,
    pub why: String,
    pub until: Option<Wall>,
    /// What else ends it.
    pub when: Option<Until>,
    /// Why it cannot be known whether that is so; empty if it is known, or not looked at yet.
    pub unknown: String,
    /// Ends with the caller's file descriptor and is not saved.
    pub lock: bool,
}

/// Whom the policy's own holds belong to.
pub(super) const HOLDER: &str = "watcherd";

impl Hold {
    pub fn restore(saved: SavedHold) -> Hold {
        Hold {
            workers: saved.workers,
            who: saved.who,
            why: saved.why,
            until: saved.until,
            when: saved.when,
            unknown: String::new(),
            lock: false,
        }
    }

    pub fn saved(&self, id: HoldId) -> SavedHold {
        SavedHold {
            id,
            workers: self.workers.clone(),
            who: self.who.clone(),
            why: self.why.clone(),
            until: self.until,
            when: self.when.clone(),
        }
    }

    pub fn view(&self, id: HoldId) -> HoldView {
        HoldView {
            id,
            workers: self.workers.clone(),
            who: self.who.clone(),
            why: self.why.clone(),
            until: self.until.unwrap_or(Wall::NEVER),
        }
    }

    pub fn describe(&self) -> String {
        let mut when = self.when.as_ref().map(|when| format!(", until {when}")).unwrap_or_default();
        if !self.unknown.is_empty() {
            when += &format!(", which cannot be told now: {}", self.unknown);
        }
        if self.why.is_empty() {
            format!("held by {}{when}", self.who)
        } else {
            format!("held by {} ({}){when}", self.who, self.why)
        }
    }
}

impl Engine {
    pub(super) fn hold_of(&self, name: &WorkerName) -> Option<(HoldId, &Hold)> {
        self.holds.iter().find(|(_, hold)| hold.workers.contains(name)).map(|(id, hold)| (*id, hold))
    }

    pub(super) fn hold(&mut self, caller: &Caller, mut hold: Hold) -> Result<Answer, Refusal> {
        if hold.workers.is_empty() {
            return Err(Refusal::InvalidArgs("a hold needs at least one worker".into()));
        }
        hold.workers.sort();
        hold.workers.dedup();
        for name in &hold.workers {
            self.known(name)?;
        }
        if self.holds.len() >= HOLDS_MAX {
            return Err(Refusal::LimitsExceeded(format!("{HOLDS_MAX} holds exist already")));
        }
        if hold.until.is_some_and(|until| until <= self.now.wall) {
            return Err(Refusal::InvalidArgs("the end of the hold lies in the past".into()));
        }
        if hold.who.is_empty() {
            hold.who.clone_from(&caller.name);
        }
        let names = hold.workers.clone();
        let description = hold.describe();
        let id = self.place_hold(hold);
        for name in &names {
            self.record_by(EntryKind::Held, Some(name), caller, format!("{name} is {description}"));
        }
        Ok(Answer::Hold(id))
    }

    pub(super) fn place_hold(&mut self, hold: Hold) -> HoldId {
        let id = HoldId(self.next_hold);
        self.next_hold = self.next_hold.wrapping_add(1).max(1);
        self.drop_tickets("the worker is held", |ticket| hold.workers.contains(&ticket.worker));
        for name in &hold.workers {
            self.touched.insert(name.clone());
            if let Some(worker) = self.workers.get_mut(name) {
                worker.kill_at = None;
            }
        }
        self.step.changes.insert(ObjectId::Manager);
        let awaits = hold.when.is_some();
        self.holds.insert(id, hold);
        if awaits {
            self.await_conditions(self.now.wall);
        }
        id
    }

    /// Holds a worker because the policy says so; returns it as a sentence fragment.
    pub(super) fn hold_by_policy(&mut self, name: &WorkerName, why: String, when: Option<Until>) -> String {
        let until = when.as_ref().map(ToString::to_string);
        if let Some(id) = self.join_hold(name, &when) {
            return format!("held by the policy together with others, until `watcherctl release {id}` at the latest");
        }
        let id = self.place_hold(Hold {
            workers: vec![name.clone()],
            who: HOLDER.into(),
            why,
            until: None,
            when,
            unknown: String::new(),
            lock: false,
        });
        match until {
            Some(until) => format!("held by the policy until {until}, or until `watcherctl release {id}`"),
            None => format!("held by the policy until somebody says `watcherctl release {id}`"),
        }
    }

    /// One hold is enough for all that wait for the same, or that failed of the same at once.
    fn join_hold(&mut self, name: &WorkerName, when: &Option<Until>) -> Option<HoldId> {
        let lead = |engine: &Engine, name: &WorkerName| {
            let id = engine.workers.get(name)?.incident?;
            engine.incidents.get(id).map(|incident| incident.part_of.unwrap_or(id))
        };
        let own = lead(self, name);
        let alike = self.holds.iter().find(|(_, hold)| {
            let together = || hold.workers.iter().any(|other| own.is_some() && lead(self, other) == own);
            hold.who == HOLDER && hold.when == *when && (when.is_some() || together())
        });
        let id = alike.map(|(id, _)| *id)?;
        self.drop_tickets("the worker is held", |ticket| ticket.worker == *name);
        if let Some(worker) = self.workers.get_mut(name) {
            worker.kill_at = None;
        }
        let hold = self.holds.get_mut(&id)?;
        hold.workers.push(name.clone());
        hold.workers.sort();
        hold.workers.dedup();
        self.touched.insert(name.clone());
        self.step.changes.insert(ObjectId::Manager);
        Some(id)
    }

    /// Asks for what the holds wait for; the new ones do so since then.
    pub(super) fn await_conditions(&mut self, since: Wall) {
        let wanted: BTreeSet<_> = self.holds.values().filter_map(|hold| hold.when.clone()).collect();
        if wanted != self.awaited {
            self.awaited.clone_from(&wanted);
            self.act(Action::Await { conditions: wanted, since });
        }
    }

    /// Whether something that holds wait for has come true.
    pub(super) fn condition(&mut self, until: &Until, holds: &Result<bool, String>) {
        let why = holds.as_ref().err().map_or("", String::as_str);
        let waiting = self.holds.values_mut().filter(|hold| hold.when.as_ref() == Some(until) && hold.unknown != why);
        for hold in waiting {
            hold.unknown = why.to_owned();
            self.touched.extend(hold.workers.iter().cloned());
        }
        if *holds != Ok(true) {
            return;
        }
        let over = self.holds.iter().filter(|(_, hold)| hold.when.as_ref() == Some(until)).map(|(id, _)| *id);
        for id in over.collect::<Vec<_>>() {
            self.end_hold(id, &format!("{until} holds"), None);
        }
    }

    pub(super) fn release(&mut self, caller: &Caller, id: HoldId) -> Result<Answer, Refusal> {
        if !self.holds.contains_key(&id) {
            return Err(Refusal::NoSuchHold(id));
        }
        self.end_hold(id, &format!("released by {}", caller.name), Some(caller));
        Ok(Answer::Nothing)
    }

    pub(super) fn end_hold(&mut self, id: HoldId, how: &str, caller: Option<&Caller>) {
        let Some(hold) = self.holds.remove(&id) else { return };
        self.step.changes.insert(ObjectId::Manager);
        self.await_conditions(self.now.wall);
        let free = hold.when.is_some() && caller.is_none();
        let count = hold.workers.len();
        for name in hold.workers {
            if !self.workers.contains_key(&name) {
                continue;
            }
            self.touched.insert(name.clone());
            let text = format!("{name} is not held any more by {}: {how}", hold.who);
            match caller {
                Some(caller) => self.record_by(EntryKind::Released, Some(&name), caller, text),
                None => self.record(EntryKind::Released, Some(&name), text),
            }
            if self.hold_of(&name).is_none() {
                self.decide_after_hold(&name, free.then_some(count));
            }
        }
    }

    /// A worker whose hold ended is brought back if it failed meanwhile. What the policy itself waited for costs no
    /// attempt.
    fn decide_after_hold(&mut self, name: &WorkerName, free: Option<usize>) {
        let Some(worker) = self.workers.get(name) else { return };
        if worker.waits_for_own_restart() {
            self.keep_from_restarting(name);
        }
        match free {
            Some(count) => self.take_up_for_free(name, count),
            None => self.take_up_incident(name, "the hold was released"),
        }
    }

    pub(super) fn refuse_held(&self, name: &WorkerName) -> Result<(), Refusal> {
        match self.hold_of(name) {
            None => Ok(()),
            Some((_, hold)) => Err(Refusal::WorkerHeld {
                worker: name.clone(),
                who: hold.who.clone(),
                why: hold.why.clone(),
                until: hold.until,
            }),
        }
    }
}
