// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line, defined once: parser, help, man page and completions come from here.

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

/// Asks watcherd about its workers, and tells it what to do
///
/// A worker is a systemd service that watcherd keeps alive. Workers are named as units are; ".service" may be left out, and
/// globs such as 'train@*' stand for all workers that match. Without a verb the workers are listed.
#[derive(Parser, Debug)]
#[command(name = "watcherctl", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Options that every verb takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Talk to the system's watcherd (the default)
    #[arg(long, global = true, conflicts_with = "user")]
    pub system: bool,
    /// Talk to the watcherd of the calling user
    #[arg(long, global = true)]
    pub user: bool,
    /// Talk to the watcherd of another host, over ssh
    #[arg(short = 'H', long, global = true, value_name = "[USER@]HOST[:PORT]", conflicts_with_all = ["machine", "address"])]
    #[arg(value_hint = ValueHint::Hostname)]
    pub host: Option<String>,
    /// Talk to the watcherd of a local container
    #[arg(short = 'M', long, global = true, value_name = "CONTAINER", conflicts_with = "address")]
    pub machine: Option<String>,
    /// Use the bus at this D-Bus address
    #[arg(long, global = true, value_name = "ADDRESS", hide = true)]
    pub address: Option<String>,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Do not send long output through a pager
    #[arg(long, global = true)]
    pub no_pager: bool,
    /// Print no headings, footers and hints
    #[arg(long, global = true)]
    pub no_legend: bool,
    /// Show at most so many rows, or so many journal lines
    #[arg(short = 'n', long, global = true, value_name = "N")]
    pub lines: Option<u32>,
    /// Print in another form: "name" for list and incidents, a form of journalctl(1) for logs and status
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Print JSON
    #[arg(long, global = true, value_name = "FORM", num_args = 0..=1, default_missing_value = "pretty", require_equals = true)]
    pub json: Option<JsonForm>,
    /// Print JSON: pretty on a terminal, else short
    #[arg(short = 'j', global = true, conflicts_with = "json")]
    pub j: bool,
    /// Check and say what would be done, but change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Never ask for a password
    #[arg(long, global = true)]
    pub no_ask_password: bool,
    /// Follow what was started to its end
    #[arg(long, global = true, conflicts_with = "no_block")]
    pub wait: bool,
    /// Do not wait until what was asked for is done
    #[arg(long, global = true)]
    pub no_block: bool,
    /// Why; written to the journal and shown to others
    #[arg(long, global = true, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonForm {
    /// One line
    Short,
    /// Indented
    Pretty,
    /// No JSON
    Off,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List workers with their phase, progress and cause
    List(Patterns),
    /// Show workers in detail, with their last journal lines; exit status 3 if one is not healthy
    Status(Patterns),
    /// Print a worker's properties as KEY=VALUE
    Show(Show),
    /// Explain the last failure of a worker, or an incident by its number
    Why(Why),
    /// Run a command as a supervised unit
    Run(Run),
    /// Supervise units that exist already
    Adopt(Adopt),
    /// End the supervision of adopted or run workers; the units are left alone
    Forget(Workers),
    /// Start workers
    Start(Workers),
    /// Stop workers; they stay down until they are started
    Stop(Workers),
    /// Restart workers
    Restart(Workers),
    /// Make workers stand still without ending them
    Pause(Workers),
    /// Let paused workers go on
    Resume(Workers),
    /// Keep watcherd's hands off workers, until released, or while a command runs
    Hold(Hold),
    /// End holds
    Release(Release),
    /// Forget failed attempts and end a quarantine, or give changed parameters back
    Reset(Reset),
    /// Change parameters of a worker, for its next start
    Set(Set),
    /// Take workers out of service until they are reset
    Quarantine(Workers),
    /// Report progress, from inside a worker
    Beat(Beat),
    /// List incidents, newest first
    Incidents(Incidents),
    /// Show incidents in full
    Incident(Incident),
    /// List a worker's checkpoints; exit status 3 if the newest cannot be used or is too old
    Checkpoints(Checkpoints),
    /// Try whether notices arrive, or show what became of them
    Notify(Notify),
    /// Show a worker's journal
    Logs(Logs),
    /// Print every change as it happens, one line each
    Monitor(Patterns),
    /// Show all workers live on the whole terminal; keys restart, pause, hold and explain
    Top(Patterns),
    /// Say why something ended by its log alone; works without watcherd
    Diagnose(Diagnose),
    /// Check configuration files; exit status 78 if there are errors
    Check(Check),
    /// Show what another policy would have decided about what was recorded; exit status 1 if that differs
    Replay(Replay),
    /// Show the configuration
    Config(Config),
    /// Read the configuration anew and say what changes
    Reload,
    /// Print names for completion
    #[command(hide = true)]
    Names(Names),
    /// Print a completion script
    #[command(hide = true)]
    Completions(Completions),
    /// Write the man page into a directory
    #[command(hide = true)]
    Man(Man),
}

