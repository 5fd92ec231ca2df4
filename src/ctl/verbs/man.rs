// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes watcherctl(1): verbs and options from the one definition, the rest from here.

use crate::ctl::args::{CommandLine, Man};
use crate::ctl::failure::{Failure, Outcome, exit};
use clap::{Arg, Command, CommandFactory};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use std::fs;

const DESCRIPTION: &[&str] = &[
    "watcherctl asks watcherd about its workers and tells it what to do. A worker is a systemd service that watcherd keeps \
     alive: it knows what killed it, whether another try can help, and whether the cure worked.",
    "Workers are named as units are. \".service\" may be left out, and globs such as 'train@*' stand for all workers that \
     match. Without a verb the workers are listed.",
    "Verbs that change something need the rights that polkit gives to the actions org.watcherd1.*; a password is asked for \
     on the terminal if that helps.",
];

const STATUSES: &[(&str, &str)] = &[
    ("0", "Everything was done."),
    ("1", "Something failed; a message says what. replay: other decisions than the recorded ones."),
    ("2", "The command line is wrong. replay: the recording cannot be read."),
    ("3", "status: a worker is not healthy."),
    ("4", "There is no such worker."),
    ("5", "watcherd is not running."),
    ("77", "The caller is not authorised."),
    ("78", "The configuration has errors."),
];

const VARIABLES: &[(&str, &str)] = &[
    ("SYSTEMD_COLORS", "Whether to use colours, above all else."),
    ("NO_COLOR", "No colours, if it is set and not empty."),
    ("SYSTEMD_PAGER, PAGER", "The pager for long output; empty or cat for none."),
    ("SYSTEMD_LESS", "Options for less."),
    ("COLUMNS", "The width of the terminal."),
    ("TZ", "The time zone of times that are printed and read."),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "watcherctl run --name train --budget 5/1h --same-dir -- python3 train.py",
        "Runs a training that is restarted when it fails, at most five times in an hour.",
    ),
    ("watcherctl why train", "Says why it failed, what proves it, and what happens next."),
    (
        "watcherctl hold 'train@*' --reason backup -- rsync -a /srv/ /backup/",
        "Keeps watcherd's hands off all trainings while rsync runs.",
    ),
    ("watcherctl hold train --until 18:00", "The same until six o'clock; prints the number for release."),
    ("watcherctl status --json=short | jq '.[].Phase'", "What scripts read."),
    ("watcherctl incidents --since yesterday --cause disk-full", "Every full disk since yesterday."),
    ("journalctl -u train -b | watcherctl diagnose", "Says why it failed, by its log alone."),
    (
        "watcherctl replay /var/lib/watcherd/recordings/watcherd-001795442707-0001.scn --policy ./new --changes",
        "Says what the configuration in ./new/workers.d would have decided otherwise about what was recorded.",
    ),
    ("watcherctl check && systemctl reload watcherd", "Puts a changed configuration in force."),
];

pub fn perform(given: &Man) -> Outcome {
    let failure = |error| Failure::failed(format!("cannot write into {}: {error}", given.directory.display()));
    fs::create_dir_all(&given.directory).map_err(failure)?;
    fs::write(given.directory.join("watcherctl.1"), page()).map_err(failure)?;
    Ok(exit::OK)
}

fn page() -> String {
    let mut command = CommandLine::command();
    command.build();
    let version = format!("watcherd {}", env!("CARGO_PKG_VERSION"));
    let mut roff = Roff::new();
    roff.control("TH", ["watcherctl", "1", "", version.as_str(), "watcherd"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("watcherctl - asks watcherd about its workers, and tells it what to do")]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("watcherctl"), roman(" [OPTIONS...] [VERB] [WORKER...]")]);
    roff.control("SH", ["DESCRIPTION"]);
    for (at, paragraph) in DESCRIPTION.iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
    roff.control("SH", ["VERBS"]);
    verbs(&mut roff, &command, "");
    roff.control("SH", ["OPTIONS"]);
    for option in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        argument(&mut roff, option);
    }
    roff.control("SH", ["EXIT STATUS"]);
    items(&mut roff, STATUSES);
    roff.text([roman("hold with a command, and run --wait when it is interrupted, end as a shell counts it.")]);
    roff.control("SH", ["ENVIRONMENT"]);
    items(&mut roff, VARIABLES);
    roff.control("SH", ["EXAMPLES"]);
    items(&mut roff, EXAMPLES);
    roff.control("SH", ["SEE ALSO"]);
    let others = "watcherd(8), watcherd.toml(5), watcherd-worker(5), watcherd.rules(5), org.watcherd1(5), systemctl(1), systemd-run(1), \
                  journalctl(1)";
    roff.text([roman(others)]);
    roff.to_roff()
}

