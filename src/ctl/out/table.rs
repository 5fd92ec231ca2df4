// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables that never wrap: what does not fit into the terminal is cut, what goes into a pipe is whole.

use super::Look;
use super::colour::Colour;
use super::escape::escaped;
use std::fmt::Write;

/// One table; rows have as many cells as there are headings.
#[derive(Debug)]
pub struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    colour: Colour,
    right: bool,
}

impl Cell {
    /// An empty text becomes `-`, so that columns can be counted.
    pub fn new(text: &str) -> Cell {
        let text = if text.is_empty() { "-".into() } else { escaped(text) };
        Cell { text: text.into_owned(), colour: Colour::Plain, right: false }
    }

    #[must_use]
    pub fn colour(self, colour: Colour) -> Cell {
        Cell { colour, ..self }
    }

    #[must_use]
    pub fn right(self) -> Cell {
        Cell { right: true, ..self }
    }
}

impl Table {
    pub fn new(headings: &'static [&'static str]) -> Table {
        Table { headings, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    pub fn render(&self, look: &Look) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            return text;
        }
        let widths = self.widths(look.legend);
        if look.legend {
            let right = |at: usize| self.rows.iter().all(|row| row[at].right);
            let heading = |(at, heading): (usize, &&str)| Cell {
                text: (*heading).to_owned(),
                colour: Colour::Heading,
                right: right(at),
            };
            let cells: Vec<Cell> = self.headings.iter().enumerate().map(heading).collect();
            line(&mut text, &cells, &widths, look);
        }
        for row in &self.rows {
            line(&mut text, row, &widths, look);
        }
        text
    }

    fn widths(&self, with_headings: bool) -> Vec<usize> {
        let column = |(at, heading): (usize, &&str)| {
            let heading = if with_headings { heading.len() } else { 0 };
            self.rows.iter().map(|row| width(&row[at].text)).max().unwrap_or(0).max(heading)
        };
        self.headings.iter().enumerate().map(column).collect()
    }
}

fn line(text: &mut String, cells: &[Cell], widths: &[usize], look: &Look) {
    let mut room = look.width.unwrap_or(usize::MAX);
    let last = cells.len().saturating_sub(1);
    for (at, (cell, wide)) in cells.iter().zip(widths).enumerate() {
        if at > 0 {
            if room <= 1 {
                break;
            }
            text.push(' ');
            room -= 1;
        }
        let shown = cut(&cell.text, room);
        let shown_width = width(&shown);
        let pad = wide.saturating_sub(shown_width).min(room - shown_width);
        let (before, after) = if cell.right { (pad, 0) } else { (0, pad) };
        let after = if at == last { 0 } else { after };
        write!(text, "{:before$}{}{:after$}", "", cell.colour.paint(&shown, look.colour), "")
            .expect("a String takes everything");
        room -= shown_width + pad;
    }
    let end = text.trim_end_matches(' ').len();
    text.truncate(end);
    text.push('\n');
}

/// Columns that a text takes. Wide characters are not considered: unit names and watcherd's words have none.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// The beginning of a text, with `…` at its end if it is not the whole.
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    match room {
        0 => String::new(),
        room => text.chars().take(room - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::look;
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["UNIT", "N", "REASON"]);
        table.row(vec![Cell::new("a.service"), Cell::new("7").right(), Cell::new("it ended with\nexit status 1")]);
        table.row(vec![Cell::new("longer.service"), Cell::new("12").right(), Cell::new("")]);
        table
    }

    #[test]
    fn columns_line_up_and_line_ends_stay_inside() {
        let whole = "UNIT            N REASON\n\
                     a.service       7 it ended with\\nexit status 1\n\
                     longer.service 12 -\n";
        assert_eq!(table().render(&look()), whole);
        assert_eq!(Table::new(&["A"]).render(&look()), "");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 1..60 {
            let text = table().render(&Look { width: Some(columns), ..look() });
            assert!(text.lines().all(|line| width(line) <= columns), "{columns}: {text}");
        }
        let text = table().render(&Look { width: Some(24), ..look() });
        assert_eq!(text.lines().nth(1), Some("a.service       7 it en…"));
    }
}
