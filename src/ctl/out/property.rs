// SPDX-License-Identifier: MIT OR Apache-2.0
//! `KEY=VALUE` lines for scripts, as `systemctl show` prints them; times are µs, truth is yes or no.

use super::escape::escaped;
use crate::ctl::model::Object;
use serde_json::Value;
use std::fmt::Write;

/// The properties that are `wanted`, in that order, or all, sorted by name. With `only_values`, without the names.
pub fn lines(properties: &Object, wanted: &[String], only_values: bool) -> String {
    let mut text = String::new();
    let mut print = |name: &str, value: &Value| {
        for value in values(value) {
            let line = if only_values { value } else { format!("{name}={value}") };
            writeln!(text, "{line}").expect("a String takes everything");
        }
    };
    if wanted.is_empty() {
        properties.iter().for_each(|(name, value)| print(name, value));
    }
    for name in wanted {
        if let Some(value) = properties.get(name) {
            print(name, value);
        }
    }
    text
}

/// A list of rows is printed as one line per row; everything else is one line.
fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Array(rows) if rows.first().is_some_and(Value::is_array) => rows.iter().map(one).collect(),
        value => vec![one(value)],
    }
}

fn one(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => escaped(text).into_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(" "),
        Value::Object(_) => value.to_string(),
    }
}

/// A member of a list; quoted where it could not be told from two.
fn word(value: &Value) -> String {
    match one(value) {
        text if text.is_empty() || text.contains([' ', '"', '\'', '\\']) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        text => text,
    }
}
