// SPDX-License-Identifier: MIT OR Apache-2.0
//! The literal texts of a pattern: every line that matches contains at least one of them.
//!
//! They are what makes many patterns cheap: a line without any of them needs no pattern at all.

use super::sieve::SHORTEST;
use regex_syntax::ast::{Ast, ClassBracketed, ClassSet, ClassSetItem, RepetitionKind, RepetitionRange};

/// Literals are cut to this length; more would find no fewer lines.
const LONGEST: usize = 24;
/// The most literals for one pattern.
const MOST: usize = 256;

type Set = Vec<Vec<u8>>;

/// The literals of a pattern, in lower case; `None` if it can match without a text of [`SHORTEST`] bytes.
///
/// What is case-insensitive in the pattern does not matter, as nothing beyond ASCII is: patterns know no Unicode.
pub fn needles(pattern: &Ast) -> Option<Set> {
    let mut set = required(pattern)?;
    set.iter_mut().for_each(|needle| needle.truncate(LONGEST));
    set.sort();
    set.dedup();
    Some(set)
}

/// The best set of literals of which each match contains one.
fn required(pattern: &Ast) -> Option<Set> {
    match pattern {
        Ast::Group(group) => required(&group.ast),
        Ast::Repetition(repetition) if least(&repetition.op.kind) > 0 => required(&repetition.ast),
        Ast::Alternation(alternation) => {
            let mut all = Vec::new();
            for branch in &alternation.asts {
                all.extend(required(branch)?);
            }
            usable(all)
        }
        Ast::Concat(concat) => in_sequence(&concat.asts),
        Ast::Literal(_) => usable(exact(pattern)?),
        _ => None,
    }
}

fn in_sequence(parts: &[Ast]) -> Option<Set> {
    let mut best = Best::default();
    let mut run: Set = vec![Vec::new()];
    for part in parts {
        if letter(&mut run, part) {
            continue;
        }
        let texts = exact(part);
        match texts.as_ref().and_then(|texts| product(&run, texts)) {
            Some(longer) => run = longer,
            None => {
                best.offer(usable(std::mem::take(&mut run)));
                run = texts.unwrap_or_else(|| {
                    best.offer(required(part));
                    vec![Vec::new()]
                });
            }
        }
    }
    best.offer(usable(run));
    best.set
}

#[derive(Default)]
struct Best {
    set: Option<Set>,
    /// Of the set, if another one was offered.
    worth: Option<(usize, usize)>,
}

impl Best {
    /// Takes a set that is worth more than the one before.
    fn offer(&mut self, set: Option<Set>) {
        let Some(set) = set else { return };
        let Some(best) = &self.set else {
            self.set = Some(set);
            return;
        };
        let (new, old) = (worth(&set), self.worth.unwrap_or_else(|| worth(best)));
        self.worth = Some(new.max(old));
        if new > old {
            self.set = Some(set);
        }
    }
}

const ONCE: RepetitionKind = RepetitionKind::Range(RepetitionRange::Exactly(1));

/// All texts that the pattern matches, in lower case, if they are few.
fn exact(pattern: &Ast) -> Option<Set> {
    match pattern {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => Some(vec![Vec::new()]),
        Ast::Literal(_) => {
            let mut one = vec![Vec::new()];
            letter(&mut one, pattern).then_some(one)
        }
        Ast::ClassBracketed(class) => few(class),
        Ast::Group(group) => exact(&group.ast),
        Ast::Repetition(repetition) if matches!(repetition.op.kind, RepetitionKind::ZeroOrOne) => {
            let mut set = exact(&repetition.ast)?;
            set.push(Vec::new());
            Some(set)
        }
        Ast::Repetition(repetition) if repetition.op.kind == ONCE => exact(&repetition.ast),
        Ast::Concat(concat) => {
            let mut run = vec![Vec::new()];
            for part in &concat.asts {
                if !letter(&mut run, part) {
                    run = product(&run, &exact(part)?)?;
                }
            }
            Some(run)
        }
        Ast::Alternation(alternation) => {
            let mut all = Vec::new();
            for branch in &alternation.asts {
                all.extend(exact(branch)?);
            }
            (all.len() <= MOST).then_some(all)
        }
        _ => None,
    }
}

