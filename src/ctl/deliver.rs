// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends one notice with a program of the admin's: apprise, sendmail or a command. Runs in the sandbox of
//! watcherd-notify@.service; what it reads was written by watcherd.
//!
//! No shell is involved. Texts reach the program on its standard input; only the title, where apprise wants it so, is a
//! word of its command line. A program that does not end is killed.

use super::out::Look;
use super::out::escape::escaped;
use super::out::time::{clock, stamp};
use crate::engine::time::Wall;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the program may take; TimeoutStartSec= of the unit is longer.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest notice, in bytes.
const LETTER_MAX: u64 = 1 << 20;
/// The name of the credential with apprise's configuration.
const CREDENTIAL: &str = "apprise";

#[derive(Debug, Deserialize)]
struct Letter {
    way: Way,
    command: Vec<String>,
    #[serde(default)]
    to: String,
    notice: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Apprise,
    Mail,
    Command,
}

/// Reads a notice and sends it; the error is a fragment.
pub fn deliver(input: impl Read, look: &Look) -> Result<(), String> {
    let mut text = String::new();
    let read = input.take(LETTER_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("the notice cannot be read: {error}"))?;
    let letter: Letter = serde_json::from_str(&text).map_err(|error| format!("this is no notice: {error}"))?;
    let (command, input) = prepared(&letter, look)?;
    run(command, input, DEADLINE)
}

/// The program, and what it reads.
fn prepared(letter: &Letter, look: &Look) -> Result<(Command, String), String> {
    let notice = &letter.notice;
    let (program, arguments) = letter.command.split_first().ok_or("no program is named")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let input = match letter.way {
        Way::Apprise => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            let directory = directory.ok_or("systemd gave no credentials; is this watcherd-notify@.service?")?;
            command.arg("--config").arg(directory.join(CREDENTIAL));
            command.arg(format!("--notification-type={}", weight(notice))).arg("--input-format=text");
            command.arg(format!("--title={}", line(word(notice, "title"))));
            body(notice, look)
        }
        Way::Mail => {
            command.args(["-i", "--", &letter.to]);
            mail(&letter.to, notice, look)
        }
        Way::Command => {
            for (variable, key) in
                [("WATCHERD_WORKER", "worker"), ("WATCHERD_STAGE", "stage"), ("WATCHERD_CAUSE", "cause")]
            {
                command.env(variable, line(word(notice, key)));
            }
            command.env("WATCHERD_INCIDENT", number(notice, "incident").to_string());
            format!("{notice}\n")
        }
    };
    Ok((command, input))
}

/// Runs the program to its end.
fn run(mut command: Command, input: String, within: Duration) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::piped()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).spawn();
    let mut child = child.map_err(|error| format!("{name} cannot be run: {error}"))?;
    // A program that does not read must not keep us; one that ends without reading may have known enough.
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    }
    let end = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{name} failed: {status}")),
            Ok(None) if Instant::now() < end => thread::sleep(LOOK_EVERY),
            Ok(None) => {
                // It is waited for, so that none is left behind.
                child.kill().and_then(|()| child.wait()).map_err(|error| format!("{name} cannot be ended: {error}"))?;
                return Err(format!("{name} did not end within {} s", within.as_secs()));
            }
            Err(error) => return Err(format!("{name} cannot be waited for: {error}")),
        }
    }
}

fn mail(to: &str, notice: &Value, look: &Look) -> String {
    // A header is one line of ASCII.
    let subject: String =
        line(word(notice, "title")).chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    format!(
        "To: {to}\nSubject: {subject}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{}",
        body(notice, look)
    )
}

/// The notice as people read it.
fn body(notice: &Value, look: &Look) -> String {
    let mut text = format!("{}.\n", line(word(notice, "text")));
    let next = line(word(notice, "next"));
    if !next.is_empty() {
        let at = match number(notice, "retry_at_usec") {
            0 => String::new(),
            at => format!(", at {}", clock(wall(at), look)),
        };
        let heading = if notice["final"] == true { "What to do" } else { "What happens next" };
        let _ = writeln!(text, "\n{heading}: {next}{at}.");
    }
    let cause = word(notice, "cause");
    if !cause.is_empty() {
        let percent = (notice["confidence"].as_f64().unwrap_or(0.0) * 100.0).round();
        let _ = writeln!(text, "\nCause: {cause} ({percent} %)");
    }
    for proof in notice["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "  {}", line(proof));
    }
    let incident = number(notice, "incident");
    if incident > 0 {
        let opened = stamp(wall(number(notice, "opened_usec")), look);
        let (worker, host) = (word(notice, "worker"), word(notice, "host"));
        let _ = writeln!(text, "\nIncident {incident} of {worker} on {host}, {opened}; watcherctl why {incident}");
    }
    match number(notice, "repeats") {
        0 => {}
        1 => text.push_str("The same has happened once more since the last notice.\n"),
        n => {
            let _ = writeln!(text, "The same has happened {n} more times since the last notice.");
        }
    }
    text
}

