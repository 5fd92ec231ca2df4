// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a document: JSON, `key=value` or `key: value` lines, a plain number, or `120/500`.

use crate::engine::source::{NAME_MAX, Reading, VALUES_MAX};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which field of a document is which value; see [`crate::engine::source::Sources::fields`].
pub type Fields = BTreeMap<Arc<str>, Arc<str>>;

const VALUE: &str = "value";
const TOTAL: &str = "total";
const CURSOR: &str = "cursor";
const STAGE: &str = "stage";
/// Where the progress and its end are looked for if nobody says where they are; the first that is there counts.
const VALUE_KEYS: [&str; 9] =
    ["value", "progress", "step", "completed", "done", "processed", "count", "current", "iteration"];
const STAGE_KEYS: [&str; 2] = ["stage", "phase"];
const TOTAL_KEYS: [&str; 4] = ["total", "total_steps", "max_steps", "num_steps"];

/// What a document says; the error is a fragment that reads after the document's name.
pub fn read(bytes: &[u8], fields: &Fields) -> Result<Reading, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8 text")?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    let document = if text.starts_with(['{', '[']) {
        Document::Json(serde_json::from_str(text).map_err(|error| format!("not valid JSON: {error}"))?)
    } else if number(text).is_some() || ratio(text).is_some() {
        Document::Lines(BTreeMap::from([(VALUE, text)]))
    } else {
        let pairs: BTreeMap<_, _> = text.lines().filter_map(pair).collect();
        if pairs.is_empty() {
            return Err("neither JSON, nor key=value lines, nor a number".to_owned());
        }
        Document::Lines(pairs)
    };
    document.reading(fields)
}

/// A number with nothing else around it than white space.
pub(super) fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// The longest beginning of `text` that is short enough to be kept.
pub(super) fn cut(text: &str) -> Arc<str> {
    let end = (0..=NAME_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].into()
}

/// `120/500`.
fn ratio(text: &str) -> Option<(f64, f64)> {
    let (done, all) = text.split_once('/')?;
    number(done).zip(number(all))
}

/// The key and the value of a line; the last line of a key counts.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (key, value) = line.split_once(['=', ':']).filter(|_| !line.starts_with('#'))?;
    let key = key.trim().trim_matches('"');
    (!key.is_empty()).then(|| (key, value.trim().trim_matches('"')))
}

enum Document<'a> {
    Json(Value),
    Lines(BTreeMap<&'a str, &'a str>),
}

impl Document<'_> {
    fn reading(&self, fields: &Fields) -> Result<Reading, String> {
        let mut reading = Reading::default();
        let mut keep = |name: &str, number: f64| {
            if reading.values.len() < VALUES_MAX && name.len() <= NAME_MAX {
                reading.values.entry(name.into()).or_insert(number);
            }
        };
        match fields.get(VALUE) {
            Some(place) => match self.at(place) {
                Some(found) => found.tell(&mut keep),
                None => return Err(format!("there is no {place}")),
            },
            None => {
                if let Some(found) = VALUE_KEYS.iter().find_map(|key| self.top(key)) {
                    found.tell(&mut keep);
                }
            }
        }
        if !fields.contains_key(TOTAL)
            && let Some(found) = TOTAL_KEYS.iter().find_map(|key| self.top(key))
        {
            keep(TOTAL, found.number());
        }
        for (name, place) in fields.iter().filter(|(name, _)| !is_special(name)) {
            if let Some(found) = self.at(place) {
                keep(name, found.number());
            }
        }
        // A total that is configured counts more than the one of `120/500`.
        if let Some(found) = fields.get(TOTAL).and_then(|place| self.at(place)) {
            reading.values.insert(TOTAL.into(), found.number());
        }
        let mut keep = |name: &str, number: f64| {
            if reading.values.len() < VALUES_MAX && name.len() <= NAME_MAX && !fields.contains_key(name) {
                reading.values.entry(name.into()).or_insert(number);
            }
        };
        for (name, found) in self.numbers() {
            keep(name, found.number());
        }
        let cursor = self.text(fields.get(CURSOR).map_or(CURSOR, |place| place));
        reading.cursor = cursor.map(|text| cut(&text));
        let stage = match fields.get(STAGE) {
            Some(place) => self.text(place),
            None => STAGE_KEYS.iter().find_map(|key| self.text(key)),
        };
        reading.stage = stage.map(|text| cut(&text));
        if reading.values.is_empty() && reading.cursor.is_none() {
            return Err("there is no number".to_owned());
        }
        Ok(reading)
    }

    /// The number at a JSON pointer or under a key.
    fn at(&self, place: &str) -> Option<Found> {
        match self {
            Document::Json(json) => json_at(json, place).and_then(of_json),
            Document::Lines(pairs) => pairs.get(place).and_then(|text| of_text(text)),
        }
    }

    fn top(&self, key: &str) -> Option<Found> {
        match self {
            Document::Json(json) => json.get(key).and_then(of_json),
            Document::Lines(pairs) => pairs.get(key).and_then(|text| of_text(text)),
        }
    }

    /// Every number at the top, by its key.
    fn numbers(&self) -> Box<dyn Iterator<Item = (&str, Found)> + '_> {
        match self {
            Document::Json(Value::Object(object)) => {
                Box::new(object.iter().filter_map(|(key, value)| Some((key.as_str(), of_json(value)?))))
            }
            Document::Json(_) => Box::new(std::iter::empty()),
            Document::Lines(pairs) => Box::new(pairs.iter().filter_map(|(key, text)| Some((*key, of_text(text)?)))),
        }
    }

    fn text(&self, place: &str) -> Option<String> {
        match self {
            Document::Json(json) => match json_at(json, place)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(truth) => Some(truth.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            },
            Document::Lines(pairs) => pairs.get(place).map(|text| (*text).to_owned()),
        }
    }
}

