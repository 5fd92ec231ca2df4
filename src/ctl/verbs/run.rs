// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a worker from a command line, and follows it where that is wanted.

use super::show::properties;
use crate::api::error::ErrorName;
use crate::ctl::args::Run;
use crate::ctl::connect::Link;
use crate::ctl::events::{Events, News, unit_of};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::{Object, Worker};
use crate::ctl::out::escape::escaped;
use crate::ctl::session::Session;
use crate::engine::view::Phase;
use nix::unistd::{AccessFlags, access};
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::path::{Path, PathBuf};
use zbus::{OwnedObjectPath, Variant};

pub async fn perform(session: &Session, given: &Run) -> Outcome {
    let remote = session.options.host.is_some() || session.options.machine.is_some();
    let mut argv = given.command.clone();
    if !remote {
        argv[0] = program(&given.command[0])?;
    }
    let properties = unit_properties(given)?;
    if session.options.dry_run {
        session.print(&plan(&argv, &properties, given))?;
        return Ok(exit::OK);
    }
    let link = session.connect().await?;
    let mut events = Events::subscribe(&link).await?;
    let path = call(&link, given, &argv, &properties).await?;
    let unit = unit_of(path.as_str()).unwrap_or_else(|| path.to_string());
    if !session.options.quiet {
        session.print(&format!("{unit}\n"))?;
    }
    if !session.options.wait {
        return Ok(exit::OK);
    }
    let mut following = Following { session, link: &link, path: path.to_string(), unit, known: Object::new() };
    tokio::select! {
        outcome = following.watch(&mut events) => outcome,
        _ = tokio::signal::ctrl_c() => {
            let name = escaped(&following.unit).into_owned();
            session.note(&format!("watcherctl: no longer following {name}; it keeps running"));
            session.note(&format!("hint: watcherctl stop {name}"));
            Ok(exit::INTERRUPTED)
        }
    }
}

async fn call(
    link: &Link,
    given: &Run,
    argv: &[String],
    properties: &BTreeMap<String, Vec<String>>,
) -> Result<OwnedObjectPath, Failure> {
    let properties: HashMap<&str, Variant<'_>> = properties
        .iter()
        .map(|(name, values)| match values.as_slice() {
            [value] => (name.as_str(), Variant::from(value.as_str())),
            values => (name.as_str(), Variant::from(values.to_vec())),
        })
        .collect();
    let policy: HashMap<&str, Variant<'_>> =
        given.policy.pairs().into_iter().map(|(key, value)| (key, Variant::from(value))).collect();
    let name = given.name.as_deref().unwrap_or_default();
    let path: zbus::Result<OwnedObjectPath> = link.ask("Run", &(name, argv, properties, policy, 0u64)).await;
    path.map_err(|error| {
        let what = if name.is_empty() { argv[0].as_str() } else { name };
        let failure = Failure::from_bus(&format!("run {what}"), &error);
        match ErrorName::of(&error) {
            Some(ErrorName::Exists) => failure.with_hint("choose another --name, or watcherctl forget the old worker"),
            _ => failure,
        }
    })
}

/// The absolute path of the program, as systemd-run finds it.
fn program(word: &str) -> Result<String, Failure> {
    let is_program = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    let absolute =
        |path: PathBuf| std::path::absolute(path).ok().and_then(|path| path.into_os_string().into_string().ok());
    if word.contains('/') {
        let path = Path::new(word);
        if !path.exists() {
            return Err(Failure::failed(format!("cannot run {}: no such file", escaped(word))));
        }
        if !is_program(path) {
            return Err(Failure::failed(format!("cannot run {}: it is not executable", escaped(word))));
        }
        return absolute(path.to_owned()).ok_or_else(|| Failure::failed("the program's path is not UTF-8"));
    }
    let search = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found = env::split_paths(&search).map(|dir| dir.join(word)).find(|path| !word.is_empty() && is_program(path));
    found.and_then(absolute).ok_or_else(|| {
        Failure::failed(format!("cannot run {}: it is not in $PATH", escaped(word)))
            .with_hint("give the path of the program")
    })
}

/// Names and values as in a unit file; `--property` comes last.
fn unit_properties(given: &Run) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut properties: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, value: String| properties.entry(name.to_owned()).or_default().push(value);
    let directory = match &given.working_directory {
        Some(directory) => Some(directory.clone()),
        None if given.same_dir => Some(current_directory()?),
        None => None,
    };
    let own = [
        ("Description", given.description.clone()),
        ("Slice", given.slice.clone()),
        ("User", given.uid.clone()),
        ("Group", given.gid.clone()),
        ("Nice", given.nice.map(|nice| nice.to_string())),
        ("WorkingDirectory", directory),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            add(name, value);
        }
    }
    for variable in &given.setenv {
        add("Environment", quoted(&assignment(variable)?));
    }
    for (name, value) in &given.property {
        add(name, value.clone());
    }
    Ok(properties)
}

fn current_directory() -> Result<String, Failure> {
    let directory = env::current_dir().map_err(|error| Failure::failed(format!("no current directory: {error}")))?;
    directory.into_os_string().into_string().map_err(|_| Failure::failed("the current directory is not UTF-8"))
}

