// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colours, where they are wanted: `$SYSTEMD_COLORS`, then `$NO_COLOR`, then whether it is a terminal.

use crate::engine::view::Phase;

/// The meaning of a piece of text; what it looks like is decided here only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    #[default]
    Plain,
    Bold,
    Good,
    Changing,
    Bad,
    Quiet,
    Heading,
}

impl Colour {
    fn start(self) -> &'static str {
        match self {
            Colour::Plain => "",
            Colour::Bold => "\x1b[0;1m",
            Colour::Good => "\x1b[0;1;32m",
            Colour::Changing => "\x1b[0;1;33m",
            Colour::Bad => "\x1b[0;1;31m",
            Colour::Quiet => "\x1b[0;38;5;245m",
            Colour::Heading => "\x1b[0;4m",
        }
    }

    /// `text` in this colour, if colours are `wanted`.
    pub fn paint(self, text: &str, wanted: bool) -> String {
        if wanted && self != Colour::Plain { format!("{}{text}\x1b[0m", self.start()) } else { text.to_owned() }
    }

    /// A phase that this version does not know has no colour.
    pub fn of_phase(phase: &str) -> Colour {
        match Phase::parse(phase) {
            Some(Phase::Starting | Phase::Warming | Phase::Working | Phase::Idle | Phase::Completed) => Colour::Good,
            Some(Phase::Queued | Phase::Recovering | Phase::Verifying | Phase::Held | Phase::Paused) => {
                Colour::Changing
            }
            Some(Phase::Stalled | Phase::Failed | Phase::Quarantined) => Colour::Bad,
            Some(Phase::Inactive) => Colour::Quiet,
            None => Colour::Plain,
        }
    }
}

/// Whether to use colours; the arguments are the variables' values.
pub fn wanted(systemd_colors: Option<&str>, no_color: Option<&str>, term: Option<&str>, terminal: bool) -> bool {
    match systemd_colors.map(str::to_ascii_lowercase).as_deref() {
        Some("0" | "no" | "n" | "false" | "f" | "off") => return false,
        Some("1" | "yes" | "y" | "true" | "t" | "on" | "16" | "256" | "24bit") => return true,
        _ => {}
    }
    if no_color.is_some_and(|value| !value.is_empty()) {
        return false;
    }
    terminal && term != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_colors_goes_first_then_no_color_then_the_terminal() {
        assert!(wanted(Some("1"), Some("1"), None, false));
        assert!(!wanted(Some("false"), None, None, true));
        assert!(!wanted(None, Some("1"), None, true));
        assert!(wanted(None, Some(""), Some("xterm"), true));
        assert!(!wanted(None, None, Some("dumb"), true));
        assert!(!wanted(None, None, None, false));
        assert!(wanted(Some("nonsense"), None, None, true));
    }
}
