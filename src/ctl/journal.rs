// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal of a worker, read by journalctl: it knows who may see what, and every output form.

use super::args::Global;
use super::failure::Failure;
use std::process::{Command, Stdio};

/// A call of journalctl for one or more units.
pub fn command(units: &[String], options: &Global) -> Result<Command, Failure> {
    if options.host.is_some() {
        return Err(Failure::failed("the journal of another host cannot be read from here")
            .with_hint("ssh HOST watcherctl logs WORKER"));
    }
    let mut command = Command::new("journalctl");
    if let Some(machine) = &options.machine {
        command.arg(format!("--machine={machine}"));
    }
    let option = if options.user { "--user-unit" } else { "--unit" };
    command.args(units.iter().map(|unit| format!("{option}={unit}")));
    if options.quiet {
        command.arg("--quiet");
    }
    if let Some(output) = &options.output {
        command.arg(format!("--output={output}"));
    }
    Ok(command)
}

/// The matches for one run: what its processes wrote, what systemd said about it, and what watcherd said about it.
pub fn of_run(run: &str) -> Vec<String> {
    let fields = ["_SYSTEMD_INVOCATION_ID", "INVOCATION_ID", "USER_INVOCATION_ID", "WATCHERD_RUN"];
    let mut words = Vec::new();
    for field in fields {
        if !words.is_empty() {
            words.push("+".to_owned());
        }
        words.push(format!("{field}={run}"));
    }
    words
}

/// The last lines of a run, or of the unit if there is none; empty if they may not be seen.
pub fn last_lines(unit: &str, run: &str, lines: u32, options: &Global) -> String {
    if lines == 0 {
        return String::new();
    }
    let Ok(mut command) = command(&[unit.to_owned()], options) else { return String::new() };
    command.args(["--no-pager", "--quiet", &format!("--lines={lines}")]);
    if options.output.is_none() {
        command.arg("--output=short");
    }
    if !run.is_empty() {
        command.args(of_run(run));
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journalctl_gets_words_and_no_shell() {
        let options = Global { user: true, quiet: true, output: Some("cat".into()), ..Global::default() };
        let command = command(&["a.service".into(), "b.service".into()], &options).expect("local");
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(words, ["--user-unit=a.service", "--user-unit=b.service", "--quiet", "--output=cat"]);
        assert_eq!(
            of_run("ab").join(" "),
            "_SYSTEMD_INVOCATION_ID=ab + INVOCATION_ID=ab + USER_INVOCATION_ID=ab + WATCHERD_RUN=ab"
        );
    }
}