/// Appends a letter to each text, if that is what the pattern is, or nothing, where it matches no letter. Beyond ASCII one that is written as a number is none:
/// it may mean a byte or a character.
fn letter(run: &mut Set, pattern: &Ast) -> bool {
    let literal = match pattern {
        Ast::Literal(literal) => literal,
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => return true,
        _ => return false,
    };
    if !literal.c.is_ascii() && literal.byte().is_some() {
        return false;
    }
    let mut bytes = [0; 4];
    let bytes = literal.c.to_ascii_lowercase().encode_utf8(&mut bytes).as_bytes();
    run.iter_mut().for_each(|text| text.extend_from_slice(bytes));
    true
}

/// The bytes of a class, if they are few and its own.
fn few(class: &ClassBracketed) -> Option<Set> {
    const FEW: usize = 4;
    let ClassSet::Item(item) = &class.kind else { return None };
    let items = match item {
        _ if class.negated => return None,
        ClassSetItem::Union(union) => &union.items,
        one => std::slice::from_ref(one),
    };
    let mut set: Vec<u8> = Vec::new();
    for item in items {
        let (first, last) = match item {
            ClassSetItem::Literal(literal) => (literal.c, literal.c),
            ClassSetItem::Range(range) => (range.start.c, range.end.c),
            _ => return None,
        };
        for letter in (first..=last).take(2 * FEW + 1) {
            let byte = u8::try_from(letter).ok().filter(u8::is_ascii)?.to_ascii_lowercase();
            if !set.contains(&byte) {
                set.push(byte);
            }
        }
        if set.len() > FEW {
            return None;
        }
    }
    Some(set.into_iter().map(|byte| vec![byte]).collect())
}

fn least(kind: &RepetitionKind) -> u32 {
    match kind {
        RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore => 0,
        RepetitionKind::OneOrMore => 1,
        RepetitionKind::Range(
            RepetitionRange::Exactly(least) | RepetitionRange::AtLeast(least) | RepetitionRange::Bounded(least, _),
        ) => *least,
    }
}

fn product(left: &[Vec<u8>], right: &[Vec<u8>]) -> Option<Set> {
    const MOST_PRODUCTS: usize = 128;
    if right.is_empty() || left.len().saturating_mul(right.len()) > MOST_PRODUCTS {
        return None;
    }
    Some(left.iter().flat_map(|one| right.iter().map(move |other| [one.as_slice(), other].concat())).collect())
}

fn usable(set: Set) -> Option<Set> {
    let fine = !set.is_empty() && set.len() <= MOST && set.iter().all(|needle| needle.len() >= SHORTEST);
    fine.then_some(set)
}

/// Words that stand in the lines of every day; a pattern with something rarer in it is not looked for by them.
const COMMON: [&[u8]; 25] = [
    b"loss",
    b"http",
    b"worker",
    b"step",
    b"epoch",
    b"error",
    b"fail",
    b"info",
    b"warn",
    b"file",
    b"time",
    b"memory",
    b"process",
    b"connect",
    b"request",
    b"limit",
    b"rate",
    b"server",
    b"client",
    b"service",
    b"task",
    b"train",
    b"status",
    b"code",
    b"grad_norm",
];

