// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checkpoints of a worker as a table, with an arrow at the one from which a run would go on.

use super::Look;
use super::colour::Colour;
use super::table::{Cell, Table};
use super::time::relative;
use crate::act::checkpoint::{Checkpoint, State, chosen};
use crate::ctl::model::{Object, wall};
use crate::engine::policy::Size;
use crate::engine::time::{Span, Wall};
use serde_json::json;
use std::time::Duration;

/// What changed so shortly ago may still be on its way to the disk.
const BEING_WRITTEN: Duration = Duration::from_secs(60);

/// All checkpoints of one worker.
#[derive(Clone, Debug)]
pub struct Shelf {
    pub unit: String,
    pub pattern: String,
    /// The part of all paths that the pattern spells out.
    pub place: String,
    /// The newest first.
    pub checkpoints: Vec<Checkpoint>,
    pub max_age: Option<Duration>,
    /// The command of the policy was not asked.
    pub unasked: bool,
}

/// Whether the newest one is whole and young enough.
pub fn is_well(shelf: &Shelf, now: Wall) -> bool {
    trouble(shelf, now).is_none()
}

fn trouble(shelf: &Shelf, now: Wall) -> Option<String> {
    let age = |one: &Checkpoint| now.since(wall(one.changed));
    let counts = |one: &&Checkpoint| {
        let unfinished = one.state == State::Incomplete || (one.state == State::Broken && age(one) < BEING_WRITTEN);
        !unfinished
    };
    let Some(newest) = shelf.checkpoints.iter().find(counts) else {
        return Some("there is no checkpoint".into());
    };
    match newest.state {
        State::Valid => {}
        State::Unknown if shelf.unasked || newest.usable => {}
        state => return Some(format!("the newest is {}", state.as_str())),
    }
    let most = shelf.max_age.filter(|most| age(newest) > *most)?;
    Some(format!("the newest is older than {}", Span(most)))
}

pub fn text(shelf: &Shelf, look: &Look) -> String {
    let mut table = Table::new(&[" ", "NAME", "CHANGED", "SIZE", "KIND", "STATE", "WHY"]);
    let resume = chosen(&shelf.checkpoints);
    for (at, one) in shelf.checkpoints.iter().enumerate() {
        let colour = match one.state {
            State::Valid => Colour::Good,
            State::Broken => Colour::Bad,
            State::Incomplete | State::Unknown => Colour::Changing,
        };
        let name = one.path.strip_prefix(&shelf.place).unwrap_or(&one.path).trim_start_matches('/');
        table.row(vec![
            Cell::new(if resume == Some(at) { "→" } else { " " }),
            Cell::new(name),
            Cell::new(&relative(wall(one.changed), look)),
            Cell::new(&Size(one.bytes).to_string()).right(),
            Cell::new(&one.kind),
            Cell::new(one.state.as_str()).colour(colour),
            Cell::new(&one.why),
        ]);
    }
    let mut text = table.render(look);
    if look.legend {
        let count = shelf.checkpoints.len();
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!("{}: {count} checkpoint{plural} match {}", shelf.unit, shelf.pattern));
        if let Some(trouble) = trouble(shelf, look.now) {
            text.push_str(&format!("; {trouble}"));
        }
        text.push('\n');
        if shelf.unasked {
            text.push_str("The command of the policy was not asked; --verify does.\n");
        }
    }
    text
}

/// For programs.
pub fn objects(shelf: &Shelf) -> impl Iterator<Item = Object> {
    let resume = chosen(&shelf.checkpoints);
    shelf.checkpoints.iter().enumerate().map(move |(at, one)| {
        let fields = [
            ("Unit", json!(shelf.unit)),
            ("Path", json!(one.path)),
            ("ChangedTimestamp", json!(one.changed)),
            ("Size", json!(one.bytes)),
            ("Kind", json!(one.kind)),
            ("State", json!(one.state.as_str())),
            ("Why", json!(one.why)),
            ("Resume", json!(resume == Some(at))),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, look};
    use super::*;

    fn one(name: &str, age: u64, state: State, why: &str) -> Checkpoint {
        Checkpoint {
            path: format!("/srv/ckpt/{name}"),
            bytes: 1_500_000,
            changed: NOW.0.unsigned_abs() - age * 1_000_000,
            state,
            why: why.into(),
            kind: "PyTorch".into(),
            linked: false,
            usable: false,
            counts: state == State::Valid,
            torn: false,
        }
    }

    fn shelf(checkpoints: &[Checkpoint]) -> Shelf {
        Shelf {
            unit: "train.service".into(),
            pattern: "/srv/ckpt/*".into(),
            place: "/srv/ckpt".into(),
            checkpoints: checkpoints.to_vec(),
            max_age: Some(Duration::from_secs(86_400)),
            unasked: false,
        }
    }

    #[test]
    fn an_arrow_is_at_the_one_from_which_a_run_would_go_on() {
        let torn = one("3.pt", 120, State::Broken, "the end of the archive is missing");
        let shelf = shelf(&[torn, one("2.pt", 3_720, State::Valid, ""), one("1.pt", 7_200, State::Valid, "")]);
        let expected = "\
            \u{20} NAME CHANGED    SIZE KIND    STATE  WHY\n\
            \u{20} 3.pt 2min ago  1.43M PyTorch broken the end of the archive is missing\n\
            → 2.pt 1h 2min ago 1.43M PyTorch valid  -\n\
            \u{20} 1.pt 2h ago    1.43M PyTorch valid  -\n\
            train.service: 3 checkpoints match /srv/ckpt/*; the newest is broken\n";
        let squeezed = |text: &str| text.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&text(&shelf, &look())), squeezed(expected));
        let resume: Vec<_> = objects(&shelf).map(|object| object["Resume"].clone()).collect();
        assert_eq!(resume, [json!(false), json!(true), json!(false)]);
    }

    #[test]
    fn what_is_wrong_is_what_a_script_wants_to_know() {
        let (valid, old) = (one("a", 3_600, State::Valid, ""), one("a", 90_000, State::Valid, ""));
        let (torn, fresh) = (one("b", 120, State::Broken, "x"), one("b", 10, State::Broken, "x"));
        let unknown = one("b", 120, State::Unknown, "x");
        let temporary = one("b.tmp", 120, State::Incomplete, "x");
        let told = |all: &[Checkpoint]| trouble(&shelf(all), NOW);
        assert_eq!(told(std::slice::from_ref(&valid)), None);
        assert_eq!(told(&[temporary, valid.clone()]), None);
        assert_eq!(told(&[fresh, valid.clone()]), None, "it may be on its way to the disk");
        assert_eq!(told(&[old]).as_deref(), Some("the newest is older than 1d"));
        assert_eq!(told(&[torn, valid.clone()]).as_deref(), Some("the newest is broken"));
        assert_eq!(told(&[unknown.clone(), valid]).as_deref(), Some("the newest is unknown"));
        assert_eq!(told(&[]).as_deref(), Some("there is no checkpoint"));
        assert_eq!(trouble(&Shelf { unasked: true, ..shelf(&[unknown]) }, NOW), None);
    }
}
