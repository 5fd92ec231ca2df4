// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `watcherctl top` shows and what its keys mean; neither terminal nor daemon is touched here.

use super::model::{Everything, Object, Worker};
use super::names;
use super::out::colour::Colour;
use crate::engine::event::Verb;
use crate::engine::view::Phase;
use serde_json::Value;

/// The whole state of the view.
#[derive(Debug, Default)]
pub struct Screen {
    everything: Everything,
    /// What is shown, in its order.
    pub rows: Vec<Worker>,
    /// Names and globs from the command line.
    patterns: Vec<String>,
    /// What was typed to narrow the view.
    pub filter: String,
    pub order: Order,
    selected: Option<String>,
    pub dialog: Dialog,
    /// The end of the last deed.
    pub message: String,
    /// The daemon is gone; what is shown is what it said last.
    pub alone: bool,
    /// Rows of workers that fit; set by whoever draws.
    pub page: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What somebody should look at comes first.
    #[default]
    Attention,
    Name,
    /// What is done first comes first.
    Left,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dialog {
    #[default]
    None,
    Confirm(Deed, String),
    /// The filter is being typed.
    Filter,
    /// A text to scroll through.
    Text {
        lines: Vec<String>,
        from: usize,
    },
}

/// What can be done to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Change(Verb),
    Hold,
    /// The holds that end.
    Release(Vec<u32>),
}

/// A key, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
}

/// What a key asks for beyond the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
    Do(Deed, String),
    Why(String),
    Status(String),
}

pub const HELP: &[&str] = &[
    "Up, Down, PgUp, PgDn, Home, End    choose a worker",
    "Enter    show it in detail, with its last journal lines",
    "w        why it failed",
    "r        restart it",
    "p        pause it, or let it go on",
    "h        hold it: watcherd keeps its hands off; or end its holds",
    "/        show only workers whose name contains a text",
    "o        order: what needs attention, by name, by the time left",
    "q        quit",
];

impl Deed {
    /// `Restart train.service?`, without the name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Deed::Change(verb) => verb.as_str(),
            Deed::Hold => "hold",
            Deed::Release(_) => "release",
        }
    }
}

impl Order {
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Attention => "attention",
            Order::Name => "name",
            Order::Left => "time left",
        }
    }

    fn next(self) -> Order {
        match self {
            Order::Attention => Order::Name,
            Order::Name => Order::Left,
            Order::Left => Order::Attention,
        }
    }
}

impl Screen {
    pub fn new(patterns: &[String]) -> Screen {
        Screen { patterns: patterns.to_vec(), page: 1, ..Screen::default() }
    }

    /// The daemon's whole answer.
    pub fn fill(&mut self, everything: Everything) {
        self.everything = everything;
        self.alone = false;
        self.arrange();
    }

    /// Some properties of one worker.
    pub fn change(&mut self, unit: &str, properties: Object) {
        let of = |object: &&mut Object| object.get("Unit").and_then(Value::as_str) == Some(unit);
        if let Some(object) = self.everything.workers.iter_mut().find(of) {
            object.extend(properties);
            self.arrange();
        }
    }

    pub fn everything(&self) -> &Everything {
        &self.everything
    }

    /// The row that is chosen.
    pub fn selected(&self) -> usize {
        let unit = self.selected.as_deref();
        self.rows.iter().position(|worker| Some(worker.unit.as_str()) == unit).unwrap_or(0)
    }

    fn unit(&self) -> Option<String> {
        self.rows.get(self.selected()).map(|worker| worker.unit.clone())
    }

    fn select(&mut self, row: usize) {
        let row = row.min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(row).map(|worker| worker.unit.clone());
    }

    fn arrange(&mut self) {
        // Nobody chose a worker yet: the first row stays the chosen one.
        let row = self.selected();
        let chosen = self.selected.is_some();
        let mut rows: Vec<Worker> = self.everything.workers.iter().map(Worker::read).collect();
        let wanted = |worker: &Worker| {
            let named = !names::select(std::iter::once(worker.unit.as_str()), &self.patterns).is_empty();
            named && worker.unit.contains(&self.filter)
        };
        rows.retain(wanted);
        match self.order {
            Order::Attention => rows.sort_by_key(|worker| (rank(worker), worker.unit.clone())),
            Order::Name => rows.sort_by(|a, b| a.unit.cmp(&b.unit)),
            Order::Left => rows.sort_by_key(|worker| (worker.eta_usec == 0, worker.eta_usec, worker.unit.clone())),
        }
        let gone = self.selected.as_ref().is_some_and(|unit| !rows.iter().any(|worker| worker.unit == *unit));
        self.rows = rows;
        if chosen && gone {
            self.select(row);
        }
    }