/// Longer literals are rarer; beyond a dozen bytes fewer literals are better than longer ones. A common word counts as
/// one letter, and a number as little more than two: they are everywhere.
fn worth(set: &[Vec<u8>]) -> (usize, usize) {
    const NUMBER: usize = 5;
    let rare = |needle: &Vec<u8>| {
        if needle.iter().all(|byte| !byte.is_ascii_alphabetic()) {
            return NUMBER;
        }
        let common = COMMON.iter().filter(|word| needle.windows(word.len()).any(|part| part == **word));
        2 * needle.len().saturating_sub(common.map(|word| word.len() - 1).max().unwrap_or(0)).max(1)
    };
    let shortest = set.iter().map(rare).min().unwrap_or(0);
    (shortest.min(2 * 12), MOST.saturating_sub(set.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::Dice;
    use regex::bytes::RegexBuilder;
    use regex_syntax::ast::parse::Parser;

    fn of(pattern: &str) -> Option<Vec<String>> {
        let ast = Parser::new().parse(pattern).expect(pattern);
        Some(needles(&ast)?.into_iter().map(|needle| String::from_utf8_lossy(&needle).into_owned()).collect())
    }

    #[test]
    fn every_match_contains_one_of_them() {
        let cases: &[(&str, &[&str])] = &[
            ("CUDA out of memory", &["cuda out of memory"]),
            ("(?i)Killed process", &["killed process"]),
            (r"\w+(?:Error|Exception): ", &["error: ", "exception: "]),
            (r"(?:exit )?code \d+ was returned", &[" was returned"]),
            (r"^\s*Killed$", &["killed"]),
            (r"ab+cde", &["cde"]),
            (r"foo[12]bar", &["foo1bar", "foo2bar"]),
            (r"(?:abc|def)+x", &["abc", "def"]),
            (r"(?i)x[Aa]Cb{2,}", &["xac"]),
            (r"foo[^x]\xe9barn\xe9?", &["barn"]),
            ("überfüllt", &["überfüllt"]),
            (r"(?x) a b c \# d", &["abc#d"]),
            ("磁盘已满|满", &["满", "磁盘已满"]),
            ("ab{1}c", &["abc"]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(of(pattern).expect(pattern), *expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_without_a_text_of_its_own_has_none() {
        for pattern in [r"\d+", "ab", ".*", r"\xe9\xe9\xe9", "[^a]bc", "(?:abc){0,2}", "(?:abc)?", "abc|x", "[a-z]+"] {
            assert_eq!(of(pattern), None, "{pattern}");
        }
    }

    /// A pattern, with a text that it matches in most cases.
    fn piece(dice: &mut Dice, depth: usize) -> (String, String) {
        let letters = ["a", "b", "Q", ".", " ", "é"];
        let letter = letters[dice.next() % letters.len()];
        if depth == 0 {
            return (if letter == "." { r"\.".to_owned() } else { letter.to_owned() }, letter.to_owned());
        }
        let (one, one_text) = piece(dice, depth - 1);
        let (other, other_text) = piece(dice, depth - 1);
        let first = dice.next().is_multiple_of(2);
        let chosen = |yes: String, no: String| if first { yes } else { no };
        match dice.next() % 14 {
            0 => (format!("(?:{one}|{other})"), chosen(one_text, other_text)),
            1 => (format!("(?:{one})?{other}"), chosen(format!("{one_text}{other_text}"), other_text.clone())),
            2 => (format!("(?:{one})+"), chosen(one_text.clone(), one_text.repeat(3))),
            3 => (format!("(?:{one})*{other}"), chosen(other_text.clone(), format!("{one_text}{other_text}"))),
            4 => (format!("(?:{one}){{2,3}}"), one_text.repeat(2)),
            5 => (format!("(?:{one}){{0,2}}{other}"), other_text),
            6 => (format!("[aQ]{one}"), chosen(format!("Q{one_text}"), format!("a{one_text}"))),
            7 => (format!("[^a]{one}"), format!("z{one_text}")),
            8 => (format!(r"\w{one}"), format!("b{one_text}")),
            9 => (format!("(?i){one}"), one_text.to_ascii_uppercase()),
            10 => (format!("(?i:{one}){other}"), format!("{}{other_text}", one_text.to_ascii_lowercase())),
            11 => (format!(r"^?{one}$?"), one_text),
            12 => (format!(r"\x61(?P<n{}>{one})", dice.next()), format!("a{one_text}")),
            _ => (format!("{one}{other}"), format!("{one_text}{other_text}")),
        }
    }

    #[test]
    fn whatever_matches_contains_one_of_them() {
        let (mut with, mut matched) = (0, 0);
        for seed in 1..=6_000 {
            let mut dice = Dice(seed);
            let (pattern, text) = piece(&mut dice, 4);
            let Ok(regex) = RegexBuilder::new(&pattern).unicode(false).build() else { continue };
            let Some(needles) = of(&pattern) else { continue };
            with += 1;
            let (before, text) = (dice.next() % 3, text.as_bytes());
            for text in [text.to_vec(), [&b"Qab"[..before], text, b"x"].concat()] {
                if regex.is_match(&text) {
                    matched += 1;
                    let found = |needle: &String| {
                        text.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle.as_bytes()))
                    };
                    assert!(needles.iter().any(found), "{pattern} has {needles:?}, none is in {text:?}");
                }
            }
        }
        assert!(with > 1_000 && matched > 1_000, "{with} {matched}");
    }
}
