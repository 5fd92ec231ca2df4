// SPDX-License-Identifier: MIT OR Apache-2.0
//! A live view of all workers on the whole terminal, over restarts of the daemon too.

use super::hold::who;
use super::{change, status, why};
use crate::ctl::args::Patterns;
use crate::ctl::connect::Link;
use crate::ctl::events::{Events, News, unit_of};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::journal;
use crate::ctl::model::Worker;
use crate::ctl::out::Look;
use crate::ctl::out::{screen as draw, status::block};
use crate::ctl::screen::{Deed, Key, Screen, Wish};
use crate::ctl::session::Session;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, raise};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Changes that come closer together are drawn together.
const FRAME: Duration = Duration::from_millis(50);
/// Times that pass, and what is told by no signal.
const REFRESH: Duration = Duration::from_secs(1);
/// Journal lines in the detailed view.
const LINES: u32 = 10;

pub async fn perform(session: &Session, given: &Patterns) -> Outcome {
    if !session.has_terminal() {
        return Err(Failure::usage("top needs a terminal").with_hint("watcherctl list, or watcherctl monitor"));
    }
    if session.json().is_some() {
        return Err(Failure::usage("top prints no JSON").with_hint("watcherctl monitor --json"));
    }
    let link = session.connect().await?;
    let events = Events::subscribe(&link).await?;
    let mut screen = Screen::new(&given.patterns);
    screen.fill(link.everything().await?);
    let terminal = Terminal::enter()?;
    let mut top = Top { session, link, screen, terminal, keys: Some(EventStream::new()), stale: false };
    top.follow(events).await
}

struct Top<'a> {
    session: &'a Session,
    link: Link,
    screen: Screen,
    terminal: Terminal,
    keys: Option<EventStream>,
    /// Something changed that no signal tells in full.
    stale: bool,
}