/// apprise's own words for how bad it is.
fn weight(notice: &Value) -> &'static str {
    match (word(notice, "stage"), notice["final"] == true, word(notice, "result")) {
        ("test", ..) => "info",
        ("closed", _, "recovered" | "recovered-unseen" | "completed") => "success",
        ("closed", ..) => "info",
        (_, true, _) => "failure",
        _ => "warning",
    }
}

fn word<'a>(notice: &'a Value, key: &str) -> &'a str {
    notice[key].as_str().unwrap_or_default()
}

fn number(notice: &Value, key: &str) -> u64 {
    notice[key].as_u64().unwrap_or(0)
}

fn wall(usec: u64) -> Wall {
    Wall(i64::try_from(usec).unwrap_or(i64::MAX))
}

/// In one line, whatever was in it.
fn line(text: &str) -> String {
    escaped(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::out::tests::{NOW, look};
    use super::*;
    use serde_json::json;

    fn letter(way: &str, command: &[&str]) -> Letter {
        let notice = json!({
            "id": 7, "stage": "opened", "final": true, "host": "box", "worker": "w.service", "incident": 3,
            "cause": "disk-full", "confidence": 0.9, "result": "", "opened_usec": NOW.0, "retry_at_usec": 0,
            "title": "[box] w.service is down\nBcc: all@example.org", "text": "w.service failed",
            "next": "Free space; then `watcherctl reset w.service`",
            "lines": ["output: \"quoted\" $(reboot) `x`\n.\nrm -rf ü"], "repeats": 2,
        });
        serde_json::from_value(json!({"way": way, "command": command, "to": "root", "notice": notice})).expect("valid")
    }

    fn arguments(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_mail_is_addressed_by_its_envelope_and_has_the_headers_that_we_gave_it() {
        let (command, text) = prepared(&letter("mail", &["/usr/sbin/sendmail"]), &look()).expect("a mail");
        assert_eq!(arguments(&command), ["-i", "--", "root"]);
        let (headers, body) = text.split_once("\n\n").expect("headers end");
        assert_eq!(headers.lines().count(), 6, "{headers}");
        assert!(headers.contains("\nSubject: [box] w.service is down\\nBcc: all@example.org\n"), "{headers}");
        let expected = "w.service failed.\n\nWhat to do: Free space; then `watcherctl reset w.service`.\n\n\
            Cause: disk-full (90 %)\n  output: \"quoted\" $(reboot) `x`\\n.\\nrm -rf ü\n\n\
            Incident 3 of w.service on box, Mon 2026-11-23 14:05:07 UTC; watcherctl why 3\n\
            The same has happened 2 more times since the last notice.\n";
        assert_eq!(body, expected);
    }

    #[test]
    fn a_command_reads_the_notice_literally_on_its_standard_input() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("got");
        let words = ["/usr/bin/tee", "--", file.to_str().expect("UTF-8")];
        let (mut command, input) = prepared(&letter("command", &words), &look()).expect("a command");
        command.stdout(Stdio::null());
        run(command, input, Duration::from_secs(20)).expect("it ends");
        let got: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("it is there")).expect("JSON");
        assert_eq!(got, letter("command", &[]).notice);
    }

    #[test]
    fn a_program_that_fails_or_does_not_end_or_is_not_there_is_named() {
        let tried = |words: &[&str], within| {
            let (command, input) = prepared(&letter("command", words), &look()).expect("a command");
            run(command, input, within).expect_err("it fails")
        };
        assert_eq!(tried(&["/bin/false"], Duration::from_secs(20)), "/bin/false failed: exit status: 1");
        assert_eq!(tried(&["/bin/sleep", "1000"], Duration::ZERO), "/bin/sleep did not end within 0 s");
        assert!(tried(&["/no/such"], Duration::ZERO).starts_with("/no/such cannot be run: "));
        assert!(prepared(&letter("command", &[]), &look()).is_err());
        assert!(deliver("{}".as_bytes(), &look()).is_err());
    }

    #[test]
    fn programs_are_told_how_bad_it_is() {
        let mut notice = letter("mail", &[]).notice;
        assert_eq!(weight(&notice), "failure");
        notice["final"] = false.into();
        assert_eq!(weight(&notice), "warning");
        notice["stage"] = "closed".into();
        notice["result"] = "recovered".into();
        assert_eq!(weight(&notice), "success");
    }
}
