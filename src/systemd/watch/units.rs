// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about each unit of interest, and what of it has been reported.

use super::super::facts::{Properties, apply};
use super::STATUS_INTERVAL;
use crate::engine::event::{Active, Load, UnitFacts};
use crate::engine::ids::WorkerName;
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

/// The units of interest that are loaded, and those that are followed by name even while they are not.
#[derive(Default)]
pub struct Units {
    rows: HashMap<WorkerName, Row>,
    /// `STATUS=` texts that wait for their turn.
    late: BTreeSet<(Instant, WorkerName)>,
    /// Distinguishes a unit from one of the same name that was loaded earlier.
    epochs: u64,
    /// systemd lets the watchdog of a frozen unit run on, so that freezing it would kill it.
    pub freezer_upsets_watchdog: bool,
}

#[derive(Default)]
struct Row {
    facts: UnitFacts,
    /// The facts that were reported last.
    sent: Option<UnitFacts>,
    /// Whether the facts are systemd's, not only defaults.
    heard: bool,
    traits_known: bool,
    traits_asked: bool,
    /// Whether it has run, or was about to, since it was loaded.
    lived: bool,
    /// Whether the current listing, if any, has met it.
    seen: bool,
    epoch: u64,
    /// When a mere change of the text was reported last.
    status_sent: Option<Instant>,
    /// The entry in `late`.
    status_due: Option<Instant>,
}

/// What is to be reported about a unit.
#[derive(Debug, PartialEq)]
pub enum Changed {
    Now(Box<UnitFacts>),
    /// Only the `STATUS=` text changed, and it did so not long ago.
    Later,
    Nothing,
}

impl Units {
    pub fn knows(&self, name: &WorkerName) -> bool {
        self.rows.contains_key(name)
    }

    /// Whether everything about the unit is known and kept up to date by signals.
    pub fn follows(&self, name: &WorkerName) -> bool {
        self.rows.get(name).is_some_and(|row| row.heard && row.traits_known)
    }

    /// Whether the answer about all properties is still to come.
    pub fn is_asked_for(&self, name: &WorkerName) -> bool {
        self.rows.get(name).is_some_and(|row| row.traits_asked && !row.traits_known)
    }

    pub fn was_up(&self, name: &WorkerName) -> bool {
        self.rows.get(name).is_some_and(|row| row.facts.active != Active::Inactive)
    }

    /// Whether the unit runs, or is about to, and its static properties were not even asked for.
    pub fn lacks_traits(&self, name: &WorkerName) -> bool {
        self.rows.get(name).is_some_and(|row| {
            !row.traits_known && !row.traits_asked && (row.facts.active != Active::Inactive || row.facts.job != 0)
        })
    }

    /// Notes that all properties are being asked for; the epoch goes with the question.
    pub fn asking(&mut self, name: &WorkerName) -> u64 {
        let row = self.row(name);
        row.traits_asked = true;
        row.epoch
    }

    /// Takes the first half of an announcement.
    pub fn hear_service(&mut self, name: &WorkerName, properties: &Properties<'_>) {
        apply(properties, &mut self.row(name).facts);
    }

    /// Takes the second half of an announcement.
    pub fn hear_unit(&mut self, name: &WorkerName, properties: &Properties<'_>, now: Instant) -> Changed {
        let row = self.row(name);
        apply(properties, &mut row.facts);
        row.heard = true;
        let lives = row.facts.active != Active::Inactive || row.facts.job != 0;
        if lives && !row.lived {
            // Signals do not say so, but only a unit that could be read gets a job.
            row.facts.load = Load::Loaded;
        }
        row.lived |= lives;
        self.changed(name, now)
    }

    /// Takes all properties at once, unless the unit was unloaded since they were asked for.
    pub fn hear_all(
        &mut self,
        name: &WorkerName,
        epoch: u64,
        properties: Option<&Properties<'_>>,
        now: Instant,
    ) -> Changed {
        let upset = self.freezer_upsets_watchdog;
        let Some(row) = self.rows.get_mut(name).filter(|row| row.epoch == epoch) else { return Changed::Nothing };
        let Some(properties) = properties else {
            row.traits_asked = false;
            return Changed::Nothing;
        };
        apply(properties, &mut row.facts);
        row.facts.traits.can_freeze &= !(upset && row.facts.traits.watchdog.is_some());
        row.heard = true;
        row.seen = true;
        row.traits_known = true;
        row.lived |= row.facts.active != Active::Inactive;
        self.changed(name, now)
    }

