// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cases for `diagnose --batch`: one JSON object a line, and the end of a run as a person or a case states it.

use crate::engine::classify::signal_name;
use crate::engine::event::{Exit, RunEnd, UnitResult};
use serde::Deserialize;
use serde_json::Value;

/// The longest line that is read, in bytes.
pub const LINE_MAX: usize = 64 << 20;

/// What is missing or null is unknown; fields that are not named here are ignored.
#[derive(Deserialize, Debug, Default)]
pub struct Case {
    #[serde(default)]
    pub id: Value,
    #[serde(default)]
    pub journal: Option<Vec<String>>,
    #[serde(default)]
    pub kernel: Option<Vec<String>>,
    #[serde(default)]
    unit_result: Option<String>,
    #[serde(default)]
    exec_main_code: Option<String>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default)]
    signal: Option<Value>,
}

impl Case {
    /// Reads one line; the error is a fragment that says what is wrong where.
    pub fn parse(line: &str) -> Result<Case, String> {
        if !line.trim_start().starts_with('{') {
            return Err("an object is expected".into());
        }
        let case: Case = serde_json::from_str(line).map_err(|error| {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or(&text);
            format!("column {}: {text}", error.column())
        })?;
        match &case.id {
            Value::String(_) | Value::Number(_) => Ok(case),
            Value::Null => Err("\"id\" is missing".into()),
            _ => Err("\"id\" must be a text or a number".into()),
        }
    }

    pub fn end(&self) -> Result<RunEnd, String> {
        let signal = match &self.signal {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err("\"signal\" must be a name or a number".into()),
        };
        let dumped = self.exec_main_code.as_deref() == Some("dumped");
        run_end(self.unit_result.as_deref(), self.exit_code, signal.as_deref(), dumped)
    }
}

/// The end of a run as it was given; what was not given is unknown.
pub fn run_end(
    result: Option<&str>,
    exit_code: Option<i32>,
    signal: Option<&str>,
    dumped: bool,
) -> Result<RunEnd, String> {
    let signal = signal.map(parse_signal).transpose()?;
    let given = result.map(UnitResult::parse);
    let exit = match (signal, exit_code) {
        (Some(signal), _) if dumped || given == Some(UnitResult::CoreDump) => Exit::Dumped(signal),
        (Some(signal), _) => Exit::Killed(signal),
        (None, Some(code)) => Exit::Exited(code),
        // Only a clean end is a success.
        (None, None) if given == Some(UnitResult::Success) => Exit::Exited(0),
        (None, None) => Exit::None,
    };
    let told = given.unwrap_or(match exit {
        Exit::Exited(0) | Exit::None => UnitResult::Success,
        Exit::Exited(_) => UnitResult::ExitCode,
        Exit::Killed(_) => UnitResult::Signal,
        Exit::Dumped(_) => UnitResult::CoreDump,
    });
    Ok(RunEnd { result: told, exit, ..RunEnd::default() })
}

/// A signal by its number, or by its name with or without `SIG`.
fn parse_signal(text: &str) -> Result<i32, String> {
    const LAST: i32 = 64;
    let name = text.trim().to_ascii_uppercase();
    let long = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    let found = match name.parse::<i32>() {
        Ok(number) => (1..=LAST).contains(&number).then_some(number),
        Err(_) => (1..=31).find(|number| signal_name(*number) == long),
    };
    found.ok_or_else(|| format!("{text:?} is not a signal; write a name such as SIGSEGV, or a number from 1 to {LAST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_unknown() {
        let case = Case::parse(r#"{"id": "a", "journal": null, "signal": null, "more": 1}"#).expect("valid");
        assert_eq!(case.end(), Ok(RunEnd::default()));
        let end = run_end(Some("success"), None, None, false).expect("valid");
        assert_eq!((end.result, end.exit), (UnitResult::Success, Exit::Exited(0)));
        let end = run_end(None, None, Some("segv"), false).expect("valid");
        assert_eq!((end.result, end.exit), (UnitResult::Signal, Exit::Killed(11)));
        let end = run_end(Some("core-dump"), None, Some("6"), false).expect("valid");
        assert_eq!(end.exit, Exit::Dumped(6));
        let end = run_end(None, Some(3), None, false).expect("valid");
        assert_eq!((end.result, end.exit), (UnitResult::ExitCode, Exit::Exited(3)));
    }

    #[test]
    fn a_bad_case_is_told_by_its_place() {
        assert_eq!(Case::parse("{\"id\": 1").expect_err("cut"), "column 8: EOF while parsing an object");
        assert_eq!(Case::parse("{}").expect_err("no id"), "\"id\" is missing");
        let wrong = Case::parse(r#"{"id": "a", "journal": "text"}"#).expect_err("no list");
        assert!(wrong.starts_with("column 29: invalid type: string \"text\""), "{wrong}");
        assert!(run_end(None, None, Some("SIGGY"), false).is_err());
        assert!(run_end(None, None, Some("0"), false).is_err());
    }
}