/// What is looked for in a way of its own.
fn is_special(name: &str) -> bool {
    [VALUE, TOTAL, CURSOR, STAGE].contains(&name)
}

fn json_at<'a>(json: &'a Value, place: &str) -> Option<&'a Value> {
    if place.starts_with('/') { json.pointer(place) } else { json.get(place) }
}

fn of_json(value: &Value) -> Option<Found> {
    match value {
        Value::Number(number) => number.as_f64().filter(|number| number.is_finite()).map(Found::Number),
        Value::String(text) => of_text(text),
        _ => None,
    }
}

fn of_text(text: &str) -> Option<Found> {
    number(text).map(Found::Number).or_else(|| ratio(text).map(|(done, all)| Found::Ratio(done, all)))
}

/// A number, and where it ends if the same text says so.
#[derive(Clone, Copy)]
enum Found {
    Number(f64),
    Ratio(f64, f64),
}

impl Found {
    fn number(self) -> f64 {
        match self {
            Found::Number(number) | Found::Ratio(number, _) => number,
        }
    }

    /// As the progress.
    fn tell(self, keep: &mut impl FnMut(&str, f64)) {
        keep(VALUE, self.number());
        if let Found::Ratio(_, all) = self {
            keep(TOTAL, all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect()
    }

    fn told(document: &str, mapped: &str) -> String {
        match read(document.as_bytes(), &fields(mapped)) {
            Ok(reading) => {
                let mut words: Vec<_> = reading.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
                words.extend(reading.cursor.map(|cursor| format!("@{cursor}")));
                words.extend(reading.stage.map(|stage| format!("#{stage}")));
                words.join(" ")
            }
            Err(why) => format!("! {why}"),
        }
    }

    #[test]
    fn documents_are_read() {
        let cases = [
            ("42\n", "", "value=42"),
            (" 1.5e3 ", "", "value=1500"),
            ("-7", "", "value=-7"),
            ("120/500", "", "total=500 value=120"),
            ("120 / 500\n", "", "total=500 value=120"),
            (r#"{"step": 7, "total_steps": 9, "loss": 0.5}"#, "", "loss=0.5 step=7 total=9 total_steps=9 value=7"),
            (r#"{"value": "12", "note": "x", "ok": true}"#, "", "value=12"),
            (r#"{"progress": "3/4"}"#, "", "progress=3 total=4 value=3"),
            (r#"{"data": {"step": 5, "of": 8}}"#, "value=/data/step total=/data/of", "total=8 value=5"),
            (r#"{"data": [{"n": 5}]}"#, "value=/data/0/n", "value=5"),
            (r#"[1, 2]"#, "value=/1", "value=2"),
            (r#"{"n": 5, "value": 9}"#, "value=n", "n=5 value=5"),
            (r#"{"n": "3/4", "m": 9}"#, "value=n total=m", "m=9 n=3 total=9 value=3"),
            (r#"{"n": 5, "q": 2}"#, "active=n pending=/q", "active=5 n=5 pending=2 q=2"),
            (r#"{"n": 5, "cursor": "a-b"}"#, "", "n=5 @a-b"),
            (r#"{"step": 5, "id": 77}"#, "cursor=id", "id=77 step=5 value=5 @77"),
            ("step=12\ntotal = 40\n# x=1\n", "", "step=12 total=40 value=12"),
            ("step: 12/40\nphase: fit", "", "step=12 total=40 value=12 #fit"),
            (r#"{"n": 5, "at": {"part": "eval"}, "phase": "x"}"#, "stage=/at/part", "n=5 #eval"),
            (r#"{"n": 5, "stage": null, "phase": "train"}"#, "", "n=5 #train"),
            ("step=1\nstep=2\n", "", "step=2 value=2"),
            ("n = \"5\"\nid: x y", "value=n cursor=id", "n=5 value=5 @x y"),
            ("\u{feff}{\"done\": 1}", "", "done=1 value=1"),
            ("", "", "! empty"),
            ("  \n", "", "! empty"),
            ("hello", "", "! neither JSON, nor key=value lines, nor a number"),
            ("nan", "", "! neither JSON, nor key=value lines, nor a number"),
            ("a=b", "", "! there is no number"),
            (r#"{"a": null}"#, "", "! there is no number"),
            (r#"{"a": 1}"#, "value=/b", "! there is no /b"),
            (r#"{"a": 1"#, "", "! not valid JSON: EOF while parsing an object at line 1 column 7"),
        ];
        for (document, mapped, expected) in cases {
            assert_eq!(told(document, mapped), expected, "{document} with {mapped}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(read(b"step=1\xff\xfe\x00", &Fields::new()), Err("not UTF-8 text".to_owned()));
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes(), &Fields::new()).is_err_and(|why| why.starts_with("not valid JSON")));
    }

    #[test]
    fn what_is_kept_has_a_cap() {
        let many: Vec<_> = (0..1_000).map(|n| format!("k{n}={n}")).collect();
        let text = format!("{}\nzz=5\nstep=3\ncursor={}\n{}=1\n", many.join("\n"), "ä".repeat(100), "n".repeat(200));
        let reading = read(text.as_bytes(), &fields("mapped=zz")).expect("numbers are there");
        assert_eq!(reading.values.len(), VALUES_MAX);
        assert_eq!(reading.values["value"], 3.0);
        assert_eq!(reading.values["mapped"], 5.0);
        assert_eq!(reading.cursor.expect("there is one").len(), NAME_MAX);
        assert!(reading.values.keys().all(|name| name.len() <= NAME_MAX));
    }
}
