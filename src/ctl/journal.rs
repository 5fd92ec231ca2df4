// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal of a worker, read by journalctl: it knows who may see what, and every output form.

use super::args::Global;
use super::failure::Failure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// Lines around the end of a run whose process is unknown are looked for in these seconds before and after it.
const BEFORE_SECONDS: u64 = 2;
const AFTER_SECONDS: u64 = 120;
/// So many processes are looked for.
const PIDS_MAX: usize = 64;

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

/// The processes of the unit whose lines journald could not tie to any run: it looks up a process when it reads the line,
/// and may find it gone. Times are seconds since 1970.
fn unattributed(unit: &str, since: u64, until: u64, options: &Global) -> BTreeSet<u32> {
    let Ok(mut command) = command(&[unit.to_owned()], options) else { return BTreeSet::new() };
    command.args(["--no-pager", "--quiet", "--output=json", "--output-fields=_PID,_SYSTEMD_INVOCATION_ID"]);
    command.args([&format!("--since=@{since}"), &format!("--until=@{until}"), "--lines=10000", "_TRANSPORT=stdout"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let pid = |line: &[u8]| {
        let entry: Value = serde_json::from_slice(line).ok()?;
        let is_known = entry.get("_SYSTEMD_INVOCATION_ID").is_some();
        entry["_PID"].as_str()?.parse().ok().filter(|_| !is_known)
    };
    output.split(|byte| *byte == b'\n').filter_map(pid).take(PIDS_MAX).collect()
}

/// The last lines of a run that failed, with those of its processes that were written just before their end. `failed` and
/// `next`, when the next run was started, are microseconds since 1970; the latter is 0 if that is not known.
pub fn last_lines_of_failed(unit: &str, run: &str, (failed, next): (u64, u64), lines: u32, options: &Global) -> String {
    let failed = failed / 1_000_000;
    let until = if next == 0 { failed + AFTER_SECONDS } else { next / 1_000_000 + 1 };
    let pids = unattributed(unit, failed.saturating_sub(BEFORE_SECONDS), until, options);
    let option = if options.user { "_SYSTEMD_USER_UNIT" } else { "_SYSTEMD_UNIT" };
    let more = pids.iter().flat_map(|pid| ["+".to_owned(), format!("_PID={pid}"), format!("{option}={unit}")]);
    read_last(unit, of_run(run).into_iter().chain(more), lines, options)
}

/// The last lines of a run, or of the unit if there is none; empty if they may not be seen.
pub fn last_lines(unit: &str, run: &str, lines: u32, options: &Global) -> String {
    read_last(unit, if run.is_empty() { Vec::new() } else { of_run(run) }, lines, options)
}

fn read_last(unit: &str, matches: impl IntoIterator<Item = String>, lines: u32, options: &Global) -> String {
    if lines == 0 {
        return String::new();
    }
    let Ok(mut command) = command(&[unit.to_owned()], options) else { return String::new() };
    command.args(["--no-pager", "--quiet", &format!("--lines={lines}")]);
    if options.output.is_none() {
        command.arg("--output=short");
    }
    command.args(matches);
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