#[derive(Args, Clone, Debug, Default)]
pub struct Patterns {
    /// Names or globs of workers; all if none is given
    #[arg(value_name = "WORKER")]
    pub patterns: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Workers {
    /// Names or globs of workers
    #[arg(value_name = "WORKER", required = true)]
    pub workers: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Reset {
    /// Names or globs of workers
    #[arg(value_name = "WORKER", required = true)]
    pub workers: Vec<String>,
    /// Give every changed parameter back to the unit; attempts and quarantine stay as they are
    #[arg(long)]
    pub parameters: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Set {
    /// Name of a worker
    #[arg(value_name = "WORKER")]
    pub worker: String,
    /// A parameter that the policy declares, and its value; nothing behind the sign gives it back to the unit
    #[arg(value_name = "NAME=VALUE", required = true)]
    pub parameters: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Checkpoints {
    /// Name or glob of workers
    #[arg(value_name = "WORKER")]
    pub worker: String,
    /// Look into the files even where the policy says off, and run its command, if it has one
    #[arg(long)]
    pub verify: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Show {
    /// Names or globs of workers; the manager's properties if none is given
    #[arg(value_name = "WORKER")]
    pub workers: Vec<String>,
    /// Print only these properties
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub property: Vec<String>,
    /// Print the values without their names
    #[arg(long)]
    pub value: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Why {
    /// Workers, or numbers of incidents
    #[arg(value_name = "WORKER|INCIDENT", required = true)]
    pub subjects: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Run {
    /// The worker's name; chosen if none is given
    #[arg(long, value_name = "NAME", alias = "unit")]
    pub name: Option<String>,
    /// A unit property as in a unit file; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub property: Vec<(String, String)>,
    /// An environment variable; without a value, the caller's own
    #[arg(short = 'E', long, value_name = "NAME[=VALUE]")]
    pub setenv: Vec<String>,
    /// The working directory
    #[arg(long, value_name = "DIR", conflicts_with = "same_dir", value_hint = ValueHint::DirPath)]
    pub working_directory: Option<String>,
    /// Run in the current directory
    #[arg(short = 'd', long)]
    pub same_dir: bool,
    /// The user that it runs as
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    pub uid: Option<String>,
    /// The group that it runs as
    #[arg(long, value_name = "GROUP")]
    pub gid: Option<String>,
    /// The unit's description
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// The slice that it runs in; watcherd.slice if none is given
    #[arg(long, value_name = "SLICE")]
    pub slice: Option<String>,
    /// The nice level
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    pub nice: Option<i8>,
    #[command(flatten)]
    pub policy: PolicyOptions,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<String>,
}

/// A worker's own policy, as in the files below workers.d.
#[derive(Args, Clone, Debug, Default)]
pub struct PolicyOptions {
    /// A policy key such as restart.budget; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub policy: Vec<(String, String)>,
    /// First and longest pause before a restart, such as 1s..5min
    #[arg(long, value_name = "FIRST..CAP")]
    pub back_off: Option<String>,
    /// Attempts per time, such as 5/1h
    #[arg(long, value_name = "N/TIME")]
    pub budget: Option<String>,
    /// Healthy for so long: the attempts are forgotten
    #[arg(long, value_name = "TIME")]
    pub reset_after: Option<String>,
    /// Running for so long after a restart: the incident is closed
    #[arg(long, value_name = "TIME")]
    pub verify: Option<String>,
    /// From SIGTERM to SIGKILL
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    /// What a clean exit means: complete or restart
    #[arg(long, value_name = "WORD")]
    pub after_success: Option<String>,
    /// What happens when the budget is spent: quarantine or stop
    #[arg(long, value_name = "WORD")]
    pub on_exhausted: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Adopt {
    /// Units to supervise
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,
    #[command(flatten)]
    pub policy: PolicyOptions,
}

#[derive(Args, Clone, Debug)]
pub struct Hold {
    /// Names or globs of workers
    #[arg(value_name = "WORKER", required = true)]
    pub workers: Vec<String>,
    /// When the hold ends: 18:00, 2h, "2026-11-23 18:00", tomorrow
    #[arg(long, value_name = "TIME", conflicts_with = "command")]
    pub until: Option<String>,
    /// Hold while this command runs
    #[arg(value_name = "COMMAND", last = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Release {
    /// Numbers of holds, or workers whose holds all end
    #[arg(value_name = "HOLD|WORKER", required = true)]
    pub holds: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Beat {
    /// How far the worker is; without it this is a sign of life only
    #[arg(value_name = "COUNT")]
    pub count: Option<u64>,
    /// The count at which the work is done
    #[arg(long, value_name = "N")]
    pub total: Option<u64>,
    /// What the work is about at the moment; the same again and again is no progress
    #[arg(long, value_name = "TEXT")]
    pub cursor: Option<String>,
    /// Which part of its work the worker is in, such as train or evaluate; each has a pace of its own
    #[arg(long, value_name = "TEXT")]
    pub stage: Option<String>,
    /// A number for rules and for people, such as pending=7; may be given several times
    #[arg(long = "value", value_name = "NAME=N", value_parser = pair)]
    pub values: Vec<(String, String)>,
}

#[derive(Args, Clone, Debug, Default)]
pub struct Incidents {
    /// Only those of workers with this name or glob
    #[arg(long, value_name = "WORKER")]
    pub worker: Option<String>,
    /// Only those with this cause
    #[arg(long, value_name = "CAUSE")]
    pub cause: Option<String>,
    /// Only those opened since then: 2h, today, "2026-11-23 18:00"
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only those opened before
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only open ones
    #[arg(long)]
    pub open: bool,
    /// Count them by cause, worker and week, with how often they came again and how long the workers were down
    #[arg(long)]
    pub stats: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Incident {
    /// Numbers of incidents
    #[arg(value_name = "INCIDENT", required = true)]
    pub ids: Vec<u32>,
    /// Show the journal of the failed run too, and what was saved about a stalled worker before it was stopped
    #[arg(long)]
    pub evidence: bool,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Notify {
    /// Send a notice the way that all notices go, and wait until it was sent
    #[arg(long)]
    pub test: bool,
    /// Show what waits to be sent, and what became of the notices of the last day
    #[arg(long)]
    pub list: bool,
    /// Send the notice on the standard input; for watcherd's own units
    #[arg(long, hide = true)]
    pub deliver: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// Names or globs of workers
    #[arg(value_name = "WORKER", required_unless_present = "incident")]
    pub workers: Vec<String>,
    /// Show new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only the run that failed in this incident
    #[arg(long, value_name = "INCIDENT", conflicts_with = "workers")]
    pub incident: Option<u32>,
    /// Only lines from then on: 2h, today, "2026-11-23 18:00"
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

#[derive(Args, Clone, Debug, Default)]
pub struct Diagnose {
    /// The log; "-" or nothing is the standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Judge a run of this unit by the journal: the last one that failed
    #[arg(long, value_name = "UNIT")]
    #[arg(conflicts_with_all = ["file", "result", "exit_code", "signal", "kernel", "last_n_lines", "batch"])]
    pub unit: Option<String>,
    /// This run of the unit: its invocation ID, or at least eight digits that begin it
    #[arg(long, value_name = "RUN", requires = "unit")]
    pub run: Option<String>,
    /// systemd's result, such as exit-code, signal or oom-kill
    #[arg(long, value_name = "RESULT")]
    pub result: Option<String>,
    /// The exit status of the main process
    #[arg(long, value_name = "N", conflicts_with = "signal")]
    pub exit_code: Option<i32>,
    /// The signal that ended the main process, by name or number
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Kernel lines of the same time
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kernel: Option<PathBuf>,
    /// Read only so many lines from the end of the log
    #[arg(long, value_name = "N")]
    pub last_n_lines: Option<u32>,
    /// Judge cases, one JSON object a line, and print one verdict a line; "-" is the standard input
    #[arg(long, value_name = "CASES", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["file", "result", "exit_code", "signal", "kernel", "last_n_lines"])]
    pub batch: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct Check {
    /// Files or directories; everything that the daemon reads if none is given
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Read the configuration below this directory
    #[arg(long, value_name = "DIR", default_value = "/", value_hint = ValueHint::DirPath)]
    pub root: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct Replay {
    /// What "watcherd --record" or the setting manager.record has written; "-" for the standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Decide by the configuration in this directory, which has workers.d in it or is the root of a file system; by the
    /// recorded one if it is not given
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub policy: Option<PathBuf>,
    /// Show only decisions that differ
    #[arg(long)]
    pub changes: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Config {
    #[command(subcommand)]
    pub verb: ConfigVerb,
    /// Read the configuration below this directory
    #[arg(long, global = true, value_name = "DIR", default_value = "/", value_hint = ValueHint::DirPath)]
    pub root: PathBuf,
}

#[derive(Subcommand, Clone, Debug)]
pub enum ConfigVerb {
    /// Print the files that count, in the order in which they are read
    Cat,
    /// Print the values in force, each with the line that set it
    Show,
}

#[derive(Args, Clone, Debug)]
pub struct Names {
    #[arg(value_name = "KIND")]
    pub kind: NameKind,
}

/// What can be named; an argument says so by the name of its value.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    Workers,
    Incidents,
}

#[derive(Args, Clone, Debug)]
pub struct Completions {
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Args, Clone, Debug)]
pub struct Man {
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
}

impl PolicyOptions {
    /// All keys and values; what has an option of its own comes last.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let own = [
            ("restart.back-off", &self.back_off),
            ("restart.budget", &self.budget),
            ("restart.reset-after", &self.reset_after),
            ("restart.verify", &self.verify),
            ("restart.grace", &self.grace),
            ("worker.after-success", &self.after_success),
            ("restart.on-exhausted", &self.on_exhausted),
        ];
        let given = self.policy.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        given.chain(own.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)))).collect()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        let parsed = CommandLine::try_parse_from(["watcherctl", "run", "--name", "a", "sh", "-c", "x", "--wait"]);
        let parsed = parsed.expect("valid");
        let Some(Verb::Run(run)) = parsed.verb else { panic!("not run") };
        assert_eq!(run.command, ["sh", "-c", "x", "--wait"]);
        assert!(!parsed.global.wait);
    }

    #[test]
    fn global_options_may_stand_behind_the_verb() {
        let parsed = CommandLine::try_parse_from(["watcherctl", "list", "a*", "--json=short", "-n", "3", "--user"]);
        let parsed = parsed.expect("valid");
        assert_eq!(parsed.global.json, Some(JsonForm::Short));
        assert_eq!(parsed.global.lines, Some(3));
        assert!(parsed.global.user);
        assert!(CommandLine::try_parse_from(["watcherctl", "hold", "a", "--", "sleep", "1"]).is_ok());
        assert!(CommandLine::try_parse_from(["watcherctl", "stop"]).is_err());
        assert!(CommandLine::try_parse_from(["watcherctl", "--system", "--user"]).is_err());
    }

    #[test]
    fn an_option_of_its_own_wins_over_the_same_key() {
        let options = PolicyOptions {
            policy: vec![("restart.budget".into(), "1/1h".into())],
            budget: Some("2/1h".into()),
            ..PolicyOptions::default()
        };
        assert_eq!(options.pairs(), [("restart.budget", "1/1h"), ("restart.budget", "2/1h")]);
    }
}