fn verbs(roff: &mut Roff, command: &Command, prefix: &str) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("{prefix}{}", verb.get_name());
        roff.control("TP", []);
        let mut heading = vec![bold(name.clone())];
        heading.extend(positionals(verb));
        roff.text(heading);
        roff.text([roman(sentence(&verb.get_about().map(ToString::to_string).unwrap_or_default()))]);
        // Global options are in a section of their own.
        let own: Vec<&Arg> =
            verb.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_global_set() && !is_help(arg)).collect();
        if !own.is_empty() {
            roff.control("RS", []);
            own.into_iter().for_each(|arg| argument(roff, arg));
            roff.control("RE", []);
        }
        verbs(roff, verb, &format!("{name} "));
    }
}

fn is_help(arg: &Arg) -> bool {
    arg.get_id() == "help"
}

fn positionals(verb: &Command) -> Vec<Inline> {
    let mut words = Vec::new();
    for arg in verb.get_positionals() {
        let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        let many = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
        let name = format!("{name}{}", if many { "..." } else { "" });
        let dashes = if arg.is_last_set() { "-- " } else { "" };
        let shown = if arg.is_required_set() { format!(" {dashes}{name}") } else { format!(" [{dashes}{name}]") };
        words.push(italic(shown));
    }
    words
}

fn argument(roff: &mut Roff, arg: &Arg) {
    roff.control("TP", []);
    let names: Vec<&str> = arg.get_value_names().into_iter().flatten().map(|name| name.as_str()).collect();
    let value = if arg.get_action().takes_values() { names.join(" ") } else { String::new() };
    let mut heading = Vec::new();
    if let Some(short) = arg.get_short() {
        heading.push(bold(format!("-{short}")));
    }
    if let Some(long) = arg.get_long() {
        if !heading.is_empty() {
            heading.push(roman(", "));
        }
        heading.push(bold(format!("--{long}")));
    }
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match (value.as_str(), arg.is_positional()) {
        ("", _) => {}
        (value, true) => heading.push(italic(value.to_owned())),
        (value, false) if optional => heading.push(roman(format!("[={value}]"))),
        (value, false) => heading.extend([roman("="), italic(value.to_owned())]),
    }
    roff.text(heading);
    let choices: Vec<String> = match arg.get_action().takes_values() {
        true => arg.get_possible_values().iter().map(|choice| choice.get_name().to_owned()).collect(),
        false => Vec::new(),
    };
    let mut help = sentence(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    if !choices.is_empty() {
        help = format!("{help} One of {}.", choices.join(", "));
    }
    roff.text([roman(help)]);
}

fn items(roff: &mut Roff, rows: &[(&str, &str)]) {
    for (label, text) in rows {
        roff.control("TP", []);
        roff.text([bold(*label)]);
        roff.text([roman(*text)]);
    }
    roff.control("PP", []);
}

fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_every_long_option_is_in_the_page() {
        let page = page().replace("\\-", "-");
        let mut command = CommandLine::command();
        command.build();
        let mut commands = vec![&command];
        while let Some(command) = commands.pop() {
            assert!(page.contains(command.get_name()), "{}", command.get_name());
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = arg.get_long() {
                    assert!(page.contains(&format!("--{long}")), "{} --{long}", command.get_name());
                }
            }
            commands.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()));
        }
    }
}
