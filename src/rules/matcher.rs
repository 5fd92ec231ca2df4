// SPDX-License-Identifier: MIT OR Apache-2.0
//! All patterns of all rules as one: the literals are looked for in a single pass, and only where one is found the
//! patterns that need it are tried.
//!
//! A pattern is compiled when it is tried first. It runs in linear time, and its size is limited when its file is read.

use super::needle::needles;
use super::rule::Rule;
use super::sieve::{Everyday, Sieve};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::parse::ParserBuilder;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The largest compiled form of a pattern, in bytes.
const SIZE_MAX: usize = 256 << 10;
/// The largest cache of a pattern while it is matched, in bytes.
const CACHE_MAX: usize = 512 << 10;
/// The deepest nesting of a pattern.
const NESTING_MAX: u32 = 50;

pub struct Matcher {
    patterns: Vec<Pattern>,
    all: Index,
    /// Those of telling rules only, for long logs; made when the first one comes.
    telling: OnceLock<Index>,
    everyday: Everyday,
}

pub struct Pattern {
    /// The index of its rule.
    pub rule: usize,
    text: String,
    compiled: OnceLock<Option<Regex>>,
    needles: Vec<Vec<u8>>,
}

/// Some of the patterns by their literals.
pub struct Index {
    sieve: Sieve,
    /// The patterns that need each literal.
    needed_by: Vec<Vec<usize>>,
}

impl Matcher {
    /// Joins the patterns of rules that were checked.
    pub fn new(rules: &[Rule]) -> Matcher {
        let mut patterns = Vec::new();
        let mut everyday = Everyday::new();
        for (at, rule) in rules.iter().enumerate() {
            for text in &rule.patterns {
                let Ok(needles) = literals(text) else { continue };
                patterns.push(Pattern { rule: at, text: text.clone(), compiled: OnceLock::new(), needles });
            }
            let examples = if rule.tells() { &[][..] } else { &rule.examples };
            examples.iter().chain(&rule.counter_examples).for_each(|line| everyday.read(line.as_bytes()));
        }
        let all = Index::new(patterns.iter().enumerate(), &everyday);
        Matcher { patterns, all, telling: OnceLock::new(), everyday }
    }

    /// The patterns of all rules.
    pub fn all(&self) -> &Index {
        &self.all
    }

    /// The patterns of the rules that [tell](Rule::tells).
    pub fn telling(&self, rules: &[Rule]) -> &Index {
        let tells = |(_, pattern): &(usize, &Pattern)| rules[pattern.rule].tells();
        self.telling.get_or_init(|| Index::new(self.patterns.iter().enumerate().filter(tells), &self.everyday))
    }

    pub fn pattern(&self, number: usize) -> &Pattern {
        &self.patterns[number]
    }

    #[cfg(test)]
    pub fn get(&self, number: usize) -> Option<&Pattern> {
        self.patterns.get(number)
    }
}

impl Index {
    fn new<'p>(patterns: impl Iterator<Item = (usize, &'p Pattern)>, everyday: &Everyday) -> Index {
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let (mut literals, mut needed_by): (Vec<Vec<u8>>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        for (number, pattern) in patterns {
            for needle in &pattern.needles {
                let place = *places.entry(needle).or_insert_with(|| {
                    literals.push(needle.clone());
                    needed_by.push(Vec::new());
                    literals.len() - 1
                });
                needed_by[place].push(number);
            }
        }
        Index { sieve: Sieve::new(literals, everyday), needed_by }
    }

    /// The patterns that may match the line, ascending, into `candidates`.
    pub fn candidates(&self, line: &[u8], candidates: &mut Vec<usize>) {
        candidates.clear();
        self.sieve.each(line, |literal| {
            for number in &self.needed_by[literal] {
                if let Err(at) = candidates.binary_search(number) {
                    candidates.insert(at, *number);
                }
            }
        });
    }

    /// A place within the first literal at or after `from`.
    pub fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        self.sieve.first(text, from)
    }
}

impl Pattern {
    /// The compiled form; `None` if it is too large, which the check of its file has told.
    pub fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| compile(&self.text).ok()).as_ref()
    }
}

/// Compiles a pattern, or says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(CACHE_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("the pattern is too large, {} KiB are allowed", SIZE_MAX >> 10),
            regex::Error::Syntax(text) => last_line(&text),
            other => other.to_string(),
        })
}

/// The literals of a pattern, or why there are none.
pub fn literals(pattern: &str) -> Result<Vec<Vec<u8>>, String> {
    let parsed = ParserBuilder::new().nest_limit(NESTING_MAX).build().parse(pattern);
    let ast = parsed.map_err(|error| last_line(&error.to_string()))?;
    needles(&ast).ok_or_else(|| {
        "the pattern can match without any fixed text; at least three letters in a row must always be there".to_owned()
    })
}

/// The parser draws the pattern first and says what is wrong in the last line.
fn last_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or(text).trim();
    format!("not a valid pattern: {}", last.strip_prefix("error: ").unwrap_or(last))
}
