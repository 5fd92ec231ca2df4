// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints the completion script of a shell. In bash the names of workers are completed too.

use crate::ctl::args::{CommandLine, Completions};
use crate::ctl::failure::{Outcome, exit};
use crate::ctl::session::Session;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

/// Wraps the generated function: where it has nothing but options to offer, workers are offered.
const BASH_WORKERS: &str = r#"
_watcherctl_with_workers() {
    _watcherctl "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" word scope=--system
    [[ $cur == -* ]] && return
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            --) return ;;
            --user) scope=--user ;;
        esac
    done
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            list|status|show|why|forget|start|stop|restart|pause|resume|hold|release|reset|quarantine|logs|monitor)
                COMPREPLY=($(compgen -W "$(watcherctl $scope list --no-legend --no-ask-password -o name 2>/dev/null)" -- "$cur"))
                return ;;
        esac
    done
}
complete -F _watcherctl_with_workers -o bashdefault -o default watcherctl
"#;

pub fn perform(session: &Session, given: &Completions) -> Outcome {
    session.print(&script(given.shell))?;
    Ok(exit::OK)
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    generate(shell, &mut CommandLine::command(), "watcherctl", &mut bytes);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if shell == Shell::Bash {
        text.push_str(BASH_WORKERS);
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
}