impl Top<'_> {
    async fn follow(&mut self, mut events: Events) -> Outcome {
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end = signal(SignalKind::terminate())?;
        let mut drawn = self.draw()?;
        let mut changed = false;
        loop {
            let keys = self.keys.get_or_insert_with(EventStream::new);
            tokio::select! {
                news = events.next() => match news {
                    Some(news) => self.take_in(news),
                    None => return Err(Failure::failed("the connection to the bus is lost")),
                },
                event = keys.next() => match event {
                    Some(Ok(event)) => {
                        if self.perform(&event).await? {
                            return Ok(exit::OK);
                        }
                        drawn = self.draw()?;
                        changed = false;
                        continue;
                    }
                    Some(Err(error)) => return Err(error.into()),
                    // The terminal is closed.
                    None => return Ok(exit::OK),
                },
                _ = refresh.tick() => {
                    if self.stale && !self.screen.alone {
                        self.stale = false;
                        // It may be about to leave; the signal that it has returned brings everything.
                        if let Ok(everything) = self.link.everything().await {
                            self.screen.fill(everything);
                        }
                    }
                }
                () = sleep_until(drawn + FRAME), if changed => {
                    drawn = self.draw()?;
                    changed = false;
                    continue;
                }
                _ = end.recv() => return Ok(exit::OK),
            }
            changed = true;
        }
    }

    fn take_in(&mut self, news: News) {
        match news {
            News::Changed { path, interface, properties } if interface == "org.watcherd1.Worker" => {
                // The rate and the time left go with the progress, but are told by no signal.
                self.stale |= properties.contains_key("ProgressValue") || properties.contains_key("Phase");
                if let Some(unit) = unit_of(&path) {
                    self.screen.change(&unit, properties);
                }
            }
            News::Left => self.screen.alone = true,
            News::Returned => {
                self.screen.alone = false;
                self.stale = true;
            }
            _ => self.stale = true,
        }
    }

    /// Does what a key asks for; returns whether that is the end.
    async fn perform(&mut self, event: &Event) -> Result<bool, Failure> {
        let Event::Key(key) = event else { return Ok(false) };
        if key.kind == KeyEventKind::Release {
            return Ok(false);
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Ok(true),
                KeyCode::Char('z') => self.aside(|| raise(Signal::SIGTSTP).map_err(io::Error::from))?,
                _ => {}
            }
            return Ok(false);
        }
        let Some(key) = meaning(key) else { return Ok(false) };
        match self.screen.key(key) {
            Wish::Nothing => {}
            Wish::Quit => return Ok(true),
            Wish::Do(deed, unit) => self.act(&deed, unit).await?,
            Wish::Why(unit) => {
                let everything = self.screen.everything();
                let asked = why::Asked { session: self.session, link: &self.link, everything, look: self.plain() };
                let text = asked.about(unit).await;
                self.show(text);
            }
            Wish::Status(unit) => {
                let text = self.detail(&unit).await;
                self.show(text);
            }
        }
        Ok(false)
    }

    fn show(&mut self, text: Result<String, Failure>) {
        match text {
            Ok(text) => self.screen.show(&text),
            Err(failure) => self.screen.message = failure.text,
        }
    }

    async fn detail(&self, unit: &str) -> Result<String, Failure> {
        let everything = self.link.everything().await?;
        let worker = status::find(&everything, unit).map(Worker::read).unwrap_or_default();
        let mut facts = status::facts(&self.link, worker, &everything).await?;
        let lines = self.session.options.lines.unwrap_or(LINES);
        facts.journal = journal::last_lines(&facts.worker.unit, &facts.worker.invocation, lines, &self.session.options);
        Ok(block(&facts, &self.plain()))
    }

    async fn act(&mut self, deed: &Deed, unit: String) -> Result<(), Failure> {
        // A password dialog needs the terminal for itself.
        let aside = self.link.may_ask_password();
        if aside {
            self.keys = None;
            self.terminal.leave()?;
        }
        let done = self.ask(deed, &unit).await;
        if aside {
            self.terminal = Terminal::enter()?;
        }
        self.stale = true;
        self.screen.message = match done {
            Ok(()) => format!("{} {unit}: asked for", deed.as_str()),
            Err(error) => Failure::from_bus(&format!("{} {unit}", deed.as_str()), &error).text,
        };
        Ok(())
    }

    async fn ask(&self, deed: &Deed, unit: &str) -> zbus::Result<()> {
        let (units, why) = (vec![unit], self.session.options.reason.as_str());
        match deed {
            Deed::Change(verb) => {
                let body = (units, why, 0u64);
                self.link.ask::<_, Vec<zbus::OwnedObjectPath>>(change::method(*verb), &body).await.map(drop)
            }
            Deed::Hold => self.link.ask::<_, u32>("Hold", &(units, who(), why, 0u64, 0u64)).await.map(drop),
            Deed::Release(holds) => {
                for id in holds {
                    self.link.ask::<_, ()>("Release", &(*id,)).await?;
                }
                Ok(())
            }
        }
    }

    /// Gives the terminal back for a moment.
    fn aside(&mut self, what: impl FnOnce() -> io::Result<()>) -> Result<(), Failure> {
        self.keys = None;
        self.terminal.leave()?;
        what()?;
        self.terminal = Terminal::enter()?;
        Ok(())
    }

    fn look(&self) -> Look {
        let columns = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        Look { width: Some(columns), ..self.session.look_now() }
    }

    /// Texts are cut to the width, which colours would disturb.
    fn plain(&self) -> Look {
        Look { colour: false, ..self.look() }
    }

    fn draw(&mut self) -> Result<Instant, Failure> {
        let rows = terminal::size().map_or(24, |(_, rows)| usize::from(rows));
        self.screen.page = draw::page(rows);
        let lines = draw::lines(&self.screen, &self.look(), rows);
        let mut frame = Vec::new();
        queue!(frame, terminal::BeginSynchronizedUpdate)?;
        for (row, line) in (0u16..).zip(&lines) {
            queue!(frame, cursor::MoveTo(0, row))?;
            frame.extend_from_slice(line.as_bytes());
            queue!(frame, terminal::Clear(terminal::ClearType::UntilNewLine))?;
        }
        queue!(frame, terminal::EndSynchronizedUpdate)?;
        self.session.print(&String::from_utf8_lossy(&frame))?;
        Ok(Instant::now())
    }
}

fn meaning(key: &KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

/// The terminal while it shows one picture; it is given back however this ends.
struct Terminal {
    ours: bool,
}

impl Terminal {
    fn enter() -> io::Result<Terminal> {
        terminal::enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(Terminal { ours: true })
    }

    fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.ours) {
            execute!(io::stdout(), cursor::Show, LeaveAlternateScreen)?;
            terminal::disable_raw_mode()?;
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is no terminal any more, then.
        let _ = self.leave();
    }
}
