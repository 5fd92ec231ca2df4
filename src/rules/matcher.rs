// SPDX-License-Identifier: MIT OR Apache-2.0
//! All patterns of all rules as one: the literals are looked for in a single pass, and only where one is found the
//! patterns that need it are tried.
//!
//! A pattern is compiled when it is tried first. It runs in linear time, and its size is limited when its file is read.

use super::needle::needles;
use super::rule::Rule;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use std::sync::OnceLock;

/// The largest compiled form of a pattern, in bytes.
const SIZE_MAX: usize = 256 << 10;
/// The largest cache of a pattern while it is matched, in bytes.
const CACHE_MAX: usize = 512 << 10;
/// The deepest nesting of a pattern.
const NESTING_MAX: u32 = 50;

/// A block of so many bytes is part of a long log.
const LONG: usize = 512 << 10;

pub struct Matcher {
    /// Small, for single lines.
    literals: AhoCorasick,
    keys: Vec<Vec<u8>>,
    /// Large and half as quick again, for long logs; made when the first one comes.
    quick: OnceLock<Option<AhoCorasick>>,
    /// The patterns that need each literal.
    needed_by: Vec<Vec<u32>>,
    patterns: Vec<Pattern>,
}

pub struct Pattern {
    /// The index of its rule.
    pub rule: usize,
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Matcher {
    /// Joins the patterns of rules that were checked; `None` if they are too many for one matcher.
    pub fn new(rules: &[Rule]) -> Option<Matcher> {
        let mut patterns = Vec::new();
        let mut keys: Vec<(Vec<u8>, Vec<u32>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (rule, text) in rules.iter().enumerate().flat_map(|(at, rule)| rule.patterns.iter().map(move |p| (at, p))) {
            let Ok(found) = literals(text) else { continue };
            let id = u32::try_from(patterns.len()).ok()?;
            for literal in found {
                let at = *places.entry(literal.clone()).or_insert_with(|| {
                    keys.push((literal, Vec::new()));
                    keys.len() - 1
                });
                keys[at].1.push(id);
            }
            patterns.push(Pattern { rule, text: text.clone(), compiled: OnceLock::new() });
        }
        let (keys, needed_by): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let literals = join(&keys, AhoCorasickKind::ContiguousNFA)?;
        Some(Matcher { literals, keys, quick: OnceLock::new(), needed_by, patterns })
    }

    /// Where the first literal ends at or after `from`.
    pub fn next_literal(&self, text: &[u8], from: usize) -> Option<usize> {
        let literals = match text.len() {
            LONG.. => self.quick.get_or_init(|| join(&self.keys, AhoCorasickKind::DFA)).as_ref(),
            _ => None,
        };
        literals.unwrap_or(&self.literals).find(aho_corasick::Input::new(text).range(from..)).map(|found| found.end())
    }

    /// The patterns that may match the line, ascending, into `candidates`.
    pub fn candidates(&self, line: &[u8], candidates: &mut Vec<u32>) {
        candidates.clear();
        let literals = self.quick.get().and_then(Option::as_ref).unwrap_or(&self.literals);
        for found in literals.find_overlapping_iter(line) {
            for id in &self.needed_by[found.pattern().as_usize()] {
                if let Err(at) = candidates.binary_search(id) {
                    candidates.insert(at, *id);
                }
            }
        }
    }

    pub fn pattern(&self, id: u32) -> &Pattern {
        &self.patterns[id as usize]
    }
}

fn join(keys: &[Vec<u8>], kind: AhoCorasickKind) -> Option<AhoCorasick> {
    let builder = &mut AhoCorasick::builder();
    builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).kind(Some(kind)).build(keys).ok()
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
    let hir = ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .nest_limit(NESTING_MAX)
        .build()
        .parse(pattern)
        .map_err(|error| last_line(&error.to_string()))?;
    needles(&hir).ok_or_else(|| {
        "the pattern can match without any fixed text; at least three letters in a row must always be there".to_owned()
    })
}

/// The parser draws the pattern first and says what is wrong in the last line.
fn last_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or(text).trim();
    format!("not a valid pattern: {}", last.strip_prefix("error: ").unwrap_or(last))
}