    pub fn key(&mut self, key: Key) -> Wish {
        self.message.clear();
        match &mut self.dialog {
            Dialog::None => self.key_on_list(key),
            Dialog::Confirm(deed, unit) => {
                let wish = Wish::Do(deed.clone(), unit.clone());
                self.dialog = Dialog::None;
                if matches!(key, Key::Char('y' | 'Y')) { wish } else { Wish::Nothing }
            }
            Dialog::Filter => {
                match key {
                    Key::Char(c) => self.filter.push(c),
                    Key::Backspace => drop(self.filter.pop()),
                    Key::Escape => {
                        self.filter.clear();
                        self.dialog = Dialog::None;
                    }
                    _ => self.dialog = Dialog::None,
                }
                self.arrange();
                Wish::Nothing
            }
            Dialog::Text { lines, from } => {
                let last = lines.len().saturating_sub(self.page);
                *from = match key {
                    Key::Up | Key::Char('k') => from.saturating_sub(1),
                    Key::Down | Key::Char('j') => *from + 1,
                    Key::PageUp => from.saturating_sub(self.page),
                    Key::PageDown | Key::Char(' ') => *from + self.page,
                    Key::Home => 0,
                    Key::End => last,
                    _ => {
                        self.dialog = Dialog::None;
                        return Wish::Nothing;
                    }
                }
                .min(last);
                Wish::Nothing
            }
        }
    }

