// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lines of logs say about the end of a run. Rules are data: TOML files, those of the package and those of the
//! admin, compiled into one matcher.
//!
//! Lines go in one by one, or in blocks; at the end a bounded list of clues comes out, which the engine judges. Any
//! bytes are fine, however long a line is. Nothing here reads files or decides about a cause.

pub mod file;
mod line;
mod long;
mod matcher;
mod needle;
mod packaged;
mod reader;
mod rule;
mod sieve;
mod sign;

#[cfg(test)]
mod tests;

pub use file::{Examples, Fault, RuleFile};
pub use packaged::PACKAGED;
pub use reader::{LINE_MAX, Reader};
pub use rule::Rule;
pub use sign::Signs;

use crate::engine::cause::Cause;
use crate::engine::classify::Verdict;
use crate::engine::event::RunEnd;
use crate::engine::evidence::{Clues, Evidence, Source};
use crate::engine::judge::judge;
use crate::engine::time::Wall;
use matcher::Matcher;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Most rules that are in force at once.
pub const RULES_MAX: usize = 10_000;

/// All rules in force, compiled.
pub struct Rules {
    list: Vec<Rule>,
    matcher: Matcher,
    /// For each rule, the rules of which it needs one.
    needs: Vec<Vec<usize>>,
    /// For each rule, the rules that it must not stand beside.
    unless: Vec<Vec<usize>>,
    /// So many lines before and after a line may matter for what it tells.
    near: usize,
}

impl Rules {
    /// The rules of the package alone.
    pub fn packaged() -> Arc<Rules> {
        let files = PACKAGED.iter().map(|(name, text)| RuleFile::parse(name, text, Examples::Skip));
        Rules::new(files.flat_map(|file| file.rules).collect())
    }

    /// Joins rules; of equal names the last one counts.
    pub fn new(rules: Vec<Rule>) -> Arc<Rules> {
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut list: Vec<Rule> = Vec::new();
        for rule in rules {
            match places.get(&rule.name) {
                Some(at) => list[*at] = rule,
                None if list.len() < RULES_MAX => {
                    places.insert(rule.name.clone(), list.len());
                    list.push(rule);
                }
                None => {}
            }
        }
        let matcher = Matcher::new(&list);
        let numbers = |names: &[String]| names.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
        let needs = list.iter().map(|rule| numbers(&rule.needs)).collect();
        let unless = list.iter().map(|rule| numbers(&rule.unless)).collect();
        // What excuses a line may stand beside a rule that excludes it, and that one may need another.
        let near = list.iter().map(|rule| rule.within).max().unwrap_or(0).saturating_mul(3);
        let near = usize::try_from(near).unwrap_or(usize::MAX);
        Arc::new(Rules { list, matcher, needs, unless, near })
    }

    pub fn list(&self) -> &[Rule] {
        &self.list
    }

    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.list.iter().find(|rule| *rule.name == *name)
    }

    /// The clues in what was found about one run.
    pub fn read(self: &Arc<Rules>, evidence: &Evidence) -> Clues {
        let mut reader = Reader::new(self.clone());
        for item in &evidence.items {
            reader.line(Some(item.source), item.at, item.pid, item.text.as_bytes());
        }
        let mut clues = reader.finish();
        clues.suppressed = evidence.suppressed;
        clues
    }

    /// What the rules advise that recognise one of a verdict's lines and say the same cause; of several the first one.
    ///
    /// The lines are those of [`Verdict::because`], each with its source in front.
    pub fn advice(self: &Arc<Rules>, cause: Cause, because: &[String]) -> Option<&str> {
        let mut reader = Reader::new(self.clone());
        for line in because {
            let told = line.split_once(": ").and_then(|(source, text)| Some((Source::parse(source)?, text)));
            if let Some((source, text)) = told {
                reader.line(Some(source), Wall::NEVER, 0, text.as_bytes());
            }
        }
        self.advice_of(cause, &reader.finish())
    }

    /// What the rules advise that gave these clues and say this cause; of several the first one.
    pub fn advice_of(&self, cause: Cause, clues: &Clues) -> Option<&str> {
        let same = clues.list.iter().filter(|clue| clue.cause == cause);
        same.filter_map(|clue| self.rule(&clue.rule)).map(|rule| rule.advice.as_str()).find(|advice| !advice.is_empty())
    }

    /// Why a run ended, by systemd's facts and everything else that was found.
    pub fn verdict(self: &Arc<Rules>, end: &RunEnd, evidence: &Evidence) -> Verdict {
        judge(end, &self.read(evidence))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("rules", &self.list.len()).finish_non_exhaustive()
    }
}
