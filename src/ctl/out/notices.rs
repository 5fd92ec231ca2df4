// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of notices.

use super::Look;
use super::colour::Colour;
use super::table::{Cell, Table};
use super::time::{clock, relative};
use crate::ctl::model::Object;
use crate::engine::time::Wall;
use serde_json::Value;

const HEADINGS: &[&str] = &["ID", "MADE", "WORKER", "INCIDENT", "STAGE", "STATE", "TRIES", "NEXT", "ERROR"];

/// One row a notice, and how many wait.
pub fn list(rows: &[Object], look: &Look) -> String {
    let mut table = Table::new(HEADINGS);
    let mut waiting = 0;
    for row in rows {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
        let time = |key: &str| Wall(i64::try_from(number(key)).unwrap_or(i64::MAX));
        let waits = text("State") == "waiting";
        waiting += u32::from(waits);
        let colour = match text("State") {
            "lost" => Colour::Bad,
            "waiting" => Colour::Changing,
            _ => Colour::Plain,
        };
        let number_or_nothing = |key: &str| if number(key) == 0 { String::new() } else { number(key).to_string() };
        table.row(vec![
            Cell::new(&number("Id").to_string()).right(),
            Cell::new(&clock(time("MadeTimestamp"), look)),
            Cell::new(text("Worker")),
            Cell::new(&number_or_nothing("Incident")).right(),
            Cell::new(text("Stage")),
            Cell::new(text("State")).colour(colour),
            Cell::new(&number("Attempts").to_string()).right(),
            Cell::new(&if waits { relative(time("DueTimestamp"), look) } else { String::new() }),
            Cell::new(text("Error")),
        ]);
    }
    let mut all = table.render(look);
    if look.legend {
        let gap = if rows.is_empty() { "" } else { "\n" };
        all.push_str(&format!("{gap}{} notices, {waiting} of them waiting.\n", rows.len()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, look};
    use super::*;
    use serde_json::json;

    #[test]
    fn what_waits_says_until_when_and_why() {
        let made = NOW.0 - 60_000_000;
        let row = json!({"Id": 4, "MadeTimestamp": made, "Worker": "w.service", "Incident": 2, "Stage": "opened", "State": "waiting",
            "Attempts": 3, "DueTimestamp": NOW.0 + 40_000_000, "Error": "watcherd-notify@4.service failed"});
        let test = json!({"Id": 3, "MadeTimestamp": made, "Worker": "", "Incident": 0, "Stage": "test", "State": "sent",
            "Attempts": 1, "DueTimestamp": made, "Error": ""});
        let rows: Vec<Object> = [test, row].into_iter().filter_map(|row| row.as_object().cloned()).collect();
        let expected = "\
            ID MADE     WORKER    INCIDENT STAGE  STATE   TRIES NEXT   ERROR\n\
            \x203 14:04:07 -                - test   sent        1 -      -\n\
            \x204 14:04:07 w.service        2 opened waiting     3 in 40s watcherd-notify@4.service failed\n\
            \n2 notices, 1 of them waiting.\n";
        assert_eq!(list(&rows, &look()), expected);
        assert_eq!(list(&[], &look()), "0 notices, 0 of them waiting.\n");
    }
}