    fn key_on_list(&mut self, key: Key) -> Wish {
        let row = self.selected();
        match key {
            Key::Up | Key::Char('k') => self.select(row.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(row + 1),
            Key::PageUp => self.select(row.saturating_sub(self.page)),
            Key::PageDown => self.select(row + self.page),
            Key::Home => self.select(0),
            Key::End => self.select(usize::MAX),
            Key::Char('q') => return Wish::Quit,
            Key::Escape if self.filter.is_empty() => return Wish::Quit,
            Key::Escape => {
                self.filter.clear();
                self.arrange();
            }
            Key::Char('/') => self.dialog = Dialog::Filter,
            Key::Char('?') => self.show(HELP.join("\n").as_str()),
            Key::Char('o') => {
                self.order = self.order.next();
                self.arrange();
            }
            Key::Enter => return self.unit().map_or(Wish::Nothing, Wish::Status),
            Key::Char('w') => return self.unit().map_or(Wish::Nothing, Wish::Why),
            Key::Char('r') => self.confirm(Deed::Change(Verb::Restart)),
            Key::Char('p') => {
                let phase = self.rows.get(row).and_then(|worker| Phase::parse(&worker.phase));
                let paused = phase == Some(Phase::Paused);
                self.confirm(Deed::Change(if paused { Verb::Resume } else { Verb::Pause }));
            }
            Key::Char('h') => {
                let Some(unit) = self.unit() else { return Wish::Nothing };
                let holds: Vec<u32> = self.everything.holds_of(&unit).map(|hold| hold.0).collect();
                self.confirm(if holds.is_empty() { Deed::Hold } else { Deed::Release(holds) });
            }
            _ => {}
        }
        Wish::Nothing
    }

    fn confirm(&mut self, deed: Deed) {
        if let Some(unit) = self.unit() {
            self.dialog = Dialog::Confirm(deed, unit);
        }
    }

    /// Shows a text over the list.
    pub fn show(&mut self, text: &str) {
        self.dialog = Dialog::Text { lines: text.lines().map(str::to_owned).collect(), from: 0 };
    }
}

fn rank(worker: &Worker) -> u8 {
    match Colour::of_phase(&worker.phase) {
        Colour::Bad => 0,
        Colour::Changing => 1,
        Colour::Good if !worker.warnings.is_empty() => 2,
        Colour::Quiet => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(unit: &str, phase: &str, left: u64) -> Object {
        let Value::Object(object) = json!({"Unit": unit, "Phase": phase, "EtaUSec": left}) else { unreachable!() };
        object
    }

    fn screen() -> Screen {
        let workers =
            vec![object("a.service", "working", 9), object("b.service", "failed", 0), object("c.service", "paused", 5)];
        let mut screen = Screen::new(&[]);
        screen.page = 2;
        screen.fill(Everything { workers, ..Everything::default() });
        screen
    }

    fn names(screen: &Screen) -> Vec<&str> {
        screen.rows.iter().map(|worker| worker.unit.split_once('.').expect("a suffix").0).collect()
    }

    #[test]
    fn what_needs_attention_comes_first_and_the_choice_stays_with_its_worker() {
        let mut screen = screen();
        assert_eq!(names(&screen), ["b", "c", "a"]);
        screen.key(Key::End);
        assert_eq!(screen.selected(), 2);
        screen.key(Key::Char('o'));
        assert_eq!((names(&screen), screen.selected()), (vec!["a", "b", "c"], 0));
        screen.key(Key::Char('o'));
        assert_eq!((names(&screen), screen.selected()), (vec!["c", "a", "b"], 1));
        screen.change("a.service", object("a.service", "stalled", 1));
        assert_eq!((names(&screen), screen.selected()), (vec!["a", "c", "b"], 0));
        screen.fill(Everything { workers: vec![object("b.service", "failed", 0)], ..Everything::default() });
        assert_eq!((names(&screen), screen.selected()), (vec!["b"], 0));
    }

    #[test]
    fn nothing_is_done_without_a_yes() {
        let mut screen = screen();
        for (key, deed) in [('r', Deed::Change(Verb::Restart)), ('p', Deed::Change(Verb::Pause)), ('h', Deed::Hold)] {
            assert_eq!(screen.key(Key::Char(key)), Wish::Nothing);
            assert_eq!(screen.dialog, Dialog::Confirm(deed.clone(), "b.service".into()));
            assert_eq!(screen.key(Key::Enter), Wish::Nothing);
            screen.key(Key::Char(key));
            assert_eq!(screen.key(Key::Char('y')), Wish::Do(deed, "b.service".into()));
        }
        screen.key(Key::Down);
        screen.key(Key::Char('p'));
        assert_eq!(screen.dialog, Dialog::Confirm(Deed::Change(Verb::Resume), "c.service".into()));
    }

    #[test]
    fn a_filter_narrows_the_view_and_escape_widens_it_again() {
        let mut screen = screen();
        for key in [Key::Char('/'), Key::Char('a'), Key::Char('.'), Key::Char('x')] {
            screen.key(key);
        }
        assert_eq!(names(&screen), [""; 0]);
        assert_eq!(screen.key(Key::Char('r')), Wish::Nothing);
        screen.key(Key::Backspace);
        screen.key(Key::Backspace);
        screen.key(Key::Enter);
        assert_eq!(names(&screen), ["a"]);
        assert_eq!(screen.key(Key::Escape), Wish::Nothing);
        assert_eq!(names(&screen).len(), 3);
        assert_eq!(screen.key(Key::Escape), Wish::Quit);
        // Without any worker no key does anything.
        let mut empty = Screen::new(&["none".into()]);
        for key in "rphwkj".chars().map(Key::Char).chain([Key::Enter, Key::End]) {
            assert_eq!(empty.key(key), Wish::Nothing);
        }
    }

    #[test]
    fn texts_scroll_no_further_than_their_end() {
        let mut screen = screen();
        screen.show("1\n2\n3\n4\n5");
        let from = |screen: &Screen| if let Dialog::Text { from, .. } = screen.dialog { Some(from) } else { None };
        for (key, expected) in [(Key::Down, 1), (Key::PageDown, 3), (Key::Down, 3), (Key::Home, 0), (Key::End, 3)] {
            screen.key(key);
            assert_eq!(from(&screen), Some(expected));
        }
        screen.key(Key::Char('q'));
        assert_eq!(screen.dialog, Dialog::None);
    }
}