    /// Takes a line of a list. A unit that is up is only noted: its line and its other properties belong together.
    pub fn hear_row(&mut self, name: &WorkerName, load: Load, down: Option<(&str, u32)>) {
        let row = self.row(name);
        row.facts.load = load;
        let Some((sub, job)) = down else { return };
        row.facts.active = Active::Inactive;
        sub.clone_into(&mut row.facts.sub);
        row.facts.job = job;
        row.facts.main_pid = 0;
        row.facts.frozen = false;
        row.heard = true;
    }

    /// Compares what is known with what was reported.
    pub fn changed(&mut self, name: &WorkerName, now: Instant) -> Changed {
        let Some(row) = self.rows.get_mut(name).filter(|row| row.heard) else { return Changed::Nothing };
        if let Some(sent) = &mut row.sent {
            if *sent == row.facts {
                return Changed::Nothing;
            }
            let only_text = {
                let text = std::mem::replace(&mut sent.status_text, row.facts.status_text.clone());
                let same = *sent == row.facts;
                sent.status_text = text;
                same
            };
            if only_text && let Some(due) = row.status_sent.map(|at| at + STATUS_INTERVAL).filter(|due| *due > now) {
                if row.status_due.is_none() {
                    row.status_due = Some(due);
                    self.late.insert((due, name.clone()));
                }
                return Changed::Later;
            }
            if only_text {
                row.status_sent = Some(now);
            }
        }
        Changed::Now(Box::new(self.reported(name)))
    }

    pub fn next_status(&self) -> Option<Instant> {
        self.late.first().map(|(due, _)| *due)
    }

    /// A unit whose text has waited long enough.
    pub fn take_status(&mut self, now: Instant) -> Option<(WorkerName, UnitFacts)> {
        self.late.first().filter(|(due, _)| *due <= now)?;
        let (_, name) = self.late.pop_first()?;
        let row = self.rows.get_mut(&name)?;
        row.status_due = None;
        row.status_sent = Some(now);
        let facts = self.reported(&name);
        Some((name, facts))
    }

    fn reported(&mut self, name: &WorkerName) -> UnitFacts {
        let row = self.row(name);
        let facts = row.facts.clone();
        row.sent = Some(facts.clone());
        if let Some(due) = row.status_due.take() {
            self.late.remove(&(due, name.clone()));
        }
        facts
    }

    /// Takes note that the unit was unloaded; false if that is no news.
    ///
    /// A unit that is followed by name stays known. Asking systemd for such a unit loads and unloads it: no news.
    pub fn removed(&mut self, name: &WorkerName, stays: bool) -> bool {
        let Some(mut row) = self.rows.remove(name) else { return false };
        if let Some(due) = row.status_due.take() {
            self.late.remove(&(due, name.clone()));
        }
        if !stays {
            return true;
        }
        self.epochs += 1;
        let lived = row.lived;
        if lived {
            let load = if row.facts.traits.transient { Load::NotFound } else { row.facts.load };
            row.facts = UnitFacts { load, sub: "dead".to_owned(), traits: row.facts.traits, ..UnitFacts::default() };
        }
        // That it is not loaded any more tells everything that the facts would.
        let sent = Some(row.facts.clone());
        let row = Row { facts: row.facts, sent, heard: true, seen: row.seen, epoch: self.epochs, ..Row::default() };
        self.rows.insert(name.clone(), row);
        lived
    }

    /// Drops units that nobody is interested in any more.
    pub fn keep(&mut self, wanted: impl Fn(&WorkerName) -> bool) {
        self.rows.retain(|name, _| wanted(name));
        self.late.retain(|(_, name)| wanted(name));
    }

    /// Everything will be listed: from now on it counts which units are met.
    pub fn begin_round(&mut self) {
        for row in self.rows.values_mut() {
            row.seen = false;
            row.traits_known = false;
            row.traits_asked = false;
        }
    }

    /// Everything was listed: what was not met is not loaded.
    pub fn end_round(&mut self) {
        self.rows.retain(|_, row| row.seen);
        let rows = &self.rows;
        self.late.retain(|(_, name)| rows.contains_key(name));
    }

