// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts and stops on their way: waiting for a free slot, carried out by systemd, over.

use super::*;
use action::{Freezer, Start};
use event::Active;
use lookback::Trace;
use restart::Plan;
use worker::Ending;

/// An action that is under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub worker: WorkerName,
    pub purpose: Purpose,
    pub job: Option<JobId>,
    /// Its worker is not supervised any more; a later one may have the same name.
    pub abandoned: bool,
}

/// A start or stop that was decided and waits for a slot.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub worker: WorkerName,
    pub purpose: Purpose,
    pub job: Option<JobId>,
}

/// Why an action is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A planned restart.
    Recover,
    Start,
    /// A restart that a person asked for; for a unit that is made anew, its second half.
    Restart,
    Stop(Ending),
    ThawToStop(Ending),
    Pause(Freezer),
    Resume,
    Kill,
    LookBack,
    /// How the worker uses its machine.
    Look,
    /// The same, from time to time.
    WatchOver,
    /// Evidence, before a kill.
    Capture,
    /// A command of the policy, after a restart.
    FollowUp,
}

impl Purpose {
    fn takes_slot(self) -> bool {
        self.starts_run() || matches!(self, Purpose::Stop(_))
    }

    pub fn starts_run(self) -> bool {
        matches!(self, Purpose::Recover | Purpose::Start | Purpose::Restart)
    }

    /// How the run ends by this, if it is a stop.
    fn ending(self) -> Option<Ending> {
        match self {
            Purpose::Stop(ending) | Purpose::ThawToStop(ending) => Some(ending),
            _ => None,
        }
    }
}

impl Engine {
    /// Takes off: gives the action an id and remembers what it is for.
    pub(super) fn fly(&mut self, worker: &WorkerName, purpose: Purpose, job: Option<JobId>) -> ActionId {
        let id = ActionId(self.next_action);
        self.next_action += 1;
        self.flights.insert(id, Flight { worker: worker.clone(), purpose, job, abandoned: false });
        id
    }

    /// Whether a start of ours is under way, even if a stop came after it.
    pub(super) fn is_starting(&self, name: &WorkerName) -> bool {
        self.flights_of(name).any(Purpose::starts_run)
    }

    /// What a stop that was decided and is not over means for the run.
    pub(super) fn ending_under_way(&self, name: &WorkerName) -> Option<Ending> {
        let waiting = self.waiting.iter().filter(|ticket| ticket.worker == *name).map(|ticket| ticket.purpose);
        self.flights_of(name).chain(waiting).find_map(Purpose::ending)
    }

    fn flights_of(&self, name: &WorkerName) -> impl Iterator<Item = Purpose> {
        self.flights.values().filter(move |flight| !flight.abandoned && flight.worker == *name).map(|f| f.purpose)
    }

    /// Decides a stop; it waits for a free slot.
    pub(super) fn stop(&mut self, name: &WorkerName, ending: Ending) {
        self.enqueue(Ticket { worker: name.clone(), purpose: Purpose::Stop(ending), job: None });
    }

    pub(super) fn enqueue(&mut self, ticket: Ticket) {
        self.waiting.push_back(ticket);
        self.pump();
    }

    /// Lets waiting starts and stops go as far as there are free slots.
    pub(super) fn pump(&mut self) {
        let slots = self.policies.settings.max_jobs.max(1) as usize;
        while self.flights.values().filter(|flight| flight.purpose.takes_slot()).count() < slots {
            let Some(ticket) = self.waiting.pop_front() else { return };
            match self.obstacle(&ticket) {
                Some(why) => self.drop_ticket(ticket, why),
                None => self.launch(ticket),
            }
        }
    }

