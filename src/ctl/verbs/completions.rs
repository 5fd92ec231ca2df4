// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints the completion script of a shell.
//!
//! clap makes it from the definition of the command line; what is added here offers workers and incidents, as
//! `watcherctl names` knows them at that moment, wherever the name of a value says WORKER or INCIDENT. With another host
//! or container no names are offered: to ask there may take long, or a password.

use crate::ctl::args::{CommandLine, Completions};
use crate::ctl::failure::{Outcome, exit};
use crate::ctl::session::Session;
use clap::{Arg, Command, CommandFactory};
use clap_complete::{Shell, generate};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Asks for names of the given kinds. `typed` is the line as words.
const BASH_NAMES: &str = r#"
_watcherctl_names() {
    local word scope=--system kind
    for word in "${COMP_WORDS[@]}"; do
        case $word in
            -H*|-M*|--host|--machine) return ;;
            --user) scope=--user ;;
        esac
    done
    for kind in "$@"; do
        watcherctl "$scope" names "$kind" 2>/dev/null
    done
}

_watcherctl_with_names() {
    _watcherctl "$@"
    # bash splits words at characters that are in names of units; these are the words as they were typed.
    local line="${COMP_LINE:0:COMP_POINT}"
    local cur="${line##*[[:space:]]}" verb='' kinds='' word
    local previous="${line%"$cur"}"
    previous="${previous%"${previous##*[![:space:]]}"}"
    previous="${previous##*[[:space:]]}"
    case $cur in
        --*=*) previous="${cur%%=*}" cur="${cur#*=}" ;;
        -*) return ;;
    esac
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            --) return ;;
            @VERBS@) verb="${verb:-$word}" ;;
        esac
    done
    case $verb:$previous in
@CASES@        *) return ;;
    esac
    # Of the words that it splits at such characters bash replaces the last one, to which an @ before it belongs.
    local before="${cur%"${cur##*[$COMP_WORDBREAKS]}"}"
    before="${before%@}"
    COMPREPLY=($(compgen -W "$(_watcherctl_names $kinds)" -- "$cur"))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -F _watcherctl_with_names -o bashdefault -o default watcherctl
"#;

const ZSH_NAMES: &str = r#"
(( $+functions[_watcherctl_names] )) ||
_watcherctl_names() {
    local -a typed scope names
    local kind
    typed=(${(z)BUFFER})
    (( ${typed[(I)-H*]} || ${typed[(I)-M*]} || ${typed[(I)--host*]} || ${typed[(I)--machine*]} )) && return 1
    (( ${typed[(I)--user]} )) && scope=(--user)
    for kind in "$@"; do
        names+=(${(f)"$(watcherctl $scope names $kind 2>/dev/null)"})
    done
    compadd -a names
}
"#;

const FISH_NAMES: &str = r#"
function __watcherctl_names
    set -l typed (commandline -opc)
    string match -qr -- '^(-H|-M|--host|--machine)' $typed; and return
    set -l scope
    contains -- --user $typed; and set scope --user
    for kind in $argv
        watcherctl $scope names $kind 2>/dev/null
    end
end

"#;

pub fn perform(session: &Session, given: &Completions) -> Outcome {
    session.print(&script(given.shell))?;
    Ok(exit::OK)
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    generate(shell, &mut CommandLine::command(), "watcherctl", &mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => text + &bash(),
        Shell::Zsh => zsh(text),
        Shell::Fish => text + &fish(),
        _ => text,
    }
}

/// An argument of a verb that names something that watcherd knows.
struct Place {
    verb: String,
    /// The clap id of a positional argument.
    id: String,
    /// An option's long name.
    option: Option<String>,
    kinds: String,
}

fn places() -> Vec<Place> {
    let command = CommandLine::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    verbs.flat_map(|verb| verb.get_arguments().filter_map(|arg| place(verb, arg))).collect()
}

fn place(verb: &Command, arg: &Arg) -> Option<Place> {
    let value = arg.get_value_names()?.join(" ");
    let kinds = [("WORKER", "workers"), ("INCIDENT", "incidents")];
    let kinds: Vec<_> = kinds.iter().filter(|(name, _)| value.contains(name)).map(|(_, kind)| *kind).collect();
    (!kinds.is_empty()).then(|| Place {
        verb: verb.get_name().to_owned(),
        id: arg.get_id().to_string(),
        option: arg.get_long().map(str::to_owned),
        kinds: kinds.join(" "),
    })
}

fn bash() -> String {
    let mut cases = String::new();
    let (options, words): (Vec<_>, Vec<_>) = places().into_iter().partition(|place| place.option.is_some());
    for place in options.iter().chain(&words) {
        let previous = place.option.as_ref().map_or("*".to_owned(), |option| format!("--{option}"));
        // Writing to a String cannot fail.
        let _ = writeln!(cases, "        {}:{previous}) kinds='{}' ;;", place.verb, place.kinds);
    }
    let verbs: BTreeSet<_> = options.iter().chain(&words).map(|place| place.verb.as_str()).collect();
    let verbs: Vec<_> = verbs.into_iter().collect();
    BASH_NAMES.replace("@CASES@", &cases).replace("@VERBS@", &verbs.join("|"))
}

fn zsh(text: String) -> String {
    let places = places();
    let mut made = String::new();
    for line in text.lines() {
        let asks = |place: &&Place| match &place.option {
            Some(option) => line.contains(&format!("--{option}=[")),
            None => {
                line.starts_with('\'')
                    && line.trim_start_matches(['\'', '*', ':']).starts_with(&format!("{} -- ", place.id))
            }
        };
        match (line.strip_suffix(":_default' \\"), places.iter().find(asks)) {
            (Some(rest), Some(place)) => {
                let _ = writeln!(made, "{rest}:_watcherctl_names {}' \\", place.kinds);
            }
            _ => {
                let _ = writeln!(made, "{line}");
            }
        }
        if line.starts_with("autoload ") {
            made.push_str(ZSH_NAMES);
        }
    }
    made
}

fn fish() -> String {
    let mut text = FISH_NAMES.to_owned();
    for place in places() {
        let option = place.option.map_or(String::new(), |option| format!(" -l {option} -r"));
        let _ = writeln!(
            text,
            "complete -c watcherctl -n \"__fish_watcherctl_using_subcommand {}\"{option} -f -a \"(__watcherctl_names {})\"",
            place.verb, place.kinds
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_verb_is_completed_in_every_shell() {
        let command = CommandLine::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }

    #[test]
    fn names_are_offered_wherever_the_command_line_takes_them() {
        let places = places();
        let offered = |verb: &str| places.iter().find(|place| place.verb == verb).map(|place| place.kinds.as_str());
        assert_eq!(offered("status"), Some("workers"));
        assert_eq!(offered("why"), Some("workers incidents"));
        assert_eq!(offered("incident"), Some("incidents"));
        assert_eq!(offered("run"), None);
        assert_eq!(script(Shell::Zsh).matches(":_watcherctl_names ").count(), places.len());
    }
}