    /// Everything that is known, in the order of the names; counts as reported.
    pub fn list(&mut self) -> Vec<(WorkerName, UnitFacts)> {
        let mut names: Vec<_> = self.rows.iter().filter(|(_, row)| row.heard).map(|(name, _)| name.clone()).collect();
        names.sort();
        names
            .into_iter()
            .map(|name| {
                let facts = self.reported(&name);
                (name, facts)
            })
            .collect()
    }

    fn row(&mut self, name: &WorkerName) -> &mut Row {
        if !self.rows.contains_key(name) {
            self.epochs += 1;
            self.rows.insert(name.clone(), Row { epoch: self.epochs, ..Row::default() });
        }
        let row = self.rows.get_mut(name).expect("it was put there just now");
        row.seen = true;
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use zbus::Variant;

    fn name() -> WorkerName {
        WorkerName::parse("a").expect("a name")
    }

    fn state(active: &'static str) -> Properties<'static> {
        Properties::from([("ActiveState", Variant::from(active))])
    }

    fn status(text: &'static str) -> Properties<'static> {
        Properties::from([("StatusText", Variant::from(text))])
    }

    fn text_of(changed: Changed) -> Option<String> {
        match changed {
            Changed::Now(facts) => Some(facts.status_text),
            _ => None,
        }
    }

    #[tokio::test]
    async fn chatter_is_thinned_out_and_the_last_text_is_not_lost() {
        let mut units = Units::default();
        let (name, start) = (name(), Instant::now());
        assert!(matches!(units.hear_unit(&name, &state("active"), start), Changed::Now(_)));
        units.hear_service(&name, &status("1"));
        assert_eq!(text_of(units.hear_unit(&name, &state("active"), start)).as_deref(), Some("1"));
        for text in ["2", "3"] {
            units.hear_service(&name, &status(text));
            assert_eq!(units.hear_unit(&name, &state("active"), start), Changed::Later);
        }
        let due = units.next_status().expect("a text waits");
        assert_eq!(due, start + STATUS_INTERVAL);
        assert!(units.take_status(start).is_none());
        let (_, facts) = units.take_status(due).expect("it is due");
        assert_eq!(facts.status_text, "3");
        assert!(units.next_status().is_none());
        units.hear_service(&name, &status("4"));
        assert_eq!(units.hear_unit(&name, &state("active"), due), Changed::Later);
        assert_eq!(text_of(units.hear_unit(&name, &state("failed"), due)).as_deref(), Some("4"));
        assert!(units.next_status().is_none());
    }

    #[tokio::test]
    async fn the_same_again_is_not_reported() {
        let mut units = Units::default();
        let now = Instant::now();
        assert!(matches!(units.hear_unit(&name(), &state("active"), now), Changed::Now(_)));
        assert_eq!(units.hear_unit(&name(), &state("active"), now + Duration::from_secs(9)), Changed::Nothing);
    }

    #[tokio::test]
    async fn an_answer_about_an_earlier_unit_of_the_same_name_is_ignored() {
        let mut units = Units::default();
        let now = Instant::now();
        units.hear_unit(&name(), &state("active"), now);
        let epoch = units.asking(&name());
        assert!(units.removed(&name(), false));
        units.hear_unit(&name(), &state("activating"), now);
        assert_eq!(units.hear_all(&name(), epoch, Some(&state("failed")), now), Changed::Nothing);
        assert!(units.was_up(&name()));
    }

    #[tokio::test]
    async fn unloading_what_was_only_looked_at_is_no_news() {
        let mut units = Units::default();
        units.hear_row(&name(), Load::Masked, Some(("dead", 0)));
        assert!(!units.removed(&name(), true));
        assert_eq!(units.list()[0].1.load, Load::Masked);
        units.hear_unit(&name(), &state("active"), Instant::now());
        assert!(units.removed(&name(), true));
        assert_eq!(units.list()[0].1.active, Active::Inactive);
    }

    #[tokio::test]
    async fn what_a_full_list_does_not_mention_is_gone() {
        let mut units = Units::default();
        units.hear_unit(&name(), &state("active"), Instant::now());
        units.begin_round();
        units.end_round();
        assert!(units.list().is_empty());
    }
}