    /// What has come between the decision and its turn.
    fn obstacle(&self, ticket: &Ticket) -> Option<&'static str> {
        let Some(worker) = self.workers.get(&ticket.worker) else {
            return Some("the worker is not supervised any more");
        };
        let starts = ticket.purpose.starts_run();
        if self.hold_of(&ticket.worker).is_some() {
            Some("the worker is held")
        } else if self.is_dry(&ticket.worker) {
            Some("watcherd makes a dry run")
        } else if starts && self.host_stopping {
            Some("the machine is stopping")
        } else if starts && worker.quarantine.is_some() {
            Some("the worker is quarantined")
        } else if starts && !worker.intended_up {
            Some("the worker was stopped meanwhile")
        } else if ticket.purpose == Purpose::Recover && !worker.plan.as_ref().is_some_and(|plan| plan.queued) {
            Some("the plan was given up")
        } else if ticket.purpose == Purpose::Stop(Ending::Preempted) && !worker.waits_for_own_restart() {
            Some("systemd does not restart it any more")
        } else {
            None
        }
    }

    /// Drops the tickets that `unwanted` chooses.
    pub(super) fn drop_tickets(&mut self, why: &str, unwanted: impl Fn(&Ticket) -> bool) {
        for ticket in std::mem::take(&mut self.waiting) {
            if unwanted(&ticket) {
                self.drop_ticket(ticket, why);
            } else {
                self.waiting.push_back(ticket);
            }
        }
    }

    fn drop_ticket(&mut self, ticket: Ticket, why: &str) {
        let now = self.now.mono;
        self.end_job(ticket.job, "canceled", why);
        self.touched.insert(ticket.worker.clone());
        let Some(worker) = self.workers.get_mut(&ticket.worker) else { return };
        let down = worker.run.ended && !worker.is_up();
        worker.condemned &= down;
        match ticket.purpose {
            Purpose::Recover => {
                if let Some(plan) = &mut worker.plan {
                    plan.queued = false;
                }
            }
            // Its first half is over: the worker is down only because of this restart.
            Purpose::Restart if down && worker.is_awaited() && worker.plan.is_none() => {
                worker.plan = Some(Plan::free(now, "the restart that was asked for"));
            }
            Purpose::Stop(Ending::Asked) if !down => {
                worker.intended_up = true;
                worker.remark.clear();
            }
            _ => {}
        }
    }

    fn launch(&mut self, ticket: Ticket) {
        let Ticket { worker: name, purpose, job } = ticket;
        let now = self.now.mono;
        self.touched.insert(name.clone());
        if let Some(view) = job.and_then(|job| self.jobs.get_mut(&job)) {
            view.state = "running";
            self.step.changes.insert(ObjectId::Job(view.id));
        }
        if purpose == Purpose::Recover
            && let Some(worker) = self.workers.get_mut(&name)
            && let Some(plan) = &mut worker.plan
        {
            plan.queued = false;
            if plan.attempt {
                // An attempt that was counted before watcherd was restarted is made only now.
                let counted = std::mem::replace(&mut plan.counted, true);
                worker.count_attempt(now, counted);
            }
        }
        match purpose {
            Purpose::Stop(ending) => self.take_off_stop(&name, ending, job),
            _ => self.take_off_start(&name, purpose, job),
        }
    }

    fn take_off_start(&mut self, name: &WorkerName, purpose: Purpose, job: Option<JobId>) {
        let run = self.rng.hex128();
        let id = self.fly(name, purpose, job);
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        let facts = worker.facts.as_ref();
        // RestartUnit goes ahead of systemd's own restart; StartUnit does nothing to a unit that is active already.
        let restart =
            purpose == Purpose::Restart || facts.is_some_and(|facts| facts.traits.restarts_itself || facts.is_exited());
        let start = Start {
            run,
            definition: worker.definition.clone(),
            restart,
            reset_failed: worker.nears_start_limit(now) || worker.plan.as_ref().is_some_and(|plan| plan.refused),
            thaw: facts.is_some_and(|facts| facts.frozen),
            grace: worker.policy.grace.value,
            sweep: worker.leftovers(purpose),
            exports: worker.exports(),
            tends_checkpoints: !worker.is_up(),
        };
        worker.flight = Some(id);
        if let Some(plan) = &mut worker.plan {
            plan.flying = Some(id);
        }
        if purpose == Purpose::Restart && worker.is_up() {
            worker.run.ending = Some(Ending::Restart);
            worker.kill_at = Some(now.mono + worker.policy.grace.value);
        }
        self.act(Action::Start(id, name.clone(), start));
    }

    pub(super) fn take_off_stop(&mut self, name: &WorkerName, ending: Ending, job: Option<JobId>) {
        let now = self.now;
        // systemd 257 refuses to stop a frozen unit.
        if self.workers.get(name).and_then(|worker| worker.facts.as_ref()).is_some_and(|facts| facts.frozen) {
            let id = self.fly(name, Purpose::ThawToStop(ending), job);
            self.act(Action::Thaw(id, name.clone(), Freezer::Cgroup));
            return;
        }
        let id = self.fly(name, Purpose::Stop(ending), job);
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.flight = Some(id);
        if worker.is_up() {
            worker.kill_at = Some(now.mono + worker.policy.grace.value);
        }
        if matches!(ending, Ending::Restart | Ending::Preempted) && !worker.run.ended {
            worker.run.ending = Some(ending);
        }
        self.act(Action::Stop(id, name.clone()));
    }

    /// The worker was asked to end and is still there.
    pub(super) fn grace_over(&mut self, name: &WorkerName) {
        let held = self.hold_of(name).is_some();
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.kill_at = None;
        let ending = worker.facts.as_ref().is_some_and(|facts| facts.active == Active::Deactivating);
        if ending && !held {
            let id = self.fly(name, Purpose::Kill, None);
            self.act(Action::Kill(id, name.clone(), SIGKILL));
        }
    }

    pub(super) fn done(&mut self, id: ActionId, outcome: Outcome) {
        if self.notice_done(id, &outcome) {
            return;
        }
        let Some(flight) = self.flights.remove(&id) else { return };
        if !flight.abandoned {
            self.landed(id, flight, outcome);
        }
        self.pump();
    }

    fn landed(&mut self, id: ActionId, flight: Flight, outcome: Outcome) {
        let Flight { worker: name, purpose, job, .. } = flight;
        let Some(worker) = self.workers.get_mut(&name) else { return };
        self.touched.insert(name.clone());
        let newest = worker.flight == Some(id);
        if newest {
            worker.flight = None;
        }
        match purpose {
            Purpose::LookBack => {
                self.looked_back(&name, id, outcome);
                return;
            }
            Purpose::Recover => self.recovery_done(&name, id, newest, &outcome),
            Purpose::Start => self.start_done(&name, &outcome),
            Purpose::Restart => self.restart_done(&name, &outcome),
            Purpose::Stop(Ending::Restart) if self.restart_goes_on(&name, &outcome) => {
                self.waiting.push_front(Ticket { worker: name, purpose: Purpose::Restart, job });
                return;
            }
            Purpose::Stop(ending) => self.stop_done(&name, ending, &outcome),
            Purpose::ThawToStop(ending) => {
                self.thawed(&name);
                self.waiting.push_front(Ticket { worker: name, purpose: Purpose::Stop(ending), job });
                return;
            }
            Purpose::Pause(freezer) => self.paused(&name, freezer, &outcome),
            Purpose::Resume => self.resumed(&name, &outcome),
            Purpose::Look => self.looked(&name, &outcome),
            Purpose::WatchOver => self.watched_over(&name, &outcome),
            Purpose::Capture => self.captured(&name, &outcome),
            Purpose::FollowUp => self.followed_up(&name, id, &outcome),
            Purpose::Kill => {}
        }
        self.end_job_by(job, &outcome);
    }

    /// systemd has said how a start went that a person asked for.
    fn start_done(&mut self, name: &WorkerName, outcome: &Outcome) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        match outcome {
            Outcome::Ok | Outcome::Past(_) | Outcome::Activity(_) => self.look_for_run(name),
            Outcome::Failed(why) if worker.runs == 0 && !worker.is_up() && worker.definition.is_some() => {
                worker.intended_up = false;
                worker.finished = Some(now);
                worker.remark = format!("could not be started: {why}");
            }
            Outcome::Failed(why) => self.start_refused(name, why),
            Outcome::TimedOut => self.start_refused(name, "systemd's job did not end in time"),
        }
    }

    /// Goes on with a failed worker; one that had not failed stays as it is.
    fn start_refused(&mut self, name: &WorkerName, why: &str) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.run.ended && worker.run.ending == Some(Ending::Restart) {
            // It should have followed a stop that is still under way; now nothing does.
            worker.run.ending = Some(Ending::Foreign);
        } else if worker.incident.is_some() && worker.run.ended && !worker.is_up() {
            self.refused(name, &format!("{name} could not be started: {why}"));
        }
    }

    fn restart_done(&mut self, name: &WorkerName, outcome: &Outcome) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        let why = match outcome {
            Outcome::Ok | Outcome::Past(_) | Outcome::Activity(_) => {
                self.look_for_run(name);
                return;
            }
            Outcome::Failed(why) => why.clone(),
            Outcome::TimedOut => "systemd's job did not end in time".to_owned(),
        };
        if worker.run.ending == Some(Ending::Restart) && matches!(outcome, Outcome::Failed(_)) {
            worker.condemned = false;
            worker.run.ending = None;
        }
        let wanted = worker.is_awaited() && worker.plan.is_none();
        if worker.run.ended && !worker.is_up() && wanted {
            self.try_again(name, format!("the restart that was asked for failed: {why}"));
        }
    }

    /// Asks the journal about a run that was over, and its unit unloaded, before anything was seen of it.
    pub(super) fn look_for_run(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get(name) else { return };
        let unseen = worker.run.invocation.is_none() || worker.run.ended;
        if worker.facts.is_none() && worker.definition.is_some() && unseen && worker.intended_up {
            self.look_back(name, Trace::Expected);
        }
    }

    /// Whether the second half of a restart can begin.
    fn restart_goes_on(&self, name: &WorkerName, outcome: &Outcome) -> bool {
        *outcome == Outcome::Ok || self.workers.get(name).is_some_and(|worker| !worker.is_up())
    }

    fn stop_done(&mut self, name: &WorkerName, ending: Ending, outcome: &Outcome) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if !worker.is_up() {
            if ending == Ending::Asked && (worker.run.ended || worker.run.invocation.is_none()) {
                self.stopped(name);
            }
            return;
        }
        // The run goes on, and its end will be judged like any other.
        if matches!(outcome, Outcome::Failed(_)) {
            worker.condemned = false;
            worker.kill_at = None;
            worker.run.ending = worker.run.ending.filter(|known| *known != ending);
            if ending == Ending::Asked && !worker.intended_up {
                worker.intended_up = true;
                worker.remark.clear();
            }
        }
    }

    /// A stop that was asked for through watcherd is done.
    pub(super) fn stopped(&mut self, name: &WorkerName) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.intended_up {
            return;
        }
        if worker.definition.is_some() {
            worker.finished = Some(now);
        }
        self.close_open_incident(name, IncidentResult::Stopped);
    }

    fn end_job_by(&mut self, job: Option<JobId>, outcome: &Outcome) {
        match outcome {
            Outcome::Ok | Outcome::Past(_) | Outcome::Activity(_) => self.end_job(job, "done", ""),
            Outcome::Failed(why) => self.end_job(job, "failed", why),
            Outcome::TimedOut => self.end_job(job, "timeout", "systemd's job did not end in time"),
        }
    }

    pub(super) fn end_job(&mut self, job: Option<JobId>, result: &'static str, detail: &str) {
        let Some(view) = job.and_then(|job| self.jobs.get_mut(&job)) else { return };
        view.state = "finished";
        view.result = result;
        detail.clone_into(&mut view.detail);
        self.step.changes.insert(ObjectId::Job(view.id));
        self.finished_jobs.push(view.id);
    }

    /// Lets go of everything that is on its way for a worker that is forgotten.
    pub(super) fn abandon(&mut self, name: &WorkerName) {
        const WHY: &str = "the worker is not supervised any more";
        self.drop_tickets(WHY, |ticket| ticket.worker == *name);
        let mut jobs = Vec::new();
        for flight in self.flights.values_mut().filter(|flight| flight.worker == *name) {
            flight.abandoned = true;
            jobs.push(flight.job.take());
        }
        for job in jobs {
            self.end_job(job, "canceled", WHY);
        }
    }
}

const SIGKILL: i32 = 9;
