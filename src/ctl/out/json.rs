// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON for programs: the API's words, times in µs and beside them in RFC 3339, no nulls.

use super::time::rfc3339;
use crate::ctl::args::JsonForm;
use crate::ctl::model::Object;
use serde_json::{Value, json};

/// The text of `value` with a line end.
pub fn text(value: &Value, form: JsonForm) -> String {
    match form {
        JsonForm::Pretty => format!("{value:#}\n"),
        JsonForm::Short | JsonForm::Off => format!("{value}\n"),
    }
}

/// A worker or an incident, ready to be printed.
pub fn complete(object: Object) -> Value {
    let mut complete = Object::new();
    for (key, value) in object {
        let time = value.as_u64().filter(|_| is_time(&key)).and_then(rfc3339);
        let value = match key.as_str() {
            "Remedies" => named(value, &["Action", "Timestamp", "Policy", "Outcome"]),
            "Policy" => named(value, &["Key", "Value", "Source"]),
            "Warnings" => named(value, &["Cause", "Count", "First", "Last"]),
            "Holds" => named(value, &["Id", "Workers", "Who", "Why", "Until"]),
            _ => value,
        };
        if let Some(time) = time {
            complete.insert(format!("{key}RFC3339"), time.into());
        }
        if !value.is_null() {
            complete.insert(key, value);
        }
    }
    Value::Object(complete)
}

/// An array of rows as an array of objects.
fn named(rows: Value, names: &[&str]) -> Value {
    let Value::Array(rows) = rows else { return rows };
    let object = |row: Value| match row {
        Value::Array(fields) => {
            let fields = names.iter().zip(fields).map(|(name, field)| ((*name).to_owned(), field));
            complete(fields.collect())
        }
        other => other,
    };
    rows.into_iter().map(object).collect()
}

fn is_time(key: &str) -> bool {
    const INCIDENT_TIMES: [&str; 6] = ["Opened", "Detected", "Decided", "Started", "Recovered", "Closed"];
    key.ends_with("Timestamp") || key == "Until" || INCIDENT_TIMES.contains(&key)
}

/// One event of `monitor`.
pub fn event(now_usec: u64, name: &str, fields: Object) -> Value {
    let mut object = Object::new();
    object.insert("Timestamp".into(), json!(now_usec));
    object.insert("Event".into(), json!(name));
    object.extend(fields);
    complete(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_twice_and_nothing_is_null() {
        let Value::Object(object) = json!({
            "PhaseTimestamp": 1_795_442_707_000_000_u64, "NextActionTimestamp": 0, "Rate": null, "Unit": "a.service",
            "NextActionTimestampMonotonic": 5,
        }) else {
            panic!("not an object")
        };
        assert_eq!(
            complete(object),
            json!({"NextActionTimestamp": 0, "NextActionTimestampMonotonic": 5,
                "PhaseTimestamp": 1_795_442_707_000_000_u64, "PhaseTimestampRFC3339": "2026-11-23T14:05:07.000000Z",
                "Unit": "a.service"})
        );
    }

    #[test]
    fn rows_become_objects() {
        let Value::Object(object) = json!({"Policy": [["restart.budget", "5/1h", "default"]]}) else {
            panic!("not an object")
        };
        assert_eq!(
            complete(object),
            json!({"Policy": [{"Key": "restart.budget", "Value": "5/1h", "Source": "default"}]})
        );
    }
}
