// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules over named values, as in `active == 0 and pending > 0`.
//!
//! Comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`) of names and numbers, joined by `not`, `and`, `or` and parentheses, in
//! that order of binding. A comparison with a name that has no value is unknown, and so is what depends on it.

use super::policy::Text;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The longest rule, in bytes; with it the depth is bounded, too.
const LENGTH_MAX: usize = 1_000;
/// Parentheses and `not` inside each other.
const DEPTH_MAX: usize = 50;

/// A rule that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    text: Arc<str>,
    term: Term,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Compare(Side, Operator, Side),
    Not(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Name(Arc<str>),
    /// The bits of an `f64`, so that rules can be compared.
    Number(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("<", Operator::Less),
    (">", Operator::More),
];

impl Condition {
    /// Reads a rule; the error says what is wrong in a sentence fragment.
    pub fn parse(text: &str) -> Result<Condition, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("the rule is longer than {LENGTH_MAX} bytes"));
        }
        let mut parser = Parser { rest: words(text)?.into_iter().peekable() };
        let term = parser.any(0)?;
        match parser.rest.next() {
            None => Ok(Condition { text: text.trim().into(), term }),
            Some(word) => Err(format!("\"{word}\" stands where \"and\", \"or\" or the end is expected")),
        }
    }

    /// Whether the rule holds; `None` if that depends on a value that is not known.
    pub fn holds(&self, values: &BTreeMap<Arc<str>, f64>) -> Option<bool> {
        holds(&self.term, values)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Text for Option<Condition> {
    fn text(&self) -> String {
        self.as_ref().map(Condition::to_string).unwrap_or_default()
    }
}

fn holds(term: &Term, values: &BTreeMap<Arc<str>, f64>) -> Option<bool> {
    match term {
        Term::Compare(left, operator, right) => {
            let (left, right) = (value(left, values)?, value(right, values)?);
            Some(match operator {
                Operator::Equal => left == right,
                Operator::Unequal => left != right,
                Operator::Less => left < right,
                Operator::AtMost => left <= right,
                Operator::More => left > right,
                Operator::AtLeast => left >= right,
            })
        }
        Term::Not(inner) => holds(inner, values).map(|truth| !truth),
        Term::And(one, other) => match (holds(one, values), holds(other, values)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (one, other) => Some(one? && other?),
        },
        Term::Or(one, other) => match (holds(one, values), holds(other, values)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (one, other) => Some(one? || other?),
        },
    }
}

fn value(side: &Side, values: &BTreeMap<Arc<str>, f64>) -> Option<f64> {
    match side {
        Side::Number(bits) => Some(f64::from_bits(*bits)),
        Side::Name(name) => values.get(name).copied(),
    }
}

/// Names, numbers, operators and parentheses.
fn words(text: &str) -> Result<Vec<&str>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)).map(|(sign, _)| sign.len()).ok_or_else(
                || match first {
                    '=' => "write == to compare".to_owned(),
                    '&' | '|' | '!' => "write \"and\", \"or\" and \"not\"".to_owned(),
                    other => format!("{other:?} means nothing here"),
                },
            )?,
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_.-/".contains(c)
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Term, String> {
        let mut term = self.all(depth)?;
        while self.rest.next_if_eq(&"or").is_some() {
            term = Term::Or(Box::new(term), Box::new(self.all(depth)?));
        }
        Ok(term)
    }

    fn all(&mut self, depth: usize) -> Result<Term, String> {
        let mut term = self.single(depth)?;
        while self.rest.next_if_eq(&"and").is_some() {
            term = Term::And(Box::new(term), Box::new(self.single(depth)?));
        }
        Ok(term)
    }

    fn single(&mut self, depth: usize) -> Result<Term, String> {
        if depth > DEPTH_MAX {
            return Err("too many parentheses inside each other".into());
        }
        if self.rest.next_if_eq(&"not").is_some() {
            return Ok(Term::Not(Box::new(self.single(depth + 1)?)));
        }
        if self.rest.next_if_eq(&"(").is_some() {
            let term = self.any(depth + 1)?;
            return match self.rest.next() {
                Some(")") => Ok(term),
                _ => Err("a \")\" is missing".into()),
            };
        }
        let left = self.side()?;
        let sign = self.rest.next().ok_or("a comparison ends too early")?;
        let Some((_, operator)) = OPERATORS.iter().find(|(known, _)| *known == sign) else {
            return Err(format!("\"{sign}\" stands where a comparison such as == or > is expected"));
        };
        Ok(Term::Compare(left, *operator, self.side()?))
    }

    fn side(&mut self) -> Result<Side, String> {
        let word = self.rest.next().ok_or("a comparison ends too early")?;
        if let Ok(number) = word.parse::<f64>() {
            return Ok(Side::Number(number.to_bits()));
        }
        let is_name =
            word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !["and", "or", "not"].contains(&word);
        if is_name { Ok(Side::Name(word.into())) } else { Err(format!("\"{word}\" is neither a name nor a number")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<bool> {
        let values = [("active", 0.0), ("pending", 3.0), ("done", 1.5)];
        let values = values.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Condition::parse(text).expect(text).holds(&values)
    }

    #[test]
    fn rules_hold_or_not_or_nobody_knows() {
        let cases = [
            ("active == 0 and pending > 0", Some(true)),
            ("active==0 and pending>=4", Some(false)),
            ("not active == 0 or done < 1.6", Some(true)),
            ("not (active == 0 or done < 1.6)", Some(false)),
            ("active != 0 and pending > 0 or done == 1.5", Some(true)),
            ("foreign == 0", None),
            ("foreign == 0 and pending > 0", None),
            ("foreign == 0 and pending < 0", Some(false)),
            ("foreign == 0 or pending > 0", Some(true)),
            ("pending > active", Some(true)),
            ("done > -1", Some(true)),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_in_words() {
        let cases = [
            ("", "a comparison ends too early"),
            ("active", "a comparison ends too early"),
            ("active = 0", "write == to compare"),
            ("active == 0 && pending > 0", "write \"and\", \"or\" and \"not\""),
            ("(active == 0", "a \")\" is missing"),
            ("active == 0 pending > 0", "\"pending\" stands where \"and\", \"or\" or the end is expected"),
            ("active == and", "\"and\" is neither a name nor a number"),
            ("active $ 0", "'$' means nothing here"),
        ];
        for (text, expected) in cases {
            assert_eq!(Condition::parse(text).expect_err(text), expected, "{text}");
        }
        assert!(Condition::parse(&"(".repeat(900)).is_err());
        assert!(Condition::parse(&"a == 0 or ".repeat(200)).is_err());
    }
}
