// SPDX-License-Identifier: MIT OR Apache-2.0
//! One call of watcherctl: its options, its terminal, and the way to the daemon.

use super::args::{Global, JsonForm};
use super::connect::Link;
use super::failure::{Failure, Outcome, exit};
use super::out::{Look, colour, json, pager};
use crate::engine::time::Wall;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::{env, fs};

pub struct Session {
    pub options: Global,
    look: Look,
    clock: fn() -> Wall,
    out: RefCell<Box<dyn Write>>,
    err: RefCell<Box<dyn Write>>,
    terminal: bool,
    /// A connection that exists already.
    #[cfg(test)]
    pub connection: Option<zbus::Connection>,
}

impl Session {
    pub fn new(options: Global) -> Session {
        let terminal = io::stdout().is_terminal();
        let variable = |name: &str| env::var(name).ok();
        let (systemd, no_color) = (variable("SYSTEMD_COLORS"), variable("NO_COLOR"));
        let look = Look {
            colour: colour::wanted(systemd.as_deref(), no_color.as_deref(), variable("TERM").as_deref(), terminal),
            width: if terminal { columns(variable("COLUMNS")) } else { None },
            legend: !options.no_legend,
            zone: TimeZone::system(),
            now: now(),
        };
        Session {
            options,
            look,
            clock: now,
            out: RefCell::new(Box::new(io::stdout())),
            err: RefCell::new(Box::new(io::stderr())),
            terminal,
            #[cfg(test)]
            connection: None,
        }
    }

    #[cfg(test)]
    pub fn on(connection: zbus::Connection, options: Global, out: Box<dyn Write>, err: Box<dyn Write>) -> Session {
        let look = Look { legend: !options.no_legend, ..super::out::tests::look() };
        let (out, err) = (RefCell::new(out), RefCell::new(err));
        Session {
            options,
            look,
            clock: || super::out::tests::NOW,
            out,
            err,
            terminal: false,
            connection: Some(connection),
        }
    }

    pub async fn connect(&self) -> Result<Link, Failure> {
        #[cfg(test)]
        if let Some(connection) = &self.connection {
            return Ok(Link::over(connection.clone(), &self.options));
        }
        Link::open(&self.options).await
    }

    /// The form of JSON that is wanted, if any.
    pub fn json(&self) -> Option<JsonForm> {
        match self.options.json {
            Some(JsonForm::Off) => None,
            Some(form) => Some(form),
            None if self.options.j && self.terminal => Some(JsonForm::Pretty),
            None if self.options.j => Some(JsonForm::Short),
            None => None,
        }
    }

    /// Whether a person sees the output and can press keys.
    pub fn has_terminal(&self) -> bool {
        self.terminal && io::stdin().is_terminal()
    }

    /// The look, at this moment.
    pub fn look_now(&self) -> Look {
        Look { now: (self.clock)(), ..self.look.clone() }
    }

    /// Prints at once.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = self.out.borrow_mut();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Prints a list, through a pager if it is longer than the terminal.
    pub fn print_list(&self, text: &str) -> Result<(), Failure> {
        if self.terminal && !self.options.no_pager {
            let fits = rows().is_none_or(|rows| text.lines().count() < rows);
            if !fits && pager::show(text)? {
                return Ok(());
            }
        }
        self.print(text)
    }

    pub fn print_json(&self, value: &Value, form: JsonForm) -> Outcome {
        let text = json::text(value, form);
        if form == JsonForm::Pretty {
            self.print_list(&text)?
        } else {
            self.print(&text)?
        }
        Ok(exit::OK)
    }

    /// Says something beside the output, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            self.say(text);
        }
    }

    pub fn complain(&self, failure: &Failure) {
        if failure.text.is_empty() {
            return;
        }
        self.say(&format!("watcherctl: {}", failure.text));
        let start = || {
            let remote = self.options.host.is_some() || self.options.machine.is_some();
            let user = if self.options.user { "--user " } else { "" };
            (failure.status == exit::NOT_RUNNING && !remote).then(|| format!("systemctl {user}start watcherd"))
        };
        if let Some(hint) =
            failure.hint.clone().or_else(start).filter(|_| !self.options.quiet && !self.options.no_legend)
        {
            self.say(&format!("hint: {hint}"));
        }
    }

    /// Shows on a terminal how far a long input was read; returns the percentage that is shown.
    pub fn progress(&self, done: u64, size: u64, shown: u64) -> u64 {
        const LONG: u64 = 32 << 20;
        if !self.terminal || self.options.quiet || size < LONG {
            return shown;
        }
        let percent = (u128::from(done) * 100 / u128::from(size.max(1))).min(100);
        let percent = u64::try_from(percent).unwrap_or(100);
        if percent > shown {
            let _ = write!(self.err.borrow_mut(), "\rread {percent}%");
        }
        percent
    }

    /// Takes the line of [`Session::progress`] away again.
    pub fn progress_ends(&self, shown: u64) {
        if shown > 0 {
            let _ = write!(self.err.borrow_mut(), "\r         \r");
        }
    }

    fn say(&self, text: &str) {
        // There is nobody left to tell it to.
        let _ = writeln!(self.err.borrow_mut(), "{text}");
    }
}

/// The wall clock; what is printed is relative to it.
fn now() -> Wall {
    Wall(Timestamp::now().as_microsecond())
}

/// Columns of the terminal: `$COLUMNS`, else what stty says.
fn columns(variable: Option<String>) -> Option<usize> {
    variable.and_then(|text| text.parse().ok()).or_else(|| Some(size()?.1)).filter(|columns| *columns > 0)
}

fn rows() -> Option<usize> {
    size().map(|size| size.0).filter(|rows| *rows > 0)
}

/// Rows and columns of the controlling terminal. `stty` asks for us: the ioctl would be `unsafe`.
fn size() -> Option<(usize, usize)> {
    let terminal = fs::File::open("/dev/tty").ok()?;
    let output = std::process::Command::new("stty").arg("size").stdin(terminal).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