/// `NAME=VALUE`; a name alone stands for the caller's own variable.
fn assignment(text: &str) -> Result<String, Failure> {
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    match env::var(text) {
        Ok(value) => Ok(format!("{text}={value}")),
        Err(_) => Err(Failure::usage(format!("--setenv={}: there is no such variable here", escaped(text)))),
    }
}

/// One word of a unit file, whatever is in it; see "Quoting" in systemd.syntax(7).
fn quoted(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '\n' => word.push_str("\\n"),
            '\t' => word.push_str("\\t"),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

fn plan(argv: &[String], properties: &BTreeMap<String, Vec<String>>, given: &Run) -> String {
    let mut text = format!("would run {}\n", argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    for (name, values) in properties {
        values.iter().for_each(|value| text.push_str(&format!("{name}={value}\n")));
    }
    for (key, value) in given.policy.pairs() {
        text.push_str(&format!("{key} = {value}\n"));
    }
    escaped_plan(&text)
}

fn escaped_plan(text: &str) -> String {
    crate::ctl::out::escape::escaped_lines(text).into_owned()
}

/// The life of one worker as its signals tell it.
struct Following<'a> {
    session: &'a Session,
    link: &'a Link,
    path: String,
    unit: String,
    known: Object,
}

impl Following<'_> {
    async fn watch(&mut self, events: &mut Events) -> Outcome {
        self.known = properties(self.link, &self.path, "org.watcherd1.Worker").await?;
        loop {
            if let Some(status) = self.end() {
                return Ok(status);
            }
            match events.next().await {
                Some(News::Changed { path, interface, properties })
                    if path == self.path && interface == "org.watcherd1.Worker" =>
                {
                    self.known.extend(properties);
                }
                Some(News::IncidentOpened { id, worker, cause }) if worker == self.unit => {
                    self.tell(&format!("incident {id}: {cause}"));
                }
                Some(News::IncidentUpdated { id, worker, state }) if worker == self.unit => {
                    self.tell(&format!("incident {id}: {state}"));
                }
                Some(News::Removed { path }) if path == self.path => {
                    return Err(Failure::failed(format!("{}: it is no worker any more", escaped(&self.unit))));
                }
                Some(News::Left) => self.tell("watcherd is gone; waiting for it"),
                Some(News::Returned) => {
                    // The objects exist before the name is taken.
                    self.known = properties(self.link, &self.path, "org.watcherd1.Worker").await?;
                }
                Some(_) => {}
                None => return Err(Failure::failed("the connection to the bus is lost")),
            }
        }
    }

    /// The exit status, once the worker has come to an end by itself or by a decision.
    fn end(&self) -> Option<u8> {
        let worker = Worker::read(&self.known);
        match Phase::parse(&worker.phase)? {
            Phase::Completed => Some(exit::OK),
            Phase::Quarantined => {
                self.tell(&format!("quarantined: {}", worker.phase_reason));
                self.session.note(&format!("hint: watcherctl why {}", escaped(&self.unit)));
                Some(exit::FAILED)
            }
            Phase::Inactive | Phase::Failed if !worker.intended_up => {
                self.tell(&format!("stopped: {}", worker.phase_reason));
                Some(exit::FAILED)
            }
            _ => None,
        }
    }

    fn tell(&self, text: &str) {
        self.session.note(&format!("{}: {}", escaped(&self.unit), escaped(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::args::{CommandLine, Verb};
    use clap::Parser;

    fn run(words: &[&str]) -> Run {
        let line = CommandLine::try_parse_from(["watcherctl", "run"].iter().chain(words)).expect("valid");
        let Some(Verb::Run(run)) = line.verb else { panic!("not run") };
        run
    }

    #[test]
    fn options_become_unit_properties() {
        let given = run(&[
            "--uid=alice",
            "--nice=-5",
            "--working-directory",
            "/srv",
            "-E",
            "A=1 2",
            "-E",
            "B=x",
            "-p",
            "MemoryMax=1G",
            "--",
            "true",
        ]);
        let properties = unit_properties(&given).expect("valid");
        let shown: Vec<String> =
            properties.iter().map(|(name, values)| format!("{name}={}", values.join("|"))).collect();
        assert_eq!(
            shown,
            ["Environment=\"A=1 2\"|B=x", "MemoryMax=1G", "Nice=-5", "User=alice", "WorkingDirectory=/srv"]
        );
    }

    #[test]
    fn words_survive_the_unit_file() {
        assert_eq!(quoted("A=b"), "A=b");
        assert_eq!(quoted("A=b c"), "\"A=b c\"");
        assert_eq!(quoted("A=\"\\\n"), "\"A=\\\"\\\\\\n\"");
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn programs_are_found_as_the_shell_finds_them() {
        assert!(program("sh").expect("there is a shell").ends_with("/sh"));
        assert_eq!(program("no-such-program").expect_err("there is none").status, exit::FAILED);
        assert!(program("/etc/passwd").expect_err("no program").text.contains("not executable"));
        assert!(program("/no/such").expect_err("no file").text.contains("no such file"));
    }

    #[test]
    fn a_variable_that_is_not_there_is_a_usage_error() {
        assert_eq!(assignment("WATCHERCTL_NO_SUCH_VARIABLE").expect_err("not set").status, exit::USAGE);
    }
}
