// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds: while somebody holds a worker, nothing is done to it.

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub workers: Vec<WorkerName>,
    pub who: String,
    pub why: String,
    pub until: Option<Wall>,
    /// Ends with the caller's file descriptor and is not saved.
    pub lock: bool,
}

impl Hold {
    pub fn restore(saved: SavedHold) -> Hold {
        Hold { workers: saved.workers, who: saved.who, why: saved.why, until: saved.until, lock: false }
    }

    pub fn saved(&self, id: HoldId) -> SavedHold {
        SavedHold { id, workers: self.workers.clone(), who: self.who.clone(), why: self.why.clone(), until: self.until }
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
        if self.why.is_empty() {
            format!("held by {}", self.who)
        } else {
            format!("held by {} ({})", self.who, self.why)
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
        self.holds.insert(id, hold);
        id
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
                self.decide_after_hold(&name);
            }
        }
    }

    /// A worker whose hold ended is brought back if it failed meanwhile.
    fn decide_after_hold(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        if worker.waits_for_own_restart() {
            self.keep_from_restarting(name);
        }
        self.take_up_incident(name, "the hold was released");
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
